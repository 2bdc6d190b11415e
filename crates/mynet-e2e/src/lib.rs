//! Drives the real program from outside: processes, command line and HTTP, nothing else.
//!
//! Every network stands on loopback in a temporary directory and ends with the test, also when the test fails. Waiting is
//! always for a condition with a deadline.

pub mod content;
pub mod disk;
pub mod http;
pub mod network;
pub mod powerloss;
pub mod process;
pub mod wait;
