//! Previews: the short public state that is derived from an original at upload, while its plaintext is at hand.
//!
//! Audio becomes Ogg Opus at 48 kHz stereo. The flow is `PreviewWorker` (parent, async) -> hidden `preview-worker`
//! subcommand (`run_worker_from_stdin`, a child with resource limits) -> `make_audio_preview` (decode, downmix, resample,
//! encode, mux). Decoders read hostile bytes, so they run only in the child; the parent trusts nothing but its exit.
//!
//! Guarantees, each checked by a test:
//! 1. A preview lasts at most [`PreviewLimits::audio_seconds`] and at most a third of the original's duration.
//! 2. A preview is smaller than a third of the original in bytes.
//! 3. The same original and limits give the same bytes (one build on one kind of CPU: resampler and encoder pick SIMD paths).
//! 4. Memory does not grow with the original: only one packet, the resampler's window and one Ogg page are held.
//! 5. No plaintext is written to disk besides the preview itself: the child reads the descriptor it gets as stdin, and
//!    decrypts it in memory if it is encrypted.
//!
//! Supported originals: WAV (integer 8 to 32 bit, float, A-law, mu-law), FLAC, MP3, Ogg Vorbis and AAC (ADTS, or in MP4), 8 to 192
//! kHz, any channel layout. Deliberately absent: Opus and other audio, images, video and documents; they are
//! [`PreviewError::Unsupported`], never a guess.

mod audio;
mod child;
mod downmix;
mod error;
mod ogg_opus;
mod plan;
mod report;
mod resample;
mod sealed;
mod source;
pub mod tone;
mod worker;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::time::Duration;

pub use audio::make_audio_preview;
pub use child::{WorkerExit, run_worker, run_worker_from_stdin};
pub use error::{PreviewError, WorkerFailure};
pub use sealed::OriginalKey;
pub use worker::PreviewWorker;

/// Media type of every audio preview.
pub const AUDIO_MIME: &str = "audio/ogg; codecs=opus";

/// Longest audio preview in seconds. It is a promise to content owners: doubled, nodes would publish twice as much of
/// every protected track; halved, most songs would not reach their chorus.
pub const AUDIO_SECONDS_MAX: u32 = 30;

/// One stereo sample pair, left then right, nominally within -1.0 to 1.0.
type Frame = [f32; 2];

/// Bounds of a preview. The share of a third is not configurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewLimits {
    audio_seconds: u32,
}

impl PreviewLimits {
    /// Limits with at most `seconds` of audio, brought into 1 to [`AUDIO_SECONDS_MAX`].
    pub fn with_audio_seconds(seconds: u32) -> Self {
        Self { audio_seconds: seconds.clamp(1, AUDIO_SECONDS_MAX) }
    }

    /// Longest audio preview in seconds.
    pub fn audio_seconds(&self) -> u32 {
        self.audio_seconds
    }
}

impl Default for PreviewLimits {
    fn default() -> Self {
        Self { audio_seconds: AUDIO_SECONDS_MAX }
    }
}

/// What was made: facts about a preview's audio and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewInfo {
    /// Size of the preview file.
    pub size_bytes: u64,
    /// Playing time, rounded down to microseconds.
    pub duration: Duration,
    /// Where in the original the preview begins, rounded down to microseconds.
    pub start: Duration,
    /// Bits per second of the Opus packets, Ogg framing excluded.
    pub bitrate_bps: u32,
    /// Silence put in place of audio that could not be decoded; zero for an intact original.
    pub concealed: Duration,
}

/// A preview file made by [`PreviewWorker::make`]. The caller owns the file and removes it when done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preview {
    /// The file, at the path the caller asked for.
    pub path: PathBuf,
    /// Its media type.
    pub mime: &'static str,
    /// Facts about its content.
    pub info: PreviewInfo,
}
