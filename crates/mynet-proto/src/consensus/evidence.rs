//! Evidence kept and passed on: who contradicted itself, in which epoch, and that everybody hears of it.
//!
//! ```text
//!  two votes of one seat --+
//!                          +--> check --> Persist(Evidence) --> Persisted --> Evidence to everybody who is up
//!  Evidence from a peer ---+      ^
//!                                 | RosterHead with another digest: what this node has is given
//! ```
//!
//! 1. (C7) Only what verifies against this node's own roster chain is kept: two signatures of the seat's key. So nobody can
//!    accuse a seat but its own signatures.
//! 2. One record per seat and epoch. What is known, or of an epoch that is not, costs no signature check; the first bad record
//!    of a message ends it. So a liar pays one signature for at most one record and one round of messages.
//! 3. It leaves after it is durable, once to everybody, and again to whoever shows by its digest to lack some.
//!
//! Source: Demers et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987), rumours with anti-entropy.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_types::{
    BoundedVec, ConsensusMessage, Evidence, Mono, NodeId, VerifiedChain, codec, wire::EVIDENCE_PER_MESSAGE_MAX,
};

use super::{
    Consensus,
    io::{Event, Record},
    shared::Shared,
    step::{Step, Then},
};

/// Records that are compared with peers and given to them, the newest. Older ones have had their effect; giving twice as many
/// would cost a node that comes back twice the bytes, half as many might leave out seats of one large roster.
const GIVEN_MAX: usize = 64;

/// A peer is not given evidence more often than this, so that small heads cannot draw large answers without end. As long as the
/// pause between two heads of one node, so that nobody waits for it.
const GIVE_PAUSE: Duration = Duration::from_secs(1);

/// All evidence known here.
#[derive(Debug, Default)]
pub(super) struct Known {
    by_seat: BTreeMap<(u64, u16), (Evidence, NodeId)>,
    /// When a peer was last given what it lacks.
    given_at: BTreeMap<NodeId, Mono>,
}

impl Known {
    /// Takes up what was restored. What does not verify against `chain` is left out: it can accuse nobody.
    pub(super) fn restored(records: impl IntoIterator<Item = Evidence>, chain: &VerifiedChain) -> Self {
        let mut known = Self::default();
        for evidence in records {
            match accused(&evidence, chain) {
                Some(node) => known.note(evidence, node),
                None => tracing::warn!(epoch = evidence.epoch(), "stored evidence does not verify, left out"),
            }
        }
        known
    }

    /// Leaves out what the rosters of another chain accused.
    pub(super) fn keep_to(&mut self, chain: &VerifiedChain) {
        self.by_seat.retain(|_, (evidence, _)| accused(evidence, chain).is_some());
    }

    fn note(&mut self, evidence: Evidence, node: NodeId) {
        self.by_seat.insert((evidence.epoch(), evidence.seat), (evidence, node));
    }

    fn knows(&self, evidence: &Evidence) -> bool {
        self.by_seat.contains_key(&(evidence.epoch(), evidence.seat))
    }

    /// All of it with the nodes it accuses, oldest epoch first.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = (&Evidence, NodeId)> {
        self.by_seat.values().map(|(evidence, node)| (evidence, *node))
    }

    /// The nodes that contradicted themselves in `epoch`.
    pub(super) fn liars_of(&self, epoch: u64) -> BTreeSet<NodeId> {
        self.by_seat.range((epoch, 0)..=(epoch, u16::MAX)).map(|(_, (_, node))| *node).collect()
    }

    /// Whether `node` ever contradicted itself.
    pub(super) fn has_lied(&self, node: &NodeId) -> bool {
        self.by_seat.values().any(|(_, liar)| liar == node)
    }

    /// What is given to others, newest first.
    fn given(&self) -> impl Iterator<Item = &Evidence> {
        self.by_seat.values().rev().take(GIVEN_MAX).map(|(evidence, _)| evidence)
    }

    /// Tells apart what two nodes would give: equal only if the same seats of the same epochs are accused. No secret and no
    /// proof; whoever lies about it misses evidence itself.
    pub(super) fn digest(&self) -> u64 {
        let seats: Vec<(u64, u16)> = self.given().map(|evidence| (evidence.epoch(), evidence.seat)).collect();
        codec::digest(&seats).into_iter().take(8).fold(0, |digest, byte| digest << 8 | u64::from(byte))
    }
}

/// Whom `evidence` accuses by the rosters of `chain`; nobody if it does not verify.
fn accused(evidence: &Evidence, chain: &VerifiedChain) -> Option<NodeId> {
    let roster = chain.roster(evidence.epoch())?;
    evidence.verify(&chain.genesis().network_id(), roster).ok()
}

/// What a node tells others about itself, for comparing.
pub(super) fn head(shared: &Shared) -> ConsensusMessage {
    ConsensusMessage::RosterHead {
        epoch: shared.roster().epoch,
        evidence: shared.evidence.digest(),
        wants_key: shared.wants_key() && !mynet_types::planted!(KeyWishUnsent),
        roster: shared.roster().hash(),
        owners: shared.owners.digest(),
    }
}

/// Gives the newest evidence to a member whose digest differs.
pub(super) fn give(shared: &mut Shared, step: &mut Step<'_>, to: NodeId) {
    let now = step.now.mono;
    let recent = shared.evidence.given_at.get(&to).is_some_and(|at| now.since(*at) < GIVE_PAUSE);
    if recent || shared.evidence.by_seat.is_empty() || !shared.is_member(&to, step.now.wall) {
        return;
    }
    shared.evidence.given_at.insert(to, now);
    let given: Vec<Evidence> = shared.evidence.given().copied().collect();
    for part in given.chunks(EVIDENCE_PER_MESSAGE_MAX) {
        step.tell(to, ConsensusMessage::Evidence(BoundedVec::truncated(part.iter().copied())));
    }
}

impl Consensus {
    /// A peer gives evidence. What is of an epoch not known here yet is asked for again by the next heads, after the links.
    pub(super) fn on_evidence(&mut self, step: &mut Step<'_>, from: NodeId, records: &[Evidence]) {
        if !self.shared.is_member(&from, step.now.wall) {
            return;
        }
        let newest = self.shared.roster().epoch;
        if records.iter().any(|evidence| evidence.epoch() > newest) {
            step.tell(from, ConsensusMessage::RosterLinksAfter { epoch: newest });
        }
        for evidence in records.iter().filter(|evidence| evidence.epoch() <= newest) {
            if !self.shared.evidence.knows(evidence) && !self.learn(step, *evidence) {
                tracing::debug!(%from, "evidence does not verify");
                return;
            }
        }
    }

    /// Takes evidence that is not known yet; `false` if it does not verify.
    pub(super) fn learn(&mut self, step: &mut Step<'_>, evidence: Evidence) -> bool {
        let Some(node) = accused(&evidence, &self.shared.chain) else { return false };
        if self.shared.evidence.knows(&evidence) {
            return true;
        }
        let roster = self.shared.roster();
        if evidence.epoch() == roster.epoch && roster.validators.len() <= 3 {
            tracing::warn!(%node, "it keeps its seat, because fewer than three would remain");
        }
        self.shared.evidence.note(evidence, node);
        step.persist(Record::Evidence(evidence));
        step.then(Then::Expose(evidence));
        if self.shared.approved.remove(&node) {
            // The operator did not know of this when it approved.
            step.persist(Record::Approval { node, given: false });
        }
        self.look_at_own_evidence(step, &evidence, node);
        step.event(Event::Evidence { node, evidence: Box::new(evidence) });
        true
    }

    /// Evidence is durable: everybody hears of it.
    pub(super) fn expose(&self, step: &mut Step<'_>, evidence: Evidence) {
        for peer in &self.shared.up {
            step.tell(*peer, ConsensusMessage::Evidence(BoundedVec::truncated([evidence])));
        }
    }
}
