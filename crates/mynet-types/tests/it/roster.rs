//! Which links follow, and which do not and why.

use mynet_types::{
    BoundedVec, LinkError, LinkVotes, Roster, RosterChain, RosterHash, RosterLink, SignerSet, SignerSetError,
    Validator, VerifiedChain, VoteKey,
    roster::{check_succession, link_quorums},
    signing::{Domain, sign_as},
};

use crate::network::{Network, key, node, votes_of};

/// Changes the seats of `roster`.
fn with_seats(roster: &Roster, change: impl FnOnce(&mut Vec<Validator>)) -> Roster {
    let mut seats = roster.validators.clone().into_vec();
    change(&mut seats);
    Roster { validators: seats.try_into().unwrap(), ..roster.clone() }
}

/// The error of a link to `roster` that everybody signed: only the rule can refuse it.
fn refused(network: &Network, roster: Roster) -> LinkError {
    let link = network.full_link(roster);
    network.chain.clone().extend(link).unwrap_err()
}

#[test]
fn a_network_grows_from_one_to_five_and_verifies_from_genesis() {
    let network = Network::of(5);
    let all = network.chain.up_to(u64::MAX);
    assert_eq!(all.links.len(), 4);
    let verified = VerifiedChain::verify(network.genesis().clone(), &all).unwrap();
    assert_eq!(verified, network.chain);
    for epoch in 0..5 {
        let roster = verified.roster(epoch).unwrap();
        assert_eq!((roster.epoch, roster.validators.len() as u64), (epoch, epoch + 1));
    }
    assert_eq!(verified.roster(5), None);
    assert_eq!(verified.roster(u64::MAX), None);
    assert_eq!(verified.newest().seat_of(&node(9)), None);
}

#[test]
fn a_chain_is_cut_and_continued_at_any_epoch() {
    let network = Network::of(5);
    for epoch in 0..=5 {
        let head = network.chain.up_to(epoch);
        let tail = network.chain.after(epoch);
        assert_eq!(head.links.len() + tail.len(), 4);
        let mut chain = VerifiedChain::verify(network.genesis().clone(), &head).unwrap();
        for link in tail {
            chain.extend(link.clone()).unwrap();
        }
        assert_eq!(chain, network.chain);
    }
    assert!(network.chain.after(u64::MAX).is_empty());
}

#[test]
fn links_do_not_follow_out_of_order_or_twice() {
    let network = Network::of(4);
    let links = network.chain.up_to(3).links.into_vec();
    let verify = |links: Vec<RosterLink>| {
        VerifiedChain::verify(network.genesis().clone(), &RosterChain { links: links.try_into().unwrap() })
    };
    assert!(verify(links.clone()).is_ok());
    for broken in [vec![1, 0, 2], vec![0, 0, 1], vec![0, 2], vec![1]] {
        let broken = broken.into_iter().map(|index: usize| links[index].clone()).collect();
        assert!(matches!(verify(broken), Err(LinkError::NotNext { .. })));
    }
}

#[test]
fn a_refused_link_leaves_the_chain_as_it_was() {
    let mut network = Network::of(3);
    let roster = network.next_roster(&[0, 1, 2, 3]);
    let before = network.chain.clone();
    assert!(network.chain.extend(network.link(roster, 2, 4)).is_err());
    assert_eq!(network.chain, before);
}

#[test]
fn the_epoch_is_the_next_and_the_hash_is_of_the_roster_before() {
    let mut network = Network::of(4);
    let good = network.next_roster(&[0, 1, 2, 3, 4]);
    for epoch in [0, 3, 5, u64::MAX] {
        assert_eq!(refused(&network, Roster { epoch, ..good.clone() }), LinkError::NotNext { epoch });
    }
    for prev in [RosterHash([0; 32]), good.hash(), network.chain.roster(2).unwrap().hash()] {
        assert_eq!(refused(&network, Roster { prev, ..good.clone() }), LinkError::NotNext { epoch: 4 });
    }
}

#[test]
fn no_epoch_follows_the_last_number() {
    let mut network = Network::of(1);
    let next = Roster { epoch: 0, ..network.next_roster(&[0, 1]) };
    let last = Roster { epoch: u64::MAX, ..network.chain.newest().clone() };
    let next = Roster { prev: last.hash(), ..next };
    assert_eq!(check_succession(&last, &next), Err(LinkError::NotNext { epoch: 0 }));
}

#[test]
fn seats_are_sorted_distinct_and_present() {
    let mut network = Network::of(4);
    let good = network.next_roster(&[0, 1, 2, 3, 4]);
    let malformed = Err(LinkError::Malformed { epoch: 4 });
    let check = |roster: Roster| check_succession(network.chain.newest(), &roster);
    assert_eq!(check(good.clone()), Ok(()));
    assert_eq!(check(with_seats(&good, |seats| seats.swap(0, 1))), malformed);
    assert_eq!(check(with_seats(&good, |seats| seats.insert(0, seats[0]))), malformed, "a key twice");
    assert_eq!(check(with_seats(&good, |seats| seats[1].node = seats[0].node)), malformed, "a node twice");
    assert_eq!(check(with_seats(&good, |seats| seats[1].vote_key = seats[0].vote_key)), malformed);
    assert_eq!(check(with_seats(&good, Vec::clear)), malformed);
}

#[test]
fn a_vote_key_of_the_roster_before_is_not_used_again() {
    let mut network = Network::of(4);
    let old = network.chain.newest().validators[2];
    let good = network.next_roster(&[0, 1, 2, 3]);
    let own = with_seats(&good, |seats| {
        seats.iter_mut().filter(|seat| seat.node == old.node).for_each(|seat| seat.vote_key = old.vote_key);
        seats.sort();
    });
    assert_eq!(refused(&network, own), LinkError::KeyReused { epoch: 4 });
    let strangers = with_seats(&good, |seats| {
        seats.iter_mut().find(|seat| seat.node != old.node).unwrap().vote_key = old.vote_key;
        seats.sort();
    });
    assert_eq!(refused(&network, strangers), LinkError::KeyReused { epoch: 4 });
}

#[test]
fn one_link_changes_at_most_f_seats_and_always_may_change_one() {
    let check = |size: u64, numbers: Vec<u64>| {
        let mut network = Network::of(size);
        let next = network.next_roster(&numbers);
        check_succession(network.chain.newest(), &next)
    };
    let too_many = |epoch, changes, max| Err(LinkError::TooManyChanges { epoch, changes, max });
    assert_eq!(check(1, vec![0, 1, 2]), too_many(1, 2, 1));
    assert_eq!(check(2, vec![0, 2]), too_many(2, 2, 1));
    assert_eq!(check(3, vec![0, 1, 3]), too_many(3, 2, 1), "a swap is two changes");
    assert_eq!(check(4, vec![0, 1, 2, 3]), Ok(()), "fresh keys alone");
    assert_eq!(check(4, vec![0, 1, 2]), Ok(()));
    assert_eq!(check(4, vec![0, 1, 2, 3, 4, 5]), too_many(4, 2, 1));
    assert_eq!(check(7, vec![0, 1, 2, 3, 4, 5, 9]), Ok(()), "f = 2: a swap");
    assert_eq!(check(7, vec![0, 1, 2, 3, 4, 5, 8, 9]), too_many(7, 3, 2));
    assert_eq!(check(7, vec![10, 11, 12, 13, 14, 15, 16]), too_many(7, 14, 2));
}

#[test]
fn a_network_below_three_only_grows_and_one_above_never_falls_below() {
    let check = |size: u64, numbers: &[u64]| {
        let mut network = Network::of(size);
        let next = network.next_roster(numbers);
        network.chain.extend(network.full_link(next))
    };
    let below = |epoch| Err(LinkError::BelowThree { epoch });
    assert_eq!(check(1, &[0]), below(1), "the same one");
    assert_eq!(check(2, &[0, 1]), below(2), "the same two");
    assert_eq!(check(2, &[0]), below(2));
    assert_eq!(check(3, &[0, 1]), below(3));
    assert_eq!(check(3, &[0, 1, 2]), Ok(()));
    assert_eq!(check(4, &[1, 2, 3]), Ok(()), "the founder may leave");
}

/// n of the old roster, n of the new, signatures needed of each.
const LINK_QUORUMS: [(u64, u64, usize, usize); 9] = [
    (1, 2, 1, 2),
    (2, 3, 2, 3),
    (3, 3, 3, 3),
    (3, 4, 3, 3),
    (4, 3, 3, 3),
    (4, 5, 3, 4),
    (5, 6, 4, 4),
    (6, 7, 4, 5),
    (7, 8, 5, 6),
];

#[test]
fn each_side_of_a_link_needs_its_own_quorum() {
    for (old, new, need_old, need_new) in LINK_QUORUMS {
        let mut network = Network::of(old);
        let roster = network.next_roster(&(0..new).collect::<Vec<_>>());
        let quorums = link_quorums(network.genesis(), network.chain.newest(), &roster);
        assert_eq!(quorums, (need_old, need_new), "{old} -> {new}");
        let epoch = roster.epoch;
        let extend = |old, new| network.chain.clone().extend(network.link(roster.clone(), old, new));
        let too_few = |need: usize| SignerSetError::TooFew { got: need - 1, need };
        assert_eq!(extend(need_old, need_new), Ok(()), "{old} -> {new}");
        let source = too_few(need_old);
        assert_eq!(extend(need_old - 1, new as usize), Err(LinkError::Old { epoch, source }));
        let source = too_few(need_new);
        assert_eq!(extend(old as usize, need_new - 1), Err(LinkError::New { epoch, source }));
    }
}

#[test]
fn a_higher_floor_raises_both_sides_of_a_link() {
    let mut network = Network::founded(4, false);
    for more in 2..=4 {
        network.step(&(0..more).collect::<Vec<_>>());
    }
    let next = network.next_roster(&[0, 1, 2, 3, 4]);
    assert_eq!(link_quorums(network.genesis(), network.chain.newest(), &next), (4, 4));
    let at_three = network.chain.roster(2).unwrap();
    assert_eq!(link_quorums(network.genesis(), at_three, at_three), (3, 3), "below the floor: everybody");
}

/// Every way to spoil one side's signatures, with what is said about it. `signers` signed by all five seats.
fn spoiled(signers: &SignerSet, stranger: mynet_types::Signature) -> Vec<(SignerSet, SignerSetError)> {
    let list = signers.signatures.clone().into_vec();
    let set = |seats, list: Vec<_>| SignerSet { seats, signatures: list.try_into().unwrap() };
    let replaced = |seat: usize, by| {
        let mut list = list.clone();
        list[seat] = by;
        set(signers.seats, list)
    };
    let extended = |more| list.iter().copied().chain([more]).collect::<Vec<_>>();
    let swapped = {
        let mut list = list.clone();
        list.swap(0, 1);
        set(signers.seats, list)
    };
    vec![
        (replaced(0, stranger), SignerSetError::Signature { seat: 0 }),
        (replaced(4, stranger), SignerSetError::Signature { seat: 4 }),
        (replaced(1, list[0]), SignerSetError::Signature { seat: 1 }),
        (swapped, SignerSetError::Signature { seat: 0 }),
        (set(signers.seats, extended(list[0])), SignerSetError::Count { seats: 5, signatures: 6 }),
        (set(signers.seats & !1, list.clone()), SignerSetError::Count { seats: 4, signatures: 5 }),
        (set(signers.seats | 1 << 5, list.clone()), SignerSetError::Count { seats: 6, signatures: 5 }),
        (set(signers.seats | 1 << 5, extended(list[0])), SignerSetError::NoSuchSeat),
        (set(signers.seats | 1 << 63, extended(stranger)), SignerSetError::NoSuchSeat),
        (set(0, vec![]), SignerSetError::TooFew { got: 0, need: 4 }),
    ]
}

#[test]
fn each_signature_of_a_link_is_of_its_seat_and_counted_once() {
    let mut network = Network::of(5);
    let roster = network.next_roster(&[0, 1, 2, 3, 4]);
    let good = network.full_link(roster.clone());
    let id = network.genesis().network_id();
    let check = |link: RosterLink| network.chain.clone().extend(link);
    assert_eq!(check(good.clone()), Ok(()));
    let LinkVotes { old: good_old, new: good_new } = votes_of(&mut good.clone()).clone();
    for (old, source) in spoiled(&good_old, sign_as(Domain::Roster, &id, &roster, &key("stranger", 0))) {
        assert_eq!(
            check(RosterLink::voted(roster.clone(), old, good_new.clone())),
            Err(LinkError::Old { epoch: 5, source })
        );
    }
    for (new, source) in spoiled(&good_new, sign_as(Domain::RosterAccept, &id, &roster, &key("stranger", 0))) {
        assert_eq!(
            check(RosterLink::voted(roster.clone(), good_old.clone(), new)),
            Err(LinkError::New { epoch: 5, source })
        );
    }
}

#[test]
fn a_signature_for_one_side_roster_or_network_does_not_pass_for_another() {
    let mut network = Network::of(5);
    let roster = network.next_roster(&[0, 1, 2, 3, 4]);
    let other = Roster { close_count: 1, ..roster.clone() };
    let newest = network.chain.newest();
    let good = network.full_link(roster.clone());
    let source = SignerSetError::Signature { seat: 0 };
    let LinkVotes { old: good_old, new: good_new } = votes_of(&mut good.clone()).clone();
    let old = |old| network.chain.clone().extend(RosterLink::voted(roster.clone(), old, good_new.clone()));
    let new = |new| network.chain.clone().extend(RosterLink::voted(roster.clone(), good_old.clone(), new));
    assert_eq!(
        old(network.sign(newest, 0..5, Domain::RosterAccept, &roster)),
        Err(LinkError::Old { epoch: 5, source }),
    );
    assert_eq!(old(network.sign(newest, 0..5, Domain::Roster, &other)), Err(LinkError::Old { epoch: 5, source }));
    assert_eq!(new(network.sign(&roster, 0..5, Domain::Roster, &roster)), Err(LinkError::New { epoch: 5, source }));
    assert_eq!(new(good_old.clone()), Err(LinkError::New { epoch: 5, source }));
}

#[test]
fn a_key_of_small_order_signs_for_nobody() {
    // The neutral element as key and as R, with s = 0, satisfies the cofactored equation for every message.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let mut forged = [0; 64];
    forged[0] = 1;
    let seat = Validator { vote_key: VoteKey(neutral), node: node(0) };
    let signers = SignerSet { seats: 1, signatures: BoundedVec::truncated([mynet_types::Signature(forged)]) };
    let id = Network::of(1).genesis().network_id();
    let verdict = signers.verify(&[seat], 1, (Domain::Vote, &id), &0u8);
    assert_eq!(verdict, Err(SignerSetError::Signature { seat: 0 }));
}

#[test]
fn collecting_signatures_drops_repeats_and_seats_that_cannot_be() {
    let network = Network::of(3);
    let roster = network.chain.newest();
    let sign = |seat| network.sign_one(roster, seat, Domain::Vote, &1u8);
    let set = SignerSet::collect([(2, sign(2)), (0, sign(0)), (2, sign(2)), (64, sign(0)), (usize::MAX, sign(0))]);
    assert_eq!(set.seats().collect::<Vec<_>>(), [0, 2]);
    assert_eq!(&set.signatures[..], [sign(0), sign(2)]);
    let id = network.genesis().network_id();
    assert_eq!(set.verify(&roster.validators, 2, (Domain::Vote, &id), &1u8), Ok(()));
}

#[test]
fn a_chain_of_another_genesis_does_not_follow() {
    let network = Network::of(3);
    let mut genesis = network.genesis().clone();
    genesis.salt = [8; 32];
    let verdict = VerifiedChain::verify(genesis, &network.chain.up_to(2));
    assert_eq!(verdict, Err(LinkError::NotNext { epoch: 1 }));
}
