//! Real endpoints on the loopback, in one process.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests")]

mod hostile;
mod kit;
mod lifecycle;
mod peers;
mod ranges;
mod requests;
mod strangers;
