//! What a short id stands for.
//!
//! Tables on a terminal show the beginnings of ids, so commands that only look take them back. Whatever changes who may do what, or
//! takes something away (`trust`, `roster approve`, `rm`), wants the whole id: a beginning can be made by trying, on purpose.

use mynet_node::view::{GroupView, PeerView};

use super::network::all;
use crate::{
    args::is_beginning,
    client::Client,
    output::{Failure, Status},
};

/// The one of `ids` that begins with `short`.
fn only(what: &str, short: &str, ids: impl IntoIterator<Item = String>) -> Result<String, Failure> {
    let mut found = ids.into_iter().filter(|id| id.starts_with(short));
    match (found.next(), found.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => {
            let message = format!("several {what}s begin with {short}");
            Err(Failure::new(Status::Usage, "ambiguous_id", message, "give more digits"))
        }
        (None, _) => {
            let message = format!("no {what} that this node lists begins with {short}");
            let hint = format!("`mynet {}` lists them; give the whole id of what only other nodes know", list_of(what));
            Err(Failure::new(Status::NotFound, "not_found", message, hint))
        }
    }
}

/// The command that lists groups, or peers.
fn list_of(what: &str) -> &'static str {
    if what == "peer" { "peers" } else { "ls" }
}

/// What names a group in a path: as it was given, or the id whose beginning was.
pub(super) async fn group(client: &Client, given: String) -> anyhow::Result<String> {
    if !is_beginning(&given) {
        return Ok(given);
    }
    let groups: Vec<GroupView> = all(client, "content").await?;
    Ok(only("group", &given, groups.iter().map(|group| group.group_id.to_string()))?)
}

/// The peer with an id, or with the only one that begins so.
pub(super) async fn peer(client: &Client, given: String) -> anyhow::Result<String> {
    if !is_beginning(&given) {
        return Ok(given);
    }
    let peers: Vec<PeerView> = all(client, "peers").await?;
    Ok(only("peer", &given, peers.iter().map(|peer| peer.node_id.to_string()))?)
}

#[cfg(test)]
mod tests {
    use super::only;
    use crate::output::Status;

    #[test]
    fn only_one_id_may_begin_so() {
        let ids = || ["ab12", "ab34", "cd56"].map(str::to_owned);
        assert_eq!(only("group", "c", ids()).unwrap(), "cd56");
        assert_eq!(only("group", "ab", ids()).unwrap_err().status, Status::Usage);
        assert_eq!(only("group", "ef", ids()).unwrap_err().status, Status::NotFound);
    }
}
