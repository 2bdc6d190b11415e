//! Transactions that this node stages as a participant: what runs, which files stand in place for them, and how both end.
//!
//! ```text
//! begin --> (turn) --> stage::run: pull, place.. --> Staged      end: cancel, wait for the turn, unlink what has no row
//!   ^                        |
//!   '---- a later attempt, which finds what the earlier one placed
//! ```
//!
//! **Invariants**
//! 1. A file put in place for a transaction is noted by the step that puts it there, and that step runs to its end whoever
//!    gives up waiting for it. When the transaction ends, every such file that got no row is unlinked.
//! 2. At most one attempt of a transaction touches the disk: the next one waits for its turn, and so does the end.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mynet_proto::{node::io::Input, placement::PlacementSlot};
use mynet_store::{
    blobs::{BlobKey, StageName},
    meta::{Granted, GroupRows, MetaWrite, StoredBlob},
};
use mynet_types::{BoundedVec, CertificateFile, ContentState, QuorumCertificate, StatesMask, TxId, wire::Prepare};
use tokio::{
    sync::{Mutex as Gate, OwnedMutexGuard},
    time::{Instant, MissedTickBehavior, interval_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    grant::{self, GrantError},
    persist::TranslateError,
    shell::{Chain, Shell},
    stage::{self, StageError, StageJob},
};

/// Reports of progress within one lease: five may be lost before the lease ends. More would only cost messages.
pub(crate) const REPORTS_PER_LEASE: u32 = 6;

/// The right to touch the disk for a transaction; it ends with the last clone.
pub(crate) type Turn = Arc<OwnedMutexGuard<()>>;

/// Every transaction that is open here.
#[derive(Debug, Default)]
pub(crate) struct Staged(Mutex<BTreeMap<TxId, Entry>>);

#[derive(Debug)]
struct Entry {
    prepare: Prepare,
    /// What the transaction holds, when all of it is staged.
    blobs: Vec<StoredBlob>,
    /// Files put in place for it, with or without a row.
    placed: Vec<StoredBlob>,
    cancel: CancellationToken,
    gate: Arc<Gate<()>>,
}

impl Staged {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<TxId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an attempt in and stops the one before; what that one placed stays.
    fn begin(&self, prepare: Prepare, cancel: CancellationToken) -> Arc<Gate<()>> {
        let mut entries = self.entries();
        let earlier = entries.remove(&prepare.tx);
        if let Some(earlier) = &earlier {
            earlier.cancel.cancel();
        }
        let (placed, gate) = earlier.map(|earlier| (earlier.placed, earlier.gate)).unwrap_or_default();
        let entry = Entry { blobs: Vec::new(), placed, cancel, gate: Arc::clone(&gate), prepare };
        entries.insert(entry.prepare.tx, entry);
        gate
    }

    /// Files that stand in place for a transaction.
    pub(crate) fn placed(&self, tx: &TxId) -> Vec<StoredBlob> {
        self.entries().get(tx).map(|entry| entry.placed.clone()).unwrap_or_default()
    }

    /// Notes a file that stands in place now. Whoever calls has the turn, so the transaction has not ended.
    pub(crate) fn note_placed(&self, tx: &TxId, file: StoredBlob) {
        if let Some(entry) = self.entries().get_mut(tx) {
            entry.placed.push(file);
        }
    }

    /// Forgets a file that is damaged, and says whether it was placed for the transaction.
    pub(crate) fn forget_placed(&self, tx: &TxId, file: &StoredBlob) -> bool {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(tx) else { return false };
        let before = entry.placed.len();
        entry.placed.retain(|placed| placed != file);
        entry.placed.len() < before
    }

    /// Where attempts wait for their turn.
    #[cfg(test)]
    pub(crate) fn gate(&self, tx: &TxId) -> Option<Arc<Gate<()>>> {
        self.entries().get(tx).map(|entry| Arc::clone(&entry.gate))
    }

    fn finished(&self, tx: &TxId, blobs: Vec<StoredBlob>) {
        if let Some(entry) = self.entries().get_mut(tx) {
            entry.blobs = blobs;
        }
    }

    fn cancel(&self, tx: &TxId) -> Option<Arc<Gate<()>>> {
        let entries = self.entries();
        let entry = entries.get(tx)?;
        entry.cancel.cancel();
        Some(Arc::clone(&entry.gate))
    }
}

impl Shell {
    /// Starts staging; the answer comes as [`Input::Staged`].
    pub(crate) fn stage(self: &Arc<Self>, job: StageJob) {
        let cancel = self.cancel.child_token();
        let gate = self.staged.begin((*job.prepare).clone(), cancel.clone());
        let shell = Arc::clone(self);
        self.tasks.spawn(async move {
            let (tx, attempt) = (job.tx, job.attempt);
            let staged = tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                staged = shell.stage_in_turn(&job, gate) => staged,
            };
            let result = match staged {
                Ok(()) => Ok(job.states),
                Err(error) => {
                    let group = job.group();
                    tracing::warn!(tx = %tx, group = %group.short(), error = %Chain(&error), "staging failed");
                    Err(error.reason())
                }
            };
            shell.inbox.put(Input::Staged { tx, attempt, result }).await;
        });
    }

    /// Stages when the attempt before has left the disk, and reports all along, whatever the work is: a large blob is read
    /// twice after its last byte came, and a silent participant loses its lease.
    async fn stage_in_turn(self: &Arc<Self>, job: &StageJob, gate: Arc<Gate<()>>) -> Result<(), StageError> {
        let received = AtomicU64::new(0);
        let mut work = pin!(async {
            let turn = Arc::new(gate.lock_owned().await);
            let blobs = stage::run(self, job, &turn, &received).await?;
            self.staged.finished(&job.tx, blobs);
            Ok(())
        });
        let every = (self.config().replication.receiving_lease / REPORTS_PER_LEASE).max(Duration::from_millis(1));
        let mut reports = interval_at(Instant::now() + every, every);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                staged = &mut work => return staged,
                _ = reports.tick() => {
                    let bytes = received.load(Ordering::Relaxed);
                    self.inbox.put(Input::Progress { tx: job.tx, attempt: job.attempt, bytes }).await;
                }
            }
        }
    }

    /// Takes up a transaction that an earlier start of this node had open.
    pub(crate) fn resume(&self, prepare: Prepare, blobs: Vec<StoredBlob>) {
        let tx = prepare.tx;
        self.staged.begin(prepare, self.cancel.child_token());
        self.staged.finished(&tx, blobs);
    }

    /// Stops staging.
    pub(crate) fn cancel_stage(&self, tx: TxId) {
        self.staged.cancel(&tx);
    }

    /// The files that a transaction staged.
    pub(crate) fn staged_blobs(&self, tx: &TxId) -> Option<Vec<StoredBlob>> {
        self.staged.entries().get(tx).map(|entry| entry.blobs.clone())
    }

    /// The rows that a transaction makes visible.
    pub(crate) fn commit_rows(&self, tx: &TxId, held: StatesMask) -> Result<GroupRows, TranslateError> {
        let entries = self.staged.entries();
        let prepare = &entries.get(tx).ok_or(TranslateError::NotStaged(*tx))?.prepare;
        let manifest = &prepare.manifest.body;
        let sealed_reader = held.contains(ContentState::Decrypted) && !prepare.sealed.is_empty();
        let granted = sealed_reader.then(|| self.open_granted(prepare)).transpose()?;
        Ok(GroupRows {
            placement_slot: PlacementSlot::of(&manifest.placement_seed).number(),
            manifest: prepare.manifest.clone(),
            sealed: prepare.sealed.clone(),
            wraps: prepare.wraps.to_vec(),
            held,
            granted,
        })
    }

    /// The certificate that a later version came with: whoever is asked about it shows it.
    pub(crate) fn commit_certificate(&self, tx: &TxId) -> Option<MetaWrite> {
        let entries = self.staged.entries();
        let prepare = &entries.get(tx)?.prepare;
        let certificate = QuorumCertificate::clone(prepare.head.as_deref()?);
        let (manifest, chain) = (prepare.manifest.clone(), self.members.chain());
        let chain = chain.up_to(chain.newest().epoch);
        Some(MetaWrite::Certificate(Box::new(CertificateFile {
            manifest,
            certificate,
            holdings: BoundedVec::new(),
            chain,
        })))
    }

    /// What this node may read of a group that it was sent.
    fn open_granted(&self, prepare: &Prepare) -> Result<Granted, GrantError> {
        let manifest = &prepare.manifest.body;
        let key = grant::content_key(&self.keys, &self.network, manifest, &prepare.wraps)?;
        grant::granted(&self.keys, &key, manifest, &prepare.sealed)
    }

    /// Forgets an ended transaction: stops it, unlinks what it placed without a row, removes its staging directory.
    pub(crate) async fn forget_staging(&self, tx: TxId) {
        // A file that is being put in place right now is noted before the turn is free.
        let turn = match self.staged.cancel(&tx) {
            Some(gate) => Some(gate.lock_owned().await),
            None => None,
        };
        let entry = self.staged.entries().remove(&tx);
        self.unlink_unnamed(entry.map(|entry| entry.placed).unwrap_or_default()).await;
        self.remove_staging(tx).await;
        drop(turn);
    }

    /// Stops a transaction that is to be given up and removes what came for it so far; the rest goes when that is written.
    pub(crate) async fn clear_staging(&self, tx: TxId) {
        if let Some(gate) = self.staged.cancel(&tx) {
            let _turn = gate.lock_owned().await;
            self.remove_staging(tx).await;
        }
    }

    async fn remove_staging(&self, tx: TxId) {
        match self.blobs.stage(stage_name(&tx)).await {
            Ok(dir) => {
                if let Err(error) = dir.remove().await {
                    tracing::warn!(tx = %tx, %error, "staging was not removed, the next start does");
                }
            }
            Err(error) => tracing::warn!(tx = %tx, %error, "staging was not removed, the next start does"),
        }
    }

    /// Unlinks those of `files` that no row names.
    pub(crate) async fn unlink_unnamed(&self, files: Vec<StoredBlob>) {
        let mut unnamed = Vec::new();
        for file in files {
            match self.meta.blob(&file.blob.sha256).await {
                Ok(row) if row.is_some_and(|row| row.stored.generation == file.generation) => {}
                Ok(_) => unnamed.push(file),
                Err(error) => {
                    tracing::warn!(blob = %file.blob.sha256, error = %Chain(&error), "a file stays for the next start");
                }
            }
        }
        self.unlink(unnamed).await;
    }

    /// Removes files that no row names, also those that were moved to quarantine.
    pub(crate) async fn unlink(&self, files: Vec<StoredBlob>) {
        for file in files {
            let key = BlobKey { sha256: file.blob.sha256, generation: file.generation };
            let removed = async {
                self.blobs.remove(key).await?;
                self.blobs.remove_quarantined(key).await
            };
            if let Err(error) = removed.await {
                tracing::warn!(blob = %key, %error, "a file that no row names was not removed");
            }
        }
    }
}

/// The staging directory of a transaction.
pub(crate) fn stage_name(tx: &TxId) -> StageName {
    format!("tx-{tx}").parse().expect("hex digits and a dash make a staging name")
}
