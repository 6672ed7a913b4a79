//! Stamps for pipelines that have failed, and the recovery of files whose writers are gone.

use ringfs_proto::ids::{InodeId, SessionId, Stamp};
use ringfs_proto::limits::BLOCK_BYTES_MAX;
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::blocks::BlockView;
use super::super::leases::Recovered;
use super::super::{Applied, Effect, Outcome, StampGiven, State};
use crate::wal::record::{CloseFileV1, FenceWriterV1, FileEndV1, NewStampV1, UpdatePipelineV1};

impl State {
    /// HDFS: `FSNamesystem.bumpBlockGenerationStamp`.
    pub(super) fn new_stamp(
        &mut self,
        change: &NewStampV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        self.reopen_for(change.inode, session, Some(change.block), true, effects)?;
        let view = self.open_last(change.inode, session, change.block)?;
        self.open_file(change.inode)?.given_stamp = change.stamp;
        let block = BlockRefV1 { length: change.block.length, ..view.block };
        Ok(Applied::StampGiven(StampGiven { block, stamp: change.stamp }))
    }

    /// HDFS: `FSNamesystem.updatePipeline`.
    pub(super) fn update_pipeline(
        &mut self,
        change: &UpdatePipelineV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let view = self.open_last(change.inode, session, change.old)?;
        let invalid = |reason: String| {
            let message = format!("update pipeline of block {}: {reason}", change.old.block);
            Err(WireError::new(Code::InvalidArgument, message))
        };
        if view.block.stamp != change.old.stamp {
            return invalid(format!("it has stamp {}, not {}", view.block.stamp, change.old.stamp));
        }
        let file = self.open_file(change.inode)?;
        if change.stamp != file.given_stamp || change.stamp == change.old.stamp {
            return invalid(format!("stamp {} was not given out for it", change.stamp));
        }
        if change.old.length < file.acked_length {
            return invalid(format!(
                "{} bytes were acknowledged, not {}",
                file.acked_length, change.old.length
            ));
        }
        (file.acked_length, file.has_stood) = (change.old.length, true);
        file.pipeline.clone_from(&change.pipeline);
        self.blocks.set_stamp(view.slot, change.stamp);
        effects.push(Effect::PipelineUpdated(view.slot, BlockRefV1 { stamp: change.stamp, ..view.block }));
        Ok(Applied::Done)
    }

    /// HDFS: `FSNamesystem.internalReleaseLease`, `BlockUnderConstructionFeature.initializeBlockRecovery`.
    pub(super) fn fence_writer(&mut self, change: &FenceWriterV1) -> Outcome {
        let slot = self.file_slot(change.inode)?;
        let last = self.blocks.last(self.list_of(slot));
        if !last.is_some_and(|last| last.is_open && last.block.block == change.block) {
            let message = format!("block {} is not the open last block of its file", change.block);
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        self.open_file(change.inode)?.recovery_stamp = Some(change.stamp);
        Ok(Applied::Done)
    }

    /// HDFS: `FSNamesystem.commitBlockSynchronization`, `closeFileCommitBlocks`.
    pub(super) fn close_file(&mut self, change: &CloseFileV1, effects: &mut Vec<Effect>) -> Outcome {
        let slot = self.file_slot(change.inode)?;
        self.check_end(slot, change)?;
        let mut list = self.list_of(slot);
        let last = self.blocks.last(list);
        match (change.end, last) {
            (FileEndV1::Commit(block), Some(last)) => {
                self.blocks.set_stamp(last.slot, block.stamp);
                self.blocks.commit(last.slot, block.length, change.crc);
                self.counts.committed_blocks += 1;
                effects.push(Effect::BlockCommitted(last.slot, block));
            }
            (FileEndV1::Remove(_), Some(last)) => {
                self.blocks.pop(&mut list, self.checksum_of(slot));
                self.set_list(slot, list);
                self.removed(&last, effects);
            }
            _ => {}
        }
        let last = self.blocks.last(list).map(|view| view.block);
        let file = self.leases.close(change.inode);
        if let Some(file) = file {
            let (first_stamp, given_stamp) = match change.end {
                FileEndV1::Commit(_) => (file.first_stamp, file.given_stamp),
                // The writer knows the block before as it is.
                FileEndV1::AsIs | FileEndV1::Remove(_) => {
                    let stamp = last.map_or(Stamp(0), |block| block.stamp);
                    (stamp, stamp)
                }
            };
            let index = self.applied;
            let recovered = Recovered { session: file.session, last, first_stamp, given_stamp, index };
            self.leases.remember(change.inode, recovered);
        }
        let (index, time_ms) = (self.applied, self.time_ms);
        let inode = self.inodes.get_mut(slot);
        (inode.version, inode.mtime_ms) = (index, time_ms);
        Ok(Applied::Completed(change.inode))
    }

    /// Whether the file is still as it was when its end was decided.
    fn check_end(&self, slot: Slot, change: &CloseFileV1) -> Result<(), WireError> {
        let last = self.blocks.last(self.list_of(slot)).filter(|last| last.is_open);
        let file = self.leases.get(change.inode);
        let is_ours = file.is_some_and(|file| file.recovery_stamp == change.recovery_stamp);
        let is_held = file.is_some_and(|file| file.session == change.holder);
        let acked_length = file.map_or(0, |file| file.acked_length);
        let is_last = match (change.end, last) {
            (FileEndV1::AsIs, None) => true,
            (FileEndV1::Commit(block), Some(last)) => {
                last.block.block == block.block
                    && change.recovery_stamp == Some(block.stamp)
                    && (acked_length..=BLOCK_BYTES_MAX).contains(&block.length)
            }
            (FileEndV1::Remove(block), Some(last)) => last.block.block == block && acked_length == 0,
            _ => false,
        };
        if is_ours && is_held && is_last {
            return Ok(());
        }
        let path = self.path_of(slot);
        let message = format!("close {path} for its writer: it changed since that was decided");
        Err(WireError::new(Code::InvalidArgument, message))
    }

    /// Gives a file back to the writer that it was taken from, if it is as the writer left it and nobody has opened it since.
    /// Does nothing when the file is open or was never taken. With `whole` its last block is opened too.
    ///
    /// # Errors
    /// `LeaseLost`: the file is not as the writer left it.
    pub(super) fn reopen_for(
        &mut self,
        inode: InodeId,
        session: SessionId,
        acked: Option<BlockRefV1>,
        whole: bool,
        effects: &mut Vec<Effect>,
    ) -> Result<Option<Recovered>, WireError> {
        let Some(recovered) = self.returning(inode, session, acked)? else { return Ok(None) };
        self.leases.open(inode, session);
        let (Some(slot), Some(last), true) = (self.slot_of(inode), recovered.last, whole) else {
            return Ok(Some(recovered));
        };
        let Some(view) = self.blocks.last(self.list_of(slot)) else { return Ok(Some(recovered)) };
        self.blocks.reopen(view.slot);
        self.counts.committed_blocks -= u64::from(!view.is_open);
        effects.push(Effect::BlockReopened(view.slot, last));
        let file = self.open_file(inode)?;
        file.begin_block(last.stamp, Vec::new());
        file.first_stamp = recovered.first_stamp;
        (file.acked_length, file.has_stood) = (last.length, true);
        Ok(Some(recovered))
    }

    /// What is remembered of a writer that comes back to a closed file which is as it was left; `None` when nobody came
    /// back.
    ///
    /// # Errors
    /// `LeaseLost`: it is not as the writer left it.
    pub fn returning(
        &self,
        inode: InodeId,
        session: SessionId,
        acked: Option<BlockRefV1>,
    ) -> Result<Option<Recovered>, WireError> {
        let recovered = self.leases.recovered(inode).filter(|recovered| recovered.session == session);
        let is_closed = self.leases.get(inode).is_none() && self.slot_of(inode).is_some();
        let Some(recovered) = recovered.filter(|_| is_closed) else { return Ok(None) };
        if recovered.is_as_left(session, acked) {
            return Ok(Some(*recovered));
        }
        let length = |block: Option<BlockRefV1>| {
            block.map_or("no block".to_owned(), |b| format!("{} bytes in block {}", b.length, b.block))
        };
        let path = self.path_of_inode(inode).unwrap_or_default();
        let message = format!(
            "No lease on {path} (inode {inode}): it was recovered and closed with {} at its end, its writer last saw {}",
            length(recovered.last),
            length(acked)
        );
        Err(WireError::new(Code::LeaseLost, message))
    }

    /// The open last block of a file that `session` writes.
    fn open_last(
        &self,
        inode: InodeId,
        session: SessionId,
        block: BlockRefV1,
    ) -> Result<BlockView, WireError> {
        let slot = self.leased(inode, session)?;
        let last = self.blocks.last(self.list_of(slot));
        last.filter(|last| last.is_open && last.block.block == block.block).ok_or_else(|| {
            let path = self.path_of(slot);
            let message = format!("block {} is not the open last block of {path}", block.block);
            WireError::new(Code::InvalidArgument, message)
        })
    }

    fn open_file(&mut self, inode: InodeId) -> Result<&mut super::super::OpenFile, WireError> {
        let closed = || WireError::new(Code::LeaseLost, format!("inode {inode} is not open for writing"));
        self.leases.get_mut(inode).ok_or_else(closed)
    }

    fn file_slot(&self, inode: InodeId) -> Result<Slot, WireError> {
        let gone = || WireError::new(Code::NotFound, format!("inode {inode} does not exist"));
        self.slot_of(inode).ok_or_else(gone)
    }
}
