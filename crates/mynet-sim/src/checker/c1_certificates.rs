//! C1: no two conflicting certificates; an accept and a reject certificate of one value never coexist, and no two values are
//! final as one version, in one epoch or in two.
//!
//! Stronger than looking at certificates: every vote that ever left a node or reached its disk is counted, so that
//! a second certificate that somebody *could* have assembled is found as well. Rosters are values of their own slot:
//! no two nodes may have different rosters for one epoch, but for one that votes made and one that the offline keys put in its
//! place. What a recovery could not know of, because only lost seats did, may be certified once more.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::consensus::io::Record;
use mynet_types::{
    Claim, ConsensusMessage, ManifestHash, Message, Phase, RecoveryFile, Roster, SlotKey, Verdict, Vote, VoteStatement,
};

use super::{Checker, carries, ensure, quorums};
use crate::observe::{Seen, View};

/// Rosters of each epoch, and seats by what they signed.
#[derive(Debug, Default)]
pub(super) struct Certificates {
    rosters: BTreeMap<(u64, bool), Roster>,
    signed: BTreeMap<VoteStatement, BTreeSet<u16>>,
    /// What has a quorum, by slot and round.
    decided: BTreeMap<(u64, Phase, SlotKey), VoteStatement>,
    /// What a quorum acked, in any epoch.
    finals: BTreeMap<SlotKey, ManifestHash>,
    /// The verdict on each value, under each claim, that has a quorum of a first round in any epoch.
    verdicts: BTreeMap<ManifestHash, BTreeMap<Claim, Verdict>>,
}

impl Checker for Certificates {
    fn invariant(&self) -> &'static str {
        "C1"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| match record {
                Record::Link(link) => self.roster(*node, link.is_recovery(), &link.roster),
                Record::Vote(vote) => self.vote(vote, view),
                _ => Ok(()),
            }),
            Seen::Sent { message: Message::Consensus(ConsensusMessage::Vote(vote)), .. } => self.vote(vote, view),
            Seen::Sent { message: Message::Consensus(ConsensusMessage::Certified(file)), .. } => {
                let statement = file.certificate.statement;
                file.certificate
                    .signers
                    .seats()
                    .try_for_each(|seat| self.sign(statement, u16::try_from(seat).unwrap_or(u16::MAX), view))
            }
            Seen::Recovery { file, .. } => {
                self.recovers(file);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Certificates {
    /// C6 looks whether a recovery leaves out what it had to know.
    fn recovers(&mut self, file: &RecoveryFile) {
        self.finals.retain(|slot, value| carries(file, slot, value));
        self.decided.retain(|(epoch, ..), _| *epoch < file.roster.epoch);
    }

    /// A roster by votes, or one that was `recovered`.
    fn roster(&mut self, node: usize, recovered: bool, roster: &Roster) -> Result<(), String> {
        let known = self.rosters.entry((roster.epoch, recovered)).or_insert_with(|| roster.clone());
        ensure(known == roster, || format!("n{node} has another roster of epoch {} than others", roster.epoch))
    }

    fn vote(&mut self, vote: &Vote, view: &View<'_>) -> Result<(), String> {
        self.sign(vote.statement, vote.seat, view)
    }

    fn sign(&mut self, statement: VoteStatement, seat: u16, view: &View<'_>) -> Result<(), String> {
        let Some(validators) = self.validators(&statement, view) else { return Ok(()) };
        let Some((accept, reject)) = quorums(validators, &view.cast.genesis) else { return Ok(()) };
        let seats = self.signed.entry(statement).or_default();
        seats.insert(seat);
        let need = if statement.verdict == Verdict::Accept { accept } else { reject };
        if seats.len() < need {
            return Ok(());
        }
        if statement.phase == Phase::Ack {
            let known = *self.finals.entry(statement.slot).or_insert(statement.value);
            ensure(known == statement.value, || format!("{known} and {} are final as one version", statement.value))?;
        }
        if statement.phase == Phase::Vote {
            self.verdict(&statement, view)?;
        }
        let slot = (statement.epoch, statement.phase, statement.slot);
        let known = *self.decided.entry(slot).or_insert(statement);
        ensure((known.value, known.verdict) == (statement.value, statement.verdict), || {
            format!("one slot has quorums for {:?} and for {:?}", (known.value, known.verdict), statement)
        })
    }
}

impl Certificates {
    /// How many sit in the roster of a statement. The roster of an epoch is on some disk before anybody votes in it; a vote for
    /// another one counts nowhere.
    fn validators(&self, statement: &VoteStatement, view: &View<'_>) -> Option<usize> {
        let first = view.cast.genesis.first_roster();
        let of_epoch = [true, false].map(|recovered| self.rosters.get(&(statement.epoch, recovered)));
        let mut rosters = of_epoch.into_iter().flatten().chain([&first]);
        rosters.find(|roster| roster.hash() == statement.roster).map(|roster| roster.validators.len())
    }

    /// A value has a quorum of a first round. Of wrong bytes the copies may be certified, and those of a later epoch who hash the
    /// bytes may say no.
    fn verdict(&mut self, statement: &VoteStatement, view: &View<'_>) -> Result<(), String> {
        let VoteStatement { epoch, value, claim, verdict, .. } = *statement;
        let known = self.verdicts.entry(value).or_default();
        let wrong = view.works.iter().any(|work| work.value == value && work.has_wrong_bytes());
        let of_copies = |claim: Claim, verdict| claim < Claim::Verified && verdict == Verdict::Accept;
        let of_bytes = |claim: Claim, verdict| claim == Claim::Verified && verdict == Verdict::Reject;
        let against = known.iter().find(|(other, said)| {
            let found_wrong = of_copies(claim, verdict) && of_bytes(**other, **said)
                || of_bytes(claim, verdict) && of_copies(**other, **said);
            **said != verdict && !(wrong && found_wrong)
        });
        let found = against.map(|(other, said)| format!("{said:?} of {value} as {other:?}"));
        known.insert(claim, verdict);
        found.map_or(Ok(()), |found| {
            Err(format!("there are quorums for {found} and, in epoch {epoch}, for {verdict:?} as {claim:?}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Hashed;
    use mynet_types::{Claim, ManifestHash, Phase, RosterHash, Verdict, VoteStatement};

    use super::{super::stage::Stage, Certificates, Checker, Record, Seen};

    #[test]
    fn an_accept_and_a_reject_quorum_of_one_value_are_found() {
        let stage = Stage::new();
        let mut checker = Certificates::default();
        for (seat, verdict) in [(0, Verdict::Accept), (0, Verdict::Reject)] {
            let records = [Record::Vote(stage.vote(seat, verdict))];
            let seen = Seen::VotesOnDisk { node: 0, records: &records };
            assert_eq!(checker.see(&seen, &stage.view()).is_err(), verdict == Verdict::Reject, "{verdict:?}");
        }
    }

    #[test]
    fn opposite_verdicts_are_found_over_epochs_but_for_copies_of_wrong_bytes() {
        let check = |stage: &Stage, first: (Claim, Verdict), second: (Claim, Verdict)| {
            let mut checker = Certificates::default();
            let mut roster = stage.cast.genesis.first_roster();
            roster.epoch = 1;
            checker.roster(0, false, &roster).unwrap();
            let statement = stage.vote(0, first.1).statement;
            checker.sign(VoteStatement { claim: first.0, ..statement }, 0, &stage.view()).unwrap();
            let later = VoteStatement { epoch: 1, roster: roster.hash(), ..stage.vote(0, second.1).statement };
            checker.sign(VoteStatement { claim: second.0, ..later }, 0, &stage.view())
        };
        let (yes, no) = ((Claim::Durable, Verdict::Accept), (Claim::Verified, Verdict::Reject));
        let (wrong, right) = (Stage::of_bytes(Hashed::Wrong), Stage::of_bytes(Hashed::Right));
        for (first, second) in [(yes, no), (no, yes)] {
            assert_eq!(check(&wrong, first, second), Ok(()));
            assert!(check(&right, first, second).is_err());
        }
        assert!(check(&wrong, (Claim::Verified, Verdict::Accept), no).is_err());
        assert!(check(&wrong, yes, (Claim::Durable, Verdict::Reject)).is_err());
    }

    #[test]
    fn two_values_that_are_final_as_one_version_are_found_over_epochs() {
        let stage = Stage::new();
        let mut checker = Certificates::default();
        let first = stage.head_vote(Phase::Ack, ManifestHash([1; 32])).statement;
        assert_eq!(checker.sign(first, 0, &stage.view()), Ok(()));
        // The next epoch has the founder alone too.
        let mut roster = stage.cast.genesis.first_roster();
        roster.epoch = 1;
        assert_eq!(checker.roster(0, false, &roster), Ok(()));
        let later = VoteStatement { epoch: 1, roster: roster.hash(), ..first };
        assert_eq!(checker.sign(later, 0, &stage.view()), Ok(()), "the same value again");
        let other = VoteStatement { value: ManifestHash([2; 32]), ..later };
        let mut fresh = Certificates {
            finals: checker.finals.clone(),
            rosters: checker.rosters.clone(),
            ..Certificates::default()
        };
        assert!(fresh.sign(other, 0, &stage.view()).is_err());
    }

    #[test]
    fn two_rosters_of_one_epoch_are_found() {
        let stage = Stage::new();
        let mut checker = Certificates::default();
        let mut roster = stage.cast.genesis.first_roster();
        assert_eq!(checker.roster(0, false, &roster), Ok(()));
        assert_eq!(checker.roster(1, false, &roster), Ok(()));
        roster.prev = RosterHash([9; 32]);
        assert!(checker.roster(2, false, &roster).is_err());
        assert_eq!(checker.roster(2, true, &roster), Ok(()), "in the place of that by votes");
        roster.prev = RosterHash([8; 32]);
        assert!(checker.roster(1, true, &roster).is_err());
    }
}
