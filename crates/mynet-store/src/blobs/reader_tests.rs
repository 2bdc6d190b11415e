//! Rules of reading and sending: verified, or an error that names the blob.

use std::fs;

use mynet_types::{Blake3Root, BlobRef, ContentHash};
use proptest::prelude::{ProptestConfig, proptest};

use super::{ReadError, SendError};
use crate::blobs::{
    BlobKey, GROUP_BYTES,
    testing::{BORDERS, Home, bytes, drain, flip},
};

const GROUP: u64 = GROUP_BYTES as u64;

fn key(blob: &BlobRef) -> BlobKey {
    BlobKey { sha256: blob.sha256, generation: 1 }
}

/// Reads a whole blob that was damaged, and asserts that the error names it and that only good bytes came.
async fn read_damaged(home: &Home, blob: BlobRef, good: &[u8]) -> u64 {
    let reader = home.blobs.read(blob, 1).await.unwrap();
    let (got, end) = drain(reader.range(0..blob.size).unwrap()).await;
    let Err(ReadError::Corrupt { blob: named, offset }) = end else { panic!("{end:?}") };
    assert_eq!(named, key(&blob));
    assert!(got.len() < good.len() && good.starts_with(&got), "{} bytes came", got.len());
    assert!(matches!(reader.verify().await, Err(ReadError::Corrupt { .. })));
    let mut sent = Vec::new();
    let refused = reader.encode_range(0..blob.size, &mut sent).await;
    assert!(matches!(refused, Err(SendError::Read(ReadError::Corrupt { .. }))));
    offset
}

#[tokio::test]
async fn every_size_reads_back() {
    let home = Home::new().await;
    for len in BORDERS {
        let data = bytes(len);
        let blob = home.store(&data).await;
        let reader = home.blobs.read(blob, 1).await.unwrap();
        let (got, end) = drain(reader.range(0..blob.size).unwrap()).await;
        end.unwrap();
        assert_eq!(got, data, "{len} bytes");
    }
}

#[tokio::test]
async fn what_somebody_reads_stays_readable_to_the_end_when_it_is_collected() {
    let home = Home::new().await;
    let data = bytes(5 * GROUP_BYTES + 1);
    let blob = home.store(&data).await;
    let reader = home.blobs.read(blob, 1).await.unwrap();
    assert!(home.blobs.remove(key(&blob)).await.unwrap());
    assert!(matches!(home.blobs.read(blob, 1).await, Err(ReadError::Missing { .. })), "nobody new finds it");
    let (got, end) = drain(reader.range(0..blob.size).unwrap()).await;
    end.unwrap();
    assert_eq!(got, data);
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused() {
    let home = Home::new().await;
    let blob = home.store(&bytes(100)).await;
    let reader = home.blobs.read(blob, 1).await.unwrap();
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for range in [0..101, 101..101, 5..4, 0..u64::MAX] {
        assert!(matches!(reader.range(range), Err(ReadError::Range { size: 100, .. })));
    }
    for range in [0..0, 100..100, 7..7] {
        assert_eq!(drain(reader.range(range).unwrap()).await.0, b"");
    }
}

#[tokio::test]
async fn a_flipped_byte_of_data_is_never_served() {
    let home = Home::new().await;
    let data = bytes(700_000);
    let blob = home.store(&data).await;
    for at in [0, GROUP - 1, GROUP, 262_144, 650_000, 699_999] {
        flip(&home.path(&blob), at);
        let offset = read_damaged(&home, blob, &data).await;
        assert_eq!(offset, at / GROUP * GROUP);
        // Ranges elsewhere still read.
        let reader = home.blobs.read(blob, 1).await.unwrap();
        let far = if at < 300_000 { 400_000..500_000 } else { 0..100_000 };
        let (got, end) = drain(reader.range(far.clone()).unwrap()).await;
        end.unwrap();
        assert_eq!(got, data[usize::try_from(far.start).unwrap()..usize::try_from(far.end).unwrap()]);
        flip(&home.path(&blob), at);
    }
}

#[tokio::test]
async fn a_flipped_byte_of_the_outboard_is_never_believed() {
    let home = Home::new().await;
    let data = bytes(700_000);
    let blob = home.store(&data).await;
    let outboard = home.outboard_path(&blob);
    for at in (0..fs::metadata(&outboard).unwrap().len()).step_by(97) {
        flip(&outboard, at);
        read_damaged(&home, blob, &data).await;
        flip(&outboard, at);
    }
    home.blobs.read(blob, 1).await.unwrap().verify().await.unwrap();
}

#[tokio::test]
async fn swapped_groups_are_found() {
    let home = Home::new().await;
    let data = bytes(4 * GROUP_BYTES);
    let blob = home.store(&data).await;
    let mut swapped = data.clone();
    swapped[..2 * GROUP_BYTES].rotate_left(GROUP_BYTES);
    fs::write(home.path(&blob), swapped).unwrap();
    assert_eq!(read_damaged(&home, blob, &data).await, 0);
}

#[tokio::test]
async fn a_truncated_or_stretched_file_is_corrupt_from_where_it_differs() {
    let home = Home::new().await;
    let blob = home.store(&bytes(100_000)).await;
    let file = fs::OpenOptions::new().write(true).open(home.path(&blob)).unwrap();
    for (len, at) in [(99_999, 99_999), (100_001, 100_000), (0, 0)] {
        file.set_len(len).unwrap();
        let refused = home.blobs.read(blob, 1).await;
        assert!(matches!(refused, Err(ReadError::Corrupt { offset, .. }) if offset == at), "{refused:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_truncated_while_it_is_read_is_corrupt() {
    let home = Home::new().await;
    let data = bytes(100_000);
    let blob = home.store(&data).await;
    let reader = home.blobs.read(blob, 1).await.unwrap();
    fs::OpenOptions::new().write(true).open(home.path(&blob)).unwrap().set_len(50_000).unwrap();
    let (got, end) = drain(reader.range(0..100_000).unwrap()).await;
    assert!(matches!(end, Err(ReadError::Corrupt { .. })), "{end:?}");
    assert_eq!(got, data[..got.len()]);
}

#[tokio::test]
async fn a_truncated_or_missing_outboard_is_found() {
    let home = Home::new().await;
    let data = bytes(100_000);
    let blob = home.store(&data).await;
    let outboard = home.outboard_path(&blob);
    fs::OpenOptions::new().write(true).open(&outboard).unwrap().set_len(10).unwrap();
    read_damaged(&home, blob, &data).await;
    fs::remove_file(&outboard).unwrap();
    assert!(matches!(home.blobs.read(blob, 1).await, Err(ReadError::Missing { blob: named }) if named == key(&blob)));
}

#[tokio::test]
async fn the_root_comes_from_the_row_and_not_from_the_files() {
    let home = Home::new().await;
    let (good, other) = (bytes(100_000), vec![7; 100_000]);
    let blob = home.store(&good).await;
    // Files that agree with each other, but not with the row.
    let row = BlobRef { blake3: Blake3Root::of(&other), ..blob };
    let reader = home.blobs.read(row, 1).await.unwrap();
    let (got, end) = drain(reader.range(0..100_000).unwrap()).await;
    assert!(got.is_empty() && matches!(end, Err(ReadError::Corrupt { offset: 0, .. })));
}

#[tokio::test]
async fn an_empty_blob_proves_that_it_is_empty() {
    let home = Home::new().await;
    let blob = home.store(b"").await;
    home.blobs.read(blob, 1).await.unwrap().verify().await.unwrap();
    let row = BlobRef { blake3: Blake3Root::of(b"not empty"), ..blob };
    let refused = home.blobs.read(row, 1).await.unwrap().verify().await;
    assert!(matches!(refused, Err(ReadError::Corrupt { offset: 0, .. })));
}

#[tokio::test]
async fn a_missing_blob_is_named() {
    let home = Home::new().await;
    let blob = BlobRef { sha256: ContentHash([9; 32]), blake3: Blake3Root([9; 32]), size: 9 };
    let refused = home.blobs.read(blob, 1).await;
    assert!(matches!(refused, Err(ReadError::Missing { blob: named }) if named == key(&blob)));
}

#[tokio::test]
async fn a_read_that_is_dropped_loses_and_repeats_nothing() {
    let home = Home::new().await;
    let data = bytes(3_000_000);
    let blob = home.store(&data).await;
    let mut range = home.blobs.read(blob, 1).await.unwrap().range(0..blob.size).unwrap();
    let (mut got, mut dropped) = (Vec::new(), 0);
    loop {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let polled = Box::pin(range.next()).as_mut().poll(&mut context);
        let next = match polled {
            std::task::Poll::Ready(next) => next,
            std::task::Poll::Pending => {
                dropped += 1;
                range.next().await
            }
        };
        match next.unwrap() {
            Some(bytes) => got.extend_from_slice(&bytes),
            None => break,
        }
    }
    assert!(dropped > 0, "the pool is never so fast that no read waits");
    assert_eq!(got, data);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_reads_exactly(len in 0_usize..900_000, a in 0_usize..900_000, b in 0_usize..900_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let data = bytes(len);
            let blob = home.store(&data).await;
            let range = a.min(b).min(len)..a.max(b).min(len);
            let reader = home.blobs.read(blob, 1).await.unwrap();
            let (got, end) = drain(reader.range(range.start as u64..range.end as u64).unwrap()).await;
            end.unwrap();
            assert_eq!(got, data[range]);
        });
    }
}
