//! `cargo xtask verify`: the gate. Reads only, stops at the first failure, says how long each part took.
//!
//! The parts stand from cheap to dear, so that a wrong space costs seconds and not a build. All of them refuse to move
//! the lock file. Multi-process tests and long simulations are not part of the gate; `scripts/test` adds them.

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::command::cargo;
use crate::tidy;

/// What the gate may take on two cores with warm dependencies. A longer gate is run less often; the total is printed
/// beside it, and nothing fails, because time on a shared machine proves nothing.
const TARGET: Duration = Duration::from_secs(10 * 60);

/// One part of the gate.
struct Part {
    name: &'static str,
    /// What to do when it fails, for somebody who sees it for the first time.
    advice: &'static str,
    work: Work,
}

enum Work {
    Cargo(&'static [&'static str]),
    /// `cargo doc` with warnings as errors; rustdoc takes those from the environment.
    Documentation(&'static [&'static str]),
    Tidy,
}

const PARTS: [Part; 7] = [
    Part { name: "format", advice: "run `cargo xtask fix`", work: Work::Cargo(&["fmt", "--all", "--check"]) },
    Part { name: "tidy", advice: "each line above names a file and the rule it breaks", work: Work::Tidy },
    Part {
        name: "clippy",
        advice: "`cargo xtask fix` repairs some of it",
        work: Work::Cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]),
    },
    Part {
        name: "clippy, features",
        advice: "code behind the features `failpoints` and `liar`",
        work: Work::Cargo(&[
            "clippy",
            "--package",
            "mynet",
            "--package",
            "mynet-node",
            "--all-targets",
            "--features",
            "mynet/failpoints,mynet/liar",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    },
    Part {
        name: "tests",
        advice: "if nextest itself is missing: `cargo install cargo-nextest --locked`",
        // Filtered, not excluded: what is built must not depend on what is run.
        work: Work::Cargo(&["nextest", "run", "--workspace", "--locked", "-E", "not package(mynet-e2e)"]),
    },
    Part {
        name: "doc tests",
        advice: "an example in a doc comment does not compile or does not hold",
        work: Work::Cargo(&["test", "--doc", "--workspace", "--locked"]),
    },
    Part {
        name: "documentation",
        advice: "most often a link in a doc comment that points nowhere",
        work: Work::Documentation(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]),
    },
];

/// Runs every part in order.
///
/// # Errors
/// The first part that failed, by name, with the command to repeat it and what to try.
pub(crate) fn run() -> Result<()> {
    let mut done = Vec::new();
    for part in &PARTS {
        println!("== {}", part.name);
        let start = Instant::now();
        let outcome = run_part(part);
        let took = start.elapsed();
        done.push((part.name, took));
        if let Err(error) = outcome {
            print!("{}", table(&done, "FAILED"));
            return Err(error).with_context(|| format!("verify stopped at `{}`; {}", part.name, part.advice));
        }
        println!("   {} passed in {}", part.name, seconds(took));
    }
    print!("{}", table(&done, "passed"));
    Ok(())
}

fn run_part(part: &Part) -> Result<()> {
    match &part.work {
        Work::Cargo(arguments) => cargo(arguments, &[]),
        Work::Documentation(arguments) => cargo(arguments, &[("RUSTDOCFLAGS", deny_warnings())]),
        Work::Tidy => tidy::run(),
    }
}

/// The user's rustdoc flags with warnings turned into errors.
fn deny_warnings() -> String {
    let mut flags = env::var("RUSTDOCFLAGS").unwrap_or_default();
    if !flags.is_empty() {
        flags.push(' ');
    }
    flags.push_str("-D warnings");
    flags
}

/// How long each part took; `last` is the outcome of the last one, all before it have passed.
fn table(done: &[(&str, Duration)], last: &str) -> String {
    let mut text = String::from("\n");
    for (position, (name, took)) in done.iter().enumerate() {
        let outcome = if position + 1 == done.len() { last } else { "passed" };
        text.push_str(&format!("{name:<16}{:>10}  {outcome}\n", seconds(*took)));
    }
    let total: Duration = done.iter().map(|(_, took)| *took).sum();
    text.push_str(&format!("{:<16}{:>10}  (target {})\n", "total", seconds(total), seconds(TARGET)));
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_marks_only_the_last_part_as_failed() {
        let text = table(&[("format", Duration::from_millis(1500)), ("clippy", Duration::from_secs(2))], "FAILED");
        assert!(text.contains("format               1.5 s  passed"), "{text}");
        assert!(text.contains("clippy               2.0 s  FAILED"), "{text}");
        assert!(text.contains("total                3.5 s  (target 600.0 s)"), "{text}");
    }

    #[test]
    fn every_build_refuses_to_move_the_lock_file() {
        for part in &PARTS {
            if let Work::Cargo(arguments) | Work::Documentation(arguments) = part.work {
                assert!(arguments.first() == Some(&"fmt") || arguments.contains(&"--locked"), "{}", part.name);
            }
        }
    }
}
