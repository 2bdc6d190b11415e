//! What goes into the replication core and what comes out.

use std::time::Duration;

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{
    BoundedVec, GroupId, HeadProof, ManifestHash, Mono, NodeId, OwnerKey, QuorumCertificate, ReplicationMessage,
    SignedAdmission, SignedDecision, SignedManifest, SignedReceipt, SignedTombstone, StatesMask, TxId, VerifiedChain,
    wire::{Prepare, Receipts, RefuseReason, SealedBytes, Wraps},
};

use crate::{persist::PersistId, reason::Note};

/// Timers and bounds; section "Timers" of `docs/protocol/replication.md`.
#[derive(Debug, Clone)]
pub struct Config {
    /// A prepare unanswered this long is sent again, up to three times. Default 5 s.
    pub prepare_timeout: Duration,
    /// Reservation of a participant that receives, without news from its coordinator. Default 120 s.
    pub receiving_lease: Duration,
    /// Reservation of a participant that is prepared. Default 10 min; in doubt it asks at half of it.
    pub prepared_lease: Duration,
    /// How often a receiving participant reports progress; each report renews its lease. Default 20 s.
    pub progress_interval: Duration,
    /// How often a participant in doubt asks after the first time. Default 15 s.
    pub status_interval: Duration,
    /// A transaction without a logged commit is given up after this plus the time its bytes need at 2 MiB/s, unless more
    /// bytes came in. Default 15 min.
    pub deadline: Duration,
    /// First pause before a holder that is missing is tried again; doubles up to [`Self::retry_max`]. Default 2 s.
    pub retry: Duration,
    /// Longest pause. Default 60 s.
    pub retry_max: Duration,
    /// How long an abort is remembered, so that a late message of its attempt changes nothing. Default 24 h.
    pub tombstone: Duration,
    /// How long a holder stands by its receipt. Default 365 days.
    pub receipt_lifetime: Duration,
    /// Transactions that one coordinator may have open here; more are answered `Busy`. Default 256.
    pub transactions_per_peer_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            prepare_timeout: Duration::from_secs(5),
            receiving_lease: Duration::from_secs(120),
            prepared_lease: Duration::from_secs(600),
            progress_interval: Duration::from_secs(20),
            status_interval: Duration::from_secs(15),
            deadline: Duration::from_secs(15 * 60),
            retry: Duration::from_secs(2),
            retry_max: Duration::from_secs(60),
            tombstone: Duration::from_secs(24 * 3600),
            receipt_lifetime: Duration::from_secs(365 * 24 * 3600),
            transactions_per_peer_max: 256,
        }
    }
}

/// How many holders must have it before success is reported. W and R are in the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Mode {
    /// W receipts.
    Quorum,
    /// A receipt of every holder.
    All,
}

/// A group of this node that is to be replicated.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Publication {
    /// What.
    pub manifest: SignedManifest,
    /// Its sealed part; empty for public content.
    pub sealed: SealedBytes,
    /// Every wrap of it.
    pub wraps: Wraps,
    /// When success is reported.
    pub mode: Mode,
    /// Copies wanted; the manifest's R unless the operator asked for another number.
    pub replicas: u8,
    /// For a later version than the first: what makes it the one.
    pub head: Option<Head>,
}

/// Holders of earlier versions that are looked after. With fewer a group that moved often leaves some behind sooner; each costs 32 bytes
/// where its group is coordinated.
pub const HOLDERS_MAX: usize = 1024;

/// Why a later version is the one of its group, and who has the one before.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Head {
    /// The acks of a quorum.
    pub certificate: QuorumCertificate,
    /// That the version before was certified too: needed to have this one certified as more.
    pub previous: HeadProof,
    /// Nodes that were told to commit an earlier version, see [`Record::Told`]. They get this one too, wherever placement puts it,
    /// or they would show what is over.
    pub holders: BoundedVec<NodeId, HOLDERS_MAX>,
}

/// An occurrence that the core must hear of.
#[derive(Debug, Clone)]
pub enum Input {
    /// The node starts: unfinished transactions go on. Every admission known by then is handed in before it, so that nothing
    /// is placed by a part of the network; messages before it are dropped.
    Start,
    /// A peer said something. The connection proved who.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: ReplicationMessage,
    },
    /// A timer asked for has run out; stale ones are ignored.
    Timer(Timer),
    /// A batch is on disk.
    Persisted(PersistId),
    /// Replicate this group. It is complete and visible on this node already, every stored state of it.
    Publish(Box<Publication>),
    /// New wraps of a group that this node coordinates: kept, and told to its holders. The holders of a group that is
    /// finished, and so not coordinated any more, are reached by [`Input::Publish`] with the new wraps.
    Wraps {
        /// The group.
        group_id: GroupId,
        /// All of them.
        wraps: Wraps,
    },
    /// [`Output::Stage`] came to an end.
    Staged {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// The states now verified and fsynced in staging, or why not.
        result: Result<StatesMask, RefuseReason>,
    },
    /// [`Output::Stage`] goes on. Handed in at least every [`Config::progress_interval`], also while it verifies and no bytes
    /// come in: that keeps the lease.
    Progress {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// Verified bytes so far.
        bytes: u64,
    },
    /// A node is admitted, by a record that was verified. Placement counts it from now on.
    Admitted(Box<SignedAdmission>),
    /// A peer can be reached.
    PeerUp(NodeId),
    /// A peer can no longer be reached.
    PeerDown(NodeId),
    /// The roster chain as it is now; it only grows. Handed in before [`Input::Start`]. Later versions are checked against it.
    Chain(Box<VerifiedChain>),
    /// The owner, whose key is on this node, deletes a group for good.
    Delete {
        /// The owner's word.
        tombstone: Box<SignedTombstone>,
        /// Whoever was told to commit the group or gave a receipt for it, as far as the store knows; the targets of an open transaction
        /// are added here.
        holders: Vec<NodeId>,
    },
    /// A verified certificate says no to this manifest. Its copies here are of no use, and none is taken.
    Rejected(ManifestHash),
}

/// What the core wants done, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Tell a peer; may be lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: ReplicationMessage,
    },
    /// Write all of these in one transaction, make it durable, then hand in `Persisted(id)`.
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
    /// Reserve space, pull what is missing from the sources, verify SHA-256 and BLAKE3 of every stored state, open the
    /// own wrap and hash the plaintext if the decrypted state is wanted, fsync, then hand in [`Input::Staged`]. Bytes
    /// already here are not pulled again.
    Stage {
        /// The transaction; staging belongs to it.
        tx: TxId,
        /// The attempt to answer with.
        attempt: u32,
        /// What to hold and where to get it.
        prepare: Box<Prepare>,
        /// The states that this node may and shall hold.
        states: StatesMask,
    },
    /// Stop staging of this transaction, if it runs. Its bytes go with the abort record.
    CancelStage {
        /// The transaction.
        tx: TxId,
    },
    /// Something that others care about.
    Event(Event),
}

/// Opaque to the driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Coordinator: a target has not answered, or is due for another try.
    Target {
        /// The transaction.
        tx: TxId,
        /// Whom.
        node: NodeId,
        /// Ignored unless it is the newest for this target.
        generation: u32,
    },
    /// Coordinator: the transaction takes too long.
    Deadline(TxId),
    /// Coordinator: a group that found too few targets, or was aborted, is due for another try.
    Retry(GroupId),
    /// Participant: the lease ends.
    Lease {
        /// The transaction.
        tx: TxId,
        /// Ignored unless it is the newest for this transaction.
        generation: u32,
    },
    /// Participant: in doubt, ask.
    Status(TxId),
    /// Forget old outcomes.
    Sweep,
    /// A node has not confirmed tombstones.
    Tombstones {
        /// Whom.
        node: NodeId,
        /// Ignored unless it is the newest for this node.
        generation: u32,
    },
}

/// What survives a restart. Batches reach the disk in the order in which they were asked for.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
#[expect(clippy::large_enum_variant, reason = "one record per batch, written and dropped: a box would buy nothing")]
pub enum Record {
    /// T1: reserved for this transaction. One with a higher attempt replaces the earlier one and its T3; what is staged stays.
    Intent(Intent),
    /// T3: everything is verified and fsynced in staging.
    Prepared {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// What is staged.
        states: StatesMask,
    },
    /// T4: rows become visible, staging becomes the group's, the reservation becomes use, the receipt is kept; one
    /// transaction. If the manifest is visible already, only the receipt is kept and staging goes.
    Commit {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// The proof to give out.
        receipt: SignedReceipt,
    },
    /// T5: staging goes, the reservation goes, the abort is remembered.
    Abort {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
    },
    /// T4's outcome or T5 may be forgotten: late messages about the transaction are not expected any more. What T4 made
    /// visible stays.
    Forget(TxId),
    /// C1: this node coordinates the group until [`Record::End`]. Written again it replaces the publication and keeps C2.
    Begin(Box<Publication>),
    /// C2: the decision, before anybody hears of it. Written together with [`Record::Told`] of its targets.
    Decided(Decided),
    /// These are about to be told to commit, so from here on they may show the group, whatever they answer. Kept for as long as the
    /// group is here, with the first version of which each was told: whoever shows a version gets the next one, and hears that the
    /// group is deleted.
    Told {
        /// The group.
        group_id: GroupId,
        /// Its version.
        version: u64,
        /// Whom.
        nodes: Vec<NodeId>,
    },
    /// Receipts known for a manifest; merged with those on disk, one per holder, the longest wins. Their signatures were
    /// checked; the store ignores those of a manifest that is neither held nor coordinated here, and those that do not
    /// count for it ([`mynet_types::StorageReceipt::counts_for`]).
    Receipts {
        /// The group.
        group_id: GroupId,
        /// Its manifest.
        manifest_hash: ManifestHash,
        /// The receipts.
        receipts: Receipts,
    },
    /// Wraps of a group, merged with those on disk. Their signatures were checked against the owner they name; the store
    /// ignores those of a group that is not held here, and those whose owner is not the group's.
    Wraps {
        /// The group.
        group_id: GroupId,
        /// The wraps.
        wraps: Wraps,
    },
    /// C3: every holder has it; nothing is left to do.
    End(GroupId),
    /// D1: a group is deleted. Everything of it that is here goes, its coordination and its content key included; the tombstone
    /// stays, and `holders` owe a confirmation. If the group here is of another owner than the tombstone names, nothing
    /// goes. Its signature was checked; the store bounds how many of groups that were never here one peer may bring.
    Tombstone {
        /// The owner's word.
        tombstone: SignedTombstone,
        /// The peer that told of it; none if it was made here.
        from: Option<NodeId>,
        /// Who is to confirm.
        holders: Vec<NodeId>,
    },
    /// D2: a holder has the tombstone on its disk.
    Confirmed {
        /// The group.
        group_id: GroupId,
        /// The holder.
        node: NodeId,
    },
}

/// T1: what a participant promised.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Intent {
    /// Whose decision counts.
    pub coordinator: NodeId,
    /// What was asked.
    pub prepare: Prepare,
    /// The states that this node will hold.
    pub states: StatesMask,
}

/// C2: a commit that can never be taken back.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Decided {
    /// The group.
    pub group_id: GroupId,
    /// The transaction.
    pub tx: TxId,
    /// Signed decisions for the targets that were prepared, with the attempts they answer.
    pub decisions: Vec<(NodeId, SignedDecision)>,
}

/// `replication_status` of the specification's table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum ReplicationStatus {
    /// No transaction yet.
    Pending,
    /// Fewer than W receipts.
    Replicating,
    /// At least W, fewer than R.
    Degraded,
    /// At least R.
    Replicated,
}

/// Something that others care about.
#[derive(Debug, Clone)]
pub enum Event {
    /// A group that this node coordinates came so far.
    Progress {
        /// The group.
        group_id: GroupId,
        /// Its manifest.
        manifest_hash: ManifestHash,
        /// How far.
        status: ReplicationStatus,
        /// Who holds it.
        receipts: Receipts,
    },
    /// W receipts are here and on disk (every holder's, in mode `all`): what the uploader waits for.
    Durable {
        /// What.
        manifest: Box<SignedManifest>,
        /// The proof.
        receipts: Receipts,
        /// For a later version than the first: that the one before was certified.
        previous: Option<Box<HeadProof>>,
    },
    /// Fewer nodes may hold it than W; tried again when a node is admitted.
    NotEnoughTargets {
        /// The group.
        group_id: GroupId,
        /// Nodes that may.
        eligible: usize,
        /// Nodes needed.
        need: usize,
    },
    /// A target will not.
    Refused {
        /// The group.
        group_id: GroupId,
        /// The target.
        node: NodeId,
        /// Why.
        reason: RefuseReason,
    },
    /// A group became visible on this node.
    Committed {
        /// The group.
        group_id: GroupId,
    },
    /// A transaction was given up on this node and left nothing.
    Aborted {
        /// The transaction.
        tx: TxId,
    },
    /// A group was deleted by its owner: its tombstone is on disk here, and nothing of it is visible any more. What is here under
    /// this id by another owner is not meant and stays.
    Deleted {
        /// The group.
        group_id: GroupId,
        /// Who signed the tombstone.
        owner: OwnerKey,
    },
    /// A holder has the tombstone of a group on its disk.
    DeletionConfirmed {
        /// The group.
        group_id: GroupId,
        /// The holder.
        node: NodeId,
    },
    /// A line for the log of a group; nothing depends on it.
    Noted(Note),
}

/// What a restarted core begins from.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Grows with every start of this node; part of every transaction id.
    pub boot: u64,
    /// Participant: open intents, and the states staged if they were prepared.
    pub intents: Vec<(Intent, Option<StatesMask>)>,
    /// Participant: committed transactions still remembered, with attempt, group and receipt.
    pub committed: Vec<(TxId, u32, GroupId, SignedReceipt)>,
    /// Participant: aborted transactions still remembered.
    pub aborted: Vec<(TxId, u32)>,
    /// Coordinator: groups without [`Record::End`], their logged commit and the receipts known.
    pub publications: Vec<(Publication, Option<Decided>, Receipts)>,
    /// Groups that are here in a later version than the first, and which; any 65,536 of them are enough.
    pub versions: Vec<(GroupId, u64)>,
    /// Manifests that a certificate on this disk rejects; those of `publications` are enough.
    pub rejected: Vec<ManifestHash>,
    /// Tombstones, oldest first; the newest 65,536 are enough.
    pub tombstones: Vec<SignedTombstone>,
    /// Tombstones that not every holder has confirmed, and who has not.
    pub deletions: Vec<(SignedTombstone, Vec<NodeId>)>,
}
