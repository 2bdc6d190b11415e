//! Streams of bytes.

use std::{sync::atomic::Ordering, time::Duration};

use mynet_net::{ByteStream, Limits, RangeError, RangeWanted, Stall, Stalled};
use mynet_types::{Blake3Root, ContentHash, rpc::Response};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use crate::kit::{Blob, DEADLINE, TestNode, limits, pair, pair_with, pattern, question, until};

const MIB: u64 = 1024 * 1024;

fn wanted(len: u64) -> RangeWanted {
    RangeWanted { sha256: ContentHash([3; 32]), offset: 0, len }
}

async fn open(asker: &TestNode, holder: &TestNode, len: u64) -> ByteStream {
    asker.net.open_range(holder.net.node_id(), wanted(len)).await.unwrap().1
}

/// Reads to the end, checks the pattern and returns the length.
async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<u64> {
    let twice = [pattern(), pattern()].concat();
    let mut buffer = vec![0; twice.len() / 2];
    let mut at = 0;
    loop {
        let len = timeout(DEADLINE, stream.read(&mut buffer)).await.expect("bytes in time")?;
        if len == 0 {
            return Ok(at as u64);
        }
        let from = at % buffer.len();
        assert!(buffer[..len] == twice[from..from + len], "wrong bytes near {at}");
        at += len;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_mebibytes_arrive_whole() {
    let (a, b) = pair().await;
    let (head, mut stream) = a.net.open_range(b.net.node_id(), wanted(64 * MIB)).await.unwrap();
    assert_eq!((head.size, head.blake3), (64 * MIB, Blake3Root([5; 32])));
    assert_eq!(read_all(&mut stream).await.unwrap(), 64 * MIB);
    assert_eq!(b.net.stats().ranges, 1);
    assert_eq!((a.net.stats().stalled, b.net.stats().stalled), (0, 0));
}

#[tokio::test]
async fn a_holder_that_sends_nothing_stalls_the_reader() {
    let stall = Stall { bytes_per_second: 1_000, window: Duration::from_millis(200) };
    let (a, b) = pair_with(Limits { stall, ..limits() }).await;
    *b.service.blob.lock().unwrap() = Blob::Silent;
    let error = open(&a, &b, MIB).await.read_u8().await.unwrap_err();
    assert!(error.get_ref().unwrap().is::<Stalled>(), "{error}");
    assert_eq!(a.net.stats().stalled, 1);
}

#[tokio::test]
async fn a_reader_that_takes_nothing_stalls_the_holder() {
    let stall = Stall { bytes_per_second: 1_000, window: Duration::from_millis(200) };
    let (a, b) = pair_with(Limits { stall, ..limits() }).await;
    let _unread = open(&a, &b, 64 * MIB).await;
    until("the holder gave up", || b.service.stalled_writes.load(Ordering::Relaxed) == 1).await;
    assert_eq!(b.net.stats().stalled, 1);
}

#[tokio::test]
async fn a_stream_that_is_dropped_early_is_an_error_and_no_end() {
    let (a, b) = pair().await;
    *b.service.blob.lock().unwrap() = Blob::Broken;
    // The reset may overtake the head as well.
    if let Ok((_, mut stream)) = a.net.open_range(b.net.node_id(), wanted(MIB)).await {
        assert!(read_all(&mut stream).await.is_err());
    }
}

#[tokio::test]
async fn a_holder_may_decline() {
    let (a, b) = pair().await;
    *b.service.blob.lock().unwrap() = Blob::NotHere;
    let declined = a.net.open_range(b.net.node_id(), wanted(1)).await;
    assert!(matches!(declined, Err(RangeError::Declined(Response::NotHere))));
}

#[tokio::test]
async fn unread_ranges_do_not_starve_requests_and_release_their_places() {
    let (a, b) = pair().await;
    let mut unread = Vec::new();
    for _ in 0..limits().ranges_per_peer {
        unread.push(open(&a, &b, 8 * MIB).await);
    }
    // Each has filled its window, and the next would wait for a place.
    let next = timeout(Duration::from_millis(300), open(&a, &b, 1)).await;
    assert!(next.is_err(), "all places are taken");
    for _ in 0..50 {
        assert_eq!(a.net.request(b.net.node_id(), question()).await.unwrap(), Response::NotHere);
        assert_eq!(b.net.request(a.net.node_id(), question()).await.unwrap(), Response::NotHere);
    }
    unread.clear();
    assert_eq!(read_all(&mut open(&a, &b, MIB).await).await.unwrap(), MIB);
}
