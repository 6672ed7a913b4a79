//! Names of HDFS as those of RingFS.

use ringfs_hadoop::hdfs::{self, DatanodeInfo, ExtendedBlock, Token};
use ringfs_proto::capability::CapabilityBytes;
use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, Stamp, StorageId};
use ringfs_proto::meta::data::PipelineNodeV1;
use ringfs_proto::meta::namespace::BlockRefV1;
use ringfs_proto::{Code, WireError};

/// A block that a client names.
pub(super) fn block_ref(block: &ExtendedBlock) -> BlockRefV1 {
    BlockRefV1 {
        block: BlockId(block.block_id),
        stamp: Stamp(block.generation_stamp),
        length: block.num_bytes(),
    }
}

/// The capability that is in a token.
///
/// # Errors
/// `CapabilityInvalid`: there is none.
pub(super) fn capability(token: Option<&Token>) -> Result<CapabilityBytes, WireError> {
    let password = token.map(|token| token.password.as_ref()).unwrap_or_default();
    password
        .try_into()
        .map_err(|_| WireError::new(Code::CapabilityInvalid, "the block token holds no capability"))
}

/// The kind of checksums that a client names; `None` for none.
pub(super) fn checksum(kind: hdfs::ChecksumType) -> Option<ChecksumType> {
    match kind {
        hdfs::ChecksumType::ChecksumNull => None,
        hdfs::ChecksumType::ChecksumCrc32 => Some(ChecksumType::Crc32),
        hdfs::ChecksumType::ChecksumCrc32c => Some(ChecksumType::Crc32c),
    }
}

/// The kind of stored checksums.
pub(super) fn checksum_name(kind: ChecksumType) -> hdfs::ChecksumType {
    match kind {
        ChecksumType::Crc32 => hdfs::ChecksumType::ChecksumCrc32,
        ChecksumType::Crc32c => hdfs::ChecksumType::ChecksumCrc32c,
    }
}

/// A storage that a client names.
pub(super) fn storage(name: &str) -> StorageId {
    name.strip_prefix("DS-").and_then(|id| id.parse().ok()).unwrap_or_default()
}

/// A node of a pipeline.
///
/// # Errors
/// `Malformed`.
pub(super) fn node(info: &DatanodeInfo, storage_name: Option<&String>) -> Result<PipelineNodeV1, WireError> {
    let malformed = |what: &str| WireError::new(Code::Malformed, format!("{what} of a node in a pipeline"));
    Ok(PipelineNodeV1 {
        datanode: info.id.datanode_uuid.parse().map_err(|_| malformed("the id"))?,
        storage: storage(storage_name.map_or("", String::as_str)),
        host: info.id.ip_addr.clone(),
        port: u16::try_from(info.id.xfer_port).map_err(|_| malformed("the port"))?,
    })
}
