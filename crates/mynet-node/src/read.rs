//! Reading content: whoever asks, from this disk or through the network, whole or by ranges.
//!
//! **Invariants**
//! 1. Every byte handed out was verified against a BLAKE3 root that came from a row of this node, or from a manifest that
//!    its owner signed and W admitted nodes gave receipts for.
//! 2. Whoever may not know of content is told that it does not exist.
//! 3. A damaged blob is quarantined at the first bad byte; the next read goes to another node.
//!
//! Deliberately absent: content that is not durable yet is read only from nodes that hold it, because a pair of hashes
//! without receipts proves nothing.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use futures::stream;
use mynet_net::{ByteStream as NetStream, RangeWanted};
use mynet_proto::group;
use mynet_store::{
    blobs::{BlobRange, BlobReader, DecryptedRange, RangeDecoder, ReadError, VerifiedStream},
    cipher::{ChunkSpan, FileCipher, plain_len},
    meta::{FoundBy, Group, StoredBlob},
};
use mynet_types::{
    BlobRef, ContentHash, ContentState, DecryptedClass, Details, Manifest, NodeId, Protection, SignedReceipt,
    SignedWrap,
    rpc::{GroupInfo, GroupKey, Request, Response},
};

use crate::{
    driver::wall_clock,
    grant::{self, GrantError},
    handle::{Asker, ByteStream, ContentInfo, NodeError, Opened, Source},
    shell::Shell,
};

/// Media type where the real one is secret or unknown.
const UNKNOWN_MIME: &str = "application/octet-stream";

/// A group as this node found it: on its own disk, or at peers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) sealed: Vec<u8>,
    pub(crate) wraps: Vec<SignedWrap>,
    pub(crate) found_by: FoundBy,
    /// The row here, if it is held here.
    pub(crate) local: Option<Group>,
    /// Peers that hold it and what they told.
    pub(crate) holders: Vec<(NodeId, Box<GroupInfo>)>,
}

/// Content that was opened: what to read, and where.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    blob: BlobRef,
    local: Option<StoredBlob>,
    holders: Vec<NodeId>,
    cipher: Option<FileCipher>,
}

impl Found {
    /// A group that is held here.
    pub(crate) fn local(group: Group, wraps: Vec<SignedWrap>) -> Self {
        Self {
            manifest: group.manifest.body.clone(),
            sealed: group.sealed.to_vec(),
            wraps,
            found_by: FoundBy::Public,
            local: Some(group),
            holders: Vec::new(),
        }
    }
}

impl Shell {
    /// Finds a group here, or else at peers.
    pub(crate) async fn find_group(&self, key: GroupKey) -> Result<Found, NodeError> {
        if let Some((group, found_by)) = self.meta.group(&key).await.map_err(NodeError::storage)? {
            let group_id = group.manifest.body.group_id;
            let wraps = self.meta.wraps(group_id, Some(&self.me())).await.map_err(NodeError::storage)?;
            return Ok(Found { found_by, ..Found::local(group, wraps) });
        }
        let holders = self.ask_peers(key).await.found;
        let (_, info) = holders.first().ok_or_else(|| NodeError::NotFound(describe(&key)))?;
        let manifest = info.manifest.body.clone();
        let found_by = if names_publicly(&manifest, &key) { FoundBy::Public } else { FoundBy::Plaintext };
        let (sealed, wraps) = (info.sealed.to_vec(), info.wraps.to_vec());
        Ok(Found { manifest, sealed, wraps, found_by, local: None, holders })
    }

    /// Asks every peer that can be reached for a group.
    pub(crate) async fn ask_peers(&self, key: GroupKey) -> Answers {
        let admitted = self.members.admissions(wall_clock());
        let peers: Vec<NodeId> =
            admitted.iter().map(|admission| admission.body.node).filter(|node| *node != self.me()).collect();
        let Some(net) = self.net.get() else { return Answers { found: Vec::new(), all_answered: peers.is_empty() } };
        let up = self.members.up();
        let asked = peers
            .iter()
            .filter(|node| up.contains(node))
            .map(|node| async move { (*node, net.request(*node, Request::Group(key)).await) });
        let mut answers = Answers { found: Vec::new(), all_answered: peers.iter().all(|node| up.contains(node)) };
        for (node, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(Response::Group(info)) if self.is_good(&key, &info) => answers.found.push((node, info)),
                Ok(Response::NotHere) => {}
                Ok(other) => {
                    tracing::warn!(peer = %node.short(), ?other, "a peer answered nonsense about a group");
                    answers.all_answered = false;
                }
                Err(error) => {
                    tracing::debug!(peer = %node.short(), %error, "a peer did not answer about a group");
                    answers.all_answered = false;
                }
            }
        }
        answers
    }

    /// Whether what a peer told is signed by its owner and is what was asked for.
    fn is_good(&self, key: &GroupKey, info: &GroupInfo) -> bool {
        let manifest = &info.manifest.body;
        if info.manifest.verify(&self.network).is_err() || group::verify_manifest(manifest).is_err() {
            return false;
        }
        names_publicly(manifest, key) || matches!(key, GroupKey::Hash(hash) if self.opens_to(info, *hash))
    }

    /// Whether this node can read the group and its plaintext has this hash.
    fn opens_to(&self, info: &GroupInfo, hash: ContentHash) -> bool {
        let manifest = &info.manifest.body;
        let part = grant::content_key(&self.keys, &self.network, manifest, &info.wraps)
            .and_then(|key| grant::sealed_part(&key, manifest, &info.sealed));
        part.is_ok_and(|part| part.plain.sha256 == hash)
    }

    /// Whether W distinct admitted nodes stand by a manifest: then its pair of hashes may drive streaming.
    fn is_backed(&self, manifest: &Manifest, receipts: &[SignedReceipt]) -> bool {
        let (hash, now) = (manifest.hash(), wall_clock());
        let mut holders: Vec<NodeId> = receipts
            .iter()
            .filter(|receipt| {
                let body = &receipt.body;
                body.counts_for(&hash, manifest)
                    && now < body.until
                    && self.members.is_admitted(&body.holder, now)
                    && receipt.verify(&self.network).is_ok()
            })
            .map(|receipt| receipt.body.holder)
            .collect();
        holders.sort_unstable();
        holders.dedup();
        holders.len() >= usize::from(manifest.quorum.max(1))
    }

    /// This node's key to a group, if it may read it.
    pub(crate) async fn key_of(&self, found: &Found) -> Result<mynet_store::cipher::ContentKey, GrantError> {
        let manifest = &found.manifest;
        match self.meta.wrapped_key(manifest.group_id).await {
            Ok(Some((_, bytes))) => grant::from_rest(&self.keys, &bytes, manifest),
            Ok(None) => grant::content_key(&self.keys, &self.network, manifest, &found.wraps),
            Err(error) => {
                tracing::error!(%error, "cannot look for a content key");
                Err(GrantError::NotGranted)
            }
        }
    }

    /// What users call the content, if this node may know.
    pub(crate) async fn details_of(&self, found: &Found) -> Option<(Details, Option<BlobRef>)> {
        match &found.manifest.protection {
            Protection::Open { details } => Some((details.clone(), None)),
            Protection::Sealed { .. } => {
                let key = self.key_of(found).await.ok()?;
                let part = grant::sealed_part(&key, &found.manifest, &found.sealed).ok()?;
                Some((part.details, Some(part.plain)))
            }
        }
    }

    /// Opens one state for `asker`.
    pub(crate) async fn open_content(
        &self,
        key: GroupKey,
        state: Option<ContentState>,
        asker: Asker,
    ) -> Result<ContentInfo, NodeError> {
        let found = self.find_group(key).await?;
        let state = state.unwrap_or_else(|| named_state(&found, &key));
        let unknown = || NodeError::NotFound(describe(&key));
        if asker == Asker::Anonymous && !is_for_everybody(&found, state) {
            return Err(unknown());
        }
        let member = found.manifest.member(state).ok_or_else(|| NodeError::NotFound(format!("a {state} state")))?;
        let details = self.details_of(&found).await;
        let (blob, cipher) = match member.blob {
            Some(blob) => (blob, None),
            None => (encrypted_blob(&found.manifest).ok_or_else(unknown)?, Some(self.cipher_of(&found).await?)),
        };
        let (size, hash) = match (&cipher, &details) {
            (Some(_), Some((_, Some(plain)))) => (plain.size, plain.sha256),
            (Some(_), _) => return Err(not_granted()),
            (None, _) => (blob.size, blob.sha256),
        };
        let opened = self.locate(&found, blob, cipher).await?;
        let known = details.map(|(details, _)| details).filter(|_| asker != Asker::Anonymous || member.blob.is_some());
        let plain_mime = known.as_ref().filter(|_| state == ContentState::Decrypted);
        let mime = member.mime.as_ref().map(ToString::to_string);
        Ok(ContentInfo {
            hash,
            state,
            size,
            mime: mime
                .or_else(|| plain_mime.map(|details| details.mime.to_string()))
                .unwrap_or(UNKNOWN_MIME.to_owned()),
            filename: plain_mime.map(|details| details.filename.to_string()),
            public: is_for_everybody(&found, state),
            source: if opened.local.is_some() { Source::Local } else { Source::Peer },
            opened: Opened(Some(opened)),
        })
    }

    /// The cipher of a group that this node may read.
    async fn cipher_of(&self, found: &Found) -> Result<FileCipher, NodeError> {
        if found.manifest.class == DecryptedClass::None && found.local.as_ref().is_none_or(|group| !group.origin) {
            return Err(not_granted());
        }
        let key = self.key_of(found).await.map_err(|error| {
            tracing::debug!(group = %found.manifest.group_id.short(), %error, "content is not readable here");
            not_granted()
        })?;
        grant::file_cipher(&key, &found.manifest).map_err(|_not_sealed| not_granted())
    }

    /// Where the bytes of a blob can be read.
    async fn locate(&self, found: &Found, blob: BlobRef, cipher: Option<FileCipher>) -> Result<Location, NodeError> {
        let row = self.meta.blob(&blob.sha256).await.map_err(NodeError::storage)?;
        if let Some(row) = row.filter(|row| !row.quarantined && found.local.is_some()) {
            return Ok(Location { blob, local: Some(row.stored), holders: Vec::new(), cipher });
        }
        let asked;
        let told = if found.local.is_some() {
            asked = self.ask_peers(GroupKey::Group(found.manifest.group_id)).await.found;
            &asked
        } else {
            &found.holders
        };
        let hash = found.manifest.hash();
        let same = told.iter().filter(|(_, info)| info.manifest.body.hash() == hash);
        let holders: Vec<NodeId> =
            same.clone().filter(|(_, info)| !info.held.is_empty()).map(|(node, _)| *node).collect();
        // A row of this node says that it hashed the bytes itself once; a stranger's word needs receipts.
        if found.local.is_none() && !same.clone().any(|(_, info)| self.is_backed(&found.manifest, &info.receipts)) {
            return Err(NodeError::Unavailable(format!("{}: it is not durable yet", blob.sha256)));
        }
        if holders.is_empty() {
            return Err(NodeError::Unavailable(blob.sha256.to_string()));
        }
        Ok(Location { blob, local: None, holders, cipher })
    }

    /// Reads a range of opened content.
    pub(crate) async fn read_content(
        self: &Arc<Self>,
        opened: &Location,
        range: Range<u64>,
    ) -> Result<ByteStream, NodeError> {
        let Some(cipher) = &opened.cipher else {
            let source = self.open_blob(opened, range).await?;
            return Ok(into_stream(source));
        };
        let invalid =
            |error: mynet_store::cipher::CipherError| NodeError::Invalid { field: "range", why: error.to_string() };
        let span = ChunkSpan::covering(range, opened.blob.size).map_err(invalid)?;
        let source = self.open_blob(opened, span.cipher.clone()).await?;
        Ok(into_stream(Plain(DecryptedRange::new(cipher.clone(), &span, source))))
    }

    /// Opens verified bytes of a blob.
    async fn open_blob(self: &Arc<Self>, opened: &Location, range: Range<u64>) -> Result<BlobSource, NodeError> {
        let Some(stored) = opened.local else {
            let remote = Remote { shell: Arc::clone(self), opened: opened.clone(), left: range, tried: 0, now: None };
            return Ok(BlobSource::Remote(Box::new(remote)));
        };
        let opened = self.blobs.read(stored.blob, stored.generation).await;
        let range = opened.and_then(|reader: BlobReader| reader.range(range));
        match range {
            Ok(range) => Ok(BlobSource::Local(Box::new(Local { shell: Arc::clone(self), stored, range }))),
            Err(error) => {
                self.damaged(&stored, &error).await;
                Err(NodeError::Corrupt(stored.blob.sha256))
            }
        }
    }
}

/// What peers told about a group.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) found: Vec<(NodeId, Box<GroupInfo>)>,
    /// Every admitted peer answered.
    pub(crate) all_answered: bool,
}

/// Content is not readable on this node.
fn not_granted() -> NodeError {
    NodeError::Forbidden("this node may not read the decrypted state; its owner's node can `mynet trust` it".to_owned())
}

/// How a group was asked for.
fn describe(key: &GroupKey) -> String {
    match key {
        GroupKey::Group(id) => format!("group {id}"),
        GroupKey::Hash(hash) => hash.to_string(),
        GroupKey::Content(id) => format!("content {id}"),
    }
}

/// Whether the public part of a manifest carries this name.
fn names_publicly(manifest: &Manifest, key: &GroupKey) -> bool {
    match key {
        GroupKey::Group(id) => manifest.group_id == *id,
        GroupKey::Hash(hash) => manifest.blobs().any(|(_, blob)| blob.sha256 == *hash),
        GroupKey::Content(id) => manifest.members.iter().any(|member| member.content_id == *id),
    }
}

/// The state that a key names; a group's id names the decrypted one.
fn named_state(found: &Found, key: &GroupKey) -> ContentState {
    let named = found.manifest.members.iter().find(|member| match key {
        GroupKey::Group(_) => false,
        GroupKey::Hash(hash) => member.blob.is_some_and(|blob| blob.sha256 == *hash),
        GroupKey::Content(id) => member.content_id == *id,
    });
    named.map_or(ContentState::Decrypted, |member| member.state)
}

/// Whether everybody may read this state: public content, and previews.
fn is_for_everybody(found: &Found, state: ContentState) -> bool {
    let public = found.manifest.class == DecryptedClass::Public;
    found.found_by == FoundBy::Public && (public || state == ContentState::Preview)
}

/// The bytes of the encrypted state.
fn encrypted_blob(manifest: &Manifest) -> Option<BlobRef> {
    let blob = manifest.member(ContentState::Encrypted)?.blob?;
    plain_len(blob.size).map(|_| blob)
}

/// Verified bytes of a blob.
enum BlobSource {
    Local(Box<Local>),
    Remote(Box<Remote>),
}

/// A range of a blob on this disk.
struct Local {
    shell: Arc<Shell>,
    stored: StoredBlob,
    range: BlobRange,
}

impl VerifiedStream for BlobSource {
    type Error = NodeError;

    async fn next(&mut self) -> Result<Option<Bytes>, NodeError> {
        match self {
            Self::Local(local) => match local.range.next().await {
                Ok(bytes) => Ok(bytes),
                Err(error @ (ReadError::Missing { .. } | ReadError::Corrupt { .. })) => {
                    local.shell.damaged(&local.stored, &error).await;
                    Err(NodeError::Corrupt(local.stored.blob.sha256))
                }
                Err(error) => Err(NodeError::storage(error)),
            },
            Self::Remote(remote) => remote.next().await,
        }
    }
}

/// A range that peers deliver; when one fails the next goes on where it stopped.
struct Remote {
    shell: Arc<Shell>,
    opened: Location,
    left: Range<u64>,
    tried: usize,
    now: Option<RangeDecoder<NetStream>>,
}

impl Remote {
    async fn next(&mut self) -> Result<Option<Bytes>, NodeError> {
        loop {
            if self.left.is_empty() {
                return Ok(None);
            }
            if let Some(decoder) = &mut self.now {
                match decoder.next().await {
                    Ok(Some(bytes)) => {
                        self.left.start += bytes.len() as u64;
                        return Ok(Some(bytes));
                    }
                    Ok(None) => return Err(NodeError::Unavailable(self.opened.blob.sha256.to_string())),
                    Err(error) => {
                        tracing::info!(blob = %self.opened.blob.sha256, %error, "a holder failed, the next is asked");
                        self.now = None;
                    }
                }
            }
            let holder = self.opened.holders.get(self.tried).copied();
            let holder = holder.ok_or_else(|| NodeError::Unavailable(self.opened.blob.sha256.to_string()))?;
            self.tried += 1;
            self.now = ask(&self.shell, &self.opened.blob, holder, self.left.clone()).await;
        }
    }
}

/// Opens a range at one holder.
async fn ask(shell: &Shell, blob: &BlobRef, holder: NodeId, range: Range<u64>) -> Option<RangeDecoder<NetStream>> {
    let wanted = RangeWanted { sha256: blob.sha256, offset: range.start, len: range.end - range.start };
    match shell.net.get()?.open_range(holder, wanted).await {
        Ok((_, stream)) => RangeDecoder::new(blob, range, stream).ok(),
        Err(error) => {
            tracing::info!(peer = %holder.short(), blob = %blob.sha256, %error, "a holder sends no bytes");
            None
        }
    }
}

/// Plaintext whose errors are the node's.
struct Plain(DecryptedRange<BlobSource>);

impl VerifiedStream for Plain {
    type Error = NodeError;

    async fn next(&mut self) -> Result<Option<Bytes>, NodeError> {
        use mynet_store::blobs::DecryptError;
        self.0.next().await.map_err(|error| match error {
            DecryptError::Source(error) => error,
            error @ (DecryptError::Cipher(_) | DecryptError::Short { .. } | DecryptError::Local(_)) => {
                NodeError::storage(error)
            }
        })
    }
}

/// A verified stream as the API wants it.
fn into_stream(source: impl VerifiedStream<Error = NodeError> + 'static) -> ByteStream {
    Box::pin(stream::try_unfold(
        source,
        |mut source| async move { Ok(source.next().await?.map(|bytes| (bytes, source))) },
    ))
}
