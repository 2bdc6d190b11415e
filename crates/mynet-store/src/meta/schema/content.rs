//! The specification's tables: `stored_content` with its extension, `content_relationships`, `encryption_keys`,
//! `user_content`.

/// One row per state that this node holds; its extension columns are a projection, see `meta::projection`.
pub(in crate::meta) mod stored_content {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter, Json,
        PrimaryKeyTrait, TimeDateTimeWithTimeZone, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "stored_content")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub hash: String,
        pub encrypted: bool,
        pub encryption_key_id: Option<Uuid>,
        pub content_type: Option<String>,
        pub file_size: i64,
        #[sea_orm(column_type = "JsonBinary")]
        pub tags: Json,
        pub filename: Option<String>,
        pub decrypted_content_id: Option<Uuid>,
        pub original_encrypted_id: Option<Uuid>,
        pub parent_content_id: Option<Uuid>,
        pub created_at: TimeDateTimeWithTimeZone,
        pub updated_at: TimeDateTimeWithTimeZone,
        pub my_network_enabled: bool,
        pub replica_count: i32,
        pub replication_status: String,
        pub consensus_achieved: bool,
        #[sea_orm(column_type = "JsonBinary")]
        pub replicated_on_peers: Json,
        pub last_sync_timestamp: Option<TimeDateTimeWithTimeZone>,
        #[sea_orm(column_type = "JsonBinary")]
        pub network_metadata: Json,
    }

    super::super::plain_table!();
}

/// Links between rows.
pub(in crate::meta) mod content_relationships {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, TimeDateTimeWithTimeZone, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "content_relationships")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub parent_content_id: Uuid,
        pub child_content_id: Uuid,
        pub relationship_type: String,
        pub created_at: TimeDateTimeWithTimeZone,
    }

    super::super::plain_table!();
}

/// Content keys, wrapped under the node's key encryption key.
pub(in crate::meta) mod encryption_keys {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, TimeDateTimeWithTimeZone, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "encryption_keys")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub algorithm: String,
        pub wrapped_key: Vec<u8>,
        pub group_id: Vec<u8>,
        pub version: i64,
        pub created_at: TimeDateTimeWithTimeZone,
        pub rotated_at: Option<TimeDateTimeWithTimeZone>,
        pub state: String,
    }

    super::super::plain_table!();
}

/// Which user has to do with which content.
pub(in crate::meta) mod user_content {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, TimeDateTimeWithTimeZone, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "user_content")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub user_id: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub content_id: Uuid,
        #[sea_orm(primary_key, auto_increment = false)]
        pub relation: String,
        pub created_at: TimeDateTimeWithTimeZone,
    }

    super::super::plain_table!();
}
