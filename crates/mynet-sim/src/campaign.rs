//! Very many seeds: run chunk by chunk, each written down when it is done, so that a campaign can be stopped and taken up again.
//!
//! The log has one line per chunk: suite, range, then counts by name. Taking a campaign up skips the chunks that the log has,
//! and the document is made of the log alone. A log belongs to one state of the sources; whoever changes them begins another.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::OpenOptions,
    io::{self, Write as _},
    ops::Range,
    path::Path,
};

use crate::{
    options::Suite,
    run::{Failure, Report, run},
    sometimes::Counts,
};

/// Seeds of one chunk: some ten seconds of work, which is what stopping a campaign loses.
const CHUNK: u64 = 1_000;
/// Failures of one chunk that are looked at; a campaign goes on after them.
const FAILURES_MAX: usize = 20;

/// Runs those chunks of `seeds` that the log does not have, and hands each report and its failures to `told`.
///
/// # Errors
/// The log cannot be read or written.
pub fn campaign(suites: &[Suite], seeds: Range<u64>, log: &Path, told: impl Fn(&str, &[Failure])) -> io::Result<()> {
    let done = read(log)?;
    for first in seeds.clone().step_by(usize::try_from(CHUNK).unwrap_or(usize::MAX)) {
        let chunk = first..seeds.end.min(first + CHUNK);
        for suite in suites {
            let head = format!("{suite} {}..{}", chunk.start, chunk.end);
            if done.lines().any(|line| line.starts_with(&format!("{head} "))) {
                continue;
            }
            let report = run(*suite, chunk.start..=chunk.end - 1, FAILURES_MAX);
            let line = format!("{head} {}", counted(&report));
            let mut file = OpenOptions::new().create(true).append(true).open(log)?;
            writeln!(file, "{line}")?;
            file.sync_data()?;
            told(&head, report.failures());
        }
    }
    Ok(())
}

fn read(log: &Path) -> io::Result<String> {
    match std::fs::read_to_string(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// All that is counted of a chunk, as `name=number`.
fn counted(report: &Report) -> String {
    let totals = [
        ("seeds", report.seeds()),
        ("events", report.events()),
        ("milliseconds", u64::try_from(report.took().as_millis()).unwrap_or(u64::MAX)),
        ("failures", u64::try_from(report.failures().len()).unwrap_or(u64::MAX)),
    ];
    let totals = totals.map(|(name, count)| format!("{name}={count}"));
    let counts = report.counts();
    let named = counts.faults().chain(counts.rare()).map(|(name, count)| format!("{name}={count}"));
    totals.into_iter().chain(named).collect::<Vec<_>>().join(" ")
}

/// The sums of a log, suite by suite.
type Sums = BTreeMap<String, BTreeMap<String, u64>>;

fn sums(log: &str) -> Sums {
    let mut sums = Sums::new();
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let (Some(suite), Some(_range)) = (words.next(), words.next()) else { continue };
        let sum = sums.entry(suite.to_owned()).or_default();
        for (name, count) in words.filter_map(|word| word.split_once('=')) {
            *sum.entry(name.to_owned()).or_default() += count.parse::<u64>().unwrap_or(0);
        }
    }
    sums
}

/// The tables of a log: what was run, what was broken, and what was met.
///
/// # Errors
/// The log cannot be read.
pub fn tables(log: &Path) -> io::Result<String> {
    let sums = sums(&read(log)?);
    let columns: Vec<&str> = Suite::ALL.iter().map(|suite| suite.as_str()).collect();
    let mut text = String::new();
    let mut table = |title: &str, rows: &[String]| {
        let head = columns.join(" | ");
        let ruler = "---:|".repeat(columns.len());
        writeln!(text, "| {title} | {head} |\n|---|{ruler}").expect("writing to a string does not fail");
        for row in rows {
            let cell = |suite: &&str| sums.get(*suite).and_then(|sum| sum.get(row)).copied().unwrap_or(0);
            let cells: Vec<String> = columns.iter().map(|suite| grouped(cell(suite))).collect();
            writeln!(text, "| {row} | {} |", cells.join(" | ")).expect("writing to a string does not fail");
        }
        text.push('\n');
    };
    let none = Counts::default();
    table("run", &["seeds", "events", "milliseconds", "failures"].map(str::to_owned));
    table("fault", &none.faults().map(|(name, _)| name).collect::<Vec<_>>());
    table("situation", &none.rare().map(|(name, _)| name).collect::<Vec<_>>());
    Ok(text.trim_end().to_owned() + "\n")
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let apart = |(place, digit): (usize, char)| {
        let comma = place > 0 && (digits.len() - place).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    };
    digits.chars().enumerate().flat_map(apart).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::{Suite, campaign, grouped, sums, tables};

    #[test]
    fn what_the_log_has_is_not_run_again_and_the_rest_is_added() {
        let log = std::env::temp_dir().join(format!("mynet-sim-campaign-{}", std::process::id()));
        let ran = Cell::new(0);
        let go = |seeds| campaign(&[Suite::Replication], seeds, &log, |_, _| ran.set(ran.get() + 1)).unwrap();
        go(0..3);
        go(0..3);
        assert_eq!(ran.get(), 1);
        go(3..5);
        assert_eq!(ran.get(), 2);
        let text = std::fs::read_to_string(&log).unwrap();
        let made = tables(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        let sums = sums(&text);
        assert_eq!((sums["replication"]["seeds"], sums["replication"]["failures"]), (5, 0));
        assert!(sums["replication"]["events"] > 100 && sums["replication"].contains_key("Lost"));
        assert!(made.contains("| seeds | 0 | 5 | 0 |"), "{made}");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!([0, 999, 1_000, 14_700_123].map(grouped), ["0", "999", "1,000", "14,700,123"]);
    }
}
