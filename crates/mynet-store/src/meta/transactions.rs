//! Replication transactions of a participant, coordinations of a coordinator, and what a restart begins from.
//!
//! ```text
//! none -> intent -> prepared -> committed -> none
//!            \          \--> aborted --> none
//!             \-------------^   aborted -> intent only with a higher attempt
//! ```
//!
//! **Invariants**
//! 1. A committed transaction stays committed until it is forgotten; an aborted attempt never comes back.
//! 2. An open transaction keeps its reservation, its pins and its claims; an ended one has none.

use mynet_types::{
    ContentId, GroupId, Manifest, ManifestHash, NodeId, SignedReceipt, SignedTombstone, StatesMask, Timestamp, TxId,
    rpc::GroupKey,
};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    Meta, MetaError, SMALL_RECORD_MAX,
    blobs::{BLOB_OK, stored_blob},
    column::{Damage, fixed, from_column, millis, pack, pack_record, to_column, unpack, unpack_record},
    model::{GroupRows, Mode, PinKind, StoredBlob, WriteError},
    schema::{
        holdings::{blobs, groups},
        pending::{claims, coordinations, transactions},
    },
    sql, versions,
    write::{BatchDone, WriteScope},
};

pub(super) const INTENT: &str = "intent";
pub(super) const PREPARED: &str = "prepared";
pub(super) const COMMITTED: &str = "committed";
const ABORTED: &str = "aborted";

/// Groups whose later versions a restart is told of: those beyond it cost a prepare of an old version a write or two.
const VERSIONS_MAX: u64 = 65_536;

/// A transaction and its attempt.
type Attempt = (TxId, u32);

impl WriteScope<'_> {
    pub(super) async fn intent(
        &mut self,
        (tx, attempt): Attempt,
        group_id: GroupId,
        reserved_bytes: u64,
        state: &[u8],
    ) -> Result<(), WriteError> {
        let allowed = match self.find_transaction(tx).await? {
            None => true,
            Some(row) if row.phase == ABORTED => row.attempt < i64::from(attempt),
            Some(row) => is_open(&row) && row.attempt <= i64::from(attempt),
        };
        if !allowed {
            return Err(self.wrong_phase(tx, "begun").await?);
        }
        let row = transactions::Model {
            tx: tx.0.to_vec(),
            phase: INTENT.to_owned(),
            attempt: attempt.into(),
            group_id: Some(group_id.0.to_vec()),
            reserved_bytes: to_column("reservation", reserved_bytes)?,
            state: pack(state),
            states: None,
            receipt: None,
            updated_at: millis(self.now),
        };
        self.put_transaction(row).await
    }

    pub(super) async fn prepared(
        &mut self,
        (tx, attempt): Attempt,
        states: StatesMask,
        staged: &[StoredBlob],
    ) -> Result<(), WriteError> {
        let found = self.find_transaction(tx).await?;
        let Some(row) = found.filter(|row| is_open(row) && row.attempt == i64::from(attempt)) else {
            return Err(self.wrong_phase(tx, "prepared").await?);
        };
        self.put_blobs(staged).await?;
        for stored in staged {
            self.pin(stored.blob.sha256, PinKind::Tx, tx.0).await?;
        }
        let states = Some(i32::from(states.bits()));
        let updated_at = millis(self.now);
        self.put_transaction(transactions::Model { phase: PREPARED.to_owned(), states, updated_at, ..row }).await
    }

    pub(super) async fn commit(
        &mut self,
        (tx, attempt): Attempt,
        rows: &GroupRows,
        receipt: &SignedReceipt,
    ) -> Result<(), WriteError> {
        let found = self.find_transaction(tx).await?.filter(|row| row.attempt == i64::from(attempt));
        let row = match found {
            Some(row) if row.phase == COMMITTED => return Ok(()),
            Some(row) if row.phase == PREPARED => row,
            Some(_) | None => return Err(self.wrong_phase(tx, "committed").await?),
        };
        self.install(rows, false).await?;
        self.receipts(receipt.body.manifest_hash, std::slice::from_ref(receipt)).await?;
        self.release(tx).await?;
        self.put_transaction(transactions::Model {
            phase: COMMITTED.to_owned(),
            reserved_bytes: 0,
            state: pack(&[]),
            receipt: Some(pack_record(receipt)),
            updated_at: millis(self.now),
            ..row
        })
        .await?;
        #[cfg(feature = "failpoints")]
        crate::failpoint::reach("participant::inside_t4");
        Ok(())
    }

    pub(super) async fn abort(&mut self, (tx, attempt): Attempt) -> Result<(), WriteError> {
        let found = self.find_transaction(tx).await?;
        if found.as_ref().is_some_and(|row| row.phase == COMMITTED) {
            return Err(self.wrong_phase(tx, "aborted").await?);
        }
        self.release(tx).await?;
        let attempt = Ord::max(i64::from(attempt), found.as_ref().map_or(0, |row| row.attempt));
        let row = transactions::Model {
            tx: tx.0.to_vec(),
            phase: ABORTED.to_owned(),
            attempt,
            group_id: found.and_then(|row| row.group_id),
            reserved_bytes: 0,
            state: pack(&[]),
            states: None,
            receipt: None,
            updated_at: millis(self.now),
        };
        self.put_transaction(row).await
    }

    pub(super) async fn forget(&mut self, tx: TxId) -> Result<(), WriteError> {
        if self.find_transaction(tx).await?.is_some_and(|row| is_open(&row)) {
            return Err(self.wrong_phase(tx, "forgotten").await?);
        }
        transactions::Entity::delete_by_id(tx.0.to_vec()).exec(self.db).await?;
        Ok(())
    }

    /// Pins and claims of a transaction that ends.
    async fn release(&mut self, tx: TxId) -> Result<(), WriteError> {
        self.unpin_all(PinKind::Tx, tx.0).await?;
        claims::Entity::delete_many().filter(claims::Column::Tx.eq(tx.0.to_vec())).exec(self.db).await?;
        Ok(())
    }

    async fn put_transaction(&self, row: transactions::Model) -> Result<(), WriteError> {
        use transactions::Column::{Attempt, GroupId, Phase, Receipt, ReservedBytes, State, States, Tx, UpdatedAt};
        let all = [Phase, Attempt, GroupId, ReservedBytes, State, States, Receipt, UpdatedAt];
        sql::upsert(self.db, row, OnConflict::column(Tx).update_columns(all)).await?;
        Ok(())
    }

    async fn find_transaction(&self, tx: TxId) -> Result<Option<transactions::Model>, MetaError> {
        Ok(transactions::Entity::find_by_id(tx.0.to_vec()).one(self.db).await?)
    }

    async fn wrong_phase(&self, tx: TxId, step: &'static str) -> Result<WriteError, MetaError> {
        let found = match self.find_transaction(tx).await? {
            Some(row) => format!("{} in attempt {}", row.phase, row.attempt),
            None => "unknown".to_owned(),
        };
        Ok(WriteError::WrongPhase { tx, step, found })
    }

    pub(super) async fn begin(
        &mut self,
        group_id: GroupId,
        (replicas, mode): (u8, Mode),
        publication: &[u8],
    ) -> Result<(), WriteError> {
        let row = coordinations::Model {
            group_id: group_id.0.to_vec(),
            publication: pack(publication),
            decided: None,
            updated_at: millis(self.now),
        };
        use coordinations::Column::{GroupId, Publication, UpdatedAt};
        self.publish(group_id, (replicas, mode)).await?;
        sql::upsert(self.db, row, OnConflict::column(GroupId).update_columns([Publication, UpdatedAt])).await?;
        Ok(())
    }

    /// The group is to be in the network.
    pub(super) async fn publish(&mut self, group_id: GroupId, (replicas, mode): (u8, Mode)) -> Result<(), WriteError> {
        let model = self.known_group(group_id).await?;
        let changed = groups::ActiveModel {
            published: Set(true),
            replicas: Set(replicas.into()),
            mode: Set(mode.as_str().to_owned()),
            ..model.into_active_model()
        };
        let model = groups::Entity::update(changed).exec(self.db).await?;
        self.project(&model).await?;
        Ok(())
    }

    pub(super) async fn started(&mut self, group_id: GroupId) -> Result<(), WriteError> {
        let model = self.known_group(group_id).await?;
        if !model.started {
            let changed = groups::ActiveModel { started: Set(true), ..model.into_active_model() };
            let model = groups::Entity::update(changed).exec(self.db).await?;
            self.project(&model).await?;
        }
        Ok(())
    }

    pub(super) async fn decided(&mut self, group_id: GroupId, decided: &[u8]) -> Result<(), WriteError> {
        let written = coordinations::Entity::update_many()
            .col_expr(coordinations::Column::Decided, Expr::value(pack(decided)))
            .col_expr(coordinations::Column::UpdatedAt, Expr::value(millis(self.now)))
            .filter(coordinations::Column::GroupId.eq(group_id.0.to_vec()))
            .exec(self.db)
            .await?;
        if written.rows_affected == 0 {
            return Err(WriteError::UnknownGroup(group_id));
        }
        self.started(group_id).await
    }

    pub(super) async fn end(&mut self, group_id: GroupId) -> Result<(), WriteError> {
        coordinations::Entity::delete_by_id(group_id.0.to_vec()).exec(self.db).await?;
        Ok(())
    }
}

fn is_open(row: &transactions::Model) -> bool {
    row.phase == INTENT || row.phase == PREPARED
}

/// A transaction that was open at a crash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenTransaction {
    /// The transaction.
    pub tx: TxId,
    /// Its attempt.
    pub attempt: u32,
    /// The group.
    pub group_id: GroupId,
    /// What [`MetaWrite::Intent`](super::MetaWrite::Intent) kept.
    pub state: Vec<u8>,
    /// The states staged, if it was prepared.
    pub prepared: Option<StatesMask>,
}

/// A group that is still coordinated here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coordination {
    /// The group.
    pub group_id: GroupId,
    /// What [`MetaWrite::Begin`](super::MetaWrite::Begin) kept.
    pub publication: Vec<u8>,
    /// What [`MetaWrite::Decided`](super::MetaWrite::Decided) kept.
    pub decided: Option<Vec<u8>>,
    /// Receipts known for its manifest.
    pub receipts: Vec<SignedReceipt>,
}

/// What a restart begins from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoredTransactions {
    /// Grows with every open of the store.
    pub boot: u64,
    /// Intents and prepared transactions.
    pub open: Vec<OpenTransaction>,
    /// Committed transactions still remembered: attempt, group, and the receipt given out.
    pub committed: Vec<(TxId, u32, GroupId, SignedReceipt)>,
    /// Aborted transactions still remembered.
    pub aborted: Vec<(TxId, u32)>,
    /// Coordinations without an end.
    pub coordinations: Vec<Coordination>,
    /// Groups that are here in a later version than the first, and which; some of them, if they are very many.
    pub versions: Vec<(GroupId, u64)>,
    /// Manifests of `coordinations` that a certificate here rejects.
    pub rejected: Vec<ManifestHash>,
    /// The newest tombstones, oldest first.
    pub tombstones: Vec<SignedTombstone>,
    /// Tombstones that somebody has not confirmed, and who.
    pub deletions: Vec<(SignedTombstone, Vec<NodeId>)>,
}

impl Meta {
    /// Reserves for an open transaction what no other one may take from it: the group's content ids, and the blobs that
    /// are here already, which it pins and returns. Call it before staging; a repeat is harmless. Aborting, committing or
    /// forgetting the transaction gives everything back.
    ///
    /// # Errors
    /// [`WriteError::IdConflict`], [`WriteError::OtherManifest`] and [`WriteError::Deleted`] are grounds to refuse the prepare;
    /// [`WriteError::WrongPhase`] if the transaction is not open.
    pub async fn stage(&self, tx: TxId, manifest: &Manifest, now: Timestamp) -> Result<Vec<StoredBlob>, WriteError> {
        let transaction = self.begin().await?;
        let mut scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        let here = scope.stage(tx, manifest).await?;
        transaction.commit().await?;
        Ok(here)
    }

    /// Bytes promised to open transactions.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn reserved_bytes(&self) -> Result<u64, MetaError> {
        let sum: Option<Option<i64>> = transactions::Entity::find()
            .select_only()
            .column_as(Expr::col(transactions::Column::ReservedBytes).sum().cast_as("bigint"), "sum")
            .filter(transactions::Column::Phase.is_in([INTENT, PREPARED]))
            .into_tuple()
            .one(&self.read)
            .await?;
        from_column(sum.flatten().unwrap_or(0)).map_err(|damage| damage.within("mynet_transactions"))
    }

    /// Everything that was unfinished or is still remembered.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn restore(&self) -> Result<RestoredTransactions, MetaError> {
        let mut restored = RestoredTransactions { boot: self.boot, ..Default::default() };
        let rows = transactions::Entity::find().order_by_asc(transactions::Column::Tx).all(&self.read).await?;
        for row in rows {
            restored.add(&row).map_err(|damage| damage.within("mynet_transactions"))?;
        }
        let open = coordinations::Entity::find().order_by_asc(coordinations::Column::GroupId).all(&self.read).await?;
        for row in open {
            let group_id = GroupId(fixed(&row.group_id).map_err(|damage| damage.within("mynet_coordinations"))?);
            let unpacked = |bytes: &[u8]| unpack(bytes).map(<[u8]>::to_vec);
            let publication = unpacked(&row.publication).map_err(|damage| damage.within("mynet_coordinations"))?;
            let decided = row.decided.as_deref().map(unpacked).transpose();
            let decided = decided.map_err(|damage| damage.within("mynet_coordinations"))?;
            let receipts = self.receipts_of_group(group_id).await?;
            let seen = self.group(&GroupKey::Group(group_id)).await?;
            restored
                .rejected
                .extend(seen.filter(|(group, _)| group.is_rejected()).map(|(group, _)| group.manifest_hash));
            restored.coordinations.push(Coordination { group_id, publication, decided, receipts });
        }
        restored.versions = self.later_versions(VERSIONS_MAX).await?;
        restored.tombstones = self.newest_tombstones().await?;
        restored.deletions = self.unconfirmed().await?;
        Ok(restored)
    }
}

impl RestoredTransactions {
    fn add(&mut self, row: &transactions::Model) -> Result<(), Damage> {
        let tx = TxId(fixed(&row.tx)?);
        let attempt = from_column(row.attempt)?;
        match (row.phase.as_str(), &row.receipt) {
            (INTENT | PREPARED, _) => self.open.push(OpenTransaction {
                tx,
                attempt,
                group_id: GroupId(fixed(row.group_id.as_deref().unwrap_or_default())?),
                state: unpack(&row.state)?.to_vec(),
                prepared: row.states.map(|bits| mask(bits.into())).transpose()?,
            }),
            (COMMITTED, Some(receipt)) => {
                let group_id = GroupId(fixed(row.group_id.as_deref().unwrap_or_default())?);
                self.committed.push((tx, attempt, group_id, unpack_record(receipt, SMALL_RECORD_MAX)?));
            }
            (ABORTED, _) => self.aborted.push((tx, attempt)),
            (other, _) => return Err(Damage::Word(other.to_owned())),
        }
        Ok(())
    }
}

/// A set of states from a column.
pub(super) fn mask(bits: i64) -> Result<StatesMask, Damage> {
    StatesMask::from_bits(from_column(bits)?).ok_or(Damage::Number(bits))
}

impl WriteScope<'_> {
    async fn stage(&mut self, tx: TxId, manifest: &Manifest) -> Result<Vec<StoredBlob>, WriteError> {
        if !self.find_transaction(tx).await?.is_some_and(|row| is_open(&row)) {
            return Err(self.wrong_phase(tx, "staged").await?);
        }
        if self.is_deleted(manifest).await? {
            return Err(WriteError::Deleted(manifest.group_id));
        }
        self.claim(tx, manifest).await?;
        let wanted: Vec<Vec<u8>> = manifest.blobs().map(|(_, blob)| blob.sha256.0.to_vec()).collect();
        let rows = blobs::Entity::find()
            .filter(blobs::Column::Sha256.is_in(wanted))
            .filter(blobs::Column::State.eq(BLOB_OK))
            .all(self.db)
            .await?;
        let mut here = Vec::new();
        for row in rows {
            let stored = stored_blob(&row)?;
            self.pin(stored.blob.sha256, PinKind::Tx, tx.0).await?;
            here.push(stored);
        }
        Ok(here)
    }

    /// Claims the content ids of `manifest` against groups here and against other open transactions.
    async fn claim(&mut self, tx: TxId, manifest: &Manifest) -> Result<(), WriteError> {
        if let Some(other) = self.find_group(manifest.group_id).await? {
            versions::refuse_older(&other, manifest)?;
        }
        let ids: Vec<_> = manifest.members.iter().map(|member| member.content_id).collect();
        self.refuse_taken(manifest.group_id, &ids).await?;
        let claimed = claims::Entity::find()
            .filter(claims::Column::ContentId.is_in(ids.iter().map(ContentId::as_uuid)))
            .filter(claims::Column::GroupId.ne(manifest.group_id.0.to_vec()))
            .one(self.db)
            .await?;
        if let Some(claim) = claimed {
            let owner = fixed(&claim.group_id).map_err(|damage| damage.within("mynet_claims"))?;
            return Err(WriteError::IdConflict { content_id: claim.content_id.into(), owner: Some(GroupId(owner)) });
        }
        for id in ids {
            let row =
                claims::Model { content_id: id.as_uuid(), tx: tx.0.to_vec(), group_id: manifest.group_id.0.to_vec() };
            sql::insert_new(self.db, row).await?;
        }
        Ok(())
    }
}
