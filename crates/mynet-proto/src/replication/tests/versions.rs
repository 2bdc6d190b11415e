//! Later versions: taken with what certifies them only, and each in the place of the one before.

use std::time::Duration;

use mynet_types::{
    BlobRef, BoundedVec, Claim, Domain, Genesis, GroupId, HeadProof, Manifest, Phase, QuorumCertificate,
    ReplicationMessage, SignedManifest, SignedTombstone, SignerSet, Timestamp, Tombstone, TxId, Validator, Verdict,
    VerifiedChain, VoteKey, VoteStatement,
    roster::GENESIS_FORMAT,
    signing,
    vote::head_slot,
    wire::{RefuseReason, TxStatus},
};

use super::{
    participant::{Bench, decision, prepare, refused},
    world::{Envelope, NETWORK, World, is_durable, key, node, owner, publication},
};
use crate::replication::io::{Head, Input, Output, Publication, Record};

/// The chain of a network of one validator, whose vote is a quorum.
fn chain() -> VerifiedChain {
    VerifiedChain::new(Genesis {
        format: GENESIS_FORMAT,
        name: "test".try_into().unwrap(),
        created_at: Timestamp(0),
        min_quorum: 1,
        allow_degraded_quorum: true,
        recovery_keys: [[1; 32]; 3],
        founder: Validator { vote_key: VoteKey(key(90).verifying_key().to_bytes()), node: node(1) },
        salt: [0; 32],
    })
}

/// What the one validator signed about a manifest.
fn signed(manifest: &Manifest, change: impl FnOnce(&mut VoteStatement)) -> QuorumCertificate {
    let chain = chain();
    let mut statement = VoteStatement {
        epoch: 0,
        roster: chain.newest().hash(),
        phase: Phase::Ack,
        slot: head_slot(&manifest.group_id, manifest.version),
        value: manifest.hash(),
        verdict: Verdict::Accept,
        claim: Claim::Seen,
        states: manifest.allowed(false),
    };
    change(&mut statement);
    let signature = signing::sign_as(Domain::Vote, &chain.genesis().network_id(), &statement, &key(90));
    QuorumCertificate { statement, signers: SignerSet::collect([(0, signature)]) }
}

/// The version after that of `before`, with another preview of `seed`.
fn next(before: &Publication, seed: u8) -> Publication {
    let mut body = before.manifest.body.clone();
    (body.version, body.prev) = (body.version + 1, Some(body.hash()));
    let mut members = body.members.to_vec();
    let preview = members.last_mut().unwrap();
    (preview.content_id.0, preview.blob) = ([seed; 16], Some(BlobRef::of(&[seed; 100])));
    let mut links = body.links.to_vec();
    links.last_mut().unwrap().child = preview.content_id;
    (body.members, body.links) = (members.try_into().unwrap(), links.try_into().unwrap());
    let previous = before.manifest.body.clone();
    let certificate = signed(&body, |_| ());
    let previous = HeadProof { certificate: signed(&previous, |_| ()), manifest: previous };
    let manifest = SignedManifest::new(&NETWORK, body, &owner());
    Publication { manifest, head: Some(Head { certificate, previous, holders: BoundedVec::new() }), ..before.clone() }
}

#[test]
fn a_later_version_is_taken_with_what_certifies_it_and_with_nothing_else() {
    let first = publication(1, (2, 3), &[]);
    let second = next(&first, 77);
    let body = second.manifest.body.clone();
    let ask = |head: Option<QuorumCertificate>, told: bool| {
        let mut bench = Bench::new();
        if told {
            bench.step(Input::Chain(Box::new(chain())));
        }
        let mut asked = prepare(&second, 1, 1);
        asked.head = head.map(Box::new);
        refused(&bench.prepare(asked))
    };
    let (invalid, unknown) = (Some(RefuseReason::HeadInvalid), Some(RefuseReason::EpochUnknown));
    assert_eq!(ask(Some(signed(&body, |_| ())), true), None);
    assert_eq!(ask(None, true), invalid, "no certificate");
    assert_eq!(ask(Some(signed(&body, |_| ())), false), unknown, "before the chain is known");
    assert_eq!(ask(Some(signed(&body, |it| it.epoch = 1)), true), unknown, "an epoch of tomorrow");
    assert_eq!(ask(Some(signed(&body, |it| it.phase = Phase::Vote)), true), invalid, "the first round only");
    assert_eq!(ask(Some(signed(&body, |it| it.verdict = Verdict::Reject)), true), invalid, "a rejection");
    assert_eq!(ask(Some(signed(&first.manifest.body, |_| ())), true), invalid, "another manifest's");
    let mut forged = signed(&body, |_| ());
    forged.statement.claim = Claim::Durable;
    assert_eq!(ask(Some(forged), true), invalid, "a signature over something else");

    // A first version needs none, and none is looked at.
    let mut bench = Bench::new();
    let mut asked = prepare(&first, 2, 1);
    asked.head = Some(Box::new(signed(&body, |_| ())));
    assert_eq!(refused(&bench.prepare(asked)), Some(RefuseReason::ManifestInvalid));
}

/// A world of three nodes that know the chain.
fn world() -> World {
    world_of(3)
}

fn world_of(nodes: u8) -> World {
    let mut world = World::new(nodes);
    for number in 1..=nodes {
        world.input(number, Input::Chain(Box::new(chain())));
    }
    world
}

#[test]
fn a_higher_version_takes_the_place_of_a_finished_one_and_a_lower_one_never() {
    let mut world = world();
    let first = publication(1, (2, 3), &[]);
    let second = next(&first, 77);
    world.publish(1, first.clone());
    world.settle();
    world.publish(1, second.clone());
    world.settle();
    assert_eq!(world.holders(&second.manifest.body.hash()), [1, 2, 3]);
    assert_eq!(world.host(1).events.iter().filter(|event| is_durable(event)).count(), 2);
    world.assert_clean();
}

#[test]
fn a_higher_version_takes_over_from_one_that_is_under_way_whatever_it_had_come_to() {
    for steps in 0..40 {
        let mut world = world();
        let first = publication(1, (2, 3), &[]);
        let second = next(&first, 77);
        world.publish(1, first.clone());
        for step in 0..steps {
            let number = 1 + u8::try_from(step % 3).unwrap();
            if !world.write_one(number) && !world.stage_one(number) && !world.network.is_empty() {
                let envelope = world.network.remove(0);
                world.deliver(envelope);
            }
        }
        world.publish(1, second.clone());
        // Late words about the first version change nothing.
        world.input(1, Input::Publish(Box::new(first.clone())));
        world.settle();
        world.run(Duration::from_secs(1200));
        assert_eq!(world.holders(&second.manifest.body.hash()), [1, 2, 3], "after {steps} steps");
        world.assert_clean();
    }
}

#[test]
fn whoever_has_an_earlier_version_gets_the_next_wherever_placement_puts_it() {
    // A group that placement puts on three of four nodes, the first among them.
    let three_of_four = |publication: &Publication| {
        let mut world = world_of(4);
        world.publish(1, publication.clone());
        world.settle();
        world.holders(&publication.manifest.body.hash())
    };
    let first = (0..50).map(|seed| publication(seed, (2, 3), &[])).find(|it| three_of_four(it) == [1, 2, 3]).unwrap();
    for behind in [false, true] {
        let mut world = world_of(4);
        let mut second = next(&first, 77);
        if behind {
            second.head.as_mut().unwrap().holders = BoundedVec::truncated([node(2), node(4)]);
        }
        world.publish(1, second.clone());
        // The one that placement does not name is away at first: the group is durable, and waits for it.
        world.crash(4);
        world.settle();
        assert_eq!(world.holders(&second.manifest.body.hash()), [1, 2, 3]);
        assert_eq!(world.core(1).coordinated().len(), usize::from(behind));
        world.start(4);
        world.input(4, Input::Chain(Box::new(chain())));
        world.restart(1);
        world.input(1, Input::Chain(Box::new(chain())));
        world.run(Duration::from_secs(1200));
        let expected = if behind { vec![1, 2, 3, 4] } else { vec![1, 2, 3] };
        assert_eq!(world.holders(&second.manifest.body.hash()), expected);
        world.assert_clean();
    }
}

/// Whom the publication that is on disk names as holders of an earlier version, by their numbers.
fn named(world: &mut World, group_id: &GroupId) -> Vec<u8> {
    let (begun, _) = &world.host(1).disk.publications[group_id];
    let holders = begun.head.as_ref().map(|head| head.holders.to_vec()).unwrap_or_default();
    (1..9).filter(|number| holders.contains(&node(*number))).collect()
}

/// A transaction has 16 open targets at most; those that follow beyond them get their turn when others hold it.
#[test]
fn more_holders_of_an_earlier_version_than_one_transaction_can_name_all_get_the_next() {
    const NODES: u8 = 24;
    let mut world = world_of(NODES);
    let mut second = next(&publication(1, (2, 3), &[]), 77);
    second.head.as_mut().unwrap().holders = BoundedVec::truncated((2..=NODES).map(node));
    world.publish(1, second.clone());
    world.settle();
    world.run(Duration::from_secs(1200));
    let holders = world.holders(&second.manifest.body.hash());
    assert!((2..=NODES).all(|number| holders.contains(&number)), "{holders:?}");
    assert_eq!(world.core(1).coordinated(), [], "nobody is awaited");
    world.assert_clean();
}

/// Its acknowledgement is lost, or its receipt is on its way to the disk, while the next version takes the place of what it holds.
#[test]
fn whoever_was_told_to_commit_gets_the_next_version_whether_or_not_it_answered() {
    let first = publication(1, (3, 3), &[]);
    let second = next(&first, 77);
    let group_id = first.manifest.body.group_id;
    for lost in [true, false] {
        let mut world = world();
        world.lose = lost.then(|| -> Box<dyn Fn(&Envelope) -> bool> {
            Box::new(|sent| matches!(sent.message, ReplicationMessage::DecisionAck { .. }))
        });
        world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Receipts { .. })));
        world.publish(1, first.clone());
        world.settle();
        assert_eq!(world.holders(&first.manifest.body.hash()), [2, 3]);
        world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Decided(_))));
        world.publish(1, second.clone());
        world.settle();
        assert_eq!(named(&mut world, &group_id), [2, 3], "acknowledgements lost: {lost}");
        // Published again by a driver that knows of nobody.
        world.input(1, Input::Publish(Box::new(second.clone())));
        world.settle();
        assert_eq!(named(&mut world, &group_id), [2, 3]);
    }
}

/// Until C2 is on disk nobody was told anything.
#[test]
fn whoever_was_not_told_to_commit_need_not_get_the_next_version() {
    let first = publication(1, (2, 2), &[]);
    let second = next(&first, 77);
    let mut world = world();
    world.host(1).hold_staging = true;
    (2..=3).for_each(|number| world.host(number).hold_staging = true);
    world.publish(1, first.clone());
    world.settle();
    world.publish(1, second.clone());
    world.settle();
    assert_eq!(named(&mut world, &first.manifest.body.group_id), [] as [u8; 0]);
}

/// It prepares after C2, which does not name it, so that a crash would forget it.
#[test]
fn a_late_target_is_told_to_commit_when_it_is_on_disk_that_it_is() {
    let mut world = world();
    let first = publication(1, (2, 3), &[]);
    world.host(3).hold_staging = true;
    world.publish(1, first.clone());
    world.settle();
    assert_eq!(world.host(1).disk.told, [node(2)].into());
    world.host(1).freeze_before = Some(Box::new(|record| matches!(record, Record::Told { .. })));
    world.host(3).hold_staging = false;
    while world.stage_one(3) {}
    world.settle();
    let hash = first.manifest.body.hash();
    assert_eq!(world.holders(&hash), [1, 2]);
    // It asks, at half its lease, and is not answered before that either; a little later it would ask others.
    world.run(Duration::from_secs(310));
    assert_eq!(world.holders(&hash), [1, 2]);
    world.host(1).freeze_before = None;
    world.settle();
    world.run(Duration::from_secs(60));
    assert_eq!(world.holders(&hash), [1, 2, 3]);
    assert_eq!(world.host(1).disk.told, [node(2), node(3)].into());
    world.assert_clean();
}

/// An old prepare that comes long after, and after a restart, when no transaction of that version is remembered any more.
#[test]
fn a_prepare_of_a_lower_version_than_the_one_here_is_declined_before_anything_is_written() {
    let first = publication(1, (2, 3), &[]);
    let second = next(&first, 77);
    for restarted in [false, true] {
        let mut world = world();
        world.publish(1, first.clone());
        world.settle();
        let old = world.sent.iter().find_map(|sent| match &sent.message {
            ReplicationMessage::Prepare(prepare) if sent.to == node(2) => Some(prepare.clone()),
            _ => None,
        });
        world.publish(1, second.clone());
        world.settle();
        if restarted {
            world.restart(2);
            world.input(2, Input::Chain(Box::new(chain())));
            world.settle();
        }
        let before = world.sent.len();
        let mut fresh = old.clone().unwrap();
        fresh.tx = TxId([0xaa; 32]);
        for late in [fresh, old.unwrap()] {
            let message = ReplicationMessage::Prepare(late);
            world.input(2, Input::Message { from: node(1), message });
        }
        assert!(!world.write_one(2), "an intent is on its way to the disk");
        let answers = world.sent[before..].iter().filter(|sent| {
            matches!(sent.message, ReplicationMessage::PrepareNo { reason: RefuseReason::Superseded, .. })
        });
        assert_eq!(answers.count(), if restarted { 2 } else { 1 }, "the other one is answered from memory");
    }
}

#[test]
fn targets_of_a_version_that_is_given_up_for_a_higher_one_need_not_wait_for_their_leases() {
    let mut world = world();
    let first = publication(1, (2, 3), &[]);
    world.publish(1, first.clone());
    while !world.network.is_empty() || world.write_one(1) || world.write_one(2) || world.write_one(3) {
        if !world.network.is_empty() {
            let envelope = world.network.remove(0);
            world.deliver(envelope);
        }
    }
    let of = |world: &World, manifest: &Manifest| {
        let (hash, hosts) = (manifest.hash(), [2, 3]);
        let open = hosts.map(|number| world.core(number).transactions());
        open.into_iter().flatten().filter(|open| open.manifest_hash == hash).count()
    };
    assert_eq!(of(&world, &first.manifest.body), 2, "both pull");
    let second = next(&first, 77);
    world.publish(1, second.clone());
    world.settle();
    assert_eq!(of(&world, &first.manifest.body), 0);
    assert_eq!(world.holders(&second.manifest.body.hash()), [1, 2, 3]);
    world.assert_clean();
}

/// A crash leaves a prefix of what was being written: with the higher version on disk and the end of the lower one not, the lower
/// one would be prepared for ever, and a store refuses its commit.
#[test]
fn a_lower_version_is_given_up_on_disk_before_a_higher_one_is_visible() {
    let first = publication(1, (2, 3), &[]);
    let second = next(&first, 77);
    let mut bench = Bench::new();
    bench.step(Input::Chain(Box::new(chain())));
    for (version, tx) in [(&first, 1), (&second, 2)] {
        bench.prepare(prepare(version, tx, 1));
        bench.stage(tx, 1);
    }
    let commit = decision(TxId([2; 32]), 1, second.manifest.body.hash(), true, 1);
    let written = bench.step(Input::Message { from: node(1), message: ReplicationMessage::Decision(commit) });
    let records = written.iter().filter_map(|output| match output {
        Output::Persist { records, .. } => Some(records.as_slice()),
        _ => None,
    });
    let of = |tx: &TxId| tx.0[0];
    let order: Vec<_> = records
        .flatten()
        .filter_map(|record| match record {
            Record::Abort { tx, .. } => Some(("abort", of(tx))),
            Record::Commit { tx, .. } => Some(("commit", of(tx))),
            _ => None,
        })
        .collect();
    assert_eq!(order, [("abort", 1), ("commit", 2)]);
}

/// The receipts of a version go with it, and those of the next are still to come: who holds it is in the head only.
#[test]
fn holders_of_an_earlier_version_hear_that_the_group_is_deleted() {
    let mut second = next(&publication(1, (2, 3), &[]), 77);
    second.head.as_mut().unwrap().holders = BoundedVec::truncated([node(1), node(4)]);
    let mut bench = Bench::new();
    bench.step(Input::Chain(Box::new(chain())));
    bench.step(Input::Publish(Box::new(second.clone())));
    let Manifest { group_id, owner: by, .. } = second.manifest.body;
    let body = Tombstone { group_id, owner: by, deleted_at: Timestamp(1) };
    let tombstone = Box::new(SignedTombstone::new(&NETWORK, body, &owner()));
    let written = bench.step(Input::Delete { tombstone, holders: Vec::new() });
    let told: Vec<_> = written
        .iter()
        .filter_map(|output| match output {
            Output::Persist { records, .. } => Some(records),
            _ => None,
        })
        .flatten()
        .filter_map(|record| match record {
            Record::Tombstone { holders, .. } => Some(holders.clone()),
            _ => None,
        })
        .collect();
    let mut expected = vec![node(1), node(4)];
    expected.sort();
    assert_eq!(told, [expected]);
}

#[test]
fn a_version_of_before_a_restart_is_not_held_any_more_once_a_higher_one_is() {
    let mut world = world();
    let first = publication(1, (2, 3), &[]);
    let second = next(&first, 77);
    world.publish(1, first.clone());
    world.settle();
    world.restart(2);
    world.input(2, Input::Chain(Box::new(chain())));
    world.publish(1, second.clone());
    world.settle();
    assert_eq!(world.holders(&second.manifest.body.hash()), [1, 2, 3]);
    // A prepare of the first version comes late: what was given for it is not given again.
    let late = ReplicationMessage::Prepare(Box::new(prepare(&first, 9, 1)));
    world.input(2, Input::Message { from: node(1), message: late });
    let open = world.core(2).transactions();
    assert!(open.iter().all(|open| open.status != TxStatus::Prepared), "{open:?}");
}

/// A node that lost its vote store fetches the chain anew.
#[test]
fn a_later_version_is_published_before_the_chain_is_known() {
    let second = next(&publication(1, (2, 3), &[]), 77);
    let begun = Bench::new().step(Input::Publish(Box::new(second)));
    let begins = |output: &Output| matches!(output, Output::Persist { records, .. } if matches!(records[..], [Record::Begin(_)]));
    assert!(begun.iter().any(begins), "{begun:?}");
}
