//! Small disks of which every outcome is known.

use std::collections::BTreeSet;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::{DIRECTORY, Deed, Disk, Survivors};

const ROOT: u64 = 1;
const FILE: u32 = 0o100_600;

fn create(dir: u64, name: &str, inode: u64, mode: u32) -> Deed {
    Deed::Create { dir, name: name.to_owned(), inode, mode }
}

fn write(inode: u64, offset: u64, bytes: &[u8]) -> Deed {
    Deed::Write { inode, offset, bytes: bytes.to_vec() }
}

fn rename(from: (u64, &str), to: (u64, &str)) -> Deed {
    Deed::Rename { from: (from.0, from.1.to_owned()), to: (to.0, to.1.to_owned()) }
}

/// All that 300 cuts after these deeds leave, as text: paths with lengths of files.
fn outcomes(mut disk: Disk, deeds: &[Deed]) -> BTreeSet<String> {
    disk.apply(&Deed::Root(ROOT));
    deeds.iter().for_each(|deed| disk.apply(deed));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    (0..300).map(|_| shown(&disk.cut(&mut rng))).collect()
}

fn shown(left: &Survivors) -> String {
    let dirs = left.directories.keys().map(|path| format!("{}/", path.display()));
    let files = left.files.iter().map(|(path, (_, bytes))| format!("{}:{}", path.display(), bytes.len()));
    dirs.chain(files).collect::<Vec<_>>().join(" ")
}

fn check(deeds: &[Deed], expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|&text| text.to_owned()).collect();
    assert_eq!(outcomes(Disk::honest(), deeds), expected, "{deeds:?}");
}

#[test]
fn bytes_are_certain_after_a_sync_of_the_file_and_its_name_after_one_of_the_directory() {
    let file = [create(ROOT, "f", 2, FILE), write(2, 0, b"1234")];
    check(&file, &["", "f:0", "f:4"]);
    check(&[&file[..], &[Deed::Sync(2)]].concat(), &["", "f:4"]);
    check(&[&file[..], &[Deed::Sync(ROOT)]].concat(), &["f:0", "f:4"]);
    check(&[&file[..], &[Deed::Sync(2), Deed::Sync(ROOT)]].concat(), &["f:4"]);
}

#[test]
fn a_move_is_whole_and_certain_after_a_sync_of_its_new_directory() {
    let before = [create(ROOT, "a", 2, DIRECTORY), create(ROOT, "b", 3, DIRECTORY), create(2, "f", 4, FILE)];
    let synced = [Deed::Sync(ROOT), Deed::Sync(2), rename((2, "f"), (3, "g"))];
    let moved = [&before[..], &synced[..]].concat();
    check(&moved, &["a/ b/ a/f:0", "a/ b/ b/g:0"]);
    check(&[&moved[..], &[Deed::Sync(2)]].concat(), &["a/ b/ a/f:0", "a/ b/ b/g:0"]);
    check(&[&moved[..], &[Deed::Sync(3)]].concat(), &["a/ b/ b/g:0"]);
}

#[test]
fn names_of_one_directory_come_in_their_order() {
    check(&[create(ROOT, "a", 2, FILE), create(ROOT, "b", 3, FILE)], &["", "a:0", "a:0 b:0"]);
    let made_and_gone = [create(ROOT, "a", 2, FILE), Deed::Sync(ROOT), create(ROOT, "b", 3, FILE)];
    let gone = Deed::Unlink { dir: ROOT, name: "a".to_owned() };
    check(&[&made_and_gone[..], &[gone]].concat(), &["a:0", "a:0 b:0", "b:0"]);
}

#[test]
fn a_directory_that_is_lost_takes_synced_files_with_it() {
    let deeds = [create(ROOT, "d", 2, DIRECTORY), create(2, "f", 3, FILE), Deed::Sync(3), Deed::Sync(2)];
    check(&deeds, &["", "d/ f:0"].map(|text| if text.is_empty() { "" } else { "d/ d/f:0" }));
}

#[test]
fn pages_come_each_for_itself_and_may_be_torn() {
    let mut disk = Disk::honest();
    disk.apply(&Deed::Root(ROOT));
    for deed in [create(ROOT, "f", 2, FILE), write(2, 0, &[1; 8192]), Deed::Sync(2), Deed::Sync(ROOT)] {
        disk.apply(&deed);
    }
    disk.apply(&write(2, 0, &[2; 8192]));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut kinds = BTreeSet::new();
    for _ in 0..300 {
        let left = disk.cut(&mut rng);
        let (_, bytes) = left.files.values().next().unwrap();
        let page = |page: &[u8]| match (page.contains(&1), page.contains(&2)) {
            (true, false) => 'o',
            (false, true) => 'n',
            _ => 't',
        };
        kinds.insert(bytes.chunks(4096).map(page).collect::<String>());
    }
    for expected in ["oo", "on", "no", "nn", "to", "nt"] {
        assert!(kinds.contains(expected), "{expected} is missing: {kinds:?}");
    }
}

#[test]
fn what_is_seen_is_all_of_it() {
    let mut disk = Disk::honest();
    disk.apply(&Deed::Root(ROOT));
    let deeds = [
        create(ROOT, "f", 2, FILE),
        write(2, 0, b"123456"),
        Deed::Truncate { inode: 2, size: 3 },
        write(2, 5, b"x"),
        rename((ROOT, "f"), (ROOT, "g")),
        Deed::Unlink { dir: ROOT, name: "g".to_owned() },
        // The number is used again.
        create(ROOT, "h", 2, FILE),
        write(2, 0, b"new"),
    ];
    deeds[..5].iter().for_each(|deed| disk.apply(deed));
    assert_eq!(disk.seen().files.values().next().unwrap().1, b"123\0\0x");
    deeds[5..].iter().for_each(|deed| disk.apply(deed));
    assert_eq!(shown(&disk.seen()), "h:3");
}

#[test]
fn a_broken_disk_loses_what_was_synced() {
    let deeds = [create(ROOT, "f", 2, FILE), write(2, 0, b"1234"), Deed::Sync(2), Deed::Sync(ROOT)];
    assert!(outcomes(Disk::broken(|name, _| name == "f"), &deeds).contains("f:0"));
    assert!(outcomes(Disk::broken(|_, is_directory| is_directory), &deeds).contains(""));
}
