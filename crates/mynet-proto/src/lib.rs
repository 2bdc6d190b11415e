//! The decisions of the system as pure state machines.
//!
//! A core is `fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>)`. Time is an argument, randomness is a
//! seeded generator that the core owns, maps are ordered, and durability is an output: `Persist { id }` goes out,
//! `Persisted { id }` comes back, and only then leaves what depended on it. The daemon and the simulator run the same
//! composition, [`node`].
//!
//! **Invariant:** nothing here opens a socket or a file, reads a clock, sleeps, or starts a thread.
//!
//! | module | counterpart in the specification |
//! |---|---|
//! | [`group`] | State Discovery Algorithm, `verify_state_relationships` |
//! | [`placement`] | Sharding by content hash |
//! | [`reason`] | absent there: why a group is where it is |
//! | [`replication`] | `ContentStateReplicator`, `AtomicStateReplication`, `ReplicationManager` |
//! | [`consensus`] | `ConsensusEngine` |
//! | [`node`] | `MYNetworkService`, the composition |

#![deny(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests fail by panicking")
)]

pub mod consensus;
pub mod group;
pub mod node;
pub mod persist;
pub mod placement;
pub mod reason;
pub mod replication;
