//! A participant dies. The upload is durable without it, and its copy is owed.

use std::fs;

use super::row::{COORDINATOR, LARGE, LONG, OTHER, PARTICIPANT, Row, SHORT, SMALL, gave_up};

/// A lease of which half and one question's interval are over before it ends, so that other targets are asked.
const RELAYED: &str = "\n[replication]\nlease = \"40s\"\nprepare_timeout = \"1s\"\n";

/// The upload of `size` bytes while the participant dies at `point`.
fn dead(size: usize, point: &str) -> Row {
    Row::killed(LONG, size, (PARTICIPANT, point), "durable").acknowledged()
}

#[test]
fn before_t1_nothing_is_left_and_it_is_prepared_again() {
    let row = dead(SMALL, "participant::before_t1");
    assert!(row.staged(PARTICIPANT).is_empty() && row.blobs(PARTICIPANT).is_empty());
    row.restart(PARTICIPANT).ends_whole();
}

#[test]
fn after_t1_with_no_answer_sent_it_goes_on_by_itself() {
    dead(SMALL, "participant::after_t1_before_send").restart(PARTICIPANT).ends_whole();
}

#[test]
fn between_t1_and_t3_staging_goes_on() {
    let row = dead(LARGE, "participant::between_t1_and_t3");
    assert_eq!(row.staged(PARTICIPANT).len(), 1, "there is something to go on with");
    let row = row.restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    assert!(!gave_up(&row.log(PARTICIPANT)), "it went on: {}", row.log(PARTICIPANT));
    row.ends_whole();
}

#[test]
fn after_t3_with_no_answer_sent_it_says_that_it_is_prepared() {
    let row = dead(SMALL, "participant::after_t3_before_send");
    let before = row.blobs(PARTICIPANT);
    let row = row.restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    assert_eq!(row.blobs(PARTICIPANT), before, "nothing was pulled a second time");
    row.ends_whole();
}

#[test]
fn with_a_lost_decision_it_hears_it_from_its_coordinator() {
    let row = dead(SMALL, "participant::receive_decision").restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    assert!(!gave_up(&row.log(PARTICIPANT)), "{}", row.log(PARTICIPANT));
    row.ends_whole();
}

#[test]
fn with_a_lost_decision_and_no_coordinator_it_hears_it_from_another_target() {
    let row = Row::killed(RELAYED, SMALL, (PARTICIPANT, "participant::receive_decision"), "durable").acknowledged();
    let row = row.kill(COORDINATOR).restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    assert!(!gave_up(&row.log(PARTICIPANT)), "{}", row.log(PARTICIPANT));
    row.restart(COORDINATOR).ends_whole();
}

#[test]
fn with_a_lost_decision_and_nobody_to_ask_it_is_freed_by_its_lease() {
    let row = Row::killed(SHORT, SMALL, (PARTICIPANT, "participant::receive_decision"), "durable").acknowledged();
    let row = row.kill(COORDINATOR).kill(OTHER).restart(PARTICIPANT);
    row.until_given_up(&[PARTICIPANT]);
    row.until_released(PARTICIPANT);
    assert!(!row.shows(PARTICIPANT), "nobody told it to commit");
    row.restart(COORDINATOR).restart(OTHER).ends_whole();
}

#[test]
fn after_t3_with_its_bytes_gone_it_gives_up_and_is_asked_again() {
    let row = dead(SMALL, "participant::after_t3_before_send");
    for file in row.blobs(PARTICIPANT) {
        fs::remove_file(file).unwrap();
    }
    let row = row.restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    assert!(row.log(PARTICIPANT).contains("it is given up"), "{}", row.log(PARTICIPANT));
    row.ends_whole();
}

#[test]
fn inside_t4_it_is_all_or_nothing() {
    let row = dead(SMALL, "participant::inside_t4").restart(PARTICIPANT);
    row.until_shown(PARTICIPANT);
    row.ends_whole();
}

#[test]
fn after_t4_with_its_ack_lost_the_same_receipt_is_given_out_again() {
    let row = dead(SMALL, "participant::after_t4_before_ack").restart(PARTICIPANT);
    assert!(row.shows(PARTICIPANT), "it was visible before anybody heard of it");
    assert_eq!(row.log(PARTICIPANT).matches("group is visible here").count(), 0, "and is not committed again");
    row.ends_whole();
}
