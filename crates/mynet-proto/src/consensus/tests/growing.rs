//! The roster grows: one seat at a time, past lost messages, crashes and rivals.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use mynet_types::{
    Claim, ConsensusMessage, Domain, GenesisFile, LinkProof, LinkVotes, NodeId, Roles, Roster, RosterHash, RosterLink,
    SignerSet, Validator, VerifiedChain, VoteKey, certificate, signing,
};

use super::kit::{Net, id};
use crate::consensus::io::{Config, Event, Input, Outcome};

fn sizes(net: &Net) -> BTreeSet<usize> {
    net.nodes.iter().filter(|node| !node.down).map(|node| node.core.roster().validators.len()).collect()
}

fn config(seats: usize) -> Config {
    Config { automatic_validators: seats, ..Config::default() }
}

/// Asks for a key for the roster after `newest`.
fn request(newest: &Roster, newcomer: Option<NodeId>) -> ConsensusMessage {
    let leaving = mynet_types::BoundedVec::new();
    ConsensusMessage::KeyRequest { epoch: newest.epoch + 1, prev: newest.hash(), leaving, newcomer }
}

/// Seats in `net`'s newest roster, as indices of its nodes.
fn seated(net: &Net) -> BTreeSet<usize> {
    (0..net.nodes.len()).filter(|index| net.nodes[0].core.roster().seat_of(&id(*index)).is_some()).collect()
}

#[test]
fn it_grows_to_four_by_itself_in_the_order_of_admission_and_no_further() {
    let mut net = Net::new(6, Config::default(), false);
    net.run_until(30, |net| sizes(net) == [4].into());
    net.run(120);
    assert_eq!(sizes(&net), [4].into());
    assert_eq!(seated(&net), [0, 1, 2, 3].into());
    for index in 0..6 {
        let core = &net.nodes[index].core;
        let chain = VerifiedChain::verify(net.genesis.clone(), &core.chain().up_to(9)).unwrap();
        assert_eq!(chain.newest(), net.nodes[0].core.roster());
        assert_eq!(core.may_vote(), index < 4);
    }
}

#[test]
fn old_vote_keys_are_erased_with_the_epoch_that_ends() {
    let mut net = Net::new(4, Config::default(), false);
    net.run_until(30, |net| sizes(net) == [4].into());
    net.settle();
    for index in 0..4 {
        assert_eq!(net.keys(index).keys().copied().collect::<Vec<_>>(), [3], "node {index}");
    }
    let epochs = |index: usize| {
        let changed = |event: &Event| if let Event::RosterChanged { epoch } = event { Some(*epoch) } else { None };
        net.nodes[index].events.iter().filter_map(changed).collect::<Vec<_>>()
    };
    assert_eq!(epochs(0), [1, 2, 3]);
}

#[test]
fn a_node_that_restarts_goes_on_in_the_same_epoch() {
    let mut net = Net::grown(4, 4);
    let before = net.nodes[2].core.roster().clone();
    net.crash(2);
    net.restart(2);
    assert_eq!(net.nodes[2].core.roster(), &before);
    assert!(net.nodes[2].core.may_vote());
}

#[test]
fn lost_links_are_made_up_for() {
    let mut net = Net::new(5, Config::default(), false);
    net.filter = Box::new(|_, to, message| !(to == id(4) && matches!(message, ConsensusMessage::RosterLinks(_))));
    net.run_until(30, |net| (0..4).all(|index| net.nodes[index].core.roster().epoch == 3));
    assert_eq!(net.nodes[4].core.roster().epoch, 0);
    net.filter = Box::new(|_, _, _| true);
    net.run_until(30, |net| net.nodes[4].core.roster().epoch == 3);
}

/// The key of seat-holder `index` in a rotated roster of `epoch`.
fn rotated_key(epoch: u64, index: usize) -> SigningKey {
    let mut secret = [100; 32];
    secret[0] = u8::try_from(epoch).unwrap();
    secret[1] = u8::try_from(index).unwrap();
    SigningKey::from_bytes(&secret)
}

/// `count` links after the newest roster, in which the first nodes sit, each with the same nodes and fresh keys.
pub(super) fn rotations(net: &Net, count: usize) -> Vec<RosterLink> {
    let network = net.genesis.network_id();
    let mut roster = net.nodes[0].core.roster().clone();
    let seats = 0..roster.validators.len();
    let mut keys: Vec<(NodeId, SigningKey)> = seats.clone().map(|index| (id(index), net.vote_key(index))).collect();
    let mut links = Vec::new();
    for _ in 0..count {
        let epoch = roster.epoch + 1;
        let fresh: Vec<_> = seats.clone().map(|index| (id(index), rotated_key(epoch, index))).collect();
        let seat = |(node, key): &(NodeId, SigningKey)| Validator {
            vote_key: VoteKey(key.verifying_key().to_bytes()),
            node: *node,
        };
        let mut validators: Vec<_> = fresh.iter().map(seat).collect();
        validators.sort();
        let next = Roster { epoch, prev: roster.hash(), validators: validators.try_into().unwrap(), ..roster.clone() };
        let sign = |roster: &Roster, keys: &[(NodeId, SigningKey)], domain| {
            let of = |(node, key): &(NodeId, SigningKey)| {
                (roster.seat_of(node).unwrap(), signing::sign_as(domain, &network, &next, key))
            };
            SignerSet::collect(keys.iter().map(of))
        };
        let old = sign(&roster, &keys, Domain::Roster);
        let new = sign(&next, &fresh, Domain::RosterAccept);
        links.push(RosterLink::voted(next.clone(), old, new));
        (roster, keys) = (next, fresh);
    }
    links
}

#[test]
fn a_long_chain_is_fetched_in_several_messages() {
    let mut net = Net::grown(4, 3);
    net.filter = Box::new(|_, to, _| to == id(0));
    let links = rotations(&net, 20);
    for part in links.chunks(16) {
        net.inject(1, 0, ConsensusMessage::RosterLinks(part.to_vec().try_into().unwrap()));
    }
    net.settle();
    assert_eq!((net.nodes[0].core.roster().epoch, net.nodes[3].core.roster().epoch), (22, 2));
    net.filter = Box::new(|_, _, _| true);
    net.clear();
    net.inject(
        0,
        3,
        ConsensusMessage::RosterHead {
            epoch: 22,
            evidence: 0,
            wants_key: false,
            roster: RosterHash([0; 32]),
            owners: 0,
        },
    );
    net.settle();
    assert_eq!(net.nodes[3].core.roster().epoch, 22);
    let given = |(_, to, message): &(NodeId, NodeId, ConsensusMessage)| match message {
        ConsensusMessage::RosterLinks(links) if *to == id(3) => Some(links.len()),
        _ => None,
    };
    assert_eq!(net.sent.iter().filter_map(given).collect::<Vec<_>>(), [16, 4]);
    assert!(!net.nodes[0].core.may_vote(), "it never made these keys");
}

#[test]
fn a_link_that_is_not_signed_by_a_quorum_is_ignored() {
    let mut net = Net::grown(4, 3);
    let mut link = rotations(&net, 1).remove(0);
    let LinkProof::Votes(LinkVotes { old, .. }) = &mut link.proof else { unreachable!("all of these are voted") };
    *old = SignerSet::collect(old.seats().zip(old.signatures.to_vec()).take(2));
    net.inject(1, 3, ConsensusMessage::RosterLinks(vec![link].try_into().unwrap()));
    net.settle();
    assert_eq!(net.nodes[3].core.roster().epoch, 2);
}

#[test]
fn an_undecided_value_is_proposed_to_the_next_roster() {
    let mut net = Net::new(4, config(3), false);
    net.run_until(30, |net| sizes(net) == [3].into());
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.crash(2);
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.run(10);
    assert_eq!(net.outcome(0, &value), Some(Outcome::Pending));
    let old = net.nodes[0].disk.restored.proposals.clone();
    net.config = config(4);
    for index in [0, 1, 3, 2] {
        if index != 2 {
            net.crash(index);
        }
        net.restart(index);
    }
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::Propose { .. }));
    net.run_until(60, |net| sizes(net) == [4].into());
    let new = net.nodes[0].disk.restored.proposals.clone();
    assert_eq!((old.len(), new.len()), (1, 1));
    assert_eq!((old[0].proposal.body.epoch, new[0].proposal.body.epoch), (2, 3));
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.outcome(0, &value) == Some(Outcome::Approved));
}

#[test]
fn a_certificate_of_an_older_epoch_stays_valid() {
    let mut net = Net::new(4, config(3), false);
    net.run_until(30, |net| sizes(net) == [3].into());
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let file = net.certificates(0)[0].clone();
    net.config = config(4);
    for index in 0..4 {
        net.crash(index);
        net.restart(index);
    }
    net.run_until(60, |net| sizes(net) == [4].into());
    net.settle();
    let trust = GenesisFile::of(net.nodes[0].core.chain());
    let newer = certificate::verify(
        &mynet_types::CertificateFile { chain: net.nodes[0].core.chain().up_to(3), ..file.clone() },
        &trust,
        false,
    );
    assert_eq!(newer.unwrap().epoch, 2);
    // A node that hears of it only now takes it too.
    net.clear();
    net.inject(0, 3, ConsensusMessage::Certified(Box::new(file)));
    assert_eq!(net.certificates(3).len(), 1);
}

#[test]
fn links_are_learned_from_a_certificate() {
    let mut net = Net::grown(5, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let file = net.certificates(0)[0].clone();
    net.crash(4);
    net.nodes[4].disk = super::kit::Disk::default();
    net.filter = Box::new(|_, _, message| matches!(message, ConsensusMessage::Certified(_)));
    net.restart(4);
    assert_eq!(net.nodes[4].core.roster().epoch, 0);
    net.clear();
    net.inject(0, 4, ConsensusMessage::Certified(Box::new(file)));
    net.settle();
    assert_eq!(net.nodes[4].core.roster().epoch, 3);
    assert_eq!(net.certificates(4).len(), 1);
}

#[test]
fn growth_waits_while_an_old_seat_is_away_and_goes_on_when_it_returns() {
    let mut net = Net::new(4, Config::default(), false);
    net.run_until(30, |net| net.nodes[0].core.roster().validators.len() == 2);
    net.settle();
    let epoch = net.nodes[0].core.roster().epoch;
    net.crash(1);
    net.run(60);
    assert_eq!(net.nodes[0].core.roster().epoch, epoch, "below three everybody must agree");
    net.restart(1);
    net.run_until(60, |net| sizes(net) == [4].into());
}

#[test]
fn another_seat_takes_over_when_the_scheduled_proposer_is_silent() {
    let mut net = Net::new(4, config(3), false);
    net.run_until(30, |net| sizes(net) == [3].into());
    net.settle();
    net.config = config(4);
    for index in 0..4 {
        net.crash(index);
        net.restart(index);
    }
    // Epoch 2 of 3 seats: seat 2 is scheduled first. Nobody hears its requests.
    let first = id(net.at_seat(2));
    net.filter = Box::new(move |from, _, message| {
        !(from == first
            && matches!(message, ConsensusMessage::KeyRequest { .. } | ConsensusMessage::RosterPropose { .. }))
    });
    net.run_until(60, |net| sizes(net) == [4].into());
}

/// Runs until some old seat is locked on a next roster and nobody has the link; then the proposer crashes.
fn crash_proposer_after_lock() -> (Net, usize, RosterLink) {
    let mut net = Net::new(4, config(3), false);
    net.run_until(30, |net| sizes(net) == [3].into());
    net.settle();
    net.config = config(4);
    for index in 0..4 {
        net.crash(index);
        net.restart(index);
    }
    // The votes of old seats are lost, so that they lock and the link is never complete.
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. }));
    net.run_until(60, |net| net.nodes.iter().filter(|node| node.disk.restored.lock.is_some()).count() == 3);
    let is_propose = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterPropose { .. });
    let proposer = net.sent.iter().rev().find(|(_, _, message)| is_propose(message)).map(|(from, _, _)| *from).unwrap();
    let proposer = (0..4).find(|index| id(*index) == proposer).unwrap();
    let locked = net.nodes[proposer].disk.restored.lock.clone().unwrap().roster;
    let nothing = mynet_types::SignerSet { seats: 0, signatures: mynet_types::BoundedVec::new() };
    (net, proposer, RosterLink::voted(locked, nothing.clone(), nothing))
}

#[test]
fn a_lock_survives_a_restart_and_its_roster_is_the_one_that_comes() {
    let (mut net, proposer, link) = crash_proposer_after_lock();
    net.crash(proposer);
    net.run(30);
    assert_eq!(net.nodes[(proposer + 1) % 3].core.roster().epoch, 2, "three seats need all three");
    for index in (0..4).filter(|index| *index != proposer) {
        net.crash(index);
        net.restart(index);
    }
    net.filter = Box::new(|_, _, _| true);
    net.restart(proposer);
    net.run_until(60, |net| sizes(net) == [4].into());
    assert_eq!(net.nodes[0].core.roster(), &link.roster);
}

#[test]
fn a_locked_seat_signs_no_other_roster() {
    let (mut net, proposer, link) = crash_proposer_after_lock();
    let is_propose = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterPropose { .. });
    let mut other = net.sent.iter().rev().find(|(_, _, message)| is_propose(message)).unwrap().2.clone();
    let ConsensusMessage::RosterPropose { roster, .. } = &mut other else { unreachable!() };
    roster.valid_from.0 += 1;
    let hash = roster.hash();
    let seat = (proposer + 1) % 3;
    let answer = |net: &mut Net| {
        net.clear();
        net.inject(proposer, seat, other.clone());
        net.settle();
        net.sent.iter().map(|(_, _, message)| message.clone()).collect::<Vec<_>>()
    };
    let [ConsensusMessage::RosterLocked { roster, .. }] = &answer(&mut net)[..] else { panic!("not locked") };
    assert_eq!(**roster, link.roster);
    // Without the lock it would have signed: nothing else is wrong with the other roster.
    net.crash(seat);
    net.nodes[seat].disk.restored.lock = None;
    net.restart(seat);
    net.settle();
    let [ConsensusMessage::RosterVote { roster, old: Some(_), .. }] = &answer(&mut net)[..] else { panic!("no vote") };
    assert_eq!(*roster, hash);
}

#[test]
fn a_proposer_that_becomes_locked_on_another_roster_gives_its_own_up() {
    let (mut net, proposer, _) = crash_proposer_after_lock();
    let is_propose = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterPropose { .. });
    let mut other = net.sent.iter().rev().find(|(_, _, message)| is_propose(message)).unwrap().2.clone();
    let ConsensusMessage::RosterPropose { roster, keys, admissions, .. } = &mut other else { unreachable!() };
    roster.valid_from.0 += 1;
    let (rival, hash) = (roster.as_ref().clone(), roster.hash());
    let close =
        ConsensusMessage::CloseRequest { roster: Box::new(rival), keys: keys.clone(), admissions: admissions.clone() };
    // Everybody begins anew, and a proposer waits for reports that are late.
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::CloseReport(_)));
    for index in 0..4 {
        net.crash(index);
        net.nodes[index].disk.restored.lock = None;
        net.restart(index);
    }
    net.clear();
    let asks = |net: &Net| {
        let last =
            net.sent.iter().rev().find(|(_, _, message)| matches!(message, ConsensusMessage::CloseRequest { .. }));
        last.map(|(from, ..)| (0..4).find(|index| id(*index) == *from).unwrap()).filter(|from| net.seat_of(*from) > 0)
    };
    let late = |net: &Net, asking: usize| {
        let reports = net.sent.iter().filter(|(from, to, message)| {
            *to == id(asking) && from != to && matches!(message, ConsensusMessage::CloseReport(_))
        });
        let reports =
            reports.map(|(from, _, message)| ((0..4).find(|index| id(*index) == *from).unwrap(), message.clone()));
        reports.collect::<BTreeMap<_, _>>()
    };
    net.run_until(120, |net| asks(net).is_some_and(|asking| late(net, asking).len() == 2));
    let asking = asks(&net).unwrap();
    let reports = late(&net, asking);
    assert!(net.nodes[asking].disk.restored.lock.is_none());
    // A lower seat comes first, and has it locked on another roster.
    let lower = net.at_seat(0);
    net.inject(lower, asking, close);
    net.inject(lower, asking, other);
    net.settle();
    assert_eq!(net.nodes[asking].disk.restored.lock.as_ref().map(|lock| lock.roster.hash()), Some(hash));
    // Now the reports come. Votes do not, so that whoever proposes goes on.
    net.clear();
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterVote { old: Some(_), .. }));
    for (from, report) in reports {
        net.inject(from, asking, report);
    }
    net.run(60);
    let proposed: BTreeSet<_> = net
        .sent
        .iter()
        .filter(|(from, ..)| *from == id(asking))
        .filter_map(|(_, _, message)| match message {
            ConsensusMessage::RosterPropose { roster, .. } => Some(roster.hash()),
            _ => None,
        })
        .collect();
    assert_eq!(proposed, [hash].into(), "seat {} of proposer {proposer}", net.seat_of(asking));
}

#[test]
fn a_proposer_that_is_not_locked_adopts_the_roster_of_one_that_is() {
    let mut net = Net::new(4, config(2), false);
    net.run_until(30, |net| sizes(net) == [2].into());
    net.settle();
    net.config = config(3);
    for index in 0..4 {
        net.crash(index);
        net.restart(index);
    }
    // Only one of the two old seats ever gets the roster.
    let deaf: NodeId = id(1);
    net.filter =
        Box::new(move |_, to, message| !(to == deaf && matches!(message, ConsensusMessage::RosterPropose { .. })));
    net.run_until(60, |net| net.nodes[0].disk.restored.lock.is_some());
    let locked = net.nodes[0].disk.restored.lock.clone().unwrap().roster;
    assert!(net.nodes[1].disk.restored.lock.is_none());
    // Now the other one proposes, and would rather seat another newcomer.
    let mute: NodeId = id(0);
    let other = (2..4).find(|index| locked.seat_of(&id(*index)).is_none()).unwrap();
    net.filter = Box::new(move |from, to, message| {
        let asks = matches!(message, ConsensusMessage::KeyRequest { .. } | ConsensusMessage::RosterPropose { .. });
        !(asks && from == mute && to != mute)
    });
    let seat = 5 - other;
    net.input(1, Input::PeerDown(id(seat)));
    net.run_until(120, |net| net.nodes[0].core.roster().validators.len() == 3);
    assert_eq!(net.nodes[0].core.roster(), &locked);
    let says_locked = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterLocked { .. });
    assert!(net.sent.iter().any(|(from, _, message)| *from == mute && says_locked(message)));
}

#[test]
fn the_same_key_is_offered_again_and_a_fresh_one_only_if_it_was_lost() {
    let mut net = Net::new(2, config(1), false);
    net.run(1);
    let offers = |net: &mut Net| {
        net.clear();
        let roster = net.nodes[0].core.roster();
        let request = request(&roster.clone(), None);
        net.inject(0, 1, request);
        net.settle();
        let offer = |message: &ConsensusMessage| {
            if let ConsensusMessage::KeyOffer { offer, .. } = message { Some(*offer) } else { None }
        };
        net.sent.iter().filter_map(|(_, _, message)| offer(message)).collect::<Vec<_>>()
    };
    let first = offers(&mut net);
    assert_eq!(first.len(), 1);
    assert_eq!(offers(&mut net), first);
    net.crash(1);
    net.restart(1);
    net.settle();
    assert_eq!(offers(&mut net), first, "it is on disk");
    net.crash(1);
    net.nodes[1].disk = super::kit::Disk::default();
    net.restart(1);
    net.settle();
    let fresh = offers(&mut net);
    assert_ne!(fresh[0].body.seat.vote_key, first[0].body.seat.vote_key);
}

#[test]
fn a_newcomer_refuses_a_seat_with_a_key_that_it_never_offered() {
    let mut net = Net::new(2, config(2), false);
    let is_propose = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterPropose { .. });
    net.filter = Box::new(move |_, _, message| !is_propose(message));
    net.run(3);
    let propose = net.sent.iter().find(|(_, _, message)| is_propose(message)).unwrap().2.clone();
    net.crash(1);
    net.nodes[1].disk = super::kit::Disk::default();
    net.restart(1);
    net.settle();
    net.clear();
    net.inject(0, 1, propose.clone());
    net.settle();
    let is_vote = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterVote { .. });
    assert!(!net.sent.iter().any(|(_, _, message)| is_vote(message)));
    // The next plan asks for the fresh key and succeeds.
    net.filter = Box::new(|_, _, _| true);
    net.run_until(30, |net| sizes(net) == [2].into());
}

#[test]
fn strangers_and_nodes_without_the_role_get_no_seat() {
    let mut net = Net::new(1, Config::default(), false);
    net.input(0, Input::Admitted(Box::new(net.admission(1, Roles::STORAGE))));
    net.input(0, Input::PeerUp(id(1)));
    net.input(0, Input::PeerUp(id(2)));
    net.run(60);
    let asked = |message: &ConsensusMessage| matches!(message, ConsensusMessage::KeyRequest { .. });
    assert!(!net.sent.iter().any(|(_, _, message)| asked(message)));
    net.input(0, Input::Admitted(Box::new(net.admission(2, Roles::VALIDATOR))));
    net.run(2);
    assert!(net.sent.iter().any(|(_, to, message)| *to == id(2) && asked(message)), "with the role it is asked");
}

#[test]
fn an_old_seat_answers_one_proposer_at_a_time_and_the_lower_seat_first() {
    let mut net = Net::grown(3, 3);
    let answers = |net: &mut Net, from: usize| {
        net.clear();
        let roster = net.nodes[0].core.roster();
        let request = request(&roster.clone(), None);
        let (asker, asked) = (net.at_seat(from), net.at_seat(0));
        net.inject(asker, asked, request);
        net.settle();
        let offer = |message: &ConsensusMessage| matches!(message, ConsensusMessage::KeyOffer { .. });
        net.sent.iter().any(|(_, to, message)| *to == id(asker) && offer(message))
    };
    assert!(answers(&mut net, 2));
    assert!(answers(&mut net, 2), "repeats are answered");
    assert!(answers(&mut net, 1), "a lower seat goes first");
    assert!(!answers(&mut net, 2), "now this one has to wait");
    net.run(5);
    assert!(answers(&mut net, 2), "not for ever");
}

#[test]
fn rivals_that_see_different_newcomers_do_not_get_stuck() {
    for offset in 0..6 {
        let mut net = Net::new(4, config(2), false);
        net.run_until(30, |net| sizes(net) == [2].into());
        net.settle();
        net.config = config(4);
        for index in [0, 2, 3, 1] {
            net.crash(index);
            net.restart(index);
            if index == 0 {
                net.input(0, Input::PeerDown(id(3)));
            }
            if index == 3 {
                net.input(0, Input::PeerDown(id(3)));
                // Whole attempts apart, so that both hold themselves for the scheduled one at some time.
                net.filter = Box::new(|_, to, _| to != id(1));
                net.run(offset);
                net.filter = Box::new(|_, _, _| true);
            }
        }
        net.input(1, Input::PeerDown(id(2)));
        net.run_until(120, |net| sizes(net) == [4].into());
    }
}

#[test]
fn growth_survives_heavy_loss() {
    for seed in 0..4_u64 {
        let mut net = Net::new(5, Config::default(), false);
        let mut state = seed + 1;
        net.filter = Box::new(move |_, _, _| {
            // xorshift64: any generator will do, it only has to repeat.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 10 >= 4
        });
        net.run_until(300, |net| sizes(net) == [4].into());
        let rosters: BTreeSet<_> = net.nodes.iter().map(|node| node.core.roster().hash().to_string()).collect();
        assert_eq!(rosters.len(), 1, "seed {seed}");
    }
}
