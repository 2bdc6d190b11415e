//! Commands that take things away and put things right: rm, gc, doctor.

use std::process::ExitCode;

use mynet_node::view::{DeletionView, DoctorView, GarbageView};
use reqwest::Method;

use crate::{
    args::{Care, Global, Rm},
    client::Client,
    output::{self, Status},
};

/// Deletes a group. Holders that are silent are listed and no failure: they are told until they confirm.
pub(crate) async fn rm(global: &Global, args: Rm) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let timeout = humantime::format_duration(args.timeout).to_string().replace(' ', "");
    let request = client.request(Method::DELETE, &format!("content/{}", args.id)).query(&[("timeout", timeout)]);
    let deletion: DeletionView = client.json(request).await?;
    if global.json {
        return output::object(&deletion);
    }
    let DeletionView { group_id, deleted_at, confirmed, silent } = deletion;
    output::line(&format!("deleted {group_id} at {deleted_at}; {} holders confirmed", confirmed.len()))?;
    for node in silent {
        output::line(&format!("silent  {node}; it is told until it confirms"))?;
    }
    Ok(())
}

/// Frees what nothing keeps.
pub(crate) async fn gc(global: &Global, args: Care) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let request = client.request(Method::POST, "storage/gc").query(&[("dry_run", args.dry_run)]);
    let garbage: GarbageView = client.json(request).await?;
    if global.json {
        return output::object(&garbage);
    }
    let verb = if garbage.dry_run { "would free" } else { "freed" };
    output::line(&format!("{verb} {} blobs, {}", garbage.blobs, output::size(garbage.bytes)))?;
    for (keeper, count) in &garbage.kept {
        output::line(&format!("kept    {count} by {keeper}"))?;
    }
    Ok(())
}

/// Looks at everything; what stays wrong is an integrity failure.
pub(crate) async fn doctor(global: &Global, args: Care) -> anyhow::Result<ExitCode> {
    let client = Client::new(global)?;
    let request = client.request(Method::POST, "doctor").query(&[("dry_run", args.dry_run)]);
    let view: DoctorView = client.json(request).await?;
    let status = if view.found > view.repaired { Status::Integrity.into() } else { ExitCode::SUCCESS };
    if global.json {
        output::object(&view)?;
        return Ok(status);
    }
    let DoctorView { groups, blobs, files, found, repaired, findings, .. } = view;
    output::line(&format!("{groups} groups, {blobs} blobs, {files} files: {found} findings, {repaired} put right"))?;
    for finding in findings {
        let state = if finding.repaired { "repaired" } else { "open" };
        output::line(&format!("{state:8}  {}  {}  {}", finding.code, finding.id, finding.message))?;
    }
    Ok(status)
}
