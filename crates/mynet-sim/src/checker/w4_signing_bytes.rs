//! W4: signatures cover the domain, the network and the body, as the format says; written down here once more, because whoever signs
//! wrongly checks wrongly too, and would never notice.

use std::collections::BTreeMap;

use ed25519_dalek::VerifyingKey;
use mynet_types::{ConsensusMessage, Domain, Message, NetworkId, ReplicationMessage, Signature, codec};

use super::{Checker, ensure};
use crate::observe::{Seen, View};

/// Signatures of one kind that are looked at in one run: all are made by the same code.
const LOOKS_MAX: u32 = 3;

/// How often each kind was looked at.
#[derive(Debug, Default)]
pub(super) struct SigningBytes {
    looked: BTreeMap<Domain, u32>,
}

impl Checker for SigningBytes {
    fn invariant(&self) -> &'static str {
        "W4"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        let Seen::Sent { from, message, .. } = seen else { return Ok(()) };
        match message {
            Message::Consensus(ConsensusMessage::Propose { proposal, .. }) => {
                let (key, digest) = (proposal.body.proposer.0, codec::digest(&proposal.body));
                self.look((Domain::Proposal, "prop/1"), (key, digest), &proposal.signature, view)
            }
            Message::Consensus(ConsensusMessage::Vote(vote)) => {
                let links = view.hosts[*from].votes.store.links();
                let roster = links.iter().map(|link| &link.roster).find(|roster| roster.epoch == vote.statement.epoch);
                let seat = roster.and_then(|roster| roster.validators.get(usize::from(vote.seat)));
                let Some(seat) = seat else { return Ok(()) };
                self.look(
                    (Domain::Vote, "vote/1"),
                    (seat.vote_key.0, codec::digest(&vote.statement)),
                    &vote.signature,
                    view,
                )
            }
            Message::Replication(ReplicationMessage::Decision(decision)) => {
                let (key, digest) = (decision.body.coordinator.0, codec::digest(&decision.body));
                self.look((Domain::Decision, "repl-dec/1"), (key, digest), &decision.signature, view)
            }
            Message::Replication(ReplicationMessage::Receipts { receipts, .. }) => {
                let Some(receipt) = receipts.first() else { return Ok(()) };
                let (key, digest) = (receipt.body.holder.0, codec::digest(&receipt.body));
                self.look((Domain::Receipt, "store-att/1"), (key, digest), &receipt.signature, view)
            }
            _ => Ok(()),
        }
    }
}

impl SigningBytes {
    fn look(
        &mut self,
        (domain, name): (Domain, &str),
        (key, digest): ([u8; 32], [u8; 32]),
        signature: &Signature,
        view: &View<'_>,
    ) -> Result<(), String> {
        let looked = self.looked.entry(domain).or_default();
        *looked += 1;
        if *looked > LOOKS_MAX {
            return Ok(());
        }
        let covers = covers(name, &view.cast.network, &digest, &key, signature);
        ensure(covers, || format!("a signature does not cover domain {name}, the network and the body"))
    }
}

fn covers(name: &str, network: &NetworkId, digest: &[u8; 32], key: &[u8; 32], signature: &Signature) -> bool {
    let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
    let text = [&b"MYNET-SIG-v1\0"[..], &[length], name.as_bytes(), &network.0, digest].concat();
    let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
    VerifyingKey::from_bytes(key).is_ok_and(|key| key.verify_strict(&text, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::{super::stage::Stage, Checker, Domain, SigningBytes, codec};

    #[test]
    fn a_signature_of_another_domain_is_found() {
        let stage = Stage::new();
        let message = stage.decision_message(1, true);
        assert_eq!(SigningBytes::default().see(&stage.sent(0, &message), &stage.view()), Ok(()));
        let decision = stage.decision(1, true);
        let (key, digest) = (decision.body.coordinator.0, codec::digest(&decision.body));
        let mut checker = SigningBytes::default();
        let other = (Domain::Receipt, "store-att/1");
        assert!(checker.look(other, (key, digest), &decision.signature, &stage.view()).is_err());
    }
}
