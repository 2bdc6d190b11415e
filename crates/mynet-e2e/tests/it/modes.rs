//! When a publication has succeeded: with W receipts, or with every wanted copy.

use std::{fs, time::Duration};

use mynet_e2e::{
    content::{self, bytes},
    network::{Network, Trust},
    process::signal,
    wait::until,
};

#[test]
fn mode_all_succeeds_only_with_every_wanted_copy() {
    let mut network = Network::trusted(2, "").unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(40, 50_000)).unwrap();
    // Three copies are wanted, two make it durable, two nodes are there.
    let view = network.nodes[0].json(&["add", &path]).unwrap();
    assert_eq!(view["wait_result"], "durable", "{view}");
    let group = view["group_id"].as_str().unwrap().to_owned();

    let all = ["publish", &group, "--mode", "all", "--timeout", "3s", "--json"];
    let short = network.nodes[0].run(&all).unwrap();
    assert_eq!(short.status, 4, "two of three copies are no success: {}", String::from_utf8_lossy(&short.stdout));
    assert_eq!(network.nodes[0].run(&["publish", &group, "--json"]).unwrap().status, 0, "a quorum still is one");

    // The operator may make it the rule for what does not say otherwise.
    let config = network.nodes[0].dir.join("config.toml");
    let made_with = fs::read_to_string(&config).unwrap();
    fs::write(&config, made_with + "\n[replication]\nmode = \"all\"\n").unwrap();
    signal(network.nodes[0].pid().unwrap(), "HUP").unwrap();
    until("uploads to want every copy", Duration::from_secs(30), || {
        let done = network.nodes[0].run(&["add", &path, "--timeout", "5s", "--json"])?;
        anyhow::ensure!(done.status == 4, "it ended with {}", done.status);
        anyhow::ensure!(done.json()?["wait_result"] == "not_enough_targets");
        Ok(())
    })
    .unwrap();

    network.join(Trust::Trusted, &[]).unwrap();
    until("the third copy", Duration::from_secs(60), || {
        let done = network.nodes[0].run(&all)?;
        anyhow::ensure!(done.status == 0, "{}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    })
    .unwrap();
    let view = network.nodes[0].json(&["show", &group]).unwrap();
    assert_eq!(view["replica_count"], 3, "{view}");
    for wanted in ["2", "3"] {
        let told = network.nodes[0].json(&["publish", &group, "--replicas", wanted]).unwrap();
        assert_eq!(told["replicas_wanted"].to_string(), wanted, "the answer tells what was asked for: {told}");
    }
}
