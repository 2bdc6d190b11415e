//! Durability as an output: what is written is named, and what waits for it is held back.

/// Names one batch of records. Every core counts its own up from 1; `node` makes them unique.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);
