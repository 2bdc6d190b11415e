//! The project's own tooling: one gate, the same on a laptop and in CI.
//!
//! `cargo xtask verify` reads and judges, `cargo xtask fix` writes, `cargo xtask tidy` checks the rules that neither
//! the compiler nor clippy knows (crate arrows, licences, file sizes, documents). A rule that lives here needs no
//! reviewer to remember it.
//!
//! Deliberately absent: anything that touches the network or the lock file. Installing tools is the job of
//! `scripts/test`.

mod command;
mod fix;
mod tidy;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Checks and repairs this workspace.
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run the whole gate without writing to the tree; stop at the first failure.
    Verify,
    /// Apply clippy's suggestions, then format.
    Fix,
    /// Check only the project's own rules: arrows, licences, sizes, documents.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Verify => verify::run(),
        Task::Fix => fix::run(),
        Task::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
