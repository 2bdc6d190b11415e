//! Commands about the node, its peers and its keys.

use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use mynet_node::{
    govern::RosterDetailView,
    view::{
        FindOutcome, FindView, InviteView, Page, PeerState, PeerView, ReplicationCounts, RosterView, StatusView,
        TokenView,
    },
};
use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{content::hand_out, lookup};
use crate::{
    args::{Find, Global, Invite, Node, Output, Peers, ScopeArg},
    client::Client,
    output::{self, Column, Status, id, plain, table},
};

/// Columns of the word that says what a line is about.
const LABEL: usize = 10;

/// Makes a ticket.
pub(crate) async fn invite(global: &Global, args: Invite) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let roles: Vec<&str> = args.role.words().collect();
    let body = json!({ "roles": roles, "trusted": args.trusted, "expires": args.expires.as_secs(), "uses": args.uses });
    let invite: InviteView = client.json(client.request(Method::POST, "invites").json(&body)).await?;
    if global.json { output::object(&invite) } else { output::line(&invite.ticket) }
}

/// Writes the genesis file.
pub(crate) async fn genesis(global: &Global, args: Output) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let answer = client.send(client.request(Method::GET, "genesis")).await?;
    hand_out(global, &args.output, &answer.bytes().await.context("read the genesis")?)
}

/// Shows the node.
pub(crate) async fn status(global: &Global) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let status: StatusView = client.get("status").await?;
    if global.json {
        return output::object(&status);
    }
    output::line(&format!("node      {}", status.node_id))?;
    output::line(&format!("network   {} ({})", plain(&status.network.name), id(&status.network.id)))?;
    let admitted = if status.admitted { "" } else { ", not admitted yet" };
    output::line(&format!("roles     {}{admitted}", status.roles.join(", ")))?;
    output::line(&format!("listens   api {}, peers {}", status.api, status.p2p))?;
    output::line(&format!("peers     {} alive, {} down", status.peers.alive, status.peers.down))?;
    let roster: RosterDetailView = client.get("roster").await?;
    output::indented(LABEL, &[&format!("roster    {}", roster_words(&roster))])?;
    let content = &status.content;
    output::line(&format!("content   {} groups, {}", content.groups, output::size(content.bytes)))?;
    let counts = &status.replication;
    output::line(&format!("copies    {}", copies_words(content.groups, counts)))?;
    // Groups of several of these kinds: a line of its own, so that nobody adds them up.
    match counts.at_risk {
        0 => Ok(()),
        at_risk => output::line(&format!("at risk   {at_risk} of these: fewer copies than replication.min_replicas")),
    }
}

/// Whether anything can be certified now, and by whom.
pub(super) fn roster_words(detail: &RosterDetailView) -> String {
    let RosterView { epoch, quorum, .. } = detail.roster;
    let (seats, alive) = (detail.seats.len(), detail.seats.iter().filter(|seat| seat.alive).count());
    let validators = if seats == 1 { "1 validator".to_owned() } else { format!("{seats} validators") };
    match (quorum, seats - alive) {
        (0, _) => format!("epoch {epoch}, {validators}: too few, nothing is certified before there are 3"),
        (_, 0) => format!("epoch {epoch}, {validators}, {quorum} votes certify"),
        (_, away) if alive >= quorum => {
            format!("epoch {epoch}, {validators}, {away} of them cannot be reached, {quorum} votes certify")
        }
        _ => format!(
            "epoch {epoch}, {validators}: nothing is certified now, {alive} can be reached and {quorum} must vote"
        ),
    }
}

/// Every group once, by how far its copies are.
fn copies_words(groups: u64, counts: &ReplicationCounts) -> String {
    let ReplicationCounts { replicated, degraded, pending, failed, at_risk: _ } = *counts;
    let published = replicated + degraded + pending + failed;
    let mut words = format!("{replicated} replicated, {degraded} degraded, {pending} pending");
    // What is rare is told when it is there.
    for (count, kind) in [(failed, "failed"), (groups.saturating_sub(published), "not published")] {
        if count > 0 {
            words += &format!(", {count} {kind}");
        }
    }
    words
}

/// Every item of a list, page by page.
pub(super) async fn all<T: DeserializeOwned>(client: &Client, path: &str) -> anyhow::Result<Vec<T>> {
    let (mut items, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let query: Vec<_> = cursor.take().into_iter().map(|cursor| ("cursor", cursor)).collect();
        let page: Page<T> = client.json(client.request(Method::GET, path).query(&query)).await?;
        items.extend(page.items);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(items);
        }
    }
}

/// Shows peers.
pub(crate) async fn peers(global: &Global, args: Peers) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    if let Some(node) = args.node {
        let peer: PeerView = client.get(&format!("peers/{}", lookup::peer(&client, node).await?)).await?;
        return if global.json { output::object(&peer) } else { print_peer(&peer) };
    }
    let peers: Vec<PeerView> = all(&client, "peers").await?;
    if global.json {
        return output::object(&peers);
    }
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            let [state, trusted, rtt] = peer_words(peer);
            vec![id(&peer.node_id), state, peer.zone.clone(), peer.roles.join(","), trusted, rtt]
        })
        .collect();
    const COLUMNS: [Column; 6] = [
        Column::key("NODE"),
        Column::fact("STATE"),
        Column::fact("ZONE"),
        Column::text("ROLES"),
        Column::fact("TRUSTED"),
        Column::extra("RTT"),
    ];
    table(&COLUMNS, &rows)
}

/// Whether a peer is reached and trusted, and how far away it is.
fn peer_words(peer: &PeerView) -> [String; 3] {
    let state = if peer.state == PeerState::Alive { "alive" } else { "down" };
    let trusted = if peer.trusted { "yes" } else { "no" };
    let rtt = peer.rtt_ms.map(|rtt| format!("{rtt:.1} ms")).unwrap_or_default();
    [state.to_owned(), trusted.to_owned(), rtt]
}

/// One peer with its whole id, which `trust` wants.
fn print_peer(peer: &PeerView) -> anyhow::Result<()> {
    let [state, trusted, rtt] = peer_words(peer);
    output::line(&format!("node      {}", peer.node_id))?;
    output::line(&format!("state     {state}  {rtt}"))?;
    output::line(&format!("stands    {}/{}", plain(&peer.region), plain(&peer.zone)))?;
    output::line(&format!("roles     {}", plain(&peer.roles.join(", "))))?;
    output::line(&format!("trusted   {trusted}"))
}

/// Trusts a node, or no longer.
pub(crate) async fn trust(global: &Global, args: Node, verb: &str) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let request = client.request(Method::POST, &format!("peers/{}/{verb}", args.node));
    let peer: PeerView = client.json(request).await?;
    if global.json {
        return output::object(&peer);
    }
    let trusted = if peer.trusted { "trusted" } else { "not trusted" };
    output::line(&format!("{} is {trusted}", peer.node_id))
}

/// Finds a hash: status 0 found, 3 not found, 4 unknown.
pub(crate) async fn find(global: &Global, args: Find) -> anyhow::Result<ExitCode> {
    let found: FindView = Client::new(global)?.get(&format!("find/{}", args.hash)).await?;
    if global.json {
        output::object(&found)?;
    } else {
        let rows = found.providers.iter().map(|provider| {
            let states: Vec<&str> = provider.states.iter().map(|state| state.as_str()).collect();
            vec![id(&provider.node_id), states.join(",")]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if !rows.is_empty() {
            table(&[Column::key("NODE"), Column::text("STATES")], &rows)?;
        }
        match found.outcome {
            FindOutcome::Found => {}
            FindOutcome::NotFound => output::line("nobody has it")?,
            FindOutcome::Unknown => {
                let words = "unknown: not every node could be asked; `mynet peers` shows which are down, ask again when they are back";
                output::fields(&[words])?;
            }
        }
    }
    Ok(match found.outcome {
        FindOutcome::Found => ExitCode::SUCCESS,
        FindOutcome::NotFound => Status::NotFound.into(),
        FindOutcome::Unknown => Status::Undecided.into(),
    })
}

/// Makes an API key.
pub(crate) async fn token_create(
    global: &Global,
    name: &str,
    scope: ScopeArg,
    expires: Option<Duration>,
) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let scope = match scope {
        ScopeArg::Read => "read",
        ScopeArg::Write => "write",
        ScopeArg::Admin => "admin",
    };
    let mut body = json!({ "name": name, "scope": scope });
    if let (Some(expires), Some(object)) = (expires, body.as_object_mut()) {
        object.insert("expires".to_owned(), json!(expires.as_secs()));
    }
    let token: TokenView = client.json(client.request(Method::POST, "auth/tokens").json(&body)).await?;
    if global.json { output::object(&token) } else { output::line(&token.token.unwrap_or_default()) }
}

/// Lists API keys.
pub(crate) async fn token_ls(global: &Global) -> anyhow::Result<()> {
    let tokens: Vec<TokenView> = all(&Client::new(global)?, "auth/tokens").await?;
    if global.json {
        return output::object(&tokens);
    }
    let rows: Vec<Vec<String>> = tokens
        .iter()
        .map(|token| {
            let expires = token.expires.map_or_else(|| "never".to_owned(), |at| at.to_string());
            let scope = format!("{:?}", token.scope).to_lowercase();
            vec![token.id.clone(), token.name.clone(), scope, token.created_at.to_string(), expires]
        })
        .collect();
    const COLUMNS: [Column; 5] = [
        Column::key("ID"),
        Column::text("NAME"),
        Column::fact("SCOPE"),
        Column::extra("CREATED"),
        Column::fact("EXPIRES"),
    ];
    table(&COLUMNS, &rows)
}

/// Revokes an API key.
pub(crate) async fn token_revoke(global: &Global, id: &str) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    client.send(client.request(Method::DELETE, &format!("auth/tokens/{id}"))).await?;
    if global.json {
        output::object(&json!({ "id": id, "revoked": true }))
    } else {
        output::line(&format!("{id} is revoked"))
    }
}

#[cfg(test)]
mod tests {
    use mynet_node::{govern::RosterDetailView, view::ReplicationCounts};
    use serde_json::json;

    use super::{copies_words, roster_words};

    #[test]
    fn the_roster_says_when_nothing_can_be_certified() {
        let told = |quorum: usize, alive: &[bool]| {
            let key = "0".repeat(64);
            let seat = |alive: &bool| json!({ "node_id": key, "vote_key": key, "alive": alive, "accused": false });
            let seats: Vec<_> = alive.iter().map(seat).collect();
            let detail = json!({
                "epoch": 2, "validators": [], "quorum": quorum, "hash": key, "tolerates": 0, "seats": seats,
                "waiting": [], "votes": true, "recoveries": [],
            });
            roster_words(&serde_json::from_value::<RosterDetailView>(detail).unwrap())
        };
        for (quorum, alive, want) in [
            (0, [true].as_slice(), "epoch 2, 1 validator: too few, nothing is certified before there are 3"),
            (3, &[true, true, true, true], "epoch 2, 4 validators, 3 votes certify"),
            (3, &[true, true, true, false], "epoch 2, 4 validators, 1 of them cannot be reached, 3 votes certify"),
            (
                3,
                &[true, true, false, false],
                "epoch 2, 4 validators: nothing is certified now, 2 can be reached and 3 must vote",
            ),
        ] {
            assert_eq!(told(quorum, alive), want);
        }
    }

    #[test]
    fn every_group_is_counted_once() {
        let counts = ReplicationCounts { replicated: 4, degraded: 1, pending: 2, failed: 0, at_risk: 2 };
        assert_eq!(copies_words(7, &counts), "4 replicated, 1 degraded, 2 pending");
        let counts = ReplicationCounts { failed: 1, ..counts };
        assert_eq!(copies_words(11, &counts), "4 replicated, 1 degraded, 2 pending, 1 failed, 3 not published");
    }
}
