//! What the liar answers to peers that ask.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;
use mynet_net::{RangeHead, RangeReply, RangeWanted, Service};
use mynet_store::meta::{ListQuery, StoredBlob};
use mynet_types::{
    Blake3Root, BoundedVec, NodeId,
    rpc::{GroupInfo, Request, Response},
};
use rand::RngExt;
use tokio::io::AsyncWriteExt;

use super::{
    forge::Forger,
    lies::{self, Lie, tells, told},
};
use crate::{driver::wall_clock, serve::NodeService, shell::Shell};

/// Bytes sent where the right ones are not known.
const NOISE_BYTES: usize = 64 * 1024;

/// The answers of a node that may lie.
pub(crate) fn service(honest: NodeService) -> Arc<dyn Service> {
    if lies::any() {
        Arc::new(Lying { shell: Arc::clone(&honest.0), honest, answers: AtomicU64::new(0), ranges: AtomicU64::new(0) })
    } else {
        Arc::new(honest)
    }
}

struct Lying {
    shell: Arc<Shell>,
    honest: NodeService,
    answers: AtomicU64,
    ranges: AtomicU64,
}

#[async_trait]
impl Service for Lying {
    async fn request(&self, from: NodeId, request: Request) -> Response {
        let about_something = !matches!(request, Request::Deliver(_));
        if about_something && lies::stalls(&from, self.shell.started.elapsed()) {
            std::future::pending::<()>().await;
        }
        let asks_for_tombstones = match request {
            Request::TombstonesAfter { seq } => Some(seq),
            _ => None,
        };
        let answer = self.honest.request(from, request).await;
        if !about_something || !tells(Lie::FalseAnswer) {
            return answer;
        }
        let turn = self.answers.fetch_add(1, Ordering::Relaxed);
        told(Lie::FalseAnswer);
        match (answer, asks_for_tombstones) {
            (Response::Group(_), _) if turn.is_multiple_of(3) => Response::NotHere,
            (Response::Group(info), _) => Response::Group(Box::new(self.twist(*info, from))),
            (_, Some(seq)) => self.tombstones(seq, turn).await,
            (answer, None) => answer,
        }
    }

    async fn range(&self, from: NodeId, wanted: RangeWanted, reply: RangeReply) {
        if lies::stalls(&from, self.shell.started.elapsed()) {
            return std::future::pending().await;
        }
        let turn = self.ranges.fetch_add(1, Ordering::Relaxed);
        if !tells(Lie::FalseBytes) || turn % 5 == 4 {
            return self.honest.range(from, wanted, reply).await;
        }
        told(Lie::FalseBytes);
        // Whoever asked may have gone.
        drop(self.send_falsely(wanted, reply, turn % 5).await);
    }
}

impl Lying {
    fn forger(&self) -> Forger<'_> {
        let keys = &self.shell.keys;
        Forger { network: self.shell.network, me: self.shell.me(), node_key: keys.node(), owner_key: keys.owner() }
    }

    /// A group as it is not: whose receipts are others, that nobody certified, of which everything is here.
    fn twist(&self, info: GroupInfo, asker: NodeId) -> GroupInfo {
        let mut rng = lies::dice(self.answers.load(Ordering::Relaxed));
        let forger = self.forger();
        let bad = info.receipts.first().map(|good| forger.bad_receipts(good, asker, &mut rng)).unwrap_or_default();
        GroupInfo {
            receipts: BoundedVec::truncated(bad),
            certificate: None,
            wraps: BoundedVec::default(),
            held: info.manifest.body.states(),
            ..info
        }
    }

    /// Groups of others as deleted, page after page without end.
    async fn tombstones(&self, seq: u64, turn: u64) -> Response {
        let query = ListQuery { origin_only: false, after: None, limit: 8 };
        let groups = self.shell.meta.groups(query).await.map(|page| page.items).unwrap_or_default();
        let forged = groups.iter().flat_map(|group| self.forger().tombstones(&group.manifest.body, wall_clock()));
        let tombstones = BoundedVec::truncated(forged);
        Response::Tombstones { boot: turn, seq: seq + 1, tombstones }
    }

    async fn send_falsely(&self, wanted: RangeWanted, reply: RangeReply, how: u64) -> std::io::Result<()> {
        let mut rng = lies::dice(wanted.offset.wrapping_add(how));
        let row = self.shell.meta.blob(&wanted.sha256).await.ok().flatten();
        let Some(StoredBlob { blob, generation }) = row.map(|row| row.stored) else {
            // Promised without a look at it: not even its other name is known.
            let head = RangeHead { size: wanted.offset.saturating_add(wanted.len), blake3: Blake3Root(rng.random()) };
            reply.start(head).await?;
            return Ok(());
        };
        let head = RangeHead { size: blob.size, blake3: blob.blake3 };
        let mut bytes = vec![0; NOISE_BYTES];
        rng.fill(&mut bytes[..]);
        let end = wanted.offset.saturating_add(wanted.len).min(blob.size);
        match how {
            // The right bytes but one.
            0 => {
                let mut encoded = Vec::new();
                if let Ok(reader) = self.shell.blobs.read(blob, generation).await
                    && reader.encode_range(wanted.offset.min(end)..end, &mut encoded).await.is_ok()
                {
                    bytes = encoded;
                    if let Some(byte) = bytes.last_mut() {
                        *byte ^= 1;
                    }
                }
                let mut stream = reply.start(head).await?;
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            }
            1 => {
                let mut stream = reply.start(head).await?;
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            }
            2 => {
                let head = RangeHead { blake3: Blake3Root(rng.random()), ..head };
                let mut stream = reply.start(head).await?;
                stream.write_all(&bytes).await?;
                stream.shutdown().await
            }
            // Nothing, and an end as if that were all.
            _ => reply.start(head).await?.shutdown().await,
        }
    }
}
