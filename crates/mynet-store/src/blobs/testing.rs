//! Helpers of the tests of blobs.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use mynet_types::{BlobRef, ContentId, ContentState, manifest::Aead};

use super::{BlobKey, BlobRange, Blobs, GROUP_BYTES, Ingest, ReadError, StageName, StagingDir, paths::outboard_of};
use crate::cipher::{ContentKey, FileCipher, FileParams};

/// Sizes around every border: chunk of BLAKE3, group, chunk of the cipher, batch.
pub(super) const BORDERS: [usize; 17] = [
    0,
    1,
    1023,
    1024,
    1025,
    GROUP_BYTES - 1,
    GROUP_BYTES,
    GROUP_BYTES + 1,
    2 * GROUP_BYTES,
    3 * GROUP_BYTES + 7,
    65_535,
    65_536,
    65_537,
    262_144,
    262_145,
    1_000_000,
    1_048_576,
];

/// Bytes that no two groups share.
pub(super) fn bytes(len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new().update(&(len as u64).to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A store in a directory of its own.
pub(super) struct Home {
    pub(super) dir: tempfile::TempDir,
    pub(super) blobs: Blobs,
}

impl Home {
    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(dir.path().join("blobs"), dir.path().join("staging")).await.unwrap();
        Self { dir, blobs }
    }

    pub(super) async fn stage(&self, text: &str) -> StagingDir {
        self.blobs.stage(name(text)).await.unwrap()
    }

    /// Stores bytes as they are, as generation 1.
    pub(super) async fn store(&self, bytes: &[u8]) -> BlobRef {
        let staging = self.stage("store").await;
        let mut ingest = Ingest::plain(&staging, &name("data"), None).await.unwrap();
        ingest.write(bytes).await.unwrap();
        let staged = ingest.finish().await.unwrap().staged;
        self.blobs.commit(&staged, 1).await.unwrap();
        staging.remove().await.unwrap();
        staged.blob
    }

    pub(super) fn path(&self, blob: &BlobRef) -> PathBuf {
        BlobKey { sha256: blob.sha256, generation: 1 }.path_in(self.blobs.dir())
    }

    pub(super) fn outboard_path(&self, blob: &BlobRef) -> PathBuf {
        outboard_of(&self.path(blob))
    }

    /// Every file below the store, relative to it, sorted.
    pub(super) fn files(&self) -> Vec<String> {
        fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { walk(&path, found) } else { found.push(path) }
            }
        }
        let mut found = Vec::new();
        walk(self.dir.path(), &mut found);
        let mut names: Vec<String> =
            found.iter().map(|path| path.strip_prefix(self.dir.path()).unwrap().display().to_string()).collect();
        names.sort();
        names
    }
}

pub(super) fn name(text: &str) -> StageName {
    text.parse().unwrap()
}

/// Flips one bit of a file.
pub(super) fn flip(path: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// All that a range yields, with where it stopped.
pub(super) async fn drain(mut range: BlobRange) -> (Vec<u8>, Result<(), ReadError>) {
    let mut out = Vec::new();
    loop {
        match range.next().await {
            Ok(Some(bytes)) => out.extend_from_slice(&bytes),
            Ok(None) => return (out, Ok(())),
            Err(error) => {
                assert!(range.next().await.is_err(), "a range that failed yields nothing any more");
                return (out, Err(error));
            }
        }
    }
}

pub(super) fn file_cipher(algorithm: Aead) -> FileCipher {
    let params = FileParams {
        algorithm,
        salt: [1; 16],
        version: 1,
        content_id: ContentId([2; 16]),
        state: ContentState::Encrypted,
    };
    FileCipher::new(&ContentKey::from_bytes([3; 32]), &params)
}
