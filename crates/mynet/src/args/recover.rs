//! `mynet roster recover`, step by step.

use std::path::PathBuf;

use clap::{Args, Subcommand};

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
