//! Finding groups: on this disk, or at peers, and what their answers are worth together.
//!
//! **Invariants**
//! 1. A plaintext hash that this node can map to public names is never sent to anybody.
//! 2. A hash that is not known here goes to trusted peers first. Others are asked by a public name if a trusted one knew
//!    the group, and by the hash itself only if none did: `not_found` may be said only when every admitted peer answered,
//!    and whoever looks for a hash cannot know what it is a hash of.
//! 3. Strangers make this node ask its peers only a few times at once, and never tell from the delay what is held here.
//! 4. Answers are taken apart and put together again: a peer adds what it alone knows and spoils nothing.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use mynet_proto::group;
use mynet_store::meta::{FoundBy, Group, MetaError};
use mynet_types::{
    CertificateFile, ContentHash, ContentState, DecryptedClass, Manifest, ManifestHash, NodeId, Protection,
    SignedManifest, SignedWrap,
    rpc::{GroupInfo, GroupKey, Request, Response},
    vote::is_head,
};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::{
    backing::{Backing, Judge},
    compose::random,
    driver::wall_clock,
    grant,
    handle::NodeError,
    shell::Shell,
    view::{FindOutcome, FindView, ProviderView},
};

/// Searches through the network for callers without a key at a time. More are told to come back: a stranger's request costs
/// one request to every peer, and that must not grow with the number of strangers.
const STRANGERS_MAX: usize = 4;
/// How long a stranger's search that found nothing is not repeated; as long as a denial of the index holds.
const MISS: Duration = Duration::from_secs(30);
/// Searches that found nothing remembered at most; the oldest are forgotten first.
const MISSES_MAX: usize = 4096;

/// A group as this node found it: on its own disk, or at peers.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) manifest: Manifest,
    pub(crate) sealed: Vec<u8>,
    /// This node's wraps.
    pub(crate) wraps: Vec<SignedWrap>,
    pub(crate) found_by: FoundBy,
    /// The row here, if it is held here.
    pub(crate) local: Option<Group>,
    /// Peers that told of it and hold states, if it is not held here.
    pub(crate) holders: Vec<NodeId>,
    /// What stands behind it.
    pub(crate) backing: Backing,
}

/// What peers told about a group.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) found: Vec<(NodeId, Box<GroupInfo>)>,
    /// Every peer asked, and every admitted one among those to be asked, answered.
    pub(crate) all_answered: bool,
}

/// Bounds searches for callers without a key.
#[derive(Debug)]
pub(crate) struct Strangers {
    places: Semaphore,
    misses: Mutex<Misses>,
}

/// Searches that found nothing lately, oldest first.
#[derive(Debug, Default)]
struct Misses {
    keys: BTreeSet<GroupKey>,
    by_age: VecDeque<(Instant, GroupKey)>,
}

impl Default for Strangers {
    fn default() -> Self {
        Self { places: Semaphore::new(STRANGERS_MAX), misses: Mutex::default() }
    }
}

impl Misses {
    fn contains(&mut self, key: &GroupKey, now: Instant) -> bool {
        while let Some((_, old)) = self.by_age.pop_front_if(|(at, _)| now.duration_since(*at) >= MISS) {
            self.keys.remove(&old);
        }
        self.keys.contains(key)
    }

    fn insert(&mut self, key: GroupKey, now: Instant) {
        if !self.keys.insert(key) {
            return;
        }
        self.by_age.push_back((now, key));
        if self.by_age.len() > MISSES_MAX
            && let Some((_, oldest)) = self.by_age.pop_front()
        {
            self.keys.remove(&oldest);
        }
    }
}

/// What peers told of one manifest, put together.
#[derive(Debug)]
struct Gathered {
    manifest: SignedManifest,
    sealed: Vec<u8>,
    wraps: Vec<SignedWrap>,
    holders: Vec<NodeId>,
    backing: Backing,
}

impl Shell {
    /// Finds a group here, or else at peers.
    pub(crate) async fn find_group(&self, key: GroupKey) -> Result<Found, NodeError> {
        if let Some((group, found_by)) = self.meta.group(&key).await.map_err(NodeError::storage)? {
            return Ok(Found { found_by, ..self.found_here(group).await? });
        }
        let answers = self.ask_network(key).await;
        if let Some(found) = self.choose(&key, answers.found) {
            return Ok(found);
        }
        if let GroupKey::Group(group_id) = key
            && let Some(deletion) = self.deletion_of(group_id).await?
        {
            let deleted_at = deletion.tombstone.deleted_at;
            return Err(NodeError::Absent {
                what: format!("{} was deleted by its owner at {deleted_at}", describe(&key)),
                hint: "nothing brings it back; what is uploaded again is another group",
            });
        }
        let unknown = if answers.all_answered { NodeError::NotFound } else { NodeError::Unknown };
        Err(unknown(describe(&key)))
    }

    /// Finds a group for a caller without a key, who may have `state` of it only if everybody may.
    ///
    /// Whether something that is not for everybody is held here must not show in how long the answer takes, so a search is
    /// made for it all the same; for a name that nobody has, because its own would tell peers what is looked for.
    pub(crate) async fn find_public(&self, key: GroupKey, state: Option<ContentState>) -> Result<Found, NodeError> {
        let here = self.meta.group(&key).await.map_err(NodeError::storage)?;
        let is_here = here.is_some();
        let known = match here {
            Some((group, FoundBy::Public)) => Some(group),
            // The same bytes may be public in a younger group.
            Some((_, FoundBy::Plaintext)) => self.meta.known_group(&key).await.map_err(NodeError::storage)?,
            None => None,
        };
        if let Some(group) = known {
            let found = self.found_here(group).await?;
            if found.is_for_everybody(state.unwrap_or_else(|| found.named_state(&key))) {
                return Ok(found);
            }
        }
        let unknown = || NodeError::NotFound(describe(&key));
        let strangers = &self.strangers;
        let misses = || strangers.misses.lock().unwrap_or_else(PoisonError::into_inner);
        if misses().contains(&key, Instant::now()) {
            return Err(unknown());
        }
        let _place = strangers.places.try_acquire().map_err(|_full| NodeError::Unavailable(describe(&key)))?;
        let asked = if is_here { GroupKey::Hash(ContentHash(random())) } else { key };
        let answers = self.ask_network(asked).await;
        let found = self.choose(&asked, answers.found);
        let found = found.filter(|found| found.is_for_everybody(state.unwrap_or_else(|| found.named_state(&key))));
        if found.is_none() {
            misses().insert(key, Instant::now());
        }
        found.ok_or_else(unknown)
    }

    /// A group that is held here, with what is known of it here.
    pub(crate) async fn found_here(&self, group: Group) -> Result<Found, NodeError> {
        let manifest = group.manifest.body.clone();
        let wraps = self.meta.wraps(manifest.group_id, Some(&self.me())).await.map_err(NodeError::storage)?;
        let backing = self.backing_here(&group).await.map_err(NodeError::storage)?;
        Ok(Found {
            sealed: group.sealed.to_vec(),
            manifest,
            wraps,
            found_by: FoundBy::Public,
            local: Some(group),
            holders: Vec::new(),
            backing,
        })
    }

    /// What is written here of who stands behind a group.
    pub(crate) async fn backing_here(&self, group: &Group) -> Result<Backing, MetaError> {
        let manifest = &group.manifest.body;
        let receipts = self.meta.receipts_of_group(manifest.group_id).await?;
        let file = self.meta.certificate(&group.manifest_hash).await?;
        // Bytes that do not decode are as good as none.
        let file = file.and_then(|bytes| CertificateFile::decode(&bytes).ok());
        Ok(Backing::written(manifest, receipts, file, wall_clock()))
    }

    /// What judges the words of peers now.
    pub(crate) fn judge(&self) -> Judge<'_> {
        Judge { members: &self.members, chain: self.members.chain(), now: wall_clock() }
    }

    /// How many nodes must stand by a manifest before its two names of a blob are believed. The owner cannot ask for less
    /// than this node's operator does.
    pub(crate) fn copies_to_believe(&self, manifest: &Manifest) -> usize {
        usize::from(manifest.quorum.max(self.config().replication.quorum)).max(1)
    }

    /// Every other node that is admitted now. Whoever was, and is no more, is not waited for.
    pub(crate) fn peers_now(&self) -> Vec<NodeId> {
        let me = self.me();
        let admitted = self.members.admissions(wall_clock()).into_iter();
        admitted.map(|admission| admission.body.node).filter(|node| *node != me).collect()
    }

    /// Asks every admitted peer for what is not known here; see the second invariant for the order.
    pub(crate) async fn ask_network(&self, key: GroupKey) -> Answers {
        let peers = self.peers_now();
        let GroupKey::Hash(_) = key else { return self.ask_peers(&peers, key).await };
        let trusts = |node: &NodeId| self.members.admission(node).is_some_and(|admission| self.trusts(&admission));
        let (trusted, others): (Vec<NodeId>, Vec<NodeId>) = peers.into_iter().partition(trusts);
        let mut answers = self.ask_peers(&trusted, key).await;
        let public = match answers.found.first() {
            None => key,
            Some(_) if answers.found.iter().any(|(_, info)| names_publicly(&info.manifest.body, &key)) => key,
            Some((_, info)) => GroupKey::Group(info.manifest.body.group_id),
        };
        let more = self.ask_peers(&others, public).await;
        answers.found.extend(more.found);
        answers.all_answered &= more.all_answered;
        answers
    }

    /// Asks those of `peers` that can be reached for a group.
    pub(crate) async fn ask_peers(&self, peers: &[NodeId], key: GroupKey) -> Answers {
        let Some(net) = self.net.get() else { return Answers { found: Vec::new(), all_answered: peers.is_empty() } };
        let up = self.members.up();
        let asked = peers
            .iter()
            .filter(|node| up.contains(node))
            .map(|node| async move { (*node, net.request(*node, Request::Group(key)).await) });
        let mut answers = Answers { found: Vec::new(), all_answered: peers.iter().all(|node| up.contains(node)) };
        for (node, answer) in futures::future::join_all(asked).await {
            match answer {
                Ok(Response::Group(info)) if self.is_good(&key, &info) => answers.found.push((node, info)),
                Ok(Response::NotHere) => {}
                Ok(other) => {
                    tracing::warn!(peer = %node.short(), ?other, "a peer answered nonsense about a group");
                    answers.all_answered = false;
                }
                Err(error) => {
                    tracing::debug!(peer = %node.short(), %error, "a peer did not answer about a group");
                    answers.all_answered = false;
                }
            }
        }
        self.drop_deleted(&mut answers).await;
        answers
    }

    /// Whether what a peer told is signed by its owner and is what was asked for. A later version could name any group as its
    /// own, so it counts with its certificate only.
    fn is_good(&self, key: &GroupKey, info: &GroupInfo) -> bool {
        let manifest = &info.manifest.body;
        let certified = || info.certificate.as_deref().is_some_and(|file| self.judge().certifies(file, manifest));
        if (is_head(manifest.version) && !certified())
            || group::verify_manifest(manifest).is_err()
            || info.manifest.verify(&self.network).is_err()
        {
            return false;
        }
        names_publicly(manifest, key) || matches!(key, GroupKey::Hash(hash) if self.opens_to(info, *hash))
    }

    /// Whether this node can read the group and its plaintext has this hash.
    fn opens_to(&self, info: &GroupInfo, hash: ContentHash) -> bool {
        let manifest = &info.manifest.body;
        let part = grant::content_key(&self.keys, &self.network, manifest, &info.wraps)
            .and_then(|key| grant::sealed_part(&key, manifest, &info.sealed));
        part.is_ok_and(|part| part.plain.sha256 == hash)
    }

    /// Puts answers together and takes the group that most stands behind, in its newest version.
    pub(crate) fn choose(&self, key: &GroupKey, answers: Vec<(NodeId, Box<GroupInfo>)>) -> Option<Found> {
        let judge = self.judge();
        let mut groups: BTreeMap<ManifestHash, Gathered> = BTreeMap::new();
        for (node, info) in answers {
            let info = *info;
            let gathered = groups.entry(info.manifest.body.hash()).or_insert_with(|| Gathered::new(&info.manifest));
            gathered.add(self.me(), node, &info);
            let manifest = &gathered.manifest.body;
            judge.add(&mut gathered.backing, manifest, &info.receipts, info.certificate.as_deref());
        }
        let rank = |gathered: &Gathered| gathered.backing.rank(self.copies_to_believe(&gathered.manifest.body));
        // First whose group it is: anybody's certified version may name a public hash of somebody else.
        let group = groups.values().max_by_key(|gathered| rank(gathered))?.manifest.body.group_id;
        let versions = groups.into_values().filter(|gathered| gathered.manifest.body.group_id == group);
        let chosen = versions.max_by_key(|gathered| gathered.manifest.body.version)?;
        let Gathered { manifest, sealed, wraps, holders, backing } = chosen;
        let manifest = manifest.body;
        let found_by = if names_publicly(&manifest, key) { FoundBy::Public } else { FoundBy::Plaintext };
        Some(Found { manifest, sealed, wraps, found_by, local: None, holders, backing })
    }

    /// Who holds a hash.
    pub(crate) async fn find(&self, hash: ContentHash) -> Result<FindView, NodeError> {
        let key = GroupKey::Hash(hash);
        let here = self.meta.group(&key).await.map_err(NodeError::storage)?;
        let answers = match &here {
            Some((group, found_by)) => {
                let public = encrypted_name(&group.manifest.body).filter(|_| *found_by == FoundBy::Plaintext);
                self.ask_peers(&self.peers_now(), public.unwrap_or(key)).await
            }
            None => self.ask_network(key).await,
        };
        let mut providers: Vec<ProviderView> = Vec::new();
        if let Some((group, _)) = here {
            providers.push(ProviderView { node_id: self.me(), states: group.held.iter().collect() });
        }
        providers.extend(
            answers
                .found
                .iter()
                .filter(|(_, info)| !info.held.is_empty())
                .map(|(node, info)| ProviderView { node_id: *node, states: info.held.iter().collect() }),
        );
        let outcome = match (providers.is_empty(), answers.all_answered) {
            (false, _) => FindOutcome::Found,
            (true, true) => FindOutcome::NotFound,
            (true, false) => FindOutcome::Unknown,
        };
        Ok(FindView { hash, outcome, providers })
    }
}

impl Gathered {
    fn new(manifest: &SignedManifest) -> Self {
        Self {
            manifest: manifest.clone(),
            sealed: Vec::new(),
            wraps: Vec::new(),
            holders: Vec::new(),
            backing: Backing::default(),
        }
    }

    /// Adds what one peer told. Wraps are checked when they are opened.
    fn add(&mut self, me: NodeId, node: NodeId, info: &GroupInfo) {
        if let Protection::Sealed { sealed_hash, .. } = &self.manifest.body.protection
            && self.sealed.is_empty()
            && <[u8; 32]>::from(Sha256::digest(&*info.sealed)) == *sealed_hash
        {
            self.sealed = info.sealed.to_vec();
        }
        let mine = info.wraps.iter().filter(|wrap| wrap.body.recipient == me);
        for wrap in mine {
            if !self.wraps.contains(wrap) {
                self.wraps.push(wrap.clone());
            }
        }
        if !info.held.is_empty() {
            self.holders.push(node);
        }
    }
}

impl Found {
    /// The state that a key names; a group's id names the decrypted one.
    pub(crate) fn named_state(&self, key: &GroupKey) -> ContentState {
        let named = self.manifest.members.iter().find(|member| match key {
            GroupKey::Group(_) => false,
            GroupKey::Hash(hash) => member.blob.is_some_and(|blob| blob.sha256 == *hash),
            GroupKey::Content(id) => member.content_id == *id,
        });
        named.map_or(ContentState::Decrypted, |member| member.state)
    }

    /// Whether everybody may read this state: public content, and previews.
    pub(crate) fn is_for_everybody(&self, state: ContentState) -> bool {
        let public = self.manifest.class == DecryptedClass::Public;
        self.found_by == FoundBy::Public && (public || state == ContentState::Preview)
    }
}

/// How a group was asked for.
pub(crate) fn describe(key: &GroupKey) -> String {
    match key {
        GroupKey::Group(id) => format!("group {id}"),
        GroupKey::Hash(hash) => hash.to_string(),
        GroupKey::Content(id) => format!("content {id}"),
    }
}

/// Whether the public part of a manifest carries this name.
fn names_publicly(manifest: &Manifest, key: &GroupKey) -> bool {
    match key {
        GroupKey::Group(id) => manifest.group_id == *id,
        GroupKey::Hash(hash) => manifest.blobs().any(|(_, blob)| blob.sha256 == *hash),
        GroupKey::Content(id) => manifest.members.iter().any(|member| member.content_id == *id),
    }
}

/// The hash of the encrypted state, which everybody may know.
fn encrypted_name(manifest: &Manifest) -> Option<GroupKey> {
    manifest.member(ContentState::Encrypted)?.blob.map(|blob| GroupKey::Hash(blob.sha256))
}

#[cfg(test)]
mod tests;
