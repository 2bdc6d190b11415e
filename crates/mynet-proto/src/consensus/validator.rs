//! The validator: looks at a proposal, votes once, and remembers.
//!
//! Cheap checks come first, then objective ones, then the slot. What a proposal gets is one of four things: silence
//! (not a proposal that an honest proposer sends), an unsigned abstention, the stored vote again, or a new vote, which
//! leaves after it was written.
//!
//! 1. (C2) A slot holds one accepted value, and one verdict per value, over restarts. Another claim about the same value
//!    with the same verdict is another vote, not another value.
//! 2. No vote leaves before `Persisted`.
//! 3. A verdict depends on the manifest alone. What is missing, expired, busy or unknown is an abstention.
//!
//! A vote is remembered for its epoch, so a vote that nobody but its proposer stands for is bounded per proposer: one for
//! a rejection, for a claim that needs no copy, or for copies of the proposer alone. What others vouch for with their
//! receipts cost a replication each, and has no bound here; its cost is in the protocol document.
//!
//! The owner's signature is not part of the value, so a proposal with a bad one gets no verdict: else any member could
//! have a right manifest rejected for ever by proposing it with a broken signature.
//!
//! A head must show that the version before it is certified, and [`super::heads`] must allow it. A head that is no next
//! version of what it names as the one before is rejected; what is wrong with the proof beside it gets an abstention. The
//! second round asks only whether a quorum stands in the first: a validator acks a value that it did not vote for, or that
//! a rival of it holds its vote for.
//!
//! A `verified` claim is judged when this node has hashed the bytes, see [`super::hashing`].
//!
//! **Deliberately absent:** policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_types::{
    AbstainReason, Abstention, AckedHead, Claim, ConsensusMessage, Domain, HeadProof, ManifestHash, NodeId, Phase,
    ProposalId, RejectReason, SignedManifest, SignedOwnerStatement, SignedProposal, SlotKey, StatesMask, Timestamp,
    Verdict, Vote, VoteStatement,
    head::HeadProofError,
    signing,
    vote::{head_slot, is_head},
    wire::Receipts,
};

use super::{
    chain_sync::sync_rosters,
    hashing::Hashing,
    heads::Forbidden,
    io::{Event, Hashed, Record},
    shared::Shared,
    step::{BallotKey, Step, Then},
    tally::contradict,
};
use crate::{
    group,
    reason::{Note, Reason},
};

/// How far the clocks of two nodes may be apart. Smaller refuses honest proposals that are about to expire, larger lets
/// votes be asked for longer than their proposer wanted; neither touches safety.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// A proposal with all that is needed to judge it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// Who sent it.
    pub(super) from: NodeId,
    pub(super) proposal: &'a SignedProposal,
    pub(super) manifest: &'a SignedManifest,
    pub(super) receipts: &'a Receipts,
    pub(super) previous: Option<&'a HeadProof>,
    /// What this node found in the bytes, if it looked for this.
    pub(super) hashed: Option<Hashed>,
}

/// One vote of this node.
struct Ballot {
    vote: Vote,
    durable: bool,
    /// Proposers that asked before it was durable.
    waiting: BTreeSet<NodeId>,
}

/// What a proposal gets.
enum Answer {
    Silence(&'static str),
    Abstain(AbstainReason),
    Known(BallotKey),
    /// The bytes must be hashed first; these should have them.
    Hash(Vec<NodeId>),
    Vote(Judgement),
}

/// A verdict, and what it rests on.
#[derive(Debug, Clone, Copy)]
struct Judgement {
    verdict: Verdict,
    /// Why it is a no.
    reason: Option<RejectReason>,
    /// Whether somebody else than the proposer vouches for it: the holder of a copy, by its receipt.
    vouched: bool,
}

/// The votes of this node in the newest epoch.
pub(super) struct Validator {
    ballots: BTreeMap<BallotKey, Ballot>,
    /// Votes that wait for the disk, by proposer.
    in_flight: BTreeMap<NodeId, usize>,
    /// Votes of this epoch that only their proposer stands for, by proposer. Who proposed is not in a vote, so those of
    /// before a restart are not among them.
    unvouched: BTreeMap<NodeId, usize>,
    hashing: Hashing,
    /// What the owner signed of each head that this node accepts; a second value of it is proof against the owner.
    signed: BTreeMap<SlotKey, SignedOwnerStatement>,
}

fn ballot_key(statement: &VoteStatement) -> BallotKey {
    (statement.slot, statement.phase, statement.value, statement.claim, statement.states)
}

impl Validator {
    /// Goes on from the votes of `epoch` that were restored, and what owners signed that they are for.
    pub(super) fn new(
        votes: impl IntoIterator<Item = Vote>,
        signed: impl IntoIterator<Item = (u64, SignedOwnerStatement)>,
        epoch: u64,
    ) -> Self {
        let signed = signed.into_iter().filter(|(of, _)| *of == epoch);
        let signed =
            signed.map(|(_, signed)| (head_slot(&signed.body.group_id, signed.body.version), signed)).collect();
        let of_epoch = votes.into_iter().filter(|vote| vote.statement.epoch == epoch);
        let ballot = |vote| Ballot { vote, durable: true, waiting: BTreeSet::new() };
        let ballots = of_epoch.map(|vote: Vote| (ballot_key(&vote.statement), ballot(vote))).collect();
        let (in_flight, unvouched) = (BTreeMap::new(), BTreeMap::new());
        Self { ballots, in_flight, unvouched, hashing: Hashing::default(), signed }
    }

    /// Forgets the votes of an epoch that is over; its key is erased, so nothing can contradict them any more.
    pub(super) fn roster_changed(&mut self) {
        self.ballots.clear();
        self.in_flight.clear();
        self.unvouched.clear();
        self.signed.clear();
    }

    /// What the owner signed that this node accepts in this slot.
    pub(super) fn signed_of(&self, slot: &SlotKey) -> Option<&SignedOwnerStatement> {
        self.signed.get(slot)
    }

    /// Answers a proposal.
    pub(super) fn on_propose(&mut self, shared: &Shared, step: &mut Step<'_>, ask: Ask<'_>) {
        match self.weigh(shared, step.now.wall, ask) {
            Answer::Silence(why) => tracing::debug!(from = %ask.from, why, "proposal ignored"),
            Answer::Abstain(reason) => self.abstain(shared, step, ask, reason),
            Answer::Known(key) => self.answer(step, key, ask.from),
            Answer::Vote(judged) => self.cast(shared, step, ask, judged),
            Answer::Hash(sources) => {
                if let Err(reason) = self.hashing.wait(step, ask, sources) {
                    self.abstain(shared, step, ask, reason);
                }
            }
        }
    }

    /// This node looked at the bytes of a value: whoever waits for that gets its answer.
    pub(super) fn on_hashed(&mut self, shared: &Shared, step: &mut Step<'_>, (value, hashed): (ManifestHash, Hashed)) {
        let mut hashing = std::mem::take(&mut self.hashing);
        hashing.finish(&value, hashed, |ask| self.on_propose(shared, step, ask));
        self.hashing = hashing;
    }

    /// Says why there is no vote.
    fn abstain(&self, shared: &Shared, step: &mut Step<'_>, ask: Ask<'_>, reason: AbstainReason) {
        let proposal_id = ask.proposal.body.id();
        tracing::debug!(from = %ask.from, ?reason, "no vote");
        step.note(Note::about(ask.manifest.body.group_id, Reason::withheld(reason)).with(ask.from));
        step.tell(ask.from, ConsensusMessage::Abstain(Abstention { proposal_id, reason }));
        if reason == AbstainReason::Locked {
            self.tell_lock(step, &ask);
            step.signed(ask.manifest.statement(), Some(ask.from));
        }
        if reason == AbstainReason::OtherRoster {
            sync_rosters(shared, step, ask.from, ask.proposal.body.epoch);
        }
    }

    /// Decides what a proposal gets; changes nothing.
    fn weigh(&self, shared: &Shared, wall: Timestamp, ask: Ask<'_>) -> Answer {
        let proposal = &ask.proposal.body;
        if ask.from != proposal.proposer || !shared.is_member(&ask.from, wall) {
            return Answer::Silence("its sender is not its proposer, or no member");
        }
        let roster = shared.roster();
        if proposal.epoch != roster.epoch || proposal.roster != roster.hash() {
            return Answer::Abstain(AbstainReason::OtherRoster);
        }
        if roster.seat_of(&shared.me).is_none() {
            return Answer::Silence("this node has no seat");
        }
        if proposal.expires_at.after(CLOCK_SKEW) <= wall {
            return Answer::Abstain(AbstainReason::Expired);
        }
        if self.in_flight.get(&ask.from).copied().unwrap_or(0) >= shared.config.proposals_per_peer_max {
            return Answer::Abstain(AbstainReason::Busy);
        }
        if ask.proposal.verify(&shared.network).is_err() {
            return Answer::Silence("its signature does not verify");
        }
        let manifest = &ask.manifest.body;
        let about = (manifest.hash(), manifest.group_id, manifest.version, manifest.allowed(false));
        if about != (proposal.manifest_hash, proposal.group_id, proposal.version, proposal.states) {
            return Answer::Silence("it is about another manifest than the one beside it");
        }
        let accept = proposal.statement(Verdict::Accept);
        if self.ballots.contains_key(&ballot_key(&accept)) {
            return Answer::Known(ballot_key(&accept));
        }
        if shared.voting_key().is_none() {
            return Answer::Abstain(AbstainReason::NotVoting);
        }
        let judged = match judge(shared, wall, ask) {
            Ok(judged) => judged,
            Err(NoVerdict::Abstain(reason)) => return Answer::Abstain(reason),
            Err(NoVerdict::Hash(_)) if mynet_types::planted!(CopiesTakenForBytes) && self.has_cast(&accept) => {
                Judgement { verdict: Verdict::Accept, reason: None, vouched: true }
            }
            Err(NoVerdict::Hash(_)) if self.rival(&accept).is_some() => return Answer::Abstain(AbstainReason::Locked),
            Err(NoVerdict::Hash(sources)) => return Answer::Hash(sources),
        };
        if self.rival(&proposal.statement(judged.verdict)).is_some() {
            Answer::Abstain(AbstainReason::Locked)
        } else if !judged.vouched && self.has_used_up(shared, &ask.from) {
            Answer::Abstain(AbstainReason::Busy)
        } else {
            Answer::Vote(judged)
        }
    }

    /// Whether a proposer has had all the votes that it gets on its word alone. This node bounds others, not itself.
    fn has_used_up(&self, shared: &Shared, proposer: &NodeId) -> bool {
        let used = self.unvouched.get(proposer).copied().unwrap_or(0);
        *proposer != shared.me && used >= shared.config.unvouched_ballots_max
    }

    /// An earlier vote that forbids this one.
    fn rival(&self, statement: &VoteStatement) -> Option<&Ballot> {
        self.in_slot(statement).find(|ballot| contradict(&ballot.vote.statement, statement))
    }

    /// Shows the vote on another value of a head that stands against this one: two values of one version are the owner's
    /// doing, and the proposer is to learn which.
    fn tell_lock(&self, step: &mut Step<'_>, ask: &Ask<'_>) {
        let proposal = &ask.proposal.body;
        let rival = self.rival(&proposal.statement(Verdict::Accept)).filter(|ballot| ballot.durable);
        if let Some(ballot) = rival.filter(|_| is_head(proposal.version)) {
            step.tell(ask.from, ConsensusMessage::Vote(ballot.vote.clone()));
        }
    }

    /// Whether this node remembers to have given this verdict on this value, under whatever claim: the store keeps the
    /// newest claim only.
    pub(super) fn has_cast(&self, statement: &VoteStatement) -> bool {
        let said = |of: &VoteStatement| (of.epoch, of.roster, of.phase, of.slot, of.value, of.verdict);
        self.in_slot(statement).any(|ballot| said(&ballot.vote.statement) == said(statement))
    }

    /// The votes in the slot and round of `statement`.
    fn in_slot(&self, statement: &VoteStatement) -> impl Iterator<Item = &Ballot> {
        let first = (statement.slot, statement.phase, ManifestHash([0; 32]), Claim::Seen, StatesMask::EMPTY);
        let here = (statement.slot, statement.phase);
        let from = self.ballots.range(first..).take_while(move |((slot, phase, ..), _)| (*slot, *phase) == here);
        from.map(|(_, ballot)| ballot)
    }

    /// Signs and writes a vote; it leaves when it is durable.
    fn cast(&mut self, shared: &Shared, step: &mut Step<'_>, ask: Ask<'_>, judged: Judgement) {
        let Judgement { verdict, reason, vouched } = judged;
        let proposal_id = ask.proposal.body.id();
        let statement = ask.proposal.body.statement(verdict);
        if let Some(key) = self.sign(shared, step, statement, (proposal_id, reason)) {
            if !vouched {
                *self.unvouched.entry(ask.from).or_default() += 1;
            }
            if verdict == Verdict::Accept && is_head(ask.manifest.body.version) {
                self.keep_signed(step, statement, ask.manifest.statement());
            }
            if let Some(ballot) = self.ballots.get(&key) {
                step.note(Note::about(ask.manifest.body.group_id, Reason::voted(&ballot.vote)).with(ask.from));
            }
            self.answer(step, key, ask.from);
        }
    }

    /// Keeps what the owner signed beside the first vote for a head.
    fn keep_signed(&mut self, step: &mut Step<'_>, statement: VoteStatement, signed: SignedOwnerStatement) {
        if let std::collections::btree_map::Entry::Vacant(free) = self.signed.entry(statement.slot) {
            free.insert(signed);
            step.persist(Record::OwnerSigned { epoch: statement.epoch, signed });
        }
        step.signed(signed, None);
    }

    fn sign(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        statement: VoteStatement,
        (proposal_id, reason): (ProposalId, Option<RejectReason>),
    ) -> Option<BallotKey> {
        let (seat, key) = shared.voting_key()?;
        let seat = u16::try_from(seat).ok()?;
        let signature = signing::sign_as(Domain::Vote, &shared.network, &statement, key);
        let vote = Vote { statement, seat, signature, proposal_id, reason };
        let key = ballot_key(&statement);
        step.persist(Record::Vote(vote.clone()));
        step.then(Then::Vote(key, statement.epoch));
        let durable = mynet_types::planted!(VoteBeforePersist);
        self.ballots.insert(key, Ballot { vote, durable, waiting: BTreeSet::new() });
        Some(key)
    }

    /// A quorum voted for a head: it is written down and acked. Whoever asks needs no seat and no name, because the quorum
    /// proves itself; a member that is bad cannot ask for an ack that an honest one would not ask for.
    pub(super) fn on_ack_request(
        &mut self,
        shared: &mut Shared,
        step: &mut Step<'_>,
        (from, head): (NodeId, AckedHead),
    ) {
        let voted = head.certificate.statement;
        let ack = VoteStatement { phase: Phase::Ack, ..voted };
        let key = ballot_key(&ack);
        let busy = self.in_flight.get(&from).copied().unwrap_or(0) >= shared.config.proposals_per_peer_max;
        if !shared.is_member(&from, step.now.wall) || busy {
            return;
        }
        if self.ballots.contains_key(&key) {
            return self.answer(step, key, from);
        }
        if voted.epoch != shared.roster().epoch {
            return sync_rosters(shared, step, from, voted.epoch);
        }
        let forbidden = shared.heads.may_ack((&head.group_id, head.version), &voted.value);
        let rival = self.rival(&ack).is_some();
        if shared.voting_key().is_none() || forbidden.is_err() || rival {
            tracing::debug!(%from, ?forbidden, rival, "no ack");
            return;
        }
        if !is_head(head.version) || !head.is_proven(shared.chain.genesis(), shared.roster()) {
            tracing::debug!(%from, "no ack: a quorum that does not stand");
            return;
        }
        if self.sign(shared, step, ack, (ProposalId([0; 32]), None)).is_some() {
            if shared.heads.note_acked(head.clone()) {
                step.persist(Record::Acked(head));
            }
            self.answer(step, key, from);
        }
    }

    /// Sends a vote if it is durable, and notes who waits for it otherwise.
    fn answer(&mut self, step: &mut Step<'_>, key: BallotKey, to: NodeId) {
        let Some(ballot) = self.ballots.get_mut(&key) else { return };
        if ballot.durable {
            step.tell(to, ConsensusMessage::Vote(ballot.vote.clone()));
        } else if ballot.waiting.insert(to) {
            *self.in_flight.entry(to).or_default() += 1;
        }
    }

    /// A vote is on disk: it leaves. Nothing happens if its epoch has ended meanwhile, even if the same question was
    /// answered again in the next one: that vote is in a later batch.
    pub(super) fn on_durable(&mut self, step: &mut Step<'_>, key: BallotKey, epoch: u64) {
        let of_epoch = |ballot: &&mut Ballot| ballot.vote.statement.epoch == epoch;
        let Some(ballot) = self.ballots.get_mut(&key).filter(of_epoch) else { return };
        ballot.durable = true;
        step.event(Event::Voted(Box::new(ballot.vote.statement)));
        for to in std::mem::take(&mut ballot.waiting) {
            step.tell(to, ConsensusMessage::Vote(ballot.vote.clone()));
            if let Some(count) = self.in_flight.get_mut(&to) {
                *count -= 1;
                if *count == 0 {
                    self.in_flight.remove(&to);
                }
            }
        }
    }
}

impl From<Forbidden> for AbstainReason {
    fn from(forbidden: Forbidden) -> Self {
        match forbidden {
            Forbidden::Unknown => Self::EpochUnknown,
            Forbidden::Closed => Self::Closed,
            Forbidden::Carried => Self::Locked,
        }
    }
}

/// Why there is no verdict.
enum NoVerdict {
    Abstain(AbstainReason),
    /// The bytes must be hashed first; these should have them.
    Hash(Vec<NodeId>),
}

impl From<AbstainReason> for NoVerdict {
    fn from(reason: AbstainReason) -> Self {
        Self::Abstain(reason)
    }
}

/// Yes, no with its objective reason, or why there is no verdict.
fn judge(shared: &Shared, wall: Timestamp, ask: Ask<'_>) -> Result<Judgement, NoVerdict> {
    let manifest = &ask.manifest.body;
    if ask.manifest.verify(&shared.network).is_err() {
        return Err(AbstainReason::Unavailable.into());
    }
    let rejected = |reason, vouched| Judgement { verdict: Verdict::Reject, reason: Some(reason), vouched };
    if let Err(defect) = group::verify_manifest(manifest) {
        let reason = defect.reject_reason().ok_or(AbstainReason::Unavailable)?;
        return Ok(rejected(reason, false));
    }
    if is_head(manifest.version) {
        let previous = ask.previous.ok_or(AbstainReason::HeadUnproven)?;
        match previous.verify(manifest, &shared.chain) {
            Ok(()) => {}
            Err(HeadProofError::Lineage) => return Ok(rejected(RejectReason::HeadInvalid, false)),
            Err(error) => {
                tracing::debug!(from = %ask.from, %error, "a head on top of nothing");
                let unknown = matches!(error, HeadProofError::UnknownEpoch(_));
                let reason = if unknown { AbstainReason::EpochUnknown } else { AbstainReason::HeadUnproven };
                return Err(reason.into());
            }
        }
        if !previous.is_of(manifest) && group::verify_succession(&previous.manifest, manifest).is_err() {
            return Ok(rejected(RejectReason::HeadInvalid, false));
        }
        shared.heads.may_vote(manifest).map_err(AbstainReason::from)?;
    }
    let accepted = |vouched| Judgement { verdict: Verdict::Accept, reason: None, vouched };
    if ask.proposal.body.claim == Claim::Seen {
        return Ok(accepted(false));
    }
    let counting = shared.counting_receipts(ask.receipts, (&ask.proposal.body.manifest_hash, manifest), wall);
    if counting.len() < usize::from(manifest.quorum) {
        return Err(AbstainReason::Unavailable.into());
    }
    let holders = counting.iter().map(|receipt| receipt.body.holder);
    let vouched = holders.clone().any(|holder| holder != ask.from);
    match (ask.proposal.body.claim, ask.hashed) {
        _ if mynet_types::planted!(HashUnlooked) => Ok(accepted(vouched)),
        (Claim::Seen | Claim::Durable, _) | (Claim::Verified, Some(Hashed::Right)) => Ok(accepted(vouched)),
        (Claim::Verified, Some(Hashed::Wrong)) => Ok(rejected(RejectReason::HashMismatch, vouched)),
        (Claim::Verified, Some(Hashed::Unavailable)) => Err(AbstainReason::Unavailable.into()),
        (Claim::Verified, None) => Err(NoVerdict::Hash(holders.filter(|holder| *holder != shared.me).collect())),
    }
}
