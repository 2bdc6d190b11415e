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
//! **Deliberately absent:** versions above 1, which only a head may certify: they may be right, so they get an abstention
//! and never a rejection. `Verified` claims, because no input tells yet what this node hashed. Policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_types::{
    AbstainReason, Abstention, Claim, ConsensusMessage, Domain, NodeId, RejectReason, SignedManifest, SignedProposal,
    StatesMask, Timestamp, Verdict, Vote, VoteStatement, signing, wire::Receipts,
};

use super::{
    chain_sync::sync_rosters,
    io::{Event, Record},
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
}

fn ballot_key(statement: &VoteStatement) -> BallotKey {
    (statement.slot, statement.claim, statement.states)
}

impl Validator {
    /// Goes on from the votes of `epoch` that were restored.
    pub(super) fn new(votes: impl IntoIterator<Item = Vote>, epoch: u64) -> Self {
        let of_epoch = votes.into_iter().filter(|vote| vote.statement.epoch == epoch);
        let ballot = |vote| Ballot { vote, durable: true, waiting: BTreeSet::new() };
        let ballots = of_epoch.map(|vote: Vote| (ballot_key(&vote.statement), ballot(vote))).collect();
        Self { ballots, in_flight: BTreeMap::new(), unvouched: BTreeMap::new() }
    }

    /// Forgets the votes of an epoch that is over; its key is erased, so nothing can contradict them any more.
    pub(super) fn roster_changed(&mut self) {
        self.ballots.clear();
        self.in_flight.clear();
        self.unvouched.clear();
    }

    /// Answers a proposal.
    pub(super) fn on_propose(&mut self, shared: &Shared, step: &mut Step<'_>, ask: Ask<'_>) {
        let proposal_id = ask.proposal.body.id();
        match self.weigh(shared, step.now.wall, ask) {
            Answer::Silence(why) => tracing::debug!(from = %ask.from, why, "proposal ignored"),
            Answer::Abstain(reason) => {
                tracing::debug!(from = %ask.from, ?reason, "no vote");
                let group_id = ask.manifest.body.group_id;
                step.note(Note::about(group_id, Reason::withheld(reason)).with(ask.from));
                step.tell(ask.from, ConsensusMessage::Abstain(Abstention { proposal_id, reason }));
                if reason == AbstainReason::OtherRoster {
                    sync_rosters(shared, step, ask.from, ask.proposal.body.epoch);
                }
            }
            Answer::Known(key) => self.answer(step, key, ask.from),
            Answer::Vote(judged) => self.cast(shared, step, ask, judged),
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
        match judge(shared, wall, ask) {
            Ok(judged) if self.is_locked(&proposal.statement(judged.verdict)) => Answer::Abstain(AbstainReason::Locked),
            Ok(judged) if !judged.vouched && self.has_used_up(shared, &ask.from) => {
                Answer::Abstain(AbstainReason::Busy)
            }
            Ok(judged) => Answer::Vote(judged),
            Err(reason) => Answer::Abstain(reason),
        }
    }

    /// Whether a proposer has had all the votes that it gets on its word alone. This node bounds others, not itself.
    fn has_used_up(&self, shared: &Shared, proposer: &NodeId) -> bool {
        let used = self.unvouched.get(proposer).copied().unwrap_or(0);
        *proposer != shared.me && used >= shared.config.unvouched_ballots_max
    }

    /// Whether an earlier vote forbids this one.
    fn is_locked(&self, statement: &VoteStatement) -> bool {
        self.in_slot(statement).any(|ballot| contradict(&ballot.vote.statement, statement))
    }

    /// Whether this node remembers to have given this verdict on this value, under whatever claim: the store keeps the
    /// newest claim only.
    pub(super) fn has_cast(&self, statement: &VoteStatement) -> bool {
        let said = |of: &VoteStatement| (of.epoch, of.roster, of.phase, of.slot, of.value, of.verdict);
        self.in_slot(statement).any(|ballot| said(&ballot.vote.statement) == said(statement))
    }

    /// The votes in the slot of `statement`.
    fn in_slot(&self, statement: &VoteStatement) -> impl Iterator<Item = &Ballot> {
        let from = self.ballots.range((statement.slot, Claim::Seen, StatesMask::EMPTY)..);
        let slot = statement.slot;
        from.take_while(move |((of, ..), _)| *of == slot).map(|(_, ballot)| ballot)
    }

    /// Signs and writes a vote; it leaves when it is durable.
    fn cast(&mut self, shared: &Shared, step: &mut Step<'_>, ask: Ask<'_>, judged: Judgement) {
        let Judgement { verdict, reason, vouched } = judged;
        let Some((seat, key)) = shared.voting_key() else { return };
        let Ok(seat) = u16::try_from(seat) else { return };
        let statement = ask.proposal.body.statement(verdict);
        let signature = signing::sign_as(Domain::Vote, &shared.network, &statement, key);
        let vote = Vote { statement, seat, signature, proposal_id: ask.proposal.body.id(), reason };
        step.note(Note::about(ask.manifest.body.group_id, Reason::voted(&vote)).with(ask.from));
        let key = ballot_key(&statement);
        step.persist(Record::Vote(vote.clone()));
        step.then(Then::Vote(key, statement.epoch));
        self.ballots.insert(key, Ballot { vote, durable: false, waiting: BTreeSet::new() });
        if !vouched {
            *self.unvouched.entry(ask.from).or_default() += 1;
        }
        self.answer(step, key, ask.from);
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

/// Yes, no with its objective reason, or why there is no verdict.
fn judge(shared: &Shared, wall: Timestamp, ask: Ask<'_>) -> Result<Judgement, AbstainReason> {
    let manifest = &ask.manifest.body;
    if manifest.version != 1 || ask.manifest.verify(&shared.network).is_err() {
        return Err(AbstainReason::Unavailable);
    }
    if let Err(defect) = group::verify_manifest(manifest) {
        let reason = defect.reject_reason().ok_or(AbstainReason::Unavailable)?;
        return Ok(Judgement { verdict: Verdict::Reject, reason: Some(reason), vouched: false });
    }
    let vouched = match ask.proposal.body.claim {
        Claim::Seen => false,
        Claim::Durable => {
            let about = (&ask.proposal.body.manifest_hash, manifest);
            let counting = shared.counting_receipts(ask.receipts, about, wall);
            if counting.len() < usize::from(manifest.quorum) {
                return Err(AbstainReason::Unavailable);
            }
            counting.iter().any(|receipt| receipt.body.holder != ask.from)
        }
        Claim::Verified => return Err(AbstainReason::Unavailable),
    };
    Ok(Judgement { verdict: Verdict::Accept, reason: None, vouched })
}
