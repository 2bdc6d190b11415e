//! Who does not belong gets nothing and is told why.

use std::{fs, time::Duration};

use mynet_e2e::{
    network::{Network, lonely},
    process::{Node, run},
    wait::until,
};

#[test]
fn a_ticket_redeemed_twice_leaves_the_second_node_outside_and_tells_it_why() {
    let network = Network::trusted(1, "").unwrap();
    let founder = &network.nodes[0];
    let ticket = founder.json(&["invite", "--uses", "1"]).unwrap();
    let ticket = ticket["ticket"].as_str().unwrap();
    let start = |name: &str| {
        let dir = network.temp.path().join(name);
        let args = ["--api-listen", "127.0.0.1:0", "--p2p-listen", "127.0.0.1:0"];
        let joined = run(&[&["join", ticket, "--data-dir", dir.to_str().unwrap()], &args[..]].concat()).unwrap();
        assert_eq!(joined.status, 0, "{}", joined.stderr);
        Node::start(&dir, &[]).unwrap()
    };
    let first = start("first");
    until("the first to be admitted", Duration::from_secs(30), || {
        anyhow::ensure!(first.json(&["status"])?["admitted"] == true);
        Ok(())
    })
    .unwrap();
    let second = start("second");
    until("the second to be told", Duration::from_secs(30), || {
        let log = fs::read_to_string(second.log_path())?;
        anyhow::ensure!(log.contains("used up"), "{log}");
        Ok(())
    })
    .unwrap();
    assert_eq!(second.json(&["status"]).unwrap()["admitted"], false);
    let peers = founder.json(&["peers"]).unwrap();
    assert!(peers.as_array().unwrap().iter().all(|peer| peer["node_id"] != second.id.as_str()));
}

#[test]
fn a_node_of_another_network_gets_nothing_and_is_told_why() {
    let network = Network::trusted(2, "").unwrap();
    let founder = &network.nodes[0];
    let dir = network.temp.path().join("foreign");
    lonely(&dir).unwrap();
    let p2p = founder.json(&["status"]).unwrap()["p2p"].as_str().unwrap().to_owned();
    // A foreign operator points its node at ours.
    let config = dir.join("config.toml");
    let text = fs::read_to_string(&config).unwrap();
    let bootstrap = format!("\n[network]\nbootstrap = [\"{}@{p2p}\"]\n", founder.id);
    fs::write(&config, text + &bootstrap).unwrap();
    let foreign = Node::start(&dir, &[]).unwrap();
    until("the foreign node to be told", Duration::from_secs(30), || {
        let log = fs::read_to_string(foreign.log_path())?;
        anyhow::ensure!(log.contains("another network"), "{log}");
        Ok(())
    })
    .unwrap();
    let peers = founder.json(&["peers"]).unwrap();
    assert_eq!(peers.as_array().unwrap().len(), 1, "{peers}");
}

#[test]
fn a_changed_ticket_is_refused_before_anything_is_written() {
    let network = Network::trusted(1, "").unwrap();
    let ticket = network.nodes[0].json(&["invite"]).unwrap()["ticket"].as_str().unwrap().to_owned();
    let dir = network.temp.path().join("new");
    let middle = ticket.len() / 2;
    let swapped = if ticket.as_bytes()[middle] == b'A' { "B" } else { "A" };
    let broken = format!("{}{swapped}{}", &ticket[..middle], &ticket[middle + 1..]);
    let refused = run(&["join", &broken, "--data-dir", dir.to_str().unwrap()]).unwrap();
    assert_ne!(refused.status, 0);
    assert!(refused.stderr.contains("ticket"), "{}", refused.stderr);
    assert!(!dir.exists(), "a refused ticket left {}", dir.display());
}
