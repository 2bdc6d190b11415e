//! What all parts of the core look at: who this node is, the roster chain, vote keys, and who is admitted and reachable.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, Holding, Manifest, ManifestHash, NetworkId, NodeId, Quorum, Roster, SignedAdmission, SignedReceipt,
    Timestamp, VerifiedChain, certificate::RECEIPTS_MAX, wire::Receipts,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::io::Config;

/// A vote key of this node. Its secret is wiped from memory when it is dropped.
pub(super) struct EpochKey {
    /// The key.
    pub(super) key: SigningKey,
    /// Whether it is on disk; before that nobody hears of it.
    pub(super) durable: bool,
}

/// State that more than one part of the core reads.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) me: NodeId,
    pub(super) node_key: SigningKey,
    pub(super) network: NetworkId,
    pub(super) chain: VerifiedChain,
    /// By epoch: the newest one's, and the next one's if it was offered.
    pub(super) keys: BTreeMap<u64, EpochKey>,
    pub(super) admitted: BTreeMap<NodeId, SignedAdmission>,
    pub(super) up: BTreeSet<NodeId>,
    rng: ChaCha20Rng,
}

impl Shared {
    pub(super) fn new(config: Config, node_key: SigningKey, chain: VerifiedChain, seed: [u8; 32]) -> Self {
        Self {
            config,
            me: NodeId(node_key.verifying_key().to_bytes()),
            node_key,
            network: chain.genesis().network_id(),
            chain,
            keys: BTreeMap::new(),
            admitted: BTreeMap::new(),
            up: BTreeSet::new(),
            rng: ChaCha20Rng::from_seed(seed),
        }
    }

    /// The newest roster.
    pub(super) fn roster(&self) -> &Roster {
        self.chain.newest()
    }

    /// The quorums of the newest roster; `None` if it cannot certify.
    pub(super) fn quorum(&self) -> Option<Quorum> {
        self.chain.genesis().quorum(self.roster().validators.len())
    }

    /// This node's seat in the newest roster with the key that votes there, if both are here.
    pub(super) fn voting_key(&self) -> Option<(usize, &SigningKey)> {
        let roster = self.roster();
        let seat = roster.seat_of(&self.me)?;
        let key = &self.keys.get(&roster.epoch)?.key;
        let voted_with = roster.validators.get(seat)?.vote_key;
        (voted_with.0 == key.verifying_key().to_bytes()).then_some((seat, key))
    }

    /// Takes note of an admission; of two, the one that lasts longer counts.
    pub(super) fn admit(&mut self, admission: SignedAdmission) {
        let node = admission.body.node;
        let until = |known: &SignedAdmission| known.body.expires_at;
        if self.admitted.get(&node).is_none_or(|known| until(known) < until(&admission)) {
            self.admitted.insert(node, admission);
        }
    }

    /// Whether `node` belongs to the network: by an admission that has not expired, or by a seat in the newest roster.
    pub(super) fn is_member(&self, node: &NodeId, wall: Timestamp) -> bool {
        let admitted = self.admitted.get(node).is_some_and(|admission| admission.body.expires_at > wall);
        admitted || self.roster().seat_of(node).is_some()
    }

    /// Whether a copy at `node` counts: a member that was admitted to hold copies.
    fn may_hold(&self, node: &NodeId, wall: Timestamp) -> bool {
        let admitted = self.admitted.get(node).is_some_and(|admission| admission.body.roles.may_hold());
        admitted && self.is_member(node, wall)
    }

    /// What a certificate says of the copies that `receipts` show.
    pub(super) fn holdings(&self, receipts: &Receipts) -> BoundedVec<Holding, RECEIPTS_MAX> {
        BoundedVec::truncated(receipts.iter().filter_map(|receipt| {
            let admission = self.admitted.get(&receipt.body.holder)?.clone();
            Some(Holding { receipt: receipt.clone(), admission })
        }))
    }

    /// The receipts among `receipts` that count now for `manifest`: right hash, all states that any holder may keep,
    /// unexpired, of distinct members, well signed; sorted by holder, of two of one holder the longer one.
    pub(super) fn counting_receipts<'a>(
        &self,
        receipts: impl IntoIterator<Item = &'a SignedReceipt>,
        (hash, manifest): (&ManifestHash, &Manifest),
        wall: Timestamp,
    ) -> Receipts {
        let mut by_holder: BTreeMap<NodeId, &SignedReceipt> = BTreeMap::new();
        for receipt in receipts {
            let body = &receipt.body;
            let longer = by_holder.get(&body.holder).is_none_or(|known| known.body.until < body.until);
            let counts = body.counts_for(hash, manifest) && body.until > wall && self.may_hold(&body.holder, wall);
            if longer && counts && receipt.verify(&self.network).is_ok() {
                by_holder.insert(body.holder, receipt);
            }
        }
        BoundedVec::truncated(by_holder.into_values().cloned())
    }

    /// Random bytes.
    pub(super) fn random<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.rng.fill_bytes(&mut bytes);
        bytes
    }

    /// `base` and up to a fifth more, so that nodes that began together do not go on together.
    pub(super) fn jittered(&mut self, base: Duration) -> Duration {
        let share = u32::from_be_bytes(self.random()) % 1000;
        base + base / 5 * share / 1000
    }

    /// One of the peers that are up, for gossip.
    pub(super) fn any_peer(&mut self) -> Option<NodeId> {
        let count = u32::try_from(self.up.len()).ok().filter(|count| *count > 0)?;
        let index = u32::from_be_bytes(self.random()) % count;
        self.up.iter().nth(index as usize).copied()
    }
}
