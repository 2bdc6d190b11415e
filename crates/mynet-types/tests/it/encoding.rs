//! Every public record and message has exactly one encoding, and junk is refused cheaply.

use std::{collections::BTreeSet, fmt::Debug};

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{
    AbstainReason, Abstention, AckedHead, AdmissionRecord, Blake3Root, BlobRef, BoundedString, BoundedVec, CarriedHead,
    CertificateFile, CertificateHash, Checkpoint, Claim, CloseReport, CloseStatement, ConsensusMessage, ContentHash,
    ContentId, ContentState, ContentType, Decision, DecryptedClass, Details, Evidence, Genesis, GenesisFile, GroupId,
    HeadProof, Invite, Link, LinkProof, LinkRecovery, LinkVotes, Manifest, ManifestHash, Member, MembershipMessage,
    Message, NetworkId, NodeId, NodeRecord, OfferFile, OwnerEvidence, OwnerKey, OwnerSignature, OwnerStatement, Phase,
    Proposal, ProposalId, Protection, QuorumCertificate, RecoveryFile, RecoveryOffer, RejectReason, RelationshipKind,
    ReplicationMessage, Roles, Roster, RosterChain, RosterHash, RosterKey, RosterLink, SealedPart, Signature,
    SignedAdmission, SignedDecision, SignedInvite, SignedManifest, SignedNodeRecord, SignedOwnerStatement,
    SignedProposal, SignedReceipt, SignedRecoveryOffer, SignedRosterKey, SignedTombstone, SignedWrap, SignerSet,
    SlotKey, StatesMask, StorageReceipt, Timestamp, Tombstone, TxId, Validator, Verdict, Vote, VoteKey, VoteStatement,
    WrapKey, WrapRecord,
    codec::{self, DecodeError, TooMany},
    manifest::{Aead, MANIFEST_BYTES_MAX},
    rpc::{GroupInfo, GroupKey, Knock, KnockRefusal, KnockReply, Request, Response, Welcome},
    wire::{DecisionOutcome, Prepare, RefuseReason, TxStatus},
};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, proptest};

use crate::{
    network::{Network, manifest},
    tape::{Lengths, Tape, draw},
};

/// Largest text, hash or signature read in one piece; a larger buffer would be allocated on the word of a length.
const PIECE_MAX: usize = 256;

/// Runs `$check::<T>` with the name of T for every type that is signed, stored or sent.
macro_rules! for_every_type {
    ($check:ident $(, $argument:expr)*) => {
        for_every_type!(@ $check ($($argument),*)
            AbstainReason Abstention AckedHead CarriedHead CloseReport CloseStatement HeadProof AdmissionRecord Aead Blake3Root BlobRef CertificateFile CertificateHash Checkpoint
            Claim ConsensusMessage ContentHash ContentId ContentState ContentType Decision DecisionOutcome
            DecryptedClass Details Evidence Genesis GenesisFile GroupId GroupInfo GroupKey Invite Knock KnockRefusal KnockReply
            Link Manifest ManifestHash Member OwnerEvidence OwnerSignature OwnerStatement SignedOwnerStatement MembershipMessage Message NetworkId NodeId NodeRecord OwnerKey Phase
            Prepare Proposal ProposalId Protection QuorumCertificate RefuseReason RejectReason RelationshipKind
            ReplicationMessage Request Response Roles Roster RosterChain RosterHash RosterKey RosterLink SealedPart
            Signature SignedAdmission SignedDecision SignedInvite SignedManifest SignedNodeRecord SignedProposal
            SignedReceipt SignedRosterKey SignedTombstone SignedWrap SignerSet SlotKey StatesMask StorageReceipt
            LinkProof LinkRecovery LinkVotes OfferFile RecoveryFile RecoveryOffer SignedRecoveryOffer
            Timestamp Tombstone TxId TxStatus Validator Verdict Vote VoteKey VoteStatement Welcome WrapKey WrapRecord
        )
    };
    (@ $check:ident $arguments:tt $($type:ident)*) => { $(for_every_type!(! $check $type $arguments);)* };
    (! $check:ident $type:ident ($($argument:expr),*)) => { $check::<$type>(stringify!($type), $($argument),*) };
}

/// What all of them can.
trait Wire: BorshSerialize + BorshDeserialize + PartialEq + Debug {}
impl<T: BorshSerialize + BorshDeserialize + PartialEq + Debug> Wire for T {}

fn decode<T: BorshDeserialize>(bytes: &[u8]) -> Result<T, DecodeError> {
    codec::decode(bytes, usize::MAX)
}

fn round_trips<T: Wire>(name: &str, seed: u64) {
    let (value, bytes) = draw::<T>(seed);
    assert_eq!(codec::encode(&value), bytes, "{name}: the bytes that were read are the encoding");
    assert_eq!(decode::<T>(&bytes).unwrap(), value, "{name}");
}

/// Whatever is done to valid bytes: refused, or the one encoding of another value.
fn stays_canonical<T: Wire>(name: &str, seed: u64, at: usize, to: u8) {
    let (value, mut bytes) = draw::<T>(seed);
    let at = at % bytes.len();
    let was = std::mem::replace(&mut bytes[at], to);
    if let Ok(other) = decode::<T>(&bytes) {
        assert_eq!(codec::encode(&other), bytes, "{name}");
        assert_eq!(other == value, was == to, "{name}: two encodings of one value");
    }
}

fn refuses_more_and_less<T: Wire>(name: &str, seed: u64, cut: usize) {
    let (_, bytes) = draw::<T>(seed);
    assert!(decode::<T>(&bytes[..cut % bytes.len()]).is_err(), "{name}");
    assert!(decode::<T>(&[&bytes[..], &[0]].concat()).is_err(), "{name}");
    assert!(matches!(codec::decode::<T>(&bytes, bytes.len() - 1), Err(DecodeError::TooLong { .. })), "{name}");
}

fn survives_junk<T: Wire>(name: &str, junk: &[u8], seed: u64) {
    if let Ok(value) = decode::<T>(junk) {
        assert_eq!(codec::encode(&value), junk, "{name}");
    }
    let mut tape = Tape::new(seed, Lengths::Any, 1 << 16);
    drop(T::deserialize_reader(&mut tape));
    let largest = tape.largest_read;
    assert!(largest <= PIECE_MAX, "{name}: allocated {largest} bytes on the word of a length");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_type_has_one_encoding_and_reads_it_back(seed: u64) {
        for_every_type!(round_trips, seed);
    }

    #[test]
    fn a_changed_byte_is_refused_or_means_another_value(seed: u64, at: usize, to in small_or_any()) {
        for_every_type!(stays_canonical, seed, at, to);
    }

    #[test]
    fn missing_and_added_bytes_are_refused(seed: u64, cut: usize) {
        for_every_type!(refuses_more_and_less, seed, cut);
    }

    #[test]
    fn junk_is_refused_without_a_panic_or_a_large_allocation(
        junk in proptest::collection::vec(small_or_any(), 0..600),
        seed: u64,
    ) {
        for_every_type!(survives_junk, &junk, seed);
    }

    #[test]
    fn a_bounded_list_takes_its_bound_and_no_more(len in 0..20usize) {
        let items = vec![3u16; len];
        let bounded = BoundedVec::<u16, 10>::try_from(items.clone());
        prop_assert_eq!(bounded.is_ok(), len <= 10);
        prop_assert_eq!(bounded.err(), (len > 10).then_some(TooMany { len, max: 10 }));
        prop_assert_eq!(decode::<BoundedVec<u16, 10>>(&codec::encode(&items)).is_ok(), len <= 10);
        prop_assert_eq!(BoundedVec::<u16, 10>::truncated(items).len(), len.min(10));
    }

    #[test]
    fn a_bounded_text_takes_its_bound_in_bytes_and_no_more(text in ".{0,12}") {
        let fits = text.len() <= 10;
        prop_assert_eq!(BoundedString::<10>::try_from(text.clone()).is_ok(), fits);
        let decoded = decode::<BoundedString<10>>(&codec::encode(&text));
        prop_assert_eq!(decoded.is_ok(), fits);
        if let Ok(decoded) = decoded {
            prop_assert_eq!(decoded.as_str(), text);
        }
    }

    #[test]
    fn text_that_is_not_utf8_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..16)) {
        let decoded = decode::<BoundedString<16>>(&codec::encode(&bytes));
        prop_assert_eq!(decoded.is_ok(), std::str::from_utf8(&bytes).is_ok());
    }

    #[test]
    fn a_value_is_hashed_as_it_is_encoded(seed: u64) {
        let (value, bytes) = draw::<Roster>(seed);
        let hash: [u8; 32] = sha2::Digest::finalize(sha2::Digest::chain_update(sha2::Sha256::default(), bytes)).into();
        prop_assert!(codec::digest(&value) == hash && value.hash().0 == hash);
    }
}

/// Bytes as tags and lengths have them, or any.
fn small_or_any() -> impl Strategy<Value = u8> {
    proptest::prop_oneof![0..14u8, any::<u8>()]
}

/// The kinds of message and answer that drawing finds, by tag.
fn kinds_drawn<T: BorshDeserialize + BorshSerialize>() -> BTreeSet<u8> {
    (0..12_000).map(|seed| draw::<T>(seed << 20).1[0]).collect()
}

#[test]
fn drawing_finds_every_kind_of_message() {
    let tags = |count: u8| (0..count).collect::<BTreeSet<u8>>();
    assert_eq!(kinds_drawn::<ReplicationMessage>(), tags(14));
    assert_eq!(kinds_drawn::<ConsensusMessage>(), tags(23));
    assert_eq!(kinds_drawn::<Message>(), tags(3));
    assert_eq!(kinds_drawn::<Request>(), tags(4));
    assert_eq!(kinds_drawn::<Response>(), tags(8));
    assert_eq!(kinds_drawn::<Knock>(), tags(2));
    assert_eq!(kinds_drawn::<KnockReply>(), tags(2));
}

/// How many variants the one-byte enum `T` has: exactly the tags below decode.
fn variants<T: Wire>() -> usize {
    let count = (0..=u8::MAX).filter(|tag| decode::<T>(&[*tag]).is_ok()).count();
    assert!((0..count).all(|tag| decode::<T>(&[tag as u8]).is_ok()), "tags have no gaps");
    count
}

#[test]
fn unknown_tags_are_refused() {
    assert_eq!(variants::<ContentState>(), 3);
    assert_eq!(variants::<RelationshipKind>(), 3);
    assert_eq!(variants::<ContentType>(), 4);
    assert_eq!(variants::<DecryptedClass>(), 3);
    assert_eq!(variants::<Aead>(), 2);
    assert_eq!(variants::<Claim>(), 3);
    assert_eq!(variants::<Phase>(), 2);
    assert_eq!(variants::<Verdict>(), 2);
    assert_eq!(variants::<RejectReason>(), 6);
    assert_eq!(variants::<AbstainReason>(), 9);
    assert_eq!(variants::<RefuseReason>(), 13);
    assert_eq!(variants::<TxStatus>(), 5);
    assert_eq!(variants::<KnockRefusal>(), 9);
    assert_eq!(variants::<StatesMask>(), 8);
    assert_eq!(variants::<bool>(), 2);
}

/// Replaces the byte at `at`, which must hold `was`, by each of 2 to 255 and expects a refusal.
fn refuses_other_tags<T: Wire>(value: &T, at: usize, was: u8) {
    let good = codec::encode(value);
    assert_eq!(good[at], was);
    for tag in 2..=u8::MAX {
        let mut bytes = good.clone();
        bytes[at] = tag;
        assert!(decode::<T>(&bytes).is_err(), "{tag}");
    }
}

#[test]
fn bools_and_options_in_records_are_zero_or_one() {
    let genesis = Network::of(1).genesis().clone();
    // format, name, created_at and min_quorum stand before the bool.
    refuses_other_tags(&genesis, 2 + (4 + 4) + 8 + 2, 1);
    let manifest = manifest();
    // format, group id and version stand before the option.
    refuses_other_tags(&manifest, 2 + 32 + 8, 0);
    let file = GenesisFile { genesis: genesis.clone(), checkpoint: None };
    refuses_other_tags(&file, codec::encode(&genesis).len(), 0);
}

#[test]
fn a_record_of_another_format_is_refused() {
    let network = Network::of(1);
    let genesis = network.genesis().clone();
    let manifest = manifest();
    assert!(decode::<Genesis>(&codec::encode(&genesis)).is_ok());
    assert!(decode::<Manifest>(&codec::encode(&manifest)).is_ok());
    for format in [0, 2, 256, u16::MAX] {
        assert!(decode::<Genesis>(&codec::encode(&Genesis { format, ..genesis.clone() })).is_err());
        assert!(decode::<Manifest>(&codec::encode(&Manifest { format, ..manifest.clone() })).is_err());
    }
}

#[test]
fn the_largest_manifest_is_smaller_than_its_bound() {
    let text = |len: usize| "x".repeat(len);
    let details = Details {
        content_type: ContentType::Audio,
        mime: text(127).try_into().unwrap(),
        filename: text(255).try_into().unwrap(),
        tags: vec![text(64).try_into().unwrap(); mynet_types::manifest::TAGS_MAX].try_into().unwrap(),
    };
    let member = Member { mime: Some(details.mime.clone()), ..manifest().members[0].clone() };
    let largest = Manifest {
        prev: Some(ManifestHash([1; 32])),
        members: vec![member; mynet_types::manifest::MEMBERS_MAX].try_into().unwrap(),
        links: vec![manifest().links[0]; mynet_types::manifest::LINKS_MAX].try_into().unwrap(),
        protection: Protection::Open { details },
        ..manifest()
    };
    let signature = Signature([0; 64]);
    assert!(codec::encode(&SignedManifest { body: largest, signature }).len() <= MANIFEST_BYTES_MAX);
}

/// One line of `tests/vectors/shapes-v1.txt`: the type, and SHA-256 over the bytes and the fields of 32 drawn values.
fn shape<T: Wire>(name: &str, lines: &mut Vec<String>) {
    let mut shape = sha2::Sha256::default();
    for seed in 0..32 {
        let (value, bytes) = draw::<T>(seed << 20);
        sha2::Digest::update(&mut shape, bytes);
        sha2::Digest::update(&mut shape, format!("{value:?}"));
    }
    lines.push(format!("{name} {}", hex::encode(sha2::Digest::finalize(shape))));
}

/// Catches what the vectors of single records cannot: variants or fields that changed places in any type at all.
#[test]
fn every_type_has_the_shape_that_was_committed() {
    let mut made = Vec::new();
    for_every_type!(shape, &mut made);
    let committed: Vec<_> = include_str!("../vectors/shapes-v1.txt").lines().collect();
    let changed: Vec<_> = made.iter().filter(|line| !committed.contains(&line.as_str())).cloned().collect();
    let gone: Vec<_> = committed.iter().filter(|line| !made.iter().any(|made| made == *line)).collect();
    assert!(
        changed.is_empty() && gone.is_empty(),
        "this is a wire change: bump the version (if only a name changed, commit the new lines)\n\
         was: {gone:#?}\nnow:\n{}",
        changed.join("\n"),
    );
}
