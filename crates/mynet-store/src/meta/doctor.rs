//! Finds what does not fit together in the database, and puts it right where something else says how it must be.
//!
//! | code | what is wrong | put right by |
//! |---|---|---|
//! | `database` | SQLite finds its own file damaged, or a reference to nothing | nobody: restore a backup |
//! | `extension_differs` | an extension column is not what receipts, certificate and manifest say | writing it again |
//! | `certificate_differs` | a group's row names another certificate than the one kept | naming the one kept |
//! | `rows_missing` | a state that is held, or a link between two of them, has no row | writing it from the manifest |
//! | `root_missing` | the row that all others come from is missing | the same |
//! | `pin_missing` | the bytes of a group are not pinned, so they would be collected | pinning them |
//! | `blob_unknown` | a state is held, and nothing is known of its bytes | nobody: its holders have it |
//! | `pin_orphan` | something that does not exist keeps a blob | taking the pin away |
//! | `blob_unreleased` | nothing keeps a blob, and nothing ever let go of it, so it is never collected | its grace begins now |
//! | `relationship_orphan` | a link names a row that does not exist | removing the link |
//!
//! **Invariant:** repairing twice finds nothing the second time, but what nobody here can put right.

use mynet_types::{CertificateFile, ContentId, GroupId, Link, Manifest, Timestamp, Verdict};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, IntoActiveModel, QueryFilter, QuerySelect, Statement,
    prelude::Uuid,
    sea_query::{Expr, ExprTrait, Query},
};

use super::{
    Meta, MetaError,
    blobs::has_no_pins,
    column::{fixed, millis, unpack},
    groups::{held_of, signed_manifest_of},
    model::{PinKind, WriteError},
    projection::Extension,
    rows,
    schema::{
        content::{content_relationships, stored_content},
        holdings::{blobs, certificates, groups, pins, states},
        pending::transactions,
    },
    transactions::{INTENT, PREPARED},
    write::{BatchDone, WriteScope},
};

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Which kind, one of the table in the module's documentation.
    pub code: &'static str,
    /// What it is about: a group, a blob, a row.
    pub id: String,
    /// What is wrong.
    pub message: String,
    /// Whether it was put right.
    pub repaired: bool,
}

impl Finding {
    fn new(code: &'static str, id: impl ToString, message: impl Into<String>) -> Self {
        Self { code, id: id.to_string(), message: message.into(), repaired: false }
    }
}

impl Meta {
    /// Looks at one group and puts right what it can, unless `dry_run`.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the group was changed then.
    pub async fn examine_group(
        &self,
        group_id: GroupId,
        now: Timestamp,
        dry_run: bool,
    ) -> Result<Vec<Finding>, WriteError> {
        let transaction = self.begin().await?;
        let mut scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        let Some(model) = scope.find_group(group_id).await? else { return Ok(Vec::new()) };
        let mut findings = scope.examine_rows(&model).await?;
        findings.extend(scope.examine_pins(&model).await?);
        let (model, certificate) = scope.examine_certificate(model).await?;
        findings.extend(certificate);
        findings.extend(scope.examine_extension(&model).await?);
        close(transaction, findings, dry_run).await
    }

    /// Looks at what belongs to no group, and puts right what it can, unless `dry_run`.
    ///
    /// # Errors
    /// [`WriteError`]; nothing was changed then.
    pub async fn examine_rest(&self, now: Timestamp, dry_run: bool) -> Result<Vec<Finding>, WriteError> {
        let mut findings = self.examine_file().await?;
        let transaction = self.begin().await?;
        let mut scope = WriteScope { db: &transaction, me: self.me, now, done: BatchDone::default() };
        let mut rest = scope.examine_links().await?;
        rest.extend(scope.examine_orphan_pins().await?);
        rest.extend(scope.examine_unreleased().await?);
        findings.extend(close(transaction, rest, dry_run).await?);
        Ok(findings)
    }

    /// What SQLite says of its own file.
    async fn examine_file(&self) -> Result<Vec<Finding>, MetaError> {
        let mut findings = Vec::new();
        let backend = self.read.get_database_backend();
        for row in self.read.query_all_raw(Statement::from_string(backend, "PRAGMA quick_check")).await? {
            let said: String = row.try_get_by_index(0)?;
            if said != "ok" {
                findings.push(Finding::new("database", "mynet.db", said));
            }
        }
        for row in self.read.query_all_raw(Statement::from_string(backend, "PRAGMA foreign_key_check")).await? {
            let table: String = row.try_get_by_index(0)?;
            // Links are looked at one by one, and can be put right.
            if table != "content_relationships" {
                findings.push(Finding::new("database", table, "a row refers to one that does not exist"));
            }
        }
        Ok(findings)
    }
}

/// Ends a look: what was found was put right in the transaction, and stays so only if it is to.
async fn close(
    transaction: sea_orm::DatabaseTransaction,
    findings: Vec<Finding>,
    dry_run: bool,
) -> Result<Vec<Finding>, WriteError> {
    if dry_run {
        transaction.rollback().await?;
        return Ok(findings.into_iter().map(|finding| Finding { repaired: false, ..finding }).collect());
    }
    transaction.commit().await?;
    Ok(findings)
}

impl WriteScope<'_> {
    /// The rows and links that the manifest asks for, of the states held here.
    async fn examine_rows(&mut self, model: &groups::Model) -> Result<Vec<Finding>, WriteError> {
        let manifest = signed_manifest_of(model)?.body;
        let held = held_of(model)?;
        let here = self.rows_here(&manifest).await?;
        // A view has a row only where its plaintext is known, which the manifest does not tell.
        let wanted = manifest.members.iter().filter(|member| held.contains(member.state) && member.blob.is_some());
        let missing: Vec<ContentId> = wanted.map(|member| member.content_id).filter(|id| !here.contains(id)).collect();
        let links = self.links_here(&manifest).await?;
        let rows_after: Vec<ContentId> = here.iter().chain(&missing).copied().collect();
        let wanted =
            manifest.links.iter().filter(|link| [link.parent, link.child].iter().all(|id| rows_after.contains(id)));
        let unlinked = wanted.filter(|link| !links.contains(link)).count();
        if missing.is_empty() && unlinked == 0 {
            return Ok(Vec::new());
        }
        let root = rows::root(&manifest).map(|root| root.content_id);
        let code = if root.is_some_and(|root| missing.contains(&root)) { "root_missing" } else { "rows_missing" };
        let message = format!("{} rows and {unlinked} links are missing", missing.len());
        self.write_content(model, None).await?;
        Ok(vec![Finding { repaired: true, ..Finding::new(code, group_text(model), message) }])
    }

    async fn rows_here(&self, manifest: &Manifest) -> Result<Vec<ContentId>, MetaError> {
        let ids = manifest.members.iter().map(|member| member.content_id.as_uuid());
        let here: Vec<Uuid> = stored_content::Entity::find()
            .select_only()
            .column(stored_content::Column::Id)
            .filter(stored_content::Column::Id.is_in(ids))
            .into_tuple()
            .all(self.db)
            .await?;
        Ok(here.into_iter().map(ContentId::from).collect())
    }

    async fn links_here(&self, manifest: &Manifest) -> Result<Vec<Link>, MetaError> {
        let ids = manifest.members.iter().map(|member| member.content_id.as_uuid());
        let found = content_relationships::Entity::find()
            .filter(content_relationships::Column::ParentContentId.is_in(ids))
            .all(self.db)
            .await?;
        let link = |row: content_relationships::Model| {
            let kind = row.relationship_type.parse().ok()?;
            Some(Link { parent: row.parent_content_id.into(), child: row.child_content_id.into(), kind })
        };
        Ok(found.into_iter().filter_map(link).collect())
    }

    /// The pins of the bytes held.
    async fn examine_pins(&mut self, model: &groups::Model) -> Result<Vec<Finding>, WriteError> {
        let manifest = signed_manifest_of(model)?.body;
        let (held, mut findings) = (held_of(model)?, Vec::new());
        for (_, blob) in manifest.blobs().filter(|(member, _)| held.contains(member.state)) {
            let kind = PinKind::Group.as_str().to_owned();
            let id = (blob.sha256.0.to_vec(), kind, model.group_id.clone());
            if pins::Entity::find_by_id(id).one(self.db).await?.is_some() {
                continue;
            }
            let message = format!("group {} does not keep its bytes", group_text(model));
            match self.pin(blob.sha256, PinKind::Group, manifest.group_id.0).await {
                Ok(()) => {
                    findings.push(Finding { repaired: true, ..Finding::new("pin_missing", blob.sha256, message) });
                }
                Err(WriteError::BlobMissing(_)) => findings.push(Finding::new("blob_unknown", blob.sha256, message)),
                Err(error) => return Err(error),
            }
        }
        Ok(findings)
    }

    /// What the group's row says of its certificate.
    async fn examine_certificate(&self, model: groups::Model) -> Result<(groups::Model, Option<Finding>), WriteError> {
        let row = certificates::Entity::find_by_id(model.manifest_hash.clone()).one(self.db).await?;
        let bytes = row.as_ref().map(|row| unpack(&row.certificate)).transpose();
        let bytes = bytes.map_err(|damage| damage.within("mynet_certificates"))?;
        let kept = bytes.and_then(|bytes| CertificateFile::decode(bytes).ok());
        let hash = kept.as_ref().map(|file| file.hash().0.to_vec());
        let accepts = kept.is_some_and(|file| file.certificate.statement.verdict == Verdict::Accept);
        if model.certificate_hash == hash && model.certified == accepts {
            return Ok((model, None));
        }
        let finding = Finding {
            repaired: true,
            ..Finding::new("certificate_differs", group_text(&model), "the row names another certificate than is kept")
        };
        let changed =
            groups::ActiveModel { certificate_hash: Set(hash), certified: Set(accepts), ..model.into_active_model() };
        Ok((groups::Entity::update(changed).exec(self.db).await?, Some(finding)))
    }

    /// The extension columns of every row of the group.
    async fn examine_extension(&self, model: &groups::Model) -> Result<Vec<Finding>, WriteError> {
        let mut findings = Vec::new();
        let standing = self.standing(model).await?;
        if (standing.count, standing.status().as_str()) != (model.replica_count, model.status.as_str()) {
            let message = format!("its row says {} with {} copies", model.status, model.replica_count);
            findings.push(Finding { repaired: true, ..Finding::new("extension_differs", group_text(model), message) });
        }
        let members = states::Entity::find()
            .filter(states::Column::GroupId.eq(model.group_id.clone()))
            .filter(states::Column::Version.eq(model.version))
            .all(self.db)
            .await?;
        for member in members {
            let Some(row) = stored_content::Entity::find_by_id(member.content_id).one(self.db).await? else { continue };
            let differing = standing.extension(model, &member).differing(&Extension::of(&row));
            if !differing.is_empty() {
                let id = ContentId::from(member.content_id);
                let message = format!("not what follows from receipts and certificate: {}", differing.join(", "));
                findings.push(Finding { repaired: true, ..Finding::new("extension_differs", id, message) });
            }
        }
        if !findings.is_empty() {
            self.project(model).await?;
        }
        Ok(findings)
    }

    /// Links that name a row that does not exist. References forbid them; a database that was written without may have some.
    async fn examine_links(&self) -> Result<Vec<Finding>, WriteError> {
        use content_relationships::Column::{ChildContentId, Id, ParentContentId};
        let mut rows = Query::select();
        let rows = rows.column(stored_content::Column::Id).from(stored_content::Entity).take();
        let orphaned = Condition::any()
            .add(ParentContentId.not_in_subquery(rows.clone()))
            .add(ChildContentId.not_in_subquery(rows));
        let found = content_relationships::Entity::find().filter(orphaned).all(self.db).await?;
        let ids: Vec<Uuid> = found.iter().map(|link| link.id).collect();
        content_relationships::Entity::delete_many().filter(Id.is_in(ids)).exec(self.db).await?;
        let finding = |link: content_relationships::Model| Finding {
            repaired: true,
            ..Finding::new("relationship_orphan", link.id, "the link names a row that does not exist")
        };
        Ok(found.into_iter().map(finding).collect())
    }

    /// Pins of groups and transactions that are not here.
    async fn examine_orphan_pins(&mut self) -> Result<Vec<Finding>, WriteError> {
        let (group, tx) = (PinKind::Group.as_str(), PinKind::Tx.as_str());
        let mut known = Query::select();
        let known = known.column(groups::Column::GroupId).from(groups::Entity).take();
        let mut open = Query::select();
        open.column(transactions::Column::Tx).from(transactions::Entity);
        let open = open.and_where(transactions::Column::Phase.is_in([INTENT, PREPARED])).take();
        let of_nothing = Condition::any()
            .add(pins::Column::Kind.eq(group).and(pins::Column::Reference.not_in_subquery(known)))
            .add(pins::Column::Kind.eq(tx).and(pins::Column::Reference.not_in_subquery(open)));
        let mut findings = Vec::new();
        for pin in pins::Entity::find().filter(of_nothing).all(self.db).await? {
            let kind = if pin.kind == group { PinKind::Group } else { PinKind::Tx };
            let reference = fixed(&pin.reference).map_err(|damage| damage.within("mynet_pins"))?;
            self.unpin_all(kind, reference).await?;
            let message = format!("kept by {} {}, which is not here", pin.kind, hex::encode(&pin.reference));
            let id = hex::encode(&pin.sha256);
            findings.push(Finding { repaired: true, ..Finding::new("pin_orphan", format!("sha256:{id}"), message) });
        }
        Ok(findings)
    }

    /// Blobs without a pin whose grace never began.
    async fn examine_unreleased(&self) -> Result<Vec<Finding>, WriteError> {
        let unreleased = || has_no_pins().add(blobs::Column::UnpinnedAt.is_null());
        let found = blobs::Entity::find().filter(unreleased()).all(self.db).await?;
        blobs::Entity::update_many()
            .col_expr(blobs::Column::UnpinnedAt, Expr::value(millis(self.now)))
            .filter(unreleased())
            .exec(self.db)
            .await?;
        let finding = |row: blobs::Model| {
            let id = format!("sha256:{}", hex::encode(&row.sha256));
            Finding {
                repaired: true,
                ..Finding::new("blob_unreleased", id, "nothing keeps it, and it is never collected")
            }
        };
        Ok(found.into_iter().map(finding).collect())
    }
}

fn group_text(model: &groups::Model) -> String {
    hex::encode(&model.group_id)
}
