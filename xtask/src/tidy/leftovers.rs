//! Rule: nothing unfinished, skipped or waited for by the clock.
//!
//! A part that must wait is absent and listed in the issues; it is never pretended. A test that is skipped proves
//! nothing, and one that sleeps proves that the machine was fast enough.

use super::Violation;
use super::repository::Repository;
use super::rust_source::RustSource;

/// Words that mark unfinished work. They are put together so that this file does not hold them.
const MARKERS: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Code that must not stand in a Rust file, with the reason. Comments and strings may speak of it.
const CODE: [(&str, &str); 4] = [
    ("todo!(", "a part that must wait is absent, never pretended"),
    ("unimplemented!(", "a part that must wait is absent, never pretended"),
    ("#[ignore", "a test that is skipped proves nothing"),
    ("thread::sleep", "wait for a condition with a deadline"),
];

/// The one place that may wait by the clock: tooling has nothing to race with.
const MAY_SLEEP: &str = "xtask/";

/// The lock file holds names that others chose.
const GENERATED: &str = "Cargo.lock";

/// Every marker in any text file, and every piece of forbidden code.
pub(super) fn check(repository: &Repository) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in repository.texts().filter(|(path, _)| *path != GENERATED) {
        for (index, line) in text.lines().enumerate() {
            for marker in MARKERS.iter().filter(|marker| has_word(line, marker)) {
                violations.push(Violation::at(path, index + 1, format!("`{marker}`: finish it or write an issue")));
            }
        }
    }
    for (path, text) in repository.rust() {
        for (number, line) in RustSource::read(text).lines() {
            for (code, reason) in CODE.iter().filter(|(code, _)| line.contains(code)) {
                if !(code.ends_with("sleep") && path.starts_with(MAY_SLEEP)) {
                    violations.push(Violation::at(path, number, format!("`{code}`: {reason}")));
                }
            }
        }
    }
    violations
}

/// Whether `line` holds `word` with no letter, digit or underscore on either side.
fn has_word(line: &str, word: &str) -> bool {
    let joins = |character: Option<char>| character.is_some_and(|c| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(start, _)| {
        !joins(line[..start].chars().next_back()) && !joins(line[start + word.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        super::check(&Repository::of(&[(path, text)])).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_marker_is_found_in_every_kind_of_file() {
        for marker in MARKERS {
            let found = check("docs/plan.md", &format!("Title\n{marker}: later\n"));
            assert_eq!(found, [format!("docs/plan.md:2: `{marker}`: finish it or write an issue")]);
            assert_eq!(check("a.rs", &format!("// {marker}(me)")).len(), 1);
        }
    }

    #[test]
    fn longer_words_are_no_markers() {
        for marker in MARKERS {
            assert_eq!(check("a.sh", &format!("mktemp {marker}{marker} {marker}_LIST")), [""; 0]);
        }
        assert_eq!(check("Cargo.lock", MARKERS[0]), [""; 0]);
    }

    #[test]
    fn forbidden_code_is_found_and_talk_about_it_is_not() {
        for (code, _) in CODE {
            assert_eq!(check("crates/a/src/lib.rs", &format!("{code} 1)]")).len(), 1, "{code}");
            assert_eq!(check("crates/a/src/lib.rs", &format!("// {code}\nlet a = \"{code}\";")), [""; 0], "{code}");
            assert_eq!(check("docs/a.md", code), [""; 0], "{code}");
        }
    }

    #[test]
    fn only_tooling_may_sleep() {
        assert_eq!(check("xtask/src/a.rs", "thread::sleep(a)"), [""; 0]);
        assert_eq!(check("crates/mynet-e2e/tests/it/a.rs", "std::thread::sleep(a)").len(), 1);
        assert_eq!(check("xtask/src/a.rs", "todo!()").len(), 1);
    }
}
