//! Commands about validators: the roster, approvals, evidence, open proposals.

use std::process::ExitCode;

use mynet_node::{
    govern::{EvidenceView, ProposalView, RosterDetailView},
    view::OutcomeView,
};
use reqwest::Method;

use super::{
    lookup,
    network::{all, roster_words},
    recover,
};
use crate::{
    args::{ClaimWanted, Global, Propose, Roster},
    client::{Client, query_duration},
    output::{self, Column, Meter, Status, id, table},
};

/// Shows the roster, approves a node for it, or goes a step of its recovery.
pub(crate) async fn roster(global: &Global, args: Roster) -> anyhow::Result<()> {
    match args {
        Roster::Show => {
            let roster: RosterDetailView = Client::new(global)?.get("roster").await?;
            if global.json { output::object(&roster) } else { show(&roster) }
        }
        Roster::Approve(args) => {
            let client = Client::new(global)?;
            let request = client.request(Method::POST, &format!("roster/{}/approve", args.node));
            let roster: RosterDetailView = client.json(request).await?;
            if global.json {
                return output::object(&roster);
            }
            let node = args.node;
            output::line(&format!("{node} is approved here; it gets a seat once a quorum of operators approved it"))
        }
        Roster::Recover(step) => recover::recover(global, step).await,
    }
}

fn show(roster: &RosterDetailView) -> anyhow::Result<()> {
    output::fields(&[&roster_words(roster)])?;
    output::line(&format!("bad validators tolerated: {}", roster.tolerates))?;
    if let Some(epoch) = roster.recoveries.last() {
        output::line(&format!("epoch {epoch} was begun by the recovery keys"))?;
    }
    let word = |holds: bool, word: &str| if holds { word.to_owned() } else { String::new() };
    let seats = roster.seats.iter().map(|seat| {
        let reach = if seat.alive { "alive" } else { "down" };
        vec![id(&seat.node_id), "seat".to_owned(), reach.to_owned(), word(seat.accused, "contradicted itself")]
    });
    let waiting = roster.waiting.iter().map(|node| {
        let reach = if node.alive { "alive" } else { "down" };
        let words = [word(node.approved, "approved here"), word(node.accused, "contradicted itself once")];
        let words: Vec<String> = words.into_iter().filter(|word| !word.is_empty()).collect();
        vec![id(&node.node_id), "waits".to_owned(), reach.to_owned(), words.join(", ")]
    });
    const COLUMNS: [Column; 4] =
        [Column::key("NODE"), Column::fact("ROSTER"), Column::fact("STATE"), Column::text("NOTE")];
    table(&COLUMNS, &seats.chain(waiting).collect::<Vec<_>>())
}

/// Shows who signed two things that exclude each other.
pub(crate) async fn evidence(global: &Global) -> anyhow::Result<()> {
    let evidence: Vec<EvidenceView> = all(&Client::new(global)?, "evidence").await?;
    if global.json {
        return output::object(&evidence);
    }
    const COLUMNS: [Column; 4] =
        [Column::fact("WHO"), Column::key("KEY"), Column::text("ABOUT"), Column::text("SIGNED")];
    table(&COLUMNS, &evidence.iter().map(contradiction).collect::<Vec<_>>())
}

fn contradiction(evidence: &EvidenceView) -> Vec<String> {
    match evidence {
        EvidenceView::Validator { node_id, epoch, seat, statements, .. } => {
            let said = statements.iter().map(|said| format!("{} {}", said.verdict, id(&said.manifest_hash)));
            let said: Vec<String> = said.collect();
            vec!["validator".to_owned(), id(node_id), format!("epoch {epoch}, seat {seat}"), said.join(", ")]
        }
        EvidenceView::Owner { owner, group_id, version, manifests, .. } => {
            let signed: Vec<String> = manifests.iter().map(|signed| id(&signed.manifest_hash)).collect();
            let about = format!("group {}, version {version}", id(group_id));
            vec!["owner".to_owned(), id(owner), about, signed.join(", ")]
        }
    }
}

/// Shows what is being voted on.
pub(crate) async fn proposals(global: &Global) -> anyhow::Result<()> {
    let proposals: Vec<ProposalView> = all(&Client::new(global)?, "proposals").await?;
    if global.json {
        return output::object(&proposals);
    }
    let rows: Vec<Vec<String>> = proposals.iter().map(row).collect();
    table(&HEAD, &rows)
}

const HEAD: [Column; 4] =
    [Column::key("GROUP"), Column::fact("CLAIM"), Column::text("VOTES"), Column::text("ABSTAINED")];

fn row(proposal: &ProposalView) -> Vec<String> {
    let votes = format!("{} yes, {} no, {} needed", proposal.accepts, proposal.rejects, proposal.quorum);
    let silent: Vec<String> =
        proposal.abstained.iter().map(|abstained| format!("{} {}", id(&abstained.node_id), abstained.reason)).collect();
    vec![id(&proposal.group_id), proposal.claim.clone(), votes, silent.join(", ")]
}

/// Has a group certified, and tells what the validators said.
pub(crate) async fn propose(global: &Global, args: Propose) -> anyhow::Result<ExitCode> {
    let client = Client::new(global)?;
    let claim = match args.claim {
        ClaimWanted::Seen => "seen",
        ClaimWanted::Durable => "durable",
        ClaimWanted::Verified => "verified",
    };
    let query = [("claim", claim.to_owned()), ("timeout", query_duration(args.timeout))];
    let key = lookup::group(&client, args.id).await?;
    let request = client.request(Method::POST, &format!("content/{key}/propose")).query(&query);
    let spinner = Meter::new(global).spinner("the validators vote");
    let proposal: ProposalView = client.json(request).await?;
    drop(spinner);
    let (word, status) = match proposal.outcome {
        OutcomeView::Approved => ("certified", None),
        OutcomeView::Rejected => ("rejected", Some(Status::Failed)),
        OutcomeView::Pending | OutcomeView::Undecided => {
            ("undecided, votes are still collected", Some(Status::Undecided))
        }
        OutcomeView::NotEnoughValidators => ("too few validators to certify anything", Some(Status::Undecided)),
    };
    if global.json {
        output::object(&proposal)?;
    } else {
        table(&HEAD, &[row(&proposal)])?;
        output::line(word)?;
    }
    Ok(status.map_or(ExitCode::SUCCESS, ExitCode::from))
}
