//! Every row of the crash tables in `docs/protocol` with real processes: a node dies at a named point as `kill -9` would end
//! it, comes back as the build without failpoints, and what the row says holds.
//!
//! The cores' own tests reach each row by hand; these show that the shell around them keeps the order that the rows need.

mod consensus;
mod coordinator;
mod participant;
mod row;
