//! One file per way to be wrong, and the code that it gets.

use mynet_types::{
    AdmissionRecord, CertificateFile, Claim, ContentHash, GenesisFile, Phase, Roles, RosterChain, SignerSet, Verdict,
    VoteStatement,
    certificate::CERTIFICATE_BYTES_MAX,
    signing::Signed,
    verifier::{self, Defect, Demand, Told},
};
use sha2::{Digest, Sha256};

use crate::network::{Network, manifest, mask, node_key, owner_key, public_manifest, votes_of};

/// A broken copy of a good file.
type Break = fn(&Network, CertificateFile) -> CertificateFile;

/// What the first `seats` validators say if they are told to.
fn stated(network: &Network, file: &CertificateFile, change: impl FnOnce(&mut VoteStatement)) -> CertificateFile {
    let mut statement = file.certificate.statement;
    change(&mut statement);
    CertificateFile { certificate: network.votes(statement, 0..3), ..file.clone() }
}

fn holdings_of(network: &Network, file: CertificateFile, holders: &[u64]) -> CertificateFile {
    let receipts = network.receipts(&file.manifest.body, holders);
    CertificateFile { holdings: network.holdings(receipts), ..file }
}

fn links(file: CertificateFile, change: impl FnOnce(&mut Vec<mynet_types::RosterLink>)) -> CertificateFile {
    let mut links = file.chain.links.clone().into_vec();
    change(&mut links);
    CertificateFile { chain: RosterChain { links: links.try_into().unwrap() }, ..file }
}

/// Files that decode, by the code that each gets.
const BROKEN: [(&str, Break); 18] = [
    ("other_network", |_, _| Network::founded(2, true).certificate(1)),
    ("other_network", |_, _| {
        let mut other = Network::founded(2, true);
        other.step(&[0, 1]);
        other.certificate(2)
    }),
    ("chain_broken", |_, file| links(file, |links| votes_of(&mut links[2]).old = votes_of(&mut links[1]).old.clone())),
    ("unknown_epoch", |_, file| links(file, |links| drop(links.pop()))),
    ("other_roster", |network, mut file| {
        file.certificate.statement.roster = network.chain.roster(2).unwrap().hash();
        file
    }),
    ("quorum_too_small", |network, _| network.certificate(2)),
    ("signature_wrong", |_, mut file| {
        let mut signatures = file.certificate.signers.signatures.clone().into_vec();
        signatures[1] = signatures[0];
        file.certificate.signers.signatures = signatures.try_into().unwrap();
        file
    }),
    ("signer_twice", |_, mut file| {
        let mut signatures = file.certificate.signers.signatures.clone().into_vec();
        signatures.push(signatures[0]);
        file.certificate.signers.signatures = signatures.try_into().unwrap();
        file
    }),
    ("signature_missing", |_, mut file| {
        file.certificate.signers.seats |= 0b1000;
        file
    }),
    ("signer_unknown", |_, mut file| {
        file.certificate.signers = SignerSet { seats: 0b1_0011, ..file.certificate.signers };
        file
    }),
    ("other_manifest", |network, file| stated(network, &file, |it| it.value = public_manifest().hash())),
    ("not_attestation", |network, file| stated(network, &file, |it| it.phase = Phase::Ack)),
    ("not_head", |network, mut file| {
        // The votes of the first version under a manifest of the second one, which only acks certify.
        file.manifest = Signed::new(&network.genesis().network_id(), public_manifest(), &owner_key());
        stated(network, &file, |it| it.value = public_manifest().hash())
    }),
    ("states_wrong", |network, file| stated(network, &file, |it| it.states = mask(&[]))),
    ("owner_signature_wrong", |network, mut file| {
        file.manifest.signature = network.receipt(&manifest(), 0).signature;
        file
    }),
    ("receipt_wrong", |network, mut file| {
        let mut holdings = file.holdings.clone().into_vec();
        holdings[0].receipt.signature = network.receipt(&public_manifest(), 0).signature;
        file.holdings = holdings.try_into().unwrap();
        file
    }),
    ("holder_not_admitted", |network, mut file| {
        let mut holdings = file.holdings.clone().into_vec();
        let body = AdmissionRecord { roles: Roles::EDGE, ..holdings[0].admission.body.clone() };
        holdings[0].admission = Signed::new(&network.genesis().network_id(), body, &node_key(0));
        file.holdings = holdings.try_into().unwrap();
        file
    }),
    ("too_few_receipts", |network, file| holdings_of(network, file, &[1])),
];

fn refusal(certificate: &[u8], genesis: &GenesisFile, demand: Demand) -> (&'static str, Told) {
    let refused = verifier::verify(certificate, &genesis.encode(), demand).unwrap_err();
    assert!(!refused.to_string().is_empty());
    (refused.defect.code(), refused.told)
}

#[test]
fn every_way_to_be_wrong_has_its_code_and_tells_what_can_be_read() {
    let network = Network::of(4);
    let (good, trust) = (network.certificate(3), network.unpinned());
    let verified = verifier::verify(&good.encode(), &trust.encode(), Demand::default()).unwrap();
    for (code, change) in BROKEN {
        let broken = change(&network, good.clone());
        let (found, told) = refusal(&broken.encode(), &trust, Demand { allow_small: true, ..Demand::default() });
        assert_eq!(found, code);
        assert_eq!(told.network_id, Some(network.genesis().network_id()), "{code}");
        assert_eq!(told.epoch, Some(broken.certificate.statement.epoch), "{code}");
        assert_eq!(told.group_id, Some(broken.manifest.body.group_id), "{code}");
        assert_eq!(told.manifest_hash, Some(broken.manifest.body.hash()), "{code}");
        assert_eq!(told.claim, Some(Claim::Durable), "{code}");
    }
    let (code, told) = refusal(&network.certificate(2).encode(), &trust, Demand::default());
    assert_eq!((code, told.signers.len(), told.quorum, told.small), ("quorum_too_small", 2, Some(3), Some(false)));
    assert_eq!(told.signers, verified.signers[..2]);
}

#[test]
fn files_that_do_not_decode_have_codes_of_their_own() {
    let network = Network::of(4);
    let (good, trust) = (network.certificate(3).encode(), network.unpinned());
    let mended = |mut bytes: Vec<u8>| {
        let body = bytes.len() - 32;
        let trailer: [u8; 32] = Sha256::digest(&bytes[..body]).into();
        bytes[body..].copy_from_slice(&trailer);
        bytes
    };
    let (mut flipped, mut shorter) = (good.clone(), good.clone());
    flipped[60] ^= 1;
    shorter.remove(good.len() - 33);
    for (code, bytes) in [
        ("not_a_certificate", Vec::new()),
        ("not_a_certificate", trust.encode()),
        ("checksum", flipped),
        ("malformed", mended(shorter)),
        ("too_large", vec![0; CERTIFICATE_BYTES_MAX + 1]),
    ] {
        let (found, told) = refusal(&bytes, &trust, Demand::default());
        assert_eq!(found, code);
        assert_eq!(told, Told { network_id: Some(network.genesis().network_id()), ..Told::default() });
    }
    let mut damaged = trust.encode();
    damaged[20] ^= 1;
    let malformed = mended([b"MYNETGEN".to_vec(), vec![9; 64]].concat());
    for (code, genesis) in
        [("not_a_genesis", good.clone()), ("genesis_checksum", damaged), ("genesis_malformed", malformed)]
    {
        let refused = verifier::verify(&good, &genesis, Demand::default()).unwrap_err();
        assert_eq!((refused.defect.code(), &refused.told), (code, &Told::default()));
    }
}

#[test]
fn what_is_demanded_besides_has_codes_of_its_own() {
    let (two, four) = (Network::of(2), Network::of(4));
    let small = two.certificate(2).encode();
    assert_eq!(refusal(&small, &two.unpinned(), Demand::default()).0, "small_not_allowed");
    let allowed = Demand { allow_small: true, ..Demand::default() };
    assert!(verifier::verify(&small, &two.unpinned().encode(), allowed).is_ok());
    let alone = Network::founded(3, false);
    assert_eq!(refusal(&alone.certificate(1).encode(), &alone.unpinned(), allowed).0, "not_enough_validators");

    let (good, trust) = (four.certificate(3), four.unpinned());
    let about = |content| Demand { content: Some(content), ..Demand::default() };
    let named = ContentHash::of(b"encrypted bytes");
    assert!(verifier::verify(&good.encode(), &trust.encode(), about(named)).is_ok());
    let (code, told) = refusal(&good.encode(), &trust, about(ContentHash::of(b"other bytes")));
    assert_eq!((code, told.signers.len()), ("content_differs", 3));

    let seen = stated(&four, &good, |statement| statement.claim = Claim::Seen).encode();
    for (bytes, want, stands) in [
        (&seen, Claim::Seen, true),
        (&seen, Claim::Durable, false),
        (&good.encode(), Claim::Seen, true),
        (&good.encode(), Claim::Durable, true),
        (&good.encode(), Claim::Verified, false),
    ] {
        let verdict = verifier::verify(bytes, &trust.encode(), Demand { claim: Some(want), ..Demand::default() });
        assert_eq!(verdict.is_ok(), stands, "{want:?}");
        assert!(stands || matches!(verdict.unwrap_err().defect, Defect::ClaimTooLow { .. }));
    }
    let rejected = stated(&four, &good, |statement| statement.verdict = Verdict::Reject).encode();
    assert_eq!(refusal(&rejected, &trust, Demand::default()).0, "rejected");

    // A founder who forks the network he began alone is found out by a genesis taken later.
    let pinned = GenesisFile::of(&four.chain);
    let mut fork = Network::founded(3, true);
    for size in 2..=3 {
        fork.step(&(0..size).collect::<Vec<_>>());
    }
    let fork = fork.certificate(3).encode();
    assert!(verifier::verify(&fork, &four.unpinned().encode(), Demand::default()).is_ok());
    assert_eq!(refusal(&fork, &pinned, Demand::default()).0, "avoids_checkpoint");
}
