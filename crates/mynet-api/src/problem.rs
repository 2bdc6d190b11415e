//! Refusals: RFC 9457 problem objects with a stable `code`.
//!
//! The table of codes is made here and nowhere else; `docs/api.md` prints it and a test compares them. A code, once given out,
//! keeps its meaning. `type` is `about:blank`, so `title` is the phrase of the status, as the RFC asks.
//!
//! Source: RFC 9457 (problem details), RFC 6750 section 3 (`WWW-Authenticate`).

use std::{borrow::Cow, error::Error};

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mynet_node::handle::NodeError;

use crate::request_id::RequestId;

/// What is said of one code.
struct Entry {
    name: &'static str,
    status: StatusCode,
    /// What it means, for the documents.
    means: &'static str,
    /// What to try unless the case at hand says it better.
    hint: &'static str,
}

/// Makes [`Code`] and its table of one list, so that no code is without its row.
macro_rules! codes {
    ($($variant:ident $name:literal $status:ident $means:literal $hint:literal;)*) => {
        /// What kind of refusal it is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Code {
            /// A field makes no sense; the code is `invalid_<field>`.
            Invalid(&'static str),
            $(#[doc = $means] $variant,)*
        }

        impl Code {
            /// Every code but [`Self::Invalid`], which stands for a family.
            const PLAIN: &[Self] = &[$(Self::$variant),*];

            /// The row of the table.
            fn entry(self) -> Entry {
                match self {
                    Self::Invalid(_) => Entry {
                        name: "invalid_",
                        status: StatusCode::BAD_REQUEST,
                        means: INVALID,
                        hint: "correct the request; nothing was done",
                    },
                    $(Self::$variant => Entry {
                        name: $name,
                        status: StatusCode::$status,
                        means: $means,
                        hint: $hint,
                    },)*
                }
            }
        }
    };
}

/// What the family of [`Code::Invalid`] means.
const INVALID: &str = "the field makes no sense; nothing was done. `id`, `hash`, `node`, `token_id` are of the path, `body` is \
                       the body, `query` the query";

codes! {
    UnknownParameter "unknown_parameter" BAD_REQUEST
        "there is no such parameter, field or part; `hint` names the nearest"
        "remove the parameter or correct its name";
    Upload "upload" BAD_REQUEST
        "the upload broke off or was unreadable; nothing was kept"
        "send the whole file again; nothing was kept";
    MalformedRequest "malformed_request" BAD_REQUEST
        "the head of the request is no HTTP/1.1; the connection ends"
        "send a request as RFC 9112 has it";
    Unauthorized "unauthorized" UNAUTHORIZED
        "no token, or one that is not good"
        "send 'Authorization: Bearer <token>' with a token made by 'mynet token create'";
    Forbidden "forbidden" FORBIDDEN
        "a good token that may not"
        "ask the operator of the node";
    NotFound "not_found" NOT_FOUND
        "there is no such thing, or the asker may not know it"
        "check the id; what is private is not found without a token";
    RouteNotFound "route_not_found" NOT_FOUND
        "there is no such route"
        "GET /api/docs lists the routes";
    MethodNotAllowed "method_not_allowed" METHOD_NOT_ALLOWED
        "`Allow` names the methods of the route"
        "use a method that the Allow header names";
    RequestTimeout "request_timeout" REQUEST_TIMEOUT
        "nothing of the body came for 30 s"
        "send again over a steadier connection";
    PreconditionFailed "precondition_failed" PRECONDITION_FAILED
        "`If-Match` names another content"
        "ask again without If-Match to see the current ETag";
    PayloadTooLarge "payload_too_large" PAYLOAD_TOO_LARGE
        "the body, or the preview, is larger than allowed"
        "send less, or have limits.upload raised";
    UriTooLong "uri_too_long" URI_TOO_LONG
        "path and query are longer than 32 KiB"
        "ask for less at once; some routes take their parameters in a body";
    RangeNotSatisfiable "range_not_satisfiable" RANGE_NOT_SATISFIABLE
        "`Content-Range` tells the size"
        "ask for a range within the size that Content-Range tells";
    HeadersTooLarge "headers_too_large" REQUEST_HEADER_FIELDS_TOO_LARGE
        "the head of the request is larger than 64 KiB, or has more than 64 headers; the connection ends"
        "send fewer and shorter headers";
    Internal "internal" INTERNAL_SERVER_ERROR
        "a bug of the node"
        "this is a bug: report it with the node's log";
    Storage "storage" INTERNAL_SERVER_ERROR
        "the node's disk or database failed; its log tells more"
        "the operator must look at the node's log and disk";
    Corrupt "corrupt" INTERNAL_SERVER_ERROR
        "the bytes on the node's disk are damaged; they were quarantined"
        "ask another node, or again once it was repaired";
    Unknown "unknown" SERVICE_UNAVAILABLE
        "it is not known here, and not every admitted node could be asked; `Retry-After`"
        "try again when every node is back";
    Unavailable "unavailable" SERVICE_UNAVAILABLE
        "no holder can be reached now; `Retry-After`"
        "try again when a holder is back";
    NotReady "not_ready" SERVICE_UNAVAILABLE
        "the node is starting or stopping; `Retry-After`"
        "wait until the node has started";
    Stopping "stopping" SERVICE_UNAVAILABLE
        "the node is stopping; `Retry-After`"
        "try again once it runs, or ask another node";
    Busy "busy" SERVICE_UNAVAILABLE
        "too many uploads are being received, or too many readers follow the events; `Retry-After`"
        "try again in a few seconds";
    NoSpace "no_space" INSUFFICIENT_STORAGE
        "the disk or the capacity is full; nothing was kept"
        "free space on the disk or raise storage.capacity; GET /api/v1/storage tells which";
}

impl Code {
    /// The table of codes as `docs/api.md` and the description of the API print it.
    pub(crate) fn table() -> impl Iterator<Item = (String, StatusCode, &'static str)> {
        let family = ("invalid_<field>".to_owned(), StatusCode::BAD_REQUEST, INVALID);
        let plain = Self::PLAIN.iter().map(|code| {
            let Entry { name, status, means, .. } = code.entry();
            (name.to_owned(), status, means)
        });
        std::iter::once(family).chain(plain)
    }

    /// The word of the `code` field.
    pub(crate) fn name(self) -> Cow<'static, str> {
        match self {
            Self::Invalid(field) => format!("{}{field}", self.entry().name).into(),
            _ => self.entry().name.into(),
        }
    }

    /// The status that goes with it.
    pub(crate) fn status(self) -> StatusCode {
        self.entry().status
    }

    /// Seconds after which trying again makes sense.
    ///
    /// Short for what ends by itself; longer where another node must come back, so that waiting clients are no load.
    fn retry_after(self) -> Option<u32> {
        match self {
            Self::NotReady => Some(1),
            Self::Busy | Self::Stopping => Some(5),
            Self::Unavailable | Self::Unknown => Some(15),
            _ => None,
        }
    }
}

/// One refusal: what failed, why, and what to try.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    code: Code,
    detail: String,
    hint: Option<String>,
    /// A header that belongs to the code. Boxed so that results stay small.
    header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl Problem {
    /// A refusal with the usual hint of its code.
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        let header = (code == Code::Unauthorized)
            .then(|| Box::new((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"mynet\""))));
        Self { code, detail: detail.into(), hint: None, header }
    }

    /// Says what to try in this very case.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the header that the code calls for.
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some(Box::new((name, value)));
        self
    }

    /// Its code.
    pub(crate) fn code(&self) -> Code {
        self.code
    }

    /// What failed and why.
    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.detail
    }

    /// What to try.
    pub(crate) fn hint(&self) -> &str {
        self.hint.as_deref().unwrap_or(self.code.entry().hint)
    }
}

impl From<NodeError> for Problem {
    /// Translates, and logs what a human must look at: the cause of a failed disk is for the log, not for clients.
    fn from(error: NodeError) -> Self {
        let detail = error.to_string();
        let code = match error {
            NodeError::NotFound(_) => Code::NotFound,
            NodeError::Absent { hint, .. } => return Self::new(Code::NotFound, detail).with_hint(hint),
            NodeError::Forbidden(_) => Code::Forbidden,
            NodeError::Invalid { field, .. } => Code::Invalid(field),
            NodeError::NoSpace { .. } | NodeError::DiskFull => Code::NoSpace,
            NodeError::Corrupt(_) => Code::Corrupt,
            NodeError::Unavailable(_) => Code::Unavailable,
            NodeError::Unknown(_) => Code::Unknown,
            NodeError::Stopping => Code::Stopping,
            NodeError::Upload(_) => Code::Upload,
            NodeError::Storage(source) => {
                tracing::error!(error = %causes(source.as_ref()), "storage failed while a request was answered");
                return Self::new(Code::Storage, "the node's storage failed; its log tells why");
            }
        };
        Self::new(code, detail)
    }
}

/// An error and everything it came from, on one line.
pub(crate) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The object of RFC 9457 with our members.
#[derive(serde::Serialize)]
struct ProblemView {
    /// Always `about:blank`: the title is the phrase of the status, and `code` tells the kind.
    r#type: String,
    /// The phrase of the status.
    title: String,
    /// The status.
    status: u16,
    /// What failed and why, in this very case.
    detail: String,
    /// The kind of refusal, for programs: one of the table of codes.
    code: String,
    /// What to try.
    hint: String,
    /// The name of the request, as in `X-Request-Id` and in the node's log.
    request_id: String,
}

impl Problem {
    /// The object that the client reads.
    fn view(&self, request: &RequestId) -> ProblemView {
        let status = self.code.status();
        ProblemView {
            r#type: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.detail.clone(),
            code: self.code.name().into_owned(),
            hint: self.hint().to_owned(),
            request_id: request.as_str().to_owned(),
        }
    }
}

impl IntoResponse for Problem {
    /// Status and headers. The body names the request, which only [`complete`] knows.
    fn into_response(mut self) -> Response {
        let mut response = (self.code.status(), [(header::CONTENT_TYPE, "application/problem+json")]).into_response();
        if let Some(seconds) = self.code.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header.take().map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives a refusal its body; every other answer stays as it is.
pub(crate) fn complete(mut response: Response, request: &RequestId) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let body = serde_json::to_vec(&problem.view(request)).expect("an object of texts and a number always encodes");
        *response.body_mut() = Body::from(body);
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::{
        http::{HeaderMap, HeaderValue, StatusCode, header},
        response::IntoResponse,
    };
    use mynet_node::handle::NodeError;
    use mynet_types::ContentHash;

    use super::{Code, Problem, complete};
    use crate::request_id::{self, RequestId};

    const API_DOC: &str = include_str!("../../../docs/api.md");

    #[test]
    fn the_document_has_the_table_of_codes() {
        let mut table = "| code | status | means |\n|---|---|---|\n".to_owned();
        for (name, status, means) in Code::table() {
            table += &format!("| `{name}` | {} | {means} |\n", status.as_u16());
        }
        assert!(API_DOC.contains(&format!("{table}\n")), "docs/api.md must contain:\n{table}");
    }

    #[test]
    fn no_two_codes_have_one_name() {
        let names: BTreeSet<_> = Code::table().map(|(name, ..)| name).collect();
        assert_eq!(names.len(), Code::table().count());
    }

    #[test]
    fn every_error_of_the_node_has_its_code_and_status() {
        let table: [(NodeError, &str, u16, Option<&str>); 12] = [
            (NodeError::NotFound("x".to_owned()), "not_found", 404, None),
            (NodeError::Forbidden("x".to_owned()), "forbidden", 403, None),
            (NodeError::Invalid { field: "tags", why: "x".to_owned() }, "invalid_tags", 400, None),
            (NodeError::NoSpace { needed: 2, free: 1 }, "no_space", 507, None),
            (NodeError::DiskFull, "no_space", 507, None),
            (NodeError::Corrupt(ContentHash::of(b"x")), "corrupt", 500, None),
            (NodeError::Unavailable("x".to_owned()), "unavailable", 503, Some("15")),
            (NodeError::Absent { what: "x".to_owned(), hint: "y" }, "not_found", 404, None),
            (NodeError::Unknown("x".to_owned()), "unknown", 503, Some("15")),
            (NodeError::Stopping, "stopping", 503, Some("5")),
            (NodeError::Upload(std::io::Error::other("x")), "upload", 400, None),
            (NodeError::Storage("x".into()), "storage", 500, None),
        ];
        for (error, code, status, retry) in table {
            let problem = Problem::from(error);
            assert_eq!(problem.code().name(), code);
            let response = problem.into_response();
            assert_eq!(response.status().as_u16(), status, "{code}");
            assert_eq!(response.headers().get(header::RETRY_AFTER).map(|value| value.to_str().unwrap()), retry);
            assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        }
    }

    #[test]
    fn what_is_known_and_not_there_says_what_to_do() {
        let problem = Problem::from(NodeError::Absent { what: "it has no preview".to_owned(), hint: "make one" });
        assert_eq!((problem.detail(), problem.hint()), ("it has no preview", "make one"));
    }

    #[test]
    fn the_cause_of_a_storage_failure_is_not_told_to_clients() {
        let problem = Problem::from(NodeError::Storage("/srv/secret/path: read-only".into()));
        assert!(!problem.detail().contains("secret"));
    }

    #[tokio::test]
    async fn the_body_has_the_members_of_the_rfc_and_ours() {
        let mut headers = HeaderMap::new();
        headers.insert(request_id::HEADER, HeaderValue::from_static("r-1"));
        let response = Problem::new(Code::Busy, "16 uploads are running").into_response();
        let response = complete(response, &RequestId::of(&headers));
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let want = serde_json::json!({
            "type": "about:blank", "title": "Service Unavailable", "status": 503, "request_id": "r-1",
            "detail": "16 uploads are running", "code": "busy", "hint": "try again in a few seconds",
        });
        assert_eq!(body, want);
    }

    #[test]
    fn a_missing_token_names_the_scheme() {
        let response = Problem::new(Code::Unauthorized, "x").into_response();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer realm=\"mynet\"");
    }
}
