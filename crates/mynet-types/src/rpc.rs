//! Requests between nodes that get a direct answer on the same stream.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Blake3Root, BoundedString, BoundedVec, CertificateFile, ContentHash, ContentId, GroupId, Message, Roles,
    RosterChain, SignedAdmission, SignedInvite, SignedManifest, SignedNodeRecord, StatesMask, WrapKey,
    wire::{MEMBERS_PER_MESSAGE_MAX, Receipts, SealedBytes, Tombstones, Wraps},
};

/// How a group is named in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub enum GroupKey {
    /// By its id.
    Group(GroupId),
    /// By the hash of one of its public states; trusted nodes may also ask trusted nodes by a plaintext hash.
    Hash(ContentHash),
    /// By the id of one of its rows.
    Content(ContentId),
}

/// What an admitted node may ask another.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Request {
    /// Delivers a message to the core; answered by [`Response::Delivered`].
    Deliver(Box<Message>),
    /// Who holds this group, and what is it? Answered by [`Response::Group`] or [`Response::NotHere`].
    Group(GroupKey),
    /// Bytes of a blob; answered by [`Response::Range`] and then the verified stream.
    Range {
        /// The blob.
        sha256: ContentHash,
        /// First byte.
        offset: u64,
        /// Bytes wanted; the stream covers whole 16 KiB chunk groups around them.
        len: u64,
    },
    /// Tombstones that the asked node keeps, in the order in which they came to it; answered by [`Response::Tombstones`].
    TombstonesAfter {
        /// Only those after this place in that order; 0 for all.
        seq: u64,
    },
}

/// What one node knows about a group, as far as the asker may know it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct GroupInfo {
    /// The manifest.
    pub manifest: SignedManifest,
    /// Its sealed part; only keys open it.
    pub sealed: SealedBytes,
    /// The asker's own wraps, none if it is not granted.
    pub wraps: Wraps,
    /// Who holds it.
    pub receipts: Receipts,
    /// The certificate, if there is one.
    pub certificate: Option<Box<CertificateFile>>,
    /// What the answering node holds.
    pub held: StatesMask,
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Response {
    /// The core has it.
    Delivered,
    /// The group.
    Group(Box<GroupInfo>),
    /// The asker can be told nothing about it: absent, or not to be known.
    NotHere,
    /// The blob; BLAKE3-verified bytes follow on the stream.
    Range {
        /// Size of the whole blob.
        size: u64,
        /// Its BLAKE3 root; the asker compares it with the one it trusts.
        blake3: Blake3Root,
    },
    /// Too much to do; ask again later, or another.
    Busy,
    /// The request kind is not known here.
    Unsupported,
    /// It cannot be answered, and why.
    Failed(BoundedString<256>),
    /// Tombstones.
    Tombstones {
        /// Grows with every start of the answering node: a place in its order holds until then.
        boot: u64,
        /// The place of the last of these tombstones, or the one that was asked from.
        seq: u64,
        /// The tombstones; none at the end.
        tombstones: Tombstones,
    },
}

/// What a stranger may say. Everything else is refused until it is admitted.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum Knock {
    /// Redeems an invitation with the inviter.
    Redeem {
        /// The invitation.
        invite: SignedInvite,
        /// Content keys are to be wrapped to this key.
        wrap_key: WrapKey,
        /// Roles wanted, among those invited.
        roles: Roles,
        /// Where the newcomer stands.
        region: BoundedString<32>,
        /// What it shares its fate with.
        zone: BoundedString<64>,
        /// Share of the data it takes.
        weight: u16,
        /// Where it can be reached.
        record: SignedNodeRecord,
    },
    /// Shows an admission.
    Present {
        /// The admission.
        admission: SignedAdmission,
        /// From the genesis to at least the epoch of the admission.
        chain: RosterChain,
        /// Where the node can be reached.
        record: SignedNodeRecord,
    },
}

/// Why a stranger stays one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize, thiserror::Error)]
pub enum KnockRefusal {
    /// Chain or records of another network.
    #[error("it belongs to another network")]
    OtherNetwork,
    /// The invitation was not signed by this node.
    #[error("the invitation was not made by this node")]
    NotMyInvite,
    /// The invitation has ended.
    #[error("the invitation has expired")]
    InviteExpired,
    /// The invitation was redeemed as often as it may be.
    #[error("the invitation was used up")]
    InviteUsedUp,
    /// Roles were wanted that the invitation does not give.
    #[error("the invitation does not give the roles asked for")]
    RolesNotInvited,
    /// The admission does not verify.
    #[error("the admission does not verify")]
    AdmissionInvalid,
    /// This node holds no seat and can admit nobody.
    #[error("this node is no validator and can admit nobody")]
    NotValidator,
    /// Too many knocks.
    #[error("too many knocks, try again in a minute")]
    Busy,
    /// The request was malformed.
    #[error("the request was malformed")]
    Malformed,
}

/// What a newcomer is told.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Welcome {
    /// The newcomer's admission.
    pub admission: SignedAdmission,
    /// From the genesis to the newest roster known here.
    pub chain: RosterChain,
    /// Who else is admitted.
    pub admissions: BoundedVec<SignedAdmission, MEMBERS_PER_MESSAGE_MAX>,
    /// Where they are.
    pub records: BoundedVec<SignedNodeRecord, MEMBERS_PER_MESSAGE_MAX>,
}

/// The answer to a knock.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum KnockReply {
    /// Come in.
    Welcome(Box<Welcome>),
    /// Stay out.
    Refused(KnockRefusal),
}
