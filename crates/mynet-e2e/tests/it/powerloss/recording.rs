//! The run that is recorded: a founder that takes uploads in, holds those of others, votes, dies and stops.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes, hash, wav},
    network::Network,
    powerloss::{
        disk::Disk,
        recorder::{Deed, Record, Recorder},
    },
    process::json,
    wait::until,
};
use serde_json::Value;

/// The data directory of the node that is recorded, below the recorded root.
pub(super) const NODE: &str = "nodes/node0";
/// Where uploads of others come in.
const OTHER: usize = 1;
/// Uploads one after the other.
const UPLOADS: u64 = 18;
/// Uploads through another node.
const FOREIGN: u64 = 8;
/// Uploads at once.
const AT_ONCE: u64 = 6;
/// How long anything may take that is only waited for.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Something that the node told somebody.
#[derive(Debug)]
pub(super) struct Promise {
    /// Length of the log when it had been heard.
    pub(super) at: u64,
    pub(super) what: Told,
}

/// What was told. Groups are named by their ids.
#[derive(Debug)]
pub(super) enum Told {
    /// `init` ended: the keys are there, also those that are to be moved offline.
    Prepared,
    /// An upload is stored, with bytes of this hash.
    Stored { group: String, hash: String },
    /// The node holds at least two receipts for an upload.
    Durable { group: String },
    /// The node has a certificate.
    Certified { group: String },
    /// The node gave a receipt for an upload of another.
    Holds { group: String },
    /// A certificate shows that the node voted for this manifest.
    Voted { manifest_hash: String },
}

/// A run.
pub(super) struct Recording {
    pub(super) records: Vec<Record>,
    pub(super) promises: Vec<Promise>,
}

struct Run {
    network: Network,
    recorder: Recorder,
    promises: Vec<Promise>,
}

/// Sizes that matter: nothing, a byte, a group of the tree, a chunk of the cipher, a page more, several segments.
fn size(seed: u64) -> usize {
    const SIZES: [usize; 9] = [0, 1, 16_384, 16_385, 65_536, 69_632, 200_000, 30_000, 1_000];
    if seed == 4 { 5_000_000 } else { SIZES[usize::try_from(seed).unwrap() % SIZES.len()] }
}

impl Run {
    fn promise(&mut self, what: Told) {
        let at = self.recorder.now().unwrap();
        self.promises.push(Promise { at, what });
    }

    fn file(&self, seed: u64, data: &[u8]) -> String {
        content::file(self.network.temp.path(), &format!("upload{seed}"), data).unwrap()
    }

    /// Notes what the answer to an upload told.
    fn told(&mut self, view: &Value, data: &[u8]) -> String {
        let group = view["group_id"].as_str().unwrap().to_owned();
        self.promise(Told::Stored { group: group.clone(), hash: hash(data) });
        if view["wait_result"] == "durable" || view["wait_result"] == "certified" {
            self.promise(Told::Durable { group: group.clone() });
        }
        group
    }

    /// Uploads through the recorded node.
    fn upload(&mut self, seed: u64) {
        let data = if seed == 3 { wav(seed, 4) } else { bytes(seed, size(seed)) };
        let wait = ["stored", "durable", "certified"][usize::try_from(seed % 3).unwrap()];
        let kind = if seed == 3 { "audio" } else { "document" };
        let path = self.file(seed, &data);
        let view = self.network.nodes[0].json(&["add", &path, "--type", kind, "--wait", wait]).unwrap();
        assert_eq!(view["wait_result"], wait, "{view}");
        let group = self.told(&view, &data);
        if wait == "certified" {
            self.certified(&group);
        }
    }

    /// Notes a certificate, and the recorded node's vote if it is in it.
    fn certified(&mut self, group: &str) {
        self.promise(Told::Certified { group: group.to_owned() });
        let dir = self.network.temp.path().to_owned();
        let certificate = dir.join("certificate").to_string_lossy().into_owned();
        let made = self.network.nodes[0].run(&["cert", group, "-o", &certificate]).unwrap();
        assert_eq!(made.status, 0, "{}", made.stderr);
        let genesis = self.network.genesis(&dir).unwrap();
        let verified = json(&["verify", &certificate, "--genesis", &genesis]).unwrap();
        let me = self.network.nodes[0].id.as_str();
        if verified["signers"].as_array().unwrap().iter().any(|signer| signer == me) {
            let manifest_hash = verified["manifest_hash"].as_str().unwrap().to_owned();
            self.promise(Told::Voted { manifest_hash });
        }
    }

    /// Uploads through another node until the recorded one holds it too.
    fn foreign(&mut self, seed: u64) {
        let data = bytes(seed, if seed == 102 { 5_000_000 } else { size(seed) });
        let path = self.file(seed, &data);
        let view = self.network.nodes[OTHER].json(&["add", &path, "--type", "document"]).unwrap();
        let group = view["group_id"].as_str().unwrap().to_owned();
        let me = self.network.nodes[0].id.clone();
        let holds = until(&format!("{group} to have all copies"), WAIT_MAX, || {
            let view = self.network.nodes[OTHER].json(&["show", &group])?;
            ensure!(view["replication_status"] == "replicated", "{view}");
            Ok(view["replicated_on_peers"].as_array().is_some_and(|peers| peers.iter().any(|peer| peer == me.as_str())))
        });
        // Three of four nodes hold a group.
        if holds.unwrap() {
            self.promise(Told::Holds { group });
        }
    }

    /// Uploads several files at once, so that their writes mix.
    fn at_once(&mut self) {
        let dir = self.network.nodes[0].dir_arg().to_owned();
        let files: Vec<_> = (0..AT_ONCE)
            .map(|seed| {
                let data = bytes(500 + seed, 150_000);
                (self.file(500 + seed, &data), data)
            })
            .collect();
        let views: Vec<Value> = thread::scope(|scope| {
            let add = |path| json(&["add", path, "--type", "document", "--data-dir", &dir]).unwrap();
            let running: Vec<_> = files.iter().map(|(path, _)| scope.spawn(move || add(path))).collect();
            running.into_iter().map(|upload| upload.join().unwrap()).collect()
        });
        for (view, (_, data)) in views.iter().zip(&files) {
            self.told(view, data);
        }
    }

    /// Begins an upload and goes away in the middle of it.
    fn broken_off(&self) {
        let node = &self.network.nodes[0];
        let access: Value = serde_json::from_slice(&fs::read(node.dir.join("api.json")).unwrap()).unwrap();
        let token = access["token"].as_str().unwrap();
        let mut stream = TcpStream::connect(node.api.trim_start_matches("http://")).unwrap();
        write!(
            stream,
            "POST /api/v1/content?type=document HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 9000000\r\n\r\n"
        )
        .unwrap();
        stream.write_all(&bytes(99, 2_000_000)).unwrap();
        let staging = node.dir.join("staging");
        let until_staged = |what: &str, wanted: bool| {
            until(what, WAIT_MAX, || {
                let count = fs::read_dir(&staging)?.count();
                ensure!((count > 0) == wanted, "{count} are staged");
                Ok(())
            })
            .unwrap();
        };
        until_staged("the upload to begin", true);
        drop(stream);
        until_staged("the upload to be gone", false);
    }
}

/// Records a run.
pub(super) fn record() -> Recording {
    let aside = tempfile::tempdir().unwrap();
    let temp = tempfile::tempdir().unwrap();
    let recorder = Recorder::new(aside.path(), temp.path()).unwrap();
    let network = Network::trusted_in(temp, (4, ""), &recorder.environment()).unwrap();
    let mut run = Run { network, recorder, promises: Vec::new() };
    for seed in 0..UPLOADS {
        run.upload(seed);
        if seed == UPLOADS / 3 {
            run.network.nodes[0].kill().unwrap();
            run.network.nodes[0].restart().unwrap();
            run.network.formed(4).unwrap();
        }
    }
    run.broken_off();
    for seed in 0..FOREIGN {
        run.foreign(100 + seed);
    }
    assert_eq!(run.network.nodes[0].stop().unwrap(), 0);
    run.network.nodes[0].restart().unwrap();
    run.network.formed(4).unwrap();
    run.at_once();
    assert_eq!(run.network.nodes[0].stop().unwrap(), 0);

    let records = run.recorder.records().unwrap();
    is_complete(&records, run.network.temp.path());
    let mut promises = run.promises;
    // The first process to record was `init`; it had ended when the second began.
    let mut starts = records.iter().filter(|record| matches!(record.deed, Deed::Root(_)));
    promises.push(Promise { at: starts.nth(1).unwrap().end, what: Told::Prepared });
    Recording { records, promises }
}

/// A recording that missed something would find no loss there: replayed, it must give the directory as it is.
fn is_complete(records: &[Record], root: &Path) {
    let mut disk = Disk::honest();
    records.iter().for_each(|record| disk.apply(&record.deed));
    let node = |path: &PathBuf| path.starts_with(NODE) && !path.to_string_lossy().ends_with("-shm");
    let seen = disk.seen();
    let seen: BTreeMap<PathBuf, Vec<u8>> =
        seen.files.into_iter().filter(|(path, _)| node(path)).map(|(path, (_, bytes))| (path, bytes)).collect();
    let mut dirs = vec![root.join(NODE)];
    let mut there = BTreeMap::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let name = path.strip_prefix(root).unwrap().to_owned();
            if node(&name) {
                there.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    assert_eq!(seen.keys().collect::<Vec<_>>(), there.keys().collect::<Vec<_>>(), "the recording missed names");
    for (path, bytes) in &there {
        assert!(seen[path] == *bytes, "the recording missed bytes of {}", path.display());
    }
}
