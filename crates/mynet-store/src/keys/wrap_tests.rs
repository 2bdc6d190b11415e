//! Rules of wraps.

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, DecryptedClass, GroupId, Manifest, NetworkId, NodeId, OwnerKey, Protection, Signed, Timestamp, WrapKey,
    manifest::{Aead, MANIFEST_FORMAT},
};

use super::{UnwrapError, WrapError, WrapSecret, WrapTarget, open, unwrap_key, wrap_key};
use crate::cipher::ContentKey;

const NETWORK: NetworkId = NetworkId([6; 32]);

fn node(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn owner() -> SigningKey {
    node(50)
}

fn key() -> ContentKey {
    ContentKey::from_bytes([7; 32])
}

fn manifest() -> Manifest {
    Manifest {
        format: MANIFEST_FORMAT,
        group_id: GroupId([1; 32]),
        version: 1,
        prev: None,
        owner: OwnerKey(owner().verifying_key().to_bytes()),
        created_at: Timestamp(0),
        placement_seed: [0; 32],
        replicas: 3,
        quorum: 2,
        members: BoundedVec::new(),
        links: BoundedVec::new(),
        class: DecryptedClass::Granted,
        protection: Protection::Sealed {
            key_version: 1,
            algorithm: Aead::ChaCha20Poly1305,
            salt: [0; 16],
            key_commitment: key().commitment(),
            decrypted_commitment: [0; 32],
            sealed_hash: [0; 32],
        },
    }
}

fn target(seed: u8) -> WrapTarget {
    WrapTarget {
        network: NETWORK,
        group_id: GroupId([1; 32]),
        version: 1,
        recipient: NodeId(node(seed).verifying_key().to_bytes()),
        recipient_key: WrapSecret::derive(&node(seed)).public(),
    }
}

#[test]
fn the_reader_opens_what_was_wrapped_to_it() {
    let wrap = wrap_key(&key(), &target(1), &owner()).unwrap();
    let opened = unwrap_key(&wrap, &manifest(), &NETWORK, &WrapSecret::derive(&node(1))).unwrap();
    assert_eq!(opened.expose(), key().expose());
}

#[test]
fn another_node_opens_nothing_even_if_it_claims_to_be_the_reader() {
    let wrap = wrap_key(&key(), &target(1), &owner()).unwrap();
    let other = WrapSecret::derive(&node(2));
    let refused = unwrap_key(&wrap, &manifest(), &NETWORK, &other).unwrap_err();
    assert_eq!(refused, UnwrapError::OtherRecipient(target(1).recipient_key));
    let mut claimed = wrap.body;
    claimed.recipient_key = other.public();
    assert_eq!(open(&claimed, &NETWORK, &other).unwrap_err(), UnwrapError::Inauthentic);
}

#[test]
fn any_change_of_a_wrap_is_found() {
    let secret = WrapSecret::derive(&node(1));
    let wrap = wrap_key(&key(), &target(1), &owner()).unwrap();
    let mut bad = wrap.clone();
    bad.body.ciphertext[0] ^= 1;
    assert!(matches!(unwrap_key(&bad, &manifest(), &NETWORK, &secret), Err(UnwrapError::Signature(_))));
    // Even the owner cannot make a damaged ciphertext open: HPKE authenticates it too.
    for change in [0, 1] {
        let mut body = wrap.body.clone();
        if change == 0 {
            body.ciphertext[47] ^= 1
        } else {
            body.enc[0] ^= 1
        }
        let resigned = Signed::new(&NETWORK, body, &owner());
        assert_eq!(unwrap_key(&resigned, &manifest(), &NETWORK, &secret).unwrap_err(), UnwrapError::Inauthentic);
    }
}

#[test]
fn a_wrap_is_bound_to_network_group_and_version() {
    let secret = WrapSecret::derive(&node(1));
    let record = wrap_key(&key(), &target(1), &owner()).unwrap().body;
    assert_eq!(open(&record, &NetworkId([9; 32]), &secret).unwrap_err(), UnwrapError::Inauthentic);
    let mut moved = record.clone();
    moved.group_id = GroupId([9; 32]);
    assert_eq!(open(&moved, &NETWORK, &secret).unwrap_err(), UnwrapError::Inauthentic);
    let mut moved = record;
    moved.version = 2;
    assert_eq!(open(&moved, &NETWORK, &secret).unwrap_err(), UnwrapError::Inauthentic);
    let resigned = Signed::new(&NETWORK, moved, &owner());
    assert_eq!(unwrap_key(&resigned, &manifest(), &NETWORK, &secret).unwrap_err(), UnwrapError::OtherManifest);
}

#[test]
fn only_the_owner_may_wrap() {
    let secret = WrapSecret::derive(&node(1));
    let wrap = wrap_key(&key(), &target(1), &node(66)).unwrap();
    let stranger = OwnerKey(node(66).verifying_key().to_bytes());
    assert_eq!(unwrap_key(&wrap, &manifest(), &NETWORK, &secret).unwrap_err(), UnwrapError::NotOwner(stranger));
}

#[test]
fn a_key_that_the_manifest_was_not_made_with_is_refused() {
    let wrap = wrap_key(&ContentKey::generate(), &target(1), &owner()).unwrap();
    let refused = unwrap_key(&wrap, &manifest(), &NETWORK, &WrapSecret::derive(&node(1))).unwrap_err();
    assert_eq!(refused, UnwrapError::Commitment);
}

#[test]
fn a_key_of_small_order_is_refused() {
    let weak = WrapTarget { recipient_key: WrapKey([0; 32]), ..target(1) };
    assert_eq!(wrap_key(&key(), &weak, &owner()).unwrap_err(), WrapError::Key { recipient: weak.recipient });
}

#[test]
fn the_derived_key_and_the_wrap_format_are_frozen() {
    let secret = WrapSecret::derive(&node(1));
    assert_eq!(secret.public().to_string(), "14c774f8cc0c9c0f8436f964446e308d75d6aadfaabbc244f3c5f1a7b0a03407");
    let mut record = wrap_key(&key(), &target(1), &owner()).unwrap().body;
    hex::decode_to_slice("7b0d47d93427f8311160781c7c733fd89f88970aef490d8aa0ee19a4cb8a1b14", &mut record.enc).unwrap();
    hex::decode_to_slice(
        "2a069bfa54e8b9324323a0750ef76ad958db81788c285192de2681ab9b867682629430ede9f0f2e97d59373394e450f1",
        &mut record.ciphertext,
    )
    .unwrap();
    assert_eq!(open(&record, &NETWORK, &secret).unwrap().expose(), key().expose());
}
