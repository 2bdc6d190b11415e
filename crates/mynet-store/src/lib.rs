//! What a node keeps: content encryption, keys, blobs on a local directory, metadata and votes in databases.
//!
//! Everything here is about bytes and rows at rest; what they mean for a group, who gets them and when, is decided in the
//! cores. A full disk is told from a broken one by [`is_disk_full`].
//!
//! Reading order: [`cipher`] (how content is encrypted), [`keys`] (who can open it), [`blobs`] (how bytes get to disk, and
//! how only verified bytes leave it), [`meta`] (what is known about groups and members), [`votes`] (what was signed).
//!
//! Invariants, each with its tests where it is kept:
//! 1. A row names only files that are complete and on stable storage.
//! 2. No byte leaves a blob before its 16 KiB group was verified against the BLAKE3 root of the caller's row.
//! 3. Plaintext of sealed content is never written.
//! 4. A secret is never printed: `Debug` of every key type is redacted, and keys are zeroed when dropped.

pub mod blobs;
pub mod cipher;
#[cfg(any(test, feature = "failpoints"))]
pub mod failpoint;
mod full;
pub mod keys;
pub mod meta;
pub mod votes;

pub use full::is_disk_full;
