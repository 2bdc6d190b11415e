//! `cargo xtask tidy`: the rules of the house that neither the compiler nor clippy knows.
//!
//! Each rule is one module with one `check`, a pure function from what was read to a list of [`Violation`]s, and with
//! tests that break the rule on purpose. Reading (git, the file system, cargo metadata) happens in [`repository`],
//! [`graph`] and [`allow`] only. All rules run before the outcome is printed, so that one run shows everything.

mod allow;
mod arrows;
mod bans;
mod file_size;
mod function_size;
mod glossary;
mod graph;
mod leftovers;
mod licences;
mod machine_paths;
mod markdown;
mod module_docs;
mod purity;
mod repository;
mod rust_source;
mod spdx;

use std::fmt;

use anyhow::{Result, bail};

use crate::command::workspace_root;
use allow::AllowList;
use graph::Graph;
use repository::Repository;

/// One broken rule at one place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Violation {
    /// A file relative to the root, or the name of a package.
    place: String,
    /// Counted from 1; none when the rule is about the whole place.
    line: Option<usize>,
    message: String,
}

impl Violation {
    fn whole(place: &str, message: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line: None, message: message.into() }
    }

    fn at(place: &str, line: usize, message: impl Into<String>) -> Self {
        Self { place: place.to_owned(), line: Some(line), message: message.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(formatter, "{}:{line}: {}", self.place, self.message),
            None => write!(formatter, "{}: {}", self.place, self.message),
        }
    }
}

/// Checks the workspace and prints every violation.
///
/// # Errors
/// Something could not be read, or at least one rule is broken.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root()?;
    let repository = Repository::read(&root)?;
    let graph = Graph::read(&root)?;
    let allowed = AllowList::read(&root)?;
    let committed = AllowList::read_history(&root)?;

    let mut violations = Vec::new();
    violations.extend(arrows::check(&graph));
    violations.extend(purity::check(&graph));
    violations.extend(bans::check(&graph));
    violations.extend(licences::check(&graph));
    violations.extend(allow::check_only_shrinks(&allowed, &committed));
    violations.extend(file_size::check(&repository, &allowed));
    violations.extend(function_size::check(&repository, &allowed));
    violations.extend(module_docs::check(&repository));
    violations.extend(leftovers::check(&repository));
    violations.extend(machine_paths::check(&repository));
    violations.extend(markdown::check(&repository));
    violations.extend(glossary::check(&repository));
    violations.sort();

    for violation in &violations {
        println!("{violation}");
    }
    if !violations.is_empty() {
        bail!("{} tidy violations", violations.len());
    }
    println!("tidy: {} files and {} packages follow the rules", repository.files().len(), graph.packages().len());
    Ok(())
}
