//! Test vectors that freeze the format. A change here is a change of what is on disks and in manifests.
//!
//! The expected values were computed from the text of the module docs by an independent program (Python, HKDF from RFC 5869
//! by hand, ciphers of pyca/cryptography), not copied from this code's output.

use mynet_types::{ContentHash, ContentId, ContentState, manifest::Aead};

use super::{CHUNK_BYTES, ContentKey, FileCipher, FileParams, seal_sealed_part, sealed::tests::part};

/// The key 00 01 .. 1f.
fn key() -> ContentKey {
    ContentKey::from_bytes(std::array::from_fn(|i| u8::try_from(i).unwrap()))
}

fn file_cipher(algorithm: Aead) -> FileCipher {
    let params = FileParams {
        algorithm,
        salt: *b"0123456789abcdef",
        version: 1,
        content_id: ContentId([0x11; 16]),
        state: ContentState::Encrypted,
    };
    FileCipher::new(&key(), &params)
}

#[test]
fn key_commitment_is_frozen() {
    assert_eq!(hex::encode(key().commitment()), "e6011037bc0409004f3e73f938765c10fff9c6db7f3372d305fbfd040be0f9d1");
}

#[test]
fn small_ciphertexts_are_frozen() {
    let check = |algorithm, plain: &[u8], want: &str| {
        let mut sealed = Vec::new();
        file_cipher(algorithm).seal_chunk(0, true, plain, &mut sealed).unwrap();
        assert_eq!(hex::encode(sealed), want, "{algorithm:?} of {} bytes", plain.len());
    };
    check(Aead::ChaCha20Poly1305, b"", "70e2566d139761c0f05b39efab3f6ac9");
    check(Aead::ChaCha20Poly1305, b"MY Network", "2c540de3ca45f155b4643b12525a66ae7d380670a563b840e8bb");
    check(Aead::Aes256Gcm, b"", "ba7b6d792855f09ba864b554d0db57fb");
    check(Aead::Aes256Gcm, b"MY Network", "233c2d2bbd678fd7375dea3e0cd8fac569b3305af7c7c021e7b2");
}

#[test]
fn ciphertext_of_several_chunks_is_frozen() {
    let check = |algorithm, want: &str| {
        let plain: Vec<u8> = (0..2 * CHUNK_BYTES + 1).map(|i| u8::try_from(i % 251).unwrap()).collect();
        let (cipher, mut sealed) = (file_cipher(algorithm), Vec::new());
        for (index, chunk) in (0..).zip(plain.chunks(CHUNK_BYTES)) {
            cipher.seal_chunk(index, index == 2, chunk, &mut sealed).unwrap();
        }
        assert_eq!(sealed.len(), 131_121);
        assert_eq!(ContentHash::of(&sealed).to_string(), want, "{algorithm:?}");
    };
    check(Aead::ChaCha20Poly1305, "sha256:9879d05361d50babc07fc94719ab636e32f313a79aa0ed0223f292201531a61f");
    check(Aead::Aes256Gcm, "sha256:aa3c4cc24ec90d3bb11f2cd59a9d006adf3a03b866a9f1a321f93fec5f85cd9a");
}

#[test]
fn sealed_parts_are_frozen() {
    let check = |algorithm, want: &str| {
        let sealed = seal_sealed_part(&part(), &key(), algorithm, b"0123456789abcdef", 1).unwrap();
        assert_eq!(ContentHash::of(&sealed).to_string(), want, "{algorithm:?}");
    };
    check(Aead::ChaCha20Poly1305, "sha256:6dd05e19e1277c9d2568b655cbbdc3c1c9367edf95b847dc8b4eadc82474ac50");
    check(Aead::Aes256Gcm, "sha256:3f10c127f7d1ab01ebb4643e1759bac0d59d69ce9f7e9d6f29a78977f8ee0d2c");
}
