//! Looks at everything this node keeps, says what does not fit, and puts right what can be.
//!
//! Rows are looked at by the store ([`mynet_store::meta::doctor`]); here is what needs the files, and the rules of groups:
//!
//! | code | what is wrong | put right by |
//! |---|---|---|
//! | `group_links` | the rows of a group do not make one; the message names the rule | nobody: what is missing is said apart |
//! | `blob_missing` | a row names a file that is not there, or is not as long as the row says | quarantine, and another holder's copy |
//! | `file_unnamed` | a file of an earlier start that no row names | removing it |
//!
//! Bytes are not read: that they are still what their hashes say is for a scrub.
//!
//! A node that does not run is looked at by [`examine`]: a database that keeps it from starting may be what is wrong.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use mynet_proto::group::{Row, discover};
use mynet_store::{
    blobs::{BlobKey, ReadError},
    meta::{Finding, Group, GroupView, ListQuery},
    votes::VotesError,
};
use mynet_types::{ContentId, GroupId, Link};

use crate::{
    config::Config,
    driver::wall_clock,
    handle::{NodeError, NodeHandle},
    service::{self, StartError},
    shell::Shell,
    view::{DoctorView, FindingView},
};

/// Groups or blobs looked at together.
const PAGE: u64 = 100;
/// Findings told one by one at most; all are counted.
const FINDINGS_MAX: usize = 1000;

impl NodeHandle {
    /// Looks at every group, blob and file, and puts right what it can, unless `dry_run`.
    ///
    /// # Errors
    /// [`NodeError::Stopping`], [`NodeError::Storage`]; what was put right until then stays so.
    pub async fn examine(&self, dry_run: bool) -> Result<DoctorView, NodeError> {
        let shell = Arc::clone(&self.shell);
        let examined = self.shell.tasks.spawn(async move { look(&shell, dry_run).await });
        examined.await.map_err(NodeError::storage)?
    }
}

/// Why the directory of a node that does not run was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum ExamineError {
    /// A process runs on this directory, whether or not it serves: ask that one, or stop it.
    #[error("{0}")]
    Runs(VotesError),
    /// What is in the directory cannot be opened.
    #[error(transparent)]
    Open(StartError),
    /// It broke off; what was put right until then stays so.
    #[error(transparent)]
    Look(#[from] NodeError),
}

/// Looks at the directory of a node that does not run, as [`NodeHandle::examine`] does at one that does. It counts as a start of
/// the node that ends at once: nothing is sent, and no vote is cast. What only other nodes have is pulled after its next start.
///
/// # Errors
/// [`ExamineError`].
pub async fn examine(data_dir: &Path, config: Config, dry_run: bool) -> Result<DoctorView, ExamineError> {
    let opened = service::open_stores(data_dir, config).await.map_err(|error| match error {
        StartError::Votes(error @ VotesError::InUse(_)) => ExamineError::Runs(error),
        error => ExamineError::Open(error),
    })?;
    let examined = look(&opened.shell, dry_run).await;
    opened.votes.close().await.map_err(|error| ExamineError::Open(error.into()))?;
    opened.shell.meta.clone().close().await.map_err(|error| ExamineError::Open(error.into()))?;
    Ok(examined?)
}

/// Looks at everything.
async fn look(shell: &Arc<Shell>, dry_run: bool) -> Result<DoctorView, NodeError> {
    let mut doctor = Doctor { shell, dry_run, view: DoctorView::new(dry_run) };
    doctor.groups().await?;
    doctor.rest().await?;
    doctor.blobs().await?;
    doctor.files().await?;
    Ok(doctor.view)
}

/// One look.
struct Doctor<'a> {
    shell: &'a Arc<Shell>,
    dry_run: bool,
    view: DoctorView,
}

impl Doctor<'_> {
    fn note(&mut self, finding: Finding) {
        let Finding { code, id, message, repaired } = finding;
        tracing::warn!(code, %id, %message, repaired, "the doctor found something");
        self.view.found += 1;
        self.view.repaired += u64::from(repaired);
        if self.view.findings.len() < FINDINGS_MAX {
            self.view.findings.push(FindingView { code: code.to_owned(), id, message, repaired });
        }
    }

    fn go_on(&self) -> Result<(), NodeError> {
        if self.shell.cancel.is_cancelled() { Err(NodeError::Stopping) } else { Ok(()) }
    }

    async fn groups(&mut self) -> Result<(), NodeError> {
        let mut after = None;
        loop {
            let query = ListQuery { origin_only: false, after, limit: PAGE };
            let page = self.shell.meta.groups(query).await.map_err(NodeError::storage)?;
            for group in page.items {
                self.go_on()?;
                self.group(group).await?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn group(&mut self, group: Group) -> Result<(), NodeError> {
        let group_id = group.manifest.body.group_id;
        self.view.groups += 1;
        let found = self.shell.meta.examine_group(group_id, wall_clock(), self.dry_run).await;
        let found = found.map_err(NodeError::storage)?;
        // What is missing is said already, and is there now if it could be.
        let mended = found.is_empty() || !self.dry_run;
        found.into_iter().for_each(|finding| self.note(finding));
        if mended {
            let views = self.shell.meta.with_rows(vec![group]).await.map_err(NodeError::storage)?;
            views.iter().filter_map(|view| links(group_id, view)).for_each(|finding| self.note(finding));
        }
        Ok(())
    }

    async fn rest(&mut self) -> Result<(), NodeError> {
        let found = self.shell.meta.examine_rest(wall_clock(), self.dry_run).await.map_err(NodeError::storage)?;
        found.into_iter().for_each(|finding| self.note(finding));
        Ok(())
    }

    /// Files that rows name. What is in quarantine is known to be lost and on its way.
    async fn blobs(&mut self) -> Result<(), NodeError> {
        let mut after = None;
        loop {
            let page = self.shell.meta.blobs_after(after.as_ref(), PAGE).await.map_err(NodeError::storage)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.blob.sha256);
            for stored in page {
                self.go_on()?;
                self.view.blobs += 1;
                let row = self.shell.meta.blob(&stored.blob.sha256).await.map_err(NodeError::storage)?;
                if row.is_none_or(|row| row.quarantined || row.stored != stored) {
                    continue;
                }
                let Err(error) = self.shell.blobs.read(stored.blob, stored.generation).await else { continue };
                let lost = matches!(error, ReadError::Missing { .. } | ReadError::Corrupt { .. });
                let repaired = lost && !self.dry_run;
                if repaired {
                    self.shell.damaged(&stored, &error).await;
                }
                let (id, message) = (stored.blob.sha256.to_string(), error.to_string());
                self.note(Finding { code: "blob_missing", id, message, repaired });
            }
        }
    }

    /// Files that no row names. Those of this start may still get one.
    async fn files(&mut self) -> Result<(), NodeError> {
        for first_byte in 0..=u8::MAX {
            self.go_on()?;
            for key in self.shell.blobs.list(first_byte).await.map_err(NodeError::storage)? {
                self.view.files += 1;
                let BlobKey { sha256, generation } = key;
                let row = self.shell.meta.blob(&sha256).await.map_err(NodeError::storage)?;
                let named = row.is_some_and(|row| row.stored.generation == generation);
                if named || !self.shell.is_of_earlier_start(generation) {
                    continue;
                }
                if !self.dry_run {
                    self.shell.blobs.remove(key).await.map_err(NodeError::storage)?;
                }
                let message = "no row names this file".to_owned();
                self.note(Finding { code: "file_unnamed", id: key.to_string(), message, repaired: !self.dry_run });
            }
        }
        Ok(())
    }
}

/// Whether the rows of a group make one, by the rules that every node follows.
fn links(group_id: GroupId, view: &GroupView) -> Option<Finding> {
    let owner = view.group.manifest.body.owner;
    let rows: BTreeMap<ContentId, Row> =
        view.states.iter().map(|row| (row.id, Row { owner, state: row.state })).collect();
    let links: Vec<Link> = view
        .relationships
        .iter()
        .map(|link| Link { parent: link.parent, child: link.child, kind: link.kind })
        .collect();
    let message = match discover(view.group.root, &rows, &links) {
        Ok(found) if found.root == view.group.root => return None,
        Ok(found) => format!("{} is the root, not {}", found.root, view.group.root),
        Err(error) => error.to_string(),
    };
    Some(Finding { code: "group_links", id: group_id.to_string(), message, repaired: false })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use mynet_store::blobs::BlobKey;
    use mynet_types::BlobRef;

    use crate::{config::Config, handle::Grant, testing::Founder};

    #[tokio::test(flavor = "multi_thread")]
    async fn a_healthy_node_has_no_findings_and_lost_files_are_found_and_quarantined() {
        let founder = Founder::start().await;
        founder.add(b"content", |options| (options.public, options.grant) = (true, Grant::Trusted)).await;
        let healthy = founder.handle.examine(false).await.unwrap();
        assert_eq!((healthy.found, healthy.groups, healthy.blobs, healthy.files), (0, 1, 1, 1), "{healthy:?}");

        let (shell, blob) = (founder.shell(), BlobRef::of(b"content"));
        let row = shell.meta.blob(&blob.sha256).await.unwrap().unwrap();
        let key = BlobKey { sha256: blob.sha256, generation: row.stored.generation };
        let hex = hex::encode(blob.sha256.0);
        let path = shell.blobs.dir().join(&hex[..2]).join(&hex[2..4]).join(key.to_string());
        // The node would sweep what the doctor is to find.
        let temp = founder.stop().await;
        let dir = temp.path().join("founder");
        let examine = async |dry_run| super::examine(&dir, Config::default(), dry_run).await.unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[1..]).unwrap();
        // A file of an earlier start that no row names.
        let stray = path.with_file_name(format!("{hex}.0"));
        fs::write(&stray, b"x").unwrap();

        let told = examine(true).await;
        let codes: Vec<_> = told.findings.iter().map(|finding| finding.code.as_str()).collect();
        assert_eq!((&codes[..], told.repaired), (&["blob_missing", "file_unnamed"][..], 0), "{told:?}");
        assert!(stray.exists() && path.exists());

        let mended = examine(false).await;
        assert_eq!((mended.found, mended.repaired), (2, 2), "{mended:?}");
        assert!(!stray.exists() && !path.exists());
        assert_eq!(examine(false).await.found, 0, "what is in quarantine is known");
    }
}
