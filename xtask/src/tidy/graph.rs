//! The dependency graph, reduced to what the rules ask about.
//!
//! It covers all platforms and all features that the workspace can turn on, so a package that only another operating
//! system would pull in is judged too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, MetadataCommand};

/// Why one package needs another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Normal,
    Build,
    Development,
}

/// Where a package comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Workspace,
    CratesIo,
    /// Another registry, a git repository or a path outside the workspace, as cargo names it.
    Elsewhere(String),
}

/// One package at one version.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// The SPDX expression of its manifest.
    pub(super) licence: Option<String>,
    pub(super) origin: Origin,
    /// The packages it needs, by id.
    pub(super) needs: Vec<(String, Kind)>,
}

impl Package {
    pub(super) fn is_ours(&self) -> bool {
        self.origin == Origin::Workspace
    }
}

/// One package of a graph for tests: its name, whether it is ours, and what it needs.
#[cfg(test)]
type Row<'a> = (&'a str, bool, &'a [(&'a str, Kind)]);

/// Packages by id.
#[derive(Debug, Default)]
pub(super) struct Graph {
    packages: BTreeMap<String, Package>,
}

impl Graph {
    /// Asks cargo for the resolved graph of the workspace at `root`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .other_options(vec!["--locked".to_owned()])
            .exec()
            .context("read cargo metadata")?;
        let members: BTreeSet<_> = metadata.workspace_members.iter().collect();
        let resolve = metadata.resolve.as_ref().context("find the resolved graph in cargo metadata")?;
        let mut needs: BTreeMap<_, Vec<(String, Kind)>> = BTreeMap::new();
        for node in &resolve.nodes {
            let edges = node.deps.iter().flat_map(|dependency| {
                dependency.dep_kinds.iter().map(|info| (dependency.pkg.repr.clone(), kind(info.kind)))
            });
            needs.insert(&node.id, edges.collect());
        }
        let packages = metadata.packages.iter().map(|package| {
            let reduced = Package {
                name: package.name.to_string(),
                version: package.version.to_string(),
                licence: package.license.clone(),
                origin: if members.contains(&package.id) { Origin::Workspace } else { origin(package) },
                needs: needs.remove(&package.id).unwrap_or_default(),
            };
            (package.id.repr.clone(), reduced)
        });
        Ok(Self { packages: packages.collect() })
    }

    /// A graph made of `rows`; what is only needed is from crates.io and under MIT.
    #[cfg(test)]
    pub(super) fn of(rows: &[Row<'_>]) -> Self {
        let mut graph = Self::default();
        for (name, ours, needs) in rows {
            let needs: Vec<_> = needs.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect();
            let origin = if *ours { Origin::Workspace } else { Origin::CratesIo };
            for (needed, _) in &needs {
                graph.packages.entry(needed.clone()).or_insert_with(|| foreign(needed));
            }
            graph.packages.insert((*name).to_owned(), Package { needs, origin, ..foreign(name) });
        }
        graph
    }

    /// The same graph with one package changed.
    #[cfg(test)]
    pub(super) fn with(mut self, name: &str, change: impl FnOnce(&mut Package)) -> Self {
        change(self.packages.get_mut(name).expect("the package is in the graph"));
        self
    }

    /// Every package by id.
    pub(super) fn packages(&self) -> &BTreeMap<String, Package> {
        &self.packages
    }

    /// The packages of this workspace.
    pub(super) fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| package.is_ours())
    }

    /// The packages of others.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &Package> {
        self.packages.values().filter(|package| !package.is_ours())
    }

    /// Everything that `starts` (ids) need through edges of `kinds`, each with the chain of names that leads to it.
    ///
    /// Development edges of foreign packages do not exist in a resolved graph.
    pub(super) fn reachable<'a>(&'a self, starts: &[&'a str], kinds: &[Kind]) -> BTreeMap<&'a str, String> {
        let mut chains: BTreeMap<&str, String> = BTreeMap::new();
        let mut open: Vec<&str> = Vec::new();
        for &start in starts {
            if let Some(package) = self.packages.get(start) {
                chains.insert(start, package.name.clone());
                open.push(start);
            }
        }
        while let Some(id) = open.pop() {
            let Some(package) = self.packages.get(id) else { continue };
            let chain = chains.get(id).cloned().unwrap_or_default();
            for (needed, kind) in &package.needs {
                let wanted = kinds.contains(kind) && !chains.contains_key(needed.as_str());
                if let Some(next) = self.packages.get(needed).filter(|_| wanted) {
                    chains.insert(needed, format!("{chain} -> {}", next.name));
                    open.push(needed);
                }
            }
        }
        chains
    }

    /// The ids of the workspace's packages called one of `names`, or of all of them when `names` is empty.
    pub(super) fn our_ids(&self, names: &[&str]) -> Vec<&str> {
        let wanted =
            |package: &Package| package.is_ours() && (names.is_empty() || names.contains(&package.name.as_str()));
        self.packages.iter().filter(|(_, package)| wanted(package)).map(|(id, _)| id.as_str()).collect()
    }
}

fn origin(package: &cargo_metadata::Package) -> Origin {
    match &package.source {
        Some(source) if source.is_crates_io() => Origin::CratesIo,
        Some(source) => Origin::Elsewhere(source.repr.clone()),
        None => Origin::Elsewhere(package.manifest_path.to_string()),
    }
}

fn kind(kind: DependencyKind) -> Kind {
    match kind {
        DependencyKind::Development => Kind::Development,
        DependencyKind::Build => Kind::Build,
        // Cargo marks its enum as one that may grow; a new kind is judged like the strictest old one.
        _ => Kind::Normal,
    }
}

#[cfg(test)]
fn foreign(name: &str) -> Package {
    Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        licence: Some("MIT".to_owned()),
        origin: Origin::CratesIo,
        needs: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::workspace_root;

    #[test]
    fn reachable_follows_only_the_wanted_kinds() {
        let graph = Graph::of(&[
            ("a", true, &[("b", Kind::Normal), ("d", Kind::Development)]),
            ("b", false, &[("c", Kind::Normal), ("e", Kind::Build)]),
        ]);
        let found = graph.reachable(&["a"], &[Kind::Normal]);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(found["c"], "a -> b -> c");
    }

    #[test]
    fn workspace_graph_has_our_packages_and_those_of_others() {
        let graph = Graph::read(&workspace_root().unwrap()).unwrap();
        assert!(graph.ours().any(|package| package.name == "xtask"));
        assert!(graph.foreign().any(|package| package.name == "cargo_metadata"));
        let xtask = graph.our_ids(&["xtask"]);
        assert!(graph.reachable(&xtask, &[Kind::Normal]).keys().any(|id| id.contains("cargo_metadata")));
    }
}
