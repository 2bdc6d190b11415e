//! Deleting for good: gone from every node, learned on return, bytes freed, and nobody's business but the owner's.

use std::{fs, path::Path, time::Duration};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    process::Node,
    wait::until,
};
use serde_json::Value;

/// How long news may take to reach a node that runs.
const NEWS_MAX: Duration = Duration::from_secs(60);

/// Uploads `data` through the first node to all four, settled.
fn upload(network: &Network, data: &[u8]) -> Value {
    let path = content::file(network.temp.path(), "data.bin", data).unwrap();
    let add = ["add", &path, "--type", "document", "--replicas", "4", "--wait", "certified"];
    let view = network.nodes[0].json(&add).unwrap();
    network.settled(0, view["group_id"].as_str().unwrap()).unwrap();
    view
}

fn lists(node: &Node, group: &str) -> bool {
    let listed = node.json(&["ls"]).unwrap();
    listed.as_array().unwrap().iter().any(|view| view["group_id"] == group)
}

fn state_hash<'a>(view: &'a Value, name: &str) -> &'a str {
    let states = view["states"].as_array().unwrap();
    states.iter().find(|state| state["state"] == name).unwrap()["hash"].as_str().unwrap()
}

fn len(value: &Value) -> usize {
    value.as_array().unwrap().len()
}

/// Bytes of blob files below `dir`.
fn bytes_below(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { bytes_below(&path) } else { fs::metadata(&path).unwrap().len() }).sum()
}

#[test]
fn a_deleted_group_is_gone_from_every_node_and_only_its_owner_can_delete_it() {
    let network = Network::trusted(4, "\n[storage]\ngrace = \"1s\"\n").unwrap();
    let data = bytes(1, 300_000);
    let view = upload(&network, &data);
    let group = view["group_id"].as_str().unwrap();
    let encrypted = state_hash(&view, "encrypted");

    for other in &network.nodes[1..] {
        let refused = other.run(&["rm", group]).unwrap();
        assert_eq!(refused.status, 6, "{}", refused.stderr);
        assert!(refused.stderr.contains("uploaded"), "{}", refused.stderr);
    }
    assert!(network.nodes.iter().all(|node| lists(node, group)));

    let deleted = network.nodes[0].json(&["rm", group, "--timeout", "60s"]).unwrap();
    assert_eq!((len(&deleted["confirmed"]), len(&deleted["silent"])), (3, 0), "{deleted}");
    for node in &network.nodes {
        assert!(!lists(node, group));
        for key in [group, encrypted] {
            assert_eq!(node.run(&["show", key]).unwrap().status, 3);
            assert_eq!(node.run(&["get", key, "-o", "-"]).unwrap().status, 3);
        }
        assert_eq!(node.run(&["find", encrypted]).unwrap().status, 3);
        assert_eq!(node.run(&["cert", group]).unwrap().status, 3);
    }
    let told = network.nodes[0].run(&["show", group]).unwrap().stderr;
    assert!(told.contains("was deleted by its owner at") && told.contains("another group"), "{told}");
    assert_eq!(network.nodes[0].json(&["rm", group]).unwrap(), deleted, "once more tells how far it came");

    // The bytes go when the grace is over, by themselves.
    for node in &network.nodes {
        until("the bytes to be freed", NEWS_MAX, || {
            let left = bytes_below(&node.dir.join("blobs"));
            ensure!(left == 0, "{left} bytes are left\n{}", node.log_tail());
            Ok(())
        })
        .unwrap();
        let status = node.json(&["status"]).unwrap();
        assert_eq!(status["content"]["bytes"], 0, "{status}");
    }

    // The same bytes again are another group, which nothing of this bars.
    let again = upload(&network, &data);
    assert_ne!(again["group_id"], view["group_id"]);
    let got = network.nodes[3].bytes(&["get", again["group_id"].as_str().unwrap(), "-o", "-"]).unwrap();
    assert!(got == data);
}

#[test]
fn a_holder_that_was_down_learns_on_its_return_also_from_others_than_the_owner() {
    let mut network = Network::trusted(4, "").unwrap();
    let view = upload(&network, &bytes(2, 100_000));
    let group = view["group_id"].as_str().unwrap();
    let away = network.nodes[3].id.clone();
    assert_eq!(network.nodes[3].stop().unwrap(), 0);

    let deleted = network.nodes[0].json(&["rm", group, "--timeout", "3s"]).unwrap();
    assert_eq!(deleted["silent"], serde_json::json!([away]), "{deleted}");
    assert_eq!(len(&deleted["confirmed"]), 2);

    // The owner is gone when the holder comes back: the others know too.
    assert_eq!(network.nodes[0].stop().unwrap(), 0);
    network.nodes[3].restart().unwrap();
    until("the returned holder to learn of it", NEWS_MAX, || {
        ensure!(!lists(&network.nodes[3], group), "{}", network.nodes[3].log_tail());
        Ok(())
    })
    .unwrap();

    // The owner comes back as well, remembers whom it has not heard from, and hears from it.
    network.nodes[0].restart().unwrap();
    until("the owner to hear from everybody", NEWS_MAX, || {
        let deleted = network.nodes[0].json(&["rm", group, "--timeout", "5s"])?;
        ensure!(len(&deleted["silent"]) == 0 && len(&deleted["confirmed"]) == 3, "{deleted}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn collecting_tells_what_it_frees_and_what_keeps_the_rest() {
    let network =
        Network::trusted(1, "\n[storage]\ngrace = \"1h\"\n[replication]\nreplicas = 1\nquorum = 1\nmin_replicas = 1\n")
            .unwrap();
    let node = &network.nodes[0];
    let add = |seed| {
        let path = content::file(network.temp.path(), "data.bin", &bytes(seed, 50_000)).unwrap();
        let view = node.json(&["add", &path, "--type", "document", "--wait", "stored"]).unwrap();
        view["group_id"].as_str().unwrap().to_owned()
    };
    let (gone, _kept) = (add(1), add(2));
    node.json(&["rm", &gone]).unwrap();
    let garbage = node.json(&["gc", "--dry-run"]).unwrap();
    assert_eq!((&garbage["blobs"], &garbage["dry_run"]), (&Value::from(0), &Value::from(true)), "{garbage}");
    assert_eq!((&garbage["kept"]["grace"], &garbage["kept"]["group"]), (&Value::from(1), &Value::from(1)));
}
