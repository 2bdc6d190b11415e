//! Rare situations of later versions.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{node::io::Input, replication::io::Record};
use mynet_types::{GroupId, ManifestHash, Message, ReplicationMessage, TxId, vote::is_head, wire::RefuseReason};

use super::Watch;
use crate::{
    group_store::lineages::DriverWrite,
    observe::{Seen, View},
    sometimes::{Counts, Rare},
};

/// What was seen of versions.
#[derive(Debug, Default)]
pub(super) struct Versions {
    /// Drafts that were certified at a node that died before it showed them.
    certified_at_death: BTreeSet<(usize, ManifestHash)>,
    /// The version of each group that its coordinator published last.
    begun: BTreeMap<(usize, GroupId), u64>,
    /// Transactions of versions lower than the one shown where they were asked for.
    late: BTreeSet<(usize, TxId)>,
}

impl Watch {
    /// Looks at one thing that happened.
    pub(super) fn see_versions(&mut self, seen: &Seen<'_>, view: &View<'_>, counts: &mut Counts) {
        match seen {
            Seen::Crashed(node) => {
                let store = &view.hosts[*node].groups.store;
                let drafts = store.with_lineage().filter_map(|group| store.draft(group));
                let values = drafts.map(|draft| (*node, draft.manifest.body.hash()));
                let certified: Vec<_> = values.filter(|name| self.certified.contains(name)).collect();
                self.versions.certified_at_death.extend(certified);
            }
            Seen::DriverOnDisk { node, write: DriverWrite::Install(file), useful: true }
                if self.versions.certified_at_death.contains(&(*node, file.certificate.statement.value)) =>
            {
                counts.met(Rare::InstallAfterCrash);
            }
            Seen::Given { node, input: Input::Message { message, .. } } => {
                let Message::Replication(ReplicationMessage::Prepare(prepare)) = message else { return };
                if view.hosts[*node].groups.store.not_older(&prepare.manifest.body).is_some() {
                    self.versions.late.insert((*node, prepare.tx));
                }
            }
            Seen::Sent {
                from,
                message: Message::Replication(ReplicationMessage::PrepareNo { tx, reason, .. }),
                ..
            } if *reason == RefuseReason::Superseded && self.versions.late.remove(&(*from, *tx)) => {
                counts.met(Rare::LowerVersionRefused);
            }
            Seen::Writing { node, records } => {
                records.iter().for_each(|record| self.versions.writing(*node, record, view, counts));
            }
            Seen::GroupsOnDisk { node, records } => {
                let commits = records.iter().filter_map(|record| match record {
                    Record::Commit { receipt, .. } => {
                        view.hosts[*node].groups.store.row_of(&receipt.body.manifest_hash)
                    }
                    _ => None,
                });
                commits.filter(|row| row.manifest.body.version > 2).for_each(|_| counts.met(Rare::ThirdVersionHeld));
                let store = &view.hosts[*node].groups.store;
                let late = |record: &&Record| match record {
                    Record::Receipts { group_id, manifest_hash, .. } => {
                        store.row(group_id).is_some_and(|row| row.tx.is_none() && row.hash != *manifest_hash)
                            && store.knows(group_id, manifest_hash)
                    }
                    _ => false,
                };
                records.iter().filter(late).for_each(|_| counts.met(Rare::ReceiptAfterItsVersion));
            }
            _ => {}
        }
    }
}

impl Versions {
    fn writing(&mut self, node: usize, record: &Record, view: &View<'_>, counts: &mut Counts) {
        let store = &view.hosts[node].groups.store;
        match record {
            Record::Begin(publication) => {
                let manifest = &publication.manifest.body;
                let before = self.begun.insert((node, manifest.group_id), manifest.version);
                if is_head(manifest.version) && before.is_some_and(|before| before < manifest.version) {
                    counts.met(match store.lower_coordinated(&manifest.group_id, manifest.version) {
                        None => Rare::HigherVersionReplacesFinished,
                        Some(false) => Rare::HigherVersionReplacesPreparing,
                        Some(true) => Rare::HigherVersionReplacesCommitted,
                    });
                }
            }
            Record::Abort { tx, .. } => {
                let Some((_, given_up)) = store.intents().find(|(open, _)| *open == tx) else { return };
                let of = |intent: &mynet_proto::replication::io::Intent| {
                    (intent.prepare.manifest.body.group_id, intent.prepare.manifest.body.version)
                };
                let (group, version) = of(given_up);
                if store.prepared().map(of).any(|(other, higher)| other == group && higher > version) {
                    counts.met(Rare::LowerVersionGivenUp);
                }
            }
            Record::Tombstone { tombstone, .. } => {
                let group = tombstone.body.group_id;
                if store.draft(&group).is_some() {
                    counts.met(Rare::DraftDeleted);
                }
                let begun = self.begun.get(&(node, group)).copied();
                if begun.is_some_and(is_head) && !store.has_ended(&group) {
                    counts.met(Rare::VersionDeletedMeanwhile);
                }
            }
            _ => {}
        }
    }
}
