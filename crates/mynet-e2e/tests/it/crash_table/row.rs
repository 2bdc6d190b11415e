//! One row of the crash table: a network, an upload that runs into an armed point, and what must hold afterwards.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Result, ensure};
use mynet_e2e::{
    content::{self, bytes, hash},
    network::Network,
    process::{Done, run},
    wait::until,
};
use mynet_store::{keys::KeyFiles, meta::Meta};
use serde_json::Value;

/// Nodes of a row: the coordinator, which is a holder too, and two more holders; three copies are wanted, two are enough.
pub(super) const NODES: usize = 3;
/// Where uploads come in.
pub(super) const COORDINATOR: usize = 0;
/// The participant that dies where one does.
pub(super) const PARTICIPANT: usize = 1;
/// The participant that stays.
pub(super) const OTHER: usize = 2;
/// Longer than a restart, so that what a restart must do is not done by the end of a lease. Asked about at half of it.
pub(super) const LONG: &str = "\n[replication]\nlease = \"20s\"\nreceiving_lease = \"20s\"\nprepare_timeout = \"1s\"\n";
/// Ends while a node is down.
pub(super) const SHORT: &str = "\n[replication]\nlease = \"4s\"\nreceiving_lease = \"4s\"\nprepare_timeout = \"1s\"\n";
/// More than two segments, so that a transfer can be cut off between them.
pub(super) const LARGE: usize = 9 * 1024 * 1024;
/// Where it does not matter.
pub(super) const SMALL: usize = 200_000;
/// How long anything may take that is only waited for.
const WAIT_MAX: Duration = Duration::from_secs(90);
/// What a participant logs when it gives a transaction up.
const GIVEN_UP: &str = "transaction given up";

/// A network in which an upload met its point.
pub(super) struct Row {
    pub(super) network: Network,
    data: Vec<u8>,
    /// How the upload ended for whoever waited for it.
    pub(super) upload: Done,
}

impl Row {
    /// Arms `points` in node `victim`, uploads `size` bytes through the coordinator, and waits until the victim is dead at
    /// `point`. The upload waits for `wait`.
    pub(super) fn new(settings: &str, size: usize, (victim, point, points): (usize, &str, &str), wait: &str) -> Self {
        let mut network = Network::trusted(NODES, settings).unwrap();
        network.nodes[victim].arm(points).unwrap();
        network.formed(NODES).unwrap();
        let data = bytes(size as u64, size);
        let path = content::file(network.temp.path(), "data.bin", &data).unwrap();
        let dir = network.nodes[COORDINATOR].dir_arg().to_owned();
        let upload = thread::scope(|scope| {
            let args = ["--type", "document", "--wait", wait, "--timeout", "60s", "--json", "--data-dir", &dir];
            let upload = scope.spawn(move || run(&[&["add", &path], args.as_slice()].concat()).unwrap());
            network.nodes[victim].died_at(point).unwrap();
            upload.join().unwrap()
        });
        let row = Self { network, data, upload };
        row.nothing_partial();
        row
    }

    /// The same where the plan is one point that kills.
    pub(super) fn killed(settings: &str, size: usize, (victim, point): (usize, &str), wait: &str) -> Self {
        Self::new(settings, size, (victim, point, &format!("{point}=kill")), wait)
    }

    /// The upload was acknowledged although a node died.
    pub(super) fn acknowledged(self) -> Self {
        assert_eq!(self.upload.status, 0, "{}", self.upload.stderr);
        self
    }

    /// The upload was not acknowledged, because the node that took it in is dead.
    pub(super) fn broken_off(self) -> Self {
        assert_ne!(self.upload.status, 0, "{}", String::from_utf8_lossy(&self.upload.stdout));
        self
    }

    pub(super) fn restart(mut self, node: usize) -> Self {
        self.network.nodes[node].restart().unwrap();
        self
    }

    /// Ends a node without a point.
    pub(super) fn kill(mut self, node: usize) -> Self {
        self.network.nodes[node].kill().unwrap();
        self
    }

    fn listing(&self, node: usize) -> Result<Vec<Value>> {
        let listing = self.network.nodes[node].json(&["ls"])?;
        Ok(listing.as_array().cloned().unwrap_or_default())
    }

    fn is_up(&self, node: usize) -> bool {
        self.network.nodes[node].pid().is_some()
    }

    /// No running node shows a group without all of its states.
    fn nothing_partial(&self) {
        for node in (0..NODES).filter(|node| self.is_up(*node)) {
            for group in self.listing(node).unwrap() {
                let states = group["states"].as_array().unwrap();
                assert!(!states.is_empty() && states.iter().all(|state| state["held"] != "no"), "partial: {group}");
            }
        }
    }

    /// Whether a node shows the group as its own copy.
    pub(super) fn shows(&self, node: usize) -> bool {
        !self.listing(node).unwrap().is_empty()
    }

    /// Waits until a node shows the group.
    pub(super) fn until_shown(&self, node: usize) {
        until("the group to be visible", WAIT_MAX, || {
            ensure!(self.shows(node), "{}", self.network.nodes[node].log_tail());
            Ok(())
        })
        .unwrap();
    }

    /// What a node has said in its log.
    pub(super) fn log(&self, node: usize) -> String {
        fs::read_to_string(self.network.nodes[node].log_path()).unwrap()
    }

    /// Waits until one of `nodes` has given the transaction up.
    pub(super) fn until_given_up(&self, nodes: &[usize]) {
        until("the transaction to be given up", WAIT_MAX, || {
            ensure!(nodes.iter().any(|node| gave_up(&self.log(*node))), "nobody did");
            Ok(())
        })
        .unwrap();
    }

    /// Names in the staging directory of a node.
    pub(super) fn staged(&self, node: usize) -> Vec<String> {
        let entries = fs::read_dir(self.network.nodes[node].dir.join("staging")).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// The files of blobs of a node. A file that is pulled again has another name.
    pub(super) fn blobs(&self, node: usize) -> BTreeSet<PathBuf> {
        let mut dirs = vec![self.network.nodes[node].dir.join("blobs")];
        let mut files = BTreeSet::new();
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else {
                    files.insert(path);
                }
            }
        }
        files
    }

    /// A participant keeps nothing of the transaction: no reservation, no staging, no open state.
    pub(super) fn until_released(&self, node: usize) {
        let node = &self.network.nodes[node];
        until(&format!("{} to hold nothing open", node.dir_arg()), WAIT_MAX, || open_work(&node.dir))
            .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
    }

    /// The promise of every row: three whole copies, one certificate that proves offline, nothing left over.
    pub(super) fn ends_whole(self) {
        let listing = self.listing(COORDINATOR).unwrap();
        let [view] = listing.as_slice() else { panic!("the upload is there once: {listing:?}") };
        let group = view["group_id"].as_str().unwrap().to_owned();
        self.network.settled(COORDINATOR, &group).unwrap();
        for node in &self.network.nodes {
            until(&format!("{} to know three holders", node.dir_arg()), WAIT_MAX, || {
                let view = node.json(&["show", &group])?;
                ensure!(view["replica_count"] == 3 && view["consensus_achieved"] == true, "{view}");
                ensure!(view["states"].as_array().unwrap().iter().all(|state| state["held"] != "no"), "{view}");
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
            let got = node.bytes(&["get", &group, "--state", "decrypted", "-o", "-"]).unwrap();
            assert_eq!(hash(&got), hash(&self.data), "{} serves other bytes", node.dir_arg());
        }
        self.nothing_partial();
        self.proves(&group);
        for node in 0..NODES {
            self.until_released(node);
            let log = self.log(node);
            assert!(!log.contains("excludes") && !log.contains("exclude each other"), "an equivocation: {log}");
            assert!(!log.contains("panicked"), "{log}");
        }
    }

    fn proves(&self, group: &str) {
        let dir = self.network.temp.path();
        let certificate = dir.join("certificate").to_string_lossy().into_owned();
        let got = self.network.nodes[COORDINATOR].run(&["cert", group, "-o", &certificate]).unwrap();
        assert_eq!(got.status, 0, "{}", got.stderr);
        let genesis = self.network.genesis(dir).unwrap();
        let verified = run(&["verify", &certificate, "--genesis", &genesis, "--json"]).unwrap().json().unwrap();
        assert_eq!((&verified["valid"], &verified["claim"]), (&true.into(), &"durable".into()), "{verified}");
    }
}

/// Whether anything is open in a data directory: transactions, coordinations, reservations, staging.
fn open_work(dir: &Path) -> Result<()> {
    let staged = fs::read_dir(dir.join("staging"))?.count();
    ensure!(staged == 0, "{staged} staging directories are left");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let meta = Meta::open(&dir.join("mynet.db"), KeyFiles::load(dir)?.node_id()).await?;
        let (reserved, restored) = (meta.reserved_bytes().await?, meta.restore().await?);
        meta.close().await?;
        ensure!(reserved == 0, "{reserved} bytes are reserved");
        ensure!(restored.open.is_empty(), "open transactions: {:?}", restored.open);
        ensure!(restored.coordinations.is_empty(), "open coordinations: {}", restored.coordinations.len());
        Ok(())
    })
}

/// Whether a log tells that a transaction was given up.
pub(super) fn gave_up(log: &str) -> bool {
    log.contains(GIVEN_UP)
}
