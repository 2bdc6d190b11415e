//! Receipts, certificates and the columns that follow from them.

use mynet_types::{
    BoundedVec, CertificateFile, Claim, ContentState, NodeId, Phase, QuorumCertificate, RosterChain, RosterHash,
    SignerSet, StatesMask, Timestamp, Verdict, VoteStatement, rpc::GroupKey, vote::attest_slot,
};

use super::super::{
    Mode, ReplicationStatus,
    views::{Group, GroupView},
};
use super::{FULL, ME, MetaWrite, NOW, Store, UNREAD, group_id, hash_of, later, manifest, receipt, replicate, upload};

async fn view(store: &Store) -> GroupView {
    let (group, _) = store.meta.group(&GroupKey::Group(group_id(1))).await.unwrap().unwrap();
    store.meta.with_rows(vec![group]).await.unwrap().remove(0)
}

async fn published() -> Store {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    let begin = MetaWrite::Begin { group_id: group_id(1), replicas: 3, mode: Mode::Quorum, publication: vec![] };
    store.write(begin).await;
    store
}

fn receipts(holders: &[(u8, Timestamp)]) -> MetaWrite {
    let receipts = holders.iter().map(|(holder, until)| receipt(hash_of(1), NodeId([*holder; 32]), *until)).collect();
    MetaWrite::Receipts { manifest_hash: hash_of(1), receipts }
}

/// Every row says the same as the group, in the specification's own columns.
fn assert_projected(view: &GroupView, status: ReplicationStatus, count: u32, peers: &[u8]) {
    let Group { status: found, replica_count, .. } = view.group;
    assert_eq!((found, replica_count), (status, count));
    let peers: Vec<NodeId> = peers.iter().map(|peer| NodeId([*peer; 32])).collect();
    assert_eq!(view.states.len(), 3);
    for row in &view.states {
        assert_eq!(row.replicated_on_peers, peers);
    }
}

#[tokio::test]
async fn status_goes_from_pending_to_replicated_as_receipts_come() {
    let store = published().await;
    assert_projected(&view(&store).await, ReplicationStatus::Pending, 0, &[]);
    store.write(MetaWrite::Started(group_id(1))).await;
    assert_projected(&view(&store).await, ReplicationStatus::Replicating, 0, &[]);
    store.write(receipts(&[(2, later(9))])).await;
    assert_projected(&view(&store).await, ReplicationStatus::Replicating, 1, &[2]);
    // The own receipt counts, but the own node is no peer.
    store.write(receipts(&[(1, later(9))])).await;
    assert_eq!(ME, NodeId([1; 32]));
    assert_projected(&view(&store).await, ReplicationStatus::Degraded, 2, &[2]);
    store.write(receipts(&[(3, later(9)), (2, later(9))])).await;
    let view = view(&store).await;
    assert_projected(&view, ReplicationStatus::Replicated, 3, &[2, 3]);
    assert_eq!(view.group.synced_at, Some(NOW));
    assert_eq!(view.group.held, FULL);
}

#[tokio::test]
async fn one_receipt_per_holder_counts_and_the_longest_wins() {
    let store = published().await;
    for until in [later(5), later(9), later(7)] {
        store.write(receipts(&[(2, until)])).await;
    }
    let known = store.meta.receipts_of_group(group_id(1)).await.unwrap();
    assert_eq!(known, [receipt(hash_of(1), NodeId([2; 32]), later(9))]);
    assert_projected(&view(&store).await, ReplicationStatus::Replicating, 1, &[2]);
}

#[tokio::test]
async fn receipts_of_other_manifests_are_dropped() {
    let store = published().await;
    let foreign = receipt(hash_of(2), NodeId([2; 32]), later(9));
    store.write(MetaWrite::Receipts { manifest_hash: hash_of(1), receipts: vec![foreign.clone()] }).await;
    store.write(MetaWrite::Receipts { manifest_hash: hash_of(2), receipts: vec![foreign] }).await;
    assert!(store.meta.receipts_of_group(group_id(1)).await.unwrap().is_empty());
    store.meta.insert_uploaded_group(upload(2), NOW).await.unwrap();
    assert!(store.meta.receipts_of_group(group_id(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_receipt_for_a_part_of_the_states_is_dropped() {
    let store = published().await;
    let mut part = receipt(hash_of(1), NodeId([2; 32]), later(9));
    part.body.states = StatesMask::EMPTY.with(ContentState::Encrypted);
    store.write(MetaWrite::Receipts { manifest_hash: hash_of(1), receipts: vec![part] }).await;
    assert!(store.meta.receipts_of_group(group_id(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_expired_receipt_counts_no_more() {
    let store = published().await;
    store.write(receipts(&[(1, later(50)), (2, later(5)), (3, Timestamp::MAX)])).await;
    assert_projected(&view(&store).await, ReplicationStatus::Replicated, 3, &[2, 3]);
    assert_eq!(store.meta.expire_receipts(later(4)).await.unwrap(), 0);
    assert_eq!(store.meta.expire_receipts(later(5)).await.unwrap(), 1);
    assert_projected(&view(&store).await, ReplicationStatus::Degraded, 2, &[3]);
    // One that comes expired is kept out of the count from the start.
    store.meta.batch(vec![receipts(&[(4, later(3))])], later(6)).await.unwrap();
    assert_projected(&view(&store).await, ReplicationStatus::Degraded, 2, &[3]);
}

#[tokio::test]
async fn only_a_human_ends_a_failure() {
    let store = published().await;
    let failed = |reason: Option<&str>| MetaWrite::Failed { group_id: group_id(1), reason: reason.map(str::to_owned) };
    store.write(failed(Some("rejected: hash mismatch"))).await;
    store.write(receipts(&[(1, later(9)), (2, later(9)), (3, later(9))])).await;
    let seen = view(&store).await;
    assert_projected(&seen, ReplicationStatus::Failed, 3, &[2, 3]);
    assert_eq!(seen.group.failure.as_deref(), Some("rejected: hash mismatch"));
    store.write(failed(None)).await;
    assert_projected(&view(&store).await, ReplicationStatus::Replicated, 3, &[2, 3]);
}

pub(super) fn certificate(seed: u64, verdict: Verdict) -> CertificateFile {
    let value = hash_of(seed);
    let statement = VoteStatement {
        epoch: 1,
        roster: RosterHash([1; 32]),
        phase: Phase::Vote,
        slot: attest_slot(&value),
        value,
        verdict,
        claim: Claim::Durable,
        states: FULL,
    };
    CertificateFile {
        manifest: manifest(seed),
        certificate: QuorumCertificate { statement, signers: SignerSet { seats: 0, signatures: BoundedVec::new() } },
        holdings: BoundedVec::new(),
        chain: RosterChain::default(),
    }
}

#[tokio::test]
async fn incomplete_are_groups_of_others_without_a_certificate_or_with_too_few_copies() {
    let store = Store::new().await;
    store.meta.insert_uploaded_group(upload(1), NOW).await.unwrap();
    store.meta.batch(replicate(1, 2, UNREAD), NOW).await.unwrap();
    store.meta.batch(replicate(2, 3, UNREAD), NOW).await.unwrap();
    let incomplete = async |after| {
        let page = store.meta.incomplete_groups(after, 1).await.unwrap();
        (page.items.first().map(|group| group.manifest.body.group_id), page.next)
    };
    let (first, next) = incomplete(None).await;
    let (second, next) = incomplete(next).await;
    let mut found = [first.unwrap(), second.unwrap()];
    found.sort_unstable();
    let mut want = [group_id(2), group_id(3)];
    want.sort_unstable();
    assert_eq!((found, next), (want, None), "the last page has no next one, also if it is full");

    // Neither copies alone nor a certificate alone completes a group.
    let holders = (0..manifest(2).body.replicas).map(|n| receipt(hash_of(2), NodeId([n + 1; 32]), later(1000)));
    let receipts = MetaWrite::Receipts { manifest_hash: hash_of(2), receipts: holders.collect() };
    let certified = |seed| MetaWrite::Certificate(Box::new(certificate(seed, Verdict::Accept)));
    let mut seen = certificate(2, Verdict::Accept);
    seen.certificate.statement.claim = Claim::Seen;
    let seen = MetaWrite::Certificate(Box::new(seen));
    // What is certified as seen may be certified as durable by now.
    for (write, left) in [(receipts, 2), (certified(3), 2), (seen, 2), (certified(2), 1)] {
        store.write(write).await;
        let page = store.meta.incomplete_groups(None, 9).await.unwrap();
        assert_eq!(page.items.len(), left);
    }
}

#[tokio::test]
async fn only_an_accepting_certificate_sets_consensus_achieved() {
    let store = published().await;
    let check = async |file: CertificateFile, achieved| {
        store.write(MetaWrite::Certificate(Box::new(file.clone()))).await;
        let view = view(&store).await;
        assert_eq!((view.group.consensus_achieved, view.group.certificate), (achieved, Some(file.hash())));
        for row in &view.states {
            assert_eq!(row.network_metadata["certificate_hash"], file.hash().to_string());
        }
        assert_eq!(store.meta.certificate(&hash_of(1)).await.unwrap(), Some(file.encode()));
    };
    check(certificate(1, Verdict::Reject), false).await;
    assert_eq!(store.meta.restore().await.unwrap().rejected, [hash_of(1)], "its coordination is open");
    check(certificate(1, Verdict::Accept), true).await;
    assert_eq!(store.meta.restore().await.unwrap().rejected, []);
    // One of a group that is not here is dropped.
    store.write(MetaWrite::Certificate(Box::new(certificate(2, Verdict::Accept)))).await;
    assert_eq!(store.meta.certificate(&hash_of(2)).await.unwrap(), None);
}

#[tokio::test]
async fn what_was_rejected_is_seen_only_where_it_was_uploaded() {
    let store = published().await;
    store.meta.batch(replicate(1, 2, UNREAD), NOW).await.unwrap();
    for seed in [1, 2] {
        store.write(MetaWrite::Certificate(Box::new(certificate(seed, Verdict::Reject)))).await;
    }
    let seen = async |seed| store.meta.group(&GroupKey::Group(group_id(seed))).await.unwrap().is_some();
    assert_eq!((seen(1).await, seen(2).await), (true, false));
}

#[tokio::test]
async fn a_certificate_of_a_weaker_claim_takes_no_stronger_ones_place() {
    let store = published().await;
    let of = |claim| {
        let mut file = certificate(1, Verdict::Accept);
        file.certificate.statement.claim = claim;
        file
    };
    for (claim, kept) in [
        (Claim::Durable, Claim::Durable),
        (Claim::Verified, Claim::Verified),
        (Claim::Seen, Claim::Verified),
        (Claim::Durable, Claim::Verified),
    ] {
        store.write(MetaWrite::Certificate(Box::new(of(claim)))).await;
        assert_eq!(store.meta.certificate(&hash_of(1)).await.unwrap(), Some(of(kept).encode()), "{claim:?}");
        assert_eq!(view(&store).await.group.certificate, Some(of(kept).hash()));
    }
}
