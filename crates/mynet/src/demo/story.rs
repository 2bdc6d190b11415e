//! The story of the demo: each step says what it shows and fails if it does not hold.

use std::{path::Path, time::Instant};

use anyhow::{Context, ensure};
use mynet_node::view::{GroupView, Held, WaitResult};
use mynet_types::{CertificateFile, ContentHash, ContentState, GenesisFile, certificate};
use reqwest::Method;
use sha2::{Digest, Sha256};
use tokio_util::io::ReaderStream;

use super::cluster::{Cluster, DemoNode, heading, until};
use crate::{
    commands::print_group,
    output::{line, short, size},
};

/// Memory that a node may take, whatever the size of the file: nothing is ever held whole.
const MEMORY_MAX: u64 = 200 * 1024 * 1024;
/// The node that takes uploads.
const ORIGIN: usize = 0;

/// Tells the story; an error is the first sentence that did not hold.
pub(super) async fn tell(cluster: &mut Cluster, nodes: usize, file: &Path) -> anyhow::Result<()> {
    heading(&format!("{nodes} nodes that trust each other"))?;
    cluster.form(nodes).await?;
    let validators = nodes.min(4);
    cluster.formed(validators).await?;
    for node in &cluster.nodes {
        line(&format!("{}  {}", node.name, node.id))?;
    }
    line(&format!("{validators} of them are validators: one may fail."))?;

    heading(&format!("{} is uploaded to {}", file.display(), cluster.node(ORIGIN)?.name))?;
    let first = upload(cluster.node(ORIGIN)?, file).await?;
    let settled = settle(cluster.node(ORIGIN)?, &first).await?;
    print_group(&settled)?;
    receipts(cluster, &settled)?;

    heading("The certificate, checked offline")?;
    check_certificate(cluster.node(ORIGIN)?, &settled).await?;

    heading("Every node serves every state")?;
    for node in cluster.running() {
        serves(node, &settled).await?;
        line(&format!("{} serves {} states, hash-equal", node.name, settled.states.len()))?;
    }

    let victim = holder(cluster, &settled)?;
    let name = cluster.node(victim)?.name.clone();
    heading(&format!("{name}, which holds a copy, is killed"))?;
    cluster.kill(victim).await?;
    for node in cluster.running() {
        serves(node, &settled).await?;
    }
    line("the others go on serving every state")?;
    let second = upload(cluster.node(ORIGIN)?, file).await?;
    line(&format!("the file was uploaded again as group {}: a new key, new bytes", short(&second.group_id)))?;

    heading(&format!("{name} comes back"))?;
    cluster.restart(victim).await?;
    cluster.formed(validators).await?;
    let caught_up = settle(cluster.node(ORIGIN)?, &second).await?;
    serves(cluster.node(victim)?, &caught_up).await?;
    line(&format!("it caught up: {} of {} copies", caught_up.replica_count, caught_up.replicas_wanted))?;

    heading("Peak memory")?;
    for node in cluster.running() {
        if let Some(bytes) = node.peak_memory() {
            line(&format!("{}  {}", node.name, size(bytes)))?;
            ensure!(bytes < MEMORY_MAX, "{} took more than {}", node.name, size(MEMORY_MAX));
        }
    }
    Ok(())
}

/// Uploads a file and waits for its certificate.
async fn upload(node: &DemoNode, file: &Path) -> anyhow::Result<GroupView> {
    let started = Instant::now();
    let opened = tokio::fs::File::open(file).await.with_context(|| format!("open {}", file.display()))?;
    let bytes = opened.metadata().await.context("read its size")?.len();
    let name = file.file_name().context("it has a name")?.to_string_lossy().into_owned();
    let body = reqwest::Body::wrap_stream(ReaderStream::with_capacity(opened, 256 * 1024));
    let query = [("filename", name.as_str()), ("wait", "certified"), ("timeout", "120s")];
    let request = node.client.request(Method::POST, "content").query(&query).body(body);
    let view: GroupView = node.client.json(request).await?;
    ensure!(view.wait_result == Some(WaitResult::Certified), "the upload reached only {:?}", view.wait_result);
    line(&format!("{} durable and certified after {:.1} s", size(bytes), started.elapsed().as_secs_f64()))?;
    Ok(view)
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

/// Says where the receipts are.
fn receipts(cluster: &Cluster, view: &GroupView) -> anyhow::Result<()> {
    let peers: Vec<String> = view.replicated_on_peers.iter().map(ToString::to_string).collect();
    let names: Vec<&str> =
        cluster.nodes.iter().filter(|node| peers.contains(&node.id)).map(|node| node.name.as_str()).collect();
    line(&format!(
        "receipts of {} nodes; besides {} of {}",
        view.replica_count,
        cluster.node(ORIGIN)?.name,
        names.join(", ")
    ))
}

/// A running node other than the origin that holds a copy.
fn holder(cluster: &Cluster, view: &GroupView) -> anyhow::Result<usize> {
    let peers: Vec<String> = view.replicated_on_peers.iter().map(ToString::to_string).collect();
    cluster.nodes.iter().position(|node| peers.contains(&node.id)).context("another node holds a copy")
}

/// Checks the certificate with nothing but the genesis; then that a changed byte does not pass.
async fn check_certificate(node: &DemoNode, view: &GroupView) -> anyhow::Result<()> {
    let fetch = async |path: String| -> anyhow::Result<Vec<u8>> {
        let answer = node.client.send(node.client.request(Method::GET, &path)).await?;
        Ok(answer.bytes().await.context("read the answer")?.to_vec())
    };
    let bytes = fetch(format!("content/{}/certificate", view.group_id)).await?;
    let genesis = GenesisFile::decode(&fetch("genesis".to_owned()).await?).context("read the genesis")?;
    let file = CertificateFile::decode(&bytes).context("read the certificate")?;
    let verified = certificate::verify(&file, &genesis, false).context("verify the certificate")?;
    ensure!(verified.manifest_hash == view.manifest_hash, "the certificate is about another manifest");
    line(&format!(
        "{} of {} validators of epoch {} signed; {} holders gave receipts; {}",
        verified.signers.len(),
        file.chain.links.last().map_or(1, |link| link.roster.validators.len()),
        verified.epoch,
        verified.holders.len(),
        size(bytes.len() as u64),
    ))?;
    let mut changed = bytes;
    if let Some(byte) = changed.get_mut(100) {
        *byte ^= 1;
    }
    ensure!(CertificateFile::decode(&changed).is_err(), "a changed certificate passes");
    line("with one bit changed it is refused")
}

/// Reads every state from a node and compares hashes.
async fn serves(node: &DemoNode, view: &GroupView) -> anyhow::Result<()> {
    for state in &view.states {
        let wanted = state.hash.context("the origin knows every hash")?;
        let got = hash_of(node, view, state.state).await?;
        ensure!(got == wanted, "{} serves other bytes as {}", node.name, state.state);
        ensure!(state.held != Held::No, "the origin does not hold {}", state.state);
    }
    Ok(())
}

/// SHA-256 of a state as a node serves it.
async fn hash_of(node: &DemoNode, view: &GroupView, state: ContentState) -> anyhow::Result<ContentHash> {
    let request = node.client.request(Method::GET, &format!("content/{}/data", view.group_id));
    let mut answer = node.client.send(request.query(&[("state", state.as_str())])).await?;
    let mut hasher = Sha256::new();
    while let Some(bytes) = answer.chunk().await.with_context(|| format!("read {state} from {}", node.name))? {
        hasher.update(&bytes);
    }
    Ok(ContentHash(hasher.finalize().into()))
}
