//! The allow-list of old sins: files and functions that were too big when a limit came.
//!
//! `xtask/tidy-allow.txt` holds one `rule path number` per line. It may only shrink: a number may not exceed the
//! smallest one that was ever committed for it, a line that was absent from any committed version may not come (back),
//! and a line that is larger than needed must be lowered. So the file can be trusted to measure progress.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Violation;
use crate::command::git;

/// The list, relative to the root.
pub(super) const PATH: &str = "xtask/tidy-allow.txt";

/// The rules that know exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// Lines of code in one file, `file_size`.
    CodeLines,
    /// Functions of one file that switch the clippy limit off, `function_size`.
    LongFunctions,
}

impl Rule {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "code-lines" => Some(Self::CodeLines),
            "long-functions" => Some(Self::LongFunctions),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::CodeLines => "code-lines",
            Self::LongFunctions => "long-functions",
        }
    }
}

/// Exceptions by rule and file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AllowList {
    entries: BTreeMap<(Rule, String), usize>,
}

impl AllowList {
    /// Reads the list in the tree.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(root.join(PATH)).with_context(|| format!("read {PATH}"))?;
        Self::parse(&text)
    }

    /// Reads every committed version of the list that this clone knows; none before the first commit.
    pub(super) fn read_history(root: &Path) -> Result<Vec<Self>> {
        if git(root, &["rev-parse", "--verify", "--quiet", "HEAD"]).is_err() {
            return Ok(Vec::new());
        }
        let commits = git(root, &["log", "--diff-filter=AM", "--format=%H", "HEAD", "--", PATH])?;
        commits.lines().map(|commit| Self::parse(&git(root, &["show", &format!("{commit}:{PATH}")])?)).collect()
    }

    /// Reads `rule path number` lines; blank lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// A line of another form, an unknown rule, or a second line for the same rule and file.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let &[rule, path, number] = words.as_slice() else {
                bail!("{PATH}: `{line}` is not `rule path number`");
            };
            let rule = Rule::parse(rule).with_context(|| format!("{PATH}: `{line}` names an unknown rule"))?;
            let number = number.parse().with_context(|| format!("{PATH}: `{line}` ends in no number"))?;
            if entries.insert((rule, path.to_owned()), number).is_some() {
                bail!("{PATH}: `{line}` stands twice");
            }
        }
        Ok(Self { entries })
    }

    fn get(&self, rule: Rule, path: &str) -> Option<usize> {
        self.entries.get(&(rule, path.to_owned())).copied()
    }

    /// Judges what was `measured` per file against `limit` and this list's exceptions from it.
    ///
    /// A file above its number is a violation, and so is a number that is higher than the file needs.
    pub(super) fn judge(&self, rule: Rule, limit: usize, measured: &BTreeMap<&str, usize>) -> Vec<Violation> {
        let mut violations = Vec::new();
        for (&path, &number) in measured {
            let most = self.get(rule, path).unwrap_or(limit);
            if number > most {
                violations.push(Violation::whole(path, format!("{number} {}, at most {most}", rule.name())));
            }
        }
        for ((_, path), &allowed) in self.entries.iter().filter(|((of, _), _)| *of == rule) {
            let number = measured.get(path.as_str()).copied().unwrap_or(0);
            if number <= limit {
                let message = format!("`{} {path} {allowed}` is no longer needed; remove the line", rule.name());
                violations.push(Violation::whole(PATH, message));
            } else if number < allowed {
                let message = format!("`{} {path} {allowed}` is too high; lower it to {number}", rule.name());
                violations.push(Violation::whole(PATH, message));
            }
        }
        violations
    }
}

/// Every entry that is new or higher, measured by any of the `committed` versions.
pub(super) fn check_only_shrinks(list: &AllowList, committed: &[AllowList]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for ((rule, path), &number) in &list.entries {
        let smallest = committed.iter().map(|version| version.get(*rule, path).unwrap_or(0)).min();
        if let Some(smallest) = smallest.filter(|&smallest| number > smallest) {
            let message = format!(
                "`{} {path} {number}` grows a list that may only shrink (was {smallest}); split the code instead",
                rule.name()
            );
            violations.push(Violation::whole(PATH, message));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> AllowList {
        AllowList::parse(text).unwrap()
    }

    #[test]
    fn lines_of_another_form_are_errors() {
        for text in ["code-lines a.rs", "code-lines a.rs many", "size a.rs 3", "code-lines a.rs 1\ncode-lines a.rs 2"] {
            assert!(AllowList::parse(text).is_err(), "{text}");
        }
        assert_eq!(list("# why\n\n"), AllowList::default());
    }

    #[test]
    fn a_file_is_held_to_its_number_or_else_to_the_limit() {
        let check = |entries: &str, number: usize, expected: Option<&str>| {
            let found = list(entries).judge(Rule::CodeLines, 600, &BTreeMap::from([("a.rs", number)]));
            let found: Vec<String> = found.iter().map(ToString::to_string).collect();
            assert_eq!(found.join("\n"), expected.unwrap_or_default(), "{entries} {number}");
        };
        check("", 600, None);
        check("", 601, Some("a.rs: 601 code-lines, at most 600"));
        check("code-lines a.rs 700", 700, None);
        check("code-lines a.rs 700", 701, Some("a.rs: 701 code-lines, at most 700"));
        check(
            "code-lines a.rs 700",
            650,
            Some("xtask/tidy-allow.txt: `code-lines a.rs 700` is too high; lower it to 650"),
        );
        check(
            "code-lines a.rs 700",
            600,
            Some("xtask/tidy-allow.txt: `code-lines a.rs 700` is no longer needed; remove the line"),
        );
        check(
            "code-lines gone.rs 700",
            10,
            Some("xtask/tidy-allow.txt: `code-lines gone.rs 700` is no longer needed; remove the line"),
        );
        check("long-functions a.rs 2", 601, Some("a.rs: 601 code-lines, at most 600"));
    }

    #[test]
    fn entries_may_shrink_but_never_grow_or_come() {
        let committed = [list("code-lines a.rs 700"), list("code-lines a.rs 650\ncode-lines b.rs 900")];
        let check = |entries: &str, expected: usize| {
            assert_eq!(check_only_shrinks(&list(entries), &committed).len(), expected, "{entries}");
        };
        check("", 0);
        check("code-lines a.rs 650", 0);
        check("code-lines a.rs 700", 1);
        check("code-lines b.rs 900", 1);
        check("long-functions a.rs 1", 1);
    }

    #[test]
    fn before_the_first_commit_there_is_nothing_to_grow_from() {
        assert_eq!(check_only_shrinks(&list("code-lines a.rs 700"), &[]), []);
    }

    #[test]
    fn history_holds_every_committed_version_newest_first() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        std::fs::create_dir(root.join("xtask")).unwrap();
        git(root, &["init", "--quiet"]).unwrap();
        assert_eq!(AllowList::read_history(root).unwrap(), []);

        for text in ["code-lines a.rs 700\n", "code-lines a.rs 650\n"] {
            std::fs::write(root.join(PATH), text).unwrap();
            git(root, &["add", PATH]).unwrap();
            let author = ["-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "commit.gpgsign=false"];
            git(root, &[&author[..], &["commit", "--quiet", "--message=x"]].concat()).unwrap();
        }
        let expected = [list("code-lines a.rs 650"), list("code-lines a.rs 700")];
        assert_eq!(AllowList::read_history(root).unwrap(), expected);
    }
}
