//! Notices rare situations, and which node has which certificate.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::{Event as ConsensusEvent, Outcome, Record as VoteRecord},
    node::io::Event,
    replication::io::{Event as ReplicationEvent, Record},
};
use mynet_types::{
    AbstainReason, ConsensusMessage, ContentState, ManifestHash, Message, NodeId, Phase, ReplicationMessage,
    RosterLink, TxId, Verdict,
    wire::{DecisionOutcome, TxStatus},
};

use crate::{
    observe::{Seen, View, decision_in},
    sometimes::{Counts, Rare},
};

/// What was seen of one run.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    certified: BTreeSet<(usize, ManifestHash)>,
    undecided: BTreeSet<(usize, ManifestHash)>,
    /// Nodes that died with open proposals.
    open_at_death: BTreeSet<usize>,
    /// Commits on disk, until their decision is first sent.
    untold: BTreeMap<TxId, usize>,
    rosters: BTreeSet<u64>,
    seated: BTreeMap<u64, BTreeSet<NodeId>>,
    /// Values that are later versions.
    heads: BTreeSet<ManifestHash>,
    /// Heads that were carried, and since which epoch.
    carried: BTreeMap<ManifestHash, u64>,
    /// Nodes that died with acks of the epoch on disk.
    acked_at_death: BTreeSet<usize>,
}

impl Watch {
    /// Whether `node` has a certificate for a value.
    pub(crate) fn is_certified(&self, node: usize, value: &ManifestHash) -> bool {
        self.certified.contains(&(node, *value))
    }

    /// Looks at one thing that happened.
    pub(crate) fn see(&mut self, seen: &Seen<'_>, view: &View<'_>, counts: &mut Counts) {
        match seen {
            Seen::Crashed(node) => self.crashed(*node, view, counts),
            Seen::Sent { from, message, .. } => self.sent(*from, message, view, counts),
            Seen::Told { node, event: Event::Consensus(event) } => self.consensus(*node, event, counts),
            Seen::Told { event: Event::Replication(event), .. } => replication(event, view, counts),
            Seen::GroupsOnDisk { node, records } => self.on_disk(*node, records, counts),
            Seen::VotesOnDisk { node, records } => self.votes_on_disk(*node, records, view, counts),
            Seen::Delivered { .. } | Seen::Handled(_) | Seen::Healed | Seen::Deadline(_) => {}
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
        if self.untold.values().any(|coordinator| *coordinator == node) {
            counts.met(Rare::CrashBeforeFirstDecision);
            self.untold.retain(|_, coordinator| *coordinator != node);
        }
    }

    fn sent(&mut self, from: usize, message: &Message, view: &View<'_>, counts: &mut Counts) {
        if let Some(decision) = decision_in(message) {
            self.untold.remove(&decision.body.tx);
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
            Message::Replication(ReplicationMessage::Prepare(prepare)) if prepare.attempt > 1 => {
                counts.met(Rare::HigherAttempt);
            }
            Message::Replication(ReplicationMessage::DecisionAck { outcome: DecisionOutcome::Gone, .. }) => {
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

    fn consensus(&mut self, node: usize, event: &ConsensusEvent, counts: &mut Counts) {
        match event {
            ConsensusEvent::Progress { manifest_hash, tally, .. } => match tally.outcome {
                Outcome::Undecided => {
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
                if new && statement.verdict == Verdict::Reject {
                    counts.met(Rare::RejectCertificate);
                }
            }
            ConsensusEvent::Evidence { .. } => counts.met(Rare::Accused),
            ConsensusEvent::HeadBlocked { .. } => counts.met(Rare::HeadLocked),
            ConsensusEvent::RosterChanged { epoch } if *epoch >= 3 && self.rosters.insert(*epoch) => {
                counts.met(Rare::RosterOfFour);
            }
            _ => {}
        }
    }

    fn on_disk(&mut self, node: usize, records: &[Record], counts: &mut Counts) {
        for record in records {
            match record {
                Record::Decided(decided) => {
                    self.untold.insert(decided.tx, node);
                }
                Record::Commit { receipt, .. } if receipt.body.states.contains(ContentState::Decrypted) => {
                    counts.met(Rare::DecryptedHeld);
                }
                _ => {}
            }
        }
    }
}

fn replication(event: &ReplicationEvent, view: &View<'_>, counts: &mut Counts) {
    match event {
        ReplicationEvent::NotEnoughTargets { .. } => counts.met(Rare::NotEnoughTargets),
        ReplicationEvent::Durable { manifest, receipts } => {
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
