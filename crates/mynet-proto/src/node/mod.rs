//! The composition of the cores (placeholder until it lands).
pub mod io;
