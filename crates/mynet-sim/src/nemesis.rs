//! When what breaks: the schedule of faults that one seed draws for the phase with faults.

use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::options::{Disaster, Options, generator};

/// Longest partition: several resends and suspicions long, shorter than the phase.
const PARTITION_MS_MAX: u64 = 60_000;
/// Largest jump of a wall clock: an hour, as after a wrong time zone.
const JUMP_MS_MAX: i64 = 3_600_000;

/// One fault.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// A node dies and starts again later.
    Crash { node: usize, down_ms: u64 },
    /// A node dies while its next batch is being written.
    CrashOnWrite { node: usize, down_ms: u64 },
    /// A node dies between two messages.
    CrashOnSend { node: usize, down_ms: u64 },
    /// Directions are cut.
    Cut { pairs: Vec<(usize, usize)>, one_way: bool },
    /// All links of one node are cut.
    Clog { pairs: Vec<(usize, usize)> },
    /// Directions are open again.
    Mend { pairs: Vec<(usize, usize)> },
    /// A wall clock jumps.
    Jump { node: usize, delta_ms: i64 },
    /// A node joins the network.
    Join { node: usize },
    /// Too many seats are lost.
    Strike(Disaster),
}

/// Draws the schedule.
pub(crate) fn schedule(options: &Options) -> Vec<(u64, Fault)> {
    let mut rng = generator(options.suite, options.seed, "nemesis");
    let safety = u64::try_from(options.safety.as_millis()).unwrap_or(u64::MAX);
    let down_max = u64::try_from(options.faults.downtime.as_millis()).unwrap_or(u64::MAX);
    let mut faults = Vec::new();
    for _ in 0..options.faults.crashes {
        let node = rng.random_range(0..options.nodes);
        // A process manager starts again at once as often as a machine stays down for long.
        let down_ms = if rng.random() { rng.random_range(1..=50) } else { rng.random_range(1..=down_max) };
        // Most of the time a node writes nothing; deaths in between find little.
        let fault = match rng.random_range(0..4) {
            0 | 1 => Fault::Crash { node, down_ms },
            2 => Fault::CrashOnWrite { node, down_ms },
            _ => Fault::CrashOnSend { node, down_ms },
        };
        faults.push((rng.random_range(0..safety), fault));
    }
    if options.faults.blackout {
        let at = rng.random_range(0..safety);
        let nodes = 0..options.nodes;
        faults.extend(nodes.map(|node| (at, Fault::Crash { node, down_ms: rng.random_range(1..=down_max) })));
    }
    for _ in 0..options.faults.partitions {
        let one_way = rng.random_ratio(options.faults.one_way_percent, 100);
        let pairs = partition(&mut rng, options.nodes, one_way);
        let start = rng.random_range(0..safety);
        let end = start + rng.random_range(100..=PARTITION_MS_MAX);
        faults.push((start, Fault::Cut { pairs: pairs.clone(), one_way }));
        faults.push((end, Fault::Mend { pairs }));
    }
    for _ in 0..options.faults.swizzles {
        swizzle(&mut rng, options.nodes, safety, &mut faults);
    }
    for _ in 0..options.faults.wall_jumps {
        let node = rng.random_range(0..options.nodes);
        let delta_ms = rng.random_range(-JUMP_MS_MAX..=JUMP_MS_MAX);
        faults.push((rng.random_range(0..safety), Fault::Jump { node, delta_ms }));
    }
    for node in options.nodes - options.late..options.nodes {
        faults.push((rng.random_range(0..safety), Fault::Join { node }));
    }
    if let Some(disaster) = options.faults.disaster {
        let mut rng = generator(options.suite, options.seed, "strike");
        // Rosters grow early.
        let latest = if disaster == Disaster::Link { safety / 8 } else { safety };
        faults.push((rng.random_range(0..latest), Fault::Strike(disaster)));
    }
    faults
}

/// Nodes lose all their links one after the other and get them back in another order, so that for a while every part of the
/// network sees another part. Source: FoundationDB's swizzle-clogging.
fn swizzle(rng: &mut ChaCha8Rng, nodes: usize, safety: u64, faults: &mut Vec<(u64, Fault)>) {
    let start = rng.random_range(0..safety);
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(rng);
    order.truncate(rng.random_range(1..nodes));
    for node in order {
        let pairs: Vec<_> =
            (0..nodes).filter(|peer| *peer != node).flat_map(|peer| [(node, peer), (peer, node)]).collect();
        let cut = start + rng.random_range(0..PARTITION_MS_MAX / 2);
        let mend = start + rng.random_range(PARTITION_MS_MAX / 2..PARTITION_MS_MAX);
        faults.push((cut, Fault::Clog { pairs: pairs.clone() }));
        faults.push((mend, Fault::Mend { pairs }));
    }
}

/// The directions between two drawn sides.
fn partition(rng: &mut ChaCha8Rng, nodes: usize, one_way: bool) -> Vec<(usize, usize)> {
    let mut order: Vec<usize> = (0..nodes).collect();
    order.shuffle(rng);
    let (one, other) = order.split_at(rng.random_range(1..nodes));
    let mut pairs = Vec::new();
    for a in one {
        for b in other {
            pairs.push((*a, *b));
            if !one_way {
                pairs.push((*b, *a));
            }
        }
    }
    pairs
}
