//! W1: what a node signs for consensus is on its disk before it leaves: votes, roster signatures, fresh keys, proposals, and
//! that an epoch is closed.

use std::collections::BTreeSet;

use mynet_proto::{
    consensus::io::{Event as Told, Record},
    node::io::Event,
};
use mynet_types::{CertificateFile, ConsensusMessage, Message, ProposalId, RosterHash, RosterKey, VoteStatement};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// What is on which disk.
#[derive(Debug, Default)]
pub(super) struct VotesFirst {
    votes: BTreeSet<(usize, VoteStatement)>,
    rosters: BTreeSet<(usize, RosterHash)>,
    keys: BTreeSet<(usize, u64)>,
    proposals: BTreeSet<(usize, ProposalId)>,
    closed: BTreeSet<(usize, u64)>,
}

impl Checker for VotesFirst {
    fn invariant(&self) -> &'static str {
        "W1"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::VotesOnDisk { node, records } => {
                records.iter().for_each(|record| self.keep(*node, record));
                Ok(())
            }
            Seen::Sent { from, message: Message::Consensus(message), .. } => self.sent(*from, message, view),
            Seen::Told { node, event: Event::Consensus(Told::RecoveryOffered(Some(offer))) } => {
                self.offered(*node, &offer.body.key, view)
            }
            _ => Ok(()),
        }
    }
}

impl VotesFirst {
    fn keep(&mut self, node: usize, record: &Record) {
        match record {
            Record::Vote(vote) => {
                self.votes.insert((node, vote.statement));
            }
            Record::RosterLock(lock) => {
                self.rosters.insert((node, lock.roster.hash()));
            }
            Record::Key { epoch, .. } => {
                self.keys.insert((node, *epoch));
            }
            Record::Proposal(open) => {
                self.proposals.insert((node, open.proposal.body.id()));
            }
            Record::EpochClosed(next) => {
                self.closed.insert((node, next.roster.epoch));
            }
            Record::EraseKeys { .. }
            | Record::Link(_)
            | Record::Closed(_)
            | Record::Acked(_)
            | Record::Carried(_)
            | Record::CarriedNext(_)
            | Record::Reported { .. }
            | Record::Unlinked { .. }
            | Record::Evidence(_)
            | Record::OwnerEvidence(_)
            | Record::OwnerSigned { .. }
            | Record::Approval { .. } => {}
        }
    }

    fn sent(&self, from: usize, message: &ConsensusMessage, view: &View<'_>) -> Result<(), String> {
        match message {
            ConsensusMessage::Vote(_) if view.cast.liar == Some(from) => Ok(()),
            ConsensusMessage::Vote(vote) => ensure(self.votes.contains(&(from, vote.statement)), || {
                format!("n{from} sends a vote on {} that is not on its disk", vote.statement.value)
            }),
            ConsensusMessage::RosterVote { roster, epoch, old, .. } => {
                // A newcomer consents with the key it offered, and is locked on nothing.
                ensure(old.is_none() || self.rosters.contains(&(from, *roster)), || {
                    format!("n{from} signs roster {roster}, which is not on its disk")
                })?;
                ensure(self.keys.contains(&(from, *epoch)), || {
                    format!("n{from} consents to epoch {epoch} with a key that is not on its disk")
                })
            }
            ConsensusMessage::KeyOffer { offer, .. } => ensure(self.keys.contains(&(from, offer.body.epoch)), || {
                format!("n{from} offers a key for epoch {} that is not on its disk", offer.body.epoch)
            }),
            ConsensusMessage::Propose { proposal, .. } => {
                let id = proposal.body.id();
                ensure(self.proposals.contains(&(from, id)), || format!("n{from} proposes what is not on its disk"))
            }
            ConsensusMessage::CloseReport(report) => {
                let next = report.statement.epoch + 1;
                ensure(self.closed.contains(&(from, next)), || {
                    format!("n{from} reports an epoch that is not closed on its disk")
                })
            }
            ConsensusMessage::Certified(file) => self.own_vote(from, file, view),
            _ => Ok(()),
        }
    }

    /// What a node brings to a recovery; it has closed the epoch, so that it acks nothing that the recovery does not know of.
    fn offered(&self, node: usize, key: &RosterKey, view: &View<'_>) -> Result<(), String> {
        ensure(self.keys.contains(&(node, key.epoch)), || {
            format!("n{node} offers a key for a recovery to epoch {} that is not on its disk", key.epoch)
        })?;
        let newest = view.hosts[node].votes.store.links().last().map(|link| &link.roster);
        let sits = newest.map_or(view.cast.genesis.founder.node == view.hosts[node].id, |newest| {
            newest.seat_of(&view.hosts[node].id).is_some()
        });
        ensure(!sits || self.closed.contains(&(node, key.epoch)), || {
            format!("n{node} offers for a recovery, and has not closed the epoch before {} on its disk", key.epoch)
        })
    }

    /// A proposer's own vote leaves it inside a certificate.
    fn own_vote(&self, from: usize, file: &CertificateFile, view: &View<'_>) -> Result<(), String> {
        let statement = file.certificate.statement;
        let links = &file.chain.links;
        let roster = match statement.epoch.checked_sub(1) {
            None => Some(view.cast.genesis.first_roster()),
            Some(before) => usize::try_from(before).ok().and_then(|at| links.get(at)).map(|link| link.roster.clone()),
        };
        let seat = roster.and_then(|roster| roster.seat_of(&view.hosts[from].id));
        let signed = seat.is_some_and(|seat| file.certificate.signers.seats().any(|signer| signer == seat));
        ensure(!signed || self.votes.contains(&(from, statement)), || {
            format!("n{from} sends a certificate with its own vote, which is not on its disk")
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::RosterLock;
    use mynet_types::{BoundedVec, ConsensusMessage, Message, Verdict, VoteSecret};

    use super::{super::stage::Stage, Checker, Event, Record, Seen, Told, VotesFirst};

    #[test]
    fn a_recovery_offered_before_key_and_close_are_on_disk_is_found() {
        let mut stage = Stage::new();
        let offer = stage.recovery_offer();
        let lock = RosterLock { roster: stage.recovery().roster, keys: BoundedVec::new(), reports: BoundedVec::new() };
        let records = [Record::Key { epoch: 1, secret: VoteSecret([7; 32]) }, Record::EpochClosed(lock)];
        let event = Event::Consensus(Told::RecoveryOffered(Some(Box::new(offer))));
        let told = Seen::Told { node: 1, event: &event };
        let mut checker = VotesFirst::default();
        let kept = |checker: &mut VotesFirst, stage: &Stage, records: &[Record]| {
            checker.see(&Seen::VotesOnDisk { node: 1, records }, &stage.view()).unwrap();
        };
        assert!(checker.see(&told, &stage.view()).unwrap_err().contains("a key"));
        kept(&mut checker, &stage, &records[..1]);
        assert_eq!(checker.see(&told, &stage.view()), Ok(()), "it holds no seat");
        stage.cast.genesis.founder.node = stage.cast.players[1].id;
        assert!(checker.see(&told, &stage.view()).unwrap_err().contains("not closed"));
        kept(&mut checker, &stage, &records[1..]);
        assert_eq!(checker.see(&told, &stage.view()), Ok(()));
    }

    #[test]
    fn a_vote_that_leaves_before_it_is_on_disk_is_found() {
        let stage = Stage::new();
        let message = stage.vote_message(Verdict::Accept);
        let certificate = Message::Consensus(ConsensusMessage::Certified(Box::new(stage.certificate())));
        let mut checker = VotesFirst::default();
        assert!(checker.see(&stage.sent(0, &message), &stage.view()).is_err());
        assert!(checker.see(&stage.sent(0, &certificate), &stage.view()).is_err());
        assert_eq!(checker.see(&stage.sent(1, &certificate), &stage.view()), Ok(()), "holds no seat");
        let records = [Record::Vote(stage.vote(0, Verdict::Accept))];
        assert_eq!(checker.see(&Seen::VotesOnDisk { node: 0, records: &records }, &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(0, &message), &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(0, &certificate), &stage.view()), Ok(()));
        assert!(checker.see(&stage.sent(1, &message), &stage.view()).is_err(), "on another node's disk");
    }
}
