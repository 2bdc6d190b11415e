//! Model of the vote store: records in, [`Restored`] out, as the documents of the records say.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use mynet_proto::consensus::io::{OpenProposal, Record, Restored, RosterLock};
use mynet_types::{
    AckedHead, CarriedHead, Evidence, GroupId, NodeId, OwnerEvidence, OwnerKey, ProposalId, Roster, RosterLink,
    SignedOwnerStatement, Vote, VoteKey, VoteSecret,
};

use crate::disk::Store;

/// What one node's vote store holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct VoteStore {
    links: Vec<RosterLink>,
    keys: BTreeMap<u64, VoteSecret>,
    votes: Vec<Vote>,
    lock: Option<RosterLock>,
    proposals: BTreeMap<ProposalId, OpenProposal>,
    acked: BTreeMap<GroupId, AckedHead>,
    closed: Option<RosterLock>,
    carried: BTreeMap<GroupId, CarriedHead>,
    carried_next: BTreeMap<GroupId, CarriedHead>,
    reported: BTreeMap<([u8; 32], GroupId), AckedHead>,
    evidence: BTreeMap<(u64, u16), Evidence>,
    owner_evidence: BTreeMap<(OwnerKey, GroupId, u64), OwnerEvidence>,
    signed: Vec<(u64, SignedOwnerStatement)>,
    approved: BTreeSet<NodeId>,
    /// Epochs whose keys may have signed what this store does not know; the keys themselves are given to nobody.
    suspect: BTreeSet<u64>,
    /// Everything on disk is what was last written; false from a loss to the next start.
    complete: bool,
}

impl VoteStore {
    /// The store of a new node; a founder brings the vote key of epoch 0.
    pub(crate) fn new(founder_secret: Option<[u8; 32]>) -> Self {
        Self {
            keys: founder_secret.map(|secret| (0, VoteSecret(secret))).into_iter().collect(),
            complete: true,
            ..Self::default()
        }
    }

    /// The store is lost: a new one, or an `old` copy, stands in its place and is known to be incomplete.
    pub(crate) fn lose(&mut self, old: Option<Self>) {
        let mut old = old.unwrap_or_default();
        let suspect = std::mem::take(&mut old.keys).into_keys().collect();
        *self = Self { complete: false, suspect, ..old };
    }

    /// The store was opened: its boot counter and the file beside it agree from now on.
    pub(crate) fn opened(&mut self) {
        self.complete = true;
    }

    /// The newest epoch on disk.
    pub(crate) fn epoch(&self) -> u64 {
        self.links.last().map_or(0, |link| link.roster.epoch)
    }

    /// The links on disk.
    pub(crate) fn links(&self) -> &[RosterLink] {
        &self.links
    }

    /// The roster signed for the next epoch, if there is one.
    pub(crate) fn lock(&self) -> Option<&RosterLock> {
        self.lock.as_ref()
    }

    /// The evidence on disk.
    pub(crate) fn evidence(&self) -> impl Iterator<Item = &Evidence> {
        self.evidence.values()
    }

    /// Proposals without an end.
    pub(crate) fn open_proposals(&self) -> usize {
        self.proposals.len()
    }

    /// The highest version of a group that was acked here or is carried.
    pub(crate) fn newest_head(&self, group: &GroupId) -> Option<u64> {
        let acked = self.acked.get(group).map(|head| head.version);
        acked.max(self.carried.get(group).map(|head| head.version))
    }

    /// Whether the node has the key of a seat in `roster`, and knows all that it signed. A key that it made for that epoch when it
    /// had forgotten that it sits there is none.
    pub(crate) fn has_key_in(&self, roster: &Roster) -> bool {
        let secret = self.keys.get(&roster.epoch).filter(|_| !self.suspect.contains(&roster.epoch));
        let key = secret.map(|secret| VoteKey(SigningKey::from_bytes(&secret.0).verifying_key().to_bytes()));
        key.is_some_and(|key| roster.validators.iter().any(|seat| seat.vote_key == key))
    }

    /// Heads that are carried into the newest epoch, as far as they are here.
    pub(crate) fn carried(&self) -> usize {
        self.carried.len()
    }

    /// Whether a head was acked in the newest epoch.
    pub(crate) fn has_acked(&self) -> bool {
        !self.acked.is_empty()
    }

    /// What a restarted core begins from.
    pub(crate) fn restored(&self) -> Restored {
        let newest = self.epoch();
        Restored {
            links: self.links.clone(),
            keys: self.keys.clone(),
            votes: self.votes.iter().filter(|vote| vote.statement.epoch == newest).cloned().collect(),
            lock: self.lock.clone(),
            proposals: self.proposals.values().cloned().collect(),
            acked: self.acked.values().cloned().collect(),
            closed: self.closed.clone(),
            carried: self.carried.values().copied().collect(),
            carried_next: self.carried_next.values().copied().collect(),
            reported: self.reported.iter().map(|((root, _), head)| (*root, head.clone())).collect(),
            evidence: self.evidence.values().copied().collect(),
            owner_evidence: self.owner_evidence.values().copied().collect(),
            signed: self.signed.clone(),
            approved: self.approved.iter().copied().collect(),
            may_vote: self.complete && !self.suspect.contains(&newest),
        }
    }
}

impl Store for VoteStore {
    type Record = Record;

    fn apply(&mut self, record: &Record) -> Result<(), String> {
        match record {
            Record::Vote(vote) => self.votes.push(vote.clone()),
            Record::Key { epoch, secret } => {
                self.suspect.remove(epoch);
                self.keys.insert(*epoch, secret.clone());
            }
            Record::EraseKeys { through } => {
                self.keys.retain(|epoch, _| epoch > through);
                self.signed.retain(|(epoch, _)| epoch > through);
                self.suspect.retain(|epoch| epoch > through);
                self.acked.retain(|_, head| head.certificate.statement.epoch > *through);
                self.closed = self.closed.take().filter(|next| next.roster.epoch > through + 1);
            }
            Record::RosterLock(lock) => self.lock = Some(lock.clone()),
            Record::Link(link) => {
                let (have, next) = (self.epoch(), link.roster.epoch);
                if next != have + 1 {
                    return Err(format!("a link to epoch {next} was written after epoch {have}"));
                }
                self.lock = self.lock.take().filter(|lock| lock.roster.epoch > next);
                self.carried_next.clear();
                self.reported.clear();
                self.links.push(link.clone());
            }
            Record::Proposal(open) => {
                self.proposals.insert(open.proposal.body.id(), open.clone());
            }
            Record::Closed(id) => {
                self.proposals.remove(id);
            }
            Record::Evidence(evidence) => {
                self.evidence.entry((evidence.epoch(), evidence.seat)).or_insert(*evidence);
            }
            Record::OwnerEvidence(evidence) => {
                let about = (evidence.owner, evidence.group_id, evidence.version);
                self.owner_evidence.entry(about).or_insert(*evidence);
            }
            Record::OwnerSigned { epoch, signed } => self.signed.push((*epoch, *signed)),
            Record::Approval { node, given: true } => {
                self.approved.insert(*node);
            }
            Record::Approval { node, given: false } => {
                self.approved.remove(node);
            }
            Record::Acked(head) => {
                self.acked.insert(head.group_id, head.clone());
            }
            Record::EpochClosed(next) => self.closed = Some(next.clone()),
            Record::Carried(heads) => self.carried.extend(heads.iter().map(|head| (head.group_id, *head))),
            Record::CarriedNext(heads) => self.carried_next.extend(heads.iter().map(|head| (head.group_id, *head))),
            Record::Reported { root, heads } => {
                self.reported.extend(heads.iter().map(|head| ((*root, head.group_id), head.clone())));
            }
            Record::Unlinked { after } => {
                self.links.retain(|link| link.roster.epoch <= *after);
                self.keys.retain(|epoch, _| epoch <= after);
                self.signed.retain(|(epoch, _)| epoch <= after);
                self.votes.retain(|vote| vote.statement.epoch <= *after);
                self.evidence.retain(|(epoch, _), _| epoch <= after);
                self.acked.retain(|_, head| head.certificate.statement.epoch <= *after);
                (self.lock, self.closed) = (None, None);
                self.carried.clear();
                self.carried_next.clear();
                self.reported.clear();
            }
        }
        Ok(())
    }
}
