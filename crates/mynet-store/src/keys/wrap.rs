//! Content keys in transit: HPKE to one reader, signed by the group's owner.
//!
//! Suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20-Poly1305, base mode (RFC 9180 ids 0x0020, 0x0001, 0x0003).
//! Base mode says nothing about the sender, so the owner signs the record; HPKE's auth mode would let whoever steals
//! a reader's key forge wraps *to* that reader. The info string is
//! `"mynet/cek/1" || network id || group id || version (LE) || recipient key`, so a wrap opens only where it was meant to;
//! the associated data is empty.

use std::fmt;

use ed25519_dalek::SigningKey;
use hkdf::Hkdf;
use hpke::{
    Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::X25519HkdfSha256,
};
use mynet_types::{
    GroupId, Manifest, NetworkId, NodeId, OwnerKey, Protection, SignatureError, Signed, SignedWrap, WrapKey, WrapRecord,
};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::cipher::{ContentKey, TAG_BYTES};

/// Info string of the key that others wrap to.
const X25519_INFO: &[u8] = b"mynet/x25519/1";
/// Starts the info string of every wrap.
const CEK_INFO: &[u8] = b"mynet/cek/1";

type PrivateKey = <X25519HkdfSha256 as hpke::Kem>::PrivateKey;
type PublicKey = <X25519HkdfSha256 as hpke::Kem>::PublicKey;
type EncappedKey = <X25519HkdfSha256 as hpke::Kem>::EncappedKey;

/// Opens wraps for one node. Zeroed when dropped, never printed.
pub struct WrapSecret {
    private: PrivateKey,
    public: WrapKey,
}

impl WrapSecret {
    /// The X25519 key that belongs to a node key: HKDF-SHA256 of its seed.
    #[must_use]
    pub fn derive(node: &SigningKey) -> Self {
        let mut scalar = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(None, node.as_bytes())
            .expand(X25519_INFO, scalar.as_mut())
            .expect("32 bytes are far below the limit of HKDF-SHA256");
        let private =
            PrivateKey::from_bytes(scalar.as_ref()).expect("every 32 bytes are an X25519 key once they are clamped");
        let public = <X25519HkdfSha256 as hpke::Kem>::sk_to_pk(&private).to_bytes();
        Self { private, public: WrapKey(public.into()) }
    }

    /// The key that others wrap to; part of the node's admission record.
    #[must_use]
    pub fn public(&self) -> WrapKey {
        self.public
    }
}

impl fmt::Debug for WrapSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WrapSecret({})", self.public)
    }
}

/// Whom and what a wrap is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrapTarget {
    /// The network.
    pub network: NetworkId,
    /// The group.
    pub group_id: GroupId,
    /// The version whose key it is.
    pub version: u64,
    /// The reader.
    pub recipient: NodeId,
    /// The reader's key, from its admission record.
    pub recipient_key: WrapKey,
}

/// Why no wrap was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// The reader's key is one that gives no secret.
    #[error("node {recipient} announces an unusable X25519 key")]
    Key {
        /// The reader.
        recipient: NodeId,
    },
}

/// Why a wrap gave no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnwrapError {
    /// It was wrapped to another key than this node has now.
    #[error("the key is wrapped to {0}, which is not this node's key")]
    OtherRecipient(WrapKey),
    /// It belongs to another group or version than the manifest.
    #[error("the wrap is for another group or version")]
    OtherManifest,
    /// The manifest says that there is nothing to open.
    #[error("the content is not encrypted")]
    NotSealed,
    /// Somebody else than the group's owner made it.
    #[error("the wrap is signed by {0}, who does not own the group")]
    NotOwner(OwnerKey),
    /// The owner's signature is bad.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// HPKE refused: the wrap is damaged, or was made for another network.
    #[error("the wrapped key does not authenticate")]
    Inauthentic,
    /// It opened to a key that the manifest was not made with.
    #[error("the key does not match the manifest's commitment")]
    Commitment,
}

/// Wraps a content key to one reader and signs the record as the group's owner.
///
/// # Errors
/// [`WrapError::Key`] if the reader's key is of small order.
pub fn wrap_key(key: &ContentKey, target: &WrapTarget, owner: &SigningKey) -> Result<SignedWrap, WrapError> {
    let unusable = |_refused| WrapError::Key { recipient: target.recipient };
    let public = PublicKey::from_bytes(&target.recipient_key.0).map_err(unusable)?;
    let (enc, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        &info(target.network, target.group_id, target.version, target.recipient_key),
        key.expose(),
        b"",
    )
    .map_err(unusable)?;
    let ciphertext: [u8; 32 + TAG_BYTES] = ciphertext.try_into().expect("HPKE adds exactly one tag");
    let record = WrapRecord {
        group_id: target.group_id,
        version: target.version,
        recipient: target.recipient,
        recipient_key: target.recipient_key,
        enc: enc.to_bytes().into(),
        ciphertext,
        owner: OwnerKey(owner.verifying_key().to_bytes()),
    };
    Ok(Signed::new(&target.network, record, owner))
}

/// Opens a wrap for the content of `manifest`, whose own signature the caller has verified. The key that is returned is
/// the one that the manifest was made with.
///
/// # Errors
/// As [`UnwrapError`] says; anything may come from a peer.
pub fn unwrap_key(
    wrap: &SignedWrap,
    manifest: &Manifest,
    network: &NetworkId,
    secret: &WrapSecret,
) -> Result<ContentKey, UnwrapError> {
    let record = &wrap.body;
    let Protection::Sealed { key_commitment, .. } = &manifest.protection else {
        return Err(UnwrapError::NotSealed);
    };
    if record.group_id != manifest.group_id || record.version != manifest.key_version() {
        return Err(UnwrapError::OtherManifest);
    }
    if record.owner != manifest.owner {
        return Err(UnwrapError::NotOwner(record.owner));
    }
    if record.recipient_key != secret.public {
        return Err(UnwrapError::OtherRecipient(record.recipient_key));
    }
    wrap.verify(network)?;
    let key = open(record, network, secret)?;
    if key.matches(key_commitment) { Ok(key) } else { Err(UnwrapError::Commitment) }
}

/// HPKE alone.
fn open(record: &WrapRecord, network: &NetworkId, secret: &WrapSecret) -> Result<ContentKey, UnwrapError> {
    let inauthentic = |_refused| UnwrapError::Inauthentic;
    let enc = EncappedKey::from_bytes(&record.enc).map_err(inauthentic)?;
    let plain = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &secret.private,
        &enc,
        &info(*network, record.group_id, record.version, record.recipient_key),
        &record.ciphertext,
        b"",
    )
    .map_err(inauthentic)?;
    let plain = Zeroizing::new(plain);
    let secret = plain.as_slice().try_into().map_err(|_length| UnwrapError::Inauthentic)?;
    Ok(ContentKey::from_bytes(secret))
}

fn info(network: NetworkId, group_id: GroupId, version: u64, recipient: WrapKey) -> Vec<u8> {
    [CEK_INFO, &network.0, &group_id.0, &version.to_le_bytes(), &recipient.0].concat()
}

#[cfg(test)]
#[path = "wrap_tests.rs"]
mod tests;
