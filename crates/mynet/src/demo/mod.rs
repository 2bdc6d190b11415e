//! `mynet demo`: the whole system on this machine, told as a story, every sentence of it checked.
//!
//! The nodes are real processes of this very program with their own directories, keys and ports on loopback. Each step
//! says what was promised and what happened; the first promise that does not hold ends the demo with an error, and `--exit`
//! makes that a check.
//!
//! **Invariant:** every process that the demo started ends with it, whatever ends it.

mod cluster;
mod story;
mod tour;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::{cluster::Cluster, tour::Tour};
use crate::{
    args::Demo,
    local,
    output::{self, Failure, Status},
};

/// Length of the song that is made if no file is given.
const SONG_SECONDS: u32 = 20;

/// Runs the demo.
pub(crate) async fn run(args: Demo, json: bool) -> anyhow::Result<ExitCode> {
    // Before anything is started, so that there is no moment in which a signal leaves nodes behind.
    let mut stop = Stop::listen()?;
    if let Some(file) = &args.file {
        local::readable(file)?;
    }
    let place = Place::choose(args.dir)?;
    let file = match args.file {
        Some(file) => file,
        None => song(&place)?,
    };
    let mut cluster = Cluster::new(place.path.clone());
    let mut tour = Tour::new(json);
    let mut told = tokio::select! {
        told = story::tell(&mut cluster, usize::from(args.nodes), &file, &mut tour) => told,
        signal = stop.recv() => Err(stopped(signal).into()),
    };
    told = tour.end(told.is_ok()).and(told);
    if told.is_ok() && !args.exit {
        told = stay_up((&cluster, &place), &tour, &mut stop).await;
    }
    let ended = tokio::select! {
        ended = cluster.end() => ended,
        // Who asks twice does not want to wait: what still runs is killed as its handle is dropped.
        signal = stop.recv() => Err(stopped(signal).into()),
    };
    if told.is_err() {
        place.keep(json);
    }
    told?;
    ended?;
    Ok(ExitCode::SUCCESS)
}

/// Leaves the nodes running until a signal comes.
async fn stay_up((cluster, place): (&Cluster, &Place), tour: &Tour, stop: &mut Stop) -> anyhow::Result<()> {
    tour.aside(&format!("\nThe nodes stay up in {}. Ctrl-C ends them.", place.path.display()))?;
    for line in cluster.describe() {
        tour.aside(&line)?;
    }
    stop.recv().await;
    Ok(())
}

/// A signal came before everything was shown.
fn stopped(signal: &str) -> Failure {
    Failure::new(Status::Failed, "stopped", format!("the demo was stopped by {signal}"), "run it again")
}

/// The signals that end the demo, and with it all that it started. SIGKILL cannot be heard; for that the nodes themselves
/// watch this process (see `run --parent`).
struct Stop {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Stop {
    /// From now on none of them ends this process by itself.
    fn listen() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("listen for signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one and names it.
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

/// Makes a song in the demo's directory.
fn song(place: &Place) -> anyhow::Result<PathBuf> {
    let path = place.path.join("song.wav");
    let file = std::fs::File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let mut out = std::io::BufWriter::new(file);
    mynet_node::preview::tone::write_wav_song(&mut out, SONG_SECONDS, 1).context("make a song")?;
    std::io::Write::flush(&mut out).context("make a song")?;
    Ok(path)
}

/// Where the nodes live.
struct Place {
    path: PathBuf,
    temporary: Option<tempfile::TempDir>,
}

impl Place {
    /// The directory asked for, which must be new or empty, or a temporary one.
    fn choose(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let Some(path) = dir else {
            let temporary = tempfile::Builder::new().prefix("mynet-demo-").tempdir().context("make a directory")?;
            return Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        let mut entries = std::fs::read_dir(&path).with_context(|| format!("read {}", path.display()))?;
        if entries.next().is_some() {
            let message = format!("{} is not empty", path.display());
            return Err(Failure::new(Status::Failed, "used_dir", message, "name a new directory").into());
        }
        Ok(Self { path, temporary: None })
    }

    /// Leaves the directory behind, with the logs that tell what went wrong.
    fn keep(self, json: bool) {
        if let Some(temporary) = self.temporary {
            let path = temporary.keep();
            // A program finds the directories in the object.
            if !json {
                drop(output::line(&format!("logs are kept in {}", path.display())));
            }
        }
    }
}
