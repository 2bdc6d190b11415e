//! Questions about groups: by key, as a list, as rows of the specification, in numbers. Readers never wait for the writer.
//!
//! **Invariant:** only visible groups are answered, except by `restore`.

use std::{collections::BTreeMap, fmt, str::FromStr};

use mynet_types::{
    CertificateHash, Claim, ContentHash, ContentId, ContentState, ContentType, GroupId, ManifestHash, NodeId,
    RelationshipKind, SignedManifest, SignedReceipt, SignedWrap, StatesMask, Timestamp, content::UnknownWord,
    rpc::GroupKey, wire::SealedBytes,
};
use sea_orm::{
    ColumnTrait, Condition, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
    prelude::{Json, Uuid},
    sea_query::{Expr, ExprTrait, Query},
};

use super::{
    Meta, MetaError, SMALL_RECORD_MAX,
    column::{Damage, claim_column, fixed, from_calendar, from_column, millis, time, unpack, unpack_record},
    groups::signed_manifest_of,
    model::{Mode, ReplicationStatus, parse_state},
    schema::{
        content::{content_relationships, encryption_keys, stored_content, user_content},
        holdings::{blobs, certificates, groups, receipts, states, wraps},
    },
    transactions::mask,
};

/// Items of one page at most, whatever was asked for.
pub const PAGE_MAX: u64 = 500;

/// A visible group version on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The manifest; group id, version, owner and members are in it.
    pub manifest: SignedManifest,
    /// Its hash.
    pub manifest_hash: ManifestHash,
    /// Its sealed part.
    pub sealed: SealedBytes,
    /// Whether it was uploaded here.
    pub origin: bool,
    /// The states held, derived ones included.
    pub held: StatesMask,
    /// The row that the others come from.
    pub root: ContentId,
    /// Whether it is in the network.
    pub published: bool,
    /// How far its replication came.
    pub status: ReplicationStatus,
    /// Why only a human can help, if so.
    pub failure: Option<String>,
    /// When success of its replication is reported.
    pub mode: Mode,
    /// Copies wanted.
    pub replicas_wanted: u8,
    /// Unexpired receipts, this node's included.
    pub replica_count: u32,
    /// The certificate here, if any.
    pub certificate: Option<CertificateHash>,
    /// Whether that certificate accepts.
    pub consensus_achieved: bool,
    /// When receipts were last exchanged.
    pub synced_at: Option<Timestamp>,
    /// Its placement slot.
    pub placement_slot: u16,
    /// Its place in lists.
    pub cursor: Cursor,
}

impl Group {
    /// Whether a certificate here rejects it.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        self.certificate.is_some() && !self.consensus_achieved
    }
}

/// By what a group was found: who may be told about it depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundBy {
    /// Its id, the id of a row, or a hash that everybody may know.
    Public,
    /// The hash of its plaintext, which only readers know.
    Plaintext,
}

/// A row of `stored_content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredContent {
    /// The row's id, the same on every node.
    pub id: ContentId,
    /// SHA-256 of the state.
    pub hash: ContentHash,
    /// Which state.
    pub state: ContentState,
    /// Audio, video, image or document, if this node knows.
    pub content_type: Option<ContentType>,
    /// Size of the state.
    pub file_size: u64,
    /// The uploader's tags, or `preview`.
    pub tags: Vec<String>,
    /// Name of the uploaded file, if this node knows.
    pub filename: Option<String>,
    /// The row of the content key.
    pub encryption_key_id: Option<Uuid>,
    /// From the encrypted to the decrypted state.
    pub decrypted_content_id: Option<ContentId>,
    /// From the decrypted to the encrypted state.
    pub original_encrypted_id: Option<ContentId>,
    /// From a preview to the state that it shows.
    pub parent_content_id: Option<ContentId>,
    /// When the owner made the group.
    pub created_at: Timestamp,
    /// When the row last changed.
    pub updated_at: Timestamp,
    /// See the specification.
    pub replicated_on_peers: Vec<NodeId>,
    /// See the specification.
    pub network_metadata: Json,
}

/// A row of `content_relationships`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Relationship {
    /// The row the child came from.
    pub parent: ContentId,
    /// The row that came from it.
    pub child: ContentId,
    /// How.
    pub kind: RelationshipKind,
}

/// A group with the rows of the states held here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupView {
    /// The group.
    pub group: Group,
    /// Its rows, in the order of the manifest.
    pub states: Vec<StoredContent>,
    /// Its links, sorted.
    pub relationships: Vec<Relationship>,
}

/// A place in the list of groups, newest first. Prints as text for addresses; survives inserts and deletes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The earlier of the owner's and this node's clock when the group came.
    pub ordered_at: Timestamp,
    /// Decides between groups of one millisecond.
    pub group_id: GroupId,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{}", self.ordered_at.0, self.group_id)
    }
}

impl FromStr for Cursor {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let parse = || {
            let (at, group) = text.split_once('-')?;
            Some(Self { ordered_at: Timestamp(u64::from_str_radix(at, 16).ok()?), group_id: group.parse().ok()? })
        };
        parse().ok_or_else(|| UnknownWord {
            what: "cursor",
            word: text.to_owned(),
            expected: "the next_cursor of an earlier page",
        })
    }
}

/// Which groups to list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Only those uploaded here.
    pub origin_only: bool,
    /// After this place; from the newest if `None`.
    pub after: Option<Cursor>,
    /// Items wanted, at most [`PAGE_MAX`].
    pub limit: u64,
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` at the end.
    pub next: Option<Cursor>,
}

/// Numbers for status pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Visible groups.
    pub groups: u64,
    /// Rows of states held.
    pub states: u64,
    /// Bytes of blobs on disk.
    pub bytes: u64,
    /// Visible groups by status.
    pub by_status: BTreeMap<ReplicationStatus, u64>,
    /// Published groups with fewer copies than asked about.
    pub at_risk: u64,
}

impl Meta {
    /// Finds a group by its id, the id of one of its rows, or the hash of one of its states; also by a plaintext hash that
    /// this node knows. If several groups share a hash: one uploaded here first, then the oldest.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn group(&self, key: &GroupKey) -> Result<Option<(Group, FoundBy)>, MetaError> {
        let (known, secret) = self.groups_of(key).await?;
        let model = self.first_of(known.iter().chain(&secret).cloned()).await?;
        let Some(model) = model else { return Ok(None) };
        let found_by = if secret.contains(&model.group_id) { FoundBy::Plaintext } else { FoundBy::Public };
        Ok(Some((group(&model)?, found_by)))
    }

    /// The same among groups of which everybody may know that they go by this key.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn known_group(&self, key: &GroupKey) -> Result<Option<Group>, MetaError> {
        let (known, _) = self.groups_of(key).await?;
        self.first_of(known).await?.as_ref().map(group).transpose()
    }

    /// The visible one of these groups that was uploaded here, or is the oldest.
    async fn first_of(&self, group_ids: impl IntoIterator<Item = Vec<u8>>) -> Result<Option<groups::Model>, MetaError> {
        let found = groups::Entity::find()
            .filter(groups::Column::GroupId.is_in(group_ids))
            .filter(groups::Column::Visible.eq(true))
            .order_by_desc(groups::Column::Origin)
            .order_by_asc(groups::Column::OrderedAt)
            .order_by_asc(groups::Column::GroupId)
            .one(&self.read)
            .await?;
        Ok(found)
    }

    /// Groups that go by a key: those of which everybody may know it, and those where only a reader knows it.
    async fn groups_of(&self, key: &GroupKey) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>), MetaError> {
        Ok(match key {
            GroupKey::Group(id) => (vec![id.0.to_vec()], Vec::new()),
            GroupKey::Content(id) => {
                let row = states::Entity::find_by_id(id.as_uuid()).one(&self.read).await?;
                (row.into_iter().map(|row| row.group_id).collect(), Vec::new())
            }
            GroupKey::Hash(hash) => self.groups_of_hash(hash).await?,
        })
    }

    /// Groups with a state of which everybody may know that it has this hash, and those where only a reader knows that.
    async fn groups_of_hash(&self, hash: &ContentHash) -> Result<(Vec<Vec<u8>>, Vec<Vec<u8>>), MetaError> {
        let either = Condition::any()
            .add(states::Column::PublicHash.eq(hash.0.to_vec()))
            .add(states::Column::PlainHash.eq(hash.0.to_vec()));
        let rows = states::Entity::find().filter(either).limit(PAGE_MAX).all(&self.read).await?;
        let is_public = |row: &&states::Model| row.public_hash.as_deref() == Some(&hash.0[..]);
        let public: Vec<Vec<u8>> = rows.iter().filter(is_public).map(|row| row.group_id.clone()).collect();
        let secret = rows.iter().map(|row| row.group_id.clone()).filter(|group| !public.contains(group)).collect();
        Ok((public, secret))
    }

    /// A page of groups, newest first.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn groups(&self, query: ListQuery) -> Result<Page<Group>, MetaError> {
        let wanted =
            if query.origin_only { Condition::all().add(groups::Column::Origin.eq(true)) } else { Condition::all() };
        self.page(wanted, query.after, query.limit).await
    }

    /// A page of groups uploaded elsewhere that have no certificate of durability here or fewer copies than wanted, newest first:
    /// what others may know more of.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn incomplete_groups(&self, after: Option<Cursor>, limit: u64) -> Result<Page<Group>, MetaError> {
        let copies = Expr::col(groups::Column::ReplicaCount).lt(Expr::col(groups::Column::Replicas));
        let durable = Query::select()
            .column(certificates::Column::ManifestHash)
            .from(certificates::Entity)
            .and_where(certificates::Column::Claim.gte(claim_column(Claim::Durable)))
            .take();
        let lacking = Condition::any().add(groups::Column::ManifestHash.not_in_subquery(durable)).add(copies);
        self.page(Condition::all().add(groups::Column::Origin.eq(false)).add(lacking), after, limit).await
    }

    async fn page(&self, wanted: Condition, after: Option<Cursor>, limit: u64) -> Result<Page<Group>, MetaError> {
        let limit = limit.clamp(1, PAGE_MAX);
        let mut select = groups::Entity::find()
            .filter(groups::Column::Visible.eq(true))
            .filter(wanted)
            .order_by_desc(groups::Column::OrderedAt)
            .order_by_desc(groups::Column::GroupId)
            // One more tells whether there is a next page.
            .limit(limit + 1);
        if let Some(after) = after {
            let (at, id) = (millis(after.ordered_at), after.group_id.0.to_vec());
            let same_time = groups::Column::OrderedAt.eq(at).and(groups::Column::GroupId.lt(id));
            select = select.filter(groups::Column::OrderedAt.lt(at).or(same_time));
        }
        let mut items: Vec<Group> = select.all(&self.read).await?.iter().map(group).collect::<Result<_, _>>()?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(|group| group.cursor);
        Ok(Page { items, next })
    }

    /// The specification's rows of `groups`, in the same order.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn with_rows(&self, groups: Vec<Group>) -> Result<Vec<GroupView>, MetaError> {
        let members = groups.iter().flat_map(|group| group.manifest.body.members.iter());
        let ids: Vec<Uuid> = members.map(|member| member.content_id.as_uuid()).collect();
        let rows = stored_content::Entity::find().filter(stored_content::Column::Id.is_in(ids.clone()));
        let mut rows: BTreeMap<Uuid, stored_content::Model> =
            rows.all(&self.read).await?.into_iter().map(|row| (row.id, row)).collect();
        let links = content_relationships::Entity::find()
            .filter(content_relationships::Column::ParentContentId.is_in(ids))
            .all(&self.read)
            .await?;
        let mut by_parent: BTreeMap<Uuid, Vec<Relationship>> = BTreeMap::new();
        for link in &links {
            by_parent.entry(link.parent_content_id).or_default().push(relationship(link)?);
        }
        let view = |group: Group| {
            let mut view = GroupView { states: Vec::new(), relationships: Vec::new(), group };
            for member in &view.group.manifest.body.members {
                let id = member.content_id.as_uuid();
                view.relationships.extend(by_parent.remove(&id).unwrap_or_default());
                if let Some(row) = rows.remove(&id) {
                    view.states.push(stored_content(&row, member.state)?);
                }
            }
            view.relationships.sort();
            Ok(view)
        };
        groups.into_iter().map(view).collect()
    }

    /// Receipts known for the version of a group here, by holder; expired ones included until they are swept.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn receipts_of_group(&self, group_id: GroupId) -> Result<Vec<SignedReceipt>, MetaError> {
        let manifests: Vec<Vec<u8>> = groups::Entity::find()
            .select_only()
            .column(groups::Column::ManifestHash)
            .filter(groups::Column::GroupId.eq(group_id.0.to_vec()))
            .into_tuple()
            .all(&self.read)
            .await?;
        let rows = receipts::Entity::find()
            .filter(receipts::Column::ManifestHash.is_in(manifests))
            .order_by_asc(receipts::Column::Holder)
            .all(&self.read)
            .await?;
        let decoded = rows.iter().map(|row| unpack_record(&row.receipt, SMALL_RECORD_MAX)).collect::<Result<_, _>>();
        decoded.map_err(|damage: Damage| damage.within("mynet_receipts"))
    }

    /// Wraps of a group: all, or those of one reader.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn wraps(&self, group_id: GroupId, recipient: Option<&NodeId>) -> Result<Vec<SignedWrap>, MetaError> {
        let mut query = wraps::Entity::find()
            .filter(wraps::Column::GroupId.eq(group_id.0.to_vec()))
            .order_by_asc(wraps::Column::Recipient);
        if let Some(recipient) = recipient {
            query = query.filter(wraps::Column::Recipient.eq(recipient.0.to_vec()));
        }
        let rows = query.all(&self.read).await?;
        let decoded = rows.iter().map(|row| unpack_record(&row.wrap, SMALL_RECORD_MAX)).collect::<Result<_, _>>();
        decoded.map_err(|damage: Damage| damage.within("mynet_wraps"))
    }

    /// The certificate file of a manifest, byte for byte as [`mynet_types::CertificateFile::encode`] made it.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn certificate(&self, manifest_hash: &ManifestHash) -> Result<Option<Vec<u8>>, MetaError> {
        let row = certificates::Entity::find_by_id(manifest_hash.0.to_vec()).one(&self.read).await?;
        let file = row.map(|row| unpack(&row.certificate).map(<[u8]>::to_vec)).transpose();
        file.map_err(|damage| damage.within("mynet_certificates"))
    }

    /// The wrapped content key of a group that this node may read, and its row's id.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn wrapped_key(&self, group_id: GroupId) -> Result<Option<(Uuid, Vec<u8>)>, MetaError> {
        let row = encryption_keys::Entity::find()
            .filter(encryption_keys::Column::GroupId.eq(group_id.0.to_vec()))
            .order_by_desc(encryption_keys::Column::Version)
            .one(&self.read)
            .await?;
        let key = row.map(|row| Ok((row.id, unpack(&row.wrapped_key)?.to_vec()))).transpose();
        key.map_err(|damage: Damage| damage.within("encryption_keys"))
    }

    /// Roots of the groups that a user uploaded here.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn contents_of_user(&self, user: &str) -> Result<Vec<ContentId>, MetaError> {
        let rows = user_content::Entity::find()
            .filter(user_content::Column::UserId.eq(user))
            .order_by_asc(user_content::Column::ContentId)
            .all(&self.read)
            .await?;
        Ok(rows.into_iter().map(|row| row.content_id.into()).collect())
    }

    /// Bytes of blobs on disk. Reads one index; asked for every upload and every prepare.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn blob_bytes(&self) -> Result<u64, MetaError> {
        let bytes: Option<Option<i64>> = blobs::Entity::find()
            .select_only()
            .column_as(Expr::col(blobs::Column::Size).sum().cast_as("bigint"), "bytes")
            .into_tuple()
            .one(&self.read)
            .await?;
        from_column(bytes.flatten().unwrap_or(0)).map_err(|damage| damage.within("mynet_blobs"))
    }

    /// Numbers for status pages; `min_replicas` is what counts as at risk below it.
    ///
    /// # Errors
    /// [`MetaError`].
    pub async fn counts(&self, min_replicas: u8) -> Result<Counts, MetaError> {
        let by_status: Vec<(String, i64)> = groups::Entity::find()
            .select_only()
            .column(groups::Column::Status)
            .column_as(groups::Column::GroupId.count(), "n")
            .filter(groups::Column::Visible.eq(true))
            .group_by(groups::Column::Status)
            .into_tuple()
            .all(&self.read)
            .await?;
        let mut counts = Counts::default();
        for (word, n) in by_status {
            let status = word.parse().map_err(|_unknown| Damage::Word(word).within("mynet_groups"))?;
            let n = from_column(n).map_err(|damage| damage.within("mynet_groups"))?;
            counts.groups += n;
            counts.by_status.insert(status, n);
        }
        let at_risk = groups::Entity::find()
            .filter(groups::Column::Visible.eq(true))
            .filter(groups::Column::Published.eq(true))
            .filter(groups::Column::ReplicaCount.lt(i32::from(min_replicas)));
        counts.at_risk = at_risk.count(&self.read).await?;
        counts.states = stored_content::Entity::find().count(&self.read).await?;
        counts.bytes = self.blob_bytes().await?;
        Ok(counts)
    }
}

/// A row as a group.
fn group(model: &groups::Model) -> Result<Group, MetaError> {
    let manifest = signed_manifest_of(model)?;
    let checked = move || {
        let group_id = manifest.body.group_id;
        Ok(Group {
            manifest_hash: ManifestHash(fixed(&model.manifest_hash)?),
            sealed: SealedBytes::truncated(unpack(&model.sealed)?.iter().copied()),
            origin: model.origin,
            held: mask(model.held.into())?,
            root: model.root_content_id.into(),
            published: model.published,
            status: model.status.parse().map_err(|_unknown| Damage::Word(model.status.clone()))?,
            failure: model.failure.clone(),
            mode: Mode::parse(&model.mode)?,
            replicas_wanted: from_column(model.replicas.into())?,
            replica_count: from_column(model.replica_count.into())?,
            certificate: model.certificate_hash.as_deref().map(fixed).transpose()?.map(CertificateHash),
            consensus_achieved: model.certified,
            synced_at: model.synced_at.map(time).transpose()?,
            placement_slot: from_column(model.placement_slot.into())?,
            cursor: Cursor { ordered_at: time(model.ordered_at)?, group_id },
            manifest,
        })
    };
    checked().map_err(|damage: Damage| damage.within("mynet_groups"))
}

/// A row as the specification's content.
fn stored_content(row: &stored_content::Model, state: ContentState) -> Result<StoredContent, MetaError> {
    let texts = |json: &Json| -> Vec<String> {
        json.as_array().into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect()
    };
    let word = |word: &str| Damage::Word(word.to_owned());
    let checked = || {
        let content_type = row.content_type.as_deref();
        let peers = texts(&row.replicated_on_peers);
        Ok(StoredContent {
            id: row.id.into(),
            hash: row.hash.parse().map_err(|_not_a_hash| word(&row.hash))?,
            state,
            content_type: content_type.map(|text| text.parse().map_err(|_unknown| word(text))).transpose()?,
            file_size: from_column(row.file_size)?,
            tags: texts(&row.tags),
            filename: row.filename.clone(),
            encryption_key_id: row.encryption_key_id,
            decrypted_content_id: row.decrypted_content_id.map(Into::into),
            original_encrypted_id: row.original_encrypted_id.map(Into::into),
            parent_content_id: row.parent_content_id.map(Into::into),
            created_at: from_calendar(row.created_at),
            updated_at: from_calendar(row.updated_at),
            replicated_on_peers: peers
                .iter()
                .map(|peer| peer.parse().map_err(|_not_a_node| word(peer)))
                .collect::<Result<_, Damage>>()?,
            network_metadata: row.network_metadata.clone(),
        })
    };
    checked().map_err(|damage: Damage| damage.within("stored_content"))
}

fn relationship(row: &content_relationships::Model) -> Result<Relationship, MetaError> {
    // A link's type is the state of its child.
    let kind = match parse_state(&row.relationship_type).map_err(|damage| damage.within("content_relationships"))? {
        ContentState::Encrypted => RelationshipKind::Encrypted,
        ContentState::Decrypted => RelationshipKind::Decrypted,
        ContentState::Preview => RelationshipKind::Preview,
    };
    Ok(Relationship { parent: row.parent_content_id.into(), child: row.child_content_id.into(), kind })
}
