//! Files that are being cut inside a block: the first bytes of that block are copied into a new one, which takes its place
//! in the end. Until then the file is as it was, and nobody writes it.
//!
//! Part of the logged state. Who copies, and how far that is, is soft: see the core.

use std::collections::BTreeMap;

use ringfs_proto::ids::InodeId;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::inode::BlockList;

/// A file that is being cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// The block that is cut in two.
    pub old: BlockRefV1,
    /// The new block, with the length that it will have.
    pub new: BlockRefV1,
    /// The new block, open, in no file's list yet.
    pub(super) list: BlockList,
}

/// All files that are being cut.
#[derive(Debug, Default)]
pub struct Truncations {
    by_inode: BTreeMap<InodeId, Truncation>,
}

impl Truncations {
    /// What is becoming of a file; `None` if it is not being cut.
    pub fn get(&self, inode: InodeId) -> Option<&Truncation> {
        self.by_inode.get(&inode)
    }

    /// A file begins to be cut.
    pub(super) fn insert(&mut self, inode: InodeId, truncation: Truncation) {
        self.by_inode.insert(inode, truncation);
    }

    /// A file is being cut no more.
    pub(super) fn remove(&mut self, inode: InodeId) -> Option<Truncation> {
        self.by_inode.remove(&inode)
    }

    /// All, by inode.
    pub fn iter(&self) -> impl Iterator<Item = (InodeId, &Truncation)> + '_ {
        self.by_inode.iter().map(|(inode, truncation)| (*inode, truncation))
    }

    /// How many files are being cut.
    pub fn count(&self) -> usize {
        self.by_inode.len()
    }
}
