//! Bytes of content, with ranges and conditions, from this node or through it.
//!
//! The node decides what an asker may know; what it may not know does not exist. The first bytes are awaited before a status
//! is sent, so content that is damaged or out of reach is answered with a problem. An error after that breaks the connection.
//!
//! Content comes from strangers: browsers are told not to guess its type and to run nothing of it.
//!
//! Source: RFC 9110 (ranges, conditions), RFC 9111 (caching), RFC 6266 and RFC 8187 (file names), Fetch (`Cross-Origin-Resource-Policy`).

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use mynet_node::{
    handle::{ByteStream, ContentInfo, NodeError, Source},
    view::StorageView,
};
use mynet_types::{ContentHash, ContentState, rpc::GroupKey};

use crate::{
    auth::Caller,
    ids::{ContentKey, InPath},
    node::NodeHandle,
    params::Params,
    problem::{Code, Problem, causes},
    ranges::{Verdict, etag, evaluate},
    routes::App,
};

/// Parameters of the route by id.
pub(crate) const PARAMS: &[&str] = &["state"];

/// Where the bytes came from.
const SOURCE: HeaderName = HeaderName::from_static("x-mynet-source");

/// Not in the `http` crate's list of names.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// How the content was named, which is what its address promises to caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Address {
    /// By its hash: never another content.
    Hash,
    /// By its group: another version may take its place.
    Group,
}

/// `GET /api/v1/storage`
pub(crate) async fn usage(State(app): State<App>) -> Result<Json<StorageView>, Problem> {
    Ok(Json(app.node.storage().await?))
}

/// `GET,HEAD /api/v1/storage/{hash}`
pub(crate) async fn by_hash(
    State(app): State<App>,
    InPath(hash): InPath<ContentHash>,
    caller: Caller,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let info = app.node.open(GroupKey::Hash(hash), None, caller.asker()).await?;
    answer(&app.node, &info, Address::Hash, &method, &headers).await
}

/// `GET,HEAD /api/v1/content/{id}/data?state=`
///
/// Without a state the node chooses: for a hash the state that it names, for a group its own choice for this asker.
pub(crate) async fn by_id(
    State(app): State<App>,
    InPath(id): InPath<ContentKey>,
    caller: Caller,
    params: Params,
    (method, headers): (Method, HeaderMap),
) -> Result<Response, Problem> {
    let state = params.one("state", "encrypted, decrypted or preview", str::parse::<ContentState>)?;
    let info = id.resolve(|key| app.node.open(key, state, caller.asker())).await?;
    answer(&app.node, &info, Address::Group, &method, &headers).await
}

/// Answers with as much of opened content as was asked for.
async fn answer(
    node: &NodeHandle,
    info: &ContentInfo,
    address: Address,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let tag = etag(&info.hash);
    let (status, offset, len) = match evaluate(method, headers, info.size, &tag) {
        Verdict::Whole => (StatusCode::OK, 0, info.size),
        Verdict::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Verdict::NotModified => (StatusCode::NOT_MODIFIED, 0, info.size),
        Verdict::PreconditionFailed => {
            return Err(Problem::new(Code::PreconditionFailed, format!("the content has the tag {tag}")));
        }
        Verdict::Unsatisfiable => {
            return Err(Problem::new(Code::RangeNotSatisfiable, format!("the content has {} bytes", info.size))
                .with_header(header::CONTENT_RANGE, ascii(format!("bytes */{}", info.size))));
        }
    };
    let body = if status == StatusCode::NOT_MODIFIED || *method == Method::HEAD || len == 0 {
        Body::empty()
    } else {
        Body::from_stream(begin(node, info, offset, len).await?)
    };
    let mut response = (status, body).into_response();
    let to = response.headers_mut();
    describe(to, info, address, tag);
    to.insert(header::CONTENT_LENGTH, len.into());
    if status == StatusCode::PARTIAL_CONTENT {
        to.insert(header::CONTENT_RANGE, ascii(format!("bytes {offset}-{}/{}", offset + len - 1, info.size)));
    }
    Ok(response)
}

/// What is said of content whatever part of it is sent.
fn describe(to: &mut HeaderMap, info: &ContentInfo, address: Address, tag: String) {
    let cache = match (info.public, address) {
        (true, Address::Hash) => "public, max-age=31536000, immutable",
        (true, Address::Group) => "public, no-cache",
        (false, _) => "private, no-store",
    };
    let source = match info.source {
        Source::Local => "local",
        Source::Cache => "cache",
        Source::Peer => "peer",
    };
    // The media type may come from a stranger's manifest; what is no header value is no media type.
    let mime = HeaderValue::from_str(&info.mime)
        .unwrap_or_else(|_unprintable| HeaderValue::from_static("application/octet-stream"));
    to.insert(header::CONTENT_TYPE, mime);
    to.insert(header::ETAG, ascii(tag));
    to.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    to.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    to.insert(header::CONTENT_DISPOSITION, ascii(disposition(&info.mime, info.filename.as_deref())));
    to.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    to.insert(RESOURCE_POLICY, HeaderValue::from_static(if info.public { "cross-origin" } else { "same-origin" }));
    to.insert(SOURCE, HeaderValue::from_static(source));
}

/// A header value that is made of ASCII here.
fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of visible ASCII characters only")
}

/// `Content-Disposition`: media is shown in place, everything else is saved. Names beyond ASCII come twice, as RFC 6266 advises.
fn disposition(mime: &str, filename: Option<&str>) -> String {
    let media = ["audio/", "video/", "image/"].iter().any(|kind| mime.starts_with(kind));
    let how = if media { "inline" } else { "attachment" };
    let Some(filename) = filename else { return how.to_owned() };
    let plain = |c: char| c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '%' | '/'));
    let fallback: String = filename.chars().map(|c| if plain(c) { c } else { '_' }).collect();
    if fallback == filename {
        return format!("{how}; filename=\"{fallback}\"");
    }
    let mut encoded = String::new();
    for byte in filename.bytes() {
        // The characters that RFC 8187 lets stand in a value.
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("{how}; filename=\"{fallback}\"; filename*=UTF-8''{encoded}")
}

/// Opens the stream and awaits its first chunk.
async fn begin(node: &NodeHandle, info: &ContentInfo, offset: u64, len: u64) -> Result<Exactly, Problem> {
    let mut rest = node.read(info, offset, len).await?;
    let first = rest.next().await.ok_or_else(|| NodeError::Unavailable(info.hash.to_string()))??;
    Ok(Exactly { hash: info.hash, first: Some(first), rest, left: len, ended: false })
}

/// A body of exactly as many bytes as were announced, or one that breaks the connection and says why in the log, once.
struct Exactly {
    hash: ContentHash,
    first: Option<Bytes>,
    rest: ByteStream,
    left: u64,
    ended: bool,
}

impl Exactly {
    fn broken(&mut self, why: &str) -> Poll<Option<io::Result<Bytes>>> {
        self.ended = true;
        tracing::warn!(hash = %self.hash, missing = self.left, why, "content broke off while it was sent");
        Poll::Ready(Some(Err(io::Error::other("the content broke off"))))
    }
}

impl Stream for Exactly {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let chunk = match self.first.take() {
            Some(first) => Some(Ok(first)),
            None => std::task::ready!(self.rest.poll_next_unpin(context)),
        };
        match chunk {
            Some(Ok(bytes)) => match self.left.checked_sub(bytes.len() as u64) {
                Some(left) => {
                    self.left = left;
                    Poll::Ready(Some(Ok(bytes)))
                }
                None => self.broken("more bytes came than the content has"),
            },
            Some(Err(error)) => self.broken(&causes(&error)),
            None if self.left == 0 => {
                self.ended = true;
                Poll::Ready(None)
            }
            None => self.broken("fewer bytes came than the content has"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::disposition;

    #[test]
    fn media_is_shown_and_everything_else_saved() {
        assert_eq!(disposition("audio/flac", None), "inline");
        assert_eq!(disposition("text/html", None), "attachment");
        assert_eq!(disposition("application/octet-stream", Some("a b.bin")), "attachment; filename=\"a b.bin\"");
    }

    #[test]
    fn names_beyond_ascii_come_twice_and_cannot_leave_their_quotes() {
        for (name, want) in [
            ("a\"b", "inline; filename=\"a_b\"; filename*=UTF-8''a%22b"),
            ("50%.ogg", "inline; filename=\"50_.ogg\"; filename*=UTF-8''50%25.ogg"),
            ("é.ogg", "inline; filename=\"_.ogg\"; filename*=UTF-8''%C3%A9.ogg"),
            ("a\r\nSet-Cookie: x", "inline; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"),
        ] {
            assert_eq!(disposition("audio/ogg", Some(name)), want);
        }
    }
}
