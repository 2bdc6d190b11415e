//! Who belongs to the network, as far as this node knows, and where they are.
//!
//! Admissions are checked against the roster chain before they enter; one that names an epoch this node has not seen
//! yet is kept aside until the chain has grown. Announcements are replaced only by newer ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use mynet_types::{
    NodeId, SignedAdmission, SignedNodeRecord, Timestamp, VerifiedChain,
    records::{AdmissionError, verify_admission},
};

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
    /// It is new and good.
    New,
    /// It was known, or an equal or later one is.
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
        if chain.newest().epoch > state.chain.newest().epoch {
            state.chain = chain;
        }
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_values().filter(|admission| self.learn(admission, now) == Learned::New).collect()
    }

    /// Checks an admission and takes it in.
    pub(crate) fn learn(&self, admission: &SignedAdmission, now: Timestamp) -> Learned {
        let mut state = self.write();
        let node = admission.body.node;
        let known = state.admitted.get(&node);
        if known.is_some_and(|known| known.body.admitted_at >= admission.body.admitted_at) {
            return Learned::Known;
        }
        match verify_admission(admission, &state.chain, now) {
            Ok(()) => {
                state.admitted.insert(node, admission.clone());
                Learned::New
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

    /// Takes in an announcement; `true` if it is newer than the one known and its signature is good.
    pub(crate) fn learn_record(&self, record: &SignedNodeRecord) -> bool {
        let mut state = self.write();
        let node = record.body.node;
        let newer = state.records.get(&node).is_none_or(|known| known.body.seq < record.body.seq);
        if !newer || record.verify(&state.chain.genesis().network_id()).is_err() {
            return false;
        }
        state.records.insert(node, record.clone());
        true
    }

    /// Whether a node is admitted now.
    pub(crate) fn is_admitted(&self, node: &NodeId, now: Timestamp) -> bool {
        self.read().admitted.get(node).is_some_and(|admission| now < admission.body.expires_at)
    }

    /// The admission of a node.
    pub(crate) fn admission(&self, node: &NodeId) -> Option<SignedAdmission> {
        self.read().admitted.get(node).cloned()
    }

    /// Every admission known.
    pub(crate) fn admissions(&self) -> Vec<SignedAdmission> {
        self.read().admitted.values().cloned().collect()
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
