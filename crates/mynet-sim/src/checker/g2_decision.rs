//! G2 and G3: whatever is visible was decided, and a transaction has one outcome.
//!
//! A commit on a participant needs the coordinator's logged commit of that transaction; whoever is prepared later than the
//! log gets a decision all the same. A coordinator never signs a commit and an abort of one attempt, and a participant
//! never commits and aborts one attempt.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::replication::io::Record;
use mynet_types::{SignedDecision, TxId};

use super::{Checker, ensure};
use crate::observe::{Seen, View, decision_in};

/// Decisions on disk and on the wire, and what participants made of them.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// Commits on a coordinator's disk.
    logged: BTreeSet<TxId>,
    /// What was signed, by transaction and attempt.
    signed: BTreeMap<(TxId, u32), bool>,
    /// How a participant ended an attempt: true for commit.
    ended: BTreeMap<(usize, TxId, u32), bool>,
}

impl Checker for Decisions {
    fn invariant(&self) -> &'static str {
        "G2/G3"
    }

    fn see(&mut self, seen: &Seen<'_>, _view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::GroupsOnDisk { node, records } => records.iter().try_for_each(|record| self.record(*node, record)),
            Seen::Sent { message, .. } => decision_in(message).map_or(Ok(()), |decision| self.decision(decision)),
            _ => Ok(()),
        }
    }
}

impl Decisions {
    fn record(&mut self, node: usize, record: &Record) -> Result<(), String> {
        match record {
            Record::Decided(decided) => {
                self.logged.insert(decided.tx);
                decided.decisions.iter().try_for_each(|(_, decision)| {
                    let commits = decision.body.commit && decision.body.tx == decided.tx;
                    ensure(commits, || format!("{} is logged as decided with something else", decided.tx))?;
                    self.decision(decision)
                })
            }
            Record::Commit { tx, attempt, .. } => {
                ensure(self.logged.contains(tx), || {
                    format!("n{node} made {tx} attempt {attempt} visible without a logged commit")
                })?;
                self.end(node, (*tx, *attempt), true)
            }
            Record::Abort { tx, attempt } => self.end(node, (*tx, *attempt), false),
            _ => Ok(()),
        }
    }

    fn end(&mut self, node: usize, (tx, attempt): (TxId, u32), commit: bool) -> Result<(), String> {
        let known = *self.ended.entry((node, tx, attempt)).or_insert(commit);
        ensure(known == commit, || format!("n{node} both commits and aborts {tx} attempt {attempt}"))
    }

    fn decision(&mut self, decision: &SignedDecision) -> Result<(), String> {
        let body = &decision.body;
        let known = *self.signed.entry((body.tx, body.attempt)).or_insert(body.commit);
        ensure(known == body.commit, || format!("{} attempt {} is decided both ways", body.tx, body.attempt))
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

    #[test]
    fn two_outcomes_of_one_attempt_are_found() {
        let stage = Stage::new();
        let mut checker = Decisions::default();
        assert_eq!(checker.decision(&stage.decision(1, true)), Ok(()));
        assert!(checker.decision(&stage.decision(1, false)).is_err());
        let tx = stage.decision(1, true).body.tx;
        assert_eq!(checker.end(1, (tx, 1), true), Ok(()));
        assert_eq!(checker.end(1, (tx, 2), false), Ok(()));
        assert!(checker.end(1, (tx, 1), false).is_err());
    }
}
