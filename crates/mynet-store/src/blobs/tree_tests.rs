//! The tree against `bao-tree`, byte by byte.

use bao_tree::io::{round_up_to_chunks, sync::encode_ranges_validated};
use bao_tree::{BaoTree, ByteRanges, io::outboard::PostOrderMemOutboard, io::round_up_to_chunks_groups};
use mynet_types::Blake3Root;
use proptest::prelude::{ProptestConfig, proptest};

use super::{BLOCK, Checker, GROUP_BYTES, Item, Layout, OutboardBuilder, outboard_len};
use crate::blobs::testing::{BORDERS, bytes};

fn build(data: &[u8], step: usize) -> (Blake3Root, Vec<u8>) {
    let mut builder = OutboardBuilder::new(Vec::new());
    for part in data.chunks(step) {
        builder.update(part).unwrap();
    }
    builder.finish().unwrap()
}

/// Encodes a range of `data` as the layout says, without checking.
fn encode(data: &[u8], outboard: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let mut out = Vec::new();
    for item in Layout::new(data.len() as u64, &(range.start as u64..range.end as u64)) {
        let (from, start) = match item {
            Item::Pair { slot, .. } => (outboard, usize::try_from(slot).unwrap()),
            Item::Group { offset, .. } => (data, usize::try_from(offset).unwrap()),
        };
        out.extend_from_slice(&from[start..start + item.len()]);
    }
    out
}

fn reference(data: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
    let outboard = PostOrderMemOutboard::create(data, BLOCK);
    let chunks = round_up_to_chunks(&ByteRanges::from(range.start as u64..range.end as u64));
    let chunks = round_up_to_chunks_groups(chunks, BLOCK);
    let mut out = Vec::new();
    encode_ranges_validated(data, &outboard, &chunks, &mut out).unwrap();
    out
}

#[test]
fn one_pass_builds_the_outboard_of_bao_tree() {
    for len in BORDERS {
        let data = bytes(len);
        let want = PostOrderMemOutboard::create(&data, BLOCK);
        for step in [1000, GROUP_BYTES, 100_000] {
            let (root, outboard) = build(&data, step);
            assert_eq!(root, Blake3Root::of(&data), "{len} bytes by {step}");
            assert_eq!(outboard, want.data, "{len} bytes by {step}");
        }
        assert_eq!(outboard_len(len as u64), want.data.len() as u64);
    }
}

#[test]
fn the_encoding_is_that_of_bao_tree() {
    for len in BORDERS {
        let data = bytes(len);
        let (_root, outboard) = build(&data, len.max(1));
        let ends = [1, len / 3, len / 2 + 1, len];
        for range in ends.into_iter().flat_map(|end| [0..end.min(len), end.min(len) / 2..end.min(len)]) {
            if range.is_empty() && len > 0 {
                continue;
            }
            assert_eq!(encode(&data, &outboard, range.clone()), reference(&data, range.clone()), "{range:?} of {len}");
        }
    }
}

#[test]
fn an_empty_range_has_no_items_and_the_empty_blob_one() {
    for (size, at) in [(1, 0), (1, 1), (1500, 1500), (40_000, 40_000), (40_000, 7)] {
        assert_eq!(Layout::new(size, &(at..at)).count(), 0, "{at} of {size}");
    }
    let items: Vec<Item> = Layout::new(0, &(0..0)).collect();
    assert_eq!(items, [Item::Group { offset: 0, len: 0, root: true }]);
}

#[test]
fn geometry_holds_for_the_largest_blobs() {
    let size = crate::cipher::CIPHER_BYTES_MAX;
    let items: Vec<Item> = Layout::new(size, &(size - 1..size)).collect();
    assert!(items.len() < 64);
    let end = items.iter().map(|item| item.offset() + item.len() as u64).max().unwrap();
    assert_eq!(end, size);
    assert_eq!(outboard_len(size), BaoTree::new(size, BLOCK).outboard_size());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_range_checks_and_any_flipped_bit_is_found(
        len in 1_usize..400_000, a in 0_usize..400_000, b in 0_usize..400_000, flip in 0_usize..usize::MAX,
    ) {
        let data = bytes(len);
        let (root, outboard) = build(&data, 50_000);
        let range = a.min(b).min(len - 1)..a.max(b).clamp(1, len).max(a.min(b).min(len - 1) + 1);
        let encoded = encode(&data, &outboard, range.clone());
        assert_eq!(encoded, reference(&data, range.clone()));
        let check = |encoded: &[u8]| {
            let (mut checker, mut at) = (Checker::new(root), 0);
            Layout::new(len as u64, &(range.start as u64..range.end as u64)).try_for_each(|item| {
                at += item.len();
                checker.check(&item, &encoded[at - item.len()..at])
            })
        };
        assert_eq!(check(&encoded), Ok(()));
        let mut bad = encoded.clone();
        let at = flip % bad.len();
        bad[at] ^= 1;
        assert!(check(&bad).is_err(), "byte {at}");
    }
}
