//! The courier of one peer: delivers its queue in order, best effort.
//!
//! Messages go one after another on one stream, so the peer handles them in the order in which they were sent; up to
//! [`Limits::window_messages`](crate::Limits::window_messages) are under way before the first answer. The stream is
//! ended when the queue has been empty for a while, and opened again for the next message.
//!
//! **Invariants**
//! 1. A message is delivered at most once per send, and in order among those delivered.
//! 2. Nothing waits for a peer that cannot be reached: when a dial fails the queue is emptied and counted. Cores repeat
//!    what still matters; a queue of old messages would only delay that.

use std::sync::Arc;

use mynet_types::rpc::Response;
use tokio::{io::AsyncWriteExt, sync::mpsc, time::timeout};

use crate::{
    frame::{FrameError, read_answer},
    hello::Live,
    peer::{Parcel, Peer},
    pool::Shared,
    serve::CONTROL_PRIORITY,
    stream::QuicWriter,
    table,
};

/// Runs until the transport stops.
pub(crate) async fn run(shared: Arc<Shared>, peer: Arc<Peer>, mut queue: mpsc::Receiver<Parcel>) {
    let deliver_all = async {
        while let Some(first) = queue.recv().await {
            match peer.connect().await {
                Ok(live) => deliver(&shared, &peer, &live, (first, &mut queue)).await,
                Err(error) => {
                    let mut lost = 1;
                    while queue.try_recv().is_ok() {
                        lost += 1;
                    }
                    shared.counters.messages_lost.add_many(lost);
                    tracing::debug!(peer = %peer.node.short(), %error, lost, "messages dropped");
                }
            }
        }
    };
    shared.cancel.run_until_cancelled(deliver_all).await;
}

/// Delivers the first message and those behind it until the queue stays empty or the stream breaks.
async fn deliver(
    shared: &Shared,
    peer: &Arc<Peer>,
    live: &Live,
    (first, queue): (Parcel, &mut mpsc::Receiver<Parcel>),
) {
    let in_use = peer.in_use();
    let (asked, answers) = mpsc::channel(shared.limits.window_messages);
    let mut sent = 0;
    let mut answered = 0;
    let outcome = async {
        let opened = timeout(shared.limits.control, live.connection.open_bi()).await.map_err(|_late| late(shared))?;
        let (send, mut reader) = opened.map_err(std::io::Error::from)?;
        // Fails only if the stream is already gone, which the first write tells.
        let _gone = send.set_priority(CONTROL_PRIORITY);
        let writing = write(shared, QuicWriter::new(send), (first, queue), (asked, &mut sent));
        let reading = read(shared, &mut reader, answers, &mut answered);
        tokio::try_join!(writing, reading).map(drop)
    }
    .await;
    drop(in_use);
    if let Err(error) = outcome {
        // At least the first one, which the future has taken.
        let lost = u64::max(sent, 1) - answered;
        shared.counters.messages_lost.add_many(lost);
        tracing::debug!(peer = %peer.node.short(), %error, lost, "message stream broke");
    }
}

async fn write(
    shared: &Shared,
    mut writer: QuicWriter,
    (first, queue): (Parcel, &mut mpsc::Receiver<Parcel>),
    (asked, sent): (mpsc::Sender<u16>, &mut u64),
) -> Result<(), FrameError> {
    let mut next = Some(first);
    while let Some(parcel) = next {
        *sent += 1;
        if asked.send(parcel.kind).await.is_err() {
            return Err(FrameError::Ended);
        }
        let written = timeout(shared.limits.control, writer.write_all(&parcel.frame)).await;
        written.map_err(|_late| late(shared))??;
        next = timeout(shared.limits.linger(), queue.recv()).await.unwrap_or(None);
    }
    Ok(writer.shutdown().await?)
}

async fn read(
    shared: &Shared,
    reader: &mut (impl tokio::io::AsyncRead + Unpin),
    mut asked: mpsc::Receiver<u16>,
    answered: &mut u64,
) -> Result<(), FrameError> {
    while let Some(kind) = asked.recv().await {
        let max = table::find(kind).map_or(0, |kind| kind.reply_bytes_max);
        // The peer may take this long to read the message and as long again to answer it.
        let answer = timeout(2 * shared.limits.control, read_answer(reader, kind, max)).await;
        match answer.map_err(|_late| late(shared))?? {
            Response::Delivered => shared.counters.messages_delivered.add(),
            response => {
                shared.counters.messages_refused.add();
                tracing::debug!(kind, ?response, "message refused");
            }
        }
        *answered += 1;
    }
    Ok(())
}

fn late(shared: &Shared) -> FrameError {
    shared.counters.timed_out.add();
    FrameError::Io(std::io::ErrorKind::TimedOut.into())
}
