//! The command line, as `--help` shows it.

mod content;
mod recover;
mod values;

use std::{ffi::OsString, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, builder::NonEmptyStringValueParser,
    parser::ValueSource,
};
use mynet_types::{NodeId, Roles};

pub(crate) use self::values::is_beginning;
use self::values::{address, duration, name, node, number, size, whole_node};
pub(crate) use self::{
    content::{
        Add, Cert, ClaimWanted, Find, Get, Key, Ls, Preview, Propose, Publish, PublishMode, Rm, Verify, WaitFor,
    },
    recover::{Recover, RecoverCombine, RecoverPropose, RecoverSign, RecoverSubmit, RecoverTo},
};

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
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// The node's directory [default: the user's data directory + my-network]
    #[arg(long, global = true, env = "MYNET_DATA_DIR", value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The API to speak to [default: that of the running node in the data directory]
    #[arg(long, global = true, env = "MYNET_API", value_name = "URL", value_parser = NonEmptyStringValueParser::new())]
    pub(crate) api: Option<String>,
    /// The API key to show [default: the admin key in the data directory]
    #[arg(
        long,
        global = true,
        env = "MYNET_TOKEN",
        hide_env_values = true,
        value_parser = NonEmptyStringValueParser::new()
    )]
    pub(crate) token: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Log only warnings and errors, and show no progress
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Colours; `auto` means on a terminal, unless NO_COLOR is set
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: Color,
    /// Where the three that may come from the environment came from.
    #[arg(skip)]
    pub(crate) origins: Origins,
}

/// Whether a flag or the environment gave a value; neither, if there is none.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Origins {
    pub(crate) data_dir: Option<ValueSource>,
    pub(crate) api: Option<ValueSource>,
    pub(crate) token: Option<ValueSource>,
}

impl Arguments {
    /// Reads a command line.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(line)?;
        let mut arguments = Self::from_arg_matches(&matches)?;
        let origin = |id| matches.value_source(id);
        arguments.global.origins = Origins { data_dir: origin("data_dir"), api: origin("api"), token: origin("token") };
        Ok(arguments)
    }
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
    /// Settings: what applies, and where each value comes from
    #[command(subcommand, after_help = "Example: mynet config show --json")]
    Config(Config),
    /// Print the script with which a shell completes commands, flags and values
    #[command(after_help = "Example: mynet completions bash > ~/.local/share/bash-completion/completions/mynet")]
    Completions(Completions),
    /// Print the manual page, or write one page for each command
    #[command(after_help = "Example: mynet man --dir ~/.local/share/man/man1")]
    Man(Man),
    /// Makes a preview in a limited process; started by the node itself
    #[command(hide = true)]
    PreviewWorker(PreviewWorker),
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// What to upload [default: a song made here]
    pub(crate) file: Option<PathBuf>,
    /// How many nodes
    #[arg(long, default_value_t = 4, value_parser = number(4..=8_u8))]
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
    #[arg(long, value_parser = size)]
    pub(crate) capacity: Option<ByteSize>,
    /// Address of the HTTP API
    #[arg(long, value_parser = address)]
    pub(crate) api_listen: Option<std::net::SocketAddr>,
    /// UDP address for peers
    #[arg(long, value_parser = address)]
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
    #[arg(long, default_value = "24h", value_parser = duration)]
    pub(crate) expires: Duration,
    /// How often it may be redeemed
    #[arg(long, default_value_t = 1, value_parser = number(1..=u32::MAX))]
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

#[derive(Debug, Args)]
pub(crate) struct Care {
    /// Say what would be done and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// One node: its id, or the beginning of it
    #[arg(value_parser = node)]
    pub(crate) node: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Node {
    /// The node: its whole id
    #[arg(value_parser = whole_node)]
    pub(crate) node: NodeId,
}

/// Commands about settings.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum Config {
    /// Show every setting with its value and where that comes from; keys and tokens are never printed
    #[command(after_help = "Example: MYNET_REPLICATION__REPLICAS=4 mynet config show")]
    Show,
}

#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// For which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
pub(crate) struct Man {
    /// Write one page for each command here instead, as `mynet-COMMAND.1`
    #[arg(long)]
    pub(crate) dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make an API key; it is shown once
    #[command(after_help = "Example: mynet token create --name bot --scope write --expires 30d")]
    Create {
        /// What it is called
        #[arg(long)]
        name: String,
        /// What it may do
        #[arg(long, default_value = "read")]
        scope: ScopeArg,
        /// How long it is good [default: for ever]
        #[arg(long, value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List API keys
    #[command(after_help = "Example: mynet token ls")]
    Ls,
    /// Revoke an API key
    #[command(after_help = "Example: mynet token revoke ID")]
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

#[cfg(test)]
mod tests {
    use clap::{Command, CommandFactory, error::ErrorKind};

    use super::Arguments;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    /// Calls `look` with every command that people see.
    fn each(command: &Command, look: &mut impl FnMut(&Command)) {
        look(command);
        for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
            each(below, look);
        }
    }

    #[test]
    fn every_command_has_an_example_that_can_be_typed() {
        let mut seen = 0;
        let mut command = Arguments::command();
        command.build();
        for below in command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help") {
            each(below, &mut |command| {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let example =
                    help.strip_prefix("Example: ").unwrap_or_else(|| panic!("{} has none", command.get_name()));
                let words = example.split(" > ").next().unwrap_or_default().split_whitespace();
                // Variables stand in front, as in a shell.
                let words = words.skip_while(|word| *word != "mynet");
                let node = "0".repeat(64);
                let words = words.map(|word| match word {
                    "NODE" => node.clone().into(),
                    word => word.replace("...", "00").into(),
                });
                let read = Arguments::read(words);
                assert!(read.is_ok(), "{example}: {}", read.unwrap_err());
                seen += 1;
            });
        }
        assert!(seen > 40, "{seen} commands were looked at");
    }

    #[test]
    fn mistyped_words_have_their_nearest_named() {
        for (line, kind, near) in [
            ("mynet pers", ErrorKind::InvalidSubcommand, "'peers'"),
            ("mynet roster aprove", ErrorKind::InvalidSubcommand, "'approve'"),
            ("mynet ls --limt 3", ErrorKind::UnknownArgument, "'--limit'"),
            ("mynet add x --wait durble", ErrorKind::InvalidValue, "'durable'"),
            ("mynet add x --type vidoe", ErrorKind::InvalidValue, "'video'"),
            ("mynet get x --state preveiw", ErrorKind::InvalidValue, "'preview'"),
            ("mynet completions bsh", ErrorKind::InvalidValue, "'bash'"),
        ] {
            let error = Arguments::read(line.split(' ').map(Into::into)).unwrap_err();
            assert_eq!(error.kind(), kind, "{line}");
            assert!(error.to_string().contains(near), "{line}: {error}");
        }
    }
}
