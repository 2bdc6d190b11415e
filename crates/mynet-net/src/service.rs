//! What the node supplies: who may come in, and who answers.

use std::io;

use async_trait::async_trait;
use mynet_types::{
    Blake3Root, ContentHash, NodeId,
    rpc::{Knock, KnockReply, Request, Response},
};
use tokio::io::AsyncWriteExt;

use crate::{
    frame::frame,
    stream::{BoxReader, BoxWriter, ByteStream, Stall},
    table::Budget,
};

/// Decides who comes in. Asked on every connection and request, so the synchronous answers come from memory.
#[async_trait]
pub trait Door: Send + Sync {
    /// Whether `node` is admitted now: its admission has not expired and it is not banned.
    fn is_admitted(&self, node: &NodeId) -> bool;

    /// How much `node` may ask for: newcomers (younger than 24 h) get tight budgets.
    fn budget(&self, node: &NodeId) -> Budget;

    /// Answers a knock. The connection proved `from`, and the records in the knock name `from` and carry its valid
    /// signature for this network; everything else is for the door to check, see [`crate::admission`].
    ///
    /// May be dropped at any await point when it takes longer than [`crate::Limits::knock`] or the node stops.
    async fn knock(&self, from: NodeId, knock: Knock) -> KnockReply;
}

/// Answers admitted nodes. Requests of one peer's message stream come one after another, in their order; all others
/// at once.
///
/// Handlers may be dropped at any await point when their deadline passes, the connection is lost or the node stops. A
/// panic costs only its own request.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers a request within [`crate::Limits::control`]; ranges never come here.
    async fn request(&self, from: NodeId, request: Request) -> Response;

    /// Answers for the bytes of a blob: either [`RangeReply::answer`], or [`RangeReply::start`] and then the bytes,
    /// ended by shutting the stream down. A reply that is dropped without either resets the stream.
    async fn range(&self, from: NodeId, wanted: RangeWanted, reply: RangeReply);
}

/// Bytes of a blob that a peer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeWanted {
    /// The blob.
    pub sha256: ContentHash,
    /// First byte.
    pub offset: u64,
    /// Bytes wanted.
    pub len: u64,
}

/// What comes before the bytes of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RangeHead {
    /// Size of the whole blob.
    pub size: u64,
    /// Its BLAKE3 root.
    pub blake3: Blake3Root,
}

/// The way back to whoever asked for a range. Holds one of the peer's places for ranges.
#[derive(Debug)]
pub struct RangeReply {
    pub(crate) kind: u16,
    pub(crate) stream: ByteStream,
}

impl RangeReply {
    /// Joins the halves of a stream whose request was read.
    pub(crate) fn new(kind: u16, reader: BoxReader, writer: BoxWriter, stall: Stall) -> Self {
        Self { kind, stream: ByteStream::new(reader, writer, stall) }
    }

    /// Sends the head; the bytes follow on the stream that is returned. Shut it down after the last one: a stream that
    /// is dropped before that is reset, and the asker sees an error.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn start(mut self, head: RangeHead) -> io::Result<ByteStream> {
        let response = Response::Range { size: head.size, blake3: head.blake3 };
        self.stream.write_all(&frame(self.kind, &response)).await?;
        Ok(self.stream)
    }

    /// Answers without bytes: `NotHere`, `Busy` or `Failed`.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn answer(mut self, response: Response) -> io::Result<()> {
        self.stream.write_all(&frame(self.kind, &response)).await?;
        self.stream.shutdown().await
    }
}
