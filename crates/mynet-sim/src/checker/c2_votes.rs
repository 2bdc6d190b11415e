//! C2: no honest node signs two accepts with different values per (epoch, phase, slot), nor an accept and a reject of
//! one value, nor two rosters for one epoch; restarts included.

use std::collections::BTreeMap;

use mynet_proto::consensus::io::Record;
use mynet_types::{ConsensusMessage, ManifestHash, Message, Phase, RosterHash, SlotKey, Verdict, VoteStatement};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// What each node signed, ever.
#[derive(Debug, Default)]
pub(super) struct Votes {
    accepts: BTreeMap<(usize, u64, Phase, SlotKey), ManifestHash>,
    verdicts: BTreeMap<(usize, u64, Phase, ManifestHash), Verdict>,
    rosters: BTreeMap<(usize, u64), RosterHash>,
}

impl Checker for Votes {
    fn invariant(&self) -> &'static str {
        "C2"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent { from, .. } if view.cast.liar == Some(*from) => Ok(()),
            Seen::Sent { from, message: Message::Consensus(message), .. } => match message {
                ConsensusMessage::Vote(vote) => self.signs(*from, &vote.statement),
                ConsensusMessage::RosterVote { roster, epoch, old: Some(_), .. } => self.roster(*from, *epoch, *roster),
                _ => Ok(()),
            },
            // The own vote of a proposer leaves it only inside a certificate; its record is its signature.
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| match record {
                Record::Vote(vote) => self.signs(*node, &vote.statement),
                Record::RosterLock(lock) => self.roster(*node, lock.roster.epoch, lock.roster.hash()),
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

impl Votes {
    fn signs(&mut self, node: usize, vote: &VoteStatement) -> Result<(), String> {
        if vote.verdict == Verdict::Accept {
            let value = *self.accepts.entry((node, vote.epoch, vote.phase, vote.slot)).or_insert(vote.value);
            ensure(value == vote.value, || format!("n{node} accepts {value} and {} in one slot", vote.value))?;
        }
        let verdict = *self.verdicts.entry((node, vote.epoch, vote.phase, vote.value)).or_insert(vote.verdict);
        ensure(verdict == vote.verdict, || format!("n{node} both accepts and rejects {}", vote.value))
    }

    fn roster(&mut self, node: usize, epoch: u64, roster: RosterHash) -> Result<(), String> {
        let known = *self.rosters.entry((node, epoch)).or_insert(roster);
        ensure(known == roster, || format!("n{node} signs rosters {known} and {roster} of epoch {epoch}"))
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{ManifestHash, RosterHash, Verdict};

    use super::{super::stage::Stage, Checker, Votes};

    #[test]
    fn a_vote_both_ways_is_found_also_when_a_restart_lies_between() {
        let stage = Stage::new();
        let mut checker = Votes::default();
        let accept = stage.vote_message(Verdict::Accept);
        assert_eq!(checker.see(&stage.sent(0, &accept), &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(0, &accept), &stage.view()), Ok(()), "sent again");
        assert_eq!(checker.see(&super::Seen::Crashed(0), &stage.view()), Ok(()));
        assert!(checker.see(&stage.sent(0, &stage.vote_message(Verdict::Reject)), &stage.view()).is_err());
    }

    #[test]
    fn two_accepts_in_one_slot_and_two_rosters_of_one_epoch_are_found() {
        let stage = Stage::new();
        let mut checker = Votes::default();
        let mut statement = stage.vote(0, Verdict::Accept).statement;
        assert_eq!(checker.signs(1, &statement), Ok(()));
        statement.value = ManifestHash([7; 32]);
        assert!(checker.signs(1, &statement).is_err());
        assert_eq!(checker.roster(1, 5, RosterHash([1; 32])), Ok(()));
        assert_eq!(checker.roster(1, 6, RosterHash([2; 32])), Ok(()));
        assert!(checker.roster(1, 5, RosterHash([2; 32])).is_err());
    }
}
