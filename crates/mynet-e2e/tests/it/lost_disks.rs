//! A holder whose disk lost its blobs, all of them or one byte, serves through the others at once and holds them itself again
//! after a while.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, hash},
    http::client,
    network::Network,
    wait::until,
};

/// How long the bytes may take to come back: they come when the first peer is up, or with the next try.
const REFILL_MAX: Duration = Duration::from_secs(60);
/// The node that loses its disk.
const VICTIM: usize = 2;

/// A network of four holders, and a group with the bytes of its decrypted state and its preview.
struct Case {
    network: Network,
    group: String,
    data: Vec<u8>,
    preview: Vec<u8>,
    token: String,
}

fn case(seed: u64) -> Case {
    let network = Network::trusted(4, "").unwrap();
    let data = content::wav(seed, 30);
    let path = content::file(network.temp.path(), "song.wav", &data).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--replicas", "4", "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap().to_owned();
    let preview = network.nodes[0].bytes(&["get", &group, "--state", "preview", "-o", "-"]).unwrap();
    network.settled(0, &group).unwrap();
    let token = network.nodes[VICTIM].json(&["token", "create", "--name", "t", "--scope", "read"]).unwrap();
    let token = token["token"].as_str().unwrap().to_owned();
    Case { network, group, data, preview, token }
}

impl Case {
    fn get(&self, state: &str) -> Vec<u8> {
        self.network.nodes[VICTIM].bytes(&["get", &self.group, "--state", state, "-o", "-"]).unwrap()
    }

    /// Waits until the victim reads both states from its own disk, then ends all others and reads everything.
    fn comes_back(&mut self) {
        let victim = &self.network.nodes[VICTIM];
        let http = client();
        for hash in [hash(&self.data), hash(&self.preview)] {
            let url = format!("{}/api/v1/storage/{hash}", victim.api);
            let local = until("the bytes to be on this disk again", REFILL_MAX, || {
                let head = http.head(&url).bearer_auth(&self.token).send()?;
                let source = head.headers().get("x-mynet-source").and_then(|source| source.to_str().ok());
                ensure!(source == Some("local"), "{} from {source:?}", head.status());
                Ok(())
            });
            local.unwrap_or_else(|error| panic!("{error:#}: {}", victim.log_tail()));
        }
        for (index, node) in self.network.nodes.iter_mut().enumerate() {
            if index != VICTIM {
                assert_eq!(node.stop().unwrap(), 0);
            }
        }
        assert!(self.get("decrypted") == self.data && self.get("preview") == self.preview);
        let shown = self.network.nodes[VICTIM].json(&["show", &self.group]).unwrap();
        let held = |state: &serde_json::Value| state["held"] != "no";
        assert!(shown["states"].as_array().unwrap().iter().all(held), "{shown}");
    }
}

/// The blob files below `dir` that hold at least `len` bytes.
fn blobs(dir: &Path, len: u64) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(blobs(&path, len));
        } else if path.extension().is_none_or(|end| end != "obao") && fs::metadata(&path).unwrap().len() >= len {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_lost_blobs_directory_is_read_around_at_once_and_refilled() {
    let mut case = case(1);
    let dir = case.network.nodes[VICTIM].dir.join("blobs");
    assert_eq!(case.network.nodes[VICTIM].stop().unwrap(), 0);
    let before = blobs(&dir, 0).len();
    assert_eq!(before, 2);
    fs::remove_dir_all(&dir).unwrap();
    case.network.nodes[VICTIM].restart().unwrap();
    case.network.formed(4).unwrap();
    assert!(case.get("decrypted") == case.data && case.get("preview") == case.preview);
    case.comes_back();
    assert_eq!(blobs(&dir, 0).len(), before);
}

#[test]
fn one_flipped_byte_is_read_around_and_mended() {
    let mut case = case(2);
    let dir = case.network.nodes[VICTIM].dir.join("blobs");
    let [file] = blobs(&dir, 1_000_000).try_into().unwrap();
    let mut stored = fs::read(&file).unwrap();
    stored[4_500_000] ^= 1;
    fs::write(&file, stored).unwrap();
    // The first read meets the bad byte: it may break off there, and no other byte comes.
    let get = ["get", &case.group, "--state", "decrypted", "-o", "-"];
    let met = case.network.nodes[VICTIM].run(&get).unwrap();
    assert!(case.data.starts_with(&met.stdout), "damaged bytes were served");
    assert!(case.get("decrypted") == case.data);
    case.comes_back();
    assert!(!file.exists(), "the damaged file is gone");
    assert_eq!(blobs(&dir, 0).len(), 2);
}
