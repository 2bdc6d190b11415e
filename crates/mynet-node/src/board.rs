//! What is known of groups in flight: where waiting uploads look, and what `show` adds to the rows.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use mynet_proto::{
    consensus::io::{Outcome, Tally},
    replication::io::ReplicationStatus,
};
use mynet_types::GroupId;
use tokio::sync::watch;

use crate::view::{Wait, WaitResult};

/// Groups remembered at most; the oldest are forgotten first. The rows on disk stay.
const GROUPS_MAX: usize = 4096;

/// How far one group came since this node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Receipts on disk, as many as were ever seen.
    pub(crate) receipts: usize,
    /// The last try found too few nodes.
    pub(crate) not_enough_targets: bool,
    /// How far replication came.
    pub(crate) status: Option<ReplicationStatus>,
    /// How far the votes came.
    pub(crate) tally: Option<Tally>,
    /// A certificate is on disk.
    pub(crate) certified: bool,
    /// The version that is being certified for it, if a validator votes for another manifest of it.
    pub(crate) contested: Option<u64>,
    /// Order of first mention.
    age: u64,
}

impl Progress {
    /// So many receipts are on disk. Another transaction for the same group counts from none again.
    pub(crate) fn receive(&mut self, receipts: usize) {
        self.receipts = self.receipts.max(receipts);
    }

    /// Another version took the place: what was reached was of the one before.
    pub(crate) fn begin_anew(&mut self) {
        *self = Self { age: self.age, ..Self::default() };
    }

    /// What a wait for `wait` has reached, where success needs `need` receipts; `None` if it must go on.
    fn reached(&self, wait: Wait, need: usize) -> Option<WaitResult> {
        let durable = self.receipts >= need;
        let rejected = self.tally.is_some_and(|tally| tally.outcome == Outcome::Rejected);
        match wait {
            Wait::Stored => Some(WaitResult::Stored),
            Wait::Durable if durable => Some(WaitResult::Durable),
            Wait::Certified if durable && self.certified => Some(WaitResult::Certified),
            Wait::Certified if rejected => Some(WaitResult::Rejected),
            Wait::Durable | Wait::Certified if self.not_enough_targets => Some(WaitResult::NotEnoughTargets),
            Wait::Durable | Wait::Certified => None,
        }
    }
}

/// Progress of all groups in flight, and a bell that rings at every change.
#[derive(Debug)]
pub(crate) struct Board {
    groups: Mutex<Groups>,
    bell: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Groups {
    progress: BTreeMap<GroupId, Progress>,
    by_age: BTreeMap<u64, GroupId>,
    next_age: u64,
}

impl Board {
    /// An empty board.
    pub(crate) fn new() -> Self {
        Self { groups: Mutex::new(Groups::default()), bell: watch::Sender::new(0) }
    }

    /// Changes what is known of a group and wakes who waits.
    pub(crate) fn update(&self, group: GroupId, change: impl FnOnce(&mut Progress)) {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let next_age = groups.next_age;
        let entry = groups.progress.entry(group).or_insert_with(|| Progress { age: next_age, ..Progress::default() });
        change(entry);
        if entry.age == next_age {
            groups.by_age.insert(next_age, group);
            groups.next_age += 1;
        }
        if groups.progress.len() > GROUPS_MAX
            && let Some((_, oldest)) = groups.by_age.pop_first()
        {
            groups.progress.remove(&oldest);
        }
        drop(groups);
        self.bell.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// What is known of a group since this node started.
    pub(crate) fn get(&self, group: &GroupId) -> Progress {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.progress.get(group).copied().unwrap_or_default()
    }

    /// Rings at every change from now on.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.bell.subscribe()
    }

    /// Waits until a group has come as far as `wait` with `need` receipts, or cannot now. Never ends by itself otherwise.
    pub(crate) async fn wait(&self, group: &GroupId, wait: Wait, need: usize) -> WaitResult {
        let mut bell = self.changes();
        loop {
            bell.mark_unchanged();
            if let Some(result) = self.get(group).reached(wait, need) {
                return result;
            }
            if bell.changed().await.is_err() {
                return WaitResult::TimedOut;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::GroupId;

    use super::{Board, GROUPS_MAX, Progress};
    use crate::view::{Wait, WaitResult};

    #[tokio::test]
    async fn a_wait_ends_when_its_goal_is_reached_and_not_before() {
        let board = std::sync::Arc::new(Board::new());
        let group = GroupId([1; 32]);
        let waiting = tokio::spawn({
            let board = board.clone();
            async move { board.wait(&group, Wait::Certified, 2).await }
        });
        board.update(group, |progress| progress.receive(2));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        board.update(group, |progress| progress.certified = true);
        assert_eq!(waiting.await.unwrap(), WaitResult::Certified);
    }

    #[test]
    fn receipts_for_a_quorum_are_no_success_where_every_copy_is_wanted() {
        let mut progress = Progress::default();
        progress.receive(2);
        assert_eq!(progress.reached(Wait::Durable, 2), Some(WaitResult::Durable));
        assert_eq!(progress.reached(Wait::Durable, 3), None);
        progress.not_enough_targets = true;
        assert_eq!(progress.reached(Wait::Durable, 3), Some(WaitResult::NotEnoughTargets));
        progress.receive(1);
        assert_eq!(progress.receipts, 2, "a new transaction that counts again takes nothing back");
        progress.receive(3);
        assert_eq!(progress.reached(Wait::Durable, 3), Some(WaitResult::Durable));
    }

    #[test]
    fn the_board_forgets_the_oldest_groups_first() {
        let board = Board::new();
        for n in 0..=GROUPS_MAX {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(n as u64).to_be_bytes());
            board.update(GroupId(id), |progress| progress.receive(2));
        }
        assert_eq!(board.get(&GroupId([0; 32])).receipts, 0);
        assert_eq!(board.groups.lock().unwrap().progress.len(), GROUPS_MAX);
    }
}
