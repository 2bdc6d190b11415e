//! The shared vocabulary: identifiers, states, signed records, certificates and messages.
//!
//! This crate holds data, its one encoding and its arithmetic; no IO, no clock, no runtime. Everything here is a promise
//! on the wire or on disk: a changed encoding is a new version.
//!
//! Reading order: [`ids`] and [`codec`], [`content`], [`manifest`], then [`signing`], [`quorum`], [`roster`], [`vote`],
//! [`evidence`], [`head`], [`certificate`] and [`recovery`]; [`records`] and [`wire`] use all of them. Whoever only checks certificates
//! needs [`verifier`] alone.

/// Whether a planted bug is switched on: `false` in every build without `--cfg planted`.
#[cfg(planted)]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is_active($crate::planted::Bug::$bug)
    };
}

/// Whether a planted bug is switched on: `false` in every build without `--cfg planted`.
#[cfg(not(planted))]
#[macro_export]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub mod certificate;
pub mod codec;
pub mod content;
pub mod evidence;
pub mod head;
pub mod ids;
pub mod manifest;
#[cfg(planted)]
pub mod planted;
pub mod quorum;
pub mod records;
pub mod recovery;
pub mod roster;
pub mod rpc;
pub mod secret;
pub mod signing;
pub mod time;
pub mod verifier;
pub mod vote;
pub mod wire;

pub use certificate::{CertificateFile, Checkpoint, GenesisFile, Holding};
pub use codec::{BoundedString, BoundedVec, DecodeError};
pub use content::{BlobRef, ContentState, ContentType, RelationshipKind, StatesMask};
pub use evidence::{Evidence, EvidenceError, OwnerEvidence, OwnerSignature, SignedStatement};
pub use head::{AckedHead, CarriedHead, CloseReport, CloseStatement, HeadProof};
pub use ids::{
    Blake3Root, CertificateHash, ContentHash, ContentId, GroupId, ManifestHash, NetworkId, NodeId, OwnerKey,
    ParseIdError, ProposalId, RosterHash, SlotKey, TxId, VoteKey, WrapKey,
};
pub use manifest::{
    DecryptedClass, Details, Link, Manifest, Member, OwnerStatement, Protection, SealedPart, SignedManifest,
    SignedOwnerStatement,
};
pub use quorum::{Quorum, VALIDATORS_MAX};
pub use records::{
    AdmissionRecord, Decision, Invite, NodeRecord, Roles, SignedAdmission, SignedDecision, SignedInvite,
    SignedNodeRecord, SignedReceipt, SignedTombstone, SignedWrap, StorageReceipt, Tombstone, WrapRecord,
};
pub use recovery::{OfferFile, RecoveryFile, RecoveryOffer, SignedRecoveryOffer};
pub use roster::{
    Genesis, LinkError, LinkProof, LinkRecovery, LinkVotes, Roster, RosterChain, RosterKey, RosterLink,
    SignedRosterKey, SignerSet, SignerSetError, Validator, VerifiedChain,
};
pub use secret::VoteSecret;
pub use signing::{Domain, Signable, Signature, SignatureError, Signed, SignedBy};
pub use time::{Mono, Now, Timestamp};
pub use vote::{
    AbstainReason, Abstention, Claim, Phase, Proposal, QuorumCertificate, RejectReason, SignedProposal, Verdict, Vote,
    VoteStatement,
};
pub use wire::{ConsensusMessage, MembershipMessage, Message, ReplicationMessage};
