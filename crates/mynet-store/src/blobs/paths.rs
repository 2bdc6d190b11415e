//! Names of blobs, where they lie, and the few file system calls that must be made durable.

use std::{
    fmt, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    str::FromStr,
};

use mynet_types::{ContentHash, ParseIdError};

use crate::full::is_io_full;

/// What the outboard's name adds to the blob's.
const OUTBOARD_SUFFIX: &str = ".obao";
/// Directories belong to the node alone: names of blobs tell what it holds.
const DIR_MODE: u32 = 0o700;

/// One put of some bytes: their hash, and which put of that hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobKey {
    /// SHA-256 of the bytes.
    pub sha256: ContentHash,
    /// Which put; the row holds it too.
    pub generation: u64,
}

/// A file name that is no blob's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParseKeyError {
    /// Not written as a blob is named.
    #[error("a blob is named <sha256 in hex>.<generation>")]
    Shape,
    /// The hash is none.
    #[error(transparent)]
    Hash(#[from] ParseIdError),
    /// The generation is no number.
    #[error("the generation is no number: {0}")]
    Generation(#[from] std::num::ParseIntError),
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", hex::encode(self.sha256.0), self.generation)
    }
}

impl FromStr for BlobKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, ParseKeyError> {
        let (hash, generation) = text.split_once('.').ok_or(ParseKeyError::Shape)?;
        let key = Self { sha256: hash.parse()?, generation: generation.parse()? };
        // One key, one name: `+1` and `01` are numbers too.
        if key.to_string() == text { Ok(key) } else { Err(ParseKeyError::Shape) }
    }
}

impl BlobKey {
    /// The directory that holds the blob: 65,536 of them, so that a million blobs make 16 entries each.
    pub(super) fn shard(&self) -> [u8; 2] {
        let [first, second, ..] = self.sha256.0;
        [first, second]
    }

    pub(super) fn path_in(&self, blobs: &Path) -> PathBuf {
        let [first, second] = self.shard();
        blobs.join(hex::encode([first])).join(hex::encode([second])).join(self.to_string())
    }
}

/// The outboard that belongs to a blob's path.
pub(super) fn outboard_of(blob: &Path) -> PathBuf {
    let mut path = blob.as_os_str().to_owned();
    path.push(OUTBOARD_SUFFIX);
    path.into()
}

/// A call to the file system failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {}: {source}", .path.display())]
pub struct DiskError {
    /// What was tried.
    pub verb: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

impl DiskError {
    /// Whether the disk, or this user's share of it, is full.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        is_io_full(&self.source)
    }
}

/// Gives an error of the file system its verb and path.
pub(super) trait OnDisk<T> {
    fn on_disk(self, verb: &'static str, path: &Path) -> Result<T, DiskError>;
}

impl<T> OnDisk<T> for io::Result<T> {
    fn on_disk(self, verb: &'static str, path: &Path) -> Result<T, DiskError> {
        self.map_err(|source| DiskError { verb, path: path.to_owned(), source })
    }
}

/// Bytes that this user may still write below `dir`. Blocking, but only a system call.
///
/// # Errors
/// If there is no such directory.
pub fn free_space(dir: &Path) -> Result<u64, DiskError> {
    let stat = rustix::fs::statvfs(dir).map_err(io::Error::from).on_disk("look at", dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes a directory and what is missing above it, each flushed to stable storage; says whether it was missing.
pub(super) fn create_dir(dir: &Path) -> Result<bool, DiskError> {
    if dir.is_dir() {
        return Ok(false);
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create_dir(parent)?;
    match fs::DirBuilder::new().mode(DIR_MODE).create(dir) {
        // Made by another task since we looked.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(false),
        made => {
            made.on_disk("make directory", dir)?;
            sync_dir(parent)?;
            Ok(true)
        }
    }
}

/// Flushes the names in a directory to stable storage.
pub(super) fn sync_dir(dir: &Path) -> Result<(), DiskError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).on_disk("flush to disk", dir)
}

/// Whether there was a file to remove.
pub(super) fn remove_if_there(path: &Path) -> Result<bool, DiskError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        removed => removed.on_disk("remove", path).map(|()| true),
    }
}

/// What a directory holds; nothing if it is missing.
pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>, DiskError> {
    let listed = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed.on_disk("list", dir)?,
    };
    listed.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>().on_disk("list", dir)
}

/// Adds the blobs in a directory to `keys`; a blob of which only one file is there counts. Other names are left alone.
pub(super) fn keys_in(dir: &Path, keys: &mut Vec<BlobKey>) -> Result<(), DiskError> {
    let names = entries(dir)?;
    keys.extend(names.iter().filter_map(|path| {
        let name = path.file_name()?.to_str()?;
        name.strip_suffix(OUTBOARD_SUFFIX).unwrap_or(name).parse::<BlobKey>().ok()
    }));
    Ok(())
}
