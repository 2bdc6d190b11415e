//! A small world on a stage, for tests that feed checkers a history: three nodes, the first founded the network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_proto::{
    consensus::io::{Event as ConsensusEvent, Hashed, OpenProposal, Outcome, Record as VoteRecord, Tally},
    node::io::Event,
    replication::io::{Decided, Event as ReplicationEvent, Intent, Mode, Publication, Record},
};
use mynet_types::{
    Blake3Root, BlobRef, BoundedVec, CarriedHead, CertificateFile, Claim, ConsensusMessage, ContentHash, ContentState,
    Decision, DecryptedClass, Domain, HeadProof, Holding, ManifestHash, Message, OfferFile, Phase, Proposal,
    ProposalId, QuorumCertificate, RecoveryFile, RecoveryOffer, ReplicationMessage, RosterChain, RosterKey,
    SignedDecision, SignedManifest, SignedProposal, SignedReceipt, SignedRecoveryOffer, SignerSet, StatesMask,
    StorageReceipt, Timestamp, TxId, Validator, Verdict, Vote, VoteKey, VoteStatement,
    certificate::RECEIPTS_MAX,
    signing,
    vote::{attest_slot, head_slot},
    wire::{DecisionOutcome, Prepare, Receipts, TxStatus},
};

use crate::{
    cast::{Cast, GroupPlan},
    disk::Store,
    group_store::lineages::{Draft, DriverWrite},
    host::Host,
    observe::{Seen, View},
    options::{Options, Suite, generator},
    staging::true_names,
    workload::{Head, Work},
};

/// The stage with its props: one group of node 0, encrypted, granted to nobody, W = 2, R = 2.
pub(super) struct Stage {
    pub(super) cast: Cast,
    pub(super) hosts: Vec<Host>,
    works: Vec<Work>,
    files: BTreeMap<ManifestHash, CertificateFile>,
}

impl Stage {
    /// Three nodes that all want a seat.
    pub(super) fn new() -> Self {
        Self::of(3)
    }

    /// Only the founder wants a seat, and one validator may certify.
    pub(super) fn alone() -> Self {
        Self::of(1)
    }

    /// As [`Self::alone`]; the bytes of the group are found so by whoever hashes them, and somebody asked for that.
    pub(super) fn of_bytes(hashed: Hashed) -> Self {
        let mut stages = (1..).map(|seed| Self::seeded(1, seed));
        let mut stage = stages.find(|stage| true_names(&stage.works[0].value) == hashed).expect("there are both");
        stage.works[0].verified_asked = true;
        stage
    }

    fn of(validators: usize) -> Self {
        Self::seeded(validators, 1)
    }

    fn seeded(validators: usize, seed: u64) -> Self {
        let mut options = Options::from_seed(Suite::Node, 1);
        (options.nodes, options.late, options.validators) = (3, 0, validators);
        (options.degraded_allowed, options.safety) = (true, Duration::from_secs(30));
        let cast = Cast::new(&options);
        let hosts = cast.players.iter().map(|player| Host::new(player.id, None, 0)).collect();
        let plan = GroupPlan {
            class: DecryptedClass::Granted,
            bytes: 1000,
            replicas: 2,
            quorum: 2,
            mode: Mode::Quorum,
            granted: 0,
        };
        let mut rng = generator(Suite::Node, seed, "stage");
        // A group with a preview; three of four have one.
        let publication = std::iter::repeat_with(|| cast.publication(&mut rng, &plan))
            .find(|publication| publication.manifest.body.member(ContentState::Preview).is_some())
            .expect("some group has a preview");
        let work = Work {
            at: 0,
            node: 0,
            rival: None,
            value: publication.manifest.body.hash(),
            receipts: cast.receipts(&publication.manifest, 2),
            claim: Claim::Durable,
            publication,
            bad: false,
            unproven: false,
            granted_later: None,
            deleted_at: None,
            taken: true,
            deleted: false,
            heads: Vec::new(),
            versions: Vec::new(),
            rival_version: None,
            verified_at: None,
            verified_asked: false,
        };
        Self { cast, hosts, works: vec![work], files: BTreeMap::new() }
    }

    /// What node 1 brings to a recovery of the first roster.
    pub(super) fn recovery_offer(&self) -> SignedRecoveryOffer {
        let (player, first) = (&self.cast.players[1], self.cast.genesis.first_roster());
        let key = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let seat = Validator { vote_key: VoteKey(key.to_bytes()), node: player.id };
        let key = RosterKey { epoch: 1, prev: first.hash(), seat };
        let key_signature = signing::sign_as(Domain::RosterKey, &self.cast.network, &key, &player.key);
        let (acked, carried) = (BoundedVec::new(), None);
        let body = RecoveryOffer { key, key_signature, reports: false, acked, carried };
        SignedRecoveryOffer::new(&self.cast.network, body, &player.key)
    }

    /// Operators put node 1 in the place of the founder, who is lost; the first two keys signed.
    pub(super) fn recovery(&self) -> RecoveryFile {
        let (genesis, chain) = (self.cast.genesis.clone(), RosterChain::default());
        let offers = [OfferFile { genesis, chain, offer: self.recovery_offer() }];
        let (mut file, _) = RecoveryFile::propose(&offers, &[], Timestamp::MAX).expect("an offer of one seat");
        for key in &self.cast.recovery_keys[..2] {
            file.sign(key).expect("a key of this network");
        }
        file
    }

    /// The states that anybody may store.
    pub(super) fn stored() -> StatesMask {
        StatesMask::EMPTY.with(ContentState::Encrypted).with(ContentState::Preview)
    }

    pub(super) fn view(&self) -> View<'_> {
        View { now: 0, cast: &self.cast, hosts: &self.hosts, works: &self.works, files: &self.files }
    }

    /// The same at true time `now`.
    pub(super) fn view_at(&self, now: u64) -> View<'_> {
        View { now, ..self.view() }
    }

    pub(super) fn manifest(&self) -> SignedManifest {
        self.works[0].publication.manifest.clone()
    }

    /// A proposal of the founder with this nonce.
    pub(super) fn open_proposal(&self, nonce: [u8; 16]) -> OpenProposal {
        let manifest = self.works[0].publication.manifest.clone();
        let proposer = &self.cast.players[0];
        let body = Proposal {
            epoch: 0,
            roster: self.cast.genesis.first_roster().hash(),
            proposer: proposer.id,
            group_id: manifest.body.group_id,
            version: 1,
            manifest_hash: self.works[0].value,
            claim: Claim::Durable,
            states: Self::stored(),
            expires_at: Timestamp::MAX,
            nonce,
        };
        let proposal = SignedProposal::new(&self.cast.network, body, &proposer.key);
        OpenProposal { proposal, manifest, receipts: self.works[0].receipts.clone(), previous: None }
    }

    /// A prepare that names these targets.
    pub(super) fn prepare_for(&self, targets: &[usize]) -> Prepare {
        let targets = targets.iter().map(|index| self.cast.players[*index].id);
        Prepare { targets: BoundedVec::truncated(targets), ..self.prepare() }
    }

    /// The files of node `node` vanish.
    pub(super) fn lose_files_on(&mut self, node: usize) {
        self.hosts[node].groups.store.files_mut().sweep(&BTreeSet::new());
    }

    /// Node `node` has a file that nobody needs.
    pub(super) fn stray_file_on(&mut self, node: usize) {
        let blob = BlobRef { sha256: ContentHash([9; 32]), blake3: Blake3Root([9; 32]), size: 1 };
        self.hosts[node].groups.store.files_mut().put(&blob, true);
    }

    /// `message` leaves `from`.
    pub(super) fn sent<'a>(&self, from: usize, message: &'a Message) -> Seen<'a> {
        Seen::Sent { from, to: self.cast.players[0].id, message }
    }

    fn statement(&self, verdict: Verdict) -> VoteStatement {
        let value = self.works[0].value;
        VoteStatement {
            epoch: 0,
            roster: self.cast.genesis.first_roster().hash(),
            phase: Phase::Vote,
            slot: attest_slot(&value),
            value,
            verdict,
            claim: Claim::Durable,
            states: Self::stored(),
        }
    }

    /// A vote of the founder's seat.
    pub(super) fn vote(&self, seat: u16, verdict: Verdict) -> Vote {
        let statement = self.statement(verdict);
        let key = ed25519_dalek::SigningKey::from_bytes(&self.cast.founder_secret);
        let signature = signing::sign_as(Domain::Vote, &self.cast.network, &statement, &key);
        Vote { statement, seat, signature, proposal_id: ProposalId([0; 32]), reason: None }
    }

    /// The second version of the group, and the node that is asked for it.
    pub(super) fn add_head(&mut self) -> Head {
        let mut rng = generator(Suite::Node, 1, "stage of heads");
        let manifest = self.cast.next_version(&mut rng, &self.works[0].publication.manifest);
        Head {
            at: 0,
            node: 0,
            rival: None,
            value: manifest.body.hash(),
            other: None,
            receipts: self.cast.receipts(&manifest, 2),
            claim: Claim::Durable,
            manifest,
            taken: vec![0],
        }
    }

    /// The group has this version too.
    pub(super) fn with_head(mut self, head: Head) -> Self {
        self.works[0].heads.push(head);
        self
    }

    /// What the founder's seat signs about `value` as the second version of the group, in the first or second round.
    pub(super) fn head_vote(&self, phase: Phase, value: ManifestHash) -> Vote {
        let group_id = self.works[0].publication.manifest.body.group_id;
        let statement =
            VoteStatement { phase, slot: head_slot(&group_id, 2), value, ..self.statement(Verdict::Accept) };
        let key = ed25519_dalek::SigningKey::from_bytes(&self.cast.founder_secret);
        let signature = signing::sign_as(Domain::Vote, &self.cast.network, &statement, &key);
        Vote { statement, seat: 0, signature, proposal_id: ProposalId([0; 32]), reason: None }
    }

    /// `value` is carried as the second version of the group.
    pub(super) fn carried(&self, value: ManifestHash) -> VoteRecord {
        let group_id = self.works[0].publication.manifest.body.group_id;
        VoteRecord::Carried(BoundedVec::truncated([CarriedHead { group_id, version: 2, value }]))
    }

    pub(super) fn vote_message(&self, verdict: Verdict) -> Message {
        Message::Consensus(ConsensusMessage::Vote(self.vote(0, verdict)))
    }

    /// A valid certificate of the founder alone.
    pub(super) fn certificate(&self) -> CertificateFile {
        let vote = self.vote(0, Verdict::Accept);
        let signers = SignerSet::collect([(0, vote.signature)]);
        CertificateFile {
            manifest: self.works[0].publication.manifest.clone(),
            certificate: QuorumCertificate { statement: vote.statement, signers },
            holdings: self.holdings(),
            chain: RosterChain::default(),
        }
    }

    /// The receipts of the group beside the admissions of their holders.
    fn holdings(&self) -> BoundedVec<Holding, RECEIPTS_MAX> {
        BoundedVec::truncated(self.works[0].receipts.iter().map(|receipt| {
            let player = self.cast.index_of(&receipt.body.holder).expect("receipts of the cast");
            Holding { receipt: receipt.clone(), admission: self.cast.players[player].admission.clone() }
        }))
    }

    /// A core reports an outcome of the group, asked for as durable.
    pub(super) fn progress(&self, outcome: Outcome) -> Event {
        self.progress_of(Claim::Durable, outcome)
    }

    /// A core reports an outcome of the group.
    pub(super) fn progress_of(&self, claim: Claim, outcome: Outcome) -> Event {
        let manifest = &self.works[0].publication.manifest.body;
        Event::Consensus(ConsensusEvent::Progress {
            group_id: manifest.group_id,
            manifest_hash: manifest.hash(),
            claim,
            tally: Tally { outcome, accepts: 0, rejects: 0, quorum: 1, validators: 1 },
        })
    }

    fn prepare(&self) -> Prepare {
        let publication = &self.works[0].publication;
        Prepare {
            tx: TxId([1; 32]),
            attempt: 1,
            manifest: publication.manifest.clone(),
            sealed: publication.sealed.clone(),
            wraps: publication.wraps.clone(),
            states: Self::stored(),
            sources: BoundedVec::default(),
            targets: BoundedVec::default(),
            lease_ms: 1,
            head: None,
        }
    }

    fn receipt(&self, node: usize) -> SignedReceipt {
        let receipt = StorageReceipt {
            manifest_hash: self.works[0].value,
            states: Self::stored(),
            holder: self.cast.players[node].id,
            until: Timestamp::MAX,
        };
        SignedReceipt::new(&self.cast.network, receipt, &self.cast.players[node].key)
    }

    fn apply(&mut self, node: usize, records: &[Record]) {
        for record in records {
            self.hosts[node].groups.store.apply(record).expect("a legal history");
        }
    }

    /// Node `node` promises to take the group.
    pub(super) fn intend_on(&mut self, node: usize) -> Vec<Record> {
        let intent = Intent { coordinator: self.cast.players[0].id, prepare: self.prepare(), states: Self::stored() };
        let records = vec![Record::Intent(intent)];
        self.apply(node, &records);
        records
    }

    /// Node `node` goes through a whole transaction in which `staged` arrived.
    pub(super) fn commit_on(&mut self, node: usize, staged: StatesMask) -> Vec<Record> {
        let (tx, attempt) = (TxId([1; 32]), 1);
        let mut records = self.intend_on(node);
        let manifest = self.works[0].publication.manifest.clone();
        self.hosts[node].groups.store.stage(tx, &manifest, (1000, staged));
        let rest = [
            Record::Prepared { tx, attempt, states: staged },
            Record::Commit { tx, attempt, receipt: self.receipt(node) },
        ];
        self.apply(node, &rest);
        records.extend(rest);
        records
    }

    /// The acks of the founder alone, a quorum of the first roster, over the second version.
    pub(super) fn acks(&self, value: ManifestHash) -> QuorumCertificate {
        let vote = self.head_vote(Phase::Ack, value);
        QuorumCertificate { statement: vote.statement, signers: SignerSet::collect([(0, vote.signature)]) }
    }

    /// Node `node` goes through a whole transaction of a later version.
    pub(super) fn commit_version_on(
        &mut self,
        node: usize,
        (tx, manifest): (u8, &SignedManifest),
        head: Option<QuorumCertificate>,
    ) -> Vec<Record> {
        let (tx, attempt) = (TxId([tx; 32]), 1);
        let prepare = Prepare { tx, manifest: manifest.clone(), head: head.map(Box::new), ..self.prepare() };
        let intent = Intent { coordinator: self.cast.players[0].id, prepare, states: Self::stored() };
        self.apply(node, &[Record::Intent(intent)]);
        self.hosts[node].groups.store.stage(tx, manifest, (1000, Self::stored()));
        let mut receipt = self.receipt(node).body;
        receipt.manifest_hash = manifest.body.hash();
        let receipt = SignedReceipt::new(&self.cast.network, receipt, &self.cast.players[node].key);
        let records =
            vec![Record::Prepared { tx, attempt, states: Self::stored() }, Record::Commit { tx, attempt, receipt }];
        self.apply(node, &records);
        records
    }

    /// Node `node` has a new and empty store.
    pub(super) fn forget_on(&mut self, node: usize) {
        self.hosts[node] = Host::new(self.cast.players[node].id, None, 0);
    }

    /// The owner asks for later versions of the group.
    pub(super) fn asks_for_versions(&mut self) {
        self.works[0].versions.push(0);
    }

    pub(super) fn works_publication(&self) -> Publication {
        self.works[0].publication.clone()
    }

    /// Node `node` keeps a draft of the next version.
    pub(super) fn draft_on(&mut self, node: usize) {
        let manifest = self.add_head().manifest;
        let previous = HeadProof::of(&self.certificate());
        let draft = DriverWrite::Draft(Box::new(Draft { manifest, previous }));
        assert!(self.hosts[node].groups.store.write(&draft));
    }

    /// Receipts of nodes 1 and 2 reach the disk of `node`.
    pub(super) fn receipts_on(&mut self, node: usize) -> Vec<Record> {
        self.receipts_of_on(&[1, 2], node)
    }

    /// Receipts of `holders` reach the disk of `node`.
    pub(super) fn receipts_of_on(&mut self, holders: &[usize], node: usize) -> Vec<Record> {
        let manifest = &self.works[0].publication.manifest.body;
        let (group_id, manifest_hash) = (manifest.group_id, manifest.hash());
        let receipts = Receipts::truncated(holders.iter().map(|holder| self.receipt(*holder)));
        let records = vec![Record::Receipts { group_id, manifest_hash, receipts }];
        self.apply(node, &records);
        records
    }

    /// Node `node` coordinates the group.
    pub(super) fn begin_on(&mut self, node: usize) {
        self.apply(node, &[Record::Begin(Box::new(self.works_publication()))]);
    }

    /// The coordinator closes the group.
    pub(super) fn end_on(&mut self, node: usize) {
        self.apply(node, &[Record::End(self.works[0].publication.manifest.body.group_id)]);
    }

    /// Node 0's decision.
    /// The group is deleted as far as `node` knows; the nodes named are to confirm.
    pub(super) fn bury_on(&mut self, node: usize, silent: &[usize]) -> Vec<Record> {
        let manifest = &self.works[0].publication.manifest.body;
        let tombstone = self.cast.tombstone(manifest, mynet_types::Timestamp(0));
        let holders = silent.iter().map(|silent| self.cast.players[*silent].id).collect();
        let records = vec![Record::Tombstone { tombstone, from: None, holders }];
        self.apply(node, &records);
        records
    }

    pub(super) fn decision(&self, attempt: u32, commit: bool) -> SignedDecision {
        let body = Decision {
            tx: TxId([1; 32]),
            attempt,
            manifest_hash: self.works[0].value,
            commit,
            coordinator: self.cast.players[0].id,
        };
        SignedDecision::new(&self.cast.network, body, &self.cast.players[0].key)
    }

    pub(super) fn decision_message(&self, attempt: u32, commit: bool) -> Message {
        Message::Replication(ReplicationMessage::Decision(self.decision(attempt, commit)))
    }

    /// The record of that decision for node 1.
    pub(super) fn decided(&self, attempt: u32) -> Record {
        Record::Decided(Decided {
            group_id: self.works[0].publication.manifest.body.group_id,
            tx: TxId([1; 32]),
            decisions: vec![(self.cast.players[1].id, self.decision(attempt, true))],
        })
    }

    pub(super) fn aborted_status(&self, _attempt: u32) -> Message {
        let status = TxStatus::Aborted;
        Message::Replication(ReplicationMessage::Status { tx: TxId([1; 32]), status, decision: None })
    }

    /// Node `node` gives its receipt.
    pub(super) fn ack_message(&self, node: usize) -> Message {
        let outcome = DecisionOutcome::Committed(self.receipt(node));
        Message::Replication(ReplicationMessage::DecisionAck { tx: TxId([1; 32]), attempt: 1, outcome })
    }

    pub(super) fn prepared_message(&self) -> Message {
        let manifest_hash = self.works[0].value;
        let states = Self::stored();
        Message::Replication(ReplicationMessage::Prepared { tx: TxId([1; 32]), attempt: 1, manifest_hash, states })
    }

    /// The coordinator reports the group durable, by receipts of nodes 1 and 2.
    pub(super) fn durable_event(&self) -> Event {
        Event::Replication(ReplicationEvent::Durable {
            manifest: Box::new(self.works[0].publication.manifest.clone()),
            receipts: Receipts::truncated([self.receipt(1), self.receipt(2)]),
            previous: None,
        })
    }
}
