//! The trace of a run: hashed when somebody compares it, and written down when somebody wants to read it.
//!
//! The hash covers every input with its time and node, and every output. Two runs of one seed that differ in a byte differ
//! in their hash; that is how a hidden source of randomness is found.

use std::{collections::VecDeque, fmt};

use mynet_proto::{consensus, node};
use mynet_types::codec;
use sha2::{Digest, Sha256};

use crate::{cast::Cast, describe};

/// Lines kept before a violation.
const LINES_KEPT: usize = 40;

/// Who reads the trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Nobody: inputs are counted, and no hash is made.
    Nobody,
    /// Whoever compares two runs: the hash is made.
    Hash,
    /// Whoever reads a violation: the last lines are kept.
    Violation,
    /// Somebody at a terminal: every line goes to stderr as well.
    Stderr,
}

/// Hash, counter and lines of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    hasher: Option<Sha256>,
    audience: Audience,
    lines: VecDeque<String>,
    /// Inputs handled.
    pub(crate) events: u64,
}

/// Feeds `Debug` output to the hash without building a string.
struct Hashing<'a>(&'a mut Sha256);

impl fmt::Write for Hashing<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

fn debug(hasher: &mut Sha256, value: &dyn fmt::Debug) {
    fmt::write(&mut Hashing(hasher), format_args!("{value:?}")).expect("hashing does not fail");
}

impl Trace {
    /// An empty trace.
    pub(crate) fn new(audience: Audience) -> Self {
        let hasher = (audience != Audience::Nobody).then(Sha256::new);
        Self { hasher, audience, lines: VecDeque::new(), events: 0 }
    }

    /// A node was given an input.
    pub(crate) fn input(&mut self, (at, node): (u64, usize), input: &node::io::Input, cast: &Cast) {
        self.events += 1;
        let Some(hasher) = &mut self.hasher else { return };
        hasher.update(at.to_be_bytes());
        hasher.update([u8::try_from(node).unwrap_or(u8::MAX)]);
        match input {
            node::io::Input::Message { from, message } => {
                hasher.update(from.0);
                hasher.update(codec::digest(message));
            }
            node::io::Input::Publish(publication) => hasher.update(codec::digest(&**publication)),
            other => debug(hasher, other),
        }
        self.line(|| format!("{at:>9} n{node} <- {}", describe::input(input, cast)));
    }

    /// A node answered with an output.
    pub(crate) fn output(&mut self, (at, node): (u64, usize), output: &node::io::Output, cast: &Cast) {
        let Some(hasher) = &mut self.hasher else { return };
        match output {
            node::io::Output::Send { to, message } => {
                hasher.update(to.0);
                hasher.update(codec::digest(message));
            }
            node::io::Output::PersistVotes { records, .. } => hasher.update(codec::digest(records)),
            node::io::Output::PersistGroups { records, .. } => hasher.update(codec::digest(records)),
            node::io::Output::Stage { tx, attempt, states, .. } => {
                hasher.update(codec::digest(&(*tx, *attempt, *states)));
            }
            node::io::Output::Event(node::io::Event::Consensus(
                consensus::io::Event::Certified(file) | consensus::io::Event::CertifiedAgain(file),
            )) => {
                hasher.update(codec::digest(&**file));
            }
            other => debug(hasher, other),
        }
        self.line(|| format!("{at:>9} n{node}    -> {}", describe::output(output, cast)));
    }

    /// The world did something to a node or to the network.
    pub(crate) fn note(&mut self, at: u64, text: impl fmt::Display) {
        let Some(hasher) = &mut self.hasher else { return };
        hasher.update(at.to_be_bytes());
        hasher.update(text.to_string().as_bytes());
        self.line(|| format!("{at:>9} == {text}"));
    }

    /// The last lines, oldest first.
    pub(crate) fn tail(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The hash of everything so far, if one is made.
    pub(crate) fn hash(self) -> Option<[u8; 32]> {
        self.hasher.map(|hasher| hasher.finalize().into())
    }

    #[expect(clippy::print_stderr, reason = "a reproduced run is read on stderr")]
    fn line(&mut self, line: impl FnOnce() -> String) {
        if matches!(self.audience, Audience::Nobody | Audience::Hash) {
            return;
        }
        let line = line();
        if self.audience == Audience::Stderr {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }
}
