//! Certificates: which values are decided, and whether one that arrives is good.
//!
//! 1. A value is announced once per strength: again only if a stronger claim about it is certified.
//! 2. (C1) The first verdict on a value stays. A valid certificate against it needs more than f bad validators; it is
//!    logged as an error and changes nothing. One there may be with honest validators: they certified copies, and those of a
//!    later epoch hashed the bytes and found them wrong. That no holds against a weaker yes, whichever comes first.
//!
//! 3. (C1) So does the first value of a version, which is certified by a head.
//!
//! Memory is bounded: of the values decided longest ago nothing is known any more, and asking for them again gets the
//! same votes again.

use std::collections::{BTreeMap, VecDeque};

use mynet_types::{
    CertificateFile, Claim, GroupId, Manifest, ManifestHash, SignedManifest, SignedOwnerStatement, Verdict,
    VerifiedChain, certificate::VerifyError, vote::is_head,
};

use super::io::{Outcome, Tally};

/// Decided values remembered. About 100 bytes each, of a head 250 more; half as many would make a busy node verify certificates
/// again that arrive late, twice as many would cost up to another 5.7 MB.
const DECIDED_MAX: usize = 16_384;

/// Why a certificate that arrived proves nothing here.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
    #[error("it is not about the states that every holder keeps")]
    OtherStates,
    #[error(transparent)]
    File(#[from] VerifyError),
}

/// Checks a certificate against the chain of this node, without walking the chain in it. Votes of this network are about
/// all states that any holder may keep; what is about others is of no use here.
pub(super) fn verify(file: &CertificateFile, chain: &VerifiedChain) -> Result<Tally, Invalid> {
    let verified = file.verify_under(chain)?;
    if verified.states != file.manifest.body.allowed(false) {
        return Err(Invalid::OtherStates);
    }
    let votes = verified.signers.len();
    let validators = chain.roster(verified.epoch).map_or(0, |roster| roster.validators.len());
    let quorum = chain.genesis().quorum(validators).map_or(0, |quorum| quorum.accept());
    Ok(match verified.verdict {
        Verdict::Accept => Tally { outcome: Outcome::Approved, accepts: votes, rejects: 0, quorum, validators },
        Verdict::Reject => Tally { outcome: Outcome::Rejected, accepts: 0, rejects: votes, quorum, validators },
    })
}

/// The values known to be decided.
#[derive(Default)]
pub(super) struct Decided {
    /// With the epoch of each.
    known: BTreeMap<(ManifestHash, Claim), (u64, Tally)>,
    order: VecDeque<(ManifestHash, Claim)>,
    /// Approved heads, with the signatures of their owners.
    heads: BTreeMap<(GroupId, u64), SignedOwnerStatement>,
    order_of_heads: VecDeque<(GroupId, u64)>,
}

impl Decided {
    /// The outcome of `claim` about `value`, if it is decided: certified as asked or stronger, or rejected at all.
    pub(super) fn outcome(&self, value: &ManifestHash, claim: Claim) -> Option<Tally> {
        let of_value = self.known.range((*value, Claim::Seen)..=(*value, Claim::Verified));
        of_value
            .filter(|((_, certified), (_, tally))| tally.outcome == Outcome::Rejected || *certified >= claim)
            .map(|(_, (_, tally))| *tally)
            .next_back()
    }

    /// The strongest outcome about `value`.
    pub(super) fn strongest(&self, value: &ManifestHash) -> Option<Tally> {
        self.strongest_known(value).map(|(_, _, tally)| tally)
    }

    fn strongest_known(&self, value: &ManifestHash) -> Option<(Claim, u64, Tally)> {
        let mut of_value = self.known.range((*value, Claim::Seen)..=(*value, Claim::Verified));
        of_value.next_back().map(|((_, claim), (epoch, tally))| (*claim, *epoch, *tally))
    }

    /// The certified value of the version that `manifest` is of, if that is another one.
    pub(super) fn other_head(&self, manifest: &Manifest) -> Option<ManifestHash> {
        let value = manifest.hash();
        let head = self.signed_of(&(manifest.group_id, manifest.version))?.body.manifest_hash;
        (head != value).then_some(head)
    }

    /// What the owner signed that is certified as this version.
    pub(super) fn signed_of(&self, about: &(GroupId, u64)) -> Option<&SignedOwnerStatement> {
        self.heads.get(about)
    }

    /// Notes a verified certificate of `manifest`, of `epoch`. `false`: it says nothing new, or the opposite of what is certified
    /// already.
    pub(super) fn note(&mut self, signed: &SignedManifest, (claim, epoch): (Claim, u64), tally: Tally) -> bool {
        let manifest = &signed.body;
        let value = manifest.hash();
        if tally.outcome == Outcome::Approved && is_head(manifest.version) {
            if let Some(other) = self.other_head(manifest) {
                tracing::error!(manifest_hash = %value, %other, "two heads of one version: too many bad validators");
                return false;
            }
            let slot = (manifest.group_id, manifest.version);
            if self.heads.insert(slot, signed.statement()).is_none() {
                self.order_of_heads.push_back(slot);
            }
            if self.order_of_heads.len() > DECIDED_MAX
                && let Some(oldest) = self.order_of_heads.pop_front()
            {
                self.heads.remove(&oldest);
            }
        }
        if let Some((known_claim, known_epoch, known)) = self.strongest_known(&value)
            && known.outcome != tally.outcome
        {
            // Within an epoch every honest validator remembers its vote, so there it takes bad ones.
            let other_epoch = known_epoch != epoch;
            if (known.outcome, known_claim) == (Outcome::Rejected, Claim::Verified)
                && claim < Claim::Verified
                && other_epoch
            {
                tracing::warn!(manifest_hash = %value, "a certificate of copies whose bytes were found wrong");
                return false;
            }
            if (tally.outcome, claim) == (Outcome::Rejected, Claim::Verified)
                && known_claim < Claim::Verified
                && other_epoch
            {
                tracing::warn!(manifest_hash = %value, "copies are certified whose bytes were found wrong since");
                return self.insert((value, claim), (epoch, tally));
            }
            tracing::error!(manifest_hash = %value, "two certificates contradict each other: too many bad validators");
            return false;
        }
        if self.outcome(&value, claim).is_some() {
            return false;
        }
        self.insert((value, claim), (epoch, tally))
    }

    fn insert(&mut self, about: (ManifestHash, Claim), found: (u64, Tally)) -> bool {
        self.known.insert(about, found);
        self.order.push_back(about);
        if self.order.len() > DECIDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
