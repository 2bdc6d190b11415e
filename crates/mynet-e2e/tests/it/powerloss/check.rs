//! What must be true of a data directory after a power cut, given what the node had told.

use std::{fs, path::Path};

use anyhow::{Context, Result, ensure};
use mynet_e2e::{content::hash, http::client, process::Node};
use mynet_store::{
    blobs::Blobs,
    keys::KeyFiles,
    meta::{Group, ListQuery, Meta, StoredBlob},
    votes::{DataDir, Votes},
};
use mynet_types::{ManifestHash, Verdict};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::recording::{Promise, Told};

/// Opens keys and stores of `dir`, if the cut left it, and tells everything that is not as it was promised, or not whole.
pub(super) fn stores(dir: Option<&Path>, promises: &[&Promise]) -> Vec<String> {
    let Some(dir) = dir else {
        return promises.iter().map(|promise| format!("{promise:?}: the directory is gone")).collect();
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut lost = Vec::new();
    if let Err(error) = prepared(dir) {
        lost.push(format!("what `init` made: {error:#}"));
    }
    match runtime.block_on(open(dir)) {
        Ok(opened) => {
            lost.extend(opened.torn);
            for promise in promises {
                let kept = kept(&opened.groups, &opened.votes, &promise.what);
                lost.extend(kept.err().map(|error| format!("{:?}: {error:#}", promise.what)));
            }
        }
        Err(error) => lost.push(format!("the stores do not open: {error:#}")),
    }
    lost
}

/// What `init` promises: a directory is there completely or not at all.
fn prepared(dir: &Path) -> Result<()> {
    KeyFiles::load(dir)?;
    for name in ["recovery/1.key", "recovery/2.key", "recovery/3.key"] {
        let text = fs::read_to_string(dir.join(name)).with_context(|| name.to_owned())?;
        ensure!(text.trim().len() == 64 && text.trim().bytes().all(|c| c.is_ascii_hexdigit()), "{name} is no key");
    }
    for name in ["genesis", "config.toml"] {
        ensure!(fs::metadata(dir.join(name)).context(name)?.len() > 0, "{name} is empty");
    }
    Ok(())
}

struct Opened {
    groups: Vec<Group>,
    /// Manifests that this node voted for.
    votes: Vec<ManifestHash>,
    /// Groups that are visible and not whole.
    torn: Vec<String>,
}

async fn open(dir: &Path) -> Result<Opened> {
    let votes = Votes::open(dir, DataDir::Used).await?;
    let restored = votes.restore().await?;
    votes.close().await?;
    ensure!(restored.may_vote, "the vote store is taken for one that was lost");
    let accepts = restored.votes.iter().filter(|vote| vote.statement.verdict == Verdict::Accept);
    let votes = accepts.map(|vote| vote.statement.value).collect();

    let meta = Meta::open(&dir.join("mynet.db"), KeyFiles::load(dir)?.node_id()).await?;
    let blobs = Blobs::open(dir.join("blobs"), dir.join("staging")).await?;
    let (mut groups, mut torn, mut after) = (Vec::new(), Vec::new(), None);
    loop {
        let page = meta.groups(ListQuery { origin_only: false, after, limit: 100 }).await?;
        for group in page.items {
            if let Err(error) = whole(&meta, &group).await {
                torn.push(format!("group {}: {error:#}", group.manifest.body.group_id));
            }
            groups.push(group);
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    // Visible or not: a row, such as one that a prepared transaction pins, names only files that are whole.
    for stored in meta.blobs_after(None, 10_000).await? {
        if let Err(error) = read(&blobs, &stored).await {
            torn.push(format!("the row of {}: {error:#}", stored.blob.sha256));
        }
    }
    meta.close().await?;
    Ok(Opened { groups, votes, torn })
}

/// Every state that a visible group says is here has its row.
async fn whole(meta: &Meta, group: &Group) -> Result<()> {
    for (member, blob) in group.manifest.body.blobs().filter(|(member, _)| group.held.contains(member.state)) {
        let row = meta.blob(&blob.sha256).await?.with_context(|| format!("{:?} has no row", member.state))?;
        ensure!(!row.quarantined, "{:?} is in quarantine", member.state);
        ensure!(row.stored.blob == blob, "{:?} has another blob", member.state);
    }
    Ok(())
}

/// Reads a file from end to end, as its row names it.
async fn read(blobs: &Blobs, stored: &StoredBlob) -> Result<()> {
    let reader = blobs.read(stored.blob, stored.generation).await?;
    let (mut range, mut sha256) = (reader.range(0..stored.blob.size)?, Sha256::new());
    while let Some(bytes) = range.next().await? {
        sha256.update(&bytes);
    }
    ensure!(stored.blob.sha256.0 == <[u8; 32]>::from(sha256.finalize()), "it has other bytes");
    Ok(())
}

/// Whether something that was told is still true.
fn kept(groups: &[Group], votes: &[ManifestHash], told: &Told) -> Result<()> {
    let find = |id: &str| {
        groups.iter().find(|group| group.manifest.body.group_id.to_string() == id).context("there is no such group")
    };
    match told {
        Told::Prepared => {}
        Told::Stored { group, .. } | Told::Holds { group } => {
            find(group)?;
        }
        Told::Durable { group } => {
            let count = find(group)?.replica_count;
            ensure!(count >= 2, "{count} receipts");
        }
        Told::Certified { group } => ensure!(find(group)?.consensus_achieved, "it has no certificate"),
        Told::Voted { manifest_hash } => {
            ensure!(votes.iter().any(|vote| vote.to_string() == *manifest_hash), "the vote is gone");
        }
    }
    Ok(())
}

/// Whether a node serves the bytes of this hash.
fn served(node: &Node, wanted: &str) -> Result<()> {
    let access: Value = serde_json::from_slice(&fs::read(node.dir.join("api.json"))?)?;
    let token = access["token"].as_str().context("there is a key")?;
    let answer = client().get(format!("{}/api/v1/storage/{wanted}", node.api)).bearer_auth(token).send()?;
    ensure!(answer.status() == 200, "it answered {}", answer.status());
    ensure!(hash(&answer.bytes()?) == wanted, "it serves other bytes");
    Ok(())
}

/// Starts the program on `dir`, alone, and tells what it does not serve.
pub(super) fn program(dir: &Path, promises: &[&Promise]) -> Vec<String> {
    let node = match Node::start(dir, &[]) {
        Ok(node) => node,
        Err(error) => return vec![format!("the node does not start: {error:#}")],
    };
    let mut lost = Vec::new();
    for promise in promises {
        if let Told::Stored { hash: wanted, .. } = &promise.what
            && let Err(error) = served(&node, wanted)
        {
            lost.push(format!("{promise:?}: {error:#}"));
        }
    }
    let log = fs::read_to_string(node.log_path()).unwrap();
    let bad = |line: &&str| line.contains(" ERROR ") || line.contains("panicked") || line.contains("may be incomplete");
    lost.extend(log.lines().filter(bad).map(|line| format!("in the log: {line}")));
    fs::remove_file(node.log_path()).unwrap();
    lost
}
