//! What the next roster should be, as this node sees it, and whether it agrees with what another one wants.
//!
//! A roster changes for one of three reasons, and every old seat must see the reason itself before it signs:
//!
//! | reason | the change |
//! |---|---|
//! | a seat contradicted itself in this epoch | it is left out, as long as three remain |
//! | an admitted validator waits, and may sit: by itself up to the automatic size if it never lied, else by approval | it joins |
//! | a seat has no key to vote with | nobody joins or leaves, all get fresh keys |
//!
//! A link changes at most `max(1, f)` seats, and liars come first. An old seat that is away has no key to offer, so it cannot
//! stay. It is left out only
//! - if each signer could not reach it itself for [`Config::seat_patience`]: else a bad proposer could push honest seats out
//!   one by one;
//! - if there is another reason to change the roster: being away costs nobody a seat;
//! - if no liar keeps its seat: else the change would raise the share of the bad;
//! - and if the roster that follows tolerates as many bad seats as before, or the operator of the signer has approved somebody
//!   who waits. From four seats to three it is this word that counts: for one epoch, until the newcomer sits, no bad seat is
//!   tolerated.
//!
//! [`Config::seat_patience`]: crate::consensus::io::Config::seat_patience

use std::collections::BTreeSet;

use mynet_types::{NodeId, Now, Roles, Roster, Timestamp, VALIDATORS_MAX, quorum::faulty_max};

use crate::consensus::shared::Shared;

/// A change of the roster: who loses its seat and who gets one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) leaving: BTreeSet<NodeId>,
    pub(super) newcomer: Option<NodeId>,
}

/// Why this node does not agree with a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Objection {
    #[error("more than one node joins")]
    TwoNewcomers,
    #[error("nothing is known here that calls for it")]
    NoReason,
    #[error("{0} did not lie and is not away")]
    NotLeaving(NodeId),
    #[error("{0} lied and would keep its seat while another is left out")]
    LiarStays(NodeId),
    #[error("fewer bad seats would be tolerated than before, and nobody was approved")]
    LessTolerant,
    #[error("{0} may not sit here without an approval by the operator of this node")]
    NotApproved(NodeId),
}

impl Change {
    /// What leads from `newest` to `next`.
    pub(super) fn between(newest: &Roster, next: &Roster) -> Result<Self, Objection> {
        let leaving = newest.nodes().filter(|node| next.seat_of(node).is_none()).collect();
        let mut joining = next.nodes().filter(|node| newest.seat_of(node).is_none());
        let newcomer = joining.next();
        if joining.next().is_some() { Err(Objection::TwoNewcomers) } else { Ok(Self { leaving, newcomer }) }
    }

    /// The nodes that will sit in the next roster.
    pub(super) fn seats(&self, newest: &Roster) -> BTreeSet<NodeId> {
        newest.nodes().chain(self.newcomer).filter(|node| !self.leaving.contains(node)).collect()
    }
}

/// Seats that one link may change.
fn changes_max(seats: usize) -> usize {
    faulty_max(seats).max(1)
}

/// The seats that lied in this epoch, as many as can be left out at once.
fn expelled(shared: &Shared) -> BTreeSet<NodeId> {
    let newest = shared.roster();
    let seats = newest.validators.len();
    let liars = shared.evidence.liars_of(newest.epoch);
    liars.into_iter().take(changes_max(seats).min(seats.saturating_sub(3))).collect()
}

/// Whether `node` may get a seat in a roster of `seats` as far as this node is concerned.
fn may_sit(shared: &Shared, node: &NodeId, seats: usize) -> bool {
    let by_itself = seats <= shared.config.automatic_validators && !shared.evidence.has_lied(node);
    seats <= VALIDATORS_MAX && (by_itself || shared.approved.contains(node))
}

/// Validators that wait for a seat in a roster of `seats` and can be reached, in the order of their admission.
fn waiting(shared: &Shared, wall: Timestamp, seats: usize) -> Vec<NodeId> {
    let roster = shared.roster();
    let mut waiting: Vec<_> = shared
        .admitted
        .values()
        .map(|admission| &admission.body)
        .filter(|body| body.roles.contains(Roles::VALIDATOR) && body.expires_at > wall)
        .filter(|body| roster.seat_of(&body.node).is_none() && shared.up.contains(&body.node))
        .filter(|body| may_sit(shared, &body.node, seats))
        .map(|body| (body.admitted_at, body.node))
        .collect();
    waiting.sort_unstable();
    waiting.into_iter().map(|(_, node)| node).collect()
}

/// Whether the roster can do without `away` seats beside the `leaving` ones, and with `joining` new ones.
fn can_spare(shared: &Shared, now: Now, change: &Change, away: usize) -> bool {
    let seats = shared.roster().validators.len();
    let liars = change.leaving.len() - away;
    let left = seats - change.leaving.len() + usize::from(change.newcomer.is_some());
    let approved = || waiting(shared, now.wall, seats).iter().any(|node| shared.approved.contains(node));
    let tolerates = faulty_max(left) >= faulty_max(seats - liars);
    left >= 3 && (tolerates || change.newcomer.is_some_and(|node| shared.approved.contains(&node)) || approved())
}

/// The change that this node would propose; the `turn` goes through the newcomers, and past them if something else is due.
pub(super) fn wanted(shared: &Shared, now: Now, turn: usize) -> Option<Change> {
    let newest = shared.roster();
    let seats = newest.validators.len();
    let max = if seats < 3 { 1 } else { changes_max(seats) };
    let mut change = Change { leaving: expelled(shared), newcomer: None };
    let renewal = (seats > 3 && shared.renewal_due(now.mono)) || (seats == 3 && shared.heads.closed().is_some());
    let other_reason = !change.leaving.is_empty() || renewal;
    let mut newcomers: Vec<Option<NodeId>> = Vec::new();
    if change.leaving.len() < max {
        newcomers.extend(waiting(shared, now.wall, seats - change.leaving.len() + 1).into_iter().map(Some));
    }
    if other_reason {
        newcomers.push(None);
    }
    change.newcomer = *newcomers.get(turn % newcomers.len().max(1))?;
    if seats < 3 {
        return Some(change);
    }
    let all_liars_leave = shared.evidence.liars_of(newest.epoch).len() <= change.leaving.len();
    let away: BTreeSet<NodeId> =
        newest.nodes().filter(|node| !change.leaving.contains(node) && shared.is_away(node, now.mono)).collect();
    let mut without = change.clone();
    without.leaving.extend(&away);
    if without.leaving.len() + usize::from(without.newcomer.is_some()) > max {
        // The absent first: with them gone the newcomer can follow.
        without.newcomer = None;
    }
    let spared = all_liars_leave && without.leaving.len() <= max && can_spare(shared, now, &without, away.len());
    Some(if !away.is_empty() && spared { without } else { change })
}

/// Whether this node agrees with `change`, from what it sees itself.
pub(super) fn check(shared: &Shared, now: Now, change: &Change) -> Result<(), Objection> {
    let newest = shared.roster();
    let liars = shared.evidence.liars_of(newest.epoch);
    let away: Vec<NodeId> = change.leaving.difference(&liars).copied().collect();
    if let Some(node) = away.iter().find(|node| !shared.is_away(node, now.mono)) {
        return Err(Objection::NotLeaving(*node));
    }
    if !away.is_empty() {
        if let Some(liar) = liars.difference(&change.leaving).next() {
            return Err(Objection::LiarStays(*liar));
        }
        if !can_spare(shared, now, change, away.len()) {
            return Err(Objection::LessTolerant);
        }
    }
    let seats = change.seats(newest).len();
    match change.newcomer {
        Some(node) if may_sit(shared, &node, seats) => Ok(()),
        Some(node) => Err(Objection::NotApproved(node)),
        None if change.leaving.len() > away.len() => Ok(()),
        None if away.is_empty() && shared.renewal_due(now.mono) => Ok(()),
        None if !away.is_empty() && wanted(shared, now, 0).is_some() => Ok(()),
        None => Err(Objection::NoReason),
    }
}
