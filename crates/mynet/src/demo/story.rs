//! The story of the demo: each step says what was promised and what happened, and fails if the promise does not hold.

use std::{path::Path, time::Instant};

use anyhow::{Context, ensure};
use mynet_node::view::{DeletionView, GroupView, Held, OperationView, StatusView, WaitResult};
use mynet_types::{CertificateFile, ContentHash, ContentState, GenesisFile, certificate};
use reqwest::{Method, Response, StatusCode};
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use super::{
    cluster::{Cluster, DemoNode, until},
    tour::Tour,
};
use crate::output::{Failure, Status, short, size};

/// Memory that a node may take, whatever the size of the file: nothing is ever held whole.
const MEMORY_MAX: u64 = 200 * 1024 * 1024;
/// The node that takes uploads.
const ORIGIN: usize = 0;
/// Where it is said where bytes came from.
const SOURCE: &str = "x-mynet-source";

/// Tells the story; an error is the first sentence that did not hold.
pub(super) async fn tell(cluster: &mut Cluster, nodes: usize, file: &Path, tour: &mut Tour) -> anyhow::Result<()> {
    let validators = nodes.min(4);
    form(cluster, (nodes, validators), tour).await?;
    let first = upload(cluster, file, tour).await?;
    copies(cluster, &first, tour).await?;
    let certified = votes(cluster, &first, tour).await?;
    check_certificate(cluster.node(ORIGIN)?, &certified, tour).await?;
    reading(cluster, &certified, tour).await?;
    public_sees(cluster.node(ORIGIN)?, &certified, tour).await?;
    let victim = holder(cluster, &certified)?;
    let second = loss(cluster, victim, (file, &certified), tour).await?;
    comeback(cluster, (victim, validators), &second, tour).await?;
    deletion(cluster, &second, tour).await?;
    memory(cluster, tour)
}

/// Nodes admit each other.
async fn form(cluster: &mut Cluster, (nodes, validators): (usize, usize), tour: &mut Tour) -> anyhow::Result<()> {
    tour.step(
        &format!("{nodes} nodes form a network"),
        "nobody gets in without a ticket; four validators go on without one of them.",
    )?;
    cluster.form(nodes).await?;
    cluster.formed(validators).await?;
    for node in &cluster.nodes {
        tour.tell(&format!("{}  {}  {}", node.name, short(&node.id), node.api))?;
        tour.node(json!({ "name": node.name, "node_id": node.id, "api": node.api, "data_dir": node.dir() }));
    }
    let status: StatusView = cluster.node(ORIGIN)?.client.get("status").await?;
    let quorum = status.roster.quorum;
    tour.tell(&format!(
        "{validators} of them are validators, in epoch {}; {quorum} of them certify",
        status.roster.epoch
    ))?;
    tour.number("nodes", nodes);
    tour.number("validators", validators);
    tour.number("quorum", quorum);
    tour.number("epoch", status.roster.epoch);
    Ok(())
}

/// One node takes a file.
async fn upload(cluster: &Cluster, file: &Path, tour: &mut Tour) -> anyhow::Result<GroupView> {
    let node = cluster.node(ORIGIN)?;
    let name = file.file_name().context("it has a name")?.to_string_lossy().into_owned();
    tour.step(
        &format!("{name} is uploaded to {}", node.name),
        "a file becomes one group of linked states, and a reader never sees a part of it.",
    )?;
    let view = send(node, file, tour).await?;
    tour.tell(&format!("group {}", view.group_id))?;
    for state in &view.states {
        let who = match state.state {
            ContentState::Encrypted => "what any storage node may keep",
            ContentState::Decrypted if state.held == Held::Derived => "a view for trusted nodes, never on disk",
            ContentState::Decrypted => "what everybody may read",
            ContentState::Preview => "what the public may see",
        };
        let (hash, bytes) = (state.hash.context("the origin knows every hash")?, state.file_size.unwrap_or(0));
        let word = state.state.as_str();
        tour.tell(&format!("{word:9}  {}..  {:>9}  {who}", hash_start(&hash), size(bytes)))?;
        tour.number(&format!("{word}_bytes"), bytes);
    }
    Ok(view)
}

/// Sends a file and waits for its certificate.
async fn send(node: &DemoNode, file: &Path, tour: &mut Tour) -> anyhow::Result<GroupView> {
    let started = Instant::now();
    let opened = tokio::fs::File::open(file).await.with_context(|| format!("open {}", file.display()))?;
    let bytes = opened.metadata().await.context("read its size")?.len();
    let name = file.file_name().context("it has a name")?.to_string_lossy().into_owned();
    let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(opened, 256 * 1024));
    let query = [("filename", name.as_str()), ("wait", "certified"), ("timeout", "120s")];
    let request = node.client.request(Method::POST, "content").query(&query).body(body);
    let view: GroupView = node.client.json(request).await?;
    ensure!(view.wait_result == Some(WaitResult::Certified), "the upload reached only {:?}", view.wait_result);
    let seconds = started.elapsed().as_secs_f64();
    tour.tell(&format!("{} received, copied and certified after {seconds:.2} s", size(bytes)))?;
    tour.number("bytes", bytes);
    tour.number("certified_after_seconds", seconds);
    Ok(view)
}

/// The copies exist, with their receipts.
async fn copies(cluster: &Cluster, view: &GroupView, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step(
        "It is replicated as a whole",
        "durable is said only when W nodes have verified every state by SHA-256 and fsynced it.",
    )?;
    let origin = cluster.node(ORIGIN)?;
    let settled = settle(origin, view).await?;
    let id = view.operation_id.as_deref().context("an upload has an operation")?;
    let done: OperationView = origin.client.get(&format!("operations/{id}")).await?;
    let peers: Vec<String> = settled.replicated_on_peers.iter().map(ToString::to_string).collect();
    // The origin's own bytes are a copy only if placement wants one there.
    let own = settled.replica_count > peers.len();
    let holds = |node: &&DemoNode| peers.contains(&node.id) || (own && node.id == origin.id);
    let names: Vec<&str> = cluster.nodes.iter().filter(holds).map(|node| node.name.as_str()).collect();
    let (have, need, wanted) = (names.len(), done.copies_needed, done.copies_wanted);
    tour.tell(&format!("{} nodes gave receipts: {}", names.len(), names.join(", ")))?;
    tour.tell(&format!("{need} make it durable (W), {wanted} are wanted (R)"))?;
    tour.tell(&format!("{} verified on other nodes", size(done.bytes_done)))?;
    tour.number("copies", have);
    tour.number("copies_needed", need);
    tour.number("copies_wanted", wanted);
    tour.number("bytes_copied", done.bytes_done);
    Ok(())
}

/// The validators said yes.
async fn votes(cluster: &Cluster, view: &GroupView, tour: &mut Tour) -> anyhow::Result<GroupView> {
    tour.step(
        "The validators certify it",
        "a decision is a quorum of signed votes; too few votes are undecided, never a rejection.",
    )?;
    let settled = settle(cluster.node(ORIGIN)?, view).await?;
    let consensus = &settled.consensus;
    tour.tell(&format!(
        "{} votes for, {} against, of {} validators; {} were needed",
        consensus.accepts, consensus.rejects, consensus.validators, consensus.quorum
    ))?;
    tour.number("accepts", consensus.accepts);
    tour.number("rejects", consensus.rejects);
    tour.number("quorum", consensus.quorum);
    Ok(settled)
}

/// Checks the certificate with nothing but the genesis; then that a changed byte does not pass.
async fn check_certificate(node: &DemoNode, view: &GroupView, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step("The certificate is checked offline", "anybody can check it with the genesis of the network alone.")?;
    let fetch = async |path: String| -> anyhow::Result<Vec<u8>> {
        let answer = node.client.send(node.client.request(Method::GET, &path)).await?;
        Ok(answer.bytes().await.context("read the answer")?.to_vec())
    };
    let bytes = fetch(format!("content/{}/certificate", view.group_id)).await?;
    let genesis = GenesisFile::decode(&fetch("genesis".to_owned()).await?).context("read the genesis")?;
    let file = CertificateFile::decode(&bytes).context("read the certificate")?;
    let verified = certificate::verify(&file, &genesis, false).context("verify the certificate")?;
    ensure!(verified.manifest_hash == view.manifest_hash, "the certificate is about another manifest");
    tour.tell(&format!(
        "{} of {} validators of epoch {} signed; {} other nodes gave receipts; {}",
        verified.signers.len(),
        file.chain.links.last().map_or(1, |link| link.roster.validators.len()),
        verified.epoch,
        verified.holders.len(),
        size(bytes.len() as u64),
    ))?;
    tour.number("certificate_bytes", bytes.len());
    let mut changed = bytes;
    let byte = changed.get_mut(100).context("a certificate has more than a hundred bytes")?;
    *byte ^= 1;
    let passes =
        CertificateFile::decode(&changed).is_ok_and(|file| certificate::verify(&file, &genesis, false).is_ok());
    ensure!(!passes, "a changed certificate passes");
    tour.tell("with one bit changed it is refused")
}

/// Every node serves every state.
async fn reading(cluster: &Cluster, view: &GroupView, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step("Every node serves every state", "whichever node is asked finds the bytes, and each was checked.")?;
    for node in cluster.running() {
        let sources = serves(node, view).await?;
        let from = if sources.iter().all(|source| source == "local") { "its own disk" } else { "the holders" };
        tour.tell(&format!("{} serves {} states with the right hashes, from {from}", node.name, view.states.len()))?;
    }
    tour.number("states", view.states.len());
    Ok(())
}

/// Without a key the public sees what it may.
async fn public_sees(node: &DemoNode, view: &GroupView, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step("Somebody without a key asks", "the public sees previews; plaintext is where its owner allows it.")?;
    let (mut seen, mut hidden) = (Vec::new(), Vec::new());
    for state in &view.states {
        let url = format!("{}/api/v1/content/{}/data?state={}", node.api, view.group_id, state.state);
        let status = reqwest::get(url).await.context("ask without a key")?.status();
        let may = state.state == ContentState::Preview || state.held == Held::Blob && view.states.len() == 1;
        let right = if may { StatusCode::OK } else { StatusCode::NOT_FOUND };
        ensure!(status == right, "{} was answered with {status}", state.state);
        if may { seen.push(state.state.as_str()) } else { hidden.push(state.state.as_str()) }
    }
    if !seen.is_empty() {
        tour.tell(&format!("it gets the {}", seen.join(" and the ")))?;
    }
    if !hidden.is_empty() {
        tour.tell(&format!(
            "asked for the {} the node says that there is no such thing (404)",
            hidden.join(" or the ")
        ))?;
    }
    tour.number("public_states", seen.len());
    Ok(())
}

/// A holder dies, and nothing is lost.
async fn loss(
    cluster: &mut Cluster,
    victim: usize,
    (file, view): (&Path, &GroupView),
    tour: &mut Tour,
) -> anyhow::Result<GroupView> {
    let name = cluster.node(victim)?.name.clone();
    tour.step(
        &format!("{name}, which holds a copy, is killed"),
        "what is durable is not lost with fewer than W of its holders, and the network goes on.",
    )?;
    cluster.kill(victim).await?;
    for node in cluster.running() {
        serves(node, view).await?;
    }
    let left = cluster.running().count();
    tour.tell(&format!("the {left} nodes that are left serve every state"))?;
    let second = send(cluster.node(ORIGIN)?, file, tour).await?;
    tour.tell(&format!("the same file again is group {}: a new key, other bytes", short(&second.group_id)))?;
    tour.number("nodes_left", left);
    Ok(second)
}

/// It comes back and gets what it missed.
async fn comeback(
    cluster: &mut Cluster,
    (victim, validators): (usize, usize),
    missed: &GroupView,
    tour: &mut Tour,
) -> anyhow::Result<()> {
    let name = cluster.node(victim)?.name.clone();
    tour.step(&format!("{name} comes back"), "a node that was away catches up by itself.")?;
    let started = Instant::now();
    cluster.restart(victim).await?;
    cluster.formed(validators).await?;
    let caught_up = settle(cluster.node(ORIGIN)?, missed).await?;
    serves(cluster.node(victim)?, &caught_up).await?;
    let (have, wanted) = (caught_up.replica_count, caught_up.replicas_wanted);
    let seconds = started.elapsed().as_secs_f64();
    tour.tell(&format!("after {seconds:.1} s it serves what it missed: {have} of {wanted} copies"))?;
    tour.number("copies", have);
    tour.number("caught_up_after_seconds", seconds);
    Ok(())
}

/// Its owner deletes a group everywhere.
async fn deletion(cluster: &Cluster, view: &GroupView, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step("Its owner deletes the second group", "only its owner deletes a group, and every holder follows.")?;
    let origin = cluster.node(ORIGIN)?;
    let path = format!("content/{}", view.group_id);
    let request = origin.client.request(Method::DELETE, &path).query(&[("timeout", "60s")]);
    let deleted: DeletionView = origin.client.json(request).await?;
    ensure!(deleted.silent.is_empty(), "{} holders did not confirm", deleted.silent.len());
    for node in cluster.running() {
        until("the group to be gone", || async {
            match node.client.get::<GroupView>(&path).await {
                Ok(_) => anyhow::bail!("{} still shows it", node.name),
                Err(error) if is_not_found(&error) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await?;
    }
    tour.tell(&format!("{} holders confirmed, and no node shows it any more", deleted.confirmed.len()))?;
    tour.number("confirmed", deleted.confirmed.len());
    Ok(())
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Failure>().is_some_and(|failure| failure.status == Status::NotFound)
}

/// What the nodes took.
fn memory(cluster: &Cluster, tour: &mut Tour) -> anyhow::Result<()> {
    tour.step("What it took", "memory does not grow with files: nothing is ever held whole.")?;
    for node in cluster.running() {
        if let Some(bytes) = node.peak_memory() {
            ensure!(bytes < MEMORY_MAX, "{} took more than {}", node.name, size(MEMORY_MAX));
            tour.tell(&format!("{}  {} at most", node.name, size(bytes)))?;
            tour.number(&format!("{}_peak_bytes", node.name.replace('-', "_")), bytes);
        }
    }
    Ok(())
}

/// Waits until every wanted copy exists.
async fn settle(node: &DemoNode, view: &GroupView) -> anyhow::Result<GroupView> {
    until("every copy", || async {
        let now: GroupView = node.client.get(&format!("content/{}/group", view.group_id)).await?;
        ensure!(now.replica_count >= now.replicas_wanted, "{} of {} copies", now.replica_count, now.replicas_wanted);
        ensure!(now.consensus_achieved, "no certificate yet");
        Ok(now)
    })
    .await
}

/// A running node other than the origin that holds a copy.
fn holder(cluster: &Cluster, view: &GroupView) -> anyhow::Result<usize> {
    let peers: Vec<String> = view.replicated_on_peers.iter().map(ToString::to_string).collect();
    cluster.nodes.iter().position(|node| peers.contains(&node.id)).context("another node holds a copy")
}

/// Reads every state from a node and compares hashes. Returns where it says that the bytes came from.
async fn serves(node: &DemoNode, view: &GroupView) -> anyhow::Result<Vec<String>> {
    let mut sources = Vec::new();
    for state in &view.states {
        let wanted = state.hash.context("the origin knows every hash")?;
        let request = node.client.request(Method::GET, &format!("content/{}/data", view.group_id));
        let answer = node.client.send(request.query(&[("state", state.state.as_str())])).await?;
        let source = answer.headers().get(SOURCE).and_then(|source| source.to_str().ok());
        sources.push(source.context("a node says where bytes came from")?.to_owned());
        let got = hash_of(answer).await.with_context(|| format!("read {} from {}", state.state, node.name))?;
        ensure!(got == wanted, "{} serves other bytes as {}", node.name, state.state);
        ensure!(state.held != Held::No, "the origin does not hold {}", state.state);
    }
    Ok(sources)
}

/// The beginning of a hash, as people compare it.
fn hash_start(hash: &ContentHash) -> String {
    hash.to_string().chars().take(17).collect()
}

/// SHA-256 of what is answered.
async fn hash_of(mut answer: Response) -> anyhow::Result<ContentHash> {
    let mut hasher = Sha256::new();
    while let Some(bytes) = answer.chunk().await? {
        hasher.update(&bytes);
    }
    Ok(ContentHash(hasher.finalize().into()))
}
