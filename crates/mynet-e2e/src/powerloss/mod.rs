//! Power cuts: what a node wrote is recorded, and what a cut could have left of it is rebuilt.
//!
//! ```text
//! node --LD_PRELOAD--> shim --> log        log[..cut] --> Disk --(what was synced, and by chance more)--> a data directory
//! ```
//!
//! Killing a process shows nothing about fsync: the kernel has every byte, and writes it. Here [`recorder`] makes the log, and
//! [`disk`] says what of its first part a disk may hold. The shim is `tests/shim/powerloss.c`.
//!
//! Source: Pillai et al., "All File Systems Are Not Created Equal: On the Complexity of Crafting Crash-Consistent Applications"
//! (ALICE, OSDI 2014); Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash Testing" (CrashMonkey, OSDI 2018).

pub mod disk;
pub mod recorder;
