//! Streaming sample-rate conversion to 48 kHz by a polyphase windowed sinc.
//!
//! The low-pass is a Kaiser-windowed sinc with 48 zero crossings a side at the lower of the two rates. Its stop band
//! begins at that rate's Nyquist frequency and lies about 90 dB down; its pass band reaches 0.91 of Nyquist. Filter
//! phases between the 512 tabulated ones are interpolated linearly (error near -115 dB), which serves every rational
//! ratio with one table. Output `n` stands for exactly `n / 48000` seconds: positions are exact fractions, never floats.
//!
//! Bounds: the table has 513 rows of 96 taps (384 at 192 kHz, 0.8 MB); the window holds the taps and the last input.
//! Source: J. O. Smith, "Digital Audio Resampling Home Page"; Kaiser's window formula.

use super::Frame;
use super::ogg_opus::SAMPLE_RATE;

/// Zero crossings of the sinc on each side. Halved, the transition band eats the top octave's air; doubled, twice the work.
const ZERO_CROSSINGS: f64 = 48.0;

/// Cut-off as a share of Nyquist: half a transition band below it, so that aliases fall into the stop band.
const ROLL_OFF: f64 = 0.94;

/// Kaiser's shape parameter for about 90 dB. Smaller lets aliases through, larger widens the transition band.
const KAISER_BETA: f64 = 9.0;

/// Tabulated phases. Halved, interpolation noise rises by 12 dB.
const PHASES: usize = 512;

/// Used input is dropped once this much of it has gathered, so that dropping stays rare.
const DROP_AFTER: usize = 8_192;

/// Converts one stream. Feed it with `push`, then `flush` once.
pub(super) struct Resampler {
    /// Whole input frames per output frame.
    step_whole: usize,
    /// The rest of the step, in fractions of `step_parts`.
    step_rest: usize,
    step_parts: usize,
    /// Taps on each side of the output position.
    half: usize,
    /// `PHASES + 1` rows of `2 * half` taps; empty when input is 48 kHz already.
    table: Vec<f32>,
    /// Input not used up yet; it starts with silence for the taps before the first frame.
    window: Vec<Frame>,
    /// Start of the current taps in `window`.
    at: usize,
    /// Fraction of the position past its whole frame, in `step_parts`.
    rest: usize,
}

impl Resampler {
    /// A converter from `rate` (8 to 192 kHz) to 48 kHz.
    pub(super) fn new(rate: u32) -> Self {
        let common = gcd(rate as usize, SAMPLE_RATE as usize);
        let (step, step_parts) = (rate as usize / common, SAMPLE_RATE as usize / common);
        let scale = (SAMPLE_RATE as f64 / f64::from(rate)).min(1.0);
        let half = (ZERO_CROSSINGS / scale).ceil() as usize;
        let identity = u64::from(rate) == SAMPLE_RATE;
        Self {
            step_whole: step / step_parts,
            step_rest: step % step_parts,
            step_parts,
            half,
            table: if identity { Vec::new() } else { filter_table(half, scale * ROLL_OFF) },
            window: vec![[0.0; 2]; half - 1],
            at: 0,
            rest: 0,
        }
    }

    /// Takes `input` and appends what can be computed to `out`. Output lags input by the taps of one side.
    pub(super) fn push(&mut self, input: &[Frame], out: &mut Vec<Frame>) {
        if self.table.is_empty() {
            out.extend_from_slice(input);
            return;
        }
        self.window.extend_from_slice(input);
        let taps = 2 * self.half;
        while let Some(frames) = self.window.get(self.at..self.at + taps) {
            out.push(convolve(&self.table, taps, self.rest as f64 / self.step_parts as f64, frames));
            self.rest += self.step_rest;
            let carry = usize::from(self.rest >= self.step_parts);
            self.rest -= carry * self.step_parts;
            self.at += self.step_whole + carry;
        }
        if self.at >= DROP_AFTER {
            self.window.drain(..self.at);
            self.at = 0;
        }
    }

    /// Appends the lagging rest, as if silence followed.
    pub(super) fn flush(&mut self, out: &mut Vec<Frame>) {
        if !self.table.is_empty() {
            self.push(&vec![[0.0; 2]; self.half + self.step_whole], out);
        }
    }
}

/// The output at `fraction` (0 to 1) of a frame past the middle of `frames`.
fn convolve(table: &[f32], taps: usize, fraction: f64, frames: &[Frame]) -> Frame {
    let phase = fraction * PHASES as f64;
    let row = phase as usize;
    let blend = (phase - row as f64) as f32;
    let lower = &table[row * taps..(row + 1) * taps];
    let upper = &table[(row + 1) * taps..(row + 2) * taps];
    let mut sum = [0.0_f32; 2];
    for ((frame, low), high) in frames.iter().zip(lower).zip(upper) {
        let tap = low + (high - low) * blend;
        sum[0] += frame[0] * tap;
        sum[1] += frame[1] * tap;
    }
    sum
}

/// All phases of the low-pass with `cutoff` as a share of the input's Nyquist; every row sums to one.
fn filter_table(half: usize, cutoff: f64) -> Vec<f32> {
    let taps = 2 * half;
    let mut table = Vec::with_capacity((PHASES + 1) * taps);
    for phase in 0..=PHASES {
        let fraction = phase as f64 / PHASES as f64;
        let row: Vec<f64> = (0..taps)
            .map(|tap| {
                let distance = tap as f64 - (half as f64 - 1.0) - fraction;
                sinc(distance * cutoff) * kaiser(distance / half as f64)
            })
            .collect();
        let sum: f64 = row.iter().sum();
        table.extend(row.iter().map(|tap| (tap / sum) as f32));
    }
    table
}

fn sinc(x: f64) -> f64 {
    let angle = std::f64::consts::PI * x;
    if angle.abs() < 1e-9 { 1.0 } else { angle.sin() / angle }
}

/// Kaiser's window over -1 to 1, not normalised (rows are).
fn kaiser(x: f64) -> f64 {
    bessel_i0(KAISER_BETA * (1.0 - x * x).max(0.0).sqrt())
}

/// Modified Bessel function of the first kind and order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut n) = (1.0, 1.0, 1.0);
    while term > sum * 1e-12 {
        term *= quarter / (n * n);
        sum += term;
        n += 1.0;
    }
    sum
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::TAU;

    use super::Resampler;
    use crate::preview::Frame;
    use crate::preview::tests::kit::{crossings_hz, level_at};

    const RATES: [u32; 11] = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000];

    fn sine(rate: u32, hz: f64, frames: usize) -> Vec<Frame> {
        (0..frames).map(|n| [(0.5 * (TAU * hz * n as f64 / f64::from(rate)).sin()) as f32; 2]).collect()
    }

    /// Resamples in uneven pieces, as a decoder would deliver them.
    fn resample(rate: u32, input: &[Frame]) -> Vec<Frame> {
        let mut resampler = Resampler::new(rate);
        let mut out = Vec::new();
        let mut left = input;
        for size in [1, 7, 1_152, 4_096].into_iter().cycle() {
            let (piece, rest) = left.split_at(size.min(left.len()));
            resampler.push(piece, &mut out);
            left = rest;
            if left.is_empty() {
                break;
            }
        }
        resampler.flush(&mut out);
        out
    }

    fn middle(frames: &[Frame]) -> &[Frame] {
        &frames[2_400..frames.len() - 2_400]
    }

    #[test]
    fn tone_keeps_frequency_level_and_length() {
        for rate in RATES.into_iter().chain([44_101, 47_999]) {
            let frames = rate as usize / 2;
            let out = resample(rate, &sine(rate, 1_000.0, frames));
            let exact = frames * 48_000 / rate as usize;
            assert!((exact..exact + 200).contains(&out.len()), "{rate}: {}", out.len());
            let tone = middle(&out[..exact]);
            assert!((crossings_hz(tone) - 1_000.0).abs() < 0.5, "{rate}: {}", crossings_hz(tone));
            let level_db = 20.0 * (level_at(tone, 1_000.0) / 0.5).log10();
            assert!(level_db.abs() < 0.05, "{rate}: {level_db} dB");
        }
    }

    #[test]
    fn tone_keeps_its_phase() {
        let out = resample(44_100, &sine(44_100, 1_000.0, 22_050));
        let expected = sine(48_000, 1_000.0, 24_000);
        for (got, want) in middle(&out[..24_000]).iter().zip(middle(&expected)) {
            assert!((got[0] - want[0]).abs() < 1e-4, "{got:?} {want:?}");
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
