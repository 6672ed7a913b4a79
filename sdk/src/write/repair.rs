//! Carries out the recovery of a pipeline: the calls that [`super::recovery`] asks for.

use ringfs_proto::Code;
use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::ids::Stamp;
use ringfs_proto::meta::data::{RecoverV1, TransferReplicaRequestV1, WriteStage};
use ringfs_proto::meta::namespace::{
    AddDatanodesRequestV1, FileRefV1, GetBlockLocationsRequestV1, UpdateBlockForPipelineRequestV1,
    UpdatePipelineRequestV1,
};
use ringfs_proto::ops::{AddDatanodes, GetBlockLocations, UpdateBlockForPipeline, UpdatePipeline};

use super::Writer;
use super::block::{Goal, OpenBlock, address, pipeline_node, replica};
use super::recovery::{Failure, NoReplacement, Recovery, Step, Wishes};
use crate::error::{Error, Fault, Kind, Result};
use crate::limits::{LOCATE_TIMEOUT, PIPELINE_FAILURES_MAX};
use crate::patience::Patience;
use crate::transport::{Pipeline, PipelineError, TransportError};
use crate::{BlockRef, LocatedBlock, Node};

/// Failures of pipelines without progress in between.
#[derive(Debug, Default)]
pub(super) struct Failures {
    in_a_row: usize,
    /// Bytes of the file that were acknowledged at the last one.
    acked_bytes: u64,
}

impl Failures {
    /// Notes a failure; whether another try is worth it.
    fn note(&mut self, acked_bytes: u64) -> bool {
        let has_progress = self.acked_bytes != acked_bytes;
        self.in_a_row = if has_progress { 1 } else { self.in_a_row + 1 };
        self.acked_bytes = acked_bytes;
        self.in_a_row <= PIPELINE_FAILURES_MAX
    }
}

impl Writer {
    /// Gets the packets of a block as far as `goal`, over as many pipelines as it takes.
    pub(super) fn drive(&mut self, block: &mut OpenBlock, goal: Goal) -> Result<()> {
        while let Err(failure) = block.advance(&mut self.window, goal) {
            self.repair(block, failure)?;
        }
        Ok(())
    }

    /// Replaces a pipeline that has failed. What was not acknowledged is sent again.
    fn repair(&mut self, block: &mut OpenBlock, failure: PipelineError) -> Result<()> {
        let acked = self.window.acked_length();
        if !self.failures.note(self.finished_bytes + acked) {
            return Err(self.failed(Some(failure)));
        }
        if acked == 0 {
            // Nobody relies on it: a new block has all its replicas at once.
            self.exclude(&block.nodes, &failure);
            self.abandon_block(block.block)?;
            *block = self.open_block()?;
        } else {
            self.recover(block, failure)?;
        }
        self.window.rewind();
        Ok(())
    }

    fn recover(&mut self, block: &mut OpenBlock, failure: PipelineError) -> Result<()> {
        let acked = BlockRef { length: self.window.acked_length(), ..block.block };
        let mut recovery = Recovery::new(acked, std::mem::take(&mut block.nodes), self.wishes());
        self.note_failure(&mut recovery, &failure);
        *block = self.stand_up(recovery, Some(failure))?;
        Ok(())
    }

    /// Opens the last block of a file again, behind its bytes: as after a failure in which nobody failed.
    pub(super) fn reopen_block(&mut self, located: LocatedBlock) -> Result<OpenBlock> {
        let recovery = Recovery::new(located.block, located.nodes, self.wishes());
        self.stand_up(recovery, None)
    }

    fn wishes(&self) -> Wishes {
        Wishes {
            policy: self.shared.options.replace_policy,
            best_effort: self.shared.options.replace_best_effort,
            replication: usize::from(self.replication),
            is_flushed: self.is_flushed,
        }
    }

    /// Takes a recovery to its end: a pipeline that stands.
    fn stand_up(&mut self, mut recovery: Recovery, failure: Option<PipelineError>) -> Result<OpenBlock> {
        let mut patience = Patience::new(&self.shared);
        let mut last = failure;
        let mut opened: Option<Box<dyn Pipeline>> = None;
        loop {
            match recovery.next() {
                Step::AddNodes { count } => self.add_nodes(&mut recovery, count)?,
                Step::Transfer { source, targets, capability } => {
                    let copied = self.transfer(recovery.block(), &source, &targets, capability);
                    let noted = recovery.transferred(copied.as_ref().copied().map_err(reason));
                    noted.map_err(|none| self.no_replacement(none))?;
                }
                Step::NewStamp => {
                    let request =
                        UpdateBlockForPipelineRequestV1 { inode: self.inode, block: recovery.block() };
                    let namenode = &self.shared.namenode;
                    let reply =
                        namenode.call::<UpdateBlockForPipeline>("get a stamp for", &self.path, &request)?;
                    recovery.stamped(reply.block.stamp, reply.stamp, reply.capability);
                }
                Step::Open { stamp, capability } => match self.reopen(&recovery, stamp, capability) {
                    Ok(pipeline) => {
                        opened = Some(pipeline);
                        recovery.opened();
                    }
                    Err(error) => {
                        self.note_failure(&mut recovery, &error);
                        last = Some(error);
                    }
                },
                Step::Update { stamp } => {
                    self.update_pipeline(&recovery, stamp)?;
                    recovery.updated();
                }
                Step::Wait if patience.pause() => recovery.waited(&self.locate(recovery.block())),
                Step::Wait | Step::Lost => return Err(self.failed(last)),
                Step::Done => break,
            }
        }
        let (Some(standing), Some(pipeline)) = (recovery.standing(), opened) else {
            return Err(self.failed(last));
        };
        tracing::info!(path = self.path, block = %standing.block.block, nodes = standing.nodes.len(), "a pipeline stands again");
        Ok(OpenBlock { block: standing.block, nodes: standing.nodes, pipeline })
    }

    fn note_failure(&mut self, recovery: &mut Recovery, failure: &PipelineError) {
        // A fence is nobody's failure: the namenode knows whether this writer may go on.
        if failure.source.code() != Some(Code::StampMismatch) {
            self.exclude(recovery.nodes(), failure);
        }
        recovery.node_failed(failure.failed_node, reason(&failure.source));
    }

    fn add_nodes(&self, recovery: &mut Recovery, count: usize) -> Result<()> {
        let mut excluded = self.excluded.clone();
        excluded.extend(recovery.failed());
        let request = AddDatanodesRequestV1 {
            inode: self.inode,
            block: recovery.block().block,
            existing: recovery.nodes().iter().map(replica).collect(),
            excluded,
            count: u16::try_from(count).unwrap_or(u16::MAX),
        };
        let called = self.shared.namenode.call::<AddDatanodes>("find datanodes for", &self.path, &request);
        let (nodes, capability) = match called {
            Ok(reply) => (reply.nodes, reply.capability),
            Err(error) if error.kind() == Kind::NoRoom => (Vec::new(), [0; 64]),
            Err(error) => return Err(error),
        };
        recovery.added(nodes, capability).map_err(|none| self.no_replacement(none))
    }

    /// Where the nodes of a block are now. Not known when the namenode does not answer at once: the call that follows
    /// waits for it.
    fn locate(&self, block: BlockRef) -> Vec<Node> {
        let (file, offset) = (FileRefV1::Inode(self.inode), self.finished_bytes);
        let request = GetBlockLocationsRequestV1 { file, offset, length: u64::MAX };
        match self.shared.namenode.try_once::<GetBlockLocations>(&request, LOCATE_TIMEOUT) {
            Ok(reply) => {
                let found = reply.blocks.into_iter().find(|found| found.block.block == block.block);
                found.map(|found| found.nodes).unwrap_or_default()
            }
            Err(fault) => {
                tracing::debug!(path = self.path, %fault, "the nodes of a pipeline could not be located");
                Vec::new()
            }
        }
    }

    fn transfer(
        &self,
        block: BlockRef,
        source: &Node,
        targets: &[Node],
        capability: CapabilityBytes,
    ) -> std::result::Result<(), TransportError> {
        let request = TransferReplicaRequestV1 {
            capability,
            block,
            targets: targets.iter().map(pipeline_node).collect(),
        };
        let nowhere =
            || TransportError::unreachable(([0, 0, 0, 0], 0).into(), std::io::ErrorKind::InvalidInput.into());
        let address = address(source).ok_or_else(nowhere)?;
        let copied = self.shared.transport.transfer_replica(address, &request);
        if let Err(error) = &copied {
            tracing::debug!(path = self.path, %error, "a copy to a node that joins the pipeline failed");
        }
        copied
    }

    fn reopen(
        &self,
        recovery: &Recovery,
        stamp: Stamp,
        capability: CapabilityBytes,
    ) -> std::result::Result<Box<dyn Pipeline>, PipelineError> {
        let BlockRef { stamp: old_stamp, length, .. } = recovery.block();
        let stage = WriteStage::Recover(RecoverV1 { old_stamp, length });
        self.open_pipeline(recovery.block(), stamp, recovery.nodes(), capability, stage)
    }

    fn update_pipeline(&self, recovery: &Recovery, stamp: Stamp) -> Result<()> {
        let request = UpdatePipelineRequestV1 {
            inode: self.inode,
            old: recovery.block(),
            stamp,
            nodes: recovery.nodes().iter().map(replica).collect(),
        };
        let namenode = &self.shared.namenode;
        namenode.call::<UpdatePipeline>("update the pipeline of", &self.path, &request).map(|_done| ())
    }

    fn no_replacement(&self, none: NoReplacement) -> Error {
        Error::new("write to", &self.path, Fault::Protocol(none.to_string())).with_kind(Kind::PipelineFailed)
    }

    /// No pipeline goes on: what was acknowledged is safe, the rest is not.
    fn failed(&self, failure: Option<PipelineError>) -> Error {
        let nobody = || {
            let reason = std::io::Error::other("the namenode named no datanode that has the block");
            let source = TransportError::unreachable(([0, 0, 0, 0], 0).into(), reason);
            PipelineError { failed_node: None, source }
        };
        let failure = failure.unwrap_or_else(nobody);
        let kind = match failure.source.code() {
            Some(Code::NoRoom) => Kind::NoRoom,
            Some(Code::LeaseLost) => Kind::LeaseLost,
            _ => Kind::PipelineFailed,
        };
        Error::new("write to", &self.path, Fault::Transport(failure.source)).with_kind(kind)
    }
}

fn reason(error: &TransportError) -> Failure {
    error.code().map_or(Failure::Unreachable, Failure::Refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_without_progress_are_counted() {
        let mut failures = Failures::default();
        let worth: Vec<bool> = [1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2].map(|acked| failures.note(acked)).into();
        assert_eq!(worth.iter().filter(|worth| !**worth).count(), 1, "the sixth in a row");
        assert!(!worth[10]);
    }
}
