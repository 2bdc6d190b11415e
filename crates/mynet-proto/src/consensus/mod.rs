//! Consensus by signed votes: the counterpart of the specification's `ConsensusEngine`.
//!
//! Byzantine consistent broadcast with quorum certificates: a proposer asks every validator of the newest roster about
//! one manifest, each answers with at most one signature over one fixed statement, and a quorum of those is a certificate
//! that anybody can check offline. No leader, no chain of values, no total order. Messages, steps and failures are in
//! `docs/protocol/consensus.md`.
//!
//! | part | decides |
//! |---|---|
//! | `proposer` | what this node wants certified, and when it is |
//! | `validator` | what this node votes for |
//! | `tally` | what votes amount to, and which contradict |
//! | `certified` | which values are decided |
//! | `evidence` | which seats contradicted themselves, and that all know |
//! | `owners` | which owners signed two manifests for one version, and that all know |
//! | `doubt` | whether this node may trust its own store |
//! | `hashing` | which proposals wait for the bytes |
//! | `heads` | which later versions this node is bound to |
//! | `growth` | who gets a seat, who loses one, and when all get fresh keys |
//! | `closing` | which heads go into the next epoch |
//! | `chain_sync` | that all know the newest roster |
//! | `recovery` | what this node brings to a roster by the offline keys, and which of two chains holds |
//!
//! Invariants, by the numbers of the protocol document:
//! - **C1** No two certificates with opposite verdicts on one value, and no two values certified as one version of a group,
//!   while at most f of n validators are bad; one link per epoch.
//! - **C2** This node never signs two statements that contradict each other, over restarts.
//! - **C3** `Approved` means that a certificate exists that verifies from the genesis.
//! - **C4** A timeout never becomes `Rejected`.
//! - **C5** With at most f validators bad or away, and messages arriving again, every value is decided.
//! - **C6** A certificate stays valid in later epochs, because the chain that it carries reaches back to its own; and what
//!   a head certifies is carried, so that no later epoch certifies another value of its version.
//! - **C7** Two contradicting votes that this node sees become evidence, once per seat and epoch, kept and passed on; an honest
//!   seat is never accused. So do two manifests that an owner signed for one version.
//!
//! Durability: nothing that was signed, offered or proposed leaves before its record is durable. Batches must become
//! durable in the order in which they are handed out.
//!
//! Source: Cachin, Guerraoui and Rodrigues, "Introduction to Reliable and Secure Distributed Programming" (2011), Byzantine
//! consistent broadcast; Baudet et al., "FastPay" (2020); Danezis et al., "Narwhal and Tusk" (2022) for certificates of
//! availability. The specification overwrites a second vote of a peer and reads a timeout as "no"; here a second vote is
//! evidence and a timeout is `Undecided`.

pub mod io;

mod certified;
mod chain_sync;
mod closing;
mod doubt;
mod evidence;
mod growth;
mod hashing;
mod heads;
mod owners;
mod proposer;
mod recovery;
mod shared;
mod step;
mod tally;
mod validator;

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use mynet_types::{
    AbstainReason, AckedHead, BoundedVec, CertificateFile, Claim, ConsensusMessage, Evidence, Genesis, GroupId,
    HeadProof, LinkError, Manifest, ManifestHash, NodeId, Now, OwnerEvidence, Roster, SignedManifest, Verdict,
    VerifiedChain, vote::is_head, wire::Receipts,
};

use self::{
    certified::Decided,
    closing::Closing,
    doubt::Withheld,
    growth::Growth,
    heads::Heads,
    io::{Config, Event, Input, Outcome, Output, Record, Restored, RosterLock, Tally, Timer},
    proposer::{Proposer, Wish},
    shared::{EpochKey, Shared},
    step::{Step, Then},
    validator::{Ask, Validator},
};
use crate::{
    persist::PersistId,
    reason::{Note, Reason},
};

/// What was restored contradicts itself: the vote store is damaged, or belongs to another network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A link does not follow from the genesis and the links before it.
    #[error("the stored roster chain is broken: {0}")]
    Chain(#[from] LinkError),
}

/// A value of this node that is not decided yet, for people who watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenValue {
    /// The group.
    pub group_id: GroupId,
    /// The value.
    pub manifest_hash: ManifestHash,
    /// What is to be certified about it.
    pub claim: Claim,
    /// How far it came.
    pub tally: Tally,
    /// Validators that answered, but not with a vote, and why; the latest answer of each.
    pub abstained: Vec<(NodeId, AbstainReason)>,
}

/// What a validator said about a value, for people who watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// The validator.
    pub node: NodeId,
    /// Its vote, or why it gave none; `None` if it was not heard of.
    pub said: Option<Reason>,
}

/// The consensus core of one node. See the module for what it guarantees.
pub struct Consensus {
    shared: Shared,
    proposer: Proposer,
    validator: Validator,
    growth: Growth,
    decided: Decided,
    /// What waits for which batch.
    unsynced: BTreeMap<PersistId, Vec<Then>>,
    batches: u64,
    /// Epochs through which restored vote keys are erased at the start, because the store may have lost votes.
    distrusted: Option<u64>,
    /// What leaves when this node is no longer in doubt about its store.
    withheld: Withheld,
}

impl std::fmt::Debug for Consensus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let epoch = self.shared.roster().epoch;
        f.debug_struct("Consensus").field("me", &self.shared.me).field("epoch", &epoch).finish_non_exhaustive()
    }
}

impl Consensus {
    /// A core for the node that holds `node_key`, going on from what was restored. `seed` feeds its own generator, which
    /// makes nonces, vote keys and jitter: it must be secret, and fresh for every start.
    ///
    /// If `restored.may_vote` is false, restored votes, the lock and keys up to the newest epoch are not used: the node
    /// abstains until a key that it made since its store was lost sits in the newest roster.
    ///
    /// # Errors
    /// [`RestoreError::Chain`] if the links do not follow from `genesis`.
    pub fn new(
        config: Config,
        node_key: SigningKey,
        genesis: Genesis,
        restored: Restored,
        seed: [u8; 32],
    ) -> Result<Self, RestoreError> {
        let mut chain = VerifiedChain::new(genesis);
        for link in restored.links {
            chain.extend(link)?;
        }
        let newest = chain.newest();
        let epoch = newest.epoch;
        let follows = |lock: &RosterLock| lock.roster.epoch == epoch + 1 && lock.roster.prev == newest.hash();
        let lock = restored.lock.filter(follows);
        let mut shared = Shared::new(config, node_key, chain, seed);
        shared.approved = restored.approved.into_iter().collect();
        shared.evidence = evidence::Known::restored(restored.evidence, &shared.chain);
        shared.owners = owners::Owners::restored(restored.owner_evidence, &shared.network);
        let (mut votes, mut lock, mut distrusted) = (restored.votes, lock, None);
        let (mut acked, mut closed) = (restored.acked, restored.closed);
        let mut keys = restored.keys;
        if !restored.may_vote && !mynet_types::planted!(VoteAfterLostStore) {
            // Only the key of this epoch is in doubt: the store gives out no key that is older than the doubt.
            let later = keys.split_off(&(epoch + 1));
            distrusted = std::mem::replace(&mut keys, later).into_keys().next_back();
            (votes, lock) = (Vec::new(), None);
            (acked, closed) = (Vec::new(), None);
        }
        let live = keys.into_iter().filter(|(of, _)| *of >= epoch);
        shared.keys.extend(live.map(|(of, secret)| (of, EpochKey::restored(&secret))));
        shared.heads = Heads::new(acked, closed, restored.carried, shared.chain.newest());
        let mut proposer = Proposer::default();
        proposer.restore(restored.proposals);
        let (next, reported) =
            if lock.is_some() { (restored.carried_next, restored.reported) } else { (Vec::new(), Vec::new()) };
        let closing = Closing::new(&shared, next, reported);
        Ok(Self {
            shared,
            proposer,
            validator: Validator::new(votes, restored.signed, epoch),
            growth: Growth::new(lock, closing),
            decided: Decided::default(),
            unsynced: BTreeMap::new(),
            batches: 0,
            distrusted,
            withheld: Withheld::default(),
        })
    }

    /// Takes one input and appends what it leads to. Peer input never panics and never fails: what is wrong is ignored,
    /// and logged at debug level. At most one batch goes out per call, last.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        let me = self.shared.me;
        let mut step = Step::new(now, me, out);
        step.withhold(self.shared.in_doubt());
        self.dispatch(&mut step, input);
        self.settle_withheld(&mut step);
        while let Some(message) = step.next_local() {
            self.on_message(&mut step, me, message);
            self.settle_withheld(&mut step);
        }
        while let Some((signed, asker)) = step.next_signed() {
            self.look_for_rival(&mut step, &signed, asker);
        }
        while let Some(accused) = step.next_accused() {
            self.learn(&mut step, accused);
        }
        if let Some((records, then)) = step.into_batch() {
            self.batches += 1;
            let id = PersistId(self.batches);
            self.unsynced.insert(id, then);
            out.push(Output::Persist { id, records });
        }
    }

    /// The newest roster known here.
    #[must_use]
    pub fn roster(&self) -> &Roster {
        self.shared.roster()
    }

    /// The roster chain known here. Its newest links may not be durable yet.
    #[must_use]
    pub fn chain(&self) -> &VerifiedChain {
        &self.shared.chain
    }

    /// Whether this node has a seat in the newest roster and the key to vote there.
    #[must_use]
    pub fn may_vote(&self) -> bool {
        self.shared.voting_key().is_some()
    }

    /// How far the strongest claim about `value` came that this node asked for, or that it has seen certified. Outcomes
    /// are remembered for a bounded number of values; the certificates themselves are not kept here.
    #[must_use]
    pub fn tally(&self, value: &ManifestHash) -> Option<Tally> {
        let open = [Claim::Verified, Claim::Durable, Claim::Seen];
        let open = open.iter().find_map(|claim| self.proposer.tally_of(&self.shared, &(*value, *claim)));
        open.or_else(|| self.decided.strongest(value))
    }

    /// The outcome of `claim` about `value`, if it is decided as far as this node knows and remembers.
    #[must_use]
    pub fn decided(&self, value: &ManifestHash, claim: Claim) -> Option<Tally> {
        self.decided.outcome(value, claim)
    }

    /// All evidence known here with the nodes it accuses, oldest epoch first.
    pub fn evidence(&self) -> impl DoubleEndedIterator<Item = (&Evidence, NodeId)> {
        self.shared.evidence.all()
    }

    /// All evidence against owners that is kept here, by owner, group and version.
    pub fn owner_evidence(&self) -> impl Iterator<Item = &OwnerEvidence> {
        self.shared.owners.all()
    }

    /// The nodes that this node's operator approved and that have no seat yet.
    pub fn approved(&self) -> impl Iterator<Item = NodeId> {
        self.shared.approved.iter().copied()
    }

    /// The values of this node that are not decided yet, in the order of their hashes.
    pub fn open_values(&self) -> impl Iterator<Item = OpenValue> {
        self.proposer.open_cases().filter_map(|(key, manifest, abstained)| {
            let tally = self.proposer.tally_of(&self.shared, key)?;
            let group_id = manifest.body.group_id;
            Some(OpenValue { group_id, manifest_hash: key.0, claim: key.1, tally, abstained })
        })
    }

    /// What the seats of the newest roster said about `value`, as far as this node asked and remembers: votes stay until
    /// the proposal would have expired.
    #[must_use]
    pub fn seats(&self, value: &ManifestHash) -> Vec<Seat> {
        self.proposer.seats(&self.shared, value)
    }

    /// The manifests that this node proposes and that are not decided.
    pub fn open_groups(&self) -> impl Iterator<Item = &Manifest> {
        self.proposer.open_cases().map(|(_, manifest, _)| &manifest.body)
    }

    fn dispatch(&mut self, step: &mut Step<'_>, input: Input) {
        match input {
            Input::Start => self.start(step),
            Input::Message { from, message } => self.on_message(step, from, message),
            Input::Timer(timer) => self.on_timer(step, timer),
            Input::Persisted(id) => {
                for then in self.unsynced.remove(&id).unwrap_or_default() {
                    self.on_durable(step, then);
                }
            }
            Input::Propose { manifest, receipts, claim } => self.propose(step, *manifest, (&receipts, claim), None),
            Input::ProposeHead { manifest, previous, receipts, claim } => {
                self.propose(step, *manifest, (&receipts, claim), Some(*previous));
            }
            Input::Admitted(admission) => self.shared.admit(*admission),
            Input::PeerUp(node) => {
                self.shared.note_peer(node, true, step.now.mono);
                step.tell(node, evidence::head(&self.shared));
                self.ask_for_votes(step, node);
                self.proposer.on_peer_up(&self.shared, step, &node);
            }
            Input::Withdraw { group_id, owner } => self.proposer.withdraw(step, group_id, owner),
            Input::PeerDown(node) => {
                self.shared.note_peer(node, false, step.now.mono);
            }
            Input::Approve(node) => self.approve(step, node),
            Input::OfferRecovery => self.offer_recovery(step),
            Input::Recover { link, heads } => self.recover(step, *link, heads),
            Input::Hashed { manifest_hash, hashed } => {
                self.validator.on_hashed(&self.shared, step, (manifest_hash, hashed));
            }
        }
    }

    /// The operator wants `node` to have a seat. For a node that has one there is nothing to approve.
    fn approve(&mut self, step: &mut Step<'_>, node: NodeId) {
        if self.shared.roster().seat_of(&node).is_none() && self.shared.approved.insert(node) {
            step.persist(Record::Approval { node, given: true });
        }
    }

    fn propose(
        &mut self,
        step: &mut Step<'_>,
        manifest: SignedManifest,
        (receipts, claim): (&Receipts, Claim),
        previous: Option<HeadProof>,
    ) {
        let body = &manifest.body;
        let value = body.hash();
        if is_head(body.version) {
            self.look_for_rival(step, &manifest.statement(), None);
        }
        if let Some(tally) = self.decided.outcome(&value, claim) {
            step.event(Event::Progress { group_id: body.group_id, manifest_hash: value, claim, tally });
        } else if let Some(other) = self.decided.other_head(body) {
            let (group_id, version) = (body.group_id, body.version);
            step.event(Event::HeadBlocked { group_id, version, manifest_hash: value, other, certified: true });
        } else if manifest.verify(&self.shared.network).is_err() {
            tracing::warn!(manifest_hash = %value, "not proposed: its owner did not sign it");
        } else {
            let wish = Wish { manifest, receipts, previous };
            if let Some(file) = self.proposer.propose(&mut self.shared, step, (value, claim), wish) {
                self.made_certificate(step, file);
            }
        }
    }

    fn start(&mut self, step: &mut Step<'_>) {
        self.shared.start(step.now.mono);
        if let Some(through) = self.distrusted.take() {
            step.persist(Record::EraseKeys { through });
        }
        step.timer(Timer::Roster, self.shared.config.roster_interval);
        self.proposer.start(&mut self.shared, step);
    }

    fn on_timer(&mut self, step: &mut Step<'_>, timer: Timer) {
        match timer {
            Timer::Resend(id) => self.proposer.on_resend(&mut self.shared, step, id),
            Timer::Timeout(id) => self.proposer.on_timeout(&self.shared, step, id),
            Timer::Expire(id) => self.proposer.on_expire(&mut self.shared, step, id),
            Timer::Roster => {
                self.ask_all_for_votes(step);
                self.growth.on_tick(&mut self.shared, step);
            }
        }
    }

    fn on_durable(&mut self, step: &mut Step<'_>, then: Then) {
        match then {
            Then::Announce(id) => self.proposer.announce(&mut self.shared, step, id),
            Then::Vote(key, epoch) => self.validator.on_durable(step, key, epoch),
            Then::Offer(epoch) => self.growth.on_key_durable(&mut self.shared, step, epoch),
            Then::Locked => self.growth.on_lock_durable(&self.shared, step),
            Then::Expose(evidence) => self.expose(step, evidence),
            Then::ExposeOwner(evidence) => self.expose_owner(step, evidence),
            Then::OfferRecovery(epoch) => self.on_recovery_durable(step, epoch),
            Then::GaveUp { shared, gave_up } => step.event(Event::GaveUp { shared, gave_up }),
            Then::Closed(epoch) => self.growth.closing.on_closed_durable(&self.shared, step, epoch),
            Then::Grown { past, made_here } => {
                let chain = &self.shared.chain;
                step.event(Event::RosterChanged { epoch: chain.newest().epoch });
                for epoch in chain.recoveries().filter(|epoch| *epoch > past) {
                    step.event(Event::Recovered { epoch });
                }
                if made_here {
                    for node in &self.shared.up {
                        chain_sync::give_links(&self.shared, step, *node, past);
                    }
                }
            }
        }
    }

    fn on_message(&mut self, step: &mut Step<'_>, from: NodeId, message: ConsensusMessage) {
        let shared = &mut self.shared;
        match message {
            ConsensusMessage::Propose { proposal, manifest, receipts, previous } => {
                let (proposal, manifest, receipts) = (&proposal, &*manifest, &receipts);
                let ask = Ask { from, proposal, manifest, receipts, previous: previous.as_deref(), hashed: None };
                self.validator.on_propose(shared, step, ask);
            }
            ConsensusMessage::Vote(vote) => {
                if let Some(file) = self.proposer.on_vote(shared, step, (from, vote)) {
                    self.made_certificate(step, file);
                }
            }
            ConsensusMessage::Abstain(abstention) => self.proposer.on_abstain(shared, step, (from, abstention)),
            ConsensusMessage::Certified(file) => self.on_certified(step, *file),
            ConsensusMessage::KeyRequest { epoch, prev, leaving, newcomer } => {
                self.growth.on_key_request(shared, step, (from, epoch, prev), (&leaving, newcomer));
            }
            ConsensusMessage::KeyOffer { offer, agrees } => {
                self.growth.on_key_offer(shared, step, (from, offer, agrees));
            }
            ConsensusMessage::RosterPropose { roster, keys, admissions, reports } => {
                let body = RosterLock { roster: *roster, keys, reports };
                self.growth.on_roster_propose(shared, step, (from, body), &admissions);
            }
            ConsensusMessage::RosterVote { roster, epoch: _, old, new } => {
                if let Some(link) = self.growth.on_roster_vote(shared, step, (from, roster), (old, new)) {
                    self.take_links(step, [link], true);
                }
            }
            ConsensusMessage::RosterLocked { roster, keys, reports } => {
                self.growth.on_roster_locked(shared, step, (from, RosterLock { roster: *roster, keys, reports }));
            }
            ConsensusMessage::RosterHead { epoch, evidence, wants_key, roster, owners } => {
                shared.note_wish(from, epoch, wants_key);
                chain_sync::sync_rosters(shared, step, from, epoch);
                chain_sync::look_for_fork(shared, step, from, (epoch, roster));
                if evidence != shared.evidence.digest() {
                    evidence::give(shared, step, from);
                }
                if owners != shared.owners.digest() {
                    owners::give(shared, step, from);
                }
            }
            ConsensusMessage::RosterLinksAfter { epoch } => chain_sync::give_links(shared, step, from, epoch),
            ConsensusMessage::RosterLinks(links) => self.on_links(step, from, &links),
            ConsensusMessage::Evidence(records) => self.on_evidence(step, from, &records),
            ConsensusMessage::OwnerEvidence(records) => self.on_owner_evidence(step, from, &records),
            ConsensusMessage::MyVotes { epoch } => self.on_my_votes(step, from, epoch),
            ConsensusMessage::YourVotes { epoch, votes } => self.on_your_votes(step, (from, epoch), &votes),
            ConsensusMessage::AckRequest { group_id, version, certificate } => {
                let head = AckedHead { group_id, version, certificate: *certificate };
                self.validator.on_ack_request(shared, step, (from, head));
            }
            closing @ (ConsensusMessage::CloseRequest { .. }
            | ConsensusMessage::CloseReport(_)
            | ConsensusMessage::AckedAfter { .. }
            | ConsensusMessage::Acked { .. }
            | ConsensusMessage::CarriedAfter { .. }
            | ConsensusMessage::Carried { .. }) => self.on_closing(step, from, closing),
        }
    }

    /// Messages about the end of an epoch and what is carried over it.
    fn on_closing(&mut self, step: &mut Step<'_>, from: NodeId, message: ConsensusMessage) {
        let (shared, growth) = (&mut self.shared, &mut self.growth);
        match message {
            ConsensusMessage::CloseRequest { roster, keys, admissions } => {
                let draft = RosterLock { roster: *roster, keys, reports: BoundedVec::new() };
                growth.on_close_request(shared, step, (from, draft), &admissions);
            }
            ConsensusMessage::CloseReport(report) => growth.on_close_report(shared, step, (from, report)),
            ConsensusMessage::AckedAfter { root, after } => {
                growth.closing.give_acked(shared, step, (from, root, after));
            }
            ConsensusMessage::Acked { root, after, heads } => {
                growth.on_acked(shared, step, (from, root, after), &heads);
            }
            ConsensusMessage::CarriedAfter { epoch, after } => {
                closing::give_carried(shared, step, (from, epoch, after));
            }
            ConsensusMessage::Carried { epoch, after, heads } => {
                growth.closing.on_carried(shared, step, (from, epoch, after), &heads);
            }
            _ => {}
        }
    }

    /// Votes of this node's proposal suffice: the certificate goes to whom it concerns.
    fn made_certificate(&mut self, step: &mut Step<'_>, file: CertificateFile) {
        let tally = match certified::verify(&file, &self.shared.chain) {
            Ok(tally) => tally,
            Err(error) => {
                tracing::error!(%error, "votes do not make a certificate: too many bad validators");
                return;
            }
        };
        for node in Proposer::audience(&self.shared, &file) {
            step.tell(node, ConsensusMessage::Certified(Box::new(file.clone())));
        }
        self.decide(step, file, tally);
    }

    /// A certificate arrived: its newer links are learned, and if it says something new it is passed on as an event. What is
    /// decided already costs no signature check here.
    fn on_certified(&mut self, step: &mut Step<'_>, mut file: CertificateFile) {
        self.look_for_own_vote(step, &file);
        self.proposer.compare(&self.shared, step, &file.certificate);
        let statement = &file.certificate.statement;
        if self.decided.outcome(&statement.value, statement.claim).is_some() {
            step.event(Event::CertifiedAgain(Box::new(file)));
            return;
        }
        let known = usize::try_from(self.shared.roster().epoch).unwrap_or(usize::MAX);
        let newer: Vec<_> = file.chain.links.iter().skip(known).cloned().collect();
        self.take_links(step, newer, false);
        match certified::verify(&file, &self.shared.chain) {
            Ok(tally) => {
                // Its votes were checked against the chain of this node, so that is the chain to pass on.
                file.chain = self.shared.chain.up_to(self.shared.roster().epoch);
                self.decide(step, file, tally);
            }
            Err(error) => tracing::debug!(%error, "certificate ignored"),
        }
    }

    /// A value is certified, here or elsewhere: every open case that this answers is over.
    fn decide(&mut self, step: &mut Step<'_>, file: CertificateFile, tally: Tally) {
        let statement = &file.certificate.statement;
        let (value, claim) = (statement.value, statement.claim);
        if is_head(file.manifest.body.version) {
            self.look_for_rival(step, &file.manifest.statement(), None);
        }
        if !self.decided.note(&file.manifest, (claim, statement.epoch), tally) {
            return;
        }
        if statement.verdict == Verdict::Accept {
            self.proposer.give_up_rivals(step, &file);
        }
        debug_assert!(matches!(tally.outcome, Outcome::Approved | Outcome::Rejected), "a certificate decides");
        let group_id = file.manifest.body.group_id;
        let (ended, votes) = match tally.outcome {
            Outcome::Rejected => (Reason::Rejected, tally.rejects),
            _ => (Reason::Certified, tally.accepts),
        };
        step.note(Note::about(group_id, ended).value(votes));
        step.event(Event::Certified(Box::new(file)));
        for asked in [Claim::Seen, Claim::Durable, Claim::Verified] {
            let key = (value, asked);
            if self.proposer.is_open(&key) && self.decided.outcome(&value, asked).is_some() {
                step.event(Event::Progress { group_id, manifest_hash: value, claim: asked, tally });
                self.proposer.close(step, &key);
            }
        }
    }
}

#[cfg(test)]
mod tests;
