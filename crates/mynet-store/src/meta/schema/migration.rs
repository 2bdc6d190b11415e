//! The schema's history. A migration that was released is never edited; a change is a new one.
//!
//! All pending migrations run in one write transaction, taken before they are looked up: of two processes that start at
//! once the second waits and finds nothing to do, and a crash leaves the old schema. Nothing here refers to a dialect.

use sea_orm::{DatabaseTransaction, DbErr, sea_query::SimpleExpr};
use sea_orm_migration::{
    MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
    schema::{
        big_integer, big_integer_null, binary, binary_null, boolean, integer, integer_null, json_binary, pk_uuid,
        string_len, string_len_null, text, text_null, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid,
        uuid_null,
    },
    sea_query::{
        ColumnDef, ConditionalStatement, DynIden, Expr, ExprTrait, ForeignKey, ForeignKeyAction,
        ForeignKeyCreateStatement, Index, IndexCreateStatement, IntoIden, Query, Table, TableCreateStatement,
    },
};

/// Length of a word column: the specification's `varchar(32)`.
const WORD: u32 = 32;

/// Runs what is pending inside `transaction`.
pub(in crate::meta) async fn migrate(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    Migrator::up(transaction, None).await
}

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Foundation), Box::new(GroupLog), Box::new(Told)]
    }

    fn migration_table_name() -> DynIden {
        "mynet_migrations".into_iden()
    }
}

/// Every table of the first release.
struct Foundation;

impl MigrationName for Foundation {
    fn name(&self) -> &'static str {
        "m0001_foundation"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Foundation {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let tables = [
            content_tables(),
            group_tables(),
            transaction_tables(),
            deletion_tables(),
            member_tables(),
            access_tables(),
        ];
        for table in tables.into_iter().flatten() {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        // The caller's transaction covers all of it.
        Some(false)
    }
}

/// The log of groups.
struct GroupLog;

impl MigrationName for GroupLog {
    fn name(&self) -> &'static str {
        "m0002_group_log"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for GroupLog {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            binary("group_id"),
            string_len("code", WORD),
            binary("peer"),
            big_integer_null("value"),
            big_integer("first_at"),
            big_integer("last_at"),
            big_integer("count"),
            big_integer("seq"),
        ];
        manager.create_table(keyed("mynet_group_log", &["group_id", "code", "peer"], columns)).await?;
        manager.create_index(index("idx_mynet_group_log_group", "mynet_group_log", &["group_id", "seq"])).await?;
        manager.create_index(index("idx_mynet_group_log_seq", "mynet_group_log", &["seq"])).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

/// Who was told to commit a group.
struct Told;

impl MigrationName for Told {
    fn name(&self) -> &'static str {
        "m0003_told"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Told {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [binary("group_id"), binary("node"), big_integer("version")];
        manager.create_table(keyed("mynet_told", &["group_id", "node"], columns)).await?;
        // Who was told before is known by the receipts that came.
        let mut known = Query::select();
        known.column(("mynet_groups", "group_id")).column("holder").column("version").from("mynet_receipts");
        let same = Expr::col(("mynet_receipts", "manifest_hash")).equals(("mynet_groups", "manifest_hash"));
        known.inner_join("mynet_groups", same);
        let mut told = Query::insert().into_table("mynet_told").columns(["group_id", "node", "version"]).take();
        told.select_from(known).map_err(|error| DbErr::Custom(error.to_string()))?;
        manager.execute(told).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

/// A table of `columns`.
fn table(name: &'static str, columns: impl IntoIterator<Item = ColumnDef>) -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name);
    for column in columns {
        table.col(column);
    }
    table
}

/// A table whose primary key is the columns named.
fn keyed(
    name: &'static str,
    key: &[&'static str],
    columns: impl IntoIterator<Item = ColumnDef>,
) -> TableCreateStatement {
    let mut primary = Index::create();
    for column in key {
        primary.col(*column);
    }
    table(name, columns).primary_key(&mut primary).take()
}

/// `default` for a column.
fn or(mut column: ColumnDef, default: impl Into<SimpleExpr>) -> ColumnDef {
    column.default(default).take()
}

/// A reference from one column to the primary key of a table; deleting what is referred to is refused.
fn reference(
    (table, column): (&'static str, &'static str),
    (to, key): (&'static str, &'static str),
) -> ForeignKeyCreateStatement {
    ForeignKey::create().from(table, column).to(to, key).on_delete(ForeignKeyAction::Restrict).take()
}

/// A reference to a group version, by `(group_id, version)`.
fn group_reference(table: &'static str) -> ForeignKeyCreateStatement {
    let mut key = ForeignKey::create();
    key.from_tbl(table).from_col("group_id").from_col("version");
    key.to_tbl("mynet_groups").to_col("group_id").to_col("version");
    key.on_delete(ForeignKeyAction::Restrict).take()
}

/// The specification's tables. No foreign key from `stored_content` to itself: its rows refer to each other both ways, and
/// a deferred check is not to be had in every database.
fn content_tables() -> Vec<TableCreateStatement> {
    let stored_content = table(
        "stored_content",
        [
            pk_uuid("id"),
            string_len("hash", 71),
            boolean("encrypted"),
            uuid_null("encryption_key_id"),
            string_len_null("content_type", WORD),
            big_integer("file_size"),
            json_binary("tags"),
            string_len_null("filename", 255),
            uuid_null("decrypted_content_id"),
            uuid_null("original_encrypted_id"),
            uuid_null("parent_content_id"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone("updated_at"),
            or(boolean("my_network_enabled"), false),
            or(integer("replica_count"), 0),
            or(string_len("replication_status", WORD), "none"),
            or(boolean("consensus_achieved"), false),
            or(json_binary("replicated_on_peers"), "[]"),
            timestamp_with_time_zone_null("last_sync_timestamp"),
            or(json_binary("network_metadata"), "{}"),
        ],
    );
    let relationships = table(
        "content_relationships",
        [
            pk_uuid("id"),
            uuid("parent_content_id"),
            uuid("child_content_id"),
            string_len("relationship_type", WORD),
            timestamp_with_time_zone("created_at"),
        ],
    )
    .foreign_key(&mut reference(("content_relationships", "parent_content_id"), ("stored_content", "id")))
    .foreign_key(&mut reference(("content_relationships", "child_content_id"), ("stored_content", "id")))
    .take();
    let keys = table(
        "encryption_keys",
        [
            pk_uuid("id"),
            string_len("algorithm", WORD),
            binary("wrapped_key"),
            binary("group_id"),
            big_integer("version"),
            timestamp_with_time_zone("created_at"),
            timestamp_with_time_zone_null("rotated_at"),
            string_len("state", WORD),
        ],
    );
    let user_content = keyed(
        "user_content",
        &["user_id", "content_id", "relation"],
        [text("user_id"), uuid("content_id"), string_len("relation", WORD), timestamp_with_time_zone("created_at")],
    );
    vec![stored_content, relationships, keys, user_content]
}

fn group_tables() -> Vec<TableCreateStatement> {
    let groups = keyed(
        "mynet_groups",
        &["group_id", "version"],
        [
            binary("group_id"),
            big_integer("version"),
            binary("manifest_hash").unique_key().take(),
            binary("manifest"),
            binary("sealed"),
            binary("owner"),
            boolean("visible"),
            boolean("origin"),
            integer("held"),
            uuid("root_content_id"),
            integer("placement_slot"),
            big_integer("created_at"),
            big_integer("ordered_at"),
            boolean("published"),
            boolean("started"),
            text_null("failure"),
            string_len("mode", WORD),
            integer("replicas"),
            integer("quorum"),
            string_len("status", WORD),
            integer("replica_count"),
            binary_null("certificate_hash"),
            boolean("certified"),
            big_integer_null("rejected_at"),
            big_integer_null("synced_at"),
        ],
    );
    let certificates = keyed(
        "mynet_certificates",
        &["manifest_hash"],
        [binary("manifest_hash"), binary("certificate"), integer("claim")],
    )
    .foreign_key(&mut reference(("mynet_certificates", "manifest_hash"), ("mynet_groups", "manifest_hash")))
    .take();
    let states = table(
        "mynet_states",
        [
            pk_uuid("content_id"),
            binary("group_id"),
            big_integer("version"),
            string_len("state", WORD),
            binary_null("public_hash"),
            binary_null("plain_hash"),
            binary_null("blake3"),
        ],
    )
    .foreign_key(&mut group_reference("mynet_states"))
    .take();
    [vec![groups, certificates, states], holding_tables()].concat()
}

/// What is on disk, and for and by whom.
fn holding_tables() -> Vec<TableCreateStatement> {
    let blobs = keyed(
        "mynet_blobs",
        &["sha256"],
        [
            binary("sha256"),
            big_integer("generation"),
            binary("blake3"),
            big_integer("size"),
            string_len("state", WORD),
            big_integer_null("unpinned_at"),
        ],
    );
    let pins = keyed(
        "mynet_pins",
        &["sha256", "kind", "reference"],
        [binary("sha256"), string_len("kind", WORD), binary("reference")],
    )
    .foreign_key(&mut reference(("mynet_pins", "sha256"), ("mynet_blobs", "sha256")))
    .take();
    let receipts = keyed(
        "mynet_receipts",
        &["manifest_hash", "holder"],
        [binary("manifest_hash"), binary("holder"), big_integer("until"), binary("receipt")],
    )
    .foreign_key(&mut reference(("mynet_receipts", "manifest_hash"), ("mynet_groups", "manifest_hash")))
    .take();
    let wraps = keyed(
        "mynet_wraps",
        &["group_id", "version", "recipient"],
        [binary("group_id"), big_integer("version"), binary("recipient"), binary("wrap")],
    )
    .foreign_key(&mut group_reference("mynet_wraps"))
    .take();
    vec![blobs, pins, receipts, wraps]
}

fn transaction_tables() -> Vec<TableCreateStatement> {
    let transactions = keyed(
        "mynet_transactions",
        &["tx"],
        [
            binary("tx"),
            string_len("phase", WORD),
            big_integer("attempt"),
            binary_null("group_id"),
            big_integer("reserved_bytes"),
            binary("state"),
            integer_null("states"),
            binary_null("receipt"),
            big_integer("updated_at"),
        ],
    );
    let claims = keyed("mynet_claims", &["content_id", "tx"], [uuid("content_id"), binary("tx"), binary("group_id")]);
    let coordinations = keyed(
        "mynet_coordinations",
        &["group_id"],
        [binary("group_id"), binary("publication"), binary_null("decided"), big_integer("updated_at")],
    );
    let lineages = keyed("mynet_lineages", &["group_id"], [binary("group_id"), binary("lineage")]);
    vec![transactions, claims, coordinations, lineages]
}

fn deletion_tables() -> Vec<TableCreateStatement> {
    let tombstones = keyed(
        "mynet_tombstones",
        &["group_id", "owner"],
        [
            binary("group_id"),
            binary("owner"),
            big_integer("seq").unique_key().take(),
            binary("tombstone"),
            binary_null("brought_by"),
        ],
    );
    let confirmations = keyed(
        "mynet_confirmations",
        &["group_id", "owner", "node"],
        [binary("group_id"), binary("owner"), binary("node"), boolean("confirmed")],
    );
    vec![tombstones, confirmations]
}

fn member_tables() -> Vec<TableCreateStatement> {
    vec![
        keyed(
            "mynet_admissions",
            &["node"],
            [binary("node"), big_integer("admitted_at"), big_integer("expires_at"), binary("admission")],
        ),
        keyed("mynet_node_records", &["node"], [binary("node"), big_integer("seq"), binary("record")]),
        keyed(
            "mynet_invites",
            &["id"],
            [binary("id"), big_integer("uses_left"), big_integer("expires_at"), binary("invite")],
        ),
        keyed("mynet_trust", &["node"], [binary("node"), boolean("trusted"), big_integer("set_at")]),
    ]
}

fn access_tables() -> Vec<TableCreateStatement> {
    let tokens = keyed(
        "mynet_tokens",
        &["id"],
        [
            binary("id"),
            text("name"),
            binary("secret_hash").unique_key().take(),
            text("scope"),
            big_integer("created_at"),
            big_integer_null("expires_at"),
            big_integer_null("last_used_at"),
            big_integer_null("revoked_at"),
        ],
    );
    vec![tokens, keyed("mynet_settings", &["key"], [string_len("key", 64), text("value")])]
}

/// An index on `columns`.
fn index(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(table);
    for column in columns {
        index.col(*column);
    }
    index
}

fn indexes() -> Vec<IndexCreateStatement> {
    vec![
        index("idx_stored_content_hash", "stored_content", &["hash"]),
        index(
            "uq_content_rel_parent_child_type",
            "content_relationships",
            &["parent_content_id", "child_content_id", "relationship_type"],
        )
        .unique()
        .take(),
        index("idx_content_rel_parent", "content_relationships", &["parent_content_id"]),
        index("idx_content_rel_child", "content_relationships", &["child_content_id"]),
        index("idx_content_rel_type", "content_relationships", &["relationship_type"]),
        index("uq_encryption_keys_group", "encryption_keys", &["group_id", "version"]).unique().take(),
        index("idx_user_content_content", "user_content", &["content_id"]),
        index("idx_mynet_groups_listing", "mynet_groups", &["visible", "ordered_at", "group_id"]),
        index("idx_mynet_groups_status", "mynet_groups", &["status"]),
        index("idx_mynet_groups_rejected", "mynet_groups", &["rejected_at"]),
        // One version of a group is visible at a time; the database itself refuses a second one.
        index("uq_mynet_groups_visible", "mynet_groups", &["group_id"])
            .unique()
            .and_where(Expr::col("visible").eq(true))
            .take(),
        index("idx_mynet_states_group", "mynet_states", &["group_id", "version"]),
        index("idx_mynet_states_public_hash", "mynet_states", &["public_hash"]),
        index("idx_mynet_states_plain_hash", "mynet_states", &["plain_hash"]),
        index("idx_mynet_blobs_unpinned", "mynet_blobs", &["unpinned_at"]),
        index("idx_mynet_pins_reference", "mynet_pins", &["reference", "kind"]),
        index("idx_mynet_receipts_until", "mynet_receipts", &["until"]),
        index("idx_mynet_transactions_phase", "mynet_transactions", &["phase"]),
        index("idx_mynet_claims_tx", "mynet_claims", &["tx"]),
        index("idx_mynet_tombstones_brought_by", "mynet_tombstones", &["brought_by", "seq"]),
        index("idx_mynet_confirmations_confirmed", "mynet_confirmations", &["confirmed"]),
    ]
}
