//! What every step of both roles needs: the time, the identity of this node, who is admitted, and where outputs go.

use std::{collections::BTreeMap, time::Duration};

use ed25519_dalek::SigningKey;
use mynet_types::{
    AdmissionRecord, Decision, GroupId, ManifestHash, NetworkId, NodeId, Now, ReplicationMessage, SignedAdmission,
    SignedDecision, SignedReceipt, StatesMask, StorageReceipt, Timestamp, TxId, VerifiedChain,
    wire::{DecisionOutcome, RefuseReason},
};

use super::{
    io::{Config, Event, Output, Record, Timer},
    tombstones::{Burial, Known},
};
use crate::{persist::PersistId, placement::Candidate, reason::Note};

/// What is held back until a batch is on disk.
#[derive(Debug)]
pub(super) enum Pending {
    /// Coordinator: place the group, if it still is this manifest.
    Begun(GroupId, ManifestHash),
    /// Coordinator: tell the holders of new wraps.
    Rewrapped(GroupId),
    /// Coordinator: send the decisions.
    Decided(GroupId, TxId),
    /// Coordinator: send the decision to this node too.
    Told(GroupId, TxId, NodeId),
    /// Coordinator: count these receipts.
    Receipts(GroupId, Vec<SignedReceipt>),
    /// Participant: answer that space is reserved, and stage.
    Reserved(TxId, u32),
    /// Participant: answer that all is verified.
    Prepared(TxId, u32),
    /// Participant: give out the receipt.
    Committed(TxId),
    /// Participant: say that it is over.
    Aborted(TxId, Parting),
    /// Nothing waits for it.
    Nothing,
    /// Tombstones are on disk: answer whoever told of them, and tell the holders.
    Buried(Option<NodeId>, Vec<Burial>),
    /// Confirmations are on disk: report them.
    Confirmed(NodeId, Vec<GroupId>),
}

/// What a participant says to its coordinator when it gives a transaction up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// The lease ended.
    Gone,
    /// The coordinator decided so.
    Aborted,
    /// It could not be staged.
    Refused(RefuseReason),
}

impl Parting {
    /// The words for it.
    pub(super) fn message(self, tx: TxId, attempt: u32) -> ReplicationMessage {
        match self {
            Self::Gone => ReplicationMessage::DecisionAck { tx, attempt, outcome: DecisionOutcome::Gone },
            Self::Aborted => ReplicationMessage::DecisionAck { tx, attempt, outcome: DecisionOutcome::Aborted },
            Self::Refused(reason) => ReplicationMessage::PrepareNo { tx, attempt, reason },
        }
    }
}

/// What both roles share between steps.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) node: NodeId,
    pub(super) network: NetworkId,
    /// Whether `Start` came. Before it the admissions are incomplete, and nothing may be placed by them.
    pub(super) started: bool,
    /// The roster chain, once it was handed in.
    pub(super) chain: Option<Box<VerifiedChain>>,
    /// Groups that were deleted.
    pub(super) deleted: Known,
    key: SigningKey,
    admitted: BTreeMap<NodeId, AdmissionRecord>,
    persists: u64,
    pending: BTreeMap<PersistId, Pending>,
}

impl Shared {
    pub(super) fn new(config: Config, key: SigningKey, network: NetworkId, deleted: Known) -> Self {
        Self {
            config,
            node: NodeId(key.verifying_key().to_bytes()),
            network,
            started: false,
            chain: None,
            deleted,
            key,
            admitted: BTreeMap::new(),
            persists: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Remembers who is admitted; of two admissions of one node the one that lasts longer counts.
    pub(super) fn admit(&mut self, admission: SignedAdmission) {
        let record = admission.body;
        let known = self.admitted.get(&record.node);
        if known.is_none_or(|known| known.expires_at < record.expires_at) {
            self.admitted.insert(record.node, record);
        }
    }

    /// Whether the node belongs to the network now.
    pub(super) fn is_admitted(&self, node: &NodeId, wall: Timestamp) -> bool {
        self.admitted.get(node).is_some_and(|record| record.expires_at > wall)
    }

    /// Whether the node may hold durable copies.
    pub(super) fn is_eligible(&self, node: &NodeId, wall: Timestamp) -> bool {
        self.admitted.get(node).is_some_and(|record| record.expires_at > wall && Candidate::from(record).is_eligible())
    }

    /// Every admission known, ended ones too.
    pub(super) fn admissions(&self) -> Vec<AdmissionRecord> {
        self.admitted.values().cloned().collect()
    }

    /// The nodes that may hold durable copies.
    pub(super) fn candidates(&self, wall: Timestamp) -> Vec<Candidate> {
        let standing = self.admitted.values().filter(|record| record.expires_at > wall);
        standing.map(Candidate::from).filter(Candidate::is_eligible).collect()
    }

    /// The work that waited for a batch.
    pub(super) fn persisted(&mut self, id: PersistId) -> Option<Pending> {
        self.pending.remove(&id)
    }
}

/// One call of `handle`.
#[derive(Debug)]
pub(super) struct Step<'a> {
    pub(super) now: Now,
    pub(super) shared: &'a mut Shared,
    pub(super) out: &'a mut Vec<Output>,
}

impl Step<'_> {
    pub(super) fn send(&mut self, to: NodeId, message: ReplicationMessage) {
        self.out.push(Output::Send { to, message });
    }

    pub(super) fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.out.push(Output::SetTimer { timer, at: self.now.mono.after(after) });
    }

    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    /// A line for the log of a group.
    pub(super) fn note(&mut self, note: Note) {
        self.event(Event::Noted(note));
    }

    /// Writes `records`; `pending` goes on when they are on disk.
    pub(super) fn persist(&mut self, records: Vec<Record>, pending: Pending) {
        self.shared.persists += 1;
        let id = PersistId(self.shared.persists);
        self.shared.pending.insert(id, pending);
        self.out.push(Output::Persist { id, records });
    }

    /// Signs a decision as its coordinator.
    pub(super) fn sign_decision(
        &self,
        decision: (TxId, u32),
        manifest_hash: ManifestHash,
        commit: bool,
    ) -> SignedDecision {
        let (tx, attempt) = decision;
        let body = Decision { tx, attempt, manifest_hash, commit, coordinator: self.shared.node };
        SignedDecision::new(&self.shared.network, body, &self.shared.key)
    }

    /// Signs a receipt as its holder.
    pub(super) fn sign_receipt(&self, manifest_hash: ManifestHash, states: StatesMask) -> SignedReceipt {
        let until = self.now.wall.after(self.shared.config.receipt_lifetime);
        let body = StorageReceipt { manifest_hash, states, holder: self.shared.node, until };
        SignedReceipt::new(&self.shared.network, body, &self.shared.key)
    }
}
