//! Quorum arithmetic: how many of n validators make a certificate.
//!
//! With `f = (n-1)/3` (rounded down) bad validators tolerated, an accept quorum is `q = max(min_quorum, ceil((n+f+1)/2))`.
//! Any two accept quorums then share at least `2q-n >= f+1` validators, so one honest validator is in both, and an honest
//! validator accepts one value per slot. A reject certificate needs `n-q+f+1`, so that an accept and a reject
//! quorum for one value also share `f+1`.
//! Source: Malkhi and Reiter, "Byzantine Quorum Systems" (1998); Baudet et al., "FastPay" (2020).

/// The most validators a roster may hold: bitmaps are 64 bits wide, and certificates stay below 5 KiB.
pub const VALIDATORS_MAX: usize = 64;

/// Quorums of one roster size. Only [`Quorum::of`] makes one, so its numbers always fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quorum {
    validators: usize,
    accept: usize,
    degraded: bool,
}

impl Quorum {
    /// The quorums of `validators` under the genesis values `min_quorum` and `allow_degraded`.
    ///
    /// `None` means that no certificate is possible: no validator, more than [`VALIDATORS_MAX`], or fewer than three
    /// while degraded quorums are not allowed, or fewer than `min_quorum` when there are three or more.
    #[must_use]
    pub fn of(validators: usize, min_quorum: usize, allow_degraded: bool) -> Option<Self> {
        match validators {
            0 => None,
            1 | 2 if allow_degraded => Some(Self { validators, accept: validators, degraded: true }),
            1 | 2 => None,
            3..=VALIDATORS_MAX => {
                let sum = validators + faulty_max(validators) + 1;
                let half = if planted!(FloorQuorum) { sum / 2 } else { sum.div_ceil(2) };
                let accept = if planted!(ConstantQuorum) { 3 } else { half.max(min_quorum) };
                (accept <= validators).then_some(Self { validators, accept, degraded: false })
            }
            _ => None,
        }
    }

    /// Validators in the roster, n.
    #[must_use]
    pub fn validators(&self) -> usize {
        self.validators
    }

    /// Accept votes that make a certificate, q.
    #[must_use]
    pub fn accept(&self) -> usize {
        self.accept
    }

    /// Reject votes that make a reject certificate, n-q+f+1.
    #[must_use]
    pub fn reject(&self) -> usize {
        let shared = if planted!(SmallRejectQuorum) { 0 } else { self.faulty() };
        self.validators - self.accept + shared + 1
    }

    /// Bad validators tolerated, f.
    #[must_use]
    pub fn faulty(&self) -> usize {
        if self.degraded { 0 } else { faulty_max(self.validators) }
    }

    /// Whether certificates of this roster are of class `small`: fewer than three validators.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        self.degraded
    }
}

/// Bad validators that n tolerate, `floor((n-1)/3)`.
#[must_use]
pub fn faulty_max(validators: usize) -> usize {
    validators.saturating_sub(1) / 3
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::{Quorum, VALIDATORS_MAX};

    /// n, f, q, reject quorum; the table of the protocol.
    const TABLE: [(usize, usize, usize, usize); 9] = [
        (3, 0, 3, 1),
        (4, 1, 3, 3),
        (5, 1, 4, 3),
        (6, 1, 4, 4),
        (7, 2, 5, 5),
        (10, 3, 7, 7),
        (13, 4, 9, 9),
        (16, 5, 11, 11),
        (64, 21, 43, 43),
    ];

    #[test]
    fn quorums_match_the_table() {
        for (n, f, q, reject) in TABLE {
            let quorum = Quorum::of(n, 3, false).unwrap();
            assert_eq!((quorum.faulty(), quorum.accept(), quorum.reject()), (f, q, reject), "n={n}");
        }
    }

    #[test]
    fn fewer_than_three_validators_certify_only_as_a_degraded_class() {
        assert_eq!(Quorum::of(0, 3, true), None);
        for n in 1..=2 {
            assert_eq!(Quorum::of(n, 3, false), None);
            let quorum = Quorum::of(n, 3, true).unwrap();
            assert!(quorum.is_degraded());
            assert_eq!(quorum.accept(), n);
        }
        assert_eq!(Quorum::of(VALIDATORS_MAX + 1, 3, true), None);
        assert_eq!(Quorum::of(4, 5, false), None);
    }

    proptest! {
        #[test]
        fn any_two_quorums_share_more_than_f(n in 3..=VALIDATORS_MAX, min in 1..=VALIDATORS_MAX) {
            if let Some(quorum) = Quorum::of(n, min, false) {
                let (q, f) = (quorum.accept(), quorum.faulty());
                prop_assert!(q <= n);
                prop_assert!(2 * q > n + f, "two accept quorums");
                prop_assert!(q + quorum.reject() > n + f, "an accept and a reject quorum");
            }
        }

        #[test]
        fn honest_validators_alone_reach_a_quorum_from_four_on(n in 4..=VALIDATORS_MAX) {
            let quorum = Quorum::of(n, 3, false).unwrap();
            prop_assert!(n - quorum.faulty() >= quorum.accept());
        }
    }
}
