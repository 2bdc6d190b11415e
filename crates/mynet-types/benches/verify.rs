//! How fast votes and certificates are verified, offline and on one thread; and what encoding costs beside it.
//!
//! The inputs are the committed vectors: a network of four validators, a certificate of three votes, two holdings and three
//! links. Figures of one machine are in `docs/benchmarks.md`.

use std::sync::LazyLock;

use divan::{Bencher, counter::BytesCount, counter::ItemsCount};
use ed25519_dalek::SigningKey;
use mynet_types::{
    CertificateFile, Domain, GenesisFile, NetworkId, SignedManifest, VerifiedChain, Vote, certificate, codec, signing,
};

fn main() {
    divan::main();
}

const COMMITTED: &str = include_str!("../tests/vectors/wire-v1.txt");

/// The bytes of a committed record or file.
fn committed(name: &str) -> Vec<u8> {
    let line = COMMITTED.lines().find_map(|line| line.strip_prefix(name)).expect("a committed vector");
    hex::decode(line.split(' ').next_back().expect("bytes stand last")).expect("bytes are hex")
}

struct Inputs {
    certificate: Vec<u8>,
    file: CertificateFile,
    genesis: GenesisFile,
    chain: VerifiedChain,
    network: NetworkId,
    vote: Vote,
    manifest: SignedManifest,
}

static INPUTS: LazyLock<Inputs> = LazyLock::new(|| {
    let certificate = committed("file certificate ");
    let file = CertificateFile::decode(&certificate).expect("it is valid");
    let genesis = GenesisFile::decode(&committed("file genesis ")).expect("it is valid");
    let chain = VerifiedChain::verify(genesis.genesis.clone(), &file.chain).expect("it is valid");
    let decode = |name| committed(name);
    let (vote, manifest) = (decode("record vote "), decode("record manifest "));
    Inputs {
        network: genesis.genesis.network_id(),
        vote: codec::decode(&vote, vote.len()).expect("it is valid"),
        manifest: codec::decode(&manifest, manifest.len()).expect("it is valid"),
        certificate,
        file,
        genesis,
        chain,
    }
});

/// One vote: encoding, hash and one strict Ed25519 verification.
#[divan::bench]
fn vote(bencher: Bencher<'_, '_>) {
    let inputs = &*INPUTS;
    let roster = inputs.chain.newest();
    bencher.counter(ItemsCount::new(1u32)).bench(|| inputs.vote.verify(&inputs.network, roster).expect("it is valid"));
}

/// The same work to sign, for comparison.
#[divan::bench]
fn sign_a_vote(bencher: Bencher<'_, '_>) {
    let (inputs, key) = (&*INPUTS, SigningKey::from_bytes(&[7; 32]));
    bencher
        .counter(ItemsCount::new(1u32))
        .bench(|| signing::sign_as(Domain::Vote, &inputs.network, &inputs.vote.statement, &key));
}

/// A certificate by somebody who has verified the chain: three votes, the owner, two receipts and two admissions.
#[divan::bench]
fn certificate_under_a_known_chain(bencher: Bencher<'_, '_>) {
    let inputs = &*INPUTS;
    bencher.counter(ItemsCount::new(1u32)).bench(|| inputs.file.verify_under(&inputs.chain).expect("it is valid"));
}

/// A certificate file from its bytes by somebody who has the genesis alone: fifteen signatures of the chain more.
#[divan::bench]
fn certificate_from_the_genesis_alone(bencher: Bencher<'_, '_>) {
    let inputs = &*INPUTS;
    bencher.counter(ItemsCount::new(1u32)).bench(|| {
        let file = CertificateFile::decode(&inputs.certificate).expect("it is valid");
        certificate::verify(&file, &inputs.genesis, false).expect("it is valid")
    });
}

#[divan::bench]
fn decode_a_certificate(bencher: Bencher<'_, '_>) {
    let inputs = &*INPUTS;
    bencher
        .counter(BytesCount::new(inputs.certificate.len()))
        .bench(|| CertificateFile::decode(&inputs.certificate).expect("it is valid"));
}

#[divan::bench]
fn encode_a_manifest(bencher: Bencher<'_, '_>) {
    let inputs = &*INPUTS;
    bencher.counter(BytesCount::new(codec::encode(&inputs.manifest).len())).bench(|| codec::encode(&inputs.manifest));
}

#[divan::bench]
fn hash_a_manifest(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(1u32)).bench(|| INPUTS.manifest.body.hash());
}
