//! Genesis, rosters and their chain: whose votes count.
//!
//! A roster is the set of validators of one epoch. Each is linked to the one before it by hash and by the votes of the
//! old set, so a verifier that knows only the genesis can walk to any epoch. Vote keys are fresh in every roster and the
//! old ones erased, so a key stolen later cannot rewrite an earlier epoch. The chain enforces that no key of the roster
//! directly before is used again; keys of older epochs are their bearers' business, because a vote names its epoch.
//!
//! Two of the three offline keys in the genesis may put another roster after any, whatever the old set says: the last resort
//! if too many of it are lost. Such a link says so. Where votes led elsewhere in the same epoch, the recovery holds, unless the
//! votes went on from there: then the old set was not lost (see [`VerifiedChain::overruled_by`]).
//!
//! A link proves that the vote keys of both sets agreed. That a seat's key was offered by the seat's node is checked by
//! the old set before it signs (see [`RosterKey`]) and is not in the chain: node ids are as good as the old quorum. A recovery
//! has no old set, so it shows the offers.
//!
//! **Invariant:** from three validators on, a link needs a quorum of the old and of the new set, changes at most
//! `max(1, f)` seats and leaves at least three; below three it needs everybody, adds exactly one node and removes none.
//! Source: FastPay committees; Tor directory consensus for the pinned genesis.

use std::collections::BTreeSet;

use borsh::{BorshDeserialize, BorshSerialize};

use crate::{
    BoundedString, BoundedVec, Domain, NetworkId, NodeId, Quorum, RosterHash, Signable, Signature, Signed, SignedBy,
    Timestamp, VALIDATORS_MAX, VoteKey, codec, quorum::faulty_max, signing,
};

/// Version of the genesis encoding.
pub const GENESIS_FORMAT: u16 = 1;
/// Links of a chain at most; at one change a week that is twenty years.
pub const LINKS_OF_CHAIN_MAX: usize = 1024;

/// Recovery keys that must sign a recovery, of the three in the genesis.
pub const RECOVERY_QUORUM: usize = 2;

/// How a network begins. Its hash is the network's id, so nothing in it can change later.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Genesis {
    /// [`GENESIS_FORMAT`]; decoding refuses others.
    #[borsh(deserialize_with = "codec::read_format::<_, GENESIS_FORMAT>")]
    pub format: u16,
    /// The network's name, for people.
    pub name: BoundedString<64>,
    /// When it was founded.
    pub created_at: Timestamp,
    /// Least accept votes of any certificate, a floor under the computed quorum.
    pub min_quorum: u16,
    /// Whether one or two validators may certify, in class `small`.
    pub allow_degraded_quorum: bool,
    /// Two of these three offline Ed25519 keys may replace a stuck roster.
    pub recovery_keys: [[u8; 32]; 3],
    /// The first validator.
    pub founder: Validator,
    /// Makes two networks of one name and second different.
    pub salt: [u8; 32],
}

impl Genesis {
    /// The network's id.
    #[must_use]
    pub fn network_id(&self) -> NetworkId {
        NetworkId(codec::digest(self))
    }

    /// The roster of epoch 0: the founder alone.
    #[must_use]
    pub fn first_roster(&self) -> Roster {
        Roster {
            epoch: 0,
            prev: RosterHash(self.network_id().0),
            validators: BoundedVec::truncated([self.founder]),
            valid_from: self.created_at,
            close_set_root: [0; 32],
            close_count: 0,
        }
    }

    /// The quorums of a roster of `validators` in this network; `None` if it cannot certify.
    #[must_use]
    pub fn quorum(&self, validators: usize) -> Option<Quorum> {
        Quorum::of(validators, usize::from(self.min_quorum), self.allow_degraded_quorum)
    }
}

/// One seat of a roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, BorshSerialize, BorshDeserialize)]
pub struct Validator {
    /// Signs votes of this epoch only.
    pub vote_key: VoteKey,
    /// The node that holds it.
    pub node: NodeId,
}

/// The validators of one epoch.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Roster {
    /// 0 at genesis, then one more per link.
    pub epoch: u64,
    /// Hash of the roster before; the network id at epoch 0.
    pub prev: RosterHash,
    /// Seats, sorted by vote key, each node and key once.
    pub validators: BoundedVec<Validator, VALIDATORS_MAX>,
    /// When the proposer made it.
    pub valid_from: Timestamp,
    /// Merkle root of the certificates that the old epoch carries over; zero while there are none to carry.
    pub close_set_root: [u8; 32],
    /// How many those are.
    pub close_count: u32,
}

impl Roster {
    /// SHA-256 of the encoding.
    #[must_use]
    pub fn hash(&self) -> RosterHash {
        RosterHash(codec::digest(self))
    }

    /// The seat of `node`.
    #[must_use]
    pub fn seat_of(&self, node: &NodeId) -> Option<usize> {
        self.validators.iter().position(|validator| validator.node == *node)
    }

    /// The nodes that hold a seat.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.validators.iter().map(|validator| validator.node)
    }

    /// Whether seats are sorted by vote key and no node or key appears twice.
    fn is_well_formed(&self) -> bool {
        let nodes: BTreeSet<_> = self.nodes().collect();
        !self.validators.is_empty()
            && nodes.len() == self.validators.len()
            && self.validators.is_sorted_by(|a, b| a.vote_key < b.vote_key)
    }
}

/// Signatures of some seats of one roster over one text, in seat order.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct SignerSet {
    /// Bit i stands for seat i.
    pub seats: u64,
    /// One signature per bit, lowest seat first.
    pub signatures: BoundedVec<Signature, VALIDATORS_MAX>,
}

/// Why a set of signatures does not stand for a quorum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignerSetError {
    /// A bit stands for no seat of the roster.
    #[error("a signature stands for a seat that the roster does not have")]
    NoSuchSeat,
    /// Bits and signatures differ in number.
    #[error("{seats} seats are named but {signatures} signatures given")]
    Count {
        /// Bits set.
        seats: usize,
        /// Signatures present.
        signatures: usize,
    },
    /// Fewer signatures than needed.
    #[error("{got} signatures, {need} are needed")]
    TooFew {
        /// Signatures present.
        got: usize,
        /// Signatures needed.
        need: usize,
    },
    /// One signature does not verify.
    #[error("the signature of seat {seat} does not verify")]
    Signature {
        /// The seat.
        seat: usize,
    },
}

impl SignerSet {
    /// Collects `(seat, signature)` pairs; seats out of range and repeats are dropped.
    #[must_use]
    pub fn collect(signatures: impl IntoIterator<Item = (usize, Signature)>) -> Self {
        let sorted: std::collections::BTreeMap<usize, Signature> =
            signatures.into_iter().filter(|(seat, _)| *seat < VALIDATORS_MAX).collect();
        let seats = sorted.keys().fold(0, |bits, seat| bits | 1 << seat);
        Self { seats, signatures: BoundedVec::truncated(sorted.into_values()) }
    }

    /// The seats that signed, lowest first.
    pub fn seats(&self) -> impl Iterator<Item = usize> {
        let bits = self.seats;
        (0..VALIDATORS_MAX).filter(move |seat| bits & 1 << seat != 0)
    }

    /// Checks that at least `need` distinct seats of `validators` signed `body` under `domain`, and nobody else did.
    ///
    /// Signatures beyond `need` are welcome and are all checked, so every one that is present is good.
    ///
    /// # Errors
    /// The first defect found; see [`SignerSetError`].
    pub fn verify<T: BorshSerialize>(
        &self,
        validators: &[Validator],
        need: usize,
        under: (Domain, &NetworkId),
        body: &T,
    ) -> Result<(), SignerSetError> {
        self.verify_by(|seat| Some(validators.get(seat)?.vote_key.0), need, under, body)
    }

    /// Checks that at least `need` distinct signers signed `body`, each with its key by `key_of`.
    fn verify_by<T: BorshSerialize>(
        &self,
        key_of: impl Fn(usize) -> Option<[u8; 32]>,
        need: usize,
        (domain, network): (Domain, &NetworkId),
        body: &T,
    ) -> Result<(), SignerSetError> {
        let seats: Vec<usize> = self.seats().collect();
        if seats.len() != self.signatures.len() {
            return Err(SignerSetError::Count { seats: seats.len(), signatures: self.signatures.len() });
        }
        if seats.len() < need {
            return Err(SignerSetError::TooFew { got: seats.len(), need });
        }
        for (seat, signature) in seats.into_iter().zip(&self.signatures) {
            let key = key_of(seat).ok_or(SignerSetError::NoSuchSeat)?;
            signing::verify_as(domain, network, body, &key, signature)
                .map_err(|_bad| SignerSetError::Signature { seat })?;
        }
        Ok(())
    }
}

/// One step of the chain: the next roster, and what makes it so.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RosterLink {
    /// The next roster.
    pub roster: Roster,
    /// Who says so.
    pub proof: LinkProof,
}

/// What makes a roster the next one.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub enum LinkProof {
    /// Both sets agreed.
    Votes(LinkVotes),
    /// The offline keys overruled the old set.
    Recovery(LinkRecovery),
}

/// The old set's votes for a roster and the new set's consent.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LinkVotes {
    /// Votes by seats of the roster before, under [`Domain::Roster`].
    pub old: SignerSet,
    /// Consent by its own seats, under [`Domain::RosterAccept`].
    pub new: SignerSet,
}

/// The word of the offline keys for a roster, and the offers of all its seats.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct LinkRecovery {
    /// Signatures by recovery keys of the genesis, under [`Domain::Recovery`]; bit i stands for key i.
    pub keys: SignerSet,
    /// Each seat's offer of its vote key by its node, in their order, under [`Domain::RosterKey`].
    pub offers: BoundedVec<Signature, VALIDATORS_MAX>,
}

/// Why a link does not follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Not the next epoch, or not linked to the roster before.
    #[error("epoch {epoch} does not follow the roster before it")]
    NotNext {
        /// The epoch claimed.
        epoch: u64,
    },
    /// Seats unsorted, repeated or absent.
    #[error("the seats of epoch {epoch} are not sorted, or repeat, or are absent")]
    Malformed {
        /// The epoch.
        epoch: u64,
    },
    /// More seats change than one link may change.
    #[error("epoch {epoch} changes {changes} seats, at most {max} may change at once")]
    TooManyChanges {
        /// The epoch.
        epoch: u64,
        /// Seats added and removed.
        changes: usize,
        /// Seats that may change.
        max: usize,
    },
    /// A roster below three does not grow by exactly one seat, or a larger one would fall below three.
    #[error("epoch {epoch} does not grow a roster of fewer than three seats by exactly one, or shrinks one to fewer")]
    BelowThree {
        /// The epoch.
        epoch: u64,
    },
    /// A vote key of the old roster is used again.
    #[error("epoch {epoch} uses a vote key again")]
    KeyReused {
        /// The epoch.
        epoch: u64,
    },
    /// The old set did not agree.
    #[error("epoch {epoch}: the old roster did not agree: {source}")]
    Old {
        /// The epoch.
        epoch: u64,
        /// What is wrong with the votes.
        source: SignerSetError,
    },
    /// The new set did not agree.
    #[error("epoch {epoch}: the new roster did not agree: {source}")]
    New {
        /// The epoch.
        epoch: u64,
        /// What is wrong with the consent.
        source: SignerSetError,
    },
    /// Too few of the offline keys signed.
    #[error("epoch {epoch}: the recovery keys did not sign: {source}")]
    Recovery {
        /// The epoch.
        epoch: u64,
        /// What is wrong with their signatures.
        source: SignerSetError,
    },
    /// A seat of a recovered roster has a key that its node did not offer.
    #[error("epoch {epoch}: {node} did not offer the key of its seat")]
    NotOffered {
        /// The epoch.
        epoch: u64,
        /// Who holds the seat.
        node: NodeId,
    },
}

/// Signatures that the link from `old` to `next` needs from each side.
#[must_use]
pub fn link_quorums(genesis: &Genesis, old: &Roster, next: &Roster) -> (usize, usize) {
    let need = |roster: &Roster| match genesis.quorum(roster.validators.len()) {
        Some(quorum) if !quorum.is_degraded() => quorum.accept(),
        Some(_) | None => roster.validators.len(),
    };
    // Growing from below three, everybody must agree on both sides.
    if old.validators.len() < 3 { (old.validators.len(), next.validators.len()) } else { (need(old), need(next)) }
}

/// Checks that `next` may follow `old` by votes: as [`check_form`], and few enough changes. No signature is checked.
///
/// # Errors
/// The first rule broken.
pub fn check_succession(old: &Roster, next: &Roster) -> Result<(), LinkError> {
    check_form(old, next)?;
    let epoch = next.epoch;
    let (before, after): (BTreeSet<_>, BTreeSet<_>) = (old.nodes().collect(), next.nodes().collect());
    let (added, removed) = (after.difference(&before).count(), before.difference(&after).count());
    let n = old.validators.len();
    let (changes, max) = (added + removed, if n < 3 { 1 } else { faulty_max(n).max(1) });
    if changes > max {
        return Err(LinkError::TooManyChanges { epoch, changes, max });
    }
    let grows = added == 1 && removed == 0;
    let large = n >= 3 && next.validators.len() >= 3;
    if grows || large { Ok(()) } else { Err(LinkError::BelowThree { epoch }) }
}

/// Checks what holds for every roster after `old`, voted or recovered: epoch, hash, form and fresh keys.
///
/// # Errors
/// The first rule broken.
pub fn check_form(old: &Roster, next: &Roster) -> Result<(), LinkError> {
    let epoch = next.epoch;
    if old.epoch.checked_add(1) != Some(epoch) || next.prev != old.hash() {
        return Err(LinkError::NotNext { epoch });
    }
    if !next.is_well_formed() {
        return Err(LinkError::Malformed { epoch });
    }
    let old_keys: BTreeSet<_> = old.validators.iter().map(|validator| validator.vote_key).collect();
    if next.validators.iter().any(|validator| old_keys.contains(&validator.vote_key)) {
        return Err(LinkError::KeyReused { epoch });
    }
    Ok(())
}

impl RosterLink {
    /// A link that both sets agreed to.
    #[must_use]
    pub fn voted(roster: Roster, old: SignerSet, new: SignerSet) -> Self {
        Self { roster, proof: LinkProof::Votes(LinkVotes { old, new }) }
    }

    /// Whether the offline keys made it.
    #[must_use]
    pub fn is_recovery(&self) -> bool {
        matches!(self.proof, LinkProof::Recovery(_))
    }

    /// Checks that this link follows `old`: rules and signatures.
    ///
    /// # Errors
    /// The first defect found.
    pub fn verify(&self, genesis: &Genesis, old: &Roster) -> Result<(), LinkError> {
        match &self.proof {
            LinkProof::Votes(votes) => votes.verify(genesis, old, &self.roster),
            LinkProof::Recovery(recovery) => recovery.verify(genesis, old, &self.roster),
        }
    }
}

impl LinkVotes {
    fn verify(&self, genesis: &Genesis, old: &Roster, next: &Roster) -> Result<(), LinkError> {
        check_succession(old, next)?;
        let network = genesis.network_id();
        let epoch = next.epoch;
        let (need_old, need_new) = link_quorums(genesis, old, next);
        self.old
            .verify(&old.validators, need_old, (Domain::Roster, &network), next)
            .map_err(|source| LinkError::Old { epoch, source })?;
        self.new
            .verify(&next.validators, need_new, (Domain::RosterAccept, &network), next)
            .map_err(|source| LinkError::New { epoch, source })
    }
}

impl LinkRecovery {
    fn verify(&self, genesis: &Genesis, old: &Roster, next: &Roster) -> Result<(), LinkError> {
        check_form(old, next)?;
        let epoch = next.epoch;
        let need = if planted!(RecoveryByOneKey) { 1 } else { RECOVERY_QUORUM };
        verify_recovery_keys(&self.keys, need, genesis, next)
            .map_err(|source| LinkError::Recovery { epoch, source })?;
        verify_offers(&self.offers, &genesis.network_id(), next)
    }
}

/// Checks that at least `need` different recovery keys signed `next`, and that all signatures present are good.
pub(crate) fn verify_recovery_keys(
    signers: &SignerSet,
    need: usize,
    genesis: &Genesis,
    next: &Roster,
) -> Result<(), SignerSetError> {
    let keys = &genesis.recovery_keys;
    signers.verify_by(|seat| keys.get(seat).copied(), need, (Domain::Recovery, &genesis.network_id()), next)?;
    // A genesis may name one key twice; it is one key all the same.
    let different: BTreeSet<_> = signers.seats().filter_map(|seat| keys.get(seat)).collect();
    if different.len() < need { Err(SignerSetError::TooFew { got: different.len(), need }) } else { Ok(()) }
}

/// Checks that the node of every seat of `next` offered its key for exactly this place in the chain, with no offer besides.
pub(crate) fn verify_offers(offers: &[Signature], network: &NetworkId, next: &Roster) -> Result<(), LinkError> {
    let epoch = next.epoch;
    for (index, seat) in next.validators.iter().enumerate() {
        let offer = RosterKey { epoch, prev: next.prev, seat: *seat };
        let offered = offers.get(index).is_some_and(|signature| {
            signing::verify_as(Domain::RosterKey, network, &offer, &seat.node.0, signature).is_ok()
        });
        if !offered {
            return Err(LinkError::NotOffered { epoch, node: seat.node });
        }
    }
    if offers.len() == next.validators.len() { Ok(()) } else { Err(LinkError::Malformed { epoch }) }
}

/// All links after the genesis, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, BorshSerialize, BorshDeserialize)]
pub struct RosterChain {
    /// Link i leads to epoch i+1.
    pub links: BoundedVec<RosterLink, LINKS_OF_CHAIN_MAX>,
}

/// A chain whose every link was checked; answers who may sign in which epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedChain {
    genesis: Genesis,
    rosters: Vec<Roster>,
    links: Vec<RosterLink>,
}

impl VerifiedChain {
    /// The chain of a new network.
    #[must_use]
    pub fn new(genesis: Genesis) -> Self {
        Self { rosters: vec![genesis.first_roster()], genesis, links: Vec::new() }
    }

    /// Checks every link of `chain`.
    ///
    /// # Errors
    /// The first link that does not follow.
    pub fn verify(genesis: Genesis, chain: &RosterChain) -> Result<Self, LinkError> {
        let mut verified = Self::new(genesis);
        for link in &chain.links {
            verified.extend(link.clone())?;
        }
        Ok(verified)
    }

    /// Checks and appends the next link.
    ///
    /// # Errors
    /// As [`RosterLink::verify`]; the chain is unchanged then.
    pub fn extend(&mut self, link: RosterLink) -> Result<(), LinkError> {
        link.verify(&self.genesis, self.newest())?;
        self.rosters.push(link.roster.clone());
        self.links.push(link);
        Ok(())
    }

    /// The chain that `links` lead to instead of this one, and the last epoch that both share; `None` if they do not leave
    /// this chain, or what is here holds. Where two chains part, that depends on the links after it alone, so whoever knows
    /// both chains follows the same:
    /// - a recovery holds against one voted link: that was made by a set that nobody could rely on, and known to few;
    /// - votes hold against a recovery once a second link follows them: the set was not lost, and the recovery a mistake;
    /// - of two recoveries the one with the smaller roster hash holds;
    /// - of two voted links neither: more than f validators are bad, and whoever was first stays.
    ///
    /// `links` are consecutive; those after the first bad one are left out.
    #[must_use]
    pub fn overruled_by(&self, links: &[RosterLink]) -> Option<(u64, Self)> {
        let (index, own) = self.divergence(links)?;
        let (shared, leaving) = (own.roster.epoch - 1, links.split_at(index).1);
        let votes_only = !own.is_recovery() && !leaving.first()?.is_recovery();
        if votes_only {
            return None;
        }
        let kept = usize::try_from(shared).ok()?;
        let (rosters, links) = (self.rosters.get(..=kept)?.to_vec(), self.links.get(..kept)?.to_vec());
        let mut fork = Self { genesis: self.genesis.clone(), rosters, links };
        for link in leaving {
            if fork.extend(link.clone()).is_err() {
                break;
            }
        }
        outranks(fork.after(shared), self.after(shared)).then_some((shared, fork))
    }

    /// The chain that `links` lead to: from the end of this one, or where they overrule it. What is known already is not
    /// verified again.
    ///
    /// # Errors
    /// The first link that does not follow.
    pub fn followed(&self, links: &[RosterLink]) -> Result<Self, LinkError> {
        let mut chain = self.overruled_by(links).map_or_else(|| self.clone(), |(_, fork)| fork);
        for link in links {
            if link.roster.epoch > chain.newest().epoch {
                chain.extend(link.clone())?;
            }
        }
        Ok(chain)
    }

    /// Whether this chain takes the place of `other`: it overrules it, or is longer and is not overruled by it.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        let longer = self.newest().epoch > other.newest().epoch;
        other.overruled_by(&self.links).is_some() || (longer && self.overruled_by(&other.links).is_none())
    }

    /// The first of `links` that leads to another roster than the link of its epoch here, by its index, and that link.
    #[must_use]
    pub fn divergence(&self, links: &[RosterLink]) -> Option<(usize, &RosterLink)> {
        links.iter().enumerate().find_map(|(index, link)| {
            let own = self.links.get(usize::try_from(link.roster.epoch.checked_sub(1)?).ok()?)?;
            (own.roster != link.roster).then_some((index, own))
        })
    }

    /// The epochs that began by recovery, oldest first.
    pub fn recoveries(&self) -> impl Iterator<Item = u64> {
        self.links.iter().filter(|link| link.is_recovery()).map(|link| link.roster.epoch)
    }

    /// The genesis.
    #[must_use]
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The newest roster.
    #[must_use]
    pub fn newest(&self) -> &Roster {
        self.rosters.last().expect("a chain holds at least the roster of epoch 0")
    }

    /// The roster of `epoch`.
    #[must_use]
    pub fn roster(&self, epoch: u64) -> Option<&Roster> {
        self.rosters.get(usize::try_from(epoch).ok()?)
    }

    /// The chain for the wire, up to and including `epoch`.
    #[must_use]
    pub fn up_to(&self, epoch: u64) -> RosterChain {
        let count = usize::try_from(epoch).unwrap_or(usize::MAX);
        RosterChain { links: BoundedVec::truncated(self.links.iter().take(count).cloned()) }
    }

    /// The links after `epoch`, oldest first.
    #[must_use]
    pub fn after(&self, epoch: u64) -> &[RosterLink] {
        let count = usize::try_from(epoch).unwrap_or(usize::MAX).min(self.links.len());
        self.links.split_at(count).1
    }
}

/// Whether the links `theirs` hold against `ours`, which lead to another roster from the same one on; see
/// [`VerifiedChain::overruled_by`].
fn outranks(theirs: &[RosterLink], ours: &[RosterLink]) -> bool {
    let (Some(their), Some(our)) = (theirs.first(), ours.first()) else { return false };
    match (their.is_recovery(), our.is_recovery()) {
        (true, true) => their.roster.hash() < our.roster.hash(),
        (true, false) => ours.len() < 2,
        (false, true) => theirs.len() >= 2,
        (false, false) => false,
    }
}

/// A fresh vote key that a node offers for its seat in the next roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RosterKey {
    /// The epoch that the key is for.
    pub epoch: u64,
    /// Hash of the roster before that epoch.
    pub prev: RosterHash,
    /// The seat offered.
    pub seat: Validator,
}

/// An offered vote key with its node's signature.
pub type SignedRosterKey = Signed<RosterKey>;

impl Signable for RosterKey {
    const DOMAIN: Domain = Domain::RosterKey;
}

impl SignedBy for RosterKey {
    fn signer(&self) -> &[u8; 32] {
        &self.seat.node.0
    }
}
