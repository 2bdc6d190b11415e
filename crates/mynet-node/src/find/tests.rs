//! Rules of finding and reading through the network: lies, gaps, and what peers and strangers learn from being asked.

use std::time::{Duration, Instant};

use futures::{TryStreamExt, future::join_all};
use mynet_store::{keys::KeyFiles, meta::FoundBy};
use mynet_types::{
    AdmissionRecord, BoundedVec, ContentHash, ContentState, GroupId, ManifestHash, Roles, Signed, SignedManifest,
    StatesMask, StorageReceipt, Timestamp,
    rpc::{GroupInfo, GroupKey},
};

use super::{MISS, MISSES_MAX, Misses, STRANGERS_MAX};
use crate::{
    handle::{AddOptions, Asker, Grant, NodeError, NodeHandle, Source},
    testing::{Founder, Puppet, until},
    view::{FindOutcome, Scope},
};

const USER: Asker = Asker::Key(Scope::Read);

/// Reads all that a key names.
async fn read(handle: &NodeHandle, key: GroupKey, asker: Asker) -> Result<Vec<u8>, NodeError> {
    let info = handle.open(key, None, asker).await?;
    let stream = handle.read(&info, 0, info.size).await?;
    stream.try_fold(Vec::new(), |all, some| async move { Ok([all, some.to_vec()].concat()) }).await
}

/// Adds private content to the founder without publishing it.
async fn add(founder: &Founder, bytes: &'static [u8]) -> ContentHash {
    founder.add(bytes, |options| options.grant = Grant::Trusted).await;
    ContentHash::of(bytes)
}

fn with_receipts(info: &mut GroupInfo, puppets: &[&Puppet]) {
    info.receipts = BoundedVec::truncated(puppets.iter().map(|puppet| puppet.receipt(&info.manifest)));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_do_not_have_the_hash_asked_for_are_never_served() {
    let founder = Founder::start().await;
    let liar = Puppet::join(&founder, "liar", true).await;
    let name = ContentHash::of(b"what everybody wants");
    let manifest = liar.public(b"what the liar likes", 1, Some(name)).await;
    let (group, hash) = (GroupKey::Group(manifest.body.group_id), GroupKey::Hash(name));
    // One receipt and a certificate that needed no more than that: its owner's own W.
    liar.amend(|info| with_receipts(info, &[&liar]));
    for certified in [false, true] {
        if certified {
            let file = founder.certificate(&manifest, &[&liar]);
            liar.amend(|info| info.certificate = Some(Box::new(file.clone())));
        }
        for key in [group, hash] {
            for asker in [USER, Asker::Anonymous] {
                let got = read(&founder.handle, key, asker).await;
                assert!(got.is_err(), "{key:?} for {asker:?}, certified: {certified}: {:?}", got.unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_enough_nodes_stand_by_streams_and_what_a_certificate_names_too() {
    let founder = Founder::start().await;
    let one = Puppet::join(&founder, "one", true).await;
    let two = Puppet::join(&founder, "two", true).await;
    let manifest = one.public(b"good bytes", 2, None).await;
    let key = GroupKey::Group(manifest.body.group_id);
    let unproven = read(&founder.handle, key, Asker::Anonymous).await;
    assert!(matches!(unproven, Err(NodeError::Unavailable(_))), "{unproven:?}");
    one.amend(|info| with_receipts(info, &[&one, &two]));
    assert_eq!(read(&founder.handle, key, Asker::Anonymous).await.unwrap(), b"good bytes");
    let file = founder.certificate(&manifest, &[&one, &two]);
    one.amend(|info| {
        info.receipts = BoundedVec::new();
        info.certificate = Some(Box::new(file.clone()));
    });
    assert_eq!(read(&founder.handle, key, Asker::Anonymous).await.unwrap(), b"good bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unproven_blob_is_fetched_whole_and_read_by_ranges_and_leaves_no_staging() {
    let founder = Founder::start().await;
    let holder = Puppet::join(&founder, "holder", true).await;
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let manifest = holder.public(&bytes, 2, None).await;
    let key = GroupKey::Group(manifest.body.group_id);
    let info = founder.handle.open(key, None, USER).await.unwrap();
    assert_eq!(info.source, Source::Peer);
    let part = founder.handle.read(&info, 100_000, 70_000).await.unwrap();
    let part = part.try_fold(Vec::new(), |all, some| async move { Ok([all, some.to_vec()].concat()) }).await.unwrap();
    assert!(part == bytes[100_000..170_000]);
    let again = founder.handle.open(key, None, USER).await.unwrap();
    assert_eq!(again.source, Source::Cache, "the next range is not fetched again");
    let row = founder.shell().meta.blob(&ContentHash::of(&bytes)).await.unwrap().unwrap();
    assert_eq!(row.pins, 0, "nothing keeps it longer than the grace of garbage");
    assert_eq!(std::fs::read_dir(founder.temp.path().join("founder/staging")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_of_another_version_is_nobodys_group() {
    let founder = Founder::start().await;
    let liar = Puppet::join(&founder, "liar", true).await;
    let manifest = liar.public(b"mine", 2, None).await;
    let victim = GroupId([7; 32]);
    let second =
        mynet_types::Manifest { group_id: victim, version: 2, prev: Some(ManifestHash([1; 32])), ..manifest.body };
    let second: SignedManifest = Signed::new(&founder.shell().network, second, liar.keys.owner());
    let mut info = liar.script.groups.lock().unwrap().values().next().unwrap().clone();
    info.manifest = second;
    liar.tell(&[GroupKey::Group(victim)], &info);
    let shown = founder.handle.show(GroupKey::Group(victim)).await;
    assert!(matches!(shown, Err(NodeError::Unknown(_))), "{shown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_put_together_and_receipts_of_a_holder_count_once() {
    let founder = Founder::start().await;
    let one = Puppet::join(&founder, "one", true).await;
    let two = Puppet::join(&founder, "two", true).await;
    let me = founder.shell().members.admission(&founder.shell().me()).unwrap();
    let (info, wraps) = one.private(b"for the founder", &[me]).await;
    let key = GroupKey::Group(info.manifest.body.group_id);
    // Each knows its own receipt; only the second, whichever is asked first, has the wrap.
    let mut first = info.clone();
    with_receipts(&mut first, &[&one, &one]);
    let mut second = info.clone();
    with_receipts(&mut second, &[&two]);
    second.wraps = BoundedVec::truncated(wraps);
    for (a, b) in [(&first, &second), (&second, &first)] {
        one.tell(&[key], a);
        two.tell(&[key], b);
        let view = founder.handle.show(key).await.unwrap();
        assert_eq!(view.replica_count, 2, "{view:?}");
        // The second has no bytes, so the first is asked for them whatever the order.
        assert_eq!(read(&founder.handle, key, USER).await.unwrap(), b"for the founder");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_receipts_that_stand_are_counted() {
    let founder = Founder::start().await;
    let one = Puppet::join(&founder, "one", true).await;
    let two = Puppet::join(&founder, "two", true).await;
    let outside = Puppet::make(&founder, "outside", true).await;
    let edge = Puppet::make(&founder, "edge", true).await;
    let (network, founder_key) = (founder.shell().network, founder.shell().keys.node());
    let as_edge = AdmissionRecord { roles: Roles::EDGE, ..edge.admission.body.clone() };
    founder.shell().learn_members(vec![Signed::new(&network, as_edge, founder_key)], vec![]).await;
    let manifest = one.public(b"content", 2, None).await;
    let ended = StorageReceipt { until: Timestamp(1), ..two.receipt(&manifest).body };
    let partial = StorageReceipt { states: StatesMask::EMPTY, ..two.receipt(&manifest).body };
    let forged = Signed { body: two.receipt(&manifest).body, signature: one.receipt(&manifest).signature };
    let receipts = [
        one.receipt(&manifest),
        one.receipt(&manifest),
        Signed::new(&network, ended, two.keys.node()),
        Signed::new(&network, partial, two.keys.node()),
        forged,
        outside.receipt(&manifest),
        edge.receipt(&manifest),
    ];
    one.amend(|info| info.receipts = BoundedVec::truncated(receipts.clone()));
    let view = founder.handle.show(GroupKey::Group(manifest.body.group_id)).await.unwrap();
    assert_eq!(view.replica_count, 1, "{view:?}");
    assert_eq!(view.replicated_on_peers, [one.keys.node_id()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_holder_that_was_away_when_it_was_granted_reads_by_the_wrap_that_a_peer_kept() {
    let founder = Founder::start().await;
    let owner = Puppet::join(&founder, "owner", true).await;
    let me = founder.shell().members.admission(&founder.shell().me()).unwrap();
    let (mut info, wraps) = owner.private(b"granted later", &[me]).await;
    founder.hold(&info).await;
    let encrypted = info.manifest.body.member(ContentState::Encrypted).unwrap().blob.unwrap();
    let row = founder.shell().meta.blob(&encrypted.sha256).await.unwrap().unwrap();
    // Its bytes are not here, so they come from the owner too.
    founder.shell().meta.quarantine(&row.stored).await.unwrap();
    let key = GroupKey::Group(info.manifest.body.group_id);
    owner.tell(&[key], &info);
    let refused = read(&founder.handle, key, USER).await;
    assert!(matches!(refused, Err(NodeError::Forbidden(_))), "{refused:?}");
    info.wraps = BoundedVec::truncated(wraps);
    owner.tell(&[key], &info);
    assert_eq!(read(&founder.handle, key, USER).await.unwrap(), b"granted later");
}

#[tokio::test(flavor = "multi_thread")]
async fn plaintext_that_does_not_have_its_hash_is_never_served() {
    let founder = Founder::start().await;
    let owner = Puppet::join(&founder, "owner", true).await;
    let other = Puppet::join(&founder, "other", true).await;
    let me = founder.shell().members.admission(&founder.shell().me()).unwrap();
    let (mut info, wraps) = owner.sealed(b"a forged film", b"the true film", std::slice::from_ref(&me)).await;
    info.wraps = BoundedVec::truncated(wraps);
    // Two nodes stand by the ciphertext, and neither says that it read the film.
    with_receipts(&mut info, &[&owner, &other]);
    let key = GroupKey::Group(info.manifest.body.group_id);
    owner.tell(&[key], &info);
    for _again in 0..2 {
        let refused = read(&founder.handle, key, USER).await;
        assert!(matches!(refused, Err(NodeError::Unavailable(_))), "{refused:?}");
    }
    let (mut honest, wraps) = owner.private(b"the true film", &[me]).await;
    honest.wraps = BoundedVec::truncated(wraps);
    with_receipts(&mut honest, &[&owner, &other]);
    let key = GroupKey::Group(honest.manifest.body.group_id);
    owner.tell(&[key], &honest);
    assert_eq!(read(&founder.handle, key, USER).await.unwrap(), b"the true film");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_most_nodes_stand_by_wins_over_what_the_first_says() {
    let founder = Founder::start().await;
    let one = Puppet::join(&founder, "one", true).await;
    let two = Puppet::join(&founder, "two", true).await;
    let (liar, honest) = if one.keys.node_id() < two.keys.node_id() { (one, two) } else { (two, one) };
    let good = honest.public(b"good bytes", 2, None).await;
    let name = ContentHash::of(b"good bytes");
    liar.public(b"bad bytes!", 1, Some(name)).await;
    liar.amend(|info| with_receipts(info, &[&liar]));
    honest.amend(|info| with_receipts(info, &[&honest, &liar]));
    let found = founder.shell().find_group(GroupKey::Hash(name)).await.unwrap();
    assert_eq!(found.manifest, good.body);
    assert_eq!(read(&founder.handle, GroupKey::Hash(name), USER).await.unwrap(), b"good bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_admitted_no_more_is_not_waited_for() {
    let founder = Founder::start().await;
    let keys = KeyFiles::create(founder.temp.path()).unwrap();
    let admission = founder.admission(&keys, true, Duration::from_secs(1));
    founder.shell().learn_members(vec![admission.clone()], vec![]).await;
    let hash = ContentHash::of(b"nobody has this");
    assert_eq!(founder.handle.find(hash).await.unwrap().outcome, FindOutcome::Unknown);
    until("the admission to end", async || crate::driver::wall_clock() >= admission.body.expires_at).await;
    assert_eq!(founder.handle.find(hash).await.unwrap().outcome, FindOutcome::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plaintext_hash_that_is_known_here_or_to_a_trusted_peer_goes_to_nobody_else() {
    let founder = Founder::start().await;
    let trusted = Puppet::join(&founder, "trusted", true).await;
    let stranger = Puppet::join(&founder, "stranger", false).await;
    let local = add(&founder, b"held here").await;
    assert_eq!(founder.handle.find(local).await.unwrap().outcome, FindOutcome::Found);
    let here = founder.shell().find_group(GroupKey::Hash(local)).await.unwrap();
    assert_eq!(here.found_by, FoundBy::Plaintext);
    let encrypted = here.manifest.member(ContentState::Encrypted).unwrap().blob.unwrap().sha256;
    for puppet in [&trusted, &stranger] {
        assert_eq!(puppet.asked(), [GroupKey::Hash(encrypted)]);
    }

    let me = founder.shell().members.admission(&founder.shell().me()).unwrap();
    let (mut info, wraps) = trusted.private(b"held there", &[me]).await;
    info.wraps = BoundedVec::truncated(wraps);
    let plain = ContentHash::of(b"held there");
    let group = GroupKey::Group(info.manifest.body.group_id);
    trusted.tell(&[GroupKey::Hash(plain), group], &info);
    assert_eq!(founder.handle.find(plain).await.unwrap().outcome, FindOutcome::Found);
    assert_eq!(read(&founder.handle, GroupKey::Hash(plain), USER).await.unwrap(), b"held there");
    assert!(trusted.asked().contains(&GroupKey::Hash(plain)));
    assert_eq!(stranger.asked(), [group, group]);

    // A hash that no trusted peer knows may be a public one, and `not_found` needs everybody's word.
    let unknown = ContentHash::of(b"not held");
    assert_eq!(founder.handle.find(unknown).await.unwrap().outcome, FindOutcome::NotFound);
    assert_eq!(stranger.asked(), [GroupKey::Hash(unknown)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_make_peers_be_asked_seldom_and_learn_nothing_from_it() {
    let founder = Founder::start().await;
    let peer = Puppet::join(&founder, "peer", true).await;
    let ask = |hash| founder.handle.open(GroupKey::Hash(hash), None, Asker::Anonymous);
    let unknown = ContentHash::of(b"nobody has this");
    for _ in 0..3 {
        assert!(matches!(ask(unknown).await, Err(NodeError::NotFound(_))));
    }
    assert_eq!(peer.asked(), [GroupKey::Hash(unknown)], "what was not found is not searched again at once");

    // What is held here but is private takes the same way, under a name that tells nothing.
    let private = add(&founder, b"private").await;
    assert!(matches!(ask(private).await, Err(NodeError::NotFound(_))));
    let asked = peer.asked();
    assert_eq!(asked.len(), 1);
    assert!(!asked.contains(&GroupKey::Hash(private)));

    // While that many searches are under way, others are told to come back.
    let gate = peer.script.gate.acquire_many(1000).await.unwrap();
    let hashes = (0..STRANGERS_MAX).map(|n| ContentHash([u8::try_from(n).unwrap(); 32]));
    let searches = tokio::spawn({
        let handle = founder.handle.clone();
        async move { join_all(hashes.map(|hash| handle.open(GroupKey::Hash(hash), None, Asker::Anonymous))).await }
    });
    until("the searches to reach the peer", async || peer.script.asked.lock().unwrap().len() == STRANGERS_MAX).await;
    assert!(matches!(ask(ContentHash([0xee; 32])).await, Err(NodeError::Unavailable(_))));
    drop(gate);
    assert!(searches.await.unwrap().iter().all(|found| matches!(found, Err(NodeError::NotFound(_)))));
    assert_eq!(peer.asked().len(), STRANGERS_MAX);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_refuses_is_told_from_a_damaged_blob() {
    let founder = Founder::start().await;
    let hash = add(&founder, b"on disk").await;
    let found = founder.shell().find_group(GroupKey::Hash(hash)).await.unwrap();
    let blob = found.manifest.member(ContentState::Encrypted).unwrap().blob.unwrap();
    let row = founder.shell().meta.blob(&blob.sha256).await.unwrap().unwrap();
    let path = files(&founder.temp.path().join("founder/blobs")).remove(0);
    let aside = path.with_extension("aside");
    std::fs::rename(&path, &aside).unwrap();
    // A link to itself cannot be opened, and is not missing either.
    std::os::unix::fs::symlink(&path, &path).unwrap();
    let refused = read(&founder.handle, GroupKey::Hash(hash), USER).await;
    assert!(matches!(refused, Err(NodeError::Storage(_))), "{refused:?}");
    std::fs::rename(&aside, &path).unwrap();
    assert!(!founder.shell().meta.blob(&blob.sha256).await.unwrap().unwrap().quarantined);
    assert_eq!(read(&founder.handle, GroupKey::Hash(hash), USER).await.unwrap(), b"on disk");
    std::fs::remove_file(&path).unwrap();
    let missing = read(&founder.handle, GroupKey::Hash(hash), USER).await;
    assert!(matches!(missing, Err(NodeError::Corrupt(_))), "{missing:?}");
    assert_eq!(founder.shell().meta.blob(&blob.sha256).await.unwrap().unwrap().stored, row.stored);
}

/// Every file below a directory.
fn files(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn a_search_that_found_nothing_is_forgotten_in_time_and_the_oldest_first() {
    let (mut misses, start) = (Misses::default(), Instant::now());
    let key = |n: usize| {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        GroupKey::Group(GroupId(id))
    };
    misses.insert(key(0), start);
    assert!(misses.contains(&key(0), start + MISS - Duration::from_millis(1)));
    assert!(!misses.contains(&key(0), start + MISS));
    for n in 0..=MISSES_MAX {
        misses.insert(key(n), start);
    }
    assert!(!misses.contains(&key(0), start));
    assert!(misses.contains(&key(1), start));
    assert_eq!((misses.keys.len(), misses.by_age.len()), (MISSES_MAX, MISSES_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn public_content_is_found_by_its_hash_also_if_the_same_bytes_are_private_in_an_older_group() {
    let founder = Founder::start().await;
    let hash = add(&founder, b"the same bytes").await;
    let key = GroupKey::Hash(hash);
    let hidden = read(&founder.handle, key, Asker::Anonymous).await;
    assert!(matches!(hidden, Err(NodeError::NotFound(_))), "{hidden:?}");
    let everybody = |options: &mut AddOptions| (options.public, options.grant) = (true, Grant::Trusted);
    let private = founder.handle.show(key).await.unwrap().group_id;
    assert_ne!(founder.add(b"the same bytes", everybody).await, private);
    assert_eq!(read(&founder.handle, key, Asker::Anonymous).await.unwrap(), b"the same bytes");
    assert_eq!(founder.handle.show(key).await.unwrap().group_id, private, "what changes a group finds the older one");
}
