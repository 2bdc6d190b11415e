//! Counting: the votes seen for one slot, and the two of one seat that no honest validator gives together.

use std::collections::{BTreeMap, BTreeSet};

pub(super) use mynet_types::evidence::contradict;
use mynet_types::{Claim, ManifestHash, Mono, Quorum, SignerSet, Verdict, Vote, VoteStatement};

use super::io::{Outcome, Tally};

/// Votes of one epoch for one round of one slot, by seat, value and claim; at most three per seat and value asked for, three
/// for one other value that it accepts, and one no to another one, however many a bad one sends.
pub(super) struct Book {
    /// Their epoch.
    pub(super) epoch: u64,
    /// Not needed after this.
    pub(super) until: Mono,
    /// Values that were asked about.
    asked: BTreeSet<ManifestHash>,
    votes: BTreeMap<(u16, ManifestHash, Claim), Vote>,
    exposed: BTreeSet<u16>,
}

/// What a vote did to the book.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It counts from now on.
    Counted,
    /// It contradicts this one, which was there before; told once per seat.
    Contradicts(Box<Vote>),
    /// Nothing: the seat has spoken.
    Ignored,
}

impl Book {
    pub(super) fn new(epoch: u64, until: Mono) -> Self {
        Self { epoch, until, asked: BTreeSet::new(), votes: BTreeMap::new(), exposed: BTreeSet::new() }
    }

    /// Keeps what is said about `value` until then.
    pub(super) fn ask(&mut self, value: ManifestHash, until: Mono) {
        self.asked.insert(value);
        self.until = self.until.max(until);
    }

    /// A value that was not asked about and that `seat` accepts.
    pub(super) fn other_of(&self, seat: u16) -> Option<ManifestHash> {
        let accepted = self.of_seat(seat).filter(|vote| vote.statement.verdict == Verdict::Accept);
        accepted.map(|vote| vote.statement.value).find(|value| !self.asked.contains(value))
    }

    /// The votes of one seat, by value; of one value the strongest claim last.
    pub(super) fn of_seat(&self, seat: u16) -> impl Iterator<Item = &Vote> {
        let first = (seat, ManifestHash([0; 32]), Claim::Seen);
        self.votes.range(first..).take_while(move |((of, ..), _)| *of == seat).map(|(_, vote)| vote)
    }

    /// Whether adding `vote` could change nothing, so that its signature need not be checked.
    pub(super) fn knows(&self, vote: &Vote) -> bool {
        if mynet_types::planted!(DuplicateSigner) {
            return false;
        }
        let key = (vote.seat, vote.statement.value, vote.statement.claim);
        let idle_no =
            |vote: &Vote| vote.statement.verdict == Verdict::Reject && !self.asked.contains(&vote.statement.value);
        // A no to what nobody asked here says nothing, unless its seat said yes before; the first is kept for a yes that follows.
        let idle = idle_no(vote) && self.of_seat(vote.seat).any(idle_no) && self.contradicted_by(vote).is_none();
        idle || self.exposed.contains(&vote.seat)
            || self.votes.get(&key).is_some_and(|known| known.statement == vote.statement)
    }

    /// The vote of the same seat that `vote` contradicts.
    pub(super) fn contradicted_by(&self, vote: &Vote) -> Option<&Vote> {
        self.of_seat(vote.seat).find(|known| contradict(&known.statement, &vote.statement))
    }

    /// Adds a vote whose signature and epoch were checked.
    pub(super) fn add(&mut self, vote: Vote) -> Added {
        if let Some(first) = self.contradicted_by(&vote).cloned() {
            let news = self.exposed.insert(vote.seat);
            return if news { Added::Contradicts(Box::new(first)) } else { Added::Ignored };
        }
        let mut key = (vote.seat, vote.statement.value, vote.statement.claim);
        while self.votes.contains_key(&key) {
            if !mynet_types::planted!(DuplicateSigner) {
                return Added::Ignored;
            }
            key.0 += 100;
        }
        self.votes.insert(key, vote);
        Added::Counted
    }

    /// Whether `seat` said yes or no to what `statement` says.
    pub(super) fn has_voted(&self, seat: u16, statement: &VoteStatement) -> bool {
        let key = (seat, statement.value, statement.claim);
        self.votes.get(&key).is_some_and(|vote| same_question(&vote.statement, statement))
    }

    /// The signatures over exactly `statement`.
    pub(super) fn signers(&self, statement: &VoteStatement) -> SignerSet {
        let votes = self.votes.values().filter(|vote| vote.statement == *statement);
        SignerSet::collect(votes.map(|vote| (usize::from(vote.seat), vote.signature)))
    }

    /// How far the question `accept`, given as its yes, came.
    pub(super) fn tally(&self, accept: &VoteStatement, quorum: Quorum, waits: bool) -> Tally {
        let reject = VoteStatement { verdict: Verdict::Reject, ..*accept };
        let count = |statement: &VoteStatement| self.votes.values().filter(|v| v.statement == *statement).count();
        let (accepts, rejects) = (count(accept), count(&reject));
        let outcome = if accepts >= quorum.accept() {
            Outcome::Approved
        } else if rejects >= quorum.reject() {
            Outcome::Rejected
        } else if waits {
            Outcome::Pending
        } else if mynet_types::planted!(TimeoutIsRejection) {
            Outcome::Rejected
        } else {
            Outcome::Undecided
        };
        Tally { outcome, accepts, rejects, quorum: quorum.accept(), validators: quorum.validators() }
    }
}

/// Whether two statements answer one question, be it yes or no.
fn same_question(a: &VoteStatement, b: &VoteStatement) -> bool {
    *a == VoteStatement { verdict: a.verdict, ..*b }
}
