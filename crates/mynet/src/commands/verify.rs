//! `verify`: checks a certificate with nothing but the genesis.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    process::ExitCode,
};

use anyhow::Context;
use mynet_node::view::VerifyView;
use mynet_types::{
    Claim, ContentHash,
    certificate::{CERTIFICATE_BYTES_MAX, GENESIS_BYTES_MAX, Verified},
    verifier::{self, Demand, Refused},
};
use sha2::{Digest, Sha256};

use crate::{
    args::{Global, Verify},
    output::{self, Status},
};

/// Status 0 if the certificate stands, 5 if it does not.
pub(crate) fn verify(global: &Global, args: &Verify) -> anyhow::Result<ExitCode> {
    let genesis = read_bounded(&args.genesis, GENESIS_BYTES_MAX)?;
    let certificate = read_bounded(&args.certificate, CERTIFICATE_BYTES_MAX)?;
    let demand = Demand {
        allow_small: args.allow_small,
        content: args.content.as_deref().map(hash_file).transpose()?,
        claim: args.claim.map(Into::into),
    };
    let view = match verifier::verify(&certificate, &genesis, demand) {
        Ok(verified) => valid(&verified),
        Err(refused) => invalid(&refused),
    };
    if global.json {
        output::object(&view)?;
    } else if view.valid {
        output::fields(&[&format!("valid: {}", view.message)])?;
    } else {
        output::fields(&[&format!("INVALID ({}): {}", view.reason, view.message)])?;
        if let Some(hint) = hint(&view) {
            output::fields(&[&format!("  {hint}")])?;
        }
    }
    Ok(if view.valid { ExitCode::SUCCESS } else { Status::Integrity.into() })
}

/// What to try when a certificate is good, or may be, and something else is not what it should be.
fn hint(view: &VerifyView) -> Option<String> {
    let group = view.group_id.map_or_else(|| "ID".to_owned(), |group| group.to_string());
    let hint = match view.reason.as_str() {
        "content_differs" => format!(
            "a certificate names what anybody may know: the encrypted state, the preview, public content, and never the original of \
             private content; `mynet get {group} --state encrypted -o FILE` fetches what it can be compared with"
        ),
        "claim_too_low" => format!("`mynet propose {group} --claim verified` has the validators say more"),
        "small_not_allowed" => "--allow-small takes what one or two validators say".to_owned(),
        "not_a_genesis" => "--genesis wants what `mynet genesis -o FILE` writes".to_owned(),
        "not_a_certificate" => "`mynet cert ID -o FILE` writes one".to_owned(),
        "other_network" => "take the genesis of the network that the certificate is from".to_owned(),
        _ => return None,
    };
    Some(hint)
}

fn claim_word(claim: Claim) -> String {
    match claim {
        Claim::Seen => "seen",
        Claim::Durable => "durable",
        Claim::Verified => "verified",
    }
    .to_owned()
}

fn class_word(small: bool) -> String {
    if small { "small" } else { "full" }.to_owned()
}

/// Says that validators were put in by the offline keys, and not by those before them.
fn recovered(epochs: &[u64]) -> String {
    let epochs: Vec<String> = epochs.iter().map(ToString::to_string).collect();
    if epochs.is_empty() {
        String::new()
    } else {
        format!("; the recovery keys, not votes, made the roster of epoch {}", epochs.join(" and "))
    }
}

/// What a good certificate says.
fn valid(verified: &Verified) -> VerifyView {
    let claim = claim_word(verified.claim);
    let (votes, epoch, holders) = (verified.signers.len(), verified.epoch, verified.holders.len());
    VerifyView {
        valid: true,
        reason: "valid".to_owned(),
        message: format!(
            "{votes} validators of epoch {epoch} certify group {} as {claim}, held by {holders} nodes{}",
            verified.group_id,
            recovered(&verified.recoveries)
        ),
        network_id: Some(verified.network_id),
        epoch: Some(epoch),
        group_id: Some(verified.group_id),
        manifest_hash: Some(verified.manifest_hash),
        signers: verified.signers.clone(),
        quorum: verified.quorum,
        class: Some(class_word(verified.small)),
        claim: Some(claim),
        recoveries: verified.recoveries.clone(),
    }
}

/// What can be read in a bad one, beside why it is bad.
fn invalid(refused: &Refused) -> VerifyView {
    let Refused { defect, told } = refused;
    VerifyView {
        valid: false,
        reason: defect.code().to_owned(),
        message: defect.to_string(),
        network_id: told.network_id,
        epoch: told.epoch,
        group_id: told.group_id,
        manifest_hash: told.manifest_hash,
        signers: told.signers.clone(),
        quorum: told.quorum.unwrap_or(0),
        class: told.small.map(class_word),
        claim: told.claim.map(claim_word),
        recoveries: told.recoveries.clone(),
    }
}

/// Reads a file of at most `max` bytes, and one byte more of a longer one so that it is refused as too long.
pub(super) fn read_bounded(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut bytes = Vec::new();
    file.take(max as u64 + 1).read_to_end(&mut bytes).with_context(|| format!("read {}", path.display()))?;
    Ok(bytes)
}

/// SHA-256 of a file.
fn hash_file(path: &Path) -> anyhow::Result<ContentHash> {
    let mut file = fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    let mut hasher = HashWriter(Sha256::new());
    io::copy(&mut file, &mut hasher).with_context(|| format!("read {}", path.display()))?;
    Ok(ContentHash(hasher.0.finalize().into()))
}

/// Hashes what is written.
struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{hint, invalid};
    use mynet_types::{
        ContentHash,
        verifier::{Defect, Refused},
    };

    #[test]
    fn whoever_compares_the_original_is_told_what_a_certificate_names() {
        let refused = |defect| invalid(&Refused { defect, told: mynet_types::verifier::Told::default() });
        let told = hint(&refused(Defect::OtherContent(ContentHash([1; 32])))).unwrap();
        assert!(told.contains("never the original") && told.contains("--state encrypted -o FILE"), "{told}");
        assert_eq!(hint(&refused(Defect::Rejected { epoch: 1 })), None, "nothing helps a certificate that says no");
    }
}
