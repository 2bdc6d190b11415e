//! The processes of the demo: started, killed, and always ended.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use mynet_node::view::{InviteView, StatusView};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::{client::Client, local::Access};

/// How long a step may take before the demo gives up; generous, because machines are small and files may be large.
const STEP_MAX: Duration = Duration::from_secs(120);
/// Pause between two looks at a condition.
const LOOK: Duration = Duration::from_millis(100);
/// How long nodes may take to drain before they are killed.
const DRAIN_MAX: Duration = Duration::from_secs(15);

/// All nodes of a demo.
pub(super) struct Cluster {
    dir: PathBuf,
    pub(super) nodes: Vec<DemoNode>,
}

/// One node.
pub(super) struct DemoNode {
    pub(super) name: String,
    pub(super) id: String,
    /// Base URL of its API.
    pub(super) api: String,
    pub(super) client: Client,
    dir: PathBuf,
    child: Option<Child>,
}

impl DemoNode {
    /// Its data directory.
    pub(super) fn dir(&self) -> String {
        self.dir.display().to_string()
    }

    /// The peak memory of its process in bytes, as Linux counts it.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    }
}

impl Cluster {
    /// No nodes yet.
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, nodes: Vec::new() }
    }

    /// One line per node: name, API, directory.
    pub(super) fn describe(&self) -> Vec<String> {
        self.nodes
            .iter()
            .map(|node| format!("  {}  mynet status --data-dir {}", node.name, node.dir.display()))
            .collect()
    }

    /// Founds a network and joins `count` trusted validators.
    pub(super) async fn form(&mut self, count: usize) -> anyhow::Result<()> {
        for index in 0..count {
            let name = format!("node-{}", char::from(b'a' + u8::try_from(index).unwrap_or(0)));
            let dir = self.dir.join(&name);
            let ticket = match self.nodes.first() {
                None => None,
                Some(founder) => {
                    let wish = json!({ "roles": ["storage", "index", "validator"], "trusted": true, "expires": 600, "uses": 1 });
                    let request = founder.client.request(Method::POST, "invites").json(&wish);
                    Some(founder.client.json::<InviteView>(request).await?.ticket)
                }
            };
            prepare(&dir, &name, ticket.as_deref()).await?;
            let Started { child, client, api, id } = start(&dir).await?;
            self.nodes.push(DemoNode { name, id, api, client, dir, child: Some(child) });
        }
        Ok(())
    }

    /// Waits until every running node sees all others and `validators` seats.
    pub(super) async fn formed(&self, validators: usize) -> anyhow::Result<()> {
        let running = self.running().count();
        for node in self.running() {
            until("the nodes to find each other", || async {
                let status: StatusView = node.client.get("status").await?;
                let (seats, alive) = (status.roster.validators.len(), status.peers.alive);
                if seats == validators && alive + 1 == running {
                    return Ok(());
                }
                bail!("{} sees {alive} of {} peers and {seats} of {validators} validators", node.name, running - 1)
            })
            .await?;
        }
        Ok(())
    }

    /// Nodes that run.
    pub(super) fn running(&self) -> impl Iterator<Item = &DemoNode> {
        self.nodes.iter().filter(|node| node.child.is_some())
    }

    /// The node at `index`.
    pub(super) fn node(&self, index: usize) -> anyhow::Result<&DemoNode> {
        self.nodes.get(index).context("the demo has such a node")
    }

    /// Ends a node as a power cut would.
    pub(super) async fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(index).context("the demo has such a node")?;
        let mut child = node.child.take().context("the node runs")?;
        child.kill().await.context("kill the node")
    }

    /// Starts a killed node again.
    pub(super) async fn restart(&mut self, index: usize) -> anyhow::Result<()> {
        let node = self.nodes.get_mut(index).context("the demo has such a node")?;
        let started = start(&node.dir).await?;
        (node.child, node.client, node.api) = (Some(started.child), started.client, started.api);
        Ok(())
    }

    /// Drains every node; kills what does not end in time.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        let mut late = Vec::new();
        for node in &mut self.nodes {
            if let Some(pid) = node.child.as_ref().and_then(Child::id) {
                terminate(pid)?;
            }
        }
        for node in &mut self.nodes {
            let Some(mut child) = node.child.take() else { continue };
            match tokio::time::timeout(DRAIN_MAX, child.wait()).await {
                Ok(Ok(status)) if status.success() => {}
                Ok(status) => late.push(format!("{} ended with {status:?}", node.name)),
                Err(_elapsed) => {
                    child.kill().await.context("kill a node that does not drain")?;
                    late.push(format!("{} did not drain in {DRAIN_MAX:?}", node.name));
                }
            }
        }
        if late.is_empty() { Ok(()) } else { bail!("{}", late.join(", ")) }
    }
}

/// Sends SIGTERM.
fn terminate(pid: u32) -> anyhow::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw).context("a process id")?;
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).context("send SIGTERM")
}

/// This program with a clean environment; it dies with the demo.
fn program() -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs `init` or `join` for a node of its own zone.
async fn prepare(dir: &Path, name: &str, ticket: Option<&str>) -> anyhow::Result<()> {
    let mut command = program()?;
    match ticket {
        None => command.args(["init", "--network", "demo"]),
        Some(ticket) => command.args(["join", ticket]),
    };
    command.args(["--zone", name, "--api-listen", "127.0.0.1:0", "--p2p-listen", "127.0.0.1:0", "--data-dir"]).arg(dir);
    let output = command.output().await.context("prepare a node")?;
    if !output.status.success() {
        bail!("preparing {name} ended with {}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A node that serves.
struct Started {
    child: Child,
    client: Client,
    api: String,
    id: String,
}

/// Starts a node and waits until it serves.
async fn start(dir: &Path) -> anyhow::Result<Started> {
    let ready = dir.with_extension("ready");
    match fs::remove_file(&ready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        Ok(()) | Err(_) => {}
    }
    let log = File::options().create(true).append(true).open(dir.with_extension("log")).context("open a log")?;
    let mut command = program()?;
    // Spawned by the main thread, which is this process's last: the kernel watches the thread that spawned, not the process.
    command.args(["run", "--data-dir"]).arg(dir).arg("--ready-file").arg(&ready);
    command.args(["--parent", &std::process::id().to_string()]);
    command.stdout(log.try_clone().context("open a log")?).stderr(log);
    let mut child = command.spawn().context("start a node")?;
    let told: Value = until("a node to start", || async {
        Ok(serde_json::from_slice(&fs::read(&ready).context("it does not serve yet")?)?)
    })
    .await
    .inspect_err(|_late| drop(child.start_kill()))?;
    let text = |key: &str| told.get(key).and_then(Value::as_str).map(str::to_owned).context("a ready file is complete");
    let access: Access = serde_json::from_slice(&fs::read(dir.join("api.json")).context("read api.json")?)?;
    let (api, id) = (text("api")?, text("node_id")?);
    Ok(Started { child, client: Client::of(Access { api: api.clone(), ..access }), api, id })
}

/// Looks again and again until `look` succeeds, within [`STEP_MAX`].
pub(super) async fn until<T, F: Future<Output = anyhow::Result<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> anyhow::Result<T> {
    let end = Instant::now() + STEP_MAX;
    loop {
        match look().await {
            Ok(value) => return Ok(value),
            Err(error) if Instant::now() >= end => return Err(error.context(format!("waited {STEP_MAX:?} for {what}"))),
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}
