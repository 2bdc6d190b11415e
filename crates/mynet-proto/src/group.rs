//! What makes states one group: the rules of links, discovery over rows, and the checks of a manifest.
//!
//! Counterpart of the specification's State Discovery Algorithm ([`discover`]) and `verify_state_relationships`
//! ([`verify_manifest`]). Both judge links by the same rules, so whatever is discovered can be published, and whatever is
//! published would be discovered. Replication refuses what breaks them, consensus rejects it. Everything here is a pure
//! function of its arguments, so all honest nodes come to the same verdict.
//!
//! 1. A group has exactly one root: the encrypted state, or the plain state of public content.
//! 2. Every other member descends from the root, and no member from itself.
//! 3. The kind of a link names the state of its child.
//! 4. A group has each state at most once, every member its own content id, and one owner.
//! 5. A search is bounded: [`DEPTH_MAX`] links far, [`MEMBERS_MAX`] rows wide, each row once.
//!
//! **Deliberately absent:** several contents in one group (bundles), and checks of bytes: what a state hashes to is the
//! business of whoever holds it.
//!
//! Source: the specification, "State Discovery Algorithm". It follows children only, so that a search from a child loses
//! the siblings; here links are followed in both directions and everything is bounded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use mynet_types::{
    ContentId, ContentState, DecryptedClass, Link, Manifest, Member, OwnerKey, Protection, RejectReason, codec,
    content::BLOB_BYTES_MAX,
    manifest::{MANIFEST_BYTES_MAX, MANIFEST_FORMAT, MEMBERS_MAX},
};

/// How many links a search over rows goes at most. A right group is no more than two wide from any of its members; four
/// lets the search see enough of a wrong one to say what is wrong, and doubling it lets hostile rows make it long.
pub const DEPTH_MAX: usize = 4;

/// Why links do not make one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinksError {
    /// A link names a content id that is not in the group.
    #[error("a link names {0}, which is not in the group")]
    UnknownEnd(ContentId),
    /// The kind of a link is not the state of its child.
    #[error("the link to {child} is of another kind than the state of its child")]
    WrongKind {
        /// The child.
        child: ContentId,
    },
    /// A link is given twice.
    #[error("the link from {parent} to {child} is given twice")]
    Repeated {
        /// Its parent.
        parent: ContentId,
        /// Its child.
        child: ContentId,
    },
    /// No member is without a parent: the links go in a circle, or there are no members.
    #[error("no member is without a parent")]
    NoRoot,
    /// Two members are without a parent.
    #[error("both {first} and {second} are without a parent, a group has one root")]
    SecondRoot {
        /// One.
        first: ContentId,
        /// The other.
        second: ContentId,
    },
    /// The root is neither an encrypted state nor a plain one.
    #[error("{0} is the root, but neither encrypted nor plain")]
    RootState(ContentId),
    /// A member descends from itself.
    #[error("{0} descends from itself")]
    Cycle(ContentId),
    /// Two members are in the same state.
    #[error("two members are {0}")]
    RepeatedState(ContentState),
}

/// Checks that `links` make one group of `members`, and finds its root.
///
/// # Errors
/// The first rule broken, in the order of content ids.
pub fn walk(members: &BTreeMap<ContentId, ContentState>, links: &[Link]) -> Result<ContentId, LinksError> {
    let mut states = BTreeSet::new();
    if let Some(state) = members.values().find(|state| !states.insert(**state)) {
        return Err(LinksError::RepeatedState(*state));
    }
    let mut seen = BTreeSet::new();
    let mut parents: BTreeMap<ContentId, usize> = members.keys().map(|id| (*id, 0)).collect();
    for link in links {
        let child = members.get(&link.child).ok_or(LinksError::UnknownEnd(link.child))?;
        members.get(&link.parent).ok_or(LinksError::UnknownEnd(link.parent))?;
        if link.kind.child_state() != *child {
            return Err(LinksError::WrongKind { child: link.child });
        }
        if !seen.insert(*link) {
            return Err(LinksError::Repeated { parent: link.parent, child: link.child });
        }
        *parents.entry(link.child).or_default() += 1;
    }
    let mut roots = parents.iter().filter(|(_, parents)| **parents == 0).map(|(id, _)| *id);
    let root = roots.next().ok_or(LinksError::NoRoot)?;
    if let Some(second) = roots.next().filter(|_| !mynet_types::planted!(SecondRoot)) {
        return Err(LinksError::SecondRoot { first: root, second });
    }
    if members.get(&root) == Some(&ContentState::Preview) {
        return Err(LinksError::RootState(root));
    }
    descend(root, parents, &seen)?;
    Ok(root)
}

/// Takes members away whose parents are all gone, beginning with the root, until none is left; whatever stays is on a
/// cycle. Source: Kahn, "Topological sorting of large networks" (1962).
fn descend(root: ContentId, mut parents: BTreeMap<ContentId, usize>, links: &BTreeSet<Link>) -> Result<(), LinksError> {
    let mut queue = VecDeque::from([root]);
    while let Some(id) = queue.pop_front() {
        parents.remove(&id);
        for link in links.iter().filter(|link| link.parent == id) {
            if let Some(left) = parents.get_mut(&link.child) {
                *left -= 1;
                if *left == 0 {
                    queue.push_back(link.child);
                }
            }
        }
    }
    let left = parents.keys().next().filter(|_| !mynet_types::planted!(SecondRoot));
    left.map_or(Ok(()), |id| Err(LinksError::Cycle(*id)))
}

/// What discovery needs of one row of `stored_content`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Whose content it is.
    pub owner: OwnerKey,
    /// Which state it is.
    pub state: ContentState,
}

/// A group found in rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discovered {
    /// The member without a parent.
    pub root: ContentId,
    /// Whose group it is.
    pub owner: OwnerKey,
    /// All members, encrypted first, then decrypted, then preview.
    pub members: Vec<(ContentId, ContentState)>,
    /// All links between them, sorted.
    pub links: Vec<Link>,
}

/// Why rows do not make a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// A relationship points at a row that does not exist, or the search began there.
    #[error("row {0} does not exist")]
    MissingRow(ContentId),
    /// A row belongs to somebody else.
    #[error("row {0} belongs to another owner")]
    OtherOwner(ContentId),
    /// More members than a group may have.
    #[error("more than {MEMBERS_MAX} rows are linked")]
    TooMany,
    /// The search went farther than a group reaches.
    #[error("row {0} is more than {DEPTH_MAX} links away from where the search began")]
    TooFar(ContentId),
    /// The links break a rule.
    #[error(transparent)]
    Links(#[from] LinksError),
}

/// Finds the group that `start` belongs to, whichever member that is.
///
/// Searches breadth first over `relationships` in both directions, at most [`DEPTH_MAX`] links far and over at most
/// [`MEMBERS_MAX`] rows, each visited once; relationships that do not touch the group are ignored. The answer does not
/// depend on the order of `relationships`.
///
/// # Errors
/// The first defect met; see [`DiscoverError`].
pub fn discover(
    start: ContentId,
    rows: &BTreeMap<ContentId, Row>,
    relationships: &[Link],
) -> Result<Discovered, DiscoverError> {
    let owner = rows.get(&start).ok_or(DiscoverError::MissingRow(start))?.owner;
    let mut neighbours: BTreeMap<ContentId, BTreeSet<ContentId>> = BTreeMap::new();
    for link in relationships {
        neighbours.entry(link.parent).or_default().insert(link.child);
        neighbours.entry(link.child).or_default().insert(link.parent);
    }
    let mut members = BTreeMap::new();
    let mut queue = VecDeque::from([(start, 0)]);
    let mut queued = BTreeSet::from([start]);
    while let Some((id, depth)) = queue.pop_front() {
        let row = rows.get(&id).ok_or(DiscoverError::MissingRow(id))?;
        if row.owner != owner {
            return Err(DiscoverError::OtherOwner(id));
        }
        if depth > DEPTH_MAX {
            return Err(DiscoverError::TooFar(id));
        }
        members.insert(id, row.state);
        for next in neighbours.get(&id).into_iter().flatten() {
            if queued.insert(*next) {
                queue.push_back((*next, depth + 1));
            }
        }
        if queued.len() > MEMBERS_MAX {
            return Err(DiscoverError::TooMany);
        }
    }
    let links: BTreeSet<Link> =
        relationships.iter().filter(|link| members.contains_key(&link.parent)).copied().collect();
    let links: Vec<Link> = links.into_iter().collect();
    let root = walk(&members, &links)?;
    let mut members: Vec<_> = members.into_iter().collect();
    members.sort_by_key(|(id, state)| (*state, *id));
    Ok(Discovered { root, owner, members, links })
}

/// Why a manifest does not describe a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupError {
    /// Made by a newer program; it may be right.
    #[error("manifest format {0} is not known here")]
    Format(u16),
    /// Larger than what may be sent.
    #[error("the manifest is larger than {MANIFEST_BYTES_MAX} bytes")]
    TooLarge,
    /// Version 0, a first version that replaces another, or a later one that replaces none.
    #[error("version {version} and the manifest that it replaces do not fit together")]
    Version {
        /// The version.
        version: u64,
    },
    /// Its content key is of version 0 or of a later version.
    #[error("version {version} cannot have the content key of version {key_version}")]
    KeyVersion {
        /// The version.
        version: u64,
        /// The version that the key is said to be of.
        key_version: u64,
    },
    /// The group id of a first version is not derived from it.
    #[error("the group id is not the one that derives from the manifest")]
    GroupId,
    /// Not 1 <= W <= R.
    #[error("quorum {quorum} and replicas {replicas} do not fit: 1 <= quorum <= replicas is needed")]
    Replicas {
        /// W.
        quorum: u8,
        /// R.
        replicas: u8,
    },
    /// Two members have one content id.
    #[error("content id {0} is given twice")]
    RepeatedMember(ContentId),
    /// A stored state comes without its bytes' names, or a view with them.
    #[error("the {0} state must name its bytes exactly if they are stored")]
    Blob(ContentState),
    /// A state is larger than any content can be.
    #[error("the {0} state is larger than {BLOB_BYTES_MAX} bytes, which no content can be")]
    Size(ContentState),
    /// Class, protection and root contradict each other.
    #[error("class, protection and root contradict each other")]
    Class,
    /// The links break a rule.
    #[error(transparent)]
    Links(#[from] LinksError),
}

impl GroupError {
    /// What a validator that found this says. `None`: nothing, because a newer program may know better, and a rejection
    /// is for ever.
    #[must_use]
    pub fn reject_reason(&self) -> Option<RejectReason> {
        match self {
            Self::Format(_) => None,
            Self::Links(_) => Some(RejectReason::LinksInvalid),
            Self::TooLarge
            | Self::Version { .. }
            | Self::KeyVersion { .. }
            | Self::GroupId
            | Self::Replicas { .. }
            | Self::RepeatedMember(_)
            | Self::Blob(_)
            | Self::Size(_)
            | Self::Class => Some(RejectReason::ManifestInvalid),
        }
    }
}

/// Checks everything about a manifest that follows from itself alone: form, numbers, members, links, class. The owner's
/// signature and the bytes are for others to check.
///
/// # Errors
/// The first rule broken; see [`GroupError`].
pub fn verify_manifest(manifest: &Manifest) -> Result<(), GroupError> {
    if manifest.format != MANIFEST_FORMAT {
        return Err(GroupError::Format(manifest.format));
    }
    if codec::encode(manifest).len() + SIGNATURE_BYTES > MANIFEST_BYTES_MAX {
        return Err(GroupError::TooLarge);
    }
    let version = manifest.version;
    if version == 0 || (version > 1) != manifest.prev.is_some() {
        return Err(GroupError::Version { version });
    }
    let key_version = manifest.key_version();
    if key_version == 0 || key_version > version {
        return Err(GroupError::KeyVersion { version, key_version });
    }
    if version == 1 && manifest.group_id != manifest.derive_group_id() {
        return Err(GroupError::GroupId);
    }
    if manifest.quorum == 0 || manifest.quorum > manifest.replicas {
        return Err(GroupError::Replicas { quorum: manifest.quorum, replicas: manifest.replicas });
    }
    verify_members(manifest)
}

/// Why one manifest may not take the place of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SuccessionError {
    /// It is no next version of this manifest: another group or owner, another number, or it names another predecessor.
    #[error("it is not the next version of this manifest")]
    Lineage,
    /// It would be placed on other nodes.
    #[error("its placement differs: a group stays where it is")]
    Placement,
    /// Private content would become public, granted content ungranted, or the reverse.
    #[error("its class differs: content of another class is a new group")]
    Class,
    /// A content id names other bytes than before; rows do not change, they go and come.
    #[error("content id {0} names something else than before")]
    Member(ContentId),
    /// It keeps the content key and has other ciphertext or another sealed part, or gives an old number to a new key.
    #[error("what its content key protects differs, and the key has no version of its own")]
    Key,
}

/// Checks that `next` may take the place of `before`: a version may change which members without a key there are, links and
/// copies, or all of what a key protects, under a fresh key.
///
/// **Why the key:** a content key encrypts one content and one sealed part; a second of either under the same key and
/// version would repeat a nonce.
///
/// # Errors
/// The first rule broken.
pub fn verify_succession(before: &Manifest, next: &Manifest) -> Result<(), SuccessionError> {
    let lineage = next.group_id == before.group_id
        && next.owner == before.owner
        && before.version.checked_add(1) == Some(next.version)
        && next.prev == Some(before.hash());
    if !lineage {
        return Err(SuccessionError::Lineage);
    }
    if next.placement_seed != before.placement_seed {
        return Err(SuccessionError::Placement);
    }
    if next.class != before.class {
        return Err(SuccessionError::Class);
    }
    let same_id = |member: &Member| before.members.iter().find(|other| other.content_id == member.content_id);
    let changed = next.members.iter().find(|member| same_id(member).is_some_and(|other| other != *member));
    if let Some(member) = changed {
        return Err(SuccessionError::Member(member.content_id));
    }
    let encrypted = |manifest: &Manifest| manifest.member(ContentState::Encrypted).cloned();
    let fresh = next.key_version() == next.version;
    let kept = next.protection == before.protection && encrypted(next) == encrypted(before);
    if fresh || kept { Ok(()) } else { Err(SuccessionError::Key) }
}

/// Databases keep sizes, and the sum of a group's, in signed 64-bit columns.
const _: () = assert!(BLOB_BYTES_MAX <= i64::MAX as u64 / MEMBERS_MAX as u64, "sizes of a group must add up");

/// An Ed25519 signature, which travels with the manifest and counts toward its size.
const SIGNATURE_BYTES: usize = 64;

/// Checks members, links, and that class and protection fit them.
fn verify_members(manifest: &Manifest) -> Result<(), GroupError> {
    let mut members = BTreeMap::new();
    for member in &manifest.members {
        if members.insert(member.content_id, member.state).is_some() {
            return Err(GroupError::RepeatedMember(member.content_id));
        }
        let stored = member.state != ContentState::Decrypted || manifest.class == DecryptedClass::Public;
        if member.blob.is_some() != stored {
            return Err(GroupError::Blob(member.state));
        }
        if member.blob.is_some_and(|blob| blob.size > BLOB_BYTES_MAX) {
            return Err(GroupError::Size(member.state));
        }
    }
    let root = walk(&members, &manifest.links)?;
    let fits = match (&manifest.protection, manifest.class, members.get(&root)) {
        (Protection::Open { .. }, DecryptedClass::Public, Some(ContentState::Decrypted)) => {
            manifest.member(ContentState::Encrypted).is_none()
        }
        (Protection::Sealed { .. }, DecryptedClass::None | DecryptedClass::Granted, Some(ContentState::Encrypted)) => {
            true
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(GroupError::Class) }
}

#[cfg(test)]
pub(crate) mod tests;
