//! A node's secrets, and content keys wrapped for those who may read.
//!
//! ```text
//! node.key  --- Ed25519: who the node is (TLS, receipts)
//!     `- HKDF("mynet/x25519/1") -> X25519: what others wrap content keys to   (wrap.rs)
//! owner.key --- Ed25519: signs manifests, wraps and tombstones; part of every backup
//! kek.key   --- 32 bytes: content keys of this node rest under it in `encryption_keys`   (kek.rs)
//! ```
//!
//! Separate keys for separate powers: a leaked KEK opens a database, not the identity; a leaked node key signs receipts,
//! not manifests. The X25519 key is derived and not converted from the Ed25519 key, so that signing and decrypting never
//! share a secret scalar.
//!
//! Invariants:
//! 1. A secret is on disk only in a file that nobody else can read; looser permissions are an error, not a warning.
//! 2. A key file is never overwritten.
//! 3. A wrap is used only if the group's owner signed it and the opened key matches the manifest's commitment.
//!
//! Sources: RFC 9180 (HPKE; the specification's "ECIES"), RFC 8032, draft-irtf-cfrg-xchacha.
//! Deliberately absent: passphrases. A node must start without an operator; whoever wants the files encrypted puts the data
//! directory on an encrypted file system.

mod files;
mod kek;
mod wrap;

pub use files::{KeyFileError, KeyFiles, KeyKind};
pub use kek::{Kek, KekContext, KekError, KekId, WrappedKey};
pub use wrap::{UnwrapError, WrapError, WrapSecret, WrapTarget, unwrap_key, wrap_key};
