//! One way to sign: a domain, the network, and the hash of the canonical encoding.
//!
//! Signing bytes are `"MYNET-SIG-v1\0" || len8(domain) || domain || network_id[32] || SHA-256(borsh(body))[32]`. The
//! domain keeps a signature over one kind of record from passing for another, the network id keeps it from
//! passing in another network. Signatures are Ed25519, checked one by one with `verify_strict`: batch and single
//! verification may disagree on crafted signatures, and a certificate must be valid for all or for none.
//! Source: RFC 8032; Chalkias et al., "Taming the many EdDSAs" (2020).

#[cfg(all(feature = "memo", debug_assertions))]
pub mod memo;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::{NetworkId, codec};

/// Starts every signing text; TLS 1.3 signs 64 spaces first, so no signature crosses over.
const PREFIX: &[u8; 13] = b"MYNET-SIG-v1\0";

/// What kind of record is signed. A new record kind gets a new domain, a changed one a new number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Domain {
    /// Which manifest is which version of which group, by the owner key.
    Manifest,
    /// A wrapped content key, by the owner key.
    Wrap,
    /// A tombstone, by the owner key.
    Tombstone,
    /// A proposal, by the proposer's node key.
    Proposal,
    /// A vote, by a vote key.
    Vote,
    /// The next roster, by a vote key of the roster before it.
    Roster,
    /// The own seat in the next roster, by the new vote key.
    RosterAccept,
    /// A fresh vote key for the next roster, by the node key.
    RosterKey,
    /// A storage receipt, by the holder's node key.
    Receipt,
    /// A replication decision, by the coordinator's node key.
    Decision,
    /// An invitation, by the inviter's node key.
    Invite,
    /// An admission, by a validator's node key.
    Admission,
    /// A node's announcement of itself, by its node key.
    NodeRecord,
    /// What a seat acked in an epoch that it closed, by its vote key of that epoch.
    Close,
    /// The next roster, by an offline recovery key.
    Recovery,
    /// What a node brings to a recovered roster, by its node key.
    RecoveryOffer,
}

impl Domain {
    /// The text that is signed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest/1",
            Self::Wrap => "wrap/1",
            Self::Tombstone => "tombstone/1",
            Self::Proposal => "prop/1",
            Self::Vote => "vote/1",
            Self::Roster => "config/1",
            Self::RosterAccept => "config-accept/1",
            Self::RosterKey => "config-key/1",
            Self::Receipt => "store-att/1",
            Self::Decision => "repl-dec/1",
            Self::Invite => "invite/1",
            Self::Admission => "admit/1",
            Self::NodeRecord => "node/1",
            Self::Close => "close/1",
            Self::Recovery => "config-recovery/1",
            Self::RecoveryOffer => "recovery-offer/1",
        }
    }
}

/// A record kind that is signed, and under which domain.
pub trait Signable: BorshSerialize {
    /// The domain of every signature over this kind.
    const DOMAIN: Domain;

    /// The body hash that a signature covers: that of the encoding, unless a shorter record says all that is signed.
    fn signed_hash(&self) -> [u8; 32] {
        codec::digest(self)
    }
}

/// A public key or signature does not prove what it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The bytes are no Ed25519 public key.
    #[error("not an Ed25519 public key")]
    Key,
    /// The signature does not verify.
    #[error("signature does not verify")]
    Signature,
}

/// An Ed25519 signature.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
pub struct Signature(pub [u8; 64]);

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signature({}..)", hex::encode(self.0.split_at(4).0))
    }
}

/// The bytes that a signature covers.
#[must_use]
pub fn signing_bytes(domain: Domain, network: &NetworkId, body: &[u8; 32]) -> Vec<u8> {
    let name = if planted!(MissingDomain) { &[][..] } else { domain.as_str().as_bytes() };
    let mut bytes = Vec::with_capacity(PREFIX.len() + 1 + name.len() + 64);
    bytes.extend_from_slice(PREFIX);
    bytes.push(u8::try_from(name.len()).expect("domains are short constants"));
    bytes.extend_from_slice(name);
    bytes.extend_from_slice(&network.0);
    bytes.extend_from_slice(body);
    bytes
}

/// Signs the canonical encoding of `body` under `domain`.
#[must_use]
pub fn sign_as<T: BorshSerialize>(domain: Domain, network: &NetworkId, body: &T, key: &SigningKey) -> Signature {
    sign_hash(domain, network, &codec::digest(body), key)
}

/// Signs a body of this hash under `domain`; what [`sign_as`] does with the hash of an encoding.
#[must_use]
pub fn sign_hash(domain: Domain, network: &NetworkId, hash: &[u8; 32], key: &SigningKey) -> Signature {
    Signature(key.sign(&signing_bytes(domain, network, hash)).to_bytes())
}

/// Checks a signature by `key` over the canonical encoding of `body` under `domain`.
///
/// # Errors
/// [`SignatureError::Key`] if `key` is no public key, [`SignatureError::Signature`] if the signature does not verify.
pub fn verify_as<T: BorshSerialize>(
    domain: Domain,
    network: &NetworkId,
    body: &T,
    key: &[u8; 32],
    signature: &Signature,
) -> Result<(), SignatureError> {
    verify_hash(domain, network, &codec::digest(body), key, signature)
}

fn verify_hash(
    domain: Domain,
    network: &NetworkId,
    hash: &[u8; 32],
    key: &[u8; 32],
    signature: &Signature,
) -> Result<(), SignatureError> {
    let text = signing_bytes(domain, network, hash);
    #[cfg(all(feature = "memo", debug_assertions))]
    return memo::verdict(key, text, signature, verify_text);
    #[cfg(not(all(feature = "memo", debug_assertions)))]
    verify_text(key, &text, signature)
}

fn verify_text(key: &[u8; 32], text: &[u8], signature: &Signature) -> Result<(), SignatureError> {
    let key = VerifyingKey::from_bytes(key).map_err(|_invalid| SignatureError::Key)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    key.verify_strict(text, &signature).map_err(|_invalid| SignatureError::Signature)
}

/// A record with the signature of the key that it names. The signer is part of the body, so it cannot be swapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Signed<T> {
    /// What is signed.
    pub body: T,
    /// The signature of the key that the body names.
    pub signature: Signature,
}

/// Names the key that must have signed the record.
pub trait SignedBy {
    /// The Ed25519 public key of the only rightful signer.
    fn signer(&self) -> &[u8; 32];
}

impl<T: Signable + SignedBy> Signed<T> {
    /// Signs `body`; `key` must be the one that the body names, or [`Self::verify`] fails later.
    ///
    /// # Panics
    /// With debug assertions, if `key` is another one: a programmer's error.
    #[must_use]
    pub fn new(network: &NetworkId, body: T, key: &SigningKey) -> Self {
        debug_assert_eq!(body.signer(), key.verifying_key().as_bytes(), "a record is signed by the key that it names");
        let signature = sign_hash(T::DOMAIN, network, &body.signed_hash(), key);
        Self { body, signature }
    }

    /// Checks the signature against the key that the body names.
    ///
    /// # Errors
    /// As [`verify_as`].
    pub fn verify(&self, network: &NetworkId) -> Result<(), SignatureError> {
        verify_hash(T::DOMAIN, network, &self.body.signed_hash(), self.body.signer(), &self.signature)
    }
}
