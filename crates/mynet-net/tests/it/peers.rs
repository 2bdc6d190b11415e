//! Keeping connections: both dial, one stays; lost ones come back; unwanted ones go.

use std::time::Duration;

use mynet_net::{DialError, Limits, NetEvent, RequestError};
use mynet_types::rpc::Response;
use tokio::time::timeout;

use crate::kit::{DEADLINE, NETWORK, TestNode, anywhere, limits, pair, pair_with, question, until};

#[tokio::test]
async fn nodes_that_dial_each_other_at_once_keep_one_connection() {
    for _ in 0..10 {
        let (mut a, mut b) = pair().await;
        a.keep(&[&b]);
        b.keep(&[&a]);
        assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
        assert_eq!(b.event().await, NetEvent::PeerUp(a.net.node_id()));
        let dialed = |node: &TestNode, other: &TestNode| node.net.peer_stats(&other.net.node_id()).map(|s| s.dialed);
        // The loser may be gone before the winner's greeting is through.
        until("one connection is left, the same on both sides", || {
            let one = a.net.stats().connections == 1 && b.net.stats().connections == 1;
            one && dialed(&a, &b).is_some_and(|by_a| dialed(&b, &a) == Some(!by_a))
        })
        .await;
        assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::NotHere);
        assert_eq!(b.net.request(a.net.node_id(), question()).await.unwrap(), Response::NotHere);
        assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err(), "nobody saw the other go");
    }
}

#[tokio::test]
async fn requests_survive_a_simultaneous_dial() {
    for _ in 0..10 {
        let (a, b) = pair().await;
        let (to_b, to_a) = (a.net.request(b.net.node_id(), question()), b.net.request(a.net.node_id(), question()));
        let (at_b, at_a) = tokio::join!(to_b, to_a);
        assert_eq!((at_b.unwrap(), at_a.unwrap()), (Response::NotHere, Response::NotHere));
    }
}

#[tokio::test]
async fn a_network_forms_by_itself() {
    let mut nodes = Vec::new();
    for n in 1..=4 {
        nodes.push(TestNode::start(n).await);
    }
    for node in &nodes {
        let others: Vec<_> = nodes.iter().filter(|other| other.net.node_id() != node.net.node_id()).collect();
        others.iter().for_each(|other| node.admit(other));
        node.keep(&others);
    }
    for node in &mut nodes {
        for _ in 0..3 {
            assert!(matches!(node.event().await, NetEvent::PeerUp(_)));
        }
    }
}

#[tokio::test]
async fn a_peer_that_stops_is_down_and_up_again_when_it_is_back() {
    let (mut a, b) = pair_with(Limits { dial: Duration::from_millis(500), ..limits() }).await;
    a.keep(&[&b]);
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    let (node, addr) = (b.net.node_id(), b.net.local_addr());
    b.net.shutdown().await;
    drop(b);
    assert_eq!(a.event().await, NetEvent::PeerDown(node));
    assert!(!a.is_connected(node));
    let b = TestNode::start_with(2, addr, NETWORK, limits()).await;
    b.admit(&a);
    assert_eq!(a.event().await, NetEvent::PeerUp(node));
    assert_eq!(a.net.request(node, question()).await.unwrap(), Response::NotHere);
}

/// Runs a node in a runtime of its own, so that it can die without a word.
fn doomed(n: u8, listen: std::net::SocketAddr, friend: &TestNode) -> (tokio::runtime::Runtime, TestNode) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = std::thread::scope(|scope| {
        let start = || runtime.block_on(TestNode::start_with(n, listen, NETWORK, limits()));
        scope.spawn(start).join().unwrap()
    });
    node.admit(friend);
    (runtime, node)
}

#[tokio::test]
async fn a_peer_that_dies_silently_is_down_within_the_idle_limit_and_one_dial() {
    let (idle, dial) = (Duration::from_secs(2), Duration::from_millis(500));
    let quick = Limits { idle, dial, keep_alive: Duration::from_millis(500), ..limits() };
    let mut a = TestNode::start_with(1, anywhere(), NETWORK, quick).await;
    let (runtime, b) = doomed(2, anywhere(), &a);
    a.admit(&b);
    a.keep(&[&b]);
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    let died = tokio::time::Instant::now();
    runtime.shutdown_background();
    assert_eq!(a.event().await, NetEvent::PeerDown(b.net.node_id()));
    assert!(died.elapsed() > Duration::from_millis(1_000), "it was a timeout that told");
}

#[tokio::test]
async fn a_peer_started_anew_replaces_its_dead_connection_at_once() {
    let patient = Limits { idle: Duration::from_secs(15), ..limits() };
    let mut a = TestNode::start_with(1, anywhere(), NETWORK, patient).await;
    let (runtime, b) = doomed(2, anywhere(), &a);
    a.admit(&b);
    a.keep(&[&b]);
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    runtime.shutdown_background();
    let again = TestNode::start(2).await;
    again.admit(&a);
    again.keep(&[&a]);
    // Told as down and up, because whatever the old one held in memory is gone.
    assert_eq!(a.event().await, NetEvent::PeerDown(b.net.node_id()));
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::NotHere);
    assert_eq!(a.net.stats().duplicates, 1);
}

#[tokio::test]
async fn a_peer_that_is_no_longer_admitted_is_disconnected() {
    let (mut a, mut b) = pair().await;
    a.keep(&[&b]);
    b.keep(&[&a]);
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    assert_eq!(b.event().await, NetEvent::PeerUp(a.net.node_id()));
    b.door.admitted.lock().unwrap().clear();
    b.keep(&[]);
    assert_eq!(b.event().await, NetEvent::PeerDown(a.net.node_id()));
    until("no connection is left", || b.net.stats().connections == 0).await;
    let refused = a.net.request(b.net.node_id(), question()).await;
    assert!(matches!(refused, Err(RequestError::Dial(DialError::Refused { .. }))), "{refused:?}");
    until("it was told as down", || a.events.try_recv() == Ok(NetEvent::PeerDown(b.net.node_id()))).await;
}

#[tokio::test]
async fn a_ban_takes_effect_at_the_next_request() {
    let (a, b) = pair().await;
    assert!(a.net.request(b.net.node_id(), question()).await.is_ok());
    b.door.admitted.lock().unwrap().clear();
    let served = b.net.stats().requests;
    assert!(a.net.request(b.net.node_id(), question()).await.is_err());
    assert_eq!(b.net.stats().requests, served);
}

#[tokio::test]
async fn idle_connections_above_the_limit_are_closed_least_recently_used_first() {
    let few = Limits { idle_connections: 2, ..limits() };
    let hub = TestNode::start_with(9, anywhere(), NETWORK, few).await;
    let mut visitors = Vec::new();
    for n in 1..=4 {
        let visitor = TestNode::start(n).await;
        hub.admit(&visitor);
        visitor.admit(&hub);
        assert!(visitor.net.request(hub.net.node_id(), question()).await.is_ok());
        visitors.push(visitor);
    }
    until("two are left", || hub.net.stats().connections <= 2).await;
    let left: Vec<_> = visitors.iter().map(|visitor| hub.is_connected(visitor.net.node_id())).collect();
    assert_eq!(left, [false, false, true, true]);
}

#[tokio::test]
async fn a_slow_listener_loses_nothing_but_what_was_undone() {
    let (mut a, b) = pair().await;
    a.keep(&[&b]);
    until("connected", || a.is_connected(b.net.node_id())).await;
    assert_eq!(timeout(DEADLINE, a.events.recv()).await.unwrap(), Some(NetEvent::PeerUp(b.net.node_id())));
    a.keep(&[]);
    assert_eq!(a.event().await, NetEvent::PeerDown(b.net.node_id()));
    assert!(a.is_connected(b.net.node_id()), "not kept is not closed");
}
