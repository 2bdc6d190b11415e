//! Knocking: the one thing a stranger may do. One connection, one stream, one request, one answer.
//!
//! **Invariants**
//! 1. The door hears only knocks whose records name the node that the handshake proved and carry its signature.
//! 2. A stranger gets [`Limits::control`](crate::Limits::control) to finish its request, and one place of few.
//! 3. Every refusal that is not a broken protocol is an answer, with its reason.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use borsh::{BorshDeserialize, BorshSerialize};
use iroh::endpoint::{ConnectOptions, Connection, SendStream};
use mynet_types::{
    NetworkId, NodeId, SignedNodeRecord,
    rpc::{Knock, KnockRefusal, KnockReply},
    wire::WIRE_VERSION,
};
use tokio::{io::AsyncWriteExt, time::timeout};

use crate::{
    frame::{self, FrameError, frame, read_answer},
    hello::{KNOCK_ALPN, connect},
    pool::Shared,
    refusal::{DialError, Refusal},
    stream::QuicWriter,
    table::{self, Body, Who},
};

/// How long the answered stranger may take to close, so that the answer is not lost.
const FAREWELL_MAX: Duration = Duration::from_secs(5);

/// A knock as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct KnockRequest {
    /// The network that the stranger wants to enter.
    pub network_id: NetworkId,
    /// What it says.
    pub knock: Knock,
}

/// A node and where to find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddr {
    /// The node; the handshake fails with any other.
    pub node: NodeId,
    /// Where it may be.
    pub addrs: Vec<SocketAddr>,
}

/// Why a knock got no answer.
#[derive(Debug, thiserror::Error)]
pub enum KnockError {
    /// The door could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The answer is none.
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] FrameError),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

/// Knocks at `door`. Takes at most [`Limits::knock`](crate::Limits::knock).
pub(crate) async fn knock(shared: &Arc<Shared>, door: &NodeAddr, knock: Knock) -> Result<KnockReply, KnockError> {
    let exchange = async {
        let kind = table::of_knock(&knock);
        let request = frame(kind.number, &KnockRequest { network_id: shared.network_id, knock });
        let dialing = connect(shared, (door.node, &door.addrs), KNOCK_ALPN, ConnectOptions::new());
        let connection = timeout(shared.limits.dial, dialing).await.unwrap_or(Err(DialError::Timeout))?;
        let reply = ask(&connection, &request, kind).await;
        let reply = reply.map_err(|error| match DialError::of_greeting(&connection, io::Error::other("closed")) {
            refused @ DialError::Refused { .. } => KnockError::Dial(refused),
            _ => KnockError::Answer(error),
        });
        Refusal::Done.close(&connection);
        reply
    };
    let reply = timeout(shared.limits.knock, exchange).await.unwrap_or(Err(KnockError::Timeout))?;
    if let (KnockReply::Welcome(_), Some(peer)) = (&reply, shared.known(&door.node)) {
        peer.retry_now();
    }
    Ok(reply)
}

async fn ask(connection: &Connection, request: &[u8], kind: &table::Kind) -> Result<KnockReply, FrameError> {
    let (send, mut reader) = connection.open_bi().await.map_err(io::Error::from)?;
    let mut writer = QuicWriter::new(send);
    writer.write_all(request).await?;
    writer.shutdown().await?;
    read_answer(&mut reader, kind.number, kind.reply_bytes_max).await
}

/// Answers the knock on an accepted connection and closes it.
pub(crate) async fn serve(shared: &Arc<Shared>, from: NodeId, connection: &Connection) {
    let outcome = shared.cancel.run_until_cancelled(answer(shared, from, connection)).await;
    match outcome {
        Some(Ok(())) => {
            // The stranger closes once it has read the answer.
            let _closed_or_late = timeout(FAREWELL_MAX, connection.closed()).await;
            Refusal::Done.close(connection);
        }
        Some(Err(reason)) => reason.close(connection),
        None => Refusal::ShuttingDown.close(connection),
    }
}

async fn answer(shared: &Arc<Shared>, from: NodeId, connection: &Connection) -> Result<(), Refusal> {
    let read = timeout(shared.limits.control, read_knock(shared, connection)).await;
    let (kind, request, send) = read.map_err(|_late| {
        shared.counters.timed_out.add();
        Refusal::Protocol
    })??;
    let reply = match request.map(|request| judge(shared, from, *request)) {
        Some(Ok(knock)) => timeout(shared.limits.knock, shared.door.knock(from, knock))
            .await
            .unwrap_or(KnockReply::Refused(KnockRefusal::Busy)),
        Some(Err(refusal)) => KnockReply::Refused(refusal),
        None => KnockReply::Refused(KnockRefusal::Malformed),
    };
    shared.counters.knocks.add();
    if let KnockReply::Refused(refusal) = &reply {
        tracing::info!(peer = %from.short(), %refusal, "knock refused");
    }
    let mut writer = QuicWriter::new(send);
    let bytes = frame(kind, &reply);
    let written = timeout(shared.limits.control, async {
        writer.write_all(&bytes).await?;
        writer.shutdown().await
    });
    if matches!(written.await, Ok(Ok(()))) { Ok(()) } else { Err(Refusal::Protocol) }
}

/// Reads the one request; its body is `None` if it is malformed.
type ReadKnock = (u16, Option<Box<KnockRequest>>, SendStream);

async fn read_knock(shared: &Shared, connection: &Connection) -> Result<ReadKnock, Refusal> {
    let protocol = |_broken: io::Error| Refusal::Protocol;
    let (send, mut reader) = connection.accept_bi().await.map_err(|_lost| Refusal::Protocol)?;
    if reader.is_0rtt() {
        return Err(Refusal::Protocol);
    }
    let first = timeout(shared.limits.first_byte, frame::read_first(&mut reader)).await;
    let first = first.map_err(|_late| Refusal::Protocol)?.map_err(protocol)?.ok_or(Refusal::Protocol)?;
    let header = frame::read_header(first, &mut reader).await.map_err(protocol)?;
    if header.version != WIRE_VERSION {
        shared.counters.other_versions.add();
        return Err(Refusal::Version);
    }
    let kind = table::find(header.kind).filter(|kind| kind.who == Who::Stranger).ok_or_else(|| {
        shared.counters.forbidden.add();
        Refusal::NotAdmitted
    })?;
    if header.len > kind.request_bytes_max {
        shared.counters.oversized.add();
        return Err(Refusal::Protocol);
    }
    let body = frame::read_body(&mut reader, header.len).await.map_err(protocol)?;
    let knock = match (kind.decode)(kind, &body) {
        Ok(Body::Knock(request)) => Some(request),
        Ok(Body::Hello(_) | Body::Request(_)) | Err(_) => {
            shared.counters.malformed.add();
            None
        }
    };
    Ok((header.kind, knock, send))
}

/// Checks what needs no knowledge but the network's id: that it is about this network, and about `from`.
fn judge(shared: &Shared, from: NodeId, request: KnockRequest) -> Result<Knock, KnockRefusal> {
    if request.network_id != shared.network_id {
        return Err(KnockRefusal::OtherNetwork);
    }
    let is_own = |record: &SignedNodeRecord| record.body.node == from && record.verify(&shared.network_id).is_ok();
    let honest = match &request.knock {
        Knock::Redeem { record, .. } => is_own(record),
        Knock::Present { admission, record, .. } => admission.body.node == from && is_own(record),
    };
    if honest {
        return Ok(request.knock);
    }
    shared.counters.knocks_forged.add();
    Err(KnockRefusal::Malformed)
}
