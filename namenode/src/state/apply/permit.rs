//! What each change asks of the permissions: one table. A change that is not about a path is its session's business, whose
//! lease decides.

use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::State;
use super::super::arena::Slot;
use super::super::permissions::{Access, Asked, Author};
use super::super::tree::Found;
use crate::wal::record::{ChangeV1, CreateV1, RecordV1, RenameV1, SetOwnerV1};

impl RecordV1 {
    /// On whose behalf it was made.
    pub fn author(&self) -> Author<'_> {
        Author { user: &self.user, groups: &self.groups, is_privileged: self.is_privileged }
    }
}

impl State {
    /// Whether somebody may make a change as things are now.
    ///
    /// # Errors
    /// `PermissionDenied`; what a path's check says.
    pub fn permit(&self, author: Author<'_>, change: &ChangeV1) -> Result<(), WireError> {
        if author.is_privileged {
            return Ok(());
        }
        let check = |path: &str, asked| self.check(author, &Components::parse(path)?, asked);
        let write = Asked::target(Access::WRITE);
        match change {
            // HDFS: FSDirMkdirOp.mkdirs.
            ChangeV1::Mkdirs(change) => check(&change.path, self.asked_to_make(&change.path)?),
            ChangeV1::Create(change) => self.permit_create(author, change),
            ChangeV1::Put(change) => self.permit_create(author, &change.file),
            ChangeV1::Rename(change) => self.permit_rename(author, change),
            // HDFS: FSDirDeleteOp.delete.
            ChangeV1::Delete(change) => {
                let is_subtree = change.recursive && !change.is_subtree_permitted;
                check(&change.path, Asked { is_subtree, ..Asked::parent(Access::WRITE) })
            }
            ChangeV1::SetReplication(change) => check(&change.path, write),
            ChangeV1::Append(change) => check(&change.path, write),
            ChangeV1::Truncate(change) => check(&change.path, write),
            // HDFS: FSDirConcatOp.verifySrcFiles.
            ChangeV1::Concat(change) => {
                check(&change.target, write)?;
                let source = Asked { target: Some(Access::READ), ..Asked::parent(Access::WRITE) };
                change.sources.iter().try_for_each(|path| check(path, source))
            }
            ChangeV1::SetPermission(change) => check(&change.path, Asked::OWNER),
            ChangeV1::SetOwner(change) => {
                check(&change.path, Asked::OWNER)?;
                permit_owner(author, change)
            }
            ChangeV1::SetTimes(change) => check(&change.path, write),
            // HDFS: FSDirAclOp.
            ChangeV1::ChangeAcl(change) => check(&change.path, Asked::OWNER),
            ChangeV1::SetXattr(change) => self.permit_xattr(author, &change.path, &change.xattr.name),
            ChangeV1::RemoveXattr(change) => self.permit_xattr(author, &change.path, &change.name),
            ChangeV1::SetStoragePolicy(change) => check(&change.path, write),
            // Each step asks when it is its turn: those before it may have changed what it may.
            ChangeV1::Commit(_) => Ok(()),
            ChangeV1::AddBlock(_)
            | ChangeV1::AbandonBlock(_)
            | ChangeV1::Complete(_)
            | ChangeV1::NewStamp(_)
            | ChangeV1::UpdatePipeline(_)
            | ChangeV1::FenceWriter(_)
            | ChangeV1::CloseFile(_)
            | ChangeV1::RaiseIds(_)
            | ChangeV1::Touch(_)
            | ChangeV1::EndTruncate(_)
            | ChangeV1::MoveValues(_)
            | ChangeV1::Free => Ok(()),
        }
    }

    /// What it takes to make a directory: nothing where one is already.
    fn asked_to_make(&self, path: &str) -> Result<Asked, WireError> {
        let is_there = matches!(self.find(Components::parse(path)?.names()), Found::Inode(_));
        Ok(if is_there { Asked::TRAVERSE } else { Asked::ancestor(Access::WRITE) })
    }

    /// HDFS: `FSDirWriteFileOp.resolvePathForStartFile`.
    fn permit_create(&self, author: Author<'_>, change: &CreateV1) -> Result<(), WireError> {
        let target = change.overwrite.then_some(Access::WRITE);
        let asked = Asked { target, ..Asked::ancestor(Access::WRITE) };
        self.check(author, &Components::parse(&change.path)?, asked)
    }

    /// HDFS: `FSDirXAttrOp.checkXAttrChangeAccess`, `XAttrPermissionFilter`: in a sticky directory anybody may write, but an
    /// attribute of it is its owner's.
    fn permit_xattr(&self, author: Author<'_>, path: &str, name: &str) -> Result<(), WireError> {
        if !name.starts_with("user.") {
            let message = format!("User doesn't have permission for xattr: {name}");
            return Err(WireError::new(Code::PermissionDenied, message));
        }
        let path = Components::parse(path)?;
        let is_sticky = |slot: Slot| self.inodes.get(slot).is_directory() && self.is_sticky(slot);
        let asked = match self.find(path.names()) {
            Found::Inode(slot) if is_sticky(slot) => Asked::OWNER,
            _ => Asked::target(Access::WRITE),
        };
        self.check(author, &path, asked)
    }

    /// HDFS: `FSDirRenameOp.renameTo`; and, what it does not ask, the right to take away what is replaced.
    fn permit_rename(&self, author: Author<'_>, change: &RenameV1) -> Result<(), WireError> {
        let (source, target) = (Components::parse(&change.source)?, Components::parse(&change.target)?);
        self.check(author, &source, Asked::parent(Access::WRITE))?;
        let parent = change.overwrite.then_some(Access::WRITE);
        self.check(author, &target, Asked { parent, ..Asked::ancestor(Access::WRITE) })
    }
}

/// HDFS: `FSDirAttrOp.setOwner`.
fn permit_owner(author: Author<'_>, change: &SetOwnerV1) -> Result<(), WireError> {
    let denied = |message| Err(WireError::new(Code::PermissionDenied, message));
    let user = author.user;
    if change.owner.as_ref().is_some_and(|owner| owner != user) {
        return denied(format!("User {user} is not a super user (non-super user cannot change owner)."));
    }
    match &change.group {
        Some(group) if !author.is_member(group) => denied(format!("User {user} does not belong to {group}")),
        _ => Ok(()),
    }
}
