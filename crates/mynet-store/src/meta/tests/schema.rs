//! The schema as the database sees it.

use std::collections::BTreeSet;

use mynet_types::NodeId;
use sea_orm::{ConnectionTrait, Statement};

use super::{ME, Meta, MetaWrite, NOW, Store, group_id, hash_of, later, manifest, receipt, upload};

async fn names(meta: &Meta, kind: &str) -> BTreeSet<String> {
    let sql = "SELECT name FROM sqlite_master WHERE type = ? AND name NOT LIKE 'sqlite_%'";
    let statement = Statement::from_sql_and_values(meta.read.get_database_backend(), sql, [kind.into()]);
    let rows = meta.read.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn text(meta: &Meta, sql: &str) -> String {
    let statement = Statement::from_string(meta.read.get_database_backend(), sql);
    meta.write.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn every_table_and_index_of_the_design_exists() {
    let store = Store::new().await;
    let tables = names(&store.meta, "table").await;
    for name in ["stored_content", "content_relationships", "encryption_keys", "user_content"] {
        assert!(tables.contains(name), "{name}");
    }
    let ours = "groups certificates states blobs pins receipts wraps transactions claims coordinations tombstones \
                confirmations admissions node_records invites trust tokens settings migrations group_log lineages told";
    for name in ours.split_whitespace() {
        assert!(tables.contains(&format!("mynet_{name}")), "{name}");
    }
    assert_eq!(tables.len(), 4 + ours.split_whitespace().count());
    let indexes = names(&store.meta, "index").await;
    for name in [
        "idx_content_rel_parent",
        "idx_content_rel_child",
        "idx_content_rel_type",
        "uq_content_rel_parent_child_type",
        "uq_mynet_groups_visible",
        "idx_mynet_groups_listing",
        "idx_mynet_states_public_hash",
        "idx_mynet_states_plain_hash",
        "idx_mynet_pins_reference",
    ] {
        assert!(indexes.contains(name), "{name}");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_what_must_not_be() {
    let store = Store::new().await;
    store.write(MetaWrite::Upload(Box::new(upload(1)))).await;
    let refused = async |sql: &str, why: &str| {
        let error = store.meta.write.execute_unprepared(sql).await.unwrap_err().to_string();
        assert!(error.contains(why), "{sql}: {error}");
    };
    refused("DELETE FROM mynet_blobs", "FOREIGN KEY").await;
    refused("DELETE FROM stored_content", "FOREIGN KEY").await;
    refused("DELETE FROM mynet_groups", "FOREIGN KEY").await;
    let copy = "INSERT INTO content_relationships SELECT randomblob(16), parent_content_id, child_content_id,
                relationship_type, created_at FROM content_relationships";
    refused(copy, "UNIQUE").await;
    let columns = "manifest, sealed, owner, visible, origin, held, root_content_id, placement_slot, created_at,
                   ordered_at, published, started, failure, mode, replicas, quorum, status, replica_count,
                   certificate_hash, certified, synced_at";
    let second_visible = format!(
        "INSERT INTO mynet_groups (group_id, version, manifest_hash, {columns})
         SELECT group_id, 2, randomblob(32), {columns} FROM mynet_groups"
    );
    refused(&second_visible, "UNIQUE").await;
}

#[tokio::test]
async fn commits_are_synchronous_and_readers_cannot_write() {
    let store = Store::new().await;
    assert_eq!(text(&store.meta, "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
    assert_eq!(text(&store.meta, "SELECT journal_mode FROM pragma_journal_mode").await, "wal");
    assert_eq!(text(&store.meta, "SELECT CAST(foreign_keys AS TEXT) FROM pragma_foreign_keys").await, "1");
    assert!(store.meta.read.execute_unprepared("DELETE FROM mynet_settings").await.is_err());
}

#[tokio::test]
async fn opening_again_migrates_nothing_keeps_everything_and_counts_the_boot() {
    let store = Store::new().await;
    assert_eq!(store.meta.boot(), 1);
    store.write(MetaWrite::Upload(Box::new(upload(1)))).await;
    let store = store.restart().await;
    assert_eq!(store.meta.boot(), 2);
    let key = mynet_types::rpc::GroupKey::Group(group_id(1));
    let (group, _) = store.meta.group(&key).await.unwrap().unwrap();
    assert_eq!((group.manifest, group.manifest_hash), (manifest(1), hash_of(1)));
}

#[tokio::test]
async fn two_that_open_one_empty_file_at_once_both_succeed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a directory with ? and %41").join("mynet.db");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    let (one, two) = tokio::join!(Meta::open(&path, ME), Meta::open(&path, ME));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(BTreeSet::from([one.boot(), two.boot()]), BTreeSet::from([1, 2]));
    one.batch(vec![MetaWrite::Upload(Box::new(upload(1)))], NOW).await.unwrap();
    assert!(two.group(&mynet_types::rpc::GroupKey::Group(group_id(1))).await.unwrap().is_some());
}

#[tokio::test]
async fn a_record_of_a_newer_format_is_refused_by_name() {
    let store = Store::new().await;
    store.write(MetaWrite::Upload(Box::new(upload(1)))).await;
    store.meta.write.execute_unprepared("UPDATE mynet_groups SET manifest = X'0009AA'").await.unwrap();
    let error = store.meta.groups(super::super::views::ListQuery { limit: 9, ..Default::default() }).await.unwrap_err();
    assert_eq!(error.to_string(), "a row of mynet_groups is damaged: format 9 is not known to this program");
}

/// A database of before the table: who holds a group is known by the receipts that came.
#[tokio::test]
async fn a_database_that_kept_receipts_only_knows_who_was_told_by_them() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("metadata.db");
    let meta = Meta::open(&path, ME).await.unwrap();
    let receipts = vec![receipt(hash_of(1), NodeId([3; 32]), later(9))];
    let writes =
        vec![MetaWrite::Upload(Box::new(upload(1))), MetaWrite::Receipts { manifest_hash: hash_of(1), receipts }];
    meta.batch(writes, NOW).await.unwrap();
    for sql in ["DROP TABLE mynet_told", "DELETE FROM mynet_migrations WHERE version = 'm0003_told'"] {
        meta.write.execute_unprepared(sql).await.unwrap();
    }
    meta.close().await.unwrap();
    let meta = Meta::open(&path, ME).await.unwrap();
    assert_eq!(meta.told(group_id(1)).await.unwrap(), [(NodeId([3; 32]), 1)]);
}
