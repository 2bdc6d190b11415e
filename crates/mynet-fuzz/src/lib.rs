//! Junk for every decoder, and a crowd of liars for the cores.
//!
//! A [`Target`] is one thing that takes bytes from a stranger, a member or a disk. It is fed with anything and must hold:
//!
//! 1. It never panics.
//! 2. It allocates at most its [`Bound`]: so many bytes per byte of input, and a constant.
//! 3. What it takes in has one encoding: encoding it again gives the bytes that were read.
//! 4. What it finds rightly signed is one of the records that were rightly signed; nobody makes others by changing bytes.
//!
//! `seeds` are valid encodings, made anew on every run, so that they follow every change of the formats. The corpus in this
//! crate's directory holds what fuzzing found worth keeping. Tests replay both, whole and mutated ([`mutate`]), on every
//! run. Fuzzing that is guided by coverage is in `fuzz/` beside the workspace; `docs/fuzzing.md` has the commands.
//!
//! This crate is tooling: nothing depends on it, and it counts every allocation of the program that it is linked into.

#![allow(clippy::expect_used, reason = "a target fails by panicking, that is how a fuzzer hears of it")]

mod attack;
mod cast;
mod meter;
pub mod mutate;
mod records;
#[cfg(feature = "shell")]
mod shell;
mod tape;
mod target;
mod vectors;

use std::{fs, io, path::Path};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

pub use target::{Bound, Target};

/// Every target, in the order of the layers.
#[must_use]
pub fn targets() -> Vec<&'static Target> {
    let all = records::TARGETS.iter().chain(attack::TARGETS);
    #[cfg(feature = "shell")]
    let all = all.chain(shell::TARGETS);
    all.collect()
}

/// The target of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    targets().into_iter().find(|target| target.name == name)
}

/// The generator of everything random here: the same seed gives the same bytes, on every machine.
#[must_use]
pub fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// The inputs that fuzzing found worth keeping for a target, from the directory of this crate.
///
/// # Errors
/// Those of the file system. A target without a directory has none.
pub fn corpus(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> = fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    files.sort();
    files.into_iter().map(fs::read).collect()
}
