//! Deletion of trees by those who are no superusers: they need the right to every directory below (HDFS:
//! `FSPermissionChecker.checkSubAccess`), which is looked at in turns before the deletion is logged.
//!
//! What is made or changed in the part that was looked at already, while the look goes on, is not looked at again: the
//! right counts as it was when its turn came.

use std::collections::VecDeque;

use ringfs_proto::ids::InodeId;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::{Core, Now, Promise};
use crate::calls::Call;
use crate::wal::record::{ChangeV1, DeleteV1};

/// Trees that are looked at; beyond, callers are told to come back.
const SUBTREES_MAX: usize = 1024;
/// Inodes that are looked at in one turn.
pub const INODES_PER_TURN_MAX: usize = 4096;

/// A tree that is being looked at.
#[derive(Debug)]
struct Subtree {
    call: Call,
    delete: DeleteV1,
    inode: InodeId,
    /// Where the next turn goes on, relative to the inode.
    after: String,
}

/// All trees that are being looked at; they take turns.
#[derive(Debug, Default)]
pub(super) struct Subtrees {
    waiting: VecDeque<Subtree>,
}

impl Subtrees {
    pub fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl Core {
    /// Logs a change if its author may make it, at once or after a look at what is below.
    pub(super) fn permit_and_log(&mut self, call: Call, change: ChangeV1, promise: Promise, now: Now) {
        let author = call.caller.author();
        match change {
            ChangeV1::Delete(delete) if delete.recursive && !author.is_privileged => {
                self.begin_subtree(call, delete, now);
            }
            change => match self.state.permit(author, &change) {
                Ok(()) => self.log_unless_foreseen(call, change, promise, now),
                // Only a change of a path is refused so, and none of those has a promise.
                Err(error) => self.answer(call, Err(error)),
            },
        }
    }

    fn begin_subtree(&mut self, call: Call, delete: DeleteV1, now: Now) {
        let delete = DeleteV1 { is_subtree_permitted: true, ..delete };
        let change = ChangeV1::Delete(delete.clone());
        if let Err(error) = self.state.permit(call.caller.author(), &change) {
            return self.answer(call, Err(error));
        }
        match self.inode_at(&delete.path) {
            Some(inode) => self.look_below(Subtree { call, delete, inode, after: String::new() }, now),
            None => self.log_unless_foreseen(call, change, Promise::default(), now),
        }
    }

    fn inode_at(&self, path: &str) -> Option<InodeId> {
        Some(self.state.stat(&Components::parse(path).ok()?).ok()?.inode)
    }

    /// One turn of the tree that has waited longest.
    pub(super) fn go_on_below(&mut self, now: Now) {
        if let Some(subtree) = self.subtrees.waiting.pop_front() {
            self.look_below(subtree, now);
        }
    }

    fn look_below(&mut self, mut subtree: Subtree, now: Now) {
        let author = subtree.call.caller.author();
        match self.state.permit_subtree(author, subtree.inode, &subtree.after, INODES_PER_TURN_MAX) {
            Err(error) => self.answer(subtree.call, Err(error)),
            Ok(None) => self.log_permitted(subtree, now),
            Ok(Some(_)) if self.subtrees.waiting.len() >= SUBTREES_MAX => {
                let error = WireError::new(Code::Busy, format!("{SUBTREES_MAX} trees are to be deleted"));
                self.answer(subtree.call, Err(error));
            }
            Ok(Some(after)) => {
                subtree.after = after;
                self.subtrees.waiting.push_back(subtree);
            }
        }
    }

    /// All that is below was looked at. Meanwhile the call may have come again, and the path may lead elsewhere.
    fn log_permitted(&mut self, subtree: Subtree, now: Now) {
        let Subtree { call, delete, inode, .. } = subtree;
        let Some(call) = self.unknown(call, now) else { return };
        if self.inode_at(&delete.path).is_some_and(|found| found != inode) {
            return self.begin_subtree(call, delete, now);
        }
        let is_accepted = self.check_safe_mode(&format!("delete {}", delete.path));
        let change = ChangeV1::Delete(delete);
        match is_accepted.and_then(|()| self.state.permit(call.caller.author(), &change)) {
            Ok(()) => self.log_unless_foreseen(call, change, Promise::default(), now),
            Err(error) => self.answer(call, Err(error)),
        }
    }
}
