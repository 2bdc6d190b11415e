//! C5: in a healed network every value is decided within the bound, and the roster has grown as far as it may. Of a version
//! of which the owner signed two values neither need be decided, nor what stands on top of it. A version that has a
//! successor is certified somewhere; whoever asks for it only then may be told that it is over. Nothing is expected of machines that
//! were given up, nor of versions that were to be asked for there.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::{Config, Event as Told, Record},
    node::io::Event,
};
use mynet_types::{Claim, ManifestHash, RosterLink, Verdict, Vote};

use super::{Checker, ensure, quorums};
use crate::{
    cast::Player,
    host::Host,
    observe::{Deadline, Seen, View},
    workload::Work,
};

/// What each node has a certificate for.
#[derive(Debug)]
pub(super) struct Decided {
    /// Rosters grow by themselves up to this many seats.
    automatic: usize,
    certified: BTreeMap<(usize, ManifestHash), Verdict>,
    /// The same, of those who hashed the bytes.
    verified: BTreeSet<(usize, ManifestHash)>,
    /// Which seats said yes and no to each value, by epoch.
    said: BTreeMap<(ManifestHash, u64), BTreeMap<u16, Verdict>>,
}

impl Checker for Decided {
    fn invariant(&self) -> &'static str {
        "C5"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Told { node, event: Event::Consensus(Told::Certified(file)) } => {
                let statement = &file.certificate.statement;
                self.certified.insert((*node, statement.value), statement.verdict);
                if statement.claim == Claim::Verified {
                    self.verified.insert((*node, statement.value));
                }
                Ok(())
            }
            Seen::VotesOnDisk { records, .. } => {
                for record in *records {
                    if let Record::Vote(Vote { statement, seat, .. }) = record {
                        let said = self.said.entry((statement.value, statement.epoch)).or_default();
                        said.insert(*seat, statement.verdict);
                    }
                }
                Ok(())
            }
            Seen::Deadline(Deadline::Decided) => self.decided(view),
            _ => Ok(()),
        }
    }
}

impl Decided {
    pub(super) fn new(automatic: usize) -> Self {
        Self { automatic, certified: BTreeMap::new(), verified: BTreeSet::new(), said: BTreeMap::new() }
    }

    fn decided(&self, view: &View<'_>) -> Result<(), String> {
        let may_sit = |player: &Player| player.admission.body.roles.contains(mynet_types::Roles::VALIDATOR);
        let there = view.cast.players.iter().zip(view.hosts).filter(|(_, host)| !host.lost);
        let wanted = there.filter(|(player, _)| may_sit(player)).count();
        let seats = wanted.clamp(1, self.automatic);
        for (node, host) in view.hosts.iter().enumerate().filter(|(_, host)| !host.lost) {
            let store = &host.votes.store;
            let has = store.links().last().map_or(1, |link| link.roster.validators.len());
            // A liar that was found out does not come back by itself.
            let without_liar = store.evidence().next().is_some() && has == (wanted - 1).clamp(1, self.automatic);
            ensure(has == seats || without_liar || is_held_up(store.links(), view), || {
                format!("n{node} knows a roster of {has} seats, not {seats}")
            })?;
            let sits = store.links().last().is_some_and(|link| link.roster.seat_of(&host.id).is_some());
            let has_key = match store.links().last() {
                Some(link) => store.has_key_in(&link.roster),
                None => store.has_key_in(&view.cast.genesis.first_roster()),
            };
            ensure(!sits || has_key || view.cast.liar == Some(node), || {
                format!("n{node} has a seat and no key to vote with")
            })?;
        }
        if quorums(seats, &view.cast.genesis).is_none() {
            return Ok(());
        }
        let due = |work: &&Work| work.taken && !work.unproven && !view.hosts[work.node].lost && is_due(work, view);
        view.works.iter().filter(due).try_for_each(|work| {
            let value = work.value;
            // Wrong bytes are a no or nothing to whoever asks about bytes; the copies may be certified or not.
            let no = work.verified_asked && work.has_wrong_bytes();
            let expected = if work.bad { Verdict::Reject } else { Verdict::Accept };
            let found = self.certified.get(&(work.node, value));
            ensure(found == Some(&expected) || no && (found.is_some() || self.is_split(&value, view)), || {
                format!("{value} of n{} is {found:?}, not {expected:?}", work.node)
            })?;
            let shown = view.hosts[work.node].groups.store.row_of(&value).is_some();
            let due = work.verified_asked && shown && !no;
            ensure(!due || self.verified.contains(&(work.node, value)), || {
                format!("{value} of n{} has right bytes, and is not verified", work.node)
            })?;
            self.heads(work, view)
        })
    }

    /// Whether the newest roster can say neither yes nor no to a value before the epoch ends: some seats said yes to its copies,
    /// others hashed them and said no, and each stands by its word.
    fn is_split(&self, value: &ManifestHash, view: &View<'_>) -> bool {
        let there = view.hosts.iter().filter(|host| !host.lost);
        let newest = there.filter_map(|host| host.votes.store.links().last()).max_by_key(|link| link.roster.epoch);
        let Some(RosterLink { roster, .. }) = newest else { return false };
        let seats = roster.validators.len();
        let said = self.said.get(&(*value, roster.epoch));
        said.zip(quorums(seats, &view.cast.genesis))
            .is_some_and(|(said, quorums)| no_quorum_is_left(said, seats, quorums))
    }

    fn heads(&self, work: &Work, view: &View<'_>) -> Result<(), String> {
        let sound = work.heads.iter().take_while(|head| head.other.is_none() && !view.hosts[head.node].lost);
        sound.enumerate().try_for_each(|(version, head)| {
            ensure(!head.taken.is_empty(), || {
                format!("version {} of {} was never asked for", version + 2, work.value)
            })?;
            let manifest = &head.manifest.body;
            let mut later = work.heads.iter().skip(version + 1);
            // Once a later version was acked, validators vote for no earlier one. It may never be certified, if who proposed it
            // lies; the earlier one is, because the later one was built on it.
            let acked = |host: &Host| host.votes.store.newest_head(&manifest.group_id) > Some(manifest.version);
            if later.any(|later| view.files.contains_key(&later.value)) || view.hosts.iter().any(acked) {
                return ensure(view.files.contains_key(&head.value), || format!("{} has a successor only", head.value));
            }
            head.taken.iter().filter(|node| !view.hosts[**node].lost).try_for_each(|node| {
                let found = self.certified.get(&(*node, head.value));
                ensure(found == Some(&Verdict::Accept), || format!("{} of n{node}, a head, is {found:?}", head.value))
            })
        })
    }
}

/// Whether a value could be proposed at all: where it is replicated first, only after enough receipts.
fn is_due(work: &Work, view: &View<'_>) -> bool {
    let manifest = &work.publication.manifest.body;
    let store = &view.hosts[work.node].groups.store;
    let replicates = store.row_of(&manifest.hash()).is_some();
    !replicates || store.receipts(&manifest.hash()).count() >= usize::from(manifest.quorum)
}

/// Whether of so many seats too few can still say yes, and too few no.
fn no_quorum_is_left(said: &BTreeMap<u16, Verdict>, seats: usize, (accept, reject): (usize, usize)) -> bool {
    let [yes, no] =
        [Verdict::Accept, Verdict::Reject].map(|it| said.values().filter(|verdict| **verdict == it).count());
    seats - no < accept && seats - yes < reject
}

/// Whether the newest roster has a seat that is lost and goes on without it. It is not left out before `seat_patience` is over, and the
/// roster need not grow until then.
fn is_held_up(links: &[RosterLink], view: &View<'_>) -> bool {
    let Some(RosterLink { roster, .. }) = links.last() else { return false };
    let seats = roster.nodes().filter_map(|node| view.cast.index_of(&node));
    let lost = seats.filter(|node| view.hosts[*node].lost).count();
    let goes_on = quorums(roster.validators.len(), &view.cast.genesis)
        .is_some_and(|(accept, _)| roster.validators.len() - lost >= accept);
    lost > 0 && goes_on && u128::from(view.now) < Config::default().seat_patience.as_millis()
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Hashed;
    use mynet_types::{BoundedVec, NodeId, Roster, RosterLink, Validator, Verdict};

    use super::{super::stage::Stage, Checker, Deadline, Decided, Seen, is_held_up, no_quorum_is_left};

    #[test]
    fn a_value_is_split_only_if_no_quorum_is_left_for_either_word() {
        let said = |yes: u16, no: u16| {
            let seats = (0..yes).map(|seat| (seat, Verdict::Accept));
            seats.chain((yes..yes + no).map(|seat| (seat, Verdict::Reject))).collect()
        };
        // Four seats: three say yes, or three no.
        for (yes, no, split) in
            [(2, 2, true), (2, 1, false), (1, 2, false), (3, 1, false), (1, 3, false), (0, 0, false)]
        {
            assert_eq!(no_quorum_is_left(&said(yes, no), 4, (3, 3)), split, "{yes} yes and {no} no");
        }
    }

    #[test]
    fn a_roster_may_keep_a_lost_seat_as_long_as_it_goes_on_and_patience_lasts() {
        let mut stage = Stage::new();
        // The nodes of the stage, and one that is somewhere else.
        let roster = |stage: &Stage, nodes: &[usize]| {
            let link = stage.recovery().link();
            let seat = |node| Validator { node, ..link.roster.validators[0] };
            let known = nodes.iter().map(|index| seat(stage.cast.players[*index].id));
            let validators = BoundedVec::truncated(known.chain([seat(NodeId([9; 32]))]));
            [RosterLink { roster: Roster { validators, ..link.roster.clone() }, ..link }]
        };
        let of = |stage: &Stage, nodes: &[usize], now| is_held_up(&roster(stage, nodes), &stage.view_at(now));
        assert!(!of(&stage, &[0, 1, 2], 0), "nobody is lost");
        stage.hosts[2].lost = true;
        assert!(of(&stage, &[0, 1, 2], 899_999), "three of four are a quorum");
        assert!(!of(&stage, &[0, 1, 2], 900_000), "patience is over");
        assert!(!of(&stage, &[0, 1], 0), "the lost one has no seat");
        stage.hosts[1].lost = true;
        assert!(!of(&stage, &[0, 1, 2], 0), "two of four are none, and operators have to recover it");
    }

    #[test]
    fn a_value_without_a_decision_and_a_roster_that_did_not_grow_are_found() {
        let stage = Stage::new();
        let error = Decided::new(4).see(&Seen::Deadline(Deadline::Decided), &stage.view()).unwrap_err();
        assert!(error.contains("seats"), "{error}");
        let alone = Stage::alone();
        let error = Decided::new(4).see(&Seen::Deadline(Deadline::Decided), &alone.view()).unwrap_err();
        assert!(error.contains("not Accept"), "{error}");
    }

    #[test]
    fn right_bytes_that_are_not_verified_are_found() {
        let mut stage = Stage::of_bytes(Hashed::Right);
        stage.commit_on(0, Stage::stored());
        stage.receipts_on(0);
        let (mut checker, value) = (Decided::new(1), stage.view().works[0].value);
        checker.certified.insert((0, value), super::Verdict::Accept);
        let error = checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()).unwrap_err();
        assert!(error.contains("not verified"), "{error}");
        checker.verified.insert((0, value));
        assert_eq!(checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()), Ok(()));
    }

    #[test]
    fn a_head_without_a_decision_is_found_unless_its_owner_signed_two() {
        let mut stage = Stage::alone();
        let head = stage.add_head();
        let other = head.manifest.clone();
        let stage = stage.with_head(head);
        let mut checker = Decided::new(4);
        let work = &stage.view().works[0];
        checker.certified.insert((0, work.value), super::Verdict::Accept);
        let error = checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()).unwrap_err();
        assert!(error.contains("a head"), "{error}");
        let mut stage = Stage::alone();
        let head = crate::workload::Head { other: Some(other), ..stage.add_head() };
        let stage = stage.with_head(head);
        assert_eq!(checker.see(&Seen::Deadline(Deadline::Decided), &stage.view()), Ok(()));
    }
}
