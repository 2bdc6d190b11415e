//! What the vote store promises, one test per rule.

use std::path::{Path, PathBuf};

use mynet_types::{
    AckedHead, BoundedVec, CarriedHead, Claim, Evidence, GroupId, ManifestHash, NodeId, OwnerEvidence, OwnerKey,
    OwnerStatement, Phase, ProposalId, QuorumCertificate, Roster, RosterHash, RosterLink, Signature, Signed,
    SignedOwnerStatement, SignerSet, StatesMask, Timestamp, Verdict, Vote, VoteStatement, vote::attest_slot,
};
use sea_orm::ConnectionTrait;

use super::{DataDir, RestoredVotes, VoteSecret, VoteWrite, Votes, VotesError};

fn vote(epoch: u64, value: u8, verdict: Verdict, claim: Claim) -> Vote {
    let value = ManifestHash([value; 32]);
    vote_in(
        attest_slot(&value),
        VoteStatement {
            epoch,
            roster: RosterHash([1; 32]),
            phase: Phase::Vote,
            slot: attest_slot(&value),
            value,
            verdict,
            claim,
            states: StatesMask::EMPTY,
        },
    )
}

fn vote_in(slot: mynet_types::SlotKey, statement: VoteStatement) -> Vote {
    Vote {
        statement: VoteStatement { slot, ..statement },
        seat: 0,
        signature: Signature([2; 64]),
        proposal_id: ProposalId([3; 32]),
        reason: None,
    }
}

fn accept(epoch: u64, value: u8) -> Vote {
    vote(epoch, value, Verdict::Accept, Claim::Durable)
}

fn link(epoch: u64) -> RosterLink {
    let roster = Roster {
        epoch,
        prev: RosterHash([4; 32]),
        validators: BoundedVec::new(),
        valid_from: Timestamp(1),
        close_set_root: [0; 32],
        close_count: 0,
    };
    let none = SignerSet { seats: 0, signatures: BoundedVec::new() };
    RosterLink::voted(roster, none.clone(), none)
}

/// Yes and no of a seat to one value; the store does not check it.
fn evidence(epoch: u64, seat: u16) -> Evidence {
    let vote = |verdict| Vote { seat, ..vote(epoch, 1, verdict, Claim::Seen) };
    Evidence::of(&vote(Verdict::Accept), &vote(Verdict::Reject)).unwrap()
}

/// What an owner says of a version; the store does not check it.
fn said(version: u64, value: u8) -> SignedOwnerStatement {
    let (group_id, manifest_hash) = (GroupId([1; 32]), ManifestHash([value; 32]));
    let body = OwnerStatement { group_id, version, manifest_hash, owner: OwnerKey([5; 32]) };
    Signed { body, signature: Signature([value; 64]) }
}

fn owner_evidence(version: u64) -> OwnerEvidence {
    OwnerEvidence::of(&said(version, 1), &said(version, 2)).unwrap()
}

fn approval(node: u8, given: bool) -> VoteWrite {
    VoteWrite::Approval { node: NodeId([node; 32]), given }
}

fn key(epoch: u64) -> VoteWrite {
    VoteWrite::Key { epoch, secret: VoteSecret([u8::try_from(epoch).unwrap(); 32]) }
}

async fn open(directory: &Path, data_dir: DataDir) -> Votes {
    Votes::open(directory, data_dir).await.unwrap()
}

async fn restart(votes: Votes, directory: &Path) -> Votes {
    votes.close().await.unwrap();
    open(directory, DataDir::Used).await
}

#[tokio::test]
async fn a_second_open_of_the_same_directory_fails_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.batch(vec![key(0)]).await.unwrap();
    let error = Votes::open(dir.path(), DataDir::Used).await.unwrap_err();
    assert!(matches!(&error, VotesError::InUse(path) if *path == dir.path().join("votes.db")), "{error}");
    assert!(error.to_string().contains("already running"));
    // The refused open changed nothing: the next start votes.
    let votes = restart(votes, dir.path()).await;
    assert_eq!(votes.boots(), 2);
    assert!(votes.restore().await.unwrap().may_vote);
}

#[tokio::test]
async fn every_commit_is_synchronous_and_deleted_bytes_are_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let pragma = async |name: &str| -> i64 {
        votes.all(&format!("SELECT * FROM pragma_{name}"), []).await.unwrap()[0].try_get_by_index(0).unwrap()
    };
    assert_eq!(pragma("synchronous").await, 3);
    assert_eq!(pragma("secure_delete").await, 1);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_secrets() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let _votes = open(dir.path(), DataDir::New).await;
    for file in std::fs::read_dir(dir.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
    }
}

#[tokio::test]
async fn a_restart_gives_back_everything() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let mut reject = vote(1, 8, Verdict::Reject, Claim::Seen);
    reject.reason = Some(mynet_types::RejectReason::HashMismatch);
    let proposal = |n: u8| VoteWrite::Proposal { id: ProposalId([n; 32]), proposal: vec![n] };
    votes
        .batch(vec![
            key(0),
            VoteWrite::Vote(accept(0, 1)),
            VoteWrite::Link(link(1)),
            VoteWrite::Link(link(1)),
            key(1),
            key(2),
            VoteWrite::Vote(accept(1, 7)),
            VoteWrite::Vote(reject.clone()),
            VoteWrite::RosterLock { epoch: 1, roster: RosterHash([1; 32]), lock: vec![1] },
            VoteWrite::RosterLock { epoch: 2, roster: RosterHash([2; 32]), lock: vec![2] },
            VoteWrite::RosterLock { epoch: 2, roster: RosterHash([2; 32]), lock: vec![3] },
            proposal(1),
            proposal(2),
            VoteWrite::Closed(ProposalId([1; 32])),
            VoteWrite::Evidence(evidence(0, 2)),
            VoteWrite::Evidence(evidence(1, 2)),
            VoteWrite::Evidence(Evidence { second: evidence(0, 2).first, ..evidence(1, 2) }),
            approval(3, true),
            approval(4, true),
            approval(4, true),
            approval(3, false),
            VoteWrite::EraseKeys { through: 0 },
            key(0),
        ])
        .await
        .unwrap();
    let votes = restart(votes, dir.path()).await;
    let mut expected_votes = vec![accept(1, 7), reject];
    expected_votes.sort_by_key(|vote| vote.statement.slot);
    let expected = RestoredVotes {
        links: vec![link(1)],
        keys: (0..3).map(|epoch| (u64::from(epoch), VoteSecret([epoch; 32]))).collect(),
        votes: expected_votes,
        lock: Some(vec![3]),
        proposals: vec![vec![2]],
        evidence: vec![evidence(0, 2), evidence(1, 2)],
        approved: vec![NodeId([4; 32])],
        may_vote: true,
        ..RestoredVotes::default()
    };
    assert_eq!(votes.restore().await.unwrap(), expected);
}

#[tokio::test]
async fn a_vote_that_contradicts_one_that_was_cast_is_refused_with_its_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.batch(vec![key(0), VoteWrite::Vote(accept(0, 1))]).await.unwrap();
    let check = async |contradiction: Vote| {
        let other = VoteWrite::Vote(accept(0, 9));
        let error = votes.batch(vec![other, VoteWrite::Vote(contradiction)]).await.unwrap_err();
        assert!(matches!(error, VotesError::VoteConflict { epoch: 0, .. }), "{error}");
        assert_eq!(votes.restore().await.unwrap().votes, [accept(0, 1)]);
    };
    check(vote(0, 1, Verdict::Reject, Claim::Durable)).await;
    // Another value in the slot of the first.
    check(vote_in(accept(0, 1).statement.slot, accept(0, 2).statement)).await;
    // Neither a claim more about the same value nor another epoch contradicts, and refusals do not stop the store.
    let verified = vote(0, 1, Verdict::Accept, Claim::Verified);
    votes.batch(vec![VoteWrite::Vote(verified.clone()), VoteWrite::Vote(accept(1, 1))]).await.unwrap();
    assert_eq!(votes.restore().await.unwrap().votes, [verified, accept(1, 1)]);
}

#[tokio::test]
async fn one_next_roster_is_signed_per_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let lock = |roster: u8| VoteWrite::RosterLock { epoch: 1, roster: RosterHash([roster; 32]), lock: vec![roster] };
    votes.batch(vec![lock(1)]).await.unwrap();
    assert!(matches!(votes.batch(vec![lock(2)]).await, Err(VotesError::RosterConflict { epoch: 1 })));
    assert_eq!(votes.restore().await.unwrap().lock, Some(vec![1]));
    votes.batch(vec![VoteWrite::Link(link(1))]).await.unwrap();
    let mut other = link(1);
    other.roster.close_count = 1;
    let refused = votes.batch(vec![VoteWrite::Link(other)]).await;
    assert!(matches!(refused, Err(VotesError::RosterConflict { epoch: 1 })));
    assert_eq!(votes.restore().await.unwrap().lock, None, "the chain passed it");
}

fn acked(epoch: u64, group: u8, version: u64) -> AckedHead {
    let signers = SignerSet { seats: 7, signatures: BoundedVec::truncated([Signature([5; 64]); 3]) };
    let certificate = QuorumCertificate { statement: accept(epoch, group).statement, signers };
    AckedHead { group_id: GroupId([group; 32]), version, certificate }
}

fn carried(group: u8, version: u64) -> CarriedHead {
    CarriedHead { group_id: GroupId([group; 32]), version, value: ManifestHash([group; 32]) }
}

#[tokio::test]
async fn heads_survive_a_restart_and_an_epoch_takes_its_acks_and_its_close_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let close = |next: u8| VoteWrite::EpochClosed { epoch: 0, next: vec![next] };
    let writes = vec![
        key(0),
        VoteWrite::Acked(acked(0, 2, 3)),
        VoteWrite::Acked(acked(0, 1, 2)),
        VoteWrite::Acked(acked(0, 2, 2)),
        close(1),
        close(2),
        VoteWrite::Carried(vec![carried(3, 5), carried(4, 2)]),
        VoteWrite::Carried(vec![carried(3, 6), carried(3, 4)]),
        VoteWrite::CarriedNext(vec![carried(2, 3), carried(1, 2)]),
        VoteWrite::Reported { root: [2; 32], heads: vec![acked(0, 2, 3), acked(0, 1, 2)] },
        VoteWrite::Reported { root: [1; 32], heads: vec![acked(0, 2, 4)] },
        VoteWrite::Reported { root: [1; 32], heads: vec![acked(0, 2, 4)] },
    ];
    votes.batch(writes).await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let restored = votes.restore().await.unwrap();
    assert_eq!(restored.acked, [acked(0, 1, 2), acked(0, 2, 3)], "the highest version of each group");
    assert_eq!(restored.closed, Some(vec![2]));
    assert_eq!(restored.carried, [carried(3, 6), carried(4, 2)], "never a lower version");
    assert_eq!(restored.carried_next, [carried(1, 2), carried(2, 3)]);
    let reported = [([1; 32], acked(0, 2, 4)), ([2; 32], acked(0, 1, 2)), ([2; 32], acked(0, 2, 3))];
    assert_eq!(restored.reported, reported);

    let grown = vec![
        VoteWrite::Acked(acked(1, 9, 2)),
        VoteWrite::Link(link(1)),
        VoteWrite::EraseKeys { through: 0 },
        VoteWrite::Carried(vec![carried(1, 2)]),
    ];
    votes.batch(grown).await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let restored = votes.restore().await.unwrap();
    assert_eq!((restored.acked, restored.closed), (vec![acked(1, 9, 2)], None));
    assert_eq!(restored.carried, [carried(1, 2), carried(3, 6), carried(4, 2)]);
    assert_eq!((restored.carried_next, restored.reported), (vec![], vec![]));
}

#[tokio::test]
async fn a_first_and_a_second_round_lock_their_slot_each_for_itself() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let slot = mynet_types::vote::head_slot(&GroupId([1; 32]), 2);
    let of = |phase, value| {
        let statement = accept(0, value).statement;
        VoteWrite::Vote(vote_in(slot, VoteStatement { phase, ..statement }))
    };
    // It voted for one value, and acks another one that a quorum voted for.
    votes.batch(vec![of(Phase::Vote, 1), of(Phase::Ack, 2)]).await.unwrap();
    for (phase, value) in [(Phase::Vote, 2), (Phase::Ack, 1)] {
        let refused = votes.batch(vec![of(phase, value)]).await;
        assert!(matches!(refused, Err(VotesError::VoteConflict { epoch: 0, .. })), "{phase:?}");
    }
}

#[tokio::test]
async fn erased_keys_are_gone_from_the_files() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let secret = *b"a secret that must not survive!!";
    votes.batch(vec![VoteWrite::Key { epoch: 0, secret: VoteSecret(secret) }, key(1)]).await.unwrap();
    votes.batch(vec![VoteWrite::Vote(accept(0, 1)), VoteWrite::Vote(accept(1, 1))]).await.unwrap();
    let holding = || {
        let files = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().path());
        let holds = |path: &PathBuf| std::fs::read(path).unwrap().windows(32).any(|window| window == secret);
        files.filter(holds).count()
    };
    assert!(holding() > 0, "it was there");
    votes.batch(vec![VoteWrite::EraseKeys { through: 0 }]).await.unwrap();
    assert_eq!(holding(), 0);
    let restored = votes.restore().await.unwrap();
    assert_eq!(restored.keys.keys().copied().collect::<Vec<_>>(), [1]);
    assert_eq!(restored.votes, [accept(1, 1)]);
}

#[tokio::test]
async fn a_store_restored_from_a_backup_never_votes_with_its_old_keys_again() {
    let dir = tempfile::tempdir().unwrap();
    let (database, backup) = (dir.path().join("votes.db"), dir.path().join("backup"));
    let votes = open(dir.path(), DataDir::New).await;
    votes.batch(vec![key(0)]).await.unwrap();
    votes.close().await.unwrap();
    std::fs::copy(&database, &backup).unwrap();
    let votes = open(dir.path(), DataDir::Used).await;
    votes.batch(vec![VoteWrite::Vote(accept(0, 1))]).await.unwrap();
    votes.close().await.unwrap();
    std::fs::copy(&backup, &database).unwrap();

    let mut votes = open(dir.path(), DataDir::Used).await;
    for _restart in 0..2 {
        let restored = votes.restore().await.unwrap();
        assert!(!restored.may_vote && restored.keys.is_empty(), "{restored:?}");
        votes = restart(votes, dir.path()).await;
    }
    // A fresh key in the next epoch may vote, the old one still may not.
    votes.batch(vec![key(1), VoteWrite::Link(link(1))]).await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let restored = votes.restore().await.unwrap();
    assert_eq!((restored.may_vote, restored.keys.keys().copied().collect::<Vec<_>>()), (true, vec![1]));
}

#[tokio::test]
async fn a_lost_store_in_a_used_directory_may_not_vote() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.batch(vec![key(0)]).await.unwrap();
    assert!(votes.restore().await.unwrap().may_vote);
    votes.close().await.unwrap();
    std::fs::remove_file(dir.path().join("votes.db")).unwrap();
    let votes = open(dir.path(), DataDir::Used).await;
    assert!(!votes.restore().await.unwrap().may_vote);
    assert!(votes.boots() > 1, "never behind what the file said");
    votes.close().await.unwrap();

    let empty = tempfile::tempdir().unwrap();
    assert!(!open(empty.path(), DataDir::Used).await.restore().await.unwrap().may_vote);
}

#[tokio::test]
async fn after_a_failure_of_the_database_no_batch_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.db.execute_unprepared("DROP TABLE votes").await.unwrap();
    let failed = votes.batch(vec![VoteWrite::Vote(accept(0, 1))]).await;
    assert!(matches!(failed, Err(VotesError::Database(_))));
    assert!(matches!(votes.batch(vec![key(0)]).await, Err(VotesError::Failed)));
}

#[tokio::test]
async fn a_full_disk_leaves_no_trace_of_a_vote_and_the_store_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let votes = open(directory.path(), DataDir::New).await;
    votes.db.execute_unprepared("PRAGMA max_page_count = 1").await.unwrap();
    let many = || (0..200).map(|value| VoteWrite::Vote(accept(1, value))).collect::<Vec<_>>();
    let refused = votes.batch(many()).await.unwrap_err();
    assert!(crate::is_disk_full(&refused), "{refused:?}");
    votes.db.execute_unprepared("PRAGMA max_page_count = 100000").await.unwrap();
    votes.batch(many()).await.unwrap();
    let votes = restart(votes, directory.path()).await;
    assert_eq!(votes.restore().await.unwrap().votes.len(), 200);
}

#[tokio::test]
async fn a_file_of_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.db.execute_unprepared("PRAGMA user_version = 9").await.unwrap();
    votes.close().await.unwrap();
    let error = Votes::open(dir.path(), DataDir::Used).await.unwrap_err();
    assert!(matches!(error, VotesError::Newer { found: 9 }));
}

#[test]
fn secrets_are_not_printed() {
    let text = format!("{:?}", key(0));
    assert!(text.contains("VoteSecret(..)") && !text.contains("[0, 0"), "{text}");
}

#[tokio::test]
async fn a_store_of_the_first_version_gets_the_new_tables_and_keeps_its_votes() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    votes.batch(vec![key(0), VoteWrite::Vote(accept(0, 1))]).await.unwrap();
    for table in [
        "evidence",
        "approvals",
        "acked",
        "closed",
        "carried",
        "carried_next",
        "reported",
        "owner_signed",
        "owner_evidence",
    ] {
        votes.db.execute_unprepared(&format!("DROP TABLE {table}")).await.unwrap();
    }
    votes.db.execute_unprepared("PRAGMA user_version = 1").await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let heads = VoteWrite::Carried(vec![carried(1, 2)]);
    votes.batch(vec![VoteWrite::Evidence(evidence(0, 2)), approval(4, true), heads]).await.unwrap();
    let restored = votes.restore().await.unwrap();
    assert_eq!((restored.votes, restored.may_vote), (vec![accept(0, 1)], true));
    assert_eq!(restored.carried, [carried(1, 2)]);
    assert_eq!((restored.evidence, restored.approved), (vec![evidence(0, 2)], vec![NodeId([4; 32])]));
}

#[tokio::test]
async fn what_owners_signed_goes_with_its_votes_and_what_accuses_them_never() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let signed = |epoch, signed| VoteWrite::OwnerSigned { epoch, signed };
    // Peers tell of any number that an owner made up; that must not stop the node.
    let told = [owner_evidence(2), owner_evidence(u64::MAX)];
    let second = OwnerEvidence { second: told[0].first, ..told[0] };
    let writes = vec![
        key(0),
        VoteWrite::Vote(accept(0, 1)),
        signed(0, said(2, 1)),
        signed(0, said(2, 2)),
        signed(0, said(3, 1)),
        VoteWrite::OwnerEvidence(told[1]),
        VoteWrite::OwnerEvidence(told[0]),
        VoteWrite::OwnerEvidence(second),
    ];
    votes.batch(writes).await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let restored = votes.restore().await.unwrap();
    assert_eq!(restored.signed, [(0, said(2, 1)), (0, said(3, 1))], "the first one of a version stays");
    assert_eq!(restored.owner_evidence, told);
    let next = vec![VoteWrite::Link(link(1)), VoteWrite::EraseKeys { through: 0 }, key(1), signed(1, said(2, 2))];
    votes.batch(next).await.unwrap();
    let left = votes.all("SELECT epoch FROM owner_signed", []).await.unwrap().len();
    let restored = votes.restore().await.unwrap();
    assert_eq!((restored.signed, left), (vec![(1, said(2, 2))], 1));
    votes.batch(vec![VoteWrite::Unlinked { after: 0 }]).await.unwrap();
    let restored = votes.restore().await.unwrap();
    assert_eq!((restored.signed, restored.owner_evidence), (Vec::new(), told.to_vec()));
}

#[tokio::test]
async fn links_that_gave_way_take_everything_of_their_epochs_along() {
    let dir = tempfile::tempdir().unwrap();
    let votes = open(dir.path(), DataDir::New).await;
    let lock = |epoch, roster| VoteWrite::RosterLock { epoch, roster: RosterHash([roster; 32]), lock: vec![roster] };
    let carried = CarriedHead { group_id: GroupId([1; 32]), version: 2, value: ManifestHash([3; 32]) };
    let before =
        vec![VoteWrite::Link(link(1)), key(1), VoteWrite::Vote(accept(1, 1)), VoteWrite::Evidence(evidence(1, 0))];
    votes.batch(before).await.unwrap();
    let kept = votes.restore().await.unwrap();
    let since = vec![
        VoteWrite::Link(link(2)),
        VoteWrite::Link(link(3)),
        VoteWrite::Carried(vec![carried]),
        key(2),
        key(3),
        VoteWrite::Vote(accept(3, 7)),
        VoteWrite::Evidence(evidence(3, 0)),
        lock(4, 1),
        VoteWrite::CarriedNext(vec![carried]),
        VoteWrite::Reported { root: [1; 32], heads: vec![acked(3, 1, 2)] },
        VoteWrite::EpochClosed { epoch: 3, next: vec![1] },
    ];
    votes.batch(since).await.unwrap();
    let mut other = link(2);
    other.roster.prev = RosterHash([9; 32]);
    assert!(matches!(
        votes.batch(vec![VoteWrite::Link(other.clone())]).await,
        Err(VotesError::RosterConflict { epoch: 2 })
    ));
    votes.batch(vec![VoteWrite::Unlinked { after: 1 }, VoteWrite::Link(other.clone())]).await.unwrap();
    let votes = restart(votes, dir.path()).await;
    let restored = votes.restore().await.unwrap();
    let links = [kept.links.clone(), vec![other]].concat();
    // Votes of an epoch before the newest can be asked for no more.
    assert_eq!(restored, RestoredVotes { links, votes: Vec::new(), ..kept });
    // Nothing of the other epochs is left to contradict.
    let again = vec![
        lock(4, 2),
        VoteWrite::Vote(vote(3, 7, Verdict::Reject, Claim::Seen)),
        VoteWrite::Evidence(evidence(3, 0)),
    ];
    votes.batch(again).await.unwrap();
}
