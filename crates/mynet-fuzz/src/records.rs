//! Targets of the vocabulary and of what the cores keep on disk.

use std::sync::LazyLock;

use mynet_proto::{
    consensus::io::{self as consensus, OpenProposal, RosterLock},
    replication::io::{self as replication, Decided, Intent, Publication},
};
use mynet_types::{
    AdmissionRecord, CertificateFile, ContentHash, ContentId, ContentState, ContentType, Decision, Evidence,
    GenesisFile, Invite, Manifest, Message, NodeId, NodeRecord, OfferFile, OwnerEvidence, OwnerStatement, Proposal,
    QuorumCertificate, RecoveryFile, RecoveryOffer, Roles, Roster, RosterChain, RosterKey, RosterLink, SealedPart,
    StorageReceipt, Timestamp, Tombstone, VerifiedChain, Vote, VoteStatement, WrapRecord,
    certificate::{self, Verified},
    codec,
    rpc::{Knock, KnockReply, Request, Response},
};
use sha2::{Digest, Sha256};

use crate::{
    target::{Bound, Target, drawn},
    vectors,
};

/// A file is read into memory by its reader and decoded from there, and what checks it clones rosters and links.
const FILE: Bound = Bound { per_byte: 32, constant: 16 * 1024 };

/// All of them.
pub(crate) const TARGETS: &[Target] = &[
    Target::encoded::<Message>("message"),
    Target::encoded::<Request>("request"),
    Target::encoded::<Response>("response"),
    Target::encoded::<Knock>("knock"),
    Target::encoded::<KnockReply>("knock-reply"),
    Target::signed::<Manifest>("manifest"),
    Target::encoded::<SealedPart>("sealed-part"),
    Target::signed::<WrapRecord>("wrap"),
    Target::signed::<Tombstone>("tombstone"),
    Target::signed::<Proposal>("proposal"),
    Target::signed::<StorageReceipt>("receipt"),
    Target::signed::<Decision>("decision"),
    Target::signed::<Invite>("invite"),
    Target::signed::<AdmissionRecord>("admission"),
    Target::signed::<NodeRecord>("node"),
    Target::signed::<RosterKey>("roster-key"),
    Target::encoded::<Evidence>("evidence"),
    Target { check: check_owner_evidence, ..Target::encoded::<OwnerEvidence>("owner-evidence") },
    Target::signed::<OwnerStatement>("owner-statement"),
    Target::encoded::<VoteStatement>("statement"),
    Target { check: check_vote, ..Target::encoded::<Vote>("vote") },
    Target::encoded::<QuorumCertificate>("quorum-certificate"),
    Target::encoded::<Roster>("roster"),
    Target { check: check_link, ..Target::encoded::<RosterLink>("roster-link") },
    Target { check: check_recovery, ..Target::encoded::<RosterLink>("recovery-link") },
    Target::signed::<RecoveryOffer>("recovery-offer"),
    Target { name: "recovery-file", bound: FILE, check: check_recovery_file, seeds: recovery_file_seeds },
    Target { name: "recovery-offer-file", bound: FILE, check: check_offer_file, seeds: offer_file_seeds },
    Target { name: "roster-chain", bound: FILE, check: check_chain, seeds: chain_seeds },
    Target { name: "certificate-file", bound: FILE, check: check_certificate, seeds: certificate_seeds },
    Target { name: "genesis-file", bound: FILE, check: check_genesis, seeds: genesis_seeds },
    Target::encoded::<consensus::Record>("vote-store-record"),
    Target::encoded::<OpenProposal>("open-proposal"),
    Target::encoded::<RosterLock>("roster-lock"),
    Target::encoded::<replication::Record>("group-store-record"),
    Target::encoded::<Intent>("intent"),
    Target::encoded::<Publication>("publication"),
    Target::encoded::<Decided>("decided"),
    Target { name: "texts", bound: Bound { per_byte: 8, constant: 4 * 1024 }, check: check_texts, seeds: text_seeds },
];

/// A valid certificate with all it needs, decoded once.
struct Known {
    genesis: GenesisFile,
    chain: VerifiedChain,
    verified: Verified,
}

static KNOWN: LazyLock<Known> = LazyLock::new(|| {
    let (file, genesis) = (vectors::certificate(), vectors::genesis());
    let chain = VerifiedChain::verify(genesis.genesis.clone(), &file.chain).expect("a committed chain verifies");
    let verified = certificate::verify(&file, &genesis, false).expect("a committed certificate verifies");
    Known { genesis, chain, verified }
});

/// Everything that a certificate says, without who of those entitled to it said so.
fn meaning(verified: &Verified) -> Verified {
    Verified { signers: Vec::new(), holders: Vec::new(), ..verified.clone() }
}

fn check_vote(target: &Target, bytes: &[u8]) {
    let Some(vote) = target.decode::<Vote>(bytes) else { return };
    let good: Vote = known_record("vote");
    let rightful = vote.verify(&vectors::network(), KNOWN.chain.newest()).is_ok();
    assert!(!rightful || (vote.statement, vote.seat) == (good.statement, good.seat), "nobody signed {vote:?}");
}

/// What accuses an owner is what the owner signed, byte for byte.
fn check_owner_evidence(target: &Target, bytes: &[u8]) {
    if let Some(evidence) = target.decode::<OwnerEvidence>(bytes)
        && evidence.verify(&vectors::network()).is_ok()
    {
        let signed = vectors::record(target.name);
        assert_eq!(signed.as_deref(), Some(bytes), "{}: nobody signed {evidence:?}", target.name);
    }
}

fn check_link(target: &Target, bytes: &[u8]) {
    let Some(link) = target.decode::<RosterLink>(bytes) else { return };
    let known = &*KNOWN;
    for epoch in 0..3 {
        let old = known.chain.roster(epoch).expect("the committed chain has four rosters");
        let follows = target.bounded(bytes.len(), || link.verify(&known.genesis.genesis, old).is_ok());
        assert!(!follows || Some(&link.roster) == known.chain.roster(epoch + 1), "nobody signed {link:?}");
    }
}

/// Only what two of the offline keys signed follows the newest roster without its votes.
fn check_recovery(target: &Target, bytes: &[u8]) {
    let Some(link) = target.decode::<RosterLink>(bytes) else { return };
    let known = &*KNOWN;
    let newest = known.chain.newest();
    let follows = target.bounded(bytes.len(), || link.verify(&known.genesis.genesis, newest).is_ok());
    assert!(!follows || link.roster == RECOVERED.roster, "two keys did not sign {link:?}");
    let overrules = target.bounded(bytes.len(), || known.chain.overruled_by(std::slice::from_ref(&link)).is_some());
    assert!(!overrules, "nobody signed a recovery in the place of a vote: {link:?}");
}

/// The recovery of the committed vectors.
static RECOVERED: LazyLock<RosterLink> = LazyLock::new(|| known_record("recovery-link"));

/// Reads a file as it is and mended, as those of certificates.
fn check_recovery_file(target: &Target, bytes: &[u8]) {
    for bytes in [bytes, &mended(&vectors::file("recovery"), bytes)] {
        let Ok(file) = target.bounded(bytes.len(), || RecoveryFile::decode(bytes)) else { continue };
        assert!(file.encode() == bytes, "{file:?} has another encoding than was read");
        let stands = target.bounded(bytes.len(), || file.check().is_ok());
        let ours = file.genesis == KNOWN.genesis.genesis;
        // Offers bind seats to their place, not the rest of a roster: that is what the keys are for.
        assert!(
            !stands || !ours || file.missing() > 0 || file.roster == RECOVERED.roster,
            "two keys did not sign this"
        );
    }
}

fn recovery_file_seeds() -> Vec<Vec<u8>> {
    [vectors::file("recovery")].into_iter().chain(drawn::<RecoveryFile>()).collect()
}

fn check_offer_file(target: &Target, bytes: &[u8]) {
    for bytes in [bytes, &mended(&vectors::file("recovery-offer"), bytes)] {
        let Ok(file) = target.bounded(bytes.len(), || OfferFile::decode(bytes)) else { continue };
        assert!(file.encode() == bytes, "{file:?} has another encoding than was read");
        let offers = [file];
        target.bounded(bytes.len(), || drop(RecoveryFile::propose(&offers, &[], Timestamp(0))));
    }
}

fn offer_file_seeds() -> Vec<Vec<u8>> {
    [vectors::file("recovery-offer")].into_iter().chain(drawn::<OfferFile>()).collect()
}

fn check_chain(target: &Target, bytes: &[u8]) {
    let Some(chain) = target.decode::<RosterChain>(bytes) else { return };
    let genesis = KNOWN.genesis.genesis.clone();
    if let Ok(verified) = target.bounded(bytes.len(), || VerifiedChain::verify(genesis, &chain)) {
        let epoch = verified.newest().epoch;
        assert_eq!(Some(verified.newest()), KNOWN.chain.roster(epoch), "nobody signed this roster");
    }
}

fn chain_seeds() -> Vec<Vec<u8>> {
    let whole = (0..=3).map(|epoch| codec::encode(&KNOWN.chain.up_to(epoch)));
    whole.chain(drawn::<RosterChain>()).collect()
}

/// Reads a file as it is, and its middle with magic and checksum mended, so that the checksum does not stand in the way.
fn check_certificate(target: &Target, bytes: &[u8]) {
    let (known, good) = (&*KNOWN, vectors::certificate_bytes());
    for bytes in [bytes, &mended(&good, bytes)] {
        let decoded = target.bounded(bytes.len(), || CertificateFile::decode(bytes));
        let Ok(file) = decoded else { continue };
        assert!(file.encode() == bytes, "{file:?} has another encoding than was read");
        let verified = target.bounded(bytes.len(), || certificate::verify(&file, &known.genesis, true));
        let under = target.bounded(bytes.len(), || file.verify_under(&known.chain));
        for verified in [verified, under].into_iter().flatten() {
            assert_eq!(meaning(&verified), meaning(&known.verified), "nobody certified this");
        }
    }
}

fn certificate_seeds() -> Vec<Vec<u8>> {
    [vectors::certificate_bytes()].into_iter().chain(drawn::<CertificateFile>()).collect()
}

fn check_genesis(target: &Target, bytes: &[u8]) {
    for bytes in [bytes, &mended(&vectors::genesis_bytes(), bytes)] {
        let decoded = target.bounded(bytes.len(), || GenesisFile::decode(bytes));
        let Ok(file) = decoded else { continue };
        assert!(file.encode() == bytes, "{file:?} has another encoding than was read");
        let trusted = certificate::verify(&vectors::certificate(), &file, false).is_ok();
        // Without the checkpoint it trusts the same network, and a fork of it too: that is what the checkpoint is for.
        assert!(!trusted || file.genesis == KNOWN.genesis.genesis, "another network vouches for this certificate");
    }
}

fn genesis_seeds() -> Vec<Vec<u8>> {
    [vectors::genesis_bytes()].into_iter().chain(drawn::<GenesisFile>()).collect()
}

/// `bytes` with the magic of `like`, and the checksum that belongs to both. What has the magic loses its own checksum.
fn mended(like: &[u8], bytes: &[u8]) -> Vec<u8> {
    let magic = like.first_chunk::<8>().expect("a file begins with its magic");
    let body = match bytes.strip_prefix(magic) {
        Some(rest) => rest.split_last_chunk::<32>().map_or(rest, |(body, _)| body),
        None => bytes,
    };
    let mut file = [magic, body].concat();
    let trailer = Sha256::digest(&file);
    file.extend_from_slice(&trailer);
    file
}

/// A record of the committed vectors.
fn known_record<T: borsh::BorshDeserialize>(name: &str) -> T {
    let bytes = vectors::record(name).expect("a committed vector");
    codec::decode(&bytes, bytes.len()).expect("a committed vector decodes")
}

/// Reads a text as everything that people type or that stands in JSON.
fn check_texts(target: &Target, bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    target.bounded(bytes.len(), || {
        reads_back::<ContentHash>(text);
        reads_back::<NodeId>(text);
        reads_back::<ContentId>(text);
        reads_back::<ContentState>(text);
        reads_back::<ContentType>(text);
        if let Ok(roles) = Roles::parse(text) {
            let words: Vec<_> = roles.words().collect();
            assert_eq!(Roles::parse(&words.join(",")), Ok(roles));
        }
        if let Ok(time) = serde_json::from_value::<Timestamp>(serde_json::Value::from(text)) {
            let again = serde_json::from_value(serde_json::Value::from(time.to_string()));
            assert_eq!(again.ok(), Some(time), "a time that was read is printed as the same time");
        }
    });
}

/// What was read is printed as a text that reads the same.
fn reads_back<T: std::str::FromStr + std::fmt::Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert!(value.to_string().parse().ok() == Some(value), "{text:?} prints as another value");
    }
}

fn text_seeds() -> Vec<Vec<u8>> {
    let hex = "0123456789abcdefABCDEF00".repeat(4)[..64].to_owned();
    let texts = [
        hex.clone(),
        format!("sha256:{hex}"),
        "67e55044-10b1-426f-9247-bb680e5fe0c8".to_owned(),
        "storage,index, validator".to_owned(),
        "edge".to_owned(),
        "encrypted".to_owned(),
        "audio".to_owned(),
        "2026-01-02T03:04:05.678Z".to_owned(),
        "9999-12-31T23:59:59+14:00".to_owned(),
    ];
    texts.map(String::into_bytes).to_vec()
}
