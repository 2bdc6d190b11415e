//! Leases as both sides count them.
//!
//! A participant counts from the moment a message arrived, a coordinator from the moment it sent that message, and less:
//! so a coordinator stops counting on a copy before its holder gives it up, whatever the delay between them. Every message
//! that a coordinator counts from renews the lease where it arrives: each prepare, repeated ones too, and each renewal.
//!
//! **Invariant:** the clocks of two machines must drift apart by 1 %, or a renewal be lost, before a coordinator counts a
//! lease that has ended; and even then only a copy is missing, which its participant answers with `Gone`.
//! Source: Gray and Cheriton, "Leases" (1989).

use std::time::Duration;

use mynet_types::Mono;

/// Part of a lease that a coordinator does not count on, for drift: 1 in 100. Quartz is off by 1 in 10,000 at most.
const DRIFT_PART: u32 = 100;
/// What a coordinator does not count on besides: a decision needs a flush and a round trip to arrive in time.
const MARGIN: Duration = Duration::from_secs(5);
/// The margin is never more than this part of a lease, so that networks with short leases can decide at all.
const MARGIN_PART: u32 = 4;

/// Until when a coordinator counts on a lease that it asked for at `sent_at`.
#[must_use]
pub(super) fn counted_until(sent_at: Mono, lease: Duration) -> Mono {
    let lease = if mynet_types::planted!(PreparedAfterLease) { lease * 2 } else { lease };
    let margin = MARGIN.min(lease / MARGIN_PART);
    sent_at.after(lease.saturating_sub(lease / DRIFT_PART).saturating_sub(margin))
}

/// The lease that a participant gives: what was asked, at most what it gives anybody.
#[must_use]
pub(super) fn granted(asked_ms: u32, most: Duration) -> Duration {
    Duration::from_millis(u64::from(asked_ms)).min(most)
}

/// A lease as messages carry it.
#[must_use]
pub(super) fn to_wire(lease: Duration) -> u32 {
    u32::try_from(lease.as_millis()).unwrap_or(u32::MAX)
}

/// The pause before try `tries` (from 0): doubles from `first`, at most `longest`.
#[must_use]
pub(super) fn backoff(first: Duration, tries: u32, longest: Duration) -> Duration {
    first.saturating_mul(2_u32.saturating_pow(tries)).min(longest.max(first))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mynet_types::Mono;

    use super::{backoff, counted_until, granted};

    #[test]
    fn a_coordinator_counts_less_than_a_participant_gives() {
        let lease = Duration::from_secs(600);
        assert_eq!(counted_until(Mono(1_000), lease), Mono(1_000 + 600_000 - 6_000 - 5_000));
        assert_eq!(counted_until(Mono(0), Duration::from_secs(4)), Mono(4_000 - 40 - 1_000));
    }

    #[test]
    fn a_participant_gives_at_most_its_own_lease() {
        assert_eq!(granted(5_000, Duration::from_secs(120)), Duration::from_secs(5));
        assert_eq!(granted(u32::MAX, Duration::from_secs(120)), Duration::from_secs(120));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<u64> =
            (0..8).map(|n| backoff(Duration::from_secs(2), n, Duration::from_secs(60)).as_secs()).collect();
        assert_eq!(pauses, [2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff(Duration::from_secs(2), u32::MAX, Duration::from_secs(60)).as_secs(), 60);
    }
}
