//! Connections: how many, how slow, and how they end.
//!
//! Each connection is one task. A head that does not come, a body that pauses and an answer that is not read all end it.
//! When a connection ends while its client still sends, as it does after a refused upload, the rest is read and dropped for a
//! moment: closing at once would make the kernel reset the connection and lose the refusal on its way.
//!
//! Shutdown: 1. nothing new is accepted; 2. idle connections close, running requests finish; 3. what has not finished within
//! the bound is dropped, and the clients see a short answer.

use std::{io, sync::Arc, time::Duration};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    heads::{self, HEAD_BYTES_MAX, HEADERS_MAX, OwnWords, Turn},
    node::NodeHandle,
    routes::router_until,
    stall::StallGuard,
};

/// How long accepting pauses when the process is out of file descriptors or memory: other connections must end first.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// How long the rest of a refused body is read: some round trips, so that the refusal arrives before the reset.
const LINGER_MAX: Duration = Duration::from_secs(2);

/// How long a client may be silent before the rest of its body is taken to have come: longer than most round trips, short
/// enough not to hold up a shutdown for clients that keep a finished connection open.
const LINGER_PAUSE: Duration = Duration::from_millis(500);

/// Bounds of the HTTP API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApiSettings {
    /// Uploads received at once. Each may hold a preview of 64 MiB in memory, and all share one disk.
    pub uploads_max: usize,
    /// Readers of events at once. Each holds a connection for as long as it likes; with as many as there are connections they
    /// could shut everybody else out.
    pub readers_max: usize,
    /// Connections at once; more wait in the kernel's queue.
    pub connections_max: usize,
    /// How long the head of a request may take, and how long a connection may be idle between requests.
    pub head_timeout: Duration,
    /// How long a body may pause.
    pub body_idle: Duration,
    /// How long an answer may not be read.
    pub write_stall: Duration,
    /// How long running requests may take to finish after shutdown was asked for.
    pub drain: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            uploads_max: 16,
            readers_max: 128,
            connections_max: 1024,
            head_timeout: Duration::from_secs(30),
            // Mobile networks go silent for some ten seconds while they hand over; a dead client must still free its slot soon.
            body_idle: Duration::from_secs(30),
            write_stall: Duration::from_secs(60),
            drain: Duration::from_secs(10),
        }
    }
}

/// Why the API stopped serving before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listener is unusable; running requests were finished.
    #[error("accept HTTP connections: {0}")]
    Accept(#[source] io::Error),
}

/// Serves the API of `node` on `listener` until `shutdown` is cancelled, then lets running requests finish for at most
/// [`ApiSettings::drain`]. When this returns, no connection is left.
///
/// # Errors
/// [`ServeError::Accept`] if the listener breaks. A lack of file descriptors is waited out instead.
pub async fn serve(
    listener: TcpListener,
    node: NodeHandle,
    settings: ApiSettings,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let service = TowerToHyperService::new(router_until(node, settings, shutdown.clone()));
    let slots = Arc::new(Semaphore::new(settings.connections_max));
    let closing = shutdown.child_token();
    let mut connections = JoinSet::new();
    let outcome = loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            Some(ended) = connections.join_next() => {
                report(ended);
                continue;
            }
            accepted = accept(&listener, &slots) => accepted,
        };
        match accepted {
            Ok((stream, slot)) => {
                let connection = connection(stream, service.clone(), settings, closing.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(slot);
                });
            }
            Err(error) if is_of_one_connection(&error) => {
                tracing::debug!(%error, "connection lost before it was accepted")
            }
            Err(error) if is_shortage(&error) => {
                tracing::warn!(%error, "cannot accept connections for now");
                tokio::select! {
                    () = shutdown.cancelled() => break Ok(()),
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
            Err(error) => break Err(ServeError::Accept(error)),
        }
    };
    drop(listener);
    closing.cancel();
    drain(connections, settings.drain).await;
    outcome
}

/// Accepts a connection once there is room for it.
async fn accept(listener: &TcpListener, slots: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.expect("the semaphore is never closed");
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// The peer went away between its knock and the accept.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// The process or the system has no descriptors or memory left: EMFILE, ENFILE, ENOBUFS, ENOMEM of POSIX.
fn is_shortage(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::OutOfMemory || matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

/// Serves one connection until its end.
async fn connection(
    stream: TcpStream,
    service: TowerToHyperService<Router>,
    settings: ApiSettings,
    closing: CancellationToken,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection lost before its first request");
        return;
    }
    let turn = Turn::default();
    let io = TokioIo::new(OwnWords::new(StallGuard::new(stream, settings.write_stall), turn.clone()));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .serve_connection(io, service_fn(move |request| turn.of(service.call(request))));
    let mut told = false;
    let ended = loop {
        tokio::select! {
            ended = std::future::poll_fn(|context| connection.poll_without_shutdown(context)) => break ended,
            () = closing.cancelled(), if !told => {
                told = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
        }
    };
    match ended {
        Ok(()) => linger(connection.into_parts().io.into_inner().into_parts().0).await,
        Err(error) if error.is_parse() => {
            let parts = connection.into_parts();
            let (mut stream, own) = parts.io.into_inner().into_parts();
            if let Some(refusal) = heads::refusal(&parts.read_buf, &own, &error).await
                && let Err(error) = stream.write_all(&refusal).await
            {
                tracing::debug!(%error, "connection lost before a request was refused");
                return;
            }
            linger(stream).await;
        }
        // Clients go away and time out all the time; what broke on this side was logged where it broke.
        Err(error) => tracing::debug!(%error, "connection ended early"),
    }
}

/// Says that no more will come, and reads what still does.
async fn linger(mut stream: StallGuard<TcpStream>) {
    let rest = async {
        stream.shutdown().await?;
        let mut sink = [0; 4096];
        while tokio::time::timeout(LINGER_PAUSE, stream.read(&mut sink)).await?? > 0 {}
        io::Result::Ok(())
    };
    // Whether the client took the time to say goodbye changes nothing.
    let _ = tokio::time::timeout(LINGER_MAX, rest).await;
}

/// Waits for connections to end, and drops what is left.
async fn drain(mut connections: JoinSet<()>, bound: Duration) {
    let all = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if tokio::time::timeout(bound, all).await.is_err() {
        tracing::warn!(connections = connections.len(), "requests did not finish in time and were dropped");
    }
    connections.shutdown().await;
}

/// Logs a connection that panicked: a body did, for handlers are caught.
fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "the task of a connection failed");
    }
}

#[cfg(test)]
mod tests;
