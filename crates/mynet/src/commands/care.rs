//! Commands that take things away and put things right: rm, gc, doctor.

use std::process::ExitCode;

use mynet_node::{
    config::Config,
    doctor::{self, ExamineError},
    setup,
    view::{DeletionView, DoctorView, GarbageView},
};
use reqwest::Method;

use super::node::{bad_settings, not_opened};
use crate::{
    args::{Care, Global, Rm},
    client::{Client, query_duration},
    local,
    output::{self, Failure, Status},
};

/// Deletes a group. Holders that are silent are listed and no failure: they are told until they confirm.
pub(crate) async fn rm(global: &Global, args: Rm) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let timeout = query_duration(args.timeout);
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

/// Asks the running node to look at everything.
async fn ask_doctor(global: &Global, dry_run: bool) -> anyhow::Result<DoctorView> {
    let client = Client::new(global)?;
    client.json(client.request(Method::POST, "doctor").query(&[("dry_run", dry_run)])).await
}

/// Looks at the directory of a node that does not answer; `why` it does not, if there is no such directory.
async fn doctor_of_directory(global: &Global, dry_run: bool, why: anyhow::Error) -> anyhow::Result<DoctorView> {
    let dir = local::data_dir(global)?;
    if !setup::holds_node(&dir) {
        return Err(why);
    }
    let config = Config::load(&dir, &toml::Table::new()).map_err(|error| bad_settings(&error))?;
    let view = doctor::examine(&dir, config, dry_run).await.map_err(|error| match error {
        ExamineError::Runs(error) => {
            let hint = "wait until it serves, or stop it and run `mynet doctor` again";
            Failure::new(Status::Unreachable, "node_busy", format!("the node does not answer: {error}"), hint).into()
        }
        ExamineError::Open(error) => not_opened(&dir, "cannot be looked at", &error).into(),
        ExamineError::Look(error) => anyhow::Error::new(error).context(format!("look at {}", dir.display())),
    })?;
    if !global.json {
        output::line(&format!("the node does not run; looked at {}", dir.display()))?;
    }
    Ok(view)
}

/// Looks at everything; what stays wrong is an integrity failure. Whoever names an API means that node and no other.
pub(crate) async fn doctor(global: &Global, args: Care) -> anyhow::Result<ExitCode> {
    let silent = |error: &anyhow::Error| {
        error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == Status::Unreachable)
    };
    let view = match ask_doctor(global, args.dry_run).await {
        Err(error) if global.api.is_none() && silent(&error) => {
            doctor_of_directory(global, args.dry_run, error).await?
        }
        asked => asked?,
    };
    let status = if view.found > view.repaired { Status::Integrity.into() } else { ExitCode::SUCCESS };
    if global.json {
        output::object(&view)?;
        return Ok(status);
    }
    let DoctorView { groups, blobs, files, found, repaired, findings, .. } = view;
    output::line(&format!("{groups} groups, {blobs} blobs, {files} files: {found} findings, {repaired} put right"))?;
    for finding in findings {
        let state = if finding.repaired { "repaired" } else { "open" };
        output::fields(&[&format!("{state:8}"), &finding.code, &finding.id, &finding.message])?;
    }
    Ok(status)
}
