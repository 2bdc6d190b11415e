//! What happens on this node, told to everybody who follows it.
//!
//! The newest events are kept in a ring of fixed size. A [`Follower`] is a position in that ring and nothing else: it costs
//! no memory per event, and one that stops reading holds up neither the node nor the others. If the ring overtakes it, it is
//! told so with an event `lost` and goes on with the oldest event that is left.
//!
//! Invariants:
//! 1. Telling never waits for a follower.
//! 2. A follower gets every event after its beginning once and in order, or `lost` in the place of those that it missed.
//! 3. The id of every event, `lost` included, is a beginning from which nothing is told twice.
//!
//! Ids are `<start>-<number>`: the count of starts of this data directory, and the event's number since the start, from 1. Events
//! do not survive the process, so an id of another start begins with `lost`.
//!
//! Deliberately absent: filters, and events of groups that this node has nothing to do with.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mynet_proto::{consensus, node::io::Event, replication};
use mynet_types::{GroupId, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{
    driver::wall_clock,
    govern::outcome_view,
    handle::NodeError,
    view::{OutcomeView, ReplicationStatusView},
};

/// Events kept, each of a few hundred bytes: minutes of a busy node, so that a client whose connection broke misses nothing. Half
/// as many would lose them more often, twice as many would serve only clients that were away for long and must look anew anyway.
pub const EVENTS_MAX: usize = 1024;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An upload was stored here.
    Stored,
    /// Another node's group became visible here.
    Arrived,
    /// Replication moved on: `replication_status`, `replica_count`.
    Replication,
    /// A group has the receipts that make it durable.
    Durable,
    /// Too few nodes may hold a group; it waits for more.
    NotEnoughTargets,
    /// A node would not take a copy.
    Refused,
    /// Votes moved on: `outcome`, `accepts`, `rejects`.
    Votes,
    /// A certificate is kept here: `outcome`.
    Certified,
    /// The owner deleted a group.
    Deleted,
    /// A holder took a deleted group away.
    DeletionConfirmed,
    /// The validators changed.
    Roster,
    /// A validator contradicted itself, or the owner of a group did.
    Evidence,
    /// A peer can be reached.
    PeerUp,
    /// A peer cannot be reached any more.
    PeerDown,
    /// Events were missed, `missed` of them if that is known: look at the lists again.
    Lost,
}

/// Something that happened. Which of the other fields there are depends on `kind`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    /// Names it; whoever gives it as `Last-Event-ID` gets what comes after it.
    pub id: String,
    /// When this node noticed it.
    pub at: Timestamp,
    /// What happened.
    pub kind: EventKind,
    /// The group that it happened to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_id: Option<GroupId>,
    /// The other node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_id: Option<NodeId>,
    /// The epoch of the roster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// How far replication came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication_status: Option<ReplicationStatusView>,
    /// Receipts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replica_count: Option<usize>,
    /// What the votes came to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<OutcomeView>,
    /// Accept votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepts: Option<usize>,
    /// Reject votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rejects: Option<usize>,
    /// How many events were missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed: Option<u64>,
}

impl EventView {
    /// An event of `kind`, without a name until it is told.
    #[must_use]
    pub fn new(kind: EventKind) -> Self {
        Self {
            id: String::new(),
            at: Timestamp::default(),
            kind,
            group_id: None,
            node_id: None,
            epoch: None,
            replication_status: None,
            replica_count: None,
            outcome: None,
            accepts: None,
            rejects: None,
            missed: None,
        }
    }

    /// An event of a group.
    #[must_use]
    pub fn of_group(kind: EventKind, group: GroupId) -> Self {
        Self { group_id: Some(group), ..Self::new(kind) }
    }

    /// A certificate is on disk; `accepts` tells what it proves.
    pub(crate) fn certified(group: GroupId, accepts: bool) -> Self {
        let outcome = if accepts { OutcomeView::Approved } else { OutcomeView::Rejected };
        Self { outcome: Some(outcome), ..Self::of_group(EventKind::Certified, group) }
    }

    /// An event of another node.
    #[must_use]
    pub fn of_node(kind: EventKind, node: NodeId) -> Self {
        Self { node_id: Some(node), ..Self::new(kind) }
    }
}

/// The newest events of this start.
#[derive(Debug)]
pub struct Events {
    start: u64,
    ring: Mutex<Ring>,
    /// Rings at every event.
    bell: watch::Sender<()>,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<EventView>>,
    /// The number of the next event.
    next: u64,
}

impl Ring {
    /// The number of the oldest event that is kept; that of the next one if none is.
    fn oldest(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    fn get(&self, number: u64) -> Option<&Arc<EventView>> {
        self.events.get(usize::try_from(number.checked_sub(self.oldest())?).ok()?)
    }
}

impl Events {
    /// No events yet, of the start with this number.
    #[must_use]
    pub fn new(start: u64) -> Self {
        Self { start, ring: Mutex::new(Ring { events: VecDeque::new(), next: 1 }), bell: watch::Sender::new(()) }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn id(&self, number: u64) -> String {
        format!("{}-{number}", self.start)
    }

    /// Tells an event to everybody who follows.
    pub fn tell(&self, event: EventView) {
        let mut ring = self.ring();
        let event = EventView { id: self.id(ring.next), at: wall_clock(), ..event };
        if ring.events.len() == EVENTS_MAX {
            ring.events.pop_front();
        }
        ring.events.push_back(Arc::new(event));
        ring.next += 1;
        drop(ring);
        self.bell.send_replace(());
    }

    /// Tells what the core tells, as far as it is for people.
    pub(crate) fn tell_of(&self, event: &Event) {
        let view = match event {
            Event::Replication(event) => of_replication(event),
            Event::Consensus(event) => of_consensus(event).filter(|view| !self.is_told(view)),
        };
        if let Some(view) = view {
            self.tell(view);
        }
    }

    /// Whether the newest votes told of a group are these. The core reports them again when they decide something.
    fn is_told(&self, view: &EventView) -> bool {
        let is_of_the_same = |told: &&Arc<EventView>| (told.kind, told.group_id) == (view.kind, view.group_id);
        view.kind == EventKind::Votes
            && self.ring().events.iter().rev().find(is_of_the_same).is_some_and(|told| {
                (told.outcome, told.accepts, told.rejects) == (view.outcome, view.accepts, view.rejects)
            })
    }

    /// How many events are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.ring().events.len()
    }

    /// Follows from now on, or from behind the event `after`.
    ///
    /// # Errors
    /// [`NodeError::Invalid`] if `after` is no id of an event.
    pub fn follow(self: &Arc<Self>, after: Option<&str>) -> Result<Follower, NodeError> {
        let bell = self.bell.subscribe();
        let next = match after {
            None => Position::At(self.ring().next),
            Some(after) => {
                let why = "an id is made of two numbers, as this node gave it".to_owned();
                let (start, number) = parse(after).ok_or(NodeError::Invalid { field: "last_event_id", why })?;
                let told = start == self.start && number < self.ring().next;
                if told { Position::At(number + 1) } else { Position::Elsewhere }
            }
        };
        Ok(Follower { events: Arc::clone(self), bell, next })
    }
}

/// The start and the number in an id.
fn parse(id: &str) -> Option<(u64, u64)> {
    let (start, number) = id.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    (digits(start) && digits(number)).then_some(())?;
    Some((start.parse().ok()?, number.parse().ok()?))
}

/// Where a follower is.
#[derive(Debug, Clone, Copy)]
enum Position {
    /// Before the event with this number.
    At(u64),
    /// In the events of another start.
    Elsewhere,
}

/// Somebody who follows the events.
#[derive(Debug)]
pub struct Follower {
    events: Arc<Events>,
    bell: watch::Receiver<()>,
    next: Position,
}

impl Follower {
    /// The next event, once there is one. Dropping this future loses nothing.
    pub async fn next(&mut self) -> Arc<EventView> {
        loop {
            self.bell.mark_unchanged();
            if let Some(event) = self.look() {
                return event;
            }
            if self.bell.changed().await.is_err() {
                // It cannot be: this follower holds the events, and they hold the bell.
                std::future::pending::<()>().await;
            }
        }
    }

    /// The next event if it has happened.
    fn look(&mut self) -> Option<Arc<EventView>> {
        let ring = self.events.ring();
        let oldest = ring.oldest();
        let missed = match self.next {
            Position::At(next) if next >= oldest => {
                let event = ring.get(next).map(Arc::clone)?;
                self.next = Position::At(next + 1);
                return Some(event);
            }
            Position::At(next) => Some(oldest - next),
            Position::Elsewhere => None,
        };
        self.next = Position::At(oldest);
        let id = self.events.id(oldest - 1);
        Some(Arc::new(EventView { id, at: wall_clock(), missed, ..EventView::new(EventKind::Lost) }))
    }
}

fn of_replication(event: &replication::io::Event) -> Option<EventView> {
    use replication::io::{Event, ReplicationStatus};
    Some(match event {
        Event::Progress { group_id, status, receipts, .. } => EventView {
            replication_status: Some(match status {
                ReplicationStatus::Pending => ReplicationStatusView::Pending,
                ReplicationStatus::Replicating => ReplicationStatusView::Replicating,
                ReplicationStatus::Degraded => ReplicationStatusView::Degraded,
                ReplicationStatus::Replicated => ReplicationStatusView::Replicated,
            }),
            replica_count: Some(receipts.len()),
            ..EventView::of_group(EventKind::Replication, *group_id)
        },
        Event::Durable { manifest, .. } => EventView::of_group(EventKind::Durable, manifest.body.group_id),
        Event::NotEnoughTargets { group_id, .. } => EventView::of_group(EventKind::NotEnoughTargets, *group_id),
        Event::Refused { group_id, node, .. } => {
            EventView { node_id: Some(*node), ..EventView::of_group(EventKind::Refused, *group_id) }
        }
        Event::Committed { group_id } => EventView::of_group(EventKind::Arrived, *group_id),
        Event::Deleted { group_id, .. } => EventView::of_group(EventKind::Deleted, *group_id),
        Event::DeletionConfirmed { group_id, node } => {
            EventView { node_id: Some(*node), ..EventView::of_group(EventKind::DeletionConfirmed, *group_id) }
        }
        Event::Aborted { .. } | Event::Noted(_) => return None,
    })
}

/// [`EventKind::Certified`] is told when the certificate is on disk, not here.
fn of_consensus(event: &consensus::io::Event) -> Option<EventView> {
    use consensus::io::Event;
    match event {
        Event::Progress { group_id, tally, .. } => Some(EventView {
            outcome: Some(outcome_view(tally.outcome)),
            accepts: Some(tally.accepts),
            rejects: Some(tally.rejects),
            ..EventView::of_group(EventKind::Votes, *group_id)
        }),
        Event::RosterChanged { epoch } => Some(EventView { epoch: Some(*epoch), ..EventView::new(EventKind::Roster) }),
        Event::Evidence { node, evidence } => {
            Some(EventView { epoch: Some(evidence.epoch()), ..EventView::of_node(EventKind::Evidence, *node) })
        }
        Event::OwnerEvidence(evidence) => Some(EventView::of_group(EventKind::Evidence, evidence.group_id)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::FutureExt;

    use mynet_proto::{
        consensus::{
            self,
            io::{Outcome, Tally},
        },
        node::io::Event,
    };
    use mynet_types::{Claim, GroupId, ManifestHash};

    use super::{EVENTS_MAX, EventKind, EventView, Events, Follower};
    use crate::handle::NodeError;

    fn tell(events: &Events, count: usize) {
        for _ in 0..count {
            events.tell(EventView::new(EventKind::Stored));
        }
    }

    /// The ids of all events that have happened, and what is missed.
    fn told(follower: &mut Follower) -> Vec<(String, Option<u64>)> {
        let next = || follower.next().now_or_never();
        std::iter::from_fn(next).map(|event| (event.id.clone(), event.missed)).collect()
    }

    fn ids(start: u64, numbers: impl IntoIterator<Item = u64>) -> Vec<(String, Option<u64>)> {
        numbers.into_iter().map(|number| (format!("{start}-{number}"), None)).collect()
    }

    #[test]
    fn everybody_gets_every_event_from_where_he_began() {
        let events = Arc::new(Events::new(7));
        let mut early = events.follow(None).unwrap();
        tell(&events, 2);
        let mut late = events.follow(None).unwrap();
        let mut again = events.follow(Some("7-1")).unwrap();
        let mut all = events.follow(Some("7-0")).unwrap();
        tell(&events, 1);
        assert_eq!(told(&mut early), ids(7, 1..=3));
        assert_eq!(told(&mut late), ids(7, [3]));
        assert_eq!(told(&mut again), ids(7, 2..=3));
        assert_eq!(told(&mut all), ids(7, 1..=3));
        assert_eq!(told(&mut all), []);
    }

    #[test]
    fn a_follower_that_does_not_read_costs_nothing_and_is_told_what_it_missed() {
        let events = Arc::new(Events::new(1));
        let mut stuck = events.follow(None).unwrap();
        tell(&events, EVENTS_MAX + 5);
        assert_eq!(events.kept(), EVENTS_MAX);
        let mut got = told(&mut stuck);
        assert_eq!(got.remove(0), ("1-5".to_owned(), Some(5)));
        assert_eq!(got, ids(1, 6..=EVENTS_MAX as u64 + 5));
        // Whoever comes back with the id of `lost` is told the same events.
        let mut back = events.follow(Some("1-5")).unwrap();
        assert_eq!(told(&mut back), ids(1, 6..=EVENTS_MAX as u64 + 5));
    }

    #[test]
    fn an_id_of_another_start_is_answered_with_lost_and_then_all_there_is() {
        let events = Arc::new(Events::new(2));
        tell(&events, 2);
        for id in ["1-9", "3-1", "2-3"] {
            let mut follower = events.follow(Some(id)).unwrap();
            let first = follower.next().now_or_never().unwrap();
            assert_eq!((first.kind, first.id.as_str(), first.missed), (EventKind::Lost, "2-0", None), "{id}");
            assert_eq!(told(&mut follower), ids(2, 1..=2), "{id}");
        }
        for id in ["", "2", "2-", "-1", "2-x", "+2-1", "2-1-1"] {
            let refused = events.follow(Some(id)).err();
            assert!(matches!(refused, Some(NodeError::Invalid { field: "last_event_id", .. })), "{id}");
        }
    }

    #[tokio::test]
    async fn a_follower_that_waits_is_woken() {
        let events = Arc::new(Events::new(1));
        let mut follower = events.follow(None).unwrap();
        let waiting = tokio::spawn(async move { follower.next().await.id.clone() });
        tokio::task::yield_now().await;
        tell(&events, 1);
        assert_eq!(waiting.await.unwrap(), "1-1");
    }

    #[test]
    fn votes_of_a_group_are_told_when_they_changed_and_not_again() {
        let events = Arc::new(Events::new(1));
        let mut follower = events.follow(None).unwrap();
        let voted = |group: u8, accepts| {
            let tally = Tally { outcome: Outcome::Pending, accepts, rejects: 0, quorum: 3, validators: 4 };
            let (group_id, manifest_hash) = (GroupId([group; 32]), ManifestHash([group; 32]));
            let claim = Claim::Durable;
            events.tell_of(&Event::Consensus(consensus::io::Event::Progress { group_id, manifest_hash, claim, tally }));
        };
        for (group, accepts) in [(1, 1), (1, 1), (2, 1), (1, 1), (1, 2), (2, 1), (1, 2), (1, 1)] {
            voted(group, accepts);
        }
        let next = || follower.next().now_or_never();
        let told = std::iter::from_fn(next).map(|event| (event.group_id, event.accepts));
        let of = |group: u8, accepts| (Some(GroupId([group; 32])), Some(accepts));
        assert_eq!(told.collect::<Vec<_>>(), [of(1, 1), of(2, 1), of(1, 2), of(1, 1)]);
    }
}
