//! Inputs and outputs in one short line each, with nodes by their place in the play.

use mynet_proto::{
    consensus::io::{Event as ConsensusEvent, Record as VoteRecord},
    node::io::{Event, Input, Output},
    replication::io::{Event as ReplicationEvent, Record as GroupRecord},
};
use mynet_types::{ConsensusMessage, Message, ReplicationMessage, wire::DecisionOutcome};

use crate::cast::Cast;

/// First digits of an identifier, enough to tell those of one run apart.
fn short(id: impl std::fmt::Display) -> String {
    id.to_string().chars().take(6).collect()
}

/// First digits of a root.
fn hex(root: &[u8; 32]) -> String {
    root.iter().take(3).map(|byte| format!("{byte:02x}")).collect()
}

/// One input.
pub(crate) fn input(input: &Input, cast: &Cast) -> String {
    match input {
        Input::Message { from, message } => format!("{} said {}", cast.name(from), self::message(message, cast)),
        Input::Publish(publication) => {
            let manifest = &publication.manifest.body;
            let (group, class) = (short(manifest.group_id), manifest.class);
            format!("publish {group} {class:?} W={} R={} {:?}", manifest.quorum, publication.replicas, publication.mode)
        }
        Input::Staged { tx, attempt, result } => format!("staged {} attempt {attempt}: {result:?}", short(tx)),
        Input::Progress { tx, bytes, .. } => format!("staging {} has {bytes} bytes", short(tx)),
        Input::Admitted(record) => format!("{} is admitted", cast.name(&record.body.node)),
        Input::PeerUp(peer) => format!("{} is up", cast.name(peer)),
        Input::PeerDown(peer) => format!("{} is down", cast.name(peer)),
        Input::OfferRecovery => "a recovery is wanted".to_owned(),
        Input::Recover { link, .. } => format!("recovery to epoch {}", link.roster.epoch),
        Input::Approve(node) => format!("{} is approved", cast.name(node)),
        Input::Wraps { group_id, wraps } => format!("{} wraps of {}", wraps.len(), short(group_id)),
        Input::Delete { tombstone, holders } => {
            format!("delete {} at {} holders", short(tombstone.body.group_id), holders.len())
        }
        Input::Certify { manifest, .. } => format!("certify {}", short(manifest.body.hash())),
        Input::CertifyHead { manifest, .. } => {
            format!("certify {} version {}", short(manifest.body.hash()), manifest.body.version)
        }
        Input::Hashed { manifest_hash, hashed } => format!("bytes of {}: {hashed:?}", short(manifest_hash)),
        Input::Start => "start".to_owned(),
        Input::Timer(timer) => format!("{timer:?}"),
        Input::Persisted(id) => format!("{id:?}"),
    }
}

/// One output.
pub(crate) fn output(output: &Output, cast: &Cast) -> String {
    match output {
        Output::Send { to, message } => format!("to {}: {}", cast.name(to), self::message(message, cast)),
        Output::PersistVotes { id, records } => {
            format!("votes {}: {}", id.0, records.iter().map(vote_record).collect::<Vec<_>>().join(", "))
        }
        Output::PersistGroups { id, records } => {
            format!("groups {}: {}", id.0, records.iter().map(group_record).collect::<Vec<_>>().join(", "))
        }
        Output::SetTimer { timer, at } => format!("timer {timer:?} at {}", at.0),
        Output::Stage { tx, attempt, states, .. } => format!("stage {} attempt {attempt} {states:?}", short(tx)),
        Output::CancelStage { tx } => format!("cancel staging {}", short(tx)),
        Output::Hash { manifest, .. } => format!("hash all of {}", short(manifest.hash())),
        Output::Event(event) => format!("event {}", self::event(event, cast)),
    }
}

fn event(event: &Event, cast: &Cast) -> String {
    match event {
        Event::Consensus(ConsensusEvent::Certified(file)) => {
            let statement = &file.certificate.statement;
            format!("certified {} {:?} epoch {}", short(statement.value), statement.verdict, statement.epoch)
        }
        Event::Consensus(ConsensusEvent::CertifiedAgain(file)) => {
            format!("certified again {}", short(file.certificate.statement.value))
        }
        Event::Consensus(ConsensusEvent::Progress { manifest_hash, claim, tally, .. }) => {
            format!("{} {claim:?} {tally:?}", short(manifest_hash))
        }
        Event::Consensus(ConsensusEvent::Voted(statement)) => {
            format!("voted {:?} {}", statement.verdict, short(statement.value))
        }
        Event::Consensus(ConsensusEvent::RosterChanged { epoch }) => format!("roster of epoch {epoch}"),
        Event::Consensus(ConsensusEvent::RecoveryOffered(offer)) => format!("recovery offered {}", offer.is_some()),
        Event::Consensus(ConsensusEvent::Recovered { epoch }) => format!("epoch {epoch} recovered"),
        Event::Consensus(ConsensusEvent::GaveUp { shared, gave_up }) => format!("gave up {gave_up} after {shared}"),
        Event::Consensus(ConsensusEvent::Evidence { node, .. }) => format!("evidence against {}", cast.name(node)),
        Event::Consensus(ConsensusEvent::OwnerEvidence(evidence)) => {
            format!("evidence against the owner of {}", short(evidence.group_id))
        }
        Event::Consensus(ConsensusEvent::Noted(note)) | Event::Replication(ReplicationEvent::Noted(note)) => {
            let peer = note.peer.as_ref().map(|peer| format!(" {}", cast.name(peer))).unwrap_or_default();
            format!("{} {}{peer}", short(note.group_id), note.reason)
        }
        Event::Consensus(ConsensusEvent::HeadBlocked { manifest_hash, other, certified, .. }) => {
            format!("{} blocked by {}, certified {certified}", short(manifest_hash), short(other))
        }
        Event::Replication(ReplicationEvent::Progress { group_id, status, receipts, .. }) => {
            format!("{} {status:?} with {} receipts", short(group_id), receipts.len())
        }
        Event::Replication(ReplicationEvent::Durable { manifest, receipts, .. }) => {
            format!("{} durable with {} receipts", short(manifest.body.group_id), receipts.len())
        }
        Event::Replication(ReplicationEvent::Refused { node, reason, .. }) => {
            format!("{} refused: {reason:?}", cast.name(node))
        }
        Event::Replication(other) => format!("{other:?}"),
    }
}

fn vote_record(record: &VoteRecord) -> String {
    match record {
        VoteRecord::Vote(vote) => {
            let statement = &vote.statement;
            format!("{:?} {:?} {}", statement.phase, statement.verdict, short(statement.value))
        }
        VoteRecord::Key { epoch, .. } => format!("key of epoch {epoch}"),
        VoteRecord::EraseKeys { through } => format!("erase keys through {through}"),
        VoteRecord::RosterLock(lock) => format!("lock {} epoch {}", short(lock.roster.hash()), lock.roster.epoch),
        VoteRecord::Link(link) => format!("link to {}", link.roster.epoch),
        VoteRecord::Proposal(open) => format!("proposal {}", short(open.proposal.body.manifest_hash)),
        VoteRecord::Closed(id) => format!("closed {}", short(id)),
        VoteRecord::Evidence(evidence) => format!("evidence against seat {} of {}", evidence.seat, evidence.epoch()),
        VoteRecord::OwnerEvidence(evidence) => format!("evidence against the owner of {}", short(evidence.group_id)),
        VoteRecord::OwnerSigned { signed, .. } => format!("signed {}", short(signed.body.manifest_hash)),
        VoteRecord::Approval { node, given } => format!("approval of {} {given}", node.short()),
        VoteRecord::Acked(head) => format!("acked {} version {}", short(head.group_id), head.version),
        VoteRecord::EpochClosed(next) => format!("epoch before {} closed", next.roster.epoch),
        VoteRecord::Carried(heads) => format!("{} carried", heads.len()),
        VoteRecord::CarriedNext(heads) => format!("{} to be carried", heads.len()),
        VoteRecord::Reported { heads, .. } => format!("{} reported", heads.len()),
        VoteRecord::Unlinked { after } => format!("links after {after} given up"),
    }
}

fn group_record(record: &GroupRecord) -> String {
    match record {
        GroupRecord::Intent(intent) => format!("intent {} {}", short(intent.prepare.tx), intent.prepare.attempt),
        GroupRecord::Prepared { tx, attempt, states } => format!("prepared {} {attempt} {states:?}", short(tx)),
        GroupRecord::Commit { tx, attempt, .. } => format!("commit {} {attempt}", short(tx)),
        GroupRecord::Abort { tx, attempt } => format!("abort {} {attempt}", short(tx)),
        GroupRecord::Forget(tx) => format!("forget {}", short(tx)),
        GroupRecord::Begin(publication) => format!("begin {}", short(publication.manifest.body.group_id)),
        GroupRecord::Told { group_id, nodes, .. } => format!("told {} about {}", nodes.len(), short(group_id)),
        GroupRecord::Decided(decided) => format!("decided {} for {}", short(decided.tx), decided.decisions.len()),
        GroupRecord::Receipts { group_id, receipts, .. } => {
            format!("{} receipts of {}", receipts.len(), short(group_id))
        }
        GroupRecord::Wraps { group_id, wraps } => format!("{} wraps of {}", wraps.len(), short(group_id)),
        GroupRecord::End(group_id) => format!("end {}", short(group_id)),
        GroupRecord::Tombstone { tombstone, holders, .. } => {
            format!("tombstone {} for {}", short(tombstone.body.group_id), holders.len())
        }
        GroupRecord::Confirmed { group_id, .. } => format!("confirmed {}", short(group_id)),
    }
}

/// One message.
pub(crate) fn message(message: &Message, cast: &Cast) -> String {
    match message {
        Message::Replication(message) => replication(message, cast),
        Message::Consensus(message) => consensus(message),
        Message::Membership(_) => "members".to_owned(),
    }
}

fn replication(message: &ReplicationMessage, cast: &Cast) -> String {
    match message {
        ReplicationMessage::Prepare(prepare) => {
            let targets: Vec<_> = prepare.targets.iter().map(|node| cast.name(node)).collect();
            let (tx, states) = (short(prepare.tx), prepare.states);
            format!("prepare {tx} {} {states:?} for {targets:?} lease {}", prepare.attempt, prepare.lease_ms)
        }
        ReplicationMessage::PrepareOk { tx, attempt } => format!("prepare ok {} {attempt}", short(tx)),
        ReplicationMessage::PrepareNo { tx, attempt, reason } => {
            format!("prepare no {} {attempt} {reason:?}", short(tx))
        }
        ReplicationMessage::Progress { tx, bytes, .. } => format!("progress {} {bytes}", short(tx)),
        ReplicationMessage::LeaseRenew { tx, lease_ms, .. } => format!("lease {} {lease_ms}", short(tx)),
        ReplicationMessage::Prepared { tx, attempt, states, .. } => {
            format!("prepared {} {attempt} {states:?}", short(tx))
        }
        ReplicationMessage::Decision(decision) => {
            let body = &decision.body;
            format!("decision {} {} {}", short(body.tx), body.attempt, if body.commit { "commit" } else { "abort" })
        }
        ReplicationMessage::DecisionAck { tx, attempt, outcome } => {
            let outcome = match outcome {
                DecisionOutcome::Committed(_) => "committed",
                DecisionOutcome::Aborted => "aborted",
                DecisionOutcome::Gone => "gone",
            };
            format!("ack {} {attempt} {outcome}", short(tx))
        }
        ReplicationMessage::StatusQuery { tx } => format!("status of {}?", short(tx)),
        ReplicationMessage::Status { tx, status, decision } => {
            let commit = decision.as_ref().map(|decision| decision.body.commit);
            format!("status of {}: {status:?}, commit {commit:?}", short(tx))
        }
        ReplicationMessage::Receipts { group_id, receipts, .. } => {
            format!("{} receipts of {}", receipts.len(), short(group_id))
        }
        ReplicationMessage::Wraps { group_id, wraps } => format!("{} wraps of {}", wraps.len(), short(group_id)),
        ReplicationMessage::Tombstones(tombstones) => format!("{} tombstones", tombstones.len()),
        ReplicationMessage::TombstonesKept { groups } => format!("{} tombstones kept", groups.len()),
    }
}

fn consensus(message: &ConsensusMessage) -> String {
    match message {
        ConsensusMessage::Propose { proposal, .. } => {
            format!("propose {} epoch {}", short(proposal.body.manifest_hash), proposal.body.epoch)
        }
        ConsensusMessage::Vote(vote) => {
            let statement = &vote.statement;
            let phase = statement.phase;
            format!("{phase:?} {:?} {} epoch {}", statement.verdict, short(statement.value), statement.epoch)
        }
        ConsensusMessage::Abstain(abstention) => format!("abstain {:?}", abstention.reason),
        ConsensusMessage::Certified(file) => format!("certificate of {}", short(file.certificate.statement.value)),
        ConsensusMessage::KeyRequest { epoch, .. } => format!("key request for {epoch}"),
        ConsensusMessage::KeyOffer { offer, agrees } => {
            format!("key offer for {}, {}", offer.body.epoch, if *agrees { "agrees" } else { "does not agree" })
        }
        ConsensusMessage::RosterPropose { roster, .. } => {
            format!("roster {} of {} for epoch {}", short(roster.hash()), roster.validators.len(), roster.epoch)
        }
        ConsensusMessage::RosterVote { roster, epoch, old, new } => {
            format!("roster vote {} epoch {epoch} old {} new {}", short(roster), old.is_some(), new.is_some())
        }
        ConsensusMessage::RosterLocked { roster, .. } => format!("locked on {} {}", short(roster.hash()), roster.epoch),
        ConsensusMessage::RosterHead { epoch, evidence, wants_key, roster: _, owners: _ } => {
            format!("head {epoch}, evidence {evidence:016x}{}", if *wants_key { ", wants a key" } else { "" })
        }
        ConsensusMessage::RosterLinksAfter { epoch } => format!("links after {epoch}?"),
        ConsensusMessage::RosterLinks(links) => format!("{} links", links.len()),
        ConsensusMessage::Evidence(records) => format!("{} records of evidence", records.len()),
        ConsensusMessage::OwnerEvidence(records) => format!("{} records against owners", records.len()),
        ConsensusMessage::MyVotes { epoch } => format!("my votes of {epoch}?"),
        ConsensusMessage::YourVotes { epoch, votes } => format!("{} votes of {epoch}", votes.len()),
        ConsensusMessage::AckRequest { version, certificate, .. } => {
            format!("ack {} version {version}?", short(certificate.statement.value))
        }
        ConsensusMessage::CloseRequest { roster, .. } => format!("close for epoch {}", roster.epoch),
        ConsensusMessage::CloseReport(report) => {
            format!("closed {} with {} acked", report.statement.epoch, report.statement.count)
        }
        ConsensusMessage::AckedAfter { root, .. } => format!("acked behind {}?", hex(root)),
        ConsensusMessage::Acked { root, heads, .. } => format!("{} acked behind {}", heads.len(), hex(root)),
        ConsensusMessage::CarriedAfter { epoch, .. } => format!("carried into {epoch}?"),
        ConsensusMessage::Carried { epoch, heads, .. } => format!("{} carried into {epoch}", heads.len()),
    }
}
