//! What a coordinator says to its targets and holders.

use std::time::Duration;

use mynet_types::{BoundedVec, NodeId, ReplicationMessage, TxId, wire::Prepare};

use super::{
    super::{
        io::Timer,
        lease, plan,
        step::{Pending, Step},
        target::{Errand, TargetState},
    },
    Group, Stage, Transaction,
};
use crate::reason::Reason;

impl Group {
    /// Does what a target's state asks for, and sets its timer.
    pub(in crate::replication) fn run(&mut self, node: NodeId, errand: Errand, step: &mut Step<'_>) {
        match errand {
            Errand::Prepare => self.send_prepare(node, step),
            Errand::Commit => self.send_commit(node, step),
            Errand::Nothing => {}
        }
        let Some(transaction) = &mut self.transaction else { return };
        let tx = transaction.id;
        let armed = transaction.targets.get_mut(&node).and_then(|t| t.arm(step.now.mono, &step.shared.config));
        if let Some((generation, pause)) = armed {
            step.set_timer(Timer::Target { tx, node, generation }, pause);
        }
    }

    pub(super) fn send_prepare(&mut self, node: NodeId, step: &mut Step<'_>) {
        let holders =
            self.receipts.holders(step.now.wall).filter(|holder| *holder != node && *holder != step.shared.node);
        let sources: Vec<NodeId> = [step.shared.node].into_iter().chain(holders).collect();
        let Some(transaction) = &mut self.transaction else { return };
        let targets: Vec<NodeId> = transaction.targets.keys().copied().collect();
        let Some(target) = transaction.targets.get_mut(&node).filter(|target| !target.is_local()) else { return };
        target.states = plan::states_for(&self.publication.manifest.body, &self.publication.wraps, &node);
        target.sent(step.now.mono);
        let prepare = Prepare {
            tx: transaction.id,
            attempt: target.attempt,
            manifest: self.publication.manifest.clone(),
            sealed: self.publication.sealed.clone(),
            wraps: self.publication.wraps.clone(),
            states: target.states,
            sources: BoundedVec::truncated(sources),
            targets: BoundedVec::truncated(targets),
            lease_ms: lease::to_wire(step.shared.config.receiving_lease),
            head: self.publication.head.as_ref().map(|head| Box::new(head.certificate.clone())),
        };
        let attempt = prepare.attempt;
        step.send(node, ReplicationMessage::Prepare(Box::new(prepare)));
        step.note(self.about(Reason::PrepareSent).with(node).value(attempt));
    }

    /// Sends the commit. Only with the decision on disk: that is the one rule of this protocol that must never break. And only with it
    /// on disk that this node is told, or nobody would know later who may show the group.
    pub(super) fn send_commit(&mut self, node: NodeId, step: &mut Step<'_>) {
        if !self.is_committed() {
            return;
        }
        let told = self.is_told(&node) || node == step.shared.node;
        let Some(transaction) = &mut self.transaction else { return };
        let Some(target) = transaction.targets.get_mut(&node) else { return };
        if !told {
            let tx = transaction.id;
            return self.write_told(tx, node, step);
        }
        target.state = TargetState::Committing;
        let attempt = target.attempt;
        let decision = step.sign_decision((transaction.id, attempt), self.manifest_hash, true);
        step.send(node, ReplicationMessage::Decision(decision));
        step.note(self.about(Reason::CommitSent).with(node).value(attempt));
    }

    /// Writes down that a node is told to commit, unless that is under way.
    pub(super) fn write_told(&mut self, tx: TxId, node: NodeId, step: &mut Step<'_>) {
        let group_id = self.publication.manifest.body.group_id;
        if self.told.insert(node, false).is_none() {
            step.persist(vec![self.telling(vec![node])], Pending::Told(group_id, tx, node));
        }
    }

    pub(super) fn send_renewal(&mut self, node: NodeId, lease: Duration, step: &mut Step<'_>) {
        let Some(transaction) = &mut self.transaction else { return };
        let Some(target) = transaction.targets.get_mut(&node) else { return };
        target.sent(step.now.mono);
        let (tx, attempt) = (transaction.id, target.attempt);
        step.send(node, ReplicationMessage::LeaseRenew { tx, attempt, lease_ms: lease::to_wire(lease) });
    }

    pub(super) fn send_receipts(&self, holder: NodeId, step: &mut Step<'_>) {
        if holder != step.shared.node {
            let group_id = self.publication.manifest.body.group_id;
            let receipts = self.receipts.to_wire(step.now.wall);
            step.send(holder, ReplicationMessage::Receipts { group_id, manifest_hash: self.manifest_hash, receipts });
        }
    }

    pub(super) fn send_wraps(&self, node: NodeId, step: &mut Step<'_>) {
        if node != step.shared.node {
            let group_id = self.publication.manifest.body.group_id;
            step.send(node, ReplicationMessage::Wraps { group_id, wraps: self.publication.wraps.clone() });
        }
    }

    /// Tells everybody who may hold a reservation that an undecided transaction is over.
    pub(in crate::replication) fn abandon(&self, transaction: &Transaction, step: &mut Step<'_>) {
        if transaction.stage != Stage::Preparing && !mynet_types::planted!(AbortAfterCommit) {
            return;
        }
        for (node, target) in &transaction.targets {
            let asked = matches!(target.state, TargetState::Asked | TargetState::Receiving | TargetState::Prepared);
            let asked = asked || mynet_types::planted!(AbortAfterCommit);
            if asked && !target.is_local() {
                let decision = step.sign_decision((transaction.id, target.attempt), self.manifest_hash, false);
                step.send(*node, ReplicationMessage::Decision(decision));
            }
        }
    }
}
