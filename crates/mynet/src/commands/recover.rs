//! `roster recover`: a roster by two of the three offline keys, when too many validators are lost.
//!
//! `offer` and `submit` speak to a node, everything between works on files alone, so that a key never touches a machine with a
//! network. Every step shows the same object, and the roster hash in it is what the holders of the keys compare.

use std::{path::Path, time::SystemTime};

use anyhow::Context;
use ed25519_dalek::SigningKey;
use mynet_node::recovery::RecoveryView;
use mynet_types::{
    CertificateFile, OfferFile, RecoveryFile, Timestamp,
    certificate::{CERTIFICATE_BYTES_MAX, FileError},
    recovery::{Coverage, ProposeError, RECOVERY_BYTES_MAX, RecoveryError},
};
use reqwest::Method;
use serde_json::json;

use super::{content::write_output, verify::read_bounded};
use crate::{
    args::{Global, Recover, RecoverCombine, RecoverPropose, RecoverSign, RecoverSubmit, RecoverTo},
    client::Client,
    output::{self, Column, Failure, Status, id, table},
};

/// Bytes of a key file at most: 64 digits, and whatever an editor adds.
const KEY_BYTES_MAX: usize = 256;

/// Carries out one step of a recovery.
pub(super) async fn recover(global: &Global, step: Recover) -> anyhow::Result<()> {
    match step {
        Recover::Offer(args) => offer(global, &args).await,
        Recover::Propose(args) => propose(global, &args),
        Recover::Show(args) => show(global, &view(&read(&args.file)?)?),
        Recover::Sign(args) => sign(global, &args),
        Recover::Combine(args) => combine(global, &args),
        Recover::Submit(args) => submit(global, &args).await,
    }
}

/// Has the node offer itself for a recovered roster.
async fn offer(global: &Global, args: &RecoverTo) -> anyhow::Result<()> {
    let client = Client::new(global)?;
    let answer = client.send(client.request(Method::POST, "roster/recovery/offer")).await?;
    let bytes = answer.bytes().await.context("read the offer")?;
    let file = OfferFile::decode(&bytes).map_err(|error| unreadable(&args.output, &error))?;
    write_output(&args.output, &bytes)?;
    let offer = &file.offer.body;
    if global.json {
        let (node, epoch) = (offer.key.seat.node, offer.key.epoch);
        return output::object(&json!({
            "node_id": node, "epoch": epoch, "reports": offer.reports, "acked": offer.acked.len(), "file": args.output,
        }));
    }
    let knows = if offer.reports { "and what it acked" } else { "and nothing about what was acked" };
    output::line(&format!("a key for epoch {} {knows} is in {}", offer.key.epoch, args.output.display()))?;
    output::line("This node makes no later version final until another epoch begins.")
}

/// Makes a proposal of offers.
fn propose(global: &Global, args: &RecoverPropose) -> anyhow::Result<()> {
    let offers: Vec<OfferFile> = args.offers.iter().map(|path| read_offer(path)).collect::<Result<_, _>>()?;
    let certificates: Vec<CertificateFile> =
        args.certificates.iter().map(|path| read_certificate(path)).collect::<Result<_, _>>()?;
    let (file, coverage) =
        RecoveryFile::propose(&offers, &certificates, now()).map_err(|error| not_proposed(&error))?;
    let view = view(&file)?.with_coverage(coverage);
    if !args.dry_run {
        write_output(&args.to.output, &file.encode())?;
    }
    show(global, &view)?;
    if !global.json {
        warn(&view, coverage)?;
    }
    Ok(())
}

/// Says what an operator should know before keys are used.
fn warn(view: &RecoveryView, coverage: Coverage) -> anyhow::Result<()> {
    if !coverage.is_complete() {
        output::line(&format!(
            "warning   {} old seats report what they acked, {} make sure that nothing is missing: a later version that \
             only lost seats acked may be forgotten, so add what certificates there are with --certificate",
            coverage.reported, coverage.needed
        ))?;
    }
    if view.quorum == 0 {
        output::line("warning   so few validators certify nothing; the roster must grow first")?;
    }
    Ok(())
}

/// Signs a proposal with one key.
fn sign(global: &Global, args: &RecoverSign) -> anyhow::Result<()> {
    let (mut file, key) = (read(&args.file)?, read_key(&args.key)?);
    file.sign(&key).map_err(|error| refused(&error))?;
    if !args.dry_run {
        write_output(&args.to.output, &file.encode())?;
    }
    show(global, &view(&file)?)
}

/// Puts the signatures of several files together.
fn combine(global: &Global, args: &RecoverCombine) -> anyhow::Result<()> {
    let mut files = args.files.iter().map(|path| read(path));
    let mut file = files.next().context("clap asks for two files")??;
    for other in files {
        file.combine(&other?).map_err(|error| refused(&error))?;
    }
    write_output(&args.to.output, &file.encode())?;
    show(global, &view(&file)?)
}

/// Hands a signed recovery to a node.
async fn submit(global: &Global, args: &RecoverSubmit) -> anyhow::Result<()> {
    let file = read(&args.file)?;
    let view = view(&file)?;
    if view.missing > 0 {
        let message = format!("{} of the 2 signatures that it takes are in the file", view.keys.len());
        let hint = "sign it with another key: `mynet roster recover sign`";
        return Err(Failure::new(Status::NotAllowed, "signatures_missing", message, hint).into());
    }
    let client = Client::new(global)?;
    let request = client.request(Method::POST, "roster/recovery").query(&[("dry_run", args.dry_run)]);
    let view: RecoveryView = client.json(request.body(file.encode())).await?;
    show(global, &view)?;
    if global.json {
        return Ok(());
    }
    output::line(if view.submitted {
        "taken     the node follows it and gives it to all others"
    } else {
        "not taken (dry run)"
    })
}

/// What a file does, after everything in it was checked.
fn view(file: &RecoveryFile) -> anyhow::Result<RecoveryView> {
    let chain = file.check().map_err(|error| refused(&error))?;
    Ok(RecoveryView::of(file, &chain))
}

fn show(global: &Global, view: &RecoveryView) -> anyhow::Result<()> {
    if global.json {
        return output::object(view);
    }
    output::line(&format!("network   {}", view.network))?;
    output::line(&format!("epoch     {} instead of {}", view.epoch, view.epoch.saturating_sub(1)))?;
    output::line(&format!("roster    {}", view.roster))?;
    output::line(&format!("carries   {} later versions", view.carried))?;
    let signed: Vec<String> = view.keys.iter().map(ToString::to_string).collect();
    let signed = if signed.is_empty() { "no key".to_owned() } else { format!("key {}", signed.join(" and ")) };
    output::line(&format!("signed    by {signed}, {} missing", view.missing))?;
    let seats = view.validators.iter().map(|node| (node, if view.joining.contains(node) { "joins" } else { "stays" }));
    let rows = seats.chain(view.leaving.iter().map(|node| (node, "leaves")));
    table(
        &[Column::key("NODE"), Column::fact("SEAT")],
        &rows.map(|(node, word)| vec![id(node), word.to_owned()]).collect::<Vec<_>>(),
    )
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn read(path: &Path) -> anyhow::Result<RecoveryFile> {
    let bytes = read_bounded(path, RECOVERY_BYTES_MAX)?;
    Ok(RecoveryFile::decode(&bytes).map_err(|error| unreadable(path, &error))?)
}

fn read_offer(path: &Path) -> anyhow::Result<OfferFile> {
    let bytes = read_bounded(path, RECOVERY_BYTES_MAX)?;
    Ok(OfferFile::decode(&bytes).map_err(|error| unreadable(path, &error))?)
}

fn read_certificate(path: &Path) -> anyhow::Result<CertificateFile> {
    let bytes = read_bounded(path, CERTIFICATE_BYTES_MAX)?;
    Ok(CertificateFile::decode(&bytes).map_err(|error| unreadable(path, &error))?)
}

/// Reads one of the key files that `init` made.
fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let not_a_key = || {
        let message = format!("{} is no recovery key", path.display());
        Failure::new(Status::Usage, "not_a_key", message, "`init` wrote them to recovery/1.key, 2.key and 3.key")
    };
    let text = read_bounded(path, KEY_BYTES_MAX)?;
    let mut secret = [0; 32];
    hex::decode_to_slice(text.trim_ascii(), &mut secret).map_err(|_not_hex| not_a_key())?;
    Ok(SigningKey::from_bytes(&secret))
}

/// A file that is not what it should be.
fn unreadable(path: &Path, error: &FileError) -> Failure {
    let message = format!("{}: {error}", path.display());
    Failure::new(Status::Integrity, "unreadable", message, "take the file anew from where it was made")
}

/// Why offers make no proposal, with its exit status.
fn not_proposed(error: &ProposeError) -> Failure {
    let (status, code, hint) = match error {
        ProposeError::NoOffers => {
            (Status::Usage, "no_offers", "run `mynet roster recover offer` on each node that shall sit")
        }
        ProposeError::TooManySeats => (Status::Failed, "too_many_seats", "leave some out"),
        ProposeError::OtherNetwork { .. } => (Status::Failed, "other_network", "leave that offer out"),
        ProposeError::Stale { .. } => (Status::Failed, "stale_offer", "run `mynet roster recover offer` there again"),
        ProposeError::Twice { .. } => (Status::Failed, "offered_twice", "leave the older one out"),
        ProposeError::Chain { .. } | ProposeError::Unsigned { .. } | ProposeError::Unproven { .. } => {
            (Status::Integrity, "bad_offer", "take the offer anew from its node")
        }
        ProposeError::Roster(_) => (Status::Failed, "bad_roster", "look at the offers"),
        ProposeError::CarriedUnknown { .. } => {
            (Status::Failed, "carried_unknown", "add the offer of a node that had a seat in that epoch")
        }
        ProposeError::TooManyHeads => (Status::Failed, "too_many_heads", "no file can hold them"),
        ProposeError::Contradiction { .. } => {
            (Status::Failed, "contradiction", "add the certificate of the one that is final with --certificate")
        }
        ProposeError::Certificate { .. } => (Status::Integrity, "bad_certificate", "look at it with `mynet verify`"),
    };
    Failure::new(status, code, error.to_string(), hint)
}

/// Why a file is refused, or a key cannot sign it.
fn refused(error: &RecoveryError) -> Failure {
    let (status, code, hint) = match error {
        RecoveryError::Chain(_) | RecoveryError::Link(_) | RecoveryError::Heads | RecoveryError::Signature(_) => {
            (Status::Integrity, "bad_recovery", "propose it anew from the offers")
        }
        RecoveryError::WrongKey => {
            (Status::NotAllowed, "wrong_key", "take one of the three that `init` of this network made")
        }
        RecoveryError::SignedAlready(_) => (Status::Failed, "signed_already", "sign with another of the three keys"),
        RecoveryError::OtherRoster => (Status::Failed, "other_roster", "all signatures must be over one proposal"),
    };
    Failure::new(status, code, error.to_string(), hint)
}

#[cfg(test)]
mod tests {
    use super::read_key;
    use crate::output::Failure;

    #[test]
    fn a_key_file_is_64_digits_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.key");
        std::fs::write(&path, format!("{}\n", "ab".repeat(32))).unwrap();
        assert_eq!(read_key(&path).unwrap().to_bytes(), [0xab; 32]);
        for junk in [String::new(), "ab".repeat(31), "xy".repeat(32), "ab".repeat(33), " ".repeat(1000)] {
            std::fs::write(&path, &junk).unwrap();
            let error = read_key(&path).unwrap_err();
            assert_eq!(error.downcast_ref::<Failure>().unwrap().code, "not_a_key", "{junk:?}");
            assert!(junk.is_empty() || !error.to_string().contains(junk.trim()) || junk.trim().is_empty());
        }
    }
}
