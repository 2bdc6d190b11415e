//! Nodes for tests: a real transport with a door and a service that the test controls.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use iroh::{
    Endpoint, EndpointAddr, RelayMode, SecretKey, TransportAddr,
    endpoint::{Connection, PortmapperConfig, presets},
};
use mynet_net::{
    Budget, Door, Limits, Net, NetConfig, NetEvent, NodeAddr, RangeHead, RangeReply, RangeWanted, Rate, Service,
    frame::{frame, read_answer},
    hello::Hello,
    table,
};
use mynet_types::{
    Blake3Root, BoundedVec, ContentHash, GroupId, Message, NetworkId, NodeId, NodeRecord, ReplicationMessage, Signed,
    SignedNodeRecord, Timestamp, TxId,
    rpc::{GroupKey, Knock, KnockRefusal, KnockReply, Request, Response},
};
use tokio::{
    io::AsyncWriteExt,
    sync::{Semaphore, mpsc},
    time::{Instant, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// The network of all tests but those about another one.
pub(crate) const NETWORK: NetworkId = NetworkId([9; 32]);
/// Longer than anything here takes, even on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Waits until `is_so`, looking often; fails the test with `what` at the deadline.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let mut look = interval(Duration::from_millis(5));
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < DEADLINE, "waited in vain until {what}");
        look.tick().await;
    }
}

/// The door of one node.
#[derive(Default)]
pub(crate) struct TestDoor {
    pub(crate) admitted: Mutex<BTreeSet<NodeId>>,
    pub(crate) knocks: Mutex<Vec<(NodeId, Knock)>>,
    pub(crate) newcomers: AtomicBool,
}

#[async_trait]
impl Door for TestDoor {
    fn is_admitted(&self, node: &NodeId) -> bool {
        self.admitted.lock().unwrap().contains(node)
    }

    fn budget(&self, _node: &NodeId) -> Budget {
        if self.newcomers.load(Ordering::Relaxed) { Budget::Newcomer } else { Budget::Settled }
    }

    async fn knock(&self, from: NodeId, knock: Knock) -> KnockReply {
        self.knocks.lock().unwrap().push((from, knock));
        KnockReply::Refused(KnockRefusal::NotValidator)
    }
}

/// What a range request is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Blob {
    /// `len` bytes that count up.
    #[default]
    Whole,
    /// The head, then silence.
    Silent,
    /// A kilobyte, then the stream is dropped.
    Broken,
    /// No bytes.
    NotHere,
}

/// The service of one node.
pub(crate) struct TestService {
    pub(crate) messages: Mutex<Vec<(NodeId, Message)>>,
    pub(crate) requests: AtomicU64,
    /// Every request takes a permit and gives it back; none left blocks them.
    pub(crate) gate: Semaphore,
    pub(crate) blob: Mutex<Blob>,
    pub(crate) stalled_writes: AtomicU64,
}

impl Default for TestService {
    fn default() -> Self {
        Self {
            messages: Mutex::default(),
            requests: AtomicU64::new(0),
            gate: Semaphore::new(1_000),
            blob: Mutex::default(),
            stalled_writes: AtomicU64::new(0),
        }
    }
}

/// The group key that makes the service panic.
pub(crate) const PANIC: GroupKey = GroupKey::Group(GroupId([0xee; 32]));

#[async_trait]
impl Service for TestService {
    async fn request(&self, from: NodeId, request: Request) -> Response {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let _permit = self.gate.acquire().await.unwrap();
        match request {
            Request::Deliver(message) => {
                self.messages.lock().unwrap().push((from, *message));
                Response::Delivered
            }
            Request::Group(key) => {
                assert!(key != PANIC, "planted");
                Response::NotHere
            }
            Request::Range { .. } | Request::TombstonesAfter { .. } => {
                Response::Failed(BoundedString256::try_from("not a request").unwrap())
            }
        }
    }

    async fn range(&self, _from: NodeId, wanted: RangeWanted, reply: RangeReply) {
        let blob = *self.blob.lock().unwrap();
        if blob == Blob::NotHere {
            return reply.answer(Response::NotHere).await.unwrap();
        }
        let head = RangeHead { size: wanted.offset + wanted.len, blake3: Blake3Root([5; 32]) };
        let mut stream = reply.start(head).await.unwrap();
        let chunk = pattern();
        let mut left = match blob {
            Blob::Whole => usize::try_from(wanted.len).unwrap(),
            Blob::Silent => return std::future::pending().await,
            Blob::Broken | Blob::NotHere => 1_024,
        };
        while left > 0 {
            let len = left.min(chunk.len());
            if let Err(error) = stream.write_all(&chunk[..len]).await {
                assert_eq!(error.kind(), std::io::ErrorKind::TimedOut, "{error}");
                self.stalled_writes.fetch_add(1, Ordering::Relaxed);
                return;
            }
            left -= len;
        }
        if blob == Blob::Whole {
            stream.shutdown().await.unwrap();
        }
    }
}

/// What blobs are made of, over and over.
pub(crate) fn pattern() -> Vec<u8> {
    (0..65_536_u32).map(|at| (at / 4) as u8).collect()
}

type BoundedString256 = mynet_types::BoundedString<256>;

/// One node.
pub(crate) struct TestNode {
    pub(crate) net: Net,
    pub(crate) events: mpsc::Receiver<NetEvent>,
    pub(crate) door: Arc<TestDoor>,
    pub(crate) service: Arc<TestService>,
}

/// Limits with which tests are quick; rates of strangers are off unless a test is about them.
pub(crate) fn limits() -> Limits {
    let strangers_per_ip = Rate { burst: 10_000, tokens: 10_000, per: Duration::from_secs(1) };
    Limits { strangers_per_ip, redial_max: Duration::from_millis(500), ..Limits::default() }
}

/// The secret of the test's `n`-th node.
pub(crate) fn secret(n: u8) -> [u8; 32] {
    [n; 32]
}

/// The id of the test's `n`-th node.
pub(crate) fn id(n: u8) -> NodeId {
    NodeId(*SecretKey::from_bytes(&secret(n)).public().as_bytes())
}

/// Any free port of the loopback.
pub(crate) fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

impl TestNode {
    /// Starts the `n`-th node on any port.
    pub(crate) async fn start(n: u8) -> Self {
        Self::start_with(n, anywhere(), NETWORK, limits()).await
    }

    pub(crate) async fn start_with(n: u8, listen: SocketAddr, network_id: NetworkId, limits: Limits) -> Self {
        let (door, service) = (Arc::new(TestDoor::default()), Arc::new(TestService::default()));
        let config = NetConfig { secret: secret(n), network_id, listen, limits };
        let token = CancellationToken::new();
        let (net, events) = Net::start(config, Arc::clone(&door) as _, Arc::clone(&service) as _, token).await.unwrap();
        assert_eq!(net.node_id(), id(n));
        Self { net, events, door, service }
    }

    /// Lets `other` in and notes where it is.
    pub(crate) fn admit(&self, other: &Self) {
        self.door.admitted.lock().unwrap().insert(other.net.node_id());
        self.net.set_addrs(other.net.node_id(), vec![other.net.local_addr()]);
    }

    /// Keeps connections to `others`.
    pub(crate) fn keep(&self, others: &[&Self]) {
        self.net.set_peers(&others.iter().map(|other| other.net.node_id()).collect());
    }

    pub(crate) fn addr(&self) -> NodeAddr {
        NodeAddr { node: self.net.node_id(), addrs: vec![self.net.local_addr()] }
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> NetEvent {
        timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("the transport runs")
    }

    pub(crate) fn is_connected(&self, other: NodeId) -> bool {
        self.net.peers().iter().any(|peer| peer.node == other && peer.connected)
    }
}

/// Two nodes that admit and know each other.
pub(crate) async fn pair() -> (TestNode, TestNode) {
    pair_with(limits()).await
}

pub(crate) async fn pair_with(limits: Limits) -> (TestNode, TestNode) {
    let a = TestNode::start_with(1, anywhere(), NETWORK, limits.clone()).await;
    let b = TestNode::start_with(2, anywhere(), NETWORK, limits).await;
    a.admit(&b);
    b.admit(&a);
    (a, b)
}

/// A request that any service answers with `NotHere`.
pub(crate) fn question() -> Request {
    Request::Group(GroupKey::Hash(ContentHash([1; 32])))
}

/// A small message with a number in it.
pub(crate) fn message(number: u64) -> Message {
    let mut tx = [0; 32];
    tx[..8].copy_from_slice(&number.to_le_bytes());
    Message::Replication(ReplicationMessage::StatusQuery { tx: TxId(tx) })
}

/// An announcement of the `n`-th node, signed by the `signer`-th for `network`.
pub(crate) fn record(n: u8, signer: u8, network: &NetworkId) -> SignedNodeRecord {
    let body = NodeRecord {
        node: id(n),
        seq: 1,
        addrs: BoundedVec::new(),
        program: "test".try_into().unwrap(),
        groups: 0,
        bytes: 0,
        capacity: 0,
        valid_until: Timestamp::MAX,
    };
    let key = ed25519_dalek::SigningKey::from_bytes(&secret(signer));
    let signature = mynet_types::signing::sign_as(mynet_types::Domain::NodeRecord, network, &body, &key);
    Signed { body, signature }
}

/// A peer that speaks QUIC but minds no rule.
pub(crate) struct Raw {
    pub(crate) endpoint: Endpoint,
}

impl Raw {
    pub(crate) async fn start(n: u8) -> Self {
        let endpoint = Endpoint::builder(presets::Minimal)
            .secret_key(SecretKey::from_bytes(&secret(n)))
            .relay_mode(RelayMode::Disabled)
            .portmapper_config(PortmapperConfig::Disabled)
            .clear_ip_transports()
            .bind_addr(anywhere())
            .unwrap()
            .bind()
            .await
            .unwrap();
        Self { endpoint }
    }

    /// Connects with a protocol name.
    pub(crate) async fn connect(&self, to: &TestNode, alpn: &str) -> Result<Connection, iroh::endpoint::ConnectError> {
        let id = iroh::EndpointId::from_bytes(&to.net.node_id().0).unwrap();
        let addr = EndpointAddr::from_parts(id, [TransportAddr::Ip(to.net.local_addr())]);
        timeout(DEADLINE, self.endpoint.connect(addr, alpn.as_bytes())).await.expect("a connection in time")
    }

    /// Connects and greets.
    pub(crate) async fn greeted(&self, to: &TestNode) -> Connection {
        let connection = self.connect(to, &format!("mynet/1/{NETWORK}")).await.unwrap();
        let kind = table::of_hello();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&frame(kind.number, &Hello { instance: 7 })).await.unwrap();
        send.finish().unwrap();
        let _hello: Hello = read_answer(&mut recv, kind.number, 1_024).await.unwrap();
        connection
    }
}

/// Sends `bytes` on a stream of its own and reads an answer of `kind`.
pub(crate) async fn say(connection: &Connection, bytes: &[u8], kind: u16) -> Response {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write_all(bytes).await.unwrap();
    timeout(DEADLINE, read_answer(&mut recv, kind, 1 << 20)).await.expect("an answer in time").unwrap()
}
