//! What a target is, and the two usual kinds: an encoding, and a signed encoding.

use std::fmt::Debug;

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{
    codec,
    signing::{Signable, Signed, SignedBy},
};

use crate::{generator, meter, tape, vectors};

/// What a decoder may allocate: `per_byte` for each byte of its input, and `constant`.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// Items are wider in memory than encoded, and a buffer that grows is counted at each of its sizes.
    pub per_byte: usize,
    /// Texts of errors, and what is read in one piece before it is known to be there.
    pub constant: usize,
}

impl Bound {
    /// The bound of decoders of records and messages. The widest items for their encoding are members of a manifest and empty
    /// texts, six times as wide; a list without a bound of its own begins with a buffer of 4 KiB.
    pub(crate) const RECORD: Self = Self { per_byte: 16, constant: 8 * 1024 };

    /// Bytes allowed for an input of `len` bytes.
    #[must_use]
    pub fn of(self, len: usize) -> usize {
        self.per_byte * len + self.constant
    }
}

/// One thing that takes bytes from others.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Names it on the command line and its directory in the corpus.
    pub name: &'static str,
    /// What it may allocate.
    pub bound: Bound,
    pub(crate) check: fn(&Self, &[u8]),
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

/// What every record and message can.
pub(crate) trait Wire: BorshSerialize + BorshDeserialize + PartialEq + Debug {}
impl<T: BorshSerialize + BorshDeserialize + PartialEq + Debug> Wire for T {}

impl Target {
    /// A record or message that is only decoded.
    pub(crate) const fn encoded<T: Wire>(name: &'static str) -> Self {
        Self { name, bound: Bound::RECORD, check: check_encoded::<T>, seeds: drawn::<T> }
    }

    /// A signed record. The record of `name` in the committed vectors is among its seeds.
    pub(crate) const fn signed<T: Signable + SignedBy + Wire>(name: &'static str) -> Self {
        Self { name, bound: Bound::RECORD, check: check_signed::<T>, seeds: drawn_signed::<T> }
    }

    /// Feeds it with `bytes`.
    ///
    /// # Panics
    /// If it breaks one of the rules at the top of this crate.
    pub fn check(&self, bytes: &[u8]) {
        (self.check)(self, bytes);
    }

    /// Valid inputs, made by the program's own builders; the same on every run of one build.
    #[must_use]
    pub fn seeds(&self) -> Vec<Vec<u8>> {
        let mut seeds = (self.seeds)();
        if let Some(vector) = vectors::record(self.name) {
            seeds.insert(0, vector);
        }
        seeds
    }

    /// Does `work` on an input of `len` bytes within the bound.
    ///
    /// # Panics
    /// If it allocates more.
    pub(crate) fn bounded<T>(&self, len: usize, work: impl FnOnce() -> T) -> T {
        let (result, bytes) = {
            let _alone = meter::alone();
            meter::asked_for(work)
        };
        let most = self.bound.of(len);
        assert!(bytes <= most, "{}: {bytes} bytes allocated for {len} bytes of input, {most} are allowed", self.name);
        result
    }

    /// Decodes within the bound, and checks that what was read has no other encoding.
    pub(crate) fn decode<T: Wire>(&self, bytes: &[u8]) -> Option<T> {
        let value: T = self.bounded(bytes.len(), || codec::decode(bytes, usize::MAX)).ok()?;
        assert!(codec::encode(&value) == bytes, "{}: {value:?} has another encoding than was read", self.name);
        Some(value)
    }
}

fn check_encoded<T: Wire>(target: &Target, bytes: &[u8]) {
    drop(target.decode::<T>(bytes));
}

fn check_signed<T: Signable + SignedBy + Wire>(target: &Target, bytes: &[u8]) {
    if let Some(record) = target.decode::<Signed<T>>(bytes)
        && record.verify(&vectors::network()).is_ok()
    {
        assert_eq!(vectors::record(target.name).as_deref(), Some(bytes), "{}: nobody signed {record:?}", target.name);
    }
}

/// Values of every shape that a small tape finds; of enums, each variant that it finds.
pub(crate) fn drawn<T: Wire>() -> Vec<Vec<u8>> {
    /// Draws, of which the first of each shape is kept.
    const DRAWS: u64 = 600;
    /// Seeds at most; more would slow every replay down and show nothing new.
    const SEEDS_MAX: usize = 48;
    let mut rng = generator(0x7365_6564);
    let mut shapes = std::collections::BTreeSet::new();
    let mut seeds = Vec::new();
    for _ in 0..DRAWS {
        let Some((_, bytes)) = tape::draw::<T>(&mut rng, &tape::Words::default()) else { continue };
        // Tags come first, and of two values of one kind a longer one has more in it.
        let shape = (bytes.iter().take(3).copied().collect::<Vec<_>>(), bytes.len().ilog2());
        if seeds.len() < SEEDS_MAX && shapes.insert(shape) {
            seeds.push(bytes);
        }
    }
    seeds
}

fn drawn_signed<T: Signable + SignedBy + Wire>() -> Vec<Vec<u8>> {
    drawn::<Signed<T>>()
}
