//! Command line of the simulator.

use std::{cell::Cell, ops::RangeInclusive, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use mynet_sim::{Report, Suite};

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
    Run(Run),
    /// Runs very many seeds in chunks, and goes on where it was stopped.
    Campaign(Campaign),
    /// Runs the seeds that failed once.
    Regress,
    /// Explores every state of the small models, and of those with a broken rule.
    Model {
        /// votes or groups; both without.
        which: Option<Which>,
    },
    /// Switches one planted bug on after the other and sees which checker catches it.
    #[cfg(planted)]
    Plants(plants::Plants),
}

#[derive(Debug, Args)]
struct Run {
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
    /// Fails if a rare situation occurred in no suite.
    #[arg(long)]
    cover: bool,
}

#[derive(Debug, Args)]
struct Campaign {
    /// consensus, replication, node, or all.
    #[arg(long, default_value = "all", value_parser = suites)]
    suite: Suites,
    /// Seeds to run, the last one excluded.
    #[arg(long, value_name = "A..B", default_value = "0..100000", value_parser = seeds)]
    seeds: RangeInclusive<u64>,
    /// Has a line per chunk that is done; those are not run again.
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
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
    Suite::named(word)
        .map(|suite| Suites(vec![suite]))
        .ok_or_else(|| "expected consensus, replication, node or all".to_owned())
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
        Command::Run(run) => match run.reproduce {
            Some(seed) => reproduce(&run.suite.0, seed),
            None => self::run(&run),
        },
        Command::Campaign(campaign) => self::campaign(&campaign),
        Command::Regress => regress(),
        Command::Model { which } => explore(which),
        #[cfg(planted)]
        Command::Plants(plants) => plants.run(),
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

/// Repeats one seed. Says whether it held every invariant.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
fn reproduce(suites: &[Suite], seed: u64) -> bool {
    let mut clean = true;
    for suite in suites {
        let hash = mynet_sim::reproduce(*suite, seed).unwrap_or_else(|(hash, failure)| {
            eprintln!("{failure}");
            clean = false;
            hash
        });
        println!("trace_hash={}", hex::encode(hash));
    }
    clean
}

/// Runs the chunks of a campaign that are missing, then prints the tables of its log. Says whether all held every invariant.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
fn campaign(campaign: &Campaign) -> bool {
    let failed = Cell::new(false);
    let seeds = *campaign.seeds.start()..campaign.seeds.end().saturating_add(1);
    let ran = mynet_sim::campaign(&campaign.suite.0, seeds, &campaign.log, |chunk, failures| {
        println!("{chunk}: {} failures", failures.len());
        failures.iter().for_each(|failure| println!("{failure}"));
        failed.set(failed.get() || !failures.is_empty());
    });
    match ran.and_then(|()| mynet_sim::tables(&campaign.log)) {
        Ok(tables) => println!("{tables}"),
        Err(error) => {
            eprintln!("the log {}: {error}", campaign.log.display());
            return false;
        }
    }
    !failed.get()
}

/// Runs the seeds that failed once. Says whether all hold every invariant now.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
fn regress() -> bool {
    let reports = Suite::ALL.map(|suite| (suite, mynet_sim::regressions(suite)));
    for (suite, report) in &reports {
        println!("{suite}: {} seeds that failed once, {} failures", report.seeds(), report.failures().len());
        report.failures().iter().for_each(|failure| eprintln!("{failure}"));
    }
    reports.iter().all(|(_, report)| report.failures().is_empty())
}

/// Runs the seeds asked for. Says whether all held every invariant.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
fn run(run: &Run) -> bool {
    let mut clean = true;
    let mut reports = Vec::new();
    for suite in &run.suite.0 {
        let report = mynet_sim::run(*suite, run.seeds.clone(), run.failures);
        println!("{report}");
        report.failures().iter().for_each(|failure| eprintln!("{failure}"));
        clean &= report.failures().is_empty();
        reports.push(report);
    }
    let missed = Report::never_met(&reports);
    if run.cover && !missed.is_empty() {
        eprintln!("these situations never occurred: {}", missed.join(", "));
        clean = false;
    }
    clean
}

#[cfg(planted)]
mod plants {
    //! The hunt for planted bugs.

    use std::{fs, path::PathBuf};

    use clap::Args;

    #[derive(Debug, Args)]
    pub(super) struct Plants {
        /// Hunts this bug only.
        #[arg(long, value_name = "NAME")]
        bug: Option<String>,
        /// Seeds that a bug may stay hidden for.
        #[arg(long, default_value_t = 400)]
        budget: u64,
        /// Writes the table of all bugs here.
        #[arg(long, value_name = "FILE", conflicts_with = "bug")]
        write: Option<PathBuf>,
        /// Fails if this file lacks a row, numbers of seeds left aside.
        #[arg(long, value_name = "FILE")]
        check: Option<PathBuf>,
    }

    impl Plants {
        /// Hunts. Says whether every bug was caught by the right checker, and nothing without one.
        #[expect(clippy::print_stdout, clippy::print_stderr, reason = "the program talks to whoever started it")]
        pub(super) fn run(&self) -> bool {
            let bugs = match &self.bug {
                None => mynet_types::planted::Bug::ALL.to_vec(),
                Some(name) => mynet_sim::bug_named(name).into_iter().collect(),
            };
            if bugs.is_empty() {
                eprintln!("no bug has this name; they stand in docs/protocol/planted-bugs.md");
                return false;
            }
            // A core that panics over a bug is caught as well, and need not say so on stderr.
            std::panic::set_hook(Box::new(|_| {}));
            let mut hunts = Vec::new();
            for bug in bugs {
                let hunt = mynet_sim::hunt(bug, self.budget);
                println!("{hunt}");
                hunts.push(hunt);
            }
            let mut clean = hunts.iter().all(mynet_sim::Hunt::succeeded);
            for failure in mynet_sim::control(&hunts) {
                eprintln!("without a planted bug: {failure}");
                clean = false;
            }
            if let Some(path) = &self.write {
                clean &= fs::write(path, mynet_sim::document(&hunts)).inspect_err(|error| eprintln!("{error}")).is_ok();
            }
            if let Some(path) = &self.check {
                let document = fs::read_to_string(path).unwrap_or_default();
                for row in mynet_sim::missing_rows(&hunts, &document) {
                    eprintln!("{} lacks this row, write it with --write: {row}", path.display());
                    clean = false;
                }
            }
            println!("{} bugs, {}", hunts.len(), if clean { "all caught" } else { "NOT all caught" });
            clean
        }
    }
}
