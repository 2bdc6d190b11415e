//! C8: a roster that no votes made is signed, whole, by two different offline keys of the genesis, follows the roster before it on
//! its node's disk, and each of its seats has a fresh key that its node offered for this place. In a healed network whoever is
//! there follows a recovery that was taken.
//!
//! What such a roster carries over is for C6.

use std::collections::BTreeSet;

use mynet_proto::consensus::io::Record;
use mynet_types::{Domain, Roster, RosterKey, RosterLink, roster::LinkProof, signing};

use super::{Checker, ensure};
use crate::observe::{Deadline, Seen, View};

/// Recoveries that operators handed in, and those that were taken.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    submitted: Vec<Roster>,
    taken: Option<Roster>,
}

impl Checker for Recoveries {
    fn invariant(&self) -> &'static str {
        "C8"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Recovery { file, .. } => {
                self.submitted.push(file.roster.clone());
                Ok(())
            }
            Seen::VotesOnDisk { node, records } => records.iter().try_for_each(|record| match record {
                Record::Link(link) => self.link(*node, link, view),
                _ => Ok(()),
            }),
            Seen::Deadline(Deadline::Decided) => self.all_follow(view),
            _ => Ok(()),
        }
    }
}

impl Recoveries {
    fn link(&mut self, node: usize, link: &RosterLink, view: &View<'_>) -> Result<(), String> {
        let LinkProof::Recovery(proof) = &link.proof else { return Ok(()) };
        let (roster, network, genesis) = (&link.roster, &view.cast.network, &view.cast.genesis);
        let wrong = |what: &str| format!("n{node} follows a recovery to epoch {} {what}", roster.epoch);
        let signed = proof.keys.seats().zip(proof.keys.signatures.iter()).filter_map(|(index, signature)| {
            let key = genesis.recovery_keys.get(index)?;
            signing::verify_as(Domain::Recovery, network, roster, key, signature).is_ok().then_some(*key)
        });
        let signed: BTreeSet<[u8; 32]> = signed.collect();
        ensure(signed.len() >= 2, || wrong(&format!("that {} offline keys signed", signed.len())))?;
        let offered = roster.validators.iter().zip(proof.offers.iter()).all(|(seat, signature)| {
            let offer = RosterKey { epoch: roster.epoch, prev: roster.prev, seat: *seat };
            signing::verify_as(Domain::RosterKey, network, &offer, &seat.node.0, signature).is_ok()
        });
        let counted = proof.offers.len() == roster.validators.len() && !roster.validators.is_empty();
        ensure(offered && counted, || wrong("with a key that nobody offered"))?;
        let first = genesis.first_roster();
        let links = view.hosts[node].votes.store.links().iter().map(|link| &link.roster);
        let before = [&first].into_iter().chain(links).find(|before| before.hash() == roster.prev);
        let follows = before.is_some_and(|before| before.epoch + 1 == roster.epoch);
        ensure(follows, || wrong("that does not follow what it knew"))?;
        let old = |key| before.is_some_and(|before| before.validators.iter().any(|seat| seat.vote_key == key));
        ensure(!roster.validators.iter().any(|seat| old(seat.vote_key)), || wrong("with a key of the roster before"))?;
        ensure(self.submitted.contains(roster), || wrong("that no operator made"))?;
        self.taken = Some(roster.clone());
        Ok(())
    }

    fn all_follow(&self, view: &View<'_>) -> Result<(), String> {
        let Some(taken) = &self.taken else { return Ok(()) };
        let there = view.hosts.iter().enumerate().filter(|(_, host)| !host.lost);
        there.into_iter().try_for_each(|(node, host)| {
            let follows = host.votes.store.links().iter().any(|link| link.roster == *taken);
            ensure(follows, || format!("n{node} does not follow the recovery to epoch {}", taken.epoch))
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{BoundedVec, SignerSet};

    use super::{super::stage::Stage, Checker, Deadline, LinkProof, Record, Recoveries, RosterLink, Seen, signing};
    use crate::disk::Store;

    fn on_disk(stage: &Stage, checker: &mut Recoveries, link: &RosterLink) -> Result<(), String> {
        checker.see(&Seen::VotesOnDisk { node: 1, records: &[Record::Link(link.clone())] }, &stage.view())
    }

    #[test]
    fn a_recovery_without_two_keys_its_offers_or_its_place_is_found() {
        let stage = Stage::new();
        let file = stage.recovery();
        let mut checker = Recoveries { submitted: vec![file.roster.clone()], taken: None };
        assert_eq!(on_disk(&stage, &mut checker, &file.link()), Ok(()));
        let changed = |change: &dyn Fn(&mut RosterLink)| {
            let mut link = file.link();
            change(&mut link);
            on_disk(&stage, &mut Recoveries { submitted: vec![link.roster.clone()], taken: None }, &link)
        };
        let keys = |link: &mut RosterLink, from: &[(usize, usize)]| {
            let LinkProof::Recovery(proof) = &mut link.proof else { panic!("a recovery") };
            let sign = |key: usize| {
                let key = &stage.cast.recovery_keys[key];
                signing::sign_as(super::Domain::Recovery, &stage.cast.network, &link.roster, key)
            };
            proof.keys = SignerSet::collect(from.iter().map(|(seat, key)| (*seat, sign(*key))));
        };
        assert_eq!(changed(&|link| keys(link, &[(0, 0), (2, 2)])), Ok(()), "any two");
        assert!(changed(&|link| keys(link, &[(1, 1)])).unwrap_err().contains("1 offline keys"));
        assert!(changed(&|link| keys(link, &[(0, 0), (1, 0)])).unwrap_err().contains("1 offline keys"));
        assert!(changed(&|link| link.roster.valid_from.0 -= 1).unwrap_err().contains("0 offline keys"));
        let unoffered = changed(&|link| {
            let LinkProof::Recovery(proof) = &mut link.proof else { panic!("a recovery") };
            proof.offers = BoundedVec::new();
        });
        assert!(unoffered.unwrap_err().contains("nobody offered"));
        let stranger = on_disk(&stage, &mut Recoveries::default(), &file.link());
        assert!(stranger.unwrap_err().contains("no operator"));
    }

    #[test]
    fn a_node_that_does_not_follow_a_recovery_is_found() {
        let mut stage = Stage::new();
        let file = stage.recovery();
        let mut checker = Recoveries { submitted: vec![file.roster.clone()], taken: None };
        assert_eq!(on_disk(&stage, &mut checker, &file.link()), Ok(()));
        for node in 0..stage.hosts.len() {
            assert!(checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()).is_err());
            stage.hosts[node].votes.store.apply(&Record::Link(file.link())).unwrap();
        }
        assert_eq!(checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()), Ok(()));
    }
}
