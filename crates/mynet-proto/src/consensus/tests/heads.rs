//! Later versions: two rounds, one value per version, and what stands in the way of a second one.

use mynet_types::{
    AbstainReason, AckedHead, CertificateFile, Claim, ConsensusMessage, GenesisFile, HeadProof, ManifestHash, OwnerKey,
    Phase, QuorumCertificate, RejectReason, SignedManifest, SignerSet, StatesMask, Verdict, Vote, certificate,
    wire::Receipts,
};

use super::kit::{Net, id, key};
use crate::{
    consensus::io::{Event, Input, Outcome},
    reason::Reason,
};

/// A grown network of four, a certified first version, and a second one.
fn four() -> (Net, CertificateFile, SignedManifest) {
    let mut net = Net::grown(4, 4);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let second = net.head(&first, |_| ());
    net.clear();
    (net, before, second)
}

/// Votes of `phase` that `from` sent.
fn votes(net: &Net, from: usize, phase: Phase) -> Vec<Vote> {
    let by = |message: &ConsensusMessage| match message {
        ConsensusMessage::Vote(vote) if vote.statement.phase == phase => Some(vote.clone()),
        _ => None,
    };
    net.sent.iter().filter(|(sender, ..)| *sender == id(from)).filter_map(|(.., message)| by(message)).collect()
}

/// Events that another value blocks one: which, by which, and whether that one is certified.
fn blocked(net: &Net, index: usize) -> Vec<(ManifestHash, ManifestHash, bool)> {
    let of = |event: &Event| match event {
        Event::HeadBlocked { manifest_hash, other, certified, .. } => Some((*manifest_hash, *other, *certified)),
        _ => None,
    };
    net.nodes[index].events.iter().filter_map(of).collect()
}

fn abstained(net: &Net, index: usize) -> Vec<AbstainReason> {
    let why = |open: crate::consensus::OpenValue| open.abstained.into_iter().map(|(_, why)| why).collect::<Vec<_>>();
    net.nodes[index].core.open_values().flat_map(why).collect()
}

fn is_ack(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::Vote(vote) if vote.statement.phase == Phase::Ack)
}

#[test]
fn a_head_is_certified_by_a_quorum_of_acks() {
    let (mut net, before, second) = four();
    let value = second.body.hash();
    net.propose_head(1, &second, &before);
    net.settle();
    assert_eq!(net.outcomes(1), [Outcome::Pending, Outcome::Approved]);
    let file = net.certificate_of(1, &second);
    assert_eq!(file.certificate.statement.phase, Phase::Ack);
    let trust = GenesisFile { genesis: net.genesis.clone(), checkpoint: None };
    let verified = certificate::verify(&file, &trust, false).unwrap();
    assert_eq!((verified.manifest_hash, verified.quorum), (value, 3));
    for index in 0..4 {
        assert_eq!(net.outcome(index, &value), Some(Outcome::Approved), "node {index} was told");
    }
    assert!(net.nodes[1].disk.restored.proposals.is_empty());
    // The next one stands on it.
    let third = net.head(&second, |_| ());
    net.propose_head(2, &third, &file);
    net.settle();
    assert_eq!(net.outcome(0, &third.body.hash()), Some(Outcome::Approved));
}

#[test]
fn a_quorum_of_the_first_round_approves_nothing() {
    let (mut net, before, second) = four();
    let value = second.body.hash();
    net.filter = Box::new(|_, _, message| !is_ack(message));
    net.propose_head(0, &second, &before);
    net.run(5);
    let tally = net.tally(0, &value);
    assert_eq!((tally.outcome, tally.accepts >= tally.quorum), (Outcome::Pending, true));
    net.run(60);
    assert_eq!(net.outcome(0, &value), Some(Outcome::Undecided));
    assert!((0..4).all(|index| net.certificates(index).is_empty()));
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.outcome(0, &value) == Some(Outcome::Approved));
}

#[test]
fn an_expired_proposal_goes_on_in_the_round_where_it_was() {
    let (mut net, before, second) = four();
    let value = second.body.hash();
    net.filter = Box::new(|_, _, message| !is_ack(message));
    net.propose_head(0, &second, &before);
    net.run(601);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Propose { .. }));
    net.run_until(60, |net| net.outcome(0, &value) == Some(Outcome::Approved));
}

#[test]
fn a_value_is_certified_as_seen_first_and_as_durable_later() {
    let (mut net, before, second) = four();
    let value = second.body.hash();
    net.propose_head(0, &second, &before);
    net.settle();
    let receipts = net.receipts(&[1, 2], &second);
    let (manifest, previous) = (Box::new(second.clone()), Box::new(HeadProof::of(&before)));
    net.input(0, Input::ProposeHead { manifest, previous, receipts, claim: Claim::Durable });
    net.settle();
    let claims: Vec<_> = net.certificates(0).iter().map(|file| file.certificate.statement.claim).collect();
    assert_eq!(claims, [Claim::Seen, Claim::Durable]);
    assert_eq!(net.outcome(3, &value), Some(Outcome::Approved));
}

#[test]
fn whoever_has_the_certificate_of_a_head_has_it_certified_as_more_without_the_version_before() {
    let (mut net, before, second) = four();
    net.propose_head(0, &second, &before);
    net.settle();
    let file = net.certificate_of(0, &second);
    // A later epoch, in which nothing is remembered but what was carried.
    let next = net.nodes[0].core.roster().epoch + 1;
    net.lose_store(3);
    net.run_until(300, |net| net.nodes.iter().all(|node| node.core.roster().epoch >= next && node.core.may_vote()));
    let receipts = net.receipts(&[1, 2], &second);
    let ask = |net: &mut Net, proof: HeadProof| {
        let (manifest, previous) = (Box::new(second.clone()), Box::new(proof));
        net.input(2, Input::ProposeHead { manifest, previous, receipts: receipts.clone(), claim: Claim::Durable });
        net.settle();
    };
    // The first round of the head itself shows nothing.
    let mut first_round = HeadProof::of(&file);
    first_round.certificate.statement.phase = Phase::Vote;
    net.clear();
    ask(&mut net, first_round);
    assert_eq!(abstained(&net, 2), [AbstainReason::HeadUnproven; 4]);
    net.crash(2);
    net.nodes[2].disk.restored.proposals.clear();
    net.restart(2);
    net.settle();
    ask(&mut net, HeadProof::of(&file));
    net.run_until(60, |net| net.certificates(2).iter().any(|file| file.certificate.statement.claim == Claim::Durable));
}

#[test]
fn a_durable_head_needs_its_receipts_in_both_rounds() {
    let (mut net, before, second) = four();
    let ask = |net: &mut Net, index: usize, receipts: Receipts| {
        let (manifest, previous) = (Box::new(second.clone()), Box::new(HeadProof::of(&before)));
        net.input(index, Input::ProposeHead { manifest, previous, receipts, claim: Claim::Durable });
        net.settle();
    };
    ask(&mut net, 0, Receipts::new());
    assert_eq!(abstained(&net, 0), [AbstainReason::Unavailable; 4]);
    // Votes on the proposal of another node fill the book of this one, which has nothing to show.
    let receipts = net.receipts(&[1, 2], &second);
    net.filter = Box::new(|from, to, message| to != id(0) && !(is_ack(message) && from != id(1)));
    ask(&mut net, 1, receipts.clone());
    for index in 1..4 {
        for vote in votes(&net, index, Phase::Vote) {
            net.inject(index, 0, ConsensusMessage::Vote(vote));
        }
    }
    let asks = |net: &Net| {
        let is = |message: &ConsensusMessage| matches!(message, ConsensusMessage::AckRequest { .. });
        net.sent.iter().any(|(from, _, message)| *from == id(0) && is(message))
    };
    assert!(!asks(&net));
    net.filter = Box::new(|_, _, _| true);
    ask(&mut net, 0, receipts);
    assert_eq!(net.outcome(0, &second.body.hash()), Some(Outcome::Approved));
}

#[test]
fn a_head_must_show_that_the_version_before_is_certified() {
    let (mut net, before, second) = four();
    let other_first = net.manifest(|manifest| manifest.placement_seed = [8; 32]);
    let other = net.certified(&other_first);
    let mut few = before.clone();
    few.certificate.signers = SignerSet::collect(
        before.certificate.signers.seats().zip(before.certificate.signers.signatures.to_vec()).take(2),
    );
    let mut rejected = before.clone();
    rejected.certificate.statement.verdict = Verdict::Reject;
    for (why, proof) in [("another manifest", &other), ("two votes", &few), ("a rejection", &rejected)] {
        net.clear();
        net.propose_head(0, &second, proof);
        net.settle();
        assert_eq!(abstained(&net, 0), [AbstainReason::HeadUnproven; 4], "{why}");
        net.crash(0);
        net.nodes[0].disk.restored.proposals.clear();
        net.restart(0);
        net.settle();
    }
    net.propose(0, &second, Claim::Seen, Receipts::new());
    net.settle();
    assert_eq!(abstained(&net, 0), [AbstainReason::HeadUnproven; 4], "no proof at all");
    assert!(
        net.nodes.iter().all(|node| node.disk.votes_ever.iter().all(|vote| vote.statement.value != second.body.hash()))
    );
}

#[test]
fn a_head_of_another_owner_or_place_or_a_skipped_version_is_rejected() {
    let (mut net, before, _) = four();
    let skipped = net.head(&before.manifest, |manifest| manifest.version = 3);
    let thief = key(9);
    let mut stolen = net.head(&before.manifest, |_| ()).body;
    stolen.owner = OwnerKey(thief.verifying_key().to_bytes());
    let stolen = mynet_types::Signed::new(&net.genesis.network_id(), stolen, &thief);
    let moved = net.head(&before.manifest, |manifest| manifest.placement_seed = [77; 32]);
    for head in [skipped, stolen, moved] {
        net.propose_head(0, &head, &before);
        net.settle();
        assert_eq!(net.outcome(0, &head.body.hash()), Some(Outcome::Rejected));
        let reasons = net.nodes[1].disk.votes_ever.iter().filter(|vote| vote.statement.value == head.body.hash());
        assert_eq!(reasons.map(|vote| vote.reason).collect::<Vec<_>>(), [Some(RejectReason::HeadInvalid)]);
        let file = net.certificate_of(0, &head);
        assert_eq!(
            (file.certificate.statement.verdict, file.certificate.statement.phase),
            (Verdict::Reject, Phase::Vote)
        );
    }
    // A rejection takes no place: the right one is certified.
    let right = net.head(&before.manifest, |_| ());
    net.propose_head(0, &right, &before);
    net.settle();
    assert_eq!(net.outcome(0, &right.body.hash()), Some(Outcome::Approved));
}

/// Two values of one version, which node 0 and node 3 propose, and of which `first` hear only that of node 0 and all others
/// only that of node 3, until both know what they get.
fn rivals(first: &'static [usize]) -> (Net, CertificateFile, [SignedManifest; 2]) {
    let (mut net, before, one) = four();
    let other = net.head(&before.manifest, |manifest| manifest.replicas += 1);
    net.filter = Box::new(move |from, to, message| {
        let hears = |proposer: usize, voter: bool| from == id(proposer) && voter;
        let is_first = first.iter().any(|index| id(*index) == to);
        !matches!(message, ConsensusMessage::Propose { .. }) || hears(0, is_first) || hears(3, !is_first)
    });
    net.propose_head(0, &one, &before);
    net.propose_head(3, &other, &before);
    net.settle();
    net.filter = Box::new(|_, _, _| true);
    (net, before, [one, other])
}

#[test]
fn two_values_of_one_version_block_each_other_and_both_proposers_learn_it() {
    let (mut net, _, [one, other]) = rivals(&[0, 2]);
    net.run(60);
    let (one, other) = (one.body.hash(), other.body.hash());
    assert_eq!((net.outcome(0, &one), net.outcome(3, &other)), (Some(Outcome::Undecided), Some(Outcome::Undecided)));
    assert_eq!(blocked(&net, 0), [(one, other, false)]);
    assert_eq!(blocked(&net, 3), [(other, one, false)]);
    let rivals = net.nodes[0].notes.iter().filter(|note| note.reason == Reason::HeadRival);
    assert_eq!(rivals.map(|note| (note.peer.is_some(), note.value)).collect::<Vec<_>>(), [(true, Some(2))]);
    assert!(abstained(&net, 0).contains(&AbstainReason::Locked));
    assert!((0..4).all(|index| net.certificates(index).is_empty()));
    assert!(!net.nodes.iter().flat_map(|node| &node.events).any(|event| matches!(event, Event::Evidence { .. })));
}

#[test]
fn whoever_voted_for_another_value_acks_the_one_with_a_quorum() {
    let (mut net, _, [one, other]) = rivals(&[0, 1, 2]);
    net.run(5);
    let voted = |vote: &&Vote| vote.statement.phase == Phase::Vote && vote.statement.epoch == 3;
    let own = net.nodes[3].disk.votes_ever.iter().rfind(voted).unwrap();
    assert_eq!(own.statement.value, other.body.hash());
    assert_eq!(votes(&net, 3, Phase::Ack)[0].statement.value, one.body.hash());
    assert_eq!(net.outcome(3, &one.body.hash()), Some(Outcome::Approved));
    // The other one is given up where it was proposed, and not taken up again.
    assert_eq!(blocked(&net, 3).last(), Some(&(other.body.hash(), one.body.hash(), true)));
    assert!(net.nodes[3].core.open_values().next().is_none() && net.nodes[3].disk.restored.proposals.is_empty());
}

#[test]
fn what_lost_against_a_certified_value_is_not_proposed_again() {
    let (mut net, before, [one, other]) = rivals(&[0, 1, 2]);
    net.run(5);
    net.clear();
    net.propose_head(3, &other, &before);
    assert_eq!(blocked(&net, 3), [(other.body.hash(), one.body.hash(), true)]);
    assert!(net.sent.is_empty());
}

#[test]
fn a_node_proposes_no_second_value_for_a_version_even_after_a_restart() {
    let (mut net, before, second) = four();
    let other = net.head(&before.manifest, |manifest| manifest.replicas += 1);
    net.filter = Box::new(|_, _, _| false);
    net.propose_head(0, &second, &before);
    net.settle();
    for _restart in 0..2 {
        net.clear();
        net.propose_head(0, &other, &before);
        net.settle();
        assert_eq!(blocked(&net, 0), [(other.body.hash(), second.body.hash(), false)]);
        assert_eq!(net.outcome(0, &other.body.hash()), None);
        net.crash(0);
        net.restart(0);
    }
    // What was asked before the restart is asked again, byte for byte, and certified.
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.outcome(0, &second.body.hash()) == Some(Outcome::Approved));
}

#[test]
fn an_ack_leaves_after_it_is_durable_and_a_restart_repeats_it() {
    let (mut net, before, second) = four();
    net.filter = Box::new(|_, to, message| !matches!(message, ConsensusMessage::AckRequest { .. }) || to != id(3));
    net.propose_head(0, &second, &before);
    net.settle();
    let request = |net: &Net| {
        net.sent
            .iter()
            .find(|(_, to, message)| *to == id(3) && matches!(message, ConsensusMessage::AckRequest { .. }))
            .unwrap()
            .2
            .clone()
    };
    let request = request(&net);
    net.clear();
    net.disks_stall = true;
    net.inject(0, 3, request.clone());
    net.settle();
    assert!(votes(&net, 3, Phase::Ack).is_empty());
    net.crash(3);
    net.restart(3);
    net.disks_stall = false;
    net.settle();
    assert!(votes(&net, 3, Phase::Ack).is_empty() && net.nodes[3].disk.restored.acked.is_empty());
    net.inject(0, 3, request.clone());
    net.settle();
    let before = votes(&net, 3, Phase::Ack);
    assert_eq!(before.len(), 1);
    net.crash(3);
    net.restart(3);
    net.settle();
    net.clear();
    net.inject(0, 3, request);
    net.settle();
    assert_eq!(votes(&net, 3, Phase::Ack), before);
}

#[test]
fn only_a_quorum_of_this_epoch_for_this_head_is_acked() {
    let (mut net, before, second) = four();
    net.filter = Box::new(|_, to, message| !matches!(message, ConsensusMessage::AckRequest { .. }) || to != id(3));
    net.propose_head(0, &second, &before);
    net.settle();
    let is = |message: &ConsensusMessage| matches!(message, ConsensusMessage::AckRequest { .. });
    let request = net.sent.iter().find(|(.., message)| is(message)).unwrap().2.clone();
    let ConsensusMessage::AckRequest { group_id, version, certificate } = request else { unreachable!() };
    let ask = |net: &mut Net, from: usize, head: AckedHead| {
        net.clear();
        let certificate = Box::new(head.certificate);
        let message = ConsensusMessage::AckRequest { group_id: head.group_id, version: head.version, certificate };
        net.inject(from, 3, message);
        net.settle();
        votes(net, 3, Phase::Ack).len()
    };
    let good = AckedHead { group_id, version, certificate: *certificate };
    let few: Vec<_> =
        good.certificate.signers.seats().zip(good.certificate.signers.signatures.to_vec()).take(2).collect();
    let with = |change: &dyn Fn(&mut QuorumCertificate)| {
        let mut head = good.clone();
        change(&mut head.certificate);
        head
    };
    let bad = [
        ("two votes", with(&|certificate| certificate.signers = SignerSet::collect(few.clone()))),
        ("another version", AckedHead { version: 3, ..good.clone() }),
        ("another value", with(&|certificate| certificate.statement.value = ManifestHash([1; 32]))),
        ("another claim", with(&|certificate| certificate.statement.claim = Claim::Durable)),
        ("other states", with(&|certificate| certificate.statement.states = StatesMask::EMPTY)),
        ("another epoch", with(&|certificate| certificate.statement.epoch -= 1)),
        ("an attestation", AckedHead { certificate: before.certificate.clone(), ..good.clone() }),
    ];
    for (why, head) in bad {
        assert_eq!(ask(&mut net, 0, head), 0, "{why}");
    }
    assert_eq!(ask(&mut net, 9, good.clone()), 0, "a stranger asks");
    assert!(net.nodes[3].disk.restored.acked.is_empty());
    assert_eq!(ask(&mut net, 2, good), 1);
}
