//! Kits for the tests of this crate.

mod home;
mod puppets;

pub(crate) use home::{Home, Sample, move_pair};
pub(crate) use puppets::*;
