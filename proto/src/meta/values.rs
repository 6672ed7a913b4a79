//! Client and namenode: small files, whose bytes travel with the calls.

use super::namespace::{BlockRefV1, CreateRequestV1, GetBlockLocationsReplyV1};
use crate::capability::CapabilityBytes;
use crate::checksum::ChecksumType;

/// Makes a closed file with its content, in one record of the log.
///
/// Errors: as `Create`, and `LimitExceeded` when so many bytes are not kept in the namenode, or no more of them: such a file is
/// created, written to datanodes and completed.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PutRequestV1 {
    /// What to make.
    pub file: CreateRequestV1,
    /// All of its content.
    pub bytes: Vec<u8>,
}

/// Opens many files for reading at once: status, locations, and the content of those that are kept in the namenode.
///
/// Errors: `InvalidArgument` when there are more than `BATCH_PATHS_MAX`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BatchOpenRequestV1 {
    /// Absolute paths.
    pub paths: Vec<String>,
}

/// What became of the first of the paths: as many as fit into a frame, at least one. The client asks again for the rest.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BatchOpenReplyV1 {
    /// In the order of the request.
    pub files: Vec<OpenedV1>,
}

/// One path of a batch.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum OpenedV1 {
    /// As `GetBlockLocations` of the whole file.
    Open(GetBlockLocationsReplyV1),
    /// As its error: code and text.
    Refused(u16, String),
}

/// Reads a block that is kept in the namenode. HDFS clients know datanodes only: one of them asks for it with what its client
/// has shown.
///
/// Errors: those of a capability, and `BlockMissing` when it is not kept here any more.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReadValueRequestV1 {
    /// Opens the block for reading.
    pub capability: CapabilityBytes,
    /// The block.
    pub block: BlockRefV1,
}

/// All of its bytes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReadValueReplyV1 {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The kind of checksums of its file.
    pub checksum: ChecksumType,
    /// Bytes that a checksum of its file is of.
    pub chunk_bytes: u32,
}

crate::impl_message!(
    PutRequestV1,
    BatchOpenRequestV1,
    BatchOpenReplyV1,
    ReadValueRequestV1,
    ReadValueReplyV1
);
