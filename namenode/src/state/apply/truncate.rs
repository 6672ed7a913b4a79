//! Cutting a closed file.

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{InodeId, SessionId};
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::blocks::BlockView;
use super::super::inode::BlockList;
use super::super::truncations::Truncation;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::{CutV1, EndTruncateV1, TruncateV1};

impl State {
    /// HDFS: `FSDirTruncateOp.truncate`, which cuts the block in place unless a snapshot has it; here bytes below a
    /// finalized length never change.
    pub(super) fn truncate(
        &mut self,
        change: &TruncateV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let slot = self.find_existing(&Components::parse(&change.path)?)?;
        let Some(file) = self.file_view(slot) else {
            return Err(WireError::new(Code::IsADirectory, format!("Path is not a file: {}", change.path)));
        };
        self.check_not_written(slot, session, "TRUNCATE_FILE", &change.path)?;
        let length = self.blocks.length(file.blocks);
        if change.length > length {
            let message = format!(
                "Cannot truncate to a larger file size. Current size: {length}, truncate size: {}.",
                change.length
            );
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        if change.length == length {
            return Ok(Applied::Truncated(true));
        }
        match (self.cut_block(&file.blocks, change.length), &change.cut) {
            (None, _) => {
                self.drop_blocks(slot, change.length, effects);
                self.content_changed(slot);
                Ok(Applied::Truncated(true))
            }
            // Bytes of a value are left out of the count.
            (Some(view), _) if view.value.is_some() => {
                self.drop_blocks(slot, view.offset + view.block.length, effects);
                self.blocks.cut_value(view.slot, self.checksum_of(slot), change.length - view.offset);
                self.content_changed(slot);
                Ok(Applied::Truncated(true))
            }
            (Some(view), Some(cut)) if view.block == cut.old => {
                self.begin_cut(slot, &view, change.length, cut, effects);
                Ok(Applied::Truncated(false))
            }
            _ => {
                let message = format!(
                    "Failed to TRUNCATE_FILE {} for {session} because another has written it meanwhile",
                    change.path
                );
                Err(WireError::new(Code::LeaseHeld, message))
            }
        }
    }

    /// The block that has bytes on both sides of a length.
    pub(in super::super) fn cut_block(&self, list: &BlockList, length: u64) -> Option<BlockView> {
        let mut views = self.blocks.iter(list);
        views.find(|view| view.offset < length && length < view.offset + view.block.length)
    }

    fn begin_cut(
        &mut self,
        slot: Slot,
        view: &BlockView,
        length: u64,
        cut: &CutV1,
        effects: &mut Vec<Effect>,
    ) {
        let inode = self.inodes.get(slot).id;
        let new = BlockRefV1 { block: cut.block, stamp: cut.stamp, length: length - view.offset };
        let mut list = BlockList::Empty;
        let block_slot = self.blocks.push(&mut list, self.checksum_of(slot), slot, cut.block, cut.stamp);
        self.counts.blocks += 1;
        self.truncations.insert(inode, Truncation { old: view.block, new, list });
        effects.push(Effect::BlockAdded(block_slot, BlockRefV1 { length: 0, ..new }));
    }

    /// The new block has replicas: it takes its place, and what is behind it goes.
    pub(super) fn end_truncate(&mut self, change: &EndTruncateV1, effects: &mut Vec<Effect>) -> Outcome {
        let ours = self.truncations.get(change.inode).filter(|ours| ours.new.block == change.block);
        let slot = ours.and_then(|_| self.slot_of(change.inode));
        let (Some(truncation), Some(slot)) = (ours.copied(), slot) else {
            let message = format!("inode {} is not being truncated", change.inode);
            return Err(WireError::new(Code::InvalidArgument, message));
        };
        self.truncations.remove(change.inode);
        let list = self.list_of(slot);
        let old = self.blocks.iter(&list).find(|view| view.block.block == truncation.old.block);
        self.drop_blocks(slot, old.map_or(0, |view| view.offset), effects);
        let (mut list, mut new) = (self.list_of(slot), truncation.list);
        let new = self.blocks.take(&mut new);
        self.blocks.join(&mut list, self.checksum_of(slot), &new, slot);
        self.set_list(slot, list);
        if let Some(last) = self.blocks.last(list) {
            self.blocks.commit(last.slot, truncation.new.length, change.crc);
            self.counts.committed_blocks += 1;
            effects.push(Effect::BlockCommitted(last.slot, truncation.new));
        }
        self.content_changed(slot);
        Ok(Applied::Completed(change.inode))
    }

    /// A file that is being cut goes: so does its new block.
    pub(in super::super) fn forget_truncation(&mut self, inode: InodeId, effects: &mut Vec<Effect>) {
        let Some(mut truncation) = self.truncations.remove(inode) else { return };
        // The list has one block: nothing is known of what is before it.
        if let Some(view) = self.blocks.pop(&mut truncation.list, ChecksumType::Crc32c) {
            self.removed(&view, effects);
        }
    }

    /// Drops the blocks of a closed file from an offset on, where one of them begins or the file ends.
    fn drop_blocks(&mut self, slot: Slot, offset: u64, effects: &mut Vec<Effect>) {
        let (mut list, kind) = (self.list_of(slot), self.checksum_of(slot));
        while self.blocks.last(list).is_some_and(|last| last.offset >= offset)
            && let Some(view) = self.blocks.pop(&mut list, kind)
        {
            self.removed(&view, effects);
        }
        self.set_list(slot, list);
    }
}
