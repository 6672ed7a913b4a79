//! Small files: contents that are kept in the log.

use ringfs_proto::ids::BlockId;
use ringfs_proto::limits::FILE_BLOCKS_MAX;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::blocks::BlockView;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::{MoveValuesV1, PutV1, RecordV1, TailV1, ValueV1};
use crate::wal::{ValuePlace, ValuesAt};

impl State {
    /// Where the values of the records that come next are: those of one batch.
    pub fn set_values_at(&mut self, at: ValuesAt) {
        self.values_at = at;
    }

    /// A file with its content, closed.
    pub(super) fn put(&mut self, change: &PutV1, record: &RecordV1, effects: &mut Vec<Effect>) -> Outcome {
        self.check_unused(change.block)?;
        let Applied::Created(inode) = self.create(&change.file, record, effects)? else {
            return Err(WireError::new(Code::Internal, "a file that was put was not created"));
        };
        if let (Some(value), Some(slot)) = (change.value, self.slot_of(inode)) {
            self.push_value(slot, change.block, value);
        }
        self.leases.close(inode);
        let index = self.applied;
        if let Some(slot) = self.slot_of(inode) {
            self.inodes.get_mut(slot).version = index;
        }
        Ok(Applied::Completed(inode))
    }

    /// Refuses the end of a file that is about to be closed, before anything is changed.
    pub(super) fn check_tail(
        &self,
        slot: Slot,
        last: Option<BlockView>,
        tail: &TailV1,
    ) -> Result<(), WireError> {
        self.check_unused(tail.block)?;
        let is_value = last.is_some_and(|last| last.value.is_some());
        if tail.replaces_last && !is_value {
            let message = format!("the last block of {} is none that can be replaced", self.path_of(slot));
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        if !tail.replaces_last && self.blocks.count(&self.list_of(slot)) >= FILE_BLOCKS_MAX as usize {
            let message = format!("file {} has {FILE_BLOCKS_MAX} blocks", self.path_of(slot));
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        Ok(())
    }

    /// Refuses an id that was given out before: no log of ours says so.
    pub(super) fn check_unused(&self, block: BlockId) -> Result<(), WireError> {
        if self.blocks.find(block).is_none() {
            return Ok(());
        }
        Err(WireError::new(Code::Internal, format!("block {block} is in use")))
    }

    /// Puts the end of a file into its place.
    pub(super) fn set_tail(&mut self, slot: Slot, tail: &TailV1) {
        if tail.replaces_last {
            let (mut list, kind) = (self.list_of(slot), self.checksum_of(slot));
            self.blocks.pop(&mut list, kind);
            self.set_list(slot, list);
        }
        self.push_value(slot, tail.block, tail.value);
    }

    pub(super) fn move_values(&mut self, change: &MoveValuesV1) -> Outcome {
        for moved in &change.moved {
            self.blocks.move_value(moved.block, (change.segment, moved.offset), self.place_of(moved.value));
        }
        Ok(Applied::Done)
    }

    /// A block or a value is off its file's list.
    pub(in super::super) fn removed(&mut self, view: &BlockView, effects: &mut Vec<Effect>) {
        if view.value.is_none() {
            self.counts.blocks -= 1;
            self.counts.committed_blocks -= u64::from(!view.is_open);
            effects.push(Effect::BlockRemoved(view.slot, view.block));
        }
    }

    fn push_value(&mut self, slot: Slot, block: BlockId, value: ValueV1) {
        let (mut list, kind) = (self.list_of(slot), self.checksum_of(slot));
        let place = self.place_of(value);
        self.blocks.push_value(&mut list, kind, slot, block, place, u64::from(value.len));
        self.set_list(slot, list);
    }

    fn place_of(&self, value: ValueV1) -> ValuePlace {
        let ValuesAt { segment, offset } = self.values_at;
        ValuePlace { segment, offset: offset + u64::from(value.at), len: value.len, crc: value.crc }
    }
}
