//! Connections over real sockets: slow heads, refused uploads, broken answers, shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mynet_node::events::{EVENTS_MAX, EventKind, EventView};
use mynet_types::GroupId;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{ApiSettings, ServeError, serve};
use crate::{
    fake::NodeHandle,
    heads::{HEAD_BYTES_MAX, HEADERS_MAX, URI_BYTES_MAX},
    openapi::schema::check_answer,
};

/// Longer than anything here may take; a test that gets there has failed.
const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    addr: SocketAddr,
    node: NodeHandle,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ServeError>>,
}

impl Server {
    async fn start(settings: ApiSettings) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), settings)
    }

    fn on(listener: TcpListener, settings: ApiSettings) -> Self {
        let addr = listener.local_addr().unwrap();
        let (node, shutdown) = (NodeHandle::default(), CancellationToken::new());
        let task = tokio::spawn(serve(listener, node.clone(), settings, shutdown.clone()));
        Self { addr, node, shutdown, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// A connection that is idle after one request.
    async fn connect_and_ask(&self) -> TcpStream {
        let mut stream = self.connect().await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"{\"status\":\"alive\"}") {
            let byte = tokio::time::timeout(DEADLINE, stream.read_u8()).await.expect("the request is answered");
            answer.push(byte.unwrap());
        }
        stream
    }

    async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(DEADLINE, self.task).await.expect("serve ends").unwrap().unwrap();
    }
}

/// Everything until the other side closes or resets.
async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut bytes)).await.expect("the connection ends");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match read {
        Ok(_) => text,
        Err(error) => format!("{text} [{error}]"),
    }
}

fn request(line: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nConnection: close\r\n\r\n").into_bytes()
}

#[tokio::test]
async fn a_request_is_answered_over_a_socket() {
    let server = Server::start(ApiSettings::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(&request("GET /api/v1/auth/me")).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.contains("\"scope\":\"admin\""), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let server = Server::start(ApiSettings { head_timeout: Duration::from_millis(50), ..ApiSettings::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    server.stop().await;
}

/// Sends bytes on a connection of their own, and demands a whole refusal with this status and code.
async fn refused(server: &Server, sent: &[u8], (status, code): (u16, &str)) -> serde_json::Value {
    let mut stream = server.connect().await;
    stream.write_all(sent).await.unwrap();
    let answer = read_all(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    check_answer("GET /api/v1/content/{id}", status, "application/problem+json", body.as_bytes()).unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((problem["status"].as_u64(), problem["code"].as_str()), (Some(status.into()), Some(code)), "{answer}");
    let id = problem["request_id"].as_str().unwrap();
    let length = format!("content-length: {}", body.len());
    for line in [length.as_str(), "content-type: application/problem+json", &format!("x-request-id: {id}")] {
        assert!(head.split("\r\n").any(|given| given == line), "no {line:?} in {head}");
    }
    for name in ["date", "cache-control", "x-content-type-options"] {
        assert_eq!(head.matches(&format!("\r\n{name}: ")).count(), 1, "{name} in {head}");
    }
    problem
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nX-Request-Id: mine\r\n{headers}\r\n").into_bytes()
}

#[tokio::test]
async fn a_head_with_too_much_in_it_is_refused_by_a_problem_with_a_code() {
    let server = Server::start(ApiSettings::default()).await;
    let long = format!("X-Long: {}\r\n", "x".repeat(4 * HEAD_BYTES_MAX));
    let many = (0..=HEADERS_MAX).map(|n| format!("X-{n}: x\r\n")).collect::<String>();
    for headers in [long, many] {
        let problem = refused(&server, &get("/livez", &headers), (431, "headers_too_large")).await;
        assert_eq!(problem["request_id"], "mine");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_path_that_is_too_long_is_refused_by_its_own_status() {
    let server = Server::start(ApiSettings::default()).await;
    let close = "Connection: close\r\n";
    // The last is not read to its end.
    for bytes in [URI_BYTES_MAX + 1, HEAD_BYTES_MAX - 1024, 2 * HEAD_BYTES_MAX] {
        let path = format!("/{}", "a".repeat(bytes - 1));
        refused(&server, &get(&path, close), (414, "uri_too_long")).await;
    }
    let query = format!("/?{}", "a".repeat(URI_BYTES_MAX));
    refused(&server, &get(&query, close), (414, "uri_too_long")).await;
    let longest = format!("/{}", "a".repeat(URI_BYTES_MAX - 1));
    refused(&server, &get(&longest, close), (404, "route_not_found")).await;
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_http_is_refused_by_a_problem_with_a_code() {
    let server = Server::start(ApiSettings::default()).await;
    for sent in [
        "GET\r\n\r\n",
        "G T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3} a greeting of TLS",
    ] {
        refused(&server, sent.as_bytes(), (400, "malformed_request")).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unreadable_head_after_an_answer_costs_the_answer_nothing() {
    let server = Server::start(ApiSettings::default()).await;
    // Content that looks like what is taken off the wire stays on it.
    let forged = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\n\r\n";
    let hash = server.node.hold(forged, true, None);
    let mut stream = server.connect().await;
    stream.write_all(&get(&format!("/api/v1/storage/{hash}"), "")).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(forged) {
        answer.push(tokio::time::timeout(DEADLINE, stream.read_u8()).await.expect("the content comes").unwrap());
    }
    stream.write_all(b"nonsense\r\n\r\n").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("\"malformed_request\""), "{answer}");

    // The same in one piece.
    let mut stream = server.connect().await;
    let both = [get(&format!("/api/v1/storage/{hash}"), ""), b"nonsense\r\n\r\n".to_vec()].concat();
    stream.write_all(&both).await.unwrap();
    let answer = read_all(&mut stream).await;
    let (_, rest) = answer.split_once(std::str::from_utf8(forged).unwrap()).unwrap_or_else(|| panic!("{answer}"));
    assert!(rest.starts_with("HTTP/1.1 400 ") && rest.contains("\"malformed_request\""), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_of_head_has_no_body() {
    let server = Server::start(ApiSettings::default()).await;
    let long = "x".repeat(2 * HEAD_BYTES_MAX);
    let mut stream = server.connect().await;
    stream.write_all(format!("HEAD /livez HTTP/1.1\r\nX-Long: {long}\r\n\r\n").as_bytes()).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 431 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_a_request_timeout() {
    let server = Server::start(ApiSettings { body_idle: Duration::from_millis(50), ..ApiSettings::default() }).await;
    let mut stream = server.connect().await;
    let head =
        "POST /api/v1/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Length: 9\r\n\r\nabc";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
    assert!(server.node.script().added.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_still_sends_sees_why_its_upload_was_refused() {
    let server = Server::start(ApiSettings::default()).await;
    server.node.script().upload_max = Some(10);
    let mut stream = server.connect().await;
    let body = vec![0; 8 << 20];
    let head = format!(
        "POST /api/v1/content HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer admin\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    stream.shutdown().await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("payload_too_large"), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn content_that_breaks_off_breaks_the_connection() {
    let server = Server::start(ApiSettings::default()).await;
    let hash = server.node.hold(b"damaged later on", true, Some(8));
    let mut stream = server.connect().await;
    stream.write_all(&request(&format!("GET /api/v1/storage/{hash}"))).await.unwrap();
    let answer = read_all(&mut stream).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: 16"), "{head}");
    assert!("damaged later on".starts_with(body) && body.len() < 16, "{body}");
    server.stop().await;
}

#[tokio::test]
async fn shutdown_lets_a_running_request_finish_and_takes_no_new_one() {
    let server = Server::start(ApiSettings::default()).await;
    let gate = Arc::new(Semaphore::new(0));
    server.node.script().gate = Some(Arc::clone(&gate));
    let mut running = server.connect().await;
    running.write_all(&request("GET /api/v1/status")).await.unwrap();

    wait_until_asked(&gate).await;
    let addr = server.addr;
    let mut idle = server.connect_and_ask().await;
    server.shutdown.cancel();
    assert_eq!(read_all(&mut idle).await, "");
    let refused = async {
        while TcpStream::connect(addr).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, refused).await.expect("the listener closes");
    gate.add_permits(1);
    let answer = read_all(&mut running).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"stopping\""), "{answer}");
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_does_not_finish_is_dropped_at_the_bound() {
    let server = Server::start(ApiSettings { drain: Duration::from_millis(50), ..ApiSettings::default() }).await;
    let gate = Arc::new(Semaphore::new(0));
    server.node.script().gate = Some(Arc::clone(&gate));
    let mut running = server.connect().await;
    running.write_all(&request("GET /api/v1/status")).await.unwrap();
    wait_until_asked(&gate).await;
    server.stop().await;
    let answer = read_all(&mut running).await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
}

#[tokio::test]
async fn connections_beyond_the_bound_wait_for_room() {
    let server = Server::start(ApiSettings { connections_max: 1, ..ApiSettings::default() }).await;
    let first = server.connect_and_ask().await;
    let mut second = server.connect().await;
    second.write_all(&request("GET /livez")).await.unwrap();
    let answered = tokio::time::timeout(Duration::from_millis(100), second.readable()).await;
    assert!(answered.is_err(), "the second connection was answered beside the first");
    drop(first);
    assert!(read_all(&mut second).await.starts_with("HTTP/1.1 200 OK"));
    server.stop().await;
}

/// Sockets of both sides hold so little, that a reader who stops reading is waited for soon.
const SMALL_BUFFER: u32 = 16 * 1024;

/// A reader of events over its own connection, beyond the head of its answer.
async fn reader(addr: SocketAddr, more: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
    let mut stream = socket.connect(addr).await.unwrap();
    let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer reader\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(tokio::time::timeout(DEADLINE, stream.read_u8()).await.expect("it is answered").unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("text/event-stream"), "{answer}");
    stream
}

/// The numbers of the events that come until `last` did, and of those said to be missed.
async fn read_events(stream: &mut TcpStream, last: u64) -> (Vec<u64>, u64) {
    let (mut numbers, mut missed, mut text) = (Vec::new(), 0, String::new());
    let mut bytes = vec![0; 64 * 1024];
    while numbers.last() != Some(&last) {
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut bytes)).await.expect("events come").unwrap();
        assert!(read > 0, "the answer ended before event {last}");
        text += std::str::from_utf8(&bytes[..read]).unwrap();
        while let Some((line, rest)) = text.split_once('\n') {
            if let Some(data) = line.strip_prefix("data: ") {
                let event: serde_json::Value = serde_json::from_str(data.trim_end()).unwrap();
                let number = event["id"].as_str().unwrap().strip_prefix("1-").unwrap().parse().unwrap();
                match event["missed"].as_u64() {
                    Some(some) => missed += some,
                    None => numbers.push(number),
                }
            }
            text = rest.to_owned();
        }
    }
    (numbers, missed)
}

#[tokio::test]
async fn one_reader_that_never_reads_costs_the_others_no_event_and_no_memory() {
    const READERS: usize = 19;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.set_send_buffer_size(SMALL_BUFFER).unwrap();
    let server = Server::on(socket.listen(64).unwrap(), ApiSettings::default());
    let events = Arc::clone(&server.node.script().events.0);
    let mut stuck = reader(server.addr, "").await;
    let mut readers = Vec::new();
    for _ in 0..READERS {
        readers.push(reader(server.addr, "").await);
    }
    // Several times what the ring, both sockets and the connection hold together.
    let (rounds, each) = (16, EVENTS_MAX as u64 / 2);
    for round in 0..rounds {
        for _ in 0..each {
            events.tell(EventView::of_group(EventKind::Stored, GroupId([7; 32])));
        }
        let all: Vec<u64> = (round * each + 1..=(round + 1) * each).collect();
        for stream in &mut readers {
            assert_eq!(read_events(stream, *all.last().unwrap()).await, (all.clone(), 0));
        }
        assert!(events.kept() <= EVENTS_MAX);
    }
    let (numbers, missed) = read_events(&mut stuck, rounds * each).await;
    assert!(missed > 0, "the reader was never stuck");
    assert_eq!(numbers.len() as u64 + missed, rounds * each, "each event was told or counted as missed");
    assert!(numbers.is_sorted_by(|a, b| a < b));
    server.stop().await;
}

#[tokio::test]
async fn a_reader_that_comes_back_goes_on_where_it_was() {
    let server = Server::start(ApiSettings::default()).await;
    let events = Arc::clone(&server.node.script().events.0);
    for _ in 0..5 {
        events.tell(EventView::of_group(EventKind::Stored, GroupId([7; 32])));
    }
    let mut stream = reader(server.addr, "Last-Event-ID: 1-2\r\n").await;
    assert_eq!(read_events(&mut stream, 5).await.0, [3, 4, 5]);
    server.stop().await;
}

#[tokio::test]
async fn readers_of_events_do_not_hold_up_a_shutdown() {
    let server = Server::start(ApiSettings { drain: DEADLINE * 2, ..ApiSettings::default() }).await;
    let mut stream = reader(server.addr, "").await;
    server.stop().await;
    assert!(read_all(&mut stream).await.ends_with("0\r\n\r\n"), "the answer ends as a whole one");
}

#[tokio::test]
async fn readers_beyond_the_bound_are_told_to_come_back_and_one_that_left_makes_room() {
    let server = Server::start(ApiSettings { readers_max: 1, ..ApiSettings::default() }).await;
    let events = Arc::clone(&server.node.script().events.0);
    let first = reader(server.addr, "").await;
    let mut second = server.connect().await;
    second.write_all(&request("GET /api/v1/events")).await.unwrap();
    let answer = read_all(&mut second).await;
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("\"busy\""), "{answer}");
    drop(first);
    let again = async {
        loop {
            // A connection that its reader left is noticed when something is sent on it.
            events.tell(EventView::of_group(EventKind::Stored, GroupId([7; 32])));
            let mut stream = server.connect().await;
            stream.write_all(&request("GET /api/v1/events")).await.unwrap();
            let mut status = [0; 12];
            stream.read_exact(&mut status).await.unwrap();
            if status == *b"HTTP/1.1 200" {
                return;
            }
        }
    };
    tokio::time::timeout(DEADLINE, again).await.expect("there is room again");
    server.stop().await;
}

/// Waits until a request stands at the gate: it alone holds a second reference besides the script's and the test's.
async fn wait_until_asked(gate: &Arc<Semaphore>) {
    let asked = async {
        while Arc::strong_count(gate) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("the request reaches the node");
}
