//! Blob rows, pins, quarantine and garbage collection.
//!
//! The reference count of a blob is the number of its pins, counted, never stored. The time since when it has none is stored,
//! because deleting waits: whoever is about to pin a blob that it just saw must find it.
//!
//! **Invariants**
//! 1. A blob with a pin cannot be deleted: the code asks first and the foreign key of the pin refuses.
//! 2. A row names one file; a second file of the same blob is reported as redundant in the same batch.
//! 3. A quarantined blob is never returned as present.

use mynet_types::{Blake3Root, BlobRef, ContentHash, GroupId, Timestamp};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait, Query, SimpleExpr},
};

use super::{
    Meta, MetaError,
    column::{fixed, from_column, millis, time, to_column},
    model::{PinKind, StoredBlob, WriteError},
    schema::holdings::{blobs, groups, pins},
    sql,
    write::{BatchDone, WriteScope},
};

/// A blob that is served.
pub(super) const BLOB_OK: &str = "ok";
/// A blob whose bytes were found damaged: kept for a look, never served, replaced by the next good copy.
const QUARANTINED: &str = "quarantined";

/// A blob as it is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRow {
    /// The blob and its file.
    pub stored: StoredBlob,
    /// Whether its bytes were found damaged.
    pub quarantined: bool,
    /// What keeps it.
    pub pins: u64,
    /// Since when nothing does, if so.
    pub unpinned_at: Option<Timestamp>,
}

/// A blob in quarantine that visible groups keep: to be fetched again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostBlob {
    /// The blob and its damaged or missing file.
    pub stored: StoredBlob,
    /// The groups.
    pub groups: Vec<GroupId>,
}

impl WriteScope<'_> {
    /// Adds rows of files that are on disk. A blob that has a good row keeps it.
    pub(super) async fn put_blobs(&mut self, stored: &[StoredBlob]) -> Result<(), WriteError> {
        for new in stored {
            let generation = to_column("generation", new.generation)?;
            match blobs::Entity::find_by_id(new.blob.sha256.0.to_vec()).one(self.db).await? {
                None => {
                    let row = self.blob_row(new)?;
                    sql::insert(self.db, row).await?;
                }
                // Also if this very file was found damaged since: only another one takes a row out of quarantine.
                Some(row) if row.generation == generation => {}
                Some(row) if row.state == QUARANTINED => {
                    self.done.redundant.push(stored_blob(&row)?);
                    let good = blobs::ActiveModel {
                        generation: Set(generation),
                        state: Set(BLOB_OK.to_owned()),
                        ..row.into_active_model()
                    };
                    blobs::Entity::update(good).exec_without_returning(self.db).await?;
                }
                Some(_) => self.done.redundant.push(*new),
            }
        }
        Ok(())
    }

    fn blob_row(&self, new: &StoredBlob) -> Result<blobs::Model, MetaError> {
        Ok(blobs::Model {
            sha256: new.blob.sha256.0.to_vec(),
            generation: to_column("generation", new.generation)?,
            blake3: new.blob.blake3.0.to_vec(),
            size: to_column("blob size", new.blob.size)?,
            state: BLOB_OK.to_owned(),
            unpinned_at: Some(millis(self.now)),
        })
    }

    pub(super) async fn pin(
        &mut self,
        sha256: ContentHash,
        kind: PinKind,
        reference: [u8; 32],
    ) -> Result<(), WriteError> {
        let pinned = blobs::Entity::update_many()
            .col_expr(blobs::Column::UnpinnedAt, Expr::value(None::<i64>))
            .filter(blobs::Column::Sha256.eq(sha256.0.to_vec()))
            .exec(self.db)
            .await?;
        if pinned.rows_affected == 0 {
            return Err(WriteError::BlobMissing(sha256));
        }
        let pin =
            pins::Model { sha256: sha256.0.to_vec(), kind: kind.as_str().to_owned(), reference: reference.to_vec() };
        sql::insert_new(self.db, pin).await?;
        Ok(())
    }

    /// Removes the pins of one reference and notes which blobs have none since.
    pub(super) async fn unpin_all(&mut self, kind: PinKind, reference: [u8; 32]) -> Result<(), WriteError> {
        let of_reference = pins::Column::Kind.eq(kind.as_str()).and(pins::Column::Reference.eq(reference.to_vec()));
        let held: Vec<Vec<u8>> = pins::Entity::find()
            .select_only()
            .column(pins::Column::Sha256)
            .filter(of_reference.clone())
            .into_tuple()
            .all(self.db)
            .await?;
        pins::Entity::delete_many().filter(of_reference).exec(self.db).await?;
        self.note_unpinned(held).await
    }

    /// Takes the pins of one reference from some blobs.
    pub(super) async fn unpin(
        &mut self,
        hashes: &[ContentHash],
        kind: PinKind,
        reference: [u8; 32],
    ) -> Result<(), WriteError> {
        let hashes: Vec<Vec<u8>> = hashes.iter().map(|hash| hash.0.to_vec()).collect();
        let of_reference = pins::Column::Kind.eq(kind.as_str()).and(pins::Column::Reference.eq(reference.to_vec()));
        let these = of_reference.and(pins::Column::Sha256.is_in(hashes.clone()));
        pins::Entity::delete_many().filter(these).exec(self.db).await?;
        self.note_unpinned(hashes).await
    }

    async fn note_unpinned(&mut self, released: Vec<Vec<u8>>) -> Result<(), WriteError> {
        blobs::Entity::update_many()
            .col_expr(blobs::Column::UnpinnedAt, Expr::value(millis(self.now)))
            .filter(blobs::Column::Sha256.is_in(released))
            .filter(has_no_pins())
            .exec(self.db)
            .await?;
        Ok(())
    }

    pub(super) async fn cache(&mut self, blob: StoredBlob, lease: [u8; 32]) -> Result<(), WriteError> {
        self.put_blobs(&[blob]).await?;
        self.pin(blob.blob.sha256, PinKind::Cache, lease).await
    }

    pub(super) async fn uncache(&mut self, sha256: ContentHash, lease: [u8; 32]) -> Result<(), WriteError> {
        let id = (sha256.0.to_vec(), PinKind::Cache.as_str().to_owned(), lease.to_vec());
        pins::Entity::delete_by_id(id).exec(self.db).await?;
        self.note_unpinned(vec![sha256.0.to_vec()]).await
    }
}

/// Blobs that nothing keeps.
pub(super) fn has_no_pins() -> Condition {
    let mut pinned = Query::select();
    pinned.column(pins::Column::Sha256).from(pins::Entity);
    Condition::all().add(blobs::Column::Sha256.not_in_subquery(pinned.take()))
}

/// Pins of groups that a reader can see.
fn is_of_visible_group() -> SimpleExpr {
    let mut visible = Query::select();
    visible.column(groups::Column::GroupId).from(groups::Entity).and_where(groups::Column::Visible.eq(true));
    pins::Column::Kind.eq(PinKind::Group.as_str()).and(pins::Column::Reference.in_subquery(visible.take()))
}

/// Blobs that nothing kept since before `before`.
fn is_garbage(before: Timestamp) -> Condition {
    Condition::all().add(blobs::Column::UnpinnedAt.lte(millis(before))).add(has_no_pins())
}

/// A row as a blob and its file.
pub(super) fn stored_blob(row: &blobs::Model) -> Result<StoredBlob, MetaError> {
    let checked = || {
        Ok(StoredBlob {
            blob: BlobRef {
                sha256: ContentHash(fixed(&row.sha256)?),
                blake3: Blake3Root(fixed(&row.blake3)?),
                size: from_column(row.size)?,
            },
            generation: from_column(row.generation)?,
        })
    };
    checked().map_err(|damage: super::column::Damage| damage.within("mynet_blobs"))
}

impl Meta {
    /// The row of a blob, and how many pins keep it.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn blob(&self, sha256: &ContentHash) -> Result<Option<BlobRow>, MetaError> {
        use sea_orm::PaginatorTrait;
        let Some(row) = blobs::Entity::find_by_id(sha256.0.to_vec()).one(&self.read).await? else { return Ok(None) };
        let pins = pins::Entity::find().filter(pins::Column::Sha256.eq(sha256.0.to_vec())).count(&self.read).await?;
        let unpinned_at = row.unpinned_at.map(time).transpose().map_err(|damage| damage.within("mynet_blobs"))?;
        Ok(Some(BlobRow { stored: stored_blob(&row)?, quarantined: row.state == QUARANTINED, pins, unpinned_at }))
    }

    /// Up to `limit` blobs in hash order after `after`; for scrubs and sweeps that walk everything.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn blobs_after(&self, after: Option<&ContentHash>, limit: u64) -> Result<Vec<StoredBlob>, MetaError> {
        let mut query = blobs::Entity::find().order_by_asc(blobs::Column::Sha256).limit(limit);
        if let Some(after) = after {
            query = query.filter(blobs::Column::Sha256.gt(after.0.to_vec()));
        }
        query.all(&self.read).await?.iter().map(stored_blob).collect()
    }

    /// Marks a blob as damaged; it is offered to nobody until a good copy replaces it. Returns whether it was here with
    /// this generation.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn quarantine(&self, stored: &StoredBlob) -> Result<bool, MetaError> {
        let marked = blobs::Entity::update_many()
            .col_expr(blobs::Column::State, Expr::value(QUARANTINED))
            .filter(blobs::Column::Sha256.eq(stored.blob.sha256.0.to_vec()))
            .filter(blobs::Column::Generation.eq(to_column("generation", stored.generation)?))
            .exec(&self.write)
            .await?;
        Ok(marked.rows_affected > 0)
    }

    /// Marks all blobs as damaged, as [`Self::quarantine`] does, and returns how many were not before.
    ///
    /// # Errors
    /// [`MetaError`]; nothing was marked then.
    pub async fn quarantine_all(&self) -> Result<u64, MetaError> {
        let marked = blobs::Entity::update_many()
            .col_expr(blobs::Column::State, Expr::value(QUARANTINED))
            .filter(blobs::Column::State.eq(BLOB_OK))
            .exec(&self.write)
            .await?;
        Ok(marked.rows_affected)
    }

    /// Up to `limit` lost blobs in hash order after `after`: those in quarantine that a visible group keeps.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn lost_after(&self, after: Option<&ContentHash>, limit: u64) -> Result<Vec<LostBlob>, MetaError> {
        let mut kept = Query::select();
        kept.column(pins::Column::Sha256).from(pins::Entity).and_where(is_of_visible_group());
        let mut query = blobs::Entity::find()
            .filter(blobs::Column::State.eq(QUARANTINED))
            .filter(blobs::Column::Sha256.in_subquery(kept.take()))
            .order_by_asc(blobs::Column::Sha256)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(blobs::Column::Sha256.gt(after.0.to_vec()));
        }
        let mut lost = Vec::new();
        for row in query.all(&self.read).await? {
            let of_blob = pins::Entity::find().filter(pins::Column::Sha256.eq(row.sha256.clone()));
            let kept_by = of_blob.filter(is_of_visible_group()).all(&self.read).await?;
            let groups = kept_by.iter().map(|pin| Ok(GroupId(fixed(&pin.reference)?))).collect::<Result<_, _>>();
            let groups = groups.map_err(|damage: super::column::Damage| damage.within("mynet_pins"))?;
            lost.push(LostBlob { stored: stored_blob(&row)?, groups });
        }
        Ok(lost)
    }

    /// Has the row of a lost blob name a new, verified file of it. If the row went, or another good file came first, the
    /// new one is redundant.
    ///
    /// # Errors
    /// [`WriteError`]; the row is as it was then.
    pub async fn refill(&self, new: &StoredBlob, now: Timestamp) -> Result<BatchDone, WriteError> {
        let transaction = self.begin().await?;
        let mut scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        match blobs::Entity::find_by_id(new.blob.sha256.0.to_vec()).one(scope.db).await? {
            Some(_) => scope.put_blobs(std::slice::from_ref(new)).await?,
            None => scope.done.redundant.push(*new),
        }
        let done = scope.done;
        transaction.commit().await?;
        Ok(done)
    }

    /// The file of a lost blob came back and was verified whole: its row is good again.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn found_again(&self, stored: &StoredBlob) -> Result<(), MetaError> {
        blobs::Entity::update_many()
            .col_expr(blobs::Column::State, Expr::value(BLOB_OK))
            .filter(blobs::Column::Sha256.eq(stored.blob.sha256.0.to_vec()))
            .filter(blobs::Column::Generation.eq(to_column("generation", stored.generation)?))
            .exec(&self.write)
            .await?;
        Ok(())
    }

    /// A blob that nothing pins was read: its grace begins anew.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn touch(&self, sha256: &ContentHash, now: Timestamp) -> Result<(), MetaError> {
        blobs::Entity::update_many()
            .col_expr(blobs::Column::UnpinnedAt, Expr::value(millis(now)))
            .filter(blobs::Column::Sha256.eq(sha256.0.to_vec()))
            .filter(blobs::Column::UnpinnedAt.is_not_null())
            .exec(&self.write)
            .await?;
        Ok(())
    }

    /// Up to `limit` blobs that nothing kept since before `before`: what [`Self::collect`] would delete now.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn garbage(&self, before: Timestamp, limit: u64) -> Result<Vec<StoredBlob>, MetaError> {
        let query = blobs::Entity::find().filter(is_garbage(before)).order_by_asc(blobs::Column::UnpinnedAt);
        query.limit(limit).all(&self.read).await?.iter().map(stored_blob).collect()
    }

    /// Deletes the rows of those `candidates` that are garbage still, looking again in the transaction that deletes, and
    /// returns the files to unlink. A crash before the unlink leaves files that no row names, for the sweep.
    ///
    /// # Errors
    /// [`MetaError`]; no row was deleted then.
    pub async fn collect(&self, candidates: &[StoredBlob], before: Timestamp) -> Result<Vec<StoredBlob>, MetaError> {
        let transaction = self.begin().await?;
        let mut files = Vec::new();
        for candidate in candidates {
            let deleted = blobs::Entity::delete_many()
                .filter(blobs::Column::Sha256.eq(candidate.blob.sha256.0.to_vec()))
                .filter(blobs::Column::Generation.eq(to_column("generation", candidate.generation)?))
                .filter(is_garbage(before))
                .exec(&transaction)
                .await?;
            if deleted.rows_affected > 0 {
                files.push(*candidate);
            }
        }
        transaction.commit().await?;
        Ok(files)
    }
}
