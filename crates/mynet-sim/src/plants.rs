//! Planted bugs: every one is a mistake that somebody could make, and must be found within a few seeds, by the checker
//! that is there for it.

use mynet_proto::{
    consensus::io::{Event as ConsensusEvent, Outcome, Record as VoteRecord},
    node::io::{Event, Output},
    replication::io::{Event as ReplicationEvent, Record as GroupRecord},
};
use mynet_types::{ConsensusMessage, Message, Phase, ReplicationMessage};

use crate::{
    options::{Options, Suite},
    trace::Audience,
    world::World,
};

/// Seeds that a planted bug may stay hidden for.
const SEEDS: u64 = 20;

/// Runs seeds with `plant` until an invariant breaks, which must be `expected`.
fn check(suite: Suite, expected: &str, plant: fn(&mut Vec<Output>)) {
    for seed in 0..SEEDS {
        let options = Options::from_seed(suite, seed);
        let mut world =
            World::new(options, Audience::Nobody).with_plant(Box::new(move |_node, outputs| plant(outputs)));
        world.run();
        if let Some(violation) = world.violation {
            assert_eq!(violation.invariant, expected, "seed {seed}: {}", violation.message);
            return;
        }
    }
    panic!("{SEEDS} seeds of {suite} do not find it");
}

/// Records of the vote store that are acknowledged and never written.
fn forget_votes(outputs: &mut [Output], forgotten: fn(&VoteRecord) -> bool) {
    for output in outputs {
        if let Output::PersistVotes { records, .. } = output {
            records.retain(|record| !forgotten(record));
        }
    }
}

/// Records of the metadata store that are acknowledged and never written.
fn forget_groups(outputs: &mut [Output], forgotten: fn(&GroupRecord) -> bool) {
    for output in outputs {
        if let Output::PersistGroups { records, .. } = output {
            records.retain(|record| !forgotten(record));
        }
    }
}

/// Messages that are never sent.
fn swallow(outputs: &mut Vec<Output>, swallowed: fn(&Message) -> bool) {
    outputs.retain(|output| !matches!(output, Output::Send { message, .. } if swallowed(message)));
}

#[test]
fn a_vote_that_is_not_fsynced_is_found() {
    check(Suite::Consensus, "W1", |outputs| forget_votes(outputs, |record| matches!(record, VoteRecord::Vote(_))));
}

#[test]
fn a_roster_signature_that_is_not_fsynced_is_found() {
    check(Suite::Consensus, "W1", |outputs| {
        forget_votes(outputs, |record| matches!(record, VoteRecord::RosterLock(_)))
    });
}

#[test]
fn a_timeout_read_as_a_no_is_found() {
    check(Suite::Consensus, "C4", |outputs| {
        for output in outputs {
            if let Output::Event(Event::Consensus(ConsensusEvent::Progress { tally, .. })) = output
                && tally.outcome == Outcome::Undecided
            {
                tally.outcome = Outcome::Rejected;
            }
        }
    });
}

#[test]
fn an_approval_reported_one_vote_early_is_found() {
    check(Suite::Consensus, "C3", |outputs| {
        for output in outputs {
            if let Output::Event(Event::Consensus(ConsensusEvent::Progress { tally, .. })) = output
                && tally.outcome == Outcome::Pending
                && tally.rejects == 0
                && tally.accepts + 1 == tally.quorum
            {
                tally.outcome = Outcome::Approved;
            }
        }
    });
}

#[test]
fn votes_that_are_never_sent_are_found() {
    check(Suite::Consensus, "C5", |outputs| {
        swallow(outputs, |message| matches!(message, Message::Consensus(ConsensusMessage::Vote(_))));
    });
}

#[test]
fn acks_that_are_never_sent_are_found() {
    check(Suite::Consensus, "C5", |outputs| {
        swallow(
            outputs,
            |message| matches!(message, Message::Consensus(ConsensusMessage::Vote(vote)) if vote.statement.phase == Phase::Ack),
        );
    });
}

#[test]
fn a_close_that_is_reported_and_not_fsynced_is_found() {
    check(Suite::Consensus, "W1", |outputs| {
        forget_votes(outputs, |record| matches!(record, VoteRecord::EpochClosed(_)));
    });
}

#[test]
fn a_commit_sent_before_it_is_logged_is_found() {
    check(Suite::Replication, "G7", |outputs| {
        forget_groups(outputs, |record| matches!(record, GroupRecord::Decided(_)));
    });
}

#[test]
fn a_receipt_without_a_local_commit_is_found() {
    check(Suite::Replication, "W2", |outputs| {
        forget_groups(outputs, |record| matches!(record, GroupRecord::Commit { .. }));
    });
}

#[test]
fn decisions_that_are_never_sent_are_found() {
    check(Suite::Replication, "G4", |outputs| {
        swallow(outputs, |message| {
            matches!(message, Message::Replication(ReplicationMessage::Decision(_) | ReplicationMessage::Status { .. }))
        });
    });
}

#[test]
fn a_receipt_that_the_coordinator_does_not_keep_is_found() {
    check(Suite::Replication, "G4", |outputs| {
        forget_groups(outputs, |record| matches!(record, GroupRecord::Receipts { .. }));
    });
}

#[test]
fn a_group_that_is_never_closed_is_found() {
    check(Suite::Replication, "G10", |outputs| forget_groups(outputs, |record| matches!(record, GroupRecord::End(_))));
}

#[test]
fn an_abort_that_leaves_its_reservation_is_found() {
    check(Suite::Replication, "G5", |outputs| {
        forget_groups(outputs, |record| matches!(record, GroupRecord::Abort { .. }));
    });
}

#[test]
fn durability_that_nobody_hears_of_is_found() {
    check(Suite::Node, "G4", |outputs| {
        outputs.retain(|output| !matches!(output, Output::Event(Event::Replication(ReplicationEvent::Durable { .. }))));
    });
}

#[test]
fn evidence_that_is_not_passed_on_is_found() {
    check(Suite::Consensus, "C7", |outputs| {
        swallow(outputs, |message| matches!(message, Message::Consensus(ConsensusMessage::Evidence(_))));
    });
}

#[test]
fn a_seat_without_a_key_that_nobody_renews_is_found() {
    check(Suite::Consensus, "C5", |outputs| {
        for output in outputs {
            if let Output::Send {
                message: Message::Consensus(ConsensusMessage::RosterHead { wants_key, .. }), ..
            } = output
            {
                *wants_key = false;
            }
        }
    });
}
