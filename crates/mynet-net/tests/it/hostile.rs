//! Admitted peers that break every rule of the frame.

use std::{sync::atomic::Ordering, time::Duration};

use iroh::endpoint::Connection;
use mynet_net::{
    Limits,
    frame::{HEADER_BYTES, Header, frame, read_answer},
    table,
};
use mynet_types::rpc::{Request, Response};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use tokio::time::timeout;

use crate::kit::{DEADLINE, NETWORK, Raw, TestNode, anywhere, id, limits, message, question, say, until};

/// A node and a greeted connection of a peer that it admits.
async fn visited(limits: Limits) -> (TestNode, Raw, Connection) {
    let node = TestNode::start_with(2, anywhere(), NETWORK, limits).await;
    node.door.admitted.lock().unwrap().insert(id(3));
    let raw = Raw::start(3).await;
    let connection = raw.greeted(&node).await;
    (node, raw, connection)
}

fn header(kind: u16, len: u32) -> Vec<u8> {
    Header { version: 1, kind, len }.to_bytes().to_vec()
}

fn good() -> (u16, Vec<u8>) {
    let kind = table::of_request(&question()).number;
    (kind, frame(kind, &question()).to_vec())
}

#[tokio::test]
async fn an_unknown_kind_is_answered_unsupported_and_the_stream_goes_on() {
    let (node, _raw, connection) = visited(limits()).await;
    let (kind, good) = good();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(&[header(0x7777, 3), vec![1, 2, 3], good].concat()).await.unwrap();
    let unsupported: Response = read_answer(&mut recv, 0x7777, 64).await.unwrap();
    assert_eq!(unsupported, Response::Unsupported);
    let answer: Response = read_answer(&mut recv, kind, 64).await.unwrap();
    assert_eq!(answer, Response::NotHere);
    assert_eq!(node.net.stats().unknown_kinds, 1);
}

/// Says `bytes`, wants a refusal with `reason`, and the end of that stream but not of the connection.
async fn is_refused(connection: &Connection, kind: u16, bytes: &[u8], reason: &str) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    let answer = timeout(DEADLINE, read_answer(&mut recv, kind, 1_024)).await.expect("an answer in time");
    let Response::Failed(text) = answer.unwrap() else { panic!("no refusal") };
    assert!(text.contains(reason), "{text}");
    assert!(timeout(DEADLINE, recv.read_to_end(1)).await.expect("an end in time").unwrap().is_empty());
    let (kind, good) = good();
    assert_eq!(say(connection, &good, kind).await, Response::NotHere);
}

#[tokio::test]
async fn broken_rules_are_told_counted_and_end_only_their_stream() {
    let (node, _raw, connection) = visited(limits()).await;
    let (kind, good) = good();
    is_refused(&connection, kind, &header(kind, 4 * 1024 + 1), "larger than its kind").await;
    assert_eq!(node.net.stats().oversized, 1);
    is_refused(&connection, 0x7777, &header(0x7777, u32::MAX), "larger than any kind").await;
    let mut junk = good.clone();
    junk[HEADER_BYTES] = 0xff;
    is_refused(&connection, kind, &junk, "malformed").await;
    let query = table::of_message(&message(1)).number;
    let smuggled = frame(query, &question());
    is_refused(&connection, query, &smuggled, "malformed").await;
    assert_eq!(node.net.stats().malformed, 2);
    is_refused(&connection, 0x0011, &header(0x0011, 10), "knock protocol").await;
    let hello = frame(0x0001, &mynet_net::hello::Hello { instance: 1 });
    is_refused(&connection, 0x0001, &hello, "not at this point").await;
    assert_eq!(node.net.stats().forbidden, 2);
    let later = [Header { version: 2, kind, len: 1 }.to_bytes().to_vec(), vec![0]].concat();
    is_refused(&connection, kind, &later, "another wire version").await;
    assert_eq!(node.net.stats().other_versions, 1);
}

#[tokio::test]
async fn slow_senders_lose_their_stream() {
    let quick = Duration::from_millis(100);
    let (node, _raw, connection) = visited(Limits { first_byte: quick, control: quick, ..limits() }).await;
    let (kind, good) = good();
    for sent in [0, 1, HEADER_BYTES, good.len() - 1] {
        let before = node.net.stats().timed_out;
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        // A stream exists for the peer only once something was sent or it was finished; priority alone sends nothing.
        send.write_all(&good[..sent.max(1)]).await.unwrap();
        let ended = timeout(DEADLINE, recv.read_to_end(64)).await.expect("an end in time");
        assert!(ended.is_err(), "reset after {sent} bytes");
        assert_eq!(node.net.stats().timed_out, before + 1);
    }
    assert_eq!(say(&connection, &good, kind).await, Response::NotHere);
}

#[tokio::test]
async fn more_streams_than_allowed_wait_and_control_is_served_besides_held_ranges() {
    let (node, _raw, connection) = visited(limits()).await;
    *node.service.blob.lock().unwrap() = crate::kit::Blob::Silent;
    let range = Request::Range { sha256: mynet_types::ContentHash([1; 32]), offset: 0, len: 9 };
    let number = table::of_request(&range).number;
    let mut held = Vec::new();
    for _ in 0..limits().ranges_per_peer {
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&frame(number, &range)).await.unwrap();
        let head: Response = read_answer(&mut recv, number, 64).await.unwrap();
        assert!(matches!(head, Response::Range { .. }));
        held.push((send, recv));
    }
    assert_eq!(say(&connection, &frame(number, &range), number).await, Response::Busy);
    let (kind, good) = good();
    assert_eq!(say(&connection, &good, kind).await, Response::NotHere);
    let mut open = Vec::new();
    let streams = usize::try_from(limits().streams_per_peer).unwrap();
    while let Ok(stream) = timeout(Duration::from_millis(300), connection.open_bi()).await {
        open.push(stream.unwrap());
        assert!(held.len() + open.len() <= streams);
    }
    assert!(!open.is_empty(), "held ranges leave room");
}

#[tokio::test]
async fn junk_on_any_stream_hurts_nobody() {
    let (node, raw, connection) = visited(Limits { first_byte: Duration::from_millis(50), ..limits() }).await;
    let knocking = raw.connect(&node, "mynet-knock/1").await.unwrap();
    let mut rng = SmallRng::seed_from_u64(0x6e65_7421);
    let kinds: Vec<u16> = table::KINDS.iter().map(|kind| kind.number).collect();
    for round in 0..400 {
        let mut bytes: Vec<u8> = (0..rng.random_range(0..200)).map(|_| rng.random()).collect();
        if rng.random_bool(0.7) {
            let kind = kinds[rng.random_range(0..kinds.len())];
            let claimed = if rng.random_bool(0.5) { bytes.len() as u32 } else { rng.random() };
            bytes.splice(0..0, header(kind, claimed));
        }
        let target = if round == 0 { &knocking } else { &connection };
        let Ok((mut send, mut recv)) = timeout(DEADLINE, target.open_bi()).await.expect("a stream in time") else {
            panic!("the connection was lost in round {round}: {:?}", target.close_reason());
        };
        // The node may have stopped reading by now, which is its right.
        let _stopped = send.write_all(&bytes).await;
        let _finished = send.finish();
        let _answer_or_reset = timeout(DEADLINE, recv.read_to_end(1 << 20)).await.expect("an end in time");
    }
    assert_eq!(node.service.messages.lock().unwrap().len(), 0);
    let (kind, good) = good();
    let before = node.service.requests.load(Ordering::Relaxed);
    assert_eq!(say(&connection, &good, kind).await, Response::NotHere);
    assert_eq!(node.service.requests.load(Ordering::Relaxed), before + 1);
    let stats = node.net.stats();
    assert!(stats.malformed > 0 && stats.oversized > 0 && stats.forbidden > 0, "{stats:?}");
    until("the junk knock is over", || node.net.stats().connections == 1).await;
}
