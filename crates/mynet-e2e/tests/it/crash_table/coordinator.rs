//! The coordinator dies.

use super::row::{COORDINATOR, LONG, NODES, OTHER, PARTICIPANT, Row, SHORT, SMALL, gave_up};

/// The upload through a coordinator that dies at `point`, and is back.
fn back(point: &str) -> Row {
    Row::killed(LONG, SMALL, (COORDINATOR, point), "durable").broken_off().restart(COORDINATOR)
}

/// Nobody gave the transaction up: what was decided before the crash was said after it.
fn went_forward(row: &Row) {
    for node in [PARTICIPANT, OTHER] {
        assert!(!gave_up(&row.log(node)), "{}", row.log(node));
    }
}

#[test]
fn before_c1_the_upload_is_published_by_the_next_start() {
    back("coordinator::before_c1").ends_whole();
}

#[test]
fn before_c2_it_is_an_abort_by_inquiry_and_a_new_transaction() {
    let row = back("coordinator::before_c2");
    // One of them was prepared at least, or C2 would not have been next.
    row.until_given_up(&[PARTICIPANT, OTHER]);
    row.ends_whole();
}

#[test]
fn before_c2_and_not_back_it_is_an_abort_by_lease() {
    let row = Row::killed(SHORT, SMALL, (COORDINATOR, "coordinator::before_c2"), "durable").broken_off();
    for node in [PARTICIPANT, OTHER] {
        row.until_released(node);
        assert!(!row.shows(node), "nothing was decided, so nothing is visible");
    }
    row.restart(COORDINATOR).ends_whole();
}

#[test]
fn after_c2_with_nothing_sent_decisions_go_to_all() {
    let row = Row::killed(LONG, SMALL, (COORDINATOR, "coordinator::after_c2_before_send"), "durable").broken_off();
    assert!(!row.shows(PARTICIPANT) && !row.shows(OTHER), "nobody has heard of the decision");
    let row = row.restart(COORDINATOR);
    row.until_shown(PARTICIPANT);
    row.until_shown(OTHER);
    went_forward(&row);
    row.ends_whole();
}

#[test]
fn between_sends_decisions_go_to_the_rest() {
    // The first decision leaves, the others are lost; the second receipt on disk after that is that of the one who heard it.
    let points = "coordinator::send_decision=1*off->lose;coordinator::after_receipt=1*off->kill";
    let armed = (COORDINATOR, "coordinator::after_receipt", points);
    let row = Row::new(LONG, SMALL, armed, "durable").broken_off();
    assert!(row.shows(PARTICIPANT) != row.shows(OTHER), "one of them has heard of it");
    let row = row.restart(COORDINATOR);
    row.until_shown(PARTICIPANT);
    row.until_shown(OTHER);
    went_forward(&row);
    row.ends_whole();
}

#[test]
fn after_w_receipts_before_c3_it_goes_on_with_who_is_missing() {
    let points = "coordinator::after_receipt=1*off->kill";
    let row = Row::new(LONG, SMALL, (COORDINATOR, "coordinator::after_receipt", points), "durable");
    let row = row.broken_off().restart(COORDINATOR);
    row.until_shown(PARTICIPANT);
    row.until_shown(OTHER);
    went_forward(&row);
    row.ends_whole();
}

#[test]
fn with_c3_unwritten_nobody_is_asked_to_store_again() {
    // It is durable with the last receipt only, so that it is not certified when C3 is written.
    let all = format!("{LONG}quorum = {NODES}\n");
    let row = Row::killed(&all, SMALL, (COORDINATOR, "coordinator::before_c3"), "certified").broken_off();
    assert!(row.shows(PARTICIPANT) && row.shows(OTHER), "every receipt was there");
    let blobs = |row: &Row| [row.blobs(PARTICIPANT), row.blobs(OTHER)];
    let before = blobs(&row);
    let row = row.restart(COORDINATOR);
    row.until_released(COORDINATOR);
    went_forward(&row);
    // A group without a certificate is published once more; its holders answer with what they have.
    assert_eq!(blobs(&row), before, "nothing was sent a second time");
    row.ends_whole();
}
