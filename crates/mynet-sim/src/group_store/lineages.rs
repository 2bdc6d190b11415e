//! The driver's own part of the store: how versions of a group follow each other, written beside the batches of the core.
//!
//! A draft is shown to nobody; with its certificate it takes the place of the version that is seen, in one local transaction.

use std::collections::BTreeSet;

use mynet_proto::replication::io::{Head, Publication};
use mynet_types::{
    BoundedVec, CertificateFile, ContentHash, GroupId, HeadProof, Manifest, ManifestHash, NodeId, SignedManifest,
};

use super::{GroupStore, Row};

/// How the versions of one group follow each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lineage {
    /// What made the version here the one of its number; none for the first. Who holds an earlier one is kept apart.
    head: Option<Head>,
    draft: Option<Draft>,
}

/// A version that is being certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) manifest: SignedManifest,
    /// The version here.
    pub(crate) previous: HeadProof,
}

/// One local transaction of the driver.
#[derive(Debug, Clone)]
pub(crate) enum DriverWrite {
    /// The next version, and the pins of what is new in it.
    Draft(Box<Draft>),
    /// The draft with this certificate takes the place of the version here.
    Install(Box<CertificateFile>),
    /// The draft of this value can never be.
    Drop { group_id: GroupId, value: ManifestHash },
}

impl DriverWrite {
    /// The group that it is about.
    pub(crate) fn group_id(&self) -> GroupId {
        match self {
            Self::Draft(draft) => draft.manifest.body.group_id,
            Self::Install(file) => file.manifest.body.group_id,
            Self::Drop { group_id, .. } => *group_id,
        }
    }
}

impl GroupStore {
    /// Writes one local transaction of the driver. Says whether it was of use: a group that was deleted meanwhile, or a draft
    /// that is not there any more, is left alone.
    pub(crate) fn write(&mut self, write: &DriverWrite) -> bool {
        match write {
            DriverWrite::Draft(draft) => self.keep_draft(draft),
            DriverWrite::Install(file) => self.install(file),
            DriverWrite::Drop { group_id, value } => self.drop_draft(group_id, value),
        }
    }

    /// The draft of a group.
    pub(crate) fn draft(&self, group: &GroupId) -> Option<&Draft> {
        self.lineages.get(group)?.draft.as_ref()
    }

    /// Groups ingested here that have, or are to have, later versions.
    pub(crate) fn with_lineage(&self) -> impl Iterator<Item = &GroupId> {
        self.lineages.keys()
    }

    /// The version of a group that is seen here, as it is published.
    pub(crate) fn publication(&self, group: &GroupId) -> Option<Publication> {
        let manifest = self.rows.get(group)?.manifest.clone();
        let head = self.lineages.get(group).and_then(|lineage| lineage.head.clone());
        let version = manifest.body.version;
        let earlier = self.told.get(group).into_iter().flatten().filter(|(_, first)| **first < version);
        let holders = BoundedVec::truncated(earlier.map(|(node, _)| *node));
        let head = head.map(|head| Head { holders, ..head });
        Some(Publication { manifest, head, ..self.origins.get(group)?.clone() })
    }

    /// Every node that gave a receipt for the version here, or was told to commit one.
    pub(crate) fn ever_held(&self, group: &GroupId) -> BTreeSet<NodeId> {
        let here = self.rows.get(group).into_iter().flat_map(|row| self.receipts(&row.hash));
        let told = self.told.get(group).into_iter().flat_map(|told| told.keys().copied());
        here.map(|receipt| receipt.body.holder).chain(told).collect()
    }

    /// These are told to commit a version of a group; the first one stays.
    pub(super) fn tell(&mut self, group: GroupId, version: u64, nodes: &[NodeId]) {
        if self.rows.contains_key(&group) {
            let told = self.told.entry(group).or_default();
            nodes.iter().for_each(|node| {
                told.entry(*node).or_insert(version);
            });
        }
    }

    /// Whether it is on disk that a node is told to commit a group.
    pub(crate) fn is_told(&self, group: &GroupId, node: &NodeId) -> bool {
        self.told.get(group).is_some_and(|told| told.contains_key(node))
    }

    #[cfg(test)]
    pub(crate) fn shown_mut(
        &mut self,
        group: &GroupId,
    ) -> Option<&mut std::collections::BTreeMap<mynet_types::ContentState, ContentHash>> {
        self.rows.get_mut(group).map(|row| &mut row.shown)
    }

    /// Blobs that drafts need.
    pub(super) fn of_drafts(&self) -> impl Iterator<Item = ContentHash> {
        let drafts = self.lineages.values().filter_map(|lineage| lineage.draft.as_ref());
        drafts.flat_map(|draft| draft.manifest.body.blobs().map(|(_, blob)| blob.sha256))
    }

    /// The visible version that `manifest` may not take the place of: another one of a version as high.
    pub(crate) fn not_older(&self, manifest: &Manifest) -> Option<&Row> {
        let other = self.rows.get(&manifest.group_id).filter(|row| row.hash != manifest.hash())?;
        let newer = other.manifest.body.version >= manifest.version;
        (newer && !mynet_types::planted!(LowerVersionTakes)).then_some(other)
    }

    /// A version becomes visible, in the place of another one whole. What was proved of that goes with it.
    pub(super) fn show(&mut self, row: Row) {
        let group_id = row.manifest.body.group_id;
        let Some(old) = self.rows.insert(group_id, row).filter(|old| self.rows[&group_id].hash != old.hash) else {
            return;
        };
        self.receipts.remove(&old.hash);
        self.committed.retain(|_, (_, group, _)| *group != group_id);
        if mynet_types::planted!(OldPreviewShown)
            && let Some(row) = self.rows.get_mut(&group_id)
        {
            row.shown.extend(old.shown.clone());
        }
        self.doom_unpinned(old.blobs().map(|blob| blob.sha256));
    }

    fn doom_unpinned(&mut self, blobs: impl Iterator<Item = ContentHash>) {
        let pinned = self.pinned();
        self.files.doom(blobs.filter(|blob| !pinned.contains(blob)));
    }

    fn keep_draft(&mut self, draft: &Draft) -> bool {
        let group_id = draft.manifest.body.group_id;
        if !self.rows.contains_key(&group_id) {
            return false;
        }
        draft.manifest.body.blobs().for_each(|(_, blob)| self.files.put(&blob, true));
        self.lineages.entry(group_id).or_default().draft = Some(draft.clone());
        if mynet_types::planted!(DraftShown) {
            let states = draft.manifest.body.states();
            self.show(Row::new(draft.manifest.clone(), (states, states), None, None));
        }
        true
    }

    fn install(&mut self, file: &CertificateFile) -> bool {
        let (group_id, value) = (file.manifest.body.group_id, file.certificate.statement.value);
        let Some(lineage) = self.lineages.get_mut(&group_id) else { return false };
        let Some(draft) = lineage.draft.take_if(|draft| draft.manifest.body.hash() == value) else { return false };
        let certificate = file.certificate.clone();
        lineage.head = Some(Head { certificate, previous: draft.previous, holders: BoundedVec::new() });
        let states = draft.manifest.body.states();
        self.show(Row::new(draft.manifest, (states, states), None, Some(file.certificate.clone())));
        true
    }

    fn drop_draft(&mut self, group_id: &GroupId, value: &ManifestHash) -> bool {
        let Some(lineage) = self.lineages.get_mut(group_id) else { return false };
        let Some(draft) = lineage.draft.take_if(|draft| draft.manifest.body.hash() == *value) else { return false };
        if lineage.head.is_none() {
            self.lineages.remove(group_id);
        }
        self.doom_unpinned(draft.manifest.body.blobs().map(|(_, blob)| blob.sha256));
        true
    }

    /// The group is gone, and its next version with it.
    pub(super) fn end_lineage(&mut self, group_id: &GroupId) {
        self.origins.remove(group_id);
        self.told.remove(group_id);
        let draft = self.lineages.remove(group_id).and_then(|lineage| lineage.draft);
        self.files.doom(draft.iter().flat_map(|draft| draft.manifest.body.blobs().map(|(_, blob)| blob.sha256)));
    }
}
