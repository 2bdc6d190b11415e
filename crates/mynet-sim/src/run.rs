//! Runs seeds: one readably, or many at once on every processor.
//!
//! One run is one thread from start to end; threads share only the number of the next seed. Every hundredth seed is run
//! twice, and both traces must have one hash.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use crate::{
    options::{Options, Suite},
    sometimes::Counts,
    trace::Audience,
    world::{Violation, World},
};

/// One seed in this many is run twice.
const TWICE_EVERY: u64 = 100;

/// A run that broke an invariant, with all that is needed to look at it.
#[derive(Debug, Clone)]
pub struct Failure {
    suite: Suite,
    seed: u64,
    options: String,
    violation: Violation,
    tail: Vec<String>,
}

impl Failure {
    /// The invariant that was broken.
    #[must_use]
    pub fn invariant(&self) -> &'static str {
        self.violation.invariant
    }

    /// What was seen.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.violation.message
    }

    /// The seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

/// What many runs came to.
#[derive(Debug, Clone)]
pub struct Report {
    suite: Suite,
    seeds: u64,
    events: u64,
    counts: Counts,
    took: Duration,
    failures: Vec<Failure>,
}

impl Report {
    /// Events of all runs: what a seed costs.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.took
    }

    /// What was broken and met.
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Rare situations that occurred in none of `reports`, by name.
    #[must_use]
    pub fn never_met(reports: &[Self]) -> Vec<String> {
        let mut counts = Counts::default();
        reports.iter().for_each(|report| counts.add(&report.counts));
        counts.never_met().map(|rare| format!("{rare:?}")).collect()
    }

    /// Nothing was run yet.
    fn empty(suite: Suite) -> Self {
        Self { suite, seeds: 0, events: 0, counts: Counts::default(), took: Duration::ZERO, failures: Vec::new() }
    }

    /// Seeds run.
    #[must_use]
    pub fn seeds(&self) -> u64 {
        self.seeds
    }

    /// Runs that broke an invariant, by seed.
    #[must_use]
    pub fn failures(&self) -> &[Failure] {
        &self.failures
    }
}

/// One finished run.
struct Finished {
    events: u64,
    counts: Counts,
    violation: Option<Violation>,
    tail: Vec<String>,
    hash: Option<[u8; 32]>,
}

fn one(suite: Suite, seed: u64, audience: Audience) -> Finished {
    // All nodes of a run check the same signatures.
    #[cfg(debug_assertions)]
    mynet_types::signing::memo::begin();
    finish(World::new(Options::from_seed(suite, seed), audience))
}

fn finish(mut world: World) -> Finished {
    world.run();
    Finished {
        events: world.trace.events,
        counts: world.counts,
        violation: world.violation,
        tail: world.trace.tail().map(str::to_owned).collect(),
        hash: world.trace.hash(),
    }
}

/// Runs one seed with its trace on stderr, and gives the hash of the trace.
///
/// # Errors
/// The invariant that was broken, and the hash all the same.
pub fn reproduce(suite: Suite, seed: u64) -> Result<[u8; 32], ([u8; 32], Box<Failure>)> {
    let finished = one(suite, seed, Audience::Stderr);
    let hash = finished.hash.unwrap_or_default();
    match finished.violation {
        None => Ok(hash),
        Some(violation) => Err((hash, Box::new(failure(suite, seed, violation, finished.tail)))),
    }
}

fn failure(suite: Suite, seed: u64, violation: Violation, tail: Vec<String>) -> Failure {
    Failure { suite, seed, options: Options::from_seed(suite, seed).to_string(), violation, tail }
}

/// Runs every seed in `seeds`; after `failures_max` failures no further seed is begun.
#[must_use]
pub fn run(suite: Suite, seeds: RangeInclusive<u64>, failures_max: usize) -> Report {
    run_each(suite, seeds, failures_max, &|| {})
}

/// The same; every thread does `begin` first.
pub(crate) fn run_each(
    suite: Suite,
    seeds: RangeInclusive<u64>,
    failures_max: usize,
    begin: &(dyn Fn() + Sync),
) -> Report {
    let started = Instant::now();
    let next = AtomicU64::new(*seeds.start());
    let stop = AtomicBool::new(false);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut report = Report::empty(suite);
    std::thread::scope(|scope| {
        let (next, stop, last) = (&next, &stop, *seeds.end());
        let worker = move || {
            begin();
            work(suite, (next, last), stop, failures_max)
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            report.add(worker.join().expect("a worker catches what its runs do"));
        }
    });
    report.failures.sort_by_key(|failure| failure.seed);
    report.took = started.elapsed();
    report
}

/// Runs these seeds one by one.
pub(crate) fn run_listed(suite: Suite, seeds: &[u64]) -> Report {
    let started = Instant::now();
    let mut report = Report::empty(suite);
    seeds.iter().for_each(|seed| report.take(suite, *seed));
    report.took = started.elapsed();
    report
}

/// Takes seeds until there are none, or until enough failed.
fn work(suite: Suite, (next, last): (&AtomicU64, u64), stop: &AtomicBool, failures_max: usize) -> Report {
    let mut report = Report::empty(suite);
    while !stop.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed > last {
            break;
        }
        report.take(suite, seed);
        if report.failures.len() >= failures_max {
            stop.store(true, Ordering::Relaxed);
        }
    }
    report
}

impl Report {
    /// Runs one seed, and again where the rules say so.
    fn take(&mut self, suite: Suite, seed: u64) {
        let result = std::panic::catch_unwind(|| {
            if seed.is_multiple_of(TWICE_EVERY) {
                (one(suite, seed, Audience::Hash), Some(one(suite, seed, Audience::Hash)))
            } else {
                (one(suite, seed, Audience::Nobody), None)
            }
        });
        self.seeds += 1;
        let (finished, again) = match result {
            Ok(finished) => finished,
            Err(panic) => return self.failures.push(failure(suite, seed, panicked(panic.as_ref()), Vec::new())),
        };
        self.events += finished.events;
        self.counts.add(&finished.counts);
        if let Some(violation) = finished.violation {
            // The lines are made only now: the same seed fails in the same way.
            let tail = one(suite, seed, Audience::Violation).tail;
            self.failures.push(failure(suite, seed, violation, tail));
        } else if again.is_some_and(|again| again.hash != finished.hash) {
            let message = "two runs of this seed have different traces".to_owned();
            let violation = Violation { invariant: "determinism", message };
            self.failures.push(failure(suite, seed, violation, Vec::new()));
        }
    }

    fn add(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.events += other.events;
        self.counts.add(&other.counts);
        self.failures.extend(other.failures);
    }
}

/// A panic of a core is a violation of its own: peers must not be able to crash us.
fn panicked(panic: &(dyn std::any::Any + Send)) -> Violation {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    Violation { invariant: "panic", message: text.unwrap_or("no message").to_owned() }
}

/// Suite, seed, options, invariant, the last lines and the command.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "VIOLATION of {}: {}", self.violation.invariant, self.violation.message)?;
        writeln!(f, "{}", self.options)?;
        for line in &self.tail {
            writeln!(f, "{line}")?;
        }
        write!(f, "reproduce: mynet-sim run --suite {} --reproduce {}", self.suite, self.seed)
    }
}

/// One paragraph: seeds, events, duration, faults, rare situations.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let Self { suite, seeds, events, failures, .. } = self;
        writeln!(f, "{suite}: {seeds} seeds, {events} events, {} failures, {seconds:.1} s", failures.len())?;
        write!(f, "{}", self.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::{Audience, Options, Suite, World, finish, one, run};

    #[test]
    fn the_same_seed_gives_the_same_trace_and_another_seed_another_one() {
        for suite in Suite::ALL {
            let hashes: Vec<_> = [3, 3, 4].map(|seed| one(suite, seed, Audience::Hash).hash.unwrap()).into();
            assert_eq!(hashes[0], hashes[1], "{suite}");
            assert_ne!(hashes[1], hashes[2], "{suite}");
        }
    }

    #[test]
    fn neither_who_reads_the_trace_nor_what_is_remembered_changes_a_run() {
        let hashed = one(Suite::Node, 5, Audience::Hash);
        let written = one(Suite::Node, 5, Audience::Violation);
        let unread = one(Suite::Node, 5, Audience::Nobody);
        assert!(hashed.hash.is_some() && hashed.hash == written.hash);
        assert!(hashed.tail.is_empty() && !written.tail.is_empty());
        assert_eq!((unread.events, unread.counts), (hashed.events, hashed.counts));
        // In a thread of its own every signature is checked each time.
        let options = Options::from_seed(Suite::Node, 5);
        let checked = std::thread::spawn(|| finish(World::new(options, Audience::Hash))).join().unwrap();
        assert_eq!(checked.hash, hashed.hash);
    }

    #[test]
    fn a_few_seeds_of_every_suite_hold_every_invariant() {
        for suite in Suite::ALL {
            let report = run(suite, 0..=9, 1);
            assert_eq!(report.seeds, 10);
            assert!(report.failures().is_empty(), "{}", report.failures()[0]);
        }
    }
}
