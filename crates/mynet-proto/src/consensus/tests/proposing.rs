//! The four outcomes, resends and restarts, seen from the proposer.

use std::collections::BTreeSet;

use mynet_types::{
    Claim, ConsensusMessage, GenesisFile, NodeId, OwnerKey, RejectReason, SignedProposal, Verdict,
    certificate::{self, VerifyError},
};

use super::kit::{Net, id};
use crate::consensus::io::{Config, Event, Input, Outcome};

/// Proposals that `from` sent, in order.
fn proposals(net: &Net, from: usize) -> Vec<(NodeId, SignedProposal)> {
    let by = |(sender, to, message): &(NodeId, NodeId, ConsensusMessage)| match message {
        ConsensusMessage::Propose { proposal, .. } if *sender == id(from) => Some((*to, proposal.clone())),
        _ => None,
    };
    net.sent.iter().filter_map(by).collect()
}

fn trust(net: &Net) -> GenesisFile {
    GenesisFile { genesis: net.genesis.clone(), checkpoint: None }
}

#[test]
fn one_validator_certifies_only_where_the_genesis_allows_it() {
    let config = Config { automatic_validators: 1, ..Config::default() };
    let mut net = Net::new(1, config, true);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert_eq!(net.outcomes(0), [Outcome::Pending, Outcome::Approved]);
    let file = net.certificates(0)[0];
    assert!(certificate::verify(file, &trust(&net), true).unwrap().small);
    assert!(matches!(certificate::verify(file, &trust(&net), false), Err(VerifyError::Small)));
}

#[test]
fn too_small_a_roster_is_said_and_tried_again_when_it_grows() {
    let mut net = Net::new(4, Config::default(), false);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert_eq!(net.outcomes(0), [Outcome::NotEnoughValidators]);
    net.run_until(60, |net| net.outcome(0, &value) == Some(Outcome::Approved));
    assert!(!net.outcomes(0).contains(&Outcome::Rejected));
}

#[test]
fn three_validators_need_all_three() {
    let mut net = Net::grown(3, 3);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.crash(2);
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(10);
    let tally = net.tally(0, &value);
    assert_eq!((tally.outcome, tally.accepts, tally.quorum, tally.validators), (Outcome::Pending, 2, 3, 3));
    net.restart(2);
    net.settle();
    assert_eq!(net.outcome(0, &value), Some(Outcome::Approved));
}

#[test]
fn four_validators_certify_with_one_away_and_the_certificate_verifies_offline() {
    let mut net = Net::grown(6, 4);
    let manifest = net.manifest(|_| ());
    let away = (0..4).find(|index| *index != 1).unwrap();
    net.crash(away);
    net.propose(1, &manifest, Claim::Durable, net.receipts(&[5, 1], &manifest));
    net.settle();
    let file = net.certificates(1)[0].clone();
    let verified = certificate::verify(&file, &trust(&net), false).unwrap();
    assert_eq!((verified.verdict, verified.claim, verified.small), (Verdict::Accept, Claim::Durable, false));
    assert_eq!(verified.signers.len(), 3);
    assert_eq!(verified.holders, file.holdings.iter().map(|holding| holding.receipt.body.holder).collect::<Vec<_>>());
    // Validators and holders have it, once; a node that is neither has not.
    let told: Vec<usize> = (0..6).filter(|index| net.certificates(*index).len() == 1).collect();
    let expected: Vec<usize> = (0..6).filter(|index| *index != away && *index != 4).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_node_without_a_seat_may_propose() {
    let mut net = Net::grown(5, 4);
    let manifest = net.manifest(|_| ());
    net.propose(4, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert_eq!(net.outcome(4, &manifest.body.hash()), Some(Outcome::Approved));
}

#[test]
fn a_late_vote_completes_what_timed_out() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.crash(2);
    net.crash(3);
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(120);
    assert_eq!(net.outcomes(0), [Outcome::Pending, Outcome::Undecided]);
    net.restart(2);
    net.settle();
    assert_eq!(net.outcomes(0), [Outcome::Pending, Outcome::Undecided, Outcome::Approved]);
    assert_eq!(net.outcome(0, &value), Some(Outcome::Approved));
}

#[test]
fn silence_is_never_a_rejection_however_long_it_lasts() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    (1..4).for_each(|index| net.crash(index));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(4000);
    let outcomes: BTreeSet<_> = net.outcomes(0).into_iter().map(|outcome| format!("{outcome:?}")).collect();
    assert_eq!(outcomes, ["Pending", "Undecided"].map(str::to_owned).into());
    assert!(net.certificates(0).is_empty());
}

#[test]
fn a_reject_quorum_rejects_with_a_certificate_and_stays() {
    let mut net = Net::grown(4, 4);
    let broken = net.manifest(|manifest| manifest.quorum = 9);
    let value = broken.body.hash();
    net.propose(0, &broken, Claim::Seen, net.receipts(&[], &broken));
    net.settle();
    assert_eq!(net.outcomes(0), [Outcome::Pending, Outcome::Rejected]);
    let verified = certificate::verify(net.certificates(0)[0], &trust(&net), false).unwrap();
    assert_eq!(verified.verdict, Verdict::Reject);
    let reasons: BTreeSet<_> = net
        .sent
        .iter()
        .filter_map(|(_, _, message)| match message {
            ConsensusMessage::Vote(vote) => Some(format!("{:?}", vote.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(reasons, [format!("{:?}", Some(RejectReason::ManifestInvalid))].into());

    net.clear();
    net.propose(0, &broken, Claim::Durable, net.receipts(&[], &broken));
    net.run(60);
    assert_eq!(net.outcomes(0), [Outcome::Rejected], "a value that is objectively wrong stays wrong");
    assert_eq!(net.outcome(0, &value), Some(Outcome::Rejected));
}

#[test]
fn proposing_a_decided_value_again_asks_nobody() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    net.clear();
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert_eq!(net.outcomes(0), [Outcome::Approved]);
    assert!(net.sent.is_empty());
    // A stronger claim is another question, and its certificate is news.
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[1, 2], &manifest));
    net.settle();
    assert_eq!(net.certificates(3).len(), 1);
}

#[test]
fn one_certificate_ends_every_proposal_of_the_value() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.disks_stall = true;
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.propose(1, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    net.disks_stall = false;
    net.settle();
    for index in [0, 1] {
        assert_eq!(net.outcomes(index), [Outcome::Pending, Outcome::Approved]);
        assert!(net.nodes[index].disk.restored.proposals.is_empty(), "closed on disk too");
        assert_eq!(net.certificates(index).len(), 1);
    }
}

#[test]
fn a_restarted_proposer_sends_the_same_bytes() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Propose { .. }));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let before = proposals(&net, 0);
    assert_eq!(before.len(), 3);
    net.crash(0);
    net.clear();
    net.restart(0);
    net.settle();
    let after = proposals(&net, 0);
    assert!(!after.is_empty());
    assert!(after.iter().all(|(_, proposal)| *proposal == before[0].1));
    net.filter = Box::new(|_, _, _| true);
    net.run(3);
    assert_eq!(net.outcome(0, &manifest.body.hash()), Some(Outcome::Approved));
}

#[test]
fn an_expired_proposal_is_replaced_by_a_new_one() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Propose { .. }));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(599);
    let first: BTreeSet<_> = proposals(&net, 0).iter().map(|(_, proposal)| proposal.body.id()).collect();
    assert_eq!(first.len(), 1);
    net.run(2);
    let all: BTreeSet<_> = proposals(&net, 0).iter().map(|(_, proposal)| proposal.body.id()).collect();
    assert_eq!(all.len(), 2);
    let open = &net.nodes[0].disk.restored.proposals;
    assert!(open.len() == 1 && !first.contains(&open[0].proposal.body.id()), "the old one is closed");

    // The same after a restart that takes longer than the lifetime.
    net.crash(0);
    net.run(700);
    net.filter = Box::new(|_, _, _| true);
    net.restart(0);
    net.settle();
    assert_eq!(net.outcome(0, &manifest.body.hash()), Some(Outcome::Approved));
}

#[test]
fn resends_go_to_the_silent_only_and_become_rare() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|_, to, message| !(matches!(message, ConsensusMessage::Propose { .. }) && to != id(1)));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(64);
    let count = |index: usize| proposals(&net, 0).iter().filter(|(to, _)| *to == id(index)).count();
    assert_eq!(count(1), 1);
    // At once, then after 1, 2, 4, 8, 16, 16 s with jitter of a fifth.
    assert!((6..=8).contains(&count(2)), "{}", count(2));
}

#[test]
fn new_receipts_reach_the_validators_that_missed_them() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[1], &manifest));
    net.settle();
    assert_eq!(net.outcome(0, &value), Some(Outcome::Pending));
    let open: Vec<_> = net.nodes[0].core.open_values().collect();
    assert_eq!(open[0].abstained.len(), 4, "everybody said why");
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[2], &manifest));
    net.settle();
    assert_eq!(net.outcome(0, &value), Some(Outcome::Approved));
    assert_eq!(proposals(&net, 0).iter().map(|(_, p)| p.body.id()).collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(net.certificates(0)[0].holdings.len(), 2);
}

#[test]
fn votes_for_the_receipts_of_another_proposer_approve_nothing_without_own_ones() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.filter = Box::new(|_, to, message| !(matches!(message, ConsensusMessage::Certified(_)) && to == id(0)));
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[1], &manifest));
    net.propose(1, &manifest, Claim::Durable, net.receipts(&[1, 2], &manifest));
    net.run(40);
    assert_eq!(net.outcome(1, &value), Some(Outcome::Approved));
    let tally = net.tally(0, &value);
    assert_eq!(
        (tally.accepts, tally.outcome),
        (4, Outcome::Undecided),
        "it has the votes, and nothing to show with them"
    );
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[2], &manifest));
    assert_eq!(net.outcome(0, &value), Some(Outcome::Approved));
    assert!(certificate::verify(net.certificates(0)[0], &trust(&net), false).is_ok());
}

#[test]
fn a_proposal_of_a_wrong_clock_is_replaced_when_the_clock_is_right() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.now.wall.0 -= 3_600_000;
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Propose { .. }));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    net.filter = Box::new(|_, _, _| true);
    net.run(5);
    assert_eq!(net.outcomes(0), [Outcome::Pending, Outcome::Approved]);
}

#[test]
fn stale_timers_change_nothing() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    net.clear();
    net.run(1300);
    assert!(net.outcomes(0).is_empty() && net.certificates(0).is_empty());
    assert!(proposals(&net, 0).is_empty());
    let certified = |event: &Event| matches!(event, Event::Certified(_));
    assert!(!net.nodes.iter().any(|node| node.events.iter().any(certified)));
}

#[test]
fn a_certificate_that_comes_again_is_handed_out_unverified_and_decides_nothing() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let mut file = net.certificates(1)[0].clone();
    net.clear();
    file.certificate.statement.verdict = mynet_types::Verdict::Reject;
    net.inject(2, 1, ConsensusMessage::Certified(Box::new(file.clone())));
    net.settle();
    let [Event::CertifiedAgain(again)] = &net.nodes[1].events[..] else { panic!("{:?}", net.nodes[1].events) };
    assert_eq!(**again, file);
    assert_eq!(net.outcome(1, &manifest.body.hash()), Some(Outcome::Approved));
}

#[test]
fn what_its_owner_did_not_sign_is_not_proposed() {
    let mut net = Net::grown(4, 4);
    let mut manifest = net.manifest(|_| ());
    manifest.signature.0[0] ^= 1;
    let receipts = net.receipts(&[], &manifest);
    net.input(0, Input::Propose { manifest: Box::new(manifest.clone()), receipts, claim: Claim::Seen });
    net.settle();
    assert_eq!(net.outcome(0, &manifest.body.hash()), None);
    assert!(proposals(&net, 0).is_empty());
}

#[test]
fn what_its_owner_deleted_is_not_proposed_any_more_also_after_a_restart() {
    let mut net = Net::grown(4, 4);
    let (manifest, other) = (net.manifest(|_| ()), net.manifest(|body| body.placement_seed = [7; 32]));
    (1..4).for_each(|index| net.crash(index));
    for manifest in [&manifest, &other] {
        net.propose(0, manifest, Claim::Durable, net.receipts(&[0, 1, 2], manifest));
    }
    net.settle();
    net.input(0, Input::Withdraw { group_id: manifest.body.group_id, owner: manifest.body.owner });
    // A tombstone in the name of somebody else is about nothing that is proposed here.
    net.input(0, Input::Withdraw { group_id: other.body.group_id, owner: OwnerKey([9; 32]) });
    net.settle();
    net.restart(0);
    net.clear();
    (1..4).for_each(|index| net.restart(index));
    net.run(60);
    let proposed: BTreeSet<_> =
        proposals(&net, 0).into_iter().map(|(_, proposal)| proposal.body.manifest_hash).collect();
    assert_eq!(proposed, BTreeSet::from([other.body.hash()]));
    assert_eq!(net.outcome(0, &other.body.hash()), Some(Outcome::Approved));
}
