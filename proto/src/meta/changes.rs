//! Client and namenode: changes beside the plain ones of [`super::namespace`].

use crate::ids::{InodeId, LogIndex};
use crate::meta::namespace::{
    DeleteRequestV1, FileStatusV1, LocatedBlockV1, MkdirsRequestV1, RenameRequestV1,
};

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
    /// Bytes of the largest end of a file that is kept in the namenode; 0: none is.
    pub inline_bytes_max: u32,
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

/// One version of the content of a file; of a directory, the inode alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ContentVersionV1 {
    /// The inode.
    pub inode: InodeId,
    /// As `FileStatusV1::version`: the record that closed the file last, 0 for a directory.
    pub version: LogIndex,
}

/// What must be true of a path for a step to be carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ExpectedV1 {
    /// There is nothing.
    Missing,
    /// There is a file or directory.
    Exists,
    /// There is this version of this file or directory, and nobody writes it.
    Version(ContentVersionV1),
}

/// An empty file that nobody writes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreateEmptyV1 {
    /// Absolute path, which must be free; missing parents are made.
    pub path: String,
    /// Permission bits after the caller's umask.
    pub mode: u16,
    /// Permission bits before the umask, which a default ACL of the directory takes the place of.
    pub unmasked_mode: u16,
    /// Wanted replicas; 0 means the server's default.
    pub replication: u16,
    /// Bytes per block; 0 means the server's default.
    pub block_size: u64,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum CommitActionV1 {
    /// As the call.
    Mkdirs(MkdirsRequestV1),
    /// Makes an empty file.
    CreateEmpty(CreateEmptyV1),
    /// As the call.
    Rename(RenameRequestV1),
    /// As the call, but a path that is missing is `NotFound`.
    Delete(DeleteRequestV1),
    /// Changes nothing: its conditions alone count.
    Check,
}

/// A step of a commit: conditions, then an action. Both see what the steps before have done.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CommitStepV1 {
    /// Absolute paths, and what is expected of each; at most `COMMIT_CONDITIONS_MAX`.
    pub conditions: Vec<(String, ExpectedV1)>,
    /// What is done then.
    pub action: CommitActionV1,
}

/// Carries out all steps in one record, or none.
///
/// Errors: those of the action that failed, with the number of its step in the message; `ConditionFailed`,
/// `InvalidArgument` (no steps, or more than `COMMIT_STEPS_MAX`), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CommitRequestV1 {
    /// In order, at most `COMMIT_STEPS_MAX`.
    pub steps: Vec<CommitStepV1>,
}

/// All steps are carried out.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CommitReplyV1 {
    /// The record that did it.
    pub index: LogIndex,
    /// What each step has left at its path, at the target's for a rename; `None` for a delete or a check, and for what a
    /// later step took away again.
    pub versions: Vec<Option<ContentVersionV1>>,
}

crate::impl_message!(
    AppendRequestV1,
    AppendReplyV1,
    TruncateRequestV1,
    TruncateReplyV1,
    ConcatRequestV1,
    CommitRequestV1,
    CommitReplyV1,
);
