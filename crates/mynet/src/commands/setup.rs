//! `init` and `join`: make a data directory.

use std::{io::ErrorKind, path::Path};

use mynet_node::setup::{self, Prepared, SetupError, SetupOptions};
use serde_json::json;

use crate::{
    args::{Global, Init, Join, Setup},
    local,
    output::{self, Failure, Status},
};

/// Founds a network.
pub(crate) async fn init(global: &Global, args: Init) -> anyhow::Result<()> {
    let dir = local::data_dir(global)?;
    let prepared = setup::found(&dir, &args.network, args.allow_degraded_quorum, &options(args.setup)).await;
    let prepared = prepared.map_err(failure)?;
    tell(global, &dir, &prepared)?;
    if !global.json {
        let recovery = dir.join("recovery");
        output::line(&format!("Move the three keys in {} to three safe places: two of them", recovery.display()))?;
        output::line("can replace the validators if they are ever stuck.")?;
        output::line("Start the node with `mynet run`, invite others with `mynet invite`.")?;
    }
    Ok(())
}

/// Joins a network.
pub(crate) async fn join(global: &Global, args: Join) -> anyhow::Result<()> {
    let dir = local::data_dir(global)?;
    let prepared = setup::join(&dir, &args.ticket, &options(args.setup)).await.map_err(failure)?;
    tell(global, &dir, &prepared)?;
    if !global.json {
        output::line("Start the node with `mynet run`: it redeems the ticket.")?;
    }
    Ok(())
}

/// The options as the node library takes them.
fn options(setup: Setup) -> SetupOptions {
    let Setup { region, zone, role, capacity, api_listen, p2p_listen } = setup;
    SetupOptions { region, zone, roles: role, capacity, api_listen, p2p_listen }
}

/// Says what was made.
fn tell(global: &Global, dir: &Path, prepared: &Prepared) -> anyhow::Result<()> {
    let Prepared { node_id, network_id } = prepared;
    if global.json {
        return output::object(&json!({ "node_id": node_id, "network_id": network_id, "data_dir": dir }));
    }
    output::line(&format!("node     {node_id}"))?;
    output::line(&format!("network  {network_id}"))?;
    output::line(&format!("in       {}", dir.display()))
}

/// Exit status and hint of a refused set-up.
fn failure(error: SetupError) -> anyhow::Error {
    let (status, code, hint) = match &error {
        SetupError::HoldsNode(_) => (
            Status::Failed,
            "used_data_dir",
            "`mynet run` starts it; for another node name another directory with --data-dir",
        ),
        SetupError::UsedDirectory { .. } => {
            (Status::Failed, "used_data_dir", "name an empty directory, or one that is not there yet, with --data-dir")
        }
        SetupError::Begun(_) => (Status::Failed, "used_data_dir", "wait for it, or name another with --data-dir"),
        SetupError::Runs(_) => (
            Status::Failed,
            "data_dir_in_use",
            "an admitted node needs no ticket, see `mynet status`; else stop it and join again, or name another directory with --data-dir",
        ),
        SetupError::Member { .. } => (
            Status::Failed,
            "already_member",
            "it needs no ticket: start it with `mynet run`; for another node name another directory with --data-dir",
        ),
        SetupError::OtherNetwork(_) => (Status::Failed, "other_network", "name another directory with --data-dir"),
        SetupError::HasSettings(_) => (Status::Usage, "has_settings", "leave the other flags out; edit config.toml"),
        SetupError::Ticket(_) => (Status::Usage, "bad_ticket", "ask for a new one: `mynet invite` prints it"),
        SetupError::NoName => (Status::Usage, "no_name", "give it one: --network NAME"),
        SetupError::Text { .. } => (Status::Usage, "too_long", "shorten it"),
        SetupError::Roles => (Status::Usage, "roles_not_invited", "ask for another ticket, or take fewer roles"),
        SetupError::Io { source, .. } if source.kind() == ErrorKind::NotADirectory => (
            Status::Failed,
            "used_data_dir",
            "something in this path is a file: name another directory with --data-dir",
        ),
        SetupError::Keys(_) | SetupError::Votes(_) | SetupError::Meta(_) | SetupError::Io { .. } => {
            (Status::Failed, "failed", "check the disk and the permissions of the directory")
        }
    };
    Failure::new(status, code, error.to_string(), hint).into()
}
