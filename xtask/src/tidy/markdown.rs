//! Rule: every Markdown file has one title, and its links lead to files and headings of this repository.
//!
//! Links to other sites are not followed: the gate needs no network. A link to an ignored or missing file is broken
//! even if the file happens to lie on the author's disk.
//!
//! Source: heading anchors follow GitHub's rule (lower case, punctuation dropped, blanks to hyphens, repeats numbered).

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::repository::Repository;

/// Every file without exactly one title, and every relative link that leads nowhere.
pub(super) fn check(repository: &Repository) -> Vec<Violation> {
    let pages: BTreeMap<&str, Page> = repository.markdown().map(|(path, text)| (path, Page::read(text))).collect();
    let files: BTreeSet<&str> = repository.files().iter().map(|file| file.path.as_str()).collect();
    let mut violations = Vec::new();
    for (&path, page) in &pages {
        if page.titles != 1 {
            violations.push(Violation::whole(path, format!("{} titles (`# ...`), there must be one", page.titles)));
        }
        for (line, target) in &page.links {
            if let Err(reason) = follow(path, target, &pages, &files) {
                violations.push(Violation::at(path, *line, format!("link `{target}` {reason}")));
            }
        }
    }
    violations
}

/// What a Markdown file offers and asks for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Page {
    titles: usize,
    anchors: BTreeSet<String>,
    /// Line and target of every relative link.
    links: Vec<(usize, String)>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        let mut fence: Option<&str> = None;
        for (index, line) in text.lines().enumerate() {
            let marker = ["```", "~~~"].into_iter().find(|marker| line.trim_start().starts_with(marker));
            match (fence, marker) {
                (None, Some(marker)) => fence = Some(marker),
                (Some(open), Some(marker)) if open == marker => fence = None,
                (Some(_), _) => {}
                (None, None) => page.read_line(index + 1, line),
            }
        }
        page
    }

    fn read_line(&mut self, number: usize, line: &str) {
        let hashes = line.len() - line.trim_start_matches('#').len();
        if let Some(heading) = line[hashes..].strip_prefix(' ').filter(|_| (1..=6).contains(&hashes)) {
            self.titles += usize::from(hashes == 1);
            let anchor = anchor(heading);
            let repeated = (1..).map(|count| format!("{anchor}-{count}"));
            let free = std::iter::once(anchor.clone()).chain(repeated).find(|name| !self.anchors.contains(name));
            self.anchors.extend(free);
        }
        let text = without_code(line);
        let targets = inline_targets(&text).into_iter().chain(reference_target(&text));
        self.links.extend(targets.filter(|target| !has_scheme(target)).map(|target| (number, target.to_owned())));
    }
}

/// Whether `target`, written in the file at `path`, leads somewhere.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
fn follow(path: &str, target: &str, pages: &BTreeMap<&str, Page>, files: &BTreeSet<&str>) -> Result<(), &'static str> {
    let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() { path.to_owned() } else { resolve(path, file)? };
    let below = if file.is_empty() { String::new() } else { format!("{file}/") };
    if !files.contains(file.as_str()) && !files.iter().any(|known| known.starts_with(&below)) {
        return Err("leads to no file of the repository");
    }
    match pages.get(file.as_str()) {
        Some(page) if !fragment.is_empty() && !page.anchors.contains(fragment) => Err("leads to no heading"),
        _ => Ok(()),
    }
}

/// `target` as a path from the root of the repository; empty for the root itself.
fn resolve(path: &str, target: &str) -> Result<String, &'static str> {
    if target.starts_with('/') {
        return Err("is absolute; write it relative to the file");
    }
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop().ok_or("leaves the repository")?;
            }
            name => parts.push(name),
        }
    }
    Ok(parts.join("/"))
}

/// The anchor of a heading, before repeats are numbered.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// `line` with its code spans removed. A span ends at a run of as many ticks as began it; without one, ticks are text.
fn without_code(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = rest.find('`') {
        let (before, ticked) = rest.split_at(start);
        let (ticks, after) = ticked.split_at(ticked.len() - ticked.trim_start_matches('`').len());
        text.push_str(before);
        rest = match after.find(ticks) {
            Some(end) => after[end + ticks.len()..].trim_start_matches('`'),
            None => after,
        };
    }
    text.push_str(rest);
    text
}

/// The targets of `[text](target "title")` and of images.
fn inline_targets(text: &str) -> Vec<&str> {
    let after_brackets = text.split("](").skip(1);
    after_brackets.filter_map(|rest| rest.split([')', ' ']).next()).map(|t| t.trim_matches(['<', '>'])).collect()
}

/// The target of `[name]: target`.
fn reference_target(text: &str) -> Option<&str> {
    let (name, rest) = text.trim_start().strip_prefix('[')?.split_once("]: ")?;
    let is_footnote = name.starts_with('^') || name.contains(']');
    rest.split_whitespace().next().filter(|_| !is_footnote).map(|target| target.trim_matches(['<', '>']))
}

/// Whether `target` begins with a scheme such as `https:` or `mailto:`.
fn has_scheme(target: &str) -> bool {
    let scheme = target.split_once(':').map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = "# Guide\n## First steps\n## First steps\n### What `mynet run` does, exactly\n";

    fn check(text: &str) -> Vec<String> {
        let page = format!("# Page\n{text}\n");
        let repository =
            Repository::of(&[("README.md", "# Readme\n"), ("docs/guide.md", GUIDE), ("docs/page.md", &page)]);
        super::check(&repository).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn links_to_files_directories_headings_and_sites_pass() {
        for link in [
            "[a](guide.md)",
            "[a](../README.md) and ![b](./guide.md \"title\")",
            "[a](<guide.md>)",
            "[a](../docs)",
            "[a](..)",
            "[a](guide.md#first-steps) [b](guide.md#first-steps-1)",
            "[a](guide.md#what-mynet-run-does-exactly)",
            "[a](#page)",
            "[a]: guide.md",
            "[a](https://example.org/guide.md) [b](mailto:a@example.org)",
            "`[a](gone.md)` and ``[a](gone.md) ` ``",
            "```\n[a](gone.md)\n# not a title\n```",
            "[^1]: a footnote",
        ] {
            assert_eq!(check(link), [""; 0], "{link}");
        }
    }

    #[test]
    fn links_that_lead_nowhere_are_refused() {
        for (link, reason) in [
            ("[a](gone.md)", "leads to no file of the repository"),
            ("fine\n[a](guide.md) [b](gone.md)", "leads to no file of the repository"),
            ("[a]: gone.md", "leads to no file of the repository"),
            ("[a](guide.md#last-steps)", "leads to no heading"),
            ("[a](#nowhere)", "leads to no heading"),
            ("`code` ` [a](gone.md)", "leads to no file of the repository"),
            ("[a](../../shared/guide.md)", "leaves the repository"),
            ("[a](/docs/guide.md)", "is absolute; write it relative to the file"),
        ] {
            let found = check(link);
            assert_eq!(found.len(), 1, "{link}: {found:?}");
            assert!(found[0].ends_with(reason), "{found:?}");
        }
    }

    #[test]
    fn a_violation_names_the_line() {
        assert!(check("\n[a](gone.md)")[0].starts_with("docs/page.md:3: link `gone.md`"));
    }

    #[test]
    fn there_is_exactly_one_title() {
        let check = |text: &str| super::check(&Repository::of(&[("a.md", text)])).len();
        assert_eq!(check("# One\n## Two\n"), 0);
        assert_eq!(check("Text without title\n#hashtag\n"), 1);
        assert_eq!(check("# One\n# Two\n"), 1);
    }
}
