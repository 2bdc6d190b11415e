//! Requests whose head cannot be read: too large, or no HTTP.
//!
//! No route sees them. hyper answers them itself, by a status without a body, and ends the connection. Here that answer is taken
//! off the wire, and the client gets a refusal like every other: a [`Problem`] with a code, in an answer that names the request.
//!
//! What hyper says by itself is told from the answers of routes by when it comes:
//!
//! 1. From when a route is asked until its answer was written and flushed, all bytes are of that answer.
//! 2. All others are hyper's own, and the last of the connection.
//!
//! Deliberately absent: a body where the client does not read the answer to one request and sends an unreadable one behind it. Both
//! answers then wait in one buffer, and what is hyper's own goes out as it is.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Response, header},
    response::IntoResponse,
};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    problem::{Code, Problem},
    request_id::{self, RequestId},
    routes::finish,
};

/// Bytes of the head of a request at most, but for what a last read brings beyond it; this also bounds what is read ahead of a
/// body. Twice as many would let a full house of connections hold 128 MiB; half as many would refuse what proxies add to long
/// queries.
pub(crate) const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Headers of a request at most: several times what browsers and proxies send.
pub(crate) const HEADERS_MAX: usize = 64;

/// Bytes of a path and its query at most: the longest list of grants and tags takes most of it. Twice as many
/// would leave no room for headers within [`HEAD_BYTES_MAX`].
pub(crate) const URI_BYTES_MAX: usize = HEAD_BYTES_MAX / 2;

/// Bytes kept of what hyper says by itself: a status, a date and two short headers.
const OWN_BYTES_MAX: usize = 512;

/// Whose the bytes are that a connection writes. Everything about one connection is polled by one task, so the order in which the
/// fields change is the order in which they are read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn(Arc<TurnState>);

#[derive(Debug, Default)]
struct TurnState {
    /// Requests whose answers are not whole yet.
    running: AtomicUsize,
    /// Whether bytes of an answer may not be written yet.
    unwritten: AtomicBool,
}

impl Turn {
    /// A route is asked: until the answer of `ask` was written, bytes are of it.
    pub(crate) fn of<E, F: Future<Output = Result<Response<Body>, E>>>(
        &self,
        ask: F,
    ) -> Pin<Box<impl Future<Output = Result<Response<Answer>, E>> + use<E, F>>> {
        self.0.unwritten.store(true, Relaxed);
        self.0.running.fetch_add(1, Relaxed);
        let running = Running(self.clone());
        Box::pin(async move { Ok(ask.await?.map(|body| Answer { body, _running: running })) })
    }

    /// All that hyper had was written.
    fn flushed(&self) {
        if self.0.running.load(Relaxed) == 0 {
            self.0.unwritten.store(false, Relaxed);
        }
    }

    fn is_of_a_route(&self) -> bool {
        self.0.unwritten.load(Relaxed)
    }
}

/// One request whose answer is not whole yet.
#[derive(Debug)]
struct Running(Turn);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Relaxed);
    }
}

/// The body of an answer; hyper drops it when it took all of it.
#[derive(Debug)]
pub(crate) struct Answer {
    body: Body,
    _running: Running,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream on which only answers of routes are written; what hyper says by itself is kept instead.
#[derive(Debug)]
pub(crate) struct OwnWords<S> {
    inner: S,
    turn: Turn,
    own: Vec<u8>,
}

impl<S> OwnWords<S> {
    /// Watches what is written to `inner`; `turn` is told of every request.
    pub(crate) fn new(inner: S, turn: Turn) -> Self {
        Self { inner, turn, own: Vec::new() }
    }

    /// The stream, and what hyper said by itself.
    pub(crate) fn into_parts(self) -> (S, Vec<u8>) {
        (self.inner, self.own)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = OWN_BYTES_MAX.saturating_sub(self.own.len());
        self.own.extend(bytes.iter().take(room));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for OwnWords<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for OwnWords<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.turn.is_of_a_route() {
            return Pin::new(&mut self.inner).poll_write(context, buf);
        }
        self.keep(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.turn.is_of_a_route() {
            return Pin::new(&mut self.inner).poll_write_vectored(context, bufs);
        }
        bufs.iter().for_each(|buf| self.keep(buf));
        Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes only what it has written whole.
        ready!(Pin::new(&mut self.inner).poll_flush(context))?;
        self.turn.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Refuses a path and query that are too long, of a request that was read.
///
/// # Errors
/// [`Code::UriTooLong`].
pub(crate) fn check_uri(uri: &axum::http::Uri) -> Result<(), Problem> {
    let bytes = uri.path_and_query().map_or(0, |path| path.as_str().len());
    if bytes > URI_BYTES_MAX { Err(uri_too_long(bytes)) } else { Ok(()) }
}

fn uri_too_long(bytes: usize) -> Problem {
    let detail = format!("path and query are {bytes} bytes long or longer, and {URI_BYTES_MAX} at most");
    Problem::new(Code::UriTooLong, detail)
}

/// The whole answer to a head that was not read: `read` is what came of it, `own` what hyper said about it, and `why` its error.
/// `None` if hyper said nothing; then nobody waits for an answer.
pub(crate) async fn refusal(read: &[u8], own: &[u8], why: &hyper::Error) -> Option<Vec<u8>> {
    let status = own.strip_prefix(b"HTTP/1.1 ")?;
    let uri = read.split(|byte| *byte == b'\n').next().and_then(|line| line.split(|byte| *byte == b' ').nth(1));
    let uri_bytes = uri.map_or(0, <[u8]>::len);
    let problem = match status.get(..3)? {
        // The head is not read to its end, so hyper does not know which part of it is too large.
        b"414" | b"431" if uri_bytes > URI_BYTES_MAX => uri_too_long(uri_bytes),
        b"431" => {
            let detail = format!("the head of a request has {HEAD_BYTES_MAX} bytes and {HEADERS_MAX} headers at most");
            Problem::new(Code::HeadersTooLarge, detail)
        }
        _ => Problem::new(Code::MalformedRequest, why.to_string()),
    };
    let given = value_of(read, &request_id::HEADER).map(|value| (request_id::HEADER, value));
    let id = RequestId::of(&HeaderMap::from_iter(given));
    tracing::debug!(request_id = id.as_str(), error = %why, "the head of a request was refused");
    let mut response = finish(problem.into_response(), &id);
    if let Some(date) = value_of(own, &header::DATE) {
        response.headers_mut().insert(header::DATE, date);
    }
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    Some(written(response, read.starts_with(b"HEAD ")).await)
}

/// The value of a header in a head that may be no more than a part of one.
fn value_of(head: &[u8], name: &HeaderName) -> Option<HeaderValue> {
    let value = head.split(|byte| *byte == b'\n').find_map(|line| {
        let (given, value) = line.split_at(line.iter().position(|byte| *byte == b':')?);
        given.eq_ignore_ascii_case(name.as_str().as_bytes()).then_some(value)
    })?;
    HeaderValue::from_bytes(value.get(1..)?.trim_ascii()).ok()
}

/// An answer as it goes over the wire.
async fn written(response: Response<Body>, without_body: bool) -> Vec<u8> {
    let (head, body) = response.into_parts();
    // A problem is made of short texts; it is whole already.
    let body = axum::body::to_bytes(body, HEAD_BYTES_MAX).await.unwrap_or_default();
    let mut bytes = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", head.status, body.len()).into_bytes();
    for (name, value) in &head.headers {
        bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    bytes.extend(b"\r\n");
    if !without_body {
        bytes.extend(&body);
    }
    bytes
}
