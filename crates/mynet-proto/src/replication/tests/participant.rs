//! Rules of a participant, with a coordinator that is played by the test.

use std::time::Duration;

use mynet_types::{
    ContentState, Decision, Manifest, ManifestHash, Mono, NodeId, Now, ReplicationMessage, Roles, SignedDecision,
    SignedManifest, StatesMask, Timestamp, TxId,
    wire::{DecisionOutcome, Prepare, RefuseReason, TxStatus},
};

use super::world::{NETWORK, admission, encrypted_and_preview, key, node, publication, wraps};
use crate::replication::{
    Replication,
    io::{Config, Event, Input, Output, Publication, Record, Restored, Timer},
};

/// The participant is node 2, its coordinator node 1.
pub(super) struct Bench {
    core: Replication,
    now: Now,
}

pub(super) fn decision(tx: TxId, attempt: u32, hash: ManifestHash, commit: bool, signer: u8) -> SignedDecision {
    let body = Decision { tx, attempt, manifest_hash: hash, commit, coordinator: node(signer) };
    SignedDecision::new(&NETWORK, body, &key(signer))
}

pub(super) fn prepare(publication: &Publication, tx: u8, attempt: u32) -> Prepare {
    Prepare {
        tx: TxId([tx; 32]),
        attempt,
        manifest: publication.manifest.clone(),
        sealed: publication.sealed.clone(),
        wraps: publication.wraps.clone(),
        states: encrypted_and_preview(),
        sources: vec![node(1)].try_into().unwrap(),
        targets: vec![node(2), node(3)].try_into().unwrap(),
        lease_ms: 120_000,
        head: publication.head.as_ref().map(|head| Box::new(head.certificate.clone())),
    }
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::with(Config::default(), Restored::default())
    }

    fn with(config: Config, restored: Restored) -> Self {
        let core = Replication::new(config, key(2), NETWORK, restored);
        let mut bench = Self { core, now: Now { mono: Mono(0), wall: Timestamp(1_700_000_000_000) } };
        for number in 1..=3 {
            bench.step(Input::Admitted(Box::new(admission(number, Roles::STORAGE, Timestamp::MAX))));
        }
        bench.step(Input::Start);
        bench
    }

    pub(super) fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.core.handle(self.now, input, &mut out);
        out
    }

    /// Hands an input in, and lets the disk write at once; gives all outputs but the writes.
    fn drive(&mut self, input: Input) -> Vec<Output> {
        let mut done = Vec::new();
        let mut todo = self.step(input);
        while !todo.is_empty() {
            for output in std::mem::take(&mut todo) {
                match output {
                    Output::Persist { id, .. } => todo.extend(self.step(Input::Persisted(id))),
                    other => done.push(other),
                }
            }
        }
        done
    }

    fn hear(&mut self, from: u8, message: ReplicationMessage) -> Vec<ReplicationMessage> {
        sends(&self.drive(Input::Message { from: node(from), message }))
    }

    pub(super) fn prepare(&mut self, prepare: Prepare) -> Vec<ReplicationMessage> {
        self.hear(1, ReplicationMessage::Prepare(Box::new(prepare)))
    }

    pub(super) fn stage(&mut self, tx: u8, attempt: u32) -> Vec<ReplicationMessage> {
        let result = Ok(encrypted_and_preview());
        sends(&self.drive(Input::Staged { tx: TxId([tx; 32]), attempt, result }))
    }

    fn wait(&mut self, time: Duration) {
        self.now = Now { mono: self.now.mono.after(time), wall: self.now.wall.after(time) };
    }
}

fn sends(outputs: &[Output]) -> Vec<ReplicationMessage> {
    let messages = outputs.iter().filter_map(|output| match output {
        Output::Send { message, .. } => Some(message.clone()),
        _ => None,
    });
    messages.collect()
}

fn asked(outputs: &[Output]) -> Vec<NodeId> {
    let questions = outputs.iter().filter_map(|output| match output {
        Output::Send { to, message: ReplicationMessage::StatusQuery { .. } } => Some(*to),
        _ => None,
    });
    questions.collect()
}

pub(super) fn refused(messages: &[ReplicationMessage]) -> Option<RefuseReason> {
    match messages {
        [ReplicationMessage::PrepareNo { reason, .. }] => Some(*reason),
        _ => None,
    }
}

fn receipt_states(messages: &[ReplicationMessage]) -> Option<StatesMask> {
    match messages {
        [ReplicationMessage::DecisionAck { outcome: DecisionOutcome::Committed(receipt), .. }] => {
            receipt.verify(&NETWORK).unwrap();
            assert_eq!(receipt.body.holder, node(2));
            Some(receipt.body.states)
        }
        _ => None,
    }
}

const GONE: DecisionOutcome = DecisionOutcome::Gone;
const ABORTED: DecisionOutcome = DecisionOutcome::Aborted;

fn ack(tx: u8, attempt: u32, outcome: DecisionOutcome) -> ReplicationMessage {
    ReplicationMessage::DecisionAck { tx: TxId([tx; 32]), attempt, outcome }
}

#[test]
fn every_answer_waits_for_its_record() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let tx = TxId([5; 32]);
    let mut written = Vec::new();
    let inputs = [
        Input::Message { from: node(1), message: ReplicationMessage::Prepare(Box::new(prepare(&publication, 5, 1))) },
        Input::Staged { tx, attempt: 1, result: Ok(encrypted_and_preview()) },
        Input::Message { from: node(1), message: ReplicationMessage::Decision(decision(tx, 1, hash, true, 1)) },
    ];
    for input in inputs {
        let outputs = bench.step(input);
        assert_eq!(sends(&outputs), [], "nothing is said before it is on disk");
        let id = outputs.iter().find_map(|output| match output {
            Output::Persist { id, records } => {
                written.extend(records.clone());
                Some(*id)
            }
            _ => None,
        });
        assert!(!sends(&bench.step(Input::Persisted(id.unwrap()))).is_empty());
    }
    assert!(matches!(&written[..], [Record::Intent(_), Record::Prepared { .. }, Record::Commit { .. }]));
}

#[test]
fn a_repeated_prepare_and_a_repeated_decision_get_the_stored_answer() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let tx = TxId([5; 32]);
    let ok = ReplicationMessage::PrepareOk { tx, attempt: 1 };
    let prepared =
        ReplicationMessage::Prepared { tx, attempt: 1, manifest_hash: hash, states: encrypted_and_preview() };
    assert_eq!(bench.prepare(prepare(&publication, 5, 1)), std::slice::from_ref(&ok));
    assert_eq!(bench.prepare(prepare(&publication, 5, 1)), std::slice::from_ref(&ok));
    assert_eq!(bench.stage(5, 1), std::slice::from_ref(&prepared));
    assert_eq!(bench.stage(5, 1), []);
    assert_eq!(bench.prepare(prepare(&publication, 5, 1)), [ok, prepared]);
    let commit = ReplicationMessage::Decision(decision(tx, 1, hash, true, 1));
    let first = bench.hear(1, commit.clone());
    assert_eq!(receipt_states(&first), Some(encrypted_and_preview()));
    bench.wait(Duration::from_secs(3600));
    assert_eq!(bench.hear(1, commit), first, "the same receipt, to the bit");
    assert_eq!(bench.prepare(prepare(&publication, 5, 1)), first);
}

#[test]
fn only_the_coordinator_of_the_intent_decides_whoever_relays() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication, 5, 1));
    bench.stage(5, 1);
    let mut forged = decision(tx, 1, hash, true, 3);
    forged.body.coordinator = node(1);
    for wrong in [
        decision(tx, 1, hash, true, 3),
        forged,
        decision(tx, 2, hash, true, 1),
        decision(tx, 1, ManifestHash([0; 32]), true, 1),
    ] {
        assert_eq!(bench.hear(1, ReplicationMessage::Decision(wrong)), []);
    }
    let relayed =
        ReplicationMessage::Status { tx, status: TxStatus::Committed, decision: Some(decision(tx, 1, hash, true, 1)) };
    assert!(receipt_states(&bench.hear(3, relayed)).is_some());
}

#[test]
fn unknown_is_an_abort_only_from_the_coordinator() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    bench.prepare(prepare(&publication, 5, 1));
    bench.stage(5, 1);
    let unknown = ReplicationMessage::Status { tx: TxId([5; 32]), status: TxStatus::Unknown, decision: None };
    assert_eq!(bench.hear(3, unknown.clone()), []);
    assert_eq!(bench.hear(1, unknown), [ack(5, 1, ABORTED)]);
    assert!(bench.core.transactions().is_empty());
}

#[test]
fn a_lease_that_ends_aborts_and_a_late_commit_is_answered_gone() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication, 5, 1));
    bench.wait(Duration::from_secs(119));
    assert_eq!(sends(&bench.drive(Input::Timer(Timer::Lease { tx, generation: 1 }))), [], "too early");
    bench.wait(Duration::from_secs(1));
    let outputs = bench.drive(Input::Timer(Timer::Lease { tx, generation: 1 }));
    assert_eq!(sends(&outputs), [ack(5, 1, GONE)]);
    assert!(outputs.iter().any(|output| matches!(output, Output::CancelStage { .. })));
    assert!(outputs.iter().any(|output| matches!(output, Output::Event(Event::Aborted { .. }))));
    assert_eq!(bench.hear(1, ReplicationMessage::Decision(decision(tx, 1, hash, true, 1))), [ack(5, 1, GONE)]);
    assert_eq!(bench.prepare(prepare(&publication, 5, 1)), [ack(5, 1, GONE)], "the attempt has its tombstone");
    assert_eq!(bench.prepare(prepare(&publication, 5, 2)), [ReplicationMessage::PrepareOk { tx, attempt: 2 }]);
    assert_eq!(bench.stage(5, 1), [], "staging of the attempt before is over");
    bench.stage(5, 2);
    let commit = ReplicationMessage::Decision(decision(tx, 2, hash, true, 1));
    assert!(receipt_states(&bench.hear(1, commit)).is_some());
}

#[test]
fn a_rejected_manifest_is_given_up_at_every_stage_and_not_taken_again() {
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let commit = |tx: u8| ReplicationMessage::Decision(decision(TxId([tx; 32]), 1, hash, true, 1));
    let again = |bench: &mut Bench, tx, attempt| {
        assert_eq!(refused(&bench.prepare(prepare(&publication, tx, attempt))), Some(RefuseReason::Rejected));
    };
    // Receiving, then prepared.
    for staged in [false, true] {
        let mut bench = Bench::new();
        bench.prepare(prepare(&publication, 5, 1));
        if staged {
            bench.stage(5, 1);
        }
        let outputs = bench.drive(Input::Rejected(hash));
        assert_eq!(refused(&sends(&outputs)), Some(RefuseReason::Rejected));
        assert!(outputs.iter().any(|output| matches!(output, Output::CancelStage { .. })));
        assert!(bench.core.transactions().is_empty());
        assert_eq!(bench.hear(1, commit(5)), [ack(5, 1, GONE)]);
        again(&mut bench, 5, 2);
        again(&mut bench, 6, 1);
    }
    // While the commit is being written, and after it.
    for written in [false, true] {
        let mut bench = Bench::new();
        bench.prepare(prepare(&publication, 5, 1));
        bench.stage(5, 1);
        let outputs = bench.step(Input::Message { from: node(1), message: commit(5) });
        let [Output::Persist { id, .. }] = &outputs[..] else { panic!("{outputs:?}") };
        let answer = if written {
            let answer = sends(&bench.step(Input::Persisted(*id)));
            bench.drive(Input::Rejected(hash));
            answer
        } else {
            bench.drive(Input::Rejected(hash));
            sends(&bench.step(Input::Persisted(*id)))
        };
        assert_eq!(receipt_states(&answer).is_some(), written);
        assert_eq!(bench.hear(1, commit(5)), [ack(5, 1, GONE)], "no receipt is given again");
        again(&mut bench, 5, 1);
        again(&mut bench, 6, 1);
    }
}

#[test]
fn what_is_rejected_costs_no_other_group_anything() {
    let mut bench = Bench::new();
    let (one, other) = (publication(1, (2, 3), &[]), publication(2, (2, 3), &[]));
    for (publication, tx) in [(&one, 5), (&other, 6)] {
        bench.prepare(prepare(publication, tx, 1));
        bench.stage(tx, 1);
    }
    bench.drive(Input::Rejected(one.manifest.body.hash()));
    let hash = other.manifest.body.hash();
    let commit = ReplicationMessage::Decision(decision(TxId([6; 32]), 1, hash, true, 1));
    assert!(receipt_states(&bench.hear(1, commit)).is_some());
}

#[test]
fn progress_is_told_at_most_once_per_interval_and_a_renewal_extends_the_lease() {
    let mut bench = Bench::new();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication(1, (2, 3), &[]), 5, 1));
    bench.wait(Duration::from_secs(20));
    let progress = |bytes| Input::Progress { tx, attempt: 1, bytes };
    let told = ReplicationMessage::Progress { tx, attempt: 1, bytes: 10 };
    assert_eq!(sends(&bench.drive(progress(10))), [told]);
    assert_eq!(sends(&bench.drive(progress(20))), []);
    bench.wait(Duration::from_secs(20));
    let told = ReplicationMessage::Progress { tx, attempt: 1, bytes: 20 };
    assert_eq!(sends(&bench.drive(progress(20))), [told], "no bytes came in, but it is being verified");
    bench.hear(3, ReplicationMessage::LeaseRenew { tx, attempt: 1, lease_ms: 120_000 });
    assert_eq!(bench.core.transactions().len(), 1);
    bench.hear(1, ReplicationMessage::LeaseRenew { tx, attempt: 1, lease_ms: 120_000 });
    bench.wait(Duration::from_secs(90));
    assert_eq!(
        sends(&bench.drive(Input::Timer(Timer::Lease { tx, generation: 1 }))),
        [],
        "the first lease is replaced"
    );
    bench.wait(Duration::from_secs(30));
    let ended = sends(&bench.drive(Input::Timer(Timer::Lease { tx, generation: 2 })));
    assert_eq!(ended, [ack(5, 1, GONE)]);
}

#[test]
fn a_repeated_prepare_renews_the_lease_of_what_is_prepared() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    bench.prepare(prepare(&publication, 5, 1));
    bench.stage(5, 1);
    bench.wait(Duration::from_secs(500));
    let outputs = bench.drive(Input::Message {
        from: node(1),
        message: ReplicationMessage::Prepare(Box::new(prepare(&publication, 5, 1))),
    });
    let until = outputs.iter().find_map(|output| match output {
        Output::SetTimer { timer: timer @ Timer::Lease { .. }, at } => Some((*timer, *at)),
        _ => None,
    });
    let (timer, until) = until.expect("the coordinator counts from this prepare on");
    assert_eq!(until, bench.now.mono.after(Config::default().prepared_lease));
    bench.wait(Duration::from_secs(599));
    assert_eq!(sends(&bench.drive(Input::Timer(timer))), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(sends(&bench.drive(Input::Timer(timer))), [ack(5, 1, GONE)]);
}

#[test]
fn in_doubt_it_asks_the_coordinator_at_half_the_lease_and_then_the_others_too() {
    let mut bench = Bench::new();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication(1, (2, 3), &[]), 5, 1));
    bench.stage(5, 1);
    bench.wait(Duration::from_secs(299));
    assert_eq!(asked(&bench.drive(Input::Timer(Timer::Status(tx)))), []);
    bench.wait(Duration::from_secs(1));
    assert_eq!(asked(&bench.drive(Input::Timer(Timer::Status(tx)))), [node(1)]);
    bench.wait(Duration::from_secs(15));
    assert_eq!(asked(&bench.drive(Input::Timer(Timer::Status(tx)))), [node(1), node(3)]);
}

#[test]
fn a_restart_gives_the_lease_in_full_and_asks() {
    let publication = publication(1, (2, 3), &[]);
    let intent = |tx| crate::replication::io::Intent {
        coordinator: node(1),
        prepare: prepare(&publication, tx, 1),
        states: encrypted_and_preview(),
    };
    let intents = vec![(intent(5), None), (intent(6), Some(encrypted_and_preview()))];
    let restored = Restored { boot: 2, intents, ..Restored::default() };
    let mut core = Replication::new(Config::default(), key(2), NETWORK, restored);
    let mut out = Vec::new();
    let now = Now { mono: Mono(7), wall: Timestamp(1_700_000_000_000) };
    core.handle(now, Input::Start, &mut out);
    let leases: Vec<u64> = out
        .iter()
        .filter_map(|output| match output {
            Output::SetTimer { timer: Timer::Lease { .. }, at } => Some(at.0),
            _ => None,
        })
        .collect();
    assert_eq!(leases, [120_007, 600_007]);
    let staged: Vec<&Output> = out.iter().filter(|output| matches!(output, Output::Stage { .. })).collect();
    assert_eq!(staged.len(), 1, "only what was not prepared is staged again");
    assert!(sends(&out).iter().any(|message| matches!(message, ReplicationMessage::Prepared { .. })));
    assert!(out.iter().any(|output| matches!(
        output,
        Output::SetTimer { timer: Timer::Status(tx), at: Mono(7) } if *tx == TxId([6; 32])
    )));
}

#[test]
fn what_a_prepare_must_be_is_checked_before_anything_is_reserved() {
    let good = publication(1, (2, 3), &[]);
    let check = |change: &dyn Fn(&mut Prepare), reason| {
        let mut bench = Bench::new();
        let mut prepare = prepare(&good, 5, 1);
        change(&mut prepare);
        let outputs =
            bench.step(Input::Message { from: node(1), message: ReplicationMessage::Prepare(Box::new(prepare)) });
        assert_eq!(refused(&sends(&outputs)), Some(reason));
        assert!(!outputs.iter().any(|output| matches!(output, Output::Persist { .. })), "nothing is written for it");
    };
    check(&|prepare| prepare.manifest.body.replicas = 9, RefuseReason::ManifestInvalid);
    check(&|prepare| prepare.manifest.signature.0[0] ^= 1, RefuseReason::ManifestInvalid);
    check(&|prepare| prepare.sealed = vec![0].try_into().unwrap(), RefuseReason::ManifestInvalid);
    check(&|prepare| prepare.states = prepare.states.with(ContentState::Decrypted), RefuseReason::StateNotAllowed);
    check(&|prepare| prepare.states = StatesMask::EMPTY.with(ContentState::Preview), RefuseReason::StateNotAllowed);
    check(&|prepare| prepare.states = StatesMask::EMPTY, RefuseReason::StateNotAllowed);
    check(
        &|prepare| {
            let mut wraps = wraps(&prepare.manifest.body, &[2]).into_vec();
            wraps[0].signature.0[0] ^= 1;
            prepare.wraps = wraps.try_into().unwrap();
        },
        RefuseReason::WrapInvalid,
    );
    check(
        &|prepare| {
            let mut body = prepare.manifest.body.clone();
            body.placement_seed = [77; 32];
            prepare.manifest = SignedManifest::new(&NETWORK, body, &super::world::owner());
        },
        RefuseReason::ManifestInvalid,
    );
    let resigned = |prepare: &mut Prepare, change: fn(&mut Manifest)| {
        let mut body = prepare.manifest.body.clone();
        change(&mut body);
        if body.version == 1 {
            body.group_id = body.derive_group_id();
        }
        prepare.manifest = SignedManifest::new(&NETWORK, body, &super::world::owner());
    };
    let second = |body: &mut Manifest| (body.version, body.prev) = (2, Some(ManifestHash([6; 32])));
    check(&|prepare| resigned(prepare, second), RefuseReason::HeadInvalid);
    let huge = |body: &mut Manifest| {
        let mut members = body.members.to_vec();
        members[0].blob.as_mut().unwrap().size = 1 << 63;
        body.members = members.try_into().unwrap();
    };
    check(&|prepare| resigned(prepare, huge), RefuseReason::ManifestInvalid);
}

#[test]
fn a_failed_staging_is_refused_with_its_reason_after_the_abort_is_written() {
    let mut bench = Bench::new();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication(1, (2, 3), &[]), 5, 1));
    let outputs = bench.step(Input::Staged { tx, attempt: 1, result: Err(RefuseReason::HashMismatch) });
    assert_eq!(sends(&outputs), []);
    let id = outputs.iter().find_map(|output| match output {
        Output::Persist { id, records } => {
            assert!(matches!(records[..], [Record::Abort { attempt: 1, .. }]));
            Some(*id)
        }
        _ => None,
    });
    assert_eq!(refused(&sends(&bench.step(Input::Persisted(id.unwrap())))), Some(RefuseReason::HashMismatch));
}

#[test]
fn a_coordinator_above_its_budget_is_told_busy() {
    let mut bench = Bench::with(Config { transactions_per_peer_max: 1, ..Config::default() }, Restored::default());
    let (one, two) = (publication(1, (2, 3), &[]), publication(2, (2, 3), &[]));
    bench.prepare(prepare(&one, 5, 1));
    assert_eq!(refused(&bench.prepare(prepare(&two, 6, 1))), Some(RefuseReason::Busy));
    let other = bench.hear(3, ReplicationMessage::Prepare(Box::new(prepare(&two, 7, 1))));
    assert!(matches!(other[..], [ReplicationMessage::PrepareOk { .. }]), "the budget is per coordinator");
}

#[test]
fn a_manifest_committed_under_another_transaction_is_prepared_at_once_and_gets_the_same_receipt() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    bench.prepare(prepare(&publication, 5, 1));
    bench.stage(5, 1);
    let first = bench.hear(1, ReplicationMessage::Decision(decision(TxId([5; 32]), 1, hash, true, 1)));
    let outputs = bench.drive(Input::Message {
        from: node(1),
        message: ReplicationMessage::Prepare(Box::new(prepare(&publication, 6, 1))),
    });
    assert!(!outputs.iter().any(|output| matches!(output, Output::Stage { .. })), "nothing is staged again");
    assert!(matches!(sends(&outputs)[..], [ReplicationMessage::PrepareOk { .. }, ReplicationMessage::Prepared { .. }]));
    let second = bench.hear(1, ReplicationMessage::Decision(decision(TxId([6; 32]), 1, hash, true, 1)));
    assert_eq!(receipt_states(&second), receipt_states(&first));
    assert!(receipt_states(&second).is_some());
}

#[test]
fn a_later_attempt_of_what_was_committed_meanwhile_leaves_no_intent_behind() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let commit = |tx, attempt| ReplicationMessage::Decision(decision(TxId([tx; 32]), attempt, hash, true, 1));
    bench.prepare(prepare(&publication, 5, 1));
    bench.prepare(prepare(&publication, 6, 1));
    bench.stage(6, 1);
    bench.hear(1, commit(6, 1));
    let outputs = bench.step(Input::Message {
        from: node(1),
        message: ReplicationMessage::Prepare(Box::new(prepare(&publication, 5, 2))),
    });
    let replaced = outputs.iter().find_map(|output| match output {
        Output::Persist { id, records } => matches!(records[..], [Record::Intent(_)]).then_some(*id),
        _ => None,
    });
    bench.drive(Input::Persisted(replaced.expect("the intent of the first attempt is replaced")));
    bench.stage(5, 2);
    let outputs = bench.step(Input::Message { from: node(1), message: commit(5, 2) });
    let committed = outputs.iter().any(|output| match output {
        Output::Persist { records, .. } => matches!(records[..], [Record::Commit { attempt: 2, .. }]),
        _ => false,
    });
    assert!(committed, "and its own commit takes it away");
}

#[test]
fn tombstones_are_swept_and_forgetting_is_answered_gone() {
    let mut bench = Bench::new();
    let publication = publication(1, (2, 3), &[]);
    let hash = publication.manifest.body.hash();
    let tx = TxId([5; 32]);
    bench.prepare(prepare(&publication, 5, 1));
    bench.hear(1, ReplicationMessage::Decision(decision(tx, 1, hash, false, 1)));
    bench.wait(Duration::from_secs(24 * 3600));
    let outputs = bench.step(Input::Timer(Timer::Sweep));
    let forgotten = outputs.iter().any(|output| match output {
        Output::Persist { records, .. } => records[..] == [Record::Forget(tx)],
        _ => false,
    });
    assert!(forgotten);
    assert_eq!(bench.hear(1, ReplicationMessage::Decision(decision(tx, 1, hash, true, 1))), [ack(5, 1, GONE)]);
}

#[test]
fn only_verified_receipts_of_nodes_that_may_hold_copies_are_kept() {
    let mut bench = Bench::new();
    bench.step(Input::Admitted(Box::new(admission(4, Roles::EDGE, Timestamp::MAX))));
    let hash = publication(1, (2, 3), &[]).manifest.body.hash();
    let sign = |number: u8, hash, until| {
        let body = mynet_types::StorageReceipt {
            manifest_hash: hash,
            states: encrypted_and_preview(),
            holder: node(number),
            until,
        };
        mynet_types::SignedReceipt::new(&NETWORK, body, &key(number))
    };
    let mut forged = sign(1, hash, Timestamp::MAX);
    forged.body.until = Timestamp(forged.body.until.0 - 1);
    let receipts = vec![
        forged,
        sign(3, hash, Timestamp::MAX),
        sign(3, hash, Timestamp::MAX),
        sign(1, ManifestHash([0; 32]), Timestamp::MAX),
        sign(1, hash, bench.now.wall),
        sign(77, hash, Timestamp::MAX),
        sign(4, hash, Timestamp::MAX),
    ];
    let message = ReplicationMessage::Receipts {
        group_id: mynet_types::GroupId([1; 32]),
        manifest_hash: hash,
        receipts: receipts.try_into().unwrap(),
    };
    let outputs = bench.step(Input::Message { from: node(1), message });
    let kept: Vec<NodeId> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Persist { records, .. } => match &records[..] {
                [Record::Receipts { receipts, .. }] => Some(receipts.iter().map(|receipt| receipt.body.holder)),
                _ => None,
            },
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(kept, [node(3)]);
}
