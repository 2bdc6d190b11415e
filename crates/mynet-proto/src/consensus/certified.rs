//! Certificates: which values are decided, and whether one that arrives is good.
//!
//! 1. A value is announced once per strength: again only if a stronger claim about it is certified.
//! 2. (C1) The first verdict on a value stays. A valid certificate against it needs more than f bad validators; it is
//!    logged as an error and changes nothing.
//!
//! Memory is bounded: of the values decided longest ago nothing is known any more, and asking for them again gets the
//! same votes again.

use std::collections::{BTreeMap, VecDeque};

use mynet_types::{
    CertificateFile, Claim, ManifestHash, Phase, Verdict, VerifiedChain,
    vote::{CertificateError, attest_slot},
};

use super::io::{Outcome, Tally};

/// Decided values remembered. About 100 bytes each; half as many would make a busy node verify certificates again that
/// arrive late, twice as many would cost another 1.6 MB.
const DECIDED_MAX: usize = 16_384;

/// Why a certificate that arrived proves nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Invalid {
    #[error("its epoch {0} is not known here")]
    UnknownEpoch(u64),
    #[error("it is not about the manifest beside it")]
    OtherManifest,
    #[error("the owner's signature does not verify")]
    Owner,
    #[error("its receipts do not count for its manifest, or are too few")]
    Receipts,
    #[error(transparent)]
    Votes(#[from] CertificateError),
}

/// Checks a certificate against the chain of this node; the same rules as [`mynet_types::certificate::verify`], without
/// walking the chain again for every certificate.
pub(super) fn verify(file: &CertificateFile, chain: &VerifiedChain) -> Result<Tally, Invalid> {
    let statement = &file.certificate.statement;
    let roster = chain.roster(statement.epoch).ok_or(Invalid::UnknownEpoch(statement.epoch))?;
    let manifest = &file.manifest.body;
    let hash = manifest.hash();
    let about = statement.value == hash && statement.slot == attest_slot(&hash) && statement.phase == Phase::Vote;
    if !about || statement.states != manifest.allowed(false) {
        return Err(Invalid::OtherManifest);
    }
    file.certificate.verify(chain.genesis(), roster)?;
    let network = chain.genesis().network_id();
    file.manifest.verify(&network).map_err(|_bad| Invalid::Owner)?;
    let mut last = None;
    for receipt in &file.receipts {
        let body = &receipt.body;
        let counts = body.manifest_hash == hash
            && manifest.states().covers(body.states)
            && body.states.covers(manifest.allowed(false))
            && last < Some(body.holder);
        if !counts || receipt.verify(&network).is_err() {
            return Err(Invalid::Receipts);
        }
        last = Some(body.holder);
    }
    let accepts = statement.verdict == Verdict::Accept;
    if accepts && statement.claim == Claim::Durable && file.receipts.len() < usize::from(manifest.quorum).max(1) {
        return Err(Invalid::Receipts);
    }
    let (votes, validators) = (file.certificate.signers.signatures.len(), roster.validators.len());
    let quorum = chain.genesis().quorum(validators).map_or(0, |quorum| quorum.accept());
    Ok(if accepts {
        Tally { outcome: Outcome::Approved, accepts: votes, rejects: 0, quorum, validators }
    } else {
        Tally { outcome: Outcome::Rejected, accepts: 0, rejects: votes, quorum, validators }
    })
}

/// Whether a certificate with `certified` says all that `asked` asks for.
fn implies(certified: Claim, asked: Claim) -> bool {
    certified == asked || asked == Claim::Seen
}

/// The values known to be decided.
#[derive(Default)]
pub(super) struct Decided {
    known: BTreeMap<(ManifestHash, Claim), Tally>,
    order: VecDeque<(ManifestHash, Claim)>,
}

impl Decided {
    /// The outcome of `claim` about `value`, if it is decided: certified as asked or stronger, or rejected at all.
    pub(super) fn outcome(&self, value: &ManifestHash, claim: Claim) -> Option<Tally> {
        let of_value = self.known.range((*value, Claim::Seen)..=(*value, Claim::Verified));
        of_value
            .filter(|((_, certified), tally)| tally.outcome == Outcome::Rejected || implies(*certified, claim))
            .map(|(_, tally)| *tally)
            .next_back()
    }

    /// The strongest outcome about `value`.
    pub(super) fn strongest(&self, value: &ManifestHash) -> Option<Tally> {
        self.known.range((*value, Claim::Seen)..=(*value, Claim::Verified)).map(|(_, tally)| *tally).next_back()
    }

    /// Notes a verified certificate. `false`: it says nothing new, or the opposite of what is certified already.
    pub(super) fn note(&mut self, value: ManifestHash, claim: Claim, tally: Tally) -> bool {
        if let Some(known) = self.strongest(&value)
            && known.outcome != tally.outcome
        {
            tracing::error!(manifest_hash = %value, "two certificates contradict each other: too many bad validators");
            return false;
        }
        if self.outcome(&value, claim).is_some() {
            return false;
        }
        self.known.insert((value, claim), tally);
        self.order.push_back((value, claim));
        if self.order.len() > DECIDED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
