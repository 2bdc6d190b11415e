//! Opening what this node may read: wraps, sealed parts, and the content key at rest.

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_store::{
    cipher::{ContentKey, FileCipher, FileParams, SealedError, open_sealed_part},
    keys::{KekContext, KekError, KekId, KeyFiles, UnwrapError, WrappedKey, unwrap_key},
    meta::Granted,
};
use mynet_types::{
    ContentState, DecodeError, Manifest, NetworkId, Protection, SealedPart, SignedWrap, codec,
    manifest::decrypted_commitment,
};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Encoded size of a wrapped key at most.
const WRAPPED_BYTES_MAX: usize = 256;

/// Why something that this node should be able to read does not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GrantError {
    /// No wrap for this node.
    #[error("no key of this group is wrapped to this node")]
    NotGranted,
    /// The wrap does not open.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// The sealed part is not the one of the manifest.
    #[error("the sealed part is not the one that the manifest names")]
    OtherSealedPart,
    /// The sealed part does not open.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The sealed part names another plaintext than the manifest commits to.
    #[error("the sealed part names another plaintext than the manifest commits to")]
    Commitment,
    /// The content key at rest does not open.
    #[error(transparent)]
    Kek(#[from] KekError),
    /// The content key at rest is unreadable.
    #[error("the content key at rest is unreadable: {0}")]
    AtRest(#[from] DecodeError),
}

/// A content key as it rests in `encryption_keys`.
#[derive(BorshSerialize, BorshDeserialize)]
struct AtRest {
    key_id: [u8; 16],
    kek_id: [u8; 8],
    nonce: [u8; 24],
    ciphertext: [u8; 48],
}

/// Wraps a content key under this node's KEK.
pub(crate) fn to_rest(keys: &KeyFiles, key: &ContentKey, manifest: &Manifest) -> Vec<u8> {
    let key_id = Uuid::new_v4();
    let context = KekContext { key_id, group_id: manifest.group_id, version: manifest.key_version() };
    let WrappedKey { kek_id, nonce, ciphertext } = keys.kek().wrap(key, &context);
    codec::encode(&AtRest { key_id: key_id.into_bytes(), kek_id: kek_id.0, nonce, ciphertext })
}

/// Undoes [`to_rest`].
pub(crate) fn from_rest(keys: &KeyFiles, bytes: &[u8], manifest: &Manifest) -> Result<ContentKey, GrantError> {
    let AtRest { key_id, kek_id, nonce, ciphertext } = codec::decode(bytes, WRAPPED_BYTES_MAX)?;
    let context =
        KekContext { key_id: Uuid::from_bytes(key_id), group_id: manifest.group_id, version: manifest.key_version() };
    Ok(keys.kek().unwrap(&WrappedKey { kek_id: KekId(kek_id), nonce, ciphertext }, &context)?)
}

/// Opens this node's wrap among `wraps`.
pub(crate) fn content_key(
    keys: &KeyFiles,
    network: &NetworkId,
    manifest: &Manifest,
    wraps: &[SignedWrap],
) -> Result<ContentKey, GrantError> {
    let me = keys.node_id();
    let newest = wraps.iter().filter(|wrap| wrap.body.recipient == me && wrap.body.version == manifest.key_version());
    let mut error = GrantError::NotGranted;
    for wrap in newest {
        match unwrap_key(wrap, manifest, network, &keys.wrap_secret()) {
            Ok(key) => return Ok(key),
            Err(refused) => error = refused.into(),
        }
    }
    Err(error)
}

/// Opens and checks a sealed part.
pub(crate) fn sealed_part(key: &ContentKey, manifest: &Manifest, sealed: &[u8]) -> Result<SealedPart, GrantError> {
    let Protection::Sealed { algorithm, salt, decrypted_commitment: commitment, sealed_hash, .. } =
        &manifest.protection
    else {
        return Err(UnwrapError::NotSealed.into());
    };
    if <[u8; 32]>::from(Sha256::digest(sealed)) != *sealed_hash {
        return Err(GrantError::OtherSealedPart);
    }
    let part = open_sealed_part(sealed, key, *algorithm, salt, manifest.key_version())?;
    if decrypted_commitment(&part.commitment_salt, &part.plain.sha256) != *commitment {
        return Err(GrantError::Commitment);
    }
    Ok(part)
}

/// What a reader's rows hold.
pub(crate) fn granted(
    keys: &KeyFiles,
    key: &ContentKey,
    manifest: &Manifest,
    sealed: &[u8],
) -> Result<Granted, GrantError> {
    let SealedPart { details, plain, .. } = sealed_part(key, manifest, sealed)?;
    Ok(Granted { details, plain, wrapped_key: to_rest(keys, key, manifest) })
}

/// The cipher of the encrypted state.
pub(crate) fn file_cipher(key: &ContentKey, manifest: &Manifest) -> Result<FileCipher, GrantError> {
    let Protection::Sealed { algorithm, salt, .. } = &manifest.protection else {
        return Err(UnwrapError::NotSealed.into());
    };
    let member = manifest.member(ContentState::Encrypted).ok_or(UnwrapError::NotSealed)?;
    Ok(FileCipher::new(
        key,
        &FileParams {
            algorithm: *algorithm,
            salt: *salt,
            version: manifest.key_version(),
            content_id: member.content_id,
            state: ContentState::Encrypted,
        },
    ))
}
