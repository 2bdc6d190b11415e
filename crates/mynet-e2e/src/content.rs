//! Files to upload: deterministic, of every interesting size.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

/// Random bytes that are the same for the same seed.
#[must_use]
pub fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// A 16-bit stereo WAV at 44.1 kHz: a falling tone with noise, `seconds` long.
#[must_use]
pub fn wav(seed: u64, seconds: u32) -> Vec<u8> {
    let frames = 44_100 * seconds;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data_len = frames * 4;
    let mut out = Vec::with_capacity(44 + data_len as usize);
    out.extend_from_slice(b"RIFF");
    out.extend_from_slice(&(36 + data_len).to_le_bytes());
    out.extend_from_slice(b"WAVEfmt ");
    out.extend_from_slice(&16_u32.to_le_bytes());
    for field in [1_u16, 2] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(&44_100_u32.to_le_bytes());
    out.extend_from_slice(&(44_100_u32 * 4).to_le_bytes());
    for field in [4_u16, 16] {
        out.extend_from_slice(&field.to_le_bytes());
    }
    out.extend_from_slice(b"data");
    out.extend_from_slice(&data_len.to_le_bytes());
    for frame in 0..frames {
        let period = 60 + frame / 4_410;
        let saw = i32::try_from(frame % period).unwrap_or(0) * 16_000 / i32::try_from(period).unwrap_or(1) - 8_000;
        let noise = i32::from(rng.next_u32() as u8);
        let sample = i16::try_from(saw + noise).unwrap_or(0).to_le_bytes();
        out.extend_from_slice(&sample);
        out.extend_from_slice(&sample);
    }
    out
}

/// Writes `bytes` to `dir/name` and returns the path as text.
///
/// # Errors
/// If the file cannot be written.
pub fn file(dir: &Path, name: &str, bytes: &[u8]) -> Result<String> {
    let path = dir.join(name);
    fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))?;
    Ok(path.to_string_lossy().into_owned())
}

/// The name of bytes as the program prints it.
#[must_use]
pub fn hash(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
