//! Rules of the coordinator, seen from outside.

use std::time::Duration;

use mynet_types::{
    ContentState, DecryptedClass, Mono, Now, ReplicationMessage, Roles, SignedAdmission, SignedManifest, StatesMask,
    Timestamp,
    wire::{DecisionOutcome, RefuseReason},
};

use super::world::{
    EPOCH, NETWORK, World, admission, encrypted_and_preview, is_commit, is_durable, key, manifest, node, owner,
    publication, wraps,
};
use crate::replication::{
    Replication,
    io::{Config, Event, Input, Mode, Record, ReplicationStatus, Restored},
};

const MINUTE: Duration = Duration::from_secs(60);

fn status_of(world: &mut World, number: u8) -> Vec<ReplicationStatus> {
    let statuses = world.host(number).events.iter().filter_map(|event| match event {
        Event::Progress { status, .. } => Some(*status),
        _ => None,
    });
    statuses.collect()
}

#[test]
fn a_group_is_durable_with_w_receipts_and_replicated_with_r() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [1, 2, 3]);
    assert_eq!(
        status_of(&mut world, 1),
        [
            ReplicationStatus::Replicating,
            ReplicationStatus::Replicating,
            ReplicationStatus::Degraded,
            ReplicationStatus::Replicated
        ]
    );
    assert_eq!(world.host(1).events.iter().filter(|event| is_durable(event)).count(), 1);
    for number in [2, 3] {
        assert_eq!(world.host(number).disk.receipts[&hash].len(), 3, "node {number} knows every holder");
    }
    world.assert_clean();
}

#[test]
fn no_commit_leaves_before_it_is_on_disk() {
    let mut world = World::new(3);
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Decided(_))));
    world.publish(1, publication(1, (2, 3), &[]));
    world.run(2 * MINUTE);
    assert_eq!(world.count_sent(is_commit), 0);
    world.host(1).freeze_before = None;
    world.settle();
    assert_eq!(world.count_sent(is_commit), 2);
}

#[test]
fn a_deadline_while_the_commit_is_being_written_aborts_nothing() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE]);
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Decided(_))));
    let publication = publication(1, (2, 2), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(MINUTE);
    let tx = world.core(1).transactions()[0].tx;
    world.run(19 * MINUTE);
    assert_eq!(world.core(1).transactions()[0].tx, tx, "the transaction stays");
    let decisions = world.count_sent(|envelope| matches!(envelope.message, ReplicationMessage::Decision(_)));
    assert_eq!(decisions, 0, "neither commit nor abort may be said");
    world.host(1).freeze_before = None;
    world.settle();
    assert_eq!(world.holders(&hash), [2, 3]);
    world.assert_clean();
}

#[test]
fn a_dead_target_aborts_nothing_and_is_owed_its_copy() {
    let mut world = World::new(3);
    world.crash(3);
    let publication = publication(1, (2, 3), &[]);
    let (hash, group_id) = (publication.manifest.body.hash(), publication.manifest.body.group_id);
    world.publish(1, publication);
    world.run(60 * MINUTE);
    assert_eq!(world.holders(&hash), [1, 2]);
    assert_eq!(world.core(1).progress(&group_id, world.now.wall).unwrap().status, ReplicationStatus::Degraded);
    world.start(3);
    world.input(1, Input::PeerUp(node(3)));
    world.settle();
    assert_eq!(world.holders(&hash), [1, 2, 3], "the obligation is met as soon as the node is back");
    world.assert_clean();
}

#[test]
fn mode_all_waits_for_every_receipt() {
    let mut world = World::new(3);
    world.crash(3);
    let mut publication = publication(1, (2, 3), &[]);
    publication.mode = Mode::All;
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(10 * MINUTE);
    assert_eq!(world.holders(&hash), [] as [u8; 0], "one of three is missing, so nothing is visible");
    world.start(3);
    world.run(10 * MINUTE);
    assert_eq!(world.holders(&hash), [1, 2, 3]);
    world.assert_clean();
}

#[test]
fn too_few_nodes_leave_a_group_pending_until_one_is_admitted() {
    let mut world = World::with_roles(&[Roles::STORAGE, Roles::EDGE]);
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication.clone());
    world.run(60 * MINUTE);
    let told = |world: &mut World| {
        let events = world.host(1).events.iter();
        events.filter(|event| matches!(event, Event::NotEnoughTargets { eligible: 1, need: 2, .. })).count()
    };
    assert_eq!(told(&mut world), 1, "said once, not once per try");
    world.publish(1, publication);
    world.run(MINUTE);
    assert_eq!(told(&mut world), 2, "whoever publishes again is told again");
    world.restart(1);
    world.run(MINUTE);
    assert_eq!(told(&mut world), 3, "a pending group survives a restart");
    world.input(1, Input::Admitted(Box::new(admission(2, Roles::STORAGE, Timestamp::MAX))));
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [1, 2]);
    assert!(world.host(1).events.iter().any(is_durable));
}

#[test]
fn fewer_than_r_nodes_are_enough_for_w_and_the_rest_follows_when_admitted() {
    let mut world = World::with_roles(&[Roles::STORAGE, Roles::STORAGE, Roles::EDGE]);
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [1, 2]);
    world.input(1, Input::Admitted(Box::new(admission(3, Roles::STORAGE, Timestamp::MAX))));
    world.run(MINUTE);
    assert_eq!(world.holders(&hash), [1, 2, 3]);
    world.assert_clean();
}

/// How many nodes may hold a group at `wall`, by the view of a node that heard of `admissions` in this order.
fn eligible(admissions: &[&SignedAdmission], wall: Timestamp) -> usize {
    let mut core = Replication::new(Config::default(), key(1), NETWORK, Restored::default());
    for admission in admissions {
        let input = Input::Admitted(Box::new((*admission).clone()));
        core.handle(Now { mono: Mono(0), wall }, input, &mut Vec::new());
    }
    core.plan(&publication(1, (2, 2), &[]), wall).eligible
}

#[test]
fn an_expired_admission_is_no_target() {
    let until = EPOCH.after(MINUTE);
    let admission = admission(2, Roles::STORAGE, until);
    assert_eq!(eligible(&[&admission], Timestamp(until.0 - 1)), 1);
    assert_eq!(eligible(&[&admission], until), 0);
}

#[test]
fn of_two_admissions_of_one_node_the_one_that_lasts_longer_counts() {
    let longer = admission(2, Roles::STORAGE, EPOCH.after(2 * MINUTE));
    let mut shorter = admission(2, Roles::EDGE, EPOCH.after(MINUTE));
    shorter.body.admitted_at = EPOCH.after(MINUTE / 2);
    for heard in [[&longer, &shorter], [&shorter, &longer]] {
        assert_eq!(eligible(&heard, EPOCH), 1, "whenever they were made, and in whichever order they came");
    }
}

#[test]
fn a_late_commit_is_answered_gone_and_the_next_attempt_succeeds() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE]);
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    // Node 4 hears nothing after its prepare, and tells nobody that its lease ended.
    world.lose = Some(Box::new(|envelope| {
        let prepare = matches!(&envelope.message, ReplicationMessage::Prepare(prepare) if prepare.attempt == 1);
        let gone = matches!(&envelope.message, ReplicationMessage::DecisionAck { outcome: DecisionOutcome::Gone, .. });
        (envelope.to == node(4) && !prepare) || (envelope.from == node(4) && gone)
    }));
    world.run(11 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3]);
    assert_eq!(world.host(4).disk.aborted.len(), 1);
    world.lose = None;
    world.run(2 * MINUTE);
    let gone = |envelope: &super::world::Envelope| {
        matches!(&envelope.message, ReplicationMessage::DecisionAck { outcome: DecisionOutcome::Gone, .. })
    };
    assert_eq!(world.count_sent(gone), 2, "once at the end of the lease, once for the late commit");
    assert_eq!(world.holders(&hash), [2, 3, 4]);
    assert_eq!(world.host(4).disk.committed.values().next().unwrap().0, 2, "by the second attempt");
    world.assert_clean();
}

#[test]
fn a_deadline_without_a_logged_commit_aborts_and_a_new_transaction_follows() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE]);
    world.crash(3);
    world.crash(4);
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(MINUTE);
    let first = world.core(1).transactions()[0].tx;
    world.run(15 * MINUTE);
    assert_ne!(world.core(1).transactions()[0].tx, first);
    assert!(world.host(2).disk.aborted.contains_key(&first));
    assert_eq!(world.count_sent(is_commit), 0);
    world.start(3);
    world.start(4);
    world.run(5 * MINUTE);
    assert_eq!(world.holders(&hash), [2, 3, 4]);
    world.assert_clean();
}

#[test]
fn a_prepared_target_keeps_its_lease_while_the_coordinator_waits_for_others() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE]);
    world.crash(3);
    world.crash(4);
    world.publish(1, publication(1, (2, 3), &[]));
    world.run(14 * MINUTE);
    assert_eq!(world.host(2).disk.aborted.len(), 0, "half-lease questions renewed the ten minutes");
    world.start(3);
    world.run(MINUTE);
    assert!(world.host(1).events.iter().any(is_durable));
}

#[test]
fn an_untrusted_target_is_never_asked_for_the_decrypted_state() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[2]);
    let hash = publication.manifest.body.hash();
    world.publish(1, publication);
    world.run(MINUTE);
    for envelope in &world.sent {
        if let ReplicationMessage::Prepare(prepare) = &envelope.message {
            assert_eq!(prepare.states.contains(ContentState::Decrypted), envelope.to == node(2));
        }
    }
    let receipts = &world.host(1).disk.receipts[&hash];
    assert!(receipts[&node(2)].body.states.contains(ContentState::Decrypted));
    assert_eq!(receipts[&node(3)].body.states, encrypted_and_preview());
}

#[test]
fn a_class_of_none_gives_nobody_the_decrypted_state() {
    let sealed = [1; 50];
    let manifest = manifest(1, DecryptedClass::None, (2, 3), &sealed);
    let mut publication = publication(1, (2, 3), &[]);
    publication.wraps = wraps(&manifest.body, &[2, 3]);
    publication.manifest = manifest;
    let hash = publication.manifest.body.hash();
    let mut world = World::new(3);
    world.publish(1, publication);
    world.run(MINUTE);
    let states: Vec<StatesMask> =
        world.host(1).disk.receipts[&hash].values().map(|receipt| receipt.body.states).collect();
    assert_eq!(states, [encrypted_and_preview(); 3]);
}

#[test]
fn a_refusal_is_tried_again_unless_waiting_cannot_help() {
    for (reason, again) in [(RefuseReason::NoSpace, true), (RefuseReason::Superseded, false)] {
        let mut world = World::new(3);
        world.host(3).refuse = Some(reason);
        let publication = publication(1, (2, 3), &[]);
        let hash = publication.manifest.body.hash();
        world.publish(1, publication);
        world.run(10 * MINUTE);
        assert_eq!(world.holders(&hash), [1, 2]);
        let refused = world.host(1).events.iter().filter(|event| matches!(event, Event::Refused { .. })).count();
        assert_eq!(refused > 1, again, "{reason:?} was refused {refused} times");
        assert!(refused < 20, "pauses grow");
        world.host(3).refuse = None;
        if !again {
            world.input(1, Input::Admitted(Box::new(admission(3, Roles::STORAGE, Timestamp::MAX))));
        }
        world.run(2 * MINUTE);
        assert_eq!(world.holders(&hash), [1, 2, 3], "{reason:?}");
        world.assert_clean();
    }
}

#[test]
fn receipts_of_strangers_and_for_other_manifests_do_not_count() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE, Roles::STORAGE]);
    let (one, other) = (publication(1, (2, 3), &[]), publication(2, (2, 3), &[]));
    let (hash, group_id) = (one.manifest.body.hash(), one.manifest.body.group_id);
    world.publish(1, other.clone());
    world.run(MINUTE);
    let foreign = world.host(1).disk.receipts[&other.manifest.body.hash()][&node(2)].clone();
    let mut forged = foreign.clone();
    forged.body.manifest_hash = hash;
    world.lose = Some(Box::new(|envelope| matches!(envelope.message, ReplicationMessage::DecisionAck { .. })));
    world.publish(1, one);
    world.settle();
    let tx = world.core(1).transactions()[0].tx;
    for (from, receipt) in [(2, foreign), (2, forged.clone()), (3, forged)] {
        let outcome = DecisionOutcome::Committed(receipt);
        let message = ReplicationMessage::DecisionAck { tx, attempt: 1, outcome };
        world.input(1, Input::Message { from: node(from), message });
    }
    world.settle();
    assert_eq!(world.core(1).progress(&group_id, world.now.wall).unwrap().receipts.len(), 0);
}

#[test]
fn new_wraps_reach_holders_and_those_that_hold_it_later() {
    let mut world = World::new(3);
    world.crash(3);
    let publication = publication(1, (2, 3), &[]);
    let group_id = publication.manifest.body.group_id;
    let granted = wraps(&publication.manifest.body, &[9]);
    world.publish(1, publication);
    world.run(MINUTE);
    world.input(1, Input::Wraps { group_id, wraps: granted.clone() });
    world.settle();
    assert_eq!(world.host(2).disk.wraps[&group_id], granted);
    world.start(3);
    world.run(2 * MINUTE);
    assert_eq!(world.host(3).disk.wraps[&group_id], granted);
    world.assert_clean();
}

#[test]
fn publishing_a_finished_group_again_moves_no_bytes() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    world.publish(1, publication);
    world.run(MINUTE);
    assert_eq!((world.host(2).stagings, world.host(3).stagings), (1, 1));
    assert_eq!(world.host(1).events.iter().filter(|event| is_durable(event)).count(), 2);
    world.assert_clean();
}

#[test]
fn a_plan_names_targets_batches_and_what_is_there_already() {
    let mut world = World::new(4);
    let publication = publication(1, (2, 3), &[2]);
    let plan = world.core(1).plan(&publication, world.now.wall);
    assert!(plan.is_feasible());
    assert_eq!((plan.copies, plan.need, plan.eligible, plan.targets.len()), (3, 2, 4, 3));
    for target in &plan.targets {
        let here = target.node == node(1);
        assert_eq!(target.bytes(), if here { 0 } else { 400 });
        let states: Vec<ContentState> = target.batches.iter().map(|batch| batch.state).collect();
        let mut expected = vec![ContentState::Encrypted, ContentState::Preview];
        if target.node == node(2) {
            expected.push(ContentState::Decrypted);
        }
        assert_eq!(states, expected, "the decrypted view comes last and costs no bytes");
    }
    let before = plan.bytes();
    world.crash(4);
    world.publish(1, publication.clone());
    world.run(MINUTE);
    let text = plan.to_string();
    assert!(text.lines().count() == 4 && text.contains("3 copies wanted, 2 needed"), "{text}");
    let names: Vec<_> = plan.targets.iter().map(|target| target.node).collect();
    if names.contains(&node(4)) {
        assert!(world.core(1).plan(&publication, world.now.wall).bytes() < before, "receipts are taken off");
    }
}

#[test]
fn a_manifest_that_no_node_would_take_is_not_published() {
    let mut world = World::with_roles(&[Roles::INDEX, Roles::STORAGE, Roles::STORAGE]);
    let first = publication(1, (2, 2), &[]);
    let mut second = first.clone();
    second.manifest = {
        let mut body = first.manifest.body.clone();
        (body.version, body.prev) = (2, Some(first.manifest.body.hash()));
        SignedManifest::new(&NETWORK, body, &owner())
    };
    world.host(2).hold_staging = true;
    world.publish(1, first.clone());
    world.settle();
    world.publish(1, second.clone());
    world.run(MINUTE);
    assert!(world.host(2).disk.aborted.is_empty(), "the open transaction is not touched");
    world.host(2).hold_staging = false;
    world.run(MINUTE);
    assert_eq!(world.holders(&first.manifest.body.hash()), [2, 3]);
    assert_eq!(world.holders(&second.manifest.body.hash()), [] as [u8; 0]);
    world.assert_clean();
}
