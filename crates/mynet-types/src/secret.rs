//! Secrets that cross crates.

use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The Ed25519 secret of a vote key. Erased from memory when dropped.
///
/// It travels in records, which are logged whole at trace level. **Invariant:** it is never printed.
#[derive(Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize, Zeroize, ZeroizeOnDrop)]
pub struct VoteSecret(pub [u8; 32]);

impl fmt::Debug for VoteSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VoteSecret(..)")
    }
}
