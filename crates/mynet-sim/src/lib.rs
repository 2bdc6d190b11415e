//! The deterministic simulator: the real cores on virtual time, links and disks, all drawn from one seed.
//!
//! A seed expands into printed options. A safety phase breaks things; then everything heals, and a liveness phase must
//! come to rest within bounds. Every step is shown to one checker per invariant. The same seed gives the same trace,
//! byte for byte, so a failure is repeated by its seed. `docs/protocol/simulation.md` lists the invariants.
//!
//! Source: FoundationDB's simulation testing; TigerBeetle's VOPR; protocol report of this project, section 7.
//!
//! | module | holds |
//! |---|---|
//! | `options`, `cast`, `workload`, `nemesis` | what one seed means: the network, its people, what is asked, what breaks |
//! | `world`, `life`, `post`, `asking`, `staging`, `succession` | the loop, starts and deaths, messages, requests, bytes that flow and later versions |
//! | `recovering` | seats lost for good, and the operators with their offline keys |
//! | `queue`, `clock`, `network`, `disk` | virtual time, links, fsync and crash |
//! | `vote_store`, `group_store`, `files` | models of the two stores and of blob files |
//! | `machine`, `host` | the cores and the machines under them |
//! | `observe`, `checker`, `watch`, `sometimes` | what is seen, what must hold, what was met |
//! | `trace`, `describe`, `run`, `regress`, `campaign` | hash and lines of a run; running many, those that failed once, and very many |
//! | `plants` | planted bugs and who must catch them, in builds with `--cfg planted` |
//! | `model` | small protocols in every order of their steps |

mod asking;
mod campaign;
mod cast;
mod checker;
mod clock;
mod describe;
mod disk;
mod files;
mod group_store;
mod host;
mod liar;
mod life;
mod machine;
mod model;
mod nemesis;
mod network;
mod observe;
mod options;
#[cfg(planted)]
mod plants;
mod post;
mod queue;
mod recovering;
mod regress;
mod run;
mod sometimes;
mod staging;
mod succession;
mod trace;
mod vote_store;
mod watch;
mod workload;
mod world;

pub use campaign::{campaign, tables};
pub use model::{Verdict, groups, votes};
pub use options::Suite;
#[cfg(planted)]
pub use plants::{Hunt, bug_named, control, document, hunt, missing_rows};
pub use regress::regressions;
pub use run::{Failure, Report, reproduce, run};
