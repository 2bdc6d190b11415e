//! One group that this node coordinates: from its publication to the last receipt.
//!
//! ```text
//! Beginning ──C1──► Waiting ──enough nodes──► Preparing ──W prepared──► Deciding ──C2──► Committed ──R receipts──► C3
//!                      ▲                          │
//!                      └──── pause ◄── deadline ──┘            (there is no edge from Deciding or Committed to Waiting)
//! ```

mod sending;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_types::{
    BoundedVec, ManifestHash, NodeId, SignedDecision, SignedReceipt, StatesMask, Timestamp, TxId,
    wire::{self, RefuseReason, Wraps},
};

use super::{
    io::{Decided, Event, Publication, Record, ReplicationStatus, Timer},
    lease, plan,
    receipts::{ReceiptSet, verify_receipt},
    step::{Pending, Step},
    target::{Errand, Target, TargetState},
};
use crate::{
    placement::Placed,
    reason::{Note, Reason},
};

/// What a transaction is given for its bytes on top of the deadline, before anybody looks whether more of them arrived.
const BYTES_PER_SECOND: u64 = 2 * 1024 * 1024;

/// How far the transaction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Targets prepare; may still be aborted.
    Preparing,
    /// The commit is being written: neither commit nor abort may be said.
    Deciding,
    /// The commit is on disk; only forward from here.
    Committed,
}

/// The open transaction of a group.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) id: TxId,
    pub(super) stage: Stage,
    pub(super) targets: BTreeMap<NodeId, Target>,
}

/// A coordinated group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) publication: Publication,
    pub(super) manifest_hash: ManifestHash,
    /// Receipts that are on disk.
    pub(super) receipts: ReceiptSet,
    pub(super) transaction: Option<Transaction>,
    /// Other nodes that are told to commit this version, and whether that is on disk yet. Of before a restart those of C2 only.
    told: BTreeMap<NodeId, bool>,
    /// Whether C1 is on disk.
    pub(super) begun: bool,
    /// Whether success was reported since this node started.
    durable: bool,
    /// Whether wraps changed since targets were asked, so that new holders must be told.
    rewrapped: bool,
    /// Transactions given up one after the other.
    aborts: u32,
    /// The number of eligible nodes last reported as too few; whoever publishes again hears it again.
    pub(super) told_too_few: Option<usize>,
}

impl Group {
    /// A group whose C1 is not on disk yet.
    pub(super) fn new(publication: Publication) -> Self {
        Self {
            manifest_hash: publication.manifest.body.hash(),
            publication,
            receipts: ReceiptSet::default(),
            transaction: None,
            told: BTreeMap::new(),
            begun: false,
            durable: false,
            rewrapped: false,
            aborts: 0,
            told_too_few: None,
        }
    }

    /// A group as the disk has it: with its logged commit the transaction goes on, without one it is forgotten.
    pub(super) fn restored(publication: Publication, decided: Option<Decided>, receipts: &[SignedReceipt]) -> Self {
        let mut group = Self { begun: true, ..Self::new(publication) };
        // No receipt is given before C2, so without one all are of an earlier publication. They count when they are given
        // again: its holders may have to hear of something new, which is why it was published once more.
        let own = receipts.iter().filter(|_| decided.is_some());
        let manifest = &group.publication.manifest.body;
        for receipt in own.filter(|receipt| receipt.body.counts_for(&group.manifest_hash, manifest)) {
            group.receipts.merge(receipt);
        }
        group.told =
            decided.iter().flat_map(|decided| decided.decisions.iter().map(|(node, _)| (*node, true))).collect();
        // What a target was asked to hold is not on disk; every holder holds at least what strangers may.
        let least = group.publication.manifest.body.allowed(false);
        group.transaction = decided.map(|decided| Transaction {
            id: decided.tx,
            stage: Stage::Committed,
            targets: decided
                .decisions
                .iter()
                .map(|(node, decision)| (*node, Target::new(least, decision.body.attempt, TargetState::Committing)))
                .collect(),
        });
        group
    }

    /// Whether the commit is on disk.
    pub(super) fn is_committed(&self) -> bool {
        self.transaction.as_ref().is_some_and(|transaction| transaction.stage == Stage::Committed)
    }

    /// How far the group is.
    pub(super) fn status(&self, step: &Step<'_>) -> ReplicationStatus {
        self.status_at(step.now.wall)
    }

    pub(super) fn status_at(&self, wall: Timestamp) -> ReplicationStatus {
        let count = self.receipts.count(wall);
        if count >= plan::copies(&self.publication) {
            ReplicationStatus::Replicated
        } else if count >= usize::from(self.publication.manifest.body.quorum).max(1) {
            ReplicationStatus::Degraded
        } else if self.transaction.is_some() || count > 0 {
            ReplicationStatus::Replicating
        } else {
            ReplicationStatus::Pending
        }
    }

    /// Every node that may show this version or an earlier one.
    pub(super) fn holders(&self) -> BTreeSet<NodeId> {
        self.holders_of_earlier().into_iter().chain(self.told.keys().copied()).collect()
    }

    /// Every node that may show an earlier version.
    pub(super) fn holders_of_earlier(&self) -> BTreeSet<NodeId> {
        self.publication.head.iter().flat_map(|head| head.holders.iter().copied()).collect()
    }

    /// A line for the log of this group.
    pub(super) fn about(&self, reason: Reason) -> Note {
        Note::about(self.publication.manifest.body.group_id, reason)
    }

    fn report(&self, step: &mut Step<'_>) {
        step.event(Event::Progress {
            group_id: self.publication.manifest.body.group_id,
            manifest_hash: self.manifest_hash,
            status: self.status(step),
            receipts: self.receipts.to_wire(step.now.wall),
        });
    }

    /// Opens transaction `tx` if enough nodes are eligible; otherwise says so, once per number. Says whether it opened.
    pub(super) fn open(&mut self, tx: TxId, step: &mut Step<'_>) -> bool {
        let (copies, need) = (plan::copies(&self.publication), plan::need(&self.publication));
        let placed = plan::targets(step.shared, &self.publication, step.now.wall);
        if placed.len() < need {
            let eligible = placed.len();
            if self.told_too_few.replace(eligible) != Some(eligible) {
                let group_id = self.publication.manifest.body.group_id;
                step.event(Event::NotEnoughTargets { group_id, eligible, need });
                step.note(self.about(Reason::TooFewNodes).value(eligible));
            }
            return false;
        }
        self.told_too_few = None;
        self.transaction = Some(Transaction { id: tx, stage: Stage::Preparing, targets: BTreeMap::new() });
        for (place, placed) in placed.iter().enumerate() {
            self.add_target(placed.node, step);
            let reason = if place < copies { Reason::TargetChosen } else { Reason::TargetFollows };
            step.note(self.about(reason).with(placed.node).value(placed.rank));
        }
        self.report(step);
        for placed in &placed {
            self.run(placed.node, Errand::Prepare, step);
        }
        step.set_timer(Timer::Deadline(tx), self.patience(step));
        self.decide(step);
        true
    }

    /// How long targets may take until somebody looks whether they get on.
    fn patience(&self, step: &Step<'_>) -> Duration {
        let bytes = self.publication.manifest.body.stored_bytes();
        step.shared.config.deadline + Duration::from_secs(bytes / BYTES_PER_SECOND)
    }

    fn add_target(&mut self, node: NodeId, step: &Step<'_>) {
        let states = plan::states_for(&self.publication.manifest.body, &self.publication.wraps, &node);
        let target =
            if node == step.shared.node { Target::local(states) } else { Target::new(states, 1, TargetState::Asked) };
        if let Some(transaction) = &mut self.transaction {
            transaction.targets.insert(node, target);
        }
    }

    fn target_mut(&mut self, node: &NodeId) -> Option<&mut Target> {
        self.transaction.as_mut()?.targets.get_mut(node)
    }

    /// A target reserved, or (`renew`) reports bytes and gets its lease renewed.
    pub(super) fn on_receiving(
        &mut self,
        node: NodeId,
        (attempt, bytes): (u32, u64),
        renew: bool,
        step: &mut Step<'_>,
    ) {
        if self.target_mut(&node).is_some_and(|target| target.receives(attempt, bytes)) {
            if renew {
                self.send_renewal(node, step.shared.config.receiving_lease, step);
            } else {
                step.note(self.about(Reason::PrepareAccepted).with(node).value(attempt));
            }
            self.run(node, Errand::Nothing, step);
        }
    }

    /// A target verified everything: it counts, or gets the decision at once if there is one.
    pub(super) fn on_prepared(
        &mut self,
        node: NodeId,
        (attempt, manifest_hash): (u32, ManifestHash),
        states: StatesMask,
        step: &mut Step<'_>,
    ) {
        if manifest_hash != self.manifest_hash {
            return;
        }
        let Some(target) = self.target_mut(&node) else { return };
        if !states.covers(target.states) {
            // It was asked for less before this node restarted, in an attempt of the same number. It would be prepared for
            // that for ever, so it is asked under a number of its own.
            step.note(self.about(Reason::StatesOutdated).with(node).value(attempt));
            return self.on_failed(node, attempt, None, step);
        }
        if !target.prepares(attempt) {
            return;
        }
        if mynet_types::planted!(LeaseFromAnswer) {
            target.sent(step.now.mono);
        }
        step.note(self.about(Reason::Prepared).with(node).value(attempt));
        let errand = if self.is_committed() { Errand::Commit } else { Errand::Nothing };
        self.run(node, errand, step);
        self.decide(step);
    }

    /// A target gave up, or will not.
    pub(super) fn on_failed(&mut self, node: NodeId, attempt: u32, reason: Option<RefuseReason>, step: &mut Step<'_>) {
        if self.target_mut(&node).is_some_and(|target| target.fails(attempt, reason)) {
            if let Some(reason) = reason {
                let group_id = self.publication.manifest.body.group_id;
                step.event(Event::Refused { group_id, node, reason });
            }
            step.note(self.about(reason.map_or(Reason::GaveUp, Reason::refused)).with(node).value(attempt));
            self.run(node, Errand::Nothing, step);
            if mynet_types::planted!(AbortAfterCommit) {
                self.transaction.iter().for_each(|transaction| self.abandon(transaction, step));
            }
            if self.target_mut(&node).is_some_and(|target| target.is_full()) {
                step.note(self.about(Reason::TargetFull).with(node));
                self.replan(step);
            }
        }
    }

    /// Logs the commit if enough targets are prepared with leases that are counted on.
    fn decide(&mut self, step: &mut Step<'_>) {
        let need = plan::need(&self.publication);
        let hash = self.manifest_hash;
        let Some(transaction) = &mut self.transaction else { return };
        let prepared: Vec<(NodeId, &Target)> = transaction
            .targets
            .iter()
            .filter(|(_, target)| target.is_prepared(step.now.mono, &step.shared.config))
            .map(|(node, target)| (*node, target))
            .collect();
        if transaction.stage != Stage::Preparing || prepared.len() < need {
            return;
        }
        let tx = transaction.id;
        let decisions: Vec<(NodeId, SignedDecision)> = prepared
            .iter()
            .filter(|(_, target)| !target.is_local())
            .map(|(node, target)| (*node, step.sign_decision((tx, target.attempt), hash, true)))
            .collect();
        transaction.stage = Stage::Deciding;
        // Nobody hears of it before it is on disk.
        self.told.extend(decisions.iter().map(|(node, _)| (*node, true)));
        let nodes: Vec<NodeId> = decisions.iter().map(|(node, _)| *node).collect();
        let told = (!nodes.is_empty()).then(|| self.telling(nodes));
        let group_id = self.publication.manifest.body.group_id;
        let decided = Decided { group_id, tx, decisions };
        let records = [Some(Record::Decided(decided)), told].into_iter().flatten().collect();
        step.persist(records, Pending::Decided(group_id, tx));
        if mynet_types::planted!(CommitBeforeLog) {
            self.on_decided(tx, step);
        }
    }

    /// The commit is on disk: every prepared target hears of it, and this node's own copy gets its receipt.
    pub(super) fn on_decided(&mut self, tx: TxId, step: &mut Step<'_>) {
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.id == tx) else { return };
        transaction.stage = Stage::Committed;
        self.aborts = 0;
        if mynet_types::planted!(SuccessAtDecision) {
            let manifest = Box::new(self.publication.manifest.clone());
            step.event(Event::Durable { manifest, receipts: self.receipts.to_wire(step.now.wall), previous: None });
        }
        let prepared: Vec<NodeId> = transaction
            .targets
            .iter()
            .filter(|(_, target)| target.state == TargetState::Prepared)
            .map(|(node, _)| *node)
            .collect();
        step.note(self.about(Reason::CommitLogged).value(prepared.len()));
        for node in prepared {
            if node == step.shared.node { self.issue_own_receipt(step) } else { self.run(node, Errand::Commit, step) }
        }
    }

    /// What keeps that these are told to commit.
    fn telling(&self, nodes: Vec<NodeId>) -> Record {
        let manifest = &self.publication.manifest.body;
        Record::Told { group_id: manifest.group_id, version: manifest.version, nodes }
    }

    /// Whether it is on disk that a node is told to commit.
    fn is_told(&self, node: &NodeId) -> bool {
        self.told.get(node).is_some_and(|on_disk| *on_disk)
    }

    /// That a node is told to commit is on disk: it hears of the decision, if it still waits for that.
    pub(super) fn on_told(&mut self, tx: TxId, node: NodeId, step: &mut Step<'_>) {
        if self.transaction.as_ref().is_none_or(|transaction| transaction.id != tx) {
            return;
        }
        self.told.insert(node, true);
        if self.target_mut(&node).is_some_and(|target| target.state == TargetState::Prepared) {
            self.run(node, Errand::Commit, step);
        }
    }

    /// Signs and keeps the receipt for this node's own copy, which is complete and visible since the publication.
    fn issue_own_receipt(&mut self, step: &mut Step<'_>) {
        let node = step.shared.node;
        let hash = self.manifest_hash;
        let Some(target) = self.target_mut(&node).filter(|target| target.state != TargetState::Held) else { return };
        target.state = TargetState::Held;
        let receipt = step.sign_receipt(hash, target.states);
        self.keep(vec![receipt], step);
    }

    fn keep(&mut self, receipts: Vec<SignedReceipt>, step: &mut Step<'_>) {
        let group_id = self.publication.manifest.body.group_id;
        let mut records = vec![Record::Receipts {
            group_id,
            manifest_hash: self.manifest_hash,
            receipts: BoundedVec::truncated(receipts.iter().cloned()),
        }];
        // Others pass decisions on, so this node may not have been the one that told it.
        let holders = receipts.iter().map(|receipt| receipt.body.holder).filter(|holder| *holder != step.shared.node);
        let nodes: Vec<NodeId> = holders.filter(|holder| self.told.insert(*holder, true).is_none()).collect();
        if !nodes.is_empty() {
            records.push(self.telling(nodes));
        }
        step.persist(records, Pending::Receipts(group_id, receipts));
    }

    /// A participant committed: its receipt is checked, then kept; it counts once it is on disk.
    pub(super) fn on_receipt(&mut self, node: NodeId, receipt: SignedReceipt, step: &mut Step<'_>) {
        let least = self.publication.manifest.body.allowed(false);
        let eligible = step.shared.is_eligible(&node, step.now.wall);
        if !self.is_committed() || receipt.body.holder != node {
            return;
        }
        let target = self.target_mut(&node);
        let want = match &target {
            Some(target) if target.state == TargetState::Held => return,
            Some(target) if target.state == TargetState::Committing => target.states,
            Some(_) => least,
            // A target of before a restart, which was not prepared when the commit was logged.
            None if eligible => least,
            None => return,
        };
        if !receipt.body.counts_for(&self.manifest_hash, &self.publication.manifest.body) {
            return step.note(self.about(Reason::ReceiptInvalid).with(node));
        }
        let network = step.shared.network;
        if let Err(error) = verify_receipt(&receipt, &self.manifest_hash, want, (&network, step.now.wall)) {
            tracing::debug!(node = %node.short(), %error, "receipt refused");
            return step.note(self.about(Reason::ReceiptInvalid).with(node));
        }
        if let Some(target) = self.target_mut(&node) {
            target.state = TargetState::Held;
        }
        self.keep(vec![receipt], step);
    }

    /// Receipts are on disk: they count. Says whether every copy is there and the group needs no coordinator any more.
    pub(super) fn on_receipts(&mut self, receipts: &[SignedReceipt], step: &mut Step<'_>) -> bool {
        let mut changed = false;
        // Those of a version that this one took the place of may have been on their way to the disk.
        let own = |receipt: &&SignedReceipt| {
            receipt.body.manifest_hash == self.manifest_hash || mynet_types::planted!(ReplacedReceiptsCounted)
        };
        for receipt in receipts.iter().filter(own) {
            if self.receipts.merge(receipt) {
                changed = true;
                step.note(self.about(Reason::ReceiptKept).with(receipt.body.holder));
            }
        }
        if self.rewrapped {
            for receipt in receipts {
                self.send_wraps(receipt.body.holder, step);
            }
        }
        if changed && self.has_room_for_followers(step) {
            self.replan(step);
        }
        changed && self.announce(step)
    }

    /// Reports how far the group is, and tells every holder who holds it once that is enough. Says whether every copy is
    /// there.
    pub(super) fn announce(&mut self, step: &mut Step<'_>) -> bool {
        self.report(step);
        let count = self.receipts.count(step.now.wall);
        if count < plan::need(&self.publication) {
            return false;
        }
        if !self.durable {
            self.durable = true;
            step.note(self.about(Reason::Durable).value(count));
            step.event(Event::Durable {
                manifest: Box::new(self.publication.manifest.clone()),
                receipts: self.receipts.to_wire(step.now.wall),
                previous: self.publication.head.as_ref().map(|head| Box::new(head.previous.clone())),
            });
        }
        let holders: Vec<NodeId> = self.receipts.holders(step.now.wall).collect();
        for holder in holders {
            self.send_receipts(holder, step);
        }
        count >= plan::copies(&self.publication) && !self.is_awaited(step)
    }

    /// Whether a node that holds an earlier version waited for a place among the targets, and there is one.
    fn has_room_for_followers(&self, step: &Step<'_>) -> bool {
        let Some(Transaction { targets, .. }) = &self.transaction else { return false };
        let waits = |node: &NodeId| !targets.contains_key(node) && step.shared.is_eligible(node, step.now.wall);
        let earlier = self.publication.head.iter().flat_map(|head| head.holders.iter());
        earlier.filter(|node| waits(node)).count() > 0
            && targets.values().filter(|target| target.is_outstanding()).count() < wire::TARGETS_MAX
    }

    /// Whether a node that may hold this version has an earlier one still, as far as receipts say.
    fn is_awaited(&self, step: &Step<'_>) -> bool {
        let wall = step.now.wall;
        let holders = self.publication.head.iter().flat_map(|head| &head.holders);
        let behind = |node: &&NodeId| step.shared.is_eligible(node, wall) && self.receipts.of(node, wall).is_none();
        holders.filter(behind).count() > 0
    }

    /// Takes new wraps over. Targets that are to hold other states now are asked again.
    pub(super) fn set_wraps(&mut self, wraps: Wraps, step: &mut Step<'_>) {
        if self.publication.wraps != wraps {
            step.note(self.about(Reason::WrapsChanged));
        }
        self.publication.wraps = wraps;
        self.rewrapped = true;
        for node in self.target_nodes() {
            let states = plan::states_for(&self.publication.manifest.body, &self.publication.wraps, &node);
            let errand = self.target_mut(&node).map_or(Errand::Nothing, |target| target.regrant(states));
            if errand != Errand::Nothing {
                self.run(node, errand, step);
            }
        }
    }

    /// New wraps are on disk: every holder hears of them.
    pub(super) fn on_rewrapped(&self, step: &mut Step<'_>) {
        let holders: Vec<NodeId> = self.receipts.holders(step.now.wall).collect();
        for holder in holders {
            self.send_wraps(holder, step);
        }
    }

    fn target_nodes(&self) -> Vec<NodeId> {
        self.transaction.iter().flat_map(|transaction| transaction.targets.keys().copied()).collect()
    }

    /// Makes the targets those that the admissions now known ask for: targets whose admission ended without a receipt leave,
    /// ended receipts are asked for again, and the next nodes by placement fill up to R, full targets not counted, besides
    /// whoever holds an earlier version. A target that leaves is told nothing: its lease ends by itself, and the transaction has
    /// one outcome.
    pub(super) fn replan(&mut self, step: &mut Step<'_>) {
        let (wall, copies) = (step.now.wall, plan::copies(&self.publication));
        let group_id = self.publication.manifest.body.group_id;
        let Some(transaction) = &mut self.transaction else { return };
        let receipts = &self.receipts;
        transaction.targets.retain(|node, target| {
            let stays = target.state == TargetState::Held
                || step.shared.is_eligible(node, wall)
                || receipts.of(node, wall).is_some();
            if !stays {
                step.note(Note::about(group_id, Reason::TargetDropped).with(*node));
            }
            stays
        });
        let held: Vec<NodeId> = receipts.holders(wall).collect();
        let mut errands: Vec<(NodeId, Errand)> = Vec::new();
        for (node, target) in &mut transaction.targets {
            if held.contains(node) {
                target.state = TargetState::Held;
            } else if receipts.ended(node, wall) {
                step.note(Note::about(group_id, Reason::ReceiptEnded).with(*node));
                errands.push((*node, target.receipt_ended()));
            }
        }
        let taken = held.iter().filter(|holder| !transaction.targets.contains_key(holder)).count();
        let standing = transaction.targets.values().filter(|target| !target.is_full()).count();
        let open = transaction.targets.values().filter(|target| target.is_outstanding()).count();
        let mut room = wire::TARGETS_MAX.saturating_sub(open);
        let mut missing = copies.saturating_sub(taken + standing);
        let known: Vec<NodeId> = transaction.targets.keys().chain(&held).copied().collect();
        if missing == 0 && self.publication.head.is_none() {
            return self.follow_up(errands, step);
        }
        let wanted = plan::wanted(step.shared, &self.publication, missing + known.len(), wall);
        for Placed { node, rank, .. } in wanted.into_iter().filter(|placed| !known.contains(&placed.node)) {
            let reason = match missing {
                0 if plan::follows(&self.publication, &node) => Reason::TargetFollows,
                0 => continue,
                _ => Reason::TargetChosen,
            };
            if room == 0 {
                break;
            }
            (missing, room) = (missing.saturating_sub(1), room - 1);
            self.add_target(node, step);
            step.note(self.about(reason).with(node).value(rank));
            errands.push((node, Errand::Prepare));
        }
        self.follow_up(errands, step);
    }

    /// Does what a new plan asks of targets.
    fn follow_up(&mut self, errands: Vec<(NodeId, Errand)>, step: &mut Step<'_>) {
        for (node, errand) in errands.into_iter().filter(|(_, errand)| *errand != Errand::Nothing) {
            self.run(node, errand, step);
        }
        if self.is_committed() {
            self.issue_own_receipt(step);
        }
        self.decide(step);
    }

    /// The deadline passed: without a logged commit the transaction is given up, unless a target gets on. Beginning anew
    /// would lose what is staged, so that a group larger than what a slow link brings within the deadline would never arrive.
    /// Says whether it was given up.
    pub(super) fn on_deadline(&mut self, tx: TxId, step: &mut Step<'_>) -> bool {
        let total = self.publication.manifest.body.stored_bytes();
        let Some(transaction) = &mut self.transaction else { return false };
        if transaction.id != tx || transaction.stage != Stage::Preparing {
            return false;
        }
        // Every target is looked at, so that what one has now is not news the next time.
        let advances = transaction.targets.values_mut().map(|target| target.advances(total));
        if advances.filter(|advances| *advances).count() > 0 {
            step.note(self.about(Reason::DeadlineExtended));
            step.set_timer(Timer::Deadline(tx), self.patience(step));
            return false;
        }
        let Some(transaction) = self.transaction.take() else { return false };
        step.note(self.about(Reason::TransactionGivenUp));
        self.abandon(&transaction, step);
        let config = &step.shared.config;
        let pause = lease::backoff(config.retry, self.aborts, config.retry_max);
        self.aborts = self.aborts.saturating_add(1);
        step.set_timer(Timer::Retry(self.publication.manifest.body.group_id), pause);
        true
    }

    /// A target asks what became of the transaction. Undecided: its lease is renewed, or it is asked again what it has.
    /// Committed: the answer is the commit, for who was told already, and never an abort. Whoever asks is prepared, and may hear of it
    /// from others, so it is written down as told before it can. Gives the decision to answer with, if there is one.
    pub(super) fn on_query(&mut self, node: NodeId, step: &mut Step<'_>) -> Option<SignedDecision> {
        let committed = self.is_committed();
        let hash = self.manifest_hash;
        let told = self.is_told(&node);
        let eligible = step.shared.is_eligible(&node, step.now.wall);
        let transaction = self.transaction.as_mut()?;
        let target = transaction.targets.get(&node);
        if committed && !told && eligible {
            let tx = transaction.id;
            self.write_told(tx, node, step);
            return None;
        }
        if committed {
            // Who is no target was one before a restart; its first attempt is the one it most likely made.
            let attempt = target.map_or(1, |target| target.attempt);
            return told.then(|| step.sign_decision((transaction.id, attempt), hash, true));
        }
        match target.map(|target| target.state) {
            Some(TargetState::Prepared) => {
                self.send_renewal(node, step.shared.config.prepared_lease, step);
                self.run(node, Errand::Nothing, step);
                self.decide(step);
            }
            Some(TargetState::Asked | TargetState::Receiving) => self.run(node, Errand::Prepare, step),
            Some(TargetState::Committing | TargetState::Held | TargetState::Paused | TargetState::Refused) | None => {}
        }
        None
    }

    /// The timer of a target ran out.
    pub(super) fn on_target_timer(&mut self, node: NodeId, generation: u32, step: &mut Step<'_>) {
        let errand = self.target_mut(&node).map_or(Errand::Nothing, |target| target.expire(generation));
        if errand != Errand::Nothing {
            self.run(node, errand, step);
        }
    }

    /// A node can be reached: what is outstanding with it is tried at once, and a holder hears who holds the group.
    pub(super) fn on_peer_up(&mut self, node: NodeId, step: &mut Step<'_>) {
        let errand = self.target_mut(&node).map_or(Errand::Nothing, Target::reached);
        if errand != Errand::Nothing {
            self.run(node, errand, step);
        }
        let enough = self.receipts.count(step.now.wall) >= plan::need(&self.publication);
        if enough && self.receipts.of(&node, step.now.wall).is_some() {
            self.send_receipts(node, step);
        }
    }

    /// A node was admitted again: a refusal of it is forgotten.
    pub(super) fn on_readmitted(&mut self, node: NodeId, step: &mut Step<'_>) {
        let errand = self.target_mut(&node).map_or(Errand::Nothing, Target::readmitted);
        if errand != Errand::Nothing {
            self.run(node, errand, step);
        }
    }

    /// After a restart: decisions go out again to all who have not answered. Receipts of nodes that may not hold copies do
    /// not count; which those are is known only now.
    pub(super) fn resume(&mut self, step: &mut Step<'_>) {
        let wall = step.now.wall;
        self.receipts.retain(|holder| step.shared.is_eligible(holder, wall));
        self.replan(step);
        for node in self.target_nodes() {
            let committing = self.target_mut(&node).is_some_and(|target| target.state == TargetState::Committing);
            if committing {
                self.run(node, Errand::Commit, step);
            }
        }
    }
}
