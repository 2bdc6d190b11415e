//! One file per invariant. A checker sees everything in order, remembers what it needs, and says what is wrong.
//!
//! The numbers are those of `docs/protocol/simulation.md`. A checker trusts nobody's bookkeeping but its own: it counts
//! signatures, rows and records itself. Each one is shown to fail by a test that feeds it a history with the fault.

mod c1_certificates;
mod c2_votes;
mod c3_offline;
mod c4_rejection;
mod c5_decided;
mod c6_epochs;
mod c7_evidence;
mod c8_recovery;
mod g10_ends;
mod g11_bytes;
mod g12_deleted;
mod g13_versions;
mod g1_partial;
mod g2_decision;
mod g3_outcome;
mod g4_durable;
mod g5_quiet;
mod g6_replay;
mod g7_commit;
mod g8_collection;
mod g9_custody;
mod l1_leases;
mod p1_zones;
mod w1_votes_first;
mod w2_commit_first;
mod w3_same_proposal;
mod w4_signing_bytes;

#[cfg(test)]
mod stage;

use std::{collections::BTreeSet, fmt};

use mynet_proto::{consensus::io::Event as Told, node::io::Event};
use mynet_types::{Genesis, ManifestHash, RecoveryFile, SlotKey, Verdict, vote::head_slot};

use crate::{
    observe::{Seen, View},
    options::{Options, Suite},
};

/// Watches one invariant.
pub(crate) trait Checker: fmt::Debug {
    /// Its number.
    fn invariant(&self) -> &'static str;

    /// Looks at one thing that happened.
    ///
    /// # Errors
    /// Says how the invariant is broken.
    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String>;
}

/// Certificates of rejections, and who holds them: of what its coordinator knows to be rejected nobody takes a copy any more.
#[derive(Debug, Default)]
struct Rejections(BTreeSet<(usize, ManifestHash)>);

impl Rejections {
    fn see(&mut self, seen: &Seen<'_>) {
        if let Seen::Told { node, event: Event::Consensus(Told::Certified(file)) } = seen {
            let statement = &file.certificate.statement;
            if statement.verdict == Verdict::Reject {
                self.0.insert((*node, statement.value));
            }
        }
    }

    /// Whether `node` knows that a value is rejected.
    fn are_known(&self, node: usize, value: &ManifestHash) -> bool {
        self.0.contains(&(node, *value))
    }
}

/// The checkers of a suite.
pub(crate) fn of(options: &Options) -> Vec<Box<dyn Checker>> {
    let suite = options.suite;
    let mut checkers: Vec<Box<dyn Checker>> = Vec::new();
    if suite.certifies() {
        checkers.push(Box::new(c1_certificates::Certificates::default()));
        checkers.push(Box::new(c2_votes::Votes::default()));
        checkers.push(Box::new(c3_offline::Offline::default()));
        checkers.push(Box::new(c4_rejection::Rejection::default()));
        checkers.push(Box::new(c5_decided::Decided::new(options.automatic)));
        checkers.push(Box::new(c7_evidence::Accusations::default()));
        checkers.push(Box::new(c6_epochs::Epochs::default()));
        checkers.push(Box::new(c8_recovery::Recoveries::default()));
        checkers.push(Box::new(w1_votes_first::VotesFirst::default()));
        checkers.push(Box::new(w3_same_proposal::SameProposal::default()));
    }
    if suite.replicates() {
        checkers.push(Box::new(g1_partial::Partial));
        checkers.push(Box::new(g2_decision::Decisions::default()));
        checkers.push(Box::new(g3_outcome::Outcomes::default()));
        checkers.push(Box::new(g4_durable::Durable::default()));
        checkers.push(Box::new(g5_quiet::Quiet));
        checkers.push(Box::new(g6_replay::Replay::default()));
        checkers.push(Box::new(g7_commit::Commits::default()));
        checkers.push(Box::new(g8_collection::Collection));
        checkers.push(Box::new(g9_custody::Custody));
        checkers.push(Box::new(g10_ends::Ends::default()));
        checkers.push(Box::new(g12_deleted::Deleted));
        checkers.push(Box::new(g11_bytes::Bytes));
        checkers.push(Box::new(l1_leases::Leases::new(options.lease)));
        checkers.push(Box::new(p1_zones::Zones::default()));
        checkers.push(Box::new(w2_commit_first::CommitFirst::default()));
    }
    if suite == Suite::Node {
        checkers.push(Box::new(g13_versions::Versions::default()));
    }
    checkers.push(Box::new(w4_signing_bytes::SigningBytes::default()));
    checkers
}

/// Votes for an accept and for a reject certificate of `n` validators, worked out once more: whoever checks quorums must
/// not ask the code that it checks. `None` where nothing can be certified.
fn quorums(n: usize, genesis: &Genesis) -> Option<(usize, usize)> {
    if n < 3 {
        return (n > 0 && genesis.allow_degraded_quorum).then_some((n, 1));
    }
    let faulty = (n - 1) / 3;
    // The least number of which any two share more than the bad ones, and a floor.
    let least = (1..=n).find(|accept| 2 * accept > n + faulty)?;
    let accept = least.max(usize::from(genesis.min_quorum));
    let reject = (1..=n).find(|reject| accept + reject > n + faulty)?;
    (accept <= n).then_some((accept, reject))
}

/// Whether what a recovery carries keeps another value out of `slot` than `value`: it carries that, or a later version.
fn carries(file: &RecoveryFile, slot: &SlotKey, value: &ManifestHash) -> bool {
    file.heads.iter().any(|head| {
        let later = (1..head.version).any(|version| head_slot(&head.group_id, version) == *slot);
        later || head.value == *value && head_slot(&head.group_id, head.version) == *slot
    })
}

/// An error unless `holds`.
fn ensure(holds: bool, message: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(message()) }
}
