//! Recovery: the next roster by the word of the offline keys, when the validators that should make it are lost.
//!
//! ```text
//!  node that shall sit -- OfferFile --+
//!  node that shall sit -- OfferFile --+--> RecoveryFile --> one recovery key --> another one --> any node with a seat in it
//!  certificates of heads -------------+      (offline)        (offline)         (offline)       (takes and spreads the link)
//! ```
//!
//! All of it is files, so that the keys never meet a network. Each file carries the genesis and the chain that it builds on:
//! whoever reads one needs nothing else, and sees what it is about before a key is used.
//!
//! 1. A seat of a recovered roster has a key that its node offered for exactly this place in the chain.
//! 2. (C6) Its close set is what the epoch carried, what each offering seat acked in it and proves, and what certificates
//!    beside the offers say: of each group the highest version. A node closes its epoch before it offers, so that nothing is
//!    acked after. What none of them knows is not carried: see [`Coverage`].
//! 3. A file with too few signatures is no link, and a signature is never over anything but the whole roster.
//!
//! This module does no IO. Source: the 2-of-3 offline keys of The Update Framework, "Survivable Key Compromise in Software
//! Update Systems" (2010), as root of trust above online keys.

use std::collections::BTreeMap;

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::SigningKey;

use crate::{
    AckedHead, BoundedVec, CarriedHead, CertificateFile, Domain, Genesis, GroupId, LinkError, ManifestHash, NodeId,
    Roster, RosterChain, RosterKey, RosterLink, Signable, Signature, Signed, SignedBy, SignerSet, SignerSetError,
    Timestamp, VALIDATORS_MAX, Verdict, VerifiedChain,
    certificate::{FileError, VerifyError, seal, unseal},
    head::{HeadSet, set_root},
    quorum::faulty_max,
    roster::{LinkProof, LinkRecovery, RECOVERY_QUORUM, check_form, verify_offers, verify_recovery_keys},
    signing,
    vote::is_head,
};

/// Starts every offer file.
const OFFER_MAGIC: &[u8; 8] = b"MYNETOFR";
/// Starts every recovery file.
const RECOVERY_MAGIC: &[u8; 8] = b"MYNETRCV";
/// Size of either file at most.
pub const RECOVERY_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Heads that a recovery carries at most: 19 MB. A network with more groups of several versions cannot be recovered by files.
pub const HEADS_MAX: usize = 262_144;
/// Heads that one node may have acked in the epoch: 26 MB with four validators. Epochs with more end before.
pub const ACKED_MAX: usize = 65_536;

/// Heads of a close set in a file.
pub type Heads = BoundedVec<CarriedHead, HEADS_MAX>;

/// What one node brings to a recovered roster.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RecoveryOffer {
    /// The fresh key for its seat. Names the epoch and the roster before it.
    pub key: RosterKey,
    /// The same as every other offer of a key, under [`Domain::RosterKey`]: it goes into the link.
    pub key_signature: Signature,
    /// Whether the node holds a seat in the roster before and knows all that its vote key signed, so that `acked` is complete.
    pub reports: bool,
    /// What it acked in that epoch, of each group the highest version; it closed the epoch before.
    pub acked: BoundedVec<AckedHead, ACKED_MAX>,
    /// What was carried into that epoch, if the node knows all of it.
    pub carried: Option<Heads>,
}

/// A recovery offer with its node's signature.
pub type SignedRecoveryOffer = Signed<RecoveryOffer>;

impl Signable for RecoveryOffer {
    const DOMAIN: Domain = Domain::RecoveryOffer;
}

impl SignedBy for RecoveryOffer {
    fn signer(&self) -> &[u8; 32] {
        &self.key.seat.node.0
    }
}

/// The file that `roster recover offer` writes on a node.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct OfferFile {
    /// How the network began.
    pub genesis: Genesis,
    /// The chain that the node knows.
    pub chain: RosterChain,
    /// What it offers.
    pub offer: SignedRecoveryOffer,
}

/// A recovered roster on its way: proposed, and signed by none, one or more of the offline keys.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct RecoveryFile {
    /// How the network began; names the keys that may sign.
    pub genesis: Genesis,
    /// The chain up to the roster that it follows.
    pub chain: RosterChain,
    /// The next roster.
    pub roster: Roster,
    /// Each seat's offer of its key, in their order.
    pub offers: BoundedVec<Signature, VALIDATORS_MAX>,
    /// The close set of that roster, by group.
    pub heads: Heads,
    /// Who signed; bit i stands for recovery key i.
    pub keys: SignerSet,
}

/// How much of the old roster stands behind a proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    /// Old seats that say what they acked.
    pub reported: usize,
    /// As many as must, so that every final version is among them although f of them lie: `n - q + f + 1`. With fewer, a
    /// version that only the lost ones acked may be missing, and must come by its certificate.
    pub needed: usize,
}

impl Coverage {
    /// Whether no certified version can be missing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.reported >= self.needed
    }
}

/// Why offers make no proposal.
#[derive(Debug, thiserror::Error)]
pub enum ProposeError {
    /// Nobody offers.
    #[error("a roster needs at least one offer")]
    NoOffers,
    /// More offers than seats.
    #[error("a roster has at most {VALIDATORS_MAX} seats")]
    TooManySeats,
    /// Offers of two networks.
    #[error("the offer of {node} is of another network")]
    OtherNetwork {
        /// Whose.
        node: NodeId,
    },
    /// The chain beside an offer is broken.
    #[error("the roster chain beside the offer of {node} is broken: {source}")]
    Chain {
        /// Whose offer.
        node: NodeId,
        /// Where.
        source: LinkError,
    },
    /// The offer is not by its node.
    #[error("the offer of {node} is not signed by that node")]
    Unsigned {
        /// Whose.
        node: NodeId,
    },
    /// It is for another epoch than the newest of all chains, or after another roster.
    #[error("the offer of {node} is for epoch {got}, but epoch {newest} is the newest that the offers know")]
    Stale {
        /// Whose.
        node: NodeId,
        /// What it is for.
        got: u64,
        /// The newest epoch.
        newest: u64,
    },
    /// One node offers two keys.
    #[error("{node} offers twice")]
    Twice {
        /// Who.
        node: NodeId,
    },
    /// The seats make no roster.
    #[error(transparent)]
    Roster(LinkError),
    /// A head that was acked does not prove itself.
    #[error("the offer of {node} names a version of group {group} that no quorum voted for")]
    Unproven {
        /// Whose offer.
        node: NodeId,
        /// The group.
        group: GroupId,
    },
    /// None of the offers knows what was carried into the epoch.
    #[error("none of the offers knows the {count} versions that epoch {epoch} carries")]
    CarriedUnknown {
        /// The epoch.
        epoch: u64,
        /// How many.
        count: u32,
    },
    /// More heads than a file holds.
    #[error("more than {HEADS_MAX} groups have later versions")]
    TooManyHeads,
    /// Two values of one version have a quorum.
    #[error("two values of version {version} of group {group} are proven: {one} and {other}")]
    Contradiction {
        /// The group.
        group: GroupId,
        /// The version.
        version: u64,
        /// One value.
        one: ManifestHash,
        /// The other.
        other: ManifestHash,
    },
    /// A certificate beside the offers does not stand.
    #[error("the certificate of group {group} does not stand: {source}")]
    Certificate {
        /// The group.
        group: GroupId,
        /// Why.
        source: VerifyError,
    },
}

/// Why a recovery file is not what it should be, or a key cannot sign it.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The chain in it is broken.
    #[error("the roster chain in the file is broken: {0}")]
    Chain(LinkError),
    /// The roster does not follow, a seat was not offered, or too few keys signed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The heads in it are not the close set of the roster.
    #[error("the versions in the file are not those that the roster names")]
    Heads,
    /// A signature in it is bad.
    #[error("a signature in the file is wrong: {0}")]
    Signature(SignerSetError),
    /// The key is none of the network's.
    #[error("this key is none of the three recovery keys of the network")]
    WrongKey,
    /// The key has signed.
    #[error("recovery key {} has signed this file already", .0 + 1)]
    SignedAlready(usize),
    /// The files are about two rosters.
    #[error("the files are about different rosters")]
    OtherRoster,
}

impl OfferFile {
    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        seal(OFFER_MAGIC, self)
    }

    /// Reads a file's bytes. Nothing is verified but the checksum.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        unseal((OFFER_MAGIC, "recovery offer"), bytes, RECOVERY_BYTES_MAX)
    }

    fn node(&self) -> NodeId {
        self.offer.body.key.seat.node
    }

    /// Checks the offer against the network of `genesis`, and gives the chain beside it.
    fn verify(&self, genesis: &Genesis) -> Result<VerifiedChain, ProposeError> {
        let (node, network) = (self.node(), genesis.network_id());
        if self.genesis != *genesis {
            return Err(ProposeError::OtherNetwork { node });
        }
        let key = &self.offer.body.key;
        let key_signed =
            signing::verify_as(Domain::RosterKey, &network, key, &node.0, &self.offer.body.key_signature).is_ok();
        if !key_signed || self.offer.verify(&network).is_err() {
            return Err(ProposeError::Unsigned { node });
        }
        VerifiedChain::verify(self.genesis.clone(), &self.chain).map_err(|source| ProposeError::Chain { node, source })
    }
}

/// The close set of a recovered roster in the making: what is certified stands above what was only acked.
struct Union {
    set: HeadSet,
    certified: BTreeMap<GroupId, u64>,
}

impl Union {
    fn add(&mut self, head: CarriedHead, certified: bool) -> Result<(), ProposeError> {
        let known = self.set.entry(head.group_id).or_insert(head);
        let known_certified = self.certified.get(&head.group_id) == Some(&known.version);
        if known.version == head.version && known.value != head.value {
            if certified == known_certified {
                let (group, one, other) = (head.group_id, known.value, head.value);
                return Err(ProposeError::Contradiction { group, version: head.version, one, other });
            }
            if certified {
                *known = head;
            }
        }
        if known.version < head.version {
            *known = head;
        }
        if certified && known.version == head.version {
            self.certified.insert(head.group_id, head.version);
        }
        Ok(())
    }
}

impl RecoveryFile {
    /// The roster of all who offer, after the newest roster that any of them knows, with what they and `certificates` say of
    /// heads; signed by nobody.
    ///
    /// # Errors
    /// The first defect found.
    pub fn propose(
        offers: &[OfferFile],
        certificates: &[CertificateFile],
        now: Timestamp,
    ) -> Result<(Self, Coverage), ProposeError> {
        let genesis = offers.first().ok_or(ProposeError::NoOffers)?.genesis.clone();
        let chains: Vec<_> = offers.iter().map(|offer| offer.verify(&genesis)).collect::<Result<_, _>>()?;
        let chain = newest_chain(&chains).ok_or(ProposeError::NoOffers)?;
        let old = chain.newest();
        let mut seats = BTreeMap::new();
        for file in offers {
            let (node, offer) = (file.node(), &file.offer.body);
            if offer.key.prev != old.hash() || Some(offer.key.epoch) != old.epoch.checked_add(1) {
                return Err(ProposeError::Stale { node, got: offer.key.epoch, newest: old.epoch });
            }
            if seats.values().any(|(other, _)| *other == node) {
                return Err(ProposeError::Twice { node });
            }
            seats.insert(offer.key.seat, (node, offer.key_signature));
        }
        let set = union(chain, offers, certificates)?;
        let roster = Roster {
            epoch: old.epoch + 1,
            prev: old.hash(),
            validators: seats
                .keys()
                .copied()
                .collect::<Vec<_>>()
                .try_into()
                .map_err(|_more| ProposeError::TooManySeats)?,
            valid_from: old.valid_from.max(now),
            close_set_root: set_root(set.values()),
            close_count: u32::try_from(set.len()).unwrap_or(u32::MAX),
        };
        check_form(old, &roster).map_err(ProposeError::Roster)?;
        let reported = offers.iter().filter(|file| file.offer.body.reports && old.seat_of(&file.node()).is_some());
        let (n, f) = (old.validators.len(), faulty_max(old.validators.len()));
        let accept = genesis.quorum(n).map_or(n, |quorum| quorum.accept());
        let coverage = Coverage { reported: reported.count(), needed: (n + f + 1 - accept).min(n) };
        let file = Self {
            chain: chain.up_to(old.epoch),
            roster,
            offers: BoundedVec::truncated(seats.into_values().map(|(_, signature)| signature)),
            heads: set.into_values().collect::<Vec<_>>().try_into().map_err(|_more| ProposeError::TooManyHeads)?,
            keys: SignerSet::collect([]),
            genesis,
        };
        Ok((file, coverage))
    }

    /// The file's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        seal(RECOVERY_MAGIC, self)
    }

    /// Reads a file's bytes. Nothing is verified but the checksum: see [`Self::check`].
    ///
    /// # Errors
    /// [`FileError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        unseal((RECOVERY_MAGIC, "recovery"), bytes, RECOVERY_BYTES_MAX)
    }

    /// Checks everything but that enough keys signed, and gives the chain that the roster follows.
    ///
    /// # Errors
    /// The first defect found.
    pub fn check(&self) -> Result<VerifiedChain, RecoveryError> {
        let chain = VerifiedChain::verify(self.genesis.clone(), &self.chain).map_err(RecoveryError::Chain)?;
        check_form(chain.newest(), &self.roster)?;
        verify_offers(&self.offers, &self.genesis.network_id(), &self.roster)?;
        let ascending = self.heads.is_sorted_by(|a, b| a.group_id < b.group_id);
        let counted = usize::try_from(self.roster.close_count) == Ok(self.heads.len());
        if !ascending || !counted || set_root(&self.heads) != self.roster.close_set_root {
            return Err(RecoveryError::Heads);
        }
        verify_recovery_keys(&self.keys, 0, &self.genesis, &self.roster).map_err(RecoveryError::Signature)?;
        Ok(chain)
    }

    /// Signs with one of the offline keys, and tells which it is, from 0.
    ///
    /// # Errors
    /// As [`Self::check`]; [`RecoveryError::WrongKey`] and [`RecoveryError::SignedAlready`]. The file is unchanged then.
    pub fn sign(&mut self, key: &SigningKey) -> Result<usize, RecoveryError> {
        self.check()?;
        let public = key.verifying_key().to_bytes();
        let found = self.genesis.recovery_keys.iter().position(|known| *known == public);
        let index = found.ok_or(RecoveryError::WrongKey)?;
        if self.keys.seats().any(|seat| seat == index) {
            return Err(RecoveryError::SignedAlready(index));
        }
        let signature = signing::sign_as(Domain::Recovery, &self.genesis.network_id(), &self.roster, key);
        self.keys = SignerSet::collect(self.signatures().chain([(index, signature)]));
        Ok(index)
    }

    /// Takes the signatures of another file about the same roster. Those on both are taken once.
    ///
    /// # Errors
    /// [`RecoveryError::OtherRoster`], or as [`Self::check`] of either file.
    pub fn combine(&mut self, other: &Self) -> Result<(), RecoveryError> {
        if self.roster != other.roster || self.genesis != other.genesis {
            return Err(RecoveryError::OtherRoster);
        }
        self.check()?;
        other.check()?;
        self.keys = SignerSet::collect(self.signatures().chain(other.signatures()));
        Ok(())
    }

    fn signatures(&self) -> impl Iterator<Item = (usize, Signature)> {
        self.keys.seats().zip(self.keys.signatures.iter().copied())
    }

    /// Signatures that are still missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        RECOVERY_QUORUM.saturating_sub(self.keys.seats().count())
    }

    /// The link that it is, once enough keys signed.
    #[must_use]
    pub fn link(&self) -> RosterLink {
        let proof = LinkProof::Recovery(LinkRecovery { keys: self.keys.clone(), offers: self.offers.clone() });
        RosterLink { roster: self.roster.clone(), proof }
    }
}

/// The chain that is the newest of all: the longest, but where a recovery overrules it.
fn newest_chain(chains: &[VerifiedChain]) -> Option<&VerifiedChain> {
    chains.iter().reduce(|best, chain| if chain.supersedes(best) { chain } else { best })
}

/// What was carried, what the offering nodes acked, and what is certified: of each group the highest version.
fn union(
    chain: &VerifiedChain,
    offers: &[OfferFile],
    certificates: &[CertificateFile],
) -> Result<HeadSet, ProposeError> {
    let old = chain.newest();
    let complete =
        |heads: &Heads| usize::try_from(old.close_count) == Ok(heads.len()) && set_root(heads) == old.close_set_root;
    let nothing = Heads::new();
    let known = offers.iter().filter_map(|file| file.offer.body.carried.as_ref()).chain([&nothing]);
    let carried = known.into_iter().find(|heads| complete(heads));
    let (epoch, count) = (old.epoch, old.close_count);
    let carried = carried.ok_or(ProposeError::CarriedUnknown { epoch, count })?;
    let mut union = Union { set: HeadSet::new(), certified: BTreeMap::new() };
    for head in carried {
        union.add(*head, true)?;
    }
    for file in certificates {
        let (manifest, statement) = (&file.manifest.body, &file.certificate.statement);
        let (group, version) = (manifest.group_id, manifest.version);
        file.verify_under(chain).map_err(|source| ProposeError::Certificate { group, source })?;
        if statement.verdict == Verdict::Accept && is_head(version) {
            union.add(CarriedHead { group_id: group, version, value: statement.value }, true)?;
        }
    }
    for file in offers {
        for head in file.offer.body.acked.iter().filter(|_| !crate::planted!(RecoveryForgetsAcked)) {
            if !head.is_proven(chain.genesis(), old) {
                return Err(ProposeError::Unproven { node: file.node(), group: head.group_id });
            }
            union.add(head.carried(), false)?;
        }
    }
    Ok(union.set)
}
