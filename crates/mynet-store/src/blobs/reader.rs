//! Reading and sending blobs: every group is verified from the caller's root before a byte of it leaves.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt, path::Path, sync::Arc};

use bytes::Bytes;
use mynet_types::BlobRef;
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::{
    BATCH_BYTES,
    offload::Offload,
    paths::{BlobKey, DiskError, OnDisk, outboard_of},
    tree::{Checker, Item, Layout, Mismatch, outboard_len},
};

/// Why bytes were not read. Bytes that came before are good.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// A file of the blob is not there: the row is wrong about this node.
    #[error("blob {blob} is missing")]
    Missing {
        /// The blob to quarantine.
        blob: BlobKey,
    },
    /// Bytes of the blob or of its outboard do not verify.
    #[error("blob {blob} is corrupt from byte {offset}")]
    Corrupt {
        /// The blob to quarantine.
        blob: BlobKey,
        /// First byte that cannot be verified.
        offset: u64,
    },
    /// The range ends behind the blob.
    #[error("range {start}..{end} is not within {size} bytes")]
    Range {
        /// First byte asked for.
        start: u64,
        /// Byte behind the last one asked for.
        end: u64,
        /// Bytes there are.
        size: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Why a range was not sent to its end. What was sent is good.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The blob could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The receiver is gone, or the connection failed.
    #[error("cannot send: {0}")]
    Write(io::Error),
}

/// The open files of a blob, finished or being received.
#[derive(Debug)]
pub(super) struct BlobFiles {
    pub(super) data: File,
    /// Absent for blobs of one group.
    pub(super) outboard: Option<File>,
}

/// Why verified reading stopped.
#[derive(Debug)]
pub(super) enum Fault {
    Corrupt { offset: u64 },
    Io(io::Error),
}

impl From<Mismatch> for Fault {
    fn from(Mismatch { offset }: Mismatch) -> Self {
        Self::Corrupt { offset }
    }
}

/// Walks a range of local files in the order of the encoding, checking as it goes.
#[derive(Debug)]
pub(super) struct LocalWalk {
    files: Arc<BlobFiles>,
    layout: Layout,
    checker: Checker,
    /// Why the file system refused; it is not asked again.
    refused: Option<io::ErrorKind>,
}

impl LocalWalk {
    pub(super) fn new(files: Arc<BlobFiles>, blob: &BlobRef, range: &Range<u64>) -> Self {
        Self { files, layout: Layout::new(blob.size, range), checker: Checker::new(blob.blake3), refused: None }
    }

    /// Appends the verified bytes of the next item to `out`; `None` at the end. On a fault `out` is as before, and every
    /// later call faults too.
    pub(super) fn next_into(&mut self, out: &mut Vec<u8>) -> Result<Option<Item>, Fault> {
        self.checker.intact()?;
        if let Some(kind) = self.refused {
            return Err(Fault::Io(kind.into()));
        }
        let Some(item) = self.layout.next() else { return Ok(None) };
        let start = out.len();
        out.resize(start + item.len(), 0);
        let bytes = out.split_at_mut(start).1;
        let read = match (&item, &self.files.outboard) {
            (Item::Group { offset, .. }, _) => self.files.data.read_exact_at(bytes, *offset),
            (Item::Pair { slot, .. }, Some(outboard)) => outboard.read_exact_at(bytes, *slot),
            (Item::Pair { .. }, None) => Err(io::ErrorKind::UnexpectedEof.into()),
        };
        let checked = match read {
            Ok(()) => self.checker.check(&item, bytes).map_err(Fault::from),
            // Shorter than it must be.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.checker.fail(&item).into()),
            Err(error) => {
                self.refused = Some(error.kind());
                Err(Fault::Io(error))
            }
        };
        if let Err(fault) = checked {
            out.truncate(start);
            return Err(fault);
        }
        Ok(Some(item))
    }
}

/// A blob that is open for reading. A handle: clones share the files; a blob that is removed stays readable through it.
#[derive(Debug, Clone)]
pub struct BlobReader {
    blob: BlobRef,
    key: BlobKey,
    files: Arc<BlobFiles>,
}

impl BlobReader {
    pub(super) fn open(blob: BlobRef, key: BlobKey, path: &Path) -> Result<Self, ReadError> {
        let open = |path: &Path| match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(ReadError::Missing { blob: key }),
            opened => Ok(opened.on_disk("open", path)?),
        };
        let data = open(path)?;
        let found = data.metadata().on_disk("look at", path)?.len();
        if found != blob.size {
            return Err(ReadError::Corrupt { blob: key, offset: found.min(blob.size) });
        }
        let outboard = (outboard_len(blob.size) > 0).then(|| open(&outboard_of(path))).transpose()?;
        Ok(Self { blob, key, files: Arc::new(BlobFiles { data, outboard }) })
    }

    /// Hashes and size, as the caller's row has them.
    #[must_use]
    pub fn blob(&self) -> &BlobRef {
        &self.blob
    }

    /// The bytes of a range.
    ///
    /// # Errors
    /// [`ReadError::Range`].
    pub fn range(&self, range: Range<u64>) -> Result<BlobRange, ReadError> {
        let walk = self.walk(&range)?;
        Ok(BlobRange { key: self.key, wanted: range, work: Offload::new(walk) })
    }

    /// Sends the groups that `range` touches in the encoding that [`super::RangeDecoder`] and [`super::Receiver`] check
    /// with the root alone, and returns the bytes sent. The writer is flushed, not closed.
    ///
    /// # Errors
    /// As [`SendError`] says; bytes that do not verify are never sent.
    pub async fn encode_range(
        &self,
        range: Range<u64>,
        writer: &mut (impl AsyncWrite + Unpin),
    ) -> Result<u64, SendError> {
        let key = self.key;
        let mut work = Offload::new(self.walk(&range)?);
        let mut sent = 0;
        loop {
            work.start(encode_batch).map_err(ReadError::Disk)?;
            let (bytes, fault) = work.join().await.map_err(ReadError::Disk)?.unwrap_or_default();
            writer.write_all(&bytes).await.map_err(SendError::Write)?;
            sent += bytes.len() as u64;
            match fault {
                Some(fault) => return Err(read_error(key, fault).into()),
                None if bytes.is_empty() => break,
                None => {}
            }
        }
        writer.flush().await.map_err(SendError::Write)?;
        Ok(sent)
    }

    /// Verifies every byte, as the scrub does.
    ///
    /// # Errors
    /// [`ReadError::Corrupt`] and [`ReadError::Disk`].
    pub async fn verify(&self) -> Result<(), ReadError> {
        let mut all = self.range(0..self.blob.size)?;
        while all.next().await?.is_some() {}
        Ok(())
    }

    fn walk(&self, range: &Range<u64>) -> Result<LocalWalk, ReadError> {
        check_range(range, self.blob.size)?;
        Ok(LocalWalk::new(Arc::clone(&self.files), &self.blob, range))
    }
}

/// Whether `range` is within `size` bytes.
fn check_range(range: &Range<u64>, size: u64) -> Result<(), ReadError> {
    if range.start > range.end || range.end > size {
        return Err(ReadError::Range { start: range.start, end: range.end, size });
    }
    Ok(())
}

fn read_error(blob: BlobKey, fault: Fault) -> ReadError {
    match fault {
        Fault::Corrupt { offset } => ReadError::Corrupt { blob, offset },
        Fault::Io(source) => ReadError::Disk(DiskError { verb: "read", path: blob.to_string().into(), source }),
    }
}

/// Verified bytes of a blob, and where they start.
type Piece = (u64, Vec<u8>);

/// The next verified bytes of a walk, or nothing at its end. What precedes a fault is returned; the
/// fault comes with the next call.
fn read_batch(walk: &mut LocalWalk) -> Result<Option<Piece>, Fault> {
    let mut bytes = Vec::new();
    let mut start = None;
    while bytes.len() < BATCH_BYTES {
        let before = bytes.len();
        match walk.next_into(&mut bytes) {
            Ok(Some(Item::Group { offset, .. })) => {
                start.get_or_insert(offset);
            }
            Ok(Some(Item::Pair { .. })) => bytes.truncate(before),
            Ok(None) => break,
            Err(_again) if start.is_some() => break,
            Err(fault) => return Err(fault),
        }
    }
    Ok(start.map(|start| (start, bytes)))
}

/// The next verified bytes of the encoding, and what stopped it.
fn encode_batch(walk: &mut LocalWalk) -> (Vec<u8>, Option<Fault>) {
    let mut bytes = Vec::new();
    while bytes.len() < BATCH_BYTES {
        match walk.next_into(&mut bytes) {
            Ok(Some(_item)) => {}
            Ok(None) => break,
            Err(fault) => return (bytes, Some(fault)),
        }
    }
    (bytes, None)
}

/// Bytes of a range on their way out of a blob.
#[derive(Debug)]
pub struct BlobRange {
    key: BlobKey,
    wanted: Range<u64>,
    work: Offload<LocalWalk, Result<Option<Piece>, Fault>>,
}

impl BlobRange {
    /// The next bytes, all verified; at most [`BATCH_BYTES`] and a group. `None` when the range is complete.
    ///
    /// # Errors
    /// As [`ReadError`] says; afterwards the range yields nothing but errors.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        loop {
            if !self.work.is_away() {
                self.work.start(read_batch)?;
            }
            let read = self.work.join().await?.unwrap_or(Ok(None));
            let Some((start, bytes)) = read.map_err(|fault| read_error(self.key, fault))? else { return Ok(None) };
            let wanted = within(&self.wanted, start, bytes.into());
            // Only the empty group of an empty blob leaves nothing.
            if !wanted.is_empty() {
                return Ok(Some(wanted));
            }
        }
    }
}

/// The part of `bytes`, which start at `start`, that is wanted.
pub(super) fn within(wanted: &Range<u64>, start: u64, bytes: Bytes) -> Bytes {
    let clip = |at: u64| usize::try_from(at.saturating_sub(start)).map_or(bytes.len(), |at| at.min(bytes.len()));
    bytes.slice(clip(wanted.start)..clip(wanted.end))
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
