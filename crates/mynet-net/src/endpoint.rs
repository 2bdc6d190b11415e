//! The QUIC endpoint: settings, and the loop that lets connections in.
//!
//! ```text
//! packet -> place left? -> address proven or few half-open? -> address not charged too often? -> handshake (10 s)
//!   main protocol:  admitted? -> greeting -> adopted by the peer's actor          else close(NotAdmitted), charge
//!   knock protocol: charge -> place for a stranger? -> one knock                  else close(Busy)
//! ```
//!
//! **Invariants**
//! 1. No server of others is ever contacted: no relay, no discovery, no port mapping.
//! 2. A stranger is never more than a handshake, one stream and one request.
//! 3. A panic in one connection's task ends that connection alone: this loop spawns and never joins handlers.
//!
//! Settings that are kept on purpose: QUIC's default stream window of 1.25 MB, because larger ones let the QUIC library
//! end connections whose reader lags ("too many gaps in stream buffer"); the default order of cipher suites, because
//! the library derives its token key for the first one and needs a 256-bit suite there.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use iroh::{
    Endpoint, RelayMode, SecretKey,
    endpoint::{
        BindError, Connection, IdleTimeout, Incoming, IncomingAddr, InvalidSocketAddr, NetReportConfig,
        PortmapperConfig, QuicTransportConfig, VarInt, VarIntBoundsExceeded, presets,
    },
};
use mynet_types::NodeId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout},
};

use crate::{
    config::{Limits, NetConfig},
    hello::{self, KNOCK_ALPN, Live, main_alpn},
    knock,
    pool::Shared,
    refusal::Refusal,
};

/// Receive window of a connection that is not greeted yet: one knock of the largest size and its frame.
const STRANGER_WINDOW: u32 = 5 * 1024 * 1024;

/// Why the transport does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {listen}: {source}")]
    Bind {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        source: Box<BindError>,
    },
    /// Not an address to listen on.
    #[error("cannot listen on {listen}: {source}")]
    Address {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: InvalidSocketAddr,
    },
    /// A limit is out of range.
    #[error("the idle limit is out of range: {0}")]
    Idle(#[from] VarIntBoundsExceeded),
    /// The system gave no address for the socket that it opened.
    #[error("the socket has no address")]
    NoAddress,
}

fn transport(limits: &Limits) -> Result<QuicTransportConfig, StartError> {
    Ok(QuicTransportConfig::builder()
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(STRANGER_WINDOW))
        .keep_alive_interval(limits.keep_alive)
        .default_path_keep_alive_interval(limits.keep_alive)
        .max_idle_timeout(Some(IdleTimeout::try_from(limits.idle)?))
        .default_path_max_idle_timeout(limits.idle)
        .build())
}

/// Opens the endpoint.
///
/// # Errors
/// [`StartError`].
pub(crate) async fn bind(config: &NetConfig) -> Result<Endpoint, StartError> {
    let listen = config.listen;
    let address = |source| StartError::Address { listen, source };
    // Ring with its default suites; see the module's head.
    let crypto = Arc::new(rustls::crypto::ring::default_provider());
    Endpoint::builder(presets::Empty)
        .crypto_provider(crypto)
        .secret_key(SecretKey::from_bytes(&config.secret))
        .relay_mode(RelayMode::Disabled)
        .clear_address_lookup()
        .portmapper_config(PortmapperConfig::Disabled)
        .net_report_config(NetReportConfig::minimal())
        // The accepter's order decides, so the main protocol is taken wherever it is offered.
        .alpns(vec![main_alpn(&config.network_id), KNOCK_ALPN.to_vec()])
        .transport_config(transport(&config.limits)?)
        .clear_ip_transports()
        .bind_addr(listen)
        .map_err(address)?
        .bind()
        .await
        .map_err(|source| StartError::Bind { listen, source: Box::new(source) })
}

/// Lets connections in until the transport stops.
pub(crate) async fn accept_loop(shared: Arc<Shared>) {
    let half_open = Arc::new(Semaphore::new(shared.limits.connections));
    loop {
        let incoming = tokio::select! {
            biased;
            () = shared.cancel.cancelled() => return,
            incoming = shared.endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { return };
        admit(&shared, &half_open, incoming);
    }
}

/// Decides what can be decided before the handshake.
fn admit(shared: &Arc<Shared>, half_open: &Arc<Semaphore>, incoming: Incoming) {
    let in_progress = shared.limits.connections.saturating_sub(half_open.available_permits());
    let places = (Arc::clone(&shared.places).try_acquire_owned(), Arc::clone(half_open).try_acquire_owned());
    let ip = match incoming.remote_addr() {
        IncomingAddr::Ip(addr) => Some(addr.ip()),
        // No other transport is configured.
        _ => None,
    };
    let is_exhausted = ip.is_some_and(|ip| !shared.book.knows_ip(ip) && shared.gate.is_exhausted(ip, Instant::now()));
    match places {
        (Ok(place), Ok(handshaking)) if !is_exhausted => {
            if in_progress >= shared.limits.half_open && !incoming.remote_addr_validated() {
                // Fails only if the address is validated, which was just ruled out.
                let _validated = incoming.retry();
                return;
            }
            shared.tasks.spawn(handshake(Arc::clone(shared), incoming, ip, (place, handshaking)));
        }
        _ => {
            shared.counters.refused.add();
            incoming.refuse();
        }
    }
}

/// Finishes one handshake and hands the connection on.
async fn handshake(
    shared: Arc<Shared>,
    incoming: Incoming,
    ip: Option<IpAddr>,
    (place, handshaking): (OwnedSemaphorePermit, OwnedSemaphorePermit),
) {
    let accepting = async { timeout(shared.limits.handshake, incoming).await };
    let Some(Ok(Ok(connection))) = shared.cancel.run_until_cancelled(accepting).await else {
        shared.counters.handshakes_failed.add();
        return;
    };
    drop(handshaking);
    let from = NodeId(*connection.remote_id().as_bytes());
    if connection.alpn() == shared.main_alpn {
        let greeted = greeted(&shared, from, connection.clone(), place);
        match shared.cancel.run_until_cancelled(greeted).await {
            Some(Ok(())) => {}
            Some(Err(reason)) => {
                if reason == Refusal::NotAdmitted {
                    shared.counters.not_admitted.add();
                    charge(&shared, ip);
                }
                tracing::debug!(peer = %from.short(), %reason, "connection closed");
                reason.close(&connection);
            }
            None => Refusal::ShuttingDown.close(&connection),
        }
        return;
    }
    // Knocks of a known neighbourhood are not counted against its address; places for strangers bound them.
    let welcome = charge(&shared, ip) || ip.is_some_and(|ip| shared.book.knows_ip(ip));
    match shared.gate.enter().filter(|_| welcome) {
        Some(_place) => knock::serve(&shared, from, &connection).await,
        None => {
            shared.counters.refused.add();
            Refusal::Busy.close(&connection);
        }
    }
    drop(place);
}

/// Charges an address for a stranger.
fn charge(shared: &Shared, ip: Option<IpAddr>) -> bool {
    ip.is_none_or(|ip| shared.gate.charge(ip, Instant::now()))
}

/// Greets an accepted connection and gives it to the peer's actor.
async fn greeted(
    shared: &Arc<Shared>,
    from: NodeId,
    connection: Connection,
    place: OwnedSemaphorePermit,
) -> Result<(), Refusal> {
    if !shared.door.is_admitted(&from) || from == shared.me {
        return Err(Refusal::NotAdmitted);
    }
    let hello = timeout(shared.limits.first_byte, hello::await_hello(&connection)).await;
    let (hello, send) = hello.unwrap_or(Err(Refusal::Protocol))?;
    let live = Live::new(connection, from, hello.instance, place);
    if !shared.peer(from).adopt(Arc::clone(&live)).await {
        return Err(Refusal::Duplicate);
    }
    shared.counters.accepted.add();
    hello::answer_hello(shared, &live.connection, send).await.map_err(|_lost| Refusal::Protocol)
}
