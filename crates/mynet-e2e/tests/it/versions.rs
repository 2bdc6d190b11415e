//! Later versions of a group: made by the node that has it, taken by its holders whole, and only one of each number.

use std::time::Duration;

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Node, run},
    wait::until,
};

/// How long other nodes may take to show what one has made.
const SPREAD_MAX: Duration = Duration::from_secs(60);

/// A picture by its first bytes.
fn picture(seed: u64) -> Vec<u8> {
    [b"\x89PNG\r\n\x1a\n".as_slice(), &bytes(seed, 70_000)].concat()
}

/// Waits until `node` shows `version` of a group, and answers with the preview that it serves.
fn preview_of(node: &Node, group: &str, version: u64) -> Vec<u8> {
    until("the version", SPREAD_MAX, || {
        let view = node.json(&["show", group])?;
        ensure!(view["version"] == version, "{view}");
        ensure!(view["consensus_achieved"] == true, "{view}");
        Ok(())
    })
    .unwrap();
    node.bytes(&["get", group, "--state", "preview", "-o", "-"]).unwrap()
}

#[test]
fn another_preview_takes_the_old_ones_place_on_every_node_and_the_song_stays() {
    let network = Network::trusted(4, "\n[storage]\ngrace = \"1s\"\n").unwrap();
    let song = bytes(50, 300_000);
    let path = content::file(network.temp.path(), "song.bin", &song).unwrap();
    let (first, second) = (picture(51), picture(52));
    let cover = content::file(network.temp.path(), "first", &first).unwrap();
    let owner = &network.nodes[0];
    let view = owner.json(&["add", &path, "--preview", &cover, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    network.settled(0, group).unwrap();

    let other = content::file(network.temp.path(), "second", &second).unwrap();
    let view = owner.json(&["preview", group, &other]).unwrap();
    assert_eq!((&view["version"], &view["wait_result"]), (&2.into(), &"durable".into()), "{view}");
    for node in &network.nodes {
        assert!(preview_of(node, group, 2) == second);
        assert_eq!(hash(&node.bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap()), hash(&song));
    }
    let settled = network.settled(0, group).unwrap();

    // The certificate proves the second version, and says that it is durable.
    let certificate = network.temp.path().join("c").to_string_lossy().into_owned();
    let genesis = network.genesis(network.temp.path()).unwrap();
    until("a durable certificate", SPREAD_MAX, || {
        ensure!(owner.run(&["cert", group, "-o", &certificate])?.status == 0);
        let told = run(&["verify", &certificate, "--genesis", &genesis, "--claim", "durable", "--json"])?;
        ensure!(told.status == 0, "{}", String::from_utf8_lossy(&told.stdout));
        Ok(())
    })
    .unwrap();

    // Any holder may have a later version certified as more, without the version before.
    let holder = settled["replicated_on_peers"][0].as_str().unwrap();
    let holder = network.nodes.iter().find(|node| node.id == holder).unwrap();
    let told = holder.json(&["propose", group, "--claim", "verified", "--timeout", "60s"]).unwrap();
    assert_eq!((&told["outcome"], &told["claim"]), (&"approved".into(), &"verified".into()), "{told}");

    // What only the old version needed is garbage on every node.
    for node in &network.nodes {
        until("the old preview to be collected", SPREAD_MAX, || {
            node.run(&["gc"])?;
            ensure!(node.run(&["get", &hash(&first), "-o", "-"])?.status != 0);
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_version_goes_on_after_its_owner_died_and_only_the_owner_makes_one() {
    let mut network = Network::trusted(4, "").unwrap();
    let path = content::file(network.temp.path(), "song.bin", &bytes(53, 200_000)).unwrap();
    let cover = content::file(network.temp.path(), "first", &picture(54)).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--preview", &cover, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap().to_owned();
    network.settled(0, &group).unwrap();
    let second = picture(55);
    let other = content::file(network.temp.path(), "second", &second).unwrap();
    let refused = network.nodes[1].run(&["preview", &group, &other]).unwrap();
    assert_eq!(refused.status, 6, "{}", refused.stderr);

    // Two of four validators are away: the version waits for its certificate, and nobody sees it.
    network.nodes[2].kill().unwrap();
    network.nodes[3].kill().unwrap();
    let waiting = network.nodes[0].run(&["preview", &group, &other, "--timeout", "2s"]).unwrap();
    let told = String::from_utf8_lossy(&waiting.stdout).into_owned();
    assert_eq!(waiting.status, 4, "{told}");
    for part in ["\nversion   1, of", "\nthe wait for version 2 is over", "\n  version 2 has ", " of 3 votes\n"] {
        assert!(told.contains(part), "{part:?} in {told}");
    }
    assert_eq!(network.nodes[0].json(&["show", &group]).unwrap()["version"], 1);
    let again = network.nodes[0].run(&["preview", &group, &other]).unwrap();
    assert_eq!(again.status, 2, "{}", again.stderr);
    network.nodes[0].kill().unwrap();
    for index in [0, 2, 3] {
        network.nodes[index].restart().unwrap();
    }
    for node in &network.nodes {
        assert!(preview_of(node, &group, 2) == second);
    }
}
