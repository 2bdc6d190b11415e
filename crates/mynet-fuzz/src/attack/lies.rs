//! Makes drawn messages fit: about things that exist, and signed with the keys that the enemy has.

use mynet_proto::replication::io::Publication;
use mynet_types::{
    BoundedVec, CertificateFile, Claim, CloseReport, CloseStatement, ConsensusMessage, Decision, Domain, LinkProof,
    LinkRecovery, Manifest, Message, NodeId, QuorumCertificate, ReplicationMessage, Roster, RosterKey, RosterLink,
    Signed, SignedDecision, SignedReceipt, SignerSet, StatesMask, Timestamp, Validator, Verdict, VoteStatement,
    certificate::Holding,
    signing::sign_as,
    vote::attest_slot,
    wire::{DecisionOutcome, Prepare, Receipts},
};
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use super::{Deal, Siege, remember};
use crate::cast::{CAST, NEWCOMER, recovery_key, roster_after, seat, vote_key};

/// The victim's place among the nodes.
const VICTIM: usize = 0;

impl Siege {
    /// Notes what the node says, to answer it.
    pub(super) fn overhear(&mut self, message: &Message) {
        match message {
            Message::Replication(ReplicationMessage::Prepare(prepare)) => self.note(CAST.nodes[VICTIM], prepare),
            Message::Consensus(ConsensusMessage::Propose { proposal, .. }) => {
                remember(&mut self.proposals, proposal.body.clone());
            }
            Message::Consensus(ConsensusMessage::KeyOffer { offer, .. }) => self.offer = Some(*offer),
            Message::Consensus(ConsensusMessage::RosterPropose { roster, .. }) => self.next = Some((**roster).clone()),
            // The rest needs no answer that depends on it.
            _ => {}
        }
    }

    /// Makes a drawn message one that may be believed.
    pub(super) fn fit(&mut self, rng: &mut ChaCha8Rng, from: NodeId, message: &mut Message) {
        match message {
            Message::Replication(message) => self.fit_replication(rng, from, message),
            Message::Consensus(message) => self.fit_consensus(rng, from, message),
            Message::Membership(_) => {}
        }
    }

    /// Remembers the transaction of a prepare.
    fn note(&mut self, coordinator: NodeId, prepare: &Prepare) {
        let Prepare { tx, attempt, states, .. } = *prepare;
        let manifest_hash = prepare.manifest.body.hash();
        remember(&mut self.deals, Deal { tx, attempt, manifest_hash, states, coordinator });
    }

    fn fit_replication(&mut self, rng: &mut ChaCha8Rng, from: NodeId, message: &mut ReplicationMessage) {
        if let ReplicationMessage::Prepare(prepare) = message {
            if let Some(deal) = self.deals.choose(rng).filter(|_| rng.random_ratio(1, 3)) {
                prepare.tx = deal.tx;
            }
            fit_prepare(rng, prepare);
            return self.note(from, prepare);
        }
        let mut own = self.deals.iter().filter(|deal| deal.coordinator == CAST.nodes[VICTIM]);
        let newest = match message {
            ReplicationMessage::Decision(_) => self.deals.iter().rfind(|deal| self.staged.contains(&deal.tx)),
            _ => own.next_back(),
        };
        let newest = newest.filter(|_| rng.random());
        let Some(deal) = newest.or_else(|| self.deals.choose(rng)).copied() else { return };
        let named = |publication: &&Publication| publication.manifest.body.hash() == deal.manifest_hash;
        let Some(publication) = CAST.publications.iter().find(named) else { return };
        fit_answer(rng, (from, deal), &publication.manifest.body, message);
    }

    fn fit_consensus(&mut self, rng: &mut ChaCha8Rng, from: NodeId, message: &mut ConsensusMessage) {
        let newest = self.node.consensus_core().roster().clone();
        let manifest = CAST.publications.choose(rng).expect("there are groups").manifest.clone();
        match message {
            ConsensusMessage::Propose { proposal, manifest: shown, receipts, .. } => {
                let body = &mut proposal.body;
                (body.epoch, body.roster, body.proposer) = (newest.epoch, newest.hash(), from);
                (body.group_id, body.version) = (manifest.body.group_id, manifest.body.version);
                (body.manifest_hash, body.states) = (manifest.body.hash(), manifest.body.allowed(false));
                body.expires_at = Timestamp(self.now.wall.0 + 300_000);
                *receipts = some_receipts(rng, &manifest.body);
                **shown = manifest;
                CAST.sign(proposal);
            }
            ConsensusMessage::Vote(vote) => {
                let Some(proposal) = self.proposals.choose(rng) else { return };
                let verdict = if rng.random_ratio(1, 3) { Verdict::Reject } else { Verdict::Accept };
                let Some(number) = newest.seat_of(&from) else { return };
                vote.seat = number as u16;
                vote.proposal_id = proposal.id();
                vote.statement = proposal.statement(verdict);
                let key = vote_key(newest.epoch, &from);
                vote.signature = sign_as(Domain::Vote, &CAST.network, &vote.statement, &key);
            }
            ConsensusMessage::Abstain(abstention) => {
                if let Some(proposal) = self.proposals.choose(rng) {
                    abstention.proposal_id = proposal.id();
                }
            }
            ConsensusMessage::Certified(file) => **file = self.certificate(rng, &newest, &manifest.body),
            other => self.fit_roster(rng, (from, &newest), other),
        }
    }

    fn fit_roster(&mut self, rng: &mut ChaCha8Rng, (from, newest): (NodeId, &Roster), message: &mut ConsensusMessage) {
        match message {
            ConsensusMessage::KeyRequest { epoch, prev, leaving, newcomer } => {
                (*epoch, *prev, *leaving) = (newest.epoch + 1, newest.hash(), BoundedVec::new());
                *newcomer = rng.random::<bool>().then_some(CAST.nodes[NEWCOMER as usize]);
            }
            ConsensusMessage::KeyOffer { offer, .. } => *offer = signed_offer(newest, from),
            ConsensusMessage::CloseRequest { roster, keys, admissions } => {
                let (next, offers) = self.next_roster(newest);
                (**roster, *keys) = (next, BoundedVec::truncated(offers));
                *admissions = BoundedVec::truncated([CAST.admissions[NEWCOMER as usize].clone()]);
            }
            ConsensusMessage::CloseReport(report) => {
                if let Some(own) = close_reports(newest, |seat| *seat == from).pop() {
                    *report = own;
                }
            }
            ConsensusMessage::RosterPropose { roster, keys, admissions, reports } => {
                let (next, offers) = self.next_roster(newest);
                (**roster, *keys) = (next, BoundedVec::truncated(offers));
                *reports = BoundedVec::truncated(close_reports(newest, |seat| *seat != CAST.nodes[VICTIM]));
                *admissions = BoundedVec::truncated([CAST.admissions[NEWCOMER as usize].clone()]);
            }
            ConsensusMessage::RosterLocked { roster, keys, reports } => {
                let (next, offers) = self.next_roster(newest);
                (**roster, *keys) = (next, BoundedVec::truncated(offers));
                *reports = BoundedVec::truncated(close_reports(newest, |seat| *seat != CAST.nodes[VICTIM]));
            }
            ConsensusMessage::RosterVote { roster, epoch, old, new } => {
                let Some(next) = &self.next else { return };
                (*roster, *epoch) = (next.hash(), next.epoch);
                let sign = |of: &Roster, domain| {
                    let number = of.seat_of(&from)?;
                    let key = vote_key(of.epoch, &from);
                    Some((number as u16, sign_as(domain, &CAST.network, next, &key)))
                };
                (*old, *new) = (sign(newest, Domain::Roster), sign(next, Domain::RosterAccept));
            }
            ConsensusMessage::RosterLinks(links) => {
                let after = CAST.chain.after(rng.random_range(0..8));
                let forged = rng.random_ratio(1, 8).then(|| match rng.random_ratio(1, 4) {
                    true => self.forged_recovery(rng, newest),
                    false => self.forged_link(rng, newest),
                });
                *links = BoundedVec::truncated(after.iter().cloned().chain(forged));
            }
            // What others add is drawn and not fitted.
            _ => {}
        }
    }

    /// A certificate by all seats but the victim's.
    fn certificate(&self, rng: &mut ChaCha8Rng, newest: &Roster, manifest: &Manifest) -> CertificateFile {
        let statement = VoteStatement {
            epoch: newest.epoch,
            roster: newest.hash(),
            phase: mynet_types::Phase::Vote,
            slot: attest_slot(&manifest.hash()),
            value: manifest.hash(),
            verdict: if rng.random_ratio(1, 4) { Verdict::Reject } else { Verdict::Accept },
            claim: *[Claim::Seen, Claim::Durable, Claim::Verified].choose(rng).expect("not empty"),
            states: manifest.allowed(false),
        };
        let enemies = newest.validators.iter().enumerate().filter(|(_, seat)| seat.node != CAST.nodes[VICTIM]);
        let signers = SignerSet::collect(enemies.map(|(number, seat)| {
            let key = vote_key(newest.epoch, &seat.node);
            (number, sign_as(Domain::Vote, &CAST.network, &statement, &key))
        }));
        let mut holders = [1, 2];
        holders.sort_by_key(|holder| CAST.nodes[*holder]);
        let holdings = holders.map(|holder| Holding {
            receipt: CAST.receipt(manifest, CAST.nodes[holder]),
            admission: CAST.admissions[holder].clone(),
        });
        let publication = CAST.publications.iter().find(|known| known.manifest.body == *manifest);
        CertificateFile {
            manifest: publication.expect("one of the groups").manifest.clone(),
            certificate: QuorumCertificate { statement, signers },
            holdings: BoundedVec::truncated(holdings),
            chain: self.node.consensus_core().chain().up_to(newest.epoch),
        }
    }

    /// A link by all enemies: to a roster with the newcomer, or to one without the victim.
    fn forged_link(&mut self, rng: &mut ChaCha8Rng, newest: &Roster) -> RosterLink {
        let roster = if rng.random() {
            self.next_roster(newest).0
        } else {
            let enemies = newest.nodes().filter(|node| *node != CAST.nodes[VICTIM]);
            roster_after(newest, enemies.map(|node| seat(newest.epoch + 1, node)).collect())
        };
        let sign = |of: &Roster, domain| {
            let enemies = of.validators.iter().enumerate().filter(|(_, seat)| seat.node != CAST.nodes[VICTIM]);
            SignerSet::collect(enemies.map(|(number, seat)| {
                (number, sign_as(domain, &CAST.network, &roster, &vote_key(of.epoch, &seat.node)))
            }))
        };
        let (old, new) = (sign(newest, Domain::Roster), sign(&roster, Domain::RosterAccept));
        RosterLink::voted(roster, old, new)
    }

    /// A recovery without the victim: one of the offline keys is stolen, and sometimes two.
    fn forged_recovery(&mut self, rng: &mut ChaCha8Rng, newest: &Roster) -> RosterLink {
        let enemies = newest.nodes().filter(|node| *node != CAST.nodes[VICTIM]);
        let roster = roster_after(newest, enemies.map(|node| seat(newest.epoch + 1, node)).collect());
        let offers = roster.validators.iter().map(|seat| signed_offer(newest, seat.node).signature);
        let stolen = 1 + usize::from(rng.random_ratio(1, 4));
        let keys =
            SignerSet::collect((0..stolen).map(|number| {
                (number, sign_as(Domain::Recovery, &CAST.network, &roster, &recovery_key(number as u64)))
            }));
        let proof = LinkProof::Recovery(LinkRecovery { keys, offers: BoundedVec::truncated(offers) });
        RosterLink { roster, proof }
    }

    /// A roster with the newcomer, and the offers that it is made of; the victim's own only if it made one.
    fn next_roster(&mut self, newest: &Roster) -> (Roster, Vec<Signed<RosterKey>>) {
        let newcomer = CAST.nodes[NEWCOMER as usize];
        let others = newest.nodes().chain([newcomer]).filter(|node| *node != CAST.nodes[VICTIM]);
        let mut offers: Vec<_> = others.map(|node| signed_offer(newest, node)).collect();
        offers.extend(self.offer.filter(|offer| offer.body.epoch == newest.epoch + 1));
        let seats: Vec<Validator> = offers.iter().map(|offer| offer.body.seat).collect();
        let next = roster_after(newest, seats);
        offers.sort_by_key(|offer| offer.body.seat);
        self.next = Some(next.clone());
        (next, offers)
    }
}

/// An offer of a key by a node for the epoch after `newest`.
fn signed_offer(newest: &Roster, node: NodeId) -> Signed<RosterKey> {
    let epoch = newest.epoch + 1;
    let body = RosterKey { epoch, prev: newest.hash(), seat: seat(epoch, node) };
    let mut offer = Signed { body, signature: mynet_types::Signature([0; 64]) };
    CAST.sign(&mut offer);
    offer
}

/// Asks for a group that is in order.
fn fit_prepare(rng: &mut ChaCha8Rng, prepare: &mut Prepare) {
    let publication = CAST.publications.choose(rng).expect("there are groups");
    let granted = publication.wraps.iter().any(|wrap| wrap.body.recipient == CAST.nodes[VICTIM]);
    prepare.manifest = publication.manifest.clone();
    prepare.sealed = publication.sealed.clone();
    prepare.wraps = publication.wraps.clone();
    prepare.states = publication.manifest.body.allowed(granted);
    if rng.random_ratio(1, 8) {
        prepare.states = StatesMask::EMPTY;
    }
}

/// Receipts of some members.
fn some_receipts(rng: &mut ChaCha8Rng, manifest: &Manifest) -> Receipts {
    let holders = CAST.nodes.iter().skip(1).take(rng.random_range(0..6));
    let mut receipts: Vec<SignedReceipt> = holders.map(|holder| CAST.receipt(manifest, *holder)).collect();
    receipts.sort_by_key(|receipt| receipt.body.holder);
    BoundedVec::truncated(receipts)
}

/// Says something about a transaction that was begun.
#[allow(clippy::match_wildcard_for_single_variants, reason = "a new message must not stop the fuzzer's build")]
fn fit_answer(
    rng: &mut ChaCha8Rng,
    (from, deal): (NodeId, Deal),
    manifest: &Manifest,
    message: &mut ReplicationMessage,
) {
    let decide = |decision: &mut SignedDecision| {
        let Deal { tx, attempt, manifest_hash, coordinator, .. } = deal;
        let commit = decision.body.commit;
        decision.body = Decision { tx, attempt, manifest_hash, commit, coordinator };
        CAST.sign(decision);
    };
    match message {
        ReplicationMessage::PrepareOk { tx, attempt }
        | ReplicationMessage::PrepareNo { tx, attempt, .. }
        | ReplicationMessage::Progress { tx, attempt, .. }
        | ReplicationMessage::LeaseRenew { tx, attempt, .. } => (*tx, *attempt) = (deal.tx, deal.attempt),
        ReplicationMessage::StatusQuery { tx } => *tx = deal.tx,
        ReplicationMessage::Prepared { tx, attempt, manifest_hash, states } => {
            (*tx, *attempt, *manifest_hash, *states) = (deal.tx, deal.attempt, deal.manifest_hash, deal.states);
        }
        ReplicationMessage::Decision(decision) => decide(decision),
        ReplicationMessage::DecisionAck { tx, attempt, outcome } => {
            (*tx, *attempt) = (deal.tx, deal.attempt);
            if let DecisionOutcome::Committed(receipt) = outcome {
                *receipt = CAST.receipt(manifest, from);
            }
        }
        ReplicationMessage::Status { tx, decision, .. } => {
            *tx = deal.tx;
            decision.iter_mut().for_each(decide);
        }
        ReplicationMessage::Receipts { group_id, manifest_hash, receipts } => {
            (*group_id, *manifest_hash) = (manifest.group_id, deal.manifest_hash);
            *receipts = some_receipts(rng, manifest);
        }
        ReplicationMessage::Wraps { group_id, wraps } => {
            *group_id = manifest.group_id;
            let mut all = std::mem::take(wraps).into_vec();
            for wrap in &mut all {
                (wrap.body.group_id, wrap.body.version) = (manifest.group_id, manifest.version);
                wrap.body.owner = manifest.owner;
                CAST.sign(wrap);
            }
            *wraps = BoundedVec::truncated(all);
        }
        // A prepare begins a transaction; messages to come are drawn and not fitted.
        _ => {}
    }
}

/// What those seats of `roster` say when they close its epoch: that they acked nothing.
fn close_reports(roster: &Roster, of: impl Fn(&NodeId) -> bool) -> Vec<CloseReport> {
    let seats = (0_u16..).zip(&roster.validators).filter(|(_, validator)| of(&validator.node));
    let report = |(seat, validator): (u16, &Validator)| {
        let (epoch, roster) = (roster.epoch, roster.hash());
        let statement = CloseStatement { epoch, roster, seat, root: [0; 32], count: 0 };
        CloseReport::new(&CAST.network, statement, &vote_key(epoch, &validator.node))
    };
    seats.map(report).collect()
}
