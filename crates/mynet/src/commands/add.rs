//! `add`: files go in, and the wait until enough others have them.
//!
//! The node itself can wait and answer once, and without a terminal it does. For a person at one, the upload waits for nothing, and
//! this program looks at the operation that goes on after it, so that copies and votes can be seen as they come. Both ways end
//! with the same object and the same exit status.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use mynet_node::view::{GroupView, OperationState, OperationView, OutcomeView, ReplicationStatusView, WaitResult};

use super::upload::{Source, check_files, noted, upload};
use crate::{
    args::{Add, Global, WaitFor},
    client::Client,
    output::{self, Failure, Meter, Status},
};

/// What to know of a version that another manifest stands against.
pub(super) const CONTESTED: &str = "undecided: a validator votes for another manifest of this version. Either its owner signed two (look into \
     'mynet evidence'; a node restored from an old backup, or run twice with one owner key, does), or that validator lies. \
     Votes are still collected, and one of both may be certified when the validators change";
/// Between two looks at an operation: often enough for the eye, rare enough for the node.
const LOOK: Duration = Duration::from_millis(200);

/// Stores files; each is a group of its own.
pub(crate) async fn add(global: &Global, args: Add) -> anyhow::Result<ExitCode> {
    check_files(&args)?;
    let (client, meter) = (Client::new(global)?, Meter::new(global));
    let mut views = Vec::new();
    let mut failed = None;
    for (index, file) in args.files.iter().enumerate() {
        let source = Source::new(file, args.name.as_deref());
        let view = match store(&client, &args, (&source, meter)).await {
            Ok(view) => view,
            Err(error) => {
                failed = Some(untried(error, args.files.get(index + 1..).unwrap_or_default()));
                break;
            }
        };
        if !global.json {
            let standing = standing(&client, &view).await;
            print_added(&source.shown(), &view, wanted(&args), standing.as_ref())?;
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
async fn store(client: &Client, args: &Add, (source, meter): (&Source<'_>, Meter)) -> anyhow::Result<GroupView> {
    let wanted = wanted(args);
    if !meter.is_shown() {
        return upload(client, args, (source, meter), wanted).await;
    }
    let stored = upload(client, args, (source, meter), WaitFor::Stored).await?;
    let watched = watch(client, stored.clone(), (wanted, args.timeout), (meter, source.name())).await;
    if watched.is_err() {
        // It is there, whatever keeps this program from looking at it: whoever tries again would store it twice.
        print_added(&source.shown(), &stored, wanted, None)?;
    }
    watched.map_err(|error| unseen(error, &source.shown()))
}

/// Why it cannot be seen what becomes of something that is stored.
fn unseen(error: anyhow::Error, shown: &str) -> anyhow::Error {
    let Some(failure) = error.downcast_ref::<Failure>().filter(|failure| failure.code == "unreachable") else {
        return error.context(format!("{shown} is stored; cannot see how it goes on"));
    };
    let message = format!("{shown} is stored; cannot see how it goes on: {}", failure.message);
    let hint = "start the node again with `mynet run`: it goes on by itself, `mynet show` tells how far";
    Failure::new(failure.status, &failure.code, message, hint).into()
}

/// Adds to an error which files come after the one that it is about.
fn untried(error: anyhow::Error, rest: &[PathBuf]) -> anyhow::Error {
    let Some(first) = rest.first() else { return error };
    let more = match rest.len() {
        1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    noted(error, &format!("{}{more} not tried", first.display()))
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
        WaitFor::Certified | WaitFor::Durable if seen.consensus.outcome == OutcomeView::Rejected => {
            Some(WaitResult::Rejected)
        }
        WaitFor::Certified if durable && seen.consensus.certificate => Some(WaitResult::Certified),
        WaitFor::Durable | WaitFor::Certified if short => Some(WaitResult::NotEnoughTargets),
        WaitFor::Durable | WaitFor::Certified => None,
    }
}

/// What an upload waits for by default: durable, or stored if it is not to be published.
pub(super) fn wanted(args: &Add) -> WaitFor {
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

/// Tells of a publication or a new preview whose wait ended before what was wanted, and of copies that nobody may hold yet.
pub(super) async fn print_rest(client: &Client, view: &GroupView) -> anyhow::Result<()> {
    let Some(standing) = standing(client, view).await else { return Ok(()) };
    // A version that is not certified is copied to nobody, so its votes are what is waited for.
    let coming = standing.version > view.version;
    let (wanted, see) = if coming { (WaitFor::Certified, "proposals") } else { (WaitFor::Durable, "why") };
    if view.wait_result == Some(WaitResult::TimedOut) {
        let version = standing.version;
        output::fields(&[&format!("the wait for version {version} is over, and the work goes on: see `mynet {see}`")])?;
    }
    missing(view.wait_result, wanted, &standing).iter().try_for_each(|says| output::fields(&[&format!("  {says}")]))
}

/// How the work behind an upload stands; `None` if the node does not say, which changes nothing about the upload.
async fn standing(client: &Client, view: &GroupView) -> Option<OperationView> {
    client.get(&format!("operations/{}", view.operation_id.as_ref()?)).await.ok()
}

/// Tells what became of an upload.
fn print_added(shown: &str, view: &GroupView, wanted: WaitFor, standing: Option<&OperationView>) -> anyhow::Result<()> {
    use ReplicationStatusView::{Degraded, Replicated};
    let durable = matches!(view.replication_status, Degraded | Replicated);
    let reached = match view.wait_result {
        Some(WaitResult::Certified) => "certified",
        Some(WaitResult::Durable) => "durable",
        Some(WaitResult::TimedOut) if durable => "durable; the wait is over, and the work goes on: see `mynet show`",
        Some(WaitResult::TimedOut) => "stored here; the wait is over, and the work goes on: see `mynet show`",
        Some(WaitResult::NotEnoughTargets) => "stored here; too few nodes may hold it, tried again when one joins",
        Some(WaitResult::Rejected) => "rejected by the validators",
        Some(WaitResult::Contested) => CONTESTED,
        Some(WaitResult::Stored) | None => "stored",
    };
    output::fields(&[&view.group_id.to_string(), shown, reached])?;
    let told = standing.map(|standing| missing(view.wait_result, wanted, standing)).unwrap_or_default();
    let no_preview = view.no_preview.iter().map(|reason| &reason.says);
    told.iter().chain(no_preview).try_for_each(|says| output::fields(&[&format!("  {says}")]))
}

/// What a wait did not reach, and copies that nobody may hold yet: sentences of the node.
fn missing(result: Option<WaitResult>, wanted: WaitFor, standing: &OperationView) -> Vec<String> {
    // This node has a copy itself.
    let short = standing.targets.len() + 1 < standing.copies_wanted;
    let (copies, votes) = match result {
        Some(WaitResult::TimedOut) => {
            (short || standing.copies_done < standing.copies_needed, wanted == WaitFor::Certified)
        }
        Some(WaitResult::Durable | WaitResult::Certified) => (short, false),
        _ => (false, false),
    };
    let told = standing.summary.iter().zip([copies, votes]).filter(|(_, told)| *told);
    told.map(|(sentence, _)| sentence.clone()).collect()
}

#[cfg(test)]
mod tests {
    use mynet_node::view::{OperationTargetView, OperationView, WaitResult};
    use serde_json::json;

    use std::path::PathBuf;

    use super::{missing, progress_words, reached, untried};
    use crate::{
        args::WaitFor,
        output::{Failure, Status},
    };

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
            (seen("failed", 1, rejected), Some(WaitResult::Rejected), Some(WaitResult::Rejected)),
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

    #[test]
    fn what_is_missing_after_a_wait_is_told_and_nothing_else() {
        let target =
            json!({ "node_id": "2".repeat(64), "state": "asked", "states": [], "bytes_done": 0, "bytes_total": 0 });
        let target: OperationTargetView = serde_json::from_value(target).unwrap();
        let told = |result, wanted, copies, others| {
            let summary = ["copies", "votes"].map(str::to_owned).to_vec();
            let targets = vec![target.clone(); others];
            let standing = OperationView { summary, targets, ..seen("running", copies, ("pending", 0, false)) };
            missing(Some(result), wanted, &standing).join(" ")
        };
        for (result, wanted, copies, others, want) in [
            (WaitResult::Durable, WaitFor::Durable, 2, 2, ""),
            (WaitResult::Durable, WaitFor::Durable, 2, 1, "copies"),
            (WaitResult::TimedOut, WaitFor::Durable, 1, 2, "copies"),
            (WaitResult::TimedOut, WaitFor::Certified, 1, 2, "copies votes"),
            (WaitResult::TimedOut, WaitFor::Certified, 2, 2, "votes"),
            (WaitResult::TimedOut, WaitFor::Certified, 2, 1, "copies votes"),
            (WaitResult::Stored, WaitFor::Stored, 1, 0, ""),
            (WaitResult::NotEnoughTargets, WaitFor::Durable, 1, 0, ""),
        ] {
            assert_eq!(told(result, wanted, copies, others), want, "{result:?} {wanted:?} {copies} {others}");
        }
    }

    #[test]
    fn an_error_says_which_files_were_not_tried() {
        let told = |rest: &[&str]| {
            let rest: Vec<PathBuf> = rest.iter().map(PathBuf::from).collect();
            let failed = Failure::new(Status::Failed, "no_space", "a was not stored: the disk is full", "make room");
            untried(failed.into(), &rest).downcast::<Failure>().unwrap().message
        };
        assert_eq!(told(&[]), "a was not stored: the disk is full");
        assert_eq!(told(&["b"]), "a was not stored: the disk is full (b not tried)");
        assert_eq!(told(&["b", "c", "d"]), "a was not stored: the disk is full (b and 2 more not tried)");
    }
}
