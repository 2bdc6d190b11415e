//! Too many seats are lost, and operators recover the roster with two of the three offline keys.
//!
//! ```text
//! disaster --(faults end)--> Ask: every node that shall sit offers --> Propose: file, two keys, submitted --> Look: taken?
//!                             ^------------------------------- no: offered and signed anew ----------------------/
//! ```
//!
//! The operators do by files what `roster recover` does, with the same functions. They recover only what is lost, where no quorum
//! of the newest roster has keys. Before they hand in what they signed, members try it with less.
//!
//! A machine that was given up may turn up again, also one with a link by votes that nobody else ever saw: the recovery holds.
//!
//! Absent on purpose: operators that recover while the roster could go on by itself, and recoveries while faults last.

use std::collections::{BTreeMap, BTreeSet};

use ed25519_dalek::SigningKey;
use mynet_proto::node::io::Input;
use mynet_types::{
    BoundedVec, CertificateFile, ConsensusMessage, Domain, ManifestHash, Message, OfferFile, RecoveryFile, Roles,
    Roster, RosterChain, RosterHash, RosterLink, SignedRecoveryOffer, SignerSet, Timestamp, Verdict, codec,
    recovery::ProposeError, signing, vote::is_head,
};
use rand::{RngExt, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use crate::{
    observe::Seen,
    options::{Disaster, Options},
    sometimes::{Fault as Broken, Rare},
    world::{Happening, World},
};

/// How long after the end of faults operators look whether they have to recover the roster, at most.
const LOOK_MS_MAX: u64 = 30_000;
/// Time for an offer to be on disk.
const OFFER_MS: u64 = 5_000;
/// Time for a recovery to be on disk where it is handed in.
const SUBMIT_MS: u64 = 5_000;
/// Tries of the operators; each has the newest chain as its base.
const TRIES_MAX: usize = 6;
/// Machines that were given up come back within this, if they do.
const RETURN_MS_MAX: u64 = 30_000;
/// Time that a recovery and the growth after it take at most.
pub(crate) const RECOVERY_MS: u64 = 240_000;

/// What the operators do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operators {
    /// Have nodes offer.
    Ask,
    /// Propose, sign and submit.
    Propose,
    /// Look whether it was taken.
    Look,
    /// Machines that were given up are switched on.
    Return,
}

/// What the operators know, and what draws what they do.
#[derive(Debug)]
pub(crate) struct Recovery {
    rng: ChaCha8Rng,
    /// Something was lost that the roster may not do without.
    pub(crate) disaster: bool,
    /// Disaster strikes as soon as somebody has the only copy of a link.
    waits_for_link: bool,
    offers: BTreeMap<usize, OfferFile>,
    tries: usize,
    submitted: Option<RosterHash>,
}

impl Recovery {
    /// Nothing was lost yet.
    pub(crate) fn new(options: &Options) -> Self {
        let rng = crate::options::generator(options.suite, options.seed, "recovery");
        Self { rng, disaster: false, waits_for_link: false, offers: BTreeMap::new(), tries: 0, submitted: None }
    }
}

impl World {
    /// Seats are lost, so many that those which stay are no quorum.
    pub(crate) fn strike(&mut self, disaster: Disaster) {
        self.recovery.waits_for_link = disaster == Disaster::Link;
        if disaster != Disaster::Link {
            let newest = self.newest_roster();
            self.lose(disaster, &newest, None);
        }
    }

    /// A batch is on the disk of a node. If disaster waits for it, whoever has the only copy of a new link is lost before it tells
    /// anybody, and others with it. `true`: so it was.
    pub(crate) fn link_is_lost(&mut self, node: usize) -> bool {
        let epoch = self.hosts[node].votes.store.epoch();
        let mut others = (0..self.hosts.len()).filter(|other| *other != node);
        let alone = others.all(|other| self.hosts[other].votes.store.epoch() < epoch);
        if !self.recovery.waits_for_link || self.healed || !alone {
            return false;
        }
        let before =
            epoch.checked_sub(2).and_then(|at| self.hosts[node].votes.store.links().get(usize::try_from(at).ok()?));
        let before = before.map_or_else(|| self.cast.genesis.first_roster(), |link| link.roster.clone());
        let lost = self.lose(Disaster::Link, &before, Some(node));
        self.recovery.waits_for_link &= !lost;
        lost
    }

    fn lose(&mut self, disaster: Disaster, roster: &Roster, first: Option<usize>) -> bool {
        let Some(lost) = self.draw_lost(roster, first) else { return false };
        self.trace.note(self.now, format_args!("disaster, {disaster:?}: {lost:?} are lost"));
        self.recovery.disaster = true;
        for node in lost {
            let down_ms = self.recovery.rng.random_range(1..=20_000);
            self.crash(node, down_ms);
            match disaster {
                Disaster::Machines | Disaster::Link => {
                    self.counts.fault(Broken::MachineLost);
                    self.hosts[node].lost = true;
                }
                Disaster::Stores => {
                    let host = &self.hosts[node];
                    let old = match self.recovery.rng.random_range(0..3) {
                        0 => None,
                        1 if !self.options.suite.replicates() => Some(host.votes.store.clone()),
                        _ => Some(host.votes_backup.clone()),
                    };
                    self.lose_votes(node, old);
                }
            }
        }
        true
    }

    /// Seats of a roster, `first` among them, so many that those which stay are no quorum; none where nobody would be left who
    /// could offer, or nobody who knows that roster and its close set.
    fn draw_lost(&mut self, roster: &Roster, first: Option<usize>) -> Option<Vec<usize>> {
        let mut seats: Vec<usize> = roster.nodes().filter_map(|node| self.cast.index_of(&node)).collect();
        let stay = self.quorum_of(roster) - 1;
        seats.shuffle(&mut self.recovery.rng);
        seats.sort_by_key(|node| first == Some(*node));
        let mut lost = seats.split_off(stay.min(seats.len()));
        // Whoever joins with the link may have the only copy.
        lost.extend(first.filter(|first| !lost.contains(first)));
        let knows = |node: &usize| {
            let store = &self.hosts[*node].votes.store;
            store.epoch() == roster.epoch && store.carried() == close_count(roster)
        };
        let sits = (0..self.hosts.len()).any(|node| self.may_sit(node) && !lost.contains(&node));
        let heirs = if roster.epoch == 0 { sits } else { seats.iter().any(knows) };
        heirs.then_some(lost)
    }

    /// The newest roster on the disk of any machine that there is.
    fn newest_roster(&self) -> Roster {
        let there = self.hosts.iter().filter(|host| !host.lost);
        let links = there.map(|host| host.votes.store.links()).max_by_key(|links| links.len());
        let newest = links.and_then(|links| links.last()).map(|link| link.roster.clone());
        newest.unwrap_or_else(|| self.cast.genesis.first_roster())
    }

    fn quorum_of(&self, roster: &Roster) -> usize {
        let seats = roster.validators.len();
        self.cast.genesis.quorum(seats).map_or(seats, |quorum| quorum.accept())
    }

    /// Whether a node may have a seat.
    fn may_sit(&self, node: usize) -> bool {
        let wanted = self.cast.players[node].admission.body.roles.contains(Roles::VALIDATOR);
        wanted && self.hosts[node].joined && !self.hosts[node].lost
    }

    /// Whether too few seats of the newest roster have keys to go on.
    fn is_lost(&self) -> bool {
        let newest = self.newest_roster();
        let seats = newest.nodes().filter_map(|node| self.cast.index_of(&node));
        let votes = seats.filter(|node| {
            let store = &self.hosts[*node].votes.store;
            self.hosts[*node].is_up() && store.has_key_in(&newest)
        });
        votes.count() < self.quorum_of(&newest)
    }

    /// Faults ended: the operators will look after what was lost.
    pub(crate) fn call_operators(&mut self) {
        if self.recovery.disaster {
            let at = self.now + self.recovery.rng.random_range(0..=LOOK_MS_MAX);
            self.queue.push(at, Happening::Operators(Operators::Ask));
        }
    }

    /// The operators do something.
    pub(crate) fn operators(&mut self, next: Operators) {
        match next {
            Operators::Ask => self.ask_for_offers(),
            Operators::Propose => self.propose_recovery(),
            Operators::Look => self.look_after_recovery(),
            Operators::Return => self.machines_return(),
        }
    }

    fn ask_for_offers(&mut self) {
        if !self.is_lost() {
            return self.machines_may_return();
        }
        self.recovery.tries += 1;
        if self.recovery.tries > TRIES_MAX {
            return;
        }
        self.recovery.offers.clear();
        for node in self.who_shall_sit() {
            self.step(node, Input::OfferRecovery);
        }
        self.queue.push(self.now + OFFER_MS, Happening::Operators(Operators::Propose));
    }

    /// The old seats that there are, and others up to the seats that rosters grow to; now and then only the old ones, and growth
    /// has to do the rest.
    fn who_shall_sit(&mut self) -> Vec<usize> {
        let newest = self.newest_roster();
        let had = |node: &usize| newest.seat_of(&self.hosts[*node].id).is_some();
        let all = (0..self.hosts.len()).filter(|node| self.may_sit(*node) && self.hosts[*node].is_up());
        let (old, fresh): (Vec<usize>, Vec<usize>) = all.partition(had);
        let room = self.options.automatic.saturating_sub(old.len());
        let joining = if !old.is_empty() && self.recovery.rng.random_ratio(1, 4) { 0 } else { room };
        old.into_iter().chain(fresh.into_iter().take(joining)).collect()
    }

    /// A node offers.
    pub(crate) fn recovery_offered(&mut self, node: usize, offer: Option<Box<SignedRecoveryOffer>>) {
        let Some(offer) = offer.map(|offer| *offer) else { return };
        let links = self.hosts[node].votes.store.links().iter();
        let chain = links.filter(|link| link.roster.epoch < offer.body.key.epoch).cloned();
        let chain = RosterChain { links: BoundedVec::truncated(chain) };
        let file = OfferFile { genesis: self.cast.genesis.clone(), chain, offer };
        // It is a file for a while.
        match OfferFile::decode(&file.encode()) {
            Ok(file) => drop(self.recovery.offers.insert(node, file)),
            Err(error) => self.violate("codec", format!("n{node} offers what does not decode: {error}")),
        }
    }

    fn propose_recovery(&mut self) {
        let offers: Vec<OfferFile> = self.recovery.offers.values().cloned().collect();
        match self.proposal(&offers) {
            Ok((file, complete, shown)) => self.sign_and_submit(file, complete, &shown),
            Err(error) => {
                self.trace.note(self.now, format_args!("no recovery: {error}"));
                self.queue.push(self.now + OFFER_MS, Happening::Operators(Operators::Ask));
            }
        }
    }

    /// The proposal, whether it is sure that no final version is missing, and what is final by the certificates beside it.
    fn proposal(&self, offers: &[OfferFile]) -> Result<(RecoveryFile, bool, BTreeSet<ManifestHash>), ProposeError> {
        let wall = Timestamp(crate::clock::EPOCH_MS + self.now);
        let (file, coverage) = RecoveryFile::propose(offers, &[], wall)?;
        if coverage.is_complete() {
            return Ok((file, true, BTreeSet::new()));
        }
        let there = |value: &ManifestHash| {
            let has = |node: &usize| !self.hosts[*node].lost && self.watch.is_certified(*node, value);
            (0..self.hosts.len()).any(|node| has(&node))
        };
        let known = |file: &&CertificateFile| {
            let statement = &file.certificate.statement;
            let head = is_head(file.manifest.body.version) && statement.verdict == Verdict::Accept;
            head && there(&statement.value)
        };
        let certificates: Vec<CertificateFile> = self.files.values().filter(known).cloned().collect();
        let shown = certificates.iter().map(|file| file.certificate.statement.value).collect();
        let (file, _) = RecoveryFile::propose(offers, &certificates, wall)?;
        Ok((file, false, shown))
    }

    /// Two of three keys sign, each by itself and in any order; meanwhile somebody tries with less.
    fn sign_and_submit(&mut self, unsigned: RecoveryFile, complete: bool, shown: &BTreeSet<ManifestHash>) {
        let mut keys = [0, 1, 2];
        keys.shuffle(&mut self.recovery.rng);
        let mut file = unsigned.clone();
        for key in keys.into_iter().take(2) {
            let mut copy = unsigned.clone();
            let signed = copy.sign(&self.cast.recovery_keys[key]).map(drop).and_then(|()| file.combine(&copy));
            if let Err(error) = signed {
                return self.violate("rig", format!("a recovery that was proposed cannot be signed: {error}"));
            }
        }
        self.try_with_less(&file);
        let seats: Vec<usize> = file.roster.nodes().filter_map(|node| self.cast.index_of(&node)).collect();
        let at = seats[self.recovery.rng.random_range(0..seats.len())];
        self.trace.note(self.now, format_args!("a recovery to epoch {} at n{at}", file.roster.epoch));
        self.recovery.submitted = Some(file.roster.hash());
        if !complete {
            self.counts.met(Rare::RecoveryWithFewReports);
        }
        self.see(&Seen::Recovery { file: &file, complete, shown });
        let (link, heads) = (Box::new(file.link()), file.heads.to_vec());
        self.step(at, Input::Recover { link, heads });
        self.queue.push(self.now + SUBMIT_MS, Happening::Operators(Operators::Look));
    }

    /// Members hand in and pass on recoveries that are not: by one key, by one key in two places, by keys of their own, by two keys
    /// for another roster, or for another place in the chain.
    fn try_with_less(&mut self, good: &RecoveryFile) {
        let network = self.cast.network;
        let sign = |roster: &Roster, key: &SigningKey| signing::sign_as(Domain::Recovery, &network, roster, key);
        let keys: Vec<usize> = good.keys.seats().collect();
        let (one, other) = (keys[0], keys[1]);
        let [first, second] = [&self.cast.recovery_keys[one], &self.cast.recovery_keys[other]];
        let own =
            [SigningKey::from_bytes(&self.recovery.rng.random()), SigningKey::from_bytes(&self.recovery.rng.random())];
        let with = |roster: &Roster, keys: Vec<(usize, &SigningKey)>| {
            let signed = keys.into_iter().map(|(seat, key)| (seat, sign(roster, key)));
            RecoveryFile { keys: SignerSet::collect(signed), roster: roster.clone(), ..good.clone() }.link()
        };
        let mut changed = good.link();
        changed.roster.valid_from = Timestamp(changed.roster.valid_from.0 + 1);
        let elsewhere = Roster { epoch: good.roster.epoch + 1, ..good.roster.clone() };
        let less = [
            with(&good.roster, vec![(one, first)]),
            with(&good.roster, vec![(one, first), (other, first)]),
            with(&good.roster, vec![(one, &own[0]), (other, &own[1])]),
            changed,
            with(&elsewhere, vec![(one, first), (other, second)]),
        ];
        let link = less[self.recovery.rng.random_range(0..less.len())].clone();
        self.counts.fault(Broken::FalseRecovery);
        let up: Vec<usize> = (0..self.hosts.len()).filter(|node| self.hosts[*node].is_up()).collect();
        let at = up[self.recovery.rng.random_range(0..up.len())];
        self.step(at, Input::Recover { link: Box::new(link.clone()), heads: good.heads.to_vec() });
        for to in up.into_iter().filter(|to| *to != at) {
            self.pass_link(at, to, &link);
        }
    }

    fn pass_link(&mut self, from: usize, to: usize, link: &RosterLink) {
        let links = BoundedVec::truncated([link.clone()]);
        let message = Message::Consensus(ConsensusMessage::RosterLinks(links));
        let at = self.now + self.network.delay(&mut self.recovery.rng);
        self.queue.push(at, Happening::Deliver((from, to, codec::encode(&message))));
    }

    fn look_after_recovery(&mut self) {
        let follows = |link: &RosterLink| Some(link.roster.hash()) == self.recovery.submitted;
        if !self.hosts.iter().any(|host| host.votes.store.links().iter().any(follows)) {
            return self.operators(Operators::Ask);
        }
        self.counts.met(Rare::RosterRecovered);
        self.machines_may_return();
    }

    /// Half of the machines that were given up turn up again.
    fn machines_may_return(&mut self) {
        if self.hosts.iter().any(|host| host.lost) && self.recovery.rng.random() {
            let at = self.now + self.recovery.rng.random_range(0..=RETURN_MS_MAX);
            self.queue.push(at, Happening::Operators(Operators::Return));
        }
    }

    fn machines_return(&mut self) {
        for node in 0..self.hosts.len() {
            if self.hosts[node].lost {
                self.trace.note(self.now, format_args!("n{node} was not lost after all"));
                self.counts.met(Rare::LostMachineReturns);
                self.hosts[node].lost = false;
                self.hosts[node].clock.heal();
                self.boot(node);
            }
        }
        self.certify_again();
    }
}

fn close_count(roster: &Roster) -> usize {
    usize::try_from(roster.close_count).unwrap_or(usize::MAX)
}
