//! Reading a block: the parts of a native range as packets.

use std::rc::Rc;

use ringfs_hadoop::hdfs;
use ringfs_hadoop::packets::{self, Packet};
use ringfs_hadoop::transfer::{
    BlockOpResponse, Checksum, ClientReadStatus, OpReadBlock, ReadOpChecksumInfo, Status,
};
use ringfs_proto::WireError;
use ringfs_proto::checksum::CHECKSUM_BYTES;
use ringfs_proto::meta::data::{RangeDataV1, ReadRangeV1};

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
            Err(error) => return connection.refuse(error).await,
        };
        let layout = &plan.file.layout;
        let checksum = match request.send_checksums() {
            true => convert::checksum_name(layout.checksum),
            false => hdfs::ChecksumType::ChecksumNull,
        };
        let checksum = Checksum { r#type: checksum as i32, bytes_per_checksum: layout.chunk_bytes };
        let info = ReadOpChecksumInfo { checksum, chunk_offset: plan.begin };
        packets::append(
            &mut connection.out,
            &BlockOpResponse { read_op_checksum_info: Some(info), ..BlockOpResponse::default() },
        );
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
        let end =
            Packet { sequence, offset: at, data_len: 0, checksums_len: 0, is_last: true, is_sync: false };
        packets::append_packet_head(&mut connection.out, &end);
        connection.send(&[]).await?;
        // Who has read all of it says how it was, and may go on with another operation.
        if connection.frames.has_more().await? {
            let status: ClientReadStatus = decode(&connection.frames.delimited().await?)?;
            if !matches!(status.status(), Status::Success | Status::ChecksumOk) {
                tracing::info!(block = %plan.file.replica.block, status = ?status.status(), "a reader is not content");
            }
        }
        Ok(())
    }

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
