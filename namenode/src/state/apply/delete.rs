//! Deleting files and trees.

use ringfs_proto::path::Components;
use ringfs_proto::{Code, WireError};

use super::super::arena::Slot;
use super::super::tree::Found;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::DeleteV1;

impl State {
    /// HDFS: `FSDirDeleteOp.delete`.
    pub(super) fn delete(&mut self, change: &DeleteV1, effects: &mut Vec<Effect>) -> Outcome {
        let Some(slot) = self.to_delete(change)? else { return Ok(Applied::Deleted(false)) };
        self.remove_tree(slot, effects);
        Ok(Applied::Deleted(true))
    }

    /// What a deletion is about; `None` if there is nothing to delete.
    pub(super) fn to_delete(&self, change: &DeleteV1) -> Result<Option<Slot>, WireError> {
        let path = Components::parse(&change.path)?;
        let Found::Inode(slot) = self.find(path.names()) else { return Ok(None) };
        if self.child_count(slot) > 0 && !change.recursive {
            let message = format!("{} is non empty", path.canonical());
            return Err(WireError::new(Code::NotEmpty, message));
        }
        if path.is_root() {
            return Ok(None);
        }
        Ok(Some(slot))
    }

    /// Takes an inode out of its directory with all below, and frees as much of it as one record may.
    pub(super) fn remove_tree(&mut self, slot: Slot, effects: &mut Vec<Effect>) {
        self.detach(slot);
        self.free_detached(effects);
    }
}
