//! Canonical bounded encoding: borsh with a limit on every length.
//!
//! Everything signed, hashed or sent is borsh. A decoder accepts exactly one encoding per value: trailing bytes and
//! lengths above the bound are errors, and no length is trusted before it was compared with its bound.
//! Source: <https://borsh.io>, section "Non self-describing".

use std::{
    io::{self, Read, Write},
    ops::Deref,
};

use borsh::{BorshDeserialize, BorshSerialize};
use sha2::{Digest, Sha256};

/// Why bytes are not a value.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the kind allows; nothing was decoded.
    #[error("{size} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        size: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not the canonical encoding of any value.
    #[error("malformed encoding: {0}")]
    Malformed(#[from] io::Error),
}

/// Encodes `value`.
///
/// # Panics
/// If `value` holds an unbounded list of more than 2^32 items; no type of this crate does.
#[must_use]
pub fn encode<T: BorshSerialize + ?Sized>(value: &T) -> Vec<u8> {
    borsh::to_vec(value).expect("writing to a vector does not fail and every bounded length fits in u32")
}

/// SHA-256 of the encoding of `value`.
#[must_use]
pub fn digest<T: BorshSerialize + ?Sized>(value: &T) -> [u8; 32] {
    Sha256::digest(encode(value)).into()
}

/// Decodes all of `bytes`, which may be at most `max` long.
///
/// # Errors
/// [`DecodeError::TooLong`] above `max`; [`DecodeError::Malformed`] for anything that is not the one encoding of a value.
pub fn decode<T: BorshDeserialize>(bytes: &[u8], max: usize) -> Result<T, DecodeError> {
    if bytes.len() > max {
        return Err(DecodeError::TooLong { size: bytes.len(), max });
    }
    Ok(T::try_from_slice(bytes)?)
}

/// A list of at most `MAX` items, checked on construction and before decoding allocates.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoundedVec<T, const MAX: usize>(Vec<T>);

/// A list or text is longer than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} items, at most {max} are allowed")]
pub struct TooMany {
    /// Items given.
    pub len: usize,
    /// Items allowed.
    pub max: usize,
}

impl<T, const MAX: usize> BoundedVec<T, MAX> {
    /// The empty list.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes the items out.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }

    /// Keeps the first `MAX` items and drops the rest; for lists where more would not help (hints, sources).
    pub fn truncated(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }
}

impl<T, const MAX: usize> Default for BoundedVec<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const MAX: usize> TryFrom<Vec<T>> for BoundedVec<T, MAX> {
    type Error = TooMany;

    fn try_from(items: Vec<T>) -> Result<Self, TooMany> {
        if items.len() > MAX { Err(TooMany { len: items.len(), max: MAX }) } else { Ok(Self(items)) }
    }
}

impl<T, const MAX: usize> Deref for BoundedVec<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a BoundedVec<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: BorshSerialize, const MAX: usize> BorshSerialize for BoundedVec<T, MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> io::Result<()> {
        self.0.serialize(writer)
    }
}

/// Reads a length and compares it with `max` before anything is allocated.
fn read_len<R: Read>(reader: &mut R, max: usize) -> io::Result<usize> {
    let len = u32::deserialize_reader(reader)? as usize;
    if len > max {
        return Err(invalid(TooMany { len, max }));
    }
    Ok(len)
}

impl<T: BorshDeserialize, const MAX: usize> BorshDeserialize for BoundedVec<T, MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> io::Result<Self> {
        let len = read_len(reader, MAX)?;
        // Growing by what was really read: a length within its bound still cannot make us allocate for absent items.
        let mut items = Vec::new();
        for _ in 0..len {
            items.push(T::deserialize_reader(reader)?);
        }
        Ok(Self(items))
    }
}

/// Reads a format number and refuses every other than `WANT`; for `#[borsh(deserialize_with)]` of versioned records, so
/// that no record of another version is ever half understood.
pub(crate) fn read_format<R: Read, const WANT: u16>(reader: &mut R) -> io::Result<u16> {
    let format = u16::deserialize_reader(reader)?;
    if format == WANT { Ok(format) } else { Err(invalid(format!("format {format}, only {WANT} is known"))) }
}

/// The error of bytes that are no value.
pub(crate) fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// UTF-8 text of at most `MAX` bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct BoundedString<const MAX: usize>(String);

impl<const MAX: usize> BoundedString<MAX> {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> TryFrom<String> for BoundedString<MAX> {
    type Error = TooMany;

    fn try_from(text: String) -> Result<Self, TooMany> {
        if text.len() > MAX { Err(TooMany { len: text.len(), max: MAX }) } else { Ok(Self(text)) }
    }
}

impl<const MAX: usize> TryFrom<&str> for BoundedString<MAX> {
    type Error = TooMany;

    fn try_from(text: &str) -> Result<Self, TooMany> {
        text.to_owned().try_into()
    }
}

impl<const MAX: usize> Deref for BoundedString<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> std::fmt::Display for BoundedString<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<const MAX: usize> BorshSerialize for BoundedString<MAX> {
    fn serialize<W: Write>(&self, writer: &mut W) -> io::Result<()> {
        self.0.serialize(writer)
    }
}

impl<const MAX: usize> BorshDeserialize for BoundedString<MAX> {
    fn deserialize_reader<R: Read>(reader: &mut R) -> io::Result<Self> {
        let len = read_len(reader, MAX)?;
        let mut bytes = vec![0; len];
        reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map(Self).map_err(invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::{BoundedString, BoundedVec, DecodeError, decode, encode};

    #[test]
    fn a_length_above_its_bound_is_refused_before_allocation() {
        let huge = encode(&u32::MAX);
        assert!(matches!(decode::<BoundedVec<u64, 8>>(&huge, 64), Err(DecodeError::Malformed(_))));
        assert!(matches!(decode::<BoundedString<8>>(&huge, 64), Err(DecodeError::Malformed(_))));
        let nine: Vec<u8> = vec![7; 9];
        assert!(decode::<BoundedVec<u8, 8>>(&encode(&nine), 64).is_err());
        assert!(decode::<BoundedVec<u8, 9>>(&encode(&nine), 64).is_ok());
    }

    #[test]
    fn trailing_bytes_and_oversize_input_are_refused() {
        assert!(decode::<u16>(&[1, 0, 0], 64).is_err());
        assert!(matches!(decode::<u16>(&[1, 0], 1), Err(DecodeError::TooLong { size: 2, max: 1 })));
    }
}
