//! A small song from a seed: something pleasant to upload when there is no file at hand.
//!
//! Four chords per eight seconds, a bass and a melody on the pentatonic scale, as 16-bit 44.1 kHz stereo WAV. The same
//! seconds and seed give the same bytes on every machine: sines come from a polynomial, not from the platform.
//!
//! Bounds: memory does not depend on the length; a song is at most [`SECONDS_MAX`] long.

use std::io::{self, Write};

/// Longest song: WAV counts its bytes in 32 bits. Nobody listens to six hours of this anyway.
pub const SECONDS_MAX: u32 = 6 * 60 * 60;

const SAMPLE_RATE: u32 = 44_100;
const BYTES_PER_FRAME: u32 = 4;

/// One melody step: an eighth at 120 beats per minute.
const STEP_FRAMES: u64 = SAMPLE_RATE as u64 / 4;

/// Steps per chord.
const STEPS_PER_BAR: u64 = 8;

/// The chords of the song over its key note, in semitones: I, V, vi, IV.
const CHORDS: [[u32; 3]; 4] = [[0, 4, 7], [7, 11, 14], [9, 12, 16], [5, 9, 12]];

/// Scale of the melody, in semitones: the major pentatonic, which fits every chord above.
const PENTATONIC: [u32; 8] = [0, 2, 4, 7, 9, 12, 14, 16];

/// The twelfth root of two: one semitone.
const SEMITONE: f64 = 1.059_463_094_359_295_3;

/// Lowest key note, C3; the seed moves it up by less than an octave.
const KEY_HZ: f64 = 130.812_782_650_299_3;

/// Writes a song of `seconds` as a WAV file and returns its size in bytes.
///
/// # Errors
/// `InvalidInput` for more than [`SECONDS_MAX`], before anything is written; else what `out` returns.
pub fn write_wav_song(mut out: impl Write, seconds: u32, seed: u64) -> io::Result<u64> {
    if seconds > SECONDS_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "song too long for a WAV file"));
    }
    let data_bytes = seconds * SAMPLE_RATE * BYTES_PER_FRAME;
    out.write_all(&header(data_bytes))?;
    let mut song = Song::new(seed);
    let mut bytes = Vec::with_capacity(STEP_FRAMES as usize * BYTES_PER_FRAME as usize);
    let frames = u64::from(seconds) * u64::from(SAMPLE_RATE);
    for start in (0..frames).step_by(STEP_FRAMES as usize) {
        song.begin_step(start / STEP_FRAMES);
        bytes.clear();
        for frame in start..frames.min(start + STEP_FRAMES) {
            let fade = ((frames - frame) as f64 / f64::from(SAMPLE_RATE)).min(1.0);
            for sample in song.next_frame() {
                let sample = (sample * fade * f64::from(i16::MAX)) as i16;
                bytes.extend_from_slice(&sample.to_le_bytes());
            }
        }
        out.write_all(&bytes)?;
    }
    out.flush()?;
    Ok(u64::from(data_bytes) + 44)
}

/// The 44 bytes before the samples.
fn header(data_bytes: u32) -> Vec<u8> {
    let mut header = Vec::with_capacity(44);
    header.extend_from_slice(b"RIFF");
    header.extend_from_slice(&(36 + data_bytes).to_le_bytes());
    header.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x02\0");
    header.extend_from_slice(&SAMPLE_RATE.to_le_bytes());
    header.extend_from_slice(&(SAMPLE_RATE * BYTES_PER_FRAME).to_le_bytes());
    header.extend_from_slice(b"\x04\0\x10\0data");
    header.extend_from_slice(&data_bytes.to_le_bytes());
    header
}

/// The notes sounding and what decides the next ones.
struct Song {
    random: u64,
    key_hz: f64,
    melody: usize,
    notes: Vec<Note>,
}

impl Song {
    fn new(seed: u64) -> Self {
        let mut song = Self { random: seed, key_hz: KEY_HZ, melody: 3, notes: Vec::new() };
        song.key_hz = pitch(KEY_HZ, song.next_random(12) as u32);
        song
    }

    /// Starts the notes of melody step `step`: on a bar its chord and bass, on most steps a melody note.
    fn begin_step(&mut self, step: u64) {
        if step.is_multiple_of(STEPS_PER_BAR) {
            let chord = CHORDS[(step / STEPS_PER_BAR) as usize % CHORDS.len()];
            let bar = STEPS_PER_BAR * STEP_FRAMES;
            self.notes.push(Note::new(pitch(self.key_hz, chord[0]) / 2.0, 0.22, 0.0, bar));
            for (semitones, pan) in chord.into_iter().zip([-0.6, 0.1, 0.6]) {
                self.notes.push(Note::new(pitch(self.key_hz, semitones), 0.09, pan, bar));
            }
        }
        if step.is_multiple_of(2) || self.next_random(3) > 0 {
            let leap = self.next_random(5) as usize;
            self.melody = (self.melody + leap).saturating_sub(2).min(PENTATONIC.len() - 1);
            let hz = pitch(self.key_hz * 2.0, PENTATONIC[self.melody]);
            self.notes.push(Note::new(hz, 0.2, 0.2, 3 * STEP_FRAMES));
        }
    }

    fn next_frame(&mut self) -> [f64; 2] {
        let mut mix = [0.0; 2];
        for note in &mut self.notes {
            let sample = note.next_sample();
            mix[0] += sample * (1.0 - note.pan) / 2.0;
            mix[1] += sample * (1.0 + note.pan) / 2.0;
        }
        self.notes.retain(|note| note.left > 0);
        [soft_clip(mix[0] * 1.6), soft_clip(mix[1] * 1.6)]
    }

    /// A number below `bound`, by SplitMix64.
    fn next_random(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// One note: two partials under an envelope that rises, decays and ends in silence.
struct Note {
    turns: f64,
    turns_per_frame: f64,
    level: f64,
    rise: f64,
    pan: f64,
    left: u64,
}

impl Note {
    const RISE_FRAMES: f64 = 500.0;
    const RELEASE_FRAMES: u64 = 4_000;

    /// Share of the level left after one frame: a third after a second.
    const DECAY: f64 = 0.999_975;

    fn new(hz: f64, level: f64, pan: f64, frames: u64) -> Self {
        Self { turns: 0.0, turns_per_frame: hz / f64::from(SAMPLE_RATE), level, rise: 0.0, pan, left: frames }
    }

    fn next_sample(&mut self) -> f64 {
        let tone = sine(self.turns) + 0.3 * sine(2.0 * self.turns);
        let release = self.left.min(Self::RELEASE_FRAMES) as f64 / Self::RELEASE_FRAMES as f64;
        let sample = tone * self.level * self.rise * release;
        self.turns += self.turns_per_frame;
        self.turns -= self.turns.floor();
        self.rise = (self.rise + 1.0 / Self::RISE_FRAMES).min(1.0);
        self.level *= Self::DECAY;
        self.left -= 1;
        sample
    }
}

/// The pitch `semitones` above `hz`.
fn pitch(hz: f64, semitones: u32) -> f64 {
    (0..semitones).fold(hz, |hz, _| hz * SEMITONE)
}

/// Sine of a whole turn, by its Taylor series over a quarter turn; good to 16 bits and the same everywhere.
fn sine(turns: f64) -> f64 {
    let turns = turns - (turns + 0.5).floor();
    let quarter = if turns > 0.25 {
        0.5 - turns
    } else if turns < -0.25 {
        -0.5 - turns
    } else {
        turns
    };
    let x = quarter * std::f64::consts::TAU;
    let square = x * x;
    x * (1.0
        - square / 6.0 * (1.0 - square / 20.0 * (1.0 - square / 42.0 * (1.0 - square / 72.0 * (1.0 - square / 110.0)))))
}

/// Keeps any sum of notes within full scale, without a corner.
fn soft_clip(x: f64) -> f64 {
    let x = x.clamp(-1.5, 1.5);
    x - x * x * x * (4.0 / 27.0)
}

#[cfg(test)]
mod tests {
    use super::{SECONDS_MAX, sine, write_wav_song};

    #[test]
    fn sine_is_a_sine() {
        for step in -300..300 {
            let turns = f64::from(step) / 100.0;
            assert!((sine(turns) - (turns * std::f64::consts::TAU).sin()).abs() < 1e-6, "{turns}");
        }
    }

    #[test]
    fn song_has_its_size_and_depends_on_the_seed_only() {
        let song = |seed| {
            let mut wav = Vec::new();
            let size = write_wav_song(&mut wav, 3, seed).unwrap();
            assert_eq!(size, wav.len() as u64);
            wav
        };
        assert_eq!(song(7).len(), 44 + 3 * 176_400);
        assert_eq!(song(7), song(7));
        assert_ne!(song(7), song(8));
    }

    #[test]
    fn song_is_loud_without_clipping_or_clicking() {
        for seed in 0..4 {
            let mut wav = Vec::new();
            write_wav_song(&mut wav, 9, seed).unwrap();
            let left: Vec<i32> = wav[44..].chunks_exact(4).map(|f| i16::from_le_bytes([f[0], f[1]]).into()).collect();
            let peak = left.iter().map(|s| s.abs()).max().unwrap();
            assert!((9_000..32_767).contains(&peak), "{seed}: {peak}");
            let jump = left.windows(2).map(|w| (w[1] - w[0]).abs()).max().unwrap();
            assert!(jump < 4_000, "{seed}: {jump}");
            assert!(left.last().unwrap().abs() < 10);
        }
    }

    #[test]
    fn too_long_is_refused_before_writing() {
        let mut wav = Vec::new();
        assert!(write_wav_song(&mut wav, SECONDS_MAX + 1, 0).is_err());
        assert!(wav.is_empty());
    }
}
