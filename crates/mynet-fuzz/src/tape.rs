//! A random tape that decoders read as if it were an encoding: makes values of any type.
//!
//! A decoder is the best description of its own type. Fed with small numbers where it reads tags and lengths, and with known
//! or random bytes where it reads hashes, it builds a value of every shape without a generator written per type, also of
//! types that do not exist yet.

use std::io::{self, Read};

use borsh::BorshDeserialize;
use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// What a tape may say that is known to mean something.
#[derive(Debug, Clone, Default)]
pub(crate) struct Words {
    /// Ids, keys and hashes.
    pub(crate) ids: Vec<[u8; 32]>,
    /// Epochs, versions and times.
    pub(crate) numbers: Vec<u64>,
}

/// The tape.
struct Tape<'a> {
    rng: &'a mut ChaCha8Rng,
    words: &'a Words,
    read: Vec<u8>,
}

/// The longest value drawn.
const BYTES_MAX: usize = 64 * 1024;
/// Tapes tried before giving up: a deep type refuses many of them.
const TRIES: u32 = 500;

impl Tape<'_> {
    fn fill(&mut self, buffer: &mut [u8]) {
        let odd = self.rng.random_ratio(1, 8);
        match buffer.len() {
            1 => buffer.fill(self.tag()),
            // Format numbers are two bytes wide and always 1; seats and weights take that too.
            2 if odd => buffer.copy_from_slice(&self.rng.random_range(0..8u16).to_le_bytes()),
            2 => buffer.copy_from_slice(&1u16.to_le_bytes()),
            4 => {
                let few = *[0u32, 1, 1, 2, 3].choose(self.rng).expect("not empty");
                buffer.copy_from_slice(&few.to_le_bytes());
            }
            8 if !odd => {
                let known = self.words.numbers.choose(self.rng).copied();
                let number = known.unwrap_or_else(|| self.rng.random_range(0..5));
                buffer.copy_from_slice(&number.to_le_bytes());
            }
            32 if !odd && !self.words.ids.is_empty() => {
                buffer.copy_from_slice(self.words.ids.choose(self.rng).expect("not empty"));
            }
            // Texts are read as a whole; ASCII keeps them valid.
            3 | 5..=7 => buffer.fill(b'a'),
            _ => self.rng.fill(buffer),
        }
    }

    /// A tag, bool, option or set: small numbers, mostly 0 and 1. The first two say what a message is, so they are any.
    fn tag(&mut self) -> u8 {
        let any = self.read.len() < 2 || self.rng.random_ratio(1, 4);
        self.rng.random_range(0..if any { 16 } else { 2 })
    }
}

impl Read for Tape<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read.len() + buffer.len() > BYTES_MAX {
            return Ok(0);
        }
        self.fill(buffer);
        self.read.extend_from_slice(buffer);
        Ok(buffer.len())
    }
}

/// A value, and its encoding.
pub(crate) fn draw<T: BorshDeserialize>(rng: &mut ChaCha8Rng, words: &Words) -> Option<(T, Vec<u8>)> {
    (0..TRIES).find_map(|_| {
        let mut tape = Tape { rng, words, read: Vec::new() };
        let value = T::deserialize_reader(&mut tape).ok()?;
        Some((value, tape.read))
    })
}
