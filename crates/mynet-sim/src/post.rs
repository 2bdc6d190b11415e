//! The post of the simulated world: what becomes of a message between the node that sends it and the one that it is for.

use mynet_proto::node::io::Input;
use mynet_types::{
    ConsensusMessage, Decision, Domain, Message, NodeId, ReplicationMessage, Signed, TxId, codec, signing,
};
#[cfg(planted)]
use mynet_types::{Phase, planted::Bug};
use rand::RngExt;

use crate::{
    group_store::GroupStore,
    network::Fate,
    observe::Seen,
    sometimes::{Fault as Broken, Rare},
    world::{Happening, Parcel, World},
};

/// Size of one message at most; above the largest legal one, the certificate file.
const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Messages remembered for replays.
const PAST_MAX: usize = 64;
/// How late a replay is at most.
const REPLAY_MS_MAX: u64 = 30_000;
/// How long the collector waits at most.
const COLLECT_MS_MAX: u64 = 10_000;

/// Whether a message to a participant is about a transaction that is over there, or asks for what it did already.
fn is_settled(message: &ReplicationMessage, store: &GroupStore) -> bool {
    match message {
        ReplicationMessage::Prepare(prepare) => {
            let open = store.intents().find(|(tx, _)| **tx == prepare.tx);
            store.is_over(&prepare.tx) || open.is_some_and(|(_, intent)| intent.prepare.attempt >= prepare.attempt)
        }
        ReplicationMessage::Decision(decision) => store.is_over(&decision.body.tx),
        ReplicationMessage::LeaseRenew { tx, .. } | ReplicationMessage::Status { tx, .. } => store.is_over(tx),
        _ => false,
    }
}

/// Whether all that matters in a message is under signatures, so that a changed one can do no harm whoever brings it.
fn proves_itself(message: &Message) -> bool {
    match message {
        Message::Consensus(message) => matches!(
            message,
            ConsensusMessage::Vote(_)
                | ConsensusMessage::Certified(_)
                | ConsensusMessage::Evidence(_)
                | ConsensusMessage::RosterLinks(_)
        ),
        Message::Replication(message) => {
            matches!(message, ReplicationMessage::Decision(_) | ReplicationMessage::Receipts { .. })
        }
        Message::Membership(_) => false,
    }
}

/// Whether a planted bug keeps a message from leaving.
#[cfg(planted)]
fn is_swallowed(message: &Message) -> bool {
    let unsent = match message {
        Message::Consensus(ConsensusMessage::Vote(vote)) if vote.statement.phase == Phase::Ack => {
            &[Bug::VotesUnsent, Bug::AcksUnsent][..]
        }
        Message::Consensus(ConsensusMessage::Vote(_)) => &[Bug::VotesUnsent],
        Message::Consensus(ConsensusMessage::Evidence(_)) => &[Bug::EvidenceUnsent],
        Message::Replication(ReplicationMessage::Decision(_) | ReplicationMessage::Status { .. }) => {
            &[Bug::DecisionsUnsent]
        }
        _ => &[],
    };
    unsent.iter().any(|bug| mynet_types::planted::is_active(*bug))
}

/// Every message leaves.
#[cfg(not(planted))]
fn is_swallowed(_message: &Message) -> bool {
    false
}

impl World {
    /// A message leaves a node.
    pub(crate) fn send(&mut self, from: usize, to: NodeId, message: &Message) {
        if is_swallowed(message) {
            return;
        }
        self.see(&Seen::Sent { from, to, message });
        let Some(index) = self.cast.index_of(&to).filter(|index| *index != from) else {
            self.violate("rig", format!("n{from} sends to {to}, which is itself or nobody"));
            return;
        };
        if let Message::Replication(ReplicationMessage::Decision(decision)) = message {
            // The first one is that on the lowest attempt.
            self.decisions.entry(decision.body.tx).or_insert_with(|| decision.clone());
        }
        let bytes = codec::encode(message);
        match self.network.carry(&mut self.rng, from, index) {
            Fate::Cut => return self.counts.fault(Broken::Cut),
            Fate::Lost => return self.counts.fault(Broken::Lost),
            Fate::Changed(delay) => {
                let changed = self.change(bytes);
                return self.queue.push(self.now + delay, Happening::Changed((from, index, changed)));
            }
            Fate::Arrives(delay) => self.queue.push(self.now + delay, Happening::Deliver((from, index, bytes))),
            Fate::Stalled(delay) => {
                self.counts.fault(Broken::Stalled);
                self.queue.push(self.now + delay, Happening::Deliver((from, index, bytes)));
            }
            Fate::Twice(first, second) => {
                self.counts.fault(Broken::Duplicated);
                self.queue.push(self.now + second, Happening::Deliver((from, index, bytes.clone())));
                self.queue.push(self.now + first, Happening::Deliver((from, index, bytes)));
            }
        }
        if let Message::Replication(ReplicationMessage::Prepared { tx, attempt, manifest_hash, .. }) = message {
            self.maybe_relay_old(from, (*tx, *attempt));
            self.maybe_forge(from, *tx);
            self.maybe_decide_invented(from, (*tx, *attempt), *manifest_hash);
            self.maybe_relay_late(from, *tx);
        }
        if let Message::Replication(ReplicationMessage::Prepare(prepare)) = message {
            self.maybe_invent(index, prepare);
            self.maybe_come_late(from, index, prepare);
        }
    }

    /// Changes one byte of a message.
    fn change(&mut self, mut bytes: Vec<u8>) -> Vec<u8> {
        self.counts.fault(Broken::Changed);
        let place = self.rng.random_range(0..bytes.len());
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= self.rng.random_range(1..=u8::MAX);
        }
        bytes
    }

    /// A member passes on the decision on an earlier attempt, which it heard of somehow; anybody may.
    fn maybe_relay_old(&mut self, to: usize, (tx, attempt): (TxId, u32)) {
        let Some(decision) = self.decisions.get(&tx).filter(|old| old.body.attempt < attempt).cloned() else {
            return;
        };
        let relay = (to + 1) % self.hosts.len();
        if self.hosts[relay].is_up() && self.rng.random_ratio(1, 4) {
            self.counts.fault(Broken::RelayedOld);
            let message = Message::Replication(ReplicationMessage::Decision(decision));
            let at = self.now + self.network.delay(&mut self.rng);
            self.queue.push(at, Happening::Deliver((relay, to, codec::encode(&message))));
        }
    }

    /// A member pretends that the commit of a transaction was decided that `victim` is prepared for.
    fn maybe_forge(&mut self, victim: usize, tx: TxId) {
        let percent = self.options.faults.forged_percent;
        let liar = (victim + 1) % self.hosts.len();
        if self.healed || !self.hosts[liar].is_up() || !self.rng.random_ratio(percent, 100) {
            return;
        }
        let store = &self.hosts[victim].groups.store;
        let Some(intent) = store.prepared().find(|intent| intent.prepare.tx == tx) else { return };
        if intent.coordinator == self.hosts[liar].id {
            return;
        }
        let body = Decision {
            tx,
            attempt: intent.prepare.attempt,
            manifest_hash: intent.prepare.manifest.body.hash(),
            commit: true,
            coordinator: intent.coordinator,
        };
        let key = &self.cast.players[liar].key;
        let signature = signing::sign_as(Domain::Decision, &self.cast.network, &body, key);
        let message = Message::Replication(ReplicationMessage::Decision(Signed { body, signature }));
        self.counts.fault(Broken::Forged);
        let at = self.now + self.network.delay(&mut self.rng);
        self.queue.push(at, Happening::Deliver((liar, victim, codec::encode(&message))));
    }

    /// A message arrives as it was sent.
    pub(crate) fn deliver(&mut self, (from, to, bytes): Parcel) {
        if !self.hosts[to].is_up() {
            return self.counts.fault(Broken::ReceiverDown);
        }
        match codec::decode(&bytes, MESSAGE_BYTES_MAX) {
            Ok(message) => {
                self.see(&Seen::Delivered { to, from, message: &message });
                let replicates = matches!(message, Message::Replication(_));
                self.step(to, Input::Message { from: self.hosts[from].id, message });
                if replicates {
                    self.maybe_replay((from, to, bytes));
                }
            }
            Err(error) => self.violate("rig", format!("n{from} sent what n{to} cannot decode: {error}")),
        }
    }

    /// A message arrives with a byte changed. What still decodes must be what was received, to the byte; what proves itself
    /// is handed in and must do no harm. The rest is where the connection stands in for a signature: it breaks.
    pub(crate) fn deliver_changed(&mut self, from: usize, to: usize, bytes: &[u8]) {
        if !self.hosts[to].is_up() {
            return self.counts.fault(Broken::ReceiverDown);
        }
        let Ok(message) = codec::decode::<Message>(bytes, MESSAGE_BYTES_MAX) else {
            return self.counts.met(Rare::ChangedDoesNotDecode);
        };
        if codec::encode(&message) != bytes {
            self.violate("codec", "two encodings decode into one message".to_owned());
        } else if proves_itself(&message) {
            self.counts.met(Rare::ChangedIsHandedIn);
            self.step(to, Input::Message { from: self.hosts[from].id, message });
        }
    }

    /// Remembers a message about replication, and now and then has it come again: at once, and an older one later.
    fn maybe_replay(&mut self, parcel: Parcel) {
        let permille = self.options.faults.replay_permille;
        if self.rng.random_ratio(permille, 1000) {
            self.replay(&parcel, true);
            let index = self.rng.random_range(0..=self.past.len());
            if let Some(old) = self.past.get(index) {
                let at = self.now + self.rng.random_range(0..=REPLAY_MS_MAX);
                self.queue.push(at, Happening::Replay(old.clone()));
            }
        }
        self.past.push_back(parcel);
        if self.past.len() > PAST_MAX {
            self.past.pop_front();
        }
    }

    /// A message comes again that came before. Just now, or about what is settled where it arrives: then nothing that is on
    /// disk, or on its way there, may change. Or else a decision, which anybody may pass on at any time.
    pub(crate) fn replay(&mut self, (from, to, bytes): &Parcel, just_now: bool) {
        let (from, to) = (*from, *to);
        let Ok(Message::Replication(message)) = codec::decode(bytes, MESSAGE_BYTES_MAX) else { return };
        let Some(before) = self.soon_on_disk(to) else { return };
        let settled = just_now || is_settled(&message, &before);
        // A prepare that is as late as that the version is over where it arrives is refused, whatever became of it.
        let relays = match &message {
            ReplicationMessage::Decision(_) => true,
            ReplicationMessage::Prepare(prepare) => before.not_older(&prepare.manifest.body).is_some(),
            _ => false,
        };
        if !self.hosts[to].is_up() || !(settled || relays) {
            return;
        }
        self.counts.fault(Broken::Replayed);
        if settled {
            self.see(&Seen::Replaying(to));
        }
        self.step(to, Input::Message { from: self.hosts[from].id, message: Message::Replication(message) });
        // A node that died over it lost what was on its way to disk.
        if let Some(after) = self.soon_on_disk(to).filter(|_| settled && self.hosts[to].is_up()) {
            self.see(&Seen::Replayed { node: to, before: &before, after: &after });
        }
    }

    /// What a store will be when all that was handed to its disk is written.
    fn soon_on_disk(&self, node: usize) -> Option<GroupStore> {
        self.hosts[node].groups.all_written().ok()
    }

    /// Files that nobody needs any more are unlinked some time later.
    pub(crate) fn collect_later(&mut self, node: usize) {
        if self.hosts[node].groups.store.files().awaits_collection() {
            let at = self.now + self.rng.random_range(1..=COLLECT_MS_MAX);
            self.queue.push(at, Happening::Collect { node, boot: self.hosts[node].boot });
        }
    }

    /// The collector looks again and unlinks.
    pub(crate) fn collect(&mut self, node: usize) {
        let spared = self.hosts[node].groups.store.collect();
        (0..spared).for_each(|_| self.counts.met(Rare::CollectorSpares));
        self.see(&Seen::Collected(node));
    }
}
