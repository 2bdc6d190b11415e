//! What a participant remembers of transactions that are over, so that a late message gets the same answer again.
//!
//! **Invariant:** forgetting is always safe. A forgotten commit is answered `Gone` and prepared again from the bytes that are
//! here; a forgotten abort costs one reservation until its lease ends.

use std::collections::{BTreeMap, VecDeque};

use mynet_types::{ManifestHash, Mono, SignedDecision, SignedReceipt, TxId};

/// Outcomes remembered at most, some 30 MiB. Doubling it doubles that; halving it lets 32,768 transactions a day push out
/// one that a peer still asks about.
pub(super) const REMEMBERED_MAX: usize = 65_536;

/// How a transaction ended.
#[derive(Debug, Clone)]
pub(super) enum Ending {
    /// The group became visible; the proof.
    Committed(SignedReceipt),
    /// It left nothing.
    Aborted,
}

/// A transaction that is over.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    /// The attempt it ended with.
    pub(super) attempt: u32,
    /// How.
    pub(super) ending: Ending,
    /// The decision, for others who ask; not kept over restarts.
    pub(super) decision: Option<SignedDecision>,
    since: Mono,
}

impl Outcome {
    pub(super) fn new(attempt: u32, ending: Ending, decision: Option<SignedDecision>, since: Mono) -> Self {
        Self { attempt, ending, decision, since }
    }
}

/// All transactions that are over and not forgotten.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    by_tx: BTreeMap<TxId, Outcome>,
    by_manifest: BTreeMap<ManifestHash, TxId>,
    oldest_first: VecDeque<(Mono, TxId)>,
}

impl Outcomes {
    pub(super) fn get(&self, tx: &TxId) -> Option<&Outcome> {
        self.by_tx.get(tx)
    }

    /// The receipt of a manifest that was committed here under any transaction.
    pub(super) fn receipt_for(&self, manifest: &ManifestHash) -> Option<&SignedReceipt> {
        match &self.by_tx.get(self.by_manifest.get(manifest)?)?.ending {
            Ending::Committed(receipt) => Some(receipt),
            Ending::Aborted => None,
        }
    }

    /// Remembers.
    pub(super) fn insert(&mut self, tx: TxId, outcome: Outcome) {
        if let Ending::Committed(receipt) = &outcome.ending {
            self.by_manifest.insert(receipt.body.manifest_hash, tx);
        }
        self.oldest_first.push_back((outcome.since, tx));
        self.by_tx.insert(tx, outcome);
    }

    /// Forgets the oldest outcome if there are more than [`REMEMBERED_MAX`].
    pub(super) fn overflow(&mut self) -> Option<TxId> {
        if self.by_tx.len() > REMEMBERED_MAX { self.forget_oldest(Mono(u64::MAX)) } else { None }
    }

    /// A transaction goes on with a higher attempt.
    pub(super) fn reopen(&mut self, tx: &TxId) {
        self.by_tx.remove(tx);
    }

    /// Forgets the oldest outcome if it is not younger than `before`.
    pub(super) fn forget_oldest(&mut self, before: Mono) -> Option<TxId> {
        while let Some((since, tx)) = self.oldest_first.pop_front_if(|(since, _)| *since <= before) {
            // An entry whose transaction ended again later, or goes on, stands for nothing.
            if self.by_tx.get(&tx).is_some_and(|outcome| outcome.since == since) {
                if let Some(Outcome { ending: Ending::Committed(receipt), .. }) = self.by_tx.remove(&tx) {
                    let manifest = receipt.body.manifest_hash;
                    if self.by_manifest.get(&manifest) == Some(&tx) {
                        self.by_manifest.remove(&manifest);
                    }
                }
                return Some(tx);
            }
        }
        None
    }
}
