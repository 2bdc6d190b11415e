//! Later versions of groups that were uploaded here.
//!
//! ```text
//! draft on disk --CertifyHead (seen)--> certificate --one transaction--> visible here --publish--> holders, durable
//!       |
//!       +-- another value of this version is certified: dropped
//! ```
//!
//! A version is shown to nobody, here or elsewhere, before the validators have certified it, because only then it is the one
//! of its number. From the transaction on it takes the same road as an upload; holders take it only with the certificate.
//!
//! **Invariant:** one next version of a group at a time. What a draft needs is pinned by its group until it is installed or
//! dropped, and a start goes on wherever a crash came.
//!
//! **Invariant:** this node signs one manifest for one version, also if that was rejected: two are evidence against the owner.
//! A draft that cannot be leaves its number behind. Only a data directory that is older than a signature of this node can sign
//! a second one, see `docs/protocol/consensus.md`.

use std::{sync::Arc, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use bytes::Bytes;
use mynet_proto::{
    group::{verify_manifest, verify_succession},
    node::io::Input,
    placement::PlacementSlot,
    replication::io::Head,
};
use mynet_store::meta::{Group, GroupRows, MetaWrite, NewGroup, StoredBlob};
use mynet_types::{
    BlobRef, BoundedString, BoundedVec, CertificateFile, Claim, ContentHash, ContentId, ContentState, GroupId,
    HeadProof, Link, Manifest, ManifestHash, Member, QuorumCertificate, RelationshipKind, Signed, SignedManifest,
    Verdict, codec, rpc::GroupKey, vote::is_head,
};

use crate::{
    driver::wall_clock,
    grant,
    handle::NodeError,
    persist::until_written,
    publish::{as_before, need},
    shell::{Chain, Shell},
    view::{GroupView, OperationId, WaitResult},
};

/// Encoded size of a lineage at most: two manifests and a certificate, and room.
const LINEAGE_BYTES_MAX: usize = 1024 * 1024;

/// How the versions of a group follow each other.
#[derive(Debug, Clone, Default, BorshSerialize, BorshDeserialize)]
struct Lineage {
    /// What made the version here the one of its number, as long as it is not the first. Whoever holds it or certifies it as
    /// more looks at that.
    head: Option<Certified>,
    /// The next version.
    draft: Option<Draft>,
    /// The version of a draft that can never be. No other one is signed for it.
    spent: Option<u64>,
}

/// What made a later version the one of its number.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Certified {
    /// The acks of a quorum.
    certificate: QuorumCertificate,
    /// The version before.
    previous: HeadProof,
}

/// A version that is being certified.
#[derive(Debug, Clone, BorshSerialize, BorshDeserialize)]
struct Draft {
    manifest: SignedManifest,
    /// The version here.
    previous: HeadProof,
}

impl Shell {
    /// Gives a group that was uploaded here another preview, in its next version. Waits until that is durable, or for
    /// `timeout`; the work goes on after the wait.
    pub(crate) async fn replace_preview(
        self: &Arc<Self>,
        key: GroupKey,
        (bytes, mime): (Bytes, String),
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        let Some((group, _)) = self.meta.group(&key).await.map_err(NodeError::storage)? else {
            self.find_group(key).await?;
            return Err(elsewhere());
        };
        // Whoever comes second sees the draft of the first.
        let turn = self.succession_turn.lock().await;
        let previous = self.may_follow(&group).await?;
        let mut flight = self.take_off();
        flight.take(bytes.len() as u64).await?;
        let stored = self.store_preview(&bytes).await?;
        let begun = self.begin_version(&group, previous, (stored, mime)).await;
        if begun.is_err() {
            self.unlink(vec![stored]).await;
        }
        drop((turn, flight));
        let next = begun?;
        let (group_id, version) = (next.group_id, next.version);
        let result = tokio::select! {
            () = self.cancel.cancelled() => return Err(NodeError::Stopping),
            result = self.until_durable((group_id, version), timeout) => result?,
        };
        let found = self.find_group(GroupKey::Group(group_id)).await?;
        let operation = found.local.as_ref().filter(|group| group.published).map(|_| OperationId { group_id, version });
        let (wait_result, operation_id) = (Some(result), operation.map(|id| id.to_string()));
        Ok(GroupView { wait_result, operation_id, ..self.group_view(&found).await? })
    }

    /// Whether another version may be made of a group now, and the proof that it follows.
    async fn may_follow(&self, group: &Group) -> Result<HeadProof, NodeError> {
        let manifest = &group.manifest.body;
        if !group.origin {
            return Err(elsewhere());
        }
        if manifest.member(ContentState::Encrypted).is_none() {
            let why = "public content is shown itself and has no preview".to_owned();
            return Err(NodeError::Invalid { field: "type", why });
        }
        let lineage = self.lineage(manifest.group_id).await?;
        if lineage.draft.is_some() {
            let why = "another version of it is being certified; try again when it is".to_owned();
            return Err(NodeError::Invalid { field: "id", why });
        }
        if let Some(spent) = lineage.spent.filter(|spent| *spent > manifest.version) {
            let why = format!(
                "version {spent} of it was signed once and rejected, or lost against another one; a second one would be \
                 evidence against its owner, so upload it as a group of its own"
            );
            return Err(NodeError::Invalid { field: "id", why });
        }
        let file = self.meta.certificate(&group.manifest_hash).await.map_err(NodeError::storage)?;
        let file = file.and_then(|bytes| CertificateFile::decode(&bytes).ok());
        let accepted = file.filter(|file| file.certificate.statement.verdict == Verdict::Accept);
        accepted.map(|file| HeadProof::of(&file)).ok_or_else(|| {
            let why =
                format!(
                    "version {} has no certificate, and only a certified one can be replaced; `why` tells which votes it waits for",
                    manifest.version
                );
            NodeError::Invalid { field: "id", why }
        })
    }

    /// Writes the draft of the next version and asks the validators for it.
    async fn begin_version(
        &self,
        group: &Group,
        previous: HeadProof,
        (stored, mime): (StoredBlob, String),
    ) -> Result<Manifest, NodeError> {
        let invalid = |field, why: String| NodeError::Invalid { field, why };
        let next = with_preview(&group.manifest.body, stored.blob, mime).map_err(|why| invalid("type", why))?;
        verify_manifest(&next).map_err(|error| invalid("group", error.to_string()))?;
        verify_succession(&group.manifest.body, &next).map_err(|error| invalid("group", error.to_string()))?;
        let draft = Draft { manifest: Signed::new(&self.network, next.clone(), self.keys.owner()), previous };
        let kept = Lineage { draft: Some(draft.clone()), ..self.lineage(next.group_id).await? };
        let write = MetaWrite::Lineage {
            group_id: next.group_id,
            lineage: Some(codec::encode(&kept)),
            kept: vec![stored],
            dropped: Vec::new(),
        };
        let done = self.meta.batch(vec![write], wall_clock()).await.map_err(NodeError::storage)?;
        self.unlink(done.redundant).await;
        self.certify_draft(draft).await;
        Ok(next)
    }

    async fn certify_draft(&self, draft: Draft) {
        let Draft { manifest, previous } = draft;
        let (manifest, previous) = (Box::new(manifest), Box::new(previous));
        let receipts = BoundedVec::new();
        // A node that stops goes on at its next start.
        let _stopping = self.inbox.put(Input::CertifyHead { manifest, previous, receipts, claim: Claim::Seen }).await;
    }

    /// A certificate came. If it is that of a draft, the draft becomes the version that is seen. Says whether it was.
    pub(crate) async fn install_draft(&self, file: &CertificateFile) -> bool {
        let (value, group_id) = (file.certificate.statement.value, file.manifest.body.group_id);
        if !is_head(file.manifest.body.version) {
            return false;
        }
        if file.certificate.statement.verdict == Verdict::Reject {
            self.drop_draft(group_id, value).await;
            return false;
        }
        let installed = async {
            let Some(draft) = self.lineage(group_id).await?.draft else { return Ok(false) };
            if draft.manifest.body.hash() != value {
                return Ok(false);
            }
            let rows = self.next_rows(&draft.manifest).await?;
            let head = Certified { certificate: file.certificate.clone(), previous: draft.previous };
            let kept = Lineage { head: Some(head), ..Lineage::default() };
            let lineage = Some(codec::encode(&kept));
            let (kept, dropped) = (Vec::new(), Vec::new());
            let writes = vec![
                MetaWrite::Upload(Box::new(NewGroup { rows, blobs: Vec::new(), user: None, publish: None })),
                MetaWrite::Certificate(Box::new(file.clone())),
                MetaWrite::Lineage { group_id, lineage, kept, dropped },
            ];
            let write = || self.meta.batch(writes.clone(), wall_clock());
            let Some(done) = until_written(self, "install a version", write).await else { return Ok(true) };
            self.unlink(done.redundant).await;
            tracing::info!(group = %group_id.short(), version = file.manifest.body.version, "a new version is visible");
            self.board.update(group_id, crate::board::Progress::begin_anew);
            self.publish_version(group_id).await.map(|()| true)
        };
        installed.await.unwrap_or_else(|error: NodeError| {
            tracing::error!(group = %group_id.short(), error = %Chain(&error), "a version waits for the next start");
            true
        })
    }

    /// What a draft makes visible here. The content and its key are those of the version before.
    async fn next_rows(&self, manifest: &SignedManifest) -> Result<GroupRows, NodeError> {
        let group_id = manifest.body.group_id;
        let found = self.meta.group(&GroupKey::Group(group_id)).await.map_err(NodeError::storage)?;
        let (group, _) = found.ok_or_else(|| NodeError::NotFound(format!("group {group_id}")))?;
        let key = self.resting_key(&group).await?;
        let granted = grant::granted(&self.keys, &key, &manifest.body, &group.sealed).map_err(NodeError::storage)?;
        Ok(GroupRows {
            placement_slot: PlacementSlot::of(&manifest.body.placement_seed).number(),
            held: manifest.body.states(),
            manifest: manifest.clone(),
            sealed: group.sealed,
            wraps: self.meta.wraps(group_id, None).await.map_err(NodeError::storage)?,
            granted: Some(granted),
        })
    }

    /// Replicates the version that is visible here as the one before was.
    async fn publish_version(&self, group_id: GroupId) -> Result<(), NodeError> {
        let found = self.meta.group(&GroupKey::Group(group_id)).await.map_err(NodeError::storage)?;
        let Some((group, _)) = found.filter(|(group, _)| group.published) else { return Ok(()) };
        self.publish(group_id, &as_before(&group)).await.map(drop)
    }

    /// A draft was rejected, or another value of its version is certified: it can never be.
    pub(crate) async fn drop_draft(&self, group_id: GroupId, value: ManifestHash) {
        let dropped = async {
            let lineage = self.lineage(group_id).await?;
            let Some(draft) = lineage.draft.filter(|draft| draft.manifest.body.hash() == value) else { return Ok(()) };
            let before: Vec<ContentHash> = draft.previous.manifest.blobs().map(|(_, blob)| blob.sha256).collect();
            let of_draft = draft.manifest.body.blobs().map(|(_, blob)| blob.sha256);
            let dropped = of_draft.filter(|hash| !before.contains(hash)).collect();
            let kept = Lineage { head: lineage.head, draft: None, spent: Some(draft.manifest.body.version) };
            let lineage = Some(codec::encode(&kept));
            let write = MetaWrite::Lineage { group_id, lineage, kept: Vec::new(), dropped };
            self.meta.batch(vec![write], wall_clock()).await.map(drop).map_err(NodeError::storage)
        };
        if let Err(error) = dropped.await {
            tracing::error!(group = %group_id.short(), error = %Chain(&error), "a version that cannot be was not dropped");
        }
        self.board.update(group_id, |_| ());
    }

    /// Goes on with versions that a crash cut off.
    pub(crate) async fn resume_successions(&self) -> Result<(), NodeError> {
        for (group_id, bytes) in self.meta.lineages(None).await.map_err(NodeError::storage)? {
            let lineage: Lineage = codec::decode(&bytes, LINEAGE_BYTES_MAX).map_err(NodeError::storage)?;
            if lineage.head.is_some() {
                // Also if the next one is under way, which may come to nothing. Nothing is sent but questions if it was published
                // already.
                match self.publish_version(group_id).await {
                    Ok(()) | Err(NodeError::Corrupt(_) | NodeError::NotFound(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            if let Some(draft) = lineage.draft {
                self.certify_draft(draft).await;
            }
        }
        Ok(())
    }

    /// What makes the version here the one of its number, for a later version than the first.
    pub(crate) async fn head_of(&self, group: &Group) -> Result<Option<Head>, NodeError> {
        let manifest = &group.manifest.body;
        if !is_head(manifest.version) {
            return Ok(None);
        }
        let head = self.lineage(manifest.group_id).await?.head;
        let head = head.filter(|head| head.certificate.statement.value == group.manifest_hash);
        let lost = || NodeError::NotFound(format!("what certifies version {}", manifest.version));
        let Certified { certificate, previous } = head.ok_or_else(lost)?;
        let told = self.meta.told(manifest.group_id).await.map_err(NodeError::storage)?;
        let earlier = told.into_iter().filter(|(_, version)| *version < manifest.version).map(|(node, _)| node);
        Ok(Some(Head { certificate, previous, holders: BoundedVec::truncated(earlier) }))
    }

    /// The version that is being certified as the next of a group.
    pub(crate) async fn next_version(&self, group_id: GroupId) -> Result<Option<u64>, NodeError> {
        Ok(self.lineage(group_id).await?.draft.map(|draft| draft.manifest.body.version))
    }

    async fn lineage(&self, group_id: GroupId) -> Result<Lineage, NodeError> {
        let kept = self.meta.lineages(Some(group_id)).await.map_err(NodeError::storage)?;
        let decode = |(_, bytes): &(GroupId, Vec<u8>)| codec::decode(bytes, LINEAGE_BYTES_MAX);
        Ok(kept.first().map(decode).transpose().map_err(NodeError::storage)?.unwrap_or_default())
    }

    /// Waits until a version is seen here with enough receipts, or for `timeout`. One that a validator votes against with another
    /// manifest may still be certified, so that is told only then.
    async fn until_durable(
        &self,
        (group_id, version): (GroupId, u64),
        timeout: Duration,
    ) -> Result<WaitResult, NodeError> {
        match tokio::time::timeout(timeout, self.is_durable(group_id, version)).await {
            Ok(result) => result,
            Err(_elapsed) if self.board.get(&group_id).contested == Some(version) => Ok(WaitResult::Contested),
            Err(_elapsed) => Ok(WaitResult::TimedOut),
        }
    }

    /// Ends when a version is seen here with enough receipts, or can never be.
    async fn is_durable(&self, group_id: GroupId, version: u64) -> Result<WaitResult, NodeError> {
        let mut bell = self.board.changes();
        loop {
            bell.mark_unchanged();
            let found = self.meta.group(&GroupKey::Group(group_id)).await.map_err(NodeError::storage)?;
            let (group, _) = found.ok_or_else(|| NodeError::NotFound(format!("group {group_id}")))?;
            let manifest = &group.manifest.body;
            if manifest.version >= version && !group.published {
                return Ok(WaitResult::Stored);
            }
            if manifest.version >= version && group.replica_count >= u32::from(need(&group)) {
                return Ok(WaitResult::Durable);
            }
            if manifest.version < version && self.lineage(group_id).await?.draft.is_none() {
                let why = format!("version {version} was rejected, or another manifest is certified as it");
                return Err(NodeError::Invalid { field: "id", why });
            }
            if bell.changed().await.is_err() {
                return Err(NodeError::Stopping);
            }
        }
    }
}

/// Only the node with the owner's key can sign a version.
fn elsewhere() -> NodeError {
    NodeError::Forbidden("the group was uploaded elsewhere; its own node changes it".to_owned())
}

/// The next version of `before`, with another preview.
fn with_preview(before: &Manifest, blob: BlobRef, mime: String) -> Result<Manifest, String> {
    let content_id = ContentId::from(uuid::Uuid::new_v4());
    let mime = Some(BoundedString::try_from(mime).map_err(|error| error.to_string())?);
    let root = before.member(ContentState::Encrypted).ok_or("it has no encrypted state")?.content_id;
    let old: Vec<ContentId> =
        before.members.iter().filter(|it| it.state == ContentState::Preview).map(|it| it.content_id).collect();
    let members = before.members.iter().filter(|member| member.state != ContentState::Preview).cloned();
    let preview = Member { content_id, state: ContentState::Preview, blob: Some(blob), mime };
    let links = before.links.iter().filter(|link| !old.contains(&link.child)).cloned();
    let link = Link { parent: root, child: content_id, kind: RelationshipKind::Preview };
    Ok(Manifest {
        version: before.version + 1,
        prev: Some(before.hash()),
        created_at: wall_clock().max(before.created_at),
        members: BoundedVec::try_from(members.chain([preview]).collect::<Vec<_>>())
            .map_err(|error| error.to_string())?,
        links: BoundedVec::try_from(links.chain([link]).collect::<Vec<_>>()).map_err(|error| error.to_string())?,
        ..before.clone()
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use mynet_proto::{consensus::io as consensus, node::io::Event};
    use mynet_store::meta::{MetaWrite, Mode};
    use mynet_types::{CertificateFile, GroupId, HeadProof, ManifestHash, NodeId, Signed, codec, rpc::GroupKey};

    use super::{Draft, Lineage, with_preview};
    use crate::{
        driver::wall_clock,
        handle::NodeError,
        testing::{Founder, until},
        view::WaitResult,
    };

    /// A group that was uploaded here and is certified, and the draft of its second version, which nobody proposes.
    async fn drafted(founder: &Founder) -> (GroupId, ManifestHash) {
        let shell = founder.shell();
        let group_id = founder.add(b"content", |_| ()).await;
        let (group, _) = shell.meta.group(&GroupKey::Group(group_id)).await.unwrap().unwrap();
        let certificate = founder.certificate(&group.manifest, &[]);
        let blob = mynet_types::BlobRef::of(b"never stored");
        let next = with_preview(&group.manifest.body, blob, "text/plain".to_owned()).unwrap();
        let manifest = Signed::new(&shell.network, next, shell.keys.owner());
        let value = manifest.body.hash();
        let draft = Draft { manifest, previous: HeadProof::of(&certificate) };
        let lineage = Some(codec::encode(&Lineage { draft: Some(draft), ..Lineage::default() }));
        let writes = vec![
            MetaWrite::Certificate(Box::new(certificate)),
            MetaWrite::Lineage { group_id, lineage, kept: Vec::new(), dropped: Vec::new() },
        ];
        shell.meta.batch(writes, wall_clock()).await.unwrap();
        (group_id, value)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_second_manifest_is_signed_for_a_version_that_was_signed_once() {
        let founder = Founder::start().await;
        let (group_id, value) = drafted(&founder).await;
        // The validators reject it.
        founder.shell().drop_draft(group_id, value).await;
        let key = GroupKey::Group(group_id);
        let preview = (Bytes::from_static(b"other"), "text/plain".to_owned());
        let refused = founder.handle.replace_preview(key, preview, Duration::from_secs(5)).await.unwrap_err();
        assert!(matches!(&refused, NodeError::Invalid { field: "id", why } if why.contains("version 2")), "{refused}");
        assert_eq!(founder.handle.show(key).await.unwrap().version, 1);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_publishes_the_version_that_is_seen_also_while_the_next_one_is_open() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let group_id = founder.add(b"content", |_| ()).await;
        let key = GroupKey::Group(group_id);
        let group = async || shell.meta.group(&key).await.unwrap().unwrap().0;
        let kept = MetaWrite::Certificate(Box::new(founder.certificate(&group().await.manifest, &[])));
        shell.meta.batch(vec![kept], wall_clock()).await.unwrap();
        let preview = (Bytes::from_static(b"second"), "text/plain".to_owned());
        founder.handle.replace_preview(key, preview, Duration::from_mins(1)).await.unwrap();
        let second = group().await;
        assert_eq!(second.manifest.body.version, 2);

        // Whoever was told to commit an earlier version gets it too, and hears of the end as well as who was told to commit this one.
        let [earlier, this] = [1, 2].map(|number| NodeId([number; 32]));
        for (version, node) in [(1, earlier), (2, earlier), (2, this)] {
            let told = MetaWrite::Told { group_id, version, nodes: vec![node] };
            shell.meta.batch(vec![told], wall_clock()).await.unwrap();
        }
        let head = shell.head_of(&second).await.unwrap().unwrap();
        assert_eq!(head.holders.into_vec(), [earlier]);
        let (_, holders) = shell.to_delete(key).await.unwrap();
        assert!(holders.contains(&earlier) && holders.contains(&this), "{holders:?}");

        // It was to be published, which a crash cut off, and the next one is open and comes to nothing.
        let next =
            with_preview(&second.manifest.body, mynet_types::BlobRef::of(b"never stored"), "text/plain".to_owned());
        let manifest = Signed::new(&shell.network, next.unwrap(), shell.keys.owner());
        let file = shell.meta.certificate(&second.manifest_hash).await.unwrap().unwrap();
        let previous = HeadProof::of(&CertificateFile::decode(&file).unwrap());
        let lineage = Lineage { draft: Some(Draft { manifest, previous }), ..shell.lineage(group_id).await.unwrap() };
        let writes = vec![
            MetaWrite::Publish { group_id, replicas: 3, mode: Mode::Quorum },
            MetaWrite::Lineage {
                group_id,
                lineage: Some(codec::encode(&lineage)),
                kept: Vec::new(),
                dropped: Vec::new(),
            },
        ];
        shell.meta.batch(writes, wall_clock()).await.unwrap();
        assert!(!shell.board.get(&group_id).not_enough_targets);
        shell.resume_successions().await.unwrap();
        // There is no other node, which only a publication finds out.
        until("the version to be published", async || shell.board.get(&group_id).not_enough_targets).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_waits_for_a_version_is_told_that_another_manifest_stands_against_it() {
        let founder = Founder::start().await;
        let (group_id, value) = drafted(&founder).await;
        let shell = founder.shell();
        let wait = || shell.until_durable((group_id, 2), Duration::from_millis(1));
        assert_eq!(wait().await.unwrap(), WaitResult::TimedOut);
        let blocked = |version| consensus::Event::HeadBlocked {
            group_id,
            version,
            manifest_hash: value,
            other: ManifestHash([1; 32]),
            certified: false,
        };
        // What stands against another version is of no concern.
        shell.event(Event::Consensus(blocked(3)));
        assert_eq!(wait().await.unwrap(), WaitResult::TimedOut);
        shell.event(Event::Consensus(blocked(2)));
        assert_eq!(wait().await.unwrap(), WaitResult::Contested);
    }
}
