//! Receipts, and the extension columns that follow from them.
//!
//! **Invariant:** `my_network_enabled`, `replica_count`, `replication_status`, `consensus_achieved`, `replicated_on_peers`,
//! `last_sync_timestamp` and `network_metadata` are a projection of receipts, certificate and manifest; `project` is their
//! only writer and runs in the transaction that changed what they follow from.

use mynet_types::{ManifestHash, NodeId, SignedReceipt, Timestamp};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, QuerySelect,
    prelude::Json,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    Meta, MetaError,
    column::{calendar, fixed, from_calendar, millis, pack_record, time},
    groups::signed_manifest_of,
    model::{ReplicationStatus, WriteError},
    schema::{
        content::stored_content,
        holdings::{groups, receipts, states},
    },
    sql,
    write::{BatchDone, WriteScope},
};

/// Groups whose receipts are expired in one transaction: keeps the writer free for others.
const SWEEP_MAX: u64 = 256;

/// What the status of a group, and with it every extension column, follows from.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) published: bool,
    pub(super) started: bool,
    pub(super) failed: bool,
    pub(super) count: i32,
    pub(super) quorum: i32,
    pub(super) replicas: i32,
    /// Everybody with an unexpired receipt but this node.
    pub(super) peers: Vec<NodeId>,
    pub(super) synced_at: Option<Timestamp>,
}

impl Standing {
    /// `replication_status` by rule 3 of the design's section 16.
    pub(super) fn status(&self) -> ReplicationStatus {
        match () {
            () if self.failed => ReplicationStatus::Failed,
            () if !self.published => ReplicationStatus::None,
            () if self.count >= self.replicas => ReplicationStatus::Replicated,
            () if self.count >= self.quorum => ReplicationStatus::Degraded,
            () if self.count > 0 || self.started => ReplicationStatus::Replicating,
            () => ReplicationStatus::Pending,
        }
    }

    /// The extension columns of one row of the group.
    pub(super) fn extension(&self, model: &groups::Model, member: &states::Model) -> Extension {
        Extension {
            my_network_enabled: self.published,
            replica_count: self.count,
            replication_status: self.status().as_str().to_owned(),
            consensus_achieved: model.certified,
            replicated_on_peers: self.peers.iter().map(|peer| Json::from(peer.to_string())).collect(),
            last_sync_timestamp: self.synced_at,
            network_metadata: network_metadata(model, member),
        }
    }
}

/// The extension columns of one row of `stored_content`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Extension {
    my_network_enabled: bool,
    replica_count: i32,
    replication_status: String,
    consensus_achieved: bool,
    replicated_on_peers: Json,
    last_sync_timestamp: Option<Timestamp>,
    network_metadata: Json,
}

impl Extension {
    /// Those of a row as it is.
    pub(super) fn of(row: &stored_content::Model) -> Self {
        Self {
            my_network_enabled: row.my_network_enabled,
            replica_count: row.replica_count,
            replication_status: row.replication_status.clone(),
            consensus_achieved: row.consensus_achieved,
            replicated_on_peers: row.replicated_on_peers.clone(),
            last_sync_timestamp: row.last_sync_timestamp.map(from_calendar),
            network_metadata: row.network_metadata.clone(),
        }
    }

    /// The columns in which `other` differs.
    pub(super) fn differing(&self, other: &Self) -> Vec<&'static str> {
        let columns = [
            ("my_network_enabled", self.my_network_enabled == other.my_network_enabled),
            ("replica_count", self.replica_count == other.replica_count),
            ("replication_status", self.replication_status == other.replication_status),
            ("consensus_achieved", self.consensus_achieved == other.consensus_achieved),
            ("replicated_on_peers", self.replicated_on_peers == other.replicated_on_peers),
            ("last_sync_timestamp", self.last_sync_timestamp == other.last_sync_timestamp),
            ("network_metadata", self.network_metadata == other.network_metadata),
        ];
        columns.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
    }

    /// What writes them.
    fn write(self) -> stored_content::ActiveModel {
        stored_content::ActiveModel {
            my_network_enabled: Set(self.my_network_enabled),
            replica_count: Set(self.replica_count),
            replication_status: Set(self.replication_status),
            consensus_achieved: Set(self.consensus_achieved),
            replicated_on_peers: Set(self.replicated_on_peers),
            last_sync_timestamp: Set(self.last_sync_timestamp.map(calendar)),
            network_metadata: Set(self.network_metadata),
            ..Default::default()
        }
    }
}

impl WriteScope<'_> {
    pub(super) async fn receipts(
        &mut self,
        manifest_hash: ManifestHash,
        known: &[SignedReceipt],
    ) -> Result<(), WriteError> {
        let Some(model) = self.find_manifest(manifest_hash).await? else { return Ok(()) };
        let manifest = signed_manifest_of(&model)?.body;
        for receipt in known.iter().filter(|receipt| receipt.body.counts_for(&manifest_hash, &manifest)) {
            let row = receipts::Model {
                manifest_hash: manifest_hash.0.to_vec(),
                holder: receipt.body.holder.0.to_vec(),
                until: millis(receipt.body.until),
                receipt: pack_record(receipt),
            };
            use receipts::Column::{Holder, ManifestHash, Receipt, Until};
            let longer = Expr::col((receipts::Entity, Until)).lt(row.until);
            let mut conflict = OnConflict::columns([ManifestHash, Holder]);
            conflict.update_columns([Until, Receipt]).action_and_where(longer);
            sql::upsert(self.db, row, &mut conflict).await?;
        }
        let synced = groups::ActiveModel { synced_at: Set(Some(millis(self.now))), ..model.into_active_model() };
        let model = groups::Entity::update(synced).exec(self.db).await?;
        self.project(&model).await?;
        Ok(())
    }

    /// Writes the extension columns of every row of the group, and its status.
    pub(super) async fn project(&self, model: &groups::Model) -> Result<(), MetaError> {
        let standing = self.standing(model).await?;
        let projected = groups::ActiveModel {
            status: Set(standing.status().as_str().to_owned()),
            replica_count: Set(standing.count),
            ..model.clone().into_active_model()
        };
        groups::Entity::update(projected).exec_without_returning(self.db).await?;
        let members = states::Entity::find()
            .filter(states::Column::GroupId.eq(model.group_id.clone()))
            .filter(states::Column::Version.eq(model.version))
            .all(self.db)
            .await?;
        for member in members {
            let row = standing.extension(model, &member).write();
            let row = stored_content::ActiveModel { updated_at: Set(calendar(self.now)), ..row };
            // States that are not held have no row, so none may match.
            stored_content::Entity::update_many()
                .set(row)
                .filter(stored_content::Column::Id.eq(member.content_id))
                .exec(self.db)
                .await?;
        }
        Ok(())
    }

    /// What the columns of a group follow from, as it is now.
    pub(super) async fn standing(&self, model: &groups::Model) -> Result<Standing, MetaError> {
        let holders = self.holders(&model.manifest_hash).await?;
        let synced_at = model.synced_at.map(time).transpose().map_err(|damage| damage.within("mynet_groups"))?;
        Ok(Standing {
            published: model.published,
            started: model.started,
            failed: model.failure.is_some(),
            count: i32::try_from(holders.len()).unwrap_or(i32::MAX),
            quorum: model.quorum,
            replicas: model.replicas,
            peers: holders.into_iter().filter(|holder| *holder != self.me).collect(),
            synced_at,
        })
    }

    /// Who holds a manifest now.
    async fn holders(&self, manifest_hash: &[u8]) -> Result<Vec<NodeId>, MetaError> {
        let holders: Vec<Vec<u8>> = receipts::Entity::find()
            .select_only()
            .column(receipts::Column::Holder)
            .filter(receipts::Column::ManifestHash.eq(manifest_hash.to_vec()))
            .filter(receipts::Column::Until.gt(millis(self.now)))
            .order_by_asc(receipts::Column::Holder)
            .into_tuple()
            .all(self.db)
            .await?;
        let holders = holders.iter().map(|holder| Ok(NodeId(fixed(holder)?))).collect::<Result<_, _>>();
        holders.map_err(|damage: super::column::Damage| damage.within("mynet_receipts"))
    }
}

/// The fixed keys of `network_metadata`; absent values are null.
fn network_metadata(model: &groups::Model, member: &states::Model) -> Json {
    let hex_of = |bytes: &[u8]| Json::from(hex::encode(bytes));
    let blake3 = member.blake3.as_ref().map(|root| format!("blake3:{}", hex::encode(root)));
    [
        ("group_id", hex_of(&model.group_id)),
        ("manifest_hash", hex_of(&model.manifest_hash)),
        ("version", Json::from(model.version)),
        ("blake3", Json::from(blake3)),
        ("certificate_hash", Json::from(model.certificate_hash.as_ref().map(hex::encode))),
        ("placement_slot", Json::from(model.placement_slot)),
    ]
    .into_iter()
    .collect()
}

impl Meta {
    /// Drops receipts that ended by `now` and brings the columns that follow from them up to date. Returns how many groups
    /// were touched; call again while it is not zero.
    ///
    /// # Errors
    /// [`MetaError`]; nothing changed then.
    pub async fn expire_receipts(&self, now: Timestamp) -> Result<usize, MetaError> {
        let transaction = self.begin().await?;
        let scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        let manifests: Vec<Vec<u8>> = receipts::Entity::find()
            .select_only()
            .column(receipts::Column::ManifestHash)
            .distinct()
            .filter(receipts::Column::Until.lte(millis(now)))
            .limit(SWEEP_MAX)
            .into_tuple()
            .all(&transaction)
            .await?;
        for manifest in &manifests {
            receipts::Entity::delete_many()
                .filter(receipts::Column::ManifestHash.eq(manifest.clone()))
                .filter(receipts::Column::Until.lte(millis(now)))
                .exec(&transaction)
                .await?;
            let hash = ManifestHash(fixed(manifest).map_err(|damage| damage.within("mynet_receipts"))?);
            if let Some(model) = scope.find_manifest(hash).await? {
                scope.project(&model).await?;
            }
        }
        transaction.commit().await?;
        Ok(manifests.len())
    }
}

#[cfg(test)]
mod tests {
    use super::{ReplicationStatus, Standing};

    #[test]
    fn status_follows_from_count_quorum_and_replicas() {
        let check = |published, started, count, expected| {
            let standing = Standing {
                published,
                started,
                failed: false,
                count,
                quorum: 2,
                replicas: 3,
                peers: Vec::new(),
                synced_at: None,
            };
            assert_eq!(standing.status(), expected, "{standing:?}");
            assert_eq!(Standing { failed: true, ..standing }.status(), ReplicationStatus::Failed);
        };
        check(false, false, 0, ReplicationStatus::None);
        check(true, false, 0, ReplicationStatus::Pending);
        check(true, true, 0, ReplicationStatus::Replicating);
        check(true, false, 1, ReplicationStatus::Replicating);
        check(true, true, 2, ReplicationStatus::Degraded);
        check(true, true, 3, ReplicationStatus::Replicated);
        check(true, true, 4, ReplicationStatus::Replicated);
    }
}
