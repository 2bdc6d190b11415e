//! Connections over real sockets: slow heads, refused uploads, broken answers, shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{ApiSettings, ServeError, serve};
use crate::fake::NodeHandle;

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
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

/// Waits until a request stands at the gate: it alone holds a second reference besides the script's and the test's.
async fn wait_until_asked(gate: &Arc<Semaphore>) {
    let asked = async {
        while Arc::strong_count(gate) < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.expect("the request reaches the node");
}
