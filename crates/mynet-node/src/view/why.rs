//! Why a group is where it is: the object of `mynet why`.

use mynet_types::{ContentState, GroupId, ManifestHash, NodeId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{ConsensusView, ReplicationStatusView};

/// Why a group is where it is, as far as one node knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WhyView {
    /// The group.
    pub group_id: GroupId,
    /// Its version.
    pub version: u64,
    /// Hash of its manifest.
    pub manifest_hash: ManifestHash,
    /// Who tells this.
    pub node_id: NodeId,
    /// What that node has to do with the group.
    pub role: RoleView,
    /// The state of things, one sentence each.
    pub summary: Vec<String>,
    /// How far replication came.
    pub replication_status: ReplicationStatusView,
    /// Distinct unexpired receipts.
    pub replica_count: usize,
    /// Copies wanted.
    pub replicas_wanted: usize,
    /// Receipts that make it durable.
    pub quorum: usize,
    /// `quorum` or `all`; only where the group was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Where placement puts it.
    pub placement: PlacementView,
    /// Its copies: those there are and those that are owed.
    pub copies: Vec<CopyView>,
    /// Who may read it.
    pub decrypted: DecryptedView,
    /// What the validators said.
    pub consensus: ConsensusView,
    /// What each validator said, as far as this node knows.
    pub seats: Vec<SeatView>,
    /// The node's log of the group, oldest line first.
    pub log: Vec<LogView>,
}

/// What a node has to do with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleView {
    /// It was uploaded there: that node replicates it.
    Origin,
    /// It holds a copy.
    Holder,
    /// It asked others.
    None,
}

/// A code with its sentence; `docs/protocol/reasons.md` lists them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonView {
    /// For scripts.
    pub code: String,
    /// For people.
    pub says: String,
}

/// Where placement puts a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlacementView {
    /// Its slot.
    pub slot: u16,
    /// Every admitted node: those chosen, then the others by rank, then those that may not hold copies.
    pub candidates: Vec<CandidateView>,
}

/// One node as placement sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateView {
    /// Who.
    pub node_id: NodeId,
    /// Where it stands.
    pub region: String,
    /// What it shares its fate with.
    pub zone: String,
    /// Its place among all nodes that may hold copies, from 0; absent if it may not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rank: Option<usize>,
    /// Whether placement chooses it now.
    pub chosen: bool,
    /// Why, or why not.
    pub reason: ReasonView,
}

/// One copy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CopyView {
    /// Who holds it or is to.
    pub node_id: NodeId,
    /// `held`, how far the node that replicates it is with it (`asked`, `receiving`, `prepared`, `committing`, `paused`,
    /// `refused`), or `missing`.
    pub state: String,
    /// What it holds, or is to hold.
    pub states: Vec<ContentState>,
    /// Until when its receipt stands; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The newest try; only where the group was uploaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Why it would not, the last time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_refusal: Option<ReasonView>,
    /// When it is tried again, if nothing happens before; 0 is now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_try_seconds: Option<u64>,
    /// What stands in its way, whether it is there or owed: `unreachable`, if the node that tells this has no connection to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hindered_by: Option<ReasonView>,
}

/// Who may read a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecryptedView {
    /// `none`, `granted` (whom the owner granted it) or `public`.
    pub class: String,
    /// Whom the owner granted it, as far as this node knows.
    pub granted: Vec<NodeId>,
}

/// What one validator said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeatView {
    /// Who.
    pub node_id: NodeId,
    /// Its vote, or why it gave none; absent if it was not heard of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub said: Option<ReasonView>,
    /// Why it was not heard of, if that is known: `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hindered_by: Option<ReasonView>,
}

/// One line of the log of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogView {
    /// What happened, or why something did not.
    #[serde(flatten)]
    pub reason: ReasonView,
    /// The other node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// What `value` counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The newest number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<u64>,
    /// How often it happened.
    pub count: u64,
    /// When it happened first.
    pub first: Timestamp,
    /// When it happened last.
    pub last: Timestamp,
}
