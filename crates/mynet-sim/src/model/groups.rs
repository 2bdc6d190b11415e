//! One transaction: a coordinator, three targets, W = 2.
//!
//! Whatever was sent may arrive at any time, any number of times, or never. The coordinator may die at every step; a target's lease may
//! end at any moment, so nothing here rests on clocks. Attempts at a target have no end in the protocol: the second one stands for all
//! that follow.
//!
//! Restated: the coordinator is `replication::group` (its stages and the rule that there is no way back from a logged commit), a
//! target is `replication::participant` (its states, tombstones and the comparison of attempts). A restart drops what is not on disk.

use super::{Expected, Model, Verdict};

/// Targets.
const TARGETS: usize = 3;
/// Receipts that success needs.
const W: usize = 2;

/// The rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// None.
    Sound,
    /// The commit is sent before it is logged.
    CommitBeforeLog,
    /// Success is reported when the commit is decided.
    SuccessAtDecision,
    /// What is committed may be aborted while success is not reported.
    AbortAfterCommit,
    /// A coordinator that finds no log takes the transaction for committed.
    PresumedCommit,
    /// A receipt leaves before the target's commit is on disk.
    ReceiptBeforeCommit,
    /// A target is tried twice and no more.
    TwoAttempts,
}

/// Where the coordinator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Stage {
    Preparing,
    /// Decided in memory only.
    Decided,
    /// C2 is on disk.
    Logged,
    /// Given up; presumed where nothing is on disk.
    Aborted,
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Part {
    None,
    Receiving,
    Prepared,
    /// T4 is being written.
    Committing,
    Committed,
    Aborted,
}

/// One target, and all that was ever sent to it and by it. Sets of attempts: 1 for the first, 2 for every later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Target {
    part: Part,
    attempt: u8,
    prepare: u8,
    prepared: u8,
    commit: u8,
    abort: bool,
    receipt: bool,
    /// The coordinator knows that it is prepared.
    counted: bool,
    /// The coordinator has its receipt on disk.
    held: bool,
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    stage: Stage,
    up: bool,
    success: bool,
    targets: [Target; TARGETS],
}

struct Groups {
    rule: Rule,
}

impl State {
    fn count(&self, which: impl Fn(&Target) -> bool) -> usize {
        self.targets.iter().filter(|target| which(target)).count()
    }

    fn visible(&self) -> usize {
        self.count(|target| target.part == Part::Committed)
    }
}

impl Groups {
    /// Steps of the coordinator as a whole.
    fn coordinate(&self, state: &State, push: &mut dyn FnMut(State)) {
        let mut moves = |stage: Stage, success: bool| push(State { stage, success, ..*state });
        match state.stage {
            Stage::Preparing => {
                if state.count(|target| target.counted) >= W {
                    moves(Stage::Decided, self.rule == Rule::SuccessAtDecision);
                }
                moves(Stage::Aborted, false);
            }
            Stage::Decided => moves(Stage::Logged, state.success),
            Stage::Logged => {
                if state.count(|target| target.held) >= W {
                    moves(Stage::Logged, true);
                }
                if self.rule == Rule::AbortAfterCommit && !state.success {
                    moves(Stage::Aborted, false);
                }
            }
            Stage::Aborted => {}
        }
        push(State { up: false, ..*state });
    }

    /// The coordinator starts again from its disk.
    fn restart(&self, state: &State, push: &mut dyn FnMut(State)) {
        let mut next = State { up: true, ..*state };
        next.targets.iter_mut().for_each(|target| target.counted = false);
        if state.stage != Stage::Logged {
            next.stage = if self.rule == Rule::PresumedCommit { Stage::Decided } else { Stage::Aborted };
        }
        push(next);
    }

    /// Whether the coordinator may tell a commit.
    fn tells_commit(&self, stage: Stage) -> bool {
        stage == Stage::Logged
            || (stage == Stage::Decided && matches!(self.rule, Rule::CommitBeforeLog | Rule::PresumedCommit))
    }

    /// What the coordinator does about one target.
    fn serve(&self, stage: Stage, target: Target, moves: &mut dyn FnMut(Target)) {
        match stage {
            Stage::Preparing => {
                moves(Target { prepare: target.prepare | 1, ..target });
                if target.prepared & 1 != 0 {
                    moves(Target { counted: true, ..target });
                }
            }
            Stage::Decided | Stage::Logged => {
                if self.tells_commit(stage) {
                    moves(Target { commit: target.commit | target.prepared, ..target });
                }
                if stage == Stage::Logged {
                    moves(Target { prepare: target.prepare | 2, ..target });
                    if target.receipt {
                        moves(Target { held: true, ..target });
                    }
                }
            }
            Stage::Aborted => moves(Target { abort: true, ..target }),
        }
    }

    /// What one target does.
    fn take_part(&self, target: Target, moves: &mut dyn FnMut(Target)) {
        for attempt in [1, 2] {
            // A later attempt may come again and again, each with a higher number.
            let again = attempt == 2 && self.rule != Rule::TwoAttempts && target.part == Part::Aborted;
            let fresh = matches!(target.part, Part::None | Part::Aborted) && (attempt > target.attempt || again);
            if target.prepare & attempt != 0 && fresh {
                moves(Target { part: Part::Receiving, attempt, ..target });
            }
        }
        match target.part {
            Part::Receiving => {
                moves(Target { part: Part::Prepared, prepared: target.prepared | target.attempt, ..target });
            }
            Part::Prepared if target.commit & target.attempt != 0 => {
                let receipt = target.receipt || self.rule == Rule::ReceiptBeforeCommit;
                moves(Target { part: Part::Committing, receipt, ..target });
            }
            Part::Committing => {
                moves(Target { part: Part::Committed, receipt: true, ..target });
                // It dies, and T4 is not on disk: prepared as before.
                moves(Target { part: Part::Prepared, ..target });
            }
            Part::Prepared | Part::Committed | Part::Aborted | Part::None => {}
        }
        // The lease ends, or the coordinator says so.
        if matches!(target.part, Part::Receiving | Part::Prepared) {
            moves(Target { part: Part::Aborted, ..target });
        }
    }
}

impl Model for Groups {
    type State = State;

    fn first(&self) -> State {
        let target = Target {
            part: Part::None,
            attempt: 0,
            prepare: 0,
            prepared: 0,
            commit: 0,
            abort: false,
            receipt: false,
            counted: false,
            held: false,
        };
        State { stage: Stage::Preparing, up: true, success: false, targets: [target; TARGETS] }
    }

    fn next(&self, state: &State, push: &mut dyn FnMut(State)) {
        // Targets are alike, so their order means nothing.
        let mut push = |mut next: State| {
            next.targets.sort_unstable();
            if next != *state {
                push(next);
            }
        };
        if state.up {
            self.coordinate(state, &mut push);
        } else {
            self.restart(state, &mut push);
        }
        for (index, target) in state.targets.iter().enumerate() {
            let mut moves = |target: Target| {
                let mut next = *state;
                next.targets[index] = target;
                push(next);
            };
            if state.up {
                self.serve(state.stage, *target, &mut moves);
            }
            self.take_part(*target, &mut moves);
        }
    }

    fn is_broken(&self, state: &State) -> Option<&'static str> {
        let visible = state.visible();
        if visible > 0 && state.stage == Stage::Aborted {
            Some("visible although aborted")
        } else if visible > 0 && state.stage != Stage::Logged {
            Some("visible without a logged commit")
        } else if state.success && visible < W {
            Some("success with fewer than W copies")
        } else {
            None
        }
    }

    fn is_clean(&self, state: &State) -> Option<bool> {
        let open = |target: &Target| matches!(target.part, Part::Receiving | Part::Prepared | Part::Committing);
        let over = state.success || (state.up && state.stage == Stage::Aborted);
        Some(over && state.count(open) == 0)
    }
}

/// All variants.
pub(super) fn all() -> Vec<Verdict> {
    let variants = [
        (Rule::Sound, Expected::Sound),
        (Rule::CommitBeforeLog, Expected::Broken),
        (Rule::SuccessAtDecision, Expected::Broken),
        (Rule::AbortAfterCommit, Expected::Broken),
        (Rule::PresumedCommit, Expected::Broken),
        (Rule::ReceiptBeforeCommit, Expected::Broken),
        (Rule::TwoAttempts, Expected::Stuck),
    ];
    variants.map(|(rule, expected)| Verdict::of("groups", rule, expected, &Groups { rule })).into()
}
