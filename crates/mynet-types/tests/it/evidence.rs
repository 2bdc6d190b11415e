//! What accuses a seat, and what does not.

use mynet_types::{
    Claim, Domain, Evidence, EvidenceError, ManifestHash, NetworkId, Phase, RosterHash, SignatureError, SlotKey,
    StatesMask, Verdict, Vote, VoteStatement,
};
use proptest::prelude::{Strategy, any, prop, prop_assert, prop_assert_eq, proptest};

use crate::{
    network::{Network, node},
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
