//! Doubt: whether the vote store that this node started with holds all that its key signed.
//!
//! The store tells by its boot counter when it alone was lost or put back. It cannot tell when the whole machine was put back,
//! or runs twice. So a validator that starts with a key from its store asks everybody for the votes of its seat in this epoch
//! (`MyVotes`), and none of its signatures leaves before `min(f + 1, n - 1)` other seats have answered. A signature of its own
//! that it does not know shows that the store is older than its key, whoever brings it and whenever: the keys are erased, and
//! the node is silent until the roster changes and gives it a fresh one.
//!
//! 1. Only a signature by this node's own key makes it silent, so peers cannot.
//! 2. Peers remember the votes that they were sent for as long as the proposal lives, and not over their restarts: this finds
//!    what was signed lately, and at the latest what a certificate carries.
//! 3. A key that was made since the start is in no doubt.
//!
//! Source: Rebello et al., "Can Applications Recover from fsync Failures?" (2020), on stores that forget.

use mynet_types::{
    BoundedVec, CertificateFile, ConsensusMessage, Domain, Evidence, NodeId, SignedStatement, signing,
    wire::YOUR_VOTES_MAX,
};

use super::{Consensus, chain_sync::sync_rosters, closing::Closing, io::Record, step::Step};

/// Signatures kept back while in doubt; more are asked for again by their proposers. A node is in doubt for a round trip.
const WITHHELD_MAX: usize = 256;

/// What was to be signed and sent while in doubt.
#[derive(Default)]
pub(super) struct Withheld {
    messages: Vec<(NodeId, ConsensusMessage)>,
}

impl Withheld {
    fn keep(&mut self, message: (NodeId, ConsensusMessage)) {
        if self.messages.len() < WITHHELD_MAX && !self.messages.contains(&message) {
            self.messages.push(message);
        }
    }
}

impl Consensus {
    /// Asks a peer for the votes of this node's seat, if there is a doubt that it could end.
    pub(super) fn ask_for_votes(&self, step: &mut Step<'_>, peer: NodeId) {
        if self.shared.in_doubt() && !self.shared.confirmed.contains(&peer) {
            step.tell(peer, ConsensusMessage::MyVotes { epoch: self.shared.roster().epoch });
        }
    }

    /// Asks all again who have not answered; messages get lost.
    pub(super) fn ask_all_for_votes(&self, step: &mut Step<'_>) {
        for peer in &self.shared.up {
            self.ask_for_votes(step, *peer);
        }
    }

    /// A seat asks what this node has of its votes.
    pub(super) fn on_my_votes(&self, step: &mut Step<'_>, from: NodeId, epoch: u64) {
        let roster = self.shared.roster();
        if epoch != roster.epoch {
            return sync_rosters(&self.shared, step, from, epoch);
        }
        let Some(seat) = roster.seat_of(&from).and_then(|seat| u16::try_from(seat).ok()) else { return };
        let votes = self.proposer.newest_votes_of(seat, epoch).take(YOUR_VOTES_MAX);
        step.tell(from, ConsensusMessage::YourVotes { epoch, votes: BoundedVec::truncated(votes) });
    }

    /// A peer says what it has of this node's votes.
    pub(super) fn on_your_votes(
        &mut self,
        step: &mut Step<'_>,
        (from, epoch): (NodeId, u64),
        votes: &[SignedStatement],
    ) {
        if epoch != self.shared.roster().epoch || !self.shared.in_doubt() {
            return;
        }
        for signed in votes {
            if self.is_news_of_own(signed) {
                return self.fall_silent(step, "a peer holds a vote of this node that its store does not");
            }
        }
        if self.shared.roster().seat_of(&from).is_some() {
            self.shared.confirmed.insert(from);
        }
    }

    /// Whether this node's key of the newest epoch signed `signed`, and its store does not know.
    fn is_news_of_own(&self, signed: &SignedStatement) -> bool {
        let Some((_, key)) = self.shared.voting_key() else { return false };
        let (statement, roster) = (&signed.statement, self.shared.roster());
        let of_epoch = statement.epoch == roster.epoch && statement.roster == roster.hash();
        let public = key.verifying_key().to_bytes();
        of_epoch
            && !self.validator.has_cast(statement)
            && signing::verify_as(Domain::Vote, &self.shared.network, statement, &public, &signed.signature).is_ok()
    }

    /// Looks for this node's signature in a certificate that it did not vote for.
    pub(super) fn look_for_own_vote(&mut self, step: &mut Step<'_>, file: &CertificateFile) {
        let certificate = &file.certificate;
        let Some(own) = self.shared.roster().seat_of(&self.shared.me) else { return };
        let mut signed = certificate.signers.seats().zip(&certificate.signers.signatures);
        let Some((_, signature)) = signed.find(|(seat, _)| *seat == own) else { return };
        let signed = SignedStatement { statement: certificate.statement, signature: *signature };
        if self.is_news_of_own(&signed) {
            self.fall_silent(step, "a certificate carries a vote of this node that its store does not");
        }
    }

    /// Evidence against this node's own key: it runs twice, or its store forgot.
    pub(super) fn look_at_own_evidence(&mut self, step: &mut Step<'_>, evidence: &Evidence, node: NodeId) {
        if node == self.shared.me && evidence.epoch() == self.shared.roster().epoch && self.may_vote() {
            self.fall_silent(step, "two votes of this node contradict each other");
        }
    }

    /// Erases the vote keys: nothing more is signed before the next epoch.
    fn fall_silent(&mut self, step: &mut Step<'_>, why: &'static str) {
        tracing::error!(why, "this node does not vote until the next epoch: was it restored, or does it run twice?");
        let through = self.shared.keys.last_key_value().map_or(0, |(epoch, _)| *epoch);
        step.persist(Record::EraseKeys { through });
        self.shared.keys.clear();
        self.withheld.messages.clear();
        step.forget_withheld();
        self.validator.roster_changed();
        self.growth.start_over(Closing::default(), step.now.mono);
    }

    /// What was kept back in this call stays so while there is doubt, and leaves when it ends.
    pub(super) fn settle_withheld(&mut self, step: &mut Step<'_>) {
        for message in step.take_withheld() {
            self.withheld.keep(message);
        }
        if !self.shared.in_doubt() {
            step.release();
            for (to, message) in std::mem::take(&mut self.withheld.messages) {
                step.tell(to, message);
            }
        }
    }
}
