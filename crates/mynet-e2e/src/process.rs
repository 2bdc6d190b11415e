//! One node process and one command.

use std::{
    fs::{self, File},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;

use crate::wait::until;

/// How long a node may take to serve; a debug build on a busy machine starts in about a second.
const START_MAX: Duration = Duration::from_secs(60);
/// The signal that nobody can catch.
const SIGKILL: i32 = 9;
/// How long a node may take to drain.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The program under test: `MYNET_BIN`, or the debug build of this workspace.
///
/// # Errors
/// If it was not built.
pub fn program() -> Result<PathBuf> {
    find("MYNET_BIN", "mynet", "run `cargo build --bin mynet` first")
}

/// The program that can be told to die and to lie: `MYNET_FAILPOINTS_BIN`, or what `scripts/failpoints` makes beside the debug build.
///
/// # Errors
/// If it was not built.
pub fn armed_program() -> Result<PathBuf> {
    find("MYNET_FAILPOINTS_BIN", "mynet-failpoints", "run `scripts/failpoints` first")
}

fn find(variable: &str, name: &str, cure: &str) -> Result<PathBuf> {
    let path = match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => {
            let target = std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
            target.join("debug").join(name)
        }
    };
    ensure!(path.is_file(), "{} is missing: {cure}", path.display());
    Ok(path)
}

/// The finished run of one command.
#[derive(Debug)]
pub struct Done {
    /// Exit status.
    pub status: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// Standard output as JSON.
    ///
    /// # Errors
    /// If it is none; the message shows both outputs.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.stdout)
            .with_context(|| format!("{:?} / {}", String::from_utf8_lossy(&self.stdout), self.stderr))
    }
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code().unwrap_or(-1),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A command of the program with a clean environment.
///
/// # Errors
/// If the program was not built.
pub fn command() -> Result<Command> {
    Ok(clean(&program()?))
}

fn clean(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs a command to its end, whatever its status.
///
/// # Errors
/// If it cannot be started.
pub fn run(args: &[&str]) -> Result<Done> {
    Ok(command()?.args(args).output().context("start the program")?.into())
}

/// Runs a command with `--json` that must succeed, and returns its object.
///
/// # Errors
/// If its status is not 0 or its output is no JSON.
pub fn json(args: &[&str]) -> Result<Value> {
    let done = run(&[args, &["--json"]].concat())?;
    ensure!(done.status == 0, "{args:?} ended with {}: {}", done.status, done.stderr);
    done.json()
}

/// Sends a signal, such as `TERM`, to a process.
///
/// # Errors
/// If there is no such process, or the name is of no signal that tests send.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    let signal = match name {
        "HUP" => Signal::HUP,
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        _ => bail!("tests send no {name}"),
    };
    kill_process(self::pid(pid)?, signal).with_context(|| format!("send SIG{name}"))
}

/// Ends every process of a group that was made with [`std::os::unix::process::CommandExt::process_group`].
///
/// # Errors
/// If there is none left.
pub fn kill_group(leader: u32) -> Result<()> {
    kill_process_group(pid(leader)?, Signal::KILL).context("end a group of processes")
}

fn pid(number: u32) -> Result<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw).context("a process has a positive number")
}

/// A running node.
#[derive(Debug)]
pub struct Node {
    /// Its data directory.
    pub dir: PathBuf,
    /// Its name.
    pub id: String,
    /// Its API.
    pub api: String,
    child: Option<Child>,
    extra: Vec<String>,
    /// Variables of its environment.
    environment: Vec<(String, String)>,
    /// What is armed in it; it runs the build with failpoints then.
    failpoints: Option<String>,
    /// What it lies about and with which seed; the same build.
    lies: Option<(String, u64)>,
}

impl Node {
    /// Starts the node of a prepared data directory and waits until it serves.
    ///
    /// # Errors
    /// If it ends or does not serve in time; its log is in the message.
    pub fn start(dir: &Path, extra: &[&str]) -> Result<Self> {
        Self::start_in(dir, extra, &[])
    }

    /// The same with variables in its environment, now and after every restart.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_in(dir: &Path, extra: &[&str], environment: &[(String, String)]) -> Result<Self> {
        let mut node = Self {
            dir: dir.to_owned(),
            id: String::new(),
            api: String::new(),
            child: None,
            extra: extra.iter().map(|&arg| arg.to_owned()).collect(),
            environment: environment.to_vec(),
            failpoints: None,
            lies: None,
        };
        node.restart()?;
        Ok(node)
    }

    /// The data directory as an argument.
    #[must_use]
    pub fn dir_arg(&self) -> &str {
        self.dir.to_str().expect("temporary directories are UTF-8")
    }

    /// Where its log goes; appended over restarts.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.dir.with_extension("log")
    }

    /// Starts it again in the same directory.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "the node still runs");
        let ready = self.dir.with_extension("ready");
        match fs::remove_file(&ready) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let log = File::options().create(true).append(true).open(self.log_path()).context("open the log")?;
        let armed = self.failpoints.is_some() || self.lies.is_some();
        let mut command = if armed { clean(&armed_program()?) } else { command()? };
        if let Some((lies, seed)) = &self.lies {
            command.env("LIAR", lies).env("LIAR_SEED", seed.to_string());
        }
        let mut child = command
            .envs(self.environment.iter().cloned())
            .envs(self.failpoints.iter().map(|points| ("FAILPOINTS", points)))
            .args(["run", "--data-dir", self.dir_arg(), "--ready-file"])
            .arg(&ready)
            .args(&self.extra)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start the node")?;
        let told = until("the node to serve", START_MAX, || {
            if let Some(status) = child.try_wait()? {
                return Ok(Err(status));
            }
            Ok(Ok(serde_json::from_slice::<Value>(&fs::read(&ready)?)?))
        });
        let told = match told {
            Ok(Ok(told)) => told,
            Ok(Err(status)) => bail!("the node ended with {status}: {}", self.log_tail()),
            Err(error) => {
                child.kill().context("end the node")?;
                child.wait().context("reap the node")?;
                return Err(error.context(self.log_tail()));
            }
        };
        self.child = Some(child);
        let text = |key: &str| told[key].as_str().unwrap_or_default().to_owned();
        (self.id, self.api) = (text("node_id"), text("api"));
        Ok(())
    }

    /// Stops it and starts it again with failpoints armed; `points` is the value of `FAILPOINTS`.
    ///
    /// # Errors
    /// If it does not stop, or does not serve in time.
    pub fn arm(&mut self, points: &str) -> Result<()> {
        let status = self.stop()?;
        ensure!(status == 0, "it stopped with {status}: {}", self.log_tail());
        self.failpoints = Some(points.to_owned());
        self.restart()
    }

    /// Stops it and starts it again as a liar, also after every restart: `lies` is the value of `LIAR`.
    ///
    /// # Errors
    /// If it does not stop, or does not serve in time.
    pub fn corrupt(&mut self, lies: &str, seed: u64) -> Result<()> {
        let status = self.stop()?;
        ensure!(status == 0, "it stopped with {status}: {}", self.log_tail());
        self.lies = Some((lies.to_owned(), seed));
        self.restart()
    }

    /// How often it said that it told a lie, at least; it says so at powers of two.
    #[must_use]
    pub fn told(&self, lie: &str) -> u64 {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let counts =
            log.lines().filter_map(|line| line.strip_prefix("liar: ")?.strip_prefix(lie)?.strip_prefix(" told "));
        counts.filter_map(|count| count.parse().ok()).max().unwrap_or(0)
    }

    /// Waits until it has died at `point`. Its next start is the build without failpoints.
    ///
    /// # Errors
    /// If it lives, or ended in another way.
    pub fn died_at(&mut self, point: &str) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        let ended =
            until(&format!("the node to die at {point}"), START_MAX, || child.try_wait()?.context("it still runs"));
        let Ok(status) = ended else {
            child.kill().context("end the node")?;
            child.wait().context("reap the node")?;
            return Err(ended.map(drop).expect_err("it was none").context(self.log_tail()));
        };
        ensure!(status.signal() == Some(SIGKILL), "it ended with {status}: {}", self.log_tail());
        let told = fs::read_to_string(self.log_path()).context("read the log")?;
        ensure!(told.contains(&format!("failpoint {point}: killed")), "it died elsewhere: {}", self.log_tail());
        self.failpoints = None;
        Ok(())
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.split_at(lines.len().saturating_sub(40)).1.join("\n")
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Bytes of memory that it holds, without files that are mapped: those come and go with what else the machine does.
    ///
    /// # Errors
    /// If it does not run.
    pub fn memory_bytes(&self) -> Result<u64> {
        let pid = self.pid().context("the node does not run")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).context("look at the node's memory")?;
        let kibibytes = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.context("the kernel tells it")?.parse().context("it is a number")?;
        Ok(kibibytes * 1024)
    }

    /// Ends it as a power cut would: SIGKILL.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("the node does not run")?;
        child.kill().context("kill the node")?;
        child.wait().context("reap the node")?;
        Ok(())
    }

    /// Asks it to stop with SIGTERM and waits; returns its exit status.
    ///
    /// # Errors
    /// If it does not run or does not stop in time.
    pub fn stop(&mut self) -> Result<i32> {
        let mut child = self.child.take().context("the node does not run")?;
        signal(child.id(), "TERM")?;
        let status = until("the node to stop", STOP_MAX, || child.try_wait()?.context("it still runs"));
        if status.is_err() {
            child.kill().context("kill the node")?;
            child.wait().context("reap the node")?;
        }
        Ok(status?.code().unwrap_or(-1))
    }

    /// Runs a command against this node, whatever its status.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn run(&self, args: &[&str]) -> Result<Done> {
        run(&[args, &["--data-dir", self.dir_arg()]].concat())
    }

    /// Runs a command against this node that must succeed, and returns its object.
    ///
    /// # Errors
    /// If its status is not 0 or its output is no JSON.
    pub fn json(&self, args: &[&str]) -> Result<Value> {
        json(&[args, &["--data-dir", self.dir_arg()]].concat())
    }

    /// Runs a command that must succeed, and returns its bytes.
    ///
    /// # Errors
    /// If its status is not 0.
    pub fn bytes(&self, args: &[&str]) -> Result<Vec<u8>> {
        let done = self.run(args)?;
        ensure!(done.status == 0, "{args:?} ended with {}: {}\n{}", done.status, done.stderr, self.log_tail());
        Ok(done.stdout)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The node may have ended by itself; there is nobody left to tell.
            drop(child.kill());
            drop(child.wait());
        }
    }
}
