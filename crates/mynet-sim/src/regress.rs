//! Seeds that failed once: they run again, for ever.
//!
//! `seeds/regress.txt` has one per line: suite, seed, `#` and why. What a seed means changes with the simulator, so a line may lose
//! its point one day; it costs milliseconds.

use crate::{
    options::Suite,
    run::{Report, run_listed},
};

/// The list.
const LIST: &str = include_str!("../seeds/regress.txt");

/// Suite and seed of one line; none for a comment or an empty line.
fn parse(line: &str) -> Option<Result<(Suite, u64), String>> {
    let said = line.split('#').next().unwrap_or_default().trim();
    let mut words = said.split_whitespace();
    let suite = words.next()?;
    let seed = words.next().and_then(|word| word.parse().ok());
    let suite = Suite::named(suite);
    Some(suite.zip(seed).filter(|_| words.next().is_none()).ok_or_else(|| format!("not a suite and a seed: {line}")))
}

/// Runs the seeds of `suite` that failed once.
#[must_use]
pub fn regressions(suite: Suite) -> Report {
    let listed = LIST.lines().filter_map(parse).filter_map(Result::ok);
    let seeds: Vec<u64> = listed.filter(|(of, _)| *of == suite).map(|(_, seed)| seed).collect();
    run_listed(suite, &seeds)
}

#[cfg(test)]
mod tests {
    use super::{LIST, Suite, parse};

    #[test]
    fn every_line_of_the_list_is_a_suite_a_seed_and_a_reason() {
        assert_eq!(parse("node 17 # a reason"), Some(Ok((Suite::Node, 17))));
        assert_eq!(parse("# a comment"), None);
        assert!(parse("node x").is_some_and(|parsed| parsed.is_err()));
        for line in LIST.lines() {
            let Some(parsed) = parse(line) else { continue };
            assert!(parsed.is_ok() && line.contains('#'), "{line}");
        }
    }
}
