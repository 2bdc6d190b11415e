//! What surrounds the core: the stores, the network and what is shared between the node's tasks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mynet_net::Net;
use mynet_proto::{
    consensus,
    node::io::{Event, Input},
    placement::PlacementSlot,
    replication,
};
use mynet_store::{
    blobs::{BlobKey, Blobs, StageName},
    is_disk_full,
    keys::KeyFiles,
    meta::{GroupRows, Meta, MetaWrite, StoredBlob},
};
use mynet_types::{ContentState, Message, NetworkId, NodeId, StatesMask, TxId, wire::Prepare};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    board::Board,
    config::Config,
    driver::{Inbox, wall_clock},
    grant::{self, GrantError},
    members::Members,
    persist::{Backlog, Batch, TranslateError, Writers},
    preview::PreviewWorker,
    room::Uploads,
    stage::{self, StageJob},
};

/// Everything that the node's tasks share.
#[derive(Debug)]
pub(crate) struct Shell {
    pub(crate) config: Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) keys: KeyFiles,
    pub(crate) network: NetworkId,
    pub(crate) meta: Meta,
    pub(crate) blobs: Blobs,
    pub(crate) members: Members,
    pub(crate) board: Board,
    pub(crate) previews: PreviewWorker,
    pub(crate) inbox: Inbox,
    pub(crate) tasks: TaskTracker,
    /// Stops everything.
    pub(crate) cancel: CancellationToken,
    /// Cancelled when the node cannot go on.
    pub(crate) failed: CancellationToken,
    pub(crate) net: OnceLock<Net>,
    pub(crate) started: Instant,
    trust: RwLock<BTreeMap<NodeId, bool>>,
    addresses: Mutex<(String, String)>,
    writers: Writers,
    staged: Mutex<BTreeMap<TxId, Staged>>,
    next_generation: AtomicU64,
    pub(crate) uploads: Uploads,
}

/// One transaction that this node stages as a participant.
#[derive(Debug)]
struct Staged {
    prepare: Prepare,
    blobs: Vec<StoredBlob>,
    cancel: CancellationToken,
}

/// What a shell is made of.
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) data_dir: PathBuf,
    pub(crate) keys: KeyFiles,
    pub(crate) network: NetworkId,
    pub(crate) meta: Meta,
    pub(crate) blobs: Blobs,
    pub(crate) members: Members,
    pub(crate) previews: PreviewWorker,
    pub(crate) inbox: Inbox,
    pub(crate) writers: Writers,
    /// The operator's words about nodes.
    pub(crate) trust: BTreeMap<NodeId, bool>,
}

impl Shell {
    /// A shell around opened stores; the network is added when it has started.
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts { config, data_dir, keys, network, meta, blobs, members, previews, inbox, writers, trust } = parts;
        // Files of one start never share a generation with those of another.
        let next_generation = AtomicU64::new(meta.boot() << 32);
        Self {
            config,
            data_dir,
            keys,
            network,
            meta,
            blobs,
            members,
            previews,
            inbox,
            writers,
            next_generation,
            started: Instant::now(),
            uploads: Uploads::default(),
            trust: RwLock::new(trust),
            addresses: Mutex::default(),
            board: Board::new(),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            failed: CancellationToken::new(),
            net: OnceLock::new(),
            staged: Mutex::new(BTreeMap::new()),
        }
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.keys.node_id()
    }

    /// The operator's words about nodes.
    pub(crate) fn trust_words(&self) -> BTreeMap<NodeId, bool> {
        self.trust.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the operator's word about a node.
    pub(crate) fn set_trust_word(&self, node: NodeId, trusted: bool) {
        self.trust.write().unwrap_or_else(PoisonError::into_inner).insert(node, trusted);
    }

    /// Where API and peers reach this node, as text.
    pub(crate) fn addresses_text(&self) -> (String, String) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where the API listens.
    pub(crate) fn set_api(&self, url: String) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).0 = url;
    }

    /// Notes where peers reach this node.
    pub(crate) fn set_p2p(&self, listen: SocketAddr) {
        self.addresses.lock().unwrap_or_else(PoisonError::into_inner).1 = listen.to_string();
    }

    /// A file generation that was never used.
    pub(crate) fn generation(&self) -> u64 {
        self.next_generation.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether a file is of an earlier start; those of this one may still get their row.
    pub(crate) fn is_of_earlier_start(&self, generation: u64) -> bool {
        generation >> 32 < self.meta.boot()
    }

    fn staged(&self) -> MutexGuard<'_, BTreeMap<TxId, Staged>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something could not be kept that is known from memory or from peers until it can be: on a full disk the node goes on
    /// without, every other failure stops it.
    pub(crate) fn not_kept(&self, what: &'static str, error: impl std::error::Error + 'static) {
        if is_disk_full(&error) {
            tracing::error!(what, error = %Chain(&error), "the disk is full: not kept");
        } else {
            self.fail(what, error);
        }
    }

    /// Stops the node because its storage failed: a human must look.
    pub(crate) fn fail(&self, what: &'static str, error: impl std::error::Error) {
        tracing::error!(what, error = %Chain(&error), "storage failed, the node stops");
        self.failed.cancel();
        self.cancel.cancel();
    }

    /// Queues a message to a peer; may be lost.
    pub(crate) fn send(&self, to: NodeId, message: Message) {
        if let Some(net) = self.net.get() {
            net.send(to, message);
        }
    }

    /// Queues a batch for its database.
    pub(crate) fn persist(&self, batch: Batch) {
        self.writers.put(batch);
    }

    /// How far the databases are behind.
    pub(crate) fn backlog(&self) -> &Backlog {
        &self.writers.backlog
    }

    /// Starts staging; the answer comes as [`Input::Staged`].
    pub(crate) fn stage(self: &Arc<Self>, job: StageJob) {
        let cancel = self.cancel.child_token();
        let fresh = Staged { prepare: (*job.prepare).clone(), blobs: Vec::new(), cancel: cancel.clone() };
        let earlier = self.staged().insert(job.tx, fresh);
        if let Some(earlier) = earlier {
            earlier.cancel.cancel();
        }
        let shell = Arc::clone(self);
        self.tasks.spawn(async move {
            let (tx, attempt) = (job.tx, job.attempt);
            let staged = tokio::select! {
                () = cancel.cancelled() => return,
                staged = stage::run(&shell, &job) => staged,
            };
            let result = match staged {
                Ok(blobs) => {
                    if let Some(entry) = shell.staged().get_mut(&tx) {
                        entry.blobs = blobs;
                    }
                    Ok(job.states)
                }
                Err(error) => {
                    tracing::warn!(tx = %tx, group = %job.group().short(), %error, "staging failed");
                    Err(error.reason())
                }
            };
            shell.inbox.put(Input::Staged { tx, attempt, result }).await;
        });
    }

    /// Takes up a transaction that an earlier start of this node had open.
    pub(crate) fn resume(&self, prepare: Prepare, blobs: Vec<StoredBlob>) {
        let cancel = self.cancel.child_token();
        self.staged().insert(prepare.tx, Staged { prepare, blobs, cancel });
    }

    /// Stops staging.
    pub(crate) fn cancel_stage(&self, tx: TxId) {
        if let Some(staged) = self.staged().get(&tx) {
            staged.cancel.cancel();
        }
    }

    /// The files that a transaction staged.
    pub(crate) fn staged_blobs(&self, tx: &TxId) -> Option<Vec<StoredBlob>> {
        self.staged().get(tx).map(|staged| staged.blobs.clone())
    }

    /// The rows that a transaction makes visible.
    pub(crate) fn commit_rows(&self, tx: &TxId, held: StatesMask) -> Result<GroupRows, TranslateError> {
        let staged = self.staged();
        let prepare = &staged.get(tx).ok_or(TranslateError::NotStaged(*tx))?.prepare;
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

    /// What this node may read of a group that it was sent.
    fn open_granted(&self, prepare: &Prepare) -> Result<mynet_store::meta::Granted, GrantError> {
        let manifest = &prepare.manifest.body;
        let key = grant::content_key(&self.keys, &self.network, manifest, &prepare.wraps)?;
        grant::granted(&self.keys, &key, manifest, &prepare.sealed)
    }

    /// Forgets an ended transaction and removes its staging directory.
    pub(crate) async fn forget_staging(&self, tx: TxId) {
        if let Some(staged) = self.staged().remove(&tx) {
            staged.cancel.cancel();
        }
        match self.blobs.stage(stage_name(&tx)).await {
            Ok(dir) => {
                if let Err(error) = dir.remove().await {
                    tracing::warn!(tx = %tx, %error, "staging was not removed, the next start does");
                }
            }
            Err(error) => tracing::warn!(tx = %tx, %error, "staging was not removed, the next start does"),
        }
    }

    /// Removes files that no row names.
    pub(crate) async fn unlink(&self, files: Vec<StoredBlob>) {
        for file in files {
            let key = BlobKey { sha256: file.blob.sha256, generation: file.generation };
            if let Err(error) = self.blobs.remove(key).await {
                tracing::warn!(blob = %key, %error, "a file that no row names was not removed");
            }
        }
    }

    /// Takes note of what the cores tell.
    pub(crate) fn event(self: &Arc<Self>, event: Event) {
        match event {
            Event::Replication(event) => self.replication_event(event),
            Event::Consensus(event) => self.consensus_event(event),
        }
    }

    fn replication_event(&self, event: replication::io::Event) {
        use replication::io::Event;
        match event {
            Event::Progress { group_id, status, receipts, .. } => {
                tracing::debug!(group = %group_id.short(), ?status, receipts = receipts.len(), "replication moved on");
                self.board.update(group_id, |progress| {
                    progress.status = Some(status);
                    progress.not_enough_targets = false;
                });
            }
            Event::Durable { manifest, receipts } => {
                let group_id = manifest.body.group_id;
                tracing::info!(group = %group_id.short(), receipts = receipts.len(), "group is durable");
                self.board.update(group_id, |progress| progress.durable = true);
            }
            Event::NotEnoughTargets { group_id, eligible, need } => {
                tracing::info!(group = %group_id.short(), eligible, need, "too few nodes may hold the group, it waits");
                self.board.update(group_id, |progress| progress.not_enough_targets = true);
            }
            Event::Refused { group_id, node, reason } => {
                tracing::info!(group = %group_id.short(), node = %node.short(), ?reason, "a target will not");
            }
            Event::Committed { group_id } => tracing::info!(group = %group_id.short(), "group is visible here"),
            Event::Aborted { tx } => tracing::info!(tx = %tx, "transaction given up"),
        }
    }

    fn consensus_event(self: &Arc<Self>, event: consensus::io::Event) {
        use consensus::io::Event;
        match event {
            Event::Progress { group_id, tally, .. } => {
                tracing::debug!(group = %group_id.short(), ?tally, "votes moved on");
                self.board.update(group_id, |progress| progress.tally = Some(tally));
            }
            Event::Certified(file) => {
                let shell = Arc::clone(self);
                self.tasks.spawn(async move { shell.keep_certificate(file).await });
            }
            Event::RosterChanged { epoch } => {
                tracing::info!(epoch, "the roster changed");
            }
            Event::Voted(statement) => tracing::debug!(value = %statement.value, "voted"),
            Event::Equivocation { first, second } => {
                tracing::error!(?first, ?second, "a validator signed two things that exclude each other");
            }
        }
    }

    /// Writes a certificate beside its group, then tells whoever waits.
    async fn keep_certificate(&self, file: Box<mynet_types::CertificateFile>) {
        let group_id = file.manifest.body.group_id;
        let accepts = file.certificate.statement.verdict == mynet_types::Verdict::Accept;
        let certificate = MetaWrite::Certificate(file);
        if let Err(error) = self.meta.batch(vec![certificate], wall_clock()).await {
            return self.not_kept("keep a certificate", error);
        }
        tracing::info!(group = %group_id.short(), accepts, "group has a certificate");
        self.board.update(group_id, |progress| progress.certified |= accepts);
    }
}

/// The staging directory of a transaction.
pub(crate) fn stage_name(tx: &TxId) -> StageName {
    format!("tx-{tx}").parse().expect("hex digits and a dash make a staging name")
}

/// An error with all its causes on one line.
pub(crate) struct Chain<'a>(pub(crate) &'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
