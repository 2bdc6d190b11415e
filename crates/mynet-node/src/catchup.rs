//! Learning what others said of groups held here while this node was away.
//!
//! Receipts, certificates and wraps are sent to the holders when they come to be, and again at most while their coordinator
//! is at work. A later version is certified as seen first, and as durable by a message of its own that may be lost. A holder
//! that was away then would show a group without its certificate, with fewer copies than there are,
//! and without the key that it was granted, for ever. So it asks: for receipts and certificates when somebody wants to see
//! such a group, and from a worker, whenever a peer comes up and once an hour; for its wrap when a read needs it, because a
//! node that was never granted must not ask for ever. Groups uploaded here are left out, because this node's own core
//! works on those until they lack nothing.
//!
//! **Invariant:** what is written was verified here: receipts by signature, states and admission of their holder, a
//! certificate under this node's own chain, a wrap by opening it.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::stream::{self, FuturesUnordered, StreamExt};
use mynet_store::meta::{Group, MetaError, MetaWrite, WriteError};
use mynet_types::{
    BoundedVec, ContentState, DecryptedClass, Manifest, NodeId, SignedWrap,
    rpc::{GroupKey, Request, Response},
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior},
};

use crate::{
    backing::Backing,
    driver::wall_clock,
    find::Found,
    grant::{self, GrantError},
    handle::NodeError,
    shell::{Chain, Shell},
};

/// How long somebody who wants to see a group waits for peers that may know more of it.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long the worker waits for an answer; a request gives up by itself before.
const WORKER_PATIENCE: Duration = Duration::from_secs(30);
/// How often all peers are asked again: messages may be lost while everybody is up.
const INTERVAL: Duration = Duration::from_secs(3600);
/// Groups asked about in one step of the worker; with [`STEP_INTERVAL`] half of what a newcomer may ask of one peer.
const STEP: u64 = 25;
/// Least time between two steps.
const STEP_INTERVAL: Duration = Duration::from_secs(1);
/// Groups asked about at a time within a step.
const LANES: usize = 4;

/// Peers that the worker has yet to ask.
#[derive(Debug, Default)]
pub(crate) struct Unheard {
    peers: Mutex<BTreeSet<NodeId>>,
    bell: Notify,
}

impl Unheard {
    /// A peer may know what this node does not.
    pub(crate) fn add(&self, peers: impl IntoIterator<Item = NodeId>) {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner).extend(peers);
        self.bell.notify_one();
    }

    fn take(&self) -> Vec<NodeId> {
        std::mem::take(&mut *self.peers.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }
}

/// What others are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Receipts up to R, and the certificate.
    Copies,
    /// This node's own wrap, which it lacks.
    Wrap,
}

/// Whether others may know more copies of a group than what is written here, and its own coordinator will not tell.
fn lacks_copies(group: &Group, backing: &Backing) -> bool {
    let copies = backing.receipts.len() < usize::from(group.replicas_wanted);
    !group.origin && (copies || !backing.is_certified())
}

impl Shell {
    /// Finds a group, and if it is held here and others may know more of it, asks them first.
    pub(crate) async fn find_complete(&self, key: GroupKey) -> Result<Found, NodeError> {
        let found = self.find_group(key).await?;
        let Some(group) = found.local.as_ref().filter(|group| lacks_copies(group, &found.backing)) else {
            return Ok(found);
        };
        let learned = self.catch_up(group, Want::Copies, &self.peers_now(), PATIENCE).await;
        if self.learned(learned) { self.find_group(key).await } else { Ok(found) }
    }

    /// Adds this node's wrap, if it holds the group, is to decrypt it and has none: it was away when it was granted.
    pub(crate) async fn with_missed_wrap(&self, found: Found, state: ContentState) -> Result<Found, NodeError> {
        let manifest = &found.manifest;
        let view = manifest.member(state).is_some_and(|member| member.blob.is_none());
        let granted = manifest.class == DecryptedClass::Granted;
        let Some(group) = found.local.as_ref().filter(|_| view && granted) else { return Ok(found) };
        if !matches!(self.key_of(&found).await, Err(GrantError::NotGranted)) {
            return Ok(found);
        }
        let learned = self.catch_up(group, Want::Wrap, &self.peers_now(), PATIENCE).await;
        if !self.learned(learned) {
            return Ok(found);
        }
        let found_by = found.found_by;
        Ok(Found { found_by, ..self.found_here(group.clone()).await? })
    }

    /// Whether anything was learned; that it could not be kept is said once.
    fn learned(&self, learned: Result<bool, WriteError>) -> bool {
        learned.unwrap_or_else(|error| {
            self.not_kept("keep what peers told of a group", error);
            false
        })
    }

    /// Asks `peers` about a group held here, for at most `patience`, and keeps what stands. Says whether that was anything.
    pub(crate) async fn catch_up(
        &self,
        group: &Group,
        want: Want,
        peers: &[NodeId],
        patience: Duration,
    ) -> Result<bool, WriteError> {
        let Some(net) = self.net.get() else { return Ok(false) };
        let manifest = &group.manifest.body;
        let mut backing = self.backing_here(group).await?;
        let mut wrap = None;
        let lacks = |backing: &Backing, wrap: &Option<SignedWrap>| match want {
            Want::Copies => lacks_copies(group, backing),
            Want::Wrap => wrap.is_none(),
        };
        if !lacks(&backing, &wrap) {
            return Ok(false);
        }
        let claimed = backing.claim();
        let (judge, deadline, up) = (self.judge(), Instant::now() + patience, self.members.up());
        let request = || Request::Group(GroupKey::Group(manifest.group_id));
        let mut asked: FuturesUnordered<_> =
            peers.iter().filter(|node| up.contains(node)).map(|node| net.request(*node, request())).collect();
        let mut learned = false;
        while let Ok(Some(answer)) = tokio::time::timeout_at(deadline, asked.next()).await {
            let Ok(Response::Group(info)) = answer else { continue };
            // Receipts and certificates name the manifest by its hash, and a wrap proves itself by opening to the key that
            // the manifest commits to, so nothing else of the answer matters.
            learned |= judge.add(&mut backing, manifest, &info.receipts, info.certificate.as_deref());
            if want == Want::Wrap {
                wrap = wrap.or_else(|| info.wraps.iter().find(|wrap| self.opens(manifest, wrap)).cloned());
            }
            if !lacks(&backing, &wrap) {
                break;
            }
        }
        if !learned && wrap.is_none() {
            return Ok(false);
        }
        let news = backing.claim() != claimed;
        let receipts = BoundedVec::<_, { mynet_types::certificate::RECEIPTS_MAX }>::truncated(backing.receipts);
        let receipts = MetaWrite::Receipts { manifest_hash: group.manifest_hash, receipts: receipts.into_vec() };
        let certificate = backing.certificate.filter(|_| news).map(MetaWrite::Certificate);
        let wrap = wrap.map(|wrap| MetaWrite::Wraps { group_id: manifest.group_id, wraps: vec![wrap] });
        let writes = learned.then_some(receipts).into_iter().chain(certificate).chain(wrap);
        self.meta.batch(writes.collect(), wall_clock()).await?;
        tracing::info!(group = %manifest.group_id.short(), "peers told what was missed about a group");
        Ok(true)
    }

    /// Whether a wrap opens to the content key here.
    fn opens(&self, manifest: &Manifest, wrap: &SignedWrap) -> bool {
        grant::content_key(&self.keys, &self.network, manifest, std::slice::from_ref(wrap)).is_ok()
    }

    /// Asks `peers` about every group that lacks something, page by page.
    async fn catch_up_all(&self, peers: &[NodeId]) -> Result<(), MetaError> {
        let mut steps = tokio::time::interval(STEP_INTERVAL);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut after = None;
        loop {
            steps.tick().await;
            let page = self.meta.incomplete_groups(after, STEP).await?;
            let asked = stream::iter(&page.items).for_each_concurrent(LANES, |group| async move {
                self.learned(self.catch_up(group, Want::Copies, peers, WORKER_PATIENCE).await);
            });
            asked.await;
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }
}

/// Catches up with every peer that comes up, until the node stops.
pub(crate) async fn run(shell: Arc<Shell>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shell.cancel.cancelled() => return,
            () = shell.unheard.bell.notified() => {}
            _ = ticks.tick() => shell.unheard.add(shell.members.up()),
        }
        let peers = shell.unheard.take();
        if peers.is_empty() {
            continue;
        }
        let caught_up = tokio::select! {
            () = shell.cancel.cancelled() => return,
            caught_up = shell.catch_up_all(&peers) => caught_up,
        };
        if let Err(error) = caught_up {
            tracing::warn!(error = %Chain(&error), "not everything that was missed was asked for");
        }
    }
}

#[cfg(test)]
mod tests {
    use mynet_store::meta::MetaWrite;
    use mynet_types::{
        BoundedVec, CertificateFile, Claim, Signed,
        rpc::{GroupInfo, GroupKey},
    };

    use crate::{
        driver::wall_clock,
        handle::NodeHandle,
        testing::{Founder, Puppet, until},
        view::GroupView,
    };

    /// The only group here, as it is written: lists ask nobody.
    async fn listed(handle: &NodeHandle) -> GroupView {
        handle.list(9, None).await.unwrap().items.remove(0)
    }

    /// A node that holds a group of somebody else's, and two peers that may know more of it.
    struct Case {
        founder: Founder,
        one: Puppet,
        two: Puppet,
        info: GroupInfo,
        key: GroupKey,
    }

    impl Case {
        async fn new() -> Self {
            let founder = Founder::start().await;
            let one = Puppet::join(&founder, "one", true).await;
            let two = Puppet::join(&founder, "two", true).await;
            let (info, _) = one.private(b"content", &[]).await;
            founder.hold(&info).await;
            let key = GroupKey::Group(info.manifest.body.group_id);
            Self { founder, one, two, info, key }
        }
    }

    /// The group is shown, and none of its peers is asked about it.
    async fn shows_without_asking(founder: &Founder, key: GroupKey, peers: [&Puppet; 2]) {
        for peer in peers {
            peer.asked();
        }
        founder.handle.show(key).await.unwrap();
        assert!(peers.iter().all(|peer| peer.asked().is_empty()));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_wants_to_see_a_group_is_shown_what_this_node_missed() {
        let Case { founder, one, two, info, key } = Case::new().await;
        let forged =
            Signed { body: two.receipt(&info.manifest).body, signature: one.receipt(&info.manifest).signature };
        let mut told = info.clone();
        told.receipts = BoundedVec::truncated([one.receipt(&info.manifest), forged]);
        one.tell(&[key], &told);
        let shown = founder.handle.show(key).await.unwrap();
        assert_eq!((shown.replica_count, shown.consensus_achieved), (2, false), "{shown:?}");
        assert!(founder.handle.certificate(key).await.is_err());

        // The other one knows the rest.
        told.receipts = BoundedVec::truncated([two.receipt(&info.manifest)]);
        told.certificate = Some(Box::new(founder.certificate(&info.manifest, &[&one, &two])));
        two.tell(&[key], &told);
        let file = CertificateFile::decode(&founder.handle.certificate(key).await.unwrap()).unwrap();
        assert_eq!(file.certificate, told.certificate.unwrap().certificate);
        let kept = listed(&founder.handle).await;
        assert_eq!((kept.replica_count, kept.consensus_achieved), (3, true), "{kept:?}");

        // A group that lacks nothing is not asked about again.
        shows_without_asking(&founder, key, [&one, &two]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_certificate_of_a_stronger_claim_is_caught_up_with() {
        let Case { founder, one, two, info, key } = Case::new().await;
        // All copies are known here, and that the group was seen. That it is durable was told in a message that got lost.
        let receipts = vec![one.receipt(&info.manifest), two.receipt(&info.manifest)];
        let writes = vec![
            MetaWrite::Receipts { manifest_hash: info.manifest.body.hash(), receipts },
            MetaWrite::Certificate(Box::new(founder.certified(&info.manifest, &[], Claim::Seen))),
        ];
        founder.shell().meta.batch(writes, wall_clock()).await.unwrap();
        let claim = async || {
            let file = CertificateFile::decode(&founder.handle.certificate(key).await.unwrap()).unwrap();
            file.certificate.statement.claim
        };
        let mut told = info.clone();
        told.certificate = Some(Box::new(founder.certified(&info.manifest, &[], Claim::Seen)));
        two.tell(&[key], &told);
        founder.handle.show(key).await.unwrap();
        assert_eq!(claim().await, Claim::Seen);
        told.certificate = Some(Box::new(founder.certificate(&info.manifest, &[&one, &two])));
        one.tell(&[key], &told);
        founder.handle.show(key).await.unwrap();
        assert_eq!(claim().await, Claim::Durable);
        // Nobody is asked for more than that, and one that says less takes nothing away.
        shows_without_asking(&founder, key, [&one, &two]).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_certificate_that_comes_again_with_a_stronger_claim_is_kept() {
        let Case { founder, one, two, info, key } = Case::new().await;
        let shell = founder.shell();
        let certified = |claim| Box::new(founder.certified(&info.manifest, &[&one, &two], claim));
        for (told, kept) in
            [(Claim::Seen, Claim::Seen), (Claim::Durable, Claim::Durable), (Claim::Seen, Claim::Durable)]
        {
            shell.keep_if_missing(certified(told)).await;
            let file = CertificateFile::decode(&founder.handle.certificate(key).await.unwrap()).unwrap();
            assert_eq!(file.certificate.statement.claim, kept, "{told:?}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_peer_that_comes_up_is_asked_for_what_was_missed_without_anybody_looking() {
        let founder = Founder::start().await;
        let one = Puppet::make(&founder, "one", true).await;
        let (mut info, _) = one.private(b"content", &[]).await;
        founder.hold(&info).await;
        assert_eq!(listed(&founder.handle).await.replica_count, 1);
        info.receipts = BoundedVec::truncated([one.receipt(&info.manifest)]);
        one.tell(&[GroupKey::Group(info.manifest.body.group_id)], &info);
        one.enter(&founder).await;
        until("the receipt to be here", async || listed(&founder.handle).await.replica_count == 2).await;
    }
}
