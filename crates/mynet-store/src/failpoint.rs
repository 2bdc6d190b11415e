//! Named places at which a test build dies or loses a message on purpose; compiled only with the feature `failpoints`.
//!
//! `FAILPOINTS` in the environment arms them: entries `NAME=[COUNT*off->]ACTION`, separated by `;`. The first COUNT
//! passes do nothing, every later one does ACTION:
//!
//! - `kill`: SIGKILL to this process, as `kill -9` and the kernel's out-of-memory killer send it. No destructor runs, no
//!   buffer is flushed, no core is written. What the kernel already has survives, so this shows nothing about fsync.
//! - `lose`: whoever reached the point leaves out what it was about to do. Only points that a message passes know it.
//!
//! The words are those of the `fail` crate, which is not used: it has no way to die at once, and its `rand` 0.8 changes features
//! far below, for which all of TLS and QUIC would be built a second time.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The variable that arms points.
pub const VARIABLE: &str = "FAILPOINTS";

/// Every point there is, in the order of the crash table in `docs/protocol/crashes.md`.
pub const NAMES: [&str; 19] = [
    "coordinator::before_c1",
    "coordinator::before_c2",
    "coordinator::after_c2_before_send",
    "coordinator::send_decision",
    "coordinator::after_receipt",
    "coordinator::before_c3",
    "participant::before_t1",
    "participant::after_t1_before_send",
    "participant::between_t1_and_t3",
    "participant::after_t3_before_send",
    "participant::receive_decision",
    "participant::inside_t4",
    "participant::after_t4_before_ack",
    "validator::before_vote_persisted",
    "validator::after_vote_before_send",
    "proposer::before_proposal_persisted",
    "proposer::after_proposal_before_send",
    "proposer::after_certificate_before_group_store",
    "roster::after_lock_before_send",
];

/// What happens at a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Kill,
    Lose,
}

/// One armed point.
#[derive(Debug)]
struct Armed {
    action: Action,
    /// Passes that do nothing yet.
    off: AtomicU32,
}

/// Why points are not armed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmError {
    /// There is no such point.
    #[error("there is no point '{0}'")]
    Unknown(String),
    /// An entry is not of the form `NAME=[COUNT*off->]kill|lose`.
    #[error("'{0}' is not of the form NAME=[COUNT*off->]kill|lose")]
    Shape(String),
}

static ARMED: OnceLock<BTreeMap<&'static str, Armed>> = OnceLock::new();

/// Arms what the environment names. A word that is wrong would make a test pass that tests nothing, so it is an error.
///
/// # Errors
/// [`ArmError`]; nothing is armed then.
pub fn arm() -> Result<(), ArmError> {
    let armed = parse(&std::env::var(VARIABLE).unwrap_or_default())?;
    // A process that starts two nodes arms them once.
    drop(ARMED.set(armed));
    Ok(())
}

/// Passes the point `name`: dies there, or says whether whoever asks goes on with what it was about to do.
#[must_use]
pub fn goes_on(name: &'static str) -> bool {
    debug_assert!(NAMES.contains(&name), "{name} is not in the list of points");
    let Some(armed) = ARMED.get().and_then(|armed| armed.get(name)) else { return true };
    let still_off = armed.off.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |off| off.checked_sub(1));
    match (still_off, armed.action) {
        (Ok(_), _) => true,
        (Err(_), Action::Lose) => {
            eprintln!("failpoint {name}: lost");
            false
        }
        (Err(_), Action::Kill) => die(name),
    }
}

/// Passes a point at which there is nothing to lose.
pub fn reach(name: &'static str) {
    // `lose` means nothing here.
    let _ = goes_on(name);
}

fn die(name: &str) -> ! {
    // The one trace that this was on purpose; standard error is not buffered.
    eprintln!("failpoint {name}: killed");
    let sent = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The signal ends this thread no later than on its way back from the kernel.
    unreachable!("alive after SIGKILL to itself: {sent:?}")
}

fn parse(text: &str) -> Result<BTreeMap<&'static str, Armed>, ArmError> {
    text.split(';').filter(|entry| !entry.is_empty()).map(parse_entry).collect()
}

fn parse_entry(entry: &str) -> Result<(&'static str, Armed), ArmError> {
    let shape = || ArmError::Shape(entry.to_owned());
    let (name, then) = entry.split_once('=').ok_or_else(shape)?;
    let name = NAMES.into_iter().find(|known| *known == name).ok_or_else(|| ArmError::Unknown(name.to_owned()))?;
    let (off, action) = match then.split_once("*off->") {
        Some((count, action)) => (count.parse().map_err(|_no_number| shape())?, action),
        None => (0, then),
    };
    let action = match action {
        "kill" => Action::Kill,
        "lose" => Action::Lose,
        _ => return Err(shape()),
    };
    Ok((name, Armed { action, off: AtomicU32::new(off) }))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::{Action, ArmError, NAMES, parse};

    #[test]
    fn entries_name_a_point_a_count_and_an_action() {
        let armed = parse("coordinator::before_c2=kill;coordinator::send_decision=1*off->lose").unwrap();
        let told: Vec<_> =
            armed.iter().map(|(name, armed)| (*name, armed.action, armed.off.load(Ordering::Relaxed))).collect();
        let expected = [("coordinator::before_c2", Action::Kill, 0), ("coordinator::send_decision", Action::Lose, 1)];
        assert_eq!(told, expected);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn a_word_that_arms_nothing_is_an_error() {
        for name in ["coordinator::before_c4=kill", "=kill"] {
            assert!(matches!(parse(name), Err(ArmError::Unknown(_))), "{name}");
        }
        for shape in ["coordinator::before_c2", "coordinator::before_c2=", "coordinator::before_c2=1*kill"] {
            assert!(matches!(parse(shape), Err(ArmError::Shape(_))), "{shape}");
        }
        assert!(matches!(parse("coordinator::before_c2=x*off->kill"), Err(ArmError::Shape(_))));
    }

    #[test]
    fn names_are_there_once() {
        let mut names = NAMES.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
