//! When a coordinator goes on waiting for its targets, and when it takes others.

use std::time::Duration;

use mynet_types::{
    ContentState, ManifestHash, NodeId, ReplicationMessage, Roles, SignedReceipt, StatesMask, StorageReceipt,
    Timestamp, wire::RefuseReason,
};

use super::world::{
    Envelope, NETWORK, World, encrypted_and_preview, is_commit, is_durable, key, node, publication, wraps,
};
use crate::replication::io::{Input, Mode, Publication, Record, ReplicationStatus};

const MINUTE: Duration = Duration::from_secs(60);

/// Node 1 coordinates and stores nothing itself.
fn world(storage: usize) -> World {
    let mut roles = vec![Roles::INDEX];
    roles.resize(storage + 1, Roles::STORAGE);
    World::with_roles(&roles)
}

fn targets(world: &World, publication: &Publication) -> Vec<u8> {
    let plan = world.core(1).plan(publication, world.now.wall);
    let numbers = plan.targets.iter().map(|target| (1..=9).find(|number| node(*number) == target.node).unwrap());
    numbers.collect()
}

#[test]
fn a_target_that_receives_is_asked_again_well_before_its_lease_ends() {
    let mut world = world(2);
    world.host(2).hold_staging = true;
    world.publish(1, publication(1, (2, 2), &[]));
    world.run(world.config.receiving_lease - Duration::from_secs(1));
    let prepares = world.count_sent(|e| e.to == node(2) && matches!(e.message, ReplicationMessage::Prepare(_)));
    assert!(prepares > 1, "what renews the lease comes before it ends");
    world.run(10 * MINUTE);
    assert!(world.host(2).disk.aborted.is_empty(), "a staging that takes long keeps its lease");
}

#[test]
fn a_prepared_answer_that_is_lost_is_repeated_within_seconds() {
    let mut world = world(2);
    let first = publication(1, (2, 2), &[]);
    let hash = first.manifest.body.hash();
    world.lose = Some(Box::new(|e| e.from == node(2) && matches!(e.message, ReplicationMessage::Prepared { .. })));
    world.publish(1, first);
    world.settle();
    assert!(world.holders(&hash).is_empty());
    world.lose = None;
    world.run(world.config.prepare_timeout);
    assert_eq!(world.holders(&hash), [2, 3]);
    // While its coordinator waits for others, the pauses double.
    world.sent.clear();
    world.host(3).hold_staging = true;
    world.publish(1, publication(2, (2, 2), &[]));
    world.run(4 * MINUTE);
    let repeated = world.count_sent(|e| e.from == node(2) && matches!(e.message, ReplicationMessage::Prepared { .. }));
    assert!((2..=8).contains(&repeated), "{repeated} in four minutes");
}

#[test]
fn a_refusal_that_is_lost_is_asked_for_when_its_node_is_reached_again_and_soon_anyway() {
    let second_attempt = |e: &Envelope| matches!(&e.message, ReplicationMessage::Prepare(p) if p.attempt == 2);
    for reached in [true, false] {
        let mut world = world(2);
        world.host(2).refuse = Some(RefuseReason::Unavailable);
        world.lose = Some(Box::new(|e| matches!(e.message, ReplicationMessage::PrepareNo { .. })));
        world.publish(1, publication(1, (2, 2), &[]));
        world.settle();
        world.lose = None;
        if reached {
            world.input(1, Input::PeerUp(node(2)));
            world.run(world.config.retry);
        } else {
            world.run(2 * world.config.progress_interval);
        }
        assert!(world.count_sent(second_attempt) > 0, "reached again: {reached}");
    }
}

#[test]
fn a_transaction_goes_on_past_its_deadline_while_bytes_come_in_and_no_longer() {
    let mut world = world(2);
    world.host(2).hold_staging = true;
    world.host(3).hold_staging = true;
    let publication = publication(1, (2, 2), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.settle();
    let tx = world.core(1).transactions()[0].tx;
    let minute = |world: &mut World, bytes| {
        world.input(2, Input::Progress { tx, attempt: 1, bytes });
        world.run(MINUTE);
    };
    for bytes in 0..100 {
        minute(&mut world, 3 * bytes);
    }
    assert_eq!(world.core(1).transactions()[0].tx, tx, "a slow link brings it in the end");
    for _ in 0..31 {
        minute(&mut world, 297);
    }
    assert_ne!(world.core(1).transactions()[0].tx, tx, "who only says that it goes on is not waited for");
    world.host(2).hold_staging = false;
    world.host(3).hold_staging = false;
    world.run(10 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3]);
    world.assert_clean();
}

#[test]
fn a_target_that_is_prepared_for_less_than_is_wanted_after_a_restart_is_asked_again() {
    let mut world = world(3);
    let before = publication(1, (2, 3), &[]);
    let hash = before.manifest.body.hash();
    world.lose = Some(Box::new(|envelope| match &envelope.message {
        ReplicationMessage::Prepared { .. } => envelope.from == node(4),
        ReplicationMessage::Prepare(prepare) => envelope.to == node(4) && prepare.attempt > 1,
        _ => false,
    }));
    world.publish(1, before);
    world.run(MINUTE / 2);
    assert_eq!(world.holders(&hash), [2, 3]);
    world.publish(1, publication(1, (2, 3), &[4]));
    world.settle();
    world.lose = None;
    world.restart(1);
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [2, 3, 4]);
    let receipt = &world.host(4).disk.receipts[&hash][&node(4)];
    assert!(receipt.body.states.contains(ContentState::Decrypted), "it holds what it was granted meanwhile");
    world.assert_clean();
}

#[test]
fn the_next_node_by_placement_takes_the_place_of_a_full_target() {
    let mut world = world(4);
    let publication = publication(1, (2, 2), &[]);
    let hash = publication.manifest.body.hash();
    let [full, good] = targets(&world, &publication)[..] else { panic!("two targets") };
    let mut more = publication.clone();
    more.replicas = 3;
    let next = targets(&world, &more)[2];
    world.host(full).refuse = Some(RefuseReason::NoSpace);
    world.publish(1, publication);
    world.run(MINUTE);
    let mut expected = [good, next];
    expected.sort_unstable();
    assert_eq!(world.holders(&hash), expected);
    world.assert_clean();
}

#[test]
fn a_network_that_is_full_everywhere_goes_on_where_there_is_space() {
    let mut world = world(4);
    for number in 2..=5 {
        world.host(number).refuse = Some(RefuseReason::NoSpace);
    }
    let publication = publication(1, (2, 2), &[]);
    let hash = publication.manifest.body.hash();
    let first = targets(&world, &publication);
    world.publish(1, publication);
    world.run(10 * MINUTE);
    assert_eq!(world.holders(&hash), [] as [u8; 0]);
    for number in &first {
        world.host(*number).refuse = None;
    }
    world.run(3 * MINUTE);
    let mut expected = first;
    expected.sort_unstable();
    assert_eq!(world.holders(&hash), expected, "they are still asked");
    world.run(20 * MINUTE);
    world.assert_clean();
}

fn receipt(number: u8, manifest_hash: ManifestHash, states: StatesMask) -> (NodeId, SignedReceipt) {
    let body = StorageReceipt { manifest_hash, states, holder: node(number), until: Timestamp::MAX };
    (node(number), SignedReceipt::new(&NETWORK, body, &key(number)))
}

#[test]
fn receipts_of_parts_and_of_edges_count_neither_when_heard_of_nor_after_a_restart() {
    let mut world = World::with_roles(&[Roles::STORAGE, Roles::STORAGE, Roles::STORAGE, Roles::EDGE]);
    world.crash(3);
    let publication = publication(1, (2, 3), &[]);
    let (hash, group_id) = (publication.manifest.body.hash(), publication.manifest.body.group_id);
    world.publish(1, publication);
    world.run(MINUTE);
    let part = receipt(3, hash, StatesMask::EMPTY.with(ContentState::Encrypted));
    let edge = receipt(4, hash, encrypted_and_preview());
    let receipts = vec![part.1.clone(), edge.1.clone()].try_into().unwrap();
    let message = ReplicationMessage::Receipts { group_id, manifest_hash: hash, receipts };
    world.input(1, Input::Message { from: node(4), message });
    world.settle();
    assert_eq!(world.host(1).disk.receipts[&hash].len(), 2, "neither is kept");
    world.host(1).disk.receipts.get_mut(&hash).unwrap().extend([part, edge]);
    world.restart(1);
    world.run(MINUTE);
    let progress = world.core(1).progress(&group_id, world.now.wall).expect("a copy is still owed");
    assert_eq!((progress.status, progress.receipts.len()), (ReplicationStatus::Degraded, 2));
}

#[test]
fn publishing_again_and_dying_before_anybody_heard_of_it_still_reaches_the_holders() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    let (hash, group_id) = (publication.manifest.body.hash(), publication.manifest.body.group_id);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    world.assert_clean();
    let granted = wraps(&publication.manifest.body, &[9]);
    world.host(1).freeze_after = Some(Box::new(|record| matches!(record, Record::Begin(_))));
    world.publish(1, Publication { wraps: granted.clone(), ..publication });
    world.settle();
    world.restart(1);
    world.run(MINUTE);
    assert_eq!(world.host(1).disk.receipts[&hash].len(), 3, "the receipts of before are all there is to wait for");
    for number in [2, 3] {
        assert_eq!(world.host(number).disk.wraps.get(&group_id), Some(&granted), "node {number}");
        assert_eq!(world.host(number).stagings, 1, "and nothing is stored again");
    }
    world.assert_clean();
}

#[test]
fn wanting_fewer_copies_than_there_are_ends_the_group_at_once() {
    let mut world = World::new(3);
    world.crash(3);
    let publication = publication(1, (2, 3), &[]);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    assert_eq!(world.host(1).disk.publications.len(), 1, "a copy is owed");
    world.publish(1, Publication { replicas: 2, ..publication });
    world.settle();
    assert!(world.host(1).disk.publications.is_empty(), "and not wanted any more");
}

#[test]
fn a_quorum_that_is_there_already_is_told_when_it_becomes_enough() {
    let mut world = World::new(3);
    world.lose = Some(Box::new(|envelope| is_commit(envelope) && envelope.to == node(3)));
    let publication = Publication { mode: Mode::All, ..publication(1, (2, 3), &[]) };
    world.publish(1, publication.clone());
    world.run(MINUTE);
    assert!(!world.host(1).events.iter().any(is_durable), "one of all is missing");
    world.publish(1, Publication { mode: Mode::Quorum, ..publication });
    world.settle();
    assert!(world.host(1).events.iter().any(is_durable));
}

#[test]
fn what_the_validators_rejected_is_given_up_and_not_begun_again() {
    let prepares = |world: &World| world.count_sent(|e| matches!(e.message, ReplicationMessage::Prepare(_)));
    for prepared in [false, true] {
        let mut world = world(2);
        world.host(2).hold_staging = !prepared;
        world.host(3).hold_staging = true;
        let publication = publication(1, (2, 2), &[]);
        let hash = publication.manifest.body.hash();
        world.publish(1, publication.clone());
        world.settle();
        let before = prepares(&world);
        world.input(1, Input::Rejected(hash));
        world.settle();
        world.publish(1, publication);
        world.run(60 * MINUTE);
        assert_eq!(prepares(&world), before, "nobody is asked again");
        assert!(world.host(1).disk.publications.is_empty());
        for number in 1..=3 {
            assert!(world.core(number).transactions().is_empty(), "node {number} need not wait for a lease");
        }
        world.restart(1);
        world.run(60 * MINUTE);
        assert_eq!(prepares(&world), before);
        world.assert_clean();
    }
}

#[test]
fn a_coordination_of_what_a_certificate_on_disk_rejects_ends_at_the_start() {
    let mut world = world(2);
    world.host(3).hold_staging = true;
    let publication = publication(1, (2, 2), &[]);
    world.publish(1, publication.clone());
    world.settle();
    world.crash(1);
    world.sent.clear();
    world.host(1).disk.rejected = vec![publication.manifest.body.hash()];
    world.start(1);
    world.run(60 * MINUTE);
    assert_eq!(world.count_sent(|e| matches!(e.message, ReplicationMessage::Prepare(_))), 0);
    assert!(world.host(1).disk.publications.is_empty());
    world.assert_clean();
}

#[test]
fn a_logged_commit_of_what_is_rejected_goes_on() {
    let mut world = world(2);
    let publication = publication(1, (2, 2), &[]);
    let hash = publication.manifest.body.hash();
    world.lose = Some(Box::new(|e| e.to == node(3) && is_commit(e)));
    world.publish(1, publication);
    world.settle();
    assert_eq!(world.holders(&hash), [2]);
    world.input(1, Input::Rejected(hash));
    world.lose = None;
    world.run(10 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3], "whoever prepared hears the one outcome there is");
}

#[test]
fn whoever_asks_for_a_logged_commit_is_written_down_before_it_hears_of_it() {
    let mut world = world(4);
    let publication = publication(1, (1, 2), &[]);
    world.lose = Some(Box::new(|e| matches!(e.message, ReplicationMessage::DecisionAck { .. })));
    world.publish(1, publication.clone());
    world.settle();
    let (tx, chosen) = (world.core(1).transactions()[0].tx, targets(&world, &publication));
    let mut others = (2..=5).filter(|number| !chosen.contains(number));
    // One that may hold copies, as if it had been a target before a restart; and the coordinator's own kind, which may not.
    let (other, stranger) = (others.next().unwrap(), 9);
    let mut ask = |number: u8| {
        world.sent.clear();
        let message = ReplicationMessage::StatusQuery { tx };
        world.deliver(Envelope { from: node(number), to: node(1), message });
        world.settle();
        let decided = world.count_sent(|e| {
            e.to == node(number) && matches!(e.message, ReplicationMessage::Status { decision: Some(_), .. })
        });
        (decided > 0, world.host(1).disk.told.contains(&node(number)))
    };
    assert_eq!(ask(other), (false, true), "it is on disk first");
    assert_eq!(ask(other), (true, true));
    assert_eq!(ask(stranger), (false, false));
    assert_eq!(ask(stranger), (false, false));
}
