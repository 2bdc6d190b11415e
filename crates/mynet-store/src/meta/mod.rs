//! Metadata of a node: groups and their rows, blobs and pins, transactions, members, tokens.
//!
//! Callers verify what they hand in (signatures, hashes, policy); this module keeps it, all or nothing. State of the cores
//! is opaque here and comes back byte for byte.
//!
//! ```text
//! MetaWrite.. -> batch -> one BEGIN IMMEDIATE on the one writer -> fsync -> Ok      readers: a pool of their own
//! ```
//!
//! **Invariants**
//! 1. What `batch` acknowledged survives `kill -9` and a power cut.
//! 2. A group is visible completely or not at all.
//! 3. Every opaque or signed record carries its format number.
//! 4. Extension columns follow from receipts, certificate and manifest in the same transaction.
//!
//! Reading order: [`model`], [`mod@write`], `groups`, `versions`, `transactions`, `projection`, `blobs`, [`garbage`],
//! `tombstones`, [`doctor`], [`views`], [`members`], [`tokens`], [`mod@log`].
//! Deliberately absent: votes (see [`crate::votes`]), blob bytes, keys in the clear, clocks (every `now` is an argument).
//! Source: the specification, "Integration with the StoredContent model"; section 2 of the protocol for what is durable when.

pub(crate) mod column;
pub mod model;
pub(crate) mod sqlite;

mod blobs;
pub mod doctor;
pub mod garbage;
mod groups;
pub mod log;
pub mod members;
mod projection;
mod rows;
mod schema;
mod sql;
pub mod tokens;
mod tombstones;
mod transactions;
mod versions;
pub mod views;
pub mod write;

#[cfg(test)]
mod tests;

use std::path::Path;

use mynet_types::NodeId;
use sea_orm::{
    ColumnTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, sea_query::OnConflict,
};

pub use self::{
    blobs::{BlobRow, LostBlob},
    column::Damage,
    doctor::Finding,
    garbage::Keeper,
    log::LogLine,
    members::RedeemError,
    model::{Granted, GroupRows, MetaError, Mode, NewGroup, ReplicationStatus, StoredBlob, WriteError},
    tokens::Token,
    tombstones::{Deletion, TombstonePage},
    transactions::{Coordination, OpenTransaction, RestoredTransactions},
    views::{Counts, Cursor, FoundBy, Group, GroupView, ListQuery, Page, Relationship, StoredContent},
    write::{BatchDone, MetaWrite},
};
use self::{
    schema::{access::settings, migration},
    sqlite::Access,
};

/// Readers beside the writer. Fewer make lists wait for each other; more than cores gain nothing.
const READERS: u32 = 4;
/// Encoded size of a receipt, wrap, admission, announcement or invitation at most; the largest is below 1 KiB.
const SMALL_RECORD_MAX: usize = 4096;
/// The name under which the boot counter is kept.
const BOOT: &str = "boot";

/// The metadata store. Cheap to clone; all clones share one writer.
#[derive(Debug, Clone)]
pub struct Meta {
    write: DatabaseConnection,
    read: DatabaseConnection,
    me: NodeId,
    boot: u64,
}

impl Meta {
    /// Opens the database at `path` for node `me`, makes or updates its schema, and counts the boot.
    ///
    /// Of two processes that open one file at once the second waits for the migrations of the first. Keeping a second
    /// *node* away from a data directory is the task of [`crate::votes::Votes`].
    ///
    /// # Errors
    /// [`MetaError`]: the file cannot be opened, or was written by a newer program.
    pub async fn open(path: &Path, me: NodeId) -> Result<Self, MetaError> {
        let write = sqlite::connect(path, Access::Write).await?;
        let transaction = sqlite::begin(&write).await?;
        migration::migrate(&transaction).await?;
        let boot = count_boot(&transaction).await?;
        transaction.commit().await?;
        let read = sqlite::connect(path, Access::Read(READERS)).await?;
        Ok(Self { write, read, me, boot })
    }

    /// How often this store was opened, this time included: part of every transaction id.
    #[must_use]
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// Waits for running statements and closes the file; a checkpoint moves the log into it.
    ///
    /// # Errors
    /// [`MetaError::Database`]; the store is unusable then too, and nothing acknowledged is lost.
    pub async fn close(self) -> Result<(), MetaError> {
        self.read.close().await?;
        Ok(self.write.close().await?)
    }

    /// Reads a setting.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn setting(&self, key: &str) -> Result<Option<String>, MetaError> {
        Ok(settings::Entity::find_by_id(key.to_owned()).one(&self.read).await?.map(|row| row.value))
    }

    /// Writes a setting; `None` removes it. `boot` belongs to the store.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn set_setting(&self, key: &str, value: Option<&str>) -> Result<(), MetaError> {
        match value {
            Some(value) => put_setting(&self.write, key, value).await?,
            None => {
                settings::Entity::delete_many().filter(settings::Column::Key.eq(key)).exec(&self.write).await?;
            }
        }
        Ok(())
    }

    /// Begins the one write transaction; waits while another one is open.
    async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        sqlite::begin(&self.write).await
    }
}

async fn count_boot(transaction: &DatabaseTransaction) -> Result<u64, MetaError> {
    let before = match settings::Entity::find_by_id(BOOT.to_owned()).one(transaction).await? {
        Some(row) => {
            let parsed: Result<u64, _> = row.value.parse();
            parsed.map_err(|_not_a_number| Damage::Word(row.value.clone()).within("mynet_settings"))?
        }
        None => 0,
    };
    let boot = before.saturating_add(1);
    put_setting(transaction, BOOT, &boot.to_string()).await?;
    Ok(boot)
}

async fn put_setting<C: sea_orm::ConnectionTrait>(db: &C, key: &str, value: &str) -> Result<(), DbErr> {
    let row = settings::Model { key: key.to_owned(), value: value.to_owned() };
    sql::upsert(db, row, OnConflict::column(settings::Column::Key).update_column(settings::Column::Value)).await?;
    Ok(())
}
