//! How far the replication of one version of a group came, for whoever began it and does not wait.
//!
//! An operation is no record of its own: it is the state of its group, read for one version, so it survives whatever the group
//! survives and there is nothing to collect.

use std::collections::BTreeMap;

use mynet_proto::replication::explain::TargetState;
use mynet_store::meta::Group;
use mynet_types::{Manifest, StatesMask, rpc::GroupKey};

use crate::{
    find::Found,
    handle::NodeError,
    publish::need,
    shell::Shell,
    view::{
        CopyView, OperationId, OperationState, OperationTargetView, OperationView, OutcomeView, ReplicationStatusView,
    },
    why::{Explained, consensus_sentence, copies, replication_sentence, seats},
};

impl Shell {
    /// How far the replication of a version of a group that was uploaded here came.
    pub(crate) async fn operation(&self, id: OperationId) -> Result<OperationView, NodeError> {
        let unknown = || NodeError::NotFound(format!("operation {id}"));
        let key = GroupKey::Group(id.group_id);
        let local = self.meta.group(&key).await.map_err(NodeError::storage)?;
        let (group, _) = local.filter(|(group, _)| group.origin).ok_or_else(unknown)?;
        let visible = group.manifest.body.version;
        let coming = visible < id.version && self.next_version(id.group_id).await? == Some(id.version);
        if !group.published || (visible != id.version && !coming) {
            return Err(unknown());
        }
        if coming {
            return Ok(self.before_it_is_seen(id, &group));
        }
        let found = self.find_group(key).await?;
        let view = self.group_view(&found).await?;
        let (copies_needed, stuck) = (usize::from(need(&group)), self.board.get(&id.group_id).not_enough_targets);
        let asked = (found.manifest.clone(), view.replicas_wanted);
        let explained = self.inbox.ask(move |core, now| Explained::of(core, &asked.0, asked.1, now));
        let explained = explained.await.ok_or(NodeError::Stopping)?;
        let reach = self.reach();
        let copies = copies(&found, &explained, &reach);
        let summary = vec![
            replication_sentence(&view, &copies, found.manifest.quorum),
            consensus_sentence(&view, &seats(&found, &explained, (&self.members.chain(), &reach))),
        ];
        let targets = self.targets_of(copies, &found, &explained);
        Ok(OperationView {
            operation_id: id.to_string(),
            group_id: id.group_id,
            version: id.version,
            state: state(view.consensus.outcome, view.replication_status, stuck),
            summary,
            copies_done: view.replica_count,
            copies_needed,
            copies_wanted: view.replicas_wanted,
            bytes_done: targets.iter().map(|target| target.bytes_done).fold(0, u64::saturating_add),
            bytes_total: targets.iter().map(|target| target.bytes_total).fold(0, u64::saturating_add),
            consensus: view.consensus,
            targets,
        })
    }

    /// The operation of a version that is not certified yet, before which there is nothing to copy.
    fn before_it_is_seen(&self, id: OperationId, group: &Group) -> OperationView {
        let consensus = self.consensus_view(None, self.board.get(&id.group_id).tally_beside(&group.manifest_hash));
        let (version, yes, quorum) = (id.version, consensus.accepts, consensus.quorum);
        OperationView {
            operation_id: id.to_string(),
            group_id: id.group_id,
            version: id.version,
            state: OperationState::Running,
            summary: vec![
                format!("version {version} is copied and shown once the validators have certified it"),
                format!("version {version} has {yes} of {quorum} votes"),
            ],
            copies_done: 0,
            copies_needed: need(group).into(),
            copies_wanted: group.replicas_wanted.into(),
            bytes_done: 0,
            bytes_total: 0,
            consensus,
            targets: Vec::new(),
        }
    }

    /// The copies on other nodes, with the bytes that they reported.
    fn targets_of(&self, copies: Vec<CopyView>, found: &Found, explained: &Explained) -> Vec<OperationTargetView> {
        let reported: BTreeMap<_, _> = explained
            .coordination
            .iter()
            .flat_map(|coordination| &coordination.targets)
            .map(|target| (target.node, target.bytes))
            .collect();
        copies
            .into_iter()
            .filter(|copy| copy.node_id != self.me())
            .map(|CopyView { node_id, state, states, last_refusal, hindered_by, .. }| {
                let bytes_total = bytes_of(&found.manifest, states.iter().copied().collect());
                let bytes_done = match reported.get(&node_id) {
                    _ if state == TargetState::Held.as_str() => bytes_total,
                    reported => reported.map_or(0, |bytes| bytes_total.min(*bytes)),
                };
                OperationTargetView { node_id, state, states, bytes_done, bytes_total, last_refusal, hindered_by }
            })
            .collect()
    }
}

/// How an operation stands by what became of its group; `stuck` if too few nodes were found for its copies.
fn state(outcome: OutcomeView, replication: ReplicationStatusView, stuck: bool) -> OperationState {
    let copied = replication == ReplicationStatusView::Replicated;
    match outcome {
        OutcomeView::Rejected => OperationState::Failed,
        OutcomeView::Approved if copied => OperationState::Succeeded,
        OutcomeView::NotEnoughValidators if copied => OperationState::Waiting,
        _ if stuck && !copied => OperationState::Waiting,
        _ => OperationState::Running,
    }
}

/// Bytes of the blobs of these states.
fn bytes_of(manifest: &Manifest, states: StatesMask) -> u64 {
    let blobs = manifest.blobs().filter(|(member, _)| states.contains(member.state));
    blobs.map(|(_, blob)| blob.size).fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::{
        OperationState::{self, Failed, Running, Succeeded, Waiting},
        OutcomeView::{self, Approved, NotEnoughValidators, Pending, Rejected, Undecided},
        ReplicationStatusView::{Degraded, Pending as Open, Replicated},
        state,
    };

    #[test]
    fn an_operation_succeeds_with_all_copies_and_a_yes_and_fails_with_a_no_alone() {
        let cases: [(OutcomeView, _, bool, OperationState); 10] = [
            (Approved, Replicated, false, Succeeded),
            (Approved, Replicated, true, Succeeded),
            (Approved, Degraded, false, Running),
            (Approved, Degraded, true, Waiting),
            (Pending, Open, false, Running),
            (Pending, Open, true, Waiting),
            (Undecided, Replicated, false, Running),
            (NotEnoughValidators, Replicated, false, Waiting),
            (NotEnoughValidators, Degraded, false, Running),
            (Rejected, Replicated, true, Failed),
        ];
        for (outcome, replication, stuck, want) in cases {
            assert_eq!(state(outcome, replication, stuck), want, "{outcome:?} {replication:?} {stuck}");
        }
    }
}
