//! Whether a proposed roster may be the next one, as each seat checks for itself.

use ed25519_dalek::SigningKey;
use mynet_types::{
    LinkError, NodeId, Now, Roles, Roster, SignedAdmission, SignedRosterKey, records, roster::check_succession,
};

use super::plan::{self, Change, Objection};
use crate::consensus::{io::RosterLock, shared::Shared};

/// Why a roster is not signed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Defect {
    #[error(transparent)]
    Succession(#[from] LinkError),
    #[error("it is dated before the roster that it follows")]
    Time,
    #[error(transparent)]
    Objection(#[from] Objection),
    #[error("the key of {0} was not offered by that node")]
    Key(NodeId),
    #[error("newcomer {0} is not known to be admitted as a validator")]
    NotAdmitted(NodeId),
    #[error("the seat of this node does not have the key that it offered")]
    NotOffered,
}

/// Whether `offer` is for the epoch after `newest`, and signed by its node.
pub(super) fn is_offer_for(shared: &Shared, offer: &SignedRosterKey, newest: &Roster) -> bool {
    newest.epoch.checked_add(1) == Some(offer.body.epoch)
        && offer.body.prev == newest.hash()
        && offer.verify(&shared.network).is_ok()
}

/// This node's seat in `next` with the key for it, if that is the key it offered.
pub(super) fn offered_seat<'a>(shared: &'a Shared, next: &Roster) -> Option<(usize, &'a SigningKey)> {
    let seat = next.seat_of(&shared.me)?;
    let key = shared.keys.get(&next.epoch).filter(|key| key.durable)?;
    let seated_with = next.validators.get(seat)?.vote_key;
    (seated_with.0 == key.key.verifying_key().to_bytes()).then_some((seat, &key.key))
}

/// Checks everything about a next roster but its close set and whether this node is free to sign it.
pub(super) fn next_roster(
    shared: &Shared,
    body: &RosterLock,
    admissions: &[SignedAdmission],
    now: Now,
) -> Result<(), Defect> {
    let (newest, next) = (shared.roster(), &body.roster);
    check_succession(newest, next)?;
    if next.valid_from < newest.valid_from {
        return Err(Defect::Time);
    }
    let change = Change::between(newest, next)?;
    if newest.seat_of(&shared.me).is_some() {
        // A newcomer is asked for its consent to its own seat; the change is for the old seats to judge.
        plan::check(shared, now, &change)?;
    }
    for validator in &next.validators {
        let mut offers = body.keys.iter().filter(|offer| offer.body.seat == *validator);
        if !offers.any(|offer| is_offer_for(shared, offer, newest)) {
            return Err(Defect::Key(validator.node));
        }
    }
    if let Some(newcomer) = change.newcomer {
        let may_sit = |admission: &SignedAdmission| {
            admission.body.node == newcomer
                && admission.body.roles.contains(Roles::VALIDATOR)
                && records::verify_admission(admission, &shared.chain, now.wall).is_ok()
        };
        if !shared.admitted.get(&newcomer).into_iter().chain(admissions).any(may_sit) {
            return Err(Defect::NotAdmitted(newcomer));
        }
    }
    let seated = next.seat_of(&shared.me).is_some();
    if seated && offered_seat(shared, next).is_none() { Err(Defect::NotOffered) } else { Ok(()) }
}
