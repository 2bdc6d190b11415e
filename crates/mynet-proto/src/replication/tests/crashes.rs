//! One test per row of the crash table in `docs/protocol/replication.md`.
//!
//! Node 1 coordinates and stores nothing itself; nodes 2, 3 and 4 are its targets, two of which make the group durable.

use std::time::Duration;

use mynet_types::{ManifestHash, ReplicationMessage, Roles, wire::DecisionOutcome};

use super::world::{World, is_commit, is_durable, node, publication};
use crate::replication::io::Record;

const MINUTE: Duration = Duration::from_secs(60);

fn world() -> World {
    World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE])
}

fn publish(world: &mut World) -> ManifestHash {
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    hash
}

fn assert_replicated(world: &mut World, hash: &ManifestHash) {
    world.run(30 * MINUTE);
    assert_eq!(world.holders(hash), [2, 3, 4]);
    assert!(world.host(1).events.iter().any(is_durable));
    world.assert_clean();
}

#[test]
fn coordinator_crash_before_c2_is_an_abort_by_inquiry() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Decided(_))));
    world.run(MINUTE);
    let old = world.core(2).transactions()[0].tx;
    world.restart(1);
    world.run(6 * MINUTE);
    assert!(!world.host(2).disk.committed.contains_key(&old), "the old transaction is presumed aborted");
    assert!(world.host(2).disk.aborted.contains_key(&old), "half the lease later the participant asked");
    assert_replicated(&mut world, &hash);
}

#[test]
fn coordinator_gone_before_c2_is_an_abort_by_lease() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Decided(_))));
    world.run(MINUTE);
    world.crash(1);
    world.run(11 * MINUTE);
    for number in [2, 3, 4] {
        assert!(world.host(number).disk.intents.is_empty(), "node {number} is free again");
    }
    world.start(1);
    assert_replicated(&mut world, &hash);
}

#[test]
fn coordinator_crash_after_c2_before_any_decision_leaves_resends_to_all() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(1).freeze_after = Some(Box::new(|record| matches!(record, Record::Decided(_))));
    world.run(MINUTE);
    assert_eq!(world.count_sent(is_commit), 0);
    let tx = world.core(2).transactions()[0].tx;
    world.restart(1);
    world.settle();
    assert!(world.holders(&hash).len() >= 2, "the logged commit went forward at once");
    assert!(world.host(2).disk.committed.contains_key(&tx) || world.host(3).disk.committed.contains_key(&tx));
    assert_replicated(&mut world, &hash);
}

#[test]
fn coordinator_crash_between_decisions_resends_to_the_rest() {
    let mut world = world();
    let hash = publish(&mut world);
    world.lose = Some(Box::new(|envelope| is_commit(envelope) && envelope.to != node(2)));
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [2]);
    assert!(!world.host(1).events.iter().any(is_durable), "one of two receipts is no success");
    world.lose = None;
    world.restart(1);
    assert_replicated(&mut world, &hash);
}

#[test]
fn coordinator_crash_after_w_receipts_before_c3_finishes_without_a_second_copy_of_anything() {
    let mut world = world();
    let hash = publish(&mut world);
    world.crash(4);
    world.run(MINUTE);
    assert!(world.host(1).events.iter().any(is_durable));
    world.restart(1);
    world.start(4);
    assert_replicated(&mut world, &hash);
    assert_eq!((world.host(2).stagings, world.host(3).stagings), (1, 1));
}

#[test]
fn coordinator_crash_with_c3_unwritten_asks_nobody_to_store_again() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::End(_))));
    world.run(MINUTE);
    let prepares = world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Prepare(_)));
    world.restart(1);
    assert_replicated(&mut world, &hash);
    assert_eq!(world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Prepare(_))), prepares);
}

#[test]
fn participant_crash_before_t1_is_prepared_again() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(4).freeze_before = Some(Box::new(|record| matches!(record, Record::Intent(_))));
    world.settle();
    world.restart(4);
    assert!(world.host(4).disk.intents.is_empty());
    assert_replicated(&mut world, &hash);
}

#[test]
fn participant_crash_between_t1_and_t3_resumes_staging() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(4).hold_staging = true;
    world.settle();
    assert_eq!(world.host(4).disk.intents.len(), 1);
    world.restart(4);
    assert_eq!(world.host(4).stagings, 2, "staging goes on without a word from the coordinator");
    assert_replicated(&mut world, &hash);
}

#[test]
fn participant_crash_after_t3_with_no_answer_sent_resends_prepared() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(4).freeze_after = Some(Box::new(|record| matches!(record, Record::Prepared { .. })));
    world.settle();
    let prepared = |world: &World| {
        world.count_sent(|e| e.from == node(4) && matches!(e.message, ReplicationMessage::Prepared { .. }))
    };
    assert_eq!(prepared(&world), 0);
    world.restart(4);
    assert_eq!(prepared(&world), 1);
    world.settle();
    assert_eq!(world.host(4).stagings, 1, "what is staged is not staged again");
    assert_replicated(&mut world, &hash);
}

#[test]
fn participant_with_a_lost_decision_asks_its_coordinator() {
    let mut world = world();
    let hash = publish(&mut world);
    // Every commit to node 4 is lost for good; only the answer to its own question reaches it.
    world.lose = Some(Box::new(|envelope| is_commit(envelope) && envelope.to == node(4)));
    world.run(4 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3]);
    world.run(2 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3, 4]);
    world.assert_clean();
}

#[test]
fn participant_with_a_lost_decision_hears_it_from_another_target() {
    let mut world = world();
    let hash = publish(&mut world);
    world.lose = Some(Box::new(|envelope| is_commit(envelope) && envelope.to == node(4)));
    world.settle();
    world.crash(1);
    world.run(7 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3, 4], "the relayed decision is obeyed while the coordinator is gone");
}

#[test]
fn participant_with_a_lost_decision_and_nobody_to_ask_is_freed_by_its_lease() {
    let mut world = world();
    let hash = publish(&mut world);
    world.lose = Some(Box::new(|envelope| {
        let first = matches!(&envelope.message, ReplicationMessage::Prepare(prepare) if prepare.attempt == 1);
        envelope.to == node(4) && !first
    }));
    world.run(9 * MINUTE);
    assert_eq!(world.host(4).disk.intents.len(), 1);
    world.run(2 * MINUTE);
    assert!(world.host(4).disk.intents.is_empty(), "no lock outlives its lease");
    world.lose = None;
    assert_replicated(&mut world, &hash);
}

#[test]
fn participant_crash_inside_t4_is_all_or_nothing() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(4).freeze_before = Some(Box::new(|record| matches!(record, Record::Commit { .. })));
    world.settle();
    world.restart(4);
    assert!(!world.host(4).disk.visible.contains_key(&hash), "nothing of it is visible");
    assert_replicated(&mut world, &hash);
}

#[test]
fn participant_crash_after_t4_with_its_ack_lost_answers_committed_again() {
    let mut world = world();
    let hash = publish(&mut world);
    world.host(4).freeze_after = Some(Box::new(|record| matches!(record, Record::Commit { .. })));
    world.settle();
    world.restart(4);
    assert!(world.host(4).disk.visible.contains_key(&hash));
    assert_replicated(&mut world, &hash);
    let acks = world.count_sent(|e| {
        e.from == node(4)
            && matches!(&e.message, ReplicationMessage::DecisionAck { outcome: DecisionOutcome::Committed(_), .. })
    });
    assert_eq!((world.host(4).stagings, acks), (1, 1));
}
