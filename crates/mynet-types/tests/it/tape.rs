//! A random tape that decoders read as if it were an encoding: makes values of any type, and counts what is asked.
//!
//! A decoder is the best description of its own type. Fed with small numbers where it reads tags, bools and lengths, and
//! with noise where it reads hashes, it builds a value of every shape without a generator written per type. The tape
//! remembers the bytes that it gave, so a value and the bytes it came from can be compared.

use std::io::{self, Read};

use borsh::BorshDeserialize;

/// What lengths the tape tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lengths {
    /// Few items, as most honest values have.
    Few,
    /// Any number up to the largest, as a liar would claim.
    Any,
}

/// The tape.
#[derive(Debug)]
pub(crate) struct Tape {
    state: u64,
    lengths: Lengths,
    /// What was read.
    pub(crate) read: Vec<u8>,
    /// The largest buffer that was offered to be filled: what the decoder allocated on the word of a length.
    pub(crate) largest_read: usize,
    /// The tape ends here.
    end: usize,
}

impl Tape {
    /// A tape of at most `end` bytes, drawn from `seed`.
    pub(crate) fn new(seed: u64, lengths: Lengths, end: usize) -> Self {
        Self { state: seed, lengths, read: Vec::new(), largest_read: 0, end }
    }

    /// SplitMix64 (Steele et al., 2014).
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A tag, bool, option or role: small numbers, mostly 0 and 1.
    fn tag(&mut self) -> u8 {
        let [first, second, ..] = self.next().to_le_bytes();
        if first < 190 { second & 1 } else { second % 32 }
    }

    fn fill(&mut self, buffer: &mut [u8]) {
        match buffer.len() {
            1 => buffer[0] = self.tag(),
            // Format numbers are 2 bytes wide and so are weights; 1 suits both.
            2 => buffer.copy_from_slice(&1u16.to_le_bytes()),
            4 if self.lengths == Lengths::Few => {
                let few = [0, 1, 1, 2, 3][(self.next() % 5) as usize];
                buffer.copy_from_slice(&u32::to_le_bytes(few));
            }
            4 => {
                let any = (self.next() >> (32 + self.next() % 32)) as u32;
                buffer.copy_from_slice(&any.to_le_bytes());
            }
            // Texts are read as a whole; ASCII keeps them valid.
            3 | 5..=7 => buffer.iter_mut().for_each(|byte| *byte = b'a'),
            _ => {
                for chunk in buffer.chunks_mut(8) {
                    let noise = self.next().to_le_bytes();
                    chunk.copy_from_slice(&noise[..chunk.len()]);
                }
            }
        }
    }
}

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.largest_read = self.largest_read.max(buffer.len());
        if self.read.len() + buffer.len() > self.end {
            return Ok(0);
        }
        self.fill(buffer);
        self.read.extend_from_slice(buffer);
        Ok(buffer.len())
    }
}

/// The first value that a tape drawn from `seed` holds, with its bytes.
pub(crate) fn draw<T: BorshDeserialize>(seed: u64) -> (T, Vec<u8>) {
    /// Tapes tried before giving up: a deep type refuses most of them, none refuses this many.
    const TRIES: u64 = 200_000;
    for attempt in 0..TRIES {
        let mut tape = Tape::new(seed ^ attempt.rotate_left(40), Lengths::Few, 64 * 1024);
        if let Ok(value) = T::deserialize_reader(&mut tape) {
            return (value, tape.read);
        }
    }
    panic!("no tape of {TRIES} holds a {}", std::any::type_name::<T>());
}
