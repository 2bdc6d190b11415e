//! Makes the objects of [`crate::view`] from stores, members and the board.

use mynet_proto::consensus::io::Tally;
use mynet_store::meta::{Group, ListQuery, ReplicationStatus};
use mynet_types::{
    CertificateFile, ContentState, QuorumCertificate, Roles, SignedAdmission, StatesMask, Verdict, rpc::GroupKey,
};

use crate::{
    driver::wall_clock,
    find::Found,
    govern::outcome_view,
    handle::NodeError,
    shell::Shell,
    view::{
        ConsensusView, ContentCounts, GroupView, Held, NetworkView, OutcomeView, Page, PeerCounts, PeerState, PeerView,
        RelationshipView, ReplicationCounts, ReplicationStatusView, RosterView, StateView, StatusView,
    },
};

impl Shell {
    /// A group as this node may know it.
    pub(crate) async fn group_view(&self, found: &Found) -> Result<GroupView, NodeError> {
        let manifest = &found.manifest;
        let hash = manifest.hash();
        let group_id = manifest.group_id;
        let details = self.details_of(found).await;
        let local = found.local.as_ref();
        let holders = found.backing.holders();
        let certificate = found.backing.certificate.as_deref().map(|file| &file.certificate);
        let tally = self.board.get(&group_id).tally_of(&hash);
        let consensus = self.consensus_view(certificate, tally);
        let (wanted, quorum) =
            (usize::from(local.map_or(manifest.replicas, |group| group.replicas_wanted)), manifest.quorum);
        Ok(GroupView {
            group_id,
            version: manifest.version,
            manifest_hash: hash,
            root_content_id: manifest
                .members
                .first()
                .map_or(mynet_types::ContentId([0; 16]), |member| member.content_id),
            owner: manifest.owner,
            created_at: manifest.created_at,
            tags: details.as_ref().map(|(details, _)| details.tags.iter().map(ToString::to_string).collect()),
            filename: details.as_ref().map(|(details, _)| details.filename.to_string()),
            states: states(found, details.as_ref()),
            relationships: manifest
                .links
                .iter()
                .map(|link| RelationshipView {
                    parent_content_id: link.parent,
                    child_content_id: link.child,
                    relationship_type: link.kind,
                })
                .collect(),
            replication_status: local
                .map_or_else(|| status_of(holders.len(), wanted, quorum), |group| status(group.status)),
            replica_count: holders.len(),
            replicas_wanted: wanted,
            replicated_on_peers: holders.into_iter().filter(|node| *node != self.me()).collect(),
            last_sync_timestamp: local.and_then(|group| group.synced_at),
            consensus_achieved: consensus.outcome == OutcomeView::Approved && consensus.certificate,
            consensus,
            wait_result: None,
            operation_id: None,
            no_preview: None,
        })
    }

    /// What the validators said.
    pub(crate) fn consensus_view(
        &self,
        certificate: Option<&QuorumCertificate>,
        tally: Option<Tally>,
    ) -> ConsensusView {
        let chain = self.members.chain();
        if let Some(certificate) = certificate {
            let validators = chain.roster(certificate.statement.epoch).map_or(0, |roster| roster.validators.len());
            let votes = certificate.signers.signatures.len();
            let accepts = certificate.statement.verdict == Verdict::Accept;
            return ConsensusView {
                outcome: if accepts { OutcomeView::Approved } else { OutcomeView::Rejected },
                accepts: if accepts { votes } else { 0 },
                rejects: if accepts { 0 } else { votes },
                quorum: chain.genesis().quorum(validators).map_or(0, |quorum| quorum.accept()),
                validators,
                certificate: true,
            };
        }
        let validators = chain.newest().validators.len();
        let quorum = chain.genesis().quorum(validators).map_or(0, |quorum| quorum.accept());
        let Some(tally) = tally else {
            return ConsensusView {
                outcome: OutcomeView::Pending,
                accepts: 0,
                rejects: 0,
                quorum,
                validators,
                certificate: false,
            };
        };
        ConsensusView {
            outcome: outcome_view(tally.outcome),
            accepts: tally.accepts,
            rejects: tally.rejects,
            quorum: tally.quorum,
            validators: tally.validators,
            certificate: false,
        }
    }

    /// Groups visible here, newest first.
    pub(crate) async fn list(&self, limit: u32, cursor: Option<String>) -> Result<Page<GroupView>, NodeError> {
        let invalid =
            |error: mynet_types::content::UnknownWord| NodeError::Invalid { field: "cursor", why: error.to_string() };
        let after = cursor.map(|cursor| cursor.parse().map_err(invalid)).transpose()?;
        let query = ListQuery { origin_only: false, after, limit: u64::from(limit) };
        let page = self.meta.groups(query).await.map_err(NodeError::storage)?;
        let mut items = Vec::new();
        for group in page.items {
            let found = self.found_here(group).await?;
            items.push(self.group_view(&found).await?);
        }
        Ok(Page { items, next_cursor: page.next.map(|cursor| cursor.to_string()) })
    }

    /// The certificate file of a group, with the newest chain.
    pub(crate) async fn certificate(&self, key: GroupKey) -> Result<Vec<u8>, NodeError> {
        let found = self.find_complete(key).await?;
        let none = || NodeError::Absent {
            what: format!("group {} has no certificate yet", found.manifest.group_id),
            hint: "`why` tells which votes it waits for; ask again when they are there",
        };
        let file = found.backing.certificate.as_deref().ok_or_else(none)?;
        let chain = self.members.chain();
        Ok(CertificateFile { chain: chain.up_to(chain.newest().epoch), ..file.clone() }.encode())
    }

    /// The node and its network at a glance.
    pub(crate) async fn status(&self) -> Result<StatusView, NodeError> {
        let chain = self.members.chain();
        let counts = self.meta.counts(self.config().replication.min_replicas).await.map_err(NodeError::storage)?;
        let own = self.members.admission(&self.me());
        let (up, others) =
            (self.members.up(), self.members.admissions(wall_clock()).len().saturating_sub(usize::from(own.is_some())));
        let validators = chain.newest().validators.len();
        let by = |status| counts.by_status.get(&status).copied().unwrap_or(0);
        let (api, p2p) = self.addresses_text();
        Ok(StatusView {
            node_id: self.me(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            network: NetworkView { id: self.network, name: chain.genesis().name.to_string() },
            region: own.as_ref().map_or_else(|| self.config().node.region.clone(), |own| own.body.region.to_string()),
            zone: own.as_ref().map_or_else(|| self.config().node.zone.clone(), |own| own.body.zone.to_string()),
            roles: own.as_ref().map_or_else(|| self.config().node.roles.clone(), |own| words(own.body.roles)),
            admitted: self.members.is_admitted(&self.me(), wall_clock()),
            api,
            p2p,
            uptime_seconds: self.started.elapsed().as_secs(),
            peers: PeerCounts { alive: up.len(), down: others.saturating_sub(up.len()) },
            roster: RosterView {
                epoch: chain.newest().epoch,
                validators: chain.newest().nodes().collect(),
                quorum: chain.genesis().quorum(validators).map_or(0, |quorum| quorum.accept()),
            },
            content: ContentCounts { groups: counts.groups, states: counts.states, bytes: counts.bytes },
            replication: ReplicationCounts {
                replicated: by(ReplicationStatus::Replicated),
                degraded: by(ReplicationStatus::Degraded),
                pending: by(ReplicationStatus::Pending) + by(ReplicationStatus::Replicating),
                failed: by(ReplicationStatus::Failed),
                at_risk: counts.at_risk,
            },
        })
    }

    /// Every other admitted node.
    pub(crate) async fn peers(&self) -> Result<Vec<PeerView>, NodeError> {
        let others =
            self.members.admissions(wall_clock()).into_iter().filter(|admission| admission.body.node != self.me());
        Ok(others.map(|admission| self.peer_view(&admission)).collect())
    }

    /// One node.
    pub(crate) fn peer_view(&self, admission: &SignedAdmission) -> PeerView {
        let node = admission.body.node;
        let stats = self.net.get().and_then(|net| net.peer_stats(&node));
        let record = self.members.record(&node);
        PeerView {
            node_id: node,
            state: if self.members.up().contains(&node) { PeerState::Alive } else { PeerState::Down },
            region: admission.body.region.to_string(),
            zone: admission.body.zone.to_string(),
            roles: words(admission.body.roles),
            addrs: record.map(|record| record.body.addrs.iter().map(ToString::to_string).collect()).unwrap_or_default(),
            path: stats.map(|stats| stats.path.to_string()),
            rtt_ms: stats.map(|stats| stats.rtt.as_secs_f64() * 1000.0),
            trusted: self.trusts(admission),
        }
    }
}

/// The words of roles.
fn words(roles: Roles) -> Vec<String> {
    roles.words().map(str::to_owned).collect()
}

/// The states of a group, without what this node may not know.
fn states(found: &Found, details: Option<&(mynet_types::Details, Option<mynet_types::BlobRef>)>) -> Vec<StateView> {
    let held = found.local.as_ref().map_or(StatesMask::EMPTY, |group: &Group| group.held);
    let view = |member: &mynet_types::Member| {
        let plain = details.and_then(|(_, plain)| *plain).filter(|_| member.state == ContentState::Decrypted);
        let blob = member.blob.or(plain);
        let known = details.map(|(details, _)| details);
        let mime = member.mime.as_ref().map(ToString::to_string);
        let plain_mime =
            known.filter(|_| member.state == ContentState::Decrypted).map(|details| details.mime.to_string());
        StateView {
            state: member.state,
            content_id: member.content_id,
            hash: blob.map(|blob| blob.sha256),
            file_size: blob.map(|blob| blob.size),
            content_type: known.map(|details| details.content_type),
            mime: mime.or(plain_mime),
            held: match (held.contains(member.state), member.blob) {
                (false, _) => Held::No,
                (true, Some(_)) => Held::Blob,
                (true, None) => Held::Derived,
            },
        }
    };
    found.manifest.members.iter().map(view).collect()
}

/// The column's word as a view.
fn status(status: ReplicationStatus) -> ReplicationStatusView {
    match status {
        ReplicationStatus::None => ReplicationStatusView::None,
        ReplicationStatus::Pending => ReplicationStatusView::Pending,
        ReplicationStatus::Replicating => ReplicationStatusView::Replicating,
        ReplicationStatus::Degraded => ReplicationStatusView::Degraded,
        ReplicationStatus::Replicated => ReplicationStatusView::Replicated,
        ReplicationStatus::Failed => ReplicationStatusView::Failed,
    }
}

/// The status that so many receipts mean, for a group held elsewhere.
fn status_of(holders: usize, wanted: usize, quorum: u8) -> ReplicationStatusView {
    match holders {
        n if n >= wanted => ReplicationStatusView::Replicated,
        n if n >= usize::from(quorum) => ReplicationStatusView::Degraded,
        _ => ReplicationStatusView::Replicating,
    }
}
