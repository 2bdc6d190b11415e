//! `mynet demo`: the whole system on this machine, told as a story, every sentence of it checked.
//!
//! The nodes are real processes of this very program with their own directories, keys and ports on loopback. Each step
//! states what must hold; the first that does not ends the demo with an error, and `--exit` makes that a check.

mod cluster;
mod story;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;

use self::cluster::Cluster;
use crate::{
    args::Demo,
    output::{self, Failure, Status},
};

/// Length of the song that is made if no file is given.
const SONG_SECONDS: u32 = 20;

/// Runs the demo.
pub(crate) async fn run(args: Demo) -> anyhow::Result<ExitCode> {
    let place = Place::choose(args.dir)?;
    let file = match args.file {
        Some(file) => file,
        None => song(&place)?,
    };
    let mut cluster = Cluster::new(place.path.clone());
    let told = tokio::select! {
        told = story::tell(&mut cluster, usize::from(args.nodes), &file) => told,
        stopped = tokio::signal::ctrl_c() => stopped.context("listen for Ctrl-C"),
    };
    if told.is_ok() && !args.exit {
        output::line(&format!("\nThe nodes stay up in {}. Ctrl-C ends them.", place.path.display()))?;
        for line in cluster.describe() {
            output::line(&line)?;
        }
        tokio::signal::ctrl_c().await.context("listen for Ctrl-C")?;
    }
    let ended = cluster.end().await;
    if told.is_err() {
        place.keep();
    }
    told?;
    ended?;
    Ok(ExitCode::SUCCESS)
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
    fn keep(self) {
        if let Some(temporary) = self.temporary {
            let path = temporary.keep();
            drop(output::line(&format!("logs are kept in {}", path.display())));
        }
    }
}
