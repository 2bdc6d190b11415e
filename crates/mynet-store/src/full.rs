//! Tells a full disk from a broken one.
//!
//! A write that found no space left no trace: SQLite rolls the transaction back, staged files are removed. It may be tried
//! again when there is space. After every other failure of a disk nothing may be believed.
//! Source: <https://www.sqlite.org/rescode.html#full>; Rebello et al., "Can Applications Recover from fsync Failures?" (2020).

use std::{error::Error, io};

use sea_orm::{DbErr, RuntimeErr, sqlx};

/// SQLite's primary result code for "the database or the disk is full"; extended codes keep it in their low byte.
const SQLITE_FULL: i64 = 13;

/// Whether `error` came about because the disk is full; of files also where this user's share of it is, which SQLite does
/// not tell from other failures.
///
/// A failed fsync is never one, whatever its reason.
#[must_use]
pub fn is_disk_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let by_file = error.downcast_ref().is_some_and(is_io_full);
        if by_file || error.downcast_ref().is_some_and(|error| has_code(error, SQLITE_FULL)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Whether the file system refused because it is full.
pub(crate) fn is_io_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What the database driver said.
pub(crate) fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(cause))
        | DbErr::Exec(RuntimeErr::SqlxError(cause))
        | DbErr::Query(RuntimeErr::SqlxError(cause)) => Some(cause),
        _ => None,
    }
}

/// Whether SQLite gave the primary result code `code`.
pub(crate) fn has_code(error: &DbErr, code: i64) -> bool {
    let Some(sqlx::Error::Database(cause)) = driver_error(error) else { return false };
    cause.code().and_then(|code| code.parse::<i64>().ok()).is_some_and(|found| found & 0xff == code)
}
