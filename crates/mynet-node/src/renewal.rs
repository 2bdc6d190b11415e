//! Renews admissions before they end, so that a network lives as long as its validators.
//!
//! An admission holds for 90 days: a key that was stolen from a disk in a drawer dies with it. A node that takes part never
//! notices, because every validator renews the admissions of the nodes it is connected to, its own among them, once less than
//! half of that is left. A renewal says the same about the node under a later end: place, roles, trust and nonce stay, so
//! nothing moves. Ends are whole days, so that two validators that renew one node at once agree.
//!
//! A node that was away for longer comes back with a new ticket. A seat outlives its holder's admission: validators that all
//! slept too long still let each other in, and renew.

use std::{sync::Arc, time::Duration};

use mynet_types::{AdmissionRecord, NodeId, Signed, SignedAdmission, Timestamp};

use crate::{driver::wall_clock, shell::Shell};

/// How long an admission holds.
const LIFETIME: Duration = Duration::from_secs(90 * DAY_SECS);
/// Less than this left, and it is renewed. Shorter needs a node to be seen more often, longer renews more often.
const RENEW_BEFORE: Duration = Duration::from_secs(45 * DAY_SECS);
const DAY_SECS: u64 = 24 * 3600;

/// When an admission made now ends: the end of a day.
pub(crate) fn end_of(now: Timestamp) -> Timestamp {
    let day = DAY_SECS * 1000;
    Timestamp(now.after(LIFETIME).0.div_ceil(day).saturating_mul(day))
}

/// What `known` becomes under the hand of `issuer`, a validator of `epoch`; `None` while it holds long enough.
fn renewed(known: &AdmissionRecord, (issuer, epoch): (NodeId, u64), now: Timestamp) -> Option<AdmissionRecord> {
    (known.expires_at < now.after(RENEW_BEFORE)).then(|| AdmissionRecord {
        expires_at: end_of(now),
        epoch,
        issuer,
        ..known.clone()
    })
}

impl Shell {
    /// Renews the admissions of `nodes` that end soon, if this node is a validator.
    pub(crate) async fn renew_admissions(self: &Arc<Self>, nodes: impl IntoIterator<Item = NodeId>) {
        let (me, now, newest) = (self.me(), wall_clock(), self.members.chain().newest().clone());
        if newest.seat_of(&me).is_none() {
            return;
        }
        let renew = |node| {
            let known = self.members.admission(&node)?;
            let body = renewed(&known.body, (me, newest.epoch), now)?;
            tracing::info!(node = %node.short(), until = %body.expires_at, "an admission is renewed");
            Some(Signed::new(&self.network, body, self.keys.node()))
        };
        let fresh: Vec<SignedAdmission> = nodes.into_iter().filter_map(renew).collect();
        self.learn_members(fresh, Vec::new()).await;
    }
}

#[cfg(test)]
mod tests {
    use mynet_types::{BoundedString, Roles, WrapKey};

    use super::*;

    const NOON: Timestamp = Timestamp(1_767_323_045_678);
    const DAY: Duration = Duration::from_secs(DAY_SECS);

    fn admission(expires_at: Timestamp) -> AdmissionRecord {
        AdmissionRecord {
            node: NodeId([1; 32]),
            wrap_key: WrapKey([2; 32]),
            roles: Roles::STORAGE,
            trusted: true,
            region: BoundedString::default(),
            zone: BoundedString::default(),
            weight: 3,
            admitted_at: Timestamp(NOON.0 - 1),
            expires_at,
            epoch: 0,
            issuer: NodeId([4; 32]),
            nonce: [5; 16],
        }
    }

    #[test]
    fn an_admission_is_left_alone_for_half_its_life_and_then_renewed_whole() {
        let issuer = (NodeId([9; 32]), 7);
        assert_eq!(renewed(&admission(NOON.after(46 * DAY)), issuer, NOON), None);
        for left in [NOON.after(44 * DAY), NOON.after(DAY), Timestamp(NOON.0 - 1000)] {
            let known = admission(left);
            let fresh = renewed(&known, issuer, NOON).unwrap();
            assert!(fresh.expires_at >= NOON.after(90 * DAY) && fresh.expires_at < NOON.after(91 * DAY));
            let (expires_at, epoch, issuer) = (known.expires_at, known.epoch, known.issuer);
            assert_eq!(AdmissionRecord { expires_at, epoch, issuer, ..fresh }, known, "the rest stays");
        }
    }

    #[test]
    fn two_validators_that_renew_on_one_day_agree_on_the_end() {
        let known = admission(NOON);
        let one = renewed(&known, (NodeId([8; 32]), 7), NOON).unwrap();
        let other = renewed(&known, (NodeId([9; 32]), 7), NOON.after(Duration::from_secs(3600))).unwrap();
        assert_eq!(one.expires_at, other.expires_at);
    }
}
