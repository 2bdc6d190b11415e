//! Requests through the whole router, against a node that is told what to answer.

use std::collections::BTreeSet;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderMap, Method, Request, StatusCode, header},
};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use mynet_node::{
    handle::{Grant, PreviewChoice},
    view::{Scope, Wait},
};
use mynet_types::{Claim, ContentHash};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Access, router, router_until, table};
use crate::{fake::NodeHandle, openapi::schema::check_answer, serve::ApiSettings};

const API_DOC: &str = include_str!("../../../../docs/api.md");
const GROUP: &str = "0707070707070707070707070707070707070707070707070707070707070707";

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    /// The body, or what broke it.
    body: Result<Bytes, String>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(self.body.as_ref().unwrap()).unwrap()
    }

    fn code(&self) -> String {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{:?}", self.body);
        self.json()["code"].as_str().unwrap().to_owned()
    }

    /// The headers but for the name of the request.
    fn same_headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        headers.remove("x-request-id");
        headers
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

async fn send(node: &NodeHandle, request: Request<Body>) -> Answer {
    // Answers without an end have one at once.
    let closing = CancellationToken::new();
    closing.cancel();
    let router = router_until(node.clone(), ApiSettings::default(), closing);
    let response = TowerToHyperService::new(router).call(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, 1 << 20).await.map_err(|error| error.to_string());
    Answer { status: parts.status, headers: parts.headers, body }
}

/// Sends `method path` with a token and headers.
async fn ask(node: &NodeHandle, line: &str, token: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder().method(method).uri(path);
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let answer = send(node, request.body(Body::from(body.to_owned())).unwrap()).await;
    conforms(method, path, &answer);
    answer
}

/// Fails if an answer of a route is not as the document of the API says.
fn conforms(method: &str, path: &str, answer: &Answer) {
    let path = path.split('?').next().unwrap();
    let fits = |route: &super::Route| {
        let (want, got) = (route.path.split('/'), path.split('/'));
        want.clone().count() == got.clone().count()
            && want.zip(got).all(|(want, got)| want == got || want.starts_with('{'))
    };
    let method = if method == "HEAD" { "GET" } else { method };
    let routes = table();
    let fitting = routes.iter().filter(|route| route.method_word() == method && fits(route));
    // A path in words goes before one with a variable.
    let Some(route) = fitting.min_by_key(|route| route.path.matches('{').count()) else { return };
    if let Ok(body) = &answer.body {
        check_answer(&route.line(), answer.status.as_u16(), answer.header("content-type"), body).unwrap();
    }
}

async fn get(node: &NodeHandle, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(node, &format!("GET {path}"), "", headers, "").await
}

/// A path of `route` with values that can be read.
fn example(route: &super::Route) -> String {
    let id = if route.path.contains("tokens") { "known" } else { GROUP };
    route.path.replace("{id}", id).replace("{hash}", GROUP).replace("{node}", GROUP)
}

#[test]
fn every_route_stands_in_the_document_with_its_scope() {
    for route in table() {
        let scope = match route.access {
            Access::Probe | Access::Anybody => "-",
            Access::Scope(Scope::Read) => "read",
            Access::Scope(Scope::Write) => "write",
            Access::Scope(Scope::Admin) => "admin",
        };
        let row = format!("| `{} {}` | {scope} |", route.method_word(), route.path);
        assert!(API_DOC.contains(&row), "docs/api.md lacks the row {row}");
        for param in route.params {
            assert!(API_DOC.contains(&format!("`{param}`")), "docs/api.md lacks {param}");
        }
    }
}

#[tokio::test]
async fn without_a_token_only_probes_and_public_content_answer() {
    let node = NodeHandle::default();
    let mut open = BTreeSet::new();
    for route in table() {
        let answer = ask(&node, &format!("{} {}", route.method_word(), example(&route)), "", &[], "").await;
        if answer.status == StatusCode::UNAUTHORIZED {
            assert_eq!(answer.code(), "unauthorized");
            assert_eq!(answer.header("www-authenticate"), "Bearer realm=\"mynet\"");
        } else {
            open.insert(route.path);
        }
    }
    let want =
        ["/api/docs", "/api/openapi.json", "/api/v1/content/{id}/data", "/api/v1/storage/{hash}", "/livez", "/readyz"];
    assert_eq!(open.into_iter().collect::<Vec<_>>(), want);
}

#[tokio::test]
async fn a_scope_below_that_of_the_route_is_forbidden_and_one_at_it_is_not() {
    let node = NodeHandle::default();
    for route in table() {
        let Access::Scope(needed) = route.access else { continue };
        for (token, scope) in [("reader", Scope::Read), ("writer", Scope::Write), ("admin", Scope::Admin)] {
            let answer = ask(&node, &format!("{} {}", route.method_word(), example(&route)), token, &[], "").await;
            assert_eq!(answer.status == StatusCode::FORBIDDEN, scope < needed, "{token} {}", route.path);
            assert_ne!(answer.status, StatusCode::UNAUTHORIZED);
        }
    }
}

#[tokio::test]
async fn a_bad_token_is_refused_also_where_none_is_needed_except_by_probes() {
    let node = NodeHandle::default();
    let hash = node.hold(b"public", true, None);
    let answer = ask(&node, &format!("GET /api/v1/storage/{hash}"), "expired", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNAUTHORIZED, "unauthorized"));
    assert!(answer.header("www-authenticate").contains("invalid_token"));
    assert_eq!(ask(&node, "GET /livez", "expired", &[], "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let node = NodeHandle::default();
    for path in ["/", "/api/v1/nothing", "/api/v1/layout", "/metrics", "/api/v1/content/a/b/c"] {
        let answer = get(&node, path, &[]).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "route_not_found"), "{path}");
    }
    let answer = ask(&node, "DELETE /api/v1/content", "", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
    let allow: BTreeSet<_> = answer.header("allow").split(',').map(str::trim).collect();
    assert_eq!(allow, BTreeSet::from(["GET", "HEAD", "POST"]));
}

#[tokio::test]
async fn bad_ids_and_parameters_are_refused_before_the_node_is_asked() {
    let node = NodeHandle::default();
    for (line, want) in [
        ("GET /api/v1/content/nonsense", "invalid_id"),
        ("GET /api/v1/content/%FF", "invalid_id"),
        ("GET /api/v1/storage/sha256:12", "invalid_hash"),
        ("GET /api/v1/find/x", "invalid_hash"),
        ("GET /api/v1/peers/x", "invalid_node"),
        ("GET /api/v1/content?limt=1", "unknown_parameter"),
        ("GET /api/v1/status?verbose=1", "unknown_parameter"),
        ("GET /api/v1/content?limit=0", "invalid_limit"),
        ("POST /api/v1/content?wait=soon", "invalid_wait"),
    ] {
        assert_eq!(ask(&node, line, "admin", &[], "").await.code(), want, "{line}");
    }
    let data = format!("GET /api/v1/content/{GROUP}/data?state=raw");
    assert_eq!(ask(&node, &data, "admin", &[], "").await.code(), "invalid_state");
}

#[tokio::test]
async fn every_answer_names_its_request_and_a_refusal_also_in_its_body() {
    let node = NodeHandle::default();
    let named = [("x-request-id", "deploy-7")];
    for (line, status) in [
        ("GET /livez", 200),
        ("GET /nowhere", 404),
        ("PUT /livez", 405),
        ("GET /api/v1/status", 401),
        ("GET /api/v1/content?limit=0", 401),
        ("GET /readyz", 503),
    ] {
        let answer = ask(&node, line, "", &named, "").await;
        assert_eq!((answer.status.as_u16(), answer.header("x-request-id")), (status, "deploy-7"), "{line}");
        if status != 200 {
            assert_eq!(answer.json()["request_id"], "deploy-7", "{line}");
            let length = answer.body.as_ref().unwrap().len().to_string();
            assert_eq!(answer.header("content-length"), length, "{line}");
        }
    }
    let answer = ask(&node, "GET /readyz", "", &[("x-request-id", "a b")], "").await;
    assert_eq!(answer.json()["request_id"], answer.header("x-request-id"));
    assert_ne!(answer.header("x-request-id"), "a b");
}

#[tokio::test]
async fn a_panic_is_answered_with_a_problem() {
    let node = NodeHandle::default();
    node.script().buggy = true;
    let answer = ask(&node, "GET /api/v1/status", "reader", &[], "").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "internal"));
}

#[tokio::test]
async fn readiness_is_the_nodes_word() {
    let node = NodeHandle::default();
    let answer = get(&node, "/readyz", &[]).await;
    assert_eq!((answer.code().as_str(), answer.header("retry-after")), ("not_ready", "1"));
    node.script().ready = true;
    assert_eq!(get(&node, "/readyz", &[]).await.json(), json!({"status": "ready"}));
}

#[tokio::test]
async fn a_raw_upload_reaches_the_node_with_its_options() {
    let node = NodeHandle::default();
    let line = "POST /api/v1/content?type=audio&filename=a.flac&tags=x,y&grant=none&wait=certified&timeout=5s";
    let answer = ask(&node, line, "writer", &[], "the song").await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.header("location"), format!("/api/v1/content/{GROUP}"));
    assert_eq!(answer.json()["wait_result"], "timed_out");
    let script = node.script();
    let (options, bytes) = &script.added[0];
    assert_eq!(bytes, b"the song");
    assert_eq!((options.filename.as_str(), &options.grant, options.wait), ("a.flac", &Grant::None, Wait::Certified));
    assert_eq!(options.tags, ["x", "y"]);
}

#[tokio::test]
async fn an_upload_beyond_the_limit_is_refused_and_nothing_kept() {
    let node = NodeHandle::default();
    let answer = ask(&node, "POST /api/v1/content", "writer", &[], &"x".repeat(4097)).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"));
    assert!(node.script().added.is_empty());
    node.script().full_after = Some(3);
    let answer = ask(&node, "POST /api/v1/content", "writer", &[], "12345").await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INSUFFICIENT_STORAGE, "no_space"));
}

/// A form of (name, further headers, bytes).
fn form(parts: &[(&str, &str, &str)]) -> String {
    let part = |(name, more, bytes): &(&str, &str, &str)| {
        format!("--BOUND\r\nContent-Disposition: form-data; name=\"{name}\"{more}\r\n\r\n{bytes}\r\n")
    };
    parts.iter().map(part).collect::<String>() + "--BOUND--\r\n"
}

async fn post_form(node: &NodeHandle, query: &str, body: &str) -> Answer {
    let kind = [("content-type", "multipart/form-data; boundary=BOUND")];
    ask(node, &format!("POST /api/v1/content{query}"), "writer", &kind, body).await
}

const FILE: (&str, &str, &str) = ("file", "; filename=\"dir/a.txt\"", "the file");
const PREVIEW: (&str, &str, &str) = ("preview", "\r\nContent-Type: image/png", "the preview");

#[tokio::test]
async fn a_form_carries_a_preview_and_then_the_file() {
    let node = NodeHandle::default();
    let answer = post_form(&node, "", &form(&[PREVIEW, FILE])).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    let answer = post_form(&node, "?filename=b.txt", &form(&[FILE])).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{:?}", answer.body);
    let script = node.script();
    let [(first, bytes), (second, _)] = script.added.as_slice() else { panic!("two uploads") };
    assert_eq!((bytes.as_slice(), first.filename.as_str()), (&b"the file"[..], "a.txt"));
    let PreviewChoice::Supplied { bytes, mime } = &first.preview else { panic!("a preview came") };
    assert_eq!((bytes.as_ref(), mime.as_str()), (&b"the preview"[..], "image/png"));
    assert_eq!(second.filename, "b.txt");
    assert!(matches!(second.preview, PreviewChoice::Auto));
}

#[tokio::test]
async fn a_form_of_a_wrong_shape_is_refused_and_nothing_kept() {
    let node = NodeHandle::default();
    let whole = form(&[FILE]);
    let unnamed_mime = ("preview", "", "x");
    for (query, body, code, says) in [
        ("", form(&[]), "invalid_body", "no part 'file'"),
        ("", form(&[PREVIEW]), "invalid_body", "no part 'file'"),
        ("", form(&[FILE, PREVIEW]), "invalid_body", "before the part 'file'"),
        ("", form(&[FILE, FILE]), "invalid_body", "two parts 'file'"),
        ("", form(&[PREVIEW, PREVIEW, FILE]), "invalid_body", "two parts 'preview'"),
        ("", form(&[unnamed_mime, FILE]), "invalid_body", "Content-Type"),
        ("?preview=none", form(&[PREVIEW, FILE]), "invalid_preview", "contradicts"),
        ("", form(&[("fiel", "", "x")]), "unknown_parameter", "no part 'fiel'"),
        ("", form(&[FILE, ("more", "", "x")]), "unknown_parameter", "no part 'more'"),
        ("", whole[..whole.len() - 12].to_owned(), "upload", "broke off"),
        ("", form(&[("file", "", &"x".repeat(5000))]), "payload_too_large", "4096"),
    ] {
        let answer = post_form(&node, query, &body).await;
        let detail = answer.json()["detail"].to_string();
        assert_eq!(answer.code(), code, "{detail}");
        assert!(detail.contains(says), "{detail}");
    }
    assert!(node.script().added.is_empty());
    let kind = [("content-type", "multipart/form-data")];
    assert_eq!(ask(&node, "POST /api/v1/content", "writer", &kind, "x").await.code(), "invalid_body");
}

#[tokio::test]
async fn the_reason_of_the_node_wins_over_the_form_that_goes_on() {
    let node = NodeHandle::default();
    node.script().full_after = Some(3);
    assert_eq!(post_form(&node, "", &form(&[FILE])).await.code(), "no_space");
}

#[tokio::test]
async fn public_content_is_served_whole_in_parts_and_not_at_all() {
    let node = NodeHandle::default();
    let hash = node.hold(b"0123456789", true, None);
    let path = format!("/api/v1/storage/{hash}");
    let whole = get(&node, &path, &[]).await;
    assert_eq!((whole.status, whole.body.as_deref().unwrap()), (StatusCode::OK, &b"0123456789"[..]));
    let tag = whole.header("etag").to_owned();
    assert_eq!(tag, format!("\"sha256-{}\"", hash.to_string().trim_start_matches("sha256:")));
    for (name, want) in [
        ("accept-ranges", "bytes"),
        ("cache-control", "public, max-age=31536000, immutable"),
        ("content-disposition", "inline; filename=\"a.ogg\""),
        ("content-length", "10"),
        ("content-security-policy", "sandbox"),
        ("content-type", "audio/ogg"),
        ("cross-origin-resource-policy", "cross-origin"),
        ("x-content-type-options", "nosniff"),
        ("x-mynet-source", "local"),
    ] {
        assert_eq!(whole.header(name), want, "{name}");
    }
    let head = ask(&node, &format!("HEAD {path}"), "", &[], "").await;
    assert_eq!((head.status, head.body.as_deref().unwrap()), (StatusCode::OK, &b""[..]));
    assert_eq!(head.same_headers(), whole.same_headers());

    let part = get(&node, &path, &[("range", "bytes=3-8"), ("if-range", &tag)]).await;
    assert_eq!((part.status, part.body.as_deref().unwrap()), (StatusCode::PARTIAL_CONTENT, &b"345678"[..]));
    assert_eq!((part.header("content-range"), part.header("content-length")), ("bytes 3-8/10", "6"));

    let outside = get(&node, &path, &[("range", "bytes=10-")]).await;
    assert_eq!((outside.status, outside.code().as_str()), (StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable"));
    assert_eq!(outside.header("content-range"), "bytes */10");

    let same = get(&node, &path, &[("if-none-match", &tag)]).await;
    assert_eq!((same.status, same.body.as_deref().unwrap()), (StatusCode::NOT_MODIFIED, &b""[..]));
    assert_eq!((same.header("etag"), same.header("content-length")), (tag.as_str(), "10"));

    let other = get(&node, &path, &[("if-match", "\"x\"")]).await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::PRECONDITION_FAILED, "precondition_failed"));
}

#[tokio::test]
async fn private_content_exists_for_those_who_may_know_and_is_kept_by_no_cache() {
    let node = NodeHandle::default();
    let hash = node.hold(b"private", false, None);
    let path = format!("/api/v1/storage/{hash}");
    let stranger = get(&node, &path, &[]).await;
    assert_eq!((stranger.status, stranger.code().as_str()), (StatusCode::NOT_FOUND, "not_found"));
    let nothing = get(&node, &format!("/api/v1/storage/{}", ContentHash([1; 32])), &[]).await;
    assert_eq!(nothing.same_headers(), stranger.same_headers());
    let reader = ask(&node, &format!("GET {path}"), "reader", &[], "").await;
    assert_eq!((reader.status, reader.header("cache-control")), (StatusCode::OK, "private, no-store"));
    assert_eq!(reader.header("cross-origin-resource-policy"), "same-origin");
}

#[tokio::test]
async fn the_address_of_a_group_is_no_promise_to_caches() {
    let node = NodeHandle::default();
    let hash = node.hold(b"0123456789", true, None);
    let bare = hash.to_string().replace("sha256:", "");
    let answer = get(&node, &format!("/api/v1/content/{bare}/data?state=decrypted"), &[]).await;
    assert_eq!((answer.status, answer.header("cache-control")), (StatusCode::OK, "public, no-cache"));
}

#[tokio::test]
async fn damage_before_the_first_byte_is_a_status_and_after_it_a_broken_body() {
    let node = NodeHandle::default();
    let at_once = node.hold(b"damaged at once", true, Some(0));
    let answer = get(&node, &format!("/api/v1/storage/{at_once}"), &[]).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"));
    let later = node.hold(b"damaged later on", true, Some(8));
    let answer = get(&node, &format!("/api/v1/storage/{later}"), &[]).await;
    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "16"));
    assert!(answer.body.is_err());
}

#[tokio::test]
async fn empty_content_is_served() {
    let node = NodeHandle::default();
    let hash = node.hold(b"", true, None);
    let answer = get(&node, &format!("/api/v1/storage/{hash}"), &[]).await;
    assert_eq!((answer.status, answer.header("content-length")), (StatusCode::OK, "0"));
}

#[tokio::test]
async fn a_publication_takes_its_options_from_query_or_body() {
    let node = NodeHandle::default();
    let path = format!("POST /api/v1/content/{GROUP}/publish");
    let answer = ask(&node, &format!("{path}?mode=all&replicas=2"), "writer", &[], "").await;
    assert_eq!(answer.json()["group_id"], GROUP);
    let body = r#"{"mode": "quorum", "wait": "stored", "timeout": 1}"#;
    assert_eq!(ask(&node, &path, "writer", &[], body).await.status, StatusCode::OK);
    let plan = ask(&node, &format!("{path}?dry_run&replicas=5"), "writer", &[], "").await;
    assert_eq!(plan.json()["replicas"], 5);
    assert_eq!(
        ask(&node, &format!("{path}?mode=all"), "writer", &[], r#"{"mode": "all"}"#).await.code(),
        "invalid_mode"
    );
    let large = format!("{{\"mode\": \"{}\"}}", "x".repeat(65_536));
    assert_eq!(ask(&node, &path, "writer", &[], &large).await.code(), "payload_too_large");
    let script = node.script();
    let [(first, wait, _), (second, _, timeout)] = script.published.as_slice() else { panic!("two publications") };
    assert_eq!((first.replicas, first.all, *wait), (Some(2), Some(true), Wait::Durable));
    assert_eq!((second.replicas, second.all, timeout.as_secs()), (None, Some(false), 1));
}

#[tokio::test]
async fn a_preview_is_replaced_by_the_body_of_a_new_relationship() {
    let node = NodeHandle::default();
    let path = format!("POST /api/v1/content/{GROUP}/relationships");
    let answer = ask(&node, &format!("{path}?type=preview&filename=a.png"), "writer", &[], "picture").await;
    assert_eq!(answer.json()["group_id"], GROUP);
    assert_eq!(ask(&node, &path, "writer", &[], "").await.code(), "invalid_body");
    assert_eq!(ask(&node, &format!("{path}?type=decrypted"), "writer", &[], "x").await.code(), "invalid_type");
    assert_eq!(ask(&node, &path, "reader", &[], "x").await.status, StatusCode::FORBIDDEN);
    let script = node.script();
    let [(bytes, mime, timeout)] = script.previews.as_slice() else { panic!("one preview") };
    assert_eq!((&bytes[..], mime.as_str(), timeout.as_secs()), (b"picture".as_slice(), "image/png", 60));
}

#[tokio::test]
async fn a_proposal_names_its_claim_and_how_long_it_waits() {
    let node = NodeHandle::default();
    let path = format!("POST /api/v1/content/{GROUP}/propose");
    let answer = ask(&node, &format!("{path}?claim=verified&timeout=5m"), "writer", &[], "").await;
    assert_eq!(answer.json()["outcome"], "approved");
    assert_eq!(ask(&node, &path, "writer", &[], "").await.status, StatusCode::OK);
    assert_eq!(ask(&node, &format!("{path}?claim=sure"), "writer", &[], "").await.code(), "invalid_claim");
    assert_eq!(ask(&node, &path, "reader", &[], "").await.status, StatusCode::FORBIDDEN);
    let asked: Vec<_> = node.script().proposed.iter().map(|(claim, wait)| (*claim, wait.as_secs())).collect();
    assert_eq!(asked, [(Claim::Verified, 300), (Claim::Durable, 30)]);
}

#[tokio::test]
async fn the_node_and_its_network_are_told() {
    let node = NodeHandle::default();
    let peers = ask(&node, "GET /api/v1/peers?limit=2", "reader", &[], "").await.json();
    assert_eq!(peers["items"][0]["node_id"], "01".repeat(32));
    assert_eq!(peers["next_cursor"], "02".repeat(32));
    let rest = ask(&node, &format!("GET /api/v1/peers?cursor={}", "02".repeat(32)), "reader", &[], "").await.json();
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    let peer = format!("/api/v1/peers/{}", "02".repeat(32));
    assert_eq!(ask(&node, &format!("GET {peer}"), "reader", &[], "").await.json()["node_id"], "02".repeat(32));
    assert_eq!(ask(&node, &format!("GET /api/v1/peers/{GROUP}"), "reader", &[], "").await.code(), "not_found");
    assert_eq!(ask(&node, &format!("POST {peer}/trust"), "admin", &[], "").await.json()["trusted"], true);
    assert_eq!(ask(&node, &format!("POST {peer}/untrust"), "admin", &[], "").await.json()["trusted"], false);
    let found = ask(&node, &format!("GET /api/v1/find/{GROUP}"), "reader", &[], "").await;
    assert_eq!((found.status, &found.json()["outcome"]), (StatusCode::OK, &json!("not_found")));
    let genesis = ask(&node, "GET /api/v1/genesis", "reader", &[], "").await;
    assert_eq!(genesis.body.as_deref().unwrap(), b"genesis");
    assert_eq!(genesis.header("content-disposition"), "attachment; filename=\"genesis.mynet\"");
    let certificate = ask(&node, &format!("GET /api/v1/content/{GROUP}/certificate"), "reader", &[], "").await;
    assert_eq!(certificate.body.as_deref().unwrap(), b"certificate");
    let why = ask(&node, &format!("GET /api/v1/content/{GROUP}/why"), "reader", &[], "").await.json();
    assert_eq!((&why["group_id"], &why["placement"]["slot"]), (&json!(GROUP), &json!(7)));
    let status = ask(&node, "GET /api/v1/status", "reader", &[], "").await;
    assert_eq!((status.code().as_str(), status.header("retry-after")), ("stopping", "5"));
    let invite = ask(&node, "POST /api/v1/invites", "admin", &[], r#"{"uses": 3}"#).await;
    assert_eq!((invite.status, &invite.json()["uses"]), (StatusCode::CREATED, &json!(3)));
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let node = NodeHandle::default();
    let made = ask(&node, "POST /api/v1/auth/tokens", "admin", &[], r#"{"name": "ci", "scope": "write"}"#).await;
    assert_eq!((made.status, made.header("cache-control")), (StatusCode::CREATED, "no-store"));
    assert_eq!((&made.json()["scope"], &made.json()["token"]), (&json!("write"), &json!("mynt_new_secret")));
    let gone = ask(&node, "DELETE /api/v1/auth/tokens/known", "admin", &[], "").await;
    assert_eq!((gone.status, gone.body.as_deref().unwrap()), (StatusCode::NO_CONTENT, &b""[..]));
    assert_eq!(ask(&node, "DELETE /api/v1/auth/tokens/other", "admin", &[], "").await.code(), "not_found");
    let me = ask(&node, "GET /api/v1/auth/me", "writer", &[], "").await.json();
    assert_eq!(me, json!({"token_id": "writer", "scope": "write"}));
}

#[tokio::test]
async fn uploads_beyond_the_bound_are_told_to_come_back() {
    let node = NodeHandle::default();
    let settings = ApiSettings { uploads_max: 0, ..ApiSettings::default() };
    let request = Request::builder()
        .method(Method::POST)
        .uri("/api/v1/content")
        .header(header::AUTHORIZATION, "Bearer writer")
        .body(Body::from("x"))
        .unwrap();
    let response = TowerToHyperService::new(router(node, settings)).call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "5");
}

#[tokio::test]
async fn an_approval_is_for_admins_and_shows_in_the_roster() {
    let node = NodeHandle::default();
    let line = format!("POST /api/v1/roster/{GROUP}/approve");
    assert_eq!(ask(&node, &line, "writer", &[], "").await.status, StatusCode::FORBIDDEN);
    let waiting = async || ask(&node, "GET /api/v1/roster", "reader", &[], "").await.json()["waiting"][0].clone();
    assert_eq!(waiting().await["approved"], false);
    let answer = ask(&node, &line, "admin", &[], "").await;
    assert_eq!((answer.status, &answer.json()["waiting"][0]["approved"]), (StatusCode::OK, &json!(true)));
    assert_eq!(waiting().await["approved"], true);
    let seated = ask(&node, &line.replace("07", "01"), "admin", &[], "").await;
    assert_eq!((seated.status, seated.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_node"));
}

#[tokio::test]
async fn a_recovery_goes_in_and_out_as_a_file_and_only_for_admins() {
    let node = NodeHandle::default();
    let (offer, submit) = ("POST /api/v1/roster/recovery/offer", "POST /api/v1/roster/recovery");
    for line in [offer, submit] {
        assert_eq!(ask(&node, line, "writer", &[], "signed").await.status, StatusCode::FORBIDDEN);
    }
    assert_eq!(ask(&node, offer, "admin", &[], "").await.body.as_deref().unwrap(), b"offer");
    let dry = ask(&node, &format!("{submit}?dry_run=true"), "admin", &[], "signed").await;
    assert_eq!((dry.status, &dry.json()["submitted"]), (StatusCode::OK, &json!(false)));
    let done = ask(&node, submit, "admin", &[], "signed").await.json();
    assert_eq!((&done["submitted"], &done["keys"]), (&json!(true), &json!([1, 3])));
    assert_eq!(ask(&node, submit, "admin", &[], "unsigned").await.code(), "invalid_recovery");
}

#[tokio::test]
async fn evidence_comes_in_pages() {
    let node = NodeHandle::default();
    let first = ask(&node, "GET /api/v1/evidence?limit=2", "reader", &[], "").await.json();
    assert_eq!((&first["items"][0]["id"], &first["next_cursor"]), (&json!("3-2"), &json!("3-1")));
    let rest = ask(&node, "GET /api/v1/evidence?limit=2&cursor=3-1", "reader", &[], "").await.json();
    assert_eq!((rest["items"].as_array().unwrap().len(), rest.get("next_cursor")), (1, None));
}
