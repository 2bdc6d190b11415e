//! Where unfinished bytes live: one directory per upload or transaction, removed as a whole.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::SystemTime,
};

use mynet_types::BlobRef;

use super::{
    offload::blocking,
    paths::{DiskError, OnDisk, create_dir, entries, outboard_of},
};

/// A transaction id in hex, with room for a word in front of it.
const NAME_MAX: usize = 80;

/// Name of a staging directory, or of a file in it: 1 to 80 of `a-z 0-9 - _`, so that no name leaves its directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageName(String);

/// A text cannot name anything staged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' cannot be staged under: expected 1 to {NAME_MAX} of a-z, 0-9, '-' and '_'")]
pub struct StageError(String);

impl FromStr for StageName {
    type Err = StageError;

    fn from_str(text: &str) -> Result<Self, StageError> {
        let allowed = |c: u8| matches!(c, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(StageError(text.to_owned()))
        }
    }
}

impl fmt::Display for StageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One staging directory. Dropping it leaves the directory: a transaction resumes after a restart, and only its owner or
/// the sweep knows that it is over.
#[derive(Debug, Clone)]
pub struct StagingDir {
    name: StageName,
    path: PathBuf,
}

/// What the sweep looks at.
#[derive(Debug)]
pub struct StagedEntry {
    /// The directory.
    pub dir: StagingDir,
    /// When a file was last made or removed in it.
    pub modified: SystemTime,
}

/// A complete blob whose bytes are verified and on stable storage, not yet in place.
#[derive(Debug, Clone)]
pub struct StagedBlob {
    /// Hashes and size of the bytes as stored.
    pub blob: BlobRef,
    pub(super) data: PathBuf,
    /// Absent for blobs of one group.
    pub(super) outboard: Option<PathBuf>,
}

impl StagedBlob {
    /// The file as it is staged, for whoever makes a preview of it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.data
    }
}

impl StagingDir {
    pub(super) fn create(parent: &Path, name: StageName) -> Result<Self, DiskError> {
        let path = parent.join(&name.0);
        create_dir(&path)?;
        Ok(Self { name, path })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &StageName {
        &self.name
    }

    /// Removes the directory with everything in it; one that is gone is fine.
    ///
    /// # Errors
    /// If the file system refuses.
    pub async fn remove(self) -> Result<(), DiskError> {
        blocking(move || match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed.on_disk("remove", &self.path),
        })
        .await?
    }

    /// Path of the data staged under `label`, and of its outboard.
    pub(super) fn files(&self, label: &StageName) -> (PathBuf, PathBuf) {
        let data = self.path.join(&label.0);
        let outboard = outboard_of(&data);
        (data, outboard)
    }

    /// Where it is, for files that others make in it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

pub(super) fn list(parent: &Path) -> Result<Vec<StagedEntry>, DiskError> {
    let mut found = Vec::new();
    for path in entries(parent)? {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let Some(name) = name else { continue };
        let meta = match fs::metadata(&path) {
            // Removed since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            meta => meta.on_disk("look at", &path)?,
        };
        let modified = meta.modified().on_disk("look at", &path)?;
        found.push(StagedEntry { dir: StagingDir { name, path }, modified });
    }
    Ok(found)
}
