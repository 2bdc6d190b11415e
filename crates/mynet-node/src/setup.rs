//! Makes data directories: founding a network, and joining one.
//!
//! Everything is written to a directory beside the wanted one and renamed, so a half-made data directory never exists.
//! Where the wanted one is there and empty it is filled, the genesis last, without which no node starts. A node that was
//! away until its admission ended joins again with its keys and content: only the new ticket is put beside them.

use std::{
    fs,
    io::Write,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use bytesize::ByteSize;
use ed25519_dalek::SigningKey;
use mynet_store::{
    keys::{KeyFileError, KeyFiles},
    votes::{DataDir, VoteSecret, VoteWrite, Votes, VotesError},
};
use mynet_types::{
    BoundedString, GenesisFile, NetworkId, NodeId, Roles, Validator, VerifiedChain, VoteKey,
    codec::TooMany,
    roster::{GENESIS_FORMAT, Genesis},
};

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

/// Why nothing was made. The directory is as it was.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Something is there.
    #[error("the data directory {} is in use", .0.display())]
    UsedDirectory(PathBuf),
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
        return join_again(dir, (ticket, &decoded), options);
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

/// Puts a ticket into the data directory of a node of the same network.
fn join_again(dir: &Path, (text, ticket): (&str, &Ticket), options: &SetupOptions) -> Result<Prepared, SetupError> {
    if *options != SetupOptions::default() {
        return Err(SetupError::HasSettings(dir.to_owned()));
    }
    let path = dir.join(GENESIS_FILE);
    let genesis = fs::read(&path).map_err(|source| SetupError::Io { verb: "read", path, source })?;
    let network_id = ticket.genesis.genesis.network_id();
    if !GenesisFile::decode(&genesis).is_ok_and(|file| file.genesis.network_id() == network_id) {
        return Err(SetupError::OtherNetwork(dir.to_owned()));
    }
    let node_id = KeyFiles::load(dir)?.node_id();
    let (new, path) = (dir.join(format!("{TICKET_FILE}.new")), dir.join(TICKET_FILE));
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new);
    let written = written.and_then(|mut file| {
        file.write_all(text.trim().as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        sync(dir)
    });
    written.map_err(|source| SetupError::Io { verb: "write", path, source })?;
    Ok(Prepared { node_id, network_id })
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

/// Flushes the names in a directory to stable storage.
fn sync(dir: &Path) -> std::io::Result<()> {
    fs::File::open(dir)?.sync_all()
}

/// Makes a directory and what is missing above it, each on stable storage.
fn make_all(dir: &Path) -> std::io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_all(parent)?;
    match fs::create_dir(dir) {
        // Made by another process since we looked.
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.and_then(|()| sync(parent)),
    }
}

/// What a fresh file system may hold without being in use.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// A data directory in the making. Dropped before it is finished, it goes.
struct Place {
    wanted: PathBuf,
    temporary: PathBuf,
    /// The directory was there, empty: most often a disk is mounted on it, so it can be filled but not replaced.
    existed: bool,
    finished: bool,
}

impl Place {
    /// Begins beside `dir` if it is absent, within it if it is there and empty.
    fn new(dir: &Path) -> Result<Self, SetupError> {
        let in_use = |mut entries: fs::ReadDir| {
            entries.any(|entry| entry.map_or(true, |entry| entry.file_name() != OF_THE_FILE_SYSTEM))
        };
        let existed = match fs::read_dir(dir).map(in_use) {
            Ok(true) => return Err(SetupError::UsedDirectory(dir.to_owned())),
            Ok(false) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(source) => return Err(SetupError::Io { verb: "read", path: dir.to_owned(), source }),
        };
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        make_all(parent).map_err(|source| SetupError::Io { verb: "make", path: parent.to_owned(), source })?;
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let beside = parent.join(format!(".{name}.new-{}", std::process::id()));
        let temporary = if existed { dir.join(format!(".new-{}", std::process::id())) } else { beside };
        fs::DirBuilder::new().mode(0o700).create(&temporary).map_err(|source| SetupError::Io {
            verb: "make",
            path: temporary.clone(),
            source,
        })?;
        Ok(Self { wanted: dir.to_owned(), temporary, existed, finished: false })
    }

    /// Writes a file.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), SetupError> {
        let path = self.temporary.join(name);
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
        written.map_err(|source| SetupError::Io { verb: "write", path, source })
    }

    /// Writes a secret key into a sub-directory, as hex.
    fn secret(&self, dir: &str, name: &str, secret: [u8; 32]) -> Result<(), SetupError> {
        let path = self.temporary.join(dir);
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(SetupError::Io { verb: "make", path, source: error });
            }
            Ok(()) | Err(_) => {}
        }
        self.write(&format!("{dir}/{name}"), format!("{}\n", hex::encode(secret)).as_bytes())?;
        // Its name too: what is told to be there is moved offline, and nobody can make it again.
        sync(&path).map_err(|source| SetupError::Io { verb: "flush to disk", path, source })
    }

    /// Moves the directory where it belongs.
    fn finish(mut self) -> Result<(), SetupError> {
        let parent = self.wanted.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let moved = if self.existed {
            sync(&self.temporary).and_then(|()| self.move_up()).and_then(|()| sync(&self.wanted))
        } else {
            sync(&self.temporary).and_then(|()| fs::rename(&self.temporary, &self.wanted)).and_then(|()| sync(parent))
        };
        moved.map_err(|source| SetupError::Io { verb: "make", path: self.wanted.clone(), source })?;
        self.finished = true;
        Ok(())
    }
}

impl Place {
    /// Moves everything into the directory that was there, the genesis last: without it no node starts.
    fn move_up(&self) -> std::io::Result<()> {
        fs::set_permissions(&self.wanted, fs::Permissions::from_mode(0o700))?;
        let mut names: Vec<_> =
            fs::read_dir(&self.temporary)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>()?;
        names.sort_by_key(|name| name == GENESIS_FILE);
        for name in names {
            fs::rename(self.temporary.join(&name), self.wanted.join(&name))?;
        }
        fs::remove_dir(&self.temporary)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.finished {
            // What is left over is named after its purpose and holds no key that anybody used.
            drop(fs::remove_dir_all(&self.temporary));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use std::path::Path;

    use mynet_store::keys::KeyFiles;
    use mynet_types::{GenesisFile, Roles};

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

    #[tokio::test]
    async fn a_node_joins_its_own_network_again_with_its_keys_and_no_other() {
        let temp = tempfile::tempdir().unwrap();
        let (a, b) = (temp.path().join("a"), temp.path().join("b"));
        let none = SetupOptions::default();
        let network = found(&a, "songs", false, &none).await.unwrap();
        found(&b, "films", false, &none).await.unwrap();
        let ticket = |dir: &Path| {
            let genesis = GenesisFile::decode(&std::fs::read(dir.join(GENESIS_FILE)).unwrap()).unwrap();
            let keys = KeyFiles::load(dir).unwrap();
            let invite = mynet_types::Invite {
                id: [1; 16],
                inviter: keys.node_id(),
                roles: Roles::STORAGE,
                trusted: false,
                uses: 1,
                expires_at: mynet_types::Timestamp(1),
            };
            let network_id = genesis.genesis.network_id();
            let invite = mynet_types::Signed::new(&network_id, invite, keys.node());
            Ticket { invite, genesis, addrs: mynet_types::BoundedVec::new() }.encode()
        };
        let again = join(&a, &ticket(&a), &none).await.unwrap();
        assert_eq!((again.node_id, again.network_id), (network.node_id, network.network_id));
        assert_eq!(std::fs::read_to_string(a.join(TICKET_FILE)).unwrap(), ticket(&a));
        assert!(matches!(join(&b, &ticket(&a), &none).await, Err(SetupError::OtherNetwork(_))));
        let flags = SetupOptions { zone: Some("z".to_owned()), ..none };
        assert!(matches!(join(&a, &ticket(&a), &flags).await, Err(SetupError::HasSettings(_))));
    }
}
