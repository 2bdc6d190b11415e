//! G12: what its owner deleted does not come back. Nothing of a group becomes visible on a node that keeps its tombstone; in a
//! healed network it is visible nowhere, and everybody who is to confirm has.

use mynet_proto::replication::io::Record;

use super::{Checker, ensure};
use crate::observe::{Deadline, Seen, View};

/// Looks at every store.
#[derive(Debug)]
pub(super) struct Deleted;

impl Checker for Deleted {
    fn invariant(&self) -> &'static str {
        "G12"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::GroupsOnDisk { node, records } => {
                let shows = |record: &&Record| matches!(record, Record::Commit { .. } | Record::Tombstone { .. });
                if records.iter().any(|record| shows(&record)) { shown_here(*node, view) } else { Ok(()) }
            }
            Seen::Deadline(Deadline::Quiet) => healed(view),
            _ => Ok(()),
        }
    }
}

/// Whether a node shows what it knows to be deleted.
fn shown_here(node: usize, view: &View<'_>) -> Result<(), String> {
    let store = &view.hosts[node].groups.store;
    let mut shown = store.rows().map(|row| &row.manifest.body);
    let back = shown.find(|manifest| store.is_deleted(&manifest.group_id, &manifest.owner));
    ensure(back.is_none(), || {
        format!("n{node} shows {}, whose tombstone it keeps", back.map_or_else(String::new, |m| m.group_id.to_string()))
    })
}

/// Whether anybody shows what anybody knows to be deleted, or has not confirmed it.
fn healed(view: &View<'_>) -> Result<(), String> {
    for (node, host) in view.hosts.iter().enumerate() {
        let silent = host.groups.store.silent();
        ensure(silent == 0, || format!("n{node} still waits for {silent} confirmations of deletions"))?;
        for tombstone in host.groups.store.tombstones() {
            let body = &tombstone.body;
            for (other, host) in view.hosts.iter().enumerate() {
                let mut rows = host.groups.store.rows().map(|row| &row.manifest.body);
                let shown = rows.any(|manifest| (manifest.group_id, manifest.owner) == (body.group_id, body.owner));
                ensure(!shown, || {
                    format!("n{other} still shows {}, which n{node} knows to be deleted", body.group_id)
                })?;
            }
        }
    }
    view.works.iter().filter(|work| work.deleted).try_for_each(|work| {
        let manifest = &work.publication.manifest.body;
        let kept = view.hosts[work.node].groups.store.is_deleted(&manifest.group_id, &manifest.owner);
        ensure(kept, || format!("n{} never deleted {}", work.node, manifest.group_id))
    })
}

#[cfg(test)]
mod tests {
    use mynet_proto::replication::io::Record;

    use super::{super::stage::Stage, Checker, Deadline, Deleted, Seen};

    #[test]
    fn a_holder_that_never_hears_of_it_is_found() {
        let mut stage = Stage::new();
        stage.commit_on(1, Stage::stored());
        let deadline = Seen::Deadline(Deadline::Quiet);
        assert_eq!(Deleted.see(&deadline, &stage.view()), Ok(()));
        stage.bury_on(0, &[]);
        assert!(Deleted.see(&deadline, &stage.view()).unwrap_err().contains("still shows"));
        stage.bury_on(1, &[]);
        assert_eq!(Deleted.see(&deadline, &stage.view()), Ok(()));
        stage.bury_on(0, &[1]);
        assert!(Deleted.see(&deadline, &stage.view()).unwrap_err().contains("confirmations"));
    }

    #[test]
    fn a_group_that_comes_back_after_its_tombstone_is_found() {
        let mut stage = Stage::new();
        let tombstone = stage.bury_on(1, &[]);
        let seen = Seen::GroupsOnDisk { node: 1, records: &tombstone };
        assert_eq!(Deleted.see(&seen, &stage.view()), Ok(()));
        let commit = stage.commit_on(1, Stage::stored());
        assert!(matches!(commit[..], [Record::Commit { .. }] | [_, .., Record::Commit { .. }]));
        let seen = Seen::GroupsOnDisk { node: 1, records: &commit };
        assert!(Deleted.see(&seen, &stage.view()).unwrap_err().contains("whose tombstone"));
    }
}
