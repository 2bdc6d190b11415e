//! Rule: nobody switches clippy's limit on the length of functions off.
//!
//! Clippy measures functions (70 lines, `clippy.toml`); what it cannot see is that the lint itself was allowed. Each
//! `allow` or `expect` of it needs a line in the allow-list, and that list only shrinks.

use std::collections::BTreeMap;

use super::Violation;
use super::allow::{AllowList, Rule};
use super::repository::Repository;
use super::rust_source::RustSource;

/// The lint that measures functions. No code has another reason to name it.
const LINT: &str = "clippy::too_many_lines";

/// Every file that switches the lint off more often than the allow-list says.
pub(super) fn check(repository: &Repository, allowed: &AllowList) -> Vec<Violation> {
    let mut measured = BTreeMap::new();
    for (path, text) in repository.rust() {
        let count = RustSource::read(text).code.matches(LINT).count();
        if count > 0 {
            measured.insert(path, count);
        }
    }
    allowed.judge(Rule::LongFunctions, 0, &measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: &str = "//! Doc.\n#[allow(clippy::too_many_lines)]\nfn a() {}\n";

    #[test]
    fn a_stray_allow_is_refused() {
        let found = check(&Repository::of(&[("a.rs", LONG)]), &AllowList::default());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "a.rs: 1 long-functions, at most 0");
    }

    #[test]
    fn expect_counts_too_and_a_comment_does_not() {
        let check = |text: &str| super::check(&Repository::of(&[("a.rs", text)]), &AllowList::default()).len();
        assert_eq!(check("#![expect(clippy::too_many_lines, reason = \"old\")]"), 1);
        assert_eq!(check("// clippy::too_many_lines is never allowed\n"), 0);
    }

    #[test]
    fn a_listed_one_passes() {
        let allowed = AllowList::parse("long-functions a.rs 1").unwrap();
        assert_eq!(check(&Repository::of(&[("a.rs", LONG)]), &allowed), []);
    }
}
