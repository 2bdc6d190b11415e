//! Power cuts of one node of a network, at any point of what it wrote: whatever it had told anybody is still true after them.
//!
//! One run is recorded, then cut 200 times; see `docs/protocol/crashes.md`. Two broken disks show that the check finds losses.

mod check;
mod recording;

use std::{collections::BTreeSet, fs, path::Path};

use mynet_e2e::powerloss::{
    disk::{Disk, Ignores, Survivors},
    recorder::Record,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use self::recording::{Promise, Recording};

/// Cuts that are checked by opening the stores.
const CUTS: usize = 200;
/// Cuts after which the program itself is started too.
const STARTS: usize = 20;
/// Cuts of each broken disk.
const BROKEN_CUTS: usize = 20;

/// Disks that take no notice of some syncs, each of which a missing fsync in the program would look like.
const BROKEN: [(&str, Ignores); 5] = [
    ("files of blobs", |name, is_directory| !is_directory && (name.len() == 64 || name == "content")),
    ("directories of blobs", |name, is_directory| is_directory && name.len() == 2),
    ("the log of the metadata", |name, _| name == "mynet.db-wal"),
    ("the log of the votes", |name, _| name == "votes.db-wal"),
    ("the directory of the recovery keys", |name, _| name == "recovery"),
];

/// One power cut.
struct Cut<'a> {
    /// Records that were written down before it.
    records: usize,
    /// What was promised before it.
    promises: Vec<&'a Promise>,
    left: Survivors,
}

/// A number below `limit`.
fn below(limit: usize, rng: &mut impl Rng) -> usize {
    usize::try_from(rng.next_u64() % limit as u64).unwrap()
}

/// Where to cut: anywhere, and as often just after a promise, where what it rests on is youngest. Without repeats, so the former
/// are more in the end.
fn places(recording: &Recording, count: usize, rng: &mut impl Rng) -> BTreeSet<usize> {
    let Recording { records, promises, .. } = recording;
    let mut places = BTreeSet::new();
    for turn in 0.. {
        if places.len() == count {
            break;
        }
        let place = if turn % 2 == 0 {
            1 + below(records.len(), rng)
        } else {
            let promise = &promises[below(promises.len(), rng)];
            let after = records.partition_point(|record| record.end < promise.at);
            records.len().min(1 + after + below(3, rng))
        };
        places.insert(place);
    }
    places
}

/// Cuts the recorded run at `places` and hands each cut to `each`.
fn cut_all(
    recording: &Recording,
    (mut disk, places): (Disk, &BTreeSet<usize>),
    rng: &mut impl Rng,
    mut each: impl FnMut(Cut<'_>),
) {
    let mut done = 0;
    for &place in places {
        recording.records[done..place].iter().for_each(|Record { deed, .. }| disk.apply(deed));
        done = place;
        let length = recording.records[place - 1].end;
        let promises = recording.promises.iter().filter(|promise| promise.at <= length).collect();
        each(Cut { records: place, promises, left: disk.cut(rng) });
    }
}

/// Rebuilds what a cut left of the node, and tells what of the promises is lost.
fn losses(cut: &Cut<'_>, dir: &Path) -> Vec<String> {
    let there = cut.left.restore(Path::new(recording::NODE), dir).unwrap();
    let lost = check::stores(there.then_some(dir), &cut.promises);
    if there {
        fs::remove_dir_all(dir).unwrap();
    }
    lost
}

#[test]
fn what_was_told_survives_power_cuts_and_a_broken_disk_is_found_out() {
    let recording = recording::record();
    let seed = std::env::var("POWERLOSS_SEED").ok().map_or(1, |seed| seed.parse().unwrap());
    println!("POWERLOSS_SEED={seed}, {} records, {} promises", recording.records.len(), recording.promises.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // In memory where that is possible: what is rebuilt here outlives no power cut anyway.
    let temp = tempfile::tempdir_in("/dev/shm").or_else(|_none| tempfile::tempdir()).unwrap();
    let dir = temp.path().join("node");

    let every_nth = CUTS / STARTS;
    let (mut found, mut count) = (Vec::new(), 0);
    let cuts = places(&recording, CUTS, &mut rng);
    cut_all(&recording, (Disk::honest(), &cuts), &mut rng, |cut| {
        count += 1;
        let mut lost = losses(&cut, &dir);
        if count % every_nth == 0 && cut.left.restore(Path::new(recording::NODE), &dir).unwrap() {
            lost.extend(check::program(&dir, &cut.promises));
            fs::remove_dir_all(&dir).unwrap();
        }
        if !lost.is_empty() {
            let last = &recording.records[cut.records - 1].deed;
            found.push(format!("after {} records, the last was {last}: {lost:#?}", cut.records));
        }
    });
    assert!(
        found.is_empty(),
        "POWERLOSS_SEED={seed}: {} of {count} cuts lose something: {}",
        found.len(),
        found.join("\n")
    );

    for (what, ignores) in BROKEN {
        let cuts = places(&recording, BROKEN_CUTS, &mut rng);
        let mut broken = 0;
        let disk = Disk::broken(ignores);
        cut_all(&recording, (disk, &cuts), &mut rng, |cut| broken += usize::from(!losses(&cut, &dir).is_empty()));
        println!("no syncs of {what}: {broken} of {BROKEN_CUTS} cuts lose something");
        assert!(broken > 0, "no syncs of {what}, and nothing is lost: the check sees too little");
    }
}
