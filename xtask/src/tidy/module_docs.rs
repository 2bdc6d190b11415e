//! Rule: every Rust file says in its first line what it is for.
//!
//! The compiler asks this of public modules only; the files one gets lost in are the private ones.

use super::Violation;
use super::repository::Repository;

/// Every Rust file that does not begin with a `//!` sentence.
pub(super) fn check(repository: &Repository) -> Vec<Violation> {
    let lacks_doc = |text: &str| {
        let first = text.lines().next().unwrap_or_default();
        first.strip_prefix("//!").is_none_or(|sentence| sentence.trim().is_empty())
    };
    repository
        .rust()
        .filter(|(_, text)| lacks_doc(text))
        .map(|(path, _)| Violation::at(path, 1, "the file must begin with `//!` and what it is for"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_begins_with_its_purpose() {
        let check = |text: &str| super::check(&Repository::of(&[("a.rs", text)])).len();
        assert_eq!(check("//! Adds numbers.\n"), 0);
        for text in
            ["", "use std::fmt;\n", "//!\nfn a() {}\n", "// A comment.\n", "\n//! Too late.\n", "/// Of an item.\n"]
        {
            assert_eq!(check(text), 1, "{text:?}");
        }
    }

    #[test]
    fn other_files_need_none() {
        assert_eq!(check(&Repository::of(&[("Cargo.toml", "[package]")])), []);
    }
}
