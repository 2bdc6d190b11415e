//! `run`: the node in the foreground.

use std::path::Path;

use anyhow::{Context, bail};
use mynet_node::{
    config::{Config, ConfigError},
    handle::TokenOptions,
    service::{self, Remedy, RunningNode, StartError},
    setup,
    view::Scope,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    task::{JoinError, JoinHandle},
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Global, Run},
    local::{self, Access},
    output::{self, Failure, Status},
};

/// Name of the API key that the node makes for commands on its own machine.
const LOCAL_TOKEN: &str = "local commands";

/// Runs the node until SIGTERM or SIGINT; SIGHUP reloads its settings.
pub(crate) async fn run(global: &Global, args: Run) -> anyhow::Result<()> {
    start_log(global)?;
    // Before anything else: until then a signal ends the process as it is.
    let mut signals = Signals::listen()?;
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let dir = local::data_dir(global)?;
    if !setup::holds_node(&dir) {
        let message = format!("{} holds no node", dir.display());
        let hint = "found a network with `mynet init`, or join one with `mynet join TICKET`";
        return Err(Failure::new(Status::Failed, "no_node", message, hint).into());
    }
    setup::remove_unfinished(&dir);
    if !dir.join("config.toml").exists() {
        tracing::warn!(dir = %dir.display(), "there is no config.toml: defaults apply where the environment says nothing");
    }
    let config = Config::load(&dir, &toml::Table::new()).map_err(|error| bad_settings(&error))?;
    let node = service::start(&dir, config).await.map_err(|error| not_opened(&dir, "does not start", &error))?;
    let served = serve(global, (&dir, &node), (args.ready_file.as_deref(), &mut signals)).await;
    let stopped = node.stop().await;
    served?;
    Ok(stopped?)
}

/// Serves the API until there is a reason to stop, and drains it.
async fn serve(
    global: &Global,
    (dir, node): (&Path, &RunningNode),
    (ready_file, signals): (Option<&Path>, &mut Signals),
) -> anyhow::Result<()> {
    let listener = bind_api(dir, node).await?;
    let stop = CancellationToken::new();
    let mut api =
        tokio::spawn(mynet_api::serve(listener, node.handle(), mynet_api::ApiSettings::default(), stop.clone()));
    let served = match announce(global, (dir, node), ready_file).await {
        Ok(()) => {
            let served = serve_until_stopped(dir, node, (signals, &mut api)).await;
            if let Err(error) = &served {
                tracing::error!(error = format!("{error:#}"), "the API ended, the node stops");
                stopping();
                // A task that has ended must not be asked again.
                return served;
            }
            Ok(())
        }
        failed => failed,
    };
    stopping();
    stop.cancel();
    let drained = ended(api.await);
    served.and(drained)
}

/// Settings that nobody can use.
pub(super) fn bad_settings(error: &ConfigError) -> Failure {
    let hint = match error {
        ConfigError::Roles { .. } => "say [\"edge\"], or some of \"storage\", \"index\", \"validator\"",
        _ => "correct it there",
    };
    Failure::new(Status::Failed, "bad_settings", error.to_string(), hint)
}

/// Why the directory of a node is of no use, so that what was to be done with it (`fails`) fails, and what to do about it.
pub(super) fn not_opened(dir: &Path, fails: &str, error: &StartError) -> Failure {
    let Remedy { code, hint } = error.remedy();
    Failure::new(Status::Failed, code, format!("the node in {} {fails}: {error}", dir.display()), hint)
}

/// Says that the node stops from now on.
fn stopping() {
    tracing::info!("stopping");
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
}

/// The task that serves the API.
type ApiTask = JoinHandle<Result<(), mynet_api::ServeError>>;

/// Waits for a reason to stop, and reloads settings meanwhile.
///
/// # Errors
/// If the API ended without having been asked to: a node that nobody can speak to must not look alive.
async fn serve_until_stopped(
    dir: &Path,
    node: &RunningNode,
    (signals, api): (&mut Signals, &mut ApiTask),
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return Ok(()),
            _ = signals.interrupt.recv() => return Ok(()),
            () = node.failed() => return Ok(()),
            api = &mut *api => return ended(api).and_then(|()| bail!("the API ended by itself")),
            _ = signals.hangup.recv() => reload(dir, node).await,
        }
    }
}

/// How the API ended.
fn ended(api: Result<Result<(), mynet_api::ServeError>, JoinError>) -> anyhow::Result<()> {
    api.context("serve the API")?.context("serve the API")
}

/// Takes changed settings over; settings that cannot be used are said and change nothing.
async fn reload(dir: &Path, node: &RunningNode) {
    let began = sd_notify::NotifyState::monotonic_usec_now();
    drop(began.and_then(|now| sd_notify::notify(&[sd_notify::NotifyState::Reloading, now])));
    let reloaded = match Config::load(dir, &toml::Table::new()) {
        Ok(config) => node.reload(config).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    match reloaded {
        Ok(restart) => {
            tracing::info!("settings reloaded");
            if !restart.is_empty() {
                tracing::warn!(keys = restart.join(", "), "changed settings that need a restart stay as they were");
            }
        }
        Err(error) => tracing::error!(error = format!("{error:#}"), "settings not reloaded, the old ones stay"),
    }
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
}

/// The signals that a node listens for.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on none of them ends this process by itself.
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}

/// Has the kernel send SIGTERM to this process when the one that started it ends.
#[cfg(target_os = "linux")]
fn end_with(parent: u32) -> anyhow::Result<()> {
    use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM)).context("watch the parent process")?;
    // It may have ended before the kernel was asked.
    let alive = getppid().map(Pid::as_raw_nonzero).and_then(|pid| u32::try_from(pid.get()).ok()) == Some(parent);
    anyhow::ensure!(alive, "process {parent}, which this node was to end with, is not its parent");
    Ok(())
}

/// Elsewhere no kernel offers it, or not through a safe call: only the parent itself can end the node.
#[cfg(not(target_os = "linux"))]
fn end_with(_parent: u32) -> anyhow::Result<()> {
    Ok(())
}

/// Logs to standard error; `RUST_LOG` wins over the flags.
fn start_log(global: &Global) -> anyhow::Result<()> {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (false, 0) => "info",
        (false, 1) => "info,mynet_node=debug,mynet_net=debug,mynet_store=debug,mynet_proto=debug,mynet_api=debug",
        (false, _) => "info,mynet_node=trace,mynet_net=trace,mynet_store=trace,mynet_proto=trace,mynet_api=trace",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_unset| level.into());
    let ansi = console::colors_enabled_stderr();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    log.try_init().map_err(|error| anyhow::anyhow!("start the log: {error}"))
}

/// Listens where the settings say; port 0 picks a free port once and keeps it.
async fn bind_api(dir: &Path, node: &RunningNode) -> anyhow::Result<TcpListener> {
    let wanted = service::kept_address(dir, "api", node.config().api.listen);
    let listener = match TcpListener::bind(wanted).await {
        Err(_taken) if node.config().api.listen.port() == 0 => TcpListener::bind(node.config().api.listen).await,
        bound => bound,
    };
    let listener = listener.map_err(|error| {
        let message = format!("cannot listen on {wanted}: {error}");
        Failure::new(Status::Failed, "api_listen", message, "set api.listen to a free address")
    })?;
    let bound = listener.local_addr().context("read the API address")?;
    service::keep_address(dir, "api", bound).context("keep the API address")?;
    node.set_api(format!("http://{bound}"));
    Ok(listener)
}

/// Tells everybody who waits that the node serves.
async fn announce(
    global: &Global,
    (dir, node): (&Path, &RunningNode),
    ready_file: Option<&Path>,
) -> anyhow::Result<()> {
    let status = node.handle().status().await?;
    let options = TokenOptions { name: LOCAL_TOKEN.to_owned(), scope: Scope::Admin, expires: None };
    let token = node.handle().replace_token(options).await?.token.unwrap_or_default();
    Access { api: status.api.clone(), token, is_local: true }.write(dir)?;
    let told = json!({ "node_id": status.node_id, "api": status.api, "p2p": status.p2p, "pid": std::process::id() });
    match global.json {
        true => output::line(&told.to_string())?,
        false => output::line(&format!("ready node={} api={} p2p={}", status.node_id, status.api, status.p2p))?,
    }
    if let Some(path) = ready_file {
        local::replace(path, &serde_json::to_vec(&told)?)?;
    }
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_api::ServeError;
    use mynet_node::{
        config::Config,
        service,
        setup::{self, SetupOptions},
    };

    use super::{Signals, serve_until_stopped};

    #[tokio::test]
    async fn a_node_whose_listener_died_stops_with_an_error() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("node");
        let local = Some("127.0.0.1:0".parse().unwrap());
        let options = SetupOptions { api_listen: local, p2p_listen: local, ..SetupOptions::default() };
        setup::found(&dir, "test", false, &options).await.unwrap();
        let node = service::start(&dir, Config::load(&dir, &toml::Table::new()).unwrap()).await.unwrap();
        let mut signals = Signals::listen().unwrap();
        for outcome in [Err(ServeError::Accept(std::io::ErrorKind::InvalidInput.into())), Ok(())] {
            let mut api = tokio::spawn(async { outcome });
            let served = serve_until_stopped(&dir, &node, (&mut signals, &mut api));
            let served = tokio::time::timeout(Duration::from_secs(30), served).await.expect("it does not wait on");
            assert!(served.is_err());
        }
        node.stop().await.unwrap();
    }
}
