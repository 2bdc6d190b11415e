//! What all tasks of one transport share, and the register of peers.
//!
//! A peer is registered when it is first asked for or lets itself in; both need the door's word, so the register is
//! bounded by the nodes ever admitted. It is never taken out: an entry without a connection is a few hundred bytes and
//! two parked tasks.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use iroh::Endpoint;
use mynet_types::{NetworkId, NodeId};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    NetEvent,
    book::Book,
    config::Limits,
    courier,
    gate::Gate,
    peer::{Actor, Peer},
    service::{Door, Service},
    stats::Counters,
};

/// Everything that tasks need, and nothing that changes but through its own lock.
pub(crate) struct Shared {
    pub(crate) endpoint: Endpoint,
    pub(crate) me: NodeId,
    /// Drawn at the start; tells this start of the program from the one before.
    pub(crate) instance: u64,
    pub(crate) network_id: NetworkId,
    pub(crate) main_alpn: Vec<u8>,
    pub(crate) limits: Limits,
    pub(crate) door: Arc<dyn Door>,
    pub(crate) service: Arc<dyn Service>,
    pub(crate) book: Book,
    pub(crate) gate: Gate,
    pub(crate) counters: Arc<Counters>,
    /// One permit per connection, in and out.
    pub(crate) places: Arc<Semaphore>,
    /// One permit per KiB of request bodies being read.
    pub(crate) bodies: Arc<Semaphore>,
    pub(crate) events: mpsc::Sender<NetEvent>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    pub(crate) peers: Mutex<BTreeMap<NodeId, Arc<Peer>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("me", &self.me).finish_non_exhaustive()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Arc<Peer>>> {
        // A panic under this lock cannot leave the map half changed: every change is one call.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entry of `node`, made with its two tasks if there is none. The door has admitted it.
    pub(crate) fn peer(self: &Arc<Self>, node: NodeId) -> Arc<Peer> {
        let mut peers = self.lock();
        if let Some(peer) = peers.get(&node) {
            return Arc::clone(peer);
        }
        let (peer, inbox) = Peer::new(node, &self.limits);
        peers.insert(node, Arc::clone(&peer));
        let actor = Actor::new(Arc::clone(self), Arc::clone(&peer), inbox.live);
        self.tasks.spawn(actor.run(inbox.commands));
        self.tasks.spawn(courier::run(Arc::clone(self), Arc::clone(&peer), inbox.parcels));
        peer
    }

    /// The entry of `node`, if there is one.
    pub(crate) fn known(&self, node: &NodeId) -> Option<Arc<Peer>> {
        self.lock().get(node).cloned()
    }

    /// Every entry, by node.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        self.lock().values().cloned().collect()
    }

    /// Keeps connections to exactly `wanted` alive, as far as the door admits them; all entries look at the door again.
    pub(crate) fn keep(self: &Arc<Self>, wanted: &BTreeSet<NodeId>) {
        for node in wanted.iter().filter(|node| **node != self.me && self.door.is_admitted(node)) {
            self.peer(*node);
        }
        for peer in self.all() {
            peer.keep(wanted.contains(&peer.node));
        }
    }

    /// Closes idle connections above the limit, least recently used first. Peers that are kept do not count.
    pub(crate) fn trim(&self) {
        let mut idle: Vec<_> = self.all().into_iter().filter(|peer| peer.is_spare()).collect();
        let excess = idle.len().saturating_sub(self.limits.idle_connections);
        if excess > 0 {
            idle.sort_by_key(|peer| peer.last_used());
            idle.iter().take(excess).for_each(|peer| peer.evict());
        }
    }
}
