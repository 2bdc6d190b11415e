//! The command line, as `--help` shows it.

use std::{path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum};
use mynet_types::{Claim, ContentState, ContentType, NodeId, Roles};

/// Group replication for content nodes: encrypted, decrypted and preview, as one.
#[derive(Debug, Parser)]
#[command(name = "mynet", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that stand anywhere.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// The node's directory [default: the user's data directory + my-network]
    #[arg(long, global = true, env = "MYNET_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The API to speak to [default: that of the running node in the data directory]
    #[arg(long, global = true, env = "MYNET_API", value_name = "URL")]
    pub(crate) api: Option<String>,
    /// The API key to show [default: the admin key in the data directory]
    #[arg(long, global = true, env = "MYNET_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log only warnings and errors
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Colours in logs
    #[arg(long, global = true, default_value = "auto")]
    pub(crate) color: Color,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the whole system on this machine
    #[command(after_help = "Example: mynet demo song.flac --exit")]
    Demo(Demo),
    /// Found a network: create a data directory, keys and a genesis
    #[command(after_help = "Example: mynet init --network songs --zone rack1")]
    Init(Init),
    /// Invite a node to this network
    #[command(after_help = "Example: mynet invite --trusted --expires 1h")]
    Invite(Invite),
    /// Join a network with a ticket
    #[command(after_help = "Example: mynet join mynet1AAAA... --zone rack2")]
    Join(Join),
    /// Write the network's genesis, which `verify` needs
    #[command(after_help = "Example: mynet genesis -o songs.genesis")]
    Genesis(Output),
    /// Run the node in the foreground
    #[command(after_help = "Example: mynet run --data-dir /var/lib/my-network")]
    Run(Run),
    /// Store files, replicate and certify them; each file is a group of its own
    #[command(after_help = "Example: mynet add song.flac --tag rock --wait certified")]
    Add(Add),
    /// List groups on this node, newest first
    #[command(after_help = "Example: mynet ls --limit 20")]
    Ls(Ls),
    /// Show a group
    #[command(
        after_help = "Example: mynet show sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )]
    Show(Key),
    /// Read a state of a group, from this node or through the network
    #[command(after_help = "Example: mynet get ID --state preview -o preview.ogg")]
    Get(Get),
    /// Replicate a group that is stored here
    #[command(after_help = "Example: mynet publish ID --dry-run")]
    Publish(Publish),
    /// Give a group another preview; only on the node where it was uploaded
    #[command(after_help = "Example: mynet preview ID cover.png")]
    Preview(Preview),
    /// Have the validators certify a group that is held here, as more than it is
    #[command(after_help = "Example: mynet propose ID --claim verified --timeout 5m")]
    Propose(Propose),
    /// Delete a group for good, everywhere; only on the node where it was uploaded
    #[command(after_help = "Example: mynet rm ID")]
    Rm(Rm),
    /// Find who holds a hash
    #[command(after_help = "Example: mynet find sha256:...")]
    Find(Find),
    /// Explain why a group is where it is, and what it waits for
    #[command(after_help = "Example: mynet why ID")]
    Why(Key),
    /// Print what this node noted about a group, in the order of time
    #[command(after_help = "Example: mynet history ID --json")]
    History(Key),
    /// Write the certificate of a group
    #[command(after_help = "Example: mynet cert ID -o song.cert")]
    Cert(Cert),
    /// Check a certificate against a genesis; needs no network
    #[command(after_help = "Example: mynet verify song.cert --genesis songs.genesis --content song.encrypted")]
    Verify(Verify),
    /// Free bytes that nothing keeps any more, as the node does by itself every minute
    #[command(after_help = "Example: mynet gc --dry-run")]
    Gc(Care),
    /// Look whether all that this node keeps fits together, and put right what can be
    #[command(after_help = "Example: mynet doctor --dry-run")]
    Doctor(Care),
    /// Show the node and its network
    #[command(after_help = "Example: mynet status --json")]
    Status,
    /// Show other nodes, or one
    #[command(after_help = "Example: mynet peers")]
    Peers(Peers),
    /// Trust a node with decrypted states of this node's groups, old and new
    #[command(after_help = "Example: mynet trust NODE")]
    Trust(Node),
    /// Trust a node no longer; what it could read already it can still read
    #[command(after_help = "Example: mynet untrust NODE")]
    Untrust(Node),
    /// Validators: who sits, who waits, and whom this node's operator wants to sit
    #[command(subcommand, after_help = "Example: mynet roster show")]
    Roster(Roster),
    /// Show validators and owners that signed what contradicts itself
    #[command(after_help = "Example: mynet evidence --json")]
    Evidence,
    /// Show what this node wants certified and is not decided yet
    #[command(after_help = "Example: mynet proposals")]
    Proposals,
    /// API keys
    #[command(subcommand, after_help = "Example: mynet token create --name bot --scope write")]
    Token(Token),
    /// Makes a preview in a limited process; started by the node itself
    #[command(hide = true)]
    PreviewWorker(PreviewWorker),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// What to upload [default: a song made here]
    pub(crate) file: Option<PathBuf>,
    /// How many nodes
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(4..=8))]
    pub(crate) nodes: u8,
    /// Where the nodes live [default: a temporary directory, removed at the end]
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
    /// End when the story is told: status 0 if everything held
    #[arg(long)]
    pub(crate) exit: bool,
}

/// What `init` and `join` write into `config.toml`.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    /// Where the node stands, widest first
    #[arg(long)]
    pub(crate) region: Option<String>,
    /// What it shares its fate with: a machine, a rack, a house [default: the node itself]
    #[arg(long)]
    pub(crate) zone: Option<String>,
    /// What it does: storage, index, validator, or edge alone
    #[arg(long, value_parser = Roles::parse)]
    pub(crate) role: Option<Roles>,
    /// Bytes that content may take, such as 100GiB
    #[arg(long)]
    pub(crate) capacity: Option<ByteSize>,
    /// Address of the HTTP API
    #[arg(long)]
    pub(crate) api_listen: Option<std::net::SocketAddr>,
    /// UDP address for peers
    #[arg(long)]
    pub(crate) p2p_listen: Option<std::net::SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The network's name, for people
    #[arg(long, default_value = "my-network")]
    pub(crate) network: String,
    /// Let one or two validators certify; verifiers must allow that class
    #[arg(long)]
    pub(crate) allow_degraded_quorum: bool,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

#[derive(Debug, Args)]
pub(crate) struct Invite {
    /// Roles that the newcomer may take
    #[arg(long, default_value = "storage,index,validator", value_parser = Roles::parse)]
    pub(crate) role: Roles,
    /// Grant it decrypted states
    #[arg(long)]
    pub(crate) trusted: bool,
    /// How long the ticket is good
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub(crate) expires: Duration,
    /// How often it may be redeemed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) uses: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Join {
    /// The ticket that `invite` printed
    pub(crate) ticket: String,
    #[command(flatten)]
    pub(crate) setup: Setup,
}

#[derive(Debug, Args)]
pub(crate) struct Output {
    /// Where to write; `-` is standard output
    #[arg(short, long, default_value = "-")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Write {node_id, api, p2p, pid} to this file, by rename, once the node serves
    #[arg(long)]
    pub(crate) ready_file: Option<PathBuf>,
    /// Stop as by SIGTERM when this process, which started the node, ends in whatever way (Linux)
    #[arg(long, value_name = "PID", hide = true)]
    pub(crate) parent: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Files to store
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// What they are [default: by name and first bytes]
    #[arg(long = "type")]
    pub(crate) content_type: Option<ContentType>,
    /// Not encrypted, readable by everybody
    #[arg(long)]
    pub(crate) public: bool,
    /// auto, none, or a file that is the preview
    #[arg(long, default_value = "auto")]
    pub(crate) preview: String,
    /// A tag; may be repeated
    #[arg(long = "tag", value_parser = tag)]
    pub(crate) tags: Vec<String>,
    /// Copies wanted [default: the node's setting]
    #[arg(long)]
    pub(crate) replicas: Option<u8>,
    /// Who may read them: trusted, none, or node ids; may be repeated
    #[arg(long)]
    pub(crate) grant: Vec<String>,
    /// Only store them
    #[arg(long)]
    pub(crate) no_publish: bool,
    /// How far to wait
    #[arg(long)]
    pub(crate) wait: Option<WaitFor>,
    /// How long to wait; never bounds the work
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// Commands about validators.
#[derive(Debug, Subcommand)]
pub(crate) enum Roster {
    /// Show the newest roster and who waits for a seat
    #[command(after_help = "Example: mynet roster show")]
    Show,
    /// Want a node to have a seat; it has one once a quorum of the validators' operators wants it
    #[command(after_help = "Example: mynet roster approve NODE")]
    Approve(Node),
    /// Replace the validators by two of the three offline keys, when too many of them are lost
    #[command(subcommand, after_help = "Example: mynet roster recover offer -o a.offer")]
    Recover(Recover),
}

/// The steps of a recovery, in their order.
#[derive(Debug, Subcommand)]
pub(crate) enum Recover {
    /// On each node that shall sit: write what a recovered roster needs of it, and close the epoch there
    #[command(after_help = "Example: mynet roster recover offer -o a.offer")]
    Offer(RecoverTo),
    /// Make a proposal of the offers; needs no node
    #[command(after_help = "Example: mynet roster recover propose a.offer b.offer c.offer -o recovery")]
    Propose(RecoverPropose),
    /// Show what a proposal would do and who signed it; needs no node
    #[command(after_help = "Example: mynet roster recover show recovery")]
    Show(RecoverShow),
    /// Sign a proposal with one of the offline keys; needs no node
    #[command(after_help = "Example: mynet roster recover sign recovery --key /media/safe/1.key -o recovery.1")]
    Sign(RecoverSign),
    /// Put signatures from several machines together; needs no node
    #[command(after_help = "Example: mynet roster recover combine recovery.1 recovery.3 -o recovery.signed")]
    Combine(RecoverCombine),
    /// Hand a proposal with two signatures to a node that sits in it
    #[command(after_help = "Example: mynet roster recover submit recovery.signed --dry-run")]
    Submit(RecoverSubmit),
}

#[derive(Debug, Args)]
pub(crate) struct RecoverTo {
    /// Where to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverPropose {
    /// Offers of all nodes that shall sit
    #[arg(required = true)]
    pub(crate) offers: Vec<PathBuf>,
    /// Certificates of later versions that the offers may not know
    #[arg(long = "certificate", value_name = "FILE")]
    pub(crate) certificates: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) to: RecoverTo,
    /// Only show what it would be
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverShow {
    /// The proposal, signed or not
    pub(crate) file: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverSign {
    /// The proposal
    pub(crate) file: PathBuf,
    /// One of the key files that `init` made
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
    #[command(flatten)]
    pub(crate) to: RecoverTo,
    /// Only show what would be signed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverCombine {
    /// The same proposal, signed by different keys
    #[arg(required = true, num_args = 2..)]
    pub(crate) files: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) to: RecoverTo,
}

#[derive(Debug, Args)]
pub(crate) struct RecoverSubmit {
    /// The proposal with two signatures
    pub(crate) file: PathBuf,
    /// Only have the node check it
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// How far to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitFor {
    /// On this node's disk
    Stored,
    /// Held by W nodes
    Durable,
    /// Durable, and certified by the validators
    Certified,
}

impl WaitFor {
    /// The word in queries.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Durable => "durable",
            Self::Certified => "certified",
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    /// Groups at most
    #[arg(long, default_value_t = 1000)]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// Which state [default: the one that the hash or content id names, else decrypted]
    #[arg(long)]
    pub(crate) state: Option<ContentState>,
    /// Bytes A to B, both included: A-B, A- or -N
    #[arg(long, allow_hyphen_values = true, value_parser = range)]
    pub(crate) range: Option<String>,
    /// Where to write, replaced whole; `-` is standard output [default: its own file name, if there is no such file]
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// Copies wanted
    #[arg(long)]
    pub(crate) replicas: Option<u8>,
    /// When it has succeeded [default: replication.mode of the node's settings]
    #[arg(long)]
    pub(crate) mode: Option<PublishMode>,
    /// Print the plan and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long to wait; never bounds the work
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// `mynet preview`
#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// The new preview
    pub(crate) file: PathBuf,
    /// How long to wait until the new version is durable; never bounds the work
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// `mynet propose`
#[derive(Debug, Args)]
pub(crate) struct Propose {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// What the validators are to sign
    #[arg(long, default_value = "durable")]
    pub(crate) claim: ClaimWanted,
    /// How long to wait for their votes; those that come later count too
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// What a certificate is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClaimWanted {
    /// Form, links and the owner's signature are right
    Seen,
    /// Seen, and enough nodes signed that they hold it
    Durable,
    /// Durable, and each validator has hashed the bytes itself
    Verified,
}

/// When a publication has succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum PublishMode {
    /// W receipts
    Quorum,
    /// Every wanted copy
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Rm {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// How long to wait for the holders; never bounds the work
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Care {
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// A content hash
    #[arg(value_parser = name)]
    pub(crate) hash: String,
}

#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// A group id, content id or hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    #[command(flatten)]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The certificate that `cert` wrote
    pub(crate) certificate: PathBuf,
    /// The genesis that `genesis` wrote
    #[arg(long)]
    pub(crate) genesis: PathBuf,
    /// Bytes that it must name: the encrypted state, the preview, or public content
    #[arg(long)]
    pub(crate) content: Option<PathBuf>,
    /// What it must claim at least
    #[arg(long)]
    pub(crate) claim: Option<ClaimArg>,
    /// Accept a network of fewer than three validators
    #[arg(long)]
    pub(crate) allow_small: bool,
}

/// What a certificate says about a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClaimArg {
    /// Manifest, links and owner are in order
    Seen,
    /// And enough nodes held it
    Durable,
    /// The validators hashed it themselves
    Verified,
}

impl From<ClaimArg> for Claim {
    fn from(claim: ClaimArg) -> Self {
        match claim {
            ClaimArg::Seen => Self::Seen,
            ClaimArg::Durable => Self::Durable,
            ClaimArg::Verified => Self::Verified,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// One node
    pub(crate) node: Option<NodeId>,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node
    pub(crate) node: NodeId,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make an API key; it is shown once
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, default_value = "read")]
        scope: ScopeArg,
        /// How long it is good [default: for ever]
        #[arg(long, value_parser = humantime::parse_duration)]
        expires: Option<Duration>,
    },
    /// List API keys
    Ls,
    /// Revoke an API key
    Revoke {
        /// Its id
        #[arg(value_parser = name)]
        id: String,
    },
}

/// What an API key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeArg {
    /// Read content and status
    Read,
    /// And upload
    Write,
    /// And govern the node
    Admin,
}

#[derive(Debug, Args)]
pub(crate) struct PreviewWorker {
    /// Of what
    #[arg(long)]
    pub(crate) kind: mynet_node::preview::PreviewKind,
    /// Where the preview goes
    #[arg(long)]
    pub(crate) output: PathBuf,
    /// Its length at most
    #[arg(long)]
    pub(crate) seconds: u32,
    /// Pixels on a side at most
    #[arg(long)]
    pub(crate) pixels: u32,
}

/// Something that may stand in a path of the API: with a slash in it, a request would go elsewhere than meant.
fn name(text: &str) -> Result<String, &'static str> {
    match text {
        "" => Err("it is empty"),
        _ if text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_')) => Ok(text.to_owned()),
        _ => Err("ids and hashes are made of letters, digits, ':' and '-'"),
    }
}

/// One tag. On the wire commas separate tags, so one with a comma would become two without a word.
fn tag(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("a tag is not empty"),
        tag if tag.contains(',') => Err("a tag has no comma; for several say --tag once for each"),
        tag => Ok(tag.to_owned()),
    }
}

/// One range of bytes. A server ignores what it cannot read, so a mistyped range would fetch the whole.
fn range(text: &str) -> Result<String, &'static str> {
    const FORM: &str = "give A-B with A <= B, A- or -N";
    let number = |text: &str| match text {
        "" => Ok(None),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse::<u64>().map(Some).map_err(|_huge| FORM),
        _ => Err(FORM),
    };
    let (from, to) = text.split_once('-').ok_or(FORM)?;
    match (number(from)?, number(to)?) {
        (None, None) => Err(FORM),
        (Some(from), Some(to)) if from > to => Err(FORM),
        _ => Ok(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Arguments, name, range, tag};

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_would_change_the_path_of_a_request_is_no_name() {
        for good in ["sha256:00ff", "00000000-0000-0000-0000-000000000000", "not-an-id"] {
            assert!(name(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "a/b", "a b", "a?b", "a#b", "a%2fb", "..", "\u{e4}"] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tag_is_one_tag() {
        assert_eq!(tag(" slow rock "), Ok("slow rock".to_owned()));
        for bad in ["", " ", "a,b", "a,"] {
            assert!(tag(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_have_one_of_three_forms() {
        for good in ["0-0", "5-10", "7-", "-3"] {
            assert!(range(good).is_ok(), "{good}");
        }
        for bad in ["", "-", "5", "5-2", "a-b", "0-1,3-4", "+1-2", "--1", "1-99999999999999999999"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }
}
