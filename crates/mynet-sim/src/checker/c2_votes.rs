//! C2: no honest node signs two accepts with different values per (epoch, phase, slot), nor an accept and a reject of
//! one value, nor two rosters for one epoch, nor a head of an epoch that it closed; restarts included. A node whose vote store
//! was lost never votes with a key of before: it cannot know what that key signed.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use mynet_proto::consensus::io::Record;
use mynet_types::{
    ConsensusMessage, ManifestHash, Message, Phase, RosterHash, SlotKey, Verdict, Vote, VoteKey, VoteStatement,
    vote::attest_slot,
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
    /// Vote keys that each node ever had on disk.
    keys: BTreeSet<(usize, VoteKey)>,
    /// Those of before its vote store was lost.
    distrusted: BTreeSet<(usize, VoteKey)>,
}

impl Checker for Votes {
    fn invariant(&self) -> &'static str {
        "C2"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent { from, .. } if view.cast.liar == Some(*from) => Ok(()),
            Seen::Sent { from, message: Message::Consensus(message), .. } => match message {
                ConsensusMessage::Vote(vote) => {
                    self.trusts(*from, vote, view)?;
                    self.signs(*from, &vote.statement)
                }
                ConsensusMessage::RosterVote { roster, epoch, old: Some(_), .. } => self.roster(*from, *epoch, *roster),
                _ => Ok(()),
            },
            Seen::VotesLost(node) => {
                self.distrusted.extend(self.keys.iter().filter(|(of, _)| of == node));
                let founder = view.cast.genesis.founder;
                self.distrusted.extend((founder.node == view.hosts[*node].id).then_some((*node, founder.vote_key)));
                Ok(())
            }
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
                Record::Key { secret, .. } => {
                    let key = SigningKey::from_bytes(&secret.0).verifying_key();
                    self.keys.insert((*node, VoteKey(key.to_bytes())));
                    Ok(())
                }
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

impl Votes {
    /// Whether the key of a vote is one of which its node knows all votes.
    fn trusts(&self, node: usize, vote: &Vote, view: &View<'_>) -> Result<(), String> {
        let epoch = vote.statement.epoch;
        let links = view.hosts[node].votes.store.links();
        let roster = links.iter().map(|link| &link.roster).find(|roster| roster.epoch == epoch);
        let seat = match roster {
            Some(roster) => roster.validators.get(usize::from(vote.seat)).copied(),
            None => (epoch == 0).then_some(view.cast.genesis.founder),
        };
        ensure(seat.is_none_or(|seat| !self.distrusted.contains(&(node, seat.vote_key))), || {
            format!("n{node} votes in epoch {epoch} with a key of before its vote store was lost")
        })
    }

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
    fn a_vote_with_a_key_of_before_the_store_was_lost_is_found() {
        let stage = Stage::new();
        let mut checker = Votes::default();
        let accept = stage.vote_message(Verdict::Accept);
        assert_eq!(checker.see(&stage.sent(0, &accept), &stage.view()), Ok(()));
        assert_eq!(checker.see(&super::Seen::VotesLost(0), &stage.view()), Ok(()));
        assert!(checker.see(&stage.sent(0, &accept), &stage.view()).is_err());
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
