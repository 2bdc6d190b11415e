//! What a run asks of the nodes: values to certify, or groups to publish.

use mynet_proto::replication::io::{Mode, Publication};
use mynet_types::{
    DecryptedClass, ManifestHash,
    wire::{Receipts, Wraps},
};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{
    cast::{Cast, GroupPlan},
    options::{Options, Suite, generator},
};

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
    /// No honest validator may accept it.
    pub(crate) bad: bool,
    /// Every wrap of the group after more readers were granted, and when.
    pub(crate) granted_later: Option<(u64, Wraps)>,
    /// When its owner deletes the group.
    pub(crate) deleted_at: Option<u64>,
    /// Whether the node took it, and was not told since to delete it.
    pub(crate) taken: bool,
    /// Whether the node was told to delete it.
    pub(crate) deleted: bool,
}

impl Work {
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
    let mut rng = generator(options.suite, options.seed, "deletions");
    for work in works.iter_mut().filter(|_| options.suite.replicates()) {
        if rng.random_ratio(1, 4) {
            work.deleted_at = Some(work.at + rng.random_range(0..millis(options.safety)));
        }
    }
    works
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        let granted = plan.granted | rng.random::<u8>();
        (at + rng.random_range(0..safety), cast.wraps(rng, &publication.manifest, granted))
    });
    Work {
        at,
        value: publication.manifest.body.hash(),
        node: rng.random_range(0..options.nodes),
        rival: rng.random_ratio(1, 4).then(|| rng.random_range(0..options.nodes)),
        receipts: cast.receipts(&publication.manifest, usize::from(plan.replicas)),
        publication,
        bad,
        granted_later,
        deleted_at: None,
        taken: false,
        deleted: false,
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
