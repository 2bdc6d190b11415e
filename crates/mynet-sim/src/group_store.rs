//! Model of the metadata store and of the blobs it names: records in, [`Restored`] out, and what a reader would see.
//!
//! Bytes are sizes: a state is held or not. The model is naive on purpose: it stages and commits what the core tells it
//! to, so that a core that asks for too little or for too much is seen by a checker and not corrected by the store.

pub(crate) mod lineages;

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::replication::{
    exchange::Page,
    io::{Decided, Intent, Publication, Record, Restored},
};
use mynet_types::{
    BlobRef, ContentHash, ContentState, GroupId, ManifestHash, NodeId, OwnerKey, QuorumCertificate, SignedManifest,
    SignedReceipt, SignedTombstone, StatesMask, TxId,
    vote::is_head,
    wire::{Receipts, Tombstones},
};

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{disk::Store, files::Files};

use lineages::Lineage;

/// A visible group version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// What it is.
    pub(crate) manifest: SignedManifest,
    /// Its hash.
    pub(crate) hash: ManifestHash,
    /// The states that this node must hold for the row to be complete.
    pub(crate) required: StatesMask,
    /// The states whose bytes, or whose key and source, are here.
    pub(crate) held: StatesMask,
    /// The transaction that brought it; none where it was ingested.
    pub(crate) tx: Option<TxId>,
    /// What a reader of each state is given.
    pub(crate) shown: BTreeMap<ContentState, ContentHash>,
    /// What certifies a later version than the first.
    pub(crate) head: Option<QuorumCertificate>,
}

impl Row {
    /// A row that shows what its manifest names.
    fn new(
        manifest: SignedManifest,
        (required, held): (StatesMask, StatesMask),
        tx: Option<TxId>,
        head: Option<QuorumCertificate>,
    ) -> Self {
        let blobs = manifest.body.blobs().filter(|(member, _)| held.contains(member.state));
        let shown = blobs.map(|(member, blob)| (member.state, blob.sha256)).collect();
        Self { hash: manifest.body.hash(), manifest, required, held, tx, shown, head }
    }

    /// The blobs of the states that are here.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobRef> {
        let held = self.held;
        self.manifest.body.blobs().filter(move |(member, _)| held.contains(member.state)).map(|(_, blob)| blob)
    }
}

/// Bytes of one transaction that no reader sees.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Staging {
    /// The states that are complete and fsynced.
    pub(crate) states: StatesMask,
    /// Verified bytes so far.
    pub(crate) bytes: u64,
    /// The files of those states.
    blobs: BTreeSet<ContentHash>,
}

/// A group that this node coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Coordinated {
    publication: Publication,
    decided: Option<Decided>,
}

/// What one node's metadata store and blobs hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GroupStore {
    /// Whose it is; a row needs the decrypted state only where this node is granted.
    node: Option<NodeId>,
    boot: u64,
    intents: BTreeMap<TxId, (Intent, Option<StatesMask>)>,
    committed: BTreeMap<TxId, (u32, GroupId, SignedReceipt)>,
    aborted: BTreeMap<TxId, u32>,
    coordinated: BTreeMap<GroupId, Coordinated>,
    receipts: BTreeMap<ManifestHash, BTreeMap<NodeId, SignedReceipt>>,
    /// One per group, as in the real store: of two manifests only one can be visible.
    rows: BTreeMap<GroupId, Row>,
    staging: BTreeMap<TxId, Staging>,
    reserved: BTreeMap<TxId, u64>,
    files: Files,
    /// Ingested here but not yet begun; handed to the core again after a restart.
    waiting: BTreeMap<GroupId, Publication>,
    ended: BTreeSet<GroupId>,
    tombstones: BTreeMap<(GroupId, OwnerKey), SignedTombstone>,
    /// The same in the order in which they came.
    buried: Vec<(GroupId, OwnerKey)>,
    /// Who has not confirmed a tombstone.
    silent: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// What groups ingested here are published with.
    origins: BTreeMap<GroupId, Publication>,
    /// How the versions of groups ingested here follow each other.
    lineages: BTreeMap<GroupId, Lineage>,
    /// Who was told to commit a group that is coordinated here, or was, and the first version of which.
    told: BTreeMap<GroupId, BTreeMap<NodeId, u64>>,
}

/// Bytes that `states` of `manifest` need on disk.
pub(crate) fn bytes_of(manifest: &SignedManifest, states: StatesMask) -> u64 {
    let wanted = manifest.body.blobs().filter(|(member, _)| states.contains(member.state));
    wanted.map(|(_, blob)| blob.size).sum()
}

/// Whether `wraps` of a manifest let `node` read.
pub(crate) fn is_granted(wraps: &[mynet_types::SignedWrap], node: &NodeId) -> bool {
    wraps.iter().any(|wrap| wrap.body.recipient == *node)
}

impl GroupStore {
    /// The store of a new node.
    pub(crate) fn new(node: NodeId) -> Self {
        Self { node: Some(node), ..Self::default() }
    }

    /// The node starts once more: staging without an intent is swept, as the store does when it opens.
    pub(crate) fn open(&mut self) -> Restored {
        self.boot += 1;
        let intents = &self.intents;
        self.staging.retain(|tx, _| intents.contains_key(tx));
        self.files.sweep(&self.pinned());
        Restored {
            boot: self.boot,
            intents: self.intents.values().cloned().collect(),
            committed: self
                .committed
                .iter()
                .map(|(tx, (attempt, group, receipt))| (*tx, *attempt, *group, receipt.clone()))
                .collect(),
            aborted: self.aborted.iter().map(|(tx, attempt)| (*tx, *attempt)).collect(),
            publications: self.coordinated.values().map(|group| self.restored_publication(group)).collect(),
            versions: self
                .rows
                .iter()
                .filter(|(_, row)| is_head(row.manifest.body.version))
                .map(|(group, row)| (*group, row.manifest.body.version))
                .collect(),
            // Certificates are not kept here.
            rejected: Vec::new(),
            tombstones: self.buried.iter().filter_map(|name| self.tombstones.get(name)).cloned().collect(),
            deletions: self.tombstones.values().filter_map(|tombstone| self.unconfirmed(tombstone)).collect(),
        }
    }

    /// A tombstone of which somebody has not heard.
    fn unconfirmed(&self, tombstone: &SignedTombstone) -> Option<(SignedTombstone, Vec<NodeId>)> {
        let silent = self.silent.get(&tombstone.body.group_id).filter(|silent| !silent.is_empty())?;
        Some((tombstone.clone(), silent.iter().copied().collect()))
    }

    /// Whether the owner of the group deleted it, as far as this disk knows.
    pub(crate) fn is_deleted(&self, group: &GroupId, owner: &OwnerKey) -> bool {
        self.tombstones.contains_key(&(*group, *owner))
    }

    /// Confirmations that are still waited for.
    pub(crate) fn silent(&self) -> usize {
        self.silent.values().map(BTreeSet::len).sum()
    }

    /// Tombstones after a place in the order in which they came, for a peer that asks.
    pub(crate) fn tombstones_after(&self, seq: u64) -> Page {
        let after = self.buried.iter().skip(usize::try_from(seq).unwrap_or(usize::MAX));
        let tombstones = Tombstones::truncated(after.filter_map(|name| self.tombstones.get(name)).cloned());
        let last = seq.saturating_add(u64::try_from(tombstones.len()).unwrap_or(0));
        Page { boot: self.boot, seq: last, tombstones }
    }

    /// Every tombstone here.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = &SignedTombstone> {
        self.tombstones.values()
    }

    /// D1: what is visible of the group goes, if it is the owner's.
    fn bury(&mut self, tombstone: &SignedTombstone, holders: &[NodeId]) {
        let (group_id, owner) = (tombstone.body.group_id, tombstone.body.owner);
        if let Some(row) = self.rows.get(&group_id).filter(|row| row.manifest.body.owner == owner).cloned() {
            self.receipts.remove(&row.hash);
            self.coordinated.remove(&group_id);
            self.waiting.remove(&group_id);
            let unpinned: Vec<ContentHash> = row.blobs().map(|blob| blob.sha256).collect();
            self.files.doom(unpinned);
            self.rows.remove(&group_id);
            self.end_lineage(&group_id);
        }
        self.silent.entry(group_id).or_default().extend(holders.iter().copied());
        if self.tombstones.insert((group_id, owner), tombstone.clone()).is_none() {
            self.buried.push((group_id, owner));
        }
    }

    /// One group as a restarted coordinator sees it.
    fn restored_publication(&self, group: &Coordinated) -> (Publication, Option<Decided>, Receipts) {
        let known = self.receipts(&group.publication.manifest.body.hash());
        (group.publication.clone(), group.decided.clone(), Receipts::truncated(known.cloned()))
    }

    /// The upload came in: everything of the group is here and visible.
    pub(crate) fn ingest(&mut self, publication: &Publication) {
        let manifest = publication.manifest.clone();
        let group_id = manifest.body.group_id;
        let states = manifest.body.states();
        manifest.body.blobs().for_each(|(_, blob)| self.files.put(&blob, true));
        self.rows.insert(group_id, Row::new(manifest, (states, states), None, None));
        self.waiting.insert(group_id, publication.clone());
        self.origins.insert(group_id, publication.clone());
    }

    /// Groups ingested here that the core has not begun.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &Publication> {
        self.waiting.values()
    }

    /// Visible groups.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.values()
    }

    /// The visible row of a manifest.
    pub(crate) fn row_of(&self, manifest: &ManifestHash) -> Option<&Row> {
        self.rows.values().find(|row| row.hash == *manifest)
    }

    /// The visible version of a group.
    pub(crate) fn row(&self, group: &GroupId) -> Option<&Row> {
        self.rows.get(group)
    }

    /// Whether this version of its group is visible, or one that took its place.
    pub(crate) fn shows_or_later(&self, manifest: &mynet_types::Manifest) -> bool {
        self.rows
            .get(&manifest.group_id)
            .is_some_and(|row| row.manifest.body.version > manifest.version || row.hash == manifest.hash())
    }

    /// Receipts on disk for a manifest.
    pub(crate) fn receipts(&self, manifest: &ManifestHash) -> impl Iterator<Item = &SignedReceipt> + use<'_> {
        self.receipts.get(manifest).into_iter().flat_map(BTreeMap::values)
    }

    /// Open transactions of this participant.
    pub(crate) fn intents(&self) -> impl Iterator<Item = (&TxId, &Intent)> {
        self.intents.iter().map(|(tx, (intent, _))| (tx, intent))
    }

    /// Bytes that no reader sees, by transaction.
    pub(crate) fn staging(&self) -> &BTreeMap<TxId, Staging> {
        &self.staging
    }

    /// Bytes reserved in all.
    pub(crate) fn reserved(&self) -> u64 {
        self.reserved.values().sum()
    }

    /// Whether the group was brought to all its holders by this node.
    pub(crate) fn has_ended(&self, group: &GroupId) -> bool {
        self.ended.contains(group)
    }

    /// States of a manifest that are here already, in whatever row.
    pub(crate) fn held(&self, manifest: &ManifestHash) -> StatesMask {
        self.row_of(manifest).map_or(StatesMask::EMPTY, |row| row.held)
    }

    /// Bytes of a transaction arrived in staging; `complete` states are fsynced.
    pub(crate) fn stage(&mut self, tx: TxId, manifest: &SignedManifest, (bytes, complete): (u64, StatesMask)) {
        let stored = manifest.body.blobs().filter(|(member, _)| complete.contains(member.state));
        let blobs: Vec<ContentHash> = stored
            .map(|(_, blob)| {
                self.files.put(&blob, !mynet_types::planted!(StagedUnsynced));
                blob.sha256
            })
            .collect();
        let staging = self.staging.entry(tx).or_default();
        staging.bytes = staging.bytes.max(bytes);
        staging.blobs.extend(blobs);
        staging.states = complete.iter().fold(staging.states, StatesMask::with);
    }

    /// Files that a visible group or an open transaction needs.
    pub(crate) fn pinned(&self) -> BTreeSet<ContentHash> {
        let of_rows = self.rows.values().flat_map(|row| row.blobs().map(|blob| blob.sha256));
        let of_transactions = self.staging.values().flat_map(|staging| staging.blobs.iter().copied());
        of_rows.chain(of_transactions).chain(self.of_drafts()).collect()
    }

    /// The blob files.
    pub(crate) fn files(&self) -> &Files {
        &self.files
    }

    #[cfg(test)]
    pub(crate) fn files_mut(&mut self) -> &mut Files {
        &mut self.files
    }

    /// Unlinks what nobody needs any more; says how many files were needed again.
    pub(crate) fn collect(&mut self) -> usize {
        let pinned = self.pinned();
        self.files.collect(&pinned)
    }

    /// The machine dies: of what was not fsynced some is gone. Says how many files lost something.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) -> usize {
        let unfinished = self.staging.values_mut().filter(|staging| staging.states.is_empty() && staging.bytes > 0);
        let torn = unfinished.map(|staging| staging.bytes = rng.random_range(0..staging.bytes)).count();
        torn + self.files.crash(rng)
    }

    /// Whether a transaction is over here, and how is remembered.
    pub(crate) fn is_over(&self, tx: &TxId) -> bool {
        !self.intents.contains_key(tx) && (self.committed.contains_key(tx) || self.aborted.contains_key(tx))
    }

    /// Open transactions that are prepared.
    pub(crate) fn prepared(&self) -> impl Iterator<Item = &Intent> {
        self.intents.values().filter(|(_, states)| states.is_some()).map(|(intent, _)| intent)
    }

    /// Whether a lower version of this group is coordinated here, and if so whether its commit is logged.
    pub(crate) fn lower_coordinated(&self, group: &GroupId, version: u64) -> Option<bool> {
        let lower = |it: &&Coordinated| it.publication.manifest.body.version < version;
        self.coordinated.get(group).filter(lower).map(|it| it.decided.is_some())
    }

    /// Whether this manifest is visible here, or coordinated.
    pub(crate) fn knows(&self, group: &GroupId, manifest: &ManifestHash) -> bool {
        let coordinated = self.coordinated.get(group).map(|it| it.publication.manifest.body.hash());
        coordinated == Some(*manifest) || self.rows.get(group).is_some_and(|row| row.hash == *manifest)
    }

    /// The logged commit of a group that is coordinated here.
    pub(crate) fn decided(&self) -> impl Iterator<Item = &Decided> {
        self.coordinated.values().filter_map(|group| group.decided.as_ref())
    }

    /// Groups coordinated here without a logged commit.
    pub(crate) fn undecided(&self) -> usize {
        self.coordinated.values().filter(|group| group.decided.is_none()).count()
    }

    /// T1.
    fn reserve(&mut self, intent: &Intent) -> Result<(), String> {
        let tx = intent.prepare.tx;
        let attempt = intent.prepare.attempt;
        if self.committed.contains_key(&tx) {
            return Err(format!("an intent was written for {tx}, which is committed"));
        }
        let open = self.intents.get(&tx).is_some_and(|(open, _)| open.prepare.attempt > attempt);
        if open || self.aborted.get(&tx).is_some_and(|aborted| *aborted >= attempt) {
            return Err(format!("an intent was written for {tx} attempt {attempt}, which is older than what is known"));
        }
        self.reserved.insert(tx, bytes_of(&intent.prepare.manifest, intent.states));
        self.intents.insert(tx, (intent.clone(), None));
        Ok(())
    }

    /// T3.
    fn prepare(&mut self, tx: TxId, attempt: u32, states: StatesMask) -> Result<(), String> {
        match self.intents.get_mut(&tx) {
            Some((intent, prepared)) if intent.prepare.attempt == attempt => {
                *prepared = Some(states);
                Ok(())
            }
            _ => Err(format!("{tx} attempt {attempt} was prepared without an intent")),
        }
    }

    /// T4.
    fn commit(&mut self, tx: TxId, attempt: u32, receipt: &SignedReceipt) -> Result<(), String> {
        if self.committed.get(&tx).is_some_and(|(_, _, known)| known == receipt) {
            return Ok(());
        }
        let Some((intent, Some(_states))) = self.intents.remove(&tx) else {
            return Err(format!("{tx} attempt {attempt} was committed without being prepared"));
        };
        if intent.prepare.attempt != attempt {
            return Err(format!("{tx} was committed in attempt {attempt}, its intent is {}", intent.prepare.attempt));
        }
        let manifest = intent.prepare.manifest;
        let hash = manifest.body.hash();
        let staged = self.staging.remove(&tx).unwrap_or_default().states;
        let held = staged.iter().fold(self.held(&hash), StatesMask::with);
        let granted = self.node.is_some_and(|node| is_granted(&intent.prepare.wraps, &node));
        let group_id = manifest.body.group_id;
        if let Some(other) = self.not_older(&manifest.body) {
            return Err(format!(
                "{tx} was committed with manifest {hash}, but {} of that group is visible",
                other.hash
            ));
        }
        let required = manifest.body.allowed(granted);
        let origin = self.rows.get(&group_id).is_some_and(|row| row.tx.is_none());
        let head = intent.prepare.head.map(|head| *head);
        self.show(Row::new(manifest, (required, held), (!origin).then_some(tx), head));
        if !mynet_types::planted!(ReservationLeaks) {
            self.reserved.remove(&tx);
        }
        self.merge_receipts(receipt.body.manifest_hash, [receipt]);
        self.committed.insert(tx, (attempt, group_id, receipt.clone()));
        Ok(())
    }

    /// T5.
    fn abort(&mut self, tx: TxId, attempt: u32) -> Result<(), String> {
        if self.committed.contains_key(&tx) {
            return Err(format!("{tx} was aborted after it was committed"));
        }
        self.intents.remove(&tx);
        let staged = self.staging.remove(&tx).unwrap_or_default();
        if !mynet_types::planted!(StagingLeaks) {
            self.files.doom(staged.blobs);
        }
        self.reserved.remove(&tx);
        let remembered = self.aborted.entry(tx).or_default();
        *remembered = attempt.max(*remembered);
        Ok(())
    }

    /// An outcome is not needed any more. An open transaction has none, and forgetting it would leave what it reserved.
    fn forget(&mut self, tx: &TxId) -> Result<(), String> {
        if self.intents.contains_key(tx) {
            return Err(format!("{tx} was forgotten while it is open"));
        }
        self.aborted.remove(tx);
        self.committed.remove(tx);
        Ok(())
    }

    /// One receipt per holder, the longest wins.
    fn merge_receipts<'a>(&mut self, manifest: ManifestHash, receipts: impl IntoIterator<Item = &'a SignedReceipt>) {
        let known = self.receipts.entry(manifest).or_default();
        for receipt in receipts {
            let held = known.entry(receipt.body.holder).or_insert_with(|| receipt.clone());
            if held.body.until < receipt.body.until {
                *held = receipt.clone();
            }
        }
    }

    /// C1: the same manifest again changes the publication and keeps C2; another one replaces all of it.
    fn begin(&mut self, publication: &Publication) {
        let group_id = publication.manifest.body.group_id;
        self.waiting.remove(&group_id);
        self.ended.remove(&group_id);
        let same = |group: &Coordinated| group.publication.manifest == publication.manifest;
        let decided = self.coordinated.remove(&group_id).filter(same).and_then(|group| group.decided);
        self.origins.insert(group_id, Publication { head: None, ..publication.clone() });
        self.coordinated.insert(group_id, Coordinated { publication: publication.clone(), decided });
    }

    /// C2.
    fn decide(&mut self, decided: &Decided) -> Result<(), String> {
        let group = self.coordinated.get_mut(&decided.group_id).ok_or("a decision without a publication")?;
        group.decided = Some(decided.clone());
        Ok(())
    }

    /// Wraps known for a group that is coordinated here.
    fn merge_wraps(&mut self, group_id: &GroupId, wraps: &[mynet_types::SignedWrap]) {
        let coordinated = self.coordinated.get_mut(group_id).map(|group| &mut group.publication.wraps);
        for known in coordinated.into_iter().chain(self.origins.get_mut(group_id).map(|origin| &mut origin.wraps)) {
            let mut merged = known.clone().into_vec();
            for wrap in wraps {
                merged.retain(|known| known.body.recipient != wrap.body.recipient);
                merged.push(wrap.clone());
            }
            *known = mynet_types::BoundedVec::truncated(merged);
        }
    }

    /// Whether some row or staging of this node holds plaintext, or what makes it, of this group.
    pub(crate) fn holds_decrypted(&self, group_id: &GroupId) -> bool {
        let visible = self.rows.get(group_id).is_some_and(|row| row.held.contains(ContentState::Decrypted));
        visible
            || self.intents.iter().any(|(tx, (intent, _))| {
                self.staging.get(tx).is_some_and(|staged| staged.states.contains(ContentState::Decrypted))
                    && intent.prepare.manifest.body.group_id == *group_id
            })
    }
}

impl Store for GroupStore {
    type Record = Record;

    fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Intent(intent) => return self.reserve(intent),
            Record::Prepared { tx, attempt, states } => return self.prepare(*tx, *attempt, *states),
            Record::Commit { tx, attempt, receipt } => return self.commit(*tx, *attempt, receipt),
            Record::Abort { tx, attempt } => return self.abort(*tx, *attempt),
            Record::Forget(tx) => return self.forget(tx),
            Record::Begin(publication) => self.begin(publication),
            Record::Decided(decided) => return self.decide(decided),
            Record::Receipts { .. } if mynet_types::planted!(ReceiptsUnwritten) => {}
            Record::End(_) if mynet_types::planted!(EndUnwritten) => {}
            // A store keeps no receipts beside another version than the one that it shows.
            Record::Receipts { group_id, manifest_hash, .. }
                if self.rows.get(group_id).is_some_and(|row| row.hash != *manifest_hash) => {}
            Record::Receipts { manifest_hash, receipts, .. } => self.merge_receipts(*manifest_hash, receipts),
            Record::Wraps { group_id, wraps } => self.merge_wraps(group_id, wraps),
            Record::Told { group_id, version, nodes } => self.tell(*group_id, *version, nodes),
            Record::End(group_id) => {
                self.coordinated.remove(group_id);
                self.ended.insert(*group_id);
            }
            Record::Tombstone { tombstone, holders, .. } => self.bury(tombstone, holders),
            Record::Confirmed { group_id, node } => {
                self.silent.entry(*group_id).or_default().remove(node);
            }
        }
        Ok(())
    }
}
