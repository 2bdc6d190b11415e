//! What a certificate file must hold to be valid, and what each defect is called.

use mynet_types::{
    AdmissionRecord, BoundedVec, CertificateFile, Checkpoint, Claim, ContentState, Domain, GenesisFile, Holding,
    LinkError, Manifest, Phase, Roles, RosterChain, SignedReceipt, SignerSetError, SlotKey, StorageReceipt, Timestamp,
    Verdict, VoteStatement,
    certificate::{self, FileError, VerifyError},
    signing::{self, Signed},
    vote::CertificateError,
};

use crate::network::{Network, manifest, mask, node, node_key, owner_key, public_manifest, votes_of};

/// A certificate of `network` over a statement that `change` made wrong, properly signed by `votes` seats.
fn stated(network: &Network, votes: usize, change: impl FnOnce(&mut VoteStatement)) -> CertificateFile {
    let good = network.certificate(votes);
    let mut statement = good.certificate.statement;
    change(&mut statement);
    CertificateFile { certificate: network.votes(statement, 0..votes), ..good }
}

/// A certificate of `network` over `manifest`, properly signed by everybody, with receipts of nodes 0 and 1.
pub(crate) fn over(network: &Network, manifest: Manifest) -> CertificateFile {
    let epoch = network.chain.newest().epoch;
    let seats = network.chain.newest().validators.len();
    CertificateFile {
        certificate: network.votes(network.statement(epoch, &manifest), 0..seats),
        holdings: network.holdings(network.receipts(&manifest, &[0, 1])),
        chain: network.chain.up_to(epoch),
        manifest: Signed::new(&network.genesis().network_id(), manifest, &owner_key()),
    }
}

/// The file with other receipts, of admitted holders.
fn received(network: &Network, file: &CertificateFile, receipts: Vec<SignedReceipt>) -> CertificateFile {
    CertificateFile { holdings: network.holdings(receipts), ..file.clone() }
}

/// The receipts in a file.
fn receipts(file: &CertificateFile) -> Vec<SignedReceipt> {
    file.holdings.iter().map(|holding| holding.receipt.clone()).collect()
}

#[test]
fn a_full_certificate_is_valid_and_says_what_it_proves() {
    let network = Network::of(5);
    let file = network.certificate(4);
    for allow_small in [false, true] {
        let verified = certificate::verify(&file, &network.unpinned(), allow_small).unwrap();
        assert_eq!(verified.network_id, network.genesis().network_id());
        assert_eq!((verified.epoch, verified.quorum, verified.small), (4, 4, false));
        assert_eq!((verified.group_id, verified.manifest_hash), (manifest().group_id, manifest().hash()));
        assert_eq!((verified.verdict, verified.claim), (Verdict::Accept, Claim::Durable));
        assert_eq!(verified.states, mask(&[ContentState::Encrypted, ContentState::Preview]));
        let seats: Vec<_> = network.chain.newest().nodes().take(4).collect();
        assert_eq!(verified.signers, seats);
        assert_eq!(verified.holders.len(), 2);
        assert!([0, 1].iter().all(|holder| verified.holders.contains(&node(*holder))));
    }
}

#[test]
fn a_small_certificate_is_valid_only_where_that_class_is_allowed() {
    for size in [1, 2] {
        let network = Network::of(size);
        let file = network.certificate(size as usize);
        assert!(matches!(certificate::verify(&file, &network.unpinned(), false), Err(VerifyError::Small)));
        let verified = network.verify(&file).unwrap();
        assert!(verified.small);
        assert_eq!(verified.quorum, size as usize);
    }
}

#[test]
fn a_network_without_degraded_quorum_certifies_nothing_below_three() {
    let network = Network::founded(3, false);
    let verdict = network.verify(&network.certificate(1));
    let error = CertificateError::NotEnoughValidators { validators: 1 };
    assert!(matches!(verdict, Err(VerifyError::Certificate(found)) if found == error));
}

#[test]
fn a_file_survives_its_encoding() {
    let network = Network::of(4);
    let file = network.certificate(3);
    let bytes = file.encode();
    let decoded = CertificateFile::decode(&bytes).unwrap();
    assert_eq!(decoded, file);
    assert_eq!(decoded.encode(), bytes);
    let genesis = GenesisFile::of(&network.chain);
    assert_eq!(GenesisFile::decode(&genesis.encode()).unwrap(), genesis);
}

#[test]
fn a_file_of_another_kind_or_cut_short_is_refused() {
    let network = Network::of(4);
    let bytes = network.certificate(3).encode();
    let genesis = GenesisFile::of(&network.chain).encode();
    assert!(matches!(CertificateFile::decode(&genesis), Err(FileError::Magic("certificate"))));
    assert!(matches!(GenesisFile::decode(&bytes[..1000]), Err(FileError::Magic("genesis"))));
    for len in 0..bytes.len() {
        assert!(CertificateFile::decode(&bytes[..len]).is_err());
    }
    let longer: Vec<u8> = bytes.iter().copied().chain([0]).collect();
    assert!(matches!(CertificateFile::decode(&longer), Err(FileError::Checksum)));
    let huge = vec![0; certificate::CERTIFICATE_BYTES_MAX + 1];
    assert!(matches!(CertificateFile::decode(&huge), Err(FileError::Decode(_))));
}

#[test]
fn each_validator_counts_once_and_the_quorum_is_computed() {
    for (size, quorum) in [(3, 3), (4, 3), (5, 4), (7, 5)] {
        let network = Network::of(size);
        assert!(network.verify(&network.certificate(quorum)).is_ok());
        let error = CertificateError::Signers(SignerSetError::TooFew { got: quorum - 1, need: quorum });
        let verdict = network.verify(&network.certificate(quorum - 1));
        assert!(matches!(verdict, Err(VerifyError::Certificate(found)) if found == error));
    }
}

#[test]
fn a_reject_certificate_has_its_own_quorum() {
    for (size, quorum) in [(3, 1), (4, 3), (5, 3), (6, 4), (7, 5)] {
        let network = Network::of(size);
        let rejected = |votes| stated(&network, votes, |statement| statement.verdict = Verdict::Reject);
        let verified = network.verify(&rejected(quorum)).unwrap();
        assert_eq!((verified.verdict, verified.quorum), (Verdict::Reject, quorum));
        let verdict = network.verify(&rejected(quorum - 1));
        let error = CertificateError::Signers(SignerSetError::TooFew { got: quorum - 1, need: quorum });
        assert!(matches!(verdict, Err(VerifyError::Certificate(found)) if found == error));
    }
}

#[test]
fn a_rejection_needs_no_receipts_and_no_states() {
    let network = Network::of(4);
    let file = stated(&network, 3, |statement| {
        statement.verdict = Verdict::Reject;
        statement.states = mask(&[]);
    });
    assert!(network.verify(&received(&network, &file, vec![])).is_ok());
}

#[test]
fn votes_are_about_the_manifest_beside_them() {
    let network = Network::of(4);
    let good = network.certificate(3);
    let id = network.genesis().network_id();
    let other = Signed::new(&id, Manifest { replicas: 4, ..manifest() }, &owner_key());
    let swapped = CertificateFile { manifest: other, holdings: BoundedVec::new(), ..good };
    assert!(matches!(network.verify(&swapped), Err(VerifyError::OtherManifest)));
    let file = stated(&network, 3, |statement| statement.value = public_manifest().hash());
    assert!(matches!(network.verify(&file), Err(VerifyError::OtherManifest)));
}

#[test]
fn votes_of_another_round_or_slot_are_no_attestation() {
    let network = Network::of(4);
    let ack = stated(&network, 3, |statement| statement.phase = Phase::Ack);
    assert!(matches!(network.verify(&ack), Err(VerifyError::NotAttestation)));
    let slot = stated(&network, 3, |statement| statement.slot = SlotKey([1; 32]));
    assert!(matches!(network.verify(&slot), Err(VerifyError::NotAttestation)));
}

#[test]
fn votes_accept_states_that_the_manifest_has() {
    let network = Network::of(4);
    let none = stated(&network, 3, |statement| statement.states = mask(&[]));
    assert!(matches!(network.verify(&none), Err(VerifyError::States)));
    let mut public = over(&network, public_manifest());
    assert!(network.verify(&public).is_ok());
    let statement = VoteStatement { states: mask(&ContentState::ALL), ..public.certificate.statement };
    public.certificate = network.votes(statement, 0..3);
    assert!(matches!(network.verify(&public), Err(VerifyError::States)));
}

#[test]
fn votes_of_another_epoch_or_roster_do_not_count() {
    let network = Network::of(5);
    let good = network.certificate(4);
    let other = Err(CertificateError::OtherRoster);
    let mut claims_older = good.clone();
    claims_older.certificate.statement.epoch = 3;
    let mut claims_roster = good.clone();
    claims_roster.certificate.statement.roster = network.chain.roster(3).unwrap().hash();
    for file in [claims_older, claims_roster] {
        let Err(VerifyError::Certificate(found)) = network.verify(&file) else { panic!("must be refused") };
        assert_eq!(Err::<(), _>(found), other);
    }
    // The same seats signed, but their keys of another epoch.
    let mut file = good;
    file.certificate.signers =
        network.sign(network.chain.roster(3).unwrap(), 0..4, mynet_types::Domain::Vote, &file.certificate.statement);
    assert!(matches!(network.verify(&file), Err(VerifyError::Certificate(CertificateError::Signers(_)))));
}

#[test]
fn the_owner_signed_the_manifest() {
    let network = Network::of(4);
    let mut file = network.certificate(3);
    file.manifest.signature = network.receipt(&manifest(), 0).signature;
    assert!(matches!(network.verify(&file), Err(VerifyError::Owner)));
}

#[test]
fn receipts_are_sorted_distinct_and_about_this_manifest() {
    let network = Network::of(4);
    let good = network.certificate(3);
    let list = receipts(&good);
    let refused = |receipts: Vec<SignedReceipt>, holder| {
        let verdict = network.verify(&received(&network, &good, receipts));
        assert!(matches!(verdict, Err(VerifyError::Receipt { holder: found }) if found == holder), "{verdict:?}");
    };
    let (first, second) = (list[0].clone(), list[1].clone());
    refused(vec![second.clone(), first.clone()], first.body.holder);
    refused(vec![first.clone(), first.clone(), second.clone()], first.body.holder);
    refused(vec![network.receipt(&public_manifest(), 0)], node(0));
    let stolen = SignedReceipt { signature: second.signature, ..first.clone() };
    refused(vec![stolen, second], first.body.holder);
    let later = StorageReceipt { until: Timestamp::MAX, ..first.body.clone() };
    refused(vec![SignedReceipt { body: later, signature: first.signature }], first.body.holder);
    let elsewhere = Network::founded(2, true);
    refused(vec![elsewhere.receipt(&manifest(), 0)], node(0));
}

#[test]
fn only_a_holder_that_a_validator_admitted_counts() {
    let network = Network::of(4);
    let id = network.genesis().network_id();
    let good = network.certificate(3);
    let refused = |change: &dyn Fn(AdmissionRecord) -> AdmissionRecord, issuer: u64, why: &str| {
        let mut holdings = good.holdings.clone().into_vec();
        let holder = holdings[0].receipt.body.holder;
        let body = change(holdings[0].admission.body.clone());
        let signature = signing::sign_as(Domain::Admission, &id, &body, &node_key(issuer));
        holdings[0].admission = Signed { body, signature };
        let verdict = network.verify(&CertificateFile { holdings: holdings.try_into().unwrap(), ..good.clone() });
        assert!(
            matches!(verdict, Err(VerifyError::NotAdmitted { holder: found }) if found == holder),
            "{why}: {verdict:?}"
        );
    };
    refused(&|body| AdmissionRecord { issuer: node(9), ..body }, 9, "a stranger admits");
    refused(&|body| AdmissionRecord { issuer: node(0), ..body }, 9, "a stranger signs");
    refused(&|body| AdmissionRecord { issuer: node(1), ..body }, 1, "no validator of that epoch");
    refused(&|body| AdmissionRecord { epoch: 9, ..body }, 0, "an epoch that does not exist");
    refused(&|body| AdmissionRecord { node: node(9), ..body }, 0, "another node");
    refused(&|body| AdmissionRecord { roles: Roles::EDGE, ..body }, 0, "an edge");
    refused(&|body| AdmissionRecord { roles: Roles::VALIDATOR, ..body }, 0, "a node that stores nothing");
}

#[test]
fn receipts_of_keys_that_nobody_admitted_cannot_take_the_place_of_the_right_ones() {
    let network = Network::of(4);
    let good = network.certificate(3);
    let forged = network.receipts(&good.manifest.body, &[77, 78]);
    let holdings: Vec<Holding> = forged
        .into_iter()
        .zip(&good.holdings)
        .map(|(receipt, holding)| Holding { receipt, admission: holding.admission.clone() })
        .collect();
    let file = CertificateFile { holdings: holdings.try_into().unwrap(), ..good };
    assert!(matches!(network.verify(&file), Err(VerifyError::NotAdmitted { .. })));
}

#[test]
fn a_receipt_for_a_part_of_the_group_or_more_than_it_has_does_not_count() {
    let network = Network::of(4);
    let id = network.genesis().network_id();
    let counts = |manifest: Manifest, states: &[ContentState]| {
        let file = over(&network, manifest);
        let body = StorageReceipt { states: mask(states), ..network.receipt(&file.manifest.body, 0).body };
        let mut receipts = network.receipts(&file.manifest.body, &[1, 2]);
        receipts.push(Signed::new(&id, body, &node_key(0)));
        receipts.sort_by_key(|receipt| receipt.body.holder);
        network.verify(&received(&network, &file, receipts)).is_ok()
    };
    use ContentState::{Decrypted, Encrypted, Preview};
    assert!(counts(manifest(), &[Encrypted, Preview]));
    assert!(counts(manifest(), &[Encrypted, Decrypted, Preview]), "a granted holder");
    assert!(!counts(manifest(), &[Encrypted]));
    assert!(!counts(manifest(), &[Preview]));
    assert!(!counts(manifest(), &[]));
    assert!(counts(public_manifest(), &[Decrypted]));
    assert!(!counts(public_manifest(), &[Decrypted, Preview]));
    assert!(!counts(public_manifest(), &[]));
}

#[test]
fn durable_needs_the_receipts_that_the_manifest_asks_for() {
    let network = Network::of(4);
    let good = network.certificate(3);
    for got in [0, 1] {
        let few = received(&network, &good, receipts(&good).into_iter().take(got).collect());
        let verdict = network.verify(&few);
        assert!(matches!(verdict, Err(VerifyError::TooFewReceipts { got: found, need: 2 }) if found == got));
    }
    let seen = stated(&network, 3, |statement| statement.claim = Claim::Seen);
    assert!(network.verify(&received(&network, &seen, vec![])).is_ok());
}

#[test]
fn durable_means_one_copy_at_least_whatever_the_owner_wrote() {
    let network = Network::of(4);
    let file = over(&network, Manifest { quorum: 0, ..manifest() });
    assert!(network.verify(&file).is_ok());
    let verdict = network.verify(&received(&network, &file, vec![]));
    assert!(matches!(verdict, Err(VerifyError::TooFewReceipts { got: 0, need: 1 })));
}

#[test]
fn the_chain_reaches_the_epoch_of_the_votes() {
    let network = Network::of(5);
    for epoch in 0..4 {
        let file = CertificateFile { chain: network.chain.up_to(epoch), ..network.certificate(4) };
        assert!(matches!(network.verify(&file), Err(VerifyError::UnknownEpoch { epoch: 4 })));
    }
    let file = CertificateFile { chain: RosterChain::default(), ..network.certificate(4) };
    assert!(matches!(network.verify(&file), Err(VerifyError::UnknownEpoch { epoch: 4 })));
}

#[test]
fn a_broken_link_spoils_the_file_even_past_the_epoch_of_the_votes() {
    let mut network = Network::of(4);
    let file = network.certificate(3);
    network.step(&[0, 1, 2, 3, 4]);
    let longer = CertificateFile { chain: network.chain.up_to(4), ..file.clone() };
    assert_eq!(network.verify(&longer).unwrap(), network.verify(&file).unwrap());
    let mut links = network.chain.up_to(4).links.into_vec();
    votes_of(&mut links[3]).old = votes_of(&mut links[2]).old.clone();
    let broken = CertificateFile { chain: RosterChain { links: links.try_into().unwrap() }, ..file };
    assert!(matches!(network.verify(&broken), Err(VerifyError::Chain(LinkError::Old { epoch: 4, .. }))));
}

#[test]
fn a_certificate_of_another_network_is_refused() {
    let network = Network::of(4);
    for (other, size) in [(Network::founded(2, true), 1), (Network::founded(2, true), 4)] {
        let file = if size == 1 { Network::of(1).certificate(1) } else { network.certificate(3) };
        assert!(other.verify(&file).is_err());
    }
    let verdict = Network::founded(2, true).verify(&network.certificate(3));
    assert!(matches!(verdict, Err(VerifyError::Chain(LinkError::NotNext { epoch: 1 }))));
}

#[test]
fn a_genesis_file_pins_the_newest_roster_from_four_validators_on() {
    for size in 1..=5 {
        let network = Network::of(size);
        let newest = network.chain.newest();
        let pinned = Checkpoint { epoch: newest.epoch, roster: newest.hash() };
        assert_eq!(GenesisFile::of(&network.chain).checkpoint, (size >= 4).then_some(pinned));
    }
}

#[test]
fn a_chain_passes_through_the_pinned_roster() {
    let mut network = Network::of(4);
    let trust = GenesisFile::of(&network.chain);
    let at_pin = network.certificate(3);
    network.step(&[0, 1, 2, 3, 4]);
    let after_pin = network.certificate(4);
    for file in [&at_pin, &after_pin] {
        assert!(certificate::verify(file, &trust, false).is_ok());
    }
    // Votes of an epoch before the pin are good as long as the chain beside them goes on to it.
    let young = Network::of(3);
    let before_pin = young.certificate(3);
    let goes_on = CertificateFile { chain: network.chain.up_to(3), ..before_pin.clone() };
    assert!(certificate::verify(&goes_on, &trust, false).is_ok());
    let ends_before = certificate::verify(&before_pin, &trust, false);
    assert!(matches!(ends_before, Err(VerifyError::AvoidsCheckpoint { epoch: 3 })));
}

#[test]
fn a_fork_from_before_the_pin_is_refused() {
    let trust = GenesisFile::of(&Network::of(5).chain);
    let mut fork = Network::of(3);
    for numbers in [&[0, 1, 2, 7][..], &[0, 1, 2, 7, 8], &[0, 1, 2, 7, 8, 9]] {
        fork.step(numbers);
    }
    let file = fork.certificate(6);
    assert!(fork.verify(&file).is_ok(), "without a pin nothing tells the fork from the network");
    let verdict = certificate::verify(&file, &trust, true);
    assert!(matches!(verdict, Err(VerifyError::AvoidsCheckpoint { epoch: 4 })));
}

#[test]
fn a_certificate_is_named_by_its_votes_alone() {
    let mut network = Network::of(4);
    let file = network.certificate(3);
    let hash = file.hash();
    network.step(&[0, 1, 2, 3, 4]);
    let longer = CertificateFile { chain: network.chain.up_to(4), holdings: BoundedVec::new(), ..file };
    assert_eq!(longer.hash(), hash);
    assert_ne!(network.certificate(4).hash(), hash);
}
