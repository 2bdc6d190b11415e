//! Rule: the glossary names each word once, and only Rust names that exist.
//!
//! A glossary that nobody checks is wrong after the first rename, and then it is worse than none.

use std::collections::BTreeSet;

use super::Violation;
use super::repository::Repository;
use super::rust_source::RustSource;

/// The authority on words.
const PATH: &str = "docs/glossary.md";

/// Columns of its tables: word, meaning, Rust, source.
const COLUMNS: usize = 4;

/// Where the names must exist. Tooling has no vocabulary of its own.
const CODE: &str = "crates/";

/// Every word that stands twice, every incomplete row and every type or variant that no code has.
pub(super) fn check(repository: &Repository) -> Vec<Violation> {
    let Some((_, text)) = repository.texts().find(|(path, _)| *path == PATH) else {
        return vec![Violation::whole(PATH, "is missing")];
    };
    let known = names_in_code(repository);
    let mut words = BTreeSet::new();
    let mut violations = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some(cells) = cells(line) else { continue };
        let at = |message: String| Violation::at(PATH, index + 1, message);
        let &[word, _, rust, _] = cells.as_slice() else {
            violations.push(at(format!("the row has {} cells, not {COLUMNS}", cells.len())));
            continue;
        };
        if cells.contains(&"") {
            violations.push(at(format!("`{word}` has an empty cell")));
        }
        if word != "Word" && !words.insert(word.to_lowercase()) {
            violations.push(at(format!("`{word}` stands twice")));
        }
        for name in type_names(rust).filter(|name| !known.contains(*name)) {
            violations.push(at(format!("`{word}` names `{name}`, which no code has")));
        }
    }
    violations
}

/// The cells of a table row; none for other lines and for the line below a table's head.
fn cells(line: &str) -> Option<Vec<&str>> {
    let row = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let is_rule = row.chars().all(|character| "|-: ".contains(character));
    (!is_rule).then(|| row.split('|').map(str::trim).collect())
}

/// The types and variants in the code spans of a cell. Modules and functions begin with a small letter.
fn type_names(cell: &str) -> impl Iterator<Item = &str> {
    let spans = cell.split('`').skip(1).step_by(2);
    spans.flat_map(|span| span.split("::")).filter(|name| name.starts_with(|first: char| first.is_uppercase()))
}

/// Every identifier in the code, comments and strings left out.
fn names_in_code(repository: &Repository) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in repository.rust().filter(|(path, _)| path.starts_with(CODE)) {
        let source = RustSource::read(text);
        let words = source.code.split(|character: char| !character.is_alphanumeric() && character != '_');
        names.extend(words.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "//! Doc of Gone.\nid!(NodeId);\nenum Claim { Seen }\n";

    fn check(rows: &str) -> Vec<String> {
        let page = format!("# Glossary\n\n| Word | Means | Rust | Source |\n|---|---|---|---|\n{rows}\n");
        let repository = Repository::of(&[(PATH, &page), ("crates/a/src/lib.rs", CODE)]);
        super::check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn names_that_exist_pass() {
        assert_eq!(
            check("| node | a | `a::NodeId` | ours |\n| seen | b | `Claim::Seen`, `a::votes` | ours |"),
            [""; 0]
        );
    }

    #[test]
    fn a_renamed_type_is_found_even_if_a_comment_still_has_it() {
        let found = check("| node | a | `a::NodeId` | ours |\n| old | b | `a::Gone` | ours |");
        assert_eq!(found, ["docs/glossary.md:6: `old` names `Gone`, which no code has"]);
    }

    #[test]
    fn a_word_means_one_thing() {
        let found = check("| node | a | `NodeId` | ours |\n| Node | b | `Claim` | ours |");
        assert_eq!(found, ["docs/glossary.md:6: `Node` stands twice"]);
    }

    #[test]
    fn rows_are_complete() {
        assert_eq!(check("| node | a | `NodeId` |").len(), 1);
        assert_eq!(check("| node | | `NodeId` | ours |").len(), 1);
    }

    #[test]
    fn the_glossary_exists() {
        assert_eq!(super::check(&Repository::of(&[])).len(), 1);
    }
}
