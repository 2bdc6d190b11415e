//! API keys. Only a hash of each secret is kept: secrets are random and long, so one SHA-256 is enough.

use mynet_types::Timestamp;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr};

use super::{
    Meta, MetaError,
    column::{Damage, fixed, millis, time},
    schema::access::tokens,
    sql,
};

/// An API key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Names it; not secret.
    pub id: [u8; 16],
    /// What its owner calls it.
    pub name: String,
    /// What it may do; the API gives it meaning.
    pub scope: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends; never if `None`.
    pub expires_at: Option<Timestamp>,
    /// When it was last shown.
    pub last_used_at: Option<Timestamp>,
    /// When it was taken back.
    pub revoked_at: Option<Timestamp>,
}

impl Meta {
    /// Keeps a new key. `secret_hash` is SHA-256 of the secret.
    ///
    /// # Errors
    /// [`MetaError::Database`] also if the id or the secret is here already.
    pub async fn put_token(&self, token: &Token, secret_hash: &[u8; 32]) -> Result<(), MetaError> {
        let row = tokens::Model {
            id: token.id.to_vec(),
            name: token.name.clone(),
            secret_hash: secret_hash.to_vec(),
            scope: token.scope.clone(),
            created_at: millis(token.created_at),
            expires_at: token.expires_at.map(millis),
            last_used_at: token.last_used_at.map(millis),
            revoked_at: token.revoked_at.map(millis),
        };
        sql::insert(&self.write, row).await?;
        Ok(())
    }

    /// The key whose secret hashes to `secret_hash`, if it is neither revoked nor ended at `now`. The look-up is by the
    /// whole hash, so its time tells nothing about a secret.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn token(&self, secret_hash: &[u8; 32], now: Timestamp) -> Result<Option<Token>, MetaError> {
        let row =
            tokens::Entity::find().filter(tokens::Column::SecretHash.eq(secret_hash.to_vec())).one(&self.read).await?;
        let found = row.as_ref().map(token).transpose().map_err(|damage| damage.within("mynet_tokens"))?;
        Ok(found.filter(|token| token.revoked_at.is_none() && token.expires_at.is_none_or(|end| now < end)))
    }

    /// All keys, newest first.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn tokens(&self) -> Result<Vec<Token>, MetaError> {
        let rows = tokens::Entity::find()
            .order_by_desc(tokens::Column::CreatedAt)
            .order_by_asc(tokens::Column::Id)
            .all(&self.read)
            .await?;
        rows.iter().map(token).collect::<Result<_, _>>().map_err(|damage| damage.within("mynet_tokens"))
    }

    /// Takes a key back for good. Returns whether it was in force.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn revoke_token(&self, id: &[u8; 16], now: Timestamp) -> Result<bool, MetaError> {
        let revoked = tokens::Entity::update_many()
            .col_expr(tokens::Column::RevokedAt, Expr::value(millis(now)))
            .filter(tokens::Column::Id.eq(id.to_vec()))
            .filter(tokens::Column::RevokedAt.is_null())
            .exec(&self.write)
            .await?;
        Ok(revoked.rows_affected > 0)
    }

    /// Notes that a key was shown. Costs one durable write: call it once a minute per key, not per request.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn touch_token(&self, id: &[u8; 16], now: Timestamp) -> Result<(), MetaError> {
        tokens::Entity::update_many()
            .col_expr(tokens::Column::LastUsedAt, Expr::value(millis(now)))
            .filter(tokens::Column::Id.eq(id.to_vec()))
            .exec(&self.write)
            .await?;
        Ok(())
    }
}

fn token(row: &tokens::Model) -> Result<Token, Damage> {
    Ok(Token {
        id: fixed(&row.id)?,
        name: row.name.clone(),
        scope: row.scope.clone(),
        created_at: time(row.created_at)?,
        expires_at: row.expires_at.map(time).transpose()?,
        last_used_at: row.last_used_at.map(time).transpose()?,
        revoked_at: row.revoked_at.map(time).transpose()?,
    })
}
