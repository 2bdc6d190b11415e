//! Makes the manifest of an upload: ids and keys before the bytes are read, hashes and links after.

use ed25519_dalek::SigningKey;
use mynet_store::cipher::{ContentKey, FileCipher, FileParams, seal_sealed_part};
use mynet_types::{
    BlobRef, BoundedString, BoundedVec, ContentId, ContentState, DecryptedClass, Details, GroupId, Link, Manifest,
    Member, NetworkId, OwnerKey, Protection, RelationshipKind, SealedPart, Signed, SignedManifest, Timestamp,
    codec::TooMany,
    content::ContentType,
    manifest::{Aead, MANIFEST_FORMAT, decrypted_commitment},
    wire::SealedBytes,
};
use rand::Rng;
use sha2::{Digest, Sha256};

/// Version that an upload makes.
const FIRST_VERSION: u64 = 1;

/// Fresh secrets and ids of one upload.
pub(crate) struct Draft {
    /// Encrypts the content and its sealed part.
    pub(crate) key: ContentKey,
    salt: [u8; 16],
    algorithm: Aead,
    encrypted: ContentId,
    decrypted: ContentId,
    preview: ContentId,
}

/// What users say about an upload.
pub(crate) struct Description {
    pub(crate) content_type: ContentType,
    pub(crate) mime: String,
    pub(crate) filename: String,
    pub(crate) tags: Vec<String>,
}

/// The preview of an upload.
pub(crate) struct PreviewMember {
    pub(crate) blob: BlobRef,
    pub(crate) mime: String,
}

/// What the manifest says about copies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Copies {
    pub(crate) replicas: u8,
    pub(crate) quorum: u8,
}

/// A finished manifest with what belongs beside it.
pub(crate) struct Composed {
    pub(crate) manifest: SignedManifest,
    /// Empty for public content.
    pub(crate) sealed: SealedBytes,
}

/// Draws 32 random bytes from the operating system's generator.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// A new row id, ordered by time so that indexes grow at their end.
fn new_content_id() -> ContentId {
    uuid::Uuid::now_v7().into()
}

impl Draft {
    /// Draws fresh ids and keys.
    pub(crate) fn new() -> Self {
        Self {
            key: ContentKey::generate(),
            salt: random(),
            algorithm: Aead::ChaCha20Poly1305,
            encrypted: new_content_id(),
            decrypted: new_content_id(),
            preview: new_content_id(),
        }
    }

    /// The cipher of the encrypted state.
    pub(crate) fn cipher(&self) -> FileCipher {
        FileCipher::new(&self.key, &self.params())
    }

    /// What the file key of the encrypted state is bound to.
    pub(crate) fn params(&self) -> FileParams {
        FileParams {
            algorithm: self.algorithm,
            salt: self.salt,
            version: FIRST_VERSION,
            content_id: self.encrypted,
            state: ContentState::Encrypted,
        }
    }

    /// The manifest of private content.
    ///
    /// # Errors
    /// [`TooMany`] if a text or list is longer than a manifest may hold.
    pub(crate) fn seal(
        &self,
        (plain, cipher): (BlobRef, BlobRef),
        preview: Option<PreviewMember>,
        (description, copies): (&Description, Copies),
        (network, owner, now): (&NetworkId, &SigningKey, Timestamp),
    ) -> Result<Composed, ComposeError> {
        let details = description.details()?;
        let commitment_salt = random();
        let part = SealedPart { details, plain, commitment_salt };
        let sealed = seal_sealed_part(&part, &self.key, self.algorithm, &self.salt, FIRST_VERSION)?;
        let mut members = vec![
            Member { content_id: self.encrypted, state: ContentState::Encrypted, blob: Some(cipher), mime: None },
            Member { content_id: self.decrypted, state: ContentState::Decrypted, blob: None, mime: None },
        ];
        let mut links = vec![Link { parent: self.encrypted, child: self.decrypted, kind: RelationshipKind::Decrypted }];
        if let Some(preview) = preview {
            let mime = Some(BoundedString::try_from(preview.mime)?);
            let (content_id, state, blob) = (self.preview, ContentState::Preview, Some(preview.blob));
            members.push(Member { content_id, state, blob, mime });
            links.push(Link { parent: self.encrypted, child: self.preview, kind: RelationshipKind::Preview });
        }
        let protection = Protection::Sealed {
            key_version: FIRST_VERSION,
            algorithm: self.algorithm,
            salt: self.salt,
            key_commitment: self.key.commitment(),
            decrypted_commitment: decrypted_commitment(&commitment_salt, &plain.sha256),
            sealed_hash: Sha256::digest(&sealed).into(),
        };
        let body = (BoundedVec::try_from(members)?, BoundedVec::try_from(links)?);
        let manifest = first_version(body, (DecryptedClass::Granted, protection), copies, (network, owner, now));
        Ok(Composed { manifest, sealed: BoundedVec::try_from(sealed)? })
    }

    /// The manifest of public content: one plain state.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub(crate) fn open(
        &self,
        plain: BlobRef,
        (description, copies): (&Description, Copies),
        signer: (&NetworkId, &SigningKey, Timestamp),
    ) -> Result<Composed, ComposeError> {
        let details = description.details()?;
        let mime = Some(details.mime.clone());
        let member = Member { content_id: self.decrypted, state: ContentState::Decrypted, blob: Some(plain), mime };
        let body = (BoundedVec::truncated([member]), BoundedVec::new());
        let protection = Protection::Open { details };
        let manifest = first_version(body, (DecryptedClass::Public, protection), copies, signer);
        Ok(Composed { manifest, sealed: SealedBytes::new() })
    }
}

/// Why no manifest was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComposeError {
    /// A text or list is too long.
    #[error("a text or list of the description is too long: {0}")]
    TooMany(#[from] TooMany),
    /// The sealed part is too long.
    #[error(transparent)]
    Sealed(#[from] mynet_store::cipher::SealedError),
}

impl Description {
    /// The description as a manifest holds it.
    fn details(&self) -> Result<Details, TooMany> {
        let tags: Result<Vec<_>, TooMany> = self.tags.iter().map(|tag| BoundedString::try_from(tag.as_str())).collect();
        Ok(Details {
            content_type: self.content_type,
            mime: BoundedString::try_from(self.mime.as_str())?,
            filename: BoundedString::try_from(self.filename.as_str())?,
            tags: BoundedVec::try_from(tags?)?,
        })
    }
}

/// Members and links of a manifest.
type Body = (
    BoundedVec<Member, { mynet_types::manifest::MEMBERS_MAX }>,
    BoundedVec<Link, { mynet_types::manifest::LINKS_MAX }>,
);

/// Fills in what all first versions share, names the group and signs.
fn first_version(
    (members, links): Body,
    (class, protection): (DecryptedClass, Protection),
    copies: Copies,
    (network, owner, now): (&NetworkId, &SigningKey, Timestamp),
) -> SignedManifest {
    let nameless = Manifest {
        format: MANIFEST_FORMAT,
        group_id: GroupId([0; 32]),
        version: FIRST_VERSION,
        prev: None,
        owner: OwnerKey(owner.verifying_key().to_bytes()),
        created_at: now,
        placement_seed: random(),
        replicas: copies.replicas,
        quorum: copies.quorum,
        members,
        links,
        class,
        protection,
    };
    let manifest = Manifest { group_id: nameless.derive_group_id(), ..nameless };
    Signed::new(network, manifest, owner)
}
