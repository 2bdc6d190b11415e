//! Staging in the simulated world: bytes flow from a source that is up, reachable and has them.

use mynet_proto::{consensus::io::Hashed, node::io::Input};
use mynet_types::{
    Claim, ContentState, Manifest, ManifestHash, NodeId, StatesMask, TxId,
    wire::{Prepare, Receipts, RefuseReason},
};
use rand::RngExt;

use crate::{
    group_store::bytes_of,
    host::Job,
    sometimes::{Fault as Broken, Rare},
    world::{Happening, World},
};

/// How often a staging moves on. Longer than most messages take, so that bytes and decisions interleave.
const TICK_MS: u64 = 1_000;
/// How long it takes at most to read all bytes of a value for a vote.
const HASH_MS_MAX: u64 = 20_000;
/// Ticks without a byte after which staging gives up; the stall detector of the data plane.
const IDLE_TICKS_MAX: u32 = 30;

/// A group that cannot be asked to be verified yet is looked at again after this.
const VERIFY_RETRY_MS: u64 = 5_000;

/// All bytes of one value, to be looked at for a vote.
#[derive(Debug)]
pub(crate) struct Look {
    manifest_hash: ManifestHash,
    states: StatesMask,
    /// Who should have them.
    sources: Vec<NodeId>,
}

/// Whether the names of a value are those of its bytes: every eighth owner lied about the SHA-256.
pub(crate) fn true_names(value: &ManifestHash) -> Hashed {
    if value.0[0].is_multiple_of(8) { Hashed::Wrong } else { Hashed::Right }
}

impl World {
    /// A core wants something staged.
    pub(crate) fn stage(&mut self, node: usize, (tx, attempt): (TxId, u32), prepare: Prepare, states: StatesMask) {
        let failure = self.options.disk.stage_failure_percent;
        let fails = (!self.healed && self.rng.random_ratio(failure, 100)).then(|| match self.rng.random_range(0..3) {
            0 => RefuseReason::NoSpace,
            1 => RefuseReason::Unavailable,
            _ => RefuseReason::Storage,
        });
        let in_part = !self.healed && fails.is_none() && self.rng.random_ratio(failure, 400);
        self.hosts[node].jobs.insert(tx, Job { prepare, states, bytes: 0, idle: 0, fails, in_part });
        let at = self.now + self.rng.random_range(1..=TICK_MS);
        self.queue.push(at, Happening::Stage { node, boot: self.hosts[node].boot, tx, attempt });
    }

    /// One tick of one staging.
    pub(crate) fn staging_moves(&mut self, node: usize, tx: TxId, attempt: u32) {
        let Some(mut job) = self.hosts[node].jobs.get(&tx).cloned() else { return };
        if job.prepare.attempt != attempt {
            return;
        }
        if let Some(reason) = job.fails.filter(|_| !self.healed && self.rng.random_ratio(1, 2)) {
            self.counts.fault(Broken::StageFailed);
            if reason == RefuseReason::NoSpace {
                self.counts.met(Rare::NoSpace);
            }
            return self.staged(node, (tx, attempt), Err(reason));
        }
        if self.hosts[node].groups.store.not_older(&job.prepare.manifest.body).is_some() {
            return self.staged(node, (tx, attempt), Err(RefuseReason::Superseded));
        }
        let store = &mut self.hosts[node].groups.store;
        let manifest_hash = job.prepare.manifest.body.hash();
        // A file that an earlier attempt put in place is not pulled again.
        let blobs = job.prepare.manifest.body.blobs().filter(|(_, blob)| store.files().has(blob));
        let here = blobs.map(|(member, _)| member.state).chain(store.held(&manifest_hash).iter());
        let missing = here.fold(job.states, StatesMask::without);
        let total = bytes_of(&job.prepare.manifest, missing);
        if job.bytes < total {
            if !self.has_source(node, &job, missing) {
                job.idle += 1;
                if job.idle > IDLE_TICKS_MAX {
                    return self.staged(node, (tx, attempt), Err(RefuseReason::Unavailable));
                }
            } else {
                job.idle = 0;
                job.bytes = total.min(job.bytes + self.options.disk.bytes_per_second * TICK_MS / 1000);
            }
        }
        let complete = job.bytes >= total;
        let mut states = if complete { job.states } else { StatesMask::EMPTY };
        if complete && job.in_part && !self.healed {
            self.counts.met(Rare::StagedInPart);
            states = states.iter().take(1).fold(states, StatesMask::without);
        }
        self.hosts[node].groups.store.stage(tx, &job.prepare.manifest, (job.bytes, states));
        if complete {
            return self.staged(node, (tx, attempt), Ok(states));
        }
        let bytes = job.bytes;
        self.hosts[node].jobs.insert(tx, job);
        self.queue.push(self.now + TICK_MS, Happening::Stage { node, boot: self.hosts[node].boot, tx, attempt });
        self.step(node, Input::Progress { tx, attempt, bytes });
    }

    /// A core wants all bytes of a value looked at, for a `verified` vote.
    pub(crate) fn hash(&mut self, node: usize, manifest: &Manifest, sources: Vec<NodeId>) {
        let at = self.now + self.rng.random_range(1..=HASH_MS_MAX);
        let look = Look { manifest_hash: manifest.hash(), states: manifest.allowed(false), sources };
        self.queue.push(at, Happening::Hashed { node, boot: self.hosts[node].boot, look });
    }

    /// The bytes were looked at. What is wrong is wrong for everybody; that they could not be had is each node's own luck.
    pub(crate) fn hashed(&mut self, node: usize, look: &Look) {
        let absent = !self.healed && self.rng.random_ratio(1, 4) || !self.has_bytes(node, look);
        let hashed = if absent { Hashed::Unavailable } else { true_names(&look.manifest_hash) };
        self.step(node, Input::Hashed { manifest_hash: look.manifest_hash, hashed });
    }

    /// Whether a node has the bytes itself, or reaches somebody who should. Where nothing is replicated everybody has them.
    fn has_bytes(&self, node: usize, look: &Look) -> bool {
        let sources = look.sources.iter().filter_map(|source| self.cast.index_of(source));
        let reached = sources.filter(|source| self.hosts[*source].is_up() && self.network.is_open(node, *source));
        let mut holders = reached.chain([node]);
        let shows = |holder: usize| self.hosts[holder].groups.store.held(&look.manifest_hash).covers(look.states);
        !self.options.suite.replicates() || holders.any(shows)
    }

    /// A group that has copies is to be certified as verified too, as soon as its node is up and has receipts enough. Once
    /// another version took its place nobody asks any more.
    pub(crate) fn ask_verified(&mut self, index: usize) {
        let work = &self.works[index];
        let (node, manifest) = (work.node, &work.publication.manifest.body);
        let store = &self.hosts[node].groups.store;
        let replaced = store.row(&manifest.group_id).is_some_and(|row| row.hash != work.value);
        if work.deleted || replaced {
            return;
        }
        let durable = store.receipts(&work.value).count() >= usize::from(manifest.quorum);
        if !work.taken || !durable || !self.hosts[node].is_up() {
            return self.queue.push(self.now + VERIFY_RETRY_MS, Happening::AskVerified { index });
        }
        self.works[index].verified_asked = true;
        self.verify_again(node);
    }

    /// Groups that a node was asked to have verified and that are not settled there are proposed again.
    pub(crate) fn verify_again(&mut self, node: usize) {
        for index in 0..self.works.len() {
            let work = &self.works[index];
            let asked = work.node == node && work.verified_asked && work.taken;
            let store = &self.hosts[node].groups.store;
            let shown = self.hosts[node].is_up() && store.row_of(&work.value).is_some();
            if !asked || !shown || self.watch.is_looked_at(node, &work.value) {
                continue;
            }
            let receipts = Receipts::truncated(store.receipts(&work.value).cloned());
            let manifest = Box::new(work.publication.manifest.clone());
            self.step(node, Input::Certify { manifest, receipts, claim: Claim::Verified });
        }
    }

    /// Whether somebody whom the coordinator named can deliver: up, reachable, and in possession of what is missing.
    fn has_source(&self, node: usize, job: &Job, missing: StatesMask) -> bool {
        let manifest = job.prepare.manifest.body.hash();
        let stored = missing.iter().filter(|state| self.is_stored(job, *state)).collect::<StatesMask>();
        job.prepare.sources.iter().filter_map(|source| self.cast.index_of(source)).any(|source| {
            source != node
                && self.hosts[source].is_up()
                && self.network.is_open(node, source)
                && self.hosts[source].groups.store.held(&manifest).covers(stored)
        })
    }

    /// Whether a state is bytes of its own, and not a view.
    fn is_stored(&self, job: &Job, state: ContentState) -> bool {
        job.prepare.manifest.body.member(state).is_some_and(|member| member.blob.is_some())
    }

    fn staged(&mut self, node: usize, (tx, attempt): (TxId, u32), result: Result<StatesMask, RefuseReason>) {
        self.hosts[node].jobs.remove(&tx);
        self.step(node, Input::Staged { tx, attempt, result });
    }
}
