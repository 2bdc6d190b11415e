//! Who shall hold a group, which states of it, and what that costs: decided in one place, and printable before it runs.

use std::fmt;

use mynet_types::{ContentState, GroupId, Manifest, ManifestHash, NodeId, StatesMask, Timestamp, wire};

use super::{
    io::{Mode, Publication},
    receipts::ReceiptSet,
    step::Shared,
};
use crate::placement::{self, FailureDomain, Placed, PlacementSlot};

/// Copies that a publication wants: what it asks for, at least W and at most what one transaction can name.
#[must_use]
pub fn copies(publication: &Publication) -> usize {
    let quorum = usize::from(publication.manifest.body.quorum);
    usize::from(publication.replicas).max(quorum).clamp(1, wire::TARGETS_MAX)
}

/// Copies without which nothing is decided and no success is reported: W, or every copy in mode `all`.
#[must_use]
pub fn need(publication: &Publication) -> usize {
    match publication.mode {
        Mode::Quorum => usize::from(publication.manifest.body.quorum).max(1),
        Mode::All => copies(publication),
    }
}

/// The states that `node` is to hold: all it is allowed. A wrap to it is the owner's grant.
#[must_use]
pub fn states_for(manifest: &Manifest, wraps: &wire::Wraps, node: &NodeId) -> StatesMask {
    let granted = wraps.iter().any(|wrap| wrap.body.recipient == *node && wrap.body.version == manifest.key_version());
    manifest.allowed(granted || mynet_types::planted!(DecryptedUngranted))
}

/// Who is to hold it among the admitted nodes: the first `r` by placement, then whoever holds an earlier version. May be more than
/// one transaction can name.
pub(super) fn wanted(shared: &Shared, publication: &Publication, r: usize, wall: Timestamp) -> Vec<Placed> {
    let slot = PlacementSlot::of(&publication.manifest.body.placement_seed);
    let ranked = placement::replica_set(slot, &shared.candidates(wall), usize::MAX).into_iter().enumerate();
    let wanted = ranked.filter(|(place, placed)| *place < r || follows(publication, &placed.node));
    wanted.map(|(_, placed)| placed).collect()
}

/// The targets of a new transaction.
pub(super) fn targets(shared: &Shared, publication: &Publication, wall: Timestamp) -> Vec<Placed> {
    let mut wanted = wanted(shared, publication, copies(publication), wall);
    wanted.truncate(wire::TARGETS_MAX);
    wanted
}

/// Whether a node holds an earlier version.
pub(super) fn follows(publication: &Publication, node: &NodeId) -> bool {
    publication.head.as_ref().is_some_and(|head| head.holders.contains(node))
}

/// What a target has already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    /// Nothing that this node knows of.
    Nothing,
    /// This node itself, where the group is complete.
    Origin,
    /// Everything, by its receipt.
    Receipt,
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "to send",
            Self::Origin => "here",
            Self::Receipt => "held, by its receipt",
        })
    }
}

/// One state of a group on its way to a target. Batches go in the order of the states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch {
    /// The state.
    pub state: ContentState,
    /// Its bytes; zero for a view, which is decrypted where it is read.
    pub bytes: u64,
}

/// One target of a plan, and why it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTarget {
    /// The node.
    pub node: NodeId,
    /// Its place among all eligible nodes by rendezvous score, from 0.
    pub rank: usize,
    /// Where it stands.
    pub domain: FailureDomain,
    /// Whether an earlier target stands in the same zone, because there are too few zones.
    pub shares_domain: bool,
    /// What it has.
    pub holding: Holding,
    /// What it is to hold: encrypted, then preview, then the decrypted view.
    pub batches: Vec<Batch>,
}

impl PlannedTarget {
    /// Bytes still to be sent to it.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self.holding {
            Holding::Nothing => self.batches.iter().map(|batch| batch.bytes).fold(0, u64::saturating_add),
            Holding::Origin | Holding::Receipt => 0,
        }
    }
}

/// What a publication would do, by the admissions known now. Changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The group.
    pub group_id: GroupId,
    /// Its manifest.
    pub manifest_hash: ManifestHash,
    /// Where placement puts it.
    pub slot: PlacementSlot,
    /// Copies wanted.
    pub copies: usize,
    /// Copies without which nothing is decided.
    pub need: usize,
    /// Nodes that may hold it.
    pub eligible: usize,
    /// Who shall hold it, best first.
    pub targets: Vec<PlannedTarget>,
}

impl Plan {
    /// Plans `publication`; `receipts` are those known.
    pub(super) fn of(shared: &Shared, publication: &Publication, receipts: &ReceiptSet, wall: Timestamp) -> Self {
        let manifest = &publication.manifest.body;
        let (copies, need) = (copies(publication), need(publication));
        let targets = targets(shared, publication, wall).into_iter().map(|placed| PlannedTarget {
            holding: match receipts.of(&placed.node, wall) {
                Some(_) => Holding::Receipt,
                None if placed.node == shared.node => Holding::Origin,
                None => Holding::Nothing,
            },
            batches: batches(manifest, states_for(manifest, &publication.wraps, &placed.node)),
            node: placed.node,
            rank: placed.rank,
            domain: placed.domain,
            shares_domain: placed.shares_domain,
        });
        Self {
            group_id: manifest.group_id,
            manifest_hash: manifest.hash(),
            slot: PlacementSlot::of(&manifest.placement_seed),
            copies,
            need,
            eligible: shared.candidates(wall).len(),
            targets: targets.collect(),
        }
    }

    /// Whether enough nodes may hold it for it to become durable.
    #[must_use]
    pub fn is_feasible(&self) -> bool {
        self.eligible >= self.need
    }

    /// Bytes to be sent in all.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.targets.iter().map(PlannedTarget::bytes).fold(0, u64::saturating_add)
    }
}

/// The states of one target in the order they travel.
fn batches(manifest: &Manifest, states: StatesMask) -> Vec<Batch> {
    [ContentState::Encrypted, ContentState::Preview, ContentState::Decrypted]
        .into_iter()
        .filter(|state| states.contains(*state))
        .map(|state| Batch {
            state,
            bytes: manifest
                .blobs()
                .filter(|(member, _)| member.state == state)
                .map(|(_, blob)| blob.size)
                .fold(0, u64::saturating_add),
        })
        .collect()
}

/// One line for the group, one per target.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { group_id, copies, need, eligible, .. } = self;
        writeln!(
            f,
            "group {} slot {}: {copies} copies wanted, {need} needed, {eligible} nodes eligible, {} bytes to send",
            group_id.short(),
            self.slot.number(),
            self.bytes()
        )?;
        for target in &self.targets {
            let shared = if target.shares_domain { " (shared)" } else { "" };
            write!(
                f,
                "  {} rank {} zone {}/{}{shared}:",
                target.node.short(),
                target.rank,
                target.domain.region,
                target.domain.zone
            )?;
            for batch in &target.batches {
                write!(f, " {} {} B", batch.state, batch.bytes)?;
            }
            writeln!(f, ", {}", target.holding)?;
        }
        Ok(())
    }
}
