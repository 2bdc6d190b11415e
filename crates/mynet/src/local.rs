//! What the program finds in a data directory: where it is, and how to speak to its node.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use mynet_node::setup::holds_node;
use serde::{Deserialize, Serialize};

use crate::{
    args::Global,
    output::{Failure, Status},
};

/// File in which a running node tells its API and admin key to commands on the same machine.
const ACCESS_FILE: &str = "api.json";

/// How to speak to the node of a data directory. The key makes whoever reads it an administrator: mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Access {
    /// Base URL.
    pub(crate) api: String,
    /// Admin key.
    pub(crate) token: String,
    /// Whether it is the one that the node made for commands on its machine.
    #[serde(skip)]
    pub(crate) is_local: bool,
}

/// The data directory: given, or the user's.
pub(crate) fn data_dir(global: &Global) -> anyhow::Result<PathBuf> {
    if let Some(dir) = &global.data_dir {
        return Ok(dir.clone());
    }
    let dirs = directories::BaseDirs::new().ok_or_else(|| {
        Failure::new(Status::Usage, "no_data_dir", "this user has no home directory", "name one with --data-dir")
    })?;
    Ok(dirs.data_dir().join("my-network"))
}

impl Access {
    /// Writes the file whole, readable by its owner only.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        replace(&Self::path(dir), &serde_json::to_vec(self)?)
    }

    /// The file of a data directory.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(ACCESS_FILE)
    }

    /// Flags first, then the data directory.
    pub(crate) fn find(global: &Global) -> anyhow::Result<Self> {
        if let (Some(api), Some(token)) = (&global.api, &global.token) {
            return Ok(Self { api: api.clone(), token: token.clone(), is_local: false });
        }
        let dir = data_dir(global)?;
        let path = Self::path(&dir);
        let absent = |error: &std::io::Error| matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory);
        let bytes = fs::read(&path).map_err(|error| match (&global.api, &global.token) {
            (Some(api), None) if absent(&error) => half("--api", api, "its key with --token (or MYNET_TOKEN)", &dir),
            (None, Some(_)) if absent(&error) => half("--token", "a key", "an address with --api (or MYNET_API)", &dir),
            _ => unread(&dir, &path, &error),
        })?;
        let found: Self = serde_json::from_slice(&bytes).map_err(|error| {
            let message = format!("{} cannot be used: {error}", path.display());
            let hint = "start the node again, which writes it anew, or give --api and --token";
            Failure::new(Status::Failed, "bad_access_file", message, hint)
        })?;
        Ok(Self {
            api: global.api.clone().unwrap_or(found.api),
            is_local: global.token.is_none(),
            token: global.token.clone().unwrap_or(found.token),
        })
    }
}

/// Only one of address and key was given, and the data directory has not the other.
fn half(flag: &str, given: &str, missing: &str, dir: &Path) -> Failure {
    let message = format!("{flag} gives {given}, and {} has no running node to give the rest", dir.display());
    let hint = format!("give {missing} too, or name the node's directory with --data-dir");
    Failure::new(Status::Usage, "half_an_access", message, hint)
}

/// Why the access file of a data directory was not read, and what the user can do about it.
fn unread(dir: &Path, path: &Path, error: &std::io::Error) -> Failure {
    let cannot = || format!("cannot read {}: {error}", path.display());
    let no_node = |message, hint| Failure::new(Status::Unreachable, "no_node", message, hint);
    match error.kind() {
        ErrorKind::PermissionDenied => {
            let hint = "be the user that the node runs as, or give --api and --token";
            Failure::new(Status::NotAllowed, "not_your_node", cannot(), hint)
        }
        ErrorKind::NotFound | ErrorKind::NotADirectory if holds_node(dir) => no_node(
            format!("the node in {} has not run yet", dir.display()),
            "start it with `mynet run`, or name another with --data-dir, or with --api and --token",
        ),
        ErrorKind::NotFound | ErrorKind::NotADirectory => no_node(
            format!("there is no node in {}", dir.display()),
            "make one with `mynet init` or `mynet join TICKET`, or name another with --data-dir, or with --api and --token",
        ),
        _ => Failure::new(Status::Failed, "failed", cannot(), "check the disk; `mynet run` writes the file anew"),
    }
}

/// The size of a file that is to be read, so that what cannot be is said before anything else is done.
pub(crate) fn readable(path: &Path) -> anyhow::Result<u64> {
    readable_or(path, "write what comes out of it to a file first")
}

/// The same with what to do with a pipe or a device instead.
pub(crate) fn readable_or(path: &Path, pipe: &str) -> anyhow::Result<u64> {
    // Looked at before it is opened: a pipe would wait for somebody who writes into it.
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() {
        File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(metadata.len());
    }
    let message = format!("{} is not a file", path.display());
    let hint = if metadata.is_dir() { "name the files in it one by one" } else { pipe };
    Err(Failure::new(Status::Usage, "not_a_file", message, hint).into())
}

/// Replaces a file by rename, so that nobody ever reads half of it. Mode 0600.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir)?.sync_all()
    })();
    if written.is_err() {
        // It may not exist; what counts is the error that follows.
        drop(fs::remove_file(&temporary));
    }
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Access;
    use crate::{
        args::Arguments,
        output::{Failure, Status},
    };

    /// What commands make of a data directory with these files.
    fn refusal(files: &[(&str, &str)]) -> Failure {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let line = ["mynet", "status", "--data-dir", dir.path().to_str().unwrap()].map(Into::into);
        let found = Access::find(&Arguments::read(line).unwrap().global);
        found.unwrap_err().downcast().unwrap()
    }

    #[test]
    fn a_directory_without_a_node_is_told_from_one_whose_node_never_ran() {
        for (files, says, hint) in [
            ([].as_slice(), "there is no node in", "`mynet init` or `mynet join TICKET`"),
            (&[("node.key", "")], "has not run yet", "`mynet run`"),
        ] {
            let refused = refusal(files);
            assert_eq!((refused.status, refused.code.as_str()), (Status::Unreachable, "no_node"));
            assert!(refused.message.contains(says) && refused.hint.contains(hint), "{refused}");
            assert!(refused.hint.contains("--data-dir") && refused.hint.contains("--api"), "{refused}");
        }
    }

    #[test]
    fn whoever_gives_an_address_or_a_key_alone_is_told_what_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        for (flag, given, missing) in [("--api", "http://127.0.0.1:1", "--token"), ("--token", "k", "--api")] {
            let line = ["mynet", "status", "--data-dir", dir.path().to_str().unwrap(), flag, given].map(Into::into);
            let refused = Access::find(&Arguments::read(line).unwrap().global).unwrap_err();
            let refused: Failure = refused.downcast().unwrap();
            assert_eq!((refused.status, refused.code.as_str()), (Status::Usage, "half_an_access"));
            assert!(refused.message.contains(flag) && refused.hint.contains(missing), "{refused}");
        }
    }

    #[test]
    fn settings_are_not_read_and_a_damaged_access_file_is_named() {
        let refused = refusal(&[("node.key", ""), ("config.toml", "x = ["), ("api.json", "{\n\"api\": 1}")]);
        assert_eq!((refused.status, refused.code.as_str()), (Status::Failed, "bad_access_file"));
        assert!(refused.message.contains("api.json") && refused.message.contains("line 2"), "{refused}");
        assert!(refused.hint.contains("--api and --token"), "{refused}");
    }
}
