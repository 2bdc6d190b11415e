//! Garbage: which blobs may go, decided by a pure function and enforced once more by the statement that deletes.
//!
//! A blob goes when nothing pins it and nothing has for a grace period. The row goes first, in a transaction that looks again;
//! then the file, whose name no other put of the same bytes ever has, so that an unlink cannot hit what came since.
//!
//! ```text
//! pinned ──last pin goes──► waits for the grace ──► row deleted, if still so ──► file unlinked
//!    ▲                            │                        │ crash: a file without a row, for the sweep of the next start
//!    └────────── pinned ──────────┘
//! ```
//!
//! An upload needs no pin of its own: its files get their rows and the pins of their group in one transaction, and until then
//! are known to the upload alone.
//!
//! A group of somebody else that the validators rejected is garbage as a whole: out of sight at once, and gone when whoever
//! looks after the network had time to look into it.

use std::collections::BTreeMap;

use mynet_types::{ContentHash, GroupId, Timestamp};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::{
    Meta, MetaError,
    blobs::stored_blob,
    column::{Damage, fixed, millis, time},
    model::{PinKind, StoredBlob, WriteError},
    schema::holdings::{blobs, groups, pins},
    write::WriteScope,
};

/// Pins of one blob, by what holds them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pins {
    /// Groups here.
    pub groups: u64,
    /// Open transactions.
    pub transactions: u64,
    /// Cache leases.
    pub caches: u64,
}

/// Why a blob stays. The strongest reason is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keeper {
    /// A group here.
    Group,
    /// An open transaction.
    Transaction,
    /// A cache lease.
    Cache,
    /// Nothing, but not for long enough yet.
    Grace,
}

impl Keeper {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Transaction => "tx",
            Self::Cache => "cache",
            Self::Grace => "grace",
        }
    }
}

/// What keeps a blob with these pins; `None` if it may go. `unpinned_at` says since when it has no pin; one that has none and no
/// such time was never released, so it stays. Whatever had no pin since `before` or longer may go.
#[must_use]
pub fn keeper(pins: Pins, unpinned_at: Option<Timestamp>, before: Timestamp) -> Option<Keeper> {
    match pins {
        Pins { groups: 1.., .. } => Some(Keeper::Group),
        Pins { transactions: 1.., .. } => Some(Keeper::Transaction),
        Pins { caches: 1.., .. } => Some(Keeper::Cache),
        Pins { .. } if unpinned_at.is_some_and(|at| at <= before) => None,
        Pins { .. } => Some(Keeper::Grace),
    }
}

impl Meta {
    /// Up to `limit` blobs in hash order after `after`, and what keeps each.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn keepers_after(
        &self,
        after: Option<&ContentHash>,
        limit: u64,
        before: Timestamp,
    ) -> Result<Vec<(StoredBlob, Option<Keeper>)>, MetaError> {
        let mut query = blobs::Entity::find().order_by_asc(blobs::Column::Sha256).limit(limit);
        if let Some(after) = after {
            query = query.filter(blobs::Column::Sha256.gt(after.0.to_vec()));
        }
        let rows = query.all(&self.read).await?;
        let hashes = rows.iter().map(|row| row.sha256.clone());
        let held = pins::Entity::find().filter(pins::Column::Sha256.is_in(hashes)).all(&self.read).await?;
        let mut by_blob: BTreeMap<Vec<u8>, Pins> = BTreeMap::new();
        for pin in held {
            let pins = by_blob.entry(pin.sha256).or_default();
            match pin.kind.as_str() {
                kind if kind == PinKind::Group.as_str() => pins.groups += 1,
                kind if kind == PinKind::Tx.as_str() => pins.transactions += 1,
                kind if kind == PinKind::Cache.as_str() => pins.caches += 1,
                other => return Err(Damage::Word(other.to_owned()).within("mynet_pins")),
            }
        }
        let judged = |row: &blobs::Model| {
            let unpinned_at = row.unpinned_at.map(time).transpose().map_err(|damage| damage.within("mynet_blobs"))?;
            let pins = by_blob.get(&row.sha256).copied().unwrap_or_default();
            Ok((stored_blob(row)?, keeper(pins, unpinned_at, before)))
        };
        rows.iter().map(judged).collect()
    }

    /// Up to `limit` groups of others that the validators rejected at `before` or earlier, those rejected first at the beginning.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn rejected(&self, before: Timestamp, limit: u64) -> Result<Vec<GroupId>, MetaError> {
        let rows: Vec<Vec<u8>> = groups::Entity::find()
            .select_only()
            .column(groups::Column::GroupId)
            .filter(groups::Column::RejectedAt.lte(millis(before)))
            .order_by_asc(groups::Column::RejectedAt)
            .limit(limit)
            .into_tuple()
            .all(&self.read)
            .await?;
        let ids = rows.iter().map(|id| Ok(GroupId(fixed(id)?))).collect::<Result<_, Damage>>();
        ids.map_err(|damage| damage.within("mynet_groups"))
    }
}

impl WriteScope<'_> {
    pub(super) async fn dismiss(&mut self, group_id: GroupId, before: Timestamp) -> Result<(), WriteError> {
        let model = self.find_group(group_id).await?;
        let dismissed = model.filter(|model| model.rejected_at.is_some_and(|at| at <= millis(before)));
        match dismissed {
            Some(model) => self.purge_versions(group_id, &[model]).await,
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::Timestamp;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{Keeper, Pins, keeper};

    proptest! {
        #[test]
        fn only_what_has_no_pin_and_had_none_for_the_grace_may_go(
            (groups, transactions, caches) in (0_u64..3, 0_u64..3, 0_u64..3),
            unpinned_at in any::<Option<u32>>(),
            before in any::<u32>(),
        ) {
            let pins = Pins { groups, transactions, caches };
            let at = unpinned_at.map(|at| Timestamp(at.into()));
            let kept = keeper(pins, at, Timestamp(before.into()));
            let pinned = groups + transactions + caches > 0;
            let long_enough = unpinned_at.is_some_and(|at| at <= before);
            prop_assert_eq!(kept.is_none(), !pinned && long_enough);
            prop_assert_eq!(kept == Some(Keeper::Grace), !pinned && !long_enough);
            // More pins, a later release and a longer grace never free a blob.
            let more = Pins { caches: caches + 1, ..pins };
            prop_assert!(keeper(more, at, Timestamp(before.into())).is_some());
            if let (Some(at), Some(_)) = (at, kept) {
                prop_assert!(keeper(pins, Some(at.after(std::time::Duration::from_millis(1))), Timestamp(before.into())).is_some());
                prop_assert!(before == 0 || keeper(pins, Some(at), Timestamp(u64::from(before) - 1)).is_some());
            }
        }
    }
}
