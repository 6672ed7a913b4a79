//! Checksums of blocks, made of those that are stored for their chunks (HDFS: `BlockChecksumHelper`).

use md5::{Digest, Md5};
use ringfs_hadoop::hdfs::BlockChecksumType;
use ringfs_hadoop::transfer::{
    BlockChecksumOptions, BlockOpResponse, OpBlockChecksum, OpBlockChecksumResponse,
};
use ringfs_proto::checksum::{CHECKSUM_BYTES, ChecksumType, Composite, chunk_count, compute_chunks};
use ringfs_proto::meta::data::ReadRangeV1;
use ringfs_proto::{Code, WireError};

use super::{convert, decode};
use crate::engine::Engine;
use crate::serve::Shard;
use crate::serve::connection::Connection;
use crate::serve::frames::Closed;
use crate::serve::read::PART_BYTES;

impl<E: Engine> Shard<E> {
    /// Answers `BLOCK_CHECKSUM`.
    pub(super) async fn checksum_block(
        &self,
        connection: &mut Connection<E>,
        message: &[u8],
    ) -> Result<(), Closed> {
        let request: OpBlockChecksum = decode(message)?;
        match self.checksum_of(&request).await {
            Ok(response) => {
                let response =
                    BlockOpResponse { checksum_response: Some(response), ..BlockOpResponse::default() };
                connection.accept(&response).await
            }
            Err(error) => connection.refuse(error).await,
        }
    }

    async fn checksum_of(&self, request: &OpBlockChecksum) -> Result<OpBlockChecksumResponse, WireError> {
        let block = convert::block_ref(&request.header.block);
        let options = request.block_checksum_options.unwrap_or_default();
        let kind = options.block_checksum_type();
        if block.length == 0 {
            return Ok(response(&[], (ChecksumType::Crc32c, 512), kind, 0));
        }
        let capability = convert::capability(request.header.token.as_ref())?;
        let (offset, length) = (0, block.length);
        let range = ReadRangeV1 { capability, block: block.block, stamp: block.stamp, offset, length };
        let plan = match self.plan(&range).await {
            Err(error) if error.code == Code::BlockMissing => {
                let value = self.value_of(capability, block).await.map_err(|_| error)?;
                let bytes = value.bytes.get(..length as usize).unwrap_or(&value.bytes);
                let mut stored = vec![0; chunk_count(bytes.len(), value.chunk_bytes) * CHECKSUM_BYTES];
                compute_chunks(value.checksum, bytes, value.chunk_bytes, &mut stored);
                return Ok(response(&stored, (value.checksum, value.chunk_bytes), kind, bytes.len() as u64));
            }
            planned => planned?,
        };
        let layout = plan.file.layout;
        let mut stored = Vec::new();
        while let at = stored.len() as u64 / CHECKSUM_BYTES as u64 * u64::from(layout.chunk_bytes)
            && at < plan.until
        {
            let part = self.checksums(&plan, at, PART_BYTES.min(plan.until - at)).await?;
            stored.extend_from_slice(part.as_ref());
        }
        let partial = (length % u64::from(layout.chunk_bytes)) as usize;
        if partial > 0 {
            // What is stored may be of more than was asked for.
            let begin = layout.data_offset() + length - partial as u64;
            let (data, skip) = self.data(&plan, begin, partial).await?;
            let crc = layout.checksum.of(&data.as_ref()[skip..skip + partial]);
            let last = stored.len() - CHECKSUM_BYTES;
            stored[last..].copy_from_slice(&crc.to_be_bytes());
        }
        Ok(response(&stored, (layout.checksum, layout.chunk_bytes), kind, length))
    }
}

fn response(
    stored: &[u8],
    (checksum, chunk_bytes): (ChecksumType, u32),
    kind: BlockChecksumType,
    length: u64,
) -> OpBlockChecksumResponse {
    let block_checksum = match kind {
        BlockChecksumType::Md5crc => Md5::digest(stored).to_vec(),
        BlockChecksumType::CompositeCrc => {
            composite(stored, checksum, chunk_bytes, length).to_be_bytes().to_vec()
        }
    };
    OpBlockChecksumResponse {
        bytes_per_crc: chunk_bytes,
        crc_per_block: (stored.len() / CHECKSUM_BYTES) as u64,
        block_checksum: block_checksum.into(),
        crc_type: Some(convert::checksum_name(checksum) as i32),
        block_checksum_options: Some(BlockChecksumOptions {
            block_checksum_type: Some(kind as i32),
            stripe_length: None,
        }),
    }
}

/// The checksum of all bytes.
fn composite(stored: &[u8], checksum: ChecksumType, chunk_bytes: u32, length: u64) -> u32 {
    let partial = length % u64::from(chunk_bytes);
    let whole = if partial > 0 { stored.len() - CHECKSUM_BYTES } else { stored.len() };
    let mut all = Composite::new(checksum, chunk_bytes);
    all.push_chunks(&stored[..whole]);
    let last = stored[whole..].first_chunk().map_or(0, |crc| u32::from_be_bytes(*crc));
    all.finish(last, partial)
}
