//! Deleting groups for good: the owner's word, who has confirmed it, and learning what others deleted meanwhile.
//!
//! The core tells every holder and target until it confirms (`mynet_proto::replication`). That leaves who was never known to hold
//! anything, and whoever was away while the owner's node is gone: so every node asks its peers what was deleted
//! (`mynet_proto::replication::exchange`). What a peer deleted is never taken from another one again, and a peer that still tells
//! of such a group is told of its tombstone.
//!
//! **Invariant:** whatever comes from a peer goes through the core, which checks the owner's signature.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mynet_proto::{
    node::io::Input,
    replication::exchange::{Exchange, INTERVAL, Page, Question},
};
use mynet_store::meta::{Deletion, MetaError};
use mynet_types::{
    BoundedVec, GroupId, Manifest, Message, NodeId, OwnerKey, ReplicationMessage, SignedTombstone, Tombstone,
    rpc::{GroupInfo, GroupKey, Request, Response},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    driver::wall_clock,
    find::Answers,
    handle::{NodeError, NodeHandle},
    shell::{Chain, Shell},
    view::DeletionView,
};

/// Least time between two pages: less than half of what a newcomer may ask of one peer.
const PAGE_INTERVAL: Duration = Duration::from_millis(50);
/// How long a deletion may take to reach this node's own disk, whatever the caller's patience: until then nothing is deleted.
const WRITTEN_MAX: Duration = Duration::from_secs(10);

/// What the tasks about deletions share.
#[derive(Debug)]
pub(crate) struct Deletions {
    /// Rings when a tombstone is written here or confirmed elsewhere.
    news: watch::Sender<u64>,
    /// Whom the worker asks next, and for what.
    exchange: Mutex<Exchange>,
    bell: Notify,
}

impl Default for Deletions {
    fn default() -> Self {
        Self { news: watch::Sender::new(0), exchange: Mutex::default(), bell: Notify::new() }
    }
}

impl Deletions {
    /// Something about a deletion is on disk.
    pub(crate) fn changed(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Peers may know of deletions that this node does not.
    pub(crate) fn ask(&self, peers: impl IntoIterator<Item = NodeId>) {
        self.exchange().ask(peers);
        self.bell.notify_one();
    }

    fn next_question(&self) -> Option<Question> {
        self.exchange().next_question()
    }

    fn exchange(&self) -> MutexGuard<'_, Exchange> {
        self.exchange.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl NodeHandle {
    /// Deletes a group of this node's owner everywhere, and waits up to `timeout` until every holder has confirmed. The work
    /// goes on after the wait. Deleting again what was deleted, by its group id, tells how far that came.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Unknown`], [`NodeError::Forbidden`] if the group is of another owner,
    /// [`NodeError::Stopping`], [`NodeError::Storage`].
    pub async fn delete(&self, key: GroupKey, timeout: Duration) -> Result<DeletionView, NodeError> {
        self.shell.delete(key, timeout).await
    }
}

impl Shell {
    fn owner(&self) -> OwnerKey {
        OwnerKey(self.keys.owner().verifying_key().to_bytes())
    }

    async fn delete(&self, key: GroupKey, timeout: Duration) -> Result<DeletionView, NodeError> {
        let mut news = self.deletions.news.subscribe();
        let deadline = Instant::now() + timeout;
        if let GroupKey::Group(group_id) = key
            && self.deletion_of(group_id).await?.is_some()
        {
            return self.wait_confirmed(group_id, &mut news, deadline).await;
        }
        let (manifest, holders) = self.to_delete(key).await?;
        let body = Tombstone { group_id: manifest.group_id, owner: manifest.owner, deleted_at: wall_clock() };
        let tombstone = Box::new(SignedTombstone::new(&self.network, body, self.keys.owner()));
        if !self.inbox.put(Input::Delete { tombstone, holders }).await {
            return Err(NodeError::Stopping);
        }
        self.wait_confirmed(manifest.group_id, &mut news, deadline).await
    }

    /// The group to be deleted, and who may hold it.
    pub(crate) async fn to_delete(&self, key: GroupKey) -> Result<(Manifest, Vec<NodeId>), NodeError> {
        let found = self.find_group(key).await?;
        if found.manifest.owner != self.owner() {
            let why = "the group is of another owner; it is deleted on the node where it was uploaded".to_owned();
            return Err(NodeError::Forbidden(why));
        }
        // Also those whose receipts have ended: that says nothing about whether the bytes are gone.
        let receipts = self.meta.receipts_of_group(found.manifest.group_id).await.map_err(NodeError::storage)?;
        let mut holders: BTreeSet<NodeId> = receipts.into_iter().map(|receipt| receipt.body.holder).collect();
        let told = self.meta.told(found.manifest.group_id).await.map_err(NodeError::storage)?;
        holders.extend(told.into_iter().map(|(node, _)| node));
        holders.extend(found.backing.holders());
        holders.extend(found.holders);
        Ok((found.manifest, holders.into_iter().collect()))
    }

    /// How far this node's owner deleted a group. What others say they deleted under the same id is no word of its owner.
    pub(crate) async fn deletion_of(&self, group_id: GroupId) -> Result<Option<Deletion>, NodeError> {
        self.meta.deletion(group_id, &self.owner().0).await.map_err(NodeError::storage)
    }

    /// Waits until the tombstone is on disk, and then until everybody confirmed or the deadline passed.
    async fn wait_confirmed(
        &self,
        group_id: GroupId,
        news: &mut watch::Receiver<u64>,
        deadline: Instant,
    ) -> Result<DeletionView, NodeError> {
        let written_by = deadline.max(Instant::now() + WRITTEN_MAX);
        loop {
            news.mark_unchanged();
            let deletion = self.deletion_of(group_id).await?;
            let until = if deletion.is_some() { deadline } else { written_by };
            let settled = deletion.as_ref().is_some_and(|deletion| deletion.silent.is_empty());
            if !settled && Instant::now() < until {
                tokio::select! {
                    () = self.cancel.cancelled() => return Err(NodeError::Stopping),
                    _ = tokio::time::timeout_at(until, news.changed()) => continue,
                }
            }
            let Some(Deletion { tombstone, confirmed, silent }) = deletion else {
                return Err(NodeError::storage(std::io::Error::from(std::io::ErrorKind::TimedOut)));
            };
            return Ok(DeletionView { group_id, deleted_at: tombstone.deleted_at, confirmed, silent });
        }
    }

    /// Takes note that a group was deleted.
    pub(crate) fn group_deleted(self: &Arc<Self>, group_id: GroupId, owner: OwnerKey) {
        tracing::info!(group = %group_id.short(), %owner, "tombstone is kept");
        self.deletions.changed();
        // A tombstone for an id of this node in somebody else's name says nothing about whom it is granted to.
        if owner == self.owner() {
            let shell = Arc::clone(self);
            self.tasks.spawn(async move { shell.forget_grant(group_id).await });
        }
    }

    /// Drops what peers told of groups that their owners deleted, and tells them.
    pub(crate) async fn drop_deleted(&self, answers: &mut Answers) {
        let mut kept = Vec::new();
        for (node, info) in std::mem::take(&mut answers.found) {
            match self.tombstone_of(&info).await {
                None => kept.push((node, info)),
                Some(tombstone) => {
                    tracing::info!(peer = %node.short(), "a peer told of a group that its owner deleted");
                    let told = ReplicationMessage::Tombstones(BoundedVec::truncated([tombstone]));
                    self.send(node, Message::Replication(told));
                }
            }
        }
        answers.found = kept;
    }

    async fn tombstone_of(&self, info: &GroupInfo) -> Option<SignedTombstone> {
        self.meta.tombstone(&info.manifest.body).await.unwrap_or_else(|error| {
            tracing::error!(error = %Chain(&error), "cannot look whether a group was deleted");
            None
        })
    }

    /// Tombstones after a place, for a peer.
    pub(crate) async fn tombstones_for_peer(&self, seq: u64) -> Result<Response, MetaError> {
        let page = self.meta.tombstones_after(seq).await?;
        Ok(Response::Tombstones { boot: self.meta.boot(), seq: page.seq, tombstones: page.tombstones })
    }

    /// Asks whoever is to be asked, page by page, and hands what they told to the core.
    async fn learn_deletions(&self) {
        let Some(net) = self.net.get() else { return };
        let mut pages = tokio::time::interval(PAGE_INTERVAL);
        pages.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while let Some(Question { peer, seq }) = self.deletions.next_question() {
            pages.tick().await;
            let answer = net.request(peer, Request::TombstonesAfter { seq }).await;
            let Ok(Response::Tombstones { boot, seq, tombstones }) = answer else {
                tracing::debug!(peer = %peer.short(), ?answer, "a peer did not tell its tombstones");
                self.deletions.exchange().failed();
                continue;
            };
            let told = self.deletions.exchange().answered(Page { boot, seq, tombstones });
            if let Some(told) = told
                && !self.inbox.put(Input::Message { from: peer, message: Message::Replication(told) }).await
            {
                return;
            }
        }
    }
}

/// Learns what others deleted, until the node stops.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            () = shell.deletions.bell.notified() => {}
            _ = ticks.tick() => shell.deletions.ask(shell.members.up()),
        }
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            () = shell.learn_deletions() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_types::OwnerKey;

    use crate::testing::Founder;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_tombstone_in_the_name_of_another_owner_does_not_widen_who_a_group_is_granted_to() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let (kept, gone) = (founder.add(b"kept", |_| ()).await, founder.add(b"gone", |_| ()).await);
        let granted = |group| shell.is_for_trusted(group);
        assert!(!granted(kept).await.unwrap() && !granted(gone).await.unwrap());

        shell.group_deleted(kept, OwnerKey([9; 32]));
        shell.group_deleted(gone, shell.owner());
        // What the second one does shows that the first one is over.
        let forgotten = async {
            while !granted(gone).await.unwrap() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), forgotten).await.unwrap();
        assert!(!granted(kept).await.unwrap());
    }
}
