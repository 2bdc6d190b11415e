//! Signed records that travel further than one connection: receipts, wraps, admissions, announcements, tombstones.

use std::io;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    BoundedString, BoundedVec, Domain, GroupId, Manifest, ManifestHash, NodeId, OwnerKey, Signable, Signed, SignedBy,
    StatesMask, Timestamp, TxId, VerifiedChain, WrapKey, codec, signing::SignatureError,
};

/// Declares under which domain and by whom a record is signed.
macro_rules! signed_record {
    ($record:ident, $signed:ident, $domain:ident, $signer:ident, $doc:literal) => {
        #[doc = $doc]
        pub type $signed = Signed<$record>;

        impl Signable for $record {
            const DOMAIN: Domain = Domain::$domain;
        }

        impl SignedBy for $record {
            fn signer(&self) -> &[u8; 32] {
                &self.$signer.0
            }
        }
    };
}

/// "I hold these states of this manifest, verified and fsynced, until then." Made after the local commit, never before.
///
/// Only receipts count: for W, for `replica_count`, for votes and in certificates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct StorageReceipt {
    /// What is held.
    pub manifest_hash: ManifestHash,
    /// Which states of it. `Decrypted` only after the wrap opened and the plaintext was hashed.
    pub states: StatesMask,
    /// Who holds it, and signs this.
    pub holder: NodeId,
    /// How long the holder stands by it.
    pub until: Timestamp,
}
impl StorageReceipt {
    /// Whether this receipt counts as a copy of `manifest`, whose hash is `hash`: it names that hash, only states that
    /// the group has, and at least all that any storage node may hold. A holder of a part is no holder.
    #[must_use]
    pub fn counts_for(&self, hash: &ManifestHash, manifest: &Manifest) -> bool {
        self.manifest_hash == *hash
            && manifest.states().covers(self.states)
            && self.states.covers(manifest.allowed(false))
            && !self.states.is_empty()
    }
}
signed_record!(StorageReceipt, SignedReceipt, Receipt, holder, "A receipt with its holder's signature.");

/// A content key wrapped to one reader (HPKE, RFC 9180).
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct WrapRecord {
    /// The group.
    pub group_id: GroupId,
    /// The version whose key this is.
    pub version: u64,
    /// The node that may read.
    pub recipient: NodeId,
    /// The key it was wrapped to.
    pub recipient_key: WrapKey,
    /// HPKE encapsulated key.
    pub enc: [u8; 32],
    /// HPKE ciphertext of the 32-byte content key.
    pub ciphertext: [u8; 48],
    /// The group's owner, who signs this.
    pub owner: OwnerKey,
}
signed_record!(WrapRecord, SignedWrap, Wrap, owner, "A wrap with the owner's signature.");

/// What a node does in the network; a set, one bit each. Decoding accepts what [`Roles::parse`] can produce, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, BorshSerialize)]
pub struct Roles(pub u8);

impl Roles {
    /// Holds durable copies.
    pub const STORAGE: Self = Self(1);
    /// Answers who has what.
    pub const INDEX: Self = Self(2);
    /// Votes.
    pub const VALIDATOR: Self = Self(4);
    /// Caches only; never counts as a replica.
    pub const EDGE: Self = Self(8);

    /// Every role with its word.
    pub const NAMED: [(Self, &'static str); 4] =
        [(Self::STORAGE, "storage"), (Self::INDEX, "index"), (Self::VALIDATOR, "validator"), (Self::EDGE, "edge")];

    /// Whether every role of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether copies at such a node count: it stores, and is no edge.
    #[must_use]
    pub const fn may_hold(self) -> bool {
        self.contains(Self::STORAGE) && !self.contains(Self::EDGE)
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The words of the roles in this set.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.into_iter().filter(move |(role, _)| self.contains(*role)).map(|(_, word)| word)
    }

    /// Parses a comma-separated list of words; an edge has no other role.
    ///
    /// # Errors
    /// Says which word is unknown, or that `edge` stands beside another role, or that there is none.
    pub fn parse(text: &str) -> Result<Self, ParseRolesError> {
        let mut roles = Self::default();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (role, _) = Self::NAMED
                .into_iter()
                .find(|(_, name)| *name == word)
                .ok_or_else(|| ParseRolesError::Unknown(word.to_owned()))?;
            roles = roles.union(role);
        }
        roles.checked()
    }

    /// This set, if it makes sense: at least one role, and an edge alone.
    fn checked(self) -> Result<Self, ParseRolesError> {
        match self {
            Self(0) => Err(ParseRolesError::Empty),
            _ if self.contains(Self::EDGE) && self != Self::EDGE => Err(ParseRolesError::EdgeBesideOthers),
            _ => Ok(self),
        }
    }
}

impl BorshDeserialize for Roles {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let roles = Self(u8::deserialize_reader(reader)?);
        let known = Self::NAMED.into_iter().fold(Self::default(), |all, (role, _)| all.union(role));
        if !known.contains(roles) {
            return Err(codec::invalid("unknown role bit"));
        }
        roles.checked().map_err(codec::invalid)
    }
}

/// A list of roles makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseRolesError {
    /// An unknown word.
    #[error("unknown role '{0}', expected a list of: storage, index, validator, or edge alone")]
    Unknown(String),
    /// Nothing.
    #[error("a node needs at least one role: storage, index, validator, or edge alone")]
    Empty,
    /// `edge` with others.
    #[error("an edge only caches and holds no copies, so 'edge' stands alone")]
    EdgeBesideOthers,
}

/// "This node belongs to the network." Signed by a validator; any node checks it offline with the roster chain.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct AdmissionRecord {
    /// Who is admitted.
    pub node: NodeId,
    /// Content keys are wrapped to this key.
    pub wrap_key: WrapKey,
    /// What the node does.
    pub roles: Roles,
    /// Whether owners grant it decrypted states by default.
    pub trusted: bool,
    /// Where it stands, widest first.
    pub region: BoundedString<32>,
    /// What it shares its fate with: copies of a group go to distinct zones.
    pub zone: BoundedString<64>,
    /// Share of the data it takes, relative to others; at least 1.
    pub weight: u16,
    /// When the node was first admitted, by the issuer's clock; orders who gets a seat, and tells newcomers. A renewal keeps it.
    pub admitted_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
    /// The epoch in whose roster the issuer sits.
    pub epoch: u64,
    /// The validator who admits, and signs this.
    pub issuer: NodeId,
    /// Chosen by the issuer, so that a node cannot choose its place.
    pub nonce: [u8; 16],
}
signed_record!(AdmissionRecord, SignedAdmission, Admission, issuer, "An admission with its issuer's signature.");

/// Why an admission record admits nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The epoch is newer than the chain that came with it.
    #[error("the record is of epoch {epoch}, which the roster chain does not reach")]
    UnknownEpoch {
        /// The epoch.
        epoch: u64,
    },
    /// The issuer held no seat.
    #[error("its issuer is no validator of epoch {epoch}")]
    IssuerNotValidator {
        /// The epoch.
        epoch: u64,
    },
    /// It has ended.
    #[error("it expired at {0}")]
    Expired(Timestamp),
    /// It holds for longer than any honest validator lets one.
    #[error("it would hold until {0}, longer than an admission may")]
    TooLong(Timestamp),
    /// A weight of zero: such a node could never be placed anything on.
    #[error("its weight is zero, at least 1 is needed")]
    Weight,
    /// Bad signature.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Checks an admission record against a verified chain at wall-clock time `now`. It ends at `expires_at`, that moment
/// included.
///
/// # Errors
/// The first defect found.
pub fn verify_admission(record: &SignedAdmission, chain: &VerifiedChain, now: Timestamp) -> Result<(), AdmissionError> {
    check_admission(record, chain)?;
    if record.body.expires_at <= now { Err(AdmissionError::Expired(record.body.expires_at)) } else { Ok(()) }
}

/// Checks all of an admission record that needs no clock.
///
/// The issuer needs a seat in the epoch that the record names, not in the newest one: a record outlives the seat of its
/// issuer until it expires or the node is banned.
///
/// # Errors
/// The first defect found; never [`AdmissionError::Expired`].
pub fn check_admission(record: &SignedAdmission, chain: &VerifiedChain) -> Result<(), AdmissionError> {
    let epoch = record.body.epoch;
    let roster = chain.roster(epoch).ok_or(AdmissionError::UnknownEpoch { epoch })?;
    if roster.seat_of(&record.body.issuer).is_none() {
        return Err(AdmissionError::IssuerNotValidator { epoch });
    }
    if record.body.weight == 0 {
        return Err(AdmissionError::Weight);
    }
    Ok(record.verify(&chain.genesis().network_id())?)
}

/// A promise to admit whoever shows it. Redeemed once per use with the inviter, who counts.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Invite {
    /// Random; the inviter counts its uses under it.
    pub id: [u8; 16],
    /// The validator who invites, and signs this.
    pub inviter: NodeId,
    /// Roles that the newcomer may take.
    pub roles: Roles,
    /// Whether the newcomer is trusted with decrypted states.
    pub trusted: bool,
    /// How often it may be redeemed.
    pub uses: u32,
    /// Until when.
    pub expires_at: Timestamp,
}
signed_record!(Invite, SignedInvite, Invite, inviter, "An invitation with the inviter's signature.");

/// A node's announcement of itself: where it is and what it offers. A newer sequence number replaces an older one.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct NodeRecord {
    /// Who speaks, and signs this.
    pub node: NodeId,
    /// Grows with every record; restarts go on from wall-clock milliseconds.
    pub seq: u64,
    /// Socket addresses (`ip:port`) to dial, best first.
    pub addrs: BoundedVec<BoundedString<64>, 8>,
    /// Program version.
    pub program: BoundedString<32>,
    /// Groups held.
    pub groups: u64,
    /// Bytes held.
    pub bytes: u64,
    /// Bytes that may be held in all.
    pub capacity: u64,
    /// Not to be believed after this; at most a day ahead.
    pub valid_until: Timestamp,
}
signed_record!(NodeRecord, SignedNodeRecord, NodeRecord, node, "An announcement with its node's signature.");

/// "This group is gone for good." Terminal: beats every version seen or unseen.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Tombstone {
    /// The group.
    pub group_id: GroupId,
    /// Its owner, who signs this.
    pub owner: OwnerKey,
    /// When the owner deleted it.
    pub deleted_at: Timestamp,
}
signed_record!(Tombstone, SignedTombstone, Tombstone, owner, "A tombstone with the owner's signature.");

/// A coordinator's decision about one replication transaction. Anyone may relay it; only the coordinator can make it.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Decision {
    /// The transaction.
    pub tx: TxId,
    /// The attempt that it decides.
    pub attempt: u32,
    /// The manifest it is about.
    pub manifest_hash: ManifestHash,
    /// Commit, or abort.
    pub commit: bool,
    /// Who decides, and signs this.
    pub coordinator: NodeId,
}
signed_record!(Decision, SignedDecision, Decision, coordinator, "A decision with its coordinator's signature.");
