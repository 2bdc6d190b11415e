//! Heads: which votes certify a later version, what shows that the one before it is certified, and what closes an epoch.

use mynet_types::{
    CertificateFile, CloseReport, CloseStatement, Domain, HeadProof, Manifest, ManifestHash, OwnerKey, Phase, Verdict,
    VoteStatement,
    certificate::VerifyError,
    head::HeadProofError,
    signing::Signed,
    vote::{CertificateError, attest_slot, head_slot},
};

use crate::{
    network::{Network, manifest, owner_key, public, public_manifest},
    samples,
};

/// A certificate of the second version over what `change` makes of the statement that certifies it.
fn head_file(network: &Network, change: impl FnOnce(&mut VoteStatement)) -> CertificateFile {
    let head = public_manifest();
    let epoch = network.chain.newest().epoch;
    let mut statement = network.statement(epoch, &head);
    change(&mut statement);
    CertificateFile {
        certificate: network.votes(statement, 0..3),
        holdings: network.holdings(network.receipts(&head, &[0, 1])),
        chain: network.chain.up_to(epoch),
        manifest: Signed::new(&network.genesis().network_id(), head, &owner_key()),
    }
}

#[test]
fn a_later_version_is_certified_by_acks_in_its_slot_and_by_nothing_else() {
    let network = Network::of(4);
    let verified = network.verify(&head_file(&network, |_| ())).unwrap();
    assert_eq!((verified.manifest_hash, verified.quorum), (public_manifest().hash(), 3));
    let refused = |why: &str, change: &dyn Fn(&mut VoteStatement)| {
        let verdict = network.verify(&head_file(&network, change));
        assert!(matches!(verdict, Err(VerifyError::NotHead)), "{why}: {verdict:?}");
    };
    let attested = attest_slot(&public_manifest().hash());
    refused("a first round", &|statement| statement.phase = Phase::Vote);
    refused("an attestation", &|statement| (statement.phase, statement.slot) = (Phase::Vote, attested));
    refused("acks of an attestation", &|statement| statement.slot = attested);
    let group = public_manifest().group_id;
    refused("another version", &|statement| statement.slot = head_slot(&group, 3));
    refused("a rejection by acks", &|statement| statement.verdict = Verdict::Reject);
    let rejected = |statement: &mut VoteStatement| {
        (statement.phase, statement.verdict) = (Phase::Vote, Verdict::Reject);
    };
    assert_eq!(network.verify(&head_file(&network, rejected)).unwrap().verdict, Verdict::Reject);
}

#[test]
fn too_few_acks_certify_nothing() {
    let network = Network::of(4);
    let mut file = head_file(&network, |_| ());
    file.certificate = network.votes(file.certificate.statement, 0..2);
    assert!(matches!(network.verify(&file), Err(VerifyError::Certificate(CertificateError::Signers(_)))));
}

#[test]
fn a_head_follows_only_what_is_certified_and_its_own() {
    let network = Network::of(4);
    let (head, proof) = (public_manifest(), samples::head_proof(&network));
    assert_eq!(proof.verify(&head, &network.chain), Ok(()));
    let found = |proof: &HeadProof, head: &Manifest| proof.verify(head, &network.chain).unwrap_err();
    let other = Manifest { prev: Some(ManifestHash([1; 32])), ..head.clone() };
    assert_eq!(found(&proof, &other), HeadProofError::OtherManifest);
    let skips = Manifest { version: 3, ..head.clone() };
    let stolen =
        Manifest { owner: OwnerKey(public(&network.votes[&network.genesis().founder.vote_key])), ..head.clone() };
    let moved = Manifest { group_id: mynet_types::GroupId([1; 32]), ..head.clone() };
    for defect in [skips, stolen, moved] {
        assert_eq!(found(&proof, &defect), HeadProofError::Lineage);
    }
    let over = |change: &dyn Fn(&mut VoteStatement), votes: usize| {
        let mut statement = proof.certificate.statement;
        change(&mut statement);
        HeadProof { certificate: network.votes(statement, 0..votes), ..proof.clone() }
    };
    let not_certified: [&dyn Fn(&mut VoteStatement); 4] = [
        &|statement| statement.verdict = Verdict::Reject,
        &|statement| statement.phase = Phase::Ack,
        &|statement| statement.slot = head_slot(&manifest().group_id, 1),
        &|statement| statement.value = ManifestHash([1; 32]),
    ];
    for change in not_certified {
        assert_eq!(found(&over(change, 3), &head), HeadProofError::NotCertified);
    }
    assert!(matches!(found(&over(&|_| (), 2), &head), HeadProofError::Certificate(_)));
    let mut later = proof.clone();
    later.certificate.statement.epoch = 9;
    assert_eq!(found(&later, &head), HeadProofError::UnknownEpoch(9));
}

#[test]
fn the_third_version_needs_the_acks_of_the_second() {
    let network = Network::of(4);
    let second = public_manifest();
    let third = Manifest { version: 3, prev: Some(second.hash()), ..second.clone() };
    let by = |file: &CertificateFile| HeadProof::of(file).verify(&third, &network.chain);
    assert_eq!(by(&head_file(&network, |_| ())), Ok(()));
    let first_round = head_file(&network, |statement| statement.phase = Phase::Vote);
    assert_eq!(by(&first_round), Err(HeadProofError::NotCertified));
}

#[test]
fn an_acked_head_shows_the_first_round_of_its_own_slot() {
    let network = Network::of(4);
    let (genesis, newest) = (network.genesis(), network.chain.newest());
    let good = samples::acked_head(&network);
    assert!(good.is_proven(genesis, newest));
    assert!(!good.is_proven(genesis, network.chain.roster(2).unwrap()));
    let mut other = good.clone();
    other.version = 3;
    assert!(!other.is_proven(genesis, newest));
    let changes: [&dyn Fn(&mut VoteStatement); 2] =
        [&|statement| statement.phase = Phase::Ack, &|statement| statement.verdict = Verdict::Reject];
    for change in changes {
        let mut statement = good.certificate.statement;
        change(&mut statement);
        let changed = mynet_types::AckedHead { certificate: network.votes(statement, 0..3), ..good.clone() };
        assert!(!changed.is_proven(genesis, newest));
    }
    let few = network.votes(good.certificate.statement, 0..2);
    assert!(!mynet_types::AckedHead { certificate: few, ..good }.is_proven(genesis, newest));
}

#[test]
fn a_close_report_is_signed_by_the_vote_key_of_its_seat() {
    let network = Network::of(4);
    let (id, newest) = (network.genesis().network_id(), network.chain.newest());
    let good = samples::close_report(&network);
    assert_eq!(good.verify(&id, newest), Ok(()));
    let key = &network.votes[&newest.validators[1].vote_key];
    assert_eq!(CloseReport::new(&id, good.statement, key), good);
    assert!(good.verify(&id, network.chain.roster(2).unwrap()).is_err());
    assert!(good.verify(&mynet_types::NetworkId([1; 32]), newest).is_err());
    let changes: [&dyn Fn(&mut CloseStatement); 4] = [
        &|statement| statement.seat = 0,
        &|statement| statement.seat = 9,
        &|statement| statement.count += 1,
        &|statement| statement.root = [0; 32],
    ];
    for change in changes {
        let mut changed = good.clone();
        change(&mut changed.statement);
        assert!(changed.verify(&id, newest).is_err());
    }
    let vote = network.sign_one(newest, 1, Domain::Vote, &good.statement);
    assert!(CloseReport { signature: vote, ..good }.verify(&id, newest).is_err());
}
