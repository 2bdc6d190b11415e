//! Disks fail: flipped bytes are never served, full disks lose nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
};

/// Every file below `dir`.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn a_flipped_byte_in_a_stored_blob_is_never_served() {
    let network = Network::trusted(4, "").unwrap();
    let data = bytes(6, 300_000);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    let view = network.nodes[0].json(&["add", &path, "--replicas", "4", "--wait", "certified"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    network.settled(0, group).unwrap();
    let victim = &network.nodes[2];
    let blobs = files(&victim.dir.join("blobs"));
    let data_files: Vec<_> = blobs.iter().filter(|path| fs::metadata(path).unwrap().len() > 300_000).collect();
    assert!(!data_files.is_empty(), "the victim holds the blob");
    for path in data_files {
        let mut stored = fs::read(path).unwrap();
        stored[150_000] ^= 1;
        fs::write(path, stored).unwrap();
    }
    for _ in 0..3 {
        // Either the bytes come verified from elsewhere, or the read fails; other bytes never come.
        let got = victim.run(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap();
        if got.status == 0 {
            assert!(got.stdout == data, "damaged bytes were served");
        } else {
            assert!(data.starts_with(&got.stdout), "damaged bytes were served");
        }
    }
    // The others do not care.
    for node in [&network.nodes[0], &network.nodes[1], &network.nodes[3]] {
        assert_eq!(hash(&node.bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap()), hash(&data));
    }
}

#[test]
fn a_full_node_refuses_uploads_clearly_and_keeps_what_it_has() {
    let network = Network::trusted(1, "\n[storage]\ncapacity = \"1MiB\"\n").unwrap();
    let node = &network.nodes[0];
    let small = content::file(network.temp.path(), "small.bin", &bytes(7, 500_000)).unwrap();
    let view = node.json(&["add", &small, "--no-publish"]).unwrap();
    let group = view["group_id"].as_str().unwrap();
    let big = content::file(network.temp.path(), "big.bin", &bytes(8, 900_000)).unwrap();
    let refused = node.run(&["add", &big, "--no-publish"]).unwrap();
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("space"), "{}", refused.stderr);
    assert_eq!(node.bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap(), bytes(7, 500_000));
    assert_eq!(node.json(&["ls"]).unwrap().as_array().unwrap().len(), 1);
    assert!(files(&node.dir.join("staging")).is_empty(), "the refused upload left bytes behind");
}
