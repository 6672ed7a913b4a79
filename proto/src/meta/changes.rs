//! Client and namenode: changes beside the plain ones of [`super::namespace`].

use crate::meta::namespace::{FileStatusV1, LocatedBlockV1};

/// Opens a closed file for writing behind its end; the caller's session holds its lease. HDFS: `ClientProtocol.append`.
///
/// Errors: `NotFound`, `IsADirectory`, `LeaseHeld` (somebody writes it, or it is being truncated), `NotReplicatedYet` (no
/// good replica of the last block is known now), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AppendRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Whether the bytes begin a new block, also when the last one is not full.
    pub new_block: bool,
}

/// The file as it was opened.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AppendReplyV1 {
    /// Its status; `is_open` is true, and `length` is without the last block if that is open again.
    pub status: FileStatusV1,
    /// Its last block, with the length that it has. If `is_open`, bytes go on in it: its writer asks for a stamp
    /// (`UpdateBlockForPipeline`), opens its nodes under that and tells the namenode (`UpdatePipeline`). Else it is the
    /// `previous` of the first `AddBlock`.
    pub last: Option<LocatedBlockV1>,
}

/// Cuts a closed file. HDFS: `ClientProtocol.truncate`.
///
/// Errors: `NotFound`, `IsADirectory`, `InvalidArgument` (longer than the file), `LeaseHeld`, `NotReplicatedYet`,
/// `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TruncateRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Bytes that stay.
    pub length: u64,
}

/// How far it is.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TruncateReplyV1 {
    /// Whether the file has its new length. If not, the last block is being copied up to there: until that has ended the
    /// file is as it was, its status says `is_open`, and nobody else may write it.
    pub is_done: bool,
}

/// Moves the blocks of files behind those of another, and removes the files. HDFS: `ClientProtocol.concat`.
///
/// Errors: `NotFound`, `IsADirectory`, `InvalidArgument` (see `docs/semantics.md`), `LimitExceeded`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ConcatRequestV1 {
    /// Absolute path of the file that grows.
    pub target: String,
    /// Absolute paths of those that are moved behind it, in order; 1 to `CONCAT_SOURCES_MAX`.
    pub sources: Vec<String>,
}

crate::impl_message!(AppendRequestV1, AppendReplyV1, TruncateRequestV1, TruncateReplyV1, ConcatRequestV1,);
