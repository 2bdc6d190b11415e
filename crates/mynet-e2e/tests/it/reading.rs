//! Reading from nodes that hold nothing, or missed something: what is not durable yet, what was certified meanwhile.

use std::time::Duration;

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes, hash, wav},
    network::Network,
    process::run,
    wait::until,
};

#[test]
fn a_holder_that_was_down_when_the_certificate_came_shows_and_gives_it_after_its_return() {
    let mut network = Network::trusted(4, "").unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(20, 100_000)).unwrap();
    // Two of four are up: enough for W copies, one vote short of a certificate.
    for index in [2, 3] {
        assert_eq!(network.nodes[index].stop().unwrap(), 0);
    }
    let view = network.nodes[0].json(&["add", &path, "--replicas", "4", "--wait", "durable"]).unwrap();
    assert_eq!(view["wait_result"], "durable", "{view}");
    assert_eq!(view["consensus_achieved"], false, "{view}");
    let group = view["group_id"].as_str().unwrap().to_owned();

    // One holder goes, the others come: the certificate and the last receipts are made without it.
    assert_eq!(network.nodes[1].stop().unwrap(), 0);
    for index in [2, 3] {
        network.nodes[index].restart().unwrap();
    }
    let settled = network.settled(0, &group).unwrap();
    assert_eq!(settled["replica_count"], 4, "{settled}");
    // Whether their copies or the certificate came first, the holders that are up have it; lists ask nobody.
    for node in [&network.nodes[2], &network.nodes[3]] {
        until("the certificate to be at the holders", Duration::from_secs(60), || {
            let groups = node.json(&["ls"])?;
            ensure!(groups[0]["consensus_achieved"] == true, "{groups}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n{}", node.log_tail(), network.nodes[0].log_tail()));
    }

    // Its coordinator is gone when it comes back, so nobody owes it anything.
    assert_eq!(network.nodes[0].stop().unwrap(), 0);
    network.nodes[1].restart().unwrap();
    let holder = &network.nodes[1];
    let listed = until("the holder to learn what it missed", Duration::from_secs(60), || {
        let groups = holder.json(&["ls"])?;
        let view = groups.as_array().and_then(|groups| groups.first()).cloned().unwrap_or_default();
        ensure!(view["consensus_achieved"] == true && view["replica_count"] == 4, "{view}");
        Ok(view)
    });
    let listed = listed.unwrap_or_else(|error| panic!("{error:#}\n{}", holder.log_tail()));
    assert_eq!(listed["replication_status"], "replicated", "{listed}");
    assert_eq!(holder.json(&["show", &group]).unwrap()["consensus"]["certificate"], true);
    let certificate = network.temp.path().join("c").to_string_lossy().into_owned();
    let written = holder.run(&["cert", &group, "-o", &certificate]).unwrap();
    assert_eq!(written.status, 0, "{}", written.stderr);
    let genesis = network.temp.path().join("g").to_string_lossy().into_owned();
    assert_eq!(holder.run(&["genesis", "-o", &genesis]).unwrap().status, 0);
    assert_eq!(run(&["verify", &certificate, "--genesis", &genesis]).unwrap().status, 0);
}

#[test]
fn a_trusted_node_reads_every_state_of_a_group_that_is_not_durable_or_not_published() {
    let network = Network::trusted(2, "\n[replication]\nreplicas = 3\nquorum = 3\n").unwrap();
    let [origin, reader] = network.nodes.as_slice() else { panic!("there are two nodes") };
    for (seed, flags) in [(21, ["--no-publish", "--wait", "stored"]), (22, ["--wait", "durable", "--timeout=3s"])] {
        let song = wav(seed, 6);
        let path = content::file(network.temp.path(), "song.wav", &song).unwrap();
        let added = origin.run(&[&["add", &path, "--json"], &flags[..]].concat()).unwrap();
        let view = added.json().unwrap();
        assert_ne!(view["wait_result"], "durable", "{view}");
        let group = view["group_id"].as_str().unwrap();
        let states = view["states"].as_array().unwrap();
        assert_eq!(states.len(), 3, "{view}");
        for state in states {
            let name = state["state"].as_str().unwrap();
            let got = reader.bytes(&["get", group, "--state", name, "-o", "-"]).unwrap();
            assert_eq!(hash(&got), state["hash"], "{name}");
        }
        let part = reader.bytes(&["get", group, "--state", "decrypted", "--range", "65530-65545", "-o", "-"]).unwrap();
        assert!(part == song[65_530..65_546]);
        assert_eq!(std::fs::read_dir(reader.dir.join("staging")).unwrap().count(), 0, "spools are cleared away");
        assert!(reader.json(&["ls"]).unwrap().as_array().unwrap().is_empty(), "a reader is no holder");
    }
}
