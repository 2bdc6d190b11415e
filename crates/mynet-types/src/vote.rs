//! Proposals, votes and certificates of one epoch.
//!
//! A validator signs one fixed [`VoteStatement`]; all signatures of a certificate cover identical bytes. Timeouts are
//! not votes: what is not known is an unsigned [`Abstention`].
//!
//! A first version is attested in one round. Later versions are heads: a quorum of votes is shown to all validators, and a
//! quorum of their acks is the certificate. Only that holds over epochs; see [`crate::head`].
//!
//! **Invariant:** a vote key accepts at most one value per (epoch, phase, slot), and never both accepts and rejects one
//! value. Two signatures that break this are evidence in themselves.

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

use crate::{
    Domain, Genesis, GroupId, Manifest, ManifestHash, NetworkId, NodeId, ProposalId, Quorum, Roster, RosterHash,
    Signable, Signature, SignatureError, Signed, SignedBy, SignerSet, SignerSetError, SlotKey, StatesMask, Timestamp,
    codec, signing,
};

/// What a certificate says about the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Claim {
    /// Manifest, links, owner's signature and policy are in order.
    Seen,
    /// Seen, and at least W valid receipts of distinct admitted nodes were shown.
    Durable,
    /// The validator itself hashed the states named.
    Verified,
}

/// A round of voting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Phase {
    /// The first round, and the only one of an attestation.
    Vote,
    /// The second round of a head: the quorum of the first was seen.
    Ack,
}

/// Yes or no; there is no third signed word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum Verdict {
    /// The claim holds.
    Accept,
    /// The value is objectively wrong: see [`RejectReason`].
    Reject,
}

impl Verdict {
    /// Votes that make a certificate with this verdict.
    #[must_use]
    pub fn votes_needed(self, quorum: Quorum) -> usize {
        match self {
            Self::Accept => quorum.accept(),
            Self::Reject => quorum.reject(),
        }
    }
}

/// Objective reasons to reject: every honest validator with the same bytes finds the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RejectReason {
    /// Complete bytes match the BLAKE3 root and the size, but not SHA-256.
    HashMismatch,
    /// The manifest breaks a rule of its form.
    ManifestInvalid,
    /// The links do not make one group.
    LinksInvalid,
    /// The owner's signature does not verify.
    OwnerSignatureInvalid,
    /// The network's policy forbids the content.
    PolicyDenied,
    /// A later version that may not take the place of the one that it names as the one before.
    HeadInvalid,
}

/// Why a validator does not vote now. Never signed, never kept, may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum AbstainReason {
    /// The bytes or receipts it would need are not there.
    Unavailable,
    /// Too much to do; ask again later.
    Busy,
    /// The proposal names another roster than the newest known here.
    OtherRoster,
    /// It may not vote in this epoch: its vote store was lost or restored.
    NotVoting,
    /// The proposal has expired.
    Expired,
    /// It voted for another value in this slot.
    Locked,
    /// It signs no heads of this epoch any more; the next epoch is being made.
    Closed,
    /// What stands beside a later version does not show that the one before is certified.
    HeadUnproven,
    /// An epoch that this rests on, or what was carried into it, is not known yet.
    EpochUnknown,
}

/// Asks validators to certify one manifest.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Proposal {
    /// The epoch whose validators are asked.
    pub epoch: u64,
    /// The roster of that epoch.
    pub roster: RosterHash,
    /// Who asks, and signs this.
    pub proposer: NodeId,
    /// The group.
    pub group_id: GroupId,
    /// Its version.
    pub version: u64,
    /// The value voted on.
    pub manifest_hash: ManifestHash,
    /// What to certify about it.
    pub claim: Claim,
    /// The states that the claim covers.
    pub states: StatesMask,
    /// No vote after this.
    pub expires_at: Timestamp,
    /// Makes repeated proposals different.
    pub nonce: [u8; 16],
}

/// A proposal with its proposer's signature.
pub type SignedProposal = Signed<Proposal>;

impl Signable for Proposal {
    const DOMAIN: Domain = Domain::Proposal;
}

impl SignedBy for Proposal {
    fn signer(&self) -> &[u8; 32] {
        &self.proposer.0
    }
}

impl Proposal {
    /// SHA-256 of the encoding.
    #[must_use]
    pub fn id(&self) -> ProposalId {
        ProposalId(codec::digest(self))
    }

    /// The statement that a vote on this proposal signs.
    #[must_use]
    pub fn statement(&self, verdict: Verdict) -> VoteStatement {
        VoteStatement {
            epoch: self.epoch,
            roster: self.roster,
            phase: Phase::Vote,
            slot: slot_of(&self.group_id, self.version, &self.manifest_hash),
            value: self.manifest_hash,
            verdict,
            claim: self.claim,
            states: self.states,
        }
    }
}

/// The slot of an attestation: the value itself, whoever proposes, so only yes and no of one value conflict.
#[must_use]
pub fn attest_slot(value: &ManifestHash) -> SlotKey {
    let mut hasher = Sha256::new();
    hasher.update(b"attest");
    hasher.update(value.0);
    SlotKey(hasher.finalize().into())
}

/// The slot of a head: the group and the version, as 8 bytes with the lowest first like all numbers on the wire. So two
/// values for one version conflict.
#[must_use]
pub fn head_slot(group_id: &GroupId, version: u64) -> SlotKey {
    let mut hasher = Sha256::new();
    hasher.update(b"head");
    hasher.update(group_id.0);
    hasher.update(version.to_le_bytes());
    SlotKey(hasher.finalize().into())
}

/// Whether a version is certified as a head, in two rounds.
#[must_use]
pub fn is_head(version: u64) -> bool {
    version > 1
}

/// The slot in which `value`, a version of `group_id`, is voted on. A first version is unique by its group id and needs
/// only its own hash.
#[must_use]
pub fn slot_of(group_id: &GroupId, version: u64, value: &ManifestHash) -> SlotKey {
    if is_head(version) { head_slot(group_id, version) } else { attest_slot(value) }
}

/// Exactly what a vote signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct VoteStatement {
    /// The epoch.
    pub epoch: u64,
    /// Its roster.
    pub roster: RosterHash,
    /// The round.
    pub phase: Phase,
    /// What is locked.
    pub slot: SlotKey,
    /// The value.
    pub value: ManifestHash,
    /// Yes or no.
    pub verdict: Verdict,
    /// What is said about the value.
    pub claim: Claim,
    /// Of which states.
    pub states: StatesMask,
}

impl VoteStatement {
    /// Whether a quorum for this decides `manifest`: it is about this manifest, in its slot, in the round that counts. A
    /// head is accepted by acks only. It is rejected in the first round, because a rejection locks nothing.
    #[must_use]
    pub fn decides(&self, manifest: &Manifest) -> bool {
        let value = manifest.hash();
        let acked = is_head(manifest.version) && self.verdict == Verdict::Accept;
        let phase = if acked { Phase::Ack } else { Phase::Vote };
        let slot = slot_of(&manifest.group_id, manifest.version, &value);
        (self.value, self.phase, self.slot) == (value, phase, slot)
    }
}

/// One validator's vote.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Vote {
    /// What is signed.
    pub statement: VoteStatement,
    /// The voter's seat in the roster of the statement.
    pub seat: u16,
    /// By the seat's vote key.
    pub signature: Signature,
    /// The proposal that asked; not signed, so votes for different proposals of one value add up.
    pub proposal_id: ProposalId,
    /// Why not, for rejections; not signed.
    pub reason: Option<RejectReason>,
}

impl Vote {
    /// Checks the signature against the seat in `roster`.
    ///
    /// # Errors
    /// [`SignatureError::Key`] if the seat does not exist; otherwise as [`signing::verify_as`].
    pub fn verify(&self, network: &NetworkId, roster: &Roster) -> Result<(), SignatureError> {
        let validator = roster.validators.get(usize::from(self.seat)).ok_or(SignatureError::Key)?;
        signing::verify_as(Domain::Vote, network, &self.statement, &validator.vote_key.0, &self.signature)
    }
}

/// An unsigned answer instead of a vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Abstention {
    /// The proposal that asked.
    pub proposal_id: ProposalId,
    /// Why there is no vote now.
    pub reason: AbstainReason,
}

/// A quorum of votes over one statement.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct QuorumCertificate {
    /// What all of them signed.
    pub statement: VoteStatement,
    /// Who signed.
    pub signers: SignerSet,
}

/// Why a certificate proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// It names another roster than the one of its epoch.
    #[error("it names a roster that is not the one of its epoch")]
    OtherRoster,
    /// The roster is too small to certify in this network.
    #[error("{validators} validators are too few to certify in this network")]
    NotEnoughValidators {
        /// Validators in the roster.
        validators: usize,
    },
    /// The signatures do not stand for a quorum.
    #[error(transparent)]
    Signers(#[from] SignerSetError),
}

impl QuorumCertificate {
    /// Checks that a quorum of `roster` signed the statement, and says how many votes that took; the quorum is computed
    /// here, never taken from the input.
    ///
    /// # Errors
    /// The first defect found.
    pub fn verify(&self, genesis: &Genesis, roster: &Roster) -> Result<usize, CertificateError> {
        if self.statement.epoch != roster.epoch || self.statement.roster != roster.hash() {
            return Err(CertificateError::OtherRoster);
        }
        let validators = roster.validators.len();
        let quorum = genesis.quorum(validators).ok_or(CertificateError::NotEnoughValidators { validators })?;
        let need = self.statement.verdict.votes_needed(quorum);
        self.signers.verify(&roster.validators, need, (Domain::Vote, &genesis.network_id()), &self.statement)?;
        Ok(need)
    }
}
