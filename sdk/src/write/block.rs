//! One block that is being written: its pipeline set up by several tries, its packets, its acknowledgements.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringfs_proto::Code;
use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, chunk_count, compute_chunks};
use ringfs_proto::limits::CHUNK_BYTES_NATIVE;
use ringfs_proto::meta::data::{PipelineNodeV1, WriteOpenRequestV1, WritePacketV1, WriteStage};
use ringfs_proto::meta::namespace::{AbandonBlockRequestV1, AckedReplicaV1, AddBlockRequestV1};
use ringfs_proto::ops::{AbandonBlock, AddBlock};

use super::Writer;
use super::window::Window;
use crate::error::{Error, Fault, Kind, Result};
use crate::limits::PIPELINE_TRIES_MAX;
use crate::transport::{AckWait, Pipeline, SetupError, TransportError};
use crate::{BlockRef, LocatedBlock};

/// For datanodes that come back, once all have failed.
const PAUSE_BEFORE_ALL_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct OpenBlock {
    located: LocatedBlock,
    pipeline: Box<dyn Pipeline>,
    window: Window,
    /// Bytes that were sent.
    pub length: u64,
}

impl Writer {
    /// Adds a block and sets up its pipeline; nodes that fail are excluded from the next try.
    pub(super) fn open_block(&mut self) -> Result<OpenBlock> {
        let mut failure: Option<Error> = None;
        for _ in 0..PIPELINE_TRIES_MAX {
            let request = AddBlockRequestV1 {
                inode: self.inode,
                previous: self.previous,
                excluded: self.excluded.clone(),
            };
            let added = self.shared.namenode.call::<AddBlock>("add a block to", &self.path, &request);
            let located = match added {
                Ok(reply) => reply.located,
                Err(error) if error.kind() == Kind::NoRoom && !self.excluded.is_empty() => {
                    // Those that failed are all there were: the reason is theirs, and they may be back.
                    failure.get_or_insert(error);
                    self.excluded.clear();
                    self.shared.clock.pause(PAUSE_BEFORE_ALL_AGAIN);
                    continue;
                }
                Err(error) => return Err(error),
            };
            match self.set_up(&located) {
                Ok(pipeline) => return Ok(self.opened(located, pipeline)),
                Err(error) => failure = Some(self.give_up(&located, error)?),
            }
        }
        let nobody = || Error::new("write to", &self.path, Fault::Handle("no pipeline was tried"));
        Err(failure.unwrap_or_else(nobody))
    }

    fn opened(&self, located: LocatedBlock, pipeline: Box<dyn Pipeline>) -> OpenBlock {
        let window = Window::new(self.shared.options.write_window_bytes);
        OpenBlock { located, pipeline, window, length: 0 }
    }

    fn set_up(&self, located: &LocatedBlock) -> std::result::Result<Box<dyn Pipeline>, SetupError> {
        let nodes = located.nodes.iter().map(|node| PipelineNodeV1 {
            datanode: node.datanode,
            storage: node.storage,
            host: node.host.clone(),
            port: node.port,
        });
        let left = self.announced_length.map(|length| length.saturating_sub(self.finished_bytes));
        let request = WriteOpenRequestV1 {
            capability: located.capability,
            block: located.block.block,
            stamp: located.block.stamp,
            checksum: ChecksumType::Crc32c,
            chunk_bytes: CHUNK_BYTES_NATIVE,
            nodes: nodes.collect(),
            hint: self.hint,
            announced_length: left.map_or(u64::MAX, |left| left.min(self.block_size)),
            stage: WriteStage::Create,
        };
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let first = located
            .nodes
            .first()
            .and_then(|node| Some(SocketAddr::new(node.host.parse::<IpAddr>().ok()?, node.port)));
        match first {
            Some(first) => self.shared.transport.open_pipeline(first, &request),
            None => {
                let reason = std::io::Error::other("the namenode named no datanode with a numeric address");
                Err(SetupError { failed_node: 0, source: TransportError::unreachable(nowhere, reason) })
            }
        }
    }

    /// Takes the block back and excludes the node that failed.
    fn give_up(&mut self, located: &LocatedBlock, error: SetupError) -> Result<Error> {
        tracing::debug!(path = self.path, %error, "pipeline set-up failed");
        if let Some(node) = located.nodes.get(error.failed_node).or(located.nodes.first()) {
            self.excluded.push(node.datanode);
        }
        let request = AbandonBlockRequestV1 { inode: self.inode, block: located.block.block };
        self.shared.namenode.call::<AbandonBlock>("abandon a block of", &self.path, &request)?;
        Ok(Error::new("write to", &self.path, Fault::Transport(error.source)))
    }
}

impl OpenBlock {
    /// Sends a packet, once the window has room for it.
    pub fn send(&mut self, data: &[u8], flags: u8, checksums: &mut Vec<u8>, path: &str) -> Result<()> {
        compute_checksums(self.length, data, checksums);
        self.take_acks(AckWait::No, path)?;
        while !self.window.has_room(data.len()) {
            self.take_acks(AckWait::Yes, path)?;
        }
        let packet = WritePacketV1 {
            sequence: self.window.next_sequence(),
            offset: self.length,
            checksums_len: checksums.len() as u32,
            data_len: data.len() as u32,
            flags,
        };
        self.window.send(data.len());
        self.length += data.len() as u64;
        self.pipeline.send(&packet, checksums, data).map_err(|error| broken(error, path))
    }

    /// Waits until the block is finalized on every node.
    pub fn finish(&mut self, path: &str) -> Result<BlockRef> {
        while !self.window.is_finalized() {
            self.take_acks(AckWait::Yes, path)?;
        }
        let (acked, sent) = (self.window.acked_length(), self.length);
        if acked != sent {
            let text = format!("a finalized block of {acked} bytes, {sent} were sent");
            return Err(Error::new("write to", path, Fault::Protocol(text)).with_kind(Kind::PipelineFailed));
        }
        Ok(BlockRef { length: self.length, ..self.located.block })
    }

    /// Waits until all that was sent is acknowledged, or also on stable storage.
    pub fn wait_acked(&mut self, synced: bool, path: &str) -> Result<()> {
        while !self.window.is_empty() || (synced && !self.is_synced()) {
            self.take_acks(AckWait::Yes, path)?;
        }
        Ok(())
    }

    /// Whether all that was sent is on stable storage.
    pub fn is_synced(&self) -> bool {
        self.window.synced_length() >= self.length
    }

    /// The replicas that acknowledged the block.
    pub fn replicas(&self) -> Vec<AckedReplicaV1> {
        let acked = |node: &crate::Node| AckedReplicaV1 { datanode: node.datanode, storage: node.storage };
        self.located.nodes.iter().map(acked).collect()
    }

    /// Takes the acknowledgements that are there; waits for one first if asked to.
    fn take_acks(&mut self, wait: AckWait, path: &str) -> Result<()> {
        let mut wait = wait;
        while let Some(ack) = self.pipeline.next_ack(wait).map_err(|error| broken(error, path))? {
            wait = AckWait::No;
            self.window.ack(&ack, self.length).map_err(|error| {
                let fault = Fault::Protocol(error.to_string());
                Error::new("write to", path, fault).with_kind(Kind::PipelineFailed)
            })?;
        }
        Ok(())
    }
}

/// A pipeline that breaks after its set-up.
fn broken(error: TransportError, path: &str) -> Error {
    let kind = match error.code() {
        Some(Code::NoRoom) => Kind::NoRoom,
        Some(Code::StampMismatch | Code::LeaseLost) => Kind::LeaseLost,
        _ => Kind::PipelineFailed,
    };
    Error::new("write to", path, Fault::Transport(error)).with_kind(kind)
}

/// Checksums of a packet at `offset` of its block: if it begins inside a chunk, the first is of its bytes up to the end of
/// that chunk.
fn compute_checksums(offset: u64, data: &[u8], checksums: &mut Vec<u8>) {
    let chunk = CHUNK_BYTES_NATIVE as usize;
    let into_chunk = (offset % u64::from(CHUNK_BYTES_NATIVE)) as usize;
    let first_len = if into_chunk == 0 { 0 } else { data.len().min(chunk - into_chunk) };
    let (first, rest) = data.split_at(first_len);
    let first_sums = usize::from(!first.is_empty()) * CHECKSUM_BYTES;
    checksums.resize(first_sums + chunk_count(rest.len(), CHUNK_BYTES_NATIVE) * CHECKSUM_BYTES, 0);
    let (first_sum, rest_sums) = checksums.split_at_mut(first_sums);
    if !first.is_empty() {
        first_sum.copy_from_slice(&ChecksumType::Crc32c.of(first).to_be_bytes());
    }
    compute_chunks(ChecksumType::Crc32c, rest, CHUNK_BYTES_NATIVE, rest_sums);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_inside_a_chunk_has_the_checksum_of_its_bytes_first() {
        let data: Vec<u8> = (0..10_000u32).map(|at| at as u8).collect();
        let mut checksums = Vec::new();
        compute_checksums(4096 * 3 + 96, &data, &mut checksums);
        let pieces = [&data[..4000], &data[4000..8096], &data[8096..]];
        let expected: Vec<u8> = pieces.iter().flat_map(|piece| crc32c(piece).to_be_bytes()).collect();
        assert_eq!(checksums, expected);
        compute_checksums(4095, &data[..1], &mut checksums);
        assert_eq!(checksums, crc32c(&data[..1]).to_be_bytes());
        compute_checksums(4095, &[], &mut checksums);
        assert!(checksums.is_empty());
    }

    fn crc32c(bytes: &[u8]) -> u32 {
        ChecksumType::Crc32c.of(bytes)
    }
}
