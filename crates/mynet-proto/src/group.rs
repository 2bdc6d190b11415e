//! Placeholder until it lands.
