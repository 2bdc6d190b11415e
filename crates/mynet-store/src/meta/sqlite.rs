//! How a SQLite file is opened. The only place that knows pragmas.
//!
//! In WAL mode a commit is on disk only with `synchronous=FULL`: `NORMAL` leaves the last commits to the next checkpoint, and
//! a power cut would take back what was already said to others.
//! Source: <https://www.sqlite.org/pragma.html#pragma_synchronous>, <https://www.sqlite.org/wal.html>.

use std::{path::Path, time::Duration};

use sea_orm::{
    ConnectOptions, Database, DatabaseConnection, DbErr,
    sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous},
};

/// How long a connection waits for another process that writes, such as `mynet db` beside a running node.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
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
                Access::Write => durable(options).synchronous(SqliteSynchronous::Full),
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

/// What both kinds of writers have in common.
fn durable(options: SqliteConnectOptions) -> SqliteConnectOptions {
    options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal)
}
