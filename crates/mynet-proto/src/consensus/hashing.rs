//! Proposals of a `verified` claim that wait until this node has hashed the bytes.
//!
//! Hashing takes as long as the bytes are long, so it is the driver's: it is asked once per value, and every proposal of
//! that value is judged anew with what it found. Nothing is remembered after that: the vote is, and a later epoch is a
//! later look at the bytes.
//!
//! **Invariant:** at most [`PER_PROPOSER_MAX`] proposals of one proposer and [`WAITING_MAX`] of all wait.

use std::collections::BTreeMap;

use mynet_types::{AbstainReason, HeadProof, ManifestHash, NodeId, SignedManifest, SignedProposal, wire::Receipts};

use super::{
    io::{Hashed, Output},
    step::Step,
    validator::Ask,
};

/// Proposals of one proposer that wait. Fewer would make an honest one wait for its own films, more let one member keep
/// this node reading.
const PER_PROPOSER_MAX: usize = 4;

/// Proposals that wait, whoever made them. Each keeps its manifest, at most 256 KiB, and its receipts.
const WAITING_MAX: usize = 64;

/// A proposal with all that is needed to judge it later.
struct Waiting {
    proposal: SignedProposal,
    manifest: SignedManifest,
    receipts: Receipts,
    previous: Option<HeadProof>,
}

impl Waiting {
    fn ask(&self, from: NodeId, hashed: Hashed) -> Ask<'_> {
        let Self { proposal, manifest, receipts, previous } = self;
        Ask { from, proposal, manifest, receipts, previous: previous.as_ref(), hashed: Some(hashed) }
    }
}

/// What waits for bytes, by value and proposer.
#[derive(Default)]
pub(super) struct Hashing(BTreeMap<ManifestHash, BTreeMap<NodeId, Waiting>>);

impl Hashing {
    /// Lets a proposal wait, and asks for its bytes from `sources` unless that was done.
    pub(super) fn wait(
        &mut self,
        step: &mut Step<'_>,
        ask: Ask<'_>,
        sources: Vec<NodeId>,
    ) -> Result<(), AbstainReason> {
        let value = ask.proposal.body.manifest_hash;
        let known = self.0.get(&value).is_some_and(|of_value| of_value.contains_key(&ask.from));
        let of_proposer = self.0.values().filter(|of_value| of_value.contains_key(&ask.from)).count();
        let of_all: usize = self.0.values().map(BTreeMap::len).sum();
        if !known && (of_proposer >= PER_PROPOSER_MAX || of_all >= WAITING_MAX) {
            return Err(AbstainReason::Busy);
        }
        if !self.0.contains_key(&value) {
            step.output(Output::Hash { manifest: Box::new(ask.manifest.body.clone()), sources });
        }
        let Ask { from, proposal, manifest, receipts, previous, hashed: _ } = ask;
        let (proposal, manifest, receipts) = (proposal.clone(), manifest.clone(), receipts.clone());
        // The newest proposal of a proposer is the one that it still counts votes for.
        let waiting = Waiting { proposal, manifest, receipts, previous: previous.cloned() };
        self.0.entry(value).or_default().insert(from, waiting);
        Ok(())
    }

    /// The bytes of a value were looked at: hands every proposal of it to `judge`.
    pub(super) fn finish(&mut self, value: &ManifestHash, hashed: Hashed, mut judge: impl FnMut(Ask<'_>)) {
        for (from, waiting) in self.0.remove(value).unwrap_or_default() {
            judge(waiting.ask(from, hashed));
        }
    }
}
