//! G3: a transaction has one outcome: a coordinator never signs a commit and an abort of one attempt, and a participant never
//! commits and aborts one attempt. For honest coordinators. What became of a version goes with it when a later one takes its
//! place: a late prepare of it is refused like that of one never seen.

use std::collections::BTreeMap;

use mynet_proto::replication::io::Record;
use mynet_types::{GroupId, SignedDecision, TxId};

use super::{Checker, ensure};
use crate::observe::{Seen, View, decision_in};

/// Decisions on disk and on the wire, and what participants made of them.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// What was signed, by transaction and attempt.
    signed: BTreeMap<(TxId, u32), bool>,
    /// How a participant ended an attempt: true for commit.
    ended: BTreeMap<(usize, TxId, u32), bool>,
    /// Which version each transaction is about.
    about: BTreeMap<TxId, (GroupId, u64)>,
}

impl Checker for Outcomes {
    fn invariant(&self) -> &'static str {
        "G3"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::GroupsOnDisk { node, records } => {
                records.iter().try_for_each(|record| self.record(*node, record, view))
            }
            Seen::Sent { message, .. } => decision_in(message).map_or(Ok(()), |decision| self.decision(decision, view)),
            _ => Ok(()),
        }
    }
}

impl Outcomes {
    fn record(&mut self, node: usize, record: &Record, view: &View<'_>) -> Result<(), String> {
        match record {
            Record::Decided(decided) => {
                decided.decisions.iter().try_for_each(|(_, decision)| self.decision(decision, view))
            }
            Record::Intent(intent) => {
                let manifest = &intent.prepare.manifest.body;
                self.about.insert(intent.prepare.tx, (manifest.group_id, manifest.version));
                Ok(())
            }
            Record::Commit { tx, attempt, .. } => self.end(node, (*tx, *attempt), true),
            Record::Abort { tx, .. } if self.is_replaced(node, tx, view) => Ok(()),
            Record::Abort { tx, attempt } => self.end(node, (*tx, *attempt), false),
            _ => Ok(()),
        }
    }

    /// Whether a node shows a later version than a transaction is about.
    fn is_replaced(&self, node: usize, tx: &TxId, view: &View<'_>) -> bool {
        let Some((group, version)) = self.about.get(tx) else { return false };
        view.hosts[node].groups.store.row(group).is_some_and(|row| row.manifest.body.version > *version)
    }

    fn end(&mut self, node: usize, (tx, attempt): (TxId, u32), commit: bool) -> Result<(), String> {
        let known = *self.ended.entry((node, tx, attempt)).or_insert(commit);
        ensure(known == commit, || format!("n{node} both commits and aborts {tx} attempt {attempt}"))
    }

    /// A decision that its coordinator did not sign decides nothing.
    fn decision(&mut self, decision: &SignedDecision, view: &View<'_>) -> Result<(), String> {
        let body = &decision.body;
        let known = *self.signed.entry((body.tx, body.attempt)).or_insert(body.commit);
        let signed = known == body.commit || decision.verify(&view.cast.network).is_err();
        ensure(signed, || format!("{} attempt {} is decided both ways", body.tx, body.attempt))
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Outcomes};

    #[test]
    fn two_outcomes_of_one_attempt_are_found() {
        let stage = Stage::new();
        let mut checker = Outcomes::default();
        assert_eq!(checker.decision(&stage.decision(1, true), &stage.view()), Ok(()));
        assert!(checker.decision(&stage.decision(1, false), &stage.view()).is_err());
        let tx = stage.decision(1, true).body.tx;
        assert_eq!(checker.end(1, (tx, 1), true), Ok(()));
        assert_eq!(checker.end(1, (tx, 2), false), Ok(()));
        assert!(checker.end(1, (tx, 1), false).is_err());
    }
}
