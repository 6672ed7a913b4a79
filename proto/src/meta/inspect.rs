//! What the person who runs a cluster looks into: the replicas of files one by one, and what the namenode is busy with.

use crate::ids::InodeId;
use crate::meta::namespace::{BlockRefV1, NodeV1};

/// Asks what is known of the replicas of files. HDFS: `NamenodeFsck.check`.
///
/// Errors: `PermissionDenied` (a directory above a file may not be searched), `InvalidArgument` (too many files).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckFilesRequestV1 {
    /// At most `BATCH_PATHS_MAX`.
    pub files: Vec<FileFromV1>,
}

/// The blocks of a file from an offset on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FileFromV1 {
    /// The file.
    pub inode: InodeId,
    /// Blocks that end at or before it are left out; 0 for all.
    pub offset: u64,
}

/// What a replica is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReplicaHealth {
    /// It counts.
    Live,
    /// Its bytes do not verify, or its length is not the block's.
    Corrupt,
    /// It is of an earlier time of the block, or was never finished.
    Outdated,
    /// It is good, one too many, and will be deleted.
    Excess,
    /// It is being written.
    BeingWritten,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckedReplicaV1 {
    /// Where it is.
    pub node: NodeV1,
    /// What it is worth.
    pub health: ReplicaHealth,
}

/// A block with all that is known of its replicas.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckedBlockV1 {
    /// The block; the length of an open one is 0.
    pub block: BlockRefV1,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Whether it is being written.
    pub is_open: bool,
    /// Whether its live replicas are on fewer racks than they should be.
    pub is_misplaced: bool,
    /// Whether it is being copied because it has too few.
    pub is_copied: bool,
    /// Copies of its bytes in the namenode's log, which then has them and no datanode; 0 for all other blocks.
    pub value_copies: u16,
    /// By storage.
    pub replicas: Vec<CheckedReplicaV1>,
}

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckedFileV1 {
    /// Whether there is such a file.
    pub is_there: bool,
    /// Blocks of the file, in order.
    pub blocks: Vec<CheckedBlockV1>,
    /// From where on to ask again for the rest; `None` when `blocks` reaches the end.
    pub next_offset: Option<u64>,
}

/// Answers in the order of the files, for as many of the first files as fit into a frame: at least one.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CheckFilesReplyV1 {
    /// One for each file; a client asks again for those at the end that have none.
    pub files: Vec<CheckedFileV1>,
}

/// Asks what the namenode has been asked, by operation and by user.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ActivityRequestV1 {
    /// Users wanted: those with the most calls. At most `ACTIVITY_USERS_MAX`; 0 means that.
    pub users_max: u32,
}

/// Calls of one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OperationActivityV1 {
    /// Number of the operation.
    pub op: u16,
    /// Calls that came.
    pub calls: u64,
    /// Calls that were answered with an error.
    pub errors: u64,
}

/// Calls of one user.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UserActivityV1 {
    /// His name; empty: all those for whom there was no room.
    pub user: String,
    /// Connections that he has now.
    pub connections: u32,
    /// Calls that reached the namespace thread.
    pub calls: u64,
    /// Calls that were answered `Busy` at once, as too many of his were waiting.
    pub refused: u64,
    /// How long his calls waited for the namespace thread, summed, µs.
    pub waited_us: u64,
}

/// What the namenode was asked since it started.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ActivityReplyV1 {
    /// How long it runs, ms.
    pub uptime_ms: u64,
    /// Operations that were ever called, by number.
    pub operations: Vec<OperationActivityV1>,
    /// Users, those with the most calls first.
    pub users: Vec<UserActivityV1>,
}

crate::impl_message!(CheckFilesRequestV1, CheckFilesReplyV1, ActivityRequestV1, ActivityReplyV1);
