//! Recovery of the roster by the offline keys: what the operator takes from a node, and what he brings back.
//!
//! The files and what makes them stand are in `mynet_types::recovery`, how the core goes on in `mynet_proto::consensus`. Here is
//! only the way in and out, and the object that people look at before they use a key.
//!
//! **Invariant:** a recovery is taken only if it follows the newest roster known here, and only by a node with a seat in it: its
//! seats need the heads that it carries, and ask each other for them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mynet_proto::node::io::Input;
use mynet_types::{
    NodeId, OfferFile, RecoveryFile, Roles, RosterHash, SignedRecoveryOffer, VerifiedChain, recovery::Coverage,
};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{driver::wall_clock, handle::NodeError, shell::Shell};

/// How long a disk may take to keep an offer or a link until the operator is told that something is wrong.
const PATIENCE: Duration = Duration::from_secs(30);

/// A recovery as people look at it: what it would do, and who signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecoveryView {
    /// The name of the network.
    pub network: String,
    /// The epoch that it begins.
    pub epoch: u64,
    /// Its roster, by which every holder of a key can see that all sign the same.
    pub roster: RosterHash,
    /// Who sits in it.
    pub validators: Vec<NodeId>,
    /// Who of them has no seat in the roster before.
    pub joining: Vec<NodeId>,
    /// Who loses a seat.
    pub leaving: Vec<NodeId>,
    /// Accept votes that it takes then; 0 if so few can certify nothing.
    pub quorum: usize,
    /// Groups of which a later version is carried over.
    pub carried: u32,
    /// The recovery keys that signed, from 1.
    pub keys: Vec<usize>,
    /// Signatures that are missing.
    pub missing: usize,
    /// Whether the node took it.
    pub submitted: bool,
    /// Old seats that said what they acked; told when the proposal is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reported: Option<usize>,
    /// As many as would make sure that no certified version is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reports_needed: Option<usize>,
}

impl RecoveryView {
    /// What `file` does after `chain`, which [`RecoveryFile::check`] gave.
    #[must_use]
    pub fn of(file: &RecoveryFile, chain: &VerifiedChain) -> Self {
        let (before, after): (BTreeSet<_>, BTreeSet<_>) =
            (chain.newest().nodes().collect(), file.roster.nodes().collect());
        Self {
            network: file.genesis.name.to_string(),
            epoch: file.roster.epoch,
            roster: file.roster.hash(),
            validators: file.roster.nodes().collect(),
            joining: after.difference(&before).copied().collect(),
            leaving: before.difference(&after).copied().collect(),
            quorum: file.genesis.quorum(after.len()).map_or(0, |quorum| quorum.accept()),
            carried: file.roster.close_count,
            keys: file.keys.seats().map(|index| index + 1).collect(),
            missing: file.missing(),
            submitted: false,
            reported: None,
            reports_needed: None,
        }
    }

    /// The same with how much of the old roster stands behind it.
    #[must_use]
    pub fn with_coverage(self, coverage: Coverage) -> Self {
        Self { reported: Some(coverage.reported), reports_needed: Some(coverage.needed), ..self }
    }
}

/// What the core said of recoveries since this node started.
#[derive(Debug, Default)]
pub(crate) struct Recoveries {
    /// The last offer; `None` within if it was more than a file holds.
    offered: watch::Sender<Option<Option<Box<SignedRecoveryOffer>>>>,
    /// The newest epoch that began by recovery.
    recovered: watch::Sender<u64>,
}

impl Recoveries {
    /// The core offers this.
    pub(crate) fn offered(&self, offer: Option<Box<SignedRecoveryOffer>>) {
        self.offered.send_replace(Some(offer));
    }

    /// The core follows a recovery, and it is on disk.
    pub(crate) fn recovered(&self, epoch: u64) {
        self.recovered.send_replace(epoch);
    }
}

impl Shell {
    /// Makes the file that a recovery with this node in its roster needs. The newest epoch is closed by it: later versions wait
    /// until another epoch begins.
    pub(crate) async fn recovery_offer(&self) -> Result<Vec<u8>, NodeError> {
        let chain = self.chain_of_core().await?;
        let seated = chain.newest().seat_of(&self.me()).is_some();
        let admissions = self.members.admissions(wall_clock());
        let admitted = admissions
            .iter()
            .any(|admission| admission.body.node == self.me() && admission.body.roles.contains(Roles::VALIDATOR));
        if !seated && !admitted {
            return Err(NodeError::Forbidden("this node has neither a seat nor the role of a validator".to_owned()));
        }
        let mut told = self.recoveries.offered.subscribe();
        told.mark_unchanged();
        if !self.inbox.put(Input::OfferRecovery).await {
            return Err(NodeError::Stopping);
        }
        let offered = self.in_time(told.changed()).await.then(|| told.borrow_and_update().clone());
        let offer = offered.flatten().ok_or_else(|| changed_meanwhile("the roster changed, or the disk is slow"))?;
        let offer = offer.ok_or_else(|| changed_meanwhile("this node has more later versions than a file holds"))?;
        let chain = self.chain_of_core().await?;
        let epoch = offer.body.key.epoch.saturating_sub(1);
        let file = OfferFile { genesis: chain.genesis().clone(), chain: chain.up_to(epoch), offer: *offer };
        tracing::warn!(epoch, "a recovery is offered: later versions wait until the next epoch begins");
        Ok(file.encode())
    }

    /// Takes a recovery that enough keys signed, or with `dry_run` tells what it would do.
    pub(crate) async fn recover(self: &Arc<Self>, bytes: &[u8], dry_run: bool) -> Result<RecoveryView, NodeError> {
        let invalid = |why: String| NodeError::Invalid { field: "recovery", why };
        let file = RecoveryFile::decode(bytes).map_err(|error| invalid(error.to_string()))?;
        if file.genesis.network_id() != self.network {
            return Err(invalid("it is of another network".to_owned()));
        }
        let view = RecoveryView::of(&file, &file.check().map_err(|error| invalid(error.to_string()))?);
        if view.missing > 0 {
            let why = format!("{} of 2 recovery keys signed", view.keys.len());
            return Err(NodeError::Forbidden(why));
        }
        let chain = self.chain_of_core().await?;
        let newest = chain.newest();
        if *newest == file.roster {
            return Ok(RecoveryView { submitted: true, ..view });
        }
        if newest.hash() != file.roster.prev {
            let why = format!(
                "it follows another roster than that of epoch {}, the newest here; offer and sign anew",
                newest.epoch
            );
            return Err(NodeError::Invalid { field: "base", why });
        }
        if file.roster.seat_of(&self.me()).is_none() {
            return Err(NodeError::Forbidden("a recovery is submitted at a node with a seat in it".to_owned()));
        }
        file.link().verify(chain.genesis(), newest).map_err(|error| invalid(error.to_string()))?;
        if dry_run {
            return Ok(view);
        }
        let mut told = self.recoveries.recovered.subscribe();
        told.mark_unchanged();
        let (link, heads) = (Box::new(file.link()), file.heads.to_vec());
        if !self.inbox.put(Input::Recover { link, heads }).await {
            return Err(NodeError::Stopping);
        }
        let epoch = file.roster.epoch;
        let taken = self.in_time(async { told.wait_for(|newest| *newest >= epoch).await.map(drop) }).await;
        if taken && *self.chain_of_core().await?.newest() == file.roster {
            Ok(RecoveryView { submitted: true, ..view })
        } else {
            Err(NodeError::Invalid { field: "base", why: "the roster changed meanwhile".to_owned() })
        }
    }

    /// Whether `told` comes in time.
    async fn in_time(&self, told: impl Future<Output = Result<(), watch::error::RecvError>>) -> bool {
        tokio::select! {
            () = self.cancel.cancelled() => false,
            told = tokio::time::timeout(PATIENCE, told) => matches!(told, Ok(Ok(()))),
        }
    }

    async fn chain_of_core(&self) -> Result<VerifiedChain, NodeError> {
        let asked = self.inbox.ask(|core, _now| core.consensus_core().chain().clone());
        asked.await.ok_or(NodeError::Stopping)
    }
}

fn changed_meanwhile(why: &str) -> NodeError {
    NodeError::Invalid { field: "offer", why: format!("{why}; see the log and try again") }
}
