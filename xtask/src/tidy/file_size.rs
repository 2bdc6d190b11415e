//! Rule: a Rust file holds at most 600 lines of code.
//!
//! Blank lines and comments do not count: documentation must never be the price of a small file. Tests do count; above
//! 200 lines they belong in a file of their own.

use std::collections::BTreeMap;

use super::Violation;
use super::allow::{AllowList, Rule};
use super::repository::Repository;
use super::rust_source::RustSource;

/// Twice this and a reader no longer keeps a file in mind; half of it and one idea is torn over several files.
const CODE_LINES_MAX: usize = 600;

/// Every file above the limit, or above its number in the allow-list.
pub(super) fn check(repository: &Repository, allowed: &AllowList) -> Vec<Violation> {
    let measured: BTreeMap<&str, usize> =
        repository.rust().map(|(path, text)| (path, RustSource::read(text).code_lines)).collect();
    allowed.judge(Rule::CodeLines, CODE_LINES_MAX, &measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_counts_and_one_line_too_many_is_refused() {
        let commented = "//! Doc.\n\nlet a = 1; // why\n";
        let check = |lines: usize| {
            let text = format!("{commented}{}", "b();\n".repeat(lines - 1));
            super::check(&Repository::of(&[("a.rs", &text), ("long.md", &text)]), &AllowList::default())
        };
        assert_eq!(check(600), []);
        assert_eq!(check(601).len(), 1);
    }
}
