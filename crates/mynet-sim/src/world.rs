//! The simulated world: virtual time, one queue, nodes, links and disks, all drawn from one seed.
//!
//! ```text
//! queue -> happen -> step(node, input) -> core -> outputs -> carry out -> queue
//!                                             \-> seen by every checker
//! ```
//!
//! **Invariants of the rig**
//! 1. Nothing is drawn but from generators of the seed, and nothing depends on addresses or the order of a hash map.
//! 2. `Persisted` is handed in only when the batch is in the store; a crash leaves a prefix of what was not told.
//! 3. A timer never fires before its time on its node's own clock, and never after a restart.
//! 4. Messages are encoded when they are sent and decoded when they arrive, as on the wire.
//!
//! Absent on purpose: bandwidth shared between messages, byte-wise file systems, and nodes that are bad in other ways than
//! [`crate::liar`], repeating what they heard and pretending to know decisions.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use mynet_proto::{
    consensus::io::Event as ConsensusEvent,
    node::{
        self,
        io::{Event, Input, Output, Timer},
    },
    persist::PersistId,
    replication::{self, exchange::Page},
};
use mynet_types::{CertificateFile, GroupId, ManifestHash, SignedDecision, TxId, Verdict};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    asking::Request,
    cast::Cast,
    checker::{self, Checker},
    host::Host,
    liar::Liar,
    nemesis::{self, Fault},
    network::Network,
    observe::{Deadline, Seen, View},
    options::{Options, generator},
    queue::Queue,
    recovering::{Operators, RECOVERY_MS, Recovery},
    sometimes::{Counts, Fault as Broken},
    staging::Look,
    succession::{ASKING_MS, Versions},
    trace::{Audience, Trace},
    watch::Watch,
    workload::{self, Work},
};

/// Inputs of one run at most; two orders of magnitude above what runs need, so only a loop without end reaches it.
const EVENTS_MAX: u64 = 3_000_000;
/// Time that validators and roster need at most once the network is healed: four roster links of at most two attempts,
/// then the longest resend pause, and as much again.
const DECIDE_MS: u64 = 120_000;
/// Time that one version more needs after the one before it: two rounds with a resend pause each, and as much again.
const HEAD_MS: u64 = 80_000;
/// Time that every further roster link needs at most.
const LINK_MS: u64 = 20_000;

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A message arrives.
    Deliver(Parcel),
    /// A message arrives of which a byte was changed under way.
    Changed(Parcel),
    /// A member sends once more what arrived before.
    Replay(Parcel),
    /// A disk says that a batch is written.
    #[cfg(planted)]
    Ack { node: usize, boot: u64, id: PersistId },
    /// The collector unlinks files that nobody needs any more.
    Collect { node: usize, boot: u64 },
    /// A timer runs out.
    Timer { node: usize, boot: u64, timer: Timer },
    /// The oldest batch of the vote store is on disk.
    VotesOnDisk { node: usize, boot: u64 },
    /// The oldest batch of the metadata store is on disk.
    GroupsOnDisk { node: usize, boot: u64 },
    /// A staging moves on.
    Stage { node: usize, boot: u64, tx: TxId, attempt: u32 },
    /// A node has looked at the bytes of a value for its vote.
    Hashed { node: usize, boot: u64, look: Look },
    /// A node notices whether it reaches a peer.
    Notice { node: usize, boot: u64, peer: usize },
    /// A node asks all its peers what was deleted.
    AskAll { node: usize, boot: u64 },
    /// Such a question arrives.
    Asked { request: Request, seq: u64 },
    /// Its answer arrives, or none will.
    Answered { request: Request, page: Option<Page> },
    /// A node hears that another was admitted.
    Admit { node: usize, who: usize },
    /// A fault of the schedule.
    Fault(Fault),
    /// A crashed node starts again.
    Restart { node: usize },
    /// Work is asked for.
    Work { index: usize, node: usize },
    /// The owner grants more readers.
    Grant { index: usize },
    /// The owner deletes a group.
    Delete { index: usize },
    /// The owner asks for the next version of a group that is replicated.
    AskVersion { index: usize },
    /// Another value of its second version is asked for elsewhere.
    AskRival { index: usize, node: usize },
    /// The oldest transaction of a driver is on disk.
    DriverOnDisk { node: usize, boot: u64 },
    /// A version that is seen where it was made is published.
    PublishVersion { node: usize, boot: u64, group_id: GroupId },
    /// A group is to be certified as verified.
    AskVerified { index: usize },
    /// A later version is asked for.
    Head { index: usize, version: usize, node: usize },
    /// The operators do something about a roster that is lost.
    Operators(Operators),
    /// Faults end.
    Heal,
    /// A bound of the healed phase.
    Deadline(Deadline),
    /// The run is over.
    End,
}

/// A message on its way: from, to, and its bytes.
pub(crate) type Parcel = (usize, usize, Vec<u8>);

/// A rule was broken.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    /// The number of the invariant, as in the protocol documents.
    pub(crate) invariant: &'static str,
    /// What was seen.
    pub(crate) message: String,
}

/// Everything.
pub(crate) struct World {
    pub(crate) options: Options,
    pub(crate) cast: Cast,
    pub(crate) now: u64,
    pub(crate) queue: Queue<Happening>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) network: Network,
    pub(crate) works: Vec<Work>,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) healed: bool,
    /// When faults ended.
    pub(crate) healed_at: Option<u64>,
    pub(crate) versions: Versions,
    pub(crate) recovery: Recovery,
    pub(crate) counts: Counts,
    pub(crate) trace: Trace,
    pub(crate) votes_lost: bool,
    pub(crate) watch: Watch,
    /// Certificates by what they accept: public, so whoever needs one gets it.
    pub(crate) files: BTreeMap<ManifestHash, CertificateFile>,
    checkers: Vec<Box<dyn Checker>>,
    liar: Option<Liar>,
    /// Messages about replication that arrived lately.
    pub(crate) past: VecDeque<Parcel>,
    /// The first decision that left its coordinator, by transaction.
    pub(crate) decisions: BTreeMap<TxId, SignedDecision>,
    pub(crate) violation: Option<Violation>,
    over: bool,
}

impl World {
    /// Draws a world and schedules everything that is known beforehand.
    pub(crate) fn new(options: Options, audience: Audience) -> Self {
        let cast = Cast::new(&options);
        let mut rng = generator(options.suite, options.seed, "world");
        let drift = options.faults.drift_ppm;
        let hosts = cast.players.iter().enumerate().map(|(index, player)| {
            Host::new(player.id, (index == 0).then_some(cast.founder_secret), rng.random_range(-drift..=drift))
        });
        let hosts = hosts.collect();
        let liar = cast.liar.map(|index| {
            let rng = generator(options.suite, options.seed, "lies");
            Liar::new((index == 0).then_some(cast.founder_secret), rng)
        });
        let works = workload::draw(&options, &cast);
        let mut world = Self {
            network: Network::new(options.network.clone()),
            now: 0,
            queue: Queue::new(),
            hosts,
            works,
            rng,
            healed: false,
            healed_at: None,
            versions: Versions::new(&options),
            recovery: Recovery::new(&options),
            counts: Counts::default(),
            trace: Trace::new(audience),
            votes_lost: false,
            watch: Watch::default(),
            files: BTreeMap::new(),
            checkers: checker::of(&options),
            liar,
            past: VecDeque::new(),
            decisions: BTreeMap::new(),
            violation: None,
            over: false,
            cast,
            options,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        for node in 0..self.options.nodes - self.options.late {
            self.queue.push(0, Happening::Fault(Fault::Join { node }));
        }
        for (at, fault) in nemesis::schedule(&self.options) {
            self.queue.push(at, Happening::Fault(fault));
        }
        for (index, work) in self.works.iter().enumerate() {
            for node in std::iter::once(work.node).chain(work.rival.filter(|_| !self.options.suite.replicates())) {
                self.queue.push(work.at, Happening::Work { index, node });
            }
            for (version, head) in work.heads.iter().enumerate() {
                for (at, node) in std::iter::once((head.at, head.node)).chain(head.rival) {
                    self.queue.push(at, Happening::Head { index, version, node });
                }
            }
            if let Some((at, _)) = work.granted_later.as_ref().filter(|_| self.options.suite.replicates()) {
                self.queue.push(*at, Happening::Grant { index });
            }
            if let Some(at) = work.deleted_at {
                self.queue.push(at, Happening::Delete { index });
            }
            for at in &work.versions {
                self.queue.push(*at, Happening::AskVersion { index });
            }
            if let Some(at) = work.verified_at {
                self.queue.push(at, Happening::AskVerified { index });
            }
            if let Some((at, node)) = work.rival_version {
                self.queue.push(at, Happening::AskRival { index, node });
            }
        }
        let heal = ms(self.options.safety);
        self.queue.push(heal, Happening::Heal);
        let transfer = self.options.bytes_max * 2 * 1000 / self.options.disk.bytes_per_second;
        let lease = ms(self.options.lease);
        // A transaction begun in bad times runs into its deadline of one and a half leases at worst; then a pause.
        // Where there are versions, one may be asked for late, and has to be certified before it is replicated.
        let versions = if self.works.iter().all(|work| work.versions.is_empty()) { 0 } else { ASKING_MS + 2 * HEAD_MS };
        // Operators may have to be waited for.
        let heal = heal + self.options.faults.disaster.map_or(0, |_disaster| RECOVERY_MS);
        let durable = heal + 2 * lease + transfer + versions + 180_000;
        let quiet = heal + 3 * lease + 2 * transfer + versions + 240_000;
        let links = u64::try_from(self.options.automatic.saturating_sub(4)).unwrap_or(0);
        let decide = DECIDE_MS + links * LINK_MS;
        let (decided, end) = if self.options.suite.replicates() {
            self.queue.push(durable, Happening::Deadline(Deadline::Durable));
            self.queue.push(quiet, Happening::Deadline(Deadline::Quiet));
            (durable + decide, quiet.max(durable + decide))
        } else {
            let decided = heal + decide + workload::VERSIONS_MAX * HEAD_MS;
            (decided, decided)
        };
        if self.options.suite.certifies() {
            self.queue.push(decided, Happening::Deadline(Deadline::Decided));
        }
        self.queue.push(end, Happening::End);
    }

    /// Runs until the end or the first violation.
    pub(crate) fn run(&mut self) {
        while self.violation.is_none() && !self.over {
            let Some((at, happening)) = self.queue.pop() else { break };
            self.now = at;
            if self.trace.events > EVENTS_MAX {
                self.violate("rig", format!("more than {EVENTS_MAX} inputs: the cores talk without end"));
                break;
            }
            self.happen(happening);
        }
    }

    /// Records a violation; the first one counts.
    pub(crate) fn violate(&mut self, invariant: &'static str, message: String) {
        #[cfg(planted)]
        if !crate::plants::hears(invariant) {
            return;
        }
        self.violation.get_or_insert(Violation { invariant, message });
    }

    /// Whether a node still is in the start for which something was scheduled.
    fn is_current(&self, node: usize, boot: u64) -> bool {
        self.hosts[node].is_up() && self.hosts[node].boot == boot
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deliver(parcel) => self.deliver(parcel),
            Happening::Changed((from, to, bytes)) => self.deliver_changed(from, to, &bytes),
            Happening::Replay(parcel) => self.replay(&parcel, false),
            Happening::Collect { node, boot } if self.is_current(node, boot) => self.collect(node),
            #[cfg(planted)]
            Happening::Ack { node, boot, id } if self.is_current(node, boot) => self.step(node, Input::Persisted(id)),
            #[cfg(planted)]
            Happening::Ack { .. } => {}
            Happening::Timer { node, boot, timer } if self.is_current(node, boot) => {
                self.step(node, Input::Timer(timer));
            }
            Happening::VotesOnDisk { node, boot } if self.is_current(node, boot) => self.votes_on_disk(node),
            Happening::GroupsOnDisk { node, boot } if self.is_current(node, boot) => self.groups_on_disk(node),
            Happening::Stage { node, boot, tx, attempt } if self.is_current(node, boot) => {
                self.staging_moves(node, tx, attempt);
            }
            Happening::Hashed { node, boot, look } if self.is_current(node, boot) => self.hashed(node, &look),
            Happening::Notice { node, boot, peer } if self.is_current(node, boot) => self.notice(node, peer),
            Happening::AskAll { node, boot } if self.is_current(node, boot) => self.ask_all(node),
            Happening::Asked { request, seq } => self.asked(request, seq),
            Happening::Answered { request, page } if self.is_current(request.from, request.boot) => {
                self.answered(request, page);
            }
            Happening::DriverOnDisk { node, boot } if self.is_current(node, boot) => self.driver_on_disk(node),
            Happening::PublishVersion { node, boot, group_id } if self.is_current(node, boot) => {
                self.publish_version(node, &group_id);
            }
            Happening::DriverOnDisk { .. }
            | Happening::PublishVersion { .. }
            | Happening::AskAll { .. }
            | Happening::Answered { .. }
            | Happening::Timer { .. }
            | Happening::VotesOnDisk { .. }
            | Happening::GroupsOnDisk { .. }
            | Happening::Stage { .. }
            | Happening::Hashed { .. }
            | Happening::Collect { .. }
            | Happening::Notice { .. } => {}
            Happening::Admit { node, who } => self.admit(node, who),
            Happening::Fault(fault) => self.fault(fault),
            Happening::Restart { node } if !self.hosts[node].is_up() && !self.hosts[node].lost => {
                self.counts.fault(Broken::Restart);
                self.boot(node);
            }
            Happening::Restart { .. } => {}
            Happening::Work { index, node } => self.work(index, node),
            Happening::Grant { index } => self.grant(index),
            Happening::Delete { index } => self.delete(index),
            Happening::AskVersion { index } => self.ask_version(index),
            Happening::AskRival { index, node } => self.ask_rival(index, node),
            Happening::AskVerified { index } => self.ask_verified(index),
            Happening::Head { index, version, node } => self.head((index, version), node),
            Happening::Operators(next) => self.operators(next),
            Happening::Heal => self.heal(),
            Happening::Deadline(deadline) => {
                self.trace.note(self.now, format_args!("deadline {deadline:?}"));
                self.see(&Seen::Deadline(deadline));
                if deadline == Deadline::Durable {
                    self.certify_again();
                }
            }
            Happening::End => self.over = true,
        }
    }

    /// Shows something to the checkers.
    pub(crate) fn see(&mut self, seen: &Seen<'_>) {
        let view = View { now: self.now, cast: &self.cast, hosts: &self.hosts, works: &self.works, files: &self.files };
        self.watch.see(seen, &view, &mut self.counts);
        let mut broken = Vec::new();
        for checker in &mut self.checkers {
            if let Err(message) = checker.see(seen, &view) {
                broken.push((checker.invariant(), message));
            }
        }
        broken.into_iter().for_each(|(invariant, message)| self.violate(invariant, message));
    }

    /// Hands an input to a node that is up and carries out what it says.
    pub(crate) fn step(&mut self, node: usize, input: Input) {
        if self.violation.is_some() || !self.hosts[node].is_up() {
            return;
        }
        self.see(&Seen::Given { node, input: &input });
        let now = self.hosts[node].clock.read(self.now);
        let Some(machine) = self.hosts[node].machine.as_mut() else { return };
        self.trace.input((self.now, node), &input, &self.cast);
        let mut outputs = Vec::new();
        machine.handle(now, input, &mut outputs);
        if let Some(liar) = self.liar.as_mut().filter(|_| self.cast.liar == Some(node)) {
            for _ in 0..liar.twist(&self.cast.network, &mut outputs) {
                self.counts.fault(Broken::Lied);
            }
        }
        let dies = self.dies_between(node, &mut outputs);
        for output in outputs {
            self.trace.output((self.now, node), &output, &self.cast);
            self.carry_out(node, output);
        }
        match dies {
            None => self.see(&Seen::Handled(node)),
            Some(down_ms) => self.crash(node, down_ms),
        }
    }

    /// A node that is to die between two messages does so where it has several: what comes after the drawn place is never done.
    fn dies_between(&mut self, node: usize, outputs: &mut Vec<Output>) -> Option<u64> {
        let sends = |output: &Output| matches!(output, Output::Send { .. });
        let places: Vec<usize> = (0..outputs.len()).filter(|place| outputs.get(*place).is_some_and(sends)).collect();
        let (first, last) = (places.first().copied()?, places.last().copied()?);
        if first == last {
            return None;
        }
        let down_ms = self.hosts[node].doomed_sending.take()?;
        outputs.truncate(self.rng.random_range(first + 1..=last));
        Some(down_ms)
    }

    fn carry_out(&mut self, node: usize, output: Output) {
        let boot = self.hosts[node].boot;
        match output {
            Output::Send { to, message } => self.send(node, to, &message),
            Output::PersistVotes { id, records } => {
                let delay = self.fsync(node);
                let at = self.hosts[node].votes.write((id, records), self.now, delay);
                self.queue.push(at, Happening::VotesOnDisk { node, boot });
                self.written(node, id);
                if self.write_fails(node) {
                    self.hosts[node].votes.fail();
                }
            }
            Output::PersistGroups { id, records } => {
                self.see(&Seen::Writing { node, records: &records });
                let delay = self.fsync(node);
                let at = self.hosts[node].groups.write((id, records), self.now, delay);
                self.queue.push(at, Happening::GroupsOnDisk { node, boot });
                self.written(node, id);
                if self.write_fails(node) {
                    self.hosts[node].groups.fail();
                }
            }
            Output::SetTimer { timer, at } => {
                self.see(&Seen::Armed { node, timer: &timer, at });
                let late = self.rng.random_range(0..=5);
                let at = self.hosts[node].clock.true_time(at).max(self.now).saturating_add(late);
                self.queue.push(at, Happening::Timer { node, boot, timer });
            }
            Output::Stage { tx, attempt, prepare, states } => self.stage(node, (tx, attempt), *prepare, states),
            Output::CancelStage { tx } => {
                self.hosts[node].jobs.remove(&tx);
            }
            Output::Hash { manifest, sources } => self.hash(node, &manifest, sources),
            Output::Event(node::io::Event::Replication(replication::io::Event::Durable { .. }))
                if mynet_types::planted!(DurableUnheard) => {}
            Output::Event(event) => {
                if let Event::Consensus(ConsensusEvent::Certified(file)) = &event
                    && file.certificate.statement.verdict == Verdict::Accept
                {
                    self.files.entry(file.certificate.statement.value).or_insert_with(|| (**file).clone());
                }
                self.see(&Seen::Told { node, event: &event });
                self.heard(node, event);
            }
        }
    }

    /// What a driver makes of what its cores announce.
    fn heard(&mut self, node: usize, event: Event) {
        match event {
            Event::Consensus(ConsensusEvent::Certified(file)) => self.certified_here(node, &file),
            Event::Consensus(ConsensusEvent::RecoveryOffered(offer)) => self.recovery_offered(node, offer),
            Event::Consensus(ConsensusEvent::HeadBlocked { group_id, manifest_hash, certified: true, .. }) => {
                self.blocked_here(node, group_id, manifest_hash);
            }
            _ => {}
        }
    }

    /// A disk that lies says at once that a batch is written.
    #[cfg(planted)]
    fn written(&mut self, node: usize, id: PersistId) {
        if mynet_types::planted!(AckBeforeWrite) {
            self.queue.push(self.now, Happening::Ack { node, boot: self.hosts[node].boot, id });
        }
    }

    /// An honest disk says nothing before a batch is written.
    #[cfg(not(planted))]
    #[expect(clippy::unused_self, reason = "the disk that lies needs it")]
    fn written(&mut self, _node: usize, _id: PersistId) {}

    /// Whether the batch just handed to a disk cannot be written; its node stops then, as the driver does.
    pub(crate) fn write_fails(&mut self, node: usize) -> bool {
        let fails = !self.healed && self.rng.random_ratio(self.options.disk.write_failure_per_myriad, 10_000);
        if fails {
            self.counts.fault(Broken::WriteFailed);
            let down_ms = self.rng.random_range(1..=30_000);
            self.queue.push(self.now, Happening::Fault(Fault::Crash { node, down_ms }));
        }
        fails
    }

    /// How long one batch of a node takes to be on disk; a doomed node dies meanwhile.
    pub(crate) fn fsync(&mut self, node: usize) -> u64 {
        let disk = &self.options.disk;
        let delay = if !self.healed && self.rng.random_ratio(disk.stall_permille, 1000) {
            self.counts.fault(Broken::SlowDisk);
            self.rng.random_range(1_000..=10_000)
        } else {
            self.rng.random_range(0..=disk.persist_ms)
        };
        if let Some(down_ms) = self.hosts[node].doomed.take() {
            let at = self.now + self.rng.random_range(0..=delay);
            self.queue.push(at, Happening::Fault(Fault::Crash { node, down_ms }));
        }
        delay
    }

    fn votes_on_disk(&mut self, node: usize) {
        match self.hosts[node].votes.complete() {
            Ok(Some((id, records))) => {
                self.see(&Seen::VotesOnDisk { node, records: &records });
                if !self.link_is_lost(node) {
                    self.step(node, Input::Persisted(id));
                }
            }
            Ok(None) => {}
            Err(error) => self.violate("store", format!("n{node}: {error}")),
        }
    }

    fn groups_on_disk(&mut self, node: usize) {
        match self.hosts[node].groups.complete() {
            Ok(Some((id, records))) => {
                self.see(&Seen::GroupsOnDisk { node, records: &records });
                self.collect_later(node);
                self.step(node, Input::Persisted(id));
            }
            Ok(None) => {}
            Err(error) => self.violate("store", format!("n{node}: {error}")),
        }
    }
}
