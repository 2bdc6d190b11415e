//! A node's stores without its network, and groups that others would send it. For tests.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use mynet_proto::{node::io::Input, replication::io::Intent};
use mynet_store::{
    blobs::{Ingest, StageName, StagedBlob},
    keys::{WrapTarget, wrap_key},
    meta::{MetaWrite, StoredBlob},
};
use mynet_types::{BlobRef, BoundedVec, ContentType, NodeId, TxId, codec, wire::Prepare};
use tempfile::TempDir;

use crate::{
    compose::{Copies, Description, Draft, PreviewMember},
    config::Config,
    driver::{Mail, wall_clock},
    service::{self, Opened},
    setup::{self, SetupOptions},
    shell::Shell,
    stage::StageJob,
    staged::stage_name,
};

/// Who asks for the groups.
const COORDINATOR: NodeId = NodeId([7; 32]);

/// A data directory that is open.
pub(crate) struct Home {
    pub(crate) shell: Arc<Shell>,
    dir: TempDir,
    opened: Opened,
}

/// A group of an encrypted state and a preview, and its bytes.
pub(crate) struct Sample {
    pub(crate) prepare: Prepare,
    pub(crate) encrypted: StagedBlob,
    pub(crate) preview: StagedBlob,
}

impl Home {
    pub(crate) async fn new(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let node = dir.path().join("node");
        setup::found(&node, "test", false, &SetupOptions::default()).await.unwrap();
        let opened = service::open(&node, config).await.unwrap();
        Self { shell: Arc::clone(&opened.shell), dir, opened }
    }

    /// Closes the stores, as the end of the process would.
    pub(crate) async fn close(self) -> TempDir {
        self.opened.votes.close().await.unwrap();
        self.dir
    }

    /// The next word to the core.
    pub(crate) async fn next_input(&mut self) -> Input {
        match self.opened.incoming.inputs.recv().await.unwrap() {
            Mail::Input(input) => *input,
            Mail::Look(_) => panic!("nobody asks"),
        }
    }

    /// Makes a group that this node may read and is asked to hold in full.
    pub(crate) async fn sample(&self, tx: u8) -> Sample {
        let (shell, draft) = (&self.shell, Draft::new());
        let name: StageName = format!("sample-{tx}").parse().unwrap();
        let staging = shell.blobs.stage(name).await.unwrap();
        let mut ingest = Ingest::sealed(&staging, &"content".parse().unwrap(), draft.cipher(), None).await.unwrap();
        ingest.write(&vec![tx; 200_000]).await.unwrap();
        let content = ingest.finish().await.unwrap();
        let mut ingest = Ingest::plain(&staging, &"preview".parse().unwrap(), None).await.unwrap();
        ingest.write(&vec![!tx; 50_000]).await.unwrap();
        let preview = ingest.finish().await.unwrap().staged;
        let description = Description {
            content_type: ContentType::Document,
            mime: "text/plain".to_owned(),
            filename: "a.txt".to_owned(),
            tags: Vec::new(),
        };
        let member = PreviewMember { blob: preview.blob, mime: "text/plain".to_owned() };
        let about = (&description, Copies { replicas: 2, quorum: 2 });
        let signer = (&shell.network, shell.keys.owner(), wall_clock());
        let composed = draft.seal((content.plain, content.staged.blob), Some(member), about, signer).unwrap();
        let manifest = &composed.manifest.body;
        let target = WrapTarget {
            network: shell.network,
            group_id: manifest.group_id,
            version: manifest.version,
            recipient: shell.me(),
            recipient_key: shell.keys.wrap_secret().public(),
        };
        let prepare = Prepare {
            tx: TxId([tx; 32]),
            attempt: 1,
            states: manifest.states(),
            wraps: BoundedVec::truncated([wrap_key(&draft.key, &target, shell.keys.owner()).unwrap()]),
            sealed: composed.sealed,
            manifest: composed.manifest,
            sources: BoundedVec::truncated([COORDINATOR]),
            targets: BoundedVec::truncated([shell.me()]),
            lease_ms: 1000,
            head: None,
        };
        Sample { prepare, encrypted: content.staged, preview }
    }

    /// Writes that a transaction is open.
    pub(crate) async fn intend(&self, prepare: &Prepare) {
        let intent = Intent { coordinator: COORDINATOR, prepare: prepare.clone(), states: prepare.states };
        let manifest = &prepare.manifest.body;
        let write = MetaWrite::Intent {
            tx: prepare.tx,
            attempt: prepare.attempt,
            group_id: manifest.group_id,
            reserved_bytes: manifest.stored_bytes(),
            state: codec::encode(&intent),
        };
        self.shell.meta.batch(vec![write], wall_clock()).await.unwrap();
    }

    /// Writes that a transaction is prepared with these files.
    pub(crate) async fn prepared(&self, prepare: &Prepare, blobs: Vec<StoredBlob>) {
        let Prepare { tx, attempt, states, .. } = *prepare;
        let write = MetaWrite::Prepared { tx, attempt, states, blobs };
        self.shell.meta.batch(vec![write], wall_clock()).await.unwrap();
    }

    /// Puts a blob in place as an upload would, without a row.
    pub(crate) async fn place(&self, staged: &StagedBlob) -> StoredBlob {
        let file = StoredBlob { blob: staged.blob, generation: self.shell.generation() };
        self.shell.blobs.commit(staged, file.generation).await.unwrap();
        file
    }

    /// Has all bytes of a blob lie where a transfer of `prepare` that was cut off would have left them.
    pub(crate) async fn arrive(&self, prepare: &Prepare, staged: &StagedBlob) {
        let staging = self.shell.blobs.stage(stage_name(&prepare.tx)).await.unwrap();
        move_pair(staged.path(), &staging.path().join(hex::encode(staged.blob.sha256.0)));
    }

    /// The files that stand in place.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        files(self.shell.blobs.dir())
    }
}

impl Sample {
    pub(crate) fn job(&self, attempt: u32) -> StageJob {
        let prepare = Prepare { attempt, ..self.prepare.clone() };
        StageJob { tx: prepare.tx, attempt, states: prepare.states, prepare: Box::new(prepare) }
    }

    pub(crate) fn blobs(&self) -> [BlobRef; 2] {
        [self.encrypted.blob, self.preview.blob]
    }
}

/// Moves a file and its outboard.
pub(crate) fn move_pair(from: &Path, to: &Path) {
    let outboard = |path: &Path| PathBuf::from(format!("{}.obao", path.display()));
    fs::rename(from, to).unwrap();
    fs::rename(outboard(from), outboard(to)).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}
