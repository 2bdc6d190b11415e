//! Asking: requests and ranges of this node at its peers.

use std::{io, sync::Arc};

use mynet_types::{
    NodeId,
    rpc::{Request, Response},
};
use tokio::{io::AsyncWriteExt, sync::Semaphore, time::timeout};

use crate::{
    frame::{FrameError, HEADER_BYTES, frame, read_answer},
    hello::Live,
    peer::Peer,
    pool::Shared,
    refusal::DialError,
    serve::CONTROL_PRIORITY,
    service::{RangeHead, RangeWanted},
    stream::{ByteStream, QuicWriter},
    table::{self, Kind},
};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// The peer could not be reached.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The connection or the stream broke; the peer may have heard the request.
    #[error("the answer cannot be read: {0}")]
    Answer(#[from] FrameError),
    /// No answer within [`Limits::request`](crate::Limits::request); the peer may have heard the request.
    #[error("no answer in time")]
    Timeout,
    /// The request is larger than its kind may be; nothing was sent.
    #[error("{len} bytes, a {kind} request may have {max}")]
    TooLarge {
        /// The kind.
        kind: &'static str,
        /// Bytes of the request.
        len: usize,
        /// Bytes allowed.
        max: u32,
    },
    /// Ranges are asked for with `open_range`.
    #[error("a range is no plain request")]
    IsRange,
}

/// Why no bytes come.
#[derive(Debug, thiserror::Error)]
pub enum RangeError {
    /// No answer.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The peer has an answer, but no bytes: `NotHere`, `Busy`, `Unsupported` or `Failed`.
    #[error("the peer sends no bytes: {0:?}")]
    Declined(Response),
}

/// A request ready to be sent.
struct Prepared {
    kind: &'static Kind,
    bytes: bytes::Bytes,
}

fn prepare(request: &Request) -> Result<Prepared, RequestError> {
    let kind = table::of_request(request);
    let bytes = frame(kind.number, request);
    let len = bytes.len() - HEADER_BYTES;
    if u32::try_from(len).is_ok_and(|len| len <= kind.request_bytes_max) {
        Ok(Prepared { kind, bytes })
    } else {
        Err(RequestError::TooLarge { kind: kind.name, len, max: kind.request_bytes_max })
    }
}

/// Asks `to` and waits for its answer. Takes at most [`Limits::request`](crate::Limits::request).
pub(crate) async fn request(shared: &Arc<Shared>, to: NodeId, request: &Request) -> Result<Response, RequestError> {
    if matches!(request, Request::Range { .. }) {
        return Err(RequestError::IsRange);
    }
    let prepared = prepare(request)?;
    let asking = async {
        let peer = reach(shared, to)?;
        let in_use = peer.in_use();
        let places = Arc::clone(&peer.asking);
        let (response, _stream) = exchange(shared, &peer, places, &prepared).await?;
        drop(in_use);
        Ok(response)
    };
    timeout(shared.limits.request, asking).await.unwrap_or(Err(RequestError::Timeout))
}

/// Asks `to` for bytes and returns the stream that carries them. Takes at most
/// [`Limits::request`](crate::Limits::request) until the first byte; after that the stall detector watches.
pub(crate) async fn open_range(
    shared: &Arc<Shared>,
    to: NodeId,
    RangeWanted { sha256, offset, len }: RangeWanted,
) -> Result<(RangeHead, ByteStream), RangeError> {
    let prepared = prepare(&Request::Range { sha256, offset, len })?;
    let asking = async {
        let peer = reach(shared, to)?;
        let in_use = peer.in_use();
        let places = Arc::clone(&peer.pulling);
        let (response, stream) = exchange(shared, &peer, places, &prepared).await?;
        Ok::<_, RequestError>((response, stream, in_use))
    };
    let asked = timeout(shared.limits.request, asking).await.unwrap_or(Err(RequestError::Timeout))?;
    match asked {
        (Response::Range { size, blake3 }, (stream, place), in_use) => {
            let stream = stream.holding(Arc::clone(&shared.counters), (place, in_use));
            Ok((RangeHead { size, blake3 }, stream))
        }
        (declined, _stream, _in_use) => Err(RangeError::Declined(declined)),
    }
}

fn reach(shared: &Arc<Shared>, to: NodeId) -> Result<Arc<Peer>, DialError> {
    if to == shared.me {
        return Err(DialError::NotANode);
    }
    if !shared.door.is_admitted(&to) {
        return Err(DialError::NotAdmittedHere);
    }
    Ok(shared.peer(to))
}

/// A stream whose answer was read, and its place.
type Answered = (Response, (ByteStream, tokio::sync::OwnedSemaphorePermit));

/// Sends a request on a stream of its own and reads the answer.
///
/// When the connection is lost meanwhile the request is sent once more, on whatever connection there is then: two nodes
/// that dial each other at once close one of two connections. All requests may be repeated.
async fn exchange(
    shared: &Shared,
    peer: &Peer,
    places: Arc<Semaphore>,
    prepared: &Prepared,
) -> Result<Answered, RequestError> {
    let place = places.acquire_owned().await.map_err(|_closed| DialError::Closed)?;
    let live = peer.connect().await?;
    let mut answered = attempt(shared, &live, prepared).await;
    if answered.is_err() && live.connection.close_reason().is_some() {
        answered = attempt(shared, &*peer.connect().await?, prepared).await;
    }
    let (response, stream) = answered?;
    Ok((response, (stream, place)))
}

async fn attempt(shared: &Shared, live: &Live, prepared: &Prepared) -> Result<(Response, ByteStream), FrameError> {
    let (send, mut reader) = live.connection.open_bi().await.map_err(io::Error::from)?;
    // Fails only if the stream is already gone, which the write tells.
    let _gone = send.set_priority(CONTROL_PRIORITY);
    let mut writer = QuicWriter::new(send);
    writer.write_all(&prepared.bytes).await?;
    writer.shutdown().await?;
    let response = read_answer(&mut reader, prepared.kind.number, prepared.kind.reply_bytes_max).await?;
    Ok((response, ByteStream::new(Box::new(reader), Box::new(writer), shared.limits.stall)))
}
