//! Writes: each is a value, and a list of them happens in one durable transaction or not at all.
//!
//! **Invariants**
//! 1. After `batch` returned `Ok` every write of it is on disk, also after a power cut; after `Err` none of them is.
//! 2. Batches are serialized: each sees all that the one before it wrote.
//! 3. A step that the phase of a transaction does not allow is refused by name, never guessed around.

use mynet_types::{
    CertificateFile, ContentHash, GroupId, ManifestHash, NodeId, SignedReceipt, SignedTombstone, SignedWrap,
    StatesMask, Timestamp, TxId,
};
use sea_orm::DatabaseTransaction;

use super::{
    Meta,
    model::{Granted, GroupRows, Mode, NewGroup, StoredBlob, WriteError},
};

/// One write. Opaque bytes are kept as they are; only whoever wrote them understands them.
#[derive(Debug, Clone)]
pub enum MetaWrite {
    /// A group made on this node becomes visible on it.
    Upload(Box<NewGroup>),
    /// T1: reserved for this transaction. Repeats and higher attempts replace; an aborted attempt does not come back.
    Intent {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// The group.
        group_id: GroupId,
        /// Space promised.
        reserved_bytes: u64,
        /// What was promised; opaque.
        state: Vec<u8>,
    },
    /// T3: everything is verified and fsynced in staging.
    Prepared {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// What is staged.
        states: StatesMask,
        /// The files it is in; pinned by the transaction from now on.
        blobs: Vec<StoredBlob>,
    },
    /// T4: rows become visible, pins pass from the transaction to the group, the reservation becomes use, the receipt is
    /// kept. Repeating it for the attempt that was committed changes nothing.
    Commit {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
        /// What becomes visible.
        rows: Box<GroupRows>,
        /// The proof to give out.
        receipt: SignedReceipt,
    },
    /// T5: pins, claims and reservation go, the abort is remembered, also of a transaction never heard of.
    Abort {
        /// The transaction.
        tx: TxId,
        /// The attempt.
        attempt: u32,
    },
    /// An ended transaction may be forgotten.
    Forget(TxId),
    /// The group is to be in the network with so many copies; its core hears of it next.
    Publish {
        /// The group.
        group_id: GroupId,
        /// Copies wanted.
        replicas: u8,
        /// When success is reported.
        mode: Mode,
    },
    /// C1: this node coordinates the group; it counts as in the network from now on. A repeat replaces the publication.
    Begin {
        /// The group.
        group_id: GroupId,
        /// Copies wanted.
        replicas: u8,
        /// When success is reported.
        mode: Mode,
        /// What is replicated; opaque.
        publication: Vec<u8>,
    },
    /// The first prepare of the group left: its status is no longer `pending`.
    Started(GroupId),
    /// C2: the decision, before anybody hears of it.
    Decided {
        /// The group.
        group_id: GroupId,
        /// The decision; opaque.
        decided: Vec<u8>,
    },
    /// These are told to commit a version of the group; see [`Meta::told`].
    Told {
        /// The group.
        group_id: GroupId,
        /// The version.
        version: u64,
        /// Whom.
        nodes: Vec<NodeId>,
    },
    /// C3: every holder has it; the coordination is forgotten.
    End(GroupId),
    /// How the versions of a group uploaded here follow each other, with the next one while it is certified. Gone with the
    /// group.
    Lineage {
        /// The group.
        group_id: GroupId,
        /// What is kept; opaque. `None` forgets it.
        lineage: Option<Vec<u8>>,
        /// Blobs of the next version that are on disk: the group keeps them from now on.
        kept: Vec<StoredBlob>,
        /// Blobs of a next version that will not be: the group keeps them no longer.
        dropped: Vec<ContentHash>,
    },
    /// Receipts known for a manifest: one per holder, the longest wins. Those of manifests not here are dropped.
    Receipts {
        /// Their manifest; receipts that name another one are dropped.
        manifest_hash: ManifestHash,
        /// The receipts; verified by whoever hands them in.
        receipts: Vec<SignedReceipt>,
    },
    /// Wraps of a group, merged with those here by version and recipient. Those of groups not here are dropped.
    Wraps {
        /// The group.
        group_id: GroupId,
        /// The wraps; verified by whoever hands them in.
        wraps: Vec<SignedWrap>,
    },
    /// This node may read a group that it held unread so far.
    Grant {
        /// The group.
        group_id: GroupId,
        /// What it now knows.
        granted: Box<Granted>,
    },
    /// A verified certificate, accepting or rejecting. Dropped if its manifest is not here.
    Certificate(Box<CertificateFile>),
    /// Only a human can help; `None` takes it back.
    Failed {
        /// The group.
        group_id: GroupId,
        /// Why.
        reason: Option<String>,
    },
    /// A group of somebody else that the validators rejected at `before` or earlier goes, with its receipt, and its blobs lose
    /// their pins. Nothing happens if it is not that any more.
    Dismiss {
        /// The group.
        group_id: GroupId,
        /// See [`Meta::rejected`].
        before: Timestamp,
    },
    /// A verified blob on disk, leased to a cache.
    Cache {
        /// The blob.
        blob: StoredBlob,
        /// Names the lease.
        lease: [u8; 32],
    },
    /// The end of a cache lease.
    Uncache {
        /// The blob.
        sha256: ContentHash,
        /// Names the lease.
        lease: [u8; 32],
    },
    /// D1: the owner deleted a group. If a group of that owner is here, every row of it goes, its content key among them, and
    /// its blobs lose their pins; the tombstone stays in any case.
    Tombstone {
        /// The owner's word; verified by whoever hands it in.
        tombstone: SignedTombstone,
        /// The peer that told of it; none if it was made here.
        from: Option<NodeId>,
        /// Who is to confirm.
        holders: Vec<NodeId>,
    },
    /// D2: a holder confirmed a tombstone.
    Confirmed {
        /// The group.
        group_id: GroupId,
        /// The holder.
        node: NodeId,
    },
}

/// What a batch left to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchDone {
    /// Files that no row names: another file of the same blob was there first, or this one replaced a damaged one. To be
    /// unlinked.
    pub redundant: Vec<StoredBlob>,
}

/// One open write transaction.
pub(super) struct WriteScope<'a> {
    pub(super) db: &'a DatabaseTransaction,
    pub(super) me: NodeId,
    pub(super) now: Timestamp,
    pub(super) done: BatchDone,
}

impl Meta {
    /// Does all `writes` in their order, in one transaction, and makes them durable.
    ///
    /// # Errors
    /// The first write refused; see [`WriteError`]. Nothing of the batch was done then; after a full disk
    /// ([`crate::is_disk_full`]) it may be tried again.
    pub async fn batch(&self, writes: Vec<MetaWrite>, now: Timestamp) -> Result<BatchDone, WriteError> {
        let transaction = self.begin().await?;
        let mut scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        let mut outcome = Ok(());
        for write in writes {
            outcome = scope.apply(write).await;
            if outcome.is_err() {
                break;
            }
        }
        let done = scope.done;
        match outcome {
            Ok(()) => {
                transaction.commit().await?;
                Ok(done)
            }
            Err(refused) => {
                // A full disk has ended the transaction already; what is told is why.
                drop(transaction.rollback().await);
                Err(refused)
            }
        }
    }

    /// Makes a group uploaded to this node visible on it: rows, links, manifest, states, blobs and pins at once. Its status
    /// is `none` until [`MetaWrite::Begin`].
    ///
    /// # Errors
    /// [`WriteError::IdConflict`] or [`WriteError::OtherManifest`] if its ids are taken; nothing is overwritten.
    pub async fn insert_uploaded_group(&self, group: NewGroup, now: Timestamp) -> Result<BatchDone, WriteError> {
        self.batch(vec![MetaWrite::Upload(Box::new(group))], now).await
    }
}

impl WriteScope<'_> {
    async fn apply(&mut self, write: MetaWrite) -> Result<(), WriteError> {
        match write {
            MetaWrite::Upload(group) => self.upload(*group).await,
            MetaWrite::Intent { tx, attempt, group_id, reserved_bytes, state } => {
                self.intent((tx, attempt), group_id, reserved_bytes, &state).await
            }
            MetaWrite::Prepared { tx, attempt, states, blobs } => self.prepared((tx, attempt), states, &blobs).await,
            MetaWrite::Commit { tx, attempt, rows, receipt } => self.commit((tx, attempt), &rows, &receipt).await,
            MetaWrite::Abort { tx, attempt } => self.abort((tx, attempt)).await,
            MetaWrite::Forget(tx) => self.forget(tx).await,
            MetaWrite::Publish { group_id, replicas, mode } => self.publish(group_id, (replicas, mode)).await,
            MetaWrite::Begin { group_id, replicas, mode, publication } => {
                self.begin(group_id, (replicas, mode), &publication).await
            }
            MetaWrite::Started(group_id) => self.started(group_id).await,
            MetaWrite::Decided { group_id, decided } => self.decided(group_id, &decided).await,
            MetaWrite::Told { group_id, version, nodes } => self.told((group_id, version), &nodes).await,
            MetaWrite::End(group_id) => self.end(group_id).await,
            MetaWrite::Lineage { group_id, lineage, kept, dropped } => {
                self.lineage(group_id, lineage.as_deref(), (&kept, &dropped)).await
            }
            MetaWrite::Receipts { manifest_hash, receipts } => self.receipts(manifest_hash, &receipts).await,
            MetaWrite::Wraps { group_id, wraps } => self.wraps(group_id, &wraps).await,
            MetaWrite::Grant { group_id, granted } => self.grant(group_id, &granted).await,
            MetaWrite::Certificate(file) => self.certificate(&file).await,
            MetaWrite::Failed { group_id, reason } => self.failed(group_id, reason).await,
            MetaWrite::Dismiss { group_id, before } => self.dismiss(group_id, before).await,
            MetaWrite::Cache { blob, lease } => self.cache(blob, lease).await,
            MetaWrite::Uncache { sha256, lease } => self.uncache(sha256, lease).await,
            MetaWrite::Tombstone { tombstone, from, holders } => self.bury(&tombstone, from, &holders).await,
            MetaWrite::Confirmed { group_id, node } => self.confirmed(group_id, node).await,
        }
    }
}
