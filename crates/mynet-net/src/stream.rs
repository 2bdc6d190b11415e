//! Byte streams between two proven nodes, whatever carries them.
//!
//! A [`ByteStream`] is a pair of halves with a stall detector on each. Blob bytes are opaque here: whoever reads them
//! verifies them. It stands between the service and the transport, so that TLS over TCP can take the place of a QUIC
//! stream without the service noticing.
//!
//! **Invariants**
//! 1. A stream that was not shut down is *reset* when it is dropped: the other side sees an error, never a short end.
//! 2. Only waiting counts as slow. Time in which the owner does not read or write is not held against the peer.
//! 3. Places (per-peer slots) are held as long as the stream lives.

use std::{
    any::Any,
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use iroh::endpoint::{SendStream, VarInt};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

use crate::stats::Counters;

/// A half that is read.
pub type BoxReader = Box<dyn AsyncRead + Send + Unpin>;
/// A half that is written.
pub type BoxWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Code of a QUIC stream that was given up: the bytes before it are not the whole.
const ABANDONED: VarInt = VarInt::from_u32(1);

/// The slowest stream that is not given up: `bytes_per_second` on average over `window` of waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// Least speed.
    pub bytes_per_second: u64,
    /// How long the speed is measured; at least a second makes sense.
    pub window: Duration,
}

impl Default for Stall {
    /// 64 KiB/s over 30 s: slower links cannot move media in useful time, and each one holds one of few places.
    fn default() -> Self {
        Self { bytes_per_second: 64 * 1024, window: Duration::from_secs(30) }
    }
}

/// The stream was given up because it was too slow. Inside an [`io::Error`] of kind `TimedOut`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("stalled: {bytes} bytes in {waited:?} of waiting")]
pub struct Stalled {
    /// Bytes that came in the window.
    pub bytes: u64,
    /// Time that was waited for them.
    pub waited: Duration,
}

/// Measures one direction.
struct Watch {
    stall: Stall,
    bytes: u64,
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    fn new(stall: Stall) -> Self {
        Self { stall, bytes: 0, waited: Duration::ZERO, since: None, timer: None }
    }

    /// Closes the window if it is full: starts the next one, or tells that this one was too slow.
    fn judge(&mut self) -> Result<(), Stalled> {
        if self.waited < self.stall.window {
            return Ok(());
        }
        let seen = Stalled { bytes: self.bytes, waited: self.waited };
        let least = self.stall.bytes_per_second as f64 * self.waited.as_secs_f64();
        (self.bytes, self.waited) = (0, Duration::ZERO);
        if (seen.bytes as f64) < least { Err(seen) } else { Ok(()) }
    }

    /// Adds the time waited since the last look.
    fn settle(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// The half made progress.
    fn moved(&mut self, bytes: usize) -> Result<(), Stalled> {
        self.settle();
        self.bytes += bytes as u64;
        self.judge()
    }

    /// The half is waiting; ready with an error when it has waited too long.
    fn waiting(&mut self, cx: &mut Context<'_>) -> Poll<Stalled> {
        loop {
            self.settle();
            self.since = Some(Instant::now());
            if let Err(stalled) = self.judge() {
                return Poll::Ready(stalled);
            }
            let left = self.stall.window.saturating_sub(self.waited);
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(left)));
            if timer.is_elapsed() {
                timer.as_mut().reset(Instant::now() + left);
            }
            // An early timer is no harm: it looks again and is set for the rest.
            ready!(timer.as_mut().poll(cx));
        }
    }
}

/// Both halves of one stream.
pub struct ByteStream {
    reader: BoxReader,
    writer: BoxWriter,
    read: Watch,
    write: Watch,
    counters: Option<Arc<Counters>>,
    _places: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").finish_non_exhaustive()
    }
}

impl ByteStream {
    /// Joins two halves; each is given up when it is slower than `stall`.
    #[must_use]
    pub fn new(reader: BoxReader, writer: BoxWriter, stall: Stall) -> Self {
        let (read, write) = (Watch::new(stall), Watch::new(stall));
        Self { reader, writer, read, write, counters: None, _places: Box::new(()) }
    }

    /// Counts stalls and holds `places` until the stream is dropped.
    pub(crate) fn holding(self, counters: Arc<Counters>, places: impl Any + Send + Sync) -> Self {
        Self { counters: Some(counters), _places: Box::new(places), ..self }
    }

    fn stalled(&self, stalled: Stalled) -> io::Error {
        if let Some(counters) = &self.counters {
            counters.stalled.add();
        }
        io::Error::new(io::ErrorKind::TimedOut, stalled)
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let verdict = match Pin::new(&mut this.reader).poll_read(cx, buf) {
            Poll::Ready(Ok(())) if buf.filled().len() == before => return Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => this.read.moved(buf.filled().len() - before),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => Err(ready!(this.read.waiting(cx))),
        };
        Poll::Ready(verdict.map_err(|stalled| this.stalled(stalled)))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let (written, verdict) = match Pin::new(&mut this.writer).poll_write(cx, buf) {
            Poll::Ready(Ok(written)) => (written, this.write.moved(written)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => (0, Err(ready!(this.write.waiting(cx)))),
        };
        Poll::Ready(verdict.map(|()| written).map_err(|stalled| this.stalled(stalled)))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(cx)
    }
}

/// The sending half of a QUIC stream, which by itself would end cleanly when dropped.
#[derive(Debug)]
pub(crate) struct QuicWriter {
    stream: SendStream,
    finished: bool,
}

impl QuicWriter {
    pub(crate) fn new(stream: SendStream) -> Self {
        Self { stream, finished: false }
    }
}

impl Drop for QuicWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Fails only if the stream has ended in another way, which is as good.
            let _ended = self.stream.reset(ABANDONED);
        }
    }
}

impl AsyncWrite for QuicWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.get_mut().stream), cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.get_mut().stream), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.finished {
            return Poll::Ready(Ok(()));
        }
        this.finished = true;
        AsyncWrite::poll_shutdown(Pin::new(&mut this.stream), cx)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::{ByteStream, Stall, Stalled};

    /// One stream over an in-memory pipe of 64 bytes, and the far end.
    fn pipe(stall: Stall) -> (ByteStream, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let (reader, writer) = tokio::io::split(near);
        (ByteStream::new(Box::new(reader), Box::new(writer), stall), far)
    }

    fn stalled(error: &std::io::Error) -> Option<&Stalled> {
        error.get_ref().and_then(|source| source.downcast_ref())
    }

    const QUICK: Stall = Stall { bytes_per_second: 1_000, window: Duration::from_millis(50) };

    #[tokio::test]
    async fn a_silent_peer_stalls_the_reader() {
        let (mut stream, _far) = pipe(QUICK);
        let error = stream.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert_eq!(stalled(&error).unwrap().bytes, 0);
    }

    #[tokio::test]
    async fn a_peer_that_does_not_drain_stalls_the_writer() {
        let (mut stream, _far) = pipe(QUICK);
        let error = stream.write_all(&[7; 4096]).await.unwrap_err();
        assert!(stalled(&error).is_some());
    }

    #[tokio::test]
    async fn a_peer_that_drips_below_the_least_speed_stalls_the_reader() {
        let (mut stream, mut far) = pipe(QUICK);
        let drip = async {
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            loop {
                tick.tick().await;
                far.write_all(&[1]).await.unwrap();
            }
        };
        let read = async {
            loop {
                if let Err(error) = stream.read_u8().await {
                    return error;
                }
            }
        };
        let error = tokio::select! { error = read => error, () = drip => unreachable!("the drip never ends") };
        assert!(stalled(&error).unwrap().bytes > 0);
    }

    #[tokio::test]
    async fn an_owner_that_takes_its_time_is_not_stalled() {
        let (mut stream, mut far) = pipe(QUICK);
        let (mut other, _other_far) = pipe(QUICK);
        far.write_all(&[1]).await.unwrap();
        // Three windows pass on another stream while nobody waits for this one.
        for _ in 0..3 {
            assert!(stalled(&other.read_u8().await.unwrap_err()).is_some());
        }
        assert_eq!(stream.read_u8().await.unwrap(), 1);
    }
}
