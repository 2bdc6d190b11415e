//! Writes what the cores want kept: one task per database, in order, each batch durable before it is answered.
//!
//! **Invariant:** a batch that cannot be written stops the node. A disk that failed once may lie the next time, so nothing
//! is retried: the process ends and a restart begins from what is really there.

use std::sync::Arc;

use mynet_proto::{
    consensus::io as consensus,
    node::io::Input,
    persist::PersistId,
    replication::io::{Mode, Record},
};
use mynet_store::{
    meta::{self, MetaWrite},
    votes::{VoteSecret, VoteWrite, Votes},
};
use mynet_types::codec;
use tokio::sync::mpsc;

use crate::{driver::Inbox, driver::wall_clock, shell::Shell};

/// Batches waiting for one database at most; the core cannot run further ahead of the disk than this.
const BATCHES_MAX: usize = 4096;

/// Records of one core that are to be written together.
#[derive(Debug)]
pub(crate) enum Batch {
    /// For the vote store.
    Votes { id: PersistId, records: Vec<consensus::Record> },
    /// For the metadata store.
    Groups { id: PersistId, records: Vec<Record> },
}

/// The queues of both databases.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    votes: mpsc::Sender<(PersistId, Vec<consensus::Record>)>,
    groups: mpsc::Sender<(PersistId, Vec<Record>)>,
}

/// The other ends of [`Writers`].
pub(crate) struct Queues {
    votes: mpsc::Receiver<(PersistId, Vec<consensus::Record>)>,
    groups: mpsc::Receiver<(PersistId, Vec<Record>)>,
}

/// Makes the queues.
pub(crate) fn queues() -> (Writers, Queues) {
    let (votes, votes_end) = mpsc::channel(BATCHES_MAX);
    let (groups, groups_end) = mpsc::channel(BATCHES_MAX);
    (Writers { votes, groups }, Queues { votes: votes_end, groups: groups_end })
}

impl Writers {
    /// Queues a batch; `false` if the queue is full, which means that the disk does not keep up by far.
    pub(crate) fn put(&self, batch: Batch) -> bool {
        match batch {
            Batch::Votes { id, records } => self.votes.try_send((id, records)).is_ok(),
            Batch::Groups { id, records } => self.groups.try_send((id, records)).is_ok(),
        }
    }
}

/// Starts the writing tasks; each ends when the shell and its queue are gone, after what was queued.
pub(crate) fn spawn(queues: Queues, votes: Votes, shell: &Arc<Shell>, inbox: &Inbox) {
    let tasks = shell.tasks.clone();
    let Queues { votes: mut vote_queue, groups: mut group_queue } = queues;
    let (on_votes, to_core) = (Arc::clone(shell), inbox.clone());
    tasks.spawn(async move {
        while let Some((id, records)) = next(&on_votes, &mut vote_queue).await {
            let writes = records.into_iter().map(vote_write).collect();
            if let Err(error) = votes.batch(writes).await {
                return on_votes.fail("write votes", error);
            }
            to_core.put(Input::Persisted(id)).await;
        }
        if let Err(error) = votes.close().await {
            tracing::error!(%error, "vote store did not close cleanly");
        }
    });
    let (on_groups, to_core) = (Arc::clone(shell), inbox.clone());
    tasks.spawn(async move {
        while let Some((id, records)) = next(&on_groups, &mut group_queue).await {
            if !write_groups(&on_groups, records).await {
                return;
            }
            to_core.put(Input::Persisted(id)).await;
        }
    });
}

/// The next batch; `None` once the node stops.
async fn next<T>(shell: &Shell, queue: &mut mpsc::Receiver<T>) -> Option<T> {
    tokio::select! {
        biased;
        () = shell.cancel.cancelled() => None,
        batch = queue.recv() => batch,
    }
}

/// Writes one batch to the metadata store and does what follows from it on disk; `false` stops the node.
async fn write_groups(shell: &Arc<Shell>, records: Vec<Record>) -> bool {
    let ended = records.iter().filter_map(ended_transaction).collect::<Vec<_>>();
    let mut writes = Vec::new();
    for record in records {
        match group_write(shell, record) {
            Ok(write) => writes.extend(write),
            Err(error) => {
                shell.fail("translate a record", error);
                return false;
            }
        }
    }
    match shell.meta.batch(writes, wall_clock()).await {
        Ok(done) => shell.unlink(done.redundant).await,
        Err(error) => {
            shell.fail("write metadata", error);
            return false;
        }
    }
    for tx in ended {
        shell.forget_staging(tx).await;
    }
    true
}

/// The transaction whose staging a record ends.
fn ended_transaction(record: &Record) -> Option<mynet_types::TxId> {
    match record {
        Record::Commit { tx, .. } | Record::Abort { tx, .. } => Some(*tx),
        Record::Intent(_)
        | Record::Prepared { .. }
        | Record::Forget(_)
        | Record::Begin(_)
        | Record::Decided(_)
        | Record::Receipts { .. }
        | Record::Wraps { .. }
        | Record::End(_) => None,
    }
}

/// Why a record has no write: the node does not know what the core thinks it knows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TranslateError {
    /// Nothing is staged for a transaction.
    #[error("nothing is staged for transaction {0}")]
    NotStaged(mynet_types::TxId),
    /// Its own wrap does not open any more.
    #[error(transparent)]
    Grant(#[from] crate::grant::GrantError),
}

/// A replication record as the metadata store writes it.
fn group_write(shell: &Shell, record: Record) -> Result<Vec<MetaWrite>, TranslateError> {
    Ok(match record {
        Record::Intent(intent) => {
            let manifest = &intent.prepare.manifest.body;
            vec![MetaWrite::Intent {
                tx: intent.prepare.tx,
                attempt: intent.prepare.attempt,
                group_id: manifest.group_id,
                reserved_bytes: manifest.stored_bytes(),
                state: codec::encode(&intent),
            }]
        }
        Record::Prepared { tx, attempt, states } => {
            let blobs = shell.staged_blobs(&tx).ok_or(TranslateError::NotStaged(tx))?;
            vec![MetaWrite::Prepared { tx, attempt, states, blobs }]
        }
        Record::Commit { tx, attempt, receipt } => {
            let rows = shell.commit_rows(&tx, receipt.body.states)?;
            vec![MetaWrite::Commit { tx, attempt, rows: Box::new(rows), receipt }]
        }
        Record::Abort { tx, attempt } => vec![MetaWrite::Abort { tx, attempt }],
        Record::Forget(tx) => vec![MetaWrite::Forget(tx)],
        Record::Begin(publication) => vec![MetaWrite::Begin {
            group_id: publication.manifest.body.group_id,
            replicas: publication.replicas,
            mode: match publication.mode {
                Mode::Quorum => meta::Mode::Quorum,
                Mode::All => meta::Mode::All,
            },
            publication: codec::encode(&publication),
        }],
        Record::Decided(decided) => {
            vec![MetaWrite::Decided { group_id: decided.group_id, decided: codec::encode(&decided) }]
        }
        Record::Receipts { manifest_hash, receipts, .. } => {
            vec![MetaWrite::Receipts { manifest_hash, receipts: receipts.into_vec() }]
        }
        Record::Wraps { group_id, wraps } => vec![MetaWrite::Wraps { group_id, wraps: wraps.into_vec() }],
        Record::End(group_id) => vec![MetaWrite::End(group_id)],
    })
}

/// A consensus record as the vote store writes it.
fn vote_write(record: consensus::Record) -> VoteWrite {
    match record {
        consensus::Record::Vote(vote) => VoteWrite::Vote(vote),
        consensus::Record::Key { epoch, secret } => VoteWrite::Key { epoch, secret: VoteSecret(secret) },
        consensus::Record::EraseKeys { through } => VoteWrite::EraseKeys { through },
        consensus::Record::RosterLock(lock) => {
            VoteWrite::RosterLock { epoch: lock.roster.epoch, roster: lock.roster.hash(), lock: codec::encode(&lock) }
        }
        consensus::Record::Link(link) => VoteWrite::Link(link),
        consensus::Record::Proposal(open) => {
            VoteWrite::Proposal { id: open.proposal.body.id(), proposal: codec::encode(&open) }
        }
        consensus::Record::Closed(id) => VoteWrite::Closed(id),
    }
}

/// Reads back what the stores hold, as the cores begin from it.
pub(crate) mod restore {
    use mynet_proto::{consensus::io as consensus, replication::io as replication};
    use mynet_store::{meta::RestoredTransactions, votes::RestoredVotes};
    use mynet_types::{DecodeError, codec};

    /// Encoded size of an opaque record at most: a prepare or publication with all its wraps, and room.
    const STATE_BYTES_MAX: usize = 1024 * 1024;

    /// What replication begins from.
    pub(crate) fn replication(restored: RestoredTransactions) -> Result<replication::Restored, DecodeError> {
        let mut intents = Vec::new();
        for open in restored.open {
            intents.push((codec::decode::<replication::Intent>(&open.state, STATE_BYTES_MAX)?, open.prepared));
        }
        let mut publications = Vec::new();
        for open in restored.coordinations {
            let publication = codec::decode(&open.publication, STATE_BYTES_MAX)?;
            let decided = open.decided.as_deref().map(|bytes| codec::decode(bytes, STATE_BYTES_MAX)).transpose()?;
            let receipts = mynet_types::BoundedVec::truncated(open.receipts);
            publications.push((publication, decided, receipts));
        }
        Ok(replication::Restored {
            boot: restored.boot,
            intents,
            committed: restored.committed,
            aborted: restored.aborted,
            publications,
        })
    }

    /// What consensus begins from.
    pub(crate) fn consensus(restored: RestoredVotes) -> Result<consensus::Restored, DecodeError> {
        let read = |bytes: &Vec<u8>| codec::decode(bytes, STATE_BYTES_MAX);
        let lock = restored.lock.as_ref().map(|bytes| codec::decode(bytes, STATE_BYTES_MAX)).transpose()?;
        let proposals = restored.proposals.iter().map(read).collect::<Result<_, _>>()?;
        Ok(consensus::Restored {
            links: restored.links,
            keys: restored.keys.into_iter().map(|(epoch, secret)| (epoch, secret.0)).collect(),
            votes: restored.votes,
            lock,
            proposals,
            may_vote: restored.may_vote,
        })
    }
}
