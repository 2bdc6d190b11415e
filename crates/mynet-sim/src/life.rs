//! Starts, deaths and work in the simulated world: what the driver, the operator and fate do to nodes.

use mynet_proto::{
    node::{Identity, Restored, io::Input},
    replication::{exchange::Exchange, io::Publication},
};
use mynet_types::{HeadProof, wire::Receipts};
use rand::RngExt;

use crate::{
    host::Host,
    machine,
    nemesis::Fault,
    observe::Seen,
    sometimes::{Fault as Broken, Rare},
    vote_store::VoteStore,
    watch,
    world::{Happening, World},
};

/// How long it takes at most until a broken connection is noticed; QUIC's idle timeout is of this order.
const NOTICE_MS_MAX: u64 = 8_000;
/// Work whose node is down is tried again after this.
const WORK_RETRY_MS: u64 = 1_000;

impl World {
    pub(crate) fn notice(&mut self, node: usize, peer: usize) {
        let reaches = self.hosts[peer].is_up() && self.network.is_open(node, peer);
        let knows = self.hosts[node].up.contains(&peer);
        let id = self.hosts[peer].id;
        if reaches && !knows {
            self.hosts[node].up.insert(peer);
            self.step(node, Input::PeerUp(id));
            self.hosts[node].exchange.ask([id]);
            self.ask_next(node);
        } else if !reaches && knows {
            self.hosts[node].up.remove(&peer);
            self.step(node, Input::PeerDown(id));
        }
    }

    /// Who reaches whom may have changed: every node will notice in its own time.
    fn reachability_changed(&mut self) {
        for node in 0..self.hosts.len() {
            for peer in 0..self.hosts.len() {
                if node != peer && self.hosts[node].is_up() {
                    let opens = self.hosts[peer].is_up() && self.network.is_open(node, peer);
                    let latest = if opens { 500 } else { NOTICE_MS_MAX };
                    let at = self.now + self.rng.random_range(1..=latest);
                    self.queue.push(at, Happening::Notice { node, boot: self.hosts[node].boot, peer });
                }
            }
        }
    }

    pub(crate) fn admit(&mut self, node: usize, who: usize) {
        if self.hosts[node].joined && self.hosts[node].admitted.insert(who) {
            let record = self.cast.players[who].admission.clone();
            self.step(node, Input::Admitted(Box::new(record)));
            if !self.options.suite.replicates() {
                // Receipts of holders that were not admitted yet did not count; the replication core would hand them in now.
                self.certify_uncertified(node);
            }
        }
    }

    pub(crate) fn fault(&mut self, fault: Fault) {
        if let Fault::Join { node } = fault {
            return self.join(node);
        }
        if self.healed {
            return;
        }
        match fault {
            Fault::Join { .. } => {}
            Fault::Crash { node, down_ms } => self.crash(node, down_ms),
            Fault::CrashOnWrite { node, down_ms } => self.hosts[node].doomed = Some(down_ms),
            Fault::CrashOnSend { node, down_ms } => self.hosts[node].doomed_sending = Some(down_ms),
            Fault::Cut { pairs, one_way } => {
                self.trace.note(self.now, format_args!("cut {pairs:?}"));
                self.counts.fault(if one_way { Broken::OneWayPartition } else { Broken::Partition });
                pairs.into_iter().for_each(|pair| self.network.set_cut(pair, true));
                self.reachability_changed();
            }
            Fault::Clog { pairs } => {
                self.trace.note(self.now, format_args!("clog {pairs:?}"));
                self.counts.fault(Broken::Clogged);
                pairs.into_iter().for_each(|pair| self.network.set_cut(pair, true));
                self.reachability_changed();
            }
            Fault::Mend { pairs } => {
                self.trace.note(self.now, format_args!("mend {pairs:?}"));
                pairs.into_iter().for_each(|pair| self.network.set_cut(pair, false));
                self.reachability_changed();
            }
            Fault::Strike(disaster) => self.strike(disaster),
            Fault::Jump { node, delta_ms } => {
                self.trace.note(self.now, format_args!("n{node}'s wall clock jumps by {delta_ms} ms"));
                self.counts.fault(Broken::WallJump);
                self.hosts[node].clock.jump(delta_ms);
            }
        }
    }

    /// A node joins: it hears of everybody, and everybody of it.
    fn join(&mut self, node: usize) {
        if self.hosts[node].joined {
            return;
        }
        self.trace.note(self.now, format_args!("n{node} joins"));
        self.hosts[node].joined = true;
        self.hosts[node].admitted.insert(node);
        for other in 0..self.hosts.len() {
            if other != node && self.hosts[other].joined {
                for (hears, who) in [(node, other), (other, node)] {
                    let at = self.now + if self.now == 0 { 0 } else { self.network.delay(&mut self.rng) };
                    self.queue.push(at, Happening::Admit { node: hears, who });
                }
            }
        }
        self.boot(node);
    }

    /// Starts a node from what is on its disks.
    pub(crate) fn boot(&mut self, node: usize) {
        let host = &mut self.hosts[node];
        if !host.joined || host.lost {
            return;
        }
        host.boot += 1;
        host.clock.restart(self.now);
        host.votes_backup = host.votes.store.clone();
        let mut replication = host.groups.store.open();
        let open = replication.publications.iter().map(|(publication, ..)| publication.manifest.body.hash());
        replication.rejected = open.filter(|value| self.watch.is_rejected(node, value)).collect();
        let restored = Restored { consensus: host.votes.store.restored(), replication };
        host.votes.store.opened();
        let identity = Identity { node_key: self.cast.players[node].key.clone(), genesis: self.cast.genesis.clone() };
        let seed = self.rng.random();
        self.trace.note(self.now, format_args!("n{node} starts, boot {}", host.boot));
        match machine::boot(&self.options, identity, restored, seed) {
            Ok(machine) => host.machine = Some(machine),
            Err(error) => return self.violate("store", format!("n{node} cannot start from its disk: {error}")),
        }
        let (admitted, waiting) = (host.admitted.clone(), host.groups.store.waiting().cloned().collect::<Vec<_>>());
        for who in admitted {
            let record = self.cast.players[who].admission.clone();
            self.step(node, Input::Admitted(Box::new(record)));
        }
        self.step(node, Input::Start);
        for publication in waiting {
            self.step(node, Input::Publish(Box::new(publication)));
        }
        self.certify_uncertified(node);
        self.resume_successions(node);
        self.asks_again(node);
        self.reachability_changed();
    }

    pub(crate) fn crash(&mut self, node: usize, down_ms: u64) {
        if !self.hosts[node].is_up() {
            return;
        }
        self.trace.note(self.now, format_args!("n{node} dies for {down_ms} ms"));
        self.counts.fault(Broken::Crash);
        let host = &mut self.hosts[node];
        host.machine = None;
        (host.doomed, host.doomed_sending) = (None, None);
        host.jobs.clear();
        host.up.clear();
        host.exchange = Exchange::default();
        let (votes, groups) = (host.votes.crash(&mut self.rng), host.groups.crash(&mut self.rng));
        if votes.lost.len() + groups.lost.len() > 0 {
            self.counts.fault(Broken::BatchesLost);
        }
        watch::count_crash_inside(&groups, &mut self.counts);
        for records in &votes.kept {
            self.counts.met(Rare::OnDiskButNotTold);
            match self.hosts[node].votes.keep(records) {
                Ok(()) => self.see(&Seen::VotesOnDisk { node, records }),
                Err(error) => self.violate("store", format!("n{node}: {error}")),
            }
        }
        for records in &groups.kept {
            self.counts.met(Rare::OnDiskButNotTold);
            match self.hosts[node].groups.keep(records) {
                Ok(()) => self.see(&Seen::GroupsOnDisk { node, records }),
                Err(error) => self.violate("store", format!("n{node}: {error}")),
            }
        }
        self.crash_driver(node);
        let lost = self.hosts[node].groups.store.crash(&mut self.rng);
        (0..lost).for_each(|_| self.counts.fault(Broken::FileLost));
        self.past.retain(|(_, to, _)| *to != node);
        self.see(&Seen::Crashed(node));
        self.maybe_lose_votes(node);
        self.queue.push(self.now + down_ms, Happening::Restart { node });
        self.reachability_changed();
    }

    /// One vote store per run may be lost, or replaced by an old copy, once the roster can do without one validator. Three
    /// others must have its link on disk: with the only copy of it the network would be one of three, which cannot.
    fn maybe_lose_votes(&mut self, node: usize) {
        let can_do_without = |(other, host): &(usize, &Host)| {
            let newest = host.votes.store.links().last();
            *other != node && newest.is_some_and(|link| link.roster.validators.len() >= 4)
        };
        let others = self.hosts.iter().enumerate().filter(can_do_without).count();
        if self.options.faults.votes_lost && !self.votes_lost && others >= 3 {
            self.votes_lost = true;
            let host = &self.hosts[node];
            let old = match self.rng.random_range(0..4) {
                0 | 1 => None,
                // A copy that happens to be the newest one; nobody can know that.
                2 if !self.options.suite.replicates() => Some(host.votes.store.clone()),
                _ => Some(host.votes_backup.clone()),
            };
            self.lose_votes(node, old);
        }
    }

    /// The vote store of a node that is down is lost, or `old` put in its place.
    pub(crate) fn lose_votes(&mut self, node: usize, old: Option<VoteStore>) {
        self.trace.note(self.now, format_args!("n{node} loses its vote store"));
        self.see(&Seen::VotesLost(node));
        self.counts.fault(Broken::VotesLost);
        self.hosts[node].votes.store.lose(old);
    }

    /// Faults end; everybody joins and starts.
    pub(crate) fn heal(&mut self) {
        self.trace.note(self.now, "faults end");
        self.healed = true;
        self.healed_at = Some(self.now);
        self.network.heal();
        for node in 0..self.hosts.len() {
            let host = &mut self.hosts[node];
            host.clock.heal();
            (host.doomed, host.doomed_sending) = (None, None);
            if host.votes.has_failed() || host.groups.has_failed() {
                // Its death stands for this very moment.
                self.crash(node, 0);
            }
            self.join(node);
            if !self.hosts[node].is_up() && !self.hosts[node].lost {
                self.counts.fault(Broken::Restart);
                self.boot(node);
            }
        }
        self.reachability_changed();
        self.call_operators();
        self.see(&Seen::Healed);
        self.delete_again();
        self.certify_again();
    }

    /// Work is asked of a node, as soon as it is up.
    pub(crate) fn work(&mut self, index: usize, node: usize) {
        if !self.hosts[node].is_up() {
            return self.queue.push(self.now + WORK_RETRY_MS, Happening::Work { index, node });
        }
        let work = &mut self.works[index];
        work.taken = true;
        let publication = work.publication.clone();
        if self.options.suite.replicates() {
            self.hosts[node].groups.store.ingest(&publication);
            self.step(node, Input::Publish(Box::new(publication)));
        } else {
            let (receipts, claim) = (work.receipts.clone(), work.claim);
            self.step(node, Input::Certify { manifest: Box::new(publication.manifest), receipts, claim });
        }
    }

    /// A later version is asked of a node, once the version below it is certified somewhere and the node is up.
    pub(crate) fn head(&mut self, (index, version): (usize, usize), node: usize) {
        let Some(head) = self.works[index].heads.get_mut(version) else { return };
        let certified = head.manifest.body.prev.is_some_and(|below| self.files.contains_key(&below));
        if !certified || !self.hosts[node].is_up() {
            return self.queue.push(self.now + WORK_RETRY_MS, Happening::Head { index, version, node });
        }
        head.taken.push(node);
        self.certify_head((index, version), node);
    }

    fn certify_head(&mut self, (index, version): (usize, usize), node: usize) {
        let Some(head) = self.works[index].heads.get(version) else { return };
        let below = head.manifest.body.prev.and_then(|below| self.files.get(&below));
        let Some(previous) = below.map(|file| Box::new(HeadProof::of(file))) else { return };
        let (manifest, claim) = (Box::new(head.manifest_for(node).clone()), head.claim);
        let receipts = head.receipts.clone();
        self.step(node, Input::CertifyHead { manifest, previous, receipts, claim });
    }

    /// Later versions that a node took and that are not certified there are proposed again, like everything else.
    fn certify_uncertified_heads(&mut self, node: usize) {
        for index in 0..self.works.len() {
            for version in 0..self.works[index].heads.len() {
                let head = &self.works[index].heads[version];
                let value = head.manifest_for(node).body.hash();
                if head.taken.contains(&node) && !self.watch.is_certified(node, &value) {
                    self.certify_head((index, version), node);
                }
            }
        }
    }

    pub(crate) fn grant(&mut self, index: usize) {
        let work = &self.works[index];
        let Some((_, wraps)) = &work.granted_later else { return };
        if work.deleted {
            return;
        }
        if !work.taken || !self.hosts[work.node].is_up() {
            return self.queue.push(self.now + WORK_RETRY_MS, Happening::Grant { index });
        }
        let (node, group_id, wraps) = (work.node, work.publication.manifest.body.group_id, wraps.clone());
        if self.hosts[node].groups.store.has_ended(&group_id) {
            // Nobody coordinates it any more: its holders are reached by publishing it again.
            let Some(seen) = self.hosts[node].groups.store.publication(&group_id) else { return };
            if self.watch.is_rejected(node, &seen.manifest.body.hash()) {
                return;
            }
            self.step(node, Input::Publish(Box::new(Publication { wraps, ..seen })));
        } else {
            self.step(node, Input::Wraps { group_id, wraps });
        }
    }

    /// A group is deleted where it was uploaded, as soon as that node is up and has it.
    pub(crate) fn delete(&mut self, index: usize) {
        let work = &mut self.works[index];
        if !(work.taken || work.deleted) || !self.hosts[work.node].is_up() {
            return self.queue.push(self.now + WORK_RETRY_MS, Happening::Delete { index });
        }
        (work.taken, work.deleted) = (false, true);
        let (node, manifest) = (work.node, &work.publication.manifest.body);
        let wall = self.hosts[node].clock.read(self.now).wall;
        let tombstone = self.cast.tombstone(manifest, wall);
        let holders = self.hosts[node].groups.store.ever_held(&manifest.group_id).into_iter().collect();
        self.step(node, Input::Delete { tombstone: Box::new(tombstone), holders });
    }

    /// What died with its node before it was on disk is deleted again, as its owner would.
    fn delete_again(&mut self) {
        for index in 0..self.works.len() {
            if self.works[index].deleted {
                self.delete(index);
            }
        }
    }

    /// Every value that is durable and has no certificate at its node is proposed again, as an operator would.
    pub(crate) fn certify_again(&mut self) {
        for node in 0..self.hosts.len() {
            self.certify_uncertified(node);
        }
    }

    /// What the driver does at start: durable groups of its own without a certificate are proposed again.
    fn certify_uncertified(&mut self, node: usize) {
        if !self.options.suite.certifies() || !self.hosts[node].is_up() {
            return;
        }
        for index in 0..self.works.len() {
            let work = &self.works[index];
            let asked = work.node == node || (work.rival == Some(node) && !self.options.suite.replicates());
            let manifest = work.publication.manifest.clone();
            if !asked || !work.taken || self.watch.is_certified(node, &manifest.body.hash()) {
                continue;
            }
            let receipts = if self.options.suite.replicates() {
                let known = self.hosts[node].groups.store.receipts(&manifest.body.hash());
                Receipts::truncated(known.cloned())
            } else {
                work.receipts.clone()
            };
            let durable = receipts.len() >= usize::from(manifest.body.quorum);
            if durable || !self.options.suite.replicates() {
                let claim = work.claim;
                self.step(node, Input::Certify { manifest: Box::new(manifest), receipts, claim });
            }
        }
        self.certify_uncertified_heads(node);
        self.verify_again(node);
    }
}
