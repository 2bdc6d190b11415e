//! Full disks: uploads and copies are refused clearly, nothing is lost, and the node goes on when there is space again.

use std::{fs, time::Duration};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    disk::SmallDisk,
    network::{Network, Trust},
    process::Node,
    wait::until,
};

/// Room for the node's reserve of 64 MiB, its databases, and some content.
const DISK_MIB: u32 = 128;

/// Whether nothing unfinished lies on the node's disk.
fn has_no_staging(node: &Node) -> bool {
    fs::read_dir(node.dir.join("staging")).unwrap().next().is_none()
}

fn decrypted(node: &Node, group: &str) -> Vec<u8> {
    node.bytes(&["get", group, "--state", "decrypted", "-o", "-"]).unwrap()
}

#[test]
fn an_upload_to_a_full_disk_is_refused_clearly_and_leaves_nothing() {
    let mut network = Network::trusted(1, "").unwrap();
    let disk = SmallDisk::mount(&network.next_dir(), DISK_MIB).unwrap();
    network.join(Trust::Trusted, &[]).unwrap();
    let node = &network.nodes[1];
    let data = bytes(31, 5_000_000);
    let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
    let kept = node.json(&["add", &path, "--no-publish"]).unwrap();
    let kept = kept["group_id"].as_str().unwrap();

    let big = content::file(network.temp.path(), "big.bin", &bytes(32, 70_000_000)).unwrap();
    let refused = node.run(&["add", &big, "--no-publish"]).unwrap();
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("no space"), "{}", refused.stderr);
    assert!(has_no_staging(node), "the refused upload left bytes");

    // Another program takes all that was left, the reserve too.
    disk.fill(0).unwrap();
    let small = content::file(network.temp.path(), "small.bin", &bytes(33, 1000)).unwrap();
    let refused = node.run(&["add", &small, "--no-publish", "--json"]).unwrap();
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("no_space"), "{}", refused.stderr);
    assert!(has_no_staging(node), "the refused upload left bytes");
    assert!(decrypted(node, kept) == data, "what was there is still served");
    assert_eq!(node.json(&["ls"]).unwrap().as_array().unwrap().len(), 1);

    disk.free().unwrap();
    let group = node.json(&["add", &small, "--no-publish"]).unwrap();
    assert!(decrypted(node, group["group_id"].as_str().unwrap()) == bytes(33, 1000));
}

#[test]
fn a_holder_with_a_full_disk_delays_nobody_and_takes_its_copy_when_there_is_space() {
    let mut network = Network::trusted(3, "").unwrap();
    let disk = SmallDisk::mount(&network.next_dir(), DISK_MIB).unwrap();
    network.join(Trust::Trusted, &[]).unwrap();
    network.formed(4).unwrap();
    let (origin, full) = (&network.nodes[0], &network.nodes[3]);
    let data = bytes(34, 3_000_000);

    // Too little beyond the reserve; then nothing at all, so that not even the database can grow.
    for (seed, left) in [(1, 66 * 1024 * 1024), (2, 0)] {
        disk.fill(left).unwrap();
        let name = format!("data{seed}.bin");
        let path = content::file(network.temp.path(), &name, &data).unwrap();
        let added = origin.json(&["add", &path, "--replicas", "4", "--wait", "certified"]).unwrap();
        let group = added["group_id"].as_str().unwrap();
        let holders = added["replicated_on_peers"].as_array().unwrap();
        assert!(!holders.iter().any(|holder| holder == full.id.as_str()), "{added}");
        let listed = full.json(&["ls"]).unwrap();
        assert!(listed.as_array().unwrap().iter().all(|known| known["group_id"] != group), "a part is visible");

        disk.free().unwrap();
        until("the copy that was owed", Duration::from_secs(120), || {
            let view = origin.json(&["show", group])?;
            ensure!(view["replica_count"] == 4 && view["replication_status"] == "replicated", "{view}");
            Ok(())
        })
        .unwrap_or_else(|error| panic!("{error:#}\n{}\n--\n{}", full.log_tail(), origin.log_tail()));
        assert!(decrypted(full, group) == data);
        assert!(has_no_staging(full));
    }
}
