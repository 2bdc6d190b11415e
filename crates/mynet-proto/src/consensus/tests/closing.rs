//! The end of an epoch: what is carried into the next one, and that nothing else is certified there.

use std::collections::BTreeSet;

use mynet_types::{
    AbstainReason, CertificateFile, CloseReport, CloseStatement, ConsensusMessage, NodeId, Phase, SignedManifest,
    head::ACKED_PER_PAGE_MAX, wire::Receipts,
};

use super::kit::{Net, id};
use crate::consensus::io::{Config, Outcome};

/// A network of `count` nodes, three of them with seats, a certified first version and a second one.
fn three(count: usize) -> (Net, CertificateFile, SignedManifest) {
    let mut net = Net::grown(count, 3);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let second = net.head(&first, |_| ());
    net.clear();
    (net, before, second)
}

fn sizes(net: &Net) -> BTreeSet<usize> {
    net.nodes.iter().filter(|node| !node.down).map(|node| node.core.roster().validators.len()).collect()
}

fn grow(net: &mut Net, seats: usize) {
    net.allow_seats(seats);
    net.run_until(120, |net| sizes(net) == [seats].into());
    net.settle();
}

fn abstained(net: &Net, index: usize) -> BTreeSet<Reason> {
    let why = |open: crate::consensus::OpenValue| open.abstained.into_iter().map(|(_, why)| why).collect::<Vec<_>>();
    net.nodes[index].core.open_values().flat_map(why).map(Reason::from).collect()
}

/// The reasons that matter here, in an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Locked,
    Closed,
    HeadUnproven,
    EpochUnknown,
    Other,
}

impl From<AbstainReason> for Reason {
    fn from(reason: AbstainReason) -> Self {
        match reason {
            AbstainReason::Locked => Self::Locked,
            AbstainReason::Closed => Self::Closed,
            AbstainReason::HeadUnproven => Self::HeadUnproven,
            AbstainReason::EpochUnknown => Self::EpochUnknown,
            _ => Self::Other,
        }
    }
}

fn is_ack(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::Vote(vote) if vote.statement.phase == Phase::Ack)
}

fn reports(net: &Net, from: usize) -> Vec<CloseReport> {
    let report = |message: &ConsensusMessage| {
        if let ConsensusMessage::CloseReport(report) = message { Some(report.clone()) } else { None }
    };
    net.sent.iter().filter(|(sender, ..)| *sender == id(from)).filter_map(|(.., message)| report(message)).collect()
}

#[test]
fn growth_without_heads_costs_one_round_more_and_carries_nothing() {
    let mut net = Net::grown(4, 3);
    net.allow_seats(4);
    net.clear();
    net.run_until(60, |net| sizes(net) == [4].into());
    let count = |kind: fn(&ConsensusMessage) -> bool| net.sent.iter().filter(|(.., message)| kind(message)).count();
    // One of the three seats is the proposer itself.
    assert_eq!(count(|message| matches!(message, ConsensusMessage::CloseRequest { .. })), 2);
    assert_eq!(count(|message| matches!(message, ConsensusMessage::CloseReport(_))), 2);
    assert_eq!(count(|message| matches!(message, ConsensusMessage::AckedAfter { .. })), 0);
    assert_eq!(count(|message| matches!(message, ConsensusMessage::CarriedAfter { .. })), 0);
    let newest = net.nodes[0].core.roster();
    assert_eq!((newest.close_set_root, newest.close_count), ([0; 32], 0));
}

#[test]
fn what_is_final_is_carried_over_every_epoch_and_holds_its_place() {
    let (mut net, before, second) = three(5);
    net.propose_head(0, &second, &before);
    net.settle();
    let file = net.certificate_of(0, &second);
    for seats in [4, 5] {
        grow(&mut net, seats);
        assert_eq!(net.nodes[0].core.roster().close_count, 1, "{seats} seats");
    }
    let rival = net.head(&before.manifest, |manifest| manifest.replicas += 1);
    let above_rival = net.head(&rival, |_| ());
    net.propose_head(1, &rival, &before);
    net.propose_head(2, &above_rival, &before);
    net.run(5);
    assert_eq!(abstained(&net, 1), [Reason::Locked].into());
    assert_eq!(abstained(&net, 2), [Reason::HeadUnproven].into(), "what is before it is not certified");
    // The same value may be certified once more, and the next one on top of it.
    net.nodes[3].disk.restored.proposals.clear();
    net.crash(3);
    net.restart(3);
    net.propose_head(3, &second, &before);
    net.run_until(30, |net| net.outcome(3, &second.body.hash()) == Some(Outcome::Approved));
    let third = net.head(&second, |_| ());
    net.propose_head(4, &third, &file);
    net.run_until(30, |net| net.outcome(0, &third.body.hash()) == Some(Outcome::Approved));
}

#[test]
fn a_version_takes_the_place_of_the_one_before() {
    let (mut net, before, second) = three(4);
    let third = net.head(&second, |_| ());
    net.propose_head(0, &second, &before);
    net.settle();
    let file = net.certificate_of(0, &second);
    net.propose_head(1, &third, &file);
    net.settle();
    grow(&mut net, 4);
    let carried = &net.nodes[3].disk.restored.carried;
    assert_eq!(carried.len(), 1);
    assert_eq!((carried[0].version, carried[0].value), (3, third.body.hash()));
    net.propose_head(2, &second, &before);
    net.run(5);
    assert_eq!(abstained(&net, 2), [Reason::Locked].into(), "versions before it are over");
}

#[test]
fn a_value_that_one_seat_acked_is_carried_although_it_is_not_certified() {
    let (mut net, before, second) = three(4);
    net.filter = Box::new(|_, to, message| {
        !(is_ack(message) || to != id(1) && matches!(message, ConsensusMessage::AckRequest { .. }))
    });
    net.propose_head(0, &second, &before);
    net.settle();
    net.crash(0);
    net.nodes[0].disk.restored.proposals.clear();
    net.restart(0);
    assert!(net.certificates(0).is_empty());
    grow(&mut net, 4);
    net.filter = Box::new(|_, _, _| true);
    assert_eq!(net.nodes[3].disk.restored.carried[0].value, second.body.hash());
    let rival = net.head(&before.manifest, |manifest| manifest.replicas += 1);
    net.propose_head(1, &rival, &before);
    net.run(60);
    assert_eq!(net.outcome(1, &rival.body.hash()), Some(Outcome::Undecided));
    net.propose_head(2, &second, &before);
    net.run_until(30, |net| net.outcome(2, &second.body.hash()) == Some(Outcome::Approved));
}

#[test]
fn locks_that_came_to_nothing_end_with_their_epoch() {
    let (mut net, before, one) = three(4);
    let other = net.head(&before.manifest, |manifest| manifest.replicas += 1);
    // Each of the two has a vote that the other lacks.
    net.filter = Box::new(|from, to, message| !matches!(message, ConsensusMessage::Propose { .. }) || from == to);
    net.propose_head(0, &one, &before);
    net.propose_head(1, &other, &before);
    net.settle();
    net.filter = Box::new(|_, _, _| true);
    net.run(60);
    assert_eq!(net.outcome(0, &one.body.hash()), Some(Outcome::Undecided));
    net.crash(1);
    net.nodes[1].disk.restored.proposals.clear();
    net.restart(1);
    grow(&mut net, 4);
    net.run_until(60, |net| net.outcome(0, &one.body.hash()) == Some(Outcome::Approved));
}

/// A network that closed its epoch and whose next roster nobody gets.
fn closed() -> (Net, CertificateFile, SignedManifest) {
    let (mut net, before, second) = three(4);
    net.allow_seats(4);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterPropose { .. }));
    net.run_until(60, |net| (0..3).all(|index| net.nodes[index].disk.restored.closed.is_some()));
    net.settle();
    (net, before, second)
}

#[test]
fn a_closed_epoch_signs_no_heads_but_goes_on_with_attestations() {
    let (mut net, before, second) = closed();
    assert_eq!(sizes(&net), [3].into());
    net.propose_head(0, &second, &before);
    let first = net.manifest(|manifest| manifest.placement_seed = [9; 32]);
    net.propose(1, &first, mynet_types::Claim::Seen, Receipts::new());
    net.settle();
    assert_eq!(abstained(&net, 0), [Reason::Closed].into());
    assert_eq!(net.outcome(1, &first.body.hash()), Some(Outcome::Approved));
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.outcome(0, &second.body.hash()) == Some(Outcome::Approved));
    assert_eq!(sizes(&net), [4].into(), "in the next epoch");
}

#[test]
fn a_closed_epoch_stays_closed_over_a_restart_with_the_same_report() {
    let (mut net, before, second) = closed();
    let reporter = (0..3).find(|index| !reports(&net, *index).is_empty()).unwrap();
    let report = reports(&net, reporter).remove(0);
    for index in 0..4 {
        net.crash(index);
        net.restart(index);
    }
    net.clear();
    net.propose_head(0, &second, &before);
    net.run(30);
    assert_eq!(abstained(&net, 0), [Reason::Closed].into());
    let again = reports(&net, reporter);
    assert!(!again.is_empty() && again.iter().all(|again| *again == report));
}

#[test]
fn a_quorum_that_comes_after_the_close_is_not_acked() {
    let (mut net, before, second) = three(4);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::AckRequest { .. }));
    net.propose_head(0, &second, &before);
    net.settle();
    let is = |message: &ConsensusMessage| matches!(message, ConsensusMessage::AckRequest { .. });
    let request = net.sent.iter().find(|(.., message)| is(message)).unwrap().2.clone();
    net.filter = Box::new(|_, _, message| {
        !matches!(message, ConsensusMessage::RosterPropose { .. } | ConsensusMessage::AckRequest { .. })
    });
    net.allow_seats(4);
    net.run_until(60, |net| (0..3).all(|index| net.nodes[index].disk.restored.closed.is_some()));
    net.settle();
    net.clear();
    net.inject(0, 1, request);
    net.settle();
    assert!(!net.sent.iter().any(|(from, _, message)| *from == id(1) && is_ack(message)));
    // Only the proposer, which asked itself, had acked it.
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| sizes(net) == [4].into());
    assert_eq!(net.nodes[0].core.roster().close_count, 1);
}

#[test]
fn a_newcomer_signs_no_heads_before_it_has_the_close_set() {
    let (mut net, before, second) = three(4);
    net.propose_head(0, &second, &before);
    net.settle();
    let file = net.certificate_of(0, &second);
    let lost = |to| {
        move |message: &ConsensusMessage, receiver| {
            receiver == to && matches!(message, ConsensusMessage::Carried { .. })
        }
    };
    let lost = lost(id(3));
    net.filter = Box::new(move |_, to, message| !lost(message, to));
    grow(&mut net, 4);
    let third = net.head(&second, |_| ());
    // Three of four are enough, so the newcomer must be one of them.
    net.crash(2);
    net.propose_head(0, &third, &file);
    net.run(10);
    assert_eq!(abstained(&net, 0), [Reason::EpochUnknown].into());
    assert!(net.nodes[3].disk.restored.carried.is_empty());
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.outcome(0, &third.body.hash()) == Some(Outcome::Approved));
    assert_eq!(net.nodes[3].disk.restored.carried[0].value, second.body.hash());
}

#[test]
fn a_close_set_that_leaves_something_out_is_not_signed() {
    let (mut net, before, second) = three(4);
    net.propose_head(0, &second, &before);
    net.settle();
    let is_propose = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterPropose { .. });
    net.allow_seats(4);
    net.filter = Box::new(move |_, to, message| !is_propose(message) || to == id(3));
    net.run_until(60, |net| net.sent.iter().any(|(_, to, message)| *to != id(3) && is_propose(message)));
    let (from, to, right) =
        net.sent.iter().find(|(_, to, message)| *to != id(3) && is_propose(message)).unwrap().clone();
    let index = |node| (0..4).find(|index| id(*index) == node).unwrap();
    let (from, to) = (index(from), index(to));
    let signs = |net: &mut Net, change: &dyn Fn(&mut mynet_types::Roster, &mut Vec<CloseReport>)| {
        let ConsensusMessage::RosterPropose { mut roster, keys, admissions, reports } = right.clone() else {
            unreachable!()
        };
        let mut reports = reports.into_vec();
        change(&mut roster, &mut reports);
        let reports = reports.try_into().unwrap();
        net.clear();
        // Twice, because what is behind the reports may have to be fetched.
        for _ in 0..2 {
            let (roster, keys, admissions) = (roster.clone(), keys.clone(), admissions.clone());
            net.inject(
                from,
                to,
                ConsensusMessage::RosterPropose { roster, keys, admissions, reports: reports_of(&reports) },
            );
            net.settle();
        }
        net.nodes[to].disk.restored.lock.is_some()
    };
    fn reports_of(reports: &mynet_types::wire::CloseReports) -> mynet_types::wire::CloseReports {
        reports.clone()
    }
    assert!(!signs(&mut net, &|roster, _| (roster.close_set_root, roster.close_count) = ([0; 32], 0)));
    assert!(!signs(&mut net, &|roster, _| roster.close_set_root[0] ^= 1));
    assert!(!signs(&mut net, &|roster, _| roster.close_count += 1));
    assert!(!signs(&mut net, &|_, reports| reports.truncate(2)));
    assert!(!signs(&mut net, &|_, reports| reports.swap(0, 1)));
    assert!(!signs(&mut net, &|roster, reports| {
        reports.iter_mut().for_each(|report| (report.statement.root, report.statement.count) = ([0; 32], 0));
        (roster.close_set_root, roster.close_count) = ([0; 32], 0);
    }));
    assert!(signs(&mut net, &|_, _| ()), "nothing else was wrong");
}

#[test]
fn the_close_set_survives_when_everybody_restarts_between_lock_and_link() {
    let (mut net, before, second) = three(4);
    net.propose_head(0, &second, &before);
    net.settle();
    net.allow_seats(4);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. }));
    net.run_until(60, |net| (0..3).all(|index| net.nodes[index].disk.restored.lock.is_some()));
    assert!((0..3).all(|index| net.nodes[index].disk.restored.carried_next.len() == 1));
    for index in 0..4 {
        net.crash(index);
    }
    for index in 0..4 {
        net.restart(index);
    }
    net.filter = Box::new(|_, _, _| true);
    net.run_until(120, |net| sizes(net) == [4].into());
    net.run(30);
    for index in 0..4 {
        assert_eq!(net.nodes[index].disk.restored.carried[0].value, second.body.hash(), "node {index}");
    }
}

#[test]
fn another_seat_goes_on_with_the_close_when_its_proposer_and_the_newcomer_are_gone() {
    let (mut net, before, second) = closed();
    net.config.automatic_validators = 4;
    let is_close = |message: &ConsensusMessage| matches!(message, ConsensusMessage::CloseRequest { .. });
    let proposer = net.sent.iter().rev().find(|(.., message)| is_close(message)).unwrap().0;
    let next = (0..3).find(|index| id(*index) != proposer).unwrap();
    // The proposer asks for nothing more, and the newcomer is gone for good.
    net.crash(3);
    net.filter = Box::new(move |from, _, message| {
        let asks = matches!(
            message,
            ConsensusMessage::KeyRequest { .. }
                | ConsensusMessage::CloseRequest { .. }
                | ConsensusMessage::RosterPropose { .. }
        );
        !(from == proposer && asks)
    });
    net.propose_head(next, &second, &before);
    net.run_until(120, |net| net.outcome(next, &second.body.hash()) == Some(Outcome::Approved));
    assert_eq!(net.nodes[next].core.roster().validators.len(), 3, "the same seats with fresh keys");
}

#[test]
fn long_lists_and_sets_come_in_pages() {
    let count = ACKED_PER_PAGE_MAX + 5;
    let mut net = Net::grown(4, 3);
    // Of two seats each has a list of its own, so that the proposer must fetch one.
    let firsts: Vec<SignedManifest> = (0..count)
        .map(|index| {
            net.manifest(|manifest| {
                manifest.placement_seed[..2].copy_from_slice(&u16::try_from(index).unwrap().to_be_bytes())
            })
        })
        .collect();
    net.filter = Box::new(|_, to, message| !(to == id(2) && matches!(message, ConsensusMessage::AckRequest { .. })));
    for first in &firsts {
        let before = net.certified(first);
        let second = net.head(first, |_| ());
        net.propose_head(0, &second, &before);
        net.settle();
    }
    net.allow_seats(4);
    net.clear();
    net.run_until(120, |net| sizes(net) == [4].into());
    net.run(5);
    let pages = net.sent.iter().filter(|(.., message)| matches!(message, ConsensusMessage::Acked { .. })).count();
    assert!(pages >= 2, "{pages}");
    assert_eq!(usize::try_from(net.nodes[3].core.roster().close_count), Ok(count));
    assert!(net.nodes.iter().all(|node| node.disk.restored.carried.len() == count));
}

/// Four seats and a fifth node, and a second version that the seats of nodes 0 and 3 acked, and nobody else.
fn acked_by_two() -> Net {
    let mut net = Net::grown(5, 4);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let second = net.head(&first, |_| ());
    net.filter = Box::new(asks_only_node_3);
    net.propose_head(0, &second, &before);
    net.settle();
    assert!([0, 3].map(|index| net.nodes[index].disk.restored.acked.len()) == [1, 1]);
    assert!([1, 2].map(|index| net.nodes[index].disk.restored.acked.len()) == [0, 0]);
    net
}

fn asks_only_node_3(_from: NodeId, to: NodeId, message: &ConsensusMessage) -> bool {
    to == id(3) || !matches!(message, ConsensusMessage::AckRequest { .. })
}

#[test]
fn a_list_that_two_seats_reported_comes_from_the_one_that_still_has_it() {
    for gone in [0, 3] {
        let mut net = acked_by_two();
        net.filter = Box::new(move |from, to, message| {
            let gives = from == id(gone) && matches!(message, ConsensusMessage::Acked { .. });
            asks_only_node_3(from, to, message) && !gives
        });
        net.allow_seats(5);
        net.run_until(120, |net| sizes(net) == [5].into());
        net.run(5);
        assert_eq!(net.nodes[4].core.roster().close_count, 1, "without the pages of node {gone}");
    }
}

/// Whether a message names a next roster for which its sender stands.
fn names(message: &ConsensusMessage) -> bool {
    matches!(message, ConsensusMessage::RosterPropose { .. } | ConsensusMessage::RosterLocked { .. })
}

/// Two of four seats are locked on a roster whose close set rests on a list that is with them alone: the seat that acked it lost
/// its store, and everybody was started again. Seat 2 has not signed.
fn locked_on_a_lost_list() -> Net {
    let mut net = Net::grown(5, 4);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let second = net.head(&first, |_| ());
    net.filter = Box::new(asks_only_node_3);
    net.propose_head(4, &second, &before);
    net.settle();
    // Seat 2 proposes nothing, hears of no roster, and gives no report, so that of seat 3 is needed.
    net.filter = Box::new(|from, to, message| {
        let by_two = matches!(message, ConsensusMessage::KeyRequest { .. } | ConsensusMessage::CloseReport(_));
        let signs = matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. });
        asks_only_node_3(from, to, message) && !(from == id(2) && by_two || to == id(2) && names(message) || signs)
    });
    net.allow_seats(5);
    net.run_until(120, |net| [0, 1].iter().all(|index| net.nodes[*index].disk.restored.lock.is_some()));
    assert!(net.nodes[2].disk.restored.lock.is_none());
    assert_eq!(net.nodes[0].disk.restored.lock.as_ref().unwrap().roster.close_count, 1);
    for index in 0..5 {
        net.crash(index);
    }
    net
}

/// Starts the seats again, seat 3 with an empty store. Seat 2 hears of the roster from seat 0 alone.
fn start_again(net: &mut Net) {
    for index in [0, 1, 2, 4] {
        net.restart(index);
    }
    net.lose_store(3);
    net.filter = Box::new(|from, to, message| !(from == id(1) && to == id(2) && names(message)));
}

#[test]
fn one_seat_that_is_locked_can_prove_a_close_set_to_all_whose_lists_are_lost() {
    let mut net = locked_on_a_lost_list();
    assert_eq!(net.nodes[0].disk.restored.reported.len(), 1, "the list is on disk with the lock");
    start_again(&mut net);
    net.run_until(120, |net| sizes(net) == [5].into());
    net.run(30);
    assert!(net.nodes.iter().all(|node| node.disk.restored.carried.len() == 1), "whoever lacks the set fetches it");
    assert!(net.nodes.iter().all(|node| node.disk.restored.reported.is_empty()), "lists go with the epoch");
}

#[test]
fn a_seat_that_did_not_close_the_epoch_writes_a_list_that_is_like_its_own_too() {
    let mut net = acked_by_two();
    net.filter = Box::new(|from, to, message| {
        let closes = to == id(0) && matches!(message, ConsensusMessage::CloseRequest { .. });
        let proposes = from == id(0) && matches!(message, ConsensusMessage::KeyRequest { .. });
        let signs = matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. });
        asks_only_node_3(from, to, message) && !(closes || proposes || signs)
    });
    net.allow_seats(5);
    net.run_until(120, |net| net.nodes[0].disk.restored.lock.is_some());
    let kept = &net.nodes[0].disk.restored;
    assert!(kept.closed.is_none(), "it may ack more, and its own list is another one then");
    assert_eq!((kept.acked.len(), kept.reported.len()), (1, 1));
}

#[test]
fn nobody_is_believed_about_a_close_set_without_its_lists() {
    let mut net = locked_on_a_lost_list();
    for node in &mut net.nodes {
        node.disk.restored.reported.clear();
    }
    start_again(&mut net);
    net.filter = Box::new(|_, _, _| true);
    net.run(120);
    assert!(net.nodes[2].disk.restored.lock.is_none());
    assert_eq!(sizes(&net), [4].into());
}

#[test]
fn a_seat_that_miscounts_the_list_of_another_one_holds_nothing_up() {
    for claimed in [2, u32::MAX] {
        let mut net = acked_by_two();
        let (key, network) = (net.vote_key(3), net.genesis.network_id());
        let is_report = |message: &ConsensusMessage| matches!(message, ConsensusMessage::CloseReport(_));
        // Node 3 proposes nothing itself, and its reports come from this test.
        net.filter = Box::new(move |from, to, message| {
            let withheld = is_report(message) || matches!(message, ConsensusMessage::KeyRequest { .. });
            asks_only_node_3(from, to, message) && !(from == id(3) && withheld)
        });
        net.allow_seats(5);
        let mut told = 0;
        let grown = (0..120).any(|_second| {
            net.run(1);
            let lies: Vec<_> =
                net.sent.iter().filter(|(from, _, message)| *from == id(3) && is_report(message)).collect();
            let lies: Vec<_> = lies.into_iter().skip(told).cloned().collect();
            told += lies.len();
            for (_, to, message) in lies {
                let ConsensusMessage::CloseReport(report) = message else { unreachable!() };
                let statement = CloseStatement { count: claimed, ..report.statement };
                let to = (0..5).find(|index| id(*index) == to).unwrap();
                net.inject(3, to, ConsensusMessage::CloseReport(CloseReport::new(&network, statement, &key)));
            }
            sizes(&net) == [5].into()
        });
        assert!(grown && told > 0, "{told} reports of {claimed} heads");
    }
}

#[test]
fn below_three_seats_every_seat_reports() {
    let mut net = Net::new(3, Config { automatic_validators: 2, ..Config::default() }, true);
    net.run_until(60, |net| sizes(net) == [2].into());
    net.settle();
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let second = net.head(&first, |_| ());
    net.propose_head(1, &second, &before);
    net.run_until(30, |net| net.outcome(1, &second.body.hash()) == Some(Outcome::Approved));
    net.allow_seats(3);
    net.filter = Box::new(|from, _, message| !(from == id(1) && matches!(message, ConsensusMessage::CloseReport(_))));
    net.run(60);
    let from_itself = net.nodes[1].core.roster().validators.len() == 3;
    assert!(from_itself || sizes(&net) == [2].into());
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| sizes(net) == [3].into());
    net.run(5);
    assert!(net.nodes.iter().all(|node| node.disk.restored.carried.len() == 1));
}

#[test]
fn a_page_of_a_report_that_does_not_prove_itself_is_not_believed() {
    let (mut net, before, second) = three(4);
    net.filter = Box::new(|_, to, message| !(to == id(2) && matches!(message, ConsensusMessage::AckRequest { .. })));
    net.propose_head(0, &second, &before);
    net.settle();
    // Pages come only from this test, and no two others stand by the roster.
    net.filter = Box::new(|from, to, message| {
        let acks = matches!(message, ConsensusMessage::AckRequest { .. });
        let second = from == id(1) && names(message);
        !(to == id(2) && (acks || second) || matches!(message, ConsensusMessage::Acked { .. }))
    });
    net.allow_seats(4);
    let is_page = |message: &ConsensusMessage| matches!(message, ConsensusMessage::Acked { .. });
    net.run_until(60, |net| net.sent.iter().any(|(.., message)| is_page(message)));
    let (from, to, page) = net.sent.iter().find(|(.., message)| is_page(message)).unwrap().clone();
    let ConsensusMessage::Acked { root, after, heads } = page else { unreachable!() };
    let [from, to] = [from, to].map(|node| (0..4).find(|index| id(*index) == node).unwrap());
    let mut forged = heads.clone().into_vec();
    forged[0].certificate.signers.signatures = mynet_types::BoundedVec::truncated(
        forged[0].certificate.signers.signatures.iter().map(|_| mynet_types::Signature([1; 64])),
    );
    net.inject(from, to, ConsensusMessage::Acked { root, after, heads: forged.try_into().unwrap() });
    net.inject((from + 1) % 4, to, ConsensusMessage::Acked { root, after, heads });
    net.run(20);
    assert_eq!(sizes(&net), [3].into(), "neither forged heads nor what was asked of somebody else");
    net.filter = Box::new(|_, to, message| !(to == id(2) && matches!(message, ConsensusMessage::AckRequest { .. })));
    net.run_until(60, |net| sizes(net) == [4].into());
}

#[test]
fn pages_that_do_not_come_to_the_root_are_left_for_those_of_another_seat() {
    let (mut net, before, second) = three(4);
    net.propose_head(0, &second, &before);
    net.settle();
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Carried { .. }));
    grow(&mut net, 4);
    let is_page = |message: &ConsensusMessage| matches!(message, ConsensusMessage::Carried { .. });
    net.run_until(60, |net| net.sent.iter().any(|(.., message)| is_page(message)));
    let (from, _, page) = net.sent.iter().rfind(|(.., message)| is_page(message)).unwrap().clone();
    let ConsensusMessage::Carried { epoch, after, heads } = page else { unreachable!() };
    let from = (0..4).find(|index| id(*index) == from).unwrap();
    let mut other = heads.into_vec();
    other[0].value = mynet_types::ManifestHash([1; 32]);
    net.inject(from, 3, ConsensusMessage::Carried { epoch, after, heads: other.try_into().unwrap() });
    net.settle();
    assert!(net.nodes[3].disk.restored.carried.is_empty());
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.nodes[3].disk.restored.carried.len() == 1);
    assert_eq!(net.nodes[3].disk.restored.carried[0].value, second.body.hash());
}
