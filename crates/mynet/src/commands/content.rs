//! Commands about groups: ls, show, get, publish, preview, cert.

use std::{
    io::{IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use futures::StreamExt;
use mynet_node::{
    media::ending,
    view::{GroupView, Held, Page, PlanView, WaitResult},
};
use mynet_types::ContentState;
use reqwest::{Method, header};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::{
    add::{CONTESTED, print_rest, wait_status, watch},
    lookup,
};
use crate::{
    args::{Cert, Get, Global, Key, Ls, Preview, Publish, PublishMode, WaitFor},
    client::{Client, query_duration},
    local,
    output::{self, Bar, Column, Failure, Meter, Screen, Status, id, table},
    save::{self, Save},
};

/// Groups asked for at a time.
const PAGE: u32 = 100;
/// Columns of the word that says what a line is about.
const LABEL: usize = 10;

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
    if cursor.is_some() {
        output::remark(&format!("these are the newest {}, and there are more: see --limit", groups.len()));
    }
    if global.json {
        return output::object(&groups);
    }
    let rows: Vec<Vec<String>> = groups.iter().map(row).collect();
    const COLUMNS: [Column; 7] = [
        Column::key("GROUP"),
        Column::fact("STATUS"),
        Column::fact("COPIES"),
        Column::fact("CERTIFIED"),
        Column::fact("SIZE"),
        Column::extra("CREATED"),
        Column::text("NAME"),
    ];
    table(&COLUMNS, &rows)
}

/// One line of the listing.
fn row(view: &GroupView) -> Vec<String> {
    // That of the file that was uploaded, or what is known of it where it is sealed.
    let of = |wanted| view.states.iter().filter(move |state| state.state == wanted).find_map(|state| state.file_size);
    let bytes = of(ContentState::Decrypted).or_else(|| of(ContentState::Encrypted)).unwrap_or(0);
    vec![
        id(&view.group_id),
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
    let key = lookup::group(&client, args.id).await?;
    let view: GroupView = client.get(&format!("content/{key}/group")).await?;
    if global.json { output::object(&view) } else { print_group(&view) }
}

/// A group for people.
fn print_group(view: &GroupView) -> anyhow::Result<()> {
    output::line(&format!("group     {}", view.group_id))?;
    if let Some(name) = &view.filename {
        output::indented(LABEL, &[&format!("name      {name}")])?;
    }
    if let Some(tags) = view.tags.as_ref().filter(|tags| !tags.is_empty()) {
        output::indented(LABEL, &[&format!("tags      {}", tags.join(", "))])?;
    }
    output::line(&format!("version   {}, of {}", view.version, view.created_at))?;
    for state in &view.states {
        let hash = state.hash.map_or_else(|| "(sealed)".to_owned(), |hash| hash.to_string());
        let size = state.file_size.map(output::size).unwrap_or_default();
        let mime = state.mime.as_deref().unwrap_or_default();
        let held = match state.held {
            Held::Blob => "held",
            Held::Derived => "held as a view",
            Held::No => "not held",
        };
        // The hash at the end: on a narrow terminal it has a line of its own then.
        output::fields(&[&format!("{:9} {size}", state.state.as_str()), mime, held, &hash])?;
    }
    let consensus = &view.consensus;
    output::line(&format!("copies    {} of {}", view.replica_count, view.replicas_wanted))?;
    if view.states.iter().any(|state| state.held != Held::No) {
        let counts = view.replica_count > view.replicated_on_peers.len();
        output::line(if counts { "          this node" } else { "          this node, besides" })?;
    }
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
    if global.json && args.output.as_deref() == Some(Path::new("-")) {
        let message = "standard output cannot take the content and an object";
        return Err(
            Failure::new(Status::Usage, "one_output", message, "name a file with -o, or leave --json out").into()
        );
    }
    let client = Client::new(global)?;
    // A place that cannot be written is found out before the node is asked.
    let chosen = args.output.as_deref().filter(|path| *path != Path::new("-")).map(Save::at).transpose()?;
    let key = lookup::group(&client, args.id).await?;
    let mut request = client.request(Method::GET, &format!("content/{key}/data"));
    if let Some(state) = args.state {
        request = request.query(&[("state", state.as_str())]);
    }
    if let Some(range) = &args.range {
        request = request.header(header::RANGE, format!("bytes={range}"));
    }
    let answer = client.send(request).await.map_err(|error| outside(error, args.range.as_deref()))?;
    let meter = Meter::new(global);
    let mut save = match (chosen, &args.output) {
        (Some(save), _) => save,
        (None, Some(_stdout)) => return print_body(answer, meter, args.force).await,
        (None, None) => {
            let told = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            let suggested = told(header::CONTENT_DISPOSITION).and_then(save::name_in_disposition);
            let ending = told(header::CONTENT_TYPE).and_then(ending).unwrap_or("bin");
            let state = args.state.map(|state| format!("-{state}")).unwrap_or_default();
            let fallback = format!("{}{state}.{ending}", key.replace(':', "-"));
            // What came counts: a server may answer a range with the whole.
            let part = told(header::CONTENT_RANGE).and_then(save::part_in_content_range);
            Save::suggested(suggested.as_deref(), &fallback, part)?
        }
    };
    let bar = meter.bytes(&save.path().file_name().unwrap_or_default().to_string_lossy(), answer.content_length());
    let received = tokio::select! {
        received = receive(answer, &mut save, &bar) => received,
        // Ends here and not in the signal's default, so that what was begun is removed.
        _ = tokio::signal::ctrl_c() => Err(interrupted().into()),
    };
    let size = received?;
    let path = save.path().to_owned();
    save.finish()?;
    drop(bar);
    written(global, &path, size)
}

/// Tells of a file that was written.
fn written(global: &Global, path: &Path, bytes: u64) -> anyhow::Result<()> {
    match global.json {
        true => output::object(&json!({ "path": path, "bytes": bytes })),
        false => output::fields(&[&path.display().to_string(), &output::size(bytes)]),
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
async fn receive(answer: reqwest::Response, save: &mut Save, bar: &Bar) -> anyhow::Result<u64> {
    let mut body = answer.bytes_stream();
    let mut size = 0;
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(broken)?;
        save.write(&bytes)?;
        size += bytes.len() as u64;
        bar.add(bytes.len() as u64);
    }
    Ok(size)
}

fn interrupted() -> Failure {
    Failure::new(Status::Failed, "interrupted", "interrupted, nothing was written", "run it again for the whole")
}

/// Writes a body to standard output; to a terminal as long as it is text, or by `force`.
async fn print_body(answer: reqwest::Response, meter: Meter, force: bool) -> anyhow::Result<()> {
    let mut out = tokio::io::stdout();
    let terminal = std::io::stdout().is_terminal();
    // Bytes and a bar on one terminal would spoil each other.
    let bar = (!terminal).then(|| meter.bytes("", answer.content_length()));
    let mut screen = (terminal && !force).then(Screen::default);
    let mut body = answer.bytes_stream();
    while let Some(bytes) = body.next().await {
        let bytes = bytes.map_err(broken)?;
        let written = match &mut screen {
            Some(screen) => out.write_all(screen.take(&bytes)?.as_bytes()).await,
            None => out.write_all(&bytes).await,
        };
        written.context("write to standard output")?;
        if let Some(bar) = &bar {
            bar.add(bytes.len() as u64);
        }
    }
    out.flush().await.context("write to standard output")?;
    Ok(screen.map_or(Ok(()), Screen::end)?)
}

/// The body ended early: the node found damage, or went away.
fn broken(error: reqwest::Error) -> Failure {
    let message = format!("the content broke off: {error}");
    Failure::new(Status::Integrity, "broken_off", message, "try again; another node may serve it")
}

/// Replicates a stored group, or prints the plan.
pub(crate) async fn publish(global: &Global, args: Publish) -> anyhow::Result<ExitCode> {
    let client = Client::new(global)?;
    let mut query = vec![("dry_run", args.dry_run.to_string()), ("timeout", query_duration(args.timeout))];
    query.extend(args.replicas.map(|count| ("replicas", count.to_string())));
    query.extend(args.mode.map(|mode| match mode {
        PublishMode::Quorum => ("mode", "quorum".to_owned()),
        PublishMode::All => ("mode", "all".to_owned()),
    }));
    let meter = Meter::new(global);
    if meter.is_shown() {
        query.push(("wait", WaitFor::Stored.as_str().to_owned()));
    }
    let key = lookup::group(&client, args.id).await?;
    let request = client.request(Method::POST, &format!("content/{key}/publish")).query(&query);
    if args.dry_run {
        let plan: PlanView = client.json(request).await?;
        if global.json {
            output::object(&plan)?
        } else {
            print_plan(&plan)?
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut view: GroupView = client.json(request).await?;
    if meter.is_shown() {
        let name = view.filename.clone().unwrap_or_default();
        view = watch(&client, view, (WaitFor::Durable, args.timeout), (meter, &name)).await?;
    }
    if global.json {
        output::object(&view)?
    } else {
        print_group(&view)?;
        if view.wait_result == Some(WaitResult::Contested) {
            output::fields(&[CONTESTED])?;
        }
        print_rest(&client, &view).await?;
    }
    Ok(wait_status(view.wait_result, WaitFor::Durable).map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// Gives a group another preview, in its next version.
pub(crate) async fn preview(global: &Global, args: Preview) -> anyhow::Result<ExitCode> {
    local::readable(&args.file)?;
    let client = Client::new(global)?;
    let key = lookup::group(&client, args.id).await?;
    let bytes = tokio::fs::read(&args.file).await.with_context(|| format!("read {}", args.file.display()))?;
    let filename = args.file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let query = [("type", "preview".to_owned()), ("filename", filename), ("timeout", query_duration(args.timeout))];
    let request = client.request(Method::POST, &format!("content/{key}/relationships")).query(&query).body(bytes);
    let view: GroupView = client.json(request).await?;
    if global.json {
        output::object(&view)?
    } else {
        print_group(&view)?;
        print_rest(&client, &view).await?;
    }
    Ok(wait_status(view.wait_result, WaitFor::Durable).map_or(ExitCode::SUCCESS, ExitCode::from))
}

/// A plan for people.
fn print_plan(plan: &PlanView) -> anyhow::Result<()> {
    let PlanView { group_id, slot, quorum, replicas, mode, eligible, .. } = plan;
    output::fields(&[
        &format!("group {group_id}"),
        &format!("slot {slot}"),
        &format!("mode {mode}: success with {quorum} of {replicas}, {eligible} nodes may hold it"),
    ])?;
    let rows: Vec<Vec<String>> = plan
        .targets
        .iter()
        .map(|target| {
            let states: Vec<&str> = target.states.iter().map(|state| state.as_str()).collect();
            let held = if target.held { format!("yes ({})", target.known_by) } else { "no".to_owned() };
            vec![
                id(&target.node_id),
                format!("{}/{}", target.region, target.zone),
                states.join(","),
                held,
                output::size(target.bytes),
                target.why.clone(),
            ]
        })
        .collect();
    const COLUMNS: [Column; 6] = [
        Column::key("TARGET"),
        Column::fact("ZONE"),
        Column::fact("STATES"),
        Column::extra("HELD"),
        Column::fact("TO SEND"),
        Column::text("WHY"),
    ];
    table(&COLUMNS, &rows)?;
    output::line(&format!("to send: {}", output::size(plan.bytes)))?;
    for warning in &plan.warnings {
        output::fields(&[&format!("warning ({}): {}", warning.code, warning.message)])?;
    }
    Ok(())
}

/// Writes a certificate.
pub(crate) async fn cert(global: &Global, args: Cert) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let key = lookup::group(&client, args.id).await?;
    let request = client.request(Method::GET, &format!("content/{key}/certificate"));
    let bytes = client.send(request).await?.bytes().await.context("read the certificate")?;
    hand_out(global, &args.output.output, &bytes)
}

/// Hands out a small file: to where it was asked for, or within an object if that is standard output and for programs.
pub(super) fn hand_out(global: &Global, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let stdout = path == Path::new("-");
    if !(stdout && global.json) {
        write_output(path, bytes)?;
    }
    match (global.json, stdout) {
        (false, true) => Ok(()),
        (_, false) => written(global, path, bytes.len() as u64),
        (true, true) => output::object(&json!({ "bytes": bytes.len(), "hex": hex::encode(bytes) })),
    }
}

/// Writes bytes to a file, replaced whole, or to standard output.
pub(super) fn write_output(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if path == Path::new("-") {
        output::refuse_on_terminal("what this command writes")?;
        return std::io::stdout().write_all(bytes).context("write to standard output");
    }
    let mut save = Save::at(path)?;
    save.write(bytes)?;
    save.finish()
}
