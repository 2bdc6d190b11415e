//! What a node's transport is told at its start: identity, address, limits.

use std::{fmt, net::SocketAddr, time::Duration};

use mynet_types::NetworkId;

use crate::{rate::Rate, stream::Stall};

/// Who this node is and where it listens.
#[derive(Clone)]
pub struct NetConfig {
    /// Seed of the node's Ed25519 key; its public key is the node id.
    pub secret: [u8; 32],
    /// The network; part of the main protocol's name, so that nodes of other networks fail in the handshake.
    pub network_id: NetworkId,
    /// UDP address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Limits; [`Limits::default`] unless a test shortens them.
    pub limits: Limits,
}

/// Without the secret.
impl fmt::Debug for NetConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetConfig")
            .field("network_id", &self.network_id)
            .field("listen", &self.listen)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

/// Bounds on everything that a peer can make this node spend. The defaults are for servers on the open internet.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Connections in all, in and out. An idle one costs about 100 KiB, so the default is 400 MiB.
    pub connections: usize,
    /// Idle connections to peers that were not asked for by `set_peers`; the least recently used goes first.
    pub idle_connections: usize,
    /// Handshakes in progress above which a newcomer must prove its address first (QUIC Retry).
    pub half_open: usize,
    /// Strangers at a time.
    pub strangers: usize,
    /// Strangers per address (IPv6: per /64).
    pub strangers_per_ip: Rate,
    /// Requests that a peer may have open, of all kinds; enforced by QUIC.
    pub streams_per_peer: u32,
    /// Ranges among them, in each direction: the rest stays free for control messages. Sixteen full QUIC stream windows
    /// (1.25 MB each) are what [`Limits::receive_window`] leaves to bulk.
    pub ranges_per_peer: usize,
    /// Messages waiting for one peer. More are dropped, newest first: those ahead are closer to delivery, and cores
    /// repeat what matters.
    pub queue_messages: usize,
    /// Bytes waiting for one peer.
    pub queue_bytes: usize,
    /// Messages sent to one peer and not yet answered.
    pub window_messages: usize,
    /// Bytes of request bodies being read from one peer.
    pub body_bytes_per_peer: usize,
    /// Bytes of request bodies being read from all peers.
    pub body_bytes: usize,
    /// QUIC receive window of one admitted connection: bytes that it may make this node buffer.
    pub receive_window: u32,
    /// From the first packet of an incoming connection to its greeting.
    pub handshake: Duration,
    /// From an opened stream, or the frame before, to the first byte of a frame.
    pub first_byte: Duration,
    /// From the first byte of a control message to its last, and from the end of a message to its answer.
    pub control: Duration,
    /// A request as a whole: dialing, sending, waiting for the answer.
    pub request: Duration,
    /// A dial as a whole, with the greeting. Also how long two connections can be rivals of a simultaneous dial.
    pub dial: Duration,
    /// A knock as a whole, on the side that knocks; the other side verifies up to 1,024 roster links.
    pub knock: Duration,
    /// Slowest stream of bulk bytes, in both directions.
    pub stall: Stall,
    /// Silence after which a packet is sent to keep a connection alive; at most 5 s.
    pub keep_alive: Duration,
    /// Silence after which a connection is lost; at most 15 s. Four lost keep-alives.
    pub idle: Duration,
    /// First wait between dials of one peer; doubles up to [`Limits::redial_max`], each with up to half of it as jitter.
    pub redial_min: Duration,
    /// Longest wait between dials of one peer.
    pub redial_max: Duration,
    /// How long requests in progress may go on when the node stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            idle_connections: 256,
            half_open: 200,
            strangers: 16,
            strangers_per_ip: Rate { burst: 8, tokens: 1, per: Duration::from_secs(1) },
            streams_per_peer: 64,
            ranges_per_peer: 16,
            queue_messages: 1_024,
            queue_bytes: 32 * 1024 * 1024,
            window_messages: 256,
            body_bytes_per_peer: 8 * 1024 * 1024,
            body_bytes: 512 * 1024 * 1024,
            receive_window: 24 * 1024 * 1024,
            handshake: Duration::from_secs(10),
            first_byte: Duration::from_secs(5),
            control: Duration::from_secs(10),
            request: Duration::from_secs(15),
            dial: Duration::from_secs(5),
            knock: Duration::from_secs(30),
            stall: Stall::default(),
            keep_alive: Duration::from_millis(1_500),
            idle: Duration::from_secs(6),
            redial_min: Duration::from_millis(200),
            redial_max: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// How long an empty message stream is kept open: well below [`Limits::first_byte`], after which the peer gives up.
    pub(crate) fn linger(&self) -> Duration {
        self.first_byte / 2
    }
}
