//! What all parts of the core look at: who this node is, the roster chain, vote keys, and who is admitted and reachable.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, Holding, Manifest, ManifestHash, Mono, NetworkId, NodeId, Quorum, Roster, SignedAdmission,
    SignedReceipt, Timestamp, VerifiedChain, VoteSecret, certificate::RECEIPTS_MAX, quorum::faulty_max, wire::Receipts,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use super::{evidence::Known, heads::Heads, io::Config, owners::Owners};

/// A vote key of this node. Its secret is wiped from memory when it is dropped.
pub(super) struct EpochKey {
    /// The key.
    pub(super) key: SigningKey,
    /// Whether it is on disk; before that nobody hears of it.
    pub(super) durable: bool,
    /// Whether it was there when this node started, so that it may have signed what the store does not know.
    pub(super) restored: bool,
}

impl EpochKey {
    /// A key that the store held at the start.
    pub(super) fn restored(secret: &VoteSecret) -> Self {
        Self { key: SigningKey::from_bytes(&secret.0), durable: true, restored: true }
    }

    /// A key made just now.
    pub(super) fn fresh(key: SigningKey) -> Self {
        Self { key, durable: false, restored: false }
    }
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
    /// Which seats contradicted themselves.
    pub(super) evidence: Known,
    /// Which owners signed two manifests for one version.
    pub(super) owners: Owners,
    /// Nodes whom the operator of this one wants to have a seat.
    pub(super) approved: BTreeSet<NodeId>,
    /// Seats that say that they have no key to vote with.
    wishes: BTreeSet<NodeId>,
    /// When a seat got a fresh key while it wished for one: the last time, and the one before. A wish that was told while the
    /// key was on its way that was lost is not granted by it, and nobody else can tell; so one time is let pass.
    renewed: BTreeMap<NodeId, Renewals>,
    /// Since when a peer cannot be reached.
    down_since: BTreeMap<NodeId, Mono>,
    started: Mono,
    /// Seats that have said what they hold of this node's votes in the newest epoch.
    pub(super) confirmed: BTreeSet<NodeId>,
    /// What binds this node's votes on heads.
    pub(super) heads: Heads,
    rng: ChaCha20Rng,
}

/// The last two times that a seat got a fresh key while it wished for one.
#[derive(Debug, Clone, Copy)]
struct Renewals {
    last: Mono,
    before: Option<Mono>,
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
            evidence: Known::default(),
            owners: Owners::default(),
            approved: BTreeSet::new(),
            wishes: BTreeSet::new(),
            renewed: BTreeMap::new(),
            down_since: BTreeMap::new(),
            started: Mono(0),
            confirmed: BTreeSet::new(),
            heads: Heads::default(),
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

    /// Whether this node's key may have signed what its store does not know, and too few others were asked yet.
    pub(super) fn in_doubt(&self) -> bool {
        let roster = self.roster();
        let restored = self.keys.get(&roster.epoch).is_some_and(|key| key.restored) && self.voting_key().is_some();
        let others = roster.validators.len() - 1;
        restored && self.confirmed.len() < others.min(faulty_max(roster.validators.len()) + 1)
    }

    /// Whether this node has a seat in the newest roster and no key to vote with.
    pub(super) fn wants_key(&self) -> bool {
        self.roster().seat_of(&self.me).is_some() && self.voting_key().is_none()
    }

    /// A node says whether it lacks a key for its seat in `epoch`.
    pub(super) fn note_wish(&mut self, node: NodeId, epoch: u64, wants_key: bool) {
        if wants_key && epoch == self.roster().epoch && self.roster().seat_of(&node).is_some() {
            self.wishes.insert(node);
        } else {
            self.wishes.remove(&node);
        }
    }

    /// Whether a seat lacks a key, and has not been given two for the same reason a short while ago; or this node closed the
    /// epoch, so that heads wait for the next one whatever it is for.
    pub(super) fn renewal_due(&self, now: Mono) -> bool {
        if self.heads.closed().is_some() {
            return true;
        }
        let own = Some(self.me).filter(|_| self.wants_key());
        let interval = self.config.renewal_interval;
        let had_two = |node: &NodeId| {
            self.renewed.get(node).and_then(|times| times.before).is_some_and(|at| now.since(at) < interval)
        };
        self.wishes.iter().chain(own.iter()).any(|node| !had_two(node))
    }

    /// Another epoch began: whoever has a seat in it has a fresh key. `wished` tells whether this node lacked one.
    pub(super) fn roster_changed(&mut self, now: Mono, wished: bool) {
        let newest = self.chain.newest();
        let wishes = std::mem::take(&mut self.wishes).into_iter().chain(Some(self.me).filter(|_| wished));
        for node in wishes {
            let before = self.renewed.get(&node).map(|times| times.last);
            self.renewed.insert(node, Renewals { last: now, before });
        }
        self.renewed.retain(|node, _| newest.seat_of(node).is_some());
        self.keys.retain(|epoch, _| *epoch >= newest.epoch);
        self.confirmed.clear();
    }

    /// The approvals that have had their effect: their nodes have a seat.
    pub(super) fn take_seated_approvals(&mut self) -> BTreeSet<NodeId> {
        let seated: BTreeSet<NodeId> = self.roster().nodes().collect();
        let (spent, open) = std::mem::take(&mut self.approved).into_iter().partition(|node| seated.contains(node));
        self.approved = open;
        spent
    }

    /// Begins to count how long peers are away.
    pub(super) fn start(&mut self, now: Mono) {
        self.started = now;
    }

    /// A peer can be reached, or no longer.
    pub(super) fn note_peer(&mut self, node: NodeId, up: bool, now: Mono) {
        if up {
            self.up.insert(node);
            self.down_since.remove(&node);
        } else if self.up.remove(&node) {
            self.down_since.insert(node, now);
        }
    }

    /// Whether this node could not reach `node` for so long that its seat need not be waited for.
    pub(super) fn is_away(&self, node: &NodeId, now: Mono) -> bool {
        let since = self.down_since.get(node).copied().unwrap_or(self.started);
        *node != self.me && !self.up.contains(node) && now.since(since) >= self.config.seat_patience
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
        if mynet_types::planted!(ReceiptsCountedTwice) {
            return BoundedVec::truncated(receipts.into_iter().cloned());
        }
        let mut by_holder: BTreeMap<NodeId, &SignedReceipt> = BTreeMap::new();
        for receipt in receipts {
            let body = &receipt.body;
            let longer = by_holder.get(&body.holder).is_none_or(|known| known.body.until < body.until);
            let about = body.counts_for(hash, manifest) || mynet_types::planted!(ForeignManifestCounted);
            let lasts = body.until > wall || mynet_types::planted!(ExpiredReceiptCounted);
            let counts = about && lasts && self.may_hold(&body.holder, wall);
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
        let index = self.below(self.up.len())?;
        self.up.iter().nth(index).copied()
    }

    /// One of the other seats that are up.
    pub(super) fn any_seat(&mut self) -> Option<NodeId> {
        let seats: Vec<NodeId> = self.roster().nodes().filter(|node| self.up.contains(node)).collect();
        let index = self.below(seats.len())?;
        seats.get(index).copied()
    }

    /// A random index into `len` things.
    fn below(&mut self, len: usize) -> Option<usize> {
        let count = u32::try_from(len).ok().filter(|count| *count > 0)?;
        usize::try_from(u32::from_be_bytes(self.random()) % count).ok()
    }
}
