//! A changed certificate never verifies: bytes, trailer mended or not, and fields.
//!
//! Two different files may both be valid (other signers, other receipts, more links), and then they say the same. What
//! is shown here: no change of bytes inside a valid file, and no change of a field, makes a file that says otherwise.

use std::sync::LazyLock;

use mynet_types::{
    CertificateFile, Claim, ContentState, GenesisFile, Holding, NodeId, Phase, RosterChain, SignerSet, StatesMask,
    Timestamp, Verdict,
    certificate::{self, Verified},
};
use proptest::prelude::{ProptestConfig, any, prop_assert, proptest};
use sha2::{Digest, Sha256};

use crate::network::{Network, mask, votes_of};

/// Bytes of the trailer.
const TRAILER: usize = 32;

/// Four validators; made once, because properties ask for it thousands of times.
static FOUR: LazyLock<Network> = LazyLock::new(|| Network::of(4));

/// What a certificate says, without who of those entitled said it.
fn meaning(verified: &Verified) -> Verified {
    Verified { signers: Vec::new(), holders: Vec::new(), ..verified.clone() }
}

/// Writes the trailer that belongs to the bytes before it.
fn mend(bytes: &mut [u8]) {
    let (framed, trailer) = bytes.split_at_mut(bytes.len() - TRAILER);
    trailer.copy_from_slice(&Sha256::digest(framed));
}

/// Reads and verifies a file, as `mynet verify` does.
fn verify(bytes: &[u8], trust: &GenesisFile) -> Option<Verified> {
    let file = CertificateFile::decode(bytes).ok()?;
    assert_eq!(file.encode(), bytes, "what is accepted is the one encoding of what it says");
    certificate::verify(&file, trust, true).ok()
}

/// Flips `patterns` in every byte at `offsets` of a certificate of `network`, and mends the trailer; says how many
/// mutations that were.
fn flip_each(network: &Network, patterns: &[u8], offsets: impl Fn(usize) -> bool) -> usize {
    let votes = network.chain.newest().validators.len();
    let (good, trust) = (network.certificate(votes).encode(), network.unpinned());
    assert!(verify(&good, &trust).is_some());
    let mut count = 0;
    for offset in (0..good.len() - TRAILER).filter(|offset| offsets(*offset)) {
        for pattern in patterns {
            let mut bytes = good.clone();
            bytes[offset] ^= pattern;
            mend(&mut bytes);
            assert!(verify(&bytes, &trust).is_none(), "byte {offset} ^ {pattern:#04x} still verifies");
            count += 1;
        }
    }
    count
}

#[test]
fn no_changed_byte_passes_the_checksum() {
    let network = Network::of(4);
    let (good, trust) = (network.certificate(3).encode(), network.unpinned());
    let mut count = 0;
    for offset in 0..good.len() {
        for pattern in [0x01, 0x10, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[offset] ^= pattern;
            assert!(verify(&bytes, &trust).is_none(), "byte {offset} ^ {pattern:#04x} still verifies");
            count += 1;
        }
    }
    assert!(count >= 10_000, "{count} mutations");
}

#[test]
fn no_flipped_bit_of_a_small_certificate_verifies_with_a_mended_trailer() {
    let bits: Vec<u8> = (0..8).map(|bit| 1 << bit).collect();
    let count = flip_each(&Network::of(1), &bits, |_| true);
    assert!(count >= 6_000, "{count} mutations");
}

#[test]
fn no_changed_even_byte_of_a_full_certificate_verifies_with_a_mended_trailer() {
    let count = flip_each(&Network::of(4), &[0x01, 0x80, 0xff], |offset| offset % 2 == 0);
    assert!(count >= 4_000, "{count} mutations");
}

#[test]
fn no_changed_odd_byte_of_a_full_certificate_verifies_with_a_mended_trailer() {
    let count = flip_each(&Network::of(4), &[0x01, 0x80, 0xff], |offset| offset % 2 == 1);
    assert!(count >= 4_000, "{count} mutations");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn moved_copied_and_cut_bytes_never_verify_with_a_mended_trailer(
        operation in 0..4u8,
        from in any::<proptest::sample::Index>(),
        to in any::<proptest::sample::Index>(),
        len in proptest::sample::select(vec![1usize, 2, 4, 8, 32, 64, 96, 128]),
    ) {
        let (good, trust) = (FOUR.certificate(4).encode(), FOUR.unpinned());
        let end = good.len() - TRAILER - len;
        let (from, to) = (from.index(end), to.index(end));
        let piece = good[from..from + len].to_vec();
        let mut bytes = good.clone();
        match operation {
            0 => bytes[to..to + len].copy_from_slice(&piece),
            1 => {
                bytes[from..from + len].copy_from_slice(&good[to..to + len]);
                bytes[to..to + len].copy_from_slice(&piece);
            }
            2 => drop(bytes.splice(to..to, piece)),
            _ => drop(bytes.drain(from..from + len)),
        }
        mend(&mut bytes);
        prop_assert!(bytes == good || verify(&bytes, &trust).is_none());
    }
}

#[test]
fn fewer_signers_or_receipts_verify_only_with_a_quorum_and_the_same_meaning() {
    let (network, trust) = (Network::of(4), FOUR.unpinned());
    let good = network.certificate(4);
    let whole = network.verify(&good).unwrap();
    for (seats, receipts) in (0..16u8).flat_map(|seats| (0..4u8).map(move |receipts| (seats, receipts))) {
        let kept = |bits: u8| move |index: usize| bits & 1 << index != 0;
        let mut file = good.clone();
        let signatures = good.certificate.signers.signatures.iter().copied().enumerate();
        file.certificate.signers = SignerSet::collect(signatures.filter(|(seat, _)| kept(seats)(*seat)));
        let held = good.holdings.iter().cloned().enumerate().filter(|(index, _)| kept(receipts)(*index));
        file.holdings = held.map(|(_, holding)| holding).collect::<Vec<_>>().try_into().unwrap();
        let verified = verify(&file.encode(), &trust);
        assert_eq!(verified.is_some(), seats.count_ones() >= 3 && receipts == 0b11, "{seats:04b} {receipts:02b}");
        if let Some(verified) = verified {
            assert_eq!(meaning(&verified), meaning(&whole));
            assert!(verified.signers.iter().all(|signer| whole.signers.contains(signer)));
        }
    }
}

/// One change of a field that no signature was made for.
type Change = fn(&mut CertificateFile);

/// Every field of the votes and of a receipt, those of an admission that say who, and the shape of all lists.
const CHANGES: [(&str, Change); 31] = [
    ("epoch", |file| file.certificate.statement.epoch -= 1),
    ("roster", |file| file.certificate.statement.roster.0[0] ^= 1),
    ("phase", |file| file.certificate.statement.phase = Phase::Ack),
    ("slot", |file| file.certificate.statement.slot.0[0] ^= 1),
    ("value", |file| file.certificate.statement.value.0[0] ^= 1),
    ("verdict", |file| file.certificate.statement.verdict = Verdict::Reject),
    ("claim seen", |file| file.certificate.statement.claim = Claim::Seen),
    ("claim verified", |file| file.certificate.statement.claim = Claim::Verified),
    ("more states", |file| file.certificate.statement.states = mask(&ContentState::ALL)),
    ("fewer states", |file| file.certificate.statement.states = mask(&[ContentState::Encrypted])),
    ("no states", |file| file.certificate.statement.states = StatesMask::EMPTY),
    ("another seat", |file| file.certificate.signers.seats = 0b1110),
    ("one seat more", |file| file.certificate.signers.seats |= 0b1000),
    ("no seat", |file| file.certificate.signers.seats = 0),
    ("all seats", |file| file.certificate.signers.seats = u64::MAX),
    ("group", |file| file.manifest.body.group_id.0[0] ^= 1),
    ("W", |file| file.manifest.body.quorum = 1),
    ("R", |file| file.manifest.body.replicas = 200),
    ("owner", |file| file.manifest.body.owner.0[0] ^= 1),
    ("holder", |file| change_receipt(file, |receipt| receipt.body.holder = NodeId([0; 32]))),
    ("until", |file| change_receipt(file, |receipt| receipt.body.until = Timestamp::MAX)),
    ("held", |file| change_receipt(file, |receipt| receipt.body.states = mask(&ContentState::ALL))),
    ("held value", |file| change_receipt(file, |receipt| receipt.body.manifest_hash.0[0] ^= 1)),
    ("admitted node", |file| change_holding(file, |holding| holding.admission.body.node = NodeId([0; 32]))),
    ("admitted by", |file| change_holding(file, |holding| holding.admission.body.issuer = NodeId([0; 32]))),
    ("admitted in", |file| change_holding(file, |holding| holding.admission.body.epoch += 1)),
    ("admitted until", |file| change_holding(file, |holding| holding.admission.body.expires_at = Timestamp::MAX)),
    ("last link dropped", |file| change_links(file, |links| drop(links.pop()))),
    ("first link dropped", |file| change_links(file, |links| drop(links.remove(0)))),
    ("last link repeated", |file| change_links(file, |links| links.push(links[links.len() - 1].clone()))),
    ("link signed by fewer", |file| {
        change_links(file, |links| {
            let votes = votes_of(&mut links[0]);
            votes.new = votes.old.clone()
        })
    }),
];

fn change_receipt(file: &mut CertificateFile, change: impl FnOnce(&mut mynet_types::SignedReceipt)) {
    change_holding(file, |holding| change(&mut holding.receipt));
}

fn change_holding(file: &mut CertificateFile, change: impl FnOnce(&mut Holding)) {
    let mut holdings = std::mem::take(&mut file.holdings).into_vec();
    change(&mut holdings[0]);
    file.holdings = holdings.try_into().unwrap();
}

fn change_links(file: &mut CertificateFile, change: impl FnOnce(&mut Vec<mynet_types::RosterLink>)) {
    let mut links = std::mem::take(&mut file.chain.links).into_vec();
    change(&mut links);
    file.chain = RosterChain { links: links.try_into().unwrap() };
}

#[test]
fn no_changed_field_verifies() {
    let network = Network::of(4);
    let good = network.certificate(3);
    assert!(verify(&good.encode(), &network.unpinned()).is_some());
    for (name, change) in CHANGES {
        let mut file = good.clone();
        change(&mut file);
        assert_ne!(file, good, "{name} changes something");
        assert!(verify(&file.encode(), &network.unpinned()).is_none(), "{name}");
    }
}

#[test]
fn no_changed_byte_of_a_genesis_file_trusts_the_same_network() {
    let network = Network::of(4);
    let trust = GenesisFile::of(&network.chain);
    let certificate = network.certificate(3).encode();
    assert!(verify(&certificate, &trust).is_some());
    let good = trust.encode();
    for offset in 0..good.len() - TRAILER {
        for bit in 0..8 {
            let mut bytes = good.clone();
            bytes[offset] ^= 1 << bit;
            assert!(GenesisFile::decode(&bytes).is_err(), "the checksum sees byte {offset}");
            mend(&mut bytes);
            let accepted = GenesisFile::decode(&bytes).is_ok_and(|trust| verify(&certificate, &trust).is_some());
            assert!(!accepted, "byte {offset} bit {bit}");
        }
    }
}
