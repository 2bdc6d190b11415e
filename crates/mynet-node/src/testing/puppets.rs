//! Test kit: a real node, and puppets around it that are admitted, say what they are told to say and remember what they
//! were asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::Range,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ed25519_dalek::SigningKey;
use mynet_net::{Budget, Door, Limits, Net, NetConfig, NetEvent, RangeHead, RangeReply, RangeWanted, Service};
use mynet_store::{
    blobs::{Blobs, GROUP_BYTES, Ingest, StagingDir},
    keys::{KeyFiles, WrapTarget, wrap_key},
    meta::{GroupRows, MetaWrite, StoredBlob},
    votes::{DataDir, Votes},
};
use mynet_types::{
    AdmissionRecord, BlobRef, BoundedString, BoundedVec, CertificateFile, Claim, ContentHash, ContentType, Domain,
    GroupId, NetworkId, NodeId, NodeRecord, Phase, QuorumCertificate, Roles, Signed, SignedAdmission, SignedManifest,
    SignedNodeRecord, SignedReceipt, SignedWrap, SignerSet, StorageReceipt, TxId, Verdict, VoteStatement,
    certificate::Holding,
    rpc::{GroupInfo, GroupKey, Knock, KnockRefusal, KnockReply, Request, Response},
    signing::sign_as,
    vote::attest_slot,
};
use tempfile::TempDir;
use tokio::{io::AsyncWriteExt, sync::Semaphore, sync::mpsc};
use tokio_util::sync::CancellationToken;

use crate::{
    compose::{Composed, Copies, Description, Draft, random},
    config::Config,
    driver::wall_clock,
    handle::{AddOptions, Grant, NodeHandle, PreviewChoice},
    service::{self, RunningNode},
    setup::{self, SetupOptions},
    shell::Shell,
    view::Wait,
};

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(20);

/// Looks again and again until it is so.
pub(crate) async fn until(what: &str, so: impl AsyncFn() -> bool) {
    let waited = tokio::time::timeout(PATIENCE, async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !so().await {
            looks.tick().await;
        }
    });
    waited.await.unwrap_or_else(|_late| panic!("waited {PATIENCE:?} for {what}"));
}

/// A node that founded its network alone; its vote makes certificates.
pub(crate) struct Founder {
    pub(crate) temp: TempDir,
    pub(crate) handle: NodeHandle,
    vote_key: SigningKey,
    node: RunningNode,
}

impl Founder {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("founder");
        setup::found(&dir, "test", true, &SetupOptions::default()).await.unwrap();
        let votes = Votes::open(&dir, DataDir::Used).await.unwrap();
        let (_, secret) = votes.restore().await.unwrap().keys.into_iter().next().unwrap();
        votes.close().await.unwrap();
        let mut config = Config::default();
        config.p2p.listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let node = service::start(&dir, config).await.unwrap();
        Self { temp, handle: node.handle(), vote_key: SigningKey::from_bytes(&secret.0), node }
    }

    /// Stops it; what it had is in the directory `founder` in here.
    pub(crate) async fn stop(self) -> TempDir {
        drop(self.handle);
        self.node.stop().await.unwrap();
        self.temp
    }

    /// Uploads a file without a preview that is private, granted to nobody and not published, or as `change` has it.
    pub(crate) async fn add(&self, bytes: &'static [u8], change: impl FnOnce(&mut AddOptions)) -> GroupId {
        let mut options = AddOptions {
            filename: "a.txt".to_owned(),
            content_type: None,
            public: false,
            preview: PreviewChoice::None,
            tags: Vec::new(),
            replicas: None,
            grant: Grant::None,
            publish: false,
            wait: Wait::Stored,
            timeout: Duration::from_secs(1),
        };
        change(&mut options);
        self.handle.add(futures::stream::iter([Ok(bytes.into())]), options).await.unwrap().group_id
    }

    pub(crate) fn shell(&self) -> &Arc<Shell> {
        &self.handle.shell
    }

    /// An admission of `node`, signed by the founder.
    pub(crate) fn admission(&self, keys: &KeyFiles, trusted: bool, lifetime: Duration) -> SignedAdmission {
        let now = wall_clock();
        let admission = AdmissionRecord {
            node: keys.node_id(),
            wrap_key: keys.wrap_secret().public(),
            roles: Roles::STORAGE,
            trusted,
            region: BoundedString::default(),
            zone: BoundedString::default(),
            weight: 1,
            admitted_at: now,
            expires_at: now.after(lifetime),
            epoch: 0,
            issuer: self.shell().me(),
            nonce: random(),
        };
        Signed::new(&self.shell().network, admission, self.shell().keys.node())
    }

    /// Makes a group visible here as its coordinator's decision would. Its bytes are not there.
    pub(crate) async fn hold(&self, info: &GroupInfo) {
        let (shell, tx, attempt) = (self.shell(), TxId(random()), 1);
        let manifest = &info.manifest.body;
        let held = manifest.allowed(false);
        let blobs = manifest.blobs().map(|(_, blob)| StoredBlob { blob, generation: 1 }).collect();
        let receipt = StorageReceipt {
            manifest_hash: manifest.hash(),
            states: held,
            holder: shell.me(),
            until: wall_clock().after(Duration::from_secs(3600)),
        };
        let rows = GroupRows {
            manifest: info.manifest.clone(),
            sealed: info.sealed.clone(),
            wraps: Vec::new(),
            held,
            placement_slot: 1,
            granted: None,
        };
        let writes = vec![
            MetaWrite::Intent { tx, attempt, group_id: manifest.group_id, reserved_bytes: 1, state: Vec::new() },
            MetaWrite::Prepared { tx, attempt, states: held, blobs },
            MetaWrite::Commit {
                tx,
                attempt,
                rows: Box::new(rows),
                receipt: Signed::new(&shell.network, receipt, shell.keys.node()),
            },
        ];
        shell.meta.batch(writes, wall_clock()).await.unwrap();
    }

    /// A certificate that `holders` hold the group durably.
    pub(crate) fn certificate(&self, manifest: &SignedManifest, holders: &[&Puppet]) -> CertificateFile {
        self.certified(manifest, holders, Claim::Durable)
    }

    /// A certificate of `claim`.
    pub(crate) fn certified(&self, manifest: &SignedManifest, holders: &[&Puppet], claim: Claim) -> CertificateFile {
        let chain = self.shell().members.chain();
        let statement = VoteStatement {
            epoch: 0,
            roster: chain.newest().hash(),
            phase: Phase::Vote,
            slot: attest_slot(&manifest.body.hash()),
            value: manifest.body.hash(),
            verdict: Verdict::Accept,
            claim,
            states: manifest.body.allowed(false),
        };
        let vote = sign_as(Domain::Vote, &self.shell().network, &statement, &self.vote_key);
        let mut holdings: Vec<Holding> = holders
            .iter()
            .map(|puppet| Holding { receipt: puppet.receipt(manifest), admission: puppet.admission.clone() })
            .collect();
        holdings.sort_by_key(|holding| holding.receipt.body.holder);
        CertificateFile {
            manifest: manifest.clone(),
            certificate: QuorumCertificate { statement, signers: SignerSet::collect([(0, vote)]) },
            holdings: BoundedVec::truncated(holdings),
            chain: chain.up_to(0),
        }
    }
}

/// What a puppet says and what it heard.
pub(crate) struct Script {
    /// What it tells of a group, by the key it is asked by.
    pub(crate) groups: Mutex<BTreeMap<GroupKey, GroupInfo>>,
    /// The bytes it sends for a name, right or not.
    pub(crate) bytes: Mutex<BTreeMap<ContentHash, StoredBlob>>,
    /// Keys that it was asked by.
    pub(crate) asked: Mutex<Vec<GroupKey>>,
    /// How it sends bytes.
    pub(crate) manner: Mutex<Manner>,
    /// The parts that it sent, of all blobs.
    pub(crate) sent: Mutex<Vec<Range<u64>>>,
    /// How often it was asked for bytes.
    pub(crate) pulls: AtomicUsize,
    /// Each answer about a group takes a permit and gives it back.
    pub(crate) gate: Semaphore,
    blobs: Blobs,
}

/// How a puppet sends bytes: so many parts whole, then so many of which it sends the first half, then none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) whole: usize,
    pub(crate) halves: usize,
}

impl Manner {
    /// Sends whatever it is asked for.
    pub(crate) const GOOD: Self = Self { whole: usize::MAX, halves: 0 };

    /// How many bytes of `len` it sends now.
    fn portion(&mut self, len: u64) -> u64 {
        let half = len / 2 / GROUP_BYTES as u64 * GROUP_BYTES as u64;
        let left = [(&mut self.whole, len), (&mut self.halves, half)].into_iter().find(|(count, _)| **count > 0);
        left.map_or(0, |(count, portion)| {
            *count -= 1;
            portion
        })
    }
}

/// An admitted node that is no real one.
pub(crate) struct Puppet {
    pub(crate) keys: KeyFiles,
    pub(crate) admission: SignedAdmission,
    pub(crate) script: Arc<Script>,
    network: NetworkId,
    record: SignedNodeRecord,
    _net: Net,
    _events: mpsc::Receiver<NetEvent>,
}

struct OpenDoor;

#[async_trait]
impl Door for OpenDoor {
    fn is_admitted(&self, _node: &NodeId) -> bool {
        true
    }

    fn budget(&self, _node: &NodeId) -> Budget {
        Budget::Settled
    }

    async fn knock(&self, _from: NodeId, _knock: Knock) -> KnockReply {
        KnockReply::Refused(KnockRefusal::NotValidator)
    }
}

struct Player(Arc<Script>);

#[async_trait]
impl Service for Player {
    async fn request(&self, _from: NodeId, request: Request) -> Response {
        let Request::Group(key) = request else { return Response::Delivered };
        self.0.asked.lock().unwrap().push(key);
        let _permit = self.0.gate.acquire().await.unwrap();
        let told = self.0.groups.lock().unwrap().get(&key).cloned();
        told.map_or(Response::NotHere, |info| Response::Group(Box::new(info)))
    }

    async fn range(&self, _from: NodeId, wanted: RangeWanted, reply: RangeReply) {
        self.0.pulls.fetch_add(1, Ordering::Relaxed);
        let stored = self.0.bytes.lock().unwrap().get(&wanted.sha256).copied();
        let portion = self.0.manner.lock().unwrap().portion(wanted.len);
        let Some(stored) = stored.filter(|_| portion > 0) else {
            return reply.answer(Response::NotHere).await.unwrap();
        };
        let reader = self.0.blobs.read(stored.blob, stored.generation).await.unwrap();
        let mut stream = reply.start(RangeHead { size: stored.blob.size, blake3: stored.blob.blake3 }).await.unwrap();
        // Whoever asked may leave as soon as it has seen enough.
        let part = wanted.offset..wanted.offset + portion;
        self.0.sent.lock().unwrap().push(part.clone());
        let sent = reader.encode_range(part, &mut stream).await;
        if sent.is_ok() {
            drop(stream.shutdown().await);
        }
    }
}

impl Puppet {
    /// Has the founder admit a puppet, and waits until they are connected.
    pub(crate) async fn join(founder: &Founder, name: &str, trusted: bool) -> Self {
        let puppet = Self::make(founder, name, trusted).await;
        puppet.enter(founder).await;
        let (shell, node) = (founder.shell(), puppet.keys.node_id());
        until("the puppet to be up", async || shell.members.up().contains(&node)).await;
        puppet
    }

    /// Shows its admission to the founder, who then connects.
    pub(crate) async fn enter(&self, founder: &Founder) {
        founder.shell().learn_members(vec![self.admission.clone()], vec![self.record.clone()]).await;
    }

    /// A puppet that the founder does not know yet.
    pub(crate) async fn make(founder: &Founder, name: &str, trusted: bool) -> Self {
        let dir = founder.temp.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let keys = KeyFiles::create(&dir).unwrap();
        let blobs = Blobs::open(dir.join("blobs"), dir.join("staging")).await.unwrap();
        let script = Arc::new(Script {
            groups: Mutex::default(),
            bytes: Mutex::default(),
            asked: Mutex::default(),
            manner: Mutex::new(Manner::GOOD),
            sent: Mutex::default(),
            pulls: AtomicUsize::new(0),
            gate: Semaphore::new(1000),
            blobs,
        });
        let shell = founder.shell();
        let config = NetConfig {
            secret: keys.node().to_bytes(),
            network_id: shell.network,
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            limits: Limits::default(),
        };
        let player = Arc::new(Player(Arc::clone(&script)));
        let (net, events) = Net::start(config, Arc::new(OpenDoor), player, CancellationToken::new()).await.unwrap();
        let now = wall_clock();
        let record = NodeRecord {
            node: keys.node_id(),
            seq: 1,
            addrs: BoundedVec::truncated([BoundedString::try_from(net.local_addr().to_string()).unwrap()]),
            program: BoundedString::default(),
            groups: 0,
            bytes: 0,
            capacity: 0,
            valid_until: now.after(Duration::from_secs(3600)),
        };
        let record = Signed::new(&shell.network, record, keys.node());
        let admission = founder.admission(&keys, trusted, Duration::from_secs(3600));
        Self { keys, admission, script, network: shell.network, record, _net: net, _events: events }
    }

    /// "I hold all that any node may hold of it."
    pub(crate) fn receipt(&self, manifest: &SignedManifest) -> SignedReceipt {
        let receipt = StorageReceipt {
            manifest_hash: manifest.body.hash(),
            states: manifest.body.allowed(false),
            holder: self.keys.node_id(),
            until: wall_clock().after(Duration::from_secs(3600)),
        };
        Signed::new(&self.network, receipt, self.keys.node())
    }

    /// Takes bytes in and sends them to whoever asks for `name`, or for their own name.
    pub(crate) async fn store(&self, mut ingest: Ingest, bytes: &[u8], name: Option<ContentHash>) -> BlobRef {
        ingest.write(bytes).await.unwrap();
        let staged = ingest.finish().await.unwrap().staged;
        self.script.blobs.commit(&staged, 1).await.unwrap();
        let stored = StoredBlob { blob: staged.blob, generation: 1 };
        self.script.bytes.lock().unwrap().insert(name.unwrap_or(staged.blob.sha256), stored);
        staged.blob
    }

    /// Where bytes are taken in.
    pub(crate) async fn staging(&self) -> StagingDir {
        self.script.blobs.stage("made".parse().unwrap()).await.unwrap()
    }

    /// A public group of `bytes`, told of under its id and hash. With `name` it says that they have that SHA-256.
    pub(crate) async fn public(&self, bytes: &[u8], quorum: u8, name: Option<ContentHash>) -> SignedManifest {
        let staging = self.staging().await;
        let ingest = Ingest::plain(&staging, &"plain".parse().unwrap(), None).await.unwrap();
        let blob = self.store(ingest, bytes, name).await;
        let blob = BlobRef { sha256: name.unwrap_or(blob.sha256), ..blob };
        let signer = (&self.network, self.keys.owner(), wall_clock());
        let composed = Draft::new().open(blob, (&description(), Copies { replicas: 3, quorum }), signer).unwrap();
        let keys = [GroupKey::Group(composed.manifest.body.group_id), GroupKey::Hash(blob.sha256)];
        self.tell(&keys, &info(&composed));
        composed.manifest
    }

    /// A private group of `bytes`, and this owner's wrap of its key for each reader. Nobody is told.
    pub(crate) async fn private(&self, bytes: &[u8], readers: &[SignedAdmission]) -> (GroupInfo, Vec<SignedWrap>) {
        self.sealed(bytes, bytes, readers).await
    }

    /// A private group of `bytes` that says it is one of `said`.
    pub(crate) async fn sealed(
        &self,
        bytes: &[u8],
        said: &[u8],
        readers: &[SignedAdmission],
    ) -> (GroupInfo, Vec<SignedWrap>) {
        let (staging, draft) = (self.staging().await, Draft::new());
        let mut ingest = Ingest::sealed(&staging, &"sealed".parse().unwrap(), draft.cipher(), None).await.unwrap();
        ingest.write(bytes).await.unwrap();
        let ingested = ingest.finish().await.unwrap();
        self.script.blobs.commit(&ingested.staged, 1).await.unwrap();
        let blob = ingested.staged.blob;
        self.script.bytes.lock().unwrap().insert(blob.sha256, StoredBlob { blob, generation: 1 });
        let signer = (&self.network, self.keys.owner(), wall_clock());
        let copies = Copies { replicas: 3, quorum: 2 };
        let composed = draft.seal((BlobRef::of(said), blob), None, (&description(), copies), signer).unwrap();
        let manifest = &composed.manifest.body;
        let target = |reader: &SignedAdmission| WrapTarget {
            network: self.network,
            group_id: manifest.group_id,
            version: manifest.version,
            recipient: reader.body.node,
            recipient_key: reader.body.wrap_key,
        };
        let wrap = |reader| wrap_key(&draft.key, &target(reader), self.keys.owner()).unwrap();
        (info(&composed), readers.iter().map(wrap).collect())
    }

    /// Tells of a group under these keys from now on.
    pub(crate) fn tell(&self, keys: &[GroupKey], info: &GroupInfo) {
        self.script.groups.lock().unwrap().extend(keys.iter().map(|key| (*key, info.clone())));
    }

    /// Changes what it tells of a group under any key.
    pub(crate) fn amend(&self, change: impl Fn(&mut GroupInfo)) {
        self.script.groups.lock().unwrap().values_mut().for_each(change);
    }

    /// The keys that it was asked by, and forgets them.
    pub(crate) fn asked(&self) -> Vec<GroupKey> {
        std::mem::take(&mut self.script.asked.lock().unwrap())
    }
}

/// What a holder without receipts, wraps and certificate tells of a group.
pub(crate) fn info(composed: &Composed) -> GroupInfo {
    GroupInfo {
        manifest: composed.manifest.clone(),
        sealed: composed.sealed.clone(),
        wraps: BoundedVec::new(),
        receipts: BoundedVec::new(),
        certificate: None,
        held: composed.manifest.body.states(),
    }
}

fn description() -> Description {
    Description {
        content_type: ContentType::Document,
        mime: "text/plain".to_owned(),
        filename: "a.txt".to_owned(),
        tags: Vec::new(),
    }
}
