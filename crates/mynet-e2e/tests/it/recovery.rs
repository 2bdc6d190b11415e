//! The roster by two of the three offline keys, when half of the validators are lost for ever.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    http::client,
    network::{Network, Trust},
    process::{Done, run},
    wait::until,
};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs a step that needs no node: files in, files out.
fn offline(args: &[&str]) -> Done {
    let args: Vec<&str> = ["roster", "recover"].iter().chain(args).chain(&["--json"]).copied().collect();
    run(&args).unwrap()
}

/// The code of the error that a step ended with, and its exit status.
fn refused(done: &Done) -> (i32, String) {
    let error: Value = serde_json::from_str(done.stderr.lines().last().unwrap_or_default()).unwrap_or_default();
    (done.status, error["error"]["code"].as_str().unwrap_or(&done.stderr).to_owned())
}

/// A network of four validators and a fifth node without a seat, whose operator put the keys elsewhere. Half of the seats are
/// lost; a group was uploaded since (every node is a holder, so that two of them are up).
struct Halved {
    network: Network,
    safe: TempDir,
    genesis: String,
    epoch: u64,
    group: String,
}

impl Halved {
    fn new() -> Self {
        let mut network = Network::trusted(4, "").unwrap();
        let safe = tempfile::tempdir().unwrap();
        for key in ["1.key", "2.key", "3.key"] {
            let from = network.nodes[0].dir.join("recovery").join(key);
            fs::rename(&from, safe.path().join(key)).unwrap();
        }
        network.join(Trust::Trusted, &[]).unwrap();
        network.formed(4).unwrap();
        let genesis = network.genesis(safe.path()).unwrap();
        let epoch = network.nodes[3].json(&["roster", "show"]).unwrap()["epoch"].as_u64().unwrap();
        network.nodes[0].kill().unwrap();
        network.nodes[1].kill().unwrap();
        let song = content::file(network.temp.path(), "song.bin", &bytes(61, 100_000)).unwrap();
        let add = ["add", &song, "--replicas", "5", "--wait", "certified", "--timeout", "6s", "--json"];
        let added = network.nodes[3].run(&add).unwrap();
        assert_eq!(added.status, 4, "{}", added.stderr);
        let group = added.json().unwrap()["group_id"].as_str().unwrap().to_owned();
        Self { network, safe, genesis, epoch, group }
    }

    /// A file on the operator's side.
    fn file(&self, name: &str) -> String {
        self.safe.path().join(name).to_string_lossy().into_owned()
    }

    /// The survivors and the node that has no seat yet offer themselves, and a proposal is made of that.
    fn propose(&self) -> Value {
        let nodes = &self.network.nodes;
        for (index, name) in [(2, "c.offer"), (3, "d.offer"), (4, "e.offer")] {
            let offer = nodes[index].json(&["roster", "recover", "offer", "-o", &self.file(name)]).unwrap();
            assert_eq!((&offer["epoch"], &offer["reports"]), (&json!(self.epoch + 1), &json!(index != 4)), "{offer}");
        }
        let (c, d, e) = (self.file("c.offer"), self.file("d.offer"), self.file("e.offer"));
        let to = self.file("proposal");
        assert_eq!(refused(&offline(&["propose", &c, &c, "-o", &to])), (1, "offered_twice".to_owned()));
        let dry = offline(&["propose", &c, &d, &e, "-o", &to, "--dry-run"]);
        assert_eq!((dry.status, Path::new(&to).exists()), (0, false), "{}", dry.stderr);
        offline(&["propose", &c, &d, &e, "-o", &to]).json().unwrap()
    }

    fn sign(&self, from: &str, key: &str, to: &str) -> Done {
        offline(&["sign", &self.file(from), "--key", &self.file(key), "-o", &self.file(to)])
    }

    fn submit(&self, index: usize, more: &[&str]) -> Done {
        let args: Vec<&str> = ["roster", "recover", "submit"].iter().chain(more).chain(&["--json"]).copied().collect();
        self.network.nodes[index].run(&args).unwrap()
    }

    /// Waits for what a node shows of its roster.
    fn until_roster(&self, index: usize, what: &str, holds: impl Fn(&Value) -> bool) {
        until(what, Duration::from_secs(60), || {
            let roster = self.network.nodes[index].json(&["roster", "show"])?;
            ensure!(holds(&roster), "{roster}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn two_of_three_keys_give_a_network_that_lost_half_its_validators_its_certificates_back() {
    let mut halved = Halved::new();
    let (epoch, nodes) = (halved.epoch, &halved.network.nodes);
    let proposal = halved.propose();
    assert_eq!((&proposal["epoch"], &proposal["quorum"]), (&json!(epoch + 1), &json!(3)), "{proposal}");
    assert_eq!((&proposal["reported"], &proposal["reports_needed"]), (&json!(2), &json!(3)));
    assert_eq!(proposal["joining"], json!([nodes[4].id]));
    let leaving = proposal["leaving"].as_array().unwrap();
    assert!([0, 1].iter().all(|lost| leaving.contains(&json!(nodes[*lost].id))), "{proposal}");

    // Each key signs on a machine of its own.
    assert_eq!(halved.sign("proposal", "1.key", "one").json().unwrap()["missing"], 1);
    assert_eq!(halved.sign("proposal", "3.key", "three").status, 0);
    let (one, three, signed) = (halved.file("one"), halved.file("three"), halved.file("signed"));
    let combined = offline(&["combine", &one, &three, "-o", &signed]).json().unwrap();
    assert_eq!((&combined["keys"], &combined["roster"]), (&json!([1, 3]), &proposal["roster"]));
    let submitted = |index: usize, more: &[&str]| halved.submit(index, more).json().unwrap()["submitted"].clone();
    assert_eq!(submitted(2, &[&signed, "--dry-run"]), false);
    assert_eq!(nodes[2].json(&["roster", "show"]).unwrap()["epoch"], epoch);
    assert_eq!(submitted(2, &[&signed]), true);
    assert_eq!(submitted(3, &[&signed]), true, "once more changes nothing");

    // What waited is certified, and whoever checks it is told by whom the roster was made.
    until("the certificate", Duration::from_secs(60), || {
        let shown = nodes[3].json(&["show", &halved.group])?;
        ensure!(shown["consensus"]["certificate"] == true, "{shown}");
        Ok(())
    })
    .unwrap();
    let certificate = halved.file("certificate");
    assert_eq!(nodes[3].run(&["cert", &halved.group, "-o", &certificate]).unwrap().status, 0);
    let told = run(&["verify", &certificate, "--genesis", &halved.genesis, "--json"]).unwrap().json().unwrap();
    assert_eq!((&told["valid"], &told["class"]), (&json!(true), &json!("full")), "{told}");
    assert_eq!(told["recoveries"], json!([epoch + 1]));
    let tune = content::file(halved.network.temp.path(), "tune.bin", &bytes(62, 100_000)).unwrap();
    nodes[4].json(&["add", &tune, "--replicas", "5", "--wait", "certified"]).unwrap();

    // A lost one comes back with its old disk: it follows, and gets a seat like every node that waits.
    halved.network.nodes[0].restart().unwrap();
    halved.until_roster(0, "the old node to follow", |roster| roster["recoveries"] == json!([epoch + 1]));
    halved.until_roster(2, "the next epoch", |roster| roster["epoch"].as_u64() > Some(epoch + 1));
    // The recovery has had its effect; a file that lies about is of no use to anybody.
    assert_eq!(refused(&halved.submit(2, &[&signed])), (1, "invalid_base".to_owned()));
}

#[test]
fn one_key_the_same_key_twice_a_strange_key_and_a_damaged_file_recover_nothing() {
    let halved = Halved::new();
    halved.propose();
    assert_eq!(halved.sign("proposal", "1.key", "one").status, 0);
    assert_eq!(refused(&halved.sign("one", "1.key", "two")), (1, "signed_already".to_owned()));
    fs::write(halved.file("strange.key"), "ab".repeat(32)).unwrap();
    assert_eq!(refused(&halved.sign("proposal", "strange.key", "two")), (6, "wrong_key".to_owned()));
    let one = halved.file("one");
    assert_eq!(refused(&offline(&["combine", &one, &one, "-o", &halved.file("both")])).0, 0);
    for file in ["one", "both"] {
        assert_eq!(refused(&halved.submit(2, &[&halved.file(file)])), (6, "signatures_missing".to_owned()));
    }
    // A program that does not look at the file first is refused by the node itself.
    let node = &halved.network.nodes[2];
    let token = node.json(&["token", "create", "--name", "test", "--scope", "admin"]).unwrap();
    let url = format!("{}/api/v1/roster/recovery", node.api);
    let request = client().post(url).bearer_auth(token["token"].as_str().unwrap()).body(fs::read(&one).unwrap());
    assert_eq!(request.send().unwrap().status(), 403);
    let mut damaged = fs::read(&one).unwrap();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    fs::write(halved.file("damaged"), damaged).unwrap();
    assert_eq!(refused(&offline(&["show", &halved.file("damaged")])), (5, "unreadable".to_owned()));
    assert_eq!(node.json(&["roster", "show"]).unwrap()["epoch"], halved.epoch);
}
