//! What a run asks of the nodes: values to certify, or groups to publish.

use mynet_proto::{
    consensus::io::Hashed,
    replication::io::{Mode, Publication},
};
use mynet_types::{
    Claim, DecryptedClass, ManifestHash, SignedManifest,
    wire::{Receipts, Wraps},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    cast::{Cast, GroupPlan},
    options::{Options, Suite, generator},
    staging::true_names,
};

/// Groups with later versions in one run at most.
const GROUPS_WITH_HEADS_MAX: usize = 4;
/// Versions after the first at most.
pub(crate) const VERSIONS_MAX: u64 = 3;
/// Replicated groups with later versions in one run at most: each costs about as much as another group.
const GROUPS_WITH_VERSIONS_MAX: usize = 3;
/// Versions that are asked for after the first of a replicated group at most.
const VERSIONS_ASKED_MAX: u64 = 3;
/// Two versions that are asked for soon after each other are so within this.
const SOON_MS: u64 = 3_000;
/// The roster grows within this time unless something breaks.
const EARLY_MS: u64 = 15_000;

/// One thing asked of one node, or of two.
#[derive(Debug)]
pub(crate) struct Work {
    /// When.
    pub(crate) at: u64,
    /// The node that is asked first; the group's coordinator where it replicates.
    pub(crate) node: usize,
    /// Another node that proposes the same value, in the consensus suite.
    pub(crate) rival: Option<usize>,
    /// The group.
    pub(crate) publication: Publication,
    /// The hash of its manifest.
    pub(crate) value: ManifestHash,
    /// What makes it durable, where nothing replicates.
    pub(crate) receipts: Receipts,
    /// What is to be certified.
    pub(crate) claim: Claim,
    /// No honest validator may accept it.
    pub(crate) bad: bool,
    /// Its receipts are of too few holders, so no honest validator may call it durable.
    pub(crate) unproven: bool,
    /// Every wrap of the group after more readers were granted, and when.
    pub(crate) granted_later: Option<(u64, Wraps)>,
    /// When its owner deletes the group.
    pub(crate) deleted_at: Option<u64>,
    /// Whether the node took it, and was not told since to delete it.
    pub(crate) taken: bool,
    /// Whether the node was told to delete it.
    pub(crate) deleted: bool,
    /// Versions after it, each on top of the one before.
    pub(crate) heads: Vec<Head>,
    /// When the owner asks for the next version of it, where groups are replicated.
    pub(crate) versions: Vec<u64>,
    /// When and where somebody with the owner's key asks for another second version.
    pub(crate) rival_version: Option<(u64, usize)>,
    /// When somebody asks for more than copies, where groups are replicated: that validators hash the bytes.
    pub(crate) verified_at: Option<u64>,
    /// Whether the node took that.
    pub(crate) verified_asked: bool,
}

/// A later version that is to be certified.
#[derive(Debug)]
pub(crate) struct Head {
    /// When; not before the version below it is certified somewhere.
    pub(crate) at: u64,
    /// The node that is asked first.
    pub(crate) node: usize,
    /// Another node that is asked, and when; perhaps in a later epoch.
    pub(crate) rival: Option<(u64, usize)>,
    /// The version.
    pub(crate) manifest: SignedManifest,
    /// Its hash.
    pub(crate) value: ManifestHash,
    /// What a dishonest owner signed as the same version, for the rival.
    pub(crate) other: Option<SignedManifest>,
    /// What makes it durable.
    pub(crate) receipts: Receipts,
    /// What is to be certified.
    pub(crate) claim: Claim,
    /// Nodes that took it.
    pub(crate) taken: Vec<usize>,
}

impl Head {
    /// What `node` is asked to have certified.
    pub(crate) fn manifest_for(&self, node: usize) -> &SignedManifest {
        self.other.as_ref().filter(|_| node != self.node).unwrap_or(&self.manifest)
    }
}

impl Work {
    /// Whether somebody who hashes its bytes finds out that their owner lied about them.
    pub(crate) fn has_wrong_bytes(&self) -> bool {
        true_names(&self.value) == Hashed::Wrong
    }

    /// Whether the owner lets `node` read.
    pub(crate) fn grants(&self, node: &mynet_types::NodeId) -> bool {
        let later = self.granted_later.as_ref().map(|(_, wraps)| wraps);
        self.publication.manifest.body.class == DecryptedClass::Public
            || crate::group_store::is_granted(&self.publication.wraps, node)
            || later.is_some_and(|wraps| crate::group_store::is_granted(wraps, node))
    }
}

/// Draws the work of a run.
pub(crate) fn draw(options: &Options, cast: &Cast) -> Vec<Work> {
    let mut rng = generator(options.suite, options.seed, "workload");
    let mut works: Vec<Work> = (0..options.works).map(|_| one(&mut rng, options, cast)).collect();
    if options.suite == Suite::Consensus {
        let mut rng = generator(options.suite, options.seed, "claims");
        for work in works.iter_mut().filter(|_| rng.random_ratio(1, 5)) {
            work.claim = Claim::Verified;
            // Whoever has to look at the bytes finds out what their owner lied about.
            work.bad |= work.has_wrong_bytes();
        }
        let mut rng = generator(options.suite, options.seed, "heads");
        for _ in 0..rng.random_range(0..=GROUPS_WITH_HEADS_MAX) {
            works.push(with_heads(&mut rng, options, cast));
        }
    }
    let mut rng = generator(options.suite, options.seed, "deletions");
    for work in works.iter_mut().filter(|_| options.suite.replicates()) {
        if rng.random_ratio(1, 4) {
            work.deleted_at = Some(work.at + rng.random_range(0..millis(options.safety)));
        }
    }
    if options.suite == Suite::Node {
        ask_for_versions(&mut works, options);
        let mut rng = generator(options.suite, options.seed, "verified");
        for work in &mut works {
            let later = rng.random_range(0..millis(options.safety));
            work.verified_at = rng.random_ratio(1, 4).then_some(work.at + later);
        }
    }
    works
}

/// In half of the runs some groups get later versions: soon after they came or at any time, and often two soon after each
/// other. Of few of them somebody has another second version certified elsewhere.
fn ask_for_versions(works: &mut [Work], options: &Options) {
    let mut rng = generator(options.suite, options.seed, "versions");
    if rng.random() {
        return;
    }
    let sealed = works.iter_mut().filter(|work| work.publication.manifest.body.class != DecryptedClass::Public);
    for work in sealed.take(GROUPS_WITH_VERSIONS_MAX) {
        let within = |rng: &mut ChaCha8Rng, soon: u64| {
            let latest = if rng.random() { soon } else { millis(options.safety) };
            rng.random_range(0..latest)
        };
        let first = work.at + within(&mut rng, EARLY_MS);
        let next = within(&mut rng, SOON_MS);
        let asked = rng.random_range(1..=VERSIONS_ASKED_MAX);
        work.versions = (0..asked).map(|number| first + number * next).collect();
        if rng.random_ratio(1, 10) {
            let node = (work.node + 1) % options.nodes;
            work.rival_version = Some((first + rng.random_range(0..SOON_MS), node));
        }
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A group with later versions. Half of them begin early, so that epochs change in the middle of their votes.
fn with_heads(rng: &mut ChaCha8Rng, options: &Options, cast: &Cast) -> Work {
    let sound = Options { bad_percent: 0, ..options.clone() };
    let mut work = one(rng, &sound, cast);
    if rng.random() {
        work.at = rng.random_range(0..EARLY_MS);
    }
    let mut at = work.at;
    let mut before = work.publication.manifest.clone();
    for _ in 0..rng.random_range(1..=VERSIONS_MAX) {
        at += rng.random_range(0..EARLY_MS);
        let manifest = cast.next_version(rng, &before);
        let dishonest = rng.random_ratio(1, 4);
        let nodes = [rng.random_range(0..options.nodes), rng.random_range(0..options.nodes)];
        let rival = dishonest || rng.random_ratio(1, 3);
        let late = if rng.random() { 0 } else { 2 * EARLY_MS };
        let claim = if rng.random() { Claim::Seen } else { Claim::Durable };
        // Either way the receipts are of the version that is asked for first; the other one is only ever seen.
        work.heads.push(Head {
            at,
            node: nodes[0],
            rival: rival.then_some((at + rng.random_range(0..=late), nodes[1])).filter(|_| nodes[0] != nodes[1]),
            value: manifest.body.hash(),
            other: dishonest.then(|| cast.next_version(rng, &before)),
            receipts: cast.receipts(&manifest, usize::from(manifest.body.replicas)),
            claim: if dishonest { Claim::Seen } else { claim },
            manifest: manifest.clone(),
            taken: Vec::new(),
        });
        before = manifest;
    }
    work
}

fn one(rng: &mut ChaCha8Rng, options: &Options, cast: &Cast) -> Work {
    let safety = millis(options.safety);
    let at = rng.random_range(0..safety);
    let plan = plan(rng, options);
    let mut publication = cast.publication(rng, &plan);
    let bad = options.suite == Suite::Consensus && rng.random_ratio(options.bad_percent, 100);
    if bad {
        publication.manifest = cast.spoil(rng, &publication.manifest);
    }
    let later = plan.class == DecryptedClass::Granted && rng.random_ratio(1, 3);
    let granted_later = later.then(|| {
        let granted = plan.granted | rng.random::<u16>();
        (at + rng.random_range(0..safety), cast.wraps(rng, &publication.manifest, granted))
    });
    let bad_receipts = (options.suite == Suite::Consensus && plan.quorum > 1 && rng.random_ratio(1, 8))
        .then(|| cast.unproven_receipts(rng, &publication.manifest));
    let unproven = bad_receipts.is_some();
    let good = |manifest| cast.receipts(manifest, usize::from(plan.replicas));
    Work {
        at,
        value: publication.manifest.body.hash(),
        node: rng.random_range(0..options.nodes),
        rival: rng.random_ratio(1, 4).then(|| rng.random_range(0..options.nodes)),
        receipts: bad_receipts.unwrap_or_else(|| good(&publication.manifest)),
        claim: Claim::Durable,
        publication,
        bad,
        unproven,
        granted_later,
        deleted_at: None,
        taken: false,
        deleted: false,
        heads: Vec::new(),
        versions: Vec::new(),
        rival_version: None,
        verified_at: None,
        verified_asked: false,
    }
}

fn plan(rng: &mut ChaCha8Rng, options: &Options) -> GroupPlan {
    let class = match rng.random_range(0..4) {
        0 => DecryptedClass::Public,
        1 => DecryptedClass::None,
        _ => DecryptedClass::Granted,
    };
    let nodes = u8::try_from(options.nodes).expect("a handful of nodes");
    let replicas = rng.random_range(1..=nodes.min(5));
    // Small groups are as many as large ones.
    let magnitude = rng.random_range(0..10);
    GroupPlan {
        class,
        bytes: rng.random_range(1..=options.bytes_max >> magnitude),
        replicas,
        quorum: rng.random_range(1..=replicas),
        mode: if rng.random_ratio(1, 4) { Mode::All } else { Mode::Quorum },
        granted: options.trusted,
    }
}
