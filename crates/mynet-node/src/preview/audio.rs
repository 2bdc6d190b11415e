//! Makes an audio preview: source -> stereo -> 48 kHz -> fades -> Opus in Ogg, all streaming.

use std::io::{Read, Seek, Write};
use std::time::Duration;

use super::ogg_opus::{CountingWriter, OggOpusWriter, SAMPLE_RATE, StreamShape, packets_for, stream_bytes};
use super::plan::{Plan, plan};
use super::resample::Resampler;
use super::source::{Source, inspect};
use super::{AudioInfo, Frame, PreviewError, PreviewLimits};

/// Fade-in: 20 ms, just enough that a cut into loud music does not click.
const FADE_IN_SAMPLES: u64 = SAMPLE_RATE / 50;

/// Fade-out: half a second, heard as an end and not as a fault. Short previews fade over at most a quarter.
const FADE_OUT_SAMPLES: u64 = SAMPLE_RATE / 2;

/// Makes the preview of the audio in `input` and writes it to `out`, from front to back.
///
/// `input` is read from its own start whatever its position; only the parts that are needed are read where the format
/// allows it. Damaged passages become silence ([`AudioInfo::concealed`]). Originals under a second have no preview.
/// `out` is not flushed to disk.
///
/// # Errors
/// [`PreviewError::Unsupported`], [`PreviewError::TooShort`] and most of [`PreviewError::Corrupt`] come before anything
/// is written. [`PreviewError::Corrupt`] (more than half of the part had to be silence), [`PreviewError::Read`],
/// [`PreviewError::Write`] and [`PreviewError::Encode`] may leave an incomplete file in `out`, to be thrown away.
pub fn make_audio_preview<R, W>(input: &mut R, out: &mut W, limits: &PreviewLimits) -> Result<AudioInfo, PreviewError>
where
    R: Read + Seek + Send + Sync,
    W: Write,
{
    let original = inspect(input)?;
    let plan = plan(&original, limits)?;
    let mut source = Source::open(input)?;
    source.seek(plan.start_frame)?;

    let shape = StreamShape { samples: plan.samples, packet_bytes: plan.packet_bytes, source_rate: original.rate };
    let mut track = Track {
        writer: OggOpusWriter::new(CountingWriter::new(out), shape)?,
        resampler: Resampler::new(original.rate)?,
        fades: Fades { at: 0, samples: plan.samples },
        resampled: Vec::new(),
    };
    transfer(&mut source, &plan, &mut track)?;
    if source.concealed() * 2 > plan.take_frames {
        return Err(PreviewError::corrupt("more than half of the chosen part cannot be decoded"));
    }
    let mut written = track.writer.finish()?;
    written.flush().map_err(PreviewError::Write)?;
    let size_bytes = written.written();
    if size_bytes > stream_bytes(packets_for(plan.samples), plan.packet_bytes as u64) {
        return Err(PreviewError::Encode { what: "packets larger than asked for".into() });
    }
    Ok(AudioInfo {
        size_bytes,
        duration: time_of(plan.samples, SAMPLE_RATE),
        start: time_of(plan.start_frame, u64::from(original.rate)),
        bitrate_bps: plan.bitrate_bps(),
        concealed: time_of(source.concealed(), u64::from(original.rate)),
    })
}

/// The stages after the source.
struct Track<W: Write> {
    writer: OggOpusWriter<W>,
    resampler: Resampler,
    fades: Fades,
    resampled: Vec<Frame>,
}

impl<W: Write> Track<W> {
    /// Fades and encodes what the resampler gave out.
    fn write_resampled(&mut self) -> Result<(), PreviewError> {
        self.fades.apply(&mut self.resampled);
        self.writer.push(&self.resampled)?;
        self.resampled.clear();
        Ok(())
    }
}

/// Carries the planned frames from the source through all stages.
fn transfer<W: Write>(source: &mut Source<'_>, plan: &Plan, track: &mut Track<W>) -> Result<(), PreviewError> {
    let mut frames = Vec::new();
    let mut left = plan.take_frames;
    while left > 0 {
        frames.clear();
        source.read(left, &mut frames)?;
        left -= frames.len() as u64;
        track.resampler.push(&frames, &mut track.resampled)?;
        track.write_resampled()?;
    }
    track.resampler.flush(&mut track.resampled)?;
    track.write_resampled()
}

/// Fade-in and fade-out over a stream of known length.
struct Fades {
    at: u64,
    samples: u64,
}

impl Fades {
    fn apply(&mut self, frames: &mut [Frame]) {
        let fade_in = FADE_IN_SAMPLES.min(self.samples / 4);
        let fade_out = FADE_OUT_SAMPLES.min(self.samples / 4);
        for frame in frames {
            let left = self.samples.saturating_sub(self.at + 1);
            if self.at < fade_in {
                scale(frame, self.at, fade_in);
            } else if left < fade_out {
                scale(frame, left, fade_out);
            }
            self.at += 1;
        }
    }
}

/// Scales a frame by a smooth step (no corner at either end) at `step` of `steps`.
fn scale(frame: &mut Frame, step: u64, steps: u64) {
    let x = step as f32 / steps as f32;
    let gain = x * x * (3.0 - 2.0 * x);
    *frame = [frame[0] * gain, frame[1] * gain];
}

/// The time of `frames` at `rate`, rounded down to microseconds.
fn time_of(frames: u64, rate: u64) -> Duration {
    let micros = u128::from(frames) * 1_000_000 / u128::from(rate);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}
