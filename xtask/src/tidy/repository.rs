//! The files that tidy judges: everything that is, or is about to be, in the repository.
//!
//! Git decides what belongs to the project, so build output and ignored files never count, and a new file is judged
//! before its first commit.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result};

use crate::command::git;

/// One file of the project.
#[derive(Debug)]
pub(super) struct File {
    /// Relative to the root, with forward slashes.
    pub(super) path: String,
    /// `None` when the file is not UTF-8 text.
    pub(super) text: Option<String>,
}

/// All files of the project, ordered by path.
#[derive(Debug)]
pub(super) struct Repository {
    files: Vec<File>,
}

impl Repository {
    /// Reads every file that git tracks, and every new one that it does not ignore.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let listing = git(root, &["ls-files", "-z", "--cached", "--others", "--exclude-standard"])?;
        // A file in a merge conflict is listed several times.
        let paths: BTreeSet<&str> = listing.split('\0').filter(|path| !path.is_empty()).collect();
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            match fs::read(root.join(path)) {
                Ok(bytes) => files.push(File { path: path.to_owned(), text: String::from_utf8(bytes).ok() }),
                // Deleted in the tree, the deletion not yet staged.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| format!("read {path}")),
            }
        }
        Ok(Self { files })
    }

    /// A repository made of `(path, text)` pairs.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| File { path: (*path).to_owned(), text: Some((*text).to_owned()) });
        Self { files: files.collect() }
    }

    /// Every file, text or not.
    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// Path and text of every text file.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().filter_map(|file| Some((file.path.as_str(), file.text.as_deref()?)))
    }

    /// Path and text of every Rust file.
    pub(super) fn rust(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".rs"))
    }

    /// Path and text of every Markdown file.
    pub(super) fn markdown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.texts().filter(|(path, _)| path.ends_with(".md"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::workspace_root;

    #[test]
    fn new_files_count_and_ignored_ones_do_not() {
        let repository = Repository::read(&workspace_root().unwrap()).unwrap();
        let listed = |wanted: &str| repository.files().iter().any(|file| file.path == wanted);
        assert!(listed("xtask/src/tidy/repository.rs"));
        assert!(listed("Cargo.lock"));
        assert!(!repository.files().iter().any(|file| file.path.starts_with("target/")));
    }
}
