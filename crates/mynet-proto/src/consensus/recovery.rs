//! Recovery: what this node brings to a roster that the offline keys make, and which chain holds where two differ.
//!
//! ```text
//!  OfferRecovery --> Persist(Key, EpochClosed) --> Persisted --> RecoveryOffered      (the rest is files and offline keys)
//!  Recover(link, heads) --> Persist(Link, Carried ..) --> Persisted --> RosterLinks to everybody who is up
//! ```
//!
//! 1. The key is on disk before it is offered, and the epoch is closed on disk before this node says what it acked in it. So no
//!    head of the old epoch is acked by a node whose word the recovery carries.
//! 2. A link by the offline keys is taken like every other, from anybody, and never made here.
//! 3. Where one chain takes the place of another, the links that give way go in one batch, with the keys, votes, locks, evidence
//!    and heads of their epochs. (C2) A key stays only if its seat is the same in the chain that holds: a statement names its
//!    roster, so what it signed for the other one contradicts nothing.
//! 4. Which chain holds depends on the two chains alone, so whoever knows both agrees, in whatever order they came (see
//!    [`VerifiedChain::overruled_by`]). Whoever was shown links that do not hold against its own shows its own.
//!
//! **Deliberately absent:** opening a closed epoch again if the recovery does not come. From three seats on it is a reason for
//! fresh keys; below, heads wait for the recovery.

use ed25519_dalek::SigningKey;
use mynet_types::{
    BoundedVec, ConsensusMessage, NodeId, RecoveryOffer, Roster, RosterKey, RosterLink, Signed, SignedRecoveryOffer,
    Validator, VerifiedChain, VoteKey, VoteSecret,
};

use super::{
    Consensus,
    certified::Decided,
    chain_sync::{LINKS_PER_MESSAGE, give_links},
    io::{Event, Record, RosterLock},
    shared::{EpochKey, Shared},
    step::{Step, Then},
};

impl Consensus {
    /// Makes what a recovery needs of this node. Repeated in one epoch, it is the same key and the same list.
    pub(super) fn offer_recovery(&mut self, step: &mut Step<'_>) {
        let epoch = self.shared.roster().epoch + 1;
        if !self.shared.keys.contains_key(&epoch) {
            let key = SigningKey::from_bytes(&self.shared.random());
            self.shared.keys.insert(epoch, EpochKey::fresh(key));
        }
        let Some(offer) = key_offer(&self.shared, epoch) else { return };
        // What is on disk already is written once more: then there is one batch to wait for.
        let secret = self.shared.keys.get(&epoch).map(|key| VoteSecret(key.key.to_bytes()));
        step.persist(Record::Key { epoch, secret: secret.unwrap_or(VoteSecret([0; 32])) });
        step.then(Then::Offer(epoch));
        let leaves_open = mynet_types::planted!(RecoveryLeavesEpochOpen);
        if self.shared.roster().seat_of(&self.shared.me).is_some() && !leaves_open {
            let draft = RosterLock {
                roster: Roster {
                    epoch,
                    prev: offer.body.prev,
                    validators: BoundedVec::truncated([offer.body.seat]),
                    ..self.shared.roster().clone()
                },
                keys: BoundedVec::truncated([offer]),
                reports: BoundedVec::new(),
            };
            self.growth.closing.close_for_recovery(&mut self.shared, step, draft);
        }
        step.then(Then::OfferRecovery(epoch));
    }

    /// Key and close are on disk: what this node brings is told.
    pub(super) fn on_recovery_durable(&mut self, step: &mut Step<'_>, epoch: u64) {
        if self.shared.roster().epoch.checked_add(1) == Some(epoch) {
            let offer = recovery_offer(&self.shared, epoch);
            step.event(Event::RecoveryOffered(offer.map(Box::new)));
        }
    }

    /// Takes a recovery with the heads that it carries, and tells everybody.
    pub(super) fn recover(&mut self, step: &mut Step<'_>, link: RosterLink, heads: Vec<mynet_types::CarriedHead>) {
        if let Err(error) = link.verify(self.shared.chain.genesis(), self.shared.roster()) {
            tracing::warn!(%error, "recovery ignored, it does not follow the newest roster");
            return;
        }
        self.growth.closing.recover_with(heads.into_iter().map(|head| (head.group_id, head)).collect());
        self.take_links(step, [link], true);
    }

    /// Links that a peer gave do not lead on from the chain here. `true`: nothing else is to be done with them.
    pub(super) fn meet_fork(&mut self, step: &mut Step<'_>, from: NodeId, links: &[RosterLink]) -> bool {
        let chain = &self.shared.chain;
        let Some(before) = links.first().and_then(|first| first.roster.epoch.checked_sub(1)) else { return false };
        let parts = |own: &Roster| links.first().is_some_and(|first| own.hash() != first.roster.prev);
        if before > 0 && chain.roster(before).is_some_and(parts) {
            // They left this chain earlier: asked for a page further back, until one begins where both agree.
            let epoch = before.saturating_sub(LINKS_PER_MESSAGE as u64);
            step.tell(from, ConsensusMessage::RosterLinksAfter { epoch });
            return true;
        }
        if let Some((shared, fork)) = chain.overruled_by(links) {
            self.give_way(step, (shared, fork));
            if links.len() == LINKS_PER_MESSAGE {
                step.tell(from, ConsensusMessage::RosterLinksAfter { epoch: self.shared.roster().epoch });
            }
            return true;
        }
        let Some((index, own)) = chain.divergence(links) else { return false };
        if own.is_recovery() || links.get(index).is_some_and(RosterLink::is_recovery) {
            give_links(&self.shared, step, from, own.roster.epoch - 1);
        } else {
            tracing::debug!(%from, epoch = own.roster.epoch, "links to another roster do not overrule those here");
        }
        true
    }

    /// The links of `fork` after epoch `shared` take the place of those here.
    fn give_way(&mut self, step: &mut Step<'_>, (shared, fork): (u64, VerifiedChain)) {
        let gave_up = self.shared.roster().epoch;
        step.persist(Record::Unlinked { after: shared });
        let seated = fork.newest().validators.iter().map(|seat| seat.vote_key).collect::<Vec<_>>();
        let epoch = fork.newest().epoch;
        self.shared.keys.retain(|of, key| {
            *of == epoch && key.durable && seated.contains(&VoteKey(key.key.verifying_key().to_bytes()))
        });
        if let Some(kept) = self.shared.keys.get(&epoch) {
            step.persist(Record::Key { epoch, secret: VoteSecret(kept.key.to_bytes()) });
        }
        for link in fork.after(shared) {
            step.persist(Record::Link(link.clone()));
        }
        step.then(Then::GaveUp { shared, gave_up });
        step.then(Then::Grown { past: shared, made_here: true });
        self.shared.evidence.keep_to(&fork);
        self.shared.heads.forget_carried();
        self.shared.chain = fork;
        self.decided = Decided::default();
        self.proposer.forget_votes();
        self.enter_epoch(step, false);
    }
}

/// This node's offer of its key for `epoch`.
fn key_offer(shared: &Shared, epoch: u64) -> Option<Signed<RosterKey>> {
    let key = &shared.keys.get(&epoch)?.key;
    let seat = Validator { vote_key: VoteKey(key.verifying_key().to_bytes()), node: shared.me };
    let body = RosterKey { epoch, prev: shared.roster().hash(), seat };
    Some(Signed::new(&shared.network, body, &shared.node_key))
}

/// What this node brings to the roster of `epoch`; `None` if it is more than a file holds.
fn recovery_offer(shared: &Shared, epoch: u64) -> Option<SignedRecoveryOffer> {
    let key = key_offer(shared, epoch)?;
    let acked: Vec<_> = shared.heads.acked().values().cloned().collect();
    let carried = shared.heads.carried().map(|set| set.values().copied().collect::<Vec<_>>().try_into());
    let body = RecoveryOffer {
        key: key.body,
        key_signature: key.signature,
        // A store that may be older than its key does not know all that was acked with it.
        reports: shared.voting_key().is_some() && !shared.in_doubt(),
        acked: acked.try_into().ok()?,
        carried: carried.transpose().ok()?,
    };
    Some(Signed::new(&shared.network, body, &shared.node_key))
}
