//! Token buckets: how often something may be done.

use std::time::Duration;

use tokio::time::Instant;

/// How often: `tokens` per `per` on average, `burst` at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens of a full bucket; at least 1.
    pub burst: u32,
    /// Tokens that come back.
    pub tokens: u32,
    /// In which time; not zero.
    pub per: Duration,
}

/// One bucket. Full at first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: f64::from(rate.burst), at: now }
    }

    /// Adds what came back since the last look; a lower `rate` than before takes effect at once.
    fn refill(&mut self, rate: Rate, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        let back = elapsed * f64::from(rate.tokens) / rate.per.as_secs_f64().max(f64::EPSILON);
        self.tokens = (self.tokens + back).min(f64::from(rate.burst));
        self.at = now;
    }

    /// Takes one token if there is one.
    pub(crate) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        let enough = self.tokens >= 1.0;
        if enough {
            self.tokens -= 1.0;
        }
        enough
    }

    /// Whether no token is there.
    pub(crate) fn is_empty(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.tokens < 1.0
    }

    /// Whether every token is there: forgetting the bucket changes nothing.
    pub(crate) fn is_full(&mut self, rate: Rate, now: Instant) -> bool {
        self.refill(rate, now);
        self.tokens >= f64::from(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Bucket, Rate};

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate { burst: 3, tokens: 2, per: Duration::from_secs(1) };
        let start = Instant::now();
        let mut bucket = Bucket::full(rate, start);
        let taken = (0..5).filter(|_| bucket.take(rate, start)).count();
        assert_eq!(taken, 3);
        assert!(bucket.is_empty(rate, start + Duration::from_millis(400)));
        assert!(bucket.take(rate, start + Duration::from_millis(600)));
        assert!(bucket.is_full(rate, start + Duration::from_secs(9)));
    }
}
