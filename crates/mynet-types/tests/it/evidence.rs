//! What accuses a seat, and what does not.

use mynet_types::{
    Claim, Domain, Evidence, EvidenceError, GroupId, ManifestHash, NetworkId, OwnerEvidence, OwnerKey, OwnerStatement,
    Phase, RosterHash, SignatureError, Signed, SignedOwnerStatement, SlotKey, StatesMask, Verdict, Vote, VoteStatement,
    codec,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use crate::{
    network::{Network, key, manifest, node, owner_key, public, public_manifest},
    samples,
};

/// A vote of `seat` in the newest roster.
fn vote(network: &Network, seat: u16, statement: VoteStatement) -> Vote {
    let signature = network.sign_one(network.chain.newest(), usize::from(seat), Domain::Vote, &statement);
    Vote { statement, seat, signature, ..samples::vote(network) }
}

#[test]
fn a_pair_makes_one_record_whichever_was_seen_first() {
    let network = Network::of(4);
    let (roster, id) = (network.chain.newest(), network.genesis().network_id());
    let reject = samples::vote(&network);
    let accept = vote(&network, 1, VoteStatement { verdict: Verdict::Accept, ..reject.statement });
    let evidence = Evidence::of(&reject, &accept).unwrap();
    assert_eq!(Evidence::of(&accept, &reject), Some(evidence));
    assert_eq!(evidence.verify(&id, roster), Ok(roster.validators[1].node));
    assert_ne!(evidence.verify(&id, roster), Ok(node(9)));
    assert_eq!((evidence.epoch(), evidence.slot()), (3, reject.statement.slot));
}

#[test]
fn whatever_is_changed_in_it_accuses_nobody() {
    let network = Network::of(4);
    let (roster, id) = (network.chain.newest(), network.genesis().network_id());
    let good = samples::evidence(&network);
    let check = |change: &dyn Fn(&mut Evidence)| {
        let mut evidence = good;
        change(&mut evidence);
        evidence.verify(&id, roster)
    };
    assert!(check(&|_| ()).is_ok());
    let signature = Err(EvidenceError::Signature(SignatureError::Signature));
    assert_eq!(check(&|evidence| evidence.seat = 2), signature, "another seat did not sign it");
    assert_eq!(check(&|evidence| evidence.seat = 4), Err(EvidenceError::NoSuchSeat));
    assert_eq!(check(&|evidence| std::mem::swap(&mut evidence.first, &mut evidence.second)), Err(EvidenceError::Order));
    assert_eq!(check(&|evidence| evidence.second = evidence.first), Err(EvidenceError::NoContradiction));
    assert_eq!(check(&|evidence| evidence.second.signature = evidence.first.signature), signature);
    for statement in [true, false] {
        let other = move |evidence: &mut Evidence| {
            let both = [&mut evidence.first, &mut evidence.second];
            for signed in both {
                if statement { signed.statement.epoch = 2 } else { signed.statement.roster = RosterHash([1; 32]) }
            }
        };
        assert_eq!(check(&other), Err(EvidenceError::OtherRoster));
    }
    assert_eq!(good.verify(&NetworkId([1; 32]), roster), signature);
    assert_eq!(good.verify(&id, network.chain.roster(2).unwrap()), Err(EvidenceError::OtherRoster));
}

/// What an honest validator may be asked: slots, the one value it stands by in each, and claims about it.
fn questions() -> impl Strategy<Value = Vec<(u8, Phase, Claim, u8)>> {
    let phase = any::<bool>().prop_map(|ack| if ack { Phase::Ack } else { Phase::Vote });
    let claim = (0_u8..3).prop_map(|claim| [Claim::Seen, Claim::Durable, Claim::Verified][usize::from(claim)]);
    prop::collection::vec((0_u8..4, phase, claim, 0_u8..3), 1..12)
}

proptest! {
    #[test]
    fn no_two_votes_of_an_honest_history_are_evidence(asked in questions(), stands in prop::array::uniform4(any::<bool>())) {
        let network = Network::of(4);
        let base = samples::vote(&network).statement;
        // One value and one verdict per slot, whatever is claimed about it, of whichever states.
        let votes: Vec<Vote> = asked.iter().map(|(slot, phase, claim, states)| {
            let verdict = if stands[usize::from(*slot)] { Verdict::Accept } else { Verdict::Reject };
            let (slot, value) = (SlotKey([*slot; 32]), ManifestHash([*slot; 32]));
            let states = [StatesMask::EMPTY, base.states][usize::from(*states % 2)];
            vote(&network, 1, VoteStatement { slot, value, phase: *phase, claim: *claim, verdict, states, ..base })
        }).collect();
        for (one, other) in votes.iter().flat_map(|one| votes.iter().map(move |other| (one, other))) {
            prop_assert_eq!(Evidence::of(one, other), None);
        }
        // One lie in it is found, and accuses the liar alone.
        let truth = &votes[0];
        let verdict = if truth.statement.verdict == Verdict::Accept { Verdict::Reject } else { Verdict::Accept };
        let lie = vote(&network, 1, VoteStatement { verdict, claim: Claim::Seen, ..truth.statement });
        let evidence = Evidence::of(truth, &lie).unwrap();
        let (id, roster) = (network.genesis().network_id(), network.chain.newest());
        prop_assert_eq!(evidence.verify(&id, roster), Ok(roster.validators[1].node));
        for seat in [0, 2, 3] {
            let lie = vote(&network, seat, lie.statement);
            prop_assert_eq!(Evidence::of(truth, &lie), None, "two seats may differ");
            let slander = Evidence { seat, ..evidence };
            prop_assert!(slander.verify(&id, roster).is_err());
        }
    }
}

/// What the owner of everything here says of a version, signed by `by`.
fn said(
    network: &Network,
    (group, version, value): (u8, u64, u8),
    by: &ed25519_dalek::SigningKey,
) -> SignedOwnerStatement {
    let (group_id, manifest_hash) = (GroupId([group; 32]), ManifestHash([value; 32]));
    let body = OwnerStatement { group_id, version, manifest_hash, owner: OwnerKey(public(by)) };
    Signed::new(&network.genesis().network_id(), body, by)
}

#[test]
fn two_manifests_of_one_version_accuse_their_owner_without_the_manifests() {
    let network = Network::of(4);
    let id = network.genesis().network_id();
    let sign = |body| Signed::new(&id, body, &owner_key());
    let (one, mut other) = (public_manifest(), public_manifest());
    other.created_at.0 += 1;
    let (one, other) = (sign(one), sign(other));
    assert!(one.statement().verify(&id).is_ok(), "a manifest's signature is one of its statement");
    let evidence = OwnerEvidence::of(&one.statement(), &other.statement()).unwrap();
    assert_eq!(OwnerEvidence::of(&other.statement(), &one.statement()), Some(evidence), "one record for one pair");
    assert_eq!(evidence.verify(&id), Ok(()));
    let hashes = [evidence.first.manifest_hash, evidence.second.manifest_hash];
    assert!(hashes[0] < hashes[1] && hashes.contains(&one.body.hash()) && hashes.contains(&other.body.hash()));
    assert_eq!(codec::encode(&evidence).len(), 264);
    // One manifest, a later version, another group, another owner: an honest owner signs all of them.
    let good = said(&network, (1, 2, 1), &owner_key());
    for (group, version, value) in [(1, 2, 1), (1, 3, 2), (2, 2, 2)] {
        assert_eq!(OwnerEvidence::of(&good, &said(&network, (group, version, value), &owner_key())), None);
    }
    assert_eq!(OwnerEvidence::of(&good, &said(&network, (1, 2, 2), &key("owner", 1))), None);
}

#[test]
fn a_first_version_accuses_nobody() {
    // Only one manifest has the group id that it names itself; whoever signs another one signs what is rejected.
    let network = Network::of(4);
    let [one, other] = [1, 2].map(|value| said(&network, (1, 1, value), &owner_key()));
    assert_eq!(OwnerEvidence::of(&one, &other), None);
    let mut evidence = samples::owner_evidence(&network);
    evidence.version = 1;
    assert_eq!(evidence.verify(&network.genesis().network_id()), Err(EvidenceError::FirstVersion));
    let mut second = manifest();
    second.created_at.0 += 1;
    assert_ne!(second.derive_group_id(), second.group_id);
}

#[test]
fn whatever_is_changed_in_it_accuses_no_owner() {
    let network = Network::of(4);
    let id = network.genesis().network_id();
    let good = samples::owner_evidence(&network);
    let check = |change: &dyn Fn(&mut OwnerEvidence)| {
        let mut evidence = good;
        change(&mut evidence);
        evidence.verify(&id)
    };
    assert_eq!(check(&|_| ()), Ok(()));
    let signature = Err(EvidenceError::Signature(SignatureError::Signature));
    assert_eq!(check(&|it| std::mem::swap(&mut it.first, &mut it.second)), Err(EvidenceError::Order));
    assert_eq!(check(&|it| it.second = it.first), Err(EvidenceError::NoContradiction));
    assert_eq!(check(&|it| it.version += 1), signature);
    assert_eq!(check(&|it| it.group_id.0[0] ^= 1), signature);
    assert_eq!(check(&|it| it.owner = OwnerKey(public(&key("owner", 1)))), signature);
    assert_eq!(check(&|it| it.first.manifest_hash.0[31] ^= 1), signature);
    assert_eq!(check(&|it| it.second.signature = it.first.signature), signature);
    assert_eq!(good.verify(&NetworkId([1; 32])), signature);
}

proptest! {
    #[test]
    fn no_history_of_an_honest_owner_is_evidence_and_no_changed_byte_leaves_any(
        asked in prop::collection::vec((0_u8..3, 1_u64..5), 1..10),
        at in any::<prop::sample::Index>(),
        to: u8,
    ) {
        let network = Network::of(4);
        let id = network.genesis().network_id();
        // One value per group and version, however often it is signed.
        let value = |group: u8, version: u64| group * 16 + u8::try_from(version).unwrap();
        let signed: Vec<_> = asked
            .iter()
            .map(|(group, version)| said(&network, (*group, *version, value(*group, *version)), &owner_key()))
            .collect();
        for (one, other) in signed.iter().flat_map(|one| signed.iter().map(move |other| (one, other))) {
            prop_assert_eq!(OwnerEvidence::of(one, other), None);
        }
        let good = samples::owner_evidence(&network);
        let mut bytes = codec::encode(&good);
        let at = at.index(bytes.len());
        let was = std::mem::replace(&mut bytes[at], to);
        if was != to && let Ok(other) = codec::decode::<OwnerEvidence>(&bytes, bytes.len()) {
            prop_assert!(other.verify(&id).is_err());
        }
    }

    #[test]
    fn junk_accuses_no_owner_and_panics_nobody(junk in prop::collection::vec(any::<u8>(), 264..=264)) {
        if let Ok(evidence) = codec::decode::<OwnerEvidence>(&junk, junk.len()) {
            prop_assert!(evidence.verify(&NetworkId([1; 32])).is_err());
        }
    }
}
