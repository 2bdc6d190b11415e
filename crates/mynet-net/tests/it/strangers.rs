//! Nodes that are not admitted: what they get, and what they are told.

use std::time::Duration;

use iroh::endpoint::ConnectionError;
use mynet_net::{DialError, KnockError, Limits, NetEvent, NodeAddr, Rate, Refusal, RequestError};
use mynet_types::{
    AdmissionRecord, BoundedVec, Domain, NetworkId, Roles, RosterChain, Signed, SignedNodeRecord, Timestamp, WrapKey,
    rpc::{Knock, KnockRefusal, KnockReply},
};
use tokio::time::timeout;

use crate::kit::{DEADLINE, NETWORK, Raw, TestNode, anywhere, id, limits, pair, question, record, secret, until};

/// Shows an admission of the `n`-th node with this announcement.
fn present(n: u8, record: SignedNodeRecord) -> Knock {
    let body = AdmissionRecord {
        node: id(n),
        wrap_key: WrapKey([0; 32]),
        roles: Roles::STORAGE,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: "rack".try_into().unwrap(),
        weight: 1,
        admitted_at: Timestamp(0),
        expires_at: Timestamp::MAX,
        epoch: 0,
        issuer: id(n),
        nonce: [0; 16],
    };
    let key = ed25519_dalek::SigningKey::from_bytes(&secret(n));
    let signature = mynet_types::signing::sign_as(Domain::Admission, &NETWORK, &body, &key);
    let chain = RosterChain { links: BoundedVec::new() };
    Knock::Present { admission: Signed { body, signature }, chain, record }
}

#[tokio::test]
async fn a_node_that_is_not_admitted_gets_nothing_and_is_told_why() {
    let (mut a, b) = pair().await;
    b.door.admitted.lock().unwrap().clear();
    let refused = a.net.request(b.net.node_id(), question()).await.unwrap_err();
    let RequestError::Dial(DialError::Refused { reason }) = &refused else { panic!("{refused}") };
    assert_eq!(*reason, Refusal::NotAdmitted);
    assert!(refused.to_string().contains("present an admission on the knock protocol"), "{refused}");
    let event = NetEvent::PeerRefused { node: b.net.node_id(), reason: Refusal::NotAdmitted };
    assert_eq!(a.event().await, event);
    assert_eq!(b.net.stats().not_admitted, 1);
    assert_eq!((b.net.stats().requests, b.net.stats().accepted), (0, 0));
    until("no connection is left", || b.net.stats().connections == 0).await;
}

#[tokio::test]
async fn a_stranger_that_skips_the_greeting_gets_nothing() {
    let b = TestNode::start(2).await;
    let raw = Raw::start(3).await;
    let connection = raw.connect(&b, &format!("mynet/1/{NETWORK}")).await.unwrap();
    let closed = timeout(DEADLINE, connection.closed()).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed}") };
    assert_eq!(Refusal::from_code(close.error_code.into_inner()), Refusal::NotAdmitted);
    assert_eq!(&close.reason[..], Refusal::NotAdmitted.to_string().as_bytes());
}

#[tokio::test]
async fn a_node_of_another_network_is_told_so() {
    let other = NetworkId([8; 32]);
    let a = TestNode::start_with(1, anywhere(), other, limits()).await;
    let b = TestNode::start(2).await;
    a.admit(&b);
    b.admit(&a);
    let refused = a.net.request(b.net.node_id(), question()).await;
    assert!(matches!(refused, Err(RequestError::Dial(DialError::OtherNetwork))), "{refused:?}");
    let reply = a.net.knock(b.addr(), present(1, record(1, 1, &other))).await.unwrap();
    assert_eq!(reply, KnockReply::Refused(KnockRefusal::OtherNetwork));
    assert!(b.door.knocks.lock().unwrap().is_empty(), "the door was not bothered");
}

#[tokio::test]
async fn a_knock_reaches_the_door_and_its_answer_comes_back() {
    let (a, b) = (TestNode::start(1).await, TestNode::start(2).await);
    let knock = present(1, record(1, 1, &NETWORK));
    let reply = a.net.knock(b.addr(), knock.clone()).await.unwrap();
    assert_eq!(reply, KnockReply::Refused(KnockRefusal::NotValidator));
    assert_eq!(*b.door.knocks.lock().unwrap(), [(id(1), knock)]);
}

#[tokio::test]
async fn forged_records_never_reach_the_door() {
    let (a, b) = (TestNode::start(1).await, TestNode::start(2).await);
    let forged = [
        ("announcement of another node", present(1, record(3, 3, &NETWORK))),
        ("signature of another node", present(1, record(1, 3, &NETWORK))),
        ("signature for another network", present(1, record(1, 1, &NetworkId([8; 32])))),
        ("admission of another node", present(3, record(1, 1, &NETWORK))),
    ];
    for (what, knock) in forged {
        let reply = a.net.knock(b.addr(), knock).await.unwrap();
        assert_eq!(reply, KnockReply::Refused(KnockRefusal::Malformed), "{what}");
    }
    assert_eq!(b.net.stats().knocks_forged, 4);
    assert!(b.door.knocks.lock().unwrap().is_empty());
}

#[tokio::test]
async fn strangers_of_one_address_are_refused_after_their_burst_unless_a_known_node_lives_there() {
    let strangers_per_ip = Rate { burst: 2, tokens: 1, per: Duration::from_secs(3_600) };
    let b = TestNode::start_with(2, anywhere(), NETWORK, Limits { strangers_per_ip, ..limits() }).await;
    let a = TestNode::start(1).await;
    let knock = || a.net.knock(b.addr(), present(1, record(1, 1, &NETWORK)));
    for _ in 0..2 {
        assert!(knock().await.is_ok());
    }
    let refused = knock().await;
    assert!(matches!(refused, Err(KnockError::Dial(DialError::Refused { reason: Refusal::Busy }))), "{refused:?}");
    assert_eq!(b.net.stats().refused, 1);
    b.net.set_addrs(id(7), vec![anywhere()]);
    assert!(knock().await.is_ok(), "a known node's neighbour");
}

#[tokio::test]
async fn strangers_at_a_time_are_bounded() {
    let strict = Limits { strangers: 1, first_byte: Duration::from_secs(1), ..limits() };
    let b = TestNode::start_with(2, anywhere(), NETWORK, strict).await;
    let raw = Raw::start(3).await;
    // Holds the one place by saying nothing.
    let _silent = raw.connect(&b, "mynet-knock/1").await.unwrap();
    until("it has the place", || b.net.stats().connections == 1).await;
    let a = TestNode::start(1).await;
    let knock = || a.net.knock(b.addr(), present(1, record(1, 1, &NETWORK)));
    let refused = knock().await;
    assert!(matches!(refused, Err(KnockError::Dial(DialError::Refused { reason: Refusal::Busy }))), "{refused:?}");
    until("the silent one was closed and its place is free", || b.net.stats().connections == 0).await;
    assert!(knock().await.is_ok());
}

#[tokio::test]
async fn a_knock_at_the_wrong_node_fails_in_the_handshake() {
    let (a, b) = (TestNode::start(1).await, TestNode::start(2).await);
    let impostor = NodeAddr { node: id(5), ..b.addr() };
    let failed = a.net.knock(impostor, present(1, record(1, 1, &NETWORK))).await;
    assert!(matches!(failed, Err(KnockError::Dial(_))), "{failed:?}");
    assert!(b.door.knocks.lock().unwrap().is_empty());
}
