//! What the program says: exit statuses, error lines, tables, progress.
//!
//! Three rules hold for all of it. Results go to standard output, everything else to standard error. What a person sees (colours,
//! bars, short ids, tables cut to the width) appears on a terminal only, so that a pipe gets everything and always the same. And
//! text that others wrote, such as the name of a file, never reaches a terminal with control characters in it.

mod fields;
mod progress;
mod screen;
mod table;

use std::{
    ffi::OsString,
    fmt,
    io::{ErrorKind, IsTerminal, Write},
    os::fd::AsFd,
    process::ExitCode,
};

use console::{StyledObject, style};
use rustix::termios::tcgetwinsize;
use serde::Serialize;
use serde_json::json;

use self::fields::fold;
pub(crate) use self::{
    fields::{fields, indented},
    progress::{Bar, Meter},
    screen::{Screen, refuse_on_terminal},
    table::{Column, table},
};
use crate::args::Color;

/// The width of a terminal that does not tell its own.
const WIDTH_DEFAULT: usize = 80;

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
    /// The name of the request that a node failed to answer, as in its log.
    pub(crate) request_id: Option<String>,
}

impl Failure {
    /// A failure with its stable code.
    pub(crate) fn new(status: Status, code: &str, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { status, code: code.to_owned(), message: message.into(), hint: hint.into(), request_id: None }
    }

    /// As programs read it.
    fn json(&self) -> String {
        let Self { code, message, hint, request_id, .. } = self;
        let mut error = json!({ "code": code, "message": message, "hint": hint });
        if let (Some(id), Some(error)) = (request_id, error.as_object_mut()) {
            error.insert("request_id".to_owned(), json!(id));
        }
        json!({ "error": error }).to_string()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let between = if self.message.ends_with('?') { " " } else { "; " };
        write!(f, "{}{between}{}", self.message, self.hint)?;
        self.request_id.iter().try_for_each(|id| write!(f, " (request {id})"))
    }
}

impl std::error::Error for Failure {}

/// Decides once for the whole program whether it colours.
pub(crate) fn set_up(color: Color) {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
        || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
    let decide = |terminal: bool| match color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => terminal && !plain,
    };
    console::set_colors_enabled(decide(std::io::stdout().is_terminal()));
    console::set_colors_enabled_stderr(decide(std::io::stderr().is_terminal()));
}

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
                Some(ErrorKind::IsADirectory) => "name a file",
                Some(ErrorKind::AlreadyExists) => "name another place",
                Some(ErrorKind::NotADirectory) => "check the path: something in it is a file",
                Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => "make room on the disk",
                _ => "try again; if it stays, the node's log may tell more",
            };
            other = Failure::new(Status::Failed, "failed", format!("{error:#}"), hint);
            &other
        }
    };
    tell(failure, json)
}

/// Prints a failure on standard error, as one line, and gives its exit status.
fn tell(failure: &Failure, json: bool) -> ExitCode {
    match json {
        // Nobody may be reading; the exit status still tells.
        true => drop(writeln!(std::io::stderr(), "{}", failure.json())),
        false => aside(("error:", style("error:").for_stderr().red().bold()), &failure.to_string()),
    }
    failure.status.into()
}

/// Prints on standard error what is good to know beside a result.
pub(crate) fn remark(text: &str) {
    aside(("note:", style("note:").for_stderr().bold()), text);
}

/// Prints a word and what it is about on standard error: one line, folded on a terminal that is too narrow.
fn aside((word, styled): (&str, StyledObject<&str>), text: &str) {
    const INDENT: usize = 2;
    // A message may quote others, and what they wrote may have several lines.
    let lines = fold(&[&format!("{word} {text}")], INDENT, width(&std::io::stderr()));
    let text = lines.join("\n");
    let rest = text.strip_prefix(word).unwrap_or(&text);
    drop(writeln!(std::io::stderr(), "{styled}{rest}"));
}

/// What must be known of a command line before it is read, because it may turn out to be none.
pub(crate) struct Glance {
    /// Whether errors are for programs.
    pub(crate) json: bool,
    /// When to colour.
    pub(crate) color: Color,
}

impl Glance {
    /// Looks for the flags in `line`.
    pub(crate) fn at(line: &[OsString]) -> Self {
        let words: Vec<_> = line.iter().map(|word| word.to_string_lossy()).take_while(|word| word != "--").collect();
        let color = words.iter().enumerate().rev().find_map(|(index, word)| match word.strip_prefix("--color") {
            Some("") => words.get(index + 1).map(AsRef::as_ref),
            Some(value) => value.strip_prefix('='),
            None => None,
        });
        let color = match color {
            Some("always") => Color::Always,
            Some("never") => Color::Never,
            _ => Color::Auto,
        };
        Self { json: words.iter().any(|word| word == "--json"), color }
    }
}

/// Prints what is wrong with a command line, or the help that it asked for, which is no error.
pub(crate) fn usage(error: &clap::Error, line: &[OsString], json: bool) -> ExitCode {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion, MissingSubcommand,
    };
    match error.kind() {
        DisplayHelp | DisplayVersion => {
            let text = error.render();
            let text = if console::colors_enabled() { text.ansi().to_string() } else { text.to_string() };
            drop(write!(std::io::stdout(), "{text}"));
            ExitCode::SUCCESS
        }
        DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand if json => {
            tell(&Failure::new(Status::Usage, "usage", "a command is missing", see_help(line)), json)
        }
        // Whoever gives no command at all wants to see them.
        DisplayHelpOnMissingArgumentOrSubcommand | MissingSubcommand => {
            let help = meant(line).1.render_help();
            let help = if console::colors_enabled_stderr() { help.ansi().to_string() } else { help.to_string() };
            drop(write!(std::io::stderr(), "{help}"));
            Status::Usage.into()
        }
        _ => tell(&refused(error, line), json),
    }
}

/// A usage error of clap's on one line. Clap's own has a paragraph for each of what failed, tips, the usage and a word about help.
fn refused(error: &clap::Error, line: &[OsString]) -> Failure {
    let text = error.render().to_string();
    let (mut said, mut hints) = (Vec::new(), Vec::new());
    for part in text.lines().map(str::trim).filter(|part| !part.is_empty()) {
        if part.starts_with("Usage:") || part.starts_with("For more information") {
            break;
        }
        match part.strip_prefix("tip: ") {
            Some(tip) => hints.push(tip.to_owned()),
            None => said.push(part.strip_prefix("error: ").unwrap_or(part)),
        }
    }
    hints.push(see_help(line));
    Failure::new(Status::Usage, "usage", said.join(" "), hints.join("; "))
}

/// Names the help of the command that was meant.
fn see_help(line: &[OsString]) -> String {
    format!("see `{} --help`", meant(line).0)
}

/// The command that was meant, as far as it can be known, and its whole name.
fn meant(line: &[OsString]) -> (String, clap::Command) {
    let mut command = <crate::args::Arguments as clap::CommandFactory>::command();
    command.build();
    let mut path = command.get_name().to_owned();
    for word in line.iter().skip(1).filter_map(|word| word.to_str()) {
        if let Some(below) = command.find_subcommand(word).cloned() {
            path = format!("{path} {word}");
            command = below;
        }
    }
    (path, command)
}

/// Prints an object as JSON.
pub(crate) fn object(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    // As an I/O error: a reader that has gone away is no failure to tell of.
    serde_json::to_writer_pretty(&mut out, value).map_err(std::io::Error::from)?;
    writeln!(out)?;
    Ok(())
}

/// Prints a line.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// The columns of the terminal that standard output is; `None` if it is none.
fn terminal_width() -> Option<usize> {
    width(&std::io::stdout())
}

/// The columns of a terminal; `None` of everything else.
fn width(out: &(impl IsTerminal + AsFd)) -> Option<usize> {
    out.is_terminal().then(|| match tcgetwinsize(out) {
        Ok(size) if size.ws_col > 0 => size.ws_col.into(),
        _ => WIDTH_DEFAULT,
    })
}

/// Prints a text as it is.
pub(crate) fn text(text: &str) -> anyhow::Result<()> {
    write!(std::io::stdout(), "{text}")?;
    Ok(())
}

/// An id in a table or a sentence: the beginning of it for a person, all of it for what reads a pipe.
pub(crate) fn id(id: &impl fmt::Display) -> String {
    if std::io::stdout().is_terminal() { short(id) } else { id.to_string() }
}

/// Text of others, with everything replaced that would do something to a terminal instead of being seen there.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if acts(c) { '\u{fffd}' } else { c }).collect()
}

/// Whether a character does something to a terminal: besides control characters, those that turn the direction of text.
fn acts(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The first ten characters of an id.
pub(crate) fn short(id: &impl fmt::Display) -> String {
    id.to_string().chars().take(10).collect()
}

/// Bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize::b(bytes).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::{Failure, Glance, Status, plain, refused};
    use crate::args::{Arguments, Color};

    fn line(text: &str) -> Vec<OsString> {
        text.split(' ').map(Into::into).collect()
    }

    #[test]
    fn a_usage_error_is_one_line_with_the_nearest_word_and_where_to_look() {
        for (text, says) in [
            (
                "mynet peeers",
                "unrecognized subcommand 'peeers'; a similar subcommand exists: 'peers'; see `mynet --help`",
            ),
            (
                "mynet roster sho",
                "unrecognized subcommand 'sho'; a similar subcommand exists: 'show'; see `mynet roster --help`",
            ),
            ("mynet add", "the following required arguments were not provided: <FILES>...; see `mynet add --help`"),
            (
                "mynet add x --wait durble",
                "invalid value 'durble' for '--wait <WAIT>' [possible values: stored, durable, certified]; \
                 a similar value exists: 'durable'; see `mynet add --help`",
            ),
        ] {
            let line = line(text);
            let error = Arguments::read(line.clone()).unwrap_err();
            assert_eq!(refused(&error, &line).to_string(), says);
        }
    }

    #[test]
    fn a_glance_finds_flags_wherever_they_stand() {
        for (text, json, color) in [
            ("mynet --json --color never x", true, Color::Never),
            ("mynet x --color=always", false, Color::Always),
            ("mynet x --color", false, Color::Auto),
            ("mynet x -- --json --color never", false, Color::Auto),
        ] {
            let glance = Glance::at(&line(text));
            assert_eq!((glance.json, glance.color), (json, color), "{text}");
        }
    }

    #[test]
    fn a_failed_request_is_named_to_people_and_programs() {
        let mut failure = Failure::new(Status::Failed, "storage", "the disk failed", "look at the log");
        assert!(!failure.json().contains("request_id"));
        failure.request_id = Some("r-1".to_owned());
        assert_eq!(failure.to_string(), "the disk failed; look at the log (request r-1)");
        let told: serde_json::Value = serde_json::from_str(&failure.json()).unwrap();
        assert_eq!(told["error"]["request_id"], "r-1");
    }

    #[test]
    fn nothing_that_others_wrote_acts_on_a_terminal() {
        assert_eq!(plain("a\u{1b}[2J\r\nb\u{202e}c"), "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}c");
        assert_eq!(plain("песня 1.flac"), "песня 1.flac");
    }
}
