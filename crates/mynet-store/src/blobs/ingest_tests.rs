//! Rules of the one pass.

use std::{fs, path::Path};

use mynet_types::{BlobRef, manifest::Aead};
use proptest::prelude::{ProptestConfig, proptest};

use super::{Ingest, IngestError, Pass, StagedFiles, discard};
use crate::{
    blobs::testing::{BORDERS, Home, bytes, file_cipher, name},
    cipher::{CHUNK_BYTES, PLAIN_BYTES_MAX, cipher_len},
};

fn sealed(data: &[u8], algorithm: Aead) -> Vec<u8> {
    let (cipher, mut out) = (file_cipher(algorithm), Vec::new());
    let chunks: Vec<&[u8]> = if data.is_empty() { vec![b""] } else { data.chunks(CHUNK_BYTES).collect() };
    for (index, chunk) in chunks.iter().enumerate() {
        cipher.seal_chunk(index as u64, index + 1 == chunks.len(), chunk, &mut out).unwrap();
    }
    out
}

/// Ingests in writes of `step` bytes; the names of both forms and the bytes on disk.
async fn ingest(home: &Home, data: &[u8], step: usize, algorithm: Option<Aead>) -> (BlobRef, BlobRef, Vec<u8>) {
    let staging = home.stage("upload").await;
    let size = Some(data.len() as u64);
    let mut ingest = match algorithm {
        Some(algorithm) => Ingest::sealed(&staging, &name("data"), file_cipher(algorithm), size).await.unwrap(),
        None => Ingest::plain(&staging, &name("data"), size).await.unwrap(),
    };
    for part in data.chunks(step) {
        ingest.write(part).await.unwrap();
    }
    let done = ingest.finish().await.unwrap();
    let on_disk = fs::read(&done.staged.data).unwrap();
    assert_eq!(done.staged.outboard.is_some(), on_disk.len() > super::GROUP_BYTES);
    staging.remove().await.unwrap();
    (done.plain, done.staged.blob, on_disk)
}

#[tokio::test]
async fn one_pass_gives_both_hashes_of_both_forms() {
    let home = Home::new().await;
    for len in BORDERS {
        let data = bytes(len);
        let want = sealed(&data, Aead::ChaCha20Poly1305);
        for step in [len.max(1), 9_999] {
            let (plain, stored, on_disk) = ingest(&home, &data, step, Some(Aead::ChaCha20Poly1305)).await;
            assert_eq!(plain, BlobRef::of(&data), "{len} bytes by {step}");
            assert_eq!(stored, BlobRef::of(&want), "{len} bytes by {step}");
            assert_eq!(on_disk, want);
        }
        let (plain, stored, on_disk) = ingest(&home, &data, 9_999, None).await;
        assert_eq!((plain, stored), (BlobRef::of(&data), BlobRef::of(&data)));
        assert_eq!(on_disk, data);
    }
}

#[tokio::test]
async fn plaintext_of_sealed_content_is_on_no_disk() {
    let home = Home::new().await;
    let staging = home.stage("upload").await;
    let data = vec![b'P'; 3 * 1024 * 1024];
    let mut ingest = Ingest::sealed(&staging, &name("data"), file_cipher(Aead::Aes256Gcm), None).await.unwrap();
    ingest.write(&data).await.unwrap();
    ingest.finish().await.unwrap();
    for file in home.files() {
        let on_disk = fs::read(home.dir.path().join(&file)).unwrap();
        assert!(!on_disk.windows(16).any(|window| window == [b'P'; 16]), "{file}");
    }
}

#[tokio::test]
async fn an_upload_that_cannot_fit_fails_before_its_first_byte() {
    let home = Home::new().await;
    let staging = home.stage("upload").await;
    let size = PLAIN_BYTES_MAX / 2;
    let cipher = file_cipher(Aead::Aes256Gcm);
    let refused = Ingest::sealed(&staging, &name("data"), cipher, Some(size)).await.unwrap_err();
    let IngestError::NoSpace { needed: Some(needed), free } = refused else { panic!("{refused}") };
    assert!(needed > cipher_len(size).unwrap() && free < needed);
    let refused = Ingest::plain(&staging, &name("data"), Some(PLAIN_BYTES_MAX + 1)).await;
    assert!(matches!(refused, Err(IngestError::TooLong)));
    assert!(home.files().is_empty());
}

#[test]
fn a_full_disk_says_so_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (data_path, outboard_path) = (dir.path().join("data"), dir.path().join("data.obao"));
    for path in [&data_path, &outboard_path] {
        fs::write(path, "").unwrap();
    }
    // Every write to /dev/full fails with ENOSPC.
    let full = || fs::OpenOptions::new().write(true).open(Path::new("/dev/full")).unwrap();
    let files = StagedFiles { data: full(), data_path, outboard: full(), outboard_path };
    let mut pass = Pass::new(Some(file_cipher(Aead::ChaCha20Poly1305)), files, None);
    let refused = pass.take_in(&bytes(CHUNK_BYTES + 1)).unwrap_err();
    assert!(matches!(refused, IngestError::NoSpace { needed: None, free } if free > 0), "{refused}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upload_that_failed_accepts_nothing_more() {
    let home = Home::new().await;
    let staging = home.stage("upload").await;
    let mut ingest = Ingest::plain(&staging, &name("data"), None).await.unwrap();
    ingest.failed = true;
    assert!(matches!(ingest.write(b"more").await, Err(IngestError::Failed)));
    assert!(matches!(ingest.finish().await, Err(IngestError::Failed)));
}

#[tokio::test]
async fn a_label_is_used_once() {
    let home = Home::new().await;
    let staging = home.stage("upload").await;
    let mut first = Ingest::plain(&staging, &name("data"), None).await.unwrap();
    assert!(matches!(Ingest::plain(&staging, &name("data"), None).await, Err(IngestError::Disk(_))));
    first.write(b"kept").await.unwrap();
    let staged = first.finish().await.unwrap().staged;
    assert_eq!(fs::read(&staged.data).unwrap(), b"kept");
    discard(&staged.data, &staged.data);
}

#[test]
fn a_write_that_is_dropped_loses_and_repeats_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let home = Home::new().await;
        let staging = home.stage("upload").await;
        let data = bytes(5 * 1024 * 1024);
        let mut ingest = Ingest::plain(&staging, &name("data"), None).await.unwrap();
        // The only thread of the pool is held: a batch that was handed to it is not done when the next one comes.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holder = tokio::task::spawn_blocking(move || held.recv().is_err());
        let (mut release, mut dropped) = (Some(release), 0);
        for part in data.chunks(1024 * 1024) {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let polled = Box::pin(ingest.write(part)).as_mut().poll(&mut context);
            match polled {
                std::task::Poll::Ready(written) => written.unwrap(),
                std::task::Poll::Pending => {
                    dropped += 1;
                    drop(release.take());
                    ingest.write(part).await.unwrap();
                }
            }
        }
        assert!(holder.await.unwrap());
        assert!(dropped > 0, "no write waited");
        assert_eq!(ingest.finish().await.unwrap().plain, BlobRef::of(&data));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn any_size_in_any_steps_gives_the_same_blob(
        len in 0_usize..1_500_000, step in 1_usize..300_000, border in 0_usize..BORDERS.len(), at_border: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let home = Home::new().await;
            let data = bytes(if at_border { BORDERS[border] } else { len });
            let (plain, stored, _) = ingest(&home, &data, step, Some(Aead::ChaCha20Poly1305)).await;
            assert_eq!(plain, BlobRef::of(&data));
            assert_eq!(stored, BlobRef::of(&sealed(&data, Aead::ChaCha20Poly1305)));
        });
    }
}
