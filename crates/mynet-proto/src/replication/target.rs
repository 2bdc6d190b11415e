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

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TargetState {
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
    generation: u32,
}

impl Target {
    /// A target that nothing was sent to yet.
    pub(super) fn new(states: StatesMask, attempt: u32, state: TargetState) -> Self {
        Self { states, attempt, state, bytes: 0, local: false, sent_at: Mono(0), tries: 0, failures: 0, generation: 0 }
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
        let pause = match self.state {
            TargetState::Asked if self.tries < QUICK_TRIES => {
                lease::backoff(config.prepare_timeout, self.tries, Duration::MAX)
            }
            TargetState::Asked | TargetState::Committing => lease::backoff(config.retry, self.tries, config.retry_max),
            TargetState::Receiving => config.receiving_lease,
            TargetState::Prepared if !self.local => {
                // At least one pause, so that a lease that is over already cannot make a loop without one.
                self.counted_until(config).since(now).max(config.retry)
            }
            TargetState::Paused => lease::backoff(config.retry, self.failures.saturating_sub(1), config.retry_max),
            TargetState::Prepared | TargetState::Held | TargetState::Refused => return None,
        };
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
            TargetState::Asked | TargetState::Paused | TargetState::Committing => self.resume(),
            TargetState::Receiving | TargetState::Prepared | TargetState::Held | TargetState::Refused => {
                Errand::Nothing
            }
        }
    }

    /// Its node was admitted again: a refusal is forgotten.
    pub(super) fn readmitted(&mut self) -> Errand {
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
    pub(super) fn prepares(&mut self, attempt: u32, states: StatesMask) -> bool {
        let moves = states.covers(self.states) && self.state != TargetState::Refused && self.hears(attempt);
        if moves {
            self.state = TargetState::Prepared;
            self.failures = 0;
        }
        moves
    }

    /// It gave up: its lease ended, or it refused. Says whether that changes what is known.
    pub(super) fn fails(&mut self, attempt: u32, reason: Option<RefuseReason>) -> bool {
        let moves = !matches!(self.state, TargetState::Paused | TargetState::Refused) && self.hears(attempt);
        if moves {
            self.next_attempt();
            self.failures = self.failures.saturating_add(1);
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
        | RefuseReason::WrapInvalid => true,
        RefuseReason::NoSpace
        | RefuseReason::IdConflict
        | RefuseReason::Unavailable
        | RefuseReason::HashMismatch
        | RefuseReason::Busy
        | RefuseReason::Storage => false,
    }
}
