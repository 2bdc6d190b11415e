//! What callers hand in and get back: groups, blobs, words of columns, errors.

use std::{fmt, str::FromStr};

use mynet_types::{
    BlobRef, ContentHash, ContentId, ContentState, Details, GroupId, ManifestHash, SignedManifest, SignedWrap,
    StatesMask, TxId, content::UnknownWord, wire::SealedBytes,
};
use sea_orm::DbErr;

use super::column::Damage;

/// Why the metadata store could not do something. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum MetaError {
    /// The database failed, is full or is locked by another process for too long.
    #[error("metadata database: {0}")]
    Database(#[from] DbErr),
    /// A row is not what was written: the file was damaged or written by a newer program.
    #[error("a row of {table} is damaged: {source}")]
    Damaged {
        /// The table.
        table: &'static str,
        /// What is wrong with the row.
        source: Damage,
    },
    /// A number is larger than a column can hold; such content cannot exist on a real disk.
    #[error("{what} of {value} is too large")]
    OutOfRange {
        /// What the number is.
        what: &'static str,
        /// The number.
        value: u64,
    },
}

/// Why a write was refused. The whole batch left no trace.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A row of this id belongs to another group (or to no group) here; it is never overwritten.
    #[error("content id {content_id} belongs to another group")]
    IdConflict {
        /// The id wanted twice.
        content_id: ContentId,
        /// Who has it; `None` if the same manifest names it twice or the row belongs to no group.
        owner: Option<GroupId>,
    },
    /// Another manifest of this group is here, and of no lower version.
    #[error("group {} is here with manifest {have}", group_id.short())]
    OtherManifest {
        /// The group.
        group_id: GroupId,
        /// The manifest that is here.
        have: ManifestHash,
    },
    /// A state is to be held but its bytes are not in the blob table.
    #[error("no blob {0} to hold")]
    BlobMissing(ContentHash),
    /// The group is not here.
    #[error("group {} is not here", .0.short())]
    UnknownGroup(GroupId),
    /// The owner deleted the group.
    #[error("group {} was deleted by its owner", .0.short())]
    Deleted(GroupId),
    /// The transaction is not here in a phase and attempt that allow this step.
    #[error("transaction {tx} cannot be {step}: it is {found}")]
    WrongPhase {
        /// The transaction.
        tx: TxId,
        /// What was asked.
        step: &'static str,
        /// Phase and attempt found.
        found: String,
    },
    /// The database, or a number or row in it.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<DbErr> for WriteError {
    fn from(error: DbErr) -> Self {
        Self::Meta(error.into())
    }
}

/// A blob and which file of the blob store has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredBlob {
    /// Its hashes and size, both verified by whoever hands it in.
    pub blob: BlobRef,
    /// Names the file together with the hash, so that an unlink can never hit a file that was written since.
    pub generation: u64,
}

/// What a node that may read a sealed group knows more about it.
#[derive(Clone, PartialEq, Eq)]
pub struct Granted {
    /// What users call the content.
    pub details: Details,
    /// The plaintext, which is not stored.
    pub plain: BlobRef,
    /// The content key, wrapped under the node's key encryption key; opaque here.
    pub wrapped_key: Vec<u8>,
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Granted").field("plain", &self.plain).finish_non_exhaustive()
    }
}

/// A group version as it becomes visible on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRows {
    /// The manifest; verified by whoever hands it in.
    pub manifest: SignedManifest,
    /// Its sealed part; empty for public content.
    pub sealed: SealedBytes,
    /// Wraps known.
    pub wraps: Vec<SignedWrap>,
    /// States held here, `decrypted` among them only if the content is public or `granted` is given.
    pub held: StatesMask,
    /// The placement slot, for `network_metadata`.
    pub placement_slot: u16,
    /// Present on nodes that may read.
    pub granted: Option<Granted>,
}

/// A group made on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// Its rows.
    pub rows: GroupRows,
    /// Its blobs, all on disk and fsynced.
    pub blobs: Vec<StoredBlob>,
    /// Copies wanted and when success is reported, if it is to be in the network: it counts as published from this moment,
    /// so a crash before the core heard of it loses nothing.
    pub publish: Option<(u8, Mode)>,
    /// The user who uploaded it, for `user_content`.
    pub user: Option<String>,
}

/// When success of a replication is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// After W receipts.
    Quorum,
    /// After a receipt of every holder.
    All,
}

impl Mode {
    /// The word in the column.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "quorum",
            Self::All => "all",
        }
    }

    /// The mode of a word in the column.
    pub(super) fn parse(word: &str) -> Result<Self, Damage> {
        match word {
            "quorum" => Ok(Self::Quorum),
            "all" => Ok(Self::All),
            other => Err(Damage::Word(other.to_owned())),
        }
    }
}

/// `replication_status` of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplicationStatus {
    /// Not in the network.
    None,
    /// No transaction yet.
    Pending,
    /// Fewer than W receipts.
    Replicating,
    /// At least W, fewer than R.
    Degraded,
    /// At least R.
    Replicated,
    /// Needs a human.
    Failed,
}

impl ReplicationStatus {
    const ALL: [Self; 6] =
        [Self::None, Self::Pending, Self::Replicating, Self::Degraded, Self::Replicated, Self::Failed];

    /// The word used in columns, JSON and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pending => "pending",
            Self::Replicating => "replicating",
            Self::Degraded => "degraded",
            Self::Replicated => "replicated",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for ReplicationStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ReplicationStatus {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|status| status.as_str() == word).ok_or_else(|| UnknownWord {
            what: "replication status",
            word: word.to_owned(),
            expected: "none, pending, replicating, degraded, replicated, failed",
        })
    }
}

/// What keeps a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PinKind {
    /// A visible group.
    Group,
    /// An open transaction.
    Tx,
    /// A cache lease; never counted as a copy.
    Cache,
}

impl PinKind {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Tx => "tx",
            Self::Cache => "cache",
        }
    }
}

/// The state that a word in a column names.
pub(super) fn parse_state(word: &str) -> Result<ContentState, Damage> {
    word.parse().map_err(|_unknown| Damage::Word(word.to_owned()))
}
