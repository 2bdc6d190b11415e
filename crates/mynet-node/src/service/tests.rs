//! Starts after something went wrong: the node comes up, and claims nothing that is not there.

use std::{fs, path::Path};

use mynet_proto::replication::io::{Mode as CoreMode, Publication};
use mynet_store::{
    blobs::Blobs,
    meta::{GroupRows, Meta, MetaWrite, Mode, NewGroup, RestoredTransactions},
};
use mynet_types::{
    AdmissionRecord, BoundedVec, ContentState, Link, NodeId, StatesMask, Timestamp, WrapKey, codec, wire::Prepare,
};

use super::{open, other_wishes, restore, start, take_up, wish};
use crate::{
    config::Config,
    driver::wall_clock,
    handle::{NodeError, PublishOptions},
    testing::Home,
};

fn config() -> Config {
    let mut config = Config::default();
    config.p2p.listen = "127.0.0.1:0".parse().unwrap();
    config
}

/// Starts and stops the node, and returns what it then knows of transactions.
async fn after_a_start(data_dir: &Path, me: NodeId) -> RestoredTransactions {
    start(data_dir, config()).await.unwrap().stop().await.unwrap();
    Meta::open(&data_dir.join("mynet.db"), me).await.unwrap().restore().await.unwrap()
}

#[tokio::test]
async fn a_prepared_transaction_that_another_manifest_displaced_is_given_up() {
    let home = Home::new(config()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let files = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    home.prepared(&sample.prepare, files).await;
    let mut manifest = home.sample(2).await.prepare.manifest;
    manifest.body.group_id = sample.prepare.manifest.body.group_id;
    let Prepare { tx, attempt, sealed, .. } = sample.prepare;
    let rows =
        GroupRows { manifest, sealed, wraps: Vec::new(), held: StatesMask::EMPTY, placement_slot: 0, granted: None };
    let other = NewGroup { rows, blobs: Vec::new(), user: None, publish: None };
    home.shell.meta.batch(vec![MetaWrite::Upload(Box::new(other))], wall_clock()).await.unwrap();
    let me = home.shell.me();
    let dir = home.close().await;
    let restored = after_a_start(&dir.path().join("node"), me).await;
    assert!(restored.open.is_empty());
    assert_eq!(restored.aborted, [(tx, attempt)]);
}

#[tokio::test]
async fn a_prepared_transaction_whose_bytes_are_gone_is_given_up() {
    let home = Home::new(config()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let files = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    home.prepared(&sample.prepare, files).await;
    let good = home.sample(2).await;
    home.intend(&good.prepare).await;
    let files = vec![home.place(&good.encrypted).await, home.place(&good.preview).await];
    home.prepared(&good.prepare, files).await;
    let hash = hex::encode(sample.encrypted.blob.sha256.0);
    for path in home.files().iter().filter(|path| path.display().to_string().contains(&hash)) {
        fs::remove_file(path).unwrap();
    }
    let me = home.shell.me();
    let dir = home.close().await;
    let restored = after_a_start(&dir.path().join("node"), me).await;
    assert_eq!(restored.aborted, [(sample.prepare.tx, 1)]);
    assert_eq!(restored.open.iter().map(|open| open.tx).collect::<Vec<_>>(), [good.prepare.tx]);
}

#[tokio::test]
async fn blobs_that_vanished_are_marked_also_after_a_crash_that_left_an_empty_directory() {
    let home = Home::new(config()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let files = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    home.prepared(&sample.prepare, files).await;
    let dir = home.close().await;
    let node = dir.path().join("node");
    fs::remove_dir_all(node.join("blobs")).unwrap();
    // The start that made the directory again ended before it marked anything.
    Blobs::open(node.join("blobs"), node.join("staging")).await.unwrap();
    let shell = open(&node, config()).await.unwrap().shell;
    for blob in sample.blobs() {
        assert!(shell.meta.blob(&blob.sha256).await.unwrap().unwrap().quarantined);
    }
}

#[tokio::test]
async fn a_coordinator_that_lost_its_bytes_says_nothing_of_them_until_they_are_back() {
    let home = Home::new(config()).await;
    let (shell, sample) = (&home.shell, home.sample(1).await);
    let Prepare { manifest, sealed, .. } = sample.prepare;
    let group_id = manifest.body.group_id;
    let blobs = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    let held = manifest.body.states().without(ContentState::Decrypted);
    let rows = GroupRows {
        manifest: manifest.clone(),
        sealed: sealed.clone(),
        wraps: Vec::new(),
        held,
        placement_slot: 0,
        granted: None,
    };
    let group = NewGroup { rows, blobs: blobs.clone(), user: None, publish: Some((2, Mode::Quorum)) };
    let publication =
        Publication { manifest, sealed, wraps: BoundedVec::new(), mode: CoreMode::Quorum, replicas: 2, head: None };
    let publication = codec::encode(&publication);
    let begin = MetaWrite::Begin { group_id, replicas: 2, mode: Mode::Quorum, publication };
    shell.meta.batch(vec![MetaWrite::Upload(Box::new(group)), begin], wall_clock()).await.unwrap();
    let goes_on = async || {
        let restored = restore::replication(shell.meta.restore().await.unwrap()).unwrap();
        let restored = take_up(shell, restored).await.unwrap().publications.len() == 1;
        let published = shell.publish(group_id, &PublishOptions::default()).await;
        assert_eq!(matches!(published, Err(NodeError::Corrupt(_))), !restored, "{published:?}");
        restored
    };
    assert!(goes_on().await);
    assert!(shell.meta.quarantine(&blobs[0]).await.unwrap());
    assert!(!goes_on().await);
    shell.meta.found_again(&blobs[0]).await.unwrap();
    assert!(goes_on().await);
}

#[tokio::test]
async fn a_group_whose_links_break_a_rule_is_not_published_and_the_rule_is_named() {
    let home = Home::new(config()).await;
    let shell = &home.shell;
    let broken = [
        (1, "without a parent", (|links| links.clear()) as fn(&mut Vec<Link>)),
        (2, "of another kind", |links| links[0].kind = links[1].kind),
        (3, "given twice", |links| links.push(links[0])),
        (4, "descends from itself", |links| {
            let (one, other) = (links[0].child, links[1].child);
            let kinds = (links[0].kind, links[1].kind);
            links.push(Link { parent: one, child: other, kind: kinds.1 });
            links.push(Link { parent: other, child: one, kind: kinds.0 });
        }),
    ];
    for (tx, rule, change) in broken {
        let sample = home.sample(tx).await;
        let Prepare { mut manifest, sealed, .. } = sample.prepare;
        let mut links = manifest.body.links.clone().into_vec();
        change(&mut links);
        manifest.body.links = BoundedVec::truncated(links);
        manifest.body.group_id = manifest.body.derive_group_id();
        let group_id = manifest.body.group_id;
        let blobs = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
        let held = manifest.body.states().without(ContentState::Decrypted);
        let rows = GroupRows { manifest, sealed, wraps: Vec::new(), held, placement_slot: 0, granted: None };
        let group = NewGroup { rows, blobs, user: None, publish: None };
        shell.meta.batch(vec![MetaWrite::Upload(Box::new(group))], wall_clock()).await.unwrap();
        let refused = shell.publish(group_id, &PublishOptions::default()).await.unwrap_err();
        assert!(matches!(&refused, NodeError::Invalid { field: "group", why } if why.contains(rule)), "{refused}");
    }
}

#[test]
fn settings_that_a_node_was_not_admitted_with_are_found() {
    let node = NodeId([1; 32]);
    let (roles, (region, zone, weight)) = wish(&config(), &node).unwrap();
    let own = AdmissionRecord {
        node,
        wrap_key: WrapKey([2; 32]),
        roles,
        trusted: false,
        region,
        zone,
        weight,
        admitted_at: Timestamp(1),
        expires_at: Timestamp(2),
        epoch: 0,
        issuer: node,
        nonce: [3; 16],
    };
    assert_eq!(other_wishes(&config(), &own).unwrap(), Vec::<&str>::new());
    let mut other = config();
    other.node.zone = "elsewhere".to_owned();
    other.node.roles = vec!["storage".to_owned()];
    assert_eq!(other_wishes(&other, &own).unwrap(), ["node.zone", "node.roles"]);
}
