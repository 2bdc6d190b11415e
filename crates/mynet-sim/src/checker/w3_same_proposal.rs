//! W3: a proposer that starts again goes on with its proposal, byte for byte, until that has expired, its epoch has ended
//! or has another roster by a recovery, or it was given up with nothing in its place: another value of the version was certified.
//!
//! What remains of its life is taken from the wall clock at the start and measured by the monotonic one from there on, so it
//! is over when either of them says so.

use std::collections::BTreeMap;

use mynet_proto::{
    consensus::io::{Config, Record},
    node::io::Input,
};
use mynet_types::{
    Claim, ConsensusMessage, ManifestHash, Message, Mono, Now, ProposalId, RosterHash, SignedProposal, Timestamp,
};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// A proposal that was open when its node died.
#[derive(Debug, Clone, Copy)]
struct Open {
    id: ProposalId,
    epoch: u64,
    roster: RosterHash,
    expires_at: Timestamp,
    /// When it is over on the monotonic clock of its node, once that has started again.
    until: Option<Mono>,
    /// Whether a clock of its node ever showed that it is over.
    expired: bool,
}

impl Open {
    /// The clocks of its node show `now`; the first time is the start.
    fn look(&mut self, now: Now) {
        let life = self.expires_at.since(now.wall).min(Config::default().lifetime);
        let until = *self.until.get_or_insert(now.mono.after(life));
        self.expired |= self.expires_at <= now.wall || until <= now.mono;
    }

    fn new(proposal: &SignedProposal) -> Self {
        let body = &proposal.body;
        let (id, expires_at) = (body.id(), body.expires_at);
        Self { id, epoch: body.epoch, roster: body.roster, expires_at, until: None, expired: false }
    }
}

/// Whose, of what.
type Key = (usize, ManifestHash, Claim);

/// Proposals on disk, and those that nodes must go on with.
#[derive(Debug, Default)]
pub(super) struct SameProposal {
    on_disk: BTreeMap<Key, Open>,
    resumed: BTreeMap<Key, Open>,
}

impl Checker for SameProposal {
    fn invariant(&self) -> &'static str {
        "W3"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::VotesOnDisk { node, records } => {
                self.give_up(*node, records);
                records.iter().for_each(|record| self.keep(*node, record));
            }
            Seen::VotesLost(node) => {
                self.on_disk.retain(|(of, ..), _| of != node);
                self.resumed.retain(|(of, ..), _| of != node);
            }
            Seen::Crashed(node) => {
                self.resumed.retain(|(of, ..), _| of != node);
                let open = self.on_disk.iter().filter(|((of, ..), _)| of == node);
                self.resumed.extend(open.map(|(key, open)| (*key, *open)));
            }
            Seen::Given { node, input: Input::Start | Input::Timer(_) | Input::Message { .. } } => {
                let now = view.hosts[*node].clock.read(view.now);
                let own = self.resumed.iter_mut().filter(|((of, ..), _)| of == node);
                own.for_each(|(_, open)| open.look(now));
            }
            Seen::Sent { from, message: Message::Consensus(ConsensusMessage::Propose { proposal, .. }), .. } => {
                return self.sent(*from, proposal);
            }
            _ => {}
        }
        Ok(())
    }
}

impl SameProposal {
    /// What is closed in a batch that proposes nothing in its place.
    fn give_up(&mut self, node: usize, records: &[Record]) {
        let replaced = |value: &ManifestHash, claim: Claim| {
            records.iter().any(|record| {
                matches!(record, Record::Proposal(open)
                    if open.proposal.body.manifest_hash == *value && open.proposal.body.claim == claim)
            })
        };
        let closed = |id: ProposalId| records.iter().any(|record| matches!(record, Record::Closed(of) if *of == id));
        self.resumed.retain(|(of, value, claim), open| *of != node || !closed(open.id) || replaced(value, *claim));
    }

    fn keep(&mut self, node: usize, record: &Record) {
        match record {
            Record::Proposal(open) => {
                let body = &open.proposal.body;
                self.on_disk.insert((node, body.manifest_hash, body.claim), Open::new(&open.proposal));
            }
            Record::Closed(id) => self.on_disk.retain(|(of, ..), open| *of != node || open.id != *id),
            _ => {}
        }
    }

    fn sent(&mut self, from: usize, proposal: &SignedProposal) -> Result<(), String> {
        let body = &proposal.body;
        let key = (from, body.manifest_hash, body.claim);
        let Some(open) = self.resumed.get(&key).copied() else { return Ok(()) };
        if body.id() == open.id {
            return Ok(());
        }
        self.resumed.remove(&key);
        let over = body.epoch >= open.epoch && body.roster != open.roster;
        ensure(open.expired || over, || {
            format!("n{from} proposes {} anew, although its proposal of before is alive", body.manifest_hash)
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{ConsensusMessage, Message, RosterHash};

    use super::{super::stage::Stage, Checker, Record, SameProposal, Seen};

    #[test]
    fn another_proposal_after_a_restart_is_found() {
        let stage = Stage::new();
        let (first, second) = (stage.open_proposal([1; 16]), stage.open_proposal([2; 16]));
        let sent = |open: &mynet_proto::consensus::io::OpenProposal| {
            let (proposal, manifest) = (open.proposal.clone(), Box::new(open.manifest.clone()));
            Message::Consensus(ConsensusMessage::Propose {
                proposal,
                manifest,
                receipts: open.receipts.clone(),
                previous: None,
            })
        };
        let mut checker = SameProposal::default();
        let records = [Record::Proposal(first.clone())];
        assert_eq!(checker.see(&Seen::VotesOnDisk { node: 0, records: &records }, &stage.view()), Ok(()));
        assert_eq!(checker.see(&Seen::Crashed(0), &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(0, &sent(&first)), &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(1, &sent(&second)), &stage.view()), Ok(()), "another node's");
        assert!(checker.see(&stage.sent(0, &sent(&second)), &stage.view()).is_err());
        // A recovery took the place of the roster.
        let mut moved = second.clone();
        moved.proposal.body.roster = RosterHash([7; 32]);
        let mut forked = SameProposal::default();
        forked.see(&Seen::VotesOnDisk { node: 0, records: &records }, &stage.view()).unwrap();
        forked.see(&Seen::Crashed(0), &stage.view()).unwrap();
        assert_eq!(forked.see(&stage.sent(0, &sent(&moved)), &stage.view()), Ok(()));
        // Another one in its place is no less wrong when the first is closed with it, but may be made when that was given up.
        let closed = Record::Closed(first.proposal.body.id());
        let batches = [vec![closed.clone(), Record::Proposal(second.clone())], vec![closed]];
        for (batch, wrong) in batches.into_iter().zip([true, false]) {
            let mut checker = SameProposal::default();
            let records = [Record::Proposal(first.clone())];
            assert_eq!(checker.see(&Seen::VotesOnDisk { node: 0, records: &records }, &stage.view()), Ok(()));
            assert_eq!(checker.see(&Seen::Crashed(0), &stage.view()), Ok(()));
            assert_eq!(checker.see(&Seen::VotesOnDisk { node: 0, records: &batch }, &stage.view()), Ok(()));
            assert_eq!(checker.see(&stage.sent(0, &sent(&second)), &stage.view()).is_err(), wrong);
        }
    }
}
