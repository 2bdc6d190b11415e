//! Commands about groups.

use std::{path::PathBuf, time::Duration};

use clap::{Args, ValueEnum, builder::NonEmptyStringValueParser};
use mynet_types::{Claim, ContentState, ContentType, wire};

use super::{
    Output,
    values::{duration, name, number, one_of, range, tag, whole_name},
};

#[derive(Debug, Args)]
pub(crate) struct Add {
    /// Files to store; `-` is standard input
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The name that readers see [default: the file's, or `stdin`]
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// What they are [default: by name and first bytes]
    #[arg(long = "type", value_parser = one_of::<ContentType>(&["audio", "video", "image", "document"]))]
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
    #[arg(long, value_parser = number(1..=wire::REPLICAS_MAX))]
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
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
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
    #[arg(long, default_value_t = 1000, value_parser = number(1..=u32::MAX))]
    pub(crate) limit: u32,
}

#[derive(Debug, Args)]
pub(crate) struct Key {
    /// A group id or the beginning of one, a content id, or a hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// A group id or the beginning of one, a content id, or a hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// Which state [default: the one that the hash or content id names, else decrypted]
    #[arg(long, value_parser = one_of::<ContentState>(&["encrypted", "decrypted", "preview"]))]
    pub(crate) state: Option<ContentState>,
    /// Bytes A to B, both included: A-B, A- or -N
    #[arg(long, allow_hyphen_values = true, value_parser = range)]
    pub(crate) range: Option<String>,
    /// Where to write, replaced whole; `-` is standard output [default: its own file name, if there is no such file; a part gets
    /// `.bytes-A-B` behind it]
    #[arg(short, long)]
    pub(crate) output: Option<PathBuf>,
    /// With `-o -`: show on a terminal also what is not text
    #[arg(long, requires = "output")]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// A group id or the beginning of one, a content id, or a hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// Copies wanted
    #[arg(long, value_parser = number(1..=wire::REPLICAS_MAX))]
    pub(crate) replicas: Option<u8>,
    /// When it has succeeded [default: replication.mode of the node's settings]
    #[arg(long)]
    pub(crate) mode: Option<PublishMode>,
    /// Print the plan and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long to wait; never bounds the work
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `mynet preview`
#[derive(Debug, Args)]
pub(crate) struct Preview {
    /// A group id or the beginning of one, a content id, or a hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// The new preview
    pub(crate) file: PathBuf,
    /// How long to wait until the new version is durable; never bounds the work
    #[arg(long, default_value = "60s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

/// `mynet propose`
#[derive(Debug, Args)]
pub(crate) struct Propose {
    /// A group id or the beginning of one, a content id, or a hash
    #[arg(value_parser = name)]
    pub(crate) id: String,
    /// What the validators are to sign
    #[arg(long, default_value = "durable")]
    pub(crate) claim: ClaimWanted,
    /// How long to wait for their votes; those that come later count too
    #[arg(long, default_value = "30s", value_parser = duration)]
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
    /// A whole group id, content id or hash
    #[arg(value_parser = whole_name)]
    pub(crate) id: String,
    /// How long to wait for the holders; never bounds the work
    #[arg(long, default_value = "10s", value_parser = duration)]
    pub(crate) timeout: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Find {
    /// A content hash
    #[arg(value_parser = name)]
    pub(crate) hash: String,
}

#[derive(Debug, Args)]
pub(crate) struct Cert {
    /// A group id or the beginning of one, a content id, or a hash
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
    pub(crate) claim: Option<ClaimWanted>,
    /// Accept a network of fewer than three validators
    #[arg(long)]
    pub(crate) allow_small: bool,
}

impl From<ClaimWanted> for Claim {
    fn from(claim: ClaimWanted) -> Self {
        match claim {
            ClaimWanted::Seen => Self::Seen,
            ClaimWanted::Durable => Self::Durable,
            ClaimWanted::Verified => Self::Verified,
        }
    }
}
