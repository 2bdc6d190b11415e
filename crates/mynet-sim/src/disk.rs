//! A simulated disk: batches are written in order, late, and a crash loses those that were not acknowledged.
//!
//! A batch is one transaction of the store below: it is on disk wholly or not at all, and never before the batches
//! that were written before it. What a crash leaves of the unacknowledged ones is therefore a prefix, drawn at random:
//! a batch may well be on disk although nobody was told.

use std::collections::VecDeque;

use mynet_proto::persist::PersistId;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What a disk keeps: the model of one store.
pub(crate) trait Store {
    /// One change.
    type Record;

    /// Applies one change.
    ///
    /// # Errors
    /// Says which rule of the store the change breaks; the store refused it then.
    fn apply(&mut self, record: &Self::Record) -> Result<(), String>;
}

/// One batch: its name and its records.
pub(crate) type Batch<R> = (PersistId, Vec<R>);

/// A store behind a queue of unacknowledged batches.
#[derive(Debug)]
pub(crate) struct Disk<S: Store> {
    /// What is on disk.
    pub(crate) store: S,
    pending: VecDeque<Batch<S::Record>>,
    /// The oldest batch that could not be written; those after it were never begun.
    failed: Option<PersistId>,
    /// When the newest batch will be on disk; the next one comes no earlier.
    busy_until: u64,
}

/// What a crash did to unacknowledged batches.
#[derive(Debug)]
pub(crate) struct Loss<R> {
    /// Batches that are on disk all the same.
    pub(crate) kept: Vec<Vec<R>>,
    /// Batches of which nothing is on disk.
    pub(crate) lost: Vec<Vec<R>>,
}

impl<S: Store> Disk<S> {
    /// A disk that holds `store`.
    pub(crate) fn new(store: S) -> Self {
        Self { store, pending: VecDeque::new(), failed: None, busy_until: 0 }
    }

    /// Takes a batch that needs `delay` ms and tells when it will be on disk.
    pub(crate) fn write(&mut self, (id, records): Batch<S::Record>, now: u64, delay: u64) -> u64 {
        self.busy_until = self.busy_until.max(now + delay);
        self.pending.push_back((id, records));
        self.busy_until
    }

    /// The newest batch cannot be written: no space, or a bad disk. Its node has to stop.
    pub(crate) fn fail(&mut self) {
        if self.failed.is_none() {
            self.failed = self.pending.back().map(|(id, _)| *id);
        }
    }

    /// Whether a batch could not be written since the node started.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    /// Batches that are not on disk.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &[S::Record]> {
        self.pending.iter().map(|(_, records)| records.as_slice())
    }

    /// The store as it will be when every batch is on disk.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub(crate) fn all_written(&self) -> Result<S, String>
    where
        S: Clone,
    {
        let mut store = self.store.clone();
        self.pending().flatten().try_for_each(|record| store.apply(record))?;
        Ok(store)
    }

    /// The oldest batch is on disk now.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub(crate) fn complete(&mut self) -> Result<Option<Batch<S::Record>>, String> {
        let failed = self.failed;
        let Some((id, records)) = self.pending.pop_front_if(|(id, _)| Some(*id) != failed) else { return Ok(None) };
        records.iter().try_for_each(|record| self.store.apply(record))?;
        Ok(Some((id, records)))
    }

    /// The node dies. What is on disk all the same is to be put there with [`Self::keep`], batch by batch.
    pub(crate) fn crash(&mut self, rng: &mut ChaCha8Rng) -> Loss<S::Record> {
        let failed = self.failed.take();
        let whole = self.pending.iter().position(|(id, _)| Some(*id) == failed).unwrap_or(self.pending.len());
        let kept = rng.random_range(0..=whole);
        let kept: Vec<_> = self.pending.drain(..kept).map(|(_, records)| records).collect();
        let lost = self.pending.drain(..).map(|(_, records)| records).collect();
        self.busy_until = 0;
        Loss { kept, lost }
    }

    /// A batch that a crash did not lose is on disk.
    ///
    /// # Errors
    /// As [`Store::apply`].
    pub(crate) fn keep(&mut self, records: &[S::Record]) -> Result<(), String> {
        records.iter().try_for_each(|record| self.store.apply(record))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{ChaCha8Rng, Disk, PersistId, Store};

    struct Numbers(Vec<u32>);

    impl Store for Numbers {
        type Record = u32;

        fn apply(&mut self, record: &u32) -> Result<(), String> {
            self.0.push(*record);
            Ok(())
        }
    }

    #[test]
    fn a_crash_keeps_a_prefix_of_whole_batches() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let mut disk = Disk::new(Numbers(Vec::new()));
            for batch in 0..4 {
                disk.write((PersistId(u64::from(batch)), vec![2 * batch, 2 * batch + 1]), 0, 1);
            }
            disk.complete().unwrap();
            let loss = disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
            loss.kept.iter().try_for_each(|records| disk.keep(records)).unwrap();
            let on_disk = &disk.store.0;
            assert_eq!(*on_disk, (0..u32::try_from(on_disk.len()).unwrap()).collect::<Vec<_>>());
            assert_eq!(on_disk.len(), 2 + 2 * loss.kept.len());
            assert_eq!(loss.kept.len() + loss.lost.len(), 3);
            lengths.insert(on_disk.len());
        }
        assert_eq!(lengths.len(), 4, "every prefix occurs");
    }

    #[test]
    fn neither_a_batch_that_failed_nor_a_later_one_is_ever_on_disk() {
        for seed in 0..50 {
            let mut disk = Disk::new(Numbers(Vec::new()));
            for batch in 0..4 {
                disk.write((PersistId(u64::from(batch)), vec![batch]), 0, 1);
                if batch == 1 {
                    disk.fail();
                }
            }
            assert!(disk.complete().unwrap().is_some() && disk.complete().unwrap().is_none());
            let loss = disk.crash(&mut ChaCha8Rng::seed_from_u64(seed));
            assert_eq!((disk.store.0, loss.kept.len()), (vec![0], 0));
        }
    }

    #[test]
    fn a_batch_is_never_on_disk_before_an_older_one() {
        let mut disk = Disk::new(Numbers(Vec::new()));
        assert_eq!(disk.write((PersistId(1), vec![1]), 10, 100), 110);
        assert_eq!(disk.write((PersistId(2), vec![2]), 20, 1), 110);
    }
}
