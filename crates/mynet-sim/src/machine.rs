//! What a simulated node runs: the composed node, or one core behind the vocabulary of the composed node.

use std::fmt;

use mynet_proto::{
    consensus::{self, Consensus, RestoreError},
    node::{
        self, Identity, NodeCore,
        io::{Event, Input, Output, Timer},
    },
    replication::{self, Replication},
};
use mynet_types::{Message, Now};

use crate::options::{Options, Suite};

/// Anything that decides: input in, outputs out.
pub(crate) trait Machine: fmt::Debug {
    /// Handles one input.
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>);
}

/// Starts what `options` ask for from what is on disk.
pub(crate) fn boot(
    options: &Options,
    identity: Identity,
    restored: node::Restored,
    seed: [u8; 32],
) -> Result<Box<dyn Machine>, RestoreError> {
    let consensus =
        consensus::io::Config { automatic_validators: options.automatic, ..consensus::io::Config::default() };
    let config = node::Config { consensus, replication: replication_config(options) };
    Ok(match options.suite {
        Suite::Consensus => {
            let Identity { node_key, genesis } = identity;
            let core = Consensus::new(config.consensus, node_key, genesis, restored.consensus, seed)?;
            Box::new(ConsensusAlone(core))
        }
        Suite::Replication => {
            let network = identity.genesis.network_id();
            let core = Replication::new(config.replication, identity.node_key, network, restored.replication);
            Box::new(ReplicationAlone(core))
        }
        Suite::Node => Box::new(Composed(NodeCore::new(config, identity, restored, seed)?)),
    })
}

/// The defaults, with everything that is measured in leases shrunk as the lease is.
fn replication_config(options: &Options) -> replication::io::Config {
    let defaults = replication::io::Config::default();
    let scale = |duration: std::time::Duration| {
        duration.mul_f64(options.lease.as_secs_f64() / defaults.prepared_lease.as_secs_f64())
    };
    replication::io::Config {
        receiving_lease: scale(defaults.receiving_lease),
        prepared_lease: options.lease,
        progress_interval: scale(defaults.progress_interval),
        status_interval: scale(defaults.status_interval),
        deadline: scale(defaults.deadline),
        ..defaults
    }
}

struct Composed(NodeCore);

impl Machine for Composed {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.0.handle(now, input, out);
    }
}

struct ConsensusAlone(Consensus);

impl Machine for ConsensusAlone {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        use consensus::io::{Input as Own, Output as Said};
        let input = match input {
            Input::Start => Own::Start,
            Input::Message { from, message: Message::Consensus(message) } => Own::Message { from, message },
            Input::Timer(Timer::Consensus(timer)) => Own::Timer(timer),
            Input::Persisted(id) => Own::Persisted(id),
            Input::Certify { manifest, receipts, claim } => Own::Propose { manifest, receipts, claim },
            Input::Hashed { manifest_hash, hashed } => Own::Hashed { manifest_hash, hashed },
            Input::CertifyHead { manifest, previous, receipts, claim } => {
                Own::ProposeHead { manifest, previous, receipts, claim }
            }
            Input::Admitted(record) => Own::Admitted(record),
            Input::PeerUp(peer) => Own::PeerUp(peer),
            Input::PeerDown(peer) => Own::PeerDown(peer),
            Input::Approve(node) => Own::Approve(node),
            Input::OfferRecovery => Own::OfferRecovery,
            Input::Recover { link, heads } => Own::Recover { link, heads },
            other => unreachable!("{other:?} is not asked of the consensus core"),
        };
        let mut said = Vec::new();
        self.0.handle(now, input, &mut said);
        out.extend(said.into_iter().map(|output| match output {
            Said::Send { to, message } => Output::Send { to, message: Message::Consensus(message) },
            Said::Persist { id, records } => Output::PersistVotes { id, records },
            Said::SetTimer { timer, at } => Output::SetTimer { timer: Timer::Consensus(timer), at },
            Said::Hash { manifest, sources } => Output::Hash { manifest, sources },
            Said::Event(event) => Output::Event(Event::Consensus(event)),
        }));
    }
}

struct ReplicationAlone(Replication);

impl Machine for ReplicationAlone {
    fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        use replication::io::{Input as Own, Output as Said};
        let input = match input {
            Input::Start => Own::Start,
            Input::Message { from, message: Message::Replication(message) } => Own::Message { from, message },
            Input::Timer(Timer::Replication(timer)) => Own::Timer(timer),
            Input::Persisted(id) => Own::Persisted(id),
            Input::Publish(publication) => Own::Publish(publication),
            Input::Wraps { group_id, wraps } => Own::Wraps { group_id, wraps },
            Input::Staged { tx, attempt, result } => Own::Staged { tx, attempt, result },
            Input::Progress { tx, attempt, bytes } => Own::Progress { tx, attempt, bytes },
            Input::Admitted(record) => Own::Admitted(record),
            Input::PeerUp(peer) => Own::PeerUp(peer),
            Input::PeerDown(peer) => Own::PeerDown(peer),
            Input::Delete { tombstone, holders } => Own::Delete { tombstone, holders },
            other => unreachable!("{other:?} is not asked of the replication core"),
        };
        let mut said = Vec::new();
        self.0.handle(now, input, &mut said);
        out.extend(said.into_iter().map(|output| match output {
            Said::Send { to, message } => Output::Send { to, message: Message::Replication(message) },
            Said::Persist { id, records } => Output::PersistGroups { id, records },
            Said::SetTimer { timer, at } => Output::SetTimer { timer: Timer::Replication(timer), at },
            Said::Stage { tx, attempt, prepare, states } => Output::Stage { tx, attempt, prepare, states },
            Said::CancelStage { tx } => Output::CancelStage { tx },
            Said::Event(event) => Output::Event(Event::Replication(event)),
        }));
    }
}

/// Cores print nothing: they hold keys.
macro_rules! opaque {
    ($($name:ident)*) => {
        $(impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        })*
    };
}
opaque!(Composed ConsensusAlone ReplicationAlone);
