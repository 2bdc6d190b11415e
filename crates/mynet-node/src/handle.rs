//! What the rest of the program may ask of a running node.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::Stream;
use mynet_store::is_disk_full;
use mynet_types::{
    Claim, ContentHash, ContentState, ContentType, GenesisFile, NodeId, Roles, Timestamp, rpc::GroupKey,
};

use crate::{
    events::Follower,
    govern::{EvidenceView, ProposalView, RosterDetailView},
    read::Location,
    recovery::RecoveryView,
    shell::Shell,
    view::{
        FindView, GroupView, InviteView, OperationId, OperationView, Page, PeerView, PlanView, Scope, StatusView,
        StorageView, TokenView, Wait, WhyView,
    },
    why::reason_view,
};

/// Bytes of content, verified as they come.
pub type ByteStream = Pin<Box<dyn Stream<Item = Result<Bytes, NodeError>> + Send>>;

/// Why a node does not do what was asked. Every variant says what, why and what to try.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is no such thing, or the asker may not know it.
    #[error("{0} is not known here")]
    NotFound(String),
    /// The group is known, and does not have what was asked for.
    #[error("{what}")]
    Absent {
        /// What is not there.
        what: String,
        /// What to try instead.
        hint: &'static str,
    },
    /// It is not known here, and not every node that may know it could be asked.
    #[error("{0} is not known here, and not every node could be asked")]
    Unknown(String),
    /// The asker is known and may not.
    #[error("not allowed: {0}")]
    Forbidden(String),
    /// The request makes no sense; nothing was done.
    #[error("{field}: {why}")]
    Invalid {
        /// Which part of it.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// The capacity, or the disk but for its reserve, is used up; nothing was kept.
    #[error("no space: at least {needed} bytes are needed, {free} may be used")]
    NoSpace {
        /// Bytes that came so far and need a place.
        needed: u64,
        /// Bytes that content may still take.
        free: u64,
    },
    /// The file system of the data directory is full; nothing was kept, and nothing that was there is lost.
    #[error("the disk is full")]
    DiskFull,
    /// Bytes on disk are damaged; they were quarantined and are not served.
    #[error("{0} is damaged on this node's disk and was quarantined")]
    Corrupt(ContentHash),
    /// Nobody who holds it can be reached now.
    #[error("no holder of {0} can be reached now")]
    Unavailable(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
    /// The uploader went away or sent something unreadable; nothing was kept.
    #[error("the upload broke off: {0}")]
    Upload(std::io::Error),
    /// The node's own disk or database failed; a human must look.
    #[error("the node's storage failed: {0}")]
    Storage(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Where the preview of an upload comes from.
#[derive(Debug, Clone, Default)]
pub enum PreviewChoice {
    /// Made here if the type has one.
    #[default]
    Auto,
    /// None.
    None,
    /// These bytes; at most 64 MiB.
    Supplied {
        /// The preview.
        bytes: Bytes,
        /// Its media type.
        mime: String,
    },
}

/// Who may read the decrypted state of an upload.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Grant {
    /// Every node that this node trusts, now and later.
    #[default]
    Trusted,
    /// Nobody else.
    None,
    /// These nodes.
    Nodes(Vec<NodeId>),
}

/// How to add a file.
#[derive(Debug, Clone)]
pub struct AddOptions {
    /// Its name, without directories.
    pub filename: String,
    /// Its type; guessed from name and first bytes if absent.
    pub content_type: Option<ContentType>,
    /// Not encrypted, readable by everybody.
    pub public: bool,
    /// Where the preview comes from.
    pub preview: PreviewChoice,
    /// The uploader's tags.
    pub tags: Vec<String>,
    /// Copies wanted; the node's setting if absent.
    pub replicas: Option<u8>,
    /// Who may read it.
    pub grant: Grant,
    /// Whether to replicate it now.
    pub publish: bool,
    /// How far to wait.
    pub wait: Wait,
    /// How long to wait; never bounds the work.
    pub timeout: Duration,
}

/// How to publish a group.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// Copies wanted; the manifest's if absent.
    pub replicas: Option<u8>,
    /// Whether every wanted copy must be there before success is reported; the node's setting if absent.
    pub all: Option<bool>,
}

/// How to invite.
#[derive(Debug, Clone)]
pub struct InviteOptions {
    /// Roles that the newcomer may take.
    pub roles: Roles,
    /// Whether owners grant it decrypted states.
    pub trusted: bool,
    /// How long it may be redeemed.
    pub expires: Duration,
    /// How often.
    pub uses: u32,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Nobody known: public states and public previews only.
    Anonymous,
    /// The bearer of an API key.
    Key(Scope),
}

/// Content opened for reading.
#[derive(Debug, Clone)]
pub struct ContentInfo {
    /// SHA-256 of the whole.
    pub hash: ContentHash,
    /// Which state it is.
    pub state: ContentState,
    /// Size of the whole.
    pub size: u64,
    /// Media type; `application/octet-stream` where it is secret or unknown.
    pub mime: String,
    /// Name of the uploaded file, if the asker may know it.
    pub filename: Option<String>,
    /// Whether caches may keep it.
    pub public: bool,
    /// Whether the bytes are kept here, are here for a while, or come from a peer.
    pub source: Source,
    /// Where the bytes are.
    pub opened: Opened,
}

/// Where opened bytes are. Only a node makes one that reads anything; the default reads nothing.
#[derive(Debug, Clone, Default)]
pub struct Opened(pub(crate) Option<Location>);

/// Where bytes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This node's disk, where a copy is kept.
    Local,
    /// This node's disk, where it is until it is collected, because a reader asked for it before.
    Cache,
    /// Another node, verified on the way.
    Peer,
}

/// An API key was shown and is good.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Its public part.
    pub token_id: String,
    /// What it may do.
    pub scope: Scope,
}

/// Options of a new API key.
#[derive(Debug, Clone)]
pub struct TokenOptions {
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

impl NodeError {
    /// A failure of disk or database; a full disk among them.
    pub(crate) fn storage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        if is_disk_full(&error) { Self::DiskFull } else { Self::Storage(Box::new(error)) }
    }
}

/// A running node. Cheap to clone; every clone speaks to the same node.
#[derive(Debug, Clone)]
pub struct NodeHandle {
    pub(crate) shell: Arc<Shell>,
}

impl NodeHandle {
    /// Stores, and unless told otherwise replicates and certifies, one file as a group.
    ///
    /// Nothing is kept unless the whole body arrived, was hashed, encrypted and fsynced.
    ///
    /// # Errors
    /// [`NodeError::Invalid`], [`NodeError::NoSpace`], [`NodeError::DiskFull`], [`NodeError::Upload`],
    /// [`NodeError::Stopping`],
    /// [`NodeError::Storage`]. A wait that ran out is no error: see [`GroupView::wait_result`].
    pub async fn add(
        &self,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin + 'static,
        options: AddOptions,
    ) -> Result<GroupView, NodeError> {
        let (wait, timeout) = (if options.publish { options.wait } else { Wait::Stored }, options.timeout);
        let shell = Arc::clone(&self.shell);
        // A task of its own: whoever waits may go away, and what was begun is then finished or cleaned up all the same.
        let stored = self.shell.tasks.spawn(async move {
            let stored = shell.store_upload(body, &options).await?;
            let need = match options.publish {
                true => shell.publish(stored.group_id, &PublishOptions::default()).await?,
                false => 0,
            };
            Ok::<_, NodeError>((stored, need))
        });
        let (stored, need) = stored.await.map_err(NodeError::storage)??;
        let view = self.shell.wait_for(stored.group_id, (wait, need), timeout).await?;
        Ok(GroupView { no_preview: stored.no_preview.map(reason_view), ..view })
    }

    /// Groups visible on this node, newest first; at most 500 at a time.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] for a cursor that is none, [`NodeError::Storage`].
    pub async fn list(&self, limit: u32, cursor: Option<String>) -> Result<Page<GroupView>, NodeError> {
        self.shell.list(limit, cursor).await
    }

    /// One group; asked of peers if this node does not hold it.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Storage`].
    pub async fn show(&self, key: GroupKey) -> Result<GroupView, NodeError> {
        let found = self.shell.find_complete(key).await?;
        self.shell.group_view(&found).await
    }

    /// Opens the wanted `state` of the group that `key` names; by default the state that a hash or content id names, or
    /// the decrypted one.
    ///
    /// # Errors
    /// [`NodeError::NotFound`] also if the asker may not know, [`NodeError::Forbidden`] if this node may not read it,
    /// [`NodeError::Unavailable`], [`NodeError::Storage`].
    pub async fn open(
        &self,
        key: GroupKey,
        state: Option<ContentState>,
        asker: Asker,
    ) -> Result<ContentInfo, NodeError> {
        self.shell.open_content(key, state, asker).await
    }

    /// Bytes `offset..offset+len` of opened content; the first error ends the stream.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] for a range outside of the content, [`NodeError::Corrupt`], [`NodeError::Storage`].
    pub async fn read(&self, info: &ContentInfo, offset: u64, len: u64) -> Result<ByteStream, NodeError> {
        let end = offset.checked_add(len).filter(|end| *end <= info.size);
        let end =
            end.ok_or_else(|| NodeError::Invalid { field: "range", why: "it ends behind the content".to_owned() })?;
        let location = info.opened.0.as_ref().ok_or_else(|| NodeError::Unavailable(info.hash.to_string()))?;
        self.shell.read_content(location, offset..end).await
    }

    /// Replicates a group that was uploaded here, and waits as an upload does.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Forbidden`] if it was uploaded elsewhere, [`NodeError::Invalid`],
    /// [`NodeError::Storage`].
    pub async fn publish(
        &self,
        key: GroupKey,
        options: PublishOptions,
        wait: Wait,
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        let group_id = self.shell.find_group(key).await?.manifest.group_id;
        let need = self.shell.publish(group_id, &options).await?;
        self.shell.wait_for(group_id, (wait, need), timeout).await
    }

    /// Gives a group that was uploaded here another preview, in its next version, and waits until that is durable.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Forbidden`] if it was uploaded elsewhere, [`NodeError::Invalid`] if its version here
    /// is not certified, another one is being made, or it has no previews; [`NodeError::NoSpace`], [`NodeError::Storage`].
    pub async fn replace_preview(
        &self,
        key: GroupKey,
        preview: (Bytes, String),
        timeout: Duration,
    ) -> Result<GroupView, NodeError> {
        self.shell.replace_preview(key, preview, timeout).await
    }

    /// Asks the validators to certify `claim` about a group that is held here. Returns how far that came within `timeout`;
    /// votes are collected after it too.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Forbidden`] if no copy is here, [`NodeError::Invalid`] if it has too few receipts
    /// for the claim, [`NodeError::Stopping`].
    pub async fn propose(&self, key: GroupKey, claim: Claim, timeout: Duration) -> Result<ProposalView, NodeError> {
        self.shell.propose(key, claim, timeout).await
    }

    /// What [`Self::publish`] would do.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub async fn plan(&self, key: GroupKey, options: PublishOptions) -> Result<PlanView, NodeError> {
        let group_id = self.shell.find_group(key).await?.manifest.group_id;
        self.shell.plan(group_id, &options).await
    }

    /// Why a group is where it is, as far as this node knows, with its log of the group.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Unknown`], [`NodeError::Storage`].
    pub async fn why(&self, key: GroupKey) -> Result<WhyView, NodeError> {
        self.shell.why(key).await
    }

    /// How far the replication of one version of a group that was uploaded here came.
    ///
    /// # Errors
    /// [`NodeError::NotFound`] also for a version that was replaced or never published, [`NodeError::Storage`].
    pub async fn operation(&self, id: OperationId) -> Result<OperationView, NodeError> {
        self.shell.operation(id).await
    }

    /// Who holds a hash. Says `not_found` only if every admitted peer answered.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn find(&self, hash: ContentHash) -> Result<FindView, NodeError> {
        self.shell.find(hash).await
    }

    /// The certificate file of a group, with the newest roster chain.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Storage`].
    pub async fn certificate(&self, key: GroupKey) -> Result<Vec<u8>, NodeError> {
        self.shell.certificate(key).await
    }

    /// Follows what happens on this node from now on, or from behind the event `after`.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if `after` is no id of an event.
    pub fn follow(&self, after: Option<&str>) -> Result<Follower, NodeError> {
        self.shell.events.follow(after)
    }

    /// The genesis file.
    #[must_use]
    pub fn genesis(&self) -> Vec<u8> {
        GenesisFile::of(&self.shell.members.chain()).encode()
    }

    /// The node and its network at a glance.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn status(&self) -> Result<StatusView, NodeError> {
        self.shell.status().await
    }

    /// How much of what this node may keep is taken, and by what.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn storage(&self) -> Result<StorageView, NodeError> {
        self.shell.storage_view().await
    }

    /// The newest roster, and who waits for a seat in it.
    ///
    /// # Errors
    /// [`NodeError::Stopping`].
    pub async fn roster(&self) -> Result<RosterDetailView, NodeError> {
        self.shell.roster().await
    }

    /// Notes that this node's operator wants `node` to have a seat. It has one once a quorum of operators wants it.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if it has a seat, [`NodeError::NotFound`] if it is no admitted validator,
    /// [`NodeError::Stopping`].
    pub async fn approve(&self, node: NodeId) -> Result<RosterDetailView, NodeError> {
        self.shell.approve(node).await
    }

    /// What this node brings to a recovered roster, as a file; the newest epoch is closed by it.
    ///
    /// # Errors
    /// [`NodeError::Forbidden`] if it is no validator, [`NodeError::Invalid`] if the roster changed meanwhile or there are too
    /// many heads, [`NodeError::Stopping`].
    pub async fn recovery_offer(&self) -> Result<Vec<u8>, NodeError> {
        self.shell.recovery_offer().await
    }

    /// Takes a recovery that enough of the offline keys signed, or with `dry_run` only checks it.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if it does not stand (`recovery`) or follows another roster than the newest (`base`),
    /// [`NodeError::Forbidden`] if too few keys signed or this node has no seat in it, [`NodeError::Stopping`].
    pub async fn recover(&self, file: &[u8], dry_run: bool) -> Result<RecoveryView, NodeError> {
        self.shell.recover(file, dry_run).await
    }

    /// Evidence that seats contradicted themselves, newest first.
    ///
    /// # Errors
    /// [`NodeError::Stopping`].
    pub async fn evidence(&self) -> Result<Vec<EvidenceView>, NodeError> {
        self.shell.evidence().await
    }

    /// What this node wants certified and is not decided yet.
    ///
    /// # Errors
    /// [`NodeError::Stopping`].
    pub async fn proposals(&self) -> Result<Vec<ProposalView>, NodeError> {
        self.shell.proposals().await
    }

    /// Every other admitted node.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn peers(&self) -> Result<Vec<PeerView>, NodeError> {
        self.shell.peers().await
    }

    /// Trusts, or no longer trusts, a node with decrypted states of this node's groups, old and new.
    ///
    /// # Errors
    /// [`NodeError::NotFound`] if the node is not admitted, [`NodeError::Storage`].
    pub async fn set_trust(&self, node: NodeId, trusted: bool) -> Result<PeerView, NodeError> {
        self.shell.set_trust(node, trusted).await
    }

    /// Makes an invitation.
    ///
    /// # Errors
    /// [`NodeError::Forbidden`] if this node is no validator, or grants trust that it does not have;
    /// [`NodeError::Storage`].
    pub async fn invite(&self, options: InviteOptions) -> Result<InviteView, NodeError> {
        self.shell.invite(options).await
    }

    /// Makes an API key; the answer alone carries its secret.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn create_token(&self, options: TokenOptions) -> Result<TokenView, NodeError> {
        self.shell.create_token(options).await
    }

    /// Revokes every API key of this name and makes a new one.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn replace_token(&self, options: TokenOptions) -> Result<TokenView, NodeError> {
        for token in self.tokens().await?.into_iter().filter(|token| token.name == options.name) {
            self.revoke_token(token.id).await?;
        }
        self.create_token(options).await
    }

    /// API keys that are not revoked.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn tokens(&self) -> Result<Vec<TokenView>, NodeError> {
        self.shell.tokens().await
    }

    /// Revokes an API key.
    ///
    /// # Errors
    /// [`NodeError::NotFound`], [`NodeError::Storage`].
    pub async fn revoke_token(&self, id: String) -> Result<(), NodeError> {
        self.shell.revoke_token(id).await
    }

    /// Who bears this API key; `None` if it is unknown, expired or revoked.
    ///
    /// # Errors
    /// [`NodeError::Storage`].
    pub async fn authenticate(&self, token: &str) -> Result<Option<Principal>, NodeError> {
        self.shell.authenticate(token).await
    }

    /// Bytes of an upload at most, as the settings are now.
    #[must_use]
    pub fn upload_max(&self) -> u64 {
        self.shell.config().limits.upload.as_u64()
    }

    /// Whether the node can serve: started, stores open, not draining.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.shell.cancel.is_cancelled()
    }
}
