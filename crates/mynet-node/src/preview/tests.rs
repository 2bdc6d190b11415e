//! Tests of whole previews: what goes in as any audio comes out as Ogg Opus within every promise.

pub(super) mod kit;

mod hostile;
mod process;
mod thumbnails;

use std::f64::consts::TAU;
use std::io::Cursor;
use std::time::Duration;

use kit::{Decoded, Pcm, crossings_hz, decode_preview, flac, level_at, wav};

use super::tone::write_wav_song;
use super::{AudioInfo, PreviewError, PreviewLimits, make_audio_preview};

fn preview(original: &[u8]) -> Result<(AudioInfo, Vec<u8>), PreviewError> {
    preview_of(original, PreviewLimits::default())
}

fn preview_of(original: &[u8], limits: PreviewLimits) -> Result<(AudioInfo, Vec<u8>), PreviewError> {
    let mut out = Vec::new();
    let info = make_audio_preview(&mut Cursor::new(original), &mut out, &limits)?;
    Ok((info, out))
}

/// Limits with so many seconds of audio.
fn seconds(seconds: u32) -> PreviewLimits {
    PreviewLimits::new(seconds, 512)
}

/// A 1 kHz tone at half scale left and 440 Hz at a quarter right (or the first alone when mono).
fn tone(rate: u32, channels: u16, seconds: f64) -> Pcm {
    let frames = (f64::from(rate) * seconds) as usize;
    let sine = |hz: f64, level: f64, n: usize| level * (TAU * hz * n as f64 / f64::from(rate)).sin();
    let samples = (0..frames)
        .flat_map(|n| {
            (0..channels).map(move |channel| match channel {
                0 => sine(1_000.0, 0.5, n),
                1 => sine(440.0, 0.25, n),
                _ => 0.0,
            })
        })
        .collect();
    Pcm { rate, channels, samples }
}

/// The part of a decoded preview between the fades.
fn steady(decoded: &Decoded) -> &[super::Frame] {
    let margin = decoded.frames.len() / 4 + 1_000;
    &decoded.frames[margin..decoded.frames.len() - margin]
}

fn check_tone(name: &str, original: &[u8], samples: usize, stereo: bool) {
    let (info, ogg) = preview(original).unwrap_or_else(|error| panic!("{name}: {error}"));
    let decoded = decode_preview(&ogg);
    assert_eq!(decoded.frames.len(), samples, "{name}");
    assert_eq!(info.size_bytes, ogg.len() as u64, "{name}");
    assert_eq!(info.concealed, Duration::ZERO, "{name}");
    assert!(ogg.len() * 3 < original.len(), "{name}: {} of {}", ogg.len(), original.len());
    let part = steady(&decoded);
    assert!((crossings_hz(part) - 1_000.0).abs() < 1.0, "{name}: {} Hz", crossings_hz(part));
    let level_db = 20.0 * (level_at(part, 1_000.0) / 0.5).log10();
    assert!(level_db.abs() < 0.5, "{name}: {level_db} dB");
    let right: Vec<_> = part.iter().map(|frame| [frame[1]; 2]).collect();
    let (hz, level) = if stereo { (440.0, 0.25) } else { (1_000.0, 0.5) };
    let right_db = 20.0 * (level_at(&right, hz) / level).log10();
    assert!(right_db.abs() < 0.5, "{name}: right {right_db} dB");
}

#[test]
fn wav_of_every_depth_keeps_its_tone() {
    for (depth, name) in
        [(kit::U8, "u8"), (kit::S16, "s16"), (kit::S24, "s24"), (kit::S32, "s32"), (kit::F32, "f32"), (kit::F64, "f64")]
    {
        check_tone(name, &wav(&tone(44_100, 2, 6.0), depth), 2 * 48_000, true);
    }
}

#[test]
fn wav_of_every_rate_keeps_its_tone() {
    for rate in [8_000, 11_025, 16_000, 22_050, 48_000, 96_000, 192_000] {
        check_tone(&rate.to_string(), &wav(&tone(rate, 2, 3.0), kit::S16), 48_000, true);
        check_tone(&format!("{rate} mono"), &wav(&tone(rate, 1, 3.0), kit::S16), 48_000, false);
    }
}

#[test]
fn flac_keeps_its_tone() {
    for (rate, bits) in [(44_100, 16), (48_000, 16), (96_000, 24), (8_000, 16)] {
        check_tone(&format!("{rate}/{bits}"), &flac(&tone(rate, 2, 6.0), bits, true), 96_000, true);
        check_tone(&format!("{rate}/{bits} mono"), &flac(&tone(rate, 1, 6.0), bits, true), 96_000, false);
    }
}

#[test]
fn flac_behind_an_id3_tag_and_without_a_length_works() {
    let plain = flac(&tone(44_100, 2, 6.0), 16, true);
    let mut tagged = b"ID3\x04\0\0\0\0\x01\x02".to_vec();
    tagged.extend_from_slice(&[0; 130]);
    tagged.extend_from_slice(&plain);
    check_tone("tagged", &tagged, 96_000, true);
    check_tone("no length", &flac(&tone(44_100, 2, 6.0), 16, false), 96_000, true);
}

/// Six seconds of a 1 kHz tone at half scale, mono, 44.1 kHz, at 40 to 48 kbit/s: made with ffmpeg from
/// `aevalsrc=0.5*sin(2*PI*1000*t):s=44100:d=6`.
const LOSSY: [(&str, &[u8]); 6] = [
    ("MP3 with tags and a Xing header", include_bytes!("tests/media/tone.mp3")),
    ("MP3 with nothing but frames", include_bytes!("tests/media/bare.mp3")),
    ("Ogg Vorbis", include_bytes!("tests/media/tone.ogg")),
    ("AAC in MP4", include_bytes!("tests/media/tone.m4a")),
    ("AAC in MP4 in fragments", include_bytes!("tests/media/fragments.m4a")),
    ("AAC in ADTS", include_bytes!("tests/media/tone.aac")),
];

#[test]
fn lossy_audio_keeps_its_tone() {
    for (name, original) in LOSSY {
        let (info, ogg) = preview(original).unwrap_or_else(|error| panic!("{name}: {error}"));
        let decoded = decode_preview(&ogg);
        // Encoders put some silence before and after, of which not every container tells.
        assert!(decoded.frames.len().abs_diff(2 * 48_000) < 2_000, "{name}: {}", decoded.frames.len());
        assert_eq!((info.size_bytes, info.concealed), (ogg.len() as u64, Duration::ZERO), "{name}");
        assert!(ogg.len() * 3 < original.len(), "{name}: {} of {}", ogg.len(), original.len());
        let part = steady(&decoded);
        assert!((crossings_hz(part) - 1_000.0).abs() < 1.0, "{name}: {} Hz", crossings_hz(part));
        let level_db = 20.0 * (level_at(part, 1_000.0) / 0.5).log10();
        assert!(level_db.abs() < 1.0, "{name}: {level_db} dB");
        // What the run-up is for: the decoder is in swing when the fade-in is over.
        let first = level_at(&decoded.frames[1_200..3_600], 1_000.0);
        assert!((0.4..0.6).contains(&first), "{name}: {first} at the beginning");
        assert_eq!(preview(original).unwrap().1, ogg, "{name}");
    }
}

#[test]
fn surround_is_folded_into_stereo() {
    let (_, ogg) = preview(&wav(&tone(48_000, 6, 6.0), kit::S16)).unwrap();
    let decoded = decode_preview(&ogg);
    let level = level_at(steady(&decoded), 1_000.0);
    assert!((0.1..0.5).contains(&level), "{level}");
}

#[test]
fn long_original_gives_thirty_seconds_and_small_limit_less() {
    let song = wav(&tone(48_000, 1, 100.0), kit::S16);
    let (info, ogg) = preview(&song).unwrap();
    assert_eq!(info.duration, Duration::from_secs(30));
    assert_eq!(info.start, Duration::from_secs(25));
    assert_eq!(info.bitrate_bps, 96_000);
    assert_eq!(decode_preview(&ogg).frames.len(), 30 * 48_000);

    let (info, ogg) = preview_of(&song, seconds(5)).unwrap();
    assert_eq!(info.duration, Duration::from_secs(5));
    assert_eq!(decode_preview(&ogg).frames.len(), 5 * 48_000);
}

#[test]
fn preview_is_the_part_from_a_quarter_at_the_right_moment() {
    // One click right after a quarter plus one second: it must come out one second into the preview.
    let mut pcm = Pcm { rate: 44_100, channels: 1, samples: vec![0.0; 44_100 * 12] };
    pcm.samples[44_100 * 4..44_100 * 4 + 3].fill(0.9);
    for (name, original) in [("wav", wav(&pcm, kit::S16)), ("flac", flac(&pcm, 16, true))] {
        let (info, ogg) = preview(&original).unwrap();
        assert_eq!(info.start, Duration::from_secs(3), "{name}");
        let frames = decode_preview(&ogg).frames;
        let loudest = (0..frames.len()).max_by(|a, b| frames[*a][0].abs().total_cmp(&frames[*b][0].abs()));
        assert!(loudest.unwrap().abs_diff(48_000) <= 3, "{name}: {loudest:?}");
    }
}

#[test]
fn fades_in_and_out() {
    let (_, ogg) = preview(&wav(&tone(48_000, 2, 12.0), kit::S16)).unwrap();
    let frames = decode_preview(&ogg).frames;
    let peak = |part: &[super::Frame]| part.iter().fold(0.0_f32, |peak, frame| peak.max(frame[0].abs()));
    assert!(peak(&frames[..48]) < 0.05);
    assert!(peak(&frames[1_500..3_000]) > 0.45);
    let end = frames.len();
    assert!(peak(&frames[end - 480..]) < 0.05);
    assert!((0.15..0.35).contains(&peak(&frames[end - 12_480..end - 11_520])));
}

#[test]
fn same_original_gives_same_bytes_and_file_is_well_formed() {
    let song = song(12);
    let (info, first) = preview(&song).unwrap();
    assert_eq!(first, preview(&song).unwrap().1);
    let decoded = decode_preview(&first);
    assert_eq!(decoded.vendor, "mynet");
    assert_eq!(decoded.source_rate, 44_100);
    assert_eq!(decoded.last_granule, 312 + 4 * 48_000);
    assert_eq!(info.size_bytes, first.len() as u64);
}

#[test]
fn under_a_second_is_too_short() {
    let short = wav(&tone(44_100, 2, 0.99), kit::S16);
    assert!(matches!(preview(&short), Err(PreviewError::TooShort)));
    assert!(preview(&wav(&tone(44_100, 2, 1.0), kit::S16)).is_ok());
}

#[test]
fn narrow_original_still_gives_a_preview_under_a_third() {
    let telephone = wav(&tone(8_000, 1, 60.0), kit::U8);
    let (info, ogg) = preview(&telephone).unwrap();
    assert!(ogg.len() * 3 < telephone.len());
    assert!((30_000..64_000).contains(&info.bitrate_bps), "{}", info.bitrate_bps);
    let decoded = decode_preview(&ogg);
    assert_eq!(decoded.frames.len(), 20 * 48_000);
    let level_db = 20.0 * (level_at(steady(&decoded), 1_000.0) / 0.5).log10();
    assert!(level_db.abs() < 1.0, "{level_db} dB");
}

#[test]
fn lowest_bitrate_still_carries_the_tone() {
    let mut out = Vec::new();
    let shape = super::ogg_opus::StreamShape { samples: 96_000, packet_bytes: 60, source_rate: 48_000 };
    let mut writer = super::ogg_opus::OggOpusWriter::new(&mut out, shape).unwrap();
    let frames: Vec<_> = tone(48_000, 2, 2.0).samples.chunks(2).map(|f| [f[0] as f32, f[1] as f32]).collect();
    writer.push(&frames).unwrap();
    writer.finish().unwrap();
    let decoded = decode_preview(&out);
    let level_db = 20.0 * (level_at(steady(&decoded), 1_000.0) / 0.5).log10();
    assert!(level_db.abs() < 1.0, "{level_db} dB");
}

fn song(seconds: u32) -> Vec<u8> {
    let mut wav = Vec::new();
    write_wav_song(&mut wav, seconds, 1).unwrap();
    wav
}
