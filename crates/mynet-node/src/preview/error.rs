//! Why a preview was not made.
//!
//! [`PreviewError`] speaks about the original and the job, [`WorkerFailure`] about the child process around it. Neither
//! holds content: only names of formats, decoder phrases and numbers.

use std::borrow::Cow;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use thiserror::Error;

/// Why a preview was not made. No variant leaves a file behind when it comes from a `PreviewWorker`.
#[derive(Debug, Error)]
pub enum PreviewError {
    /// The type has no preview here, or the codec is unknown. Final: the same bytes will not work later.
    #[error("no preview for {what}")]
    Unsupported {
        /// The format or feature that is not supported.
        what: Cow<'static, str>,
    },
    /// The type is supported, but these bytes are damaged beyond use. Final.
    #[error("original is damaged: {what}")]
    Corrupt {
        /// What the decoder stumbled over.
        what: Cow<'static, str>,
    },
    /// The original lasts less than a second, or is so small that nothing audible fits into a third of it. Final.
    #[error("original is too short for a preview")]
    TooShort,
    /// The original is an image of so few pixels or bytes that a third of it shows nothing. Final.
    #[error("original is too small for a preview")]
    TooSmall,
    /// The original could not be read. Retry when the medium is well again.
    #[error("read original")]
    Read(#[source] io::Error),
    /// The preview could not be written. Retry when there is space.
    #[error("write preview")]
    Write(#[source] io::Error),
    /// The resampler or the encoder refused its input: a defect here, not of the original.
    #[error("encode preview: {what}")]
    Encode {
        /// Their words.
        what: Cow<'static, str>,
    },
    /// The child process failed as such. Worth one retry; if it repeats, the original is likely hostile.
    #[error("preview worker failed")]
    Worker {
        /// How it failed.
        #[source]
        failure: WorkerFailure,
    },
}

/// How the child process failed.
#[derive(Debug, Error)]
pub enum WorkerFailure {
    /// The child could not be started or waited for.
    #[error("run worker process")]
    Start(#[source] io::Error),
    /// The child could not limit itself and refused to touch the original.
    #[error("set resource limits: {what}")]
    Limits {
        /// The limit and the system's words.
        what: Cow<'static, str>,
    },
    /// The child did not finish in time and was killed.
    #[error("no result within {after:?}")]
    TimedOut {
        /// The time it had.
        after: Duration,
    },
    /// The child was killed or crashed; a limit it ran into looks like this too.
    #[error("ended without a result: {status}; {stderr}")]
    Died {
        /// Exit status or signal.
        status: ExitStatus,
        /// The beginning of what it wrote to stderr.
        stderr: String,
    },
    /// The child ended well but its report makes no sense, or the file is not what it reported.
    #[error("unusable report: {what}")]
    Report {
        /// What is wrong with it.
        what: &'static str,
    },
}

impl PreviewError {
    pub(super) fn unsupported(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Unsupported { what: what.into() }
    }

    pub(super) fn corrupt(what: impl Into<Cow<'static, str>>) -> Self {
        Self::Corrupt { what: what.into() }
    }
}

impl From<WorkerFailure> for PreviewError {
    fn from(failure: WorkerFailure) -> Self {
        Self::Worker { failure }
    }
}
