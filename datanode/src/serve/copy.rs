//! Copying a replica to other datanodes: read here, and sent down a pipeline as a writer would.
//!
//! A finalized replica is read around the page cache where the file system can do that: a copy is read once, and must not
//! push out what clients read. An open one is read as readers do, up to what was acknowledged.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;

use futures_lite::future::try_zip;
use ringfs_proto::capability::{CapabilityBytes, Mode};
use ringfs_proto::checksum::{CHECKSUM_BYTES, verify_chunks};
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::{BlockId, CallId, LogIndex};
use ringfs_proto::limits::{PACKET_DATA_BYTES_DEFAULT, PIPELINE_NODES_MAX, WRITE_WINDOW_BYTES_DEFAULT};
use ringfs_proto::meta::data::{
    PipelineNodeV1, TransferReplicaRequestV1, WriteHint, WriteOpenRequestV1, WritePacketV1, WriteStage,
    packet_flags,
};
use ringfs_proto::meta::membership::ReplicaState;
use ringfs_proto::meta::namespace::{BlockRefV1, DoneV1};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::Shard;
use super::next::{Acks, Failure};
use super::reopen::Source;
use super::signal::Signal;
use crate::engine::{Access, Create, DIRECT_ALIGN, Engine, File, Writer};
use crate::format::block::{HEAD_BYTES, Header as BlockHeader, Layout};
use crate::scrub::Pace;
use crate::store::replica::{Replica, Tail};

/// Bytes that are sent and not acknowledged, at most.
const WINDOW_BYTES: u64 = WRITE_WINDOW_BYTES_DEFAULT as u64;

/// What is to be copied, and where.
#[derive(Debug, Clone)]
pub struct Copy {
    /// What the targets will have: the replica, or how many bytes of it.
    pub block: BlockRefV1,
    /// The replica that is read, if its first bytes become another block.
    pub cut_from: Option<BlockRefV1>,
    /// Opens the block for writing on the targets.
    pub capability: CapabilityBytes,
    /// The nodes, in order.
    pub targets: Vec<PipelineNodeV1>,
    /// What becomes of it there.
    pub stage: WriteStage,
}

/// An open replica of this datanode.
pub struct Reading<E: Engine> {
    replica: Arc<Replica>,
    layout: Layout,
    data: E::File,
    head: E::File,
    end: Tail,
    state: ReplicaState,
}

impl<E: Engine> Reading<E> {
    /// Closes its files.
    pub async fn close(self) {
        self.data.close().await;
        self.head.close().await;
    }

    /// Whether it is complete.
    pub fn is_finalized(&self) -> bool {
        self.state == ReplicaState::Finalized
    }
}

/// How far a copy is.
#[derive(Default)]
struct Progress {
    acked: Cell<u64>,
    signal: Signal,
}

impl<E: Engine> Shard<E> {
    /// Answers `TransferReplica`: copies the first bytes of an open replica to nodes that join its pipeline.
    pub(super) async fn transfer_replica(self: &Rc<Self>, meta: &[u8]) -> Result<DoneV1, WireError> {
        let request = TransferReplicaRequestV1::decode(meta)
            .map_err(|error| WireError::new(Code::Malformed, error.to_string()))?;
        let TransferReplicaRequestV1 { capability, block, targets } = request;
        self.copy_open(capability, block, targets).await?;
        Ok(DoneV1 { index: LogIndex(0) })
    }

    /// Copies the first bytes of an open replica to nodes that join its pipeline.
    ///
    /// # Errors
    /// As [`Self::copy`]; `Busy`, and those of a capability.
    pub(crate) async fn copy_open(
        self: &Rc<Self>,
        capability: CapabilityBytes,
        block: BlockRefV1,
        targets: Vec<PipelineNodeV1>,
    ) -> Result<(), WireError> {
        self.check(&capability, Mode::Write, block.block, block.stamp)?;
        let copy = Copy { block, cut_from: None, capability, targets, stage: WriteStage::CopyOpen };
        let Some(_permit) = self.node.take_copy() else {
            return Err(WireError::new(Code::Busy, "too many replicas are being copied from here"));
        };
        self.copy(&copy).await
    }

    /// Copies a replica; returns when every target has it.
    ///
    /// # Errors
    /// `BlockMissing`, `BlockCorrupt`, `StampMismatch`, `OutOfRange`; what a target said, or `PipelineFailed`.
    pub(super) async fn copy(self: &Rc<Self>, copy: &Copy) -> Result<(), WireError> {
        if copy.targets.is_empty() || copy.targets.len() > PIPELINE_NODES_MAX {
            let message = format!("a copy to {} nodes", copy.targets.len());
            return Err(WireError::new(Code::Malformed, message));
        }
        let reading = self.open_reading(copy).await?;
        self.metrics.copies_active.add(1);
        let sent = self.send(copy, &reading).await;
        self.metrics.copies_active.sub(1);
        if let Err(Failure { error, node }) = &sent {
            tracing::info!(block = %copy.block.block, %error, node, "copy failed");
            // The bytes may have been bad before they left.
            if error.code == Code::ChecksumMismatch {
                let verified = self.verify(&reading, None).await;
                reading.close().await;
                return verified.and(Err(error.clone()));
            }
        }
        reading.close().await;
        sent.map_err(|failure| failure.error)?;
        self.metrics.copies.add(1);
        Ok(())
    }

    /// Opens a replica that is to be copied and checks that it is the one that was meant.
    async fn open_reading(&self, copy: &Copy) -> Result<Reading<E>, WireError> {
        let BlockRefV1 { block, stamp, length } = copy.cut_from.unwrap_or(copy.block);
        let reading = self.read_replica(block).await?;
        let found = reading.replica.stamp();
        let wanted = match copy.stage {
            WriteStage::CopyOpen => reading.state != ReplicaState::Temporary,
            _ => reading.state == ReplicaState::Finalized,
        };
        // An attempt to recover the pipeline may have failed after it had reached this node: the bytes that were acknowledged
        // are the same under its stamp.
        let is_version = if copy.stage == WriteStage::CopyOpen { found >= stamp } else { found == stamp };
        if !is_version || !wanted {
            let message = format!("replica of block {block} is {:?} with stamp {found}", reading.state);
            return Err(WireError::new(Code::StampMismatch, message));
        }
        let is_whole = copy.stage == WriteStage::CopyOpen || length == reading.end.length;
        if length.max(copy.block.length) > reading.end.length || !is_whole {
            let message = format!("replica of block {block} has {} bytes, not {length}", reading.end.length);
            return Err(WireError::new(Code::OutOfRange, message));
        }
        Ok(reading)
    }

    /// Opens a replica for reading it once.
    ///
    /// # Errors
    /// `BlockMissing`, `BlockCorrupt`, `Io`.
    pub(super) async fn read_replica(&self, block: BlockId) -> Result<Reading<E>, WireError> {
        let node = &self.node;
        let missing = || WireError::new(Code::BlockMissing, format!("no replica of block {block} here"));
        let replica = node.store.find(block).filter(|replica| !replica.is_gone()).ok_or_else(missing)?;
        if replica.is_corrupt() {
            let message = format!("replica of block {block} is corrupt");
            return Err(WireError::new(Code::BlockCorrupt, message));
        }
        let path = node.store.path_of(&replica);
        let failed = |error: io::Error| node.store.read_failed(&replica, &error);
        // The state before the length: a replica that is finalized in between is only longer.
        let state = replica.state();
        let head = self.engine.open(&path, Access::BufferedRead, Create::Existing).await.map_err(failed)?;
        if state != ReplicaState::Finalized {
            head.no_read_ahead();
        }
        let bytes = head.read_at(0, HEAD_BYTES).await.map_err(failed)?;
        let header = BlockHeader::decode(bytes.as_ref()).map_err(|error| {
            node.store.mark_corrupt(&replica);
            WireError::new(Code::BlockCorrupt, format!("block {block}: {error}"))
        })?;
        let data = match self.engine.open(&path, Access::Direct, Create::Existing).await {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.engine.open(&path, Access::BufferedRead, Create::Existing).await
            }
            opened => opened,
        };
        let (data, layout) = (data.map_err(failed)?, header.layout);
        let mut end = replica.tail();
        if state == ReplicaState::Finalized && !end.length.is_multiple_of(u64::from(layout.chunk_bytes)) {
            end.crc = stored_crc(&head, &layout, end.length).await.map_err(failed)?;
        }
        Ok(Reading { replica, layout, data, head, end, state })
    }

    async fn send(self: &Rc<Self>, copy: &Copy, reading: &Reading<E>) -> Result<(), Failure> {
        // The request of a writer whose first node is this one.
        let this = PipelineNodeV1 { datanode: self.node.id, ..copy.targets[0].clone() };
        let request = WriteOpenRequestV1 {
            capability: copy.capability,
            block: copy.block.block,
            stamp: copy.block.stamp,
            checksum: reading.layout.checksum,
            chunk_bytes: reading.layout.chunk_bytes,
            nodes: core::iter::once(this).chain(copy.targets.iter().cloned()).collect(),
            hint: WriteHint::Normal,
            announced_length: announced(copy, reading),
            stage: copy.stage,
        };
        let header = Header::request(Op::WriteOpen, CallId(1));
        let mut next = self.open_next(&request, &header).await?;
        let progress = Progress::default();
        let (acks, writer) = next.halves();
        let sent = self.send_packets(copy, reading, &progress, writer);
        let acked = take_acks(acks, &progress);
        let sent = try_zip(sent, acked).await.map(drop);
        next.writer.shut_down();
        sent
    }

    async fn send_packets(
        &self,
        copy: &Copy,
        reading: &Reading<E>,
        progress: &Progress,
        writer: &mut E::Writer,
    ) -> Result<(), Failure> {
        let packet_bytes = u64::from(reading.layout.chunk_bytes).max(PACKET_DATA_BYTES_DEFAULT as u64);
        let (length, mut offset, mut out) = (copy.block.length, 0, Vec::new());
        // A writer waits for a copy of an open replica.
        let share = if copy.stage == WriteStage::CopyOpen { None } else { self.node.share_copy_rate() };
        for sequence in 0.. {
            let len = packet_bytes.min(length - offset);
            let has_room = || (offset + len <= progress.acked.get() + WINDOW_BYTES).then_some(());
            progress.signal.until(has_room).await;
            let piece = self.read_piece(reading, offset, len as usize).await.map_err(Failure::here)?;
            let is_last = offset + len == length;
            let packet = WritePacketV1 {
                sequence,
                offset,
                checksums_len: piece.checksums.len() as u32,
                data_len: len as u32,
                flags: if is_last { packet_flags::LAST } else { 0 },
            };
            out.clear();
            let header = Header::request(Op::WritePacket, CallId(1));
            let payload_len = piece.checksums.len() + len as usize;
            frame::append(&mut out, header, payload_len, |meta| packet.encode_into(meta));
            let data = piece.data.as_ref().map_or(&[][..], |data| &data.as_ref()[..len as usize]);
            let parts = [&out, &piece.checksums, data].map(IoSlice::new);
            let written = writer.write_all_vectored(&parts).await;
            written.map_err(|error| Failure::next(format!("send packet {sequence}: {error}")))?;
            self.metrics.copy_bytes.add(len);
            offset += len;
            if share.is_some() {
                self.engine.sleep(self.node.rest_of_copy(len)).await;
            }
            if is_last {
                break;
            }
        }
        Ok(())
    }

    /// Reads `len` bytes at a chunk's beginning, with their checksums. That of a partial last chunk is made of its bytes,
    /// after they were verified as a part of the whole.
    async fn read_piece(
        &self,
        reading: &Reading<E>,
        offset: u64,
        len: usize,
    ) -> Result<Piece<E::ReadBuffer>, WireError> {
        if len == 0 {
            return Ok(Piece { checksums: Vec::new(), data: None });
        }
        let Reading { replica, layout, data, head, end, .. } = reading;
        let failed = |error: io::Error| self.node.store.read_failed(replica, &error);
        let short = || {
            self.node.store.mark_corrupt(replica);
            let message = format!("the file of block {} is shorter than its length", replica.block);
            WireError::new(Code::BlockCorrupt, message)
        };
        let read_len = len.next_multiple_of(DIRECT_ALIGN);
        let read = data.read_at(layout.data_offset() + offset, read_len).await.map_err(failed)?;
        let count = len.div_ceil(layout.chunk_bytes as usize);
        let stored = layout.checksum_offset(offset / u64::from(layout.chunk_bytes));
        let stored = head.read_at(stored, count * CHECKSUM_BYTES).await.map_err(failed)?;
        if read.as_ref().len() < len || stored.as_ref().len() < count * CHECKSUM_BYTES {
            return Err(short());
        }
        let mut checksums = stored.as_ref()[..count * CHECKSUM_BYTES].to_vec();
        let until = offset + len as u64;
        if !until.is_multiple_of(u64::from(layout.chunk_bytes)) {
            let source = Source { replica, layout: *layout, data, head, end: *end };
            let prefix = self.read_prefix(&source, until).await?;
            let at = checksums.len() - CHECKSUM_BYTES;
            checksums[at..].copy_from_slice(&prefix.tail.crc.to_be_bytes());
        }
        Ok(Piece { checksums, data: Some(read) })
    }

    /// Compares all of a replica with its checksums, at a pace. It is marked corrupt if it is.
    ///
    /// # Errors
    /// `BlockCorrupt`, `Io`; `Busy` when it was written again meanwhile.
    pub(super) async fn verify(&self, reading: &Reading<E>, mut pace: Option<Pace>) -> Result<(), WireError> {
        let Reading { replica, layout, end, .. } = reading;
        let piece_bytes = u64::from(layout.chunk_bytes).max(PACKET_DATA_BYTES_DEFAULT as u64);
        let mut offset = 0;
        while offset < end.length {
            let len = piece_bytes.min(end.length - offset) as usize;
            let Piece { checksums, data } = self.read_piece(reading, offset, len).await?;
            let data = data.as_ref().map_or(&[][..], |data| &data.as_ref()[..len]);
            if let Err(chunk) = verify_chunks(layout.checksum, data, layout.chunk_bytes, &checksums) {
                if replica.is_gone() || replica.state() != reading.state {
                    let message = format!("block {} was written again while it was read", replica.block);
                    return Err(WireError::new(Code::Busy, message));
                }
                self.metrics.scrub_errors.add(1);
                self.node.store.mark_corrupt(replica);
                let at = offset + chunk as u64 * u64::from(layout.chunk_bytes);
                let message = format!("replica of block {} is corrupt at offset {at}", replica.block);
                return Err(WireError::new(Code::BlockCorrupt, message));
            }
            offset += len as u64;
            self.metrics.scrubbed_bytes.add(len as u64);
            if let Some(pace) = &mut pace {
                self.engine.sleep(pace.rest(len as u64, self.node.moved_bytes())).await;
            }
        }
        Ok(())
    }
}

/// A part of a replica.
struct Piece<B> {
    checksums: Vec<u8>,
    data: Option<B>,
}

/// A node that joins will be sent more than the copy.
fn announced<E: Engine>(copy: &Copy, reading: &Reading<E>) -> u64 {
    match copy.stage {
        WriteStage::CopyOpen => reading.layout.limit,
        _ => copy.block.length,
    }
}

async fn stored_crc<F: File>(head: &F, layout: &Layout, length: u64) -> io::Result<u32>
where
    F::ReadBuffer: AsRef<[u8]>,
{
    let chunk = length / u64::from(layout.chunk_bytes);
    let stored = head.read_at(layout.checksum_offset(chunk), CHECKSUM_BYTES).await?;
    let stored = stored.as_ref().first_chunk().ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(u32::from_be_bytes(*stored))
}

/// Takes acks until all targets have the whole copy.
async fn take_acks<E: Engine>(mut acks: Acks<'_, E>, progress: &Progress) -> Result<(), Failure> {
    loop {
        let ack = acks.next_owed().await?;
        progress.acked.set(ack.length);
        progress.signal.notify();
        if ack.is_finalized {
            return Ok(());
        }
    }
}
