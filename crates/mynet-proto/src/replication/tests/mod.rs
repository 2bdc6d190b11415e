//! Tests of the core: `rules`, `participant` and `deleting` for single rules, `crashes` with one test per row of the crash table, `random`
//! for lossy, repeating, reordering networks with crashes. `world` runs several cores and checks the invariants at
//! every output.

mod crashes;
mod deleting;
mod notes;
mod participant;
mod random;
mod rules;
mod targets;
mod versions;
mod world;
