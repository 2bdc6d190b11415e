//! `mynet-fuzz`: lists targets, writes their seeds, and feeds them with mutated seeds for as long as asked.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use sha2::{Digest, Sha256};

/// Feeds every decoder and the cores with junk.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Print the names of all targets.
    List,
    /// Write the seeds of a target as files, for a fuzzer that is guided by coverage.
    Seeds {
        /// The target.
        target: String,
        /// Where; made if it is not there.
        dir: PathBuf,
    },
    /// Feed a target with mutated seeds and corpus, without guidance but at full speed.
    Run {
        /// The target, or `all`.
        target: String,
        /// Seconds per target.
        #[arg(long, default_value_t = 10)]
        seconds: u64,
        /// Of the generator.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Feed a target with files, such as one that a fuzzer says crashes it.
    Replay {
        /// The target.
        target: String,
        /// The inputs.
        files: Vec<PathBuf>,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::List => {
            for target in mynet_fuzz::targets() {
                println!("{}", target.name);
            }
        }
        Task::Seeds { target, dir } => write_seeds(find(&target)?, &dir)?,
        Task::Run { target, seconds, seed } if target == "all" => {
            for target in mynet_fuzz::targets() {
                run(target, Duration::from_secs(seconds), seed)?;
            }
        }
        Task::Run { target, seconds, seed } => run(find(&target)?, Duration::from_secs(seconds), seed)?,
        Task::Replay { target, files } => {
            for file in files {
                find(&target)?.check(&fs::read(&file).with_context(|| format!("read {}", file.display()))?);
                println!("{} holds", file.display());
            }
        }
    }
    Ok(())
}

fn find(name: &str) -> Result<&'static mynet_fuzz::Target> {
    mynet_fuzz::find(name).with_context(|| format!("find the target '{name}'; `list` names all"))
}

fn write_seeds(target: &mynet_fuzz::Target, dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).context("make the directory of the seeds")?;
    for seed in target.seeds() {
        let name = hex::encode(&Sha256::digest(&seed)[..8]);
        fs::write(dir.join(format!("seed-{name}")), seed).context("write a seed")?;
    }
    Ok(())
}

/// Prints how often the target was fed; an input that breaks it is written to the working directory first.
fn run(target: &'static mynet_fuzz::Target, time: Duration, seed: u64) -> Result<()> {
    let mut seeds = target.seeds();
    seeds.extend(mynet_fuzz::corpus(target)?);
    let mut rng = mynet_fuzz::generator(seed);
    let (start, mut count) = (Instant::now(), 0u64);
    while start.elapsed() < time {
        let bytes = mynet_fuzz::mutate::mutated(&mut rng, &seeds);
        if std::panic::catch_unwind(|| target.check(&bytes)).is_err() {
            let name = format!("broken-{}-{}", target.name, hex::encode(&Sha256::digest(&bytes)[..8]));
            fs::write(&name, &bytes).context("write the input that breaks it")?;
            anyhow::bail!("{} is broken by the input in {name}", target.name);
        }
        count += 1;
    }
    println!("{:<20} {count:>12} inputs held", target.name);
    Ok(())
}
