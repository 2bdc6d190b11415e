//! What the program says: exit statuses, error lines, tables.

use std::{
    fmt,
    io::{ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use serde::Serialize;
use serde_json::json;

/// Why a command did not do what was asked, by exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// It failed.
    Failed = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// No such thing.
    NotFound = 3,
    /// Undecided, or the wait ran out.
    Undecided = 4,
    /// Bytes or proofs are damaged.
    Integrity = 5,
    /// Known, and not allowed.
    NotAllowed = 6,
    /// No node answers.
    Unreachable = 7,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}

/// One error line: what failed and why, and what to try.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) status: Status,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) hint: String,
}

impl Failure {
    /// A failure with its stable code.
    pub(crate) fn new(status: Status, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), hint: hint.into() }
    }

    /// As programs read it.
    fn json(&self) -> String {
        let Self { code, message, hint, .. } = self;
        json!({ "error": { "code": code, "message": message, "hint": hint } }).to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for Failure {}

/// Prints an error and gives its exit status. An error that is no [`Failure`] is status 1 with its whole chain.
pub(crate) fn failure(error: &anyhow::Error, json: bool) -> ExitCode {
    let other;
    let failure = match error.downcast_ref::<Failure>() {
        Some(failure) => failure,
        None => {
            let cause =
                error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>()).map(std::io::Error::kind);
            let hint = match cause {
                // Whoever read this has seen enough.
                Some(ErrorKind::BrokenPipe) => return Status::Failed.into(),
                Some(ErrorKind::NotFound) => "check the path",
                Some(ErrorKind::PermissionDenied) => "check who may use it",
                Some(ErrorKind::IsADirectory | ErrorKind::NotADirectory) => "name a file",
                Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "make room on the disk",
                _ => "try again; if it stays, the node's log may tell more",
            };
            other = Failure::new(Status::Failed, "failed", format!("{error:#}"), hint);
            &other
        }
    };
    let line = if json { failure.json() } else { format!("error: {failure}") };
    // Nobody may be reading; the exit status still tells.
    drop(writeln!(std::io::stderr(), "{line}"));
    failure.status.into()
}

/// Prints a usage error as clap words it, or as the object that programs read; help and version are no errors.
pub(crate) fn usage(error: &clap::Error, json: bool) -> ExitCode {
    if !error.use_stderr() {
        drop(error.print());
        return ExitCode::SUCCESS;
    }
    if json {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let message = first.strip_prefix("error: ").unwrap_or(first);
        let failure = Failure::new(Status::Usage, "usage", message, "see --help");
        drop(writeln!(std::io::stderr(), "{}", failure.json()));
    } else {
        drop(error.print());
    }
    Status::Usage.into()
}

/// Prints an object as JSON.
pub(crate) fn object(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// Prints rows with aligned columns.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> anyhow::Result<()> {
    let columns = head.len();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|cell| cell.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded: Vec<String> = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        line(padded.join("  ").trim_end())
    };
    print(head.to_vec())?;
    for row in rows {
        print(row.iter().map(String::as_str).collect())?;
    }
    Ok(())
}

/// Whether a person watches standard error: progress bars only then.
pub(crate) fn is_watched() -> bool {
    std::io::stderr().is_terminal()
}

/// The first ten characters of an id.
pub(crate) fn short(id: &impl fmt::Display) -> String {
    id.to_string().chars().take(10).collect()
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}
