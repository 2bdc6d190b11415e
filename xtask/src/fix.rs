//! `cargo xtask fix`: what a machine can repair.

use anyhow::Result;

use crate::command::cargo;

/// Applies clippy's suggestions, then formats, because the suggestions are not formatted.
///
/// Works on a tree with uncommitted changes: it is meant to run before a commit.
pub(crate) fn run() -> Result<()> {
    cargo(&["clippy", "--fix", "--workspace", "--all-targets", "--locked", "--allow-dirty", "--allow-staged"], &[])?;
    cargo(&["fmt", "--all"], &[])
}
