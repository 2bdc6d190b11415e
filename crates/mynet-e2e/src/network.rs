//! A whole network on loopback.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    process::{Done, Node, command, json, run},
    wait::until,
};

/// How long a network may take to form; every admission and every epoch is a few round trips and fsyncs.
const FORM_MAX: Duration = Duration::from_secs(90);

/// Nodes that know each other, and the directory that they live in.
#[derive(Debug)]
pub struct Network {
    /// The nodes, the founder first.
    pub nodes: Vec<Node>,
    /// Everything on disk.
    pub temp: TempDir,
    settings: String,
}

/// How a node comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// With decrypted states.
    Trusted,
    /// Without.
    Untrusted,
}

impl Network {
    /// A network of `count` trusted validators that are connected to each other and sit in the roster.
    ///
    /// `settings` is appended to each `config.toml`.
    ///
    /// # Errors
    /// If it does not form in time.
    pub fn trusted(count: usize, settings: &str) -> Result<Self> {
        let temp = tempfile::tempdir().context("make a directory")?;
        Self::trusted_in(temp, (count, settings), &[])
    }

    /// The same in a given directory, with variables in the environment of the founder, from its `init` on.
    ///
    /// # Errors
    /// If it does not form in time.
    pub fn trusted_in(temp: TempDir, (count, settings): (usize, &str), founder: &[(String, String)]) -> Result<Self> {
        let mut network = Self { nodes: Vec::new(), temp, settings: settings.to_owned() };
        let dir = network.dir(0);
        let made: Done = command()?
            .envs(founder.iter().cloned())
            .args(init_args(&["init", "--network", "test"], &dir, 0))
            .output()
            .context("start the program")?
            .into();
        ensure!(made.status == 0, "init: {}", made.stderr);
        network.start(&dir, founder)?;
        for _ in 1..count {
            network.join(Trust::Trusted, &[])?;
        }
        network.formed(count)?;
        Ok(network)
    }

    /// The directory of the node that joins next.
    #[must_use]
    pub fn next_dir(&self) -> PathBuf {
        self.dir(self.nodes.len())
    }

    /// The directory of node `index`.
    fn dir(&self, index: usize) -> PathBuf {
        self.temp.path().join("nodes").join(format!("node{index}"))
    }

    fn start(&mut self, dir: &Path, environment: &[(String, String)]) -> Result<()> {
        if !self.settings.is_empty() {
            let path = dir.join("config.toml");
            let text = std::fs::read_to_string(&path).context("read config.toml")?;
            std::fs::write(&path, text + &self.settings).context("write config.toml")?;
        }
        self.nodes.push(Node::start_in(dir, &[], environment)?);
        Ok(())
    }

    /// Invites one more node through the founder and starts it.
    ///
    /// # Errors
    /// If a command fails or the node does not serve.
    pub fn join(&mut self, trust: Trust, invite: &[&str]) -> Result<&Node> {
        let index = self.nodes.len();
        let dir = self.dir(index);
        let founder = self.nodes.first().context("a network has a founder")?;
        let trusted: &[&str] = if trust == Trust::Trusted { &["--trusted"] } else { &[] };
        let ticket = founder.json(&[&["invite"], trusted, invite].concat())?;
        let ticket = ticket["ticket"].as_str().context("an invitation has a ticket")?;
        json(&init_args(&["join", ticket], &dir, index))?;
        self.start(&dir, &[])?;
        self.nodes.last().context("it was just started")
    }

    /// Waits until every node sees `validators` seats and all running others.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn formed(&self, validators: usize) -> Result<()> {
        let running = self.nodes.iter().filter(|node| node.pid().is_some()).count();
        for node in self.nodes.iter().filter(|node| node.pid().is_some()) {
            until(&format!("node {} to see the network", node.dir_arg()), FORM_MAX, || {
                let status = node.json(&["status"])?;
                let seats = status["roster"]["validators"].as_array().map_or(0, Vec::len);
                let alive = status["peers"]["alive"].as_u64().unwrap_or(0);
                ensure!(seats == validators, "{seats} of {validators} validators sit: {status}");
                ensure!(alive + 1 == running as u64, "{alive} peers are alive: {status}");
                Ok(())
            })
            .with_context(|| node.log_tail())?;
        }
        Ok(())
    }

    /// Waits until a group is replicated and certified as seen from node `index`.
    ///
    /// # Errors
    /// If that does not happen in time.
    pub fn settled(&self, index: usize, group: &str) -> Result<Value> {
        let node = self.nodes.get(index).context("there is such a node")?;
        until(&format!("{group} to be replicated and certified"), FORM_MAX, || {
            let view = node.json(&["show", group])?;
            ensure!(view["replication_status"] == "replicated", "{view}");
            ensure!(view["consensus_achieved"] == true, "{view}");
            Ok(view)
        })
        .with_context(|| node.log_tail())
    }

    /// Writes the genesis file of the network into `dir` and returns its path.
    ///
    /// # Errors
    /// If the command fails.
    pub fn genesis(&self, dir: &Path) -> Result<String> {
        let path = dir.join("genesis.out").to_string_lossy().into_owned();
        let founder = self.nodes.first().context("a network has a founder")?;
        let done = founder.run(&["genesis", "-o", &path])?;
        ensure!(done.status == 0, "{}", done.stderr);
        Ok(path)
    }
}

/// Arguments of `init` and `join` for node `index`: its own zone, free ports on loopback.
fn init_args<'a>(verb: &[&'a str], dir: &'a Path, index: usize) -> Vec<&'a str> {
    const ZONES: [&str; 8] = ["z0", "z1", "z2", "z3", "z4", "z5", "z6", "z7"];
    let zone = ZONES.get(index % ZONES.len()).copied().unwrap_or("z");
    let dir = dir.to_str().expect("temporary directories are UTF-8");
    let mut args = verb.to_vec();
    args.extend(["--data-dir", dir, "--zone", zone, "--api-listen", "127.0.0.1:0", "--p2p-listen", "127.0.0.1:0"]);
    args
}

/// Prepares a data directory without a network around it; for nodes that must stay out.
///
/// # Errors
/// If the command fails.
pub fn lonely(dir: &Path) -> Result<Value> {
    let done = run(&[init_args(&["init", "--network", "other"], dir, 7), vec!["--json"]].concat())?;
    ensure!(done.status == 0, "{}", done.stderr);
    done.json()
}
