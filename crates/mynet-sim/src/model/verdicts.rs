//! Accept and reject votes on one value: four validators, one of them bad, who signs both. Honest ones sign one verdict, over
//! restarts, but not all the same one: policies differ. The thresholds are those of the real [`Quorum`].

use mynet_types::{Quorum, Verdict as Vote};

use super::{Expected, Model, Verdict};

/// Honest validators; the fourth is bad.
const HONEST: usize = 3;

/// The rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// None.
    Sound,
    /// Votes are forgotten in a restart.
    NoPersistence,
    /// A reject certificate needs n-q+1 votes.
    SmallRejectQuorum,
}

/// What honest validators signed last, and which certificates could be made so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct State {
    votes: [Option<bool>; HONEST],
    accepted: bool,
    rejected: bool,
}

struct Verdicts {
    rule: Rule,
    quorum: Quorum,
}

impl Verdicts {
    fn new(rule: Rule) -> Self {
        Self { rule, quorum: Quorum::of(HONEST + 1, 3, false).expect("four validators certify") }
    }

    fn needed(&self, accept: bool) -> usize {
        match (accept, self.rule) {
            (false, Rule::SmallRejectQuorum) => self.quorum.validators() - self.quorum.accept() + 1,
            (false, _) => Vote::Reject.votes_needed(self.quorum),
            (true, _) => Vote::Accept.votes_needed(self.quorum),
        }
    }
}

impl Model for Verdicts {
    type State = State;

    fn first(&self) -> State {
        State::default()
    }

    fn next(&self, state: &State, push: &mut dyn FnMut(State)) {
        let mut votes = |seat: usize, vote: Option<bool>| {
            let mut next = *state;
            next.votes[seat] = vote;
            let signed = |accept| 1 + next.votes.iter().filter(|vote| **vote == Some(accept)).count();
            next.accepted |= signed(true) >= self.needed(true);
            next.rejected |= signed(false) >= self.needed(false);
            push(next);
        };
        for seat in 0..HONEST {
            match state.votes[seat] {
                None => [true, false].into_iter().for_each(|accept| votes(seat, Some(accept))),
                Some(_) if self.rule == Rule::NoPersistence => votes(seat, None),
                Some(_) => {}
            }
        }
    }

    fn is_broken(&self, state: &State) -> Option<&'static str> {
        (state.accepted && state.rejected).then_some("one value is accepted and rejected")
    }
}

/// All variants.
pub(super) fn all() -> Vec<Verdict> {
    let variants = [
        (Rule::Sound, Expected::Sound),
        (Rule::NoPersistence, Expected::Broken),
        (Rule::SmallRejectQuorum, Expected::Broken),
    ];
    variants.map(|(rule, expected)| Verdict::of("verdicts", rule, expected, &Verdicts::new(rule))).into()
}
