//! What publishing a group would do, before anything runs: the core's plan, and what the targets say they hold.

use std::collections::BTreeMap;

use mynet_proto::{
    placement::PlacementSlot,
    replication::{
        io::Mode,
        plan::{Holding, Plan, PlannedTarget},
    },
};
use mynet_types::{ContentState, DecryptedClass, GroupId, Manifest, NodeId, StatesMask, rpc::GroupKey};

use crate::{
    handle::{NodeError, PublishOptions},
    publish::{mode_word, stored_mode},
    shell::Shell,
    view::{BatchView, PlanTargetView, PlanView, WarningView},
};

/// What a target holds, and how that is known.
#[derive(Debug, Clone, Copy)]
struct Known {
    states: StatesMask,
    by: &'static str,
}

impl Shell {
    /// What publishing a group would do. Asks the targets that can be reached and gave no receipt what they hold.
    pub(crate) async fn plan(&self, group_id: GroupId, options: &PublishOptions) -> Result<PlanView, NodeError> {
        let (publication, _) = self.publication(group_id, options).await?;
        let (manifest, mode) = (publication.manifest.body.clone(), publication.mode);
        let granted = !publication.wraps.is_empty();
        let plan = self.inbox.ask(move |core, now| core.replication_core().plan(&publication, now.wall));
        let plan = plan.await.ok_or(NodeError::Stopping)?;
        let known = self.known(&plan).await?;
        let targets: Vec<PlanTargetView> =
            plan.targets.iter().map(|target| target_view(target, &manifest, known.get(&target.node))).collect();
        let mut warnings = warnings(&plan, mode);
        warnings.extend(targets.iter().flat_map(|target| self.obstacles(target)));
        if manifest.class == DecryptedClass::Granted && !granted {
            warnings.push(warning("only_key", "the only key is here: if this node is lost, so is the content"));
        }
        Ok(PlanView {
            group_id,
            replicas: plan.copies,
            quorum: plan.need,
            mode: mode_word(stored_mode(mode)).to_owned(),
            eligible: plan.eligible,
            slot: PlacementSlot::number(plan.slot),
            bytes: targets.iter().map(|target| target.bytes).sum(),
            batches: plan
                .targets
                .first()
                .map(|first| first.batches.iter().map(|batch| vec![batch.state]).collect())
                .unwrap_or_default(),
            targets,
            warnings,
        })
    }

    /// What the targets of a plan hold already: by receipt, or by their own answer.
    async fn known(&self, plan: &Plan) -> Result<BTreeMap<NodeId, Known>, NodeError> {
        let receipts = self.meta.receipts_of_group(plan.group_id).await.map_err(NodeError::storage)?;
        let mut known: BTreeMap<NodeId, Known> = receipts
            .iter()
            .map(|receipt| (receipt.body.holder, Known { states: receipt.body.states, by: "receipt" }))
            .collect();
        let silent: Vec<NodeId> = plan
            .targets
            .iter()
            .filter(|target| target.holding == Holding::Nothing && !known.contains_key(&target.node))
            .map(|target| target.node)
            .collect();
        for (node, info) in self.ask_peers(&silent, GroupKey::Group(plan.group_id)).await.found {
            if info.manifest.body.hash() == plan.manifest_hash {
                known.insert(node, Known { states: info.held, by: "answer" });
            }
        }
        Ok(known)
    }

    /// What may keep one target from taking its copy.
    fn obstacles(&self, target: &PlanTargetView) -> Vec<WarningView> {
        let node = target.node_id;
        let mut warnings = Vec::new();
        if target.held {
            return warnings;
        }
        if !self.members.up().contains(&node) {
            let message = format!("{} cannot be reached now; it is asked until it can", node.short());
            warnings.push(warning("unreachable", message));
        }
        let free = self.members.record(&node).map(|record| record.body.capacity.saturating_sub(record.body.bytes));
        if let Some(free) = free.filter(|free| *free < target.bytes) {
            let message = format!("{} says it has {free} bytes left, {} are to be sent", node.short(), target.bytes);
            warnings.push(warning("little_space", message));
        }
        warnings
    }
}

fn warning(code: &str, message: impl Into<String>) -> WarningView {
    WarningView { code: code.to_owned(), message: message.into() }
}

/// What stands in the way of the plan as a whole.
fn warnings(plan: &Plan, mode: Mode) -> Vec<WarningView> {
    let Plan { eligible, need, copies, .. } = *plan;
    let mut warnings = Vec::new();
    if !plan.is_feasible() {
        let rule = if mode == Mode::All { "every copy is to be there" } else { "so many make it durable" };
        let message =
            format!("{eligible} nodes may hold it, {need} must ({rule}): nothing is sent until more are admitted");
        warnings.push(warning("too_few_nodes", message));
    } else if eligible < copies {
        let message = format!("{eligible} nodes may hold it, {copies} copies are wanted: the others are owed");
        warnings.push(warning("fewer_copies", message));
    }
    if plan.targets.iter().any(|target| target.shares_domain) {
        warnings.push(warning("zone_shared", "there are fewer zones than copies: one failure may take two of them"));
    }
    warnings
}

fn target_view(target: &PlannedTarget, manifest: &Manifest, known: Option<&Known>) -> PlanTargetView {
    let origin = target.holding == Holding::Origin;
    let holds = |state| origin || known.is_some_and(|known| known.states.contains(state));
    let batches: Vec<BatchView> = target
        .batches
        .iter()
        .map(|batch| BatchView {
            state: batch.state,
            bytes: if holds(batch.state) { 0 } else { batch.bytes },
            held: holds(batch.state),
            why: state_why(batch.state, manifest).to_owned(),
        })
        .collect();
    PlanTargetView {
        node_id: target.node,
        region: target.domain.region.to_string(),
        zone: target.domain.zone.to_string(),
        rank: target.rank,
        states: target.batches.iter().map(|batch| batch.state).collect(),
        held: batches.iter().all(|batch| batch.held),
        known_by: if origin { "origin" } else { known.map_or("unknown", |known| known.by) }.to_owned(),
        bytes: batches.iter().map(|batch| batch.bytes).sum(),
        batches,
        why: if target.shares_domain {
            format!("rank {}; too few zones", target.rank)
        } else {
            format!("rank {}, the best of its zone", target.rank)
        },
    }
}

/// Why a target gets a state.
fn state_why(state: ContentState, manifest: &Manifest) -> &'static str {
    match (state, manifest.class) {
        (ContentState::Encrypted, _) => "every holder keeps it",
        (ContentState::Preview, _) => "every holder keeps it",
        (ContentState::Decrypted, DecryptedClass::Public) => "the content is public",
        (ContentState::Decrypted, _) => "its owner granted it: a view, decrypted where it is read",
    }
}
