//! Rule: no package that needs foreign tools to build or ties us to a second TLS, and none from outside crates.io.
//!
//! The program must build on a machine with Rust and a C compiler, and nothing else.

use super::Violation;
use super::graph::{Graph, Kind, Origin};

/// Packages that nothing we ship may need, each with the reason.
const BANNED: [(&str, &str); 9] = [
    ("openssl-sys", "links the system's OpenSSL; use rustls with ring"),
    ("native-tls", "another TLS for every platform; use rustls with ring"),
    ("aws-lc-sys", "needs CMake or a long C build; rustls uses ring here"),
    ("aws-lc-rs", "needs CMake or a long C build; rustls uses ring here"),
    ("cmake", "needs CMake on every machine that builds"),
    ("bindgen", "needs libclang on every machine that builds"),
    ("protoc", "needs the protobuf compiler; our messages are borsh"),
    ("protoc-bin-vendored", "ships foreign binaries; our messages are borsh"),
    ("prost-build", "needs the protobuf compiler; our messages are borsh"),
];

/// Every banned package that is built for something we ship, and every package from an unknown source.
pub(super) fn check(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (id, chain) in graph.reachable(&graph.our_ids(&[]), &[Kind::Normal, Kind::Build]) {
        let Some(package) = graph.packages().get(id) else { continue };
        if let Some((_, reason)) = BANNED.iter().find(|(name, _)| *name == package.name) {
            violations.push(Violation::whole(&package.name, format!("is banned ({reason}): {chain}")));
        }
    }
    for package in graph.foreign() {
        if let Origin::Elsewhere(source) = &package.origin {
            violations.push(Violation::whole(&package.name, format!("comes from {source}, not from crates.io")));
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_build_tool_is_found_below_a_normal_dependency() {
        let graph = Graph::of(&[
            ("mynet-net", true, &[("some-sys", Kind::Normal)]),
            ("some-sys", false, &[("cmake", Kind::Build)]),
        ]);
        let found = check(&graph);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].to_string(),
            "cmake: is banned (needs CMake on every machine that builds): mynet-net -> some-sys -> cmake"
        );
    }

    #[test]
    fn tests_may_use_what_is_never_shipped() {
        let graph = Graph::of(&[("mynet-e2e", true, &[("native-tls", Kind::Development)])]);
        assert_eq!(check(&graph), []);
    }

    #[test]
    fn git_and_path_sources_are_refused() {
        for source in ["git+https://example.org/iroh", "../iroh/Cargo.toml"] {
            let graph = Graph::of(&[("mynet-net", true, &[("iroh", Kind::Normal)])])
                .with("iroh", |package| package.origin = Origin::Elsewhere(source.to_owned()));
            let found = check(&graph);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].to_string(), format!("iroh: comes from {source}, not from crates.io"));
        }
    }
}
