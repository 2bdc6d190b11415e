//! C4: a timeout never yields `Rejected`; a sound value is never rejected; a bad one, and one of which fewer than W copies
//! were shown, never approved; both outcomes of a claim absorb until the node is started again. What lasts longer is the
//! certificate, which the driver keeps.

use std::collections::BTreeMap;

use mynet_proto::{
    consensus::io::{Event as Told, Outcome},
    node::io::Event,
};
use mynet_types::{Claim, ManifestHash};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// The final outcome that each node reported of each value and claim.
#[derive(Debug, Default)]
pub(super) struct Rejection {
    last: BTreeMap<(usize, ManifestHash, Claim), Outcome>,
}

impl Checker for Rejection {
    fn invariant(&self) -> &'static str {
        "C4"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        if let Seen::Crashed(crashed) = seen {
            self.last.retain(|(node, ..), _| node != crashed);
        }
        let Seen::Told { node, event: Event::Consensus(Told::Progress { manifest_hash, claim, tally, .. }) } = seen
        else {
            return Ok(());
        };
        let (value, outcome) = (*manifest_hash, tally.outcome);
        let work = view.works.iter().find(|work| work.value == value);
        let bad = work.is_some_and(|work| work.bad);
        let unproven = work.is_some_and(|work| work.unproven);
        ensure(bad || outcome != Outcome::Rejected, || format!("n{node} reports the sound value {value} rejected"))?;
        ensure(!bad || outcome != Outcome::Approved, || format!("n{node} reports the bad value {value} approved"))?;
        ensure(!unproven || outcome != Outcome::Approved, || {
            format!("n{node} reports {value} durable, of which too few copies were shown")
        })?;
        if let Some(last) = self.last.get(&(*node, value, *claim)) {
            ensure(*last == outcome, || format!("n{node} reports {value} {outcome:?} after {last:?}"))?;
        }
        if matches!(outcome, Outcome::Approved | Outcome::Rejected) {
            self.last.insert((*node, value, *claim), outcome);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Outcome;
    use mynet_types::Claim;

    use super::{super::stage::Stage, Checker, Rejection, Seen};

    #[test]
    fn a_sound_value_that_is_rejected_and_an_outcome_taken_back_are_found() {
        let stage = Stage::new();
        let told = |checker: &mut Rejection, outcome| {
            checker.see(&Seen::Told { node: 0, event: &stage.progress(outcome) }, &stage.view())
        };
        assert!(told(&mut Rejection::default(), Outcome::Rejected).is_err());
        let mut checker = Rejection::default();
        for outcome in [Outcome::Pending, Outcome::Undecided, Outcome::Approved, Outcome::Approved] {
            assert_eq!(told(&mut checker, outcome), Ok(()));
        }
        assert!(told(&mut checker, Outcome::Undecided).is_err());
        // More may be asked about an approved value, and has an outcome of its own.
        let more = stage.progress_of(Claim::Verified, Outcome::Pending);
        assert_eq!(checker.see(&Seen::Told { node: 0, event: &more }, &stage.view()), Ok(()));
    }
}
