//! Versions: one takes the place of another whole, and only a higher one does.

use mynet_types::{
    BoundedVec, ContentHash, ContentState, Link, Member, NodeId, Protection, RelationshipKind, Signature, Signed,
    SignedManifest, StatesMask, Tombstone, rpc::GroupKey,
};

use super::super::{GroupRows, MetaWrite, NewGroup, StoredBlob, WriteError, views::GroupView};
use super::{
    FULL, ME, NOW, Store, UNREAD, bytes_of, content_id, encrypted_hash, granted, group_id, hash_of, later, manifest,
    receipt, replicate, rows, signed, stored, tx, upload, wrap,
};

/// The next version of group 1, with another preview.
fn second() -> SignedManifest {
    let mut body = manifest(1).body;
    (body.version, body.prev) = (2, Some(body.hash()));
    let mut members = body.members.to_vec();
    members[2] = preview();
    body.members = BoundedVec::truncated(members);
    let mut links = body.links.to_vec();
    links[1] = Link { parent: content_id(1, 0), child: content_id(1, 9), kind: RelationshipKind::Preview };
    body.links = BoundedVec::truncated(links);
    signed(body)
}

fn preview() -> Member {
    let blob = Some(bytes_of("better preview", 1));
    Member { content_id: content_id(1, 9), state: ContentState::Preview, blob, mime: None }
}

/// The writes that take the next version from nothing to committed on a participant.
fn replicate_second(held: StatesMask) -> Vec<MetaWrite> {
    let (tx, attempt, manifest) = (tx(2), 1, second());
    let receipt = receipt(manifest.body.hash(), ME, later(2000));
    let new = StoredBlob { blob: bytes_of("better preview", 1), generation: 2 };
    vec![
        MetaWrite::Intent { tx, attempt, group_id: group_id(1), reserved_bytes: 10, state: vec![9] },
        MetaWrite::Prepared { tx, attempt, states: held, blobs: vec![stored(1, 1)[0], new] },
        MetaWrite::Commit { tx, attempt, rows: Box::new(GroupRows { manifest, ..rows(1, held) }), receipt },
    ]
}

async fn found(store: &Store, hash: ContentHash) -> Option<u64> {
    let found = store.meta.group(&GroupKey::Hash(hash)).await.unwrap();
    found.map(|(group, _)| group.manifest.body.version)
}

async fn view(store: &Store) -> GroupView {
    let (group, _) = store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().unwrap();
    store.meta.with_rows(vec![group]).await.unwrap().remove(0)
}

#[tokio::test]
async fn a_higher_version_takes_the_place_whole() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, FULL), NOW).await.unwrap();
    let receipts = vec![receipt(hash_of(1), NodeId([3; 32]), later(9))];
    store.write(MetaWrite::Receipts { manifest_hash: hash_of(1), receipts }).await;
    let old_key = store.meta.wrapped_key(group_id(1)).await.unwrap().unwrap();
    store.meta.batch(replicate_second(FULL), NOW).await.unwrap();

    let view = view(&store).await;
    assert_eq!((view.group.manifest.body.version, view.group.replica_count), (2, 1), "receipts are of a version");
    let ids: Vec<_> = view.states.iter().map(|row| row.id).collect();
    assert_eq!(ids, [content_id(1, 0), content_id(1, 1), content_id(1, 9)]);
    assert_eq!(view.relationships.len(), 2);
    assert_eq!(view.states[2].hash, bytes_of("better preview", 1).sha256);
    assert_eq!(view.states[0].network_metadata["version"], 2);
    assert_eq!(store.meta.receipts_of_group(group_id(1)).await.unwrap().len(), 1);
    // The key goes on, and so do the wraps of it.
    assert_eq!(store.meta.wrapped_key(group_id(1)).await.unwrap().unwrap(), old_key);
    assert_eq!(store.meta.wraps(group_id(1), None).await.unwrap(), [wrap(1, ME)]);
    assert_eq!(view.states[0].encryption_key_id, Some(old_key.0));
    // What only the old version named is found no more and kept no longer.
    assert_eq!(found(&store, bytes_of("preview", 1).sha256).await, None);
    assert_eq!(found(&store, encrypted_hash(1)).await, Some(2));
    let garbage = store.meta.garbage(later(1_000_000), 9).await.unwrap();
    assert_eq!(garbage, [stored(1, 1)[1]]);
    assert_eq!(store.meta.counts(0).await.unwrap().groups, 1);
}

/// Whoever may show a version is known for as long as the group is here, whatever became of its receipt.
#[tokio::test]
async fn who_was_told_to_commit_stays_known_over_versions_and_goes_with_the_group() {
    let store = Store::new().await;
    let known = async || {
        let told = store.meta.told(group_id(1)).await.unwrap();
        told.iter().map(|(node, version)| (node.0[0], *version)).collect::<Vec<_>>()
    };
    let tell = |version, nodes: &[u8]| MetaWrite::Told {
        group_id: group_id(1),
        version,
        nodes: nodes.iter().map(|node| NodeId([*node; 32])).collect(),
    };
    store.write(tell(1, &[9])).await;
    assert_eq!(known().await, [], "the group is not here");
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    assert_eq!(store.meta.restore().await.unwrap().versions, []);
    store.write(tell(1, &[4, 3])).await;
    let blobs = vec![StoredBlob { blob: bytes_of("better preview", 1), generation: 2 }];
    let next = NewGroup { rows: GroupRows { manifest: second(), ..rows(1, UNREAD) }, blobs, ..upload(1) };
    store.meta.insert_uploaded_group(next, NOW).await.unwrap();
    store.write(tell(2, &[3, 5])).await;
    assert_eq!(known().await, [(3, 1), (4, 1), (5, 2)]);
    assert_eq!(store.meta.restore().await.unwrap().versions, [(group_id(1), 2)]);
    let body = Tombstone { group_id: group_id(1), owner: second().body.owner, deleted_at: NOW };
    let tombstone = Signed { body, signature: Signature([0; 64]) };
    store.write(MetaWrite::Tombstone { tombstone, from: None, holders: vec![] }).await;
    store.write(tell(2, &[6])).await;
    assert_eq!(known().await, []);
}

#[tokio::test]
async fn a_version_that_is_not_committed_whole_leaves_the_old_one() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let before = view(&store).await;
    let mut writes = replicate_second(UNREAD);
    // Nobody prepared this transaction, so the batch fails after the version was replaced in it.
    writes.push(MetaWrite::Prepared { tx: tx(3), attempt: 1, states: UNREAD, blobs: vec![] });
    store.meta.batch(writes, NOW).await.unwrap_err();
    assert_eq!(view(&store).await, before);
}

#[tokio::test]
async fn only_a_higher_version_takes_a_place() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    store.meta.batch(replicate_second(UNREAD), NOW).await.unwrap();
    let mut rival = second().body;
    rival.replicas = 5;
    for older in [manifest(1), signed(rival)] {
        let tx = tx(7);
        let intent = MetaWrite::Intent { tx, attempt: 1, group_id: group_id(1), reserved_bytes: 0, state: vec![] };
        store.write(intent).await;
        let staged = store.meta.stage(tx, &older.body, NOW).await;
        assert!(matches!(staged, Err(WriteError::OtherManifest { have, .. }) if have == second().body.hash()));
        let blobs = stored(1, 1);
        store.write(MetaWrite::Prepared { tx, attempt: 1, states: UNREAD, blobs }).await;
        let receipt = receipt(older.body.hash(), ME, later(9));
        let rows = Box::new(GroupRows { manifest: older, ..rows(1, UNREAD) });
        let committed = store.meta.batch(vec![MetaWrite::Commit { tx, attempt: 1, rows, receipt }], NOW).await;
        assert!(matches!(committed, Err(WriteError::OtherManifest { .. })), "{committed:?}");
        store.meta.batch(vec![MetaWrite::Abort { tx, attempt: 1 }, MetaWrite::Forget(tx)], NOW).await.unwrap();
    }
    assert_eq!(view(&store).await.group.manifest, second());
}

#[tokio::test]
async fn the_owners_node_replaces_its_own_version_and_destroys_a_key_that_is_over() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut body = second().body;
    let root =
        Member { content_id: content_id(1, 7), blob: Some(bytes_of("other cipher", 1)), ..body.members[0].clone() };
    body.members = BoundedVec::truncated([root, body.members[1].clone()]);
    let link = Link { parent: content_id(1, 7), child: content_id(1, 1), kind: RelationshipKind::Decrypted };
    body.links = BoundedVec::truncated([link]);
    let Protection::Sealed { key_version, .. } = &mut body.protection else { unreachable!() };
    *key_version = 2;
    let held = body.states();
    let fresh = super::Granted { wrapped_key: vec![9; 48], ..granted(1) };
    let rows = GroupRows { manifest: signed(body), wraps: vec![], held, granted: Some(fresh), ..rows(1, held) };
    let blobs = vec![StoredBlob { blob: bytes_of("other cipher", 1), generation: 2 }];
    store.meta.insert_uploaded_group(NewGroup { rows, blobs, publish: None, user: None }, later(5)).await.unwrap();
    let view = view(&store).await;
    assert!(view.group.origin);
    assert_eq!(view.states.len(), 2);
    assert_eq!(store.meta.wrapped_key(group_id(1)).await.unwrap().unwrap().1, vec![9; 48]);
    assert_eq!(store.meta.contents_of_user("alice").await.unwrap(), [content_id(1, 7)]);
    assert_eq!(store.meta.garbage(later(1_000_000), 9).await.unwrap().len(), 2, "the old cipher and the old preview");
}

/// What pins the blob of the next version.
async fn is_pinned(store: &Store) -> bool {
    let blob = store.meta.blob(&bytes_of("better preview", 1).sha256).await.unwrap();
    blob.is_some_and(|row| row.unpinned_at.is_none())
}

#[tokio::test]
async fn what_a_next_version_needs_is_kept_until_it_is_dropped_or_its_group_goes() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let new = StoredBlob { blob: bytes_of("better preview", 1), generation: 2 };
    let write = |group: u64, lineage: Option<Vec<u8>>, kept: Vec<StoredBlob>, dropped: Vec<ContentHash>| {
        MetaWrite::Lineage { group_id: group_id(group), lineage, kept, dropped }
    };
    let unknown = store.meta.batch(vec![write(2, Some(vec![1]), vec![new], vec![])], NOW).await;
    assert!(unknown.is_err(), "a lineage of a group that is not here");

    store.write(write(1, Some(vec![1]), vec![new], vec![])).await;
    store.write(write(1, Some(vec![2]), vec![], vec![])).await;
    assert_eq!(store.meta.lineages(Some(group_id(1))).await.unwrap(), [(group_id(1), vec![2])]);
    assert_eq!(store.meta.lineages(None).await.unwrap().len(), 1);
    assert!(is_pinned(&store).await);
    store.write(write(1, None, vec![], vec![new.blob.sha256])).await;
    assert_eq!(store.meta.lineages(None).await.unwrap(), []);
    assert!(!is_pinned(&store).await);

    // The version that is seen pins what it needs itself.
    store.write(write(1, Some(vec![3]), vec![new], vec![])).await;
    let next =
        NewGroup { rows: GroupRows { manifest: second(), ..rows(1, FULL) }, blobs: vec![], user: None, publish: None };
    store.write(MetaWrite::Upload(Box::new(next))).await;
    assert!(is_pinned(&store).await);
    assert_eq!(view(&store).await.group.manifest.body.version, 2);
}
