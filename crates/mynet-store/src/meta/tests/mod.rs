//! What the metadata store promises, one test per rule. The helpers here make groups without real signatures: the store
//! verifies none.

mod access;
mod blobs;
mod deleting;
mod doctor;
mod full;
mod groups;
mod log;
mod receipts;
mod schema;
mod transactions;
mod versions;

use mynet_types::{
    BlobRef, BoundedVec, ContentHash, ContentId, ContentState, ContentType, DecryptedClass, Details, GroupId, Link,
    Manifest, ManifestHash, Member, NodeId, OwnerKey, Protection, RelationshipKind, Signature, Signed, SignedManifest,
    SignedReceipt, SignedWrap, StatesMask, StorageReceipt, Timestamp, TxId, WrapKey, WrapRecord,
    manifest::{Aead, MANIFEST_FORMAT},
    wire::SealedBytes,
};
use tempfile::TempDir;

use super::{Granted, GroupRows, Meta, MetaWrite, NewGroup, StoredBlob};

const ME: NodeId = NodeId([1; 32]);
const NOW: Timestamp = Timestamp(1_700_000_000_000);
const FULL: StatesMask =
    StatesMask::EMPTY.with(ContentState::Encrypted).with(ContentState::Decrypted).with(ContentState::Preview);
const UNREAD: StatesMask = FULL.without(ContentState::Decrypted);

struct Store {
    dir: TempDir,
    meta: Meta,
}

impl Store {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let meta = Meta::open(&dir.path().join("mynet.db"), ME).await.unwrap();
        Self { dir, meta }
    }

    async fn restart(self) -> Self {
        self.meta.close().await.unwrap();
        let meta = Meta::open(&self.dir.path().join("mynet.db"), ME).await.unwrap();
        Self { dir: self.dir, meta }
    }

    async fn write(&self, write: MetaWrite) {
        self.meta.batch(vec![write], NOW).await.unwrap();
    }
}

fn signed<T>(body: T) -> Signed<T> {
    Signed { body, signature: Signature([7; 64]) }
}

fn content_id(seed: u64, member: u64) -> ContentId {
    ContentId((u128::from(seed) << 64 | u128::from(member)).to_be_bytes())
}

fn bytes_of(what: &str, seed: u64) -> BlobRef {
    BlobRef::of(format!("{what} {seed}").as_bytes())
}

fn details() -> Details {
    Details {
        content_type: ContentType::Audio,
        mime: "audio/flac".try_into().unwrap(),
        filename: "song.flac".try_into().unwrap(),
        tags: BoundedVec::truncated(["rock".try_into().unwrap()]),
    }
}

/// A sealed group of three states, W = 2, R = 3. Different seeds share nothing.
fn manifest(seed: u64) -> SignedManifest {
    let [encrypted, decrypted, preview] = [0, 1, 2].map(|member| content_id(seed, member));
    let member = |content_id, state, blob: Option<BlobRef>| Member { content_id, state, blob, mime: None };
    let mut manifest = Manifest {
        format: MANIFEST_FORMAT,
        group_id: GroupId([0; 32]),
        version: 1,
        prev: None,
        owner: OwnerKey([5; 32]),
        created_at: Timestamp(NOW.0 - 1_000_000 + seed),
        placement_seed: [6; 32],
        replicas: 3,
        quorum: 2,
        members: BoundedVec::truncated([
            member(encrypted, ContentState::Encrypted, Some(bytes_of("encrypted", seed))),
            member(decrypted, ContentState::Decrypted, None),
            member(preview, ContentState::Preview, Some(bytes_of("preview", seed))),
        ]),
        links: BoundedVec::truncated([
            Link { parent: encrypted, child: decrypted, kind: RelationshipKind::Decrypted },
            Link { parent: encrypted, child: preview, kind: RelationshipKind::Preview },
        ]),
        class: DecryptedClass::Granted,
        protection: Protection::Sealed {
            key_version: 1,
            algorithm: Aead::ChaCha20Poly1305,
            salt: [0; 16],
            key_commitment: [0; 32],
            decrypted_commitment: [0; 32],
            sealed_hash: [0; 32],
        },
    };
    manifest.group_id = manifest.derive_group_id();
    signed(manifest)
}

fn granted(seed: u64) -> Granted {
    Granted { details: details(), plain: bytes_of("plain", seed), wrapped_key: vec![8; 48] }
}

fn stored(seed: u64, generation: u64) -> Vec<StoredBlob> {
    manifest(seed).body.blobs().map(|(_, blob)| StoredBlob { blob, generation }).collect()
}

fn rows(seed: u64, held: StatesMask) -> GroupRows {
    GroupRows {
        manifest: manifest(seed),
        sealed: SealedBytes::truncated([1, 2, 3]),
        wraps: vec![wrap(seed, ME)],
        held,
        placement_slot: 77,
        granted: held.contains(ContentState::Decrypted).then(|| granted(seed)),
    }
}

fn upload(seed: u64) -> NewGroup {
    NewGroup { rows: rows(seed, FULL), blobs: stored(seed, 1), publish: None, user: Some("alice".to_owned()) }
}

fn wrap(seed: u64, recipient: NodeId) -> SignedWrap {
    let Manifest { group_id, version, owner, .. } = manifest(seed).body;
    let recipient_key = WrapKey([2; 32]);
    signed(WrapRecord { group_id, version, recipient, recipient_key, enc: [3; 32], ciphertext: [4; 48], owner })
}

fn receipt(manifest_hash: ManifestHash, holder: NodeId, until: Timestamp) -> SignedReceipt {
    signed(StorageReceipt { manifest_hash, states: UNREAD, holder, until })
}

fn group_id(seed: u64) -> GroupId {
    manifest(seed).body.group_id
}

fn hash_of(seed: u64) -> ManifestHash {
    manifest(seed).body.hash()
}

fn later(millis: u64) -> Timestamp {
    Timestamp(NOW.0 + millis)
}

fn tx(n: u8) -> TxId {
    TxId([n; 32])
}

/// The writes that take a group from nothing to committed on a participant.
fn replicate(n: u8, seed: u64, held: StatesMask) -> Vec<MetaWrite> {
    let (tx, attempt) = (tx(n), 1);
    let receipt = receipt(hash_of(seed), ME, later(1000));
    vec![
        MetaWrite::Intent { tx, attempt, group_id: group_id(seed), reserved_bytes: 100, state: vec![9] },
        MetaWrite::Prepared { tx, attempt, states: held, blobs: stored(seed, 1) },
        MetaWrite::Commit { tx, attempt, rows: Box::new(rows(seed, held)), receipt },
    ]
}

fn encrypted_hash(seed: u64) -> ContentHash {
    bytes_of("encrypted", seed).sha256
}
