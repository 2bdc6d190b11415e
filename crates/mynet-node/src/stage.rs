//! Staging as a participant: reserve, pull what is missing from the sources, verify, fsync.
//!
//! The counterpart of the specification's `transfer_state` and `verify_replicated_states`. Bytes that this node holds
//! already are pinned and not pulled again; a transfer that a crash cut off goes on from the verified bytes on disk.
//!
//! **Invariant:** success means that every stored state wanted is in the blob store, fsynced, with SHA-256 and BLAKE3 checked,
//! and that the decrypted state, if wanted, opened with this node's own wrap and matches the manifest's commitment.

use std::sync::Arc;

use futures::stream::{FuturesUnordered, StreamExt};
use mynet_net::{RangeError, RangeWanted};
use mynet_proto::node::io::Input;
use mynet_store::{
    blobs::{
        CommitError, DecryptError, DecryptedRange, DiskError, FinishError, ReadError, ReceiveError, Receiver,
        StageName, StagingDir, free_space,
    },
    cipher::{ChunkSpan, CipherError},
    meta::{MetaError, StoredBlob, WriteError},
};
use mynet_types::{
    Blake3Root, BlobRef, ContentHash, ContentState, GroupId, Manifest, NodeId, StatesMask, TxId,
    wire::{Prepare, RefuseReason},
};
use sha2::{Digest, Sha256};

use crate::{
    driver::wall_clock,
    grant::{self, GrantError},
    room::DISK_RESERVE,
    shell::{Shell, stage_name},
};

/// Segments of one blob in flight. One stream carries at most a window per round trip: four fill a long link.
const LANES: usize = 4;
/// Rounds over all sources before a blob is given up; between rounds a source may have come back.
const ROUNDS: usize = 3;

/// What is to be staged.
#[derive(Debug)]
pub(crate) struct StageJob {
    pub(crate) tx: TxId,
    pub(crate) attempt: u32,
    pub(crate) prepare: Box<Prepare>,
    pub(crate) states: StatesMask,
}

impl StageJob {
    /// The group.
    pub(crate) fn group(&self) -> GroupId {
        self.prepare.manifest.body.group_id
    }
}

/// Why staging failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    #[error("no space: {needed} bytes are needed, {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error("no source delivered {0}")]
    Unavailable(ContentHash),
    #[error("{0}")]
    HashMismatch(FinishError),
    #[error("the decrypted state does not open: {0}")]
    Grant(#[from] GrantError),
    #[error("the decrypted state does not decrypt: {0}")]
    Decrypt(#[from] DecryptError<ReadError>),
    #[error("the decrypted state does not decrypt: {0}")]
    Cipher(#[from] CipherError),
    #[error("the plaintext is not the one that its owner committed to")]
    Plaintext,
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Meta(#[from] MetaError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl StageError {
    /// What the coordinator is told.
    pub(crate) fn reason(&self) -> RefuseReason {
        match self {
            Self::NoSpace { .. } => RefuseReason::NoSpace,
            Self::Disk(error) if error.is_no_space() => RefuseReason::NoSpace,
            Self::Unavailable(_) => RefuseReason::Unavailable,
            Self::HashMismatch(_) => RefuseReason::HashMismatch,
            Self::Grant(_) | Self::Decrypt(_) | Self::Cipher(_) | Self::Plaintext => RefuseReason::WrapInvalid,
            Self::Write(WriteError::IdConflict { .. }) => RefuseReason::IdConflict,
            Self::Write(WriteError::OtherManifest { .. }) => RefuseReason::Superseded,
            Self::Write(_) | Self::Meta(_) | Self::Disk(_) | Self::Commit(_) | Self::Read(_) => RefuseReason::Storage,
        }
    }
}

/// Stages everything wanted and returns the files.
pub(crate) async fn run(shell: &Arc<Shell>, job: &StageJob) -> Result<Vec<StoredBlob>, StageError> {
    let manifest = &job.prepare.manifest.body;
    let here = shell.meta.stage(job.tx, manifest, wall_clock()).await?;
    let wanted: Vec<BlobRef> =
        manifest.blobs().filter(|(member, _)| job.states.contains(member.state)).map(|(_, blob)| blob).collect();
    let have = |blob: &BlobRef| here.iter().copied().find(|stored| stored.blob == *blob);
    let missing: u64 = wanted.iter().filter(|blob| have(blob).is_none()).map(|blob| blob.size).sum();
    check_space(shell, missing).await?;
    let staging = shell.blobs.stage(stage_name(&job.tx)).await?;
    let mut stored = Vec::new();
    for (index, blob) in wanted.iter().enumerate() {
        match have(blob) {
            Some(held) => stored.push(held),
            None => stored.push(pull(shell, job, &staging, (index, *blob)).await?),
        }
    }
    if job.states.contains(ContentState::Decrypted) && !job.prepare.sealed.is_empty() {
        check_decrypted(shell, &job.prepare, manifest, &stored).await?;
    }
    Ok(stored)
}

/// Refuses what would exceed the capacity or fill the disk. Open reservations, this one among them, are counted.
async fn check_space(shell: &Shell, needed: u64) -> Result<(), StageError> {
    let used = shell.meta.blob_bytes().await?;
    let reserved = shell.meta.reserved_bytes().await?.max(needed);
    let capacity = shell.config.storage.capacity.as_u64();
    let dir = shell.blobs.dir().to_owned();
    let disk = free_space(&dir)?.saturating_sub(DISK_RESERVE);
    let free = capacity.saturating_sub(used).saturating_sub(reserved - needed).min(disk);
    if needed > free { Err(StageError::NoSpace { needed, free }) } else { Ok(()) }
}

/// Pulls one blob and puts it in place.
async fn pull(
    shell: &Arc<Shell>,
    job: &StageJob,
    staging: &StagingDir,
    (index, blob): (usize, BlobRef),
) -> Result<StoredBlob, StageError> {
    let label: StageName = format!("blob-{index}").parse().expect("a number and a dash make a staging name");
    for _round in 0..ROUNDS {
        let receiver = Receiver::open(staging, &label, blob).await.map_err(|error| receive_error(error, blob))?;
        let lanes: FuturesUnordered<_> = (0..LANES).map(|lane| fill(shell, job, &receiver, lane)).collect();
        let results: Vec<_> = lanes.collect().await;
        for result in results {
            result?;
        }
        match receiver.finish().await {
            Ok(staged) => {
                let generation = shell.generation();
                shell.blobs.commit(&staged, generation).await?;
                return Ok(StoredBlob { blob, generation });
            }
            Err(FinishError::Incomplete { .. } | FinishError::Lost { .. }) => {}
            Err(error @ FinishError::HashMismatch { .. }) => return Err(StageError::HashMismatch(error)),
            Err(FinishError::NoSpace { free }) => return Err(StageError::NoSpace { needed: blob.size, free }),
            Err(FinishError::Disk(error)) => return Err(error.into()),
        }
    }
    Err(StageError::Unavailable(blob.sha256))
}

/// What a failed receipt of bytes means when no other source can help.
fn receive_error(error: ReceiveError, blob: BlobRef) -> StageError {
    match error {
        ReceiveError::Source(_) | ReceiveError::Impossible { .. } => StageError::Unavailable(blob.sha256),
        ReceiveError::NoSpace { free } => StageError::NoSpace { needed: blob.size, free },
        ReceiveError::Disk(error) => error.into(),
    }
}

/// Fills missing segments until none is left or no source of this lane delivers any more.
async fn fill(shell: &Arc<Shell>, job: &StageJob, receiver: &Receiver, lane: usize) -> Result<(), StageError> {
    let sources: Vec<NodeId> = job.prepare.sources.iter().copied().filter(|node| *node != shell.me()).collect();
    let mut failures = 0;
    while let Some(segment) = receiver.next_missing() {
        let Some(source) = sources.get((lane + failures) % sources.len().max(1)) else { return Ok(()) };
        let range = segment.range();
        let blob = *receiver.expected();
        let wanted = RangeWanted { sha256: blob.sha256, offset: range.start, len: range.end - range.start };
        match fetch(shell, *source, wanted, receiver, &segment).await {
            Ok(()) => {
                let bytes = receiver.received();
                shell.inbox.put(Input::Progress { tx: job.tx, attempt: job.attempt, bytes }).await;
            }
            Err(Failed::Here(error)) => return Err(receive_error(error, blob)),
            Err(Failed::Source(why)) => {
                tracing::debug!(source = %source.short(), blob = %blob.sha256, why, "a source failed, the next is tried");
                failures += 1;
                if failures >= sources.len() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Whose fault it is that a segment did not come.
enum Failed {
    Source(String),
    Here(ReceiveError),
}

/// Pulls one segment from one source.
async fn fetch(
    shell: &Shell,
    source: NodeId,
    wanted: RangeWanted,
    receiver: &Receiver,
    segment: &mynet_store::blobs::Segment,
) -> Result<(), Failed> {
    let net = shell.net.get().ok_or_else(|| Failed::Source("the network is not up".to_owned()))?;
    let opened = net.open_range(source, wanted).await;
    let (head, stream) = opened.map_err(|error: RangeError| Failed::Source(error.to_string()))?;
    let blob = receiver.expected();
    if (head.size, head.blake3) != (blob.size, blob.blake3) {
        return Err(Failed::Source("it holds other bytes under this hash".to_owned()));
    }
    match receiver.receive(segment, stream).await {
        Ok(_bytes) => Ok(()),
        Err(ReceiveError::Source(error)) => Err(Failed::Source(error.to_string())),
        Err(error) => Err(Failed::Here(error)),
    }
}

/// Opens the own wrap, decrypts the whole and compares it with what the owner committed to.
async fn check_decrypted(
    shell: &Shell,
    prepare: &Prepare,
    manifest: &Manifest,
    stored: &[StoredBlob],
) -> Result<(), StageError> {
    let key = grant::content_key(&shell.keys, &shell.network, manifest, &prepare.wraps)?;
    let part = grant::sealed_part(&key, manifest, &prepare.sealed)?;
    let cipher = grant::file_cipher(&key, manifest)?;
    let encrypted = manifest.member(ContentState::Encrypted).and_then(|member| member.blob);
    let held = stored.iter().find(|stored| Some(stored.blob) == encrypted).ok_or(StageError::Plaintext)?;
    let span = ChunkSpan::covering(0..part.plain.size, held.blob.size)?;
    let reader = shell.blobs.read(held.blob, held.generation).await?;
    let mut plain = DecryptedRange::new(cipher, &span, reader.range(span.cipher.clone())?);
    let (mut sha256, mut blake3, mut size) = (Sha256::new(), blake3::Hasher::new(), 0);
    while let Some(bytes) = plain.next().await? {
        size += bytes.len() as u64;
        // Hashing 256 KiB takes about a tenth of a millisecond: not worth a hop to another thread.
        sha256.update(&bytes);
        blake3.update(&bytes);
    }
    let found = BlobRef {
        sha256: ContentHash(sha256.finalize().into()),
        blake3: Blake3Root(*blake3.finalize().as_bytes()),
        size,
    };
    if found == part.plain { Ok(()) } else { Err(StageError::Plaintext) }
}
