//! C2: no honest node signs two accepts with different values per (epoch, phase, slot), nor an accept and a reject of
//! one value, nor two rosters for one epoch, nor a head of an epoch that it closed; restarts included.

use std::collections::BTreeMap;

use mynet_proto::consensus::io::Record;
use mynet_types::{
    ConsensusMessage, ManifestHash, Message, Phase, RosterHash, SlotKey, Verdict, VoteStatement, vote::attest_slot,
};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// What each node signed, ever.
#[derive(Debug, Default)]
pub(super) struct Votes {
    accepts: BTreeMap<(usize, u64, Phase, SlotKey), ManifestHash>,
    verdicts: BTreeMap<(usize, u64, Phase, ManifestHash), Verdict>,
    rosters: BTreeMap<(usize, u64), RosterHash>,
    /// The first epoch that each node has not closed.
    open: BTreeMap<usize, u64>,
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
                Record::Vote(vote) => {
                    self.is_open(*node, &vote.statement)?;
                    self.signs(*node, &vote.statement)
                }
                Record::EpochClosed(next) => {
                    self.open.insert(*node, next.roster.epoch);
                    Ok(())
                }
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

    /// A head is not signed after its epoch was closed. Votes on disk come in the order in which they were signed.
    fn is_open(&self, node: usize, vote: &VoteStatement) -> Result<(), String> {
        let head = vote.slot != attest_slot(&vote.value) && vote.verdict == Verdict::Accept;
        let open = self.open.get(&node).copied().unwrap_or(0);
        ensure(!head || open <= vote.epoch, || {
            format!("n{node} signs {} in epoch {}, which it closed", vote.value, vote.epoch)
        })
    }

    fn roster(&mut self, node: usize, epoch: u64, roster: RosterHash) -> Result<(), String> {
        let known = *self.rosters.entry((node, epoch)).or_insert(roster);
        ensure(known == roster, || format!("n{node} signs rosters {known} and {roster} of epoch {epoch}"))
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::{Record, RosterLock};
    use mynet_types::{BoundedVec, ManifestHash, Phase, RosterHash, Verdict};

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
    fn two_acks_of_one_version_and_a_head_after_the_close_are_found() {
        let stage = Stage::new();
        let on_disk = |checker: &mut Votes, record: Record| {
            checker.see(&super::Seen::VotesOnDisk { node: 1, records: &[record] }, &stage.view())
        };
        let ack = |value| Record::Vote(stage.head_vote(Phase::Ack, ManifestHash([value; 32])));
        let mut checker = Votes::default();
        let other_round = Record::Vote(stage.head_vote(Phase::Vote, ManifestHash([2; 32])));
        assert_eq!(on_disk(&mut checker, other_round), Ok(()));
        assert_eq!(on_disk(&mut checker, ack(1)), Ok(()), "another value in the other round");
        assert!(on_disk(&mut checker, ack(2)).is_err());
        let mut next = stage.cast.genesis.first_roster();
        next.epoch = 1;
        let closed = RosterLock { roster: next, keys: BoundedVec::new(), reports: BoundedVec::new() };
        let mut checker = Votes::default();
        assert_eq!(on_disk(&mut checker, Record::EpochClosed(closed)), Ok(()));
        assert_eq!(on_disk(&mut checker, Record::Vote(stage.vote(0, Verdict::Accept))), Ok(()), "an attestation");
        assert!(on_disk(&mut checker, ack(1)).is_err());
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
