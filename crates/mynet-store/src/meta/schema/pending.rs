//! What this node is in the middle of: replication transactions, claimed ids, coordinations, next versions.

/// Transactions that this node takes part in, and how they ended.
pub(in crate::meta) mod transactions {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_transactions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub tx: Vec<u8>,
        pub phase: String,
        pub attempt: i64,
        pub group_id: Option<Vec<u8>>,
        pub reserved_bytes: i64,
        pub state: Vec<u8>,
        pub states: Option<i32>,
        pub receipt: Option<Vec<u8>>,
        pub updated_at: i64,
    }

    super::super::plain_table!();
}

/// Content ids that an open transaction will need, so that no two groups commit the same one.
pub(in crate::meta) mod claims {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_claims")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub content_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub tx: Vec<u8>,
        pub group_id: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Groups that this node coordinates.
pub(in crate::meta) mod coordinations {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_coordinations")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        pub publication: Vec<u8>,
        pub decided: Option<Vec<u8>>,
        pub updated_at: i64,
    }

    super::super::plain_table!();
}

/// How the versions of groups uploaded here follow each other, and the next one while it is certified.
pub(in crate::meta) mod lineages {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_lineages")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        pub lineage: Vec<u8>,
    }

    super::super::plain_table!();
}
