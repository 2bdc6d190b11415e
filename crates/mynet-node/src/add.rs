//! Uploads: one pass over the body, a preview, a manifest, and one transaction that makes the group visible here.
//!
//! **Invariant:** until that transaction nothing of an upload can be found; if anything fails before it, the staging
//! directory goes and nothing is kept.

use std::sync::Arc;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use mynet_proto::{
    placement::PlacementSlot,
    reason::{Note, Reason},
};
use mynet_store::{
    blobs::{BlobKey, Ingest, IngestError, Ingested, StageName, StagedBlob, StagingDir},
    keys::{WrapTarget, wrap_key},
    meta::{GroupRows, Mode, NewGroup, StoredBlob},
};
use mynet_types::{ContentType, DecryptedClass, GroupId, SignedAdmission, SignedWrap, wire::REPLICAS_MAX};

use crate::{
    compose::{Composed, Copies, Description, Draft, PreviewMember},
    config::SuccessMode,
    driver::wall_clock,
    events::{EventKind, EventView},
    grant,
    handle::{AddOptions, Grant, NodeError, PreviewChoice},
    media::{SNIFF_BYTES, media_type},
    preview::{OriginalKey, PreviewError, PreviewLimits},
    room::Flight,
    shell::{Chain, Shell},
};

/// Largest preview that may be supplied.
const PREVIEW_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Starts the names of staging directories of uploads; those found at a start are leftovers.
pub(crate) const STAGING_PREFIX: &str = "upload-";

/// An upload that is visible on this node.
pub(crate) struct Stored {
    pub(crate) group_id: GroupId,
    /// Why it has no preview, if one was to be made.
    pub(crate) no_preview: Option<Reason>,
}

/// A blob of an upload, ready to be put in place.
struct Piece {
    staged: StagedBlob,
}

impl Shell {
    /// Stores one file as a group that is visible on this node.
    pub(crate) async fn store_upload(
        self: &Arc<Self>,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
        options: &AddOptions,
    ) -> Result<Stored, NodeError> {
        let copies = self.check_options(options)?;
        let staging = self.upload_staging().await?;
        let stored = self.store_in(&staging, body, (options, copies)).await;
        if let Err(error) = staging.remove().await {
            tracing::warn!(%error, "staging of an upload was not removed, the next start does");
        }
        stored
    }

    /// Checks what can be known before the first byte.
    fn check_options(&self, options: &AddOptions) -> Result<Copies, NodeError> {
        if self.cancel.is_cancelled() {
            return Err(NodeError::Stopping);
        }
        let config = self.config();
        let replicas = options.replicas.unwrap_or(config.replication.replicas);
        let quorum = config.replication.quorum;
        if replicas < quorum {
            let why = format!("{replicas} copies cannot give {quorum} receipts; ask for at least {quorum}");
            return Err(NodeError::Invalid { field: "replicas", why });
        }
        if replicas > REPLICAS_MAX {
            let why = format!("at most {REPLICAS_MAX} copies are made");
            return Err(NodeError::Invalid { field: "replicas", why });
        }
        if options.public && options.grant != Grant::Trusted {
            let why = "public content is not encrypted, so everybody may read it; leave out one of public and grant";
            return Err(NodeError::Invalid { field: "grant", why: why.to_owned() });
        }
        if let PreviewChoice::Supplied { bytes, .. } = &options.preview {
            check_preview(bytes)?;
        }
        Ok(Copies { replicas, quorum })
    }

    /// Everything between making and removing the staging directory.
    async fn store_in(
        self: &Arc<Self>,
        staging: &StagingDir,
        body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
        (options, copies): (&AddOptions, Copies),
    ) -> Result<Stored, NodeError> {
        let draft = Draft::new();
        // Held until the rows are written: from then on they count.
        let mut flight = self.take_off();
        let sealed = (!options.public).then_some(&draft);
        let (ingested, head) = self.ingest(staging, body, (sealed, &mut flight)).await?;
        let description = describe(options, &head);
        let preview = if options.public {
            Err(None)
        } else {
            self.preview(staging, &draft, (&ingested, &description), options).await?
        };
        let no_preview = preview.as_ref().err().copied().flatten();
        let signer = (&self.network, self.keys.owner(), wall_clock());
        let (member, piece) = preview.ok().unzip();
        let composed = if options.public {
            draft.open(ingested.plain, (&description, copies), signer)
        } else {
            draft.seal((ingested.plain, ingested.staged.blob), member, (&description, copies), signer)
        };
        let composed = composed.map_err(|error| NodeError::Invalid { field: "description", why: error.to_string() })?;
        let group_id = composed.manifest.body.group_id;
        let wraps = self.first_wraps(&draft, &composed, &options.grant)?;
        self.remember_grant(group_id, &options.grant).await?;
        let pieces = [Some(Piece { staged: ingested.staged }), piece];
        let blobs = self.put_in_place(pieces.into_iter().flatten()).await?;
        let granted = (!options.public)
            .then(|| grant::granted(&self.keys, &draft.key, &composed.manifest.body, &composed.sealed));
        let granted = granted.transpose().map_err(NodeError::storage)?;
        let rows = GroupRows {
            placement_slot: PlacementSlot::of(&composed.manifest.body.placement_seed).number(),
            held: composed.manifest.body.states(),
            manifest: composed.manifest,
            sealed: composed.sealed,
            wraps,
            granted,
        };
        let all = self.config().replication.mode == SuccessMode::All;
        let publish = options.publish.then_some((copies.replicas, if all { Mode::All } else { Mode::Quorum }));
        let group = NewGroup { rows, blobs: blobs.clone(), publish, user: None };
        match self.meta.insert_uploaded_group(group, wall_clock()).await {
            Ok(done) => self.unlink(done.redundant).await,
            Err(error) => {
                self.unlink(blobs).await;
                return Err(NodeError::storage(error));
            }
        }
        tracing::info!(group = %group_id.short(), bytes = ingested.plain.size, "group stored");
        self.events.tell(EventView::of_group(EventKind::Stored, group_id));
        if let Some(reason) = no_preview {
            self.note(Note::about(group_id, reason));
        }
        Ok(Stored { group_id, no_preview })
    }

    /// The one pass over the body. Returns its first bytes too.
    async fn ingest(
        &self,
        staging: &StagingDir,
        mut body: impl Stream<Item = std::io::Result<Bytes>> + Send + Unpin,
        (draft, flight): (Option<&Draft>, &mut Flight<'_>),
    ) -> Result<(Ingested, Vec<u8>), NodeError> {
        let label = label("content");
        let ingest = match draft {
            Some(draft) => Ingest::sealed(staging, &label, draft.cipher(), None).await,
            None => Ingest::plain(staging, &label, None).await,
        };
        let mut ingest = ingest.map_err(ingest_error)?;
        let (mut size, mut head) = (0, Vec::new());
        let upload_max = self.config().limits.upload;
        while let Some(bytes) = body.next().await {
            let bytes = bytes.map_err(NodeError::Upload)?;
            size += bytes.len() as u64;
            flight.take(bytes.len() as u64).await?;
            if size > upload_max.as_u64() {
                let why = format!("more than {upload_max}, the largest upload allowed");
                return Err(NodeError::Invalid { field: "body", why });
            }
            let more = SNIFF_BYTES.saturating_sub(head.len()).min(bytes.len());
            head.extend_from_slice(bytes.get(..more).unwrap_or_default());
            ingest.write(&bytes).await.map_err(ingest_error)?;
        }
        Ok((ingest.finish().await.map_err(ingest_error)?, head))
    }

    /// The preview asked for, or the one that the type has; else why there is none, if one was to be made.
    async fn preview(
        &self,
        staging: &StagingDir,
        draft: &Draft,
        (ingested, description): (&Ingested, &Description),
        options: &AddOptions,
    ) -> Result<Result<(PreviewMember, Piece), Option<Reason>>, NodeError> {
        let (bytes, mime) = match &options.preview {
            PreviewChoice::None => return Ok(Err(None)),
            PreviewChoice::Supplied { bytes, mime } => (bytes.clone(), mime.clone()),
            PreviewChoice::Auto => match self.make_preview(staging, draft, ingested, description.content_type).await? {
                Ok(made) => made,
                Err(reason) => return Ok(Err(Some(reason))),
            },
        };
        let staged = stage_preview(staging, &bytes).await?;
        Ok(Ok((PreviewMember { blob: staged.blob, mime }, Piece { staged })))
    }

    /// Puts a supplied preview in place; its row comes next.
    pub(crate) async fn store_preview(&self, bytes: &Bytes) -> Result<StoredBlob, NodeError> {
        check_preview(bytes)?;
        let staging = self.upload_staging().await?;
        let placed = async {
            let staged = stage_preview(&staging, bytes).await?;
            self.put_in_place([Piece { staged }].into_iter()).await
        };
        let placed = placed.await;
        if let Err(error) = staging.remove().await {
            tracing::warn!(%error, "staging of a preview was not removed, the next start does");
        }
        placed.map(|mut placed| placed.swap_remove(0))
    }

    /// A staging directory of its own for one upload.
    async fn upload_staging(&self) -> Result<StagingDir, NodeError> {
        let name = format!("{STAGING_PREFIX}{}", uuid::Uuid::new_v4().simple());
        let name: StageName = name.parse().expect("hex digits and a dash make a staging name");
        self.blobs.stage(name).await.map_err(NodeError::storage)
    }

    /// Makes a preview in a child process, or says why the upload goes on without one.
    async fn make_preview(
        &self,
        staging: &StagingDir,
        draft: &Draft,
        ingested: &Ingested,
        content_type: ContentType,
    ) -> Result<Result<(Bytes, String), Reason>, NodeError> {
        let original =
            tokio::fs::File::open(ingested.staged.path()).await.map_err(NodeError::storage)?.into_std().await;
        let key = OriginalKey::new(&draft.key, draft.params());
        let output = staging.path().join("preview");
        let config = self.config();
        let limits = PreviewLimits::new(config.preview.audio_seconds, config.preview.image_pixels);
        match self.previews.make((original, Some(key)), content_type, &output, limits).await {
            Ok(preview) => {
                let bytes = tokio::fs::read(&preview.path).await.map_err(NodeError::storage)?;
                tokio::fs::remove_file(&preview.path).await.map_err(NodeError::storage)?;
                Ok(Ok((bytes.into(), preview.mime.to_owned())))
            }
            Err(error) => Ok(Err(no_preview(&error))),
        }
    }

    /// Wraps the content key to whom the uploader grants.
    fn first_wraps(&self, draft: &Draft, composed: &Composed, grant: &Grant) -> Result<Vec<SignedWrap>, NodeError> {
        let manifest = &composed.manifest.body;
        if manifest.class != DecryptedClass::Granted {
            return Ok(Vec::new());
        }
        let readers: Vec<SignedAdmission> = match grant {
            Grant::None => Vec::new(),
            Grant::Trusted => self.trusted_members(),
            Grant::Nodes(nodes) => {
                let unknown = |node| NodeError::Invalid { field: "grant", why: format!("node {node} is not admitted") };
                let found = nodes.iter().map(|node| self.members.admission(node).ok_or_else(|| unknown(*node)));
                found.collect::<Result<_, _>>()?
            }
        };
        let me = self.me();
        let others = readers.into_iter().filter(|reader| reader.body.node != me);
        // The origin reads by the key at rest, but as a holder it needs a wrap like everybody else.
        let own = self.members.admission(&me);
        let wraps = others
            .chain(own)
            .map(|reader| self.wrap_for(&draft.key, (manifest.group_id, manifest.key_version()), &reader));
        wraps.collect()
    }

    /// Wraps one key to one reader.
    pub(crate) fn wrap_for(
        &self,
        key: &mynet_store::cipher::ContentKey,
        (group_id, version): (GroupId, u64),
        reader: &SignedAdmission,
    ) -> Result<SignedWrap, NodeError> {
        let target = WrapTarget {
            network: self.network,
            group_id,
            version,
            recipient: reader.body.node,
            recipient_key: reader.body.wrap_key,
        };
        wrap_key(key, &target, self.keys.owner()).map_err(NodeError::storage)
    }

    /// Moves files in place, fsynced; their rows come next.
    async fn put_in_place(&self, pieces: impl Iterator<Item = Piece>) -> Result<Vec<StoredBlob>, NodeError> {
        let mut placed: Vec<StoredBlob> = Vec::new();
        for Piece { staged } in pieces {
            let generation = self.generation();
            match self.blobs.commit(&staged, generation).await {
                Ok(BlobKey { .. }) => placed.push(StoredBlob { blob: staged.blob, generation }),
                Err(error) => {
                    self.unlink(placed).await;
                    return Err(NodeError::storage(error));
                }
            }
        }
        Ok(placed)
    }
}

/// Why an upload has no preview, for its uploader; the node's log gets the details.
fn no_preview(error: &PreviewError) -> Reason {
    let reason = match error {
        PreviewError::Unsupported { .. } => Reason::PreviewUnsupported,
        PreviewError::TooShort | PreviewError::TooSmall => Reason::PreviewTooSmall,
        PreviewError::Corrupt { .. } => Reason::PreviewDamaged,
        PreviewError::Read(_) | PreviewError::Write(_) | PreviewError::Encode { .. } | PreviewError::Worker { .. } => {
            tracing::warn!(error = %Chain(error), "a preview failed, the upload goes on without one");
            return Reason::PreviewFailed;
        }
    };
    tracing::info!(%error, "the upload gets no preview");
    reason
}

/// Refuses a preview that is too large.
fn check_preview(bytes: &Bytes) -> Result<(), NodeError> {
    if bytes.len() <= PREVIEW_BYTES_MAX {
        return Ok(());
    }
    let why = format!("{} bytes, at most {PREVIEW_BYTES_MAX} are allowed", bytes.len());
    Err(NodeError::Invalid { field: "preview", why })
}

/// Writes a preview into a staging directory.
async fn stage_preview(staging: &StagingDir, bytes: &Bytes) -> Result<StagedBlob, NodeError> {
    let label = label("preview");
    let mut ingest = Ingest::plain(staging, &label, Some(bytes.len() as u64)).await.map_err(ingest_error)?;
    ingest.write(bytes).await.map_err(ingest_error)?;
    Ok(ingest.finish().await.map_err(ingest_error)?.staged)
}

/// A name within a staging directory.
fn label(name: &'static str) -> StageName {
    name.parse().expect("lower-case letters make a staging name")
}

/// What the uploader said, completed by what name and first bytes tell.
fn describe(options: &AddOptions, head: &[u8]) -> Description {
    let mime = media_type(&options.filename, head).to_owned();
    let guessed = match mime.split('/').next() {
        Some("audio") => ContentType::Audio,
        Some("video") => ContentType::Video,
        Some("image") => ContentType::Image,
        _ => ContentType::Document,
    };
    Description {
        content_type: options.content_type.unwrap_or(guessed),
        mime,
        filename: options.filename.clone(),
        tags: options.tags.clone(),
    }
}

fn ingest_error(error: IngestError) -> NodeError {
    match error {
        IngestError::NoSpace { needed: Some(needed), free } => NodeError::NoSpace { needed, free },
        IngestError::NoSpace { needed: None, .. } => NodeError::DiskFull,
        IngestError::TooLong => NodeError::Invalid { field: "body", why: error.to_string() },
        error => NodeError::storage(error),
    }
}
