//! A network with every key in the hands of its enemy, but for those of one node: the victim.

use std::{collections::BTreeMap, sync::LazyLock};

use ed25519_dalek::SigningKey;
use mynet_proto::{
    consensus::io as consensus,
    node::{Config, Identity, NodeCore, Restored},
    replication::io::{self as replication, Mode, Publication},
};
use mynet_types::{
    AdmissionRecord, BlobRef, BoundedVec, ContentId, ContentState, ContentType, DecryptedClass, Details, Domain,
    Genesis, GroupId, Link, Manifest, Member, NetworkId, NodeId, OwnerKey, Protection, RelationshipKind, Roles, Roster,
    RosterLink, SignedAdmission, SignedManifest, SignedReceipt, SignedWrap, SignerSet, StorageReceipt, Timestamp,
    Validator, VerifiedChain, VoteKey, VoteSecret, WrapKey, WrapRecord,
    manifest::{Aead, MANIFEST_FORMAT},
    roster::GENESIS_FORMAT,
    signing::{Signable, Signed, SignedBy, sign_as},
    wire::SealedBytes,
};
use sha2::{Digest, Sha256};

/// When the victim starts.
pub(crate) const NOON: Timestamp = Timestamp(1_767_323_045_678);
/// Nodes with a seat; node 0 is the victim.
const SEATS: u64 = 4;
/// Admitted nodes: the seats, one that stores, and one that waits for a seat.
pub(crate) const MEMBERS: u64 = 6;
/// All nodes with a key; those beyond the members are strangers.
const NODES: u64 = 8;
/// The member that waits for a seat.
pub(crate) const NEWCOMER: u64 = 5;
/// Ten years: nothing here expires by itself.
const LONG: std::time::Duration = std::time::Duration::from_secs(10 * 365 * 86_400);

/// Everybody, and what owners made.
pub(crate) struct Cast {
    genesis: Genesis,
    pub(crate) network: NetworkId,
    /// Epochs 0 to 3, one seat more in each.
    pub(crate) chain: VerifiedChain,
    /// All nodes, the victim first, the strangers last.
    pub(crate) nodes: Vec<NodeId>,
    /// Keys of nodes and owners, by their public half; the victim's is not among them.
    keys: BTreeMap<[u8; 32], SigningKey>,
    pub(crate) admissions: Vec<SignedAdmission>,
    /// Groups that are in order: private with and without a grant for the victim, and public.
    pub(crate) publications: Vec<Publication>,
}

/// Made once; signing takes its time.
pub(crate) static CAST: LazyLock<Cast> = LazyLock::new(Cast::new);

fn key(name: &str, number: u64) -> SigningKey {
    SigningKey::from_bytes(&Sha256::digest(format!("{name} {number}")).into())
}

fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

/// One of the three offline keys.
pub(crate) fn recovery_key(number: u64) -> SigningKey {
    key("recovery", number)
}

/// The vote key of a node in an epoch.
pub(crate) fn vote_key(epoch: u64, node: &NodeId) -> SigningKey {
    key(&format!("vote {node}"), epoch)
}

/// The seat of a node in an epoch.
pub(crate) fn seat(epoch: u64, node: NodeId) -> Validator {
    Validator { vote_key: VoteKey(public(&vote_key(epoch, &node))), node }
}

/// The roster of `seats` after `prev`.
pub(crate) fn roster_after(prev: &Roster, mut seats: Vec<Validator>) -> Roster {
    seats.sort();
    Roster {
        epoch: prev.epoch + 1,
        prev: prev.hash(),
        validators: BoundedVec::truncated(seats),
        valid_from: NOON,
        close_set_root: [0; 32],
        close_count: 0,
    }
}

impl Cast {
    fn new() -> Self {
        let node_keys: Vec<_> = (0..NODES).map(|number| key("node", number)).collect();
        let nodes: Vec<_> = node_keys.iter().map(|key| NodeId(public(key))).collect();
        let owner = key("owner", 0);
        let genesis = Genesis {
            format: GENESIS_FORMAT,
            name: "besieged".try_into().expect("a short name"),
            created_at: NOON,
            min_quorum: 3,
            allow_degraded_quorum: true,
            recovery_keys: [0, 1, 2].map(|number| public(&recovery_key(number))),
            founder: seat(0, nodes[0]),
            salt: [7; 32],
        };
        let enemies = node_keys.iter().skip(1).chain([&owner]);
        let mut cast = Self {
            network: genesis.network_id(),
            chain: VerifiedChain::new(genesis.clone()),
            genesis,
            keys: enemies.map(|key| (public(key), key.clone())).collect(),
            nodes,
            admissions: Vec::new(),
            publications: Vec::new(),
        };
        cast.admissions = (0..MEMBERS).map(|number| cast.admission(number, &node_keys[0])).collect();
        cast.publications = (0..3).map(|number| cast.publication(number, &owner)).collect();
        for size in 2..=SEATS {
            let seats = (0..size).map(|number| seat(size - 1, cast.nodes[number as usize])).collect();
            let link = cast.full_link(cast.chain.newest(), roster_after(cast.chain.newest(), seats));
            cast.chain.extend(link).expect("an honest step follows");
        }
        cast
    }

    /// A link that everybody signed, the victim too: history.
    fn full_link(&self, old: &Roster, roster: Roster) -> RosterLink {
        let sign = |of: &Roster, domain| {
            SignerSet::collect(of.validators.iter().enumerate().map(|(number, seat)| {
                (number, sign_as(domain, &self.network, &roster, &vote_key(of.epoch, &seat.node)))
            }))
        };
        let (old, new) = (sign(old, Domain::Roster), sign(&roster, Domain::RosterAccept));
        RosterLink::voted(roster, old, new)
    }

    fn admission(&self, number: u64, founder: &SigningKey) -> SignedAdmission {
        let storage = Roles::STORAGE.union(Roles::INDEX);
        let body = AdmissionRecord {
            node: self.nodes[number as usize],
            wrap_key: WrapKey([number as u8; 32]),
            roles: if number == SEATS { storage } else { storage.union(Roles::VALIDATOR) },
            trusted: number.is_multiple_of(2),
            region: "region".try_into().expect("a short name"),
            zone: format!("zone {number}").try_into().expect("a short name"),
            weight: 1,
            admitted_at: NOON,
            expires_at: NOON.after(LONG),
            epoch: 0,
            issuer: self.nodes[0],
            nonce: [0; 16],
        };
        Signed::new(&self.network, body, founder)
    }

    /// Group `number`: private, private and granted to the victim, public.
    fn publication(&self, number: u8, owner: &SigningKey) -> Publication {
        let public_content = number == 2;
        let sealed = if public_content { SealedBytes::default() } else { SealedBytes::truncated([number; 40]) };
        let ids = [1, 2].map(|member| ContentId([number * 8 + member; 16]));
        let blob = |bytes: &[u8]| Some(BlobRef::of(bytes));
        let root = if public_content { ContentState::Decrypted } else { ContentState::Encrypted };
        let mut members = vec![Member { content_id: ids[0], state: root, blob: blob(&[number; 99]), mime: None }];
        let mut links = Vec::new();
        if !public_content {
            members.push(Member { content_id: ids[1], state: ContentState::Decrypted, blob: None, mime: None });
            links.push(Link { parent: ids[0], child: ids[1], kind: RelationshipKind::Decrypted });
        }
        let details = Details {
            content_type: ContentType::Audio,
            mime: "audio/flac".try_into().expect("a short name"),
            filename: "song.flac".try_into().expect("a short name"),
            tags: BoundedVec::default(),
        };
        let sealed_hash = Sha256::digest(&*sealed).into();
        let algorithm = Aead::ChaCha20Poly1305;
        let (key_commitment, decrypted_commitment) = ([11; 32], [12; 32]);
        let mut manifest = Manifest {
            format: MANIFEST_FORMAT,
            group_id: GroupId([0; 32]),
            version: 1,
            prev: None,
            owner: OwnerKey(public(owner)),
            created_at: NOON,
            placement_seed: [number; 32],
            replicas: 3,
            quorum: 2,
            members: BoundedVec::truncated(members),
            links: BoundedVec::truncated(links),
            class: if public_content { DecryptedClass::Public } else { DecryptedClass::Granted },
            protection: if public_content {
                Protection::Open { details }
            } else {
                Protection::Sealed {
                    key_version: 1,
                    algorithm,
                    salt: [10; 16],
                    key_commitment,
                    decrypted_commitment,
                    sealed_hash,
                }
            },
        };
        manifest.group_id = manifest.derive_group_id();
        let manifest = SignedManifest::new(&self.network, manifest, owner);
        let readers = if number == 1 { &self.nodes[..2] } else { &[] };
        let wraps = BoundedVec::truncated(readers.iter().map(|reader| self.wrap(&manifest.body, *reader)));
        Publication { manifest, sealed, wraps, mode: Mode::Quorum, replicas: 3, head: None }
    }

    /// A wrap of a group's key, by its owner.
    fn wrap(&self, manifest: &Manifest, recipient: NodeId) -> SignedWrap {
        let body = WrapRecord {
            group_id: manifest.group_id,
            version: manifest.version,
            recipient,
            recipient_key: WrapKey([0; 32]),
            enc: [22; 32],
            ciphertext: [23; 48],
            owner: manifest.owner,
        };
        let mut wrap = Signed { body, signature: mynet_types::Signature([0; 64]) };
        self.sign(&mut wrap);
        wrap
    }

    /// A receipt of `holder` for a group.
    pub(crate) fn receipt(&self, manifest: &Manifest, holder: NodeId) -> SignedReceipt {
        let states = manifest.allowed(false);
        let body = StorageReceipt { manifest_hash: manifest.hash(), states, holder, until: NOON.after(LONG) };
        let mut receipt = Signed { body, signature: mynet_types::Signature([0; 64]) };
        self.sign(&mut receipt);
        receipt
    }

    /// Signs a record with the key that it names, if the enemy has that key.
    pub(crate) fn sign<T: Signable + SignedBy + Clone>(&self, record: &mut Signed<T>) {
        if let Some(key) = self.keys.get(record.body.signer()) {
            *record = Signed::new(&self.network, record.body.clone(), key);
        }
    }

    /// The victim, as it begins from its disks.
    pub(crate) fn victim(&self, config: Config) -> NodeCore {
        let identity = Identity { node_key: key("node", 0), genesis: self.genesis.clone() };
        let epoch = self.chain.newest().epoch;
        let secret = VoteSecret(vote_key(epoch, &self.nodes[0]).to_bytes());
        let votes = consensus::Restored {
            links: self.chain.after(0).to_vec(),
            keys: BTreeMap::from([(epoch, secret)]),
            may_vote: true,
            ..consensus::Restored::default()
        };
        let restored =
            Restored { consensus: votes, replication: replication::Restored { boot: 1, ..Default::default() } };
        NodeCore::new(config, identity, restored, [9; 32]).expect("the history is in order")
    }
}
