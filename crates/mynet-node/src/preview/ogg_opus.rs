//! Encodes 48 kHz stereo to Opus and muxes it into Ogg, with every byte determined by the input.
//!
//! One logical stream: `OpusHead` page, `OpusTags` page, then one page per second of 20 ms packets. All packets have one
//! size (constant bitrate), so [`stream_bytes`] tells the size of the file beforehand. Granule positions count samples
//! including the pre-skip; the last one ends the stream at the exact sample (end trimming), its page carries EOS.
//!
//! Bounds: at most one page and one frame are held. Source: RFC 7845 (Ogg Opus), RFC 6716 (Opus), RFC 3533 (Ogg).

use std::io::{self, Write};

use ogg::writing::{PacketWriteEndInfo, PacketWriter};
use opus_rs::{Application, OpusEncoder};

use super::{Frame, PreviewError};

/// Samples per second of every Opus preview.
pub(super) const SAMPLE_RATE: u64 = 48_000;

/// Samples per packet: 20 ms, the size Opus is tuned for.
pub(super) const FRAME_SAMPLES: u64 = 960;

/// The encoder's delay in samples; decoders drop this many at the start. A wrong value shifts the audio or cuts its end.
pub(super) const PRE_SKIP: u64 = 312;

/// Packets per Ogg page: one second, so that players can seek and a page stays far below its 255 segments.
const PACKETS_PER_PAGE: u64 = 50;

/// Serial number of the only stream in the file. Constant, because a random one would make the bytes random.
const SERIAL: u32 = 0x6d79_6e74;

/// Ogg page header without its segment table.
const PAGE_HEADER_BYTES: u64 = 27;

const CHANNELS: usize = 2;
const HEAD_BYTES: u64 = 19;
const VENDOR: &[u8] = b"mynet";
const TAGS_BYTES: u64 = 8 + 4 + VENDOR.len() as u64 + 4;

/// Packets needed for `samples` of audio and the encoder's delay; at least one.
pub(super) fn packets_for(samples: u64) -> u64 {
    (samples + PRE_SKIP).div_ceil(FRAME_SAMPLES)
}

/// Size of a file with `packets` packets of `packet_bytes` (below 255) each.
pub(super) fn stream_bytes(packets: u64, packet_bytes: u64) -> u64 {
    let headers = 2 * (PAGE_HEADER_BYTES + 1) + HEAD_BYTES + TAGS_BYTES;
    headers + packets.div_ceil(PACKETS_PER_PAGE) * PAGE_HEADER_BYTES + packets * (packet_bytes + 1)
}

/// The file to write: its exact length and the size of its packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamShape {
    /// Length at 48 kHz.
    pub(super) samples: u64,
    /// Size of every packet, 60 to 240.
    pub(super) packet_bytes: usize,
    /// Sample rate of the original, told to players as information only.
    pub(super) source_rate: u32,
}

/// Writes one Ogg Opus file. Push frames, then `finish`; a writer that is dropped leaves a file without an end.
pub(super) struct OggOpusWriter<W: Write> {
    ogg: PacketWriter<'static, W>,
    encoder: OpusEncoder,
    shape: StreamShape,
    /// Interleaved samples of the frame being filled.
    pending: Vec<f32>,
    /// Frames accepted so far.
    accepted: u64,
    packets_written: u64,
}

impl<W: Write> OggOpusWriter<W> {
    /// Starts the file: writes both header pages.
    ///
    /// # Errors
    /// [`PreviewError::Encode`] when the encoder cannot be made, [`PreviewError::Write`] when `out` fails.
    pub(super) fn new(out: W, shape: StreamShape) -> Result<Self, PreviewError> {
        let mut encoder = OpusEncoder::new(SAMPLE_RATE as i32, CHANNELS, Application::Audio).map_err(encode_error)?;
        encoder.bitrate_bps = (shape.packet_bytes as u64 * 8 * (SAMPLE_RATE / FRAME_SAMPLES)) as i32;
        encoder.use_cbr = true;
        encoder.complexity = 10;
        let mut ogg = PacketWriter::new(out);
        for header in [opus_head(shape.source_rate), opus_tags()] {
            ogg.write_packet(header, SERIAL, PacketWriteEndInfo::EndPage, 0).map_err(PreviewError::Write)?;
        }
        let pending = Vec::with_capacity(FRAME_SAMPLES as usize * CHANNELS);
        Ok(Self { ogg, encoder, shape, pending, accepted: 0, packets_written: 0 })
    }

    /// Appends audio. Samples are clipped to full scale; frames beyond the shape's length are ignored.
    ///
    /// # Errors
    /// As [`Self::new`]; the file is then incomplete.
    pub(super) fn push(&mut self, frames: &[Frame]) -> Result<(), PreviewError> {
        let wanted = (self.shape.samples - self.accepted).min(frames.len() as u64);
        self.accepted += wanted;
        for frame in frames.iter().take(wanted as usize) {
            self.push_sample_pair([frame[0].clamp(-1.0, 1.0), frame[1].clamp(-1.0, 1.0)])?;
        }
        Ok(())
    }

    /// Ends the file, with silence for what is missing. Returns the writer's output.
    ///
    /// # Errors
    /// As [`Self::new`]; the file is then incomplete.
    pub(super) fn finish(mut self) -> Result<W, PreviewError> {
        while self.packets_written < packets_for(self.shape.samples) {
            self.push_sample_pair([0.0; 2])?;
        }
        Ok(self.ogg.into_inner())
    }

    fn push_sample_pair(&mut self, pair: Frame) -> Result<(), PreviewError> {
        self.pending.extend_from_slice(&pair);
        if self.pending.len() < FRAME_SAMPLES as usize * CHANNELS {
            return Ok(());
        }
        self.write_packet()
    }

    fn write_packet(&mut self) -> Result<(), PreviewError> {
        let mut packet = vec![0; self.shape.packet_bytes];
        let size = self.encoder.encode(&self.pending, FRAME_SAMPLES as usize, &mut packet).map_err(encode_error)?;
        packet.truncate(size);
        self.pending.clear();
        self.packets_written += 1;

        let last = self.packets_written == packets_for(self.shape.samples);
        let granule = if last { PRE_SKIP + self.shape.samples } else { self.packets_written * FRAME_SAMPLES };
        let end = if last {
            PacketWriteEndInfo::EndStream
        } else if self.packets_written.is_multiple_of(PACKETS_PER_PAGE) {
            PacketWriteEndInfo::EndPage
        } else {
            PacketWriteEndInfo::NormalPacket
        };
        self.ogg.write_packet(packet, SERIAL, end, granule).map_err(PreviewError::Write)
    }
}

fn encode_error(what: &'static str) -> PreviewError {
    PreviewError::Encode { what: what.into() }
}

/// Identification header, RFC 7845 section 5.1.
fn opus_head(source_rate: u32) -> Vec<u8> {
    let mut head = b"OpusHead\x01".to_vec();
    head.push(CHANNELS as u8);
    head.extend_from_slice(&(PRE_SKIP as u16).to_le_bytes());
    head.extend_from_slice(&source_rate.to_le_bytes());
    head.extend_from_slice(&[0, 0, 0]); // no gain, channel mapping family 0
    head
}

/// Comment header, RFC 7845 section 5.2: a vendor and no comments.
fn opus_tags() -> Vec<u8> {
    let mut tags = b"OpusTags".to_vec();
    tags.extend_from_slice(&(VENDOR.len() as u32).to_le_bytes());
    tags.extend_from_slice(VENDOR);
    tags.extend_from_slice(&0_u32.to_le_bytes());
    tags
}

/// Counts what passes through to a writer.
pub(super) struct CountingWriter<'a, W> {
    inner: &'a mut W,
    written: u64,
}

impl<'a, W: Write> CountingWriter<'a, W> {
    pub(super) fn new(inner: &'a mut W) -> Self {
        Self { inner, written: 0 }
    }

    /// Bytes written so far.
    pub(super) fn written(&self) -> u64 {
        self.written
    }
}

impl<W: Write> Write for CountingWriter<'_, W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let size = self.inner.write(buf)?;
        self.written += size as u64;
        Ok(size)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
