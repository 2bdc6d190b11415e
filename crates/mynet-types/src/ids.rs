//! Identifiers: 32-byte names that never mix, and the UUID of a content row.
//!
//! Each is a newtype, so a manifest hash cannot stand where a content hash is wanted. All print as lower-case hex; only
//! [`ContentHash`] carries the `sha256:` prefix of the specification, and parses both forms.

use std::{fmt, str::FromStr};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParseIdError {
    /// The text does not have the length of the identifier.
    #[error("expected {want} hex digits, got {got} characters")]
    Length {
        /// Hex digits wanted.
        want: usize,
        /// Characters given.
        got: usize,
    },
    /// The text holds something other than hex digits.
    #[error("not hexadecimal: {0}")]
    Hex(#[from] hex::FromHexError),
    /// The text is not a UUID.
    #[error("not a UUID: {0}")]
    Uuid(#[from] uuid::Error),
}

/// Parses exactly 64 hex digits.
fn parse_hex32(text: &str) -> Result<[u8; 32], ParseIdError> {
    if text.len() != 64 {
        return Err(ParseIdError::Length { want: 64, got: text.chars().count() });
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes)?;
    Ok(bytes)
}

macro_rules! id32 {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($prefix)?;
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse_hex32(text.strip_prefix($prefix).unwrap_or(text)).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id32!(
    /// A node: its Ed25519 public key, which the TLS handshake proves. Never chosen by its bearer.
    NodeId, ""
);
id32!(
    /// An Ed25519 public key that signs votes of one roster epoch. Fresh per epoch, kept apart from the node key.
    VoteKey, ""
);
id32!(
    /// An Ed25519 public key that owns groups: signs manifests, wraps and tombstones. Kept apart from the node key.
    OwnerKey, ""
);
id32!(
    /// An X25519 public key that content keys are wrapped to (HPKE). Kept apart from the node key.
    WrapKey, ""
);
id32!(
    /// A network: SHA-256 of its encoded genesis.
    NetworkId, ""
);
id32!(
    /// SHA-256 of the bytes of one state; the identity of content and the key of the index. Prints with `sha256:`.
    ContentHash, "sha256:"
);
id32!(
    /// BLAKE3 root of the bytes of one state; verifies ranges while they stream.
    Blake3Root, "blake3:"
);
id32!(
    /// A group of linked states: derived from its first manifest, so version 1 is unique by construction.
    GroupId, ""
);
id32!(
    /// SHA-256 of one encoded manifest: the value that validators certify.
    ManifestHash, ""
);
id32!(
    /// SHA-256 of one encoded roster.
    RosterHash, ""
);
id32!(
    /// What a vote locks: see [`crate::vote::attest_slot`].
    SlotKey, ""
);
id32!(
    /// SHA-256 of one encoded proposal.
    ProposalId, ""
);
id32!(
    /// One replication transaction of one coordinator.
    TxId, ""
);
id32!(
    /// SHA-256 of one encoded certificate.
    CertificateHash, ""
);

impl ContentHash {
    /// Hashes `bytes` that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Blake3Root {
    /// Hashes `bytes` that are already in memory.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl NodeId {
    /// The first ten hex digits, for log lines and tables.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(self.0.split_at(5).0)
    }
}

impl GroupId {
    /// The first ten hex digits, for log lines and tables.
    #[must_use]
    pub fn short(&self) -> String {
        hex::encode(self.0.split_at(5).0)
    }
}

/// The UUID of one state's row: the same on every node, carried by the manifest, never an index key.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, BorshSerialize, BorshDeserialize, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ContentId(#[serde(with = "uuid_text")] pub [u8; 16]);

impl ContentId {
    /// The identifier as a [`uuid::Uuid`].
    #[must_use]
    pub fn as_uuid(&self) -> uuid::Uuid {
        uuid::Uuid::from_bytes(self.0)
    }
}

impl From<uuid::Uuid> for ContentId {
    fn from(value: uuid::Uuid) -> Self {
        Self(value.into_bytes())
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_uuid().hyphenated().fmt(f)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl FromStr for ContentId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(uuid::Uuid::parse_str(text)?.into())
    }
}

/// Serde form of [`ContentId`]: hyphenated text.
mod uuid_text {
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8; 16], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(uuid::Uuid::from_bytes(*bytes).as_hyphenated())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<[u8; 16], D::Error> {
        let text = <String as Deserialize>::deserialize(deserializer)?;
        uuid::Uuid::parse_str(&text).map(uuid::Uuid::into_bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::{ContentHash, ContentId, NodeId, ParseIdError};

    #[test]
    fn content_hash_parses_bare_and_prefixed_hex_and_prints_prefixed() {
        let bare = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let hash: ContentHash = bare.parse().unwrap();
        assert_eq!(hash, format!("sha256:{bare}").parse().unwrap());
        assert_eq!(hash.to_string(), format!("sha256:{bare}"));
        assert_eq!(hash, ContentHash::of(b"abc"));
    }

    #[test]
    fn junk_is_refused_with_its_reason() {
        assert_eq!("abc".parse::<NodeId>(), Err(ParseIdError::Length { want: 64, got: 3 }));
        assert!(matches!("z".repeat(64).parse::<NodeId>(), Err(ParseIdError::Hex(_))));
        assert!("not-a-uuid".parse::<ContentId>().is_err());
    }
}
