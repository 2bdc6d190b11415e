//! Tombstones: what goes with a group, what stays, and that nothing brings it back.

use std::collections::BTreeSet;

use mynet_types::{
    GroupId, Manifest, NodeId, OwnerKey, Signed, SignedTombstone, Timestamp, Tombstone, Verdict, rpc::GroupKey,
};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    super::{Meta, Mode, StoredBlob, WriteError},
    ME, MetaWrite, NOW, Store, UNREAD, encrypted_hash, group_id, hash_of, later, manifest, receipt,
    receipts::certificate,
    replicate, signed, stored, tx, upload,
};

const PEER: NodeId = NodeId([2; 32]);

fn tombstone(manifest: &Manifest) -> SignedTombstone {
    signed(Tombstone { group_id: manifest.group_id, owner: manifest.owner, deleted_at: NOW })
}

fn bury(tombstone: SignedTombstone, holders: &[NodeId]) -> MetaWrite {
    MetaWrite::Tombstone { tombstone, from: None, holders: holders.to_vec() }
}

/// Rows of every table but those of deletions, by table.
async fn counts(meta: &Meta) -> Vec<(String, i64)> {
    let backend = meta.read.get_database_backend();
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    let names = meta.read.query_all_raw(Statement::from_string(backend, names)).await.unwrap();
    let mut counts = Vec::new();
    for name in names.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()) {
        if ["mynet_tombstones", "mynet_confirmations", "mynet_blobs"].contains(&name.as_str()) {
            continue;
        }
        let sql = format!("SELECT COUNT(*) FROM {name}");
        let row = meta.read.query_one_raw(Statement::from_string(backend, sql)).await.unwrap().unwrap();
        counts.push((name, row.try_get_by_index(0).unwrap()));
    }
    counts
}

#[tokio::test]
async fn everything_of_a_deleted_group_goes_and_nothing_of_others() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(2), NOW).await.unwrap();
    let before = counts(&store.meta).await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let receipts = vec![receipt(hash_of(1), ME, later(9)), receipt(hash_of(1), PEER, later(9))];
    store
        .meta
        .batch(
            vec![
                MetaWrite::Begin { group_id: group_id(1), replicas: 3, mode: Mode::Quorum, publication: vec![1] },
                MetaWrite::Receipts { manifest_hash: hash_of(1), receipts },
            ],
            NOW,
        )
        .await
        .unwrap();
    store.write(bury(tombstone(&manifest(1).body), &[PEER])).await;
    assert_eq!(counts(&store.meta).await, before);
    assert!(store.meta.wrapped_key(group_id(1)).await.unwrap().is_none(), "the content key is destroyed");
    for key in [GroupKey::Group(group_id(1)), GroupKey::Hash(encrypted_hash(1))] {
        assert!(store.meta.group(&key).await.unwrap().is_none());
    }
    // The bytes are garbage from now on, and nothing else is.
    let garbage: BTreeSet<_> =
        store.meta.garbage(NOW, 99).await.unwrap().into_iter().map(|stored| stored.blob.sha256).collect();
    assert_eq!(garbage, stored(1, 1).into_iter().map(|stored| stored.blob.sha256).collect());
}

#[tokio::test]
async fn a_participant_forgets_the_receipt_it_gave() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    store.write(bury(tombstone(&manifest(1).body), &[])).await;
    let restored = store.meta.restore().await.unwrap();
    assert!(restored.committed.is_empty());
    assert_eq!(restored.tombstones, [tombstone(&manifest(1).body)]);
}

#[tokio::test]
async fn nothing_brings_a_deleted_group_back() {
    let store = Store::new().await;
    store.write(bury(tombstone(&manifest(1).body), &[])).await;
    let deleted = |result: Result<_, WriteError>| matches!(result, Err(WriteError::Deleted(id)) if id == group_id(1));
    assert!(deleted(store.meta.insert_uploaded_group(upload(1), NOW).await.map(drop)));
    store.write(replicate(1, 1, UNREAD).remove(0)).await;
    assert!(deleted(store.meta.stage(tx(1), &manifest(1).body, NOW).await.map(drop)));
    store.meta.insert_uploaded_group(upload(2), NOW).await.unwrap();
}

#[tokio::test]
async fn a_tombstone_of_another_owner_takes_nothing_and_bars_nothing() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let thief = |seed: u64| Manifest { owner: OwnerKey([66; 32]), ..manifest(seed).body };
    for seed in [1, 2] {
        let write = MetaWrite::Tombstone { tombstone: tombstone(&thief(seed)), from: Some(PEER), holders: vec![] };
        store.write(write).await;
    }
    assert!(store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().is_some());
    assert!(!store.meta.is_deleted(&manifest(1).body).await.unwrap());
    assert!(store.meta.is_deleted(&thief(1)).await.unwrap());
    store.meta.batch(replicate(2, 2, UNREAD), NOW).await.unwrap();
}

#[tokio::test]
async fn confirmations_are_kept_and_a_restart_begins_with_who_is_silent() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let (one, two) = (NodeId([11; 32]), NodeId([12; 32]));
    let body = manifest(1).body;
    store.write(bury(tombstone(&body), &[one, two])).await;
    // Another owner's word about the same id must not be sent in its place.
    let thief = Manifest { owner: OwnerKey([66; 32]), ..body.clone() };
    store.write(MetaWrite::Tombstone { tombstone: tombstone(&thief), from: Some(PEER), holders: vec![] }).await;
    store.write(MetaWrite::Confirmed { group_id: group_id(1), node: two }).await;
    let store = store.restart().await;
    let deletion = store.meta.deletion(group_id(1), &body.owner.0).await.unwrap().unwrap();
    assert_eq!((deletion.confirmed, deletion.silent), (vec![two], vec![one]));
    assert_eq!(store.meta.restore().await.unwrap().deletions, [(tombstone(&body), vec![one])]);
    // The same tombstone again, as a peer tells it, changes nothing.
    let again = MetaWrite::Tombstone { tombstone: tombstone(&body), from: Some(PEER), holders: vec![two] };
    store.write(again).await;
    let deletion = store.meta.deletion(group_id(1), &body.owner.0).await.unwrap().unwrap();
    assert_eq!((deletion.confirmed, deletion.silent), (vec![two], vec![one]));
    store.write(MetaWrite::Confirmed { group_id: group_id(1), node: one }).await;
    assert_eq!(store.meta.restore().await.unwrap().deletions, []);
}

#[tokio::test]
async fn tombstones_are_paged_in_the_order_in_which_they_came() {
    let store = Store::new().await;
    let strange = |number: u8| {
        let group_id = GroupId([number; 32]);
        signed(Tombstone { group_id, owner: OwnerKey([number; 32]), deleted_at: NOW })
    };
    let writes = (0..70).map(|number| bury(strange(number), &[])).collect();
    store.meta.batch(writes, NOW).await.unwrap();
    let first = store.meta.tombstones_after(0).await.unwrap();
    let second = store.meta.tombstones_after(first.seq).await.unwrap();
    let end = store.meta.tombstones_after(second.seq).await.unwrap();
    let told: Vec<Signed<Tombstone>> = first.tombstones.iter().chain(&second.tombstones).cloned().collect();
    assert_eq!(told, (0..70).map(strange).collect::<Vec<_>>());
    assert_eq!((first.tombstones.len(), end.seq, end.tombstones.len()), (64, second.seq, 0));
}

#[tokio::test]
async fn a_peer_that_makes_up_tombstones_pushes_out_only_its_own() {
    let store = Store::new().await;
    let strange = |number: u32, peer: u8| {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        id[4] = peer;
        let body = Tombstone { group_id: GroupId(id), owner: OwnerKey([1; 32]), deleted_at: NOW };
        MetaWrite::Tombstone { tombstone: signed(body), from: Some(NodeId([peer; 32])), holders: vec![] }
    };
    store.write(strange(0, 9)).await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let of_known = MetaWrite::Tombstone {
        tombstone: tombstone(&manifest(1).body),
        from: Some(NodeId([8; 32])),
        holders: Vec::new(),
    };
    store.write(of_known).await;
    store.meta.batch((0..5000).map(|number| strange(number, 8)).collect(), NOW).await.unwrap();
    let kept = store.meta.restore().await.unwrap().tombstones;
    assert_eq!(kept.len(), 4096 + 2);
    assert!(kept.iter().any(|kept| kept.body.group_id.0[4] == 9), "that of another peer stays");
    assert!(store.meta.is_deleted(&manifest(1).body).await.unwrap(), "that of a group that was here stays");
}

#[tokio::test]
async fn what_was_rejected_goes_after_a_while_but_for_where_it_was_uploaded() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    store.meta.batch(replicate(1, 3, UNREAD), NOW).await.unwrap();
    for (seed, verdict) in [(1, Verdict::Reject), (3, Verdict::Accept)] {
        store.write(MetaWrite::Certificate(Box::new(certificate(seed, verdict)))).await;
    }
    let before = counts(&store.meta).await;
    store.meta.batch(replicate(2, 2, UNREAD), NOW).await.unwrap();
    let rejected = MetaWrite::Certificate(Box::new(certificate(2, Verdict::Reject)));
    store.write(rejected.clone()).await;
    // The same again does not begin the time anew.
    store.meta.batch(vec![rejected], later(5)).await.unwrap();
    let too_early = Timestamp(NOW.0 - 1);
    assert_eq!(store.meta.rejected(too_early, 9).await.unwrap(), []);
    for before in [too_early, NOW] {
        assert_eq!(store.meta.rejected(NOW, 9).await.unwrap(), [group_id(2)]);
        for seed in [1, 2, 3] {
            store.write(MetaWrite::Dismiss { group_id: group_id(seed), before }).await;
        }
    }
    assert_eq!(counts(&store.meta).await, before);
    let garbage = store.meta.garbage(later(1), 99).await.unwrap();
    let names = |blobs: &[StoredBlob]| blobs.iter().map(|stored| stored.blob.sha256).collect::<BTreeSet<_>>();
    assert_eq!(names(&garbage), names(&stored(2, 1)));
    // Nothing stands in its way if it comes again.
    store.meta.batch(replicate(4, 2, UNREAD), later(9)).await.unwrap();
}
