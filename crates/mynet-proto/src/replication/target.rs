//! One target as its coordinator sees it: a small state machine per (transaction, node).
//!
//! ```text
//!            PrepareOk              Prepared            decided             receipt
//! Asked ───────────────► Receiving ──────────► Prepared ───────► Committing ───────► Held
//!   ▲  └─────────────────────┴────────────────────┴──────┬───────────┘
//!   └──────── pause, attempt + 1 ──── Paused ◄───────────┤ Gone, PrepareNo
//!             restart or re-admission ─ Refused ◄────────┘ PrepareNo that time does not heal
//! ```
//!
//! **Invariant:** attempts only grow, and an answer to a lower attempt than the newest changes nothing.

use std::time::Duration;

use mynet_types::{Mono, StatesMask, wire::RefuseReason};

use super::{io::Config, lease};

/// Times a prepare is sent again after `prepare_timeout`, before it becomes an obligation with longer pauses.
const QUICK_TRIES: u32 = 3;
/// Refusals for want of space, one after the other, after which another node takes the target's place. One says little: space
/// is reserved and given back all the time; each more costs the group another pause below R copies.
const FULL_AFTER: u32 = 3;
/// Parts into which a group's bytes are cut to tell whether a target gets on; see [`Target::advances`]. Doubling them waits
/// for links half as fast, and twice as long for a target that only pretends.
const PARTS: u64 = 64;

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetState {
    /// A prepare is out.
    Asked,
    /// It has reserved, and pulls.
    Receiving,
    /// It has verified everything, and waits.
    Prepared,
    /// A commit is out.
    Committing,
    /// Its receipt is here.
    Held,
    /// It gave up or would not; asked again after a pause.
    Paused,
    /// It will not, for a reason that waiting does not change.
    Refused,
}

impl TargetState {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Receiving => "receiving",
            Self::Prepared => "prepared",
            Self::Committing => "committing",
            Self::Held => "held",
            Self::Paused => "paused",
            Self::Refused => "refused",
        }
    }
}

/// What a target's timer, or the return of its node, asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Send the prepare.
    Prepare,
    /// Send the commit.
    Commit,
    /// Nothing.
    Nothing,
}

/// One target.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// The states it was asked to hold.
    pub(super) states: StatesMask,
    /// The newest attempt.
    pub(super) attempt: u32,
    /// Where it stands.
    pub(super) state: TargetState,
    /// Verified bytes, as it reported.
    pub(super) bytes: u64,
    /// Whether it is this node, which needs no messages and whose lease never ends.
    local: bool,
    sent_at: Mono,
    tries: u32,
    failures: u32,
    /// Refusals for want of space since anything else came of it.
    no_space: u32,
    /// Parts of the group's bytes that it had at the last look.
    parts: u64,
    generation: u32,
    /// Why it would not, the last time, if nothing else came of it since; for people.
    pub(super) refusal: Option<RefuseReason>,
    /// When it is tried again, if nothing happens before; for people.
    pub(super) due: Option<Mono>,
}

impl Target {
    /// A target that nothing was sent to yet.
    pub(super) fn new(states: StatesMask, attempt: u32, state: TargetState) -> Self {
        Self {
            states,
            attempt,
            state,
            bytes: 0,
            local: false,
            sent_at: Mono(0),
            tries: 0,
            failures: 0,
            no_space: 0,
            parts: 0,
            generation: 0,
            refusal: None,
            due: None,
        }
    }

    /// This node itself: complete already, so prepared.
    pub(super) fn local(states: StatesMask) -> Self {
        Self { local: true, ..Self::new(states, 1, TargetState::Prepared) }
    }

    /// Whether it is this node.
    pub(super) fn is_local(&self) -> bool {
        self.local
    }

    /// Whether its lease as a prepared participant is counted on at `now`.
    pub(super) fn is_prepared(&self, now: Mono, config: &Config) -> bool {
        self.state == TargetState::Prepared && (self.local || now < self.counted_until(config))
    }

    /// Whether something is still to come from it.
    pub(super) fn is_outstanding(&self) -> bool {
        !matches!(self.state, TargetState::Held | TargetState::Refused)
    }

    /// Whether another node is to take its place, because it had no space again and again. It is still asked, ever more
    /// rarely, so that a network that is full everywhere goes on when there is space anywhere.
    pub(super) fn is_full(&self) -> bool {
        self.state != TargetState::Held && self.no_space >= FULL_AFTER
    }

    /// Whether it came another [`PARTS`]th of `total` bytes further since the last look. Only more bytes than it ever
    /// reported count, so a target can say so [`PARTS`] times at most, whatever it reports.
    pub(super) fn advances(&mut self, total: u64) -> bool {
        let parts = self.bytes.min(total) / (total / PARTS).max(1);
        let advances = parts > self.parts;
        self.parts = self.parts.max(parts);
        advances
    }

    /// Until when a prepared target is counted on.
    fn counted_until(&self, config: &Config) -> Mono {
        lease::counted_until(self.sent_at, config.prepared_lease)
    }

    /// A prepare or a lease renewal leaves now.
    pub(super) fn sent(&mut self, now: Mono) {
        self.sent_at = now;
    }

    /// Makes older timers stale; gives the generation of the next one, and when it shall run out.
    pub(super) fn arm(&mut self, now: Mono, config: &Config) -> Option<(u32, Duration)> {
        self.due = None;
        let pause = match self.state {
            TargetState::Asked if self.tries < QUICK_TRIES => {
                lease::backoff(config.prepare_timeout, self.tries, Duration::MAX)
            }
            TargetState::Asked | TargetState::Committing => lease::backoff(config.retry, self.tries, config.retry_max),
            // A report and a half: one that is late is no reason yet, and a refusal that was lost is asked for soon. At most
            // half of the lease, so that the prepare that renews it may be lost once.
            TargetState::Receiving => (config.progress_interval * 3 / 2).min(config.receiving_lease / 2),
            TargetState::Prepared if !self.local => {
                // At least one pause, so that a lease that is over already cannot make a loop without one.
                self.counted_until(config).since(now).max(config.retry)
            }
            TargetState::Paused => lease::backoff(config.retry, self.failures.saturating_sub(1), config.retry_max),
            TargetState::Prepared | TargetState::Held | TargetState::Refused => return None,
        };
        self.due = Some(now.after(pause));
        self.generation = self.generation.wrapping_add(1);
        Some((self.generation, pause))
    }

    /// Its timer ran out: what to do, unless the timer is stale.
    pub(super) fn expire(&mut self, generation: u32) -> Errand {
        if generation != self.generation {
            return Errand::Nothing;
        }
        self.tries = self.tries.saturating_add(1);
        self.resume()
    }

    /// Its node can be reached again: whatever is outstanding is tried at once.
    pub(super) fn reached(&mut self) -> Errand {
        self.tries = 0;
        match self.state {
            // What a receiving target said last may have gone with the connection.
            TargetState::Asked | TargetState::Receiving | TargetState::Paused | TargetState::Committing => {
                self.resume()
            }
            TargetState::Prepared | TargetState::Held | TargetState::Refused => Errand::Nothing,
        }
    }

    /// Its node was admitted again: a refusal is forgotten.
    pub(super) fn readmitted(&mut self) -> Errand {
        self.no_space = 0;
        if self.state == TargetState::Refused { self.ask_again() } else { Errand::Nothing }
    }

    /// It is to hold other states than it was asked for: asked again, unless it is past that or will be asked anyway.
    pub(super) fn regrant(&mut self, states: StatesMask) -> Errand {
        let asked = matches!(self.state, TargetState::Asked | TargetState::Receiving | TargetState::Prepared);
        if self.local || !asked || states == self.states {
            return Errand::Nothing;
        }
        self.next_attempt();
        self.ask_again()
    }

    /// Its receipt ended: it is asked like a new target.
    pub(super) fn receipt_ended(&mut self) -> Errand {
        if self.state == TargetState::Held && !self.local {
            self.next_attempt();
            self.ask_again()
        } else {
            Errand::Nothing
        }
    }

    fn resume(&mut self) -> Errand {
        match self.state {
            TargetState::Asked | TargetState::Paused | TargetState::Receiving | TargetState::Prepared => {
                self.ask_again()
            }
            TargetState::Committing => Errand::Commit,
            TargetState::Held | TargetState::Refused => Errand::Nothing,
        }
    }

    fn ask_again(&mut self) -> Errand {
        self.state = TargetState::Asked;
        Errand::Prepare
    }

    fn next_attempt(&mut self) {
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Whether an answer is news: of this attempt, or of a later one that this coordinator forgot in a restart.
    fn hears(&mut self, attempt: u32) -> bool {
        if self.local || attempt < self.attempt || self.state == TargetState::Held {
            return false;
        }
        self.attempt = attempt;
        self.tries = 0;
        true
    }

    /// It reserved, or reports bytes. Says whether that changes what is known.
    pub(super) fn receives(&mut self, attempt: u32, bytes: u64) -> bool {
        let moves = matches!(self.state, TargetState::Asked | TargetState::Receiving) && self.hears(attempt);
        if moves {
            self.state = TargetState::Receiving;
            self.bytes = self.bytes.max(bytes);
        }
        moves
    }

    /// It verified everything. Says whether that changes what is known, or asks for the decision again.
    pub(super) fn prepares(&mut self, attempt: u32) -> bool {
        let moves = self.state != TargetState::Refused && self.hears(attempt);
        if moves {
            self.state = TargetState::Prepared;
            (self.failures, self.no_space, self.refusal) = (0, 0, None);
        }
        moves
    }

    /// It gave up: its lease ended, or it refused. Says whether that changes what is known.
    pub(super) fn fails(&mut self, attempt: u32, reason: Option<RefuseReason>) -> bool {
        let moves = !matches!(self.state, TargetState::Paused | TargetState::Refused) && self.hears(attempt);
        if moves {
            self.next_attempt();
            self.failures = self.failures.saturating_add(1);
            self.refusal = reason;
            self.no_space = if reason == Some(RefuseReason::NoSpace) { self.no_space.saturating_add(1) } else { 0 };
            self.state = if reason.is_some_and(is_final) { TargetState::Refused } else { TargetState::Paused };
        }
        moves
    }
}

/// Whether waiting cannot change a refusal.
fn is_final(reason: RefuseReason) -> bool {
    match reason {
        RefuseReason::StateNotAllowed
        | RefuseReason::ManifestInvalid
        | RefuseReason::Superseded
        | RefuseReason::WrapInvalid
        | RefuseReason::Rejected
        | RefuseReason::HeadInvalid => true,
        RefuseReason::NoSpace
        | RefuseReason::IdConflict
        | RefuseReason::Unavailable
        | RefuseReason::HashMismatch
        | RefuseReason::Busy
        | RefuseReason::Storage
        | RefuseReason::EpochUnknown => false,
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{StatesMask, wire::RefuseReason};

    use super::{FULL_AFTER, PARTS, Target, TargetState};

    fn target() -> Target {
        Target::new(StatesMask::EMPTY, 1, TargetState::Asked)
    }

    /// The target reserves, and says that it cannot stage.
    fn refuse(target: &mut Target, reason: RefuseReason) {
        target.receives(target.attempt, 0);
        target.fails(target.attempt, Some(reason));
        target.ask_again();
    }

    #[test]
    fn only_refusals_in_a_row_for_want_of_space_make_a_target_full() {
        let mut target = target();
        for _ in 1..FULL_AFTER {
            refuse(&mut target, RefuseReason::NoSpace);
        }
        assert!(!target.is_full());
        refuse(&mut target, RefuseReason::Unavailable);
        refuse(&mut target, RefuseReason::NoSpace);
        assert!(!target.is_full(), "another reason came between");
        for _ in 1..FULL_AFTER {
            refuse(&mut target, RefuseReason::NoSpace);
        }
        assert!(target.is_full(), "a reservation says nothing: space is judged after it");
        target.prepares(target.attempt);
        assert!(!target.is_full(), "it found space");
    }

    #[test]
    fn a_target_advances_by_a_part_of_all_bytes_and_as_often_as_there_are_parts() {
        let mut target = target();
        target.receives(1, 15);
        assert!(!target.advances(16 * PARTS), "not a whole part");
        target.receives(1, 16);
        assert!(target.advances(16 * PARTS));
        assert!(!target.advances(16 * PARTS), "nothing came since");
        let pretended = (0..10_000).filter(|bytes| {
            target.receives(1, bytes * 7);
            target.advances(16 * PARTS)
        });
        assert!(u64::try_from(pretended.count()).unwrap() < PARTS);
        target.receives(1, u64::MAX);
        assert!(!target.advances(0), "a group without bytes");
    }
}
