//! Later versions in the simulated world: what the daemon's driver does between the cores to have one certified and seen.
//!
//! As in the daemon (`mynet_node::succession`): the draft is written, then certified as `seen`; with its certificate it takes
//! the place of the version here in one local transaction, and is published some time after that. A start takes up again what
//! a crash cut off. The owner asks for versions at any time, and again until it can be: the version here must be certified,
//! and no other draft open.

use std::collections::{BTreeMap, VecDeque};

use mynet_proto::node::io::Input;
use mynet_types::{
    CertificateFile, Claim, GroupId, HeadProof, Manifest, ManifestHash, Message, ReplicationMessage, SignedDecision,
    SignedManifest, TxId, Verdict, codec,
    vote::is_head,
    wire::{Prepare, Receipts},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    group_store::lineages::{Draft, DriverWrite},
    nemesis::Fault,
    observe::Seen,
    options::Options,
    sometimes::{Fault as Broken, Rare},
    workload::Work,
    world::{Happening, World},
};

/// How long after the end of faults an owner goes on asking for a version that cannot be made yet.
pub(crate) const ASKING_MS: u64 = 60_000;
/// An owner that was told to try again does so after this.
const ASK_RETRY_MS: u64 = 1_000;
/// Time at most between the transaction that shows a version and its publication.
const GAP_MS_MAX: u64 = 50;
/// How long a node stays down at most that dies while it puts a version in the place of another.
const INSTALL_DOWN_MS_MAX: u64 = 20_000;

/// In one run of so many the driver is slow to put a version in the place of another, so that receipts for the old one come meanwhile;
/// without that, in one of 25,000.
const SLOW_INSTALLS_EVERY: u64 = 4;
/// How many times as long as another write it takes then.
const SLOW_INSTALL: u64 = 40;

/// How late an old prepare comes at most.
const LATE_MS_MAX: u64 = 30_000;

/// Transactions of one node's driver that are not on disk, oldest first.
pub(crate) type Unwritten = VecDeque<DriverWrite>;

/// What the world knows of versions that nobody else does.
#[derive(Debug)]
pub(crate) struct Versions {
    /// Draws everything about versions, so that runs without them are what they were.
    pub(crate) rng: ChaCha8Rng,
    /// Invented transactions, and who decides them.
    invented: BTreeMap<TxId, usize>,
    /// What each node was last asked to hold of each group.
    asked: BTreeMap<(GroupId, usize), (usize, Prepare)>,
}

impl Versions {
    /// Nothing was invented yet.
    pub(crate) fn new(options: &Options) -> Self {
        let rng = crate::options::generator(options.suite, options.seed, "versions at work");
        Self { rng, invented: BTreeMap::new(), asked: BTreeMap::new() }
    }
}

impl World {
    /// The owner asks for the next version of a group.
    pub(crate) fn ask_version(&mut self, index: usize) {
        let work = &self.works[index];
        let (node, group_id) = (work.node, work.publication.manifest.body.group_id);
        if work.deleted || self.healed_at.is_some_and(|healed| self.now > healed + ASKING_MS) {
            return;
        }
        match self.may_follow(node, &group_id).filter(|_| work.taken) {
            None => self.queue.push(self.now + ASK_RETRY_MS, Happening::AskVersion { index }),
            Some(previous) => {
                let manifest = self.cast.with_preview(&mut self.versions.rng, &previous.manifest);
                self.drive(node, DriverWrite::Draft(Box::new(Draft { manifest, previous })));
            }
        }
    }

    /// Whether another version may be made of a group now, and the proof that it follows.
    fn may_follow(&self, node: usize, group_id: &GroupId) -> Option<HeadProof> {
        let host = &self.hosts[node];
        let store = &host.groups.store;
        let busy = store.draft(group_id).is_some() || host.driver.iter().any(|write| write.group_id() == *group_id);
        let row = store.row(group_id).filter(|_| host.is_up() && !busy)?;
        let certified = is_head(row.manifest.body.version) || self.watch.is_certified(node, &row.hash);
        self.files.get(&row.hash).filter(|_| certified).map(HeadProof::of)
    }

    /// Somebody with the owner's key has another value certified as the next version, elsewhere.
    pub(crate) fn ask_rival(&mut self, index: usize, node: usize) {
        let work = &self.works[index];
        let file = self.files.get(&work.value).filter(|_| self.hosts[node].is_up());
        let Some(previous) = file.map(HeadProof::of) else {
            if !self.healed {
                self.queue.push(self.now + ASK_RETRY_MS, Happening::AskRival { index, node });
            }
            return;
        };
        let manifest = Box::new(self.cast.with_preview(&mut self.versions.rng, &previous.manifest));
        let (previous, receipts) = (Box::new(previous), Receipts::default());
        self.step(node, Input::CertifyHead { manifest, previous, receipts, claim: Claim::Seen });
    }

    /// The driver of a node has something to write.
    fn drive(&mut self, node: usize, write: DriverWrite) {
        let installs = matches!(write, DriverWrite::Install(_));
        let slow = installs && self.options.seed.is_multiple_of(SLOW_INSTALLS_EVERY);
        let delay = self.fsync(node) * if slow { SLOW_INSTALL } else { 1 };
        if self.write_fails(node) {
            return;
        }
        if installs && !self.healed && self.options.faults.crashes > 0 && self.versions.rng.random_ratio(1, 12) {
            let down_ms = self.versions.rng.random_range(1..=INSTALL_DOWN_MS_MAX);
            let at = self.now + self.versions.rng.random_range(0..=delay + GAP_MS_MAX);
            self.queue.push(at, Happening::Fault(Fault::Crash { node, down_ms }));
        }
        self.hosts[node].driver.push_back(write);
        let boot = self.hosts[node].boot;
        self.queue.push(self.now + delay, Happening::DriverOnDisk { node, boot });
    }

    /// The oldest transaction of a driver is on disk.
    pub(crate) fn driver_on_disk(&mut self, node: usize) {
        let Some(write) = self.hosts[node].driver.pop_front() else { return };
        if self.driver_wrote(node, &write) {
            self.driver_goes_on(node, write);
        }
    }

    /// A transaction of a driver is in the store. Says whether it was of use.
    fn driver_wrote(&mut self, node: usize, write: &DriverWrite) -> bool {
        let useful = self.hosts[node].groups.store.write(write);
        self.trace.note(self.now, format_args!("n{node} wrote {}, of use {useful}", described(write)));
        if useful && matches!(write, DriverWrite::Drop { .. }) {
            self.counts.met(Rare::DraftDropped);
        }
        self.see(&Seen::DriverOnDisk { node, write, useful });
        self.collect_later(node);
        useful
    }

    /// What comes after a transaction of the driver.
    fn driver_goes_on(&mut self, node: usize, write: DriverWrite) {
        match write {
            DriverWrite::Draft(draft) => self.certify_draft(node, *draft),
            DriverWrite::Install(file) => {
                let at = self.now + self.versions.rng.random_range(0..=GAP_MS_MAX);
                let (boot, group_id) = (self.hosts[node].boot, file.manifest.body.group_id);
                self.queue.push(at, Happening::PublishVersion { node, boot, group_id });
            }
            DriverWrite::Drop { .. } => {}
        }
    }

    fn certify_draft(&mut self, node: usize, draft: Draft) {
        let (manifest, previous) = (Box::new(draft.manifest), Box::new(draft.previous));
        let receipts = Receipts::default();
        self.step(node, Input::CertifyHead { manifest, previous, receipts, claim: Claim::Seen });
    }

    /// A certificate came. If it is that of a draft, the draft becomes the version that is seen.
    pub(crate) fn certified_here(&mut self, node: usize, file: &CertificateFile) {
        let (group_id, statement) = (file.manifest.body.group_id, &file.certificate.statement);
        if !self.is_drafted(node, &group_id, &statement.value) {
            return;
        }
        let write = match statement.verdict {
            Verdict::Accept => DriverWrite::Install(Box::new(file.clone())),
            Verdict::Reject => DriverWrite::Drop { group_id, value: statement.value },
        };
        self.drive(node, write);
    }

    /// Another value of a draft's version is certified: it can never be.
    pub(crate) fn blocked_here(&mut self, node: usize, group_id: GroupId, value: ManifestHash) {
        if self.is_drafted(node, &group_id, &value) {
            self.drive(node, DriverWrite::Drop { group_id, value });
        }
    }

    fn is_drafted(&self, node: usize, group_id: &GroupId, value: &ManifestHash) -> bool {
        let draft = self.hosts[node].groups.store.draft(group_id);
        draft.is_some_and(|draft| draft.manifest.body.hash() == *value)
    }

    /// Replicates the version that is seen here.
    pub(crate) fn publish_version(&mut self, node: usize, group_id: &GroupId) {
        if let Some(publication) = self.hosts[node].groups.store.publication(group_id) {
            self.step(node, Input::Publish(Box::new(publication)));
        }
    }

    /// A start goes on with versions that a crash cut off.
    pub(crate) fn resume_successions(&mut self, node: usize) {
        let groups: Vec<GroupId> = self.hosts[node].groups.store.with_lineage().copied().collect();
        for group_id in groups {
            if self.hosts[node].groups.store.row(&group_id).is_some_and(|row| is_head(row.manifest.body.version)) {
                self.publish_version(node, &group_id);
            }
            if let Some(draft) = self.hosts[node].groups.store.draft(&group_id).cloned() {
                self.counts.met(Rare::DraftRestored);
                self.certify_draft(node, draft);
            }
        }
    }

    /// A node dies: of what its driver was writing a prefix is on disk.
    pub(crate) fn crash_driver(&mut self, node: usize) {
        let unwritten = std::mem::take(&mut self.hosts[node].driver);
        if unwritten.is_empty() {
            return;
        }
        let kept = self.versions.rng.random_range(0..=unwritten.len());
        for (place, write) in unwritten.iter().enumerate() {
            let installs = matches!(write, DriverWrite::Install(_));
            if place < kept {
                self.driver_wrote(node, write);
                installs.then(|| self.counts.met(Rare::CrashInsideInstallKept));
            } else {
                installs.then(|| self.counts.met(Rare::CrashInsideInstallLost));
            }
        }
    }

    /// A member asks `victim` to hold a version after the one that it was just asked for: signed by the owner, and certified by
    /// nobody. What shows it needs no bytes that are not there.
    pub(crate) fn maybe_invent(&mut self, victim: usize, prepare: &Prepare) {
        let Some(head) = prepare.head.as_deref() else { return };
        let liar = (victim + 1) % self.hosts.len();
        let lies = self.options.faults.forged_percent > 0 && !self.healed && self.hosts[liar].is_up();
        if !lies || !self.versions.rng.random_ratio(1, 4) {
            return;
        }
        let rng = &mut self.versions.rng;
        let manifest = self.cast.without_preview(&prepare.manifest);
        let mut forged = head.clone();
        forged.statement.value = manifest.body.hash();
        forged.statement.slot = mynet_types::vote::head_slot(&manifest.body.group_id, manifest.body.version);
        forged.statement.states = manifest.body.allowed(false);
        let head = match rng.random_range(0..3) {
            0 => None,
            1 => Some(Box::new(head.clone())),
            _ => Some(Box::new(forged)),
        };
        let (tx, states) = (TxId(rng.random()), prepare.states.without(mynet_types::ContentState::Preview));
        let invented = Prepare { tx, attempt: 1, manifest, head, states, ..prepare.clone() };
        self.counts.fault(Broken::Invented);
        self.versions.invented.insert(tx, liar);
        self.deliver_later(liar, victim, &Message::Replication(ReplicationMessage::Prepare(Box::new(invented))));
    }

    /// A prepare of a version comes once more when the next one is on its way, or there.
    pub(crate) fn maybe_come_late(&mut self, from: usize, to: usize, prepare: &Prepare) {
        let manifest = &prepare.manifest.body;
        let is_versioned = |work: &Work| work.publication.manifest.body.group_id == manifest.group_id;
        if self.healed || !self.works.iter().any(|work| !work.versions.is_empty() && is_versioned(work)) {
            return;
        }
        let before = self.versions.asked.insert((manifest.group_id, to), (from, prepare.clone()));
        let lower = before.filter(|(_, before)| before.manifest.body.version < manifest.version);
        let Some((from, late)) = lower.filter(|_| self.versions.rng.random_ratio(1, 4)) else { return };
        self.counts.fault(Broken::Stalled);
        let at = self.now + self.versions.rng.random_range(0..=LATE_MS_MAX);
        let message = Message::Replication(ReplicationMessage::Prepare(Box::new(late)));
        self.queue.push(at, Happening::Deliver((from, to, codec::encode(&message))));
    }

    /// Anybody passes on the old decision on a version to a node that is prepared for it, and shows a later one. No honest node
    /// is.
    pub(crate) fn maybe_relay_late(&mut self, to: usize, tx: TxId) {
        let store = &self.hosts[to].groups.store;
        let lower = store.prepared().any(|open| {
            let (manifest, is_it) = (&open.prepare.manifest.body, open.prepare.tx == tx);
            is_it && store.row(&manifest.group_id).is_some_and(|row| row.manifest.body.version > manifest.version)
        });
        if let Some(decision) = self.decisions.get(&tx).filter(|_| lower).cloned() {
            let relay = (to + 1) % self.hosts.len();
            self.deliver_later(relay, to, &Message::Replication(ReplicationMessage::Decision(decision)));
        }
    }

    /// Whoever invented a transaction decides it as soon as somebody is prepared for it.
    pub(crate) fn maybe_decide_invented(&mut self, from: usize, (tx, attempt): (TxId, u32), value: ManifestHash) {
        let Some(liar) = self.versions.invented.get(&tx).copied() else { return };
        let player = &self.cast.players[liar];
        let body = mynet_types::Decision { tx, attempt, manifest_hash: value, commit: true, coordinator: player.id };
        let decision = SignedDecision::new(&self.cast.network, body, &player.key);
        self.deliver_later(liar, from, &Message::Replication(ReplicationMessage::Decision(decision)));
    }

    fn deliver_later(&mut self, from: usize, to: usize, message: &Message) {
        let at = self.now + self.network.delay(&mut self.versions.rng);
        self.queue.push(at, Happening::Deliver((from, to, codec::encode(message))));
    }
}

/// A write in few words, for the trace.
fn described(write: &DriverWrite) -> String {
    match write {
        DriverWrite::Draft(draft) => format!("the draft {}", version(&draft.manifest)),
        DriverWrite::Install(file) => format!("version {}", version(&file.manifest)),
        DriverWrite::Drop { value, .. } => format!("the end of the draft {value}"),
    }
}

fn version(manifest: &SignedManifest) -> String {
    let body: &Manifest = &manifest.body;
    format!("{} of {}: {}", body.version, body.group_id, body.hash())
}
