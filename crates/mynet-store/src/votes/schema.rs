//! The vote store's tables. SQLite only, so plain SQL: the constraints are the point, and here they can be read.

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, Statement};

use super::VotesError;

/// What leads from each `user_version` of the file to the next, beginning with an empty one. A change adds a step.
const STEPS: [&str; 5] = [VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5];

/// Everything of version 1. `verdict` is 0 for accept and 1 for reject; `suspect` marks keys that may have signed what this
/// store does not know.
const VERSION_1: &str = "
CREATE TABLE identity (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    store_uuid BLOB NOT NULL CHECK (length(store_uuid) = 16),
    boots INTEGER NOT NULL CHECK (boots > 0)
) STRICT;
CREATE TABLE votes (
    epoch INTEGER NOT NULL,
    phase INTEGER NOT NULL CHECK (phase IN (0, 1)),
    slot BLOB NOT NULL CHECK (length(slot) = 32),
    value BLOB NOT NULL CHECK (length(value) = 32),
    verdict INTEGER NOT NULL CHECK (verdict IN (0, 1)),
    vote BLOB NOT NULL,
    PRIMARY KEY (epoch, phase, slot, value)
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX one_accept_per_slot ON votes (epoch, phase, slot) WHERE verdict = 0;
CREATE TABLE keys (
    epoch INTEGER PRIMARY KEY,
    secret BLOB NOT NULL,
    suspect INTEGER NOT NULL CHECK (suspect IN (0, 1))
) STRICT;
CREATE TABLE roster_locks (
    epoch INTEGER PRIMARY KEY,
    roster BLOB NOT NULL CHECK (length(roster) = 32),
    lock BLOB NOT NULL
) STRICT;
CREATE TABLE links (
    epoch INTEGER PRIMARY KEY,
    link BLOB NOT NULL
) STRICT;
CREATE TABLE proposals (
    id BLOB PRIMARY KEY CHECK (length(id) = 32),
    proposal BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 1;
";

/// What version 2 adds: evidence against seats, and the nodes that the operator approved.
const VERSION_2: &str = "
CREATE TABLE evidence (
    epoch INTEGER NOT NULL,
    seat INTEGER NOT NULL,
    evidence BLOB NOT NULL,
    PRIMARY KEY (epoch, seat)
) STRICT, WITHOUT ROWID;
CREATE TABLE approvals (
    node BLOB PRIMARY KEY CHECK (length(node) = 32)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 2;
";

/// What version 3 adds: heads that were acked, epochs that were closed, and heads that were carried into the newest epoch or
/// will be into the next.
const VERSION_3: &str = "
CREATE TABLE acked (
    epoch INTEGER NOT NULL,
    group_id BLOB NOT NULL CHECK (length(group_id) = 32),
    version INTEGER NOT NULL CHECK (version > 1),
    head BLOB NOT NULL,
    PRIMARY KEY (epoch, group_id)
) STRICT, WITHOUT ROWID;
CREATE TABLE closed (
    epoch INTEGER PRIMARY KEY,
    next BLOB NOT NULL
) STRICT;
CREATE TABLE carried (
    group_id BLOB PRIMARY KEY CHECK (length(group_id) = 32),
    version INTEGER NOT NULL CHECK (version > 1),
    head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE carried_next (
    group_id BLOB PRIMARY KEY CHECK (length(group_id) = 32),
    version INTEGER NOT NULL CHECK (version > 1),
    head BLOB NOT NULL
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 3;
";

/// What version 4 adds: what owners signed that this node voted for, and evidence against owners. Versions are 8 bytes with the
/// highest first, because an owner may sign any number.
const VERSION_4: &str = "
CREATE TABLE owner_signed (
    epoch INTEGER NOT NULL,
    group_id BLOB NOT NULL CHECK (length(group_id) = 32),
    version BLOB NOT NULL CHECK (length(version) = 8),
    signed BLOB NOT NULL,
    PRIMARY KEY (epoch, group_id, version)
) STRICT, WITHOUT ROWID;
CREATE TABLE owner_evidence (
    owner BLOB NOT NULL CHECK (length(owner) = 32),
    group_id BLOB NOT NULL CHECK (length(group_id) = 32),
    version BLOB NOT NULL CHECK (length(version) = 8),
    evidence BLOB NOT NULL,
    PRIMARY KEY (owner, group_id, version)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 4;
";

/// What version 5 adds: what is behind the reports that a locked roster rests on.
const VERSION_5: &str = "
CREATE TABLE reported (
    root BLOB NOT NULL CHECK (length(root) = 32),
    group_id BLOB NOT NULL CHECK (length(group_id) = 32),
    head BLOB NOT NULL,
    PRIMARY KEY (root, group_id)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = 5;
";

/// Makes the tables of an empty file and those that an older one lacks; refuses a file of a newer program.
pub(super) async fn prepare(transaction: &DatabaseTransaction) -> Result<(), VotesError> {
    let found = user_version(transaction).await?;
    let seen = usize::try_from(found).ok().filter(|seen| *seen <= STEPS.len()).ok_or(VotesError::Newer { found })?;
    for step in STEPS.iter().skip(seen) {
        transaction.execute_unprepared(step).await?;
    }
    Ok(())
}

async fn user_version(transaction: &DatabaseTransaction) -> Result<i64, DbErr> {
    let statement = Statement::from_string(transaction.get_database_backend(), "PRAGMA user_version");
    let row = transaction.query_one_raw(statement).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}
