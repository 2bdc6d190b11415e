//! The certificate file: everything an offline verifier needs besides the genesis.
//!
//! `MYNETCRT`, the borsh encoding of [`CertificateFile`], and the SHA-256 of both as trailer. Decoding and encoding
//! again gives the same bytes.
//!
//! 1. A byte changed in a valid file never verifies, trailer mended or not: every field is under a signature, or counts
//!    or names signatures that are all checked.
//! 2. One statement may have several valid files: other quorums of signers, other receipts, links past the epoch of the
//!    votes. What the votes say is the same in all of them.
//! 3. The votes do not cover the holdings: that W admitted nodes held the group is what the validators checked before they
//!    claimed `durable`. The file names holders all the same, and each by its own receipt and by the admission that a
//!    validator signed for it, so nobody can put keys of his own in their place. A validator who is bad could.
//!
//! 4. A first version is certified by an attestation, a later one by the acks of a head, and neither by the other. A quorum of
//!    the first round of a head is no certificate: another epoch may certify another value.
//!
//! This module does no IO and needs no runtime: `verify` is a pure function that others may embed.

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

use crate::{
    BoundedVec, CertificateHash, Claim, Genesis, GroupId, LinkError, ManifestHash, NetworkId, NodeId,
    QuorumCertificate, Roster, RosterChain, RosterHash, SignedAdmission, SignedManifest, SignedReceipt, StatesMask,
    Verdict, VerifiedChain,
    codec::{self, DecodeError},
    records::check_admission,
    vote::{CertificateError, is_head},
};

/// Starts every certificate file.
const CERTIFICATE_MAGIC: &[u8; 8] = b"MYNETCRT";
/// Starts every genesis file.
const GENESIS_MAGIC: &[u8; 8] = b"MYNETGEN";
/// Size of a certificate file at most.
pub const CERTIFICATE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Size of a genesis file at most.
pub const GENESIS_BYTES_MAX: usize = 16 * 1024;
/// Holdings in a certificate, and receipts beside a proposal, at most.
pub const RECEIPTS_MAX: usize = 64;
/// Rosters below this size are never pinned: see [`Checkpoint`].
pub const CHECKPOINT_VALIDATORS: usize = 4;

/// What the file holds.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct CertificateFile {
    /// The public part of the manifest, with the owner's signature.
    pub manifest: SignedManifest,
    /// The votes.
    pub certificate: QuorumCertificate,
    /// The copies that were shown to the validators, sorted by holder.
    pub holdings: BoundedVec<Holding, RECEIPTS_MAX>,
    /// From the genesis to the newest roster known at export, past the epoch of the votes.
    pub chain: RosterChain,
}

/// One copy: who says to hold it, and why that node may say so.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Holding {
    /// The holder's own word.
    pub receipt: SignedReceipt,
    /// A validator's word that the holder belongs to the network.
    pub admission: SignedAdmission,
}

/// A roster that every honest chain must pass through.
///
/// While a network has fewer than four validators one bad founder could fork it; whoever took the genesis later pins
/// the newest roster known by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Checkpoint {
    /// Its epoch.
    pub epoch: u64,
    /// Its hash.
    pub roster: RosterHash,
}

/// The genesis file: what `mynet genesis` exports.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GenesisFile {
    /// How the network began.
    pub genesis: Genesis,
    /// The newest roster of at least four validators at the time of export.
    pub checkpoint: Option<Checkpoint>,
}

/// Why a file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Wrong first bytes.
    #[error("not a {0} file: its first bytes are wrong")]
    Magic(&'static str),
    /// The trailer does not match: bytes were changed or lost.
    #[error("damaged: the checksum at its end does not match")]
    Checksum,
    /// Not the encoding of anything.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// Frames `value`: magic, encoding, SHA-256 of both.
pub(crate) fn seal<T: BorshSerialize>(magic: &[u8; 8], value: &T) -> Vec<u8> {
    let mut bytes = magic.to_vec();
    bytes.extend(codec::encode(value));
    let trailer = Sha256::digest(&bytes);
    bytes.extend_from_slice(&trailer);
    bytes
}

/// Undoes [`seal`].
pub(crate) fn unseal<T: BorshDeserialize>(
    (magic, what): (&[u8; 8], &'static str),
    bytes: &[u8],
    max: usize,
) -> Result<T, FileError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { size: bytes.len(), max }.into());
    }
    let (framed, trailer) = bytes.split_last_chunk::<32>().ok_or(FileError::Magic(what))?;
    let body = framed.strip_prefix(magic).ok_or(FileError::Magic(what))?;
    if Sha256::digest(framed).as_slice() != trailer {
        return Err(FileError::Checksum);
    }
    Ok(codec::decode(body, max)?)
}

impl CertificateFile {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        seal(CERTIFICATE_MAGIC, self)
    }

    /// Reads a file's bytes. Nothing is verified but the checksum: see [`verify`].
    ///
    /// # Errors
    /// [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        unseal((CERTIFICATE_MAGIC, "certificate"), bytes, CERTIFICATE_BYTES_MAX)
    }

    /// SHA-256 of the votes: names the certificate in `network_metadata`.
    #[must_use]
    pub fn hash(&self) -> CertificateHash {
        CertificateHash(codec::digest(&self.certificate))
    }
}

impl GenesisFile {
    /// What `chain` exports today.
    #[must_use]
    pub fn of(chain: &VerifiedChain) -> Self {
        let newest = chain.newest();
        let pinned = newest.validators.len() >= CHECKPOINT_VALIDATORS;
        let checkpoint = pinned.then(|| Checkpoint { epoch: newest.epoch, roster: newest.hash() });
        Self { genesis: chain.genesis().clone(), checkpoint }
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        seal(GENESIS_MAGIC, self)
    }

    /// Reads a file's bytes.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        unseal((GENESIS_MAGIC, "genesis"), bytes, GENESIS_BYTES_MAX)
    }
}

/// What a valid certificate proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The network.
    pub network_id: NetworkId,
    /// The epoch of the votes.
    pub epoch: u64,
    /// The group.
    pub group_id: GroupId,
    /// The value certified.
    pub manifest_hash: ManifestHash,
    /// Yes or no.
    pub verdict: Verdict,
    /// What is said about it.
    pub claim: Claim,
    /// Of which states.
    pub states: StatesMask,
    /// Who voted.
    pub signers: Vec<NodeId>,
    /// Votes that this verdict needed.
    pub quorum: usize,
    /// Fewer than three validators: proves little, and must be allowed explicitly.
    pub small: bool,
    /// Who says to hold it, each by its own signature and admitted by a validator; not under the votes, see the module's
    /// third rule.
    pub holders: Vec<NodeId>,
    /// Epochs of the chain that the offline keys began, not the validators of the epoch before.
    pub recoveries: Vec<u64>,
}

/// Why a certificate file proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The roster chain is broken.
    #[error("roster chain: {0}")]
    Chain(#[from] LinkError),
    /// The chain does not pass through the pinned roster.
    #[error("the roster chain does not pass through epoch {epoch} as the genesis file pins it")]
    AvoidsCheckpoint {
        /// The pinned epoch.
        epoch: u64,
    },
    /// The chain ends before the epoch of the votes.
    #[error("the votes are of epoch {epoch}, which the roster chain does not reach")]
    UnknownEpoch {
        /// The epoch of the votes.
        epoch: u64,
    },
    /// The votes do not stand.
    #[error("votes: {0}")]
    Certificate(#[from] CertificateError),
    /// The votes are about something else than the manifest beside them.
    #[error("the votes are not about the manifest beside them")]
    OtherManifest,
    /// The votes are of another round, or lock another slot, than an attestation does.
    #[error("the votes are not an attestation")]
    NotAttestation,
    /// The votes accept no state, or one that the manifest does not have.
    #[error("the votes accept no state, or one that the manifest does not have")]
    States,
    /// The owner's signature is bad.
    #[error("the owner's signature on the manifest does not verify")]
    Owner,
    /// A receipt is about something else, or of a part of the group, or badly signed, or repeated, or out of order.
    #[error("receipt of {holder} is not valid for this manifest")]
    Receipt {
        /// Who is said to hold it.
        holder: NodeId,
    },
    /// The admission beside a receipt is of another node, or of one that holds no copies, or no validator signed it.
    #[error("{holder} has a receipt, but nothing shows that a validator admitted it as a holder")]
    NotAdmitted {
        /// Who is said to hold it.
        holder: NodeId,
    },
    /// Fewer receipts than the claim needs.
    #[error("claims to be durable with {got} receipts, {need} are needed")]
    TooFewReceipts {
        /// Receipts present.
        got: usize,
        /// Receipts needed.
        need: usize,
    },
    /// Fewer than three validators, and that was not allowed.
    #[error("certified by a network of fewer than three validators; allow this class explicitly to accept it")]
    Small,
    /// The manifest is a later version, and the votes are not the acks that certify one: they are of the first round, or an
    /// attestation, or lock another slot.
    #[error("the votes are not the second round that a later version needs")]
    NotHead,
}

/// Checks a certificate against the genesis, with no network and no clock: neither receipts nor admissions are checked
/// for expiry.
///
/// Costs one signature check per signature in the file, fewer than 65,536 in [`CERTIFICATE_BYTES_MAX`]; callers that take
/// files from peers bound how many.
///
/// # Errors
/// The first defect found; see [`VerifyError`].
pub fn verify(file: &CertificateFile, trust: &GenesisFile, allow_small: bool) -> Result<Verified, VerifyError> {
    let chain = VerifiedChain::verify(trust.genesis.clone(), &file.chain)?;
    let verified = file.verify_under(&chain)?;
    if let Some(checkpoint) = &trust.checkpoint
        && chain.roster(checkpoint.epoch).map(Roster::hash) != Some(checkpoint.roster)
    {
        return Err(VerifyError::AvoidsCheckpoint { epoch: checkpoint.epoch });
    }
    if verified.small && !allow_small {
        return Err(VerifyError::Small);
    }
    Ok(verified)
}

impl CertificateFile {
    /// Checks everything but the chain in the file: for whoever has verified a chain that reaches its epoch. Class `small`
    /// is told, not refused.
    ///
    /// # Errors
    /// The first defect found; see [`VerifyError`].
    pub fn verify_under(&self, chain: &VerifiedChain) -> Result<Verified, VerifyError> {
        let statement = &self.certificate.statement;
        let epoch = statement.epoch;
        let roster = chain.roster(epoch).ok_or(VerifyError::UnknownEpoch { epoch })?;
        let quorum = self.certificate.verify(chain.genesis(), roster)?;
        let network_id = chain.genesis().network_id();
        let manifest = &self.manifest.body;
        let manifest_hash = manifest.hash();
        if statement.value != manifest_hash {
            return Err(VerifyError::OtherManifest);
        }
        if !statement.decides(manifest) {
            let head = is_head(manifest.version);
            return Err(if head { VerifyError::NotHead } else { VerifyError::NotAttestation });
        }
        let names_states = !statement.states.is_empty() && manifest.states().covers(statement.states);
        if statement.verdict == Verdict::Accept && !names_states {
            return Err(VerifyError::States);
        }
        self.manifest.verify(&network_id).map_err(|_bad| VerifyError::Owner)?;
        let holders = self.check_holdings(chain, &manifest_hash)?;
        // An owner cannot make "durable" mean less than one copy.
        let need = usize::from(manifest.quorum).max(1);
        if statement.claim >= Claim::Durable && statement.verdict == Verdict::Accept && holders.len() < need {
            return Err(VerifyError::TooFewReceipts { got: holders.len(), need });
        }
        let seats = self.certificate.signers.seats();
        Ok(Verified {
            network_id,
            epoch,
            group_id: manifest.group_id,
            manifest_hash,
            verdict: statement.verdict,
            claim: statement.claim,
            states: statement.states,
            signers: seats.filter_map(|seat| roster.validators.get(seat).map(|validator| validator.node)).collect(),
            quorum,
            small: roster.validators.len() < 3,
            holders,
            recoveries: chain.recoveries().collect(),
        })
    }

    /// Checks that receipts count for this manifest and are signed, that a validator admitted each holder, and that
    /// holders are distinct and sorted.
    fn check_holdings(&self, chain: &VerifiedChain, manifest_hash: &ManifestHash) -> Result<Vec<NodeId>, VerifyError> {
        let network = chain.genesis().network_id();
        let mut holders: Vec<NodeId> = Vec::new();
        for Holding { receipt, admission } in &self.holdings {
            let holder = receipt.body.holder;
            let in_order = holders.last().is_none_or(|last| *last < holder);
            let counts = receipt.body.counts_for(manifest_hash, &self.manifest.body);
            if !in_order || !counts || receipt.verify(&network).is_err() {
                return Err(VerifyError::Receipt { holder });
            }
            let may_hold = admission.body.node == holder && admission.body.roles.may_hold();
            if !may_hold || check_admission(admission, chain).is_err() {
                return Err(VerifyError::NotAdmitted { holder });
            }
            holders.push(holder);
        }
        Ok(holders)
    }
}
