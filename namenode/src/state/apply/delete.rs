//! Deleting files and trees.

use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::{NONE, Slot};
use super::super::inode::{Inode, Kind};
use super::super::tree::Found;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::DeleteV1;

impl State {
    /// HDFS: `FSDirDeleteOp.delete`.
    pub(super) fn delete(&mut self, change: &DeleteV1, effects: &mut Vec<Effect>) -> Outcome {
        let path = Components::parse(&change.path)?;
        let Found::Inode(slot) = self.find(path.names()) else { return Ok(Applied::Deleted(false)) };
        if path.is_root() {
            return Ok(Applied::Deleted(false));
        }
        if self.child_count(slot) > 0 && !change.recursive {
            let message = format!("{} is non empty", path.canonical());
            return Err(WireError::new(Code::NotEmpty, message));
        }
        self.remove_tree(slot, effects);
        Ok(Applied::Deleted(true))
    }

    /// Takes an inode out of its directory and frees it with all below. Depth is bounded by memory, not by the stack.
    pub(super) fn remove_tree(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        self.unlink(slot, self.time_ms);
        let mut doomed = vec![slot];
        while let Some(slot) = doomed.pop() {
            if let Some(children) = self.children(slot) {
                doomed.extend(children.iter());
            }
            self.free(slot, effects);
        }
    }

    fn free(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        let Inode { id, name, kind, .. } = *self.inodes.get(slot);
        match kind {
            Kind::Directory { children, .. } => {
                self.counts.directories -= 1;
                if children != NONE {
                    *self.directories.get_mut(children) = Default::default();
                    self.directories.remove(children);
                }
            }
            Kind::File { blocks: mut list, .. } => {
                self.counts.files -= 1;
                self.leases.forget(id);
                self.forget_truncation(id, effects);
                while let Some(view) = self.blocks.pop(&mut list) {
                    self.counts.blocks -= 1;
                    self.counts.committed_blocks -= u64::from(!view.is_open);
                    effects.push(Effect::BlockRemoved(view.slot, view.block));
                }
            }
        }
        self.names.remove(name);
        self.inode_slots.remove(id.0);
        self.inodes.remove(slot);
    }
}
