//! Why a group is where it is: one code for everything that the cores and the node do, skip or refuse about a group.
//!
//! A core says what happened as a [`Note`], which carries no more than who, about which group, and a number. Whoever runs
//! it keeps the newest in a bounded log and shows them to people. Notes decide nothing: a core that nobody listens to
//! behaves the same.
//!
//! Codes are for scripts: they are never renamed, and a code that is not used any more is not given to something else.
//! All of them are listed in `docs/protocol/reasons.md`, which a test compares with this file.

use mynet_types::{AbstainReason, GroupId, NodeId, RejectReason, Verdict, Vote, wire::RefuseReason};

/// One line for the log of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Note {
    /// The group.
    pub group_id: GroupId,
    /// What happened, or why something did not.
    pub reason: Reason,
    /// The other node, where there is one.
    pub peer: Option<NodeId>,
    /// A number that [`Reason::unit`] names.
    pub value: Option<u64>,
}

impl Note {
    /// A note about a group.
    #[must_use]
    pub fn about(group_id: GroupId, reason: Reason) -> Self {
        Self { group_id, reason, peer: None, value: None }
    }

    /// The other node.
    #[must_use]
    pub fn with(self, peer: NodeId) -> Self {
        Self { peer: Some(peer), ..self }
    }

    /// The number.
    #[must_use]
    pub fn value(self, value: impl TryInto<u64>) -> Self {
        Self { value: value.try_into().ok(), ..self }
    }
}

/// Whether a line may be left out when more come than the disk takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// Every group that does well has it.
    Routine,
    /// Tells why something is late, missing or wrong, or how it ended.
    Telling,
}

macro_rules! reasons {
    ($($variant:ident $code:literal $weight:ident $(($unit:literal))? $says:literal,)*) => {
        /// A stable code, and a sentence that goes with it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $(#[doc = $says] $variant,)*
        }

        impl Reason {
            /// Every code, in the order of the protocol.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code,)* }
            }

            /// What it means, for people.
            #[must_use]
            pub fn says(self) -> &'static str {
                match self { $(Self::$variant => $says,)* }
            }

            /// What the number of its notes counts, if they carry one.
            #[must_use]
            pub fn unit(self) -> Option<&'static str> {
                match self { $(Self::$variant => [$($unit,)? ""].into_iter().find(|unit| !unit.is_empty()),)* }
            }

            fn weight(self) -> Weight {
                match self { $(Self::$variant => Weight::$weight,)* }
            }
        }
    };
}

reasons! {
    // Where placement puts it.
    Chosen "chosen" Routine ("rank") "chosen by placement",
    RankedLower "ranked_lower" Routine ("rank") "enough nodes rank before it",
    ZoneUsed "zone_used" Routine ("rank") "a node that ranks higher stands in the same zone",
    NotStorage "not_storage" Telling "it has no storage role",
    IsEdge "is_edge" Telling "edges keep caches and never count as copies",
    NoWeight "no_weight" Telling "it was admitted with weight 0 and takes no copies",
    AdmissionExpired "admission_expired" Telling "its admission has expired",
    HeldElsewhere "held_elsewhere" Routine "it holds a copy though placement would not choose it now",
    // What an upload came to.
    PreviewUnsupported "preview_unsupported" Routine "it has no preview: none can be made of what it is; `mynet preview` gives it one",
    PreviewTooSmall "preview_too_small" Routine "it has no preview: a third of it shows nothing; `mynet preview` gives it one",
    PreviewDamaged "preview_damaged" Telling "it has no preview: the file is damaged",
    PreviewFailed "preview_failed" Telling "it has no preview: making it failed or took too long, as this node's log says; `mynet preview` gives it one",
    // What a coordinator does.
    Published "published" Routine "this node took the group up to replicate it",
    TooFewNodes "too_few_nodes" Telling ("eligible nodes") "fewer nodes may hold it than must; tried again when one is admitted",
    TargetChosen "target_chosen" Routine ("rank") "chosen by placement to hold a copy",
    TargetFollows "target_follows" Routine ("rank") "it has an earlier version, so it gets this one too",
    TargetDropped "target_dropped" Telling "its admission ended, so it is asked no longer",
    TargetFull "target_full" Telling "it had no space three times in a row; the next node by placement is asked too",
    PrepareSent "prepare_sent" Routine ("attempt") "asked to prepare a copy",
    PrepareAccepted "prepare_accepted" Routine ("attempt") "it reserved space and pulls the bytes",
    Prepared "prepared" Routine ("attempt") "it has verified everything and waits for the decision",
    StatesOutdated "states_outdated" Telling ("attempt") "it prepared fewer states than it is to hold by now; asked again",
    GaveUp "gave_up" Telling ("attempt") "its lease ended before the decision reached it; asked again",
    RefusedNoSpace "refused_no_space" Telling ("attempt") "it refused: not enough free space; asked again",
    RefusedStateNotAllowed "refused_state_not_allowed" Telling ("attempt") "it refused: it may not hold a state that it was asked to hold",
    RefusedManifestInvalid "refused_manifest_invalid" Telling ("attempt") "it refused: the manifest breaks a rule, or its signature does not verify",
    RefusedIdConflict "refused_id_conflict" Telling ("attempt") "it refused: a content id belongs to another group there; asked again",
    RefusedSuperseded "refused_superseded" Telling ("attempt") "it refused: it knows another version or a tombstone",
    RefusedUnavailable "refused_unavailable" Telling ("attempt") "it refused: no source delivered the bytes; asked again",
    RefusedHashMismatch "refused_hash_mismatch" Telling ("attempt") "it refused: the bytes do not have the SHA-256 of the manifest; asked again",
    RefusedWrapInvalid "refused_wrap_invalid" Telling ("attempt") "it refused: its wrap of the key does not open the content",
    RefusedBusy "refused_busy" Telling ("attempt") "it refused: it has too much to do; asked again",
    RefusedStorage "refused_storage" Telling ("attempt") "it refused: its disk failed; asked again",
    RefusedRejected "refused_rejected" Telling ("attempt") "it refused: the validators rejected the group",
    RefusedHeadInvalid "refused_head_invalid" Telling ("attempt") "it refused: what certifies the version is missing, or does not certify it",
    RefusedEpochUnknown "refused_epoch_unknown" Telling ("attempt") "it refused: it does not know the epoch in which the version was certified; asked again",
    CommitLogged "commit_logged" Telling ("copies prepared") "enough copies are prepared: the commit is on disk and can never be taken back",
    CommitSent "commit_sent" Routine ("attempt") "told to make its copy visible",
    DeadlineExtended "deadline_extended" Telling "the deadline passed, but bytes still come in: waited on",
    TransactionGivenUp "transaction_given_up" Telling "too few copies were prepared in time: given up, and tried anew after a pause",
    ReceiptKept "receipt_kept" Routine "its signed receipt is on disk: the copy counts",
    ReceiptInvalid "receipt_invalid" Telling "its receipt proves nothing and does not count",
    ReceiptEnded "receipt_ended" Telling "its receipt has ended; it is asked for a new one",
    WrapsChanged "wraps_changed" Telling "the readers of the decrypted state changed; holders are told",
    Durable "durable" Telling ("receipts") "enough receipts are on disk: the group is durable",
    Replicated "replicated" Telling "every wanted copy has its receipt; nothing is owed",
    // What a participant does.
    AskedToHold "asked_to_hold" Routine ("attempt") "it asked this node to hold a copy",
    BatchVerified "batch_verified" Routine ("bytes") "the bytes of a state are complete, and SHA-256 and BLAKE3 are right",
    BatchCorrupt "batch_corrupt" Telling ("bytes") "complete bytes of a state do not have the SHA-256 of the manifest",
    SourceCorrupt "source_corrupt" Telling "it sent bytes that do not verify; the next source is asked",
    SourceStalled "source_stalled" Telling "it stopped sending; the next source goes on from what is here",
    SourceFailed "source_failed" Telling "it did not send the bytes; the next source goes on from what is here",
    PreparedHere "prepared_here" Routine ("attempt") "this node has verified everything and waits for the decision",
    CommittedHere "committed_here" Telling "the group became visible on this node, which signed a receipt",
    LeaseEndedHere "lease_ended_here" Telling ("attempt") "no decision came before the lease ended: this node gave its reservation up",
    AbortHeard "abort_heard" Telling ("attempt") "the coordinator gave the transaction up",
    DeclinedNoSpace "declined_no_space" Telling ("attempt") "this node declined: not enough free space",
    DeclinedStateNotAllowed "declined_state_not_allowed" Telling ("attempt") "this node declined: it was asked for other states than it is to hold",
    DeclinedManifestInvalid "declined_manifest_invalid" Telling ("attempt") "this node declined: the manifest breaks a rule, or its signature does not verify",
    DeclinedIdConflict "declined_id_conflict" Telling ("attempt") "this node declined: a content id belongs to another group here",
    DeclinedSuperseded "declined_superseded" Telling ("attempt") "this node declined: it knows another version or a tombstone",
    DeclinedUnavailable "declined_unavailable" Telling ("attempt") "this node declined: no source delivered the bytes",
    DeclinedHashMismatch "declined_hash_mismatch" Telling ("attempt") "this node declined: the bytes do not have the SHA-256 of the manifest",
    DeclinedWrapInvalid "declined_wrap_invalid" Telling ("attempt") "this node declined: its wrap of the key does not open the content",
    DeclinedBusy "declined_busy" Telling ("attempt") "this node declined: too many transactions of that coordinator are open",
    DeclinedStorage "declined_storage" Telling ("attempt") "this node declined: its disk failed",
    DeclinedRejected "declined_rejected" Telling ("attempt") "this node declined: the validators rejected the group",
    DeclinedHeadInvalid "declined_head_invalid" Telling ("attempt") "this node declined: what certifies the version is missing, or does not certify it",
    DeclinedEpochUnknown "declined_epoch_unknown" Telling ("attempt") "this node declined: it does not know the epoch in which the version was certified",
    BlobDamaged "blob_damaged" Telling "bytes on this disk were missing or damaged and are served no longer",
    BlobMended "blob_mended" Telling "lost bytes are here again, verified",
    // What a proposer sees.
    Proposed "proposed" Routine ("epoch") "proposed to the validators",
    ProposedAgain "proposed_again" Telling ("epoch") "proposed anew: the proposal before expired, or its epoch ended",
    VoteAccept "vote_accept" Routine "it voted yes",
    VoteReject "vote_reject" Telling "it voted no and does not say why",
    VoteRejectHashMismatch "vote_reject_hash_mismatch" Telling "it voted no: complete bytes do not have the SHA-256 of the manifest",
    VoteRejectManifestInvalid "vote_reject_manifest_invalid" Telling "it voted no: the manifest breaks a rule of its form",
    VoteRejectLinksInvalid "vote_reject_links_invalid" Telling "it voted no: the links do not make one group",
    VoteRejectOwnerSignature "vote_reject_owner_signature" Telling "it voted no: the owner's signature does not verify",
    VoteRejectPolicy "vote_reject_policy" Telling "it voted no: the network's policy forbids the content",
    VoteRejectHeadInvalid "vote_reject_head_invalid" Telling "it voted no: the version may not take the place of the one that it names as the one before",
    AbstainedUnavailable "abstained_unavailable" Telling "it does not vote: receipts or bytes that it needs are missing",
    AbstainedBusy "abstained_busy" Telling "it does not vote yet: it has too much to do",
    AbstainedOtherRoster "abstained_other_roster" Telling "it does not vote: it knows another roster; rosters are exchanged",
    AbstainedNotVoting "abstained_not_voting" Telling "it does not vote in this epoch: its vote store was lost or restored",
    AbstainedExpired "abstained_expired" Telling "it does not vote: the proposal has expired by its clock",
    AbstainedLocked "abstained_locked" Telling "it does not vote: it voted for another value in this slot",
    AbstainedClosed "abstained_closed" Telling "it does not vote: it signs no heads of this epoch any more, the next one is being made",
    AbstainedHeadUnproven "abstained_head_unproven" Telling "it does not vote: nothing shows that the version before is certified",
    AbstainedEpochUnknown "abstained_epoch_unknown" Telling "it does not vote: it lacks an epoch that the version rests on, or what was carried into this one",
    VoteContradicts "vote_contradicts" Telling "it signed two things that exclude each other, which is evidence against it",
    HeadRival "head_rival" Telling ("version") "it votes for another value of this version: its owner signed two, or that validator lies; see evidence",
    Undecided "undecided" Telling ("votes") "too few votes came in the caller's time; they are still collected",
    NotEnoughValidators "not_enough_validators" Telling ("validators") "the roster is too small to certify; tried again when it grows",
    Certified "certified" Telling ("votes") "a quorum of validators voted yes: there is a certificate",
    Rejected "rejected" Telling ("votes") "enough validators voted no: the group is rejected for good",
    // What a validator does.
    VotedAccept "voted_accept" Routine "this node voted yes",
    VotedReject "voted_reject" Telling "this node voted no and kept no reason",
    VotedRejectHashMismatch "voted_reject_hash_mismatch" Telling "this node voted no: complete bytes do not have the SHA-256 of the manifest",
    VotedRejectManifestInvalid "voted_reject_manifest_invalid" Telling "this node voted no: the manifest breaks a rule of its form",
    VotedRejectLinksInvalid "voted_reject_links_invalid" Telling "this node voted no: the links do not make one group",
    VotedRejectOwnerSignature "voted_reject_owner_signature" Telling "this node voted no: the owner's signature does not verify",
    VotedRejectPolicy "voted_reject_policy" Telling "this node voted no: the network's policy forbids the content",
    VotedRejectHeadInvalid "voted_reject_head_invalid" Telling "this node voted no: the version may not take the place of the one that it names as the one before",
    WithheldUnavailable "withheld_unavailable" Telling "this node did not vote: receipts or bytes that it needs are missing",
    WithheldBusy "withheld_busy" Telling "this node did not vote yet: it has too much to do for that proposer",
    WithheldOtherRoster "withheld_other_roster" Telling "this node did not vote: the proposal names another roster",
    WithheldNotVoting "withheld_not_voting" Telling "this node did not vote: its vote store was lost or restored in this epoch",
    WithheldExpired "withheld_expired" Telling "this node did not vote: the proposal has expired",
    WithheldLocked "withheld_locked" Telling "this node did not vote: it voted for another value in this slot",
    WithheldClosed "withheld_closed" Telling "this node did not vote: it signs no heads of this epoch any more",
    WithheldHeadUnproven "withheld_head_unproven" Telling "this node did not vote: nothing shows that the version before is certified",
    WithheldEpochUnknown "withheld_epoch_unknown" Telling "this node did not vote: it lacks an epoch that the version rests on, or what was carried into this one",
    OwnerContradicts "owner_contradicts" Telling ("version") "its owner signed two manifests for one version, which is evidence against the owner",
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

impl Reason {
    /// Undoes [`Self::code`].
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.code() == code)
    }

    /// Whether it may be left out when more comes than can be kept.
    #[must_use]
    pub fn is_routine(self) -> bool {
        self.weight() == Weight::Routine
    }

    /// What a coordinator notes when a target refuses.
    #[must_use]
    pub fn refused(reason: RefuseReason) -> Self {
        match reason {
            RefuseReason::NoSpace => Self::RefusedNoSpace,
            RefuseReason::StateNotAllowed => Self::RefusedStateNotAllowed,
            RefuseReason::ManifestInvalid => Self::RefusedManifestInvalid,
            RefuseReason::IdConflict => Self::RefusedIdConflict,
            RefuseReason::Superseded => Self::RefusedSuperseded,
            RefuseReason::Unavailable => Self::RefusedUnavailable,
            RefuseReason::HashMismatch => Self::RefusedHashMismatch,
            RefuseReason::WrapInvalid => Self::RefusedWrapInvalid,
            RefuseReason::Busy => Self::RefusedBusy,
            RefuseReason::Storage => Self::RefusedStorage,
            RefuseReason::Rejected => Self::RefusedRejected,
            RefuseReason::HeadInvalid => Self::RefusedHeadInvalid,
            RefuseReason::EpochUnknown => Self::RefusedEpochUnknown,
        }
    }

    /// What a participant notes when it refuses.
    #[must_use]
    pub fn declined(reason: RefuseReason) -> Self {
        match reason {
            RefuseReason::NoSpace => Self::DeclinedNoSpace,
            RefuseReason::StateNotAllowed => Self::DeclinedStateNotAllowed,
            RefuseReason::ManifestInvalid => Self::DeclinedManifestInvalid,
            RefuseReason::IdConflict => Self::DeclinedIdConflict,
            RefuseReason::Superseded => Self::DeclinedSuperseded,
            RefuseReason::Unavailable => Self::DeclinedUnavailable,
            RefuseReason::HashMismatch => Self::DeclinedHashMismatch,
            RefuseReason::WrapInvalid => Self::DeclinedWrapInvalid,
            RefuseReason::Busy => Self::DeclinedBusy,
            RefuseReason::Storage => Self::DeclinedStorage,
            RefuseReason::Rejected => Self::DeclinedRejected,
            RefuseReason::HeadInvalid => Self::DeclinedHeadInvalid,
            RefuseReason::EpochUnknown => Self::DeclinedEpochUnknown,
        }
    }

    /// What a proposer notes of a vote.
    #[must_use]
    pub fn vote(vote: &Vote) -> Self {
        match vote.reason {
            _ if vote.statement.verdict == Verdict::Accept => Self::VoteAccept,
            None => Self::VoteReject,
            Some(RejectReason::HashMismatch) => Self::VoteRejectHashMismatch,
            Some(RejectReason::ManifestInvalid) => Self::VoteRejectManifestInvalid,
            Some(RejectReason::LinksInvalid) => Self::VoteRejectLinksInvalid,
            Some(RejectReason::OwnerSignatureInvalid) => Self::VoteRejectOwnerSignature,
            Some(RejectReason::PolicyDenied) => Self::VoteRejectPolicy,
            Some(RejectReason::HeadInvalid) => Self::VoteRejectHeadInvalid,
        }
    }

    /// What a validator notes of its own vote.
    #[must_use]
    pub fn voted(vote: &Vote) -> Self {
        match vote.reason {
            _ if vote.statement.verdict == Verdict::Accept => Self::VotedAccept,
            None => Self::VotedReject,
            Some(RejectReason::HashMismatch) => Self::VotedRejectHashMismatch,
            Some(RejectReason::ManifestInvalid) => Self::VotedRejectManifestInvalid,
            Some(RejectReason::LinksInvalid) => Self::VotedRejectLinksInvalid,
            Some(RejectReason::OwnerSignatureInvalid) => Self::VotedRejectOwnerSignature,
            Some(RejectReason::PolicyDenied) => Self::VotedRejectPolicy,
            Some(RejectReason::HeadInvalid) => Self::VotedRejectHeadInvalid,
        }
    }

    /// What a proposer notes of an abstention.
    #[must_use]
    pub fn abstained(reason: AbstainReason) -> Self {
        match reason {
            AbstainReason::Unavailable => Self::AbstainedUnavailable,
            AbstainReason::Busy => Self::AbstainedBusy,
            AbstainReason::OtherRoster => Self::AbstainedOtherRoster,
            AbstainReason::NotVoting => Self::AbstainedNotVoting,
            AbstainReason::Expired => Self::AbstainedExpired,
            AbstainReason::Locked => Self::AbstainedLocked,
            AbstainReason::Closed => Self::AbstainedClosed,
            AbstainReason::HeadUnproven => Self::AbstainedHeadUnproven,
            AbstainReason::EpochUnknown => Self::AbstainedEpochUnknown,
        }
    }

    /// What a validator notes of its own abstention.
    #[must_use]
    pub fn withheld(reason: AbstainReason) -> Self {
        match reason {
            AbstainReason::Unavailable => Self::WithheldUnavailable,
            AbstainReason::Busy => Self::WithheldBusy,
            AbstainReason::OtherRoster => Self::WithheldOtherRoster,
            AbstainReason::NotVoting => Self::WithheldNotVoting,
            AbstainReason::Expired => Self::WithheldExpired,
            AbstainReason::Locked => Self::WithheldLocked,
            AbstainReason::Closed => Self::WithheldClosed,
            AbstainReason::HeadUnproven => Self::WithheldHeadUnproven,
            AbstainReason::EpochUnknown => Self::WithheldEpochUnknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::Reason;

    #[test]
    fn codes_are_distinct_words_that_fit_their_column_and_are_found_again() {
        let mut seen = BTreeSet::new();
        for reason in Reason::ALL {
            let code = reason.code();
            assert!(seen.insert(code), "{code} is given twice");
            assert!(code.len() <= 32 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{code}");
            assert_eq!(Reason::from_code(code), Some(*reason));
        }
        assert_eq!(Reason::from_code("no_such_code"), None);
    }

    /// The table of the document, as this file has it.
    fn table() -> String {
        let mut table = String::from("| code | number | means |\n|---|---|---|\n");
        for reason in Reason::ALL {
            table += &format!("| `{}` | {} | {} |\n", reason.code(), reason.unit().unwrap_or(""), reason.says());
        }
        table
    }

    #[test]
    fn the_document_lists_every_code_with_its_sentence() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/protocol/reasons.md");
        let document = std::fs::read_to_string(&path).unwrap();
        assert!(document.contains(&table()), "docs/protocol/reasons.md must contain:\n{}", table());
    }
}
