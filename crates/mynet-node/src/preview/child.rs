//! The child side of a preview: what the hidden `preview-worker` subcommand runs.
//!
//! It limits itself before it looks at the first byte of the original: address space, CPU time, file size, no core dump
//! and no further file descriptors (so not even a hijacked decoder opens a file or a socket). Call it first thing in
//! `main`, before any runtime starts: threads made earlier keep their memory, and the limits then bite too soon.
//!
//! stdin is the original (a regular file, encrypted if the environment has its key), stdout takes the report, the exit status says the same in short.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::report::encode;
use super::sealed::{OriginalKey, SealedFile};
use super::{PreviewError, PreviewInfo, PreviewKind, PreviewLimits, WorkerFailure, make_audio_preview, make_thumbnail};

pub use super::report::WorkerExit;

/// Address space: 1 GiB. A preview of audio takes some 20 MiB, an image half of this at most; a decoder that asks for more was
/// tricked.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

/// CPU time: 60 s. Thirty seconds of audio take under one; counting through a long FLAC of unknown length some more.
const CPU_SECONDS: u64 = 60;

/// Size of any file written: 64 MiB. A preview is under half a megabyte.
const FILE_BYTES: u64 = 64 << 20;

/// Limits this process, makes the preview of `input` in `output` and prints the report on stdout.
///
/// The limits are for the whole process and stay, so call it only in a process that does nothing else. The caller of
/// the process removes `output` unless the exit is [`WorkerExit::Made`].
pub fn run_worker(input: File, output: File, kind: PreviewKind, limits: PreviewLimits) -> WorkerExit {
    report(&limit_process().and_then(|()| make(input, output, (kind, &limits))))
}

/// Like [`run_worker`] with stdin as the input and a new file at `output`, readable by its owner only.
///
/// An existing file is never overwritten; that is reported as [`WorkerExit::Write`].
pub fn run_worker_from_stdin(output: &Path, kind: PreviewKind, limits: PreviewLimits) -> WorkerExit {
    let input = match io::stdin().as_fd().try_clone_to_owned() {
        Ok(descriptor) => File::from(descriptor),
        Err(error) => return report(&Err(PreviewError::Read(error))),
    };
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(output) {
        Ok(output) => run_worker(input, output, kind, limits),
        Err(error) => report(&Err(PreviewError::Write(error))),
    }
}

fn make(mut input: File, output: File, how: (PreviewKind, &PreviewLimits)) -> Result<PreviewInfo, PreviewError> {
    let output = BufWriter::new(output);
    match OriginalKey::from_environment().map_err(PreviewError::Read)? {
        None => make_of(&mut input, output, how),
        Some(key) => make_of(&mut SealedFile::new(input, &key).map_err(PreviewError::Read)?, output, how),
    }
}

fn make_of<R: Read + Seek + Send + Sync>(
    input: &mut R,
    mut output: BufWriter<File>,
    (kind, limits): (PreviewKind, &PreviewLimits),
) -> Result<PreviewInfo, PreviewError> {
    match kind {
        PreviewKind::Audio => make_audio_preview(input, &mut output, limits).map(PreviewInfo::Audio),
        PreviewKind::Image => make_thumbnail(input, &mut output, limits).map(PreviewInfo::Image),
    }
}

/// Prints the report. A parent that no longer listens is not an error here: the exit status still tells.
fn report(result: &Result<PreviewInfo, PreviewError>) -> WorkerExit {
    let (exit, line) = encode(result);
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
    exit
}

/// Sets all limits of this process, soft and hard, so that they cannot be raised again.
pub(super) fn limit_process() -> Result<(), PreviewError> {
    for (name, resource, wanted) in [
        ("address space", Resource::As, ADDRESS_SPACE_BYTES),
        ("cpu time", Resource::Cpu, CPU_SECONDS),
        ("file size", Resource::Fsize, FILE_BYTES),
        ("core dumps", Resource::Core, 0),
        ("open files", Resource::Nofile, 0),
    ] {
        let allowed = getrlimit(resource).maximum.map_or(wanted, |maximum| maximum.min(wanted));
        let limit = Rlimit { current: Some(allowed), maximum: Some(allowed) };
        setrlimit(resource, limit)
            .map_err(|error| WorkerFailure::Limits { what: format!("{name}: {error}").into() })?;
    }
    Ok(())
}
