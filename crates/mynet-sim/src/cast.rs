//! Everybody in the play: keys, genesis, admissions, and the groups that owners make. All real, all from the seed.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use mynet_proto::replication::io::{Mode, Publication};
use mynet_types::{
    AdmissionRecord, Blake3Root, BlobRef, BoundedVec, ContentHash, ContentId, ContentState, ContentType,
    DecryptedClass, Details, Genesis, Link, Manifest, Member, NetworkId, NodeId, OwnerKey, Protection,
    RelationshipKind, Roles, SignedAdmission, SignedManifest, SignedReceipt, SignedTombstone, SignedWrap,
    StorageReceipt, Timestamp, Tombstone, Validator, VoteKey, WrapKey, WrapRecord,
    manifest::{Aead, MANIFEST_FORMAT},
    roster::GENESIS_FORMAT,
    wire::{Receipts, SealedBytes, Wraps},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use crate::{
    clock::EPOCH_MS,
    options::{Options, generator},
};

/// Records outlive every run, wall-clock jumps included.
const FOREVER: Timestamp = Timestamp(EPOCH_MS + 3650 * 24 * 3_600_000);

/// One node's identity.
#[derive(Debug)]
pub(crate) struct Player {
    /// Its node key.
    pub(crate) key: SigningKey,
    /// Its id.
    pub(crate) id: NodeId,
    /// Its admission, issued by the founder.
    pub(crate) admission: SignedAdmission,
}

/// All identities of a run.
#[derive(Debug)]
pub(crate) struct Cast {
    /// How the network begins.
    pub(crate) genesis: Genesis,
    /// Its id.
    pub(crate) network: NetworkId,
    /// The nodes; the first founded the network.
    pub(crate) players: Vec<Player>,
    /// Secret of the founder's vote key of epoch 0.
    pub(crate) founder_secret: [u8; 32],
    /// The three offline keys.
    pub(crate) recovery_keys: [SigningKey; 3],
    /// The validator that lies.
    pub(crate) liar: Option<usize>,
    owner: SigningKey,
}

/// What an owner makes of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupPlan {
    pub(crate) class: DecryptedClass,
    /// Size of the largest state.
    pub(crate) bytes: u64,
    pub(crate) replicas: u8,
    pub(crate) quorum: u8,
    pub(crate) mode: Mode,
    /// Nodes to wrap the key to, by bit.
    pub(crate) granted: u16,
}

impl Cast {
    /// Draws keys and makes genesis and admissions.
    pub(crate) fn new(options: &Options) -> Self {
        let mut rng = generator(options.suite, options.seed, "cast");
        let keys: Vec<SigningKey> = (0..options.nodes).map(|_| SigningKey::from_bytes(&rng.random())).collect();
        let founder_secret: [u8; 32] = rng.random();
        let vote_key = SigningKey::from_bytes(&founder_secret).verifying_key();
        let founder_id = node_id(keys.first().expect("a network has at least one node"));
        let mut recovery_key = || SigningKey::from_bytes(&rng.random());
        let recovery_keys = [recovery_key(), recovery_key(), recovery_key()];
        let genesis = Genesis {
            format: GENESIS_FORMAT,
            name: "simulated".try_into().expect("a short name"),
            created_at: Timestamp(EPOCH_MS - 1),
            min_quorum: 3,
            allow_degraded_quorum: options.degraded_allowed,
            recovery_keys: recovery_keys.each_ref().map(|key| key.verifying_key().to_bytes()),
            founder: Validator { vote_key: VoteKey(vote_key.to_bytes()), node: founder_id },
            salt: rng.random(),
        };
        let network = genesis.network_id();
        let zones = rng.random_range(1..=options.nodes);
        let players = keys.iter().enumerate().map(|(index, key)| Player {
            key: key.clone(),
            id: node_id(key),
            admission: admission(&mut rng, options, (index, zones), (&network, &keys)),
        });
        let players = players.collect();
        let liar = options.faults.liar;
        Self {
            genesis,
            network,
            players,
            founder_secret,
            recovery_keys,
            liar,
            owner: SigningKey::from_bytes(&rng.random()),
        }
    }

    /// The place of a node in the play.
    pub(crate) fn index_of(&self, node: &NodeId) -> Option<usize> {
        self.players.iter().position(|player| player.id == *node)
    }

    /// A short name for traces.
    pub(crate) fn name(&self, node: &NodeId) -> String {
        self.index_of(node).map_or_else(|| node.short(), |index| format!("n{index}"))
    }

    /// Makes a group of linked states and the wraps for those granted.
    pub(crate) fn publication(&self, rng: &mut ChaCha8Rng, plan: &GroupPlan) -> Publication {
        let sealed = match plan.class {
            DecryptedClass::Public => SealedBytes::default(),
            DecryptedClass::None | DecryptedClass::Granted => SealedBytes::truncated(rng.random::<[u8; 32]>()),
        };
        let mut manifest = self.manifest(rng, plan, &sealed);
        manifest.group_id = manifest.derive_group_id();
        let signed = SignedManifest::new(&self.network, manifest, &self.owner);
        let wraps = match plan.class {
            DecryptedClass::Granted => self.wraps(rng, &signed, plan.granted),
            DecryptedClass::None | DecryptedClass::Public => Wraps::default(),
        };
        Publication { manifest: signed, sealed, wraps, mode: plan.mode, replicas: plan.replicas, head: None }
    }

    /// The owner deletes a group.
    pub(crate) fn tombstone(&self, manifest: &Manifest, deleted_at: Timestamp) -> SignedTombstone {
        let body = Tombstone { group_id: manifest.group_id, owner: manifest.owner, deleted_at };
        SignedTombstone::new(&self.network, body, &self.owner)
    }

    /// The unsigned manifest of a first version, still without its group id.
    fn manifest(&self, rng: &mut ChaCha8Rng, plan: &GroupPlan, sealed: &SealedBytes) -> Manifest {
        let public = plan.class == DecryptedClass::Public;
        let root = if public { ContentState::Decrypted } else { ContentState::Encrypted };
        let mut members = vec![member(rng, root, Some(plan.bytes))];
        if !public {
            members.push(member(rng, ContentState::Decrypted, None));
            if rng.random_ratio(3, 4) {
                members.push(member(rng, ContentState::Preview, Some(plan.bytes / 3)));
            }
        }
        let parent = members.first().expect("the root was just put there").content_id;
        let links = members.iter().skip(1).map(|member| Link {
            parent,
            child: member.content_id,
            kind: if member.state == ContentState::Preview {
                RelationshipKind::Preview
            } else {
                RelationshipKind::Decrypted
            },
        });
        Manifest {
            format: MANIFEST_FORMAT,
            group_id: mynet_types::GroupId([0; 32]),
            version: 1,
            prev: None,
            owner: OwnerKey(self.owner.verifying_key().to_bytes()),
            created_at: Timestamp(EPOCH_MS),
            placement_seed: rng.random(),
            replicas: plan.replicas,
            quorum: plan.quorum,
            links: BoundedVec::truncated(links),
            members: BoundedVec::truncated(members),
            class: plan.class,
            protection: protection(rng, public, sealed),
        }
    }

    /// Wraps of a manifest's key for the nodes in `granted`.
    pub(crate) fn wraps(&self, rng: &mut ChaCha8Rng, manifest: &SignedManifest, granted: u16) -> Wraps {
        let readers = self.players.iter().enumerate().filter(|(index, _)| granted >> index & 1 == 1);
        Wraps::truncated(readers.map(|(_, player)| {
            let mut ciphertext = [0; 48];
            rng.fill(&mut ciphertext);
            let wrap = WrapRecord {
                group_id: manifest.body.group_id,
                version: manifest.body.version,
                recipient: player.id,
                recipient_key: player.admission.body.wrap_key,
                enc: rng.random(),
                ciphertext,
                owner: manifest.body.owner,
            };
            SignedWrap::new(&self.network, wrap, &self.owner)
        }))
    }

    /// Receipts of the first `count` nodes, as if a replication had gone before; sorted by holder.
    pub(crate) fn receipts(&self, manifest: &SignedManifest, count: usize) -> Receipts {
        let mut holders: Vec<&Player> = self.players.iter().take(count).collect();
        holders.sort_by_key(|player| player.id);
        Receipts::truncated(holders.into_iter().map(|player| {
            let receipt = StorageReceipt {
                manifest_hash: manifest.body.hash(),
                states: manifest.body.allowed(false),
                holder: player.id,
                until: FOREVER,
            };
            SignedReceipt::new(&self.network, receipt, &player.key)
        }))
    }

    /// The owner's next version of a group: other bytes at another time.
    pub(crate) fn next_version(&self, rng: &mut ChaCha8Rng, before: &SignedManifest) -> SignedManifest {
        let mut body = before.body.clone();
        body.prev = Some(before.body.hash());
        body.version += 1;
        body.created_at = Timestamp(body.created_at.0 + rng.random_range(1..=1_000_000));
        SignedManifest::new(&self.network, body, &self.owner)
    }

    /// The owner's next version of a group with another preview, as the daemon makes it: content and key stay.
    pub(crate) fn with_preview(&self, rng: &mut ChaCha8Rng, before: &Manifest) -> SignedManifest {
        let bytes = rng.random_range(1..=1 << 20);
        let preview = member(rng, ContentState::Preview, Some(bytes));
        let later = Duration::from_millis(rng.random_range(0..=1_000));
        self.succeed(before, Some(preview), later)
    }

    /// The owner's next version of a group, without a preview.
    pub(crate) fn without_preview(&self, before: &SignedManifest) -> SignedManifest {
        self.succeed(&before.body, None, Duration::ZERO)
    }

    fn succeed(&self, before: &Manifest, preview: Option<Member>, later: Duration) -> SignedManifest {
        let members: Vec<Member> =
            before.members.iter().filter(|member| member.state != ContentState::Preview).cloned().collect();
        let stays = |link: &&Link| members.iter().any(|member| member.content_id == link.child);
        let links: Vec<Link> = before.links.iter().filter(stays).cloned().collect();
        let root = before.member(ContentState::Encrypted).expect("only sealed content has a preview").content_id;
        let link = preview.iter().map(|preview| Link {
            parent: root,
            child: preview.content_id,
            kind: RelationshipKind::Preview,
        });
        let body = Manifest {
            version: before.version + 1,
            prev: Some(before.hash()),
            created_at: Timestamp(before.created_at.0 + u64::try_from(later.as_millis()).unwrap_or(0)),
            links: BoundedVec::truncated(links.into_iter().chain(link)),
            members: BoundedVec::truncated(members.iter().cloned().chain(preview.clone())),
            ..before.clone()
        };
        SignedManifest::new(&self.network, body, &self.owner)
    }

    /// Receipts that look like enough: all but one of W, and then one that has ended, one for another manifest, or one of a
    /// holder that gave one already.
    pub(crate) fn unproven_receipts(&self, rng: &mut ChaCha8Rng, manifest: &SignedManifest) -> Receipts {
        let quorum = usize::from(manifest.body.quorum).min(self.players.len());
        let mut receipts = self.receipts(manifest, quorum).into_vec();
        let Some(mut last) = receipts.pop() else { return Receipts::default() };
        match (rng.random_range(0..3), receipts.first()) {
            (0, Some(first)) => last = first.clone(),
            (0 | 1, _) => last.body.until = Timestamp(1),
            _ => last.body.manifest_hash = mynet_types::ManifestHash(rng.random()),
        }
        if let Some(holder) = self.index_of(&last.body.holder) {
            receipts.push(SignedReceipt::new(&self.network, last.body, &self.players[holder].key));
        }
        receipts.sort_by_key(|receipt| receipt.body.holder);
        Receipts::truncated(receipts)
    }

    /// Makes a signed manifest that every honest validator must reject: numbers that do not fit, or links that make no
    /// group.
    pub(crate) fn spoil(&self, rng: &mut ChaCha8Rng, manifest: &SignedManifest) -> SignedManifest {
        let mut body = manifest.body.clone();
        if rng.random() {
            body.quorum = body.replicas + 1;
        } else {
            let other = member(rng, ContentState::Preview, Some(1));
            body.members = BoundedVec::truncated(body.members.iter().cloned().chain([other]));
        }
        body.group_id = body.derive_group_id();
        SignedManifest::new(&self.network, body, &self.owner)
    }
}

/// The id of a node key.
fn node_id(key: &SigningKey) -> NodeId {
    NodeId(key.verifying_key().to_bytes())
}

/// The founder's admission of one node.
fn admission(
    rng: &mut ChaCha8Rng,
    options: &Options,
    (index, zones): (usize, usize),
    (network, keys): (&NetworkId, &[SigningKey]),
) -> SignedAdmission {
    let (founder, key) = (&keys[0], &keys[index]);
    let storage = Roles::STORAGE.union(Roles::INDEX);
    let record = AdmissionRecord {
        node: node_id(key),
        wrap_key: WrapKey(rng.random()),
        roles: if index < options.validators { storage.union(Roles::VALIDATOR) } else { storage },
        trusted: options.trusted >> index & 1 == 1,
        region: "region".try_into().expect("a short name"),
        zone: format!("zone-{}", rng.random_range(0..zones)).try_into().expect("a short name"),
        weight: rng.random_range(1..=4),
        admitted_at: Timestamp(EPOCH_MS),
        expires_at: FOREVER,
        epoch: 0,
        issuer: node_id(founder),
        nonce: rng.random(),
    };
    SignedAdmission::new(network, record, founder)
}

/// A state with drawn hashes; without a size it is a view of another one.
fn member(rng: &mut ChaCha8Rng, state: ContentState, bytes: Option<u64>) -> Member {
    let blob = bytes.map(|size| BlobRef {
        sha256: ContentHash(rng.random()),
        blake3: Blake3Root(rng.random()),
        size: size.max(1),
    });
    Member { content_id: ContentId(rng.random()), state, blob, mime: None }
}

/// How the plaintext of a drawn group is protected.
fn protection(rng: &mut ChaCha8Rng, public: bool, sealed: &SealedBytes) -> Protection {
    if public {
        let details = Details {
            content_type: ContentType::Audio,
            mime: "audio/flac".try_into().expect("a short name"),
            filename: "song.flac".try_into().expect("a short name"),
            tags: BoundedVec::default(),
        };
        return Protection::Open { details };
    }
    Protection::Sealed {
        key_version: 1,
        algorithm: Aead::ChaCha20Poly1305,
        salt: rng.random(),
        key_commitment: rng.random(),
        decrypted_commitment: rng.random(),
        sealed_hash: Sha256::digest(&**sealed).into(),
    }
}
