//! The roster changes for a reason, and only for one that each seat sees itself: lies, approvals, lost keys, long absence.

use std::{collections::BTreeSet, time::Duration};

use mynet_types::{BoundedVec, ConsensusMessage, NodeId, Roster, RosterHash, SignedRosterKey};

use super::{
    evidence::lie,
    kit::{Net, id},
};
use crate::consensus::io::{Config, Input};

/// Who sits in the newest roster that node `of` knows, as indices.
fn seated(net: &Net, of: usize) -> BTreeSet<usize> {
    (0..net.nodes.len()).filter(|index| net.nodes[of].core.roster().seat_of(&id(*index)).is_some()).collect()
}

fn epoch(net: &Net) -> u64 {
    net.nodes[0].core.roster().epoch
}

fn approve(net: &mut Net, by: &[usize], who: usize) {
    for index in by {
        net.input(*index, Input::Approve(id(who)));
    }
    net.settle();
}

/// `count` nodes of which `seats` have a seat; from then on it grows by itself up to four only.
fn grown(count: usize, seats: usize, change: impl FnOnce(&mut Config)) -> Net {
    let mut net = Net::grown(count, seats);
    change(&mut net.config);
    net.config.automatic_validators = 4;
    for index in 0..count {
        net.crash(index);
    }
    for index in 0..count {
        net.restart(index);
    }
    net.run(2);
    net.clear();
    net
}

#[test]
fn a_liar_loses_its_seat_and_comes_back_only_by_approval() {
    let mut net = grown(4, 4, |_| ());
    lie(&mut net, 1);
    net.run_until(60, |net| (0..4).all(|index| seated(net, index) == [0, 2, 3].into()));
    net.run(120);
    assert_eq!(seated(&net, 0), [0, 2, 3].into(), "three may grow to four by themselves, but not by a liar");
    approve(&mut net, &[0, 2], 1);
    net.run(60);
    assert_eq!(seated(&net, 0), [0, 2, 3].into(), "of three seats all must agree");
    approve(&mut net, &[3], 1);
    net.run_until(60, |net| seated(net, 0) == [0, 1, 2, 3].into());
    assert!(net.nodes[1].core.may_vote());
    net.run(60);
    assert_eq!(seated(&net, 0), [0, 1, 2, 3].into(), "it is no ban for life: the old lie has had its effect");
}

#[test]
fn a_liar_holds_up_the_roster_that_removes_it_with_no_request_of_its_own() {
    let mut net = grown(4, 4, |_| ());
    // The lowest seat, which goes before all others with whom a promise is.
    let liar = net.at_seat(0);
    let honest: BTreeSet<usize> = (0..4).filter(|index| *index != liar).collect();
    lie(&mut net, liar);
    // Its own core would propose the roster that removes it.
    net.filter = Box::new(move |from, _, _| from != id(liar));
    for _ in 0..60 {
        let roster = net.nodes[liar].core.roster();
        let (epoch, prev) = (roster.epoch + 1, roster.hash());
        for to in &honest {
            let leaving = BoundedVec::truncated([id(*to)]);
            net.inject(liar, *to, ConsensusMessage::KeyRequest { epoch, prev, leaving, newcomer: None });
        }
        net.run(1);
    }
    assert!(honest.iter().all(|index| seated(&net, *index) == honest), "{:?}", seated(&net, 0));
}

#[test]
fn an_honest_node_takes_the_place_of_a_liar_by_itself() {
    let mut net = grown(5, 4, |_| ());
    lie(&mut net, 2);
    net.run_until(60, |net| (0..5).all(|index| seated(net, index) == [0, 1, 3, 4].into()));
}

#[test]
fn a_roster_of_three_keeps_its_liar() {
    let mut net = grown(3, 3, |_| ());
    let before = epoch(&net);
    lie(&mut net, 1);
    net.run(120);
    assert_eq!((epoch(&net), seated(&net, 0)), (before, [0, 1, 2].into()));
}

#[test]
fn a_fifth_seat_needs_the_approval_of_a_quorum_of_operators() {
    let mut net = grown(5, 4, |_| ());
    let before = epoch(&net);
    approve(&mut net, &[0, 2], 4);
    net.run(120);
    assert_eq!(epoch(&net), before);
    let locked = net.nodes.iter().any(|node| node.disk.restored.lock.is_some());
    assert!(!locked, "who is locked on what too few will sign can sign nothing else");
    // The approval is on disk: a restart does not lose it.
    net.crash(2);
    net.restart(2);
    approve(&mut net, &[3], 4);
    net.run_until(60, |net| (0..5).all(|index| seated(net, index).len() == 5));
    net.settle();
    for index in 0..4 {
        assert_eq!(net.nodes[index].disk.restored.approved, [], "an approval counts once");
    }
}

#[test]
fn an_approval_of_a_seat_is_nothing_and_evidence_undoes_an_earlier_one() {
    let mut net = grown(5, 4, |_| ());
    approve(&mut net, &[0, 1, 2, 3], 1);
    assert_eq!(net.nodes[0].core.approved().count(), 0, "it has a seat");
    lie(&mut net, 1);
    net.run_until(60, |net| seated(net, 0) == [0, 2, 3, 4].into());
    approve(&mut net, &[0, 2, 3], 1);
    assert_eq!(net.nodes[0].core.approved().collect::<Vec<_>>(), [id(1)]);
    // Another lie of the same node, of an earlier epoch, comes to light.
    let record = net.nodes[0].disk.restored.evidence[0];
    net.crash(2);
    net.nodes[2].disk.restored.evidence.clear();
    net.restart(2);
    assert_eq!(net.nodes[2].core.approved().collect::<Vec<_>>(), [id(1)]);
    net.inject(0, 2, ConsensusMessage::Evidence(BoundedVec::truncated([record])));
    net.settle();
    assert_eq!((net.nodes[2].core.approved().count(), net.nodes[2].disk.restored.approved.len()), (0, 0));
}

#[test]
fn a_seat_that_lost_its_store_gets_a_fresh_key_by_a_new_epoch_and_not_without_end() {
    let interval = Duration::from_secs(600);
    let mut net = grown(4, 4, |config| config.renewal_interval = interval);
    for _once_and_again in 0..2 {
        let before = epoch(&net);
        net.lose_store(1);
        net.run_until(60, |net| net.nodes[1].core.may_vote());
        assert_eq!((epoch(&net), seated(&net, 0)), (before + 1, [0, 1, 2, 3].into()));
        net.settle();
        assert_eq!(net.keys(1).len(), 1);
    }
    let before = epoch(&net);
    net.lose_store(1);
    net.run(300);
    assert_eq!(epoch(&net), before, "one that loses its key without end does not fill the chain");
    net.run_until(600, |net| net.nodes[1].core.may_vote());
    assert_eq!(epoch(&net), before + 1);
}

#[test]
fn a_key_that_was_lost_on_its_way_into_a_roster_is_made_up_for_at_once() {
    let mut net = grown(5, 4, |_| ());
    net.config.automatic_validators = 5;
    for index in 0..5 {
        net.crash(index);
    }
    for index in 0..5 {
        net.restart(index);
    }
    // The next roster is signed and held up, the key of node 1 in it.
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. }));
    net.run_until(60, |net| [0, 2, 3].iter().all(|index| net.nodes[*index].disk.restored.lock.is_some()));
    let before = epoch(&net);
    net.lose_store(1);
    // Everybody hears that it lacks a key before the roster comes.
    net.run(10);
    assert_eq!(epoch(&net), before);
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.nodes.iter().all(|node| node.core.roster().validators.len() == 5));
    assert!(!net.nodes[1].core.may_vote(), "that key is lost");
    net.run_until(60, |net| net.nodes[1].core.may_vote());
    assert_eq!(epoch(&net), before + 2);
}

#[test]
fn an_absent_seat_is_left_out_only_for_a_reason_and_only_after_long() {
    let mut net = grown(6, 5, |config| config.seat_patience = Duration::from_secs(300));
    let before = epoch(&net);
    net.crash(1);
    net.run(900);
    assert_eq!(epoch(&net), before, "being away costs nobody a seat");
    net.restart(1);
    net.run(5);
    approve(&mut net, &[0, 2, 3, 4], 5);
    net.crash(1);
    net.run(200);
    assert_eq!(epoch(&net), before, "it may only be starting again");
    net.run_until(300, |net| seated(net, 0) == [0, 2, 3, 4, 5].into());
    assert_eq!(epoch(&net), before + 2, "one change each");
    net.restart(1);
    net.run(60);
    assert_eq!(seated(&net, 0), [0, 2, 3, 4, 5].into(), "beyond four it comes back by approval");
    assert_eq!(seated(&net, 1), [0, 2, 3, 4, 5].into());
}

#[test]
fn from_four_seats_an_absent_one_goes_only_on_the_word_of_operators() {
    let mut net = grown(5, 4, |config| config.seat_patience = Duration::from_secs(60));
    net.crash(1);
    net.run(300);
    assert_eq!(seated(&net, 0), [0, 1, 2, 3].into());
    approve(&mut net, &[0, 2, 3], 4);
    net.run_until(120, |net| seated(net, 0) == [0, 2, 3, 4].into());
}

#[test]
fn absence_never_costs_tolerance_without_a_word() {
    let mut net = grown(7, 7, |config| config.seat_patience = Duration::from_secs(60));
    let before = epoch(&net);
    net.crash(1);
    net.run(120);
    // One seat needs a fresh key: a reason to change, but seven tolerate two and six tolerate one.
    net.lose_store(2);
    net.run(120);
    assert_eq!(epoch(&net), before);
    net.restart(1);
    net.run_until(60, |net| net.nodes[2].core.may_vote());
    assert_eq!(seated(&net, 0).len(), 7);
}

/// The keys that everybody offers to the holder of seat `from`, asked for with a change.
fn offers(net: &mut Net, from: usize, leaving: &[NodeId], newcomer: Option<NodeId>) -> Vec<(SignedRosterKey, bool)> {
    net.clear();
    let roster = net.nodes[0].core.roster().clone();
    let request = ConsensusMessage::KeyRequest {
        epoch: roster.epoch + 1,
        prev: roster.hash(),
        leaving: BoundedVec::truncated(leaving.iter().copied()),
        newcomer,
    };
    for index in 0..net.nodes.len() {
        net.inject(from, index, request.clone());
    }
    net.settle();
    let offer = |(_, _, message): &(NodeId, NodeId, ConsensusMessage)| match message {
        ConsensusMessage::KeyOffer { offer, agrees } => Some((*offer, *agrees)),
        _ => None,
    };
    net.sent.iter().filter_map(offer).collect()
}

/// Who signs, as an old seat, a roster of the given offers that the holder of seat 0 proposes.
fn signers(net: &mut Net, from: usize, mut keys: Vec<SignedRosterKey>) -> BTreeSet<NodeId> {
    keys.sort_by_key(|offer| offer.body.seat);
    let newest = net.nodes[0].core.roster().clone();
    let next = Roster {
        epoch: newest.epoch + 1,
        prev: newest.hash(),
        validators: BoundedVec::truncated(keys.iter().map(|offer| offer.body.seat)),
        ..newest
    };
    // What every seat would report while nothing was acked.
    let report = |seat: usize| {
        let index = net.at_seat(seat);
        let statement = mynet_types::CloseStatement {
            epoch: next.epoch - 1,
            roster: next.prev,
            seat: u16::try_from(seat).unwrap(),
            root: [0; 32],
            count: 0,
        };
        mynet_types::CloseReport::new(&net.genesis.network_id(), statement, &net.vote_key(index))
    };
    let seats = net.nodes[0].core.roster().validators.len();
    let reports = mynet_types::wire::CloseReports::truncated(
        (0..seats).filter(|seat| net.keys(net.at_seat(*seat)).contains_key(&(next.epoch - 1))).map(report),
    );
    net.clear();
    let hash: RosterHash = next.hash();
    for index in 0..net.nodes.len() {
        let (roster, keys) = (Box::new(next.clone()), BoundedVec::truncated(keys.iter().cloned()));
        let admissions = BoundedVec::new();
        net.inject(from, index, ConsensusMessage::RosterPropose { roster, keys, admissions, reports: reports.clone() });
    }
    net.settle();
    let signed = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterVote { roster, old: Some(_), .. } if *roster == hash);
    net.sent.iter().filter(|(_, _, message)| signed(message)).map(|(from, ..)| *from).collect()
}

/// What a proposer in bad faith asks for, and how many of the other seats agree and sign.
fn agreement(leaving: &[usize], newcomer: Option<usize>, lying: Option<usize>) -> (usize, usize) {
    let mut net = grown(6, 5, |_| ());
    if let Some(liar) = lying {
        net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::KeyRequest { .. }));
        lie(&mut net, liar);
        net.filter = Box::new(|_, _, _| true);
    }
    let from = net.at_seat(0);
    let leaving: Vec<NodeId> = leaving.iter().map(|seat| id(net.at_seat(*seat))).collect();
    let newcomer = newcomer.map(id);
    let offers = offers(&mut net, from, &leaving, newcomer);
    let agreed = offers.iter().filter(|(_, agrees)| *agrees).count();
    let sits = |node: &NodeId| Some(*node) == newcomer || (*node != id(5) && !leaving.contains(node));
    let own = net.nodes[from].core.roster().epoch + 1;
    let own = net.nodes[from].disk.restored.keys.get(&own).cloned();
    let mut keys: Vec<_> =
        offers.into_iter().map(|(offer, _)| offer).filter(|offer| sits(&offer.body.seat.node)).collect();
    // What the proposer offers itself never leaves it.
    if let Some(secret) = own {
        let key = ed25519_dalek::SigningKey::from_bytes(&secret.0);
        let seat =
            mynet_types::Validator { vote_key: mynet_types::VoteKey(key.verifying_key().to_bytes()), node: id(from) };
        let newest = net.nodes[from].core.roster();
        let body = mynet_types::RosterKey { epoch: newest.epoch + 1, prev: newest.hash(), seat };
        keys.push(mynet_types::Signed::new(&net.genesis.network_id(), body, &super::kit::key(from)));
    }
    (agreed, signers(&mut net, from, keys).len())
}

#[test]
fn no_seat_signs_a_change_that_it_sees_no_reason_for() {
    assert_eq!(agreement(&[], None, None), (0, 0), "fresh keys for nothing");
    assert_eq!(agreement(&[2], None, None), (0, 0), "an honest seat that is there");
    assert_eq!(agreement(&[], Some(5), None), (0, 0), "somebody whom nobody approved");
    assert_eq!(agreement(&[2], Some(5), None), (0, 0), "two changes at once");
}

#[test]
fn a_seat_signs_the_change_that_it_sees_a_reason_for() {
    let liar = grown(6, 5, |_| ()).at_seat(3);
    let (agreed, signed) = agreement(&[3], None, Some(liar));
    // Four others and the liar, which offers its key to nobody's use; the proposer's own answer does not leave it.
    assert!(agreed >= 3, "{agreed} agree");
    assert!(signed >= 3, "{signed} sign");
}
