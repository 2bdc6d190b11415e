//! Counting: the votes seen for one slot, and the two of one seat that no honest validator gives together.

use std::collections::{BTreeMap, BTreeSet};

pub(super) use mynet_types::evidence::contradict;
use mynet_types::{Claim, Mono, Quorum, SignerSet, Verdict, Vote, VoteStatement};

use super::io::{Outcome, Tally};

/// Votes of one epoch for one slot, by seat and claim; at most three per seat, however many a bad one sends.
pub(super) struct Book {
    /// Their epoch.
    pub(super) epoch: u64,
    /// Not needed after this.
    pub(super) until: Mono,
    votes: BTreeMap<(u16, Claim), Vote>,
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
        Self { epoch, until, votes: BTreeMap::new(), exposed: BTreeSet::new() }
    }

    /// Whether adding `vote` could change nothing, so that its signature need not be checked.
    pub(super) fn knows(&self, vote: &Vote) -> bool {
        self.exposed.contains(&vote.seat)
            || self.votes.get(&(vote.seat, vote.statement.claim)).is_some_and(|known| known.statement == vote.statement)
    }

    /// The votes of one seat, the strongest claim last.
    pub(super) fn of_seat(&self, seat: u16) -> impl DoubleEndedIterator<Item = &Vote> {
        self.votes.range((seat, Claim::Seen)..=(seat, Claim::Verified)).map(|(_, vote)| vote)
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
        let key = (vote.seat, vote.statement.claim);
        if self.votes.contains_key(&key) {
            return Added::Ignored;
        }
        self.votes.insert(key, vote);
        Added::Counted
    }

    /// Whether `seat` said yes or no to what `statement` says.
    pub(super) fn has_voted(&self, seat: u16, statement: &VoteStatement) -> bool {
        self.votes.get(&(seat, statement.claim)).is_some_and(|vote| same_question(&vote.statement, statement))
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
