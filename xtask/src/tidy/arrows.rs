//! Rule: crates of this workspace depend on each other only along the arrows below.
//!
//! Layers that are only a convention are crossed the first time somebody is in a hurry; here a crossing is an error in
//! the gate. Arrows of every kind count, also those of tests: a test that reaches up pulls the upper layer into the
//! build of the lower one.

use super::Violation;
use super::graph::Graph;

/// Every package of the workspace with the packages of ours that it may use.
///
/// This is the crate table of `ARCHITECTURE.md`; both change together. `xtask`, `mynet-e2e` and `mynet-fuzz` stand in no row's list:
/// tooling is never depended on.
const ARROWS: [(&str, &[&str]); 11] = [
    ("mynet-types", &[]),
    ("mynet-proto", &["mynet-types"]),
    ("mynet-sim", &["mynet-types", "mynet-proto"]),
    ("mynet-store", &["mynet-types"]),
    ("mynet-net", &["mynet-types"]),
    ("mynet-node", &["mynet-types", "mynet-proto", "mynet-store", "mynet-net"]),
    ("mynet-api", &["mynet-types", "mynet-node"]),
    ("mynet", &["mynet-types", "mynet-proto", "mynet-store", "mynet-net", "mynet-node", "mynet-api"]),
    ("mynet-e2e", &["mynet-types", "mynet-store"]),
    ("mynet-fuzz", &["mynet-types", "mynet-proto", "mynet-net", "mynet-node"]),
    ("xtask", &[]),
];

/// Every arrow that the table does not have, and every package that is in the table or the workspace but not in both.
pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in graph.ours() {
        let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            violations
                .push(Violation::whole(&package.name, "is not in the table of crates (xtask/src/tidy/arrows.rs)"));
            continue;
        };
        for (id, _) in &package.needs {
            let Some(needed) = graph.packages().get(id).filter(|needed| needed.is_ours()) else { continue };
            if !allowed.contains(&needed.name.as_str()) {
                let message = format!("must not depend on {}; it may use: {}", needed.name, list(allowed));
                violations.push(Violation::whole(&package.name, message));
            }
        }
    }
    for (name, _) in &ARROWS {
        if graph.our_ids(&[name]).is_empty() {
            violations.push(Violation::whole(name, "is in the table of crates but not in the workspace"));
        }
    }
    violations
}

fn list(names: &[&str]) -> String {
    if names.is_empty() { "nothing of ours".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::graph::Kind;
    use super::*;

    /// The table as a workspace, with one more arrow.
    fn table_with(from: &str, to: &str, kind: Kind) -> Graph {
        let rows: Vec<(&str, Vec<(&str, Kind)>)> = ARROWS
            .iter()
            .map(|(name, needs)| {
                let extra = (*name == from).then_some((to, kind));
                (*name, needs.iter().map(|needed| (*needed, Kind::Normal)).chain(extra).collect())
            })
            .collect();
        let rows: Vec<_> = rows.iter().map(|(name, needs)| (*name, true, needs.as_slice())).collect();
        Graph::of(&rows)
    }

    #[test]
    fn the_table_itself_and_foreign_packages_pass() {
        assert_eq!(check(&table_with("mynet-types", "borsh", Kind::Normal)), []);
    }

    #[test]
    fn an_arrow_up_is_refused_for_every_kind() {
        for kind in [Kind::Normal, Kind::Build, Kind::Development] {
            let found = check(&table_with("mynet-store", "mynet-node", kind));
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!(found[0].to_string(), "mynet-store: must not depend on mynet-node; it may use: mynet-types");
        }
    }

    #[test]
    fn tooling_is_never_depended_on() {
        assert_eq!(check(&table_with("mynet", "xtask", Kind::Normal)).len(), 1);
        assert_eq!(check(&table_with("mynet", "mynet-sim", Kind::Normal)).len(), 1);
        assert_eq!(check(&table_with("mynet-node", "mynet-e2e", Kind::Development)).len(), 1);
    }

    #[test]
    fn a_crate_outside_the_table_and_a_row_without_crate_are_refused() {
        let found = check(&Graph::of(&[("mynet-common", true, &[])]));
        assert!(found.iter().any(|violation| violation.place == "mynet-common"), "{found:?}");
        assert_eq!(found.len(), 1 + ARROWS.len());
    }
}
