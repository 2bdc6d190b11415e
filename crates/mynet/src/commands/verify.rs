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
    CertificateFile, Claim, ContentHash, GenesisFile, Manifest, Verdict,
    certificate::{self, CERTIFICATE_BYTES_MAX, GENESIS_BYTES_MAX, Verified},
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
    let content = args.content.as_deref().map(hash_file).transpose()?;
    let view = match check(&genesis, &certificate, content, args.allow_small) {
        Ok(verified) => valid(&verified),
        Err(reason) => VerifyView {
            valid: false,
            reason,
            network_id: None,
            epoch: None,
            group_id: None,
            manifest_hash: None,
            signers: Vec::new(),
            quorum: 0,
            class: None,
            claim: None,
        },
    };
    if global.json {
        output::object(&view)?;
    } else {
        let verdict = if view.valid { "valid" } else { "INVALID" };
        output::line(&format!("{verdict}: {}", view.reason))?;
    }
    Ok(if view.valid { ExitCode::SUCCESS } else { Status::Integrity.into() })
}

/// The whole check; the error is the reason.
fn check(
    genesis: &[u8],
    certificate: &[u8],
    content: Option<ContentHash>,
    allow_small: bool,
) -> Result<Verified, String> {
    let genesis = GenesisFile::decode(genesis).map_err(|error| format!("genesis: {error}"))?;
    let file = CertificateFile::decode(certificate).map_err(|error| format!("certificate: {error}"))?;
    let verified = certificate::verify(&file, &genesis, allow_small).map_err(|error| error.to_string())?;
    if verified.verdict == Verdict::Reject {
        return Err(format!("the validators of epoch {} rejected this group", verified.epoch));
    }
    match content {
        Some(hash) if !names(&file.manifest.body, hash) => Err(format!("the certificate is not about {hash}")),
        _ => Ok(verified),
    }
}

/// Whether a manifest names these bytes.
fn names(manifest: &Manifest, hash: ContentHash) -> bool {
    manifest.blobs().any(|(_, blob)| blob.sha256 == hash)
}

/// What a good certificate says.
fn valid(verified: &Verified) -> VerifyView {
    let claim = match verified.claim {
        Claim::Seen => "seen",
        Claim::Durable => "durable",
        Claim::Verified => "verified",
    };
    let (votes, epoch, holders) = (verified.signers.len(), verified.epoch, verified.holders.len());
    VerifyView {
        valid: true,
        reason: format!(
            "{votes} validators of epoch {epoch} certify group {} as {claim}, held by {holders} nodes",
            verified.group_id
        ),
        network_id: Some(verified.network_id),
        epoch: Some(epoch),
        group_id: Some(verified.group_id),
        manifest_hash: Some(verified.manifest_hash),
        signers: verified.signers.clone(),
        quorum: verified.quorum,
        class: Some(if verified.small { "small" } else { "full" }.to_owned()),
        claim: Some(claim.to_owned()),
    }
}

/// Reads a file of at most `max` bytes, and one byte more of a longer one so that it is refused as too long.
fn read_bounded(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
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
