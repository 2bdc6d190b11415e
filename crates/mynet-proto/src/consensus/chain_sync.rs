//! The roster chain kept in step: whoever is ahead gives links, whoever is behind asks for them.
//!
//! Heads are told when a peer comes up, with every tick to one peer at random, and to whoever speaks of another epoch; so
//! a lost message delays nobody for long. Links prove themselves, therefore they are taken from anybody.
//!
//! A recovery may lead away from links that others have. Two nodes find that out by their heads if they are in one epoch, else by
//! links that do not follow; whoever has links that do not follow asks further back until some do. Then both know the first
//! epoch in which they differ, and the link that outranks the other stands for both (see `recovery`).

use mynet_types::{BoundedVec, ConsensusMessage, NodeId, RosterHash, RosterLink};

use super::{
    Consensus,
    evidence::head,
    io::Record,
    shared::Shared,
    step::{Step, Then},
};

/// Links in one message, as the wire bounds them.
pub(super) const LINKS_PER_MESSAGE: usize = 16;

/// Brings two nodes that name different epochs together: whoever is behind gets the links.
pub(super) fn sync_rosters(shared: &Shared, step: &mut Step<'_>, with: NodeId, their_epoch: u64) {
    let epoch = shared.roster().epoch;
    if their_epoch > epoch {
        step.tell(with, ConsensusMessage::RosterLinksAfter { epoch });
    } else if their_epoch < epoch {
        step.tell(with, head(shared));
    }
}

/// Gives the links after `epoch`, as many as fit into one message.
pub(super) fn give_links(shared: &Shared, step: &mut Step<'_>, to: NodeId, epoch: u64) {
    let links = shared.chain.after(epoch);
    if !links.is_empty() {
        let links = links.iter().take(LINKS_PER_MESSAGE).cloned();
        step.tell(to, ConsensusMessage::RosterLinks(BoundedVec::truncated(links)));
    }
}

/// Asks for the peer's link to this epoch, if it leads to another roster than the one here.
pub(super) fn look_for_fork(shared: &Shared, step: &mut Step<'_>, from: NodeId, (epoch, roster): (u64, RosterHash)) {
    let newest = shared.roster();
    if epoch == newest.epoch && roster != newest.hash() {
        step.tell(from, ConsensusMessage::RosterLinksAfter { epoch: epoch.saturating_sub(1) });
    }
}

impl Consensus {
    /// Takes links that a peer gave, and asks for more where some are missing or more may come.
    pub(super) fn on_links(&mut self, step: &mut Step<'_>, from: NodeId, links: &[RosterLink]) {
        if self.meet_fork(step, from, links) {
            return;
        }
        self.take_links(step, links.iter().cloned(), false);
        let epoch = self.shared.roster().epoch;
        let gap = links.first().is_some_and(|first| first.roster.epoch > epoch + 1);
        let full = links.len() == LINKS_PER_MESSAGE && links.last().is_some_and(|last| last.roster.epoch == epoch);
        if gap || full {
            step.tell(from, ConsensusMessage::RosterLinksAfter { epoch });
        }
    }

    /// Appends the links that follow. The old vote keys go with the same batch that makes the new epoch durable.
    pub(super) fn take_links(
        &mut self,
        step: &mut Step<'_>,
        links: impl IntoIterator<Item = RosterLink>,
        made_here: bool,
    ) {
        let past = self.shared.roster().epoch;
        let wished = self.shared.wants_key();
        for link in links {
            let newest = self.shared.roster().epoch;
            if link.roster.epoch <= newest {
                continue;
            }
            if let Err(error) = self.shared.chain.extend(link.clone()) {
                tracing::debug!(%error, "link ignored");
                break;
            }
            step.persist(Record::Link(link));
        }
        let newest = self.shared.roster().epoch;
        if newest == past {
            return;
        }
        step.persist(Record::EraseKeys { through: newest - 1 });
        step.then(Then::Grown { past, made_here });
        self.enter_epoch(step, wished);
    }

    /// The newest roster is another one. `wished` tells whether this node lacked a key in the one before.
    pub(super) fn enter_epoch(&mut self, step: &mut Step<'_>, wished: bool) {
        self.shared.roster_changed(step.now.mono, wished);
        for node in self.shared.take_seated_approvals() {
            step.persist(Record::Approval { node, given: false });
        }
        self.validator.roster_changed();
        self.growth.roster_changed(&mut self.shared, step);
        self.proposer.roster_changed(&mut self.shared, step);
    }
}
