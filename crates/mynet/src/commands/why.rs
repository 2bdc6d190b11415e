//! `why` and `history`: where a group is and why, and what happened on the way.

use std::collections::BTreeMap;

use mynet_node::view::{CopyView, LogView, ReasonView, WhyView};
use mynet_types::NodeId;

use super::lookup;
use crate::{
    args::{Global, Key},
    client::Client,
    output::{self, Column, id, table},
};

/// Lines of the log that `why` prints; `history` prints them all.
const NEWEST: usize = 8;
/// Columns of the word that says what a line is about.
const LABEL: usize = 11;

/// Explains where a group is.
pub(crate) async fn why(global: &Global, args: Key) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let key = lookup::group(&client, args.id).await?;
    let view: WhyView = client.get(&format!("content/{key}/why")).await?;
    if global.json {
        return output::object(&view);
    }
    output::line(&format!("group      {}", view.group_id))?;
    for sentence in &view.summary {
        output::indented(LABEL, &[&format!("{:LABEL$}{sentence}", "")])?;
    }
    let (slot, readers) = (view.placement.slot, &view.decrypted);
    let granted: Vec<String> = readers.granted.iter().map(id).collect();
    let granted = if granted.is_empty() { String::new() } else { format!(": {}", granted.join(", ")) };
    output::line(&format!(
        "placement  slot {slot}, {} copies wanted, durable with {}",
        view.replicas_wanted, view.quorum
    ))?;
    output::indented(LABEL, &[&format!("decrypted  {}{granted}", readers.class)])?;
    output::line("")?;
    const COLUMNS: [Column; 5] = [
        Column::key("NODE"),
        Column::extra("ZONE"),
        Column::text("PLACEMENT"),
        Column::text("COPY"),
        Column::text("VOTE"),
    ];
    table(&COLUMNS, &rows(&view))?;
    let skipped = view.log.len().saturating_sub(NEWEST);
    if !view.log.is_empty() {
        output::line(&format!("\nlast of {} lines that node {} noted:", view.log.len(), id(&view.node_id)))?;
    }
    for line in view.log.iter().skip(skipped) {
        output::indented(4, &[&format!("  {}", line.last), &about(line)])?;
    }
    Ok(())
}

/// Prints the log of a group in the order of time.
pub(crate) async fn history(global: &Global, args: Key) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let key = lookup::group(&client, args.id).await?;
    let view: WhyView = client.get(&format!("content/{key}/why")).await?;
    if global.json {
        return output::object(&view.log);
    }
    for line in &view.log {
        output::fields(&[&line.last.to_string(), &format!("{:28}", line.reason.code), &about(line)])?;
    }
    Ok(())
}

/// One row per node that has anything to do with the group.
fn rows(view: &WhyView) -> Vec<Vec<String>> {
    let mut nodes: Vec<NodeId> = view.placement.candidates.iter().map(|candidate| candidate.node_id).collect();
    let others = view.copies.iter().map(|copy| copy.node_id).chain(view.seats.iter().map(|seat| seat.node_id));
    for node in others {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    let votes: BTreeMap<NodeId, String> = view
        .seats
        .iter()
        .map(|seat| {
            let silent = || seat.hindered_by.as_ref().map_or("not heard of".to_owned(), |reason| reason.code.clone());
            (seat.node_id, seat.said.as_ref().map_or_else(silent, vote))
        })
        .collect();
    let row = |node: NodeId| {
        let candidate = view.placement.candidates.iter().find(|candidate| candidate.node_id == node);
        let copy = view.copies.iter().find(|copy| copy.node_id == node);
        vec![
            id(&node),
            candidate.map_or(String::new(), |candidate| format!("{}/{}", candidate.region, candidate.zone)),
            candidate.map_or("not admitted".to_owned(), |candidate| match candidate.rank {
                Some(rank) if candidate.chosen => format!("chosen, rank {rank}"),
                Some(rank) => format!("rank {rank}: {}", candidate.reason.says),
                None => candidate.reason.says.clone(),
            }),
            copy.map_or("-".to_owned(), copy_words),
            votes.get(&node).cloned().unwrap_or_else(|| "-".to_owned()),
        ]
    };
    nodes.into_iter().map(row).collect()
}

/// How far one copy is.
fn copy_words(copy: &CopyView) -> String {
    let states: Vec<&str> = copy.states.iter().map(|state| state.as_str()).collect();
    let mut words = format!("{} ({})", copy.state, states.join(","));
    for reason in copy.hindered_by.iter().chain(&copy.last_refusal) {
        words += &format!(", {}", reason.code);
    }
    if let Some(seconds) = copy.next_try_seconds {
        words += &format!(", next try in {seconds} s");
    }
    words
}

/// A vote in a few words.
fn vote(said: &ReasonView) -> String {
    match said.code.as_str() {
        "vote_accept" => "yes".to_owned(),
        _ => said.says.trim_start_matches("it ").to_owned(),
    }
}

/// What a line of the log says.
fn about(line: &LogView) -> String {
    let peer = line.node_id.as_ref().map(|node| format!("{}: ", id(node))).unwrap_or_default();
    let number = match (line.value, line.unit.as_deref()) {
        (Some(value), Some("bytes")) => format!(", {}", output::size(value)),
        (Some(value), Some(unit)) => format!(", {unit} {value}"),
        _ => String::new(),
    };
    let times = if line.count > 1 { format!(" ({} times since {})", line.count, line.first) } else { String::new() };
    format!("{peer}{}{number}{times}", line.reason.says)
}
