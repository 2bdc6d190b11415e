//! What goes into the consensus core and what comes out.

use std::{collections::BTreeMap, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{
    AckedHead, BoundedVec, CarriedHead, CertificateFile, Claim, ConsensusMessage, Evidence, GroupId, HeadProof,
    Manifest, ManifestHash, Mono, NodeId, OwnerEvidence, OwnerKey, ProposalId, Roster, RosterLink, SignedAdmission,
    SignedManifest, SignedOwnerStatement, SignedProposal, SignedRecoveryOffer, SignedRosterKey, VALIDATORS_MAX, Vote,
    VoteSecret, VoteStatement,
    head::{ACKED_PER_PAGE_MAX, CARRIED_PER_PAGE_MAX},
    wire::{CloseReports, Receipts},
};

use crate::{persist::PersistId, reason::Note};

/// Timers and budgets.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a caller waits for an outcome; bounds the wait, never the collection. Default 30 s.
    pub timeout: Duration,
    /// First resend to silent validators; doubles up to 16 times this. Default 1 s.
    pub resend: Duration,
    /// How long a proposal may collect votes. Default 10 min; shorter loses late votes, longer keeps state longer.
    pub lifetime: Duration,
    /// How often the scheduled proposer looks for validators that wait for a seat. Default 1 s.
    pub roster_interval: Duration,
    /// How long the scheduled proposer of a roster may take before the next one may try. Default 5 s.
    pub roster_timeout: Duration,
    /// How long a seat must be out of reach until the others may go on without it. Default 15 min, as long as a storage node
    /// may be down until its copies are made again; shorter costs seats for a reboot.
    pub seat_patience: Duration,
    /// Time in which a seat that lost its key is given a fresh one twice at most. Default 6 h: a chain holds 1,024 links, and one
    /// seat that claims to lose its key without end shall not fill it within months. Twice, because the first may be a key that
    /// was on its way when it was lost.
    pub renewal_interval: Duration,
    /// Rosters grow by themselves up to this many validators; beyond it, operators approve. Default 4.
    pub automatic_validators: usize,
    /// Proposals that one proposer may have in flight here; more are answered `Busy`. Default 256.
    pub proposals_per_peer_max: usize,
    /// Votes that one proposer may cost this node in an epoch without anybody else vouching for the copies, counted from its
    /// start; more are answered `Busy`. Default 16,384, some 5 MiB of memory for the rest of the epoch: doubling it doubles what
    /// one member can take, halving it halves what a member may have certified of which it alone holds a copy.
    pub unvouched_ballots_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            resend: Duration::from_secs(1),
            lifetime: Duration::from_secs(600),
            roster_interval: Duration::from_secs(1),
            roster_timeout: Duration::from_secs(5),
            seat_patience: Duration::from_secs(15 * 60),
            renewal_interval: Duration::from_secs(6 * 3600),
            automatic_validators: 4,
            proposals_per_peer_max: 256,
            unvouched_ballots_max: 16_384,
        }
    }
}

/// An occurrence that the core must hear of.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once, never kept in lists; boxes would cost more")]
pub enum Input {
    /// The node starts; timers are set, unfinished proposals are sent again byte for byte.
    Start,
    /// A peer said something. The connection proved who.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: ConsensusMessage,
    },
    /// A timer asked for has run out; stale ones are ignored.
    Timer(Timer),
    /// A batch is on disk.
    Persisted(PersistId),
    /// Certify this manifest; repeating it for an undecided or decided value is harmless.
    Propose {
        /// The value.
        manifest: Box<SignedManifest>,
        /// What makes it durable.
        receipts: Receipts,
        /// What to certify.
        claim: Claim,
    },
    /// A node is admitted, by a record that was verified.
    Admitted(Box<SignedAdmission>),
    /// A peer can be reached.
    PeerUp(NodeId),
    /// A peer can no longer be reached.
    PeerDown(NodeId),
    /// The operator wants a node to have a seat: needed beyond [`Config::automatic_validators`], and for a node that once
    /// contradicted itself. It counts once, and no longer after evidence against the node that comes later.
    Approve(NodeId),
    /// This owner deleted its group: what is proposed of it here is closed, undecided. A group of that id whose manifest names
    /// another owner is none of it: anybody may sign a tombstone for any id in its own name.
    Withdraw {
        /// The group.
        group_id: GroupId,
        /// Who deleted it.
        owner: OwnerKey,
    },
    /// The operator wants to recover the roster with this node in it: a key for the next epoch is made, the newest epoch closed,
    /// and [`Event::RecoveryOffered`] follows.
    OfferRecovery,
    /// The offline keys made a link, with the heads that its roster carries. Whoever hands it in has checked that it follows.
    Recover {
        /// The link.
        link: Box<RosterLink>,
        /// The close set, by group.
        heads: Vec<CarriedHead>,
    },
    /// The driver looked at the bytes that [`Output::Hash`] asked for.
    Hashed {
        /// The value.
        manifest_hash: ManifestHash,
        /// What it found.
        hashed: Hashed,
    },
    /// Certify a version after the first: as [`Input::Propose`], with what shows that the version before is certified. While
    /// another value of this version is on its way here, it is refused with [`Event::HeadBlocked`].
    ProposeHead {
        /// The value.
        manifest: Box<SignedManifest>,
        /// The version before, see [`HeadProof::of`].
        previous: Box<HeadProof>,
        /// What makes it durable.
        receipts: Receipts,
        /// What to certify.
        claim: Claim,
    },
}

/// What the core wants done, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Tell a peer; may be lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: ConsensusMessage,
    },
    /// Write all of these to the vote store, fsync, then hand in `Persisted(id)`. Batches become durable in the order in
    /// which they go out: a later one is never on disk without an earlier one.
    Persist {
        /// Names the batch.
        id: PersistId,
        /// All or nothing.
        records: Vec<Record>,
    },
    /// Hand in `Timer(timer)` at `at` or a little later.
    SetTimer {
        /// The timer.
        timer: Timer,
        /// When.
        at: Mono,
    },
    /// Read all bytes of every state of this manifest that any storage node may hold, from this node's disk or, where they
    /// are not here, from one of `sources`, then hand in [`Input::Hashed`]. Asked once per value until that comes; what a
    /// restart cuts off is asked for again.
    Hash {
        /// The value.
        manifest: Box<Manifest>,
        /// Who should have the bytes.
        sources: Vec<NodeId>,
    },
    /// Something that others care about.
    Event(Event),
}

/// What this node found in the bytes of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hashed {
    /// Every state is what the manifest names.
    Right,
    /// Complete bytes of one have the size and the BLAKE3 root that the manifest names, and another SHA-256: no copy can ever
    /// be right.
    Wrong,
    /// Not all of them could be had. Says nothing about the manifest.
    Unavailable,
}

/// Opaque to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Send a proposal again to validators that are silent.
    Resend(ProposalId),
    /// The caller's wait is over.
    Timeout(ProposalId),
    /// A proposal has expired.
    Expire(ProposalId),
    /// Look whether the roster should grow.
    Roster,
}

/// What survives a restart; kept in the vote store, never in backups.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once, never kept in lists; boxes would cost more")]
pub enum Record {
    /// A vote of this node: one accept per (epoch, phase, slot), one verdict per value.
    Vote(Vote),
    /// The secret of this node's vote key for an epoch: offered, or in use.
    Key {
        /// The epoch.
        epoch: u64,
        /// Ed25519 secret.
        secret: VoteSecret,
    },
    /// Vote keys up to and including this epoch are erased.
    EraseKeys {
        /// The last epoch erased.
        through: u64,
    },
    /// The one roster that this node signed for an epoch.
    RosterLock(RosterLock),
    /// The chain grew.
    Link(RosterLink),
    /// A proposal of this node, before it is first sent.
    Proposal(OpenProposal),
    /// A proposal needs no more work after a restart.
    Closed(ProposalId),
    /// A seat contradicted itself; kept for ever, one per seat and epoch.
    Evidence(Evidence),
    /// The operator approved a seat for a node, or that approval has had its effect.
    Approval {
        /// The node.
        node: NodeId,
        /// Whether it stands.
        given: bool,
    },
    /// A head that this node acks, in the batch of its ack: of each group the highest version of the newest epoch. Gone with
    /// the vote keys of its epoch.
    Acked(AckedHead),
    /// This node signs no more heads of the epoch before this roster, which is what it was asked for, still without its
    /// close set. Gone with the vote keys of that epoch. Another one for the same epoch takes its place.
    EpochClosed(RosterLock),
    /// Heads carried into the newest epoch: of each group the highest version counts, and it is never forgotten.
    Carried(BoundedVec<CarriedHead, CARRIED_PER_PAGE_MAX>),
    /// What the roster locked carries besides: in the batch of the lock, gone when the chain grows.
    CarriedNext(BoundedVec<CarriedHead, CARRIED_PER_PAGE_MAX>),
    /// A page of a list that other seats reported and the close set of the roster locked rests on: in the batch of the lock, gone
    /// when the chain grows. This node's own list is in what it acked.
    Reported {
        /// Names the list.
        root: [u8; 32],
        /// Heads of it, by group.
        heads: BoundedVec<AckedHead, ACKED_PER_PAGE_MAX>,
    },
    /// The links after this epoch gave way to others, one of either being a recovery: they go, and with them whatever was signed,
    /// locked, learned or carried since. The links that take their place follow in the same batch.
    Unlinked {
        /// The last epoch that stays.
        after: u64,
    },
    /// What an owner signed that this node accepts as a head, in the batch of its first vote. Gone with the votes of its epoch.
    OwnerSigned {
        /// The epoch of the vote.
        epoch: u64,
        /// The statement.
        signed: SignedOwnerStatement,
    },
    /// An owner signed two manifests for one version; kept for ever, one per owner, group and version.
    OwnerEvidence(OwnerEvidence),
}

/// The one next roster that this node signed.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RosterLock {
    /// The roster.
    pub roster: Roster,
    /// The offers its keys came from.
    pub keys: BoundedVec<SignedRosterKey, VALIDATORS_MAX>,
    /// What its close set is made of.
    pub reports: CloseReports,
}

/// A proposal of this node that still collects votes.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OpenProposal {
    /// What is asked.
    pub proposal: SignedProposal,
    /// The value.
    pub manifest: SignedManifest,
    /// What makes it durable.
    pub receipts: Receipts,
    /// For a head: that the version before it is certified.
    pub previous: Option<HeadProof>,
}

/// Something that others care about.
#[derive(Debug, Clone)]
pub enum Event {
    /// A proposal of this node came so far. Sent on every vote and at every change of outcome.
    Progress {
        /// The group.
        group_id: GroupId,
        /// The value.
        manifest_hash: ManifestHash,
        /// What was asked for about it.
        claim: Claim,
        /// How far.
        tally: Tally,
    },
    /// A certificate was made here or arrived and verified; it is to be stored beside the group.
    Certified(Box<CertificateFile>),
    /// A certificate arrived for a value that is decided here. **Not verified**: whoever lacks one beside its group, because
    /// the group came later than the first, verifies this one and stores it.
    CertifiedAgain(Box<CertificateFile>),
    /// The newest roster changed.
    RosterChanged {
        /// Its epoch.
        epoch: u64,
    },
    /// This node cast a vote.
    Voted(Box<VoteStatement>),
    /// A seat gave two signatures that no honest validator gives; told once per seat and epoch, when this node learns of it.
    Evidence {
        /// Who held the seat.
        node: NodeId,
        /// The signatures.
        evidence: Box<Evidence>,
    },
    /// A line for the log of a group; nothing depends on it.
    Noted(Note),
    /// Another value than that of this node holds a validator's vote for this version: the owner signed two, of which
    /// [`Event::OwnerEvidence`] is the proof, or the validator lies. The outcome is `Undecided` until the epoch ends if enough
    /// votes are held so, and for ever once the other one is certified.
    HeadBlocked {
        /// The group.
        group_id: GroupId,
        /// The version.
        version: u64,
        /// The value of this node.
        manifest_hash: ManifestHash,
        /// The other one.
        other: ManifestHash,
        /// Whether the other one is certified: then this node gives its own up.
        certified: bool,
    },
    /// What this node brings to a recovered roster, durable; `None` if it has more heads than a file holds.
    RecoveryOffered(Option<Box<SignedRecoveryOffer>>),
    /// The offline keys began an epoch, and this node follows.
    Recovered {
        /// The epoch.
        epoch: u64,
    },
    /// Two chains were made, one of them by recovery, and this node was on the one that does not hold: what was certified in its
    /// epochs after the last that both share no longer stands.
    GaveUp {
        /// The last epoch that both chains share.
        shared: u64,
        /// The newest epoch of the one that was given up.
        gave_up: u64,
    },
    /// An owner signed two manifests for one version; told once, when this node learns of it.
    OwnerEvidence(Box<OwnerEvidence>),
}

/// How far a proposal came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// What can be said now.
    pub outcome: Outcome,
    /// Accept votes; of a head, those of the first round.
    pub accepts: usize,
    /// Reject votes.
    pub rejects: usize,
    /// Accept votes needed; 0 if no certificate is possible.
    pub quorum: usize,
    /// Validators asked.
    pub validators: usize,
}

/// The four outcomes, and the wait for one. A timeout is never a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Votes are being collected, and the caller still waits.
    Pending,
    /// A quorum accepted; absorbing.
    Approved,
    /// A reject quorum said no; absorbing.
    Rejected,
    /// Too few votes in the caller's time; may still become either.
    Undecided,
    /// The roster is too small to certify in this network; tried again when it grows.
    NotEnoughValidators,
}

/// What a restarted core begins from.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Links in order.
    pub links: Vec<RosterLink>,
    /// Vote key secrets by epoch.
    pub keys: BTreeMap<u64, VoteSecret>,
    /// Votes of this node that still matter: of the newest epoch.
    pub votes: Vec<Vote>,
    /// The roster signed for the next epoch.
    pub lock: Option<RosterLock>,
    /// Proposals not closed.
    pub proposals: Vec<OpenProposal>,
    /// Evidence against seats.
    pub evidence: Vec<Evidence>,
    /// Evidence against owners.
    pub owner_evidence: Vec<OwnerEvidence>,
    /// What owners signed that this node voted for, with the epoch of the vote; only that of the newest epoch matters.
    pub signed: Vec<(u64, SignedOwnerStatement)>,
    /// Nodes approved that have no seat yet.
    pub approved: Vec<NodeId>,
    /// Heads that this node acked in the newest epoch.
    pub acked: Vec<AckedHead>,
    /// The roster for which this node closed the newest epoch.
    pub closed: Option<RosterLock>,
    /// Heads carried, of each group the highest version.
    pub carried: Vec<CarriedHead>,
    /// What the locked roster carries besides.
    pub carried_next: Vec<CarriedHead>,
    /// What is behind the reports that the locked roster rests on: heads, each with the root of its list.
    pub reported: Vec<([u8; 32], AckedHead)>,
    /// Whether the vote store holds everything that the key of the newest epoch signed. If not, this node abstains until
    /// another key is in the roster. [`Self::keys`] has none that an incomplete store came with.
    pub may_vote: bool,
}

#[cfg(test)]
mod tests {
    use mynet_types::VoteSecret;

    use super::{Output, Record, Restored};
    use crate::persist::PersistId;

    #[test]
    fn what_is_logged_at_trace_level_shows_no_vote_secret() {
        let secret = VoteSecret([171; 32]);
        let record = Record::Key { epoch: 1, secret: secret.clone() };
        let output = Output::Persist { id: PersistId(1), records: vec![record] };
        let restored = Restored { keys: [(1, secret)].into(), ..Restored::default() };
        for text in [format!("{output:?}"), format!("{output:#?}"), format!("{restored:?}")] {
            assert!(text.contains("VoteSecret(..)") && !text.contains("171") && !text.contains("ab"), "{text}");
        }
    }
}
