//! Power cuts during uploads: what was acknowledged is whole, what was not leaves nothing.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Done, run},
    wait::until,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

/// Uploads of one run.
const UPLOADS: u64 = 50;
/// W of the default settings.
const QUORUM: usize = 2;
/// Short leases, so that the test need not wait ten minutes for them.
const SETTINGS: &str = "\n[replication]\nlease = \"5s\"\nreceiving_lease = \"3s\"\nprepare_timeout = \"1s\"\n";

/// The bytes of upload `seed`; sizes from nothing to 2 MiB.
fn data(seed: u64) -> Vec<u8> {
    bytes(1000 + seed, usize::try_from(seed * seed * 839 % (2 * 1024 * 1024)).unwrap())
}

/// A reader must see all states of a group, or not the group.
fn check_whole(listing: &Value) {
    for group in listing.as_array().into_iter().flatten() {
        for state in group["states"].as_array().unwrap() {
            assert_ne!(state["held"], "no", "a partial group is visible: {group}");
        }
    }
}

/// Uploads through a node that may die at any moment; returns the group if it was acknowledged.
fn upload(dir: &str, path: &str) -> Result<Option<String>> {
    let done: Done = run(&[
        "add",
        path,
        "--type",
        "document",
        "--wait",
        "durable",
        "--timeout",
        "20s",
        "--json",
        "--data-dir",
        dir,
    ])?;
    if done.status != 0 {
        return Ok(None);
    }
    let view = done.json()?;
    ensure!(view["wait_result"] == "durable", "{view}");
    Ok(view["group_id"].as_str().map(str::to_owned))
}

#[test]
fn acknowledged_groups_survive_power_cuts_at_random_moments_and_nothing_partial_is_ever_seen() {
    let network = Network::trusted(4, SETTINGS).unwrap();
    let temp = network.temp.path().to_owned();
    let dirs: Vec<String> = network.nodes.iter().map(|node| node.dir_arg().to_owned()).collect();
    let nodes: Vec<Mutex<_>> = network.nodes.into_iter().map(Mutex::new).collect();
    let done = AtomicBool::new(false);
    let acknowledged: Mutex<BTreeMap<u64, String>> = Mutex::new(BTreeMap::new());

    thread::scope(|scope| {
        scope.spawn(|| {
            let mut rng = ChaCha8Rng::seed_from_u64(7);
            while !done.load(Ordering::Relaxed) {
                let victim = &nodes[usize::try_from(rng.next_u32() % 4).unwrap()];
                thread::park_timeout(Duration::from_millis(u64::from(rng.next_u32() % 1500)));
                let mut node = victim.lock().unwrap();
                node.kill().unwrap();
                thread::park_timeout(Duration::from_millis(u64::from(rng.next_u32() % 300)));
                node.restart().unwrap();
            }
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for dir in &dirs {
                    let seen = run(&["ls", "--json", "--data-dir", dir]).unwrap();
                    if seen.status == 0 {
                        check_whole(&seen.json().unwrap());
                    }
                }
            }
        });
        for seed in 0..UPLOADS {
            let path = content::file(&temp, &format!("upload{seed}.bin"), &data(seed)).unwrap();
            if let Some(group) = upload(&dirs[usize::try_from(seed % 4).unwrap()], &path).unwrap() {
                acknowledged.lock().unwrap().insert(seed, group);
            }
        }
        done.store(true, Ordering::Relaxed);
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    assert!(acknowledged.len() >= 10, "only {} uploads were acknowledged: the test shows nothing", acknowledged.len());
    let nodes: Vec<_> = nodes.into_iter().map(|node| node.into_inner().unwrap()).collect();
    for (seed, group) in &acknowledged {
        let want = data(*seed);
        until(&format!("{group} to be whole on {QUORUM} nodes"), Duration::from_secs(60), || {
            let mut holders = 0;
            for node in &nodes {
                let view = node.json(&["show", group])?;
                let held =
                    view["states"].as_array().is_some_and(|states| states.iter().all(|state| state["held"] != "no"));
                if held {
                    let got = node.bytes(&["get", group, "--state", "decrypted", "-o", "-"])?;
                    ensure!(hash(&got) == hash(&want), "{} serves other bytes", node.id);
                    holders += 1;
                }
            }
            ensure!(holders >= QUORUM, "{holders} holders");
            Ok(())
        })
        .unwrap();
    }
    for node in &nodes {
        until(&format!("staging of {} to be empty", node.id), Duration::from_secs(60), || {
            let left: Vec<_> = fs::read_dir(node.dir.join("staging"))?.collect::<Result<_, _>>()?;
            ensure!(left.is_empty(), "{left:?}\n{}", node.log_tail());
            Ok(())
        })
        .unwrap();
    }
}
