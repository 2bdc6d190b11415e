//! Certificates prove offline, and nothing but the exact bytes does.

use std::{fs, time::Duration};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    process::run,
    wait::until,
};

use crate::damage::files;

#[test]
fn a_certificate_verifies_with_the_genesis_alone_and_no_changed_byte_does() {
    let network = Network::trusted(4, "").unwrap();
    let data = bytes(3, 100_000);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    let node = &network.nodes[2];
    let view = node.json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    let empty = tempfile::tempdir().unwrap();
    let certificate = empty.path().join("c").to_string_lossy().into_owned();
    assert_eq!(node.run(&["cert", group, "-o", &certificate]).unwrap().status, 0);
    let genesis = network.genesis(empty.path()).unwrap();
    drop(network);

    let verify = || run(&["verify", &certificate, "--genesis", &genesis, "--json"]).unwrap();
    let valid = verify();
    assert_eq!(valid.status, 0, "{}", valid.stderr);
    let told = valid.json().unwrap();
    assert_eq!((&told["valid"], &told["class"], &told["claim"]), (&true.into(), &"full".into(), &"durable".into()));
    assert_eq!((&told["group_id"], &told["reason"]), (&group.into(), &"valid".into()));
    let valid_network = told["network_id"].clone();
    let more = run(&["verify", &certificate, "--genesis", &genesis, "--claim", "verified", "--json"]).unwrap();
    let refused = more.json().unwrap();
    assert_eq!((more.status, &refused["reason"], &refused["claim"]), (5, &"claim_too_low".into(), &"durable".into()));
    assert_eq!((&refused["signers"], &refused["quorum"]), (&told["signers"], &told["quorum"]));
    assert!(told["signers"].as_array().unwrap().len() >= 3);

    // The library test changes every byte; here a sample runs through the real program.
    let good = fs::read(&certificate).unwrap();
    for at in (0..good.len()).step_by(good.len() / 40) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        fs::write(&certificate, &bad).unwrap();
        let refused = verify();
        assert_eq!(refused.status, 5, "byte {at}: {}", String::from_utf8_lossy(&refused.stdout));
        let told = refused.json().unwrap();
        assert_eq!(told["valid"], false);
        let code = if at < 8 { "not_a_certificate" } else { "checksum" };
        assert_eq!((&told["reason"], &told["network_id"]), (&code.into(), &valid_network), "byte {at}");
    }
}

#[test]
fn the_content_is_checked_against_the_certificate_when_it_is_given() {
    let network = Network::trusted(4, "").unwrap();
    let data = bytes(4, 50_000);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    let node = &network.nodes[0];
    let view = node.json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    let file = |name: &str| network.temp.path().join(name).to_string_lossy().into_owned();
    let (certificate, encrypted) = (file("c"), file("e"));
    assert_eq!(node.run(&["cert", group, "-o", &certificate]).unwrap().status, 0);
    assert_eq!(node.run(&["get", group, "--state", "encrypted", "-o", &encrypted]).unwrap().status, 0);
    let genesis = network.genesis(network.temp.path()).unwrap();
    let verify = |content: &str| run(&["verify", &certificate, "--genesis", &genesis, "--content", content]).unwrap();
    assert_eq!(verify(&encrypted).status, 0);
    assert_eq!(verify(&path).status, 5, "the plaintext is not what the certificate names");
}

#[test]
fn a_verified_certificate_comes_from_validators_that_hashed_the_bytes_wherever_they_are() {
    let network = Network::trusted(4, "").unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(5, 400_000)).unwrap();
    let node = &network.nodes[0];
    // Three copies: one validator has to read them as they stream by.
    let view = node.json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    let refused = node.run(&["propose", group, "--claim", "certain"]).unwrap();
    assert_eq!(refused.status, 2, "{}", refused.stderr);
    let proposed = node.json(&["propose", group, "--claim", "verified", "--timeout", "60s"]).unwrap();
    assert_eq!((&proposed["outcome"], &proposed["claim"]), (&"approved".into(), &"verified".into()), "{proposed}");

    let certificate = network.temp.path().join("c").to_string_lossy().into_owned();
    let genesis = network.genesis(network.temp.path()).unwrap();
    let claim = || {
        let written = node.run(&["cert", group, "-o", &certificate]).unwrap();
        assert_eq!(written.status, 0, "{}", written.stderr);
        run(&["verify", &certificate, "--genesis", &genesis, "--json"]).unwrap().json().unwrap()["claim"].clone()
    };
    until("the stronger certificate", Duration::from_secs(30), || {
        ensure!(claim() == "verified");
        Ok(())
    })
    .unwrap();
    for claim in ["seen", "durable", "verified"] {
        let told = run(&["verify", &certificate, "--genesis", &genesis, "--claim", claim, "--json"]).unwrap();
        assert_eq!(told.status, 0, "{claim}: {}", String::from_utf8_lossy(&told.stdout));
    }
}

#[test]
fn nobody_signs_that_bytes_are_right_which_nobody_has_any_more() {
    let network = Network::trusted(4, "").unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(6, 400_000)).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    network.settled(0, group).unwrap();
    for node in &network.nodes {
        for path in files(&node.dir.join("blobs")) {
            let mut stored = fs::read(&path).unwrap();
            if stored.len() > 400_000 {
                stored[200_000] ^= 1;
                fs::write(path, stored).unwrap();
            }
        }
    }
    let asked = network.nodes[0].run(&["propose", group, "--claim", "verified", "--timeout", "5s", "--json"]).unwrap();
    let told = asked.json().unwrap();
    assert_eq!((asked.status, &told["accepts"]), (4, &0.into()), "{told}");
    let why: Vec<_> = told["abstained"].as_array().unwrap().iter().map(|silent| silent["reason"].clone()).collect();
    assert!(!why.is_empty() && why.iter().all(|why| why == "unavailable"), "{told}");
}
