//! Whom this node knows: admissions, announcements, invitations, trust.

use mynet_types::{Invite, NodeId, SignedAdmission, SignedInvite, SignedNodeRecord, Timestamp};
use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder,
    sea_query::{Expr, ExprTrait, OnConflict},
};

use super::{
    Meta, MetaError, SMALL_RECORD_MAX,
    column::{Damage, fixed, millis, pack_record, to_column, unpack_record},
    schema::members::{admissions, invites, node_records, trust},
    sql,
};

/// Why an invitation admits nobody.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// This node made no such invitation, or forgot it.
    #[error("the invitation was not made by this node")]
    Unknown,
    /// It has ended.
    #[error("the invitation has expired")]
    Expired,
    /// It was redeemed as often as it may be.
    #[error("the invitation was used up")]
    UsedUp,
    /// The database.
    #[error(transparent)]
    Meta(#[from] MetaError),
}

impl From<sea_orm::DbErr> for RedeemError {
    fn from(error: sea_orm::DbErr) -> Self {
        Self::Meta(error.into())
    }
}

impl Meta {
    /// Keeps verified admissions and announcements in one transaction. Of two admissions of a node the one that lasts
    /// longer stays, of two announcements the one with the higher sequence number.
    ///
    /// # Errors
    /// [`MetaError`]; nothing was kept.
    pub async fn put_members(
        &self,
        admissions: &[SignedAdmission],
        records: &[SignedNodeRecord],
    ) -> Result<(), MetaError> {
        let transaction = self.begin().await?;
        for record in admissions {
            put_admission(&transaction, record).await?;
        }
        for record in records {
            put_node_record(&transaction, record).await?;
        }
        Ok(transaction.commit().await?)
    }

    /// Admissions by node; also those that have ended, because a renewal keeps their nonce and with it the node's place.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn admissions(&self) -> Result<Vec<SignedAdmission>, MetaError> {
        let rows = admissions::Entity::find().order_by_asc(admissions::Column::Node).all(&self.read).await?;
        let decoded = rows.iter().map(|row| unpack_record(&row.admission, SMALL_RECORD_MAX)).collect::<Result<_, _>>();
        decoded.map_err(|damage: Damage| damage.within("mynet_admissions"))
    }

    /// The newest announcement of every node, by node; also those no longer to be believed, which still say where to dial.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn node_records(&self) -> Result<Vec<SignedNodeRecord>, MetaError> {
        let rows = node_records::Entity::find().order_by_asc(node_records::Column::Node).all(&self.read).await?;
        let decoded = rows.iter().map(|row| unpack_record(&row.record, SMALL_RECORD_MAX)).collect::<Result<_, _>>();
        decoded.map_err(|damage: Damage| damage.within("mynet_node_records"))
    }

    /// Keeps an invitation of this node, with all its uses.
    ///
    /// # Errors
    /// [`MetaError::Database`] also if one of the same id is here.
    pub async fn put_invite(&self, invite: &SignedInvite) -> Result<(), MetaError> {
        let row = invites::Model {
            id: invite.body.id.to_vec(),
            uses_left: invite.body.uses.into(),
            expires_at: millis(invite.body.expires_at),
            invite: pack_record(invite),
        };
        sql::insert(&self.write, row).await?;
        Ok(())
    }

    /// Takes one use of an invitation, durably, before anybody is admitted for it: a crash may lose a use, never give one
    /// twice.
    ///
    /// # Errors
    /// [`RedeemError`]; no use was taken then.
    pub async fn redeem_invite(&self, id: &[u8; 16], now: Timestamp) -> Result<Invite, RedeemError> {
        let taken = invites::Entity::update_many()
            .col_expr(invites::Column::UsesLeft, Expr::col(invites::Column::UsesLeft).sub(1))
            .filter(invites::Column::Id.eq(id.to_vec()))
            .filter(invites::Column::UsesLeft.gt(0))
            .filter(invites::Column::ExpiresAt.gt(millis(now)))
            .exec(&self.write)
            .await?;
        let row = invites::Entity::find_by_id(id.to_vec()).one(&self.write).await?.ok_or(RedeemError::Unknown)?;
        if taken.rows_affected > 0 {
            let invite: SignedInvite =
                unpack_record(&row.invite, SMALL_RECORD_MAX).map_err(|damage| damage.within("mynet_invites"))?;
            return Ok(invite.body);
        }
        Err(if row.expires_at <= millis(now) { RedeemError::Expired } else { RedeemError::UsedUp })
    }

    /// Notes whether the operator trusts a node with decrypted states.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn set_trust(&self, node: &NodeId, trusted: bool, now: Timestamp) -> Result<(), MetaError> {
        let row = trust::Model { node: node.0.to_vec(), trusted, set_at: millis(now) };
        use trust::Column::{Node, SetAt, Trusted};
        sql::upsert(&self.write, row, OnConflict::column(Node).update_columns([Trusted, SetAt])).await?;
        Ok(())
    }

    /// What the operator decided about trust, by node. Nodes not in it follow their admission.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn trust(&self) -> Result<Vec<(NodeId, bool)>, MetaError> {
        let rows = trust::Entity::find().order_by_asc(trust::Column::Node).all(&self.read).await?;
        let decoded = rows.iter().map(|row| Ok((NodeId(fixed(&row.node)?), row.trusted))).collect::<Result<_, _>>();
        decoded.map_err(|damage: Damage| damage.within("mynet_trust"))
    }
}

/// Keeps an admission unless one that lasts at least as long is here.
async fn put_admission(db: &DatabaseTransaction, record: &SignedAdmission) -> Result<(), MetaError> {
    let row = admissions::Model {
        node: record.body.node.0.to_vec(),
        admitted_at: millis(record.body.admitted_at),
        expires_at: millis(record.body.expires_at),
        admission: pack_record(record),
    };
    use admissions::Column::{Admission, AdmittedAt, ExpiresAt, Node};
    let longer = Expr::col((admissions::Entity, ExpiresAt)).lt(row.expires_at);
    let mut conflict = OnConflict::column(Node);
    conflict.update_columns([AdmittedAt, ExpiresAt, Admission]).action_and_where(longer);
    sql::upsert(db, row, &mut conflict).await?;
    Ok(())
}

/// Keeps an announcement unless one with the same or a higher sequence number is here.
async fn put_node_record(db: &DatabaseTransaction, record: &SignedNodeRecord) -> Result<(), MetaError> {
    let row = node_records::Model {
        node: record.body.node.0.to_vec(),
        seq: to_column("sequence number", record.body.seq)?,
        record: pack_record(record),
    };
    use node_records::Column::{Node, Record, Seq};
    let newer = Expr::col((node_records::Entity, Seq)).lt(row.seq);
    let mut conflict = OnConflict::column(Node);
    conflict.update_columns([Seq, Record]).action_and_where(newer);
    sql::upsert(db, row, &mut conflict).await?;
    Ok(())
}
