//! Fetching a blob from peers, in segments, from any number of them at once, through crashes.
//!
//! ```text
//! Receiver::open --> next_missing --> Segment --> (peer) --> receive --> ... --> finish --> StagedBlob
//!        ^                  ^            |                      |
//!        |                  '-- dropped or failed: claimed anew-'
//!        '-- after a restart: what is on disk is checked again
//! ```
//!
//! There is no journal. Data and outboard are written at their places as they are verified, and when a receiver is opened it
//! walks both from the root: a group that verifies is there, whatever the crash did to the order of writes; everything else
//! is missing. That costs one reading of what is there, and nothing has to be believed.
//!
//! Invariants:
//! 1. Only bytes that verify against the expected BLAKE3 root are written, so a bad source costs its segment and nothing else.
//! 2. SHA-256 is computed over bytes that were verified in the same memory, never over bytes that disk or source could
//!    have changed: [`FinishError::HashMismatch`] is proof against the manifest, not against this disk.
//! 3. [`Receiver::finish`] returns only when all bytes are on stable storage.

use std::{
    fs::{File, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bao_tree::ByteRanges;
use mynet_types::{Blake3Root, BlobRef, ContentHash};
use sha2::{Digest, Sha256};
use tokio::io::AsyncRead;

use super::{
    SourceError, StageName, StagedBlob, StagingDir,
    decode::{Batch, EncodedReader},
    offload::blocking,
    paths::{DiskError, OnDisk, free_space},
    reader::{BlobFiles, Fault, LocalWalk},
    tree::{Checker, Item, outboard_len},
};
use crate::cipher::CIPHER_BYTES_MAX;

/// Bytes that are asked of one source at a time. Half would double the requests, double would double what a bad source
/// can waste and how long a slow one holds a part back.
pub const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Why a segment did not come. What was verified before is kept.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The source failed: try the next one.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The disk is full.
    #[error("the disk is full: {free} bytes are free")]
    NoSpace {
        /// Bytes that were free.
        free: u64,
    },
    /// No blob has this size and root.
    #[error("no blob of {size} bytes has this root")]
    Impossible {
        /// The size that was asked for.
        size: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(DiskError),
}

/// Why a blob is not complete.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// Parts are missing.
    #[error("{missing} bytes are missing")]
    Incomplete {
        /// Bytes that are missing.
        missing: u64,
    },
    /// The bytes are complete and match the BLAKE3 root, but not the SHA-256: whoever made the manifest lied about one of
    /// them, and every honest node finds the same.
    #[error("bytes with the expected BLAKE3 root and size have {actual}, not {expected}")]
    HashMismatch {
        /// What the manifest says.
        expected: ContentHash,
        /// What the bytes have.
        actual: ContentHash,
    },
    /// This disk changed bytes after they were verified; the part is missing again.
    #[error("the disk lost bytes at {offset}; they are fetched again")]
    Lost {
        /// First byte that no longer verifies.
        offset: u64,
    },
    /// The disk is full.
    #[error("the disk is full: {free} bytes are free")]
    NoSpace {
        /// Bytes that were free.
        free: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(DiskError),
}

/// A blob that is being fetched. A handle: clones share one state, and each may receive a segment of its own.
#[derive(Debug, Clone)]
pub struct Receiver {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    expected: BlobRef,
    files: Arc<BlobFiles>,
    data_path: PathBuf,
    outboard_path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes that are on disk and were verified.
    have: ByteRanges,
    /// Bytes that a [`Segment`] stands for.
    claimed: ByteRanges,
    /// Over the first `hashed` bytes.
    sha256: Sha256,
    hashed: u64,
}

/// The right and the duty to receive one part. Dropping it gives the part back.
#[derive(Debug)]
pub struct Segment {
    inner: Arc<Inner>,
    range: Range<u64>,
}

impl Segment {
    /// The range to ask of a source, always whole groups.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.inner.state().claimed -= ByteRanges::from(self.range.clone());
    }
}

impl Receiver {
    /// Starts to fetch `expected`, or goes on with what is staged under `label`. Reads all that is there.
    ///
    /// # Errors
    /// [`ReceiveError::Impossible`], [`ReceiveError::NoSpace`], [`ReceiveError::Disk`].
    pub async fn open(staging: &StagingDir, label: &StageName, expected: BlobRef) -> Result<Self, ReceiveError> {
        let empty = expected.size == 0 && expected.blake3 != Blake3Root::of(b"");
        if empty || expected.size > CIPHER_BYTES_MAX {
            return Err(ReceiveError::Impossible { size: expected.size });
        }
        let (data, outboard) = staging.files(label);
        let inner = blocking(move || Inner::open(expected, data, outboard)).await.map_err(ReceiveError::Disk)?;
        Ok(Self { inner: Arc::new(inner.map_err(receive_error)?) })
    }

    /// What is fetched.
    #[must_use]
    pub fn expected(&self) -> &BlobRef {
        &self.inner.expected
    }

    /// Bytes that are there.
    #[must_use]
    pub fn received(&self) -> u64 {
        total(&self.inner.state().have)
    }

    /// Claims the first missing part, at most [`SEGMENT_BYTES`]. `None` if everything is there or claimed: who gets it
    /// ends, and when all have ended, [`Receiver::finish`] says whether anything is missing.
    #[must_use]
    pub fn next_missing(&self) -> Option<Segment> {
        let mut state = self.inner.state();
        let mut missing = ByteRanges::from(0..self.inner.expected.size);
        missing.difference_with(&state.have);
        missing.difference_with(&state.claimed);
        let &[start, end, ..] = missing.boundaries() else { return None };
        let range = start..end.min((start / SEGMENT_BYTES + 1) * SEGMENT_BYTES);
        state.claimed |= ByteRanges::from(range.clone());
        drop(state);
        Some(Segment { inner: Arc::clone(&self.inner), range })
    }

    /// Receives the part of `segment` from a source that runs [`super::BlobReader::encode_range`] for its range, and
    /// returns the blob's bytes that came. Reads exactly the encoding.
    ///
    /// If this is dropped, the batches that came are kept.
    ///
    /// # Errors
    /// As [`ReceiveError`] says. Groups that came before are kept: claim again and go on with another source.
    pub async fn receive(&self, segment: &Segment, source: impl AsyncRead + Unpin + Send) -> Result<u64, ReceiveError> {
        let expected = self.inner.expected;
        let mut encoded = EncodedReader::new(source, expected.size, &segment.range);
        let mut checker = Checker::new(expected.blake3);
        let mut received = 0;
        while let Some(batch) = encoded.next_batch().await? {
            let inner = Arc::clone(&self.inner);
            let stored = blocking(move || {
                let stored = inner.store(&mut checker, batch);
                (checker, stored)
            });
            let (returned, stored) = stored.await.map_err(ReceiveError::Disk)?;
            checker = returned;
            received += stored?;
        }
        Ok(received)
    }

    /// Ends the fetching: checks that all is there, and SHA-256 over it. On return the staged bytes are on stable storage.
    ///
    /// # Errors
    /// As [`FinishError`] says. After [`FinishError::Incomplete`] and [`FinishError::Lost`] fetch what is missing and
    /// finish again.
    pub async fn finish(&self) -> Result<StagedBlob, FinishError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.finish()).await.map_err(FinishError::Disk)?
    }
}

fn total(ranges: &ByteRanges) -> u64 {
    ranges.boundaries().as_chunks::<2>().0.iter().map(|[start, end]| end - start).sum()
}

impl Inner {
    fn open(expected: BlobRef, data_path: PathBuf, outboard_path: PathBuf) -> Result<Self, DiskError> {
        let (data, found) = open_sized(&data_path, expected.size)?;
        let outboard_size = outboard_len(expected.size);
        let outboard =
            (outboard_size > 0).then(|| open_sized(&outboard_path, outboard_size)).transpose()?.map(|(file, _)| file);
        let inner = Self {
            expected,
            outboard_path: outboard.is_some().then_some(outboard_path),
            files: Arc::new(BlobFiles { data, outboard }),
            data_path,
            state: Mutex::new(State {
                have: ByteRanges::empty(),
                claimed: ByteRanges::empty(),
                sha256: Sha256::new(),
                hashed: 0,
            }),
        };
        if found {
            inner.check_what_is_there()?;
        }
        Ok(inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Walks every segment from the root, and takes for present what verifies. The walk of a segment ends where it does not:
    /// segments are received front to back, so little that is there lies behind.
    fn check_what_is_there(&self) -> Result<(), DiskError> {
        let mut bytes = Vec::new();
        let mut start = 0;
        while start < self.expected.size {
            let end = (start + SEGMENT_BYTES).min(self.expected.size);
            let mut walk = LocalWalk::new(Arc::clone(&self.files), &self.expected, &(start..end));
            loop {
                bytes.clear();
                match walk.next_into(&mut bytes) {
                    Ok(Some(Item::Group { offset, .. })) => self.state().add(offset, &bytes),
                    Ok(Some(Item::Pair { .. })) => {}
                    Ok(None) | Err(Fault::Corrupt { .. }) => break,
                    Err(Fault::Io(source)) => return Err(self.cannot("read", source)),
                }
            }
            start = end;
        }
        Ok(())
    }

    /// Verifies a batch and writes what verifies; returns the blob's bytes in it.
    fn store(&self, checker: &mut Checker, batch: Batch) -> Result<u64, ReceiveError> {
        let mut stored = 0;
        for (item, bytes) in batch.into_parts() {
            checker.check(&item, &bytes).map_err(SourceError::from)?;
            let written = match (&item, &self.files.outboard) {
                (Item::Group { offset, .. }, _) => self.files.data.write_all_at(&bytes, *offset),
                (Item::Pair { slot, .. }, Some(outboard)) => outboard.write_all_at(&bytes, *slot),
                // A blob of one group has no pairs.
                (Item::Pair { .. }, None) => Ok(()),
            };
            written.map_err(|source| receive_error(self.cannot("write", source)))?;
            if let Item::Group { offset, .. } = item {
                self.state().add(offset, &bytes);
                stored += bytes.len() as u64;
            }
        }
        Ok(stored)
    }

    fn finish(&self) -> Result<StagedBlob, FinishError> {
        let BlobRef { sha256: expected, size, .. } = self.expected;
        let received = total(&self.state().have);
        if received < size {
            return Err(FinishError::Incomplete { missing: size - received });
        }
        let actual = self.hash_rest()?;
        if actual != expected {
            return Err(FinishError::HashMismatch { expected, actual });
        }
        let synced = self.files.data.sync_all();
        let synced = synced.and_then(|()| self.files.outboard.as_ref().map_or(Ok(()), File::sync_all));
        synced.map_err(|source| finish_error(self.cannot("flush to disk", source)))?;
        Ok(StagedBlob { blob: self.expected, data: self.data_path.clone(), outboard: self.outboard_path.clone() })
    }

    /// Hashes what did not come in order, verified once more on its way from disk.
    fn hash_rest(&self) -> Result<ContentHash, FinishError> {
        let start = self.state().hashed;
        let mut walk = LocalWalk::new(Arc::clone(&self.files), &self.expected, &(start..self.expected.size));
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match walk.next_into(&mut bytes) {
                Ok(Some(Item::Group { offset, .. })) => self.state().add(offset, &bytes),
                Ok(Some(Item::Pair { .. })) => {}
                Ok(None) => break,
                Err(Fault::Corrupt { offset }) => {
                    let lost = ByteRanges::from(offset..self.expected.size.min(offset + SEGMENT_BYTES));
                    self.state().have -= lost;
                    return Err(FinishError::Lost { offset });
                }
                Err(Fault::Io(source)) => return Err(finish_error(self.cannot("read", source))),
            }
        }
        Ok(ContentHash(self.state().sha256.clone().finalize().into()))
    }

    fn cannot(&self, verb: &'static str, source: io::Error) -> DiskError {
        DiskError { verb, path: self.data_path.clone(), source }
    }
}

impl State {
    /// Notes a group that was verified in memory and is on disk. Groups may come twice.
    fn add(&mut self, offset: u64, bytes: &[u8]) {
        let end = offset + bytes.len() as u64;
        if !bytes.is_empty() {
            self.have |= ByteRanges::from(offset..end);
        }
        if offset == self.hashed {
            self.sha256.update(bytes);
            self.hashed = end;
        }
    }
}

/// Opens a file and gives it its size, and says whether there was anything in it.
fn open_sized(path: &Path, size: u64) -> Result<(File, bool), DiskError> {
    let file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).on_disk("open", path)?;
    let found = file.metadata().on_disk("look at", path)?.len();
    if found != size {
        file.set_len(size).on_disk("stretch", path)?;
    }
    Ok((file, found > 0))
}

fn free_beside(path: &Path) -> u64 {
    path.parent().and_then(|dir| free_space(dir).ok()).unwrap_or(0)
}

fn receive_error(error: DiskError) -> ReceiveError {
    if error.is_no_space() {
        ReceiveError::NoSpace { free: free_beside(&error.path) }
    } else {
        ReceiveError::Disk(error)
    }
}

fn finish_error(error: DiskError) -> FinishError {
    if error.is_no_space() { FinishError::NoSpace { free: free_beside(&error.path) } } else { FinishError::Disk(error) }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
