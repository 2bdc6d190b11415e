//! What a participant checks before it reserves anything: everything that can be judged from the prepare alone.
//!
//! Space, known tombstones, foreign content ids and the bytes themselves are judged while staging.

use mynet_types::{
    ManifestHash, NetworkId, NodeId, SignedManifest,
    manifest::Protection,
    wire::{Prepare, RefuseReason, SealedBytes, Wraps},
};
use sha2::{Digest, Sha256};

use super::plan;
use crate::group;

/// Checks the manifest: version, the rules of groups, size, and the owner's signature.
///
/// Versions above 1 are refused. What makes one of them the successor of another is a head, which a prepare does not carry
/// yet; without it any member could have any number of manifests of one group prepared here, of which one can become visible.
pub(super) fn check_manifest(manifest: &SignedManifest, network: &NetworkId) -> Result<(), RefuseReason> {
    let body = &manifest.body;
    if body.version != 1 || group::verify_manifest(body).is_err() || manifest.verify(network).is_err() {
        return Err(RefuseReason::ManifestInvalid);
    }
    Ok(())
}

/// Checks that the sealed part is the one that the manifest names.
fn check_sealed(manifest: &SignedManifest, sealed: &SealedBytes) -> Result<(), RefuseReason> {
    let fits = match &manifest.body.protection {
        Protection::Sealed { sealed_hash, .. } => <[u8; 32]>::from(Sha256::digest(&**sealed)) == *sealed_hash,
        Protection::Open { .. } => sealed.is_empty(),
    };
    if fits { Ok(()) } else { Err(RefuseReason::ManifestInvalid) }
}

/// Checks that every wrap is of this group and version, by its owner.
fn check_wraps(manifest: &SignedManifest, wraps: &Wraps, network: &NetworkId) -> Result<(), RefuseReason> {
    let body = &manifest.body;
    let fits = wraps.iter().all(|wrap| {
        wrap.body.group_id == body.group_id
            && wrap.body.version == body.key_version()
            && wrap.body.owner == body.owner
            && wrap.verify(network).is_ok()
    });
    if fits { Ok(()) } else { Err(RefuseReason::WrapInvalid) }
}

/// Checks a prepare sent to `node`; gives the hash of its manifest.
///
/// A group is held whole: exactly the states that the wraps in the prepare allow this node, no more and no fewer.
pub(super) fn check_prepare(
    prepare: &Prepare,
    node: &NodeId,
    network: &NetworkId,
) -> Result<ManifestHash, RefuseReason> {
    check_manifest(&prepare.manifest, network)?;
    check_sealed(&prepare.manifest, &prepare.sealed)?;
    check_wraps(&prepare.manifest, &prepare.wraps, network)?;
    let manifest = &prepare.manifest.body;
    if prepare.states.is_empty() || prepare.states != plan::states_for(manifest, &prepare.wraps, node) {
        return Err(RefuseReason::StateNotAllowed);
    }
    Ok(manifest.hash())
}
