//! What the program finds in a data directory: where it is, and how to speak to its node.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
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
            return Ok(Self { api: api.clone(), token: token.clone() });
        }
        let dir = data_dir(global)?;
        let path = Self::path(&dir);
        let bytes = fs::read(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::PermissionDenied => Failure::new(
                Status::NotAllowed,
                "not_your_node",
                format!("cannot read {}: {error}", path.display()),
                "be the user that the node runs as, or give --api and --token",
            ),
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => Failure::new(
                Status::Unreachable,
                "no_node",
                format!("no node has run in {}", dir.display()),
                "start one with `mynet run`, or name another with --data-dir, or with --api and --token",
            ),
            _ => {
                let message = format!("cannot read {}: {error}", path.display());
                Failure::new(Status::Failed, "failed", message, "check the disk; `mynet run` writes the file anew")
            }
        })?;
        let found: Self = serde_json::from_slice(&bytes).with_context(|| format!("read {}", path.display()))?;
        Ok(Self { api: global.api.clone().unwrap_or(found.api), token: global.token.clone().unwrap_or(found.token) })
    }
}

/// The size of a file that is to be read, so that what cannot be is said before anything else is done.
pub(crate) fn readable(path: &Path) -> anyhow::Result<u64> {
    // Looked at before it is opened: a pipe would wait for somebody who writes into it.
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.is_file() {
        File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(metadata.len());
    }
    let message = format!("{} is not a file", path.display());
    let hint = if metadata.is_dir() {
        "name the files in it one by one"
    } else {
        "write what comes out of it to a file first"
    };
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
