//! What the liar hears and says in place of its core, between the core and the network.
//!
//! Lies about votes go out in place of the vote that the core cast, in turns. All others follow what is heard, so that they come
//! at the moment at which they could do harm: a false tombstone while a group is certified, a false decision while it is prepared.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ed25519_dalek::SigningKey;
use mynet_proto::{
    consensus::io::Record,
    node::{NodeCore, io::Input, io::Output},
};
use mynet_types::{
    BoundedVec, CarriedHead, CertificateFile, CloseReport, CloseStatement, ConsensusMessage, Domain, GroupId, Manifest,
    ManifestHash, Message, NodeId, ReplicationMessage, Roster, SignedManifest, SignedProposal, SignedReceipt,
    SignedRosterKey, SignedStatement, StatesMask, Timestamp, TxId, Verdict, Vote, VoteSecret, VoteStatement,
    signing::sign_as,
    vote::attest_slot,
    wire::{DecisionOutcome, Prepare, Receipts, TxStatus},
};
use rand::{RngExt, rngs::StdRng};

use super::{
    forge::{self, Forger},
    lies::{self, Lie, tells, told},
};
use crate::{driver::wall_clock, shell::Shell};

/// Messages kept for saying them again.
const KEPT_MAX: usize = 256;
/// One message in so many is followed by an old one.
const REPLAY_ONE_IN: u32 = 4;
/// One head in so many is answered with rosters and keys; heads come every second from every peer.
const HEADS_PER_ROSTER: usize = 5;
/// How long the receipts of this node promise to stand.
const RECEIPT_MILLIS: u64 = 30 * 24 * 3600 * 1000;

/// What stands between the core and the network.
pub(crate) struct Liar {
    shell: Arc<Shell>,
    /// The secrets that the core is given and erases.
    secrets: BTreeMap<u64, VoteSecret>,
    /// One signature of each seat that came by, by epoch and seat.
    signed: BTreeMap<(u64, u16), SignedStatement>,
    /// Transactions that the core does not hear of.
    feigned: BTreeMap<TxId, (ManifestHash, StatesMask)>,
    kept: VecDeque<Message>,
    /// What goes out with the next outputs.
    said: Vec<(NodeId, Message)>,
    votes: usize,
    prepares: usize,
    heads: usize,
    rng: StdRng,
}

impl Liar {
    pub(crate) fn new(shell: &Arc<Shell>, keys: &BTreeMap<u64, VoteSecret>) -> Self {
        Self {
            shell: Arc::clone(shell),
            secrets: keys.clone(),
            signed: BTreeMap::new(),
            feigned: BTreeMap::new(),
            kept: VecDeque::new(),
            said: Vec::new(),
            votes: 0,
            prepares: 0,
            heads: 0,
            rng: lies::dice(0),
        }
    }

    /// Hears what comes in; `false` if the core is not to hear it.
    pub(crate) fn hears(&mut self, core: &NodeCore, input: &Input) -> bool {
        let Input::Message { from, message } = input else { return true };
        if !lies::any() {
            return true;
        }
        self.keep(message);
        match message {
            Message::Consensus(message) => {
                self.hears_consensus(core, *from, message);
                true
            }
            Message::Replication(message) => self.hears_replication(*from, message),
            Message::Membership(_) => true,
        }
    }

    /// Twists what the core wants done.
    pub(crate) fn twist(&mut self, core: &NodeCore, outputs: &mut Vec<Output>) {
        if !lies::any() {
            return;
        }
        let mut twisted = Vec::with_capacity(outputs.len());
        let mut sends = 0;
        for output in outputs.drain(..) {
            match output {
                Output::Send { to, message } => {
                    sends += 1;
                    self.keep(&message);
                    self.twist_message(core, to, message);
                    twisted.extend(self.said.drain(..).map(|(to, message)| Output::Send { to, message }));
                }
                Output::PersistVotes { id, records } => {
                    records.iter().for_each(|record| self.learn(record));
                    twisted.push(Output::PersistVotes { id, records });
                }
                other => twisted.push(other),
            }
        }
        for _ in 0..sends {
            self.replay();
        }
        twisted.extend(self.said.drain(..).map(|(to, message)| Output::Send { to, message }));
        let running_for = self.shell.started.elapsed();
        twisted.retain(|output| match output {
            Output::Send { to, .. } => !lies::stalls(to, running_for),
            _ => true,
        });
        *outputs = twisted;
    }

    fn learn(&mut self, record: &Record) {
        if let Record::Key { epoch, secret } = record {
            self.secrets.insert(*epoch, secret.clone());
        }
    }

    fn keep(&mut self, message: &Message) {
        self.kept.push_back(message.clone());
        if self.kept.len() > KEPT_MAX {
            self.kept.pop_front();
        }
    }

    fn forger(&self) -> Forger<'_> {
        let keys = &self.shell.keys;
        Forger { network: self.shell.network, me: self.shell.me(), node_key: keys.node(), owner_key: keys.owner() }
    }

    fn vote_key(&self, epoch: u64) -> Option<SigningKey> {
        self.secrets.get(&epoch).map(|secret| SigningKey::from_bytes(&secret.0))
    }

    fn peers(&self) -> Vec<NodeId> {
        let admitted = self.shell.members.admissions(wall_clock()).into_iter().map(|admission| admission.body.node);
        admitted.filter(|node| *node != self.shell.me()).collect()
    }

    fn tell(&mut self, to: NodeId, message: impl Into<Said>) {
        self.said.push((to, message.into().0));
    }

    fn tell_all(&mut self, lie: Lie, messages: impl IntoIterator<Item = impl Into<Said>>) {
        let peers = self.peers();
        for Said(message) in messages.into_iter().map(Into::into) {
            self.said.extend(peers.iter().map(|peer| (*peer, message.clone())));
            told(lie);
        }
    }

    // What the core says.

    fn twist_message(&mut self, core: &NodeCore, to: NodeId, message: Message) {
        match message {
            Message::Consensus(ConsensusMessage::Vote(vote)) => self.twist_vote(core, to, vote),
            Message::Replication(ReplicationMessage::DecisionAck { tx, attempt, outcome }) => {
                if let DecisionOutcome::Committed(receipt) = &outcome
                    && tells(Lie::BadReceipt)
                {
                    let bad = self.forge_receipts(receipt, to);
                    for receipt in &bad {
                        let outcome = DecisionOutcome::Committed(receipt.clone());
                        self.tell(to, ReplicationMessage::DecisionAck { tx, attempt, outcome });
                    }
                }
                self.tell(to, ReplicationMessage::DecisionAck { tx, attempt, outcome });
            }
            other => self.said.push((to, other)),
        }
    }

    fn forge_receipts(&mut self, good: &SignedReceipt, other: NodeId) -> Vec<SignedReceipt> {
        let mut rng = lies::dice(self.rng.random());
        told(Lie::BadReceipt);
        self.forger().bad_receipts(good, other, &mut rng)
    }

    /// One lie in place of a vote, the next one the next time.
    fn twist_vote(&mut self, core: &NodeCore, to: NodeId, vote: Vote) {
        let statement = vote.statement;
        let is_head = statement.slot != attest_slot(&statement.value);
        let contradiction = if is_head { Lie::DoubleHead } else { Lie::Equivocate };
        let told_of_votes = [Lie::ForgeVote, Lie::MisplaceVote, Lie::Reject, contradiction];
        let told_of_votes: Vec<Lie> = told_of_votes.into_iter().filter(|lie| tells(*lie)).collect();
        let roster = core.consensus_core().chain().roster(statement.epoch);
        let (Some(key), Some(roster)) = (self.vote_key(statement.epoch), roster) else {
            return self.tell(to, ConsensusMessage::Vote(vote));
        };
        let Some(lie) = told_of_votes.get(self.votes % told_of_votes.len().max(1)).copied() else {
            return self.tell(to, ConsensusMessage::Vote(vote));
        };
        self.votes += 1;
        told(lie);
        let network = self.shell.network;
        match lie {
            Lie::ForgeVote => {
                let votes = forge::unsigned_votes(&network, &vote, roster.validators.len(), &mut self.rng);
                votes.into_iter().for_each(|vote| self.tell(to, ConsensusMessage::Vote(vote)));
            }
            Lie::MisplaceVote => {
                let votes = forge::misplaced_votes(&network, &vote, &key, &mut self.rng);
                votes.into_iter().for_each(|vote| self.tell(to, ConsensusMessage::Vote(vote)));
            }
            Lie::Reject => {
                let no = forge::vote_on(&network, &vote, forge::opposite(&statement), &key);
                self.tell(to, ConsensusMessage::Vote(no));
            }
            _ => {
                let other = match contradiction {
                    Lie::DoubleHead => forge::other_value(&statement, &mut self.rng),
                    _ => forge::opposite(&statement),
                };
                let other = forge::vote_on(&network, &vote, other, &key);
                self.tell(to, ConsensusMessage::Vote(vote));
                for peer in self.peers() {
                    self.tell(peer, ConsensusMessage::Vote(other.clone()));
                }
            }
        }
    }

    fn replay(&mut self) {
        if !tells(Lie::Replay) || !self.rng.random_ratio(1, REPLAY_ONE_IN) || self.kept.is_empty() {
            return;
        }
        let message = self.kept.get(self.rng.random_range(0..self.kept.len())).cloned();
        let peers = self.peers();
        let to = peers.get(self.rng.random_range(0..peers.len().max(1))).copied();
        if let (Some(message), Some(to)) = (message, to) {
            told(Lie::Replay);
            self.said.push((to, message));
        }
    }

    // What is heard.

    fn hears_consensus(&mut self, core: &NodeCore, from: NodeId, message: &ConsensusMessage) {
        match message {
            ConsensusMessage::Propose { proposal, manifest, receipts, .. } => {
                self.hears_proposal(core, (proposal, manifest, receipts));
            }
            ConsensusMessage::Certified(file) => self.hears_certificate(file),
            ConsensusMessage::Vote(vote) => {
                let statement = SignedStatement { statement: vote.statement, signature: vote.signature };
                self.signed.insert((vote.statement.epoch, vote.seat), statement);
            }
            ConsensusMessage::MyVotes { epoch } if tells(Lie::FalseMemory) => self.remember(core, from, *epoch),
            ConsensusMessage::RosterHead { .. } => {
                self.heads += 1;
                if self.heads.is_multiple_of(HEADS_PER_ROSTER) {
                    self.propose_rosters(core);
                }
            }
            _ => {}
        }
    }

    fn hears_proposal(
        &mut self,
        core: &NodeCore,
        (proposal, manifest, receipts): (&SignedProposal, &SignedManifest, &Receipts),
    ) {
        let mut rng = lies::dice(self.rng.random());
        if tells(Lie::FalseProposal) {
            let false_ones = self.forger().proposals((proposal, manifest, receipts), &mut rng);
            let messages = false_ones.into_iter().map(|(proposal, manifest, receipts)| ConsensusMessage::Propose {
                proposal,
                manifest: Box::new(manifest),
                receipts,
                previous: None,
            });
            self.tell_all(Lie::FalseProposal, messages);
        }
        if tells(Lie::ForgeEvidence) {
            self.accuse(core, &proposal.body.statement(Verdict::Accept));
        }
        self.disown(&manifest.body, &mut rng);
    }

    /// Speaks of a group as only its owner may.
    fn disown(&mut self, manifest: &Manifest, rng: &mut StdRng) {
        let group_id = manifest.group_id;
        if tells(Lie::FalseTombstone) {
            let tombstones = self.forger().tombstones(manifest, wall_clock());
            let each = tombstones.iter().map(|tombstone| BoundedVec::truncated([tombstone.clone()]));
            let messages: Vec<_> = each.map(ReplicationMessage::Tombstones).collect();
            self.tell_all(Lie::FalseTombstone, messages);
            let groups = BoundedVec::truncated([group_id, GroupId(rng.random())]);
            self.tell_all(Lie::FalseTombstone, [ReplicationMessage::TombstonesKept { groups }]);
        }
        if tells(Lie::FalseWraps) {
            for peer in self.peers() {
                let Some(admission) = self.shell.members.admission(&peer) else { continue };
                let wraps = self.forger().wraps(manifest, (peer, admission.body.wrap_key), rng);
                let wraps = BoundedVec::truncated(wraps);
                told(Lie::FalseWraps);
                self.tell(peer, ReplicationMessage::Wraps { group_id, wraps });
            }
        }
    }

    /// Accuses every other seat, with its own signature where one came by.
    fn accuse(&mut self, core: &NodeCore, statement: &VoteStatement) {
        let Some(key) = self.vote_key(statement.epoch) else { return };
        let Some(roster) = core.consensus_core().chain().roster(statement.epoch) else { return };
        let network = self.shell.network;
        for (seat, node) in (0..).zip(roster.nodes()) {
            if node == self.shell.me() {
                continue;
            }
            let heard = self.signed.get(&(statement.epoch, seat)).copied();
            let made_up = || SignedStatement {
                statement: *statement,
                signature: sign_as(Domain::Vote, &network, statement, &key),
            };
            let records = forge::evidence(&network, seat, &heard.unwrap_or_else(made_up), &key);
            // One by one: the first bad record of a message ends it.
            let messages =
                records.into_iter().map(|record| ConsensusMessage::Evidence(BoundedVec::truncated([record])));
            self.tell_all(Lie::ForgeEvidence, messages.collect::<Vec<_>>());
        }
    }

    fn hears_certificate(&mut self, file: &CertificateFile) {
        let certificate = &file.certificate;
        for (seat, signature) in certificate.signers.seats().zip(certificate.signers.signatures.iter()) {
            let Ok(seat) = u16::try_from(seat) else { continue };
            let statement = SignedStatement { statement: certificate.statement, signature: *signature };
            self.signed.insert((certificate.statement.epoch, seat), statement);
        }
        if tells(Lie::FalseCertificate) {
            let files = forge::certificates(file, &mut self.rng);
            let messages = files.into_iter().map(|file| ConsensusMessage::Certified(Box::new(file)));
            self.tell_all(Lie::FalseCertificate, messages.collect::<Vec<_>>());
        }
    }

    /// Tells a seat that started of votes that it did not cast.
    fn remember(&mut self, core: &NodeCore, seat_of: NodeId, epoch: u64) {
        let Some(roster) = core.consensus_core().chain().roster(epoch) else { return };
        if roster.seat_of(&seat_of).is_none() {
            return;
        }
        let key = self.vote_key(epoch).unwrap_or_else(|| self.shell.keys.node().clone());
        let of_others = self.signed.values().copied().filter(|signed| signed.statement.epoch == epoch);
        let mut votes: Vec<SignedStatement> = of_others.take(8).collect();
        let forged: Vec<SignedStatement> = votes
            .iter()
            .map(|vote| {
                let statement = forge::other_value(&vote.statement, &mut self.rng);
                let network = &self.shell.network;
                let signature = sign_as(Domain::Vote, network, &statement, &key);
                SignedStatement { statement, signature }
            })
            .collect();
        votes.extend(forged);
        told(Lie::FalseMemory);
        self.tell(seat_of, ConsensusMessage::YourVotes { epoch, votes: BoundedVec::truncated(votes) });
    }

    /// Offers keys and rosters that nobody asked for.
    fn propose_rosters(&mut self, core: &NodeCore) {
        let roster = core.consensus_core().roster().clone();
        let peers = self.peers();
        let seated: Vec<NodeId> = roster.nodes().filter(|node| peers.contains(node)).collect();
        let Some(victim) = seated.get(self.rng.random_range(0..seated.len().max(1))).copied() else { return };
        let mut rng = lies::dice(self.rng.random());
        let offers = self.forger().offers(&roster, victim, &mut rng);
        if tells(Lie::FalseOffer) {
            let agrees = rng.random();
            let messages = offers.iter().map(|offer| ConsensusMessage::KeyOffer { offer: *offer, agrees });
            self.tell_all(Lie::FalseOffer, messages.collect::<Vec<_>>());
        }
        if tells(Lie::FalseRoster) {
            let next = self.forger().roster_without(&victim, &roster, &mut rng);
            let messages = self.roster_messages((victim, &roster, &next), offers, &mut rng);
            self.tell_all(Lie::FalseRoster, messages);
        }
    }

    fn roster_messages(
        &self,
        (victim, roster, next): (NodeId, &Roster, &Roster),
        offers: Vec<SignedRosterKey>,
        rng: &mut StdRng,
    ) -> Vec<ConsensusMessage> {
        let (network, node_key) = (self.shell.network, self.shell.keys.node());
        let key = self.vote_key(roster.epoch).unwrap_or_else(|| node_key.clone());
        let keys = BoundedVec::truncated(offers);
        let seat_of =
            |node: &NodeId| roster.seat_of(node).and_then(|seat| u16::try_from(seat).ok()).unwrap_or_default();
        let sign = |domain| sign_as(domain, &network, next, &key);
        let signatures = |seat| {
            let (old, new) = (sign(Domain::Roster), sign(Domain::RosterAccept));
            ConsensusMessage::RosterVote {
                roster: next.hash(),
                epoch: next.epoch,
                old: Some((seat, old)),
                new: Some((seat, new)),
            }
        };
        let report = |seat, root| {
            let statement = CloseStatement { epoch: roster.epoch, roster: roster.hash(), seat, root, count: 1 };
            ConsensusMessage::CloseReport(CloseReport::new(&network, statement, &key))
        };
        let head = CarriedHead { group_id: GroupId(rng.random()), version: 2, value: ManifestHash(rng.random()) };
        let (boxed, admissions) = (|| Box::new(next.clone()), BoundedVec::default);
        vec![
            ConsensusMessage::KeyRequest {
                epoch: next.epoch,
                prev: next.prev,
                leaving: BoundedVec::truncated([victim]),
                newcomer: None,
            },
            ConsensusMessage::CloseRequest { roster: boxed(), keys: keys.clone(), admissions: admissions() },
            ConsensusMessage::RosterPropose {
                roster: boxed(),
                keys: keys.clone(),
                admissions: admissions(),
                reports: BoundedVec::default(),
            },
            ConsensusMessage::RosterLocked { roster: boxed(), keys, reports: BoundedVec::default() },
            signatures(seat_of(&victim)),
            signatures(seat_of(&self.shell.me())),
            report(seat_of(&victim), rng.random()),
            report(seat_of(&self.shell.me()), rng.random()),
            ConsensusMessage::Carried { epoch: roster.epoch, after: None, heads: BoundedVec::truncated([head]) },
        ]
    }

    fn hears_replication(&mut self, from: NodeId, message: &ReplicationMessage) -> bool {
        match message {
            ReplicationMessage::Prepare(prepare) => self.hears_prepare(from, prepare),
            ReplicationMessage::Decision(decision) => match self.feigned.get(&decision.body.tx).copied() {
                Some((manifest_hash, states)) => {
                    let until = Timestamp(wall_clock().0.saturating_add(RECEIPT_MILLIS));
                    let receipt = self.forger().receipt(manifest_hash, states, until);
                    let (tx, attempt) = (decision.body.tx, decision.body.attempt);
                    told(Lie::FalseReceipt);
                    let outcome = DecisionOutcome::Committed(receipt);
                    self.tell(from, ReplicationMessage::DecisionAck { tx, attempt, outcome });
                    false
                }
                None => true,
            },
            _ => true,
        }
    }

    /// Decides for the coordinator, and feigns every second transaction.
    fn hears_prepare(&mut self, from: NodeId, prepare: &Prepare) -> bool {
        let (tx, attempt, hash) = (prepare.tx, prepare.attempt, prepare.manifest.body.hash());
        if tells(Lie::FalseDecision) {
            let decisions = self.forger().decisions((tx, attempt), hash, from);
            let told_of = decisions.first().cloned();
            let mut messages: Vec<_> = decisions.into_iter().map(ReplicationMessage::Decision).collect();
            messages.push(ReplicationMessage::Status { tx, status: TxStatus::Unknown, decision: None });
            messages.push(ReplicationMessage::Status { tx, status: TxStatus::Aborted, decision: told_of });
            self.tell_all(Lie::FalseDecision, messages);
        }
        if !tells(Lie::FalseReceipt) {
            return true;
        }
        self.prepares += 1;
        if self.prepares.is_multiple_of(2) && !self.feigned.contains_key(&tx) {
            return true;
        }
        let states = prepare.states;
        self.feigned.insert(tx, (hash, states));
        self.tell(from, ReplicationMessage::PrepareOk { tx, attempt });
        self.tell(from, ReplicationMessage::Prepared { tx, attempt, manifest_hash: hash, states });
        false
    }
}

/// A message of either core.
pub(crate) struct Said(Message);

impl From<ConsensusMessage> for Said {
    fn from(message: ConsensusMessage) -> Self {
        Self(Message::Consensus(message))
    }
}

impl From<ReplicationMessage> for Said {
    fn from(message: ReplicationMessage) -> Self {
        Self(Message::Replication(message))
    }
}
