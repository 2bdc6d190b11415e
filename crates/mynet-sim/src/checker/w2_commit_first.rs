//! W2: no storage receipt leaves any node before its holder's commit is on disk; and what a participant promises is on its
//! disk before it is promised.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::replication::io::Record;
use mynet_types::{ManifestHash, Message, ReplicationMessage, SignedReceipt, TxId};

use super::{Checker, ensure};
use crate::observe::{Seen, View, receipts_in};

/// What is on which disk.
#[derive(Debug, Default)]
pub(super) struct CommitFirst {
    /// Receipts whose holder has the group visibly on disk.
    commits: BTreeSet<Vec<u8>>,
    /// What each transaction is about.
    subjects: BTreeMap<TxId, ManifestHash>,
    intents: BTreeSet<(usize, TxId, u32)>,
    prepared: BTreeSet<(usize, TxId, u32)>,
}

/// A receipt as a key.
fn key(receipt: &SignedReceipt) -> Vec<u8> {
    mynet_types::codec::encode(receipt)
}

impl Checker for CommitFirst {
    fn invariant(&self) -> &'static str {
        "W2"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::GroupsOnDisk { node, records } => {
                records.iter().for_each(|record| self.keep(*node, record, view));
                Ok(())
            }
            Seen::Sent { from, message, .. } => {
                if let Message::Replication(ReplicationMessage::Prepare(prepare)) = message {
                    self.subjects.insert(prepare.tx, prepare.manifest.body.hash());
                }
                self.sent(*from, message, view)
            }
            _ => Ok(()),
        }
    }
}

impl CommitFirst {
    fn keep(&mut self, node: usize, record: &Record, view: &View<'_>) {
        match record {
            // A coordinator that is a holder itself has the group since it was ingested; its receipt is a record.
            // Or it had it until a later version took its place.
            Record::Receipts { group_id, manifest_hash, receipts } => {
                let host = &view.hosts[node];
                let (store, held) = (&host.groups.store, host.groups.store.held(manifest_hash));
                let replaced = store.row(group_id).is_some_and(|row| row.hash != *manifest_hash && row.tx.is_none());
                let own = receipts.iter().filter(|receipt| receipt.body.holder == host.id);
                self.commits.extend(own.filter(|own| replaced || held.covers(own.body.states)).map(key));
            }
            Record::Commit { receipt, .. } => {
                self.commits.insert(key(receipt));
            }
            Record::Intent(intent) => {
                self.intents.insert((node, intent.prepare.tx, intent.prepare.attempt));
            }
            Record::Prepared { tx, attempt, .. } => {
                self.prepared.insert((node, *tx, *attempt));
            }
            _ => {}
        }
    }

    /// Whether a node has the group of a transaction already, so that nothing is left to be prepared.
    fn holds(&self, node: usize, tx: &TxId, view: &View<'_>) -> bool {
        self.subjects.get(tx).is_some_and(|manifest| view.hosts[node].groups.store.row_of(manifest).is_some())
    }

    fn sent(&self, from: usize, message: &Message, view: &View<'_>) -> Result<(), String> {
        receipts_in(message).iter().try_for_each(|receipt| {
            ensure(self.commits.contains(&key(receipt)), || {
                let holder = view.cast.name(&receipt.body.holder);
                format!("n{from} passes on a receipt of {holder}, whose commit is on no disk")
            })
        })?;
        match message {
            Message::Replication(ReplicationMessage::PrepareOk { tx, attempt }) => {
                let ready = self.intents.contains(&(from, *tx, *attempt)) || self.holds(from, tx, view);
                ensure(ready, || format!("n{from} answers the prepare of {tx} before its intent is on disk"))
            }
            Message::Replication(ReplicationMessage::Prepared { tx, attempt, .. }) => {
                let ready = self.prepared.contains(&(from, *tx, *attempt)) || self.holds(from, tx, view);
                ensure(ready, || format!("n{from} says that {tx} is prepared before that is on disk"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, CommitFirst, Seen};

    #[test]
    fn a_receipt_that_leaves_before_its_commit_is_found() {
        let mut stage = Stage::new();
        let (receipt, prepared) = (stage.ack_message(1), stage.prepared_message());
        let mut checker = CommitFirst::default();
        assert!(checker.see(&stage.sent(1, &receipt), &stage.view()).is_err());
        assert!(checker.see(&stage.sent(1, &prepared), &stage.view()).is_err());
        let records = stage.commit_on(1, Stage::stored());
        assert_eq!(checker.see(&Seen::GroupsOnDisk { node: 1, records: &records }, &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(1, &receipt), &stage.view()), Ok(()));
        assert_eq!(checker.see(&stage.sent(1, &prepared), &stage.view()), Ok(()));
        assert!(checker.see(&stage.sent(2, &prepared), &stage.view()).is_err(), "on another node's disk");
    }
}
