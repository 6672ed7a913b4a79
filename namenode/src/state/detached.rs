//! Trees that were taken out of the namespace and are freed bit by bit.
//!
//! Deleting takes a tree out of its directory: from then on no path and no inode id leads to it. What is below is freed by
//! that record and by later ones, a bounded number of inodes and blocks each, so that no record of the log stops all others
//! for long. Part of the logged state: a replay frees the same, record by record.

use ringfs_proto::ids::InodeId;

use super::arena::{NONE, Slot};
use super::inode::{Inode, Kind};
use super::{Effect, ROOT_SLOT, State};

/// Steps that one record takes at most: freeing a block or an inode is one, taking an entry out of its directory another.
pub const FREE_STEPS_PER_RECORD_MAX: usize = 2048;

/// The roots of what is still to be freed. The last one goes first.
#[derive(Debug)]
pub(super) struct Detached {
    roots: Vec<InodeId>,
    /// Steps of one record: a constant, but for tests.
    pub steps_max: usize,
    /// Steps that the present record may still take.
    left: usize,
    /// The most that one record has taken since the start.
    most: usize,
}

impl Default for Detached {
    fn default() -> Self {
        Self { roots: Vec::new(), steps_max: FREE_STEPS_PER_RECORD_MAX, left: 0, most: 0 }
    }
}

impl Detached {
    /// A record begins.
    pub fn begin_record(&mut self) {
        self.left = self.steps_max;
    }

    pub fn roots(&self) -> &[InodeId] {
        &self.roots
    }

    /// Puts the roots back from a checkpoint.
    pub fn restore(&mut self, roots: Vec<InodeId>) {
        self.roots = roots;
    }

    fn step(&mut self) {
        self.left = self.left.saturating_sub(1);
        self.most = self.most.max(self.steps_max - self.left);
    }
}

impl State {
    /// The slot of an inode that is part of the namespace.
    pub(super) fn slot_of(&self, inode: InodeId) -> Option<Slot> {
        let slot = self.inode_slots.get(inode.0)?;
        (self.detached.roots.is_empty() || self.is_attached(slot)).then_some(slot)
    }

    fn is_attached(&self, mut slot: Slot) -> bool {
        while slot != ROOT_SLOT && slot != NONE {
            slot = self.inodes.get(slot).parent;
        }
        slot == ROOT_SLOT
    }

    /// Whether there is something that was deleted and is not freed.
    pub fn has_detached(&self) -> bool {
        !self.detached.roots.is_empty()
    }

    /// The most steps that one record has taken to free what was deleted, since the start.
    pub fn free_steps_in_one_record(&self) -> usize {
        self.detached.most
    }

    /// Takes a tree out of its directory, for good.
    pub(super) fn detach(&mut self, slot: Slot) {
        let parent = self.inodes.get(slot).parent;
        self.unlink(slot, self.time_ms);
        if self.undo.is_some() {
            self.inodes.get_mut(slot).parent = NONE;
            self.note_removed(slot, parent);
        } else {
            self.give_up(slot);
        }
    }

    /// A tree that is in no directory is to be freed.
    pub(super) fn give_up(&mut self, slot: Slot) {
        let inode = self.inodes.get_mut(slot);
        inode.parent = NONE;
        let id = inode.id;
        self.detached.roots.push(id);
    }

    /// Frees as much as this record may.
    pub(super) fn free_detached(&mut self, effects: &mut Vec<Effect>) {
        // What may have to be brought back is in no directory, but not given up.
        while self.detached.left > 0
            && self.undo.is_none()
            && let Some(root) = self.detached.roots.last()
        {
            let slot = self.inode_slots.get(root.0).expect("what is to be freed is there");
            self.free_some(slot, effects);
        }
    }

    /// Goes on with the root that goes first: it becomes empty by one entry or by some blocks, or it is freed.
    fn free_some(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        if let Some(child) = self.pop_child(slot) {
            self.detached.step();
            self.give_up(child);
        } else if self.free_blocks(slot, effects) {
            self.detached.step();
            self.detached.roots.pop();
            self.free(slot);
        }
    }

    /// Takes the last entry out of a directory that is being freed.
    fn pop_child(&mut self, directory: Slot) -> Option<Slot> {
        let Kind::Directory { children, count } = &mut self.inodes.get_mut(directory).kind else {
            return None;
        };
        let children = Some(*children).filter(|children| *children != NONE)?;
        *count = count.saturating_sub(1);
        self.directories.get_mut(children).pop()
    }

    /// Frees blocks of a file; whether all are freed.
    fn free_blocks(&mut self, slot: Slot, effects: &mut Vec<Effect>) -> bool {
        // First: what is being cut has the block that is cut, in every checkpoint.
        self.forget_truncation(self.inodes.get(slot).id, effects);
        let (mut list, kind) = (self.list_of(slot), self.checksum_of(slot));
        while self.detached.left > 0
            && let Some(view) = self.blocks.pop(&mut list, kind)
        {
            self.detached.step();
            self.removed(&view, effects);
        }
        self.set_list(slot, list);
        self.blocks.last(list).is_none()
    }

    /// Frees an inode that is in no directory and has neither entries nor blocks.
    pub(super) fn free(&mut self, slot: Slot) {
        let Inode { id, name, kind, .. } = *self.inodes.get(slot);
        match kind {
            Kind::Directory { children, .. } => {
                self.counts.directories -= 1;
                if children != NONE {
                    *self.directories.get_mut(children) = Default::default();
                    self.directories.remove(children);
                }
            }
            Kind::File { .. } => {
                self.counts.files -= 1;
                self.leases.forget(id);
            }
        }
        self.drop_extra(slot);
        self.names.remove(name);
        self.inode_slots.remove(id.0);
        self.inodes.remove(slot);
    }
}
