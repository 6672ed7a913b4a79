//! One block that is being written: its pipeline set up by several tries, its packets sent, its acknowledgements taken.

use std::net::{IpAddr, SocketAddr};

use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::Stamp;
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;
use ringfs_proto::meta::data::{PipelineNodeV1, WriteOpenRequestV1, WriteStage};
use ringfs_proto::meta::namespace::{AbandonBlockRequestV1, AckedReplicaV1, AddBlockRequestV1};
use ringfs_proto::ops::{AbandonBlock, AddBlock};

use super::Writer;
use super::window::Window;
use crate::error::{Error, Fault, Kind, Result};
use crate::limits::PIPELINE_TRIES_MAX;
use crate::patience::Patience;
use crate::transport::{AckWait, Pipeline, PipelineError, TransportError};
use crate::{BlockRef, LocatedBlock, Node};

/// A block with its pipeline. Its packets are in the writer's window.
#[derive(Debug)]
pub(super) struct OpenBlock {
    /// Under its present stamp; the length is that of the window.
    pub block: BlockRef,
    pub nodes: Vec<Node>,
    pub pipeline: Box<dyn Pipeline>,
}

/// How far the packets of a block are to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// There is room for so many bytes more.
    Room(usize),
    Sent,
    Acked,
    Synced,
    Finalized,
}

impl OpenBlock {
    /// Sends what was not sent and takes acknowledgements until the goal is reached.
    ///
    /// # Errors
    /// The pipeline is of no more use.
    pub fn advance(&mut self, window: &mut Window, goal: Goal) -> std::result::Result<(), PipelineError> {
        self.take_acks(window, AckWait::No)?;
        loop {
            while let Some(packet) = window.unsent() {
                self.pipeline.send(&packet.head, packet.checksums, packet.data)?;
                window.mark_sent();
            }
            let is_reached = match goal {
                Goal::Room(len) => window.has_room(len),
                Goal::Sent => window.is_sent(),
                Goal::Acked => window.is_empty(),
                Goal::Synced => window.is_empty() && window.is_synced(),
                Goal::Finalized => window.is_finalized(),
            };
            if is_reached {
                return Ok(());
            }
            self.take_acks(window, AckWait::Yes)?;
        }
    }

    /// Takes the acknowledgements that are there; waits for one first if asked to.
    fn take_acks(&mut self, window: &mut Window, wait: AckWait) -> std::result::Result<(), PipelineError> {
        let mut wait = wait;
        while let Some(ack) = self.pipeline.next_ack(wait)? {
            wait = AckWait::No;
            window.ack(&ack).map_err(|error| self.broken(Fault::Protocol(error.to_string())))?;
        }
        Ok(())
    }

    /// The first node broke the protocol.
    fn broken(&self, fault: Fault) -> PipelineError {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let node = self.nodes.first().and_then(address).unwrap_or(nowhere);
        PipelineError { failed_node: Some(0), source: TransportError::from_fault(node, fault) }
    }

    /// The replicas of the pipeline.
    pub fn replicas(&self) -> Vec<AckedReplicaV1> {
        self.nodes.iter().map(replica).collect()
    }
}

impl Writer {
    /// Adds a block and sets up its pipeline. Nodes that fail are excluded from the next try; when nobody is left, all of
    /// them are tried again until the deadline: they may be back.
    pub(super) fn open_block(&mut self) -> Result<OpenBlock> {
        let mut patience = Patience::new(&self.shared);
        let mut failure: Option<Error> = None;
        let mut tries = 0;
        loop {
            let request = AddBlockRequestV1 {
                inode: self.inode,
                previous: self.previous,
                excluded: self.excluded.clone(),
            };
            let added = self.shared.namenode.call::<AddBlock>("add a block to", &self.path, &request);
            let located = match added {
                Ok(reply) => reply.located,
                Err(error) if error.kind() == Kind::NoRoom && !self.excluded.is_empty() => {
                    // Those that failed are all there were: the reason is theirs.
                    self.excluded.clear();
                    if !patience.pause() {
                        return Err(failure.unwrap_or(error));
                    }
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.set_up(&located) {
                Ok(pipeline) => {
                    return Ok(OpenBlock { block: located.block, nodes: located.nodes, pipeline });
                }
                Err(error) => {
                    let error = self.abandon(&located, error)?;
                    tries += 1;
                    if tries % PIPELINE_TRIES_MAX == 0 && !patience.pause() {
                        return Err(error);
                    }
                    failure = Some(error);
                }
            }
        }
    }

    fn set_up(&self, located: &LocatedBlock) -> std::result::Result<Box<dyn Pipeline>, PipelineError> {
        let LocatedBlock { block, nodes, capability, .. } = located;
        self.open_pipeline(*block, block.stamp, nodes, *capability, WriteStage::Create)
    }

    /// Opens `nodes` as the pipeline of a block, under a stamp.
    pub(super) fn open_pipeline(
        &self,
        block: BlockRef,
        stamp: Stamp,
        nodes: &[Node],
        capability: CapabilityBytes,
        stage: WriteStage,
    ) -> std::result::Result<Box<dyn Pipeline>, PipelineError> {
        let left = self.announced_length.map(|length| length.saturating_sub(self.finished_bytes));
        let request = WriteOpenRequestV1 {
            capability,
            block: block.block,
            stamp,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES_NATIVE,
            nodes: nodes.iter().map(pipeline_node).collect(),
            hint: self.hint,
            announced_length: left.map_or(u64::MAX, |left| left.min(self.block_size)),
            stage,
        };
        match nodes.first().and_then(address) {
            Some(first) => self.shared.transport.open_pipeline(first, &request),
            None => {
                let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
                let reason = std::io::Error::other("the namenode named no datanode with a numeric address");
                Err(PipelineError {
                    failed_node: Some(0),
                    source: TransportError::unreachable(nowhere, reason),
                })
            }
        }
    }

    /// Takes back a block of which nothing was acknowledged, and excludes the node that failed.
    fn abandon(&mut self, located: &LocatedBlock, error: PipelineError) -> Result<Error> {
        self.exclude(&located.nodes, &error);
        self.abandon_block(located.block)?;
        Ok(Error::new("write to", &self.path, Fault::Transport(error.source)))
    }

    pub(super) fn abandon_block(&self, block: BlockRef) -> Result<()> {
        let request = AbandonBlockRequestV1 { inode: self.inode, block: block.block };
        self.shared.namenode.call::<AbandonBlock>("abandon a block of", &self.path, &request).map(|_done| ())
    }

    /// Notes the node that failed, for the namenode not to name it again.
    pub(super) fn exclude(&mut self, nodes: &[Node], error: &PipelineError) {
        tracing::debug!(path = self.path, %error, "a pipeline failed");
        let failed = nodes.get(error.failed_node.unwrap_or(0)).or(nodes.first());
        if let Some(node) = failed
            && !self.excluded.contains(&node.datanode)
        {
            self.excluded.push(node.datanode);
        }
    }
}

pub(super) fn address(node: &Node) -> Option<SocketAddr> {
    Some(SocketAddr::new(node.host.parse::<IpAddr>().ok()?, node.port))
}

pub(super) fn pipeline_node(node: &Node) -> PipelineNodeV1 {
    PipelineNodeV1 {
        datanode: node.datanode,
        storage: node.storage,
        host: node.host.clone(),
        port: node.port,
    }
}

pub(super) fn replica(node: &Node) -> AckedReplicaV1 {
    AckedReplicaV1 { datanode: node.datanode, storage: node.storage }
}
