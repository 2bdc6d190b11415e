//! Pulling again what this disk lost: blobs that a visible group keeps and that were missing or damaged.
//!
//! The counterpart of the specification's "automatic recovery" for one's own disk. Until a blob is here again readers get
//! its bytes from other holders; its row, its pins and the receipts of its group stay as they are.
//!
//! ```text
//! damaged, vanished --> quarantined --> ask the peers who hold the group --> pull --> place --> row names the new file
//!                            ^                       |
//!                            '--- pause, or a bell --'  nobody delivers
//! ```
//!
//! **Invariants**
//! 1. A row leaves quarantine only in the transaction that names a file that was verified against it, fsynced and in place.
//! 2. Nothing is pulled that no visible group keeps.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mynet_proto::reason::{Note, Reason};
use mynet_store::{
    blobs::{DiskError, StageName, StagingDir},
    meta::{LostBlob, MetaError, WriteError},
};
use mynet_types::{BlobRef, ContentHash, GroupId, NodeId, rpc::GroupKey};
use tokio::sync::Notify;

use crate::{
    driver::wall_clock,
    pull::{Pull, PullError},
    shell::{Chain, Shell},
};

/// First pause before what did not come is asked for again; doubles up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_secs(5);
/// Longest pause: each try asks every peer about every group that lost something. A peer that comes up ends the pause.
const PAUSE_MAX: Duration = Duration::from_secs(300);
/// Lost blobs looked at together.
const PAGE: u64 = 100;
/// Starts the names of staging directories of lost blobs; they outlive a restart, so that a large blob goes on.
const STAGING_PREFIX: &str = "lost-";

/// What wakes the worker.
#[derive(Debug, Default)]
pub(crate) struct Bells {
    lost: Notify,
    peer: Notify,
}

impl Bells {
    /// A blob was put into quarantine.
    pub(crate) fn lost(&self) {
        self.lost.notify_one();
    }

    /// A peer came up; it may hold what is missing.
    pub(crate) fn peer_up(&self) {
        self.peer.notify_one();
    }
}

/// Why a lost blob is not here again yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RefillError {
    #[error("no peer that can be reached holds it")]
    Nobody,
    #[error("no space: {needed} bytes are needed, {free} are free")]
    NoSpace { needed: u64, free: u64 },
    #[error(transparent)]
    Pull(#[from] PullError),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// Works until the node stops: at once, when something is lost, and for as long as something is missing.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut pause = PAUSE_MIN;
    loop {
        let passed = tokio::select! {
            () = shell.cancel.cancelled() => return,
            passed = pass(&shell) => passed,
        };
        let missing = passed.unwrap_or_else(|error| {
            tracing::warn!(error = %Chain(&error), "lost blobs were not looked for");
            1
        });
        if missing > 0 {
            tracing::warn!(missing, retry = ?pause, "blobs that this disk lost are not all here again");
        }
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            () = shell.refill.lost.notified() => pause = PAUSE_MIN,
            () = shell.refill.peer.notified(), if missing > 0 => pause = PAUSE_MIN,
            () = tokio::time::sleep(pause), if missing > 0 => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}

/// Tries every lost blob once, and returns how many are still missing.
async fn pass(shell: &Arc<Shell>) -> Result<u64, MetaError> {
    let (mut after, mut missing) = (None, 0);
    loop {
        let page = shell.meta.lost_after(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(missing) };
        after = Some(last.stored.blob.sha256);
        for lost in &page {
            let blob = lost.stored.blob;
            match refill(shell, lost).await {
                Ok(()) => {
                    tracing::info!(blob = %blob.sha256, bytes = blob.size, "a lost blob is here again");
                    for group in &lost.groups {
                        shell.note(Note::about(*group, Reason::BlobMended).value(blob.size));
                        shell.publish_mended(*group).await;
                    }
                }
                Err(error) => {
                    missing += 1;
                    tracing::debug!(blob = %blob.sha256, error = %Chain(&error), "a lost blob did not come");
                }
            }
        }
    }
}

/// Pulls one blob from whoever holds it and puts it in the place of the lost file; if that did not come back by itself, as
/// when a disk was not mounted at the last start.
async fn refill(shell: &Arc<Shell>, lost: &LostBlob) -> Result<(), RefillError> {
    let blob = lost.stored.blob;
    if let Ok(reader) = shell.blobs.read(blob, lost.stored.generation).await
        && reader.verify().await.is_ok()
    {
        return Ok(shell.meta.found_again(&lost.stored).await?);
    }
    let sources = holders(shell, lost).await;
    if sources.is_empty() {
        return Err(RefillError::Nobody);
    }
    // The row counts in the capacity already; what matters is the disk.
    let free = shell.disk_room()?;
    if blob.size > free {
        return Err(RefillError::NoSpace { needed: blob.size, free });
    }
    let staging = shell.blobs.stage(stage_name(&blob.sha256)).await?;
    put_back(shell, &staging, (blob, &sources, &lost.groups)).await?;
    staging.remove().await?;
    Ok(())
}

/// Pulls, places, and has the row name the new file. Cut off in between it leaves a file for the sweep of the next start.
async fn put_back(
    shell: &Shell,
    staging: &StagingDir,
    (blob, sources, groups): (BlobRef, &[NodeId], &[GroupId]),
) -> Result<(), RefillError> {
    let label: StageName = "blob".parse().expect("letters make a staging name");
    let pull = Pull { shell, sources, progress: &|_bytes| {}, groups };
    let new = pull.to_place(staging, &label, blob).await?;
    match shell.meta.refill(&new, wall_clock()).await {
        Ok(done) => shell.unlink(done.redundant).await,
        Err(error) => {
            shell.unlink(vec![new]).await;
            return Err(error.into());
        }
    }
    Ok(())
}

/// Peers that say they hold a state with these bytes.
async fn holders(shell: &Shell, lost: &LostBlob) -> Vec<NodeId> {
    let mut holders = BTreeSet::new();
    for group in &lost.groups {
        for (node, info) in shell.ask_network(GroupKey::Group(*group)).await.found {
            let mut held = info.manifest.body.blobs().filter(|(member, _)| info.held.contains(member.state));
            if held.any(|(_, blob)| blob == lost.stored.blob) {
                holders.insert(node);
            }
        }
    }
    holders.into_iter().collect()
}

/// The staging directory of a lost blob.
fn stage_name(sha256: &ContentHash) -> StageName {
    let name = format!("{STAGING_PREFIX}{}", hex::encode(sha256.0));
    name.parse().expect("hex digits and a dash make a staging name")
}

/// Whether a staging directory is that of a blob that is still lost.
pub(crate) async fn is_staging(shell: &Shell, name: &StageName) -> Result<bool, MetaError> {
    let name = name.to_string();
    let Some(sha256) = name.strip_prefix(STAGING_PREFIX).and_then(|hash| hash.parse().ok()) else { return Ok(false) };
    Ok(shell.meta.blob(&sha256).await?.is_some_and(|row| row.quarantined))
}

#[cfg(test)]
mod tests;
