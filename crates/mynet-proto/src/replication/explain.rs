//! Why a group is where it is, for people: what its coordinator waits for, target by target.
//!
//! Everything here is read and nothing decided.

use mynet_types::{GroupId, Manifest, Mono, NodeId, StatesMask, Timestamp, TxId};

pub use super::target::TargetState;
use super::{Replication, io::Mode, plan};
use crate::{
    placement::{self, Considered, PlacementSlot},
    reason::Reason,
};

/// One copy that this node coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Who is to hold it.
    pub node: NodeId,
    /// How far it is.
    pub state: TargetState,
    /// What it is to hold.
    pub states: StatesMask,
    /// The newest try.
    pub attempt: u32,
    /// Verified bytes, as the target reports them.
    pub bytes: u64,
    /// Why it would not, the last time.
    pub refusal: Option<Reason>,
    /// Whether it refused for want of space so often that another node takes its place.
    pub full: bool,
    /// When it is tried again, if nothing happens before.
    pub next_try: Option<Mono>,
}

/// A group that this node coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordination {
    /// The open transaction; none before enough nodes are eligible, or in the pause after one was given up.
    pub transaction: Option<TxId>,
    /// Whether its commit is on disk.
    pub committed: bool,
    /// When success is reported.
    pub mode: Mode,
    /// Copies wanted.
    pub copies: usize,
    /// Copies without which nothing is decided.
    pub need: usize,
    /// Its targets, by node id.
    pub targets: Vec<Copy>,
}

impl Replication {
    /// What this node does about a group that it coordinates; `None` if it does not, or if nothing is left to do.
    #[must_use]
    pub fn coordination(&self, group_id: &GroupId) -> Option<Coordination> {
        let group = self.coordinator.group(group_id)?;
        let transaction = group.transaction.as_ref();
        let targets = transaction.iter().flat_map(|transaction| &transaction.targets);
        Some(Coordination {
            transaction: transaction.map(|transaction| transaction.id),
            committed: group.is_committed(),
            mode: group.publication.mode,
            copies: plan::copies(&group.publication),
            need: plan::need(&group.publication),
            targets: targets
                .map(|(node, target)| Copy {
                    node: *node,
                    state: target.state,
                    states: target.states,
                    attempt: target.attempt,
                    bytes: target.bytes,
                    refusal: target.refusal.map(Reason::refused),
                    full: target.is_full(),
                    next_try: target.due.filter(|_| target.state != TargetState::Held),
                })
                .collect(),
        })
    }

    /// What placement makes of every node whose admission is known here, for `copies` copies of a group.
    #[must_use]
    pub fn placement(&self, manifest: &Manifest, copies: usize, wall: Timestamp) -> Vec<Considered> {
        let slot = PlacementSlot::of(&manifest.placement_seed);
        placement::consider(slot, &self.shared.admissions(), copies, wall)
    }
}
