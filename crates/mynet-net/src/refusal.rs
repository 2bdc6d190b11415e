//! Why a connection is closed: the codes, their texts, and what a dialer makes of them.

use std::{error::Error, sync::Arc};

use iroh::endpoint::{ConnectError, ConnectingError, Connection, ConnectionError, TransportErrorCode, VarInt};

/// Why a node closes a connection. The code and the text travel in the close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Everything was said; only after a knock.
    #[error("done")]
    Done,
    /// The door admits no such node.
    #[error("not admitted: present an admission on the knock protocol")]
    NotAdmitted,
    /// A limit is reached.
    #[error("too many connections or knocks, try again in a minute")]
    Busy,
    /// Both dialed at once and the other connection was kept, or a newer one replaced it.
    #[error("another connection to this node is kept")]
    Duplicate,
    /// The node stops.
    #[error("the node is shutting down")]
    ShuttingDown,
    /// Nothing was asked for long, and places are short.
    #[error("idle, and others need the place")]
    Idle,
    /// The greeting or knock broke the protocol, or did not come in time.
    #[error("the greeting was malformed or late")]
    Protocol,
    /// The peer speaks another wire version.
    #[error("another wire version")]
    Version,
    /// A code of a later version.
    #[error("refused with code {0:#x}")]
    Unknown(u64),
}

impl Refusal {
    /// Every reason with its code. Codes are for ever.
    const CODES: [(Self, u32); 8] = [
        (Self::Done, 0x00),
        (Self::NotAdmitted, 0x10),
        (Self::Busy, 0x11),
        (Self::Duplicate, 0x12),
        (Self::ShuttingDown, 0x13),
        (Self::Idle, 0x14),
        (Self::Protocol, 0x15),
        (Self::Version, 0x16),
    ];

    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u64 {
        match (self, Self::CODES.iter().find(|(reason, _)| *reason == self)) {
            (Self::Unknown(code), _) => code,
            (_, Some((_, code))) => u64::from(*code),
            (_, None) => 0,
        }
    }

    /// The reason of a code.
    #[must_use]
    pub fn from_code(code: u64) -> Self {
        Self::CODES
            .iter()
            .find(|(_, known)| u64::from(*known) == code)
            .map_or(Self::Unknown(code), |(reason, _)| *reason)
    }

    /// Closes `connection` for this reason. Streams in progress are lost.
    pub(crate) fn close(self, connection: &Connection) {
        connection.close(VarInt::from_u64(self.code()).unwrap_or(VarInt::MAX), self.to_string().as_bytes());
    }

    /// Why the peer closed, if that is what happened.
    pub(crate) fn of(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) => Some(Self::from_code(close.error_code.into_inner())),
            ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
                Some(Self::Busy)
            }
            _ => None,
        }
    }
}

/// Why a peer cannot be reached. Cheap to clone: everyone who waits for one dial is told the same.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    /// The address book has nothing.
    #[error("no address is known")]
    NoAddress,
    /// Not a node id, or this node's own.
    #[error("not the id of another node")]
    NotANode,
    /// This node's own door does not admit it.
    #[error("the node is not admitted here")]
    NotAdmittedHere,
    /// The peer closed the connection and said why.
    #[error("refused: {reason}")]
    Refused {
        /// Why.
        reason: Refusal,
    },
    /// The peer speaks the knock protocol, but not the main protocol of this network.
    #[error("the node belongs to another network, or speaks another version of the protocol")]
    OtherNetwork,
    /// Nobody answered in time.
    #[error("no answer in time")]
    Timeout,
    /// This node stops, or holds as many connections as it may.
    #[error("this node opens no more connections")]
    Closed,
    /// The handshake or the greeting failed.
    #[error("the connection failed: {0}")]
    Failed(Arc<dyn Error + Send + Sync>),
}

impl DialError {
    /// Wraps what went wrong below.
    pub(crate) fn failed(error: impl Error + Send + Sync + 'static) -> Self {
        Self::Failed(Arc::new(error))
    }

    /// What a failed handshake means.
    pub(crate) fn of(error: ConnectError) -> Self {
        let cause = match &error {
            ConnectError::Connection { source, .. }
            | ConnectError::Connecting { source: ConnectingError::ConnectionError { source, .. }, .. } => Some(source),
            _ => None,
        };
        match cause {
            Some(ConnectionError::TimedOut) => Self::Timeout,
            Some(cause) => {
                Refusal::of(cause).map_or_else(|| Self::failed(cause.clone()), |reason| Self::Refused { reason })
            }
            None => Self::failed(error),
        }
    }

    /// What a greeting means that failed with `error` on `connection`.
    pub(crate) fn of_greeting(connection: &Connection, error: impl Error + Send + Sync + 'static) -> Self {
        match connection.close_reason().as_ref().and_then(Refusal::of) {
            Some(reason) => Self::Refused { reason },
            None => Self::failed(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Refusal;

    #[test]
    fn codes_round_trip_and_unknown_ones_are_kept() {
        for (reason, code) in Refusal::CODES {
            assert_eq!(reason.code(), u64::from(code));
            assert_eq!(Refusal::from_code(reason.code()), reason);
        }
        assert_eq!(Refusal::from_code(0x99), Refusal::Unknown(0x99));
        assert_eq!(Refusal::Unknown(0x99).code(), 0x99);
    }
}
