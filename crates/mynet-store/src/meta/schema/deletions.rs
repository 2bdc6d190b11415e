//! Groups that their owners deleted, and who has confirmed it.

/// Tombstones in the order in which they came here. `brought_by` is the peer that told of a group that was never here.
pub(in crate::meta) mod tombstones {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_tombstones")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub owner: Vec<u8>,
        pub seq: i64,
        pub tombstone: Vec<u8>,
        pub brought_by: Option<Vec<u8>>,
    }

    super::super::plain_table!();
}

/// Who is to confirm a tombstone, and has.
pub(in crate::meta) mod confirmations {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_confirmations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub owner: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub node: Vec<u8>,
        pub confirmed: bool,
    }

    super::super::plain_table!();
}
