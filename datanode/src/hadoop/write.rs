//! Writing a block: packets of HDFS become packets of a native pipeline, its acks those of HDFS.
//!
//! A packet may repeat what came before, back to the beginning of a chunk, and may be larger than a native one: it becomes the rest
//! of it, in pieces. Checksums that do not fit then are verified and made anew, so that no byte is without one that its writer made.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use ringfs_hadoop::packets::{self, HEARTBEAT, Packet};
use ringfs_hadoop::transfer::{
    BlockConstructionStage, BlockOpResponse, OpTransferBlock, OpWriteBlock, Status,
};
use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType};
use ringfs_proto::frame::{self, Header};
use ringfs_proto::ids::{CallId, Stamp};
use ringfs_proto::meta::data::{
    PipelineNodeV1, RecoverV1, WriteHint, WriteOpenRequestV1, WritePacketV1, WriteStage, packet_flags,
};
use ringfs_proto::ops::Op;
use ringfs_proto::wire::Message;
use ringfs_proto::{Code, WireError};

use super::{convert, decode, status_of};
use crate::engine::{Engine, Reader, Writer};
use crate::serve::Shard;
use crate::serve::connection::Connection;
use crate::serve::frames::{Closed, Frames};
use crate::serve::next::{Failure, Next};
use crate::serve::packets::{Ended, Writing};
use crate::serve::pipeline::Written;

/// Bytes of one native packet at most: a piece of a large packet.
const PIECE_BYTES: usize = 512 << 10;
/// Bytes of a chunk where a writer sends no checksums.
const CHUNK_BYTES: u32 = 512;

/// Packets of the client that wait for their acks, with the native packet that ends each; and heartbeats.
#[derive(Default)]
struct Ledger {
    waiting: VecDeque<(u64, i64)>,
    heartbeats: u32,
}

impl Ledger {
    /// Numbers of what is to be acknowledged now.
    fn take_acked(&mut self, written: Option<&Written>) -> Vec<i64> {
        let mut acked = vec![HEARTBEAT; core::mem::take(&mut self.heartbeats) as usize];
        while let (Some((native, sequence)), Some(written)) = (self.waiting.front().copied(), written)
            && native <= written.sequence
        {
            self.waiting.pop_front();
            acked.push(sequence);
        }
        acked
    }
}

impl<E: Engine> Shard<E> {
    /// Answers `WRITE_BLOCK`, and receives the packets that follow it.
    pub(super) async fn write_block(
        self: &Rc<Self>,
        connection: &mut Connection<E>,
        message: &[u8],
    ) -> Result<(), Closed> {
        let operation: OpWriteBlock = decode(message)?;
        let permit = self.node.take_writer();
        let opened = match (self.open_request(&operation), &permit) {
            (Err(error), _) => Err(Failure::here(error)),
            (Ok(_), None) => {
                Err(Failure::here(WireError::new(Code::Busy, "too many replicas are being written here")))
            }
            (Ok(request), Some(_)) => {
                let header = Header::request(Op::WriteOpen, CallId(1));
                let opened = self.open_pipeline(&request, &header).await;
                opened.map(|(writing, next)| (request, writing, next))
            }
        };
        let (request, writing, mut next) = match opened {
            Ok(opened) => opened,
            Err(Failure { error, node }) => {
                tracing::info!(block = operation.header.base_header.block.block_id, stage = ?operation.stage(), %error, node, "pipeline refused");
                return connection.accept(&refusal(&operation, error, node)).await;
            }
        };
        let welcome = BlockOpResponse { first_bad_link: Some(String::new()), ..BlockOpResponse::default() };
        if operation.stage() == BlockConstructionStage::PipelineCloseRecovery {
            let finished = self.finish_pipeline(&writing, next.as_mut()).await;
            self.close(writing).await;
            let answer = match finished {
                Ok(()) => welcome,
                Err(Ended::Connection(closed)) => return Err(closed),
                Err(Ended::Failure(Failure { error, node })) => refusal(&operation, error, node),
                Err(Ended::Fenced | Ended::Stopped) => {
                    let message = format!("a later stamp than {} has the replica", request.stamp);
                    refusal(&operation, WireError::new(Code::StampMismatch, message), 0)
                }
            };
            return connection.accept(&answer).await;
        }
        let ledger = RefCell::default();
        let ended = match connection.accept(&welcome).await {
            Ok(()) => {
                let Connection { frames, writer, out } = connection;
                let (acks, next_writer) = next.as_mut().map(Next::halves).unzip();
                let nodes = request.nodes.len();
                let receive = self.receive_packets(frames, &request, &writing, &ledger, next_writer);
                let acknowledge = self.acknowledge_packets(writer, out, nodes, &writing, &ledger);
                self.transfer(&writing, acks, receive, acknowledge).await
            }
            Err(closed) => Err(Ended::Connection(closed)),
        };
        self.close(writing).await;
        let cut_off = || Closed::Io(std::io::ErrorKind::ConnectionAborted.into());
        match ended {
            Ok(()) => Ok(()),
            Err(Ended::Connection(closed)) => Err(closed),
            Err(Ended::Fenced | Ended::Stopped) => {
                tracing::info!(block = %request.block, stamp = %request.stamp, "pipeline was fenced: a newer one has the replica");
                self.metrics.fenced.add(1);
                Err(cut_off())
            }
            Err(Ended::Failure(Failure { error, node })) => {
                tracing::warn!(block = %request.block, %error, node, "pipeline failed");
                let sequence = ledger.borrow().waiting.front().map_or(0, |(_, sequence)| *sequence);
                let good = core::iter::repeat_n(Status::Success, node as usize);
                connection.out.clear();
                packets::append_ack(&mut connection.out, sequence, good.chain([status_of(error.code)]));
                connection.send(&[]).await?;
                Err(cut_off())
            }
        }
    }

    /// Ends a block of which all data was received before: the last packet is made here.
    async fn finish_pipeline(&self, writing: &Writing<E>, next: Option<&mut Next<E>>) -> Result<(), Ended> {
        let (acks, next_writer) = next.map(Next::halves).unzip();
        let offset = writing.pipeline.borrow().received();
        let last =
            WritePacketV1 { sequence: 0, offset, checksums_len: 0, data_len: 0, flags: packet_flags::LAST };
        let receive = async {
            let (buffer, _) = writing.signal.until(|| writing.pipeline.borrow_mut().take_room(0)).await;
            writing.pipeline.borrow().check(&last, 0).map_err(Failure::here)?;
            if let Some(next) = next_writer {
                let mut out = Vec::new();
                let header = Header::request(Op::WritePacket, CallId(1));
                frame::append(&mut out, header, 0, |meta| last.encode_into(meta));
                let passed_on = next.write_all_vectored(&[IoSlice::new(&out)]).await;
                passed_on.map_err(|error| Failure::next(format!("pass the last packet on: {error}")))?;
            }
            writing.pipeline.borrow_mut().put_back(buffer, &last, &[]);
            writing.signal.notify();
            Ok(())
        };
        let acknowledge = async {
            while !writing.signal.until(|| writing.pipeline.borrow_mut().take_ackable()).await.is_finalized {}
            Ok(())
        };
        self.transfer(writing, acks, receive, acknowledge).await
    }

    /// Answers `TRANSFER_BLOCK`: copies what is acknowledged of an open replica to nodes that join its pipeline.
    pub(super) async fn transfer_block(
        self: &Rc<Self>,
        connection: &mut Connection<E>,
        message: &[u8],
    ) -> Result<(), Closed> {
        let operation: OpTransferBlock = decode(message)?;
        match self.copy_to(&operation).await {
            Ok(()) => connection.accept(&BlockOpResponse::default()).await,
            Err(error) => connection.refuse(error).await,
        }
    }

    async fn copy_to(self: &Rc<Self>, operation: &OpTransferBlock) -> Result<(), WireError> {
        let header = &operation.header.base_header;
        let storages = |at: usize| operation.target_storage_ids.get(at);
        let targets = operation.targets.iter().enumerate();
        let targets =
            targets.map(|(at, target)| convert::node(target, storages(at))).collect::<Result<_, _>>()?;
        self.copy_open(
            convert::capability(header.token.as_ref())?,
            convert::block_ref(&header.block),
            targets,
        )
        .await
    }

    /// The native request that an operation means.
    fn open_request(&self, operation: &OpWriteBlock) -> Result<WriteOpenRequestV1, WireError> {
        let header = &operation.header.base_header;
        let block = convert::block_ref(&header.block);
        let new_stamp = Stamp(operation.latest_generation_stamp);
        let recover = RecoverV1 { old_stamp: block.stamp, length: operation.min_bytes_rcvd };
        let (stamp, stage) = match operation.stage() {
            BlockConstructionStage::PipelineSetupCreate => (block.stamp, WriteStage::Create),
            BlockConstructionStage::PipelineSetupAppend
            | BlockConstructionStage::PipelineSetupAppendRecovery
            | BlockConstructionStage::PipelineSetupStreamingRecovery
            | BlockConstructionStage::PipelineCloseRecovery => {
                (new_stamp.max(block.stamp), WriteStage::Recover(recover))
            }
            other => return Err(WireError::new(Code::Unsupported, format!("stage {other:?} is not served"))),
        };
        let this = PipelineNodeV1 {
            datanode: self.node.id,
            storage: convert::storage(operation.storage_id()),
            host: String::new(),
            port: 0,
        };
        let mut nodes = vec![this];
        for (at, target) in operation.targets.iter().enumerate() {
            nodes.push(convert::node(target, operation.target_storage_ids.get(at))?);
        }
        let requested = &operation.requested_checksum;
        let (checksum, chunk_bytes) = match convert::checksum(requested.r#type()) {
            Some(checksum) => (checksum, requested.bytes_per_checksum),
            None => (ChecksumType::Crc32c, CHUNK_BYTES),
        };
        let capability = convert::capability(header.token.as_ref())?;
        let (hint, announced_length) = (WriteHint::Normal, u64::MAX);
        let block = block.block;
        Ok(WriteOpenRequestV1 {
            capability,
            block,
            stamp,
            checksum,
            chunk_bytes,
            nodes,
            hint,
            announced_length,
            stage,
        })
    }

    /// Receives packets until the last.
    async fn receive_packets(
        &self,
        frames: &mut Frames<E::Reader>,
        request: &WriteOpenRequestV1,
        writing: &Writing<E>,
        ledger: &RefCell<Ledger>,
        mut next: Option<&mut E::Writer>,
    ) -> Result<(), Ended> {
        let mut native = 0;
        let mut checksums = Vec::new();
        loop {
            let packet = frames.packet().await?;
            if packet.sequence == HEARTBEAT {
                ledger.borrow_mut().heartbeats += 1;
                writing.signal.notify();
                continue;
            }
            checksums.resize(packet.checksums_len, 0);
            frames.payload(&mut checksums).await?;
            let mut given = Given::new(request, &packet, &checksums)?;
            let received = writing.pipeline.borrow().received();
            if packet.offset > received {
                return Err(malformed(&format!("its offset {} is behind {received}", packet.offset)));
            }
            let end = packet.offset + packet.data_len as u64;
            given.skip(frames, received.min(end)).await?;
            loop {
                let at = given.at;
                let len = given.piece_len(end);
                let is_end = at + len as u64 == end;
                let flags = if is_end { flags_of(&packet) } else { 0 };
                self.take_piece(
                    frames,
                    writing,
                    &mut given,
                    (native, received.max(at), len, flags),
                    next.as_deref_mut(),
                )
                .await?;
                native += 1;
                if is_end {
                    break;
                }
            }
            frames.payload_done();
            ledger.borrow_mut().waiting.push_back((native - 1, packet.sequence));
            writing.signal.notify();
            if packet.is_last {
                return Ok(());
            }
        }
    }

    /// Receives a piece of a packet's data, and passes it on.
    async fn take_piece(
        &self,
        frames: &mut Frames<E::Reader>,
        writing: &Writing<E>,
        given: &mut Given<'_>,
        (sequence, offset, len, flags): (u64, u64, usize, u8),
        next: Option<&mut E::Writer>,
    ) -> Result<(), Ended> {
        let room = || writing.pipeline.borrow_mut().take_room(len);
        let (mut buffer, at) = writing.signal.until(room).await;
        let data = at..at + len;
        frames.payload(&mut buffer.as_mut()[data.clone()]).await?;
        let checksums = given.take(&buffer.as_ref()[data.clone()])?;
        let packet = WritePacketV1 {
            sequence,
            offset,
            checksums_len: checksums.len() as u32,
            data_len: len as u32,
            flags,
        };
        let payload_len = checksums.len() + len;
        writing.pipeline.borrow().check(&packet, payload_len as u32).map_err(Failure::here)?;
        match next {
            Some(next) => {
                let mut out = Vec::with_capacity(128);
                let header = Header::request(Op::WritePacket, CallId(1));
                frame::append(&mut out, header, payload_len, |meta| packet.encode_into(meta));
                let parts = [&out[..], &checksums, &buffer.as_ref()[data]].map(IoSlice::new);
                let passed_on = next.write_all_vectored(&parts).await;
                passed_on.map_err(|error| Failure::next(format!("pass packet {sequence} on: {error}")))?;
            }
            None => {
                let verified = writing.pipeline.borrow().verify(&packet, &checksums, &buffer.as_ref()[data]);
                verified.map_err(Failure::here)?;
            }
        }
        self.metrics.write_packets.add(1);
        self.metrics.write_bytes.add(len as u64);
        writing.pipeline.borrow_mut().put_back(buffer, &packet, &checksums);
        writing.signal.notify();
        Ok(())
    }

    /// Acknowledges what this node has written and all behind it have acknowledged, packet by packet.
    async fn acknowledge_packets(
        &self,
        writer: &mut E::Writer,
        out: &mut Vec<u8>,
        nodes: usize,
        writing: &Writing<E>,
        ledger: &RefCell<Ledger>,
    ) -> Result<(), Ended> {
        let all = || core::iter::repeat_n(Status::Success, nodes);
        loop {
            let due = || -> Option<Option<Written>> {
                if ledger.borrow().heartbeats > 0 {
                    return Some(None);
                }
                writing.pipeline.borrow_mut().take_ackable().map(Some)
            };
            let written = writing.signal.until(due).await;
            if let Some(written) = written.filter(|written| !written.is_finalized) {
                self.node.store.grow(&writing.created.replica, written.tail);
            }
            for sequence in ledger.borrow_mut().take_acked(written.as_ref()) {
                packets::append_ack(out, sequence, all());
                self.metrics.write_acks.add(1);
            }
            writer.write_all_vectored(&[IoSlice::new(out)]).await.map_err(Closed::from)?;
            out.clear();
            if written.is_some_and(|written| written.is_finalized) {
                return Ok(());
            }
        }
    }
}

impl<R: Reader> Frames<R> {
    /// Receives the head of a packet.
    async fn packet(&mut self) -> Result<Packet, Closed> {
        let mut head = [0; packets::PACKET_HEAD_BYTES];
        self.payload(&mut head[..1]).await?;
        // The rest of a packet that has begun is due.
        self.watch().set_busy(true);
        self.payload(&mut head[1..]).await?;
        let (body_len, header_len) = packets::decode_packet_head(head)?;
        let mut header = vec![0; header_len];
        self.payload(&mut header).await?;
        let packet = packets::decode_packet(&header, body_len)?;
        self.watch().set_busy(body_len > 0);
        Ok(packet)
    }
}

/// Checksums as the writer gave them, and how far the data is that they are of.
struct Given<'a> {
    checksum: ChecksumType,
    chunk_bytes: u64,
    /// None are given: they are made here.
    are_missing: bool,
    checksums: &'a [u8],
    at: u64,
    /// Of the bytes of the chunk at `at` that came before, where they are not of the piece.
    before: Option<u32>,
}

impl<'a> Given<'a> {
    fn new(request: &WriteOpenRequestV1, packet: &Packet, checksums: &'a [u8]) -> Result<Self, Ended> {
        let chunk_bytes = u64::from(request.chunk_bytes);
        let skip = packet.offset % chunk_bytes;
        let expected = match packet.data_len {
            0 => 0,
            len => (skip + len as u64).div_ceil(chunk_bytes) as usize * CHECKSUM_BYTES,
        };
        let are_missing = checksums.is_empty();
        if checksums.len() != expected && !are_missing {
            let len = checksums.len();
            return Err(malformed(&format!("{len} bytes of checksums, expected {expected}")));
        }
        let (checksum, at) = (request.checksum, packet.offset);
        Ok(Self { checksum, chunk_bytes, are_missing, checksums, at, before: None })
    }

    /// Receives and forgets data up to an offset: it came before. Its checksums count where they reach beyond it.
    async fn skip<R: Reader>(&mut self, frames: &mut Frames<R>, until: u64) -> Result<(), Ended> {
        let mut scratch = Vec::new();
        while self.at < until {
            let chunk_end = self.at - self.at % self.chunk_bytes + self.chunk_bytes;
            scratch.resize((until.min(chunk_end) - self.at) as usize, 0);
            frames.payload(&mut scratch).await?;
            self.at += scratch.len() as u64;
            if self.at == chunk_end {
                self.checksums = self.checksums.get(CHECKSUM_BYTES..).unwrap_or_default();
            } else {
                self.before = Some(self.checksum.of(&scratch));
            }
        }
        Ok(())
    }

    /// Bytes of the next piece: up to `end`, or to the last chunk's end within the size of a piece.
    fn piece_len(&self, end: u64) -> usize {
        let whole = PIECE_BYTES as u64 / self.chunk_bytes * self.chunk_bytes;
        let piece_end = self.at - self.at % self.chunk_bytes + whole.max(self.chunk_bytes);
        (end.min(piece_end) - self.at) as usize
    }

    /// The checksums of a piece, which begins where the last has ended.
    fn take(&mut self, piece: &[u8]) -> Result<Vec<u8>, Ended> {
        let mut out = Vec::new();
        let mut rest = piece;
        while !rest.is_empty() {
            let inside = self.at % self.chunk_bytes;
            let (now, later) = rest.split_at(((self.chunk_bytes - inside) as usize).min(rest.len()));
            if self.are_missing {
                out.extend(self.checksum.of(now).to_be_bytes());
            } else {
                let (given, others) = self.checksums.split_at(CHECKSUM_BYTES);
                self.checksums = others;
                match self.before.take() {
                    None => out.extend(given),
                    // The piece begins inside of what the checksum is of.
                    Some(before) if self.checksum.append(before, now).to_be_bytes() == given => {
                        out.extend(self.checksum.of(now).to_be_bytes());
                    }
                    Some(_) => {
                        let message = format!("checksum mismatch at offset {} of the block", self.at);
                        return Err(Failure::here(WireError::new(Code::ChecksumMismatch, message)).into());
                    }
                }
            }
            self.at += now.len() as u64;
            rest = later;
        }
        Ok(out)
    }
}

fn flags_of(packet: &Packet) -> u8 {
    let last = if packet.is_last { packet_flags::LAST } else { 0 };
    last | if packet.is_sync { packet_flags::SYNC } else { 0 }
}

fn malformed(what: &str) -> Ended {
    Failure::here(WireError::new(Code::Malformed, format!("packet: {what}"))).into()
}

/// Why a pipeline could not be set up, and which node it was.
fn refusal(operation: &OpWriteBlock, error: WireError, node: u32) -> BlockOpResponse {
    let bad = (node as usize).checked_sub(1).and_then(|at| operation.targets.get(at));
    let bad = bad.map(|bad| format!("{}:{}", bad.id.ip_addr, bad.id.xfer_port)).unwrap_or_default();
    BlockOpResponse {
        status: status_of(error.code) as i32,
        first_bad_link: Some(bad),
        message: Some(error.message),
        ..BlockOpResponse::default()
    }
}
