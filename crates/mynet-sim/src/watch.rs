//! Notices rare situations, and which node has which certificate.

mod versions;

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::{Event as ConsensusEvent, Hashed, Outcome, Record as VoteRecord},
    node::io::Event,
    replication::io::{Event as ReplicationEvent, Record},
};
use mynet_types::{
    AbstainReason, Claim, ConsensusMessage, ContentState, GroupId, ManifestHash, Message, NodeId, Phase,
    ReplicationMessage, RosterLink, TxId, Verdict,
    wire::{DecisionOutcome, TxStatus},
};

use crate::{
    disk::Loss,
    observe::{Seen, View, decision_in},
    sometimes::{Counts, Rare},
    staging::true_names,
};

/// What was seen of one run.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    certified: BTreeSet<(usize, ManifestHash)>,
    /// Those among them by which a value is rejected.
    rejected: BTreeSet<(usize, ManifestHash)>,
    /// Verdicts of validators that looked at the bytes, or a no at all.
    looked_at: BTreeSet<(usize, ManifestHash)>,
    undecided: BTreeSet<(usize, ManifestHash)>,
    /// Nodes that died with open proposals.
    open_at_death: BTreeSet<usize>,
    /// Commits on disk.
    logged: BTreeMap<TxId, Logged>,
    /// Groups that a node reported durable.
    durable: BTreeSet<(usize, GroupId)>,
    /// The newest transaction of each group.
    transactions: BTreeMap<GroupId, TxId>,
    /// Nodes that lost their vote store.
    votes_lost: BTreeSet<usize>,
    rosters: BTreeSet<u64>,
    seated: BTreeMap<u64, BTreeSet<NodeId>>,
    /// Values that are later versions.
    heads: BTreeSet<ManifestHash>,
    /// Heads that were carried, and since which epoch.
    carried: BTreeMap<ManifestHash, u64>,
    /// Nodes that died with acks of the epoch on disk.
    acked_at_death: BTreeSet<usize>,
    versions: versions::Versions,
}

/// A commit on its coordinator's disk.
#[derive(Debug)]
struct Logged {
    coordinator: usize,
    targets: usize,
    /// Who was told.
    told: BTreeSet<NodeId>,
}

/// Counts what batches were in the middle of when their node died.
pub(crate) fn count_crash_inside(loss: &Loss<Record>, counts: &mut Counts) {
    for record in loss.kept.iter().flatten() {
        match record {
            Record::Prepared { .. } => counts.met(Rare::CrashAfterT3Untold),
            Record::Commit { .. } => counts.met(Rare::CrashInsideT4Kept),
            Record::End(_) => counts.met(Rare::CrashInsideC3),
            _ => {}
        }
    }
    for record in loss.lost.iter().flatten() {
        match record {
            Record::Intent(_) => counts.met(Rare::CrashInsideT1),
            Record::Commit { .. } => counts.met(Rare::CrashInsideT4Lost),
            Record::End(_) => counts.met(Rare::CrashInsideC3),
            _ => {}
        }
    }
}

impl Watch {
    /// Whether `node` has a certificate for a value.
    pub(crate) fn is_certified(&self, node: usize, value: &ManifestHash) -> bool {
        self.certified.contains(&(node, *value))
    }

    /// Whether `node` has a certificate that rejects a value.
    pub(crate) fn is_rejected(&self, node: usize, value: &ManifestHash) -> bool {
        self.rejected.contains(&(node, *value))
    }

    /// Whether `node` has a certificate for a value by which no more can be asked about it.
    pub(crate) fn is_looked_at(&self, node: usize, value: &ManifestHash) -> bool {
        self.looked_at.contains(&(node, *value))
    }

    /// Looks at one thing that happened.
    pub(crate) fn see(&mut self, seen: &Seen<'_>, view: &View<'_>, counts: &mut Counts) {
        self.see_versions(seen, view, counts);
        match seen {
            Seen::Crashed(node) => self.crashed(*node, view, counts),
            Seen::Sent { from, to, message } => self.sent((*from, *to), message, view, counts),
            Seen::Told { node, event: Event::Consensus(event) } => self.consensus(*node, event, view, counts),
            Seen::Told { node, event: Event::Replication(event) } => self.replication(*node, event, view, counts),
            Seen::VotesLost(node) => {
                self.votes_lost.insert(*node);
            }
            Seen::Recovery { file, .. } if !file.heads.is_empty() => counts.met(Rare::RecoveryCarriesHeads),
            Seen::GroupsOnDisk { node, records } => self.on_disk(*node, records, counts),
            Seen::VotesOnDisk { node, records } => self.votes_on_disk(*node, records, view, counts),
            Seen::Delivered { .. }
            | Seen::Given { .. }
            | Seen::Armed { .. }
            | Seen::Writing { .. }
            | Seen::Replaying(_)
            | Seen::Replayed { .. }
            | Seen::Collected(_)
            | Seen::DriverOnDisk { .. }
            | Seen::Handled(_)
            | Seen::Healed
            | Seen::Recovery { .. }
            | Seen::Deadline(_) => {}
        }
    }

    fn votes_on_disk(&mut self, node: usize, records: &[VoteRecord], view: &View<'_>, counts: &mut Counts) {
        for record in records {
            match record {
                VoteRecord::CarriedNext(heads) => {
                    for head in heads {
                        let epoch = view.hosts[node].votes.store.epoch();
                        if self.carried.insert(head.value, epoch).is_none() && !view.files.contains_key(&head.value) {
                            counts.met(Rare::QcWithoutFinalAtClose);
                        }
                    }
                }
                VoteRecord::Vote(vote) => {
                    let since = self.carried.get(&vote.statement.value);
                    if since.is_some_and(|epoch| *epoch < vote.statement.epoch) {
                        counts.met(Rare::CarriedValue);
                    }
                }
                VoteRecord::Link(link) => self.link(link, counts),
                _ => {}
            }
        }
    }

    fn link(&mut self, link: &RosterLink, counts: &mut Counts) {
        let (epoch, now) = (link.roster.epoch, link.roster.nodes().collect::<BTreeSet<_>>());
        if !self.seated.contains_key(&epoch) {
            if let Some(before) = self.seated.get(&(epoch - 1)) {
                if !before.is_subset(&now) {
                    counts.met(Rare::SeatLeftOut);
                } else if *before == now {
                    counts.met(Rare::KeysRenewed);
                }
            }
            self.seated.insert(epoch, now);
        }
    }

    fn crashed(&mut self, node: usize, view: &View<'_>, counts: &mut Counts) {
        let votes = &view.hosts[node].votes.store;
        if votes.has_acked() {
            self.acked_at_death.insert(node);
        }
        if votes.open_proposals() > 0 {
            self.open_at_death.insert(node);
        }
        if votes.lock().is_some_and(|lock| lock.roster.epoch > votes.epoch()) {
            counts.met(Rare::RosterProposerLost);
        }
        let store = &view.hosts[node].groups.store;
        for decided in store.decided() {
            let Some(logged) = self.logged.get(&decided.tx) else { continue };
            if logged.told.is_empty() && logged.targets > 0 {
                counts.met(Rare::CrashBeforeFirstDecision);
            } else if logged.told.len() < logged.targets {
                counts.met(Rare::CrashBetweenDecisions);
            }
        }
        if store.undecided() > 0 {
            counts.met(Rare::CoordinatorDiesBeforeC2);
        }
        if self.durable.iter().any(|(of, group)| *of == node && !store.has_ended(group)) {
            counts.met(Rare::CrashAfterSuccess);
        }
        if store.prepared().any(|intent| self.logged.contains_key(&intent.prepare.tx)) {
            counts.met(Rare::CrashBeforeDecisionArrives);
        }
        if store.intents().count() > store.prepared().count() {
            counts.met(Rare::CrashWhileStaging);
        }
    }

    fn sent(&mut self, (from, to): (usize, NodeId), message: &Message, view: &View<'_>, counts: &mut Counts) {
        if let Some(decision) = decision_in(message) {
            if let Some(logged) = self.logged.get_mut(&decision.body.tx).filter(|logged| logged.coordinator == from) {
                logged.told.insert(to);
            }
            if view.cast.index_of(&decision.body.coordinator) != Some(from) {
                counts.met(Rare::DecisionRelayed);
            }
        }
        if let Message::Consensus(message) = message {
            self.said(from, message, counts);
        }
        match message {
            Message::Consensus(ConsensusMessage::Propose { .. }) if self.open_at_death.remove(&from) => {
                counts.met(Rare::ProposerRestartResends);
            }
            Message::Consensus(ConsensusMessage::RosterLocked { .. }) => counts.met(Rare::RosterLocked),
            Message::Consensus(ConsensusMessage::MyVotes { .. }) => counts.met(Rare::InDoubtOfItsStore),
            Message::Replication(ReplicationMessage::StatusQuery { .. }) => counts.met(Rare::InDoubt),
            Message::Consensus(ConsensusMessage::Vote(_)) if self.votes_lost.contains(&from) => {
                counts.met(Rare::VotesAgainAfterLoss);
            }
            Message::Replication(ReplicationMessage::Prepare(prepare)) => {
                if prepare.attempt > 1 {
                    counts.met(Rare::HigherAttempt);
                }
                let before = self.transactions.insert(prepare.manifest.body.group_id, prepare.tx);
                if before.is_some_and(|before| before != prepare.tx) {
                    counts.met(Rare::AnotherTransaction);
                }
            }
            Message::Replication(ReplicationMessage::DecisionAck { tx, outcome: DecisionOutcome::Gone, .. })
                if self.logged.contains_key(tx) =>
            {
                counts.met(Rare::LeaseEndAfterDecision);
            }
            Message::Replication(ReplicationMessage::Status { status: TxStatus::Aborted, .. }) => {
                counts.met(Rare::ParticipantAborts);
            }
            _ => {}
        }
    }

    fn said(&mut self, from: usize, message: &ConsensusMessage, counts: &mut Counts) {
        match message {
            ConsensusMessage::Propose { proposal, .. } if proposal.body.version > 1 => {
                self.heads.insert(proposal.body.manifest_hash);
            }
            ConsensusMessage::Vote(vote) if vote.statement.phase == Phase::Ack && self.acked_at_death.remove(&from) => {
                counts.met(Rare::AckAfterRestart);
            }
            ConsensusMessage::Abstain(abstention) if abstention.reason == AbstainReason::Closed => {
                counts.met(Rare::HeadAfterClose);
            }
            ConsensusMessage::Carried { .. } => counts.met(Rare::CloseSetFetched),
            ConsensusMessage::Acked { .. } => counts.met(Rare::AckedListFetched),
            _ => {}
        }
    }

    fn consensus(&mut self, node: usize, event: &ConsensusEvent, view: &View<'_>, counts: &mut Counts) {
        // Suite `node` asks so of what has copies.
        let asked = |value: &ManifestHash| view.works.iter().any(|work| work.value == *value && work.verified_asked);
        match event {
            ConsensusEvent::Progress { manifest_hash, claim: Claim::Verified, tally, .. }
                if matches!(tally.outcome, Outcome::Undecided | Outcome::Rejected)
                    && asked(manifest_hash)
                    && true_names(manifest_hash) == Hashed::Wrong =>
            {
                counts.met(Rare::WrongCopiesRefused);
            }
            ConsensusEvent::Progress { manifest_hash, tally, .. } => match tally.outcome {
                Outcome::NotEnoughValidators => counts.met(Rare::TooFewValidators),
                Outcome::Undecided => {
                    if view.works.iter().any(|work| work.unproven && work.value == *manifest_hash) {
                        counts.met(Rare::TooFewCopiesShown);
                    }
                    self.undecided.insert((node, *manifest_hash));
                }
                Outcome::Approved if self.undecided.remove(&(node, *manifest_hash)) => {
                    let head = self.heads.contains(manifest_hash);
                    counts.met(if head { Rare::LateVoteCompletesHead } else { Rare::LateVoteCompletesCertificate });
                }
                _ => {}
            },
            ConsensusEvent::Certified(file) => {
                let statement = &file.certificate.statement;
                let new = self.certified.insert((node, statement.value));
                if statement.verdict == Verdict::Reject {
                    self.rejected.insert((node, statement.value));
                }
                if statement.claim == Claim::Verified || statement.verdict == Verdict::Reject {
                    self.looked_at.insert((node, statement.value));
                }
                match (statement.claim, statement.verdict) {
                    (Claim::Verified, Verdict::Accept) if asked(&statement.value) => counts.met(Rare::CopiesVerified),
                    (Claim::Verified, Verdict::Accept) => counts.met(Rare::Verified),
                    (Claim::Verified, Verdict::Reject) if true_names(&statement.value) == Hashed::Wrong => {
                        counts.met(Rare::HashMismatch);
                    }
                    _ => {}
                }
                let recovered = |link: &RosterLink| link.is_recovery() && link.roster.epoch <= statement.epoch;
                if new && file.chain.links.iter().any(recovered) {
                    counts.met(Rare::RecoveredCertifies);
                }
                if new && statement.verdict == Verdict::Reject {
                    counts.met(Rare::RejectCertificate);
                }
            }
            ConsensusEvent::GaveUp { .. } => counts.met(Rare::ChainGivesWay),
            ConsensusEvent::Evidence { .. } => counts.met(Rare::Accused),
            ConsensusEvent::HeadBlocked { .. } => counts.met(Rare::HeadLocked),
            ConsensusEvent::RosterChanged { epoch } if *epoch >= 3 && self.rosters.insert(*epoch) => {
                counts.met(if *epoch < 6 { Rare::RosterOfFour } else { Rare::RosterOfSeven });
            }
            _ => {}
        }
    }

    fn on_disk(&mut self, node: usize, records: &[Record], counts: &mut Counts) {
        for record in records {
            match record {
                Record::Decided(decided) => {
                    let targets = decided.decisions.len();
                    self.logged.insert(decided.tx, Logged { coordinator: node, targets, told: BTreeSet::new() });
                }
                Record::Commit { receipt, .. } if receipt.body.states.contains(ContentState::Decrypted) => {
                    counts.met(Rare::DecryptedHeld);
                }
                _ => {}
            }
        }
    }

    fn replication(&mut self, node: usize, event: &ReplicationEvent, view: &View<'_>, counts: &mut Counts) {
        match event {
            ReplicationEvent::NotEnoughTargets { .. } => counts.met(Rare::NotEnoughTargets),
            ReplicationEvent::Durable { manifest, receipts, .. } => {
                self.durable.insert((node, manifest.body.group_id));
                let value = manifest.body.hash();
                let work = view.works.iter().find(|work| work.value == value);
                if work.is_some_and(|work| receipts.len() < usize::from(work.publication.replicas)) {
                    counts.met(Rare::DurableBeforeReplicated);
                }
            }
            ReplicationEvent::Aborted { .. } => counts.met(Rare::ParticipantAborts),
            _ => {}
        }
    }
}
