//! A store that is older than its key: found by asking, by certificates, by evidence; and never on a peer's word alone.

use mynet_types::{BoundedVec, Claim, ConsensusMessage, SignedManifest, SignedStatement, Verdict};

use super::kit::{Disk, Net, id};

/// A network in which node 1 voted on a value of node 0 after its disk was copied, and that copy.
fn voted_after_backup() -> (Net, Disk, SignedManifest) {
    let mut net = Net::grown(5, 4);
    let backup = net.nodes[1].disk.clone();
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert_eq!(net.nodes[1].disk.restored.votes.len(), 1);
    assert!(backup.restored.may_vote && backup.restored.votes.is_empty());
    (net, backup, manifest)
}

fn is_vote_of(net: &Net, index: usize) -> bool {
    net.sent.iter().any(|(from, _, message)| *from == id(index) && matches!(message, ConsensusMessage::Vote(_)))
}

#[test]
fn a_machine_that_was_put_back_is_silent_until_it_has_a_fresh_key() {
    let (mut net, backup, _) = voted_after_backup();
    net.crash(1);
    net.nodes[1].disk = backup;
    net.clear();
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::KeyRequest { .. }));
    net.restart(1);
    net.settle();
    assert!(!net.nodes[1].core.may_vote());
    assert!(net.keys(1).is_empty(), "the key in doubt is erased");
    assert!(!is_vote_of(&net, 1));
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| net.nodes[1].core.may_vote());
    assert_eq!(net.nodes[1].core.roster().epoch, 4);
    assert_eq!(net.nodes[1].core.roster().validators.len(), 4, "nobody lost its seat");
}

#[test]
fn a_store_that_is_whole_votes_again_once_enough_seats_have_answered() {
    let (mut net, _, manifest) = voted_after_backup();
    net.crash(1);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::YourVotes { .. }));
    net.clear();
    net.restart(1);
    let other = net.manifest(|manifest| manifest.placement_seed = [77; 32]);
    net.propose(2, &other, Claim::Seen, net.receipts(&[], &other));
    net.run(30);
    assert!(!is_vote_of(&net, 1), "nobody has said what it holds");
    // Two of the others are asked: f + 1, so that one honest seat is among them.
    let mut answers = 0;
    net.filter = Box::new(move |_, _, message| {
        answers += usize::from(matches!(message, ConsensusMessage::YourVotes { .. }));
        answers < 2 || !matches!(message, ConsensusMessage::YourVotes { .. })
    });
    net.run(5);
    assert!(!is_vote_of(&net, 1), "one answer may be a liar's");
    net.filter = Box::new(|_, _, _| true);
    net.run(5);
    assert!(is_vote_of(&net, 1), "and what was signed meanwhile leaves without being asked for again");
    assert!(net.nodes[1].core.may_vote());
    // What it voted before the restart is answered from its store.
    net.inject(2, 1, ConsensusMessage::MyVotes { epoch: 3 });
    net.propose(3, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert!(net.nodes[1].core.may_vote());
}

#[test]
fn peers_cannot_silence_a_validator_by_words_or_by_votes_of_others() {
    let (mut net, _, _) = voted_after_backup();
    net.crash(1);
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::YourVotes { .. }));
    net.restart(1);
    net.settle();
    let of_another = net.nodes[2].disk.restored.votes[0].clone();
    let mut forged = net.nodes[1].disk.restored.votes[0].clone();
    forged.statement.verdict = Verdict::Reject;
    let votes =
        [of_another, forged].map(|vote| SignedStatement { statement: vote.statement, signature: vote.signature });
    for from in [0, 2] {
        let votes = BoundedVec::truncated(votes);
        net.inject(from, 1, ConsensusMessage::YourVotes { epoch: 3, votes });
    }
    net.settle();
    assert!(net.nodes[1].core.may_vote());
}

#[test]
fn a_certificate_with_a_vote_that_the_store_does_not_know_silences_too() {
    let mut net = Net::grown(4, 4);
    let backup = net.nodes[1].disk.clone();
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|from, _, message| from != id(2) || !matches!(message, ConsensusMessage::Vote(_)));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let file = net.certificates(0)[0].clone();
    assert!(file.certificate.signers.seats().any(|seat| seat == net.seat_of(1)));
    for index in [0, 2, 3] {
        // They have forgotten: the books are in memory.
        net.crash(index);
        net.nodes[index].disk.restored.proposals.clear();
    }
    net.crash(1);
    for index in [0, 2, 3] {
        net.restart(index);
    }
    net.nodes[1].disk = backup;
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::KeyRequest { .. }));
    net.restart(1);
    net.settle();
    assert!(net.nodes[1].core.may_vote(), "nobody could tell");
    net.inject(0, 1, ConsensusMessage::Certified(Box::new(file)));
    net.settle();
    assert!(!net.nodes[1].core.may_vote());
    assert!(net.keys(1).is_empty());
}

#[test]
fn a_key_made_since_the_start_is_in_no_doubt() {
    let mut net = Net::grown(4, 4);
    net.clear();
    let manifest = net.manifest(|_| ());
    net.filter = Box::new(|_, _, message| !matches!(message, ConsensusMessage::MyVotes { .. }));
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    assert!(is_vote_of(&net, 1));
    assert!(!net.sent.iter().any(|(_, _, message)| matches!(message, ConsensusMessage::MyVotes { .. })));
}

#[test]
fn a_store_that_kept_the_newest_claim_only_is_whole() {
    let mut net = Net::grown(4, 4);
    let manifest = net.manifest(|_| ());
    net.propose(0, &manifest, Claim::Seen, net.receipts(&[], &manifest));
    net.settle();
    let receipts = net.receipts(&[1, 2], &manifest);
    net.propose(0, &manifest, Claim::Durable, receipts);
    net.settle();
    let votes = &mut net.nodes[1].disk.restored.votes;
    assert_eq!(votes.len(), 2);
    votes.retain(|vote| vote.statement.claim == Claim::Durable);
    net.crash(1);
    net.restart(1);
    net.run(5);
    assert!(net.nodes[1].core.may_vote());
    let told =
        |message: &ConsensusMessage| matches!(message, ConsensusMessage::YourVotes { votes, .. } if votes.len() == 2);
    assert!(net.sent.iter().any(|(_, to, message)| *to == id(1) && told(message)), "it was shown both");
}
