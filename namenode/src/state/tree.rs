//! Paths to inodes, and inodes into directories.

use ringfs_proto::ids::{InodeId, LogIndex, PrincipalId};
use ringfs_proto::limits::DIRECTORY_ENTRIES_MAX;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::arena::{NONE, Slot};
use super::children::Children;
use super::inode::{Inode, Kind};
use super::names::Name;
use super::{ROOT_SLOT, State};

/// Permission bits that somebody wants for what he makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// After his umask: what counts without a default ACL.
    pub masked: u16,
    /// Before it: what a default ACL lets through, in the place of the umask (POSIX 1003.1e; HDFS:
    /// `dfs.namenode.posix.acl.inheritance.enabled`).
    pub unmasked: u16,
}

impl Modes {
    /// With more bits, whatever the umask.
    pub fn with(self, bits: u16) -> Self {
        Self { masked: self.masked | bits, unmasked: self.unmasked | bits }
    }
}

/// Where a path leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// To this inode.
    Inode(Slot),
    /// To nothing; the first `existing` names lead to the directory `parent`.
    Missing {
        /// The deepest directory that exists.
        parent: Slot,
        /// How many names lead to it.
        existing: usize,
    },
    /// Below a file: the first `existing` names lead to it.
    BelowFile {
        /// How many names lead to the file.
        existing: usize,
    },
}

impl State {
    /// Follows a path.
    pub(super) fn find(&self, names: &[&str]) -> Found {
        let mut slot = ROOT_SLOT;
        for (existing, name) in names.iter().enumerate() {
            if !self.inodes.get(slot).is_directory() {
                return Found::BelowFile { existing };
            }
            match self.child(slot, name) {
                Some(child) => slot = child,
                None => return Found::Missing { parent: slot, existing },
            }
        }
        Found::Inode(slot)
    }

    /// Follows a path that must exist; HDFS's readers do not tell a file in the middle from nothing.
    pub(super) fn find_existing(&self, path: &Components<'_>) -> Result<Slot, WireError> {
        match self.find(path.names()) {
            Found::Inode(slot) => Ok(slot),
            _ => Err(WireError::new(Code::NotFound, format!("File does not exist: {}", path.canonical()))),
        }
    }

    /// The entry of a directory.
    pub(super) fn child(&self, directory: Slot, name: &str) -> Option<Slot> {
        self.children(directory)?.find(name.as_bytes(), |slot| self.name_of(slot))
    }

    /// The entries of a directory that ever had one.
    pub(super) fn children(&self, directory: Slot) -> Option<&Children> {
        match self.inodes.get(directory).kind {
            Kind::Directory { children, .. } if children != NONE => Some(self.directories.get(children)),
            _ => None,
        }
    }

    /// How many entries a directory has.
    pub(super) fn child_count(&self, directory: Slot) -> u32 {
        match self.inodes.get(directory).kind {
            Kind::Directory { count, .. } => count,
            Kind::File { .. } => 0,
        }
    }

    /// The name of an inode.
    pub(super) fn name_of(&self, slot: Slot) -> &[u8] {
        self.names.get(self.inodes.get(slot).name)
    }

    /// Refuses a directory that is full.
    pub(super) fn check_room(&self, directory: Slot) -> Result<(), WireError> {
        if self.child_count(directory) < DIRECTORY_ENTRIES_MAX {
            return Ok(());
        }
        let path = self.path_of(directory);
        Err(WireError::new(
            Code::LimitExceeded,
            format!("directory {path} has {DIRECTORY_ENTRIES_MAX} entries"),
        ))
    }

    /// Puts an inode into a directory under a name that is free.
    pub(super) fn link(&mut self, slot: Slot, parent: Slot, name: Name, time_ms: u64) {
        let inode = self.inodes.get_mut(slot);
        (inode.parent, inode.name) = (parent, name);
        let list = self.children_or_new(parent);
        let mut children = core::mem::take(self.directories.get_mut(list));
        children.insert(slot, self.names.get(name), |other| self.name_of(other));
        *self.directories.get_mut(list) = children;
        self.count_child(parent, 1, time_ms);
    }

    /// Takes an inode out of its directory; its name stays stored.
    pub(super) fn unlink(&mut self, slot: Slot, time_ms: u64) {
        let Inode { parent, name, .. } = *self.inodes.get(slot);
        let list = self.children_or_new(parent);
        let mut children = core::mem::take(self.directories.get_mut(list));
        children.remove(self.names.get(name), |other| self.name_of(other));
        *self.directories.get_mut(list) = children;
        self.count_child(parent, -1, time_ms);
    }

    /// Makes an inode in a directory.
    pub(super) fn make(
        &mut self,
        parent: Slot,
        name: &str,
        owner: PrincipalId,
        modes: Modes,
        kind: Kind,
    ) -> Slot {
        self.last_inode = InodeId(self.last_inode.0 + 1);
        let (id, time_ms) = (self.last_inode, self.time_ms);
        // HDFS: a new inode has the group of its parent (BSD rule).
        let group = self.inodes.get(parent).group;
        let atime_s = if matches!(kind, Kind::File { .. }) { (time_ms / 1000) as u32 } else { 0 };
        let name = self.names.insert(name);
        let (version, mode) = (LogIndex(0), modes.masked);
        let inode = Inode { id, mtime_ms: time_ms, version, kind, parent, name, owner, group, atime_s, mode };
        let slot = self.inodes.insert(inode);
        self.inode_slots.insert(id.0, slot);
        self.link(slot, parent, name, time_ms);
        self.inherit_acl(slot, parent, modes.unmasked);
        self.note_made(slot);
        slot
    }

    /// Makes the directories `names[existing..]` below `parent` and returns the last.
    pub(super) fn make_directories(
        &mut self,
        parent: Slot,
        names: &[&str],
        owner: PrincipalId,
        modes: Modes,
    ) -> Slot {
        names.iter().fold(parent, |parent, name| {
            self.counts.directories += 1;
            self.make(parent, name, owner, modes, Kind::Directory { children: NONE, count: 0 })
        })
    }

    fn children_or_new(&mut self, directory: Slot) -> Slot {
        let Kind::Directory { children, .. } = &mut self.inodes.get_mut(directory).kind else {
            panic!("a parent is a directory")
        };
        if *children == NONE {
            *children = self.directories.insert(Children::default());
        }
        *children
    }

    fn count_child(&mut self, directory: Slot, change: i32, time_ms: u64) {
        self.note_time_of(directory);
        let inode = self.inodes.get_mut(directory);
        inode.mtime_ms = inode.mtime_ms.max(time_ms);
        let Kind::Directory { count, .. } = &mut inode.kind else { panic!("a parent is a directory") };
        *count = count.checked_add_signed(change).expect("entries are counted");
    }
}
