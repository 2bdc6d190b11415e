//! Evidence: two signatures of one seat that no honest validator gives together.
//!
//! It proves itself: whoever knows the roster of the epoch can check it, whoever it came from. What is not signed in a
//! vote (the proposal that asked, the reason of a no) is not in it, and the smaller statement comes first, so one pair of
//! signatures makes one record.
//!
//! **Invariant:** two claims about one value are no evidence, nor are votes of different epochs, rounds or slots: an honest
//! validator gives them.
//! Source: Buterin and Griffith, "Casper the Friendly Finality Gadget" (2017), for violations that prove themselves.

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    Domain, NetworkId, NodeId, Roster, Signature, SignatureError, SlotKey, Verdict, Vote, VoteStatement, signing,
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
