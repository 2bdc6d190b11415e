//! What goes into the composed node and what comes out: the union of the cores, with one vocabulary for the driver.

use mynet_types::{
    CarriedHead, Claim, GroupId, HeadProof, Manifest, ManifestHash, Message, Mono, NodeId, RosterLink, SignedAdmission,
    SignedManifest, SignedTombstone, StatesMask, TxId,
    wire::{Prepare, Receipts, RefuseReason, Wraps},
};

use crate::{consensus, persist::PersistId, replication};

/// An occurrence that the node must hear of.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "taken apart at once, never kept in lists; boxes would cost more")]
pub enum Input {
    /// The node starts.
    Start,
    /// A peer said something. The connection proved who. [`Message::Membership`] is the driver's own and is ignored.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// A timer asked for has run out.
    Timer(Timer),
    /// A batch is on disk.
    Persisted(PersistId),
    /// Replicate and certify this group; see [`replication::io::Input::Publish`].
    Publish(Box<replication::io::Publication>),
    /// See [`replication::io::Input::Wraps`].
    Wraps {
        /// The group.
        group_id: GroupId,
        /// All of them.
        wraps: Wraps,
    },
    /// See [`replication::io::Input::Staged`].
    Staged {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// The states staged, or why not.
        result: Result<StatesMask, RefuseReason>,
    },
    /// See [`replication::io::Input::Progress`].
    Progress {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// Verified bytes so far.
        bytes: u64,
    },
    /// Certify a group that is durable: what the driver hands in at its start for every group of this node that has
    /// its receipts and no certificate, because a crash may fall between the two cores; see
    /// [`consensus::io::Input::Propose`].
    Certify {
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
    /// The operator wants a node to have a seat; see [`consensus::io::Input::Approve`].
    Approve(NodeId),
    /// See [`consensus::io::Input::OfferRecovery`].
    OfferRecovery,
    /// See [`consensus::io::Input::Recover`].
    Recover {
        /// The link.
        link: Box<RosterLink>,
        /// The heads that its roster carries.
        heads: Vec<CarriedHead>,
    },
    /// See [`replication::io::Input::Delete`].
    Delete {
        /// The owner's word.
        tombstone: Box<SignedTombstone>,
        /// Whoever may hold the group.
        holders: Vec<NodeId>,
    },
    /// See [`consensus::io::Input::Hashed`].
    Hashed {
        /// The value.
        manifest_hash: ManifestHash,
        /// What was found in its bytes.
        hashed: consensus::io::Hashed,
    },
    /// Certify a version after the first; see [`consensus::io::Input::ProposeHead`].
    CertifyHead {
        /// The value.
        manifest: Box<SignedManifest>,
        /// The version before.
        previous: Box<HeadProof>,
        /// What makes it durable.
        receipts: Receipts,
        /// What to certify.
        claim: Claim,
    },
}

/// What the node wants done, in this order.
#[derive(Debug, Clone)]
pub enum Output {
    /// Tell a peer; may be lost.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Write to the vote store, fsync, then hand in `Persisted(id)`.
    PersistVotes {
        /// Names the batch.
        id: PersistId,
        /// All or nothing.
        records: Vec<consensus::io::Record>,
    },
    /// Write to the metadata store in one transaction, make it durable, then hand in `Persisted(id)`.
    PersistGroups {
        /// Names the batch.
        id: PersistId,
        /// All or nothing.
        records: Vec<replication::io::Record>,
    },
    /// Hand in `Timer(timer)` at `at` or a little later.
    SetTimer {
        /// The timer.
        timer: Timer,
        /// When.
        at: Mono,
    },
    /// See [`replication::io::Output::Stage`].
    Stage {
        /// The transaction.
        tx: TxId,
        /// The attempt to answer with.
        attempt: u32,
        /// What to hold and where to get it.
        prepare: Box<Prepare>,
        /// The states that this node may and shall hold.
        states: StatesMask,
    },
    /// See [`consensus::io::Output::Hash`].
    Hash {
        /// The value.
        manifest: Box<Manifest>,
        /// Who should have the bytes.
        sources: Vec<NodeId>,
    },
    /// See [`replication::io::Output::CancelStage`].
    CancelStage {
        /// The transaction.
        tx: TxId,
    },
    /// Something that others care about.
    Event(Event),
}

/// A timer of one of the cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// Of consensus.
    Consensus(consensus::io::Timer),
    /// Of replication.
    Replication(replication::io::Timer),
}

/// An event of one of the cores.
#[derive(Debug, Clone)]
pub enum Event {
    /// Of consensus.
    Consensus(consensus::io::Event),
    /// Of replication.
    Replication(replication::io::Event),
}
