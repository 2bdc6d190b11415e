//! What a participant checks before it reserves anything: everything that can be judged from the prepare alone.
//!
//! Space, known tombstones, foreign content ids and the bytes themselves are judged while staging.

use mynet_types::{
    Claim, ManifestHash, NetworkId, QuorumCertificate, SignedManifest, Verdict,
    manifest::Protection,
    vote::is_head,
    wire::{Prepare, RefuseReason, SealedBytes, Wraps},
};
use sha2::{Digest, Sha256};

use super::{plan, step::Shared};
use crate::group;

/// Checks the manifest: the rules of groups, size, the owner's signature, and for a later version than the first that it is the
/// one of its number.
///
/// **Why the head:** without it any member could have any number of manifests of one group prepared here, of which one can
/// become visible. Whether it may follow the one before was for those to say who certified it.
pub(super) fn check_manifest(
    manifest: &SignedManifest,
    head: Option<&QuorumCertificate>,
    shared: &Shared,
) -> Result<(), RefuseReason> {
    let body = &manifest.body;
    if group::verify_manifest(body).is_err() || manifest.verify(&shared.network).is_err() {
        return Err(RefuseReason::ManifestInvalid);
    }
    match head {
        _ if mynet_types::planted!(HeadUncertified) => Ok(()),
        None if !is_head(body.version) => Ok(()),
        Some(head) if is_head(body.version) => check_head(manifest, head, shared),
        None => Err(RefuseReason::HeadInvalid),
        Some(_) => Err(RefuseReason::ManifestInvalid),
    }
}

/// Checks that a quorum acked this value of its version. An epoch that is not known here may be known soon.
fn check_head(manifest: &SignedManifest, head: &QuorumCertificate, shared: &Shared) -> Result<(), RefuseReason> {
    let statement = &head.statement;
    // What more than that is certified rests on receipts, which are not here.
    let seen = statement.verdict == Verdict::Accept && statement.claim == Claim::Seen;
    if !seen || !statement.decides(&manifest.body) {
        return Err(RefuseReason::HeadInvalid);
    }
    let Some(chain) = &shared.chain else { return Err(RefuseReason::EpochUnknown) };
    let Some(roster) = chain.roster(statement.epoch) else { return Err(RefuseReason::EpochUnknown) };
    head.verify(chain.genesis(), roster).map(drop).map_err(|error| {
        tracing::info!(group = %manifest.body.group_id.short(), %error, "a later version that no quorum acked");
        RefuseReason::HeadInvalid
    })
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

/// Checks a prepare sent to this node; gives the hash of its manifest.
///
/// A group is held whole: exactly the states that the wraps in the prepare allow this node, no more and no fewer.
pub(super) fn check_prepare(prepare: &Prepare, shared: &Shared) -> Result<ManifestHash, RefuseReason> {
    check_manifest(&prepare.manifest, prepare.head.as_deref(), shared)?;
    check_sealed(&prepare.manifest, &prepare.sealed)?;
    check_wraps(&prepare.manifest, &prepare.wraps, &shared.network)?;
    let manifest = &prepare.manifest.body;
    if prepare.states.is_empty() || prepare.states != plan::states_for(manifest, &prepare.wraps, &shared.node) {
        return Err(RefuseReason::StateNotAllowed);
    }
    Ok(manifest.hash())
}
