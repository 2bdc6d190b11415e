//! Rules of fetching: bad sources, several sources, crashes, lies.

use std::fs;

use mynet_types::{Blake3Root, BlobRef, ContentHash};
use proptest::prelude::{ProptestConfig, proptest};

use super::{FinishError, ReceiveError, Receiver, SEGMENT_BYTES, Segment};
use crate::blobs::{
    GROUP_BYTES, SourceError, StagingDir,
    testing::{BORDERS, Home, bytes, drain, flip, name},
};

const GROUP: u64 = GROUP_BYTES as u64;
/// Three segments, the last one short and ending within a group.
const LONG: usize = 2 * 4 * 1024 * 1024 + 100_001;

async fn encode(source: &Home, blob: BlobRef, segment: &Segment) -> Vec<u8> {
    let mut out = Vec::new();
    source.blobs.read(blob, 1).await.unwrap().encode_range(segment.range(), &mut out).await.unwrap();
    out
}

async fn fetch(source: &Home, blob: BlobRef, receiver: &Receiver) {
    while let Some(segment) = receiver.next_missing() {
        let encoded = encode(source, blob, &segment).await;
        let range = segment.range();
        let received = receiver.receive(&segment, encoded.as_slice()).await.unwrap();
        assert_eq!(received, range.end - range.start);
    }
}

async fn open(staging: &StagingDir, blob: BlobRef) -> Receiver {
    Receiver::open(staging, &name("blob"), blob).await.unwrap()
}

/// Finishes, commits, and reads everything back.
async fn finish_and_read(home: &Home, receiver: &Receiver) -> Vec<u8> {
    let staged = receiver.finish().await.unwrap();
    home.blobs.commit(&staged, 1).await.unwrap();
    let reader = home.blobs.read(staged.blob, 1).await.unwrap();
    let (got, end) = drain(reader.range(0..staged.blob.size).unwrap()).await;
    end.unwrap();
    got
}

#[tokio::test]
async fn every_size_arrives() {
    let (source, target) = (Home::new().await, Home::new().await);
    for len in BORDERS.into_iter().chain([LONG]) {
        let data = bytes(len);
        let blob = source.store(&data).await;
        let staging = target.stage("tx").await;
        let receiver = open(&staging, blob).await;
        fetch(&source, blob, &receiver).await;
        assert_eq!(receiver.received(), blob.size);
        assert_eq!(finish_and_read(&target, &receiver).await, data, "{len} bytes");
        staging.remove().await.unwrap();
    }
}

#[tokio::test]
async fn segments_are_claimed_once_and_given_back_when_dropped() {
    let target = Home::new().await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, BlobRef { size: LONG as u64, ..BlobRef::of(b"") }).await;
    let mut claimed = Vec::new();
    while let Some(segment) = receiver.next_missing() {
        claimed.push(segment);
    }
    let ranges: Vec<_> = claimed.iter().map(Segment::range).collect();
    assert_eq!(ranges, [0..SEGMENT_BYTES, SEGMENT_BYTES..2 * SEGMENT_BYTES, 2 * SEGMENT_BYTES..LONG as u64]);
    claimed.remove(1);
    assert_eq!(receiver.next_missing().unwrap().range(), ranges[1]);
}

#[tokio::test]
async fn several_sources_at_once_make_one_blob() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(LONG);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    // Claimed front to back, received back to front: nothing comes in the order that hashing wants.
    let mut segments: Vec<Segment> = std::iter::from_fn(|| receiver.next_missing()).collect();
    let mut tasks = Vec::new();
    while let Some(segment) = segments.pop() {
        let encoded = encode(&source, blob, &segment).await;
        let receiver = receiver.clone();
        tasks.push(tokio::spawn(async move { receiver.receive(&segment, encoded.as_slice()).await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(finish_and_read(&target, &receiver).await, data);
}

#[tokio::test]
async fn a_receiver_that_was_dropped_midway_goes_on_with_what_verified() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(LONG);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    let segment = receiver.next_missing().unwrap();
    let encoded = encode(&source, blob, &segment).await;
    // The source dies in the middle of a group of the first segment.
    let refused = receiver.receive(&segment, &encoded[..1_000_000]).await.unwrap_err();
    let ReceiveError::Source(SourceError::Truncated { offset }) = refused else { panic!("{refused}") };
    assert!(offset > 900_000 && offset % GROUP == 0);
    assert_eq!(receiver.received(), offset);
    drop((segment, receiver));

    let again = open(&staging, blob).await;
    assert_eq!(again.received(), offset);
    assert_eq!(again.next_missing().unwrap().range(), offset..SEGMENT_BYTES);
    assert!(matches!(again.finish().await, Err(FinishError::Incomplete { missing }) if missing == blob.size - offset));
    fetch(&source, blob, &again).await;
    assert_eq!(finish_and_read(&target, &again).await, data);
}

#[tokio::test]
async fn what_a_crash_damaged_is_fetched_again_and_nothing_else() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(LONG);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    fetch(&source, blob, &receiver).await;
    drop(receiver);
    // A torn write in the second segment.
    flip(&staging.files(&name("blob")).0, SEGMENT_BYTES + 3 * GROUP + 5);
    let again = open(&staging, blob).await;
    let segment = again.next_missing().unwrap();
    assert_eq!(segment.range(), SEGMENT_BYTES + 3 * GROUP..2 * SEGMENT_BYTES);
    assert_eq!(again.received(), blob.size - (SEGMENT_BYTES - 3 * GROUP));
    drop(segment);
    fetch(&source, blob, &again).await;
    assert_eq!(finish_and_read(&target, &again).await, data);
}

#[tokio::test]
async fn a_complete_blob_survives_a_crash_before_its_commit() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(300_000);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    fetch(&source, blob, &receiver).await;
    drop(receiver);
    let again = open(&staging, blob).await;
    assert!(again.next_missing().is_none());
    assert_eq!(finish_and_read(&target, &again).await, data);
}

#[tokio::test]
async fn staged_files_of_another_blob_are_no_use_and_no_harm() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(300_000);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let (data_path, outboard_path) = staging.files(&name("blob"));
    fs::write(&data_path, vec![1; 400_000]).unwrap();
    fs::write(&outboard_path, vec![2; 10]).unwrap();
    let receiver = open(&staging, blob).await;
    assert_eq!(receiver.received(), 0);
    fetch(&source, blob, &receiver).await;
    assert_eq!(finish_and_read(&target, &receiver).await, data);
}

#[tokio::test]
async fn a_lying_source_costs_its_segment_only() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(LONG);
    let blob = source.store(&data).await;
    let liar = source.store(&vec![7; LONG]).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    let segment = receiver.next_missing().unwrap();
    // Bytes of another blob: nothing is kept.
    let lies = encode(&source, liar, &segment).await;
    let refused = receiver.receive(&segment, lies.as_slice()).await.unwrap_err();
    assert!(matches!(refused, ReceiveError::Source(SourceError::Corrupt { offset: 0 })));
    assert_eq!(receiver.received(), 0);
    // Good bytes, then a flipped one: what came before is kept.
    let mut bad = encode(&source, blob, &segment).await;
    bad[2_000_000] ^= 1;
    let refused = receiver.receive(&segment, bad.as_slice()).await.unwrap_err();
    let ReceiveError::Source(SourceError::Corrupt { offset }) = refused else { panic!("{refused}") };
    assert_eq!(receiver.received(), offset);
    assert!(offset > 1_900_000);
    drop(segment);
    fetch(&source, blob, &receiver).await;
    assert_eq!(finish_and_read(&target, &receiver).await, data);
}

#[tokio::test]
async fn a_manifest_whose_hashes_disagree_is_proven_wrong() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(100_000);
    let blob = source.store(&data).await;
    let lie = BlobRef { sha256: ContentHash::of(b"something else"), ..blob };
    let staging = target.stage("tx").await;
    let receiver = open(&staging, lie).await;
    fetch(&source, blob, &receiver).await;
    let refused = receiver.finish().await.unwrap_err();
    assert!(matches!(
        refused,
        FinishError::HashMismatch { expected, actual } if expected == lie.sha256 && actual == blob.sha256
    ));
}

#[tokio::test]
async fn a_disk_that_loses_bytes_is_not_taken_for_a_lying_manifest() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(LONG);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    let mut segments: Vec<Segment> = std::iter::from_fn(|| receiver.next_missing()).collect();
    // Out of order, so that hashing must read the disk again.
    while let Some(segment) = segments.pop() {
        let encoded = encode(&source, blob, &segment).await;
        receiver.receive(&segment, encoded.as_slice()).await.unwrap();
    }
    let at = SEGMENT_BYTES + GROUP;
    flip(&staging.files(&name("blob")).0, at);
    assert!(matches!(receiver.finish().await, Err(FinishError::Lost { offset }) if offset == at));
    assert_eq!(receiver.next_missing().unwrap().range().start, at);
    fetch(&source, blob, &receiver).await;
    assert_eq!(finish_and_read(&target, &receiver).await, data);
}

#[tokio::test]
async fn sizes_and_roots_that_no_blob_has_are_refused_at_once() {
    let target = Home::new().await;
    let staging = target.stage("tx").await;
    let some = BlobRef::of(b"some");
    for impossible in [BlobRef { size: 0, ..some }, BlobRef { size: u64::MAX, ..some }] {
        let refused = Receiver::open(&staging, &name("blob"), impossible).await;
        assert!(matches!(refused, Err(ReceiveError::Impossible { .. })));
    }
    assert_eq!(BlobRef::of(b"").blake3, Blake3Root::of(b""));
    assert!(target.files().is_empty());
}

#[tokio::test]
async fn a_dropped_receive_keeps_its_batches() {
    let (source, target) = (Home::new().await, Home::new().await);
    let data = bytes(3_000_000);
    let blob = source.store(&data).await;
    let staging = target.stage("tx").await;
    let receiver = open(&staging, blob).await;
    let segment = receiver.next_missing().unwrap();
    let encoded = encode(&source, blob, &segment).await;
    let (mut near, far) = tokio::io::duplex(64 * 1024);
    let receiving = {
        let receiver = receiver.clone();
        tokio::spawn(async move { receiver.receive(&segment, far).await })
    };
    // The pipe holds 64 KiB: when the last of these bytes went in, at least three batches were taken out and stored or
    // are being stored.
    tokio::io::AsyncWriteExt::write_all(&mut near, &encoded[..1_200_000]).await.unwrap();
    receiving.abort();
    assert!(receiving.await.unwrap_err().is_cancelled());
    assert!(receiver.received() > 0);
    fetch(&source, blob, &receiver).await;
    assert_eq!(finish_and_read(&target, &receiver).await, data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_blob_arrives_over_any_cuts(len in 1_usize..600_000, cuts in proptest::collection::vec(0_usize..400_000, 0..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (source, target) = (Home::new().await, Home::new().await);
            let data = bytes(len);
            let blob = source.store(&data).await;
            let staging = target.stage("tx").await;
            for cut in cuts {
                let receiver = open(&staging, blob).await;
                let before = receiver.received();
                let Some(segment) = receiver.next_missing() else { break };
                let encoded = encode(&source, blob, &segment).await;
                let _ = receiver.receive(&segment, &encoded[..cut.min(encoded.len())]).await;
                assert!(receiver.received() >= before);
            }
            let receiver = open(&staging, blob).await;
            fetch(&source, blob, &receiver).await;
            assert_eq!(finish_and_read(&target, &receiver).await, data);
        });
    }
}
