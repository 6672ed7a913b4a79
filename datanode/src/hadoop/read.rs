//! Reading a block: the parts of a native range as packets.

use std::rc::Rc;

use ringfs_hadoop::hdfs;
use ringfs_hadoop::packets::{self, Packet};
use ringfs_hadoop::transfer::{
    BlockOpResponse, Checksum, ClientReadStatus, OpReadBlock, ReadOpChecksumInfo, Status,
};
use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, chunk_count, compute_chunks};
use ringfs_proto::meta::data::{RangeDataV1, ReadRangeV1};
use ringfs_proto::{Code, WireError};

use super::{convert, decode};
use crate::engine::Engine;
use crate::serve::Shard;
use crate::serve::connection::Connection;
use crate::serve::frames::Closed;
use crate::serve::read::{PART_BYTES, Plan};

impl<E: Engine> Shard<E> {
    /// Answers `READ_BLOCK`.
    pub(super) async fn read_block(
        self: &Rc<Self>,
        connection: &mut Connection<E>,
        message: &[u8],
    ) -> Result<(), Closed> {
        let request: OpReadBlock = decode(message)?;
        self.metrics.reads_active.add(1);
        self.metrics.reads_active_max.raise(self.metrics.reads_active.get());
        let served = self.send_block(connection, &request).await;
        self.metrics.reads_active.sub(1);
        served
    }

    async fn send_block(&self, connection: &mut Connection<E>, request: &OpReadBlock) -> Result<(), Closed> {
        self.metrics.read_ranges.add(1);
        let plan = match self.plan_block(request).await {
            Ok(plan) => plan,
            Err(error) if error.code == Code::BlockMissing => {
                return self.send_value(connection, request, error).await;
            }
            Err(error) => return connection.refuse(error).await,
        };
        let layout = &plan.file.layout;
        append_begin(&mut connection.out, request, (layout.checksum, layout.chunk_bytes), plan.begin);
        let (mut at, mut sequence) = (plan.begin, 0);
        while at < plan.until {
            let len = PART_BYTES.min(plan.until - at);
            let sent = self.send_packet(connection, &plan, request.send_checksums(), sequence, at, len);
            if let Err(error) = sent.await? {
                // The client asks another datanode.
                return Err(Closed::Protocol(error.message));
            }
            (at, sequence) = (at + len, sequence + 1);
        }
        connection.end_read(sequence, at).await
    }

    /// Sends what is kept in the namenode. `missing` is why nothing else is sent.
    async fn send_value(
        &self,
        connection: &mut Connection<E>,
        request: &OpReadBlock,
        missing: WireError,
    ) -> Result<(), Closed> {
        let header = &request.header.base_header;
        let asked = match convert::capability(header.token.as_ref()) {
            Ok(capability) => self.value_of(capability, convert::block_ref(&header.block)).await,
            Err(error) => Err(error),
        };
        let value = match asked {
            Ok(value) => value,
            Err(error) if error.code == Code::BlockMissing => return connection.refuse(missing).await,
            Err(error) => return connection.refuse(error).await,
        };
        let (chunk, len) = (u64::from(value.chunk_bytes), value.bytes.len() as u64);
        let end = request.offset.checked_add(request.len).filter(|end| *end <= len && request.len > 0);
        let Some(end) = end else {
            let (offset, wanted) = (request.offset, request.len);
            let message = format!("{wanted} bytes at offset {offset} exceed the {len} bytes of the block");
            return connection.refuse(WireError::new(Code::OutOfRange, message)).await;
        };
        let begin = request.offset / chunk * chunk;
        let data = &value.bytes[begin as usize..end.next_multiple_of(chunk).min(len) as usize];
        let mut checksums = Vec::new();
        if request.send_checksums() {
            checksums.resize(chunk_count(data.len(), value.chunk_bytes) * CHECKSUM_BYTES, 0);
            compute_chunks(value.checksum, data, value.chunk_bytes, &mut checksums);
        }
        append_begin(&mut connection.out, request, (value.checksum, value.chunk_bytes), begin);
        let packet = Packet {
            sequence: 0,
            offset: begin,
            data_len: data.len(),
            checksums_len: checksums.len(),
            is_last: false,
            is_sync: false,
        };
        packets::append_packet_head(&mut connection.out, &packet);
        connection.send(&[&checksums, data]).await?;
        connection.end_read(1, begin + data.len() as u64).await
    }

    /// What a client asks for, as a native range.
    async fn plan_block(&self, request: &OpReadBlock) -> Result<Plan<E>, WireError> {
        let header = &request.header.base_header;
        let block = convert::block_ref(&header.block);
        let capability = convert::capability(header.token.as_ref())?;
        let (offset, length) = (request.offset, request.len);
        self.plan(&ReadRangeV1 { capability, block: block.block, stamp: block.stamp, offset, length }).await
    }

    async fn send_packet(
        &self,
        connection: &mut Connection<E>,
        plan: &Plan<E>,
        with_checksums: bool,
        sequence: i64,
        at: u64,
        len: u64,
    ) -> Result<Result<(), WireError>, Closed> {
        let layout = &plan.file.layout;
        let stored = match with_checksums {
            true => match self.checksums(plan, at, len).await {
                Ok(stored) => Some(stored),
                Err(error) => return Ok(Err(error)),
            },
            false => None,
        };
        let checksums = stored.as_ref().map_or(&[][..], AsRef::as_ref);
        debug_assert!(checksums.len().is_multiple_of(CHECKSUM_BYTES));
        let part = RangeDataV1 {
            range: 0,
            code: 0,
            checksum: layout.checksum,
            chunk_bytes: layout.chunk_bytes,
            offset: at,
            checksums_len: checksums.len() as u32,
            data_len: len as u32,
            is_last: at + len == plan.until,
        };
        let packet = Packet {
            sequence,
            offset: at,
            data_len: len as usize,
            checksums_len: checksums.len(),
            is_last: false,
            is_sync: false,
        };
        let head = |out: &mut Vec<u8>| packets::append_packet_head(out, &packet);
        self.send_part(connection, plan, &part, checksums, head).await
    }
}

impl<E: Engine> Connection<E> {
    /// Ends the packets of a block, and hears how they were.
    async fn end_read(&mut self, sequence: i64, offset: u64) -> Result<(), Closed> {
        let end = Packet { sequence, offset, data_len: 0, checksums_len: 0, is_last: true, is_sync: false };
        packets::append_packet_head(&mut self.out, &end);
        self.send(&[]).await?;
        // Who has read all of it says so, and may go on with another operation.
        if self.frames.has_more().await? {
            let status: ClientReadStatus = decode(&self.frames.delimited().await?)?;
            if !matches!(status.status(), Status::Success | Status::ChecksumOk) {
                tracing::info!(status = ?status.status(), "a reader is not content");
            }
        }
        Ok(())
    }
}

/// Appends the answer that data begins.
fn append_begin(
    out: &mut Vec<u8>,
    request: &OpReadBlock,
    (checksum, bytes_per_checksum): (ChecksumType, u32),
    chunk_offset: u64,
) {
    let kind = match request.send_checksums() {
        true => convert::checksum_name(checksum),
        false => hdfs::ChecksumType::ChecksumNull,
    };
    let info =
        ReadOpChecksumInfo { checksum: Checksum { r#type: kind as i32, bytes_per_checksum }, chunk_offset };
    packets::append(
        out,
        &BlockOpResponse { read_op_checksum_info: Some(info), ..BlockOpResponse::default() },
    );
}
