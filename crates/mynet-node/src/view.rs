//! The objects that the command line prints and HTTP returns, field for field.
//!
//! One object serves both, so they can never differ. Times are RFC 3339 UTC, sizes bytes, durations seconds, hashes
//! `sha256:<hex>`, node ids 64 hex digits. A field of a system that does not exist yet is absent, never null.

mod operation;
mod plan;
mod why;

use std::collections::BTreeMap;

use mynet_types::{
    ContentHash, ContentId, ContentState, ContentType, GroupId, ManifestHash, NetworkId, NodeId, OwnerKey,
    RelationshipKind, Timestamp,
};
use serde::{Deserialize, Serialize};

pub use operation::{OperationId, OperationState, OperationTargetView, OperationView};
pub use plan::{BatchView, PlanTargetView, PlanView, WarningView};
pub use why::{
    CandidateView, CopyView, DecryptedView, LogView, PlacementView, ReasonView, RoleView, SeatView, WhyView,
};

/// A group: its states, links, where it is and what was decided about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GroupView {
    /// The group.
    pub group_id: GroupId,
    /// Its version.
    pub version: u64,
    /// Hash of its manifest.
    pub manifest_hash: ManifestHash,
    /// The row that the others come from.
    pub root_content_id: ContentId,
    /// Who owns it.
    pub owner: OwnerKey,
    /// When the owner made it.
    pub created_at: Timestamp,
    /// The uploader's tags; absent on nodes that may not know them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Name of the uploaded file; absent on nodes that may not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<String>,
    /// Its states, as far as this node may know them.
    pub states: Vec<StateView>,
    /// Their links.
    pub relationships: Vec<RelationshipView>,
    /// How far replication came.
    pub replication_status: ReplicationStatusView,
    /// Distinct unexpired receipts, this node's included.
    pub replica_count: usize,
    /// Copies wanted.
    pub replicas_wanted: usize,
    /// Who holds it besides this node.
    pub replicated_on_peers: Vec<NodeId>,
    /// When this node last learned of a receipt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_sync_timestamp: Option<Timestamp>,
    /// What the validators said.
    pub consensus: ConsensusView,
    /// Whether a certificate says that it was approved.
    pub consensus_achieved: bool,
    /// What the wait of an upload reached; only in the answer to an upload or a publication.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_result: Option<WaitResult>,
    /// Why it has no preview though one was to be made; only in the answer to an upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_preview: Option<ReasonView>,
    /// Under what the work is looked at that goes on after the wait; in the same answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation_id: Option<String>,
}

/// One state of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateView {
    /// Which.
    pub state: ContentState,
    /// The row.
    pub content_id: ContentId,
    /// SHA-256 of its bytes; absent where this node may not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<ContentHash>,
    /// Size of its bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_size: Option<u64>,
    /// Audio, video, image or document; absent where this node may not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,
    /// Media type; absent where this node may not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
    /// How this node holds it.
    pub held: Held,
}

/// How a node holds a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Held {
    /// As bytes.
    Blob,
    /// As a view of the encrypted state, with the key.
    Derived,
    /// Not at all.
    No,
}

/// One row of `content_relationships`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RelationshipView {
    /// The row the child came from.
    pub parent_content_id: ContentId,
    /// The row that came from it.
    pub child_content_id: ContentId,
    /// How.
    pub relationship_type: RelationshipKind,
}

/// The `replication_status` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicationStatusView {
    /// Not in the network.
    None,
    /// No transaction yet.
    Pending,
    /// Fewer than W receipts.
    Replicating,
    /// At least R.
    Replicated,
    /// At least W, fewer than R.
    Degraded,
    /// Needs a human.
    Failed,
}

/// What the validators said about a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsensusView {
    /// What can be said now.
    pub outcome: OutcomeView,
    /// Accept votes.
    pub accepts: usize,
    /// Reject votes.
    pub rejects: usize,
    /// Accept votes needed.
    pub quorum: usize,
    /// Validators asked.
    pub validators: usize,
    /// Whether there is a certificate.
    pub certificate: bool,
}

/// The outcomes of consensus; a timeout is never a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeView {
    /// Not asked yet, or votes are being collected.
    Pending,
    /// A quorum accepted.
    Approved,
    /// A reject quorum said no.
    Rejected,
    /// Too few votes in time; may still become either.
    Undecided,
    /// The roster is too small to certify.
    NotEnoughValidators,
}

/// How far to wait for an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wait {
    /// Verified and fsynced on this node.
    Stored,
    /// W receipts.
    Durable,
    /// Durable, and an approved certificate.
    Certified,
}

/// What a wait reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitResult {
    /// Verified and fsynced on this node.
    Stored,
    /// W receipts.
    Durable,
    /// Durable, and an approved certificate.
    Certified,
    /// The wait ended first; the work goes on.
    TimedOut,
    /// Fewer nodes may hold it than W; tried again when a node is admitted.
    NotEnoughTargets,
    /// The validators rejected it.
    Rejected,
    /// The wait ended first, and a validator votes for another manifest of this version; votes are still collected.
    Contested,
}

/// A page of a list, newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

/// The node and its network at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// This node.
    pub node_id: NodeId,
    /// Program version.
    pub version: String,
    /// Its network.
    pub network: NetworkView,
    /// Where it stands.
    pub region: String,
    /// What it shares its fate with.
    pub zone: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Whether the network admitted it yet.
    pub admitted: bool,
    /// Where its API listens.
    pub api: String,
    /// Where peers reach it.
    pub p2p: String,
    /// Since it started.
    pub uptime_seconds: u64,
    /// Its peers.
    pub peers: PeerCounts,
    /// The validators.
    pub roster: RosterView,
    /// What it holds.
    pub content: ContentCounts,
    /// How its groups are doing.
    pub replication: ReplicationCounts,
}

/// A network's name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NetworkView {
    /// Hash of its genesis.
    pub id: NetworkId,
    /// For people.
    pub name: String,
}

/// Peers by state.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct PeerCounts {
    /// Connected.
    pub alive: usize,
    /// Not connected.
    pub down: usize,
}

/// The newest roster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RosterView {
    /// Its epoch.
    pub epoch: u64,
    /// Its validators.
    pub validators: Vec<NodeId>,
    /// Accept votes that certify; 0 if no certificate is possible.
    pub quorum: usize,
}

/// What a node holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ContentCounts {
    /// Visible groups.
    pub groups: u64,
    /// States of them, views included.
    pub states: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// Groups held by replication status, each under one; and how many of all these are at risk.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReplicationCounts {
    /// At least R receipts.
    pub replicated: u64,
    /// At least W.
    pub degraded: u64,
    /// Fewer, or no transaction yet.
    pub pending: u64,
    /// Needs a human.
    pub failed: u64,
    /// Fewer than `min_replicas` receipts; counted under its status as well.
    pub at_risk: u64,
}

/// What a node may keep, and what of it is taken. All in bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StorageView {
    /// What its operator lets it keep.
    pub capacity: u64,
    /// Blobs on its disk, those that nothing keeps any more included until they are collected.
    pub used: u64,
    /// Promised to copies that are under way.
    pub reserved: u64,
    /// Granted to uploads that are being received.
    pub uploads: u64,
    /// What it may still take: the rest of the capacity, or of the file system if that is less.
    pub free: u64,
    /// Free in the file system of the blobs.
    pub disk_free: u64,
    /// What uploads and copies leave free in the file system, for database and logs.
    pub disk_reserve: u64,
    /// The largest upload that is taken.
    pub upload_max: u64,
}

/// Another node of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PeerView {
    /// Who.
    pub node_id: NodeId,
    /// Whether it can be reached.
    pub state: PeerState,
    /// Where it stands.
    pub region: String,
    /// What it shares its fate with.
    pub zone: String,
    /// What it does.
    pub roles: Vec<String>,
    /// Where it says it can be reached.
    pub addrs: Vec<String>,
    /// How the connection runs; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Round trip; absent without a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Whether owners here grant it decrypted states.
    pub trusted: bool,
}

/// Whether a peer can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerState {
    /// Connected.
    Alive,
    /// Not connected.
    Down,
}

/// Who has a hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FindView {
    /// What was looked for.
    pub hash: ContentHash,
    /// What can be said.
    pub outcome: FindOutcome,
    /// Who holds it.
    pub providers: Vec<ProviderView>,
}

/// What a search can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindOutcome {
    /// Somebody holds it.
    Found,
    /// Every admitted peer answered, and none holds it.
    NotFound,
    /// Nobody who answered holds it, and some did not answer.
    Unknown,
}

/// A holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProviderView {
    /// Who.
    pub node_id: NodeId,
    /// What it holds of the group.
    pub states: Vec<ContentState>,
}

/// A group that was deleted by its owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeletionView {
    /// The group.
    pub group_id: GroupId,
    /// When its owner deleted it.
    pub deleted_at: Timestamp,
    /// Holders that have taken it away.
    pub confirmed: Vec<NodeId>,
    /// Holders that have not said so yet; they are told until they do.
    pub silent: Vec<NodeId>,
}

/// What the collector of garbage freed, or would free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GarbageView {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Blobs freed.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that stay, by what keeps them: `group`, `tx`, `cache`, or `grace` if nothing does but not for long enough.
    pub kept: BTreeMap<String, u64>,
}

/// What the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoctorView {
    /// Whether nothing was put right.
    pub dry_run: bool,
    /// Groups looked at.
    pub groups: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// Files looked at.
    pub files: u64,
    /// Things that did not fit.
    pub found: u64,
    /// Those of them that were put right.
    pub repaired: u64,
    /// The first thousand of them.
    pub findings: Vec<FindingView>,
}

impl DoctorView {
    pub(crate) fn new(dry_run: bool) -> Self {
        Self { dry_run, groups: 0, blobs: 0, files: 0, found: 0, repaired: 0, findings: Vec::new() }
    }
}

/// Something that did not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// Which kind; `docs/operations/looking-after.md` lists them.
    pub code: String,
    /// What it is about.
    pub id: String,
    /// What is wrong.
    pub message: String,
    /// Whether it was put right.
    pub repaired: bool,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InviteView {
    /// What the newcomer gives to `join`.
    pub ticket: String,
    /// Roles that it may take.
    pub roles: Vec<String>,
    /// Until when.
    pub expires: Timestamp,
    /// How often it may be redeemed.
    pub uses: u32,
}

/// An API key as it is listed; the secret is shown once, at creation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its public part.
    pub id: String,
    /// What it was called.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; absent if never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
    /// The whole key; only in the answer to its creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// What an API key may do; each scope includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read content and status.
    Read,
    /// And upload.
    Write,
    /// And govern the node.
    Admin,
}

/// What the votes prove, checked offline. In one that does not stand, everything but `reason` is only what it says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerifyView {
    /// Whether the certificate stands.
    pub valid: bool,
    /// Why it does or does not: a stable code, `valid` if it does.
    pub reason: String,
    /// The same for people.
    pub message: String,
    /// The network; absent if nothing could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_id: Option<NetworkId>,
    /// The epoch of the votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
    /// The manifest certified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest_hash: Option<ManifestHash>,
    /// Who voted.
    pub signers: Vec<NodeId>,
    /// Votes needed.
    pub quorum: usize,
    /// `full`, or `small` for fewer than three validators.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// What is claimed: `seen`, `durable` or `verified`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// Epochs in the roster chain that the offline keys began, and no vote of the validators before.
    pub recoveries: Vec<u64>,
}
