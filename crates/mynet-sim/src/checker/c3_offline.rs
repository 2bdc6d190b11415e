//! C3: whatever is reported approved or rejected has a certificate that verifies offline from the genesis.

use std::collections::{BTreeMap, BTreeSet};

use mynet_proto::{
    consensus::io::{Event as Told, Outcome},
    node::io::Event,
};
use mynet_types::{
    CertificateFile, CertificateHash, ConsensusMessage, GenesisFile, ManifestHash, Message, Verdict, certificate,
};

use super::{Checker, ensure, quorums};
use crate::observe::{Seen, View};

/// Certificates that were verified, and outcomes that must have one.
#[derive(Debug, Default)]
pub(super) struct Offline {
    /// Files verified already, by votes and length of the chain: thousands of copies of each travel.
    verified: BTreeSet<(CertificateHash, usize)>,
    /// What a node has a certificate for.
    known: BTreeMap<(usize, ManifestHash), Verdict>,
    /// Reported while one input was handled; the certificate must come with it.
    reported: Vec<(ManifestHash, Verdict)>,
}

impl Checker for Offline {
    fn invariant(&self) -> &'static str {
        "C3"
    }

    fn see(&mut self, seen: &Seen<'_>, view: &View<'_>) -> Result<(), String> {
        match seen {
            Seen::Sent { message: Message::Consensus(ConsensusMessage::Certified(file)), .. } => {
                self.verify(file, view)
            }
            Seen::Told { node, event: Event::Consensus(Told::Certified(file)) } => {
                let statement = &file.certificate.statement;
                self.known.insert((*node, statement.value), statement.verdict);
                self.verify(file, view)
            }
            Seen::Told { event: Event::Consensus(Told::Progress { manifest_hash, tally, .. }), .. } => {
                match tally.outcome {
                    Outcome::Approved => self.reported.push((*manifest_hash, Verdict::Accept)),
                    Outcome::Rejected => self.reported.push((*manifest_hash, Verdict::Reject)),
                    Outcome::Pending | Outcome::Undecided | Outcome::NotEnoughValidators => {}
                }
                Ok(())
            }
            // Whoever died while it spoke reported nothing.
            Seen::Crashed(_) => {
                self.reported.clear();
                Ok(())
            }
            Seen::Handled(node) => std::mem::take(&mut self.reported).into_iter().try_for_each(|(value, verdict)| {
                ensure(self.known.get(&(*node, value)) == Some(&verdict), || {
                    format!("n{node} reports {verdict:?} of {value} without a certificate")
                })
            }),
            _ => Ok(()),
        }
    }
}

impl Offline {
    fn verify(&mut self, file: &CertificateFile, view: &View<'_>) -> Result<(), String> {
        if !self.verified.insert((file.hash(), file.chain.links.len())) {
            return Ok(());
        }
        let trust = GenesisFile { genesis: view.cast.genesis.clone(), checkpoint: None };
        let decoded = CertificateFile::decode(&file.encode()).map_err(|error| error.to_string())?;
        ensure(decoded == *file, || "a certificate file decodes into something else".to_owned())?;
        let statement = &file.certificate.statement;
        let verified = certificate::verify(file, &trust, true)
            .map_err(|error| format!("certificate of {}: {error}", statement.value))?;
        let validators = match statement.epoch.checked_sub(1).and_then(|before| usize::try_from(before).ok()) {
            Some(before) => file.chain.links.get(before).map_or(0, |link| link.roster.validators.len()),
            None => 1,
        };
        let need = quorums(validators, &view.cast.genesis)
            .map(|(accept, reject)| if statement.verdict == Verdict::Accept { accept } else { reject });
        let got = verified.signers.len();
        ensure(need.is_some_and(|need| got >= need), || {
            format!("certificate of {}: {got} votes of {validators} validators, {need:?} are needed", statement.value)
        })
    }
}

#[cfg(test)]
mod tests {
    use mynet_proto::consensus::io::Outcome;

    use super::{super::stage::Stage, Checker, Event, Offline, Seen, Told};

    #[test]
    fn an_approval_without_a_certificate_is_found() {
        let stage = Stage::new();
        let mut checker = Offline::default();
        let event = stage.progress(Outcome::Approved);
        assert_eq!(checker.see(&Seen::Told { node: 0, event: &event }, &stage.view()), Ok(()));
        assert!(checker.see(&Seen::Handled(0), &stage.view()).is_err());
    }

    #[test]
    fn a_certificate_whose_signatures_do_not_verify_is_found() {
        let stage = Stage::new();
        let good = stage.certificate();
        let event = Event::Consensus(Told::Certified(Box::new(good.clone())));
        assert_eq!(Offline::default().see(&Seen::Told { node: 0, event: &event }, &stage.view()), Ok(()));
        let mut bad = good;
        bad.certificate.statement.claim = mynet_types::Claim::Verified;
        let event = Event::Consensus(Told::Certified(Box::new(bad)));
        assert!(Offline::default().see(&Seen::Told { node: 0, event: &event }, &stage.view()).is_err());
    }
}
