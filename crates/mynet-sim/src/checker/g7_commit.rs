//! G7: a logged commit is never answered with an abort; and no commit is told before it is logged.

use std::collections::BTreeMap;

use mynet_proto::replication::io::Record;
use mynet_types::{Message, ReplicationMessage, TxId, wire::TxStatus};

use super::{Checker, ensure};
use crate::observe::{Seen, View, decision_in};

/// Which node logged which commit.
#[derive(Debug, Default)]
pub(super) struct Commits {
    logged: BTreeMap<TxId, usize>,
}

impl Checker for Commits {
    fn invariant(&self) -> &'static str {
        "G7"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::GroupsOnDisk { node, records } => {
                for record in *records {
                    if let Record::Decided(decided) = record {
                        self.logged.insert(decided.tx, *node);
                    }
                }
                Ok(())
            }
            Seen::Sent { from, message, .. } => self.sent(*from, message, view),
            _ => Ok(()),
        }
    }
}

impl Commits {
    fn sent(&self, from: usize, message: &Message, view: &View<'_>) -> Result<(), String> {
        if let Some(decision) = decision_in(message) {
            let (tx, coordinator) = (decision.body.tx, view.cast.index_of(&decision.body.coordinator));
            let logged = self.logged.get(&tx).copied();
            if decision.body.commit {
                ensure(logged == coordinator, || format!("n{from} tells the commit of {tx} before it is logged"))?;
            } else {
                ensure(logged.is_none(), || format!("n{from} tells an abort of {tx}, whose commit is logged"))?;
            }
        }
        if let Message::Replication(ReplicationMessage::Status { tx, status: TxStatus::Aborted, .. }) = message {
            let answers_own = self.logged.get(tx) == Some(&from);
            ensure(!answers_own, || format!("n{from} logged the commit of {tx} and answers that it was aborted"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Commits, Seen};

    #[test]
    fn a_commit_told_before_it_is_logged_and_an_abort_after_it_are_found() {
        let stage = Stage::new();
        let (commit, abort) = (stage.decision_message(1, true), stage.decision_message(1, false));
        let mut checker = Commits::default();
        assert!(checker.see(&stage.sent(0, &commit), &stage.view()).is_err());
        assert_eq!(checker.see(&stage.sent(0, &abort), &stage.view()), Ok(()));
        let records = [stage.decided(1)];
        assert_eq!(checker.see(&Seen::GroupsOnDisk { node: 0, records: &records }, &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(0, &commit), &stage.view()), Ok(()));
        assert!(checker.see(&stage.sent(0, &abort), &stage.view()).is_err());
        assert!(checker.see(&stage.sent(0, &stage.aborted_status(1)), &stage.view()).is_err());
        assert_eq!(checker.see(&stage.sent(1, &stage.aborted_status(1)), &stage.view()), Ok(()));
    }
}
