//! C6: a final certificate survives epoch changes: no later epoch votes for, acks or carries another value of its version,
//! and every certificate verifies against the newest chain.
//!
//! Whether a value is final is counted from acks on disks, so that a certificate that somebody *could* have assembled counts
//! like one that somebody has.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::consensus::io::Record;
use mynet_types::{
    CarriedHead, ManifestHash, Phase, Roster, SlotKey, Verdict, VerifiedChain, Vote, VoteStatement, vote::head_slot,
};

use super::{Checker, ensure};
use crate::observe::{Deadline, Seen, View};

/// What was acked and carried.
#[derive(Debug, Default)]
pub(super) struct Epochs {
    rosters: BTreeMap<u64, Roster>,
    acked: BTreeMap<VoteStatement, BTreeSet<u16>>,
    /// What a quorum acked first, and when.
    finals: BTreeMap<SlotKey, (u64, ManifestHash)>,
    /// The last epoch in which each value was accepted, by version.
    accepted: BTreeMap<SlotKey, BTreeMap<ManifestHash, u64>>,
    carried: BTreeMap<SlotKey, BTreeSet<ManifestHash>>,
}

impl Checker for Epochs {
    fn invariant(&self) -> &'static str {
        "C6"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| match record {
                Record::Link(link) => {
                    self.rosters.entry(link.roster.epoch).or_insert_with(|| link.roster.clone());
                    Ok(())
                }
                Record::Vote(vote) => self.vote(*node, vote, view),
                Record::Carried(heads) => heads.iter().try_for_each(|head| self.carry(*node, head)),
                _ => Ok(()),
            }),
            Seen::Deadline(Deadline::Decided) => verify_all(view),
            _ => Ok(()),
        }
    }
}

impl Epochs {
    fn vote(&mut self, node: usize, vote: &Vote, view: &View<'_>) -> Result<(), String> {
        let VoteStatement { epoch, slot, value, verdict, phase, .. } = vote.statement;
        if verdict != Verdict::Accept {
            return Ok(());
        }
        let last = self.accepted.entry(slot).or_default().entry(value).or_insert(epoch);
        *last = epoch.max(*last);
        if let Some((since, kept)) = self.finals.get(&slot) {
            ensure(epoch <= *since || value == *kept, || {
                format!("n{node} signs {value} in epoch {epoch}, but {kept} is final since {since}")
            })?;
        }
        if phase == Phase::Ack { self.ack(vote, view) } else { Ok(()) }
    }

    fn ack(&mut self, vote: &Vote, view: &View<'_>) -> Result<(), String> {
        let statement = vote.statement;
        let first = view.cast.genesis.first_roster();
        let roster = if statement.epoch == 0 { Some(&first) } else { self.rosters.get(&statement.epoch) };
        let quorum = roster.and_then(|roster| view.cast.genesis.quorum(roster.validators.len()));
        let seats = self.acked.entry(statement).or_default();
        seats.insert(vote.seat);
        if quorum.is_none_or(|quorum| seats.len() < quorum.accept()) || self.finals.contains_key(&statement.slot) {
            return Ok(());
        }
        let (slot, value, epoch) = (statement.slot, statement.value, statement.epoch);
        self.finals.insert(slot, (epoch, value));
        // A seat that was slow may have completed it after others went on.
        let accepted = self.accepted.get(&slot).into_iter().flatten();
        let later = accepted.filter(|(other, last)| **other != value && **last > epoch).map(|(other, _)| *other);
        let carried = self.carried.get(&slot).into_iter().flatten().filter(|other| **other != value).copied();
        match later.chain(carried).next() {
            Some(other) => Err(format!("{value} is final in epoch {epoch}, but {other} went on")),
            None => Ok(()),
        }
    }

    fn carry(&mut self, node: usize, head: &CarriedHead) -> Result<(), String> {
        let slot = head_slot(&head.group_id, head.version);
        self.carried.entry(slot).or_default().insert(head.value);
        let kept = self.finals.get(&slot).filter(|(_, kept)| *kept != head.value);
        kept.map_or(Ok(()), |(since, kept)| {
            Err(format!("n{node} carries {}, but {kept} is final since {since}", head.value))
        })
    }
}

/// Every certificate that anybody had verifies against the newest chain.
fn verify_all(view: &View<'_>) -> Result<(), String> {
    let links = view.hosts.iter().map(|host| host.votes.store.links()).max_by_key(|links| links.len());
    let mut chain = VerifiedChain::new(view.cast.genesis.clone());
    for link in links.unwrap_or_default() {
        chain.extend(link.clone()).map_err(|error| error.to_string())?;
    }
    view.files.values().try_for_each(|file| {
        let value = file.certificate.statement.value;
        file.verify_under(&chain).map(|_verified| ()).map_err(|error| format!("certificate of {value}: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use mynet_types::{ManifestHash, Phase, Vote};

    use super::{super::stage::Stage, Checker, Epochs, Record, Seen};

    fn on_disk(checker: &mut Epochs, stage: &Stage, record: Record) -> Result<(), String> {
        checker.see(&Seen::VotesOnDisk { node: 0, records: &[record] }, &stage.view())
    }

    #[test]
    fn another_value_after_a_final_one_is_found_wherever_it_shows() {
        let stage = Stage::new();
        let (kept, other) = (ManifestHash([1; 32]), ManifestHash([2; 32]));
        let later = |phase, value| {
            let mut vote: Vote = stage.head_vote(phase, value);
            vote.statement.epoch = 1;
            Record::Vote(vote)
        };
        let kept_final = |checker: &mut Epochs| {
            on_disk(checker, &stage, Record::Vote(stage.head_vote(Phase::Vote, other))).unwrap();
            on_disk(checker, &stage, Record::Vote(stage.head_vote(Phase::Ack, kept)))
        };
        for wrong in [later(Phase::Vote, other), later(Phase::Ack, other), stage.carried(other)] {
            let mut checker = Epochs::default();
            assert_eq!(kept_final(&mut checker), Ok(()), "a vote for another one before is no harm");
            for right in [later(Phase::Vote, kept), later(Phase::Ack, kept), stage.carried(kept)] {
                assert_eq!(on_disk(&mut checker, &stage, right), Ok(()));
            }
            assert!(on_disk(&mut checker, &stage, wrong.clone()).is_err(), "{wrong:?}");
            // And when the final one is completed late.
            let mut checker = Epochs::default();
            assert_eq!(on_disk(&mut checker, &stage, wrong.clone()), Ok(()));
            assert!(kept_final(&mut checker).is_err(), "{wrong:?}");
        }
    }
}
