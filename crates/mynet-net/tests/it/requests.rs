//! Requests and messages between admitted nodes.

use std::{sync::atomic::Ordering, time::Duration};

use mynet_net::{Budget, DialError, Limits, PathKind, RequestError};
use mynet_types::{
    ContentHash,
    rpc::{Request, Response},
};

use crate::kit::{PANIC, TestNode, limits, message, pair, pair_with, question, until};

#[tokio::test]
async fn admitted_nodes_answer_each_other_over_one_connection() {
    let (a, b) = pair().await;
    assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::NotHere);
    assert_eq!(b.net.request(a.net.node_id(), question()).await.unwrap(), Response::NotHere);
    assert_eq!((a.net.stats().dials, b.net.stats().dials), (1, 0));
    let stats = a.net.peer_stats(&b.net.node_id()).unwrap();
    assert_eq!((stats.path, stats.dialed), (PathKind::Quic, true));
    assert!(stats.rtt > Duration::ZERO && stats.rtt < Duration::from_secs(5));
    assert_eq!(b.net.peer_stats(&b.net.node_id()), None);
}

#[tokio::test]
async fn messages_arrive_in_the_order_in_which_they_were_sent() {
    let (a, b) = pair().await;
    for number in 0..500 {
        a.net.send(b.net.node_id(), message(number));
    }
    until("all messages arrived", || b.service.messages.lock().unwrap().len() == 500).await;
    let got: Vec<_> = b.service.messages.lock().unwrap().iter().map(|(_, message)| message.clone()).collect();
    let sent: Vec<_> = (0..500).map(message).collect();
    assert_eq!(got, sent);
    assert!(b.service.messages.lock().unwrap().iter().all(|(from, _)| *from == a.net.node_id()));
    until("all are acknowledged", || a.net.stats().messages_delivered == 500).await;
}

#[tokio::test]
async fn a_full_queue_drops_the_newest_and_counts_them() {
    let (a, b) = pair_with(Limits { queue_messages: 8, window_messages: 4, ..limits() }).await;
    let blocked = b.service.gate.acquire_many(1_000).await.unwrap();
    for number in 0..100 {
        a.net.send(b.net.node_id(), message(number));
    }
    let overflowed = a.net.stats().messages_overflowed;
    assert!(overflowed >= 100 - 8 - 4 - 2, "{overflowed}");
    drop(blocked);
    until("the rest arrived", || a.net.stats().messages_delivered + overflowed == 100).await;
    let got = b.service.messages.lock().unwrap().iter().filter(|(_, got)| *got == message(99)).count();
    assert_eq!(got, 0, "the newest was dropped");
    assert!(b.service.messages.lock().unwrap().iter().any(|(_, got)| *got == message(0)));
}

#[tokio::test]
async fn messages_to_a_node_that_cannot_be_reached_are_dropped_and_counted() {
    let (a, b) = pair_with(Limits { dial: Duration::from_millis(300), ..limits() }).await;
    let (gone, node) = (b.addr(), b.net.node_id());
    b.net.shutdown().await;
    drop(b);
    a.net.set_addrs(node, gone.addrs);
    for number in 0..10 {
        a.net.send(node, message(number));
    }
    until("all are given up", || a.net.stats().messages_lost == 10).await;
}

#[tokio::test]
async fn a_panic_in_a_handler_costs_only_its_request() {
    let (a, b) = pair().await;
    let request = Request::Group(PANIC);
    assert!(matches!(a.net.request(b.net.node_id(), request).await, Err(RequestError::Answer(_))));
    assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::NotHere);
    assert_eq!(a.net.stats().dials, 1, "the connection went on");
}

#[tokio::test]
async fn a_handler_that_takes_too_long_is_answered_busy() {
    let (a, b) = pair_with(Limits { control: Duration::from_millis(200), ..limits() }).await;
    let _blocked = b.service.gate.acquire_many(1_000).await.unwrap();
    assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::Busy);
    assert_eq!(b.net.stats().timed_out, 1);
}

#[tokio::test]
async fn a_newcomer_that_asks_too_often_is_answered_busy() {
    let (a, b) = pair().await;
    b.door.newcomers.store(true, Ordering::Relaxed);
    assert_eq!(mynet_net::Door::budget(&*b.door, &a.net.node_id()), Budget::Newcomer);
    let mut answers = Vec::new();
    for _ in 0..40 {
        let asked = (0..10).map(|_| a.net.request(b.net.node_id(), question()));
        answers.extend(futures::future::join_all(asked).await);
    }
    let busy = answers.iter().filter(|answer| matches!(answer, Ok(Response::Busy))).count();
    assert!(answers.iter().all(Result::is_ok));
    assert!(busy > 0 && busy <= 200, "burst 200 of 400: {busy}");
    assert_eq!(b.net.stats().throttled, busy as u64);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_without_a_packet() {
    let (a, b) = pair().await;
    let range = Request::Range { sha256: ContentHash([1; 32]), offset: 0, len: 1 };
    assert!(matches!(a.net.request(b.net.node_id(), range).await, Err(RequestError::IsRange)));
    let own = a.net.request(a.net.node_id(), question()).await;
    assert!(matches!(own, Err(RequestError::Dial(DialError::NotANode))));
    let stranger = TestNode::start(3).await;
    let unknown = a.net.request(stranger.net.node_id(), question()).await;
    assert!(matches!(unknown, Err(RequestError::Dial(DialError::NotAdmittedHere))));
    a.net.set_addrs(b.net.node_id(), Vec::new());
    let nowhere = a.net.request(b.net.node_id(), question()).await;
    assert!(matches!(nowhere, Err(RequestError::Dial(DialError::NoAddress))));
    assert_eq!(a.net.stats().connections, 0);
}
