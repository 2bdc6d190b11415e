//! Why a group is where it is: puts together what the cores, the rows, the log and the connections know of one group.

use std::collections::BTreeSet;

use mynet_proto::{
    consensus::Seat,
    node::NodeCore,
    placement::{Considered, PlacementSlot},
    reason::Reason,
    replication::explain::{Coordination, TargetState},
};
use mynet_store::meta::{Group, LogLine};
use mynet_types::{ContentState, DecryptedClass, Manifest, Mono, NodeId, Now, Verdict, VerifiedChain, rpc::GroupKey};

use crate::{
    find::Found,
    handle::NodeError,
    publish::mode_word,
    shell::Shell,
    view::{
        CandidateView, CopyView, DecryptedView, GroupView, LogView, OutcomeView, PlacementView, ReasonView,
        ReplicationStatusView, RoleView, SeatView, WhyView,
    },
};

/// The code for a node that cannot be reached. No core decides by connections, so it is no [`Reason`] and never a line of a log.
const UNREACHABLE: &str = "unreachable";

/// Whom this node can talk to.
#[derive(Debug)]
pub(crate) struct Reach {
    me: NodeId,
    up: BTreeSet<NodeId>,
}

impl Reach {
    /// What keeps a node from doing its part, as far as this one can tell.
    fn hindrance(&self, node: NodeId) -> Option<ReasonView> {
        (node != self.me && !self.up.contains(&node)).then(|| ReasonView {
            code: UNREACHABLE.to_owned(),
            says: "it cannot be reached from this node; it is asked as soon as it can".to_owned(),
        })
    }
}

/// What the cores know of one group.
#[derive(Debug)]
pub(crate) struct Explained {
    /// When they were asked.
    pub(crate) now: Mono,
    /// What this node does about it, if it replicates it.
    pub(crate) coordination: Option<Coordination>,
    /// What placement makes of every node.
    pub(crate) placement: Vec<Considered>,
    /// What the validators said.
    pub(crate) seats: Vec<Seat>,
}

impl Explained {
    pub(crate) fn of(core: &NodeCore, manifest: &Manifest, copies: usize, now: Now) -> Self {
        let replication = core.replication_core();
        Self {
            now: now.mono,
            coordination: replication.coordination(&manifest.group_id),
            placement: replication.placement(manifest, copies, now.wall),
            seats: core.consensus_core().seats(&manifest.hash()),
        }
    }
}

impl Shell {
    /// Whom this node can talk to now.
    pub(crate) fn reach(&self) -> Reach {
        Reach { me: self.me(), up: self.members.up() }
    }

    /// Why a group is where it is, as far as this node knows.
    pub(crate) async fn why(&self, key: GroupKey) -> Result<WhyView, NodeError> {
        let found = self.find_complete(key).await?;
        let view = self.group_view(&found).await?;
        let manifest = &found.manifest;
        let (asked, copies_wanted) = (manifest.clone(), view.replicas_wanted);
        let explained = self.inbox.ask(move |core, now| Explained::of(core, &asked, copies_wanted, now));
        let explained = explained.await.ok_or(NodeError::Stopping)?;
        let reach = self.reach();
        let copies = copies(&found, &explained, &reach);
        let seats = seats(&found, &explained, (&self.members.chain(), &reach));
        let log = self.log_of(&manifest.group_id).await?;
        let mut granted: Vec<NodeId> = match &found.local {
            Some(_) => self.meta.wraps(manifest.group_id, None).await.map_err(NodeError::storage)?,
            None => found.wraps.clone(),
        }
        .into_iter()
        .map(|wrap| wrap.body.recipient)
        .collect();
        granted.sort_unstable();
        granted.dedup();
        Ok(WhyView {
            group_id: manifest.group_id,
            version: manifest.version,
            manifest_hash: view.manifest_hash,
            node_id: self.me(),
            role: role(found.local.as_ref()),
            summary: vec![replication_sentence(&view, &copies, manifest.quorum), consensus_sentence(&view, &seats)],
            replication_status: view.replication_status,
            replica_count: view.replica_count,
            replicas_wanted: view.replicas_wanted,
            quorum: manifest.quorum.into(),
            mode: found.local.as_ref().filter(|group| group.origin).map(|group| mode_word(group.mode).to_owned()),
            placement: PlacementView {
                slot: PlacementSlot::of(&manifest.placement_seed).number(),
                candidates: explained.placement.iter().map(candidate).collect(),
            },
            copies,
            decrypted: DecryptedView { class: class_word(manifest.class).to_owned(), granted },
            consensus: view.consensus,
            seats,
            log: log.iter().map(log_view).collect(),
        })
    }
}

fn class_word(class: DecryptedClass) -> &'static str {
    match class {
        DecryptedClass::None => "none",
        DecryptedClass::Granted => "granted",
        DecryptedClass::Public => "public",
    }
}

fn role(local: Option<&Group>) -> RoleView {
    match local {
        Some(group) if group.origin => RoleView::Origin,
        Some(_) => RoleView::Holder,
        None => RoleView::None,
    }
}

/// A reason as it is shown.
pub(crate) fn reason_view(reason: Reason) -> ReasonView {
    ReasonView { code: reason.code().to_owned(), says: reason.says().to_owned() }
}

fn candidate(considered: &Considered) -> CandidateView {
    CandidateView {
        node_id: considered.node,
        region: considered.domain.region.to_string(),
        zone: considered.domain.zone.to_string(),
        rank: considered.rank,
        chosen: considered.reason == Reason::Chosen,
        reason: reason_view(considered.reason),
    }
}

/// Copies there are, by receipt, and copies that are owed: by the coordinator's own word where it is asked, elsewhere by
/// placement alone.
pub(crate) fn copies(found: &Found, explained: &Explained, reach: &Reach) -> Vec<CopyView> {
    let held = found.backing.receipts.iter().map(|receipt| CopyView {
        node_id: receipt.body.holder,
        state: TargetState::Held.as_str().to_owned(),
        states: receipt.body.states.iter().collect(),
        until: Some(receipt.body.until),
        attempt: None,
        last_refusal: None,
        next_try_seconds: None,
        hindered_by: reach.hindrance(receipt.body.holder),
    });
    let mut copies: Vec<CopyView> = held.collect();
    let targets = explained.coordination.iter().flat_map(|coordination| &coordination.targets);
    for target in targets.filter(|target| target.state != TargetState::Held) {
        if copies.iter().any(|copy| copy.node_id == target.node) {
            continue;
        }
        copies.push(CopyView {
            node_id: target.node,
            state: target.state.as_str().to_owned(),
            states: target.states.iter().collect(),
            until: None,
            attempt: Some(target.attempt),
            last_refusal: target.refusal.map(reason_view),
            next_try_seconds: target.next_try.map(|at| at.since(explained.now).as_secs()),
            hindered_by: reach.hindrance(target.node),
        });
    }
    let least: Vec<ContentState> = found.manifest.allowed(false).iter().collect();
    for chosen in explained.placement.iter().filter(|considered| considered.reason == Reason::Chosen) {
        if copies.iter().all(|copy| copy.node_id != chosen.node) {
            copies.push(CopyView {
                node_id: chosen.node,
                state: "missing".to_owned(),
                states: least.clone(),
                until: None,
                attempt: None,
                last_refusal: None,
                next_try_seconds: None,
                hindered_by: reach.hindrance(chosen.node),
            });
        }
    }
    copies
}

/// What the validators said: by the certificate, and by what this node heard beside it.
pub(crate) fn seats(found: &Found, explained: &Explained, (chain, reach): (&VerifiedChain, &Reach)) -> Vec<SeatView> {
    let mut seats = said(found, explained, chain);
    for seat in seats.iter_mut().filter(|seat| seat.said.is_none()) {
        seat.hindered_by = reach.hindrance(seat.node_id);
    }
    seats
}

fn said(found: &Found, explained: &Explained, chain: &VerifiedChain) -> Vec<SeatView> {
    let seat_view = |node_id, said| SeatView { node_id, said, hindered_by: None };
    let heard = |seat: &Seat| seat_view(seat.node, seat.said.map(reason_view));
    let mut seats: Vec<SeatView> = explained.seats.iter().map(heard).collect();
    let Some(file) = found.backing.certificate.as_deref() else { return seats };
    let statement = &file.certificate.statement;
    let said = match statement.verdict {
        Verdict::Accept => Reason::VoteAccept,
        Verdict::Reject => Reason::VoteReject,
    };
    let Some(roster) = chain.roster(statement.epoch) else { return seats };
    let signed: Vec<usize> = file.certificate.signers.seats().collect();
    for (seat, node) in roster.nodes().enumerate() {
        let said = signed.contains(&seat).then(|| reason_view(said));
        match seats.iter_mut().find(|known| known.node_id == node) {
            Some(known) => known.said = known.said.take().or(said),
            None => seats.push(seat_view(node, said)),
        }
    }
    seats
}

fn log_view(line: &LogLine) -> LogView {
    let known = Reason::from_code(&line.code);
    LogView {
        reason: ReasonView {
            code: line.code.clone(),
            says: known.map_or("written by another version of this program", Reason::says).to_owned(),
        },
        node_id: line.peer,
        unit: known.and_then(Reason::unit).filter(|_| line.value.is_some()).map(str::to_owned),
        value: line.value,
        count: line.count,
        first: line.first_at,
        last: line.last_at,
    }
}

/// How far replication is, and what it waits for.
pub(crate) fn replication_sentence(view: &GroupView, copies: &[CopyView], quorum: u8) -> String {
    let (have, wanted) = (view.replica_count, view.replicas_wanted);
    let mut owed: Vec<&CopyView> = copies.iter().filter(|copy| copy.until.is_none()).collect();
    // Whoever keeps the others waiting first.
    owed.sort_by_key(|copy| (copy.hindered_by.is_none(), copy.state == TargetState::Prepared.as_str()));
    let waits = match owed.as_slice() {
        [] => String::new(),
        [one] => format!("; {} {}", one.node_id.short(), owed_words(one)),
        [one, _] => format!("; {} {}, and one more is owed", one.node_id.short(), owed_words(one)),
        [one, rest @ ..] => format!("; {} {}, and {} more are owed", one.node_id.short(), owed_words(one), rest.len()),
    };
    let held = copies.iter().filter(|copy| copy.until.is_some() && copy.hindered_by.is_some());
    let away: Vec<String> = held.map(|copy| copy.node_id.short()).collect();
    let waits = match away.is_empty() {
        true => waits,
        false => format!("; of the holders {} cannot be reached now{waits}", away.join(", ")),
    };
    match view.replication_status {
        ReplicationStatusView::None => {
            "stored on this node only; `mynet publish` replicates it to other nodes".to_owned()
        }
        ReplicationStatusView::Replicated => {
            format!("replicated: {have} of {wanted} copies have their receipts{waits}")
        }
        ReplicationStatusView::Degraded => {
            let homeless = match wanted.saturating_sub(copies.len()) {
                0 => String::new(),
                1 => "; one more waits for a node that may hold it".to_owned(),
                count => format!("; {count} more wait for nodes that may hold them"),
            };
            format!("durable, with {have} of {wanted} copies{waits}{homeless}")
        }
        ReplicationStatusView::Pending => {
            let asked = copies.iter().filter(|copy| copy.attempt.is_some()).count();
            match asked < usize::from(quorum) {
                true => format!("waiting: {quorum} nodes must hold it, and too few that may are admitted{waits}"),
                false => {
                    format!("waiting: {quorum} nodes must hold it; {asked} are asked, and too few are ready{waits}")
                }
            }
        }
        ReplicationStatusView::Replicating => {
            format!("not durable yet: {have} receipts of the {quorum} needed{waits}")
        }
        ReplicationStatusView::Failed => format!("failed with {have} of {wanted} copies: an operator must look"),
    }
}

/// What a copy that is owed waits for.
fn owed_words(copy: &CopyView) -> String {
    let why = match &copy.last_refusal {
        _ if copy.hindered_by.is_some() => "cannot be reached".to_owned(),
        Some(refusal) => refusal.says.replace("it refused: ", "refused: ").replace("; asked again", ""),
        None => match copy.state.as_str() {
            "missing" => "has no receipt".to_owned(),
            "receiving" => "is receiving".to_owned(),
            "asked" => "was asked and has not answered".to_owned(),
            state => format!("is {state}"),
        },
    };
    match copy.next_try_seconds {
        Some(seconds) => format!("{why} (next try in {seconds} s)"),
        None => why,
    }
}

/// How far the votes are, and who is missing.
pub(crate) fn consensus_sentence(view: &GroupView, seats: &[SeatView]) -> String {
    let consensus = &view.consensus;
    let (yes, no, need, all) = (consensus.accepts, consensus.rejects, consensus.quorum, consensus.validators);
    use ReplicationStatusView::{None as Unpublished, Pending, Replicating};
    let asked = yes + no > 0 || !matches!(view.replication_status, Unpublished | Pending | Replicating);
    let silent = seats.iter().filter(|seat| seat.said.is_none()).map(|seat| match &seat.hindered_by {
        Some(_) => format!("{} (cannot be reached)", seat.node_id.short()),
        None => seat.node_id.short(),
    });
    let silent: Vec<String> = silent.collect();
    let missing = if silent.is_empty() { String::new() } else { format!("; not heard of: {}", silent.join(", ")) };
    match consensus.outcome {
        OutcomeView::Approved => format!("certified by {yes} of {all} validators"),
        OutcomeView::Rejected => format!("rejected by {no} of {all} validators"),
        OutcomeView::NotEnoughValidators => {
            format!("no certificate: {all} validators are too few to certify in this network")
        }
        OutcomeView::Pending | OutcomeView::Undecided if !asked => {
            "no certificate yet: the validators are asked when the group is durable".to_owned()
        }
        OutcomeView::Pending | OutcomeView::Undecided => {
            format!("no certificate yet: {yes} yes and {no} no of {all} validators, {need} yes are needed{missing}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use mynet_proto::reason::Reason;
    use mynet_types::{ContentId, ContentState, GroupId, ManifestHash, NodeId, OwnerKey, Timestamp};

    use super::{Reach, UNREACHABLE, consensus_sentence, replication_sentence};
    use crate::view::{ConsensusView, CopyView, GroupView, OutcomeView, ReplicationStatusView, SeatView};

    const ME: NodeId = NodeId([1; 32]);
    const UP: NodeId = NodeId([2; 32]);
    const AWAY: NodeId = NodeId([3; 32]);

    fn reach() -> Reach {
        Reach { me: ME, up: BTreeSet::from([UP]) }
    }

    fn group(replication_status: ReplicationStatusView) -> GroupView {
        let consensus = ConsensusView {
            outcome: OutcomeView::Undecided,
            accepts: 2,
            rejects: 0,
            quorum: 3,
            validators: 3,
            certificate: false,
        };
        GroupView {
            group_id: GroupId([7; 32]),
            version: 1,
            manifest_hash: ManifestHash([7; 32]),
            root_content_id: ContentId([7; 16]),
            owner: OwnerKey([7; 32]),
            created_at: Timestamp::default(),
            tags: None,
            filename: None,
            states: Vec::new(),
            relationships: Vec::new(),
            replication_status,
            replica_count: 2,
            replicas_wanted: 3,
            replicated_on_peers: Vec::new(),
            last_sync_timestamp: None,
            consensus,
            consensus_achieved: false,
            wait_result: None,
            no_preview: None,
            operation_id: None,
        }
    }

    /// A copy with its receipt, or one that is owed.
    fn copy(node_id: NodeId, held: bool) -> CopyView {
        CopyView {
            node_id,
            state: if held { "held" } else { "asked" }.to_owned(),
            states: vec![ContentState::Encrypted],
            until: held.then(Timestamp::default),
            attempt: None,
            last_refusal: None,
            next_try_seconds: (!held).then_some(4),
            hindered_by: reach().hindrance(node_id),
        }
    }

    #[test]
    fn a_node_without_a_connection_is_unreachable_and_this_one_never_is() {
        let code = |node| reach().hindrance(node).map(|reason| reason.code);
        assert_eq!((code(ME), code(UP), code(AWAY)), (None, None, Some(UNREACHABLE.to_owned())));
        assert_eq!(Reason::from_code(UNREACHABLE), None, "the code is not given to something else");
    }

    #[test]
    fn the_summary_names_who_cannot_be_reached_whether_it_holds_or_owes() {
        let degraded = group(ReplicationStatusView::Degraded);
        let says = |view: &GroupView, copies: &[CopyView]| replication_sentence(view, copies, 2);
        let (up, away) = (UP.short(), AWAY.short());
        let owes = says(&degraded, &[copy(ME, true), copy(UP, true), copy(AWAY, false)]);
        assert_eq!(owes, format!("durable, with 2 of 3 copies; {away} cannot be reached (next try in 4 s)"));
        let prepared = CopyView { state: "prepared".to_owned(), ..copy(UP, false) };
        let both = says(&degraded, &[copy(ME, true), prepared, copy(AWAY, false)]);
        assert!(both.ends_with(&format!("{away} cannot be reached (next try in 4 s), and one more is owed")), "{both}");
        let slow = says(&degraded, &[copy(ME, true), copy(UP, false)]);
        assert_eq!(
            slow,
            format!(
                "durable, with 2 of 3 copies; {up} was asked and has not answered (next try in 4 s); one more waits \
                 for a node that may hold it"
            )
        );
        let holds =
            says(&group(ReplicationStatusView::Replicated), &[copy(ME, true), copy(UP, true), copy(AWAY, true)]);
        assert!(holds.ends_with(&format!("their receipts; of the holders {away} cannot be reached now")), "{holds}");

        let silent = |node_id| SeatView { node_id, said: None, hindered_by: reach().hindrance(node_id) };
        let votes = consensus_sentence(&degraded, &[silent(UP), silent(AWAY)]);
        assert!(votes.ends_with(&format!("not heard of: {up}, {away} (cannot be reached)")), "{votes}");
        let mut unasked = group(ReplicationStatusView::Replicating);
        unasked.consensus.accepts = 0;
        let votes = consensus_sentence(&unasked, &[silent(UP)]);
        assert!(votes.ends_with("asked when the group is durable"), "nobody is blamed before: {votes}");
    }
}
