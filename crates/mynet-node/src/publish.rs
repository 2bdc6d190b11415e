//! Publishing groups, and granting readers: everything that ends in `Input::Publish`.

use std::{sync::Arc, time::Duration};

use mynet_proto::{
    group,
    node::io::Input,
    replication::{
        io::{Mode, Publication},
        plan,
    },
};
use mynet_store::{
    cipher::ContentKey,
    meta::{Group, ListQuery, MetaError, MetaWrite, Mode as StoredMode},
};
use mynet_types::{
    BoundedVec, ContentHash, DecryptedClass, GroupId, Manifest, ManifestHash, NodeId, SignedAdmission, SignedWrap,
    rpc::GroupKey,
};

use crate::{
    config::SuccessMode,
    driver::wall_clock,
    grant,
    handle::{Grant, NodeError, PublishOptions},
    shell::{Chain, Shell},
    view::{GroupView, OperationId, PeerView, Wait, WaitResult},
};

/// Groups looked at together when a new reader is granted old ones.
const PAGE: u64 = 100;
/// Starts the names of settings that keep which nodes are owed grants of old groups.
const OWED_SETTING: &str = "owed/";
/// Starts the names of settings that keep whom a group is granted to, where that is not everybody trusted.
const GRANT_SETTING: &str = "grant/";

/// How far a group was by its rows.
pub(crate) struct Reached {
    /// The version that is seen.
    value: ManifestHash,
    receipts: usize,
    certified: bool,
    /// Copies and mode, if it was published before.
    wanted: Option<(u8, StoredMode)>,
}

/// Publishes a group again as it was published: its mode and copies are its owner's choice, not this node's setting.
pub(crate) fn as_before(group: &Group) -> PublishOptions {
    PublishOptions { replicas: Some(group.replicas_wanted), all: Some(group.mode == StoredMode::All) }
}

/// Receipts that make a group a success, as it was published.
pub(crate) fn need(group: &Group) -> u8 {
    if group.mode == StoredMode::All { group.replicas_wanted } else { group.manifest.body.quorum }
}

/// The mode as rows have it.
pub(crate) fn stored_mode(mode: Mode) -> StoredMode {
    match mode {
        Mode::Quorum => StoredMode::Quorum,
        Mode::All => StoredMode::All,
    }
}

/// The mode's word.
pub(crate) fn mode_word(mode: StoredMode) -> &'static str {
    match mode {
        StoredMode::Quorum => "quorum",
        StoredMode::All => "all",
    }
}

impl Shell {
    /// Hands a group that was uploaded here to the core. Returns the receipts that make it a success.
    pub(crate) async fn publish(&self, group_id: GroupId, options: &PublishOptions) -> Result<usize, NodeError> {
        let (publication, group) = self.publication(group_id, options).await?;
        let need = plan::need(&publication);
        // Written first: whoever looks from now on sees what is wanted, and so does the next start.
        let wanted = (publication.replicas, stored_mode(publication.mode));
        if group.wanted != Some(wanted) {
            let write = MetaWrite::Publish { group_id, replicas: wanted.0, mode: wanted.1 };
            self.meta.batch(vec![write], wall_clock()).await.map_err(NodeError::storage)?;
        }
        // What was reached before this start is known from the rows; a wait must not look for it again. What an earlier try
        // found missing may be there now: the core says so anew if it is not.
        self.board.update(group_id, |progress| {
            progress.turn_to(group.value);
            progress.receive(group.receipts);
            progress.certified |= group.certified;
            progress.not_enough_targets = false;
        });
        if self.inbox.put(Input::Publish(Box::new(publication))).await { Ok(need) } else { Err(NodeError::Stopping) }
    }

    /// What the core needs to replicate a group.
    pub(crate) async fn publication(
        &self,
        group_id: GroupId,
        options: &PublishOptions,
    ) -> Result<(Publication, Reached), NodeError> {
        let group = self.own_group(group_id).await?;
        // No node would take it, and whoever asked would wait for ever without a word why.
        if let Err(defect) = group::verify_manifest(&group.manifest.body) {
            return Err(NodeError::Invalid { field: "group", why: defect.to_string() });
        }
        if group.is_rejected() {
            let why =
                "the validators rejected it, and no node takes a copy any more; `why` tells who said what".to_owned();
            return Err(NodeError::Invalid { field: "id", why });
        }
        if let Some(lost) = self.lost_blob(&group.manifest.body).await.map_err(NodeError::storage)? {
            return Err(NodeError::Corrupt(lost));
        }
        let reached = Reached {
            value: group.manifest_hash,
            receipts: usize::try_from(group.replica_count).unwrap_or(usize::MAX),
            certified: group.consensus_achieved,
            wanted: group.published.then_some((group.replicas_wanted, group.mode)),
        };
        let wraps = self.meta.wraps(group_id, None).await.map_err(NodeError::storage)?;
        let replicas = options.replicas.unwrap_or(group.manifest.body.replicas);
        if replicas < group.manifest.body.quorum {
            let why = format!(
                "{replicas} copies cannot give the {} receipts that make it durable",
                group.manifest.body.quorum
            );
            return Err(NodeError::Invalid { field: "replicas", why });
        }
        let all = options.all.unwrap_or(self.config().replication.mode == SuccessMode::All);
        let head = self.head_of(&group).await?;
        let publication = Publication {
            manifest: group.manifest,
            sealed: group.sealed,
            wraps: BoundedVec::truncated(wraps),
            mode: if all { Mode::All } else { Mode::Quorum },
            replicas,
            head,
        };
        Ok((publication, reached))
    }

    /// Publishes again what was replicated here but never certified: a crash may have come between the last receipt and the
    /// proposal. Holders have the bytes, so nothing is sent but questions.
    pub(crate) async fn propose_uncertified(&self) -> Result<(), NodeError> {
        let mut after = None;
        loop {
            let query = ListQuery { origin_only: true, after, limit: PAGE };
            let page = self.meta.groups(query).await.map_err(NodeError::storage)?;
            for group in page.items.iter().filter(|group| group.published && group.certificate.is_none()) {
                match self.publish(group.manifest.body.group_id, &as_before(group)).await {
                    // It goes on when its bytes are here again, or was deleted meanwhile.
                    Ok(_) | Err(NodeError::Corrupt(_) | NodeError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    /// Goes on with a group that was uploaded here, when all its lost bytes are here again.
    pub(crate) async fn publish_mended(&self, group_id: GroupId) {
        let mended = async {
            let found = self.meta.group(&GroupKey::Group(group_id)).await.map_err(NodeError::storage)?;
            match found.filter(|(group, _)| group.origin && group.published && !group.is_rejected()) {
                Some((group, _)) => self.publish(group_id, &as_before(&group)).await.map(drop),
                None => Ok(()),
            }
        };
        match mended.await {
            Ok(()) | Err(NodeError::Corrupt(_) | NodeError::Stopping) => {}
            Err(error) => {
                tracing::warn!(group = %group_id.short(), error = %Chain(&error), "a mended group was not published again");
            }
        }
    }

    /// A blob of the group that this node's disk has lost and that is not here again. Until it is, this node must not say
    /// that it holds the group, and a coordinator that is a holder too would.
    pub(crate) async fn lost_blob(&self, manifest: &Manifest) -> Result<Option<ContentHash>, MetaError> {
        for (_, blob) in manifest.blobs() {
            if self.meta.blob(&blob.sha256).await?.is_some_and(|row| row.quarantined) {
                return Ok(Some(blob.sha256));
            }
        }
        Ok(None)
    }

    /// A group that was uploaded here.
    async fn own_group(&self, group_id: GroupId) -> Result<Group, NodeError> {
        let found = self.meta.group(&GroupKey::Group(group_id)).await.map_err(NodeError::storage)?;
        let (group, _) = found.ok_or_else(|| NodeError::NotFound(format!("group {group_id}")))?;
        if group.origin {
            return Ok(group);
        }
        Err(NodeError::Forbidden("the group was uploaded elsewhere; its own node publishes it".to_owned()))
    }

    /// Waits for a group within `timeout`, for `need` receipts where it waits for any, and shows it. The work goes on after the wait.
    pub(crate) async fn wait_for(
        self: &Arc<Self>,
        group_id: GroupId,
        (wait, need): (Wait, usize),
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        let waited = tokio::select! {
            () = self.cancel.cancelled() => return Err(NodeError::Stopping),
            waited = tokio::time::timeout(timeout, self.board.wait(&group_id, wait, need)) => waited,
        };
        let found = self.find_group(GroupKey::Group(group_id)).await?;
        let view = self.group_view(&found).await?;
        let wait_result = Some(waited.unwrap_or(WaitResult::TimedOut));
        let operation =
            found.local.filter(|group| group.published).map(|_| OperationId { group_id, version: view.version });
        Ok(GroupView { wait_result, operation_id: operation.map(|id| id.to_string()), ..view })
    }

    /// Every admitted node that this node trusts with decrypted states.
    pub(crate) fn trusted_members(&self) -> Vec<SignedAdmission> {
        self.members.admissions(wall_clock()).into_iter().filter(|admission| self.trusts(admission)).collect()
    }

    /// Whether this node trusts another: its operator's word first, else that of whoever admitted it.
    pub(crate) fn trusts(&self, admission: &SignedAdmission) -> bool {
        self.trust_words().get(&admission.body.node).copied().unwrap_or(admission.body.trusted)
    }

    /// Keeps whom a group is granted to, where that is not everybody trusted.
    pub(crate) async fn remember_grant(&self, group_id: GroupId, grant: &Grant) -> Result<(), NodeError> {
        let words = match grant {
            Grant::Trusted => return Ok(()),
            Grant::None => String::new(),
            Grant::Nodes(nodes) => nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        };
        let key = format!("{GRANT_SETTING}{group_id}");
        self.meta.set_setting(&key, Some(&words)).await.map_err(NodeError::storage)
    }

    /// Whom a deleted group was granted to is of no use any more.
    pub(crate) async fn forget_grant(&self, group_id: GroupId) {
        if let Err(error) = self.meta.set_setting(&format!("{GRANT_SETTING}{group_id}"), None).await {
            self.not_kept("forget whom a deleted group was granted to", error);
        }
    }

    /// Whether a group goes to everybody trusted.
    pub(crate) async fn is_for_trusted(&self, group_id: GroupId) -> Result<bool, NodeError> {
        let kept = self.meta.setting(&format!("{GRANT_SETTING}{group_id}")).await.map_err(NodeError::storage)?;
        Ok(kept.is_none())
    }

    /// Wraps the keys of this node's groups to a new node that is trusted; runs beside everything else.
    pub(crate) fn grant_newcomer(self: &Arc<Self>, admission: SignedAdmission) {
        if admission.body.node == self.me() || !self.trusts(&admission) {
            return;
        }
        let shell = Arc::clone(self);
        self.tasks.spawn(async move {
            let granted = tokio::select! {
                () = shell.cancel.cancelled() => return,
                granted = shell.grant_all(&admission) => granted,
            };
            match granted {
                Ok(0) => {}
                Ok(count) => tracing::info!(node = %admission.body.node.short(), count, "old groups were granted"),
                Err(error) => {
                    tracing::error!(error = %Chain(&error), "old groups were not granted, the next start goes on");
                    return;
                }
            }
            if let Err(error) = shell.meta.set_setting(&owed(&admission.body.node), None).await {
                tracing::warn!(error = %Chain(&error), "the next start looks again at what was granted");
            }
        });
    }

    /// Notes that old groups are to be granted to a node, before it is known: a crash on the way is made good by the next
    /// start.
    pub(crate) async fn owe_grants(&self, admission: &SignedAdmission) {
        let node = admission.body.node;
        if node == self.me() || !self.trusts(admission) {
            return;
        }
        if let Err(error) = self.meta.set_setting(&owed(&node), Some("")).await {
            self.not_kept("note that groups are to be granted", error);
        }
    }

    /// Goes on with grants that a crash cut off.
    pub(crate) async fn resume_grants(self: &Arc<Self>) -> Result<(), MetaError> {
        for admission in self.trusted_members() {
            if self.meta.setting(&owed(&admission.body.node)).await?.is_some() {
                self.grant_newcomer(admission);
            }
        }
        Ok(())
    }

    /// Wraps the keys of all groups uploaded here to `reader`, and publishes them again so that holders learn of it.
    /// Returns how many; those that it can read already are left alone.
    async fn grant_all(&self, reader: &SignedAdmission) -> Result<usize, NodeError> {
        let (mut after, mut count) = (None, 0);
        loop {
            let query = ListQuery { origin_only: true, after, limit: PAGE };
            let page = self.meta.groups(query).await.map_err(NodeError::storage)?;
            for group in &page.items {
                match self.grant_one(group, reader).await {
                    Ok(granted) => count += usize::from(granted),
                    // Deleted meanwhile.
                    Err(NodeError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(count),
            }
        }
    }

    /// Wraps one group's key to `reader`; `false` if it is not to be, or was already.
    async fn grant_one(&self, group: &Group, reader: &SignedAdmission) -> Result<bool, NodeError> {
        let manifest = &group.manifest.body;
        let group_id = manifest.group_id;
        if manifest.class != DecryptedClass::Granted || !self.is_for_trusted(group_id).await? {
            return Ok(false);
        }
        let has = self.meta.wraps(group_id, Some(&reader.body.node)).await.map_err(NodeError::storage)?;
        let current = |wrap: &SignedWrap| {
            wrap.body.version == manifest.key_version() && wrap.body.recipient_key == reader.body.wrap_key
        };
        if has.iter().any(current) {
            return Ok(false);
        }
        let key = self.resting_key(group).await?;
        let wrap = self.wrap_for(&key, (group_id, manifest.key_version()), reader)?;
        let write = MetaWrite::Wraps { group_id, wraps: vec![wrap] };
        self.meta.batch(vec![write], wall_clock()).await.map_err(NodeError::storage)?;
        if group.published && !group.is_rejected() {
            self.publish(group_id, &as_before(group)).await?;
        }
        Ok(true)
    }

    /// The content key of a group uploaded here.
    pub(crate) async fn resting_key(&self, group: &Group) -> Result<ContentKey, NodeError> {
        let manifest = &group.manifest.body;
        let row = self.meta.wrapped_key(manifest.group_id).await.map_err(NodeError::storage)?;
        let (_, bytes) = row.ok_or_else(|| NodeError::NotFound(format!("the key of group {}", manifest.group_id)))?;
        grant::from_rest(&self.keys, &bytes, manifest).map_err(NodeError::storage)
    }

    /// Keeps the operator's word about a node, and acts on it.
    pub(crate) async fn set_trust(self: &Arc<Self>, node: NodeId, trusted: bool) -> Result<PeerView, NodeError> {
        let admission = self.members.admission(&node).filter(|_| node != self.me());
        let admission = admission.ok_or_else(|| NodeError::NotFound(format!("node {node}")))?;
        self.meta.set_trust(&node, trusted, wall_clock()).await.map_err(NodeError::storage)?;
        self.set_trust_word(node, trusted);
        self.owe_grants(&admission).await;
        self.grant_newcomer(admission.clone());
        Ok(self.peer_view(&admission))
    }
}

/// The setting that says that a node is owed grants.
fn owed(node: &NodeId) -> String {
    format!("{OWED_SETTING}{node}")
}

#[cfg(test)]
mod tests {
    use mynet_store::meta::MetaWrite;
    use mynet_types::{Verdict, rpc::GroupKey};

    use crate::{
        driver::wall_clock,
        handle::{NodeError, PublishOptions},
        testing::{Founder, Puppet},
    };

    #[tokio::test(flavor = "multi_thread")]
    async fn what_was_rejected_is_published_no_second_time() {
        let founder = Founder::start().await;
        let one = Puppet::join(&founder, "one", true).await;
        let group_id = founder.add(b"content", |_| {}).await;
        let (meta, options) = (&founder.shell().meta, PublishOptions::default());
        let (group, _) = meta.group(&GroupKey::Group(group_id)).await.unwrap().unwrap();
        for (verdict, published) in [(Verdict::Accept, true), (Verdict::Reject, false)] {
            let mut file = founder.certificate(&group.manifest, &[&one]);
            file.certificate.statement.verdict = verdict;
            meta.batch(vec![MetaWrite::Certificate(Box::new(file))], wall_clock()).await.unwrap();
            match founder.shell().publish(group_id, &options).await {
                Ok(_) => assert!(published),
                Err(NodeError::Invalid { field: "id", why }) => {
                    assert!(!published && why.contains("rejected"), "{why}")
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
