//! Pulling from puppets that die in the middle: nothing comes twice, and a source may be back in the next round.

use std::{
    io::{Error, ErrorKind},
    ops::Range,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mynet_proto::reason::Reason;
use mynet_store::blobs::{SEGMENT_BYTES, SourceError, StagedBlob};
use mynet_types::{BlobRef, ContentHash, GroupId, NodeId};

use super::{LANES, PAUSES, Pull, PullError, ROUNDS, source_reason};
use crate::testing::{Founder, Manner, Puppet, until};

/// Bytes of the blob: some segments, and a part of one.
const SIZE: u64 = 6 * SEGMENT_BYTES + 100_000;
const GROUP: GroupId = GroupId([5; 32]);

/// A founder that pulls from two holders of one blob.
struct Setting {
    founder: Founder,
    sources: [Puppet; 2],
    blob: BlobRef,
}

impl Setting {
    async fn new() -> Self {
        let founder = Founder::start().await;
        let sources = [Puppet::join(&founder, "a", false).await, Puppet::join(&founder, "b", false).await];
        let bytes: Vec<u8> = (0..SIZE).map(|n| (n % 251) as u8 ^ (n / 65_536) as u8).collect();
        for source in &sources {
            source.public(&bytes, 1, None).await;
        }
        Self { founder, sources, blob: BlobRef::of(&bytes) }
    }

    fn nodes(&self) -> Vec<NodeId> {
        self.sources.iter().map(|source| source.keys.node_id()).collect()
    }

    fn behave(&self, source: usize, manner: Manner) {
        *self.sources[source].script.manner.lock().unwrap() = manner;
    }

    fn pulls(&self, source: usize) -> usize {
        self.sources[source].script.pulls.load(Ordering::Relaxed)
    }

    /// The parts that all sources sent, sorted.
    fn sent(&self) -> Vec<Range<u64>> {
        let mut parts: Vec<Range<u64>> =
            self.sources.iter().flat_map(|source| source.script.sent.lock().unwrap().clone()).collect();
        parts.sort_by_key(|part| part.start);
        parts
    }

    /// Pulls into the same staging, whoever pulled before.
    async fn pull(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<StagedBlob, PullError> {
        let shell = self.founder.shell();
        let staging = shell.blobs.stage("pulled".parse().unwrap()).await.unwrap();
        let pull = Pull { shell, sources: &self.nodes(), progress, groups: &[GROUP] };
        pull.blob(&staging, &"blob".parse().unwrap(), self.blob).await
    }

    /// The reasons noted about the group, by source.
    async fn noted(&self) -> Vec<(String, Option<NodeId>)> {
        let lines = self.founder.shell().log_of(&GROUP).await.unwrap();
        lines.into_iter().map(|line| (line.code, line.peer)).collect()
    }
}

/// Every byte came exactly once.
fn assert_once(parts: &[Range<u64>]) {
    let mut at = 0;
    for part in parts {
        assert_eq!(part.start, at, "bytes came twice, or are missing: {parts:?}");
        at = part.end;
    }
    assert_eq!(at, SIZE);
}

#[tokio::test]
async fn a_pull_survives_the_loss_of_a_source_in_the_middle_and_no_byte_comes_twice() {
    let setting = Setting::new().await;
    // Two lanes begin at the first source. One gets its segment whole; then the connection ends in the middle of a segment for
    // whoever asks, then nothing comes.
    setting.behave(0, Manner { whole: 1, halves: LANES });
    setting.pull(&|_| {}).await.unwrap();
    let by_first = setting.sources[0].script.sent.lock().unwrap().clone();
    assert!(by_first.iter().any(|part| part.end % SEGMENT_BYTES != 0), "a segment was cut: {by_first:?}");
    assert_once(&setting.sent());
    assert!(setting.noted().await.contains(&("source_failed".to_owned(), Some(setting.nodes()[0]))));
}

#[tokio::test]
async fn an_attempt_after_a_crash_moves_only_what_is_missing() {
    let setting = Setting::new().await;
    setting.behave(0, Manner { whole: 1, halves: 1 });
    setting.behave(1, Manner { whole: 0, halves: 1 });
    assert!(matches!(setting.pull(&|_| {}).await, Err(PullError::Unavailable(_))));
    let before: u64 = setting.sent().iter().map(|part| part.end - part.start).sum();
    assert!(before > SEGMENT_BYTES && before < SIZE);
    setting.behave(0, Manner::GOOD);
    // What is here is known by reading it, as after a restart: nothing of the attempt before is in memory.
    let first_told = AtomicU64::new(u64::MAX);
    setting
        .pull(&|bytes| {
            let _told_before = first_told.compare_exchange(u64::MAX, bytes, Ordering::Relaxed, Ordering::Relaxed);
        })
        .await
        .unwrap();
    assert_eq!(first_told.into_inner(), before);
    assert_once(&setting.sent());
}

#[tokio::test]
async fn rounds_have_pauses_between_them_in_which_a_source_may_come_back() {
    let setting = Setting::new().await;
    let away = Manner { whole: 0, halves: 0 };
    setting.behave(0, away);
    setting.behave(1, away);
    let begun = Instant::now();
    assert!(matches!(setting.pull(&|_| {}).await, Err(PullError::Unavailable(hash)) if hash == setting.blob.sha256));
    assert!(begun.elapsed() >= PAUSES.iter().sum::<Duration>(), "the rounds failed within {:?}", begun.elapsed());
    assert_eq!(setting.pulls(0) + setting.pulls(1), ROUNDS * LANES * 2, "every lane asks every source in every round");
    // The first round fails for every lane; who comes back in the pause after it is asked again.
    let returns = async {
        let failed = |round: usize| setting.pulls(0) + setting.pulls(1) >= (ROUNDS + round) * LANES * 2;
        until("a round to fail", async || failed(1)).await;
        setting.behave(1, Manner::GOOD);
    };
    let (pulled, ()) = tokio::join!(setting.pull(&|_| {}), returns);
    pulled.unwrap();
    assert_once(&setting.sent());
}

#[tokio::test]
async fn large_blobs_come_from_several_sources_side_by_side() {
    let setting = Setting::new().await;
    let told = Mutex::new(Vec::new());
    setting.pull(&|bytes| told.lock().unwrap().push(bytes)).await.unwrap();
    assert_once(&setting.sent());
    assert!(setting.pulls(0) > 0 && setting.pulls(1) > 0, "{} and {}", setting.pulls(0), setting.pulls(1));
    assert_eq!(told.into_inner().unwrap().last(), Some(&SIZE));
}

#[tokio::test]
async fn a_source_with_other_bytes_is_named_and_the_next_one_asked() {
    let setting = Setting::new().await;
    let liar = &setting.sources[0];
    let name: ContentHash = setting.blob.sha256;
    liar.public(&vec![7; usize::try_from(SIZE).unwrap()], 1, Some(name)).await;
    setting.pull(&|_| {}).await.unwrap();
    assert_eq!(setting.noted().await, [("source_corrupt".to_owned(), Some(liar.keys.node_id()))]);
}

#[test]
fn what_a_source_did_wrong_has_a_reason() {
    let connection = |kind| SourceError::Connection { offset: 1, source: Error::from(kind) };
    for (error, reason) in [
        (SourceError::Corrupt { offset: 1 }, Reason::SourceCorrupt),
        (SourceError::Truncated { offset: 1 }, Reason::SourceFailed),
        (connection(ErrorKind::ConnectionReset), Reason::SourceFailed),
        (connection(ErrorKind::TimedOut), Reason::SourceStalled),
    ] {
        assert_eq!(source_reason(&error), reason, "{error}");
    }
}
