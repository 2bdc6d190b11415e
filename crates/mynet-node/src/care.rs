//! Care of the disk: leftovers of earlier starts, groups that were rejected, and blobs that nothing keeps any more.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mynet_store::{
    blobs::{BlobKey, DiskError},
    meta::{Keeper, MetaError, MetaWrite, StoredBlob, WriteError},
};
use mynet_types::{Timestamp, TxId};

use crate::{
    driver::wall_clock,
    handle::{NodeError, NodeHandle},
    refill,
    service::StartError,
    shell::{Chain, Shell},
    staged::stage_name,
    view::GarbageView,
};

/// How often unpinned blobs are looked for at least; as often as the grace is long if that is shorter.
const INTERVAL: Duration = Duration::from_secs(60);
/// Pauses between two looks are no shorter, whatever the grace.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// Blobs collected, or groups dismissed, in one transaction.
const BATCH: u64 = 100;
/// How long a group of somebody else is kept after the validators rejected it. A day, in which operators may look into what
/// went wrong; the bytes of longer ones would be paid for by everybody but their owner.
const REJECTED_KEPT: Duration = Duration::from_hours(24);

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

/// Sweeps files that no row names and proposes what was not certified, once, and next versions; then collects unpinned blobs until the node stops.
pub(crate) async fn run(shell: Arc<Shell>) {
    if let Err(error) = sweep(&shell).await {
        tracing::warn!(error = %Chain(&error), "files that no row names were not all removed");
    }
    if let Err(error) = shell.propose_uncertified().await {
        tracing::warn!(error = %Chain(&error), "groups without a certificate were not all proposed again");
    }
    if let Err(error) = shell.resume_successions().await {
        tracing::warn!(error = %Chain(&error), "next versions of groups were not all taken up again");
    }
    loop {
        let rejected_before = before(REJECTED_KEPT);
        if let Err(error) = shell.dismiss_rejected(rejected_before).await {
            tracing::warn!(error = %Chain(&error), "rejected groups were not all dismissed");
        }
        if let Err(error) = collect(&shell).await {
            tracing::warn!(error = %Chain(&error), "unpinned blobs were not collected");
        }
        let pause = shell.config().storage.grace.clamp(INTERVAL_MIN, INTERVAL);
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Blobs that had no pin since then may go.
fn grace_ends(shell: &Shell) -> Timestamp {
    before(shell.config().storage.grace)
}

/// The time so long ago.
fn before(ago: Duration) -> Timestamp {
    let ago = u64::try_from(ago.as_millis()).unwrap_or(u64::MAX);
    Timestamp(wall_clock().0.saturating_sub(ago))
}

impl NodeHandle {
    /// Frees what nothing has kept for the grace period, as the node does by itself every minute, and tells what it freed and
    /// what keeps the rest. With `dry_run` it only tells.
    ///
    /// # Errors
    /// [`NodeError::Stopping`], [`NodeError::Storage`]; what was freed until then stays so.
    pub async fn collect_garbage(&self, dry_run: bool) -> Result<GarbageView, NodeError> {
        let shell = Arc::clone(&self.shell);
        // A task of its own: between a row and its file nobody may give up.
        let collected = self.shell.tasks.spawn(async move { shell.collect_all(dry_run).await });
        collected.await.map_err(NodeError::storage)?
    }
}

impl Shell {
    /// Takes groups of others out of the store that the validators rejected at `before` or earlier.
    pub(crate) async fn dismiss_rejected(&self, before: Timestamp) -> Result<(), WriteError> {
        loop {
            let groups = self.meta.rejected(before, BATCH).await?;
            if groups.is_empty() {
                return Ok(());
            }
            tracing::info!(count = groups.len(), "rejected groups are dismissed");
            let writes = groups.into_iter().map(|group_id| MetaWrite::Dismiss { group_id, before });
            self.meta.batch(writes.collect(), wall_clock()).await?;
        }
    }

    async fn collect_all(&self, dry_run: bool) -> Result<GarbageView, NodeError> {
        let before = grace_ends(self);
        let mut view = GarbageView { dry_run, blobs: 0, bytes: 0, kept: BTreeMap::new() };
        let mut after = None;
        loop {
            if self.cancel.is_cancelled() {
                return Err(NodeError::Stopping);
            }
            let page = self.meta.keepers_after(after.as_ref(), BATCH, before).await.map_err(NodeError::storage)?;
            let Some((last, _)) = page.last() else { return Ok(view) };
            after = Some(last.blob.sha256);
            for keeper in page.iter().filter_map(|(_, keeper)| *keeper) {
                *view.kept.entry(keeper.as_str().to_owned()).or_default() += 1;
            }
            let free = page.iter().filter(|(_, keeper)| keeper.is_none()).map(|(stored, _)| *stored);
            let mut free: Vec<StoredBlob> = free.collect();
            if !dry_run && !free.is_empty() {
                let seen = free.len();
                // Looks again: what was pinned since stays, and whoever pinned it keeps it.
                free = self.meta.collect(&free, before).await.map_err(NodeError::storage)?;
                let pinned = u64::try_from(seen - free.len()).unwrap_or(0);
                *view.kept.entry(Keeper::Transaction.as_str().to_owned()).or_default() += pinned;
                self.unlink(free.clone()).await;
            }
            view.blobs += u64::try_from(free.len()).unwrap_or(0);
            view.bytes += free.iter().map(|stored| stored.blob.size).sum::<u64>();
        }
    }
}

/// Deletes blobs that nothing has kept for the grace period: the row first, with another look, then the file.
async fn collect(shell: &Shell) -> Result<(), MetaError> {
    let before = grace_ends(shell);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_store::meta::MetaWrite;
    use mynet_types::{Verdict, rpc::GroupKey};

    use super::before;
    use crate::{
        driver::wall_clock,
        testing::{Founder, Puppet},
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn a_rejected_group_of_somebody_else_goes_when_its_time_is_over() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let one = Puppet::join(&founder, "one", true).await;
        let (info, _) = one.private(b"content", &[]).await;
        founder.hold(&info).await;
        let mut file = founder.certificate(&info.manifest, &[&one]);
        file.certificate.statement.verdict = Verdict::Reject;
        shell.meta.batch(vec![MetaWrite::Certificate(Box::new(file))], wall_clock()).await.unwrap();
        let kept = async || founder.handle.collect_garbage(true).await.unwrap().kept;
        let all = kept().await;
        assert!(all.keys().eq(["group"]), "{all:?}");

        shell.dismiss_rejected(before(Duration::from_mins(5))).await.unwrap();
        assert_eq!(kept().await, all);
        shell.dismiss_rejected(wall_clock()).await.unwrap();
        let left = kept().await;
        assert!(left.keys().eq(["grace"]) && left.values().eq(all.values()), "{left:?}");
        assert!(founder.handle.show(GroupKey::Group(info.manifest.body.group_id)).await.is_err());
    }
}
