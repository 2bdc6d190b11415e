//! Evidence against owners: who signed two manifests for one version of a group, and that everybody hears of it.
//!
//! ```text
//!  the manifest of a head: proposed, certified, asked for --+
//!                                                           +--> two of one version --> Persist(OwnerEvidence) --> Persisted
//!  what this node voted for, knows certified, proposes -----+      ^                          --> everybody who is up
//!                                                                  | OwnerEvidence from a peer
//! ```
//!
//! A validator keeps the owner's signature of each head that it accepts beside its vote, on disk and for as long as that. So
//! whoever proposes the second manifest of a version brings the two together, and is shown both with the answer `Locked`.
//!
//! 1. (C7) Only what verifies is kept: two signatures of the owner key. So nobody can accuse an owner but its own signatures.
//! 2. One record per owner, group and version; what is known costs no signature check, and the first bad record of a message
//!    ends it.
//! 3. It leaves after it is durable, once to everybody, and page by page to whoever shows by its digest to lack some.
//! 4. An owner key costs nothing, so the store is bounded, and what this node found itself has half of it for itself.
//!
//! **Deliberately absent:** any consequence. The version stays without a certificate while its two values hold votes, which is
//! what such an owner does to itself; it has no seat to lose, and its other groups are as good as before.
//!
//! Source: Blackshear et al., "Sui Lutris" (2023): an owner that equivocates locks its own object until the epoch ends.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
    time::Duration,
};

use mynet_types::{
    BoundedVec, ConsensusMessage, GroupId, Mono, NetworkId, NodeId, OwnerEvidence, OwnerKey, SignedOwnerStatement,
    codec, vote::head_slot, wire::EVIDENCE_PER_MESSAGE_MAX,
};

use super::{
    Consensus,
    io::{Event, Record},
    shared::Shared,
    step::{Step, Then},
};
use crate::reason::{Note, Reason};

/// Records kept, 1.1 MB of memory and somewhat more on disk. Half as many are filled by one member who makes up owners within
/// half the time; twice as many are no more use to whoever looks at them.
const KEPT_MAX: usize = 4096;
/// Records up to which peers are believed to be worth keeping what they tell. The rest is for what this node found itself, so
/// that nobody can fill the store with invented owners before a real one is found out.
const TOLD_MAX: usize = 2048;
/// Records of one owner. One is proof enough; more only say which of its groups are concerned.
const OF_OWNER_MAX: usize = 16;
/// Records given to a peer at a time: four messages of 4 KB.
const GIVEN_MAX: usize = 64;
/// A peer is given a page no more often than this, as evidence against seats.
const GIVE_PAUSE: Duration = Duration::from_secs(1);
/// A peer that was given everything and still lacks some has no room for it, or messages got lost; it is tried again after this.
const ROUND_PAUSE: Duration = Duration::from_secs(600);

/// Names a record.
type Key = (OwnerKey, GroupId, u64);

fn key_of(evidence: &OwnerEvidence) -> Key {
    (evidence.owner, evidence.group_id, evidence.version)
}

/// What a peer was given.
#[derive(Debug, Clone, Copy)]
struct Given {
    /// Nothing before this.
    not_before: Mono,
    /// The last record of the round that goes on.
    after: Option<Key>,
}

/// All evidence against owners that is kept here.
#[derive(Debug, Default)]
pub(super) struct Owners {
    records: BTreeMap<Key, OwnerEvidence>,
    digest: u64,
    given: BTreeMap<NodeId, Given>,
}

impl Owners {
    /// Takes up what was restored. What does not verify is left out: it can accuse nobody.
    pub(super) fn restored(records: impl IntoIterator<Item = OwnerEvidence>, network: &NetworkId) -> Self {
        let mut owners = Self::default();
        for evidence in records {
            if evidence.verify(network).is_ok() {
                owners.records.insert(key_of(&evidence), evidence);
            } else {
                tracing::warn!(group = %evidence.group_id.short(), "stored evidence does not verify, left out");
            }
        }
        owners.count();
        owners
    }

    /// All of it, by owner, group and version.
    pub(super) fn all(&self) -> impl Iterator<Item = &OwnerEvidence> {
        self.records.values()
    }

    /// The record about this version, if there is one.
    pub(super) fn about(&self, owner: &OwnerKey, group_id: &GroupId, version: u64) -> Option<&OwnerEvidence> {
        self.records.get(&(*owner, *group_id, version))
    }

    /// Tells apart what two nodes keep; zero for nothing. Whoever lies about it misses evidence itself.
    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether another record is kept that this node found itself, or was told.
    fn has_room(&self, evidence: &OwnerEvidence, told: bool) -> bool {
        let of_owner = self.records.range((evidence.owner, GroupId([0; 32]), 0)..);
        let of_owner = of_owner.take_while(|((owner, ..), _)| *owner == evidence.owner).take(OF_OWNER_MAX).count();
        self.records.len() < if told { TOLD_MAX } else { KEPT_MAX } && of_owner < OF_OWNER_MAX
    }

    fn note(&mut self, evidence: OwnerEvidence) {
        self.records.insert(key_of(&evidence), evidence);
        // Whoever was given everything lacks this one.
        self.given.clear();
        self.count();
    }

    fn count(&mut self) {
        let keys: Vec<&Key> = self.records.keys().collect();
        let bytes = codec::digest(&keys).into_iter().take(8);
        self.digest = if keys.is_empty() { 0 } else { bytes.fold(0, |digest, byte| digest << 8 | u64::from(byte)) };
    }

    /// The next page for a peer, if it is time.
    fn page(&mut self, to: NodeId, now: Mono) -> Vec<OwnerEvidence> {
        let given = self.given.get(&to).copied().unwrap_or(Given { not_before: now, after: None });
        if now < given.not_before {
            return Vec::new();
        }
        let from = given.after.map_or(Unbounded, Excluded);
        let page: Vec<OwnerEvidence> =
            self.records.range((from, Unbounded)).take(GIVEN_MAX).map(|(_, evidence)| *evidence).collect();
        let (pause, after) = match page.last() {
            Some(last) if page.len() == GIVEN_MAX => (GIVE_PAUSE, Some(key_of(last))),
            _ => (ROUND_PAUSE, None),
        };
        self.given.insert(to, Given { not_before: now.after(pause), after });
        page
    }
}

/// Gives evidence against owners to a member whose digest differs.
pub(super) fn give(shared: &mut Shared, step: &mut Step<'_>, to: NodeId) {
    if !shared.is_member(&to, step.now.wall) {
        return;
    }
    for part in shared.owners.page(to, step.now.mono).chunks(EVIDENCE_PER_MESSAGE_MAX) {
        step.tell(to, ConsensusMessage::OwnerEvidence(BoundedVec::truncated(part.iter().copied())));
    }
}

impl Consensus {
    /// The manifest of a head came by: is it the second one of its version? Whoever asked about it and is `asker` is shown both
    /// signatures, also if they are known here.
    pub(super) fn look_for_rival(&mut self, step: &mut Step<'_>, signed: &SignedOwnerStatement, asker: Option<NodeId>) {
        let about = (signed.body.group_id, signed.body.version);
        let voted = self.validator.signed_of(&head_slot(&about.0, about.1)).copied();
        let certified = self.decided.signed_of(&about).copied();
        let proposed = self.proposer.signed_of(&about);
        let known: Vec<SignedOwnerStatement> = voted.into_iter().chain(certified).chain(proposed).collect();
        let Some(evidence) = known.iter().find_map(|known| OwnerEvidence::of(signed, known)) else { return };
        let kept = self.shared.owners.about(&evidence.owner, &about.0, about.1).copied();
        match (kept, asker) {
            (Some(kept), Some(asker)) if asker != self.shared.me => {
                step.tell(asker, ConsensusMessage::OwnerEvidence(BoundedVec::truncated([kept])));
            }
            (Some(_), _) => {}
            (None, _) => {
                self.learn_of_owner(step, evidence, false);
            }
        }
    }

    /// A peer gives evidence against owners.
    pub(super) fn on_owner_evidence(&mut self, step: &mut Step<'_>, from: NodeId, records: &[OwnerEvidence]) {
        if !self.shared.is_member(&from, step.now.wall) {
            return;
        }
        for evidence in records {
            if !self.learn_of_owner(step, *evidence, true) {
                tracing::debug!(%from, "evidence against an owner does not verify");
                return;
            }
        }
    }

    /// Takes evidence unless it is known or there is no room; `false` if it does not verify.
    fn learn_of_owner(&mut self, step: &mut Step<'_>, evidence: OwnerEvidence, told: bool) -> bool {
        let (owner, group_id, version) = key_of(&evidence);
        if self.shared.owners.about(&owner, &group_id, version).is_some() {
            return true;
        }
        if !self.shared.owners.has_room(&evidence, told) {
            tracing::debug!(group = %group_id.short(), version, "no room for more evidence against owners");
            return true;
        }
        if evidence.verify(&self.shared.network).is_err() {
            return false;
        }
        self.shared.owners.note(evidence);
        step.persist(Record::OwnerEvidence(evidence));
        step.then(Then::ExposeOwner(evidence));
        step.note(Note::about(group_id, Reason::OwnerContradicts).value(version));
        step.event(Event::OwnerEvidence(Box::new(evidence)));
        true
    }

    /// Evidence against an owner is durable: everybody hears of it.
    pub(super) fn expose_owner(&self, step: &mut Step<'_>, evidence: OwnerEvidence) {
        for peer in &self.shared.up {
            step.tell(*peer, ConsensusMessage::OwnerEvidence(BoundedVec::truncated([evidence])));
        }
    }
}
