//! `run`: the node in the foreground.

use std::path::Path;

use anyhow::Context;
use mynet_node::{
    config::Config,
    handle::TokenOptions,
    service::{self, RunningNode},
    view::Scope,
};
use serde_json::json;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    args::{Color, Global, Run},
    local::{self, Access},
    output::{self, Failure, Status},
};

/// Name of the API key that the node makes for commands on its own machine.
const LOCAL_TOKEN: &str = "local commands";

/// Runs the node until SIGTERM or SIGINT.
pub(crate) async fn run(global: &Global, args: Run) -> anyhow::Result<()> {
    start_log(global)?;
    if let Some(parent) = args.parent {
        end_with(parent)?;
    }
    let dir = local::data_dir(global)?;
    if !dir.join("node.key").exists() {
        let message = format!("{} holds no node", dir.display());
        let hint = "found a network with `mynet init`, or join one with `mynet join TICKET`";
        return Err(Failure::new(Status::Failed, "no_node", message, hint).into());
    }
    let config = Config::load(&dir, &toml::Table::new())?;
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for SIGINT")?;
    let node = service::start(&dir, config).await?;
    let listener = bind_api(&dir, &node).await?;
    let stop = CancellationToken::new();
    let settings = mynet_api::ApiSettings { upload_max: node.config().limits.upload.as_u64(), ..Default::default() };
    let api = tokio::spawn(mynet_api::serve(listener, node.handle(), settings, stop.clone()));
    announce(&dir, &node, args.ready_file.as_deref()).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = node.failed() => {}
    }
    tracing::info!("stopping");
    drop(sd_notify::notify(&[sd_notify::NotifyState::Stopping]));
    stop.cancel();
    api.await.context("serve the API")?.context("serve the API")?;
    node.stop().await?;
    Ok(())
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
    let ansi = match global.color {
        Color::Always => true,
        Color::Never => false,
        Color::Auto => output::is_watched(),
    };
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
async fn announce(dir: &Path, node: &RunningNode, ready_file: Option<&Path>) -> anyhow::Result<()> {
    let status = node.handle().status().await?;
    let options = TokenOptions { name: LOCAL_TOKEN.to_owned(), scope: Scope::Admin, expires: None };
    let token = node.handle().replace_token(options).await?.token.unwrap_or_default();
    Access { api: status.api.clone(), token }.write(dir)?;
    output::line(&format!("ready node={} api={} p2p={}", status.node_id, status.api, status.p2p))?;
    if let Some(path) = ready_file {
        let told =
            json!({ "node_id": status.node_id, "api": status.api, "p2p": status.p2p, "pid": std::process::id() });
        local::replace(path, &serde_json::to_vec(&told)?)?;
    }
    drop(sd_notify::notify(&[sd_notify::NotifyState::Ready]));
    Ok(())
}
