//! G10: every transaction ends: a healed network brings every group to every holder that placement can name, and its
//! coordinator closes it. Of a group that validators rejected for its bytes nobody takes a copy any more: its coordinator closes it
//! when it hears of that, unless the commit was logged before.

use super::{Checker, Rejections, ensure};
use crate::{
    observe::{Deadline, Seen, View},
    workload::Work,
};

/// Looks at every coordinator when the bound has passed.
#[derive(Debug, Default)]
pub(super) struct Ends {
    rejected: Rejections,
}

impl Checker for Ends {
    fn invariant(&self) -> &'static str {
        "G10"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        self.rejected.see(seen);
        let Seen::Deadline(Deadline::Quiet) = seen else { return Ok(()) };
        self.look_at_rejected(view)?;
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

impl Ends {
    /// Of what its coordinator knows to be rejected only a logged commit is open.
    fn look_at_rejected(&self, view: &View<'_>) -> Result<(), String> {
        view.works.iter().filter(|work| work.taken).try_for_each(|work| {
            let group = work.publication.manifest.body.group_id;
            let store = &view.hosts[work.node].groups.store;
            let open = store.lower_coordinated(&group, work.publication.manifest.body.version + 1) == Some(false);
            let rejected = self.rejected.are_known(work.node, &work.value);
            ensure(!(rejected && open), || format!("n{} goes on with the rejected {group}", work.node))
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::{consensus::io::Event as Told, node::io::Event};
    use mynet_types::Verdict;

    use super::{super::stage::Stage, Checker, Deadline, Ends, Seen};

    #[test]
    fn a_transaction_without_an_end_is_found() {
        let mut stage = Stage::new();
        let (mut ends, deadline) = (Ends::default(), Seen::Deadline(Deadline::Quiet));
        assert!(ends.see(&deadline, &stage.view()).unwrap_err().contains("holders"));
        stage.receipts_on(0);
        assert!(ends.see(&deadline, &stage.view()).unwrap_err().contains("never ends"));
        stage.end_on(0);
        assert_eq!(ends.see(&deadline, &stage.view()), Ok(()));
    }

    #[test]
    fn a_coordination_that_goes_on_after_a_rejection_is_found() {
        let mut stage = Stage::new();
        let (coordinator, deadline) = (stage.view().works[0].node, Seen::Deadline(Deadline::Quiet));
        stage.begin_on(coordinator);
        let mut file = stage.certificate();
        file.certificate.statement.verdict = Verdict::Reject;
        let event = Event::Consensus(Told::Certified(Box::new(file)));
        let told = |node| {
            let mut ends = Ends::default();
            ends.see(&Seen::Told { node, event: &event }, &stage.view()).unwrap();
            ends.see(&deadline, &stage.view()).unwrap_err()
        };
        assert!(told(coordinator).contains("goes on with the rejected"));
        assert!(told(coordinator + 1).contains("holders"), "its coordinator has not heard of it");
    }
}
