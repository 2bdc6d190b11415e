//! C7: two contradicting votes that one honest node was sent become evidence at every honest node; an honest seat is never
//! accused; and whoever is accused in the newest epoch has lost its seat, as long as three remain.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::consensus::io::Record;
use mynet_types::{ConsensusMessage, Evidence, Message, Roster, SlotKey, Vote, VoteStatement, evidence::contradict};

use super::{Checker, ensure};
use crate::observe::{Deadline, Seen, View};

/// A seat of an epoch.
type Seat = (u64, u16);

/// What honest nodes were sent, and what must be known for it.
#[derive(Debug, Default)]
pub(super) struct Accusations {
    rosters: BTreeMap<u64, Roster>,
    /// What each node has asked in its present start: votes on it are kept.
    asked: BTreeSet<(usize, u64, SlotKey)>,
    heard: BTreeMap<(usize, Seat, SlotKey), Vec<VoteStatement>>,
    /// Contradictions, by the node that was sent both halves.
    due: BTreeSet<(usize, Seat)>,
}

impl Checker for Accusations {
    fn invariant(&self) -> &'static str {
        "C7"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent { from, message: Message::Consensus(ConsensusMessage::Propose { proposal, .. }), .. } => {
                let statement = proposal.body.statement(mynet_types::Verdict::Accept);
                self.asked.insert((*from, statement.epoch, statement.slot));
                Ok(())
            }
            Seen::Delivered { to, from, message: Message::Consensus(ConsensusMessage::Vote(vote)) } => {
                self.hear((*to, *from), vote, view);
                Ok(())
            }
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| match record {
                Record::Link(link) => {
                    let epoch = link.roster.epoch;
                    let known = self.rosters.entry(epoch).or_insert_with(|| link.roster.clone());
                    if link.is_recovery() {
                        known.clone_from(&link.roster);
                    }
                    // Its core has known the link for a while, and looked at votes of the old epoch no more.
                    self.due.retain(|(who, (of, _))| who != node || *of >= epoch);
                    Ok(())
                }
                Record::Evidence(evidence) => self.accuses_the_liar(*node, evidence, view),
                _ => Ok(()),
            }),
            Seen::Crashed(node) => {
                self.asked.retain(|(who, ..)| who != node);
                self.heard.retain(|(who, ..), _| who != node);
                let known = known(view, *node);
                self.due.retain(|(who, seat)| who != node || known.contains(seat));
                Ok(())
            }
            Seen::Deadline(Deadline::Decided) => self.all_know(view),
            _ => Ok(()),
        }
    }
}

/// The seats that a node has evidence against on its disk.
fn known(view: &View<'_>, node: usize) -> BTreeSet<Seat> {
    view.hosts[node].votes.store.evidence().map(|evidence| (evidence.epoch(), evidence.seat)).collect()
}

impl Accusations {
    fn hear(&mut self, (to, from): (usize, usize), vote: &Vote, view: &View<'_>) {
        let (statement, seat) = (vote.statement, (vote.statement.epoch, vote.seat));
        let slot = (to, statement.epoch, statement.slot);
        let current = view.hosts[to].votes.store.epoch() == statement.epoch;
        let holds_seat = self
            .rosters
            .get(&statement.epoch)
            .is_some_and(|roster| roster.seat_of(&view.cast.players[from].id) == Some(usize::from(vote.seat)));
        if Some(to) == view.cast.liar || !current || !holds_seat || !self.asked.contains(&slot) {
            return;
        }
        let heard = self.heard.entry((to, seat, statement.slot)).or_default();
        if heard.iter().any(|other| contradict(other, &statement)) {
            self.due.insert((to, seat));
        }
        heard.push(statement);
    }

    fn accuses_the_liar(&self, node: usize, evidence: &Evidence, view: &View<'_>) -> Result<(), String> {
        let Some(roster) = self.rosters.get(&evidence.epoch()) else {
            return Err(format!("n{node} has evidence of epoch {}, which nobody knows", evidence.epoch()));
        };
        let accused = evidence.verify(&view.cast.network, roster).map_err(|error| format!("n{node} keeps: {error}"))?;
        let accused = view.cast.index_of(&accused);
        ensure(accused.is_some() && accused == view.cast.liar, || format!("n{node} accuses {accused:?}, who is honest"))
    }

    fn all_know(&self, view: &View<'_>) -> Result<(), String> {
        let honest = || (0..view.hosts.len()).filter(|node| Some(*node) != view.cast.liar);
        let found: BTreeSet<Seat> = honest().flat_map(|node| known(view, node)).collect();
        let due = self.due.iter().map(|(_, seat)| *seat);
        for seat in due.chain(found) {
            for node in honest() {
                ensure(known(view, node).contains(&seat), || {
                    format!("n{node} does not know that seat {} of epoch {} contradicted itself", seat.1, seat.0)
                })?;
            }
        }
        for node in honest() {
            let Some(newest) = view.hosts[node].votes.store.links().last().map(|link| &link.roster) else { continue };
            let accused = known(view, node).into_iter().any(|(epoch, _)| epoch == newest.epoch);
            ensure(!accused || newest.validators.len() <= 3, || {
                format!("n{node}: a seat of epoch {} contradicted itself and still sits", newest.epoch)
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{Evidence, Message, Verdict};

    use super::{super::stage::Stage, Accusations, Checker, ConsensusMessage, Deadline, Record, Seen};
    use crate::disk::Store;

    /// A stage on which node 0, alone in the roster, has told node 1 yes and no.
    fn two_faces(stage: &Stage) -> (Accusations, Evidence) {
        let mut checker = Accusations::default();
        checker.rosters.insert(0, stage.cast.genesis.first_roster());
        let votes = [Verdict::Accept, Verdict::Reject].map(|verdict| stage.vote(0, verdict));
        checker.asked.insert((1, 0, votes[0].statement.slot));
        for vote in &votes {
            let message = Message::Consensus(ConsensusMessage::Vote(vote.clone()));
            let seen = Seen::Delivered { to: 1, from: 0, message: &message };
            assert_eq!(checker.see(&seen, &stage.view()), Ok(()));
        }
        (checker, Evidence::of(&votes[0], &votes[1]).unwrap())
    }

    #[test]
    fn a_contradiction_that_some_honest_node_does_not_know_is_found() {
        let mut stage = Stage::alone();
        stage.cast.liar = Some(0);
        let (mut checker, evidence) = two_faces(&stage);
        let deadline = Seen::Deadline(Deadline::Decided);
        assert!(checker.see(&deadline, &stage.view()).is_err());
        for node in 1..stage.hosts.len() {
            stage.hosts[node].votes.store.apply(&Record::Evidence(evidence)).unwrap();
            assert_eq!(checker.see(&deadline, &stage.view()).is_ok(), node + 1 == stage.hosts.len());
        }
    }

    #[test]
    fn evidence_against_an_honest_node_is_found() {
        let mut stage = Stage::alone();
        let (mut checker, evidence) = two_faces(&stage);
        let records = [Record::Evidence(evidence)];
        let seen = Seen::VotesOnDisk { node: 1, records: &records };
        assert!(checker.see(&seen, &stage.view()).is_err());
        stage.cast.liar = Some(0);
        assert_eq!(checker.see(&seen, &stage.view()), Ok(()));
        stage.cast.liar = Some(2);
        assert!(checker.see(&seen, &stage.view()).is_err());
    }
}
