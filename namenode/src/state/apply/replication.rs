//! How many replicas a file shall have.

use ringfs_proto::path::Components;

use super::super::inode::Kind;
use super::super::{Applied, Effect, Outcome, State};
use crate::wal::record::SetReplicationV1;

impl State {
    /// HDFS: `FSDirAttrOp.setReplication`. The blocks of an open file follow when they are committed.
    pub(super) fn set_replication(
        &mut self,
        change: &SetReplicationV1,
        effects: &mut Vec<Effect>,
    ) -> Outcome {
        let path = Components::parse(&change.path)?;
        let slot = self.find_existing(&path)?;
        let Kind::File { replication, blocks, .. } = &mut self.inodes.get_mut(slot).kind else {
            return Ok(Applied::ReplicationSet(false));
        };
        let list = *blocks;
        if *replication != change.replication {
            *replication = change.replication;
            let committed = self.blocks.iter(&list).filter(|view| !view.is_open);
            effects.extend(committed.map(|view| Effect::ReplicationChanged(view.slot)));
        }
        Ok(Applied::ReplicationSet(true))
    }
}
