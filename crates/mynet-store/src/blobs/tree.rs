//! The BLAKE3 tree over 16 KiB groups: built in one pass, checked from the root down. No IO.
//!
//! BLAKE3 is a binary tree over 1 KiB chunks. The outboard keeps its nodes down to groups of 16 chunks, as pairs of 32-byte
//! hashes in *post order*: a node stands behind everything below it, so a tree over bytes that are still coming is
//! appended to and never rewritten, and yet each node has a known place once the size is known. 64 bytes per 16 KiB: 0.4 %.
//!
//! What goes over the wire is the same tree in pre order (bao): each pair before what is below it, so that every group can
//! be checked the moment it arrives. Geometry and both orders are those of `bao-tree`; the tests compare with it byte by byte.

use std::{
    io::{self, Write},
    ops::Range,
};

use bao_tree::{
    BaoTree, BlockSize, ChunkNum, ChunkRanges,
    iter::{BaoChunk, ResponseIter},
};
use blake3::{
    Hash,
    hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root},
};
use mynet_types::Blake3Root;

/// Bytes that are verified together. Half would double outboards, double would double what a small range must read.
pub const GROUP_BYTES: usize = 16 * 1024;
/// Bytes of one node in outboard and encoding: two hashes.
pub(super) const PAIR_BYTES: usize = 64;
/// [`GROUP_BYTES`] in the words of `bao-tree`: 2^4 chunks of 1 KiB.
const BLOCK: BlockSize = BlockSize::from_chunk_log(4);

/// Bytes of the outboard of a blob.
pub(super) fn outboard_len(size: u64) -> u64 {
    BaoTree::new(size, BLOCK).outboard_size()
}

/// The whole groups that `range` touches.
pub(super) fn whole_groups(range: &Range<u64>, size: u64) -> Range<u64> {
    let group = GROUP_BYTES as u64;
    if range.is_empty() {
        return range.start..range.start;
    }
    range.start / group * group..range.end.next_multiple_of(group).min(size)
}

/// Hash of one group as a part of a larger blob.
fn group_hash(offset: u64, bytes: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(bytes);
    Hash::from_bytes(hasher.finalize_non_root())
}

fn parent_hash(left: &Hash, right: &Hash, root: bool) -> Hash {
    if root {
        merge_subtrees_root(left.as_bytes(), right.as_bytes(), Mode::Hash)
    } else {
        Hash::from_bytes(merge_subtrees_non_root(left.as_bytes(), right.as_bytes(), Mode::Hash))
    }
}

/// Computes root and outboard of bytes as they come.
///
/// A subtree is complete as soon as its bytes are there, but whether it is the *root* is known only when nothing follows.
/// So the last group is held back, and subtrees are merged only when more bytes prove that they are not the root.
#[derive(Debug)]
pub(super) struct OutboardBuilder<W> {
    out: W,
    /// The last group, full or not.
    group: Vec<u8>,
    /// Groups before it.
    groups: u64,
    /// Hashes of complete subtrees, largest first: at most one per bit of `groups`, and one more while merging.
    subtrees: Vec<Hash>,
}

impl<W: Write> OutboardBuilder<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, group: Vec::with_capacity(GROUP_BYTES), groups: 0, subtrees: Vec::new() }
    }

    pub(super) fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.group.len() == GROUP_BYTES {
                self.push_group()?;
            }
            let room = (GROUP_BYTES - self.group.len()).min(bytes.len());
            let (now, later) = bytes.split_at(room);
            self.group.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// The root, and the writer with the whole outboard written (not flushed).
    pub(super) fn finish(mut self) -> io::Result<(Blake3Root, W)> {
        if self.groups == 0 {
            return Ok((Blake3Root(*blake3::hash(&self.group).as_bytes()), self.out));
        }
        self.push_group()?;
        while self.subtrees.len() > 1 {
            self.merge(self.subtrees.len() == 2)?;
        }
        let root = self.subtrees.pop().expect("two groups or more leave one subtree");
        Ok((Blake3Root(*root.as_bytes()), self.out))
    }

    fn push_group(&mut self) -> io::Result<()> {
        // As many subtrees as `groups` has bits are complete and final; the rest merge now that a group follows them.
        while self.subtrees.len() > self.groups.count_ones() as usize {
            self.merge(false)?;
        }
        self.subtrees.push(group_hash(self.groups * GROUP_BYTES as u64, &self.group));
        self.groups += 1;
        self.group.clear();
        Ok(())
    }

    fn merge(&mut self, root: bool) -> io::Result<()> {
        let right = self.subtrees.pop().expect("only two subtrees or more are merged");
        let left = self.subtrees.pop().expect("only two subtrees or more are merged");
        self.out.write_all(left.as_bytes())?;
        self.out.write_all(right.as_bytes())?;
        self.subtrees.push(parent_hash(&left, &right, root));
        Ok(())
    }
}

/// One part of a verified range, in the order in which it is checked and sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Item {
    /// The hashes of two subtrees.
    Pair {
        /// Where the pair stands in the outboard, in bytes.
        slot: u64,
        /// First byte of the blob below it.
        offset: u64,
        root: bool,
        /// Whether the range needs the left subtree.
        left: bool,
        /// Whether the range needs the right subtree.
        right: bool,
    },
    /// Bytes of the blob.
    Group {
        /// Where they stand in the blob.
        offset: u64,
        len: usize,
        root: bool,
    },
}

impl Item {
    /// Bytes on the wire.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Pair { .. } => PAIR_BYTES,
            Self::Group { len, .. } => *len,
        }
    }

    /// First byte of the blob that it speaks of.
    pub(super) fn offset(&self) -> u64 {
        match self {
            Self::Pair { offset, .. } | Self::Group { offset, .. } => *offset,
        }
    }
}

/// The items of a range: a function of size and range alone, so both sides of a transfer know it beforehand.
#[derive(Debug)]
pub(super) struct Layout {
    tree: BaoTree,
    iter: ResponseIter,
}

impl Layout {
    /// The items of the groups that `range` touches. The empty blob has one empty group, which proves that it is empty.
    pub(super) fn new(size: u64, range: &Range<u64>) -> Self {
        let tree = BaoTree::new(size, BLOCK);
        let groups = whole_groups(range, size);
        let first = ChunkNum::full_chunks(groups.start);
        let chunks = if groups.is_empty() && size > 0 {
            ChunkRanges::empty()
        } else if groups.end == size {
            // `bao-tree` keeps a short last group in one piece only if the range is open behind it.
            ChunkRanges::from(first..)
        } else {
            ChunkRanges::from(first..ChunkNum::full_chunks(groups.end))
        };
        Self { tree, iter: ResponseIter::new(tree, chunks) }
    }
}

impl Iterator for Layout {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        Some(match self.iter.next()? {
            BaoChunk::Parent { node, is_root, left, right, .. } => {
                let slot = self.tree.post_order_offset(node).expect("whole groups need no node below a group").value();
                let offset = node.chunk_range().start.to_bytes();
                Item::Pair { slot: slot * PAIR_BYTES as u64, offset, root: is_root, left, right }
            }
            BaoChunk::Leaf { size, is_root, start_chunk, .. } => {
                Item::Group { offset: start_chunk.to_bytes(), len: size, root: is_root }
            }
        })
    }
}

/// Bytes do not belong to the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// First byte of the blob that cannot be verified.
    pub(super) offset: u64,
}

/// Checks the items of one range, in order, against the root. Once something did not match, nothing does any more.
#[derive(Debug)]
pub(super) struct Checker {
    /// Hashes of what comes next, the nearest last.
    expected: Vec<Hash>,
    broken: Option<Mismatch>,
}

impl Checker {
    pub(super) fn new(root: Blake3Root) -> Self {
        Self { expected: vec![Hash::from_bytes(root.0)], broken: None }
    }

    /// Checks the bytes of one item.
    pub(super) fn check(&mut self, item: &Item, bytes: &[u8]) -> Result<(), Mismatch> {
        if let Some(mismatch) = self.broken {
            return Err(mismatch);
        }
        let matched = self.expected.pop().is_some_and(|expected| match item {
            Item::Pair { root, left, right, .. } => self.descend(bytes, &expected, *root, (*left, *right)),
            Item::Group { root: true, .. } => blake3::hash(bytes) == expected,
            Item::Group { offset, .. } => group_hash(*offset, bytes) == expected,
        });
        if matched {
            return Ok(());
        }
        Err(self.fail(item))
    }

    /// Gives up at an item whose bytes do not match or are not there.
    pub(super) fn fail(&mut self, item: &Item) -> Mismatch {
        *self.broken.insert(Mismatch { offset: item.offset() })
    }

    fn descend(&mut self, bytes: &[u8], expected: &Hash, root: bool, (left, right): (bool, bool)) -> bool {
        let hash = |bytes: Option<&[u8]>| bytes.and_then(|bytes| Hash::from_slice(bytes).ok());
        let (Some(left_hash), Some(right_hash)) = (hash(bytes.get(..32)), hash(bytes.get(32..))) else {
            return false;
        };
        if parent_hash(&left_hash, &right_hash, root) != *expected {
            return false;
        }
        if right {
            self.expected.push(right_hash);
        }
        if left {
            self.expected.push(left_hash);
        }
        true
    }

    /// Whether everything so far matched.
    pub(super) fn intact(&self) -> Result<(), Mismatch> {
        self.broken.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
