//! G13: a reader is given one version of a group whole. No node shows the bytes of two versions as one; none shows a later
//! version than the first that no quorum acked; versions at one node never go down, and none is put in the place of another
//! value of its number. In a healed network the highest version that is certified where it was made is durable, whoever gave a
//! receipt for it or for one before shows it, and no draft is left open.
//!
//! That what is reported durable is held by W nodes, in that very version or a later one, is G4.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::Event as Told,
    node::io::Event,
    replication::io::{Event as Replicated, Record},
};
use mynet_types::{
    Claim, Domain, GroupId, ManifestHash, NodeId, Phase, Roster, Verdict, signing,
    vote::{head_slot, is_head},
};

use super::{Checker, Rejections, ensure, quorums};
use crate::{
    group_store::Row,
    observe::{Deadline, Seen, View, decision_in},
    workload::Work,
};

/// What each node showed.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// The version that each node shows of each group, and its value.
    shown: BTreeMap<(usize, GroupId), (u64, ManifestHash)>,
    /// Later versions whose acks were counted.
    certified: BTreeSet<ManifestHash>,
    /// What each node has a certificate for, and of what claim.
    claims: BTreeSet<(usize, ManifestHash, Claim)>,
    /// What was reported durable.
    durable: BTreeSet<ManifestHash>,
    rejected: Rejections,
    /// Which group a manifest is of that some node began to coordinate.
    groups: BTreeMap<ManifestHash, GroupId>,
    /// Who ever showed a group, in whatever version.
    holders: BTreeMap<GroupId, BTreeSet<NodeId>>,
}

impl Checker for Versions {
    fn invariant(&self) -> &'static str {
        "G13"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        self.rejected.see(seen);
        match seen {
            Seen::GroupsOnDisk { node, records } => {
                records.iter().for_each(|record| self.holder(*node, record, view));
                self.groups.extend(records.iter().filter_map(|record| match record {
                    Record::Begin(publication) => {
                        let manifest = &publication.manifest.body;
                        Some((manifest.hash(), manifest.group_id))
                    }
                    _ => None,
                }));
                let shows = |record: &Record| matches!(record, Record::Commit { .. });
                if records.iter().any(shows) { self.look(*node, view) } else { Ok(()) }
            }
            Seen::Sent { from, to, message } => {
                let Some(decision) = decision_in(message).filter(|decision| decision.body.commit) else {
                    return Ok(());
                };
                let by_itself = decision.body.coordinator == view.hosts[*from].id;
                let group = self.groups.get(&decision.body.manifest_hash).filter(|_| by_itself);
                ensure(group.is_none_or(|group| view.hosts[*from].groups.store.is_told(group, to)), || {
                    format!("n{from} tells {to} to commit, and has not written that down")
                })
            }
            Seen::DriverOnDisk { node, .. } => self.look(*node, view),
            Seen::Told { node, event: Event::Consensus(Told::Certified(file)) } => {
                let statement = &file.certificate.statement;
                if statement.verdict == Verdict::Accept {
                    self.claims.insert((*node, statement.value, statement.claim));
                }
                Ok(())
            }
            Seen::Told { event: Event::Replication(Replicated::Durable { manifest, .. }), .. } => {
                self.durable.insert(manifest.body.hash());
                Ok(())
            }
            Seen::Deadline(Deadline::Quiet) => each(view, |work| self.arrived(work, view)),
            Seen::Deadline(Deadline::Decided) => each(view, |work| self.decided(work, view)),
            _ => Ok(()),
        }
    }
}

/// Every group of which its owner alone asked for later versions, and that is not deleted.
fn each(view: &View<'_>, check: impl Fn(&Work) -> Result<(), String>) -> Result<(), String> {
    let asked = |work: &&Work| work.taken && !work.versions.is_empty() && work.rival_version.is_none();
    view.works.iter().filter(asked).try_for_each(check)
}

impl Versions {
    /// Looks at all that a node shows.
    fn look(&mut self, node: usize, view: &View<'_>) -> Result<(), String> {
        view.hosts[node].groups.store.rows().try_for_each(|row| {
            let manifest = &row.manifest.body;
            let (group, version) = (manifest.group_id, manifest.version);
            let before = self.shown.insert((node, group), (version, row.hash));
            if before == Some((version, row.hash)) {
                return Ok(());
            }
            let rises = before.is_none_or(|(lower, _)| lower < version);
            ensure(rises, || format!("n{node} shows version {version} of {group} after {before:?}"))?;
            is_whole(row).map_err(|state| format!("n{node} shows version {version} of {group} with a {state}"))?;
            if is_head(version) && !self.certified.contains(&row.hash) {
                is_acked(row, view).map_err(|why| format!("n{node} shows version {version} of {group}: {why}"))?;
                self.certified.insert(row.hash);
            }
            Ok(())
        })
    }

    /// Notes who shows a group, whether or not its coordinator ever heard of it.
    fn holder(&mut self, node: usize, record: &Record, view: &View<'_>) {
        let Record::Commit { receipt, .. } = record else { return };
        if let Some(row) = view.hosts[node].groups.store.row_of(&receipt.body.manifest_hash) {
            self.holders.entry(row.manifest.body.group_id).or_default().insert(receipt.body.holder);
        }
    }

    /// Whether a version came to all its holders, and to all who held one before.
    fn arrived(&self, work: &Work, view: &View<'_>) -> Result<(), String> {
        let group = work.publication.manifest.body.group_id;
        let store = &view.hosts[work.node].groups.store;
        let Some(row) = store.row(&group) else { return Ok(()) };
        let version = row.manifest.body.version;
        if self.rejected.are_known(work.node, &row.hash) {
            // Nobody takes it any more.
            return Ok(());
        }
        ensure(self.durable.contains(&row.hash), || format!("version {version} of {group} is not durable"))?;
        let holders = self.holders.get(&group).into_iter().flatten().filter_map(|holder| view.cast.index_of(holder));
        holders.into_iter().try_for_each(|holder| {
            let shows = view.hosts[holder].groups.store.row_of(&row.hash).is_some();
            ensure(shows, || format!("n{holder} held {group} and does not show version {version} of it"))
        })
    }

    /// Whether no version is left half certified where it was made.
    fn decided(&self, work: &Work, view: &View<'_>) -> Result<(), String> {
        let group = work.publication.manifest.body.group_id;
        let store = &view.hosts[work.node].groups.store;
        ensure(store.draft(&group).is_none(), || format!("n{} keeps a draft of {group}", work.node))?;
        let Some(row) = store.row(&group).filter(|row| is_head(row.manifest.body.version)) else { return Ok(()) };
        let claimed = |claim| self.claims.contains(&(work.node, row.hash, claim));
        ensure(claimed(Claim::Durable), || {
            format!("version {} of {group} is durable and not certified as that", row.manifest.body.version)
        })
    }
}

/// Whether every state that a row shows is that of its manifest; otherwise which is not.
fn is_whole(row: &Row) -> Result<(), String> {
    let named = row.manifest.body.blobs().filter(|(member, _)| row.held.contains(member.state));
    let named: BTreeMap<_, _> = named.map(|(member, blob)| (member.state, blob.sha256)).collect();
    let other = row.shown.iter().find(|(state, bytes)| named.get(state) != Some(bytes));
    let missing = named.keys().find(|state| !row.shown.contains_key(state));
    match other.map(|(state, _)| state).or(missing) {
        None => Ok(()),
        Some(state) => Err(format!("{state} state that is not its own")),
    }
}

/// Whether a quorum of a roster of the real chain acked what a row shows, counted and verified once more.
fn is_acked(row: &Row, view: &View<'_>) -> Result<(), String> {
    let Some(head) = &row.head else { return Err("nothing certifies it".to_owned()) };
    let (manifest, statement) = (&row.manifest.body, &head.statement);
    let slot = head_slot(&manifest.group_id, manifest.version);
    let about = (statement.value, statement.slot, statement.phase) == (row.hash, slot, Phase::Ack);
    ensure(about && statement.verdict == Verdict::Accept, || "what certifies it is about something else".to_owned())?;
    let first = view.cast.genesis.first_roster();
    let links = view.hosts.iter().flat_map(|host| host.votes.store.links().iter().map(|link| &link.roster));
    let roster = std::iter::once(&first).chain(links).find(|roster: &&Roster| roster.hash() == statement.roster);
    let Some(roster) = roster.filter(|roster| roster.epoch == statement.epoch) else {
        return Err("no chain has the roster that certifies it".to_owned());
    };
    let mut acked = BTreeSet::new();
    for (seat, signature) in head.signers.seats().zip(&head.signers.signatures) {
        let Some(validator) = roster.validators.get(seat) else { continue };
        let key = &validator.vote_key.0;
        if signing::verify_as(Domain::Vote, &view.cast.network, statement, key, signature).is_ok() {
            acked.insert(seat);
        }
    }
    let need = quorums(roster.validators.len(), &view.cast.genesis).map(|(accept, _)| accept);
    ensure(need.is_some_and(|need| acked.len() >= need), || format!("{} acks of {need:?}", acked.len()))
}

#[cfg(test)]
mod tests {
    use mynet_proto::replication::io::Record;
    use mynet_types::{ContentHash, ContentState, Phase, QuorumCertificate, SignerSet};

    use super::{super::stage::Stage, Checker, Deadline, Event, Seen, Told, Verdict, Versions};

    fn look(checker: &mut Versions, stage: &Stage, records: &[Record]) -> Result<(), String> {
        checker.see(&Seen::GroupsOnDisk { node: 1, records }, &stage.view())
    }

    #[test]
    fn a_later_version_without_the_acks_of_a_quorum_is_found() {
        let proper = |it: QuorumCertificate| Some(it);
        type Change = fn(QuorumCertificate) -> Option<QuorumCertificate>;
        let cases: [(Change, &str); 5] = [
            (proper, ""),
            (|_| None, "nothing certifies"),
            (|it| Some(QuorumCertificate { signers: SignerSet::collect([]), ..it }), "0 acks"),
            (
                |mut it| {
                    it.statement.phase = Phase::Vote;
                    Some(it)
                },
                "something else",
            ),
            (
                |mut it| {
                    it.statement.epoch = 7;
                    Some(it)
                },
                "no chain has",
            ),
        ];
        for (change, found) in cases {
            let mut stage = Stage::new();
            let second = stage.add_head();
            let head = change(stage.acks(second.value));
            let records = stage.commit_version_on(1, (2, &second.manifest), head);
            let seen = look(&mut Versions::default(), &stage, &records);
            match found {
                "" => assert_eq!(seen, Ok(())),
                found => assert!(seen.unwrap_err().contains(found)),
            }
        }
    }

    #[test]
    fn bytes_of_two_versions_shown_as_one_are_found() {
        for state in [None, Some(ContentState::Preview)] {
            let mut stage = Stage::new();
            let records = stage.commit_on(1, Stage::stored());
            let group = stage.manifest().body.group_id;
            if let Some(state) = state {
                stage.hosts[1].groups.store.shown_mut(&group).unwrap().insert(state, ContentHash([9; 32]));
            }
            let seen = look(&mut Versions::default(), &stage, &records);
            assert_eq!(seen.is_err(), state.is_some());
        }
    }

    #[test]
    fn a_version_that_goes_down_is_found() {
        let mut stage = Stage::new();
        let second = stage.add_head();
        let head = stage.acks(second.value);
        let mut checker = Versions::default();
        let records = stage.commit_version_on(1, (2, &second.manifest), Some(head));
        assert_eq!(look(&mut checker, &stage, &records), Ok(()));
        stage.forget_on(1);
        let records = stage.commit_on(1, Stage::stored());
        assert!(look(&mut checker, &stage, &records).unwrap_err().contains("version 1"));
    }

    #[test]
    fn a_version_that_is_not_durable_in_the_end_or_left_a_holder_behind_is_found() {
        let mut stage = Stage::new();
        stage.asks_for_versions();
        let ingested = stage.works_publication();
        stage.hosts[0].groups.store.ingest(&ingested);
        let mut checker = Versions::default();
        let deadline = Seen::Deadline(Deadline::Quiet);
        assert!(checker.see(&deadline, &stage.view()).unwrap_err().contains("not durable"));
        let mut file = stage.certificate();
        file.certificate.statement.verdict = Verdict::Reject;
        let (rejected, mut excused) = (Event::Consensus(Told::Certified(Box::new(file))), Versions::default());
        excused.see(&Seen::Told { node: stage.view().works[0].node, event: &rejected }, &stage.view()).unwrap();
        assert_eq!(excused.see(&deadline, &stage.view()), Ok(()), "nobody takes what is rejected");
        let durable = stage.durable_event();
        assert_eq!(checker.see(&Seen::Told { node: 0, event: &durable }, &stage.view()), Ok(()));
        assert_eq!(checker.see(&deadline, &stage.view()), Ok(()));
        for node in [1, 2] {
            let records = stage.commit_on(node, Stage::stored());
            checker.see(&Seen::GroupsOnDisk { node, records: &records }, &stage.view()).unwrap();
        }
        assert_eq!(checker.see(&deadline, &stage.view()), Ok(()));
        stage.forget_on(1);
        assert!(checker.see(&deadline, &stage.view()).unwrap_err().contains("does not show"));
    }

    #[test]
    fn a_draft_that_is_left_open_is_found() {
        let mut stage = Stage::new();
        stage.asks_for_versions();
        let ingested = stage.works_publication();
        stage.hosts[0].groups.store.ingest(&ingested);
        let deadline = Seen::Deadline(Deadline::Decided);
        assert_eq!(Versions::default().see(&deadline, &stage.view()), Ok(()));
        stage.draft_on(0);
        assert!(Versions::default().see(&deadline, &stage.view()).unwrap_err().contains("keeps a draft"));
    }
}
