//! How a SQLite file is opened. The only place that knows pragmas.
//!
//! In WAL mode a commit is on disk only with `synchronous=FULL`: `NORMAL` leaves the last commits to the next checkpoint, and
//! a power cut would take back what was already said to others.
//! Source: <https://www.sqlite.org/pragma.html#pragma_synchronous>, <https://www.sqlite.org/wal.html>.

use std::{path::Path, sync::Arc, time::Duration};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait, sqlx,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

use crate::full::driver_error;

/// How long a connection waits for another process that writes, such as `mynet db` beside a running node.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a write waits for its turn. Writers queue for one connection and each holds it for a few fsyncs; a disk that
/// stalls for minutes must slow the node down, not end it.
const TURN_TIMEOUT: Duration = Duration::from_secs(600);
/// Page cache of one connection in KiB. Random hashes touch the whole index: a quarter of this halves insert speed at a
/// million groups, four times this gains little.
const CACHE_KIB: u32 = 16 * 1024;

/// What a connection is for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Access {
    /// The one writer; every commit is durable.
    Write,
    /// This many concurrent readers.
    Read(u32),
    /// The one writer, and nobody else may even read.
    Exclusive,
}

/// Opens the file at `path`, creating it unless only reading is asked for.
pub(crate) async fn connect(path: &Path, access: Access) -> Result<DatabaseConnection, DbErr> {
    // The address is a placeholder: a path may hold characters that an address may not.
    let mut options = ConnectOptions::new("sqlite://mynet.db");
    let path = path.to_owned();
    let connections = if let Access::Read(count) = access { count } else { 1 };
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(TURN_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_opts(move |_placeholder| {
            let options = SqliteConnectOptions::new()
                .filename(&path)
                .foreign_keys(true)
                .busy_timeout(BUSY_TIMEOUT)
                .pragma("cache_size", format!("-{CACHE_KIB}"));
            match access {
                Access::Read(_) => options.read_only(true),
                // The content key of a deleted group is overwritten and not only unlinked.
                Access::Write => durable(options).synchronous(SqliteSynchronous::Full).pragma("secure_delete", "ON"),
                Access::Exclusive => durable(options)
                    .synchronous(SqliteSynchronous::Extra)
                    .locking_mode(SqliteLockingMode::Exclusive)
                    .pragma("secure_delete", "ON")
                    // A second process must be told at once, not after a wait that cannot end well.
                    .busy_timeout(Duration::ZERO),
            }
        });
    Database::connect(options).await
}

/// Begins the writer's one transaction; waits while another one is open. Takes the write lock at once: a transaction that
/// reads first and then writes could find its snapshot outdated.
///
/// A transaction that met a full disk was ended by SQLite itself, and the driver still counts it as open: a new one would
/// be nested in nothing. The connection is opened anew then.
pub(crate) async fn begin(writer: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options =
        TransactionOptions { sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate), ..Default::default() };
    let begun = writer.begin_with_options(options).await;
    let Err(error) = begun else { return begun };
    if !matches!(driver_error(&error), Some(sqlx::Error::InvalidSavePointStatement)) {
        return Err(error);
    }
    let failed = |error: sqlx::Error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)));
    let connection = writer.get_sqlite_connection_pool().acquire().await.map_err(failed)?;
    connection.close().await.map_err(failed)?;
    writer.begin_with_options(options).await
}

/// What both kinds of writers have in common.
fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)
}
