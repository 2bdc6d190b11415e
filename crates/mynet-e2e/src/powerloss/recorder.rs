//! The recording: how the shim is built and loaded, and what it wrote.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};

/// Bytes of a record before its payload.
const HEADER: usize = 32;

/// An inode number, as the recorded file system gave it out.
pub type Inode = u64;

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// A process began to record below this directory.
    Root(Inode),
    /// A file or directory was made.
    Create {
        /// In which directory.
        dir: Inode,
        /// Under which name.
        name: String,
        /// The new one.
        inode: Inode,
        /// Type and permissions, as `stat` has them.
        mode: u32,
    },
    /// Bytes were written.
    Write {
        /// Into which file.
        inode: Inode,
        /// Where.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// A file got another size.
    Truncate {
        /// Which.
        inode: Inode,
        /// The size.
        size: u64,
    },
    /// A name moved; what had the new name lost it.
    Rename {
        /// From this directory and name.
        from: (Inode, String),
        /// To these.
        to: (Inode, String),
    },
    /// A name went.
    Unlink {
        /// From which directory.
        dir: Inode,
        /// Which.
        name: String,
    },
    /// A file got one more name.
    Link {
        /// In which directory.
        dir: Inode,
        /// Under which name.
        name: String,
        /// The file.
        inode: Inode,
    },
    /// A file or directory was flushed.
    Sync(Inode),
    /// Permissions changed.
    Mode {
        /// Of which.
        inode: Inode,
        /// To these.
        mode: u32,
    },
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { inode, offset, bytes } => write!(f, "Write {{ {inode}, {} bytes at {offset} }}", bytes.len()),
            other => write!(f, "{other:?}"),
        }
    }
}

/// A deed, and the length of the log when it was written down.
#[derive(Debug, Clone)]
pub struct Record {
    /// What was done.
    pub deed: Deed,
    /// Length of the log up to and with this record.
    pub end: u64,
}

/// A recording that goes on while processes run with its [`environment`](Self::environment).
#[derive(Debug)]
pub struct Recorder {
    shim: PathBuf,
    root: PathBuf,
    log: PathBuf,
}

impl Recorder {
    /// Builds the shim in `dir`, where the log will be too. What happens below `root` is recorded.
    ///
    /// # Errors
    /// If the compiler refuses.
    pub fn new(dir: &Path, root: &Path) -> Result<Self> {
        let shim = dir.join("powerloss.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/shim/powerloss.c");
        let built = Command::new("cc")
            .args(["-O1", "-fPIC", "-shared", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([&shim, &source])
            .args(["-ldl", "-lpthread"])
            .output()
            .context("start cc")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        Ok(Self { shim, root: root.to_owned(), log: dir.join("powerloss.log") })
    }

    /// The variables with which a process is recorded.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        vec![
            ("LD_PRELOAD".to_owned(), text(&self.shim)),
            ("POWERLOSS_ROOT".to_owned(), text(&self.root)),
            ("POWERLOSS_LOG".to_owned(), text(&self.log)),
        ]
    }

    /// How long the log is now: everything that was done before whatever the caller has just seen ends before this.
    ///
    /// # Errors
    /// If nothing was recorded yet.
    pub fn now(&self) -> Result<u64> {
        Ok(fs::metadata(&self.log).context("look at the log")?.len())
    }

    /// Everything that was recorded.
    ///
    /// # Errors
    /// If the log cannot be read, or something happened that cannot be rebuilt.
    pub fn records(&self) -> Result<Vec<Record>> {
        parse(&fs::read(&self.log).context("read the log")?)
    }
}

fn parse(log: &[u8]) -> Result<Vec<Record>> {
    let (mut records, mut rest) = (Vec::new(), log);
    while !rest.is_empty() {
        let (header, after) = rest.split_at_checked(HEADER).context("the log ends within a record")?;
        let half = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let length = usize::try_from(half(4))?;
        let (payload, after) = after.split_at_checked(length).context("the log ends within a payload")?;
        rest = after;
        let end = u64::try_from(log.len() - rest.len())?;
        let deed = deed(half(0), (word(8), word(16), word(24)), payload)?;
        records.push(Record { deed, end });
    }
    Ok(records)
}

fn deed(kind: u32, (a, b, c): (u64, u64, u64), payload: &[u8]) -> Result<Deed> {
    let text = || String::from_utf8(payload.to_vec()).context("a name is UTF-8");
    Ok(match kind {
        1 => Deed::Root(a),
        2 => Deed::Create { dir: a, name: text()?, inode: b, mode: u32::try_from(c)? },
        3 => Deed::Write { inode: a, offset: b, bytes: payload.to_vec() },
        4 => Deed::Truncate { inode: a, size: b },
        5 => {
            let text = text()?;
            let (from, to) = text.split_once('\0').context("a rename has two names")?;
            Deed::Rename { from: (a, from.to_owned()), to: (b, to.to_owned()) }
        }
        6 => Deed::Unlink { dir: a, name: text()? },
        7 => Deed::Link { dir: a, name: text()?, inode: b },
        8 => Deed::Sync(a),
        9 => Deed::Mode { inode: a, mode: u32::try_from(c)? },
        10 => bail!("the program did what cannot be recorded: {}", text()?),
        _ => bail!("a record of kind {kind}"),
    })
}
