//! G6: a message that comes again changes nothing: neither what is on disk nor what is on its way there. It writes nothing but receipts
//! and wraps, which merge. One that came just now may come again at any time; an older one, once what it is about is settled where it
//! arrives.

use mynet_proto::replication::io::Record;

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Looks at what a node writes while a message comes again, and compares what will be on disk without and with it.
#[derive(Debug, Default)]
pub(super) struct Replay {
    replaying: Option<usize>,
}

impl Checker for Replay {
    fn invariant(&self) -> &'static str {
        "G6"
    }

    fn see(&mut self, seen: &Seen<'_>, _view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Replaying(node) => self.replaying = Some(*node),
            Seen::Handled(_) | Seen::Crashed(_) => self.replaying = None,
            Seen::Writing { node, records } if self.replaying == Some(*node) => {
                let merges = |record: &Record| matches!(record, Record::Receipts { .. } | Record::Wraps { .. });
                return ensure(records.iter().all(merges), || format!("n{node} writes anew what it was told before"));
            }
            Seen::Replayed { node, before, after } => {
                return ensure(before == after, || {
                    format!("a message that n{node} had before changes what it has on disk")
                });
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Replay, Seen};

    #[test]
    fn a_message_that_changes_the_disk_when_it_comes_again_is_found() {
        let mut stage = Stage::new();
        let before = stage.hosts[1].groups.store.clone();
        let seen = |stage: &Stage| {
            Replay::default()
                .see(&Seen::Replayed { node: 1, before: &before, after: &stage.hosts[1].groups.store }, &stage.view())
        };
        assert_eq!(seen(&stage), Ok(()));
        stage.intend_on(1);
        assert!(seen(&stage).is_err());
    }

    #[test]
    fn an_intent_that_is_written_again_is_found() {
        let mut stage = Stage::new();
        let records = stage.intend_on(1);
        let mut checker = Replay::default();
        let writing = Seen::Writing { node: 1, records: &records };
        assert_eq!(checker.see(&writing, &stage.view()), Ok(()));
        assert_eq!(checker.see(&Seen::Replaying(1), &stage.view()), Ok(()));
        assert!(checker.see(&writing, &stage.view()).is_err());
        assert_eq!(checker.see(&Seen::Handled(1), &stage.view()), Ok(()));
        assert_eq!(checker.see(&writing, &stage.view()), Ok(()));
    }
}
