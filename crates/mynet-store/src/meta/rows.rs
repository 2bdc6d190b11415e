//! From a manifest to the specification's rows. Pure.
//!
//! Only states that are held become rows. A node that may not read a group has no row of its decrypted state, no file name
//! and no tags, because it does not know them.

use mynet_types::{
    ContentState, DecryptedClass, Details, Manifest, Member, StatesMask, Timestamp,
    manifest::{Aead, Protection},
};
use sea_orm::prelude::{Json, Uuid};

use super::{
    MetaError,
    column::{calendar, to_column},
    model::{Granted, ReplicationStatus},
    schema::content::{content_relationships, stored_content},
};

/// What is known about a group beside its manifest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// States held.
    pub(super) held: StatesMask,
    /// What only readers know.
    pub(super) granted: Option<&'a Granted>,
    /// The row of the content key.
    pub(super) key_id: Option<Uuid>,
    /// Now.
    pub(super) now: Timestamp,
}

/// The member that the others come from: the encrypted state, or the plain one of public content.
pub(super) fn root(manifest: &Manifest) -> Option<&Member> {
    manifest.member(ContentState::Encrypted).or_else(|| manifest.member(ContentState::Decrypted))
}

/// The word for a cipher in `encryption_keys.algorithm`; `None` for public content.
pub(super) fn algorithm(manifest: &Manifest) -> Option<&'static str> {
    match &manifest.protection {
        Protection::Sealed { algorithm: Aead::ChaCha20Poly1305, .. } => Some("chacha20-poly1305"),
        Protection::Sealed { algorithm: Aead::Aes256Gcm, .. } => Some("aes-256-gcm"),
        Protection::Open { .. } => None,
    }
}

/// The `stored_content` rows of the states held; the extension columns start at their defaults.
pub(super) fn content_rows(manifest: &Manifest, known: Known<'_>) -> Result<Vec<stored_content::Model>, MetaError> {
    let mut rows = Vec::new();
    for member in manifest.members.iter().filter(|member| known.held.contains(member.state)) {
        let plain = known.granted.filter(|_| member.state == ContentState::Decrypted).map(|granted| granted.plain);
        // A state that is held has bytes, or is a view of which the reader knows the hash.
        if let Some(blob) = member.blob.or(plain) {
            let size = to_column("file size", blob.size)?;
            rows.push(content_row(manifest, member, known, (blob.sha256.to_string(), size)));
        }
    }
    Ok(rows)
}

/// One row.
fn content_row(
    manifest: &Manifest,
    member: &Member,
    known: Known<'_>,
    (hash, file_size): (String, i64),
) -> stored_content::Model {
    let held_id = |state: ContentState| {
        let member = manifest.member(state).filter(|_| known.held.contains(state));
        member.map(|member| member.content_id.as_uuid())
    };
    let details = details(manifest, known.granted);
    let is_preview = member.state == ContentState::Preview;
    stored_content::Model {
        id: member.content_id.as_uuid(),
        hash,
        encrypted: member.state == ContentState::Encrypted,
        encryption_key_id: known.key_id.filter(|_| member.state == ContentState::Encrypted),
        content_type: details.map(|details| details.content_type.as_str().to_owned()),
        file_size,
        tags: if is_preview { Json::from(vec!["preview"]) } else { tags(details) },
        filename: details.filter(|_| !is_preview).map(|details| details.filename.to_string()),
        decrypted_content_id: held_id(ContentState::Decrypted).filter(|_| member.state == ContentState::Encrypted),
        original_encrypted_id: held_id(ContentState::Encrypted).filter(|_| member.state == ContentState::Decrypted),
        parent_content_id: root(manifest).filter(|_| is_preview).map(|root| root.content_id.as_uuid()),
        created_at: calendar(manifest.created_at),
        updated_at: calendar(known.now),
        my_network_enabled: false,
        replica_count: 0,
        replication_status: ReplicationStatus::None.as_str().to_owned(),
        consensus_achieved: false,
        replicated_on_peers: Json::Array(Vec::new()),
        last_sync_timestamp: None,
        network_metadata: Json::Object(std::iter::empty().collect()),
    }
}

/// What users call the content, if this node knows.
fn details<'a>(manifest: &'a Manifest, granted: Option<&'a Granted>) -> Option<&'a Details> {
    match &manifest.protection {
        Protection::Open { details } => Some(details),
        Protection::Sealed { .. } => granted.map(|granted| &granted.details),
    }
}

fn tags(details: Option<&Details>) -> Json {
    let tags = details.map(|details| details.tags.iter().map(|tag| Json::from(tag.as_str())).collect());
    Json::Array(tags.unwrap_or_default())
}

/// The links between `rows`; a link to a row that is not here would point at nothing.
pub(super) fn link_rows(manifest: &Manifest, rows: &[stored_content::Model]) -> Vec<content_relationships::Model> {
    let here = |id: Uuid| rows.iter().any(|row| row.id == id);
    let links = manifest.links.iter().filter(|link| here(link.parent.as_uuid()) && here(link.child.as_uuid()));
    links
        .map(|link| content_relationships::Model {
            id: Uuid::new_v4(),
            parent_content_id: link.parent.as_uuid(),
            child_content_id: link.child.as_uuid(),
            relationship_type: link.kind.as_str().to_owned(),
            created_at: calendar(manifest.created_at),
        })
        .collect()
}

/// Whether the decrypted state is a view whose hash must stay here.
pub(super) fn is_secret_view(manifest: &Manifest, member: &Member) -> bool {
    member.state == ContentState::Decrypted && manifest.class != DecryptedClass::Public
}
