//! Blobs: pins, redundant files, quarantine, garbage.

use std::collections::BTreeSet;

use mynet_types::Verdict;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    super::Keeper, MetaWrite, NOW, Store, StoredBlob, UNREAD, bytes_of, encrypted_hash, group_id, later, manifest,
    receipts::certificate, replicate, stored, tx, upload,
};

#[tokio::test]
async fn garbage_is_what_nothing_kept_for_long_enough() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let [intent, prepared, _] = replicate(1, 2, UNREAD).try_into().unwrap();
    store.meta.batch(vec![intent, prepared], NOW).await.unwrap();
    assert!(store.meta.garbage(later(1_000_000), 9).await.unwrap().is_empty(), "all is pinned");
    store.meta.batch(vec![MetaWrite::Abort { tx: tx(1), attempt: 1 }], later(10)).await.unwrap();
    assert!(store.meta.garbage(later(9), 9).await.unwrap().is_empty(), "not long enough");
    let garbage = store.meta.garbage(later(10), 9).await.unwrap();
    assert_eq!(garbage.len(), stored(2, 1).len());
    let files = store.meta.collect(&garbage, later(10)).await.unwrap();
    assert_eq!(files, garbage);
    assert!(store.meta.blob(&encrypted_hash(2)).await.unwrap().is_none());
    assert!(store.meta.blob(&encrypted_hash(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn collecting_looks_again_before_it_deletes() {
    let store = Store::new().await;
    let blob = StoredBlob { blob: bytes_of("cached", 1), generation: 1 };
    let cache = |blob| MetaWrite::Cache { blob, lease: [1; 32] };
    store.write(cache(blob)).await;
    store.write(MetaWrite::Uncache { sha256: blob.blob.sha256, lease: [1; 32] }).await;
    let seen = store.meta.garbage(later(5), 9).await.unwrap();
    assert_eq!(seen, [blob]);
    // Pinned between the look and the deletion.
    store.write(cache(blob)).await;
    assert!(store.meta.collect(&seen, later(5)).await.unwrap().is_empty());
    // Released again, but only just.
    let uncache = MetaWrite::Uncache { sha256: blob.blob.sha256, lease: [1; 32] };
    store.meta.batch(vec![uncache], later(6)).await.unwrap();
    assert!(store.meta.collect(&seen, later(5)).await.unwrap().is_empty());
    // Another file of the blob than the one seen.
    let other = StoredBlob { generation: 2, ..blob };
    assert!(store.meta.collect(&[other], later(6)).await.unwrap().is_empty());
    assert_eq!(store.meta.collect(&seen, later(6)).await.unwrap(), [blob]);
    assert!(store.meta.collect(&seen, later(6)).await.unwrap().is_empty(), "only once");
}

#[tokio::test]
async fn of_two_files_of_one_blob_the_second_is_redundant() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let mut writes = replicate(2, 1, UNREAD);
    writes[1] = MetaWrite::Prepared { tx: tx(2), attempt: 1, states: UNREAD, blobs: stored(1, 2) };
    let done = store.meta.batch(writes, NOW).await.unwrap();
    assert_eq!(done.redundant, stored(1, 2));
    assert_eq!(store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap().stored.generation, 1);
}

#[tokio::test]
async fn a_file_that_was_found_damaged_before_its_transaction_was_prepared_stays_in_quarantine() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let bad = stored(1, 1)[0];
    let intent = replicate(2, 1, UNREAD).remove(0);
    store.write(intent).await;
    // Another transaction found the file in place; then a reader found it damaged.
    assert!(store.meta.quarantine(&bad).await.unwrap());
    let prepared = MetaWrite::Prepared { tx: tx(2), attempt: 1, states: UNREAD, blobs: stored(1, 1) };
    let done = store.meta.batch(vec![prepared], NOW).await.unwrap();
    assert_eq!(done.redundant, [], "it is nobody's to unlink");
    assert!(store.meta.blob(&bad.blob.sha256).await.unwrap().unwrap().quarantined);
}

#[tokio::test]
async fn what_is_read_is_not_garbage() {
    let store = Store::new().await;
    let blob = StoredBlob { blob: bytes_of("spooled", 1), generation: 1 };
    store.write(MetaWrite::Cache { blob, lease: [1; 32] }).await;
    store.write(MetaWrite::Uncache { sha256: blob.blob.sha256, lease: [1; 32] }).await;
    assert_eq!(store.meta.blob(&blob.blob.sha256).await.unwrap().unwrap().unpinned_at, Some(NOW));
    store.meta.touch(&blob.blob.sha256, later(500)).await.unwrap();
    assert!(store.meta.garbage(later(499), 9).await.unwrap().is_empty());
    assert_eq!(store.meta.garbage(later(500), 9).await.unwrap(), [blob]);
    // What is pinned has no grace to renew.
    store.write(MetaWrite::Cache { blob, lease: [2; 32] }).await;
    store.meta.touch(&blob.blob.sha256, later(600)).await.unwrap();
    assert_eq!(store.meta.blob(&blob.blob.sha256).await.unwrap().unwrap().unpinned_at, None);
}

#[tokio::test]
async fn a_quarantined_blob_is_not_present_until_a_good_copy_replaces_it() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let bad = stored(1, 1)[0];
    assert!(!store.meta.quarantine(&StoredBlob { generation: 5, ..bad }).await.unwrap(), "another file");
    assert!(store.meta.quarantine(&bad).await.unwrap());
    assert!(store.meta.blob(&bad.blob.sha256).await.unwrap().unwrap().quarantined);
    let intent = MetaWrite::Intent { tx: tx(2), attempt: 1, group_id: group_id(1), reserved_bytes: 1, state: vec![] };
    store.write(intent).await;
    let here = store.meta.stage(tx(2), &manifest(1).body, NOW).await.unwrap();
    assert_eq!(here, [stored(1, 1)[1]]);
    let good = StoredBlob { generation: 2, ..bad };
    let prepared = MetaWrite::Prepared { tx: tx(2), attempt: 1, states: UNREAD, blobs: vec![good] };
    let done = store.meta.batch(vec![prepared], NOW).await.unwrap();
    assert_eq!(done.redundant, [bad]);
    let row = store.meta.blob(&bad.blob.sha256).await.unwrap().unwrap();
    assert_eq!((row.stored, row.quarantined), (good, false));
}

#[tokio::test]
async fn walking_all_blobs_sees_each_once_in_hash_order() {
    let store = Store::new().await;
    for seed in 1..=3 {
        store.meta.insert_uploaded_group(upload(seed), NOW).await.unwrap();
    }
    let mut walked = Vec::new();
    while let page = store.meta.blobs_after(walked.last(), 4).await.unwrap()
        && !page.is_empty()
    {
        walked.extend(page.iter().map(|stored| stored.blob.sha256));
    }
    let mut expected: Vec<_> = (1..=3).flat_map(|seed| stored(seed, 1)).map(|stored| stored.blob.sha256).collect();
    expected.sort();
    assert_eq!(walked, expected);
}

#[tokio::test]
async fn lost_is_what_is_in_quarantine_and_a_visible_group_keeps() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    // Kept by a transaction only, and by a group that is hidden.
    let [intent, prepared, _] = replicate(2, 2, UNREAD).try_into().unwrap();
    store.meta.batch(vec![intent, prepared], NOW).await.unwrap();
    store.meta.batch(replicate(3, 3, UNREAD), NOW).await.unwrap();
    store.write(MetaWrite::Certificate(Box::new(certificate(3, Verdict::Reject)))).await;
    assert!(store.meta.lost_after(None, 9).await.unwrap().is_empty());
    assert_eq!(store.meta.quarantine_all().await.unwrap(), 6);
    assert_eq!(store.meta.quarantine_all().await.unwrap(), 0);
    let lost = store.meta.lost_after(None, 9).await.unwrap();
    let mut expected = stored(1, 1);
    expected.sort_by_key(|stored| stored.blob.sha256);
    assert_eq!(lost.iter().map(|lost| lost.stored).collect::<Vec<_>>(), expected);
    assert!(lost.iter().all(|lost| lost.groups == [group_id(1)]));
    let after = store.meta.lost_after(Some(&expected[0].blob.sha256), 9).await.unwrap();
    assert_eq!(after, lost[1..]);
    assert_eq!(store.meta.lost_after(None, 1).await.unwrap(), lost[..1]);
}

#[tokio::test]
async fn a_lost_blob_is_refilled_once_and_only_where_a_row_is() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let bad = stored(1, 1)[0];
    assert!(store.meta.quarantine(&bad).await.unwrap());
    let good = StoredBlob { generation: 2, ..bad };
    assert_eq!(store.meta.refill(&good, NOW).await.unwrap().redundant, [bad]);
    let row = store.meta.blob(&bad.blob.sha256).await.unwrap().unwrap();
    assert_eq!((row.stored, row.quarantined), (good, false));
    assert!(row.pins > 0, "the group keeps it as before");
    let late = StoredBlob { generation: 3, ..bad };
    assert_eq!(store.meta.refill(&late, NOW).await.unwrap().redundant, [late], "another copy came first");
    let unknown = StoredBlob { blob: bytes_of("unknown", 1), generation: 4 };
    assert_eq!(store.meta.refill(&unknown, NOW).await.unwrap().redundant, [unknown]);
    assert!(store.meta.blob(&unknown.blob.sha256).await.unwrap().is_none());
}

#[tokio::test]
async fn what_the_statement_deletes_is_what_the_function_says_may_go() {
    let mut rng = StdRng::seed_from_u64(5);
    for _round in 0..12 {
        let store = Store::new().await;
        let blob = |n: u64| StoredBlob { blob: bytes_of("any", n), generation: 1 };
        let mut leases = BTreeSet::new();
        for step in 0..40 {
            let (n, lease) = (rng.random_range(0..6_u64), [rng.random_range(0..2_u8); 32]);
            let write = if rng.random_bool(0.5) {
                leases.insert((n, lease));
                MetaWrite::Cache { blob: blob(n), lease }
            } else {
                leases.remove(&(n, lease));
                MetaWrite::Uncache { sha256: blob(n).blob.sha256, lease }
            };
            store.meta.batch(vec![write], later(step)).await.unwrap();
        }
        let before = later(rng.random_range(0..45));
        let judged = store.meta.keepers_after(None, 99, before).await.unwrap();
        let free: Vec<StoredBlob> =
            judged.iter().filter(|(_, keeper)| keeper.is_none()).map(|(stored, _)| *stored).collect();
        for (stored, keeper) in &judged {
            let pinned = leases.iter().any(|(n, _)| blob(*n) == *stored);
            assert_eq!(*keeper == Some(Keeper::Cache), pinned);
        }
        let all: Vec<StoredBlob> = judged.into_iter().map(|(stored, _)| stored).collect();
        assert_eq!(store.meta.collect(&all, before).await.unwrap(), free);
    }
}
