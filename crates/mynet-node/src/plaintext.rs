//! Whether plaintext is what its owner named it.
//!
//! Decryption proves that the owner sealed these bytes, not that they have the hash in the sealed part: whoever made both may
//! have lied, and readers would get other bytes under a name. Whoever hashed the whole plaintext once knows. This node has if
//! it holds the decrypted state; others say so in receipts that name it. Where neither is so, the whole is hashed before the
//! first read of it.

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use mynet_store::blobs::VerifiedStream;
use mynet_types::{Blake3Root, BlobRef, ContentHash, ContentState, ManifestHash};
use sha2::{Digest, Sha256};

use crate::{find::Found, shell::Shell, spool::Turns};

/// Manifests remembered at most; then all are forgotten, and hashed again when they are read.
const REMEMBERED_MAX: usize = 16_384;

/// Manifests whose plaintext this node has hashed for a reader since it started.
#[derive(Debug, Default)]
pub(crate) struct Hashed {
    known: Mutex<BTreeSet<ManifestHash>>,
    /// Readers of parts of one film wait for one hashing of it.
    pub(crate) turns: Turns,
}

impl Hashed {
    fn known(&self) -> MutexGuard<'_, BTreeSet<ManifestHash>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the plaintext of a manifest was hashed here and is right.
    pub(crate) fn contains(&self, manifest: &ManifestHash) -> bool {
        self.known().contains(manifest)
    }

    /// Notes that the plaintext of a manifest is right.
    pub(crate) fn note(&self, manifest: ManifestHash) {
        let mut known = self.known();
        if known.len() >= REMEMBERED_MAX {
            known.clear();
        }
        known.insert(manifest);
    }
}

impl Shell {
    /// Whether somebody who is believed has hashed the plaintext of a sealed group.
    pub(crate) fn is_plaintext_known(&self, found: &Found) -> bool {
        let held = found.local.as_ref().is_some_and(|group| group.held.contains(ContentState::Decrypted));
        held || found.backing.readers() >= self.copies_to_believe(&found.manifest)
            || self.hashed.contains(&found.manifest.hash())
    }
}

/// Names of all that `stream` yields.
///
/// # Errors
/// As the stream.
pub(crate) async fn hash_of<S: VerifiedStream>(stream: &mut S) -> Result<BlobRef, S::Error> {
    let (mut sha256, mut blake3, mut size) = (Sha256::new(), blake3::Hasher::new(), 0);
    while let Some(bytes) = stream.next().await? {
        size += bytes.len() as u64;
        // Hashing 256 KiB takes about a tenth of a millisecond: not worth a hop to another thread.
        sha256.update(&bytes);
        blake3.update(&bytes);
    }
    let sha256 = ContentHash(sha256.finalize().into());
    Ok(BlobRef { sha256, blake3: Blake3Root(*blake3.finalize().as_bytes()), size })
}
