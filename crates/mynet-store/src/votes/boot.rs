//! The boot counter: how a store notices that it was restored, copied or lost.
//!
//! Each open adds one to a counter in `votes.db` and then writes the same number to `votes.boot`. A store that came from a
//! backup is behind the file; a lost one is empty in a data directory that is not new. A crash between the two writes
//! leaves the database one ahead, with nothing signed in between, and is no reason to abstain.
//!
//! Not noticed: both files restored together, such as a whole machine from a snapshot.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use borsh::{BorshDeserialize, BorshSerialize};

use super::DataDir;
use crate::meta::column::{Damage, pack_record, unpack_record};

/// Identity and count of a store, in both places.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(super) struct Boot {
    /// Random; tells two stores apart.
    pub(super) store: [u8; 16],
    /// Opens so far.
    pub(super) count: u64,
}

/// What was found before this open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// In `votes.db`.
    pub(super) database: Option<Boot>,
    /// In `votes.boot`; `None` also if it cannot be read as such.
    pub(super) file: Option<Boot>,
    /// Whether `votes.db` holds a key or a vote.
    pub(super) used: bool,
    /// What the caller knows about the data directory.
    pub(super) directory: DataDir,
}

/// Whether the store is known to hold everything that its keys ever signed.
pub(super) fn is_complete(found: Found) -> bool {
    match (found.database, found.file) {
        (None, None) => found.directory == DataDir::New,
        (None, Some(_)) => false,
        // The very first open was cut short between its two writes.
        (Some(database), None) => database.count == 1 && !found.used,
        (Some(database), Some(file)) => {
            let ahead = database.count.checked_sub(file.count);
            database.store == file.store && matches!(ahead, Some(0 | 1))
        }
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("votes.boot")
}

/// Reads `votes.boot`. A file that is not what was written counts as absent: both mean that nothing is known.
pub(super) fn read(directory: &Path) -> io::Result<Option<Boot>> {
    /// The record is 24 bytes.
    const MAX: usize = 64;
    match fs::read(path(directory)) {
        Ok(bytes) => {
            let boot: Result<Boot, Damage> = unpack_record(&bytes, MAX);
            Ok(boot.ok())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces `votes.boot` durably: written aside, fsynced, renamed, directory fsynced.
pub(super) fn write(directory: &Path, boot: Boot) -> io::Result<()> {
    let aside = directory.join("votes.boot.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&pack_record(&boot))?;
    file.sync_all()?;
    fs::rename(&aside, path(directory))?;
    File::open(directory)?.sync_all()
}

/// Makes an empty `votes.db` that only this user may read, before the database would make one that others may.
pub(super) fn create_private(database: &Path) -> io::Result<()> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(database) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::{Boot, DataDir, Found, is_complete};

    #[test]
    fn only_a_store_that_cannot_be_older_than_its_signatures_is_complete() {
        let at = |store: u8, count| Some(Boot { store: [store; 16], count });
        let check = |database, file, used, directory, expected| {
            let found = Found { database, file, used, directory };
            assert_eq!(is_complete(found), expected, "{found:?}");
        };
        check(None, None, false, DataDir::New, true);
        check(None, None, false, DataDir::Used, false);
        check(None, at(1, 3), false, DataDir::New, false);
        check(at(1, 3), at(1, 3), true, DataDir::Used, true);
        check(at(1, 4), at(1, 3), true, DataDir::Used, true);
        check(at(1, 5), at(1, 3), true, DataDir::Used, false);
        check(at(1, 2), at(1, 3), true, DataDir::Used, false);
        check(at(2, 3), at(1, 3), true, DataDir::Used, false);
        check(at(1, 1), None, false, DataDir::Used, true);
        check(at(1, 1), None, true, DataDir::Used, false);
        check(at(1, 2), None, false, DataDir::Used, false);
    }
}
