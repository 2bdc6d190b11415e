//! G2: whatever is visible on a participant was decided: its coordinator's commit of that transaction was on disk before. Whoever
//! is prepared later than the log gets a decision all the same.

use std::collections::BTreeSet;

use mynet_proto::replication::io::Record;
use mynet_types::TxId;

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Commits on a coordinator's disk.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    logged: BTreeSet<TxId>,
}

impl Checker for Decisions {
    fn invariant(&self) -> &'static str {
        "G2"
    }

    fn see(&mut self, seen: &Seen<'_>, _view: &View<'_>) -> Result<(), String> {
        let Seen::GroupsOnDisk { node, records } = seen else { return Ok(()) };
        records.iter().try_for_each(|record| match record {
            Record::Decided(decided) => {
                self.logged.insert(decided.tx);
                let mut decisions = decided.decisions.iter().map(|(_, decision)| &decision.body);
                ensure(decisions.all(|body| body.commit && body.tx == decided.tx), || {
                    format!("{} is logged as decided with something else", decided.tx)
                })
            }
            Record::Commit { tx, attempt, .. } => ensure(self.logged.contains(tx), || {
                format!("n{node} made {tx} attempt {attempt} visible without a logged commit")
            }),
            _ => Ok(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Decisions, Seen};

    #[test]
    fn a_commit_nobody_logged_is_found() {
        let mut stage = Stage::new();
        let commit = stage.commit_on(1, Stage::stored());
        let decided = [stage.decided(1)];
        let mut checker = Decisions::default();
        let logged = Seen::GroupsOnDisk { node: 0, records: &decided };
        assert_eq!(checker.see(&logged, &stage.view()), Ok(()));
        let visible = Seen::GroupsOnDisk { node: 1, records: &commit };
        assert_eq!(checker.see(&visible, &stage.view()), Ok(()));
        assert!(Decisions::default().see(&visible, &stage.view()).is_err());
    }
}
