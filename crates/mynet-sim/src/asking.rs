//! Questions and answers beside the core: what the daemon's shell asks of its peers by request.
//!
//! Only what was deleted is asked for (`mynet_proto::replication::exchange`, which decides whom and from where on). Requests
//! travel on the links of messages, and one that gets no answer fails after a while.

use mynet_proto::{node::io::Input, replication::exchange::Page};
use mynet_types::{Message, ReplicationMessage};

use crate::{
    network::Fate,
    sometimes::{Fault as Broken, Rare},
    world::{Happening, World},
};

/// When a request without an answer fails, as in the daemon.
const PATIENCE_MS: u64 = 10_000;

/// A request that is open: who asks in which of its starts, and whom.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request {
    pub(crate) from: usize,
    pub(crate) boot: u64,
    pub(crate) to: usize,
}

impl World {
    /// How often all peers are asked. The daemon asks hourly, which no run waits for, so here it is as often as leases are long.
    pub(crate) fn asks_again(&mut self, node: usize) {
        let interval = u64::try_from(self.options.lease.as_millis()).unwrap_or(u64::MAX);
        self.queue.push(self.now + interval, Happening::AskAll { node, boot: self.hosts[node].boot });
    }

    /// A node asks every peer that it reaches.
    pub(crate) fn ask_all(&mut self, node: usize) {
        let up: Vec<_> = self.hosts[node].up.iter().map(|peer| self.hosts[*peer].id).collect();
        self.hosts[node].exchange.ask(up);
        self.ask_next(node);
        self.asks_again(node);
    }

    /// A node asks its next question, if none is open.
    pub(crate) fn ask_next(&mut self, node: usize) {
        if !self.options.suite.replicates() {
            return;
        }
        let Some(question) = self.hosts[node].exchange.next_question() else { return };
        let Some(to) = self.cast.index_of(&question.peer) else { return };
        let request = Request { from: node, boot: self.hosts[node].boot, to };
        match self.travels(node, to) {
            Some(delay) => self.queue.push(self.now + delay, Happening::Asked { request, seq: question.seq }),
            None => self.queue.push(self.now + PATIENCE_MS, Happening::Answered { request, page: None }),
        }
    }

    /// How long one direction of a request takes, or none if it is lost. A stream delivers once and unchanged.
    fn travels(&mut self, from: usize, to: usize) -> Option<u64> {
        match self.network.carry(&mut self.rng, from, to) {
            Fate::Cut => self.counts.fault(Broken::Cut),
            Fate::Lost => self.counts.fault(Broken::Lost),
            Fate::Changed(_) => self.counts.fault(Broken::Changed),
            Fate::Arrives(delay) | Fate::Twice(delay, _) => return Some(delay),
            Fate::Stalled(delay) => return Some(delay.min(PATIENCE_MS)),
        }
        None
    }

    /// A question arrives, and is answered from what is on disk.
    pub(crate) fn asked(&mut self, request: Request, seq: u64) {
        let page = self.hosts[request.to].is_up().then(|| self.hosts[request.to].groups.store.tombstones_after(seq));
        let back = page.and_then(|page| Some((self.travels(request.to, request.from)?, page)));
        let (delay, page) = back.map_or((PATIENCE_MS, None), |(delay, page)| (delay, Some(page)));
        self.queue.push(self.now + delay, Happening::Answered { request, page });
    }

    /// An answer arrives, or will not: what was told goes through the core, and the next question leaves.
    pub(crate) fn answered(&mut self, request: Request, page: Option<Page>) {
        let host = &mut self.hosts[request.from];
        let told = match page {
            Some(page) => host.exchange.answered(page),
            None => {
                host.exchange.failed();
                None
            }
        };
        if let Some(told) = told {
            self.count_learned(request.from, &told);
            let message = Message::Replication(told);
            self.step(request.from, Input::Message { from: self.hosts[request.to].id, message });
        }
        self.ask_next(request.from);
    }

    /// Whether a node shows what it learns to be deleted: nobody else would have told it.
    fn count_learned(&mut self, node: usize, told: &ReplicationMessage) {
        let ReplicationMessage::Tombstones(tombstones) = told else { return };
        let store = &self.hosts[node].groups.store;
        let shows = |group| store.rows().any(|row| row.manifest.body.group_id == group);
        if tombstones.iter().any(|tombstone| shows(tombstone.body.group_id)) {
            self.counts.met(Rare::DeletionLearnedByAsking);
        }
    }
}
