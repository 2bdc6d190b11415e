//! A network of cores in memory: messages, disks and time, all in the hands of the test.
//!
//! Whatever the test is about, every message that leaves is compared with the disk of its sender: votes, offered keys,
//! proposals and roster signatures must be there already, and no two votes of one key may ever contradict each other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::OnceLock,
    time::Duration,
};

use ed25519_dalek::SigningKey;
use mynet_types::{
    AckedHead, AdmissionRecord, BoundedVec, CertificateFile, Claim, ConsensusMessage, Genesis, HeadProof, ManifestHash,
    Mono, NodeId, Now, OwnerKey, Phase, Roles, Signed, SignedAdmission, SignedManifest, SignedReceipt, StorageReceipt,
    Timestamp, Validator, Vote, VoteKey, VoteSecret, WrapKey,
    evidence::contradict,
    head::{HeadSet, set_root},
    manifest::Manifest,
    wire::Receipts,
};

use crate::{
    consensus::{
        Consensus,
        io::{Config, Event, Input, Outcome, Output, Record, Restored, Tally, Timer},
    },
    group,
    persist::PersistId,
    reason::Note,
};

/// Wall clock of virtual time zero; any will do that is not zero.
pub(super) const EPOCH_MS: u64 = 1_700_000_000_000;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) fn key(index: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(index).unwrap() + 1; 32])
}

/// The id of a node; derived once, because tests ask for it all the time.
pub(super) fn id(index: usize) -> NodeId {
    static IDS: OnceLock<Vec<NodeId>> = OnceLock::new();
    let derive = || (0..16).map(|index| NodeId(key(index).verifying_key().to_bytes())).collect();
    IDS.get_or_init(derive)[index]
}

fn founder_vote_key() -> SigningKey {
    SigningKey::from_bytes(&[201; 32])
}

pub(super) fn owner_key() -> SigningKey {
    SigningKey::from_bytes(&[202; 32])
}

/// One of the three offline keys.
pub(super) fn recovery_key(index: u8) -> SigningKey {
    SigningKey::from_bytes(&[203 + index; 32])
}

pub(super) fn genesis(allow_degraded_quorum: bool) -> Genesis {
    Genesis {
        format: 1,
        name: "test".try_into().unwrap(),
        created_at: Timestamp(EPOCH_MS),
        min_quorum: 3,
        allow_degraded_quorum,
        recovery_keys: [0, 1, 2].map(|index| recovery_key(index).verifying_key().to_bytes()),
        founder: Validator { vote_key: VoteKey(founder_vote_key().verifying_key().to_bytes()), node: id(0) },
        salt: [5; 32],
    }
}

/// What a vote store holds.
#[derive(Debug, Default, Clone)]
pub(super) struct Disk {
    pub(super) restored: Restored,
    /// Every vote ever written.
    pub(super) votes_ever: Vec<Vote>,
}

impl Disk {
    fn write(&mut self, record: Record) {
        let store = &mut self.restored;
        match record {
            Record::Vote(vote) => {
                self.votes_ever.push(vote.clone());
                store.votes.push(vote);
            }
            Record::Key { epoch, secret } => {
                store.keys.insert(epoch, secret);
            }
            Record::EraseKeys { through } => {
                store.keys.retain(|epoch, _| *epoch > through);
                store.signed.retain(|(epoch, _)| *epoch > through);
                store.acked.retain(|head| head.certificate.statement.epoch > through);
                store.closed = store.closed.take().filter(|next| next.roster.epoch > through + 1);
            }
            Record::RosterLock(lock) => store.lock = Some(lock),
            Record::Link(link) => {
                store.votes.retain(|vote| vote.statement.epoch >= link.roster.epoch);
                store.lock = None;
                store.carried_next.clear();
                store.reported.clear();
                store.links.push(link);
            }
            Record::Proposal(open) => {
                store.proposals.retain(|known| known.proposal != open.proposal);
                store.proposals.push(open);
            }
            Record::Evidence(evidence) => store.evidence.push(evidence),
            Record::OwnerEvidence(evidence) => store.owner_evidence.push(evidence),
            Record::OwnerSigned { epoch, signed } => store.signed.push((epoch, signed)),
            Record::Approval { node, given: true } => store.approved.push(node),
            Record::Approval { node, given: false } => store.approved.retain(|known| *known != node),
            Record::Closed(closed) => store.proposals.retain(|known| known.proposal.body.id() != closed),
            Record::Acked(head) => {
                store.acked.retain(|known| known.group_id != head.group_id);
                store.acked.push(head);
            }
            Record::EpochClosed(next) => store.closed = Some(next),
            Record::Carried(heads) => {
                store.carried.retain(|known| heads.iter().all(|head| head.group_id != known.group_id));
                store.carried.extend(heads.into_vec());
            }
            Record::CarriedNext(heads) => store.carried_next.extend(heads.into_vec()),
            Record::Reported { root, heads } => {
                store.reported.extend(heads.into_vec().into_iter().map(|head| (root, head)));
            }
            Record::Unlinked { after } => {
                store.links.retain(|link| link.roster.epoch <= after);
                store.keys.retain(|epoch, _| *epoch <= after);
                store.votes.retain(|vote| vote.statement.epoch <= after);
                store.acked.retain(|head| head.certificate.statement.epoch <= after);
                store.evidence.retain(|evidence| evidence.epoch() <= after);
                store.signed.retain(|(epoch, _)| *epoch <= after);
                (store.lock, store.closed) = (None, None);
                store.carried.clear();
                store.carried_next.clear();
                store.reported.clear();
            }
        }
    }
}

pub(super) struct Node {
    pub(super) core: Consensus,
    pub(super) disk: Disk,
    pub(super) events: Vec<Event>,
    pub(super) notes: Vec<Note>,
    /// Values whose bytes it was asked to look at, and where.
    pub(super) hashing: Vec<(ManifestHash, Vec<NodeId>)>,
    pub(super) down: bool,
    writes: VecDeque<(PersistId, Vec<Record>)>,
    timers: BTreeSet<(Mono, Timer)>,
}

/// May a message pass? Sender, receiver, message.
type Filter = Box<dyn FnMut(NodeId, NodeId, &ConsensusMessage) -> bool>;

pub(super) struct Net {
    pub(super) nodes: Vec<Node>,
    pub(super) genesis: Genesis,
    pub(super) config: Config,
    pub(super) now: Now,
    pub(super) filter: Filter,
    /// Everything that was sent, lost or not.
    pub(super) sent: Vec<(NodeId, NodeId, ConsensusMessage)>,
    /// Batches stay in the queue while this is set.
    pub(super) disks_stall: bool,
    flying: VecDeque<(NodeId, NodeId, ConsensusMessage)>,
    starts: u8,
}

impl Net {
    /// `count` nodes, all admitted as validators, all connected; only the first has a seat.
    pub(super) fn new(count: usize, config: Config, allow_degraded: bool) -> Self {
        let mut net = Self {
            nodes: Vec::new(),
            genesis: genesis(allow_degraded),
            config,
            now: Now { mono: Mono(0), wall: Timestamp(EPOCH_MS) },
            filter: Box::new(|_, _, _| true),
            sent: Vec::new(),
            disks_stall: false,
            flying: VecDeque::new(),
            starts: 0,
        };
        for index in 0..count {
            let mut disk = Disk::default();
            disk.restored.may_vote = true;
            if index == 0 {
                disk.restored.keys.insert(0, VoteSecret(founder_vote_key().to_bytes()));
            }
            let core = net.boot(index, &disk);
            let (events, notes, hashing) = (Vec::new(), Vec::new(), Vec::new());
            let (writes, timers) = (VecDeque::new(), BTreeSet::new());
            net.nodes.push(Node { core, disk, events, notes, hashing, down: false, writes, timers });
        }
        for index in 0..count {
            net.begin(index);
        }
        net
    }

    /// A network whose roster has grown to `seats` of its `count` nodes.
    pub(super) fn grown(count: usize, seats: usize) -> Self {
        let config = Config { automatic_validators: seats, ..Config::default() };
        let mut net = Self::new(count, config, false);
        net.run_until(60, |net| net.nodes.iter().all(|node| node.core.roster().validators.len() == seats));
        net.settle();
        net.clear();
        net
    }

    /// Forgets what was sent and reported so far.
    pub(super) fn clear(&mut self) {
        self.sent.clear();
        self.nodes.iter_mut().for_each(|node| node.events.clear());
    }

    fn boot(&mut self, index: usize, disk: &Disk) -> Consensus {
        self.starts += 1;
        let seed = [self.starts; 32];
        Consensus::new(self.config.clone(), key(index), self.genesis.clone(), disk.restored.clone(), seed).unwrap()
    }

    /// Starts a core and connects it with everybody who is not down.
    fn begin(&mut self, index: usize) {
        for other in 0..self.nodes.len() {
            self.input(index, Input::Admitted(Box::new(self.admission(other, Roles::VALIDATOR.union(Roles::STORAGE)))));
        }
        self.input(index, Input::Start);
        for other in 0..self.nodes.len() {
            if other != index && !self.nodes[other].down {
                self.input(index, Input::PeerUp(id(other)));
                self.input(other, Input::PeerUp(id(index)));
            }
        }
    }

    pub(super) fn admission(&self, index: usize, roles: Roles) -> SignedAdmission {
        let text = |word: &str| word.to_owned();
        let body = AdmissionRecord {
            node: id(index),
            wrap_key: WrapKey([0; 32]),
            roles,
            trusted: false,
            region: text("r").try_into().unwrap(),
            zone: text("z").try_into().unwrap(),
            weight: 1,
            admitted_at: Timestamp(EPOCH_MS + index as u64),
            expires_at: Timestamp(EPOCH_MS).after(YEAR),
            epoch: 0,
            issuer: id(0),
            nonce: [0; 16],
        };
        Signed::new(&self.genesis.network_id(), body, &key(0))
    }

    /// A crash: what was not on disk is gone, and nobody reaches the node.
    pub(super) fn crash(&mut self, index: usize) {
        self.nodes[index].down = true;
        self.nodes[index].writes.clear();
        self.nodes[index].timers.clear();
        self.flying.retain(|(_, to, _)| *to != id(index));
        for other in 0..self.nodes.len() {
            if !self.nodes[other].down {
                self.input(other, Input::PeerDown(id(index)));
            }
        }
    }

    /// The node comes back with what is on its disk.
    pub(super) fn restart(&mut self, index: usize) {
        let disk = self.nodes[index].disk.clone();
        self.nodes[index].core = self.boot(index, &disk);
        self.nodes[index].down = false;
        self.begin(index);
    }

    pub(super) fn input(&mut self, index: usize, input: Input) {
        let node = &mut self.nodes[index];
        let mut out = Vec::new();
        node.core.handle(self.now, input, &mut out);
        for output in out {
            match output {
                Output::Send { to, message } => {
                    assert_ne!(to, id(index), "a node tells itself without the network");
                    check_is_on_disk(&node.disk, &message);
                    self.sent.push((id(index), to, message.clone()));
                    self.flying.push_back((id(index), to, message));
                }
                Output::Persist { id, records } => node.writes.push_back((id, records)),
                Output::SetTimer { timer, at } => {
                    node.timers.insert((at, timer));
                }
                Output::Hash { manifest, sources } => node.hashing.push((manifest.hash(), sources)),
                Output::Event(Event::Noted(note)) => node.notes.push(note),
                Output::Event(event) => node.events.push(event),
            }
        }
    }

    /// A message as if `from` had sent it.
    pub(super) fn inject(&mut self, from: usize, to: usize, message: ConsensusMessage) {
        self.input(to, Input::Message { from: id(from), message });
    }

    /// A node starts again without all that its vote store had, but the links.
    pub(super) fn lose_store(&mut self, index: usize) {
        self.crash(index);
        let links = self.nodes[index].disk.restored.links.clone();
        self.nodes[index].disk = Disk::default();
        self.nodes[index].disk.restored.links = links;
        self.restart(index);
        assert!(!self.nodes[index].core.may_vote());
    }

    /// Delivers and writes everything, without time passing.
    pub(super) fn settle(&mut self) {
        loop {
            if !self.disks_stall {
                for index in 0..self.nodes.len() {
                    while let Some((batch, records)) = self.nodes[index].writes.pop_front() {
                        records.into_iter().for_each(|record| self.nodes[index].disk.write(record));
                        check_votes(&self.nodes[index].disk);
                        self.input(index, Input::Persisted(batch));
                    }
                }
            }
            let Some((from, to, message)) = self.flying.pop_front() else { break };
            let index = (0..self.nodes.len()).find(|index| id(*index) == to);
            if let Some(index) = index.filter(|index| !self.nodes[*index].down)
                && (self.filter)(from, to, &message)
            {
                self.input(index, Input::Message { from, message });
            }
        }
    }

    /// Lets the next timer of any node run out; `false` if there is none within `limit`.
    fn tick(&mut self, limit: Mono) -> bool {
        let next = |node: &Node| node.timers.first().map(|(at, _)| *at);
        let Some(at) = self.nodes.iter().filter_map(next).min().filter(|at| *at <= limit) else { return false };
        let at = at.max(self.now.mono);
        self.now = Now { mono: at, wall: Timestamp(EPOCH_MS + at.0) };
        for index in 0..self.nodes.len() {
            while let Some((due, timer)) = self.nodes[index].timers.first().copied().filter(|(due, _)| *due <= at) {
                self.nodes[index].timers.remove(&(due, timer));
                self.input(index, Input::Timer(timer));
            }
        }
        true
    }

    /// Lets `seconds` of virtual time pass.
    pub(super) fn run(&mut self, seconds: u64) {
        let limit = self.now.mono.after(Duration::from_secs(seconds));
        self.settle();
        while self.tick(limit) {
            self.settle();
        }
        self.now = Now { mono: limit, wall: Timestamp(EPOCH_MS + limit.0) };
    }

    /// Lets time pass until `done`, at most `seconds`.
    pub(super) fn run_until(&mut self, seconds: u64, done: impl Fn(&Self) -> bool) {
        let limit = self.now.mono.after(Duration::from_secs(seconds));
        self.settle();
        while !done(self) {
            assert!(self.tick(limit), "not reached within {seconds} s");
            self.settle();
        }
    }

    pub(super) fn propose(&mut self, index: usize, manifest: &SignedManifest, claim: Claim, receipts: Receipts) {
        let manifest = Box::new(manifest.clone());
        self.input(index, Input::Propose { manifest, receipts, claim });
    }

    /// A right manifest, changed by `change` before it is signed.
    pub(super) fn manifest(&self, change: impl FnOnce(&mut Manifest)) -> SignedManifest {
        let owner = OwnerKey(owner_key().verifying_key().to_bytes());
        let body = group::tests::manifest(|manifest| {
            manifest.owner = owner;
            change(manifest);
        });
        Signed::new(&self.genesis.network_id(), body, &owner_key())
    }

    /// The version after `before`, changed by `change` before it is signed.
    pub(super) fn head(&self, before: &SignedManifest, change: impl FnOnce(&mut Manifest)) -> SignedManifest {
        let mut body = before.body.clone();
        body.prev = Some(before.body.hash());
        body.version += 1;
        body.created_at.0 += 1;
        change(&mut body);
        Signed::new(&self.genesis.network_id(), body, &owner_key())
    }

    /// Has a first version certified by node 0, and answers with its certificate.
    pub(super) fn certified(&mut self, manifest: &SignedManifest) -> CertificateFile {
        self.propose(0, manifest, Claim::Seen, Receipts::new());
        self.run_until(60, |net| net.outcome(0, &manifest.body.hash()) == Some(Outcome::Approved));
        self.certificate_of(0, manifest)
    }

    /// The certificate of a manifest that a node told of.
    pub(super) fn certificate_of(&self, index: usize, manifest: &SignedManifest) -> CertificateFile {
        let value = manifest.body.hash();
        let of_it = |file: &&CertificateFile| file.certificate.statement.value == value;
        self.certificates(index).into_iter().find(of_it).unwrap().clone()
    }

    /// A node is to have a version after the one in `before` certified.
    pub(super) fn propose_head(&mut self, index: usize, manifest: &SignedManifest, before: &CertificateFile) {
        let (manifest, previous) = (Box::new(manifest.clone()), Box::new(HeadProof::of(before)));
        self.input(index, Input::ProposeHead { manifest, previous, receipts: Receipts::new(), claim: Claim::Seen });
    }

    /// Lets the roster of a grown network grow further.
    pub(super) fn allow_seats(&mut self, seats: usize) {
        self.config.automatic_validators = seats;
        for index in 0..self.nodes.len() {
            if !self.nodes[index].down {
                self.crash(index);
                self.restart(index);
            }
        }
    }

    pub(super) fn receipt(&self, holder: usize, manifest: &SignedManifest) -> SignedReceipt {
        let body = StorageReceipt {
            manifest_hash: manifest.body.hash(),
            states: manifest.body.allowed(false),
            holder: id(holder),
            until: Timestamp(EPOCH_MS).after(YEAR),
        };
        Signed::new(&self.genesis.network_id(), body, &key(holder))
    }

    pub(super) fn receipts(&self, holders: &[usize], manifest: &SignedManifest) -> Receipts {
        BoundedVec::truncated(holders.iter().map(|holder| self.receipt(*holder, manifest)))
    }

    pub(super) fn tally(&self, index: usize, value: &ManifestHash) -> Tally {
        self.nodes[index].core.tally(value).unwrap()
    }

    pub(super) fn outcome(&self, index: usize, value: &ManifestHash) -> Option<Outcome> {
        self.nodes[index].core.tally(value).map(|tally| tally.outcome)
    }

    /// The outcomes that a node reported, repeats in a row left out.
    pub(super) fn outcomes(&self, index: usize) -> Vec<Outcome> {
        let mut seen: Vec<Outcome> = Vec::new();
        for event in &self.nodes[index].events {
            if let Event::Progress { tally, .. } = event
                && seen.last() != Some(&tally.outcome)
            {
                seen.push(tally.outcome);
            }
        }
        seen
    }

    pub(super) fn certificates(&self, index: usize) -> Vec<&CertificateFile> {
        fn certified(event: &Event) -> Option<&CertificateFile> {
            if let Event::Certified(file) = event { Some(file) } else { None }
        }
        self.nodes[index].events.iter().filter_map(certified).collect()
    }

    /// The node that holds `seat` in the newest roster of node 0.
    pub(super) fn at_seat(&self, seat: usize) -> usize {
        let node = self.nodes[0].core.roster().validators[seat].node;
        (0..self.nodes.len()).find(|index| id(*index) == node).unwrap()
    }

    pub(super) fn seat_of(&self, index: usize) -> usize {
        self.nodes[0].core.roster().seat_of(&id(index)).unwrap()
    }

    /// The key with which a node votes in the newest epoch.
    pub(super) fn vote_key(&self, index: usize) -> SigningKey {
        let epoch = self.nodes[index].core.roster().epoch;
        SigningKey::from_bytes(&self.nodes[index].disk.restored.keys[&epoch].0)
    }

    /// Vote keys on a node's disk.
    pub(super) fn keys(&self, index: usize) -> &BTreeMap<u64, VoteSecret> {
        &self.nodes[index].disk.restored.keys
    }
}

/// What depends on the disk must be there when it leaves.
fn check_is_on_disk(disk: &Disk, message: &ConsensusMessage) {
    match message {
        ConsensusMessage::Vote(vote) => {
            assert!(disk.votes_ever.contains(vote), "a vote left before it was durable");
            let same = |head: &AckedHead| head.certificate.statement.slot == vote.statement.slot;
            let newer = |head: &AckedHead| head.version > 2;
            let acked = disk.restored.acked.iter().any(|head| same(head) || newer(head));
            assert!(vote.statement.phase == Phase::Vote || acked, "an ack left before what it rests on was durable");
        }
        ConsensusMessage::CloseReport(report) => {
            let heads: HeadSet = disk.restored.acked.iter().map(|head| (head.group_id, head.carried())).collect();
            assert_eq!(report.statement.root, set_root(heads.values()), "what was acked is durable");
            assert!(disk.restored.closed.is_some(), "a report left before the epoch was closed");
        }
        ConsensusMessage::Propose { proposal, .. } => {
            let open = disk.restored.proposals.iter().any(|open| open.proposal == *proposal);
            assert!(open, "a proposal left before it was durable");
        }
        ConsensusMessage::KeyOffer { offer, .. } => {
            let secret = disk.restored.keys.get(&offer.body.epoch).expect("an offered key is durable");
            let key = SigningKey::from_bytes(&secret.0).verifying_key().to_bytes();
            assert_eq!(key, offer.body.seat.vote_key.0);
        }
        ConsensusMessage::RosterVote { roster, old: Some(_), .. } => {
            let lock = disk.restored.lock.as_ref().expect("the lock is durable before it is signed");
            assert_eq!(lock.roster.hash(), *roster);
        }
        _ => {}
    }
}

/// C2, over everything this node ever wrote.
fn check_votes(disk: &Disk) {
    for (index, a) in disk.votes_ever.iter().enumerate() {
        for b in disk.votes_ever.iter().skip(index + 1) {
            assert!(!contradict(&a.statement, &b.statement), "{a:?} contradicts {b:?}");
        }
    }
}
