//! What is known of groups in flight: where waiting uploads look, and what `show` adds to the rows.
//!
//! **Invariant:** what one version of a group reached answers no wait for another. Cores and certificates still tell of the version
//! before when a new one has taken its place, and votes are counted for the next one before it is seen.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use mynet_proto::{
    consensus::io::{Outcome, Tally},
    replication::io::ReplicationStatus,
};
use mynet_types::{GroupId, ManifestHash};
use tokio::sync::watch;

use crate::view::{Wait, WaitResult};

/// Groups remembered at most; the oldest are forgotten first. The rows on disk stay.
const GROUPS_MAX: usize = 4096;

/// How far the version of a group that is seen here came since this node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The version, by its manifest, once anything was told of it.
    value: Option<ManifestHash>,
    /// Receipts on disk, as many as were ever seen.
    pub(crate) receipts: usize,
    /// The last try found too few nodes.
    pub(crate) not_enough_targets: bool,
    /// How far replication came.
    pub(crate) status: Option<ReplicationStatus>,
    /// How far the votes came about the last two values that were voted on: the version that is seen, and the next one.
    tallies: [Option<(ManifestHash, Tally)>; 2],
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
        *self = Self { age: self.age, tallies: self.tallies, ..Self::default() };
    }

    /// From now on it is about the version `value`.
    pub(crate) fn turn_to(&mut self, value: ManifestHash) {
        if !self.is_of(value) {
            self.begin_anew();
            self.value = Some(value);
        }
    }

    /// Whether it is about the version `value`. The first that is told of a group is about the one that is seen.
    pub(crate) fn is_of(&mut self, value: ManifestHash) -> bool {
        *self.value.get_or_insert(value) == value
    }

    /// So many votes came about `value`.
    pub(crate) fn count(&mut self, value: ManifestHash, tally: Tally) {
        let [newest, before] = &mut self.tallies;
        if newest.is_some_and(|(counted, _)| counted != value) {
            *before = *newest;
        }
        *newest = Some((value, tally));
    }

    /// How far the votes about `value` came.
    pub(crate) fn tally_of(&self, value: &ManifestHash) -> Option<Tally> {
        self.tallies.iter().flatten().find(|(counted, _)| counted == value).map(|(_, tally)| *tally)
    }

    /// How far the votes about another value than `value` came: about the version after it.
    pub(crate) fn tally_beside(&self, value: &ManifestHash) -> Option<Tally> {
        self.tallies.iter().flatten().find(|(counted, _)| counted != value).map(|(_, tally)| *tally)
    }

    /// What a wait for `wait` has reached, where success needs `need` receipts; `None` if it must go on.
    fn reached(&self, wait: Wait, need: usize) -> Option<WaitResult> {
        let durable = self.receipts >= need;
        let tally = self.value.and_then(|value| self.tally_of(&value));
        let rejected = tally.is_some_and(|tally| tally.outcome == Outcome::Rejected);
        match wait {
            Wait::Stored => Some(WaitResult::Stored),
            Wait::Durable if durable => Some(WaitResult::Durable),
            Wait::Certified if durable && self.certified => Some(WaitResult::Certified),
            // Nobody takes a copy any more.
            Wait::Durable | Wait::Certified if rejected => Some(WaitResult::Rejected),
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
    use mynet_proto::{
        consensus::{
            self,
            io::{Outcome, Tally},
        },
        node::io::Event,
        replication::{self, io::ReplicationStatus},
    };
    use mynet_types::{BoundedVec, Claim, GroupId, ManifestHash, Signed, StorageReceipt, Timestamp, rpc::GroupKey};

    use super::{Board, GROUPS_MAX, Progress};
    use crate::{
        testing::Founder,
        view::{Wait, WaitResult},
    };

    fn tally(outcome: Outcome) -> Tally {
        Tally { outcome, accepts: 0, rejects: 0, quorum: 3, validators: 3 }
    }

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
    fn a_version_that_takes_the_place_begins_anew_and_the_votes_about_each_are_kept_apart() {
        let [first, next, third] = [1, 2, 3].map(|n| ManifestHash([n; 32]));
        let mut progress = Progress::default();
        assert!(progress.is_of(first), "the first that is told of is the one that is seen");
        progress.receive(3);
        progress.certified = true;
        progress.count(first, tally(Outcome::Approved));
        progress.count(next, tally(Outcome::Rejected));
        assert_eq!(progress.tally_beside(&first), Some(tally(Outcome::Rejected)));
        // A no to the next version is none to the one that is seen.
        assert_eq!(progress.reached(Wait::Certified, 3), Some(WaitResult::Certified));
        assert_eq!(progress.reached(Wait::Certified, 4), None);
        progress.turn_to(first);
        assert_eq!(progress.receipts, 3, "it is about this version already");

        progress.turn_to(third);
        assert!(!progress.is_of(first));
        assert_eq!((progress.receipts, progress.certified), (0, false));
        assert_eq!(progress.reached(Wait::Durable, 1), None);
        progress.count(third, tally(Outcome::Rejected));
        for wait in [Wait::Durable, Wait::Certified] {
            assert_eq!(progress.reached(wait, 1), Some(WaitResult::Rejected), "nobody takes a copy any more");
        }
        assert_eq!((progress.tally_of(&first), progress.tally_of(&third)), (None, Some(tally(Outcome::Rejected))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_told_of_another_version_answers_no_wait() {
        let founder = Founder::start().await;
        let shell = founder.shell();
        let group_id = founder.add(b"content", |_| ()).await;
        let (group, _) = shell.meta.group(&GroupKey::Group(group_id)).await.unwrap().unwrap();
        let (seen, other) = (group.manifest_hash, ManifestHash([9; 32]));
        let came = |manifest_hash| {
            let receipt = StorageReceipt {
                manifest_hash,
                states: group.manifest.body.states(),
                holder: shell.me(),
                until: Timestamp(u64::MAX),
            };
            let receipts = BoundedVec::truncated([Signed::new(&shell.network, receipt, shell.keys.node())]);
            let status = ReplicationStatus::Replicating;
            let told = replication::io::Event::Progress { group_id, manifest_hash, status, receipts };
            shell.event(Event::Replication(told));
        };
        let voted = |manifest_hash| {
            let (claim, tally) = (Claim::Durable, tally(Outcome::Rejected));
            shell.event(Event::Consensus(consensus::io::Event::Progress { group_id, manifest_hash, claim, tally }));
        };
        let reached = |wait| shell.board.get(&group_id).reached(wait, 1);
        // The core still tells of the version before, and asks for votes about the next.
        came(other);
        shell.board.update(group_id, |progress| progress.turn_to(seen));
        came(other);
        voted(other);
        assert_eq!((reached(Wait::Durable), reached(Wait::Certified)), (None, None));
        came(seen);
        assert_eq!((reached(Wait::Durable), reached(Wait::Certified)), (Some(WaitResult::Durable), None));
        voted(seen);
        assert_eq!(reached(Wait::Certified), Some(WaitResult::Rejected));
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
