//! What stands behind a manifest: receipts that count, and certificates that verify.
//!
//! A manifest names each blob by SHA-256 and by BLAKE3, and only the second can be checked while bytes stream by. That both
//! name the same bytes is what its holders hashed before they signed. So the pair is believed if enough of them say so, and
//! how many are enough is never left to the owner alone: who wants to pass other bytes under a name would ask for one.
//!
//! **Invariant:** whatever a [`Backing`] counts verifies, names the manifest by its hash, and comes from a node that a
//! validator admitted to hold copies; each node counts once.

use mynet_types::{
    CertificateFile, Claim, ContentState, Holding, Manifest, ManifestHash, NodeId, SignedReceipt, Timestamp, Verdict,
    VerifiedChain, VoteStatement, certificate::Verified,
};

use crate::members::Members;

/// What stands behind one manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backing {
    /// Receipts that count now: one per holder, in the order of holders.
    pub(crate) receipts: Vec<SignedReceipt>,
    /// The certificate, accepting or rejecting.
    pub(crate) certificate: Option<Box<CertificateFile>>,
    /// Holders that an accepting certificate of durability names, each by its own receipt; ended receipts count here,
    /// because what was hashed once stays right.
    certified: usize,
    /// Those of them that hashed the plaintext too.
    certified_readers: usize,
}

/// What peers' words are judged by.
#[derive(Debug)]
pub(crate) struct Judge<'a> {
    pub(crate) members: &'a Members,
    pub(crate) chain: VerifiedChain,
    pub(crate) now: Timestamp,
}

impl Backing {
    /// What was verified when it was written here. Receipts that ended since do not count.
    pub(crate) fn written(
        manifest: &Manifest,
        receipts: Vec<SignedReceipt>,
        certificate: Option<CertificateFile>,
        now: Timestamp,
    ) -> Self {
        let hash = manifest.hash();
        let mut backing = Self::default();
        for receipt in receipts {
            if receipt.body.counts_for(&hash, manifest) && now < receipt.body.until {
                backing.insert(receipt);
            }
        }
        if let Some(file) = certificate {
            let holders = file.holdings.len();
            backing.insert_certificate(Box::new(file), holders);
        }
        backing
    }

    /// Who holds it, by receipt.
    pub(crate) fn holders(&self) -> Vec<NodeId> {
        self.receipts.iter().map(|receipt| receipt.body.holder).collect()
    }

    /// Whether at least `need` nodes hashed the bytes and found both names right.
    pub(crate) fn is_enough(&self, need: usize) -> bool {
        self.receipts.len() >= need || self.certified >= need
    }

    /// How many nodes hashed the plaintext, as their receipts say.
    pub(crate) fn readers(&self) -> usize {
        let reads = |receipt: &&SignedReceipt| receipt.body.states.contains(ContentState::Decrypted);
        self.receipts.iter().filter(reads).count().max(self.certified_readers)
    }

    /// Orders what claims one name: first what `need` nodes stand by, then what is certified, then what has more copies.
    pub(crate) fn rank(&self, need: usize) -> (bool, bool, usize) {
        (self.is_enough(need), self.certified > 0, self.receipts.len())
    }

    /// Keeps one receipt per holder, the longest.
    fn insert(&mut self, receipt: SignedReceipt) {
        match self.receipts.binary_search_by_key(&receipt.body.holder, |known| known.body.holder) {
            Err(at) => self.receipts.insert(at, receipt),
            Ok(at) => {
                let known = self.receipts.get_mut(at).filter(|known| known.body.until < receipt.body.until);
                if let Some(known) = known {
                    *known = receipt;
                }
            }
        }
    }

    /// Whether a certificate says that the group was durable, or that it never will be: more than that nobody lacks.
    pub(crate) fn is_certified(&self) -> bool {
        let settles = |file: &CertificateFile| !is_accept(file) || file.certificate.statement.claim >= Claim::Durable;
        self.certificate.as_deref().is_some_and(settles)
    }

    /// What the certificate says, if there is one.
    pub(crate) fn claim(&self) -> Option<Claim> {
        self.certificate.as_deref().map(|file| file.certificate.statement.claim)
    }

    /// Whether `file` says more than the certificate that is here.
    fn is_stronger(&self, file: &CertificateFile) -> bool {
        let known = self.certificate.as_deref();
        known.is_none_or(|known| outweighs(&file.certificate.statement, &known.certificate.statement))
    }

    fn insert_certificate(&mut self, file: Box<CertificateFile>, holders: usize) {
        let statement = &file.certificate.statement;
        let durable = statement.verdict == Verdict::Accept && statement.claim >= Claim::Durable;
        let reads = |holding: &&Holding| holding.receipt.body.states.contains(ContentState::Decrypted);
        self.certified = if durable { holders } else { 0 };
        self.certified_readers = if durable { file.holdings.iter().filter(reads).count() } else { 0 };
        self.certificate = Some(file);
    }
}

/// Whether `said` takes the place of `known`, both certified about one manifest: a stronger yes, or a no about bytes against a yes
/// about copies in another epoch. No other no comes after a yes (decision 0008).
fn outweighs(said: &VoteStatement, known: &VoteStatement) -> bool {
    let counts = match said.verdict {
        Verdict::Accept => true,
        Verdict::Reject => said.claim == Claim::Verified && said.epoch != known.epoch,
    };
    known.verdict == Verdict::Accept && counts && known.claim < said.claim
}

impl Judge<'_> {
    /// Adds what peers told of `manifest` and what stands, and says whether anything did that was not known.
    pub(crate) fn add<'r>(
        &self,
        backing: &mut Backing,
        manifest: &Manifest,
        receipts: impl IntoIterator<Item = &'r SignedReceipt>,
        certificate: Option<&CertificateFile>,
    ) -> bool {
        let (hash, network) = (manifest.hash(), self.chain.genesis().network_id());
        let mut changed = false;
        for receipt in receipts {
            let same = |known: &SignedReceipt| known.body.holder == receipt.body.holder;
            let known = backing.receipts.iter().find(|known| same(known));
            let longer = known.is_none_or(|known| known.body.until < receipt.body.until);
            if longer && self.counts(receipt, &hash, manifest) && receipt.verify(&network).is_ok() {
                backing.insert(receipt.clone());
                changed = true;
            }
        }
        if let Some(file) = certificate.filter(|file| backing.is_stronger(file))
            && let Some(holders) = self.proves(file, &hash)
        {
            backing.insert_certificate(Box::new(file.clone()), holders);
            changed = true;
        }
        changed
    }

    /// Whether a receipt counts, its signature aside.
    fn counts(&self, receipt: &SignedReceipt, hash: &ManifestHash, manifest: &Manifest) -> bool {
        let body = &receipt.body;
        body.counts_for(hash, manifest)
            && self.now < body.until
            && self.members.is_admitted(&body.holder, self.now)
            && self.members.admission(&body.holder).is_some_and(|admission| admission.body.roles.may_hold())
    }

    /// Whether a certificate stands and accepts this manifest.
    pub(crate) fn certifies(&self, file: &CertificateFile, manifest: &Manifest) -> bool {
        let accepts = |it: Verified| it.manifest_hash == manifest.hash() && it.verdict == Verdict::Accept;
        file.verify_under(&self.chain).is_ok_and(accepts)
    }

    /// How many holders a certificate names, if it stands and is about this manifest.
    fn proves(&self, file: &CertificateFile, hash: &ManifestHash) -> Option<usize> {
        let verified = file.verify_under(&self.chain).ok()?;
        (verified.manifest_hash == *hash).then_some(verified.holders.len())
    }
}

fn is_accept(file: &CertificateFile) -> bool {
    file.certificate.statement.verdict == Verdict::Accept
}

#[cfg(test)]
mod tests {
    use mynet_types::{
        Claim::{self, Durable, Seen, Verified},
        ManifestHash, Phase, RosterHash, SlotKey, StatesMask,
        Verdict::{self, Accept, Reject},
        VoteStatement,
    };

    use super::outweighs;

    fn statement((epoch, claim, verdict): (u64, Claim, Verdict)) -> VoteStatement {
        let (roster, slot, value) = (RosterHash([1; 32]), SlotKey([2; 32]), ManifestHash([3; 32]));
        VoteStatement { epoch, roster, phase: Phase::Vote, slot, value, verdict, claim, states: StatesMask::EMPTY }
    }

    #[test]
    fn a_stronger_yes_and_a_no_about_bytes_of_another_epoch_take_the_place_of_a_yes() {
        for (said, known, want) in [
            ((1, Durable, Accept), (1, Seen, Accept), true),
            ((1, Seen, Accept), (1, Durable, Accept), false),
            ((1, Durable, Accept), (1, Durable, Accept), false),
            ((2, Verified, Reject), (1, Durable, Accept), true),
            ((1, Verified, Reject), (1, Durable, Accept), false),
            ((2, Verified, Reject), (1, Verified, Accept), false),
            ((2, Durable, Reject), (1, Seen, Accept), false),
            ((2, Verified, Accept), (1, Seen, Reject), false),
        ] {
            assert_eq!(outweighs(&statement(said), &statement(known)), want, "{said:?} against {known:?}");
        }
    }
}
