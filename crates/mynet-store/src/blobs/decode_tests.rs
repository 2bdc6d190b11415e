//! Rules of ranges that are passed through without being stored.

use mynet_types::BlobRef;
use proptest::prelude::{ProptestConfig, proptest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{RangeDecoder, SourceError};
use crate::blobs::{
    GROUP_BYTES,
    testing::{BORDERS, Home, bytes},
};

async fn encode(home: &Home, blob: BlobRef, range: std::ops::Range<u64>) -> Vec<u8> {
    let mut out = Vec::new();
    let sent = home.blobs.read(blob, 1).await.unwrap().encode_range(range, &mut out).await.unwrap();
    assert_eq!(sent, out.len() as u64);
    out
}

async fn decode(blob: &BlobRef, range: std::ops::Range<u64>, encoded: &[u8]) -> (Vec<u8>, Result<(), SourceError>) {
    let mut decoder = RangeDecoder::new(blob, range, encoded).unwrap();
    let mut out = Vec::new();
    loop {
        match decoder.next().await {
            Ok(Some(bytes)) => {
                assert!(!bytes.is_empty() && bytes.len() <= GROUP_BYTES);
                out.extend_from_slice(&bytes);
            }
            Ok(None) => return (out, Ok(())),
            Err(error) => {
                assert!(decoder.next().await.is_err(), "a range that failed yields nothing any more");
                return (out, Err(error));
            }
        }
    }
}

#[tokio::test]
async fn what_was_sent_comes_out() {
    let home = Home::new().await;
    for len in BORDERS {
        let data = bytes(len);
        let blob = home.store(&data).await;
        let encoded = encode(&home, blob, 0..blob.size).await;
        let (got, end) = decode(&blob, 0..blob.size, &encoded).await;
        end.unwrap();
        assert_eq!(got, data, "{len} bytes");
    }
}

#[tokio::test]
async fn a_flipped_byte_on_the_wire_is_never_handed_out() {
    let home = Home::new().await;
    let data = bytes(600_000);
    let blob = home.store(&data).await;
    let encoded = encode(&home, blob, 0..blob.size).await;
    for at in (0..encoded.len()).step_by(13_331) {
        let mut bad = encoded.clone();
        bad[at] ^= 1;
        let (got, end) = decode(&blob, 0..blob.size, &bad).await;
        assert!(matches!(end, Err(SourceError::Corrupt { .. })), "byte {at}: {end:?}");
        assert!(data.starts_with(&got) && got.len() < data.len());
    }
}

#[tokio::test]
async fn a_source_of_another_blob_is_refused_at_its_first_item() {
    let home = Home::new().await;
    let (asked, sent) = (BlobRef::of(&bytes(100_000)), home.store(&vec![1; 100_000]).await);
    let encoded = encode(&home, sent, 0..100_000).await;
    let (got, end) = decode(&asked, 0..100_000, &encoded).await;
    assert!(got.is_empty() && matches!(end, Err(SourceError::Corrupt { offset: 0 })));
}

#[tokio::test]
async fn a_source_that_ends_early_gives_what_came_and_where_to_go_on() {
    let home = Home::new().await;
    let data = bytes(300_000);
    let blob = home.store(&data).await;
    let encoded = encode(&home, blob, 0..blob.size).await;
    for cut in [0, 63, 64, 20_000, 150_000, encoded.len() - 1] {
        let (got, end) = decode(&blob, 0..blob.size, &encoded[..cut]).await;
        let Err(SourceError::Truncated { offset }) = end else { panic!("{end:?}") };
        assert_eq!(got.len() as u64, offset, "cut at {cut}");
        assert_eq!(got, data[..got.len()]);
    }
}

#[tokio::test]
async fn a_failed_connection_is_told_with_its_cause() {
    let home = Home::new().await;
    let data = bytes(300_000);
    let blob = home.store(&data).await;
    let encoded = encode(&home, blob, 0..blob.size).await;
    let broken = tokio_test_reader(encoded[..50_000].to_vec());
    let mut decoder = RangeDecoder::new(&blob, 0..blob.size, broken).unwrap();
    let error = loop {
        match decoder.next().await {
            Ok(bytes) => assert!(bytes.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, SourceError::Connection { .. }), "{error}");
}

/// Yields `bytes`, then a reset.
fn tokio_test_reader(bytes: Vec<u8>) -> impl tokio::io::AsyncRead + Unpin + Send {
    struct Reset;
    impl tokio::io::AsyncRead for Reset {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _context: &mut std::task::Context<'_>,
            _buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()))
        }
    }
    std::io::Cursor::new(bytes).chain(Reset)
}

#[test]
fn ranges_and_sizes_that_cannot_be_are_refused() {
    let blob = BlobRef::of(b"some");
    let huge = BlobRef { size: u64::MAX, ..blob };
    #[expect(clippy::reversed_empty_ranges, reason = "that is what is refused")]
    for (blob, range) in [(blob, 0..5), (blob, 5..5), (blob, 3..2), (huge, 0..1), (huge, 0..u64::MAX)] {
        let refused = RangeDecoder::new(&blob, range, tokio::io::empty());
        assert!(matches!(refused, Err(SourceError::Range { .. })));
    }
}

#[tokio::test]
async fn exactly_the_encoding_is_read() {
    let home = Home::new().await;
    let data = bytes(500_000);
    let blob = home.store(&data).await;
    let (mut near, far) = tokio::io::duplex(10_000);
    let reader = home.blobs.read(blob, 1).await.unwrap();
    let sender = tokio::spawn(async move {
        reader.encode_range(100_000..400_000, &mut near).await.unwrap();
        near.write_all(b"next message").await.unwrap();
    });
    let mut far = far;
    let mut decoder = RangeDecoder::new(&blob, 100_000..400_000, &mut far).unwrap();
    let mut got = Vec::new();
    while let Some(bytes) = decoder.next().await.unwrap() {
        got.extend_from_slice(&bytes);
    }
    drop(decoder);
    assert_eq!(got, data[100_000..400_000]);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"next message");
    sender.await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_range_passes(len in 0_usize..700_000, a in 0_usize..700_000, b in 0_usize..700_000) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let data = bytes(len);
            let blob = home.store(&data).await;
            let range = a.min(b).min(len)..a.max(b).min(len);
            let asked = range.start as u64..range.end as u64;
            let encoded = encode(&home, blob, asked.clone()).await;
            let (got, end) = decode(&blob, asked, &encoded).await;
            end.unwrap();
            assert_eq!(got, data[range]);
        });
    }
}
