//! Group replication (placeholder until the core lands).
pub mod io;
