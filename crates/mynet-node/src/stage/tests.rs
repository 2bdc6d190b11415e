//! What staging takes for held, what it leaves behind, and whom it blames.

use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::FileExt,
    sync::{Arc, atomic::AtomicU64},
};

use futures::FutureExt;
use mynet_proto::node::io::Input;
use mynet_store::{
    blobs::{BlobKey, CommitError, DecryptError, DiskError, FinishError, ReadError},
    cipher::CipherError,
    meta::StoredBlob,
};
use mynet_types::{BlobRef, ContentHash, ContentState, TxId, wire::RefuseReason};

use super::{StageError, Stager, decrypt_error};
use crate::{
    config::Config,
    pull::PullError,
    testing::{Home, Sample},
};

/// Runs an attempt to its end.
async fn attempt(home: &mut Home, sample: &Sample, attempt: u32) -> Result<(), RefuseReason> {
    home.shell.stage(sample.job(attempt));
    loop {
        if let Input::Staged { attempt: ended, result, .. } = home.next_input().await {
            assert_eq!(ended, attempt);
            return result.map(|states| assert_eq!(states, sample.prepare.states));
        }
    }
}

#[tokio::test]
async fn what_a_failed_attempt_placed_is_used_by_the_next_and_goes_with_the_transaction() {
    let mut home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    home.arrive(&sample.prepare, &sample.encrypted).await;
    assert_eq!(attempt(&mut home, &sample, 1).await, Err(RefuseReason::Unavailable), "no preview");
    let placed = home.shell.staged.placed(&sample.prepare.tx);
    assert_eq!(placed.iter().map(|file| file.blob).collect::<Vec<_>>(), [sample.encrypted.blob]);
    // Nobody has the encrypted state any more, and nobody is asked for it.
    home.arrive(&sample.prepare, &sample.preview).await;
    assert_eq!(attempt(&mut home, &sample, 2).await, Ok(()));
    let staged = home.shell.staged_blobs(&sample.prepare.tx).unwrap();
    assert!(staged.contains(&placed[0]));
    assert_eq!(home.files().len(), 4, "two blobs with their outboards");
    home.shell.forget_staging(sample.prepare.tx).await;
    assert!(home.files().is_empty(), "files without rows stayed: {:?}", home.files());
}

#[tokio::test]
async fn what_got_rows_stays_when_the_transaction_ends() {
    let mut home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    home.arrive(&sample.prepare, &sample.encrypted).await;
    home.arrive(&sample.prepare, &sample.preview).await;
    assert_eq!(attempt(&mut home, &sample, 1).await, Ok(()));
    let staged = home.shell.staged_blobs(&sample.prepare.tx).unwrap();
    home.prepared(&sample.prepare, staged).await;
    home.shell.forget_staging(sample.prepare.tx).await;
    assert_eq!(home.files().len(), 4);
}

#[tokio::test]
async fn a_file_that_is_moved_into_place_while_its_transaction_is_cancelled_is_not_lost_sight_of() {
    let home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let tx = sample.prepare.tx;
    home.shell.resume(sample.prepare.clone(), Vec::new());
    let turn = Arc::new(home.shell.staged.gate(&tx).unwrap().lock_owned().await);
    let (job, received) = (sample.job(1), AtomicU64::new(0));
    let stager = Stager { shell: &home.shell, job: &job, turn: &turn, received: &received };
    // Cut off at its first step: the rename is still to come.
    assert!(stager.place(sample.encrypted.clone()).now_or_never().is_none());
    drop(turn);
    home.shell.forget_staging(tx).await;
    assert!(home.files().is_empty(), "files without rows stayed: {:?}", home.files());
    assert!(!sample.encrypted.path().exists(), "the move was not cut off");
}

#[tokio::test]
async fn an_attempt_reports_also_while_no_byte_comes() {
    let mut config = Config::default();
    config.replication.receiving_lease = std::time::Duration::from_millis(60);
    let mut home = Home::new(config).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    home.arrive(&sample.prepare, &sample.encrypted).await;
    home.arrive(&sample.prepare, &sample.preview).await;
    home.shell.resume(sample.prepare.clone(), Vec::new());
    // As long as somebody has the turn nothing is read, received or hashed.
    let turn = home.shell.staged.gate(&sample.prepare.tx).unwrap().lock_owned().await;
    home.shell.stage(sample.job(1));
    for _ in 0..3 {
        let input = home.next_input().await;
        assert!(matches!(input, Input::Progress { attempt: 1, bytes: 0, .. }), "{input:?}");
    }
    drop(turn);
    while let Input::Progress { .. } = home.next_input().await {}
}

#[tokio::test]
async fn a_blob_that_only_its_row_says_is_here_is_pulled_again() {
    let mut home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let missing = sample.blobs().map(|blob| StoredBlob { blob, generation: 1 });
    home.prepared(&sample.prepare, missing.to_vec()).await;
    assert_eq!(attempt(&mut home, &sample, 1).await, Err(RefuseReason::Unavailable));
    let row = home.shell.meta.blob(&sample.encrypted.blob.sha256).await.unwrap().unwrap();
    assert!(row.quarantined);
    home.arrive(&sample.prepare, &sample.encrypted).await;
    home.arrive(&sample.prepare, &sample.preview).await;
    assert_eq!(attempt(&mut home, &sample, 2).await, Ok(()));
    assert!(home.shell.staged_blobs(&sample.prepare.tx).unwrap().iter().all(|file| file.generation != 1));
}

#[tokio::test]
async fn a_corrupt_blob_is_set_aside_and_pulled_again_and_no_word_about_the_wrap() {
    let mut home = Home::new(Config::default()).await;
    let sample = home.sample(1).await;
    home.intend(&sample.prepare).await;
    let held = vec![home.place(&sample.encrypted).await, home.place(&sample.preview).await];
    let encrypted = home.files().into_iter().find(|path| fs::metadata(path).unwrap().len() > 200_000).unwrap();
    let good = fs::read(&encrypted).unwrap();
    let outboard = fs::read(format!("{}.obao", encrypted.display())).unwrap();
    fs::File::options().write(true).open(&encrypted).unwrap().write_all_at(&[!good[100_000]], 100_000).unwrap();
    home.prepared(&sample.prepare, held.clone()).await;
    assert_eq!(attempt(&mut home, &sample, 1).await, Err(RefuseReason::Unavailable));
    assert!(home.shell.meta.blob(&held[0].blob.sha256).await.unwrap().unwrap().quarantined);
    // What another holder would send.
    fs::write(sample.encrypted.path(), good).unwrap();
    fs::write(format!("{}.obao", sample.encrypted.path().display()), outboard).unwrap();
    home.arrive(&sample.prepare, &sample.encrypted).await;
    assert_eq!(attempt(&mut home, &sample, 2).await, Ok(()));
    assert_ne!(home.shell.staged_blobs(&sample.prepare.tx).unwrap()[1].generation, held[0].generation);
}

fn disk(kind: ErrorKind) -> DiskError {
    DiskError { verb: "write", path: "x".into(), source: kind.into() }
}

#[tokio::test]
async fn only_what_is_wrong_with_the_content_is_said_to_be_so() {
    let home = Home::new(Config::default()).await;
    let held = StoredBlob { blob: home.sample(1).await.encrypted.blob, generation: 1 };
    let blob = BlobKey { sha256: held.blob.sha256, generation: 1 };
    let (full, broken) = (|| disk(ErrorKind::StorageFull), || disk(ErrorKind::InvalidData));
    let check = |error: StageError, reason: RefuseReason| assert_eq!(error.reason(), reason, "{error}");
    check(CommitError::Disk(full()).into(), RefuseReason::NoSpace);
    check(CommitError::Disk(disk(ErrorKind::QuotaExceeded)).into(), RefuseReason::NoSpace);
    check(CommitError::Disk(broken()).into(), RefuseReason::Storage);
    check(full().into(), RefuseReason::NoSpace);
    check(PullError::Disk(full()).into(), RefuseReason::NoSpace);
    check(PullError::NoSpace { needed: 2, free: 1 }.into(), RefuseReason::NoSpace);
    check(PullError::Unavailable(ContentHash([0; 32])).into(), RefuseReason::Unavailable);
    let (expected, actual) = (ContentHash([0; 32]), ContentHash([1; 32]));
    check(PullError::HashMismatch(FinishError::HashMismatch { expected, actual }).into(), RefuseReason::HashMismatch);
    let source = |error| decrypt_error(DecryptError::Source(error), held);
    check(source(ReadError::Disk(broken())), RefuseReason::Storage);
    check(source(ReadError::Missing { blob }), RefuseReason::Storage);
    check(source(ReadError::Corrupt { blob, offset: 0 }), RefuseReason::Storage);
    check(decrypt_error(DecryptError::Local(broken()), held), RefuseReason::Storage);
    check(decrypt_error(DecryptError::Short { chunk: 1 }, held), RefuseReason::Storage);
    check(decrypt_error(CipherError::Inauthentic { index: 1 }.into(), held), RefuseReason::WrapInvalid);
    check(StageError::Plaintext, RefuseReason::WrapInvalid);
    assert_eq!(home.shell.staged.placed(&TxId([9; 32])), []);
}

#[tokio::test]
async fn a_batch_that_is_not_what_the_manifest_says_is_named_and_nothing_after_it_is_pulled() {
    let mut home = Home::new(Config::default()).await;
    let mut sample = home.sample(1).await;
    let lie = ContentHash([7; 32]);
    let mut members = sample.prepare.manifest.body.members.clone().into_vec();
    for member in members.iter_mut().filter(|member| member.state == ContentState::Encrypted) {
        member.blob = member.blob.map(|blob| BlobRef { sha256: lie, ..blob });
    }
    sample.prepare.manifest.body.members = members.try_into().unwrap();
    sample.encrypted.blob.sha256 = lie;
    home.intend(&sample.prepare).await;
    home.arrive(&sample.prepare, &sample.encrypted).await;
    home.arrive(&sample.prepare, &sample.preview).await;
    assert_eq!(attempt(&mut home, &sample, 1).await, Err(RefuseReason::HashMismatch));
    let lines = home.shell.log_of(&sample.prepare.manifest.body.group_id).await.unwrap();
    let told: Vec<(&str, Option<u64>)> = lines.iter().map(|line| (line.code.as_str(), line.value)).collect();
    assert_eq!(told.last(), Some(&("batch_corrupt", Some(sample.encrypted.blob.size))), "{told:?}");
}
