//! The core under a message pump in memory; see [`kit`] for what the pump checks at every step.

mod changing;
mod closing;
mod doubt;
mod evidence;
mod growing;
mod heads;
mod kit;
mod notes;
mod owners;
mod proposing;
mod recovering;
mod voting;
