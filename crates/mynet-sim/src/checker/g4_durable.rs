//! G4: when a group version is reported durable, at least W distinct nodes hold it durably and visibly, or a later one that took
//! its place, and gave receipts for this very version; in mode `all` every wanted copy exists. In a healed network every group
//! becomes durable within the bound, but for one that validators rejected first: of that nobody takes a copy any more.

use std::collections::BTreeSet;

use mynet_proto::{
    node::io::Event,
    replication::io::{Event as Told, Mode},
};
use mynet_types::{GroupId, SignedManifest, wire::Receipts};

use super::{Checker, Rejections, ensure};
use crate::observe::{Deadline, Seen, View};

/// Groups reported durable, in whatever version: one may take the place of another before that is.
#[derive(Debug, Default)]
pub(super) struct Durable {
    reported: BTreeSet<GroupId>,
    rejected: Rejections,
}

impl Checker for Durable {
    fn invariant(&self) -> &'static str {
        "G4"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        self.rejected.see(seen);
        match seen {
            Seen::Told { node, event: Event::Replication(Told::Durable { manifest, receipts, .. }) } => {
                self.reported.insert(manifest.body.group_id);
                holds(*node, manifest, receipts, view)
            }
            Seen::Deadline(Deadline::Durable) => view.works.iter().filter(|work| work.taken).try_for_each(|work| {
                let group = work.publication.manifest.body.group_id;
                let ended = self.reported.contains(&group) || self.rejected.are_known(work.node, &work.value);
                ensure(ended, || format!("{group} of n{} is not durable", work.node))
            }),
            _ => Ok(()),
        }
    }
}

/// Whether the report is true at this moment.
fn holds(node: usize, manifest: &SignedManifest, receipts: &Receipts, view: &View<'_>) -> Result<(), String> {
    let (hash, group) = (manifest.body.hash(), manifest.body.group_id);
    let holders: BTreeSet<usize> =
        receipts.iter().filter_map(|receipt| view.cast.index_of(&receipt.body.holder)).collect();
    let other = receipts.iter().find(|receipt| receipt.body.manifest_hash != hash);
    ensure(other.is_none(), || format!("n{node} says that {group} is durable by a receipt for another version"))?;
    let shows = |holder: &usize| view.hosts[*holder].groups.store.shows_or_later(&manifest.body);
    let visible = holders.iter().filter(|holder| shows(holder)).count();
    let work = view.works.iter().find(|work| work.publication.manifest.body.group_id == group);
    let joined = view.hosts.iter().filter(|host| host.joined).count();
    let need = match work.map(|work| (work.publication.mode, work.publication.replicas)) {
        // Every holder that placement can name: no more than there are nodes.
        Some((Mode::All, replicas)) => usize::from(replicas).min(joined).max(usize::from(manifest.body.quorum)),
        Some((Mode::Quorum, _)) | None => usize::from(manifest.body.quorum),
    };
    ensure(visible >= need, || format!("n{node} says that {group} is durable with {visible} copies of {need}"))?;
    let store = &view.hosts[node].groups.store;
    if store.row(&group).is_some_and(|row| row.manifest.body.version > manifest.body.version) {
        // Receipts of a version go with it.
        return Ok(());
    }
    let on_disk: BTreeSet<usize> =
        store.receipts(&hash).filter_map(|receipt| view.cast.index_of(&receipt.body.holder)).collect();
    ensure(on_disk.len() >= need, || {
        format!("n{node} says that {group} is durable with {} receipts on disk of {need}", on_disk.len())
    })
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Event as Said;
    use mynet_types::Verdict;

    use super::{super::stage::Stage, Checker, Deadline, Durable, Event, Seen};

    #[test]
    fn a_report_of_durability_without_w_visible_copies_is_found() {
        let mut stage = Stage::new();
        let event = stage.durable_event();
        let told = |stage: &Stage| Durable::default().see(&Seen::Told { node: 0, event: &event }, &stage.view());
        assert!(told(&stage).unwrap_err().contains("0 copies"));
        stage.commit_on(1, Stage::stored());
        stage.commit_on(2, Stage::stored());
        assert!(told(&stage).unwrap_err().contains("receipts on disk"));
        stage.receipts_on(0);
        assert_eq!(told(&stage), Ok(()));
    }

    #[test]
    fn a_group_that_never_becomes_durable_is_found() {
        let stage = Stage::new();
        assert!(Durable::default().see(&Seen::Deadline(Deadline::Durable), &stage.view()).is_err());
    }

    #[test]
    fn a_group_that_was_rejected_first_need_not_become_durable() {
        let stage = Stage::new();
        let (coordinator, other) = (stage.view().works[0].node, stage.view().works[0].node + 1);
        for (node, verdict, excused) in [
            (coordinator, Verdict::Reject, true),
            (coordinator, Verdict::Accept, false),
            (other, Verdict::Reject, false),
        ] {
            let mut file = stage.certificate();
            file.certificate.statement.verdict = verdict;
            let (mut checker, event) = (Durable::default(), Event::Consensus(Said::Certified(Box::new(file))));
            checker.see(&Seen::Told { node, event: &event }, &stage.view()).unwrap();
            let ended = checker.see(&Seen::Deadline(Deadline::Durable), &stage.view());
            assert_eq!(ended.is_ok(), excused, "n{node} {verdict:?}");
        }
    }
}
