//! How values become columns and come back: versioned records, hashes, numbers, times.
//!
//! Everything that the database cannot look into is stored as `u16 format || bytes`, so that a later program knows what it
//! reads. What comes back from disk is checked like what comes from a peer.

use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{Claim, DecodeError, Timestamp, codec};
use sea_orm::prelude::TimeDateTimeWithTimeZone;

use super::MetaError;

/// Format of every record written today. A changed encoding of any record is a new number and a migration.
pub(crate) const RECORD_FORMAT: u16 = 1;

/// Why a stored value is not what was once written.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// Too short to hold a format number.
    #[error("a record of {0} bytes has no format number")]
    Short(usize),
    /// Written by a newer program.
    #[error("format {0} is not known to this program")]
    Format(u16),
    /// Not the encoding of anything.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// A column of fixed length has another one.
    #[error("{got} bytes where {want} are expected")]
    Length {
        /// Bytes expected.
        want: usize,
        /// Bytes found.
        got: usize,
    },
    /// A number is out of its range.
    #[error("number {0} is out of range")]
    Number(i64),
    /// A word is none of those known.
    #[error("unknown word '{0}'")]
    Word(String),
}

impl Damage {
    /// Says in which table the damage is.
    pub(crate) fn within(self, table: &'static str) -> MetaError {
        MetaError::Damaged { table, source: self }
    }
}

/// Prefixes `bytes` with [`RECORD_FORMAT`].
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut stored = RECORD_FORMAT.to_be_bytes().to_vec();
    stored.extend_from_slice(bytes);
    stored
}

/// Undoes [`pack`].
pub(crate) fn unpack(stored: &[u8]) -> Result<&[u8], Damage> {
    let (format, bytes) = stored.split_first_chunk::<2>().ok_or(Damage::Short(stored.len()))?;
    match u16::from_be_bytes(*format) {
        RECORD_FORMAT => Ok(bytes),
        other => Err(Damage::Format(other)),
    }
}

/// Encodes and packs `record`.
pub(crate) fn pack_record<T: BorshSerialize + ?Sized>(record: &T) -> Vec<u8> {
    pack(&codec::encode(record))
}

/// Unpacks and decodes a record of at most `max` encoded bytes.
pub(crate) fn unpack_record<T: BorshDeserialize>(stored: &[u8], max: usize) -> Result<T, Damage> {
    Ok(codec::decode(unpack(stored)?, max)?)
}

/// A column of exactly `N` bytes.
pub(crate) fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Damage> {
    bytes.try_into().map_err(|_length| Damage::Length { want: N, got: bytes.len() })
}

/// How much a certificate claims: the stronger the larger, and each says what the smaller ones say.
pub(crate) fn claim_column(claim: Claim) -> i32 {
    match claim {
        Claim::Seen => 0,
        Claim::Durable => 1,
        Claim::Verified => 2,
    }
}

/// A number for a column: databases have no unsigned 64-bit integers.
pub(crate) fn to_column(what: &'static str, value: u64) -> Result<i64, MetaError> {
    i64::try_from(value).map_err(|_too_big| MetaError::OutOfRange { what, value })
}

/// A number from a column.
pub(crate) fn from_column<T: TryFrom<i64>>(value: i64) -> Result<T, Damage> {
    T::try_from(value).map_err(|_out_of_range| Damage::Number(value))
}

/// A time for a column. Times beyond the year 292 million are stored as that year: both mean "never".
pub(crate) fn millis(time: Timestamp) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

/// A time from a column.
pub(crate) fn time(value: i64) -> Result<Timestamp, Damage> {
    if value == i64::MAX { Ok(Timestamp::MAX) } else { Ok(Timestamp(from_column(value)?)) }
}

/// A time for the specification's own columns; the end of the calendar for times beyond it.
pub(crate) fn calendar(time: Timestamp) -> TimeDateTimeWithTimeZone {
    /// Last millisecond of the year 9999, where calendars in databases end.
    const LAST: Timestamp = Timestamp(253_402_300_799_999);
    time.to_utc().or_else(|| LAST.to_utc()).unwrap_or(TimeDateTimeWithTimeZone::UNIX_EPOCH)
}

/// A time from the specification's own columns.
pub(crate) fn from_calendar(utc: TimeDateTimeWithTimeZone) -> Timestamp {
    Timestamp(u64::try_from(utc.unix_timestamp_nanos() / 1_000_000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use mynet_types::Timestamp;

    use super::{Damage, calendar, from_calendar, millis, pack, time, unpack};

    #[test]
    fn a_record_of_another_format_is_refused_by_name() {
        assert_eq!(unpack(&pack(b"abc")).unwrap(), b"abc");
        assert!(matches!(unpack(&[0, 2, 9]), Err(Damage::Format(2))));
        assert!(matches!(unpack(&[1]), Err(Damage::Short(1))));
    }

    #[test]
    fn times_survive_both_kinds_of_column() {
        for at in [Timestamp(0), Timestamp(1_700_000_000_123), Timestamp::MAX] {
            assert_eq!(time(millis(at)).unwrap(), at);
        }
        let at = Timestamp(1_700_000_000_123);
        assert_eq!(from_calendar(calendar(at)), at);
        assert_eq!(calendar(Timestamp::MAX).year(), 9999);
    }
}
