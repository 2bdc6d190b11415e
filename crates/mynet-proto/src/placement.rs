//! Which nodes should hold a group: weighted rendezvous hashing over 16,384 placement slots.
//!
//! The specification's "sharding by content hash", with the group in place of the single hash: all states of a group
//! share one placement seed, so they land together. Every node computes the same answer from the same admissions; nothing
//! is sent. A node's score for a slot is `-log2(u) / weight` for a hash `u` of slot, node and the nonce that its admitter
//! chose, so a node cannot choose its place; the smallest score wins.
//!
//! Invariants:
//! 1. The same slot and the same candidates, in any order, give the same replica set on every platform: integers only.
//! 2. A failure domain is named again only when every domain with a candidate left is named as often.
//! 3. One node that joins or leaves changes at most one member of any replica set.
//! 4. An edge, or a node without the storage role, is never named.
//!
//! Source: Thaler and Ravishankar, "Using name-based mappings to increase hit rates" (1998); weights after Schindelhauer
//! and Schomaker, "Weighted distributed hash tables" (2005); integer logarithm for the reason that CRUSH has one (Weil
//! et al., 2006): `ln` differs between platforms.
//!
//! Deliberately absent: bounded load, versioned layouts and a copy in another region. Weights are therefore proportional for
//! the first choice only; further choices favour small nodes, and no node holds more than one copy.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use mynet_types::{AdmissionRecord, BoundedString, NodeId, Roles, Timestamp};
use sha2::{Digest, Sha256};

use crate::reason::Reason;

/// Placement slots. Halving them makes the load of a thousand nodes visibly uneven; doubling them doubles every table of
/// slots and gains nothing below ten thousand nodes.
pub const SLOTS: u16 = 1 << SLOT_BITS;
/// Bits of a slot number.
const SLOT_BITS: u32 = 14;
/// Fractional bits of [`log2_fixed`]: finer than the 16 bits of a weight can tell apart.
const FRACTION_BITS: u32 = 40;

/// One of the [`SLOTS`] parts of the key space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementSlot(u16);

impl PlacementSlot {
    /// The slot of a manifest's `placement_seed`: the first 14 bits of its SHA-256.
    #[must_use]
    pub fn of(placement_seed: &[u8; 32]) -> Self {
        let digest: [u8; 32] = Sha256::digest(placement_seed).into();
        let [first, second, ..] = digest;
        Self(u16::from_be_bytes([first, second]) >> (u16::BITS - SLOT_BITS))
    }

    /// The slot with this number, modulo [`SLOTS`].
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        Self(number % SLOTS)
    }

    /// Its number, below [`SLOTS`].
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// What shares its fate. Zones are named within a region, so equal zone names of two regions are two domains.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct FailureDomain {
    /// The region.
    pub region: BoundedString<32>,
    /// The zone in it.
    pub zone: BoundedString<64>,
}

/// A node that placement may consider, as its admission describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node.
    pub node: NodeId,
    /// Chosen by the validator who admitted it.
    pub nonce: [u8; 16],
    /// Where it stands.
    pub domain: FailureDomain,
    /// Its share of the data; a candidate of weight 0 takes none.
    pub weight: u16,
    /// What it does.
    pub roles: Roles,
}

impl Candidate {
    /// Whether it may hold durable copies.
    #[must_use]
    pub fn is_eligible(&self) -> bool {
        self.roles.may_hold() && self.weight > 0
    }
}

impl From<&AdmissionRecord> for Candidate {
    fn from(record: &AdmissionRecord) -> Self {
        Self {
            node: record.node,
            nonce: record.nonce,
            domain: FailureDomain { region: record.region.clone(), zone: record.zone.clone() },
            weight: record.weight,
            roles: record.roles,
        }
    }
}

/// A member of a replica set, and why it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The node.
    pub node: NodeId,
    /// Its place among all eligible nodes by score alone, from 0.
    pub rank: usize,
    /// Where it stands.
    pub domain: FailureDomain,
    /// Whether an earlier member stands in the same domain, because there were too few domains.
    pub shares_domain: bool,
}

/// The nodes that should hold the groups of `slot`: at most `r`, best first, fewer if fewer are eligible.
///
/// A node that is listed twice is considered with its better score.
#[must_use]
pub fn replica_set(slot: PlacementSlot, candidates: &[Candidate], r: usize) -> Vec<Placed> {
    let mut scored: Vec<(Score, &Candidate)> = candidates
        .iter()
        .filter(|candidate| candidate.is_eligible())
        .map(|candidate| (Score::of(slot, candidate), candidate))
        .collect();
    scored.sort_by(|(a, x), (b, y)| a.compare(b).then_with(|| x.node.cmp(&y.node)));
    let mut seen = BTreeSet::new();
    scored.retain(|(_, candidate)| seen.insert(candidate.node));
    let mut left: Vec<(usize, &Candidate)> = scored.into_iter().map(|(_, candidate)| candidate).enumerate().collect();
    let mut uses: BTreeMap<&FailureDomain, usize> = BTreeMap::new();
    let mut set = Vec::with_capacity(r.min(left.len()));
    // In round k every domain with a candidate left was named k times; each is named once more, best candidate first.
    for round in 0_usize.. {
        if set.len() == r || left.is_empty() {
            break;
        }
        left.retain(|(rank, candidate)| {
            if set.len() == r {
                return true;
            }
            let used = uses.entry(&candidate.domain).or_insert(0);
            let named = *used > round && !mynet_types::planted!(ZonesIgnored);
            if !named {
                *used += 1;
                set.push(Placed {
                    node: candidate.node,
                    rank: *rank,
                    domain: candidate.domain.clone(),
                    shares_domain: round > 0,
                });
            }
            named
        });
    }
    set
}

/// A node that placement looked at, and what became of it; for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Considered {
    /// The node.
    pub node: NodeId,
    /// Where it stands.
    pub domain: FailureDomain,
    /// Its place among all eligible nodes by score alone, from 0; `None` if it is not eligible.
    pub rank: Option<usize>,
    /// [`Reason::Chosen`], or why it was passed over.
    pub reason: Reason,
}

/// What [`replica_set`] makes of every admitted node at wall-clock time `now`: those chosen first, in their order, then the
/// others by rank, then those that are not eligible.
#[must_use]
pub fn consider(slot: PlacementSlot, records: &[AdmissionRecord], r: usize, now: Timestamp) -> Vec<Considered> {
    let refusal = |record: &&AdmissionRecord| match () {
        () if record.expires_at <= now => Some(Reason::AdmissionExpired),
        () if record.roles.contains(Roles::EDGE) => Some(Reason::IsEdge),
        () if !record.roles.may_hold() => Some(Reason::NotStorage),
        () if record.weight == 0 => Some(Reason::NoWeight),
        () => None,
    };
    let (eligible, others): (Vec<_>, Vec<_>) = records.iter().partition(|record| refusal(record).is_none());
    let candidates: Vec<Candidate> = eligible.into_iter().map(Candidate::from).collect();
    let chosen = replica_set(slot, &candidates, r);
    let last = chosen.iter().map(|placed| placed.rank).max().unwrap_or(0);
    let mut rest = replica_set(slot, &candidates, candidates.len());
    rest.retain(|placed| !chosen.contains(placed));
    rest.sort_by_key(|placed| placed.rank);
    let passed = |placed: &Placed| if placed.rank < last { Reason::ZoneUsed } else { Reason::RankedLower };
    let ranked = |Placed { node, rank, domain, .. }, reason| Considered { node, domain, rank: Some(rank), reason };
    let mut considered: Vec<Considered> = chosen.into_iter().map(|placed| ranked(placed, Reason::Chosen)).collect();
    considered.extend(rest.into_iter().map(|placed| {
        let reason = passed(&placed);
        ranked(placed, reason)
    }));
    considered.extend(others.into_iter().filter_map(|record| {
        let Candidate { node, domain, .. } = Candidate::from(record);
        Some(Considered { node, domain, rank: None, reason: refusal(&record)? })
    }));
    considered
}

/// `distance / weight`, compared without dividing.
#[derive(Debug, Clone, Copy)]
struct Score {
    distance: u64,
    weight: u16,
}

impl Score {
    fn of(slot: PlacementSlot, candidate: &Candidate) -> Self {
        let text = [&b"mynet/place/1\0"[..], &slot.0.to_be_bytes(), &candidate.node.0, &candidate.nonce].concat();
        let digest: [u8; 32] = Sha256::digest(text).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        let u = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        Self { distance: (u64::from(u64::BITS) << FRACTION_BITS) - log2_fixed(u), weight: candidate.weight }
    }

    /// Orders `a.distance / a.weight` against `b.distance / b.weight`. Distances are below 2^47 and weights below 2^16,
    /// so the products fit.
    fn compare(&self, other: &Self) -> Ordering {
        let left = self.distance * u64::from(other.weight);
        let right = other.distance * u64::from(self.weight);
        left.cmp(&right)
    }
}

/// log2 of `value | 1` in Q8.40, rounded down: the integer part from the leading zeros, one bit of fraction per squaring
/// of the mantissa. The result is below `64 << 40`.
#[must_use]
pub fn log2_fixed(value: u64) -> u64 {
    let value = value | 1;
    let zeros = value.leading_zeros();
    let whole = u64::from(u64::BITS - 1 - zeros);
    // The mantissa as Q1.63: its top bit is one, so it stands for a number in [1, 2).
    let mut mantissa = u128::from(value << zeros);
    let mut fraction = 0_u64;
    for _ in 0..FRACTION_BITS {
        mantissa = (mantissa * mantissa) >> (u64::BITS - 1);
        let carry = mantissa >> u64::BITS;
        fraction = fraction << 1 | u64::from(carry != 0);
        mantissa >>= u32::from(carry != 0);
    }
    whole << FRACTION_BITS | fraction
}

#[cfg(test)]
mod tests;
