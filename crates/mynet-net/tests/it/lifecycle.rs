//! Start and stop.

use std::time::Duration;

use mynet_net::{Limits, NetEvent, Refusal, StartError};
use tokio_util::sync::CancellationToken;

use crate::kit::{NETWORK, TestNode, anywhere, limits, message, pair, pair_with, question, until};

#[test]
fn shutdown_leaves_no_task() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let metrics = tokio::runtime::Handle::current().metrics();
        let before = metrics.num_alive_tasks();
        let (a, b) = pair().await;
        a.keep(&[&b]);
        b.keep(&[&a]);
        a.net.request(b.net.node_id(), question()).await.unwrap();
        b.net.send(a.net.node_id(), message(1));
        assert!(metrics.num_alive_tasks() > before);
        tokio::join!(a.net.shutdown(), b.net.shutdown());
        drop((a, b));
        until("no task is left", || metrics.num_alive_tasks() == before).await;
    });
}

#[tokio::test]
async fn dropping_the_last_handle_stops_the_transport() {
    let (mut a, b) = pair_with(Limits { dial: Duration::from_millis(500), ..limits() }).await;
    a.keep(&[&b]);
    assert_eq!(a.event().await, NetEvent::PeerUp(b.net.node_id()));
    let node = b.net.node_id();
    drop(b);
    assert_eq!(a.event().await, NetEvent::PeerDown(node));
}

#[tokio::test]
async fn requests_in_progress_end_before_the_node_stops() {
    let (a, b) = pair().await;
    let blocked = b.service.gate.acquire_many(1_000).await.unwrap();
    let asked = a.net.request(b.net.node_id(), question());
    let stopped = async {
        until("the request is in progress", || b.service.requests.load(std::sync::atomic::Ordering::Relaxed) == 1)
            .await;
        let stopping = b.net.shutdown();
        tokio::pin!(stopping);
        // The stop has begun and waits for the request.
        assert!(futures::poll!(stopping.as_mut()).is_pending());
        drop(blocked);
        stopping.await;
    };
    let (answer, ()) = tokio::join!(asked, stopped);
    assert_eq!(answer.unwrap(), mynet_types::rpc::Response::NotHere);
}

#[tokio::test]
async fn a_stopped_node_says_so() {
    let (a, b) = pair().await;
    assert!(a.net.request(b.net.node_id(), question()).await.is_ok());
    b.net.shutdown().await;
    assert!(b.net.request(a.net.node_id(), question()).await.is_err());
    assert_eq!(Refusal::ShuttingDown.to_string(), "the node is shutting down");
    until("the connection is gone", || !a.is_connected(b.net.node_id())).await;
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let a = TestNode::start(1).await;
    let config =
        mynet_net::NetConfig { secret: [2; 32], network_id: NETWORK, listen: a.net.local_addr(), limits: limits() };
    assert!(!format!("{config:?}").contains("secret"));
    let failed = mynet_net::Net::start(
        config,
        std::sync::Arc::clone(&a.door) as _,
        std::sync::Arc::clone(&a.service) as _,
        CancellationToken::new(),
    )
    .await;
    let Err(error @ StartError::Bind { .. }) = failed else { panic!("two nodes on one port") };
    assert!(error.to_string().contains(&a.net.local_addr().to_string()));
    assert_ne!(a.net.local_addr().port(), anywhere().port());
}
