//! Pipelines that have failed: stamps, new pipelines, more datanodes (HDFS: `ClientProtocol.updateBlockForPipeline`,
//! `updatePipeline`, `getAdditionalDatanode`).

use ringfs_proto::capability::Mode;
use ringfs_proto::ids::{BlockId, DatanodeId, InodeId, Stamp, StorageId};
use ringfs_proto::limits::PIPELINE_NODES_MAX;
use ringfs_proto::meta::namespace::{
    AckedReplicaV1, AddDatanodesReplyV1, AddDatanodesRequestV1, BlockRefV1, UpdateBlockForPipelineReplyV1,
    UpdateBlockForPipelineRequestV1, UpdatePipelineRequestV1,
};
use ringfs_proto::{Code, WireError};

use super::{Core, Now};
use crate::blocks::StorageIndex;
use crate::calls::{Call, Reply};
use crate::datanodes::Placement;
use crate::state::{BlockView, Slot};
use crate::wal::record::{ChangeV1, NewStampV1, UpdatePipelineV1};

impl Core {
    /// The file that a writer means: HDFS clients name its block alone.
    fn file_of(&self, inode: InodeId, block: BlockId) -> InodeId {
        let of_block = || self.state.block(block).map(|(_, file)| file.inode);
        if inode == InodeId(0) { of_block().unwrap_or(inode) } else { inode }
    }

    pub(super) fn filter_new_stamp(
        &mut self,
        request: &UpdateBlockForPipelineRequestV1,
        call: &Call,
    ) -> Result<ChangeV1, WireError> {
        let UpdateBlockForPipelineRequestV1 { inode, block } = *request;
        let inode = self.file_of(inode, block.block);
        self.check_safe_mode(&format!("get a stamp for block {}", block.block))?;
        self.check_writer(inode, call.caller.session, Some(block))?;
        let stamp = self.next_stamp();
        Ok(ChangeV1::NewStamp(NewStampV1 { inode, block, stamp }))
    }

    pub(super) fn filter_update_pipeline(
        &self,
        request: &UpdatePipelineRequestV1,
        call: &Call,
    ) -> Result<ChangeV1, WireError> {
        let UpdatePipelineRequestV1 { inode, old, stamp, .. } = *request;
        let inode = self.file_of(inode, old.block);
        self.check_safe_mode(&format!("update the pipeline of block {}", old.block))?;
        self.check_not_recovering(inode, call.caller.session)?;
        self.state.check_lease(inode, call.caller.session)?;
        let pipeline = self.check_pipeline(&request.nodes)?;
        Ok(ChangeV1::UpdatePipeline(UpdatePipelineV1 { inode, old, stamp, pipeline }))
    }

    /// The storages of a pipeline, all of which are known here.
    fn check_pipeline(&self, nodes: &[AckedReplicaV1]) -> Result<Vec<StorageId>, WireError> {
        if nodes.is_empty() || nodes.len() > PIPELINE_NODES_MAX {
            let message = format!("a pipeline has 1 to {PIPELINE_NODES_MAX} datanodes, not {}", nodes.len());
            return Err(WireError::new(Code::InvalidArgument, message));
        }
        let unknown = nodes.iter().find(|node| self.nodes.index_of(node.storage).is_none());
        if let Some(node) = unknown {
            // Right after a start this passes: datanodes register as they find the namenode again.
            let message =
                format!("storage {} of datanode {} has not registered", node.storage, node.datanode);
            return Err(WireError::new(Code::Busy, message));
        }
        Ok(nodes.iter().map(|node| node.storage).collect())
    }

    /// Answers a writer that has a stamp for its next pipeline.
    pub(super) fn stamp_given(
        &self,
        inode: InodeId,
        block: BlockRefV1,
        stamp: Stamp,
        call: &Call,
        now: Now,
    ) -> Result<Reply, WireError> {
        let gone =
            || WireError::new(Code::NotFound, format!("block {} of inode {inode} is gone", block.block));
        let (view, file) = self.state.block(block.block).ok_or_else(gone)?;
        let next = BlockView { block: BlockRefV1 { stamp, ..view.block }, ..view };
        let capability = self.sign(&file, &next, Mode::Write, call, now);
        Ok(Reply::UpdateBlockForPipeline(UpdateBlockForPipelineReplyV1 { block, stamp, capability }))
    }

    /// Nothing is logged: a call that comes twice may get other datanodes, which harms nobody.
    pub(super) fn add_datanodes(
        &mut self,
        request: &AddDatanodesRequestV1,
        call: &Call,
        now: Now,
    ) -> Result<AddDatanodesReplyV1, WireError> {
        let AddDatanodesRequestV1 { inode, block, .. } = *request;
        let inode = self.file_of(inode, block);
        self.check_safe_mode(&format!("add datanodes to the pipeline of block {block}"))?;
        self.check_not_recovering(inode, call.caller.session)?;
        self.state.check_lease(inode, call.caller.session)?;
        let file = self.state.file(inode)?;
        let last = self.state.last_block_of(&file);
        let Some(view) = last.filter(|last| last.is_open && last.block.block == block) else {
            let message = format!("block {block} is not the open last block of inode {inode}");
            return Err(WireError::new(Code::InvalidArgument, message));
        };
        let room = PIPELINE_NODES_MAX.saturating_sub(request.existing.len());
        let replicas = usize::from(request.count).min(room);
        let existing = request.existing.iter().map(|replica| replica.datanode);
        let excluded: Vec<DatanodeId> = request.excluded.iter().copied().chain(existing).collect();
        let (bytes, writer) = (file.block_size, call.caller.address);
        let placed = self.nodes.place(&Placement { replicas, bytes, writer, excluded: &excluded });
        if placed.is_empty() {
            let message = format!("no other datanode has room for block {block} ({bytes} bytes)");
            return Err(WireError::new(Code::NoRoom, message));
        }
        let nodes = placed.iter().map(|storage| self.nodes.node(*storage)).collect();
        Ok(AddDatanodesReplyV1 { nodes, capability: self.sign(&file, &view, Mode::Write, call, now) })
    }

    /// Where an open block is written: as the log says.
    pub(super) fn logged_pipeline(&self, inode: InodeId) -> Vec<StorageIndex> {
        let file = self.state.leases().get(inode);
        let storages = file.into_iter().flat_map(|file| &file.pipeline);
        storages.filter_map(|storage| self.nodes.index_of(*storage)).collect()
    }

    /// A pipeline stands again.
    pub(super) fn pipeline_updated(&mut self, slot: Slot, block: BlockRefV1) {
        let Some((_, file)) = self.state.block(block.block) else { return };
        let pipeline = self.logged_pipeline(file.inode);
        if let Some(open) = self.blocks.open(slot) {
            let dropped: Vec<StorageIndex> =
                open.pipeline.iter().copied().filter(|storage| !pipeline.contains(storage)).collect();
            let promised_bytes = open.promised_bytes;
            self.nodes.release(&dropped, promised_bytes);
            self.blocks.set_pipeline(slot, pipeline, promised_bytes);
        }
    }

    /// A writer came back to a block that was closed without it.
    pub(super) fn reopened(&mut self, slot: Slot, block: BlockRefV1) {
        self.blocks.reopen(slot, block);
        self.give_up_copies_to(slot);
        self.judge(slot);
    }

    /// The next stamp: above all that were applied or are logged.
    pub(super) fn next_stamp(&mut self) -> Stamp {
        self.last_ids.1 = Stamp(self.last_ids.1.0 + 1);
        self.last_ids.1
    }
}
