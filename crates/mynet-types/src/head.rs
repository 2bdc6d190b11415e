//! Heads: versions after the first, of which a group has one each, and what carries them over epochs.
//!
//! A head is voted on in two rounds. A quorum of votes says that no other value of this version has a quorum in this
//! epoch; a quorum of acks, each given after that quorum was seen and written down, says that none will have one in any
//! later epoch either. For when the epoch ends, a quorum of its seats reports what it acked. That quorum and the quorum of
//! acks share an honest seat, so a value that is final is in a report. The next roster names what was reported by
//! [`Roster::close_set_root`], and its validators vote for nothing else.
//!
//! The set is cumulative: whatever is once carried stays, until a later version of its group takes the place. A later
//! version proves by its [`HeadProof`] that the one before was final.
//!
//! Source: Baudet et al., "FastPay" (2020), certificates over epochs; Blackshear et al., "Sui Lutris" (2023),
//! reconfiguration.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::SigningKey;
use sha2::{Digest, Sha256};

use crate::{
    CertificateFile, Domain, Genesis, GroupId, Manifest, ManifestHash, NetworkId, Phase, QuorumCertificate, Roster,
    RosterHash, Signature, SignatureError, Verdict, VerifiedChain, codec, signing,
    vote::{CertificateError, head_slot},
};

/// Acked heads of one message at most; with 64 validators some 410 KB. Half as many double the round trips of a long
/// report, twice as many come near what a slow peer sends within a second.
pub const ACKED_PER_PAGE_MAX: usize = 96;
/// Carried heads of one message at most: 72 KB, by the same measure.
pub const CARRIED_PER_PAGE_MAX: usize = 1024;

/// Shows that the version before a head is certified; or the head itself, as less than is asked for now.
///
/// An attestation names only the hash of what it certifies, so the manifest stands beside it: whoever hashes it knows the
/// group, the version and the owner. Its owner's signature is left out, because validators checked it before they voted.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct HeadProof {
    /// The version before.
    pub manifest: Manifest,
    /// What certifies it: the attestation of a first version, the acks of a later one.
    pub certificate: QuorumCertificate,
}

/// Why a [`HeadProof`] does not let a head follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeadProofError {
    /// The head names another manifest as the one before it.
    #[error("it is not about the manifest that the head replaces")]
    OtherManifest,
    /// The head names this manifest, but is of another group or owner, or not the next version.
    #[error("the head is no next version of the manifest that it replaces")]
    Lineage,
    /// The votes are a rejection, or of another round or slot.
    #[error("the votes do not certify the manifest that the head replaces")]
    NotCertified,
    /// The votes are of an epoch that is not known.
    #[error("epoch {0} is not known")]
    UnknownEpoch(u64),
    /// The votes do not stand.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl HeadProof {
    /// The proof for the version after the one that `file` certifies.
    #[must_use]
    pub fn of(file: &CertificateFile) -> Self {
        Self { manifest: file.manifest.body.clone(), certificate: file.certificate.clone() }
    }

    /// Whether this shows a certificate of `head` itself.
    #[must_use]
    pub fn is_of(&self, head: &Manifest) -> bool {
        self.manifest == *head
    }

    /// Checks that `head` may follow: it names this manifest, is its next version, of the same group and owner, and this
    /// manifest is certified. Or it is this manifest: whoever certified it checked what it follows.
    ///
    /// # Errors
    /// The first defect found. [`HeadProofError::Lineage`] is a defect of `head` itself, whatever is shown beside it; all
    /// others are of this proof.
    pub fn verify(&self, head: &Manifest, chain: &VerifiedChain) -> Result<(), HeadProofError> {
        let before = &self.manifest;
        if !self.is_of(head) {
            if head.prev != Some(before.hash()) {
                return Err(HeadProofError::OtherManifest);
            }
            let next = (before.group_id, before.version.checked_add(1), before.owner);
            if next != (head.group_id, Some(head.version), head.owner) {
                return Err(HeadProofError::Lineage);
            }
        }
        let statement = &self.certificate.statement;
        if statement.verdict != Verdict::Accept || !statement.decides(before) {
            return Err(HeadProofError::NotCertified);
        }
        let roster = chain.roster(statement.epoch).ok_or(HeadProofError::UnknownEpoch(statement.epoch))?;
        self.certificate.verify(chain.genesis(), roster)?;
        Ok(())
    }
}

/// A head that a validator acked, with the quorum it saw before.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AckedHead {
    /// The group.
    pub group_id: GroupId,
    /// The version.
    pub version: u64,
    /// The quorum of the first round; names the value.
    pub certificate: QuorumCertificate,
}

impl AckedHead {
    /// What of it is carried into the next epoch.
    #[must_use]
    pub fn carried(&self) -> CarriedHead {
        CarriedHead { group_id: self.group_id, version: self.version, value: self.certificate.statement.value }
    }

    /// Whether the certificate is a first round of this head by a quorum of `roster`. Nobody else can make one.
    #[must_use]
    pub fn is_proven(&self, genesis: &Genesis, roster: &Roster) -> bool {
        let statement = &self.certificate.statement;
        statement.phase == Phase::Vote
            && statement.verdict == Verdict::Accept
            && statement.slot == head_slot(&self.group_id, self.version)
            && self.certificate.verify(genesis, roster).is_ok()
    }
}

/// A head that holds in later epochs: of this version of the group validators vote for this value only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct CarriedHead {
    /// The group.
    pub group_id: GroupId,
    /// The version; all before it are over.
    pub version: u64,
    /// The one value of it.
    pub value: ManifestHash,
}

/// Heads by group, one each: what one report or one close set holds.
pub type HeadSet = BTreeMap<GroupId, CarriedHead>;

/// The root of a set of heads: zero for none, else one SHA-256 over all of them in the order of their groups.
///
/// A plain hash and no tree: whoever needs a set needs all of it, and proves nothing about a part to anybody.
#[must_use]
pub fn set_root<'a>(heads: impl IntoIterator<Item = &'a CarriedHead>) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"mynet/close-set/1\0");
    let mut any = false;
    for head in heads {
        any = true;
        hasher.update(codec::encode(head));
    }
    if any { hasher.finalize().into() } else { [0; 32] }
}

/// What a seat says when it closes its epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CloseStatement {
    /// The epoch that it closed.
    pub epoch: u64,
    /// The roster of that epoch.
    pub roster: RosterHash,
    /// Its seat there.
    pub seat: u16,
    /// [`set_root`] of the heads that it acked in this epoch, of each group the highest version.
    pub root: [u8; 32],
    /// How many those are.
    pub count: u32,
}

/// A [`CloseStatement`] with the signature of the seat's vote key. Not of the node key: a node that lost its votes has lost
/// that key too, and cannot report that it acked nothing.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CloseReport {
    /// What is said.
    pub statement: CloseStatement,
    /// By the seat's vote key of the epoch.
    pub signature: Signature,
}

impl CloseReport {
    /// Signs `statement` with the vote key of its seat.
    #[must_use]
    pub fn new(network: &NetworkId, statement: CloseStatement, key: &SigningKey) -> Self {
        Self { statement, signature: signing::sign_as(Domain::Close, network, &statement, key) }
    }

    /// Checks that the seat of `roster` that it names said this about `roster`.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if it is about another roster or a seat that does not exist; otherwise as
    /// [`signing::verify_as`].
    pub fn verify(&self, network: &NetworkId, roster: &Roster) -> Result<(), SignatureError> {
        let statement = &self.statement;
        let seat = roster.validators.get(usize::from(statement.seat)).ok_or(SignatureError::Key)?;
        if (statement.epoch, statement.roster) != (roster.epoch, roster.hash()) {
            return Err(SignatureError::Key);
        }
        signing::verify_as(Domain::Close, network, statement, &seat.vote_key.0, &self.signature)
    }
}
