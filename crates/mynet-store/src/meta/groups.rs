//! Making groups visible, and what changes a group afterwards: grants, wraps, certificates, failures.
//!
//! **Invariants**
//! 1. A group is visible with every state that it says it holds, or not at all: rows, links, states and pins are one
//!    transaction.
//! 2. A content id belongs to one group for ever; whoever comes second is refused.
//! 3. A group has one version here; see [`super::versions`] for how another takes its place.

use std::collections::BTreeSet;

use mynet_types::{
    CertificateFile, ContentId, ContentState, GroupId, Manifest, ManifestHash, SignedWrap, StatesMask, Verdict, codec,
    manifest::MANIFEST_BYTES_MAX,
};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, IntoActiveModel, QueryFilter, QueryOrder, prelude::Uuid,
    sea_query::OnConflict,
};

use super::{
    MetaError,
    column::{calendar, claim_column, fixed, from_column, millis, pack, pack_record, to_column, unpack, unpack_record},
    model::{Granted, GroupRows, Mode, NewGroup, PinKind, ReplicationStatus, WriteError},
    rows::{self, Known},
    schema::{
        content::{encryption_keys, stored_content, user_content},
        holdings::{certificates, groups, states, wraps},
    },
    sql, versions,
    write::WriteScope,
};

impl WriteScope<'_> {
    pub(super) async fn upload(&mut self, group: NewGroup) -> Result<(), WriteError> {
        let manifest = &group.rows.manifest.body;
        self.put_blobs(&group.blobs).await?;
        self.install(&group.rows, true).await?;
        if let Some((replicas, mode)) = group.publish {
            self.publish(manifest.group_id, (replicas, mode)).await?;
        }
        if let (Some(user_id), Some(root)) = (group.user, rows::root(manifest)) {
            let row = user_content::Model {
                user_id,
                content_id: root.content_id.as_uuid(),
                relation: "owner".to_owned(),
                created_at: calendar(self.now),
            };
            sql::insert_new(self.db, row).await?;
        }
        Ok(())
    }

    /// Makes a group version visible, in the place of an older one if that is here, or adds to it what is new if the same
    /// version is.
    pub(super) async fn install(&mut self, rows: &GroupRows, origin: bool) -> Result<(), WriteError> {
        let manifest = &rows.manifest.body;
        let model = match self.find_group(manifest.group_id).await? {
            Some(model) if model.manifest_hash == manifest.hash().0 => {
                let held = from_column::<u8>(model.held.into()).map_err(|damage| damage.within("mynet_groups"))?;
                let held = i32::from(held | rows.held.bits());
                let origin = model.origin || origin;
                groups::Entity::update(groups::ActiveModel {
                    held: Set(held),
                    origin: Set(origin),
                    ..model.clone().into_active_model()
                })
                .exec(self.db)
                .await?
            }
            Some(other) => {
                versions::refuse_older(&other, manifest)?;
                self.replace(other, rows).await?
            }
            None if self.is_deleted(manifest).await? => return Err(WriteError::Deleted(manifest.group_id)),
            None => self.insert_group(rows, origin).await?,
        };
        self.wraps(manifest.group_id, &rows.wraps).await?;
        let reference = manifest.group_id.0;
        for (member, blob) in manifest.blobs() {
            if rows.held.contains(member.state) {
                self.pin(blob.sha256, PinKind::Group, reference).await?;
            }
        }
        self.write_content(&model, rows.granted.as_ref()).await?;
        self.project(&model).await?;
        Ok(())
    }

    pub(super) async fn insert_group(&mut self, rows: &GroupRows, origin: bool) -> Result<groups::Model, WriteError> {
        let manifest = &rows.manifest.body;
        let ids: Vec<ContentId> = manifest.members.iter().map(|member| member.content_id).collect();
        self.refuse_taken(manifest.group_id, &ids).await?;
        let root = rows::root(manifest).or_else(|| manifest.members.first());
        let model = groups::Model {
            group_id: manifest.group_id.0.to_vec(),
            version: to_column("version", manifest.version)?,
            manifest_hash: manifest.hash().0.to_vec(),
            manifest: pack_record(&rows.manifest),
            sealed: pack(&rows.sealed),
            owner: manifest.owner.0.to_vec(),
            visible: true,
            origin,
            held: i32::from(rows.held.bits()),
            root_content_id: root.map_or(Uuid::nil(), |root| root.content_id.as_uuid()),
            placement_slot: i32::from(rows.placement_slot),
            created_at: millis(manifest.created_at),
            // The owner's clock orders lists, but a clock that runs ahead gains no place at their top.
            ordered_at: millis(manifest.created_at.min(self.now)),
            published: !origin,
            started: !origin,
            failure: None,
            mode: Mode::Quorum.as_str().to_owned(),
            replicas: i32::from(manifest.replicas),
            quorum: i32::from(manifest.quorum),
            status: ReplicationStatus::None.as_str().to_owned(),
            replica_count: 0,
            certificate_hash: None,
            certified: false,
            rejected_at: None,
            synced_at: None,
        };
        sql::insert(self.db, model.clone()).await?;
        for member in &manifest.members {
            let row = states::Model {
                content_id: member.content_id.as_uuid(),
                group_id: model.group_id.clone(),
                version: model.version,
                state: member.state.as_str().to_owned(),
                public_hash: member
                    .blob
                    .filter(|_| !rows::is_secret_view(manifest, member))
                    .map(|b| b.sha256.0.to_vec()),
                plain_hash: member.blob.filter(|_| rows::is_secret_view(manifest, member)).map(|b| b.sha256.0.to_vec()),
                blake3: member.blob.map(|blob| blob.blake3.0.to_vec()),
            };
            sql::insert(self.db, row).await?;
        }
        Ok(model)
    }

    /// Refuses content ids that another group has, or that appear twice.
    pub(super) async fn refuse_taken(&self, group_id: GroupId, ids: &[ContentId]) -> Result<(), WriteError> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.iter().find(|id| !seen.insert(**id)) {
            return Err(WriteError::IdConflict { content_id: *twice, owner: None });
        }
        let uuids: Vec<Uuid> = ids.iter().map(ContentId::as_uuid).collect();
        let owned = states::Entity::find().filter(states::Column::ContentId.is_in(uuids.clone())).all(self.db).await?;
        if let Some(taken) = owned.iter().find(|row| row.group_id != group_id.0) {
            let owner = fixed(&taken.group_id).map_err(|damage| damage.within("mynet_states"))?;
            return Err(WriteError::IdConflict { content_id: taken.content_id.into(), owner: Some(GroupId(owner)) });
        }
        let ours: BTreeSet<Uuid> = owned.into_iter().map(|row| row.content_id).collect();
        let rows = stored_content::Entity::find().filter(stored_content::Column::Id.is_in(uuids)).all(self.db).await?;
        match rows.into_iter().find(|row| !ours.contains(&row.id)) {
            Some(foreign) => Err(WriteError::IdConflict { content_id: foreign.id.into(), owner: None }),
            None => Ok(()),
        }
    }

    /// Writes or completes the specification's rows of a group.
    pub(super) async fn write_content(
        &self,
        model: &groups::Model,
        granted: Option<&Granted>,
    ) -> Result<(), WriteError> {
        let manifest = manifest_of(model)?;
        let key_id = match granted {
            Some(granted) => self.put_key(&manifest, granted).await?,
            None => None,
        };
        let held = held_of(model)?;
        let known = Known { held, granted, key_id, now: self.now };
        let content = rows::content_rows(&manifest, known)?;
        let links = rows::link_rows(&manifest, &content);
        // A row that is here may only learn more, so a repeat without the grant takes nothing away.
        use stored_content::Column::{ContentType, DecryptedContentId, EncryptionKeyId, Filename, Id, Tags};
        let mut conflict = OnConflict::column(Id);
        match granted {
            Some(_) => conflict.update_columns([ContentType, DecryptedContentId, EncryptionKeyId, Filename, Tags]),
            None => conflict.do_nothing(),
        };
        for row in content {
            sql::upsert(self.db, row, &mut conflict).await?;
        }
        for link in links {
            sql::insert_new(self.db, link).await?;
        }
        let view = manifest.member(ContentState::Decrypted).filter(|member| member.blob.is_none());
        if let (Some(granted), Some(view)) = (granted, view) {
            self.note_plaintext(view.content_id, granted).await?;
        }
        Ok(())
    }

    /// Keeps the plaintext's hashes, so that this node finds the group by them.
    async fn note_plaintext(&self, view: ContentId, granted: &Granted) -> Result<(), WriteError> {
        states::Entity::update(states::ActiveModel {
            content_id: Set(view.as_uuid()),
            plain_hash: Set(Some(granted.plain.sha256.0.to_vec())),
            blake3: Set(Some(granted.plain.blake3.0.to_vec())),
            ..Default::default()
        })
        .exec(self.db)
        .await?;
        Ok(())
    }

    /// Keeps the content key; a repeat replaces the wrapped bytes and keeps the row's id.
    async fn put_key(&self, manifest: &Manifest, granted: &Granted) -> Result<Option<Uuid>, WriteError> {
        let Some(algorithm) = rows::algorithm(manifest) else { return Ok(None) };
        let row = encryption_keys::Model {
            id: Uuid::new_v4(),
            algorithm: algorithm.to_owned(),
            wrapped_key: pack(&granted.wrapped_key),
            group_id: manifest.group_id.0.to_vec(),
            version: to_column("key version", manifest.key_version())?,
            created_at: calendar(self.now),
            rotated_at: None,
            state: "active".to_owned(),
        };
        use encryption_keys::Column::{GroupId, Version, WrappedKey};
        let conflict = OnConflict::columns([GroupId, Version]).update_column(WrappedKey).to_owned();
        let kept = encryption_keys::Entity::insert(row.into_active_model())
            .on_conflict(conflict)
            .exec_with_returning(self.db)
            .await?;
        Ok(Some(kept.id))
    }

    pub(super) async fn grant(&mut self, group_id: GroupId, granted: &Granted) -> Result<(), WriteError> {
        let model = self.known_group(group_id).await?;
        let held = held_of(&model)?.with(ContentState::Decrypted);
        let changed = groups::ActiveModel { held: Set(i32::from(held.bits())), ..model.into_active_model() };
        let model = groups::Entity::update(changed).exec(self.db).await?;
        self.write_content(&model, Some(granted)).await?;
        self.project(&model).await?;
        Ok(())
    }

    pub(super) async fn wraps(&mut self, group_id: GroupId, known: &[SignedWrap]) -> Result<(), WriteError> {
        let Some(model) = self.find_group(group_id).await? else { return Ok(()) };
        // Peers hand on wraps that anybody may have signed; only those of this group's owner, for its key, are its wraps.
        let key_version = manifest_of(&model)?.key_version();
        let belongs = |wrap: &&SignedWrap| {
            let wrap = &wrap.body;
            wrap.group_id == group_id && wrap.owner.0[..] == model.owner[..] && wrap.version == key_version
        };
        for wrap in known.iter().filter(belongs) {
            let row = wraps::Model {
                group_id: group_id.0.to_vec(),
                version: model.version,
                recipient: wrap.body.recipient.0.to_vec(),
                wrap: pack_record(wrap),
            };
            use wraps::Column::{GroupId, Recipient, Version, Wrap};
            let mut conflict = OnConflict::columns([GroupId, Version, Recipient]);
            sql::upsert(self.db, row, conflict.update_column(Wrap)).await?;
        }
        Ok(())
    }

    pub(super) async fn certificate(&mut self, file: &CertificateFile) -> Result<(), WriteError> {
        let manifest_hash = file.certificate.statement.value;
        let Some(model) = self.find_manifest(manifest_hash).await? else { return Ok(()) };
        // A weaker claim about the same value may come later: it takes nothing away from the stronger one.
        let known = certificates::Entity::find_by_id(manifest_hash.0.to_vec()).one(self.db).await?;
        let claim_of = |bytes: &[u8]| CertificateFile::decode(bytes).ok().map(|file| file.certificate.statement.claim);
        let known = known.and_then(|row| claim_of(unpack(&row.certificate).ok()?));
        if known.is_some_and(|claim| claim > file.certificate.statement.claim) {
            return Ok(());
        }
        let row = certificates::Model {
            manifest_hash: manifest_hash.0.to_vec(),
            certificate: pack(&file.encode()),
            claim: claim_column(file.certificate.statement.claim),
        };
        let mut conflict = OnConflict::column(certificates::Column::ManifestHash);
        let renewed = [certificates::Column::Certificate, certificates::Column::Claim];
        sql::upsert(self.db, row, conflict.update_columns(renewed)).await?;
        let accepts = file.certificate.statement.verdict == Verdict::Accept;
        let changed = groups::ActiveModel {
            certificate_hash: Set(Some(file.hash().0.to_vec())),
            certified: Set(accepts),
            // What the validators found wrong is read nowhere but where it was uploaded, where its owner sees why; elsewhere it
            // goes after a while.
            visible: Set(accepts || model.origin),
            rejected_at: Set((!accepts && !model.origin).then(|| model.rejected_at.unwrap_or(millis(self.now)))),
            ..model.into_active_model()
        };
        let model = groups::Entity::update(changed).exec(self.db).await?;
        if !accepts {
            self.forget_receipts_given(&model.group_id).await?;
        }
        self.project(&model).await?;
        Ok(())
    }

    pub(super) async fn failed(&mut self, group_id: GroupId, reason: Option<String>) -> Result<(), WriteError> {
        let model = self.known_group(group_id).await?;
        let changed = groups::ActiveModel { failure: Set(reason), ..model.into_active_model() };
        let model = groups::Entity::update(changed).exec(self.db).await?;
        self.project(&model).await?;
        Ok(())
    }

    /// The newest version of a group here, visible or not.
    pub(super) async fn find_group(&self, group_id: GroupId) -> Result<Option<groups::Model>, MetaError> {
        let found = groups::Entity::find()
            .filter(groups::Column::GroupId.eq(group_id.0.to_vec()))
            .order_by_desc(groups::Column::Version)
            .one(self.db)
            .await?;
        Ok(found)
    }

    pub(super) async fn known_group(&self, group_id: GroupId) -> Result<groups::Model, WriteError> {
        self.find_group(group_id).await?.ok_or(WriteError::UnknownGroup(group_id))
    }

    /// The group version of a manifest here.
    pub(super) async fn find_manifest(&self, hash: ManifestHash) -> Result<Option<groups::Model>, MetaError> {
        let found =
            groups::Entity::find().filter(groups::Column::ManifestHash.eq(hash.0.to_vec())).one(self.db).await?;
        Ok(found)
    }
}

/// The manifest in a row.
pub(super) fn signed_manifest_of(model: &groups::Model) -> Result<mynet_types::SignedManifest, MetaError> {
    unpack_record(&model.manifest, MANIFEST_BYTES_MAX).map_err(|damage| damage.within("mynet_groups"))
}

fn manifest_of(model: &groups::Model) -> Result<Manifest, MetaError> {
    Ok(signed_manifest_of(model)?.body)
}

/// The states held, of a row.
pub(super) fn held_of(model: &groups::Model) -> Result<StatesMask, MetaError> {
    let bits = from_column::<u8>(model.held.into()).map_err(|damage| damage.within("mynet_groups"))?;
    codec::decode(&[bits], 1).map_err(|error| super::column::Damage::from(error).within("mynet_groups"))
}
