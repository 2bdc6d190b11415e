//! P1: the targets of a transaction are distinct nodes, and stand in as many zones as there are targets, or zones. A later version
//! goes also to whoever holds an earlier one, in whatever zone; of its targets as many as copies are wanted stand apart.

use std::collections::BTreeSet;

use mynet_types::{Message, ReplicationMessage, TxId, vote::is_head, wire::Prepare};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Transactions whose first prepare was looked at: what happens to targets later is not placement's alone.
#[derive(Debug, Default)]
pub(super) struct Zones {
    known: BTreeSet<TxId>,
}

impl Checker for Zones {
    fn invariant(&self) -> &'static str {
        "P1"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent { from, message: Message::Replication(ReplicationMessage::Prepare(prepare)), .. }
                if self.known.insert(prepare.tx) =>
            {
                spread(*from, prepare, view)
            }
            _ => Ok(()),
        }
    }
}

fn spread(from: usize, prepare: &Prepare, view: &View<'_>) -> Result<(), String> {
    let zone = |index: usize| &view.cast.players[index].admission.body.zone;
    let targets: BTreeSet<usize> = prepare.targets.iter().filter_map(|target| view.cast.index_of(target)).collect();
    ensure(targets.len() == prepare.targets.len(), || format!("n{from} names a target of {} twice", prepare.tx))?;
    // After a restart a coordinator asks those that are missing, and whoever gave a receipt stands where it stands.
    let holders = view.hosts[from].groups.store.receipts(&prepare.manifest.body.hash());
    let holders = holders.filter_map(|receipt| view.cast.index_of(&receipt.body.holder));
    let used: BTreeSet<_> = targets.iter().copied().chain(holders).map(zone).collect();
    let there: BTreeSet<_> = view.hosts[from].admitted.iter().map(|index| zone(*index)).collect();
    let manifest = &prepare.manifest.body;
    let work = view.works.iter().find(|work| work.publication.manifest.body.group_id == manifest.group_id);
    let follows = work.filter(|_| is_head(manifest.version));
    let wanted = follows.map_or(targets.len(), |work| targets.len().min(usize::from(work.publication.replicas)));
    ensure(used.len() >= wanted.min(there.len()), || {
        format!("n{from} puts {} copies into {} of {} zones", targets.len(), used.len(), there.len())
    })
}

#[cfg(test)]
mod tests {
    use mynet_types::{Message, ReplicationMessage};

    use super::{super::stage::Stage, Checker, Zones};

    #[test]
    fn two_copies_in_one_zone_are_found_if_there_is_another_zone() {
        let mut stage = Stage::new();
        for (index, zone) in ["a", "a", "b"].into_iter().enumerate() {
            stage.cast.players[index].admission.body.zone = zone.try_into().unwrap();
            stage.hosts[0].admitted.insert(index);
        }
        let sends = |targets: &[usize]| {
            let message = Message::Replication(ReplicationMessage::Prepare(Box::new(stage.prepare_for(targets))));
            Zones::default().see(&stage.sent(0, &message), &stage.view()).is_err()
        };
        assert!(sends(&[0, 1]));
        assert!(sends(&[2, 2]));
        assert!(!sends(&[1, 2]));
        assert!(!sends(&[0, 1, 2]), "there are two zones only");
    }
}
