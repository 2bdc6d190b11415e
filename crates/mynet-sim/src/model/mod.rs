//! Exhaustive small models: every order of every step that a protocol of this size can take.
//!
//! The simulator runs the real cores through a few thousand histories of many nodes; a model runs a few rules through *all*
//! histories of few nodes. Each has variants in which one rule is broken, and those must be found: a model that finds nothing wrong
//! with a wrong protocol says nothing about a right one.
//!
//! | model | what it stands for |
//! |---|---|
//! | `verdicts` | the quorums of [`mynet_types::Quorum`], which it asks, under votes of `consensus::validator` |
//! | `heads` | the two rounds of heads with the change of epochs, restated from the protocol document |
//! | `groups` | `replication::{coordinator, group, participant}` for one transaction, restated |
//!
//! Source: breadth-first search over hashed states as in Holzmann, "The SPIN Model Checker" (2003).

mod groups;
mod heads;
mod verdicts;

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

/// States of one model at most: an order of magnitude above the largest, so that a mistake in a model ends.
const STATES_MAX: usize = 20_000_000;

/// A protocol of one size, with one rule broken or none.
trait Model {
    /// Everything that the next step depends on.
    type State: Copy + Eq + Hash + fmt::Debug;

    /// Where it begins.
    fn first(&self) -> Self::State;

    /// Every state that one step leads to.
    fn next(&self, state: &Self::State, push: &mut dyn FnMut(Self::State));

    /// What must never be.
    fn is_broken(&self, state: &Self::State) -> Option<&'static str>;

    /// Whether the protocol is over and has left nothing; from every state there must be a way to one that is. `None` where that is not
    /// asked of the model.
    fn is_clean(&self, _state: &Self::State) -> Option<bool> {
        None
    }
}

/// What a variant is expected to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// No broken state, and a clean end in reach of every state.
    Sound,
    /// Some state is broken.
    Broken,
    /// Some state has no clean end in reach.
    Stuck,
}

/// What an exploration came to.
#[derive(Debug)]
struct Explored {
    states: usize,
    broken: Option<Broken>,
    stuck: usize,
    took: Duration,
}

/// A state that must never be, and how it came about.
#[derive(Debug)]
struct Broken {
    rule: &'static str,
    /// The states on the shortest way there.
    history: Vec<String>,
}

/// The graph of all states seen.
struct Graph<S> {
    index: HashMap<S, usize>,
    states: Vec<S>,
    /// The state from which each was reached first.
    reached_from: Vec<usize>,
    /// States from which each can be reached in one step.
    before: Vec<Vec<u32>>,
}

impl<S: Copy + Eq + Hash + fmt::Debug> Graph<S> {
    fn new() -> Self {
        Self { index: HashMap::new(), states: Vec::new(), reached_from: Vec::new(), before: Vec::new() }
    }

    /// Enters a state; says where it is, and whether it is new.
    fn enter(&mut self, state: S, from: usize) -> (usize, bool) {
        let at = self.states.len();
        let known = *self.index.entry(state).or_insert(at);
        if known == at {
            self.states.push(state);
            self.reached_from.push(from);
            self.before.push(Vec::new());
        }
        (known, known == at)
    }

    /// The states on the shortest way to `at`.
    fn history(&self, mut at: usize) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            lines.push(format!("{:?}", self.states[at]));
            if at == 0 {
                break;
            }
            at = self.reached_from[at];
        }
        lines.reverse();
        lines
    }

    /// States from which none of `clean` can be reached.
    fn stuck(&self, clean: &[bool]) -> usize {
        let mut reaches = clean.to_vec();
        let mut queue: VecDeque<usize> = (0..clean.len()).filter(|at| clean[*at]).collect();
        while let Some(at) = queue.pop_front() {
            for before in &self.before[at] {
                let before = *before as usize;
                if !std::mem::replace(&mut reaches[before], true) {
                    queue.push_back(before);
                }
            }
        }
        reaches.iter().filter(|reaches| !**reaches).count()
    }
}

/// Visits every state, breadth first, until one is broken.
fn explore<M: Model>(model: &M) -> Explored {
    let started = Instant::now();
    let mut graph = Graph::new();
    let (mut at, mut broken) = (0, None);
    graph.enter(model.first(), 0);
    while at < graph.states.len() && broken.is_none() {
        assert!(graph.states.len() < STATES_MAX, "the model has no end");
        let state = graph.states[at];
        if let Some(rule) = model.is_broken(&state) {
            broken = Some(Broken { rule, history: graph.history(at) });
            break;
        }
        model.next(&state, &mut |next| {
            let (to, _) = graph.enter(next, at);
            graph.before[to].push(u32::try_from(at).expect("states are below the maximum"));
        });
        at += 1;
    }
    let clean: Option<Vec<bool>> = graph.states.iter().map(|state| model.is_clean(state)).collect();
    let stuck = clean.filter(|_| broken.is_none()).map_or(0, |clean| graph.stuck(&clean));
    Explored { states: graph.states.len(), broken, stuck, took: started.elapsed() }
}

/// What became of one variant of a model.
#[derive(Debug)]
pub struct Verdict {
    model: &'static str,
    variant: String,
    expected: Expected,
    explored: Explored,
}

impl Verdict {
    fn of<M: Model>(model: &'static str, variant: impl fmt::Debug, expected: Expected, instance: &M) -> Self {
        Self { model, variant: format!("{variant:?}"), expected, explored: explore(instance) }
    }

    /// Whether the variant is what it is expected to be.
    #[must_use]
    pub fn is_expected(&self) -> bool {
        let Explored { broken, stuck, .. } = &self.explored;
        let found = match (broken, stuck) {
            (Some(_), _) => Expected::Broken,
            (None, 0) => Expected::Sound,
            (None, _) => Expected::Stuck,
        };
        found == self.expected
    }
}

/// One line; the history too, where something is broken that should not be.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model, variant, expected, explored: Explored { states, broken, stuck, took } } = self;
        write!(f, "{model:<9} {variant:<22} {states:>8} states {:>6.2} s  ", took.as_secs_f64())?;
        match (broken, stuck) {
            (Some(broken), _) => write!(f, "{} after {} steps", broken.rule, broken.history.len() - 1)?,
            (None, 0) => f.write_str("holds in every state")?,
            (None, stuck) => write!(f, "{stuck} states without a clean end")?,
        }
        if !self.is_expected() {
            write!(f, ", EXPECTED {expected:?}")?;
            broken.iter().flat_map(|broken| &broken.history).try_for_each(|line| write!(f, "\n    {line}"))?;
        }
        Ok(())
    }
}

/// Votes of four validators, one of them bad.
#[must_use]
pub fn votes() -> Vec<Verdict> {
    verdicts::all().into_iter().chain(heads::all()).collect()
}

/// One transaction with three targets, two of which suffice.
#[must_use]
pub fn groups() -> Vec<Verdict> {
    groups::all()
}

#[cfg(test)]
mod tests {
    use super::{Model, explore};

    /// Counts up to a bound, by one or by two.
    struct Counter {
        forbidden: u8,
        end: u8,
    }

    impl Model for Counter {
        type State = u8;

        fn first(&self) -> u8 {
            0
        }

        fn next(&self, state: &u8, push: &mut dyn FnMut(u8)) {
            [1, 2].into_iter().map(|step| state + step).filter(|next| *next <= 10).for_each(push);
        }

        fn is_broken(&self, state: &u8) -> Option<&'static str> {
            (*state == self.forbidden).then_some("forbidden")
        }

        fn is_clean(&self, state: &u8) -> Option<bool> {
            Some(*state == self.end)
        }
    }

    #[test]
    fn every_state_is_visited_and_the_shortest_history_is_told() {
        let explored = explore(&Counter { forbidden: 200, end: 10 });
        assert_eq!((explored.states, explored.stuck), (11, 0));
        assert!(explored.broken.is_none());
        let broken = explore(&Counter { forbidden: 7, end: 10 }).broken.unwrap();
        assert_eq!(broken.history.len(), 5, "0, 2, 4, 6, 7 or as long");
    }

    #[test]
    fn states_beyond_every_clean_end_are_counted() {
        assert_eq!(explore(&Counter { forbidden: 200, end: 8 }).stuck, 2);
    }
}
