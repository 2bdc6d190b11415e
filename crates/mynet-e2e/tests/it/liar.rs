//! One validator of four that lies in every way that the protocol lets it, with the real program: what the others decide, what they
//! hold, and whom they accuse. Which lies there are is in `docs/protocol/lies.md`.

use std::{fs, thread, time::Duration};

use anyhow::{Result, bail, ensure};
use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Node, run},
    wait::until,
};
use serde_json::{Value, json};

/// The node that lies; the others do not.
const LIAR: usize = 3;
const HONEST: [usize; 3] = [0, 1, 2];
/// Every lie that is told while the liar has its seat. The first contradiction ends that, and `double-head` needs the vote on a
/// later version for its own, so it has a network of its own.
const LIES: [&str; 19] = [
    "equivocate",
    "reject",
    "forge-vote",
    "misplace-vote",
    "false-proposal",
    "false-certificate",
    "forge-evidence",
    "false-memory",
    "false-offer",
    "false-roster",
    "false-receipt",
    "bad-receipt",
    "false-decision",
    "false-wraps",
    "false-tombstone",
    "false-bytes",
    "false-answer",
    "stall",
    "replay",
];
/// All four hold every group. Leases that end while somebody stalls.
const SETTINGS: &str =
    "\n[replication]\nreplicas = 4\nlease = \"6s\"\nreceiving_lease = \"6s\"\nprepare_timeout = \"2s\"\n";
/// More than one segment, so that several sources are asked.
const LARGE: usize = 5 * 1024 * 1024;
const SMALL: usize = 50_000;
/// Rounds of votes in which a liar contradicts itself: it has four ways to lie about a vote, and stalls one time in three.
const ROUNDS_MAX: usize = 20;
const WAIT_MAX: Duration = Duration::from_secs(120);

/// A group that an honest node proposed.
struct Upload {
    group: String,
    data: Vec<u8>,
}

/// The network and what came into it.
struct Town {
    network: Network,
    uploads: Vec<Upload>,
}

impl Town {
    fn node(&self, index: usize) -> &Node {
        &self.network.nodes[index]
    }

    /// All honest nodes upload at once and wait for their certificates, `rounds` times.
    fn upload(&mut self, rounds: usize, size: usize, validators: &[u64]) {
        for _ in 0..rounds {
            let first = self.uploads.len() as u64;
            let added: Vec<Upload> = thread::scope(|scope| {
                let one = |index: usize| {
                    let (node, dir) = (self.node(index), self.network.temp.path());
                    move || add(node, (dir, first + index as u64), size, validators)
                };
                let uploads: Vec<_> = HONEST.iter().map(|index| scope.spawn(one(*index))).collect();
                uploads.into_iter().map(|upload| upload.join().unwrap()).collect()
            });
            self.uploads.extend(added);
        }
    }

    /// The three honest nodes hold every group whole, and each has its certificate.
    fn until_held(&self) {
        for (node, upload) in
            HONEST.iter().flat_map(|index| self.uploads.iter().map(|upload| (self.node(*index), upload)))
        {
            until(&format!("{} to hold {}", node.dir_arg(), upload.group), WAIT_MAX, || held(node, &upload.group))
                .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
            let got = node.bytes(&["get", &upload.group, "--state", "decrypted", "-o", "-"]).unwrap();
            assert_eq!(hash(&got), hash(&upload.data), "{} serves other bytes", node.dir_arg());
        }
    }

    /// Every certificate proves offline, as each honest node keeps it.
    fn all_prove(&self) {
        let dir = self.network.temp.path();
        let genesis = self.network.genesis(dir).unwrap();
        let path = dir.join("certificate").to_string_lossy().into_owned();
        for (index, upload) in HONEST.iter().flat_map(|index| self.uploads.iter().map(move |upload| (*index, upload))) {
            let got = self.node(index).run(&["cert", &upload.group, "-o", &path]).unwrap();
            assert_eq!(got.status, 0, "{}", got.stderr);
            let proof = run(&["verify", &path, "--genesis", &genesis, "--json"]).unwrap().json().unwrap();
            assert_eq!((&proof["valid"], &proof["claim"]), (&json!(true), &json!("durable")), "{proof}");
            assert_eq!(proof["group_id"], upload.group.as_str(), "{proof}");
        }
    }

    /// An honest node uploads a song with a cover and gives it another cover. Answers with the second version.
    fn next_version(&self, index: usize, before: impl FnOnce(&str)) -> Value {
        let (node, dir) = (self.node(index), self.network.temp.path());
        let song = content::file(dir, "song.bin", &bytes(70, SMALL)).unwrap();
        let [cover, other] = [71, 72].map(|seed| content::file(dir, &format!("cover-{seed}"), &picture(seed)).unwrap());
        let added = node.json(&["add", &song, "--preview", &cover, "--wait", "certified", "--timeout", "90s"]);
        let added = added.unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
        let group = added["group_id"].as_str().unwrap();
        before(group);
        let view = node.json(&["preview", group, &other, "--timeout", "90s"]);
        let view = view.unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
        assert_eq!((&view["version"], &view["wait_result"]), (&json!(2), &json!("durable")), "{view}");
        for honest in HONEST.map(|index| self.node(index)) {
            until("the second version", WAIT_MAX, || {
                let shown = honest.json(&["show", group])?;
                ensure!(shown["manifest_hash"] == view["manifest_hash"], "{shown}");
                ensure!(shown["consensus_achieved"] == true, "{shown}");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", honest.log_tail()));
            let got = honest.bytes(&["get", group, "--state", "preview", "-o", "-"]).unwrap();
            assert_eq!(hash(&got), hash(&picture(72)), "{}", honest.dir_arg());
        }
        view
    }

    /// Goes on until somebody has evidence. The seat may be lost meanwhile, so four validators decide, or three.
    fn upload_until_accused(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if HONEST.iter().any(|index| !evidence(self.node(*index)).unwrap().is_empty()) {
                return;
            }
            self.upload(1, SMALL, &[3, 4]);
        }
        panic!("{ROUNDS_MAX} rounds of votes without a contradiction");
    }

    /// Waits until every honest node has evidence, and says that all of it is against the liar.
    fn until_accused(&self) {
        for index in HONEST {
            let node = self.node(index);
            let known = until("evidence to be everywhere", WAIT_MAX, || {
                let known = evidence(node)?;
                ensure!(!known.is_empty(), "{} has none", node.dir_arg());
                Ok(known)
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
            assert!(known.iter().all(|record| record["node_id"] == self.node(LIAR).id.as_str()), "{known:?}");
        }
    }

    /// Node `index` loses its disk while only the liar is there to give the bytes again, notices that they are not those, and is
    /// left for the others to heal.
    fn lose_disk(&mut self, index: usize) {
        for node in HONEST {
            self.network.nodes[node].kill().unwrap();
        }
        fs::remove_dir_all(self.node(index).dir.join("blobs")).unwrap();
        self.network.nodes[index].restart().unwrap();
        let (node, liar) = (self.node(index), self.node(LIAR).id.as_str());
        let false_bytes = |event: &Value| event["code"] == "source_corrupt" && event["node_id"] == liar;
        until("false bytes to be noticed", WAIT_MAX, || {
            for upload in &self.uploads {
                let history = node.json(&["history", &upload.group])?;
                if history.as_array().into_iter().flatten().any(false_bytes) {
                    return Ok(());
                }
            }
            bail!("nothing was noticed")
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
        for other in HONEST.into_iter().filter(|other| *other != index) {
            self.network.nodes[other].restart().unwrap();
        }
    }

    /// Waits until the liar has no seat by the word of every honest node, and the others have theirs.
    fn until_unseated(&self) {
        for index in HONEST {
            let node = self.node(index);
            until("the liar to lose its seat", WAIT_MAX, || {
                let shown = node.json(&["roster", "show"])?;
                let seats: Vec<&str> = shown["seats"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|seat| seat["node_id"].as_str())
                    .collect();
                let honest = HONEST.iter().all(|index| seats.contains(&self.node(*index).id.as_str()));
                ensure!(honest && seats.len() == HONEST.len(), "{shown}");
                ensure!(shown["votes"] == true, "{shown}");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
        }
    }
}

/// A picture by its first bytes.
fn picture(seed: u64) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes(seed, SMALL)].concat()
}

fn evidence(node: &Node) -> Result<Vec<Value>> {
    Ok(node.json(&["evidence"])?.as_array().cloned().unwrap_or_default())
}

/// Uploads, and does not go on before the proposal is decided.
fn add(node: &Node, (dir, number): (&std::path::Path, u64), size: usize, validators: &[u64]) -> Upload {
    let data = bytes(number, size);
    let path = content::file(dir, &format!("{number}.bin"), &data).unwrap();
    let args = ["add", &path, "--type", "document", "--wait", "certified", "--timeout", "90s"];
    let added = node.json(&args).unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
    assert_eq!(added["consensus"]["outcome"], "approved", "{added}");
    assert!(validators.iter().any(|count| added["consensus"]["validators"] == *count), "{added}");
    Upload { group: added["group_id"].as_str().unwrap().to_owned(), data }
}

fn held(node: &Node, group: &str) -> Result<()> {
    let view = node.json(&["show", group])?;
    ensure!(view["states"].as_array().unwrap().iter().all(|state| state["held"] != "no"), "{view}");
    ensure!(view["consensus"]["certificate"] == true, "{view}");
    Ok(())
}

#[test]
fn one_liar_of_four_hinders_nobody_and_is_the_only_one_accused() {
    let seed = std::env::var("LIAR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut town = Town { network: Network::trusted(4, SETTINGS).unwrap(), uploads: Vec::new() };
    // Before it lies there is nothing to be seen.
    town.upload(1, SMALL, &[4]);
    for index in HONEST {
        assert_eq!(evidence(town.node(index)).unwrap(), Vec::<Value>::new());
    }

    town.network.nodes[LIAR].corrupt("all", seed).unwrap();
    town.network.formed(4).unwrap();
    // A seat that starts asks for its votes, and is lied to.
    town.network.nodes[1].kill().unwrap();
    town.network.nodes[1].restart().unwrap();
    town.network.formed(4).unwrap();
    town.upload(1, LARGE, &[4]);
    // Its votes are lies by turns, of which only some accuse it.
    town.upload_until_accused();
    town.until_accused();
    town.until_unseated();
    town.upload(2, SMALL, &[3]);
    // A later version is made and taken among false receipts, false decisions and false bytes.
    town.next_version(1, |_| ());
    // What it proposes itself is its own affair, and nobody's undoing.
    let path = content::file(town.network.temp.path(), "own.bin", &bytes(99, SMALL)).unwrap();
    let own = town.node(LIAR).run(&["add", &path, "--type", "document", "--timeout", "5s"]).unwrap();
    assert!([0, 4].contains(&own.status), "{}", own.stderr);

    town.lose_disk(2);
    town.until_held();
    town.all_prove();
    town.until_accused();
    for lie in LIES {
        assert!(town.node(LIAR).told(lie) > 0, "it never told '{lie}', seed {seed}");
    }
    for index in HONEST {
        let log = fs::read_to_string(town.node(index).log_path()).unwrap();
        assert!(!log.contains("panicked") && !log.contains("exclude each other"), "{log}");
    }
}

#[test]
fn a_seat_that_accepts_two_values_of_a_version_is_the_only_one_accused_and_the_version_stands() {
    let seed = std::env::var("LIAR_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut town = Town { network: Network::trusted(4, "").unwrap(), uploads: Vec::new() };
    town.network.nodes[LIAR].corrupt("double-head", seed).unwrap();
    town.network.formed(4).unwrap();
    // A first version has no other value that could be accepted with it.
    let view = town.next_version(0, |_| assert_eq!(town.node(LIAR).told("double-head"), 0));
    assert!(town.node(LIAR).told("double-head") > 0, "seed {seed}");
    // Both statements are about this version, and one of them accepts what the others certified. No owner is accused.
    town.until_accused();
    for index in HONEST {
        for record in evidence(town.node(index)).unwrap() {
            let said = record["statements"].as_array().unwrap();
            assert!(
                said.iter()
                    .all(|said| said["verdict"] == "accept" && said["phase"] == record["statements"][0]["phase"]),
                "{record}"
            );
            let values: Vec<&Value> = said.iter().map(|said| &said["manifest_hash"]).collect();
            assert!(values[0] != values[1] && values.contains(&&view["manifest_hash"]), "{record}");
            assert_eq!(record["kind"], "validator", "{record}");
        }
    }
    // The certificate proves offline, and the liar is out of the next roster.
    let (dir, group) = (town.network.temp.path(), view["group_id"].as_str().unwrap());
    let (genesis, path) = (town.network.genesis(dir).unwrap(), dir.join("certificate").to_string_lossy().into_owned());
    for index in HONEST {
        assert_eq!(town.node(index).run(&["cert", group, "-o", &path]).unwrap().status, 0);
        let proof = run(&["verify", &path, "--genesis", &genesis, "--json"]).unwrap().json().unwrap();
        assert_eq!((&proof["valid"], &proof["manifest_hash"]), (&json!(true), &view["manifest_hash"]), "{proof}");
    }
    town.until_unseated();
}
