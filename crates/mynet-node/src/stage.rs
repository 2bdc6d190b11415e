//! Staging as a participant: reserve, pull what is missing from the sources, verify, fsync.
//!
//! The counterpart of the specification's `transfer_state` and `verify_replicated_states`. Bytes that this node holds
//! already are pinned and not pulled again; a transfer that a crash cut off goes on from the verified bytes on disk.
//!
//! **Invariant:** success means that every stored state wanted is in the blob store, fsynced, with SHA-256 and BLAKE3 checked,
//! and that the decrypted state, if wanted, opened with this node's own wrap and matches the manifest's commitment.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use mynet_proto::reason::{Note, Reason};
use mynet_store::{
    blobs::{BlobKey, CommitError, DecryptError, DecryptedRange, DiskError, ReadError, StageName, StagedBlob},
    cipher::{ChunkSpan, CipherError, SEALED_CHUNK_BYTES},
    is_disk_full,
    meta::{StoredBlob, WriteError},
};
use mynet_types::{
    BlobRef, ContentState, GroupId, StatesMask, TxId,
    wire::{Prepare, RefuseReason},
};

use crate::{
    crash,
    driver::wall_clock,
    grant::{self, GrantError},
    plaintext::hash_of,
    pull::{Pull, PullError, ROUNDS},
    room::RoomError,
    shell::Shell,
    staged::{Turn, stage_name},
};

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
    #[error("the decrypted state does not open: {0}")]
    Grant(#[from] GrantError),
    #[error("the decrypted state does not decrypt: {0}")]
    Cipher(#[from] CipherError),
    #[error("the plaintext is not the one that its owner committed to")]
    Plaintext,
    /// What this disk holds did not come back whole; says nothing about the content.
    #[error("blob {} was not read back: {error}", .held.blob.sha256)]
    Read { held: StoredBlob, error: ReadError },
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Room(#[from] RoomError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl StageError {
    /// What the coordinator is told. [`RefuseReason::WrapInvalid`] and [`RefuseReason::Superseded`] are for ever, so nothing
    /// that a better disk would heal may become one of them.
    pub(crate) fn reason(&self) -> RefuseReason {
        if is_disk_full(self) {
            return RefuseReason::NoSpace;
        }
        match self {
            Self::NoSpace { .. } | Self::Pull(PullError::NoSpace { .. }) => RefuseReason::NoSpace,
            Self::Pull(PullError::Unavailable(_)) => RefuseReason::Unavailable,
            Self::Pull(PullError::HashMismatch(_)) => RefuseReason::HashMismatch,
            Self::Grant(_) | Self::Cipher(_) | Self::Plaintext => RefuseReason::WrapInvalid,
            Self::Write(WriteError::IdConflict { .. }) => RefuseReason::IdConflict,
            Self::Write(WriteError::OtherManifest { .. } | WriteError::Deleted(_)) => RefuseReason::Superseded,
            Self::Write(_)
            | Self::Room(_)
            | Self::Disk(_)
            | Self::Commit(_)
            | Self::Read { .. }
            | Self::Pull(PullError::Disk(_) | PullError::Commit(_)) => RefuseReason::Storage,
        }
    }
}

/// Stages everything wanted and returns the files. `received` says how many bytes of it are here.
pub(crate) async fn run(
    shell: &Arc<Shell>,
    job: &StageJob,
    turn: &Turn,
    received: &AtomicU64,
) -> Result<Vec<StoredBlob>, StageError> {
    let stager = Stager { shell, job, turn, received };
    let mut lost = None;
    for _round in 0..ROUNDS {
        let stored = stager.hold().await?;
        match stager.check_decrypted(&stored).await {
            // This disk lost what it held. Another copy may be better.
            Err(StageError::Read { held, error }) if is_damage(&error) => {
                stager.put_away(&held, &error).await;
                lost = Some(StageError::Read { held, error });
            }
            checked => return checked.map(|()| stored),
        }
    }
    Err(lost.expect("a round ends with a result or with a lost blob"))
}

/// Whether the bytes are gone, and not only out of reach.
fn is_damage(error: &ReadError) -> bool {
    matches!(error, ReadError::Missing { .. } | ReadError::Corrupt { .. })
}

/// One attempt at work.
struct Stager<'a> {
    shell: &'a Arc<Shell>,
    job: &'a StageJob,
    turn: &'a Turn,
    received: &'a AtomicU64,
}

impl Stager<'_> {
    /// Sees to it that every blob wanted is in place: finds it, or pulls it.
    async fn hold(&self) -> Result<Vec<StoredBlob>, StageError> {
        let Self { shell, job, .. } = *self;
        let manifest = &job.prepare.manifest.body;
        let mut here = shell.meta.stage(job.tx, manifest, wall_clock()).await?;
        here.extend(shell.staged.placed(&job.tx));
        let (mut stored, mut missing) = (Vec::new(), Vec::new());
        for (member, blob) in manifest.blobs() {
            if job.states.contains(member.state) {
                match self.find(&here, blob).await? {
                    Some(held) => stored.push(held),
                    None => missing.push(blob),
                }
            }
        }
        let needed = missing.iter().map(|blob| blob.size).sum();
        let free = shell.room(manifest.stored_bytes()).await?;
        if needed > free {
            return Err(StageError::NoSpace { needed, free });
        }
        let staging = shell.blobs.stage(stage_name(&job.tx)).await?;
        let mut before = stored.iter().map(|held| held.blob.size).sum();
        self.received.store(before, Ordering::Relaxed);
        for blob in missing {
            let progress = |bytes| {
                self.received.store(before + bytes, Ordering::Relaxed);
                crash::staged(bytes);
            };
            let groups = [job.group()];
            let pull = Pull { shell, sources: &job.prepare.sources, progress: &progress, groups: &groups };
            let pulled = pull.blob(&staging, &label(&blob), blob).await;
            if let Some(reason) = batch_reason(&pulled) {
                shell.note(Note::about(job.group(), reason).value(blob.size));
            }
            let staged = pulled?;
            stored.push(self.place(staged).await?);
            before += blob.size;
        }
        Ok(stored)
    }

    /// A file of `here` that has the blob. A row alone proves nothing after a disk was lost: the receipt that follows says
    /// that the bytes are here, so it is looked whether they are.
    async fn find(&self, here: &[StoredBlob], blob: BlobRef) -> Result<Option<StoredBlob>, StageError> {
        for held in here.iter().filter(|held| held.blob == blob) {
            match self.shell.blobs.read(held.blob, held.generation).await {
                Ok(_whole) => return Ok(Some(*held)),
                Err(error) if is_damage(&error) => self.put_away(held, &error).await,
                Err(error) => return Err(StageError::Read { held: *held, error }),
            }
        }
        Ok(None)
    }

    /// Takes a damaged file out of everybody's way.
    async fn put_away(&self, held: &StoredBlob, error: &ReadError) {
        self.shell.damaged(held, error).await;
        self.shell.note(Note::about(self.job.group(), Reason::BlobDamaged));
        if self.shell.staged.forget_placed(&self.job.tx, held) {
            self.shell.unlink_unnamed(vec![*held]).await;
        }
    }

    /// Moves a blob into place and notes it, in a task that goes on when this attempt is cancelled, and keeps the turn
    /// until it is done: no file is ever in place without being noted.
    async fn place(&self, staged: StagedBlob) -> Result<StoredBlob, StageError> {
        let (shell, tx, turn) = (Arc::clone(self.shell), self.job.tx, Arc::clone(self.turn));
        let placing = self.shell.tasks.spawn(async move {
            let file = StoredBlob { blob: staged.blob, generation: shell.generation() };
            // Noted first: an error may come after the rename.
            shell.staged.note_placed(&tx, file);
            let placed = shell.blobs.commit(&staged, file.generation).await;
            if placed.is_err() {
                shell.staged.forget_placed(&tx, &file);
                shell.unlink(vec![file]).await;
            }
            drop(turn);
            placed.map(|_key| file)
        });
        match placing.await {
            Ok(placed) => Ok(placed?),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is shutting down, and this task with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }

    /// Opens the own wrap, decrypts the whole and compares it with what the owner committed to; if the decrypted state is
    /// wanted and is a view.
    async fn check_decrypted(&self, stored: &[StoredBlob]) -> Result<(), StageError> {
        let Self { shell, job, .. } = *self;
        let (prepare, manifest) = (&job.prepare, &job.prepare.manifest.body);
        if !job.states.contains(ContentState::Decrypted) || prepare.sealed.is_empty() {
            return Ok(());
        }
        let key = grant::content_key(&shell.keys, &shell.network, manifest, &prepare.wraps)?;
        let part = grant::sealed_part(&key, manifest, &prepare.sealed)?;
        let cipher = grant::file_cipher(&key, manifest)?;
        let encrypted = manifest.member(ContentState::Encrypted).and_then(|member| member.blob);
        let held = *stored.iter().find(|stored| Some(stored.blob) == encrypted).ok_or(StageError::Plaintext)?;
        let unread = |error| StageError::Read { held, error };
        let span = ChunkSpan::covering(0..part.plain.size, held.blob.size)?;
        let reader = shell.blobs.read(held.blob, held.generation).await.map_err(unread)?;
        let range = reader.range(span.cipher.clone()).map_err(unread)?;
        let mut plain = DecryptedRange::new(cipher, &span, range);
        let found = hash_of(&mut plain).await.map_err(|error| decrypt_error(error, held))?;
        if found == part.plain { Ok(()) } else { Err(StageError::Plaintext) }
    }
}

/// Whose fault it is that a blob did not decrypt: only the cipher's word is about the content.
fn decrypt_error(error: DecryptError<ReadError>, held: StoredBlob) -> StageError {
    let blob = BlobKey { sha256: held.blob.sha256, generation: held.generation };
    match error {
        DecryptError::Cipher(error) => error.into(),
        DecryptError::Source(error) => StageError::Read { held, error },
        DecryptError::Short { chunk } => {
            let offset = chunk.saturating_mul(SEALED_CHUNK_BYTES as u64);
            StageError::Read { held, error: ReadError::Corrupt { blob, offset } }
        }
        DecryptError::Local(error) => error.into(),
    }
}

/// What is noted of a batch when all of it came: each is checked before the next one begins.
fn batch_reason(pulled: &Result<StagedBlob, PullError>) -> Option<Reason> {
    match pulled {
        Ok(_) => Some(Reason::BatchVerified),
        Err(PullError::HashMismatch(_)) => Some(Reason::BatchCorrupt),
        Err(_) => None,
    }
}

/// The name of a blob within its staging directory; the same whatever else an attempt wants.
fn label(blob: &BlobRef) -> StageName {
    hex::encode(blob.sha256.0).parse().expect("hex digits make a staging name")
}

#[cfg(test)]
mod tests;
