//! The committed test vectors: what is on the wire and on disks today.
//!
//! `tests/vectors/wire-v1.txt` holds one vector per line: its name, then its values in hex. Another implementation may
//! be checked against the same file. Two kinds of line need words: `signing DOMAIN` holds the signing bytes of the body
//! hash 22..22 in network 11..11, and their signature by the key of seed 33..33; `record NAME` holds SHA-256 and bytes.

use borsh::{BorshDeserialize, BorshSerialize};
use ed25519_dalek::{Signature, Signer, SigningKey};
use mynet_types::{
    CertificateFile, ContentHash, Domain, Genesis, GenesisFile, NetworkId, Roster, certificate, codec,
    manifest::decrypted_commitment,
    signing::{Signable, Signed, SignedBy, signing_bytes},
    vote::{attest_slot, head_slot},
};
use sha2::{Digest, Sha256};

use crate::{
    network::{Network, manifest, node_key, owner_key, public_manifest},
    samples,
};

const COMMITTED: &str = include_str!("../vectors/wire-v1.txt");

/// Every domain; a new one must be added here, because [`every_domain`] would not compile without it.
const DOMAINS: [Domain; 16] = [
    Domain::Manifest,
    Domain::Wrap,
    Domain::Tombstone,
    Domain::Proposal,
    Domain::Vote,
    Domain::Roster,
    Domain::RosterAccept,
    Domain::RosterKey,
    Domain::Receipt,
    Domain::Decision,
    Domain::Invite,
    Domain::Admission,
    Domain::NodeRecord,
    Domain::Close,
    Domain::Recovery,
    Domain::RecoveryOffer,
];

/// The lines as they are made today.
fn made() -> Vec<String> {
    let mut lines = Vec::new();
    signing_vectors(&mut lines);
    id_vectors(&mut lines);
    record_vectors(&mut lines);
    lines
}

fn signing_vectors(lines: &mut Vec<String>) {
    let key = SigningKey::from_bytes(&[0x33; 32]);
    lines.push(format!("key {}", hex::encode(key.verifying_key().to_bytes())));
    for domain in DOMAINS {
        let bytes = signing_bytes(domain, &NetworkId([0x11; 32]), &[0x22; 32]);
        let signature = key.sign(&bytes).to_bytes();
        lines.push(format!("signing {} {} {}", domain.as_str(), hex::encode(bytes), hex::encode(signature)));
    }
}

fn id_vectors(lines: &mut Vec<String>) {
    let network = Network::of(4);
    let ids = [
        ("network-id", network.genesis().network_id().0),
        ("group-id", manifest().derive_group_id().0),
        ("manifest-hash", manifest().hash().0),
        ("attest-slot", attest_slot(&manifest().hash()).0),
        ("decrypted-commitment", decrypted_commitment(&[1; 32], &ContentHash([2; 32]))),
        ("roster-hash-0", network.chain.roster(0).unwrap().hash().0),
        ("roster-hash-3", network.chain.newest().hash().0),
        ("proposal-id", samples::proposal(&network).id().0),
        ("certificate-hash", samples::certificate_file().hash().0),
        ("head-slot", head_slot(&manifest().group_id, 0x0102_0304_0506_0708).0),
        ("close-set-root", mynet_types::head::set_root(&samples::carried_heads())),
    ];
    lines.extend(ids.map(|(name, id)| format!("id {name} {}", hex::encode(id))));
}

fn record_vectors(lines: &mut Vec<String>) {
    let mut network = Network::of(4);
    let id = network.genesis().network_id();
    lines.push(record("manifest", &Signed::new(&id, manifest(), &owner_key())));
    lines.push(record("manifest-public", &Signed::new(&id, public_manifest(), &owner_key())));
    lines.push(record("sealed-part", &samples::sealed_part()));
    lines.push(record("wrap", &Signed::new(&id, samples::wrap(), &owner_key())));
    lines.push(record("tombstone", &Signed::new(&id, samples::tombstone(), &owner_key())));
    lines.push(record("proposal", &Signed::new(&id, samples::proposal(&network), &node_key(0))));
    lines.push(record("vote", &samples::vote(&network)));
    lines.push(record("statement", &network.statement(3, &manifest())));
    lines.push(record("receipt", &network.receipt(&manifest(), 1)));
    lines.push(record("decision", &Signed::new(&id, samples::decision(), &node_key(0))));
    lines.push(record("invite", &Signed::new(&id, samples::invite(), &node_key(0))));
    lines.push(record("admission", &Signed::new(&id, samples::admission(), &node_key(0))));
    lines.push(record("node", &Signed::new(&id, samples::node_record(), &node_key(9))));
    lines.push(record("genesis", network.genesis()));
    lines.push(record("roster", network.chain.newest()));
    lines.push(record("roster-link", &network.chain.after(2)[0]));
    let offer = Signed::new(&id, samples::roster_key(&mut network), &node_key(1));
    lines.push(record("roster-key", &offer));
    lines.push(record("evidence", &samples::evidence(&network)));
    lines.push(record("owner-evidence", &samples::owner_evidence(&network)));
    lines.push(record("owner-statement", &Signed::new(&id, manifest(), &owner_key()).statement()));
    lines.push(record("head-proof", &samples::head_proof(&network)));
    lines.push(record("acked-head", &samples::acked_head(&network)));
    lines.push(record("carried-head", &samples::carried_heads()[0]));
    lines.push(record("close-report", &samples::close_report(&network)));
    lines.push(record("recovery-link", &samples::recovery_file(&mut network).link()));
    lines.push(record("recovery-offer", &samples::offer_file(&mut network, 1, true).offer));
    for (name, bytes) in
        [("genesis", samples::genesis_file().encode()), ("certificate", samples::certificate_file().encode())]
    {
        lines.push(format!("file {name} {} {}", hex::encode(Sha256::digest(&bytes)), hex::encode(bytes)));
    }
    for (name, bytes) in [
        ("recovery-offer", samples::offer_file(&mut network, 1, true).encode()),
        ("recovery", samples::recovery_file(&mut network).encode()),
    ] {
        lines.push(format!("file {name} {} {}", hex::encode(Sha256::digest(&bytes)), hex::encode(bytes)));
    }
}

/// A record's line; the record also survives its encoding.
fn record<T: BorshSerialize + BorshDeserialize + PartialEq>(name: &str, value: &T) -> String {
    let bytes = codec::encode(value);
    assert!(codec::decode::<T>(&bytes, bytes.len()).unwrap() == *value, "{name} survives its encoding");
    format!("record {name} {} {}", hex::encode(codec::digest(value)), hex::encode(bytes))
}

/// The values of the committed line that starts with `name`.
fn committed(name: &str) -> Vec<Vec<u8>> {
    let line = COMMITTED.lines().find_map(|line| line.strip_prefix(name)).expect("a committed vector");
    line.split_whitespace().map(|value| hex::decode(value).unwrap()).collect()
}

#[test]
fn every_encoding_is_as_it_was_committed() {
    let (made, committed): (Vec<_>, Vec<_>) = (made(), COMMITTED.lines().collect());
    for (now, was) in made.iter().zip(&committed) {
        assert_eq!(now, was, "this is a wire change: bump the version");
    }
    let count = made.len().min(committed.len());
    let (new, gone) = (&made[count..], &committed[count..]);
    assert!(new.is_empty(), "new vectors, append them to the file:\n{}", new.join("\n"));
    assert!(gone.is_empty(), "vectors are no longer made; this is a wire change: bump the version: {gone:?}");
}

#[test]
fn domains_are_distinct_and_carry_a_version() {
    let texts: std::collections::BTreeSet<_> = DOMAINS.iter().map(|domain| domain.as_str()).collect();
    assert_eq!(texts.len(), DOMAINS.len());
    assert!(DOMAINS.iter().all(|domain| domain.as_str().ends_with("/1")));
    for domain in DOMAINS {
        assert!(every_domain(domain));
    }
}

/// Does not compile when a domain is added but not listed in [`DOMAINS`].
fn every_domain(domain: Domain) -> bool {
    match domain {
        Domain::Manifest
        | Domain::Wrap
        | Domain::Tombstone
        | Domain::Proposal
        | Domain::Vote
        | Domain::Roster
        | Domain::RosterAccept
        | Domain::RosterKey
        | Domain::Receipt
        | Domain::Decision
        | Domain::Invite
        | Domain::Admission
        | Domain::NodeRecord
        | Domain::Close
        | Domain::Recovery
        | Domain::RecoveryOffer => DOMAINS.contains(&domain),
    }
}

/// The formula of the specification, written out once more.
#[test]
fn signing_bytes_are_prefix_domain_network_and_body_hash() {
    for domain in DOMAINS {
        let name = domain.as_str().as_bytes();
        let body = samples::tombstone();
        let hash: [u8; 32] = Sha256::digest(borsh::to_vec(&body).unwrap()).into();
        let expected = [b"MYNET-SIG-v1\0", &[name.len() as u8][..], name, &[7; 32], &hash].concat();
        assert_eq!(signing_bytes(domain, &NetworkId([7; 32]), &codec::digest(&body)), expected);
    }
}

#[test]
fn committed_signatures_verify() {
    let [key] = committed("key ").try_into().unwrap();
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key.try_into().unwrap()).unwrap();
    for domain in DOMAINS {
        let [bytes, signature] = committed(&format!("signing {} ", domain.as_str())).try_into().unwrap();
        assert!(key.verify_strict(&bytes, &Signature::from_bytes(&signature.try_into().unwrap())).is_ok());
    }
}

#[test]
fn committed_files_verify() {
    let [_, genesis] = committed("file genesis ").try_into().unwrap();
    let [_, certificate] = committed("file certificate ").try_into().unwrap();
    let trust = GenesisFile::decode(&genesis).unwrap();
    let verified = certificate::verify(&CertificateFile::decode(&certificate).unwrap(), &trust, false).unwrap();
    assert_eq!((verified.epoch, verified.quorum, verified.signers.len(), verified.holders.len()), (3, 3, 3, 2));
}

#[test]
fn a_network_and_its_first_roster_are_named_by_the_genesis() {
    let [_, bytes] = committed("record genesis ").try_into().unwrap();
    let genesis: Genesis = codec::decode(&bytes, bytes.len()).unwrap();
    let id: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(genesis.network_id().0, id);
    let Roster { epoch, prev, validators, .. } = genesis.first_roster();
    assert_eq!((epoch, prev.0, &validators[..]), (0, id, &[genesis.founder][..]));
}

#[test]
fn a_group_is_named_by_its_first_manifest_without_a_name() {
    let manifest = manifest();
    let mut bytes = codec::encode(&manifest);
    bytes[2..34].fill(0);
    let id: [u8; 32] = Sha256::digest([b"mynet/group/1\0", &bytes[..]].concat()).into();
    assert_eq!(manifest.group_id.0, id);
    assert_eq!(manifest.derive_group_id().0, id, "the name is no part of what it is made of");
}

/// A signature is good for one domain, network, body and signer.
fn binds<T: Signable + SignedBy + Clone + PartialEq>(body: T, key: &SigningKey, change: impl FnOnce(&mut T)) {
    let (here, there) = (NetworkId([1; 32]), NetworkId([2; 32]));
    let good = Signed::new(&here, body, key);
    assert!(good.verify(&here).is_ok());
    assert!(good.verify(&there).is_err());
    let mut other = good.clone();
    change(&mut other.body);
    assert!(other.body != good.body && other.verify(&here).is_err());
    for domain in DOMAINS.into_iter().filter(|domain| *domain != T::DOMAIN) {
        let signature = mynet_types::signing::sign_as(domain, &here, &good.body, key);
        assert!(Signed { body: good.body.clone(), signature }.verify(&here).is_err());
    }
}

#[test]
fn a_signature_binds_domain_network_body_and_signer() {
    let mut network = Network::of(4);
    let roster_key = samples::roster_key(&mut network);
    binds(manifest(), &owner_key(), |body| body.replicas += 1);
    binds(manifest().statement(), &owner_key(), |body| body.version += 1);
    binds(samples::wrap(), &owner_key(), |body| body.ciphertext[0] ^= 1);
    binds(samples::tombstone(), &owner_key(), |body| body.owner.0[0] ^= 1);
    binds(samples::proposal(&network), &node_key(0), |body| body.nonce[0] ^= 1);
    binds(network.receipt(&manifest(), 1).body, &node_key(1), |body| body.until.0 += 1);
    binds(samples::decision(), &node_key(0), |body| body.commit = false);
    binds(samples::invite(), &node_key(0), |body| body.uses += 1);
    binds(samples::admission(), &node_key(0), |body| body.issuer = mynet_types::NodeId([1; 32]));
    binds(samples::node_record(), &node_key(9), |body| body.seq += 1);
    binds(roster_key, &node_key(1), |body| body.epoch += 1);
}

#[test]
fn a_vote_is_verified_against_its_seat() {
    let network = Network::of(4);
    let (id, roster) = (network.genesis().network_id(), network.chain.newest());
    let vote = samples::vote(&network);
    assert_eq!(vote.verify(&id, roster), Ok(()));
    for seat in [0, 2, 3, 4, u16::MAX] {
        assert!(mynet_types::Vote { seat, ..vote.clone() }.verify(&id, roster).is_err());
    }
    assert!(vote.verify(&id, network.chain.roster(2).unwrap()).is_err());
    assert!(vote.verify(&NetworkId([1; 32]), roster).is_err());
}

/// The formulas of the protocol document, written out once more.
#[test]
fn a_head_locks_its_group_and_version_and_a_set_is_hashed_in_the_order_of_groups() {
    let group = manifest().group_id;
    let slot: [u8; 32] = Sha256::digest([b"head", &group.0[..], &[3, 0, 0, 0, 0, 0, 0, 0]].concat()).into();
    assert_eq!(head_slot(&group, 3).0, slot);
    let heads = samples::carried_heads();
    let encoded: Vec<u8> = heads.iter().flat_map(codec::encode).collect();
    let root: [u8; 32] = Sha256::digest([b"mynet/close-set/1\0", &encoded[..]].concat()).into();
    assert_eq!(mynet_types::head::set_root(&heads), root);
    assert_eq!(mynet_types::head::set_root([]), [0; 32]);
}
