//! A data directory in the making: beside its place, or in it, until it is whole.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

use super::{GENESIS_FILE, SetupError, holds_node};

/// What a fresh file system may hold without being in use.
const OF_THE_FILE_SYSTEM: &str = "lost+found";
/// How the name begins of a directory in the making; the number of the process that makes it follows.
const BEGUN: &str = ".new-";

/// Flushes the names in a directory to stable storage.
pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Makes a directory and what is missing above it, each on stable storage.
fn make_all(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = parent_of(dir);
    make_all(parent)?;
    match fs::create_dir(dir) {
        // Made by another process since we looked.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync(parent)),
    }
}

/// The directory that a path is in.
fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// How the names begin of what was begun beside `dir`; the number of the process follows.
fn begun_beside(dir: &Path) -> String {
    format!(".{}{BEGUN}", dir.file_name().unwrap_or_default().to_string_lossy())
}

/// Whether something within a data directory was begun there and is no part of it yet.
fn is_begun(entry: &fs::DirEntry) -> bool {
    is_begun_as(entry, BEGUN)
}

/// Whether something is a directory, and no link to one, with a name that only a set-up gives.
fn is_begun_as(entry: &fs::DirEntry, begins: &str) -> bool {
    let name = entry.file_name();
    let number = name.to_str().and_then(|name| name.strip_prefix(begins));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        && entry.file_type().is_ok_and(|kind| kind.is_dir())
}

/// Takes the lock of what is being made. Process numbers come again, and are others in every container; a lock ends with whoever
/// holds it.
fn locked(temporary: &Path) -> io::Result<File> {
    let lock = File::open(temporary)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    Ok(lock)
}

/// Removes what set-ups of `dir` began and did not finish, beside it and within it, unless a process is at it: whether one is.
/// Nobody has used the keys in there. What cannot be removed stays.
pub(super) fn remove_left(dir: &Path) -> bool {
    let mut busy = false;
    for (place, begins) in [(parent_of(dir), begun_beside(dir).as_str()), (dir, BEGUN)] {
        let entries = fs::read_dir(place).into_iter().flatten().flatten();
        for path in entries.filter(|entry| is_begun_as(entry, begins)).map(|entry| entry.path()) {
            match locked(&path) {
                Ok(_lock) => match fs::remove_dir_all(&path) {
                    Ok(()) => tracing::info!(path = %path.display(), "removed what an init or a join left unfinished"),
                    Err(error) => tracing::warn!(path = %path.display(), %error, "an unfinished data directory stays"),
                },
                Err(error) if error.kind() == ErrorKind::WouldBlock => busy = true,
                // It is gone, or belongs to somebody else, or cannot be locked: then nobody knows whether a process is at it.
                Err(_) => {}
            }
        }
    }
    busy
}

/// The name of something in a directory that no set-up began and no file system makes by itself.
fn foreign(dir: &Path) -> io::Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !is_begun(&entry) && entry.file_name() != OF_THE_FILE_SYSTEM {
            return Ok(Some(entry.file_name().into()));
        }
    }
    Ok(None)
}

/// A data directory in the making. Dropped before it is finished, it goes.
pub(super) struct Place {
    wanted: PathBuf,
    /// Where it is made.
    pub(super) temporary: PathBuf,
    /// Says that this process is at it; whoever can take it knows that nobody is. `None` where there are no locks.
    _lock: Option<File>,
    /// The directory was there, empty: most often a disk is mounted on it, so it can be filled but not replaced.
    existed: bool,
    finished: bool,
}

impl Place {
    /// Begins beside `dir` if it is absent, within it if it is there and empty. What was begun there before and left is removed.
    pub(super) fn new(dir: &Path) -> Result<Self, SetupError> {
        let existed = match foreign(dir) {
            Ok(Some(_)) if holds_node(dir) => return Err(SetupError::HoldsNode(dir.to_owned())),
            Ok(Some(entry)) => return Err(SetupError::UsedDirectory { dir: dir.to_owned(), entry }),
            Ok(None) => true,
            Err(error) if error.kind() == ErrorKind::NotFound => false,
            Err(source) => return Err(SetupError::Io { verb: "read", path: dir.to_owned(), source }),
        };
        let parent = parent_of(dir);
        make_all(parent).map_err(|source| SetupError::Io { verb: "make", path: parent.to_owned(), source })?;
        let begun = || SetupError::Begun(dir.to_owned());
        if remove_left(dir) {
            return Err(begun());
        }
        let beside = parent.join(format!("{}{}", begun_beside(dir), std::process::id()));
        let temporary = if existed { dir.join(format!("{BEGUN}{}", std::process::id())) } else { beside };
        fs::DirBuilder::new().mode(0o700).create(&temporary).map_err(|source| SetupError::Io {
            verb: "make",
            path: temporary.clone(),
            source,
        })?;
        let lock = match locked(&temporary) {
            Ok(lock) => Some(lock),
            // Another process begins here in this moment, and takes this for something that was left.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound) => return Err(begun()),
            // A file system without locks. Nobody removes there what was left.
            Err(_unsupported) => None,
        };
        Ok(Self { wanted: dir.to_owned(), temporary, _lock: lock, existed, finished: false })
    }

    /// Writes a file.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SetupError> {
        let path = self.temporary.join(name);
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
        written.map_err(|source| SetupError::Io { verb: "write", path, source })
    }

    /// Writes a secret key into a sub-directory, as hex.
    pub(super) fn secret(&self, dir: &str, name: &str, secret: [u8; 32]) -> Result<(), SetupError> {
        let path = self.temporary.join(dir);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                return Err(SetupError::Io { verb: "make", path, source: error });
            }
            Ok(()) | Err(_) => {}
        }
        self.write(&format!("{dir}/{name}"), format!("{}\n", hex::encode(secret)).as_bytes())?;
        // Its name too: what is told to be there is moved offline, and nobody can make it again.
        sync(&path).map_err(|source| SetupError::Io { verb: "flush to disk", path, source })
    }

    /// Moves the directory where it belongs.
    pub(super) fn finish(mut self) -> Result<(), SetupError> {
        let parent = parent_of(&self.wanted);
        let moved = if self.existed {
            sync(&self.temporary).and_then(|()| self.move_up()).and_then(|()| sync(&self.wanted))
        } else {
            sync(&self.temporary).and_then(|()| fs::rename(&self.temporary, &self.wanted)).and_then(|()| sync(parent))
        };
        moved.map_err(|source| SetupError::Io { verb: "make", path: self.wanted.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Place {
    /// Moves everything into the directory that was there, the genesis last: without it no node starts.
    fn move_up(&self) -> io::Result<()> {
        fs::set_permissions(&self.wanted, fs::Permissions::from_mode(0o700))?;
        let mut names: Vec<_> =
            fs::read_dir(&self.temporary)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort_by_key(|name| name == GENESIS_FILE);
        for name in names {
            fs::rename(self.temporary.join(&name), self.wanted.join(&name))?;
        }
        fs::remove_dir(&self.temporary)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.finished {
            // What is left over is named after its purpose and holds no key that anybody used.
            drop(fs::remove_dir_all(&self.temporary));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::{Place, SetupError, remove_left};

    /// What is in a directory.
    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_nothing_else() {
        let temp = tempfile::tempdir().unwrap();
        let (there, absent) = (temp.path().join("there"), temp.path().join("absent"));
        for left in ["there/.new-1", "there/lost+found", ".there.new-2", ".absent.new-4000000000"] {
            fs::create_dir_all(temp.path().join(left)).unwrap();
        }
        fs::write(temp.path().join("there/.new-1/node.key"), "k").unwrap();
        fs::write(temp.path().join(".absent.new-4000000000/node.key"), "k").unwrap();
        // None of these is what a set-up of these two directories begins.
        let others = [".absent.new-", ".absent.new-1x", ".absent.new-1.bak", ".other.new-1", "absent.new-1", ".new-7"];
        for other in others {
            fs::create_dir(temp.path().join(other)).unwrap();
        }
        fs::write(temp.path().join(".absent.new-8"), "a file").unwrap();
        std::os::unix::fs::symlink(temp.path().join(".other.new-1"), temp.path().join(".absent.new-9")).unwrap();
        for dir in [&there, &absent] {
            let place = Place::new(dir).unwrap();
            place.write("node.key", b"k").unwrap();
            place.finish().unwrap();
            let kept = names(dir);
            assert_eq!(kept.iter().filter(|name| *name != "lost+found").collect::<Vec<_>>(), ["node.key"]);
        }
        let mut wanted: Vec<String> = others.map(str::to_owned).to_vec();
        wanted.extend(["there", "absent", ".absent.new-8", ".absent.new-9"].map(str::to_owned));
        wanted.sort();
        assert_eq!(names(temp.path()), wanted);
    }

    #[test]
    fn what_another_process_is_at_stays_and_is_waited_for_by_nobody() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        let first = Place::new(&dir).unwrap();
        assert!(matches!(Place::new(&dir), Err(SetupError::Begun(_))));
        assert!(remove_left(&dir));
        first.write("node.key", b"k").unwrap();
        first.finish().unwrap();
        assert_eq!(names(&dir), ["node.key"]);
        assert_eq!(names(temp.path()), ["node"]);
        assert!(matches!(Place::new(&dir), Err(SetupError::HoldsNode(_))));
    }

    #[test]
    fn a_directory_in_use_keeps_what_was_begun_in_it() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join(".new-1")).unwrap();
        fs::write(temp.path().join("mine"), "").unwrap();
        let refused = Place::new(temp.path()).err().map(|error| error.to_string());
        assert_eq!(refused, Some(format!("{} is not empty: there is mine in it", temp.path().display())));
        assert_eq!(names(temp.path()), [".new-1", "mine"]);
    }
}
