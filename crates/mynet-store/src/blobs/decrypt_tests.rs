//! Rules of plaintext ranges.

use std::collections::VecDeque;

use bytes::Bytes;
use mynet_types::{BlobRef, manifest::Aead};
use proptest::prelude::{ProptestConfig, prop, proptest};

use super::{DecryptError, DecryptedRange, VerifiedStream};
use crate::{
    blobs::{
        Ingest, RangeDecoder, ReadError,
        testing::{BORDERS, Home, bytes, file_cipher, flip, name},
    },
    cipher::{CHUNK_BYTES, ChunkSpan, CipherError, SEALED_CHUNK_BYTES},
};

async fn store_sealed(home: &Home, data: &[u8], algorithm: Aead) -> BlobRef {
    let staging = home.stage("upload").await;
    let mut ingest = Ingest::sealed(&staging, &name("data"), file_cipher(algorithm), None).await.unwrap();
    ingest.write(data).await.unwrap();
    let staged = ingest.finish().await.unwrap().staged;
    home.blobs.commit(&staged, 1).await.unwrap();
    staging.remove().await.unwrap();
    staged.blob
}

async fn drain<S: VerifiedStream>(mut stream: S) -> (Vec<u8>, Result<(), S::Error>) {
    let mut out = Vec::new();
    loop {
        match stream.next().await {
            Ok(Some(bytes)) => out.extend_from_slice(&bytes),
            Ok(None) => return (out, Ok(())),
            Err(error) => return (out, Err(error)),
        }
    }
}

async fn open(home: &Home, blob: BlobRef, range: std::ops::Range<u64>, algorithm: Aead) -> (Vec<u8>, bool) {
    let span = ChunkSpan::covering(range, blob.size).unwrap();
    let source = home.blobs.read(blob, 1).await.unwrap().range(span.cipher.clone()).unwrap();
    let (got, end) = drain(DecryptedRange::new(file_cipher(algorithm), &span, source)).await;
    (got, end.is_ok())
}

/// A source that yields what it is told.
struct Told(VecDeque<Bytes>);

impl VerifiedStream for Told {
    type Error = std::convert::Infallible;

    async fn next(&mut self) -> Result<Option<Bytes>, Self::Error> {
        Ok(self.0.pop_front())
    }
}

fn sealed_chunks(data: &[u8]) -> Vec<Vec<u8>> {
    let cipher = file_cipher(Aead::ChaCha20Poly1305);
    let last = data.chunks(CHUNK_BYTES).count() - 1;
    let seal = |(index, chunk): (usize, &[u8])| {
        let mut out = Vec::new();
        cipher.seal_chunk(index as u64, index == last, chunk, &mut out).unwrap();
        out
    };
    data.chunks(CHUNK_BYTES).enumerate().map(seal).collect()
}

async fn open_told(chunks: Vec<Vec<u8>>, size: u64) -> (Vec<u8>, Result<(), DecryptError<std::convert::Infallible>>) {
    let span = ChunkSpan::covering(0..size, crate::cipher::cipher_len(size).unwrap()).unwrap();
    let source = Told(chunks.into_iter().map(Bytes::from).collect());
    drain(DecryptedRange::new(file_cipher(Aead::ChaCha20Poly1305), &span, source)).await
}

#[tokio::test]
async fn every_size_decrypts() {
    let home = Home::new().await;
    for len in BORDERS {
        let data = bytes(len);
        let blob = store_sealed(&home, &data, Aead::ChaCha20Poly1305).await;
        assert_eq!(open(&home, blob, 0..len as u64, Aead::ChaCha20Poly1305).await, (data, true), "{len} bytes");
    }
}

#[tokio::test]
async fn a_remote_source_decrypts_like_a_local_one() {
    let home = Home::new().await;
    let data = bytes(400_000);
    let blob = store_sealed(&home, &data, Aead::Aes256Gcm).await;
    let span = ChunkSpan::covering(70_000..380_000, blob.size).unwrap();
    let mut encoded = Vec::new();
    home.blobs.read(blob, 1).await.unwrap().encode_range(span.cipher.clone(), &mut encoded).await.unwrap();
    let source = RangeDecoder::new(&blob, span.cipher.clone(), encoded.as_slice()).unwrap();
    let (got, end) = drain(DecryptedRange::new(file_cipher(Aead::Aes256Gcm), &span, source)).await;
    end.unwrap();
    assert_eq!(got, data[70_000..380_000]);
}

#[tokio::test]
async fn corrupt_ciphertext_names_the_blob_and_yields_no_plaintext_behind_it() {
    let home = Home::new().await;
    let data = bytes(600_000);
    let blob = store_sealed(&home, &data, Aead::ChaCha20Poly1305).await;
    flip(&home.path(&blob), 300_000);
    let span = ChunkSpan::covering(0..600_000, blob.size).unwrap();
    let source = home.blobs.read(blob, 1).await.unwrap().range(span.cipher.clone()).unwrap();
    let (got, end) = drain(DecryptedRange::new(file_cipher(Aead::ChaCha20Poly1305), &span, source)).await;
    assert!(matches!(end, Err(DecryptError::Source(ReadError::Corrupt { .. }))), "{end:?}");
    assert!(data.starts_with(&got) && got.len() < 300_000);
}

#[tokio::test]
async fn the_wrong_key_opens_nothing() {
    let home = Home::new().await;
    let blob = store_sealed(&home, &bytes(100_000), Aead::ChaCha20Poly1305).await;
    assert_eq!(open(&home, blob, 0..100_000, Aead::Aes256Gcm).await, (Vec::new(), false));
}

#[tokio::test]
async fn swapped_and_repeated_chunks_do_not_open() {
    let data = bytes(3 * CHUNK_BYTES);
    let good = sealed_chunks(&data);
    let (got, end) = open_told(good.clone(), data.len() as u64).await;
    end.unwrap();
    assert_eq!(got, data);
    for order in [[1, 0, 2], [0, 0, 2], [0, 1, 1], [0, 2, 1]] {
        let chunks = order.iter().map(|at| good[*at].clone()).collect();
        let (_, end) = open_told(chunks, data.len() as u64).await;
        assert!(matches!(end, Err(DecryptError::Cipher(CipherError::Inauthentic { .. }))), "{order:?}: {end:?}");
    }
}

#[tokio::test]
async fn a_content_that_was_cut_at_a_chunk_does_not_pass_for_a_whole_one() {
    let data = bytes(3 * CHUNK_BYTES);
    let good = sealed_chunks(&data);
    // A manifest that names two of the three chunks: the second does not prove to be the last.
    let (_, end) = open_told(good[..2].to_vec(), 2 * CHUNK_BYTES as u64).await;
    assert!(matches!(end, Err(DecryptError::Cipher(CipherError::Inauthentic { index: 1 }))), "{end:?}");
    // A source that yields less than it was asked for.
    let (_, end) = open_told(good[..2].to_vec(), data.len() as u64).await;
    assert!(matches!(end, Err(DecryptError::Short { chunk: 2 })), "{end:?}");
    let (_, end) = open_told(vec![good[0][..SEALED_CHUNK_BYTES - 1].to_vec()], data.len() as u64).await;
    assert!(matches!(end, Err(DecryptError::Short { chunk: 0 })), "{end:?}");
}

#[tokio::test]
async fn pieces_of_any_size_are_put_together() {
    let data = bytes(5 * CHUNK_BYTES + 77);
    let stream: Vec<u8> = sealed_chunks(&data).concat();
    for step in [1_000, CHUNK_BYTES, SEALED_CHUNK_BYTES, 200_000, 1_000_000] {
        let pieces = stream.chunks(step).map(<[u8]>::to_vec).collect();
        let (got, end) = open_told(pieces, data.len() as u64).await;
        end.unwrap();
        assert_eq!(got, data, "pieces of {step}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_plaintext_range_reads_exactly(
        len in 0_usize..500_000, a in 0_usize..500_000, b in 0_usize..500_000, aes in prop::bool::ANY,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let algorithm = if aes { Aead::Aes256Gcm } else { Aead::ChaCha20Poly1305 };
            let data = bytes(len);
            let blob = store_sealed(&home, &data, algorithm).await;
            let range = a.min(b).min(len)..a.max(b).min(len);
            let got = open(&home, blob, range.start as u64..range.end as u64, algorithm).await;
            assert_eq!(got, (data[range].to_vec(), true));
        });
    }
}
