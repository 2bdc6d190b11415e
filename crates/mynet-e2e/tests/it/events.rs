//! Events of a real node: many readers at once hear how groups come to be, though one of them does not read. What a stuck reader
//! costs is a test of `mynet-api`, which can tell more events than any buffer holds.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    thread,
    time::Duration,
};

use mynet_e2e::{
    content::{self, bytes},
    http::{client, connect},
    network::Network,
    process::Node,
};
use serde_json::Value;

const READERS: usize = 19;
const GROUPS: u64 = 12;
/// How long all of it may take.
const FOLLOW_MAX: Duration = Duration::from_secs(120);
/// The kinds that every group has once.
const ONCE: [&str; 3] = ["stored", "durable", "certified"];
/// Deletes the marker group last: readers have everything when they hear of it.
const LAST: &str = "deleted";

/// Reads events from behind `after` until that of a deletion.
fn follow(node: &Node, token: &str, after: Option<&str>) -> impl Iterator<Item = Value> + use<> {
    let mut request = client().get(format!("{}/api/v1/events", node.api)).bearer_auth(token).timeout(FOLLOW_MAX);
    if let Some(after) = after {
        request = request.header("Last-Event-ID", after);
    }
    let answer = request.send().unwrap();
    assert_eq!(answer.status(), 200);
    let lines = BufReader::new(answer).lines().map(Result::unwrap);
    let mut ended = false;
    lines
        .filter_map(|line| line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap()))
        .take_while(move |event| !std::mem::replace(&mut ended, event["kind"] == LAST))
}

/// How often each kind was told of each group.
fn count(events: &[Value]) -> BTreeMap<(String, String), usize> {
    let mut counts = BTreeMap::new();
    for event in events {
        let key = (event["group_id"].to_string(), event["kind"].as_str().unwrap().to_owned());
        *counts.entry(key).or_insert(0) += 1;
    }
    counts
}

#[test]
fn twenty_readers_hear_of_every_group_though_one_of_them_never_reads() {
    let network = Network::trusted(4, "").unwrap();
    let node = &network.nodes[0];
    let token = node.json(&["token", "create", "--name", "reader"]).unwrap()["token"].as_str().unwrap().to_owned();
    let mut stuck = connect(&node.api).unwrap();
    write!(stuck, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    let readers: Vec<_> = (0..READERS).map(|_| follow(node, &token, None)).collect();
    let readers: Vec<_> = readers.into_iter().map(|events| thread::spawn(|| events.collect::<Vec<_>>())).collect();

    let mut groups = Vec::new();
    for number in 0..GROUPS {
        let path = content::file(network.temp.path(), "file.bin", &bytes(100 + number, 20_000)).unwrap();
        let view = node.json(&["add", &path, "--wait", "certified"]).unwrap();
        groups.push(view["group_id"].clone());
        network.settled(0, view["group_id"].as_str().unwrap()).unwrap();
    }
    node.json(&["rm", groups[0].as_str().unwrap()]).unwrap();

    let told: Vec<Vec<Value>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    for events in &told {
        assert_eq!(events, &told[0], "everybody hears the same");
        assert!(events.iter().all(|event| event["kind"] != "lost"), "{events:?}");
        let counts = count(events);
        for (group, kind) in groups.iter().flat_map(|group| ONCE.map(|kind| (group.to_string(), kind))) {
            assert_eq!(counts.get(&(group.clone(), kind.to_owned())), Some(&1), "{kind} of {group}");
        }
    }
    // Whoever comes back hears the rest.
    let middle = told[0].len() / 2;
    let rest: Vec<Value> = follow(node, &token, told[0][middle].get("id").and_then(Value::as_str)).collect();
    assert_eq!(rest, told[0][middle + 1..]);
    drop(stuck);
}
