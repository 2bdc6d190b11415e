//! The log of each group: why it is where it is, as this node saw it.
//!
//! Codes are opaque here. A line is named by group, code and peer; the same again is counted, takes the newest number and
//! time, and moves to the end.
//!
//! **Invariants**
//! 1. At most [`LINES_PER_GROUP`] lines of a group and about [`LINES_MAX`] in all; those that were not repeated for longest
//!    go first.
//! 2. Nothing else is decided by it or refers to it: lines may be of groups that were never here, and outlive those that were.

use std::collections::BTreeSet;

use mynet_types::{GroupId, NodeId, Timestamp};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    Meta, MetaError,
    column::{Damage, fixed, from_column, millis, time, to_column},
    schema::log::group_log,
};

/// Lines kept of one group. Half would lose the beginning of a group with many holders; double doubles what a member that
/// invents reasons can make this node keep of one group.
pub const LINES_PER_GROUP: u64 = 256;
/// Lines kept in all, some 50 MiB. Half would forget groups of this morning on a busy node, double gains little.
pub const LINES_MAX: u64 = 262_144;
/// Lines written in one statement. The database takes some 30,000 values; more lines gain nothing.
const TOGETHER: usize = 128;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// The group.
    pub group_id: GroupId,
    /// What happened; at most 32 bytes.
    pub code: String,
    /// The other node, if there is one.
    pub peer: Option<NodeId>,
    /// The newest number, if it has one.
    pub value: Option<u64>,
    /// When it came first since it was last forgotten.
    pub first_at: Timestamp,
    /// When it came last.
    pub last_at: Timestamp,
    /// How often it came.
    pub count: u64,
    /// Grows from line to line and from start to start: the order in which lines came last.
    pub seq: u64,
}

impl Meta {
    /// Adds lines to those here, in one transaction, and forgets the oldest if there are too many.
    ///
    /// # Errors
    /// [`MetaError`]; nothing was added then.
    pub async fn put_log(&self, lines: &[LogLine]) -> Result<(), MetaError> {
        let transaction = self.begin().await?;
        for some in lines.chunks(TOGETHER) {
            put(&transaction, some).await?;
        }
        let groups: BTreeSet<GroupId> = lines.iter().map(|line| line.group_id).collect();
        trim_groups(&transaction, groups).await?;
        trim_all(&transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The lines of a group in the order in which they came last.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn log(&self, group_id: &GroupId) -> Result<Vec<LogLine>, MetaError> {
        let rows = group_log::Entity::find()
            .filter(group_log::Column::GroupId.eq(group_id.0.to_vec()))
            .order_by_asc(group_log::Column::Seq)
            .all(&self.read)
            .await?;
        rows.iter().map(line).collect::<Result<_, _>>().map_err(|damage| damage.within("mynet_group_log"))
    }
}

async fn put(transaction: &DatabaseTransaction, lines: &[LogLine]) -> Result<(), MetaError> {
    use group_log::Column::{Code, Count, GroupId, LastAt, Peer, Seq, Value};
    let rows = lines.iter().map(|line| {
        Ok(group_log::Model {
            group_id: line.group_id.0.to_vec(),
            code: line.code.clone(),
            peer: line.peer.map(|peer| peer.0.to_vec()).unwrap_or_default(),
            value: line.value.map(|value| to_column("log value", value)).transpose()?,
            first_at: millis(line.first_at),
            last_at: millis(line.last_at),
            count: to_column("log count", line.count)?,
            seq: to_column("log sequence", line.seq)?,
        }
        .into_active_model())
    });
    let rows = rows.collect::<Result<Vec<_>, MetaError>>()?;
    let mut again = OnConflict::columns([GroupId, Code, Peer]);
    again.update_columns([Value, LastAt, Seq]);
    again.value(Count, Expr::col((group_log::Entity, Count)).add(Expr::cust("excluded.count")));
    group_log::Entity::insert_many(rows).on_conflict(again).exec_without_returning(transaction).await?;
    Ok(())
}

/// Forgets the oldest lines of groups that have too many.
async fn trim_groups(transaction: &DatabaseTransaction, groups: BTreeSet<GroupId>) -> Result<(), MetaError> {
    use group_log::Column::{GroupId, Seq};
    let ids = groups.iter().map(|group| group.0.to_vec());
    let too_long: Vec<Vec<u8>> = group_log::Entity::find()
        .select_only()
        .column(GroupId)
        .filter(GroupId.is_in(ids))
        .group_by(GroupId)
        .having(Expr::col(Seq).count().gt(LINES_PER_GROUP))
        .into_tuple()
        .all(transaction)
        .await?;
    for group in too_long {
        let newest = group_log::Entity::find().filter(GroupId.eq(group.clone())).order_by_desc(Seq);
        let last: Option<i64> =
            newest.select_only().column(Seq).offset(LINES_PER_GROUP).limit(1).into_tuple().one(transaction).await?;
        if let Some(last) = last {
            let old = group_log::Entity::delete_many().filter(GroupId.eq(group)).filter(Seq.lte(last));
            old.exec(transaction).await?;
        }
    }
    Ok(())
}

/// Forgets the oldest lines of all if there are too many.
async fn trim_all(transaction: &DatabaseTransaction) -> Result<(), MetaError> {
    use group_log::Column::Seq;
    let newest = group_log::Entity::find().order_by_desc(Seq).select_only().column(Seq);
    let last: Option<i64> = newest.offset(LINES_MAX).limit(1).into_tuple().one(transaction).await?;
    if let Some(last) = last {
        group_log::Entity::delete_many().filter(Seq.lte(last)).exec(transaction).await?;
    }
    Ok(())
}

fn line(row: &group_log::Model) -> Result<LogLine, Damage> {
    Ok(LogLine {
        group_id: GroupId(fixed(&row.group_id)?),
        code: row.code.clone(),
        peer: if row.peer.is_empty() { None } else { Some(NodeId(fixed(&row.peer)?)) },
        value: row.value.map(from_column).transpose()?,
        first_at: time(row.first_at)?,
        last_at: time(row.last_at)?,
        count: from_column(row.count)?,
        seq: from_column(row.seq)?,
    })
}
