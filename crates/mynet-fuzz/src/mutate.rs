//! Changes valid encodings the way liars and broken disks do.
//!
//! A random byte string dies at the first length it holds. What gets far is almost right: one bit of it flipped, one length
//! changed, cut off, put together from two.

use rand::{RngExt, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// The longest input made.
const BYTES_MAX: usize = 64 * 1024;

/// One of `seeds`, changed in one to four places.
#[must_use]
pub fn mutated(rng: &mut ChaCha8Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.choose(rng).cloned().unwrap_or_default();
    for _ in 0..rng.random_range(1..=4) {
        change(rng, &mut bytes, seeds);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
    if bytes.is_empty() {
        bytes.push(rng.random());
        return;
    }
    let at = rng.random_range(0..bytes.len());
    let rest = bytes.len() - at;
    let len = (*[1, 2, 4, 8, 16, 32, 64].choose(rng).expect("not empty")).min(rest);
    match rng.random_range(0..11) {
        0 | 1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => bytes[at] = *[0, 1, 2, 3, 0x7f, 0x80, 0xff].choose(rng).expect("not empty"),
        3 | 4 => change_length(rng, &mut bytes[at..]),
        5 => bytes.truncate(at),
        6 => bytes.extend((0..rng.random_range(1..40)).map(|_| rng.random_range(0..4u8))),
        7 => drop(bytes.drain(at..at + len)),
        8 => {
            let piece = bytes[at..at + len].to_vec();
            let to = rng.random_range(0..=bytes.len());
            drop(bytes.splice(to..to, piece));
        }
        9 => {
            let other = seeds.choose(rng).map_or(&[][..], Vec::as_slice);
            bytes.truncate(at);
            bytes.extend_from_slice(other.get(rng.random_range(0..=other.len())..).unwrap_or_default());
        }
        _ => {
            let other = seeds.choose(rng).map_or(&[][..], Vec::as_slice);
            if let Some(piece) = other.get(at..(at + len).min(other.len())) {
                bytes[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }
}

/// Changes the little-endian number at the start of `bytes`, as if it were a length.
fn change_length(rng: &mut ChaCha8Rng, bytes: &mut [u8]) {
    let Some(number) = bytes.first_chunk_mut::<4>() else { return };
    let was = u32::from_le_bytes(*number);
    let now = match rng.random_range(0..4) {
        0 => was.wrapping_add(1),
        1 => was.wrapping_sub(1),
        2 => *[0, 255, 256, 65_535, 65_536, 1 << 24, u32::MAX / 2, u32::MAX].choose(rng).expect("not empty"),
        _ => 1 << rng.random_range(0..32),
    };
    *number = now.to_le_bytes();
}
