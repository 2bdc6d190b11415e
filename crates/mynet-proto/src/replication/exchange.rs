//! Learning what others deleted: whom to ask for tombstones, and from which place of its order on.
//!
//! Who deletes tells every holder that it knows ([`super`]). That leaves whoever became a holder without its coordinator
//! remembering it, and whoever was away while the owner's node is gone. So a node asks each peer that comes up, and all of
//! them once an [`INTERVAL`], for the tombstones that came to it since it was asked last, page by page.
//!
//! ```text
//! ask(peers) ──► next() ──question──► the peer ──answered()──► message for the core, then next() again
//!                                          └─────failed()────► the peer is left until it is asked for again
//! ```
//!
//! **Invariants**
//! 1. One question is open at a time.
//! 2. A place counts for the start of its peer that gave it: one that started anew, maybe from a backup, is asked from the beginning.
//! 3. What was told goes through the core, which checks the owner's signature.
//!
//! Deliberately absent: places on disk. After a restart everything is asked for once more, and known tombstones cost nothing.
//!
//! Source: anti-entropy by a log of changes, as in Demers et al., "Epidemic algorithms for replicated database maintenance" (1987).

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use mynet_types::{NodeId, ReplicationMessage, wire::Tombstones};

/// How often all peers are asked again: a message may be lost while everybody is up, and a group may be deleted after its
/// holder asked. Doubling it doubles how long a holder that nobody remembers may serve what was deleted.
pub const INTERVAL: Duration = Duration::from_secs(3600);
/// Pages asked of one peer in a row, some 130,000 tombstones; the rest comes the next time. Bounds what a peer that makes
/// them up can keep this node busy with.
const PAGES_MAX: usize = 2048;

/// How far every peer was asked, and who is to be asked next.
#[derive(Debug, Default)]
pub struct Exchange {
    unasked: BTreeSet<NodeId>,
    /// The peer that is being asked, and pages that it may still be asked for.
    asking: Option<(NodeId, usize)>,
    /// Its answer has not come.
    waiting: bool,
    places: BTreeMap<NodeId, Place>,
}

/// How far a peer was asked.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    boot: u64,
    seq: u64,
}

/// What a peer is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question {
    /// Whom.
    pub peer: NodeId,
    /// The tombstones after this place in the order in which they came to it.
    pub seq: u64,
}

/// What a peer told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Which start of the peer the place belongs to.
    pub boot: u64,
    /// The place of the last tombstone told.
    pub seq: u64,
    /// The tombstones; none if there are no more.
    pub tombstones: Tombstones,
}

impl Exchange {
    /// These peers may know of deletions that this node does not.
    pub fn ask(&mut self, peers: impl IntoIterator<Item = NodeId>) {
        self.unasked.extend(peers);
    }

    /// The next question, unless one is open or nobody is left to be asked. It is over with [`Self::answered`] or [`Self::failed`].
    pub fn next_question(&mut self) -> Option<Question> {
        if self.waiting {
            return None;
        }
        if self.asking.is_none() {
            self.asking = self.unasked.pop_first().map(|peer| (peer, PAGES_MAX));
        }
        let (peer, pages) = self.asking.as_mut()?;
        *pages = pages.saturating_sub(1);
        self.waiting = true;
        Some(Question { peer: *peer, seq: self.places.get(peer).copied().unwrap_or_default().seq })
    }

    /// The open question is answered. What the core is to be told in the name of the peer, if it told anything.
    pub fn answered(&mut self, page: Page) -> Option<ReplicationMessage> {
        let (peer, pages) = self.asking.filter(|_| std::mem::take(&mut self.waiting))?;
        let place = self.places.entry(peer).or_default();
        if page.boot != place.boot && place.seq > 0 {
            *place = Place { boot: page.boot, seq: 0 };
            self.asking = self.asking.filter(|_| pages > 0);
            return None;
        }
        place.boot = page.boot;
        if page.tombstones.is_empty() || page.seq <= place.seq {
            self.asking = None;
            return None;
        }
        place.seq = page.seq;
        self.asking = self.asking.filter(|_| pages > 0);
        Some(ReplicationMessage::Tombstones(page.tombstones))
    }

    /// The open question has no answer: the peer is left until it is asked for again.
    pub fn failed(&mut self) {
        self.waiting = false;
        self.asking = None;
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mynet_types::{
        BoundedVec, GroupId, NetworkId, NodeId, OwnerKey, ReplicationMessage, Signed, Timestamp, Tombstone,
    };

    use super::{Exchange, PAGES_MAX, Page, Question};

    const PEER: NodeId = NodeId([7; 32]);

    /// A page of one tombstone, or of none.
    fn page(boot: u64, seq: u64, tombstones: usize) -> Page {
        let key = SigningKey::from_bytes(&[1; 32]);
        let owner = OwnerKey(key.verifying_key().to_bytes());
        let body = Tombstone { group_id: GroupId([9; 32]), owner, deleted_at: Timestamp(0) };
        let signed = Signed::new(&NetworkId([0; 32]), body, &key);
        Page { boot, seq, tombstones: BoundedVec::truncated(std::iter::repeat_n(signed, tombstones)) }
    }

    fn asks(exchange: &mut Exchange, seq: u64) {
        assert_eq!(exchange.next_question(), Some(Question { peer: PEER, seq }));
    }

    #[test]
    fn a_peer_is_asked_until_it_has_no_more_and_from_there_on_the_next_time() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.next_question(), None);
        exchange.ask([PEER]);
        asks(&mut exchange, 0);
        assert_eq!(exchange.next_question(), None, "one question is open");
        assert!(
            matches!(exchange.answered(page(3, 64, 1)), Some(ReplicationMessage::Tombstones(told)) if told.len() == 1)
        );
        assert_eq!(exchange.answered(page(3, 65, 1)), None, "nothing was asked");
        asks(&mut exchange, 64);
        assert_eq!(exchange.answered(page(3, 64, 0)), None);
        assert_eq!(exchange.next_question(), None, "it has no more");
        exchange.ask([PEER]);
        asks(&mut exchange, 64);
    }

    #[test]
    fn a_peer_that_started_anew_is_asked_from_the_beginning() {
        let mut exchange = Exchange::default();
        exchange.ask([PEER]);
        asks(&mut exchange, 0);
        assert!(exchange.answered(page(3, 64, 1)).is_some());
        asks(&mut exchange, 64);
        assert_eq!(exchange.answered(page(4, 90, 1)), None, "what is after a place of before means nothing");
        asks(&mut exchange, 0);
        assert!(exchange.answered(page(4, 10, 1)).is_some());
        asks(&mut exchange, 10);
    }

    #[test]
    fn a_peer_that_does_not_answer_is_left_for_the_next_one_and_keeps_its_place() {
        let mut exchange = Exchange::default();
        let other = NodeId([8; 32]);
        exchange.ask([PEER, other]);
        asks(&mut exchange, 0);
        assert!(exchange.answered(page(3, 64, 1)).is_some());
        asks(&mut exchange, 64);
        exchange.failed();
        assert_eq!(exchange.next_question(), Some(Question { peer: other, seq: 0 }));
        exchange.failed();
        assert_eq!(exchange.next_question(), None);
        exchange.ask([PEER]);
        asks(&mut exchange, 64);
    }

    #[test]
    fn a_peer_that_makes_tombstones_up_or_tells_the_same_place_again_comes_to_an_end() {
        let mut exchange = Exchange::default();
        exchange.ask([PEER]);
        let mut pages = 0;
        while exchange.next_question().is_some() {
            pages += 1;
            assert!(exchange.answered(page(1, pages, 1)).is_some());
        }
        assert_eq!(pages, PAGES_MAX as u64);
        exchange.ask([PEER]);
        asks(&mut exchange, pages);
        assert_eq!(exchange.answered(page(1, pages, 1)), None);
        assert_eq!(exchange.next_question(), None);
        // Nor does one that says of every answer that it started anew.
        exchange.ask([PEER]);
        for boot in 2.. {
            let Some(_question) = exchange.next_question() else { break };
            exchange.answered(page(boot, boot, 1));
            assert!(boot < 3 * PAGES_MAX as u64);
        }
    }
}
