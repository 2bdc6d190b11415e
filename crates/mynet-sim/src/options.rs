//! One seed, expanded into everything that a run is like; printed, so that a failure explains itself.

use std::{fmt, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Which cores run, and what is asked of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// The consensus core alone: a roster that grows and values to certify.
    Consensus,
    /// The replication core alone: groups to bring to their holders.
    Replication,
    /// The composed node: groups published, made durable and certified.
    Node,
}

impl Suite {
    /// All suites, in the order in which they are run.
    pub const ALL: [Self; 3] = [Self::Consensus, Self::Replication, Self::Node];

    /// The word on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Consensus => "consensus",
            Self::Replication => "replication",
            Self::Node => "node",
        }
    }

    /// The suite with this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.as_str() == word)
    }

    /// Whether the consensus core runs.
    pub(crate) fn certifies(self) -> bool {
        self != Self::Replication
    }

    /// Whether the replication core runs.
    pub(crate) fn replicates(self) -> bool {
        self != Self::Consensus
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Seats that a roster grows to by itself in most runs: the default of the consensus core.
const SEATS_AUTOMATIC: usize = 4;

/// What a run is like.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) suite: Suite,
    pub(crate) seed: u64,
    /// Nodes in the network.
    pub(crate) nodes: usize,
    /// The last of them that join while the network runs.
    pub(crate) late: usize,
    /// How many of them, from the founder on, want a seat.
    pub(crate) validators: usize,
    /// Whether one or two validators may certify.
    pub(crate) degraded_allowed: bool,
    /// Rosters grow by themselves up to this many seats.
    pub(crate) automatic: usize,
    /// Nodes whom owners grant decrypted states, by bit.
    pub(crate) trusted: u16,
    /// Length of the phase with faults.
    pub(crate) safety: Duration,
    pub(crate) network: NetworkOptions,
    pub(crate) faults: FaultOptions,
    pub(crate) disk: DiskOptions,
    /// Values to certify, or groups to publish.
    pub(crate) works: usize,
    /// Percentage of values that no honest validator may accept.
    pub(crate) bad_percent: u32,
    /// Largest state of a group, in bytes.
    pub(crate) bytes_max: u64,
    /// The prepared lease; the other leases and the deadline are fractions of it.
    pub(crate) lease: Duration,
}

/// What the links are like.
#[derive(Debug, Clone)]
pub(crate) struct NetworkOptions {
    /// Least one-way latency, in milliseconds.
    pub(crate) latency_ms: u64,
    /// Latency added at random; above the gaps between messages it reorders them.
    pub(crate) jitter_ms: u64,
    /// Messages lost.
    pub(crate) loss_percent: u32,
    /// Messages delivered twice.
    pub(crate) duplicate_percent: u32,
    /// Messages, of a thousand, that arrive ten seconds late.
    pub(crate) stall_permille: u32,
    /// Messages, of a thousand, in which a byte is changed under way.
    pub(crate) corrupt_permille: u32,
}

/// What breaks, and how often, in the phase with faults.
#[derive(Debug, Clone)]
pub(crate) struct FaultOptions {
    pub(crate) crashes: usize,
    /// Longest time that a crashed node stays down.
    pub(crate) downtime: Duration,
    pub(crate) partitions: usize,
    /// Partitions that cut one direction only.
    pub(crate) one_way_percent: u32,
    /// Times that the links of some nodes break one by one and come back in another order.
    pub(crate) swizzles: usize,
    pub(crate) wall_jumps: usize,
    /// Largest drift of a monotonic clock, either way.
    pub(crate) drift_ppm: i64,
    /// Whether every node dies at one moment.
    pub(crate) blackout: bool,
    /// Whether one node loses its vote store, or has it replaced by an old copy.
    pub(crate) votes_lost: bool,
    /// A validator that signs what contradicts itself, wherever the roster tolerates one.
    pub(crate) liar: Option<usize>,
    /// What makes operators recover the roster, once in the phase with faults.
    pub(crate) disaster: Option<Disaster>,
    /// Messages, of a thousand, that a member sends again later.
    pub(crate) replay_permille: u32,
    /// Percentage of `Prepared` after which another member pretends that the commit was decided.
    pub(crate) forged_percent: u32,
}

/// What leaves too few seats for a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Disaster {
    /// Machines are gone, perhaps for ever.
    Machines,
    /// Vote stores are gone, or put back from a copy.
    Stores,
    /// Machines are gone, and with them the only copy of the next roster, at the moment when it is complete.
    Link,
}

/// What the disks are like.
#[derive(Debug, Clone)]
pub(crate) struct DiskOptions {
    /// Longest fsync in good times.
    pub(crate) persist_ms: u64,
    /// Batches, of a thousand, that take up to ten seconds.
    pub(crate) stall_permille: u32,
    /// Bytes that staging takes in per second.
    pub(crate) bytes_per_second: u64,
    /// Stagings that fail: no space, no source, a bad disk, a part of the states.
    pub(crate) stage_failure_percent: u32,
    /// Batches, of ten thousand, that cannot be written: the node stops.
    pub(crate) write_failure_per_myriad: u32,
}

/// A generator for one purpose of one seed, so that a new draw in one place moves nothing elsewhere.
pub(crate) fn generator(suite: Suite, seed: u64, purpose: &str) -> ChaCha8Rng {
    ChaCha8Rng::from_seed(Sha256::digest(format!("mynet-sim/{suite}/{seed}/{purpose}")).into())
}

/// Zero in a third of all seeds, so that each kind of fault is also seen missing; else up to `max`.
fn sometimes(rng: &mut ChaCha8Rng, max: u32) -> u32 {
    if rng.random_ratio(1, 3) { 0 } else { rng.random_range(0..=max) }
}

/// In a third of the seeds of the consensus suite with four validators or more, one of them lies.
fn draw_liar(suite: Suite, seed: u64, validators: usize) -> Option<usize> {
    let mut rng = generator(suite, seed, "liar");
    let lies = suite == Suite::Consensus && validators >= 4 && rng.random_ratio(1, 3);
    lies.then(|| rng.random_range(0..validators))
}

/// In every eighth seed in which nobody lies so many seats are lost that operators have to recover the roster. Where groups are
/// replicated no machine is: what its holders had would be lost with it.
fn draw_disaster(suite: Suite, seed: u64, liar: Option<usize>) -> Option<Disaster> {
    let mut rng = generator(suite, seed, "disaster");
    let strikes = suite.certifies() && rng.random_ratio(1, 8) && liar.is_none();
    let drawn = [Disaster::Stores, Disaster::Machines, Disaster::Link][rng.random_range(0..3)];
    strikes.then_some(if suite.replicates() { Disaster::Stores } else { drawn })
}

/// Whether three certify for a while before the roster grows once more, so that much is carried over an epoch.
fn has_last_epoch_late(suite: Suite, seed: u64) -> bool {
    suite == Suite::Consensus && generator(suite, seed, "last epoch").random_ratio(1, 3)
}

impl Options {
    /// Expands `seed`.
    pub(crate) fn from_seed(suite: Suite, seed: u64) -> Self {
        let mut rng = generator(suite, seed, "options");
        let rng = &mut rng;
        // Four seats hide what is wrong with quorums: many roundings and constants are right there.
        let wide = suite == Suite::Consensus && rng.random_ratio(1, 8);
        let nodes = if wide { rng.random_range(5..=10) } else { rng.random_range(3..=7) };
        let late = usize::try_from(sometimes(rng, 2)).unwrap_or(0).min(nodes - 3);
        // Two validators at most certify nothing, or in class small only: worth a look now and then.
        let validators = if wide {
            nodes
        } else if rng.random_ratio(1, 12) {
            rng.random_range(1..=2)
        } else {
            rng.random_range(3..=nodes)
        };
        let liar = draw_liar(suite, seed, validators);
        let disaster = draw_disaster(suite, seed, liar);
        let (late, validators) = if has_last_epoch_late(suite, seed) { (nodes - 3, nodes) } else { (late, validators) };
        Self {
            suite,
            seed,
            nodes,
            late,
            validators,
            automatic: if wide { nodes } else { SEATS_AUTOMATIC },
            degraded_allowed: rng.random_ratio(1, 4),
            trusted: rng.random(),
            safety: Duration::from_secs(rng.random_range(30..=300)),
            network: NetworkOptions {
                latency_ms: rng.random_range(1..=80),
                jitter_ms: u64::from(sometimes(rng, 400)),
                loss_percent: sometimes(rng, 30),
                duplicate_percent: sometimes(rng, 10),
                stall_permille: sometimes(rng, 20),
                corrupt_permille: sometimes(rng, 30),
            },
            faults: FaultOptions {
                crashes: usize::try_from(sometimes(rng, 12)).unwrap_or(0),
                downtime: Duration::from_secs(rng.random_range(1..=90)),
                partitions: usize::try_from(sometimes(rng, 8)).unwrap_or(0),
                one_way_percent: rng.random_range(0..=100),
                swizzles: usize::try_from(sometimes(rng, 2)).unwrap_or(0),
                wall_jumps: usize::try_from(sometimes(rng, 3)).unwrap_or(0),
                drift_ppm: i64::from(sometimes(rng, 20_000)),
                blackout: rng.random_ratio(1, 5),
                // A liar is all that four seats tolerate. In a wide roster the node gets another seat, and votes again.
                votes_lost: suite.certifies()
                    && rng.random_ratio(if wide { 2 } else { 1 }, 4)
                    && liar.is_none()
                    && disaster.is_none(),
                liar,
                disaster,
                replay_permille: sometimes(rng, 60),
                forged_percent: sometimes(rng, 10),
            },
            disk: DiskOptions {
                persist_ms: rng.random_range(1..=200),
                stall_permille: sometimes(rng, 20),
                bytes_per_second: rng.random_range(1..=50) << 20,
                stage_failure_percent: sometimes(rng, 30),
                write_failure_per_myriad: sometimes(rng, 100),
            },
            works: rng.random_range(2..=20),
            bad_percent: sometimes(rng, 30),
            bytes_max: 1 << rng.random_range(10..=28),
            lease: Duration::from_secs(rng.random_range(60..=600)),
        }
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { suite, seed, nodes, late, validators, automatic, degraded_allowed, trusted, safety, .. } = self;
        writeln!(f, "suite {suite} seed {seed}: {nodes} nodes, {late} late, {validators} for {automatic} seats")?;
        writeln!(f, "  degraded quorums {degraded_allowed}, trusted {trusted:010b}, faults for {safety:?}")?;
        writeln!(f, "  {:?}\n  {:?}\n  {:?}", self.network, self.faults, self.disk)?;
        let Self { works, bad_percent, bytes_max, lease, .. } = self;
        write!(f, "  {works} works, {bad_percent} % bad, states up to {bytes_max} bytes, prepared lease {lease:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::{Disaster, Options, Suite};

    #[test]
    fn a_seed_always_expands_into_the_same_options_and_every_option_varies() {
        let all: Vec<_> = (0..200).map(|seed| Options::from_seed(Suite::Node, seed)).collect();
        assert_eq!(all[7].to_string(), Options::from_seed(Suite::Node, 7).to_string());
        for nodes in 3..=7 {
            assert!(all.iter().any(|options| options.nodes == nodes));
        }
        assert!(all.iter().all(|options| options.automatic == 4));
        let consensus: Vec<_> = (0..200).map(|seed| Options::from_seed(Suite::Consensus, seed)).collect();
        assert!(consensus.iter().any(|options| options.automatic == 10));
        assert!(all.iter().any(|options| options.late > 0));
        assert!(all.iter().any(|options| options.validators < 3));
        assert!(all.iter().any(|options| options.network.loss_percent == 0));
        assert!(all.iter().any(|options| options.network.loss_percent > 20));
        assert!(all.iter().any(|options| options.faults.votes_lost));
        let struck = |all: &[Options], by| all.iter().any(|options| options.faults.disaster == Some(by));
        assert!(struck(&all, Disaster::Stores) && !struck(&all, Disaster::Machines));
        assert!(struck(&consensus, Disaster::Stores) && struck(&consensus, Disaster::Machines));
        assert!(struck(&consensus, Disaster::Link));
        assert!(all.iter().any(|options| options.faults.crashes == 0));
        assert!(all.iter().any(|options| options.faults.crashes > 8));
    }
}
