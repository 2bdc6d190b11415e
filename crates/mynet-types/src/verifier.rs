//! The offline check in one call: bytes of two files in, what they prove out.
//!
//! For whoever wants to check certificates of this network in a program of his own: no runtime, no clock, no IO, and nothing
//! but this crate. `mynet verify` is this function and prints what it says.
//!
//! ```
//! # fn file(name: &str) -> Vec<u8> {
//! #     let vectors = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/wire-v1.txt"));
//! #     let line = vectors.lines().find_map(|line| line.strip_prefix(name)).unwrap();
//! #     hex::decode(line.split_whitespace().next_back().unwrap()).unwrap()
//! # }
//! use mynet_types::verifier::{self, Demand};
//!
//! // From `mynet cert ID -o song.cert` and `mynet genesis -o songs.genesis`, by whatever way they came.
//! let (certificate, genesis) = (file("file certificate "), file("file genesis "));
//!
//! let verified = verifier::verify(&certificate, &genesis, Demand::default())?;
//! assert_eq!(verified.signers.len(), 3);
//! println!("group {} is certified by {} validators", verified.group_id, verified.signers.len());
//!
//! let mut damaged = certificate;
//! damaged[100] ^= 1;
//! let refused = verifier::verify(&damaged, &genesis, Demand::default()).unwrap_err();
//! assert_eq!(refused.defect.code(), "checksum");
//! # Ok::<(), Box<verifier::Refused>>(())
//! ```
//!
//! **Invariant:** [`Verified`] comes only from a file that stands; what a refused file says is in [`Told`], of another type,
//! so that nobody takes one for the other.

use crate::{
    CertificateFile, Claim, ContentHash, DecodeError, GenesisFile, GroupId, LinkError, ManifestHash, NetworkId, NodeId,
    Roster, SignerSetError, Verdict,
    certificate::{self, FileError, Verified, VerifyError},
    vote::CertificateError,
};

/// What must hold besides.
#[derive(Debug, Clone, Copy, Default)]
pub struct Demand {
    /// Accept a network of fewer than three validators, which proves little.
    pub allow_small: bool,
    /// Bytes that the certificate must name by their SHA-256.
    pub content: Option<ContentHash>,
    /// What it must claim, or more.
    pub claim: Option<Claim>,
}

/// A certificate that proves nothing, why, and what it says all the same.
#[derive(Debug, thiserror::Error)]
#[error("{defect}")]
pub struct Refused {
    /// Why.
    pub defect: Defect,
    /// What can be read in it. **Not verified.**
    pub told: Told,
}

/// What a file says of itself; any of it may be a lie.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Told {
    /// The network of the genesis, if that could be read.
    pub network_id: Option<NetworkId>,
    /// The epoch of the votes.
    pub epoch: Option<u64>,
    /// The group.
    pub group_id: Option<GroupId>,
    /// The manifest beside the votes.
    pub manifest_hash: Option<ManifestHash>,
    /// Whose seats are said to have signed.
    pub signers: Vec<NodeId>,
    /// Votes that the verdict would need of the roster named.
    pub quorum: Option<usize>,
    /// Whether that roster has fewer than three validators.
    pub small: Option<bool>,
    /// What is claimed.
    pub claim: Option<Claim>,
    /// Epochs that are said to have begun by recovery.
    pub recoveries: Vec<u64>,
}

/// Every way in which the two files can be wrong.
#[derive(Debug, thiserror::Error)]
pub enum Defect {
    /// The genesis file cannot be read.
    #[error("genesis: {0}")]
    Genesis(FileError),
    /// The certificate file cannot be read.
    #[error("certificate: {0}")]
    File(FileError),
    /// It is of another network than the genesis.
    #[error("it is of another network than this genesis")]
    OtherNetwork,
    /// It does not stand.
    #[error(transparent)]
    Certificate(VerifyError),
    /// It stands, and says no.
    #[error("the validators of epoch {epoch} rejected this group")]
    Rejected {
        /// The epoch of the votes.
        epoch: u64,
    },
    /// It stands, and is about other bytes.
    #[error("the certificate is not about {0}")]
    OtherContent(ContentHash),
    /// It stands, and says less than was demanded.
    #[error("the certificate claims that the group was {}, not that it was {}", word(*.got), word(*.want))]
    ClaimTooLow {
        /// What it claims.
        got: Claim,
        /// What was demanded.
        want: Claim,
    },
}

impl Defect {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Genesis(FileError::Magic(_)) => "not_a_genesis",
            Self::Genesis(FileError::Checksum) => "genesis_checksum",
            Self::Genesis(FileError::Decode(_)) => "genesis_malformed",
            Self::File(FileError::Magic(_)) => "not_a_certificate",
            Self::File(FileError::Checksum) => "checksum",
            Self::File(FileError::Decode(DecodeError::TooLong { .. })) => "too_large",
            Self::File(FileError::Decode(_)) => "malformed",
            Self::OtherNetwork => "other_network",
            Self::Certificate(error) => verify_code(error),
            Self::Rejected { .. } => "rejected",
            Self::OtherContent(_) => "content_differs",
            Self::ClaimTooLow { .. } => "claim_too_low",
        }
    }
}

fn verify_code(error: &VerifyError) -> &'static str {
    match error {
        VerifyError::Chain(_) => "chain_broken",
        VerifyError::AvoidsCheckpoint { .. } => "avoids_checkpoint",
        VerifyError::UnknownEpoch { .. } => "unknown_epoch",
        VerifyError::Certificate(CertificateError::OtherRoster) => "other_roster",
        VerifyError::Certificate(CertificateError::NotEnoughValidators { .. }) => "not_enough_validators",
        VerifyError::Certificate(CertificateError::Signers(error)) => match error {
            SignerSetError::NoSuchSeat => "signer_unknown",
            SignerSetError::Count { seats, signatures } if signatures > seats => "signer_twice",
            SignerSetError::Count { .. } => "signature_missing",
            SignerSetError::TooFew { .. } => "quorum_too_small",
            SignerSetError::Signature { .. } => "signature_wrong",
        },
        VerifyError::OtherManifest => "other_manifest",
        VerifyError::NotAttestation => "not_attestation",
        VerifyError::NotHead => "not_head",
        VerifyError::States => "states_wrong",
        VerifyError::Owner => "owner_signature_wrong",
        VerifyError::Receipt { .. } => "receipt_wrong",
        VerifyError::NotAdmitted { .. } => "holder_not_admitted",
        VerifyError::TooFewReceipts { .. } => "too_few_receipts",
        VerifyError::Small => "small_not_allowed",
    }
}

/// Checks a certificate file against a genesis file and what is demanded besides.
///
/// Costs what [`certificate::verify`] costs, and memory for both files.
///
/// # Errors
/// [`Refused`] with the first defect found.
pub fn verify(certificate: &[u8], genesis: &[u8], demand: Demand) -> Result<Verified, Box<Refused>> {
    let refused = |defect, told| Box::new(Refused { defect, told });
    let trust = GenesisFile::decode(genesis).map_err(|error| refused(Defect::Genesis(error), Told::default()))?;
    let network_id = Some(trust.genesis.network_id());
    let file = CertificateFile::decode(certificate)
        .map_err(|error| refused(Defect::File(error), Told { network_id, ..Told::default() }))?;
    check(&file, &trust, demand).map_err(|defect| refused(defect, told(&file, &trust)))
}

fn check(file: &CertificateFile, trust: &GenesisFile, demand: Demand) -> Result<Verified, Defect> {
    let verified = certificate::verify(file, trust, demand.allow_small).map_err(|error| match error {
        error if is_foreign(&error, file, trust) => Defect::OtherNetwork,
        error => Defect::Certificate(error),
    })?;
    if verified.verdict == Verdict::Reject {
        return Err(Defect::Rejected { epoch: verified.epoch });
    }
    if let Some(hash) = demand.content
        && !file.manifest.body.blobs().any(|(_, blob)| blob.sha256 == hash)
    {
        return Err(Defect::OtherContent(hash));
    }
    match demand.claim {
        Some(want) if verified.claim < want => Err(Defect::ClaimTooLow { got: verified.claim, want }),
        Some(_) | None => Ok(verified),
    }
}

fn word(claim: Claim) -> &'static str {
    match claim {
        Claim::Seen => "seen",
        Claim::Durable => "durable",
        Claim::Verified => "verified",
    }
}

/// Whether a file that does not stand begins at another genesis.
fn is_foreign(error: &VerifyError, file: &CertificateFile, trust: &GenesisFile) -> bool {
    let founded = trust.genesis.first_roster().hash();
    match (error, file.chain.links.first()) {
        (VerifyError::Chain(LinkError::NotNext { .. }), Some(first)) => first.roster.prev != founded,
        (VerifyError::Certificate(CertificateError::OtherRoster), None) => {
            file.certificate.statement.epoch == 0 && file.certificate.statement.roster != founded
        }
        _ => false,
    }
}

/// What can be read in a file that does not stand.
fn told(file: &CertificateFile, trust: &GenesisFile) -> Told {
    let statement = &file.certificate.statement;
    let founded = trust.genesis.first_roster();
    let rosters = [&founded].into_iter().chain(file.chain.links.iter().map(|link| &link.roster));
    let roster: Option<&Roster> = rosters.into_iter().find(|roster| roster.epoch == statement.epoch);
    let seats = |roster: &Roster| -> Vec<NodeId> {
        let seats = file.certificate.signers.seats();
        seats.filter_map(|seat| roster.validators.get(seat).map(|validator| validator.node)).collect()
    };
    let recoveries = file.chain.links.iter().filter(|link| link.is_recovery());
    let quorum = roster.and_then(|roster| trust.genesis.quorum(roster.validators.len()));
    Told {
        network_id: Some(trust.genesis.network_id()),
        epoch: Some(statement.epoch),
        group_id: Some(file.manifest.body.group_id),
        manifest_hash: Some(file.manifest.body.hash()),
        signers: roster.map(seats).unwrap_or_default(),
        quorum: quorum.map(|quorum| statement.verdict.votes_needed(quorum)),
        small: roster.map(|roster| roster.validators.len() < 3),
        claim: Some(statement.claim),
        recoveries: recoveries.map(|link| link.roster.epoch).collect(),
    }
}
