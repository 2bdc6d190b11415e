//! Planted bugs: every one is a mistake that somebody could make, and must be caught by the checker that is there for it.
//!
//! A build with `--cfg planted` holds all of them, each switched off. One after the other is switched on and its suite is run
//! until the checker objects that must catch it; the others are not heard, so that each is seen to work by itself. Afterwards the same seeds run without a bug, and must hold every invariant: a checker that objects to
//! everything would catch everything.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use mynet_types::planted::{Bug, select};

use crate::{
    options::Suite,
    run::{Failure, run_each},
};

thread_local! {
    /// The only invariant that counts; all of them where none is named.
    static HEARD: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Whether a violation of `invariant` counts.
pub(crate) fn hears(invariant: &str) -> bool {
    HEARD.get().is_none_or(|heard| heard == invariant)
}

/// Where a bug shows, and the number of the checker that must catch it.
fn expectation(bug: Bug) -> (Suite, &'static str) {
    use Suite::{Consensus, Node, Replication};
    match bug {
        Bug::FloorQuorum | Bug::ConstantQuorum | Bug::SmallRejectQuorum => (Consensus, "C3"),
        Bug::DuplicateSigner | Bug::VoteSignatureUnchecked | Bug::ForeignManifestCounted => (Consensus, "C3"),
        Bug::MissingDomain => (Consensus, "W4"),
        Bug::VoteBeforePersist | Bug::RosterLockUnwritten | Bug::CloseUnwritten | Bug::AckBeforeWrite => {
            (Consensus, "W1")
        }
        Bug::VoteAfterLostStore | Bug::SecondRosterSigned => (Consensus, "C2"),
        Bug::SecondRoot | Bug::HashUnlooked | Bug::TimeoutIsRejection => (Consensus, "C4"),
        Bug::ExpiredReceiptCounted | Bug::ReceiptsCountedTwice => (Consensus, "C4"),
        Bug::NewProposalAfterRestart => (Consensus, "W3"),
        Bug::VotesUnsent | Bug::AcksUnsent | Bug::KeyWishUnsent => (Consensus, "C5"),
        Bug::EvidenceUnsent => (Consensus, "C7"),
        Bug::CommitBeforeLog | Bug::UnknownIsCommitted => (Replication, "G7"),
        Bug::AbortAfterCommit => (Replication, "G3"),
        Bug::SuccessAtDecision | Bug::DecisionsUnsent | Bug::ReceiptsUnwritten => (Replication, "G4"),
        Bug::LeaseFromAnswer | Bug::PreparedAfterLease => (Replication, "L1"),
        Bug::AttemptNotCompared | Bug::OutcomeForgotten => (Replication, "store"),
        Bug::RepeatedPrepareReopens => (Replication, "G6"),
        Bug::DecryptedUngranted => (Replication, "G9"),
        Bug::PreparedWithPart => (Replication, "G1"),
        Bug::PreparedBeforePersist | Bug::ReceiptBeforeCommit => (Replication, "W2"),
        Bug::DecisionSignatureUnchecked => (Replication, "G2"),
        Bug::ZonesIgnored => (Replication, "P1"),
        Bug::EndUnwritten => (Replication, "G10"),
        Bug::ReservationLeaks => (Replication, "G5"),
        Bug::StagingLeaks => (Replication, "G11"),
        Bug::StagedUnsynced | Bug::CollectWithoutRecheck => (Replication, "G8"),
        Bug::RecoveryByOneKey => (Consensus, "C8"),
        Bug::RecoveryLeavesEpochOpen => (Consensus, "W1"),
        Bug::RecoveryForgetsAcked => (Consensus, "C6"),
        Bug::CopiesTakenForBytes => (Node, "C4"),
        Bug::DurableUnheard | Bug::ReplacedReceiptsCounted => (Node, "G4"),
        Bug::HeadUncertified | Bug::LowerVersionTakes | Bug::OldPreviewShown | Bug::DraftShown => (Node, "G13"),
        Bug::HoldersLeftBehind => (Node, "G13"),
    }
}

/// What became of one bug.
#[derive(Debug)]
pub struct Hunt {
    bug: Bug,
    suite: Suite,
    expected: &'static str,
    /// Seeds run until something was caught, or all of them.
    seeds: u64,
    caught: Option<Failure>,
}

impl Hunt {
    /// Whether the right checker caught it.
    #[must_use]
    pub fn succeeded(&self) -> bool {
        self.caught.as_ref().is_some_and(|failure| failure.invariant() == self.expected)
    }

    /// What the table says of it, but for the seeds, which every change of the simulator changes.
    fn row(&self) -> String {
        let Self { bug, suite, expected, .. } = self;
        format!("| `{bug:?}` | {} | {expected} | {suite} |", bug.what())
    }
}

/// The bug of this name.
#[must_use]
pub fn bug_named(name: &str) -> Option<Bug> {
    Bug::ALL.iter().copied().find(|bug| format!("{bug:?}") == name)
}

/// Switches a bug on and runs its suite until the right checker objects, for `budget` seeds at most.
#[must_use]
pub fn hunt(bug: Bug, budget: u64) -> Hunt {
    let (suite, expected) = expectation(bug);
    let begin = || {
        select(Some(bug));
        HEARD.set(Some(expected));
    };
    let report = run_each(suite, 0..=budget.saturating_sub(1), 1, &begin);
    let caught = report.failures().first().cloned();
    let seeds = caught.as_ref().map_or(budget, |failure| failure.seed() + 1);
    Hunt { bug, suite, expected, seeds, caught }
}

/// Runs the seeds that the hunts needed without a bug. The failures, which should be none.
#[must_use]
pub fn control(hunts: &[Hunt]) -> Vec<Failure> {
    let mut seeds: BTreeMap<Suite, u64> = BTreeMap::new();
    for hunt in hunts {
        let most = seeds.entry(hunt.suite).or_default();
        *most = hunt.seeds.max(*most);
    }
    let clean = |(suite, seeds): (Suite, u64)| run_each(suite, 0..=seeds - 1, 1, &|| select(None));
    seeds.into_iter().map(clean).flat_map(|report| report.failures().to_vec()).collect()
}

/// The document with the table of all bugs.
#[must_use]
pub fn document(hunts: &[Hunt]) -> String {
    let mut text = String::from(HEAD);
    for hunt in hunts {
        writeln!(text, "{} {} |", hunt.row(), hunt.seeds).expect("writing to a string does not fail");
    }
    text
}

/// The rows of `hunts` that `document` lacks, numbers of seeds left aside.
#[must_use]
pub fn missing_rows(hunts: &[Hunt], document: &str) -> Vec<String> {
    let has = |row: &String| document.lines().any(|line| line.starts_with(row.as_str()));
    hunts.iter().map(Hunt::row).filter(|row| !has(row)).collect()
}

/// What stands above the table.
const HEAD: &str = "\
# Planted bugs

Made by `mynet-sim plants --write docs/protocol/planted-bugs.md`; `scripts/test` hunts all of them again and compares every
column but the last. Each bug is a few lines of the real cores, or of the simulated machine where the mistake is the
shell's, that exist only in a build with `--cfg planted`. Each is caught by the checker named, with nobody listening to the
others; `docs/protocol/simulation.md` describes them. The same seeds are clean without the bug, with everybody listened to. \"store\" is the model of the metadata store, which
refuses what a store must refuse.

```
RUSTFLAGS='--cfg planted' cargo run --locked --profile sim -p mynet-sim --target-dir target/planted -- plants
```

| bug | what is wrong | caught by | suite | seeds needed |
|---|---|---|---|---|
";

/// One line: the bug, who caught it, when.
impl fmt::Display for Hunt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bug, suite, expected, seeds, caught } = self;
        match caught {
            Some(_) if self.succeeded() => write!(f, "{bug:?}: {expected} after {seeds} seeds of {suite}")?,
            Some(failure) => {
                write!(f, "{bug:?}: NOT {expected} BUT {} after {seeds} seeds of {suite}", failure.invariant())?
            }
            None => return write!(f, "{bug:?}: NOT CAUGHT in {seeds} seeds of {suite}, expected {expected}"),
        }
        let message = caught.as_ref().map_or("", |failure| failure.message());
        write!(f, ": {message}")
    }
}
