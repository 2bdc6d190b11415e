//! Rule: everything we build on may be used and passed on under permissive terms.
//!
//! The list is of what we accept, not of what we refuse: a licence nobody has read is refused. A package under other
//! terms is named below with its licence and the reason, and leaves the list when it leaves the graph.

use super::Violation;
use super::graph::{Graph, Package};
use super::spdx::satisfied;

/// Licences that ask for no more than attribution.
const PERMISSIVE: [&str; 13] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// MPL-2.0 asks that changes to its own files are published. We change none and pass the packages on as they are.
const WEAK_COPYLEFT: &str = "MPL-2.0";

/// The packages that are used under [`WEAK_COPYLEFT`].
const WEAK_COPYLEFT_PACKAGES: [&str; 13] = [
    "option-ext",
    "symphonia",
    "symphonia-bundle-flac",
    "symphonia-bundle-mp3",
    "symphonia-codec-aac",
    "symphonia-codec-pcm",
    "symphonia-codec-vorbis",
    "symphonia-common",
    "symphonia-core",
    "symphonia-format-isomp4",
    "symphonia-format-ogg",
    "symphonia-format-riff",
    "symphonia-metadata",
];

/// Every package whose licence we have not accepted, and every accepted exception that nothing needs.
pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations: Vec<Violation> = graph.foreign().filter_map(judge).collect();
    for name in WEAK_COPYLEFT_PACKAGES {
        if !graph.foreign().any(|package| package.name == name) {
            violations
                .push(Violation::whole(name, "has a licence exception but is no dependency; remove the exception"));
        }
    }
    violations
}

fn judge(package: &Package) -> Option<Violation> {
    let place = format!("{} {}", package.name, package.version);
    let Some(expression) = &package.licence else {
        return Some(Violation::whole(&place, "states no licence"));
    };
    let mut accepted = PERMISSIVE.to_vec();
    if WEAK_COPYLEFT_PACKAGES.contains(&package.name.as_str()) {
        accepted.push(WEAK_COPYLEFT);
    }
    match satisfied(expression, &accepted) {
        Ok(true) => None,
        Ok(false) => Some(Violation::whole(&place, format!("licence `{expression}` is not accepted"))),
        Err(reason) => Some(Violation::whole(&place, reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Kind;
    use super::*;

    /// A workspace that needs every excepted package, and `left` with `licence`.
    fn workspace_with(licence: Option<&str>) -> Graph {
        let excepted = WEAK_COPYLEFT_PACKAGES.iter().map(|name| (*name, Kind::Normal));
        let needs: Vec<_> = excepted.chain([("left", Kind::Normal)]).collect();
        Graph::of(&[("mynet", true, &needs)]).with("left", |package| package.licence = licence.map(str::to_owned))
    }

    #[test]
    fn permissive_terms_pass() {
        assert_eq!(check(&workspace_with(Some("MIT OR GPL-3.0-only"))), []);
    }

    #[test]
    fn other_terms_missing_terms_and_unreadable_terms_are_refused() {
        for licence in [Some("GPL-3.0-only"), Some("MIT AND AGPL-3.0-only"), None, Some("see file")] {
            let found = check(&workspace_with(licence));
            assert_eq!(found.len(), 1, "{licence:?}");
            assert_eq!(found[0].place, "left 1.0.0");
        }
    }

    #[test]
    fn weak_copyleft_is_accepted_by_name_only() {
        let named =
            workspace_with(Some("MIT")).with("symphonia", |package| package.licence = Some(WEAK_COPYLEFT.to_owned()));
        assert_eq!(check(&named), []);
        assert_eq!(check(&workspace_with(Some(WEAK_COPYLEFT))).len(), 1);
    }

    #[test]
    fn an_exception_that_nothing_needs_is_refused() {
        let found = check(&Graph::of(&[("mynet", true, &[])]));
        assert_eq!(found.len(), WEAK_COPYLEFT_PACKAGES.len());
    }
}
