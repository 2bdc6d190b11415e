//! Heads over two changes of epoch: four validators, one of them bad, one slot (group and version), two rival values.
//!
//! In an epoch an honest validator votes once; a quorum of votes is a QC, which it acknowledges once; a quorum of acknowledgements
//! is final for ever. Then it closes the epoch and reports what it acknowledged. Reports of a quorum make the close set that the next
//! epoch begins with: there it votes only for what is carried. The bad one votes and acknowledges everything and reports any QC, or
//! none. Steps come in any order; a validator may lag two epochs behind. Certificates count as soon as they could be made.
//!
//! Restated from the protocol document, section 1.6; the threshold is that of the real [`Quorum`]. That one close set per epoch is
//! agreed on is taken for granted here: it is in the roster, and one roster per epoch is C1 of the simulation.

use mynet_types::Quorum;

use super::{Expected, Model, Verdict};

/// Honest validators; the fourth is bad.
const HONEST: usize = 3;
/// Epochs; the last one does not close.
const EPOCHS: usize = 3;

/// The rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// None.
    Sound,
    /// Votes are forgotten in a restart.
    NoPersistence,
    /// A QC is taken for final across epochs.
    QcIsFinal,
    /// A report names what was acknowledged in the epoch that closes, and not what was carried into it.
    CloseSetNotCumulative,
    /// Validators vote for anything in a new epoch.
    CloseSetIgnored,
}

/// A set of values: 1 for one, 2 for the other.
type Values = u8;
const BOTH: Values = 3;

/// One honest validator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
struct Seat {
    /// Epochs that it has closed; it votes in the next one.
    closed: u8,
    /// What it voted for, by epoch.
    vote: [Values; EPOCHS],
    /// What it acknowledged, by epoch.
    ack: [Values; EPOCHS],
}

/// Everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
struct State {
    seats: [Seat; HONEST],
    /// Values that ever had a quorum of votes, by epoch.
    qc: [Values; EPOCHS],
    /// Values that are final.
    decided: Values,
    /// What each epoch hands to the next, once that is agreed.
    carried: [Option<Values>; EPOCHS],
}

struct Heads {
    rule: Rule,
    quorum: usize,
}

impl Heads {
    fn new(rule: Rule) -> Self {
        let quorum = Quorum::of(HONEST + 1, 3, false).expect("four validators certify");
        Self { rule, quorum: quorum.accept() }
    }

    /// Makes every certificate that can be made, forgets what can matter no more, and puts the seats in order: they are alike.
    fn settle(&self, mut state: State) -> State {
        for epoch in 0..EPOCHS {
            for value in [1, 2] {
                let signed = |signature: fn(&Seat) -> [Values; EPOCHS]| {
                    1 + state.seats.iter().filter(|seat| signature(seat)[epoch] == value).count() >= self.quorum
                };
                let (voted, acknowledged) = (signed(|seat| seat.vote), signed(|seat| seat.ack));
                if voted {
                    state.qc[epoch] |= value;
                }
                let has_qc = state.qc[epoch] & value != 0;
                let is_final = has_qc && (acknowledged || self.rule == Rule::QcIsFinal);
                state.decided |= if is_final { value } else { 0 };
            }
            let over =
                state.carried[epoch].is_some() && state.seats.iter().all(|seat| usize::from(seat.closed) > epoch);
            if over {
                state.qc[epoch] = 0;
                state.seats.iter_mut().for_each(|seat| (seat.vote[epoch], seat.ack[epoch]) = (0, 0));
            }
        }
        state.seats.sort_unstable();
        state
    }

    /// What may be voted for in `epoch`; nothing before the close set of the epoch before is agreed.
    fn allowed(&self, state: &State, epoch: usize) -> Values {
        match epoch.checked_sub(1).map(|before| state.carried[before]) {
            None => BOTH,
            Some(None) => 0,
            Some(Some(0)) => BOTH,
            Some(Some(_)) if self.rule == Rule::CloseSetIgnored => BOTH,
            Some(Some(carried)) => carried,
        }
    }

    /// Steps of one seat.
    fn act(&self, state: &State, index: usize, push: &mut dyn FnMut(State)) {
        let seat = state.seats[index];
        let epoch = usize::from(seat.closed);
        let mut moves = |seat: Seat| {
            let mut next = *state;
            next.seats[index] = seat;
            push(self.settle(next));
        };
        let allowed = self.allowed(state, epoch);
        for value in [1, 2] {
            if seat.vote[epoch] == 0 && allowed & value != 0 {
                let mut voted = seat;
                voted.vote[epoch] = value;
                moves(voted);
            }
            if seat.ack[epoch] == 0 && allowed != 0 && state.qc[epoch] & value != 0 {
                let mut acknowledged = seat;
                acknowledged.ack[epoch] = value;
                moves(acknowledged);
            }
        }
        if self.rule == Rule::NoPersistence && seat.vote[epoch] != 0 {
            let mut forgetful = seat;
            forgetful.vote[epoch] = 0;
            moves(forgetful);
        }
        if epoch + 1 < EPOCHS && allowed != 0 {
            moves(Seat { closed: seat.closed + 1, ..seat });
        }
    }

    /// Close sets that the reports of a quorum can make: two honest ones and whatever the bad one says, or three honest ones.
    fn agree(&self, state: &State, epoch: usize, push: &mut dyn FnMut(State)) {
        let before = epoch.checked_sub(1).and_then(|before| state.carried[before]).unwrap_or(0);
        let before = if self.rule == Rule::CloseSetNotCumulative { 0 } else { before };
        let reports: Vec<Values> = state
            .seats
            .iter()
            .filter(|seat| usize::from(seat.closed) > epoch)
            .map(|seat| seat.ack[epoch] | before)
            .collect();
        let mut carry = |values: Values| {
            let mut next = *state;
            next.carried[epoch] = Some(values);
            push(self.settle(next));
        };
        for (index, one) in reports.iter().enumerate() {
            for other in &reports[index + 1..] {
                (0..=BOTH).filter(|lie| lie & !state.qc[epoch] == 0).for_each(|lie| carry(one | other | lie));
            }
        }
        if reports.len() == HONEST {
            carry(reports.iter().fold(0, |all, report| all | report));
        }
    }
}

impl Model for Heads {
    type State = State;

    fn first(&self) -> State {
        State::default()
    }

    fn next(&self, state: &State, push: &mut dyn FnMut(State)) {
        (0..HONEST).for_each(|index| self.act(state, index, push));
        let open = (0..EPOCHS - 1).filter(|epoch| state.carried[*epoch].is_none());
        open.for_each(|epoch| self.agree(state, epoch, push));
    }

    fn is_broken(&self, state: &State) -> Option<&'static str> {
        (state.decided == BOTH).then_some("two values of one slot are final")
    }
}

/// All variants.
pub(super) fn all() -> Vec<Verdict> {
    let variants = [
        (Rule::Sound, Expected::Sound),
        (Rule::NoPersistence, Expected::Broken),
        (Rule::QcIsFinal, Expected::Broken),
        (Rule::CloseSetNotCumulative, Expected::Broken),
        (Rule::CloseSetIgnored, Expected::Broken),
    ];
    variants.map(|(rule, expected)| Verdict::of("heads", rule, expected, &Heads::new(rule))).into()
}
