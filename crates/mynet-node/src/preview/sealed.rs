//! Reads the plaintext of an encrypted original, chunk by chunk, in the child.
//!
//! The parent hands over the *ciphertext* as stdin and the key in the child's environment: the plaintext of private
//! content exists only in the child's memory, one 64 KiB chunk of it. An environment is as private as the memory of the
//! process: only the same user may read either.

use std::{
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
};

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_store::cipher::{CHUNK_BYTES, ContentKey, FileCipher, FileParams, SEALED_CHUNK_BYTES, plain_len};
use mynet_types::{ContentId, ContentState, codec, manifest::Aead};

/// Environment variable that carries the key.
pub(super) const KEY_VARIABLE: &str = "MYNET_PREVIEW_KEY";
/// Encoded size of a key at most.
const KEY_BYTES_MAX: usize = 256;

/// What opens an encrypted original.
#[derive(Clone)]
pub struct OriginalKey {
    key: [u8; 32],
    params: FileParams,
}

impl fmt::Debug for OriginalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OriginalKey(..)")
    }
}

/// The form in the environment.
#[derive(BorshSerialize, BorshDeserialize)]
struct Encoded {
    key: [u8; 32],
    algorithm: Aead,
    salt: [u8; 16],
    version: u64,
    content_id: ContentId,
    state: ContentState,
}

impl OriginalKey {
    /// The content key with what the file key is bound to.
    pub fn new(key: &ContentKey, params: FileParams) -> Self {
        Self { key: *key.expose(), params }
    }

    /// As text for the child's environment.
    pub(super) fn to_variable(&self) -> OsString {
        let FileParams { algorithm, salt, version, content_id, state } = self.params;
        hex::encode(codec::encode(&Encoded { key: self.key, algorithm, salt, version, content_id, state })).into()
    }

    /// From the child's environment; `None` if there is none, which means that the original is plain.
    pub(super) fn from_environment() -> io::Result<Option<Self>> {
        let Some(text) = std::env::var_os(KEY_VARIABLE) else { return Ok(None) };
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "the key of the original is unreadable");
        let bytes = text.to_str().and_then(|text| hex::decode(text).ok()).ok_or_else(invalid)?;
        let encoded: Encoded = codec::decode(&bytes, KEY_BYTES_MAX).map_err(|_unreadable| invalid())?;
        let Encoded { key, algorithm, salt, version, content_id, state } = encoded;
        Ok(Some(Self { key, params: FileParams { algorithm, salt, version, content_id, state } }))
    }
}

/// An encrypted file, read as its plaintext. Holds one chunk.
pub(super) struct SealedFile {
    file: File,
    cipher: FileCipher,
    size: u64,
    position: u64,
    chunk: Option<u64>,
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

impl SealedFile {
    /// Opens a ciphertext; its length tells the length of the plaintext.
    pub(super) fn new(file: File, key: &OriginalKey) -> io::Result<Self> {
        let cipher_size = file.metadata()?.len();
        let size = plain_len(cipher_size)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no content has this ciphertext length"))?;
        let cipher = FileCipher::new(&ContentKey::from_bytes(key.key), &key.params);
        Ok(Self { file, cipher, size, position: 0, chunk: None, plain: Vec::new(), sealed: Vec::new() })
    }

    /// Makes `index` the chunk that is held.
    fn load(&mut self, index: u64) -> io::Result<()> {
        if self.chunk == Some(index) {
            return Ok(());
        }
        self.chunk = None;
        let last = index == self.size.saturating_sub(1) / CHUNK_BYTES as u64;
        self.file.seek(SeekFrom::Start(index * SEALED_CHUNK_BYTES as u64))?;
        self.sealed.clear();
        (&mut self.file).take(SEALED_CHUNK_BYTES as u64).read_to_end(&mut self.sealed)?;
        self.plain.clear();
        self.cipher
            .open_chunk(index, last, &self.sealed, &mut self.plain)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.chunk = Some(index);
        Ok(())
    }
}

impl Read for SealedFile {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        self.load(self.position / CHUNK_BYTES as u64)?;
        let within = usize::try_from(self.position % CHUNK_BYTES as u64).expect("below 64 KiB");
        let mut rest = self.plain.get(within..).unwrap_or_default();
        let count = rest.read(buffer)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for SealedFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
        };
        self.position = target
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "seek before the start of the original"))?;
        Ok(self.position)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, SeekFrom, Write};

    use mynet_store::cipher::{CHUNK_BYTES, ContentKey, FileCipher, FileParams};
    use mynet_types::{ContentId, ContentState, manifest::Aead};

    use super::{OriginalKey, SealedFile};

    fn sealed(plain: &[u8]) -> SealedFile {
        let key = ContentKey::from_bytes([7; 32]);
        let params = FileParams {
            algorithm: Aead::ChaCha20Poly1305,
            salt: [1; 16],
            version: 1,
            content_id: ContentId([2; 16]),
            state: ContentState::Encrypted,
        };
        let cipher = FileCipher::new(&key, &params);
        let mut out = Vec::new();
        let chunks: Vec<&[u8]> = if plain.is_empty() { vec![&[]] } else { plain.chunks(CHUNK_BYTES).collect() };
        for (index, chunk) in chunks.iter().enumerate() {
            cipher.seal_chunk(index as u64, index + 1 == chunks.len(), chunk, &mut out).unwrap();
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&out).unwrap();
        SealedFile::new(file, &OriginalKey::new(&key, params)).unwrap()
    }

    #[test]
    fn plaintext_comes_back_whole_and_from_any_position() {
        for size in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES] {
            let plain: Vec<u8> = (0..size).map(|at| (at * 31 % 251) as u8).collect();
            let mut file = sealed(&plain);
            let mut got = Vec::new();
            file.read_to_end(&mut got).unwrap();
            assert!(got == plain, "{size}");
            let from = size / 2;
            file.seek(SeekFrom::End(from as i64 - size as i64)).unwrap();
            got.clear();
            file.read_to_end(&mut got).unwrap();
            assert!(got == plain[from..], "{size} from {from}");
        }
    }
}
