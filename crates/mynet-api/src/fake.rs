//! A node that is told what to answer, for the tests of this crate; it has the methods of the real handle that are called.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt};
use mynet_node::{
    events::{Events, Follower},
    govern::{EvidenceView, ProposalView, RosterDetailView, SeatView, WaitingView},
    handle::{
        AddOptions, Asker, ByteStream, ContentInfo, InviteOptions, NodeError, Opened, Principal, PublishOptions,
        Source, TokenOptions,
    },
    recovery::RecoveryView,
    view::{
        ConsensusView, DecryptedView, DeletionView, DoctorView, FindOutcome, FindView, GarbageView, GroupView,
        InviteView, OperationId, OperationState, OperationTargetView, OperationView, OutcomeView, Page, PeerState,
        PeerView, PlacementView, PlanView, ReplicationStatusView, RoleView, RosterView, Scope, StatusView, StorageView,
        TokenView, Wait, WaitResult, WhyView,
    },
};
use mynet_types::{
    Claim, ContentHash, ContentId, ContentState, GroupId, ManifestHash, NodeId, OwnerKey, RosterHash, Timestamp,
    VoteKey, rpc::GroupKey,
};

/// What the node holds under one hash.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    pub(crate) public: bool,
    /// The stream fails after this many bytes.
    pub(crate) breaks_after: Option<usize>,
}

/// What was asked of it, and what it answers.
#[derive(Debug, Default)]
pub(crate) struct Script {
    /// Uploads that were kept.
    pub(crate) added: Vec<(AddOptions, Vec<u8>)>,
    /// Refuses uploads once this many bytes came, for want of space.
    pub(crate) full_after: Option<usize>,
    /// Largest upload.
    pub(crate) upload_max: Option<u64>,
    /// Content by hash.
    pub(crate) held: BTreeMap<ContentHash, Held>,
    /// Publications asked for.
    pub(crate) published: Vec<(PublishOptions, Wait, Duration)>,
    pub(crate) previews: Vec<(Bytes, String, Duration)>,
    pub(crate) proposed: Vec<(Claim, Duration)>,
    /// Deletions asked for.
    pub(crate) deleted: Vec<(GroupKey, Duration)>,
    /// Panics when asked for its status.
    pub(crate) buggy: bool,
    /// Nodes approved.
    pub(crate) approved: Vec<NodeId>,
    /// Whether it serves.
    pub(crate) ready: bool,
    /// Requests for the status wait for a permit of these.
    pub(crate) gate: Option<Arc<tokio::sync::Semaphore>>,
    /// What happened.
    pub(crate) events: Happened,
}

/// The events of a node that started once.
#[derive(Debug)]
pub(crate) struct Happened(pub(crate) Arc<Events>);

impl Default for Happened {
    fn default() -> Self {
        Self(Arc::new(Events::new(1)))
    }
}

/// The node.
#[derive(Debug, Clone, Default)]
pub struct NodeHandle(Arc<Mutex<Script>>);

impl NodeHandle {
    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().unwrap()
    }

    pub(crate) fn hold(&self, bytes: &'static [u8], public: bool, breaks_after: Option<usize>) -> ContentHash {
        let hash = ContentHash::of(bytes);
        self.script().held.insert(hash, Held { bytes: Bytes::from_static(bytes), public, breaks_after });
        hash
    }

    pub(crate) fn upload_max(&self) -> u64 {
        self.script().upload_max.unwrap_or(4096)
    }

    pub(crate) async fn add(
        &self,
        mut body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
        options: AddOptions,
    ) -> Result<GroupView, NodeError> {
        let full_after = self.script().full_after;
        let mut whole = Vec::new();
        while let Some(chunk) = body.try_next().await.map_err(NodeError::Upload)? {
            whole.extend_from_slice(&chunk);
            if full_after.is_some_and(|free| whole.len() > free) {
                return Err(NodeError::NoSpace { needed: whole.len() as u64, free: 0 });
            }
        }
        self.script().added.push((options, whole));
        Ok(GroupView { wait_result: Some(WaitResult::TimedOut), ..group() })
    }

    pub(crate) async fn list(&self, _: u32, _: Option<String>) -> Result<Page<GroupView>, NodeError> {
        Ok(Page { items: vec![group()], next_cursor: None })
    }

    pub(crate) async fn show(&self, key: GroupKey) -> Result<GroupView, NodeError> {
        match key {
            GroupKey::Group(id) if id == group().group_id => Ok(group()),
            other => Err(NodeError::NotFound(format!("{other:?}"))),
        }
    }

    pub(crate) async fn open(
        &self,
        key: GroupKey,
        state: Option<ContentState>,
        asker: Asker,
    ) -> Result<ContentInfo, NodeError> {
        let GroupKey::Hash(hash) = key else { return Err(NodeError::NotFound(format!("{key:?}"))) };
        match self.script().held.get(&hash) {
            Some(held) if held.public || asker != Asker::Anonymous => Ok(ContentInfo {
                hash,
                state: state.unwrap_or(ContentState::Decrypted),
                size: held.bytes.len() as u64,
                mime: "audio/ogg".to_owned(),
                filename: Some("a.ogg".to_owned()),
                public: held.public,
                source: Source::Local,
                opened: Opened::default(),
            }),
            Some(_) | None => Err(NodeError::NotFound(hash.to_string())),
        }
    }

    pub(crate) async fn read(&self, info: &ContentInfo, offset: u64, len: u64) -> Result<ByteStream, NodeError> {
        let held = self.script().held.get(&info.hash).cloned().unwrap();
        let (offset, len) = (usize::try_from(offset).unwrap(), usize::try_from(len).unwrap());
        let bytes = held.bytes.slice(offset..offset + len);
        let sent = bytes.slice(..held.breaks_after.unwrap_or(len).min(len));
        let mut chunks: Vec<_> = sent.chunks(4).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        if held.breaks_after.is_some() {
            chunks.push(Err(NodeError::Corrupt(info.hash)));
        }
        // As a disk does, the stream makes its reader wait for every chunk, so that what came before is sent.
        let pause = async |chunk| {
            tokio::task::yield_now().await;
            chunk
        };
        Ok(futures::stream::iter(chunks).then(pause).boxed())
    }

    pub(crate) async fn publish(
        &self,
        key: GroupKey,
        options: PublishOptions,
        wait: Wait,
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        let group = self.show(key).await?;
        self.script().published.push((options, wait, timeout));
        Ok(group)
    }

    pub(crate) async fn replace_preview(
        &self,
        key: GroupKey,
        preview: (Bytes, String),
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        let group = self.show(key).await?;
        self.script().previews.push((preview.0, preview.1, timeout));
        Ok(group)
    }

    pub(crate) async fn propose(
        &self,
        key: GroupKey,
        claim: Claim,
        timeout: Duration,
    ) -> Result<ProposalView, NodeError> {
        let group = self.show(key).await?;
        self.script().proposed.push((claim, timeout));
        Ok(ProposalView {
            id: "value-claim".to_owned(),
            group_id: group.group_id,
            manifest_hash: group.manifest_hash,
            claim: "verified".to_owned(),
            outcome: OutcomeView::Approved,
            accepts: 3,
            rejects: 0,
            quorum: 3,
            validators: 4,
            abstained: vec![],
        })
    }

    pub(crate) async fn delete(&self, key: GroupKey, timeout: Duration) -> Result<DeletionView, NodeError> {
        let group_id = self.show(key).await?.group_id;
        self.script().deleted.push((key, timeout));
        Ok(DeletionView { group_id, deleted_at: Timestamp(0), confirmed: vec![], silent: vec![NodeId([1; 32])] })
    }

    pub(crate) async fn collect_garbage(&self, dry_run: bool) -> Result<GarbageView, NodeError> {
        Ok(GarbageView { dry_run, blobs: 1, bytes: 2, kept: BTreeMap::new() })
    }

    pub(crate) async fn examine(&self, dry_run: bool) -> Result<DoctorView, NodeError> {
        Ok(DoctorView { dry_run, groups: 0, blobs: 0, files: 0, found: 0, repaired: 0, findings: vec![] })
    }

    pub(crate) async fn plan(&self, key: GroupKey, options: PublishOptions) -> Result<PlanView, NodeError> {
        let group_id = self.show(key).await?.group_id;
        let replicas = usize::from(options.replicas.unwrap_or(3));
        let mode = if options.all == Some(true) { "all" } else { "quorum" }.to_owned();
        Ok(PlanView {
            group_id,
            replicas,
            quorum: 2,
            mode,
            eligible: 4,
            slot: 7,
            targets: vec![],
            bytes: 0,
            batches: vec![],
            warnings: vec![],
        })
    }

    pub(crate) async fn find(&self, hash: ContentHash) -> Result<FindView, NodeError> {
        Ok(FindView { hash, outcome: FindOutcome::NotFound, providers: vec![] })
    }

    pub(crate) async fn certificate(&self, key: GroupKey) -> Result<Vec<u8>, NodeError> {
        self.show(key).await.map(|_| b"certificate".to_vec())
    }

    pub(crate) async fn storage(&self) -> Result<StorageView, NodeError> {
        Ok(StorageView {
            capacity: 1000,
            used: 1,
            reserved: 2,
            uploads: 3,
            free: 4,
            disk_free: 5,
            disk_reserve: 6,
            upload_max: 7,
        })
    }

    pub(crate) async fn operation(&self, id: OperationId) -> Result<OperationView, NodeError> {
        let group = self.show(GroupKey::Group(id.group_id)).await?;
        Ok(OperationView {
            operation_id: id.to_string(),
            group_id: id.group_id,
            version: id.version,
            state: OperationState::Running,
            summary: vec!["not durable yet".to_owned()],
            copies_done: group.replica_count,
            copies_needed: 2,
            copies_wanted: group.replicas_wanted,
            bytes_done: 1,
            bytes_total: 2,
            consensus: group.consensus,
            targets: vec![OperationTargetView {
                node_id: NodeId([1; 32]),
                state: "receiving".to_owned(),
                states: vec![ContentState::Encrypted],
                bytes_done: 1,
                bytes_total: 2,
                last_refusal: None,
                hindered_by: None,
            }],
        })
    }

    pub(crate) async fn why(&self, key: GroupKey) -> Result<WhyView, NodeError> {
        let group = self.show(key).await?;
        Ok(WhyView {
            group_id: group.group_id,
            version: group.version,
            manifest_hash: group.manifest_hash,
            node_id: NodeId([1; 32]),
            role: RoleView::Holder,
            summary: vec!["durable".to_owned()],
            replication_status: group.replication_status,
            replica_count: group.replica_count,
            replicas_wanted: group.replicas_wanted,
            quorum: 2,
            mode: None,
            placement: PlacementView { slot: 7, candidates: vec![] },
            copies: vec![],
            decrypted: DecryptedView { class: "none".to_owned(), granted: vec![] },
            consensus: group.consensus,
            seats: vec![],
            log: vec![],
        })
    }

    pub(crate) fn follow(&self, after: Option<&str>) -> Result<Follower, NodeError> {
        let events = Arc::clone(&self.script().events.0);
        events.follow(after)
    }

    pub(crate) fn genesis(&self) -> Vec<u8> {
        b"genesis".to_vec()
    }

    pub(crate) async fn status(&self) -> Result<StatusView, NodeError> {
        let gate = self.script().gate.clone();
        let buggy = self.script().buggy;
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        assert!(!buggy, "a planted bug");
        Err(NodeError::Stopping)
    }

    pub(crate) async fn roster(&self) -> Result<RosterDetailView, NodeError> {
        let seat = |n| SeatView { node_id: NodeId([n; 32]), vote_key: VoteKey([n; 32]), alive: true, accused: false };
        let approved = self.script().approved.clone();
        let waiting = |node_id| WaitingView {
            node_id,
            admitted_at: Timestamp(0),
            alive: true,
            approved: approved.contains(&node_id),
            accused: false,
        };
        Ok(RosterDetailView {
            roster: RosterView { epoch: 1, validators: vec![NodeId([1; 32])], quorum: 1 },
            hash: RosterHash([9; 32]),
            tolerates: 0,
            seats: vec![seat(1)],
            waiting: vec![waiting(NodeId([7; 32]))],
            votes: true,
            recoveries: vec![],
        })
    }

    pub(crate) async fn approve(&self, node: NodeId) -> Result<RosterDetailView, NodeError> {
        if node == NodeId([1; 32]) {
            return Err(NodeError::Invalid { field: "node", why: "it has a seat already".to_owned() });
        }
        self.script().approved.push(node);
        self.roster().await
    }

    pub(crate) async fn recovery_offer(&self) -> Result<Vec<u8>, NodeError> {
        Ok(b"offer".to_vec())
    }

    pub(crate) async fn recover(&self, file: &[u8], dry_run: bool) -> Result<RecoveryView, NodeError> {
        if file != b"signed" {
            return Err(NodeError::Invalid { field: "recovery", why: "damaged".to_owned() });
        }
        Ok(RecoveryView {
            network: "songs".to_owned(),
            epoch: 2,
            roster: RosterHash([9; 32]),
            validators: vec![NodeId([1; 32])],
            joining: vec![],
            leaving: vec![],
            quorum: 0,
            carried: 0,
            keys: vec![1, 3],
            missing: 0,
            submitted: !dry_run,
            reported: None,
            reports_needed: None,
        })
    }

    pub(crate) async fn evidence(&self) -> Result<Vec<EvidenceView>, NodeError> {
        let evidence = |seat| EvidenceView::Validator {
            id: format!("3-{seat}"),
            node_id: NodeId([1; 32]),
            epoch: 3,
            seat,
            statements: vec![],
        };
        Ok([2, 1, 0].map(evidence).to_vec())
    }

    pub(crate) async fn proposals(&self) -> Result<Vec<ProposalView>, NodeError> {
        Ok(vec![])
    }

    pub(crate) async fn peers(&self) -> Result<Vec<PeerView>, NodeError> {
        Ok([3, 1, 2].map(peer).to_vec())
    }

    pub(crate) async fn set_trust(&self, node_id: NodeId, trusted: bool) -> Result<PeerView, NodeError> {
        Ok(PeerView { node_id, trusted, ..peer(1) })
    }

    pub(crate) async fn invite(&self, options: InviteOptions) -> Result<InviteView, NodeError> {
        let roles = options.roles.words().map(str::to_owned).collect();
        Ok(InviteView { ticket: "t".to_owned(), roles, expires: Timestamp(0), uses: options.uses })
    }

    pub(crate) async fn create_token(&self, options: TokenOptions) -> Result<TokenView, NodeError> {
        let TokenOptions { name, scope, expires } = options;
        let token = Some("mynt_new_secret".to_owned());
        Ok(TokenView { id: "new".to_owned(), name, scope, created_at: Timestamp(0), expires, token })
    }

    pub(crate) async fn tokens(&self) -> Result<Vec<TokenView>, NodeError> {
        Ok(vec![])
    }

    pub(crate) async fn revoke_token(&self, id: String) -> Result<(), NodeError> {
        if id == "known" { Ok(()) } else { Err(NodeError::NotFound(id)) }
    }

    pub(crate) async fn authenticate(&self, token: &str) -> Result<Option<Principal>, NodeError> {
        let scope = match token {
            "reader" => Scope::Read,
            "writer" => Scope::Write,
            "admin" => Scope::Admin,
            _ => return Ok(None),
        };
        Ok(Some(Principal { token_id: token.to_owned(), scope }))
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.script().ready
    }
}

/// The one group that there is.
pub(crate) fn group() -> GroupView {
    GroupView {
        group_id: GroupId([7; 32]),
        version: 1,
        manifest_hash: ManifestHash([8; 32]),
        root_content_id: ContentId([9; 16]),
        owner: OwnerKey([10; 32]),
        created_at: Timestamp(0),
        tags: None,
        filename: None,
        states: vec![],
        relationships: vec![],
        replication_status: ReplicationStatusView::Replicating,
        replica_count: 1,
        replicas_wanted: 3,
        replicated_on_peers: vec![],
        last_sync_timestamp: None,
        consensus: ConsensusView {
            outcome: OutcomeView::Pending,
            accepts: 0,
            rejects: 0,
            quorum: 3,
            validators: 4,
            certificate: false,
        },
        consensus_achieved: false,
        wait_result: None,
        operation_id: None,
        no_preview: None,
    }
}

fn peer(n: u8) -> PeerView {
    PeerView {
        node_id: NodeId([n; 32]),
        state: PeerState::Alive,
        region: "r".to_owned(),
        zone: "z".to_owned(),
        roles: vec![],
        addrs: vec![],
        path: None,
        rtt_ms: None,
        trusted: false,
    }
}
