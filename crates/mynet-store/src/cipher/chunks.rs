//! STREAM in 64 KiB chunks: the arithmetic of sizes and ranges, and sealing and opening single chunks.
//!
//! A ciphertext is `chunk_0 || chunk_1 || ...`, each the encryption of 64 KiB followed by its tag; the last one holds 1 to
//! 64 KiB, or nothing if the whole plaintext is empty. So a plaintext length has exactly one ciphertext length, and a
//! ciphertext length at most one plaintext length.

use std::{fmt, ops::Range};

use mynet_types::{ContentId, ContentState, content::BLOB_BYTES_MAX, manifest::Aead};

use super::{AnyAead, ContentKey, NONCE_BYTES, TAG_BYTES};

/// Plaintext bytes of every chunk but the last. Half would double the tags and calls, double would double what a small
/// range must decrypt.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Ciphertext bytes of every chunk but the last.
pub const SEALED_CHUNK_BYTES: usize = CHUNK_BYTES + TAG_BYTES;
/// Chunks of one content at most: the nonce holds a 32-bit index.
pub const CHUNKS_MAX: u64 = 1 << 32;
/// Plaintext bytes of one content at most (256 TiB).
pub const PLAIN_BYTES_MAX: u64 = CHUNKS_MAX * CHUNK_BYTES as u64;
/// Ciphertext bytes of one content at most.
pub const CIPHER_BYTES_MAX: u64 = CHUNKS_MAX * SEALED_CHUNK_BYTES as u64;

const _: () =
    assert!(CIPHER_BYTES_MAX == BLOB_BYTES_MAX, "every ciphertext made here must pass the check of manifests");

/// Info string of file keys.
const FILE_INFO: &[u8] = b"mynet/file/1";

/// Why a chunk was neither sealed nor opened. Nothing was written to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// The content is longer than the format can hold.
    #[error("chunk {index} is beyond the {CHUNKS_MAX} chunks that one content can have")]
    TooLong {
        /// The chunk.
        index: u64,
    },
    /// The chunk has a length that no chunk in its place has.
    #[error("chunk {index} has {len} bytes, which no chunk in its place has")]
    ChunkLength {
        /// The chunk.
        index: u64,
        /// Its length.
        len: usize,
    },
    /// The chunk was changed, moved, or belongs to another key, content or length.
    #[error("chunk {index} does not authenticate")]
    Inauthentic {
        /// The chunk.
        index: u64,
    },
    /// No plaintext encrypts to so many bytes.
    #[error("no content encrypts to {len} bytes")]
    CipherLength {
        /// Ciphertext bytes.
        len: u64,
    },
    /// The range ends behind the content.
    #[error("range {start}..{end} is not within {size} bytes")]
    Range {
        /// First byte asked for.
        start: u64,
        /// Byte behind the last one asked for.
        end: u64,
        /// Bytes there are.
        size: u64,
    },
}

/// Bytes that `plain` bytes encrypt to; `None` above [`PLAIN_BYTES_MAX`].
#[must_use]
pub const fn cipher_len(plain: u64) -> Option<u64> {
    if plain > PLAIN_BYTES_MAX {
        return None;
    }
    Some(plain + chunk_count(plain) * TAG_BYTES as u64)
}

/// Bytes that `cipher` bytes decrypt to; `None` if no plaintext encrypts to so many.
#[must_use]
pub const fn plain_len(cipher: u64) -> Option<u64> {
    const TAG: u64 = TAG_BYTES as u64;
    const SEALED: u64 = SEALED_CHUNK_BYTES as u64;
    if cipher > CIPHER_BYTES_MAX {
        return None;
    }
    let (full, rest) = (cipher / SEALED, cipher % SEALED);
    match (full, rest) {
        (0, 0) => None,
        (_, 0) => Some(full * CHUNK_BYTES as u64),
        // A lone tag is the empty content; behind other chunks an empty one is never written.
        (0, TAG) => Some(0),
        (_, ..=TAG) => None,
        _ => Some(full * CHUNK_BYTES as u64 + rest - TAG),
    }
}

/// Chunks of `plain` bytes; the empty content has one.
const fn chunk_count(plain: u64) -> u64 {
    let chunks = plain.div_ceil(CHUNK_BYTES as u64);
    if chunks == 0 { 1 } else { chunks }
}

/// The chunks that a plaintext range needs, and where they are in the ciphertext.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkSpan {
    /// The first chunk and the one behind the last.
    pub chunks: Range<u64>,
    /// Their bytes in the ciphertext.
    pub cipher: Range<u64>,
    /// Plaintext bytes of the first chunk that come before the range.
    pub skip: usize,
    /// Plaintext bytes of the range.
    pub len: u64,
    /// Index of the content's last chunk.
    pub last: u64,
}

impl ChunkSpan {
    /// The chunks that hold `range` of a content whose ciphertext is `cipher_size` bytes long. An empty range needs none,
    /// except that of the empty content, which is one chunk that says so.
    ///
    /// # Errors
    /// [`CipherError::CipherLength`] if no content has this ciphertext length, [`CipherError::Range`] if the range is not
    /// within the content.
    pub fn covering(range: Range<u64>, cipher_size: u64) -> Result<Self, CipherError> {
        let size = plain_len(cipher_size).ok_or(CipherError::CipherLength { len: cipher_size })?;
        if range.start > range.end || range.end > size {
            return Err(CipherError::Range { start: range.start, end: range.end, size });
        }
        let chunk = CHUNK_BYTES as u64;
        let first = range.start / chunk;
        let end = match (size, range.is_empty()) {
            (0, _) => 1,
            (_, true) => first,
            (_, false) => range.end.div_ceil(chunk),
        };
        let sealed = SEALED_CHUNK_BYTES as u64;
        Ok(Self {
            chunks: first..end,
            cipher: (first * sealed).min(cipher_size)..(end * sealed).min(cipher_size),
            skip: usize::try_from(range.start % chunk).expect("below 64 KiB"),
            len: range.end - range.start,
            last: chunk_count(size) - 1,
        })
    }
}

/// What a file key is bound to, besides the content key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileParams {
    /// The cipher.
    pub algorithm: Aead,
    /// Random salt of the manifest.
    pub salt: [u8; 16],
    /// Version of the group.
    pub version: u64,
    /// The row that is encrypted.
    pub content_id: ContentId,
    /// Its state.
    pub state: ContentState,
}

/// Seals and opens the chunks of one content. Cheap to make and to clone; holds only derived keys.
#[derive(Clone)]
pub struct FileCipher {
    aead: AnyAead,
}

impl fmt::Debug for FileCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileCipher(..)")
    }
}

impl FileCipher {
    /// Derives the file key.
    #[must_use]
    pub fn new(key: &ContentKey, params: &FileParams) -> Self {
        let info: [&[u8]; 5] = [
            FILE_INFO,
            &params.version.to_le_bytes(),
            &[params.algorithm as u8],
            &params.content_id.0,
            &[params.state as u8],
        ];
        let file_key = key.derive(Some(&params.salt), &info);
        Self { aead: AnyAead::new(params.algorithm, &file_key) }
    }

    /// Seals chunk `index` and appends it to `out`. Each index must be sealed once: see invariant 1 of the module.
    ///
    /// # Errors
    /// [`CipherError::TooLong`] and [`CipherError::ChunkLength`]; `out` is unchanged.
    pub fn seal_chunk(&self, index: u64, last: bool, plain: &[u8], out: &mut Vec<u8>) -> Result<(), CipherError> {
        let nonce = nonce(index, last)?;
        if !fits(index, last, plain.len()) {
            return Err(CipherError::ChunkLength { index, len: plain.len() });
        }
        out.reserve(plain.len() + TAG_BYTES);
        let mut tail = Tail::of(out);
        tail.out.extend_from_slice(plain);
        self.aead.seal(&nonce, &mut tail);
        Ok(())
    }

    /// Opens chunk `index` and appends its plaintext to `out`. `last` must come from the signed size of the content,
    /// never from where bytes happen to end: that is what shows truncation and extension.
    ///
    /// # Errors
    /// [`CipherError::Inauthentic`] for anything but the very chunk that was sealed; [`CipherError::TooLong`] and
    /// [`CipherError::ChunkLength`]. `out` is unchanged.
    pub fn open_chunk(&self, index: u64, last: bool, sealed: &[u8], out: &mut Vec<u8>) -> Result<(), CipherError> {
        let nonce = nonce(index, last)?;
        match sealed.len().checked_sub(TAG_BYTES) {
            Some(len) if fits(index, last, len) => {}
            _ => return Err(CipherError::ChunkLength { index, len: sealed.len() }),
        }
        let mut tail = Tail::of(out);
        tail.out.extend_from_slice(sealed);
        if let Err(super::Inauthentic) = self.aead.open(&nonce, &mut tail) {
            tail.undo();
            return Err(CipherError::Inauthentic { index });
        }
        Ok(())
    }
}

/// Whether a chunk of `len` plaintext bytes may stand at `index`.
const fn fits(index: u64, last: bool, len: usize) -> bool {
    match (last, len) {
        (false, len) => len == CHUNK_BYTES,
        (true, 0) => index == 0,
        (true, len) => len <= CHUNK_BYTES,
    }
}

/// Seven zero bytes, the index, whether the chunk is the last.
fn nonce(index: u64, last: bool) -> Result<[u8; NONCE_BYTES], CipherError> {
    let index32 = u32::try_from(index).map_err(|_beyond| CipherError::TooLong { index })?;
    let mut nonce = [0; NONCE_BYTES];
    let (_zeros, rest) = nonce.split_at_mut(7);
    let (counter, flag) = rest.split_at_mut(4);
    counter.copy_from_slice(&index32.to_be_bytes());
    flag.fill(u8::from(last));
    Ok(nonce)
}

/// What was appended to a vector, as the buffer that a cipher works in: chunks are sealed and opened where they end up.
struct Tail<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> Tail<'a> {
    fn of(out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self { out, start }
    }

    /// Forgets what was appended.
    fn undo(self) {
        self.out.truncate(self.start);
    }
}

impl AsRef<[u8]> for Tail<'_> {
    fn as_ref(&self) -> &[u8] {
        self.out.split_at(self.start).1
    }
}

impl AsMut<[u8]> for Tail<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.out.split_at_mut(self.start).1
    }
}

impl chacha20poly1305::aead::Buffer for Tail<'_> {
    fn extend_from_slice(&mut self, other: &[u8]) -> chacha20poly1305::aead::Result<()> {
        self.out.extend_from_slice(other);
        Ok(())
    }

    fn truncate(&mut self, len: usize) {
        self.out.truncate(self.start + len);
    }
}

#[cfg(test)]
#[path = "chunks_tests.rs"]
mod tests;
