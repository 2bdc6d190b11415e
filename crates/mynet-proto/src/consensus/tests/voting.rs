//! What a validator votes for, refuses, and remembers.

use std::time::Duration;

use mynet_types::{
    AbstainReason, BoundedVec, Claim, ConsensusMessage, ManifestHash, Proposal, RejectReason, Roles, Signed,
    SignedManifest, SignedProposal, Timestamp, Verdict, Vote, VoteSecret, wire::Receipts,
};

use super::kit::{EPOCH_MS, Net, id, key};
use crate::consensus::{
    certified::Decided,
    io::{Config, Event, Hashed, Input, Outcome, Tally},
};

/// The proposal that `proposer` would make, changed by `change` before it is signed.
fn proposal(
    net: &Net,
    proposer: usize,
    (manifest, claim): (&SignedManifest, Claim),
    change: impl FnOnce(&mut Proposal),
) -> SignedProposal {
    let roster = net.nodes[0].core.roster();
    let mut body = Proposal {
        epoch: roster.epoch,
        roster: roster.hash(),
        proposer: id(proposer),
        group_id: manifest.body.group_id,
        version: manifest.body.version,
        manifest_hash: manifest.body.hash(),
        claim,
        states: manifest.body.allowed(false),
        expires_at: net.now.wall.after(Duration::from_secs(600)),
        nonce: [u8::try_from(proposer).unwrap(); 16],
    };
    change(&mut body);
    Signed::new(&net.genesis.network_id(), body, &key(proposer))
}

fn message(proposal: SignedProposal, manifest: &SignedManifest, receipts: Receipts) -> ConsensusMessage {
    ConsensusMessage::Propose { proposal, manifest: Box::new(manifest.clone()), receipts, previous: None }
}

/// What node 1 said to node 2 since the last [`Net::clear`].
fn answers(net: &Net) -> Vec<Result<Vote, AbstainReason>> {
    let answer = |message: &ConsensusMessage| match message {
        ConsensusMessage::Vote(vote) => Some(Ok(vote.clone())),
        ConsensusMessage::Abstain(abstention) => Some(Err(abstention.reason)),
        _ => None,
    };
    let sent = net.sent.iter().filter(|(from, to, _)| (*from, *to) == (id(1), id(2)));
    sent.filter_map(|(_, _, message)| answer(message)).collect()
}

/// Node 2 asks node 1 in a grown network; what is the answer?
fn ask(
    net: &mut Net,
    (manifest, claim): (&SignedManifest, Claim),
    receipts: Receipts,
) -> Vec<Result<Verdict, AbstainReason>> {
    net.clear();
    let proposal = proposal(net, 2, (manifest, claim), |_| ());
    net.inject(2, 1, message(proposal, manifest, receipts));
    net.settle();
    answers(net).into_iter().map(|answer| answer.map(|vote| vote.statement.verdict)).collect()
}

#[test]
fn a_vote_leaves_only_after_it_is_durable() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.disks_stall = true;
    let accept = proposal(&net, 2, (&manifest, Claim::Seen), |_| ());
    for _ in 0..3 {
        net.inject(2, 1, message(accept.clone(), &manifest, BoundedVec::new()));
        net.settle();
    }
    assert!(answers(&net).is_empty());
    assert!(net.nodes[1].events.is_empty());
    net.disks_stall = false;
    net.settle();
    assert_eq!(answers(&net).len(), 1, "asked three times, answered once");
    assert!(matches!(net.nodes[1].events[..], [Event::Voted(_)]));
}

#[test]
fn a_vote_of_an_epoch_that_ended_does_not_stand_for_the_next_one() {
    let mut net = Net::new(4, Config::default(), false);
    net.run_until(30, |net| net.nodes.iter().all(|node| node.core.roster().epoch == 2));
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::RosterLinks(_)));
    let grown = |net: &Net| net.nodes.iter().position(|node| node.core.roster().epoch == 3);
    net.run_until(30, |net| grown(net).is_some());
    let maker = grown(&net).unwrap();
    let voter = (0..3).find(|index| *index != maker).unwrap();
    let link = net.nodes[maker].core.chain().after(2)[0].clone();
    let (manifest, old) = (net.manifest(|_| ()), net.nodes[voter].core.roster().clone());
    net.clear();
    net.disks_stall = true;
    for roster in [old, link.roster.clone()] {
        let change = |body: &mut Proposal| (body.epoch, body.roster) = (roster.epoch, roster.hash());
        let ask = proposal(&net, 3, (&manifest, Claim::Seen), change);
        net.inject(3, voter, message(ask, &manifest, BoundedVec::new()));
        net.inject(maker, voter, ConsensusMessage::RosterLinks(vec![link.clone()].try_into().unwrap()));
    }
    // The batches come back one after the other; whatever leaves is compared with the disk at that moment.
    net.disks_stall = false;
    net.settle();
    let votes = net.sent.iter().filter_map(|(from, _, message)| match message {
        ConsensusMessage::Vote(vote) if *from == id(voter) => Some(vote.statement.epoch),
        _ => None,
    });
    assert_eq!(votes.collect::<Vec<_>>(), [3]);
}

#[test]
fn a_crash_before_the_vote_is_durable_leaves_no_vote() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.disks_stall = true;
    let accept = proposal(&net, 2, (&manifest, Claim::Seen), |_| ());
    net.inject(2, 1, message(accept, &manifest, BoundedVec::new()));
    net.crash(1);
    net.disks_stall = false;
    net.settle();
    net.restart(1);
    net.settle();
    assert!(answers(&net).is_empty());
    assert_eq!(ask(&mut net, (&manifest, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Accept)]);
}

#[test]
fn a_restarted_validator_gives_the_identical_vote() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let accept = proposal(&net, 2, (&manifest, Claim::Seen), |_| ());
    net.inject(2, 1, message(accept.clone(), &manifest, BoundedVec::new()));
    net.settle();
    let before = answers(&net);
    net.crash(1);
    net.restart(1);
    net.settle();
    net.clear();
    net.inject(2, 1, message(accept, &manifest, BoundedVec::new()));
    net.settle();
    assert_eq!(before.len(), 1);
    assert_eq!(answers(&net), before);
    assert_eq!(net.nodes[1].disk.votes_ever.len(), 1);
}

#[test]
fn the_slot_holds_one_verdict_per_value() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    // The store says that this node once rejected what it would accept now: a bug, or another program version.
    let seat = u16::try_from(net.seat_of(1)).unwrap();
    let statement = proposal(&net, 2, (&manifest, Claim::Seen), |_| ()).body.statement(Verdict::Reject);
    let signature = mynet_types::signing::sign_as(
        mynet_types::Domain::Vote,
        &net.genesis.network_id(),
        &statement,
        &net.vote_key(1),
    );
    let reason = Some(RejectReason::PolicyDenied);
    let proposal_id = mynet_types::ProposalId([0; 32]);
    let vote = Vote { statement, seat, signature, proposal_id, reason };
    net.nodes[1].disk.restored.votes.push(vote.clone());
    net.nodes[1].disk.votes_ever.push(vote);
    net.crash(1);
    net.restart(1);
    net.settle();
    let receipts = net.receipts(&[1, 2], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Durable), receipts), [Err(AbstainReason::Locked)]);
    assert_eq!(ask(&mut net, (&manifest, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Reject)], "as it said before");
    assert_eq!(net.outcome(1, &value), None);
}

#[test]
fn another_claim_about_the_same_value_is_voted_on_too() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    assert_eq!(ask(&mut net, (&manifest, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Accept)]);
    let receipts = net.receipts(&[0, 3], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Durable), receipts), [Ok(Verdict::Accept)]);
}

#[test]
fn durable_needs_w_receipts_that_count() {
    let mut net = Net::grown(6, 4);
    let manifest = net.manifest(|_| ());
    let other = net.manifest(|manifest| manifest.placement_seed = [1; 32]);
    let good = net.receipt(3, &manifest);
    let resigned = |holder: usize, change: &dyn Fn(&mut mynet_types::StorageReceipt)| {
        let mut body = net.receipt(holder, &manifest).body;
        change(&mut body);
        Signed::new(&net.genesis.network_id(), body, &key(holder))
    };
    let mut forged = net.receipt(5, &manifest);
    forged.body.holder = id(4);
    let bad = [
        ("one holder twice", good.clone()),
        ("another manifest", net.receipt(5, &other)),
        ("not admitted", net.receipt(9, &manifest)),
        ("expired", resigned(5, &|body| body.until = Timestamp(EPOCH_MS))),
        (
            "a part of the states",
            resigned(5, &|body| body.states = body.states.without(mynet_types::ContentState::Preview)),
        ),
        ("a forged signature", forged),
    ];
    for (why, receipt) in bad {
        let receipts = BoundedVec::truncated([good.clone(), receipt]);
        let answer = ask(&mut net, (&manifest, Claim::Durable), receipts);
        assert_eq!(answer, [Err(AbstainReason::Unavailable)], "{why}");
    }
    let receipts = net.receipts(&[3, 5], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Durable), receipts), [Ok(Verdict::Accept)]);
}

#[test]
fn the_copy_of_an_edge_never_counts() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.input(1, Input::Admitted(Box::new(net.admission(7, Roles::EDGE))));
    let receipts = net.receipts(&[3, 7], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Durable), receipts), [Err(AbstainReason::Unavailable)]);
    net.input(1, Input::Admitted(Box::new(net.admission(8, Roles::STORAGE))));
    let receipts = net.receipts(&[3, 8], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Durable), receipts), [Ok(Verdict::Accept)]);
}

#[test]
fn a_head_on_top_of_nothing_gets_an_abstention() {
    let mut net = Net::grown(4, 4);
    let second = net.manifest(|manifest| (manifest.version, manifest.prev) = (2, Some(ManifestHash([1; 32]))));
    assert_eq!(ask(&mut net, (&second, Claim::Seen), BoundedVec::new()), [Err(AbstainReason::HeadUnproven)]);
}

#[test]
fn a_wrong_manifest_is_rejected_with_its_reason() {
    let mut net = Net::grown(4, 4);
    let check = |net: &mut Net, manifest: &SignedManifest, want: RejectReason| {
        assert_eq!(ask(net, (manifest, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Reject)]);
        assert_eq!(answers(net)[0].as_ref().unwrap().reason, Some(want));
    };
    let numbers = net.manifest(|manifest| manifest.quorum = 0);
    check(&mut net, &numbers, RejectReason::ManifestInvalid);
    let links = net.manifest(|manifest| manifest.links = BoundedVec::new());
    check(&mut net, &links, RejectReason::LinksInvalid);
}

#[test]
fn a_broken_owner_signature_does_not_condemn_the_value() {
    let mut net = Net::grown(4, 4);
    let good = net.manifest(|_| ());
    let mut broken = good.clone();
    broken.signature.0[5] ^= 1;
    assert_eq!(ask(&mut net, (&broken, Claim::Seen), BoundedVec::new()), [Err(AbstainReason::Unavailable)]);
    assert_eq!(ask(&mut net, (&good, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Accept)]);
}

#[test]
fn a_format_of_the_future_is_not_rejected() {
    let mut net = Net::grown(4, 4);
    let future = net.manifest(|manifest| manifest.format = 2);
    assert_eq!(ask(&mut net, (&future, Claim::Seen), BoundedVec::new()), [Err(AbstainReason::Unavailable)]);
}

#[test]
fn what_no_honest_proposer_sends_gets_silence() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let other = net.manifest(|manifest| manifest.replicas = 5);
    let right = proposal(&net, 2, (&manifest, Claim::Seen), |_| ());
    let stranger = proposal(&net, 9, (&manifest, Claim::Seen), |_| ());
    let fewer = proposal(&net, 2, (&manifest, Claim::Seen), |body| body.states = mynet_types::StatesMask::EMPTY);
    let mut forged = right.clone();
    forged.body.nonce = [77; 16];
    let cases = [
        ("not its proposer", 3, message(right.clone(), &manifest, BoundedVec::new())),
        ("no member", 9, message(stranger, &manifest, BoundedVec::new())),
        ("another manifest", 2, message(right, &other, BoundedVec::new())),
        ("other states", 2, message(fewer, &manifest, BoundedVec::new())),
        ("a forged signature", 2, message(forged, &manifest, BoundedVec::new())),
    ];
    for (why, from, message) in cases {
        net.clear();
        net.inject(from, 1, message);
        assert!(net.sent.is_empty() && net.nodes[1].events.is_empty(), "{why}");
        assert!(net.nodes[1].disk.votes_ever.is_empty(), "{why}");
    }
}

#[test]
fn expired_proposals_and_other_rosters_get_an_abstention() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let expired = proposal(&net, 2, (&manifest, Claim::Seen), |body| body.expires_at = Timestamp(EPOCH_MS - 60_000));
    net.inject(2, 1, message(expired, &manifest, BoundedVec::new()));
    assert_eq!(answers(&net), [Err(AbstainReason::Expired)]);

    net.clear();
    let ahead = proposal(&net, 2, (&manifest, Claim::Seen), |body| body.epoch += 1);
    net.inject(2, 1, message(ahead, &manifest, BoundedVec::new()));
    assert_eq!(answers(&net), [Err(AbstainReason::OtherRoster)]);
    let asks = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterLinksAfter { epoch: 3 });
    assert!(net.sent.iter().any(|(_, _, message)| asks(message)), "whoever is behind asks");

    net.clear();
    let behind = proposal(&net, 2, (&manifest, Claim::Seen), |body| body.epoch -= 1);
    net.inject(2, 1, message(behind, &manifest, BoundedVec::new()));
    let tells = |message: &ConsensusMessage| matches!(message, ConsensusMessage::RosterHead { epoch: 3, .. });
    assert!(net.sent.iter().any(|(_, _, message)| tells(message)), "whoever is ahead says so");
}

#[test]
fn one_proposer_cannot_fill_the_disk_queue() {
    let mut net = Net::grown(4, 4);
    net.disks_stall = true;
    let budget = net.config.proposals_per_peer_max;
    for index in 0..=budget {
        let seed = u16::try_from(index).unwrap().to_be_bytes();
        let manifest = net.manifest(|manifest| manifest.placement_seed[..2].copy_from_slice(&seed));
        let proposal = proposal(&net, 2, (&manifest, Claim::Seen), |_| ());
        net.inject(2, 1, message(proposal, &manifest, BoundedVec::new()));
    }
    assert_eq!(answers(&net), [Err(AbstainReason::Busy)]);
    let manifest = net.manifest(|_| ());
    let from_other = proposal(&net, 3, (&manifest, Claim::Seen), |_| ());
    net.inject(3, 1, message(from_other, &manifest, BoundedVec::new()));
    net.disks_stall = false;
    net.settle();
    assert_eq!(answers(&net).len(), budget + 1);
    assert_eq!(net.nodes[1].disk.votes_ever.len(), budget + 1, "the other proposer was served");
    assert_eq!(ask(&mut net, (&manifest, Claim::Seen), BoundedVec::new()), [Ok(Verdict::Accept)], "room again");
}

#[test]
fn votes_on_the_word_of_one_proposer_are_bounded_and_those_that_others_vouch_for_are_not() {
    let mut net = Net::new(4, Config { unvouched_ballots_max: 3, ..Config::default() }, false);
    net.run_until(30, |net| net.nodes.iter().all(|node| node.core.roster().epoch == 3));
    let manifests: Vec<_> = (0..8)
        .map(|seed| {
            net.manifest(|manifest| {
                manifest.placement_seed = [seed; 32];
                // Number 1 is wrong, number 2 is durable by one copy.
                manifest.quorum = [2, 0, 1, 2, 2, 2, 2, 2][usize::from(seed)];
            })
        })
        .collect();
    let mut ask = |number: usize, claim, holders: &[usize]| {
        let receipts = net.receipts(holders, &manifests[number]);
        ask(&mut net, (&manifests[number], claim), receipts)
    };
    assert_eq!(ask(0, Claim::Seen, &[]), [Ok(Verdict::Accept)]);
    assert_eq!(ask(1, Claim::Seen, &[]), [Ok(Verdict::Reject)]);
    assert_eq!(ask(2, Claim::Durable, &[2]), [Ok(Verdict::Accept)], "by the receipt of its proposer");
    assert_eq!(ask(3, Claim::Seen, &[]), [Err(AbstainReason::Busy)]);
    assert_eq!(ask(0, Claim::Seen, &[]), [Ok(Verdict::Accept)], "what was voted on is answered all the same");
    for number in 3..8 {
        assert_eq!(ask(number, Claim::Durable, &[2, 3]), [Ok(Verdict::Accept)], "somebody else vouches for it");
    }
    net.clear();
    let another = proposal(&net, 3, (&manifests[4], Claim::Seen), |_| ());
    net.inject(3, 1, message(another, &manifests[4], BoundedVec::new()));
    net.settle();
    assert_eq!(net.nodes[1].disk.votes_ever.len(), 9, "the budget is per proposer");
}

#[test]
fn a_doubtful_vote_store_abstains_and_its_keys_are_erased() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.crash(1);
    net.nodes[1].disk.restored.may_vote = false;
    assert!(!net.keys(1).is_empty());
    // Offered for the next epoch since the store was lost, when the node died again.
    let next = net.nodes[1].core.roster().epoch + 1;
    net.nodes[1].disk.restored.keys.insert(next, VoteSecret([9; 32]));
    net.restart(1);
    net.settle();
    assert_eq!(ask(&mut net, (&manifest, Claim::Seen), BoundedVec::new()), [Err(AbstainReason::NotVoting)]);
    let kept: Vec<u64> = net.keys(1).keys().copied().collect();
    assert_eq!(kept, [next], "a key made since is kept, or a node that dies often never votes again");
    assert!(!net.nodes[1].core.may_vote());
}

/// What node 1 answers to node 2, who asks for a `verified` claim, once it was told what the bytes are.
fn verdict_of_bytes(net: &mut Net, manifest: &SignedManifest, hashed: Hashed) -> Vec<Result<Verdict, AbstainReason>> {
    let receipts = net.receipts(&[2, 3], manifest);
    assert_eq!(ask(net, (manifest, Claim::Verified), receipts), [], "no word before the bytes were looked at");
    let manifest_hash = manifest.body.hash();
    net.input(1, Input::Hashed { manifest_hash, hashed });
    net.settle();
    answers(net).into_iter().map(|answer| answer.map(|vote| vote.statement.verdict)).collect()
}

#[test]
fn a_verified_claim_is_signed_only_after_this_node_has_hashed_the_bytes() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    assert_eq!(verdict_of_bytes(&mut net, &manifest, Hashed::Unavailable), [Err(AbstainReason::Unavailable)]);
    assert_eq!(verdict_of_bytes(&mut net, &manifest, Hashed::Right), [Ok(Verdict::Accept)]);
    let asked: Vec<_> = net.nodes[1].hashing.iter().map(|(value, sources)| (*value, sources.clone())).collect();
    let mut holders = vec![id(2), id(3)];
    holders.sort();
    assert_eq!(asked, vec![(manifest.body.hash(), holders); 2], "an answer that says nothing is no answer for ever");
    // What was signed is not looked at again.
    let receipts = net.receipts(&[2, 3], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Verified), receipts), [Ok(Verdict::Accept)]);
    assert_eq!(net.nodes[1].hashing.len(), 2);
}

#[test]
fn bytes_with_another_sha256_are_rejected_unless_the_value_was_accepted_before() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    assert_eq!(verdict_of_bytes(&mut net, &manifest, Hashed::Wrong), [Ok(Verdict::Reject)]);
    assert_eq!(answers(&net)[0].as_ref().unwrap().reason, Some(RejectReason::HashMismatch));

    let other = net.manifest(|manifest| manifest.replicas += 1);
    let receipts = net.receipts(&[2, 3], &other);
    assert_eq!(ask(&mut net, (&other, Claim::Durable), receipts), [Ok(Verdict::Accept)]);
    assert_eq!(verdict_of_bytes(&mut net, &other, Hashed::Wrong), [Err(AbstainReason::Locked)]);
}

#[test]
fn a_no_about_bytes_holds_against_a_yes_about_copies_whichever_comes_first() {
    let manifest = Net::grown(4, 4).manifest(|_| ());
    let value = manifest.body.hash();
    let tally = |outcome| Tally { outcome, accepts: 3, rejects: 3, quorum: 3, validators: 4 };
    let (yes, no) = (tally(Outcome::Approved), tally(Outcome::Rejected));
    let outcome = |decided: &Decided, claim| decided.outcome(&value, claim).map(|tally| tally.outcome);

    let mut decided = Decided::default();
    assert!(decided.note(&manifest, (Claim::Durable, 3), yes));
    assert!(decided.note(&manifest, (Claim::Verified, 4), no), "those of a later epoch found the bytes wrong");
    assert!(!decided.note(&manifest, (Claim::Durable, 3), yes), "and that is known from then on");
    let mut other = Decided::default();
    assert!(other.note(&manifest, (Claim::Verified, 4), no));
    assert!(!other.note(&manifest, (Claim::Durable, 3), yes));
    for claim in [Claim::Seen, Claim::Durable, Claim::Verified] {
        assert_eq!(outcome(&decided, claim), Some(Outcome::Rejected), "{claim:?}");
        assert_eq!(outcome(&other, claim), Some(Outcome::Rejected), "{claim:?}");
    }
    // Whoever looked found one thing; and form and links are right or wrong for everybody.
    for (first, second) in [((Claim::Verified, yes), no), ((Claim::Durable, no), yes)] {
        let mut decided = Decided::default();
        assert!(decided.note(&manifest, (first.0, 3), first.1));
        assert!(!decided.note(&manifest, (first.0, 4), second));
        assert_eq!(outcome(&decided, first.0), Some(first.1.outcome), "the first one stays");
    }
    // Of one epoch both take more bad validators than may be.
    let mut decided = Decided::default();
    assert!(decided.note(&manifest, (Claim::Durable, 3), yes));
    assert!(!decided.note(&manifest, (Claim::Verified, 3), no));
    assert_eq!(outcome(&decided, Claim::Durable), Some(Outcome::Approved), "the first one stays");
}

#[test]
fn a_verified_claim_needs_the_receipts_of_a_durable_one_before_anything_is_read() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let receipts = net.receipts(&[2], &manifest);
    assert_eq!(ask(&mut net, (&manifest, Claim::Verified), receipts), [Err(AbstainReason::Unavailable)]);
    assert!(net.nodes[1].hashing.is_empty());
}

#[test]
fn all_who_ask_about_one_value_wait_for_one_look_at_its_bytes_and_few_values_wait_for_one_proposer() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let receipts = net.receipts(&[2, 3], &manifest);
    for proposer in [2, 3, 2] {
        let asked = proposal(&net, proposer, (&manifest, Claim::Verified), |_| ());
        net.inject(proposer, 1, message(asked, &manifest, receipts.clone()));
    }
    assert_eq!(net.nodes[1].hashing.len(), 1);
    net.clear();
    net.input(1, Input::Hashed { manifest_hash: manifest.body.hash(), hashed: Hashed::Right });
    net.settle();
    let told: Vec<_> = net.sent.iter().filter(|(from, ..)| *from == id(1)).map(|(_, to, _)| *to).collect();
    assert_eq!(told.len(), 2);
    assert!(told.contains(&id(2)) && told.contains(&id(3)), "{told:?}");

    for more in 1..=5 {
        let manifest = net.manifest(|manifest| manifest.replicas += more);
        let receipts = net.receipts(&[2, 3], &manifest);
        let expected: &[_] = if more == 5 { &[Err(AbstainReason::Busy)] } else { &[] };
        assert_eq!(ask(&mut net, (&manifest, Claim::Verified), receipts), expected, "{more}");
    }
    assert_eq!(net.nodes[1].hashing.len(), 5);
}

#[test]
fn a_verified_certificate_is_made_and_says_durable_too() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    let receipts = net.receipts(&[2, 3], &manifest);
    net.propose(0, &manifest, Claim::Verified, receipts.clone());
    net.settle();
    for index in 0..4 {
        net.input(index, Input::Hashed { manifest_hash: value, hashed: Hashed::Right });
    }
    net.settle();
    let claims: Vec<_> = net.certificates(3).iter().map(|file| file.certificate.statement.claim).collect();
    assert_eq!(claims, [Claim::Verified]);
    for claim in [Claim::Seen, Claim::Durable, Claim::Verified] {
        assert!(net.nodes[3].core.decided(&value, claim).is_some(), "{claim:?}");
    }
    net.clear();
    net.propose(0, &manifest, Claim::Durable, receipts);
    net.settle();
    assert!(net.sent.is_empty(), "what is certified as more needs no votes for less");
}
