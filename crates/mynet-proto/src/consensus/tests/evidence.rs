//! Contradicting votes are reported, and nothing that a peer says makes the core fail.

use std::sync::OnceLock;

use mynet_types::{
    BoundedVec, Claim, ConsensusMessage, Domain, Evidence, GenesisFile, ManifestHash, NodeId, Phase, ProposalId,
    RosterHash, SlotKey, Verdict, Vote, VoteStatement, certificate, codec, signing, vote::attest_slot,
};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use super::kit::{Net, id};
use crate::consensus::io::{Event, Input, Outcome};

/// A network in which node 0 has an open proposal, and what the votes on it say.
fn open() -> (Net, VoteStatement) {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|_, _, _| false);
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let statement = net.nodes[0].disk.restored.proposals[0].proposal.body.statement(Verdict::Accept);
    (net, statement)
}

pub(super) fn vote(net: &Net, index: usize, statement: VoteStatement) -> ConsensusMessage {
    let signature = signing::sign_as(Domain::Vote, &net.genesis.network_id(), &statement, &net.vote_key(index));
    let seat = u16::try_from(net.seat_of(index)).unwrap();
    ConsensusMessage::Vote(Vote { statement, seat, signature, proposal_id: ProposalId([0; 32]), reason: None })
}

/// The evidence that node 0 told of.
fn told(net: &Net) -> Vec<(NodeId, Evidence)> {
    let evidence = |event: &Event| match event {
        Event::Evidence { node, evidence } => Some((*node, **evidence)),
        _ => None,
    };
    net.nodes[0].events.iter().filter_map(evidence).collect()
}

#[test]
fn yes_and_no_of_one_seat_are_evidence_once() {
    let (mut net, accept) = open();
    let reject = VoteStatement { verdict: Verdict::Reject, ..accept };
    for statement in [accept, reject, reject, accept] {
        net.inject(1, 0, vote(&net, 1, statement));
    }
    let found = told(&net);
    assert_eq!(found.len(), 1);
    let (node, evidence) = found[0];
    assert_eq!((node, evidence.first.statement, evidence.second.statement), (id(1), accept, reject));
    assert_eq!(evidence.verify(&net.genesis.network_id(), net.nodes[0].core.roster()), Ok(id(1)));
    assert_eq!(net.tally(0, &accept.value).accepts, 2, "its own and the first of the two");
}

#[test]
fn a_no_to_a_value_that_was_not_asked_about_counts_against_its_own_yes() {
    let (mut net, accept) = open();
    let other = VoteStatement { value: ManifestHash([9; 32]), ..accept };
    let reject = VoteStatement { verdict: Verdict::Reject, ..other };
    net.inject(2, 0, vote(&net, 2, reject));
    net.inject(1, 0, vote(&net, 1, other));
    assert!(told(&net).is_empty());
    net.inject(1, 0, vote(&net, 1, reject));
    assert_eq!(told(&net).iter().map(|(node, _)| *node).collect::<Vec<_>>(), [id(1)]);
}

#[test]
fn a_yes_to_a_value_that_was_not_asked_about_counts_against_its_own_no() {
    let (mut net, accept) = open();
    let other = |value| VoteStatement { value: ManifestHash([value; 32]), ..accept };
    let no = |value| VoteStatement { verdict: Verdict::Reject, ..other(value) };
    for said in [no(9), no(8), other(8)] {
        net.inject(2, 0, vote(&net, 2, said));
    }
    assert!(told(&net).is_empty(), "of what nobody asked about one no is kept");
    net.inject(1, 0, vote(&net, 1, no(9)));
    assert!(told(&net).is_empty());
    net.inject(1, 0, vote(&net, 1, other(9)));
    assert_eq!(told(&net).iter().map(|(node, _)| *node).collect::<Vec<_>>(), [id(1)]);
}

#[test]
fn two_values_in_one_slot_are_evidence() {
    let (mut net, accept) = open();
    let other = VoteStatement { value: mynet_types::ManifestHash([9; 32]), ..accept };
    net.inject(1, 0, vote(&net, 1, accept));
    net.inject(1, 0, vote(&net, 1, other));
    assert_eq!(told(&net).len(), 1);
}

#[test]
fn two_claims_about_one_value_are_no_evidence() {
    let (mut net, accept) = open();
    net.inject(1, 0, vote(&net, 1, accept));
    net.inject(1, 0, vote(&net, 1, VoteStatement { claim: Claim::Durable, ..accept }));
    net.inject(2, 0, vote(&net, 2, VoteStatement { verdict: Verdict::Reject, ..accept }));
    assert!(told(&net).is_empty());
}

#[test]
fn evidence_is_found_after_the_decision_too() {
    let (mut net, accept) = open();
    for index in 1..4 {
        net.inject(index, 0, vote(&net, index, accept));
    }
    assert_eq!(net.outcome(0, &accept.value), Some(Outcome::Approved));
    net.inject(1, 0, vote(&net, 1, VoteStatement { verdict: Verdict::Reject, ..accept }));
    assert_eq!(told(&net).len(), 1);
    assert_eq!(net.outcome(0, &accept.value), Some(Outcome::Approved));
}

#[test]
fn votes_that_prove_nothing_do_not_count() {
    let (mut net, accept) = open();
    let count = |net: &Net| net.tally(0, &accept.value).accepts;
    assert_eq!(count(&net), 1);
    // Of another seat than the sender's.
    net.inject(2, 0, vote(&net, 1, accept));
    // With a signature over something else.
    if let ConsensusMessage::Vote(mut forged) = vote(&net, 1, VoteStatement { slot: SlotKey([0; 32]), ..accept }) {
        forged.statement = accept;
        net.inject(1, 0, ConsensusMessage::Vote(forged));
    }
    // Of a seat that does not exist.
    if let ConsensusMessage::Vote(mut far) = vote(&net, 1, accept) {
        far.seat = 40;
        net.inject(1, 0, ConsensusMessage::Vote(far));
    }
    // Of another epoch.
    net.inject(1, 0, vote(&net, 1, VoteStatement { epoch: accept.epoch + 1, ..accept }));
    // The same one many times.
    for _ in 0..3 {
        net.inject(3, 0, vote(&net, 3, accept));
    }
    assert_eq!(count(&net), 2);
    assert!(told(&net).is_empty());
}

/// Every one of `a` with every one of `b`.
fn pairs<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |one| b.iter().map(move |other| (one, other)))
}

/// One of every kind of message, as a grown network really sends them.
fn specimens() -> Vec<ConsensusMessage> {
    let config = crate::consensus::io::Config { automatic_validators: 3, ..Default::default() };
    let mut net = Net::new(4, config, false);
    net.run_until(60, |net| net.nodes.iter().all(|node| node.core.roster().validators.len() == 3));
    let manifest = net.manifest(|manifest| manifest.placement_seed = [77; 32]);
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[1, 2], &manifest));
    net.run(2);
    // One seat acks less than the others, so that the last roster grows with lists and a close set.
    let before = net.certificate_of(0, &manifest);
    let head = net.head(&manifest, |_| ());
    net.filter = Box::new(|_, to, message| !(to == id(2) && matches!(message, ConsensusMessage::AckRequest { .. })));
    net.propose_head(0, &head, &before);
    net.settle();
    net.allow_seats(4);
    net.run_until(60, |net| net.nodes.iter().all(|node| node.core.roster().validators.len() == 4));
    net.run(5);
    let mut kinds = std::collections::BTreeMap::new();
    for (_, _, message) in net.sent {
        kinds.insert(codec::encode(&message)[0], message);
    }
    kinds.into_values().collect()
}

proptest! {
    // A case is a whole network; each tries every specimen with many mutations.
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn mutated_messages_never_panic_and_never_certify_what_does_not_verify(
        mutations in prop::collection::vec(
            prop::collection::vec((any::<prop::sample::Index>(), 1_u8..), 1..4), 16,
        ),
        from in 0_usize..6,
    ) {
        static SPECIMENS: OnceLock<Vec<ConsensusMessage>> = OnceLock::new();
        let (mut net, accept) = open();
        for (specimen, flips) in pairs(SPECIMENS.get_or_init(specimens), &mutations) {
            let original = codec::encode(specimen);
            let mut bytes = original.clone();
            for (index, mask) in flips {
                bytes[index.index(original.len())] ^= mask;
            }
            if let Some(message) = codec::decode(&bytes, 1 << 22).ok().filter(|_| bytes != original) {
                net.input(0, Input::Message { from: id(from), message });
                net.settle();
            }
        }
        let trust = GenesisFile { genesis: net.genesis.clone(), checkpoint: None };
        for file in net.certificates(0) {
            prop_assert!(certificate::verify(file, &trust, false).is_ok());
        }
        prop_assert!(told(&net).is_empty());
        prop_assert!(net.outcome(0, &accept.value) == Some(Outcome::Pending));
        prop_assert!(net.nodes[0].core.roster().epoch == 3);
    }
}

#[test]
fn the_chain_of_a_certificate_is_not_believed_but_replaced() {
    let mut net = Net::grown(5, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let mut file = net.certificates(0)[0].clone();
    file.chain = mynet_types::RosterChain::default();
    net.inject(1, 4, ConsensusMessage::Certified(Box::new(file)));
    let trust = GenesisFile { genesis: net.genesis.clone(), checkpoint: None };
    assert!(certificate::verify(net.certificates(4)[0], &trust, false).is_ok());
}

#[test]
fn every_kind_of_message_is_among_the_specimens_but_those_of_trouble() {
    let kinds: Vec<u8> = specimens().iter().map(|message| codec::encode(message)[0]).collect();
    // Abstain, RosterLocked and RosterLinksAfter need something to go wrong.
    for kind in [0, 1, 3, 4, 5, 6, 7, 9, 11, 15, 16, 17, 18, 19, 20, 21] {
        assert!(kinds.contains(&kind), "kind {kind} of {kinds:?}");
    }
}

#[test]
fn hostile_extremes_are_harmless() {
    let (mut net, accept) = open();
    let request = |epoch| {
        let leaving = BoundedVec::truncated([id(1), id(2), id(3), id(9)]);
        ConsensusMessage::KeyRequest { epoch, prev: accept.roster, leaving, newcomer: Some(id(1)) }
    };
    let extremes = [
        ConsensusMessage::RosterHead {
            epoch: u64::MAX,
            evidence: 0,
            wants_key: true,
            roster: RosterHash([0; 32]),
            owners: 0,
        },
        ConsensusMessage::RosterLinksAfter { epoch: u64::MAX },
        request(u64::MAX),
        request(0),
        ConsensusMessage::RosterLinks(BoundedVec::new()),
        request(accept.epoch + 1),
        ConsensusMessage::MyVotes { epoch: u64::MAX },
        ConsensusMessage::YourVotes { epoch: u64::MAX, votes: BoundedVec::new() },
        ConsensusMessage::Evidence(BoundedVec::new()),
    ];
    for message in extremes {
        net.inject(1, 0, message);
    }
    net.settle();
    assert_eq!(net.outcome(0, &accept.value), Some(Outcome::Pending));
}

/// Node `index` says yes and no to one value of node 0, which hears both.
pub(super) fn lie(net: &mut Net, index: usize) {
    let manifest = net.manifest(|manifest| manifest.placement_seed = [u8::try_from(index).unwrap(); 32]);
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let statement = accept_of(net, &manifest.body.hash());
    for verdict in [Verdict::Accept, Verdict::Reject] {
        net.inject(index, 0, vote(net, index, VoteStatement { verdict, ..statement }));
    }
    net.settle();
}

/// The yes to `value` in the newest epoch of node 0.
fn accept_of(net: &Net, value: &ManifestHash) -> VoteStatement {
    let roster = net.nodes[0].core.roster();
    VoteStatement {
        epoch: roster.epoch,
        roster: roster.hash(),
        phase: Phase::Vote,
        slot: attest_slot(value),
        value: *value,
        verdict: Verdict::Accept,
        claim: Claim::Seen,
        states: net.manifest(|_| ()).body.allowed(false),
    }
}

/// Yes and no of node `index`, put together.
fn evidence(net: &Net, index: usize, accept: VoteStatement) -> Evidence {
    let [yes, no] = [Verdict::Accept, Verdict::Reject].map(|verdict| {
        let ConsensusMessage::Vote(vote) = vote(net, index, VoteStatement { verdict, ..accept }) else {
            unreachable!()
        };
        vote
    });
    Evidence::of(&yes, &no).unwrap()
}

/// Whom each node knows to have lied.
pub(super) fn accused(net: &Net, index: usize) -> Vec<NodeId> {
    net.nodes[index].core.evidence().map(|(_, node)| node).collect()
}

fn is_evidence(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::Evidence(_))
}

#[test]
fn evidence_reaches_every_member_and_is_kept_over_restarts() {
    let mut net = Net::grown(5, 4);
    lie(&mut net, 1);
    for index in 0..5 {
        assert_eq!(accused(&net, index), [id(1)], "node {index}");
        assert_eq!(net.nodes[index].disk.restored.evidence.len(), 1, "node {index}");
    }
    net.crash(2);
    net.filter = Box::new(|_, _, message| !is_evidence(message));
    net.restart(2);
    assert_eq!(accused(&net, 2), [id(1)]);
}

#[test]
fn evidence_is_durable_before_it_is_passed_on() {
    let mut net = Net::grown(4, 4);
    net.disks_stall = true;
    let statement = accept_of(&net, &ManifestHash([3; 32]));
    let evidence = evidence(&net, 1, statement);
    net.inject(3, 0, ConsensusMessage::Evidence(BoundedVec::truncated([evidence])));
    assert!(!net.sent.iter().any(|(_, _, message)| is_evidence(message)));
    net.disks_stall = false;
    net.settle();
    assert!(net.sent.iter().any(|(_, _, message)| is_evidence(message)));
}

#[test]
fn whoever_missed_evidence_is_given_it_with_the_next_heads() {
    let mut net = Net::grown(5, 4);
    net.filter = Box::new(|_, to, message| to != id(4) || !is_evidence(message));
    lie(&mut net, 1);
    assert_eq!(accused(&net, 4), []);
    net.filter = Box::new(|_, _, _| true);
    net.run_until(30, |net| accused(net, 4) == [id(1)]);
}

#[test]
fn evidence_of_an_epoch_not_known_yet_comes_after_its_links() {
    let mut net = Net::grown(5, 4);
    let newcomer = net.nodes[4].disk.clone();
    lie(&mut net, 1);
    net.crash(4);
    net.nodes[4].disk = newcomer;
    net.nodes[4].disk.restored.links.truncate(1);
    net.restart(4);
    assert_eq!((net.nodes[4].core.roster().epoch, accused(&net, 4).len()), (1, 0));
    net.run_until(30, |net| accused(net, 4) == [id(1)]);
}

#[test]
fn one_liar_costs_one_record_and_one_round_however_often_it_lies() {
    let mut net = Net::grown(4, 4);
    let twice = |value: u8| {
        let statement = accept_of(&net, &ManifestHash([value; 32]));
        evidence(&net, 1, statement)
    };
    let lies: Vec<Evidence> = (0..50).map(twice).collect();
    lie(&mut net, 1);
    net.clear();
    for lie in lies {
        net.inject(1, 2, ConsensusMessage::Evidence(BoundedVec::truncated([lie])));
    }
    net.settle();
    assert!(!net.sent.iter().any(|(_, _, message)| is_evidence(message)));
    assert_eq!(net.nodes[2].disk.restored.evidence.len(), 1);
}

#[test]
fn slander_is_neither_kept_nor_passed_on() {
    let mut net = Net::grown(4, 4);
    let statement = accept_of(&net, &ManifestHash([3; 32]));
    let reject = VoteStatement { verdict: Verdict::Reject, ..statement };
    // Node 1 signs both, and says that node 2's seat did.
    let signed = |statement| {
        let ConsensusMessage::Vote(vote) = vote(&net, 1, statement) else { unreachable!() };
        Vote { seat: u16::try_from(net.seat_of(2)).unwrap(), ..vote }
    };
    let slander = Evidence::of(&signed(statement), &signed(reject)).unwrap();
    net.inject(1, 0, ConsensusMessage::Evidence(BoundedVec::truncated([slander])));
    net.settle();
    assert_eq!(accused(&net, 0), []);
    assert!(!net.sent.iter().any(|(_, _, message)| is_evidence(message)));
}

#[test]
fn a_certificate_with_the_other_verdict_completes_the_evidence() {
    let (mut net, accept) = open();
    for index in [1, 2] {
        net.inject(index, 0, vote(&net, index, accept));
    }
    net.settle();
    let file = net.certificates(0)[0].clone();
    // Node 3 has proposed the same value, and was told a no by node 1.
    let manifest = net.manifest(|_| ());
    net.propose(3, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    net.inject(1, 3, vote(&net, 1, VoteStatement { verdict: Verdict::Reject, ..accept }));
    net.inject(0, 3, ConsensusMessage::Certified(Box::new(file)));
    assert_eq!(accused(&net, 3), [id(1)]);
}

#[test]
fn a_peer_cannot_draw_evidence_without_end_and_a_stranger_none() {
    let mut net = Net::grown(5, 4);
    lie(&mut net, 1);
    net.run(5);
    net.clear();
    let (epoch, roster) = (net.nodes[0].core.roster().epoch, net.nodes[0].core.roster().hash());
    let head = ConsensusMessage::RosterHead { epoch, evidence: 0, wants_key: false, roster, owners: 0 };
    for _ in 0..20 {
        net.inject(4, 0, head.clone());
        net.inject(9, 0, head.clone());
    }
    let given = |to: usize| net.sent.iter().filter(|(_, who, message)| *who == id(to) && is_evidence(message)).count();
    assert_eq!((given(4), given(9)), (1, 0));
}
