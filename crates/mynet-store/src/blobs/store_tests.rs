//! Rules of the directory of blobs.

use std::fs;

use super::{
    BlobKey, Blobs, CommitError, DiskError, Ingest, OpenError, ReadError, StageName, free_space,
    testing::{Home, bytes, drain, name},
};

async fn staged(home: &Home, data: &[u8]) -> super::StagedBlob {
    let staging = home.stage("upload").await;
    let mut ingest = Ingest::plain(&staging, &name("data"), None).await.unwrap();
    ingest.write(data).await.unwrap();
    ingest.finish().await.unwrap().staged
}

#[tokio::test]
async fn a_blob_is_in_no_place_before_its_commit_and_in_its_own_after() {
    let home = Home::new().await;
    let data = bytes(50_000);
    let staged = staged(&home, &data).await;
    assert_eq!(home.files(), ["staging/upload/data", "staging/upload/data.obao"]);
    let key = home.blobs.commit(&staged, 7).await.unwrap();
    let hex = hex::encode(staged.blob.sha256.0);
    let path = format!("blobs/{}/{}/{hex}.7", &hex[..2], &hex[2..4]);
    assert_eq!(home.files(), [path.clone(), format!("{path}.obao")]);
    assert_eq!(key.to_string().parse::<BlobKey>().unwrap(), key);
    let reader = home.blobs.read(staged.blob, 7).await.unwrap();
    assert_eq!(drain(reader.range(0..50_000).unwrap()).await.0, data);
}

#[tokio::test]
async fn removing_a_generation_never_hits_another() {
    let home = Home::new().await;
    let data = bytes(20_000);
    let (mut keys, mut blob) = (Vec::new(), None);
    for generation in [1, 2] {
        let staged = staged(&home, &data).await;
        keys.push(home.blobs.commit(&staged, generation).await.unwrap());
        blob = Some(staged.blob);
    }
    let blob = blob.unwrap();
    assert_eq!(home.blobs.list(blob.sha256.0[0]).await.unwrap(), keys);
    assert!(home.blobs.remove(keys[0]).await.unwrap());
    assert!(!home.blobs.remove(keys[0]).await.unwrap());
    assert!(matches!(home.blobs.read(blob, 1).await, Err(ReadError::Missing { blob }) if blob == keys[0]));
    home.blobs.read(blob, 2).await.unwrap().verify().await.unwrap();
    assert_eq!(home.blobs.list(blob.sha256.0[0]).await.unwrap(), keys[1..]);
}

#[tokio::test]
async fn an_open_reader_outlives_the_removal() {
    let home = Home::new().await;
    let data = bytes(600_000);
    let blob = home.store(&data).await;
    let reader = home.blobs.read(blob, 1).await.unwrap();
    home.blobs.remove(BlobKey { sha256: blob.sha256, generation: 1 }).await.unwrap();
    assert_eq!(drain(reader.range(0..600_000).unwrap()).await.0, data);
}

#[tokio::test]
async fn quarantine_takes_a_blob_out_of_reach_and_keeps_it() {
    let home = Home::new().await;
    let blob = home.store(&bytes(40_000)).await;
    let key = BlobKey { sha256: blob.sha256, generation: 1 };
    assert!(home.blobs.quarantine(key).await.unwrap());
    assert!(!home.blobs.quarantine(key).await.unwrap());
    assert!(matches!(home.blobs.read(blob, 1).await, Err(ReadError::Missing { .. })));
    assert!(home.blobs.list(blob.sha256.0[0]).await.unwrap().is_empty());
    assert_eq!(home.blobs.list_quarantined().await.unwrap(), [key]);
    assert!(home.blobs.remove_quarantined(key).await.unwrap());
    assert!(home.files().is_empty());
}

#[tokio::test]
async fn a_missing_directory_is_made_again_at_start_and_while_running() {
    let home = Home::new().await;
    let open = || Blobs::open(home.dir.path().join("blobs"), home.dir.path().join("staging"));
    assert!(home.blobs.was_empty());
    assert!(open().await.unwrap().was_empty(), "a start that a crash cut off is found out by the next");
    home.store(&bytes(30_000)).await;
    assert!(!open().await.unwrap().was_empty());
    fs::remove_dir_all(home.dir.path().join("blobs")).unwrap();
    let blob = home.store(&bytes(30_000)).await;
    home.blobs.read(blob, 1).await.unwrap().verify().await.unwrap();
}

#[tokio::test]
async fn what_is_no_longer_staged_cannot_be_committed() {
    let home = Home::new().await;
    let staged = staged(&home, b"short").await;
    home.stage("upload").await.remove().await.unwrap();
    assert!(matches!(home.blobs.commit(&staged, 1).await, Err(CommitError::NotStaged { .. })));
    assert!(home.files().is_empty());
}

#[tokio::test]
async fn staging_is_listed_and_removed_as_a_whole() {
    let home = Home::new().await;
    staged(&home, &bytes(100)).await;
    home.stage("tx-1").await;
    let mut names = Vec::new();
    for entry in home.blobs.list_staging().await.unwrap() {
        names.push(entry.dir.name().to_string());
        entry.dir.clone().remove().await.unwrap();
        entry.dir.remove().await.unwrap();
    }
    names.sort();
    assert_eq!(names, ["tx-1", "upload"]);
    assert!(home.files().is_empty() && home.blobs.list_staging().await.unwrap().is_empty());
}

#[test]
fn no_name_leaves_its_directory() {
    for bad in ["", ".", "..", "a/b", "A", "a.b", "a b", "\0", &"x".repeat(81)] {
        assert!(bad.parse::<StageName>().is_err(), "{bad:?}");
    }
    assert!("x".repeat(80).parse::<StageName>().is_ok());
}

#[test]
fn one_key_has_one_name() {
    let hex = "ab".repeat(32);
    for bad in
        [&hex, &format!("{hex}.+1"), &format!("{hex}.01"), &format!("sha256:{hex}.1"), "x.1", &format!("{hex}.x")]
    {
        assert!(bad.parse::<BlobKey>().is_err(), "{bad}");
    }
    assert_eq!(format!("{hex}.1").parse::<BlobKey>().unwrap().generation, 1);
}

#[tokio::test]
async fn a_file_in_the_place_of_a_directory_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("blobs");
    fs::write(&path, "not a directory").unwrap();
    let refused = Blobs::open(path.clone(), dir.path().join("staging")).await.unwrap_err();
    assert!(matches!(&refused, OpenError::Disk(DiskError { path: at, .. }) if *at == path), "{refused}");
}

#[tokio::test]
async fn staging_on_another_file_system_is_refused() {
    // /dev/shm is a file system of its own wherever there is one.
    let (dir, shm) = (tempfile::tempdir().unwrap(), std::path::Path::new("/dev/shm"));
    let Ok(other) = tempfile::tempdir_in(shm) else { return };
    let device = |dir: &tempfile::TempDir| std::os::unix::fs::MetadataExt::dev(&fs::metadata(dir).unwrap());
    if device(&dir) == device(&other) {
        return;
    }
    let refused = Blobs::open(dir.path().join("blobs"), other.path().join("staging")).await;
    assert!(matches!(refused, Err(OpenError::DifferentFileSystems { .. })));
}

#[test]
fn free_space_is_told_and_a_missing_directory_named() {
    let dir = tempfile::tempdir().unwrap();
    assert!(free_space(dir.path()).unwrap() > 0);
    assert!(free_space(&dir.path().join("missing")).unwrap_err().to_string().contains("missing"));
}
