//! Reads sample frames out of a WAV, FLAC, MP3, Ogg Vorbis or AAC original.
//!
//! The container is told by its first bytes, never by a name. Headers are claims: [`inspect`] checks that the declared
//! length is there and counts packets when it is not. Damage does not stop a preview, as it does not stop a player:
//! missing and undecodable packets become silence and are counted.
//!
//! Bounds: one packet at a time; a gap becomes at most [`SILENCE_FRAMES`] of silence per call. A panic inside the
//! decoders (they compute with hostile numbers) is caught here and reported as a damaged original.

use std::io::{self, Read, Seek, SeekFrom};
use std::panic::{AssertUnwindSafe, catch_unwind};

use symphonia::core::codecs::CodecParameters;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error as DecodeError;
use symphonia::core::formats::{FormatOptions, FormatReader, SeekMode, SeekTo, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream};
use symphonia::core::packet::Packet;
use symphonia::core::units::{TimeBase, Timestamp};
use symphonia::default::formats::{AdtsReader, FlacReader, IsoMp4Reader, MpaReader, OggReader, WavReader};
use symphonia::default::get_codecs;

use super::downmix::Downmix;
use super::plan::Original;
use super::{Frame, PreviewError};

/// Sample rates that are accepted. Below, nothing is music; above, files are measurements, and the filter table grows.
const SAMPLE_RATES: std::ops::RangeInclusive<u32> = 8_000..=192_000;

/// Most silence given out per call, so that a lying timestamp cannot ask for memory.
const SILENCE_FRAMES: u64 = 4_096;

/// How far before the declared end the check of that end begins, in seconds. Nearer, and the FLAC reader's search may
/// land in the last frame, where it finds nothing; farther, and the check decodes more than it must.
const END_CHECK_SECONDS: u64 = 10;

/// The part of a second that a lossy decoder hears before what it is asked for. Its frames lean on those before them (MP3 on half a
/// kilobyte of earlier ones), so the first after a jump are wrong; a quarter is nine MP3 frames, of which it needs two.
const RUN_UP: u64 = 4;

/// Finds out what `input` is and how much audio it really holds.
///
/// # Errors
/// [`PreviewError::Unsupported`], [`PreviewError::Corrupt`] or [`PreviewError::Read`].
pub(super) fn inspect<R>(input: &mut R) -> Result<Original, PreviewError>
where
    R: Read + Seek + Send + Sync,
{
    let bytes = input.seek(SeekFrom::End(0)).map_err(PreviewError::Read)?;
    let (rate, declared) = {
        let source = Source::open(&mut *input)?;
        (source.rate, source.declared_frames)
    };
    let confirmed = match declared {
        Some(declared) if declared > 0 => {
            let mut source = Source::open(&mut *input)?;
            let check_from = declared.saturating_sub(END_CHECK_SECONDS * u64::from(rate)).max(declared / 2);
            match source.seek(check_from) {
                Ok(()) => source.count_to_end()?.map(|end| end.min(declared)),
                Err(PreviewError::Read(error)) => return Err(PreviewError::Read(error)),
                Err(_) => None,
            }
        }
        _ => None,
    };
    let frames = match confirmed {
        Some(frames) => frames,
        None => Source::open(input)?.count_to_end()?.unwrap_or(0),
    };
    Ok(Original { frames, rate, bytes })
}

/// An opened original, read from front to back. Seek at most once, right after opening: the FLAC reader keeps state
/// that a backward seek does not clear.
pub(super) struct Source<'a> {
    reader: Box<dyn FormatReader + 'a>,
    decoder: Box<dyn AudioDecoder>,
    downmix: Downmix,
    track_id: u32,
    rate: u32,
    /// Seconds per tick of a packet's time; sample frames if the container does not say.
    tick: TimeBase,
    run_up: u64,
    declared_frames: Option<u64>,
    /// The frame the next call gives out.
    position: u64,
    /// The packet in hand: its frames from `position` on, when it begins there or earlier.
    samples: Vec<f32>,
    /// First frame of `samples`.
    samples_start: u64,
    /// Frames of silence given out in place of audio.
    concealed: u64,
    ended: bool,
}

impl<'a> Source<'a> {
    /// Opens `input` and its decoder.
    ///
    /// # Errors
    /// As [`inspect`].
    pub(super) fn open<R>(input: &'a mut R) -> Result<Self, PreviewError>
    where
        R: Read + Seek + Send + Sync,
    {
        let (container, offset) = sniff(input).map_err(PreviewError::Read)??;
        let length = input.seek(SeekFrom::End(0)).map_err(PreviewError::Read)?;
        let medium = Box::new(Medium { inner: input, length });
        let mut stream = MediaSourceStream::new(medium, Default::default());
        stream.seek(SeekFrom::Start(offset)).map_err(PreviewError::Read)?;
        let reader: Box<dyn FormatReader + 'a> = guard(|| match container {
            Container::Wav => WavReader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
            Container::Flac => FlacReader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
            Container::Mpeg => MpaReader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
            Container::Adts => AdtsReader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
            Container::Ogg => OggReader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
            Container::Mp4 => IsoMp4Reader::try_new(stream, FormatOptions::default()).map(|r| Box::new(r) as _),
        })?;
        Self::from_reader(reader, container)
    }

    fn from_reader(reader: Box<dyn FormatReader + 'a>, container: Container) -> Result<Self, PreviewError> {
        let track = reader.first_track(TrackType::Audio);
        let Some((track, CodecParameters::Audio(params))) = track.and_then(|it| Some((it, it.codec_params.as_ref()?)))
        else {
            return Err(PreviewError::unsupported("a file without audio"));
        };
        let rate = params.sample_rate.unwrap_or(0);
        if !SAMPLE_RATES.contains(&rate) {
            return Err(PreviewError::unsupported(format!("a sample rate of {rate} Hz")));
        }
        let downmix = params.channels.as_ref().and_then(Downmix::new);
        let downmix = downmix.ok_or_else(|| PreviewError::corrupt("no channels"))?;
        let decoder = guard(|| get_codecs().make_audio_decoder(params, &AudioDecoderOptions::default()))?;
        let (track_id, declared_frames) = (track.id, track.num_frames);
        let tick = track.time_base.or_else(|| TimeBase::try_new(1, rate)).unwrap_or_default();
        let run_up = if container.is_lossless() { 0 } else { u64::from(rate) / RUN_UP };
        Ok(Self {
            reader,
            decoder,
            downmix,
            track_id,
            rate,
            tick,
            run_up,
            declared_frames,
            position: 0,
            samples: Vec::new(),
            samples_start: 0,
            concealed: 0,
            ended: false,
        })
    }

    /// Frames of silence given out in place of audio so far.
    pub(super) fn concealed(&self) -> u64 {
        self.concealed
    }

    /// Goes to `frame`; the next [`Self::read`] begins there.
    ///
    /// # Errors
    /// [`PreviewError::Corrupt`] when it cannot be found, [`PreviewError::Read`].
    pub(super) fn seek(&mut self, frame: u64) -> Result<(), PreviewError> {
        let ts = Timestamp::new(self.ticks(frame.saturating_sub(self.run_up)));
        let to = SeekTo::Timestamp { ts, track_id: self.track_id };
        guard(|| self.reader.seek(SeekMode::Accurate, to))?;
        self.position = frame;
        Ok(())
    }

    /// The time of a sample frame in ticks, rounded down.
    fn ticks(&self, frame: u64) -> i64 {
        let per_frame = u128::from(self.tick.numer.get()) * u128::from(self.rate);
        i64::try_from(u128::from(frame) * u128::from(self.tick.denom.get()) / per_frame).unwrap_or(i64::MAX)
    }

    /// The sample frame at a time in ticks, the nearest one.
    fn frame_at(&self, time: Timestamp) -> u64 {
        let ticks = u128::from(u64::try_from(time.get()).unwrap_or(0));
        let denominator = u128::from(self.tick.denom.get());
        let doubled = 2 * ticks * u128::from(self.tick.numer.get()) * u128::from(self.rate);
        u64::try_from((doubled + denominator) / (2 * denominator)).unwrap_or(u64::MAX)
    }

    /// Appends 1 to `frames_max` frames to `out`; silence where there is nothing, also past the end.
    ///
    /// # Errors
    /// [`PreviewError::Read`], or [`PreviewError::Corrupt`] when the reader panicked.
    pub(super) fn read(&mut self, frames_max: u64, out: &mut Vec<Frame>) -> Result<(), PreviewError> {
        while !self.ended && self.samples_end() <= self.position {
            self.next_samples()?;
        }
        let missing = if self.ended { u64::MAX } else { self.samples_start.saturating_sub(self.position) };
        if missing > 0 {
            let silence = missing.min(SILENCE_FRAMES).min(frames_max);
            out.resize(out.len() + silence as usize, [0.0; 2]);
            self.position += silence;
            self.concealed += silence;
            return Ok(());
        }
        let channels = self.downmix.channels();
        let skip = (self.position - self.samples_start) as usize;
        let take = ((self.samples_end() - self.position).min(frames_max)) as usize;
        let frames = self.samples.chunks_exact(channels).skip(skip).take(take);
        out.extend(frames.map(|frame| self.downmix.mix(frame)));
        self.position += take as u64;
        Ok(())
    }

    /// Reads packets to the end of the input and returns the frame after the last one, if there was any.
    fn count_to_end(&mut self) -> Result<Option<u64>, PreviewError> {
        let mut last: Option<Packet> = None;
        while let Some(packet) = self.next_packet()? {
            last = Some(packet);
        }
        let Some(packet) = last else { return Ok(None) };
        // A WAV packet cut off by the end of the file declares its full length, so the last one is decoded.
        self.decode(&packet)?;
        Ok(Some(self.samples_end()))
    }

    /// The frame after the samples in hand.
    fn samples_end(&self) -> u64 {
        self.samples_start.saturating_add((self.samples.len() / self.downmix.channels()) as u64)
    }

    /// Decodes the next packet into `samples`, or notes the end.
    fn next_samples(&mut self) -> Result<(), PreviewError> {
        match self.next_packet()? {
            Some(packet) => self.decode(&packet),
            None => {
                self.ended = true;
                Ok(())
            }
        }
    }

    /// The next packet; `None` at the end, which a file that was cut off reaches early.
    fn next_packet(&mut self) -> Result<Option<Packet>, PreviewError> {
        loop {
            match guard_panic(|| self.reader.next_packet())? {
                Ok(Some(packet)) if packet.track_id != self.track_id => {}
                Ok(packet) => return Ok(packet),
                Err(DecodeError::IoError(error)) if error.kind() != io::ErrorKind::UnexpectedEof => {
                    return Err(PreviewError::Read(error));
                }
                Err(_) => return Ok(None),
            }
        }
    }

    /// Decodes `packet` into `samples`; a packet that cannot be decoded leaves none.
    fn decode(&mut self, packet: &Packet) -> Result<(), PreviewError> {
        self.samples.clear();
        self.samples_start = self.frame_at(packet.pts);
        guard_panic(|| {
            if let Ok(buffer) = self.decoder.decode(packet)
                && buffer.num_planes() == self.downmix.channels()
            {
                buffer.copy_to_vec_interleaved(&mut self.samples);
            }
        })
    }
}

/// Containers that can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Container {
    Wav,
    Flac,
    /// MP3 as it is, behind its tags.
    Mpeg,
    /// AAC as it is.
    Adts,
    Ogg,
    Mp4,
}

impl Container {
    fn is_lossless(self) -> bool {
        matches!(self, Self::Wav | Self::Flac)
    }
}

/// Tells the container by its first bytes, and where it begins (FLAC, MP3 and AAC may follow an ID3 tag).
fn sniff<R: Read + Seek>(input: &mut R) -> io::Result<Result<(Container, u64), PreviewError>> {
    let mut head = Vec::new();
    input.seek(SeekFrom::Start(0))?;
    input.by_ref().take(12).read_to_end(&mut head)?;
    let what = match head.as_slice() {
        [b'f', b'L', b'a', b'C', ..] => return Ok(Ok((Container::Flac, 0))),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E'] => return Ok(Ok((Container::Wav, 0))),
        [b'I', b'D', b'3', _, _, _, size @ .., _, _] => {
            let size = size.iter().fold(0_u64, |size, byte| size << 7 | u64::from(byte & 0x7f));
            let mut marker = Vec::new();
            input.seek(SeekFrom::Start(10 + size))?;
            input.by_ref().take(4).read_to_end(&mut marker)?;
            return Ok(match marker.as_slice() {
                b"fLaC" => Ok((Container::Flac, 10 + size)),
                [0xff, second, ..] if second & 0xf6 == 0xf0 => Ok((Container::Adts, 10 + size)),
                // More tags, or padding: the reader looks for the first frame.
                _ => Ok((Container::Mpeg, 10 + size)),
            });
        }
        [b'O', b'g', b'g', b'S', ..] => return Ok(Ok((Container::Ogg, 0))),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => return Ok(Ok((Container::Mp4, 0))),
        // Twelve bits of ones; then layer 0 is AAC, and layer III MP3.
        [0xff, second, ..] if second & 0xf6 == 0xf0 => return Ok(Ok((Container::Adts, 0))),
        [0xff, second, ..] if second & 0xe6 == 0xe2 => return Ok(Ok((Container::Mpeg, 0))),
        [b'R', b'F', b'6', b'4', ..] | [b'B', b'W', b'6', b'4', ..] => "WAV beyond 4 GiB (RF64)",
        [b'R', b'I', b'F', b'F', ..] => "a RIFF file that is not WAV",
        [b'F', b'O', b'R', b'M', ..] => "AIFF",
        [0x1a, 0x45, 0xdf, 0xa3, ..] => "Matroska or WebM",
        _ => "an unknown format",
    };
    Ok(Err(PreviewError::unsupported(what)))
}

/// Runs a step of the decoders; their errors and panics become errors of the original.
fn guard<T>(step: impl FnOnce() -> Result<T, DecodeError>) -> Result<T, PreviewError> {
    guard_panic(step)?.map_err(|error| match error {
        DecodeError::IoError(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            PreviewError::corrupt("it ends in the middle of its header or audio")
        }
        DecodeError::IoError(error) => PreviewError::Read(error),
        DecodeError::Unsupported(what) => PreviewError::unsupported(what),
        DecodeError::DecodeError(what) | DecodeError::LimitError(what) => PreviewError::corrupt(what),
        other => PreviewError::corrupt(other.to_string()),
    })
}

/// Runs a step of the decoders. After a panic the source is not used any more, so broken invariants are not seen.
pub(super) fn guard_panic<T>(step: impl FnOnce() -> T) -> Result<T, PreviewError> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|_panic| PreviewError::corrupt("the decoder panicked over it"))
}

/// A borrowed reader of known length, as the decoders want it.
struct Medium<'a, R> {
    inner: &'a mut R,
    length: u64,
}

impl<R: Read> Read for Medium<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

impl<R: Seek> Seek for Medium<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

impl<R: Read + Seek + Send + Sync> MediaSource for Medium<'_, R> {
    fn is_seekable(&self) -> bool {
        true
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length)
    }
}
