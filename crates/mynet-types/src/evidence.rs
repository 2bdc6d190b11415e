//! Evidence: two signatures of one key that nobody honest gives together.
//!
//! It proves itself. Against a validator it is two votes: whoever knows the roster of the epoch can check it, whoever it came
//! from. What is not signed in a vote (the proposal that asked, the reason of a no) is not in it. Against an owner it is two
//! manifests for one version of a group, by their hashes: whoever knows the network can check it. The smaller one comes
//! first, so one pair of signatures makes one record.
//!
//! **Invariant:** two claims about one value are no evidence, nor are votes of different epochs, rounds or slots: an honest
//! validator gives them. Nor is anything about a first version: its group id is the hash of itself, so of two manifests at
//! most one is what it says, and validators reject the other one.
//! Source: Buterin and Griffith, "Casper the Friendly Finality Gadget" (2017), for violations that prove themselves.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Domain, GroupId, ManifestHash, NetworkId, NodeId, OwnerKey, OwnerStatement, Roster, Signature, SignatureError,
    Signed, SignedOwnerStatement, SlotKey, Verdict, Vote, VoteStatement, signing, vote::is_head,
};

/// What a seat signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignedStatement {
    /// The statement.
    pub statement: VoteStatement,
    /// By the vote key of the seat.
    pub signature: Signature,
}

/// Two statements of one seat that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Evidence {
    /// The seat in the roster that both statements name.
    pub seat: u16,
    /// The smaller statement.
    pub first: SignedStatement,
    /// The larger one.
    pub second: SignedStatement,
}

/// The signature of an owner under a manifest, which is named by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OwnerSignature {
    /// The manifest.
    pub manifest_hash: ManifestHash,
    /// By the owner key, over the [`OwnerStatement`].
    pub signature: Signature,
}

/// Two manifests that one owner signed as one version of a group. An owner keeps what it signed until that is decided and
/// signs no second one; it does so only if it means to, runs twice, or goes on from a backup that is older than its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OwnerEvidence {
    /// Who signed both.
    pub owner: OwnerKey,
    /// The group.
    pub group_id: GroupId,
    /// The version, 2 and up.
    pub version: u64,
    /// The manifest with the smaller hash.
    pub first: OwnerSignature,
    /// The other one.
    pub second: OwnerSignature,
}

/// Why a record accuses nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// It names another roster than the one of its epoch.
    #[error("it names a roster that is not the one of its epoch")]
    OtherRoster,
    /// The roster has no such seat.
    #[error("the roster has no such seat")]
    NoSuchSeat,
    /// An honest validator gives both.
    #[error("the two statements do not contradict each other")]
    NoContradiction,
    /// It is about a first version, of which a group cannot have two.
    #[error("a group has only one first version")]
    FirstVersion,
    /// The statements are in the other order, so that this would be a second record of one pair.
    #[error("the two statements are not in order")]
    Order,
    /// A signature does not verify.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Whether no honest validator makes both: two values accepted in one slot, or yes and no to one value.
#[must_use]
pub fn contradict(a: &VoteStatement, b: &VoteStatement) -> bool {
    let same_slot = (a.epoch, a.roster, a.phase, a.slot) == (b.epoch, b.roster, b.phase, b.slot);
    let both_accept = a.verdict == Verdict::Accept && b.verdict == Verdict::Accept;
    same_slot && if a.value == b.value { a.verdict != b.verdict } else { both_accept }
}

impl Evidence {
    /// What two votes prove; `None` if they are of two seats or do not contradict each other. Their signatures are not
    /// checked here.
    #[must_use]
    pub fn of(one: &Vote, other: &Vote) -> Option<Self> {
        if one.seat != other.seat || !contradict(&one.statement, &other.statement) {
            return None;
        }
        let (first, second) = if one.statement <= other.statement { (one, other) } else { (other, one) };
        let signed = |vote: &Vote| SignedStatement { statement: vote.statement, signature: vote.signature };
        Some(Self { seat: one.seat, first: signed(first), second: signed(second) })
    }

    /// The epoch in which both were signed.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.first.statement.epoch
    }

    /// The slot in which they contradict each other.
    #[must_use]
    pub fn slot(&self) -> SlotKey {
        self.first.statement.slot
    }

    /// Checks everything against the roster of its epoch, signatures last, and names the node that held the seat.
    ///
    /// # Errors
    /// The first defect found.
    pub fn verify(&self, network: &NetworkId, roster: &Roster) -> Result<NodeId, EvidenceError> {
        let (first, second) = (&self.first.statement, &self.second.statement);
        if !contradict(first, second) {
            return Err(EvidenceError::NoContradiction);
        }
        if first > second {
            return Err(EvidenceError::Order);
        }
        let validator = roster.validators.get(usize::from(self.seat)).ok_or(EvidenceError::NoSuchSeat)?;
        if first.epoch != roster.epoch || first.roster != roster.hash() {
            return Err(EvidenceError::OtherRoster);
        }
        for signed in [&self.first, &self.second] {
            let key = &validator.vote_key.0;
            signing::verify_as(Domain::Vote, network, &signed.statement, key, &signed.signature)?;
        }
        Ok(validator.node)
    }
}

impl OwnerEvidence {
    /// What two statements prove; `None` if they are of two owners, groups or versions, of one manifest, or of a first version.
    /// Their signatures are not checked here.
    #[must_use]
    pub fn of(one: &SignedOwnerStatement, other: &SignedOwnerStatement) -> Option<Self> {
        let about = |signed: &SignedOwnerStatement| (signed.body.owner, signed.body.group_id, signed.body.version);
        let (owner, group_id, version) = about(one);
        if about(other) != (owner, group_id, version)
            || one.body.manifest_hash == other.body.manifest_hash
            || !is_head(version)
        {
            return None;
        }
        let signed = |signed: &SignedOwnerStatement| OwnerSignature {
            manifest_hash: signed.body.manifest_hash,
            signature: signed.signature,
        };
        let (first, second) =
            if one.body.manifest_hash < other.body.manifest_hash { (one, other) } else { (other, one) };
        Some(Self { owner, group_id, version, first: signed(first), second: signed(second) })
    }

    /// The two statements, the one with the smaller hash first.
    #[must_use]
    pub fn statements(&self) -> [SignedOwnerStatement; 2] {
        let Self { owner, group_id, version, first, second } = *self;
        [first, second].map(|OwnerSignature { manifest_hash, signature }| Signed {
            body: OwnerStatement { group_id, version, manifest_hash, owner },
            signature,
        })
    }

    /// Checks everything, signatures last. It needs nothing but the network.
    ///
    /// # Errors
    /// The first defect found.
    pub fn verify(&self, network: &NetworkId) -> Result<(), EvidenceError> {
        if !is_head(self.version) {
            return Err(EvidenceError::FirstVersion);
        }
        match self.first.manifest_hash.cmp(&self.second.manifest_hash) {
            std::cmp::Ordering::Less => {}
            std::cmp::Ordering::Equal => return Err(EvidenceError::NoContradiction),
            std::cmp::Ordering::Greater => return Err(EvidenceError::Order),
        }
        for signed in self.statements() {
            signed.verify(network)?;
        }
        Ok(())
    }
}
