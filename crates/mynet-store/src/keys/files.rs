//! The three key files of a data directory.
//!
//! Each is text of three lines, so that it survives copy and paste and tells what it is:
//!
//! ```text
//! mynet node key 1
//! <64 hex digits: the secret>
//! <16 hex digits: first 8 bytes of SHA-256("mynet/key-check/1" || kind || secret)>
//! ```
//!
//! The check line finds a damaged file at once; without it one changed digit would silently be another node, or a KEK that
//! opens nothing.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use ed25519_dalek::SigningKey;
use mynet_types::{NodeId, OwnerKey};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Kek, WrapSecret};
use crate::cipher::random_bytes;

/// A longer file is no key file; the longest has 106 bytes.
const FILE_BYTES_MAX: u64 = 256;
/// Permissions of a secret: its owner reads and writes.
const SECRET_MODE: u32 = 0o600;
/// Any of these bits lets somebody else at the file.
const OTHERS: u32 = 0o077;

/// Which secret a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The node's identity.
    Node,
    /// The owner of the groups made here.
    Owner,
    /// The key that content keys rest under.
    Kek,
}

impl KeyKind {
    const ALL: [Self; 3] = [Self::Node, Self::Owner, Self::Kek];

    /// Name of the file in the data directory.
    #[must_use]
    pub fn file_name(self) -> &'static str {
        match self {
            Self::Node => "node.key",
            Self::Owner => "owner.key",
            Self::Kek => "kek.key",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Owner => "owner",
            Self::Kek => "kek",
        }
    }
}

/// Why keys were not made or not loaded.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// There is a key already; nothing was changed.
    #[error("{} exists already, and keys are never overwritten", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// There is no such key.
    #[error("{} is missing", .path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others can read or write the key.
    #[error("{} can be read or changed by others (mode {mode:04o})", .path.display())]
    LoosePermissions {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is no undamaged key of this kind.
    #[error("{} is not an undamaged {} key: {reason}", .path.display(), .kind.word())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: KeyKind,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file system refused.
    #[error("cannot {verb} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

/// The secrets of one node. Blocking: three tiny files, read once at start.
pub struct KeyFiles {
    node: SigningKey,
    owner: SigningKey,
    kek: Kek,
}

impl fmt::Debug for KeyFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyFiles")
            .field("node", &self.node_id())
            .field("owner", &self.owner_key())
            .finish_non_exhaustive()
    }
}

impl KeyFiles {
    /// Makes fresh keys in `dir`. When this returns, they are on stable storage.
    ///
    /// # Errors
    /// [`KeyFileError::Exists`] if there is any of the three, [`KeyFileError::Io`]. Files that this call made are removed
    /// again.
    pub fn create(dir: &Path) -> Result<Self, KeyFileError> {
        let mut made = Vec::new();
        let created = KeyKind::ALL.into_iter().try_for_each(|kind| {
            let path = dir.join(kind.file_name());
            create_secret(&path, kind, &Zeroizing::new(random_bytes()), &mut made)
        });
        let created = created.and_then(|()| sync_dir(dir));
        if let Err(error) = created {
            for path in made {
                // The first error is the one to report; a file that stays behind is refused by the next call.
                let _ = fs::remove_file(path);
            }
            return Err(error);
        }
        Self::load(dir)
    }

    /// Loads the keys of `dir`.
    ///
    /// # Errors
    /// As [`KeyFileError`] says.
    pub fn load(dir: &Path) -> Result<Self, KeyFileError> {
        let secret = |kind: KeyKind| load_secret(&dir.join(kind.file_name()), kind);
        Ok(Self {
            node: SigningKey::from_bytes(&*secret(KeyKind::Node)?),
            owner: SigningKey::from_bytes(&*secret(KeyKind::Owner)?),
            kek: Kek::from_bytes(*secret(KeyKind::Kek)?),
        })
    }

    /// Signs for the node.
    #[must_use]
    pub fn node(&self) -> &SigningKey {
        &self.node
    }

    /// Signs for the owner of the groups made here.
    #[must_use]
    pub fn owner(&self) -> &SigningKey {
        &self.owner
    }

    /// Content keys rest under it.
    #[must_use]
    pub fn kek(&self) -> &Kek {
        &self.kek
    }

    /// The node's public name.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId(self.node.verifying_key().to_bytes())
    }

    /// The owner's public name.
    #[must_use]
    pub fn owner_key(&self) -> OwnerKey {
        OwnerKey(self.owner.verifying_key().to_bytes())
    }

    /// Opens content keys that were wrapped to this node.
    #[must_use]
    pub fn wrap_secret(&self) -> WrapSecret {
        WrapSecret::derive(&self.node)
    }
}

/// The first 8 bytes of a domain-separated hash: finds damage, hides nothing (it lies beside the secret).
fn check_line(kind: KeyKind, secret: &[u8; 32]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(b"mynet/key-check/1");
    hasher.update(kind.word());
    hasher.update(secret);
    hex::encode(hasher.finalize().split_at(8).0)
}

fn title(kind: KeyKind) -> String {
    format!("mynet {} key 1", kind.word())
}

/// Writes a new secret to stable storage; `made` learns of the file as soon as it exists.
fn create_secret(
    path: &Path,
    kind: KeyKind,
    secret: &Zeroizing<[u8; 32]>,
    made: &mut Vec<PathBuf>,
) -> Result<(), KeyFileError> {
    let io = |verb| move |source| KeyFileError::Io { verb, path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(SECRET_MODE).open(path).map_err(
        |error| match error.kind() {
            io::ErrorKind::AlreadyExists => KeyFileError::Exists { path: path.to_owned() },
            _ => io("create")(error),
        },
    )?;
    made.push(path.to_owned());
    let digits = Zeroizing::new(hex::encode(secret));
    let text = Zeroizing::new(format!("{}\n{}\n{}\n", title(kind), *digits, check_line(kind, secret)));
    file.write_all(text.as_bytes()).map_err(io("write"))?;
    file.sync_all().map_err(io("flush to disk"))
}

fn sync_dir(dir: &Path) -> Result<(), KeyFileError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|source| KeyFileError::Io {
        verb: "flush to disk",
        path: dir.to_owned(),
        source,
    })
}

/// Reads a secret from a file that only its owner can read. Permissions are those of the file that was opened, so it
/// cannot be exchanged in between.
fn load_secret(path: &Path, kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, KeyFileError> {
    let io = |verb| move |source| KeyFileError::Io { verb, path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => KeyFileError::Missing { path: path.to_owned() },
        _ => io("open")(error),
    })?;
    let mode = file.metadata().map_err(io("look at"))?.mode() & 0o7777;
    if mode & OTHERS != 0 {
        return Err(KeyFileError::LoosePermissions { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(Vec::with_capacity(128));
    file.take(FILE_BYTES_MAX).read_to_end(&mut text).map_err(io("read"))?;
    parse(&text, kind).map_err(|reason| KeyFileError::Damaged { path: path.to_owned(), kind, reason })
}

/// The secret in the text of a key file, or what is wrong with the text.
fn parse(text: &[u8], kind: KeyKind) -> Result<Zeroizing<[u8; 32]>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_not_text| "it is no text")?;
    let mut lines = text.lines().map(str::trim_end);
    if lines.next() != Some(title(kind).as_str()) {
        return Err("its first line names another kind or version");
    }
    let mut secret = Zeroizing::new([0; 32]);
    hex::decode_to_slice(lines.next().unwrap_or_default(), secret.as_mut())
        .map_err(|_not_hex| "its second line is not 64 hex digits")?;
    match lines.next() {
        Some(check) if check == check_line(kind, &secret) => Ok(secret),
        _ => Err("its check line does not fit the secret"),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use super::{KeyFileError, KeyFiles, KeyKind};

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn created_keys_load_again_and_are_private() {
        let dir = tempfile::tempdir().unwrap();
        let made = KeyFiles::create(dir.path()).unwrap();
        let loaded = KeyFiles::load(dir.path()).unwrap();
        assert_eq!(made.node_id(), loaded.node_id());
        assert_eq!(made.owner_key(), loaded.owner_key());
        assert_eq!(made.kek().id(), loaded.kek().id());
        assert_ne!(made.node_id().0, made.owner_key().0);
        for kind in KeyKind::ALL {
            let mode = fs::metadata(dir.path().join(kind.file_name())).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{kind:?}");
        }
    }

    #[test]
    fn an_existing_key_is_never_overwritten_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("kek.key"), "precious").unwrap();
        assert!(matches!(KeyFiles::create(dir.path()), Err(KeyFileError::Exists { .. })));
        assert_eq!(fs::read(dir.path().join("kek.key")).unwrap(), b"precious");
        assert!(!dir.path().join("node.key").exists() && !dir.path().join("owner.key").exists());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        KeyFiles::create(dir.path()).unwrap();
        let path = dir.path().join("owner.key");
        for mode in [0o640, 0o604, 0o620, 0o601] {
            chmod(&path, mode);
            let error = KeyFiles::load(dir.path()).unwrap_err();
            assert!(matches!(error, KeyFileError::LoosePermissions { .. }), "{mode:o}");
            assert!(error.to_string().contains(&format!("mode {mode:04o}")), "{error}");
        }
        chmod(&path, 0o400);
        KeyFiles::load(dir.path()).unwrap();
    }

    #[test]
    fn damage_is_found_and_named() {
        let dir = tempfile::tempdir().unwrap();
        KeyFiles::create(dir.path()).unwrap();
        let path = dir.path().join("kek.key");
        let good = fs::read_to_string(&path).unwrap();
        let digit = if good.as_bytes()[20] == b'0' { "1" } else { "0" };
        let flipped = [&good[..20], digit, &good[21..]].concat();
        let owner = fs::read_to_string(dir.path().join("owner.key")).unwrap();
        for bad in [&flipped, &good[..60], "", &owner] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(KeyFiles::load(dir.path()), Err(KeyFileError::Damaged { .. })), "{bad:?}");
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(KeyFiles::load(dir.path()), Err(KeyFileError::Missing { .. })));
    }

    #[test]
    fn the_text_form_is_frozen() {
        let dir = tempfile::tempdir().unwrap();
        let mut made = Vec::new();
        let path = dir.path().join("kek.key");
        super::create_secret(&path, KeyKind::Kek, &zeroize::Zeroizing::new([0x42; 32]), &mut made).unwrap();
        let want = format!("mynet kek key 1\n{}\n18c31b41320210b6\n", "42".repeat(32));
        assert_eq!(fs::read_to_string(&path).unwrap(), want);
    }

    #[test]
    fn secrets_are_never_printed() {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyFiles::create(dir.path()).unwrap();
        let text = format!("{keys:?} {:?} {:?}", keys.kek(), keys.wrap_secret());
        for kind in KeyKind::ALL {
            let file = fs::read_to_string(dir.path().join(kind.file_name())).unwrap();
            assert!(!text.contains(file.lines().nth(1).unwrap()), "{kind:?}");
        }
    }
}
