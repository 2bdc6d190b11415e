//! One fixed instance of every record that is signed or hashed; the test vectors are made of these.

use mynet_types::{
    AckedHead, AdmissionRecord, BlobRef, BoundedVec, CarriedHead, CertificateFile, Claim, CloseReport, CloseStatement,
    Decision, Evidence, GenesisFile, GroupId, HeadProof, Invite, Manifest, ManifestHash, NodeRecord, OfferFile,
    OwnerEvidence, OwnerKey, Phase, Proposal, ProposalId, RecoveryFile, RecoveryOffer, RejectReason, Roles, RosterKey,
    SealedPart, Tombstone, TxId, Verdict, Vote, WrapKey, WrapRecord,
    signing::{Domain, Signed},
};

use crate::network::{NOON, Network, details, key, manifest, node, node_key, owner_key, public, public_manifest};

pub(crate) fn wrap() -> WrapRecord {
    WrapRecord {
        group_id: manifest().group_id,
        version: 1,
        recipient: node(1),
        recipient_key: WrapKey([21; 32]),
        enc: [22; 32],
        ciphertext: [23; 48],
        owner: OwnerKey(public(&owner_key())),
    }
}

pub(crate) fn tombstone() -> Tombstone {
    Tombstone { group_id: manifest().group_id, owner: OwnerKey(public(&owner_key())), deleted_at: NOON }
}

pub(crate) fn proposal(network: &Network) -> Proposal {
    let newest = network.chain.newest();
    Proposal {
        epoch: newest.epoch,
        roster: newest.hash(),
        proposer: node(0),
        group_id: manifest().group_id,
        version: 1,
        manifest_hash: manifest().hash(),
        claim: Claim::Durable,
        states: manifest().allowed(false),
        expires_at: NOON,
        nonce: [24; 16],
    }
}

pub(crate) fn vote(network: &Network) -> Vote {
    let proposal = proposal(network);
    let statement = proposal.statement(Verdict::Reject);
    Vote {
        statement,
        seat: 1,
        signature: network.sign_one(network.chain.newest(), 1, Domain::Vote, &statement),
        proposal_id: ProposalId([25; 32]),
        reason: Some(RejectReason::HashMismatch),
    }
}

/// Yes and no of seat 1 to one value.
pub(crate) fn evidence(network: &Network) -> Evidence {
    let reject = vote(network);
    let statement = proposal(network).statement(Verdict::Accept);
    let signature = network.sign_one(network.chain.newest(), 1, Domain::Vote, &statement);
    Evidence::of(&reject, &Vote { statement, signature, ..reject.clone() }).unwrap()
}

/// Two manifests that the owner signed as the second version.
pub(crate) fn owner_evidence(network: &Network) -> OwnerEvidence {
    let id = network.genesis().network_id();
    let other = Manifest { replicas: public_manifest().replicas + 1, ..public_manifest() };
    let [one, other] = [public_manifest(), other].map(|body| Signed::new(&id, body, &owner_key()).statement());
    OwnerEvidence::of(&one, &other).unwrap()
}

pub(crate) fn roster_key(network: &mut Network) -> RosterKey {
    let newest = network.chain.newest();
    let (epoch, prev) = (newest.epoch + 1, newest.hash());
    RosterKey { epoch, prev, seat: network.seat(epoch, 1) }
}

pub(crate) fn decision() -> Decision {
    Decision { tx: TxId([26; 32]), attempt: 2, manifest_hash: manifest().hash(), commit: true, coordinator: node(0) }
}

pub(crate) fn invite() -> Invite {
    Invite {
        id: [27; 16],
        inviter: node(0),
        roles: Roles::STORAGE.union(Roles::VALIDATOR),
        trusted: true,
        uses: 3,
        expires_at: NOON,
    }
}

pub(crate) fn admission() -> AdmissionRecord {
    AdmissionRecord {
        node: node(9),
        wrap_key: WrapKey([28; 32]),
        roles: Roles::EDGE,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: "rack-1".try_into().unwrap(),
        weight: 258,
        admitted_at: NOON,
        expires_at: NOON,
        epoch: 3,
        issuer: node(0),
        nonce: [29; 16],
    }
}

pub(crate) fn node_record() -> NodeRecord {
    NodeRecord {
        node: node(9),
        seq: 0x0102_0304_0506_0708,
        addrs: BoundedVec::truncated(["192.0.2.1:4520", "[2001:db8::1]:4520"].map(|addr| addr.try_into().unwrap())),
        program: "0.1.0".try_into().unwrap(),
        groups: 4,
        bytes: 5,
        capacity: 6,
        valid_until: NOON,
    }
}

pub(crate) fn sealed_part() -> SealedPart {
    SealedPart { details: details(), plain: BlobRef::of(b"plain bytes"), commitment_salt: [30; 32] }
}

/// The genesis file, pinned at epoch 3.
pub(crate) fn genesis_file() -> GenesisFile {
    GenesisFile::of(&Network::of(4).chain)
}

/// A certificate of epoch 3 by three of four validators.
pub(crate) fn certificate_file() -> CertificateFile {
    Network::of(4).certificate(3)
}

/// Shows that version 1 is certified.
pub(crate) fn head_proof(network: &Network) -> HeadProof {
    HeadProof::of(&network.certificate(3))
}

/// Version 2 with a quorum of its first round.
pub(crate) fn acked_head(network: &Network) -> AckedHead {
    let head = public_manifest();
    let mut statement = network.statement(network.chain.newest().epoch, &head);
    statement.phase = Phase::Vote;
    AckedHead { group_id: head.group_id, version: head.version, certificate: network.votes(statement, 0..3) }
}

/// Two heads, by group.
pub(crate) fn carried_heads() -> [CarriedHead; 2] {
    [31, 32].map(|byte| CarriedHead {
        group_id: GroupId([byte; 32]),
        version: 0x0102_0304_0506_0708,
        value: ManifestHash([byte; 32]),
    })
}

/// What seat 1 of the newest roster says that it acked.
pub(crate) fn close_report(network: &Network) -> CloseReport {
    let newest = network.chain.newest();
    let root = mynet_types::head::set_root(&carried_heads());
    let statement = CloseStatement { epoch: newest.epoch, roster: newest.hash(), seat: 1, root, count: 2 };
    CloseReport { statement, signature: network.sign_one(newest, 1, Domain::Close, &statement) }
}

/// What node `number` brings to the roster after the newest; a seat that knows its votes `reports` version 2 as acked.
pub(crate) fn offer_file(network: &mut Network, number: u64, reports: bool) -> OfferFile {
    let newest = network.chain.newest().clone();
    let key = RosterKey { epoch: newest.epoch + 1, prev: newest.hash(), seat: network.seat(newest.epoch + 1, number) };
    let id = network.genesis().network_id();
    let body = RecoveryOffer {
        key_signature: Signed::new(&id, key, &node_key(number)).signature,
        key,
        reports,
        acked: BoundedVec::truncated(reports.then(|| acked_head(network))),
        carried: Some(BoundedVec::new()),
    };
    let chain = network.chain.up_to(newest.epoch);
    OfferFile { genesis: network.genesis().clone(), chain, offer: Signed::new(&id, body, &node_key(number)) }
}

/// A recovery to nodes 1, 2 and 5, signed by the first and the third key.
pub(crate) fn recovery_file(network: &mut Network) -> RecoveryFile {
    let offers = [(1, true), (2, false), (5, false)].map(|(number, reports)| offer_file(network, number, reports));
    let (mut file, _) = RecoveryFile::propose(&offers, &[], NOON).unwrap();
    for number in [0, 2] {
        file.sign(&key("recovery", number)).unwrap();
    }
    file
}
