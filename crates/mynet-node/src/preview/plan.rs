//! Decides which part of an original becomes the preview and at what size. Pure.
//!
//! Bounds: at most the limit's seconds, at most a third of the duration, and less than a third of the bytes. The bytes
//! are kept by coding every packet at one size (constant bitrate), so the size of the file is known before it is made.

use super::ogg_opus::{FRAME_SAMPLES, PRE_SKIP, SAMPLE_RATE, packets_for, stream_bytes};
use super::{PreviewError, PreviewLimits};

/// The share of duration and bytes a preview stays within: one third of each.
const SHARE: u64 = 3;

/// Originals under this many seconds have no preview: a third of a second tells a listener nothing, and more than a
/// third would give away most of the original.
const ORIGINAL_SECONDS_MIN: u64 = 1;

/// Shortest preview worth having, 0.3 s; only reached when the byte bound forces a cut (nearly silent FLAC).
const SAMPLES_MIN: u64 = SAMPLE_RATE * 3 / 10;

/// Best packet: 240 bytes each 20 ms, 96 kbit/s. Doubled, previews grow without audible gain; halved, cymbals smear.
const PACKET_BYTES_MAX: u64 = 240;

/// Worst packet: 60 bytes each 20 ms, 24 kbit/s. Below this stereo falls apart, so the preview gets shorter instead.
const PACKET_BYTES_MIN: u64 = 60;

/// What is known about an original before it is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Original {
    /// Sample frames it really holds (not merely declares).
    pub(super) frames: u64,
    /// Sample frames per second.
    pub(super) rate: u32,
    /// Size of the file.
    pub(super) bytes: u64,
}

/// The part to take and the shape of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// First sample frame of the original.
    pub(super) start_frame: u64,
    /// Sample frames to take from there.
    pub(super) take_frames: u64,
    /// Sample frames of the preview at 48 kHz.
    pub(super) samples: u64,
    /// Size of every Opus packet.
    pub(super) packet_bytes: usize,
}

impl Plan {
    /// Bits per second of the Opus packets.
    pub(super) fn bitrate_bps(&self) -> u32 {
        let packets_per_second = (SAMPLE_RATE / FRAME_SAMPLES) as u32;
        self.packet_bytes as u32 * 8 * packets_per_second
    }
}

/// Plans the preview of `original`.
///
/// It begins a quarter into the track, past most intros. That always leaves room: a quarter and a third end before the
/// last third begins.
///
/// # Errors
/// [`PreviewError::TooShort`] when the original is shorter than a second or a third of its bytes holds nothing audible.
pub(super) fn plan(original: &Original, limits: &PreviewLimits) -> Result<Plan, PreviewError> {
    let rate = u64::from(original.rate);
    if original.frames < rate * ORIGINAL_SECONDS_MIN {
        return Err(PreviewError::TooShort);
    }
    let take_frames = (original.frames / SHARE).min(rate * u64::from(limits.audio_seconds()));
    let budget_bytes = original.bytes.saturating_sub(1) / SHARE;
    let (samples, packet_bytes) = fit(take_frames * SAMPLE_RATE / rate, budget_bytes)?;
    Ok(Plan {
        start_frame: original.frames / 4,
        take_frames: take_frames.min((samples * rate).div_ceil(SAMPLE_RATE)),
        samples,
        packet_bytes,
    })
}

/// Fits `samples` into `budget_bytes`: first by smaller packets, then by fewer of them.
fn fit(samples: u64, budget_bytes: u64) -> Result<(u64, usize), PreviewError> {
    let packets = packets_for(samples);
    let room = budget_bytes.saturating_sub(stream_bytes(packets, 0)) / packets;
    if room >= PACKET_BYTES_MIN {
        return Ok((samples, room.min(PACKET_BYTES_MAX) as usize));
    }
    let mut packets = budget_bytes / (PACKET_BYTES_MIN + 1);
    while packets > 0 && stream_bytes(packets, PACKET_BYTES_MIN) > budget_bytes {
        packets -= 1;
    }
    let samples = samples.min((packets * FRAME_SAMPLES).saturating_sub(PRE_SKIP));
    if samples < SAMPLES_MIN {
        return Err(PreviewError::TooShort);
    }
    Ok((samples, PACKET_BYTES_MIN as usize))
}

#[cfg(test)]
mod tests {
    use super::{Original, plan};
    use crate::preview::ogg_opus::{packets_for, stream_bytes};
    use crate::preview::{PreviewError, PreviewLimits};

    fn cd(seconds: u64) -> Original {
        Original { frames: 44_100 * seconds, rate: 44_100, bytes: 44 + 176_400 * seconds }
    }

    #[test]
    fn long_track_gives_thirty_seconds_from_a_quarter() {
        let plan = plan(&cd(200), &PreviewLimits::default()).unwrap();
        assert_eq!(plan.start_frame, 50 * 44_100);
        assert_eq!(plan.take_frames, 30 * 44_100);
        assert_eq!(plan.samples, 30 * 48_000);
        assert_eq!(plan.bitrate_bps(), 96_000);
    }

    #[test]
    fn short_track_gives_a_third() {
        let plan = plan(&cd(9), &PreviewLimits::default()).unwrap();
        assert_eq!(plan.take_frames, 3 * 44_100);
        assert_eq!(plan.samples, 3 * 48_000);
    }

    #[test]
    fn under_a_second_gives_none() {
        let under = Original { frames: 44_099, ..cd(1) };
        assert!(matches!(plan(&under, &PreviewLimits::default()), Err(PreviewError::TooShort)));
        assert!(plan(&cd(1), &PreviewLimits::default()).is_ok());
    }

    #[test]
    fn small_originals_get_smaller_packets_then_shorter_previews() {
        let telephone = Original { frames: 480_000, rate: 8_000, bytes: 480_044 };
        let smaller = plan(&telephone, &PreviewLimits::default()).unwrap();
        assert_eq!(smaller.samples, 20 * 48_000);
        assert!((50_000..64_000).contains(&smaller.bitrate_bps()), "{}", smaller.bitrate_bps());

        let silent_flac = Original { bytes: 30_000, ..cd(60) };
        let shorter = plan(&silent_flac, &PreviewLimits::default()).unwrap();
        assert_eq!(shorter.bitrate_bps(), 24_000);
        assert!(shorter.samples < 20 * 48_000);

        let nothing = Original { bytes: 900, ..cd(60) };
        assert!(matches!(plan(&nothing, &PreviewLimits::default()), Err(PreviewError::TooShort)));
    }

    #[test]
    fn every_plan_keeps_both_thirds() {
        for rate in [8_000, 11_025, 44_100, 48_000, 96_000, 191_999, 192_000] {
            for tenths in [10, 11, 13, 29, 90, 91, 600, 36_000] {
                for bytes_per_second in [100, 1_000, 4_000, 8_000, 50_000, 1_000_000] {
                    let frames = u64::from(rate) * tenths / 10;
                    let original = Original { frames, rate, bytes: bytes_per_second * tenths / 10 };
                    let Ok(plan) = plan(&original, &PreviewLimits::default()) else { continue };
                    let size = stream_bytes(packets_for(plan.samples), plan.packet_bytes as u64);
                    assert!(size * 3 < original.bytes, "{original:?} {plan:?} {size}");
                    assert!(plan.samples * 3 * u64::from(rate) <= frames * 48_000, "{original:?} {plan:?}");
                    assert!(plan.samples <= 30 * 48_000);
                    assert!(plan.start_frame + plan.take_frames <= frames);
                }
            }
        }
    }
}
