//! Content encryption: one random key per group version, 64 KiB chunks that open one by one.
//!
//! ```text
//! content key (CEK, 32 random bytes)
//!   |- HKDF(salt, "mynet/file/1" || version || algorithm || content id || state) -> file key   -> chunks.rs
//!   |- HKDF(salt, "mynet/sealed/1" || version)                                   -> sealed key -> sealed.rs
//!   `- HKDF("mynet/commit/1")                                                    -> key commitment in the manifest
//! ```
//!
//! Content is encrypted with the STREAM construction: every chunk is sealed alone under a nonce that holds its index and
//! whether it is the last one, so any range decrypts without the rest, and chunks can be neither reordered, dropped,
//! repeated nor appended. There is no header: every parameter is in the manifest, which the owner signs.
//!
//! Invariants:
//! 1. A file key encrypts one plaintext: its derivation holds version, content id and state, and the salt is fresh per
//!    manifest. Nonces are counters, so a key that met two plaintexts would leak both.
//! 2. A chunk that does not authenticate yields nothing.
//! 3. The format is frozen by the vectors in `vectors.rs`; a change is a new info string.
//!
//! Sources: Hoang, Reyhanitabar, Rogaway and Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance" (CRYPTO 2015), section 7 (STREAM); RFC 5869 (HKDF); RFC 8439 (ChaCha20-Poly1305); NIST SP 800-38D
//! (AES-GCM). The nonce layout is that of age and Tink with a zero prefix: the key is fresh per file, so a random prefix
//! would add nothing.
//!
//! Deliberately absent: convergent encryption (it confirms guesses of the plaintext), compression (it leaks through sizes).

mod chunks;
mod sealed;
#[cfg(test)]
mod vectors;

use std::{fmt, sync::Arc};

use aes_gcm::Aes256Gcm;
use chacha20poly1305::{
    ChaCha20Poly1305,
    aead::{AeadInOut, Buffer, KeyInit},
};
use hkdf::Hkdf;
use rand::{TryRng, rngs::SysRng};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use mynet_types::manifest::Aead;

pub use chunks::{
    CHUNK_BYTES, CHUNKS_MAX, CIPHER_BYTES_MAX, ChunkSpan, CipherError, FileCipher, FileParams, PLAIN_BYTES_MAX,
    SEALED_CHUNK_BYTES, cipher_len, plain_len,
};
pub use sealed::{SealedError, open_sealed_part, seal_sealed_part};

/// Bytes that authentication adds to every chunk; the same for both ciphers.
pub const TAG_BYTES: usize = 16;

/// Bytes of a nonce; the same for both ciphers.
const NONCE_BYTES: usize = 12;

/// Info string of the key commitment.
const COMMIT_INFO: &[u8] = b"mynet/commit/1";

/// The key of one (group, version): all that stands between a stranger and the content.
///
/// Zeroed when dropped, never printed. Not `Clone`: share it behind an `Arc`, so that there is one copy to erase.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ContentKey([u8; 32]);

impl ContentKey {
    /// A fresh key from the operating system's generator.
    ///
    /// # Panics
    /// If the operating system cannot give random bytes: no key may be made then.
    #[must_use]
    pub fn generate() -> Self {
        Self(random_bytes())
    }

    /// A key that was kept elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret itself, for wrapping. Named so that every use stands out.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The commitment that a manifest carries. The ciphers do not commit to their key: without this, one ciphertext could
    /// be made to open under two keys to two different contents.
    #[must_use]
    pub fn commitment(&self) -> [u8; 32] {
        *self.derive(None, &[COMMIT_INFO])
    }

    /// Whether this is the key that `commitment` was made from.
    #[must_use]
    pub fn matches(&self, commitment: &[u8; 32]) -> bool {
        // A commitment is public, so comparing it in variable time tells nothing.
        self.commitment() == *commitment
    }

    /// HKDF-SHA256 of this key to 32 bytes.
    fn derive(&self, salt: Option<&[u8]>, info: &[&[u8]]) -> Zeroizing<[u8; 32]> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(salt, &self.0)
            .expand_multi_info(info, key.as_mut())
            .expect("32 bytes are far below the limit of HKDF-SHA256");
        key
    }
}

impl fmt::Debug for ContentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentKey(..)")
    }
}

/// Random bytes from the operating system.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).expect("without the operating system's randomness no key may be made");
    bytes
}

/// One of the two ciphers with its key. Clones share the key, so that there is one copy to erase.
#[derive(Clone)]
enum AnyAead {
    /// RFC 8439.
    ChaCha(Arc<ChaCha20Poly1305>),
    /// NIST SP 800-38D.
    Aes(Arc<Aes256Gcm>),
}

/// A ciphertext was changed, or the key is another one.
struct Inauthentic;

impl AnyAead {
    fn new(algorithm: Aead, key: &[u8; 32]) -> Self {
        match algorithm {
            Aead::ChaCha20Poly1305 => Self::ChaCha(Arc::new(ChaCha20Poly1305::new(key.into()))),
            Aead::Aes256Gcm => Self::Aes(Arc::new(Aes256Gcm::new(key.into()))),
        }
    }

    /// Replaces the plaintext in `buffer` by ciphertext and tag.
    fn seal(&self, nonce: &[u8; NONCE_BYTES], buffer: &mut dyn Buffer) {
        match self {
            Self::ChaCha(cipher) => cipher.encrypt_in_place(nonce.into(), b"", buffer),
            Self::Aes(cipher) => cipher.encrypt_in_place(nonce.into(), b"", buffer),
        }
        .expect("the buffer grows, and at most 64 KiB is far below the limit of both ciphers");
    }

    /// Replaces the ciphertext and tag in `buffer` by the plaintext.
    fn open(&self, nonce: &[u8; NONCE_BYTES], buffer: &mut dyn Buffer) -> Result<(), Inauthentic> {
        match self {
            Self::ChaCha(cipher) => cipher.decrypt_in_place(nonce.into(), b"", buffer),
            Self::Aes(cipher) => cipher.decrypt_in_place(nonce.into(), b"", buffer),
        }
        .map_err(|chacha20poly1305::Error| Inauthentic)
    }
}

#[cfg(test)]
mod tests {
    use super::ContentKey;

    #[test]
    fn a_key_is_never_printed() {
        let key = ContentKey::from_bytes([0xAB; 32]);
        let text = format!("{key:?}").to_lowercase();
        assert!(!text.contains("ab") && !text.contains("171"), "{text}");
    }

    #[test]
    fn a_commitment_fits_its_key_only() {
        let (one, other) = (ContentKey::generate(), ContentKey::generate());
        assert!(one.matches(&one.commitment()));
        assert!(!other.matches(&one.commitment()));
    }
}
