//! The worker with real child processes. The test program starts itself as the child: [`child_entry`] is the subcommand.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{decode_preview, kit, preview, seconds, song, tone, wav};
use crate::preview::child::limit_process;
use mynet_types::ContentType;

use crate::preview::{
    AUDIO_MIME, IMAGE_MIME, PreviewError, PreviewInfo, PreviewKind, PreviewLimits, PreviewWorker, WorkerFailure,
    run_worker_from_stdin,
};

/// A directory of one test, removed at its end.
struct Staging(PathBuf);

impl Staging {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mynet-preview-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn original(&self, bytes: &[u8]) -> File {
        let path = self.0.join("original");
        fs::write(&path, bytes).unwrap();
        File::open(path).unwrap()
    }

    fn output(&self) -> PathBuf {
        self.0.join("preview.opus")
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Not a test of its own: when the test program runs with a mode after `--`, it is a child.
#[test]
fn child_entry() {
    let args: Vec<String> = std::env::args().collect();
    let value = |key: &str| args.iter().position(|arg| arg == key).map(|at| args[at + 1].clone());
    if args.iter().any(|arg| arg == "preview-worker") {
        println!();
        let number = |key| value(key).unwrap().parse().unwrap();
        let limits = PreviewLimits::new(number("--seconds"), number("--pixels"));
        let kind = value("--kind").unwrap().parse().unwrap();
        let exit = run_worker_from_stdin(Path::new(&value("--output").unwrap()), kind, limits);
        std::process::exit(exit.code().into());
    }
    if args.iter().any(|arg| arg == "limits-probe") {
        limit_process().unwrap();
        let no_files = File::open("/dev/null").is_err();
        let no_memory = Vec::<u8>::new().try_reserve_exact(2 << 30).is_err();
        std::process::exit(if no_files && no_memory && std::env::vars_os().next().is_none() { 42 } else { 1 });
    }
}

fn own_child(mode: &str) -> PreviewWorker {
    let args = ["preview::tests::process::child_entry", "--exact", "--nocapture", "--", mode];
    PreviewWorker::with_command(std::env::current_exe().unwrap(), args.map(OsString::from).to_vec())
}

fn shell(script: &str) -> PreviewWorker {
    PreviewWorker::with_command("/bin/sh".into(), vec!["-c".into(), script.into()])
}

async fn make(
    worker: &PreviewWorker,
    staging: &Staging,
    bytes: &[u8],
) -> Result<crate::preview::Preview, PreviewError> {
    let original = staging.original(bytes);
    worker.make((original, None), ContentType::Audio, &staging.output(), seconds(2)).await
}

#[tokio::test]
async fn child_makes_the_same_preview_as_the_function() {
    let staging = Staging::new("makes");
    let song = song(12);
    let made = make(&own_child("preview-worker"), &staging, &song).await.unwrap();
    assert_eq!(made.path, staging.output());
    assert_eq!(made.mime, AUDIO_MIME);
    let ogg = fs::read(&made.path).unwrap();
    assert_eq!(made.info.size_bytes(), ogg.len() as u64);
    assert_eq!(decode_preview(&ogg).frames.len(), 2 * 48_000);
    let (info, same) = super::preview_of(&song, seconds(2)).unwrap();
    assert_eq!((made.info, ogg), (PreviewInfo::Audio(info), same));
}

#[tokio::test]
async fn child_makes_a_thumbnail_within_its_limits() {
    let staging = Staging::new("thumbnail");
    let (worker, original) = (own_child("preview-worker"), super::thumbnails::photograph());
    let limits = PreviewLimits::new(30, 100);
    let made = worker.make((staging.original(&original), None), ContentType::Image, &staging.output(), limits).await;
    let made = made.unwrap();
    assert_eq!((made.mime, made.info.kind()), (IMAGE_MIME, PreviewKind::Image));
    assert_eq!(fs::read(&made.path).unwrap().len() as u64, made.info.size_bytes());
    assert!(matches!(made.info, PreviewInfo::Image(info) if info.width == 100), "{made:?}");
}

#[tokio::test]
async fn errors_of_the_original_come_through_and_leave_no_file() {
    let staging = Staging::new("errors");
    let worker = own_child("preview-worker");
    let short = wav(&tone(8_000, 1, 0.5), kit::S16);
    let mut broken = wav(&tone(8_000, 1, 2.0), kit::S16);
    broken[4] = 1;
    broken[5..8].fill(0);
    for (bytes, direct) in [
        (b"OggS........".to_vec(), preview(b"OggS........")),
        (short.clone(), preview(&short)),
        (broken.clone(), preview(&broken)),
    ] {
        let error = make(&worker, &staging, &bytes).await.unwrap_err();
        assert_eq!(error.to_string(), direct.unwrap_err().to_string());
        assert!(!staging.output().exists());
    }
}

#[tokio::test]
async fn limits_are_in_force_and_the_environment_is_empty() {
    let staging = Staging::new("limits");
    let error = make(&own_child("limits-probe"), &staging, b"").await.unwrap_err();
    let PreviewError::Worker { failure: WorkerFailure::Died { status, .. } } = error else { panic!("{error:?}") };
    assert_eq!(status.code(), Some(42));
}

#[tokio::test]
async fn kinds_without_a_preview_start_no_child() {
    let staging = Staging::new("kinds");
    let worker = shell("exit 1");
    for kind in [ContentType::Video, ContentType::Document] {
        let result =
            worker.make((staging.original(b""), None), kind, &staging.output(), PreviewLimits::default()).await;
        assert!(matches!(result, Err(PreviewError::Unsupported { .. })), "{result:?}");
    }
}

#[tokio::test]
async fn existing_file_is_neither_overwritten_nor_removed() {
    let staging = Staging::new("existing");
    fs::write(staging.output(), b"mine").unwrap();
    let error = make(&own_child("preview-worker"), &staging, &song(3)).await.unwrap_err();
    assert!(matches!(error, PreviewError::Write(_)), "{error:?}");
    assert_eq!(fs::read(staging.output()).unwrap(), b"mine");
}

#[tokio::test]
async fn hanging_child_is_killed_in_time() {
    let staging = Staging::new("hanging");
    let worker = shell("echo x > \"$1\"; exec sleep 600").with_timeout(Duration::from_millis(300));
    let error = make(&worker, &staging, b"").await.unwrap_err();
    assert!(matches!(error, PreviewError::Worker { failure: WorkerFailure::TimedOut { .. } }), "{error:?}");
    assert!(!staging.output().exists());
    assert_eq!(worker.free_slots(), 2);
}

#[tokio::test]
async fn killed_crashed_and_missing_children_are_worker_failures() {
    let staging = Staging::new("killed");
    for (script, expected) in
        [("kill -9 $$", "signal: 9"), ("echo boom >&2; exit 101", "boom"), ("exit 1", "exit status: 1")]
    {
        let error = make(&shell(script), &staging, b"").await.unwrap_err();
        let PreviewError::Worker { failure: failure @ WorkerFailure::Died { .. } } = error else {
            panic!("{script}: {error:?}")
        };
        assert!(failure.to_string().contains(expected), "{failure}");
    }
    let missing = PreviewWorker::new("/nonexistent/mynet".into());
    let error = make(&missing, &staging, b"").await.unwrap_err();
    assert!(matches!(error, PreviewError::Worker { failure: WorkerFailure::Start(_) }), "{error:?}");
}

#[tokio::test]
async fn lying_children_are_not_believed() {
    let staging = Staging::new("lying");
    let line = "preview=made kind=audio size_bytes=5 duration_us=1 start_us=0 bitrate_bps=1 concealed_us=0";
    for script in [
        "exit 0".to_owned(),
        format!("echo {line}"),
        format!("echo {line}; echo too long > \"$1\""),
        format!("echo {line}; mkdir \"$1\""),
        "yes".to_owned(),
    ] {
        let worker = shell(&script).with_timeout(Duration::from_secs(20));
        let error = make(&worker, &staging, b"").await.unwrap_err();
        assert!(matches!(error, PreviewError::Worker { .. }), "{script}: {error:?}");
        let _ = fs::remove_dir(staging.output());
    }
}

#[tokio::test]
async fn dropping_the_future_kills_the_child_and_removes_its_file() {
    let staging = Staging::new("dropped");
    let worker = Arc::new(shell("echo $$ > \"$1\"; exec sleep 600"));
    let (original, output) = (staging.original(b""), staging.output());
    let task = tokio::spawn({
        let (worker, output) = (worker.clone(), output.clone());
        async move { worker.make((original, None), ContentType::Audio, &output, PreviewLimits::default()).await }
    });
    wait_until(|| fs::read_to_string(&output).is_ok_and(|pid| pid.ends_with('\n'))).await;
    let pid = fs::read_to_string(&output).unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!output.exists());
    let running = PathBuf::from(format!("/proc/{}/status", pid.trim()));
    wait_until(|| fs::read_to_string(&running).map_or(true, |status| status.contains("State:\tZ"))).await;
}

#[tokio::test]
async fn at_most_two_children_run_at_once() {
    let staging = Staging::new("two");
    let (started, go) = (staging.0.join("started"), staging.0.join("go"));
    let script =
        format!("echo started >> {}; while [ ! -e {} ]; do sleep 0.01; done; exit 1", started.display(), go.display());
    let worker = Arc::new(shell(&script));
    let tasks: Vec<_> = (0..4)
        .map(|n| {
            let (worker, original, output) = (worker.clone(), staging.original(b""), staging.0.join(n.to_string()));
            tokio::spawn(async move {
                worker.make((original, None), ContentType::Audio, &output, PreviewLimits::default()).await
            })
        })
        .collect();
    let count = || fs::read_to_string(&started).map_or(0, |text| text.lines().count());
    wait_until(|| count() == 2).await;
    assert_eq!(worker.free_slots(), 0);
    fs::write(&go, b"").unwrap();
    for task in tasks {
        assert!(task.await.unwrap().is_err());
    }
    assert_eq!(count(), 4);
}

/// Polls `condition` until it holds; fails after ten seconds.
async fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "condition not reached in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
