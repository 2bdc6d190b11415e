//! Simulated links: latency, loss, duplicates, reorder, stalls, changed bytes and partitions, one-way ones among them.

use std::collections::BTreeSet;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::options::NetworkOptions;

/// How late a stalled message is: longer than any resend, shorter than any lease.
const STALL_MS: u64 = 10_000;

/// All links.
#[derive(Debug)]
pub(crate) struct Network {
    options: NetworkOptions,
    /// Directions that are cut.
    cut: BTreeSet<(usize, usize)>,
}

/// What becomes of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// A partition swallows it.
    Cut,
    /// It is lost.
    Lost,
    /// It arrives after this many milliseconds.
    Arrives(u64),
    /// It arrives very late.
    Stalled(u64),
    /// It arrives twice.
    Twice(u64, u64),
    /// It arrives with a byte changed.
    Changed(u64),
}

impl Network {
    /// Links with nothing cut.
    pub(crate) fn new(options: NetworkOptions) -> Self {
        Self { options, cut: BTreeSet::new() }
    }

    /// Draws what becomes of a message.
    pub(crate) fn carry(&self, rng: &mut ChaCha8Rng, from: usize, to: usize) -> Fate {
        if self.cut.contains(&(from, to)) {
            return Fate::Cut;
        }
        if rng.random_ratio(self.options.loss_percent, 100) {
            return Fate::Lost;
        }
        let delay = self.delay(rng);
        if rng.random_ratio(self.options.stall_permille, 1000) {
            Fate::Stalled(delay + STALL_MS)
        } else if rng.random_ratio(self.options.duplicate_percent, 100) {
            Fate::Twice(delay, delay + self.delay(rng))
        } else if rng.random_ratio(self.options.corrupt_permille, 1000) {
            Fate::Changed(delay)
        } else {
            Fate::Arrives(delay)
        }
    }

    /// One latency.
    pub(crate) fn delay(&self, rng: &mut ChaCha8Rng) -> u64 {
        self.options.latency_ms + rng.random_range(0..=self.options.jitter_ms)
    }

    /// Cuts or mends one direction.
    pub(crate) fn set_cut(&mut self, (from, to): (usize, usize), cut: bool) {
        if cut {
            self.cut.insert((from, to));
        } else {
            self.cut.remove(&(from, to));
        }
    }

    /// Whether a connection between the two would hold: both directions are open.
    pub(crate) fn is_open(&self, a: usize, b: usize) -> bool {
        !self.cut.contains(&(a, b)) && !self.cut.contains(&(b, a))
    }

    /// From now on nothing is cut, lost, doubled or stalled.
    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.options.loss_percent = 0;
        self.options.duplicate_percent = 0;
        self.options.stall_permille = 0;
        self.options.corrupt_permille = 0;
        // Half a second between any two nodes would not be a healed network.
        self.options.jitter_ms = self.options.jitter_ms.min(20);
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{ChaCha8Rng, Fate, Network, NetworkOptions};

    fn bad() -> Network {
        let options = NetworkOptions {
            latency_ms: 5,
            jitter_ms: 50,
            loss_percent: 30,
            duplicate_percent: 10,
            stall_permille: 20,
            corrupt_permille: 20,
        };
        Network::new(options)
    }

    #[test]
    fn every_fate_occurs_until_the_network_heals() {
        let (mut network, mut rng) = (bad(), ChaCha8Rng::seed_from_u64(1));
        network.set_cut((0, 1), true);
        assert_eq!(network.carry(&mut rng, 0, 1), Fate::Cut);
        assert!(!network.is_open(1, 0), "a connection needs both directions");
        let fates: Vec<Fate> = (0..2000).map(|_| network.carry(&mut rng, 1, 0)).collect();
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Lost)));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Stalled(_))));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Twice(..))));
        assert!(fates.iter().any(|fate| matches!(fate, Fate::Changed(_))));
        network.heal();
        for _ in 0..2000 {
            assert!(matches!(network.carry(&mut rng, 0, 1), Fate::Arrives(5..=25)));
        }
    }
}
