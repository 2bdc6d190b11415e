//! One peer: its connection, and the actor that dials, adopts, loses and dials again.
//!
//! ```text
//!             adopt (dialed or accepted)
//!   none  ------------------------------>  live  --- closed --->  redialing --- failed ---> down, redial with backoff
//!     ^                                     | rival: keep one        | succeeded
//!     +------ evict, expelled --------------+                        +--> live (nobody heard of it)
//! ```
//! `PeerUp` is told when a kept peer has a connection, `PeerDown` when it lost it and one dial failed, or when it came
//! back as another start of its program. Events are levels, not edges: what a slow listener missed is merged.
//!
//! **Invariants**
//! 1. At most one live connection per peer; of two the rule of [`Claim::replaces`](hello::Claim::replaces) keeps one.
//! 2. At most one dial per peer, and after a failed one none before its backoff ended: whoever asks meanwhile is told
//!    the last error at once. New addresses and a welcome end the backoff.
//! 3. A peer that the door no longer admits is disconnected at the next look.

use std::{
    collections::BTreeMap,
    future::pending,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use mynet_types::NodeId;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use crate::{
    NetEvent,
    config::Limits,
    hello::{self, Live},
    pool::Shared,
    rate::Bucket,
    refusal::{DialError, Refusal},
    serve,
    table::{Budget, Class},
};

/// Requests to one actor waiting; senders wait when it is full.
const COMMANDS_MAX: usize = 64;

/// What an actor is asked.
#[derive(Debug)]
pub(crate) enum Command {
    /// A connection, dialed if there is none.
    Connect(oneshot::Sender<Result<Arc<Live>, DialError>>),
    /// Takes a connection that the peer dialed; answers whether it is kept.
    Adopt(Arc<Live>, oneshot::Sender<bool>),
    /// Closes the connection if it is idle.
    Evict,
}

/// One encoded message with its share of the queue's bytes.
#[derive(Debug)]
pub(crate) struct Parcel {
    pub(crate) kind: u16,
    pub(crate) frame: Bytes,
    pub(crate) _bytes: OwnedSemaphorePermit,
}

/// The receiving ends of a peer's channels.
#[derive(Debug)]
pub(crate) struct Inbox {
    pub(crate) commands: mpsc::Receiver<Command>,
    pub(crate) parcels: mpsc::Receiver<Parcel>,
    pub(crate) live: watch::Sender<Option<Arc<Live>>>,
}

/// What is known and counted of one peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) parcels: mpsc::Sender<Parcel>,
    /// One permit per KiB waiting in the queue.
    pub(crate) parcel_bytes: Arc<Semaphore>,
    /// Requests of this node at the peer, ranges aside.
    pub(crate) asking: Arc<Semaphore>,
    /// Ranges of this node at the peer.
    pub(crate) pulling: Arc<Semaphore>,
    /// Ranges of the peer here.
    pub(crate) serving: Arc<Semaphore>,
    /// One permit per KiB of the peer's request bodies being read.
    pub(crate) bodies: Arc<Semaphore>,
    commands: mpsc::Sender<Command>,
    live: watch::Receiver<Option<Arc<Live>>>,
    buckets: Mutex<BTreeMap<Class, Bucket>>,
    kept: AtomicBool,
    retry_now: AtomicBool,
    look: Notify,
    busy: AtomicUsize,
    used: Mutex<Instant>,
}

/// Counts one use of a peer while it lasts.
#[derive(Debug)]
pub(crate) struct InUse(Arc<Peer>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
        *self.0.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

impl Peer {
    pub(crate) fn new(node: NodeId, limits: &Limits) -> (Arc<Self>, Inbox) {
        let (commands, commands_end) = mpsc::channel(COMMANDS_MAX);
        let (parcels, parcels_end) = mpsc::channel(limits.queue_messages);
        let (live_end, live) = watch::channel(None);
        let streams = usize::try_from(limits.streams_per_peer).unwrap_or(usize::MAX);
        let now = Instant::now();
        let peer = Self {
            node,
            parcels,
            parcel_bytes: Arc::new(Semaphore::new(limits.queue_bytes / 1024)),
            // One stream is the courier's.
            asking: Arc::new(Semaphore::new(streams.saturating_sub(limits.ranges_per_peer + 1).max(1))),
            pulling: Arc::new(Semaphore::new(limits.ranges_per_peer)),
            serving: Arc::new(Semaphore::new(limits.ranges_per_peer)),
            bodies: Arc::new(Semaphore::new(limits.body_bytes_per_peer / 1024)),
            commands,
            live,
            buckets: Mutex::default(),
            kept: AtomicBool::new(false),
            retry_now: AtomicBool::new(false),
            look: Notify::new(),
            busy: AtomicUsize::new(0),
            used: Mutex::new(now),
        };
        (Arc::new(peer), Inbox { commands: commands_end, parcels: parcels_end, live: live_end })
    }

    /// The live connection, if there is one.
    pub(crate) fn live(&self) -> Option<Arc<Live>> {
        self.live.borrow().clone()
    }

    /// The live connection, dialed if there is none. Takes at most one dial.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn connect(&self) -> Result<Arc<Live>, DialError> {
        if let Some(live) = self.live().filter(|live| live.connection.close_reason().is_none()) {
            return Ok(live);
        }
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Connect(reply)).await.map_err(|_stopped| DialError::Closed)?;
        answer.await.unwrap_or(Err(DialError::Closed))
    }

    /// Offers a connection that the peer dialed; says whether it is kept.
    pub(crate) async fn adopt(&self, live: Arc<Live>) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Adopt(live, reply)).await.is_ok() && answer.await.unwrap_or(false)
    }

    /// Closes the connection if nothing happens on it.
    pub(crate) fn evict(&self) {
        // A full inbox means that something does happen.
        let _busy = self.commands.try_send(Command::Evict);
    }

    /// Sets whether a connection is to be kept alive, and has the door looked at again.
    pub(crate) fn keep(&self, kept: bool) {
        self.kept.store(kept, Ordering::Relaxed);
        self.look.notify_one();
    }

    /// Whether a connection is to be kept alive.
    pub(crate) fn is_kept(&self) -> bool {
        self.kept.load(Ordering::Relaxed)
    }

    /// Ends the backoff: something changed that gives the next dial a chance.
    pub(crate) fn retry_now(&self) {
        self.retry_now.store(true, Ordering::Relaxed);
        self.look.notify_one();
    }

    /// Notes that the peer is used, until the result is dropped.
    pub(crate) fn in_use(self: &Arc<Self>) -> InUse {
        self.busy.fetch_add(1, Ordering::Relaxed);
        InUse(Arc::clone(self))
    }

    /// When it was used last.
    pub(crate) fn last_used(&self) -> Instant {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_idle(&self) -> bool {
        self.busy.load(Ordering::Relaxed) == 0
    }

    /// Whether there is a connection that nobody needs now.
    pub(crate) fn is_spare(&self) -> bool {
        !self.is_kept() && self.is_idle() && self.live().is_some()
    }

    /// Counts one request against the peer's rate; false if it is over it.
    pub(crate) fn take_token(&self, class: Class, budget: Budget) -> bool {
        if !Class::RATED.contains(&class) {
            return true;
        }
        let (rate, now) = (class.rate(budget), Instant::now());
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(class).or_insert_with(|| Bucket::full(rate, now)).take(rate, now)
    }
}

/// What woke the actor.
enum Wake {
    Stop,
    Command(Command),
    Look,
    Dialed(Result<Arc<Live>, DialError>),
    Lost,
    Redial,
    Told(NetEvent),
}

/// Owns the connection to one peer.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    live: watch::Sender<Option<Arc<Live>>>,
    closed: Option<BoxFuture<'static, ()>>,
    dialing: Option<BoxFuture<'static, Result<Arc<Live>, DialError>>>,
    waiting: Vec<oneshot::Sender<Result<Arc<Live>, DialError>>>,
    /// Dials failed, or connections lost young, in a row.
    failures: u32,
    /// No dial before this.
    retry_at: Option<Instant>,
    last_error: Option<DialError>,
    /// The instance that counts as reachable: live, or lost but not yet redialed in vain.
    standing: Option<u64>,
    /// The instance that the listener was told of.
    announced: Option<u64>,
    /// The reason of a refusal that the listener was not told of.
    refused: Option<Refusal>,
}

/// Polls what is there; never ends if nothing is.
async fn poll_some<F: Future + Unpin>(future: &mut Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Ends at `at`, or never.
async fn poll_at(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}

/// The wait after `failures` failures: doubled each time, capped, with up to half of it on top so that peers that lost
/// each other at once do not dial in step.
fn backoff(failures: u32, limits: &Limits) -> Duration {
    let doubled = limits.redial_min.saturating_mul(1 << failures.saturating_sub(1).min(16));
    let capped = doubled.min(limits.redial_max);
    capped + capped.mul_f64(rand::random_range(0.0..0.5))
}

impl Actor {
    pub(crate) fn new(shared: Arc<Shared>, peer: Arc<Peer>, live: watch::Sender<Option<Arc<Live>>>) -> Self {
        Self {
            shared,
            peer,
            live,
            closed: None,
            dialing: None,
            waiting: Vec::new(),
            failures: 0,
            retry_at: None,
            last_error: None,
            standing: None,
            announced: None,
            refused: None,
        }
    }

    /// Runs until the transport stops.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            match self.next(&mut commands).await {
                Wake::Stop => return,
                Wake::Command(command) => self.command(command),
                Wake::Look => self.look(),
                Wake::Dialed(result) => self.dialed(result),
                Wake::Lost => self.lost(),
                Wake::Redial => self.dial(),
                Wake::Told(event) => self.told(event),
            }
        }
    }

    async fn next(&mut self, commands: &mut mpsc::Receiver<Command>) -> Wake {
        let (event, redial_at) = (self.event(), self.redial_at());
        tokio::select! {
            biased;
            () = self.shared.cancel.cancelled() => Wake::Stop,
            () = poll_some(&mut self.closed) => Wake::Lost,
            result = poll_some(&mut self.dialing) => Wake::Dialed(result),
            () = self.peer.look.notified() => Wake::Look,
            command = commands.recv() => command.map_or(Wake::Stop, Wake::Command),
            () = poll_at(redial_at) => Wake::Redial,
            Some(event) = tell(&self.shared.events, event) => Wake::Told(event),
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Connect(reply) => self.connect(reply),
            Command::Adopt(live, reply) => {
                let kept = self.adopt(live);
                // The accepter may have given up meanwhile; then the connection is closed, which is noticed.
                let _gone = reply.send(kept);
            }
            Command::Evict if self.peer.is_spare() => {
                if let Some(live) = self.drop_live() {
                    Refusal::Idle.close(&live.connection);
                }
            }
            Command::Evict => {}
        }
    }

    fn connect(&mut self, reply: oneshot::Sender<Result<Arc<Live>, DialError>>) {
        let live = self.peer.live().filter(|live| live.connection.close_reason().is_none());
        let waits = self.retry_at.is_some_and(|at| at > Instant::now());
        let answer = match (live, &self.last_error) {
            (Some(live), _) => Ok(live),
            (None, Some(error)) if waits && self.dialing.is_none() => Err(error.clone()),
            (None, _) => {
                self.waiting.push(reply);
                return self.dial();
            }
        };
        // Whoever asked may have given up.
        let _gone = reply.send(answer);
    }

    fn dial(&mut self) {
        if self.dialing.is_none() {
            self.dialing = Some(hello::dial(Arc::clone(&self.shared), self.peer.node).boxed());
        }
    }

    /// When to dial without being asked.
    fn redial_at(&self) -> Option<Instant> {
        let idle = self.dialing.is_none() && self.closed.is_none();
        (self.peer.is_kept() && idle).then(|| self.retry_at.unwrap_or_else(Instant::now))
    }

    fn dialed(&mut self, result: Result<Arc<Live>, DialError>) {
        self.dialing = None;
        match result {
            Ok(live) => {
                self.shared.counters.dials.add();
                self.adopt(live);
            }
            Err(error) => {
                self.shared.counters.dials_failed.add();
                tracing::debug!(peer = %self.peer.node.short(), %error, "dial failed");
                if self.closed.is_none() {
                    self.failed(&error);
                }
            }
        }
    }

    fn failed(&mut self, error: &DialError) {
        self.back_off();
        self.last_error = Some(error.clone());
        self.standing = None;
        if let DialError::Refused { reason } = error {
            self.refused = Some(*reason);
        }
        for reply in self.waiting.drain(..) {
            // Whoever asked may have given up.
            let _gone = reply.send(Err(error.clone()));
        }
    }

    fn back_off(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.retry_at = Some(Instant::now() + backoff(self.failures, &self.shared.limits));
    }

    /// Makes `live` the connection, unless the one that is there stays; says which.
    fn adopt(&mut self, live: Arc<Live>) -> bool {
        let old = self.peer.live().filter(|old| old.connection.close_reason().is_none());
        if let Some(old) = old {
            self.shared.counters.duplicates.add();
            if !live.claim.replaces(&old.claim, self.shared.limits.dial) {
                Refusal::Duplicate.close(&live.connection);
                return false;
            }
            Refusal::Duplicate.close(&old.connection);
        }
        if live.claim.opener < self.shared.me {
            // A dial of this side would lose against it.
            self.dialing = None;
        }
        tracing::info!(peer = %self.peer.node.short(), opener = %live.claim.opener.short(), "connected");
        (self.last_error, self.retry_at, self.refused) = (None, None, None);
        self.standing = Some(live.claim.instance);
        let connection = live.connection.clone();
        self.closed = Some(async move { drop(connection.closed().await) }.boxed());
        self.live.send_replace(Some(Arc::clone(&live)));
        for reply in self.waiting.drain(..) {
            // Whoever asked may have given up.
            let _gone = reply.send(Ok(Arc::clone(&live)));
        }
        let session = serve::Session::new(Arc::clone(&self.shared), Arc::clone(&self.peer));
        self.shared.tasks.spawn(serve::connection(session, live));
        self.shared.trim();
        true
    }

    fn drop_live(&mut self) -> Option<Arc<Live>> {
        self.closed = None;
        self.live.send_replace(None)
    }

    fn lost(&mut self) {
        let Some(live) = self.drop_live() else { return };
        let reason = live.connection.close_reason().map(|reason| reason.to_string()).unwrap_or_default();
        tracing::info!(peer = %self.peer.node.short(), reason, "connection lost");
        // A connection that held for a while is dialed again at once; one that keeps breaking is not.
        if live.claim.since.elapsed() > self.shared.limits.redial_max {
            self.failures = 0;
        } else {
            self.back_off();
        }
    }

    fn look(&mut self) {
        if self.peer.retry_now.swap(false, Ordering::Relaxed) {
            (self.failures, self.retry_at, self.last_error) = (0, None, None);
        }
        if !self.shared.door.is_admitted(&self.peer.node) {
            self.dialing = None;
            self.standing = None;
            if let Some(live) = self.drop_live() {
                Refusal::NotAdmitted.close(&live.connection);
            }
            self.failed(&DialError::NotAdmittedHere);
        }
    }

    /// What the listener is to be told next.
    fn event(&self) -> Option<NetEvent> {
        let node = self.peer.node;
        let wanted = self.standing.filter(|_| self.peer.is_kept());
        match (self.announced, wanted) {
            (Some(told), wanted) if wanted != Some(told) => Some(NetEvent::PeerDown(node)),
            (None, Some(_)) => Some(NetEvent::PeerUp(node)),
            _ => self.refused.map(|reason| NetEvent::PeerRefused { node, reason }),
        }
    }

    fn told(&mut self, event: NetEvent) {
        match event {
            NetEvent::PeerUp(_) => self.announced = self.standing,
            NetEvent::PeerDown(_) => self.announced = None,
            NetEvent::PeerRefused { .. } => self.refused = None,
        }
    }
}

/// Tells the listener, once it has room. `None` if there is nothing to tell or nobody listens.
async fn tell(events: &mpsc::Sender<NetEvent>, event: Option<NetEvent>) -> Option<NetEvent> {
    let event = event?;
    match events.reserve().await {
        Ok(place) => place.send(event),
        // Nobody listens any more; the event counts as told.
        Err(_closed) => {}
    }
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::backoff;
    use crate::config::Limits;

    #[test]
    fn backoff_doubles_to_its_cap_with_jitter() {
        let limits = Limits::default();
        for failures in 1..40 {
            let wait = backoff(failures, &limits);
            let base = limits.redial_min.saturating_mul(1 << (failures - 1).min(16)).min(limits.redial_max);
            assert!(wait >= base && wait <= base.mul_f64(1.5), "{failures}: {wait:?}");
        }
    }
}
