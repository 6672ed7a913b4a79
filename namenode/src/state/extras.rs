//! What few inodes carry: ACLs, extended attributes, a storage policy of their own. An inode without costs nothing: a bit of
//! its mode says that there is something, and a side table says what.

use hashbrown::HashMap;
use ringfs_proto::ids::InodeId;
use ringfs_proto::meta::attributes::{AclEntryV1, XattrV1};

use super::arena::{Arena, NONE, Slot};
use super::{ROOT_SLOT, State};

/// The bit of a mode that says that there is an [`Extra`].
pub const HAS_EXTRA: u16 = 1 << 15;

/// HDFS: `BlockStoragePolicySuite`; numbers and names are its.
pub const STORAGE_POLICIES: [(u8, &str); 8] = [
    (1, "PROVIDED"),
    (2, "COLD"),
    (5, "WARM"),
    (7, "HOT"),
    (10, "ONE_SSD"),
    (12, "ALL_SSD"),
    (14, "ALL_NVDIMM"),
    (15, "LAZY_PERSIST"),
];
/// The policy where none is set (HDFS: `HdfsConstants.HOT_STORAGE_POLICY_ID`).
pub const STORAGE_POLICY_DEFAULT: u8 = 7;

/// What an inode carries. Part of checkpoints.
#[derive(Debug, Clone, Default, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Extra {
    /// Whose it is; 0 in a slot that is free.
    pub inode: InodeId,
    /// See [`super::acl::Kept`].
    pub acl: Vec<AclEntryV1>,
    /// By name.
    pub xattrs: Vec<XattrV1>,
    /// Its own policy; 0 means none.
    pub policy: u8,
}

impl Extra {
    fn is_nothing(&self) -> bool {
        self.acl.is_empty() && self.xattrs.is_empty() && self.policy == 0
    }
}

/// All that inodes carry.
#[derive(Debug, Default)]
pub struct Extras {
    pub records: Arena<Extra>,
    /// Looked up, never walked: its order would be another in every process.
    by_inode: HashMap<u64, Slot>,
    /// How many have a policy: without any, nobody looks for one.
    policies: usize,
}

impl Extras {
    pub fn get(&self, inode: InodeId) -> Option<&Extra> {
        self.by_inode.get(&inode.0).map(|slot| self.records.get(*slot))
    }

    /// How many inodes carry something.
    pub fn count(&self) -> usize {
        self.by_inode.len()
    }

    /// Keeps what an inode carries from now on, if it is anything; whether it is.
    pub fn put(&mut self, extra: Extra) -> bool {
        self.remove(extra.inode);
        if extra.is_nothing() {
            return false;
        }
        self.policies += usize::from(extra.policy != 0);
        let inode = extra.inode;
        let slot = self.records.insert(extra);
        self.by_inode.insert(inode.0, slot);
        true
    }

    fn remove(&mut self, inode: InodeId) {
        let Some(slot) = self.by_inode.remove(&inode.0) else { return };
        let old = core::mem::take(self.records.get_mut(slot));
        self.policies -= usize::from(old.policy != 0);
        self.records.remove(slot);
    }

    pub fn memory_bytes(&self) -> usize {
        self.records.memory_bytes() + self.by_inode.capacity() * size_of::<(u64, Slot)>()
    }
}

impl State {
    /// What an inode carries.
    pub(super) fn extra_of(&self, slot: Slot) -> Option<&Extra> {
        let inode = self.inodes.get(slot);
        if inode.mode & HAS_EXTRA == 0 { None } else { self.extras.get(inode.id) }
    }

    /// Changes what an inode carries.
    pub(super) fn change_extra(&mut self, slot: Slot, change: impl FnOnce(&mut Extra)) {
        let inode = self.inodes.get(slot).id;
        let mut extra = self.extra_of(slot).cloned().unwrap_or_default();
        change(&mut extra);
        let has_extra = self.extras.put(Extra { inode, ..extra });
        let inode = self.inodes.get_mut(slot);
        inode.mode = inode.mode & !HAS_EXTRA | if has_extra { HAS_EXTRA } else { 0 };
    }

    /// An inode is freed, with all that it carries.
    pub(super) fn drop_extra(&mut self, slot: Slot) {
        let inode = self.inodes.get(slot);
        if inode.mode & HAS_EXTRA != 0 {
            self.extras.remove(inode.id);
        }
    }

    /// The storage policy of an inode, its own or that of the nearest directory that has one; 0 where there is none.
    pub(super) fn policy_of(&self, mut slot: Slot) -> u8 {
        if self.extras.policies == 0 {
            return 0;
        }
        loop {
            let own = self.extra_of(slot).map_or(0, |extra| extra.policy);
            let parent = self.inodes.get(slot).parent;
            // What is deleted and not freed yet is in no directory.
            if own != 0 || slot == ROOT_SLOT || parent == NONE {
                return own;
            }
            slot = parent;
        }
    }
}
