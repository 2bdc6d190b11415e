//! Recovery: what makes a link of offers and offline keys, what does not, and which of two chains holds.

use mynet_types::{
    BoundedVec, CarriedHead, CertificateFile, LinkError, LinkProof, LinkRecovery, ManifestHash, OfferFile, Phase,
    RecoveryFile, Roster, RosterChain, RosterLink, Signature, SignerSet, SignerSetError, Timestamp, VerifiedChain,
    certificate::VerifyError,
    head::set_root,
    recovery::{Coverage, ProposeError, RecoveryError},
    roster::Genesis,
    signing::{Domain, Signed, sign_as},
};
use proptest::prelude::*;

use crate::{
    network::{NOON, Network, key, manifest, node, node_key, owner_key, public_manifest},
    samples::{acked_head, offer_file, recovery_file},
};

/// Signs `file` with the recovery keys `numbers`.
fn signed(mut file: RecoveryFile, numbers: &[u64]) -> RecoveryFile {
    for number in numbers {
        file.sign(&key("recovery", *number)).unwrap();
    }
    file
}

/// An unsigned recovery to `numbers`, of whom none acked anything.
fn proposed(network: &mut Network, numbers: &[u64]) -> RecoveryFile {
    let offers: Vec<_> = numbers.iter().map(|number| offer_file(network, *number, false)).collect();
    RecoveryFile::propose(&offers, &[], NOON).unwrap().0
}

fn recovery_of(link: &mut RosterLink) -> &mut LinkRecovery {
    let LinkProof::Recovery(recovery) = &mut link.proof else { panic!("it is a recovery") };
    recovery
}

#[test]
fn two_of_three_keys_put_any_offered_roster_after_the_newest() {
    let mut network = Network::of(4);
    let keys: [&[u64]; 4] = [&[0, 1], &[0, 2], &[2, 1], &[2, 0, 1]];
    let rosters: [&[u64]; 4] = [&[0, 1, 2, 3], &[1], &[7, 8, 9], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]];
    for (keys, seats) in keys.into_iter().zip(rosters) {
        let file = signed(proposed(&mut network, seats), keys);
        assert_eq!(file.missing(), 0);
        let mut chain = network.chain.clone();
        chain.extend(file.link()).unwrap();
        let nodes: Vec<_> = seats.iter().map(|number| node(*number)).collect();
        assert!(chain.newest().nodes().all(|seated| nodes.contains(&seated)));
        assert_eq!((chain.newest().validators.len(), chain.recoveries().collect::<Vec<_>>()), (seats.len(), vec![4]));
    }
}

#[test]
fn one_key_one_key_twice_or_a_strange_key_recovers_nothing() {
    let mut network = Network::of(4);
    let file = signed(proposed(&mut network, &[1, 2, 5]), &[1]);
    assert_eq!(file.missing(), 1);
    let too_few = LinkError::Recovery { epoch: 4, source: SignerSetError::TooFew { got: 1, need: 2 } };
    assert_eq!(network.chain.clone().extend(file.link()), Err(too_few));
    let again = file.clone().sign(&key("recovery", 1));
    assert!(matches!(again, Err(RecoveryError::SignedAlready(1))), "{again:?}");
    let strange = file.clone().sign(&key("recovery", 3));
    assert!(matches!(strange, Err(RecoveryError::WrongKey)), "{strange:?}");

    let id = network.genesis().network_id();
    let forge = |seats: [(usize, u64); 2], domain| {
        let mut link = file.link();
        let sign = |number| sign_as(domain, &id, &file.roster, &key("recovery", number));
        recovery_of(&mut link).keys = SignerSet::collect(seats.map(|(seat, number)| (seat, sign(number))));
        network.chain.clone().extend(link)
    };
    let wrong = |seat| Err(LinkError::Recovery { epoch: 4, source: SignerSetError::Signature { seat } });
    assert_eq!(forge([(0, 0), (1, 1)], Domain::Recovery), Ok(()));
    assert_eq!(forge([(0, 1), (1, 1)], Domain::Recovery), wrong(0));
    assert_eq!(forge([(0, 0), (1, 1)], Domain::Roster), wrong(0));
    let unknown = Err(LinkError::Recovery { epoch: 4, source: SignerSetError::NoSuchSeat });
    assert_eq!(forge([(0, 0), (3, 3)], Domain::Recovery), unknown);
}

#[test]
fn a_key_that_the_genesis_names_twice_is_one_key() {
    let network = Network::founded(3, true);
    let twice = network.genesis().recovery_keys[0];
    let genesis = Genesis { recovery_keys: [twice; 3], ..network.genesis().clone() };
    let mut twin = Network { chain: VerifiedChain::new(genesis), votes: network.votes };
    let file = proposed(&mut twin, &[0, 1, 2]);
    let signature = sign_as(Domain::Recovery, &twin.genesis().network_id(), &file.roster, &key("recovery", 0));
    let mut link = file.link();
    recovery_of(&mut link).keys = SignerSet::collect([(0, signature), (1, signature)]);
    let too_few = LinkError::Recovery { epoch: 1, source: SignerSetError::TooFew { got: 1, need: 2 } };
    assert_eq!(twin.chain.extend(link), Err(too_few));
}

#[test]
fn a_recovery_holds_in_its_place_of_its_chain_and_network_and_nowhere_else() {
    let mut network = Network::of(4);
    let link = signed(proposed(&mut network, &[1, 2, 5]), &[0, 1]).link();
    let mut earlier = VerifiedChain::verify(network.genesis().clone(), &network.chain.up_to(2)).unwrap();
    assert_eq!(earlier.extend(link.clone()), Err(LinkError::NotNext { epoch: 4 }));
    network.step(&[0, 1, 2, 3]);
    assert_eq!(network.chain.clone().extend(link.clone()), Err(LinkError::NotNext { epoch: 4 }), "a stale base");
    let genesis = Genesis { salt: [8; 32], ..network.genesis().clone() };
    assert!(VerifiedChain::new(genesis).extend(link.clone()).is_err());
    // The same keys in a twin of the network: the roster follows there, but the network is in every signature.
    let mut roster = link.roster.clone();
    (roster.epoch, roster.prev) = (1, network.chain.roster(0).unwrap().hash());
    let moved = RosterLink { roster, ..link };
    assert!(matches!(
        VerifiedChain::new(network.genesis().clone()).extend(moved),
        Err(LinkError::Recovery { epoch: 1, source: SignerSetError::Signature { .. } })
    ));
}

#[test]
fn every_seat_needs_an_offer_of_its_node_for_this_place() {
    let mut network = Network::of(4);
    let good = signed(proposed(&mut network, &[1, 2, 5]), &[0, 1]).link();
    let change = |change: &dyn Fn(&mut Vec<Signature>)| {
        let mut link = good.clone();
        let mut offers = recovery_of(&mut link).offers.clone().into_vec();
        change(&mut offers);
        recovery_of(&mut link).offers = offers.try_into().unwrap();
        network.chain.clone().extend(link)
    };
    let seat = |index: usize| good.roster.validators[index].node;
    assert_eq!(change(&|offers| offers.truncate(2)), Err(LinkError::NotOffered { epoch: 4, node: seat(2) }));
    assert_eq!(change(&|offers| offers.swap(0, 1)), Err(LinkError::NotOffered { epoch: 4, node: seat(0) }));
    assert_eq!(change(&|offers| offers.push(offers[0])), Err(LinkError::Malformed { epoch: 4 }));

    // Two keys do not make up for a key that the node of a seat did not offer, or that sits in the roster before.
    let sign = |roster: &Roster| {
        let sign =
            |number| sign_as(Domain::Recovery, &network.genesis().network_id(), roster, &key("recovery", number));
        SignerSet::collect([(0, sign(0)), (1, sign(1))])
    };
    let with = |change: &dyn Fn(&mut Roster)| {
        let mut link = good.clone();
        change(&mut link.roster);
        recovery_of(&mut link).keys = sign(&link.roster);
        network.chain.clone().extend(link)
    };
    let before = network.chain.newest();
    let other = before.validators[before.seat_of(&node(0)).unwrap()];
    let put = |seats: Vec<_>| BoundedVec::try_from(seats).unwrap();
    let mut seats = good.roster.validators.clone().into_vec();
    seats[0].node = node(9);
    assert_eq!(
        with(&|roster| roster.validators = put(seats.clone())),
        Err(LinkError::NotOffered { epoch: 4, node: node(9) })
    );
    seats[0] = other;
    seats.sort();
    assert_eq!(with(&|roster| roster.validators = put(seats.clone())), Err(LinkError::KeyReused { epoch: 4 }));
    assert_eq!(with(&|roster| roster.validators = BoundedVec::new()), Err(LinkError::Malformed { epoch: 4 }));
}

#[test]
fn a_certificate_of_a_recovered_roster_says_so_and_cannot_avoid_a_pinned_roster() {
    let mut network = Network::of(4);
    let before = network.certificate(3);
    assert_eq!(network.verify(&before).unwrap().recoveries, Vec::<u64>::new());
    let pinned = mynet_types::GenesisFile::of(&network.chain);
    let file = signed(proposed(&mut network, &[1, 2, 5]), &[0, 1]);
    network.chain.extend(file.link()).unwrap();
    let after = network.certificate(3);
    let verified = network.verify(&after).unwrap();
    assert_eq!((verified.epoch, verified.recoveries), (4, vec![4]));
    assert!(mynet_types::certificate::verify(&after, &pinned, false).is_ok(), "it passes through the pinned roster");
    let chain = network.chain.up_to(4);
    assert_eq!(network.verify(&CertificateFile { chain, ..before }).unwrap().recoveries, vec![4]);

    // A recovery from before the pinned roster is one that the pin is against.
    let mut early = Network::of(3);
    let file = signed(proposed(&mut early, &[0, 1, 2, 5]), &[0, 1]);
    early.chain.extend(file.link()).unwrap();
    let refused = mynet_types::certificate::verify(&early.certificate(3), &pinned, false);
    assert!(matches!(refused, Err(VerifyError::AvoidsCheckpoint { epoch: 3 })), "{refused:?}");
}

/// A chain after `base`.
fn extended(base: &VerifiedChain, link: &RosterLink) -> VerifiedChain {
    let mut chain = base.clone();
    chain.extend(link.clone()).unwrap();
    chain
}

#[test]
fn votes_that_went_on_hold_against_a_recovery_and_that_against_one_vote() {
    let mut network = Network::of(4);
    let base = network.chain.clone();
    let recovered = [[1, 2, 5], [1, 2, 6]].map(|seats| {
        let link = signed(proposed(&mut network, &seats), &[0, 1]).link();
        extended(&base, &link)
    });
    let [one, other] = recovered;
    let (small, large) = if one.newest().hash() < other.newest().hash() { (one, other) } else { (other, one) };
    network.step(&[0, 1, 2, 3]);
    let once = network.chain.clone();
    let last_resort = signed(proposed(&mut network, &[0, 1, 2]), &[0, 2]).link();
    network.step(&[0, 1, 2, 3]);
    // Weakest first.
    let order = [once.clone(), large, small, network.chain.clone()];
    for (mine, chain) in order.iter().enumerate() {
        for (theirs, other) in order.iter().enumerate() {
            let extends = (mine, theirs) == (0, 3);
            let overruled = chain.overruled_by(other.after(0));
            assert_eq!(overruled.is_some(), theirs > mine && !extends, "{mine} {theirs}");
            assert!(overruled.is_none_or(|(shared, fork)| shared == 3 && fork == *other));
            assert_eq!(other.supersedes(chain), theirs > mine, "{mine} {theirs}");
            let followed = chain.followed(other.after(0));
            assert!(theirs <= mine || followed.is_ok_and(|followed| followed == *other));
        }
    }
    // By keys that knew of the first vote and go on from there.
    let last = extended(&once, &last_resort);
    assert!(order.iter().all(|chain| last.supersedes(chain) && !chain.supersedes(&last)));
    // Votes stand against votes: whoever was first stays.
    let mut rival = Network { chain: base, votes: network.votes };
    rival.step(&[0, 1, 2]);
    rival.step(&[0, 1, 2]);
    assert!(rival.chain.overruled_by(once.after(0)).is_none() && once.overruled_by(rival.chain.after(0)).is_none());
}

#[test]
fn a_link_that_does_not_verify_overrules_nothing() {
    let mut network = Network::of(4);
    let good = signed(proposed(&mut network, &[1, 2, 5]), &[0, 1]).link();
    let alone = signed(proposed(&mut network, &[1, 2, 5]), &[0]).link();
    network.step(&[0, 1, 2, 3]);
    assert_eq!(network.chain.overruled_by(&[alone]), None);
    let mut elsewhere = good.clone();
    elsewhere.roster.prev = network.chain.roster(2).unwrap().hash();
    assert_eq!(network.chain.overruled_by(&[elsewhere]), None);
    let (shared, fork) = network.chain.overruled_by(&[good.clone(), network.chain.after(3)[0].clone()]).unwrap();
    assert_eq!((shared, fork.newest()), (3, &good.roster), "what does not follow the recovery is left out");
}

#[test]
fn the_close_set_is_what_was_carried_acked_and_certified() {
    let mut network = Network::of(4);
    let acked = acked_head(&network).carried();
    let offers = [(0, false), (1, true), (2, false)].map(|(number, acks)| offer_file(&mut network, number, acks));
    let (file, coverage) = RecoveryFile::propose(&offers, &[], Timestamp(NOON.0 + 5)).unwrap();
    assert_eq!(file.heads.to_vec(), vec![acked]);
    assert_eq!((file.roster.close_count, file.roster.close_set_root), (1, set_root([&acked])));
    assert_eq!(file.roster.valid_from, Timestamp(NOON.0 + 5));
    assert_eq!(coverage, Coverage { reported: 1, needed: 3 });
    assert!(!coverage.is_complete());
    file.check().unwrap();

    // A final version stands above one that was only acked, and a certificate that says no adds nothing.
    let mut head = public_manifest();
    head.created_at.0 += 1;
    let statement = network.statement(3, &head);
    let certificate = CertificateFile {
        certificate: network.votes(statement, 0..3),
        holdings: network.holdings(network.receipts(&head, &[0, 1])),
        chain: network.chain.up_to(3),
        manifest: Signed::new(&network.genesis().network_id(), head.clone(), &owner_key()),
    };
    let mut rejected = certificate.clone();
    let no = mynet_types::VoteStatement { verdict: mynet_types::Verdict::Reject, phase: Phase::Vote, ..statement };
    rejected.certificate = network.votes(no, 0..3);
    let (file, _) = RecoveryFile::propose(&offers, &[rejected.clone(), certificate.clone()], NOON).unwrap();
    assert_eq!(file.heads.to_vec(), vec![CarriedHead { value: head.hash(), ..acked }]);
    let (file, _) = RecoveryFile::propose(&offers, &[rejected], NOON).unwrap();
    assert_eq!(file.heads.to_vec(), vec![acked]);
    let (file, _) = RecoveryFile::propose(&offers, &[network.certificate(3)], NOON).unwrap();
    assert_eq!(file.heads.to_vec(), vec![acked], "a first version is carried by nobody");
    let mut broken = certificate;
    broken.certificate.statement.value = ManifestHash([1; 32]);
    let refused = RecoveryFile::propose(&offers, &[broken], NOON);
    assert!(matches!(refused, Err(ProposeError::Certificate { .. })), "{refused:?}");
}

/// An offer that `change`s and its node signs again.
fn resigned(file: &OfferFile, number: u64, change: impl FnOnce(&mut mynet_types::RecoveryOffer)) -> OfferFile {
    let mut body = file.offer.body.clone();
    change(&mut body);
    OfferFile { offer: Signed::new(&file.genesis.network_id(), body, &node_key(number)), ..file.clone() }
}

#[test]
fn offers_that_make_no_roster_are_refused_with_their_reason() {
    let mut network = Network::of(4);
    let good = [0, 1, 2].map(|number| offer_file(&mut network, number, number == 1));
    let refused = |offers: &[OfferFile]| RecoveryFile::propose(offers, &[], NOON).unwrap_err();
    let with = |last: OfferFile| refused(&[good[0].clone(), good[1].clone(), last]);
    assert!(matches!(refused(&[]), ProposeError::NoOffers));
    assert!(matches!(with(good[1].clone()), ProposeError::Twice { .. }));
    let mut foreign = good[2].clone();
    foreign.genesis.salt = [1; 32];
    assert!(matches!(with(foreign), ProposeError::OtherNetwork { .. }));
    let mut unsigned = good[2].clone();
    unsigned.offer.body.reports = true;
    assert!(matches!(with(unsigned), ProposeError::Unsigned { .. }));
    let key_unsigned = resigned(&good[2], 2, |offer| offer.key_signature = Signature([1; 64]));
    assert!(matches!(with(key_unsigned), ProposeError::Unsigned { .. }));
    let unproven = resigned(&good[2], 2, |offer| {
        let mut head = acked_head(&network);
        head.version = 7;
        offer.acked = BoundedVec::truncated([head]);
    });
    assert!(matches!(with(unproven), ProposeError::Unproven { .. }));
    let broken = OfferFile {
        chain: RosterChain { links: good[2].chain.links[1..].to_vec().try_into().unwrap() },
        ..good[2].clone()
    };
    assert!(matches!(with(broken), ProposeError::Chain { .. }));

    // One of them knows a newer epoch: whatever the others offered is too old.
    network.step(&[0, 1, 2, 3]);
    let newer = offer_file(&mut network, 2, false);
    let stale = with(newer);
    assert!(matches!(stale, ProposeError::Stale { got: 4, newest: 4, .. }), "{stale:?}");
}

#[test]
fn two_proven_values_of_one_version_need_a_certificate() {
    let mut network = Network::of(4);
    let one = offer_file(&mut network, 1, true);
    let mut head = acked_head(&network);
    head.certificate.statement.value = ManifestHash([9; 32]);
    head.certificate = network.votes(head.certificate.statement, 0..3);
    let other = offer_file(&mut network, 2, false);
    let other = resigned(&other, 2, |offer| offer.acked = BoundedVec::truncated([head]));
    let refused = RecoveryFile::propose(&[one, other], &[], NOON);
    assert!(matches!(refused, Err(ProposeError::Contradiction { version: 2, .. })), "{refused:?}");
}

#[test]
fn what_was_carried_must_be_known_by_one_who_offers() {
    let mut network = Network::of(4);
    let carried = CarriedHead { group_id: manifest().group_id, version: 9, value: ManifestHash([3; 32]) };
    let mut roster = network.next_roster(&[0, 1, 2, 3]);
    (roster.close_set_root, roster.close_count) = (set_root([&carried]), 1);
    network.chain.extend(network.full_link(roster)).unwrap();
    let offers = [0, 1].map(|number| offer_file(&mut network, number, false));
    let refused = RecoveryFile::propose(&offers, &[], NOON);
    assert!(matches!(refused, Err(ProposeError::CarriedUnknown { epoch: 4, count: 1 })), "{refused:?}");
    let knows = resigned(&offers[1], 1, |offer| offer.carried = Some(BoundedVec::truncated([carried])));
    let (file, _) = RecoveryFile::propose(&[offers[0].clone(), knows], &[], NOON).unwrap();
    assert_eq!(file.heads.to_vec(), vec![carried]);
    let lies = CarriedHead { value: ManifestHash([4; 32]), ..carried };
    let lies = resigned(&offers[1], 1, |offer| offer.carried = Some(BoundedVec::truncated([lies])));
    assert!(RecoveryFile::propose(&[offers[0].clone(), lies], &[], NOON).is_err());
}

#[test]
fn signatures_of_two_machines_are_put_together() {
    let mut network = Network::of(4);
    let file = proposed(&mut network, &[1, 2, 5]);
    let (one, other) = (signed(file.clone(), &[0]), signed(file.clone(), &[2]));
    let mut both = one.clone();
    both.combine(&other).unwrap();
    both.combine(&one).unwrap();
    assert_eq!((both.missing(), both.clone()), (0, signed(file, &[0, 2])));
    let unlike = signed(proposed(&mut network, &[1, 2, 6]), &[1]);
    assert!(matches!(both.combine(&unlike), Err(RecoveryError::OtherRoster)));
    let mut spoiled = other;
    spoiled.keys.signatures = BoundedVec::truncated([Signature([1; 64])]);
    assert!(matches!(both.combine(&spoiled), Err(RecoveryError::Signature(_))));
    assert_eq!(both.missing(), 0);
}

#[test]
fn files_survive_their_encoding_and_a_changed_one_is_refused() {
    let mut network = Network::of(4);
    let (offer, file) = (offer_file(&mut network, 1, true), recovery_file(&mut network));
    assert_eq!(OfferFile::decode(&offer.encode()).unwrap(), offer);
    assert_eq!(RecoveryFile::decode(&file.encode()).unwrap(), file);
    assert!(RecoveryFile::decode(&offer.encode()).is_err() && OfferFile::decode(&file.encode()).is_err());
    let other_heads = RecoveryFile { heads: BoundedVec::new(), ..file.clone() };
    assert!(matches!(other_heads.check(), Err(RecoveryError::Heads)));
    let mut broken = file;
    broken.chain.links = BoundedVec::new();
    assert!(matches!(broken.check(), Err(RecoveryError::Link(LinkError::NotNext { epoch: 4 }))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_changed_byte_of_a_recovery_leads_to_another_roster(at: prop::sample::Index, flip in 1_u8..) {
        let mut network = Network::of(4);
        let link = recovery_file(&mut network).link();
        let mut bytes = mynet_types::codec::encode(&link);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(changed) = mynet_types::codec::decode::<RosterLink>(&bytes, bytes.len()) {
            prop_assert!(network.chain.clone().extend(changed).is_err());
        }
    }

    #[test]
    fn nodes_that_hear_of_the_same_chains_in_any_order_follow_the_same(
        order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle(),
        again in prop::collection::vec(0..5_usize, 0..6),
    ) {
        let mut network = Network::of(4);
        let mut chains = Vec::new();
        let recovered = |network: &mut Network, seats: &[u64]| {
            let link = signed(proposed(network, seats), &[0, 1]).link();
            extended(&network.chain, &link)
        };
        chains.push(recovered(&mut network, &[1, 2, 5]));
        chains.push(recovered(&mut network, &[1, 2, 6]));
        network.step(&[0, 1, 2, 3]);
        chains.push(network.chain.clone());
        chains.push(recovered(&mut network, &[0, 1, 2]));
        network.step(&[0, 1, 2, 3]);
        chains.push(network.chain.clone());
        let mut mine = Network::of(4).chain;
        for index in order.into_iter().chain(again) {
            if let Ok(followed) = mine.followed(chains[index].after(0)) {
                mine = followed;
            }
        }
        prop_assert_eq!(&mine, &chains[3], "the recovery on top of the vote");
    }
}
