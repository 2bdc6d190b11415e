//! Makes data directories: founding a network, and joining one.
//!
//! Everything is written to a directory beside the wanted one and renamed, so a half-made data directory never exists.
//! Where the wanted one is there and empty it is filled, the genesis last, without which no node starts. A node that was
//! away until its admission ended joins again with its keys and content: only the new ticket is put beside them.

mod place;

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use ed25519_dalek::SigningKey;
use mynet_store::{
    keys::{KeyFileError, KeyFiles},
    meta::{Meta, MetaError},
    votes::{DataDir, VoteSecret, VoteWrite, Votes, VotesError},
};
use mynet_types::{
    BoundedString, GenesisFile, NetworkId, NodeId, Roles, Timestamp, Validator, VerifiedChain, VoteKey,
    codec::TooMany,
    roster::{GENESIS_FORMAT, Genesis},
};

use self::place::{Place, sync};
use crate::{
    compose::random,
    driver::wall_clock,
    ticket::{Ticket, TicketError},
};

/// File of the genesis.
pub(crate) const GENESIS_FILE: &str = "genesis";
/// File of a ticket that is not redeemed yet; removed when it is.
pub(crate) const TICKET_FILE: &str = "ticket";
/// Least votes of any certificate, as a genesis value.
const MIN_QUORUM: u16 = 3;

/// What goes into `config.toml`; what is absent stays at its default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetupOptions {
    /// Where the node stands.
    pub region: Option<String>,
    /// What it shares its fate with.
    pub zone: Option<String>,
    /// What it does.
    pub roles: Option<Roles>,
    /// Bytes that content may take.
    pub capacity: Option<ByteSize>,
    /// Address of the HTTP API.
    pub api_listen: Option<SocketAddr>,
    /// UDP address for peers.
    pub p2p_listen: Option<SocketAddr>,
}

/// What was made.
#[derive(Debug, Clone, Copy)]
pub struct Prepared {
    /// The node.
    pub node_id: NodeId,
    /// Its network.
    pub network_id: NetworkId,
}

/// Why nothing was made. The directory is as it was, but for a start that a node in it may have counted.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A node is there.
    #[error("there is a node in {} already", .0.display())]
    HoldsNode(PathBuf),
    /// Something else is there.
    #[error("{} is not empty: there is {} in it", .dir.display(), .entry.display())]
    UsedDirectory {
        /// The directory.
        dir: PathBuf,
        /// The name of something in it.
        entry: PathBuf,
    },
    /// The ticket is none.
    #[error("ticket: {0}")]
    Ticket(#[from] TicketError),
    /// A network without a name.
    #[error("the network has no name")]
    NoName,
    /// A text is too long.
    #[error("{what}: {source}")]
    Text {
        /// Which.
        what: &'static str,
        /// How long it may be.
        source: TooMany,
    },
    /// Another process makes this directory.
    #[error("another process is making the data directory {}", .0.display())]
    Begun(PathBuf),
    /// A process runs on the directory.
    #[error("the node in {} is running", .0.display())]
    Runs(PathBuf),
    /// The directory is a node that this network admitted.
    #[error("the node in {} belongs to this network already{}", .dir.display(), lasting(*.until))]
    Member {
        /// The directory.
        dir: PathBuf,
        /// When that ends; absent for a founder that has not run yet.
        until: Option<Timestamp>,
    },
    /// The directory is a node of another network.
    #[error("the data directory {} belongs to another network than the ticket", .0.display())]
    OtherNetwork(PathBuf),
    /// The directory is a node of this network, whose settings are its own.
    #[error("the node in {} has its settings in config.toml", .0.display())]
    HasSettings(PathBuf),
    /// The ticket does not give these roles.
    #[error("the ticket does not give the roles asked for")]
    Roles,
    /// Key files.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The vote store.
    #[error(transparent)]
    Votes(#[from] VotesError),
    /// The database.
    #[error(transparent)]
    Meta(#[from] MetaError),
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

/// Founds a network whose first node this is.
///
/// # Errors
/// [`SetupError`]; nothing is left behind.
pub async fn found(
    dir: &Path,
    name: &str,
    allow_degraded_quorum: bool,
    options: &SetupOptions,
) -> Result<Prepared, SetupError> {
    let name = BoundedString::try_from(name).map_err(|source| SetupError::Text { what: "network name", source })?;
    if name.is_empty() {
        return Err(SetupError::NoName);
    }
    check_texts(options)?;
    let place = Place::new(dir)?;
    let keys = KeyFiles::create(&place.temporary)?;
    let vote_key = SigningKey::from_bytes(&random());
    let recovery: [SigningKey; 3] = std::array::from_fn(|_| SigningKey::from_bytes(&random()));
    let genesis = Genesis {
        format: GENESIS_FORMAT,
        name,
        created_at: wall_clock(),
        min_quorum: MIN_QUORUM,
        allow_degraded_quorum,
        recovery_keys: recovery.each_ref().map(|key| key.verifying_key().to_bytes()),
        founder: Validator { vote_key: VoteKey(vote_key.verifying_key().to_bytes()), node: keys.node_id() },
        salt: random(),
    };
    place.secret("recovery", "1.key", recovery[0].to_bytes())?;
    place.secret("recovery", "2.key", recovery[1].to_bytes())?;
    place.secret("recovery", "3.key", recovery[2].to_bytes())?;
    let votes = Votes::open(&place.temporary, DataDir::New).await?;
    votes.batch(vec![VoteWrite::Key { epoch: 0, secret: VoteSecret(vote_key.to_bytes()) }]).await?;
    votes.close().await?;
    let file = GenesisFile::of(&VerifiedChain::new(genesis));
    let prepared = Prepared { node_id: keys.node_id(), network_id: file.genesis.network_id() };
    place.write(GENESIS_FILE, &file.encode())?;
    place.write("config.toml", config_text(options, None).as_bytes())?;
    place.finish()?;
    Ok(prepared)
}

/// Prepares a node that a ticket invites; its next start redeems the ticket. A node of that network that is there already
/// gets the ticket and keeps everything else.
///
/// # Errors
/// [`SetupError`]; nothing is left behind.
pub async fn join(dir: &Path, ticket: &str, options: &SetupOptions) -> Result<Prepared, SetupError> {
    let decoded = Ticket::decode(ticket)?;
    check_texts(options)?;
    if dir.join(GENESIS_FILE).is_file() {
        return join_again(dir, (ticket, &decoded), options).await;
    }
    let invited = decoded.invite.body.roles;
    if options.roles.is_some_and(|roles| !invited.contains(roles)) {
        return Err(SetupError::Roles);
    }
    let place = Place::new(dir)?;
    let keys = KeyFiles::create(&place.temporary)?;
    let votes = Votes::open(&place.temporary, DataDir::New).await?;
    votes.close().await?;
    let prepared = Prepared { node_id: keys.node_id(), network_id: decoded.genesis.genesis.network_id() };
    place.write(GENESIS_FILE, &decoded.genesis.encode())?;
    place.write(TICKET_FILE, ticket.trim().as_bytes())?;
    place.write("config.toml", config_text(options, Some(invited)).as_bytes())?;
    place.finish()?;
    Ok(prepared)
}

/// Puts a ticket into the data directory of a node of the same network that does not run and is not admitted. It counts as a
/// start of the node that ends at once.
async fn join_again(
    dir: &Path,
    (text, ticket): (&str, &Ticket),
    options: &SetupOptions,
) -> Result<Prepared, SetupError> {
    if *options != SetupOptions::default() {
        return Err(SetupError::HasSettings(dir.to_owned()));
    }
    let path = dir.join(GENESIS_FILE);
    let genesis = fs::read(&path).map_err(|source| SetupError::Io { verb: "read", path, source })?;
    let network_id = ticket.genesis.genesis.network_id();
    let own = GenesisFile::decode(&genesis).ok().filter(|file| file.genesis.network_id() == network_id);
    let Some(own) = own else { return Err(SetupError::OtherNetwork(dir.to_owned())) };
    let node_id = KeyFiles::load(dir)?.node_id();
    // Held until the ticket is there, so that no start misses it.
    let votes = Votes::open(dir, DataDir::Used).await.map_err(|error| match error {
        VotesError::InUse(_) => SetupError::Runs(dir.to_owned()),
        error => error.into(),
    })?;
    let put = match refuse_member(dir, node_id, own.genesis.founder.node == node_id).await {
        Ok(()) => put_ticket(dir, text),
        refused => refused,
    };
    votes.close().await?;
    put.map(|()| Prepared { node_id, network_id })
}

/// A node that is admitted has no use for a ticket, and its next start would take it away unread.
async fn refuse_member(dir: &Path, node: NodeId, founder: bool) -> Result<(), SetupError> {
    let path = dir.join("mynet.db");
    let member = |until| Err(SetupError::Member { dir: dir.to_owned(), until });
    if !path.is_file() {
        // It has never run; a founder admits itself then.
        return if founder { member(None) } else { Ok(()) };
    }
    let meta = Meta::open(&path, node).await?;
    let admissions = meta.admissions().await;
    meta.close().await?;
    let own = admissions?.into_iter().find(|admission| admission.body.node == node);
    match own.map(|admission| admission.body.expires_at) {
        Some(until) if wall_clock() < until => member(Some(until)),
        None if founder => member(None),
        Some(_) | None => Ok(()),
    }
}

/// Writes the ticket, or another one over it.
fn put_ticket(dir: &Path, text: &str) -> Result<(), SetupError> {
    let (new, path) = (dir.join(format!("{TICKET_FILE}.new")), dir.join(TICKET_FILE));
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let written = written.and_then(|mut file| {
        file.write_all(text.trim().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync(dir)
    });
    written.map_err(|source| SetupError::Io { verb: "write", path, source })
}

/// The end of a membership, as a part of a sentence.
fn lasting(end: Option<Timestamp>) -> String {
    end.map_or_else(String::new, |end| format!(", until {end} at least"))
}

/// Whether a node was made in `dir`. Anything that only a node has says so, because what is lost of it may be any of them.
#[must_use]
pub fn holds_node(dir: &Path) -> bool {
    [GENESIS_FILE, "node.key", "owner.key", "kek.key", "mynet.db", "votes.db"]
        .iter()
        .any(|name| dir.join(name).exists())
}

/// Removes what set-ups of `dir` began and did not finish, unless a process is still at it. Set-ups do so by themselves.
pub fn remove_unfinished(dir: &Path) {
    place::remove_left(dir);
}

/// Refuses texts that an admission cannot hold.
fn check_texts(options: &SetupOptions) -> Result<(), SetupError> {
    if let Some(region) = &options.region {
        BoundedString::<32>::try_from(region.as_str()).map_err(|source| SetupError::Text { what: "region", source })?;
    }
    if let Some(zone) = &options.zone {
        BoundedString::<64>::try_from(zone.as_str()).map_err(|source| SetupError::Text { what: "zone", source })?;
    }
    Ok(())
}

/// The settings file: only what differs from the defaults.
fn config_text(options: &SetupOptions, invited: Option<Roles>) -> String {
    let mut sections = toml::Table::new();
    let mut set = |section: &str, key: &str, value: toml::Value| {
        let section = sections.entry(section).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let toml::Value::Table(table) = section {
            table.insert(key.to_owned(), value);
        }
    };
    if let Some(region) = &options.region {
        set("node", "region", region.as_str().into());
    }
    if let Some(zone) = &options.zone {
        set("node", "zone", zone.as_str().into());
    }
    if let Some(roles) = options.roles.or(invited) {
        set("node", "roles", roles.words().collect::<Vec<_>>().into());
    }
    if let Some(capacity) = options.capacity {
        set("storage", "capacity", exact(capacity).into());
    }
    if let Some(listen) = options.api_listen {
        set("api", "listen", listen.to_string().into());
    }
    if let Some(listen) = options.p2p_listen {
        set("p2p", "listen", listen.to_string().into());
    }
    sections.to_string()
}

/// Bytes in the largest unit that they are a multiple of: what people read is rounded, and this is read back.
fn exact(size: ByteSize) -> String {
    const UNITS: [(u32, &str); 4] = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
    let bytes = size.as_u64();
    let unit = UNITS.iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift && bytes != 0);
    unit.map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use bytesize::ByteSize;
    use mynet_store::{
        keys::KeyFiles,
        meta::Meta,
        votes::{DataDir, Votes},
    };
    use mynet_types::{AdmissionRecord, BoundedString, BoundedVec, GenesisFile, Roles, Signed, Timestamp};

    use super::{GENESIS_FILE, SetupError, SetupOptions, TICKET_FILE, Ticket, config_text, found, join};
    use crate::config::Config;

    #[test]
    fn the_capacity_asked_for_is_the_one_that_is_read_back() {
        for capacity in [ByteSize::mib(1500), ByteSize::tib(2), ByteSize::b(1_234_567), ByteSize::b(0)] {
            let temp = tempfile::tempdir().unwrap();
            let options = SetupOptions { capacity: Some(capacity), ..SetupOptions::default() };
            std::fs::write(temp.path().join("config.toml"), config_text(&options, None)).unwrap();
            assert_eq!(Config::load(temp.path(), &toml::Table::new()).unwrap().storage.capacity, capacity);
        }
    }

    /// A ticket of the network that was founded in `dir`, for `uses` nodes.
    fn ticket(dir: &Path, uses: u32) -> String {
        let genesis = GenesisFile::decode(&std::fs::read(dir.join(GENESIS_FILE)).unwrap()).unwrap();
        let keys = KeyFiles::load(dir).unwrap();
        let invite = mynet_types::Invite {
            id: [1; 16],
            inviter: keys.node_id(),
            roles: Roles::STORAGE,
            trusted: false,
            uses,
            expires_at: Timestamp(1),
        };
        let network_id = genesis.genesis.network_id();
        let invite = Signed::new(&network_id, invite, keys.node());
        Ticket { invite, genesis, addrs: BoundedVec::new() }.encode()
    }

    /// The founder of a network, a node that joined it, and a founder of another network; none has run.
    async fn made() -> (tempfile::TempDir, [PathBuf; 3]) {
        let temp = tempfile::tempdir().unwrap();
        let dirs = ["a", "joined", "b"].map(|name| temp.path().join(name));
        let [a, joined, b] = &dirs;
        let none = SetupOptions::default();
        found(a, "songs", false, &none).await.unwrap();
        found(b, "films", false, &none).await.unwrap();
        join(joined, &ticket(a, 1), &none).await.unwrap();
        (temp, dirs)
    }

    /// Writes into the database of `dir` that the founder in `a` admitted its node until `end`.
    async fn admit(dir: &Path, a: &Path, end: Timestamp) {
        let (founder, keys) = (KeyFiles::load(a).unwrap(), KeyFiles::load(dir).unwrap());
        let genesis = GenesisFile::decode(&std::fs::read(dir.join(GENESIS_FILE)).unwrap()).unwrap();
        let admission = AdmissionRecord {
            node: keys.node_id(),
            wrap_key: keys.wrap_secret().public(),
            roles: Roles::STORAGE,
            trusted: false,
            region: BoundedString::default(),
            zone: BoundedString::default(),
            weight: 1,
            admitted_at: Timestamp(1),
            expires_at: end,
            epoch: 0,
            issuer: founder.node_id(),
            nonce: [0; 16],
        };
        let admission = Signed::new(&genesis.genesis.network_id(), admission, founder.node());
        let meta = Meta::open(&dir.join("mynet.db"), keys.node_id()).await.unwrap();
        meta.put_members(&[admission], &[]).await.unwrap();
        meta.close().await.unwrap();
    }

    #[tokio::test]
    async fn a_node_joins_its_own_network_again_with_its_keys_and_no_other() {
        let (_temp, [a, joined, b]) = made().await;
        let none = SetupOptions::default();
        let node = KeyFiles::load(&joined).unwrap().node_id();
        // Its first ticket was not redeemed in time; then it was admitted, and away until that ended.
        for end in [None, Some(Timestamp(2))] {
            if let Some(end) = end {
                admit(&joined, &a, end).await;
            }
            let text = ticket(&a, 2 + u32::from(end.is_some()));
            let again = join(&joined, &text, &none).await.unwrap();
            assert_eq!(again.node_id, node);
            assert_eq!(std::fs::read_to_string(joined.join(TICKET_FILE)).unwrap(), text);
        }
        assert!(matches!(join(&b, &ticket(&a, 1), &none).await, Err(SetupError::OtherNetwork(_))));
        let flags = SetupOptions { zone: Some("z".to_owned()), ..none };
        assert!(matches!(join(&joined, &ticket(&a, 1), &flags).await, Err(SetupError::HasSettings(_))));
    }

    #[tokio::test]
    async fn a_member_and_a_running_node_take_no_ticket() {
        let (_temp, [a, joined, _]) = made().await;
        let (none, other) = (SetupOptions::default(), ticket(&a, 9));
        assert!(matches!(join(&a, &other, &none).await, Err(SetupError::Member { until: None, .. })), "the founder");
        let kept = std::fs::read(joined.join(TICKET_FILE)).unwrap();

        let running = Votes::open(&joined, DataDir::Used).await.unwrap();
        assert!(matches!(join(&joined, &other, &none).await, Err(SetupError::Runs(_))));
        running.close().await.unwrap();

        admit(&joined, &a, Timestamp::MAX).await;
        let refused = join(&joined, &other, &none).await.unwrap_err();
        assert!(matches!(refused, SetupError::Member { until: Some(Timestamp::MAX), .. }), "{refused}");
        assert_eq!(std::fs::read(joined.join(TICKET_FILE)).unwrap(), kept);
        assert!(!a.join(TICKET_FILE).exists());
        let free = Votes::open(&joined, DataDir::Used).await.unwrap();
        free.close().await.unwrap();
    }
}
