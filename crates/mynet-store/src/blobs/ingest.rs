//! From uploaded bytes to a staged blob in one pass over them.
//!
//! Each batch is hashed as plaintext (SHA-256 and BLAKE3), encrypted chunk by chunk, hashed as ciphertext, written, and its
//! hash tree appended to the outboard; no byte is read again. The pass runs in the blocking pool one batch behind the
//! caller, so a client is read from while its last batch is hashed.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use mynet_types::{Blake3Root, BlobRef, ContentHash};
use sha2::{Digest, Sha256};

use super::{
    StageName, StagedBlob, StagingDir,
    offload::{Offload, blocking},
    paths::{DiskError, OnDisk, free_space, remove_if_there},
    tree::{GROUP_BYTES, OutboardBuilder, outboard_len},
};
use crate::cipher::{CHUNK_BYTES, CipherError, FileCipher, PLAIN_BYTES_MAX, SEALED_CHUNK_BYTES, cipher_len};

/// Bytes after which a step in the pool starts. Larger than a read batch: an upload hashes everything twice and encrypts,
/// and two of these are all that an upload keeps in memory.
const INGEST_BATCH_BYTES: usize = 1024 * 1024;

/// Why nothing was staged. The files of the attempt are removed; the staging directory is the caller's to remove.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The disk is full, or will be.
    #[error("the disk is full: {} bytes are free{}", .free, needed_text(.needed.as_ref()))]
    NoSpace {
        /// Bytes that the upload takes in all, if its size was announced.
        needed: Option<u64>,
        /// Bytes that were free.
        free: u64,
    },
    /// More bytes than one content can have.
    #[error("content can have at most {PLAIN_BYTES_MAX} bytes")]
    TooLong,
    /// The upload failed before and cannot go on.
    #[error("the upload failed before")]
    Failed,
    /// The file system refused.
    #[error(transparent)]
    Disk(DiskError),
}

fn needed_text(needed: Option<&u64>) -> String {
    needed.map_or_else(String::new, |needed| format!(", {needed} are needed"))
}

/// A staged blob, and the plaintext that it came from.
#[derive(Debug, Clone)]
pub struct Ingested {
    /// Hashes and size of what was uploaded; the same as the blob's for plain content.
    pub plain: BlobRef,
    /// What was staged.
    pub staged: StagedBlob,
}

/// One upload on its way to disk.
///
/// `write` any number of times, then `finish`. Dropping it leaves its files to the staging directory. After an error it
/// accepts nothing more.
#[derive(Debug)]
pub struct Ingest {
    pass: Offload<Pass, Result<(), IngestError>>,
    /// Bytes for the next step.
    pending: Vec<u8>,
    failed: bool,
}

impl Ingest {
    /// Stages the encryption of what is written. `announced` is the size that the client named: if it cannot fit, the
    /// upload fails before its first byte.
    ///
    /// # Errors
    /// [`IngestError::NoSpace`], [`IngestError::TooLong`], [`IngestError::Disk`] (also if `label` is in use).
    pub async fn sealed(
        staging: &StagingDir,
        label: &StageName,
        cipher: FileCipher,
        announced: Option<u64>,
    ) -> Result<Self, IngestError> {
        let stored = announced.map(|plain| cipher_len(plain).ok_or(IngestError::TooLong)).transpose()?;
        Self::open(staging, label, Some(cipher), stored).await
    }

    /// Stages what is written as it is: for public content and previews.
    ///
    /// # Errors
    /// As [`Ingest::sealed`].
    pub async fn plain(staging: &StagingDir, label: &StageName, announced: Option<u64>) -> Result<Self, IngestError> {
        if announced.is_some_and(|size| size > PLAIN_BYTES_MAX) {
            return Err(IngestError::TooLong);
        }
        Self::open(staging, label, None, announced).await
    }

    async fn open(
        staging: &StagingDir,
        label: &StageName,
        cipher: Option<FileCipher>,
        stored: Option<u64>,
    ) -> Result<Self, IngestError> {
        let (dir, (data, outboard)) = (staging.path().to_owned(), staging.files(label));
        let pass = blocking(move || {
            let needed = stored.map(|size| size + outboard_len(size));
            let free = free_space(&dir).map_err(IngestError::Disk)?;
            if needed.is_some_and(|needed| needed > free) {
                return Err(IngestError::NoSpace { needed, free });
            }
            let files = StagedFiles::create(data, outboard).map_err(IngestError::Disk)?;
            Ok(Pass::new(cipher, files, needed))
        })
        .await
        .map_err(IngestError::Disk)??;
        Ok(Self { pass: Offload::new(pass), pending: Vec::new(), failed: false })
    }

    /// Takes in more bytes. Returns when they are buffered, which may be before they are on disk; an error of earlier
    /// bytes may come with later ones. Dropped before it returns, it has taken in nothing.
    ///
    /// # Errors
    /// As [`IngestError`] says; afterwards only [`IngestError::Failed`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), IngestError> {
        if self.failed {
            return Err(IngestError::Failed);
        }
        if self.pending.len() >= INGEST_BATCH_BYTES {
            self.step().await?;
        }
        self.pending.extend_from_slice(bytes);
        Ok(())
    }

    /// Ends the upload. On return the staged bytes are on stable storage.
    ///
    /// # Errors
    /// As [`IngestError`] says.
    pub async fn finish(mut self) -> Result<Ingested, IngestError> {
        if self.failed {
            return Err(IngestError::Failed);
        }
        self.step().await?;
        self.join().await?;
        let pass = self.pass.into_inner().ok_or(IngestError::Failed)?;
        blocking(move || pass.finish()).await.map_err(IngestError::Disk)?
    }

    /// Hands the pending bytes to the pool, once it is done with those before.
    async fn step(&mut self) -> Result<(), IngestError> {
        self.join().await?;
        let batch = std::mem::take(&mut self.pending);
        self.pass.start(move |pass| pass.take_in(&batch)).map_err(IngestError::Disk)
    }

    async fn join(&mut self) -> Result<(), IngestError> {
        let result = match self.pass.join().await {
            Ok(result) => result.unwrap_or(Ok(())),
            Err(error) => Err(IngestError::Disk(error)),
        };
        self.failed = result.is_err();
        result
    }
}

/// The files of one upload.
#[derive(Debug)]
struct StagedFiles {
    data: File,
    data_path: PathBuf,
    outboard: File,
    outboard_path: PathBuf,
}

impl StagedFiles {
    /// Makes both files; a label is used once.
    fn create(data_path: PathBuf, outboard_path: PathBuf) -> Result<Self, DiskError> {
        let data = File::create_new(&data_path).on_disk("create", &data_path)?;
        let outboard = File::create_new(&outboard_path).on_disk("create", &outboard_path)?;
        Ok(Self { data, data_path, outboard, outboard_path })
    }
}

/// Hashes bytes both ways.
#[derive(Debug, Default)]
struct BothHashes {
    sha256: Sha256,
    blake3: blake3::Hasher,
    size: u64,
}

impl BothHashes {
    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        self.blake3.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn finish(self) -> BlobRef {
        BlobRef {
            sha256: ContentHash(self.sha256.finalize().into()),
            blake3: Blake3Root(*self.blake3.finalize().as_bytes()),
            size: self.size,
        }
    }
}

/// The pass over the bytes; lives in the blocking pool while it works.
#[derive(Debug)]
struct Pass {
    sealer: Option<Sealer>,
    stored: Stored,
    needed: Option<u64>,
    taken: u64,
}

/// Turns a stream of plaintext into chunks; the last chunk is known only at the end, so a full one waits for a successor.
#[derive(Debug)]
struct Sealer {
    cipher: FileCipher,
    plain: BothHashes,
    chunk: Vec<u8>,
    index: u64,
    sealed: Vec<u8>,
}

/// Writes, hashes and builds the tree of what is stored.
#[derive(Debug)]
struct Stored {
    data: File,
    data_path: PathBuf,
    outboard_path: PathBuf,
    tree: OutboardBuilder<BufWriter<File>>,
    sha256: Sha256,
    size: u64,
}

/// What went wrong in one step.
#[derive(Debug)]
enum Refused {
    Io(io::Error),
    Cipher(CipherError),
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Pass {
    fn new(cipher: Option<FileCipher>, files: StagedFiles, needed: Option<u64>) -> Self {
        let StagedFiles { data, data_path, outboard, outboard_path } = files;
        let tree = OutboardBuilder::new(BufWriter::with_capacity(GROUP_BYTES, outboard));
        let stored = Stored { data, data_path, outboard_path, tree, sha256: Sha256::new(), size: 0 };
        Self { sealer: cipher.map(Sealer::new), stored, needed, taken: 0 }
    }

    fn take_in(&mut self, batch: &[u8]) -> Result<(), IngestError> {
        self.taken += batch.len() as u64;
        if self.taken > PLAIN_BYTES_MAX {
            self.stored.discard();
            return Err(IngestError::TooLong);
        }
        let taken = match &mut self.sealer {
            None => self.stored.append(batch).map_err(Refused::Io),
            Some(sealer) => sealer.take_in(batch, &mut self.stored),
        };
        taken.map_err(|refused| self.give_up(refused))
    }

    fn finish(mut self) -> Result<Ingested, IngestError> {
        let plain = match self.sealer.take().map(|sealer| sealer.finish(&mut self.stored)).transpose() {
            Ok(plain) => plain,
            Err(refused) => return Err(self.give_up(refused)),
        };
        let (data_path, outboard_path, needed) =
            (self.stored.data_path.clone(), self.stored.outboard_path.clone(), self.needed);
        match self.stored.finish() {
            Ok(staged) => Ok(Ingested { plain: plain.unwrap_or(staged.blob), staged }),
            Err(error) => {
                let error = disk_error(error, &data_path, needed);
                discard(&data_path, &outboard_path);
                Err(error)
            }
        }
    }

    fn give_up(&self, refused: Refused) -> IngestError {
        let error = match refused {
            Refused::Io(error) => disk_error(error, &self.stored.data_path, self.needed),
            // The pass cuts chunks to measure; only their number can be wrong.
            Refused::Cipher(_too_many) => IngestError::TooLong,
        };
        self.stored.discard();
        error
    }
}

impl Sealer {
    fn new(cipher: FileCipher) -> Self {
        Self {
            cipher,
            plain: BothHashes::default(),
            chunk: Vec::with_capacity(CHUNK_BYTES),
            index: 0,
            sealed: Vec::with_capacity(SEALED_CHUNK_BYTES),
        }
    }

    fn take_in(&mut self, mut batch: &[u8], stored: &mut Stored) -> Result<(), Refused> {
        self.plain.update(batch);
        while !batch.is_empty() {
            if self.chunk.len() == CHUNK_BYTES {
                self.seal(false, stored)?;
            }
            let room = (CHUNK_BYTES - self.chunk.len()).min(batch.len());
            let (now, later) = batch.split_at(room);
            self.chunk.extend_from_slice(now);
            batch = later;
        }
        Ok(())
    }

    fn finish(mut self, stored: &mut Stored) -> Result<BlobRef, Refused> {
        self.seal(true, stored)?;
        Ok(self.plain.finish())
    }

    fn seal(&mut self, last: bool, stored: &mut Stored) -> Result<(), Refused> {
        self.sealed.clear();
        self.cipher.seal_chunk(self.index, last, &self.chunk, &mut self.sealed).map_err(Refused::Cipher)?;
        self.chunk.clear();
        self.index += 1;
        Ok(stored.append(&self.sealed)?)
    }
}

impl Stored {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.data.write_all(bytes)?;
        self.sha256.update(bytes);
        self.tree.update(bytes)?;
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Flushes both files to stable storage. A blob of one group has an empty tree: its file is removed.
    fn finish(self) -> io::Result<StagedBlob> {
        let (blake3, outboard) = self.tree.finish()?;
        let outboard = outboard.into_inner().map_err(io::IntoInnerError::into_error)?;
        self.data.sync_all()?;
        let has_outboard = outboard_len(self.size) > 0;
        if has_outboard {
            outboard.sync_all()?;
        } else {
            std::fs::remove_file(&self.outboard_path)?;
        }
        let blob = BlobRef { sha256: ContentHash(self.sha256.finalize().into()), blake3, size: self.size };
        Ok(StagedBlob { blob, data: self.data_path, outboard: has_outboard.then_some(self.outboard_path) })
    }

    fn discard(&self) {
        discard(&self.data_path, &self.outboard_path);
    }
}

/// Frees the space of a failed upload at once; what cannot be removed now goes with the staging directory.
fn discard(data: &Path, outboard: &Path) {
    for path in [data, outboard] {
        if let Err(error) = remove_if_there(path) {
            tracing::debug!(%error, "staged file stays until its directory is removed");
        }
    }
}

fn disk_error(source: io::Error, path: &Path, needed: Option<u64>) -> IngestError {
    let error = DiskError { verb: "write", path: path.to_owned(), source };
    if error.is_no_space() {
        let free = path.parent().and_then(|dir| free_space(dir).ok()).unwrap_or(0);
        return IngestError::NoSpace { needed, free };
    }
    IngestError::Disk(error)
}

#[cfg(test)]
#[path = "ingest_tests.rs"]
mod tests;
