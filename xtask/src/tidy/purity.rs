//! Rule: the crates that decide have no runtime and no sockets in their dependency tree.
//!
//! A core takes the time as an argument and returns what is to be done. As long as its crate cannot even name a
//! runtime, the daemon and the simulator are sure to run the same logic.

use super::Violation;
use super::graph::{Graph, Kind};

/// The crates that decide.
const PURE: [&str; 2] = ["mynet-types", "mynet-proto"];

/// Runtimes, and the packages through which every one of them reaches the operating system.
const IMPURE: [&str; 5] = ["tokio", "async-io", "smol", "mio", "socket2"];

/// Every impure package below a pure crate, through normal dependencies (tests and build scripts do not ship).
pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for name in PURE {
        for (id, chain) in graph.reachable(&graph.our_ids(&[name]), &[Kind::Normal]) {
            let found = graph.packages().get(id).filter(|package| IMPURE.contains(&package.name.as_str()));
            if let Some(found) = found {
                violations.push(Violation::whole(name, format!("must not reach {}: {chain}", found.name)));
            }
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_far_below_a_core_is_found_with_its_chain() {
        let graph =
            Graph::of(&[("mynet-proto", true, &[("swim", Kind::Normal)]), ("swim", false, &[("tokio", Kind::Normal)])]);
        let found = check(&graph);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "mynet-proto: must not reach tokio: mynet-proto -> swim -> tokio");
    }

    #[test]
    fn tests_of_a_core_and_other_crates_may_use_a_runtime() {
        let graph = Graph::of(&[
            ("mynet-proto", true, &[("tokio", Kind::Development)]),
            ("mynet-net", true, &[("tokio", Kind::Normal)]),
        ]);
        assert_eq!(check(&graph), []);
    }
}
