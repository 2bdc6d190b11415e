//! Previews: the short public state that is derived from an original at upload, while its plaintext is at hand.
//!
//! Audio becomes Ogg Opus at 48 kHz stereo, an image a JPEG. The flow is `PreviewWorker` (parent, async) -> hidden
//! `preview-worker` subcommand (`run_worker_from_stdin`, a child with resource limits) -> `make_audio_preview` (decode, downmix,
//! resample, encode, mux) or `make_thumbnail`. Decoders read hostile bytes, so they run only in the child; the parent trusts
//! nothing but its exit.
//!
//! Guarantees, each checked by a test:
//! 1. A preview lasts at most [`PreviewLimits::audio_seconds`] and at most a third of the original's duration; no side of it has
//!    more pixels than [`PreviewLimits::image_pixels`], or than a third of the original's.
//! 2. A preview is smaller than a third of the original in bytes.
//! 3. The same original and limits give the same bytes (one build on one kind of CPU: resampler and encoder pick SIMD paths).
//! 4. Memory does not grow with an audio original: only one packet, the resampler's window and one Ogg page are held. An image is
//!    decoded whole, up to half a gigabyte.
//! 5. No plaintext is written to disk besides the preview itself: the child reads the descriptor it gets as stdin, and
//!    decrypts it in memory if it is encrypted.
//!
//! Supported originals: WAV (integer 8 to 32 bit, float, A-law, mu-law), FLAC, MP3, Ogg Vorbis and AAC (ADTS, or in MP4), 8 to 192
//! kHz, any channel layout; JPEG, PNG, WebP and GIF. Deliberately absent: Opus and other audio, other images, video and
//! documents; they are [`PreviewError::Unsupported`], never a guess.

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
mod thumbnail;
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
pub use thumbnail::make_thumbnail;
pub use worker::PreviewWorker;

/// Media type of every audio preview.
pub const AUDIO_MIME: &str = "audio/ogg; codecs=opus";

/// Media type of every preview of an image.
pub const IMAGE_MIME: &str = "image/jpeg";

/// Longest audio preview in seconds. It is a promise to content owners: doubled, nodes would publish twice as much of
/// every protected track; halved, most songs would not reach their chorus.
pub const AUDIO_SECONDS_MAX: u32 = 30;

/// Most pixels on a side of an image's preview, as for [`AUDIO_SECONDS_MAX`]: doubled, it fills a screen.
pub const IMAGE_PIXELS_MAX: u32 = 1024;

/// One stereo sample pair, left then right, nominally within -1.0 to 1.0.
type Frame = [f32; 2];

/// Bounds of a preview. The share of a third is not configurable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PreviewLimits {
    audio_seconds: u32,
    image_pixels: u32,
}

impl PreviewLimits {
    /// At most `seconds` of audio, brought into 1 to [`AUDIO_SECONDS_MAX`], and `pixels` on a side of an image, brought into 16
    /// to [`IMAGE_PIXELS_MAX`].
    pub fn new(seconds: u32, pixels: u32) -> Self {
        Self {
            audio_seconds: seconds.clamp(1, AUDIO_SECONDS_MAX),
            image_pixels: pixels.clamp(thumbnail::SIDE_MIN, IMAGE_PIXELS_MAX),
        }
    }

    /// Most pixels on a side of an image's preview.
    pub fn image_pixels(&self) -> u32 {
        self.image_pixels
    }

    /// Longest audio preview in seconds.
    pub fn audio_seconds(&self) -> u32 {
        self.audio_seconds
    }
}

impl Default for PreviewLimits {
    fn default() -> Self {
        Self { audio_seconds: AUDIO_SECONDS_MAX, image_pixels: 512 }
    }
}

/// What kind of preview is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewKind {
    /// Of sound.
    Audio,
    /// Of one image.
    Image,
}

impl PreviewKind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Image => "image",
        }
    }
}

impl std::str::FromStr for PreviewKind {
    type Err = &'static str;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Audio, Self::Image].into_iter().find(|kind| kind.as_str() == word).ok_or("audio or image")
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PreviewInfo {
    /// Of audio.
    Audio(AudioInfo),
    /// Of an image.
    Image(ImageInfo),
}

impl PreviewInfo {
    /// What kind it is.
    pub fn kind(&self) -> PreviewKind {
        match self {
            Self::Audio(_) => PreviewKind::Audio,
            Self::Image(_) => PreviewKind::Image,
        }
    }

    /// Size of the preview file.
    pub fn size_bytes(&self) -> u64 {
        match self {
            Self::Audio(info) => info.size_bytes,
            Self::Image(info) => info.size_bytes,
        }
    }

    /// Its media type.
    pub fn mime(&self) -> &'static str {
        match self {
            Self::Audio(_) => AUDIO_MIME,
            Self::Image(_) => IMAGE_MIME,
        }
    }
}

/// Facts about the preview of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// Size of the preview file.
    pub size_bytes: u64,
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
}

/// Facts about the preview of audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioInfo {
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
