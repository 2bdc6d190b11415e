//! The log of groups: what cores and tasks note, kept in memory for a second and then on disk.
//!
//! ```text
//! note --> Pending (repeats are counted) --a second--> put_log, one transaction        why, history: write, then read
//! ```
//!
//! **Invariants**
//! 1. Noting never waits: not for the disk, and not for another note's disk.
//! 2. What waits is bounded. When more comes than the disk takes, lines that every healthy group has are left out first, and
//!    the node's log says how many.
//! 3. A crash takes at most what was noted since the last writing; nothing depends on it.

use std::{
    collections::{BTreeMap, btree_map},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mynet_proto::reason::{Note, Reason};
use mynet_store::{is_disk_full, meta::LogLine};
use mynet_types::{GroupId, NodeId, Timestamp};
use tokio::sync::Notify;

use crate::{driver::wall_clock, handle::NodeError, shell::Shell};

/// Pause between two writings. Shorter costs the disk a flush each, longer loses more in a crash.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines that wait at most, some 3 MiB; from half of it on routine is left out.
const PENDING_MAX: usize = 16_384;
/// Lines written in one transaction: a few milliseconds, for which other writes may have to wait.
const TOGETHER_MAX: usize = 512;

/// What names a line.
type Key = (GroupId, Reason, Option<NodeId>);

/// Notes that are not on disk yet.
#[derive(Debug)]
pub(crate) struct GroupLog {
    pending: Mutex<Pending>,
    bell: Notify,
    /// One writing at a time: whoever reads waits for the one that is under way.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Pending {
    lines: BTreeMap<Key, LogLine>,
    next_seq: u64,
    left_out: u64,
}

impl GroupLog {
    /// An empty log of start number `boot`, whose lines come after those of the starts before.
    pub(crate) fn new(boot: u64) -> Self {
        let pending = Pending { lines: BTreeMap::new(), next_seq: boot << 40, left_out: 0 };
        Self { pending: Mutex::new(pending), bell: Notify::new(), writing: tokio::sync::Mutex::default() }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a note.
    pub(crate) fn note(&self, note: Note, now: Timestamp) {
        self.pending().add(note, now);
        self.bell.notify_one();
    }

    /// Takes out everything that waits, in order, and says how many notes were left out since the last time.
    fn take(&self) -> (Vec<LogLine>, u64) {
        let mut pending = self.pending();
        let mut lines: Vec<LogLine> = std::mem::take(&mut pending.lines).into_values().collect();
        lines.sort_by_key(|line| line.seq);
        (lines, std::mem::take(&mut pending.left_out))
    }

    /// Puts back what could not be written.
    fn give_back(&self, lines: &[LogLine]) {
        let mut pending = self.pending();
        for line in lines {
            pending.give_back(line);
        }
    }

    fn waiting(&self, group_id: &GroupId) -> Vec<LogLine> {
        self.pending().lines.values().filter(|line| line.group_id == *group_id).cloned().collect()
    }
}

impl Pending {
    fn add(&mut self, note: Note, now: Timestamp) {
        let Note { group_id, reason, peer, value } = note;
        let crowded = self.lines.len() >= if reason.is_routine() { PENDING_MAX / 2 } else { PENDING_MAX };
        let seq = self.next_seq;
        match self.lines.entry((group_id, reason, peer)) {
            btree_map::Entry::Occupied(mut known) => {
                let line = known.get_mut();
                (line.value, line.last_at, line.seq) = (value, now, seq);
                line.count += 1;
            }
            btree_map::Entry::Vacant(_) if crowded => {
                self.left_out += 1;
                return;
            }
            btree_map::Entry::Vacant(place) => {
                let code = reason.code().to_owned();
                place.insert(LogLine { group_id, code, peer, value, first_at: now, last_at: now, count: 1, seq });
            }
        }
        self.next_seq += 1;
    }

    fn give_back(&mut self, line: &LogLine) {
        let Some(reason) = Reason::from_code(&line.code) else { return };
        match self.lines.entry((line.group_id, reason, line.peer)) {
            btree_map::Entry::Occupied(mut known) => {
                let newer = known.get_mut();
                newer.first_at = line.first_at;
                newer.count += line.count;
            }
            btree_map::Entry::Vacant(place) => {
                place.insert(line.clone());
            }
        }
    }
}

impl Shell {
    /// Notes why something happened to a group, or did not.
    pub(crate) fn note(&self, note: Note) {
        self.group_log.note(note, wall_clock());
    }

    /// Writes what waits. What does not fit on a full disk waits on.
    async fn write_log(&self) {
        let _writing = self.group_log.writing.lock().await;
        let (lines, left_out) = self.group_log.take();
        if left_out > 0 {
            tracing::warn!(left_out, "more happened to groups than their logs take");
        }
        let mut rest = lines.as_slice();
        while !rest.is_empty() {
            let (some, others) = rest.split_at(rest.len().min(TOGETHER_MAX));
            match self.meta.put_log(some).await {
                Ok(()) => rest = others,
                Err(error) if is_disk_full(&error) => {
                    tracing::debug!(lines = rest.len(), "the disk is full: logs of groups wait");
                    return self.group_log.give_back(rest);
                }
                Err(error) => return self.fail("write the log of groups", error),
            }
        }
    }

    /// The log of a group, oldest line first, with what is not on disk yet.
    pub(crate) async fn log_of(&self, group_id: &GroupId) -> Result<Vec<LogLine>, NodeError> {
        self.write_log().await;
        let mut lines = self.meta.log(group_id).await.map_err(NodeError::storage)?;
        for waiting in self.group_log.waiting(group_id) {
            match lines.iter_mut().find(|line| (&line.code, line.peer) == (&waiting.code, waiting.peer)) {
                Some(line) => {
                    let (first_at, count) = (line.first_at, line.count + waiting.count);
                    *line = LogLine { first_at, count, ..waiting };
                }
                None => lines.push(waiting),
            }
        }
        lines.sort_by_key(|line| line.seq);
        Ok(lines)
    }
}

/// Writes the log every now and then, and once more when the node stops.
pub(crate) async fn run(shell: Arc<Shell>) {
    loop {
        tokio::select! {
            () = shell.cancel.cancelled() => return shell.write_log().await,
            () = shell.group_log.bell.notified() => {}
        }
        tokio::select! {
            () = shell.cancel.cancelled() => return shell.write_log().await,
            () = tokio::time::sleep(PAUSE) => {}
        }
        shell.write_log().await;
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::reason::{Note, Reason};
    use mynet_types::{GroupId, NodeId, Timestamp};

    use super::{GroupLog, PENDING_MAX};
    use crate::{config::Config, testing::Home};

    fn group(number: usize) -> GroupId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        GroupId(id)
    }

    #[test]
    fn repeats_are_one_line_with_the_newest_number_at_the_end() {
        let log = GroupLog::new(1);
        let sent = Note::about(group(1), Reason::PrepareSent).with(NodeId([7; 32]));
        for attempt in 1..=500_u64 {
            log.note(sent.value(attempt), Timestamp(attempt));
        }
        log.note(Note::about(group(1), Reason::Durable), Timestamp(501));
        log.note(sent.value(501_u64), Timestamp(502));
        let (lines, left_out) = log.take();
        assert_eq!((lines.len(), left_out), (2, 0));
        let line = &lines[1];
        assert_eq!((line.code.as_str(), line.count, line.value), ("prepare_sent", 501, Some(501)));
        assert_eq!((line.first_at, line.last_at), (Timestamp(1), Timestamp(502)));
        assert!(line.seq > lines[0].seq && GroupLog::new(2).take().0.is_empty());
        log.give_back(&lines);
        log.note(sent.value(502_u64), Timestamp(503));
        let (lines, _) = log.take();
        let line = &lines[1];
        assert_eq!((line.count, line.value, line.first_at), (502, Some(502), Timestamp(1)));
    }

    #[test]
    fn what_waits_is_bounded_and_what_tells_something_goes_last() {
        let log = GroupLog::new(1);
        for number in 0..PENDING_MAX * 2 {
            log.note(Note::about(group(number), Reason::ReceiptKept), Timestamp(1));
        }
        log.note(Note::about(group(1), Reason::RefusedNoSpace), Timestamp(1));
        for number in 0..PENDING_MAX * 2 {
            log.note(Note::about(group(number), Reason::GaveUp), Timestamp(1));
        }
        let (lines, left_out) = log.take();
        assert_eq!(lines.len(), PENDING_MAX);
        assert!(lines.iter().any(|line| line.code == "refused_no_space"));
        assert_eq!(left_out as usize, PENDING_MAX * 4 + 1 - PENDING_MAX);
    }

    #[tokio::test]
    async fn what_is_noted_is_read_at_once_and_survives_a_restart() {
        let home = Home::new(Config::default()).await;
        home.shell.note(Note::about(group(1), Reason::Published));
        home.shell.note(Note::about(group(1), Reason::RefusedBusy).with(NodeId([7; 32])).value(3_u32));
        home.shell.note(Note::about(group(2), Reason::Published));
        let told = |lines: Vec<mynet_store::meta::LogLine>| {
            lines.into_iter().map(|line| (line.code, line.peer, line.value, line.count)).collect::<Vec<_>>()
        };
        let busy = || ("refused_busy".to_owned(), Some(NodeId([7; 32])), Some(3), 1);
        let lines = home.shell.log_of(&group(1)).await.unwrap();
        assert_eq!(told(lines), [("published".to_owned(), None, None, 1), busy()]);
        let dir = home.close().await;
        let shell = crate::service::open(&dir.path().join("node"), Config::default()).await.unwrap().shell;
        shell.note(Note::about(group(1), Reason::Published));
        let lines = shell.log_of(&group(1)).await.unwrap();
        assert_eq!(told(lines), [busy(), ("published".to_owned(), None, None, 2)]);
    }
}
