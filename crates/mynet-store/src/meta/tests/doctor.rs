//! The doctor: extension columns follow from receipts and certificates, and whatever differs is found and put right.

use std::collections::BTreeSet;

use mynet_types::{GroupId, NodeId, Timestamp, rpc::GroupKey};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sea_orm::ConnectionTrait;

use super::{
    super::{Finding, Meta, Mode},
    FULL, ME, MetaWrite, NOW, Store, UNREAD, group_id, hash_of, later, receipt, replicate, upload,
};

async fn tamper(meta: &Meta, sql: &str) {
    meta.write.execute_unprepared("PRAGMA foreign_keys = OFF").await.unwrap();
    let changed = meta.write.execute_unprepared(sql).await.unwrap().rows_affected();
    meta.write.execute_unprepared("PRAGMA foreign_keys = ON").await.unwrap();
    assert!(changed > 0, "{sql}");
}

/// Everything that is found, of group 1 and of the rest.
async fn examine(meta: &Meta, now: Timestamp, dry_run: bool) -> Vec<Finding> {
    let mut findings = meta.examine_group(group_id(1), now, dry_run).await.unwrap();
    findings.extend(meta.examine_rest(now, dry_run).await.unwrap());
    findings
}

fn codes(findings: &[Finding]) -> BTreeSet<&'static str> {
    findings.iter().map(|finding| finding.code).collect()
}

#[tokio::test]
async fn every_defect_is_found_left_alone_when_asked_and_put_right_once() {
    let columns = [
        "my_network_enabled = NOT my_network_enabled",
        "replica_count = 9",
        "replication_status = 'failed'",
        "consensus_achieved = NOT consensus_achieved",
        "replicated_on_peers = '[\"x\"]'",
        "last_sync_timestamp = '2001-01-01 00:00:00+00:00'",
        "network_metadata = '{}'",
    ];
    let mut defects: Vec<(String, &str)> =
        columns.iter().map(|column| (format!("UPDATE stored_content SET {column}"), "extension_differs")).collect();
    let more = [
        ("UPDATE mynet_groups SET status = 'none', replica_count = 7", "extension_differs"),
        ("UPDATE mynet_groups SET certified = 1", "certificate_differs"),
        ("DELETE FROM content_relationships", "rows_missing"),
        ("DELETE FROM stored_content WHERE tags LIKE '%preview%'", "rows_missing"),
        ("DELETE FROM stored_content WHERE encrypted", "root_missing"),
        ("DELETE FROM mynet_pins", "pin_missing"),
        ("INSERT INTO mynet_pins SELECT sha256, 'group', randomblob(32) FROM mynet_blobs LIMIT 1", "pin_orphan"),
        ("INSERT INTO mynet_pins SELECT sha256, 'tx', randomblob(32) FROM mynet_blobs LIMIT 1", "pin_orphan"),
        (
            "INSERT INTO mynet_blobs SELECT randomblob(32), 9, blake3, size, 'ok', NULL FROM mynet_blobs LIMIT 1",
            "blob_unreleased",
        ),
        (
            "INSERT INTO content_relationships SELECT randomblob(16), randomblob(16), id, 'preview', created_at
             FROM stored_content LIMIT 1",
            "relationship_orphan",
        ),
    ];
    defects.extend(more.map(|(sql, code)| (sql.to_owned(), code)));
    for (sql, code) in defects {
        let store = Store::new().await;
        store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
        assert_eq!(examine(&store.meta, NOW, false).await, [], "nothing is wrong before {sql}");
        tamper(&store.meta, &sql).await;
        let told = examine(&store.meta, NOW, true).await;
        assert!(codes(&told).contains(code), "{sql}: {told:?}");
        assert!(told.iter().all(|finding| !finding.repaired), "a look changes nothing: {told:?}");
        // One repair may heal what else was told.
        let mended = examine(&store.meta, NOW, false).await;
        assert!(codes(&mended).contains(code) && codes(&mended).is_subset(&codes(&told)), "{sql}: {mended:?}");
        assert!(mended.iter().all(|finding| finding.repaired), "{sql}: {mended:?}");
        assert_eq!(examine(&store.meta, NOW, false).await, [], "{sql}: put right");
    }
}

#[tokio::test]
async fn what_nobody_here_can_put_right_is_said_every_time() {
    let store = Store::new().await;
    store.meta.batch(replicate(1, 1, UNREAD), NOW).await.unwrap();
    tamper(&store.meta, "DELETE FROM mynet_pins").await;
    tamper(&store.meta, "DELETE FROM mynet_blobs").await;
    for _look in 0..2 {
        let findings = examine(&store.meta, NOW, false).await;
        assert_eq!(codes(&findings), BTreeSet::from(["blob_unknown"]), "{findings:?}");
        assert!(findings.iter().all(|finding| !finding.repaired));
    }
}

#[tokio::test]
async fn a_group_that_was_deleted_meanwhile_is_no_defect() {
    let store = Store::new().await;
    assert_eq!(store.meta.examine_group(GroupId([9; 32]), NOW, false).await.unwrap(), []);
}

/// The columns as a reader of the specification would compute them, from the receipts alone.
fn naive(
    receipts: &[(NodeId, Timestamp)],
    now: Timestamp,
    wanted: u8,
    started: bool,
) -> (usize, &'static str, Vec<NodeId>) {
    let holders: BTreeSet<NodeId> =
        receipts.iter().filter(|(_, until)| *until > now).map(|(holder, _)| *holder).collect();
    let status = match holders.len() {
        n if n >= usize::from(wanted) => "replicated",
        n if n >= 2 => "degraded",
        0 if !started => "pending",
        _ => "replicating",
    };
    (holders.len(), status, holders.into_iter().filter(|holder| *holder != ME).collect())
}

#[tokio::test]
async fn the_columns_are_what_the_receipts_say_whatever_came_in_which_order() {
    let mut rng = StdRng::seed_from_u64(3);
    for _round in 0..20 {
        let store = Store::new().await;
        store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
        let wanted = rng.random_range(2..5_u8);
        let begin =
            MetaWrite::Begin { group_id: group_id(1), replicas: wanted, mode: Mode::Quorum, publication: Vec::new() };
        store.write(begin).await;
        let (mut told, mut started, mut now) = (Vec::new(), false, NOW);
        for step in 0..12 {
            now = later(step * 10);
            let holder = if rng.random_bool(0.2) { ME } else { NodeId([rng.random_range(2..6); 32]) };
            let until = later(rng.random_range(0..300));
            let write = if rng.random_bool(0.2) {
                started = true;
                MetaWrite::Started(group_id(1))
            } else {
                told.push((holder, until));
                let receipts = vec![receipt(hash_of(1), holder, until)];
                MetaWrite::Receipts { manifest_hash: hash_of(1), receipts }
            };
            store.meta.batch(vec![write], now).await.unwrap();
        }
        // Of two receipts of one holder the longer counts, so those that ended are ended for good.
        let (count, status, peers) = naive(&told, now, wanted, started);
        let (group, _) = store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().unwrap();
        let shown = (group.replica_count as usize, group.status.as_str());
        // Receipts that end between two writes are noticed by the sweep, or by the doctor.
        let findings = store.meta.examine_group(group_id(1), now, false).await.unwrap();
        assert_eq!(findings.is_empty(), shown == (count, status), "{findings:?} {shown:?} {:?}", (count, status));
        let (group, _) = store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().unwrap();
        assert_eq!((group.replica_count as usize, group.status.as_str(), group.held), (count, status, FULL));
        for row in store.meta.with_rows(vec![group]).await.unwrap().remove(0).states {
            assert_eq!(row.replicated_on_peers, peers);
        }
        assert_eq!(store.meta.examine_group(group_id(1), now, true).await.unwrap(), []);
    }
}
