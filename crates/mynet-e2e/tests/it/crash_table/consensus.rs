//! A validator or proposer dies. With three validators a certificate needs all of them, so it waits for the one that died.

use mynet_e2e::network::{Network, Trust};

use super::row::{COORDINATOR, LONG, PARTICIPANT, Row, SMALL};

#[test]
fn a_validator_that_dies_before_its_vote_is_on_disk_votes_after_its_restart() {
    let row = Row::killed(LONG, SMALL, (PARTICIPANT, "validator::before_vote_persisted"), "durable").acknowledged();
    row.restart(PARTICIPANT).ends_whole();
}

#[test]
fn a_validator_that_dies_with_its_vote_unsent_sends_the_same_vote() {
    let row = Row::killed(LONG, SMALL, (PARTICIPANT, "validator::after_vote_before_send"), "durable").acknowledged();
    row.restart(PARTICIPANT).ends_whole();
}

#[test]
fn a_proposer_that_dies_before_its_proposal_is_on_disk_proposes_after_its_restart() {
    let row = Row::killed(LONG, SMALL, (COORDINATOR, "proposer::before_proposal_persisted"), "certified");
    row.broken_off().restart(COORDINATOR).ends_whole();
}

#[test]
fn a_proposer_that_dies_with_its_proposal_unsent_sends_the_same_bytes() {
    let row = Row::killed(LONG, SMALL, (COORDINATOR, "proposer::after_proposal_before_send"), "certified");
    row.broken_off().restart(COORDINATOR).ends_whole();
}

#[test]
fn a_certificate_that_was_made_and_not_kept_is_there_after_the_restart() {
    let point = "proposer::after_certificate_before_group_store";
    let row = Row::killed(LONG, SMALL, (COORDINATOR, point), "certified");
    row.broken_off().restart(COORDINATOR).ends_whole();
}

#[test]
fn a_validator_that_dies_with_its_word_on_a_roster_unsent_does_not_hold_up_the_epoch() {
    let mut network = Network::trusted(2, "").unwrap();
    network.nodes[1].arm("roster::after_lock_before_send=kill").unwrap();
    network.formed(2).unwrap();
    network.join(Trust::Trusted, &[]).unwrap();
    network.nodes[1].died_at("roster::after_lock_before_send").unwrap();
    network.nodes[1].restart().unwrap();
    network.formed(3).unwrap();
}
