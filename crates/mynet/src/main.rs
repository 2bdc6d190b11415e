//! The `mynet` program: the node, its client, and the demo.

mod args;
mod client;
mod commands;
mod demo;
mod local;
mod output;
mod save;

use std::{ffi::OsString, process::ExitCode};

use crate::args::{Arguments, Command};

fn main() -> ExitCode {
    let line: Vec<OsString> = std::env::args_os().collect();
    let glance = output::Glance::at(&line);
    output::set_up(glance.color);
    let arguments = match Arguments::read(line.iter().cloned()) {
        Ok(arguments) => arguments,
        Err(error) => return output::usage(&error, &line, glance.json),
    };
    // The worker limits its own memory and files, so it comes before any runtime or logger.
    if let Command::PreviewWorker(worker) = &arguments.command {
        let limits = mynet_node::preview::PreviewLimits::new(worker.seconds, worker.pixels);
        return mynet_node::preview::run_worker_from_stdin(&worker.output, worker.kind, limits).into();
    }
    let json = arguments.global.json;
    // The HTTP client is built with TLS for the transport's sake; it wants to know whose cryptography to use.
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        return output::failure(&anyhow::anyhow!("another TLS provider was installed first"), json);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::failure(&error.into(), json),
    };
    match runtime.block_on(commands::run(arguments)) {
        Ok(code) => code,
        Err(error) => output::failure(&error, json),
    }
}
