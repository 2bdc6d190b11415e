//! Bad usage of every route: the node's own document lists them, so that none is left out. Each mistake is a clear refusal with the
//! right status, and none of them leaves anything behind.

use std::{fs, time::Duration};

use anyhow::ensure;
use mynet_e2e::{
    content::{self, bytes},
    http::{Answer, Then, raw},
    network::Network,
    process::Node,
    wait::until,
};
use serde_json::Value;

/// An id that nothing has.
const NOBODY: &str = "00000000000000000000000000000000000000000000000000000000000000aa";

/// One route of the document.
struct Route {
    method: String,
    path: String,
    operation: Value,
}

impl Route {
    /// Its line with `id` in the place of whatever the path names.
    fn line(&self, id: &str) -> String {
        // An operation is named by a group and a version of it.
        let id = if self.path.contains("/operations/") { format!("{id}-1") } else { id.to_owned() };
        let parts = self.path.split('/').map(|part| if part.starts_with('{') { id.as_str() } else { part });
        format!("{} {}", self.method, parts.collect::<Vec<_>>().join("/"))
    }

    fn needs_token(&self) -> bool {
        self.operation["x-scope"].is_string()
    }

    /// Whether it looks at what is asked, unlike probes.
    fn looks(&self) -> bool {
        self.operation["responses"]["400"].is_object()
    }

    fn takes(&self, media: &str) -> bool {
        self.operation["requestBody"]["content"][media].is_object()
    }
}

/// The routes that the node says it has.
fn routes(node: &Node) -> Vec<Route> {
    let document =
        raw(&node.api, b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", Then::Wait).unwrap();
    assert!(document.head.contains("content-type: application/json"), "{}", document.head);
    let document = document.json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let (method, path, operation) = (method.to_uppercase(), path.clone(), operation.clone());
            routes.push(Route { method, path, operation });
        }
    }
    assert!(routes.len() > 30, "{} routes", routes.len());
    routes
}

/// Somebody who asks one node, with one token.
struct Asker<'a> {
    node: &'a Node,
    token: String,
}

impl Asker<'_> {
    /// A body that is shorter than was said ends with the client.
    fn send(&self, line: &str, headers: &str, body: &[u8]) -> Answer {
        let said = headers.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse().ok());
        let whole = said.unwrap_or(0) == body.len();
        let then = if whole { Then::Wait } else { Then::End };
        let token = match self.token.as_str() {
            "" => String::new(),
            token => format!("Authorization: Bearer {token}\r\n"),
        };
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{token}{headers}\r\n");
        raw(&self.node.api, &[head.as_bytes(), body].concat(), then).unwrap_or_else(|error| panic!("{line}: {error:#}"))
    }

    /// Asks, and demands a refusal with one of these statuses and a code that begins so.
    fn refused(&self, line: &str, (headers, body): (&str, &[u8]), statuses: &[u16], code: &str) {
        let answer = self.send(line, headers, body);
        assert!(statuses.contains(&answer.status), "{line} {headers:?}: {} {}", answer.status, answer.body);
        let problem = answer.json();
        assert!(answer.head.contains("content-type: application/problem+json"), "{line}: {}", answer.head);
        assert!(problem["code"].as_str().unwrap_or_default().starts_with(code), "{line}: {problem}");
        assert_eq!(problem["status"], answer.status, "{line}: {problem}");
        for member in ["title", "detail", "hint", "request_id"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{line}: no {member} in {problem}");
        }
        assert!(answer.head.contains(&format!("x-request-id: {}", problem["request_id"].as_str().unwrap())), "{line}");
    }
}

fn with_length(body: &[u8]) -> String {
    format!("Content-Length: {}\r\n", body.len())
}

/// What the node keeps: whatever was done wrong must change none of it.
fn kept(node: &Node) -> Value {
    let status = node.json(&["status"]).unwrap();
    let tokens = node.json(&["token", "ls"]).unwrap();
    let files = |name: &str| {
        let mut count = 0;
        let mut open = vec![node.dir.join(name)];
        while let Some(dir) = open.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() { open.push(entry.path()) } else { count += 1 }
            }
        }
        count
    };
    serde_json::json!({
        "content": status["content"], "replication": status["replication"], "roster": status["roster"],
        "tokens": tokens, "groups": node.json(&["ls"]).unwrap(), "blobs": files("blobs"), "staging": files("staging"),
    })
}

#[test]
fn bad_usage_of_every_route_is_refused_and_leaves_nothing_behind() {
    let network = Network::trusted(1, "").unwrap();
    let node = &network.nodes[0];
    let path = content::file(network.temp.path(), "data.bin", &bytes(70, 1000)).unwrap();
    node.json(&["add", &path, "--no-publish"]).unwrap();
    let token = |scope: &str| {
        let made = node.json(&["token", "create", "--name", scope, "--scope", scope]).unwrap();
        made["token"].as_str().unwrap().to_owned()
    };
    let [reader, admin] = ["read", "admin"].map(|scope| Asker { node, token: token(scope) });
    let nobody = Asker { node, token: String::new() };
    let stranger = Asker { node, token: "mynt_aaaaaaaa_bbbbbbbbbbbbbbbb".to_owned() };
    let before = kept(node);
    for route in routes(node) {
        let line = route.line(NOBODY);
        let nothing: (&str, &[u8]) = ("", b"");
        admin.refused(&line.replace(&route.method, "PUT"), nothing, &[405], "method_not_allowed");
        if !route.looks() {
            continue;
        }
        stranger.refused(&line, nothing, &[401], "unauthorized");
        if route.needs_token() {
            nobody.refused(&line, nothing, &[401], "unauthorized");
        }
        if !matches!(route.operation["x-scope"].as_str(), None | Some("read")) {
            reader.refused(&line, nothing, &[403], "forbidden");
        }
        admin.refused(&format!("{line}?no_such=1"), nothing, &[400], "unknown_parameter");
        admin.refused(&format!("{line}?%ff=%zz"), nothing, &[400], "");
        wrong_values(&admin, &route);
        wrong_paths(&admin, &route);
        wrong_bodies(&admin, &route);
    }
    wrong_heads(&admin);
    until("everything to be as it was", Duration::from_secs(30), || {
        let after = kept(node);
        ensure!(after == before, "{after:#} instead of {before:#}");
        Ok(())
    })
    .unwrap_or_else(|error| panic!("{error:#}\n{}", node.log_tail()));
    let log = fs::read_to_string(node.log_path()).unwrap();
    assert!(!log.contains(" ERROR ") && !log.contains("panicked"), "{}", node.log_tail());
}

/// Parameters of the wrong type, empty, and given twice.
fn wrong_values(admin: &Asker<'_>, route: &Route) {
    let line = route.line(NOBODY);
    for parameter in route.operation["parameters"].as_array().unwrap() {
        let name = parameter["name"].as_str().unwrap();
        let (schema, place) = (&parameter["schema"], parameter["in"].as_str().unwrap());
        let free = schema["type"] == "string" && schema["enum"].is_null() && name != "timeout";
        if place != "query" || free {
            continue;
        }
        let code = format!("invalid_{name}");
        // Whether the thing exists is looked at before or after what is to be done with it.
        for value in ["nonsense", "-1", "1e400", "%00"] {
            admin.refused(&format!("{line}?{name}={value}"), ("", b""), &[400], &code);
        }
        let given = schema["enum"][0].as_str().unwrap_or("1");
        admin.refused(&format!("{line}?{name}={given}&{name}={given}"), ("", b""), &[400], &code);
    }
}

/// Ids that are none, ids of nothing, and paths that lead elsewhere.
fn wrong_paths(admin: &Asker<'_>, route: &Route) {
    if !route.path.contains('{') {
        return;
    }
    let long = "a".repeat(5000);
    for id in
        ["nonsense", "..", ".", "%2e%2e", "..%2f..%2fnode.key", "%00", "%ff", "a%2Fb", "sha256:", "'%20or%201=1", &long]
    {
        admin.refused(&route.line(id), ("", b""), &[400, 404, 405], "");
    }
    // A proposal, a publication: whatever it is, it cannot be of a thing that is not there. Roles decide what comes first.
    let body = if route.takes("application/octet-stream") { &b"x"[..] } else { b"" };
    let statuses: &[u16] = if route.path.contains("{node}") { &[400, 404] } else { &[404] };
    if route.operation["operationId"] != "find" {
        admin.refused(&route.line(NOBODY), (&with_length(body), body), statuses, "");
    }
}

/// Heads that no route is asked about.
fn wrong_heads(admin: &Asker<'_>) {
    let nothing: (&str, &[u8]) = ("", b"");
    let (long, many) = ("x".repeat(200_000), (0..100).map(|n| format!("X-{n}: x\r\n")).collect::<String>());
    for headers in [format!("X-Long: {long}\r\n"), many] {
        admin.refused("GET /api/v1/status", (&headers, b""), &[431], "headers_too_large");
    }
    for length in [40_000, 200_000] {
        admin.refused(&format!("GET /api/v1/content/{}", "a".repeat(length)), nothing, &[414], "uri_too_long");
        admin.refused(&format!("GET /api/v1/content?cursor={}", "a".repeat(length)), nothing, &[414], "uri_too_long");
    }
    for line in ["nonsense", "GET /\u{7f}\u{1}", "G@T /"] {
        admin.refused(line, nothing, &[400], "malformed_request");
    }
    admin.refused("POST /api/v1/content", ("Content-Length: -1\r\n", b""), &[400], "malformed_request");
}

/// Bodies of the wrong shape, cut off, and larger than they are.
fn wrong_bodies(admin: &Asker<'_>, route: &Route) {
    let line = route.line(NOBODY);
    if route.takes("application/json") {
        let deep = format!("{}1{}", "[".repeat(5000), "]".repeat(5000));
        let large = format!("{{\"name\": \"{}\"}}", "x".repeat(70_000));
        for (body, statuses, code) in [
            ("{", &[400][..], "invalid_body"),
            ("[1]", &[400], "invalid_body"),
            ("\"x\"", &[400], "invalid_body"),
            ("\u{0}", &[400], "invalid_body"),
            (&deep, &[400], "invalid_body"),
            (r#"{"no_such": 1}"#, &[400], "unknown_parameter"),
            (r#"{"name": {"a": 1}, "replicas": {"a": 1}, "uses": {}}"#, &[400], ""),
            (r#"{"scope": 7, "mode": 7, "uses": "many", "name": "x"}"#, &[400], ""),
            (&large, &[413], "payload_too_large"),
        ] {
            admin.refused(&line, (&with_length(body.as_bytes()), body.as_bytes()), statuses, code);
        }
    }
    if route.operation["requestBody"].is_object() {
        // Nothing that is told less than it was promised may act on what came.
        admin.refused(&line, ("Content-Length: 10000000000\r\n", b"x"), &[400, 404, 413], "");
        admin.refused(&line, ("Transfer-Encoding: chunked\r\n", b"5\r\nab"), &[400, 404], "");
    }
    if route.takes("multipart/form-data") {
        let form = "Content-Type: multipart/form-data; boundary=B\r\n";
        for body in ["", "--B--\r\n", "--B\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nx\r\n--B--\r\n"] {
            let headers = format!("{form}{}", with_length(body.as_bytes()));
            admin.refused(&line, (&headers, body.as_bytes()), &[400], "");
        }
    }
    if route.operation["operationId"] == "recover_roster" || route.operation["operationId"] == "replace_preview" {
        admin.refused(&line, ("Content-Length: 0\r\n", b""), &[400, 404], "");
    }
}
