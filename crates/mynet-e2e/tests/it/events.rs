//! Events of a real node: many readers at once hear how groups come to be, though one of them does not read, and what that one costs.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::mpsc,
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
use socket2::{Domain, Socket, Type};

const READERS: usize = 19;
const GROUPS: u64 = 12;
/// How long all of it may take.
const FOLLOW_MAX: Duration = Duration::from_secs(300);
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
    let mut events =
        lines.filter_map(|line| line.strip_prefix("data: ").map(|data| serde_json::from_str::<Value>(data).unwrap()));
    let mut ended = false;
    std::iter::from_fn(move || {
        let event = if ended { None } else { events.next() }?;
        ended = event["kind"] == LAST;
        Some(event)
    })
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

/// Events that a node keeps, and what one of them takes in memory at most: what readers may cost, whatever they do.
const EVENTS_KEPT: u64 = 1024;
const EVENT_BYTES_MAX: u64 = 1024;
/// Readers beside the others that never read: several, so that what is kept for each shows soon.
const STUCK: usize = 4;
/// Groups that are published over and over, side by side: each time without nodes enough, and each time an event says so.
const SOURCES: usize = 4;
/// How often each is published before the readers must have caught up: far less than a reader may lag behind.
const BURST: usize = 50;
/// Bursts until the memory that the node works with is warm and the ring is full; and those after it, which the readers that do not
/// read have before them. Kept for those, or in a ring without an end, these would take twice what is allowed.
const BURSTS: (usize, usize) = (15, 30);

/// A reader over a connection that holds a few hundred events on both sides together.
fn narrow(node: &Node, token: &str) -> TcpStream {
    let addr: SocketAddr = node.api.strip_prefix("http://").unwrap().parse().unwrap();
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    // The other side's kernel sizes its buffer by the segments that this one takes.
    socket.set_tcp_mss(536).unwrap();
    socket.set_read_timeout(Some(FOLLOW_MAX)).unwrap();
    socket.connect(&addr.into()).unwrap();
    let mut stream = TcpStream::from(socket);
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    stream
}

/// The number in the id of an event.
fn number(event: &Value) -> u64 {
    event["id"].as_str().and_then(|id| id.split_once('-')).unwrap().1.parse().unwrap()
}

/// Uploads a few bytes without replicating them, and returns the group.
fn upload(node: &Node, token: &str, body: String) -> String {
    let url = format!("{}/api/v1/content?publish=false", node.api);
    let answer = client().post(url).bearer_auth(token).body(body).send().unwrap();
    answer.json::<Value>().unwrap()["group_id"].as_str().unwrap().to_owned()
}

/// Publishes each source over and over, then uploads a marker; returns when every reader has told of it.
fn burst(node: &Node, token: &str, (sources, marker): (&[String], usize), heard: &mpsc::Receiver<String>) {
    thread::scope(|scope| {
        for group in sources {
            scope.spawn(move || {
                let (client, url) = (client(), format!("{}/api/v1/content/{group}/publish?wait=durable", node.api));
                for _ in 0..BURST {
                    let view: Value = client.post(&url).bearer_auth(token).send().unwrap().json().unwrap();
                    assert_eq!(view["wait_result"], "not_enough_targets", "{view}");
                }
            });
        }
    });
    let marker = upload(node, token, format!("marker {marker}"));
    for _ in 0..READERS {
        assert_eq!(heard.recv_timeout(FOLLOW_MAX).expect("every reader goes on"), marker);
    }
}

/// What a reader that has not read gets at last: numbers of events until `last` or the end of its connection, and how many it is told
/// that it missed.
fn read_late(stuck: TcpStream, last: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut missed) = (Vec::new(), 0);
    // A connection that the node gave up ends, or breaks off.
    for line in BufReader::new(stuck).lines().map_while(Result::ok) {
        let Some(data) = line.strip_prefix("data: ") else { continue };
        // The last line of a connection that broke off is not whole.
        let Ok(event) = serde_json::from_str::<Value>(data) else { break };
        match event["missed"].as_u64() {
            Some(some) => missed += some,
            None => numbers.push(number(&event)),
        }
        if numbers.last() == Some(&last) {
            break;
        }
    }
    (numbers, missed)
}

#[test]
fn readers_that_never_read_cost_the_others_no_event_and_the_node_no_memory() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let token = node.json(&["token", "create", "--name", "w", "--scope", "write"]).unwrap();
    let token = token["token"].as_str().unwrap();
    let sources: Vec<String> = (0..SOURCES).map(|source| upload(node, token, format!("source {source}"))).collect();

    let (tell, heard) = mpsc::channel();
    let readers: Vec<_> = (0..READERS).map(|_| (follow(node, token, None), tell.clone())).collect();
    drop(tell);
    let readers = readers.into_iter().map(|(events, tell)| {
        thread::spawn(move || {
            let mut numbers = Vec::new();
            for event in events {
                assert!(numbers.last().is_none_or(|last| *last + 1 == number(&event)), "a gap before {event}");
                assert_ne!(event["kind"], "lost", "{event}");
                numbers.push(number(&event));
                if event["kind"] == "stored" {
                    tell.send(event["group_id"].as_str().unwrap().to_owned()).unwrap();
                }
            }
            numbers
        })
    });
    let readers: Vec<_> = readers.collect();

    let mut numbers = 0..;
    let mut next = || burst(node, token, (&sources, numbers.next().unwrap()), &heard);
    (0..BURSTS.0).for_each(|_| next());
    let before = node.memory_bytes().unwrap();
    let stuck: Vec<TcpStream> = (0..STUCK).map(|_| narrow(node, token)).collect();
    // The most that it ever was: what is kept for a reader is free again once its connection was given up.
    let during = (0..BURSTS.1).map(|_| {
        next();
        node.memory_bytes().unwrap()
    });
    let grown = during.max().unwrap().saturating_sub(before);
    node.json(&["rm", &sources[0]]).unwrap();

    let told: Vec<Vec<u64>> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(told.iter().all(|numbers| *numbers == told[0]), "everybody hears the same");
    let (first, last) = (told[0][0], *told[0].last().unwrap());
    assert!(last - first > EVENTS_KEPT * 8, "{} events are too few to show anything", last - first);
    assert!(grown <= EVENTS_KEPT * EVENT_BYTES_MAX, "{grown} bytes more after {} events", last - first);

    for stuck in stuck {
        let (numbers, missed) = read_late(stuck, last);
        assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        let all = last - numbers[0] + 1;
        // It was told how many it missed, or given up because it did not read.
        let told = missed > 0 && numbers.len() as u64 + missed == all;
        let given_up = missed == 0 && numbers.last().unwrap() < &last;
        assert!(told || given_up, "{} events and {missed} missed of {all}", numbers.len());
    }
}
