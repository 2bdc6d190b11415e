//! The composition of the cores: one state machine that the daemon and the simulator both run.
//!
//! Counterpart of `MYNetworkService` in the specification. The cores do not know each other; what one announces and
//! another must hear is handed over here, and nowhere else:
//!
//! ```text
//! driver --Input--> NodeCore --+--> replication --Event::Durable--> consensus: Propose { claim: Durable }
//!        <-Output--            |      Event::Deleted -------> consensus: Withdraw
//!                              +--> consensus ----Event::RosterChanged--> replication: Chain
//!                                              Event::Certified, a no --> replication: Rejected
//! ```
//!
//! **Invariants**
//! 1. Every output of a core goes out once, and those of one core in its order.
//! 2. Two batches that wait for the disk never have one [`PersistId`], and `Persisted` reaches the core that wrote the
//!    batch.
//! 3. Consensus hears of a start, an admission or a peer before replication does.
//! 4. What is handed over is not remembered: a group that became durable right before a crash is proposed when the
//!    driver finds it without a certificate and hands in [`io::Input::Certify`].
//!
//! Absent on purpose: membership. [`Message::Membership`] carries admissions that the driver verifies against the roster
//! chain and hands in as [`io::Input::Admitted`]; the composition ignores it.

pub mod io;

use ed25519_dalek::SigningKey;
use mynet_types::{Claim, Genesis, HeadProof, ManifestHash, Message, Now, SignedManifest, Verdict, wire::Receipts};

use crate::{
    consensus::{self, Consensus, RestoreError},
    persist::PersistId,
    replication::{self, Replication},
};

use io::{Event, Input, Output, Timer};

/// Settings of all cores.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Of consensus.
    pub consensus: consensus::io::Config,
    /// Of replication.
    pub replication: replication::io::Config,
}

/// What all restarted cores begin from.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// From the vote store.
    pub consensus: consensus::io::Restored,
    /// From the metadata store.
    pub replication: replication::io::Restored,
}

/// Who the node is, and in which network.
#[derive(Clone)]
pub struct Identity {
    /// The key that is the node: signs receipts, decisions and proposals.
    pub node_key: SigningKey,
    /// How the network began.
    pub genesis: Genesis,
}

/// Tells the public half only.
impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let node = mynet_types::NodeId(self.node_key.verifying_key().to_bytes());
        f.debug_struct("Identity").field("node", &node).field("network", &self.genesis.network_id()).finish()
    }
}

/// The composed node.
#[derive(Debug)]
pub struct NodeCore {
    consensus: Consensus,
    replication: Replication,
    /// Empty between inputs; kept so that it is allocated once.
    consensus_said: Vec<consensus::io::Output>,
    /// Empty between inputs; kept so that it is allocated once.
    replication_said: Vec<replication::io::Output>,
}

/// Which core a batch belongs to; also its bit in a [`PersistId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writer {
    Consensus = 0,
    Replication = 1,
}

/// The id that the driver sees: a core's own count, and one bit that names the core.
fn outer_id(writer: Writer, id: PersistId) -> PersistId {
    PersistId(id.0 << 1 | writer as u64)
}

/// Undoes [`outer_id`].
fn inner_id(id: PersistId) -> (Writer, PersistId) {
    let writer = if id.0 & 1 == 0 { Writer::Consensus } else { Writer::Replication };
    (writer, PersistId(id.0 >> 1))
}

impl NodeCore {
    /// A node that begins from what is on its disks. `seed` must differ from start to start.
    ///
    /// The driver hands in every admission it knows, then [`Input::Start`], then what it found unfinished.
    ///
    /// # Errors
    /// [`RestoreError`] if the vote store contradicts itself; the node must not run then.
    pub fn new(config: Config, identity: Identity, restored: Restored, seed: [u8; 32]) -> Result<Self, RestoreError> {
        let Identity { node_key, genesis } = identity;
        let network = genesis.network_id();
        Ok(Self {
            consensus: Consensus::new(config.consensus, node_key.clone(), genesis, restored.consensus, seed)?,
            replication: Replication::new(config.replication, node_key, network, restored.replication),
            consensus_said: Vec::new(),
            replication_said: Vec::new(),
        })
    }

    /// Handles one input and appends what is to be done, in order.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        use consensus::io::Input as ToConsensus;
        use replication::io::Input as ToReplication;
        match input {
            Input::Start => {
                self.tell_chain(now, out);
                self.withdraw_deleted(now, out);
                self.both(now, (ToConsensus::Start, ToReplication::Start), out);
            }
            Input::Admitted(record) => {
                self.both(now, (ToConsensus::Admitted(record.clone()), ToReplication::Admitted(record)), out);
            }
            Input::PeerUp(peer) => self.both(now, (ToConsensus::PeerUp(peer), ToReplication::PeerUp(peer)), out),
            Input::PeerDown(peer) => self.both(now, (ToConsensus::PeerDown(peer), ToReplication::PeerDown(peer)), out),
            Input::Message { from, message } => match message {
                Message::Replication(message) => self.replication(now, ToReplication::Message { from, message }, out),
                Message::Consensus(message) => self.consensus(now, ToConsensus::Message { from, message }, out),
                Message::Membership(_) => {}
            },
            Input::Timer(Timer::Consensus(timer)) => self.consensus(now, ToConsensus::Timer(timer), out),
            Input::Timer(Timer::Replication(timer)) => self.replication(now, ToReplication::Timer(timer), out),
            Input::Persisted(id) => match inner_id(id) {
                (Writer::Consensus, id) => self.consensus(now, ToConsensus::Persisted(id), out),
                (Writer::Replication, id) => self.replication(now, ToReplication::Persisted(id), out),
            },
            Input::Approve(node) => self.consensus(now, ToConsensus::Approve(node), out),
            Input::OfferRecovery => self.consensus(now, ToConsensus::OfferRecovery, out),
            Input::Recover { link, heads } => self.consensus(now, ToConsensus::Recover { link, heads }, out),
            Input::Publish(publication) => self.replication(now, ToReplication::Publish(publication), out),
            Input::Wraps { group_id, wraps } => self.replication(now, ToReplication::Wraps { group_id, wraps }, out),
            Input::Staged { tx, attempt, result } => {
                self.replication(now, ToReplication::Staged { tx, attempt, result }, out);
            }
            Input::Progress { tx, attempt, bytes } => {
                self.replication(now, ToReplication::Progress { tx, attempt, bytes }, out);
            }
            Input::Delete { tombstone, holders } => {
                self.replication(now, ToReplication::Delete { tombstone, holders }, out);
            }
            Input::Certify { manifest, receipts, claim } => {
                self.consensus(now, ToConsensus::Propose { manifest, receipts, claim }, out);
            }
            Input::Hashed { manifest_hash, hashed } => {
                self.consensus(now, ToConsensus::Hashed { manifest_hash, hashed }, out);
            }
            Input::CertifyHead { manifest, previous, receipts, claim } => {
                self.consensus(now, ToConsensus::ProposeHead { manifest, previous, receipts, claim }, out);
            }
        }
    }

    /// The consensus core, for questions about rosters and votes.
    #[must_use]
    pub fn consensus_core(&self) -> &Consensus {
        &self.consensus
    }

    /// The replication core, for questions about groups and holders.
    #[must_use]
    pub fn replication_core(&self) -> &Replication {
        &self.replication
    }

    /// Proposals of deleted groups are closed before they are sent again: a crash may have come between the two records.
    fn withdraw_deleted(&mut self, now: Now, out: &mut Vec<Output>) {
        let open = self.consensus.open_groups().filter(|manifest| self.replication.is_deleted(manifest));
        let deleted: Vec<_> = open.map(|manifest| (manifest.group_id, manifest.owner)).collect();
        for (group_id, owner) in deleted {
            self.consensus(now, consensus::io::Input::Withdraw { group_id, owner }, out);
        }
    }

    /// Tells both cores, consensus first: what replication finds durable while it starts is a proposal at once, and
    /// consensus takes proposals only after its own start.
    fn both(
        &mut self,
        now: Now,
        (to_consensus, to_replication): (consensus::io::Input, replication::io::Input),
        out: &mut Vec<Output>,
    ) {
        self.consensus(now, to_consensus, out);
        self.replication(now, to_replication, out);
    }

    fn replication(&mut self, now: Now, input: replication::io::Input, out: &mut Vec<Output>) {
        use replication::io::{Event as Told, Output as Said};
        let mut said = std::mem::take(&mut self.replication_said);
        self.replication.handle(now, input, &mut said);
        for output in said.drain(..) {
            match output {
                Said::Send { to, message } => out.push(Output::Send { to, message: Message::Replication(message) }),
                Said::Persist { id, records } => {
                    out.push(Output::PersistGroups { id: outer_id(Writer::Replication, id), records });
                }
                Said::SetTimer { timer, at } => out.push(Output::SetTimer { timer: Timer::Replication(timer), at }),
                Said::Stage { tx, attempt, prepare, states } => {
                    out.push(Output::Stage { tx, attempt, prepare, states });
                }
                Said::CancelStage { tx } => out.push(Output::CancelStage { tx }),
                Said::Event(event) => {
                    let handed_over = match &event {
                        Told::Durable { manifest, receipts, previous } => {
                            Some(durable(manifest.clone(), receipts.clone(), previous.clone()))
                        }
                        Told::Deleted { group_id, owner } => {
                            Some(consensus::io::Input::Withdraw { group_id: *group_id, owner: *owner })
                        }
                        _ => None,
                    };
                    out.push(Output::Event(Event::Replication(event)));
                    if let Some(input) = handed_over {
                        self.consensus(now, input, out);
                    }
                }
            }
        }
        self.replication_said = said;
    }

    fn consensus(&mut self, now: Now, input: consensus::io::Input, out: &mut Vec<Output>) {
        use consensus::io::Output as Said;
        self.consensus.handle(now, input, &mut self.consensus_said);
        let grown = |output: &Said| matches!(output, Said::Event(consensus::io::Event::RosterChanged { .. }));
        let grown = self.consensus_said.iter().any(grown);
        let rejected: Vec<_> = self.consensus_said.iter().filter_map(rejected).collect();
        out.extend(self.consensus_said.drain(..).map(|output| match output {
            Said::Send { to, message } => Output::Send { to, message: Message::Consensus(message) },
            Said::Persist { id, records } => Output::PersistVotes { id: outer_id(Writer::Consensus, id), records },
            Said::SetTimer { timer, at } => Output::SetTimer { timer: Timer::Consensus(timer), at },
            Said::Hash { manifest, sources } => Output::Hash { manifest, sources },
            Said::Event(event) => Output::Event(Event::Consensus(event)),
        }));
        if grown {
            self.tell_chain(now, out);
        }
        for manifest_hash in rejected {
            self.replication(now, replication::io::Input::Rejected(manifest_hash), out);
        }
    }

    /// Replication checks later versions against the chain that consensus has.
    fn tell_chain(&mut self, now: Now, out: &mut Vec<Output>) {
        let chain = Box::new(self.consensus.chain().clone());
        self.replication(now, replication::io::Input::Chain(chain), out);
    }
}

/// The manifest that a certificate says no to.
fn rejected(output: &consensus::io::Output) -> Option<ManifestHash> {
    let consensus::io::Output::Event(consensus::io::Event::Certified(file)) = output else { return None };
    let statement = &file.certificate.statement;
    (statement.verdict == Verdict::Reject).then_some(statement.value)
}

/// What is durable is to be certified as that.
fn durable(
    manifest: Box<SignedManifest>,
    receipts: Receipts,
    previous: Option<Box<HeadProof>>,
) -> consensus::io::Input {
    let claim = Claim::Durable;
    match previous {
        None => consensus::io::Input::Propose { manifest, receipts, claim },
        Some(previous) => consensus::io::Input::ProposeHead { manifest, previous, receipts, claim },
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;
    use mynet_types::{Genesis, Mono, NodeId, Now, Timestamp, Validator, VoteKey, roster::GENESIS_FORMAT};

    use super::{Config, Identity, Input, NodeCore, Output, PersistId, Restored, Timer, Writer, inner_id, outer_id};

    fn founder() -> Identity {
        let node_key = SigningKey::from_bytes(&[7; 32]);
        let genesis = Genesis {
            format: GENESIS_FORMAT,
            name: "test".try_into().unwrap(),
            created_at: Timestamp(0),
            min_quorum: 3,
            allow_degraded_quorum: true,
            recovery_keys: [[1; 32]; 3],
            founder: Validator {
                vote_key: VoteKey(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()),
                node: NodeId(node_key.verifying_key().to_bytes()),
            },
            salt: [0; 32],
        };
        Identity { node_key, genesis }
    }

    #[test]
    fn consensus_hears_of_the_start_before_replication_can_propose() {
        let mut node = NodeCore::new(Config::default(), founder(), Restored::default(), [1; 32]).unwrap();
        let mut out = Vec::new();
        node.handle(Now { mono: Mono(0), wall: Timestamp(1) }, Input::Start, &mut out);
        let first_of = |wanted: fn(&Timer) -> bool| {
            out.iter().position(|output| matches!(output, Output::SetTimer { timer, .. } if wanted(timer)))
        };
        let consensus = first_of(|timer| matches!(timer, Timer::Consensus(_)));
        let replication = first_of(|timer| matches!(timer, Timer::Replication(_)));
        assert!(consensus.is_some() && consensus < replication, "{out:?}");
    }

    #[test]
    fn batches_of_two_cores_never_share_an_id_and_find_their_way_back() {
        let mut seen = std::collections::BTreeSet::new();
        for count in 1..100 {
            for writer in [Writer::Consensus, Writer::Replication] {
                let outer = outer_id(writer, PersistId(count));
                assert!(seen.insert(outer));
                assert_eq!(inner_id(outer), (writer, PersistId(count)));
            }
        }
    }
}
