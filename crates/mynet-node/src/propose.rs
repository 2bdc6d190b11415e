//! Having a group certified as more than it is, and looking at bytes before this node's vote says so.
//!
//! Uploads are certified as `durable` by themselves. Whoever wants more, or wants a vote that was lost, proposes the group
//! again: any node that holds it may. For a `verified` claim every validator reads all bytes that any storage node may hold,
//! from its own disk or from a holder as they stream by, and signs only then.
//!
//! **Invariant:** one value at a time is hashed for votes, in memory of a few groups of bytes, whatever its size.

use std::{sync::Arc, time::Duration};

use mynet_proto::{
    consensus::{OpenValue, io::Hashed},
    node::io::Input,
};
use mynet_store::meta::Group;
use mynet_types::{
    BlobRef, BoundedVec, CertificateFile, Claim, GroupId, HeadProof, Manifest, ManifestHash, NodeId, rpc::GroupKey,
    vote::is_head,
};

use crate::{
    driver::wall_clock,
    govern::{self, ProposalView},
    handle::NodeError,
    shell::{Chain, Shell},
    view::OutcomeView,
};

impl Shell {
    /// Asks the validators to certify `claim` about a group that is held here, and waits until they have, or for `timeout`.
    /// Votes are collected after that too.
    pub(crate) async fn propose(
        self: &Arc<Self>,
        key: GroupKey,
        claim: Claim,
        timeout: Duration,
    ) -> Result<ProposalView, NodeError> {
        let Some(group) = self.find_group(key).await?.local else {
            return Err(NodeError::Forbidden("no copy is here; a node that holds one proposes it".to_owned()));
        };
        let manifest = &group.manifest.body;
        let (group_id, value) = (manifest.group_id, manifest.hash());
        let previous = self.proof_of(&group).await?;
        let receipts = self.meta.receipts_of_group(group_id).await.map_err(NodeError::storage)?;
        let now = wall_clock();
        let valid = receipts.iter().filter(|receipt| receipt.body.until > now).count();
        if claim > Claim::Seen && valid < usize::from(manifest.quorum) {
            let why = format!("{valid} of the {} receipts that it takes are here; publish it first", manifest.quorum);
            return Err(NodeError::Invalid { field: "claim", why });
        }
        let (manifest, receipts) = (Box::new(group.manifest), BoundedVec::truncated(receipts));
        // Subscribed first, so that no change is missed.
        let mut bell = self.board.changes();
        let input = match previous {
            None => Input::Certify { manifest, receipts, claim },
            Some(previous) => Input::CertifyHead { manifest, previous, receipts, claim },
        };
        if !self.inbox.put(input).await {
            return Err(NodeError::Stopping);
        }
        let decided = async {
            loop {
                bell.mark_unchanged();
                let view = self.proposal((group_id, value), claim).await?;
                if !matches!(view.outcome, OutcomeView::Pending | OutcomeView::Undecided)
                    || bell.changed().await.is_err()
                {
                    return Ok(view);
                }
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => Err(NodeError::Stopping),
            decided = tokio::time::timeout(timeout, decided) => match decided {
                Ok(decided) => decided,
                Err(_elapsed) => self.proposal((group_id, value), claim).await,
            },
        }
    }

    /// What lets a later version be certified as more than it is: that it is certified. Nobody shows one before it is.
    async fn proof_of(&self, group: &Group) -> Result<Option<Box<HeadProof>>, NodeError> {
        let manifest = &group.manifest.body;
        if !is_head(manifest.version) {
            return Ok(None);
        }
        let kept = self.meta.certificate(&group.manifest_hash).await.map_err(NodeError::storage)?;
        let file = kept.and_then(|bytes| CertificateFile::decode(&bytes).ok());
        let proof = file.map(|file| Some(Box::new(HeadProof::of(&file))));
        let missing = || NodeError::NotFound(format!("what certifies version {}", manifest.version));
        proof.ok_or_else(missing)
    }

    /// How far `claim` about a value of this node came.
    async fn proposal(
        &self,
        (group_id, manifest_hash): (GroupId, ManifestHash),
        claim: Claim,
    ) -> Result<ProposalView, NodeError> {
        let asked = self.inbox.ask(move |core, _now| {
            let core = core.consensus_core();
            let open = core.open_values().find(|open| (open.manifest_hash, open.claim) == (manifest_hash, claim));
            let decided = |tally| OpenValue { group_id, manifest_hash, claim, tally, abstained: Vec::new() };
            open.or_else(|| core.decided(&manifest_hash, claim).map(decided))
        });
        let found = asked.await.ok_or(NodeError::Stopping)?;
        found.map(govern::proposal_view).ok_or_else(|| NodeError::NotFound(format!("a proposal of {manifest_hash}")))
    }

    /// Looks at all bytes of a manifest that any storage node may hold, and tells the core what it found.
    pub(crate) fn hash_states(self: &Arc<Self>, manifest: Box<Manifest>, sources: Vec<NodeId>) {
        let shell = Arc::clone(self);
        self.tasks.spawn(async move {
            let hashed = tokio::select! {
                () = shell.cancel.cancelled() => return,
                hashed = shell.look_at(&manifest, &sources) => hashed,
            };
            // A node that stops has nothing to vote for.
            let _stopping = shell.inbox.put(Input::Hashed { manifest_hash: manifest.hash(), hashed }).await;
        });
    }

    async fn look_at(self: &Arc<Self>, manifest: &Manifest, sources: &[NodeId]) -> Hashed {
        let _turn = self.voting_turn.lock().await;
        let group = manifest.group_id.short();
        let storable = manifest.allowed(false);
        for (member, blob) in manifest.blobs().filter(|(member, _)| storable.contains(member.state)) {
            let state = member.state;
            match self.hash_blob(blob, sources).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!(%group, %state, blob = %blob.sha256, "complete bytes have another SHA-256");
                    return Hashed::Wrong;
                }
                Err(error) => {
                    tracing::info!(%group, %state, error = %Chain(&error), "no vote: bytes could not be hashed");
                    return Hashed::Unavailable;
                }
            }
        }
        Hashed::Right
    }

    /// Whether the bytes with the size and the BLAKE3 root of `blob` have its SHA-256. An error says that they could not be
    /// had.
    async fn hash_blob(self: &Arc<Self>, blob: BlobRef, sources: &[NodeId]) -> Result<bool, NodeError> {
        let mut whole = self.read_whole(blob, sources).await?;
        Ok(crate::plaintext::hash_of(&mut whole).await? == blob)
    }
}
