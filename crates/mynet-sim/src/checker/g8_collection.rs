//! G8: collecting, and dying, never takes the bytes of a visible group: every state that a row shows has its file, whole.

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Looks at rows and files of a node whenever either changes.
#[derive(Debug)]
pub(super) struct Collection;

impl Checker for Collection {
    fn invariant(&self) -> &'static str {
        "G8"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let (Seen::GroupsOnDisk { node, .. } | Seen::Collected(node) | Seen::Crashed(node)) = seen else {
            return Ok(());
        };
        let store = &view.hosts[*node].groups.store;
        store.rows().try_for_each(|row| {
            let lost = row.blobs().find(|blob| !store.files().has(blob));
            ensure(lost.is_none(), || {
                let group = row.manifest.body.group_id;
                format!("n{node} shows {group}, of which a file is not there")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Collection, Seen};

    #[test]
    fn a_visible_group_whose_file_is_gone_is_found() {
        let mut stage = Stage::new();
        stage.commit_on(1, Stage::stored());
        assert_eq!(Collection.see(&Seen::Collected(1), &stage.view()), Ok(()));
        stage.lose_files_on(1);
        assert!(Collection.see(&Seen::Collected(1), &stage.view()).is_err());
    }
}
