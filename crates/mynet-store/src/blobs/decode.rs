//! What comes from a peer: a verified range, without storing it.
//!
//! Size and range alone say how many bytes come and what each of them is, so they are read in batches of known length,
//! and each batch is checked in the blocking pool. A peer can lie only about the next batch.

use std::{io, ops::Range};

use bytes::Bytes;
use mynet_types::BlobRef;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::{
    BATCH_BYTES,
    offload::Offload,
    paths::DiskError,
    reader::within,
    tree::{Checker, Item, Layout, Mismatch},
};
use crate::cipher::CIPHER_BYTES_MAX;

/// Why a source gave no more bytes. Bytes that came before are good; the next source goes on where this one stopped.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source sent bytes that are not of this blob: it is broken or lies.
    #[error("the source sent bytes that do not verify at {offset}")]
    Corrupt {
        /// First byte of the blob that does not verify.
        offset: u64,
    },
    /// The source ended before the range did.
    #[error("the source ended at byte {offset}")]
    Truncated {
        /// First byte of the blob that did not come.
        offset: u64,
    },
    /// The connection failed.
    #[error("the connection failed at byte {offset}: {source}")]
    Connection {
        /// First byte of the blob that did not come.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The range is not within the blob, or no blob has this size; the source was not asked.
    #[error("range {start}..{end} is not within a possible blob of {size} bytes")]
    Range {
        /// First byte asked for.
        start: u64,
        /// Byte behind the last one asked for.
        end: u64,
        /// Size of the blob.
        size: u64,
    },
    /// The checking itself was cut off: the runtime is shutting down.
    #[error(transparent)]
    Local(#[from] DiskError),
}

impl From<Mismatch> for SourceError {
    fn from(Mismatch { offset }: Mismatch) -> Self {
        Self::Corrupt { offset }
    }
}

/// Items and their unchecked bytes.
#[derive(Debug)]
pub(super) struct Batch {
    items: Vec<Item>,
    raw: Bytes,
}

impl Batch {
    /// Each item with its bytes.
    pub(super) fn into_parts(self) -> impl Iterator<Item = (Item, Bytes)> {
        let mut raw = self.raw;
        self.items.into_iter().map(move |item| {
            let bytes = raw.split_to(item.len().min(raw.len()));
            (item, bytes)
        })
    }
}

/// Reads the encoding of a range in batches. `next_batch` may be dropped and called again.
#[derive(Debug)]
pub(super) struct EncodedReader<R> {
    reader: R,
    layout: Layout,
    items: Vec<Item>,
    buffer: Vec<u8>,
    filled: usize,
    /// Where the source stopped; it is not asked again.
    ended: Option<u64>,
    cause: Option<io::Error>,
}

impl<R: AsyncRead + Unpin> EncodedReader<R> {
    pub(super) fn new(reader: R, size: u64, range: &Range<u64>) -> Self {
        let layout = Layout::new(size, range);
        Self { reader, layout, items: Vec::new(), buffer: Vec::new(), filled: 0, ended: None, cause: None }
    }

    /// The next batch, unchecked; `None` at the end of the range, when exactly the encoding has been read. If the source
    /// ends within a batch, its whole items come first and the error with the next call.
    pub(super) async fn next_batch(&mut self) -> Result<Option<Batch>, SourceError> {
        if let Some(offset) = self.ended {
            return Err(self.end(offset));
        }
        if self.items.is_empty() {
            self.plan();
        }
        while self.filled < self.buffer.len() {
            let stopped = match self.reader.read(self.buffer.split_at_mut(self.filled).1).await {
                Ok(0) => None,
                Ok(count) => {
                    self.filled += count;
                    continue;
                }
                Err(error) => Some(error),
            };
            let offset = self.keep_whole_items();
            self.ended = Some(offset);
            self.cause = stopped;
            if self.items.is_empty() {
                return Err(self.end(offset));
            }
            break;
        }
        if self.items.is_empty() {
            return Ok(None);
        }
        let items = std::mem::take(&mut self.items);
        Ok(Some(Batch { items, raw: std::mem::take(&mut self.buffer).into() }))
    }

    fn end(&mut self, offset: u64) -> SourceError {
        match self.cause.take() {
            Some(source) => SourceError::Connection { offset, source },
            None => SourceError::Truncated { offset },
        }
    }

    /// Takes the items of the next batch; the empty group of an empty blob counts although it has no bytes.
    fn plan(&mut self) {
        let mut total = 0;
        while total < BATCH_BYTES {
            let Some(item) = self.layout.next() else { break };
            total += item.len();
            self.items.push(item);
        }
        self.buffer = vec![0; total];
        self.filled = 0;
    }

    /// Forgets the items that did not come whole, and says where the first of them starts.
    fn keep_whole_items(&mut self) -> u64 {
        let (mut whole, mut end) = (0, 0);
        let mut missing = None;
        for item in &self.items {
            if end + item.len() > self.filled {
                missing = Some(item.offset());
                break;
            }
            end += item.len();
            whole += 1;
        }
        self.items.truncate(whole);
        self.buffer.truncate(end);
        self.filled = end;
        missing.expect("the source ended before its last item was whole")
    }
}

/// The bytes of a range on their way in from a peer, each verified before it is handed out, none stored.
#[derive(Debug)]
pub struct RangeDecoder<R> {
    encoded: EncodedReader<R>,
    wanted: Range<u64>,
    work: Offload<Checker, Result<Vec<Bytes>, Mismatch>>,
    /// Verified pieces of the last batch that were not handed out yet, the next one last.
    ready: Vec<Bytes>,
    /// Where bytes did not match; nothing is read any more.
    broken: Option<Mismatch>,
}

impl<R: AsyncRead + Unpin + Send> RangeDecoder<R> {
    /// Reads `range` of `blob` from a peer that runs [`super::BlobReader::encode_range`] for it. Root and size must be
    /// trusted: a peer's word for them proves nothing.
    ///
    /// # Errors
    /// [`SourceError::Range`].
    pub fn new(blob: &BlobRef, range: Range<u64>, reader: R) -> Result<Self, SourceError> {
        let size = blob.size;
        if range.start > range.end || range.end > size || size > CIPHER_BYTES_MAX {
            return Err(SourceError::Range { start: range.start, end: range.end, size });
        }
        let encoded = EncodedReader::new(reader, size, &range);
        let work = Offload::new(Checker::new(blob.blake3));
        Ok(Self { encoded, wanted: range, work, ready: Vec::new(), broken: None })
    }

    /// The next bytes, all verified; at most a group. `None` when the range is complete.
    ///
    /// # Errors
    /// As [`SourceError`] says; afterwards the range yields nothing but errors.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        loop {
            if let Some(bytes) = self.ready.pop() {
                return Ok(Some(bytes));
            }
            if let Some(mismatch) = self.broken {
                return Err(mismatch.into());
            }
            if !self.work.is_away() {
                let Some(batch) = self.encoded.next_batch().await? else { return Ok(None) };
                let wanted = self.wanted.clone();
                self.work.start(move |checker| check_batch(checker, batch, &wanted))?;
            }
            match self.work.join().await? {
                Some(Ok(ready)) => self.ready = ready,
                Some(Err(mismatch)) => self.broken = Some(mismatch),
                None => {}
            }
        }
    }
}

/// The wanted bytes of a batch, the first one last.
fn check_batch(checker: &mut Checker, batch: Batch, wanted: &Range<u64>) -> Result<Vec<Bytes>, Mismatch> {
    let mut pieces = Vec::new();
    for (item, bytes) in batch.into_parts() {
        checker.check(&item, &bytes)?;
        if let Item::Group { offset, .. } = item {
            pieces.push(within(wanted, offset, bytes));
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces.reverse();
    Ok(pieces)
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
