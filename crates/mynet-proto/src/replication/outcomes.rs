//! What a participant remembers of transactions that are over, so that a late message gets the same answer again.
//!
//! **Invariant:** forgetting is always safe. A forgotten commit is answered `Gone` and prepared again from the bytes that are
//! here; a forgotten abort costs one reservation until its lease ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mynet_types::{GroupId, ManifestHash, Mono, SignedDecision, SignedReceipt, TxId};

/// Outcomes remembered at most, some 30 MiB. Doubling it doubles that; halving it lets 32,768 transactions a day push out
/// one that a peer still asks about.
pub(super) const REMEMBERED_MAX: usize = 65_536;

/// Rejected manifests remembered, two MiB with their order. With fewer a bad coordinator finds one sooner that takes bytes a second
/// time, until it is rejected again.
const REJECTED_MAX: usize = 16_384;

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
    /// Whose it is, if it was committed.
    group_id: Option<GroupId>,
    /// Its place among all outcomes, by when they were remembered.
    number: u64,
}

impl Outcome {
    pub(super) fn new(attempt: u32, ending: Ending, decision: Option<SignedDecision>, since: Mono) -> Self {
        Self { attempt, ending, decision, since, group_id: None, number: 0 }
    }

    /// The outcome of a transaction of this group.
    pub(super) fn of(self, group_id: GroupId) -> Self {
        Self { group_id: Some(group_id), ..self }
    }
}

/// All transactions that are over and not forgotten.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    by_tx: BTreeMap<TxId, Outcome>,
    by_manifest: BTreeMap<ManifestHash, TxId>,
    /// One entry for each outcome, whatever a coordinator has prepared and aborted how often.
    oldest_first: BTreeMap<u64, TxId>,
    /// Outcomes that were ever remembered.
    count: u64,
    /// Groups that are here in a later version than the first, and which.
    versions: BTreeMap<GroupId, u64>,
    rejected: BTreeSet<ManifestHash>,
    rejected_first: VecDeque<ManifestHash>,
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

    /// Another version of a group took the place of these here: their receipts are not given out again.
    pub(super) fn replaced(&mut self, group_id: &GroupId, by: &ManifestHash) {
        let by_tx = &self.by_tx;
        let of_group = |tx: &TxId| by_tx.get(tx).is_some_and(|outcome| outcome.group_id.as_ref() == Some(group_id));
        self.by_manifest.retain(|manifest, tx| manifest == by || !of_group(tx));
    }

    /// A later version of a group is visible here. Of more than [`REMEMBERED_MAX`] some are forgotten, of which the store finds out
    /// while staging.
    pub(super) fn shown(&mut self, group_id: GroupId, version: u64) {
        if self.versions.len() >= REMEMBERED_MAX && !self.versions.contains_key(&group_id) {
            self.versions.pop_first();
        }
        self.versions.insert(group_id, version);
    }

    /// The version of a group that is visible here, if it is a later one than the first and is remembered.
    pub(super) fn version(&self, group_id: &GroupId) -> Option<u64> {
        self.versions.get(group_id).copied()
    }

    /// The validators rejected a manifest: what was given for it is not given again, and it is not taken a second time.
    pub(super) fn reject(&mut self, manifest: ManifestHash) {
        let committed = |outcome: &Outcome| match &outcome.ending {
            Ending::Committed(receipt) => receipt.body.manifest_hash == manifest,
            Ending::Aborted => false,
        };
        let of_manifest = self.by_tx.iter().filter(|(_, outcome)| committed(outcome)).map(|(tx, _)| *tx);
        for tx in of_manifest.collect::<Vec<_>>() {
            self.reopen(&tx);
        }
        self.by_manifest.remove(&manifest);
        if self.rejected.insert(manifest) {
            self.rejected_first.push_back(manifest);
        }
        if self.rejected.len() > REJECTED_MAX
            && let Some(first) = self.rejected_first.pop_front()
        {
            self.rejected.remove(&first);
        }
    }

    /// Whether the validators rejected a manifest, as far as is remembered.
    pub(super) fn is_rejected(&self, manifest: &ManifestHash) -> bool {
        self.rejected.contains(manifest)
    }

    /// Remembers.
    pub(super) fn insert(&mut self, tx: TxId, mut outcome: Outcome) {
        self.reopen(&tx);
        self.count += 1;
        outcome.number = self.count;
        if let Ending::Committed(receipt) = &outcome.ending {
            self.by_manifest.insert(receipt.body.manifest_hash, tx);
        }
        self.oldest_first.insert(outcome.number, tx);
        self.by_tx.insert(tx, outcome);
    }

    /// Forgets the oldest outcome if there are more than [`REMEMBERED_MAX`].
    pub(super) fn overflow(&mut self) -> Option<TxId> {
        if self.by_tx.len() > REMEMBERED_MAX { self.forget_oldest(Mono(u64::MAX)) } else { None }
    }

    /// A transaction goes on with a higher attempt.
    pub(super) fn reopen(&mut self, tx: &TxId) {
        if let Some(outcome) = self.by_tx.remove(tx) {
            self.oldest_first.remove(&outcome.number);
        }
    }

    /// Forgets the oldest outcome if it is not younger than `before`.
    pub(super) fn forget_oldest(&mut self, before: Mono) -> Option<TxId> {
        let (number, tx) = self.oldest_first.first_key_value()?;
        let (number, tx) = (*number, *tx);
        if self.by_tx.get(&tx).is_some_and(|outcome| outcome.since > before) {
            return None;
        }
        self.oldest_first.remove(&number);
        if let Some(Outcome { ending: Ending::Committed(receipt), .. }) = self.by_tx.remove(&tx) {
            let manifest = receipt.body.manifest_hash;
            if self.by_manifest.get(&manifest) == Some(&tx) {
                self.by_manifest.remove(&manifest);
            }
        }
        Some(tx)
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{Mono, TxId};

    use super::{Ending, Outcome, Outcomes};

    /// Each round once left an entry behind, and only the number of transactions was bounded.
    #[test]
    fn a_transaction_prepared_and_aborted_again_and_again_is_remembered_once() {
        let (mut outcomes, tx) = (Outcomes::default(), TxId([1; 32]));
        for attempt in 0..1_000 {
            outcomes.reopen(&tx);
            outcomes.insert(tx, Outcome::new(attempt, Ending::Aborted, None, Mono(u64::from(attempt) / 10)));
        }
        assert_eq!((outcomes.oldest_first.len(), outcomes.by_tx.len()), (1, 1));
        assert_eq!(outcomes.forget_oldest(Mono(98)), None, "it ended later");
        assert_eq!(outcomes.forget_oldest(Mono(99)), Some(tx));
        assert_eq!((outcomes.oldest_first.len(), outcomes.by_tx.len()), (0, 0));
    }

    #[test]
    fn outcomes_are_forgotten_in_the_order_in_which_they_were_remembered() {
        let mut outcomes = Outcomes::default();
        for number in [3, 1, 2] {
            outcomes.insert(TxId([number; 32]), Outcome::new(1, Ending::Aborted, None, Mono(0)));
        }
        let order: Vec<_> = std::iter::from_fn(|| outcomes.forget_oldest(Mono(0))).collect();
        assert_eq!(order, [3, 1, 2].map(|number| TxId([number; 32])));
    }
}
