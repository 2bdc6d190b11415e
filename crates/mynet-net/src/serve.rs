//! Serving: streams that a peer opens, frame by frame.
//!
//! ```text
//! accept stream -> header -> kind known, allowed, small enough, within its rate? -> body -> decode -> service -> answer
//!                    ^                                                                                         |
//!                    +------------------------------------------ next frame -----------------------------------+
//! ```
//!
//! **Invariants**
//! 1. Everything is checked that the header tells before a byte of the body is read.
//! 2. Bodies being read are bounded per peer and in all, besides the bound of each kind.
//! 3. A peer has at most [`Limits::streams_per_peer`](crate::Limits::streams_per_peer) streams, of which ranges take a
//!    fixed part; the rest is always there for control messages, which also go first on the wire.
//! 4. A stream that breaks a rule is told so if that is possible, counted, and closed; the connection goes on.
//!
//! [`stream`] knows nothing of QUIC: another plane can hand in its own halves.

use std::{io, sync::Arc, time::Duration};

use iroh::endpoint::{Connection, RecvStream, SendStream};
use mynet_types::{
    BoundedString, NodeId,
    rpc::{Request, Response},
    wire::WIRE_VERSION,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
    time::timeout,
};

use crate::{
    frame::{self, Header, frame},
    hello::Live,
    peer::Peer,
    pool::Shared,
    refusal::Refusal,
    service::{RangeReply, RangeWanted},
    stats::Counter,
    stream::{BoxReader, BoxWriter, QuicWriter},
    table::{self, Body, Kind, Who},
};

/// Control answers go before bulk bytes, which have QUIC's default priority of zero.
pub(crate) const CONTROL_PRIORITY: i32 = 1;

/// One peer being served.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
}

/// Why a stream ends before its peer ended it.
#[derive(Debug, thiserror::Error)]
enum StreamEnd {
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something did not come in time.
    #[error("too slow")]
    TimedOut,
    /// A rule was broken, and the peer was told.
    #[error("{0}")]
    Rule(&'static str),
    /// The node stops.
    #[error("shutting down")]
    ShuttingDown,
}

/// What is to be done with one request.
enum Step {
    Answer(Response),
    /// The answer, and no further frame.
    Last(&'static str),
    Ask(Request),
    Range(RangeWanted, OwnedSemaphorePermit),
}

impl Session {
    pub(crate) fn new(shared: Arc<Shared>, peer: Arc<Peer>) -> Self {
        Self { shared, peer }
    }

    fn from(&self) -> NodeId {
        self.peer.node
    }

    fn is_admitted(&self) -> bool {
        self.shared.door.is_admitted(&self.peer.node)
    }
}

/// Serves the streams of one connection until it closes, then lets those in progress end.
pub(crate) async fn connection(session: Session, live: Arc<Live>) {
    let mut streams = JoinSet::new();
    let stopping = loop {
        tokio::select! {
            biased;
            () = session.shared.cancel.cancelled() => break true,
            Some(ended) = streams.join_next() => report(&session, ended),
            accepted = live.connection.accept_bi() => match accepted {
                Ok((send, recv)) if session.is_admitted() => accept(&session, &mut streams, send, recv),
                Ok(_) => {
                    session.shared.counters.not_admitted.add();
                    Refusal::NotAdmitted.close(&live.connection);
                    break false;
                }
                Err(_lost) => break false,
            },
        }
    };
    let rest = async {
        while let Some(ended) = streams.join_next().await {
            report(&session, ended);
        }
    };
    if timeout(session.shared.limits.drain, rest).await.is_err() {
        tracing::debug!(peer = %session.from().short(), "requests in progress given up");
    }
    if stopping {
        settle(&session, &live.connection).await;
        Refusal::ShuttingDown.close(&live.connection);
    }
}

/// Gives the last answers a round trip to arrive before the connection is closed, which would discard them.
async fn settle(session: &Session, connection: &Connection) {
    /// Longer round trips than this lose the answers of the last moment, as a crash would.
    const SETTLE_MAX: Duration = Duration::from_millis(200);
    let rtt = connection.paths().iter().map(|path| path.rtt()).min().unwrap_or_default();
    let _lost_or_settled = timeout((2 * rtt).min(SETTLE_MAX), connection.closed()).await;
    tracing::debug!(peer = %session.from().short(), "connection drained");
}

fn accept(session: &Session, streams: &mut JoinSet<()>, send: SendStream, recv: RecvStream) {
    if recv.is_0rtt() {
        // Early data can be replayed by anyone; dropping both halves resets the stream.
        drop(QuicWriter::new(send));
        return;
    }
    let session = session.clone();
    streams.spawn(async move {
        // Fails only if the stream is already gone, which the first write tells.
        let _gone = send.set_priority(CONTROL_PRIORITY);
        let in_use = session.peer.in_use();
        if let Err(end) = stream(&session, Box::new(recv), Box::new(QuicWriter::new(send))).await {
            tracing::debug!(peer = %session.from().short(), %end, "stream ended");
        }
        drop(in_use);
    });
}

fn report(session: &Session, ended: Result<(), JoinError>) {
    if let Err(error) = ended.as_ref()
        && error.is_panic()
    {
        tracing::error!(peer = %session.from().short(), %error, "request handler panicked");
    }
}

/// Serves one stream until the peer ends it.
async fn stream(session: &Session, mut reader: BoxReader, mut writer: BoxWriter) -> Result<(), StreamEnd> {
    let limits = &session.shared.limits;
    while let Some(header) = next_header(session, &mut reader).await? {
        let counters = &session.shared.counters;
        let step = timeout(limits.control, step(session, &header, &mut reader))
            .await
            .map_err(|_late| slow(&counters.timed_out))??;
        let response = match step {
            Step::Answer(response) => response,
            Step::Last(rule) => {
                let text = BoundedString::try_from(rule).unwrap_or_default();
                write(session, &mut writer, &header, &Response::Failed(text)).await?;
                writer.shutdown().await?;
                return Err(StreamEnd::Rule(rule));
            }
            Step::Ask(request) => ask(session, request).await?,
            Step::Range(wanted, place) => {
                let reply = RangeReply::new(header.kind, reader, writer, limits.stall);
                let stream = reply.stream.holding(Arc::clone(counters), (place, session.peer.in_use()));
                counters.ranges.add();
                let reply = RangeReply { stream, kind: reply.kind };
                return until_stopped(session, session.shared.service.range(session.from(), wanted, reply)).await;
            }
        };
        write(session, &mut writer, &header, &response).await?;
        counters.requests.add();
    }
    Ok(writer.shutdown().await?)
}

/// Waits for the next header; `None` if the peer ended the stream, or kept silent after an answer.
async fn next_header(session: &Session, reader: &mut BoxReader) -> Result<Option<Header>, StreamEnd> {
    let (limits, counters) = (&session.shared.limits, &session.shared.counters);
    let first = tokio::select! {
        biased;
        first = timeout(limits.first_byte, frame::read_first(reader)) => first.map_err(|_late| slow(&counters.timed_out))??,
        () = session.shared.cancel.cancelled() => return Err(StreamEnd::ShuttingDown),
    };
    let Some(first) = first else { return Ok(None) };
    let header = timeout(limits.control, frame::read_header(first, reader)).await;
    Ok(Some(header.map_err(|_late| slow(&counters.timed_out))??))
}

fn slow(counter: &Counter) -> StreamEnd {
    counter.add();
    StreamEnd::TimedOut
}

/// Judges a header, reads and decodes its body.
async fn step(session: &Session, header: &Header, reader: &mut BoxReader) -> Result<Step, StreamEnd> {
    let counters = &session.shared.counters;
    if header.version != WIRE_VERSION {
        counters.other_versions.add();
        return Ok(Step::Last("another wire version"));
    }
    let Some(kind) = table::find(header.kind) else {
        counters.unknown_kinds.add();
        return skip(header, reader, Response::Unsupported).await;
    };
    if header.len > kind.request_bytes_max {
        counters.oversized.add();
        return Ok(Step::Last("the message is larger than its kind may be"));
    }
    if kind.who != Who::Admitted {
        counters.forbidden.add();
        return Ok(Step::Last("this kind is for the knock protocol"));
    }
    if !session.peer.take_token(kind.class, session.shared.door.budget(&session.from())) {
        counters.throttled.add();
        return skip(header, reader, Response::Busy).await;
    }
    let Some(body) = read_body(session, header, reader).await? else { return Ok(Step::Answer(Response::Busy)) };
    Ok(decode(session, kind, &body))
}

/// Reads a body within the bounds on bodies being read.
async fn read_body(session: &Session, header: &Header, reader: &mut BoxReader) -> Result<Option<Vec<u8>>, StreamEnd> {
    let kib = header.len.div_ceil(1024);
    let take = |bodies: &Arc<Semaphore>| Arc::clone(bodies).acquire_many_owned(kib);
    // The semaphores are never closed; the deadline of the message bounds the wait.
    let (Ok(_mine), Ok(_all)) = (take(&session.peer.bodies).await, take(&session.shared.bodies).await) else {
        return Ok(None);
    };
    Ok(Some(frame::read_body(reader, header.len).await?))
}

/// Passes over a body that nobody will read.
async fn skip(header: &Header, reader: &mut BoxReader, response: Response) -> Result<Step, StreamEnd> {
    if header.len > table::SKIP_BYTES_MAX {
        return Ok(Step::Last("the message is larger than any kind may be"));
    }
    let mut body = reader.take(u64::from(header.len));
    tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
    Ok(Step::Answer(response))
}

fn decode(session: &Session, kind: &Kind, body: &[u8]) -> Step {
    let counters = &session.shared.counters;
    match (kind.decode)(kind, body) {
        Ok(Body::Request(Request::Range { sha256, offset, len })) => {
            match Arc::clone(&session.peer.serving).try_acquire_owned() {
                Ok(place) => Step::Range(RangeWanted { sha256, offset, len }, place),
                Err(_full) => {
                    counters.throttled.add();
                    Step::Answer(Response::Busy)
                }
            }
        }
        Ok(Body::Request(request)) => Step::Ask(request),
        Ok(Body::Hello(_)) | Ok(Body::Knock(_)) => {
            counters.forbidden.add();
            Step::Last("not at this point of a connection")
        }
        Err(error) => {
            counters.malformed.add();
            tracing::debug!(peer = %session.from().short(), kind = kind.name, %error, "malformed message");
            Step::Last("the message is malformed")
        }
    }
}

/// Has the service answer, in time.
async fn ask(session: &Session, request: Request) -> Result<Response, StreamEnd> {
    let answer = session.shared.service.request(session.from(), request);
    match timeout(session.shared.limits.control, answer).await {
        Ok(response) => Ok(response),
        Err(_late) => {
            session.shared.counters.timed_out.add();
            Ok(Response::Busy)
        }
    }
}

/// Runs a range to its end; when the node stops it may take as long as the drain.
async fn until_stopped(session: &Session, range: impl Future<Output = ()>) -> Result<(), StreamEnd> {
    let stopped = async {
        session.shared.cancel.cancelled().await;
        tokio::time::sleep(session.shared.limits.drain).await;
    };
    tokio::select! {
        () = range => Ok(()),
        () = stopped => Err(StreamEnd::ShuttingDown),
    }
}

async fn write(
    session: &Session,
    writer: &mut BoxWriter,
    header: &Header,
    response: &Response,
) -> Result<(), StreamEnd> {
    let bytes = frame(header.kind, response);
    match timeout(session.shared.limits.control, writer.write_all(&bytes)).await {
        Ok(written) => Ok(written?),
        Err(_late) => Err(slow(&session.shared.counters.timed_out)),
    }
}
