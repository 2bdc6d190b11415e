//! Speaks to a node's API and turns its problems into exit statuses.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    args::Global,
    local::Access,
    output::{Failure, Status},
};

/// Largest problem document that is read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

/// A node's API and the key to it.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    http: reqwest::Client,
    access: Access,
}

/// RFC 9457, as far as this program reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    code: String,
    detail: String,
    hint: String,
}

impl Client {
    /// A client for the node that the flags or the data directory name.
    pub(crate) fn new(global: &Global) -> anyhow::Result<Self> {
        Ok(Self::of(Access::find(global)?))
    }

    /// A client for a known node.
    pub(crate) fn of(access: Access) -> Self {
        Self { http: reqwest::Client::new(), access }
    }

    /// A request to `path` below `/api/v1`.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}/api/v1/{path}", self.access.api.trim_end_matches('/'));
        self.http.request(method, url).bearer_auth(&self.access.token)
    }

    /// Sends a request; anything but success is a [`Failure`].
    pub(crate) async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request.send().await.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let failure = problem(answer).await;
        if failure.code == "unauthorized" && self.access.is_local {
            let hint = "start the node again, which makes a new one, or give a good one with --token";
            return Err(Failure { hint: hint.to_owned(), ..failure }.into());
        }
        Err(failure.into())
    }

    /// Sends a request and reads its object.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let bytes = self.send(request).await?.bytes().await.map_err(|error| self.unreachable(&error))?;
        serde_json::from_slice(&bytes).context("read the node's answer")
    }

    /// Reads an object.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.json(self.request(Method::GET, path)).await
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let cause = std::iter::successors(std::error::Error::source(error), |cause| cause.source()).last();
        let cause = cause.map_or_else(|| error.to_string(), ToString::to_string);
        if error.is_builder() {
            let message = format!("the API {} or its token cannot be used: {cause}", self.access.api);
            return Failure::new(Status::Usage, "bad_api", message, "give --api as http://HOST:PORT");
        }
        Failure::new(
            Status::Unreachable,
            "unreachable",
            format!("the node at {} does not answer: {cause}", self.access.api),
            "is it running? `mynet run` starts it",
        )
    }
}

/// A duration as a query carries it.
pub(crate) fn query_duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string().replace(' ', "")
}

/// What a refused request means for the exit status.
async fn problem(answer: Response) -> Failure {
    let http = answer.status();
    let request_id = answer.headers().get("x-request-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let body = answer.bytes().await.unwrap_or_default();
    let told = body.get(..body.len().min(PROBLEM_BYTES_MAX)).unwrap_or_default();
    let problem: Problem = serde_json::from_slice(told).unwrap_or_default();
    let status = match (http, problem.code.as_str()) {
        (_, "corrupt") => Status::Integrity,
        (_, "unknown") => Status::Undecided,
        // The request was right; what it builds on is no longer so.
        (_, "invalid_base") => Status::Failed,
        (StatusCode::NOT_FOUND, _) => Status::NotFound,
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Status::NotAllowed,
        (StatusCode::BAD_REQUEST | StatusCode::RANGE_NOT_SATISFIABLE, _) => Status::Usage,
        (StatusCode::SERVICE_UNAVAILABLE, _) => Status::Unreachable,
        _ => Status::Failed,
    };
    let code = if problem.code.is_empty() { "failed" } else { &problem.code };
    let message = if problem.detail.is_empty() { format!("the node answered {http}") } else { problem.detail };
    // Some hints of the API speak of headers and of askers without a token; this program has neither question.
    let hint = match (problem.code.as_str(), problem.hint) {
        ("not_found", hint) if hint.contains("without a token") => {
            "check the id: `mynet ls`, `mynet peers` and `mynet token ls` list what this node knows".to_owned()
        }
        ("unauthorized", _) => "give a good one with --token; `mynet token create` makes them".to_owned(),
        (_, hint) if hint.is_empty() => "see the node's log".to_owned(),
        (_, hint) => hint,
    };
    // Whoever can do something about it must find it in the node's log; what was asked wrongly is not there.
    let request_id = request_id.filter(|_| http.is_server_error());
    Failure { request_id, ..Failure::new(status, code, message, hint) }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::Client;
    use crate::{
        local::Access,
        output::{Failure, Status},
    };

    /// What a client makes of an answer with this status and code, and the usual name of a request.
    async fn refusal(http: &str, code: &str) -> Failure {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let body = format!("{{\"code\":\"{code}\",\"detail\":\"it failed\",\"hint\":\"try again\"}}");
        let answer = format!(
            "HTTP/1.1 {http}\r\nX-Request-Id: r-1\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        let node = tokio::spawn(async move {
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 4096]).await.unwrap() > 0);
            connection.write_all(answer.as_bytes()).await.unwrap();
        });
        rustls::crypto::ring::default_provider().install_default().ok();
        let asked =
            Client::of(Access { api, token: "t".to_owned(), is_local: false }).get::<serde_json::Value>("status").await;
        node.await.unwrap();
        asked.unwrap_err().downcast().unwrap()
    }

    #[tokio::test]
    async fn a_request_that_the_node_failed_to_answer_is_named() {
        for (http, code, status, named) in [
            ("500 Internal Server Error", "storage", Status::Failed, true),
            ("500 Internal Server Error", "corrupt", Status::Integrity, true),
            ("503 Service Unavailable", "busy", Status::Unreachable, true),
            ("503 Service Unavailable", "unknown", Status::Undecided, true),
            ("507 Insufficient Storage", "no_space", Status::Failed, true),
            ("400 Bad Request", "invalid_id", Status::Usage, false),
            ("403 Forbidden", "forbidden", Status::NotAllowed, false),
            ("404 Not Found", "not_found", Status::NotFound, false),
        ] {
            let failure = refusal(http, code).await;
            assert_eq!((failure.status, failure.code.as_str()), (status, code));
            assert_eq!(failure.request_id.as_deref(), named.then_some("r-1"), "{http} {code}");
        }
    }
}
