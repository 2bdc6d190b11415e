//! The end of an epoch: which heads go into the next one.
//!
//! ```text
//!  proposer of the next roster           old seats
//!     |-- CloseRequest ------------------->|        (all keys are offered: everybody is ready)
//!     |<------------------- CloseReport ---|        (closed on disk: no head of this epoch is signed any more)
//!     |-- AckedAfter --------------------->|        (only if the report counts any, page by page)
//!     |<------------------------- Acked ---|
//!     |   close set = what was carried, and what a quorum reports
//!     |-- RosterPropose (with reports) --->|        (goes on as in `growth`; whoever lacks a list asks for it)
//! ```
//!
//! 1. (C6) A close set is what the epoch carried, and for each group the highest version in the reports of a quorum of its
//!    seats; below three seats, of all. A final head was acked by a quorum, so one honest seat is in both.
//! 2. A report is signed with the vote key of the epoch, after the epoch was closed on disk, and covers everything that was
//!    acked before. Repeated, it is the same.
//! 3. An old seat signs a roster only if it made the same set out of the same reports, each head proven by its quorum; and its
//!    own report, if it is among them, says what it acked. The set is on disk with the lock, and so are the lists behind it:
//!    whoever is locked can prove the set to others over restarts, also if the seats that reported the lists have lost them.
//! 4. A seat that comes without the set of its epoch asks other seats for it, and believes only the root in the roster.
//!
//! An epoch that is closed signs no heads until the next one begins, so a next roster that does not come about stops heads;
//! attestations go on. Therefore a closed epoch is a reason for fresh keys, which need no newcomer.
//!
//! **Deliberately absent:** opening an epoch again.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
};

use mynet_types::{
    AckedHead, BoundedVec, CarriedHead, CloseReport, CloseStatement, ConsensusMessage, GroupId, NodeId, Roster,
    head::{ACKED_PER_PAGE_MAX, CARRIED_PER_PAGE_MAX, HeadSet, set_root},
    roster::link_quorums,
    wire::CloseReports,
};

use super::{
    heads::is_set_of,
    io::{Record, RosterLock},
    shared::Shared,
    step::{Step, Then},
};

/// Names a list of acked heads.
type Root = [u8; 32];
/// Names a list as a report does: its root, and how many heads there are. Both, because a bad seat may put another number on
/// the root of an honest one.
type ListName = (Root, usize);
/// What one report counts.
type AckedSet = BTreeMap<GroupId, AckedHead>;

/// A list on its way here.
#[derive(Default)]
struct Pull {
    got: AckedSet,
    /// Who was asked last; only that node is listened to.
    from: Option<NodeId>,
    /// Asked so often; who is asked changes with it, because one of them may be gone.
    asked: usize,
}

/// A close set on its way here.
struct Fetch {
    from: NodeId,
    got: HeadSet,
    /// Whether something came since the last look.
    moved: bool,
}

/// Why a close set is not what it should be, or not known to be yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CloseDefect {
    #[error("the seats did not sign these reports, or too few of them")]
    Reports,
    #[error("what is behind a report is not here yet")]
    Waiting,
    #[error("two values of one version are proven: too many bad validators")]
    Contradiction,
    #[error("it leaves out what this node acked")]
    LeavesOut,
    #[error("its root is another one")]
    Root,
}

/// What this node knows about the end of the newest epoch.
#[derive(Default)]
pub(super) struct Closing {
    /// Whether the epoch is closed on disk.
    durable: bool,
    /// Who waits for the report of this node.
    waiting: BTreeSet<NodeId>,
    /// Reports by seat.
    reports: BTreeMap<u16, CloseReport>,
    /// What is behind reports, complete and proven.
    lists: BTreeMap<Root, AckedSet>,
    pulls: BTreeMap<ListName, Pull>,
    /// The last close set that was made here.
    next: Option<HeadSet>,
    fetch: Option<Fetch>,
}

impl Closing {
    /// Goes on after a restart; `locked` is what the roster locked carries besides what is carried already, `reported` what is
    /// behind its reports.
    pub(super) fn new(shared: &Shared, locked: Vec<CarriedHead>, reported: Vec<(Root, AckedHead)>) -> Self {
        let mut closing = Self { durable: shared.heads.closed().is_some(), ..Self::default() };
        for (root, head) in reported {
            closing.lists.entry(root).or_default().insert(head.group_id, head);
        }
        closing.lists.retain(|root, list| root_of(list) == *root);
        if closing.durable {
            closing.keep_own_list(shared);
        }
        if let Some(carried) = shared.heads.carried().filter(|_| !locked.is_empty()) {
            let mut next = carried.clone();
            next.extend(locked.into_iter().map(|head| (head.group_id, head)));
            closing.next = Some(next);
        }
        closing
    }

    /// Closes the epoch for `draft`, and tells `to` what was acked once that is on disk.
    pub(super) fn close(&mut self, shared: &mut Shared, step: &mut Step<'_>, (to, draft): (NodeId, RosterLock)) {
        self.waiting.insert(to);
        if shared.heads.closed() == Some(&draft) {
            if self.durable {
                self.tell_report(shared, step);
            }
            return;
        }
        if mynet_types::planted!(CloseUnwritten) {
            shared.heads.close(draft);
            return self.on_closed_durable(shared, step, shared.roster().epoch);
        }
        step.persist(Record::EpochClosed(draft.clone()));
        step.then(Then::Closed(shared.roster().epoch));
        shared.heads.close(draft);
    }

    /// Closes the epoch because a recovery is wanted, or says once more that it is closed.
    pub(super) fn close_for_recovery(&self, shared: &mut Shared, step: &mut Step<'_>, draft: RosterLock) {
        let draft = shared.heads.closed().cloned().unwrap_or(draft);
        step.persist(Record::EpochClosed(draft.clone()));
        step.then(Then::Closed(shared.roster().epoch));
        shared.heads.close(draft);
    }

    /// Takes the close set that comes with a recovery.
    pub(super) fn recover_with(&mut self, set: HeadSet) {
        self.next = Some(set);
    }

    /// The epoch is closed on disk.
    pub(super) fn on_closed_durable(&mut self, shared: &Shared, step: &mut Step<'_>, epoch: u64) {
        if epoch == shared.roster().epoch && shared.heads.closed().is_some() {
            self.durable = true;
            self.keep_own_list(shared);
            self.tell_report(shared, step);
        }
    }

    /// Nothing is acked any more, so the list stays as it is.
    fn keep_own_list(&mut self, shared: &Shared) {
        let acked = shared.heads.acked();
        self.lists.insert(root_of(acked), acked.clone());
    }

    fn tell_report(&mut self, shared: &Shared, step: &mut Step<'_>) {
        let Some(report) = own_report(shared) else { return };
        for to in std::mem::take(&mut self.waiting) {
            step.tell(to, ConsensusMessage::CloseReport(report.clone()));
        }
    }

    /// Asks the old seats that have not reported, and for lists that are not here.
    pub(super) fn collect(&mut self, shared: &Shared, step: &mut Step<'_>, request: &ConsensusMessage) {
        for (seat, node) in (0_u16..).zip(shared.roster().nodes()) {
            if !self.reports.contains_key(&seat) {
                step.tell(node, request.clone());
            }
        }
        let lacking = self.lacking(shared, self.reports.values(), None);
        self.want(step, lacking);
    }

    /// Takes the report of a seat; of two the first one stays. `false`: it proves nothing, or is no news.
    pub(super) fn take_report(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        from: NodeId,
        report: CloseReport,
    ) -> bool {
        let seat = report.statement.seat;
        let holds = shared.roster().validators.get(usize::from(seat)).is_some_and(|validator| validator.node == from);
        if !holds || self.reports.contains_key(&seat) || report.verify(&shared.network, shared.roster()).is_err() {
            return false;
        }
        if !self.has_list(&report) && !self.pulls.contains_key(&name_of(&report)) {
            self.want(step, BTreeMap::from([(name_of(&report), vec![from])]));
        }
        self.reports.insert(seat, report);
        true
    }

    fn has_list(&self, report: &CloseReport) -> bool {
        let (root, count) = name_of(report);
        count == 0 || self.lists.get(&root).is_some_and(|list| list.len() == count)
    }

    /// What is behind `reports` and not here, and who may have each list: `first`, then the seats that reported it.
    fn lacking<'a>(
        &self,
        shared: &Shared,
        reports: impl IntoIterator<Item = &'a CloseReport>,
        first: Option<NodeId>,
    ) -> BTreeMap<ListName, Vec<NodeId>> {
        let mut lacking: BTreeMap<ListName, Vec<NodeId>> = BTreeMap::new();
        for report in reports.into_iter().filter(|report| !self.has_list(report)) {
            let holders = lacking.entry(name_of(report)).or_insert_with(|| first.into_iter().collect());
            let seat = shared.roster().validators.get(usize::from(report.statement.seat)).map(|seat| seat.node);
            holders.extend(seat.filter(|node| *node != shared.me && first != Some(*node)));
        }
        lacking
    }

    /// Asks for each of these lists, of another of its holders each time.
    fn want(&mut self, step: &mut Step<'_>, lacking: BTreeMap<ListName, Vec<NodeId>>) {
        for (name, holders) in lacking {
            let pull = self.pulls.entry(name).or_default();
            let turn = pull.asked.checked_rem(holders.len()).and_then(|turn| holders.get(turn));
            let Some(holder) = turn.copied() else { continue };
            pull.from = Some(holder);
            pull.asked = pull.asked.wrapping_add(1);
            let after = pull.got.keys().next_back().copied();
            step.tell(holder, ConsensusMessage::AckedAfter { root: name.0, after });
        }
    }

    /// Gives a page of a list to another seat.
    pub(super) fn give_acked(
        &self,
        shared: &Shared,
        step: &mut Step<'_>,
        (to, root, after): (NodeId, Root, Option<GroupId>),
    ) {
        let Some(list) = self.lists.get(&root).filter(|_| shared.roster().seat_of(&to).is_some()) else { return };
        let heads = BoundedVec::truncated(list.range(beyond(after)).map(|(_, head)| head.clone()));
        step.tell(to, ConsensusMessage::Acked { root, after, heads });
    }

    /// A page came. `true`: a list is complete with it.
    pub(super) fn on_acked(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, root, after): (NodeId, Root, Option<GroupId>),
        heads: &[AckedHead],
    ) -> bool {
        let asked = |((of, _), pull): &(&ListName, &mut Pull)| {
            *of == root && pull.from == Some(from) && pull.got.keys().next_back().copied() == after
        };
        let Some((&name, pull)) = self.pulls.iter_mut().find(asked).filter(|_| !heads.is_empty()) else { return false };
        let (genesis, roster) = (shared.chain.genesis(), shared.roster());
        let mut last = after;
        for head in heads {
            let in_order = last.is_none_or(|last| last < head.group_id) && pull.got.len() < name.1;
            if !in_order || !head.is_proven(genesis, roster) {
                tracing::debug!(%from, "a list of acked heads does not prove itself");
                pull.got.clear();
                return false;
            }
            last = Some(head.group_id);
            pull.got.insert(head.group_id, head.clone());
        }
        if pull.got.len() < name.1 {
            step.tell(from, ConsensusMessage::AckedAfter { root, after: last });
            return false;
        }
        let got = std::mem::take(&mut pull.got);
        if root_of(&got) != root {
            return false;
        }
        self.pulls.remove(&name);
        self.lists.insert(root, got);
        true
    }

    /// The reports to make a close set of, and the set, once enough are here: of all seats, or `all` waived, of as many as
    /// are needed.
    pub(super) fn ready(&mut self, shared: &Shared, draft: &Roster, all: bool) -> Option<(CloseReports, HeadSet)> {
        let known = self.reports.values().filter(|report| self.has_list(report));
        let reports: CloseReports = BoundedVec::truncated(known.cloned());
        let need = if all { shared.roster().validators.len() } else { needed(shared, draft) };
        if reports.len() < need {
            return None;
        }
        let set = self.union(shared, &reports).inspect_err(|error| tracing::warn!(%error, "no close set")).ok()?;
        self.next = Some(set.clone());
        Some((reports, set))
    }

    /// Checks the close set of a next roster as an old seat; `from` is who proposes it.
    pub(super) fn check(
        &mut self,
        shared: &Shared,
        step: &mut Step<'_>,
        (from, body): (NodeId, &RosterLock),
    ) -> Result<(), CloseDefect> {
        let ascending = body.reports.is_sorted_by(|a, b| a.statement.seat < b.statement.seat);
        let signed = |report: &CloseReport| report.verify(&shared.network, shared.roster()).is_ok();
        if !ascending || body.reports.len() < needed(shared, &body.roster) || !body.reports.iter().all(signed) {
            return Err(CloseDefect::Reports);
        }
        if let Some((seat, _)) = shared.voting_key() {
            let mine = body.reports.iter().find(|report| usize::from(report.statement.seat) == seat);
            if mine.is_some_and(|report| report.statement.root != root_of(shared.heads.acked())) {
                return Err(CloseDefect::LeavesOut);
            }
        }
        let lacking = self.lacking(shared, &body.reports, Some(from));
        self.want(step, lacking);
        let set = self.union(shared, &body.reports)?;
        if !is_set_of(&body.roster, &set) {
            return Err(CloseDefect::Root);
        }
        self.next = Some(set);
        Ok(())
    }

    /// What was carried, and of each group the highest version reported. An epoch has one proven value of a version, and
    /// of the carried version it is the carried one.
    fn union(&self, shared: &Shared, reports: &CloseReports) -> Result<HeadSet, CloseDefect> {
        let mut set = shared.heads.carried().ok_or(CloseDefect::Waiting)?.clone();
        for report in reports.iter().filter(|report| report.statement.count > 0) {
            let list = self.lists.get(&report.statement.root).ok_or(CloseDefect::Waiting)?;
            if usize::try_from(report.statement.count) != Ok(list.len()) {
                return Err(CloseDefect::Reports);
            }
            for head in list.values().map(AckedHead::carried) {
                let known = set.entry(head.group_id).or_insert(head);
                if known.version == head.version && known.value != head.value {
                    return Err(CloseDefect::Contradiction);
                }
                if known.version < head.version {
                    *known = head;
                }
            }
        }
        Ok(set)
    }

    /// Writes, in the batch of a lock, what is behind its reports: whoever signs it next may have nobody else to ask. What this
    /// node acked itself is on disk anyway, and stays as it is once the epoch is closed here.
    pub(super) fn write_lists(&self, shared: &Shared, step: &mut Step<'_>, locked: &RosterLock) {
        let mine = shared.heads.closed().map(|_| root_of(shared.heads.acked()));
        let roots: BTreeSet<Root> = locked.reports.iter().map(|report| report.statement.root).collect();
        for root in roots.into_iter().filter(|root| Some(*root) != mine) {
            let list: Vec<&AckedHead> = self.lists.get(&root).into_iter().flat_map(AckedSet::values).collect();
            for page in list.chunks(ACKED_PER_PAGE_MAX) {
                let heads = BoundedVec::truncated(page.iter().copied().cloned());
                step.persist(Record::Reported { root, heads });
            }
        }
    }

    /// Writes what the next roster carries besides what is carried already, in the batch of the lock on it.
    pub(super) fn write_next(&self, shared: &Shared, step: &mut Step<'_>) {
        let (Some(next), Some(carried)) = (&self.next, shared.heads.carried()) else { return };
        let news = next.values().filter(|head| carried.get(&head.group_id) != Some(head));
        let news: Vec<CarriedHead> = news.copied().collect();
        for page in news.chunks(CARRIED_PER_PAGE_MAX) {
            step.persist(Record::CarriedNext(BoundedVec::truncated(page.iter().copied())));
        }
    }

    /// The newest epoch begins: its close set is taken from what was made here, or asked for.
    pub(super) fn enter(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        let made = std::mem::take(self).next;
        let newest = shared.chain.newest();
        shared.heads.enter(step, newest, made.filter(|set| is_set_of(newest, set)));
        self.fetch(shared, step);
    }

    /// Asks for the close set of this epoch, if this node has a seat and lacks it; somebody else if nothing came.
    pub(super) fn fetch(&mut self, shared: &mut Shared, step: &mut Step<'_>) {
        let newest = shared.roster();
        if shared.heads.carried().is_some() || newest.seat_of(&shared.me).is_none() {
            self.fetch = None;
            return;
        }
        if !self.fetch.as_mut().is_some_and(|fetch| std::mem::take(&mut fetch.moved)) {
            self.fetch = shared.any_seat().map(|from| Fetch { from, got: HeadSet::new(), moved: false });
        }
        self.ask_on(shared, step);
    }

    fn ask_on(&self, shared: &Shared, step: &mut Step<'_>) {
        if let Some(fetch) = &self.fetch {
            let (epoch, after) = (shared.roster().epoch, fetch.got.keys().next_back().copied());
            step.tell(fetch.from, ConsensusMessage::CarriedAfter { epoch, after });
        }
    }

    /// A page of the close set came.
    pub(super) fn on_carried(
        &mut self,
        shared: &mut Shared,
        step: &mut Step<'_>,
        (from, epoch, after): (NodeId, u64, Option<GroupId>),
        heads: &[CarriedHead],
    ) {
        let newest = shared.chain.newest();
        let Some(fetch) = self.fetch.as_mut().filter(|fetch| fetch.from == from && newest.epoch == epoch) else {
            return;
        };
        if fetch.got.keys().next_back().copied() != after {
            return;
        }
        let ascending = heads.is_sorted_by(|a, b| a.group_id < b.group_id);
        let follows = heads.first().is_some_and(|first| after.is_none_or(|after| after < first.group_id));
        let count = usize::try_from(newest.close_count).unwrap_or(usize::MAX);
        if !ascending || !follows || fetch.got.len() + heads.len() > count {
            self.fetch = None;
            return;
        }
        fetch.got.extend(heads.iter().map(|head| (head.group_id, *head)));
        fetch.moved = true;
        if fetch.got.len() < count {
            return self.ask_on(shared, step);
        }
        if let Some(fetch) = self.fetch.take() {
            shared.heads.complete_with(step, newest, fetch.got);
        }
    }
}

/// Gives a page of the close set of this epoch to another seat.
pub(super) fn give_carried(shared: &Shared, step: &mut Step<'_>, (to, epoch, after): (NodeId, u64, Option<GroupId>)) {
    let newest = shared.roster();
    if newest.epoch != epoch || newest.seat_of(&to).is_none() {
        return;
    }
    if let Some(carried) = shared.heads.carried() {
        let heads = BoundedVec::truncated(carried.range(beyond(after)).map(|(_, head)| *head));
        step.tell(to, ConsensusMessage::Carried { epoch, after, heads });
    }
}

/// Everything after a group.
fn beyond(after: Option<GroupId>) -> (Bound<GroupId>, Bound<GroupId>) {
    (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded)
}

fn root_of(list: &AckedSet) -> Root {
    let carried: Vec<CarriedHead> = list.values().map(AckedHead::carried).collect();
    set_root(&carried)
}

fn name_of(report: &CloseReport) -> ListName {
    (report.statement.root, usize::try_from(report.statement.count).unwrap_or(usize::MAX))
}

/// What this node says it acked in the epoch that it closed.
fn own_report(shared: &Shared) -> Option<CloseReport> {
    let (seat, key) = shared.voting_key()?;
    let (roster, acked) = (shared.roster(), shared.heads.acked());
    let statement = CloseStatement {
        epoch: roster.epoch,
        roster: roster.hash(),
        seat: u16::try_from(seat).ok()?,
        root: root_of(acked),
        count: u32::try_from(acked.len()).ok()?,
    };
    Some(CloseReport::new(&shared.network, statement, key))
}

/// Reports that a close set needs: as many as seats of the old roster must sign the link.
fn needed(shared: &Shared, next: &Roster) -> usize {
    link_quorums(shared.chain.genesis(), shared.roster(), next).0
}
