//! Who may do what. The rules are those of HDFS (`FSPermissionChecker`), decided by logged state and by what a record, or a
//! caller, says of its author.

use ringfs_proto::ids::InodeId;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::acl;
use super::arena::{NONE, Slot};
use super::tree::Found;
use super::walk::Everything;
use super::{ROOT_SLOT, State};

/// The sticky bit of a directory: who owns neither it nor an entry may not take the entry away.
const STICKY: u16 = 0o1000;

/// Inodes below a path that are looked at where it cannot be done in turns.
const SUBTREE_COST_MAX: usize = 16_384;

/// On whose behalf something is done.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// His name.
    pub user: &'a str,
    /// His groups; may be empty for who is privileged.
    pub groups: &'a [String],
    /// Whether permissions are no matter.
    pub is_privileged: bool,
}

impl Author<'_> {
    /// The namenode itself.
    pub const NAMENODE: Author<'static> = Author { user: "", groups: &[], is_privileged: true };

    /// Whether he belongs to a group.
    pub fn is_member(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

/// What is wanted of one inode: read 4, write 2, execute (search) 1, or a sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// To read a file, or the names in a directory.
    pub const READ: Self = Self(4);
    /// To change a file, or the entries of a directory.
    pub const WRITE: Self = Self(2);
    /// To go through a directory.
    pub const EXECUTE: Self = Self(1);
    /// To list a directory.
    pub const READ_EXECUTE: Self = Self(5);
    /// Everything.
    pub const ALL: Self = Self(7);

    /// From bits; those above the lowest three are ignored.
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 7)
    }

    /// Whether three bits of a mode allow it.
    pub(super) fn is_in(self, bits: u16) -> bool {
        u16::from(self.0) & !bits == 0
    }

    fn has_write(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// HDFS: `FsAction`.
    fn name(self) -> &'static str {
        ["NONE", "EXECUTE", "WRITE", "WRITE_EXECUTE", "READ", "READ_EXECUTE", "READ_WRITE", "ALL"]
            [usize::from(self.0 & 7)]
    }
}

/// What is wanted along a path, beside going through its ancestors (HDFS: `FSPermissionChecker.checkPermission`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// Of the deepest inode that exists above the path's last name.
    pub ancestor: Option<Access>,
    /// Of the parent. With write, the sticky bit counts too.
    pub parent: Option<Access>,
    /// Of the inode itself, if it exists.
    pub target: Option<Access>,
    /// Whether all that is at and below it may be removed, where that can be looked at in one turn.
    pub is_subtree: bool,
    /// Whether the inode must belong to the author.
    pub is_owner: bool,
}

impl Asked {
    /// Nothing but the way there.
    pub const TRAVERSE: Self =
        Self { ancestor: None, parent: None, target: None, is_subtree: false, is_owner: false };
    /// To be the owner.
    pub const OWNER: Self = Self { is_owner: true, ..Self::TRAVERSE };

    /// Something of the inode itself.
    pub const fn target(access: Access) -> Self {
        Self { target: Some(access), ..Self::TRAVERSE }
    }

    /// To make an entry.
    pub const fn ancestor(access: Access) -> Self {
        Self { ancestor: Some(access), ..Self::TRAVERSE }
    }

    /// To change an entry that is there.
    pub const fn parent(access: Access) -> Self {
        Self { parent: Some(access), ..Self::TRAVERSE }
    }
}

impl State {
    /// Whether somebody may do what is asked with a path. What does not exist allows everything: that it is missing is the
    /// business of the operation.
    ///
    /// # Errors
    /// `PermissionDenied`, with the text of HDFS.
    pub fn check(&self, author: Author<'_>, path: &Components<'_>, asked: Asked) -> Result<(), WireError> {
        if author.is_privileged {
            return Ok(());
        }
        let mut chain = vec![ROOT_SLOT];
        for name in path.names() {
            match self.child(chain[chain.len() - 1], name) {
                Some(child) => chain.push(child),
                None => break,
            }
        }
        self.check_chain(author, &chain, path.names().len() + 1, asked)
    }

    /// What it takes to list a path: nothing of a file, which lists itself (HDFS: `FSDirStatAndListingOp.getListingInt`).
    pub fn to_list(&self, path: &str) -> Asked {
        let found = Components::parse(path).ok().map(|path| self.find(path.names()));
        match found {
            Some(Found::Inode(slot)) if self.inodes.get(slot).is_directory() => {
                Asked::target(Access::READ_EXECUTE)
            }
            _ => Asked::TRAVERSE,
        }
    }

    /// As [`Self::check`], for an inode that is known by its number.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn check_inode(&self, author: Author<'_>, inode: InodeId, asked: Asked) -> Result<(), WireError> {
        let Some(mut slot) = self.slot_of(inode).filter(|_| !author.is_privileged) else { return Ok(()) };
        let mut chain = vec![slot];
        while slot != ROOT_SLOT && slot != NONE {
            slot = self.inodes.get(slot).parent;
            chain.push(slot);
        }
        chain.reverse();
        self.check_chain(author, &chain, chain.len(), asked)
    }

    /// Whether somebody may do something with an inode alone, however he came to it.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub(super) fn check_slot(&self, author: Author<'_>, slot: Slot, access: Access) -> Result<(), WireError> {
        if author.is_privileged || self.is_allowed(author, slot, access) {
            return Ok(());
        }
        let message = format!(
            "Permission denied: user={}, access={}, inode={}",
            author.user,
            access.name(),
            self.describe(slot)
        );
        Err(WireError::new(Code::PermissionDenied, message))
    }

    /// `chain` is what exists of a path of `depth` inodes, the root first.
    fn check_chain(
        &self,
        author: Author<'_>,
        chain: &[Slot],
        depth: usize,
        asked: Asked,
    ) -> Result<(), WireError> {
        let ancestors = &chain[..chain.len().min(depth - 1)];
        for slot in ancestors.iter().filter(|slot| self.inodes.get(**slot).is_directory()) {
            self.check_slot(author, *slot, Access::EXECUTE)?;
        }
        let parent = ancestors.last().copied().filter(|_| ancestors.len() == depth - 1);
        let target = chain.get(depth - 1).copied();
        if let (Some(parent), Some(target), Some(true)) =
            (parent, target, asked.parent.map(Access::has_write))
        {
            self.check_sticky(author, parent, target)?;
        }
        let wanted =
            [(ancestors.last().copied(), asked.ancestor), (parent, asked.parent), (target, asked.target)];
        for (slot, access) in wanted {
            if let (Some(slot), Some(access)) = (slot, access) {
                self.check_slot(author, slot, access)?;
            }
        }
        let Some(target) = target else { return Ok(()) };
        if asked.is_subtree {
            let inode = self.inodes.get(target).id;
            if self.permit_subtree(author, inode, "", SUBTREE_COST_MAX)?.is_some() {
                let message = format!(
                    "{} has more than {SUBTREE_COST_MAX} entries: delete it in a call of its own",
                    self.path_of(target)
                );
                return Err(WireError::new(Code::LimitExceeded, message));
            }
        }
        if asked.is_owner { self.check_owner(author, target) } else { Ok(()) }
    }

    /// One turn of the look at whether somebody may remove all that is at and below an inode, taken up behind the relative
    /// path `after`. Returns where the next turn goes on; `None` when all was looked at. HDFS:
    /// `FSPermissionChecker.checkSubAccess`, with empty directories left out.
    ///
    /// # Errors
    /// `PermissionDenied`.
    pub fn permit_subtree(
        &self,
        author: Author<'_>,
        inode: InodeId,
        after: &str,
        cost_max: usize,
    ) -> Result<Option<String>, WireError> {
        let Some(top) = self.slot_of(inode).filter(|_| !author.is_privileged) else { return Ok(None) };
        if after.is_empty() {
            self.check_unless_empty(author, top)?;
        }
        let whoever = Author { is_privileged: true, ..author };
        let Some(mut walk) = self.walk(whoever, inode, Everything { depth_max: 0 }, after) else {
            return Ok(None);
        };
        while let Some(visit) = walk.next_visit() {
            let Some(slot) = self.slot_of(visit.inode) else { continue };
            self.check_sticky(author, self.inodes.get(slot).parent, slot)?;
            self.check_unless_empty(author, slot)?;
            if walk.cost() >= cost_max {
                return Ok(Some(walk.path().to_owned()));
            }
        }
        Ok(None)
    }

    fn check_unless_empty(&self, author: Author<'_>, slot: Slot) -> Result<(), WireError> {
        if self.child_count(slot) == 0 { Ok(()) } else { self.check_slot(author, slot, Access::ALL) }
    }

    fn check_sticky(&self, author: Author<'_>, parent: Slot, slot: Slot) -> Result<(), WireError> {
        if !self.is_sticky(parent) || self.is_owner(author, parent) || self.is_owner(author, slot) {
            return Ok(());
        }
        let message = format!(
            "Permission denied by sticky bit: user={}, path={}, parent={}",
            author.user,
            self.describe(slot),
            self.describe(parent)
        );
        Err(WireError::new(Code::PermissionDenied, message))
    }

    fn check_owner(&self, author: Author<'_>, slot: Slot) -> Result<(), WireError> {
        if self.is_owner(author, slot) {
            return Ok(());
        }
        let message = format!(
            "Permission denied. user={} is not the owner of inode={}",
            author.user,
            self.path_of(slot)
        );
        Err(WireError::new(Code::PermissionDenied, message))
    }

    pub(super) fn is_owner(&self, author: Author<'_>, slot: Slot) -> bool {
        self.principals.name(self.inodes.get(slot).owner) == author.user
    }

    pub(super) fn is_sticky(&self, slot: Slot) -> bool {
        self.inodes.get(slot).mode & STICKY != 0
    }

    fn is_allowed(&self, author: Author<'_>, slot: Slot, access: Access) -> bool {
        let inode = self.inodes.get(slot);
        if let Some(extra) = self.extra_of(slot) {
            let principals = (self.principals.name(inode.owner), self.principals.name(inode.group));
            if let Some(is_allowed) = acl::allows(&extra.acl, inode.mode, principals, author, access) {
                return is_allowed;
            }
        }
        let bits = if self.is_owner(author, slot) {
            inode.mode >> 6
        } else if author.is_member(self.principals.name(inode.group)) {
            inode.mode >> 3
        } else {
            inode.mode
        };
        access.is_in(bits & 7)
    }

    /// `"path":owner:group:mode`, as HDFS writes it.
    fn describe(&self, slot: Slot) -> String {
        let inode = self.inodes.get(slot);
        let kind = if inode.is_directory() { 'd' } else { '-' };
        let (owner, group) = (self.principals.name(inode.owner), self.principals.name(inode.group));
        format!("\"{}\":{owner}:{group}:{kind}{}", self.path_of(slot), symbols(inode.mode))
    }
}

/// A mode as `ls` shows it (HDFS: `FsPermission.toString`).
fn symbols(mode: u16) -> String {
    let mut text: String =
        (0..9).map(|bit| if mode & (0o400 >> bit) == 0 { '-' } else { ['r', 'w', 'x'][bit % 3] }).collect();
    if mode & STICKY != 0 {
        text.pop();
        text.push(if mode & 1 == 0 { 'T' } else { 't' });
    }
    text
}
