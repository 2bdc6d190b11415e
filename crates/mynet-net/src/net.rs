//! The handle: what the node calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use mynet_types::{
    Message, NodeId,
    rpc::{Knock, KnockReply, Request, Response},
};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use crate::{
    KnockError, NetConfig, NetStats, NodeAddr, RangeError, RangeHead, RangeWanted, Refusal, RequestError, StartError,
    book::Book,
    client, endpoint,
    frame::{HEADER_BYTES, frame},
    gate::Gate,
    hello::main_alpn,
    knock,
    peer::Parcel,
    pool::Shared,
    service::{Door, Service},
    stats::Counters,
    stream::ByteStream,
    table,
};

/// Events waiting for the listener; each peer has at most one more pending, merged with what follows.
const EVENTS_MAX: usize = 1_024;

/// What happens to connections. Of one peer, in order; merged if the listener is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetEvent {
    /// A kept peer can be reached. Told again, after a `PeerDown`, when the peer was started anew.
    PeerUp(NodeId),
    /// A kept peer was lost and one dial failed, or it is not kept any more.
    PeerDown(NodeId),
    /// The peer answered a dial with a refusal. After `NotAdmitted` a knock with the own admission helps. Told after
    /// each such dial, at most every [`Limits::redial_min`](crate::Limits::redial_min).
    PeerRefused {
        /// The peer.
        node: NodeId,
        /// What it said.
        reason: Refusal,
    },
}

/// Over what a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// QUIC over UDP, directly.
    Quic,
    /// QUIC through a relay.
    Relay,
}

/// The word of the command line and API.
impl fmt::Display for PathKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "quic",
            Self::Relay => "relay",
        })
    }
}

/// Measurements of the live connection to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerStats {
    /// Smoothed round-trip time.
    pub rtt: Duration,
    /// Over what.
    pub path: PathKind,
    /// How long the connection has been up.
    pub up_for: Duration,
    /// Whether this node dialed it.
    pub dialed: bool,
}

/// What is known of one peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// The peer.
    pub node: NodeId,
    /// Where it can be dialed.
    pub addrs: Vec<SocketAddr>,
    /// Whether a connection to it is kept alive.
    pub kept: bool,
    /// Whether a connection to it is live.
    pub connected: bool,
}

/// A handle on the running transport; clones share it. The transport stops when [`Net::shutdown`] is called, its token
/// is cancelled or the last handle is dropped.
#[derive(Debug, Clone)]
pub struct Net {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
    stopped: CancellationToken,
    _last: Arc<DropGuard>,
}

impl Net {
    /// Opens the endpoint, lets connections in and keeps them. The receiver tells of peers; nothing is lost if it is
    /// read slowly, and nothing waits for it if it is dropped.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        config: NetConfig,
        door: Arc<dyn Door>,
        service: Arc<dyn Service>,
        token: CancellationToken,
    ) -> Result<(Self, mpsc::Receiver<NetEvent>), StartError> {
        let endpoint = endpoint::bind(&config).await?;
        let local_addr = endpoint.bound_sockets().into_iter().next().ok_or(StartError::NoAddress)?;
        let (events, listener) = mpsc::channel(EVENTS_MAX);
        let limits = config.limits;
        let shared = Arc::new(Shared {
            me: NodeId(*endpoint.id().as_bytes()),
            endpoint,
            instance: rand::random(),
            network_id: config.network_id,
            main_alpn: main_alpn(&config.network_id),
            door,
            service,
            book: Book::default(),
            gate: Gate::new(&limits),
            counters: Arc::new(Counters::default()),
            places: Arc::new(Semaphore::new(limits.connections)),
            bodies: Arc::new(Semaphore::new(limits.body_bytes / 1024)),
            limits,
            events,
            tasks: TaskTracker::new(),
            cancel: token.child_token(),
            peers: Mutex::new(BTreeMap::new()),
        });
        shared.tasks.spawn(endpoint::accept_loop(Arc::clone(&shared)));
        let stopped = CancellationToken::new();
        tokio::spawn(stop(Arc::clone(&shared), stopped.clone()));
        tracing::info!(node = %shared.me.short(), %local_addr, "transport started");
        let last = Arc::new(shared.cancel.clone().drop_guard());
        Ok((Self { shared, local_addr, stopped, _last: last }, listener))
    }

    /// This node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.shared.me
    }

    /// The UDP address that is listened on, with its real port.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Replaces the addresses of `node`, at most eight. An empty list forgets it. New addresses end a backoff.
    pub fn set_addrs(&self, node: NodeId, addrs: Vec<SocketAddr>) {
        if self.shared.book.set(node, addrs)
            && let Some(peer) = self.shared.known(&node)
        {
            peer.retry_now();
        }
    }

    /// Keeps a connection to each of `peers` that the door admits, and tells of them. Peers that the door no longer
    /// admits are disconnected. Call it again whenever the door changed its mind about anyone.
    pub fn set_peers(&self, peers: &BTreeSet<NodeId>) {
        self.shared.keep(peers);
    }

    /// Every peer dealt with since the start, by node id.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerInfo> {
        let info = |peer: Arc<crate::peer::Peer>| PeerInfo {
            node: peer.node,
            addrs: self.shared.book.get(&peer.node),
            kept: peer.is_kept(),
            connected: peer.live().is_some(),
        };
        self.shared.all().into_iter().map(info).collect()
    }

    /// Measurements of the live connection to `node`; `None` if there is none.
    #[must_use]
    pub fn peer_stats(&self, node: &NodeId) -> Option<PeerStats> {
        let live = self.shared.known(node)?.live()?;
        let paths = live.connection.paths();
        let path = paths.iter().find(iroh::endpoint::Path::is_selected).or_else(|| paths.iter().next())?;
        Some(PeerStats {
            rtt: path.rtt(),
            path: if path.is_relay() { PathKind::Relay } else { PathKind::Quic },
            up_for: live.claim.since.elapsed(),
            dialed: live.claim.opener == self.shared.me,
        })
    }

    /// What happened since the start.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        let open = self.shared.limits.connections.saturating_sub(self.shared.places.available_permits());
        self.shared.counters.snapshot(open as u64)
    }

    /// Sends a message, best effort: in order with others to the same node, dialing if needed. It is dropped, and
    /// counted, when the node's queue is full, the node cannot be reached or the connection breaks before it answered.
    pub fn send(&self, to: NodeId, message: Message) {
        let counters = &self.shared.counters;
        if to == self.shared.me || !self.shared.door.is_admitted(&to) {
            return counters.messages_lost.add();
        }
        let peer = self.shared.peer(to);
        let kind = table::of_message(&message);
        let bytes = frame(kind.number, &Request::Deliver(Box::new(message)));
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if len.saturating_sub(HEADER_BYTES as u32) > kind.request_bytes_max {
            tracing::error!(kind = kind.name, len, "message is larger than its kind may be");
            return counters.messages_lost.add();
        }
        let room = Arc::clone(&peer.parcel_bytes).try_acquire_many_owned(len.div_ceil(1024));
        let queued = room.is_ok_and(|room| {
            let parcel = Parcel { kind: kind.number, frame: bytes, _bytes: room };
            peer.parcels.try_send(parcel).is_ok()
        });
        if !queued {
            counters.messages_overflowed.add();
        }
    }

    /// Asks `to` and waits for its answer. If the connection is lost meanwhile the request is sent a second time, so
    /// it must be one that may be repeated; all are.
    ///
    /// # Errors
    /// [`RequestError`].
    pub async fn request(&self, to: NodeId, request: Request) -> Result<Response, RequestError> {
        client::request(&self.shared, to, &request).await
    }

    /// Asks `to` for bytes of a blob. The stream ends where the peer ended it; whether these are the right bytes the
    /// caller verifies. It fails with [`Stalled`](crate::Stalled) when it is too slow.
    ///
    /// # Errors
    /// [`RangeError`].
    pub async fn open_range(&self, to: NodeId, wanted: RangeWanted) -> Result<(RangeHead, ByteStream), RangeError> {
        client::open_range(&self.shared, to, wanted).await
    }

    /// Knocks at a node that may not know this one. A welcome ends the backoff of dials to it.
    ///
    /// # Errors
    /// [`KnockError`]; a refusal by the door is an answer.
    pub async fn knock(&self, door: NodeAddr, knock: Knock) -> Result<KnockReply, KnockError> {
        knock::knock(&self.shared, &door, knock).await
    }

    /// Stops: lets nobody in, gives requests in progress [`Limits::drain`](crate::Limits::drain) to end, closes every
    /// connection with its reason, and returns when no task is left.
    pub async fn shutdown(&self) {
        self.shared.cancel.cancel();
        self.stopped.cancelled().await;
    }
}

/// Waits for the stop, then for every task, then closes the endpoint.
async fn stop(shared: Arc<Shared>, stopped: CancellationToken) {
    shared.cancel.cancelled().await;
    shared.tasks.close();
    shared.tasks.wait().await;
    shared.endpoint.close().await;
    tracing::info!(node = %shared.me.short(), "transport stopped");
    drop(shared);
    stopped.cancel();
}
