//! Command line of the simulator.

use std::{ops::RangeInclusive, process::ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use mynet_sim::Suite;

/// Runs the real cores of MY Network on virtual time, links and disks.
#[derive(Debug, Parser)]
#[command(version, after_help = "Example: mynet-sim run --suite all --seeds 0..500")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs seeds, or repeats one with its trace on stderr and its hash on stdout.
    Run {
        /// consensus, replication, node, or all.
        #[arg(long, default_value = "all", value_parser = suites)]
        suite: Suites,
        /// Seeds to run, the last one excluded.
        #[arg(long, value_name = "A..B", default_value = "0..100", value_parser = seeds, conflicts_with = "reproduce")]
        seeds: RangeInclusive<u64>,
        /// Repeats this seed and prints its trace.
        #[arg(long, value_name = "SEED")]
        reproduce: Option<u64>,
        /// Stops a suite after this many failures.
        #[arg(long, default_value_t = 1)]
        failures: usize,
    },
    /// Explores every state of the small models, and of those with a broken rule.
    Model {
        /// votes or groups; both without.
        which: Option<Which>,
    },
}

/// A family of models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Which {
    Votes,
    Groups,
}

/// One suite, or all.
#[derive(Debug, Clone)]
struct Suites(Vec<Suite>);

fn suites(word: &str) -> Result<Suites, String> {
    if word == "all" {
        return Ok(Suites(Suite::ALL.to_vec()));
    }
    let suite = Suite::ALL.into_iter().find(|suite| suite.as_str() == word);
    suite.map(|suite| Suites(vec![suite])).ok_or_else(|| "expected consensus, replication, node or all".to_owned())
}

fn seeds(text: &str) -> Result<RangeInclusive<u64>, String> {
    let wrong = || format!("'{text}' is not a range of seeds such as 0..500");
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |digits: &str| digits.parse::<u64>().map_err(|_not_a_number| wrong());
    let (first, end) = (number(first)?, number(end)?);
    if first < end { Ok(first..=end - 1) } else { Err(format!("the range {text} is empty")) }
}

fn main() -> ExitCode {
    let clean = match Arguments::parse().command {
        Command::Run { suite, seeds, reproduce, failures } => run(suite, &seeds, reproduce, failures),
        Command::Model { which } => explore(which),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Explores models. Says whether each is what it is expected to be.
#[expect(clippy::print_stdout, reason = "the program talks to whoever started it")]
fn explore(which: Option<Which>) -> bool {
    let votes = if which == Some(Which::Groups) { Vec::new() } else { mynet_sim::votes() };
    let groups = if which == Some(Which::Votes) { Vec::new() } else { mynet_sim::groups() };
    let verdicts: Vec<_> = votes.into_iter().chain(groups).collect();
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    verdicts.iter().all(mynet_sim::Verdict::is_expected)
}

/// Runs seeds, or repeats one. Says whether all held every invariant.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
fn run(Suites(suites): Suites, seeds: &RangeInclusive<u64>, reproduce: Option<u64>, failures: usize) -> bool {
    let mut clean = true;
    for suite in suites {
        if let Some(seed) = reproduce {
            let hash = mynet_sim::reproduce(suite, seed).unwrap_or_else(|(hash, failure)| {
                eprintln!("{failure}");
                clean = false;
                hash
            });
            println!("trace_hash={}", hex::encode(hash));
            continue;
        }
        let report = mynet_sim::run(suite, seeds.clone(), failures);
        println!("{report}");
        for failure in report.failures() {
            eprintln!("{failure}");
            clean = false;
        }
    }
    clean
}
