//! One simulated machine: a core that may be down, two disks, clocks, and staging that runs.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::replication::exchange::Exchange;
use mynet_types::{NodeId, StatesMask, TxId, wire::Prepare};

use crate::{
    clock::Clock, disk::Disk, group_store::GroupStore, machine::Machine, succession::Unwritten, vote_store::VoteStore,
};

/// One node and everything it stands on.
#[derive(Debug)]
pub(crate) struct Host {
    /// Its id.
    pub(crate) id: NodeId,
    /// The core; none while the node is down.
    pub(crate) machine: Option<Box<dyn Machine>>,
    /// How often it was started; what was scheduled for an earlier start is stale.
    pub(crate) boot: u64,
    /// Whether it has joined the network.
    pub(crate) joined: bool,
    /// Whether it was given up: it starts no more, unless it turns up again.
    pub(crate) lost: bool,
    /// Its clocks.
    pub(crate) clock: Clock,
    /// Its vote store.
    pub(crate) votes: Disk<VoteStore>,
    /// What the vote store held when the node was last started: a backup that somebody may put back.
    pub(crate) votes_backup: VoteStore,
    /// Its metadata store and blobs.
    pub(crate) groups: Disk<GroupStore>,
    /// Dies while its next batch is being written, and stays down for so many milliseconds.
    pub(crate) doomed: Option<u64>,
    /// Dies when it has sent some of the messages that it has to send at once, and not the others.
    pub(crate) doomed_sending: Option<u64>,
    /// What the driver writes by itself and is not on disk.
    pub(crate) driver: Unwritten,
    /// Stagings that run.
    pub(crate) jobs: BTreeMap<TxId, Job>,
    /// Peers it was told it can reach, since it started.
    pub(crate) up: BTreeSet<usize>,
    /// Whom it asks what was deleted; the daemon's shell keeps the same beside its core.
    pub(crate) exchange: Exchange,
    /// Nodes it knows to be admitted; kept over restarts.
    pub(crate) admitted: BTreeSet<usize>,
}

/// One staging that runs.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) prepare: Prepare,
    pub(crate) states: StatesMask,
    pub(crate) bytes: u64,
    /// Ticks since the last byte came.
    pub(crate) idle: u32,
    /// Told how it will end when it does not end well.
    pub(crate) fails: Option<mynet_types::wire::RefuseReason>,
    /// It will say that it has fewer states than were asked for.
    pub(crate) in_part: bool,
}

impl Host {
    /// A node that has not been started.
    pub(crate) fn new(id: NodeId, founder_secret: Option<[u8; 32]>, drift_ppm: i64) -> Self {
        Self {
            id,
            machine: None,
            boot: 0,
            joined: false,
            lost: false,
            clock: Clock::new(drift_ppm),
            votes: Disk::new(VoteStore::new(founder_secret)),
            votes_backup: VoteStore::default(),
            groups: Disk::new(GroupStore::new(id)),
            doomed: None,
            doomed_sending: None,
            driver: Unwritten::new(),
            jobs: BTreeMap::new(),
            up: BTreeSet::new(),
            exchange: Exchange::default(),
            admitted: BTreeSet::new(),
        }
    }

    /// Whether the node runs.
    pub(crate) fn is_up(&self) -> bool {
        self.machine.is_some()
    }
}
