//! The coordinating role: which groups are open here, and which of them an input is for.
//!
//! Memory: one [`Publication`] per open group (a few KiB, at most 200 KiB with a full set of wraps), one small record per
//! target. A group leaves when every copy has its receipt, so what stays is the obligations to nodes that are missing.

use std::collections::{BTreeMap, BTreeSet};

use mynet_types::{
    BoundedVec, GroupId, ManifestHash, NodeId, OwnerKey, ReplicationMessage, SignedDecision, SignedReceipt, Timestamp,
    Tombstone, TxId,
    wire::{DecisionOutcome, Receipts, RefuseReason, TxStatus, Wraps},
};
use sha2::{Digest, Sha256};

use super::{
    checks,
    group::{Group, Stage, Transaction},
    io::{Decided, Publication, Record},
    step::{Pending, Step},
};
use crate::reason::{Note, Reason};

/// The open groups of this node.
#[derive(Debug, Default)]
pub(super) struct Coordinator {
    boot: u64,
    counter: u64,
    groups: BTreeMap<GroupId, Group>,
    transactions: BTreeMap<TxId, GroupId>,
    /// Transactions of deleted groups whose tombstones are not on disk yet, and of versions whose successors are not. Their
    /// commits may be, so nobody is told that they are unknown: a crash could bring them back.
    withdrawn: BTreeMap<TxId, (GroupId, OwnerKey)>,
}

impl Coordinator {
    pub(super) fn new(boot: u64, publications: Vec<(Publication, Option<Decided>, Receipts)>) -> Self {
        let mut coordinator = Self { boot, ..Self::default() };
        for (publication, decided, receipts) in publications {
            let group_id = publication.manifest.body.group_id;
            let group = Group::restored(publication, decided, &receipts);
            if let Some(transaction) = &group.transaction {
                coordinator.transactions.insert(transaction.id, group_id);
            }
            coordinator.groups.insert(group_id, group);
        }
        coordinator
    }

    /// An open group.
    pub(super) fn group(&self, group_id: &GroupId) -> Option<&Group> {
        self.groups.get(group_id)
    }

    /// All open groups.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Group> {
        self.groups.values()
    }

    /// Unfinished groups go on: with a logged commit forward, without one from the beginning.
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        for group_id in self.group_ids() {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.resume(step);
            }
            if !self.announce(group_id, step) {
                self.open(group_id, step);
            }
        }
    }

    fn group_ids(&self) -> Vec<GroupId> {
        self.groups.keys().copied().collect()
    }

    /// Takes a group up. The same manifest again changes what is wanted of it, and a higher version takes the place of a lower
    /// one, whatever that had come to. One that no participant would take is ignored, and so is another manifest.
    pub(super) fn publish(&mut self, mut publication: Publication, step: &mut Step<'_>) {
        let manifest = &publication.manifest.body;
        let (group_id, owner, manifest_hash) = (manifest.group_id, manifest.owner, manifest.hash());
        let head = publication.head.as_ref().map(|head| &head.certificate);
        // An epoch that is not known here may be known to its targets, and nobody would publish it again.
        if let Err(reason) = checks::check_manifest(&publication.manifest, head, step.shared)
            && reason != RefuseReason::EpochUnknown
        {
            tracing::warn!(%group_id, ?reason, "not published: no node would take this manifest");
            return;
        }
        if step.shared.deleted.of(&publication.manifest.body).is_some() {
            tracing::info!(%group_id, "not published: its owner deleted it");
            return;
        }
        if mynet_types::planted!(HoldersLeftBehind) {
            publication.head.iter_mut().for_each(|head| head.holders = BoundedVec::new());
        }
        let mut records = Vec::new();
        match self.groups.get_mut(&group_id) {
            Some(group) if group.publication.manifest != publication.manifest => {
                if group.publication.manifest.body.version >= publication.manifest.body.version {
                    tracing::warn!(%group_id, "not published: another manifest of a version as high is");
                    return;
                }
                follow(&mut publication, group.holders(), step.shared.node);
                // What the old version had come to is over in the moment in which the new one begins.
                records.extend([Record::End(group_id), Record::Begin(Box::new(publication.clone()))]);
                let mut old = std::mem::replace(group, Group::new(publication));
                if let Some(transaction) = old.transaction.take() {
                    // Without a logged commit nothing brings it back, and its targets need not wait for their leases.
                    old.abandon(&transaction, step);
                    self.transactions.remove(&transaction.id);
                    self.withdrawn.insert(transaction.id, (group_id, owner));
                }
            }
            Some(group) => {
                follow(&mut publication, group.holders_of_earlier(), step.shared.node);
                records.push(Record::Begin(Box::new(publication.clone())));
                let wraps = publication.wraps.clone();
                group.publication = publication;
                group.told_too_few = None;
                group.set_wraps(wraps, step);
            }
            None => {
                records.push(Record::Begin(Box::new(publication.clone())));
                self.groups.insert(group_id, Group::new(publication));
            }
        }
        step.note(Note::about(group_id, Reason::Published));
        step.persist(records, Pending::Begun(group_id, manifest_hash));
    }

    /// Drops a group that its owner deleted, whatever it has come to, and names everybody who may hold a part of it. Whoever
    /// asks about its transaction hears nothing until [`Self::buried`]; G7 ends with the group.
    pub(super) fn withdraw(&mut self, tombstone: &Tombstone) -> BTreeSet<NodeId> {
        let owned = |group: &Group| group.publication.manifest.body.owner == tombstone.owner;
        if !self.groups.get(&tombstone.group_id).is_some_and(owned) {
            return BTreeSet::new();
        }
        let Some(group) = self.groups.remove(&tombstone.group_id) else { return BTreeSet::new() };
        let mut holders = group.holders();
        // Late holders of before a restart. A receipt that ended says nothing about whether the bytes are gone.
        holders.extend(group.receipts.holders(Timestamp(0)));
        if let Some(transaction) = group.transaction {
            self.transactions.remove(&transaction.id);
            self.withdrawn.insert(transaction.id, (tombstone.group_id, tombstone.owner));
            holders.extend(transaction.targets.into_keys());
        }
        holders
    }

    /// The tombstone of a group is on disk: its transactions are unknown from here on, which is an abort.
    pub(super) fn buried(&mut self, tombstone: &Tombstone) {
        self.withdrawn.retain(|_, name| *name != (tombstone.group_id, tombstone.owner));
    }

    /// Ends what is open of a rejected manifest: whoever knows of that takes no copy, and whoever does not would take all its bytes
    /// for nothing. A transaction whose commit is logged, or is being logged, goes on (G7).
    pub(super) fn reject(&mut self, manifest: ManifestHash, step: &mut Step<'_>) {
        let undecided = |(_, group): &(&GroupId, &Group)| {
            let preparing = |transaction: &Transaction| transaction.stage == Stage::Preparing;
            group.manifest_hash == manifest && group.transaction.as_ref().is_none_or(preparing)
        };
        let Some((group_id, _)) = self.groups.iter().find(undecided) else { return };
        let group_id = *group_id;
        if let Some(group) = self.groups.remove(&group_id)
            && let Some(transaction) = &group.transaction
        {
            // Without a logged commit nothing brings it back, and its targets need not wait for their leases.
            group.abandon(transaction, step);
            self.transactions.remove(&transaction.id);
            step.note(group.about(Reason::TransactionGivenUp));
        }
        step.persist(vec![Record::End(group_id)], Pending::Nothing);
    }

    /// Whether nothing may be said of this transaction yet.
    pub(super) fn is_withdrawn(&self, tx: &TxId) -> bool {
        self.withdrawn.contains_key(tx)
    }

    /// New wraps. Those of a group that is not open here are only kept; its holders get them when it is published again.
    pub(super) fn wraps(&mut self, group_id: GroupId, wraps: Wraps, step: &mut Step<'_>) {
        let mut records = vec![Record::Wraps { group_id, wraps: wraps.clone() }];
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.set_wraps(wraps, step);
            records.push(Record::Begin(Box::new(group.publication.clone())));
        }
        step.persist(records, Pending::Rewrapped(group_id));
    }

    /// A node is admitted: groups that wait for targets, or want more of them, look again.
    pub(super) fn admitted(&mut self, node: NodeId, step: &mut Step<'_>) {
        for group_id in self.group_ids() {
            if let Some(group) = self.groups.get_mut(&group_id) {
                group.on_readmitted(node, step);
                group.replan(step);
            }
            self.open(group_id, step);
        }
    }

    pub(super) fn peer_up(&mut self, node: NodeId, step: &mut Step<'_>) {
        for group in self.groups.values_mut() {
            group.on_peer_up(node, step);
        }
    }

    /// Opens a transaction for a group that has none.
    fn open(&mut self, group_id: GroupId, step: &mut Step<'_>) {
        let Some(group) = self.groups.get_mut(&group_id) else { return };
        if !step.shared.started || !group.begun || group.transaction.is_some() {
            return;
        }
        self.counter += 1;
        let manifest = &group.publication.manifest.body;
        let mut hasher = Sha256::new();
        hasher.update(b"mynet/tx/1\0");
        hasher.update(step.shared.node.0);
        hasher.update(self.boot.to_be_bytes());
        hasher.update(self.counter.to_be_bytes());
        hasher.update(manifest.group_id.0);
        hasher.update(manifest.version.to_be_bytes());
        let tx = TxId(hasher.finalize().into());
        if group.open(tx, step) {
            self.transactions.insert(tx, group_id);
        }
    }

    /// Tells how far a group with receipts is, and ends it if every copy is there. Says whether it did. Receipts are given after
    /// a logged commit only, so a group that is published anew and not decided yet is never ended by those of before.
    fn announce(&mut self, group_id: GroupId, step: &mut Step<'_>) -> bool {
        let Some(group) = self.groups.get_mut(&group_id) else { return false };
        let ends = group.is_committed() && group.receipts.count(step.now.wall) > 0 && group.announce(step);
        if ends {
            self.end(group_id, step);
        }
        ends
    }

    fn end(&mut self, group_id: GroupId, step: &mut Step<'_>) {
        if let Some(transaction) = self.groups.remove(&group_id).and_then(|group| group.transaction) {
            self.transactions.remove(&transaction.id);
        }
        step.note(Note::about(group_id, Reason::Replicated));
        step.persist(vec![Record::End(group_id)], Pending::Nothing);
    }

    /// C1 is on disk: the group is placed. If it was open already, what is there may be enough for what is wanted now.
    pub(super) fn begun(&mut self, (group_id, manifest): (GroupId, ManifestHash), step: &mut Step<'_>) {
        if let Some(group) = self.groups.get_mut(&group_id) {
            if group.manifest_hash != manifest {
                return;
            }
            // A version that this one took the place of is unknown from here on, which is an abort.
            let of = (group_id, group.publication.manifest.body.owner);
            self.withdrawn.retain(|_, withdrawn| *withdrawn != of);
            group.begun = true;
            group.on_rewrapped(step);
            group.replan(step);
        }
        if !self.announce(group_id, step) {
            self.open(group_id, step);
        }
    }

    pub(super) fn rewrapped(&mut self, group_id: GroupId, step: &mut Step<'_>) {
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.on_rewrapped(step);
        }
    }

    pub(super) fn decided(&mut self, group_id: GroupId, tx: TxId, step: &mut Step<'_>) {
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.on_decided(tx, step);
        }
    }

    pub(super) fn told(&mut self, group_id: GroupId, (tx, node): (TxId, NodeId), step: &mut Step<'_>) {
        if let Some(group) = self.groups.get_mut(&group_id) {
            group.on_told(tx, node, step);
        }
    }

    pub(super) fn receipts(&mut self, group_id: GroupId, receipts: &[SignedReceipt], step: &mut Step<'_>) {
        if self.groups.get_mut(&group_id).is_some_and(|group| group.on_receipts(receipts, step)) {
            self.end(group_id, step);
        }
    }

    pub(super) fn retry(&mut self, group_id: GroupId, step: &mut Step<'_>) {
        self.open(group_id, step);
    }

    pub(super) fn deadline(&mut self, tx: TxId, step: &mut Step<'_>) {
        let Some(group) = self.transactions.get(&tx).and_then(|group_id| self.groups.get_mut(group_id)) else { return };
        if group.on_deadline(tx, step) {
            self.transactions.remove(&tx);
        }
    }

    pub(super) fn target_timer(&mut self, tx: TxId, node: NodeId, generation: u32, step: &mut Step<'_>) {
        if let Some(group) = self.of_mut(&tx) {
            group.on_target_timer(node, generation, step);
        }
    }

    fn of_mut(&mut self, tx: &TxId) -> Option<&mut Group> {
        self.groups.get_mut(self.transactions.get(tx)?)
    }

    /// An answer of a target. One to a transaction that is not known here belongs to one that was given up.
    pub(super) fn answer(&mut self, from: NodeId, message: ReplicationMessage, step: &mut Step<'_>) {
        match message {
            ReplicationMessage::PrepareOk { tx, attempt } => match self.of_mut(&tx) {
                Some(group) => group.on_receiving(from, (attempt, 0), false, step),
                None => self.disown(from, tx, step),
            },
            ReplicationMessage::Progress { tx, attempt, bytes } => match self.of_mut(&tx) {
                Some(group) => group.on_receiving(from, (attempt, bytes), true, step),
                None => self.disown(from, tx, step),
            },
            ReplicationMessage::Prepared { tx, attempt, manifest_hash, states } => match self.of_mut(&tx) {
                Some(group) => group.on_prepared(from, (attempt, manifest_hash), states, step),
                None => self.disown(from, tx, step),
            },
            ReplicationMessage::PrepareNo { tx, attempt, reason } => {
                if let Some(group) = self.of_mut(&tx) {
                    group.on_failed(from, attempt, Some(reason), step);
                }
            }
            ReplicationMessage::DecisionAck { tx, attempt, outcome } => {
                if let Some(group) = self.of_mut(&tx) {
                    match outcome {
                        DecisionOutcome::Committed(receipt) => group.on_receipt(from, receipt, step),
                        DecisionOutcome::Gone => group.on_failed(from, attempt, None, step),
                        DecisionOutcome::Aborted => {}
                    }
                }
            }
            ReplicationMessage::Prepare(_)
            | ReplicationMessage::LeaseRenew { .. }
            | ReplicationMessage::Decision(_)
            | ReplicationMessage::StatusQuery { .. }
            | ReplicationMessage::Status { .. }
            | ReplicationMessage::Receipts { .. }
            | ReplicationMessage::Wraps { .. }
            | ReplicationMessage::Tombstones(_)
            | ReplicationMessage::TombstonesKept { .. } => {}
        }
    }

    /// The commit of a transaction that is not known here, as a coordinator would make it that presumes commits.
    #[cfg(planted)]
    pub(super) fn guess(&self, tx: TxId, step: &Step<'_>) -> Option<(TxStatus, Option<SignedDecision>)> {
        let manifest_hash = self.groups.values().next()?.manifest_hash;
        mynet_types::planted!(UnknownIsCommitted).then_some(())?;
        Some((TxStatus::Committed, Some(step.sign_decision((tx, 1), manifest_hash, true))))
    }

    /// What became of a transaction that this node coordinates; `None` if it coordinates no such one.
    pub(super) fn query(
        &mut self,
        from: NodeId,
        tx: TxId,
        step: &mut Step<'_>,
    ) -> Option<(TxStatus, Option<SignedDecision>)> {
        let group = self.of_mut(&tx)?;
        let committed = group.is_committed();
        let decision = group.on_query(from, step);
        Some((if committed { TxStatus::Committed } else { TxStatus::Preparing }, decision))
    }

    /// Presumed abort: whoever answers to an unknown transaction need not keep its reservation.
    fn disown(&self, to: NodeId, tx: TxId, step: &mut Step<'_>) {
        if !self.is_withdrawn(&tx) {
            step.send(to, ReplicationMessage::Status { tx, status: TxStatus::Unknown, decision: None });
        }
    }
}

/// A later version is for these nodes too, but this one, wherever placement puts it.
fn follow(publication: &mut Publication, holders: BTreeSet<NodeId>, me: NodeId) {
    if let Some(head) = publication.head.as_mut().filter(|_| !mynet_types::planted!(HoldersLeftBehind)) {
        let all: BTreeSet<NodeId> = head.holders.iter().copied().chain(holders).filter(|node| *node != me).collect();
        head.holders = BoundedVec::truncated(all);
    }
}
