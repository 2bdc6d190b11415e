//! Members, invitations, trust, tokens, settings.

use mynet_types::{
    AdmissionRecord, BoundedVec, Invite, NodeId, NodeRecord, Roles, SignedAdmission, SignedNodeRecord, Timestamp,
    WrapKey,
};

use super::super::{members::RedeemError, tokens::Token};
use super::{ME, NOW, Store, later, signed};

const PEER: NodeId = NodeId([2; 32]);

fn admission(admitted_at: Timestamp, expires_at: Timestamp) -> SignedAdmission {
    signed(AdmissionRecord {
        node: PEER,
        wrap_key: WrapKey([3; 32]),
        roles: Roles::STORAGE,
        trusted: false,
        region: "eu".try_into().unwrap(),
        zone: "rack-1".try_into().unwrap(),
        weight: 1,
        admitted_at,
        expires_at,
        epoch: 0,
        issuer: ME,
        nonce: [0; 16],
    })
}

fn announcement(seq: u64) -> SignedNodeRecord {
    signed(NodeRecord {
        node: PEER,
        seq,
        addrs: BoundedVec::truncated(["127.0.0.1:1".try_into().unwrap()]),
        program: "test".try_into().unwrap(),
        groups: 0,
        bytes: 0,
        capacity: 0,
        valid_until: later(1),
    })
}

#[tokio::test]
async fn of_two_admissions_of_a_node_the_one_that_lasts_longer_is_kept() {
    let store = Store::new().await;
    let (long, short) = (admission(later(4), later(200)), admission(later(5), later(100)));
    for order in [[&long, &short], [&short, &long]] {
        for one in order {
            store.meta.put_members(std::slice::from_ref(one), &[]).await.unwrap();
        }
        assert_eq!(store.meta.admissions().await.unwrap(), std::slice::from_ref(&long));
    }
}

#[tokio::test]
async fn an_older_announcement_never_replaces_a_newer_one() {
    let store = Store::new().await;
    store.meta.put_members(&[], &[announcement(7)]).await.unwrap();
    store.meta.put_members(&[], &[announcement(6), announcement(8), announcement(7)]).await.unwrap();
    assert_eq!(store.meta.node_records().await.unwrap(), [announcement(8)]);
}

#[tokio::test]
async fn an_invitation_is_redeemed_as_often_as_it_says_also_by_many_at_once() {
    let store = Store::new().await;
    let id = [4; 16];
    let invite = Invite { id, inviter: ME, roles: Roles::STORAGE, trusted: true, uses: 3, expires_at: later(10) };
    store.meta.put_invite(&signed(invite.clone())).await.unwrap();
    let mut tries = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let meta = store.meta.clone();
        tries.spawn(async move { meta.redeem_invite(&id, NOW).await });
    }
    let outcomes = tries.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|found| *found == invite)).count(), 3);
    assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Err(RedeemError::UsedUp))).count(), 5);
    assert!(matches!(store.meta.redeem_invite(&id, later(10)).await, Err(RedeemError::Expired)));
    assert!(matches!(store.meta.redeem_invite(&[5; 16], NOW).await, Err(RedeemError::Unknown)));
}

#[tokio::test]
async fn the_last_word_on_trust_counts() {
    let store = Store::new().await;
    store.meta.set_trust(&PEER, true, NOW).await.unwrap();
    store.meta.set_trust(&PEER, false, later(1)).await.unwrap();
    store.meta.set_trust(&ME, true, NOW).await.unwrap();
    assert_eq!(store.meta.trust().await.unwrap(), [(ME, true), (PEER, false)]);
}

#[tokio::test]
async fn a_token_opens_until_it_ends_or_is_revoked() {
    let store = Store::new().await;
    let token = Token {
        id: [1; 16],
        name: "ci".to_owned(),
        scope: "read".to_owned(),
        created_at: NOW,
        expires_at: Some(later(10)),
        last_used_at: None,
        revoked_at: None,
    };
    let secret = [9; 32];
    store.meta.put_token(&token, &secret).await.unwrap();
    assert!(store.meta.put_token(&Token { id: [2; 16], ..token.clone() }, &secret).await.is_err(), "one secret each");
    assert_eq!(store.meta.token(&secret, later(9)).await.unwrap(), Some(token.clone()));
    assert_eq!(store.meta.token(&secret, later(10)).await.unwrap(), None);
    assert_eq!(store.meta.token(&[8; 32], NOW).await.unwrap(), None);
    store.meta.touch_token(&token.id, later(3)).await.unwrap();
    assert!(store.meta.revoke_token(&token.id, later(4)).await.unwrap());
    assert!(!store.meta.revoke_token(&token.id, later(5)).await.unwrap());
    assert_eq!(store.meta.token(&secret, later(5)).await.unwrap(), None);
    let listed = Token { last_used_at: Some(later(3)), revoked_at: Some(later(4)), ..token };
    assert_eq!(store.meta.tokens().await.unwrap(), [listed]);
}

#[tokio::test]
async fn settings_survive_a_restart() {
    let store = Store::new().await;
    store.meta.set_setting("port", Some("1")).await.unwrap();
    store.meta.set_setting("port", Some("2")).await.unwrap();
    store.meta.set_setting("gone", Some("x")).await.unwrap();
    store.meta.set_setting("gone", None).await.unwrap();
    let store = store.restart().await;
    assert_eq!(store.meta.setting("port").await.unwrap().as_deref(), Some("2"));
    assert_eq!(store.meta.setting("gone").await.unwrap(), None);
}
