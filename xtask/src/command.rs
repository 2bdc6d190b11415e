//! Child processes: cargo from the workspace root, and git for its answers.
//!
//! `cargo run` hands its child a description of the xtask package in the environment. Build scripts that watch those
//! variables would see them change between a direct `cargo build` and one started here, and would recompile half of
//! the dependencies each time, so they are removed before cargo is started again.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// Prefixes of the variables that describe the running package rather than the user's wishes.
const PACKAGE_VARIABLE_PREFIXES: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The root of the workspace: the parent of this package's directory.
pub(crate) fn workspace_root() -> Result<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = package.parent().context("find the parent of the xtask directory")?;
    Ok(root.to_path_buf())
}

/// Runs cargo with `arguments` in the workspace root and lets it write to the terminal.
///
/// `variables` are set for the child only.
///
/// # Errors
/// Cargo could not be started, or ended with another status than 0; the message holds the command to repeat it.
pub(crate) fn cargo(arguments: &[&str], variables: &[(&str, String)]) -> Result<()> {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(workspace_root()?);
    for (name, _) in env::vars_os() {
        if name.to_str().is_some_and(describes_running_package) {
            command.env_remove(&name);
        }
    }
    command.envs(variables.iter().map(|(name, value)| (name, value)));

    let shown = display(arguments, variables);
    let status = command.status().with_context(|| format!("start `{shown}`"))?;
    if !status.success() {
        bail!("`{shown}` failed ({status})");
    }
    Ok(())
}

/// Runs git with `arguments` in `root` and returns what it printed.
///
/// # Errors
/// Git could not be started, failed, or printed something that is not UTF-8.
pub(crate) fn git(root: &Path, arguments: &[&str]) -> Result<String> {
    let shown = format!("git {}", arguments.join(" "));
    let output =
        Command::new("git").args(arguments).current_dir(root).output().with_context(|| format!("start `{shown}`"))?;
    if !output.status.success() {
        bail!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("read the output of `{shown}`"))
}

fn describes_running_package(variable: &str) -> bool {
    PACKAGE_VARIABLE_PREFIXES.iter().any(|prefix| variable.starts_with(prefix))
}

/// The command as a reader can paste it into a shell.
fn display(arguments: &[&str], variables: &[(&str, String)]) -> String {
    let mut words: Vec<String> = variables.iter().map(|(name, value)| format!("{name}='{value}'")).collect();
    words.push("cargo".to_owned());
    words.extend(arguments.iter().map(|&argument| argument.to_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_description_is_removed_and_wishes_are_kept() {
        assert!(describes_running_package("CARGO_PKG_NAME"));
        assert!(describes_running_package("CARGO_MANIFEST_DIR"));
        assert!(!describes_running_package("CARGO_TARGET_DIR"));
        assert!(!describes_running_package("CARGO_HOME"));
    }

    #[test]
    fn failure_names_the_command_to_repeat() {
        let error = cargo(&["no-such-subcommand"], &[("SOME_FLAG", "a b".to_owned())]).unwrap_err();
        assert!(error.to_string().starts_with("`SOME_FLAG='a b' cargo no-such-subcommand` failed"), "{error}");
    }
}
