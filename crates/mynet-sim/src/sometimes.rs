//! Counters: what was broken, and which rare situations were met.
//!
//! A run that finds nothing proves little unless it was in the places where bugs live. Every situation has a name here, so
//! that a report shows a zero for one that was never met.

use std::{collections::BTreeMap, fmt};

macro_rules! counters {
    ($(#[$doc:meta])* $name:ident { $($(#[$item_doc:meta])* $item:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum $name { $($(#[$item_doc])* $item),* }

        impl $name {
            /// All of them.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$item),*];
        }
    };
}

counters!(
    /// What was broken.
    Fault {
        /// A message was lost.
        Lost,
        /// A partition swallowed a message.
        Cut,
        /// A message came twice.
        Duplicated,
        /// A message came ten seconds late.
        Stalled,
        /// A message found its receiver down.
        ReceiverDown,
        /// A byte of a message was changed under way.
        Changed,
        /// A member sent again what it had sent before.
        Replayed,
        /// A member passed on the decision on an attempt that was over.
        RelayedOld,
        /// A member pretended to know a decision.
        Forged,
        /// A node died.
        Crash,
        /// A node started again.
        Restart,
        /// Unacknowledged batches were lost.
        BatchesLost,
        /// A batch could not be written, and its node stopped.
        WriteFailed,
        /// A file that was not fsynced was lost, or a part of it.
        FileLost,
        /// An fsync took seconds.
        SlowDisk,
        /// Links were cut both ways.
        Partition,
        /// Links were cut one way.
        OneWayPartition,
        /// All links of one node broke, as those of others were about to.
        Clogged,
        /// A wall clock jumped.
        WallJump,
        /// A vote store was lost.
        VotesLost,
        /// A machine was given up.
        MachineLost,
        /// Somebody handed in a recovery that too few offline keys signed, or that is of another place.
        FalseRecovery,
        /// A staging failed.
        StageFailed,
        /// A validator signed what contradicts its vote.
        Lied,
        /// A member invented a version that nobody certified.
        Invented,
    }
);

counters!(
    /// A rare situation.
    Rare {
        /// A proposal was undecided when its caller's time was over, and approved later.
        LateVoteCompletesCertificate,
        /// A reject certificate was made.
        RejectCertificate,
        /// A value was certified whose bytes the validators had hashed.
        Verified,
        /// A value was rejected because its bytes have another SHA-256.
        HashMismatch,
        /// A group that has copies was certified as verified: a quorum hashed its bytes where they are held.
        CopiesVerified,
        /// A group that has copies was not certified as verified, because its bytes are not what its owner said.
        WrongCopiesRefused,
        /// A value with too few copies was asked for and is undecided.
        TooFewCopiesShown,
        /// The roster was too small to certify.
        TooFewValidators,
        /// A node with open proposals died and asked again.
        ProposerRestartResends,
        /// A node died between its signature on a roster and that roster's link.
        RosterProposerLost,
        /// Operators recovered a roster, and it was taken.
        RosterRecovered,
        /// A value was certified by a roster that operators had recovered, or by one after it.
        RecoveredCertifies,
        /// A recovered roster carries versions over.
        RecoveryCarriesHeads,
        /// Operators recovered a roster although so few old seats reported that a final version might be missing.
        RecoveryWithFewReports,
        /// A machine that had been given up turned up again.
        LostMachineReturns,
        /// A node left the chain that it knew, because a recovery holds against it.
        ChainGivesWay,
        /// A validator named the roster it was locked on.
        RosterLocked,
        /// The roster reached four seats.
        RosterOfFour,
        /// The roster reached seven seats.
        RosterOfSeven,
        /// A node voted again, with a fresh key, after its vote store was lost.
        VotesAgainAfterLoss,
        /// A batch was on disk although its writer died before it knew.
        OnDiskButNotTold,
        /// Crash table: a coordinator died before C2.
        CoordinatorDiesBeforeC2,
        /// Crash table: a coordinator died after its commit was on disk and before anybody heard of it.
        CrashBeforeFirstDecision,
        /// Crash table: a coordinator died when some had heard of its commit and others had not.
        CrashBetweenDecisions,
        /// Crash table: a coordinator died after success was reported and before C3.
        CrashAfterSuccess,
        /// Crash table: a coordinator died while C3 was being written.
        CrashInsideC3,
        /// Crash table: a participant died while T1 was being written.
        CrashInsideT1,
        /// Crash table: a participant died between T1 and T3.
        CrashWhileStaging,
        /// Crash table: a participant died after T3, before it said so.
        CrashAfterT3Untold,
        /// Crash table: a participant died prepared, with the commit logged.
        CrashBeforeDecisionArrives,
        /// Crash table: a participant died inside T4, and nothing of it is on disk.
        CrashInsideT4Lost,
        /// Crash table: a participant died inside T4, and all of it is on disk; its receipt was not given.
        CrashInsideT4Kept,
        /// A commit came after the lease had ended.
        LeaseEndAfterDecision,
        /// A participant asked what became of a transaction.
        InDoubt,
        /// Somebody else than the coordinator passed on a decision.
        DecisionRelayed,
        /// A transaction was given up on a participant.
        ParticipantAborts,
        /// A group was tried again with a higher attempt.
        HigherAttempt,
        /// A group was tried again in another transaction.
        AnotherTransaction,
        /// A target had no space.
        NoSpace,
        /// Staging came to an end with a part of the states.
        StagedInPart,
        /// The collector found that what it was to unlink is needed again.
        CollectorSpares,
        /// There were fewer eligible nodes than W.
        NotEnoughTargets,
        /// A group was durable with a holder still missing.
        DurableBeforeReplicated,
        /// A node held the decrypted state.
        DecryptedHeld,
        /// A node learned that a seat contradicted itself.
        Accused,
        /// A seat was left out of the next roster.
        SeatLeftOut,
        /// A roster gave the same nodes fresh keys.
        KeysRenewed,
        /// A node asked others for its own votes after a start.
        InDoubtOfItsStore,
        /// A head was undecided when its caller's time was over, and approved later.
        LateVoteCompletesHead,
        /// Another value of the same version stood against a head.
        HeadLocked,
        /// A head was carried into the next epoch before anybody had its certificate.
        QcWithoutFinalAtClose,
        /// A carried head was voted on again in a later epoch.
        CarriedValue,
        /// A node died after an ack was on its disk, and acked again.
        AckAfterRestart,
        /// A validator signed no head because it had closed the epoch.
        HeadAfterClose,
        /// A seat got the close set of its epoch from another one.
        CloseSetFetched,
        /// What was behind a report had to be fetched.
        AckedListFetched,
        /// A node showed a group that it then learned to be deleted by asking, because nobody knew that it holds it.
        DeletionLearnedByAsking,
        /// A node began with a draft on its disk.
        DraftRestored,
        /// A draft was dropped, because another value of its version is certified.
        DraftDropped,
        /// A node died when a version was certified there, and showed it after its next start.
        InstallAfterCrash,
        /// A node died while a version was taking the place of another, and nothing of it is on disk.
        CrashInsideInstallLost,
        /// The same, and all of it is on disk: it was not published.
        CrashInsideInstallKept,
        /// A version took the place of one whose commit was not logged.
        HigherVersionReplacesPreparing,
        /// A version took the place of one whose commit was logged, and that was owed to somebody.
        HigherVersionReplacesCommitted,
        /// A version took the place of one that was finished.
        HigherVersionReplacesFinished,
        /// A participant was asked to hold a version below the one that it shows.
        LowerVersionRefused,
        /// A receipt came to a coordinator for a version whose place another one had taken on its disk.
        ReceiptAfterItsVersion,
        /// A participant gave a lower version up that it was prepared for.
        LowerVersionGivenUp,
        /// A group was deleted while its next version was being certified.
        DraftDeleted,
        /// A group was deleted while a later version was on its way to its holders.
        VersionDeletedMeanwhile,
        /// A participant showed a third version or a later one.
        ThirdVersionHeld,
        /// A changed message did not decode.
        ChangedDoesNotDecode,
        /// A changed message decoded and was handed to the core.
        ChangedIsHandedIn,
    }
);

/// How often each fault and each rare situation occurred.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    faults: BTreeMap<Fault, u64>,
    rare: BTreeMap<Rare, u64>,
}

impl Counts {
    /// A fault occurred.
    pub(crate) fn fault(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// A rare situation was met.
    pub(crate) fn met(&mut self, rare: Rare) {
        *self.rare.entry(rare).or_default() += 1;
    }

    /// Every fault, with how often it occurred.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (String, u64)> {
        Fault::ALL.iter().map(|fault| (format!("{fault:?}"), self.faults.get(fault).copied().unwrap_or(0)))
    }

    /// Every rare situation, with how often it occurred.
    pub(crate) fn rare(&self) -> impl Iterator<Item = (String, u64)> {
        Rare::ALL.iter().map(|rare| (format!("{rare:?}"), self.rare.get(rare).copied().unwrap_or(0)))
    }

    /// Situations that never occurred.
    pub(crate) fn never_met(&self) -> impl Iterator<Item = Rare> {
        Rare::ALL.iter().copied().filter(|rare| !self.rare.contains_key(rare))
    }

    /// Adds those of another run.
    pub(crate) fn add(&mut self, other: &Self) {
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
        for (rare, count) in &other.rare {
            *self.rare.entry(*rare).or_default() += count;
        }
    }
}

/// Two lines: faults, then rare situations; zeros are shown.
impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {} faults:", self.faults.values().sum::<u64>())?;
        self.faults().try_for_each(|(name, count)| write!(f, " {name}={count}"))?;
        f.write_str("\n  sometimes:")?;
        self.rare().try_for_each(|(name, count)| write!(f, " {name}={count}"))
    }
}
