//! Content-addressed blobs on a local directory, of which only verified bytes leave.
//!
//! ```text
//! upload --write--> Ingest (hash, encrypt, hash) --.                              .--> BlobRange --> DecryptedRange --> HTTP
//!                                                   >-> StagedBlob --commit--> blob
//! peer --segments--> Receiver (verify, hash) ------'                              '--> encode_range --> peer --> RangeDecoder
//! ```
//!
//! A blob is two files: `blobs/ab/cd/<sha256>.<generation>` and, if it is longer than one group, its hash tree in
//! `....obao` beside it (module `tree`). Everything unfinished lives in `staging/<name>/`, which no reader knows.
//!
//! The files are never trusted. BLAKE3 root and size come from the caller's database row, every read checks the path from
//! that root down to each 16 KiB group, and what does not match is an error that names the blob, so that the caller can
//! put it into quarantine and fetch it again.
//!
//! Invariants:
//! 1. A file stands at its final path only after its bytes were complete and on stable storage; when
//!    [`Blobs::commit`] returns, the path is on stable storage too. Only then may a row name it.
//! 2. The generation is part of the path, and rows of one hash never share one: removing an old generation can never hit a
//!    newer put of the same bytes.
//! 3. No byte leaves a blob before its group was verified.
//! 4. Plaintext of sealed content is never written.
//! 5. Memory per open stream is bounded by a few [`BATCH_BYTES`], whatever the size of the blob.
//!
//! Blocking work runs in the pool of `tokio::task::spawn_blocking`, one batch at a time (module `offload`): a slow peer or
//! client holds no thread. Pull methods (`next`, `write`, `receive`) may be dropped at any await point and called again;
//! nothing is lost or repeated. `next` of every stream fits
//! `futures::stream::try_unfold(stream, |mut s| async { Ok(s.next().await?.map(|bytes| (bytes, s))) })`.
//!
//! Sources: Aumasson et al., BLAKE3, section 6.4 (verified streaming); <https://github.com/n0-computer/bao-tree>.
//! Deliberately absent: reference counts, reservations and rows (the metadata database), and transfer policy (the network).

mod decode;
mod decrypt;
mod ingest;
mod offload;
mod paths;
mod reader;
mod receive;
mod staging;
#[cfg(test)]
mod testing;
mod tree;

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use mynet_types::BlobRef;

pub use decode::{RangeDecoder, SourceError};
pub use decrypt::{DecryptError, DecryptedRange, VerifiedStream};
pub use ingest::{Ingest, IngestError, Ingested};
pub use paths::{BlobKey, DiskError, ParseKeyError, free_space};
pub use reader::{BlobRange, BlobReader, ReadError, SendError};
pub use receive::{FinishError, ReceiveError, Receiver, SEGMENT_BYTES, Segment};
pub use staging::{StageError, StageName, StagedBlob, StagedEntry, StagingDir};
pub use tree::GROUP_BYTES;

use offload::blocking;
use paths::{OnDisk, create_dir, sync_dir};

/// Bytes that one step in the blocking pool reads, verifies or writes. Half would double the hops between threads (about
/// 20 us each), double would double the memory of every stream and the wait for its first byte.
pub const BATCH_BYTES: usize = 256 * 1024;

/// Blobs whose bytes did not verify wait here for a human or for removal.
const QUARANTINE: &str = "quarantine";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A staged file could not be renamed into place.
    #[error(
        "{} and {} are on different file systems, but staged files must be renamed into place: move one of them",
        .blobs.display(), .staging.display()
    )]
    DifferentFileSystems {
        /// Directory of the blobs.
        blobs: PathBuf,
        /// Directory of what is unfinished.
        staging: PathBuf,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a staged blob is not in place. It is still staged, and may be committed again.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The staged files are gone: their staging directory was removed.
    #[error("blob {blob} is no longer staged")]
    NotStaged {
        /// The blob.
        blob: BlobKey,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The blobs of one node. A handle: clones share one store.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    blobs: PathBuf,
    staging: PathBuf,
    /// Whether [`Blobs::open`] found nothing in the directory of the blobs.
    empty: bool,
    /// Shards whose directories are known to be on stable storage, so that not every commit flushes three of them.
    durable_shards: Mutex<HashSet<[u8; 2]>>,
}

impl Blobs {
    /// Opens the store, making both directories where they are missing. Their existence is on stable storage on return.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(blobs: PathBuf, staging: PathBuf) -> Result<Self, OpenError> {
        blocking(move || {
            let empty = create_dir(&blobs)? || paths::entries(&blobs)?.is_empty();
            create_dir(&staging)?;
            let device = |dir: &Path| fs::metadata(dir).map(|meta| meta.dev()).on_disk("look at", dir);
            if device(&blobs)? != device(&staging)? {
                return Err(OpenError::DifferentFileSystems { blobs, staging });
            }
            Ok(Self { inner: Arc::new(Inner { blobs, staging, empty, durable_shards: Mutex::default() }) })
        })
        .await?
    }

    /// Whether the directory of the blobs was missing or empty, as that of a disk that is not mounted: with rows in the
    /// database, all blobs are lost and must be fetched again. True at every start until something is put into it, so
    /// whatever follows from it may be cut off by a crash.
    #[must_use]
    pub fn was_empty(&self) -> bool {
        self.inner.empty
    }

    /// Directory of the blobs, for [`free_space`].
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.inner.blobs
    }

    /// Opens or makes the staging directory of one upload or transaction.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn stage(&self, name: StageName) -> Result<StagingDir, DiskError> {
        let parent = self.inner.staging.clone();
        blocking(move || StagingDir::create(&parent, name)).await?
    }

    /// Everything staged, for the sweep at a start: whatever no open work claims is removed with
    /// [`StagingDir::remove`].
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn list_staging(&self) -> Result<Vec<StagedEntry>, DiskError> {
        let parent = self.inner.staging.clone();
        blocking(move || staging::list(&parent)).await?
    }

    /// Moves a finished blob into place. On return bytes and path are on stable storage, and a row may name them.
    ///
    /// The caller gives every put of a hash its own generation. Repeating a commit after a crash replaces the file by the
    /// same bytes.
    ///
    /// # Errors
    /// As [`CommitError`] says.
    pub async fn commit(&self, staged: &StagedBlob, generation: u64) -> Result<BlobKey, CommitError> {
        let (inner, staged) = (Arc::clone(&self.inner), staged.clone());
        blocking(move || inner.commit(&staged, generation)).await?
    }

    /// Opens a blob for reading. Root and size are those of the caller's row: the files prove themselves against them.
    ///
    /// # Errors
    /// [`ReadError::Missing`] and [`ReadError::Corrupt`] (wrong size) name the blob to quarantine; [`ReadError::Disk`].
    pub async fn read(&self, blob: BlobRef, generation: u64) -> Result<BlobReader, ReadError> {
        let key = BlobKey { sha256: blob.sha256, generation };
        let path = key.path_in(&self.inner.blobs);
        blocking(move || BlobReader::open(blob, key, &path)).await?
    }

    /// Moves a blob whose bytes do not verify out of the way, and says whether it was there. Idempotent.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn quarantine(&self, blob: BlobKey) -> Result<bool, DiskError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || {
            let dir = inner.blobs.join(QUARANTINE);
            create_dir(&dir)?;
            let (from, to) = (blob.path_in(&inner.blobs), dir.join(blob.to_string()));
            let was_there = rename_if_there(&from, &to)?;
            rename_if_there(&paths::outboard_of(&from), &paths::outboard_of(&to))?;
            sync_dir(&dir)?;
            Ok(was_there)
        })
        .await?
    }

    /// Removes a blob, and says whether it was there. The caller has deleted its row; the name may come back after a
    /// crash of the machine, and is then found by [`Blobs::list`].
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn remove(&self, blob: BlobKey) -> Result<bool, DiskError> {
        let path = blob.path_in(&self.inner.blobs);
        blocking(move || remove_pair(&path)).await?
    }

    /// Removes a blob from quarantine, and says whether it was there.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn remove_quarantined(&self, blob: BlobKey) -> Result<bool, DiskError> {
        let path = self.inner.blobs.join(QUARANTINE).join(blob.to_string());
        blocking(move || remove_pair(&path)).await?
    }

    /// The blobs whose hash starts with `first_byte`, whole or not, sorted: one of 256 pages of the mark-and-sweep.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn list(&self, first_byte: u8) -> Result<Vec<BlobKey>, DiskError> {
        let page = self.inner.blobs.join(hex::encode([first_byte]));
        blocking(move || {
            let mut keys = Vec::new();
            for shard in paths::entries(&page)? {
                paths::keys_in(&shard, &mut keys)?;
            }
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
        .await?
    }

    /// The blobs in quarantine, sorted.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn list_quarantined(&self) -> Result<Vec<BlobKey>, DiskError> {
        let dir = self.inner.blobs.join(QUARANTINE);
        blocking(move || {
            let mut keys = Vec::new();
            paths::keys_in(&dir, &mut keys)?;
            keys.sort_unstable();
            keys.dedup();
            Ok(keys)
        })
        .await?
    }
}

impl Inner {
    fn commit(&self, staged: &StagedBlob, generation: u64) -> Result<BlobKey, CommitError> {
        let blob = BlobKey { sha256: staged.blob.sha256, generation };
        let path = blob.path_in(&self.blobs);
        let dir = path.parent().expect("a blob lies in the directory of its shard");
        if !staged.data.exists() {
            return Err(CommitError::NotStaged { blob });
        }
        self.make_shard(blob.shard(), dir)?;
        let moved = self.rename_into(staged, &path);
        if matches!(&moved, Err(error) if error.source.kind() == io::ErrorKind::NotFound) {
            // Somebody removed the directory while we ran: make it again, as at start.
            self.forget_shard(blob.shard());
            self.make_shard(blob.shard(), dir)?;
            self.rename_into(staged, &path)?;
        } else {
            moved?;
        }
        sync_dir(dir)?;
        Ok(blob)
    }

    /// The outboard goes first: where the data is, its outboard is.
    fn rename_into(&self, staged: &StagedBlob, path: &Path) -> Result<(), DiskError> {
        if let Some(outboard) = &staged.outboard {
            let to = paths::outboard_of(path);
            // Gone after an interrupted commit that renamed it already.
            if outboard.exists() || !to.exists() {
                fs::rename(outboard, &to).on_disk("move into place", outboard)?;
            }
        }
        fs::rename(&staged.data, path).on_disk("move into place", &staged.data)
    }

    /// Makes the directories of a shard durable, once per shard and run.
    fn make_shard(&self, shard: [u8; 2], dir: &Path) -> Result<(), DiskError> {
        let mut durable = self.durable_shards.lock().unwrap_or_else(PoisonError::into_inner);
        if durable.contains(&shard) {
            return Ok(());
        }
        create_dir(dir)?;
        let page = dir.parent().expect("a shard lies in the directory of its first byte");
        sync_dir(page)?;
        sync_dir(&self.blobs)?;
        durable.insert(shard);
        Ok(())
    }

    fn forget_shard(&self, shard: [u8; 2]) {
        self.durable_shards.lock().unwrap_or_else(PoisonError::into_inner).remove(&shard);
    }
}

/// Whether there was something to rename.
fn rename_if_there(from: &Path, to: &Path) -> Result<bool, DiskError> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        renamed => renamed.on_disk("move away", from).map(|()| true),
    }
}

/// Removes a blob and its outboard; the data goes first, as it came last.
fn remove_pair(path: &Path) -> Result<bool, DiskError> {
    let was_there = paths::remove_if_there(path)?;
    paths::remove_if_there(&paths::outboard_of(path))?;
    Ok(was_there)
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
