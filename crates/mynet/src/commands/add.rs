//! `add`: files go in, and the wait until enough others have them.
//!
//! The node itself can wait and answer once, and without a terminal it does. For a person at one, the upload waits for nothing, and
//! this program looks at the operation that goes on after it, so that copies and votes can be seen as they come. Both ways end
//! with the same object and the same exit status.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Context;
use mynet_node::{
    media::{SNIFF_BYTES, media_type},
    view::{GroupView, OperationState, OperationView, OutcomeView, PeerCounts, StatusView, WaitResult},
};
use reqwest::{
    Method, header,
    multipart::{Form, Part},
};
use tokio_util::io::ReaderStream;

use crate::{
    args::{Add, Global, WaitFor},
    client::{Client, query_duration},
    local,
    output::{self, Failure, Meter, Status},
};

/// What to know of a version that another manifest stands against.
pub(super) const CONTESTED: &str = "undecided: a validator votes for another manifest of this version. Either its owner signed two (look into \
     'mynet evidence'; a node restored from an old backup, or run twice with one owner key, does), or that validator lies. \
     Votes are still collected, and one of both may be certified when the validators change";
/// Bytes read from a file at a time: few system calls, little memory.
const READ_BYTES: usize = 256 * 1024;
/// Between two looks at an operation: often enough for the eye, rare enough for the node.
const LOOK: Duration = Duration::from_millis(200);

/// Stores files; each is a group of its own.
pub(crate) async fn add(global: &Global, args: Add) -> anyhow::Result<ExitCode> {
    check_files(&args)?;
    let (client, meter) = (Client::new(global)?, Meter::new(global));
    let mut views = Vec::new();
    let mut failed = None;
    for file in &args.files {
        let view = match store(&client, &args, (file, meter)).await {
            Ok(view) => view,
            Err(error) => {
                failed = Some(error);
                break;
            }
        };
        if !global.json {
            let peers = if view.wait_result == Some(WaitResult::TimedOut) { peers(&client).await } else { None };
            print_added(file, &view, peers)?;
        }
        views.push(view);
    }
    match (views.as_slice(), args.files.as_slice()) {
        _ if !global.json => {}
        ([one], [_]) => output::object(one)?,
        ([], _) => {}
        // Also those that were stored before one failed: whoever asked must not lose sight of them.
        (all, _) => output::object(&all)?,
    }
    if let Some(error) = failed {
        return Err(error);
    }
    let statuses = views.iter().map(|view| wait_status(view.wait_result, wanted(&args)));
    Ok(statuses.flatten().next().map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Uploads one file and waits as long as was asked for.
async fn store(client: &Client, args: &Add, (path, meter): (&Path, Meter)) -> anyhow::Result<GroupView> {
    let wanted = wanted(args);
    if !meter.is_shown() {
        return upload(client, args, (path, meter), wanted).await;
    }
    let stored = upload(client, args, (path, meter), WaitFor::Stored).await?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let watched = watch(client, stored.clone(), (wanted, args.timeout), (meter, &name)).await;
    if watched.is_err() {
        // It is there, whatever keeps this program from looking at it: whoever tries again would store it twice.
        print_added(path, &stored, None)?;
    }
    watched
}

/// Waits for what goes on after `stored`, while a person watches it.
pub(super) async fn watch(
    client: &Client,
    stored: GroupView,
    (wanted, timeout): (WaitFor, Duration),
    shown: (Meter, &str),
) -> anyhow::Result<GroupView> {
    let Some(operation) = stored.operation_id.as_ref().filter(|_| wanted != WaitFor::Stored) else {
        return Ok(stored);
    };
    let result = follow(client, operation, (wanted, timeout), shown).await?;
    let last: GroupView = client.get(&format!("content/{}/group", stored.group_id)).await?;
    // What only the answer to the upload says.
    let GroupView { operation_id, no_preview, .. } = stored;
    Ok(GroupView { wait_result: Some(result), operation_id, no_preview, ..last })
}

/// Shows how an operation goes on, until it has come as far as is wanted or the time is over.
async fn follow(
    client: &Client,
    operation: &str,
    (wanted, timeout): (WaitFor, Duration),
    (meter, name): (Meter, &str),
) -> anyhow::Result<WaitResult> {
    let (began, bar) = (Instant::now(), meter.work(name));
    loop {
        let seen: OperationView = client.get(&format!("operations/{operation}")).await?;
        bar.set((seen.bytes_done, seen.bytes_total), &progress_words(&seen));
        if let Some(result) = reached(&seen, wanted) {
            return Ok(result);
        }
        let left = timeout.saturating_sub(began.elapsed());
        if left.is_zero() {
            return Ok(WaitResult::TimedOut);
        }
        tokio::time::sleep(LOOK.min(left)).await;
    }
}

/// Copies and votes in a few words.
fn progress_words(seen: &OperationView) -> String {
    let OperationView { copies_done, copies_needed, copies_wanted, consensus, .. } = seen;
    // Until it is durable that counts, and then the rest.
    let copies = if copies_done < copies_needed { copies_needed } else { copies_wanted };
    let votes = match consensus.quorum {
        0 => String::new(),
        quorum => format!("  votes {}/{quorum}", consensus.accepts),
    };
    format!("copies {copies_done}/{copies}{votes}")
}

/// How a wait for `wanted` ends that sees this; `None` if it goes on. The same words decide it as in the node.
fn reached(seen: &OperationView, wanted: WaitFor) -> Option<WaitResult> {
    let durable = seen.copies_done >= seen.copies_needed;
    let short = seen.state == OperationState::Waiting && seen.copies_done < seen.copies_wanted;
    match wanted {
        WaitFor::Stored => Some(WaitResult::Stored),
        WaitFor::Durable if durable => Some(WaitResult::Durable),
        WaitFor::Certified if seen.consensus.outcome == OutcomeView::Rejected => Some(WaitResult::Rejected),
        WaitFor::Certified if durable && seen.consensus.certificate => Some(WaitResult::Certified),
        WaitFor::Durable | WaitFor::Certified if short => Some(WaitResult::NotEnoughTargets),
        WaitFor::Durable | WaitFor::Certified => None,
    }
}

/// Finds what cannot be uploaded before anything is.
fn check_files(args: &Add) -> anyhow::Result<()> {
    for file in &args.files {
        local::readable(file)?;
    }
    if args.no_publish && args.wait.is_some_and(|wait| wait != WaitFor::Stored) {
        let message = "what is not published becomes neither durable nor certified";
        let hint = "leave out --no-publish, or say --wait stored";
        return Err(Failure::new(Status::Usage, "invalid_wait", message, hint).into());
    }
    if matches!(args.preview.as_str(), "auto" | "none") {
        return Ok(());
    }
    let refuse = |message: &str, hint: &str| Err(Failure::new(Status::Usage, "invalid_preview", message, hint).into());
    if args.public {
        return refuse(
            "public content has no preview: everybody may read the whole",
            "leave out --preview or --public",
        );
    }
    if local::readable(Path::new(&args.preview))? == 0 {
        return refuse(&format!("the preview {} is empty", args.preview), "say --preview none to have none");
    }
    Ok(())
}

/// What an upload waits for by default: durable, or stored if it is not to be published.
fn wanted(args: &Add) -> WaitFor {
    args.wait.unwrap_or(if args.no_publish { WaitFor::Stored } else { WaitFor::Durable })
}

/// The exit status of a wait; `None` if it reached what was wanted.
pub(super) fn wait_status(result: Option<WaitResult>, wanted: WaitFor) -> Option<Status> {
    match (result?, wanted) {
        (WaitResult::Stored, WaitFor::Stored)
        | (WaitResult::Durable, WaitFor::Stored | WaitFor::Durable)
        | (WaitResult::Certified, _) => None,
        (WaitResult::Rejected, _) => Some(Status::Failed),
        _ => Some(Status::Undecided),
    }
}

/// Uploads one file; the node answers when it has come as far as `wait`.
async fn upload(
    client: &Client,
    args: &Add,
    (path, meter): (&Path, Meter),
    wait: WaitFor,
) -> anyhow::Result<GroupView> {
    let size = local::readable(path)?;
    let file = tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut query = vec![
        ("filename", name.clone()),
        ("public", args.public.to_string()),
        ("publish", (!args.no_publish).to_string()),
        ("wait", wait.as_str().to_owned()),
        ("timeout", query_duration(args.timeout)),
    ];
    query.extend(args.content_type.map(|kind| ("type", kind.to_string())));
    query.extend(args.replicas.map(|count| ("replicas", count.to_string())));
    query.extend(args.tags.iter().map(|tag| ("tags", tag.clone())));
    if !args.grant.is_empty() {
        query.push(("grant", args.grant.join(",")));
    }
    let bar = meter.bytes(&name, Some(size));
    let body = ReaderStream::with_capacity(bar.watch(file), READ_BYTES);
    let body = reqwest::Body::wrap_stream(body);
    let request = client.request(Method::POST, "content");
    let request = match args.preview.as_str() {
        choice @ ("auto" | "none") => {
            query.push(("preview", choice.to_owned()));
            request.query(&query).header(header::CONTENT_LENGTH, size).body(body)
        }
        preview => {
            let preview = supplied_preview(Path::new(preview)).await?;
            let file = Part::stream_with_length(body, size).file_name(name);
            request.query(&query).multipart(Form::new().part("preview", preview).part("file", file))
        }
    };
    client.json(request).await
}

/// The preview that the user supplies, as a part of a form. It names its media type: the node shows it as that.
async fn supplied_preview(path: &Path) -> anyhow::Result<Part> {
    let bytes = tokio::fs::read(path).await.with_context(|| format!("read the preview {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mime = media_type(&name, bytes.get(..SNIFF_BYTES).unwrap_or(&bytes));
    Part::bytes(bytes).file_name(name).mime_str(mime).context("name the media type of the preview")
}

/// The node's peers; `None` if it does not say, which changes nothing about the upload.
async fn peers(client: &Client) -> Option<PeerCounts> {
    client.get::<StatusView>("status").await.ok().map(|status| status.peers)
}

/// Tells what became of an upload.
fn print_added(file: &Path, view: &GroupView, peers: Option<PeerCounts>) -> anyhow::Result<()> {
    let reached = match view.wait_result {
        Some(WaitResult::Certified) => "certified".to_owned(),
        Some(WaitResult::Durable) => "durable".to_owned(),
        Some(WaitResult::TimedOut) => timed_out(view, peers),
        Some(WaitResult::NotEnoughTargets) => {
            "stored here; too few nodes may hold it, tried again when one joins".to_owned()
        }
        Some(WaitResult::Rejected) => "rejected by the validators".to_owned(),
        Some(WaitResult::Contested) => CONTESTED.to_owned(),
        Some(WaitResult::Stored) | None => "stored".to_owned(),
    };
    output::line(&format!("{}  {}  {reached}", view.group_id, file.display()))?;
    match &view.no_preview {
        Some(reason) => output::line(&format!("  {}", reason.says)),
        None => Ok(()),
    }
}

/// What is so when the wait ended first, and what comes next.
fn timed_out(view: &GroupView, peers: Option<PeerCounts>) -> String {
    match peers {
        Some(peers) if peers.alive == 0 => {
            "stored here; no other node can be reached, copies are made when they are back".to_owned()
        }
        _ => {
            let (count, wanted) = (view.replica_count, view.replicas_wanted);
            format!("stored here, {count} of {wanted} copies confirmed; the rest goes on, see `mynet show`")
        }
    }
}

#[cfg(test)]
mod tests {
    use mynet_node::view::{OperationView, WaitResult};
    use serde_json::json;

    use super::{progress_words, reached};
    use crate::args::WaitFor;

    /// An operation with so many copies and votes of two, of three wanted copies.
    fn seen(state: &str, copies: usize, (outcome, accepts, certificate): (&str, usize, bool)) -> OperationView {
        let group = "0".repeat(64);
        let consensus = json!({
            "outcome": outcome, "accepts": accepts, "rejects": 0, "quorum": 2, "validators": 3, "certificate": certificate,
        });
        let view = json!({
            "operation_id": format!("{group}-1"), "group_id": group, "version": 1, "state": state, "summary": [],
            "copies_done": copies, "copies_needed": 2, "copies_wanted": 3, "bytes_done": 0, "bytes_total": 0,
            "consensus": consensus, "targets": [],
        });
        serde_json::from_value(view).unwrap()
    }

    #[test]
    fn a_wait_that_is_watched_ends_as_one_of_the_node_does() {
        let certified = ("approved", 2, true);
        let open = ("pending", 1, false);
        let rejected = ("rejected", 0, false);
        for (seen, durable, certain) in [
            (seen("running", 1, open), None, None),
            (seen("running", 2, open), Some(WaitResult::Durable), None),
            (seen("running", 2, certified), Some(WaitResult::Durable), Some(WaitResult::Certified)),
            (seen("running", 1, certified), None, None),
            (seen("waiting", 1, open), Some(WaitResult::NotEnoughTargets), Some(WaitResult::NotEnoughTargets)),
            (seen("waiting", 2, open), Some(WaitResult::Durable), Some(WaitResult::NotEnoughTargets)),
            (seen("failed", 2, rejected), Some(WaitResult::Durable), Some(WaitResult::Rejected)),
            // That it was rejected is certified too.
            (seen("failed", 2, ("rejected", 0, true)), Some(WaitResult::Durable), Some(WaitResult::Rejected)),
            // Copies are complete; validators that are missing may still come.
            (seen("waiting", 3, open), Some(WaitResult::Durable), None),
        ] {
            assert_eq!(reached(&seen, WaitFor::Durable), durable, "{seen:?}");
            assert_eq!(reached(&seen, WaitFor::Certified), certain, "{seen:?}");
            assert_eq!(reached(&seen, WaitFor::Stored), Some(WaitResult::Stored));
        }
    }

    #[test]
    fn progress_counts_what_is_waited_for_next() {
        assert_eq!(progress_words(&seen("running", 1, ("pending", 0, false))), "copies 1/2  votes 0/2");
        assert_eq!(progress_words(&seen("running", 2, ("pending", 1, false))), "copies 2/3  votes 1/2");
    }
}
