//! Commands that take things away and put things right: rm, gc.

use mynet_node::view::{DeletionView, GarbageView};
use reqwest::Method;

use crate::{
    args::{Care, Global, Rm},
    client::Client,
    output,
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
