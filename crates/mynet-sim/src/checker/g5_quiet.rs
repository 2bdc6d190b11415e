//! G5: within three leases after faults ended nothing is left of any transaction: no intent, no staging, no reservation.

use super::{Checker, ensure};
use crate::observe::{Deadline, Seen, View};

/// Looks at every store when the bound has passed.
#[derive(Debug)]
pub(super) struct Quiet;

impl Checker for Quiet {
    fn invariant(&self) -> &'static str {
        "G5"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let Seen::Deadline(Deadline::Quiet) = seen else { return Ok(()) };
        view.hosts.iter().enumerate().try_for_each(|(node, host)| {
            let store = &host.groups.store;
            let intents: Vec<_> = store.intents().map(|(tx, _)| tx.to_string()).collect();
            ensure(intents.is_empty(), || format!("n{node} still has intents {intents:?}"))?;
            let staging: Vec<_> = store.staging().keys().map(ToString::to_string).collect();
            ensure(staging.is_empty(), || format!("n{node} still has staging of {staging:?}"))?;
            ensure(store.reserved() == 0, || format!("n{node} still reserves {} bytes", store.reserved()))
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::replication::io::Record;

    use super::{super::stage::Stage, Checker, Deadline, Quiet, Seen};
    use crate::disk::Store;

    #[test]
    fn an_intent_that_never_ends_is_found() {
        let mut stage = Stage::new();
        let deadline = Seen::Deadline(Deadline::Quiet);
        assert_eq!(Quiet.see(&deadline, &stage.view()), Ok(()));
        stage.intend_on(1);
        assert!(Quiet.see(&deadline, &stage.view()).unwrap_err().contains("intents"));
    }

    #[test]
    fn an_open_transaction_that_is_forgotten_is_refused_by_the_store() {
        let mut stage = Stage::new();
        stage.intend_on(1);
        let forget = Record::Forget(stage.decision(1, true).body.tx);
        assert!(stage.hosts[1].groups.store.apply(&forget).unwrap_err().contains("open"));
        stage.commit_on(1, Stage::stored());
        assert_eq!(stage.hosts[1].groups.store.apply(&forget), Ok(()));
    }

    #[test]
    fn staging_of_nobody_is_found() {
        let mut stage = Stage::new();
        let tx = stage.decision(1, true).body.tx;
        let manifest = stage.manifest();
        stage.hosts[1].groups.store.stage(tx, &manifest, (5, mynet_types::StatesMask::EMPTY));
        assert!(Quiet.see(&Seen::Deadline(Deadline::Quiet), &stage.view()).unwrap_err().contains("staging"));
    }
}
