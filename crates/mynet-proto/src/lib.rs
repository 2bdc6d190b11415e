//! Placeholder until its content lands.
