//! Transactions: atomicity, phases, claims, restarts.

use std::task::Poll;

use mynet_types::{ContentId, rpc::GroupKey};

use super::super::{Coordination, Mode, OpenTransaction, WriteError};
use super::{
    ME, MetaWrite, NOW, Store, UNREAD, content_id, encrypted_hash, group_id, hash_of, later, manifest, receipt,
    replicate, signed, stored, tx, upload,
};

fn intent(n: u8, attempt: u32, seed: u64) -> MetaWrite {
    MetaWrite::Intent { tx: tx(n), attempt, group_id: group_id(seed), reserved_bytes: 100, state: vec![n, 9] }
}

async fn refused(store: &Store, write: MetaWrite) {
    let error = store.meta.batch(vec![write.clone()], NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::WrongPhase { .. }), "{write:?}: {error}");
}

#[tokio::test]
async fn a_batch_that_fails_in_the_middle_leaves_nothing() {
    let store = Store::new().await;
    let mut writes = replicate(1, 1, UNREAD);
    writes.insert(0, intent(2, 1, 2));
    // The last write cannot succeed: nobody prepared this transaction.
    writes.push(MetaWrite::Prepared { tx: tx(3), attempt: 1, states: UNREAD, blobs: stored(3, 1) });
    let error = store.meta.batch(writes, NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::WrongPhase { tx: found, .. } if found == tx(3)));
    let restored = store.meta.restore().await.unwrap();
    assert_eq!((restored.open.len(), restored.committed.len()), (0, 0));
    assert!(store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().is_none());
    assert!(store.meta.blob(&encrypted_hash(1)).await.unwrap().is_none());
    assert_eq!(store.meta.counts(0).await.unwrap().states, 0);
}

#[tokio::test]
async fn a_batch_dropped_at_any_point_leaves_all_or_nothing_and_blocks_nobody() {
    /// Points within the batch at which it must have been dropped. How often it waits at all depends on how busy the machine is.
    const DROPPED_MIN: usize = 5;
    for wakes in 1.. {
        let store = Store::new().await;
        let mut batch = Box::pin(store.meta.batch(replicate(1, 1, UNREAD), NOW));
        let mut left = wakes;
        let finished = std::future::poll_fn(|context| match batch.as_mut().poll(context) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        })
        .await;
        drop(batch);
        // Waits for the writer, which must be free again.
        store.write(intent(2, 1, 2)).await;
        let restored = store.meta.restore().await.unwrap();
        let committed = restored.committed.len();
        assert_eq!(restored.open.len(), 1, "only the one after it");
        assert_eq!(store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().is_some(), committed == 1);
        assert_eq!(store.meta.counts(0).await.unwrap().states, 2 * committed as u64);
        if let Some(outcome) = finished {
            outcome.unwrap();
            assert!(committed == 1 && wakes > DROPPED_MIN, "the points were inside the batch");
            return;
        }
    }
}

#[tokio::test]
async fn commit_passes_pins_to_the_group_and_the_reservation_to_use() {
    let store = Store::new().await;
    let [intent, prepared, commit] = replicate(1, 1, UNREAD).try_into().unwrap();
    store.write(intent).await;
    assert_eq!(store.meta.reserved_bytes().await.unwrap(), 100);
    store.write(prepared).await;
    assert!(store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().is_none(), "prepared is not visible");
    store.write(commit.clone()).await;
    assert_eq!(store.meta.reserved_bytes().await.unwrap(), 0);
    let (group, _) = store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().unwrap();
    assert!(!group.origin && group.published);
    let blob = store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap();
    assert_eq!((blob.pins, blob.quarantined), (1, false));
    let own = receipt(hash_of(1), ME, later(1000));
    assert_eq!(store.meta.restore().await.unwrap().committed, [(tx(1), 1, group_id(1), own)]);
    // A repeat changes nothing; the outcome is final.
    store.write(commit).await;
    refused(&store, MetaWrite::Abort { tx: tx(1), attempt: 1 }).await;
    store.write(MetaWrite::Forget(tx(1))).await;
    assert!(store.meta.restore().await.unwrap().committed.is_empty());
    assert!(store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().is_some());
}

#[tokio::test]
async fn an_aborted_attempt_never_comes_back_but_a_higher_one_may() {
    let store = Store::new().await;
    store.write(intent(1, 1, 1)).await;
    store.write(MetaWrite::Prepared { tx: tx(1), attempt: 1, states: UNREAD, blobs: stored(1, 1) }).await;
    assert_eq!(store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap().pins, 1);
    store.write(MetaWrite::Abort { tx: tx(1), attempt: 1 }).await;
    assert_eq!(store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap().pins, 0);
    assert_eq!(store.meta.reserved_bytes().await.unwrap(), 0);
    refused(&store, intent(1, 1, 1)).await;
    refused(&store, MetaWrite::Prepared { tx: tx(1), attempt: 1, states: UNREAD, blobs: vec![] }).await;
    refused(&store, replicate(1, 1, UNREAD).remove(2)).await;
    assert_eq!(store.meta.restore().await.unwrap().aborted, [(tx(1), 1)]);
    store.write(intent(1, 2, 1)).await;
    refused(&store, MetaWrite::Forget(tx(1))).await;
    // An abort of a transaction never heard of is remembered too.
    store.write(MetaWrite::Abort { tx: tx(4), attempt: 3 }).await;
    assert_eq!(store.meta.restore().await.unwrap().aborted, [(tx(4), 3)]);
}

#[tokio::test]
async fn a_commit_of_another_attempt_than_prepared_is_refused() {
    let store = Store::new().await;
    store.write(intent(1, 1, 1)).await;
    store.write(MetaWrite::Prepared { tx: tx(1), attempt: 1, states: UNREAD, blobs: stored(1, 1) }).await;
    store.write(intent(1, 2, 1)).await;
    refused(&store, replicate(1, 1, UNREAD).remove(2)).await;
}

#[tokio::test]
async fn open_transactions_of_two_groups_cannot_claim_one_content_id() {
    let store = Store::new().await;
    store.write(intent(1, 1, 1)).await;
    store.write(intent(2, 1, 2)).await;
    store.meta.stage(tx(1), &manifest(1).body, NOW).await.unwrap();
    let mut thief = manifest(2).body;
    let mut members = thief.members.clone().into_vec();
    members[0].content_id = content_id(1, 1);
    thief.members = members.try_into().unwrap();
    let taken = async || store.meta.stage(tx(2), &thief, NOW).await;
    let is_conflict = |error: WriteError, id: ContentId| matches!(error, WriteError::IdConflict { content_id, owner } if content_id == id && owner == Some(group_id(1)));
    assert!(is_conflict(taken().await.unwrap_err(), content_id(1, 1)));
    // A second transaction of the same group may, and an ended one claims nothing.
    store.write(intent(3, 1, 1)).await;
    store.meta.stage(tx(3), &manifest(1).body, NOW).await.unwrap();
    store.write(MetaWrite::Abort { tx: tx(1), attempt: 1 }).await;
    assert!(is_conflict(taken().await.unwrap_err(), content_id(1, 1)));
    store.write(MetaWrite::Abort { tx: tx(3), attempt: 1 }).await;
    taken().await.unwrap();
}

#[tokio::test]
async fn staging_pins_what_is_here_and_needs_an_open_transaction() {
    let store = Store::new().await;
    store.write(intent(1, 1, 1)).await;
    assert_eq!(store.meta.stage(tx(1), &manifest(1).body, NOW).await.unwrap(), []);
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut here = store.meta.stage(tx(1), &manifest(1).body, NOW).await.unwrap();
    here.sort_by_key(|stored| stored.blob.sha256);
    let mut expected = stored(1, 1);
    expected.sort_by_key(|stored| stored.blob.sha256);
    assert_eq!(here, expected);
    assert_eq!(store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap().pins, 2);
    let error = store.meta.stage(tx(2), &manifest(1).body, NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::WrongPhase { .. }));
    let mut other = signed(manifest(1).body);
    other.body.replicas = 9;
    let error = store.meta.stage(tx(1), &other.body, NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::OtherManifest { .. }));
}

#[tokio::test]
async fn a_restart_gives_back_everything_that_was_unfinished_or_is_remembered() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(9), NOW).await.unwrap();
    let begin = |publication| MetaWrite::Begin { group_id: group_id(9), replicas: 3, mode: Mode::Quorum, publication };
    let receipts = vec![receipt(hash_of(9), ME, later(5))];
    store
        .meta
        .batch(
            vec![
                intent(1, 4, 1),
                intent(2, 1, 2),
                MetaWrite::Prepared { tx: tx(2), attempt: 1, states: UNREAD, blobs: stored(2, 1) },
                MetaWrite::Abort { tx: tx(3), attempt: 2 },
                begin(vec![1]),
                begin(vec![2]),
                MetaWrite::Decided { group_id: group_id(9), decided: vec![3] },
                MetaWrite::Receipts { manifest_hash: hash_of(9), receipts: receipts.clone() },
            ],
            NOW,
        )
        .await
        .unwrap();
    store.meta.batch(replicate(5, 5, UNREAD), NOW).await.unwrap();
    let before = store.meta.restore().await.unwrap();
    let store = store.restart().await;
    let after = store.meta.restore().await.unwrap();
    assert_eq!((before.boot, after.boot), (1, 2));
    assert_eq!(after.open, before.open);
    let open = |n: u8, attempt, prepared| OpenTransaction {
        tx: tx(n),
        attempt,
        group_id: group_id(n.into()),
        state: vec![n, 9],
        prepared,
    };
    assert_eq!(after.open, [open(1, 4, None), open(2, 1, Some(UNREAD))]);
    assert_eq!(after.aborted, [(tx(3), 2)]);
    assert_eq!(after.committed, [(tx(5), 1, group_id(5), receipt(hash_of(5), ME, later(1000)))]);
    let coordination = Coordination { group_id: group_id(9), publication: vec![2], decided: Some(vec![3]), receipts };
    assert_eq!(after.coordinations, [coordination]);
    store.write(MetaWrite::End(group_id(9))).await;
    assert!(store.meta.restore().await.unwrap().coordinations.is_empty());
}

#[tokio::test]
async fn coordinating_or_deciding_what_is_not_here_is_refused() {
    let store = Store::new().await;
    let unknown = [
        MetaWrite::Begin { group_id: group_id(1), replicas: 3, mode: Mode::Quorum, publication: vec![] },
        MetaWrite::Decided { group_id: group_id(1), decided: vec![] },
    ];
    for write in unknown {
        let error = store.meta.batch(vec![write], NOW).await.unwrap_err();
        assert!(matches!(error, WriteError::UnknownGroup(id) if id == group_id(1)));
    }
}
