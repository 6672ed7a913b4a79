//! Opening a closed file again, behind its end.

use ringfs_proto::ids::SessionId;
use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::AppendV1;

impl State {
    /// HDFS: `FSDirAppendOp.appendFile`.
    pub(super) fn append(
        &mut self,
        change: &AppendV1,
        session: SessionId,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let path = Components::parse(&change.path)?;
        let slot = self.find_existing(&path)?;
        if self.inodes.get(slot).is_directory() {
            let message =
                format!("Cannot append to directory {}; already exists as a directory.", change.path);
            return Err(WireError::new(Code::IsADirectory, message));
        }
        self.check_not_written(slot, session, "APPEND_FILE", &change.path)?;
        let last = self.blocks.last(self.list_of(slot));
        let reopened = change.reopened.and(last.filter(|last| last.value.is_none()));
        if reopened.map(|last| last.block) != change.reopened {
            let message = format!(
                "Failed to APPEND_FILE {} for {session} because another has written it meanwhile",
                change.path
            );
            return Err(WireError::new(Code::LeaseHeld, message));
        }
        let inode = self.inodes.get(slot).id;
        self.leases.open(inode, session);
        if let (Some(view), Some(file)) = (reopened, self.leases.get_mut(inode)) {
            file.begin_block(view.block.stamp, change.pipeline.clone());
            (file.acked_length, file.has_stood) = (view.block.length, true);
            self.blocks.reopen(view.slot);
            self.counts.committed_blocks -= 1;
            effects.push(Effect::BlockReopened(view.slot, view.block));
        }
        Ok(Applied::Opened(inode))
    }

    /// Refuses a file that somebody writes (HDFS: `FSNamesystem.recoverLeaseInternal`), or that is being truncated.
    pub(super) fn check_not_written(
        &self,
        slot: Slot,
        session: SessionId,
        verb: &str,
        path: &str,
    ) -> Result<(), WireError> {
        let inode = self.inodes.get(slot).id;
        let message = match self.leases.get(inode).map(|file| file.session) {
            Some(holder) if holder == session => {
                format!("Failed to {verb} {path} because {session} is already the current lease holder.")
            }
            Some(holder) => format!(
                "Failed to {verb} {path} for {session} because this file lease is currently owned by {holder}"
            ),
            None if self.truncations.get(inode).is_some() => {
                format!("Failed to {verb} {path} for {session} because this file is being truncated")
            }
            None => return Ok(()),
        };
        Err(WireError::new(Code::LeaseHeld, message))
    }
}
