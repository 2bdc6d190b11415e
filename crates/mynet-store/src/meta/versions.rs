//! One version of a group in the place of another, and what it takes to remove one.
//!
//! **Invariants**
//! 1. A reader sees the old version whole or the new one whole: rows, links, states, wraps and pins change hands in one
//!    transaction.
//! 2. Only a higher version takes a place. Whether it is the right one is for whoever hands it in to know.
//! 3. What was proved of the old version, receipts and certificate, goes with it. Who was told to commit a version is of the
//!    group, and stays.

use mynet_types::{ContentHash, GroupId, Manifest, ManifestHash, NodeId, SignedWrap};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, EntityTrait, ExprTrait, IntoActiveModel, QueryFilter, QueryOrder,
    QuerySelect, prelude::Uuid, sea_query::OnConflict,
};

use super::{
    Meta, MetaError, SMALL_RECORD_MAX,
    column::{Damage, fixed, from_column, pack, to_column, unpack, unpack_record},
    model::{GroupRows, PinKind, StoredBlob, WriteError},
    schema::{
        content::{content_relationships, encryption_keys, stored_content, user_content},
        holdings::{certificates, groups, receipts, states, told, wraps},
        pending::{lineages, transactions},
    },
    sql,
    transactions::COMMITTED,
    write::WriteScope,
};

/// Refuses a manifest that is neither the one here nor of a higher version.
pub(super) fn refuse_older(here: &groups::Model, manifest: &Manifest) -> Result<(), WriteError> {
    let same = here.manifest_hash == manifest.hash().0;
    if same || here.version < to_column("version", manifest.version)? {
        return Ok(());
    }
    let have = ManifestHash(fixed(&here.manifest_hash).map_err(|damage| damage.within("mynet_groups"))?);
    Err(WriteError::OtherManifest { group_id: manifest.group_id, have })
}

impl WriteScope<'_> {
    /// Puts a higher version in the place of `old`. What this node was to do with the group stays as it was.
    pub(super) async fn replace(&mut self, old: groups::Model, rows: &GroupRows) -> Result<groups::Model, WriteError> {
        let manifest = &rows.manifest.body;
        let wraps = self.wraps_of(&old).await?;
        self.take_away(&old).await?;
        self.forget_receipts_given(&old.group_id).await?;
        self.drop_old_keys(&old, manifest).await?;
        let model = self.insert_group(rows, old.origin).await?;
        // Granted while the version was made: those of a key that is over are left out.
        self.wraps(manifest.group_id, &wraps).await?;
        self.move_users(old.root_content_id, model.root_content_id).await?;
        let kept = groups::ActiveModel {
            published: Set(old.published),
            ordered_at: Set(old.ordered_at),
            mode: Set(old.mode),
            ..model.into_active_model()
        };
        Ok(groups::Entity::update(kept).exec(self.db).await?)
    }

    /// These are told to commit a version of a group; the first one stays. Nothing is kept of one that is not here: it was deleted meanwhile.
    pub(super) async fn told(&self, (group_id, version): (GroupId, u64), nodes: &[NodeId]) -> Result<(), WriteError> {
        if self.find_group(group_id).await?.is_none() {
            return Ok(());
        }
        let version = to_column("version", version)?;
        for node in nodes {
            let row = told::Model { group_id: group_id.0.to_vec(), node: node.0.to_vec(), version };
            sql::insert_new(self.db, row).await?;
        }
        Ok(())
    }

    /// The receipts that this node gave out for a group are not given out again.
    pub(super) async fn forget_receipts_given(&self, group_id: &[u8]) -> Result<(), WriteError> {
        let ended = transactions::Column::GroupId.eq(group_id.to_vec()).and(transactions::Column::Phase.eq(COMMITTED));
        transactions::Entity::delete_many().filter(ended).exec(self.db).await?;
        Ok(())
    }

    /// The wraps of a group version.
    async fn wraps_of(&self, model: &groups::Model) -> Result<Vec<SignedWrap>, WriteError> {
        let rows = wraps::Entity::find()
            .filter(wraps::Column::GroupId.eq(model.group_id.clone()))
            .filter(wraps::Column::Version.eq(model.version))
            .all(self.db)
            .await?;
        let decoded: Result<Vec<_>, Damage> =
            rows.iter().map(|row| unpack_record(&row.wrap, SMALL_RECORD_MAX)).collect();
        decoded.map_err(|damage| damage.within("mynet_wraps").into())
    }

    /// Keeps how versions follow each other, and pins what the next one needs.
    pub(super) async fn lineage(
        &mut self,
        group_id: GroupId,
        lineage: Option<&[u8]>,
        (kept, dropped): (&[StoredBlob], &[ContentHash]),
    ) -> Result<(), WriteError> {
        match lineage {
            Some(bytes) => {
                self.known_group(group_id).await?;
                let row = lineages::Model { group_id: group_id.0.to_vec(), lineage: pack(bytes) };
                use lineages::Column::{GroupId, Lineage};
                sql::upsert(self.db, row, OnConflict::column(GroupId).update_column(Lineage)).await?;
            }
            None => {
                lineages::Entity::delete_by_id(group_id.0.to_vec()).exec(self.db).await?;
            }
        }
        self.put_blobs(kept).await?;
        for stored in kept {
            self.pin(stored.blob.sha256, PinKind::Group, group_id.0).await?;
        }
        self.unpin(dropped, PinKind::Group, group_id.0).await
    }

    /// Removes what is written of a group version: rows, links, states, wraps, receipts, certificate and pins. Its content
    /// keys and who uploaded it are of the group, and stay.
    pub(super) async fn take_away(&mut self, model: &groups::Model) -> Result<(), WriteError> {
        let group_id = fixed(&model.group_id).map_err(|damage| damage.within("mynet_groups"))?;
        let ids: Vec<Uuid> = states::Entity::find()
            .select_only()
            .column(states::Column::ContentId)
            .filter(states::Column::GroupId.eq(model.group_id.clone()))
            .filter(states::Column::Version.eq(model.version))
            .into_tuple()
            .all(self.db)
            .await?;
        let linked = Condition::any()
            .add(content_relationships::Column::ParentContentId.is_in(ids.clone()))
            .add(content_relationships::Column::ChildContentId.is_in(ids.clone()));
        content_relationships::Entity::delete_many().filter(linked).exec(self.db).await?;
        stored_content::Entity::delete_many().filter(stored_content::Column::Id.is_in(ids)).exec(self.db).await?;
        states::Entity::delete_many()
            .filter(states::Column::GroupId.eq(model.group_id.clone()))
            .filter(states::Column::Version.eq(model.version))
            .exec(self.db)
            .await?;
        wraps::Entity::delete_many()
            .filter(wraps::Column::GroupId.eq(model.group_id.clone()))
            .filter(wraps::Column::Version.eq(model.version))
            .exec(self.db)
            .await?;
        let of_manifest = model.manifest_hash.clone();
        receipts::Entity::delete_many()
            .filter(receipts::Column::ManifestHash.eq(of_manifest.clone()))
            .exec(self.db)
            .await?;
        certificates::Entity::delete_by_id(of_manifest).exec(self.db).await?;
        self.unpin_all(PinKind::Group, group_id).await?;
        groups::Entity::delete_by_id((model.group_id.clone(), model.version)).exec(self.db).await?;
        Ok(())
    }

    /// Destroys the content keys of older versions, unless the next version goes on with them.
    async fn drop_old_keys(&self, old: &groups::Model, next: &Manifest) -> Result<(), WriteError> {
        encryption_keys::Entity::delete_many()
            .filter(encryption_keys::Column::GroupId.eq(old.group_id.clone()))
            .filter(encryption_keys::Column::Version.lt(to_column("key version", next.key_version())?))
            .exec(self.db)
            .await?;
        Ok(())
    }

    /// Users have the root of a group; if that changed, they have the new one.
    async fn move_users(&self, from: Uuid, to: Uuid) -> Result<(), WriteError> {
        if from == to {
            return Ok(());
        }
        let of_old = user_content::Column::ContentId.eq(from);
        for row in user_content::Entity::find().filter(of_old.clone()).all(self.db).await? {
            sql::insert_new(self.db, user_content::Model { content_id: to, ..row }).await?;
        }
        user_content::Entity::delete_many().filter(of_old).exec(self.db).await?;
        Ok(())
    }
}

impl Meta {
    /// Every node that was told to commit a group that is coordinated here, or was, in the order of their ids, each with the first
    /// version of which it was.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn told(&self, group_id: GroupId) -> Result<Vec<(NodeId, u64)>, MetaError> {
        let rows = told::Entity::find()
            .filter(told::Column::GroupId.eq(group_id.0.to_vec()))
            .order_by_asc(told::Column::Node)
            .all(&self.read)
            .await?;
        let known = |row: &told::Model| Ok((NodeId(fixed(&row.node)?), from_column(row.version)?));
        let known: Result<Vec<_>, Damage> = rows.iter().map(known).collect();
        known.map_err(|damage| damage.within("mynet_told"))
    }

    /// Groups that are here in a later version than the first, and which; `limit` of them at most.
    pub(super) async fn later_versions(&self, limit: u64) -> Result<Vec<(GroupId, u64)>, MetaError> {
        let rows: Vec<(Vec<u8>, i64)> = groups::Entity::find()
            .select_only()
            .column(groups::Column::GroupId)
            .column(groups::Column::Version)
            .filter(groups::Column::Version.gt(1))
            .limit(limit)
            .into_tuple()
            .all(&self.read)
            .await?;
        let known = |(group_id, version): &(Vec<u8>, i64)| Ok((GroupId(fixed(group_id)?), from_column(*version)?));
        let known: Result<Vec<_>, Damage> = rows.iter().map(known).collect();
        known.map_err(|damage| damage.within("mynet_groups"))
    }

    /// What [`MetaWrite::Lineage`](super::MetaWrite::Lineage) kept, of one group or of all.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn lineages(&self, group_id: Option<GroupId>) -> Result<Vec<(GroupId, Vec<u8>)>, MetaError> {
        let mut found = lineages::Entity::find().order_by_asc(lineages::Column::GroupId);
        if let Some(group_id) = group_id {
            found = found.filter(lineages::Column::GroupId.eq(group_id.0.to_vec()));
        }
        let kept = |row: lineages::Model| Ok((GroupId(fixed(&row.group_id)?), unpack(&row.lineage)?.to_vec()));
        let rows: Result<Vec<_>, Damage> = found.all(&self.read).await?.into_iter().map(kept).collect();
        rows.map_err(|damage| damage.within("mynet_lineages"))
    }
}
