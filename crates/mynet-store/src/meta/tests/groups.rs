//! Groups: visibility, the specification's rows, identity, lists.

use mynet_types::{
    BoundedVec, ContentState, ContentType, DecryptedClass, Member, NodeId, Protection, RelationshipKind, Timestamp,
    Verdict, rpc::GroupKey,
};

use super::super::{
    GroupRows, Mode, NewGroup, ReplicationStatus, StoredBlob, WriteError,
    views::{Cursor, FoundBy, Group, ListQuery},
};
use super::{
    FULL, ME, MetaWrite, NOW, Store, UNREAD, bytes_of, content_id, details, encrypted_hash, granted, group_id, later,
    manifest, receipt, receipts::certificate, replicate, rows, signed, stored, upload, wrap,
};

async fn find(store: &Store, key: GroupKey) -> Option<(Group, FoundBy)> {
    store.meta.group(&key).await.unwrap()
}

#[tokio::test]
async fn an_uploaded_group_has_the_rows_and_links_of_the_specification() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let (group, _) = find(&store, GroupKey::Group(group_id(1))).await.unwrap();
    assert!(group.origin && !group.published);
    assert_eq!((group.held, group.status, group.root), (FULL, ReplicationStatus::None, content_id(1, 0)));
    let view = store.meta.with_rows(vec![group]).await.unwrap().remove(0);
    let [encrypted, decrypted, preview] = &view.states[..] else { panic!("{:?}", view.states) };
    assert_eq!(encrypted.hash, encrypted_hash(1));
    assert_eq!(encrypted.decrypted_content_id, Some(decrypted.id));
    assert_eq!(decrypted.hash, bytes_of("plain", 1).sha256);
    assert_eq!(decrypted.original_encrypted_id, Some(encrypted.id));
    assert_eq!(preview.parent_content_id, Some(encrypted.id));
    assert_eq!(preview.tags, ["preview"]);
    assert_eq!((encrypted.filename.as_deref(), preview.filename.as_deref()), (Some("song.flac"), None));
    assert_eq!((encrypted.content_type, &encrypted.tags[..]), (Some(ContentType::Audio), &["rock".to_owned()][..]));
    let (key_id, wrapped) = store.meta.wrapped_key(group_id(1)).await.unwrap().unwrap();
    assert_eq!((encrypted.encryption_key_id, wrapped), (Some(key_id), granted(1).wrapped_key));
    let kinds: Vec<_> = view.relationships.iter().map(|link| (link.parent, link.child, link.kind)).collect();
    assert_eq!(
        kinds,
        [
            (encrypted.id, decrypted.id, RelationshipKind::Decrypted),
            (encrypted.id, preview.id, RelationshipKind::Preview)
        ]
    );
    let meta = &encrypted.network_metadata;
    let keys: Vec<_> = meta.as_object().unwrap().keys().map(String::as_str).collect();
    let mut fixed = ["group_id", "manifest_hash", "version", "blake3", "certificate_hash", "placement_slot"];
    fixed.sort_unstable();
    assert_eq!(keys, fixed);
    assert_eq!(meta["placement_slot"], 77);
    assert_eq!(meta["blake3"], bytes_of("encrypted", 1).blake3.to_string());
    assert_eq!(store.meta.contents_of_user("alice").await.unwrap(), [content_id(1, 0)]);
}

#[tokio::test]
async fn a_node_that_may_not_read_has_no_row_of_what_it_may_not_know() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    let (group, _) = find(&store, GroupKey::Hash(encrypted_hash(1))).await.unwrap();
    let view = store.meta.with_rows(vec![group]).await.unwrap().remove(0);
    let states: Vec<_> = view.states.iter().map(|row| row.state).collect();
    assert_eq!(states, [ContentState::Encrypted, ContentState::Preview]);
    assert!(view.states.iter().all(|row| row.filename.is_none() && row.content_type.is_none()));
    assert_eq!(view.states[0].decrypted_content_id, None);
    assert_eq!(view.relationships.len(), 1);
    assert!(find(&store, GroupKey::Hash(bytes_of("plain", 1).sha256)).await.is_none());

    let grant = MetaWrite::Grant { group_id: group_id(1), granted: Box::new(granted(1)) };
    store.meta.batch(vec![grant], NOW).await.unwrap();
    let (group, found_by) = find(&store, GroupKey::Hash(bytes_of("plain", 1).sha256)).await.unwrap();
    assert_eq!((group.held, found_by), (FULL, FoundBy::Plaintext));
    let view = store.meta.with_rows(vec![group]).await.unwrap().remove(0);
    assert_eq!((view.states.len(), view.relationships.len()), (3, 2));
    assert_eq!(view.states[0].decrypted_content_id, Some(content_id(1, 1)));
    assert!(view.states[0].encryption_key_id.is_some());
    assert_eq!(view.states[1].network_metadata["blake3"], bytes_of("plain", 1).blake3.to_string());
    let holders = [ME];
    assert!(view.states.iter().all(|row| row.replicated_on_peers.iter().all(|peer| !holders.contains(peer))));
}

#[tokio::test]
async fn public_content_is_one_plain_state_that_everybody_may_find() {
    let store = Store::new().await;
    let plain = bytes_of("plain", 1);
    let mut body = manifest(1).body;
    let root = Member { content_id: content_id(1, 1), state: ContentState::Decrypted, blob: Some(plain), mime: None };
    body.members = BoundedVec::truncated([root]);
    body.links = BoundedVec::new();
    body.class = DecryptedClass::Public;
    body.protection = Protection::Open { details: details() };
    body.group_id = body.derive_group_id();
    let held = body.states();
    let group = NewGroup {
        rows: GroupRows { manifest: signed(body), wraps: vec![], held, granted: None, ..rows(1, held) },
        blobs: vec![StoredBlob { blob: plain, generation: 1 }],
        publish: None,
        user: None,
    };
    store.meta.insert_uploaded_group(group, NOW).await.unwrap();
    let (group, found_by) = find(&store, GroupKey::Hash(plain.sha256)).await.unwrap();
    assert_eq!((found_by, group.root), (FoundBy::Public, content_id(1, 1)));
    assert!(store.meta.wrapped_key(group.manifest.body.group_id).await.unwrap().is_none());
    let view = store.meta.with_rows(vec![group]).await.unwrap().remove(0);
    let [row] = &view.states[..] else { panic!("{:?}", view.states) };
    assert_eq!((row.hash, row.filename.as_deref()), (plain.sha256, Some("song.flac")));
    assert_eq!(row.encryption_key_id, None);
}

#[tokio::test]
async fn a_group_is_found_by_each_of_its_names() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    store.meta.insert_uploaded_group(upload(2), NOW).await.unwrap();
    let check = async |key, expected| {
        let found = find(&store, key).await.map(|(group, by)| (group.manifest.body.group_id, by));
        assert_eq!(found, expected, "{key:?}");
    };
    let two = group_id(2);
    check(GroupKey::Group(two), Some((two, FoundBy::Public))).await;
    for member in 0..3 {
        check(GroupKey::Content(content_id(2, member)), Some((two, FoundBy::Public))).await;
    }
    check(GroupKey::Hash(encrypted_hash(2)), Some((two, FoundBy::Public))).await;
    check(GroupKey::Hash(bytes_of("preview", 2).sha256), Some((two, FoundBy::Public))).await;
    check(GroupKey::Hash(bytes_of("plain", 2).sha256), Some((two, FoundBy::Plaintext))).await;
    check(GroupKey::Hash(bytes_of("plain", 3).sha256), None).await;
    check(GroupKey::Group(group_id(3)), None).await;
}

#[tokio::test]
async fn a_content_id_of_another_group_is_refused_and_nothing_is_overwritten() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut thief = upload(2);
    let mut body = thief.rows.manifest.body.clone();
    let mut members = body.members.clone().into_vec();
    members[2].content_id = content_id(1, 0);
    body.members = members.try_into().unwrap();
    body.group_id = body.derive_group_id();
    let stolen = body.group_id;
    thief.rows.manifest = signed(body);
    let error = store.meta.insert_uploaded_group(thief, NOW).await.unwrap_err();
    let owner = Some(group_id(1));
    assert!(
        matches!(error, WriteError::IdConflict { content_id: id, owner: who } if id == content_id(1, 0) && who == owner)
    );
    assert!(find(&store, GroupKey::Group(stolen)).await.is_none());
    assert!(store.meta.blob(&encrypted_hash(2)).await.unwrap().is_none());
    let (group, _) = find(&store, GroupKey::Content(content_id(1, 0))).await.unwrap();
    assert_eq!(group.manifest, manifest(1));
}

#[tokio::test]
async fn another_manifest_of_the_same_version_is_refused() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut other = upload(1);
    other.rows.manifest.body.replicas = 9;
    let error = store.meta.insert_uploaded_group(other, NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::OtherManifest { group_id: id, .. } if id == group_id(1)));
}

#[tokio::test]
async fn uploading_the_same_group_twice_changes_nothing() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let key = store.meta.wrapped_key(group_id(1)).await.unwrap();
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let counts = store.meta.counts(2).await.unwrap();
    assert_eq!((counts.groups, counts.states), (1, 3));
    assert_eq!(store.meta.wrapped_key(group_id(1)).await.unwrap(), key);
}

#[tokio::test]
async fn a_group_whose_bytes_are_not_here_does_not_become_visible() {
    let store = Store::new().await;
    let mut lacking = upload(1);
    lacking.blobs.pop();
    let error = store.meta.insert_uploaded_group(lacking, NOW).await.unwrap_err();
    assert!(matches!(error, WriteError::BlobMissing(hash) if hash == bytes_of("preview", 1).sha256));
    assert!(find(&store, GroupKey::Group(group_id(1))).await.is_none());
}

#[tokio::test]
async fn a_hidden_group_is_answered_to_nobody() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    store.write(MetaWrite::Certificate(Box::new(certificate(1, Verdict::Reject)))).await;
    for key in [GroupKey::Group(group_id(1)), GroupKey::Hash(encrypted_hash(1)), GroupKey::Content(content_id(1, 0))] {
        assert!(find(&store, key).await.is_none());
    }
    let page = store.meta.groups(ListQuery { limit: 10, ..Default::default() }).await.unwrap();
    assert_eq!((page.items.len(), store.meta.counts(0).await.unwrap().groups), (0, 0));
}

#[tokio::test]
async fn paging_shows_each_group_once_while_others_are_inserted() {
    let store = Store::new().await;
    for seed in 1..=7 {
        store.meta.insert_uploaded_group(upload(seed), NOW).await.unwrap();
    }
    let mut seen = Vec::new();
    let mut query = ListQuery { limit: 3, ..Default::default() };
    for inserted in 8.. {
        let page = store.meta.groups(query).await.unwrap();
        seen.extend(page.items.iter().map(|group| group.manifest.body.group_id));
        let Some(next) = page.next else { break };
        // The place survives a trip through an address, and newer groups do not shift it.
        query.after = Some(next.to_string().parse::<Cursor>().unwrap());
        store.meta.insert_uploaded_group(upload(inserted), NOW).await.unwrap();
    }
    let newest_first: Vec<_> = (1..=7).rev().map(group_id).collect();
    assert_eq!(seen, newest_first);
}

#[tokio::test]
async fn a_clock_that_runs_ahead_gains_no_place_at_the_top() {
    let store = Store::new().await;
    let mut ahead = upload(1);
    ahead.rows.manifest.body.created_at = Timestamp::MAX;
    ahead.rows.manifest.body.group_id = ahead.rows.manifest.body.derive_group_id();
    ahead.rows.wraps.clear();
    store.meta.insert_uploaded_group(ahead, NOW).await.unwrap();
    let mut honest = upload(2);
    honest.rows.manifest.body.created_at = later(1);
    honest.rows.manifest.body.group_id = honest.rows.manifest.body.derive_group_id();
    honest.rows.wraps.clear();
    let expected = honest.rows.manifest.body.group_id;
    store.meta.insert_uploaded_group(honest, later(2)).await.unwrap();
    let page = store.meta.groups(ListQuery { limit: 1, ..Default::default() }).await.unwrap();
    assert_eq!(page.items[0].manifest.body.group_id, expected);
}

#[tokio::test]
async fn lists_can_be_limited_to_groups_made_here() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    store.meta.batch(replicate(1, 2, UNREAD), NOW).await.unwrap();
    let page = store.meta.groups(ListQuery { limit: 9, origin_only: true, after: None }).await.unwrap();
    let ids: Vec<_> = page.items.iter().map(|group| group.manifest.body.group_id).collect();
    assert_eq!(ids, [group_id(1)]);
}

#[tokio::test]
async fn an_upload_that_is_to_be_published_is_so_from_its_first_moment() {
    let store = Store::new().await;
    let group = NewGroup { publish: Some((5, Mode::All)), ..upload(1) };
    store.meta.insert_uploaded_group(group, NOW).await.unwrap();
    let store = store.restart().await;
    let (group, _) = find(&store, GroupKey::Group(group_id(1))).await.unwrap();
    assert_eq!((group.published, group.replicas_wanted, group.mode), (true, 5, Mode::All));
    assert_eq!(group.status, ReplicationStatus::Pending);
    assert!(store.meta.restore().await.unwrap().coordinations.is_empty(), "the core has not heard of it");
}

#[tokio::test]
async fn nobody_replaces_the_wraps_of_another_owner_nor_stops_the_store_with_a_version() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut forged = wrap(1, ME);
    (forged.body.owner, forged.body.ciphertext) = (mynet_types::OwnerKey([9; 32]), [9; 48]);
    let mut endless = wrap(1, ME);
    endless.body.version = u64::MAX;
    let wraps = vec![forged, endless];
    store.write(MetaWrite::Wraps { group_id: group_id(1), wraps }).await;
    assert_eq!(store.meta.wraps(group_id(1), None).await.unwrap(), [wrap(1, ME)]);
}

#[tokio::test]
async fn wraps_are_merged_by_reader_and_given_to_their_reader() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let peer = NodeId([2; 32]);
    let strangers = wrap(2, peer);
    let wraps = vec![wrap(1, peer), wrap(1, peer), strangers];
    store.write(MetaWrite::Wraps { group_id: group_id(1), wraps }).await;
    assert_eq!(store.meta.wraps(group_id(1), None).await.unwrap(), [wrap(1, ME), wrap(1, peer)]);
    assert_eq!(store.meta.wraps(group_id(1), Some(&peer)).await.unwrap(), [wrap(1, peer)]);
    assert_eq!(store.meta.wraps(group_id(1), Some(&NodeId([3; 32]))).await.unwrap(), []);
}

#[tokio::test]
async fn counts_add_up() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    store.meta.batch(replicate(1, 2, UNREAD), NOW).await.unwrap();
    let begin = MetaWrite::Begin { group_id: group_id(1), replicas: 3, mode: Mode::Quorum, publication: vec![1] };
    store.write(begin).await;
    let counts = store.meta.counts(1).await.unwrap();
    assert_eq!((counts.groups, counts.states, counts.at_risk), (2, 5, 1));
    assert_eq!(counts.by_status[&ReplicationStatus::Pending], 1);
    assert_eq!(counts.by_status[&ReplicationStatus::Replicating], 1);
    let sizes: u64 = [stored(1, 1), stored(2, 1)].concat().iter().map(|stored| stored.blob.size).sum();
    assert_eq!(counts.bytes, sizes);
}

#[tokio::test]
async fn a_coordinator_that_is_also_a_holder_keeps_its_origin() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let begin = MetaWrite::Begin { group_id: group_id(1), replicas: 3, mode: Mode::All, publication: vec![1] };
    store.write(begin).await;
    let done = store.meta.batch(replicate(1, 1, FULL), NOW).await.unwrap();
    assert!(done.redundant.is_empty());
    let (group, _) = find(&store, GroupKey::Group(group_id(1))).await.unwrap();
    assert!(group.origin);
    assert_eq!((group.replica_count, group.mode), (1, Mode::All));
    assert_eq!(store.meta.blob(&encrypted_hash(1)).await.unwrap().unwrap().pins, 1);
    assert_eq!(rows(1, FULL).placement_slot, group.placement_slot);
    let own = receipt(group.manifest_hash, ME, later(1000));
    assert_eq!(store.meta.receipts_of_group(group_id(1)).await.unwrap(), [own]);
}
