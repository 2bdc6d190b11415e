//! Several cores with a network, disks and staging under the control of a test. Every output is checked against the
//! invariants of the protocol, whatever the test is about.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use ed25519_dalek::SigningKey;
use mynet_types::{
    AdmissionRecord, BlobRef, BoundedVec, ContentId, ContentState, DecryptedClass, GroupId, Link, Manifest,
    ManifestHash, Member, Mono, NetworkId, NodeId, Now, OwnerKey, Protection, RelationshipKind, ReplicationMessage,
    Roles, Signature, Signed, SignedAdmission, SignedManifest, SignedReceipt, SignedTombstone, SignedWrap, StatesMask,
    Timestamp, Tombstone, TxId, WrapKey, WrapRecord,
    manifest::{Aead, MANIFEST_FORMAT},
    wire::{DecisionOutcome, RefuseReason, TxStatus, Wraps},
};
use sha2::{Digest, Sha256};

use crate::{
    persist::PersistId,
    reason::Note,
    replication::{
        Replication,
        io::{Config, Decided, Event, Input, Intent, Mode, Output, Publication, Record, Restored, Timer},
        plan,
    },
};

pub(super) const NETWORK: NetworkId = NetworkId([9; 32]);
pub(super) const EPOCH: Timestamp = Timestamp(1_700_000_000_000);
/// Nodes are admitted for longer than any test takes, so that a test can admit one for longer still.
pub(super) const ADMITTED_UNTIL: Timestamp = Timestamp(Timestamp::MAX.0 - 1);

pub(super) fn key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

pub(super) fn node(number: u8) -> NodeId {
    NodeId(key(number).verifying_key().to_bytes())
}

pub(super) fn owner() -> SigningKey {
    key(200)
}

pub(super) fn admission(number: u8, roles: Roles, expires_at: Timestamp) -> SignedAdmission {
    let body = AdmissionRecord {
        node: node(number),
        wrap_key: WrapKey([number; 32]),
        roles,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: format!("zone-{number}").try_into().unwrap(),
        weight: 1,
        admitted_at: EPOCH,
        expires_at,
        epoch: 0,
        issuer: node(1),
        nonce: [number; 16],
    };
    // The core is told of admissions that were verified; it looks at no signature of them.
    Signed { body, signature: Signature([0; 64]) }
}

pub(super) fn manifest(seed: u8, class: DecryptedClass, (quorum, replicas): (u8, u8), sealed: &[u8]) -> SignedManifest {
    let member = |number: u8, state, blob: Option<&[u8]>| Member {
        content_id: ContentId([number; 16]),
        state,
        blob: blob.map(BlobRef::of),
        mime: None,
    };
    let members = vec![
        member(1, ContentState::Encrypted, Some(&[seed; 300])),
        member(2, ContentState::Decrypted, None),
        member(3, ContentState::Preview, Some(&[seed; 100])),
    ];
    let link = |child, kind| Link { parent: ContentId([1; 16]), child: ContentId([child; 16]), kind };
    let mut body = Manifest {
        format: MANIFEST_FORMAT,
        group_id: GroupId([0; 32]),
        version: 1,
        prev: None,
        owner: OwnerKey(owner().verifying_key().to_bytes()),
        created_at: EPOCH,
        placement_seed: [seed; 32],
        replicas,
        quorum,
        members: members.try_into().unwrap(),
        links: vec![link(2, RelationshipKind::Decrypted), link(3, RelationshipKind::Preview)].try_into().unwrap(),
        class,
        protection: Protection::Sealed {
            key_version: 1,
            algorithm: Aead::ChaCha20Poly1305,
            salt: [0; 16],
            key_commitment: [0; 32],
            decrypted_commitment: [0; 32],
            sealed_hash: Sha256::digest(sealed).into(),
        },
    };
    body.group_id = body.derive_group_id();
    SignedManifest::new(&NETWORK, body, &owner())
}

pub(super) fn wraps(manifest: &Manifest, readers: &[u8]) -> Wraps {
    BoundedVec::truncated(readers.iter().map(|reader| {
        let body = WrapRecord {
            group_id: manifest.group_id,
            version: manifest.version,
            recipient: node(*reader),
            recipient_key: WrapKey([*reader; 32]),
            enc: [0; 32],
            ciphertext: [0; 48],
            owner: manifest.owner,
        };
        SignedWrap::new(&NETWORK, body, &owner())
    }))
}

/// W of R copies of a group whose decrypted state is granted to `readers`.
pub(super) fn publication(seed: u8, (quorum, replicas): (u8, u8), readers: &[u8]) -> Publication {
    let sealed = vec![seed; 50];
    let manifest = manifest(seed, DecryptedClass::Granted, (quorum, replicas), &sealed);
    Publication {
        wraps: wraps(&manifest.body, readers),
        manifest,
        sealed: sealed.try_into().unwrap(),
        mode: Mode::Quorum,
        replicas,
        head: None,
    }
}

pub(super) fn encrypted_and_preview() -> StatesMask {
    StatesMask::EMPTY.with(ContentState::Encrypted).with(ContentState::Preview)
}

/// What one node's store holds.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) intents: BTreeMap<TxId, (Intent, Option<StatesMask>)>,
    pub(super) committed: BTreeMap<TxId, (u32, GroupId, SignedReceipt)>,
    pub(super) aborted: BTreeMap<TxId, u32>,
    pub(super) publications: BTreeMap<GroupId, (Publication, Option<Decided>)>,
    pub(super) receipts: BTreeMap<ManifestHash, BTreeMap<NodeId, SignedReceipt>>,
    pub(super) wraps: BTreeMap<GroupId, Wraps>,
    pub(super) visible: BTreeMap<ManifestHash, StatesMask>,
    pub(super) tombstones: BTreeMap<GroupId, SignedTombstone>,
    pub(super) silent: BTreeMap<GroupId, BTreeSet<NodeId>>,
    /// Who was told to commit something.
    pub(super) told: BTreeSet<NodeId>,
    /// The version of each group that is here.
    pub(super) versions: BTreeMap<GroupId, u64>,
    /// What a certificate here rejects.
    pub(super) rejected: Vec<ManifestHash>,
    /// Which group a manifest seen here is of, and whose.
    groups: BTreeMap<ManifestHash, (GroupId, OwnerKey)>,
}

impl Disk {
    /// Whether the group of a manifest was deleted here.
    pub(super) fn is_deleted(&self, hash: &ManifestHash) -> bool {
        self.groups.get(hash).is_some_and(|(group, owner)| {
            self.tombstones.get(group).is_some_and(|tombstone| tombstone.body.owner == *owner)
        })
    }

    fn bury(&mut self, tombstone: SignedTombstone, holders: Vec<NodeId>) {
        let Tombstone { group_id, owner, .. } = tombstone.body;
        let gone: Vec<ManifestHash> =
            self.groups.iter().filter(|(_, name)| **name == (group_id, owner)).map(|(hash, _)| *hash).collect();
        for hash in gone {
            self.visible.remove(&hash);
            self.receipts.remove(&hash);
            self.publications.remove(&group_id);
            self.wraps.remove(&group_id);
        }
        self.silent.entry(group_id).or_default().extend(holders);
        self.tombstones.insert(group_id, tombstone);
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Intent(intent) => {
                let manifest = &intent.prepare.manifest.body;
                self.groups.insert(manifest.hash(), (manifest.group_id, manifest.owner));
                self.intents.insert(intent.prepare.tx, (intent, None));
            }
            Record::Prepared { tx, attempt, states } => {
                let (intent, staged) = self.intents.get_mut(&tx).expect("T3 follows T1");
                assert_eq!(intent.prepare.attempt, attempt, "T3 is of the attempt of T1");
                *staged = Some(states);
            }
            Record::Commit { tx, attempt, receipt } => {
                let (intent, staged) = self.intents.remove(&tx).expect("T4 follows T1");
                assert_eq!(staged, Some(receipt.body.states), "T4 makes visible what T3 staged");
                assert_eq!(intent.prepare.attempt, attempt, "T4 is of the attempt of T1");
                self.visible.insert(receipt.body.manifest_hash, receipt.body.states);
                let receipts = self.receipts.entry(receipt.body.manifest_hash).or_default();
                receipts.insert(receipt.body.holder, receipt.clone());
                let Manifest { group_id, version, .. } = intent.prepare.manifest.body;
                if self.versions.insert(group_id, version).is_some_and(|lower| lower < version) {
                    // As the store: receipts given for lower versions are not given again.
                    self.committed.retain(|_, (_, group, _)| *group != group_id);
                }
                self.committed.insert(tx, (attempt, group_id, receipt));
            }
            Record::Abort { tx, attempt } => {
                self.intents.remove(&tx);
                self.aborted.insert(tx, attempt);
            }
            Record::Forget(tx) => {
                self.committed.remove(&tx);
                self.aborted.remove(&tx);
            }
            Record::Begin(publication) => {
                let manifest = &publication.manifest.body;
                let group_id = manifest.group_id;
                self.groups.insert(manifest.hash(), (group_id, manifest.owner));
                let decided = self.publications.remove(&group_id).and_then(|(_, decided)| decided);
                self.publications.insert(group_id, (*publication, decided));
            }
            Record::Decided(decided) => {
                let publication = self.publications.get_mut(&decided.group_id).expect("C2 follows C1");
                publication.1 = Some(decided);
            }
            Record::Told { nodes, .. } => self.told.extend(nodes),
            // As the store: those of a manifest that is not here, because it was deleted, are ignored.
            Record::Receipts { manifest_hash, .. } if self.is_deleted(&manifest_hash) => {}
            Record::Receipts { manifest_hash, receipts, .. } => {
                let kept = self.receipts.entry(manifest_hash).or_default();
                kept.extend(receipts.iter().map(|receipt| (receipt.body.holder, receipt.clone())));
            }
            Record::Wraps { group_id, wraps } => {
                self.wraps.insert(group_id, wraps);
            }
            Record::End(group_id) => {
                self.publications.remove(&group_id);
            }
            Record::Tombstone { tombstone, holders, .. } => self.bury(tombstone, holders),
            Record::Confirmed { group_id, node } => {
                self.silent.entry(group_id).or_default().remove(&node);
            }
        }
    }

    fn restore(&self, boot: u64) -> Restored {
        let receipts_of =
            |hash| BoundedVec::truncated(self.receipts.get(&hash).into_iter().flatten().map(|(_, it)| it.clone()));
        Restored {
            boot,
            intents: self.intents.values().cloned().collect(),
            committed: self.committed.iter().map(|(tx, it)| (*tx, it.0, it.1, it.2.clone())).collect(),
            aborted: self.aborted.iter().map(|(tx, attempt)| (*tx, *attempt)).collect(),
            publications: (self.publications.values())
                .map(|(publication, decided)| {
                    (publication.clone(), decided.clone(), receipts_of(publication.manifest.body.hash()))
                })
                .collect(),
            versions: self.versions.clone().into_iter().collect(),
            rejected: self.rejected.clone(),
            tombstones: self.tombstones.values().cloned().collect(),
            deletions: (self.silent.iter())
                .map(|(group, silent)| (self.tombstones[group].clone(), silent.iter().copied().collect()))
                .collect(),
        }
    }
}

type RecordRule = Box<dyn Fn(&Record) -> bool>;
type MessageRule = Box<dyn Fn(&Envelope) -> bool>;

/// One node.
#[derive(Default)]
pub(super) struct Host {
    number: u8,
    roles: Roles,
    boot: u64,
    core: Option<Replication>,
    pub(super) disk: Disk,
    writes: VecDeque<(PersistId, Vec<Record>)>,
    timers: BTreeSet<(Mono, Timer)>,
    staging: Vec<(TxId, u32, StatesMask)>,
    pub(super) events: Vec<Event>,
    pub(super) notes: Vec<Note>,
    /// Writes wait here while the oldest one holds such a record.
    pub(super) freeze_before: Option<RecordRule>,
    /// The disk stops after a write with such a record, before the core hears of it.
    pub(super) freeze_after: Option<RecordRule>,
    frozen: bool,
    /// Staging waits.
    pub(super) hold_staging: bool,
    /// Staging fails.
    pub(super) refuse: Option<RefuseReason>,
    /// Transactions staged so far.
    pub(super) stagings: usize,
}

/// A message on its way.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) message: ReplicationMessage,
}

pub(super) struct World {
    pub(super) config: Config,
    pub(super) now: Now,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    pub(super) network: Vec<Envelope>,
    /// Messages for which this holds are lost.
    pub(super) lose: Option<MessageRule>,
    /// Everything sent, lost or not.
    pub(super) sent: Vec<Envelope>,
    decided: BTreeSet<TxId>,
    published: BTreeMap<ManifestHash, (NodeId, Publication)>,
}

impl World {
    /// Nodes 1 to `count`, all of them storage nodes in zones of their own.
    pub(super) fn new(count: u8) -> Self {
        Self::with_roles(&vec![Roles::STORAGE; usize::from(count)])
    }

    /// Nodes from 1 with these roles.
    pub(super) fn with_roles(roles: &[Roles]) -> Self {
        let mut world = Self {
            config: Config::default(),
            now: Now { mono: Mono(0), wall: EPOCH },
            hosts: BTreeMap::new(),
            network: Vec::new(),
            lose: None,
            sent: Vec::new(),
            decided: BTreeSet::new(),
            published: BTreeMap::new(),
        };
        for (number, roles) in (1..).zip(roles) {
            world.hosts.insert(node(number), Host { number, roles: *roles, ..Host::default() });
        }
        for number in 1..=u8::try_from(roles.len()).unwrap() {
            world.start(number);
        }
        world
    }

    pub(super) fn host(&mut self, number: u8) -> &mut Host {
        self.hosts.get_mut(&node(number)).unwrap()
    }

    pub(super) fn core(&self, number: u8) -> &Replication {
        self.hosts[&node(number)].core.as_ref().unwrap()
    }

    /// Starts a node that is down, from its disk.
    pub(super) fn start(&mut self, number: u8) {
        let admissions: Vec<SignedAdmission> =
            self.hosts.values().map(|host| admission(host.number, host.roles, ADMITTED_UNTIL)).collect();
        let config = self.config.clone();
        let host = self.host(number);
        assert!(host.core.is_none(), "the node runs already");
        host.boot += 1;
        host.core = Some(Replication::new(config, key(number), NETWORK, host.disk.restore(host.boot)));
        for admission in admissions {
            self.input(number, Input::Admitted(Box::new(admission)));
        }
        self.input(number, Input::Start);
    }

    /// Kills a node: what was not on its disk is gone.
    pub(super) fn crash(&mut self, number: u8) {
        let host = self.host(number);
        host.core = None;
        host.writes.clear();
        host.timers.clear();
        host.staging.clear();
        (host.freeze_before, host.freeze_after, host.frozen, host.hold_staging) = (None, None, false, false);
        let gone = node(number);
        self.network.retain(|envelope| envelope.from != gone && envelope.to != gone);
    }

    pub(super) fn restart(&mut self, number: u8) {
        self.crash(number);
        self.start(number);
    }

    pub(super) fn is_up(&self, number: u8) -> bool {
        self.hosts[&node(number)].core.is_some()
    }

    pub(super) fn publish(&mut self, number: u8, publication: Publication) {
        let hash = publication.manifest.body.hash();
        self.published.insert(hash, (node(number), publication.clone()));
        let states = publication.manifest.body.states();
        let Manifest { group_id, owner, .. } = publication.manifest.body;
        let disk = &mut self.host(number).disk;
        disk.visible.insert(hash, states);
        disk.groups.insert(hash, (group_id, owner));
        self.input(number, Input::Publish(Box::new(publication)));
    }

    /// Hands an input to a node; its outputs are checked and carried out.
    pub(super) fn input(&mut self, number: u8, input: Input) {
        let now = self.now;
        let mut out = Vec::new();
        if let Some(core) = &mut self.host(number).core {
            core.handle(now, input, &mut out);
        }
        for output in out {
            self.check(number, &output);
            self.carry_out(number, output);
        }
    }

    fn carry_out(&mut self, number: u8, output: Output) {
        let host = self.host(number);
        match output {
            Output::Send { to, message } => {
                let envelope = Envelope { from: node(number), to, message };
                self.sent.push(envelope.clone());
                if !self.lose.as_ref().is_some_and(|lose| lose(&envelope)) {
                    self.network.push(envelope);
                }
            }
            Output::Persist { id, records } => host.writes.push_back((id, records)),
            Output::SetTimer { timer, at } => {
                host.timers.insert((at, timer));
            }
            Output::Stage { tx, attempt, states, .. } => {
                host.stagings += 1;
                host.staging.push((tx, attempt, states));
            }
            Output::CancelStage { tx } => host.staging.retain(|(staged, ..)| *staged != tx),
            Output::Event(Event::Noted(note)) => host.notes.push(note),
            Output::Event(event) => host.events.push(event),
        }
    }

    /// One write of a node; says whether there was one that could be made.
    pub(super) fn write_one(&mut self, number: u8) -> bool {
        let host = self.host(number);
        let blocked =
            |rule: &Option<RecordRule>, records: &[Record]| rule.as_ref().is_some_and(|rule| records.iter().any(rule));
        let Some((id, records)) = host.writes.front().cloned() else { return false };
        if host.frozen || blocked(&host.freeze_before, &records) {
            return false;
        }
        host.writes.pop_front();
        host.frozen = blocked(&host.freeze_after, &records);
        let frozen = host.frozen;
        for record in records {
            self.check_record(number, &record);
            self.host(number).disk.apply(record);
        }
        if !frozen {
            self.input(number, Input::Persisted(id));
        }
        true
    }

    /// One staging of a node comes to its end.
    pub(super) fn stage_one(&mut self, number: u8) -> bool {
        let host = self.host(number);
        if host.hold_staging || host.staging.is_empty() {
            return false;
        }
        let (tx, attempt, states) = host.staging.remove(0);
        let result = host.refuse.map_or(Ok(states), Err);
        self.input(number, Input::Staged { tx, attempt, result });
        true
    }

    pub(super) fn deliver(&mut self, envelope: Envelope) {
        let Some(host) = self.hosts.get(&envelope.to) else { return };
        let number = host.number;
        self.input(number, Input::Message { from: envelope.from, message: envelope.message });
    }

    /// Lets everything happen that needs no time to pass.
    pub(super) fn settle(&mut self) {
        loop {
            let numbers: Vec<u8> = self.hosts.values().map(|host| host.number).collect();
            let mut busy = false;
            for number in numbers {
                busy |= self.write_one(number) | self.stage_one(number);
            }
            if !self.network.is_empty() {
                let envelope = self.network.remove(0);
                self.deliver(envelope);
                busy = true;
            }
            if !busy {
                return;
            }
        }
    }

    /// The earliest timer of all nodes.
    pub(super) fn next_timer(&self) -> Option<(Mono, u8, Timer)> {
        self.hosts.values().filter_map(|host| host.timers.first().map(|(at, timer)| (*at, host.number, *timer))).min()
    }

    pub(super) fn fire(&mut self, (at, number, timer): (Mono, u8, Timer)) {
        self.advance_to(at);
        self.host(number).timers.remove(&(at, timer));
        self.input(number, Input::Timer(timer));
    }

    fn advance_to(&mut self, at: Mono) {
        let passed = at.since(self.now.mono);
        self.now = Now { mono: self.now.mono.after(passed), wall: self.now.wall.after(passed) };
    }

    /// Lets time pass.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now.mono.after(time);
        self.settle();
        while let Some(timer) = self.next_timer().filter(|(at, ..)| *at <= end) {
            self.fire(timer);
            self.settle();
        }
        self.advance_to(end);
    }

    // ---- invariants ----

    fn check_record(&mut self, number: u8, record: &Record) {
        match record {
            Record::Decided(decided) => {
                self.decided.insert(decided.tx);
            }
            Record::Commit { tx, receipt, .. } => {
                assert!(self.decided.contains(tx), "G2: visible without a logged commit");
                let disk = &self.hosts[&node(number)].disk;
                assert!(!disk.is_deleted(&receipt.body.manifest_hash), "G12: visible again after it was deleted");
                let (_, publication) = &self.published[&receipt.body.manifest_hash];
                let allowed = plan::states_for(&publication.manifest.body, &publication.wraps, &node(number));
                assert!(allowed.covers(receipt.body.states), "G9: a state that the node may not hold");
                assert!(receipt.body.states.covers(publication.manifest.body.allowed(false)), "G1: a part of a group");
            }
            Record::Abort { tx, .. } => {
                assert!(!self.hosts[&node(number)].disk.committed.contains_key(tx), "G3: aborted after a commit");
            }
            Record::Intent(_)
            | Record::Prepared { .. }
            | Record::Forget(_)
            | Record::Begin(_)
            | Record::Receipts { .. }
            | Record::Wraps { .. }
            | Record::End(_)
            | Record::Tombstone { .. }
            | Record::Told { .. }
            | Record::Confirmed { .. } => {}
        }
    }

    fn check(&self, number: u8, output: &Output) {
        let disk = &self.hosts[&node(number)].disk;
        match output {
            Output::Send { message, .. } => self.check_message(number, disk, message),
            Output::Event(Event::Durable { manifest, receipts, .. }) => {
                let hash = manifest.body.hash();
                let (_, publication) = &self.published[&hash];
                let holders: BTreeSet<NodeId> = receipts.iter().map(|receipt| receipt.body.holder).collect();
                assert!(holders.len() >= plan::need(publication), "G4: success with fewer than W receipts");
                for receipt in receipts {
                    receipt.verify(&NETWORK).unwrap();
                    let visible = self.hosts[&receipt.body.holder].disk.visible.get(&hash);
                    assert!(
                        visible.is_some_and(|states| states.covers(receipt.body.states)),
                        "G4: a receipt without a copy"
                    );
                    assert!(
                        disk.receipts[&hash].contains_key(&receipt.body.holder),
                        "G4: a receipt that is not on disk"
                    );
                }
            }
            Output::Persist { .. }
            | Output::SetTimer { .. }
            | Output::Stage { .. }
            | Output::CancelStage { .. }
            | Output::Event(_) => {}
        }
    }

    fn check_message(&self, number: u8, disk: &Disk, message: &ReplicationMessage) {
        let held = |tx: &TxId| {
            self.hosts[&node(number)].core.as_ref().is_some_and(|core| {
                core.transactions().iter().any(|open| open.tx == *tx && disk.visible.contains_key(&open.manifest_hash))
            })
        };
        match message {
            ReplicationMessage::PrepareOk { tx, .. } => {
                assert!(disk.intents.contains_key(tx) || held(tx), "answered before T1");
            }
            ReplicationMessage::Prepared { tx, states, .. } => {
                let staged = disk.intents.get(tx).and_then(|(_, staged)| *staged);
                assert!(staged == Some(*states) || held(tx), "answered before T3");
            }
            ReplicationMessage::Decision(decision) | ReplicationMessage::Status { decision: Some(decision), .. } => {
                decision.verify(&NETWORK).unwrap();
                let logged = self.decided.contains(&decision.body.tx);
                assert_eq!(decision.body.commit, logged, "G7: a decision that is not the logged one");
            }
            ReplicationMessage::DecisionAck { tx, outcome, attempt } => match outcome {
                DecisionOutcome::Committed(receipt) => {
                    let states = disk.visible.get(&receipt.body.manifest_hash);
                    // Only a coordinator that knows nothing of its own deletion hears the answer of before.
                    let deleted = disk.is_deleted(&receipt.body.manifest_hash);
                    let held = states.is_some_and(|states| states.covers(receipt.body.states));
                    assert!(held || deleted, "acknowledged before T4");
                }
                DecisionOutcome::Aborted | DecisionOutcome::Gone => {
                    let open = disk.intents.get(tx).is_some_and(|(intent, _)| intent.prepare.attempt <= *attempt);
                    assert!(!open, "acknowledged before T5");
                }
            },
            ReplicationMessage::Prepare(prepare) => {
                assert!(!disk.is_deleted(&prepare.manifest.body.hash()), "G12: prepared after it was deleted");
                let (_, publication) = &self.published[&prepare.manifest.body.hash()];
                assert!(publication.manifest.body.states().covers(prepare.states));
            }
            ReplicationMessage::Status { tx, status, decision: None } => {
                let logged = disk.publications.values().filter_map(|(_, decided)| decided.as_ref());
                let disowned = *status == TxStatus::Unknown && logged.into_iter().any(|decided| decided.tx == *tx);
                assert!(!disowned, "G7: a logged commit is disowned");
            }
            ReplicationMessage::Tombstones(tombstones) => {
                for tombstone in tombstones {
                    assert!(disk.tombstones.contains_key(&tombstone.body.group_id), "told before D1");
                }
            }
            ReplicationMessage::TombstonesKept { groups } => {
                for group in groups {
                    assert!(disk.tombstones.contains_key(group), "confirmed before D1");
                }
            }
            ReplicationMessage::PrepareNo { .. }
            | ReplicationMessage::Progress { .. }
            | ReplicationMessage::LeaseRenew { .. }
            | ReplicationMessage::StatusQuery { .. }
            | ReplicationMessage::Receipts { .. }
            | ReplicationMessage::Wraps { .. } => {}
        }
    }

    /// G5, G10: nothing is reserved, nothing is open, nobody owes anything.
    pub(super) fn assert_clean(&self) {
        for host in self.hosts.values() {
            assert!(host.disk.intents.is_empty(), "G5: node {} still has {:?}", host.number, host.disk.intents.keys());
            assert!(host.disk.publications.is_empty(), "G10: node {} still coordinates", host.number);
            assert!(host.disk.silent.values().all(BTreeSet::is_empty), "node {} was not heard by all", host.number);
            for hash in host.disk.visible.keys() {
                let deleted = self.hosts.values().any(|other| other.disk.is_deleted(hash));
                assert!(!deleted, "G12: node {} still shows what was deleted", host.number);
            }
            let open = host.core.as_ref().unwrap().transactions();
            assert!(open.is_empty(), "G10: node {} still has {open:?}", host.number);
        }
    }

    /// Nodes other than the publisher on which the group is visible, and the publisher if it counts itself.
    pub(super) fn holders(&self, hash: &ManifestHash) -> Vec<u8> {
        let receipt_of = |host: &&Host| {
            host.disk.receipts.get(hash).is_some_and(|receipts| receipts.contains_key(&node(host.number)))
        };
        let visible = self.hosts.values().filter(|host| host.disk.visible.contains_key(hash));
        let mut numbers: Vec<u8> = visible.filter(receipt_of).map(|host| host.number).collect();
        numbers.sort_unstable();
        numbers
    }

    /// Messages sent so far for which `rule` holds.
    pub(super) fn count_sent(&self, rule: impl Fn(&Envelope) -> bool) -> usize {
        self.sent.iter().filter(|envelope| rule(envelope)).count()
    }
}

pub(super) fn is_commit(envelope: &Envelope) -> bool {
    matches!(&envelope.message, ReplicationMessage::Decision(decision) if decision.body.commit)
}

pub(super) fn is_durable(event: &Event) -> bool {
    matches!(event, Event::Durable { .. })
}
