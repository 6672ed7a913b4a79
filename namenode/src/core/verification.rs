//! What readers find bad: their word removes nothing, it has a datanode look.

use std::collections::BTreeMap;

use ringfs_proto::ids::BlockId;
use ringfs_proto::limits::COMMAND_BLOCKS_MAX;
use ringfs_proto::meta::membership::{CommandV1, VerifyV1};
use ringfs_proto::meta::namespace::{BadReplicaV1, DoneV1, ReportBadBlocksRequestV1};
use ringfs_proto::{Code, WireError};

use super::Core;
use crate::blocks::StorageIndex;

impl Core {
    /// Has the datanodes of replicas that a reader found bad verify them (HDFS: `FSNamesystem.reportBadBlocks`, which
    /// believes the reader). What is not known, or known to be bad, is passed over.
    pub(super) fn report_bad_blocks(
        &mut self,
        request: &ReportBadBlocksRequestV1,
    ) -> Result<DoneV1, WireError> {
        if request.replicas.len() > COMMAND_BLOCKS_MAX {
            let message = format!("{} bad replicas exceed {COMMAND_BLOCKS_MAX}", request.replicas.len());
            return Err(WireError::new(Code::LimitExceeded, message));
        }
        let mut by_storage: BTreeMap<StorageIndex, Vec<BlockId>> = BTreeMap::new();
        for replica in &request.replicas {
            if let Some(storage) = self.suspect(replica) {
                tracing::warn!(block = %replica.block.block, datanode = %replica.datanode, "a reader found a bad replica");
                by_storage.entry(storage).or_default().push(replica.block.block);
            }
        }
        for (index, mut blocks) in by_storage {
            blocks.sort_unstable();
            blocks.dedup();
            let storage = self.nodes.storage_mut(index).id;
            self.nodes.command(index, CommandV1::Verify(VerifyV1 { storage, blocks }));
        }
        Ok(DoneV1 { index: self.state.applied() })
    }

    /// The storage of a replica that counts as good, or that is being written.
    fn suspect(&self, replica: &BadReplicaV1) -> Option<StorageIndex> {
        let storage = self.nodes.find_storage(replica.datanode, replica.storage)?;
        let (view, _) = self.state.block(replica.block.block)?;
        let is_there = |other: StorageIndex| other == storage;
        let open = self.blocks.open(view.slot).filter(|_| view.is_open);
        let is_known = self.blocks.storages(view.slot).any(is_there)
            || open
                .is_some_and(|open| open.replicas.contains_key(&storage) || open.pipeline.contains(&storage));
        is_known.then_some(storage)
    }
}
