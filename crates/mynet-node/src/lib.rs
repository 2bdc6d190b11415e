//! The service: drives the cores against store and network.
//!
//! The counterpart of the specification's `MYNetworkService`. The core decides, the modules here act: `driver` feeds it,
//! `persist` writes what it wants kept, `stage` pulls what it wants held, `refill` pulls again what a disk lost, `peers` and
//! `serve` speak to other nodes, `add`, `publish`, `find` and `read` serve users, `catchup` asks for what this node missed,
//! `care` keeps the disk clean. Users of this crate start a node with [`service::start`] and speak to it through a
//! [`handle::NodeHandle`].

mod add;
mod backing;
mod board;
mod care;
mod catchup;
mod certificates;
mod compose;
pub mod config;
mod crash;
mod deletion;
pub mod doctor;
mod driver;
mod dry_run;
pub mod events;
mod find;
pub mod govern;
mod grant;
mod group_log;
pub mod handle;
mod liar;
pub mod media;
mod members;
mod operation;
mod peers;
mod persist;
mod plaintext;
pub mod preview;
mod propose;
mod publish;
mod pull;
mod read;
pub mod recovery;
mod refill;
mod reload;
mod renewal;
mod room;
mod serve;
pub mod service;
pub mod setup;
mod shell;
mod spool;
mod stage;
mod staged;
mod succession;
#[cfg(test)]
mod testing;
pub mod ticket;
mod tokens;
pub mod view;
mod views;
mod why;
