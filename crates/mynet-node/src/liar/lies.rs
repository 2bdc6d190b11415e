//! Which lies there are, which are told, and how often they were.

use std::{
    collections::BTreeSet,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mynet_types::NodeId;
use rand::{SeedableRng, rngs::StdRng};

/// The variable that names the lies.
const VARIABLE: &str = "LIAR";
/// The variable that chooses among them.
const SEED_VARIABLE: &str = "LIAR_SEED";
/// How long a peer is told nothing, longer than two resends.
const STALL: Duration = Duration::from_secs(4);
/// One such time in so many.
const PATIENCE: u64 = 3;

/// One way to lie; the order is that of the table in `docs/protocol/lies.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lie {
    /// Yes and no about one value, to its proposer and to everybody else.
    Equivocate,
    /// Two values accepted as one version.
    DoubleHead,
    /// No to what is right.
    Reject,
    /// Votes whose signature is another one, or of another seat.
    ForgeVote,
    /// Votes rightly signed for another network, epoch, roster or purpose.
    MisplaceVote,
    /// Proposals of what others proposed, with parts exchanged.
    FalseProposal,
    /// Certificates whose votes nobody cast.
    FalseCertificate,
    /// Evidence against honest seats.
    ForgeEvidence,
    /// Votes told to a seat as its own.
    FalseMemory,
    /// Vote keys offered for others, for other epochs, and badly signed.
    FalseOffer,
    /// Rosters without an honest seat, and reports that nobody asked for.
    FalseRoster,
    /// Prepared and stored, says it, and has not looked at the bytes.
    FalseReceipt,
    /// Receipts of other content, other holders, other times.
    BadReceipt,
    /// Decisions about transactions of others.
    FalseDecision,
    /// Wraps that open nothing.
    FalseWraps,
    /// Deletions by somebody who is not the owner.
    FalseTombstone,
    /// Bytes that are not those of the blob, too few, or none.
    FalseBytes,
    /// Answers that leave out or make up.
    FalseAnswer,
    /// Nothing at all, to one peer and then to another.
    Stall,
    /// What was said and heard long ago, to whoever it was not meant for.
    Replay,
}

/// Every lie by its name.
const NAMED: [(Lie, &str); 20] = [
    (Lie::Equivocate, "equivocate"),
    (Lie::DoubleHead, "double-head"),
    (Lie::Reject, "reject"),
    (Lie::ForgeVote, "forge-vote"),
    (Lie::MisplaceVote, "misplace-vote"),
    (Lie::FalseProposal, "false-proposal"),
    (Lie::FalseCertificate, "false-certificate"),
    (Lie::ForgeEvidence, "forge-evidence"),
    (Lie::FalseMemory, "false-memory"),
    (Lie::FalseOffer, "false-offer"),
    (Lie::FalseRoster, "false-roster"),
    (Lie::FalseReceipt, "false-receipt"),
    (Lie::BadReceipt, "bad-receipt"),
    (Lie::FalseDecision, "false-decision"),
    (Lie::FalseWraps, "false-wraps"),
    (Lie::FalseTombstone, "false-tombstone"),
    (Lie::FalseBytes, "false-bytes"),
    (Lie::FalseAnswer, "false-answer"),
    (Lie::Stall, "stall"),
    (Lie::Replay, "replay"),
];

/// What this process lies about.
#[derive(Debug)]
struct Armed {
    seed: u64,
    lies: BTreeSet<Lie>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();
static TOLD: [AtomicU64; NAMED.len()] = [const { AtomicU64::new(0) }; NAMED.len()];

/// Arms what the environment names. A word that is wrong would make a test pass that tests nothing, so it is an error.
pub(crate) fn arm() -> Result<(), String> {
    let names = std::env::var(VARIABLE).unwrap_or_default();
    let seed = match std::env::var(SEED_VARIABLE) {
        Ok(text) => text.parse().map_err(|_no_number| format!("'{text}' is no seed"))?,
        Err(_unset) => rand::random(),
    };
    let lies = parse(&names)?;
    if !lies.is_empty() {
        // The one line that a run is repeated from.
        eprintln!("liar: {VARIABLE}={names} {SEED_VARIABLE}={seed}");
    }
    // A process that starts two nodes arms them once.
    drop(ARMED.set(Armed { seed, lies }));
    Ok(())
}

fn parse(text: &str) -> Result<BTreeSet<Lie>, String> {
    if text == "all" {
        return Ok(NAMED.iter().map(|(lie, _)| *lie).collect());
    }
    let find = |name: &str| {
        let known = NAMED.iter().find(|(_, known)| *known == name);
        known.map(|(lie, _)| *lie).ok_or_else(|| format!("there is no lie '{name}'"))
    };
    text.split(',').filter(|name| !name.is_empty()).map(find).collect()
}

/// Whether this process lies at all.
pub(super) fn any() -> bool {
    ARMED.get().is_some_and(|armed| !armed.lies.is_empty())
}

/// Whether a lie is to be told.
pub(super) fn tells(lie: Lie) -> bool {
    ARMED.get().is_some_and(|armed| armed.lies.contains(&lie))
}

/// Dice for one part of the liar; the same seed throws the same.
pub(super) fn dice(part: u64) -> StdRng {
    StdRng::seed_from_u64(ARMED.get().map_or(0, |armed| armed.seed).wrapping_add(part))
}

/// Whether a peer is told nothing now: each for some seconds, one after another, so that every lie reaches everybody at times.
pub(super) fn stalls(peer: &NodeId, running_for: Duration) -> bool {
    let Some(armed) = ARMED.get().filter(|armed| armed.lies.contains(&Lie::Stall)) else { return false };
    let turn = running_for.as_secs() / STALL.as_secs() + armed.seed % PATIENCE + u64::from(peer.0[0]);
    let stalls = turn.is_multiple_of(PATIENCE);
    if stalls {
        told(Lie::Stall);
    }
    stalls
}

/// Counts a lie. Tests read from standard error which were told, so the first one is always there.
pub(super) fn told(lie: Lie) {
    let Some((index, (_, name))) = NAMED.iter().enumerate().find(|(_, (known, _))| *known == lie) else { return };
    let Some(count) = TOLD.get(index) else { return };
    let count = count.fetch_add(1, Ordering::Relaxed) + 1;
    if count.is_power_of_two() {
        eprintln!("liar: {name} told {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::{Lie, NAMED, parse};

    #[test]
    fn lies_are_named_and_a_word_that_is_no_lie_is_an_error() {
        assert_eq!(parse("stall,equivocate").unwrap().into_iter().collect::<Vec<_>>(), [Lie::Equivocate, Lie::Stall]);
        assert!(parse("").unwrap().is_empty());
        assert_eq!(parse("all").unwrap().len(), NAMED.len());
        assert!(parse("truth").unwrap_err().contains("truth"));
    }
}
