//! Rules of deletion: whose word counts, who hears of it and when, and that nothing brings a group back.

use std::time::Duration;

use mynet_types::{
    BoundedVec, Manifest, OwnerKey, ReplicationMessage, Roles, Signed, SignedTombstone, Timestamp, Tombstone,
    wire::{DecisionOutcome, RefuseReason},
};

use super::world::{EPOCH, Envelope, NETWORK, World, admission, is_commit, key, node, owner, publication};
use crate::replication::io::{Event, Input, Publication, Record};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

impl World {
    /// A group of the owner's that is uploaded here is deleted, as the node does: its receipts on disk name the holders.
    pub(super) fn delete(&mut self, number: u8, manifest: &Manifest) {
        let holders = self.host(number).disk.receipts.get(&manifest.hash());
        let holders = holders.into_iter().flat_map(|receipts| receipts.keys().copied()).collect();
        let tombstone = Box::new(self.tombstone(manifest));
        self.input(number, Input::Delete { tombstone, holders });
    }

    pub(super) fn tombstone(&self, manifest: &Manifest) -> SignedTombstone {
        let body = Tombstone { group_id: manifest.group_id, owner: manifest.owner, deleted_at: self.now.wall };
        SignedTombstone::new(&NETWORK, body, &owner())
    }
}

/// A group that is on every one of three nodes.
fn replicated() -> (World, Publication) {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    assert_eq!(world.holders(&publication.manifest.body.hash()), [1, 2, 3]);
    (world, publication)
}

fn visible(world: &World, publication: &Publication) -> Vec<u8> {
    let hash = publication.manifest.body.hash();
    (1..=3).filter(|number| world.hosts[&node(*number)].disk.visible.contains_key(&hash)).collect()
}

fn tell(world: &mut World, to: u8, tombstone: SignedTombstone) {
    let message = ReplicationMessage::Tombstones(BoundedVec::truncated([tombstone]));
    world.input(to, Input::Message { from: node(3), message });
}

fn confirmed(world: &mut World, number: u8) -> usize {
    let events = world.host(number).events.iter();
    events.filter(|event| matches!(event, Event::DeletionConfirmed { .. })).count()
}

#[test]
fn every_holder_hears_of_a_deletion_once_and_confirms_it() {
    let (mut world, publication) = replicated();
    world.delete(1, &publication.manifest.body);
    world.run(MINUTE);
    assert_eq!(visible(&world, &publication), []);
    assert_eq!(confirmed(&mut world, 1), 2);
    world.assert_clean();
    let told = world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Tombstones(_)));
    world.run(HOUR);
    assert_eq!(
        world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Tombstones(_))),
        told,
        "nobody is told again"
    );
}

#[test]
fn nobody_hears_of_a_deletion_that_is_not_on_disk() {
    let (mut world, publication) = replicated();
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Tombstone { .. })));
    world.delete(1, &publication.manifest.body);
    world.run(HOUR);
    assert_eq!(world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Tombstones(_))), 0);
    assert_eq!(visible(&world, &publication), [1, 2, 3]);
    world.restart(1);
    world.run(HOUR);
    assert_eq!(visible(&world, &publication), [1, 2, 3], "it was never deleted");
}

#[test]
fn a_holder_that_was_away_is_told_when_it_can_be_reached_also_after_a_restart_of_the_owner() {
    let (mut world, publication) = replicated();
    world.crash(3);
    world.delete(1, &publication.manifest.body);
    world.run(HOUR);
    assert_eq!(visible(&world, &publication), [3]);
    assert_eq!(confirmed(&mut world, 1), 1);
    world.restart(1);
    world.run(MINUTE);
    world.start(3);
    world.input(1, Input::PeerUp(node(3)));
    world.settle();
    assert_eq!(visible(&world, &publication), []);
    world.assert_clean();
    world.restart(1);
    let sent = world.sent.len();
    world.run(HOUR);
    assert_eq!(world.sent.len(), sent, "what was confirmed is on disk too");
}

#[test]
fn a_silent_holder_is_told_again_and_again_with_growing_pauses() {
    let (mut world, publication) = replicated();
    world.lose = Some(Box::new(|envelope| envelope.to == node(3)));
    world.delete(1, &publication.manifest.body);
    world.run(HOUR);
    let told = world
        .count_sent(|envelope| envelope.to == node(3) && matches!(envelope.message, ReplicationMessage::Tombstones(_)));
    assert!((60..=70).contains(&told), "2, 4, 8, 16, 32, 60, 60 .. s: {told}");
    world.lose = None;
    world.run(2 * MINUTE);
    world.assert_clean();
}

#[test]
fn a_node_that_is_not_admitted_any_more_is_told_when_it_is_again() {
    let (mut world, publication) = replicated();
    world.lose = Some(Box::new(|envelope| envelope.to == node(3)));
    world.delete(1, &publication.manifest.body);
    world.settle();
    world.lose = None;
    // Everybody's admission is over by now, so nobody is told anything.
    world.now.wall = Timestamp::MAX;
    world.run(HOUR);
    assert_eq!(visible(&world, &publication), [3]);
    world.now.wall = EPOCH;
    world.input(1, Input::Admitted(Box::new(admission(3, Roles::STORAGE, Timestamp::MAX))));
    world.settle();
    assert_eq!(visible(&world, &publication), []);
}

#[test]
fn only_the_owner_can_delete() {
    let (mut world, publication) = replicated();
    let thief = key(77);
    let body = world.tombstone(&publication.manifest.body).body;
    // Another owner's word about the same id is kept, and means nothing for this group.
    let own = Tombstone { owner: OwnerKey(thief.verifying_key().to_bytes()), ..body.clone() };
    tell(&mut world, 2, Signed::new(&NETWORK, own, &thief));
    // A forged one is not even kept.
    let signature = Signed::new(&NETWORK, world.tombstone(&publication.manifest.body).body, &owner()).signature;
    let body = Tombstone { deleted_at: Timestamp(7), ..body };
    tell(&mut world, 2, Signed { body, signature });
    world.run(MINUTE);
    assert_eq!(visible(&world, &publication), [1, 2, 3]);
    assert_eq!(world.host(2).disk.tombstones.len(), 1);
    assert!(!world.core(2).is_deleted(&publication.manifest.body));
    // And the group can still be brought here, and deleted by its owner.
    world.publish(1, publication.clone());
    world.run(MINUTE);
    world.delete(1, &publication.manifest.body);
    world.run(MINUTE);
    assert_eq!(visible(&world, &publication), []);
}

#[test]
fn an_open_transaction_ends_everywhere_whatever_it_has_come_to() {
    type Stop = fn(&mut World);
    let stops: [(&str, Stop); 5] = [
        ("before C1", |world| world.host(1).freeze_before = Some(Box::new(|r| matches!(r, Record::Begin(_))))),
        ("staging", |world| (2..=3).for_each(|number| world.host(number).hold_staging = true)),
        ("prepared", |world| world.lose = Some(Box::new(|e| matches!(e.message, ReplicationMessage::Prepared { .. })))),
        ("deciding", |world| world.host(1).freeze_before = Some(Box::new(|r| matches!(r, Record::Decided(_))))),
        ("decided", |world| world.lose = Some(Box::new(is_commit))),
    ];
    for (name, stop) in stops {
        let mut world = World::new(3);
        let publication = publication(1, (2, 3), &[]);
        stop(&mut world);
        world.publish(1, publication.clone());
        world.settle();
        world.delete(1, &publication.manifest.body);
        for number in 1..=3 {
            let host = world.host(number);
            (host.freeze_before, host.hold_staging) = (None, false);
        }
        world.lose = None;
        world.run(MINUTE);
        assert_eq!(visible(&world, &publication), [], "{name}");
        world.assert_clean();
        assert!(world.core(1).coordinated().is_empty(), "{name}");
    }
}

#[test]
fn a_commit_that_is_being_written_when_the_tombstone_comes_is_undone_and_not_acknowledged() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    world.host(2).freeze_before = Some(Box::new(|record| matches!(record, Record::Commit { .. })));
    world.publish(1, publication.clone());
    world.settle();
    world.delete(1, &publication.manifest.body);
    world.settle();
    world.host(2).freeze_before = None;
    world.settle();
    let acknowledged = |outcome: fn(&DecisionOutcome) -> bool| {
        world.count_sent(|envelope| {
            let ReplicationMessage::DecisionAck { outcome: sent, .. } = &envelope.message else { return false };
            envelope.from == node(2) && outcome(sent)
        })
    };
    assert_eq!(acknowledged(|outcome| matches!(outcome, DecisionOutcome::Committed(_))), 0);
    assert_eq!(acknowledged(|outcome| matches!(outcome, DecisionOutcome::Gone)), 1);
    assert_eq!(visible(&world, &publication), []);
    world.assert_clean();
}

#[test]
fn what_was_open_of_a_deleted_group_when_its_node_died_is_given_up_at_the_next_start() {
    for staged in [false, true] {
        let mut world = World::new(3);
        let publication = publication(1, (2, 3), &[]);
        // Prepared, or still pulling; the decision never comes, and of the deletion only the tombstone gets to disk.
        world.lose = Some(Box::new(|envelope| is_commit(envelope) && envelope.to == node(2)));
        world.host(2).hold_staging = !staged;
        world.publish(1, publication.clone());
        world.settle();
        world.host(2).freeze_before = Some(Box::new(|record| matches!(record, Record::Abort { .. })));
        let tombstone = world.tombstone(&publication.manifest.body);
        tell(&mut world, 2, tombstone);
        world.settle();
        assert_eq!(world.host(2).disk.intents.len(), 1, "the abort is not on disk");
        world.restart(2);
        world.settle();
        assert!(world.core(2).transactions().is_empty() && world.host(2).disk.intents.is_empty(), "{staged}");
        world.lose = None;
        world.run(HOUR);
        assert!(!visible(&world, &publication).contains(&2), "{staged}");
    }
}

#[test]
fn a_coordinator_that_does_not_know_is_refused_and_told() {
    let (mut world, publication) = replicated();
    let tombstone = world.tombstone(&publication.manifest.body);
    // The owner's node was put back to an older state: it coordinates again what its holders know to be deleted.
    for number in [2, 3] {
        tell(&mut world, number, tombstone.clone());
    }
    world.run(MINUTE);
    world.restart(1);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    let refused = |event: &Event| matches!(event, Event::Refused { reason: RefuseReason::Superseded, .. });
    assert!(world.host(1).events.iter().any(refused));
    assert_eq!(visible(&world, &publication), []);
    world.assert_clean();
}

#[test]
fn a_deleted_group_is_not_published_again_but_its_bytes_are_as_another_group() {
    let (mut world, first) = replicated();
    world.delete(1, &first.manifest.body);
    world.run(MINUTE);
    let sent = world.sent.len();
    world.input(1, Input::Publish(Box::new(first.clone())));
    world.run(MINUTE);
    assert_eq!(world.sent.len(), sent);
    assert!(world.core(1).coordinated().is_empty());
    // The same owner and the same bytes, uploaded anew: another seed, so another group.
    let mut body = first.manifest.body.clone();
    body.placement_seed = [9; 32];
    body.group_id = body.derive_group_id();
    let manifest = Signed::new(&NETWORK, body, &owner());
    let again = Publication { manifest, ..first.clone() };
    world.publish(1, again.clone());
    world.run(MINUTE);
    assert_eq!(visible(&world, &again), [1, 2, 3]);
    assert_eq!(visible(&world, &first), []);
}

#[test]
fn a_logged_commit_is_not_disowned_before_the_tombstone_is_on_disk() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    world.lose = Some(Box::new(is_commit));
    world.publish(1, publication.clone());
    world.settle();
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Tombstone { .. })));
    world.delete(1, &publication.manifest.body);
    // Both targets are in doubt and ask; the tombstone may never reach the disk, the commit has.
    world.run(6 * MINUTE);
    let answers =
        |envelope: &Envelope| envelope.from == node(1) && matches!(envelope.message, ReplicationMessage::Status { .. });
    assert_eq!(world.count_sent(answers), 0);
    world.lose = None;
    world.restart(1);
    world.run(MINUTE);
    assert_eq!(visible(&world, &publication), [1, 2, 3], "it was never deleted");
}
