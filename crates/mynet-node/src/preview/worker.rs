//! The parent side of a preview: starts the child, waits for it within bounds, believes only what it can check.
//!
//! `<exe> preview-worker --output <path> --kind <audio|image> --seconds <n> --pixels <n>`, environment cleared but for the key of
//! an encrypted original, which is stdin. The original is handed over as an open descriptor, so no plaintext copy is written and the child needs no path to it.
//!
//! Bounds: [`CONCURRENT_MAX`] children at once, the rest wait in order; a child has [`TIMEOUT`]; of its output only the
//! first [`OUTPUT_BYTES_MAX`] are read. Dropping the future kills the child and removes its file.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tracing::debug;

use mynet_types::ContentType;

use super::report::{decode, one_line};
use super::sealed::KEY_VARIABLE;
use super::{OriginalKey, Preview, PreviewError, PreviewInfo, PreviewKind, PreviewLimits, WorkerFailure};

/// Children at once. More would take cores from serving; one would let a single slow original hold up every upload.
const CONCURRENT_MAX: usize = 2;

/// Wall-clock time of one child: its 60 s of CPU time and as much again for a slow disk or a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Most that is read of a child's stdout, and of its stderr.
const OUTPUT_BYTES_MAX: u64 = 4_096;

/// Makes previews in child processes. Share one per node: the bound on concurrency is per worker.
#[derive(Debug)]
pub struct PreviewWorker {
    exe: PathBuf,
    args: Vec<OsString>,
    timeout: Duration,
    slots: Semaphore,
}

impl PreviewWorker {
    /// A worker that starts `<exe> preview-worker`, where `exe` is normally this program itself.
    pub fn new(exe: PathBuf) -> Self {
        Self::with_command(exe, vec!["preview-worker".into()])
    }

    /// A worker that starts `exe` with `args` before its own arguments.
    pub fn with_command(exe: PathBuf, args: Vec<OsString>) -> Self {
        Self { exe, args, timeout: TIMEOUT, slots: Semaphore::new(CONCURRENT_MAX) }
    }

    /// The same worker with another time limit per child.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Children that could start now without waiting.
    pub fn free_slots(&self) -> usize {
        self.slots.available_permits()
    }

    /// Makes the preview of `original` as a new file at `output`.
    ///
    /// `original` must be a regular file opened for this call: the child moves its read position. It is ciphertext if
    /// `key` is given. `output` must not exist. On any error, and when the future is dropped, no file remains at `output`. The file is not synced.
    ///
    /// # Errors
    /// [`PreviewError::Unsupported`] without starting a child when `kind` has no preview here; else what the child
    /// reports, or [`PreviewError::Worker`] when the child itself failed.
    pub async fn make(
        &self,
        (original, key): (File, Option<OriginalKey>),
        kind: ContentType,
        output: &Path,
        limits: PreviewLimits,
    ) -> Result<Preview, PreviewError> {
        let kind = match kind {
            ContentType::Audio => PreviewKind::Audio,
            ContentType::Image => PreviewKind::Image,
            ContentType::Video => return Err(PreviewError::unsupported("video")),
            ContentType::Document => return Err(PreviewError::unsupported("a document")),
        };
        let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
        if output.exists() {
            return Err(PreviewError::Write(io::ErrorKind::AlreadyExists.into()));
        }
        let staged = StagedFile { path: output, keep: false };
        let child = self.spawn((original, key.as_ref()), output, kind, limits).map_err(WorkerFailure::Start)?;
        let info = self.wait(child).await?;
        if kind != info.kind() {
            return Err(WorkerFailure::Report { what: "it is about another kind of preview" }.into());
        }
        let found = tokio::fs::symlink_metadata(output).await.ok();
        if found.is_none_or(|found| !found.is_file() || found.len() != info.size_bytes()) {
            return Err(WorkerFailure::Report { what: "the file is not as reported" }.into());
        }
        staged.keep();
        debug!(?info, "preview made");
        Ok(Preview { path: output.to_owned(), mime: info.mime(), info })
    }

    fn spawn(
        &self,
        (original, key): (File, Option<&OriginalKey>),
        output: &Path,
        kind: PreviewKind,
        limits: PreviewLimits,
    ) -> io::Result<Child> {
        Command::new(&self.exe)
            .args(&self.args)
            .arg("--output")
            .arg(output)
            .args(["--kind", kind.as_str()])
            .arg("--seconds")
            .arg(limits.audio_seconds().to_string())
            .arg("--pixels")
            .arg(limits.image_pixels().to_string())
            .env_clear()
            .envs(key.map(|key| (KEY_VARIABLE, key.to_variable())))
            .stdin(Stdio::from(original))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }

    /// Waits for the end of `child` and its report. The child is killed when it takes too long.
    async fn wait(&self, mut child: Child) -> Result<PreviewInfo, PreviewError> {
        let stdout = child.stdout.take();
        let stderr = child.stderr.take();
        let ended = async { tokio::join!(child.wait(), read_some(stdout), read_some(stderr)) };
        let (status, stdout, stderr) = tokio::time::timeout(self.timeout, ended)
            .await
            .map_err(|_elapsed| WorkerFailure::TimedOut { after: self.timeout })?;
        let status = status.map_err(WorkerFailure::Start)?;
        decode(status.code(), &stdout).unwrap_or_else(|| Err(died(status, &stderr)))
    }
}

fn died(status: ExitStatus, stderr: &[u8]) -> PreviewError {
    WorkerFailure::Died { status, stderr: one_line(&String::from_utf8_lossy(stderr)) }.into()
}

/// The beginning of what a pipe gives, until its end. A broken pipe just ends it: the exit status is what counts.
async fn read_some(pipe: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut read = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(OUTPUT_BYTES_MAX).read_to_end(&mut read).await;
    }
    read
}

/// A file that is removed unless it is kept, also when the future that made it is dropped.
struct StagedFile<'a> {
    path: &'a Path,
    keep: bool,
}

impl StagedFile<'_> {
    fn keep(mut self) {
        self.keep = true;
    }
}

impl Drop for StagedFile<'_> {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_file(self.path);
        }
    }
}
