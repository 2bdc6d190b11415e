//! What replicating a group would do: the object of `mynet publish --dry-run`.

use mynet_types::{ContentState, GroupId, NodeId};
use serde::{Deserialize, Serialize};

/// What replicating a group would do, by what is known now. Nothing was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanView {
    /// The group.
    pub group_id: GroupId,
    /// Copies wanted.
    pub replicas: usize,
    /// Receipts that make it durable; every wanted copy in mode `all`.
    pub quorum: usize,
    /// `quorum` or `all`.
    pub mode: String,
    /// Admitted nodes that may hold copies.
    pub eligible: usize,
    /// Slot that decides its place.
    pub slot: u16,
    /// The targets, in order of placement.
    pub targets: Vec<PlanTargetView>,
    /// Bytes to be sent in all.
    pub bytes: u64,
    /// The order in which states are sent.
    pub batches: Vec<Vec<ContentState>>,
    /// What may stand in its way.
    pub warnings: Vec<WarningView>,
}

/// One target of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlanTargetView {
    /// Who.
    pub node_id: NodeId,
    /// Where it stands.
    pub region: String,
    /// What it shares its fate with.
    pub zone: String,
    /// Its place among all nodes that may hold copies, from 0.
    pub rank: usize,
    /// What it would hold.
    pub states: Vec<ContentState>,
    /// The same state by state, in the order in which they are sent.
    pub batches: Vec<BatchView>,
    /// Whether it already holds all of it.
    pub held: bool,
    /// How that is known: `receipt`, `origin` (it is this node), `answer` (it says so), or `unknown`.
    pub known_by: String,
    /// Bytes to be sent to it.
    pub bytes: u64,
    /// Why it was chosen.
    pub why: String,
}

/// One state on its way to a target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BatchView {
    /// Which.
    pub state: ContentState,
    /// Bytes to be sent of it: none of a view, and none of what is there.
    pub bytes: u64,
    /// Whether the target holds it already.
    pub held: bool,
    /// Why the target gets it.
    pub why: String,
}

/// Something that may stand in the way of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningView {
    /// For scripts: `too_few_nodes`, `fewer_copies`, `zone_shared`, `unreachable`, `little_space`, `only_key`.
    pub code: String,
    /// For people.
    pub message: String,
}
