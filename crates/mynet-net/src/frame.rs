//! Framing: how one request and its answer lie on a byte stream, of whatever transport.
//!
//! ```text
//! | wire version u16 | kind u16 | length u32 | length bytes of borsh |      all integers little-endian
//! ```
//! Requests of one stream follow each other and are answered in their order; an answer repeats the kind of its request.
//! The stream ends where a frame could begin. `range` is the last request of its stream: raw bytes follow the answer.
//!
//! **Invariants**
//! 1. No length is believed before it was compared with the bound of its kind (the caller passes the bound), and a body
//!    grows with the bytes that arrived, not with the length that was claimed.
//! 2. Nothing here depends on QUIC: any pair of `AsyncRead` and `AsyncWrite` carries frames.

use std::io;

use borsh::BorshSerialize;
use bytes::Bytes;
use mynet_types::{
    codec::{self, DecodeError},
    wire::WIRE_VERSION,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes before the body.
pub const HEADER_BYTES: usize = 8;

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version that the sender speaks; [`WIRE_VERSION`] here.
    pub version: u16,
    /// What the body is; see [`crate::table::KINDS`].
    pub kind: u16,
    /// Bytes of the body.
    pub len: u32,
}

/// Why a frame cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream broke, or ended inside a frame.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// The stream ended where a frame was due.
    #[error("the stream ended before the answer")]
    Ended,
    /// Another wire version.
    #[error("the peer speaks wire version {0}, this node speaks {WIRE_VERSION}")]
    Version(u16),
    /// An answer to something that was not asked.
    #[error("the answer is of kind {got:#06x}, asked was {want:#06x}")]
    Kind {
        /// Kind of the answer.
        got: u16,
        /// Kind of the request.
        want: u16,
    },
    /// Longer than its kind may be.
    #[error("{len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes claimed.
        len: u32,
        /// Bytes allowed.
        max: u32,
    },
    /// Not the encoding of anything.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
}

impl Header {
    /// The bytes of this header.
    #[must_use]
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let ([a, b], [c, d], [e, f, g, h]) =
            (self.version.to_le_bytes(), self.kind.to_le_bytes(), self.len.to_le_bytes());
        [a, b, c, d, e, f, g, h]
    }

    /// The header in `bytes`; every eight bytes are one.
    #[must_use]
    pub fn from_bytes(bytes: [u8; HEADER_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            version: u16::from_le_bytes([a, b]),
            kind: u16::from_le_bytes([c, d]),
            len: u32::from_le_bytes([e, f, g, h]),
        }
    }
}

/// A whole frame of this wire version.
///
/// Bodies are bounded by their kind to a few MiB; the length of a longer one would be cut to `u32::MAX`, which every
/// receiver refuses.
#[must_use]
pub fn frame<T: BorshSerialize>(kind: u16, body: &T) -> Bytes {
    let body = codec::encode(body);
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(&Header { version: WIRE_VERSION, kind, len }.to_bytes());
    bytes.extend_from_slice(&body);
    bytes.into()
}

/// Waits for the first byte of a header; `None` if the stream ends instead. Cancel-safe.
///
/// # Errors
/// Those of the stream.
pub async fn read_first<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<u8>> {
    let mut first = [0];
    Ok(if reader.read(&mut first).await? == 0 { None } else { Some(first[0]) })
}

/// Reads the rest of a header after its `first` byte.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` if it ends inside the header.
pub async fn read_header<R: AsyncRead + Unpin>(first: u8, reader: &mut R) -> io::Result<Header> {
    let mut rest = [0; HEADER_BYTES - 1];
    reader.read_exact(&mut rest).await?;
    let [b, c, d, e, f, g, h] = rest;
    Ok(Header::from_bytes([first, b, c, d, e, f, g, h]))
}

/// Reads a body of `len` bytes, which the caller has compared with its bound.
///
/// # Errors
/// Those of the stream; `UnexpectedEof` if it ends inside the body.
pub async fn read_body<R: AsyncRead + Unpin>(reader: &mut R, len: u32) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let read = reader.take(u64::from(len)).read_to_end(&mut body).await?;
    if u32::try_from(read) == Ok(len) { Ok(body) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Reads one answer to a request of `kind` and decodes it, of at most `max` bytes.
///
/// # Errors
/// [`FrameError`].
pub async fn read_answer<T, R>(reader: &mut R, kind: u16, max: u32) -> Result<T, FrameError>
where
    T: borsh::BorshDeserialize,
    R: AsyncRead + Unpin,
{
    let first = read_first(reader).await?.ok_or(FrameError::Ended)?;
    let header = read_header(first, reader).await?;
    if header.version != WIRE_VERSION {
        return Err(FrameError::Version(header.version));
    }
    if header.kind != kind {
        return Err(FrameError::Kind { got: header.kind, want: kind });
    }
    if header.len > max {
        return Err(FrameError::TooLong { len: header.len, max });
    }
    let body = read_body(reader, header.len).await?;
    Ok(codec::decode(&body, body.len())?)
}

#[cfg(test)]
mod tests {
    use mynet_types::rpc::Response;
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{FrameError, HEADER_BYTES, Header, frame, read_answer};

    /// Runs the decoder over bytes that are already there.
    fn decode(bytes: &[u8], max: u32) -> Result<Response, FrameError> {
        let mut reader = bytes;
        futures::executor::block_on(read_answer(&mut reader, 0x0100, max))
    }

    #[test]
    fn an_answer_survives_its_frame() {
        let bytes = frame(0x0100, &Response::NotHere);
        assert_eq!(decode(&bytes, 16).unwrap(), Response::NotHere);
    }

    #[test]
    fn every_defect_of_a_frame_has_its_name() {
        let good = frame(0x0100, &Response::NotHere).to_vec();
        let with = |header: Header| [&header.to_bytes()[..], &good[HEADER_BYTES..]].concat();
        assert!(matches!(decode(&[], 16), Err(FrameError::Ended)));
        assert!(matches!(decode(&good[..5], 16), Err(FrameError::Io(_))));
        assert!(matches!(decode(&good[..HEADER_BYTES], 16), Err(FrameError::Io(_))));
        assert!(matches!(decode(&with(Header { version: 9, kind: 0x0100, len: 1 }), 16), Err(FrameError::Version(9))));
        let kind = decode(&with(Header { version: 1, kind: 7, len: 1 }), 16);
        assert!(matches!(kind, Err(FrameError::Kind { got: 7, want: 0x0100 })));
        let long = decode(&with(Header { version: 1, kind: 0x0100, len: u32::MAX }), 16);
        assert!(matches!(long, Err(FrameError::TooLong { len: u32::MAX, max: 16 })));
        let trailing = [&Header { version: 1, kind: 0x0100, len: 2 }.to_bytes()[..], &[2, 0]].concat();
        assert!(matches!(decode(&trailing, 16), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn headers_round_trip(version in any::<u16>(), kind in any::<u16>(), len in any::<u32>()) {
            let header = Header { version, kind, len };
            assert_eq!(Header::from_bytes(header.to_bytes()), header);
        }

        #[test]
        fn junk_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256), len in any::<u8>()) {
            let _refused_or_not = decode(&bytes, 4096);
            let header = Header { version: 1, kind: 0x0100, len: u32::from(len) }.to_bytes();
            let _refused_or_not = decode(&[&header[..], &bytes].concat(), 4096);
        }
    }
}
