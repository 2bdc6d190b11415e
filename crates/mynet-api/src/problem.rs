//! Refusals: RFC 9457 problem objects with a stable `code`.
//!
//! The table of codes is [`Code::entry`] and nowhere else; `docs/api.md` prints it and a test compares them. A code, once
//! given out, keeps its meaning. `type` is `about:blank`, so `title` is the phrase of the status, as the RFC asks.
//!
//! Source: RFC 9457 (problem details), RFC 6750 section 3 (`WWW-Authenticate`).

use std::{borrow::Cow, error::Error};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use mynet_node::handle::NodeError;

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// A field makes no sense; the code is `invalid_<field>`.
    Invalid(&'static str),
    /// A parameter that the route does not have.
    UnknownParameter,
    /// The upload broke off or was unreadable.
    Upload,
    /// No token, or one that is not good.
    Unauthorized,
    /// A good token that may not.
    Forbidden,
    /// There is no such thing, or the asker may not know it.
    NotFound,
    /// There is no such route.
    RouteNotFound,
    /// The route exists, with other methods.
    MethodNotAllowed,
    /// The client sent nothing for too long.
    RequestTimeout,
    /// `If-Match` names another content.
    PreconditionFailed,
    /// The body is larger than the limit.
    PayloadTooLarge,
    /// The range lies outside of the content.
    RangeNotSatisfiable,
    /// A bug of the node.
    Internal,
    /// The node's disk or database failed.
    Storage,
    /// Bytes on disk are damaged.
    Corrupt,
    /// No holder can be reached.
    Unavailable,
    /// Whether there is such a thing cannot be told now.
    Unknown,
    /// The node is starting or stopping, as `/readyz` tells.
    NotReady,
    /// The node is stopping.
    Stopping,
    /// Too many uploads at once.
    Busy,
    /// The disk or the capacity is full.
    NoSpace,
}

impl Code {
    /// Every code but [`Self::Invalid`], which stands for a family.
    #[cfg(test)]
    pub(crate) const PLAIN: [Self; 20] = [
        Self::UnknownParameter,
        Self::Upload,
        Self::Unauthorized,
        Self::Forbidden,
        Self::NotFound,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::RequestTimeout,
        Self::PreconditionFailed,
        Self::PayloadTooLarge,
        Self::RangeNotSatisfiable,
        Self::Internal,
        Self::Storage,
        Self::Corrupt,
        Self::Unavailable,
        Self::Unknown,
        Self::NotReady,
        Self::Stopping,
        Self::Busy,
        Self::NoSpace,
    ];

    /// The table: name, status, what to try.
    fn entry(self) -> (&'static str, StatusCode, &'static str) {
        match self {
            Self::Invalid(_) => ("invalid_", StatusCode::BAD_REQUEST, "correct the request; nothing was done"),
            Self::UnknownParameter => {
                ("unknown_parameter", StatusCode::BAD_REQUEST, "remove the parameter or correct its name")
            }
            Self::Upload => ("upload", StatusCode::BAD_REQUEST, "send the whole file again; nothing was kept"),
            Self::Unauthorized => (
                "unauthorized",
                StatusCode::UNAUTHORIZED,
                "send 'Authorization: Bearer <token>' with a token made by 'mynet token create'",
            ),
            Self::Forbidden => ("forbidden", StatusCode::FORBIDDEN, "ask the operator of the node"),
            Self::NotFound => {
                ("not_found", StatusCode::NOT_FOUND, "check the id; what is private is not found without a token")
            }
            Self::RouteNotFound => ("route_not_found", StatusCode::NOT_FOUND, "routes begin with /api/v1/"),
            Self::MethodNotAllowed => {
                ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "use a method that the Allow header names")
            }
            Self::RequestTimeout => {
                ("request_timeout", StatusCode::REQUEST_TIMEOUT, "send again over a steadier connection")
            }
            Self::PreconditionFailed => (
                "precondition_failed",
                StatusCode::PRECONDITION_FAILED,
                "ask again without If-Match to see the current ETag",
            ),
            Self::PayloadTooLarge => {
                ("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE, "send less, or have limits.upload raised")
            }
            Self::RangeNotSatisfiable => (
                "range_not_satisfiable",
                StatusCode::RANGE_NOT_SATISFIABLE,
                "ask for a range within the size that Content-Range tells",
            ),
            Self::Internal => {
                ("internal", StatusCode::INTERNAL_SERVER_ERROR, "this is a bug: report it with the node's log")
            }
            Self::Storage => {
                ("storage", StatusCode::INTERNAL_SERVER_ERROR, "the operator must look at the node's log and disk")
            }
            Self::Corrupt => {
                ("corrupt", StatusCode::INTERNAL_SERVER_ERROR, "ask another node, or again once it was repaired")
            }
            Self::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE, "try again when a holder is back"),
            Self::Unknown => ("unknown", StatusCode::SERVICE_UNAVAILABLE, "try again when every node is back"),
            Self::NotReady => ("not_ready", StatusCode::SERVICE_UNAVAILABLE, "wait until the node has started"),
            Self::Stopping => {
                ("stopping", StatusCode::SERVICE_UNAVAILABLE, "try again once it runs, or ask another node")
            }
            Self::Busy => ("busy", StatusCode::SERVICE_UNAVAILABLE, "try again in a few seconds"),
            Self::NoSpace => ("no_space", StatusCode::INSUFFICIENT_STORAGE, "free space or raise storage.capacity"),
        }
    }

    /// The word of the `code` field.
    pub(crate) fn name(self) -> Cow<'static, str> {
        match self {
            Self::Invalid(field) => format!("{}{field}", self.entry().0).into(),
            _ => self.entry().0.into(),
        }
    }

    /// The status that goes with it.
    pub(crate) fn status(self) -> StatusCode {
        self.entry().1
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
        self.hint.as_deref().unwrap_or(self.code.entry().2)
    }
}

impl From<NodeError> for Problem {
    /// Translates, and logs what a human must look at: the cause of a failed disk is for the log, not for clients.
    fn from(error: NodeError) -> Self {
        let detail = error.to_string();
        let code = match error {
            NodeError::NotFound(_) => Code::NotFound,
            NodeError::Forbidden(_) => Code::Forbidden,
            NodeError::Invalid { field, .. } => Code::Invalid(field),
            NodeError::NoSpace { .. } | NodeError::DiskFull => Code::NoSpace,
            NodeError::Corrupt(_) => Code::Corrupt,
            NodeError::Unavailable(_) => Code::Unavailable,
            NodeError::Absent(_) => Code::NotFound,
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

/// The object of RFC 9457 with our two members.
#[derive(serde::Serialize)]
struct ProblemBody<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    hint: &'a str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = serde_json::to_vec(&ProblemBody {
            r#type: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &self.detail,
            code: &self.code.name(),
            hint: self.hint(),
        })
        .expect("an object of strings and a number always encodes");
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.code.retry_after() {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if let Some((name, value)) = self.header.map(|header| *header) {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        http::{StatusCode, header},
        response::IntoResponse,
    };
    use mynet_node::handle::NodeError;
    use mynet_types::ContentHash;

    use super::{Code, Problem};

    const API_DOC: &str = include_str!("../../../docs/api.md");

    #[test]
    fn every_code_stands_in_the_document_with_its_status() {
        for code in Code::PLAIN {
            let row = format!("| `{}` | {} |", code.name(), code.status().as_u16());
            assert!(API_DOC.contains(&row), "docs/api.md lacks the row {row}");
        }
        assert!(API_DOC.contains("| `invalid_<field>` | 400 |"));
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
            (NodeError::Absent("x".to_owned()), "not_found", 404, None),
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
    fn the_cause_of_a_storage_failure_is_not_told_to_clients() {
        let problem = Problem::from(NodeError::Storage("/srv/secret/path: read-only".into()));
        assert!(!problem.detail().contains("secret"));
    }

    #[tokio::test]
    async fn the_body_has_the_members_of_the_rfc_and_ours() {
        let response = Problem::new(Code::Busy, "16 uploads are running").into_response();
        let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        let want = serde_json::json!({
            "type": "about:blank", "title": "Service Unavailable", "status": 503,
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
