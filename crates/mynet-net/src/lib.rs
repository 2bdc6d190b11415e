//! The network of one node: an authenticated QUIC endpoint, admission at its door, requests, messages and byte streams.
//!
//! The counterpart of the specification's P2PManager. It moves bytes between nodes whose keys are proven and whose
//! admission the node's door confirms; it knows what messages exist and how large they may be, but not what they mean,
//! and blob bytes are opaque to it.
//!
//! ```text
//!            Net (handle)                                                        Door, Service (the node)
//!   send ----> courier --+                                                              ^
//!   request, open_range -+--> peer actor --> hello (dial) ==== QUIC ==== endpoint --> gate, door, hello --> serve
//!   knock ------------------------------------------------------------------------> knock
//! ```
//!
//! Reading order: [`table`] and [`frame`] (what is said), [`refusal`] (why not), [`hello`] and `endpoint` (how a
//! connection comes to be), `peer` and `pool` (which are kept), `serve`, `client` and `courier` (requests), [`knock`] and
//! [`admission`] (strangers), [`stream`] (bytes). The protocol is written down in `docs/protocol/transport.md`.
//!
//! **Invariants**
//! 1. Nothing but a knock is answered, and nothing at all is asked, on a connection to a node that the door does not
//!    admit.
//! 2. Everything a peer can make this node hold or do is bounded by [`Limits`] or [`table::KINDS`].
//! 3. No server of others is contacted: no relays, no discovery, no port mapping.
//! 4. Every task ends when the node stops.
//!
//! Deliberately absent: meaning of messages, verification of blob bytes, discovery of peers (the node fills the address
//! book), relays, retries of messages (cores repeat what matters).

pub mod admission;
mod book;
mod client;
mod config;
mod courier;
mod endpoint;
pub mod frame;
mod gate;
pub mod hello;
pub mod knock;
mod net;
mod peer;
mod pool;
mod rate;
pub mod refusal;
mod serve;
mod service;
mod stats;
pub mod stream;
pub mod table;

pub use book::{ADDRS_PER_NODE_MAX, record_addrs};
pub use client::{RangeError, RequestError};
pub use config::{Limits, NetConfig};
pub use endpoint::StartError;
pub use knock::{KnockError, NodeAddr};
pub use net::{Net, NetEvent, PathKind, PeerInfo, PeerStats};
pub use rate::Rate;
pub use refusal::{DialError, Refusal};
pub use service::{Door, RangeHead, RangeReply, RangeWanted, Service};
pub use stats::NetStats;
pub use stream::{ByteStream, Stall, Stalled};
pub use table::Budget;
