//! Writes what the cores want kept: one task per database, in order, each batch durable before it is answered.
//!
//! Batches that wait are written together, in one transaction with one flush: a disk that flushes a hundred times a second
//! still takes thousands of batches. Queues have no bound of their own; the driver takes no more work while
//! [`Backlog::is_long`], so that the core never runs far ahead of the disk.
//!
//! **Invariant:** a batch that cannot be written stops the node. A disk that failed once may lie the next time, so nothing
//! is retried: the process ends and a restart begins from what is really there. The one exception is a full disk: it leaves no
//! trace and says so, and the batch waits until there is space. Until then nothing that depends on it leaves the node.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mynet_proto::{consensus::io as consensus, persist::PersistId, replication::io::Record};
use mynet_store::{
    is_disk_full,
    meta::MetaWrite,
    votes::{VoteWrite, Votes},
};
use mynet_types::codec;
use tokio::sync::mpsc;

use crate::{
    crash,
    driver::wall_clock,
    publish::stored_mode,
    shell::{Chain, Shell},
};

/// Batches on their way to disk beyond which the core is given no more work. A batch is a few kilobytes; with half as many a
/// burst of votes would wait for flushes more often, with twice as many memory would hold more that a crash takes.
const BACKLOG_LONG: usize = 4096;
/// Batches written in one transaction at most. More make the first one wait for all of them.
const TOGETHER_MAX: usize = 256;
/// Pause before a batch that met a full disk is tried again.
const FULL_RETRY: Duration = Duration::from_secs(1);

/// Records of one core that are to be written together.
#[derive(Debug)]
pub(crate) enum Batch {
    /// For the vote store.
    Votes { id: PersistId, records: Vec<consensus::Record> },
    /// For the metadata store.
    Groups { id: PersistId, records: Vec<Record> },
}

/// How many batches are on their way to disk. All clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog(Arc<AtomicUsize>);

impl Backlog {
    /// Whether the disk is so far behind that no new work should be taken.
    pub(crate) fn is_long(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= BACKLOG_LONG
    }

    fn grow(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn shrink(&self, written: usize) {
        self.0.fetch_sub(written, Ordering::Relaxed);
    }
}

/// The queues of both databases.
#[derive(Debug, Clone)]
pub(crate) struct Writers {
    pub(crate) backlog: Backlog,
    votes: mpsc::UnboundedSender<(PersistId, Vec<consensus::Record>)>,
    groups: mpsc::UnboundedSender<(PersistId, Vec<Record>)>,
}

/// The other ends of [`Writers`], and where what is durable is told.
pub(crate) struct Queues {
    backlog: Backlog,
    votes: mpsc::UnboundedReceiver<(PersistId, Vec<consensus::Record>)>,
    groups: mpsc::UnboundedReceiver<(PersistId, Vec<Record>)>,
    durable: mpsc::UnboundedSender<PersistId>,
}

/// Makes the queues, and the one through which the driver hears of durable batches.
pub(crate) fn queues() -> (Writers, Queues, mpsc::UnboundedReceiver<PersistId>) {
    let (votes, votes_end) = mpsc::unbounded_channel();
    let (groups, groups_end) = mpsc::unbounded_channel();
    let (durable, durable_end) = mpsc::unbounded_channel();
    let backlog = Backlog::default();
    let writers = Writers { backlog: backlog.clone(), votes, groups };
    (writers, Queues { backlog, votes: votes_end, groups: groups_end, durable }, durable_end)
}

impl Writers {
    /// Queues a batch; it is lost only if the node stops, and then nobody has been told of it.
    pub(crate) fn put(&self, batch: Batch) {
        self.backlog.grow();
        let queued = match batch {
            Batch::Votes { id, records } => self.votes.send((id, records)).is_ok(),
            Batch::Groups { id, records } => self.groups.send((id, records)).is_ok(),
        };
        if !queued {
            self.backlog.shrink(1);
        }
    }
}

/// Starts the writing tasks; each ends when the node stops.
pub(crate) fn spawn(queues: Queues, votes: Votes, shell: &Arc<Shell>) {
    let tasks = shell.tasks.clone();
    let Queues { backlog, votes: mut vote_queue, groups: mut group_queue, durable } = queues;
    let (on_votes, told, behind) = (Arc::clone(shell), durable.clone(), backlog.clone());
    tasks.spawn(async move {
        while let Some(batches) = next(&on_votes, &mut vote_queue).await {
            let (ids, records): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
            let records: Vec<_> = records.into_iter().flatten().collect();
            crash::before_votes(&records);
            let after = crash::after_votes(&records);
            let writes: Vec<VoteWrite> = records.into_iter().map(vote_write).collect();
            if until_written(&on_votes, "write votes", || votes.batch(writes.clone())).await.is_none() {
                return;
            }
            crash::reach_all(after);
            tell(&told, &behind, ids);
        }
        if let Err(error) = votes.close().await {
            tracing::error!(%error, "vote store did not close cleanly");
        }
    });
    let on_groups = Arc::clone(shell);
    tasks.spawn(async move {
        while let Some(batches) = next(&on_groups, &mut group_queue).await {
            let (ids, records): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
            if !write_groups(&on_groups, records.into_iter().flatten().collect()).await {
                return;
            }
            tell(&durable, &backlog, ids);
        }
    });
}

/// Tells the driver, in order, what is durable.
fn tell(durable: &mpsc::UnboundedSender<PersistId>, backlog: &Backlog, ids: Vec<PersistId>) {
    backlog.shrink(ids.len());
    // The driver ends only with the node.
    ids.into_iter().try_for_each(|id| durable.send(id)).ok();
}

/// The batches that wait, in order, and at least one; `None` once the node stops.
async fn next<T>(shell: &Shell, queue: &mut mpsc::UnboundedReceiver<T>) -> Option<Vec<T>> {
    let mut batches = Vec::new();
    tokio::select! {
        biased;
        () = shell.cancel.cancelled() => None,
        count = queue.recv_many(&mut batches, TOGETHER_MAX) => (count > 0).then_some(batches),
    }
}

/// Writes until it succeeds or the node stops, which every failure but a full disk brings about.
pub(crate) async fn until_written<T, E, F>(
    shell: &Shell,
    what: &'static str,
    mut attempt: impl FnMut() -> F,
) -> Option<T>
where
    E: Error + 'static,
    F: Future<Output = Result<T, E>>,
{
    let mut told = false;
    loop {
        let error = match attempt().await {
            Ok(written) => {
                if told {
                    tracing::info!(what, "there is space again, the node goes on");
                }
                return Some(written);
            }
            Err(error) => error,
        };
        if !is_disk_full(&error) {
            shell.fail(what, error);
            return None;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::error!(what, error = %Chain(&error), "the disk is full: nothing new is acknowledged until there is space");
        }
        tokio::select! {
            () = shell.cancel.cancelled() => return None,
            () = tokio::time::sleep(FULL_RETRY) => {}
        }
    }
}

/// Writes records to the metadata store and does what follows from them on disk; `false` stops the node.
async fn write_groups(shell: &Arc<Shell>, records: Vec<Record>) -> bool {
    let ended = records.iter().filter_map(ended_transaction).collect::<Vec<_>>();
    let given_up = records.iter().filter_map(|record| match record {
        Record::Abort { tx, .. } => Some(*tx),
        _ => None,
    });
    let given_up: Vec<_> = given_up.collect();
    crash::before_groups(&records);
    let after = crash::after_groups(&records);
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
    // Before the write: on a full disk it is these bytes that make room for it.
    for tx in given_up {
        shell.clear_staging(tx).await;
    }
    let written = until_written(shell, "write metadata", || shell.meta.batch(writes.clone(), wall_clock())).await;
    let Some(done) = written else { return false };
    crash::reach_all(after);
    shell.unlink(done.redundant).await;
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
        | Record::Told { .. }
        | Record::Receipts { .. }
        | Record::Wraps { .. }
        | Record::End(_)
        | Record::Tombstone { .. }
        | Record::Confirmed { .. } => None,
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
            let commit = MetaWrite::Commit { tx, attempt, rows: Box::new(rows), receipt };
            [Some(commit), shell.commit_certificate(&tx)].into_iter().flatten().collect()
        }
        Record::Abort { tx, attempt } => vec![MetaWrite::Abort { tx, attempt }],
        Record::Forget(tx) => vec![MetaWrite::Forget(tx)],
        Record::Begin(publication) => vec![MetaWrite::Begin {
            group_id: publication.manifest.body.group_id,
            replicas: publication.replicas,
            mode: stored_mode(publication.mode),
            publication: codec::encode(&publication),
        }],
        Record::Decided(decided) => {
            vec![MetaWrite::Decided { group_id: decided.group_id, decided: codec::encode(&decided) }]
        }
        Record::Told { group_id, version, nodes } => vec![MetaWrite::Told { group_id, version, nodes }],
        Record::Receipts { manifest_hash, receipts, .. } => {
            vec![MetaWrite::Receipts { manifest_hash, receipts: receipts.into_vec() }]
        }
        Record::Wraps { group_id, wraps } => vec![MetaWrite::Wraps { group_id, wraps: wraps.into_vec() }],
        Record::End(group_id) => vec![MetaWrite::End(group_id)],
        Record::Tombstone { tombstone, from, holders } => vec![MetaWrite::Tombstone { tombstone, from, holders }],
        Record::Confirmed { group_id, node } => vec![MetaWrite::Confirmed { group_id, node }],
    })
}

/// A consensus record as the vote store writes it.
fn vote_write(record: consensus::Record) -> VoteWrite {
    match record {
        consensus::Record::Vote(vote) => VoteWrite::Vote(vote),
        consensus::Record::Key { epoch, secret } => VoteWrite::Key { epoch, secret },
        consensus::Record::EraseKeys { through } => VoteWrite::EraseKeys { through },
        consensus::Record::RosterLock(lock) => {
            VoteWrite::RosterLock { epoch: lock.roster.epoch, roster: lock.roster.hash(), lock: codec::encode(&lock) }
        }
        consensus::Record::Link(link) => VoteWrite::Link(link),
        consensus::Record::Proposal(open) => {
            VoteWrite::Proposal { id: open.proposal.body.id(), proposal: codec::encode(&open) }
        }
        consensus::Record::Closed(id) => VoteWrite::Closed(id),
        consensus::Record::Evidence(evidence) => VoteWrite::Evidence(evidence),
        consensus::Record::OwnerSigned { epoch, signed } => VoteWrite::OwnerSigned { epoch, signed },
        consensus::Record::OwnerEvidence(evidence) => VoteWrite::OwnerEvidence(evidence),
        consensus::Record::Approval { node, given } => VoteWrite::Approval { node, given },
        consensus::Record::Acked(head) => VoteWrite::Acked(head),
        consensus::Record::EpochClosed(next) => {
            VoteWrite::EpochClosed { epoch: next.roster.epoch.saturating_sub(1), next: codec::encode(&next) }
        }
        consensus::Record::Carried(heads) => VoteWrite::Carried(heads.into_vec()),
        consensus::Record::CarriedNext(heads) => VoteWrite::CarriedNext(heads.into_vec()),
        consensus::Record::Reported { root, heads } => VoteWrite::Reported { root, heads: heads.into_vec() },
        consensus::Record::Unlinked { after } => VoteWrite::Unlinked { after },
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
            versions: restored.versions,
            rejected: restored.rejected,
            tombstones: restored.tombstones,
            deletions: restored.deletions,
        })
    }

    /// What consensus begins from.
    pub(crate) fn consensus(restored: RestoredVotes) -> Result<consensus::Restored, DecodeError> {
        let read = |bytes: &Vec<u8>| codec::decode(bytes, STATE_BYTES_MAX);
        let lock = restored.lock.as_ref().map(|bytes| codec::decode(bytes, STATE_BYTES_MAX)).transpose()?;
        let closed = restored.closed.as_ref().map(|bytes| codec::decode(bytes, STATE_BYTES_MAX)).transpose()?;
        let proposals = restored.proposals.iter().map(read).collect::<Result<_, _>>()?;
        Ok(consensus::Restored {
            links: restored.links,
            evidence: restored.evidence,
            owner_evidence: restored.owner_evidence,
            signed: restored.signed,
            approved: restored.approved,
            keys: restored.keys,
            votes: restored.votes,
            lock,
            proposals,
            acked: restored.acked,
            closed,
            carried: restored.carried,
            carried_next: restored.carried_next,
            reported: restored.reported,
            may_vote: restored.may_vote,
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::replication::io::Record;
    use mynet_types::NodeId;

    use super::{group_write, wall_clock};
    use crate::testing::Founder;

    /// Nothing shows it before the next version, or the end of the group, is for whoever was told.
    #[tokio::test(flavor = "multi_thread")]
    async fn who_is_told_to_commit_is_on_disk() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let group_id = founder.add(b"content", |_| ()).await;
        let node = NodeId([7; 32]);
        let writes = group_write(shell, Record::Told { group_id, version: 1, nodes: vec![node] }).unwrap();
        shell.meta.batch(writes, wall_clock()).await.unwrap();
        assert!(shell.meta.told(group_id).await.unwrap().contains(&(node, 1)));
    }
}
