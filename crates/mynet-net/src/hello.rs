//! Opening a connection: handshake, then a greeting that both sides must pass before anything else is said.
//!
//! The dialer offers two protocol names: the main one, which carries the network id, and the knock protocol, which every
//! node speaks. A node of the same network takes the main one. A node of another network can take only the other, and so
//! the dialer learns in one handshake that it met a stranger, instead of failing without a reason.
//!
//! ```text
//! dialer                                                    accepter
//!   TLS 1.3, both keys proven  <------------------------->    door: admitted? else close(NotAdmitted)
//!   hello { instance }  --------------------------------->    two connections? keep one, close(Duplicate) the other
//!                       <---------------------------------  hello { instance }
//! ```
//!
//! **Invariants**
//! 1. A connection carries requests only after both doors admitted the other side.
//! 2. Before that it may have one stream and little memory: the transport starts with a stranger's limits and is
//!    raised here.
//! 3. `instance` is drawn at each start, so a peer that came back is told from one that was always there.

use std::{sync::Arc, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use iroh::{
    EndpointAddr, EndpointId, TransportAddr,
    endpoint::{ConnectOptions, Connection, RecvStream, SendStream, VarInt},
};
use mynet_types::{NetworkId, NodeId};
use tokio::{
    io::AsyncWriteExt,
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use crate::{
    config::Limits,
    frame::{FrameError, frame, read_answer},
    pool::Shared,
    refusal::{DialError, Refusal},
    stream::QuicWriter,
    table,
};

/// Name of the knock protocol: the same in every network.
pub(crate) const KNOCK_ALPN: &[u8] = b"mynet-knock/1";

/// Name of the main protocol of one network.
pub(crate) fn main_alpn(network: &NetworkId) -> Vec<u8> {
    format!("mynet/1/{network}").into_bytes()
}

/// Says which start of the program speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Hello {
    /// Random, drawn at the start.
    pub instance: u64,
}

/// What two connections to one peer are compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    /// Who dialed.
    pub(crate) opener: NodeId,
    /// Which start of the peer's program.
    pub(crate) instance: u64,
    /// When it was greeted here.
    pub(crate) since: Instant,
}

impl Claim {
    /// Whether the connection of this claim takes the place of the one of `old`, to the same peer.
    ///
    /// Both sides come to the same answer: of two that were dialed at once the one of the smaller node id stays. It was
    /// not at once if the peer started anew, or dialed twice, or if the old one is older than a `dial` may take: then
    /// its opener had lost it before it dialed, whatever this side still believes.
    pub(crate) fn replaces(&self, old: &Self, dial: Duration) -> bool {
        self.instance != old.instance
            || self.opener == old.opener
            || self.since.saturating_duration_since(old.since) > dial
            || self.opener < old.opener
    }
}

/// A greeted connection.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) connection: Connection,
    pub(crate) claim: Claim,
    _place: OwnedSemaphorePermit,
}

impl Live {
    pub(crate) fn new(connection: Connection, opener: NodeId, instance: u64, place: OwnedSemaphorePermit) -> Arc<Self> {
        let claim = Claim { opener, instance, since: Instant::now() };
        Arc::new(Self { connection, claim, _place: place })
    }
}

/// Raises the limits of a connection to those of an admitted peer.
fn raise(connection: &Connection, limits: &Limits) {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(limits.streams_per_peer));
    connection.set_receive_window(VarInt::from_u32(limits.receive_window));
}

/// Dials `node`, greets it and returns the connection. Takes at most [`Limits::dial`].
///
/// # Errors
/// [`DialError`]; a connection that was opened is closed again.
pub(crate) async fn dial(shared: Arc<Shared>, node: NodeId) -> Result<Arc<Live>, DialError> {
    if !shared.door.is_admitted(&node) {
        return Err(DialError::NotAdmittedHere);
    }
    let addrs = shared.book.get(&node);
    if addrs.is_empty() {
        return Err(DialError::NoAddress);
    }
    let place = Arc::clone(&shared.places).try_acquire_owned().map_err(|_full| DialError::Closed)?;
    let dialing = async {
        let options = ConnectOptions::new().with_additional_alpns(vec![KNOCK_ALPN.to_vec()]);
        let connection = connect(&shared, (node, &addrs), &shared.main_alpn, options).await?;
        if connection.alpn() != shared.main_alpn {
            Refusal::Done.close(&connection);
            return Err(DialError::OtherNetwork);
        }
        let reply = greet(&shared, &connection).await.map_err(|error| DialError::of_greeting(&connection, error))?;
        raise(&connection, &shared.limits);
        Ok(Live::new(connection, shared.me, reply.instance, place))
    };
    timeout(shared.limits.dial, dialing).await.unwrap_or(Err(DialError::Timeout))
}

/// Opens a connection to `node` at any of `addrs`.
pub(crate) async fn connect(
    shared: &Shared,
    (node, addrs): (NodeId, &[std::net::SocketAddr]),
    alpn: &[u8],
    options: ConnectOptions,
) -> Result<Connection, DialError> {
    let id = EndpointId::from_bytes(&node.0).map_err(|_invalid| DialError::NotANode)?;
    if node == shared.me {
        return Err(DialError::NotANode);
    }
    let addr = EndpointAddr::from_parts(id, addrs.iter().copied().map(TransportAddr::Ip));
    let connecting =
        shared.endpoint.connect_with_opts(addr, alpn, options).await.map_err(|error| DialError::of(error.into()))?;
    connecting.await.map_err(|error| DialError::of(error.into()))
}

/// Sends the greeting and reads the other one.
async fn greet(shared: &Shared, connection: &Connection) -> Result<Hello, FrameError> {
    let kind = table::of_hello();
    let (send, mut reader) = connection.open_bi().await.map_err(std::io::Error::from)?;
    let mut writer = QuicWriter::new(send);
    writer.write_all(&frame(kind.number, &Hello { instance: shared.instance })).await?;
    writer.shutdown().await?;
    read_answer(&mut reader, kind.number, kind.reply_bytes_max).await
}

/// Waits for the dialer's greeting on an accepted connection.
///
/// # Errors
/// Why the connection is to be closed.
pub(crate) async fn await_hello(connection: &Connection) -> Result<(Hello, SendStream), Refusal> {
    let kind = table::of_hello();
    let (send, mut reader): (SendStream, RecvStream) =
        connection.accept_bi().await.map_err(|_lost| Refusal::Protocol)?;
    if reader.is_0rtt() {
        return Err(Refusal::Protocol);
    }
    match read_answer(&mut reader, kind.number, kind.request_bytes_max).await {
        Ok(hello) => Ok((hello, send)),
        Err(FrameError::Version(_)) => Err(Refusal::Version),
        Err(_) => Err(Refusal::Protocol),
    }
}

/// Answers a greeting: from here on the dialer may ask.
///
/// # Errors
/// Those of the stream; the connection is lost then.
pub(crate) async fn answer_hello(shared: &Shared, connection: &Connection, send: SendStream) -> std::io::Result<()> {
    raise(connection, &shared.limits);
    let mut writer = QuicWriter::new(send);
    writer.write_all(&frame(table::of_hello().number, &Hello { instance: shared.instance })).await?;
    writer.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_types::NodeId;
    use tokio::time::Instant;

    use super::Claim;

    const DIAL: Duration = Duration::from_secs(5);

    #[test]
    fn of_two_connections_both_sides_keep_the_same() {
        let now = Instant::now();
        let claim = |opener: u8, after: u64| Claim {
            opener: NodeId([opener; 32]),
            instance: 7,
            since: now + Duration::from_secs(after),
        };
        // Whichever came first on a side, the one of the smaller id stays.
        assert!(claim(1, 1).replaces(&claim(2, 0), DIAL));
        assert!(!claim(2, 1).replaces(&claim(1, 0), DIAL));
        // The same side dialed again, or dialed when a simultaneous dial had long ended.
        assert!(claim(2, 1).replaces(&claim(2, 0), DIAL));
        assert!(claim(2, 6).replaces(&claim(1, 0), DIAL));
        // The peer started anew.
        assert!(Claim { instance: 8, ..claim(2, 1) }.replaces(&claim(1, 0), DIAL));
    }
}
