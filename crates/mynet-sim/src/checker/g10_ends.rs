//! G10: every transaction ends: a healed network brings every group to every holder that placement can name, and its
//! coordinator closes it. Of a group that validators rejected for its bytes nobody takes a copy any more, so it may stay open.

use super::{Checker, ensure};
use crate::{
    observe::{Deadline, Seen, View},
    workload::Work,
};

/// Looks at every coordinator when the bound has passed.
#[derive(Debug)]
pub(super) struct Ends;

impl Checker for Ends {
    fn invariant(&self) -> &'static str {
        "G10"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let Seen::Deadline(Deadline::Quiet) = seen else { return Ok(()) };
        let rejected = |work: &Work| work.verified_asked && work.has_wrong_bytes();
        view.works.iter().filter(|work| work.taken && !rejected(work)).try_for_each(|work| {
            let group = work.publication.manifest.body.group_id;
            let store = &view.hosts[work.node].groups.store;
            let seen = store.row(&group).map_or(work.value, |row| row.hash);
            let holders = store.receipts(&seen).count();
            let wanted = usize::from(work.publication.replicas);
            ensure(holders >= wanted.min(view.hosts.len()), || {
                format!("{group} of n{} has {holders} holders of {wanted}", work.node)
            })?;
            // With fewer nodes than copies wanted it stays open, for nodes still to come.
            ensure(store.has_ended(&group) || wanted > view.hosts.len(), || {
                format!("n{} never ends the transaction of {group}", work.node)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Deadline, Ends, Seen};

    #[test]
    fn a_transaction_without_an_end_is_found() {
        let mut stage = Stage::new();
        let deadline = Seen::Deadline(Deadline::Quiet);
        assert!(Ends.see(&deadline, &stage.view()).unwrap_err().contains("holders"));
        stage.receipts_on(0);
        assert!(Ends.see(&deadline, &stage.view()).unwrap_err().contains("never ends"));
        stage.end_on(0);
        assert_eq!(Ends.see(&deadline, &stage.view()), Ok(()));
    }
}
