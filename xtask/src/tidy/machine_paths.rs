//! Rule: no file speaks of directories that exist on one machine only.
//!
//! Such a path works for its author, breaks for everybody else and tells strangers how the author's machine is built.

use super::Violation;
use super::repository::Repository;

/// Top-level directories of build machines, without the slash, so that this file does not hold the paths.
const DIRECTORIES: [&str; 2] = ["work", "root"];

/// Every line of any text file with an absolute path into one of the directories.
pub(super) fn check(repository: &Repository) -> Vec<Violation> {
    let paths: Vec<String> = DIRECTORIES.iter().map(|directory| format!("/{directory}")).collect();
    let mut violations = Vec::new();
    for (file, text) in repository.texts() {
        for (index, line) in text.lines().enumerate() {
            for path in paths.iter().filter(|path| has_absolute(line, path)) {
                violations.push(Violation::at(file, index + 1, format!("`{path}` exists on one machine only")));
            }
        }
    }
    violations
}

/// Whether `path` stands in `line` as a whole component at the start of an absolute path.
fn has_absolute(line: &str, path: &str) -> bool {
    let names = |character: char| character.is_alphanumeric() || "_-".contains(character);
    // A path that follows a name, a dot or the end of a substitution is relative to it.
    let continues = |character: char| names(character) || ".}>)".contains(character);
    line.match_indices(path).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + path.len()..].chars().next();
        !before.is_some_and(continues) && !after.is_some_and(names)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_paths_are_found_and_lookalikes_are_not() {
        for directory in DIRECTORIES {
            let found = |line: String| check(&Repository::of(&[("a.md", &line)])).len();
            assert_eq!(found(format!("cd /{directory}/main")), 1);
            assert_eq!(found(format!("`/{directory}`")), 1);
            assert_eq!(found(format!("file:///{directory}/x")), 1);
            assert_eq!(found(format!("HOME=/{directory}.")), 1);
            assert_eq!(found(format!("docs/{directory}/x ../{directory}/x")), 0);
            assert_eq!(found(format!("GET /{directory}ers and /{directory}-x")), 0);
            assert_eq!(found(format!("$(pwd)/{directory} ${{home}}/{directory}")), 0);
        }
    }
}
