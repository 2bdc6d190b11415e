//! What surrounds the core: the stores, the network and what is shared between the node's tasks.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use mynet_net::Net;
use mynet_proto::{consensus, node::io::Event, replication};
use mynet_store::{blobs::Blobs, is_disk_full, keys::KeyFiles, meta::Meta};
use mynet_types::{Message, NetworkId, NodeId};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    board::Board,
    catchup::Unheard,
    config::Config,
    deletion::Deletions,
    driver::Inbox,
    events::Events,
    find::Strangers,
    group_log::GroupLog,
    members::Members,
    persist::{Backlog, Batch, Writers},
    plaintext::Hashed,
    preview::PreviewWorker,
    recovery::Recoveries,
    refill::Bells,
    room::Uploads,
    spool::Turns,
    staged::Staged,
};

/// Everything that the node's tasks share.
#[derive(Debug)]
pub(crate) struct Shell {
    config: RwLock<Arc<Config>>,
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
    pub(crate) strangers: Strangers,
    pub(crate) unheard: Unheard,
    pub(crate) deletions: Deletions,
    pub(crate) spools: Turns,
    pub(crate) hashed: Hashed,
    /// Whoever hashes bytes for a vote.
    pub(crate) voting_turn: tokio::sync::Mutex<()>,
    /// Whoever begins a next version.
    pub(crate) succession_turn: tokio::sync::Mutex<()>,
    trust: RwLock<BTreeMap<NodeId, bool>>,
    addresses: Mutex<(String, String)>,
    writers: Writers,
    /// Transactions that are staged here.
    pub(crate) staged: Staged,
    /// Wakes the refilling of lost blobs.
    pub(crate) refill: Bells,
    next_generation: AtomicU64,
    pub(crate) uploads: Uploads,
    pub(crate) recoveries: Recoveries,
    pub(crate) group_log: GroupLog,
    pub(crate) events: Arc<Events>,
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
        let group_log = GroupLog::new(meta.boot());
        let events = Arc::new(Events::new(meta.boot()));
        Self {
            config: RwLock::new(Arc::new(config)),
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
            recoveries: Recoveries::default(),
            group_log,
            events,
            strangers: Strangers::default(),
            unheard: Unheard::default(),
            deletions: Deletions::default(),
            spools: Turns::default(),
            hashed: Hashed::default(),
            voting_turn: tokio::sync::Mutex::default(),
            succession_turn: tokio::sync::Mutex::default(),
            trust: RwLock::new(trust),
            addresses: Mutex::default(),
            board: Board::new(),
            tasks: TaskTracker::new(),
            cancel: CancellationToken::new(),
            failed: CancellationToken::new(),
            net: OnceLock::new(),
            staged: Staged::default(),
            refill: Bells::default(),
        }
    }

    /// The settings as they are now. They change while the node runs: never keep them, and take them once where two of them
    /// must belong together.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the settings; see [`crate::reload`].
    pub(crate) fn replace_config(&self, config: Config) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
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

    /// Takes note of what the cores tell.
    pub(crate) fn event(self: &Arc<Self>, event: Event) {
        self.events.tell_of(&event);
        match event {
            Event::Replication(event) => self.replication_event(event),
            Event::Consensus(event) => self.consensus_event(event),
        }
    }

    fn replication_event(self: &Arc<Self>, event: replication::io::Event) {
        use replication::io::Event;
        match event {
            Event::Progress { group_id, manifest_hash, status, receipts } => {
                tracing::debug!(group = %group_id.short(), ?status, receipts = receipts.len(), "replication moved on");
                self.board.update(group_id, |progress| {
                    if progress.is_of(manifest_hash) {
                        progress.status = Some(status);
                        progress.not_enough_targets = false;
                        progress.receive(receipts.len());
                    }
                });
                self.holders_came(group_id);
            }
            Event::Durable { manifest, receipts, previous: _ } => {
                let group_id = manifest.body.group_id;
                tracing::info!(group = %group_id.short(), receipts = receipts.len(), "group is durable");
                let value = manifest.body.hash();
                self.board.update(group_id, |progress| {
                    if progress.is_of(value) {
                        progress.receive(receipts.len());
                    }
                });
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
            Event::Deleted { group_id, owner } => self.group_deleted(group_id, owner),
            Event::DeletionConfirmed { group_id, node } => {
                tracing::info!(group = %group_id.short(), node = %node.short(), "a holder confirmed a deletion");
                self.deletions.changed();
            }
            Event::Noted(note) => self.note(note),
        }
    }

    fn consensus_event(self: &Arc<Self>, event: consensus::io::Event) {
        use consensus::io::Event;
        match event {
            Event::Progress { group_id, manifest_hash, tally, .. } => {
                tracing::debug!(group = %group_id.short(), ?tally, "votes moved on");
                self.board.update(group_id, |progress| progress.count(manifest_hash, tally));
            }
            Event::Certified(file) => {
                let shell = Arc::clone(self);
                self.tasks.spawn(async move { shell.keep_certificate(file).await });
            }
            Event::CertifiedAgain(file) => {
                let shell = Arc::clone(self);
                self.tasks.spawn(async move { shell.keep_if_missing(file).await });
            }
            Event::RosterChanged { epoch } => {
                tracing::info!(epoch, "the roster changed");
            }
            Event::Voted(statement) => tracing::debug!(value = %statement.value, "voted"),
            Event::Evidence { node, evidence } => {
                tracing::error!(%node, epoch = evidence.epoch(), seat = evidence.seat, "a validator contradicts itself");
            }
            Event::OwnerEvidence(evidence) => {
                let (group, version) = (evidence.group_id.short(), evidence.version);
                let (first, second) = (evidence.first.manifest_hash, evidence.second.manifest_hash);
                let owner = evidence.owner;
                tracing::warn!(%owner, %group, version, %first, %second, "an owner signed two manifests for one version");
            }
            Event::Noted(note) => self.note(note),
            Event::RecoveryOffered(offer) => self.recoveries.offered(offer),
            Event::Recovered { epoch } => {
                tracing::warn!(epoch, "the offline keys recovered the roster");
                self.recoveries.recovered(epoch);
            }
            Event::GaveUp { shared, gave_up } => {
                let from = shared + 1;
                tracing::error!(
                    from,
                    to = gave_up,
                    "two chains parted and this node was on the one that gives way: certificates of these epochs no longer                      stand, propose their groups again"
                );
            }
            Event::HeadBlocked { group_id, version, manifest_hash, other, certified } => {
                if certified {
                    let shell = Arc::clone(self);
                    self.tasks.spawn(async move { shell.drop_draft(group_id, manifest_hash).await });
                } else {
                    self.board.update(group_id, |progress| progress.contested = Some(version));
                }
                let group = group_id.short();
                tracing::warn!(%group, version, value = %manifest_hash, %other, certified, "another value of this version");
            }
        }
    }
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
