//! What this node noted about groups, for people.

/// Lines by group, code and peer; no peer is empty bytes, because a key column cannot be null.
pub(in crate::meta) mod group_log {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_group_log")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub code: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub peer: Vec<u8>,
        pub value: Option<i64>,
        pub first_at: i64,
        pub last_at: i64,
        pub count: i64,
        pub seq: i64,
    }

    super::super::plain_table!();
}
