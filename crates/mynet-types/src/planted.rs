//! Bugs that a build with `--cfg planted` can switch on, one at a time, to see which checker catches them.
//!
//! A proof by simulation is worth what its checkers are: each of these is a mistake that somebody could make, in the very
//! line where it would be made. The simulator runs them all; `docs/protocol/planted-bugs.md` is what came of it. In any other
//! build [`planted!`](crate::planted) is the constant `false` and this module does not exist.

use std::cell::Cell;

macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident),* $(,)?) => {
        /// One mistake.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Bug { $($(#[doc = $what])+ $name),* }

        impl Bug {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// What is wrong, in one sentence.
            #[must_use]
            pub fn what(self) -> &'static str {
                match self { $(Self::$name => concat!($($what),+).trim_ascii()),* }
            }
        }
    };
}

bugs!(
    /// The accept quorum is rounded down.
    FloorQuorum,
    /// The accept quorum is three, however many validators there are.
    ConstantQuorum,
    /// The reject quorum is n-q+1.
    SmallRejectQuorum,
    /// The signing bytes do not name the domain.
    MissingDomain,
    /// A second root of a group is not noticed.
    SecondRoot,
    /// A validator says that it hashed the bytes, and did not look at them.
    HashUnlooked,
    /// A vote leaves before it is written.
    VoteBeforePersist,
    /// A vote that comes twice counts twice.
    DuplicateSigner,
    /// The signature of a vote is not checked.
    VoteSignatureUnchecked,
    /// A node votes with its old keys after its vote store was lost.
    VoteAfterLostStore,
    /// The lock on the next roster is not written.
    RosterLockUnwritten,
    /// That a seat closed its epoch is not written.
    CloseUnwritten,
    /// A locked seat signs another roster of the same epoch, dated by another proposer.
    SecondRosterSigned,
    /// A timeout is reported as a rejection.
    TimeoutIsRejection,
    /// A receipt counts after its end.
    ExpiredReceiptCounted,
    /// A receipt for another manifest counts.
    ForeignManifestCounted,
    /// Receipts are counted instead of holders.
    ReceiptsCountedTwice,
    /// A restarted proposer makes a new proposal in place of its own.
    NewProposalAfterRestart,
    /// Votes never leave.
    VotesUnsent,
    /// Acknowledgements of heads never leave.
    AcksUnsent,
    /// A seat that lost its key does not ask for a fresh one.
    KeyWishUnsent,
    /// Evidence never leaves.
    EvidenceUnsent,
    /// The commit is sent before it is logged.
    CommitBeforeLog,
    /// Success is reported when the commit is decided.
    SuccessAtDecision,
    /// A target that gives up aborts what is committed.
    AbortAfterCommit,
    /// A lease is counted from the answer instead of from the asking.
    LeaseFromAnswer,
    /// A prepared copy is counted for twice its lease.
    PreparedAfterLease,
    /// A commit of one attempt is taken for another one.
    AttemptNotCompared,
    /// How a transaction ended is not remembered.
    OutcomeForgotten,
    /// A repeated prepare begins anew.
    RepeatedPrepareReopens,
    /// The decrypted state goes to whoever stores.
    DecryptedUngranted,
    /// A participant is prepared with a part of the states.
    PreparedWithPart,
    /// `Prepared` is said before it is written.
    PreparedBeforePersist,
    /// A receipt leaves before the commit is written.
    ReceiptBeforeCommit,
    /// A transaction that is unknown to its coordinator is answered with a commit.
    UnknownIsCommitted,
    /// The signature of a decision is not checked.
    DecisionSignatureUnchecked,
    /// Decisions never leave.
    DecisionsUnsent,
    /// Copies go where others are already.
    ZonesIgnored,
    /// The coordinator does not keep receipts.
    ReceiptsUnwritten,
    /// The coordinator does not keep that a group is finished.
    EndUnwritten,
    /// Nobody hears that a group is durable.
    DurableUnheard,
    /// A disk says that a batch is written before it is.
    AckBeforeWrite,
    /// A commit leaves the reservation.
    ReservationLeaks,
    /// An abort leaves the staged files.
    StagingLeaks,
    /// Staged files are not fsynced.
    StagedUnsynced,
    /// The collector unlinks what it found without looking again.
    CollectWithoutRecheck,
    /// A participant takes a later version that nobody certified.
    HeadUncertified,
    /// A lower version takes the place of a higher one.
    LowerVersionTakes,
    /// A version is shown with the preview of the one before.
    OldPreviewShown,
    /// A draft is shown before its certificate is on disk.
    DraftShown,
    /// Receipts of a version that another took the place of count for that one.
    ReplacedReceiptsCounted,
    /// A validator that said yes to the copies says that it hashed the bytes, and did not look at them.
    CopiesTakenForBytes,
    /// One of the three offline keys makes a roster.
    RecoveryByOneKey,
    /// A node offers for a recovery and leaves the epoch open.
    RecoveryLeavesEpochOpen,
    /// A recovery carries what the epoch carried, and not what was acked in it.
    RecoveryForgetsAcked,
    /// Who holds an earlier version gets the next one only where placement puts it there.
    HoldersLeftBehind,
);

thread_local! {
    /// A run is one thread; two runs side by side have their own bugs.
    static ACTIVE: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Switches `bug` on in this thread, and every other one off.
pub fn select(bug: Option<Bug>) {
    ACTIVE.set(bug);
}

/// Whether `bug` is on in this thread.
#[must_use]
pub fn is_active(bug: Bug) -> bool {
    ACTIVE.get() == Some(bug)
}
