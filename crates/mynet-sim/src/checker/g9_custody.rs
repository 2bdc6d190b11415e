//! G9: no node holds the decrypted state, or what makes it, without the owner's grant.
//!
//! The model taints: a store that staged the decrypted state is looked at with the owner's grants, not with the core's.

use mynet_types::ContentState;

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Looks at the store of a node whenever it changes.
#[derive(Debug)]
pub(super) struct Custody;

impl Checker for Custody {
    fn invariant(&self) -> &'static str {
        "G9"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let Seen::GroupsOnDisk { node, .. } = seen else { return Ok(()) };
        let host = &view.hosts[*node];
        view.works.iter().filter(|work| work.taken && work.node != *node).try_for_each(|work| {
            let manifest = &work.publication.manifest.body;
            let tainted = host.groups.store.holds_decrypted(&manifest.group_id);
            ensure(!tainted || work.grants(&host.id), || {
                format!("n{node} holds the {} state of {} ungranted", ContentState::Decrypted, manifest.group_id)
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::ContentState;

    use super::{super::stage::Stage, Checker, Custody, Seen};

    #[test]
    fn plaintext_on_a_node_that_was_not_granted_is_found() {
        let mut stage = Stage::new();
        let records = stage.commit_on(1, Stage::stored());
        assert_eq!(Custody.see(&Seen::GroupsOnDisk { node: 1, records: &records }, &stage.view()), Ok(()));
        let records = stage.commit_on(2, Stage::stored().with(ContentState::Decrypted));
        assert!(Custody.see(&Seen::GroupsOnDisk { node: 2, records: &records }, &stage.view()).is_err());
    }
}
