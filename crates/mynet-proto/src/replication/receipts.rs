//! Receipts of one manifest: who proved to hold it.
//!
//! **Invariant:** a receipt is in a set only after its signature verified and it named the set's manifest; one per holder.

use std::collections::BTreeMap;

use mynet_types::{
    BoundedVec, ManifestHash, NetworkId, NodeId, SignatureError, SignedReceipt, StatesMask, Timestamp, wire::Receipts,
};

/// Why a receipt does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// It is about something else.
    #[error("the receipt names manifest {0}")]
    OtherManifest(ManifestHash),
    /// It has ended.
    #[error("the receipt ended at {0}")]
    Expired(Timestamp),
    /// States are missing that a holder must hold.
    #[error("the receipt covers {got:?}, not {want:?}")]
    States {
        /// States named.
        got: StatesMask,
        /// States needed.
        want: StatesMask,
    },
    /// Its holder did not sign it.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// Checks one receipt for `manifest_hash` at wall-clock time `now`.
///
/// # Errors
/// The first defect found, the signature last because it costs most.
pub fn verify_receipt(
    receipt: &SignedReceipt,
    manifest_hash: &ManifestHash,
    want: StatesMask,
    (network, now): (&NetworkId, Timestamp),
) -> Result<(), ReceiptError> {
    let body = &receipt.body;
    if body.manifest_hash != *manifest_hash {
        return Err(ReceiptError::OtherManifest(body.manifest_hash));
    }
    if body.until <= now {
        return Err(ReceiptError::Expired(body.until));
    }
    if !body.states.covers(want) {
        return Err(ReceiptError::States { got: body.states, want });
    }
    Ok(receipt.verify(network)?)
}

/// Verified receipts of one manifest.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceiptSet(BTreeMap<NodeId, SignedReceipt>);

impl ReceiptSet {
    /// Takes a receipt in; of two by one holder, the one that lasts longer stays. Says whether the set changed.
    pub(super) fn merge(&mut self, receipt: &SignedReceipt) -> bool {
        let longer = self.0.get(&receipt.body.holder).is_none_or(|known| known.body.until < receipt.body.until);
        if longer {
            self.0.insert(receipt.body.holder, receipt.clone());
        }
        longer
    }

    /// Keeps the receipts of the holders for which `counts` holds.
    pub(super) fn retain(&mut self, counts: impl Fn(&NodeId) -> bool) {
        self.0.retain(|holder, _| counts(holder));
    }

    /// The receipt of `holder`, if it still stands.
    pub(super) fn of(&self, holder: &NodeId, now: Timestamp) -> Option<&SignedReceipt> {
        self.0.get(holder).filter(|receipt| receipt.body.until > now)
    }

    /// Whether `holder` had a receipt that ended.
    pub(super) fn ended(&self, holder: &NodeId, now: Timestamp) -> bool {
        self.0.get(holder).is_some_and(|receipt| receipt.body.until <= now)
    }

    /// Holders whose receipts still stand.
    pub(super) fn holders(&self, now: Timestamp) -> impl Iterator<Item = NodeId> {
        self.0.iter().filter(move |(_, receipt)| receipt.body.until > now).map(|(holder, _)| *holder)
    }

    /// How many those are.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        self.holders(now).count()
    }

    /// The receipts that still stand, as messages and events carry them.
    pub(super) fn to_wire(&self, now: Timestamp) -> Receipts {
        BoundedVec::truncated(self.0.values().filter(|receipt| receipt.body.until > now).cloned())
    }
}
