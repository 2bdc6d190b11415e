//! Recovery by the offline keys: from offers to a roster that certifies again, heads over it, and chains that part.

use mynet_types::{
    Claim, ConsensusMessage, NodeId, OfferFile, RecoveryFile, RosterLink, SignedRecoveryOffer, VerifiedChain,
};

use super::{
    growing::rotations,
    kit::{Net, id, recovery_key},
};
use crate::consensus::io::{Config, Event, Input, Outcome, Output, Record};

/// What a node offers for a recovery, as the operator gets it.
fn offer(net: &mut Net, index: usize) -> OfferFile {
    net.nodes[index].events.clear();
    net.input(index, Input::OfferRecovery);
    net.settle();
    let offered = net.nodes[index].events.iter().rev().find_map(|event| match event {
        Event::RecoveryOffered(offer) => offer.as_deref().cloned(),
        _ => None,
    });
    let chain = net.nodes[index].core.chain();
    let offer: SignedRecoveryOffer = offered.expect("it is told once it is durable");
    OfferFile { genesis: net.genesis.clone(), chain: chain.up_to(chain.newest().epoch), offer }
}

/// A recovery to `nodes`, signed by the first two keys.
fn recovery(net: &mut Net, nodes: &[usize]) -> RecoveryFile {
    let offers: Vec<_> = nodes.iter().map(|index| offer(net, *index)).collect();
    let (mut file, _) = RecoveryFile::propose(&offers, &[], net.now.wall).unwrap();
    file.sign(&recovery_key(0)).unwrap();
    file.sign(&recovery_key(1)).unwrap();
    file
}

/// An operator hands a recovery to a node.
fn submit(net: &mut Net, index: usize, file: &RecoveryFile) {
    let (link, heads) = (Box::new(file.link()), file.heads.to_vec());
    net.input(index, Input::Recover { link, heads });
    net.settle();
}

fn chain(net: &Net, index: usize) -> &VerifiedChain {
    net.nodes[index].core.chain()
}

/// A restart changes nothing: what is on disk is what the node follows.
fn check_disk(net: &mut Net, index: usize) {
    let before = chain(net, index).clone();
    net.crash(index);
    net.restart(index);
    net.settle();
    assert_eq!(*chain(net, index), before);
}

fn recovered(net: &Net, index: usize) -> Vec<u64> {
    let epoch = |event: &Event| if let Event::Recovered { epoch } = event { Some(*epoch) } else { None };
    net.nodes[index].events.iter().filter_map(epoch).collect()
}

fn gave_up(net: &Net, index: usize) -> Vec<(u64, u64)> {
    let given = |event: &Event| match event {
        Event::GaveUp { shared, gave_up } => Some((*shared, *gave_up)),
        _ => None,
    };
    net.nodes[index].events.iter().filter_map(given).collect()
}

#[test]
fn survivors_and_a_newcomer_certify_again_and_whoever_was_lost_follows() {
    let mut net = Net::grown(6, 4);
    let lost = [net.at_seat(0), net.at_seat(1)];
    let [one, other] = [net.at_seat(2), net.at_seat(3)];
    let fresh = (0..6).find(|index| !lost.contains(index) && ![one, other].contains(index)).unwrap();
    lost.iter().for_each(|index| net.crash(*index));
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.propose(one, &manifest, Claim::Seen, Default::default());
    net.run(120);
    assert_eq!(net.outcome(one, &value), Some(Outcome::Undecided));

    let file = recovery(&mut net, &[one, other, fresh]);
    let epoch = file.roster.epoch;
    net.clear();
    submit(&mut net, other, &file);
    let up: Vec<usize> = (0..6).filter(|index| !lost.contains(index)).collect();
    for index in &up {
        assert_eq!(net.nodes[*index].core.roster(), &file.roster, "the link is given to everybody");
        assert_eq!(recovered(&net, *index), [epoch]);
    }
    net.run_until(60, |net| net.outcome(one, &value) == Some(Outcome::Approved));
    up.iter().for_each(|index| check_disk(&mut net, *index));

    lost.iter().for_each(|index| net.restart(*index));
    net.run_until(60, |net| lost.iter().all(|index| chain(net, *index).recoveries().eq([epoch])));
}

#[test]
fn a_roster_of_three_goes_on_after_a_vote_store_was_lost() {
    let mut net = Net::grown(3, 3);
    net.crash(1);
    net.nodes[1].disk.restored = Default::default();
    net.restart(1);
    net.run(60);
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.propose(0, &manifest, Claim::Seen, Default::default());
    net.run(120);
    assert_eq!(net.outcome(0, &value), Some(Outcome::Undecided));
    let offers: Vec<OfferFile> = (0..3).map(|index| offer(&mut net, index)).collect();
    let reports: Vec<bool> = offers.iter().map(|file| file.offer.body.reports).collect();
    assert_eq!(reports, [true, false, true], "whoever lost its votes does not know what it acked");
    let file = recovery(&mut net, &[0, 1, 2]);
    submit(&mut net, 0, &file);
    net.run_until(60, |net| net.outcome(0, &value) == Some(Outcome::Approved));
}

#[test]
fn heads_that_wait_for_a_newcomer_that_is_gone_go_on_after_a_recovery_of_the_same_two() {
    let mut net = Net::new(2, Config::default(), true);
    net.run_until(60, |net| (0..2).all(|index| net.nodes[index].core.roster().validators.len() == 2));
    let offered = offer(&mut net, 0);
    assert_eq!(offer(&mut net, 0), offered, "the same key, and the same list");
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let head = net.head(&first, |_| ());
    net.propose_head(0, &head, &before);
    net.run(60);
    assert_eq!(net.outcome(0, &head.body.hash()), Some(Outcome::Undecided), "the epoch is closed here");
    check_disk(&mut net, 0);
    let file = recovery(&mut net, &[0, 1]);
    submit(&mut net, 1, &file);
    net.run_until(90, |net| net.outcome(0, &head.body.hash()) == Some(Outcome::Approved));
}

#[test]
fn an_offer_leaves_after_its_key_and_the_close_are_durable() {
    let mut net = Net::grown(4, 4);
    net.disks_stall = true;
    net.input(1, Input::OfferRecovery);
    net.settle();
    let told = |net: &Net| net.nodes[1].events.iter().any(|event| matches!(event, Event::RecoveryOffered(_)));
    assert!(!told(&net));
    net.disks_stall = false;
    net.settle();
    assert!(told(&net));
    let disk = &net.nodes[1].disk.restored;
    assert!(disk.closed.is_some() && disk.keys.contains_key(&4));
}

#[test]
fn what_a_survivor_acked_is_carried_and_no_other_value_takes_its_place() {
    let mut net = Net::grown(5, 4);
    let first = net.manifest(|_| ());
    let before = net.certified(&first);
    let (head, rival) = (net.head(&first, |_| ()), net.head(&first, |head| head.created_at.0 += 9));
    // Only one seat hears of the quorum, acks, and survives.
    let survivor = 2;
    net.filter =
        Box::new(move |_, to, message| !matches!(message, ConsensusMessage::AckRequest { .. }) || to == id(survivor));
    net.propose_head(0, &head, &before);
    net.run_until(60, |net| !net.nodes[survivor].disk.restored.acked.is_empty());
    net.crash(0);
    net.crash(1);
    net.filter = Box::new(|_, _, _| true);
    let file = recovery(&mut net, &[survivor, 3, 4]);
    assert_eq!(file.heads.to_vec(), [net.nodes[survivor].disk.restored.acked[0].carried()]);
    submit(&mut net, 3, &file);
    net.run_until(60, |net| {
        [2, 3, 4].iter().all(|index| net.nodes[*index].disk.restored.carried == file.heads.to_vec())
    });
    net.propose_head(4, &rival, &before);
    net.run(60);
    assert_eq!(net.outcome(4, &rival.body.hash()), Some(Outcome::Undecided));
    net.propose_head(3, &head, &before);
    net.run_until(60, |net| net.outcome(3, &head.body.hash()) == Some(Outcome::Approved));
}

#[test]
fn a_link_of_one_key_or_from_another_base_changes_nothing() {
    let mut net = Net::grown(5, 4);
    let good = recovery(&mut net, &[1, 2, 3]);
    let mut alone = good.clone();
    alone.keys = mynet_types::SignerSet::collect([(0, good.keys.signatures[0])]);
    let before = chain(&net, 4).clone();
    submit(&mut net, 4, &alone);
    let link = |file: &RecoveryFile| ConsensusMessage::RosterLinks(vec![file.link()].try_into().unwrap());
    net.inject(3, 4, link(&alone));
    net.settle();
    assert_eq!(*chain(&net, 4), before);
    // The close that the offers brought about makes the seats go on by themselves: the recovery is out of date.
    net.run_until(60, |net| net.nodes[4].core.roster().epoch > before.newest().epoch);
    let now = chain(&net, 4).clone();
    submit(&mut net, 4, &good);
    assert_eq!(*chain(&net, 4), now);
}

/// Nodes 0 to 3 have seats; a recovery was offered and signed, but votes led to the next epoch, and node 4 took the recovery
/// while it was cut off.
fn parted() -> (Net, RecoveryFile) {
    let mut net = Net::grown(5, 4);
    let file = recovery(&mut net, &[1, 2, 3]);
    net.filter = Box::new(|from, to, _| from != id(4) && to != id(4));
    submit(&mut net, 4, &file);
    net.run_until(60, |net| (0..4).all(|index| net.nodes[index].core.roster().epoch == file.roster.epoch));
    net.settle();
    for index in 0..4 {
        assert!(!net.nodes[index].core.roster().hash().eq(&file.roster.hash()), "votes and keys lead to two rosters");
    }
    net.clear();
    (net, file)
}

#[test]
fn a_recovery_takes_the_place_of_one_vote_at_every_node_and_its_seats_go_on() {
    let (mut net, file) = parted();
    let manifest = net.manifest(|_| ());
    let value = manifest.body.hash();
    net.propose(1, &manifest, Claim::Seen, Default::default());
    net.run_until(60, |net| net.outcome(1, &value) == Some(Outcome::Approved));
    let stale = net.certificate_of(1, &manifest);
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| (0..5).all(|index| chain(net, index).recoveries().eq([file.roster.epoch])));
    for index in 0..4 {
        assert_eq!(gave_up(&net, index), [(file.roster.epoch - 1, file.roster.epoch)]);
        assert!(stale.verify_under(chain(&net, index)).is_err(), "what was certified there no longer stands");
        check_disk(&mut net, index);
    }
    assert!(gave_up(&net, 4).is_empty());
    net.clear();
    // The seats have the keys that they offered, and certify the value once more.
    net.propose(2, &manifest, Claim::Seen, Default::default());
    net.run_until(90, |net| net.outcome(2, &value) == Some(Outcome::Approved));
    let file = net.certificate_of(2, &manifest);
    file.verify_under(chain(&net, 3)).unwrap();
}

#[test]
fn a_recovery_gives_way_to_votes_that_went_on() {
    let (mut net, file) = parted();
    // Offers close the epoch, and a closed epoch is a reason for fresh keys: the votes go on.
    let epoch = file.roster.epoch;
    for index in 0..4 {
        net.input(index, Input::OfferRecovery);
    }
    net.run_until(60, |net| (0..4).all(|index| net.nodes[index].core.roster().epoch == epoch + 1));
    net.settle();
    net.clear();
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| chain(net, 4) == chain(net, 0));
    assert_eq!(gave_up(&net, 4), [(epoch - 1, epoch)]);
    assert!((0..5).all(|index| chain(&net, index).recoveries().next().is_none()));
    assert!((0..4).all(|index| gave_up(&net, index).is_empty()));
    check_disk(&mut net, 4);
}

#[test]
fn chains_that_parted_long_ago_are_walked_back() {
    let (mut net, file) = parted();
    let links: Vec<RosterLink> = rotations(&net, 40);
    for page in links.chunks(16) {
        for index in 0..4 {
            net.inject(0, index, ConsensusMessage::RosterLinks(page.to_vec().try_into().unwrap()));
        }
    }
    net.settle();
    assert_eq!(net.nodes[0].core.roster().epoch, file.roster.epoch + 40);
    net.filter = Box::new(|_, _, _| true);
    net.run_until(60, |net| chain(net, 4) == chain(net, 0));
    let asked = |node: NodeId| {
        let asks = |(from, _, message): &&(NodeId, NodeId, ConsensusMessage)| {
            *from == node && matches!(message, ConsensusMessage::RosterLinksAfter { .. })
        };
        net.sent.iter().filter(asks).count()
    };
    assert!(asked(id(4)) < 60, "{}", asked(id(4)));
}

#[test]
fn records_of_a_chain_that_gave_way_go_in_one_batch_with_what_takes_its_place() {
    let (mut net, _) = parted();
    net.filter = Box::new(|_, _, _| true);
    let link = ConsensusMessage::RosterLinks(vec![chain(&net, 4).after(3)[0].clone()].try_into().unwrap());
    let mut out = Vec::new();
    net.nodes[0].core.handle(net.now, Input::Message { from: id(4), message: link }, &mut out);
    let batch = |output: Output| if let Output::Persist { records, .. } = output { Some(records) } else { None };
    let batches: Vec<Vec<Record>> = out.into_iter().filter_map(batch).collect();
    let [records] = batches.as_slice() else { panic!("one batch: {batches:?}") };
    assert!(matches!(records.first(), Some(Record::Unlinked { after: 3 })), "{records:?}");
    assert!(records.iter().any(|record| matches!(record, Record::Link(link) if link.is_recovery())), "{records:?}");
}
