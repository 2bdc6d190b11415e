//! Pulling one blob from the nodes that hold it, in segments, over several lanes at once.
//!
//! Whoever pulls says from whom and under which label; what a crash or a cancel cut off goes on from the verified bytes that
//! are staged under it.
//!
//! ```text
//! Receiver --segment--> lane --> source --fails, lies or stalls--> the next source, from the last verified group on
//!                                  (no source of any lane delivers) --> pause --> the next round, sources from the first on
//! ```
//!
//! A source that dies costs what was under way from it and was not verified yet: 16 KiB groups are kept one by one. How slow
//! is too slow is for the stream to say ([`mynet_net::Stall`]).
//!
//! **Invariants:** no segment is asked for that would eat the file system's reserve; success means complete bytes on stable storage, with SHA-256 and BLAKE3 checked, and not yet in place.

use std::{io::ErrorKind, time::Duration};

use futures::stream::{FuturesUnordered, StreamExt};
use mynet_net::{RangeError, RangeWanted};
use mynet_proto::reason::{Note, Reason};
use mynet_store::{
    blobs::{
        CommitError, DiskError, FinishError, ReceiveError, Receiver, Segment, SourceError, StageName, StagedBlob,
        StagingDir,
    },
    meta::StoredBlob,
};
use mynet_types::{BlobRef, ContentHash, GroupId, NodeId};

use crate::shell::Shell;

/// Segments of one blob in flight. One stream carries at most a window per round trip: four fill a long link.
const LANES: usize = 4;
/// Pauses between rounds over all sources. A source whose connection is made anew, or that restarts, is back by then; whoever
/// waits for the blob gets a clear no some seconds later than it could.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// Rounds before a blob is given up.
pub(crate) const ROUNDS: usize = PAUSES.len() + 1;

/// Why a blob did not come. What was verified stays staged.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PullError {
    #[error("no source delivered {0}")]
    Unavailable(ContentHash),
    #[error("{0}")]
    HashMismatch(FinishError),
    #[error("no space: {needed} bytes are needed, {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Whom to ask, and whom to tell.
pub(crate) struct Pull<'a> {
    pub(crate) shell: &'a Shell,
    /// Nodes that may hold the blob; this one is not asked.
    pub(crate) sources: &'a [NodeId],
    /// Hears how many bytes of the blob are here, after every segment.
    pub(crate) progress: &'a (dyn Fn(u64) + Sync),
    /// In whose log it is noted when a source fails.
    pub(crate) groups: &'a [GroupId],
}

impl Pull<'_> {
    /// Pulls one blob into `staging`.
    ///
    /// # Errors
    /// [`PullError`].
    pub(crate) async fn blob(
        &self,
        staging: &StagingDir,
        label: &StageName,
        blob: BlobRef,
    ) -> Result<StagedBlob, PullError> {
        let me = self.shell.me();
        let sources: Vec<NodeId> = self.sources.iter().copied().filter(|node| *node != me).collect();
        let receiver = Receiver::open(staging, label, blob).await.map_err(|error| receive_error(error, blob))?;
        (self.progress)(receiver.received());
        for round in 0..ROUNDS {
            let lanes: FuturesUnordered<_> = (0..LANES).map(|lane| self.fill(&sources, &receiver, lane)).collect();
            let results: Vec<_> = lanes.collect().await;
            for result in results {
                result?;
            }
            match receiver.finish().await {
                Ok(staged) => return Ok(staged),
                Err(FinishError::Incomplete { .. } | FinishError::Lost { .. }) => {}
                Err(error @ FinishError::HashMismatch { .. }) => return Err(PullError::HashMismatch(error)),
                Err(FinishError::NoSpace { free }) => return Err(PullError::NoSpace { needed: blob.size, free }),
                Err(FinishError::Disk(error)) => return Err(error.into()),
            }
            if let Some(pause) = PAUSES.get(round).filter(|_| !sources.is_empty()) {
                tokio::time::sleep(*pause).await;
            }
        }
        Err(PullError::Unavailable(blob.sha256))
    }

    /// Pulls one blob and puts it in place; its row is the caller's, who unlinks the file if it gets none.
    ///
    /// # Errors
    /// [`PullError`]; nothing is in place then.
    pub(crate) async fn to_place(
        &self,
        staging: &StagingDir,
        label: &StageName,
        blob: BlobRef,
    ) -> Result<StoredBlob, PullError> {
        let staged = self.blob(staging, label, blob).await?;
        let file = StoredBlob { blob, generation: self.shell.generation() };
        if let Err(error) = self.shell.blobs.commit(&staged, file.generation).await {
            // An error may come after the rename.
            self.shell.unlink(vec![file]).await;
            return Err(error.into());
        }
        Ok(file)
    }

    /// Fills missing segments until none is left or no source of this lane delivers any more.
    async fn fill(&self, sources: &[NodeId], receiver: &Receiver, lane: usize) -> Result<(), PullError> {
        let blob = *receiver.expected();
        let mut failures = 0;
        while let Some(segment) = receiver.next_missing() {
            let Some(source) = sources.get((lane + failures) % sources.len().max(1)) else { return Ok(()) };
            // Looked at again and again: what others pull at the same time was free when this began.
            let (needed, free) = (segment.range().end - segment.range().start, self.shell.disk_room()?);
            if needed > free {
                return Err(PullError::NoSpace { needed, free });
            }
            match self.fetch(*source, receiver, &segment).await {
                Ok(()) => (self.progress)(receiver.received()),
                Err(Failed::Here(error)) => return Err(receive_error(error, blob)),
                Err(Failed::Source(reason, why)) => {
                    tracing::debug!(
                        source = %source.short(), blob = %blob.sha256, why, "a source failed, the next is tried"
                    );
                    for group in self.groups {
                        self.shell.note(Note::about(*group, reason).with(*source));
                    }
                    failures += 1;
                    if failures >= sources.len() {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// Pulls one segment from one source.
    async fn fetch(&self, source: NodeId, receiver: &Receiver, segment: &Segment) -> Result<(), Failed> {
        let (blob, range) = (receiver.expected(), segment.range());
        let wanted = RangeWanted { sha256: blob.sha256, offset: range.start, len: range.end - range.start };
        let failed = |why: String| Failed::Source(Reason::SourceFailed, why);
        let net = self.shell.net.get().ok_or_else(|| failed("the network is not up".to_owned()))?;
        let opened = net.open_range(source, wanted).await;
        let (head, stream) = opened.map_err(|error: RangeError| failed(error.to_string()))?;
        if (head.size, head.blake3) != (blob.size, blob.blake3) {
            let why = "it holds other bytes under this hash".to_owned();
            return Err(Failed::Source(Reason::SourceCorrupt, why));
        }
        match receiver.receive(segment, stream).await {
            Ok(_bytes) => Ok(()),
            Err(ReceiveError::Source(error)) => Err(Failed::Source(source_reason(&error), error.to_string())),
            Err(error) => Err(Failed::Here(error)),
        }
    }
}

/// Whose fault it is that a segment did not come.
enum Failed {
    Source(Reason, String),
    Here(ReceiveError),
}

/// What a source did wrong.
fn source_reason(error: &SourceError) -> Reason {
    match error {
        SourceError::Corrupt { .. } => Reason::SourceCorrupt,
        SourceError::Connection { source, .. } if source.kind() == ErrorKind::TimedOut => Reason::SourceStalled,
        SourceError::Connection { .. }
        | SourceError::Truncated { .. }
        | SourceError::Range { .. }
        | SourceError::Local(_) => Reason::SourceFailed,
    }
}

/// What a failed receipt of bytes means when no other source can help.
fn receive_error(error: ReceiveError, blob: BlobRef) -> PullError {
    match error {
        ReceiveError::Source(_) | ReceiveError::Impossible { .. } => PullError::Unavailable(blob.sha256),
        ReceiveError::NoSpace { free } => PullError::NoSpace { needed: blob.size, free },
        ReceiveError::Disk(error) => error.into(),
    }
}

#[cfg(test)]
mod tests;
