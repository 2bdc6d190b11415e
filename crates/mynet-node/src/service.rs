//! The node as a whole: opens the stores, restores the core, starts the network, and takes all of it down again.
//!
//! The counterpart of the specification's `MYNetworkService.start_service` and `register_node`.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use mynet_net::{Limits, Net, NetConfig, NodeAddr, StartError as NetError};
use mynet_proto::{
    consensus, node,
    node::{NodeCore, io::Input},
    replication,
};
use mynet_store::{
    blobs::{Blobs, OpenError},
    keys::{KeyFileError, KeyFiles},
    meta::{Meta, MetaError, MetaWrite, StoredBlob, WriteError},
    votes::{DataDir, RestoredVotes, Votes, VotesError},
};
use mynet_types::{
    AdmissionRecord, BoundedString, ContentHash, DecodeError, Genesis, GenesisFile, LinkError, NodeId, Roles,
    RosterChain, Signed, StatesMask, VerifiedChain, certificate::FileError, wire::Prepare,
};
use tokio_util::task::TaskTracker;

use crate::{
    care, catchup,
    compose::random,
    config::Config,
    crash, deletion,
    driver::{self, Incoming, wall_clock},
    group_log,
    handle::NodeHandle,
    liar::{self, Liar},
    members::Members,
    peers::{self, NodeDoor},
    persist::{self, Queues, restore},
    preview::PreviewWorker,
    refill,
    renewal::end_of,
    serve::NodeService,
    setup::{GENESIS_FILE, TICKET_FILE},
    shell::{Chain, Parts, Shell},
    staged::REPORTS_PER_LEASE,
    ticket::{Ticket, TicketError},
};

/// Longest time that draining may take; work that is cut off goes on after the next start.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Key files.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The metadata database.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// A write to the metadata database.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The vote store contradicts itself.
    #[error("the vote store contradicts itself: {0}")]
    Core(#[from] consensus::RestoreError),
    /// The vote store; also if another process has this data directory.
    #[error(transparent)]
    Votes(#[from] VotesError),
    /// The blob directories.
    #[error(transparent)]
    Blobs(#[from] OpenError),
    /// A record of this program is unreadable: the database was written by a newer one.
    #[error("a record in the database is unreadable: {0}")]
    Record(#[from] DecodeError),
    /// There is no genesis file.
    #[error("{} is missing", .0.display())]
    NoGenesis(PathBuf),
    /// The genesis file.
    #[error("{}: {source}", .path.display())]
    Genesis {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: FileError,
    },
    /// The roster chain in the vote store.
    #[error("the roster chain in the vote store: {0}")]
    Chain(#[from] LinkError),
    /// The ticket file.
    #[error("the ticket in the data directory: {0}")]
    Ticket(#[from] TicketError),
    /// A setting.
    #[error("setting {key}: {why}")]
    Setting {
        /// The key.
        key: &'static str,
        /// Why it cannot be used.
        why: String,
    },
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The file system.
    #[error("cannot {verb} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// What to do about a [`StartError`], and the stable code of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remedy {
    /// The kind, for programs.
    pub code: &'static str,
    /// What to try.
    pub hint: &'static str,
}

impl StartError {
    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        let (code, hint) = match self {
            Self::Votes(VotesError::InUse(_)) => {
                ("data_dir_in_use", "stop that process first, or name another directory with --data-dir")
            }
            Self::Keys(KeyFileError::LoosePermissions { .. }) => {
                ("bad_key_file", "run `chmod 600` on it; if somebody else may have read it, begin another node instead")
            }
            Self::Keys(_) => (
                "bad_key_file",
                "put a copy of it back; without one begin another node with `mynet join TICKET --data-dir DIR`",
            ),
            Self::NoGenesis(_) | Self::Genesis { .. } => {
                ("bad_genesis", "`mynet genesis -o FILE` on any other node of the network writes it: put that there")
            }
            Self::Votes(VotesError::Damaged(_) | VotesError::Database(_)) => (
                "damaged",
                "check the disk; a damaged votes.db is moved away, never replaced by an old copy: from four seats on the node gets a fresh key",
            ),
            Self::Meta(MetaError::Database(_)) => (
                "damaged",
                "check the disk; for a damaged mynet.db put a copy back, or move it away and begin without what only it knew",
            ),
            Self::Net(_) => ("p2p_listen", "set p2p.listen to a free address of this machine"),
            Self::Setting { .. } => ("bad_settings", "correct it; `mynet config show` lists all settings"),
            Self::Ticket(_) => ("bad_ticket", "ask for a new one and run `mynet join TICKET` on this directory"),
            Self::Io { .. } => ("failed", "check the disk and who may use the directory"),
            Self::Meta(_) | Self::Write(_) | Self::Blobs(_) | Self::Record(_) => {
                ("damaged", "`mynet doctor --data-dir DIR` looks into a directory whose node does not run")
            }
            Self::Chain(_) => (
                "damaged",
                "check that the genesis is that of this network: `mynet genesis -o FILE` on another node writes it",
            ),
            Self::Core(_) | Self::Votes(_) => {
                ("damaged", "check the disk, and that no older program was started on this directory")
            }
        };
        Remedy { code, hint }
    }
}

/// Why a node did not stop cleanly. Nothing durable is lost by it.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// The node stopped because its storage failed; the log says what.
    #[error("the node's storage failed, see its log")]
    StorageFailed,
    /// Work did not end in time and was cut off; it goes on after the next start.
    #[error("work did not end within {0:?} and was cut off; it goes on after the next start")]
    Late(Duration),
}

/// A node that runs until it is stopped.
#[derive(Debug)]
pub struct RunningNode {
    pub(crate) shell: Arc<Shell>,
}

impl RunningNode {
    /// Speaks to the node.
    #[must_use]
    pub fn handle(&self) -> NodeHandle {
        NodeHandle { shell: Arc::clone(&self.shell) }
    }

    /// Its settings.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        self.shell.config()
    }

    /// Tells the node where its API listens, for `status`.
    pub fn set_api(&self, url: String) {
        self.shell.set_api(url);
    }

    /// Ends when the node cannot go on by itself.
    pub async fn failed(&self) {
        self.shell.failed.cancelled().await;
    }

    /// Drains and stops.
    ///
    /// # Errors
    /// [`StopError`].
    pub async fn stop(self) -> Result<(), StopError> {
        let shell = self.shell;
        if let Some(net) = shell.net.get() {
            net.shutdown().await;
        }
        shell.cancel.cancel();
        shell.tasks.close();
        let drained = tokio::time::timeout(DRAIN_MAX, shell.tasks.wait()).await;
        if shell.failed.is_cancelled() {
            return Err(StopError::StorageFailed);
        }
        drained.map_err(|_elapsed| StopError::Late(DRAIN_MAX))
    }
}

/// Starts the node of a data directory.
///
/// # Errors
/// [`StartError`]; nothing runs then.
pub async fn start(data_dir: &Path, config: Config) -> Result<RunningNode, StartError> {
    crash::arm().map_err(|why| StartError::Setting { key: "FAILPOINTS", why })?;
    liar::arm().map_err(|why| StartError::Setting { key: "LIAR", why })?;
    let Opened { shell, votes, genesis, restored_votes, incoming, queues } = open(data_dir, config).await?;
    let replication = take_up(&shell, restore::replication(shell.meta.restore().await?)?).await?;
    care::clear_staging(&shell, replication.intents.iter().map(|(intent, _)| intent.prepare.tx)).await?;
    let liar = Liar::new(&shell, &restored_votes.keys);
    let core = core(&shell, &genesis, restore::consensus(restored_votes)?, replication)?;
    admit_founder(&shell, &genesis).await?;
    warn_of_other_wishes(&shell)?;
    let first = shell.members.all_admissions().into_iter().map(|admission| Input::Admitted(Box::new(admission)));
    let first = first.chain([Input::Start]).collect();
    persist::spawn(queues, votes, &shell);
    start_network(&shell).await?;
    driver::spawn((core, liar), &shell, first, incoming);
    let tasks: TaskTracker = shell.tasks.clone();
    tasks.spawn(care::run(Arc::clone(&shell)));
    tasks.spawn(catchup::run(Arc::clone(&shell)));
    tasks.spawn(refill::run(Arc::clone(&shell)));
    tasks.spawn(group_log::run(Arc::clone(&shell)));
    tasks.spawn(deletion::run(Arc::clone(&shell)));
    Ok(RunningNode { shell })
}

/// A data directory that was opened; nothing runs yet.
pub(crate) struct Opened {
    pub(crate) shell: Arc<Shell>,
    pub(crate) incoming: Incoming,
    pub(crate) votes: Votes,
    queues: Queues,
    genesis: Genesis,
    restored_votes: RestoredVotes,
}

/// Opens keys and stores, and marks what was lost with the directory of the blobs.
pub(crate) async fn open(data_dir: &Path, config: Config) -> Result<Opened, StartError> {
    let opened = open_stores(data_dir, config).await?;
    quarantine_vanished(&opened.shell).await?;
    Ok(opened)
}

/// Opens keys and stores.
pub(crate) async fn open_stores(data_dir: &Path, config: Config) -> Result<Opened, StartError> {
    let keys = KeyFiles::load(data_dir)?;
    let me = keys.node_id();
    let genesis = read_genesis(data_dir)?.genesis;
    let network = genesis.network_id();
    let votes = Votes::open(data_dir, DataDir::Used).await?;
    let (database, staging) = (data_dir.join("mynet.db"), data_dir.join("staging"));
    // The first start makes both.
    if staging.exists() && fs::metadata(&database).map_or(true, |file| file.len() == 0) {
        tracing::warn!(
            path = %database.display(),
            "the database is gone and a new one begins, without any group; to put a copy back, stop the node first"
        );
    }
    let meta = Meta::open(&database, me).await?;
    let blobs = Blobs::open(data_dir.join("blobs"), staging).await?;
    let restored_votes = votes.restore().await?;
    let links = mynet_types::BoundedVec::truncated(restored_votes.links.iter().cloned());
    let chain = VerifiedChain::verify(genesis.clone(), &RosterChain { links })?;
    let members = Members::new(chain, meta.admissions().await?, meta.node_records().await?);
    let exe = std::env::current_exe().map_err(|source| io("find", Path::new("this program"), source))?;
    let (inbox, inputs) = driver::inbox();
    let (writers, queues, durable) = persist::queues();
    let trust = meta.trust().await?.into_iter().collect::<BTreeMap<NodeId, bool>>();
    let shell = Arc::new(Shell::new(Parts {
        config,
        data_dir: data_dir.to_owned(),
        keys,
        network,
        meta,
        blobs,
        members,
        previews: PreviewWorker::new(exe),
        inbox,
        writers,
        trust,
    }));
    Ok(Opened { shell, votes, genesis, restored_votes, incoming: Incoming { inputs, durable }, queues })
}

/// The composed core.
fn core(
    shell: &Shell,
    genesis: &Genesis,
    votes: consensus::io::Restored,
    groups: replication::io::Restored,
) -> Result<NodeCore, StartError> {
    let settings = shell.config();
    let config = node::Config {
        consensus: consensus::io::Config { timeout: settings.consensus.timeout, ..Default::default() },
        replication: replication::io::Config {
            prepare_timeout: settings.replication.prepare_timeout,
            prepared_lease: settings.replication.lease,
            receiving_lease: settings.replication.receiving_lease,
            progress_interval: settings.replication.receiving_lease / REPORTS_PER_LEASE,
            ..Default::default()
        },
    };
    let restored = node::Restored { consensus: votes, replication: groups };
    let identity = node::Identity { node_key: shell.keys.node().clone(), genesis: genesis.clone() };
    Ok(NodeCore::new(config, identity, restored, random())?)
}

/// Takes up the transactions of the last start. One that is prepared and cannot be kept is given up: until its commit is
/// written here a participant may do that alone, and its coordinator asks again.
async fn take_up(
    shell: &Shell,
    mut restored: replication::io::Restored,
) -> Result<replication::io::Restored, StartError> {
    for (intent, prepared) in std::mem::take(&mut restored.intents) {
        let prepare = &intent.prepare;
        let blobs = match prepared {
            Some(states) => pinned(shell, prepare, states).await,
            None => Ok(Vec::new()),
        };
        match blobs {
            Ok(blobs) => {
                shell.resume(prepare.clone(), blobs);
                restored.intents.push((intent, prepared));
            }
            Err(Unkept::Meta(error)) => return Err(error.into()),
            Err(error) => {
                let (tx, attempt) = (prepare.tx, prepare.attempt);
                tracing::error!(tx = %tx, error = %Chain(&error), "a prepared transaction cannot be kept, it is given up");
                let abort = MetaWrite::Abort { tx, attempt };
                shell.meta.batch(vec![abort], wall_clock()).await?;
                restored.aborted.push((tx, attempt));
            }
        }
    }
    for open in std::mem::take(&mut restored.publications) {
        // Its receipt would speak of bytes that are not here; `refill` publishes it again when they are. Another version that
        // became visible before it was published is taken up by `succession`.
        let manifest = &open.0.manifest.body;
        let here = shell.meta.group(&mynet_types::rpc::GroupKey::Group(manifest.group_id)).await?;
        let replaced = here.is_some_and(|(group, _)| group.manifest.body.version > manifest.version);
        if !replaced && shell.lost_blob(manifest).await?.is_none() {
            restored.publications.push(open);
        }
    }
    Ok(restored)
}

/// Why a prepared transaction cannot be kept.
#[derive(Debug, thiserror::Error)]
enum Unkept {
    #[error(transparent)]
    Meta(MetaError),
    #[error(transparent)]
    Refused(WriteError),
    #[error("{0} is not on this disk any more")]
    Lost(ContentHash),
}

/// The blobs that a prepared transaction holds, all of them looked at.
async fn pinned(shell: &Shell, prepare: &Prepare, states: StatesMask) -> Result<Vec<StoredBlob>, Unkept> {
    let manifest = &prepare.manifest.body;
    let here = shell.meta.stage(prepare.tx, manifest, wall_clock()).await.map_err(|error| match error {
        WriteError::Meta(error) => Unkept::Meta(error),
        refused => Unkept::Refused(refused),
    })?;
    for (_, blob) in manifest.blobs().filter(|(member, _)| states.contains(member.state)) {
        let held = here.iter().find(|held| held.blob == blob).ok_or(Unkept::Lost(blob.sha256))?;
        if let Err(error) = shell.blobs.read(held.blob, held.generation).await {
            shell.damaged(held, &error).await;
            return Err(Unkept::Lost(blob.sha256));
        }
    }
    Ok(here)
}

/// Reads the genesis file.
fn read_genesis(data_dir: &Path) -> Result<GenesisFile, StartError> {
    let path = data_dir.join(GENESIS_FILE);
    let bytes = fs::read(&path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => StartError::NoGenesis(path.clone()),
        _ => io("read", &path, source),
    })?;
    GenesisFile::decode(&bytes).map_err(|source| StartError::Genesis { path, source })
}

/// The founder admits itself: there is nobody else who could.
async fn admit_founder(shell: &Arc<Shell>, genesis: &Genesis) -> Result<(), StartError> {
    let now = wall_clock();
    if genesis.founder.node != shell.me() || shell.members.admission(&shell.me()).is_some() {
        return Ok(());
    }
    let (roles, (region, zone, weight)) = wish(&shell.config(), &shell.me())?;
    let admission = AdmissionRecord {
        node: shell.me(),
        wrap_key: shell.keys.wrap_secret().public(),
        roles,
        trusted: true,
        region,
        zone,
        weight,
        admitted_at: now,
        expires_at: end_of(now),
        epoch: 0,
        issuer: shell.me(),
        nonce: random(),
    };
    let admission = Signed::new(&shell.network, admission, shell.keys.node());
    shell.meta.put_members(std::slice::from_ref(&admission), &[]).await?;
    shell.members.learn(&admission, now);
    Ok(())
}

/// Says which settings are other than what this node was admitted with: they change nothing, in silence otherwise.
fn warn_of_other_wishes(shell: &Shell) -> Result<(), StartError> {
    let Some(own) = shell.members.admission(&shell.me()) else { return Ok(()) };
    let keys = other_wishes(&shell.config(), &own.body)?;
    if !keys.is_empty() {
        tracing::warn!(keys = keys.join(", "), "these settings are not what this node was admitted with, which counts");
    }
    Ok(())
}

/// The keys of settings that a node was admitted without.
fn other_wishes(config: &Config, own: &AdmissionRecord) -> Result<Vec<&'static str>, StartError> {
    let (roles, (region, zone, _)) = wish(config, &own.node)?;
    let differs =
        [("node.region", region != own.region), ("node.zone", zone != own.zone), ("node.roles", roles != own.roles)];
    Ok(differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect())
}

/// What this node asks for when it is admitted: roles, region, zone and weight.
fn wish(config: &Config, me: &NodeId) -> Result<(Roles, (BoundedString<32>, BoundedString<64>, u16)), StartError> {
    let roles = Roles::parse(&config.node.roles.join(","));
    let roles = roles.map_err(|error| StartError::Setting { key: "node.roles", why: error.to_string() })?;
    let region = BoundedString::try_from(config.node.region.as_str());
    let region = region.map_err(|error| StartError::Setting { key: "node.region", why: error.to_string() })?;
    // Without a word of the operator a node shares its fate with nobody.
    let zone = if config.node.zone.is_empty() { me.short() } else { config.node.zone.clone() };
    let zone = BoundedString::try_from(zone);
    let zone = zone.map_err(|error| StartError::Setting { key: "node.zone", why: error.to_string() })?;
    let gib = config.storage.capacity.as_u64() >> 30;
    let weight = u16::try_from(gib.max(1)).unwrap_or(u16::MAX);
    Ok((roles, (region, zone, weight)))
}

/// Opens the endpoint and everything that speaks through it.
async fn start_network(shell: &Arc<Shell>) -> Result<(), StartError> {
    let data_dir = shell.data_dir.clone();
    let wanted = kept_address(&data_dir, "p2p", shell.config().p2p.listen);
    let limits = Limits { connections: shell.config().limits.connections, ..Limits::default() };
    let config = |listen| NetConfig {
        secret: shell.keys.node().to_bytes(),
        network_id: shell.network,
        listen,
        limits: limits.clone(),
    };
    let open = |listen| {
        let (door, service) = (NodeDoor(Arc::clone(shell)), liar::service(NodeService(Arc::clone(shell))));
        Net::start(config(listen), Arc::new(door), service, shell.cancel.child_token())
    };
    let opened = match open(wanted).await {
        // The port kept from the last start is taken; any other will do if the operator named none.
        Err(_taken) if shell.config().p2p.listen.port() == 0 => open(shell.config().p2p.listen).await,
        opened => opened,
    };
    let (net, events) = opened?;
    let listen = net.local_addr();
    keep_address(&data_dir, "p2p", listen).map_err(|source| io("keep the address in", &data_dir, source))?;
    shell.set_p2p(listen);
    for record in shell.members.records() {
        net.set_addrs(record.body.node, mynet_net::record_addrs(&record.body));
    }
    shell.net.set(net).expect("the network is started once");
    shell.learn_members(Vec::new(), vec![shell.own_record(listen)]).await;
    shell.renew_admissions([shell.me()]).await;
    shell.resume_grants().await?;
    shell.keep_peers();
    let tasks = shell.tasks.clone();
    tasks.spawn(peers::follow(Arc::clone(shell), listen, events));
    let bootstrap = bootstrap_nodes(&shell.config())?;
    if !bootstrap.is_empty() {
        tasks.spawn(peers::bootstrap(Arc::clone(shell), listen, bootstrap));
    }
    start_redeeming(shell, listen)
}

/// Redeems the ticket of a node that was not admitted yet.
fn start_redeeming(shell: &Arc<Shell>, listen: SocketAddr) -> Result<(), StartError> {
    let path = shell.data_dir.join(TICKET_FILE);
    if shell.members.is_admitted(&shell.me(), wall_clock()) {
        return match fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(io("remove", &path, source)),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    match fs::read_to_string(&path) {
        Ok(text) => {
            let ticket = Ticket::decode(&text)?;
            let wish = wish(&shell.config(), &shell.me())?;
            shell.tasks.spawn(peers::redeem_ticket(Arc::clone(shell), listen, ticket, wish));
            Ok(())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(
                "this node is not admitted: get a ticket from `mynet invite` and run `mynet join TICKET` on this directory"
            );
            Ok(())
        }
        Err(source) => Err(io("read", &path, source)),
    }
}

/// The nodes of `network.bootstrap`: `node_id@ip:port`.
pub(crate) fn bootstrap_nodes(config: &Config) -> Result<Vec<NodeAddr>, StartError> {
    let parse = |text: &String| {
        let (node, addr) = text.split_once('@')?;
        Some(NodeAddr { node: node.parse().ok()?, addrs: vec![addr.parse().ok()?] })
    };
    let why = |text: &String| format!("'{text}' is not of the form node_id@ip:port");
    let key = "network.bootstrap";
    config
        .network
        .bootstrap
        .iter()
        .map(|text| parse(text).ok_or_else(|| StartError::Setting { key, why: why(text) }))
        .collect()
}

/// A directory of blobs in which nothing is, though rows say otherwise, is a disk that was lost: its blobs are marked, so
/// that they are read from other nodes and pulled again. The directory stays empty until then, so a crash changes nothing.
async fn quarantine_vanished(shell: &Shell) -> Result<(), StartError> {
    if !shell.blobs.was_empty() {
        return Ok(());
    }
    let lost = shell.meta.quarantine_all().await?;
    if lost > 0 {
        let dir = shell.blobs.dir().display();
        tracing::warn!(lost, %dir, "the directory of the blobs is empty, what was in it is fetched from other nodes");
    }
    Ok(())
}

/// The address that was used last for `what`, if the settings leave the port open.
#[must_use]
pub fn kept_address(data_dir: &Path, what: &str, wanted: SocketAddr) -> SocketAddr {
    if wanted.port() != 0 {
        return wanted;
    }
    let kept = fs::read_to_string(address_file(data_dir, what)).ok().and_then(|text| text.trim().parse().ok());
    kept.filter(|kept: &SocketAddr| kept.ip() == wanted.ip()).unwrap_or(wanted)
}

/// Keeps the address that is used for `what`, so that a free port that was picked once stays.
///
/// # Errors
/// Those of the file system.
pub fn keep_address(data_dir: &Path, what: &str, bound: SocketAddr) -> std::io::Result<()> {
    fs::write(address_file(data_dir, what), format!("{bound}\n"))
}

fn address_file(data_dir: &Path, what: &str) -> PathBuf {
    data_dir.join(format!("{what}.addr"))
}

fn io(verb: &'static str, path: &Path, source: std::io::Error) -> StartError {
    StartError::Io { verb, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
