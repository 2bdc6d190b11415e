//! Thousands of certificates that somebody tampered with: none says anything that was not certified.
//!
//! A tampered file may still be valid: votes of another quorum on the same statement, or all of another valid file. So what
//! is asked is not that it is refused, but that it says what one of the genuine files says, and names nobody whom they do
//! not name.
//!
//! Each number makes one forgery, the same on every machine. The gate tries [`FORGERIES`]; `scripts/test` sets
//! `MYNET_FORGERIES` to try more.

use std::{collections::BTreeMap, sync::LazyLock};

use mynet_types::{
    CertificateFile, Claim, ContentState, Domain, GenesisFile, Holding, NodeId, Phase, QuorumCertificate, RosterChain,
    SignerSet, StatesMask, Timestamp, Verdict, VoteStatement,
    certificate::{self, Verified},
    signing::{self, Signed},
};
use sha2::{Digest, Sha256};

use crate::network::{Network, mask, node, node_key, owner_key, public_manifest, votes_of};

/// Forgeries tried in the gate; a few seconds.
const FORGERIES: u64 = 10_000;
/// Bytes of the magic, and of the trailer.
const MAGIC: usize = 8;
const TRAILER: usize = 32;

/// SplitMix64 (Steele et al., 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn one_in(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn bytes32(&mut self) -> [u8; 32] {
        Sha256::digest(self.next().to_le_bytes()).into()
    }
}

/// What forgers have to work with.
struct Genuine {
    trust: GenesisFile,
    network: Network,
    files: Vec<CertificateFile>,
    bytes: Vec<Vec<u8>>,
    /// What each says.
    said: Vec<Verified>,
    /// What was checked against which chain, so that a forgery that leaves the chain alone costs a tenth.
    chain: RosterChain,
}

/// Two values, both verdicts, every claim, several quorums, an older epoch, other holders: all signed in one network.
static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let network = Network::of(4);
    let trust = network.unpinned();
    let durable = network.certificate(3);
    let mut files = vec![durable.clone(), network.certificate(4)];
    let good = durable.certificate.statement;
    let with = |statement: VoteStatement, seats: std::ops::Range<usize>| CertificateFile {
        certificate: network.votes(statement, seats),
        ..durable.clone()
    };
    files.push(with(VoteStatement { claim: Claim::Seen, ..good }, 1..4));
    files.push(with(VoteStatement { claim: Claim::Verified, ..good }, 0..4));
    files.push(with(VoteStatement { states: mask(&[ContentState::Encrypted]), ..good }, 0..3));
    files.push(with(VoteStatement { verdict: Verdict::Reject, claim: Claim::Seen, ..good }, 0..3));
    let public = public_manifest();
    let id = network.genesis().network_id();
    files.push(CertificateFile {
        certificate: network.votes(network.statement(3, &public), 0..3),
        holdings: network.holdings(network.receipts(&public, &[1, 2, 3])),
        chain: network.chain.up_to(3),
        manifest: Signed::new(&id, public, &owner_key()),
    });
    files.push(CertificateFile {
        certificate: network.votes(network.statement(2, &durable.manifest.body), 0..3),
        ..durable.clone()
    });
    let said = files.iter().map(|file| certificate::verify(file, &trust, true).expect("a genuine file is valid"));
    let said: Vec<_> = said.collect();
    let bytes = files.iter().map(CertificateFile::encode).collect();
    Genuine { trust, files, bytes, said, chain: network.chain.up_to(3), network }
});

/// What a certificate says, without who of those entitled said it.
fn meaning(verified: &Verified) -> Verified {
    Verified { signers: Vec::new(), holders: Vec::new(), ..verified.clone() }
}

/// Verifies as `mynet verify` does. A chain that is the genuine one is not checked again, but for one time in sixteen.
fn accepted(dice: &mut Dice, bytes: &[u8]) -> Option<Verified> {
    let genuine = &*GENUINE;
    let file = CertificateFile::decode(bytes).ok()?;
    assert_eq!(file.encode(), bytes, "what is accepted is the one encoding of what it says");
    if file.chain == genuine.chain && !dice.one_in(16) {
        return file.verify_under(&genuine.network.chain).ok();
    }
    certificate::verify(&file, &genuine.trust, true).ok()
}

/// Flips bits, cuts, moves, repeats and inserts bytes, puts two files together; mends the trailer, mostly.
fn tamper_with_bytes(dice: &mut Dice) -> Vec<u8> {
    let genuine = &*GENUINE;
    let (one, other) = (dice.below(genuine.bytes.len()), dice.below(genuine.bytes.len()));
    let other = &genuine.bytes[other];
    let mut bytes = genuine.bytes[one].clone();
    for _ in 0..=dice.below(3) {
        if bytes.len() <= MAGIC {
            // Cut away to the last byte that could be changed.
            break;
        }
        let end = bytes.len().saturating_sub(TRAILER).max(MAGIC + 1);
        let at = MAGIC + dice.below(end - MAGIC);
        let len = [1, 2, 4, 8, 32, 64, 96, 128][dice.below(8)].min(bytes.len() - at);
        match dice.below(8) {
            0..3 => bytes[at] ^= 1 << dice.below(8),
            3 => bytes.truncate(at.max(MAGIC + TRAILER)),
            4 => drop(bytes.drain(at..at + len)),
            5 => {
                let piece = bytes[at..at + len].to_vec();
                let to = dice.below(bytes.len());
                drop(bytes.splice(to..to, piece));
            }
            6 => bytes.splice(at.., other[at.min(other.len())..].iter().copied()).for_each(drop),
            _ => {
                let from = dice.below(other.len());
                bytes.splice(at.., other[from..].iter().copied()).for_each(drop);
            }
        }
    }
    if bytes.len() >= MAGIC + TRAILER && !dice.one_in(16) {
        let end = bytes.len() - TRAILER;
        let (framed, trailer) = bytes.split_at_mut(end);
        trailer.copy_from_slice(&Sha256::digest(framed));
    }
    bytes
}

/// Swaps fields between two files, changes fields, and encodes that properly.
fn tamper_with_fields(dice: &mut Dice) -> Vec<u8> {
    let genuine = &*GENUINE;
    let mut file = genuine.files[dice.below(genuine.files.len())].clone();
    for _ in 0..=dice.below(2) {
        let other = &genuine.files[dice.below(genuine.files.len())];
        match dice.below(5) {
            0 => swap(dice, &mut file, other),
            1 => change_statement(dice, &mut file.certificate),
            2 => change_signers(dice, &mut file.certificate.signers, other),
            3 => change_holdings(dice, &mut file),
            _ => change_rest(dice, &mut file),
        }
    }
    file.encode()
}

fn swap(dice: &mut Dice, file: &mut CertificateFile, other: &CertificateFile) {
    match dice.below(9) {
        0 => file.manifest = other.manifest.clone(),
        1 => file.manifest.signature = other.manifest.signature,
        2 => file.certificate = other.certificate.clone(),
        3 => file.certificate.statement = other.certificate.statement,
        4 => file.certificate.signers = other.certificate.signers.clone(),
        5 => file.holdings = other.holdings.clone(),
        6 => file.certificate.statement.claim = other.certificate.statement.claim,
        7 => file.certificate.statement.verdict = other.certificate.statement.verdict,
        _ => file.chain = GENUINE.network.chain.up_to(dice.next() % 4),
    }
}

fn change_statement(dice: &mut Dice, certificate: &mut QuorumCertificate) {
    let statement = &mut certificate.statement;
    match dice.below(9) {
        0 => statement.epoch = dice.next() % 6,
        1 => statement.roster.0 = dice.bytes32(),
        2 => statement.phase = [Phase::Vote, Phase::Ack][dice.below(2)],
        3 => statement.slot.0 = dice.bytes32(),
        4 => statement.value.0 = dice.bytes32(),
        5 => statement.verdict = [Verdict::Accept, Verdict::Reject][dice.below(2)],
        6 => statement.claim = [Claim::Seen, Claim::Durable, Claim::Verified][dice.below(3)],
        7 => statement.states = ContentState::ALL.into_iter().filter(|_| dice.one_in(2)).collect::<StatesMask>(),
        _ => {
            // A forger with one vote key signs what he likes.
            let roster = GENUINE.network.chain.roster(3).expect("epoch 3");
            statement.states = mask(&ContentState::ALL);
            let mine = GENUINE.network.sign(roster, [dice.below(4)], Domain::Vote, statement);
            let signed = certificate.signers.seats().zip(certificate.signers.signatures.iter().copied());
            let seat = mine.seats().next().expect("one seat signed");
            certificate.signers = SignerSet::collect(signed.chain([(seat, mine.signatures[0])]));
        }
    }
}

fn change_signers(dice: &mut Dice, signers: &mut SignerSet, other: &CertificateFile) {
    let mut signatures = std::mem::take(&mut signers.signatures).into_vec();
    match dice.below(6) {
        0 => signers.seats ^= 1 << dice.below(6),
        1 => signers.seats = signers.seats.rotate_left(1),
        2 => drop(signatures.pop()),
        3 => signatures.push(signatures[0]),
        4 => signatures.swap(0, 1),
        _ => signatures[0] = other.certificate.signers.signatures[0],
    }
    signers.signatures = signatures.try_into().expect("few signatures");
}

fn change_holdings(dice: &mut Dice, file: &mut CertificateFile) {
    let mut holdings: Vec<Holding> = std::mem::take(&mut file.holdings).into_vec();
    match (dice.below(7), holdings.as_mut_slice()) {
        (0, [first, ..]) => first.receipt.body.holder = NodeId(dice.bytes32()),
        (1, [first, ..]) => first.receipt.body.until = Timestamp(dice.next()),
        (2, [first, second, ..]) => std::mem::swap(&mut first.receipt, &mut second.receipt),
        (3, [first, second, ..]) => std::mem::swap(&mut first.admission, &mut second.admission),
        (4, [first, ..]) => {
            // A forger with a node key, but no admission of its own, vouches for itself.
            let stranger = 50 + dice.next() % 3;
            first.receipt = GENUINE.network.receipt(&file.manifest.body, stranger);
            first.admission.body.node = node(stranger);
            let mine = (first.admission.body.clone(), GENUINE.network.genesis().network_id());
            if dice.one_in(2) {
                let signature = signing::sign_as(Domain::Admission, &mine.1, &mine.0, &node_key(stranger));
                first.admission.signature = signature;
            }
        }
        (5, [first, ..]) => {
            let again = first.clone();
            holdings.push(again);
        }
        _ => drop(holdings.pop()),
    }
    file.holdings = holdings.try_into().expect("few holdings");
}

fn change_rest(dice: &mut Dice, file: &mut CertificateFile) {
    let manifest = &mut file.manifest.body;
    let mut links = file.chain.links.clone().into_vec();
    match (dice.below(9), links.as_mut_slice()) {
        (0, _) => manifest.quorum = (dice.next() % 4) as u8,
        (1, _) => manifest.replicas = dice.next() as u8,
        (2, _) => manifest.version = dice.next() % 3,
        (3, _) => manifest.owner.0 = dice.bytes32(),
        (4, _) => manifest.placement_seed = dice.bytes32(),
        (5, [first, .., last]) => std::mem::swap(&mut votes_of(first).old, &mut votes_of(last).old),
        (6, [.., last]) => last.roster.valid_from = Timestamp(dice.next()),
        (7, [.., last]) => votes_of(last).new = votes_of(last).old.clone(),
        _ => drop(links.pop()),
    }
    file.chain = RosterChain { links: links.try_into().expect("few links") };
}

/// How many forgeries to try.
fn wanted() -> u64 {
    std::env::var("MYNET_FORGERIES").map_or(FORGERIES, |text| text.parse().expect("MYNET_FORGERIES is a number"))
}

#[test]
fn no_forgery_says_what_was_not_certified() {
    let genuine = &*GENUINE;
    let (mut valid, mut refused) = (BTreeMap::<usize, u64>::new(), 0u64);
    let mut number = 0;
    while refused + valid.values().sum::<u64>() < wanted() {
        number += 1;
        let mut dice = Dice(number);
        let bytes = if dice.one_in(2) { tamper_with_bytes(&mut dice) } else { tamper_with_fields(&mut dice) };
        if genuine.bytes.contains(&bytes) {
            // Nothing was changed, or all was put back.
            continue;
        }
        let Some(verified) = accepted(&mut dice, &bytes) else {
            refused += 1;
            continue;
        };
        let known = genuine.said.iter().position(|said| meaning(said) == meaning(&verified));
        let Some(known) = known else { panic!("forgery {number} is accepted and says {verified:?}") };
        let named = |by: fn(&Verified) -> &Vec<NodeId>, who: &NodeId| genuine.said.iter().any(|s| by(s).contains(who));
        assert!(verified.signers.iter().all(|who| named(|said| &said.signers, who)), "forgery {number}");
        assert!(verified.holders.iter().all(|who| named(|said| &said.holders, who)), "forgery {number}");
        *valid.entry(known).or_default() += 1;
    }
    println!("{refused} refused; valid all the same, by what they say: {valid:?}");
    assert!(!valid.is_empty(), "other quorums, longer chains and fewer receipts make valid files: {valid:?}");
    assert!(refused > 9 * valid.values().sum::<u64>(), "most forgeries are nothing: {refused}, {valid:?}");
}
