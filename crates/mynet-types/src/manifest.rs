//! The manifest: what a group is, signed by its owner.
//!
//! The public part names only what strangers may know: hashes and sizes of the encrypted and the preview state, and
//! commitments to the rest. Plaintext hash, file name, tags and type are in the [`SealedPart`], encrypted under a key
//! derived from the content key, so that an index, an announcement or a receipt can never leak them.
//!
//! The owner signs an [`OwnerStatement`], which names the manifest by its hash. So what an owner signed about a version can be
//! kept and shown without the manifest, and two signatures for one version are proof against it in 264 bytes.
//!
//! **Invariant:** a group id is the hash of the first manifest, so two owners can never claim one group.

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

use crate::{
    BlobRef, BoundedString, BoundedVec, ContentHash, ContentId, ContentState, ContentType, Domain, GroupId,
    ManifestHash, OwnerKey, RelationshipKind, Signable, Signed, SignedBy, StatesMask, Timestamp, codec,
};

/// Version of the manifest encoding; a decoder refuses others.
pub const MANIFEST_FORMAT: u16 = 1;
/// Members of one group at most. Doubling it doubles what every prepare carries.
pub const MEMBERS_MAX: usize = 32;
/// Links of one group at most: each member has one parent, and every pair may be linked in one more way.
pub const LINKS_MAX: usize = 64;
/// Encoded size of a signed manifest at most; the bounds of its fields keep it far below.
pub const MANIFEST_BYTES_MAX: usize = 64 * 1024;
/// Encoded and encrypted size of a sealed part at most.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;
/// Tags of one group at most.
pub const TAGS_MAX: usize = 32;

/// Who may read the decrypted state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum DecryptedClass {
    /// Nobody but the owner.
    None,
    /// Nodes and users that hold a wrapped key.
    Granted,
    /// Everybody: the content is not encrypted.
    Public,
}

/// The cipher of the encrypted state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Aead {
    /// ChaCha20-Poly1305 (RFC 8439), the default.
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D), for machines with AES instructions.
    Aes256Gcm,
}

/// One state of a group.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Member {
    /// The row's id on every node.
    pub content_id: ContentId,
    /// Which state this is.
    pub state: ContentState,
    /// Its bytes; `None` for a state that is a view of another one and whose hash must stay secret.
    pub blob: Option<BlobRef>,
    /// Its media type; `None` where it must stay secret.
    pub mime: Option<BoundedString<127>>,
}

/// One row of `content_relationships`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Link {
    /// The row the child came from.
    pub parent: ContentId,
    /// The row that came from it.
    pub child: ContentId,
    /// How.
    pub kind: RelationshipKind,
}

/// What users call the content.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Details {
    /// Audio, video, image or document.
    pub content_type: ContentType,
    /// Media type of the plaintext, such as `audio/flac`.
    pub mime: BoundedString<127>,
    /// Name of the uploaded file, without directories.
    pub filename: BoundedString<255>,
    /// The uploader's tags.
    pub tags: BoundedVec<BoundedString<64>, TAGS_MAX>,
}

/// What only readers of the content may know; travels encrypted.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SealedPart {
    /// What users call the content.
    pub details: Details,
    /// The plaintext.
    pub plain: BlobRef,
    /// Opens [`Protection::Sealed::decrypted_commitment`]; random, so the commitment confirms no guess.
    pub commitment_salt: [u8; 32],
}

/// How the plaintext is protected.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Protection {
    /// Encrypted under a content key that only wraps carry.
    Sealed {
        /// The version whose content key this is: wraps, file key and sealed part are bound to it. A later version that
        /// leaves the encrypted state as it is keeps the key too, so that nothing is encrypted, sent or granted again.
        key_version: u64,
        /// Cipher of the encrypted state and of the sealed part.
        algorithm: Aead,
        /// Random salt of the key derivation.
        salt: [u8; 16],
        /// HKDF(content key, "commit"): AEADs do not commit to their key, this does.
        key_commitment: [u8; 32],
        /// [`decrypted_commitment`] of the plaintext hash.
        decrypted_commitment: [u8; 32],
        /// SHA-256 of the encrypted sealed part.
        sealed_hash: [u8; 32],
    },
    /// Public content: one plain state.
    Open {
        /// What users call the content.
        details: Details,
    },
}

/// The public part of a manifest.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Manifest {
    /// [`MANIFEST_FORMAT`]; decoding refuses others.
    #[borsh(deserialize_with = "codec::read_format::<_, MANIFEST_FORMAT>")]
    pub format: u16,
    /// The group; [`Manifest::derive_group_id`] of version 1.
    pub group_id: GroupId,
    /// 1 and up.
    pub version: u64,
    /// The manifest that this one replaces; `None` exactly for version 1.
    pub prev: Option<ManifestHash>,
    /// Who owns the group and signs this.
    pub owner: OwnerKey,
    /// When the owner made this version.
    pub created_at: Timestamp,
    /// Random; decides which nodes hold the group, and is kept over versions so that the group stays in place.
    pub placement_seed: [u8; 32],
    /// R: copies wanted at upload.
    pub replicas: u8,
    /// W: receipts that make it durable at upload.
    pub quorum: u8,
    /// The states, encrypted first.
    pub members: BoundedVec<Member, MEMBERS_MAX>,
    /// Their links.
    pub links: BoundedVec<Link, LINKS_MAX>,
    /// Who may read the decrypted state.
    pub class: DecryptedClass,
    /// How it is protected.
    pub protection: Protection,
}

/// A manifest with its owner's signature.
pub type SignedManifest = Signed<Manifest>;

impl Signable for Manifest {
    const DOMAIN: Domain = Domain::Manifest;

    fn signed_hash(&self) -> [u8; 32] {
        codec::digest(&self.statement())
    }
}

impl SignedBy for Manifest {
    fn signer(&self) -> &[u8; 32] {
        &self.owner.0
    }
}

/// What an owner's signature says of a manifest. The signature of a [`SignedManifest`] is one of this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OwnerStatement {
    /// The group.
    pub group_id: GroupId,
    /// The version.
    pub version: u64,
    /// The manifest that is this version of the group.
    pub manifest_hash: ManifestHash,
    /// Who says so, and signs this.
    pub owner: OwnerKey,
}

/// What an owner says of a manifest, with its signature: a [`SignedManifest`] without the manifest.
pub type SignedOwnerStatement = Signed<OwnerStatement>;

impl Signable for OwnerStatement {
    const DOMAIN: Domain = Domain::Manifest;
}

impl SignedBy for OwnerStatement {
    fn signer(&self) -> &[u8; 32] {
        &self.owner.0
    }
}

impl SignedManifest {
    /// What its owner signed, without the manifest.
    #[must_use]
    pub fn statement(&self) -> SignedOwnerStatement {
        Signed { body: self.body.statement(), signature: self.signature }
    }
}

impl Manifest {
    /// What its owner says by signing it.
    #[must_use]
    pub fn statement(&self) -> OwnerStatement {
        let Self { group_id, version, owner, .. } = *self;
        OwnerStatement { group_id, version, manifest_hash: self.hash(), owner }
    }

    /// SHA-256 of the encoding: what validators certify and receipts name.
    #[must_use]
    pub fn hash(&self) -> ManifestHash {
        ManifestHash(codec::digest(self))
    }

    /// The group id that a first version must carry: the hash of itself without one.
    #[must_use]
    pub fn derive_group_id(&self) -> GroupId {
        let nameless = Self { group_id: GroupId([0; 32]), ..self.clone() };
        let mut hasher = Sha256::new();
        hasher.update(b"mynet/group/1\0");
        hasher.update(codec::encode(&nameless));
        GroupId(hasher.finalize().into())
    }

    /// The version that wraps and keys of this one are bound to; its own for public content, which has none.
    #[must_use]
    pub fn key_version(&self) -> u64 {
        match self.protection {
            Protection::Sealed { key_version, .. } => key_version,
            Protection::Open { .. } => self.version,
        }
    }

    /// The first member in `state`.
    #[must_use]
    pub fn member(&self, state: ContentState) -> Option<&Member> {
        self.members.iter().find(|member| member.state == state)
    }

    /// All states that the group has.
    #[must_use]
    pub fn states(&self) -> StatesMask {
        self.members.iter().map(|member| member.state).collect()
    }

    /// The bytes that holders store, without views.
    pub fn blobs(&self) -> impl Iterator<Item = (&Member, BlobRef)> {
        self.members.iter().filter_map(|member| member.blob.map(|blob| (member, blob)))
    }

    /// Bytes that a full holder stores.
    #[must_use]
    pub fn stored_bytes(&self) -> u64 {
        self.blobs().map(|(_, blob)| blob.size).fold(0, u64::saturating_add)
    }

    /// The states that a node may hold: all but the decrypted one, and that too if the content is public or the node
    /// is granted.
    #[must_use]
    pub fn allowed(&self, granted: bool) -> StatesMask {
        match self.class {
            DecryptedClass::Public => self.states(),
            DecryptedClass::Granted if granted => self.states(),
            DecryptedClass::Granted | DecryptedClass::None => self.states().without(ContentState::Decrypted),
        }
    }
}

/// Commits to a plaintext hash without telling it.
#[must_use]
pub fn decrypted_commitment(salt: &[u8; 32], plain: &ContentHash) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(b"mynet/decrypted/1\0");
    hasher.update(salt);
    hasher.update(plain.0);
    hasher.finalize().into()
}
