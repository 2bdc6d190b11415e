//! Contradicting votes are reported, and nothing that a peer says makes the core fail.

use std::sync::OnceLock;

use mynet_types::{
    BoundedVec, Claim, ConsensusMessage, Domain, GenesisFile, ProposalId, SlotKey, Verdict, Vote, VoteStatement,
    certificate, codec, signing,
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

fn vote(net: &Net, index: usize, statement: VoteStatement) -> ConsensusMessage {
    let signature = signing::sign_as(Domain::Vote, &net.genesis.network_id(), &statement, &net.vote_key(index));
    let seat = u16::try_from(net.seat_of(index)).unwrap();
    ConsensusMessage::Vote(Vote { statement, seat, signature, proposal_id: ProposalId([0; 32]), reason: None })
}

fn equivocations(net: &Net) -> Vec<(Vote, Vote)> {
    let pair = |event: &Event| match event {
        Event::Equivocation { first, second } => Some(((**first).clone(), (**second).clone())),
        _ => None,
    };
    net.nodes[0].events.iter().filter_map(pair).collect()
}

#[test]
fn yes_and_no_of_one_seat_are_evidence_once() {
    let (mut net, accept) = open();
    let reject = VoteStatement { verdict: Verdict::Reject, ..accept };
    for statement in [accept, reject, reject, accept] {
        net.inject(1, 0, vote(&net, 1, statement));
    }
    let found = equivocations(&net);
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0.statement, found[0].1.statement), (accept, reject));
    for evidence in [&found[0].0, &found[0].1] {
        evidence.verify(&net.genesis.network_id(), net.nodes[0].core.roster()).unwrap();
    }
    assert_eq!(net.tally(0, &accept.value).accepts, 2, "its own and the first of the two");
}

#[test]
fn two_values_in_one_slot_are_evidence() {
    let (mut net, accept) = open();
    let other = VoteStatement { value: mynet_types::ManifestHash([9; 32]), ..accept };
    net.inject(1, 0, vote(&net, 1, accept));
    net.inject(1, 0, vote(&net, 1, other));
    assert_eq!(equivocations(&net).len(), 1);
}

#[test]
fn two_claims_about_one_value_are_no_evidence() {
    let (mut net, accept) = open();
    net.inject(1, 0, vote(&net, 1, accept));
    net.inject(1, 0, vote(&net, 1, VoteStatement { claim: Claim::Durable, ..accept }));
    net.inject(2, 0, vote(&net, 2, VoteStatement { verdict: Verdict::Reject, ..accept }));
    assert!(equivocations(&net).is_empty());
}

#[test]
fn evidence_is_found_after_the_decision_too() {
    let (mut net, accept) = open();
    for index in 1..4 {
        net.inject(index, 0, vote(&net, index, accept));
    }
    assert_eq!(net.outcome(0, &accept.value), Some(Outcome::Approved));
    net.inject(1, 0, vote(&net, 1, VoteStatement { verdict: Verdict::Reject, ..accept }));
    assert_eq!(equivocations(&net).len(), 1);
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
    assert!(equivocations(&net).is_empty());
}

/// Every one of `a` with every one of `b`.
fn pairs<'a, A, B>(a: &'a [A], b: &'a [B]) -> impl Iterator<Item = (&'a A, &'a B)> {
    a.iter().flat_map(move |one| b.iter().map(move |other| (one, other)))
}

/// One of every kind of message, as a grown network really sends them.
fn specimens() -> Vec<ConsensusMessage> {
    let mut net = Net::new(4, crate::consensus::io::Config::default(), false);
    net.run_until(60, |net| net.nodes[0].core.roster().validators.len() == 4);
    let manifest = net.manifest(|manifest| manifest.placement_seed = [77; 32]);
    net.propose(0, &manifest, Claim::Durable, net.receipts(&[1, 2], &manifest));
    net.run(2);
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
        prop_assert!(equivocations(&net).is_empty());
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
    for kind in [0, 1, 3, 4, 5, 6, 7, 9, 11] {
        assert!(kinds.contains(&kind), "kind {kind} of {kinds:?}");
    }
}

#[test]
fn hostile_extremes_are_harmless() {
    let (mut net, accept) = open();
    let extremes = [
        ConsensusMessage::RosterHead { epoch: u64::MAX },
        ConsensusMessage::RosterLinksAfter { epoch: u64::MAX },
        ConsensusMessage::KeyRequest { epoch: u64::MAX, prev: accept.roster },
        ConsensusMessage::KeyRequest { epoch: 0, prev: accept.roster },
        ConsensusMessage::RosterLinks(BoundedVec::new()),
    ];
    for message in extremes {
        net.inject(1, 0, message);
    }
    net.settle();
    assert_eq!(net.outcome(0, &accept.value), Some(Outcome::Pending));
}
