//! Placeholder until its content lands.

pub mod preview;
