//! What a disk may hold after a power cut, given what was done before it.
//!
//! The model is that of a journaling file system that promises what POSIX does and no more:
//!
//! 1. Bytes and size of a file are there for certain when it was synced after they were written. A page of 4 KiB that
//!    changed since is as it was at some moment since, each page for itself; one page in eight is torn, and then each of its
//!    sectors of 512 bytes is as it was at some moment. The size is one that the file had; where it is more than what reached
//!    the disk there are zeros.
//! 2. A name (made, moved, removed) is there for certain when the directory that it came into or went from was synced after;
//!    syncing a file does nothing for its name. What was done to names and not synced is there in part, but never without what
//!    was done in the same directories before: a prefix per directory. A move is whole: never both names, never none.
//! 3. Permissions are there at once.
//!
//! Weaker than ext4, XFS and btrfs are in fact, where syncing a new file brings its name along; stronger than a file system
//! without a journal, where names are lost in any order.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use rand::Rng;

use super::recorder::{Deed, Inode};

/// What is written to a disk at once at best.
const PAGE: u64 = 4096;
/// What is written to a disk at once for certain.
const SECTOR: u64 = 512;
/// Which type a file is, in a mode.
const TYPE: u32 = 0o170_000;
/// A directory, in a mode.
const DIRECTORY: u32 = 0o040_000;

/// Whether a disk takes no notice of the syncs of a file or directory, given the name that it was made under and whether it is a
/// directory. Such a disk is broken; it is there to see whether a check notices.
pub type Ignores = fn(&str, bool) -> bool;

/// A file or directory; inode numbers are used again, these are not.
type Id = usize;
/// Names of one directory.
type Names = BTreeMap<String, Id>;

/// A disk that is written to.
#[derive(Debug)]
pub struct Disk {
    ignores: Ignores,
    root: Option<Id>,
    ids: BTreeMap<Inode, Id>,
    objects: Vec<Object>,
    /// Names that are there for certain, by directory.
    synced: BTreeMap<Id, Names>,
    /// What was done to names since.
    pending: Vec<NameDeed>,
}

#[derive(Debug, Default)]
struct Object {
    made_as: String,
    mode: u32,
    /// Bytes that are there for certain.
    synced: Vec<u8>,
    /// What was done to them since.
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Size(u64),
}

/// One thing done to names.
#[derive(Debug, Clone)]
enum NameDeed {
    Add { dir: Id, name: String, id: Id },
    Remove { dir: Id, name: String },
    Move { from: (Id, String), to: (Id, String) },
}

impl NameDeed {
    /// The directory whose sync makes it certain.
    fn home(&self) -> Id {
        match self {
            Self::Add { dir, .. } | Self::Remove { dir, .. } | Self::Move { to: (dir, _), .. } => *dir,
        }
    }

    fn touches(&self, dir: Id) -> bool {
        self.home() == dir || matches!(self, Self::Move { from: (from, _), .. } if *from == dir)
    }

    fn apply(&self, names: &mut BTreeMap<Id, Names>) {
        match self {
            Self::Add { dir, name, id } => {
                names.entry(*dir).or_default().insert(name.clone(), *id);
            }
            Self::Remove { dir, name } => {
                names.entry(*dir).or_default().remove(name);
            }
            Self::Move { from, to } => {
                if let Some(id) = names.entry(from.0).or_default().remove(&from.1) {
                    names.entry(to.0).or_default().insert(to.1.clone(), id);
                }
            }
        }
    }
}

impl Disk {
    /// An empty one that keeps its promises.
    #[must_use]
    pub fn honest() -> Self {
        Self::broken(|_name, _is_directory| false)
    }

    /// An empty one that does not.
    #[must_use]
    pub fn broken(ignores: Ignores) -> Self {
        Self {
            ignores,
            root: None,
            ids: BTreeMap::new(),
            objects: Vec::new(),
            synced: BTreeMap::new(),
            pending: Vec::new(),
        }
    }

    /// Does what was done. What concerns files that the recording does not know is left out: others made them.
    pub fn apply(&mut self, deed: &Deed) {
        match deed {
            Deed::Root(inode) => {
                if self.root.is_none() {
                    self.root = Some(self.make(*inode, "", DIRECTORY | 0o700));
                }
            }
            Deed::Create { dir, name, inode, mode } => {
                let id = self.make(*inode, name, *mode);
                if let Some(&dir) = self.ids.get(dir) {
                    self.pending.push(NameDeed::Add { dir, name: name.clone(), id });
                }
            }
            Deed::Link { dir, name, inode } => {
                if let (Some(&dir), Some(&id)) = (self.ids.get(dir), self.ids.get(inode)) {
                    self.pending.push(NameDeed::Add { dir, name: name.clone(), id });
                }
            }
            Deed::Unlink { dir, name } => {
                if let Some(&dir) = self.ids.get(dir) {
                    self.pending.push(NameDeed::Remove { dir, name: name.clone() });
                }
            }
            Deed::Rename { from, to } => {
                if let (Some(&old), Some(&new)) = (self.ids.get(&from.0), self.ids.get(&to.0)) {
                    self.pending.push(NameDeed::Move { from: (old, from.1.clone()), to: (new, to.1.clone()) });
                }
            }
            Deed::Write { inode, offset, bytes } => {
                let change = Change::Write { offset: *offset, bytes: bytes.clone() };
                self.object(*inode, |object| object.pending.push(change));
            }
            Deed::Truncate { inode, size } => self.object(*inode, |object| object.pending.push(Change::Size(*size))),
            Deed::Mode { inode, mode } => {
                self.object(*inode, |object| object.mode = object.mode & TYPE | mode & !TYPE);
            }
            Deed::Sync(inode) => self.sync(*inode),
        }
    }

    fn make(&mut self, inode: Inode, name: &str, mode: u32) -> Id {
        let id = self.objects.len();
        self.objects.push(Object { made_as: name.to_owned(), mode, ..Object::default() });
        self.ids.insert(inode, id);
        id
    }

    fn object(&mut self, inode: Inode, change: impl FnOnce(&mut Object)) {
        if let Some(object) = self.ids.get(&inode).and_then(|id| self.objects.get_mut(*id)) {
            change(object);
        }
    }

    fn sync(&mut self, inode: Inode) {
        let Some(&id) = self.ids.get(&inode) else { return };
        let object = &mut self.objects[id];
        let is_directory = object.mode & TYPE == DIRECTORY;
        if (self.ignores)(&object.made_as, is_directory) {
            return;
        }
        if is_directory {
            let wanted = (0..self.pending.len()).filter(|&at| self.pending[at].home() == id).collect();
            let settled = self.with_what_came_before(wanted);
            let mut at = 0;
            let Self { synced, pending, .. } = self;
            pending.retain(|deed| {
                let keep = !settled.contains(&at);
                at += 1;
                if !keep {
                    deed.apply(synced);
                }
                keep
            });
        } else {
            object.settle();
        }
    }

    /// Adds to `wanted`, places in `pending`, everything that was done before in the same directories.
    fn with_what_came_before(&self, wanted: BTreeSet<usize>) -> BTreeSet<usize> {
        let mut all = wanted.clone();
        // Backwards: whatever joins brings its own directories along for what is still ahead.
        let mut dirs = BTreeSet::new();
        for at in (0..self.pending.len()).rev() {
            let deed = &self.pending[at];
            if wanted.contains(&at) || dirs.iter().any(|dir| deed.touches(*dir)) {
                all.insert(at);
                dirs.insert(deed.home());
                if let NameDeed::Move { from: (from, _), .. } = deed {
                    dirs.insert(*from);
                }
            }
        }
        all
    }

    /// What the power cut leaves, by chance: for each directory a part of what was done there last, for each file a part of
    /// what was written last.
    #[must_use]
    pub fn cut(&self, rng: &mut impl Rng) -> Survivors {
        let dirs: BTreeSet<Id> = self.pending.iter().map(NameDeed::home).collect();
        let mut kept = BTreeSet::new();
        for dir in dirs {
            let deeds: Vec<usize> = (0..self.pending.len()).filter(|&at| self.pending[at].home() == dir).collect();
            let count = some(deeds.len(), rng);
            kept.extend(deeds.into_iter().take(count));
        }
        let mut names = self.synced.clone();
        for at in self.with_what_came_before(kept) {
            self.pending[at].apply(&mut names);
        }
        self.survivors(names, |object| object.cut(rng))
    }

    /// What is there while the power is on.
    #[must_use]
    pub fn seen(&self) -> Survivors {
        let mut names = self.synced.clone();
        self.pending.iter().for_each(|deed| deed.apply(&mut names));
        self.survivors(names, |object| object.at(object.pending.len()))
    }

    fn survivors(&self, names: BTreeMap<Id, Names>, mut content: impl FnMut(&Object) -> Vec<u8>) -> Survivors {
        let mut survivors = Survivors::default();
        let mut open: Vec<(PathBuf, Id)> = self.root.iter().map(|root| (PathBuf::new(), *root)).collect();
        while let Some((path, id)) = open.pop() {
            for (name, &id) in names.get(&id).into_iter().flatten() {
                let (path, object) = (path.join(name), &self.objects[id]);
                let permissions = object.mode & !TYPE;
                if object.mode & TYPE == DIRECTORY {
                    survivors.directories.insert(path.clone(), permissions);
                    open.push((path, id));
                } else {
                    survivors.files.insert(path, (permissions, content(object)));
                }
            }
        }
        survivors
    }
}

/// How many of `count` things come through: none, all or some, equally often.
fn some(count: usize, rng: &mut impl Rng) -> usize {
    match rng.next_u32() % 3 {
        0 => 0,
        1 => count,
        _ => below(count + 1, rng),
    }
}

/// A number below `limit`, which is not 0.
fn below(limit: usize, rng: &mut impl Rng) -> usize {
    usize::try_from(rng.next_u64() % limit as u64).expect("it is below a usize")
}

impl Object {
    /// Everything written so far is there for certain.
    fn settle(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.synced);
        }
    }

    /// The bytes after the first `count` changes.
    fn at(&self, count: usize) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        for change in &self.pending[..count] {
            change.apply(&mut bytes);
        }
        bytes
    }

    /// The bytes after a power cut.
    fn cut(&self, rng: &mut impl Rng) -> Vec<u8> {
        let count = self.pending.len();
        match rng.next_u32() % 4 {
            0 => self.at(0),
            1 => self.at(count),
            _ => self.mixed(rng),
        }
    }

    /// Each page as it was at some moment, and a size that the file had.
    fn mixed(&self, rng: &mut impl Rng) -> Vec<u8> {
        let mut size = self.synced.len() as u64;
        let mut sizes = vec![size];
        for change in &self.pending {
            size = change.size_after(size);
            sizes.push(size);
        }
        let size = sizes[below(sizes.len(), rng)];
        let mut bytes = vec![0; usize::try_from(size).expect("a recorded file fits into memory")];
        for start in (0..size).step_by(usize::try_from(PAGE).expect("a page is small")) {
            let end = size.min(start + PAGE);
            let changes: Vec<&Change> = self.pending.iter().filter(|change| change.touches(start, end)).collect();
            let whole = below(changes.len() + 1, rng);
            let torn = rng.next_u32().is_multiple_of(8);
            for sector in (start..end).step_by(usize::try_from(SECTOR).expect("a sector is small")) {
                let moment = if torn { below(changes.len() + 1, rng) } else { whole };
                let part = sector..end.min(sector + SECTOR);
                self.copy_at(&changes[..moment], part, &mut bytes);
            }
        }
        bytes
    }

    /// Fills `part` of `bytes` with what was there after `changes`.
    fn copy_at(&self, changes: &[&Change], part: std::ops::Range<u64>, bytes: &mut [u8]) {
        overlay(&self.synced, 0, &part, bytes);
        for change in changes {
            match change {
                Change::Write { offset, bytes: written } => overlay(written, *offset, &part, bytes),
                Change::Size(size) => {
                    let (from, to) = (part.start.max(*size), part.end);
                    for at in from..to {
                        bytes[usize::try_from(at).expect("it is in the file")] = 0;
                    }
                }
            }
        }
    }
}

/// Copies what of `source`, which begins at `offset` of a file, lies in `part` of it.
fn overlay(source: &[u8], offset: u64, part: &std::ops::Range<u64>, bytes: &mut [u8]) {
    let (from, to) = (part.start.max(offset), part.end.min(offset + source.len() as u64));
    if from < to {
        let index = |at: u64| usize::try_from(at).expect("it is in the file");
        bytes[index(from)..index(to)].copy_from_slice(&source[index(from - offset)..index(to - offset)]);
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        let size = usize::try_from(self.size_after(content.len() as u64)).expect("a recorded file fits into memory");
        content.resize(size, 0);
        if let Self::Write { offset, bytes } = self {
            overlay(bytes, *offset, &(0..size as u64), content);
        }
    }

    fn size_after(&self, before: u64) -> u64 {
        match self {
            Self::Write { offset, bytes } => before.max(offset + bytes.len() as u64),
            Self::Size(size) => *size,
        }
    }

    /// Whether it changes bytes between `start` and `end`.
    fn touches(&self, start: u64, end: u64) -> bool {
        match self {
            Self::Write { offset, bytes } => *offset < end && start < offset + bytes.len() as u64,
            Self::Size(size) => *size < end,
        }
    }
}

/// A directory tree, by path below its root.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Survivors {
    /// Directories and their permissions.
    pub directories: BTreeMap<PathBuf, u32>,
    /// Files, their permissions and bytes.
    pub files: BTreeMap<PathBuf, (u32, Vec<u8>)>,
}

impl Survivors {
    /// Makes what lies below `part` of the tree in `dir`, and says whether there is such a part.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn restore(&self, part: &Path, dir: &Path) -> Result<bool> {
        if !self.directories.contains_key(part) {
            return Ok(false);
        }
        let of_part = |path: &Path| path.strip_prefix(part).ok().map(|below| dir.join(below));
        let permit = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode));
        for (path, mode) in &self.directories {
            let Some(path) = of_part(path) else { continue };
            fs::create_dir_all(&path).and_then(|()| permit(&path, *mode)).context("make a directory again")?;
        }
        for (path, (mode, bytes)) in &self.files {
            let Some(path) = of_part(path) else { continue };
            fs::write(&path, bytes).and_then(|()| permit(&path, *mode)).context("write a file again")?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
