//! Atomic group replication: presumed-abort two-phase commit with a quorum commit and retries without limit.
//!
//! Counterpart of `ReplicationManager` ([`Replication`]), `ContentStateReplicator` ([`plan`] and staging) and
//! `AtomicStateReplication` (both roles) of the specification. Content is immutable and addressed by its hash, so two
//! nodes can never hold different things; what is atomic is that a reader of one node sees a group whole or not at all, and what
//! is promised across nodes is durability: W receipts, each made after a local commit.
//!
//! The node where an upload came in coordinates it: `Publish` → C1 → prepare → W prepared → C2 → decisions → receipts →
//! C3. Every other node takes part: prepare → T1 → staging → T3 → decision → T4 → receipt. A node that is dead costs
//! one copy, which the coordinator owes it until it is back; it never aborts the others. `docs/protocol/replication.md` has
//! the messages, the timers and the table of crashes.
//!
//! Invariants kept here (numbers of the document):
//! - G2, G7: no commit leaves before C2 is on disk, and after that nothing but commits.
//! - G3: an honest coordinator gives one outcome per transaction id.
//! - G4: success is reported only with W receipts on disk.
//! - G6: every handler is a function of what is on disk and the message; repeats get the stored answer.
//! - G9: a prepare asks for exactly the states that its receiver may hold, and the receiver checks that itself.
//! - G10: every transaction ends: by its decision, its deadline or its lease.
//! - G12: a group whose tombstone is here is neither prepared, nor published, nor made visible again.
//! - G13: it is on disk who is told to commit before anybody is, and each of them gets the next version.
//!
//! Deliberately absent: replacement of targets that are out or banned (repair does that), an end of a coordination whose commit was
//! logged before the validators rejected the group (G7; whoever knows of that declines), jitter on questions, and any look at bytes.
//!
//! Source: Mohan, Lindsay and Obermarck, "Transaction management in the R* distributed database management system" (1986);
//! Gray and Lamport, "Consensus on transaction commit" (2006); quorum writes after DeCandia et al., "Dynamo" (2007).

pub mod exchange;
pub mod explain;
pub mod io;
pub mod plan;
pub mod receipts;

mod checks;
mod coordinator;
mod group;
mod lease;
mod outcomes;
mod participant;
mod step;
mod target;
mod tombstones;

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, GroupId, Manifest, ManifestHash, NetworkId, NodeId, Now, ReplicationMessage, SignedTombstone,
    StatesMask, Timestamp, TxId,
    wire::{Prepare, Receipts, RefuseReason, TxStatus, Wraps},
};

use self::{
    coordinator::Coordinator,
    group::Group,
    io::{Config, Event, Input, Output, Publication, Record, ReplicationStatus, Restored, Timer},
    participant::Participant,
    plan::Plan,
    receipts::{ReceiptSet, verify_receipt},
    step::{Parting, Pending, Shared, Step},
    tombstones::{Burial, Known, Tombstones},
};

/// The replication core of one node: coordinator of its own groups, participant in those of others.
#[derive(Debug)]
pub struct Replication {
    shared: Shared,
    coordinator: Coordinator,
    participant: Participant,
    tombstones: Tombstones,
}

/// How far a group is that this node coordinates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupProgress {
    /// The manifest.
    pub manifest_hash: ManifestHash,
    /// How far.
    pub status: ReplicationStatus,
    /// Receipts on disk.
    pub receipts: Receipts,
    /// The open transaction, if there is one.
    pub transaction: Option<TxId>,
}

/// This node's role in a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It decides.
    Coordinator,
    /// It holds, or will.
    Participant,
}

/// A transaction that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The transaction.
    pub tx: TxId,
    /// What it is about.
    pub manifest_hash: ManifestHash,
    /// Who decides.
    pub coordinator: NodeId,
    /// What this node does in it.
    pub role: Role,
    /// Where it stands here; a coordinator's is `Committed` once the commit is logged.
    pub status: TxStatus,
}

impl Replication {
    /// A core that goes on from `restored`. `key` is the node key: it signs decisions and receipts.
    #[must_use]
    pub fn new(config: Config, key: SigningKey, network: NetworkId, restored: Restored) -> Self {
        let Restored { boot, intents, committed, aborted, publications, versions, rejected, tombstones, deletions } =
            restored;
        Self {
            shared: Shared::new(config, key, network, Known::new(tombstones)),
            tombstones: Tombstones::new(deletions),
            coordinator: Coordinator::new(boot, publications),
            participant: Participant::new(intents, committed, aborted, (versions, rejected)),
        }
    }

    /// Takes one input in; what is to be done is appended to `out`, in order.
    ///
    /// Never fails: whatever a peer says wrong is ignored or answered. Messages before [`Input::Start`] are dropped.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let step = &mut Step { now, shared: &mut self.shared, out };
        match input {
            Input::Start => {
                step.shared.started = true;
                self.participant.start(step);
                // Before it is opened again: the certificate was on disk, and the end was not.
                let open = self.coordinator.groups().map(|group| group.manifest_hash);
                let rejected: Vec<_> = open.filter(|manifest| self.participant.is_rejected(manifest)).collect();
                for manifest in rejected {
                    self.coordinator.reject(manifest, step);
                }
                self.coordinator.start(step);
                self.tombstones.start(step);
            }
            Input::Message { from, message } => {
                if step.shared.started {
                    self.message(now, from, message, out);
                }
            }
            Input::Timer(timer) => self.timer(now, timer, out),
            Input::Persisted(id) => {
                if let Some(pending) = step.shared.persisted(id) {
                    self.persisted(now, pending, out);
                }
            }
            Input::Publish(publication) if self.participant.is_rejected(&publication.manifest.body.hash()) => {
                tracing::warn!(group = %publication.manifest.body.group_id, "not published: the validators rejected it");
            }
            Input::Publish(publication) => self.coordinator.publish(*publication, step),
            Input::Wraps { group_id, wraps } => self.coordinator.wraps(group_id, wraps, step),
            Input::Staged { tx, attempt, result } => self.participant.staged(tx, attempt, result, step),
            Input::Progress { tx, attempt, bytes } => self.participant.progress(tx, attempt, bytes, step),
            Input::Admitted(admission) => {
                let node = admission.body.node;
                step.shared.admit(*admission);
                if step.shared.started {
                    self.coordinator.admitted(node, step);
                    self.tombstones.reached(node, step);
                }
            }
            Input::PeerUp(node) => {
                self.coordinator.peer_up(node, step);
                self.tombstones.reached(node, step);
            }
            // Silence shows by itself: leases end and tries go on with growing pauses.
            Input::PeerDown(_) => {}
            Input::Chain(chain) => step.shared.chain = Some(chain),
            Input::Delete { tombstone, holders } => {
                if !step.shared.deleted.knows(&tombstone.body) {
                    self.bury(now, None, vec![(*tombstone, holders)], out);
                }
            }
            Input::Rejected(manifest_hash) => {
                self.participant.reject(manifest_hash, step);
                self.coordinator.reject(manifest_hash, step);
            }
        }
    }

    fn message(&mut self, now: Now, from: NodeId, message: ReplicationMessage, out: &mut Vec<Output>) {
        let step = &mut Step { now, shared: &mut self.shared, out };
        match message {
            ReplicationMessage::Prepare(prepare) => match step.shared.deleted.of(&prepare.manifest.body).cloned() {
                Some(tombstone) if step.shared.deleted.has_on_disk(&tombstone.body) => {
                    refuse_deleted(from, &prepare, tombstone, step);
                }
                // Nothing is said that a crash could still take back; the coordinator asks again.
                Some(_) => {}
                None => self.participant.prepare(from, prepare, step),
            },
            ReplicationMessage::LeaseRenew { tx, attempt, lease_ms } => {
                self.participant.renew(from, (tx, attempt), lease_ms, step);
            }
            ReplicationMessage::Decision(decision) => self.participant.decision(from, decision, step),
            ReplicationMessage::Status { tx, status, decision } => {
                self.participant.status(from, (tx, status), decision, step);
            }
            ReplicationMessage::StatusQuery { tx } if self.coordinator.is_withdrawn(&tx) => {}
            ReplicationMessage::StatusQuery { tx } => {
                let known = self.coordinator.query(from, tx, step);
                #[cfg(planted)]
                let known = known.or(self.coordinator.guess(tx, step));
                let (status, decision) = known.unwrap_or_else(|| self.participant.query(&tx));
                step.send(from, ReplicationMessage::Status { tx, status, decision });
            }
            ReplicationMessage::Receipts { group_id, manifest_hash, receipts } => {
                let group = self.coordinator.group(&group_id).filter(|group| group.manifest_hash == manifest_hash);
                let manifest = group.map(|group| &group.publication.manifest.body);
                learn_receipts((group_id, manifest_hash), manifest, &receipts, step);
            }
            ReplicationMessage::Wraps { group_id, wraps } => learn_wraps(group_id, wraps, step),
            ReplicationMessage::Tombstones(tombstones) => {
                let news = self.tombstones.news(from, tombstones, step);
                self.bury(now, Some(from), news.into_iter().map(|news| (news, Vec::new())).collect(), out);
            }
            ReplicationMessage::TombstonesKept { groups } => self.tombstones.kept(from, &groups, step),
            answer @ (ReplicationMessage::PrepareOk { .. }
            | ReplicationMessage::PrepareNo { .. }
            | ReplicationMessage::Progress { .. }
            | ReplicationMessage::Prepared { .. }
            | ReplicationMessage::DecisionAck { .. }) => self.coordinator.answer(from, answer, step),
        }
    }

    fn timer(&mut self, now: Now, timer: Timer, out: &mut Vec<Output>) {
        let step = &mut Step { now, shared: &mut self.shared, out };
        match timer {
            Timer::Target { tx, node, generation } => self.coordinator.target_timer(tx, node, generation, step),
            Timer::Deadline(tx) => self.coordinator.deadline(tx, step),
            Timer::Retry(group_id) => self.coordinator.retry(group_id, step),
            Timer::Lease { tx, generation } => self.participant.lease_timer(tx, generation, step),
            Timer::Status(tx) => self.participant.status_timer(tx, step),
            Timer::Sweep => self.participant.sweep(step),
            Timer::Tombstones { node, generation } => self.tombstones.timer(node, generation, step),
        }
    }

    fn persisted(&mut self, now: Now, pending: Pending, out: &mut Vec<Output>) {
        let step = &mut Step { now, shared: &mut self.shared, out };
        match pending {
            Pending::Begun(group_id, manifest) => self.coordinator.begun((group_id, manifest), step),
            Pending::Rewrapped(group_id) => self.coordinator.rewrapped(group_id, step),
            Pending::Decided(group_id, tx) => self.coordinator.decided(group_id, tx, step),
            Pending::Told(group_id, tx, node) => self.coordinator.told(group_id, (tx, node), step),
            Pending::Receipts(group_id, receipts) => self.coordinator.receipts(group_id, &receipts, step),
            Pending::Reserved(tx, attempt) => self.participant.reserved(tx, attempt, step),
            Pending::Prepared(tx, attempt) => self.participant.prepared(tx, attempt, step),
            Pending::Committed(tx) => self.participant.committed(tx, step),
            Pending::Aborted(tx, parting) => self.participant.aborted(tx, parting, step),
            Pending::Nothing => {}
            Pending::Buried(from, burials) => {
                for burial in &burials {
                    self.coordinator.buried(&burial.tombstone.body);
                }
                self.tombstones.buried(from, &burials, step);
            }
            Pending::Confirmed(node, groups) => {
                for group_id in groups {
                    step.event(Event::DeletionConfirmed { group_id, node });
                }
            }
        }
    }

    /// Takes deleted groups out of both roles, so that nothing of them is begun, decided or prepared from here on, and writes
    /// their tombstones. What is open of them as a participant is given up after that, so that whoever hears why can rely on it.
    fn bury(
        &mut self,
        now: Now,
        from: Option<NodeId>,
        news: Vec<(SignedTombstone, Vec<NodeId>)>,
        out: &mut Vec<Output>,
    ) {
        let step = &mut Step { now, shared: &mut self.shared, out };
        let mut burials = Vec::new();
        for (tombstone, known) in news {
            let mut holders = self.coordinator.withdraw(&tombstone.body);
            holders.extend(known);
            holders.remove(&step.shared.node);
            burials.push(Burial { tombstone, holders });
        }
        self.tombstones.bury(from, burials.clone(), step);
        for Burial { tombstone, .. } in &burials {
            self.participant.withdraw(&tombstone.body, step);
        }
    }

    /// What publishing would do, by the admissions known now. Changes nothing.
    #[must_use]
    pub fn plan(&self, publication: &Publication, wall: Timestamp) -> Plan {
        let open = self.coordinator.group(&publication.manifest.body.group_id);
        let same = open.filter(|group| group.publication.manifest == publication.manifest);
        Plan::of(&self.shared, publication, same.map_or(&ReceiptSet::default(), |group| &group.receipts), wall)
    }

    /// How far a group is that this node coordinates; `None` once every copy is there, which its last
    /// [`io::Event::Progress`] said.
    #[must_use]
    pub fn progress(&self, group_id: &GroupId, wall: Timestamp) -> Option<GroupProgress> {
        let group = self.coordinator.group(group_id)?;
        Some(GroupProgress {
            manifest_hash: group.manifest_hash,
            status: group.status_at(wall),
            receipts: group.receipts.to_wire(wall),
            transaction: group.transaction.as_ref().map(|transaction| transaction.id),
        })
    }

    /// Whether the group of a manifest was deleted by its owner, as far as is remembered in memory.
    #[must_use]
    pub fn is_deleted(&self, manifest: &Manifest) -> bool {
        self.shared.deleted.of(manifest).is_some()
    }

    /// Groups that this node coordinates and that are not finished.
    #[must_use]
    pub fn coordinated(&self) -> Vec<GroupId> {
        self.coordinator.groups().map(|group| group.publication.manifest.body.group_id).collect()
    }

    /// Transactions that are not over, of both roles.
    #[must_use]
    pub fn transactions(&self) -> Vec<OpenTransaction> {
        let coordinated = self.coordinator.groups().filter_map(|group: &Group| {
            let transaction = group.transaction.as_ref()?;
            Some(OpenTransaction {
                tx: transaction.id,
                manifest_hash: group.manifest_hash,
                coordinator: self.shared.node,
                role: Role::Coordinator,
                status: if group.is_committed() { TxStatus::Committed } else { TxStatus::Preparing },
            })
        });
        let taken_part = self.participant.open().map(|(tx, part)| OpenTransaction {
            tx: *tx,
            manifest_hash: part.manifest_hash,
            coordinator: part.coordinator,
            role: Role::Participant,
            status: part.status(),
        });
        coordinated.chain(taken_part).collect()
    }
}

/// A coordinator prepares what its owner deleted: it hears why not, and of the tombstone.
fn refuse_deleted(to: NodeId, prepare: &Prepare, tombstone: SignedTombstone, step: &mut Step<'_>) {
    step.send(to, Parting::Refused(RefuseReason::Superseded).message(prepare.tx, prepare.attempt));
    step.send(to, ReplicationMessage::Tombstones(BoundedVec::truncated([tombstone])));
}

/// Keeps the receipts of a set that verify, whose holders may hold copies, and that count for the manifest where this node
/// coordinates it. Elsewhere the manifest is in the store only, which ignores those of a manifest that it does not hold and
/// those that do not count for one that it does.
fn learn_receipts(
    (group_id, manifest_hash): (GroupId, ManifestHash),
    manifest: Option<&Manifest>,
    receipts: &Receipts,
    step: &mut Step<'_>,
) {
    let mut known = ReceiptSet::default();
    let Now { wall, .. } = step.now;
    let network = step.shared.network;
    for receipt in receipts {
        let counts = manifest.is_none_or(|manifest| receipt.body.counts_for(&manifest_hash, manifest));
        if counts
            && step.shared.is_eligible(&receipt.body.holder, wall)
            && verify_receipt(receipt, &manifest_hash, StatesMask::EMPTY, (&network, wall)).is_ok()
        {
            known.merge(receipt);
        }
    }
    let receipts = known.to_wire(step.now.wall);
    if !receipts.is_empty() {
        step.persist(vec![Record::Receipts { group_id, manifest_hash, receipts }], Pending::Nothing);
    }
}

/// Keeps the wraps of a set that are of this group and signed by the owner they name. Whether that is the owner of the group
/// is for the store to say, which has the manifest: it ignores wraps of others, and of groups that it does not hold.
fn learn_wraps(group_id: GroupId, wraps: Wraps, step: &mut Step<'_>) {
    let network = step.shared.network;
    let valid =
        wraps.into_vec().into_iter().filter(|wrap| wrap.body.group_id == group_id && wrap.verify(&network).is_ok());
    let wraps: Wraps = BoundedVec::truncated(valid);
    if !wraps.is_empty() {
        step.persist(vec![Record::Wraps { group_id, wraps }], Pending::Nothing);
    }
}

#[cfg(test)]
mod tests;
