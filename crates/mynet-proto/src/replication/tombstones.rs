//! Deleted groups: what this node knows of them, and whom it still owes the news.
//!
//! ```text
//! Delete, or news of a peer ──► withdraw both roles ──D1──► gone here ──► told to every holder ──► confirmed ──D2
//!                                                                  ▲            │
//!                                                                  └── pause ◄──┘  silent: again, without end
//! ```
//!
//! A tombstone is the owner's last word about a group: terminal, needs no vote, and beats every version seen or unseen. It counts
//! against manifests of the owner that it names only. As a group id is the hash of a manifest that names its owner, nobody
//! can bury a group of somebody else; a node that has not seen the group keeps the tombstone under both names.
//!
//! **Invariants**
//! 1. Nobody is told of a deletion, and none is confirmed, before its tombstone is on disk.
//! 2. Every holder and target that this node knew is told until it confirms.
//! 3. A prepare of a deleted group is refused, and a publication of one ignored. What [`Known`] has forgotten the store still
//!    knows, and refuses while staging.
//!
//! Deliberately absent: forgetting. A tombstone is a few hundred bytes, and a holder that was away for years would bring back
//! what nobody remembers to be deleted.
//!
//! Source: DeCandia et al., "Dynamo" (2007), and Apache Cassandra's tombstones, whose fixed lifetime is known to bring deleted
//! rows back; confirmation by every holder instead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mynet_types::{
    BoundedVec, GroupId, Manifest, NodeId, OwnerKey, ReplicationMessage, SignedTombstone, Tombstone, wire,
};

use super::{
    io::{Event, Record, Timer},
    lease,
    step::{Pending, Step},
};

/// Tombstones kept in memory at most, some 20 MiB. Doubling it doubles that; with fewer more prepares of deleted groups are
/// refused only while staging.
pub(super) const REMEMBERED_MAX: usize = 65_536;

/// What a tombstone is about: a group id, and the only owner whose group it can be.
type Name = (GroupId, OwnerKey);

fn name(tombstone: &Tombstone) -> Name {
    (tombstone.group_id, tombstone.owner)
}

/// The newest tombstones that this node knows.
#[derive(Debug)]
pub(super) struct Known {
    by_name: BTreeMap<Name, Entry>,
    oldest_first: VecDeque<Name>,
    complete: bool,
}

#[derive(Debug)]
struct Entry {
    tombstone: SignedTombstone,
    on_disk: bool,
}

impl Known {
    /// Begins with those on disk, oldest first.
    pub(super) fn new(on_disk: Vec<SignedTombstone>) -> Self {
        let complete = on_disk.len() < REMEMBERED_MAX;
        let mut known = Self { by_name: BTreeMap::new(), oldest_first: VecDeque::new(), complete };
        for tombstone in on_disk {
            known.insert(tombstone, true);
        }
        known
    }

    /// The tombstone of the group of a manifest.
    pub(super) fn of(&self, manifest: &Manifest) -> Option<&SignedTombstone> {
        self.by_name.get(&(manifest.group_id, manifest.owner)).map(|entry| &entry.tombstone)
    }

    /// Whether this tombstone is known.
    pub(super) fn knows(&self, tombstone: &Tombstone) -> bool {
        self.by_name.contains_key(&name(tombstone))
    }

    /// Whether this tombstone is on disk.
    pub(super) fn has_on_disk(&self, tombstone: &Tombstone) -> bool {
        self.is_on_disk(&name(tombstone)) == Some(true)
    }

    /// Whether nothing was forgotten, so that a group without a tombstone here has none on disk either.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    fn insert(&mut self, tombstone: SignedTombstone, on_disk: bool) {
        let name = name(&tombstone.body);
        if self.by_name.insert(name, Entry { tombstone, on_disk }).is_none() {
            self.oldest_first.push_back(name);
        }
        if self.by_name.len() > REMEMBERED_MAX
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.by_name.remove(&oldest);
            self.complete = false;
        }
    }

    fn is_on_disk(&self, name: &Name) -> Option<bool> {
        self.by_name.get(name).map(|entry| entry.on_disk)
    }

    fn written(&mut self, name: &Name) {
        if let Some(entry) = self.by_name.get_mut(name) {
            entry.on_disk = true;
        }
    }
}

/// A tombstone on its way to disk.
#[derive(Debug, Clone)]
pub(super) struct Burial {
    pub(super) tombstone: SignedTombstone,
    /// Who is to be told.
    pub(super) holders: BTreeSet<NodeId>,
}

/// Nodes that have not confirmed yet.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    owed: BTreeMap<NodeId, Owed>,
}

/// What one node has not confirmed.
#[derive(Debug, Default)]
struct Owed {
    tombstones: BTreeMap<GroupId, SignedTombstone>,
    tries: u32,
    generation: u32,
}

impl Tombstones {
    /// Begins with the deletions that not everybody had confirmed.
    pub(super) fn new(deletions: Vec<(SignedTombstone, Vec<NodeId>)>) -> Self {
        let mut tombstones = Self::default();
        for (tombstone, silent) in deletions {
            for node in silent {
                tombstones.owe(node, &tombstone);
            }
        }
        tombstones
    }

    fn owe(&mut self, node: NodeId, tombstone: &SignedTombstone) {
        let owed = self.owed.entry(node).or_default();
        owed.tombstones.insert(tombstone.body.group_id, tombstone.clone());
        owed.tries = 0;
    }

    /// The node starts: everybody who is silent is told again.
    pub(super) fn start(&mut self, step: &mut Step<'_>) {
        for node in self.owed.keys().copied().collect::<Vec<_>>() {
            self.tell(node, step);
        }
    }

    /// Of tombstones that a peer told, those that are new here and that their owners signed. What is on disk already is
    /// confirmed at once.
    pub(super) fn news(&self, from: NodeId, tombstones: wire::Tombstones, step: &mut Step<'_>) -> Vec<SignedTombstone> {
        let (mut fresh, mut kept) = (Vec::new(), Vec::new());
        for tombstone in tombstones.into_vec() {
            match step.shared.deleted.is_on_disk(&name(&tombstone.body)) {
                Some(true) => kept.push(tombstone.body.group_id),
                // On its way to disk; whoever told it again will ask again.
                Some(false) => {}
                None if tombstone.verify(&step.shared.network).is_ok() => fresh.push(tombstone),
                None => tracing::debug!(from = %from.short(), "a tombstone that its owner did not sign"),
            }
        }
        confirm(from, kept, step);
        fresh
    }

    /// Writes tombstones; what they are about was withdrawn from both roles. `from` told of them.
    pub(super) fn bury(&mut self, from: Option<NodeId>, burials: Vec<Burial>, step: &mut Step<'_>) {
        let mut records = Vec::new();
        for Burial { tombstone, holders } in &burials {
            step.shared.deleted.insert(tombstone.clone(), false);
            let (tombstone, holders) = (tombstone.clone(), holders.iter().copied().collect());
            records.push(Record::Tombstone { tombstone, from, holders });
        }
        if !records.is_empty() {
            step.persist(records, Pending::Buried(from, burials));
        }
    }

    /// D1 is on disk: the groups are gone here, whoever told is answered, and the holders are told.
    pub(super) fn buried(&mut self, from: Option<NodeId>, burials: &[Burial], step: &mut Step<'_>) {
        let mut told = BTreeSet::new();
        for Burial { tombstone, holders } in burials {
            step.shared.deleted.written(&name(&tombstone.body));
            step.event(Event::Deleted { group_id: tombstone.body.group_id, owner: tombstone.body.owner });
            for holder in holders {
                self.owe(*holder, tombstone);
                told.insert(*holder);
            }
        }
        if let Some(from) = from {
            confirm(from, burials.iter().map(|burial| burial.tombstone.body.group_id).collect(), step);
        }
        for holder in told {
            self.tell(holder, step);
        }
    }

    /// A node has these tombstones on disk.
    pub(super) fn kept(&mut self, node: NodeId, groups: &[GroupId], step: &mut Step<'_>) {
        let Some(owed) = self.owed.get_mut(&node) else { return };
        let confirmed: Vec<GroupId> =
            groups.iter().copied().filter(|group| owed.tombstones.remove(group).is_some()).collect();
        if confirmed.is_empty() {
            return;
        }
        let records = confirmed.iter().map(|group_id| Record::Confirmed { group_id: *group_id, node }).collect();
        owed.tries = 0;
        if owed.tombstones.is_empty() {
            self.owed.remove(&node);
        } else {
            self.tell(node, step);
        }
        step.persist(records, Pending::Confirmed(node, confirmed));
    }

    /// A silent node is due for another try.
    pub(super) fn timer(&mut self, node: NodeId, generation: u32, step: &mut Step<'_>) {
        if let Some(owed) = self.owed.get_mut(&node).filter(|owed| owed.generation == generation) {
            owed.tries = owed.tries.saturating_add(1);
            self.tell(node, step);
        }
    }

    /// A node can be reached, or is admitted again: what it has not confirmed is told at once.
    pub(super) fn reached(&mut self, node: NodeId, step: &mut Step<'_>) {
        if let Some(owed) = self.owed.get_mut(&node) {
            owed.tries = 0;
            self.tell(node, step);
        }
    }

    /// Tells a node what it has not confirmed, as much as one message takes, and sets when to try again. Whoever is not
    /// admitted any more is told when it is again.
    fn tell(&mut self, node: NodeId, step: &mut Step<'_>) {
        if !step.shared.is_admitted(&node, step.now.wall) {
            return;
        }
        let Some(owed) = self.owed.get_mut(&node) else { return };
        owed.generation = owed.generation.wrapping_add(1);
        let config = &step.shared.config;
        let pause = lease::backoff(config.retry, owed.tries, config.retry_max);
        step.set_timer(Timer::Tombstones { node, generation: owed.generation }, pause);
        let tombstones = BoundedVec::truncated(owed.tombstones.values().cloned());
        step.send(node, ReplicationMessage::Tombstones(tombstones));
    }
}

/// Tells `to` that these tombstones are on disk here.
fn confirm(to: NodeId, groups: Vec<GroupId>, step: &mut Step<'_>) {
    if !groups.is_empty() {
        step.send(to, ReplicationMessage::TombstonesKept { groups: BoundedVec::truncated(groups) });
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mynet_types::{GroupId, NetworkId, OwnerKey, Signed, Timestamp, Tombstone};

    use super::{Known, REMEMBERED_MAX, name};

    #[test]
    fn the_oldest_is_forgotten_first_and_that_something_was_is_known() {
        let key = SigningKey::from_bytes(&[1; 32]);
        let owner = OwnerKey(key.verifying_key().to_bytes());
        let body = Tombstone { group_id: GroupId([0; 32]), owner, deleted_at: Timestamp(0) };
        // Signatures are checked where tombstones come in, so one will do for all.
        let signed = Signed::new(&NetworkId([0; 32]), body, &key);
        let numbered = |number: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&(number as u64).to_be_bytes());
            let body = Tombstone { group_id: GroupId(id), ..signed.body.clone() };
            Signed { body, signature: signed.signature }
        };
        let mut known = Known::new((1..REMEMBERED_MAX).map(numbered).collect());
        assert!(known.is_complete());
        known.insert(numbered(REMEMBERED_MAX), false);
        known.insert(numbered(REMEMBERED_MAX), false);
        assert!(known.is_complete() && known.is_on_disk(&name(&numbered(1).body)).is_some());
        known.insert(numbered(REMEMBERED_MAX + 1), false);
        assert!(!known.is_complete());
        assert!(known.is_on_disk(&name(&numbered(1).body)).is_none());
        assert!(known.is_on_disk(&name(&numbered(2).body)).is_some());
        assert!(!Known::new((0..REMEMBERED_MAX).map(numbered).collect()).is_complete());
    }
}
