//! What checkers see: everything that a node is told, tells, sends and has on disk, in one order.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{consensus, node, replication};
use mynet_types::{
    CertificateFile, ConsensusMessage, ManifestHash, Message, Mono, NodeId, RecoveryFile, ReplicationMessage,
    SignedDecision, SignedReceipt, wire::DecisionOutcome,
};

use crate::{
    cast::Cast,
    group_store::{GroupStore, lineages::DriverWrite},
    host::Host,
};

/// One thing that happened.
#[derive(Debug)]
pub(crate) enum Seen<'a> {
    /// A node died.
    Crashed(usize),
    /// A message left a node.
    Sent { from: usize, to: NodeId, message: &'a Message },
    /// A message arrives at a node that is up.
    Delivered { to: usize, from: usize, message: &'a Message },
    /// A node is handed an input.
    Given { node: usize, input: &'a node::io::Input },
    /// A node asks for a timer, on its own clock.
    Armed { node: usize, timer: &'a node::io::Timer, at: Mono },
    /// A node has a batch for its metadata store.
    Writing { node: usize, records: &'a [replication::io::Record] },
    /// A message that a node had before is about to come again.
    Replaying(usize),
    /// A message came again; what will be on disk without and with it.
    Replayed { node: usize, before: &'a GroupStore, after: &'a GroupStore },
    /// The collector of a node unlinked files.
    Collected(usize),
    /// A node lost its vote store, or an old copy stands in its place.
    VotesLost(usize),
    /// A core announced something.
    Told { node: usize, event: &'a node::io::Event },
    /// A batch is in a vote store.
    VotesOnDisk { node: usize, records: &'a [consensus::io::Record] },
    /// A batch is in a metadata store.
    GroupsOnDisk { node: usize, records: &'a [replication::io::Record] },
    /// A transaction of the driver's own is in a metadata store; without use if what it was about is gone.
    DriverOnDisk { node: usize, write: &'a DriverWrite, useful: bool },
    /// All that one input caused has been carried out.
    Handled(usize),
    /// Operators hand in a recovery: what two keys signed, whether so many seats reported that no final version can be missing,
    /// and the versions that are final by certificates which the operators had.
    Recovery { file: &'a RecoveryFile, complete: bool, shown: &'a BTreeSet<ManifestHash> },
    /// Faults ended; every node is up that was not given up.
    Healed,
    /// A bound of the healed phase has passed.
    Deadline(Deadline),
}

/// Bounds of the healed phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deadline {
    /// Groups are durable where enough nodes may hold them.
    Durable,
    /// Values are decided.
    Decided,
    /// Nothing is left of any transaction.
    Quiet,
}

/// The whole world, for looking only.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// True time.
    pub(crate) now: u64,
    pub(crate) cast: &'a Cast,
    pub(crate) hosts: &'a [Host],
    pub(crate) works: &'a [crate::workload::Work],
    pub(crate) files: &'a BTreeMap<ManifestHash, CertificateFile>,
}

/// The receipts that a message carries.
pub(crate) fn receipts_in(message: &Message) -> Vec<&SignedReceipt> {
    match message {
        Message::Replication(ReplicationMessage::DecisionAck {
            outcome: DecisionOutcome::Committed(receipt), ..
        }) => vec![receipt],
        Message::Replication(ReplicationMessage::Receipts { receipts, .. })
        | Message::Consensus(ConsensusMessage::Propose { receipts, .. }) => receipts.iter().collect(),
        Message::Consensus(ConsensusMessage::Certified(file)) => {
            file.holdings.iter().map(|holding| &holding.receipt).collect()
        }
        _ => Vec::new(),
    }
}

/// The decision that a message carries.
pub(crate) fn decision_in(message: &Message) -> Option<&SignedDecision> {
    match message {
        Message::Replication(ReplicationMessage::Decision(decision)) => Some(decision),
        Message::Replication(ReplicationMessage::Status { decision, .. }) => decision.as_ref(),
        _ => None,
    }
}
