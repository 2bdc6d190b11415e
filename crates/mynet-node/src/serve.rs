//! Answers other nodes: messages go to the core, questions to the stores, ranges to disk.
//!
//! **Invariant:** what is told about a group depends on who asks. Wraps go only to the node they are for, and whoever asks by
//! a plaintext hash is answered only if the group's key is wrapped to it.

use std::sync::Arc;

use async_trait::async_trait;
use mynet_net::{RangeHead, RangeReply, RangeWanted, Service};
use mynet_proto::node::io::Input;
use mynet_store::{
    blobs::{ReadError, SendError},
    meta::{FoundBy, MetaError, StoredBlob},
};
use mynet_types::{
    BoundedString, BoundedVec, CertificateFile, MembershipMessage, Message, NodeId,
    rpc::{GroupInfo, GroupKey, Request, Response},
};
use tokio::io::AsyncWriteExt;

use crate::shell::{Chain, Shell};

/// The node's answers.
pub(crate) struct NodeService(pub(crate) Arc<Shell>);

#[async_trait]
impl Service for NodeService {
    async fn request(&self, from: NodeId, request: Request) -> Response {
        match request {
            Request::Deliver(message) => {
                match *message {
                    Message::Membership(MembershipMessage::Members { admissions, records }) => {
                        self.0.learn_members(admissions.into_vec(), records.into_vec()).await;
                    }
                    message @ (Message::Replication(_) | Message::Consensus(_)) => {
                        self.0.inbox.put(Input::Message { from, message }).await;
                    }
                }
                Response::Delivered
            }
            Request::Group(key) => match self.0.group_info(from, key).await {
                Ok(Some(info)) => Response::Group(Box::new(info)),
                Ok(None) => Response::NotHere,
                Err(error) => failed("look for a group", &error),
            },
            Request::TombstonesAfter { seq } => {
                let told = self.0.tombstones_for_peer(seq).await;
                told.unwrap_or_else(|error| failed("look for tombstones", &error))
            }
            Request::Range { .. } => Response::Unsupported,
        }
    }

    async fn range(&self, from: NodeId, wanted: RangeWanted, reply: RangeReply) {
        let answered = match self.0.open_range(wanted).await {
            Ok(Some(stored)) => return self.0.send_range(from, wanted, (stored, reply)).await,
            Ok(None) => reply.answer(Response::NotHere).await,
            Err(error) => reply.answer(failed("look for a blob", &error)).await,
        };
        if let Err(error) = answered {
            tracing::debug!(peer = %from.short(), %error, "a peer did not wait for its answer");
        }
    }
}

/// Logs a failure of this node and tells the peer only that there was one.
fn failed(what: &'static str, error: &MetaError) -> Response {
    tracing::error!(what, error = %Chain(error), "cannot answer a peer");
    Response::Failed(BoundedString::try_from("the node's storage failed").unwrap_or_default())
}

impl Shell {
    /// What `from` may know about a group here.
    async fn group_info(&self, from: NodeId, key: GroupKey) -> Result<Option<GroupInfo>, MetaError> {
        let Some((group, found_by)) = self.meta.group(&key).await? else { return Ok(None) };
        let group_id = group.manifest.body.group_id;
        let wraps = self.meta.wraps(group_id, Some(&from)).await?;
        if found_by == FoundBy::Plaintext && wraps.is_empty() {
            return Ok(None);
        }
        let certificate = match self.meta.certificate(&group.manifest_hash).await? {
            // Bytes that do not decode are as good as none: the asker would refuse them.
            Some(bytes) => CertificateFile::decode(&bytes).ok().map(Box::new),
            None => None,
        };
        let receipts = self.meta.receipts_of_group(group_id).await?;
        Ok(Some(GroupInfo {
            manifest: group.manifest,
            sealed: group.sealed,
            wraps: BoundedVec::truncated(wraps),
            receipts: BoundedVec::truncated(receipts),
            certificate,
            held: group.held,
        }))
    }

    /// The file of a blob that may be sent.
    async fn open_range(&self, wanted: RangeWanted) -> Result<Option<StoredBlob>, MetaError> {
        let row = self.meta.blob(&wanted.sha256).await?;
        Ok(row.filter(|row| !row.quarantined).map(|row| row.stored))
    }

    /// Sends verified bytes of a blob; one that is damaged is quarantined and the stream breaks off.
    async fn send_range(&self, from: NodeId, wanted: RangeWanted, (stored, reply): (StoredBlob, RangeReply)) {
        let reader = match self.blobs.read(stored.blob, stored.generation).await {
            Ok(reader) => reader,
            Err(error) => {
                self.damaged(&stored, &error).await;
                drop(reply.answer(Response::NotHere).await);
                return;
            }
        };
        let sent = async {
            let head = RangeHead { size: stored.blob.size, blake3: stored.blob.blake3 };
            let end = wanted.offset.saturating_add(wanted.len).min(stored.blob.size);
            let mut stream = reply.start(head).await.map_err(SendError::Write)?;
            reader.encode_range(wanted.offset.min(end)..end, &mut stream).await?;
            stream.shutdown().await.map_err(SendError::Write)
        };
        match sent.await {
            Ok(()) => {}
            Err(SendError::Read(error)) => self.damaged(&stored, &error).await,
            Err(SendError::Write(error)) => {
                tracing::debug!(peer = %from.short(), blob = %stored.blob.sha256, %error, "a peer took only part of a range");
            }
        }
    }

    /// Puts a blob that is missing or corrupt into quarantine; other errors are logged.
    pub(crate) async fn damaged(&self, stored: &StoredBlob, error: &ReadError) {
        tracing::error!(blob = %stored.blob.sha256, error = %Chain(error), "a blob cannot be read");
        let (ReadError::Missing { blob } | ReadError::Corrupt { blob, .. }) = error else { return };
        if let Err(error) = self.meta.quarantine(stored).await {
            return self.not_kept("quarantine a blob", error);
        }
        if let Err(error) = self.blobs.quarantine(*blob).await {
            tracing::error!(%blob, %error, "a damaged file was not moved away");
        }
        self.refill.lost();
    }
}
