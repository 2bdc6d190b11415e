//! Rules of the chunked format, each with both ciphers.

use mynet_types::{ContentId, ContentState, manifest::Aead};
use proptest::prelude::{ProptestConfig, prop, proptest};

use super::{
    CHUNK_BYTES, CHUNKS_MAX, CIPHER_BYTES_MAX, ChunkSpan, CipherError, FileCipher, FileParams, PLAIN_BYTES_MAX,
    SEALED_CHUNK_BYTES, cipher_len, plain_len,
};
use crate::cipher::ContentKey;

const BOTH: [Aead; 2] = [Aead::ChaCha20Poly1305, Aead::Aes256Gcm];

fn params(algorithm: Aead) -> FileParams {
    FileParams { algorithm, salt: [3; 16], version: 1, content_id: ContentId([4; 16]), state: ContentState::Encrypted }
}

fn cipher(algorithm: Aead) -> FileCipher {
    FileCipher::new(&ContentKey::from_bytes([7; 32]), &params(algorithm))
}

fn plaintext(len: usize) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i * 31 % 251).unwrap()).collect()
}

fn seal_all(cipher: &FileCipher, plain: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut chunks = plain.chunks(CHUNK_BYTES).enumerate().peekable();
    if plain.is_empty() {
        cipher.seal_chunk(0, true, b"", &mut out).unwrap();
    }
    while let Some((index, chunk)) = chunks.next() {
        cipher.seal_chunk(index as u64, chunks.peek().is_none(), chunk, &mut out).unwrap();
    }
    out
}

/// Opens as a reader does that believes the ciphertext has the length it has.
fn open_all(cipher: &FileCipher, sealed: &[u8]) -> Result<Vec<u8>, CipherError> {
    let size = plain_len(sealed.len() as u64).ok_or(CipherError::CipherLength { len: sealed.len() as u64 })?;
    let span = ChunkSpan::covering(0..size, sealed.len() as u64)?;
    let mut out = Vec::new();
    for (index, chunk) in (0..).zip(sealed.chunks(SEALED_CHUNK_BYTES)) {
        cipher.open_chunk(index, index == span.last, chunk, &mut out)?;
    }
    Ok(out)
}

#[test]
fn what_was_sealed_opens_at_every_border() {
    for algorithm in BOTH {
        let cipher = cipher(algorithm);
        for len in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5] {
            let plain = plaintext(len);
            let sealed = seal_all(&cipher, &plain);
            assert_eq!(Some(sealed.len() as u64), cipher_len(len as u64));
            assert_eq!(open_all(&cipher, &sealed), Ok(plain), "{len} bytes, {algorithm:?}");
        }
    }
}

#[test]
fn a_flipped_bit_anywhere_is_detected_and_yields_nothing() {
    for algorithm in BOTH {
        let cipher = cipher(algorithm);
        let sealed = seal_all(&cipher, &plaintext(CHUNK_BYTES + 100));
        for at in [0, 1000, CHUNK_BYTES, SEALED_CHUNK_BYTES - 1, SEALED_CHUNK_BYTES, sealed.len() - 1] {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            let index = (at / SEALED_CHUNK_BYTES) as u64;
            assert_eq!(open_all(&cipher, &bad), Err(CipherError::Inauthentic { index }), "byte {at}");
        }
        let mut out = b"before".to_vec();
        assert!(cipher.open_chunk(0, true, &sealed[..SEALED_CHUNK_BYTES], &mut out).is_err());
        assert_eq!(out, b"before");
    }
}

#[test]
fn truncation_at_a_chunk_border_is_detected() {
    for algorithm in BOTH {
        let cipher = cipher(algorithm);
        let sealed = seal_all(&cipher, &plaintext(3 * CHUNK_BYTES));
        let cut = &sealed[..2 * SEALED_CHUNK_BYTES];
        assert_eq!(open_all(&cipher, cut), Err(CipherError::Inauthentic { index: 1 }));
    }
}

#[test]
fn extension_is_detected() {
    for algorithm in BOTH {
        let cipher = cipher(algorithm);
        let sealed = seal_all(&cipher, &plaintext(2 * CHUNK_BYTES));
        let mut longer = sealed.clone();
        longer.extend_from_slice(&sealed[SEALED_CHUNK_BYTES..]);
        assert_eq!(open_all(&cipher, &longer), Err(CipherError::Inauthentic { index: 1 }));
    }
}

#[test]
fn swapped_chunks_are_detected() {
    for algorithm in BOTH {
        let cipher = cipher(algorithm);
        let sealed = seal_all(&cipher, &plaintext(3 * CHUNK_BYTES));
        let (first, rest) = sealed.split_at(SEALED_CHUNK_BYTES);
        let (second, third) = rest.split_at(SEALED_CHUNK_BYTES);
        let swapped = [second, first, third].concat();
        assert_eq!(open_all(&cipher, &swapped), Err(CipherError::Inauthentic { index: 0 }));
    }
}

#[test]
fn every_parameter_changes_the_key() {
    let base = params(Aead::ChaCha20Poly1305);
    let mut sealed = Vec::new();
    cipher(base.algorithm).seal_chunk(0, true, b"content", &mut sealed).unwrap();
    let others = [
        FileParams { algorithm: Aead::Aes256Gcm, ..base },
        FileParams { salt: [9; 16], ..base },
        FileParams { version: 2, ..base },
        FileParams { content_id: ContentId([9; 16]), ..base },
        FileParams { state: ContentState::Preview, ..base },
    ];
    let key = ContentKey::from_bytes([7; 32]);
    for other in others {
        let opened = FileCipher::new(&key, &other).open_chunk(0, true, &sealed, &mut Vec::new());
        assert_eq!(opened, Err(CipherError::Inauthentic { index: 0 }), "{other:?}");
    }
    let stranger = FileCipher::new(&ContentKey::from_bytes([8; 32]), &base);
    assert!(stranger.open_chunk(0, true, &sealed, &mut Vec::new()).is_err());
}

#[test]
fn chunks_of_a_wrong_length_are_refused() {
    let cipher = cipher(Aead::ChaCha20Poly1305);
    let mut out = Vec::new();
    let cases = [(0, false, CHUNK_BYTES - 1), (0, true, CHUNK_BYTES + 1), (1, true, 0), (0, false, 0)];
    for (index, last, len) in cases {
        let refused = cipher.seal_chunk(index, last, &plaintext(len), &mut out);
        assert_eq!(refused, Err(CipherError::ChunkLength { index, len }));
    }
    assert_eq!(cipher.open_chunk(0, true, &[0; 15], &mut out), Err(CipherError::ChunkLength { index: 0, len: 15 }));
    assert!(out.is_empty());
}

#[test]
fn the_chunk_behind_the_last_index_is_refused() {
    let cipher = cipher(Aead::ChaCha20Poly1305);
    let mut out = Vec::new();
    let full = plaintext(CHUNK_BYTES);
    assert_eq!(cipher.seal_chunk(CHUNKS_MAX - 1, true, &full, &mut out), Ok(()));
    let refused = cipher.seal_chunk(CHUNKS_MAX, true, &full, &mut out);
    assert_eq!(refused, Err(CipherError::TooLong { index: CHUNKS_MAX }));
}

#[test]
fn lengths_map_one_to_one() {
    assert_eq!(cipher_len(0), Some(16));
    assert_eq!(cipher_len(1), Some(17));
    assert_eq!(cipher_len(65_536), Some(65_552));
    assert_eq!(cipher_len(65_537), Some(65_569));
    assert_eq!(cipher_len(PLAIN_BYTES_MAX), Some(CIPHER_BYTES_MAX));
    assert_eq!(cipher_len(PLAIN_BYTES_MAX + 1), None);
    for impossible in [0, 1, 15, 65_553, 65_568, CIPHER_BYTES_MAX + 1, CIPHER_BYTES_MAX + 17, u64::MAX] {
        assert_eq!(plain_len(impossible), None, "{impossible}");
    }
}

#[test]
fn spans_name_the_chunks_that_a_range_needs() {
    let cipher_size = cipher_len(150_000).unwrap();
    let span = |range| ChunkSpan::covering(range, cipher_size).unwrap();
    assert_eq!(span(0..1).chunks, 0..1);
    assert_eq!(span(65_535..65_537).chunks, 0..2);
    assert_eq!(span(65_535..65_537).cipher, 0..131_104);
    assert_eq!((span(65_536..150_000).cipher, span(65_536..150_000).skip), (65_552..cipher_size, 0));
    assert_eq!(span(149_999..150_000).chunks, 2..3);
    assert!(span(70_000..70_000).chunks.is_empty() && span(150_000..150_000).chunks.is_empty());
    assert!(ChunkSpan::covering(0..150_001, cipher_size).is_err());
    assert_eq!(ChunkSpan::covering(0..0, 16).unwrap().cipher, 0..16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn plain_len_inverts_cipher_len(plain in 0..=PLAIN_BYTES_MAX) {
        assert_eq!(cipher_len(plain).and_then(plain_len), Some(plain));
    }

    #[test]
    fn cipher_len_inverts_plain_len(cipher in 0..=CIPHER_BYTES_MAX) {
        if let Some(plain) = plain_len(cipher) {
            assert_eq!(cipher_len(plain), Some(cipher));
        }
    }

    #[test]
    fn any_range_opens_from_its_span_alone(
        len in 0_usize..200_000, a in 0_usize..200_000, b in 0_usize..200_000, aes in prop::bool::ANY,
    ) {
        let cipher = cipher(BOTH[usize::from(aes)]);
        let plain = plaintext(len);
        let sealed = seal_all(&cipher, &plain);
        let range = a.min(b).min(len)..a.max(b).min(len);
        let span = ChunkSpan::covering(range.start as u64..range.end as u64, sealed.len() as u64).unwrap();
        let part = &sealed[usize::try_from(span.cipher.start).unwrap()..usize::try_from(span.cipher.end).unwrap()];
        let mut out = Vec::new();
        for (index, chunk) in span.chunks.clone().zip(part.chunks(SEALED_CHUNK_BYTES)) {
            cipher.open_chunk(index, index == span.last, chunk, &mut out).unwrap();
        }
        let got = if range.is_empty() { &[][..] } else { &out[span.skip..span.skip + range.len()] };
        assert_eq!(got, &plain[range]);
    }
}
