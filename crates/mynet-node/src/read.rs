//! Reading content: whoever asks, from this disk or through the network, whole or by ranges.
//!
//! **Invariants**
//! 1. Every byte handed out was verified against a BLAKE3 root that came from a row of this node, or from a manifest that
//!    its owner signed and enough admitted nodes stand by (`backing`). Where too few do, the blob is fetched whole and its
//!    SHA-256 checked before the first byte of it leaves (`spool`).
//! 2. Plaintext leaves under a hash only if somebody who is believed has hashed all of it (`plaintext`).
//! 3. Whoever may not know of content is told that it does not exist.
//! 4. A damaged blob is quarantined at the first bad byte; the next read goes to another node.

use std::{ops::Range, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::stream;
use mynet_net::{ByteStream as NetStream, RangeWanted};
use mynet_store::{
    blobs::{BlobRange, BlobReader, DecryptError, DecryptedRange, RangeDecoder, ReadError, VerifiedStream},
    cipher::{ChunkSpan, FileCipher, plain_len},
    meta::{BlobRow, MetaError, StoredBlob},
};
use mynet_types::{
    BlobRef, ContentState, DecryptedClass, Details, Manifest, ManifestHash, NodeId, Protection, rpc::GroupKey,
};

use crate::{
    driver::wall_clock,
    find::{Found, describe},
    grant::{self, GrantError},
    handle::{Asker, ByteStream, ContentInfo, NodeError, Opened, Source},
    plaintext::hash_of,
    shell::Shell,
};

/// Media type where the real one is secret or unknown.
const UNKNOWN_MIME: &str = "application/octet-stream";

/// How often it is noted that a blob that nothing pins is still read; well within the grace after which it is collected.
const TOUCH_INTERVAL: Duration = Duration::from_secs(60);

/// Content that was opened: what to read, and where.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    blob: BlobRef,
    place: Place,
    cipher: Option<FileCipher>,
    /// What the plaintext is said to be, if nobody who is believed has hashed it yet.
    unhashed: Option<(ManifestHash, BlobRef)>,
}

/// Where the bytes of a blob are.
#[derive(Debug, Clone)]
enum Place {
    /// On this disk.
    Here(StoredBlob),
    /// At these peers; both names of the blob are believed, so they are checked as they stream by.
    Peers(Vec<NodeId>),
    /// At these peers, who alone say that both names are of the same bytes.
    Unproven(Vec<NodeId>),
}

impl Shell {
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
        let found = match asker {
            Asker::Anonymous => self.find_public(key, state).await?,
            Asker::Key(_) => self.find_group(key).await?,
        };
        let state = state.unwrap_or_else(|| found.named_state(&key));
        let unknown = || NodeError::NotFound(describe(&key));
        if asker == Asker::Anonymous && !found.is_for_everybody(state) {
            return Err(unknown());
        }
        let found = self.with_missed_wrap(found, state).await?;
        let member = found.manifest.member(state).ok_or_else(|| NodeError::Absent {
            what: format!("{} has no {state} state", describe(&key)),
            hint: "ask for one of its states: `show`, or the group itself, lists them",
        })?;
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
        let plain = details.as_ref().and_then(|(_, plain)| *plain).filter(|_| cipher.is_some());
        let (place, source) = self.locate(&found, blob, asker).await?;
        let unhashed = plain.filter(|_| !self.is_plaintext_known(&found)).map(|plain| (found.manifest.hash(), plain));
        let opened = Location { blob, place, cipher, unhashed };
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
            public: found.is_for_everybody(state),
            source,
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

    /// Where the bytes of a blob can be read, and what that is called.
    async fn locate(&self, found: &Found, blob: BlobRef, asker: Asker) -> Result<(Place, Source), NodeError> {
        if let Some(row) = self.good_row(&blob).await.map_err(NodeError::storage)? {
            let source = if row.unpinned_at.is_some() { Source::Cache } else { Source::Local };
            return Ok((Place::Here(row.stored), source));
        }
        let elsewhere;
        let holders = if found.local.is_some() {
            let key = GroupKey::Group(found.manifest.group_id);
            let told = self.ask_peers(&self.peers_now(), key).await.found;
            let hash = found.manifest.hash();
            let same = told.into_iter().filter(|(_, info)| info.manifest.body.hash() == hash);
            elsewhere = same.filter(|(_, info)| !info.held.is_empty()).map(|(node, _)| node).collect();
            &elsewhere
        } else {
            &found.holders
        };
        if holders.is_empty() {
            return Err(NodeError::Unavailable(blob.sha256.to_string()));
        }
        // What is held here was hashed here, even if its bytes were lost since; a stranger's word needs others to stand by it.
        let believed = found.local.is_some() || found.backing.is_enough(self.copies_to_believe(&found.manifest));
        match asker {
            _ if believed => Ok((Place::Peers(holders.clone()), Source::Peer)),
            Asker::Key(_) => Ok((Place::Unproven(holders.clone()), Source::Peer)),
            // Whole blobs are not fetched for strangers: a request of a few bytes would fill the disk.
            Asker::Anonymous => Err(NodeError::Unavailable(format!("a proven copy of {}", blob.sha256))),
        }
    }

    /// A blob that is here under exactly these names, and not damaged as far as is known.
    pub(crate) async fn good_blob(&self, blob: &BlobRef) -> Result<Option<StoredBlob>, MetaError> {
        Ok(self.good_row(blob).await?.map(|row| row.stored))
    }

    /// The row of such a blob. One that nothing pins is kept from collection while it is read.
    async fn good_row(&self, blob: &BlobRef) -> Result<Option<BlobRow>, MetaError> {
        let row = self.meta.blob(&blob.sha256).await?;
        let Some(row) = row.filter(|row| !row.quarantined && row.stored.blob == *blob) else { return Ok(None) };
        let now = wall_clock();
        if row.unpinned_at.is_some_and(|at| now.since(at) >= TOUCH_INTERVAL)
            && let Err(error) = self.meta.touch(&blob.sha256, now).await
        {
            self.not_kept("note that a blob is read", error);
        }
        Ok(Some(row))
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
        if let Some(unhashed) = opened.unhashed {
            let (shell, whole, cipher) = (Arc::clone(self), opened.clone(), cipher.clone());
            // Goes on if the reader leaves: it will come back for what it asked for.
            let hashed = self.tasks.spawn(async move {
                tokio::select! {
                    () = shell.cancel.cancelled() => Err(NodeError::Stopping),
                    hashed = shell.hash_plaintext(&whole, &cipher, unhashed) => hashed,
                }
            });
            hashed.await.map_err(NodeError::storage)??;
        }
        Ok(into_stream(Plain(self.open_plain(opened, cipher, range).await?)))
    }

    /// Decrypts the whole once and compares it with what its owner says it is.
    async fn hash_plaintext(
        self: &Arc<Self>,
        opened: &Location,
        cipher: &FileCipher,
        (manifest, said): (ManifestHash, BlobRef),
    ) -> Result<(), NodeError> {
        let _turn = self.hashed.turns.turn(&said.sha256).await;
        if self.hashed.contains(&manifest) {
            return Ok(());
        }
        let mut whole = self.open_plain(opened, cipher, 0..said.size).await?;
        if hash_of(&mut whole).await.map_err(plain_error)? != said {
            tracing::warn!(manifest_hash = %manifest, "an owner names plaintext by a hash that it does not have");
            return Err(NodeError::Unavailable(format!("{} with the right bytes", said.sha256)));
        }
        self.hashed.note(manifest);
        Ok(())
    }

    /// Opens a range of plaintext, decrypted as it is read.
    async fn open_plain(
        self: &Arc<Self>,
        opened: &Location,
        cipher: &FileCipher,
        range: Range<u64>,
    ) -> Result<DecryptedRange<BlobSource>, NodeError> {
        let invalid =
            |error: mynet_store::cipher::CipherError| NodeError::Invalid { field: "range", why: error.to_string() };
        let span = ChunkSpan::covering(range, opened.blob.size).map_err(invalid)?;
        let source = self.open_blob(opened, span.cipher.clone()).await?;
        Ok(DecryptedRange::new(cipher.clone(), &span, source))
    }

    /// All verified bytes of a blob, from this disk or from `sources` as they stream by.
    pub(crate) async fn read_whole(
        self: &Arc<Self>,
        blob: BlobRef,
        sources: &[NodeId],
    ) -> Result<impl VerifiedStream<Error = NodeError> + use<>, NodeError> {
        let here = self.good_blob(&blob).await.map_err(NodeError::storage)?;
        let elsewhere = || sources.iter().copied().filter(|node| *node != self.me()).collect();
        let place = here.map_or_else(|| Place::Peers(elsewhere()), Place::Here);
        let opened = Location { blob, place, cipher: None, unhashed: None };
        self.open_blob(&opened, 0..blob.size).await
    }

    /// Opens verified bytes of a blob.
    async fn open_blob(self: &Arc<Self>, opened: &Location, range: Range<u64>) -> Result<BlobSource, NodeError> {
        let stored = match &opened.place {
            Place::Here(stored) => *stored,
            Place::Unproven(holders) => self.spool(opened.blob, holders.clone()).await?,
            Place::Peers(holders) => {
                let (shell, holders) = (Arc::clone(self), holders.clone());
                let remote = Remote { shell, blob: opened.blob, holders, left: range, tried: 0, now: None };
                return Ok(BlobSource::Remote(Box::new(remote)));
            }
        };
        let opened = self.blobs.read(stored.blob, stored.generation).await;
        match opened.and_then(|reader: BlobReader| reader.range(range)) {
            Ok(range) => Ok(BlobSource::Local(Box::new(Local { shell: Arc::clone(self), stored, range }))),
            Err(error) => Err(self.unreadable(&stored, error).await),
        }
    }

    /// What a blob that cannot be read means: one that is missing or damaged goes into quarantine, all else is the disk's.
    async fn unreadable(&self, stored: &StoredBlob, error: ReadError) -> NodeError {
        match error {
            error @ (ReadError::Missing { .. } | ReadError::Corrupt { .. }) => {
                self.damaged(stored, &error).await;
                NodeError::Corrupt(stored.blob.sha256)
            }
            error @ ReadError::Range { .. } => NodeError::Invalid { field: "range", why: error.to_string() },
            error @ ReadError::Disk(_) => NodeError::storage(error),
        }
    }
}

/// Content is not readable on this node.
fn not_granted() -> NodeError {
    NodeError::Forbidden("this node may not read the decrypted state; its owner's node can `mynet trust` it".to_owned())
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
                Err(error) => Err(local.shell.unreadable(&local.stored, error).await),
            },
            Self::Remote(remote) => remote.next().await,
        }
    }
}

/// A range that peers deliver; when one fails the next goes on where it stopped.
struct Remote {
    shell: Arc<Shell>,
    blob: BlobRef,
    holders: Vec<NodeId>,
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
                    Ok(None) => return Err(NodeError::Unavailable(self.blob.sha256.to_string())),
                    Err(error) => {
                        tracing::info!(blob = %self.blob.sha256, %error, "a holder failed, the next is asked");
                        self.now = None;
                    }
                }
            }
            let holder = self.holders.get(self.tried).copied();
            let holder = holder.ok_or_else(|| NodeError::Unavailable(self.blob.sha256.to_string()))?;
            self.tried += 1;
            self.now = ask(&self.shell, &self.blob, holder, self.left.clone()).await;
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
        self.0.next().await.map_err(plain_error)
    }
}

/// Why no more plaintext comes.
fn plain_error(error: DecryptError<NodeError>) -> NodeError {
    match error {
        DecryptError::Source(error) => error,
        error @ (DecryptError::Cipher(_) | DecryptError::Short { .. } | DecryptError::Local(_)) => {
            NodeError::storage(error)
        }
    }
}

/// A verified stream as the API wants it.
fn into_stream(source: impl VerifiedStream<Error = NodeError> + 'static) -> ByteStream {
    Box::pin(stream::try_unfold(
        source,
        |mut source| async move { Ok(source.next().await?.map(|bytes| (bytes, source))) },
    ))
}
