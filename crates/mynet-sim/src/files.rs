//! Model of the blob files of one node: what is there, what was fsynced, and what waits to be unlinked.
//!
//! A file is named by its hash and is whole or not there. Who needs it, a visible group or an open transaction, is for the
//! metadata store to say; what nobody needs any more is *doomed* with the record that says so, and unlinked a little later by the
//! collector, which looks again first: the same bytes may have been staged anew meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use mynet_types::{BlobRef, ContentHash};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    bytes: u64,
    /// Whether it outlives a crash.
    synced: bool,
}

/// All blob files of one node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    files: BTreeMap<ContentHash, File>,
    doomed: BTreeSet<ContentHash>,
}

impl Files {
    /// A blob is complete under its name.
    pub(crate) fn put(&mut self, blob: &BlobRef, synced: bool) {
        let file = self.files.entry(blob.sha256).or_insert(File { bytes: blob.size, synced });
        file.synced |= synced;
    }

    /// Whether a blob is there in full.
    pub(crate) fn has(&self, blob: &BlobRef) -> bool {
        self.files.get(&blob.sha256).is_some_and(|file| file.bytes == blob.size)
    }

    /// Names of all files.
    pub(crate) fn names(&self) -> impl Iterator<Item = &ContentHash> {
        self.files.keys()
    }

    /// Nobody seems to need these any more.
    pub(crate) fn doom(&mut self, blobs: impl IntoIterator<Item = ContentHash>) {
        self.doomed.extend(blobs);
    }

    /// Whether a file waits for the collector.
    pub(crate) fn is_doomed(&self, name: &ContentHash) -> bool {
        self.doomed.contains(name)
    }

    /// Whether anything waits for the collector.
    pub(crate) fn awaits_collection(&self) -> bool {
        !self.doomed.is_empty()
    }

    /// Unlinks what is doomed and not `pinned` again. Says how many files were spared because they are.
    pub(crate) fn collect(&mut self, pinned: &BTreeSet<ContentHash>) -> usize {
        let mut spared = 0;
        for name in std::mem::take(&mut self.doomed) {
            if pinned.contains(&name) && !mynet_types::planted!(CollectWithoutRecheck) {
                spared += 1;
            } else {
                self.files.remove(&name);
            }
        }
        spared
    }

    /// The sweep at start: whatever is not `pinned` goes.
    pub(crate) fn sweep(&mut self, pinned: &BTreeSet<ContentHash>) {
        self.doomed.clear();
        self.files.retain(|name, _| pinned.contains(name));
    }

    /// The machine dies: some of what was not fsynced is gone. Says how many files are.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) -> usize {
        let before = self.files.len();
        self.files.retain(|_, file| file.synced || rng.random());
        before - self.files.len()
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{Blake3Root, BlobRef, ContentHash};
    use rand::SeedableRng;

    use super::{ChaCha8Rng, Files};

    fn blob(name: u8) -> BlobRef {
        BlobRef { sha256: ContentHash([name; 32]), blake3: Blake3Root([0; 32]), size: 5 }
    }

    #[test]
    fn the_collector_spares_what_is_pinned_again() {
        let mut files = Files::default();
        (0..2).for_each(|name| files.put(&blob(name), true));
        files.doom([blob(0).sha256, blob(1).sha256]);
        assert_eq!(files.collect(&[blob(0).sha256].into()), 1);
        assert!(files.has(&blob(0)) && !files.has(&blob(1)) && !files.awaits_collection());
    }

    #[test]
    fn a_crash_takes_files_that_were_not_fsynced() {
        let mut files = Files::default();
        (0..100).for_each(|name| files.put(&blob(name), name % 2 == 0));
        let lost = files.crash(&mut ChaCha8Rng::seed_from_u64(1));
        assert!((1..50).contains(&lost) && files.names().count() == 100 - lost);
        assert!((0..50).all(|name| files.has(&blob(2 * name))), "what was fsynced stays");
    }
}
