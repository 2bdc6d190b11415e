//! Streaming sample-rate conversion to 48 kHz: the windowed sinc of `rubato`, brought into exact time and length.
//!
//! The low-pass has 192 taps at the lower of the two rates: its stop band begins at that rate's Nyquist frequency and
//! lies more than 90 dB down, its pass band reaches 0.92 of Nyquist. For every usual rate the filter has a phase for
//! each output position; rates that would need more than [`PHASES_MAX`] interpolate between two (error below -100 dB).
//!
//! `rubato` delays by half the filter, in general not by whole frames, and leaves the trimming to its user. Here output
//! `n` stands for `n / 48000` seconds of input, and there are as many as begin before the input ends. See [`lead_in`].
//!
//! Bounds: the filter has at most 640 phases of 768 taps (2 MB); besides one chunk each of input and output, up to a
//! second of silence is held at the start.

use std::fmt::Display;

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{
    Async, FixedAsync, Resampler as _, SincInterpolationParameters, SincInterpolationType, WindowFunction,
    calculate_cutoff,
};

use super::ogg_opus::SAMPLE_RATE;
use super::{Frame, PreviewError};

/// Filter taps at the lower rate. Halved, the transition band eats the top octave's air; doubled, twice the work.
const TAPS: u64 = 192;

/// `rubato` rounds the number of taps up to a multiple of this. It must be known: the delay is half the taps.
const TAPS_MULTIPLE: u64 = 8;

/// Side lobes near -92 dB, below the noise of any Opus encoder. The squared windows need more taps for the same band.
const WINDOW: WindowFunction = WindowFunction::BlackmanHarris;

/// Most filter phases: those of 11.025 kHz, which has the most of the usual rates. Halved, that rate is interpolated.
const PHASES_MAX: u64 = 640;

/// Input frames converted at a time. Much less, and copying the filter's history outweighs the filter.
const CHUNK_FRAMES: usize = 1_024;

/// Converts one stream. Feed it with `push`, then `flush` once.
pub(super) struct Resampler {
    /// None when the input is 48 kHz already and passes untouched.
    sinc: Option<Async<f32>>,
    rate: u64,
    /// Input that does not fill a chunk yet; it starts with the silence of the lead-in.
    pending: Vec<Frame>,
    /// Room for the output of one chunk.
    converted: Vec<Frame>,
    /// Output still to be dropped, because it stands for the time before the input.
    early: usize,
    /// Frames pushed.
    accepted: u64,
    /// Frames given out.
    given: u64,
}

impl Resampler {
    /// A converter from `rate` to 48 kHz. The source accepts 8 to 192 kHz; the filter is made for no more than that.
    ///
    /// # Errors
    /// [`PreviewError::Encode`] when the filter cannot be made.
    pub(super) fn new(rate: u32) -> Result<Self, PreviewError> {
        let rate = u64::from(rate);
        let idle =
            Self { sinc: None, rate, pending: Vec::new(), converted: Vec::new(), early: 0, accepted: 0, given: 0 };
        if rate == SAMPLE_RATE {
            return Ok(idle);
        }
        let common = gcd(rate, SAMPLE_RATE);
        let (step, parts) = (rate / common, SAMPLE_RATE / common);
        let taps = (TAPS * rate).div_ceil(SAMPLE_RATE).max(TAPS).next_multiple_of(TAPS_MULTIPLE);
        // One filter phase for so many parts of a frame. It divides them evenly, so that the lead-in can be exact.
        let stride = (1..parts).find(|n| parts.is_multiple_of(*n) && parts / n <= PHASES_MAX).unwrap_or(parts);
        let interpolation = if stride == 1 { SincInterpolationType::Nearest } else { SincInterpolationType::Linear };
        // The cut-off is that of the taps at the lower rate: `rubato` itself scales it down for a higher one.
        let filter = SincInterpolationParameters::new(taps as usize, WINDOW)
            .f_cutoff(calculate_cutoff(TAPS as usize, WINDOW))
            .oversampling_factor((parts / stride) as usize)
            .interpolation(interpolation);
        let ratio = SAMPLE_RATE as f64 / rate as f64;
        let sinc = Async::new_sinc(ratio, 1.0, &filter, CHUNK_FRAMES, 2, FixedAsync::Input).map_err(refused)?;
        let (silence, early) = lead_in((step, parts), taps, stride);
        Ok(Self {
            pending: vec![[0.0; 2]; silence as usize],
            converted: vec![[0.0; 2]; sinc.output_frames_max()],
            sinc: Some(sinc),
            early: early as usize,
            ..idle
        })
    }

    /// Takes `input` and appends what can be computed to `out`. Output lags input by half the taps and a chunk.
    ///
    /// # Errors
    /// [`PreviewError::Encode`] when `rubato` refuses a chunk.
    pub(super) fn push(&mut self, input: &[Frame], out: &mut Vec<Frame>) -> Result<(), PreviewError> {
        self.accepted += input.len() as u64;
        self.convert(input, out)
    }

    /// Appends the lagging rest, as if silence followed.
    ///
    /// # Errors
    /// As [`Self::push`].
    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) -> Result<(), PreviewError> {
        let total = (self.accepted * SAMPLE_RATE).div_ceil(self.rate);
        let end = out.len() + total.saturating_sub(self.given) as usize;
        while out.len() < end {
            self.convert(&[[0.0; 2]; CHUNK_FRAMES], out)?;
        }
        out.truncate(end);
        Ok(())
    }

    /// Converts all full chunks of what is pending and `input`.
    fn convert(&mut self, input: &[Frame], out: &mut Vec<Frame>) -> Result<(), PreviewError> {
        let before = out.len();
        match &mut self.sinc {
            None => out.extend_from_slice(input),
            Some(sinc) => {
                self.pending.extend_from_slice(input);
                let chunks = self.pending.chunks_exact(CHUNK_FRAMES);
                let rest = chunks.remainder().len();
                for chunk in chunks {
                    let made = convert_chunk(sinc, chunk, &mut self.converted)?;
                    let early = self.early.min(made.len());
                    self.early -= early;
                    out.extend_from_slice(&made[early..]);
                }
                self.pending.drain(..self.pending.len() - rest);
            }
        }
        self.given += (out.len() - before) as u64;
        Ok(())
    }
}

/// Converts one chunk into `room` and returns the part of it that was filled.
fn convert_chunk<'a>(
    sinc: &mut Async<f32>,
    chunk: &[Frame],
    room: &'a mut [Frame],
) -> Result<&'a [Frame], PreviewError> {
    let frames = room.len();
    let input = InterleavedSlice::new(chunk.as_flattened(), 2, chunk.len()).map_err(refused)?;
    let mut output = InterleavedSlice::new_mut(room.as_flattened_mut(), 2, frames).map_err(refused)?;
    let (_, made) = sinc.process_into_buffer(&input, &mut output, None).map_err(refused)?;
    Ok(&room[..made])
}

/// Rates and sizes are ours and within what `rubato` accepts, so a refusal is a defect here and not of the original.
fn refused(error: impl Display) -> PreviewError {
    PreviewError::Encode { what: format!("resample: {error}").into() }
}

/// How to begin so that the first output kept stands for the first input: frames of silence to feed, then frames of
/// output to drop. `step / parts`, in lowest terms, are the input frames per output frame.
///
/// Output `n` of `rubato` stands for the input at `(n + 1) * step / parts - taps / 2 + stride / parts` (its table begins
/// with phase one, not zero). The first of these positions that is a whole number and not negative tells both.
fn lead_in((step, parts): (u64, u64), taps: u64, stride: u64) -> (u64, u64) {
    let delay = taps / 2;
    let first = (delay * parts).div_ceil(step);
    let steps = (first..first + parts)
        .find(|steps| (steps * step + stride).is_multiple_of(parts))
        .expect("multiples of a number coprime to `parts` leave every remainder");
    ((steps * step + stride) / parts - delay, steps - 1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::Resampler;
    use crate::preview::Frame;
    use crate::preview::tests::kit::{crossings_hz, level_at};

    const RATES: [u32; 11] = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000];

    /// Rates that share next to nothing with 48 kHz, so that filter phases are interpolated.
    const ODD_RATES: [u32; 4] = [8_001, 44_101, 47_999, 191_999];

    fn sine(rate: u32, hz: f64, frames: usize) -> Vec<Frame> {
        (0..frames).map(|n| [(0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32; 2]).collect()
    }

    /// Resamples in uneven pieces, as a decoder would deliver them.
    fn resample(rate: u32, input: &[Frame]) -> Vec<Frame> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        let mut left = input;
        for size in [1, 7, 1_152, 4_096].into_iter().cycle() {
            let (piece, rest) = left.split_at(size.min(left.len()));
            resampler.push(piece, &mut out).unwrap();
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        resampler.flush(&mut out).unwrap();
        out
    }

    fn middle(frames: &[Frame]) -> &[Frame] {
        &frames[2_400..frames.len() - 2_400]
    }

    #[test]
    fn tone_keeps_frequency_level_and_length() {
        for rate in RATES.into_iter().chain(ODD_RATES) {
            let frames = rate as usize / 2;
            let out = resample(rate, &sine(rate, 1_000.0, frames));
            assert_eq!(out.len(), (frames * 48_000).div_ceil(rate as usize), "{rate}");
            let tone = middle(&out);
            assert!((crossings_hz(tone) - 1_000.0).abs() < 0.5, "{rate}: {}", crossings_hz(tone));
            let level_db = 20.0 * (level_at(tone, 1_000.0) / 0.5).log10();
            assert!(level_db.abs() < 0.05, "{rate}: {level_db} dB");
        }
    }

    #[test]
    fn tone_keeps_its_phase() {
        let expected = sine(48_000, 1_000.0, 24_000);
        for rate in RATES.into_iter().chain(ODD_RATES) {
            let out = resample(rate, &sine(rate, 1_000.0, rate as usize / 2));
            for (got, want) in middle(&out).iter().zip(middle(&expected)) {
                assert!((got[0] - want[0]).abs() < 1e-4, "{rate}: {got:?} {want:?}");
            }
        }
    }

    #[test]
    fn short_streams_have_their_length_and_48_khz_is_untouched() {
        for rate in [8_000, 44_100, 44_101, 48_000, 192_000] {
            for frames in [0, 1, 1_025] {
                let input = vec![[0.5, -0.5]; frames];
                let out = resample(rate, &input);
                assert_eq!(out.len(), (frames * 48_000).div_ceil(rate as usize), "{rate}");
                assert!(rate != 48_000 || out == input);
            }
        }
    }

    #[test]
    fn tone_has_no_other_content_above_minus_70_db() {
        for rate in [8_000, 44_100, 96_000, 192_000, 44_101] {
            let out = resample(rate, &sine(rate, 3_000.0, rate as usize / 2));
            let tone = middle(&out[..24_000]);
            let power: f64 = tone.iter().map(|f| f64::from(f[0]).powi(2)).sum::<f64>() / tone.len() as f64;
            let rest = (power - level_at(tone, 3_000.0).powi(2) / 2.0).abs();
            let rest_db = 10.0 * (rest / power).log10();
            assert!(rest_db < -70.0, "{rate}: {rest_db} dB");
        }
    }

    #[test]
    fn tones_above_nyquist_do_not_alias() {
        for (rate, hz) in [(96_000, 30_000.0), (192_000, 47_000.0), (192_000, 25_000.0), (88_200, 40_000.0)] {
            let out = resample(rate, &sine(rate, hz, rate as usize / 2));
            let peak = middle(&out[..24_000]).iter().fold(0.0_f32, |peak, f| peak.max(f[0].abs()));
            let peak_db = 20.0 * (f64::from(peak) / 0.5).log10();
            assert!(peak_db < -70.0, "{rate} {hz}: {peak_db} dB");
        }
    }

    #[test]
    fn images_of_slow_sources_are_gone() {
        let out = resample(8_000, &sine(8_000, 3_000.0, 4_000));
        let image_db = 20.0 * (level_at(middle(&out[..24_000]), 5_000.0) / 0.5).log10();
        assert!(image_db < -70.0, "{image_db} dB");
    }
}
