//! L1: a coordinator counts on a prepared copy no longer than the lease that it asked for last, from the moment of asking and on
//! its own clock: neither when it logs a commit, nor when it decides how long it need not look at a prepared target.

use std::{collections::BTreeMap, time::Duration};

use mynet_proto::{
    node::io::{Input, Timer},
    replication::io::{Record, Timer as ReplicationTimer},
};
use mynet_types::{Message, Mono, NodeId, ReplicationMessage, TxId};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Pauses up to this are between tries and say nothing about a lease; the longest of the replication core.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Who asked whom when.
#[derive(Debug)]
pub(super) struct Leases {
    lease: Duration,
    /// When a coordinator last asked for a lease, by its own clock.
    asked: BTreeMap<(usize, TxId, NodeId), Mono>,
    /// What a node is being told just now: that this target is prepared.
    answered: Option<(TxId, NodeId)>,
}

impl Leases {
    pub(super) fn new(lease: Duration) -> Self {
        Self { lease, asked: BTreeMap::new(), answered: None }
    }

    /// Until when a lease may be counted on.
    fn until(&self, node: usize, tx: TxId, target: NodeId) -> Option<Mono> {
        self.asked.get(&(node, tx, target)).map(|asked| asked.after(self.lease))
    }

    fn logged(&self, node: usize, record: &Record, now: Mono) -> Result<(), String> {
        let Record::Decided(decided) = record else { return Ok(()) };
        decided.decisions.iter().try_for_each(|(target, _)| {
            ensure(self.until(node, decided.tx, *target).is_some_and(|until| now < until), || {
                format!("n{node} commits {} counting on {target}, whose lease has ended", decided.tx)
            })
        })
    }
}

impl Checker for Leases {
    fn invariant(&self) -> &'static str {
        "L1"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let mono = |node: usize| view.hosts[node].clock.read(view.now).mono;
        match seen {
            Seen::Crashed(node) => {
                self.answered = None;
                self.asked.retain(|(coordinator, ..), _| coordinator != node);
            }
            Seen::Sent { from, to, message: Message::Replication(message) } => match message {
                ReplicationMessage::Prepare(prepare) => {
                    self.asked.insert((*from, prepare.tx, *to), mono(*from));
                }
                ReplicationMessage::LeaseRenew { tx, .. } => {
                    self.asked.insert((*from, *tx, *to), mono(*from));
                }
                _ => {}
            },
            Seen::Given {
                input: Input::Message { from, message: Message::Replication(ReplicationMessage::Prepared { tx, .. }) },
                ..
            } => self.answered = Some((*tx, *from)),
            Seen::Handled(_) => self.answered = None,
            Seen::Armed { node, timer: Timer::Replication(ReplicationTimer::Target { tx, node: target, .. }), at } => {
                let long = at.since(mono(*node)) > PAUSE_MAX;
                if long && self.answered == Some((*tx, *target)) {
                    return ensure(self.until(*node, *tx, *target).is_none_or(|until| *at <= until), || {
                        format!("n{node} counts on {target} for {tx} beyond the lease that it asked for")
                    });
                }
            }
            Seen::Writing { node, records } => {
                return records.iter().try_for_each(|record| self.logged(*node, record, mono(*node)));
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::stage::Stage, Checker, Leases, Mono, ReplicationTimer, Seen, Timer};

    #[test]
    fn a_copy_that_is_counted_after_its_lease_is_found() {
        let stage = Stage::new();
        let decided = [stage.decided(1)];
        let (tx, target) = (stage.decision(1, true).body.tx, stage.cast.players[1].id);
        let writing = Seen::Writing { node: 0, records: &decided };
        let mut checker = Leases::new(Duration::from_secs(100));
        assert!(checker.see(&writing, &stage.view()).is_err(), "nobody asked");
        checker.asked.insert((0, tx, target), Mono(0));
        assert_eq!(checker.see(&writing, &stage.view()), Ok(()));
        assert!(checker.see(&writing, &stage.view_at(100_000)).is_err());
        checker.answered = Some((tx, target));
        let timer = Timer::Replication(ReplicationTimer::Target { tx, node: target, generation: 1 });
        let mut arms = |at| checker.see(&Seen::Armed { node: 0, timer: &timer, at: Mono(at) }, &stage.view());
        assert_eq!(arms(100_000), Ok(()));
        assert!(arms(100_001).is_err());
    }
}
