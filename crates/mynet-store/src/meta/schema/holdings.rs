//! What this node holds: groups, their states, blobs and what pins them, receipts, wraps, certificates.

/// Group versions. A reader sees a group only through a visible row.
pub(in crate::meta) mod groups {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_groups")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i64,
        pub manifest_hash: Vec<u8>,
        pub manifest: Vec<u8>,
        pub sealed: Vec<u8>,
        pub owner: Vec<u8>,
        pub visible: bool,
        pub origin: bool,
        pub held: i32,
        pub root_content_id: Uuid,
        pub placement_slot: i32,
        pub created_at: i64,
        pub ordered_at: i64,
        pub published: bool,
        pub started: bool,
        pub failure: Option<String>,
        pub mode: String,
        pub replicas: i32,
        pub quorum: i32,
        pub status: String,
        pub replica_count: i32,
        pub certificate_hash: Option<Vec<u8>>,
        pub certified: bool,
        pub rejected_at: Option<i64>,
        pub synced_at: Option<i64>,
    }

    super::super::plain_table!();
}

/// Certificate files, apart from their groups because they are large and seldom read.
pub(in crate::meta) mod certificates {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_certificates")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub manifest_hash: Vec<u8>,
        pub certificate: Vec<u8>,
        /// How much it claims, for finding what may be certified as more: see `claim_column`.
        pub claim: i32,
    }

    super::super::plain_table!();
}

/// Every member of every group, held here or not: which group a content id or a hash belongs to.
pub(in crate::meta) mod states {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait, Uuid,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_states")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub content_id: Uuid,
        pub group_id: Vec<u8>,
        pub version: i64,
        pub state: String,
        pub public_hash: Option<Vec<u8>>,
        pub plain_hash: Option<Vec<u8>>,
        pub blake3: Option<Vec<u8>>,
    }

    super::super::plain_table!();
}

/// Blobs on disk, by hash; the generation names the file.
pub(in crate::meta) mod blobs {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_blobs")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub sha256: Vec<u8>,
        pub generation: i64,
        pub blake3: Vec<u8>,
        pub size: i64,
        pub state: String,
        pub unpinned_at: Option<i64>,
    }

    super::super::plain_table!();
}

/// Why a blob must stay. A blob with a pin cannot be deleted: the foreign key refuses.
pub(in crate::meta) mod pins {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_pins")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub sha256: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub kind: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub reference: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Who was told to commit a group that is coordinated here, or was, and the first version of which.
pub(in crate::meta) mod told {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_told")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub node: Vec<u8>,
        pub version: i64,
    }

    super::super::plain_table!();
}

/// Receipts, one per manifest and holder.
pub(in crate::meta) mod receipts {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_receipts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub manifest_hash: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub holder: Vec<u8>,
        pub until: i64,
        pub receipt: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Content keys wrapped to readers.
pub(in crate::meta) mod wraps {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_wraps")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub group_id: Vec<u8>,
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: i64,
        #[sea_orm(primary_key, auto_increment = false)]
        pub recipient: Vec<u8>,
        pub wrap: Vec<u8>,
    }

    super::super::plain_table!();
}
