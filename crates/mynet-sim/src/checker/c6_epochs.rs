//! C6: a final certificate survives epoch changes: no later epoch votes for, acks or carries another value of its version,
//! and every certificate verifies against the newest chain.
//!
//! Whether a value is final is counted from acks on disks, so that a certificate that somebody *could* have assembled counts
//! like one that somebody has.
//!
//! A recovery keeps what is final if enough old seats report, or if the operators had its certificate. What only lost seats acked may
//! be forgotten, and is no longer final then.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::consensus::io::Record;
use mynet_types::{
    CarriedHead, ManifestHash, Phase, RecoveryFile, Roster, SlotKey, Verdict, VerifiedChain, Vote, VoteStatement,
    vote::head_slot,
};

use super::{Checker, carries, ensure};
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
                    let known = self.rosters.entry(link.roster.epoch).or_insert_with(|| link.roster.clone());
                    if link.is_recovery() {
                        known.clone_from(&link.roster);
                    }
                    Ok(())
                }
                Record::Vote(vote) => self.vote(*node, vote, view),
                Record::Carried(heads) => heads.iter().try_for_each(|head| self.carry(*node, head)),
                _ => Ok(()),
            }),
            Seen::Recovery { file, complete, shown } => self.recovers(file, *complete, shown),
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

    fn recovers(&mut self, file: &RecoveryFile, complete: bool, shown: &BTreeSet<ManifestHash>) -> Result<(), String> {
        // What a roster made final that this one takes the place of is gone with it.
        self.finals.retain(|_, (since, _)| *since < file.roster.epoch);
        let (kept, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.finals).into_iter().partition(|(slot, (_, value))| carries(file, slot, value));
        self.finals = kept;
        // So is what it carried, and what was accepted in it.
        self.carried.iter_mut().for_each(|(slot, values)| values.retain(|value| carries(file, slot, value)));
        for values in self.accepted.values_mut() {
            values.retain(|_, last| *last < file.roster.epoch);
        }
        gone.values().try_for_each(|(since, value)| {
            ensure(!complete && !shown.contains(value), || {
                format!("{value} is final since {since}, and the recovery to epoch {} forgets it", file.roster.epoch)
            })
        })
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
    let there = view.hosts.iter().filter(|host| !host.lost);
    let links = there.map(|host| host.votes.store.links()).max_by_key(|links| links.len());
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
    use std::collections::BTreeSet;

    use mynet_types::{CarriedHead, ManifestHash, Phase, RecoveryFile, Vote};

    use super::{super::stage::Stage, Checker, Epochs, Record, Seen};

    fn on_disk(checker: &mut Epochs, stage: &Stage, record: Record) -> Result<(), String> {
        checker.see(&Seen::VotesOnDisk { node: 0, records: &[record] }, &stage.view())
    }

    #[test]
    fn a_recovery_that_forgets_what_it_had_to_know_is_found() {
        let stage = Stage::new();
        let (kept, other) = (ManifestHash([1; 32]), ManifestHash([2; 32]));
        let of = |record: &Record, change: &dyn Fn(&mut CarriedHead)| {
            let Record::Carried(heads) = record else { panic!("heads that are carried") };
            let mut heads = heads.to_vec();
            heads.iter_mut().for_each(change);
            RecoveryFile { heads: heads.try_into().unwrap(), ..stage.recovery() }
        };
        let recover = |file: &RecoveryFile, complete, shown: &[ManifestHash]| {
            let mut checker = Epochs::default();
            on_disk(&mut checker, &stage, Record::Vote(stage.head_vote(Phase::Ack, kept))).unwrap();
            let shown: BTreeSet<ManifestHash> = shown.iter().copied().collect();
            checker.see(&Seen::Recovery { file, complete, shown: &shown }, &stage.view())?;
            let mut later = stage.head_vote(Phase::Vote, other);
            later.statement.epoch = 1;
            Ok::<_, String>(on_disk(&mut checker, &stage, Record::Vote(later)).is_err())
        };
        assert_eq!(recover(&of(&stage.carried(kept), &|_| ()), true, &[]), Ok(true), "it stays final");
        assert_eq!(recover(&of(&stage.carried(other), &|head| head.version += 1), true, &[]), Ok(true), "so below");
        for wrong in [stage.recovery(), of(&stage.carried(other), &|_| ())] {
            assert!(recover(&wrong, true, &[]).is_err(), "enough seats reported");
            assert!(recover(&wrong, false, &[kept]).is_err(), "its certificate was there");
            assert_eq!(recover(&wrong, false, &[other]), Ok(false), "only lost seats knew it");
        }
    }

    /// A machine that is lost had made an epoch by votes, which nobody else saw.
    #[test]
    fn what_a_lost_machine_carried_is_gone_with_the_epoch_that_a_recovery_takes_the_place_of() {
        let stage = Stage::new();
        let (lost, other) = (ManifestHash([1; 32]), ManifestHash([2; 32]));
        let file = stage.recovery();
        for (recovered, found) in [(true, false), (false, true)] {
            let mut checker = Epochs::default();
            on_disk(&mut checker, &stage, Record::Vote(stage.head_vote(Phase::Ack, lost))).unwrap();
            on_disk(&mut checker, &stage, stage.carried(lost)).unwrap();
            if recovered {
                let shown = BTreeSet::new();
                checker.see(&Seen::Recovery { file: &file, complete: false, shown: &shown }, &stage.view()).unwrap();
            }
            on_disk(&mut checker, &stage, Record::Link(file.link())).unwrap();
            let mut ack = stage.head_vote(Phase::Ack, other);
            ack.statement.epoch = 1;
            assert_eq!(on_disk(&mut checker, &stage, Record::Vote(ack)).is_err(), found, "recovered: {recovered}");
        }
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
