//! Plaintext ranges out of verified ciphertext, local or remote.

use std::{future::Future, ops::Range};

use bytes::Bytes;
use tokio::io::AsyncRead;

use super::{
    BATCH_BYTES, BlobRange, RangeDecoder, ReadError, SourceError, offload::Offload, paths::DiskError, reader::within,
};
use crate::cipher::{CHUNK_BYTES, ChunkSpan, CipherError, FileCipher, SEALED_CHUNK_BYTES};

/// Bytes of a range that were verified before they come: from a local blob, from a peer, or decrypted from either.
pub trait VerifiedStream: Send {
    /// Why no more bytes come.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The next bytes, never empty; `None` when the range is complete. May be dropped at any await point and called
    /// again.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, Self::Error>> + Send;
}

impl VerifiedStream for BlobRange {
    type Error = ReadError;

    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        Self::next(self).await
    }
}

impl<R: AsyncRead + Unpin + Send> VerifiedStream for RangeDecoder<R> {
    type Error = SourceError;

    async fn next(&mut self) -> Result<Option<Bytes>, SourceError> {
        Self::next(self).await
    }
}

/// Why no more plaintext comes. Bytes that came before are good.
#[derive(Debug, thiserror::Error)]
pub enum DecryptError<E> {
    /// The ciphertext did not come.
    #[error(transparent)]
    Source(E),
    /// The ciphertext is what the manifest names, but not what this key sealed: the owner signed a bad manifest, or the
    /// key belongs to another content.
    #[error(transparent)]
    Cipher(#[from] CipherError),
    /// The source ended before the range did, without saying so.
    #[error("the ciphertext ended at chunk {chunk}")]
    Short {
        /// The first chunk that did not come whole.
        chunk: u64,
    },
    /// The work was cut off: the runtime is shutting down.
    #[error(transparent)]
    Local(DiskError),
}

/// Bytes of a plaintext range, decrypted as they come.
///
/// The stream below must yield exactly [`ChunkSpan::cipher`] of the same range:
///
/// ```text
/// let span = ChunkSpan::covering(range, cipher_blob.size)?;
/// let source = reader.range(span.cipher.clone())?;
/// let plain = DecryptedRange::new(file_cipher, &span, source);
/// ```
#[derive(Debug)]
pub struct DecryptedRange<S> {
    source: S,
    work: Offload<Opener, Result<Bytes, CipherError>>,
    /// Ciphertext that was not handed to the pool yet.
    sealed: Vec<u8>,
    /// Chunks that were not handed to the pool yet.
    chunks: Range<u64>,
    /// Ciphertext bytes of those chunks.
    left: u64,
    failed: Option<CipherError>,
}

/// Opens chunks in the pool.
#[derive(Debug)]
struct Opener {
    cipher: FileCipher,
    next: u64,
    last: u64,
    /// Plaintext bytes that are still to be handed out, counted from the start of chunk `next`.
    wanted: Range<u64>,
}

impl<S: VerifiedStream> DecryptedRange<S> {
    /// Decrypts the range of `span` from the ciphertext of its chunks.
    pub fn new(cipher: FileCipher, span: &ChunkSpan, source: S) -> Self {
        let skip = span.skip as u64;
        let opener = Opener { cipher, next: span.chunks.start, last: span.last, wanted: skip..skip + span.len };
        Self {
            source,
            work: Offload::new(opener),
            sealed: Vec::new(),
            chunks: span.chunks.clone(),
            left: span.cipher.end - span.cipher.start,
            failed: None,
        }
    }

    /// The next plaintext. `None` when the range is complete: then the last chunk, if the range reaches it, has proven to
    /// be the last.
    ///
    /// # Errors
    /// As [`DecryptError`] says; afterwards the range yields nothing but errors.
    pub async fn next(&mut self) -> Result<Option<Bytes>, DecryptError<S::Error>> {
        loop {
            if let Some(error) = self.failed {
                return Err(error.into());
            }
            if !self.work.is_away() {
                let Some(sealed) = self.whole_chunks().await? else { return Ok(None) };
                self.work.start(move |opener| opener.open(&sealed)).map_err(DecryptError::Local)?;
            }
            match self.work.join().await.map_err(DecryptError::Local)? {
                Some(Ok(plain)) if !plain.is_empty() => return Ok(Some(plain)),
                Some(Err(error)) => self.failed = Some(error),
                // The empty content decrypts to nothing.
                Some(Ok(_)) | None => {}
            }
        }
    }

    /// Ciphertext of the next chunks, all whole; `None` when there are no more.
    async fn whole_chunks(&mut self) -> Result<Option<Vec<u8>>, DecryptError<S::Error>> {
        if self.chunks.is_empty() {
            return Ok(None);
        }
        // As much as one step in the pool should get, in whole chunks, or all that is left.
        let wanted = ((BATCH_BYTES / CHUNK_BYTES * SEALED_CHUNK_BYTES) as u64).min(self.left);
        while (self.sealed.len() as u64) < wanted {
            match self.source.next().await.map_err(DecryptError::Source)? {
                Some(bytes) => self.sealed.extend_from_slice(&bytes),
                None => {
                    let whole = (self.sealed.len() / SEALED_CHUNK_BYTES) as u64;
                    return Err(DecryptError::Short { chunk: self.chunks.start + whole });
                }
            }
        }
        let cut = usize::try_from(wanted).expect("a batch fits into memory");
        let later = self.sealed.split_off(cut);
        let now = std::mem::replace(&mut self.sealed, later);
        self.left -= wanted;
        self.chunks.start += wanted.div_ceil(SEALED_CHUNK_BYTES as u64);
        Ok(Some(now))
    }
}

impl<S: VerifiedStream> VerifiedStream for DecryptedRange<S> {
    type Error = DecryptError<S::Error>;

    async fn next(&mut self) -> Result<Option<Bytes>, Self::Error> {
        Self::next(self).await
    }
}

impl Opener {
    fn open(&mut self, sealed: &[u8]) -> Result<Bytes, CipherError> {
        let mut plain = Vec::with_capacity(sealed.len());
        for chunk in sealed.chunks(SEALED_CHUNK_BYTES) {
            self.cipher.open_chunk(self.next, self.next == self.last, chunk, &mut plain)?;
            self.next += 1;
        }
        let plain = Bytes::from(plain);
        let len = plain.len() as u64;
        let part = within(&self.wanted, 0, plain);
        self.wanted = self.wanted.start.saturating_sub(len)..self.wanted.end.saturating_sub(len);
        Ok(part)
    }
}

#[cfg(test)]
#[path = "decrypt_tests.rs"]
mod tests;
