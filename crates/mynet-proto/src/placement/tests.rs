//! Placement: golden scores, balance, movement and failure domains.

use mynet_types::{AdmissionRecord, NodeId, Roles, Timestamp, WrapKey};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::{Candidate, FailureDomain, PlacementSlot, SLOTS, consider, log2_fixed, replica_set};
use crate::reason::Reason;

fn candidate(number: u16, zone: u16, weight: u16) -> Candidate {
    let mut node = [0; 32];
    node[..2].copy_from_slice(&number.to_be_bytes());
    Candidate {
        node: NodeId(node),
        nonce: [7; 16],
        domain: FailureDomain { region: "eu".try_into().unwrap(), zone: format!("zone-{zone}").try_into().unwrap() },
        weight,
        roles: Roles::STORAGE,
    }
}

fn nodes(count: u16, zones: u16) -> Vec<Candidate> {
    (0..count).map(|number| candidate(number, number % zones, 1)).collect()
}

fn names(slot: u16, candidates: &[Candidate], r: usize) -> Vec<NodeId> {
    replica_set(PlacementSlot::from_number(slot), candidates, r).into_iter().map(|placed| placed.node).collect()
}

/// Copies per node over every `stride`th slot, largest over fair share.
fn load_max(candidates: &[Candidate], r: usize, stride: u16) -> f64 {
    let mut held = std::collections::BTreeMap::new();
    for slot in (0..SLOTS).step_by(usize::from(stride)) {
        for node in names(slot, candidates, r) {
            *held.entry(node).or_insert(0_u32) += 1;
        }
    }
    let fair = f64::from(SLOTS / stride) * r as f64 / candidates.len() as f64;
    f64::from(*held.values().max().unwrap()) / fair
}

#[test]
fn whoever_is_passed_over_is_told_why() {
    let now = Timestamp(1_000);
    let record = |number: u16, zone: u16| {
        let Candidate { node, nonce, domain, weight, roles } = candidate(number, zone, 1);
        AdmissionRecord {
            node,
            wrap_key: WrapKey([0; 32]),
            roles,
            trusted: false,
            region: domain.region,
            zone: domain.zone,
            weight,
            admitted_at: Timestamp(0),
            expires_at: Timestamp(2_000),
            epoch: 0,
            issuer: node,
            nonce,
        }
    };
    // Two zones of three nodes, of which two copies take the best of each.
    let mut records: Vec<AdmissionRecord> = (0..6).map(|number| record(number, number % 2)).collect();
    for (number, roles, weight, expires_at) in [
        (6, Roles::EDGE, 1, 2_000),
        (7, Roles::INDEX, 1, 2_000),
        (8, Roles::STORAGE, 0, 2_000),
        (9, Roles::EDGE, 1, 1_000),
    ] {
        let expires_at = Timestamp(expires_at);
        records.push(AdmissionRecord { roles, weight, expires_at, ..record(number, 9) });
    }
    let mut zone_used = 0;
    for slot in (0..64).map(PlacementSlot::from_number) {
        let candidates: Vec<Candidate> = records[..6].iter().map(Candidate::from).collect();
        let considered = consider(slot, &records, 2, now);
        assert_eq!(considered.len(), records.len());
        let chosen: Vec<NodeId> = considered[..2].iter().map(|one| one.node).collect();
        assert_eq!(chosen, replica_set(slot, &candidates, 2).iter().map(|placed| placed.node).collect::<Vec<_>>());
        assert!(considered[..2].iter().all(|one| one.reason == Reason::Chosen));
        let last = considered[..2].iter().filter_map(|one| one.rank).max().unwrap();
        for passed in &considered[2..6] {
            let higher = passed.rank.unwrap() < last;
            zone_used += usize::from(higher);
            assert_eq!(passed.reason, if higher { Reason::ZoneUsed } else { Reason::RankedLower });
        }
        let reasons: Vec<Reason> = considered[6..].iter().map(|one| one.reason).collect();
        assert_eq!(reasons, [Reason::IsEdge, Reason::NotStorage, Reason::NoWeight, Reason::AdmissionExpired]);
        assert!(considered[6..].iter().all(|one| one.rank.is_none()));
    }
    assert!(zone_used > 0, "some slot has its two best in one zone");
}

#[test]
fn log2_fixed_gives_the_golden_values() {
    // Computed with 60 decimal digits and rounded down.
    for (value, golden) in [
        (1, 0),
        (3, 1_742_684_699_131),
        (5, 2_552_986_939_188),
        (7, 3_086_719_380_096),
        (255, 8_789_884_560_377),
        (65_535, 17_592_161_839_825),
        (1_000_000_001, 32_872_487_104_266),
        (0x0123_4567_89AB_CDEF, 61_777_400_901_023),
        (1 << 63, 69_269_232_549_888),
        (0x9E37_79B9_7F4A_7C15, 69_605_417_121_137),
        (0xB529_7A4D_3F84_D5B5, 69_820_238_222_717),
        (u64::MAX, 70_368_744_177_663),
    ] {
        assert_eq!(log2_fixed(value), golden, "log2 of {value:#x}");
    }
}

#[test]
fn the_replica_sets_of_ten_nodes_are_the_golden_ones() {
    let candidates = nodes(10, 5);
    let golden = |slot| names(slot, &candidates, 3).iter().map(|node| node.0[1]).collect::<Vec<_>>();
    assert_eq!([golden(0), golden(1), golden(8_191), golden(16_383)], [[2, 5, 8], [7, 0, 9], [7, 9, 5], [7, 3, 0]]);
    assert_eq!(PlacementSlot::of(&[0; 32]).number(), 0x6668 >> 2);
}

#[test]
fn load_stays_near_the_fair_share() {
    assert!(load_max(&nodes(10, 5), 3, 1) < 1.05, "ten nodes");
    assert!(load_max(&nodes(100, 10), 3, 4) < 1.35, "a hundred nodes");
}

#[test]
fn first_choices_are_proportional_to_weight() {
    let candidates: Vec<Candidate> =
        [1, 1, 2, 4].into_iter().zip(0..).map(|(weight, n)| candidate(n, n, weight)).collect();
    let first: Vec<NodeId> = (0..SLOTS).map(|slot| names(slot, &candidates, 1)[0]).collect();
    for (candidate, weight) in candidates.iter().zip([1.0, 1.0, 2.0, 4.0]) {
        let share = first.iter().filter(|node| **node == candidate.node).count() as f64 / f64::from(SLOTS);
        assert!((share - weight / 8.0_f64).abs() < 0.015, "weight {weight} is first for {share}");
    }
}

#[test]
fn only_storage_nodes_with_weight_are_named() {
    let mut candidates = nodes(4, 4);
    candidates[0].roles = Roles::EDGE;
    candidates[1].roles = Roles::INDEX.union(Roles::VALIDATOR);
    candidates[2].weight = 0;
    for slot in 0..64 {
        assert_eq!(names(slot, &candidates, 3), [candidates[3].node]);
    }
}

#[test]
fn a_domain_is_shared_only_when_domains_run_out() {
    let candidates = nodes(6, 2);
    for slot in 0..256 {
        let set = replica_set(PlacementSlot::from_number(slot), &candidates, 4);
        assert_eq!(set.iter().map(|placed| placed.shares_domain).collect::<Vec<_>>(), [false, false, true, true]);
        assert_ne!(set[2].domain, set[3].domain, "the second round names both domains again");
    }
}

#[test]
fn equal_zones_of_two_regions_are_two_domains() {
    let mut candidates = nodes(3, 1);
    candidates[2].domain.region = "us".try_into().unwrap();
    for slot in 0..64 {
        assert!(names(slot, &candidates, 2).contains(&candidates[2].node));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn order_and_repeats_of_candidates_do_not_matter(slot in 0..SLOTS, count in 1_u16..20, zones in 1_u16..6) {
        let candidates = nodes(count, zones);
        let mut other: Vec<Candidate> = candidates.iter().rev().cloned().collect();
        other.extend(candidates.first().cloned());
        prop_assert_eq!(names(slot, &candidates, 3), names(slot, &other, 3));
    }

    #[test]
    fn one_join_or_leave_changes_at_most_one_member(
        slot in 0..SLOTS, count in 4_u16..24, zones in 1_u16..7, r in 1_usize..6, zone in 0_u16..8, weight in 1_u16..9,
    ) {
        let before = nodes(count, zones);
        let mut after = before.clone();
        after.push(candidate(1_000, zone, weight));
        let (old, new) = (names(slot, &before, r), names(slot, &after, r));
        prop_assert!(old.iter().filter(|node| !new.contains(node)).count() <= 1);
        let newcomer = after.last().unwrap().node;
        prop_assert!(new.iter().all(|node| old.contains(node) || *node == newcomer || old.len() < r));
    }

    #[test]
    fn domains_are_distinct_while_there_are_enough(seed in any::<[u8; 32]>(), count in 6_u16..40, zones in 3_u16..7) {
        let set = replica_set(PlacementSlot::of(&seed), &nodes(count, zones), 3);
        prop_assert_eq!(set.len(), 3);
        prop_assert!(set.iter().all(|placed| !placed.shares_domain));
    }
}
