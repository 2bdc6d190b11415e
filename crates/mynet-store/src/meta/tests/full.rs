//! A full disk: what was refused left no trace, and the store goes on when there is space.

use sea_orm::ConnectionTrait;

use super::super::{Meta, WriteError};
use super::{NOW, Store, upload};
use crate::is_disk_full;

/// Lets the file grow to its present size and `pages` more; SQLite then says what it says of a full disk.
async fn leave(meta: &Meta, pages: u32) {
    let row = meta
        .write
        .query_one_raw(sea_orm::Statement::from_string(meta.write.get_database_backend(), "PRAGMA page_count"));
    let used: i32 = row.await.unwrap().unwrap().try_get_by_index(0).unwrap();
    let limit = u32::try_from(used).unwrap() + pages;
    meta.write.execute_unprepared(&format!("PRAGMA max_page_count = {limit}")).await.unwrap();
}

/// Uploads until the disk is full; how many groups were kept.
async fn fill(store: &Store) -> (u64, WriteError) {
    for seed in 0.. {
        if let Err(error) = store.meta.insert_uploaded_group(upload(seed), NOW).await {
            return (seed, error);
        }
    }
    unreachable!("the disk is finite")
}

#[tokio::test]
async fn a_batch_that_met_a_full_disk_left_no_trace_and_goes_through_when_there_is_space() {
    let store = Store::new().await;
    leave(&store.meta, 8).await;
    let (kept, error) = fill(&store).await;
    assert!(is_disk_full(&error), "{error:?}");
    assert!(kept > 0, "some pages were left");
    assert_eq!(store.meta.counts(0).await.unwrap().groups, kept);
    leave(&store.meta, 1000).await;
    store.meta.insert_uploaded_group(upload(kept), NOW).await.unwrap();
    let store = store.restart().await;
    assert_eq!(store.meta.counts(0).await.unwrap().groups, kept + 1);
}

#[tokio::test]
async fn other_refusals_are_no_full_disk() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let mut other = upload(1);
    other.rows.manifest.body.replicas += 1;
    let refused = store.meta.insert_uploaded_group(other, NOW).await.unwrap_err();
    assert!(!is_disk_full(&refused), "{refused:?}");
}
