//! Care of the disk: leftovers of earlier starts, and blobs that nothing keeps any more.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mynet_store::{
    blobs::{BlobKey, DiskError},
    meta::MetaError,
};
use mynet_types::{Timestamp, TxId};

use crate::{
    driver::wall_clock,
    refill,
    service::StartError,
    shell::{Chain, Shell},
    staged::stage_name,
};

/// How often unpinned blobs are looked for.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long a blob stays without a pin. Whoever is about to pin a blob that it just saw must still find it; shorter than
/// a transaction's longest step would lose that race, longer keeps garbage. Garage uses the same ten minutes.
const GRACE: Duration = Duration::from_secs(600);
/// Blobs collected in one transaction.
const BATCH: u64 = 100;

/// Removes what earlier starts left in staging: all uploads, transactions that are not open any more, and blobs that are
/// not lost any more.
pub(crate) async fn clear_staging(shell: &Shell, open: impl Iterator<Item = TxId>) -> Result<(), StartError> {
    let open: BTreeSet<_> = open.map(|tx| stage_name(&tx)).collect();
    let entries = shell.blobs.list_staging().await.map_err(disk)?;
    for entry in entries {
        if !open.contains(entry.dir.name()) && !refill::is_staging(shell, entry.dir.name()).await? {
            entry.dir.remove().await.map_err(disk)?;
        }
    }
    Ok(())
}

fn disk(error: DiskError) -> StartError {
    StartError::Io { verb: error.verb, path: error.path, source: error.source }
}

/// Sweeps files that no row names and proposes what was not certified, once; then collects unpinned blobs until the node stops.
pub(crate) async fn run(shell: Arc<Shell>) {
    if let Err(error) = sweep(&shell).await {
        tracing::warn!(error = %Chain(&error), "files that no row names were not all removed");
    }
    if let Err(error) = shell.propose_uncertified().await {
        tracing::warn!(error = %Chain(&error), "groups without a certificate were not all proposed again");
    }
    let mut ticks = tokio::time::interval(INTERVAL);
    loop {
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(error) = collect(&shell).await {
            tracing::warn!(error = %Chain(&error), "unpinned blobs were not collected");
        }
    }
}

/// Deletes blobs that nothing has kept for the grace period: the row first, with another look, then the file.
async fn collect(shell: &Shell) -> Result<(), MetaError> {
    let before = Timestamp(wall_clock().0.saturating_sub(u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX)));
    loop {
        let candidates = shell.meta.garbage(before, BATCH).await?;
        if candidates.is_empty() {
            return Ok(());
        }
        let files = shell.meta.collect(&candidates, before).await?;
        tracing::info!(count = files.len(), "unpinned blobs were collected");
        if files.is_empty() {
            return Ok(());
        }
        shell.unlink(files).await;
    }
}

/// Why a sweep stopped.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Meta(#[from] MetaError),
}

/// Removes files of earlier starts that have no row: a crash came between the rename and the row, or between deleting the
/// row and the file.
async fn sweep(shell: &Shell) -> Result<(), SweepError> {
    for first_byte in 0..=u8::MAX {
        for BlobKey { sha256, generation } in shell.blobs.list(first_byte).await? {
            if shell.cancel.is_cancelled() {
                return Ok(());
            }
            let row = shell.meta.blob(&sha256).await?;
            let named = row.is_some_and(|row| row.stored.generation == generation);
            if !named && shell.is_of_earlier_start(generation) {
                shell.blobs.remove(BlobKey { sha256, generation }).await?;
                tracing::info!(blob = %sha256, "a file that no row names was removed");
            }
        }
    }
    Ok(())
}
