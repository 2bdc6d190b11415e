//! What a core says for the log of a group: every skip and refusal has its reason, and no line is missing from a good end.

use std::time::Duration;

use mynet_types::{GroupId, NodeId, ReplicationMessage, Roles, wire::RefuseReason};

use super::world::{World, node, publication};
use crate::{
    placement::Considered,
    reason::Reason,
    replication::{explain::TargetState, io::Mode},
};

const MINUTE: Duration = Duration::from_secs(60);

/// The reasons that a node noted about a group, with the node that each is about.
fn noted(world: &mut World, number: u8, group_id: GroupId) -> Vec<(Reason, Option<NodeId>)> {
    let notes = world.host(number).notes.iter();
    notes.filter(|note| note.group_id == group_id).map(|note| (note.reason, note.peer)).collect()
}

#[test]
fn every_step_of_a_good_replication_is_noted_by_both_sides() {
    let mut world = World::new(3);
    let publication = publication(1, (2, 3), &[]);
    let group_id = publication.manifest.body.group_id;
    world.publish(1, publication);
    world.run(MINUTE);
    let mine = noted(&mut world, 1, group_id);
    let about_two = mine.iter().filter(|(_, peer)| *peer == Some(node(2))).map(|(reason, _)| *reason);
    let steps = [
        Reason::TargetChosen,
        Reason::PrepareSent,
        Reason::PrepareAccepted,
        Reason::Prepared,
        Reason::CommitSent,
        Reason::ReceiptKept,
    ];
    assert_eq!(about_two.collect::<Vec<_>>(), steps);
    let alone: Vec<Reason> = mine.iter().filter(|(_, peer)| peer.is_none()).map(|(reason, _)| *reason).collect();
    assert_eq!(alone, [Reason::Published, Reason::CommitLogged, Reason::Durable, Reason::Replicated]);
    let theirs = [Reason::AskedToHold, Reason::PreparedHere, Reason::CommittedHere];
    assert_eq!(noted(&mut world, 2, group_id), theirs.map(|reason| (reason, Some(node(1)))));
}

#[test]
fn each_refusal_is_noted_with_its_reason_by_who_refuses_and_by_who_is_refused() {
    let reasons = [
        RefuseReason::NoSpace,
        RefuseReason::StateNotAllowed,
        RefuseReason::ManifestInvalid,
        RefuseReason::IdConflict,
        RefuseReason::Superseded,
        RefuseReason::Unavailable,
        RefuseReason::HashMismatch,
        RefuseReason::WrapInvalid,
        RefuseReason::Busy,
        RefuseReason::Storage,
        RefuseReason::HeadInvalid,
        RefuseReason::EpochUnknown,
    ];
    for reason in reasons {
        let mut world = World::new(3);
        world.host(3).refuse = Some(reason);
        let publication = publication(1, (2, 3), &[]);
        let group_id = publication.manifest.body.group_id;
        world.publish(1, publication);
        world.run(MINUTE);
        assert!(noted(&mut world, 1, group_id).contains(&(Reason::refused(reason), Some(node(3)))), "{reason:?}");
        assert!(noted(&mut world, 3, group_id).contains(&(Reason::declined(reason), Some(node(1)))), "{reason:?}");
        let copies = world.core(1).coordination(&group_id).unwrap();
        let owed = copies.targets.iter().find(|copy| copy.node == node(3)).unwrap();
        assert_eq!(owed.refusal, Some(Reason::refused(reason)));
        // What waiting does not change is not tried again, and nobody is told that it will be.
        assert_eq!(owed.state == TargetState::Refused, owed.next_try.is_none(), "{owed:?}");
        let held = copies.targets.iter().filter(|copy| copy.state == TargetState::Held && copy.next_try.is_none());
        assert_eq!((held.count(), copies.committed, copies.mode, copies.need), (2, true, Mode::Quorum, 2));
    }
}

#[test]
fn a_prepare_that_breaks_a_rule_is_noted_by_who_will_not_take_it() {
    let mut world = World::new(2);
    world.lose = Some(Box::new(|envelope| matches!(envelope.message, ReplicationMessage::Prepare(_))));
    let mut publication = publication(1, (2, 2), &[]);
    publication.sealed = vec![7; 9].try_into().unwrap();
    let group_id = publication.manifest.body.group_id;
    world.publish(1, publication);
    world.settle();
    world.lose = None;
    world.run(MINUTE);
    let refused = (Reason::RefusedManifestInvalid, Some(node(2)));
    assert!(noted(&mut world, 1, group_id).contains(&refused));
    assert!(noted(&mut world, 2, group_id).contains(&(Reason::DeclinedManifestInvalid, Some(node(1)))));
}

#[test]
fn leases_deadlines_and_missing_nodes_are_noted() {
    let mut world = World::with_roles(&[Roles::STORAGE, Roles::EDGE]);
    let one = publication(1, (2, 3), &[]);
    let group_id = one.manifest.body.group_id;
    world.publish(1, one.clone());
    world.run(MINUTE);
    assert!(noted(&mut world, 1, group_id).contains(&(Reason::TooFewNodes, None)));
    let considered = world.core(1).placement(&one.manifest.body, 3, world.now.wall);
    let [Considered { reason: Reason::Chosen, .. }, edge] = &considered[..] else { panic!("{considered:?}") };
    assert_eq!((edge.node, edge.rank, edge.reason), (node(2), None, Reason::IsEdge));

    let mut world = World::new(3);
    world.lose = Some(Box::new(|envelope| matches!(envelope.message, ReplicationMessage::Prepared { .. })));
    world.publish(1, one);
    world.run(60 * MINUTE);
    let mine = noted(&mut world, 1, group_id);
    assert!(mine.contains(&(Reason::TransactionGivenUp, None)), "{mine:?}");
    let theirs = noted(&mut world, 2, group_id);
    assert!(theirs.contains(&(Reason::AbortHeard, Some(node(1)))), "{theirs:?}");
    world.crash(1);
    world.run(60 * MINUTE);
    let theirs = noted(&mut world, 2, group_id);
    assert!(theirs.contains(&(Reason::LeaseEndedHere, Some(node(1)))), "{theirs:?}");
}
