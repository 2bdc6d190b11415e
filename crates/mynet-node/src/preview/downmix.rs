//! Folds any channel layout into stereo.
//!
//! Gains follow ITU-R BS.775: centre and surrounds at -3 dB, low-frequency effects left out. They are then scaled so that
//! full scale in every channel stays full scale in the mix: a quieter surround preview is better than a clipped one.
//! Layouts without positions (discrete, ambisonic) are spread left and right in turn.

use symphonia::core::audio::{Channels, Position};

use super::Frame;

/// -3 dB, the level of a channel that both ears hear.
const MINUS_3_DB: f32 = std::f32::consts::FRAC_1_SQRT_2;

const LEFT: Position = Position::FRONT_LEFT.union(Position::FRONT_LEFT_CENTER).union(Position::FRONT_LEFT_WIDE);
const RIGHT: Position = Position::FRONT_RIGHT.union(Position::FRONT_RIGHT_CENTER).union(Position::FRONT_RIGHT_WIDE);
const LEFT_SURROUND: Position = Position::REAR_LEFT
    .union(Position::SIDE_LEFT)
    .union(Position::TOP_FRONT_LEFT)
    .union(Position::TOP_REAR_LEFT)
    .union(Position::TOP_SIDE_LEFT)
    .union(Position::BOTTOM_FRONT_LEFT);
const RIGHT_SURROUND: Position = Position::REAR_RIGHT
    .union(Position::SIDE_RIGHT)
    .union(Position::TOP_FRONT_RIGHT)
    .union(Position::TOP_REAR_RIGHT)
    .union(Position::TOP_SIDE_RIGHT)
    .union(Position::BOTTOM_FRONT_RIGHT);
const EFFECTS: Position = Position::LFE1.union(Position::LFE2);

/// Left and right gain of every channel of one layout.
#[derive(Debug)]
pub(super) struct Downmix {
    gains: Vec<Frame>,
}

impl Downmix {
    /// The mix for `channels`; `None` when there are none.
    pub(super) fn new(channels: &Channels) -> Option<Self> {
        let mut gains: Vec<Frame> = match (channels.count(), channels) {
            (0, _) => return None,
            (1, _) => vec![[1.0, 1.0]],
            (_, Channels::Positioned(positions)) => positions.iter().map(gain_of).collect(),
            (count, _) => (0..count).map(|index| if index % 2 == 0 { [1.0, 0.0] } else { [0.0, 1.0] }).collect(),
        };
        let loudest = gains.iter().fold([0.0_f32; 2], |sum, gain| [sum[0] + gain[0], sum[1] + gain[1]]);
        let peak = loudest[0].max(loudest[1]).max(1.0);
        for gain in &mut gains {
            *gain = [gain[0] / peak, gain[1] / peak];
        }
        Some(Self { gains })
    }

    /// Channels per interleaved frame.
    pub(super) fn channels(&self) -> usize {
        self.gains.len()
    }

    /// Mixes one interleaved frame of [`Self::channels`] samples. Samples that are not numbers count as silence.
    pub(super) fn mix(&self, samples: &[f32]) -> Frame {
        let mut mixed = [0.0; 2];
        for (sample, gain) in samples.iter().zip(&self.gains) {
            if sample.is_finite() {
                mixed[0] += sample * gain[0];
                mixed[1] += sample * gain[1];
            }
        }
        mixed
    }
}

fn gain_of(position: Position) -> Frame {
    if LEFT.contains(position) {
        [1.0, 0.0]
    } else if RIGHT.contains(position) {
        [0.0, 1.0]
    } else if LEFT_SURROUND.contains(position) {
        [MINUS_3_DB, 0.0]
    } else if RIGHT_SURROUND.contains(position) {
        [0.0, MINUS_3_DB]
    } else if EFFECTS.contains(position) {
        [0.0, 0.0]
    } else {
        [MINUS_3_DB, MINUS_3_DB]
    }
}

#[cfg(test)]
mod tests {
    use symphonia::core::audio::{Channels, Position};

    use super::Downmix;

    #[test]
    fn mono_goes_to_both_sides_at_full_level() {
        let mix = Downmix::new(&Channels::Positioned(Position::FRONT_LEFT)).unwrap();
        assert_eq!(mix.mix(&[0.5]), [0.5, 0.5]);
    }

    #[test]
    fn stereo_is_untouched() {
        let mix = Downmix::new(&Channels::Positioned(Position::FRONT_LEFT | Position::FRONT_RIGHT)).unwrap();
        assert_eq!(mix.mix(&[0.25, -0.5]), [0.25, -0.5]);
    }

    #[test]
    fn surround_keeps_sides_and_never_clips() {
        let layout = Position::FRONT_LEFT
            | Position::FRONT_RIGHT
            | Position::FRONT_CENTER
            | Position::LFE1
            | Position::SIDE_LEFT
            | Position::SIDE_RIGHT;
        let mix = Downmix::new(&Channels::Positioned(layout)).unwrap();
        let full = mix.mix(&[1.0; 6]);
        assert!((full[0] - 1.0).abs() < 1e-6 && (full[1] - 1.0).abs() < 1e-6, "{full:?}");
        let left = mix.mix(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert!(left[0] > 0.6 && left[1] == 0.0, "{left:?}");
    }

    #[test]
    fn discrete_channels_alternate_and_bad_samples_are_silent() {
        let mix = Downmix::new(&Channels::Discrete(4)).unwrap();
        assert_eq!(mix.mix(&[1.0, 0.0, f32::NAN, 0.0]), [0.5, 0.0]);
        assert_eq!(mix.mix(&[f32::INFINITY, 0.0, 1.0, 1.0]), [0.5, 0.5]);
    }

    #[test]
    fn no_channels_is_no_mix() {
        assert!(Downmix::new(&Channels::None).is_none());
    }
}
