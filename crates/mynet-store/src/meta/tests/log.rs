//! The log of groups: repeats are one line, and the oldest go.

use mynet_types::{GroupId, NodeId, Timestamp};
use sea_orm::{ConnectionTrait, Statement};

use super::{
    super::log::{LINES_MAX, LINES_PER_GROUP, LogLine},
    Store,
};

fn line(group: u8, code: &str, seq: u64) -> LogLine {
    LogLine {
        group_id: GroupId([group; 32]),
        code: code.to_owned(),
        peer: None,
        value: Some(seq),
        first_at: Timestamp(seq),
        last_at: Timestamp(seq),
        count: 1,
        seq,
    }
}

#[tokio::test]
async fn a_line_that_comes_again_is_counted_and_moves_to_the_end() {
    let store = Store::new().await;
    let peer = Some(NodeId([7; 32]));
    let of_peer = LogLine { peer, value: None, ..line(1, "refused", 2) };
    store
        .meta
        .put_log(&[line(1, "refused", 1), of_peer.clone(), line(1, "held", 3), line(2, "held", 4)])
        .await
        .unwrap();
    store.meta.put_log(&[LogLine { count: 5, ..line(1, "refused", 9) }]).await.unwrap();
    let store = store.restart().await;
    let again = LogLine { first_at: Timestamp(1), count: 6, ..line(1, "refused", 9) };
    assert_eq!(store.meta.log(&GroupId([1; 32])).await.unwrap(), [of_peer, line(1, "held", 3), again]);
    assert_eq!(store.meta.log(&GroupId([3; 32])).await.unwrap(), []);
}

#[tokio::test]
async fn a_group_keeps_its_newest_lines_and_a_try_that_is_repeated_pushes_nothing_out() {
    let store = Store::new().await;
    let codes: Vec<String> = (0..LINES_PER_GROUP + 10).map(|n| format!("code_{n}")).collect();
    let lines: Vec<LogLine> = codes.iter().zip(1..).map(|(code, seq)| line(1, code, seq)).collect();
    store.meta.put_log(&[line(2, "other", 0)]).await.unwrap();
    store.meta.put_log(&lines).await.unwrap();
    for seq in 1_000..2_000 {
        store.meta.put_log(&[line(1, "code_200", seq)]).await.unwrap();
    }
    let kept = store.meta.log(&GroupId([1; 32])).await.unwrap();
    assert_eq!(kept.len() as u64, LINES_PER_GROUP);
    assert_eq!((kept[0].code.as_str(), kept[0].seq), ("code_10", 11));
    let last = kept.last().unwrap();
    assert_eq!((last.code.as_str(), last.count, last.first_at), ("code_200", 1_001, Timestamp(201)));
    assert_eq!(store.meta.log(&GroupId([2; 32])).await.unwrap().len(), 1);
}

#[tokio::test]
async fn all_groups_together_have_a_bound() {
    let store = Store::new().await;
    let many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
                INSERT INTO mynet_group_log SELECT randomblob(32), 'x', X'', NULL, 1, 1, 1, i FROM n";
    let statement = Statement::from_sql_and_values(
        store.meta.write.get_database_backend(),
        many,
        [i64::try_from(LINES_MAX).unwrap().into()],
    );
    store.meta.write.execute_raw(statement).await.unwrap();
    store.meta.put_log(&[line(1, "newest", LINES_MAX + 1)]).await.unwrap();
    let count = Statement::from_string(
        store.meta.write.get_database_backend(),
        "SELECT COUNT(*), MIN(seq), MAX(seq) FROM mynet_group_log",
    );
    let row = store.meta.write.query_one_raw(count).await.unwrap().unwrap();
    let [count, min, max] = [0, 1, 2].map(|index| row.try_get_by_index::<i64>(index).unwrap());
    let bound = i64::try_from(LINES_MAX).unwrap();
    assert_eq!((count, min, max), (bound, 2, bound + 1));
}
