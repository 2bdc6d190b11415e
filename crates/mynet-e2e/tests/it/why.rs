//! What the program says about where a group is: `why`, `history` and the plan of a publication.

use std::time::Duration;

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    network::Network,
    wait::until,
};
use serde_json::Value;

fn codes(log: &Value) -> Vec<&str> {
    log.as_array().unwrap().iter().map(|line| line["code"].as_str().unwrap()).collect()
}

fn copy<'a>(why: &'a Value, node: &str) -> &'a Value {
    why["copies"].as_array().unwrap().iter().find(|copy| copy["node_id"] == node).unwrap()
}

/// The nodes of copies or seats that are said to be out of reach.
fn unreachable(list: &Value) -> Vec<&str> {
    let hindered = list.as_array().unwrap().iter().filter(|entry| entry["hindered_by"]["code"] == "unreachable");
    hindered.map(|entry| entry["node_id"].as_str().unwrap()).collect()
}

#[test]
fn a_copy_that_is_missing_is_named_with_its_reason_and_every_node_tells_its_part() {
    let mut network = Network::trusted(3, "").unwrap();
    network.formed(3).unwrap();
    let away = network.nodes[2].id.clone();
    network.nodes[2].kill().unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(50, 400_000)).unwrap();
    let (origin, holder) = (&network.nodes[0], &network.nodes[1]);
    let group = origin.json(&["add", &path]).unwrap()["group_id"].as_str().unwrap().to_owned();

    let why = until("the node that is away to be missed", Duration::from_secs(60), || {
        let why = origin.json(&["why", &group])?;
        ensure!(!unreachable(&why["copies"]).is_empty(), "{why}");
        Ok(why)
    })
    .unwrap();
    assert_eq!((&why["role"], &why["replication_status"]), (&"origin".into(), &"degraded".into()), "{why}");
    let owed = copy(&why, &away);
    assert_eq!((unreachable(&why["copies"]), unreachable(&why["seats"])), (vec![&away[..]], vec![&away[..]]), "{why}");
    assert!(owed["state"] == "asked" && owed["next_try_seconds"].is_u64() && owed["until"].is_null(), "{owed}");
    assert_eq!(copy(&why, &holder.id)["state"], "held");
    assert!(copy(&why, &holder.id)["until"].is_string());
    let candidates = why["placement"]["candidates"].as_array().unwrap();
    assert!(candidates.len() == 3 && candidates.iter().all(|candidate| candidate["chosen"] == true), "{why}");
    assert!(why["decrypted"]["granted"].as_array().unwrap().contains(&holder.id.as_str().into()), "{why}");
    // Three validators need three votes, and one is away.
    let seats = why["seats"].as_array().unwrap();
    let missing: Vec<&Value> =
        seats.iter().filter(|seat| seat["said"].is_null()).map(|seat| &seat["node_id"]).collect();
    assert_eq!(missing, [away.as_str()], "{why}");
    assert!(why["summary"][0].as_str().unwrap().contains("cannot be reached"), "{why}");
    let text = String::from_utf8(origin.bytes(&["why", &group]).unwrap()).unwrap();
    assert!(text.lines().count() < 30 && text.contains("durable, with 2 of 3 copies"), "{text}");
    let owed_here = text.lines().any(|line| line.starts_with(&away[..10]) && line.contains("unreachable, next try in"));
    assert!(owed_here, "{text}");

    let mine = origin.json(&["history", &group]).unwrap();
    for code in ["published", "target_chosen", "prepare_sent", "prepared", "commit_logged", "receipt_kept", "durable"] {
        assert!(codes(&mine).contains(&code), "{code}: {mine}");
    }
    let theirs = holder.json(&["history", &group]).unwrap();
    for code in ["asked_to_hold", "batch_verified", "prepared_here", "committed_here", "voted_accept"] {
        assert!(codes(&theirs).contains(&code), "{code}: {theirs}");
    }
    assert!(!codes(&theirs).contains(&"published"), "each tells what it knows itself");

    // It is back: nothing is owed, and the log, which survived a restart of its own, says how it went on.
    network.nodes[0].stop().unwrap();
    network.nodes[0].restart().unwrap();
    network.nodes[2].restart().unwrap();
    let origin = &network.nodes[0];
    until("the copy that was owed", Duration::from_secs(60), || {
        let why = origin.json(&["why", &group])?;
        ensure!(why["replication_status"] == "replicated" && why["consensus"]["outcome"] == "approved", "{why}");
        ensure!(why["copies"].as_array().is_some_and(|copies| copies.iter().all(|copy| copy["state"] == "held")));
        Ok(())
    })
    .unwrap();
    let mine = origin.json(&["history", &group]).unwrap();
    for code in ["published", "replicated", "certified"] {
        assert!(codes(&mine).contains(&code), "{code}: {mine}");
    }
    // Zeros at the end of a fraction are left out, so the letter after it must not take part.
    let last = mine.as_array().unwrap().iter().map(|line| line["last"].as_str().unwrap().trim_end_matches('Z'));
    let last: Vec<&str> = last.collect();
    assert!(last.is_sorted(), "{mine}");
    assert_eq!(origin.run(&["why", &"0".repeat(64)]).unwrap().status, 3);

    // A copy that is there counts, and whoever asks is told that its node is not.
    network.nodes[2].kill().unwrap();
    let origin = &network.nodes[0];
    until("the holder that went away to be missed", Duration::from_secs(60), || {
        let why = origin.json(&["why", &group])?;
        let gone = copy(&why, &away);
        ensure!(gone["state"] == "held" && gone["hindered_by"]["code"] == "unreachable", "{why}");
        ensure!(why["summary"][0].as_str().is_some_and(|says| says.contains("cannot be reached now")), "{why}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_plan_says_who_gets_what_and_why_and_what_stands_in_the_way_before_anything_runs() {
    let mut network = Network::trusted(2, "").unwrap();
    network.formed(2).unwrap();
    let path = content::file(network.temp.path(), "data.bin", &bytes(51, 300_000)).unwrap();
    let origin = &network.nodes[0];
    let group = origin.json(&["add", &path, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned();
    let dry = ["publish", &group, "--dry-run"];
    let plan = origin.json(&dry).unwrap();
    assert_eq!((&plan["quorum"], &plan["replicas"], &plan["eligible"]), (&2.into(), &3.into(), &2.into()), "{plan}");
    let warned =
        |plan: &Value, code: &str| plan["warnings"].as_array().unwrap().iter().any(|warning| warning["code"] == code);
    assert!(warned(&plan, "fewer_copies") && !warned(&plan, "too_few_nodes"), "{plan}");
    let all = origin.json(&["publish", &group, "--dry-run", "--mode", "all"]).unwrap();
    assert!(warned(&all, "too_few_nodes") && all["mode"] == "all" && all["quorum"] == 3, "{all}");
    let of = |plan: &Value, node: &str| {
        plan["targets"].as_array().unwrap().iter().find(|target| target["node_id"] == node).unwrap().clone()
    };
    let (here, there) = (of(&plan, &origin.id), of(&plan, &network.nodes[1].id));
    assert_eq!((&here["known_by"], &here["bytes"], &here["held"]), (&"origin".into(), &0.into(), &true.into()));
    assert_eq!((&there["known_by"], &there["held"]), (&"unknown".into(), &false.into()));
    assert!(there["bytes"].as_u64().unwrap() >= 300_000 && plan["bytes"] == there["bytes"], "{plan}");
    let decrypted = there["batches"].as_array().unwrap().iter().find(|batch| batch["state"] == "decrypted").unwrap();
    assert!(decrypted["bytes"] == 0 && decrypted["why"].as_str().unwrap().contains("granted"), "{there}");
    let untouched = origin.json(&["why", &group]).unwrap();
    assert_eq!(untouched["replication_status"], "none", "{untouched}");
    assert_eq!(codes(&untouched["log"]), ["preview_unsupported"], "a plan is nothing that happened");

    assert_eq!(origin.run(&["publish", &group]).unwrap().status, 0);
    let plan = origin.json(&dry).unwrap();
    let there = of(&plan, &network.nodes[1].id);
    assert_eq!((&there["known_by"], &there["held"], &plan["bytes"]), (&"receipt".into(), &true.into(), &0.into()));
    network.nodes[1].kill().unwrap();
    let path = content::file(network.temp.path(), "more.bin", &bytes(52, 1_000)).unwrap();
    let origin = &network.nodes[0];
    let group = origin.json(&["add", &path, "--no-publish"]).unwrap()["group_id"].as_str().unwrap().to_owned();
    until("the plan to warn of a node that is away", Duration::from_secs(30), || {
        let plan = origin.json(&["publish", &group, "--dry-run"])?;
        ensure!(warned(&plan, "unreachable"), "{plan}");
        Ok(())
    })
    .unwrap();
}
