//! Change of the roster: who gets a seat, who loses one, and fresh keys for all.
//!
//! ```text
//!  proposer                         old seats                    newcomer
//!     |-- KeyRequest ------------------->|--------------------------->|   (one proposer at a time: a promise)
//!     |<------------- KeyOffer(agrees) --|<----- KeyOffer ------------|   (key durable before it is offered)
//!     |-- CloseRequest ----------------->|                            |   (see `closing`)
//!     |<---------------- CloseReport ----|                            |
//!     |-- RosterPropose -------------------------------------------->|
//!     |<------------------------------------------- RosterVote(new) --|   (consent first: nobody locks in vain)
//!     |-- RosterPropose ---------------->|                            |
//!     |<-------- RosterVote(old, new) ---|                            |   (lock durable before it is signed)
//!     |   link complete, durable                                      |
//!     |-- RosterLinks ------------------>|--------------------------->|
//! ```
//!
//! 1. (C1) A seat signs one next roster per epoch, over restarts: the lock. So there is one link per epoch.
//! 2. A node consents only to a seat with the key that it offered, and offers only what is on disk.
//! 3. An old seat signs only a change that it sees a reason for itself; the reasons are in [`plan`]. The proposer asks for that
//!    before it fixes the roster, so that nobody is locked on one that too few will sign.
//! 4. Whoever is locked says so, and the proposer takes that roster up: a proposer that crashes does not stop the change.
//! 5. What is behind a report may be with nobody any more: its seat lost its store, and those that had fetched it were started
//!    again. A close set that this node cannot make itself is taken from more seats than can be bad, if they all stand by it:
//!    the first honest one among them made it.
//! 6. An old seat that offered its key to one proposer answers no other for [`Config::roster_timeout`], except one with a
//!    lower seat. A proposer needs the offers of all seats that stay, so two rosters can be locked for one epoch only if
//!    messages are late by more than that.
//!
//! Who proposes: seat `(epoch + attempt) mod n`, and attempts go on every [`Config::roster_timeout`] while something is due.
//! Attempts are counted by every node for itself; rule 6, not the schedule, keeps rivals apart.
//!
//! Once the epoch is closed, heads wait for the next one. From three seats on that is a reason of its own for fresh keys, so a
//! change that comes to nothing after the close gives way to one that needs nobody else.
//!
//! **Deliberately absent:** leaving out a seat that is up and offers no key: what only the proposer sees is no reason for the
//! others. It stops changes, not votes, until it lies, goes away, or is removed by recovery.
//!
//! [`Config::roster_timeout`]: super::io::Config::roster_timeout

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use mynet_types::{
    AckedHead, BoundedVec, CloseReport, ConsensusMessage, Domain, GroupId, Mono, NodeId, Roster, RosterHash, RosterKey,
    RosterLink, Signature, Signed, SignedAdmission, SignedRosterKey, SignerSet, Timestamp, VALIDATORS_MAX, Validator,
    VoteKey, VoteSecret, head::set_root, roster, signing,
};

use self::plan::Change;
use super::{
    chain_sync::sync_rosters,
    closing::Closing,
    evidence::head,
    io::{Record, RosterLock, Timer},
    shared::{EpochKey, Shared},
    step::{Step, Then},
};

mod check;
mod plan;

/// The keys of a proposed roster, as the wire carries them.
type Offers = BoundedVec<SignedRosterKey, VALIDATORS_MAX>;
/// The seat and signature of one side of a roster vote.
type SeatSignature = Option<(u16, Signature)>;

/// An old seat answers one proposer at a time.
struct Promise {
    seat: usize,
    until: Mono,
}

/// The next roster that this node signed as an old seat.
struct Lock {
    body: RosterLock,
    durable: bool,
    waiting: BTreeSet<NodeId>,
}

/// What the scheduled proposer is doing.
struct Plan {
    change: Change,
    offers: BTreeMap<NodeId, SignedRosterKey>,
    /// Old seats that would sign such a roster.
    agreed: BTreeSet<NodeId>,
    /// Everybody has offered: the roster, still without its close set.
    draft: Option<RosterLock>,
    ballot: Option<RosterBallot>,
}

impl Plan {
    fn new(change: Change) -> Self {
        Self { change, offers: BTreeMap::new(), agreed: BTreeSet::new(), draft: None, ballot: None }
    }
}

/// A roster that is being voted on.
struct RosterBallot {
    body: RosterLock,
    /// Taken over from a locked seat: the newcomer has consented once, and may be away now.
    adopted: bool,
    old: BTreeMap<usize, Signature>,
    new: BTreeMap<usize, Signature>,
}

/// The part of the core that changes the roster.
pub(super) struct Growth {
    attempt: u64,
    since: Mono,
    promise: Option<Promise>,
    lock: Option<Lock>,
    /// Who waits for a key of this node, and for which change.
    offer_to: BTreeMap<NodeId, Change>,
    plan: Option<Plan>,
    /// How the epoch ends.
    pub(super) closing: Closing,
}

impl Growth {
    /// Goes on with the lock that was restored.
    pub(super) fn new(lock: Option<RosterLock>, closing: Closing) -> Self {
        let lock = lock.map(|body| Lock { body, durable: true, waiting: BTreeSet::new() });
        Self { attempt: 0, since: Mono(0), promise: None, lock, offer_to: BTreeMap::new(), plan: None, closing }
    }

    /// Another epoch began: everything here was about the one before.
    pub(super) fn roster_changed(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        let mut closing = std::mem::take(&mut self.closing);
        closing.enter(shared, step);
        self.start_over(closing, step.now.mono);
    }

    /// Forgets what was under way.
    pub(super) fn start_over(&mut self, closing: Closing, now: Mono) {
        *self = Self::new(None, closing);
        self.since = now;
    }

    /// Looks whether the roster should change, and does what the schedule says.
    pub(super) fn on_tick(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        step.timer(Timer::Roster, shared.config.roster_interval);
        tell_heads(shared, step);
        self.closing.fetch(shared, step);
        let roster = shared.roster();
        let seats = roster.validators.len();
        let Some(seat) = roster.seat_of(&shared.me) else { return };
        // What has not found enough seats to agree gives way to the next change that is due.
        let turn = usize::try_from(self.attempt).unwrap_or(usize::MAX) / seats;
        let wanted = plan::wanted(shared, step.now, turn);
        if wanted.is_none() && self.lock.is_none() {
            (self.attempt, self.since, self.plan) = (0, step.now.mono, None);
            return;
        }
        if step.now.mono.since(self.since) >= shared.config.roster_timeout {
            (self.attempt, self.since, self.plan) = (self.attempt + 1, step.now.mono, None);
        }
        let scheduled = (roster.epoch.wrapping_add(self.attempt)) % (seats as u64);
        if scheduled != seat as u64 {
            self.plan = None;
            return;
        }
        if self.plan.is_none() {
            self.plan = self.begin(shared.roster(), wanted);
        }
        // Whoever has not reported since the last tick is done without.
        if !self.fix(shared, step, false) {
            self.pursue(shared, step);
        }
    }

    /// A plan for the roster this node is locked on, once that is on disk, else for the change that is wanted.
    fn begin(&self, newest: &Roster, wanted: Option<Change>) -> Option<Plan> {
        let Some(lock) = &self.lock else { return wanted.map(Plan::new) };
        let change = Change::between(newest, &lock.body.roster).ok().filter(|_| lock.durable)?;
        Some(Plan { ballot: Some(adopt(lock.body.clone())), ..Plan::new(change) })
    }

    /// Makes the roster that is voted on, once enough seats have closed the epoch: `all` of them, or a quorum if those that
    /// are missing had their time. `false`: not yet, or done before.
    fn fix(&mut self, shared: &Shared, step: &mut Step<'_>, all: bool) -> bool {
        let Some(plan) = self.plan.as_mut().filter(|plan| plan.ballot.is_none()) else { return false };
        let Some(mut body) = plan.draft.clone() else { return false };
        let Some((reports, set)) = self.closing.ready(shared, &body.roster, all) else { return false };
        body.roster.close_set_root = set_root(set.values());
        body.roster.close_count = u32::try_from(set.len()).unwrap_or(u32::MAX);
        body.reports = reports;
        plan.ballot = Some(RosterBallot { adopted: false, ..adopt(body) });
        self.pursue(shared, step);
        true
    }

    /// A seat has closed the epoch.
    pub(super) fn on_close_report(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, report): (NodeId, CloseReport),
    ) {
        if self.plan.as_ref().is_some_and(|plan| plan.draft.is_some())
            && self.closing.take_report(shared, step, from, report)
        {
            self.fix(shared, step, true);
        }
    }

    /// A page of what is behind a report came.
    pub(super) fn on_acked(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        page: (NodeId, [u8; 32], Option<GroupId>),
        heads: &[AckedHead],
    ) {
        if self.closing.on_acked(shared, step, page, heads) {
            self.fix(shared, step, true);
        }
    }

    /// The epoch is to end: no head of it is signed any more.
    pub(super) fn on_close_request(
        &mut self,
        shared: &mut Shared,
        step: &mut Step<'_>,
        (from, draft): (NodeId, RosterLock),
        admissions: &[SignedAdmission],
    ) {
        let newest = shared.roster();
        if newest.epoch.checked_add(1) != Some(draft.roster.epoch) {
            return sync_rosters(shared, step, from, draft.roster.epoch.saturating_sub(1));
        }
        let Some(asker) = newest.seat_of(&from).filter(|_| newest.seat_of(&shared.me).is_some()) else { return };
        if self.lock.is_some() {
            return self.tell_lock(step, from);
        }
        let until = step.now.mono.after(shared.config.roster_timeout);
        if !self.promise_to(asker, step.now.mono, until) {
            return;
        }
        match check::next_roster(shared, &draft, admissions, step.now) {
            Ok(()) => self.closing.close(shared, step, (from, draft)),
            Err(defect) => tracing::debug!(%from, %defect, "epoch not closed"),
        }
    }

    /// Asks whoever has not answered yet; repeated with every tick, because messages get lost.
    fn pursue(&mut self, shared: &Shared, step: &mut Step<'_>) {
        let Some(plan) = &self.plan else { return };
        let newest = shared.roster();
        let newcomer = plan.change.newcomer;
        let admissions = BoundedVec::truncated(newcomer.and_then(|node| shared.admitted.get(&node)).cloned());
        if let Some(draft) = plan.draft.clone().filter(|_| plan.ballot.is_none()) {
            let request =
                ConsensusMessage::CloseRequest { roster: Box::new(draft.roster), keys: draft.keys, admissions };
            return self.closing.collect(shared, step, &request);
        }
        let Some(ballot) = &plan.ballot else {
            let message = ConsensusMessage::KeyRequest {
                epoch: newest.epoch + 1,
                prev: newest.hash(),
                leaving: BoundedVec::truncated(plan.change.leaving.iter().copied()),
                newcomer: plan.change.newcomer,
            };
            let done = |node: &NodeId| {
                plan.offers.contains_key(node) && (newest.seat_of(node).is_none() || plan.agreed.contains(node))
            };
            for node in plan.change.seats(newest).into_iter().filter(|node| !done(node)) {
                step.tell(node, message.clone());
            }
            return;
        };
        let next = &ballot.body.roster;
        let consented = |node: &NodeId| next.seat_of(node).is_some_and(|seat| ballot.new.contains_key(&seat));
        let agreed = |node: &NodeId| newest.seat_of(node).is_none_or(|seat| ballot.old.contains_key(&seat));
        let newcomer_first = !ballot.adopted && newcomer.is_some_and(|node| !consented(&node));
        let message = ConsensusMessage::RosterPropose {
            roster: Box::new(next.clone()),
            keys: ballot.body.keys.clone(),
            admissions,
            reports: ballot.body.reports.clone(),
        };
        for node in next.nodes() {
            if (Some(node) == newcomer || !newcomer_first) && !(consented(&node) && agreed(&node)) {
                step.tell(node, message.clone());
            }
        }
    }

    /// Somebody wants a key of this node for the next roster.
    pub(super) fn on_key_request(
        &mut self,
        shared: &mut Shared,
        step: &mut Step<'_>,
        (from, epoch, prev): (NodeId, u64, RosterHash),
        (leaving, newcomer): (&[NodeId], Option<NodeId>),
    ) {
        let newest = shared.roster();
        if newest.epoch.checked_add(1) != Some(epoch) {
            return sync_rosters(shared, step, from, epoch.saturating_sub(1));
        }
        let Some(asker) = newest.seat_of(&from).filter(|_| prev == newest.hash()) else { return };
        let leaving = leaving.iter().copied().filter(|node| newest.seat_of(node).is_some()).collect();
        let change = Change { leaving, newcomer: newcomer.filter(|node| newest.seat_of(node).is_none()) };
        if newest.seat_of(&shared.me).is_some() {
            if self.lock.is_some() && !mynet_types::planted!(SecondRosterSigned) {
                return self.tell_lock(step, from);
            }
            if shared.evidence.liars_of(newest.epoch).contains(&from) {
                // By asking again and again it would keep this node promised to it, and its own seat.
                return;
            }
            let until = step.now.mono.after(shared.config.roster_timeout);
            if !self.promise_to(asker, step.now.mono, until) {
                return;
            }
        }
        self.offer_to.insert(from, change);
        if shared.keys.contains_key(&epoch) {
            return self.offer(shared, step, epoch);
        }
        let key = SigningKey::from_bytes(&shared.random());
        step.persist(Record::Key { epoch, secret: VoteSecret(key.to_bytes()) });
        step.then(Then::Offer(epoch));
        shared.keys.insert(epoch, EpochKey::fresh(key));
    }

    /// Promises to answer only the proposer in `seat` for a while, unless another one was promised that before.
    fn promise_to(&mut self, seat: usize, now: Mono, until: Mono) -> bool {
        match &self.promise {
            Some(held) if held.until > now && held.seat < seat => false,
            Some(held) if held.until > now && held.seat == seat => true,
            _ => {
                self.promise = Some(Promise { seat, until });
                true
            }
        }
    }

    /// The key of the next epoch is on disk.
    pub(super) fn on_key_durable(&mut self, shared: &mut Shared, step: &mut Step<'_>, epoch: u64) {
        if let Some(key) = shared.keys.get_mut(&epoch) {
            key.durable = true;
            self.offer(shared, step, epoch);
        }
    }

    /// Offers the key of `epoch` to whoever waits for it, if it is durable.
    fn offer(&mut self, shared: &Shared, step: &mut Step<'_>, epoch: u64) {
        let Some(key) = shared.keys.get(&epoch).filter(|key| key.durable) else { return };
        let seat = Validator { vote_key: VoteKey(key.key.verifying_key().to_bytes()), node: shared.me };
        let body = RosterKey { epoch, prev: shared.roster().hash(), seat };
        let offer = Signed::new(&shared.network, body, &shared.node_key);
        for (to, change) in std::mem::take(&mut self.offer_to) {
            let agrees = match plan::check(shared, step.now, &change) {
                Ok(()) => shared.voting_key().is_some(),
                Err(objection) => {
                    tracing::debug!(%to, %objection, "this node would not sign such a roster");
                    false
                }
            };
            step.tell(to, ConsensusMessage::KeyOffer { offer, agrees });
        }
    }

    /// An offer came; when all are here, and enough old seats would sign, the roster is made.
    pub(super) fn on_key_offer(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, offer, agrees): (NodeId, SignedRosterKey, bool),
    ) {
        let unmade = |plan: &&mut Plan| plan.draft.is_none() && plan.ballot.is_none();
        let Some(plan) = self.plan.as_mut().filter(unmade) else { return };
        let newest = shared.roster();
        let seats = plan.change.seats(newest);
        if !seats.contains(&from) || offer.body.seat.node != from || !check::is_offer_for(shared, &offer, newest) {
            return;
        }
        plan.offers.insert(from, offer);
        if agrees && newest.seat_of(&from).is_some() {
            plan.agreed.insert(from);
        } else {
            plan.agreed.remove(&from);
        }
        if plan.offers.len() < seats.len() {
            return;
        }
        let admission = plan.change.newcomer.and_then(|node| shared.admitted.get(&node));
        let made_at = admission.map(|admission| admission.body.admitted_at);
        let made_at = if mynet_types::planted!(SecondRosterSigned) { Some(step.now.wall) } else { made_at };
        let body = next_roster(newest, &plan.offers, made_at.unwrap_or_default());
        if let Err(error) = roster::check_succession(newest, &body.roster) {
            tracing::warn!(%error, "offered keys do not make a roster");
            self.plan = None;
            return;
        }
        let (need_old, _) = roster::link_quorums(shared.chain.genesis(), newest, &body.roster);
        if plan.agreed.len() >= need_old {
            plan.draft = Some(body);
            self.pursue(shared, step);
        }
    }

    /// A next roster is proposed: sign it, or say what this node is locked on.
    pub(super) fn on_roster_propose(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, body): (NodeId, RosterLock),
        admissions: &[SignedAdmission],
    ) {
        let newest = shared.roster();
        if newest.epoch.checked_add(1) != Some(body.roster.epoch) {
            return sync_rosters(shared, step, from, body.roster.epoch.saturating_sub(1));
        }
        let Some(asker) = newest.seat_of(&from) else { return };
        if newest.seat_of(&shared.me).is_some()
            && let Some(lock) = &mut self.lock
            && !(mynet_types::planted!(SecondRosterSigned) && lock.body.roster != body.roster)
        {
            if lock.body.roster != body.roster {
                return self.tell_lock(step, from);
            }
            lock.waiting.insert(from);
            if lock.durable {
                self.sign_locked(shared, step);
            }
            return;
        }
        if let Err(defect) = check::next_roster(shared, &body, admissions, step.now) {
            tracing::debug!(%from, %defect, "next roster ignored");
            return;
        }
        if newest.seat_of(&shared.me).is_none() {
            return vote(shared, step, from, &body.roster);
        }
        let rival = self.promise.as_ref().is_some_and(|held| held.until > step.now.mono && held.seat != asker);
        if rival && !mynet_types::planted!(SecondRosterSigned) {
            return;
        }
        if let Err(defect) = self.closing.check(shared, step, (from, &body)) {
            tracing::debug!(%from, %defect, "next roster not signed");
            return;
        }
        // Whoever is locked stands by that roster and proposes no rival: a seat that forgot its promise in a restart would sign it.
        self.plan = self
            .plan
            .take()
            .filter(|plan| plan.ballot.as_ref().is_some_and(|ballot| ballot.body.roster == body.roster));
        if mynet_types::planted!(RosterLockUnwritten) {
            self.lock = Some(Lock { body, durable: true, waiting: BTreeSet::from([from]) });
            self.sign_locked(shared, step);
        } else {
            step.persist(Record::RosterLock(body.clone()));
            self.closing.write_next(shared, step);
            self.closing.write_lists(shared, step, &body);
            step.then(Then::Locked);
            self.lock = Some(Lock { body, durable: false, waiting: BTreeSet::from([from]) });
        }
    }

    /// The lock is on disk: the signatures leave.
    pub(super) fn on_lock_durable(&mut self, shared: &Shared, step: &mut Step<'_>) {
        if let Some(lock) = &mut self.lock {
            lock.durable = true;
            self.sign_locked(shared, step);
        }
    }

    /// Sends the signatures on the locked roster to whoever waits for them.
    fn sign_locked(&mut self, shared: &Shared, step: &mut Step<'_>) {
        let Some(lock) = &mut self.lock else { return };
        for to in std::mem::take(&mut lock.waiting) {
            vote(shared, step, to, &lock.body.roster);
        }
    }

    /// Says what this node is locked on, once that is durable.
    fn tell_lock(&self, step: &mut Step<'_>, to: NodeId) {
        if let Some(lock) = self.lock.as_ref().filter(|lock| lock.durable) {
            let RosterLock { roster, keys, reports } = lock.body.clone();
            step.tell(to, ConsensusMessage::RosterLocked { roster: Box::new(roster), keys, reports });
        }
    }

    /// A seat is locked on another roster: this node's plan becomes that one, unless it is locked itself.
    pub(super) fn on_roster_locked(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, body): (NodeId, RosterLock),
    ) {
        let newest = shared.roster();
        let Some(plan) = &self.plan else { return };
        if newest.seat_of(&from).is_none()
            || plan.ballot.as_ref().is_some_and(|ballot| ballot.body.roster == body.roster)
        {
            return;
        }
        if self.lock.as_ref().is_some_and(|lock| lock.body.roster != body.roster) {
            tracing::warn!(%from, epoch = body.roster.epoch, "two next rosters are locked, the roster cannot change");
            return;
        }
        if let Err(defect) = check::next_roster(shared, &body, &[], step.now) {
            tracing::debug!(%from, %defect, "locked roster ignored");
            return;
        }
        if let Err(defect) = self.closing.check(shared, step, (from, &body)) {
            tracing::debug!(%from, %defect, "locked roster not adopted");
            return;
        }
        if let Ok(change) = Change::between(newest, &body.roster) {
            self.plan = Some(Plan { ballot: Some(adopt(body)), ..Plan::new(change) });
            self.pursue(shared, step);
        }
    }

    /// Signatures on the roster being voted on. Answers with the link that they complete.
    pub(super) fn on_roster_vote(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, hash): (NodeId, RosterHash),
        (old, new): (SeatSignature, SeatSignature),
    ) -> Option<RosterLink> {
        let ballot = self.plan.as_mut()?.ballot.as_mut().filter(|ballot| ballot.body.roster.hash() == hash)?;
        let (newest, next) = (shared.roster(), &ballot.body.roster);
        let consent_before = ballot.new.len();
        let sides =
            [(old, newest, Domain::Roster, &mut ballot.old), (new, next, Domain::RosterAccept, &mut ballot.new)];
        for (signature, roster, domain, votes) in sides {
            let Some((seat, signature)) = signature else { continue };
            let seat = usize::from(seat);
            let Some(validator) = roster.validators.get(seat).filter(|validator| validator.node == from) else {
                continue;
            };
            if signing::verify_as(domain, &shared.network, next, &validator.vote_key.0, &signature).is_ok() {
                votes.insert(seat, signature);
            }
        }
        let (need_old, need_new) = roster::link_quorums(shared.chain.genesis(), newest, next);
        if ballot.old.len() >= need_old && ballot.new.len() >= need_new {
            let collect = |votes: &BTreeMap<usize, Signature>| SignerSet::collect(votes.clone());
            return Some(RosterLink::voted(next.clone(), collect(&ballot.old), collect(&ballot.new)));
        }
        if consent_before == 0 && !ballot.new.is_empty() {
            // The newcomer has consented; now the old seats are asked without waiting for the tick.
            self.pursue(shared, step);
        }
        None
    }
}

/// A ballot on a roster that somebody is locked on.
fn adopt(body: RosterLock) -> RosterBallot {
    RosterBallot { body, adopted: true, old: BTreeMap::new(), new: BTreeMap::new() }
}

/// Sends this node's signatures on `next`, as far as it may sign: as an old seat with the key of the newest epoch, as a
/// new seat with the key that it offered.
fn vote(shared: &Shared, step: &mut Step<'_>, to: NodeId, next: &Roster) {
    let sign = |domain, key| signing::sign_as(domain, &shared.network, next, key);
    let small = |seat: usize| u16::try_from(seat).ok();
    let old = shared.voting_key().and_then(|(seat, key)| Some((small(seat)?, sign(Domain::Roster, key))));
    let new =
        check::offered_seat(shared, next).and_then(|(seat, key)| Some((small(seat)?, sign(Domain::RosterAccept, key))));
    step.tell(to, ConsensusMessage::RosterVote { roster: next.hash(), epoch: next.epoch, old, new });
}

/// The roster of all who offered. Its time follows from what all proposers know, not from the clock of this one, so that
/// two proposers with the same newcomer make the same bytes.
fn next_roster(newest: &Roster, offers: &BTreeMap<NodeId, SignedRosterKey>, admitted_at: Timestamp) -> RosterLock {
    let mut offers: Vec<SignedRosterKey> = offers.values().cloned().collect();
    offers.sort_by_key(|offer| offer.body.seat);
    let roster = Roster {
        epoch: newest.epoch + 1,
        prev: newest.hash(),
        validators: BoundedVec::truncated(offers.iter().map(|offer| offer.body.seat)),
        valid_from: newest.valid_from.max(admitted_at),
        close_set_root: [0; 32],
        close_count: 0,
    };
    RosterLock { roster, keys: Offers::truncated(offers), reports: BoundedVec::new() }
}

/// Tells a peer what is known here, so that lost messages delay nobody for long. A seat without a key tells all other seats:
/// each of them must hear of it before it signs a roster for that reason.
fn tell_heads(shared: &mut Shared, step: &mut Step<'_>) {
    let peer = shared.any_peer();
    if shared.wants_key() {
        for node in shared.roster().nodes().filter(|node| *node != shared.me && Some(*node) != peer) {
            step.tell(node, head(shared));
        }
    }
    if let Some(peer) = peer {
        step.tell(peer, head(shared));
    }
}
