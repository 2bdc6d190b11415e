//! Runs the composed core: one task that owns it, feeds it inputs and carries out its outputs.
//!
//! The loop decides nothing. Writes go to one task per database, in order, and come back as `Persisted`; staging runs as
//! tasks of its own; sends are queued by the network. The simulator stands in for exactly this module. While the disk is far
//! behind, inputs wait in their queue and peers with them; only timers and durable batches are taken.
//!
//! **Invariant:** outputs are carried out in the order in which the core gave them.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Instant, SystemTime},
};

use mynet_proto::{
    consensus,
    node::{
        NodeCore,
        io::{Event, Input, Output, Timer},
    },
    persist::PersistId,
};
use mynet_types::{Mono, Now, Timestamp};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::{crash, liar::Liar, persist::Batch, shell::Shell, stage::StageJob};

/// Inputs that wait for the core at most. Peers wait beyond this: each request holds its stream until it is taken.
const INPUTS_MAX: usize = 1024;

/// Both clocks of this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts the monotonic clock at zero.
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time.
    pub(crate) fn now(&self) -> Now {
        Now { mono: Mono(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)), wall: wall_clock() }
    }
}

/// The wall clock; a clock before 1970 reads as 1970.
pub(crate) fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// What waits for the core.
#[derive(Debug)]
pub(crate) enum Mail {
    /// An occurrence.
    Input(Box<Input>),
    /// Somebody looks at the core; it carries its answer away itself.
    Look(Look),
}

/// What is done with the core, and when.
type Eye = dyn FnOnce(&NodeCore, Now) + Send;

/// Looks at the core without changing anything.
pub(crate) struct Look(Box<Eye>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look(..)")
    }
}

/// Hands inputs to the core. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Inbox(mpsc::Sender<Mail>);

impl Inbox {
    /// Waits for a place in the queue; `false` if the node is stopping.
    pub(crate) async fn put(&self, input: Input) -> bool {
        self.0.send(Mail::Input(Box::new(input))).await.is_ok()
    }

    /// What `look` sees in the core, after all inputs that were put before; `None` if the node is stopping.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        look: impl FnOnce(&NodeCore, Now) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let look = move |core: &NodeCore, now: Now| {
            // Whoever asked may have gone.
            drop(reply.send(look(core, now)));
        };
        self.0.send(Mail::Look(Look(Box::new(look)))).await.ok()?;
        answer.await.ok()
    }
}

/// Makes the queue before the shell exists, because the shell's tasks answer into it.
pub(crate) fn inbox() -> (Inbox, mpsc::Receiver<Mail>) {
    let (sender, receiver) = mpsc::channel(INPUTS_MAX);
    (Inbox(sender), receiver)
}

/// Starts the loop with the inputs that must come before all others; it ends when the node stops.
pub(crate) fn spawn((core, liar): (NodeCore, Liar), shell: &Arc<Shell>, first: Vec<Input>, mail: Incoming) {
    let (timers, outputs) = (BTreeSet::new(), Vec::new());
    let mut driver = Driver { core, liar, clock: Clock::start(), shell: Arc::clone(shell), timers, outputs };
    let cancel = shell.cancel.clone();
    shell.tasks.spawn(async move { driver.run(first, mail, cancel).await });
}

/// Where the loop hears from.
pub(crate) struct Incoming {
    /// Peers, users, and the node's own tasks. Left waiting while the disk is far behind.
    pub(crate) inputs: mpsc::Receiver<Mail>,
    /// Both databases: batches that are durable.
    pub(crate) durable: mpsc::UnboundedReceiver<PersistId>,
}

/// The task's state.
struct Driver {
    core: NodeCore,
    liar: Liar,
    clock: Clock,
    shell: Arc<Shell>,
    timers: BTreeSet<(Mono, Timer)>,
    outputs: Vec<Output>,
}

impl Driver {
    async fn run(&mut self, first: Vec<Input>, mail: Incoming, cancel: CancellationToken) {
        let Incoming { mut inputs, mut durable } = mail;
        for input in first {
            self.feed(input);
        }
        let backlog = self.shell.backlog().clone();
        loop {
            let next = self.timers.first().copied();
            tokio::select! {
                () = cancel.cancelled() => return,
                id = durable.recv() => match id {
                    Some(id) => self.feed(Input::Persisted(id)),
                    None => return,
                },
                input = inputs.recv(), if !backlog.is_long() => match input {
                    Some(Mail::Input(input)) if crash::hears(&input) => self.feed(*input),
                    Some(Mail::Input(_lost_by_a_failpoint)) => {}
                    Some(Mail::Look(look)) => (look.0)(&self.core, self.clock.now()),
                    None => return,
                },
                () = sleep_until(self.clock, next.map(|(at, _)| at)) => {
                    if let Some(key) = next {
                        self.timers.remove(&key);
                        self.feed(Input::Timer(key.1));
                    }
                }
            }
        }
    }

    /// One step of the core, and what follows from it.
    fn feed(&mut self, input: Input) {
        tracing::trace!(?input, "core in");
        if self.liar.hears(&self.core, &input) {
            self.core.handle(self.clock.now(), input, &mut self.outputs);
        }
        self.liar.twist(&self.core, &mut self.outputs);
        for output in self.outputs.drain(..) {
            tracing::trace!(?output, "core out");
            match output {
                Output::Send { to, message } if crash::sends(&message) => self.shell.send(to, message),
                Output::Send { .. } => {}
                Output::PersistVotes { id, records } => self.shell.persist(Batch::Votes { id, records }),
                Output::PersistGroups { id, records } => self.shell.persist(Batch::Groups { id, records }),
                Output::SetTimer { timer, at } => {
                    self.timers.insert((at, timer));
                }
                Output::Stage { tx, attempt, prepare, states } => {
                    self.shell.stage(StageJob { tx, attempt, prepare, states });
                }
                Output::Hash { manifest, sources } => self.shell.hash_states(manifest, sources),
                Output::CancelStage { tx } => self.shell.cancel_stage(tx),
                Output::Event(event) => {
                    if matches!(event, Event::Consensus(consensus::io::Event::RosterChanged { .. })) {
                        self.shell.roster_changed(self.core.consensus_core().chain().clone());
                    }
                    self.shell.event(event);
                }
            }
        }
    }
}

/// Sleeps until `at`; for ever without one.
async fn sleep_until(clock: Clock, at: Option<Mono>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(clock.now().mono)).await,
        None => std::future::pending::<()>().await,
    }
}
