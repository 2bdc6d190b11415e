//! Whom this node knows: admissions, announcements, invitations, trust.

/// Admissions, the newest per node.
pub(in crate::meta) mod admissions {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_admissions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub node: Vec<u8>,
        pub admitted_at: i64,
        pub expires_at: i64,
        pub admission: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Announcements, the newest per node.
pub(in crate::meta) mod node_records {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_node_records")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub node: Vec<u8>,
        pub seq: i64,
        pub record: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Invitations of this node and the uses left.
pub(in crate::meta) mod invites {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_invites")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Vec<u8>,
        pub uses_left: i64,
        pub expires_at: i64,
        pub invite: Vec<u8>,
    }

    super::super::plain_table!();
}

/// Whom the operator trusts with decrypted states.
pub(in crate::meta) mod trust {
    use sea_orm::entity::prelude::{
        ActiveModelBehavior, DeriveEntityModel, DerivePrimaryKey, DeriveRelation, EntityTrait, EnumIter,
        PrimaryKeyTrait,
    };

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mynet_trust")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub node: Vec<u8>,
        pub trusted: bool,
        pub set_at: i64,
    }

    super::super::plain_table!();
}
