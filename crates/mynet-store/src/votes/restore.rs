//! What a restarted validator begins from.

use std::collections::BTreeMap;

use mynet_types::{AckedHead, CarriedHead, Evidence, NodeId, OwnerEvidence, RosterLink, SignedOwnerStatement, Vote};
use sea_orm::{ConnectionTrait, QueryResult, Statement, Value};

use super::{VoteSecret, Votes, VotesError, column};
use crate::meta::column::{fixed, from_column, unpack, unpack_record};

/// Encoded size of a link at most: 64 seats, two signatures and 64 bytes of keys each, and the header.
const LINK_BYTES_MAX: usize = 32 * 1024;
/// Encoded size of a vote at most; it is below 300 bytes.
const VOTE_BYTES_MAX: usize = 1024;
/// Encoded size of evidence at most, and of what an owner signed: two statements of some 120 bytes and their signatures.
const EVIDENCE_BYTES_MAX: usize = 1024;
/// Encoded size of an acked head at most: 64 signatures, and some 200 bytes of the statement.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Everything that survived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredVotes {
    /// Links in order.
    pub links: Vec<RosterLink>,
    /// Secrets by epoch, without those that may have signed what this store does not know.
    pub keys: BTreeMap<u64, VoteSecret>,
    /// Votes of the newest epoch of the chain and later: older ones can be asked for no more.
    pub votes: Vec<Vote>,
    /// The lock on the roster after the newest of the chain, as it was kept.
    pub lock: Option<Vec<u8>>,
    /// Proposals not closed, as they were kept.
    pub proposals: Vec<Vec<u8>>,
    /// Evidence against seats, oldest first.
    pub evidence: Vec<Evidence>,
    /// Evidence against owners.
    pub owner_evidence: Vec<OwnerEvidence>,
    /// What owners signed that this node voted for, with the epoch of the vote: of the newest epoch of the chain and later.
    pub signed: Vec<(u64, SignedOwnerStatement)>,
    /// Nodes that the operator approved and that have no seat yet.
    pub approved: Vec<NodeId>,
    /// Heads acked in the newest epoch of the chain, by group.
    pub acked: Vec<AckedHead>,
    /// What the newest epoch was closed for, as it was kept; `None` while it is open.
    pub closed: Option<Vec<u8>>,
    /// Heads carried, by group.
    pub carried: Vec<CarriedHead>,
    /// What the locked roster carries besides, by group.
    pub carried_next: Vec<CarriedHead>,
    /// What is behind the reports that the locked roster rests on, by list and group, each with the root of its list.
    pub reported: Vec<([u8; 32], AckedHead)>,
    /// Whether this node may vote with what it has. `false` after the store was lost or restored, and, for the newest
    /// epoch of the chain, until a fresh key takes the place of the one in doubt.
    pub may_vote: bool,
}

impl Votes {
    /// Reads everything back.
    ///
    /// # Errors
    /// [`VotesError::Damaged`] or [`VotesError::Database`].
    pub async fn restore(&self) -> Result<RestoredVotes, VotesError> {
        let mut restored = RestoredVotes::default();
        for row in self.all("SELECT link FROM links ORDER BY epoch", []).await? {
            restored.links.push(unpack_record(&bytes(&row)?, LINK_BYTES_MAX)?);
        }
        let newest = column(restored.links.last().map_or(0, |link| link.roster.epoch))?;
        for row in self.all("SELECT secret, epoch FROM keys WHERE suspect = 0", []).await? {
            let epoch = from_column(row.try_get_by_index(1)?)?;
            restored.keys.insert(epoch, VoteSecret(fixed(unpack(&bytes(&row)?)?)?));
        }
        for row in self.all("SELECT vote FROM votes WHERE epoch >= ? ORDER BY epoch, slot", [newest.into()]).await? {
            restored.votes.push(unpack_record(&bytes(&row)?, VOTE_BYTES_MAX)?);
        }
        let lock = "SELECT lock FROM roster_locks WHERE epoch > ? ORDER BY epoch LIMIT 1";
        for row in self.all(lock, [newest.into()]).await? {
            restored.lock = Some(unpack(&bytes(&row)?)?.to_vec());
        }
        for row in self.all("SELECT proposal FROM proposals ORDER BY id", []).await? {
            restored.proposals.push(unpack(&bytes(&row)?)?.to_vec());
        }
        for row in self.all("SELECT evidence FROM evidence ORDER BY epoch, seat", []).await? {
            restored.evidence.push(unpack_record(&bytes(&row)?, EVIDENCE_BYTES_MAX)?);
        }
        for row in self.all("SELECT evidence FROM owner_evidence ORDER BY owner, group_id, version", []).await? {
            restored.owner_evidence.push(unpack_record(&bytes(&row)?, EVIDENCE_BYTES_MAX)?);
        }
        for row in self.all("SELECT signed, epoch FROM owner_signed WHERE epoch >= ?", [newest.into()]).await? {
            let signed = unpack_record(&bytes(&row)?, EVIDENCE_BYTES_MAX)?;
            restored.signed.push((from_column(row.try_get_by_index(1)?)?, signed));
        }
        for row in self.all("SELECT node FROM approvals ORDER BY node", []).await? {
            restored.approved.push(NodeId(fixed(&bytes(&row)?)?));
        }
        for row in self.all("SELECT head FROM acked WHERE epoch >= ? ORDER BY epoch, group_id", [newest.into()]).await?
        {
            restored.acked.push(unpack_record(&bytes(&row)?, HEAD_BYTES_MAX)?);
        }
        for row in self.all("SELECT next FROM closed WHERE epoch = ?", [newest.into()]).await? {
            restored.closed = Some(unpack(&bytes(&row)?)?.to_vec());
        }
        for row in self.all("SELECT head FROM carried ORDER BY group_id", []).await? {
            restored.carried.push(unpack_record(&bytes(&row)?, HEAD_BYTES_MAX)?);
        }
        for row in self.all("SELECT head FROM carried_next ORDER BY group_id", []).await? {
            restored.carried_next.push(unpack_record(&bytes(&row)?, HEAD_BYTES_MAX)?);
        }
        for row in self.all("SELECT head, root FROM reported ORDER BY root, group_id", []).await? {
            let root: Vec<u8> = row.try_get_by_index(1)?;
            restored.reported.push((fixed(&root)?, unpack_record(&bytes(&row)?, HEAD_BYTES_MAX)?));
        }
        let doubt = self.all("SELECT 1 FROM keys WHERE suspect = 1 AND epoch = ?", [newest.into()]).await?;
        restored.may_vote = self.complete && doubt.is_empty();
        Ok(restored)
    }

    pub(super) async fn all<const N: usize>(
        &self,
        sql: &str,
        values: [Value; N],
    ) -> Result<Vec<QueryResult>, VotesError> {
        let statement = Statement::from_sql_and_values(self.db.get_database_backend(), sql, values);
        Ok(self.db.query_all_raw(statement).await?)
    }
}

/// The first column.
fn bytes(row: &QueryResult) -> Result<Vec<u8>, VotesError> {
    Ok(row.try_get_by_index(0)?)
}
