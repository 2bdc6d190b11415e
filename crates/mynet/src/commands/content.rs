//! Commands about groups: add, ls, show, get, publish, cert.

use std::{io::Write, path::Path, process::ExitCode};

use anyhow::Context;
use futures::StreamExt;
use mynet_node::{
    media::{SNIFF_BYTES, media_type},
    view::{GroupView, Page, PeerCounts, PlanView, StatusView, WaitResult},
};
use reqwest::{
    Method, header,
    multipart::{Form, Part},
};
use tokio_util::io::ReaderStream;

use crate::{
    args::{Add, Cert, Get, Global, Key, Ls, Preview, Publish, PublishMode, WaitFor},
    client::Client,
    local,
    output::{self, Failure, Status, short},
    save::{self, Save},
};

/// What to know of a version that another manifest stands against.
const CONTESTED: &str = "undecided: a validator votes for another manifest of this version. Either its owner signed two (look into \
     'mynet evidence'; a node restored from an old backup, or run twice with one owner key, does), or that validator lies. \
     Votes are still collected, and one of both may be certified when the validators change";
/// Groups asked for at a time.
const PAGE: u32 = 100;
/// Bytes read from a file at a time: few system calls, little memory.
const READ_BYTES: usize = 256 * 1024;

/// Stores files; each is a group of its own.
pub(crate) async fn add(global: &Global, args: Add) -> anyhow::Result<ExitCode> {
    check_files(&args)?;
    let client = Client::new(global)?;
    let mut views = Vec::new();
    for file in &args.files {
        let view = upload(&client, &args, file).await?;
        if !global.json {
            let peers = if view.wait_result == Some(WaitResult::TimedOut) { peers(&client).await } else { None };
            print_added(file, &view, peers)?;
        }
        views.push(view);
    }
    match views.as_slice() {
        _ if !global.json => {}
        [one] => output::object(one)?,
        all => output::object(&all)?,
    }
    let statuses = views.iter().map(|view| wait_status(view.wait_result, wanted(&args)));
    Ok(statuses.flatten().next().map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Finds what cannot be uploaded before anything is.
fn check_files(args: &Add) -> anyhow::Result<()> {
    for file in &args.files {
        local::readable(file)?;
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
fn wait_status(result: Option<WaitResult>, wanted: WaitFor) -> Option<Status> {
    match (result?, wanted) {
        (WaitResult::Stored, WaitFor::Stored)
        | (WaitResult::Durable, WaitFor::Stored | WaitFor::Durable)
        | (WaitResult::Certified, _) => None,
        (WaitResult::Rejected, _) => Some(Status::Failed),
        _ => Some(Status::Undecided),
    }
}

/// Uploads one file.
async fn upload(client: &Client, args: &Add, path: &Path) -> anyhow::Result<GroupView> {
    let size = local::readable(path)?;
    let file = tokio::fs::File::open(path).await.with_context(|| format!("open {}", path.display()))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut query = vec![
        ("filename", name.clone()),
        ("public", args.public.to_string()),
        ("publish", (!args.no_publish).to_string()),
        ("wait", wanted(args).as_str().to_owned()),
        ("timeout", humantime::format_duration(args.timeout).to_string().replace(' ', "")),
    ];
    query.extend(args.content_type.map(|kind| ("type", kind.to_string())));
    query.extend(args.replicas.map(|count| ("replicas", count.to_string())));
    query.extend(args.tags.iter().map(|tag| ("tags", tag.clone())));
    if !args.grant.is_empty() {
        query.push(("grant", args.grant.join(",")));
    }
    let body = ReaderStream::with_capacity(watched(file, size), READ_BYTES);
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

/// The file, with a progress bar if a person watches.
fn watched(file: tokio::fs::File, size: u64) -> indicatif::ProgressBarIter<tokio::fs::File> {
    let bar = if output::is_watched() { indicatif::ProgressBar::new(size) } else { indicatif::ProgressBar::hidden() };
    let style = indicatif::ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_template| indicatif::ProgressStyle::default_bar()));
    bar.wrap_async_read(file)
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
    output::line(&format!("{}  {}  {reached}", view.group_id, file.display()))
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

/// Lists groups.
pub(crate) async fn ls(global: &Global, args: Ls) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let mut groups: Vec<GroupView> = Vec::new();
    let mut cursor: Option<String> = None;
    while (groups.len() as u64) < u64::from(args.limit) {
        let left = u32::try_from(groups.len()).map_or(0, |have| args.limit - have).min(PAGE);
        let mut query = vec![("limit", left.to_string())];
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Page<GroupView> = client.json(client.request(Method::GET, "content").query(&query)).await?;
        groups.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    if global.json {
        return output::object(&groups);
    }
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    output::table(&["GROUP", "STATUS", "COPIES", "CERTIFIED", "SIZE", "CREATED", "NAME"], &rows)
}

/// One line of the listing.
fn row(view: &GroupView) -> Vec<String> {
    let bytes = view.states.iter().filter_map(|state| state.file_size).max().unwrap_or(0);
    vec![
        short(&view.group_id),
        serde_json::to_value(view.replication_status)
            .ok()
            .and_then(|v| v.as_str().map(str::to_owned))
            .unwrap_or_default(),
        format!("{}/{}", view.replica_count, view.replicas_wanted),
        if view.consensus_achieved { "yes" } else { "no" }.to_owned(),
        output::size(bytes),
        view.created_at.to_string(),
        view.filename.clone().unwrap_or_else(|| "(sealed)".to_owned()),
    ]
}

/// Shows a group.
pub(crate) async fn show(global: &Global, args: Key) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let view: GroupView = client.get(&format!("content/{}/group", args.id)).await?;
    if global.json { output::object(&view) } else { print_group(&view) }
}

/// A group for people.
fn print_group(view: &GroupView) -> anyhow::Result<()> {
    output::line(&format!("group     {}", view.group_id))?;
    if let Some(name) = &view.filename {
        output::line(&format!("name      {name}"))?;
    }
    for state in &view.states {
        let hash = state.hash.map_or_else(|| "(sealed)".to_owned(), |hash| hash.to_string());
        let size = state.file_size.map(output::size).unwrap_or_default();
        let held = match state.held {
            mynet_node::view::Held::Blob => "held",
            mynet_node::view::Held::Derived => "held as a view",
            mynet_node::view::Held::No => "not held",
        };
        output::line(&format!("{:9} {hash}  {size}  {held}", state.state.as_str()))?;
    }
    let consensus = &view.consensus;
    output::line(&format!("copies    {} of {}", view.replica_count, view.replicas_wanted))?;
    for peer in &view.replicated_on_peers {
        output::line(&format!("          {peer}"))?;
    }
    let certificate = if consensus.certificate { "a certificate" } else { "no certificate" };
    output::line(&format!(
        "votes     {} for, {} against, {} needed; {certificate}",
        consensus.accepts, consensus.rejects, consensus.quorum
    ))
}

/// Reads a state.
pub(crate) async fn get(global: &Global, args: Get) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let mut request = client.request(Method::GET, &format!("content/{}/data", args.id));
    if let Some(state) = args.state {
        request = request.query(&[("state", state.as_str())]);
    }
    if let Some(range) = &args.range {
        request = request.header(header::RANGE, format!("bytes={range}"));
    }
    // A place that cannot be written is found out before the node is asked.
    let chosen = args.output.as_deref().filter(|path| *path != Path::new("-")).map(Save::at).transpose()?;
    let answer = client.send(request).await.map_err(|error| outside(error, args.range.as_deref()))?;
    let mut save = match (chosen, &args.output) {
        (Some(save), _) => save,
        (None, Some(_stdout)) => return print_body(answer).await,
        (None, None) => {
            let suggested = answer.headers().get(header::CONTENT_DISPOSITION).and_then(|value| value.to_str().ok());
            let suggested = suggested.and_then(save::name_in_disposition);
            Save::suggested(suggested.as_deref(), &format!("{}.bin", args.id.replace(':', "-")))?
        }
    };
    let received = tokio::select! {
        received = receive(answer, &mut save) => received,
        // Ends here and not in the signal's default, so that what was begun is removed.
        _ = tokio::signal::ctrl_c() => Err(interrupted().into()),
    };
    let size = received?;
    let path = save.path().to_owned();
    save.finish()?;
    match (&args.output, global.json) {
        (_, true) => output::object(&serde_json::json!({ "path": path, "bytes": size })),
        (None, false) => output::line(&format!("{}  {}", path.display(), output::size(size))),
        (Some(_), false) => Ok(()),
    }
}

/// Says of a range that lies outside what it means here; the node speaks of headers.
fn outside(error: anyhow::Error, range: Option<&str>) -> anyhow::Error {
    match (error.downcast_ref::<Failure>(), range) {
        (Some(failure), Some(range)) if failure.code == "range_not_satisfiable" => {
            let message = format!("there are no bytes {range}: the content ends before them");
            let hint = "`mynet show` tells its size; the first byte is 0";
            Failure::new(failure.status, &failure.code, message, hint).into()
        }
        _ => error,
    }
}

/// Takes a body in, and says how long it was.
async fn receive(answer: reqwest::Response, save: &mut Save) -> anyhow::Result<u64> {
    let mut body = answer.bytes_stream();
    let mut size = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(broken)?;
        save.write(&bytes)?;
        size += bytes.len() as u64;
    }
    Ok(size)
}

fn interrupted() -> Failure {
    Failure::new(Status::Failed, "interrupted", "interrupted, nothing was written", "run it again for the whole")
}

/// Writes a body to standard output.
async fn print_body(answer: reqwest::Response) -> anyhow::Result<()> {
    let mut body = answer.bytes_stream();
    let mut out = tokio::io::stdout();
    while let Some(bytes) = body.next().await {
        let written = tokio::io::AsyncWriteExt::write_all(&mut out, &bytes.map_err(broken)?).await;
        written.context("write to standard output")?;
    }
    tokio::io::AsyncWriteExt::flush(&mut out).await.context("write to standard output")
}

/// The body ended early: the node found damage, or went away.
fn broken(error: reqwest::Error) -> Failure {
    let message = format!("the content broke off: {error}");
    Failure::new(Status::Integrity, "broken_off", message, "try again; another node may serve it")
}

/// Replicates a stored group, or prints the plan.
pub(crate) async fn publish(global: &Global, args: Publish) -> anyhow::Result<ExitCode> {
    let client = Client::new(global)?;
    let timeout = humantime::format_duration(args.timeout).to_string().replace(' ', "");
    let mut query = vec![("dry_run", args.dry_run.to_string()), ("timeout", timeout)];
    query.extend(args.replicas.map(|count| ("replicas", count.to_string())));
    query.extend(args.mode.map(|mode| match mode {
        PublishMode::Quorum => ("mode", "quorum".to_owned()),
        PublishMode::All => ("mode", "all".to_owned()),
    }));
    let request = client.request(Method::POST, &format!("content/{}/publish", args.id)).query(&query);
    if args.dry_run {
        let plan: PlanView = client.json(request).await?;
        if global.json {
            output::object(&plan)?
        } else {
            print_plan(&plan)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let view: GroupView = client.json(request).await?;
    if global.json {
        output::object(&view)?
    } else {
        print_group(&view)?;
        if view.wait_result == Some(WaitResult::Contested) {
            output::line(CONTESTED)?;
        }
    }
    Ok(wait_status(view.wait_result, WaitFor::Durable).map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Gives a group another preview, in its next version.
pub(crate) async fn preview(global: &Global, args: Preview) -> anyhow::Result<ExitCode> {
    local::readable(&args.file)?;
    let client = Client::new(global)?;
    let bytes = tokio::fs::read(&args.file).await.with_context(|| format!("read {}", args.file.display()))?;
    let filename = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let timeout = humantime::format_duration(args.timeout).to_string().replace(' ', "");
    let query = [("type", "preview".to_owned()), ("filename", filename), ("timeout", timeout)];
    let request = client.request(Method::POST, &format!("content/{}/relationships", args.id)).query(&query).body(bytes);
    let view: GroupView = client.json(request).await?;
    if global.json {
        output::object(&view)?
    } else {
        print_group(&view)?
    }
    Ok(wait_status(view.wait_result, WaitFor::Durable).map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// A plan for people.
fn print_plan(plan: &PlanView) -> anyhow::Result<()> {
    let PlanView { group_id, slot, quorum, replicas, mode, eligible, .. } = plan;
    output::line(&format!(
        "group {group_id}  slot {slot}  mode {mode}: success with {quorum} of {replicas}, {eligible} nodes may hold it"
    ))?;
    let rows: Vec<Vec<String>> = plan
        .targets
        .iter()
        .map(|target| {
            let states: Vec<&str> = target.states.iter().map(|state| state.as_str()).collect();
            let held = if target.held { format!("yes ({})", target.known_by) } else { "no".to_owned() };
            vec![
                short(&target.node_id),
                format!("{}/{}", target.region, target.zone),
                states.join(","),
                held,
                output::size(target.bytes),
                target.why.clone(),
            ]
        })
        .collect();
    output::table(&["TARGET", "ZONE", "STATES", "HELD", "TO SEND", "WHY"], &rows)?;
    output::line(&format!("to send: {}", output::size(plan.bytes)))?;
    for warning in &plan.warnings {
        output::line(&format!("warning ({}): {}", warning.code, warning.message))?;
    }
    Ok(())
}

/// Writes a certificate.
pub(crate) async fn cert(global: &Global, args: Cert) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let request = client.request(Method::GET, &format!("content/{}/certificate", args.id));
    let bytes = client.send(request).await?.bytes().await.context("read the certificate")?;
    write_output(&args.output.output, &bytes)
}

/// Writes bytes to a file, replaced whole, or to standard output.
pub(crate) fn write_output(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path == Path::new("-") {
        return std::io::stdout().write_all(bytes).context("write to standard output");
    }
    let mut save = Save::at(path)?;
    save.write(bytes)?;
    save.finish()
}
