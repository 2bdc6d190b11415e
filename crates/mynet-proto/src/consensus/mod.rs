//! Consensus by signed votes (placeholder until the core lands).
pub mod io;
