//! Uploads as forms: an optional part `preview`, then the part `file`.
//!
//! The file is streamed, so whatever the node must know before it, the preview, has to come before it. What comes after the
//! file is read before the node learns that the file ended; a form that goes on in a wrong way therefore keeps nothing.
//!
//! Source: RFC 7578 (multipart/form-data).

use std::io;

use axum::{
    body::Body,
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::request::Parts,
};
use bytes::{Bytes, BytesMut};
use mynet_node::{
    handle::{NodeError, PreviewChoice},
    view::GroupView,
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    body::BoundedBody,
    node::NodeHandle,
    params::unknown,
    problem::{Code, Problem},
    upload::{Upload, filename_of_form, may_supply_preview},
};

/// Bytes of a preview at most, as the node takes; it is held in memory while its upload runs.
const PREVIEW_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Chunks of the file between the form and the node: enough that neither waits for the other's turn.
const CHUNKS_BETWEEN: usize = 4;

/// The names of the parts.
const PARTS: &[&str] = &["preview", "file"];

/// Adds the file of a form.
///
/// # Errors
/// [`Code::Invalid`] `body` for a form of a wrong shape, [`Code::PayloadTooLarge`] for the preview, and those of the node. Nothing
/// was kept.
pub(crate) async fn add(
    node: &NodeHandle,
    parts: Parts,
    body: BoundedBody,
    upload: Upload,
) -> Result<GroupView, Problem> {
    let mut request = Request::from_parts(parts, Body::from_stream(body));
    // The bound on the body is the stream's own.
    DefaultBodyLimit::disable().apply(&mut request);
    let form = Multipart::from_request(request, &())
        .await
        .map_err(|error| wrong_form(error.body_text()).with_hint("send Content-Type with its boundary"))?;
    let (begin, begun) = oneshot::channel::<Upload>();
    let (chunks, mut file) = mpsc::channel(CHUNKS_BETWEEN);
    let add = async {
        let upload = begun.await.ok()?;
        let file = futures::stream::poll_fn(move |context| file.poll_recv(context));
        Some(node.add(file, upload.options).await)
    };
    match tokio::join!(walk(form, upload, begin, chunks), add) {
        (Err(problem), _) => Err(problem),
        (Ok(()), Some(added)) => Ok(added?),
        (Ok(()), None) => Err(wrong_form("it has no part 'file'")),
    }
}

/// Walks a form; a wrong one ends the file with an error, so that the node keeps nothing of it.
async fn walk(
    form: Multipart,
    upload: Upload,
    begin: oneshot::Sender<Upload>,
    chunks: mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Problem> {
    let walked = walk_parts(form, upload, begin, &chunks).await;
    if walked.is_err() {
        // Refused if the node has already given up; then nothing is left to be told.
        let _ = chunks.send(Err(io::Error::other("the form was refused"))).await;
    }
    walked
}

async fn walk_parts(
    mut form: Multipart,
    upload: Upload,
    begin: oneshot::Sender<Upload>,
    chunks: &mpsc::Sender<io::Result<Bytes>>,
) -> Result<(), Problem> {
    let mut before = Some((upload, begin));
    while let Some(mut part) = form.next_field().await.map_err(broken)? {
        match (part.name().unwrap_or_default(), before.take()) {
            ("preview", Some((mut upload, begin))) => {
                upload.options.preview = preview(part, &upload).await?;
                before = Some((upload, begin));
            }
            ("file", Some((mut upload, begin))) => {
                if let (false, Some(name)) = (upload.named, part.file_name()) {
                    upload.options.filename = filename_of_form(name)?;
                }
                let _ = begin.send(upload);
                while let Some(chunk) = part.chunk().await.map_err(broken)? {
                    if chunks.send(Ok(chunk)).await.is_err() {
                        return Ok(()); // The node gave up and says why.
                    }
                }
            }
            ("preview", None) => return Err(wrong_form("the part 'preview' must come before the part 'file'")),
            ("file", None) => return Err(wrong_form("it has two parts 'file'; send each file as its own upload")),
            (name, _) => return Err(unknown("part", name, PARTS)),
        }
    }
    Ok(())
}

/// Reads a preview into memory.
async fn preview(mut part: Field<'_>, upload: &Upload) -> Result<PreviewChoice, Problem> {
    may_supply_preview(upload)?;
    if matches!(upload.options.preview, PreviewChoice::Supplied { .. }) {
        return Err(wrong_form("it has two parts 'preview'"));
    }
    let Some(mime) = part.content_type().map(str::to_owned) else {
        return Err(
            wrong_form("the part 'preview' has no Content-Type").with_hint("name its media type, as image/jpeg")
        );
    };
    let mut bytes = BytesMut::new();
    while let Some(chunk) = part.chunk().await.map_err(broken)? {
        if bytes.len() + chunk.len() > PREVIEW_BYTES_MAX {
            let why = format!("the preview is larger than {PREVIEW_BYTES_MAX} bytes");
            return Err(Problem::new(Code::PayloadTooLarge, why).with_hint("send a smaller preview"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(PreviewChoice::Supplied { bytes: bytes.freeze(), mime })
}

/// The form has a wrong shape.
fn wrong_form(why: impl Into<String>) -> Problem {
    Problem::new(Code::Invalid("body"), format!("the form cannot be used: {}", why.into()))
        .with_hint("send a part 'preview' if there is one, then one part 'file'; or the file as the body")
}

/// The form broke off or is unreadable.
fn broken(error: MultipartError) -> Problem {
    NodeError::Upload(io::Error::other(error.body_text())).into()
}
