//! A validator that lies: an honest core whose votes are twisted on their way out, with the seat's own key.
//!
//! It tells one proposer yes and another no, or both to one, or accepts two values in one slot. It lies only in rosters that
//! tolerate a liar; one more than f is beyond what anybody promises.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use mynet_proto::{consensus::io::Record, node::io::Output};
use mynet_types::{
    ConsensusMessage, Domain, ManifestHash, Message, NetworkId, Verdict, Vote, quorum::faulty_max, signing,
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What the liar keeps from its core, which erases its keys.
#[derive(Debug)]
pub(crate) struct Liar {
    secrets: BTreeMap<u64, [u8; 32]>,
    /// Seats by epoch.
    seats: BTreeMap<u64, usize>,
    rng: ChaCha8Rng,
}

impl Liar {
    /// A liar that may have founded the network.
    pub(crate) fn new(founder_secret: Option<[u8; 32]>, rng: ChaCha8Rng) -> Self {
        Self { secrets: founder_secret.map(|secret| (0, secret)).into_iter().collect(), seats: BTreeMap::new(), rng }
    }

    /// Twists what its core said. Answers how many lies were told.
    pub(crate) fn twist(&mut self, network: &NetworkId, outputs: &mut Vec<Output>) -> usize {
        for output in &*outputs {
            if let Output::PersistVotes { records, .. } = output {
                records.iter().for_each(|record| self.learn(record));
            }
        }
        let mut said = Vec::with_capacity(outputs.len());
        let mut lies = 0;
        for output in outputs.drain(..) {
            let lie = match &output {
                Output::Send { to, message: Message::Consensus(ConsensusMessage::Vote(vote)) } => self
                    .lie(network, vote)
                    .map(|lie| Output::Send { to: *to, message: Message::Consensus(ConsensusMessage::Vote(lie)) }),
                _ => None,
            };
            let alone = lie.is_some() && self.rng.random_ratio(1, 3);
            lies += usize::from(lie.is_some());
            said.extend(Some(output).filter(|_| !alone));
            said.extend(lie);
        }
        *outputs = said;
        lies
    }

    fn learn(&mut self, record: &Record) {
        match record {
            Record::Key { epoch, secret } => {
                self.secrets.insert(*epoch, secret.0);
            }
            Record::Link(link) => {
                self.seats.insert(link.roster.epoch, link.roster.validators.len());
            }
            _ => {}
        }
    }

    /// Something else than `vote`, if this is a time for lies.
    fn lie(&mut self, network: &NetworkId, vote: &Vote) -> Option<Vote> {
        let epoch = vote.statement.epoch;
        let key = SigningKey::from_bytes(self.secrets.get(&epoch)?);
        let tolerated = self.seats.get(&epoch).is_some_and(|seats| faulty_max(*seats) > 0);
        if !tolerated || self.rng.random_ratio(1, 2) {
            return None;
        }
        let mut statement = vote.statement;
        if statement.verdict == Verdict::Accept && self.rng.random() {
            statement.value = ManifestHash(self.rng.random());
        } else {
            let accepts = statement.verdict == Verdict::Accept;
            statement.verdict = if accepts { Verdict::Reject } else { Verdict::Accept };
        }
        let signature = signing::sign_as(Domain::Vote, network, &statement, &key);
        Some(Vote { statement, signature, ..vote.clone() })
    }
}
