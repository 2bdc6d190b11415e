//! The vote store: what a validator signed, with which keys, and the roster chain.
//!
//! A vote is on disk before it leaves the node, or the node could sign two values after a crash. The store guards that
//! promise itself: it refuses a second accept of a slot and a second verdict of a value, whatever the core asks for.
//!
//! ```text
//! open: exclusive lock -> boot counter + 1 (votes.db, then votes.boot) -> may this store vote?
//! run:  VoteWrite.. -> batch -> one transaction -> fsync -> Ok
//! ```
//!
//! **Invariants**
//! 1. One process at a time: the lock is taken before anything is read and held until the end, but for the moment after a
//!    full disk in which the connection is opened anew. Whoever took it then keeps it, and this store fails.
//! 2. After `batch` returned `Ok` all of it is on disk. After the disk failed once this store takes no more writes: a disk
//!    may pretend the next time.
//! 3. A store that may be older than what its keys signed since gives those keys to nobody again: not now, not after
//!    the next restart.
//! 4. A slot has one accept per epoch and phase, a value one verdict, an epoch one next roster.
//! 5. The version of a group that was carried over an epoch never goes down.
//! 6. Only [`VoteWrite::Unlinked`] is above 4 and 5: it takes the whole epoch away, its key first, so nothing is signed there.
//!
//! It is SQLite for ever and never part of a backup, so its schema is plain SQL in one file instead of migrations for two
//! databases. Deliberately absent: deciding what to vote, signing, and erasing below the file system: `secure_delete`
//! and the truncated log remove key bytes from the files, a flash drive may still have them.
//! Source: Castro and Liskov, "Practical Byzantine Fault Tolerance" (1999), on votes that survive a crash; Rebello et al.,
//! "Can Applications Recover from fsync Failures?" (2020).

mod boot;
mod restore;
mod schema;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

pub use mynet_types::VoteSecret;
use mynet_types::{
    AckedHead, CarriedHead, Evidence, ManifestHash, NodeId, OwnerEvidence, Phase, ProposalId, RosterHash, RosterLink,
    SignedOwnerStatement, SlotKey, Verdict, Vote,
};
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, ExecResult, SqlErr, Statement, Value};

use self::boot::{Boot, Found};
pub use self::restore::RestoredVotes;
use crate::{
    full::{has_code, is_disk_full},
    meta::{
        Damage,
        column::{pack, pack_record},
        sqlite::{self, Access},
    },
};

/// SQLite's primary result code for "locked by somebody else"; extended codes keep it in their low byte.
const SQLITE_BUSY: i64 = 5;

/// Why the vote store could not do something.
#[derive(Debug, thiserror::Error)]
pub enum VotesError {
    /// Another process has the store open. Two validators with one key would look like a traitor.
    #[error("{} is in use by another process: is a node already running on this data directory?", .0.display())]
    InUse(PathBuf),
    /// A newer program made the file.
    #[error("the vote store has version {found}, which this program does not know")]
    Newer {
        /// The version found.
        found: i64,
    },
    /// The vote would contradict one that is here: another accept of the slot, or another verdict of the value.
    #[error("a vote in epoch {epoch} on {value} contradicts one that was cast")]
    VoteConflict {
        /// The epoch.
        epoch: u64,
        /// The value of the vote refused.
        value: ManifestHash,
    },
    /// Another roster was signed for this epoch, or another link leads to it.
    #[error("another roster was signed for epoch {epoch}")]
    RosterConflict {
        /// The epoch.
        epoch: u64,
    },
    /// The disk failed before; the process must end, and the next one looks at what is there.
    #[error("the vote store failed before and takes no more writes")]
    Failed,
    /// An epoch beyond what a column holds.
    #[error("epoch {0} is out of range")]
    Epoch(u64),
    /// A row is not what was written.
    #[error("the vote store is damaged: {0}")]
    Damaged(#[from] Damage),
    /// The boot counter's file, or the directory.
    #[error("{what}: {source}")]
    File {
        /// What was attempted.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The database.
    #[error("vote database: {0}")]
    Database(#[from] DbErr),
}

/// What the caller knows about the data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataDir {
    /// Made just now, by `init` or `join`: an empty store is as it should be.
    New,
    /// Made earlier: an empty store was lost.
    Used,
}

/// One write.
#[derive(Debug, Clone)]
pub enum VoteWrite {
    /// A vote of this node. The same value may be voted again under another claim; the newest is kept.
    Vote(Vote),
    /// The secret of this node's vote key for an epoch.
    Key {
        /// The epoch.
        epoch: u64,
        /// The secret.
        secret: VoteSecret,
    },
    /// Vote keys up to and including this epoch are erased, and the votes that they signed: without the key there is
    /// nothing left that they protect.
    EraseKeys {
        /// The last epoch erased.
        through: u64,
    },
    /// The one next roster that this node signed for an epoch.
    RosterLock {
        /// The epoch of that roster.
        epoch: u64,
        /// Its hash; another one for the same epoch is refused.
        roster: RosterHash,
        /// What the core needs to go on; opaque.
        lock: Vec<u8>,
    },
    /// The chain grew.
    Link(RosterLink),
    /// A proposal of this node, before it is first sent.
    Proposal {
        /// Its id.
        id: ProposalId,
        /// What the core needs to go on; opaque.
        proposal: Vec<u8>,
    },
    /// A proposal needs no more work after a restart.
    Closed(ProposalId),
    /// A seat contradicted itself. The first record of a seat and epoch stays, for ever.
    Evidence(Evidence),
    /// The operator approved a seat for a node, or that approval no longer stands.
    Approval {
        /// The node.
        node: NodeId,
        /// Whether it stands.
        given: bool,
    },
    /// A head that this node acks, in the batch of its ack; of each group the highest version of an epoch is kept. Erased
    /// with the keys of its epoch.
    Acked(AckedHead),
    /// This node signs no more heads of an epoch. Erased with the keys of that epoch.
    EpochClosed {
        /// The epoch.
        epoch: u64,
        /// What the core needs to go on; opaque. A newer one takes its place.
        next: Vec<u8>,
    },
    /// Heads carried into the newest epoch; of each group the highest version is kept for ever.
    Carried(Vec<CarriedHead>),
    /// What the locked roster carries besides; erased when the chain grows.
    CarriedNext(Vec<CarriedHead>),
    /// A page of a list that other seats reported and the locked roster rests on; erased when the chain grows.
    Reported {
        /// Names the list.
        root: [u8; 32],
        /// Heads of it.
        heads: Vec<AckedHead>,
    },
    /// What an owner signed that this node accepts as a head, in the batch of its first vote. The first one of a version and
    /// epoch stays; erased with the votes of its epoch.
    OwnerSigned {
        /// The epoch of the vote.
        epoch: u64,
        /// The statement.
        signed: SignedOwnerStatement,
    },
    /// An owner signed two manifests for one version. The first record of an owner, group and version stays, for ever.
    OwnerEvidence(OwnerEvidence),
    /// The links after this epoch gave way to others, one of either being a recovery: they are erased, and with them the keys, votes, locks, heads and evidence
    /// of later epochs, and what is carried. The links that take their place follow in the same batch.
    Unlinked {
        /// The last epoch that stays.
        after: u64,
    },
}

/// The open vote store; there is one per data directory.
#[derive(Debug)]
pub struct Votes {
    db: DatabaseConnection,
    boots: u64,
    complete: bool,
    failed: AtomicBool,
}

impl Votes {
    /// Opens `votes.db` in `directory`, locks it until the end of the process, and counts the boot.
    ///
    /// If the store may lack votes that its keys signed, those keys are marked and never restored again: see
    /// [`RestoredVotes::may_vote`].
    ///
    /// # Errors
    /// [`VotesError::InUse`] at once if another process has it; otherwise what failed. The boot may have been counted.
    pub async fn open(directory: &Path, data_dir: DataDir) -> Result<Self, VotesError> {
        let path = directory.join("votes.db");
        boot::create_private(&path).map_err(|source| VotesError::File { what: "create votes.db", source })?;
        let in_use =
            |error: DbErr| if has_code(&error, SQLITE_BUSY) { VotesError::InUse(path.clone()) } else { error.into() };
        let db = sqlite::connect(&path, Access::Exclusive).await.map_err(in_use)?;
        let transaction = sqlite::begin(&db).await.map_err(in_use)?;
        let file = boot::read(directory).map_err(|source| VotesError::File { what: "read votes.boot", source })?;
        schema::prepare(&transaction).await?;
        let database = read_boot(&transaction).await?;
        let used = is_used(&transaction).await?;
        let complete = boot::is_complete(Found { database, file, used, directory: data_dir });
        let before = database.unwrap_or_else(|| Boot { store: rand::random(), count: 0 });
        // Never below what the file says, so that a store that was lost once does not look restored for ever.
        let count = before.count.max(file.map_or(0, |file| file.count)).saturating_add(1);
        let boot = Boot { count, ..before };
        write_boot(&transaction, boot).await?;
        if !complete {
            execute(&transaction, "UPDATE keys SET suspect = 1", []).await?;
        }
        transaction.commit().await?;
        boot::write(directory, boot).map_err(|source| VotesError::File { what: "write votes.boot", source })?;
        if !complete {
            tracing::warn!(boots = count, "vote store may be incomplete, not voting with its keys");
        }
        Ok(Self { db, boots: count, complete, failed: AtomicBool::new(false) })
    }

    /// How often this store was opened.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.boots
    }

    /// Does all `writes` in their order, in one transaction, and makes them durable. What depends on them may leave the
    /// node only after this returned `Ok`.
    ///
    /// # Errors
    /// A refusal ([`VotesError::VoteConflict`], [`VotesError::RosterConflict`], [`VotesError::Epoch`]) leaves no trace and
    /// the store goes on; so does a full disk ([`crate::is_disk_full`]), and the batch may be tried again. Any other
    /// [`VotesError::Database`] ends it: every later batch gets [`VotesError::Failed`], and whether this one is on disk
    /// is known only after a restart.
    pub async fn batch(&self, writes: Vec<VoteWrite>) -> Result<(), VotesError> {
        if self.failed.load(Ordering::Acquire) {
            return Err(VotesError::Failed);
        }
        let outcome = self.write(writes).await;
        if let Err(VotesError::Database(error)) = &outcome
            && !is_disk_full(error)
        {
            self.failed.store(true, Ordering::Release);
        }
        outcome
    }

    async fn write(&self, writes: Vec<VoteWrite>) -> Result<(), VotesError> {
        let erases =
            writes.iter().any(|write| matches!(write, VoteWrite::EraseKeys { .. } | VoteWrite::Unlinked { .. }));
        let transaction = sqlite::begin(&self.db).await?;
        for write in writes {
            if let Err(refused) = apply(&transaction, write).await {
                // A full disk has ended the transaction already; what is told is why.
                drop(transaction.rollback().await);
                return Err(refused);
            }
        }
        transaction.commit().await?;
        if erases {
            // Old pages, and the secrets on them, are in the log until it is cut.
            self.db.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await?;
        }
        Ok(())
    }

    /// Closes the file and gives the lock back.
    ///
    /// # Errors
    /// [`VotesError::Database`]; nothing acknowledged is lost.
    pub async fn close(self) -> Result<(), VotesError> {
        Ok(self.db.close().await?)
    }
}

async fn apply(db: &DatabaseTransaction, write: VoteWrite) -> Result<(), VotesError> {
    match write {
        VoteWrite::Vote(vote) => put_vote(db, &vote).await,
        VoteWrite::Key { epoch, secret } => {
            let sql = "INSERT INTO keys (epoch, secret, suspect) VALUES (?, ?, 0)
                ON CONFLICT (epoch) DO UPDATE SET secret = excluded.secret, suspect = 0";
            execute(db, sql, [column(epoch)?.into(), pack(&secret.0).into()]).await?;
            Ok(())
        }
        VoteWrite::EraseKeys { through } => {
            let through = column(through)?;
            execute(db, "DELETE FROM keys WHERE epoch <= ?", [through.into()]).await?;
            execute(db, "DELETE FROM votes WHERE epoch <= ?", [through.into()]).await?;
            execute(db, "DELETE FROM owner_signed WHERE epoch <= ?", [through.into()]).await?;
            execute(db, "DELETE FROM acked WHERE epoch <= ?", [through.into()]).await?;
            execute(db, "DELETE FROM closed WHERE epoch <= ?", [through.into()]).await?;
            Ok(())
        }
        VoteWrite::RosterLock { epoch, roster, lock } => {
            let sql = "INSERT INTO roster_locks (epoch, roster, lock) VALUES (?, ?, ?)
                ON CONFLICT (epoch) DO UPDATE SET lock = excluded.lock WHERE roster = excluded.roster";
            let values = [column(epoch)?.into(), roster.0.to_vec().into(), pack(&lock).into()];
            let written = execute(db, sql, values).await?;
            if written.rows_affected() == 0 { Err(VotesError::RosterConflict { epoch }) } else { Ok(()) }
        }
        VoteWrite::Link(link) => {
            let epoch = link.roster.epoch;
            let sql = "INSERT INTO links (epoch, link) VALUES (?, ?)
                ON CONFLICT (epoch) DO UPDATE SET link = link WHERE link = excluded.link";
            let written = execute(db, sql, [column(epoch)?.into(), pack_record(&link).into()]).await?;
            execute(db, "DELETE FROM carried_next", []).await?;
            execute(db, "DELETE FROM reported", []).await?;
            if written.rows_affected() == 0 { Err(VotesError::RosterConflict { epoch }) } else { Ok(()) }
        }
        VoteWrite::Proposal { id, proposal } => {
            let sql = "INSERT INTO proposals (id, proposal) VALUES (?, ?)
                ON CONFLICT (id) DO UPDATE SET proposal = excluded.proposal";
            execute(db, sql, [id.0.to_vec().into(), pack(&proposal).into()]).await?;
            Ok(())
        }
        VoteWrite::Closed(id) => {
            execute(db, "DELETE FROM proposals WHERE id = ?", [id.0.to_vec().into()]).await?;
            Ok(())
        }
        VoteWrite::Evidence(evidence) => {
            let sql =
                "INSERT INTO evidence (epoch, seat, evidence) VALUES (?, ?, ?) ON CONFLICT (epoch, seat) DO NOTHING";
            let (epoch, seat) = (column(evidence.epoch())?, i64::from(evidence.seat));
            execute(db, sql, [epoch.into(), seat.into(), pack_record(&evidence).into()]).await?;
            Ok(())
        }
        VoteWrite::Approval { node, given } => {
            let sql = if given {
                "INSERT INTO approvals (node) VALUES (?) ON CONFLICT (node) DO NOTHING"
            } else {
                "DELETE FROM approvals WHERE node = ?"
            };
            execute(db, sql, [node.0.to_vec().into()]).await?;
            Ok(())
        }
        heads => put_heads(db, heads).await,
    }
}

/// What is kept of heads besides votes.
async fn put_heads(db: &DatabaseTransaction, write: VoteWrite) -> Result<(), VotesError> {
    match write {
        VoteWrite::Acked(head) => {
            let sql = "INSERT INTO acked (epoch, group_id, version, head) VALUES (?, ?, ?, ?)
                ON CONFLICT (epoch, group_id) DO UPDATE SET version = excluded.version, head = excluded.head
                WHERE version < excluded.version";
            let (epoch, version) = (column(head.certificate.statement.epoch)?, column(head.version)?);
            let values = [epoch.into(), head.group_id.0.to_vec().into(), version.into(), pack_record(&head).into()];
            execute(db, sql, values).await?;
        }
        VoteWrite::EpochClosed { epoch, next } => {
            let sql = "INSERT INTO closed (epoch, next) VALUES (?, ?)
                ON CONFLICT (epoch) DO UPDATE SET next = excluded.next";
            execute(db, sql, [column(epoch)?.into(), pack(&next).into()]).await?;
        }
        VoteWrite::Unlinked { after } => {
            let after = column(after)?;
            for table in ["links", "keys", "votes", "owner_signed", "roster_locks", "acked", "closed", "evidence"] {
                execute(db, &format!("DELETE FROM {table} WHERE epoch > ?"), [after.into()]).await?;
            }
            execute(db, "DELETE FROM carried", []).await?;
            execute(db, "DELETE FROM carried_next", []).await?;
            execute(db, "DELETE FROM reported", []).await?;
        }
        VoteWrite::Carried(heads) => put_carried(db, "carried", heads).await?,
        VoteWrite::CarriedNext(heads) => put_carried(db, "carried_next", heads).await?,
        VoteWrite::Reported { root, heads } => {
            let sql = "INSERT INTO reported (root, group_id, head) VALUES (?, ?, ?)
                ON CONFLICT (root, group_id) DO UPDATE SET head = excluded.head";
            for head in heads {
                let values = [root.to_vec().into(), head.group_id.0.to_vec().into(), pack_record(&head).into()];
                execute(db, sql, values).await?;
            }
        }
        VoteWrite::OwnerSigned { epoch, signed } => {
            let sql = "INSERT INTO owner_signed (epoch, group_id, version, signed) VALUES (?, ?, ?, ?)
                ON CONFLICT (epoch, group_id, version) DO NOTHING";
            let about = &signed.body;
            let values = [
                column(epoch)?.into(),
                about.group_id.0.to_vec().into(),
                version_column(about.version),
                pack_record(&signed).into(),
            ];
            execute(db, sql, values).await?;
        }
        VoteWrite::OwnerEvidence(evidence) => {
            let sql = "INSERT INTO owner_evidence (owner, group_id, version, evidence) VALUES (?, ?, ?, ?)
                ON CONFLICT (owner, group_id, version) DO NOTHING";
            let values = [
                evidence.owner.0.to_vec().into(),
                evidence.group_id.0.to_vec().into(),
                version_column(evidence.version),
                pack_record(&evidence).into(),
            ];
            execute(db, sql, values).await?;
        }
        _ => unreachable!("the caller writes everything else"),
    }
    Ok(())
}

async fn put_carried(db: &DatabaseTransaction, table: &str, heads: Vec<CarriedHead>) -> Result<(), VotesError> {
    let sql = format!(
        "INSERT INTO {table} (group_id, version, head) VALUES (?, ?, ?)
        ON CONFLICT (group_id) DO UPDATE SET version = excluded.version, head = excluded.head
        WHERE version <= excluded.version"
    );
    for head in heads {
        let values = [head.group_id.0.to_vec().into(), column(head.version)?.into(), pack_record(&head).into()];
        execute(db, &sql, values).await?;
    }
    Ok(())
}

async fn put_vote(db: &DatabaseTransaction, vote: &Vote) -> Result<(), VotesError> {
    let statement = &vote.statement;
    let SlotKey(slot) = statement.slot;
    let verdict: i64 = match statement.verdict {
        Verdict::Accept => 0,
        Verdict::Reject => 1,
    };
    let phase: i64 = match statement.phase {
        Phase::Vote => 0,
        Phase::Ack => 1,
    };
    let sql = "INSERT INTO votes (epoch, phase, slot, value, verdict, vote) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (epoch, phase, slot, value) DO UPDATE SET vote = excluded.vote WHERE verdict = excluded.verdict";
    let values = [
        column(statement.epoch)?.into(),
        phase.into(),
        slot.to_vec().into(),
        statement.value.0.to_vec().into(),
        verdict.into(),
        pack_record(vote).into(),
    ];
    let conflict = VotesError::VoteConflict { epoch: statement.epoch, value: statement.value };
    match execute(db, sql, values).await {
        Ok(written) if written.rows_affected() == 0 => Err(conflict),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_))) => Err(conflict),
        Err(error) => Err(error.into()),
    }
}

async fn read_boot(db: &DatabaseTransaction) -> Result<Option<Boot>, VotesError> {
    let statement = Statement::from_string(db.get_database_backend(), "SELECT store_uuid, boots FROM identity");
    let Some(row) = db.query_one_raw(statement).await? else { return Ok(None) };
    let (store, boots): (Vec<u8>, i64) = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
    let store = crate::meta::column::fixed(&store)?;
    Ok(Some(Boot { store, count: crate::meta::column::from_column(boots)? }))
}

async fn write_boot(db: &DatabaseTransaction, boot: Boot) -> Result<(), VotesError> {
    let sql = "INSERT INTO identity (one, store_uuid, boots) VALUES (1, ?, ?)
        ON CONFLICT (one) DO UPDATE SET boots = excluded.boots";
    execute(db, sql, [boot.store.to_vec().into(), column(boot.count)?.into()]).await?;
    Ok(())
}

/// Whether the store ever held something that a signature could contradict.
async fn is_used(db: &DatabaseTransaction) -> Result<bool, DbErr> {
    let sql = "SELECT EXISTS (SELECT 1 FROM keys) OR EXISTS (SELECT 1 FROM votes)";
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), sql)).await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}

async fn execute<const N: usize>(db: &DatabaseTransaction, sql: &str, values: [Value; N]) -> Result<ExecResult, DbErr> {
    db.execute_raw(Statement::from_sql_and_values(db.get_database_backend(), sql, values)).await
}

fn column(epoch: u64) -> Result<i64, VotesError> {
    i64::try_from(epoch).map_err(|_too_big| VotesError::Epoch(epoch))
}

/// A version that an owner made up may be any number, and peers tell of it; as bytes each has its place.
fn version_column(version: u64) -> Value {
    version.to_be_bytes().to_vec().into()
}
