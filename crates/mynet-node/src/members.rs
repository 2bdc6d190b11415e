//! Who belongs to the network, as far as this node knows, and where they are.
//!
//! Admissions are checked against the roster chain before they enter; one that names an epoch this node has not seen
//! yet is kept aside until the chain has grown. Of two admissions of a node the one that lasts longer counts: the later is a
//! renewal. Ended ones are kept, because a renewal keeps what they say. Announcements are taken from admitted nodes only, and
//! replaced only by newer ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use mynet_net::admission::check_record;
use mynet_types::{
    AdmissionRecord, NodeId, SignedAdmission, SignedNodeRecord, Timestamp, VerifiedChain,
    records::{AdmissionError, verify_admission},
};

use crate::renewal::end_of;

/// How far ahead of this node's clock sequence numbers and the ends of admissions may be. Less would refuse honest clocks
/// that run ahead, more would let a wrong one bar its node, or keep it admitted, for longer.
const AHEAD_MAX: Duration = Duration::from_secs(24 * 3600);
/// Admissions of unknown epochs kept aside at most; more are dropped and come again with the next exchange.
const WAITING_MAX: usize = 1024;

/// The membership of the network.
#[derive(Debug)]
pub(crate) struct Members {
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    chain: VerifiedChain,
    admitted: BTreeMap<NodeId, SignedAdmission>,
    waiting: BTreeMap<NodeId, SignedAdmission>,
    records: BTreeMap<NodeId, SignedNodeRecord>,
    up: BTreeSet<NodeId>,
}

/// What became of an admission record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Learned {
    /// It is good, and the node's first, or it says something else about the node than the one before.
    New,
    /// It is good, and says the same as the one before until later.
    Renewed,
    /// It was known, or one is that lasts as long.
    Known,
    /// Its epoch is not known yet; kept aside.
    Waiting,
    /// It admits nobody.
    Bad(AdmissionError),
}

impl Members {
    /// Begins with what the stores hold.
    pub(crate) fn new(
        chain: VerifiedChain,
        admissions: impl IntoIterator<Item = SignedAdmission>,
        records: impl IntoIterator<Item = SignedNodeRecord>,
    ) -> Self {
        let admitted = admissions.into_iter().map(|admission| (admission.body.node, admission)).collect();
        let records = records.into_iter().map(|record| (record.body.node, record)).collect();
        let state = State { chain, admitted, waiting: BTreeMap::new(), records, up: BTreeSet::new() };
        Self { state: RwLock::new(state) }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The chain known here.
    pub(crate) fn chain(&self) -> VerifiedChain {
        self.read().chain.clone()
    }

    /// Takes over a longer chain and returns the admissions that waited for it and are good.
    pub(crate) fn chain_grew(&self, chain: VerifiedChain, now: Timestamp) -> Vec<SignedAdmission> {
        let mut state = self.write();
        if chain.supersedes(&state.chain) {
            state.chain = chain;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        let good = |admission: &SignedAdmission| matches!(self.learn(admission, now), Learned::New | Learned::Renewed);
        waiting.into_values().filter(good).collect()
    }

    /// Checks an admission and takes it in.
    pub(crate) fn learn(&self, admission: &SignedAdmission, now: Timestamp) -> Learned {
        let mut state = self.write();
        let node = admission.body.node;
        let known = state.admitted.get(&node);
        if known.is_some_and(|known| known.body.expires_at >= admission.body.expires_at) {
            return Learned::Known;
        }
        let verified = verify_admission(admission, &state.chain, now).and_then(|()| {
            // The longest wins, so one from a clock far ahead could never be shortened again.
            let until = admission.body.expires_at;
            if until > end_of(now).after(AHEAD_MAX) { Err(AdmissionError::TooLong(until)) } else { Ok(()) }
        });
        match verified {
            Ok(()) => {
                let same = known.is_some_and(|known| says_the_same(&known.body, &admission.body));
                state.admitted.insert(node, admission.clone());
                if same { Learned::Renewed } else { Learned::New }
            }
            Err(AdmissionError::UnknownEpoch { .. }) => {
                if state.waiting.len() < WAITING_MAX {
                    state.waiting.insert(node, admission.clone());
                }
                Learned::Waiting
            }
            Err(error) => Learned::Bad(error),
        }
    }

    /// Takes in an announcement; `true` if it is newer than the one known, good now, and of a node that was admitted.
    pub(crate) fn learn_record(&self, record: &SignedNodeRecord, now: Timestamp) -> bool {
        let mut state = self.write();
        let node = record.body.node;
        let newer = state.records.get(&node).is_none_or(|known| known.body.seq < record.body.seq);
        // Sequence numbers go on from a clock; one far ahead would bar all honest ones to come.
        let sane = record.body.seq <= now.after(AHEAD_MAX).0;
        if !newer || !sane || !state.admitted.contains_key(&node) {
            return false;
        }
        if check_record(&state.chain, &node, record, now).is_err() {
            return false;
        }
        state.records.insert(node, record.clone());
        true
    }

    /// Whether a node is admitted now.
    pub(crate) fn is_admitted(&self, node: &NodeId, now: Timestamp) -> bool {
        self.read().admitted.get(node).is_some_and(|admission| now < admission.body.expires_at)
    }

    /// Whether a node may speak to this one: it is admitted now, or was and still holds a seat.
    pub(crate) fn may_enter(&self, node: &NodeId, now: Timestamp) -> bool {
        let seated = || {
            let state = self.read();
            state.admitted.contains_key(node) && state.chain.newest().seat_of(node).is_some()
        };
        self.is_admitted(node, now) || seated()
    }

    /// The admission of a node, ended or not.
    pub(crate) fn admission(&self, node: &NodeId) -> Option<SignedAdmission> {
        self.read().admitted.get(node).cloned()
    }

    /// The admissions that hold now.
    pub(crate) fn admissions(&self, now: Timestamp) -> Vec<SignedAdmission> {
        self.read().admitted.values().filter(|admission| now < admission.body.expires_at).cloned().collect()
    }

    /// Every admission known, ended ones too.
    pub(crate) fn all_admissions(&self) -> Vec<SignedAdmission> {
        self.read().admitted.values().cloned().collect()
    }

    /// The nodes that may speak to this one.
    pub(crate) fn entitled(&self, now: Timestamp) -> BTreeSet<NodeId> {
        let known: Vec<NodeId> = self.read().admitted.keys().copied().collect();
        known.into_iter().filter(|node| self.may_enter(node, now)).collect()
    }

    /// Every announcement known.
    pub(crate) fn records(&self) -> Vec<SignedNodeRecord> {
        self.read().records.values().cloned().collect()
    }

    /// The announcement of a node.
    pub(crate) fn record(&self, node: &NodeId) -> Option<SignedNodeRecord> {
        self.read().records.get(node).cloned()
    }

    /// Notes that a peer can, or can no longer, be reached.
    pub(crate) fn set_up(&self, node: NodeId, up: bool) {
        let mut state = self.write();
        if up {
            state.up.insert(node);
        } else {
            state.up.remove(&node);
        }
    }

    /// Peers that can be reached.
    pub(crate) fn up(&self) -> BTreeSet<NodeId> {
        self.read().up.clone()
    }
}

/// Whether two admissions differ only in who gave them and until when.
fn says_the_same(one: &AdmissionRecord, other: &AdmissionRecord) -> bool {
    let AdmissionRecord { expires_at, epoch, issuer, .. } = *other;
    AdmissionRecord { expires_at, epoch, issuer, ..one.clone() } == *other
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_types::{AdmissionRecord, NodeRecord, Signed};

    use super::{AdmissionError, Learned};
    use crate::{
        driver::wall_clock,
        renewal::end_of,
        testing::{Founder, Puppet},
    };

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[tokio::test(flavor = "multi_thread")]
    async fn the_longer_admission_counts_but_none_from_a_clock_far_ahead() {
        let founder = Founder::start().await;
        let peer = Puppet::make(&founder, "peer", true).await;
        let (shell, now) = (founder.shell(), wall_clock());
        let until = |expires_at, zone: &str| {
            let zone = zone.try_into().unwrap();
            let body = AdmissionRecord { expires_at, zone, ..peer.admission.body.clone() };
            Signed::new(&shell.network, body, shell.keys.node())
        };
        let learn = |admission| shell.members.learn(&admission, now);
        assert_eq!(learn(until(end_of(now), "a")), Learned::New);
        assert_eq!(learn(until(end_of(now).after(DAY / 2), "a")), Learned::Renewed);
        assert_eq!(learn(until(end_of(now), "b")), Learned::Known, "a shorter one");
        assert_eq!(learn(until(end_of(now).after(DAY), "b")), Learned::New, "says something else");
        let far = end_of(now).after(DAY * 2);
        assert_eq!(learn(until(far, "b")), Learned::Bad(AdmissionError::TooLong(far)));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn announcements_need_an_admission_and_a_sane_clock() {
        let founder = Founder::start().await;
        let stranger = Puppet::make(&founder, "stranger", true).await;
        let (shell, now) = (founder.shell(), wall_clock());
        let record = |seq, valid_until| {
            let body = NodeRecord {
                node: stranger.keys.node_id(),
                seq,
                addrs: mynet_types::BoundedVec::new(),
                program: mynet_types::BoundedString::default(),
                groups: 0,
                bytes: 0,
                capacity: 0,
                valid_until,
            };
            Signed::new(&shell.network, body, stranger.keys.node())
        };
        let good = record(now.0, now.after(DAY));
        assert!(!shell.members.learn_record(&good, now), "nobody admitted it");
        assert_eq!(shell.members.learn(&stranger.admission, now), Learned::New);
        for (seq, until) in [(u64::MAX, now.after(DAY)), (now.0, now.after(DAY * 3)), (now.0, now)] {
            assert!(!shell.members.learn_record(&record(seq, until), now), "{seq} {until}");
        }
        assert!(shell.members.learn_record(&good, now));
        assert!(!shell.members.learn_record(&good, now), "no news");
    }
}
