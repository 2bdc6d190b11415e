//! Content keys at rest: wrapped under the node's key-encryption key.
//!
//! XChaCha20-Poly1305 with a random 24-byte nonce: long enough that random nonces never meet. The associated data is
//! `row id || group id || version (LE)`, so a wrapped key moved to another row does not open. Rotating the KEK opens and
//! wraps each row again ([`Kek::rewrap`]); content is never rewritten.

use std::fmt;

use chacha20poly1305::{
    XChaCha20Poly1305,
    aead::{AeadInOut, KeyInit},
};
use hkdf::Hkdf;
use mynet_types::GroupId;
use sha2::Sha256;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::cipher::{ContentKey, TAG_BYTES, random_bytes};

/// Info string of [`KekId`].
const ID_INFO: &[u8] = b"mynet/kek-id/1";
/// Bytes of a nonce of XChaCha20-Poly1305.
const NONCE_BYTES: usize = 24;

/// The key that the content keys of one node rest under. Zeroed when dropped, never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Kek([u8; 32]);

/// Names a KEK without telling it: which rows rotation has not reached yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KekId(pub [u8; 8]);

impl fmt::Display for KekId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The row that a wrapped key belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KekContext {
    /// Id of the row in `encryption_keys`.
    pub key_id: Uuid,
    /// The group.
    pub group_id: GroupId,
    /// The version whose key it is.
    pub version: u64,
}

impl KekContext {
    fn associated_data(&self) -> [u8; 56] {
        let mut bytes = [0; 56];
        let (key_id, rest) = bytes.split_at_mut(16);
        let (group_id, version) = rest.split_at_mut(32);
        key_id.copy_from_slice(self.key_id.as_bytes());
        group_id.copy_from_slice(&self.group_id.0);
        version.copy_from_slice(&self.version.to_le_bytes());
        bytes
    }
}

/// A content key as it lies in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrappedKey {
    /// The KEK that opens it.
    pub kek_id: KekId,
    /// Random.
    pub nonce: [u8; NONCE_BYTES],
    /// The encrypted key and its tag.
    pub ciphertext: [u8; 32 + TAG_BYTES],
}

/// Why a wrapped key did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KekError {
    /// It rests under another KEK.
    #[error("the key rests under KEK {wrapped}, this is {own}: restore the kek.key that wrapped it")]
    OtherKek {
        /// The KEK that opens it.
        wrapped: KekId,
        /// The KEK at hand.
        own: KekId,
    },
    /// The row was changed, or is the row of another key.
    #[error("the wrapped key does not authenticate: the row was changed")]
    Inauthentic,
}

impl Kek {
    /// A key that was kept elsewhere.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Which KEK this is.
    #[must_use]
    pub fn id(&self) -> KekId {
        let mut id = [0; 8];
        Hkdf::<Sha256>::new(None, &self.0)
            .expand(ID_INFO, &mut id)
            .expect("8 bytes are far below the limit of HKDF-SHA256");
        KekId(id)
    }

    /// Wraps a content key for its row.
    #[must_use]
    pub fn wrap(&self, key: &ContentKey, context: &KekContext) -> WrappedKey {
        self.wrap_with_nonce(key, context, random_bytes())
    }

    /// Opens the key of a row.
    ///
    /// # Errors
    /// As [`KekError`] says.
    pub fn unwrap(&self, wrapped: &WrappedKey, context: &KekContext) -> Result<ContentKey, KekError> {
        let own = self.id();
        if wrapped.kek_id != own {
            return Err(KekError::OtherKek { wrapped: wrapped.kek_id, own });
        }
        let mut buffer = Zeroizing::new(wrapped.ciphertext.to_vec());
        self.cipher()
            .decrypt_in_place((&wrapped.nonce).into(), &context.associated_data(), &mut *buffer)
            .map_err(|chacha20poly1305::Error| KekError::Inauthentic)?;
        let secret = buffer.as_slice().try_into().map_err(|_length| KekError::Inauthentic)?;
        Ok(ContentKey::from_bytes(secret))
    }

    /// Moves a key from `old` to this KEK.
    ///
    /// # Errors
    /// As [`Kek::unwrap`] with `old`.
    pub fn rewrap(&self, old: &Kek, wrapped: &WrappedKey, context: &KekContext) -> Result<WrappedKey, KekError> {
        Ok(self.wrap(&old.unwrap(wrapped, context)?, context))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&self.0).into())
    }

    fn wrap_with_nonce(&self, key: &ContentKey, context: &KekContext, nonce: [u8; NONCE_BYTES]) -> WrappedKey {
        let mut buffer = Zeroizing::new(Vec::with_capacity(32 + TAG_BYTES));
        buffer.extend_from_slice(key.expose());
        self.cipher()
            .encrypt_in_place((&nonce).into(), &context.associated_data(), &mut *buffer)
            .expect("the buffer grows, and 32 bytes are far below the limit of the cipher");
        let ciphertext = buffer.as_slice().try_into().expect("the cipher adds exactly one tag");
        WrappedKey { kek_id: self.id(), nonce, ciphertext }
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kek({})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::GroupId;
    use uuid::Uuid;

    use super::{Kek, KekContext, KekError};
    use crate::cipher::ContentKey;

    fn context() -> KekContext {
        KekContext { key_id: Uuid::from_bytes([1; 16]), group_id: GroupId([2; 32]), version: 3 }
    }

    #[test]
    fn a_wrapped_key_opens_in_its_own_row_only() {
        let (kek, key) = (Kek::from_bytes([9; 32]), ContentKey::generate());
        let wrapped = kek.wrap(&key, &context());
        assert_eq!(kek.unwrap(&wrapped, &context()).unwrap().expose(), key.expose());
        let others = [
            KekContext { key_id: Uuid::from_bytes([9; 16]), ..context() },
            KekContext { group_id: GroupId([9; 32]), ..context() },
            KekContext { version: 9, ..context() },
        ];
        for other in others {
            assert_eq!(kek.unwrap(&wrapped, &other).unwrap_err(), KekError::Inauthentic);
        }
        for bit in 0..48 * 8 {
            let mut bad = wrapped;
            bad.ciphertext[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kek.unwrap(&bad, &context()).unwrap_err(), KekError::Inauthentic, "bit {bit}");
        }
        let mut bad = wrapped;
        bad.nonce[0] ^= 1;
        assert_eq!(kek.unwrap(&bad, &context()).unwrap_err(), KekError::Inauthentic);
    }

    #[test]
    fn rotation_rewraps_and_the_old_kek_opens_no_more() {
        let (old, new, key) = (Kek::from_bytes([1; 32]), Kek::from_bytes([2; 32]), ContentKey::generate());
        let wrapped = new.rewrap(&old, &old.wrap(&key, &context()), &context()).unwrap();
        assert_eq!(new.unwrap(&wrapped, &context()).unwrap().expose(), key.expose());
        let refused = old.unwrap(&wrapped, &context()).unwrap_err();
        assert_eq!(refused, KekError::OtherKek { wrapped: new.id(), own: old.id() });
    }

    #[test]
    fn two_wraps_of_one_key_differ() {
        let (kek, key) = (Kek::from_bytes([1; 32]), ContentKey::generate());
        assert_ne!(kek.wrap(&key, &context()).nonce, kek.wrap(&key, &context()).nonce);
    }

    #[test]
    fn the_format_is_frozen() {
        let kek = Kek::from_bytes([0x42; 32]);
        let wrapped = kek.wrap_with_nonce(&ContentKey::from_bytes([7; 32]), &context(), [5; 24]);
        assert_eq!(kek.id().to_string(), "d620dbd76aa01be1");
        assert_eq!(
            hex::encode(wrapped.ciphertext),
            "fb3cdf73ad976f54b14c90347d9a65c697565f82b8e0a47be382db2729a2630ff9a66b83d9711e99db0422a5ea2d4c24"
        );
    }
}
