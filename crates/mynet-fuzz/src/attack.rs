//! The target that is no decoder: a node, alone among enemies who hold every other key of its network.
//!
//! The input is a script of eight-byte steps. The first byte of a step says what happens, the others seed a generator that
//! draws the rest: a member or a stranger says something (drawn by [`tape`], mostly made to fit what was said before and
//! signed with the right key), something said is said again or with a byte changed, a timer runs out, a batch is on disk,
//! staging ends, a user publishes. Every message goes through its encoding, as on the wire.
//!
//! Checked: no panic; what one input makes the node say and write is bounded ([`SAID_MAX`], [`SAID_BYTES_MAX`]); what the node
//! holds when the script ends is bounded ([`HELD_MAX`]), with the budgets of [`config`], which are small so that scripts
//! reach them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_proto::{
    consensus::io::Hashed,
    node::{
        Config, NodeCore,
        io::{Event, Input, Output, Timer},
    },
    persist::PersistId,
};
use mynet_types::{
    Claim, ManifestHash, Message, Mono, NodeId, Now, Proposal, Roster, SignedRosterKey, StatesMask, TxId, codec, wire,
};
use rand::{Rng, RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    cast::{CAST, NOON},
    generator, meter, mutate,
    tape::{self, Words},
    target::{Bound, Target},
};

mod lies;

/// The script of the node among enemies.
pub(crate) const TARGETS: &[Target] = &[Target {
    name: "node-core",
    // One input is bounded by itself below; a script has no bound of its own.
    bound: Bound { per_byte: 0, constant: usize::MAX },
    check: |_, script| drop(Siege::run(script)),
    seeds,
}];

/// Bytes of one step.
const STEP_BYTES: usize = 8;
/// Steps of one script at most.
const STEPS_MAX: usize = 4096;
/// Outputs of one input at most. Most are a change of epoch or a publication: every peer hears of every open proposal.
const SAID_MAX: usize = 96;
/// Bytes said and written for one input at most, beside [`SAID_PER_BYTE`] per byte of it.
const SAID_BYTES_MAX: usize = 256 * 1024;
/// What is said may repeat what was heard, to every member and to the disk.
const SAID_PER_BYTE: usize = 16;
/// Bytes that the node holds at most, whatever it heard.
const HELD_MAX: usize = 4 * 1024 * 1024;

/// Budgets small enough for a script to use them up.
fn config() -> Config {
    let mut config = Config::default();
    config.consensus.automatic_validators = 5;
    config.consensus.proposals_per_peer_max = 4;
    config.consensus.unvouched_ballots_max = 16;
    config.replication.transactions_per_peer_max = 4;
    config
}

/// One run.
struct Siege {
    node: NodeCore,
    now: Now,
    /// Timers asked for.
    timers: Vec<(Mono, Timer)>,
    /// Batches on their way to disk, in order.
    writing: std::collections::VecDeque<PersistId>,
    /// Stagings that run.
    staging: BTreeMap<TxId, (u32, StatesMask)>,
    /// What was said lately, to and by the node.
    heard: Vec<(NodeId, Vec<u8>)>,
    words: Words,
    /// Proposals of the node.
    proposals: Vec<Proposal>,
    /// The node's offer of a key for the next epoch.
    offer: Option<SignedRosterKey>,
    /// The roster that is being voted on.
    next: Option<Roster>,
    /// The transactions that were begun lately.
    deals: Vec<Deal>,
    /// Those that were staged.
    staged: Vec<TxId>,
    /// Values whose bytes the node wants looked at.
    hashing: BTreeSet<ManifestHash>,
    /// The kinds of events that the node announced.
    events: BTreeSet<&'static str>,
}

/// One attempt of a transaction, the node's own or one of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Deal {
    tx: TxId,
    attempt: u32,
    manifest_hash: ManifestHash,
    states: StatesMask,
    coordinator: NodeId,
}

/// What is remembered of each kind: enough to lie about, and little.
const REMEMBERED_MAX: usize = 24;

fn remember<T: PartialEq>(list: &mut Vec<T>, item: T) {
    if !list.contains(&item) {
        if list.len() >= REMEMBERED_MAX {
            list.remove(0);
        }
        list.push(item);
    }
}

impl Siege {
    /// Runs a script; says which kinds of events it led to.
    fn run(script: &[u8]) -> BTreeSet<&'static str> {
        let cast = &*CAST;
        let ids = cast
            .nodes
            .iter()
            .map(|node| node.0)
            .chain(cast.publications.iter().flat_map(|p| [p.manifest.body.hash().0, p.manifest.body.group_id.0]));
        let epoch = cast.chain.newest().epoch;
        let numbers = vec![0, 1, epoch - 1, epoch, epoch + 1, epoch + 2, NOON.0, NOON.0 + 600_000, u64::MAX];
        let mut siege = Self {
            node: cast.victim(config()),
            now: Now { mono: Mono(0), wall: NOON },
            timers: Vec::new(),
            writing: std::collections::VecDeque::new(),
            staging: BTreeMap::new(),
            heard: Vec::new(),
            words: Words { ids: ids.collect(), numbers },
            proposals: Vec::new(),
            offer: None,
            next: None,
            deals: Vec::new(),
            staged: Vec::new(),
            hashing: BTreeSet::new(),
            events: BTreeSet::new(),
        };
        for admission in &cast.admissions {
            siege.give(Input::Admitted(Box::new(admission.clone())), 0);
        }
        siege.give(Input::Start, 0);
        for node in cast.nodes.iter().skip(1) {
            siege.give(Input::PeerUp(*node), 0);
        }
        for step in script.chunks_exact(STEP_BYTES).take(STEPS_MAX) {
            let step: [u8; STEP_BYTES] = step.try_into().expect("chunks are exact");
            siege.step(step[0], &mut generator(u64::from_le_bytes(step)));
        }
        let _alone = meter::alone();
        let held = meter::held_by(siege.node);
        assert!(held <= HELD_MAX, "the node holds {held} bytes, {HELD_MAX} are allowed");
        siege.events
    }

    fn step(&mut self, what: u8, rng: &mut ChaCha8Rng) {
        match what % 32 {
            0..12 => self.lie(rng),
            12 | 13 => self.repeat(rng),
            14..17 => self.distort(rng),
            17..22 => self.write(rng),
            22..25 => self.fire(rng),
            25 => self.pass(rng),
            26 | 27 => self.stage(rng),
            28 => self.publish(rng),
            29 => self.hashed(rng),
            _ => self.rumour(rng),
        }
    }

    /// Somebody says something new.
    fn lie(&mut self, rng: &mut ChaCha8Rng) {
        let addressed = self.heard.choose(rng).map(|(node, _)| *node).filter(|_| rng.random());
        let from = addressed.unwrap_or_else(|| *CAST.nodes.choose(rng).expect("there are nodes"));
        let Some((mut message, _)) = tape::draw::<Message>(rng, &self.words) else { return };
        if !rng.random_ratio(1, 8) {
            self.fit(rng, from, &mut message);
        }
        self.hear(from, &codec::encode(&message));
    }

    /// Somebody says something again, perhaps another's words.
    fn repeat(&mut self, rng: &mut ChaCha8Rng) {
        if let Some((from, bytes)) = self.heard.choose(rng).cloned() {
            let from = if rng.random() { from } else { *CAST.nodes.choose(rng).expect("there are nodes") };
            self.hear(from, &bytes);
        }
    }

    /// Somebody says something with a few bytes changed.
    fn distort(&mut self, rng: &mut ChaCha8Rng) {
        let said: Vec<Vec<u8>> = self.heard.iter().map(|(_, bytes)| bytes.clone()).collect();
        if let Some((from, _)) = self.heard.choose(rng).cloned() {
            let bytes = mutate::mutated(rng, &said);
            self.hear(from, &bytes);
        }
    }

    /// Batches become durable; now and then one that never was, or that is durable already.
    fn write(&mut self, rng: &mut ChaCha8Rng) {
        if rng.random_ratio(1, 16) {
            return self.give(Input::Persisted(PersistId(rng.random_range(0..64))), 0);
        }
        for _ in 0..rng.random_range(1..=4) {
            if let Some(id) = self.writing.pop_front() {
                self.give(Input::Persisted(id), 0);
            }
        }
    }

    /// A timer runs out: the next one, or any that was asked for, early and perhaps twice.
    fn fire(&mut self, rng: &mut ChaCha8Rng) {
        if self.timers.is_empty() {
            return;
        }
        let soonest = (0..self.timers.len()).min_by_key(|index| self.timers[*index].0).expect("not empty");
        let index = if rng.random_ratio(3, 4) { soonest } else { rng.random_range(0..self.timers.len()) };
        let (at, timer) = self.timers[index];
        if index == soonest {
            let wait = at.since(self.now.mono);
            self.now = Now { mono: self.now.mono.after(wait), wall: self.now.wall.after(wait) };
        }
        if !rng.random_ratio(1, 8) {
            self.timers.swap_remove(index);
        }
        self.give(Input::Timer(timer), 0);
    }

    /// Time passes; the wall clock may jump.
    fn pass(&mut self, rng: &mut ChaCha8Rng) {
        let wait = Duration::from_millis(1 << rng.random_range(0..22));
        self.now.mono = self.now.mono.after(wait);
        self.now.wall = self.now.wall.after(wait);
        if rng.random_ratio(1, 8) {
            self.now.wall.0 = NOON.0.saturating_sub(rng.random_range(0..10_000_000));
        }
    }

    /// Staging goes on, or ends well or badly.
    fn stage(&mut self, rng: &mut ChaCha8Rng) {
        let running: Vec<_> = self.staging.iter().map(|(tx, (attempt, states))| (*tx, *attempt, *states)).collect();
        let Some((tx, attempt, states)) = running.choose(rng).copied() else { return };
        if rng.random_ratio(1, 3) {
            return self.give(Input::Progress { tx, attempt, bytes: rng.random() }, 0);
        }
        self.staging.remove(&tx);
        remember(&mut self.staged, tx);
        let fails = rng.random_ratio(1, 4);
        let result = if fails { Err(wire::RefuseReason::Unavailable) } else { Ok(states) };
        self.give(Input::Staged { tx, attempt, result }, 0);
    }

    /// The bytes of a value were looked at.
    fn hashed(&mut self, rng: &mut ChaCha8Rng) {
        let Some(manifest_hash) = self.hashing.iter().copied().collect::<Vec<_>>().choose(rng).copied() else { return };
        self.hashing.remove(&manifest_hash);
        let hashed = *[Hashed::Right, Hashed::Wrong, Hashed::Unavailable].choose(rng).expect("not empty");
        self.give(Input::Hashed { manifest_hash, hashed }, 0);
    }

    /// A user of the node publishes, or wants a certificate.
    fn publish(&mut self, rng: &mut ChaCha8Rng) {
        let publication = CAST.publications.choose(rng).expect("there are groups").clone();
        if rng.random() {
            return self.give(Input::Publish(Box::new(publication)), 0);
        }
        let holders = CAST.nodes.iter().take(rng.random_range(1..5));
        let receipts = holders.map(|holder| CAST.receipt(&publication.manifest.body, *holder)).collect::<Vec<_>>();
        let claim = *[Claim::Seen, Claim::Durable, Claim::Verified].choose(rng).expect("not empty");
        let receipts = receipts.try_into().expect("few receipts");
        self.give(Input::Certify { manifest: Box::new(publication.manifest), receipts, claim }, 0);
    }

    /// Peers come and go, and are admitted again.
    fn rumour(&mut self, rng: &mut ChaCha8Rng) {
        let node = *CAST.nodes.choose(rng).expect("there are nodes");
        self.give(
            match rng.random_range(0..3) {
                0 => Input::PeerUp(node),
                1 => Input::PeerDown(node),
                _ => Input::Admitted(Box::new(CAST.admissions.choose(rng).expect("there are members").clone())),
            },
            0,
        );
    }

    /// Delivers what decodes; a peer that sends anything else is refused by the shell.
    fn hear(&mut self, from: NodeId, bytes: &[u8]) {
        if let Ok(message) = codec::decode::<Message>(bytes, usize::MAX) {
            remember(&mut self.heard, (from, bytes.to_vec()));
            self.give(Input::Message { from, message }, bytes.len());
        }
    }

    /// Hands in one input of `len` bytes, does what is asked, and checks how much that is.
    fn give(&mut self, input: Input, len: usize) {
        let mut said = Vec::new();
        self.node.handle(self.now, input, &mut said);
        assert!(said.len() <= SAID_MAX, "{} outputs for one input", said.len());
        let mut bytes = 0;
        for output in said {
            bytes += self.obey(output);
        }
        let most = SAID_PER_BYTE * len + SAID_BYTES_MAX;
        assert!(bytes <= most, "{bytes} bytes said for an input of {len}, {most} are allowed");
    }

    /// Does what the node asks; says how many bytes it asks to send or write.
    fn obey(&mut self, output: Output) -> usize {
        match output {
            Output::Send { to, message } => {
                self.overhear(&message);
                let bytes = codec::encode(&message);
                let len = bytes.len();
                remember(&mut self.heard, (to, bytes));
                len
            }
            Output::PersistVotes { id, records } => {
                self.writing.push_back(id);
                codec::encode(&records).len()
            }
            Output::PersistGroups { id, records } => {
                self.writing.push_back(id);
                codec::encode(&records).len()
            }
            Output::SetTimer { timer, at } => {
                self.timers.retain(|(_, known)| *known != timer);
                self.timers.push((at, timer));
                0
            }
            Output::Stage { tx, attempt, prepare: _, states } => {
                self.staging.insert(tx, (attempt, states));
                0
            }
            Output::CancelStage { tx } => {
                self.staging.remove(&tx);
                0
            }
            Output::Hash { manifest, sources: _ } => {
                self.hashing.insert(manifest.hash());
                0
            }
            Output::Event(event) => {
                self.events.insert(name_of(&event));
                0
            }
        }
    }
}

/// The kind of an event.
fn name_of(event: &Event) -> &'static str {
    use mynet_proto::{consensus::io::Event as Consensus, replication::io::Event as Replication};
    match event {
        Event::Consensus(Consensus::Certified(_)) => "certified",
        Event::Consensus(Consensus::RosterChanged { .. }) => "roster changed",
        Event::Consensus(Consensus::Voted(_)) => "voted",
        Event::Consensus(Consensus::Evidence { .. }) => "evidence",
        Event::Consensus(_) => "other of consensus",
        Event::Replication(Replication::Durable { .. }) => "durable",
        Event::Replication(Replication::Committed { .. }) => "committed",
        Event::Replication(Replication::Aborted { .. }) => "aborted",
        Event::Replication(Replication::Refused { .. }) => "refused",
        Event::Replication(_) => "other of replication",
    }
}

/// Scripts of every length, from a step to two thousand.
fn seeds() -> Vec<Vec<u8>> {
    (0..24).map(|number| script(number, 1 << (number % 12))).collect()
}

/// A random script.
fn script(number: u64, steps: usize) -> Vec<u8> {
    let mut script = vec![0; steps * STEP_BYTES];
    generator(number).fill_bytes(&mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::{Siege, script};

    /// A siege that gets nowhere proves nothing.
    #[test]
    fn scripts_get_as_far_as_honest_peers_would() {
        let mut reached = std::collections::BTreeMap::new();
        for script in (0..96).map(|number| script(number, 512)) {
            for event in Siege::run(&script) {
                *reached.entry(event).or_insert(0) += 1;
            }
        }
        println!("{reached:?}");
        let wanted = ["certified", "roster changed", "voted", "evidence", "durable", "committed", "aborted", "refused"];
        for event in wanted {
            assert!(reached.contains_key(event), "{event} never happens, only {reached:?}");
        }
    }
}
