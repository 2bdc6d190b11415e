//! Originals that are damaged, cut off, of another type, or plain noise: a typed error or a preview, never a panic.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use super::{LOSSY, Pcm, decode_preview, flac, kit, preview, tone, wav};
use crate::preview::{PreviewError, PreviewLimits, make_audio_preview};

/// A deterministic stream of numbers (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }
}

fn expect_typed(original: &[u8]) {
    match preview(original) {
        Ok((info, ogg)) => {
            assert!(ogg.len() * 3 < original.len());
            assert_eq!(info.size_bytes, ogg.len() as u64);
        }
        Err(PreviewError::Unsupported { .. } | PreviewError::Corrupt { .. } | PreviewError::TooShort) => {}
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn other_types_are_unsupported() {
    for (bytes, expected) in [
        (b"\x1a\x45\xdf\xa3\0\0\0\0\0\0\0\0".as_slice(), "Matroska or WebM"),
        (b"FORM\0\0\0\0AIFF", "AIFF"),
        (b"RF64\xff\xff\xff\xffWAVE", "WAV beyond 4 GiB (RF64)"),
        (b"RIFF\0\0\0\0AVI ", "a RIFF file that is not WAV"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\0", "an unknown format"),
        (b"", "an unknown format"),
        (b"ID3", "an unknown format"),
    ] {
        match preview(bytes) {
            Err(PreviewError::Unsupported { what }) => assert_eq!(what, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn rates_out_of_range_are_unsupported() {
    for rate in [0, 7_999, 192_001, u32::MAX] {
        let pcm = Pcm { rate: 8_000, channels: 1, samples: vec![0.0; 16_000] };
        let mut file = wav(&pcm, kit::S16);
        file[24..28].copy_from_slice(&rate.to_le_bytes());
        assert!(matches!(preview(&file), Err(PreviewError::Unsupported { .. })), "{rate}");
    }
}

#[test]
fn cut_off_originals_give_a_third_of_what_is_there() {
    let pcm = tone(44_100, 2, 12.0);
    for (name, whole) in [("wav", wav(&pcm, kit::S16)), ("flac", flac(&pcm, 16, true))] {
        let half = &whole[..whole.len() / 2];
        let (info, ogg) = preview(half).unwrap_or_else(|error| panic!("{name}: {error}"));
        let seconds = decode_preview(&ogg).frames.len() as f64 / 48_000.0;
        assert!((1.9..=2.0).contains(&seconds), "{name}: {seconds}");
        assert!(info.concealed.is_zero(), "{name}: {info:?}");
        for cut in [0, 1, 11, 12, 20, 41, 43, 44, 60, 1_000, whole.len() - 1] {
            expect_typed(&whole[..cut]);
        }
    }
}

#[test]
fn streamed_wav_without_sizes_works() {
    let mut file = wav(&tone(44_100, 2, 6.0), kit::S16);
    file[4..8].fill(0xff);
    file[40..44].fill(0xff);
    let (_, ogg) = preview(&file).unwrap();
    assert_eq!(decode_preview(&ogg).frames.len(), 96_000);
}

#[test]
fn damaged_flac_frames_become_silence_until_too_many_are() {
    let whole = flac(&tone(44_100, 2, 24.0), 16, true);
    let mut scratched = whole.clone();
    let at = whole.len() / 3;
    for byte in &mut scratched[at..at + 40_000] {
        *byte ^= 0x5a;
    }
    let (info, ogg) = preview(&scratched).unwrap();
    let concealed = info.concealed.as_secs_f64();
    assert!((0.2..0.6).contains(&concealed), "{concealed}");
    assert_eq!(decode_preview(&ogg).frames.len(), 8 * 48_000);

    let mut ruined = whole.clone();
    for byte in &mut ruined[whole.len() / 4..whole.len() / 2] {
        *byte ^= 0x5a;
    }
    assert!(matches!(preview(&ruined), Err(PreviewError::Corrupt { .. })));
}

#[test]
fn header_that_lies_about_its_length_gets_a_third_of_the_truth() {
    let mut file = flac(&tone(44_100, 2, 6.0), 16, true);
    file[21] |= 0x0f;
    let (info, ogg) = preview(&file).unwrap();
    assert_eq!(decode_preview(&ogg).frames.len(), 96_000, "{info:?}");
}

#[test]
fn mutated_headers_never_panic() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let pcm = tone(48_000, 1, 1.0);
    let originals = [wav(&pcm, kit::S16), wav(&pcm, kit::F32), flac(&pcm, 16, true), flac(&pcm, 24, true)];
    for _ in 0..100 {
        for original in &originals {
            let mut mutated = original.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(64);
                mutated[at] = random.below(256) as u8;
            }
            if random.below(4) == 0 {
                mutated.truncate(random.below(mutated.len()));
            }
            expect_typed(&mutated);
        }
    }
}

#[test]
fn mutated_and_cut_off_lossy_audio_never_panics() {
    let mut random = Random(0x5eed_0fda_7a11);
    for (_, original) in LOSSY {
        for round in 0..15 {
            let mut mutated = original.to_vec();
            // Headers first, then anywhere.
            let within = if round % 2 == 0 { 600 } else { mutated.len() };
            for _ in 0..=round {
                let at = random.below(within);
                mutated[at] = random.below(256) as u8;
            }
            if round % 5 == 4 {
                mutated.truncate(random.below(mutated.len()));
            }
            expect_typed(&mutated);
        }
    }
}

#[test]
fn mutated_audio_and_noise_never_panic() {
    let mut random = Random(0x0dd0_15ea_5e1f_0000);
    let pcm = tone(8_000, 1, 2.0);
    for round in 0..60 {
        let mut mutated = flac(&pcm, 16, true);
        for _ in 0..=round {
            let at = 42 + random.below(mutated.len() - 42);
            mutated[at] = random.below(256) as u8;
        }
        expect_typed(&mutated);
        let start: &[u8] = if round % 2 == 0 { b"fLaC" } else { b"RIFF\xff\xff\0\0WAVE" };
        let mut noise = start.to_vec();
        noise.extend((0..4_000).map(|_| random.below(256) as u8));
        expect_typed(&noise);
    }
}

/// A medium that fails past a point.
struct BadSector {
    inner: Cursor<Vec<u8>>,
    from: u64,
}

impl Read for BadSector {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.inner.position() + buf.len() as u64 > self.from {
            return Err(io::Error::other("bad sector"));
        }
        self.inner.read(buf)
    }
}

impl Seek for BadSector {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[test]
fn failing_medium_is_a_read_error_not_a_damaged_original() {
    let whole = wav(&tone(44_100, 2, 60.0), kit::S16);
    let mut medium = BadSector { from: whole.len() as u64 / 3, inner: Cursor::new(whole) };
    let result = make_audio_preview(&mut medium, &mut Vec::new(), &PreviewLimits::default());
    assert!(matches!(result, Err(PreviewError::Read(_))), "{result:?}");
}

/// A full disk.
struct Full;

impl io::Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn failing_output_is_a_write_error() {
    let original = wav(&tone(44_100, 2, 6.0), kit::S16);
    let result = make_audio_preview(&mut Cursor::new(original), &mut Full, &PreviewLimits::default());
    assert!(matches!(result, Err(PreviewError::Write(_))), "{result:?}");
}
