//! C4: a timeout never yields `Rejected`; a sound value is never rejected; a bad one, and one of which fewer than W copies
//! were shown, never approved; both outcomes of a claim absorb until the node is started again. What lasts longer is the
//! certificate, which the driver keeps.
//!
//! A validator that says that it hashed the bytes did so since it started, and found them right. So wrong bytes, of which
//! there may be any number of copies, are never approved as `verified`; they may be rejected where somebody asks for that.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::{Event as Told, Hashed, Outcome, Record},
    node::io::{Event, Input},
};
use mynet_types::{Claim, ManifestHash, Verdict};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// The final outcome that each node reported of each value and claim.
#[derive(Debug, Default)]
pub(super) struct Rejection {
    last: BTreeMap<(usize, ManifestHash, Claim), Outcome>,
    /// Values whose bytes a node found right since it started.
    right: BTreeSet<(usize, ManifestHash)>,
}

impl Checker for Rejection {
    fn invariant(&self) -> &'static str {
        "C4"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Crashed(crashed) => {
                self.last.retain(|(node, ..), _| node != crashed);
                self.right.retain(|(node, _)| node != crashed);
                Ok(())
            }
            Seen::Given { node, input: Input::Hashed { manifest_hash, hashed: Hashed::Right } } => {
                self.right.insert((*node, *manifest_hash));
                Ok(())
            }
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| self.looked(*node, record)),
            Seen::Told { node, event: Event::Consensus(Told::Progress { manifest_hash, claim, tally, .. }) } => {
                self.reported(*node, (*manifest_hash, *claim), tally.outcome, view)
            }
            _ => Ok(()),
        }
    }
}

impl Rejection {
    /// A vote is on disk.
    fn looked(&self, node: usize, record: &Record) -> Result<(), String> {
        let Record::Vote(vote) = record else { return Ok(()) };
        let (statement, value) = (&vote.statement, vote.statement.value);
        let says_so = statement.claim == Claim::Verified && statement.verdict == Verdict::Accept;
        ensure(!says_so || self.right.contains(&(node, value)), || {
            format!("n{node} says that it hashed the bytes of {value}, and did not find them right")
        })
    }

    fn reported(
        &mut self,
        node: usize,
        (value, claim): (ManifestHash, Claim),
        outcome: Outcome,
        view: &View<'_>,
    ) -> Result<(), String> {
        let work = view.works.iter().find(|work| work.value == value);
        let bad = work.is_some_and(|work| work.bad);
        let unproven = work.is_some_and(|work| work.unproven);
        let wrong = work.is_some_and(|work| work.verified_asked && work.has_wrong_bytes());
        ensure(bad || wrong || outcome != Outcome::Rejected, || {
            format!("n{node} reports the sound value {value} rejected")
        })?;
        ensure(!bad || outcome != Outcome::Approved, || format!("n{node} reports the bad value {value} approved"))?;
        ensure(!wrong || claim != Claim::Verified || outcome != Outcome::Approved, || {
            format!("n{node} reports {value} verified, whose bytes are wrong")
        })?;
        ensure(!unproven || outcome != Outcome::Approved, || {
            format!("n{node} reports {value} durable, of which too few copies were shown")
        })?;
        if let Some(last) = self.last.get(&(node, value, claim)) {
            let found_wrong = wrong && *last == Outcome::Approved && outcome == Outcome::Rejected;
            ensure(*last == outcome || found_wrong, || format!("n{node} reports {value} {outcome:?} after {last:?}"))?;
        }
        if matches!(outcome, Outcome::Approved | Outcome::Rejected) {
            self.last.insert((node, value, claim), outcome);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Outcome;
    use mynet_types::{Claim, Verdict};

    use super::{super::stage::Stage, Checker, Hashed, Input, Record, Rejection, Seen};

    #[test]
    fn a_sound_value_that_is_rejected_and_an_outcome_taken_back_are_found() {
        let stage = Stage::new();
        let told = |checker: &mut Rejection, outcome| {
            checker.see(&Seen::Told { node: 0, event: &stage.progress(outcome) }, &stage.view())
        };
        assert!(told(&mut Rejection::default(), Outcome::Rejected).is_err());
        let mut checker = Rejection::default();
        for outcome in [Outcome::Pending, Outcome::Undecided, Outcome::Approved, Outcome::Approved] {
            assert_eq!(told(&mut checker, outcome), Ok(()));
        }
        assert!(told(&mut checker, Outcome::Undecided).is_err());
        // More may be asked about an approved value, and has an outcome of its own.
        let more = stage.progress_of(Claim::Verified, Outcome::Pending);
        assert_eq!(checker.see(&Seen::Told { node: 0, event: &more }, &stage.view()), Ok(()));
    }

    #[test]
    fn a_word_about_bytes_that_nobody_looked_at_is_found() {
        let stage = Stage::new();
        let mut vote = stage.vote(0, Verdict::Accept);
        vote.statement.claim = Claim::Verified;
        let (value, records) = (vote.statement.value, [Record::Vote(vote)]);
        let voted = Seen::VotesOnDisk { node: 1, records: &records };
        let looked = |hashed| Input::Hashed { manifest_hash: value, hashed };
        let mut checker = Rejection::default();
        for (hashed, found) in [(Hashed::Wrong, true), (Hashed::Unavailable, true), (Hashed::Right, false)] {
            checker.see(&Seen::Given { node: 1, input: &looked(hashed) }, &stage.view()).unwrap();
            assert_eq!(checker.see(&voted, &stage.view()).is_err(), found, "{hashed:?}");
        }
        assert_eq!(checker.see(&Seen::Crashed(1), &stage.view()), Ok(()));
        assert!(checker.see(&voted, &stage.view()).is_err(), "a look of before");
    }

    #[test]
    fn wrong_bytes_of_which_there_are_copies_are_never_verified_and_may_be_rejected() {
        let (wrong, right) = (Stage::of_bytes(Hashed::Wrong), Stage::of_bytes(Hashed::Right));
        let told = |stage: &Stage, claim, outcome| {
            let event = stage.progress_of(claim, outcome);
            Rejection::default().see(&Seen::Told { node: 0, event: &event }, &stage.view())
        };
        assert_eq!(told(&wrong, Claim::Durable, Outcome::Approved), Ok(()));
        assert_eq!(told(&wrong, Claim::Verified, Outcome::Rejected), Ok(()));
        assert!(told(&wrong, Claim::Verified, Outcome::Approved).is_err());
        assert!(told(&right, Claim::Verified, Outcome::Rejected).is_err());
        assert_eq!(told(&right, Claim::Verified, Outcome::Approved), Ok(()));
    }
}
