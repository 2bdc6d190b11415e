//! A network with real keys: founds it, grows it link by link, and makes certificate files in it.
//!
//! Everything is derived from names and numbers, so two runs give the same bytes. Broken links and files are made by
//! changing a good one and signing again where the rule under test is not the signature.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use mynet_types::{
    AdmissionRecord, BlobRef, BoundedVec, CertificateFile, Claim, ContentState, DecryptedClass, Details, Domain,
    Genesis, GenesisFile, GroupId, Holding, LinkProof, LinkVotes, Manifest, Member, NodeId, OwnerKey, Phase,
    Protection, QuorumCertificate, Roles, Roster, RosterLink, Signature, SignedAdmission, SignedReceipt, SignerSet,
    StatesMask, StorageReceipt, Timestamp, Validator, Verdict, VerifiedChain, VoteKey, VoteStatement,
    certificate::{self, RECEIPTS_MAX},
    manifest::{Aead, MANIFEST_FORMAT},
    roster::GENESIS_FORMAT,
    signing::{self, Signed},
    vote::{is_head, slot_of},
};
use sha2::{Digest, Sha256};

/// When everything here happens: 2026-01-02T03:04:05.678Z.
pub(crate) const NOON: Timestamp = Timestamp(1_767_323_045_678);

/// The key pair called `name`, number `number`.
pub(crate) fn key(name: &str, number: u64) -> SigningKey {
    let mut hasher = Sha256::new();
    hasher.update(name);
    hasher.update(number.to_le_bytes());
    SigningKey::from_bytes(&hasher.finalize().into())
}

/// The public half of `key`.
pub(crate) fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

/// The key of node `number`.
pub(crate) fn node_key(number: u64) -> SigningKey {
    key("node", number)
}

/// Node `number`.
pub(crate) fn node(number: u64) -> NodeId {
    NodeId(public(&node_key(number)))
}

/// The key of the owner of everything here.
pub(crate) fn owner_key() -> SigningKey {
    key("owner", 0)
}

/// A network as one who holds all keys sees it.
pub(crate) struct Network {
    pub(crate) chain: VerifiedChain,
    pub(crate) votes: BTreeMap<VoteKey, SigningKey>,
}

impl Network {
    /// Node 0 alone.
    pub(crate) fn founded(min_quorum: u16, allow_degraded_quorum: bool) -> Self {
        let vote = key("vote of epoch 0", 0);
        let founder = Validator { vote_key: VoteKey(public(&vote)), node: node(0) };
        let genesis = Genesis {
            format: GENESIS_FORMAT,
            name: "test".try_into().unwrap(),
            created_at: NOON,
            min_quorum,
            allow_degraded_quorum,
            recovery_keys: [0, 1, 2].map(|number| public(&key("recovery", number))),
            founder,
            salt: [7; 32],
        };
        Self { chain: VerifiedChain::new(genesis), votes: BTreeMap::from([(founder.vote_key, vote)]) }
    }

    /// Nodes 0 to `size - 1`, added one by one: the newest epoch is `size - 1`.
    pub(crate) fn of(size: u64) -> Self {
        let mut network = Self::founded(3, true);
        for more in 2..=size {
            network.step(&(0..more).collect::<Vec<_>>());
        }
        network
    }

    pub(crate) fn genesis(&self) -> &Genesis {
        self.chain.genesis()
    }

    /// The genesis file without a checkpoint.
    pub(crate) fn unpinned(&self) -> GenesisFile {
        GenesisFile { genesis: self.genesis().clone(), checkpoint: None }
    }

    /// A fresh seat of node `number` in `epoch`.
    pub(crate) fn seat(&mut self, epoch: u64, number: u64) -> Validator {
        let vote = key(&format!("vote of epoch {epoch}"), number);
        let seat = Validator { vote_key: VoteKey(public(&vote)), node: node(number) };
        self.votes.insert(seat.vote_key, vote);
        seat
    }

    /// The roster of nodes `numbers` that may follow the newest.
    pub(crate) fn next_roster(&mut self, numbers: &[u64]) -> Roster {
        let epoch = self.chain.newest().epoch + 1;
        let mut seats: Vec<_> = numbers.iter().map(|number| self.seat(epoch, *number)).collect();
        seats.sort();
        Roster {
            epoch,
            prev: self.chain.newest().hash(),
            validators: seats.try_into().unwrap(),
            valid_from: NOON,
            close_set_root: [0; 32],
            close_count: 0,
        }
    }

    /// Signs `roster` with the first `old` seats of the newest roster and the first `new` of its own.
    pub(crate) fn link(&self, roster: Roster, old: usize, new: usize) -> RosterLink {
        let old = self.sign(self.chain.newest(), 0..old, Domain::Roster, &roster);
        let new = self.sign(&roster, 0..new, Domain::RosterAccept, &roster);
        RosterLink::voted(roster, old, new)
    }

    /// A link to `roster` that everybody signed.
    pub(crate) fn full_link(&self, roster: Roster) -> RosterLink {
        let (old, new) = (self.chain.newest().validators.len(), roster.validators.len());
        self.link(roster, old, new)
    }

    /// Goes to a roster of nodes `numbers`.
    pub(crate) fn step(&mut self, numbers: &[u64]) {
        let roster = self.next_roster(numbers);
        self.chain.extend(self.full_link(roster)).expect("an honest step follows");
    }

    /// The signatures of `seats` of `roster` over `body`.
    pub(crate) fn sign<T: borsh::BorshSerialize>(
        &self,
        roster: &Roster,
        seats: impl IntoIterator<Item = usize>,
        domain: Domain,
        body: &T,
    ) -> SignerSet {
        let network = self.genesis().network_id();
        SignerSet::collect(seats.into_iter().map(|seat| {
            let key = &self.votes[&roster.validators[seat].vote_key];
            (seat, signing::sign_as(domain, &network, body, key))
        }))
    }

    /// The signature of one seat.
    pub(crate) fn sign_one<T: borsh::BorshSerialize>(
        &self,
        roster: &Roster,
        seat: usize,
        domain: Domain,
        body: &T,
    ) -> Signature {
        self.sign(roster, [seat], domain, body).signatures[0]
    }

    /// The statement of epoch `epoch` that `manifest` is durable in all states that any node may hold, of the round that
    /// counts.
    pub(crate) fn statement(&self, epoch: u64, manifest: &Manifest) -> VoteStatement {
        VoteStatement {
            epoch,
            roster: self.chain.roster(epoch).unwrap().hash(),
            phase: if is_head(manifest.version) { Phase::Ack } else { Phase::Vote },
            slot: slot_of(&manifest.group_id, manifest.version, &manifest.hash()),
            value: manifest.hash(),
            verdict: Verdict::Accept,
            claim: Claim::Durable,
            states: manifest.allowed(false),
        }
    }

    /// The votes of `seats` for `statement`.
    pub(crate) fn votes(&self, statement: VoteStatement, seats: impl IntoIterator<Item = usize>) -> QuorumCertificate {
        let roster = self.chain.roster(statement.epoch).unwrap();
        QuorumCertificate { statement, signers: self.sign(roster, seats, Domain::Vote, &statement) }
    }

    /// The receipt of node `holder` for what any node may hold of `manifest`.
    pub(crate) fn receipt(&self, manifest: &Manifest, holder: u64) -> SignedReceipt {
        let body = StorageReceipt {
            manifest_hash: manifest.hash(),
            states: manifest.allowed(false),
            holder: node(holder),
            until: NOON.after(std::time::Duration::from_secs(86_400)),
        };
        Signed::new(&self.genesis().network_id(), body, &node_key(holder))
    }

    /// Receipts of nodes `holders`, sorted as the file wants them.
    pub(crate) fn receipts(&self, manifest: &Manifest, holders: &[u64]) -> Vec<SignedReceipt> {
        let mut receipts: Vec<_> = holders.iter().map(|holder| self.receipt(manifest, *holder)).collect();
        receipts.sort_by_key(|receipt| receipt.body.holder);
        receipts
    }

    /// The admission of `node` by the founder, with a role that counts.
    pub(crate) fn admission(&self, node: NodeId) -> SignedAdmission {
        let body = AdmissionRecord { node, roles: Roles::STORAGE, epoch: 0, ..crate::samples::admission() };
        Signed::new(&self.genesis().network_id(), body, &node_key(0))
    }

    /// `receipts` beside the admissions of their holders.
    pub(crate) fn holdings(&self, receipts: Vec<SignedReceipt>) -> BoundedVec<Holding, RECEIPTS_MAX> {
        let admitted = |receipt: SignedReceipt| Holding { admission: self.admission(receipt.body.holder), receipt };
        receipts.into_iter().map(admitted).collect::<Vec<_>>().try_into().unwrap()
    }

    /// A certificate that [`manifest`] is durable: votes of the newest epoch by the first `votes` seats, held by nodes 0
    /// and 1.
    pub(crate) fn certificate(&self, votes: usize) -> CertificateFile {
        let manifest = manifest();
        let epoch = self.chain.newest().epoch;
        CertificateFile {
            certificate: self.votes(self.statement(epoch, &manifest), 0..votes),
            holdings: self.holdings(self.receipts(&manifest, &[0, 1])),
            chain: self.chain.up_to(epoch),
            manifest: Signed::new(&self.genesis().network_id(), manifest, &owner_key()),
        }
    }

    /// Verifies `file` against the genesis alone.
    pub(crate) fn verify(&self, file: &CertificateFile) -> Result<certificate::Verified, certificate::VerifyError> {
        certificate::verify(file, &self.unpinned(), true)
    }
}

/// The votes of a link that was voted.
pub(crate) fn votes_of(link: &mut RosterLink) -> &mut LinkVotes {
    let LinkProof::Votes(votes) = &mut link.proof else { panic!("it was not voted") };
    votes
}

/// The first version of a private group with three states, R = 3 and W = 2.
pub(crate) fn manifest() -> Manifest {
    let ids = [1u8, 2, 3].map(|number| mynet_types::ContentId([number; 16]));
    let member = |index: usize, state, blob, mime: Option<&str>| Member {
        content_id: ids[index],
        state,
        blob,
        mime: mime.map(|mime| mime.try_into().unwrap()),
    };
    let members = vec![
        member(0, ContentState::Encrypted, Some(BlobRef::of(b"encrypted bytes")), None),
        member(1, ContentState::Decrypted, None, None),
        member(2, ContentState::Preview, Some(BlobRef::of(b"preview bytes")), Some("audio/ogg")),
    ];
    let link = |child, kind| mynet_types::Link { parent: ids[0], child, kind };
    let links = vec![
        link(ids[1], mynet_types::RelationshipKind::Decrypted),
        link(ids[2], mynet_types::RelationshipKind::Preview),
    ];
    let nameless = Manifest {
        format: MANIFEST_FORMAT,
        group_id: GroupId([0; 32]),
        version: 1,
        prev: None,
        owner: OwnerKey(public(&owner_key())),
        created_at: NOON,
        placement_seed: [9; 32],
        replicas: 3,
        quorum: 2,
        members: members.try_into().unwrap(),
        links: links.try_into().unwrap(),
        class: DecryptedClass::Granted,
        protection: Protection::Sealed {
            key_version: 1,
            algorithm: Aead::ChaCha20Poly1305,
            salt: [10; 16],
            key_commitment: [11; 32],
            decrypted_commitment: [12; 32],
            sealed_hash: [13; 32],
        },
    };
    Manifest { group_id: nameless.derive_group_id(), ..nameless }
}

/// What users call the content in [`manifest`] and in its public twin.
pub(crate) fn details() -> Details {
    Details {
        content_type: mynet_types::ContentType::Audio,
        mime: "audio/flac".try_into().unwrap(),
        filename: "песня.flac".try_into().unwrap(),
        tags: BoundedVec::truncated(["one", "two"].map(|tag| tag.try_into().unwrap())),
    }
}

/// A second version of a public group with a single plain state.
pub(crate) fn public_manifest() -> Manifest {
    let member = Member {
        content_id: mynet_types::ContentId([4; 16]),
        state: ContentState::Decrypted,
        blob: Some(BlobRef::of(b"plain bytes")),
        mime: Some("audio/flac".try_into().unwrap()),
    };
    Manifest {
        version: 2,
        prev: Some(manifest().hash()),
        members: BoundedVec::truncated([member]),
        links: BoundedVec::new(),
        class: DecryptedClass::Public,
        protection: Protection::Open { details: details() },
        ..manifest()
    }
}

/// The set of `states`.
pub(crate) fn mask(states: &[ContentState]) -> StatesMask {
    states.iter().copied().collect()
}
