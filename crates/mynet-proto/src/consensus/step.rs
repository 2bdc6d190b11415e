//! One call of `handle`: the time, what goes out, and what must wait for the disk.
//!
//! All records of one call form one batch, which goes out last; whatever depends on it is a [`Then`] that runs when the
//! batch is reported durable. Messages to this node itself take the same road as all others, without the network.

use std::collections::VecDeque;

use mynet_types::{
    Claim, ConsensusMessage, Evidence, ManifestHash, NodeId, Now, OwnerEvidence, Phase, ProposalId,
    SignedOwnerStatement, SlotKey, StatesMask, Vote,
};

use super::io::{Event, Output, Record, Timer};
use crate::reason::Note;

/// Names one vote of this node.
pub(super) type BallotKey = (SlotKey, Phase, ManifestHash, Claim, StatesMask);

/// What happens once a batch is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// The proposal may be sent.
    Announce(ProposalId),
    /// The vote of this epoch may leave.
    Vote(BallotKey, u64),
    /// The vote key of this epoch may be offered.
    Offer(u64),
    /// The lock on the next roster holds; its signatures may leave.
    Locked,
    /// This epoch is closed here; the report may leave.
    Closed(u64),
    /// The chain grew past this epoch.
    Grown {
        /// The newest epoch before.
        past: u64,
        /// Whether this node made the link, so that it tells the others.
        made_here: bool,
    },
    /// The evidence may be passed on.
    Expose(Evidence),
    /// The evidence against an owner may be passed on.
    ExposeOwner(OwnerEvidence),
    /// The key for this epoch is on disk and the epoch before is closed: what a recovery needs may leave.
    OfferRecovery(u64),
    /// Links gave way to others.
    GaveUp {
        /// The last epoch that both chains share.
        shared: u64,
        /// The newest epoch that went.
        gave_up: u64,
    },
}

/// The outputs of one call in the making.
pub(super) struct Step<'a> {
    /// When.
    pub(super) now: Now,
    me: NodeId,
    out: &'a mut Vec<Output>,
    local: VecDeque<ConsensusMessage>,
    records: Vec<Record>,
    then: Vec<Then>,
    accused: Vec<Evidence>,
    signed: Vec<(SignedOwnerStatement, Option<NodeId>)>,
    /// Votes and signatures on rosters do not leave now.
    withholds: bool,
    withheld: Vec<(NodeId, ConsensusMessage)>,
}

impl<'a> Step<'a> {
    pub(super) fn new(now: Now, me: NodeId, out: &'a mut Vec<Output>) -> Self {
        Self {
            now,
            me,
            out,
            local: VecDeque::new(),
            records: Vec::new(),
            then: Vec::new(),
            accused: Vec::new(),
            signed: Vec::new(),
            withholds: false,
            withheld: Vec::new(),
        }
    }

    /// Tells `to`, which may be this node.
    pub(super) fn tell(&mut self, to: NodeId, message: ConsensusMessage) {
        let signed = matches!(
            message,
            ConsensusMessage::Vote(_)
                | ConsensusMessage::RosterVote { old: Some(_), .. }
                | ConsensusMessage::CloseReport(_)
        );
        if signed && self.withholds {
            self.withheld.push((to, message));
        } else if to == self.me {
            self.local.push_back(message);
        } else {
            self.out.push(Output::Send { to, message });
        }
    }

    /// Whether what this node signs with its vote key is kept back.
    pub(super) fn withhold(&mut self, withholds: bool) {
        self.withholds = withholds;
    }

    /// Nothing is kept back from now on.
    pub(super) fn release(&mut self) {
        self.withholds = false;
    }

    /// What was kept back so far.
    pub(super) fn take_withheld(&mut self) -> Vec<(NodeId, ConsensusMessage)> {
        std::mem::take(&mut self.withheld)
    }

    /// What was kept back so far is never sent.
    pub(super) fn forget_withheld(&mut self) {
        self.withheld.clear();
    }

    /// Asks for a timer.
    pub(super) fn timer(&mut self, timer: Timer, after: std::time::Duration) {
        self.out.push(Output::SetTimer { timer, at: self.now.mono.after(after) });
    }

    /// Reports an event.
    pub(super) fn event(&mut self, event: Event) {
        self.out.push(Output::Event(event));
    }

    /// Wants something done that needs neither peer nor disk of the core.
    pub(super) fn output(&mut self, output: Output) {
        self.out.push(output);
    }

    /// A line for the log of a group.
    pub(super) fn note(&mut self, note: Note) {
        self.event(Event::Noted(note));
    }

    /// Adds a record to the batch of this call.
    pub(super) fn persist(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Holds `then` back until the batch of this call is durable; there must be a record in it.
    pub(super) fn then(&mut self, then: Then) {
        debug_assert!(!self.records.is_empty(), "only what was written can be waited for");
        self.then.push(then);
    }

    /// Two votes of one seat, both verified, contradict each other: evidence, which is taken at the end of the call.
    pub(super) fn accuse(&mut self, one: &Vote, other: &Vote) {
        self.accused.extend(Evidence::of(one, other));
    }

    /// The next evidence that this call came upon.
    pub(super) fn next_accused(&mut self) -> Option<Evidence> {
        self.accused.pop()
    }

    /// The manifest of a head came by, which `asker` wants a vote for: at the end of the call it is compared with what is known
    /// of its version. Nothing need be verified.
    pub(super) fn signed(&mut self, signed: SignedOwnerStatement, asker: Option<NodeId>) {
        self.signed.push((signed, asker));
    }

    /// The next manifest of a head that this call came upon.
    pub(super) fn next_signed(&mut self) -> Option<(SignedOwnerStatement, Option<NodeId>)> {
        self.signed.pop()
    }

    /// The next message of this node to itself.
    pub(super) fn next_local(&mut self) -> Option<ConsensusMessage> {
        self.local.pop_front()
    }

    /// The batch of this call, if there is one.
    pub(super) fn into_batch(self) -> Option<(Vec<Record>, Vec<Then>)> {
        (!self.records.is_empty()).then_some((self.records, self.then))
    }
}
