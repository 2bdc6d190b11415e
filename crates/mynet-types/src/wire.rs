//! Messages between cores: what [`Message`] kinds exist, their fields and bounds.
//!
//! A message is one-way and may be lost, repeated or late; every handler is idempotent. Who sent it is known from the
//! connection, so only statements that will be forwarded or stored carry signatures. Requests that expect a direct answer
//! are in [`crate::rpc`].

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Abstention, AckedHead, BoundedVec, CarriedHead, CertificateFile, CloseReport, Evidence, GroupId, HeadProof,
    ManifestHash, NodeId, OwnerEvidence, QuorumCertificate, Roster, RosterHash, RosterLink, Signature, SignedAdmission,
    SignedDecision, SignedManifest, SignedNodeRecord, SignedProposal, SignedReceipt, SignedRosterKey, SignedStatement,
    SignedTombstone, SignedWrap, StatesMask, TxId, Vote,
    certificate::RECEIPTS_MAX,
    head::{ACKED_PER_PAGE_MAX, CARRIED_PER_PAGE_MAX},
    manifest::SEALED_BYTES_MAX,
};

/// Version of all messages; a peer that speaks another one is told so at the handshake.
pub const WIRE_VERSION: u16 = 1;
/// Copies of a group that may be wanted at most.
pub const REPLICAS_MAX: u8 = 16;
/// Targets of one transaction at most: as many as copies can be wanted.
pub const TARGETS_MAX: usize = REPLICAS_MAX as usize;
/// Wraps of one group at most: readers that are nodes.
pub const WRAPS_MAX: usize = 256;
/// Tombstones in one message at most: each costs its receiver a signature check, and one flush takes them all.
pub const TOMBSTONES_PER_MESSAGE_MAX: usize = 64;
/// Members told in one message at most; more are told in further messages.
pub const MEMBERS_PER_MESSAGE_MAX: usize = 256;

/// Votes given back to their seat in one answer. The newest show whether its store is older than they are; more only cost
/// bytes.
pub const YOUR_VOTES_MAX: usize = 64;
/// Evidence told in one message at most; more is told in further messages.
pub const EVIDENCE_PER_MESSAGE_MAX: usize = 16;

/// The encrypted sealed part.
pub type SealedBytes = BoundedVec<u8, SEALED_BYTES_MAX>;
/// All wraps of a group.
pub type Wraps = BoundedVec<SignedWrap, WRAPS_MAX>;
/// Tombstones of several groups.
pub type Tombstones = BoundedVec<SignedTombstone, TOMBSTONES_PER_MESSAGE_MAX>;
/// Receipts of a manifest, one per holder.
pub type Receipts = BoundedVec<SignedReceipt, RECEIPTS_MAX>;
/// Reports of the seats that closed an epoch, one per seat, lowest first.
pub type CloseReports = BoundedVec<CloseReport, { crate::VALIDATORS_MAX }>;

/// Asks a target to reserve, pull and verify one group version. Coordinator to participant.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Prepare {
    /// The transaction.
    pub tx: TxId,
    /// Grows with each new try at the same target.
    pub attempt: u32,
    /// What to hold.
    pub manifest: SignedManifest,
    /// Its sealed part; empty for public content.
    pub sealed: SealedBytes,
    /// Every wrap of the group, the receiver's own among them if it is granted.
    pub wraps: Wraps,
    /// The states wanted; the receiver takes no more than it is allowed.
    pub states: StatesMask,
    /// Nodes that have the bytes, best first.
    pub sources: BoundedVec<NodeId, TARGETS_MAX>,
    /// Every target, so that they can ask each other when the coordinator is gone.
    pub targets: BoundedVec<NodeId, TARGETS_MAX>,
    /// How long the receiver keeps its reservation without news, in milliseconds.
    pub lease_ms: u32,
    /// What certifies the manifest if it is of a later version than the first: the acks of a quorum.
    pub head: Option<Box<QuorumCertificate>>,
}

/// Why a target does not prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum RefuseReason {
    /// Not enough free space.
    NoSpace,
    /// A state was asked for that this node may not hold.
    StateNotAllowed,
    /// The manifest breaks a rule or its signature.
    ManifestInvalid,
    /// A content id of the group belongs to another group here.
    IdConflict,
    /// A newer version, or a tombstone, is known here.
    Superseded,
    /// No source delivered the bytes.
    Unavailable,
    /// The bytes match the BLAKE3 root but not SHA-256.
    HashMismatch,
    /// The wrap does not open, or opens to another key.
    WrapInvalid,
    /// Too much to do; ask again later.
    Busy,
    /// The disk failed.
    Storage,
    /// The validators rejected the manifest.
    Rejected,
    /// What certifies a later version is missing, or does not certify it.
    HeadInvalid,
    /// The epoch in which a later version was certified is not known yet; try again later.
    EpochUnknown,
}

/// A participant's state of one transaction, as told to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum TxStatus {
    /// Never heard of it, or forgotten: presumed aborted.
    Unknown,
    /// Reserving or receiving.
    Preparing,
    /// Everything is verified and fsynced.
    Prepared,
    /// Visible here.
    Committed,
    /// Given up here.
    Aborted,
}

/// How a participant carried out a decision.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DecisionOutcome {
    /// The group is visible here, and this is the proof.
    Committed(SignedReceipt),
    /// Staging is gone.
    Aborted,
    /// The lease had ended before a commit came: this copy does not exist.
    Gone,
}

/// Messages of group replication.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ReplicationMessage {
    /// Coordinator to participant: reserve, pull, verify.
    Prepare(Box<Prepare>),
    /// Participant: reserved; the lease runs.
    PrepareOk {
        /// The transaction.
        tx: TxId,
        /// The attempt answered.
        attempt: u32,
    },
    /// Participant: will not, and holds nothing.
    PrepareNo {
        /// The transaction.
        tx: TxId,
        /// The attempt answered.
        attempt: u32,
        /// Why.
        reason: RefuseReason,
    },
    /// Participant: bytes still flow.
    Progress {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// Verified bytes so far.
        bytes: u64,
    },
    /// Coordinator: keep your lease.
    LeaseRenew {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// The new lease, from receipt, in milliseconds.
        lease_ms: u32,
    },
    /// Participant: all wanted states are verified and fsynced, until the lease ends. Proves nothing outside this
    /// transaction.
    Prepared {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// What is held.
        manifest_hash: ManifestHash,
        /// Which states of it.
        states: StatesMask,
    },
    /// Coordinator, or anyone who relays it: commit or abort.
    Decision(SignedDecision),
    /// Participant: done.
    DecisionAck {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// How.
        outcome: DecisionOutcome,
    },
    /// Participant in doubt: what became of it?
    StatusQuery {
        /// The transaction.
        tx: TxId,
    },
    /// The answer; a decision goes with it if one is known.
    Status {
        /// The transaction.
        tx: TxId,
        /// What it is here.
        status: TxStatus,
        /// The decision, if known.
        decision: Option<SignedDecision>,
    },
    /// Coordinator to all holders: who holds it.
    Receipts {
        /// The group.
        group_id: GroupId,
        /// Its manifest.
        manifest_hash: ManifestHash,
        /// The receipts known, one per holder.
        receipts: Receipts,
    },
    /// Owner's node to holders: wraps for readers granted since.
    Wraps {
        /// The group.
        group_id: GroupId,
        /// All wraps.
        wraps: Wraps,
    },
    /// Anyone who knows: these groups were deleted by their owners. Each proves itself.
    Tombstones(Tombstones),
    /// The answer: these tombstones are on disk here, and nothing of their groups is visible any more.
    TombstonesKept {
        /// The groups.
        groups: BoundedVec<GroupId, TOMBSTONES_PER_MESSAGE_MAX>,
    },
}

/// Messages of consensus.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum ConsensusMessage {
    /// Proposer to validator: certify this.
    Propose {
        /// What is asked.
        proposal: SignedProposal,
        /// The manifest that is the value.
        manifest: Box<SignedManifest>,
        /// Receipts that make it durable.
        receipts: Receipts,
        /// For a head: that the version before it is certified.
        previous: Option<Box<HeadProof>>,
    },
    /// Validator to proposer.
    Vote(Vote),
    /// Validator to proposer: no vote now.
    Abstain(Abstention),
    /// Proposer to holders and validators: the certificate.
    Certified(Box<CertificateFile>),
    /// Proposer of the next roster to those who will sit in it: offer a fresh vote key.
    KeyRequest {
        /// The next epoch.
        epoch: u64,
        /// Hash of the newest roster.
        prev: RosterHash,
        /// Who is to lose its seat.
        leaving: BoundedVec<NodeId, { crate::VALIDATORS_MAX }>,
        /// Who is to get one.
        newcomer: Option<NodeId>,
    },
    /// The answer.
    KeyOffer {
        /// The key.
        offer: SignedRosterKey,
        /// Whether the sender would sign such a roster as an old seat, as things are now.
        agrees: bool,
    },
    /// Proposer to old and new seats: sign this roster.
    RosterPropose {
        /// The next roster.
        roster: Box<Roster>,
        /// The offers its keys came from.
        keys: BoundedVec<SignedRosterKey, { crate::VALIDATORS_MAX }>,
        /// Admissions of seats that the receiver may not know yet.
        admissions: BoundedVec<SignedAdmission, { crate::VALIDATORS_MAX }>,
        /// What its close set is made of.
        reports: CloseReports,
    },
    /// A seat's signatures on a proposed roster.
    RosterVote {
        /// What is signed.
        roster: RosterHash,
        /// Its epoch.
        epoch: u64,
        /// As a seat of the old roster: seat and signature.
        old: Option<(u16, Signature)>,
        /// As a seat of the new roster: seat and signature.
        new: Option<(u16, Signature)>,
    },
    /// A validator is locked on another next roster; the proposer takes that one up.
    RosterLocked {
        /// The roster it signed for this epoch.
        roster: Box<Roster>,
        /// The offers its keys came from.
        keys: BoundedVec<SignedRosterKey, { crate::VALIDATORS_MAX }>,
        /// What its close set is made of.
        reports: CloseReports,
    },
    /// What is known here, for comparing: whoever is behind asks for links, whoever has more evidence gives it.
    RosterHead {
        /// The newest epoch.
        epoch: u64,
        /// Digest of the evidence that this node gives to others.
        evidence: u64,
        /// Whether the sender has a seat and no key to vote with: it waits for the next epoch.
        wants_key: bool,
        /// The roster of that epoch, because a recovery may lead to another one than votes did.
        roster: RosterHash,
        /// Digest of the evidence against owners that this node keeps.
        owners: u64,
    },
    /// Asks for the links after an epoch.
    RosterLinksAfter {
        /// The newest epoch known here.
        epoch: u64,
    },
    /// Links in order.
    RosterLinks(BoundedVec<RosterLink, 16>),
    /// Proof that seats contradicted themselves; passed on once by whoever learns of it.
    Evidence(BoundedVec<Evidence, EVIDENCE_PER_MESSAGE_MAX>),
    /// A seat that has started asks everybody: which votes of mine in this epoch do you hold?
    MyVotes {
        /// The epoch.
        epoch: u64,
    },
    /// The answer, the newest votes first.
    YourVotes {
        /// The epoch asked about.
        epoch: u64,
        /// What the asker's seat signed.
        votes: BoundedVec<SignedStatement, YOUR_VOTES_MAX>,
    },
    /// Proposer of a head to validators: a quorum voted for it, ack it.
    AckRequest {
        /// The group.
        group_id: GroupId,
        /// The version.
        version: u64,
        /// The quorum of the first round.
        certificate: Box<QuorumCertificate>,
    },
    /// Proposer of the next roster to old seats: sign no more heads of this epoch, and say what you acked.
    CloseRequest {
        /// The next roster, still without its close set.
        roster: Box<Roster>,
        /// The offers its keys came from.
        keys: BoundedVec<SignedRosterKey, { crate::VALIDATORS_MAX }>,
        /// Admissions of seats that the receiver may not know yet.
        admissions: BoundedVec<SignedAdmission, { crate::VALIDATORS_MAX }>,
    },
    /// The answer; what it counts is asked for with `AckedAfter`.
    CloseReport(CloseReport),
    /// Asks for a page of the heads behind a report.
    AckedAfter {
        /// The root of the report.
        root: [u8; 32],
        /// The last group that is here already.
        after: Option<GroupId>,
    },
    /// The page, by group; it proves itself.
    Acked {
        /// The root of the report.
        root: [u8; 32],
        /// As asked.
        after: Option<GroupId>,
        /// What follows.
        heads: BoundedVec<AckedHead, ACKED_PER_PAGE_MAX>,
    },
    /// Asks for a page of the close set of an epoch.
    CarriedAfter {
        /// The epoch that the set was carried into.
        epoch: u64,
        /// The last group that is here already.
        after: Option<GroupId>,
    },
    /// The page, by group; the root in the roster proves the whole.
    Carried {
        /// The epoch.
        epoch: u64,
        /// As asked.
        after: Option<GroupId>,
        /// What follows.
        heads: BoundedVec<CarriedHead, CARRIED_PER_PAGE_MAX>,
    },
    /// Proof that owners signed two manifests for one version; passed on once by whoever learns of it.
    OwnerEvidence(BoundedVec<OwnerEvidence, EVIDENCE_PER_MESSAGE_MAX>),
}

/// Messages of membership.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum MembershipMessage {
    /// Admissions and announcements that the receiver may not know.
    Members {
        /// Who is admitted.
        admissions: BoundedVec<SignedAdmission, MEMBERS_PER_MESSAGE_MAX>,
        /// Where they are.
        records: BoundedVec<SignedNodeRecord, MEMBERS_PER_MESSAGE_MAX>,
    },
}

/// Anything a core says to a peer's core.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Message {
    /// Group replication.
    Replication(ReplicationMessage),
    /// Consensus.
    Consensus(ConsensusMessage),
    /// Membership.
    Membership(MembershipMessage),
}
