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
    let zone = |index: &usize| &view.cast.players[*index].admission.body.zone;
    let targets: BTreeSet<usize> = prepare.targets.iter().filter_map(|target| view.cast.index_of(target)).collect();
    ensure(targets.len() == prepare.targets.len(), || format!("n{from} names a target of {} twice", prepare.tx))?;
    let there = view.hosts[from].admitted.iter().map(zone).collect::<BTreeSet<_>>().len();
    let manifest = &prepare.manifest.body;
    let work = view.works.iter().find(|work| work.publication.manifest.body.group_id == manifest.group_id);
    let follows = work.filter(|_| is_head(manifest.version));
    let wanted = |nodes: usize| follows.map_or(nodes, |work| nodes.min(usize::from(work.publication.replicas)));
    let zones = |nodes: &BTreeSet<usize>| nodes.iter().map(zone).collect::<BTreeSet<_>>().len();
    let apart = |nodes: &BTreeSet<usize>| zones(nodes) >= wanted(nodes.len()).min(there);
    // After a restart only those are asked that are missing; whoever gave a receipt has its zone already.
    let receipts = view.hosts[from].groups.store.receipts(&manifest.hash());
    let holders = receipts.filter_map(|receipt| view.cast.index_of(&receipt.body.holder));
    let all: BTreeSet<usize> = targets.iter().copied().chain(holders).collect();
    ensure(apart(&targets) || apart(&all), || {
        format!("n{from} puts {} copies into {} of {there} zones", targets.len(), zones(&targets))
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

    /// As after a restart, when those are not asked again that gave receipts.
    #[test]
    fn holders_count_where_they_stand_and_excuse_nothing_else() {
        let found = |holder: usize| {
            let mut stage = Stage::new();
            for (index, zone) in ["a", "a", "b"].into_iter().enumerate() {
                stage.cast.players[index].admission.body.zone = zone.try_into().unwrap();
                stage.hosts[0].admitted.insert(index);
            }
            stage.receipts_of_on(&[holder], 0);
            let message = Message::Replication(ReplicationMessage::Prepare(Box::new(stage.prepare_for(&[0, 1]))));
            Zones::default().see(&stage.sent(0, &message), &stage.view()).is_err()
        };
        assert!(found(1), "the other zone has no copy");
        assert!(!found(2), "it has one");
    }
}
