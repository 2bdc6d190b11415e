//! Replays seeds and corpus, whole and mutated, in every run of the tests.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests: what fails here fails the test, and clippy sees tests only where they are marked"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use mynet_fuzz::{Target, corpus, find, generator, mutate::mutated, targets};
use rand::Rng;

/// Mutated inputs per target; `scripts/test` runs more, and real fuzzing is in `docs/fuzzing.md`.
const MUTATED: u64 = 1_500;

/// Allocations are counted for the whole process, so tests that share one take turns.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Everything known about a target.
fn known(target: &Target) -> Vec<Vec<u8>> {
    [target.seeds(), corpus(target).unwrap()].concat()
}

/// Feeds with `count` inputs mutated from `seeds`; a failure says which one it was.
fn feed_mutated(target: &Target, seeds: &[Vec<u8>], count: u64) {
    for seed in 0..count {
        let bytes = mutated(&mut generator(seed), seeds);
        let held = std::panic::catch_unwind(|| target.check(&bytes));
        assert!(
            held.is_ok(),
            "{}: generator {seed} makes an input that breaks it: {}",
            target.name,
            hex::encode(bytes)
        );
    }
}

#[test]
fn every_target_takes_its_seeds_and_its_corpus() {
    let _alone = alone();
    for target in targets() {
        let inputs = known(target);
        assert!(inputs.len() >= 2, "{} has seeds", target.name);
        inputs.iter().for_each(|input| target.check(input));
    }
}

#[test]
fn every_decoder_takes_mutated_seeds() {
    let _alone = alone();
    for target in targets().into_iter().filter(|target| target.name != "node-core") {
        feed_mutated(target, &known(target), MUTATED);
    }
}

#[test]
fn every_target_takes_noise() {
    let _alone = alone();
    for target in targets() {
        for seed in 0..64u64 {
            let mut bytes = vec![0; 1 << (seed % 10)];
            generator(seed).fill_bytes(&mut bytes);
            target.check(&bytes);
        }
    }
}

#[test]
fn a_node_among_enemies_neither_panics_nor_grows() {
    let _alone = alone();
    let target = find("node-core").unwrap();
    feed_mutated(target, &known(target), 60);
}

#[test]
fn corpora_belong_to_targets_and_names_to_one() {
    let names: std::collections::BTreeSet<_> = targets().iter().map(|target| target.name).collect();
    assert_eq!(names.len(), targets().len(), "a name is taken twice");
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for entry in std::fs::read_dir(dir).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(find(&name).is_some(), "no target is called {name}");
    }
}
