//! One table of defects per check.

use std::time::Duration;

use ed25519_dalek::SigningKey;
use mynet_types::{
    AdmissionRecord, BoundedVec, Domain, Genesis, Invite, LinkProof, LinkRecovery, LinkVotes, NetworkId, NodeId,
    NodeRecord, Roles, Roster, RosterChain, RosterHash, RosterKey, RosterLink, Signed, SignedAdmission, SignedInvite,
    SignedNodeRecord, SignerSet, Timestamp, Validator, VerifiedChain, VoteKey, WrapKey, rpc::KnockRefusal,
    signing::sign_as,
};

use super::{Present, PresentError, Redeem, check_present, check_redeem};

const NOW: Timestamp = Timestamp(1_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

/// Node keys are 1 to 99, vote keys 100 and up.
fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn node(n: u8) -> NodeId {
    NodeId(key(n).verifying_key().to_bytes())
}

fn seat(n: u8, vote: u8) -> Validator {
    Validator { vote_key: VoteKey(key(vote).verifying_key().to_bytes()), node: node(n) }
}

/// A network founded by node 1.
fn chain(salt: u8) -> VerifiedChain {
    VerifiedChain::new(Genesis {
        format: 1,
        name: "test".try_into().unwrap(),
        created_at: Timestamp(0),
        min_quorum: 3,
        allow_degraded_quorum: true,
        recovery_keys: [200, 201, 202].map(|n| key(n).verifying_key().to_bytes()),
        founder: seat(1, 100),
        salt: [salt; 32],
    })
}

/// The link that seats node 2 beside node 1, with vote keys `first` and `second`.
fn link(known: &VerifiedChain, (first, second): (u8, u8)) -> RosterLink {
    let network = known.genesis().network_id();
    let mut seats = [(seat(1, first), first), (seat(2, second), second)];
    seats.sort_by_key(|(seat, _)| seat.vote_key);
    let roster = Roster {
        epoch: 1,
        prev: known.newest().hash(),
        validators: BoundedVec::truncated(seats.map(|(seat, _)| seat)),
        valid_from: Timestamp(1),
        close_set_root: [0; 32],
        close_count: 0,
    };
    let old = SignerSet::collect([(0, sign_as(Domain::Roster, &network, &roster, &key(100)))]);
    let new = SignerSet::collect(
        seats
            .iter()
            .enumerate()
            .map(|(at, (_, vote))| (at, sign_as(Domain::RosterAccept, &network, &roster, &key(*vote)))),
    );
    RosterLink::voted(roster, old, new)
}

fn admission(network: &NetworkId, change: impl FnOnce(&mut AdmissionRecord)) -> SignedAdmission {
    let mut body = AdmissionRecord {
        node: node(5),
        wrap_key: WrapKey([0; 32]),
        roles: Roles::STORAGE,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: "rack".try_into().unwrap(),
        weight: 1,
        admitted_at: Timestamp(0),
        expires_at: NOW.after(HOUR),
        epoch: 0,
        issuer: node(1),
        nonce: [0; 16],
    };
    change(&mut body);
    let issuer = if body.issuer == node(2) { 2 } else { 1 };
    Signed { signature: sign_as(Domain::Admission, network, &body, &key(issuer)), body }
}

fn record(network: &NetworkId, change: impl FnOnce(&mut NodeRecord)) -> SignedNodeRecord {
    let mut body = NodeRecord {
        node: node(5),
        seq: 1,
        addrs: BoundedVec::new(),
        program: "test".try_into().unwrap(),
        groups: 0,
        bytes: 0,
        capacity: 0,
        valid_until: NOW.after(HOUR),
    };
    change(&mut body);
    Signed { signature: sign_as(Domain::NodeRecord, network, &body, &key(5)), body }
}

fn links(links: impl IntoIterator<Item = RosterLink>) -> RosterChain {
    RosterChain { links: BoundedVec::truncated(links) }
}

fn present(
    known: &VerifiedChain,
    admission: &SignedAdmission,
    chain: &RosterChain,
    record: &SignedNodeRecord,
) -> Result<Vec<RosterLink>, PresentError> {
    check_present(known, &node(5), Present { admission, chain, record }, NOW)
}

#[test]
fn an_admission_of_the_founder_holds_and_brings_no_news() {
    let known = chain(0);
    let network = known.genesis().network_id();
    let (admission, record) = (admission(&network, |_| ()), record(&network, |_| ()));
    assert_eq!(present(&known, &admission, &links([]), &record), Ok(Vec::new()));
}

#[test]
fn an_admission_of_a_later_epoch_holds_with_its_chain_and_brings_the_links() {
    let known = chain(0);
    let network = known.genesis().network_id();
    let link = link(&known, (101, 102));
    let later = admission(&network, |body| (body.epoch, body.issuer) = (1, node(2)));
    let record = record(&network, |_| ());
    assert_eq!(present(&known, &later, &links([link.clone()]), &record), Ok(vec![link.clone()]));
    assert!(matches!(present(&known, &later, &links([]), &record), Err(PresentError::Admission(_))));
    let mut ahead = known.clone();
    ahead.extend(link.clone()).unwrap();
    assert_eq!(present(&ahead, &later, &links([link]), &record), Ok(Vec::new()), "what is known is no news");
    assert_eq!(present(&ahead, &later, &links([]), &record), Ok(Vec::new()), "nor need it be shown");
}

#[test]
fn a_chain_that_contradicts_the_known_one_admits_nobody() {
    let mut known = chain(0);
    let network = known.genesis().network_id();
    let (one, other) = (link(&known, (101, 102)), link(&known, (103, 104)));
    known.extend(one).unwrap();
    let (admission, record) = (admission(&network, |_| ()), record(&network, |_| ()));
    let fork = present(&known, &admission, &links([other]), &record).unwrap_err();
    assert_eq!(fork, PresentError::Fork { epoch: 1 });
    assert_eq!(fork.refusal(), KnockRefusal::AdmissionInvalid);
}

/// A link by two of the offline keys to one seat.
fn recovery(known: &VerifiedChain, vote: u8) -> RosterLink {
    let network = known.genesis().network_id();
    let (newest, epoch) = (known.newest(), known.newest().epoch + 1);
    let seat = seat(1, vote);
    let roster = Roster {
        epoch,
        prev: newest.hash(),
        validators: BoundedVec::truncated([seat]),
        valid_from: newest.valid_from,
        close_set_root: [0; 32],
        close_count: 0,
    };
    let offer = RosterKey { epoch, prev: roster.prev, seat };
    let offers = BoundedVec::truncated([sign_as(Domain::RosterKey, &network, &offer, &key(1))]);
    let sign = |n| sign_as(Domain::Recovery, &network, &roster, &key(n));
    let keys = SignerSet::collect([(0, sign(200)), (2, sign(202))]);
    RosterLink { roster, proof: LinkProof::Recovery(LinkRecovery { keys, offers }) }
}

#[test]
fn whoever_was_away_during_a_recovery_is_let_in_and_whoever_took_part_brings_it() {
    let mut voted = chain(0);
    let network = voted.genesis().network_id();
    let recovered = recovery(&voted, 105);
    let by_votes = link(&voted, (101, 102));
    let mut followed = voted.clone();
    followed.extend(recovered.clone()).unwrap();
    voted.extend(by_votes.clone()).unwrap();
    let (admission, record) = (admission(&network, |_| ()), record(&network, |_| ()));
    assert_eq!(present(&voted, &admission, &links([recovered.clone()]), &record), Ok(vec![recovered]));
    assert_eq!(present(&followed, &admission, &links([by_votes]), &record), Ok(Vec::new()));
}

#[test]
fn a_link_that_does_not_verify_admits_nobody() {
    let known = chain(0);
    let network = known.genesis().network_id();
    let mut bad = link(&known, (101, 102));
    bad.proof = LinkProof::Votes(LinkVotes { old: SignerSet::collect([]), new: SignerSet::collect([]) });
    let mut skipped = link(&known, (101, 102));
    skipped.roster.epoch = 2;
    let (admission, record) = (admission(&network, |_| ()), record(&network, |_| ()));
    assert!(matches!(present(&known, &admission, &links([bad]), &record), Err(PresentError::Link(_))));
    let foreign = link(&chain(1), (101, 102));
    for chain in [links([skipped]), links([foreign])] {
        let refused = present(&known, &admission, &chain, &record).unwrap_err();
        assert_eq!(refused.refusal(), KnockRefusal::OtherNetwork);
    }
}

#[test]
fn every_defect_of_a_presentation_has_its_refusal() {
    let known = chain(0);
    let network = known.genesis().network_id();
    let check = |what: &str, admission: SignedAdmission, record: SignedNodeRecord, want: KnockRefusal| {
        let refused = present(&known, &admission, &links([]), &record).expect_err(what);
        assert_eq!(refused.refusal(), want, "{what}: {refused}");
    };
    let (good, own) = (|| admission(&network, |_| ()), || record(&network, |_| ()));
    let invalid = KnockRefusal::AdmissionInvalid;
    let malformed = KnockRefusal::Malformed;
    check("other node admitted", admission(&network, |body| body.node = node(6)), own(), malformed);
    check("other node announced", good(), record(&network, |body| body.node = node(6)), malformed);
    check("announcement ended", good(), record(&network, |body| body.valid_until = NOW), malformed);
    check("announcement too long", good(), record(&network, |body| body.valid_until = NOW.after(48 * HOUR)), malformed);
    check("announcement of another network", good(), record(&NetworkId([7; 32]), |_| ()), malformed);
    check("admission ended", admission(&network, |body| body.expires_at = NOW), own(), invalid);
    check("issuer without seat", admission(&network, |body| body.issuer = node(2)), own(), invalid);
    check("unknown epoch", admission(&network, |body| body.epoch = 3), own(), invalid);
    check("admission of another network", admission(&NetworkId([7; 32]), |_| ()), own(), invalid);
    check("no weight", admission(&network, |body| body.weight = 0), own(), invalid);
    let edge = Roles::EDGE.union(Roles::STORAGE);
    for roles in [Roles::default(), edge, Roles(0x80)] {
        check("senseless roles", admission(&network, |body| body.roles = roles), own(), invalid);
    }
    let mut forged = good();
    forged.body.trusted = true;
    check("forged", forged, own(), invalid);
}

fn invite(network: &NetworkId, change: impl FnOnce(&mut Invite)) -> SignedInvite {
    let mut body = Invite {
        id: [1; 16],
        inviter: node(1),
        roles: Roles::STORAGE.union(Roles::INDEX),
        trusted: false,
        uses: 1,
        expires_at: NOW.after(HOUR),
    };
    change(&mut body);
    Signed { signature: sign_as(Domain::Invite, network, &body, &key(1)), body }
}

#[test]
fn every_defect_of_a_redemption_has_its_refusal() {
    let known = chain(0);
    let network = known.genesis().network_id();
    let check = |invite: &SignedInvite, roles: Roles, weight: u16, record: &SignedNodeRecord| {
        check_redeem(&known, (&node(1), &node(5)), Redeem { invite, roles, weight, record }, NOW)
    };
    let (good, own) = (invite(&network, |_| ()), record(&network, |_| ()));
    assert_eq!(check(&good, Roles::STORAGE, 1, &own), Ok(()));
    let other = invite(&network, |body| body.inviter = node(2));
    assert_eq!(check(&other, Roles::STORAGE, 1, &own), Err(KnockRefusal::NotMyInvite));
    let mut forged = good.clone();
    forged.body.trusted = true;
    assert_eq!(check(&forged, Roles::STORAGE, 1, &own), Err(KnockRefusal::NotMyInvite));
    let ended = invite(&network, |body| body.expires_at = NOW);
    assert_eq!(check(&ended, Roles::STORAGE, 1, &own), Err(KnockRefusal::InviteExpired));
    for roles in [Roles::VALIDATOR, Roles::default()] {
        assert_eq!(check(&good, roles, 1, &own), Err(KnockRefusal::RolesNotInvited));
    }
    assert_eq!(check(&good, Roles::STORAGE, 0, &own), Err(KnockRefusal::Malformed));
    let foreign = record(&NetworkId([7; 32]), |_| ());
    assert_eq!(check(&good, Roles::STORAGE, 1, &foreign), Err(KnockRefusal::Malformed));
    assert_ne!(RosterHash(network.0), known.newest().hash());
}
