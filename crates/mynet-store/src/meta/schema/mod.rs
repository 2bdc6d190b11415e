//! Tables as the program sees them; [`migration`] makes them.
//!
//! Reading order: [`content`] is the specification's tables, [`holdings`] what a node holds, [`deletions`] what it may not
//! hold any more, [`pending`] what it is in the middle of, [`members`] whom it knows, [`access`] who may ask, [`log`] what it
//! noted.
//!
//! Hashes and keys are byte columns; sizes and times (milliseconds since 1970) are 64-bit numbers. Only the
//! specification's tables use text hashes and calendar times. Words are short text, written in one place each.
#![allow(unreachable_pub, reason = "the entity derive makes public items, which the privacy of this module confines")]

pub(super) mod access;
pub(super) mod content;
pub(super) mod deletions;
pub(super) mod holdings;
pub(super) mod log;
pub(super) mod members;
pub(super) mod migration;
pub(super) mod pending;

/// What the entity derive wants beside every model: relations are walked by query here, never loaded implicitly.
macro_rules! plain_table {
    () => {
        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    };
}
use plain_table;
