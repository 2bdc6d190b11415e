//! Who is admitted, and how roles are written.

use std::time::Duration;

use mynet_types::{
    AdmissionRecord, Roles, SignatureError, SignedAdmission, Timestamp, WrapKey, codec,
    records::{AdmissionError, ParseRolesError, verify_admission},
    signing::Signed,
};

use crate::network::{NOON, Network, node, node_key};

/// An admission of node 9 by node `issuer` as of `epoch`, for an hour.
fn admission(network: &Network, issuer: u64, epoch: u64) -> SignedAdmission {
    let body = AdmissionRecord {
        node: node(9),
        wrap_key: WrapKey([5; 32]),
        roles: Roles::STORAGE,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: "rack-1".try_into().unwrap(),
        weight: 1,
        admitted_at: NOON,
        expires_at: NOON.after(Duration::from_secs(3_600)),
        epoch,
        issuer: node(issuer),
        nonce: [6; 16],
    };
    Signed::new(&network.genesis().network_id(), body, &node_key(issuer))
}

#[test]
fn a_validator_of_the_epoch_admits_until_the_record_expires() {
    let network = Network::of(3);
    let record = admission(&network, 1, 1);
    let verify = |now| verify_admission(&record, &network.chain, now);
    let end = record.body.expires_at;
    assert_eq!(verify(NOON), Ok(()));
    assert_eq!(verify(Timestamp(end.0 - 1)), Ok(()));
    for late in [end, Timestamp(end.0 + 1), Timestamp::MAX] {
        assert_eq!(verify(late), Err(AdmissionError::Expired(end)));
    }
}

#[test]
fn an_admission_names_an_epoch_of_the_chain_in_which_its_issuer_sat() {
    let network = Network::of(3);
    let verify = |issuer, epoch| verify_admission(&admission(&network, issuer, epoch), &network.chain, NOON);
    assert_eq!(verify(2, 2), Ok(()));
    assert_eq!(verify(2, 1), Err(AdmissionError::IssuerNotValidator { epoch: 1 }), "not yet");
    assert_eq!(verify(7, 2), Err(AdmissionError::IssuerNotValidator { epoch: 2 }));
    assert_eq!(verify(0, 3), Err(AdmissionError::UnknownEpoch { epoch: 3 }));
    assert_eq!(verify(0, u64::MAX), Err(AdmissionError::UnknownEpoch { epoch: u64::MAX }));
}

#[test]
fn an_admission_outlives_the_seat_of_its_issuer() {
    let mut network = Network::of(4);
    let record = admission(&network, 0, 3);
    network.step(&[1, 2, 3]);
    assert_eq!(verify_admission(&record, &network.chain, NOON), Ok(()));
    let late = admission(&network, 0, 4);
    let verdict = verify_admission(&late, &network.chain, NOON);
    assert_eq!(verdict, Err(AdmissionError::IssuerNotValidator { epoch: 4 }));
}

#[test]
fn an_admission_is_signed_by_its_issuer_in_this_network() {
    let network = Network::of(3);
    let good = admission(&network, 0, 0);
    let refused = Err(AdmissionError::Signature(SignatureError::Signature));
    let verify = |record: &SignedAdmission| verify_admission(record, &network.chain, NOON);
    let mut richer = good.clone();
    richer.body.trusted = true;
    assert_eq!(verify(&richer), refused);
    let taken = SignedAdmission { signature: admission(&network, 1, 1).signature, ..good };
    assert_eq!(verify(&taken), refused);
    assert_eq!(verify(&admission(&Network::founded(2, true), 0, 0)), refused, "of another network");
}

#[test]
fn an_admission_of_no_weight_is_refused() {
    let network = Network::of(3);
    let body = AdmissionRecord { weight: 0, ..admission(&network, 0, 0).body };
    let record = Signed::new(&network.genesis().network_id(), body, &node_key(0));
    assert_eq!(verify_admission(&record, &network.chain, NOON), Err(AdmissionError::Weight));
}

#[test]
fn roles_are_a_list_of_words_and_an_edge_stands_alone() {
    let all = Roles::STORAGE.union(Roles::INDEX).union(Roles::VALIDATOR);
    let good = [
        ("storage", Roles::STORAGE),
        ("index", Roles::INDEX),
        ("validator", Roles::VALIDATOR),
        ("edge", Roles::EDGE),
        ("storage,index,validator", all),
        (" validator , storage,, index,storage ", all),
        ("edge,edge", Roles::EDGE),
    ];
    for (text, roles) in good {
        assert_eq!(Roles::parse(text), Ok(roles), "{text:?}");
    }
    for text in ["", " ", ",", " , "] {
        assert_eq!(Roles::parse(text), Err(ParseRolesError::Empty), "{text:?}");
    }
    for text in ["edge,storage", "validator,edge"] {
        assert_eq!(Roles::parse(text), Err(ParseRolesError::EdgeBesideOthers), "{text:?}");
    }
    for (text, word) in [("Storage", "Storage"), ("storage;index", "storage;index"), ("index,relay", "relay")] {
        assert_eq!(Roles::parse(text), Err(ParseRolesError::Unknown(word.to_owned())));
    }
    assert_eq!(all.words().collect::<Vec<_>>(), ["storage", "index", "validator"]);
    assert_eq!(Roles::parse(&all.words().collect::<Vec<_>>().join(",")), Ok(all));
}

#[test]
fn roles_decode_only_what_can_be_written() {
    for bits in 0..=u8::MAX {
        let written = (1..=7).contains(&bits) || bits == 8;
        let decoded = codec::decode::<Roles>(&[bits], 1);
        assert_eq!(decoded.is_ok(), written, "{bits:#010b}");
        if let Ok(roles) = decoded {
            let text = roles.words().collect::<Vec<_>>().join(",");
            assert_eq!((roles, Roles::parse(&text)), (Roles(bits), Ok(roles)));
        }
    }
}
