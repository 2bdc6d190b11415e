//! Keeps certificates beside their groups, and hands them to holders that came late.
//!
//! The core sends a certificate to the holders that it names and to the roster, once. A holder whose copy came after that had
//! nothing to keep it beside, so the coordinator sends it again to every holder that the certificate does not name; the core
//! hands out what came again unverified, and a holder that lacks it looks.
//! Whichever of certificate and receipt is written last finds the other, so no order of the two loses it; what a lost message
//! costs, `catchup` mends.

use std::{collections::BTreeSet, sync::Arc};

use mynet_store::meta::{MetaError, MetaWrite};
use mynet_types::{CertificateFile, ConsensusMessage, GroupId, Message, NodeId, Verdict, rpc::GroupKey};

use crate::{
    crash,
    driver::wall_clock,
    events::EventView,
    persist::until_written,
    shell::{Chain, Shell},
};

impl Shell {
    /// Writes a certificate beside its group, tells whoever waits, and hands it to holders that it does not name.
    pub(crate) async fn keep_certificate(&self, file: Box<CertificateFile>) {
        crash::before_certificate();
        let group_id = file.manifest.body.group_id;
        if self.install_draft(&file).await {
            return;
        }
        let (value, accepts) =
            (file.certificate.statement.value, file.certificate.statement.verdict == Verdict::Accept);
        let certificate = MetaWrite::Certificate(file);
        // The core has ended with it, so nobody would bring it again: a full disk is waited for.
        let write = || self.meta.batch(vec![certificate.clone()], wall_clock());
        if until_written(self, "keep a certificate", write).await.is_none() {
            return;
        }
        tracing::info!(group = %group_id.short(), accepts, "group has a certificate");
        self.board.update(group_id, |progress| progress.certified |= accepts && progress.is_of(value));
        self.events.tell(EventView::certified(group_id, accepts));
        self.hand_on_certificate(group_id).await;
    }

    /// A certificate came again. It is of use only to a holder whose copy is younger than the first, or that missed one that says
    /// as much.
    pub(crate) async fn keep_if_missing(&self, file: Box<CertificateFile>) {
        let group_id = file.manifest.body.group_id;
        let manifest_hash = file.certificate.statement.value;
        let held = match self.meta.group(&GroupKey::Group(group_id)).await {
            Ok(found) => found.map(|(group, _)| group),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "cannot look whether a certificate is missing");
                return;
            }
        };
        if held.is_none_or(|group| group.manifest_hash != manifest_hash) || self.claims_as_much(&file).await {
            return;
        }
        let chain = self.members.chain();
        match file.verify_under(&chain) {
            Ok(_verified) => {
                let chain = chain.up_to(chain.newest().epoch);
                self.keep_certificate(Box::new(CertificateFile { chain, ..*file })).await;
            }
            Err(error) => {
                tracing::debug!(group = %group_id.short(), %error, "a certificate that came again does not hold")
            }
        }
    }

    /// Whether a certificate that says as much as `file` is kept here. One that cannot be read is as good as none.
    async fn claims_as_much(&self, file: &CertificateFile) -> bool {
        let kept = self.meta.certificate(&file.certificate.statement.value).await.ok().flatten();
        let kept = kept.and_then(|bytes| CertificateFile::decode(&bytes).ok());
        kept.is_some_and(|kept| kept.certificate.statement.claim >= file.certificate.statement.claim)
    }

    /// New receipts are on disk here: their holders may lack the certificate.
    pub(crate) fn holders_came(self: &Arc<Self>, group_id: GroupId) {
        let shell = Arc::clone(self);
        self.tasks.spawn(async move { shell.hand_on_certificate(group_id).await });
    }

    async fn hand_on_certificate(&self, group_id: GroupId) {
        match self.unnamed_holders(group_id).await {
            Ok(None) => {}
            Ok(Some((file, holders))) => {
                for holder in holders {
                    self.send(holder, Message::Consensus(ConsensusMessage::Certified(file.clone())));
                }
            }
            Err(error) => {
                tracing::warn!(group = %group_id.short(), error = %Chain(&error), "a certificate was not handed on");
            }
        }
    }

    /// The certificate of a group uploaded here, with the newest chain, and the holders that it does not name.
    async fn unnamed_holders(
        &self,
        group_id: GroupId,
    ) -> Result<Option<(Box<CertificateFile>, BTreeSet<NodeId>)>, MetaError> {
        let Some((group, _)) = self.meta.group(&GroupKey::Group(group_id)).await? else { return Ok(None) };
        if !group.origin || group.certificate.is_none() {
            return Ok(None);
        }
        let bytes = self.meta.certificate(&group.manifest_hash).await?.unwrap_or_default();
        // Bytes that do not decode are as good as none: nobody would take them.
        let Ok(file) = CertificateFile::decode(&bytes) else { return Ok(None) };
        let receipts = self.meta.receipts_of_group(group_id).await?;
        let mut holders: BTreeSet<NodeId> = receipts.into_iter().map(|receipt| receipt.body.holder).collect();
        for holding in &file.holdings {
            holders.remove(&holding.receipt.body.holder);
        }
        holders.remove(&self.me());
        let chain = self.members.chain();
        let chain = chain.up_to(chain.newest().epoch);
        Ok(Some((Box::new(CertificateFile { chain, ..file }), holders)))
    }
}
