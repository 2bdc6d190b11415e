//! How fast nodes are picked for a group, by the size of the network.

use divan::{Bencher, counter::ItemsCount};
use mynet_proto::placement::{Candidate, PlacementSlot, replica_set};
use mynet_types::{AdmissionRecord, NodeId, Roles, Timestamp, WrapKey};

fn main() {
    divan::main();
}

/// Three of so many nodes in ten zones.
#[divan::bench(args = [4, 40, 400])]
fn three_of(bencher: Bencher<'_, '_>, nodes: u16) {
    let record = |number: u16| {
        let (mut id, mut nonce) = ([0; 32], [0; 16]);
        id[..2].copy_from_slice(&number.to_le_bytes());
        nonce[..2].copy_from_slice(&number.to_le_bytes());
        AdmissionRecord {
            node: NodeId(id),
            wrap_key: WrapKey([0; 32]),
            roles: Roles::STORAGE,
            trusted: false,
            region: "region".try_into().expect("a short name"),
            zone: format!("zone {}", number % 10).try_into().expect("a short name"),
            weight: 1 + number % 4,
            admitted_at: Timestamp(0),
            expires_at: Timestamp::MAX,
            epoch: 0,
            issuer: NodeId(id),
            nonce,
        }
    };
    let candidates: Vec<_> = (0..nodes).map(record).map(|record| Candidate::from(&record)).collect();
    let mut slot = 0u16;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        slot = slot.wrapping_add(1) % 16_384;
        replica_set(PlacementSlot::from_number(slot), &candidates, 3)
    });
}
