//! Fetching a blob whole, for a reader who cannot wait until enough nodes stand by its names.
//!
//! Bytes stream from peers by BLAKE3 alone only if both names of the blob are believed. Where they are not, because the
//! group is not durable or was never published, the blob is received into a staging directory, its SHA-256 is checked, and
//! only then is a byte of it read. It stays as a blob that nothing pins, so it serves the next ranges of the same reader
//! and is collected with other garbage after its grace.
//!
//! **Invariant:** at most [`TURNS`] blobs are fetched at a time, each once whoever waits for it.

use std::sync::Arc;

use mynet_store::{
    blobs::{StageName, StagingDir},
    meta::{MetaWrite, StoredBlob},
};
use mynet_types::{BlobRef, ContentHash, NodeId};
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    compose::random,
    driver::wall_clock,
    handle::NodeError,
    pull::{Pull, PullError},
    shell::{Chain, Shell},
};

/// Blobs fetched at a time. More would fetch small ones beside large ones, and let readers fill the disk faster.
const TURNS: usize = 2;

/// Whose turn it is. A hash always has the same place, so two readers of one content never do the same work twice.
#[derive(Debug, Default)]
pub(crate) struct Turns([Mutex<()>; TURNS]);

impl Turns {
    pub(crate) async fn turn(&self, hash: &ContentHash) -> MutexGuard<'_, ()> {
        let [first, second] = &self.0;
        let [byte, ..] = hash.0;
        if byte % 2 == 0 { first.lock().await } else { second.lock().await }
    }
}

impl Shell {
    /// Fetches a blob whole and checks it. Goes on if the reader leaves: it will come back for what it asked for.
    pub(crate) async fn spool(self: &Arc<Self>, blob: BlobRef, holders: Vec<NodeId>) -> Result<StoredBlob, NodeError> {
        let shell = Arc::clone(self);
        let spooled = self.tasks.spawn(async move {
            tokio::select! {
                () = shell.cancel.cancelled() => Err(NodeError::Stopping),
                spooled = shell.fetch_whole(blob, &holders) => spooled,
            }
        });
        spooled.await.map_err(NodeError::storage)?
    }

    async fn fetch_whole(&self, blob: BlobRef, holders: &[NodeId]) -> Result<StoredBlob, NodeError> {
        let _turn = self.spools.turn(&blob.sha256).await;
        if let Some(stored) = self.good_blob(&blob).await.map_err(NodeError::storage)? {
            return Ok(stored);
        }
        let mut flight = self.take_off();
        flight.take(blob.size).await?;
        let name: StageName =
            format!("spool-{}", uuid::Uuid::new_v4()).parse().expect("hex digits and dashes make a staging name");
        let staging = self.blobs.stage(name).await.map_err(NodeError::storage)?;
        let fetched = self.fetch_into(&staging, blob, holders).await;
        if let Err(error) = staging.remove().await {
            tracing::warn!(error = %Chain(&error), "a spool was not removed, the next start does");
        }
        let stored = fetched?;
        let lease = random();
        // The row comes and loses its pin in one step: from now on the blob is garbage that is still good to read.
        let writes = vec![MetaWrite::Cache { blob: stored, lease }, MetaWrite::Uncache { sha256: blob.sha256, lease }];
        match self.meta.batch(writes, wall_clock()).await {
            Ok(done) => self.unlink(done.redundant).await,
            Err(error) => {
                self.unlink(vec![stored]).await;
                return Err(NodeError::storage(error));
            }
        }
        // Staging may have brought the same blob meanwhile; its file is the one that the row names then.
        Ok(self.good_blob(&blob).await.map_err(NodeError::storage)?.unwrap_or(stored))
    }

    /// Pulls all of a blob and puts it in place.
    async fn fetch_into(
        &self,
        staging: &StagingDir,
        blob: BlobRef,
        holders: &[NodeId],
    ) -> Result<StoredBlob, NodeError> {
        let label: StageName = "blob".parse().expect("lower-case letters make a staging name");
        let pull = Pull { shell: self, sources: holders, progress: &|_bytes| {}, groups: &[] };
        pull.to_place(staging, &label, blob).await.map_err(|error| match error {
            PullError::Unavailable(hash) => NodeError::Unavailable(hash.to_string()),
            PullError::HashMismatch(error) => {
                tracing::warn!(blob = %blob.sha256, %error, "a manifest names a blob by hashes of different bytes");
                NodeError::Unavailable(format!("{} with the right bytes", blob.sha256))
            }
            PullError::NoSpace { needed, free } => NodeError::NoSpace { needed, free },
            PullError::Disk(error) => NodeError::storage(error),
            PullError::Commit(error) => NodeError::storage(error),
        })
    }
}
