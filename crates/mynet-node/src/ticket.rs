//! Tickets: an invitation with what a newcomer needs to find the network, as one line of text.
//!
//! `mynet1` and base64url of borsh. A ticket is a bearer secret until it is used up or expires: the genesis in it is what
//! the newcomer will trust.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use borsh::{BorshDeserialize, BorshSerialize};
use mynet_types::{BoundedString, BoundedVec, GenesisFile, NodeId, SignedInvite, codec};

/// Starts every ticket, so that a wrong paste is noticed.
const PREFIX: &str = "mynet1";
/// Decoded size at most: genesis, invitation and a few addresses.
const TICKET_BYTES_MAX: usize = 16 * 1024;

/// What a newcomer needs.
#[derive(Debug, Clone, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Ticket {
    /// The network, and the roster to pass through.
    pub genesis: GenesisFile,
    /// The promise to admit.
    pub invite: SignedInvite,
    /// Where the inviter can be reached: `ip:port`.
    pub addrs: BoundedVec<BoundedString<64>, 8>,
}

/// Why a text is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Wrong first letters, or cut off.
    #[error("a ticket starts with '{PREFIX}'; was it copied whole?")]
    Prefix,
    /// Letters that no ticket has.
    #[error("the ticket has characters that no ticket has; was it copied whole? ({0})")]
    Base64(#[from] base64::DecodeError),
    /// Not the encoding of a ticket.
    #[error("the ticket is damaged; was it copied whole? ({0})")]
    Decode(#[from] codec::DecodeError),
    /// The invitation was changed.
    #[error("the invitation in the ticket is not signed by its inviter")]
    Signature(#[from] mynet_types::SignatureError),
}

impl Ticket {
    /// The ticket as one line.
    #[must_use]
    pub fn encode(&self) -> String {
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(codec::encode(self)))
    }

    /// Reads a ticket and checks the inviter's signature.
    ///
    /// # Errors
    /// [`TicketError`].
    pub fn decode(text: &str) -> Result<Self, TicketError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(TicketError::Prefix)?;
        let ticket: Self = codec::decode(&URL_SAFE_NO_PAD.decode(body)?, TICKET_BYTES_MAX)?;
        ticket.invite.verify(&ticket.genesis.genesis.network_id())?;
        Ok(ticket)
    }

    /// Where the inviter can be reached; junk among the addresses is left out.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.addrs.iter().filter_map(|addr| addr.parse().ok()).collect()
    }

    /// The inviter.
    #[must_use]
    pub fn inviter(&self) -> NodeId {
        self.invite.body.inviter
    }
}
