//! A node's two clocks, both wrong: the monotonic one drifts, the wall clock drifts and jumps.

use mynet_types::{Mono, Now, Timestamp};

/// Wall-clock time at which every run begins: 2026-01-01 00:00 UTC. Any time after the first admission would do.
pub(crate) const EPOCH_MS: u64 = 1_767_225_600_000;

/// Clocks of one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// True time at which the process started; the monotonic clock counts from there.
    started: u64,
    /// How much faster than true time it runs, in millionths.
    drift_ppm: i64,
    /// How far a jump moved the wall clock, in milliseconds.
    offset_ms: i64,
}

/// `ms` seen by a clock that runs `ppm` millionths too fast.
fn drifted(ms: u64, ppm: i64) -> u64 {
    u64::try_from(i128::from(ms) * i128::from(1_000_000 + ppm) / 1_000_000).unwrap_or(0)
}

impl Clock {
    /// A clock that runs `drift_ppm` millionths too fast.
    pub(crate) fn new(drift_ppm: i64) -> Self {
        Self { started: 0, drift_ppm, offset_ms: 0 }
    }

    /// The process starts again at true time `at`.
    pub(crate) fn restart(&mut self, at: u64) {
        self.started = at;
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, delta_ms: i64) {
        self.offset_ms += delta_ms;
    }

    /// The clock is set right and runs right from now on, as after a time server was found.
    pub(crate) fn heal(&mut self) {
        self.offset_ms = 0;
    }

    /// What both clocks show at true time `at`. The wall clock is corrected for drift by its time server.
    pub(crate) fn read(&self, at: u64) -> Now {
        let wall = EPOCH_MS.saturating_add(at).saturating_add_signed(self.offset_ms);
        Now { mono: Mono(drifted(at.saturating_sub(self.started), self.drift_ppm)), wall: Timestamp(wall) }
    }

    /// The first true time at which the monotonic clock shows at least `mono`.
    pub(crate) fn true_time(&self, mono: Mono) -> u64 {
        let elapsed = i128::from(mono.0) * 1_000_000;
        let rate = i128::from(1_000_000 + self.drift_ppm);
        let ms = u64::try_from((elapsed + rate - 1) / rate).unwrap_or(u64::MAX);
        self.started.saturating_add(ms)
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::Mono;

    use super::Clock;

    #[test]
    fn a_timer_never_fires_before_its_time_on_the_clock_that_asked_for_it() {
        for drift in [-20_000, -1, 0, 1, 20_000] {
            let mut clock = Clock::new(drift);
            clock.restart(777);
            for mono in [0, 1, 999, 60_000, 123_456_789] {
                let at = clock.true_time(Mono(mono));
                assert!(clock.read(at).mono >= Mono(mono), "drift {drift}, mono {mono}");
                assert!(at <= 777 || clock.read(at - 1).mono < Mono(mono), "drift {drift}, mono {mono}");
            }
        }
    }
}
