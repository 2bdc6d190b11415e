//! What the core says for the log of a group about votes.

use mynet_types::{BoundedVec, Claim, GroupId, NodeId};

use super::kit::{Net, id};
use crate::{
    consensus::{Seat, io::Config},
    reason::Reason,
};

/// The reasons that a node noted about a group, with the node that each is about.
fn noted(net: &Net, index: usize, group_id: GroupId) -> Vec<(Reason, Option<NodeId>)> {
    let notes = net.nodes[index].notes.iter();
    notes.filter(|note| note.group_id == group_id).map(|note| (note.reason, note.peer)).collect()
}

#[test]
fn votes_are_noted_by_who_asks_and_by_who_votes_and_seats_tell_who_is_missing() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let (group_id, value) = (manifest.body.group_id, manifest.body.hash());
    net.crash(3);
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[0, 1], &manifest));
    net.run(5);
    let mine = noted(&net, 0, group_id);
    for expected in [
        (Reason::Proposed, None),
        (Reason::VoteAccept, Some(id(0))),
        (Reason::VoteAccept, Some(id(1))),
        (Reason::VotedAccept, Some(id(0))),
        (Reason::Certified, None),
    ] {
        assert!(mine.contains(&expected), "{expected:?} is not in {mine:?}");
    }
    let theirs = noted(&net, 1, group_id);
    assert_eq!(theirs, [(Reason::VotedAccept, Some(id(0))), (Reason::Certified, None)]);
    let seats = net.nodes[0].core.seats(&value);
    assert_eq!(seats.len(), 4);
    for Seat { node, said } in seats {
        assert_eq!(said, (node != id(3)).then_some(Reason::VoteAccept), "{node}");
    }
}

#[test]
fn abstentions_and_a_wait_that_ends_are_noted_with_their_reasons() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let (group_id, value) = (manifest.body.group_id, manifest.body.hash());
    net.propose(0, &manifest, Claim::Durable, BoundedVec::new());
    net.run(40);
    let mine = noted(&net, 0, group_id);
    assert!(mine.contains(&(Reason::AbstainedUnavailable, Some(id(1)))), "{mine:?}");
    assert!(mine.contains(&(Reason::Undecided, None)), "{mine:?}");
    assert!(noted(&net, 1, group_id).contains(&(Reason::WithheldUnavailable, Some(id(0)))));
    let silent = net.nodes[0].core.seats(&value).into_iter().filter(|seat| seat.said.is_none()).count();
    assert_eq!(silent, 0, "all said why");
}

#[test]
fn a_no_is_noted_with_its_reason_and_a_roster_that_is_too_small_too() {
    let mut net = Net::grown(4, 4);
    let bad = net.manifest(|manifest| manifest.quorum = 0);
    let group_id = bad.body.group_id;
    net.propose(0, &bad, Claim::Seen, BoundedVec::new());
    net.run(5);
    let mine = noted(&net, 0, group_id);
    let said_no = mine.iter().filter(|(reason, _)| *reason == Reason::VoteRejectManifestInvalid).count();
    assert_eq!(said_no, 3, "{mine:?}");
    assert!(mine.contains(&(Reason::Rejected, None)), "{mine:?}");
    assert!(noted(&net, 1, group_id).contains(&(Reason::VotedRejectManifestInvalid, Some(id(0)))));
    let mut alone = Net::new(1, Config::default(), false);
    let manifest = alone.manifest(|_| ());
    alone.propose(0, &manifest, Claim::Seen, BoundedVec::new());
    alone.run(5);
    assert!(noted(&alone, 0, manifest.body.group_id).contains(&(Reason::NotEnoughValidators, None)));
}
