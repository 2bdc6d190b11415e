//! Settings: defaults, then `config.toml`, then `MYNET_SECTION__KEY`, then flags.
//!
//! Every key has a default, and every unknown key is an error that names the nearest known one. The default
//! configuration itself is the list of known keys, so the two cannot drift apart.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytesize::ByteSize;
use figment::{
    Figment, Source,
    error::{Actual, Kind},
    providers::{Env, Format, Serialized, Toml},
};
use mynet_types::{Roles, records::ParseRolesError, wire};
use serde::{Deserialize, Serialize};
use toml::de::{DeTable, DeValue};

/// Starts the variables of the environment that are settings, if they have `__` in them.
const ENVIRONMENT_PREFIX: &str = "MYNET_";

/// All settings of a node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// What the node is.
    pub node: NodeSection,
    /// The network.
    pub network: NetworkSection,
    /// Peer-to-peer.
    pub p2p: P2pSection,
    /// HTTP.
    pub api: ApiSection,
    /// Where bytes go.
    pub storage: StorageSection,
    /// Group replication.
    pub replication: ReplicationSection,
    /// Votes.
    pub consensus: ConsensusSection,
    /// Previews.
    pub preview: PreviewSection,
    /// Bounds.
    pub limits: LimitsSection,
}

/// `[node]`: what a newcomer tells when it is admitted; later changes need a new admission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeSection {
    /// Where it stands, widest first. At most 32 bytes.
    pub region: String,
    /// What it shares its fate with: a machine, a rack, a house. At most 64 bytes; empty means the node itself.
    pub zone: String,
    /// Among `storage`, `index`, `validator`; or `edge` alone.
    pub roles: Vec<String>,
}

/// `[network]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkSection {
    /// Nodes to show the own admission to at the start, beside all that are known: `node_id@ip:port`.
    pub bootstrap: Vec<String>,
}

/// `[p2p]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct P2pSection {
    /// UDP address for peers.
    pub listen: SocketAddr,
    /// Addresses to tell peers instead of the listening one, such as `203.0.113.7:4520`.
    pub advertise: Vec<SocketAddr>,
}

/// `[api]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiSection {
    /// Address of the HTTP API.
    pub listen: SocketAddr,
}

/// `[storage]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StorageSection {
    /// Bytes that content may take in all.
    pub capacity: ByteSize,
    /// How long a blob that nothing keeps any more stays. Whoever is about to pin a blob that it just saw must still find it;
    /// shorter than a transaction's longest step would lose that race, longer keeps garbage.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
}

/// `[replication]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ReplicationSection {
    /// R: copies of a group.
    pub replicas: u8,
    /// W: receipts that make a group durable.
    pub quorum: u8,
    /// A group with fewer receipts is at risk.
    pub min_replicas: u8,
    /// When an upload or a publication has succeeded, unless it says so itself.
    pub mode: SuccessMode,
    /// How long a target may take to answer a prepare.
    #[serde(with = "humantime_serde")]
    pub prepare_timeout: Duration,
    /// How long a prepared target keeps its reservation without a decision.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long a receiving target keeps its reservation without news.
    #[serde(with = "humantime_serde")]
    pub receiving_lease: Duration,
}

/// When a publication has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SuccessMode {
    /// W nodes hold it.
    Quorum,
    /// Every wanted copy is there.
    All,
}

/// `[consensus]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsensusSection {
    /// How long a proposer waits before it says undecided; votes are collected longer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

/// `[preview]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PreviewSection {
    /// Longest audio preview, in seconds; it is also at most a third of the original.
    pub audio_seconds: u32,
    /// Most pixels on a side of a preview of an image; it is also at most a third of the original's.
    pub image_pixels: u32,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsSection {
    /// Connections to peers at most.
    pub connections: usize,
    /// Largest upload.
    pub upload: ByteSize,
}

impl Default for NodeSection {
    fn default() -> Self {
        Self {
            region: "default".to_owned(),
            zone: String::new(),
            roles: ["storage", "index", "validator"].map(str::to_owned).to_vec(),
        }
    }
}

impl Default for P2pSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([0, 0, 0, 0], 4520)), advertise: Vec::new() }
    }
}

impl Default for ApiSection {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8420)) }
    }
}

impl Default for StorageSection {
    fn default() -> Self {
        Self { capacity: ByteSize::gib(100), grace: Duration::from_secs(600) }
    }
}

impl Default for ReplicationSection {
    fn default() -> Self {
        Self {
            replicas: 3,
            quorum: 2,
            min_replicas: 2,
            mode: SuccessMode::Quorum,
            prepare_timeout: Duration::from_secs(5),
            lease: Duration::from_secs(600),
            receiving_lease: Duration::from_secs(120),
        }
    }
}

impl Default for ConsensusSection {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30) }
    }
}

impl Default for PreviewSection {
    fn default() -> Self {
        Self { audio_seconds: 30, image_pixels: 512 }
    }
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self { connections: 4096, upload: ByteSize::gib(64) }
    }
}

/// Why settings cannot be used. Nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A key does not exist.
    #[error("unknown setting '{key}'{place}; did you mean '{nearest}'?")]
    UnknownKey {
        /// The key given, with its section.
        key: String,
        /// Where it was given.
        origin: Origin,
        /// The same for people, with the line.
        place: String,
        /// The known key that is most like it.
        nearest: String,
    },
    /// A value has the wrong form.
    #[error("{told}")]
    Value {
        /// Which, where, and what is wrong with it.
        told: String,
        /// The same from the library.
        source: Box<figment::Error>,
    },
    /// Something else stands in the place of the file of settings.
    #[error("{} is not a file", .0.display())]
    NotAFile(PathBuf),
    /// Values contradict each other.
    #[error("settings contradict each other: {0}")]
    Contradiction(String),
    /// Roles that make no sense.
    #[error("node.roles{place}: {source}")]
    Roles {
        /// Where they were given, with the line.
        place: String,
        /// Why they make none.
        source: ParseRolesError,
    },
}

impl From<figment::Error> for ConfigError {
    fn from(source: figment::Error) -> Self {
        // Said now, from the file as it was read.
        Self::Value { told: told(&source), source: Box::new(source) }
    }
}

/// One setting as it applies.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The key, with its section.
    pub key: String,
    /// The value, as it was given.
    pub value: toml::Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where a setting comes from; each of them wins over those before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "name", rename_all = "lowercase")]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// This file.
    File(PathBuf),
    /// This variable of the environment.
    Environment(String),
    /// The command line.
    Flag,
}

impl Origin {
    /// Where the value of `key` was given, as a part of a sentence; nothing if nobody gave it.
    fn place(&self, key: &str) -> String {
        match self {
            Self::File(path) => in_file(path, key),
            Self::Environment(name) => format!(" in {name}"),
            Self::Flag => " on the command line".to_owned(),
            Self::Default => String::new(),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag => f.write_str("flag"),
        }
    }
}

impl Config {
    /// Reads the settings that apply to `data_dir`, with `flags` (an object of sections) over all others.
    ///
    /// # Errors
    /// [`ConfigError`]; the message names the key, the reason and the nearest known key.
    pub fn load(data_dir: &Path, flags: &toml::Table) -> Result<Self, ConfigError> {
        Self::of(&Layers::new(data_dir, flags))
    }

    /// The same settings one by one, each with its origin, in the order of their keys.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn settings(data_dir: &Path, flags: &toml::Table) -> Result<Vec<Setting>, ConfigError> {
        let layers = Layers::new(data_dir, flags);
        Self::of(&layers)?;
        // As they were given: what they are read into rounds sizes when it is written.
        let given: toml::Table = layers.all().extract()?;
        let mut settings = Vec::new();
        for (section, values) in given {
            let values = values.as_table().cloned().unwrap_or_default();
            settings.extend(values.into_iter().map(|(key, value)| {
                let key = format!("{section}.{key}");
                Setting { origin: layers.origin(&key), key, value }
            }));
        }
        Ok(settings)
    }

    fn of(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        if layers.path.exists() && !layers.path.is_file() {
            return Err(ConfigError::NotAFile(layers.path.clone()));
        }
        let all = layers.all();
        let given: toml::Table = all.extract()?;
        refuse_unknown(&given, layers)?;
        let config: Self = all.extract()?;
        config.check(|key| layers.origin(key).place(key))?;
        Ok(config)
    }

    /// These settings with all of `new` that a running node can take over, and the keys of what it cannot.
    ///
    /// Every section is taken apart by name, so that a new key must be put on one side or the other.
    pub(crate) fn reloaded(&self, new: Self) -> (Self, Vec<&'static str>) {
        let mut fixed = Fixed::default();
        let Self { node, network, p2p, api, storage, replication, consensus, preview, limits } = new;
        let NodeSection { region, zone, roles } = node;
        let P2pSection { listen, advertise } = p2p;
        let ApiSection { listen: api_listen } = api;
        let ReplicationSection { replicas, quorum, min_replicas, mode, prepare_timeout, lease, receiving_lease } =
            replication;
        let ConsensusSection { timeout } = consensus;
        let LimitsSection { connections, upload } = limits;
        let old = &self.replication;
        let config = Self {
            node: NodeSection {
                region: fixed.keep("node.region", &self.node.region, &region),
                zone: fixed.keep("node.zone", &self.node.zone, &zone),
                roles: fixed.keep("node.roles", &self.node.roles, &roles),
            },
            network,
            p2p: P2pSection { listen: fixed.keep("p2p.listen", &self.p2p.listen, &listen), advertise },
            api: ApiSection { listen: fixed.keep("api.listen", &self.api.listen, &api_listen) },
            storage,
            replication: ReplicationSection {
                replicas,
                quorum,
                min_replicas,
                mode,
                prepare_timeout: fixed.keep("replication.prepare_timeout", &old.prepare_timeout, &prepare_timeout),
                lease: fixed.keep("replication.lease", &old.lease, &lease),
                receiving_lease: fixed.keep("replication.receiving_lease", &old.receiving_lease, &receiving_lease),
            },
            consensus: ConsensusSection { timeout: fixed.keep("consensus.timeout", &self.consensus.timeout, &timeout) },
            preview,
            limits: LimitsSection {
                connections: fixed.keep("limits.connections", &self.limits.connections, &connections),
                upload,
            },
        };
        (config, fixed.0)
    }

    /// Checks what the type of no single value shows; `place` says where a key has its value from.
    fn check(&self, place: impl Fn(&str) -> String) -> Result<(), ConfigError> {
        let replication = &self.replication;
        let most = wire::REPLICAS_MAX;
        if !(1..=most).contains(&replication.replicas) {
            let (replicas, place) = (replication.replicas, place("replication.replicas"));
            return Err(ConfigError::Contradiction(format!(
                "replication.replicas is {replicas}{place} but must lie between 1 and {most}, the most copies that are made"
            )));
        }
        if replication.quorum == 0 || replication.quorum > replication.replicas {
            return Err(ConfigError::Contradiction(format!(
                "replication.quorum is {}{} but must lie between 1 and replication.replicas, {}{}",
                replication.quorum,
                place("replication.quorum"),
                replication.replicas,
                place("replication.replicas")
            )));
        }
        if replication.min_replicas > replication.replicas {
            return Err(ConfigError::Contradiction(format!(
                "replication.min_replicas is {}{} but at most replication.replicas, {}{}, copies are made",
                replication.min_replicas,
                place("replication.min_replicas"),
                replication.replicas,
                place("replication.replicas")
            )));
        }
        // An admission with such roles would be refused by everybody, much later and far from here.
        match Roles::parse(&self.node.roles.join(",")) {
            Ok(_) => Ok(()),
            Err(source) => Err(ConfigError::Roles { place: place("node.roles"), source }),
        }
    }
}

/// Keys that changed and cannot while the node runs.
#[derive(Default)]
struct Fixed(Vec<&'static str>);

impl Fixed {
    /// The old value; a new one is noted.
    fn keep<T: Clone + PartialEq>(&mut self, key: &'static str, old: &T, new: &T) -> T {
        if old != new {
            self.0.push(key);
        }
        old.clone()
    }
}

/// What settings are given in, besides their defaults.
struct Layers<'a> {
    /// That of the data directory and of no directory above it.
    path: PathBuf,
    file: Figment,
    environment: Figment,
    flags: &'a toml::Table,
}

impl<'a> Layers<'a> {
    fn new(data_dir: &Path, flags: &'a toml::Table) -> Self {
        let path = data_dir.join("config.toml");
        let file = Figment::from(Toml::file(&path).search(false));
        let environment = Env::prefixed(ENVIRONMENT_PREFIX).filter(|name| name.as_str().contains("__")).split("__");
        Self { path, file, environment: Figment::from(environment), flags }
    }

    /// All of them, the weakest first.
    fn all(&self) -> Figment {
        Figment::from(Serialized::defaults(Config::default()))
            .merge(&self.file)
            .merge(&self.environment)
            .merge(Serialized::defaults(self.flags))
    }

    /// The layer that `key` has its value from. Each is asked: merged, a list counts as given where it was given first.
    fn origin(&self, key: &str) -> Origin {
        if keys(self.flags).iter().any(|flag| flag == key) {
            Origin::Flag
        } else if self.environment.find_value(key).is_ok() {
            Origin::Environment(variable(key))
        } else if self.file.find_value(key).is_ok() {
            Origin::File(self.path.clone())
        } else {
            Origin::Default
        }
    }
}

/// What is wrong with a value on one line, with the place that it came from.
fn told(error: &figment::Error) -> String {
    let said = in_plain_words(&error.kind);
    // The parser of TOML draws the line and a mark under it between its two sentences.
    let drawn = |line: &&str| !line.contains('|') && !line.trim().is_empty();
    let said = said.lines().filter(drawn).map(str::trim).collect::<Vec<_>>().join(": ");
    let key = error.path.join(".").to_lowercase();
    let place = match error.metadata.as_ref().map(|layer| &layer.source) {
        Some(Some(Source::File(path))) => in_file(path, &key),
        Some(None) if !key.is_empty() => format!(" in {}", variable(&key)),
        _ => String::new(),
    };
    let key = if key.is_empty() { key } else { format!("{key}: ") };
    format!("{key}{said}{place}")
}

/// The same without the types of a programming language.
fn in_plain_words(kind: &Kind) -> String {
    let (found, wanted) = match kind {
        Kind::InvalidType(found, wanted) | Kind::InvalidValue(found, wanted) => (found, wanted),
        Kind::Message(said) if said == "invalid socket address syntax" => {
            return "it is not an address such as 127.0.0.1:8420 or [::1]:8420".to_owned();
        }
        other => return other.to_string(),
    };
    let found = match found {
        Actual::Str(text) => format!("'{text}'"),
        Actual::Signed(number) => number.to_string(),
        Actual::Unsigned(number) => number.to_string(),
        other => other.to_string(),
    };
    let wanted = match wanted.as_str() {
        // Numbers of copies and receipts.
        "u8" => return format!("{found} is not a whole number up to {}", wire::REPLICAS_MAX),
        "u16" | "u32" | "u64" | "usize" => "a positive whole number",
        "a duration" => "a duration such as 90s, 24h or 7d",
        "parsable string" => "a size such as 500MB or 100GiB",
        "a sequence" => "a list",
        other => other,
    };
    format!("{found} is not {wanted}")
}

/// A file, and the line of it that gives `key` if that can be found.
fn in_file(path: &Path, key: &str) -> String {
    let line = fs::read_to_string(path).ok().and_then(|text| line_of(&text, key));
    let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
    format!(" in {}{line}", path.display())
}

/// The line of a file of settings that gives `key`, counted from 1.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let (mut table, mut offset) = (root.get_ref(), None);
    for word in key.split('.') {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref() == word)?;
        offset = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(below) => table = below,
            // A key goes no deeper than its value; a whole array is one.
            _ => break,
        }
    }
    let before = text.get(..offset?)?;
    Some(before.matches('\n').count() + 1)
}

/// The variable of the environment that sets `key`.
fn variable(key: &str) -> String {
    format!("{ENVIRONMENT_PREFIX}{}", key.replace('.', "__").to_uppercase())
}

/// Every `section.key` of `table`.
fn keys(table: &toml::Table) -> Vec<String> {
    let mut keys = Vec::new();
    for (section, value) in table {
        match value {
            toml::Value::Table(inner) => keys.extend(inner.keys().map(|key| format!("{section}.{key}"))),
            toml::Value::String(_)
            | toml::Value::Integer(_)
            | toml::Value::Float(_)
            | toml::Value::Boolean(_)
            | toml::Value::Datetime(_)
            | toml::Value::Array(_) => keys.push(section.clone()),
        }
    }
    keys
}

/// Compares every key given with those of the default configuration.
fn refuse_unknown(given: &toml::Table, layers: &Layers<'_>) -> Result<(), ConfigError> {
    let defaults = toml::Table::try_from(Config::default()).expect("the default configuration is plain data");
    let known = keys(&defaults);
    for key in keys(given) {
        if !known.contains(&key) {
            let nearest =
                known.iter().max_by(|a, b| strsim::jaro_winkler(a, &key).total_cmp(&strsim::jaro_winkler(b, &key)));
            let (origin, nearest) = (layers.origin(&key), nearest.cloned().unwrap_or_default());
            return Err(ConfigError::UnknownKey { place: origin.place(&key), key, origin, nearest });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
