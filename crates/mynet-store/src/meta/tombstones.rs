//! Deleted groups: what goes, what stays, and who has confirmed.
//!
//! **Invariants**
//! 1. A group and its tombstone are never here together: one transaction takes the rows and writes the tombstone, and no
//!    group becomes visible, and none is staged, while its tombstone is here.
//! 2. A tombstone counts against groups of the owner that it names only.
//! 3. The content key of a deleted group is not in the database any more; `secure_delete` overwrites its page.
//!
//! Blobs only lose their pins here; the collector frees them after the grace period.

use std::collections::BTreeMap;

use mynet_types::{
    BoundedVec, GroupId, Manifest, NodeId, SignedTombstone, Tombstone,
    wire::{TOMBSTONES_PER_MESSAGE_MAX, Tombstones},
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

use super::{
    Meta, MetaError, SMALL_RECORD_MAX,
    column::{Damage, fixed, from_column, pack_record, unpack_record},
    model::WriteError,
    schema::{
        content::{encryption_keys, user_content},
        deletions::{confirmations, tombstones},
        holdings::{groups, told},
        pending::{coordinations, lineages},
    },
    sql,
    write::WriteScope,
};

/// Tombstones of groups that were never here, kept per peer that told of them; its oldest go first. A peer can make up any
/// number of owners, so this is what it can make this node keep: about a megabyte.
const STRANGE_MAX: u64 = 4096;
/// Tombstones that a restarted node begins with.
const RESTORED_MAX: u64 = 65_536;

/// A deletion and who has confirmed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// The owner's word.
    pub tombstone: Tombstone,
    /// Nodes that have it on disk.
    pub confirmed: Vec<NodeId>,
    /// Nodes that have not said so.
    pub silent: Vec<NodeId>,
}

/// A page of tombstones in the order in which they came here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TombstonePage {
    /// Where the next page begins.
    pub seq: u64,
    /// The tombstones.
    pub tombstones: Tombstones,
}

impl WriteScope<'_> {
    /// Whether the group of a manifest was deleted by its owner.
    pub(super) async fn is_deleted(&self, manifest: &Manifest) -> Result<bool, MetaError> {
        is_buried(self.db, manifest.group_id, &manifest.owner.0).await
    }

    pub(super) async fn bury(
        &mut self,
        tombstone: &SignedTombstone,
        from: Option<NodeId>,
        holders: &[NodeId],
    ) -> Result<(), WriteError> {
        let Tombstone { group_id, owner, .. } = tombstone.body;
        let was_here = self.purge(group_id, &owner.0).await?;
        for holder in holders {
            let row = confirmations::Model {
                group_id: group_id.0.to_vec(),
                owner: owner.0.to_vec(),
                node: holder.0.to_vec(),
                confirmed: false,
            };
            sql::insert_new(self.db, row).await?;
        }
        if is_buried(self.db, group_id, &owner.0).await? {
            return Ok(());
        }
        let last: Option<Option<i64>> = tombstones::Entity::find()
            .select_only()
            .column_as(tombstones::Column::Seq.max(), "last")
            .into_tuple()
            .one(self.db)
            .await?;
        let brought_by = from.filter(|_| !was_here).map(|from| from.0.to_vec());
        let row = tombstones::Model {
            group_id: group_id.0.to_vec(),
            owner: owner.0.to_vec(),
            seq: last.flatten().unwrap_or(0).saturating_add(1),
            tombstone: pack_record(tombstone),
            brought_by: brought_by.clone(),
        };
        sql::insert(self.db, row).await?;
        match brought_by {
            Some(peer) => self.forget_strange(peer).await,
            None => Ok(()),
        }
    }

    /// Forgets the oldest tombstone that `peer` brought of a group never here, if there are too many.
    async fn forget_strange(&mut self, peer: Vec<u8>) -> Result<(), WriteError> {
        let brought = tombstones::Entity::find().filter(tombstones::Column::BroughtBy.eq(peer));
        if brought.clone().count(self.db).await? <= STRANGE_MAX {
            return Ok(());
        }
        if let Some(oldest) = brought.order_by_asc(tombstones::Column::Seq).one(self.db).await? {
            tombstones::Entity::delete_by_id((oldest.group_id, oldest.owner)).exec(self.db).await?;
        }
        Ok(())
    }

    /// Removes every row of a group of this owner; says whether it was here.
    async fn purge(&mut self, group_id: GroupId, owner: &[u8; 32]) -> Result<bool, WriteError> {
        let of_group = groups::Column::GroupId.eq(group_id.0.to_vec()).and(groups::Column::Owner.eq(owner.to_vec()));
        let versions = groups::Entity::find().filter(of_group).all(self.db).await?;
        // What is on its way here is given up by a record of its own.
        let was_here = !versions.is_empty();
        if was_here {
            self.purge_versions(group_id, &versions).await?;
        }
        Ok(was_here)
    }

    /// Removes every row of a group, of which these versions are here.
    pub(super) async fn purge_versions(
        &mut self,
        group_id: GroupId,
        versions: &[groups::Model],
    ) -> Result<(), WriteError> {
        for version in versions {
            let of_users = user_content::Column::ContentId.eq(version.root_content_id);
            user_content::Entity::delete_many().filter(of_users).exec(self.db).await?;
            self.take_away(version).await?;
        }
        let id = group_id.0.to_vec();
        let keys = encryption_keys::Column::GroupId.eq(id.clone());
        encryption_keys::Entity::delete_many().filter(keys).exec(self.db).await?;
        coordinations::Entity::delete_by_id(id.clone()).exec(self.db).await?;
        lineages::Entity::delete_by_id(id.clone()).exec(self.db).await?;
        told::Entity::delete_many().filter(told::Column::GroupId.eq(id.clone())).exec(self.db).await?;
        self.forget_receipts_given(&id).await
    }

    pub(super) async fn confirmed(&mut self, group_id: GroupId, node: NodeId) -> Result<(), WriteError> {
        confirmations::Entity::update_many()
            .col_expr(confirmations::Column::Confirmed, Expr::value(true))
            .filter(confirmations::Column::GroupId.eq(group_id.0.to_vec()))
            .filter(confirmations::Column::Node.eq(node.0.to_vec()))
            .exec(self.db)
            .await?;
        Ok(())
    }
}

async fn is_buried<C: ConnectionTrait>(db: &C, group_id: GroupId, owner: &[u8; 32]) -> Result<bool, MetaError> {
    let id = (group_id.0.to_vec(), owner.to_vec());
    Ok(tombstones::Entity::find_by_id(id).one(db).await?.is_some())
}

fn tombstone_of(row: &tombstones::Model) -> Result<SignedTombstone, MetaError> {
    unpack_record(&row.tombstone, SMALL_RECORD_MAX).map_err(|damage| damage.within("mynet_tombstones"))
}

impl Meta {
    /// Whether the group of a manifest was deleted by its owner, as far as is known here.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn is_deleted(&self, manifest: &Manifest) -> Result<bool, MetaError> {
        is_buried(&self.read, manifest.group_id, &manifest.owner.0).await
    }

    /// The tombstone of a manifest's group, as its owner signed it.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn tombstone(&self, manifest: &Manifest) -> Result<Option<SignedTombstone>, MetaError> {
        let id = (manifest.group_id.0.to_vec(), manifest.owner.0.to_vec());
        let row = tombstones::Entity::find_by_id(id).one(&self.read).await?;
        row.as_ref().map(tombstone_of).transpose()
    }

    /// How far the deletion of a group of this owner came.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn deletion(&self, group_id: GroupId, owner: &[u8; 32]) -> Result<Option<Deletion>, MetaError> {
        let id = (group_id.0.to_vec(), owner.to_vec());
        let Some(row) = tombstones::Entity::find_by_id(id).one(&self.read).await? else { return Ok(None) };
        let tombstone = tombstone_of(&row)?.body;
        let mut deletion = Deletion { tombstone, confirmed: Vec::new(), silent: Vec::new() };
        let rows = confirmations::Entity::find()
            .filter(confirmations::Column::GroupId.eq(group_id.0.to_vec()))
            .filter(confirmations::Column::Owner.eq(owner.to_vec()))
            .order_by_asc(confirmations::Column::Node)
            .all(&self.read)
            .await?;
        for row in rows {
            let node = NodeId(fixed(&row.node).map_err(|damage| damage.within("mynet_confirmations"))?);
            if row.confirmed { &mut deletion.confirmed } else { &mut deletion.silent }.push(node);
        }
        Ok(Some(deletion))
    }

    /// Tombstones that came here after the place `seq`, as many as one message takes.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn tombstones_after(&self, seq: u64) -> Result<TombstonePage, MetaError> {
        let rows = tombstones::Entity::find()
            .filter(tombstones::Column::Seq.gt(i64::try_from(seq).unwrap_or(i64::MAX)))
            .order_by_asc(tombstones::Column::Seq)
            .limit(TOMBSTONES_PER_MESSAGE_MAX as u64)
            .all(&self.read)
            .await?;
        let last = rows.last().map(|row| from_column(row.seq)).transpose();
        let last = last.map_err(|damage: Damage| damage.within("mynet_tombstones"))?;
        let tombstones = rows.iter().map(tombstone_of).collect::<Result<Vec<_>, _>>()?;
        Ok(TombstonePage { seq: last.unwrap_or(seq), tombstones: BoundedVec::truncated(tombstones) })
    }

    /// The newest tombstones, oldest first.
    pub(super) async fn newest_tombstones(&self) -> Result<Vec<SignedTombstone>, MetaError> {
        let newest = tombstones::Entity::find().order_by_desc(tombstones::Column::Seq).limit(RESTORED_MAX);
        newest.all(&self.read).await?.iter().rev().map(tombstone_of).collect()
    }

    /// Tombstones that somebody has not confirmed, and who.
    pub(super) async fn unconfirmed(&self) -> Result<Vec<(SignedTombstone, Vec<NodeId>)>, MetaError> {
        let silent =
            confirmations::Entity::find().filter(confirmations::Column::Confirmed.eq(false)).all(&self.read).await?;
        let mut by_group: BTreeMap<(Vec<u8>, Vec<u8>), Vec<NodeId>> = BTreeMap::new();
        for row in silent {
            let node = NodeId(fixed(&row.node).map_err(|damage| damage.within("mynet_confirmations"))?);
            by_group.entry((row.group_id, row.owner)).or_default().push(node);
        }
        let mut unconfirmed = Vec::new();
        for (id, silent) in by_group {
            if let Some(row) = tombstones::Entity::find_by_id(id).one(&self.read).await? {
                unconfirmed.push((tombstone_of(&row)?, silent));
            }
        }
        Ok(unconfirmed)
    }
}
