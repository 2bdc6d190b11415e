//! The one table of kinds: number, name, bounds, who may send it, rate class and decoder.
//!
//! A kind is a message family: each variant of a message or request has its own number, so that its bound is known
//! before its body is read. Numbers are for ever; a changed body gets a new one. Kinds that are not listed are answered
//! with `Unsupported` and counted.
//!
//! **Invariant:** a body decodes to the variant that its kind names, or the frame is malformed; a small kind cannot
//! carry a big message.
//!
//! Deliberately absent: who sits in the roster. Consensus messages prove that themselves, and a node that is an epoch
//! behind would throw away the very messages that bring it forward.

use std::time::Duration;

use mynet_types::{
    ConsensusMessage, MembershipMessage, Message, ReplicationMessage,
    codec::{self, DecodeError},
    rpc::{Knock, Request},
};

use crate::{hello::Hello, knock::KnockRequest, rate::Rate};

/// Bounds of bodies.
const KIB: u32 = 1024;
/// Bounds of bodies.
const MIB: u32 = 1024 * KIB;
/// Messages of fixed fields and few signatures take below 1 KiB; the rest is room for new fields.
const SMALL: u32 = 4 * KIB;
/// A manifest (64 KiB at most) or a hundred signed records.
const MEDIUM: u32 = 128 * KIB;
/// A manifest, its sealed part and 256 wraps; or 256 members with their addresses; or 16 roster links; or a manifest beside
/// the one before it; or a page of acked heads.
const LARGE: u32 = 512 * KIB;
/// A certificate file (4 MiB at most) with what stands around it.
const HUGE: u32 = 4 * MIB + 64 * KIB;
/// Everything that one node tells about a group: a certificate file, a manifest, wraps and receipts.
const GROUP_REPLY: u32 = 5 * MIB;
/// A chain (as in a certificate file), 256 admissions and 256 announcements.
const WELCOME_REPLY: u32 = 8 * MIB;

/// Who may send a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Anybody, on the knock protocol only.
    Stranger,
    /// Nodes that the door admits, on the main protocol only.
    Admitted,
}

/// What a request is counted against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Once per connection; bounded by the limits on connections.
    Handshake,
    /// Cheap to answer.
    Control,
    /// Makes the receiver reserve space and pull bytes.
    Prepare,
    /// Makes the receiver verify, sign and fsync.
    Propose,
    /// Moves content.
    Bulk,
}

/// How much a node may ask for, by how long it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// Admitted less than a day ago, or otherwise not to be trusted with much work.
    Newcomer,
    /// Everybody else.
    Settled,
}

impl Class {
    /// Every class that has a rate.
    pub(crate) const RATED: [Self; 4] = [Self::Control, Self::Prepare, Self::Propose, Self::Bulk];

    /// Requests of this class per node.
    ///
    /// Settled nodes are held below what one core verifies (about 5,000 signatures a second); a newcomer's
    /// prepares and proposals are held to what a person can undo.
    pub(crate) fn rate(self, budget: Budget) -> Rate {
        const MINUTE: Duration = Duration::from_secs(60);
        const SECOND: Duration = Duration::from_secs(1);
        match (budget, self) {
            (Budget::Settled, _) => Rate { burst: 4_000, tokens: 2_000, per: SECOND },
            (Budget::Newcomer, Self::Prepare) => Rate { burst: 10, tokens: 10, per: MINUTE },
            (Budget::Newcomer, Self::Propose) => Rate { burst: 20, tokens: 20, per: MINUTE },
            (Budget::Newcomer, Self::Handshake | Self::Control | Self::Bulk) => {
                Rate { burst: 200, tokens: 50, per: SECOND }
            }
        }
    }
}

/// One decoded body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Opens a connection.
    Hello(Hello),
    /// From an admitted node.
    Request(Request),
    /// From a stranger.
    Knock(Box<KnockRequest>),
}

/// One row of the table.
#[derive(Debug)]
pub struct Kind {
    /// The number on the wire.
    pub number: u16,
    /// The name in logs and metrics.
    pub name: &'static str,
    /// Who may send it.
    pub who: Who,
    /// What it is counted against.
    pub class: Class,
    /// Bytes of the request's body at most.
    pub request_bytes_max: u32,
    /// Bytes of the answer's body at most.
    pub reply_bytes_max: u32,
    /// Decodes a body and checks that it is of this kind.
    pub decode: fn(&Self, &[u8]) -> Result<Body, DecodeError>,
}

impl PartialEq for Kind {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// Declares every kind once: a static per row, and all of them as [`KINDS`].
macro_rules! kinds {
    ($($row:ident = $number:literal $name:literal $who:ident $class:ident $request:expr => $reply:expr, $decode:ident;)*) => {
        $(
            static $row: Kind = Kind {
                number: $number,
                name: $name,
                who: Who::$who,
                class: Class::$class,
                request_bytes_max: $request,
                reply_bytes_max: $reply,
                decode: $decode,
            };
        )*

        /// Every kind, by number.
        pub static KINDS: &[&Kind] = &[$(&$row),*];
    };
}

kinds! {
    HELLO = 0x0001 "hello" Admitted Handshake SMALL => SMALL, hello;
    REDEEM = 0x0010 "redeem" Stranger Handshake SMALL => WELCOME_REPLY, knock;
    PRESENT = 0x0011 "present" Stranger Handshake HUGE => WELCOME_REPLY, knock;
    GROUP = 0x0100 "group" Admitted Control SMALL => GROUP_REPLY, request;
    RANGE = 0x0101 "range" Admitted Bulk SMALL => SMALL, request;
    TOMBSTONES_AFTER = 0x0102 "tombstones_after" Admitted Control SMALL => MEDIUM, request;
    PREPARE = 0x0200 "prepare" Admitted Prepare LARGE => SMALL, request;
    PREPARE_OK = 0x0201 "prepare_ok" Admitted Control SMALL => SMALL, request;
    PREPARE_NO = 0x0202 "prepare_no" Admitted Control SMALL => SMALL, request;
    PROGRESS = 0x0203 "progress" Admitted Control SMALL => SMALL, request;
    LEASE_RENEW = 0x0204 "lease_renew" Admitted Control SMALL => SMALL, request;
    PREPARED = 0x0205 "prepared" Admitted Control SMALL => SMALL, request;
    DECISION = 0x0206 "decision" Admitted Control SMALL => SMALL, request;
    DECISION_ACK = 0x0207 "decision_ack" Admitted Control SMALL => SMALL, request;
    STATUS_QUERY = 0x0208 "status_query" Admitted Control SMALL => SMALL, request;
    STATUS = 0x0209 "status" Admitted Control SMALL => SMALL, request;
    RECEIPTS = 0x020a "receipts" Admitted Control MEDIUM => SMALL, request;
    WRAPS = 0x020b "wraps" Admitted Control MEDIUM => SMALL, request;
    TOMBSTONES = 0x020c "tombstones" Admitted Control MEDIUM => SMALL, request;
    TOMBSTONES_KEPT = 0x020d "tombstones_kept" Admitted Control SMALL => SMALL, request;
    PROPOSE = 0x0300 "propose" Admitted Propose LARGE => SMALL, request;
    VOTE = 0x0301 "vote" Admitted Control SMALL => SMALL, request;
    ABSTAIN = 0x0302 "abstain" Admitted Control SMALL => SMALL, request;
    CERTIFIED = 0x0303 "certified" Admitted Control HUGE => SMALL, request;
    KEY_REQUEST = 0x0304 "key_request" Admitted Control SMALL => SMALL, request;
    KEY_OFFER = 0x0305 "key_offer" Admitted Control SMALL => SMALL, request;
    ROSTER_PROPOSE = 0x0306 "roster_propose" Admitted Control MEDIUM => SMALL, request;
    ROSTER_VOTE = 0x0307 "roster_vote" Admitted Control SMALL => SMALL, request;
    ROSTER_LOCKED = 0x0308 "roster_locked" Admitted Control MEDIUM => SMALL, request;
    ROSTER_HEAD = 0x0309 "roster_head" Admitted Control SMALL => SMALL, request;
    ROSTER_LINKS_AFTER = 0x030a "roster_links_after" Admitted Control SMALL => SMALL, request;
    ROSTER_LINKS = 0x030b "roster_links" Admitted Control LARGE => SMALL, request;
    EVIDENCE = 0x030c "evidence" Admitted Control MEDIUM => SMALL, request;
    MY_VOTES = 0x030d "my_votes" Admitted Control SMALL => SMALL, request;
    YOUR_VOTES = 0x030e "your_votes" Admitted Control MEDIUM => SMALL, request;
    ACK_REQUEST = 0x030f "ack_request" Admitted Propose MEDIUM => SMALL, request;
    CLOSE_REQUEST = 0x0310 "close_request" Admitted Control MEDIUM => SMALL, request;
    CLOSE_REPORT = 0x0311 "close_report" Admitted Control SMALL => SMALL, request;
    ACKED_AFTER = 0x0312 "acked_after" Admitted Control SMALL => SMALL, request;
    ACKED = 0x0313 "acked" Admitted Control LARGE => SMALL, request;
    CARRIED_AFTER = 0x0314 "carried_after" Admitted Control SMALL => SMALL, request;
    CARRIED = 0x0315 "carried" Admitted Control MEDIUM => SMALL, request;
    OWNER_EVIDENCE = 0x0316 "owner_evidence" Admitted Control MEDIUM => SMALL, request;
    MEMBERS = 0x0400 "members" Admitted Control LARGE => SMALL, request;
}

/// The kind of that number, if there is one.
#[must_use]
pub fn find(number: u16) -> Option<&'static Kind> {
    KINDS.iter().copied().find(|kind| kind.number == number)
}

/// Body of a longer length than any kind allows; nothing behind it on the stream is worth skipping to.
pub(crate) const SKIP_BYTES_MAX: u32 = HUGE;

/// Whether a body may be `size` bytes long on the wire.
fn bounded<T>(kind: &Kind, bytes: &[u8], of: impl Fn(&T) -> &'static Kind) -> Result<T, DecodeError>
where
    T: borsh::BorshDeserialize,
{
    let value = codec::decode(bytes, usize::try_from(kind.request_bytes_max).unwrap_or(usize::MAX))?;
    if of(&value) == kind { Ok(value) } else { Err(mislabelled(kind)) }
}

/// The body is of another kind than its header says.
fn mislabelled(kind: &Kind) -> DecodeError {
    DecodeError::Malformed(std::io::Error::new(
        std::io::ErrorKind::InvalidData,
        format!("the body is no {} message", kind.name),
    ))
}

fn hello(kind: &Kind, bytes: &[u8]) -> Result<Body, DecodeError> {
    bounded(kind, bytes, |_: &Hello| &HELLO).map(Body::Hello)
}

fn knock(kind: &Kind, bytes: &[u8]) -> Result<Body, DecodeError> {
    bounded(kind, bytes, |request: &KnockRequest| of_knock(&request.knock))
        .map(|request| Body::Knock(Box::new(request)))
}

fn request(kind: &Kind, bytes: &[u8]) -> Result<Body, DecodeError> {
    bounded(kind, bytes, of_request).map(Body::Request)
}

/// The kind that opens a connection.
#[must_use]
pub fn of_hello() -> &'static Kind {
    &HELLO
}

/// The kind of a knock.
#[must_use]
pub fn of_knock(knock: &Knock) -> &'static Kind {
    match knock {
        Knock::Redeem { .. } => &REDEEM,
        Knock::Present { .. } => &PRESENT,
    }
}

/// The kind of a request.
#[must_use]
pub fn of_request(request: &Request) -> &'static Kind {
    match request {
        Request::Deliver(message) => of_message(message),
        Request::Group(_) => &GROUP,
        Request::Range { .. } => &RANGE,
        Request::TombstonesAfter { .. } => &TOMBSTONES_AFTER,
    }
}

/// The kind of a message.
#[must_use]
pub fn of_message(message: &Message) -> &'static Kind {
    match message {
        Message::Replication(message) => of_replication(message),
        Message::Consensus(message) => of_consensus(message),
        Message::Membership(MembershipMessage::Members { .. }) => &MEMBERS,
    }
}

fn of_replication(message: &ReplicationMessage) -> &'static Kind {
    match message {
        ReplicationMessage::Prepare(_) => &PREPARE,
        ReplicationMessage::PrepareOk { .. } => &PREPARE_OK,
        ReplicationMessage::PrepareNo { .. } => &PREPARE_NO,
        ReplicationMessage::Progress { .. } => &PROGRESS,
        ReplicationMessage::LeaseRenew { .. } => &LEASE_RENEW,
        ReplicationMessage::Prepared { .. } => &PREPARED,
        ReplicationMessage::Decision(_) => &DECISION,
        ReplicationMessage::DecisionAck { .. } => &DECISION_ACK,
        ReplicationMessage::StatusQuery { .. } => &STATUS_QUERY,
        ReplicationMessage::Status { .. } => &STATUS,
        ReplicationMessage::Receipts { .. } => &RECEIPTS,
        ReplicationMessage::Wraps { .. } => &WRAPS,
        ReplicationMessage::Tombstones(_) => &TOMBSTONES,
        ReplicationMessage::TombstonesKept { .. } => &TOMBSTONES_KEPT,
    }
}

fn of_consensus(message: &ConsensusMessage) -> &'static Kind {
    match message {
        ConsensusMessage::Propose { .. } => &PROPOSE,
        ConsensusMessage::Vote(_) => &VOTE,
        ConsensusMessage::Abstain(_) => &ABSTAIN,
        ConsensusMessage::Certified(_) => &CERTIFIED,
        ConsensusMessage::KeyRequest { .. } => &KEY_REQUEST,
        ConsensusMessage::KeyOffer { .. } => &KEY_OFFER,
        ConsensusMessage::RosterPropose { .. } => &ROSTER_PROPOSE,
        ConsensusMessage::RosterVote { .. } => &ROSTER_VOTE,
        ConsensusMessage::RosterLocked { .. } => &ROSTER_LOCKED,
        ConsensusMessage::RosterHead { .. } => &ROSTER_HEAD,
        ConsensusMessage::RosterLinksAfter { .. } => &ROSTER_LINKS_AFTER,
        ConsensusMessage::RosterLinks(_) => &ROSTER_LINKS,
        ConsensusMessage::Evidence(_) => &EVIDENCE,
        ConsensusMessage::MyVotes { .. } => &MY_VOTES,
        ConsensusMessage::YourVotes { .. } => &YOUR_VOTES,
        ConsensusMessage::AckRequest { .. } => &ACK_REQUEST,
        ConsensusMessage::CloseRequest { .. } => &CLOSE_REQUEST,
        ConsensusMessage::CloseReport(_) => &CLOSE_REPORT,
        ConsensusMessage::AckedAfter { .. } => &ACKED_AFTER,
        ConsensusMessage::Acked { .. } => &ACKED,
        ConsensusMessage::CarriedAfter { .. } => &CARRIED_AFTER,
        ConsensusMessage::Carried { .. } => &CARRIED,
        ConsensusMessage::OwnerEvidence(_) => &OWNER_EVIDENCE,
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{
        ContentHash, TxId, codec,
        rpc::{GroupKey, Request},
        wire::{Message, ReplicationMessage},
    };
    use proptest::prelude::{ProptestConfig, any, proptest};

    use super::{Body, KINDS, Who, find, of_request};

    #[test]
    fn numbers_and_names_are_unique_and_sorted() {
        assert!(KINDS.is_sorted_by(|a, b| a.number < b.number));
        let names: std::collections::BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
        assert_eq!(names.len(), KINDS.len());
        assert_eq!(find(0x0200).map(|kind| kind.name), Some("prepare"));
        assert_eq!(find(0x7777), None);
    }

    #[test]
    fn strangers_may_only_knock() {
        let open: Vec<_> = KINDS.iter().filter(|kind| kind.who == Who::Stranger).map(|kind| kind.name).collect();
        assert_eq!(open, ["redeem", "present"]);
    }

    #[test]
    fn a_body_of_another_kind_is_malformed() {
        let group = Request::Group(GroupKey::Hash(ContentHash([7; 32])));
        let query = ReplicationMessage::StatusQuery { tx: TxId([1; 32]) };
        let query = Request::Deliver(Box::new(Message::Replication(query)));
        for (right, wrong) in [(&group, &query), (&query, &group)] {
            let (kind, bytes) = (of_request(right), codec::encode(right));
            assert_eq!((kind.decode)(kind, &bytes).unwrap(), Body::Request(right.clone()));
            let other = of_request(wrong);
            assert!((other.decode)(other, &bytes).is_err());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_decoder_panics_on_junk(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            for kind in KINDS {
                let _refused_or_not = (kind.decode)(kind, &bytes);
            }
        }
    }
}
