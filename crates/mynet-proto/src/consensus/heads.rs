//! The heads of this node as a validator: what it acked in this epoch, and what was carried into it.
//!
//! 1. (C6) Of a group that is carried, nothing is signed for the carried version but the carried value, nothing at all for
//!    versions before it, and the version after it only on top of it.
//! 2. Nothing is signed about heads before the whole close set of the epoch is known here.
//! 3. Nothing is signed about heads of an epoch that this node closed.
//! 4. What is acked is written with the ack. Acks that were never final are dropped with their epoch; what a quorum of
//!    reports named comes back as carried.

use std::collections::BTreeMap;

use mynet_types::{
    AckedHead, BoundedVec, CarriedHead, GroupId, Manifest, ManifestHash, Roster,
    head::{CARRIED_PER_PAGE_MAX, HeadSet, set_root},
};

use super::{
    io::{Record, RosterLock},
    step::Step,
};

/// Why nothing is signed about a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// The close set of this epoch is not known yet.
    Unknown,
    /// This node closed the epoch.
    Closed,
    /// Another value was carried, or a later version.
    Carried,
}

/// What binds this node's votes on heads.
#[derive(Debug, Default)]
pub(super) struct Heads {
    /// Of each group the highest version that this node acked in the newest epoch, durable or about to be.
    acked: BTreeMap<GroupId, AckedHead>,
    /// What earlier epochs carried into the newest.
    carried: HeadSet,
    /// Whether `carried` is the close set of the newest epoch.
    complete: bool,
    /// The roster that comes next, once this node closed the epoch for it.
    closed: Option<RosterLock>,
}

impl Heads {
    /// Goes on with what was restored, in the epoch of `newest`.
    pub(super) fn new(
        acked: Vec<AckedHead>,
        closed: Option<RosterLock>,
        carried: Vec<CarriedHead>,
        newest: &Roster,
    ) -> Self {
        let of_epoch = acked.into_iter().filter(|head| head.certificate.statement.epoch == newest.epoch);
        let closed = closed.filter(|next| next.roster.prev == newest.hash());
        let mut heads = Self { closed, ..Self::default() };
        for head in of_epoch {
            heads.note_acked(head);
        }
        heads.carried = carried.into_iter().map(|head| (head.group_id, head)).collect();
        heads.check_complete(newest);
        heads
    }

    /// Whether this node may sign that `manifest` is a head.
    pub(super) fn may_vote(&self, manifest: &Manifest) -> Result<(), Forbidden> {
        self.may_ack((&manifest.group_id, manifest.version), &manifest.hash())?;
        let carried = self.carried.get(&manifest.group_id);
        let next_to = carried.filter(|head| head.version.checked_add(1) == Some(manifest.version));
        let follows = next_to.is_none_or(|head| manifest.prev == Some(head.value));
        if follows { Ok(()) } else { Err(Forbidden::Carried) }
    }

    /// Whether this node may sign about `value` as this version of a group.
    pub(super) fn may_ack(&self, (group, version): (&GroupId, u64), value: &ManifestHash) -> Result<(), Forbidden> {
        if self.closed.is_some() {
            return Err(Forbidden::Closed);
        }
        if !self.complete {
            return Err(Forbidden::Unknown);
        }
        match self.carried.get(group) {
            Some(head) if version < head.version || (version == head.version && *value != head.value) => {
                Err(Forbidden::Carried)
            }
            _ => Ok(()),
        }
    }

    /// Notes a head that is being acked. `false`: it was noted before, or a later version of its group.
    pub(super) fn note_acked(&mut self, head: AckedHead) -> bool {
        let news = self.acked.get(&head.group_id).is_none_or(|known| known.version < head.version);
        if news {
            self.acked.insert(head.group_id, head);
        }
        news
    }

    /// What this node acked in this epoch.
    pub(super) fn acked(&self) -> &BTreeMap<GroupId, AckedHead> {
        &self.acked
    }

    /// The close set of the newest epoch, if all of it is here.
    pub(super) fn carried(&self) -> Option<&HeadSet> {
        self.complete.then_some(&self.carried)
    }

    /// The next roster for which this node closed the epoch.
    pub(super) fn closed(&self) -> Option<&RosterLock> {
        self.closed.as_ref()
    }

    /// Closes the epoch, or notes a newer try of the same.
    pub(super) fn close(&mut self, next: RosterLock) {
        self.closed = Some(next);
    }

    /// The epoch of `newest` begins: what was acked and closed is over. `carries` is the close set that this node made out
    /// of reports; without it, what is here is enough only if nothing new was carried.
    pub(super) fn enter(&mut self, step: &mut Step<'_>, newest: &Roster, carries: Option<HeadSet>) {
        self.acked.clear();
        self.closed = None;
        match carries {
            Some(set) => self.complete_with(step, newest, set),
            None => self.check_complete(newest),
        }
    }

    /// Takes the close set of `newest`, if that is what it is, and writes what is new in it.
    pub(super) fn complete_with(&mut self, step: &mut Step<'_>, newest: &Roster, set: HeadSet) {
        if !is_set_of(newest, &set) {
            return;
        }
        let news = set.values().filter(|head| self.carried.get(&head.group_id) != Some(head));
        let news: Vec<CarriedHead> = news.copied().collect();
        for page in news.chunks(CARRIED_PER_PAGE_MAX) {
            step.persist(Record::Carried(BoundedVec::truncated(page.iter().copied())));
        }
        (self.carried, self.complete) = (set, true);
    }

    /// The epochs that carried these turned out to be others: the set of the newest is asked for again.
    pub(super) fn forget_carried(&mut self) {
        (self.carried, self.complete) = (HeadSet::new(), false);
    }

    fn check_complete(&mut self, newest: &Roster) {
        self.complete = is_set_of(newest, &self.carried);
    }
}

/// Whether `set` is the close set that `roster` names.
pub(super) fn is_set_of(roster: &Roster, set: &HeadSet) -> bool {
    usize::try_from(roster.close_count) == Ok(set.len()) && set_root(set.values()) == roster.close_set_root
}
