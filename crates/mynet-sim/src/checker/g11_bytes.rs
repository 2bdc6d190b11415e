//! G11: bytes on disk are those of visible groups and of the staging of open transactions; what is neither waits for the
//! collector. Staging belongs to an open transaction, or to one whose first record is still being written.

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Looks at the files of a node whenever they change.
#[derive(Debug)]
pub(super) struct Bytes;

impl Checker for Bytes {
    fn invariant(&self) -> &'static str {
        "G11"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let (Seen::GroupsOnDisk { node, .. } | Seen::Collected(node)) = seen else { return Ok(()) };
        let store = &view.hosts[*node].groups.store;
        let pinned = store.pinned();
        let stray = store.files().names().find(|name| !pinned.contains(*name) && !store.files().is_doomed(name));
        ensure(stray.is_none(), || format!("n{node} keeps a file that neither a group nor a transaction needs"))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Bytes, Checker, Seen};

    #[test]
    fn a_file_that_nobody_needs_is_found() {
        let mut stage = Stage::new();
        stage.commit_on(1, Stage::stored());
        assert_eq!(Bytes.see(&Seen::Collected(1), &stage.view()), Ok(()));
        stage.stray_file_on(1);
        assert!(Bytes.see(&Seen::Collected(1), &stage.view()).is_err());
    }
}
