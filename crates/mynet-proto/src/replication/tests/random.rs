//! Networks that lose, repeat and reorder, disks and staging that take their time, nodes that crash; then all faults end, and
//! everything must come to a clean end. The invariants are checked by `world` at every step.

use std::time::Duration;

use mynet_types::{Roles, wire::RefuseReason};
use proptest::prelude::{ProptestConfig, any, proptest};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::world::{World, publication};
use crate::replication::io::Publication;

/// Long enough for every lease, deadline and pause to end several times over.
const HEALING: Duration = Duration::from_secs(2 * 3600);
const NODES: u8 = 5;

struct Chaos {
    world: World,
    rng: ChaCha8Rng,
    published: Vec<Publication>,
    deletes: bool,
}

impl Chaos {
    /// With `deletes` the first group is deleted at some moment.
    fn new(seed: u64, deletes: bool) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let origin = if rng.random_bool(0.5) { Roles::STORAGE } else { Roles::INDEX };
        let mut world = World::with_roles(&[origin, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE]);
        let quorum = rng.random_range(1..=3);
        let published = (1..=2)
            .map(|group| {
                let readers: &[u8] = if group == 1 { &[2] } else { &[] };
                let publication = publication(group, (quorum, 4), readers);
                world.publish(1, publication.clone());
                publication
            })
            .collect();
        Self { world, rng, published, deletes }
    }

    fn step(&mut self) {
        let number = self.rng.random_range(1..=NODES);
        if self.deletes && self.world.is_up(1) && self.rng.random_bool(0.01) {
            let manifest = self.published[0].manifest.body.clone();
            self.world.delete(1, &manifest);
        }
        match self.rng.random_range(0..100) {
            0..50 => self.message(),
            50..70 => {
                self.world.write_one(number);
            }
            70..85 => {
                let refuse = self.rng.random_bool(0.1).then_some(RefuseReason::Unavailable);
                self.world.host(number).refuse = refuse;
                self.world.stage_one(number);
                self.world.host(number).refuse = None;
            }
            85..98 => {
                if let Some(timer) = self.world.next_timer() {
                    self.world.fire(timer);
                }
            }
            _ if self.world.is_up(number) => self.world.crash(number),
            _ => self.world.start(number),
        }
    }

    fn message(&mut self) {
        if self.world.network.is_empty() {
            return;
        }
        let index = self.rng.random_range(0..self.world.network.len());
        let envelope = self.world.network.swap_remove(index);
        match self.rng.random_range(0..10) {
            0..2 => {}
            2 => {
                self.world.network.push(envelope.clone());
                self.world.deliver(envelope);
            }
            _ => self.world.deliver(envelope),
        }
    }

    fn heal(&mut self) {
        for number in 1..=NODES {
            if !self.world.is_up(number) {
                self.world.start(number);
            }
        }
        // A publication whose C1 was lost in a crash never was; its publisher makes it again.
        if self.deletes {
            let manifest = self.published[0].manifest.body.clone();
            self.world.delete(1, &manifest);
        }
        for publication in self.published.clone() {
            let disk = &self.world.host(1).disk;
            let known = disk.publications.contains_key(&publication.manifest.body.group_id);
            let deleted = self.deletes && publication == self.published[0];
            if !known && !deleted && !disk.receipts.contains_key(&publication.manifest.body.hash()) {
                self.world.publish(1, publication);
            }
        }
        self.world.run(HEALING);
    }
}

fn check(seed: u64, steps: usize, deletes: bool) {
    let mut chaos = Chaos::new(seed, deletes);
    for _ in 0..steps {
        chaos.step();
    }
    chaos.heal();
    for publication in &chaos.published {
        let hash = publication.manifest.body.hash();
        if deletes && *publication == chaos.published[0] {
            assert!(chaos.world.holders(&hash).is_empty(), "what was deleted came back");
            continue;
        }
        assert!(chaos.world.holders(&hash).len() >= 4, "every copy was made in the end");
    }
    chaos.world.assert_clean();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn faults_break_no_invariant_and_everything_ends_clean(seed in any::<u64>(), steps in 20_usize..500) {
        check(seed, steps, false);
    }

    #[test]
    fn a_group_deleted_at_any_moment_is_gone_from_every_node_for_good(seed in any::<u64>(), steps in 20_usize..500) {
        check(seed, steps, true);
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut chaos = Chaos::new(seed, seed % 2 == 1);
        (0..400).for_each(|_| chaos.step());
        chaos.heal();
        format!("{:?}", chaos.world.sent)
    };
    assert_eq!(run(42), run(42));
    assert_eq!(run(43), run(43));
}
