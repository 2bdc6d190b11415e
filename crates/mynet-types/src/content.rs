//! The three states of content, what links them, and small words about content.

use std::{fmt, io, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{Blake3Root, ContentHash, codec};

/// One of the three linked states of a group.
///
/// Source: the specification, "Content States and Their Links".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum ContentState {
    /// What any storage node may keep.
    Encrypted,
    /// What granted nodes may serve; a view of the encrypted state unless the content is public.
    Decrypted,
    /// What the public may see.
    Preview,
}

impl ContentState {
    /// All states, in their canonical order.
    pub const ALL: [Self; 3] = [Self::Encrypted, Self::Decrypted, Self::Preview];

    /// The word used in columns, JSON and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Encrypted => "encrypted",
            Self::Decrypted => "decrypted",
            Self::Preview => "preview",
        }
    }
}

impl fmt::Display for ContentState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word is not one of those that are known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} '{word}', expected one of: {expected}")]
pub struct UnknownWord {
    /// What was being parsed.
    pub what: &'static str,
    /// The word given.
    pub word: String,
    /// The words known.
    pub expected: &'static str,
}

impl FromStr for ContentState {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        Self::ALL.into_iter().find(|state| state.as_str() == word).ok_or_else(|| UnknownWord {
            what: "state",
            word: word.to_owned(),
            expected: "encrypted, decrypted, preview",
        })
    }
}

/// A set of states, one bit each. Decoding refuses bits that stand for no state, so a set has one encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, BorshSerialize)]
pub struct StatesMask(u8);

impl StatesMask {
    /// No state.
    pub const EMPTY: Self = Self(0);

    /// This set and `state`.
    #[must_use]
    pub const fn with(self, state: ContentState) -> Self {
        Self(self.0 | 1 << state as u8)
    }

    /// This set without `state`.
    #[must_use]
    pub const fn without(self, state: ContentState) -> Self {
        Self(self.0 & !(1 << state as u8))
    }

    /// Whether `state` is in the set.
    #[must_use]
    pub const fn contains(self, state: ContentState) -> bool {
        self.0 & 1 << state as u8 != 0
    }

    /// Whether every state of `other` is in the set.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The states in both sets.
    #[must_use]
    pub const fn intersect(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The states in canonical order.
    pub fn iter(self) -> impl Iterator<Item = ContentState> {
        ContentState::ALL.into_iter().filter(move |state| self.contains(*state))
    }

    /// The set as one byte: bit 0 encrypted, 1 decrypted, 2 preview.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set of `bits`; `None` if a bit stands for no state.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 8 { Some(Self(bits)) } else { None }
    }
}

impl FromIterator<ContentState> for StatesMask {
    fn from_iter<I: IntoIterator<Item = ContentState>>(states: I) -> Self {
        states.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl BorshDeserialize for StatesMask {
    fn deserialize_reader<R: io::Read>(reader: &mut R) -> io::Result<Self> {
        let bits = u8::deserialize_reader(reader)?;
        Self::from_bits(bits).ok_or_else(|| codec::invalid("unknown state bit"))
    }
}

impl fmt::Debug for StatesMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// How a child row came from its parent; the `relationship_type` of the specification.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RelationshipKind {
    /// The child is the encrypted form of the parent.
    Encrypted,
    /// The child is the decrypted form of the parent.
    Decrypted,
    /// The child is a preview of the parent.
    Preview,
}

impl RelationshipKind {
    /// The word in the `relationship_type` column.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.child_state().as_str()
    }

    /// The state that a child of this kind must be in.
    #[must_use]
    pub fn child_state(self) -> ContentState {
        match self {
            Self::Encrypted => ContentState::Encrypted,
            Self::Decrypted => ContentState::Decrypted,
            Self::Preview => ContentState::Preview,
        }
    }
}

impl FromStr for RelationshipKind {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "encrypted" => Ok(Self::Encrypted),
            "decrypted" => Ok(Self::Decrypted),
            "preview" => Ok(Self::Preview),
            _ => Err(UnknownWord {
                what: "relationship type",
                word: word.to_owned(),
                expected: "encrypted, decrypted, preview",
            }),
        }
    }
}

/// What the content is to its users; the `content_type` column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentType {
    /// Music, speech.
    Audio,
    /// Film.
    Video,
    /// Picture.
    Image,
    /// Anything else.
    Document,
}

impl ContentType {
    /// The word used in columns, JSON and on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Image => "image",
            Self::Document => "document",
        }
    }
}

impl fmt::Display for ContentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ContentType {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "audio" => Ok(Self::Audio),
            "video" => Ok(Self::Video),
            "image" => Ok(Self::Image),
            "document" => Ok(Self::Document),
            _ => Err(UnknownWord {
                what: "content type",
                word: word.to_owned(),
                expected: "audio, video, image, document",
            }),
        }
    }
}

/// Bytes of one state at most: what 2^32 chunks of 64 KiB, each with its 16-byte tag, encrypt to. The chunk index in a nonce
/// has 32 bits, so no content is larger; columns and sums of sizes rely on it.
pub const BLOB_BYTES_MAX: u64 = (1 << 32) * (64 * 1024 + 16);

/// The bytes of one state: both hashes and the size, which only together name them.
///
/// A pair of hashes is a claim until somebody hashed the bytes both ways: see the rule on range streaming in
/// `ARCHITECTURE.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, BorshSerialize, BorshDeserialize)]
pub struct BlobRef {
    /// SHA-256 of the bytes.
    pub sha256: ContentHash,
    /// BLAKE3 root of the bytes.
    pub blake3: Blake3Root,
    /// Size in bytes.
    pub size: u64,
}

impl BlobRef {
    /// Names bytes that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { sha256: ContentHash::of(bytes), blake3: Blake3Root::of(bytes), size: bytes.len() as u64 }
    }
}
