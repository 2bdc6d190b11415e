//! Writers of originals, a reader of previews, and measures of tones.

use std::f64::consts::TAU;
use std::io::Cursor;

use ogg::PacketReader;
use opus_rs::OpusDecoder;

use crate::preview::Frame;

/// Interleaved audio within -1 to 1.
#[derive(Debug, Clone)]
pub(crate) struct Pcm {
    pub(crate) rate: u32,
    pub(crate) channels: u16,
    pub(crate) samples: Vec<f64>,
}

/// WAV format tag and bits per sample.
pub(crate) type Depth = (u16, u16);
pub(crate) const U8: Depth = (1, 8);
pub(crate) const S16: Depth = (1, 16);
pub(crate) const S24: Depth = (1, 24);
pub(crate) const S32: Depth = (1, 32);
pub(crate) const F32: Depth = (3, 32);
pub(crate) const F64: Depth = (3, 64);

/// A WAV file.
pub(crate) fn wav(pcm: &Pcm, (tag, bits): Depth) -> Vec<u8> {
    let mut data = Vec::new();
    for &sample in &pcm.samples {
        match (tag, bits) {
            (3, 32) => data.extend_from_slice(&(sample as f32).to_le_bytes()),
            (3, _) => data.extend_from_slice(&sample.to_le_bytes()),
            (_, 8) => data.push(((sample * 127.0).round() + 128.0) as u8),
            _ => {
                let whole = (sample * ((1_i64 << (bits - 1)) - 1) as f64).round() as i64;
                data.extend_from_slice(&whole.to_le_bytes()[..usize::from(bits / 8)]);
            }
        }
    }
    let align = pcm.channels * (bits / 8);
    let mut file = b"RIFF".to_vec();
    file.extend_from_slice(&(36 + data.len() as u32).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt \x10\0\0\0");
    file.extend_from_slice(&tag.to_le_bytes());
    file.extend_from_slice(&pcm.channels.to_le_bytes());
    file.extend_from_slice(&pcm.rate.to_le_bytes());
    file.extend_from_slice(&(pcm.rate * u32::from(align)).to_le_bytes());
    file.extend_from_slice(&align.to_le_bytes());
    file.extend_from_slice(&bits.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&(data.len() as u32).to_le_bytes());
    file.extend_from_slice(&data);
    file
}

/// Frames per FLAC block.
const BLOCK: usize = 4_096;

/// A FLAC file of verbatim subframes; `bits` is 16 or 24. Without a length, STREAMINFO says zero samples.
/// Source: RFC 9639.
pub(crate) fn flac(pcm: &Pcm, bits: u32, with_length: bool) -> Vec<u8> {
    let channels = usize::from(pcm.channels);
    let frames = pcm.samples.len() / channels;
    let mut file = b"fLaC\x80\0\0\x22".to_vec();
    file.extend_from_slice(&(BLOCK as u16).to_be_bytes());
    file.extend_from_slice(&(BLOCK as u16).to_be_bytes());
    file.extend_from_slice(&[0; 6]);
    let length = if with_length { frames as u64 } else { 0 };
    let info = u64::from(pcm.rate) << 44 | (channels as u64 - 1) << 41 | (u64::from(bits) - 1) << 36 | length;
    file.extend_from_slice(&info.to_be_bytes());
    file.extend_from_slice(&[0; 16]);
    let scale = ((1_i64 << (bits - 1)) - 1) as f64;
    for (number, block) in pcm.samples.chunks(BLOCK * channels).enumerate() {
        let mut frame = vec![0xff, 0xf8, 0x70, (channels as u8 - 1) << 4];
        let number = char::from_u32(number as u32).expect("few blocks");
        frame.extend_from_slice(number.encode_utf8(&mut [0; 4]).as_bytes());
        frame.extend_from_slice(&((block.len() / channels - 1) as u16).to_be_bytes());
        frame.push(crc(&frame, 8, 0x07) as u8);
        for channel in 0..channels {
            frame.push(0x02);
            for sample in block.iter().skip(channel).step_by(channels) {
                let whole = (sample * scale).round() as i32;
                frame.extend_from_slice(&whole.to_be_bytes()[4 - bits as usize / 8..]);
            }
        }
        let check = crc(&frame, 16, 0x8005);
        frame.extend_from_slice(&check.to_be_bytes());
        file.extend_from_slice(&frame);
    }
    file
}

/// CRC of 8 or 16 bits, most significant bit first.
fn crc(bytes: &[u8], width: u32, polynomial: u16) -> u16 {
    let mut table = [0_u16; 256];
    for (byte, entry) in (0_u16..).zip(&mut table) {
        let shift = |crc: u16| if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ polynomial << (16 - width) };
        *entry = (0..8).fold(byte << 8, |crc, _| shift(crc));
    }
    let mut crc = 0_u16;
    for byte in bytes {
        crc = crc << 8 ^ table[usize::from((crc >> 8) as u8 ^ byte)];
    }
    crc >> (16 - width)
}

/// A preview as a player sees it.
#[derive(Debug)]
pub(crate) struct Decoded {
    pub(crate) frames: Vec<Frame>,
    pub(crate) vendor: String,
    pub(crate) source_rate: u32,
    pub(crate) last_granule: u64,
}

/// Demuxes and decodes Ogg Opus: drops the pre-skip, trims the end at the last granule, checks the structure.
pub(crate) fn decode_preview(ogg: &[u8]) -> Decoded {
    let mut reader = PacketReader::new(Cursor::new(ogg));
    let head = reader.read_packet().unwrap().unwrap();
    assert!(head.first_in_stream() && head.last_in_page());
    assert_eq!(&head.data[..10], b"OpusHead\x01\x02");
    let pre_skip = u16::from_le_bytes([head.data[10], head.data[11]]);
    let source_rate = u32::from_le_bytes(head.data[12..16].try_into().unwrap());
    let tags = reader.read_packet().unwrap().unwrap();
    assert!(tags.last_in_page());
    assert_eq!(&tags.data[..8], b"OpusTags");
    let vendor = String::from_utf8(tags.data[12..tags.data.len() - 4].to_vec()).unwrap();

    let mut decoder = OpusDecoder::new(48_000, 2).unwrap();
    let mut frames = Vec::new();
    let (mut granule, mut ended) = (0, false);
    while let Some(packet) = reader.read_packet().unwrap() {
        assert!(!ended, "a packet after the end of the stream");
        let mut pcm = vec![0.0; 960 * 2];
        let samples = decoder.decode(&packet.data, 960, &mut pcm).unwrap();
        assert_eq!(samples, 960);
        frames.extend(pcm.chunks_exact(2).map(|pair| [pair[0], pair[1]]));
        granule = packet.absgp_page();
        ended = packet.last_in_stream();
        if packet.last_in_page() && !ended {
            assert_eq!(granule, frames.len() as u64);
        }
    }
    assert!(ended, "no end of stream");
    assert!(granule <= frames.len() as u64 && granule + 960 > frames.len() as u64);
    frames.truncate(granule as usize);
    frames.drain(..usize::from(pre_skip));
    Decoded { frames, vendor, source_rate, last_granule: granule }
}

/// Frequency at 48 kHz of the left channel, by its rising zero crossings.
pub(crate) fn crossings_hz(frames: &[Frame]) -> f64 {
    let crossings: Vec<f64> = frames
        .windows(2)
        .enumerate()
        .filter(|(_, pair)| pair[0][0] < 0.0 && pair[1][0] >= 0.0)
        .map(|(n, pair)| n as f64 + f64::from(pair[0][0] / (pair[0][0] - pair[1][0])))
        .collect();
    let span = crossings.last().unwrap() - crossings.first().unwrap();
    48_000.0 * (crossings.len() - 1) as f64 / span
}

/// Amplitude of `hz` in the left channel at 48 kHz. Exact when the frames hold whole periods; windowed otherwise.
pub(crate) fn level_at(frames: &[Frame], hz: f64) -> f64 {
    let (mut cosine, mut sine, mut weights) = (0.0, 0.0, 0.0);
    for (n, frame) in frames.iter().enumerate() {
        let weight = 1.0 - (TAU * (n as f64 + 0.5) / frames.len() as f64).cos();
        let angle = TAU * hz * n as f64 / 48_000.0;
        cosine += weight * f64::from(frame[0]) * angle.cos();
        sine += weight * f64::from(frame[0]) * angle.sin();
        weights += weight;
    }
    2.0 * cosine.hypot(sine) / weights
}
