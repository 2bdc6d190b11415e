//! The sealed part of a manifest: names, types and plaintext hashes, for readers only.

use mynet_types::{
    DecodeError, SealedPart, codec,
    manifest::{Aead, SEALED_BYTES_MAX},
};
use zeroize::Zeroizing;

use super::{AnyAead, ContentKey, NONCE_BYTES, TAG_BYTES};

/// Info string of sealed-part keys.
const SEALED_INFO: &[u8] = b"mynet/sealed/1";

/// One key seals one text, so the nonce is fixed: that of a first and last chunk.
const NONCE: [u8; NONCE_BYTES] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

/// Why a sealed part was not made or not read.
#[derive(Debug, thiserror::Error)]
pub enum SealedError {
    /// Longer than a sealed part may be; nothing was encrypted or decrypted.
    #[error("the sealed part has {size} bytes, at most {SEALED_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes with the tag.
        size: usize,
    },
    /// Changed, or of another key, salt or version.
    #[error("the sealed part does not authenticate")]
    Inauthentic,
    /// It authenticates, but its author wrote something that is no sealed part.
    #[error("the sealed part is not readable: {0}")]
    Malformed(#[from] DecodeError),
}

/// Encrypts `part`; SHA-256 of the result goes into the manifest.
///
/// One salt seals one part: who changes the part of a version that was not published yet takes a new salt, because the
/// nonce is fixed.
///
/// # Errors
/// [`SealedError::TooLong`].
pub fn seal_sealed_part(
    part: &SealedPart,
    key: &ContentKey,
    algorithm: Aead,
    salt: &[u8; 16],
    version: u64,
) -> Result<Vec<u8>, SealedError> {
    let mut bytes = Zeroizing::new(codec::encode(part));
    let size = bytes.len() + TAG_BYTES;
    if size > SEALED_BYTES_MAX {
        return Err(SealedError::TooLong { size });
    }
    cipher(key, algorithm, salt, version).seal(&NONCE, &mut *bytes);
    Ok(std::mem::take(&mut *bytes))
}

/// Decrypts a sealed part. The caller has compared its SHA-256 with the manifest's.
///
/// # Errors
/// As [`SealedError`] says; bytes of a peer are never trusted before they authenticate.
pub fn open_sealed_part(
    sealed: &[u8],
    key: &ContentKey,
    algorithm: Aead,
    salt: &[u8; 16],
    version: u64,
) -> Result<SealedPart, SealedError> {
    if sealed.len() > SEALED_BYTES_MAX {
        return Err(SealedError::TooLong { size: sealed.len() });
    }
    let mut bytes = Zeroizing::new(sealed.to_vec());
    cipher(key, algorithm, salt, version)
        .open(&NONCE, &mut *bytes)
        .map_err(|super::Inauthentic| SealedError::Inauthentic)?;
    Ok(codec::decode(&bytes, SEALED_BYTES_MAX)?)
}

fn cipher(key: &ContentKey, algorithm: Aead, salt: &[u8; 16], version: u64) -> AnyAead {
    AnyAead::new(algorithm, &key.derive(Some(salt), &[SEALED_INFO, &version.to_le_bytes()]))
}

#[cfg(test)]
pub(super) mod tests {
    use mynet_types::{
        BlobRef, BoundedVec, ContentType, Details, SealedPart,
        manifest::{Aead, SEALED_BYTES_MAX},
    };

    use super::{SealedError, open_sealed_part, seal_sealed_part};
    use crate::cipher::ContentKey;

    pub(in crate::cipher) fn part() -> SealedPart {
        SealedPart {
            details: Details {
                content_type: ContentType::Audio,
                mime: "audio/flac".try_into().unwrap(),
                filename: "song.flac".try_into().unwrap(),
                tags: BoundedVec::truncated(["live".try_into().unwrap()]),
            },
            plain: BlobRef::of(b"plaintext"),
            commitment_salt: [5; 32],
        }
    }

    #[test]
    fn a_sealed_part_opens_under_its_own_key_salt_version_and_cipher_only() {
        let (key, salt) = (ContentKey::from_bytes([7; 32]), [3; 16]);
        for (algorithm, other) in [(Aead::ChaCha20Poly1305, Aead::Aes256Gcm), (Aead::Aes256Gcm, Aead::ChaCha20Poly1305)]
        {
            let sealed = seal_sealed_part(&part(), &key, algorithm, &salt, 2).unwrap();
            assert_eq!(open_sealed_part(&sealed, &key, algorithm, &salt, 2).unwrap(), part());
            let stranger = ContentKey::from_bytes([8; 32]);
            let attempts = [
                open_sealed_part(&sealed, &stranger, algorithm, &salt, 2),
                open_sealed_part(&sealed, &key, other, &salt, 2),
                open_sealed_part(&sealed, &key, algorithm, &[4; 16], 2),
                open_sealed_part(&sealed, &key, algorithm, &salt, 3),
                open_sealed_part(&sealed[1..], &key, algorithm, &salt, 2),
            ];
            for attempt in attempts {
                assert!(matches!(attempt, Err(SealedError::Inauthentic)));
            }
        }
    }

    #[test]
    fn oversize_and_junk_are_refused() {
        let key = ContentKey::from_bytes([7; 32]);
        let big = vec![0; SEALED_BYTES_MAX + 1];
        let refused = open_sealed_part(&big, &key, Aead::Aes256Gcm, &[0; 16], 1);
        assert!(matches!(refused, Err(SealedError::TooLong { .. })));
        for len in [0, 15, 16, 100] {
            let junk = vec![0; len];
            let refused = open_sealed_part(&junk, &key, Aead::Aes256Gcm, &[0; 16], 1);
            assert!(matches!(refused, Err(SealedError::Inauthentic)), "{len}");
        }
    }
}
