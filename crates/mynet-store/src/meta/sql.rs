//! Ways to insert a row, for any table.

use sea_orm::{
    ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel, ModelTrait, sea_query::OnConflict,
};

/// The insertable form of a row.
type Active<M> = <<M as ModelTrait>::Entity as EntityTrait>::ActiveModel;

/// Inserts `row`; a row of the same key is an error.
pub(super) async fn insert<M, C>(db: &C, row: M) -> Result<(), DbErr>
where
    C: ConnectionTrait,
    M: ModelTrait + IntoActiveModel<Active<M>>,
    Active<M>: ActiveModelTrait<Entity = M::Entity>,
{
    M::Entity::insert(row.into_active_model()).exec_without_returning(db).await?;
    Ok(())
}

/// Inserts `row` or does what `conflict` says. Returns how many rows were written, 0 or 1.
pub(super) async fn upsert<M, C>(db: &C, row: M, conflict: &mut OnConflict) -> Result<u64, DbErr>
where
    C: ConnectionTrait,
    M: ModelTrait + IntoActiveModel<Active<M>>,
    Active<M>: ActiveModelTrait<Entity = M::Entity>,
{
    M::Entity::insert(row.into_active_model()).on_conflict(conflict.to_owned()).exec_without_returning(db).await
}

/// Inserts `row` unless a row like it is here.
pub(super) async fn insert_new<M, C>(db: &C, row: M) -> Result<(), DbErr>
where
    C: ConnectionTrait,
    M: ModelTrait + IntoActiveModel<Active<M>>,
    Active<M>: ActiveModelTrait<Entity = M::Entity>,
{
    upsert(db, row, OnConflict::new().do_nothing()).await?;
    Ok(())
}
