//! The participating role: this node is asked to hold groups of others.
//!
//! ```text
//!          Prepare           T1 on disk            staged             T3 on disk            Decision
//! (none) ──────────► Reserving ────────► Receiving ────────► Securing ──────────► Prepared ──────────► Committing ─T4─► over
//!                        └───────────────────┴──────────────────┴─────────────────────┘
//!                                     lease end, abort, refusal: Aborting ─T5─► over
//! ```
//!
//! **Invariant:** nothing is answered before the record that makes it true is on disk. The end of a lease is a safe
//! unilateral abort in every state before `Committing`, because no commit depends on a particular target.

use std::{collections::BTreeMap, time::Duration};

use mynet_types::{
    GroupId, ManifestHash, Mono, NodeId, OwnerKey, ReplicationMessage, SignedDecision, SignedReceipt, StatesMask,
    Tombstone, TxId,
    wire::{DecisionOutcome, Prepare, RefuseReason, TxStatus},
};

use super::{
    checks,
    io::{Event, Intent, Output, Record, Timer},
    lease,
    outcomes::{Ending, Outcome, Outcomes},
    step::{Parting, Pending, Step},
};
use crate::reason::{Note, Reason};

/// Where an open transaction stands.
#[derive(Debug, Clone)]
enum PartState {
    /// T1 is being written; the prepare waits for it.
    Reserving(Box<Prepare>),
    /// Bytes come in.
    Receiving,
    /// T3 is being written.
    Securing,
    /// Everything is verified and fsynced; waits for the decision.
    Prepared,
    /// The manifest was committed here under another transaction: nothing to do but to give the receipt out again.
    Held(SignedReceipt),
    /// T4 is being written.
    Committing { receipt: SignedReceipt, decision: SignedDecision },
    /// T5 is being written.
    Aborting { decision: Option<SignedDecision> },
}

/// An open transaction.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) coordinator: NodeId,
    pub(super) attempt: u32,
    pub(super) manifest_hash: ManifestHash,
    group_id: GroupId,
    version: u64,
    owner: OwnerKey,
    /// Its owner deleted the group, or the validators rejected it, while T4 was being written.
    unwanted: bool,
    states: StatesMask,
    targets: Vec<NodeId>,
    state: PartState,
    lease_until: Mono,
    generation: u32,
    /// When to speak to the coordinator next, if nothing comes from it.
    ask_at: Mono,
    /// From when on it asks what became of the transaction, and before which it says again that it is prepared.
    doubt_at: Mono,
    /// Times it said so again.
    repeated: u32,
    /// Questions asked.
    asked: u32,
    told_at: Mono,
}

impl Part {
    fn new(coordinator: NodeId, prepare: &Prepare, states: StatesMask, manifest_hash: ManifestHash) -> Self {
        Self {
            coordinator,
            attempt: prepare.attempt,
            manifest_hash,
            group_id: prepare.manifest.body.group_id,
            version: prepare.manifest.body.version,
            owner: prepare.manifest.body.owner,
            unwanted: false,
            states,
            targets: prepare.targets.to_vec(),
            state: PartState::Receiving,
            lease_until: Mono(0),
            generation: 0,
            ask_at: Mono(0),
            doubt_at: Mono(0),
            repeated: 0,
            asked: 0,
            told_at: Mono(0),
        }
    }

    /// What it is, as told to others.
    pub(super) fn status(&self) -> TxStatus {
        match self.state {
            PartState::Reserving(_) | PartState::Receiving | PartState::Securing => TxStatus::Preparing,
            PartState::Prepared | PartState::Held(_) | PartState::Committing { .. } => TxStatus::Prepared,
            PartState::Aborting { .. } => TxStatus::Aborted,
        }
    }

    fn is_staging(&self) -> bool {
        matches!(self.state, PartState::Reserving(_) | PartState::Receiving | PartState::Securing)
    }

    /// Starts the lease anew; the timer that is out looks at it when it runs out.
    fn renew(&mut self, tx: TxId, lease: Duration, step: &mut Step<'_>) {
        self.lease_until = step.now.mono.after(lease);
        self.generation = self.generation.wrapping_add(1);
        step.set_timer(Timer::Lease { tx, generation: self.generation }, lease);
    }

    /// Sets when to speak to the coordinator next.
    fn ask_after(&mut self, tx: TxId, pause: Duration, step: &mut Step<'_>) {
        self.ask_at = step.now.mono.after(pause);
        step.set_timer(Timer::Status(tx), pause);
    }

    /// Everything is staged: the longer lease runs. Until half of it this node says again and again that it is prepared,
    /// because that message may be lost; from then on it asks.
    fn wait_for_decision(&mut self, tx: TxId, lease: Duration, step: &mut Step<'_>) {
        (self.repeated, self.asked) = (0, 0);
        self.renew(tx, lease, step);
        self.doubt_at = step.now.mono.after(lease / 2);
        self.repeat_later(tx, step);
    }

    /// Sets when to say again that it is prepared: pauses double, and end where doubt begins.
    fn repeat_later(&mut self, tx: TxId, step: &mut Step<'_>) {
        let pause = lease::backoff(step.shared.config.prepare_timeout, self.repeated, Duration::MAX);
        self.ask_after(tx, pause.min(self.doubt_at.since(step.now.mono)), step);
    }

    /// A line for the log of its group.
    fn note(&self, reason: Reason) -> Note {
        Note::about(self.group_id, reason).with(self.coordinator).value(self.attempt)
    }

    /// Repeats what the coordinator may have missed.
    fn answer(&self, tx: TxId, step: &mut Step<'_>) {
        let Self { attempt, manifest_hash, states, .. } = *self;
        match self.state {
            PartState::Receiving | PartState::Securing => {
                step.send(self.coordinator, ReplicationMessage::PrepareOk { tx, attempt });
            }
            PartState::Prepared | PartState::Held(_) => {
                step.send(self.coordinator, ReplicationMessage::PrepareOk { tx, attempt });
                let prepared = ReplicationMessage::Prepared { tx, attempt, manifest_hash, states };
                step.send(self.coordinator, prepared);
            }
            // What is being written is answered when it is on disk.
            PartState::Reserving(_) | PartState::Committing { .. } | PartState::Aborting { .. } => {}
        }
    }
}

/// Transactions of others in which this node takes part.
#[derive(Debug)]
pub(super) struct Participant {
    open: BTreeMap<TxId, Part>,
    outcomes: Outcomes,
    /// Intents of before a restart, until `Start`.
    restored: Vec<(Intent, Option<StatesMask>)>,
}

impl Participant {
    pub(super) fn new(
        intents: Vec<(Intent, Option<StatesMask>)>,
        committed: Vec<(TxId, u32, GroupId, SignedReceipt)>,
        aborted: Vec<(TxId, u32)>,
        (versions, rejected): (Vec<(GroupId, u64)>, Vec<ManifestHash>),
    ) -> Self {
        let mut outcomes = Outcomes::default();
        for (group_id, version) in versions {
            outcomes.shown(group_id, version);
        }
        for (tx, attempt, group_id, receipt) in committed {
            outcomes.insert(tx, Outcome::new(attempt, Ending::Committed(receipt), None, Mono(0)).of(group_id));
        }
        for (tx, attempt) in aborted {
            // An abort of an earlier attempt says nothing once the transaction goes on or was committed.
            let goes_on = intents.iter().any(|(intent, _)| intent.prepare.tx == tx) || outcomes.get(&tx).is_some();
            if !goes_on {
                outcomes.insert(tx, Outcome::new(attempt, Ending::Aborted, None, Mono(0)));
            }
        }
        // Last: what was given for a rejected manifest is not given again.
        rejected.into_iter().for_each(|manifest| outcomes.reject(manifest));
        Self { open: BTreeMap::new(), outcomes, restored: intents }
    }

    /// The open transactions.
    pub(super) fn open(&self) -> impl Iterator<Item = (&TxId, &Part)> {
        self.open.iter()
    }

    /// After a restart every lease starts in full; staging goes on, and who was prepared says so and asks.
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        step.set_timer(Timer::Sweep, step.shared.config.tombstone);
        for (intent, staged) in std::mem::take(&mut self.restored) {
            let Intent { coordinator, prepare, states } = intent;
            let (tx, hash) = (prepare.tx, prepare.manifest.body.hash());
            let mut part = Part::new(coordinator, &prepare, staged.unwrap_or(states), hash);
            if step.shared.deleted.of(&prepare.manifest.body).is_some() {
                // A crash came between the tombstone and the end of what was open of its group.
                self.open.insert(tx, part);
                self.abort(tx, Parting::Refused(RefuseReason::Superseded), None, step);
                continue;
            }
            if staged.is_some() {
                part.state = PartState::Prepared;
                part.renew(tx, step.shared.config.prepared_lease, step);
                part.ask_after(tx, Duration::ZERO, step);
            } else {
                part.renew(tx, step.shared.config.receiving_lease, step);
                step.out.push(Output::Stage { tx, attempt: prepare.attempt, prepare: Box::new(prepare), states });
            }
            part.answer(tx, step);
            self.open.insert(tx, part);
        }
    }

    /// A coordinator asks this node to prepare.
    pub(super) fn prepare(&mut self, from: NodeId, prepare: Box<Prepare>, step: &mut Step<'_>) {
        let (tx, attempt) = (prepare.tx, prepare.attempt);
        if let Some(part) = self.open.get_mut(&tx) {
            let over = matches!(part.state, PartState::Committing { .. } | PartState::Aborting { .. });
            if part.coordinator != from || over {
                return;
            }
            if attempt <= part.attempt && !mynet_types::planted!(RepeatedPrepareReopens) {
                // The coordinator counts from when it sent this, so the lease runs from when it arrived.
                if part.is_staging() {
                    let lease = lease::granted(prepare.lease_ms, step.shared.config.receiving_lease);
                    part.renew(tx, lease, step);
                } else {
                    part.wait_for_decision(tx, step.shared.config.prepared_lease, step);
                }
                part.answer(tx, step);
                return;
            }
        } else if let Some(outcome) = self.outcomes.get(&tx) {
            let answer = match &outcome.ending {
                Ending::Committed(receipt) => Some((attempt, DecisionOutcome::Committed(receipt.clone()))),
                Ending::Aborted if attempt <= outcome.attempt => Some((outcome.attempt, DecisionOutcome::Gone)),
                Ending::Aborted => None,
            };
            if let Some((attempt, outcome)) = answer {
                step.send(from, ReplicationMessage::DecisionAck { tx, attempt, outcome });
                return;
            }
        }
        self.admit(from, prepare, step);
    }

    /// Takes a new attempt in, or says why not.
    fn admit(&mut self, from: NodeId, prepare: Box<Prepare>, step: &mut Step<'_>) {
        let (tx, attempt) = (prepare.tx, prepare.attempt);
        let superseded = self.open.contains_key(&tx);
        let budget = step.shared.config.transactions_per_peer_max;
        let busy = !superseded && self.open.values().filter(|part| part.coordinator == from).count() >= budget;
        let checked = if busy { Err(RefuseReason::Busy) } else { checks::check_prepare(&prepare, step.shared) };
        let hash = match checked {
            Ok(hash) if self.outcomes.is_rejected(&hash) => {
                return decline(from, &prepare, RefuseReason::Rejected, step);
            }
            Ok(_) if self.is_over(&prepare) => return decline(from, &prepare, RefuseReason::Superseded, step),
            Ok(hash) if self.open.get(&tx).is_none_or(|part| part.manifest_hash == hash) => hash,
            Ok(_) => return decline(from, &prepare, RefuseReason::ManifestInvalid, step),
            Err(reason) => return decline(from, &prepare, reason, step),
        };
        let states = prepare.states;
        let mut part = Part::new(from, &prepare, states, hash);
        step.note(part.note(Reason::AskedToHold));
        // An attempt before may have written an intent, which only this transaction's own commit or abort takes away.
        // If tombstones were forgotten, what was committed may be gone, which the store finds out while staging.
        let fresh = !superseded && step.shared.deleted.is_complete();
        let held = self
            .outcomes
            .receipt_for(&hash)
            .filter(|receipt| receipt.body.states.covers(states) && receipt.body.until > step.now.wall && fresh);
        if let Some(receipt) = held {
            part.state = PartState::Held(receipt.clone());
            let group_id = prepare.manifest.body.group_id;
            step.persist(vec![Record::Wraps { group_id, wraps: prepare.wraps }], Pending::Nothing);
            part.wait_for_decision(tx, step.shared.config.prepared_lease, step);
            part.answer(tx, step);
        } else {
            if superseded {
                step.out.push(Output::CancelStage { tx });
            }
            let lease = lease::granted(prepare.lease_ms, step.shared.config.receiving_lease);
            part.renew(tx, lease, step);
            let intent = Intent { coordinator: from, prepare: (*prepare).clone(), states };
            part.state = PartState::Reserving(prepare);
            step.persist(vec![Record::Intent(intent)], Pending::Reserved(tx, attempt));
        }
        self.outcomes.reopen(&tx);
        self.open.insert(tx, part);
    }

    /// Whether a higher version is visible here, or is being made visible; the store refuses the lower one only from then on.
    fn is_over(&self, prepare: &Prepare) -> bool {
        let manifest = &prepare.manifest.body;
        if self.outcomes.version(&manifest.group_id).is_some_and(|shown| shown > manifest.version) {
            return true;
        }
        let higher = |part: &Part| part.group_id == manifest.group_id && part.version > manifest.version;
        self.open.values().any(|part| higher(part) && matches!(part.state, PartState::Committing { .. }))
    }

    /// A version is made visible: what is open of lower ones could not be any more.
    fn give_up_lower(&mut self, (group_id, version): (GroupId, u64), step: &mut Step<'_>) {
        if mynet_types::planted!(LowerVersionTakes) {
            return;
        }
        let lower = |part: &Part| {
            let over = matches!(part.state, PartState::Committing { .. } | PartState::Aborting { .. });
            part.group_id == group_id && part.version < version && !over
        };
        for tx in self.open.iter().filter(|(_, part)| lower(part)).map(|(tx, _)| *tx).collect::<Vec<_>>() {
            self.abort(tx, Parting::Refused(RefuseReason::Superseded), None, step);
        }
    }

    /// T1 is on disk: the answer leaves, and staging begins.
    pub(super) fn reserved(&mut self, tx: TxId, attempt: u32, step: &mut Step<'_>) {
        let Some(part) = self.open.get_mut(&tx).filter(|part| part.attempt == attempt) else { return };
        match std::mem::replace(&mut part.state, PartState::Receiving) {
            PartState::Reserving(prepare) => {
                part.answer(tx, step);
                step.out.push(Output::Stage { tx, attempt, prepare, states: part.states });
            }
            other => part.state = other,
        }
    }

    /// Staging came to an end.
    pub(super) fn staged(
        &mut self,
        tx: TxId,
        attempt: u32,
        result: Result<StatesMask, RefuseReason>,
        step: &mut Step<'_>,
    ) {
        let Some(part) = self.open.get_mut(&tx).filter(|part| part.attempt == attempt) else { return };
        if !matches!(part.state, PartState::Receiving) {
            return;
        }
        match result {
            Ok(states) if states.covers(part.states) || mynet_types::planted!(PreparedWithPart) => {
                part.state = PartState::Securing;
                let states = part.states;
                step.persist(vec![Record::Prepared { tx, attempt, states }], Pending::Prepared(tx, attempt));
                if mynet_types::planted!(PreparedBeforePersist) {
                    self.prepared(tx, attempt, step);
                }
            }
            // Fewer states than promised are not a group.
            Ok(_) => self.abort(tx, Parting::Refused(RefuseReason::Unavailable), None, step),
            Err(reason) => self.abort(tx, Parting::Refused(reason), None, step),
        }
    }

    /// T3 is on disk: the coordinator hears of it.
    pub(super) fn prepared(&mut self, tx: TxId, attempt: u32, step: &mut Step<'_>) {
        let Some(part) = self.open.get_mut(&tx).filter(|part| part.attempt == attempt) else { return };
        if matches!(part.state, PartState::Securing) {
            part.state = PartState::Prepared;
            part.wait_for_decision(tx, step.shared.config.prepared_lease, step);
            let (manifest_hash, states) = (part.manifest_hash, part.states);
            step.note(part.note(Reason::PreparedHere));
            step.send(part.coordinator, ReplicationMessage::Prepared { tx, attempt, manifest_hash, states });
        }
    }

    /// Staging goes on: told to the coordinator now and then, which renews the lease. It may verify for a long time after
    /// the last byte came; whether that is worth waiting for is for the coordinator to say.
    pub(super) fn progress(&mut self, tx: TxId, attempt: u32, bytes: u64, step: &mut Step<'_>) {
        let Some(part) = self.open.get_mut(&tx).filter(|part| part.attempt == attempt) else { return };
        let due = step.now.mono.since(part.told_at) >= step.shared.config.progress_interval;
        if matches!(part.state, PartState::Receiving) && due {
            part.told_at = step.now.mono;
            step.send(part.coordinator, ReplicationMessage::Progress { tx, attempt, bytes });
        }
    }

    /// The coordinator says: keep your lease.
    pub(super) fn renew(&mut self, from: NodeId, (tx, attempt): (TxId, u32), lease_ms: u32, step: &mut Step<'_>) {
        let Some(part) = self.open.get_mut(&tx) else { return };
        if part.coordinator != from || part.attempt != attempt {
            return;
        }
        if part.is_staging() {
            part.renew(tx, lease::granted(lease_ms, step.shared.config.receiving_lease), step);
        } else if matches!(part.state, PartState::Prepared | PartState::Held(_)) {
            let lease = lease::granted(lease_ms, step.shared.config.prepared_lease);
            part.wait_for_decision(tx, lease, step);
        }
    }

    /// A decision, from its coordinator or from anyone who relays it. Only the signature of the coordinator named in T1
    /// counts, and only for the attempt that is open.
    pub(super) fn decision(&mut self, from: NodeId, decision: SignedDecision, step: &mut Step<'_>) {
        let (tx, attempt) = (decision.body.tx, decision.body.attempt);
        let Some(part) = self.open.get_mut(&tx) else { return self.decided_already(from, &decision, step) };
        let rightful = decision.body.coordinator == part.coordinator
            && decision.body.manifest_hash == part.manifest_hash
            && (attempt == part.attempt || mynet_types::planted!(AttemptNotCompared))
            && (decision.verify(&step.shared.network).is_ok() || mynet_types::planted!(DecisionSignatureUnchecked));
        if !rightful {
            return;
        }
        match (&part.state, decision.body.commit) {
            (PartState::Prepared, true) => {
                let receipt = step.sign_receipt(part.manifest_hash, part.states);
                let record = Record::Commit { tx, attempt, receipt: receipt.clone() };
                part.state = PartState::Committing { receipt, decision };
                // Written before T4: a crash that leaves T4 alone would leave a lower version prepared that cannot be committed.
                let version = (part.group_id, part.version);
                self.give_up_lower(version, step);
                step.persist(vec![record], Pending::Committed(tx));
                if mynet_types::planted!(ReceiptBeforeCommit) {
                    self.committed(tx, step);
                }
            }
            (PartState::Held(receipt), true) => {
                part.state = PartState::Committing { receipt: receipt.clone(), decision };
                self.committed(tx, step);
            }
            (PartState::Committing { .. } | PartState::Aborting { .. }, _) => {}
            (PartState::Reserving(_) | PartState::Receiving | PartState::Securing, true) => {
                // Its coordinator decided without this copy being prepared: nothing to commit yet. The decision
                // comes again when this node says that it is prepared.
            }
            (_, false) => self.abort(tx, Parting::Aborted, Some(decision), step),
        }
    }

    /// A decision on a transaction that is over, or never was: the same answer as before.
    fn decided_already(&self, from: NodeId, decision: &SignedDecision, step: &mut Step<'_>) {
        let (tx, attempt) = (decision.body.tx, decision.body.attempt);
        if from != decision.body.coordinator {
            return;
        }
        let outcome = match self.outcomes.get(&tx).map(|outcome| &outcome.ending) {
            Some(Ending::Committed(receipt)) => DecisionOutcome::Committed(receipt.clone()),
            Some(Ending::Aborted) | None if decision.body.commit => DecisionOutcome::Gone,
            Some(Ending::Aborted) | None => DecisionOutcome::Aborted,
        };
        step.send(from, ReplicationMessage::DecisionAck { tx, attempt, outcome });
    }

    /// T4 is on disk: the group is visible, and the receipt may leave.
    pub(super) fn committed(&mut self, tx: TxId, step: &mut Step<'_>) {
        let Some(part) = self.open.remove(&tx) else { return };
        let PartState::Committing { receipt, decision } = part.state else { return };
        if part.unwanted {
            let outcome = DecisionOutcome::Gone;
            step.send(part.coordinator, ReplicationMessage::DecisionAck { tx, attempt: part.attempt, outcome });
            return;
        }
        let outcome = DecisionOutcome::Committed(receipt.clone());
        step.send(part.coordinator, ReplicationMessage::DecisionAck { tx, attempt: part.attempt, outcome });
        let outcome = Outcome::new(part.attempt, Ending::Committed(receipt), Some(decision), step.now.mono);
        self.remember(tx, outcome.of(part.group_id), step);
        if part.version > 1 {
            self.outcomes.replaced(&part.group_id, &part.manifest_hash);
            self.outcomes.shown(part.group_id, part.version);
        }
        step.event(Event::Committed { group_id: part.group_id });
        step.note(Note::about(part.group_id, Reason::CommittedHere).with(part.coordinator));
    }

    fn remember(&mut self, tx: TxId, outcome: Outcome, step: &mut Step<'_>) {
        if mynet_types::planted!(OutcomeForgotten) {
            return;
        }
        self.outcomes.insert(tx, outcome);
        if let Some(forgotten) = self.outcomes.overflow() {
            step.persist(vec![Record::Forget(forgotten)], Pending::Nothing);
        }
    }

    /// Gives a transaction up. Safe in every state before T4 is asked for.
    fn abort(&mut self, tx: TxId, parting: Parting, decision: Option<SignedDecision>, step: &mut Step<'_>) {
        let Some(part) = self.open.get_mut(&tx) else { return };
        let was_held = matches!(part.state, PartState::Held(_));
        let attempt = part.attempt;
        part.state = PartState::Aborting { decision };
        if was_held {
            // Nothing was written for it, so there is nothing to undo.
            return self.aborted(tx, parting, step);
        }
        step.out.push(Output::CancelStage { tx });
        step.persist(vec![Record::Abort { tx, attempt }], Pending::Aborted(tx, parting));
    }

    /// Gives up what is open of a deleted group. A commit that is being written is undone by the tombstone, which is written
    /// after it.
    pub(super) fn withdraw(&mut self, tombstone: &Tombstone, step: &mut Step<'_>) {
        let of_group = |part: &Part| part.group_id == tombstone.group_id && part.owner == tombstone.owner;
        self.give_up(of_group, RefuseReason::Superseded, step);
    }

    /// Gives up what is open of a rejected manifest, and what it said of it is over. A commit that is being written becomes visible,
    /// without a receipt, until this node hears of the certificate again: the store had nothing to keep it beside.
    pub(super) fn reject(&mut self, manifest: ManifestHash, step: &mut Step<'_>) {
        self.outcomes.reject(manifest);
        self.give_up(|part| part.manifest_hash == manifest, RefuseReason::Rejected, step);
    }

    /// Whether the validators rejected a manifest, as far as is remembered.
    pub(super) fn is_rejected(&self, manifest: &ManifestHash) -> bool {
        self.outcomes.is_rejected(manifest)
    }

    fn give_up(&mut self, which: impl Fn(&Part) -> bool, reason: RefuseReason, step: &mut Step<'_>) {
        let open: Vec<TxId> = self.open.iter().filter(|(_, part)| which(part)).map(|(tx, _)| *tx).collect();
        for tx in open {
            let Some(part) = self.open.get_mut(&tx) else { continue };
            match part.state {
                PartState::Committing { .. } => part.unwanted = true,
                PartState::Aborting { .. } => {}
                PartState::Reserving(_)
                | PartState::Receiving
                | PartState::Securing
                | PartState::Prepared
                | PartState::Held(_) => self.abort(tx, Parting::Refused(reason), None, step),
            }
        }
    }

    /// T5 is on disk.
    pub(super) fn aborted(&mut self, tx: TxId, parting: Parting, step: &mut Step<'_>) {
        let Some(part) = self.open.remove(&tx) else { return };
        let PartState::Aborting { decision } = &part.state else { return };
        let decision = decision.clone();
        step.send(part.coordinator, parting.message(tx, part.attempt));
        self.remember(tx, Outcome::new(part.attempt, Ending::Aborted, decision, step.now.mono), step);
        step.event(Event::Aborted { tx });
        step.note(part.note(match parting {
            Parting::Gone => Reason::LeaseEndedHere,
            Parting::Aborted => Reason::AbortHeard,
            Parting::Refused(reason) => Reason::declined(reason),
        }));
    }

    /// A lease may have ended.
    pub(super) fn lease_timer(&mut self, tx: TxId, generation: u32, step: &mut Step<'_>) {
        let Some(part) = self.open.get(&tx) else { return };
        let over = matches!(part.state, PartState::Committing { .. } | PartState::Aborting { .. });
        if part.generation == generation && !over && step.now.mono >= part.lease_until {
            self.abort(tx, Parting::Gone, None, step);
        }
    }

    /// Nothing came from the coordinator for a while. Before it is in doubt, this node says again that it is prepared. In
    /// doubt, the coordinator is asked, from the second time on the other targets too.
    pub(super) fn status_timer(&mut self, tx: TxId, step: &mut Step<'_>) {
        let node = step.shared.node;
        let Some(part) = self.open.get_mut(&tx) else { return };
        if !matches!(part.state, PartState::Prepared | PartState::Held(_)) || step.now.mono < part.ask_at {
            return;
        }
        if step.now.mono < part.doubt_at {
            part.repeated = part.repeated.saturating_add(1);
            part.answer(tx, step);
            return part.repeat_later(tx, step);
        }
        step.send(part.coordinator, ReplicationMessage::StatusQuery { tx });
        if part.asked > 0 {
            let others = part.targets.iter().filter(|target| **target != node && **target != part.coordinator);
            for target in others {
                step.send(*target, ReplicationMessage::StatusQuery { tx });
            }
        }
        part.asked += 1;
        part.ask_after(tx, step.shared.config.status_interval, step);
    }

    /// An answer to a question about a transaction. A decision counts by its signature; that the transaction is unknown
    /// counts only from its coordinator, and means that it was given up.
    pub(super) fn status(
        &mut self,
        from: NodeId,
        (tx, status): (TxId, TxStatus),
        decision: Option<SignedDecision>,
        step: &mut Step<'_>,
    ) {
        if let Some(decision) = decision {
            return self.decision(from, decision, step);
        }
        let Some(part) = self.open.get(&tx) else { return };
        let over = matches!(part.state, PartState::Committing { .. } | PartState::Aborting { .. });
        let disowned = matches!(status, TxStatus::Unknown | TxStatus::Aborted);
        if from == part.coordinator && disowned && !over {
            self.abort(tx, Parting::Aborted, None, step);
        }
    }

    /// What a transaction is here, and the decision about it if one is known.
    pub(super) fn query(&self, tx: &TxId) -> (TxStatus, Option<SignedDecision>) {
        if let Some(part) = self.open.get(tx) {
            return (part.status(), None);
        }
        match self.outcomes.get(tx) {
            Some(Outcome { ending: Ending::Committed(_), decision, .. }) => (TxStatus::Committed, decision.clone()),
            Some(Outcome { ending: Ending::Aborted, decision, .. }) => (TxStatus::Aborted, decision.clone()),
            None => (TxStatus::Unknown, None),
        }
    }

    /// Forgets what is older than a tombstone is kept.
    pub(super) fn sweep(&mut self, step: &mut Step<'_>) {
        let tombstone = step.shared.config.tombstone;
        let before = Mono(step.now.mono.0.saturating_sub(u64::try_from(tombstone.as_millis()).unwrap_or(u64::MAX)));
        let forgotten: Vec<Record> =
            std::iter::from_fn(|| self.outcomes.forget_oldest(before)).map(Record::Forget).collect();
        if !forgotten.is_empty() {
            step.persist(forgotten, Pending::Nothing);
        }
        // What is kept longer than promised is kept a quarter longer at most.
        step.set_timer(Timer::Sweep, tombstone / 4);
    }
}

/// Refuses a prepare of which nothing is written.
fn decline(from: NodeId, prepare: &Prepare, reason: RefuseReason, step: &mut Step<'_>) {
    let Prepare { tx, attempt, .. } = *prepare;
    step.send(from, Parting::Refused(reason).message(tx, attempt));
    let group_id = prepare.manifest.body.group_id;
    step.note(Note::about(group_id, Reason::declined(reason)).with(from).value(attempt));
}
