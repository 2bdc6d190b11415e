//! Governing: who sits in the roster, who may, who lied, and what is being voted on. Objects for people, and the one word
//! that an operator has in it.

use mynet_proto::{
    consensus::{OpenValue, io::Outcome},
    node::io::Input,
};
use mynet_types::{
    AbstainReason, Claim, Evidence, GroupId, ManifestHash, NodeId, OwnerEvidence, OwnerKey, OwnerSignature, Phase,
    Roles, RosterHash, SignedStatement, Timestamp, Verdict, VoteKey, evidence,
};
use serde::{Deserialize, Serialize};

use crate::{
    driver::wall_clock,
    handle::NodeError,
    shell::Shell,
    view::{OutcomeView, RosterView},
};

/// The newest roster in full.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RosterDetailView {
    /// What the status tells of it.
    #[serde(flatten)]
    pub roster: RosterView,
    /// Its hash, by which it is known in the network.
    pub hash: RosterHash,
    /// Validators that may be bad without harm.
    pub tolerates: usize,
    /// Its seats, in their order.
    pub seats: Vec<SeatView>,
    /// Admitted validators without a seat.
    pub waiting: Vec<WaitingView>,
    /// Whether this node votes in it.
    pub votes: bool,
    /// Epochs that the offline keys began, oldest first.
    pub recoveries: Vec<u64>,
}

/// One seat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeatView {
    /// Who holds it.
    pub node_id: NodeId,
    /// The key that signs its votes in this epoch.
    pub vote_key: VoteKey,
    /// Whether this node reaches it; this node reaches itself.
    pub alive: bool,
    /// Whether there is evidence against it in this epoch: it is left out of the next roster, as long as three remain.
    pub accused: bool,
}

/// A validator that waits for a seat.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitingView {
    /// Who.
    pub node_id: NodeId,
    /// Since when it is admitted.
    pub admitted_at: Timestamp,
    /// Whether this node reaches it.
    pub alive: bool,
    /// Whether this node's operator approved it.
    pub approved: bool,
    /// Whether it contradicted itself once, so that it needs an approval in any case.
    pub accused: bool,
}

/// Evidence that somebody signed two things that exclude each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EvidenceView {
    /// Two votes of one seat.
    Validator {
        /// Names it in lists: the epoch and the seat.
        id: String,
        /// Who held the seat.
        node_id: NodeId,
        /// In which epoch.
        epoch: u64,
        /// Which seat.
        seat: u16,
        /// What it signed.
        statements: Vec<StatementView>,
    },
    /// Two manifests of one owner for one version of a group.
    Owner {
        /// Names it in lists: the owner, the group and the version.
        id: String,
        /// Who signed both.
        owner: OwnerKey,
        /// The group.
        group_id: GroupId,
        /// The version.
        version: u64,
        /// What was signed as this version.
        manifests: Vec<SignedHashView>,
    },
}

impl EvidenceView {
    /// Names it in lists.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Validator { id, .. } | Self::Owner { id, .. } => id,
        }
    }
}

/// A manifest, by its hash, with its owner's signature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedHashView {
    /// The manifest.
    pub manifest_hash: ManifestHash,
    /// The signature, in hex.
    pub signature: String,
}

/// One signed statement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatementView {
    /// The round: `vote` or `ack`.
    pub phase: String,
    /// The value.
    pub manifest_hash: ManifestHash,
    /// `accept` or `reject`.
    pub verdict: String,
    /// What it says about the value: `seen`, `durable` or `verified`.
    pub claim: String,
    /// The signature, in hex.
    pub signature: String,
}

/// A value of this node that is not decided yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProposalView {
    /// Names it in lists: the manifest hash and the claim.
    pub id: String,
    /// The group.
    pub group_id: GroupId,
    /// The value.
    pub manifest_hash: ManifestHash,
    /// What is to be certified about it.
    pub claim: String,
    /// How far it came.
    pub outcome: OutcomeView,
    /// Accept votes so far.
    pub accepts: usize,
    /// Reject votes so far.
    pub rejects: usize,
    /// Accept votes needed; 0 if no certificate is possible.
    pub quorum: usize,
    /// Validators asked.
    pub validators: usize,
    /// Validators that answered without a vote, and why.
    pub abstained: Vec<AbstainedView>,
}

/// An answer that is no vote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AbstainedView {
    /// Who.
    pub node_id: NodeId,
    /// Why.
    pub reason: String,
}

impl Shell {
    /// The newest roster, and who waits for a seat in it.
    pub(crate) async fn roster(&self) -> Result<RosterDetailView, NodeError> {
        let asked = self.inbox.ask(|core, _now| {
            let core = core.consensus_core();
            let liars: Vec<(u64, NodeId)> = core.evidence().map(|(evidence, node)| (evidence.epoch(), node)).collect();
            (core.chain().clone(), core.approved().collect::<Vec<_>>(), liars, core.may_vote())
        });
        let (chain, approved, liars, votes) = asked.await.ok_or(NodeError::Stopping)?;
        let (newest, up) = (chain.newest(), self.members.up());
        let quorum = chain.genesis().quorum(newest.validators.len());
        let alive = |node: &NodeId| *node == self.me() || up.contains(node);
        let seats = newest.validators.iter().map(|seat| SeatView {
            node_id: seat.node,
            vote_key: seat.vote_key,
            alive: alive(&seat.node),
            accused: liars.contains(&(newest.epoch, seat.node)),
        });
        let may_sit = |roles: Roles| roles.contains(Roles::VALIDATOR);
        let admissions = self.members.admissions(wall_clock());
        let mut waiting: Vec<WaitingView> = admissions
            .iter()
            .map(|admission| &admission.body)
            .filter(|body| may_sit(body.roles) && newest.seat_of(&body.node).is_none())
            .map(|body| WaitingView {
                node_id: body.node,
                admitted_at: body.admitted_at,
                alive: alive(&body.node),
                approved: approved.contains(&body.node),
                accused: liars.iter().any(|(_, liar)| *liar == body.node),
            })
            .collect();
        waiting.sort_by_key(|node| (node.admitted_at, node.node_id));
        Ok(RosterDetailView {
            roster: RosterView {
                epoch: newest.epoch,
                validators: newest.nodes().collect(),
                quorum: quorum.map_or(0, |quorum| quorum.accept()),
            },
            hash: newest.hash(),
            tolerates: quorum.map_or(0, |quorum| quorum.faulty()),
            seats: seats.collect(),
            waiting,
            votes,
            recoveries: chain.recoveries().collect(),
        })
    }

    /// The operator wants a node to have a seat.
    pub(crate) async fn approve(&self, node: NodeId) -> Result<RosterDetailView, NodeError> {
        let roster = self.roster().await?;
        if roster.roster.validators.contains(&node) {
            return Err(NodeError::Invalid { field: "node", why: format!("{node} has a seat already") });
        }
        if !roster.waiting.iter().any(|waiting| waiting.node_id == node) {
            return Err(NodeError::NotFound(format!("{node}, as an admitted validator,")));
        }
        if !self.inbox.put(Input::Approve(node)).await {
            return Err(NodeError::Stopping);
        }
        self.roster().await
    }

    /// All evidence known here: against validators, newest first, then against owners.
    pub(crate) async fn evidence(&self) -> Result<Vec<EvidenceView>, NodeError> {
        let asked = self.inbox.ask(|core, _now| {
            let core = core.consensus_core();
            let seats = core.evidence().rev().map(|(evidence, node)| evidence_view(evidence, node));
            seats.chain(core.owner_evidence().map(owner_evidence_view)).collect()
        });
        asked.await.ok_or(NodeError::Stopping)
    }

    /// What this node wants certified and is not decided yet.
    pub(crate) async fn proposals(&self) -> Result<Vec<ProposalView>, NodeError> {
        let asked = self.inbox.ask(|core, _now| core.consensus_core().open_values().map(proposal_view).collect());
        asked.await.ok_or(NodeError::Stopping)
    }
}

fn evidence_view(record: &Evidence, node_id: NodeId) -> EvidenceView {
    debug_assert!(evidence::contradict(&record.first.statement, &record.second.statement), "the core checks it");
    EvidenceView::Validator {
        id: format!("{}-{}", record.epoch(), record.seat),
        node_id,
        epoch: record.epoch(),
        seat: record.seat,
        statements: [&record.first, &record.second].map(statement_view).to_vec(),
    }
}

fn owner_evidence_view(record: &OwnerEvidence) -> EvidenceView {
    let OwnerEvidence { owner, group_id, version, first, second } = *record;
    let signed = |signed: OwnerSignature| SignedHashView {
        manifest_hash: signed.manifest_hash,
        signature: hex::encode(signed.signature.0),
    };
    let id = format!("{owner}-{group_id}-{version}");
    EvidenceView::Owner { id, owner, group_id, version, manifests: [first, second].map(signed).to_vec() }
}

fn statement_view(signed: &SignedStatement) -> StatementView {
    let statement = &signed.statement;
    StatementView {
        phase: if statement.phase == Phase::Vote { "vote" } else { "ack" }.to_owned(),
        manifest_hash: statement.value,
        verdict: if statement.verdict == Verdict::Accept { "accept" } else { "reject" }.to_owned(),
        claim: claim_word(statement.claim).to_owned(),
        signature: hex::encode(signed.signature.0),
    }
}

pub(crate) fn proposal_view(value: OpenValue) -> ProposalView {
    let claim = claim_word(value.claim);
    ProposalView {
        id: format!("{}-{claim}", value.manifest_hash),
        group_id: value.group_id,
        manifest_hash: value.manifest_hash,
        claim: claim.to_owned(),
        outcome: outcome_view(value.tally.outcome),
        accepts: value.tally.accepts,
        rejects: value.tally.rejects,
        quorum: value.tally.quorum,
        validators: value.tally.validators,
        abstained: value
            .abstained
            .into_iter()
            .map(|(node_id, reason)| AbstainedView { node_id, reason: abstain_word(reason).to_owned() })
            .collect(),
    }
}

/// The word for an outcome.
pub(crate) fn outcome_view(outcome: Outcome) -> OutcomeView {
    match outcome {
        Outcome::Pending => OutcomeView::Pending,
        Outcome::Approved => OutcomeView::Approved,
        Outcome::Rejected => OutcomeView::Rejected,
        Outcome::Undecided => OutcomeView::Undecided,
        Outcome::NotEnoughValidators => OutcomeView::NotEnoughValidators,
    }
}

fn claim_word(claim: Claim) -> &'static str {
    match claim {
        Claim::Seen => "seen",
        Claim::Durable => "durable",
        Claim::Verified => "verified",
    }
}

fn abstain_word(reason: AbstainReason) -> &'static str {
    match reason {
        AbstainReason::Unavailable => "unavailable",
        AbstainReason::Busy => "busy",
        AbstainReason::OtherRoster => "other_roster",
        AbstainReason::NotVoting => "not_voting",
        AbstainReason::Expired => "expired",
        AbstainReason::Locked => "locked",
        AbstainReason::Closed => "closed",
        AbstainReason::HeadUnproven => "head_unproven",
        AbstainReason::EpochUnknown => "epoch_unknown",
    }
}
