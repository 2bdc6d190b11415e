//! What accuses an owner, and what does not.

use mynet_types::{
    AbstainReason, BoundedVec, CertificateFile, Claim, ConsensusMessage, GroupId, ManifestHash, OwnerEvidence,
    OwnerKey, OwnerStatement, Phase, RejectReason, Signed, SignedManifest, SignedOwnerStatement, Verdict,
    VoteStatement, wire::Receipts,
};

use super::kit::{Net, id, key, owner_key};
use crate::{
    consensus::io::{Event, Outcome},
    reason::Reason,
};

/// A network of four, a certified first version, and two manifests that its owner signed as the second.
fn rivals() -> (Net, CertificateFile, [SignedManifest; 2]) {
    let mut net = Net::grown(4, 4);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let (one, other) = (net.head(&first, |_| ()), net.head(&first, |manifest| manifest.replicas += 1));
    net.clear();
    (net, before, [one, other])
}

fn kept(net: &Net, index: usize) -> Vec<OwnerEvidence> {
    net.nodes[index].core.owner_evidence().copied().collect()
}

fn proof(one: &SignedManifest, other: &SignedManifest) -> OwnerEvidence {
    OwnerEvidence::of(&one.statement(), &other.statement()).unwrap()
}

fn told(net: &Net, index: usize) -> usize {
    net.nodes[index].events.iter().filter(|event| matches!(event, Event::OwnerEvidence(_))).count()
}

fn is_evidence(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::OwnerEvidence(_))
}

/// Evidence as a peer gives it.
fn message(records: impl IntoIterator<Item = OwnerEvidence>) -> ConsensusMessage {
    ConsensusMessage::OwnerEvidence(BoundedVec::truncated(records))
}

/// Two values of a version that an invented owner signed.
fn invented(net: &Net, number: u16, version: u64) -> OwnerEvidence {
    let mut seed = [77; 32];
    seed[..2].copy_from_slice(&number.to_be_bytes());
    let owner = ed25519_dalek::SigningKey::from_bytes(&seed);
    let said = |value: u8| -> SignedOwnerStatement {
        let (group_id, manifest_hash) = (GroupId([9; 32]), ManifestHash([value; 32]));
        let body =
            OwnerStatement { group_id, version, manifest_hash, owner: OwnerKey(owner.verifying_key().to_bytes()) };
        Signed::new(&net.genesis.network_id(), body, &owner)
    };
    OwnerEvidence::of(&said(1), &said(2)).unwrap()
}

#[test]
fn whoever_votes_for_one_value_and_sees_the_other_proves_it_to_everybody() {
    let (mut net, before, [one, other]) = rivals();
    net.propose_head(0, &one, &before);
    net.settle();
    assert!((0..4).all(|index| kept(&net, index).is_empty()), "one value is what an honest owner signs");
    net.crash(1);
    net.propose_head(3, &other, &before);
    net.settle();
    net.restart(1);
    net.run(5);
    for index in 0..4 {
        assert_eq!(kept(&net, index), [proof(&one, &other)], "node {index}");
        assert_eq!(net.nodes[index].disk.restored.owner_evidence.len(), 1, "node {index}");
        assert_eq!(told(&net, index), 1, "node {index}");
        let noted = net.nodes[index].notes.iter().filter(|note| note.reason == Reason::OwnerContradicts);
        let noted: Vec<_> = noted.map(|note| (note.group_id, note.value)).collect();
        assert_eq!(noted, [(one.body.group_id, Some(2))], "node {index}");
        // It costs nobody a seat, and the value that was first is certified.
        assert_eq!(net.nodes[index].core.evidence().count(), 0);
    }
    assert_eq!(net.outcome(0, &one.body.hash()), Some(Outcome::Approved));
    net.run(60);
    assert_eq!(net.nodes[0].core.roster().epoch, 3);
    // What is on disk is known after a restart.
    net.filter = Box::new(|_, _, message| !is_evidence(message));
    net.crash(2);
    net.restart(2);
    assert_eq!(kept(&net, 2), [proof(&one, &other)]);
}

#[test]
fn the_signature_of_the_first_value_outlives_a_restart_of_whoever_voted_for_it() {
    let (mut net, before, [one, other]) = rivals();
    // Only node 2 hears of the first value, and nobody else ever does.
    net.filter = Box::new(|from, to, message| {
        !matches!(message, ConsensusMessage::Propose { .. }) || (from, to) == (id(0), id(2)) || from == id(3)
    });
    net.propose_head(0, &one, &before);
    net.settle();
    net.crash(0);
    net.crash(2);
    net.restart(2);
    net.settle();
    net.propose_head(3, &other, &before);
    net.settle();
    for index in 1..4 {
        assert_eq!(kept(&net, index), [proof(&one, &other)], "node {index}");
    }
}

#[test]
fn a_second_value_is_found_when_the_first_is_certified_already() {
    let (mut net, before, [one, other]) = rivals();
    // Node 3 hears the certificate alone.
    net.filter = Box::new(|_, to, message| to != id(3) || matches!(message, ConsensusMessage::Certified(_)));
    net.propose_head(0, &one, &before);
    net.settle();
    assert_eq!(net.outcome(3, &one.body.hash()), Some(Outcome::Approved));
    net.filter = Box::new(|_, _, _| true);
    net.propose_head(3, &other, &before);
    net.settle();
    assert_eq!(kept(&net, 3), [proof(&one, &other)]);
    assert_eq!(kept(&net, 0), kept(&net, 3));
}

#[test]
fn a_certificate_proves_it_to_whoever_has_the_other_value_under_way() {
    let (mut net, before, [one, other]) = rivals();
    net.propose_head(0, &one, &before);
    net.settle();
    let file = net.certificate_of(0, &one);
    let (mut net, before, _) = rivals();
    net.filter = Box::new(|_, _, _| false);
    net.propose_head(3, &other, &before);
    net.settle();
    net.inject(0, 3, ConsensusMessage::Certified(Box::new(file)));
    net.settle();
    assert_eq!(kept(&net, 3), [proof(&one, &other)]);
}

#[test]
fn it_is_durable_before_it_is_passed_on() {
    let (mut net, _, [one, other]) = rivals();
    net.disks_stall = true;
    net.inject(3, 0, message([proof(&one, &other)]));
    assert!(!net.sent.iter().any(|(.., message)| is_evidence(message)));
    net.disks_stall = false;
    net.settle();
    assert!(net.sent.iter().any(|(.., message)| is_evidence(message)));
}

#[test]
fn whoever_asks_for_a_vote_on_the_second_value_is_shown_both() {
    let (mut net, before, [one, other]) = rivals();
    net.propose_head(0, &one, &before);
    net.settle();
    // Evidence that goes round does not reach node 3, nor what is shown of what is kept.
    net.filter = Box::new(|_, to, message| to != id(3) || !is_evidence(message));
    net.propose_head(3, &other, &before);
    net.settle();
    // It knows the certificate, so it is not asked; one that knows nothing is.
    assert_eq!(kept(&net, 3), [proof(&one, &other)]);
    net.nodes[3].disk.restored.owner_evidence.clear();
    net.crash(3);
    net.restart(3);
    assert!(kept(&net, 3).is_empty());
    net.filter = Box::new(|_, _, message| {
        matches!(message, ConsensusMessage::Propose { .. } | ConsensusMessage::Abstain(_)) || is_evidence(message)
    });
    net.propose_head(3, &other, &before);
    net.settle();
    let abstained = net.nodes[3].core.open_values().flat_map(|open| open.abstained);
    assert!(abstained.map(|(_, why)| why).any(|why| why == AbstainReason::Locked));
    assert_eq!(kept(&net, 3), [proof(&one, &other)]);
}

#[test]
fn whoever_missed_it_is_given_it_with_the_next_heads() {
    let (mut net, _, [one, other]) = rivals();
    net.filter = Box::new(|_, to, message| to != id(2) || !is_evidence(message));
    net.inject(3, 0, message([proof(&one, &other)]));
    net.settle();
    assert!(kept(&net, 2).is_empty());
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| kept(net, 2) == [proof(&one, &other)]);
    // Those who have the same tell each other nothing more.
    net.run(5);
    net.clear();
    net.run(60);
    assert!(!net.sent.iter().any(|(.., message)| is_evidence(message)));
}

#[test]
fn many_records_are_given_page_by_page() {
    let (mut net, ..) = rivals();
    net.filter = Box::new(|_, to, message| to != id(2) || !is_evidence(message));
    for number in 0..150 {
        let record = invented(&net, number, 2);
        net.inject(3, 0, message([record]));
    }
    net.settle();
    net.filter = Box::new(|_, _, _| true);
    net.run_until(120, |net| kept(net, 2).len() == 150);
}

#[test]
fn slander_is_neither_kept_nor_passed_on_and_strangers_are_not_heard() {
    let (mut net, _, [one, other]) = rivals();
    let good = proof(&one, &other);
    let mut bad = good;
    bad.version = 3;
    net.inject(1, 0, message([bad, good]));
    net.inject(9, 0, message([good]));
    net.settle();
    assert!(kept(&net, 0).is_empty(), "the first bad record of a message ends it");
    assert!(!net.sent.iter().any(|(.., message)| is_evidence(message)));
}

#[test]
fn a_vote_for_a_value_that_nobody_signed_accuses_no_owner() {
    let (mut net, before, [one, _]) = rivals();
    net.propose_head(0, &one, &before);
    let roster = net.nodes[0].core.roster().clone();
    let statement = VoteStatement {
        epoch: roster.epoch,
        roster: roster.hash(),
        phase: Phase::Vote,
        slot: mynet_types::vote::head_slot(&one.body.group_id, 2),
        value: ManifestHash([3; 32]),
        verdict: Verdict::Accept,
        claim: Claim::Seen,
        states: one.body.allowed(false),
    };
    let vote = super::evidence::vote(&net, 3, statement);
    net.inject(3, 0, vote);
    net.settle();
    assert!((0..4).all(|index| kept(&net, index).is_empty()));
}

#[test]
fn two_first_versions_are_no_evidence_because_only_one_has_its_own_name() {
    let mut net = Net::grown(4, 4);
    let first = net.manifest(|_| ());
    net.certified(&first);
    // The owner signs another one under the same name: it is rejected as what it is.
    let mut body = first.body.clone();
    body.replicas += 1;
    let second = Signed::new(&net.genesis.network_id(), body, &owner_key());
    net.propose(1, &second, Claim::Seen, Receipts::new());
    net.settle();
    assert_eq!(net.outcome(1, &second.body.hash()), Some(Outcome::Rejected));
    let reason = |vote: &mynet_types::Vote| vote.reason;
    let said = net.nodes[2].disk.votes_ever.iter().rfind(|vote| vote.statement.value == second.body.hash());
    assert_eq!(said.and_then(reason), Some(RejectReason::ManifestInvalid));
    assert!((0..4).all(|index| kept(&net, index).is_empty()));
}

#[test]
fn a_head_of_a_thief_does_not_stand_for_what_the_owner_signed() {
    let (mut net, before, [one, other]) = rivals();
    let thief = key(9);
    let mut stolen = one.body.clone();
    stolen.owner = OwnerKey(thief.verifying_key().to_bytes());
    let stolen = Signed::new(&net.genesis.network_id(), stolen, &thief);
    net.propose_head(1, &stolen, &before);
    net.settle();
    net.propose_head(0, &one, &before);
    net.settle();
    assert!((0..4).all(|index| kept(&net, index).is_empty()));
    net.propose_head(3, &other, &before);
    net.settle();
    assert_eq!(kept(&net, 0), [proof(&one, &other)]);
}

#[test]
fn invented_owners_leave_room_for_what_a_node_finds_itself() {
    let (mut net, before, [one, other]) = rivals();
    net.filter = Box::new(|_, _, message| !is_evidence(message));
    for number in 0..2100 {
        let record = invented(&net, number, 2);
        net.inject(3, 0, message([record]));
    }
    assert_eq!(kept(&net, 0).len(), 2048);
    net.propose_head(0, &one, &before);
    net.settle();
    net.propose_head(0, &other, &before);
    net.settle();
    assert!(kept(&net, 0).contains(&proof(&one, &other)));
    // One owner takes no more than its share.
    for version in 2..30 {
        let record = invented(&net, 1, version);
        net.inject(3, 1, message([record]));
    }
    assert_eq!(kept(&net, 1).iter().filter(|record| record.owner == invented(&net, 1, 2).owner).count(), 16);
}
