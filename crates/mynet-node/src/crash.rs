//! Where the shell may be cut off by a failpoint: before and after each batch, at sends, on receipt. Nothing of it is compiled
//! without the feature `failpoints`, which no shipped build has.
//!
//! The cores know nothing of this. What a record or message is in the crash table of `docs/protocol/replication.md` is said
//! here, once.

#[cfg(feature = "failpoints")]
mod armed {
    use mynet_proto::{consensus::io::Record as VoteRecord, node::io::Input, replication::io::Record as GroupRecord};
    use mynet_store::failpoint::{self, goes_on, reach};
    use mynet_types::{Message, wire::ReplicationMessage};

    /// Arms what the environment names, or says what is wrong with it.
    pub(crate) fn arm() -> Result<(), String> {
        failpoint::arm().map_err(|error| error.to_string())
    }

    /// A batch of the metadata store is about to be written.
    pub(crate) fn before_groups(records: &[GroupRecord]) {
        for record in records {
            match record {
                GroupRecord::Begin(_) => reach("coordinator::before_c1"),
                GroupRecord::Decided(_) => reach("coordinator::before_c2"),
                GroupRecord::End(_) => reach("coordinator::before_c3"),
                GroupRecord::Intent(_) => reach("participant::before_t1"),
                _ => {}
            }
        }
    }

    /// What is reached when a batch of the metadata store is on disk, before anybody hears of it.
    pub(crate) fn after_groups(records: &[GroupRecord]) -> Vec<&'static str> {
        let point = |record: &GroupRecord| match record {
            GroupRecord::Decided(_) => Some("coordinator::after_c2_before_send"),
            GroupRecord::Receipts { .. } => Some("coordinator::after_receipt"),
            GroupRecord::Intent(_) => Some("participant::after_t1_before_send"),
            GroupRecord::Prepared { .. } => Some("participant::after_t3_before_send"),
            GroupRecord::Commit { .. } => Some("participant::after_t4_before_ack"),
            _ => None,
        };
        records.iter().filter_map(point).collect()
    }

    /// A batch of the vote store is about to be written.
    pub(crate) fn before_votes(records: &[VoteRecord]) {
        for record in records {
            match record {
                VoteRecord::Vote(_) => reach("validator::before_vote_persisted"),
                VoteRecord::Proposal(_) => reach("proposer::before_proposal_persisted"),
                _ => {}
            }
        }
    }

    /// What is reached when a batch of the vote store is on disk, before anybody hears of it.
    pub(crate) fn after_votes(records: &[VoteRecord]) -> Vec<&'static str> {
        let point = |record: &VoteRecord| match record {
            VoteRecord::Vote(_) => Some("validator::after_vote_before_send"),
            VoteRecord::Proposal(_) => Some("proposer::after_proposal_before_send"),
            VoteRecord::RosterLock(_) => Some("roster::after_lock_before_send"),
            _ => None,
        };
        records.iter().filter_map(point).collect()
    }

    /// Passes the points of a batch.
    pub(crate) fn reach_all(points: Vec<&'static str>) {
        points.into_iter().for_each(reach);
    }

    /// A certificate was made or came, and is not beside its group yet.
    pub(crate) fn before_certificate() {
        reach("proposer::after_certificate_before_group_store");
    }

    /// Bytes of a transaction came and are written, not all of them.
    pub(crate) fn staged(bytes: u64) {
        if bytes > 0 {
            reach("participant::between_t1_and_t3");
        }
    }

    /// Whether a message leaves.
    pub(crate) fn sends(message: &Message) -> bool {
        match message {
            Message::Replication(ReplicationMessage::Decision(decision)) if decision.body.commit => {
                goes_on("coordinator::send_decision")
            }
            _ => true,
        }
    }

    /// Whether an input reaches the core.
    pub(crate) fn hears(input: &Input) -> bool {
        match input {
            Input::Message { message: Message::Replication(ReplicationMessage::Decision(decision)), .. }
                if decision.body.commit =>
            {
                goes_on("participant::receive_decision")
            }
            _ => true,
        }
    }
}

#[cfg(not(feature = "failpoints"))]
mod armed {
    use mynet_proto::{consensus::io::Record as VoteRecord, node::io::Input, replication::io::Record as GroupRecord};
    use mynet_types::Message;

    #[expect(clippy::unnecessary_wraps, reason = "the other build can fail here")]
    pub(crate) fn arm() -> Result<(), String> {
        Ok(())
    }

    pub(crate) fn before_groups(_records: &[GroupRecord]) {}

    pub(crate) fn after_groups(_records: &[GroupRecord]) -> Vec<&'static str> {
        Vec::new()
    }

    pub(crate) fn before_votes(_records: &[VoteRecord]) {}

    pub(crate) fn after_votes(_records: &[VoteRecord]) -> Vec<&'static str> {
        Vec::new()
    }

    pub(crate) fn reach_all(_points: Vec<&'static str>) {}

    pub(crate) fn before_certificate() {}

    pub(crate) fn staged(_bytes: u64) {}

    pub(crate) fn sends(_message: &Message) -> bool {
        true
    }

    pub(crate) fn hears(_input: &Input) -> bool {
        true
    }
}

pub(crate) use armed::{
    after_groups, after_votes, arm, before_certificate, before_groups, before_votes, hears, reach_all, sends, staged,
};
