//! G1: no reader sees a partial group: whatever is visible on a node has every state that the node must hold.

use mynet_proto::replication::io::Record;

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Looks at the rows of a node whenever they change.
#[derive(Debug)]
pub(super) struct Partial;

impl Checker for Partial {
    fn invariant(&self) -> &'static str {
        "G1"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let Seen::GroupsOnDisk { node, records } = seen else { return Ok(()) };
        if !records.iter().any(|record| matches!(record, Record::Commit { .. })) {
            return Ok(());
        }
        let store = &view.hosts[*node].groups.store;
        for record in *records {
            let Record::Commit { receipt, .. } = record else { continue };
            let held = store.held(&receipt.body.manifest_hash);
            ensure(held.covers(receipt.body.states), || {
                format!("n{node} signs for {:?} of a group of which it holds {held:?}", receipt.body.states)
            })?;
        }
        store.rows().try_for_each(|row| {
            ensure(row.held.covers(row.required), || {
                let group = row.manifest.body.group_id;
                format!("n{node} shows {group} with {:?}, it must hold {:?}", row.held, row.required)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{ContentState, StatesMask, TxId};

    use super::{super::stage::Stage, Checker, Partial, Record, Seen};
    use crate::disk::Store;

    #[test]
    fn a_visible_group_without_its_preview_is_found() {
        for (staged, fails) in [(StatesMask::EMPTY.with(ContentState::Encrypted), true), (Stage::stored(), false)] {
            let mut stage = Stage::new();
            let records = stage.commit_on(1, staged);
            let seen = Seen::GroupsOnDisk { node: 1, records: &records };
            assert_eq!(Partial.see(&seen, &stage.view()).is_err(), fails);
        }
    }

    #[test]
    fn a_second_manifest_of_a_visible_group_is_refused_by_the_store() {
        let mut stage = Stage::new();
        let mut records = stage.commit_on(1, Stage::stored());
        let [Record::Intent(intent), Record::Prepared { tx: prepared, .. }, Record::Commit { tx, receipt, .. }] =
            &mut records[..]
        else {
            panic!("a whole transaction");
        };
        (intent.prepare.tx, *prepared, *tx) = (TxId([2; 32]), TxId([2; 32]), TxId([2; 32]));
        intent.prepare.manifest.body.replicas += 1;
        receipt.body.manifest_hash = intent.prepare.manifest.body.hash();
        let store = &mut stage.hosts[1].groups.store;
        let refused = records.iter().map(|record| store.apply(record)).find(Result::is_err);
        assert!(refused.is_some_and(|error| error.unwrap_err().contains("is visible")));
    }
}
