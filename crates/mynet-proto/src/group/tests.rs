//! One test per rule of groups, and a property over arbitrary links.

use std::collections::BTreeMap;

use mynet_types::{
    BlobRef, BoundedVec, ContentId, ContentState, ContentType, DecryptedClass, Details, GroupId, Link, Manifest,
    ManifestHash, Member, OwnerKey, Protection, RejectReason, RelationshipKind, Timestamp, content::BLOB_BYTES_MAX,
    manifest::Aead,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{
    DEPTH_MAX, DiscoverError, GroupError, LinksError, Row, SuccessionError, discover, verify_manifest,
    verify_succession, walk,
};

const ENCRYPTED: ContentId = ContentId([1; 16]);
const DECRYPTED: ContentId = ContentId([2; 16]);
const PREVIEW: ContentId = ContentId([3; 16]);
const ALICE: OwnerKey = OwnerKey([7; 32]);

fn link(parent: ContentId, child: ContentId, kind: RelationshipKind) -> Link {
    Link { parent, child, kind }
}

fn usual_links() -> Vec<Link> {
    vec![link(ENCRYPTED, DECRYPTED, RelationshipKind::Decrypted), link(ENCRYPTED, PREVIEW, RelationshipKind::Preview)]
}

fn usual_rows() -> BTreeMap<ContentId, Row> {
    [(ENCRYPTED, ContentState::Encrypted), (DECRYPTED, ContentState::Decrypted), (PREVIEW, ContentState::Preview)]
        .into_iter()
        .map(|(id, state)| (id, Row { owner: ALICE, state }))
        .collect()
}

fn usual_members() -> BTreeMap<ContentId, ContentState> {
    usual_rows().into_iter().map(|(id, row)| (id, row.state)).collect()
}

fn member(content_id: ContentId, state: ContentState, bytes: Option<&[u8]>) -> Member {
    Member { content_id, state, blob: bytes.map(BlobRef::of), mime: None }
}

/// A right manifest, changed by `change`, with the group id derived after the change.
pub(crate) fn manifest(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let mut manifest = Manifest {
        format: 1,
        group_id: GroupId([0; 32]),
        version: 1,
        prev: None,
        owner: ALICE,
        created_at: Timestamp(1),
        placement_seed: [9; 32],
        replicas: 3,
        quorum: 2,
        members: BoundedVec::truncated([
            member(ENCRYPTED, ContentState::Encrypted, Some(b"cipher")),
            member(DECRYPTED, ContentState::Decrypted, None),
            member(PREVIEW, ContentState::Preview, Some(b"preview")),
        ]),
        links: BoundedVec::truncated(usual_links()),
        class: DecryptedClass::Granted,
        protection: Protection::Sealed {
            key_version: 1,
            algorithm: Aead::ChaCha20Poly1305,
            salt: [1; 16],
            key_commitment: [2; 32],
            decrypted_commitment: [3; 32],
            sealed_hash: [4; 32],
        },
    };
    change(&mut manifest);
    manifest.group_id = manifest.derive_group_id();
    manifest
}

fn open() -> Protection {
    Protection::Open {
        details: Details {
            content_type: ContentType::Audio,
            mime: "audio/flac".try_into().unwrap(),
            filename: "song.flac".try_into().unwrap(),
            tags: BoundedVec::new(),
        },
    }
}

#[test]
fn every_member_leads_to_the_same_group() {
    let from_root = discover(ENCRYPTED, &usual_rows(), &usual_links()).unwrap();
    assert_eq!(from_root.root, ENCRYPTED);
    assert_eq!(from_root.members.len(), 3);
    let mut reversed = usual_links();
    reversed.reverse();
    for start in [DECRYPTED, PREVIEW] {
        assert_eq!(discover(start, &usual_rows(), &reversed).unwrap(), from_root);
    }
}

#[test]
fn relationships_of_other_groups_are_ignored() {
    let other = [ContentId([8; 16]), ContentId([9; 16])];
    let mut links = usual_links();
    links.push(link(other[0], other[1], RelationshipKind::Preview));
    assert_eq!(discover(PREVIEW, &usual_rows(), &links).unwrap().links, usual_links());
}

#[test]
fn each_defect_of_rows_has_its_name() {
    let gone = ContentId([4; 16]);
    assert_eq!(discover(gone, &usual_rows(), &[]), Err(DiscoverError::MissingRow(gone)));

    let mut links = usual_links();
    links.push(link(ENCRYPTED, gone, RelationshipKind::Preview));
    assert_eq!(discover(ENCRYPTED, &usual_rows(), &links), Err(DiscoverError::MissingRow(gone)));

    let mut rows = usual_rows();
    rows.get_mut(&PREVIEW).unwrap().owner = OwnerKey([8; 32]);
    assert_eq!(discover(ENCRYPTED, &rows, &usual_links()), Err(DiscoverError::OtherOwner(PREVIEW)));
}

/// Rows in a line, each the preview of the one before.
fn line(rows: u8) -> (BTreeMap<ContentId, Row>, Vec<Link>) {
    let id = |index: u8| ContentId([index; 16]);
    let row = Row { owner: ALICE, state: ContentState::Preview };
    (
        (0..rows).map(|index| (id(index), row)).collect(),
        (1..rows).map(|index| link(id(index - 1), id(index), RelationshipKind::Preview)).collect(),
    )
}

#[test]
fn discovery_is_bounded_in_depth_and_number() {
    let far = u8::try_from(DEPTH_MAX + 1).unwrap();
    let (rows, links) = line(far + 1);
    assert_eq!(discover(ContentId([0; 16]), &rows, &links), Err(DiscoverError::TooFar(ContentId([far; 16]))));

    let hub = ContentId([0; 16]);
    let (rows, _) = line(40);
    let star: Vec<Link> =
        rows.keys().filter(|id| **id != hub).map(|id| link(hub, *id, RelationshipKind::Preview)).collect();
    assert_eq!(discover(hub, &rows, &star), Err(DiscoverError::TooMany));
}

#[test]
fn each_broken_rule_of_links_has_its_name() {
    let check = |links: &[Link], want: LinksError| assert_eq!(walk(&usual_members(), links), Err(want), "{links:?}");
    let [decrypted, preview] = usual_links().try_into().unwrap();

    check(&[preview], LinksError::SecondRoot { first: ENCRYPTED, second: DECRYPTED });
    check(&[decrypted, preview, preview], LinksError::Repeated { parent: ENCRYPTED, child: PREVIEW });
    check(
        &[decrypted, link(ENCRYPTED, PREVIEW, RelationshipKind::Decrypted)],
        LinksError::WrongKind { child: PREVIEW },
    );
    let stranger = ContentId([5; 16]);
    check(&[link(stranger, PREVIEW, RelationshipKind::Preview)], LinksError::UnknownEnd(stranger));
    let to_root = link(PREVIEW, ENCRYPTED, RelationshipKind::Encrypted);
    check(&[decrypted, preview, to_root], LinksError::NoRoot);
    let cycle =
        [link(DECRYPTED, PREVIEW, RelationshipKind::Preview), link(PREVIEW, DECRYPTED, RelationshipKind::Decrypted)];
    check(&cycle, LinksError::Cycle(DECRYPTED));

    let twice = BTreeMap::from([(ENCRYPTED, ContentState::Preview), (PREVIEW, ContentState::Preview)]);
    assert_eq!(walk(&twice, &[]), Err(LinksError::RepeatedState(ContentState::Preview)));
    let alone = BTreeMap::from([(PREVIEW, ContentState::Preview)]);
    assert_eq!(walk(&alone, &[]), Err(LinksError::RootState(PREVIEW)));
    assert_eq!(walk(&BTreeMap::new(), &[]), Err(LinksError::NoRoot));
}

#[test]
fn a_right_manifest_of_either_kind_passes() {
    assert_eq!(verify_manifest(&manifest(|_| ())), Ok(()));
    let public = manifest(|m| {
        m.class = DecryptedClass::Public;
        m.protection = open();
        m.links = BoundedVec::new();
        m.members = BoundedVec::truncated([member(DECRYPTED, ContentState::Decrypted, Some(b"plain"))]);
    });
    assert_eq!(verify_manifest(&public), Ok(()));
    let second = manifest(|m| (m.version, m.prev) = (2, Some(ManifestHash([6; 32]))));
    assert_eq!(verify_manifest(&second), Ok(()));
}

#[test]
fn the_largest_states_that_can_be_stored_pass_and_add_up() {
    let largest = manifest(|m| {
        let mut members = m.members.to_vec();
        for blob in members.iter_mut().filter_map(|member| member.blob.as_mut()) {
            blob.size = BLOB_BYTES_MAX;
        }
        m.members = members.try_into().unwrap();
    });
    assert_eq!(verify_manifest(&largest), Ok(()));
    assert!(i64::try_from(largest.stored_bytes()).is_ok(), "a database keeps the sum in a signed column");
}

#[test]
fn each_broken_rule_of_manifests_has_its_name() {
    let check = |change: fn(&mut Manifest), want: GroupError| assert_eq!(verify_manifest(&manifest(change)), Err(want));
    check(|m| m.format = 2, GroupError::Format(2));
    check(|m| m.version = 0, GroupError::Version { version: 0 });
    check(|m| m.version = 2, GroupError::Version { version: 2 });
    check(|m| m.prev = Some(ManifestHash([6; 32])), GroupError::Version { version: 1 });
    check(|m| m.quorum = 0, GroupError::Replicas { quorum: 0, replicas: 3 });
    check(|m| m.replicas = 1, GroupError::Replicas { quorum: 2, replicas: 1 });
    check(|m| m.class = DecryptedClass::Public, GroupError::Blob(ContentState::Decrypted));
    check(|m| m.protection = open(), GroupError::Class);
    check(
        |m| {
            m.members = BoundedVec::truncated([
                member(ENCRYPTED, ContentState::Encrypted, Some(b"cipher")),
                member(ENCRYPTED, ContentState::Preview, Some(b"preview")),
            ]);
        },
        GroupError::RepeatedMember(ENCRYPTED),
    );
    check(
        |m| {
            let mut members = m.members.to_vec();
            members[2].blob = Some(BlobRef { size: BLOB_BYTES_MAX + 1, ..BlobRef::of(b"") });
            m.members = members.try_into().unwrap();
        },
        GroupError::Size(ContentState::Preview),
    );
    check(
        |m| m.links = BoundedVec::new(),
        GroupError::Links(LinksError::SecondRoot { first: ENCRYPTED, second: DECRYPTED }),
    );
    let mut renamed = manifest(|_| ());
    renamed.group_id = GroupId([1; 32]);
    assert_eq!(verify_manifest(&renamed), Err(GroupError::GroupId));
}

#[test]
fn an_unknown_format_is_never_rejected() {
    assert_eq!(GroupError::Format(2).reject_reason(), None);
    assert_eq!(GroupError::Links(LinksError::NoRoot).reject_reason(), Some(RejectReason::LinksInvalid));
    assert_eq!(GroupError::GroupId.reject_reason(), Some(RejectReason::ManifestInvalid));
}

fn any_link() -> impl Strategy<Value = Link> {
    let end = prop::sample::select(vec![ENCRYPTED, DECRYPTED, PREVIEW]);
    let kind =
        prop::sample::select(vec![RelationshipKind::Encrypted, RelationshipKind::Decrypted, RelationshipKind::Preview]);
    (end.clone(), end, kind).prop_map(|(parent, child, kind)| Link { parent, child, kind })
}

proptest! {
    #[test]
    fn discovery_and_verification_agree(links in prop::collection::btree_set(any_link(), 0..6), shuffled in any::<bool>()) {
        let mut given: Vec<Link> = links.into_iter().collect();
        let verdict = walk(&usual_members(), &given);
        if shuffled {
            given.reverse();
        }
        match (discover(ENCRYPTED, &usual_rows(), &given), verdict) {
            (Ok(found), Ok(root)) => prop_assert_eq!(found.root, root),
            // Discovery sees only what hangs together: it finds a smaller group where rows are not linked.
            (Ok(found), Err(LinksError::SecondRoot { .. } | LinksError::NoRoot | LinksError::Cycle(_)
                | LinksError::WrongKind { .. })) => prop_assert!(found.members.len() < 3),
            (Err(DiscoverError::Links(_)), Err(_)) => {}
            (found, verdict) => prop_assert!(false, "{found:?} {verdict:?}"),
        }
    }

    #[test]
    fn a_child_is_never_the_root(links in prop::collection::vec(any_link(), 0..6)) {
        if let Ok(root) = walk(&usual_members(), &links) {
            prop_assert!(links.iter().all(|link| link.child != root));
        }
    }
}

/// A right next version of [`manifest`] with the preview replaced, changed by `change`.
fn successor(change: impl FnOnce(&mut Manifest)) -> Manifest {
    let before = manifest(|_| ());
    let new = ContentId([4; 16]);
    let mut next = Manifest { version: 2, prev: Some(before.hash()), ..before };
    let [encrypted, decrypted, _] = <[Member; 3]>::try_from(next.members.to_vec()).unwrap();
    next.members = BoundedVec::truncated([encrypted, decrypted, member(new, ContentState::Preview, Some(b"better"))]);
    next.links = BoundedVec::truncated([usual_links()[0], link(ENCRYPTED, new, RelationshipKind::Preview)]);
    change(&mut next);
    next
}

/// Gives a next version another encrypted state.
fn reencrypt(next: &mut Manifest) {
    let new = ContentId([5; 16]);
    let mut members = next.members.to_vec();
    members[0] = member(new, ContentState::Encrypted, Some(b"other cipher"));
    next.members = BoundedVec::truncated(members);
    next.links = BoundedVec::truncated(next.links.iter().map(|link| Link { parent: new, ..*link }));
}

fn protect(next: &mut Manifest, version: u64, commitment: u8) {
    let Protection::Sealed { key_version, key_commitment, .. } = &mut next.protection else { unreachable!() };
    (*key_version, *key_commitment) = (version, [commitment; 32]);
}

#[test]
fn a_version_may_replace_members_or_everything_under_a_fresh_key() {
    let before = manifest(|_| ());
    let fresh = successor(|next| {
        reencrypt(next);
        protect(next, 2, 9);
    });
    for next in [successor(|_| ()), fresh] {
        assert_eq!(verify_manifest(&next), Ok(()));
        assert_eq!(verify_succession(&before, &next), Ok(()));
    }
}

#[test]
fn each_defect_of_a_succession_has_its_name() {
    let check = |expected: SuccessionError, change: fn(&mut Manifest)| {
        assert_eq!(verify_succession(&manifest(|_| ()), &successor(change)), Err(expected));
    };
    check(SuccessionError::Lineage, |next| next.version = 3);
    check(SuccessionError::Lineage, |next| next.group_id = GroupId([1; 32]));
    check(SuccessionError::Lineage, |next| next.owner = OwnerKey([1; 32]));
    check(SuccessionError::Lineage, |next| next.prev = Some(ManifestHash([1; 32])));
    check(SuccessionError::Placement, |next| next.placement_seed = [1; 32]);
    check(SuccessionError::Class, |next| next.class = DecryptedClass::None);
    check(SuccessionError::Member(ContentId([3; 16])), |next| {
        let mut members = next.members.to_vec();
        members[2].content_id = PREVIEW;
        next.members = BoundedVec::truncated(members);
    });
    // The same key for other ciphertext, another key under the old number, another sealed part under the same key.
    check(SuccessionError::Key, reencrypt);
    check(SuccessionError::Key, |next| protect(next, 1, 9));
    check(SuccessionError::Key, |next| {
        let Protection::Sealed { sealed_hash, .. } = &mut next.protection else { unreachable!() };
        *sealed_hash = [9; 32];
    });
}

#[test]
fn a_key_is_of_a_version_that_there_is() {
    for (version, key_version) in [(1, 0), (1, 2)] {
        let wrong = manifest(|manifest| protect(manifest, key_version, 2));
        assert_eq!(verify_manifest(&wrong), Err(GroupError::KeyVersion { version, key_version }));
    }
}
