//! Client and namenode: files, directories, blocks of files.

use crate::capability::CapabilityBytes;
use crate::checksum::ChecksumType;
use crate::ids::{BlockId, DatanodeId, InodeId, LogIndex, Stamp, StorageId};

/// What an inode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum FileKind {
    /// A file.
    File,
    /// A directory.
    Directory,
}

/// Status of a file or directory.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FileStatusV1 {
    /// The inode, stable over renames.
    pub inode: InodeId,
    /// File or directory.
    pub kind: FileKind,
    /// Name inside the directory that was listed; empty for the path that was asked for.
    pub name: String,
    /// Bytes in completed blocks; 0 for a directory.
    pub length: u64,
    /// Bytes in the open last block, as far as its writer has told. There are more, and datanodes know how many.
    pub told_bytes: u64,
    /// Permission bits, `0o1777` at most.
    pub mode: u16,
    /// Name of the owner.
    pub owner: String,
    /// Name of the group.
    pub group: String,
    /// Last change of the content, ms since 1970.
    pub mtime_ms: u64,
    /// Last access, ms since 1970, with a precision of an hour; 0 for a directory.
    pub atime_ms: u64,
    /// Wanted replicas; 0 for a directory.
    pub replication: u16,
    /// Bytes per block; 0 for a directory.
    pub block_size: u64,
    /// Entries of a directory.
    pub children: u32,
    /// Whether a writer has the file open.
    pub is_open: bool,
    /// Log index of the record that closed the file last: with the inode, a version of the content.
    pub version: LogIndex,
    /// Whether it has ACLs: then the permission bits of the group are a mask.
    pub has_acl: bool,
    /// Its storage policy, own or inherited, by its number in HDFS; 0 where none is set.
    pub storage_policy: u8,
    /// Checksum of all bytes, if it is known: not of an open file, nor where a block was reported without one.
    pub content_crc: Option<ContentCrcV1>,
}

/// Checksum of the content of a file. HDFS: `CompositeCrcFileChecksum`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ContentCrcV1 {
    /// Its type: that of the file's blocks.
    pub kind: ChecksumType,
    /// Its value.
    pub crc: u32,
}

/// Asks for the status of a path. Errors: `NotFound`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct StatRequestV1 {
    /// Absolute path.
    pub path: String,
}

/// Asks for a page of a directory. Errors: `NotFound`. A file lists itself, with an empty name.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Last name of the page before; empty for the first page.
    pub start_after: String,
    /// Entries wanted; the server sends at most `LIST_PAGE_ENTRIES_MAX`, 0 means that.
    pub entries_max: u32,
}

/// A page of a directory.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ListReplyV1 {
    /// Sorted by the bytes of the names.
    pub entries: Vec<FileStatusV1>,
    /// Entries after this page.
    pub remaining: u32,
}

/// Makes a directory. True also if it exists.
///
/// Errors: `AlreadyExists` (the path is a file), `NotADirectory` (an ancestor is a file), `NotFound` (the parent is
/// missing and `create_parents` is off), `NameTooLong`, `LimitExceeded`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MkdirsRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Permission bits after the caller's umask.
    pub mode: u16,
    /// Permission bits before the umask, which a default ACL of the directory takes the place of.
    pub unmasked_mode: u16,
    /// Whether missing parents are made too, with the same mode plus `u+wx`.
    pub create_parents: bool,
}

/// The change is durable and applied.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DoneV1 {
    /// Its record in the log; 0 when nothing had to change.
    pub index: LogIndex,
}

/// Makes a file and opens it for writing; the caller's session holds its lease.
///
/// Errors: `AlreadyExists`, `IsADirectory`, `NotADirectory`, `NotFound` (parent), `LeaseHeld`, `InvalidArgument`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreateRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Permission bits after the caller's umask.
    pub mode: u16,
    /// Permission bits before the umask, which a default ACL of the directory takes the place of.
    pub unmasked_mode: u16,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Whether missing parents are made.
    pub create_parents: bool,
    /// Wanted replicas; 0 means the server's default.
    pub replication: u16,
    /// Bytes per block; 0 means the server's default.
    pub block_size: u64,
    /// Type of the checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum; 0 when the first packet will tell.
    pub chunk_bytes: u32,
}

/// The file as it was created.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreateReplyV1 {
    /// Its status; `is_open` is true.
    pub status: FileStatusV1,
    /// Bytes of the largest file that is kept in the namenode; 0: none is.
    pub inline_bytes_max: u32,
}

/// One version of a block with its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BlockRefV1 {
    /// The block.
    pub block: BlockId,
    /// Its stamp.
    pub stamp: Stamp,
    /// Bytes in it.
    pub length: u64,
}

/// Where a replica is.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NodeV1 {
    /// The datanode.
    pub datanode: DatanodeId,
    /// The volume.
    pub storage: StorageId,
    /// Numeric IP address.
    pub host: String,
    /// Data port.
    pub port: u16,
    /// Whether its heartbeats are late: to be tried last.
    pub is_stale: bool,
}

/// A block of a file, with what is needed to read or write it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LocatedBlockV1 {
    /// The block, its stamp, and its length; the length of the open last block is 0 here, its datanodes know.
    pub block: BlockRefV1,
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Whether it is being written.
    pub is_open: bool,
    /// Where its replicas are, best first; for a new block, the pipeline in order.
    pub nodes: Vec<NodeV1>,
    /// Whether every storage that the log names for an open block is among `nodes`. Else bytes of it may be where nobody can
    /// ask for them now: on a datanode that has not registered since the namenode's start, or on a volume that has failed.
    pub are_all_nodes: bool,
    /// Whether replicas of an open block are known to have been made. While they are not, it is empty if all of all nodes say
    /// that they have none.
    pub is_begun: bool,
    /// Opens the block for reading, or for writing in the reply of `AddBlock`.
    pub capability: CapabilityBytes,
    /// For a block that is kept in the namenode itself, and on no datanode: its bytes; none when they would not fit into the
    /// reply, then locations are asked for from its offset on.
    pub inline: Option<Vec<u8>>,
}

/// Adds a block to an open file.
///
/// A repeated request (same `previous`, the last block still empty) gets the same block again.
/// Errors: `NotFound`, `LeaseLost`, `NotReplicatedYet`, `NoRoom`, `LimitExceeded`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AddBlockRequestV1 {
    /// The open file.
    pub inode: InodeId,
    /// The last block as its pipeline acknowledged it, which is committed by this call; `None` for the first.
    pub previous: Option<BlockRefV1>,
    /// Datanodes that failed this writer.
    pub excluded: Vec<DatanodeId>,
}

/// The new block.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AddBlockReplyV1 {
    /// Its id, pipeline and capability.
    pub located: LocatedBlockV1,
}

/// Takes back the last, unwritten block of an open file. Errors: `NotFound`, `LeaseLost`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AbandonBlockRequestV1 {
    /// The open file.
    pub inode: InodeId,
    /// The block.
    pub block: BlockId,
}

/// What the pipeline of the last block acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AckedReplicaV1 {
    /// The datanode.
    pub datanode: DatanodeId,
    /// The volume.
    pub storage: StorageId,
}

/// Closes a file.
///
/// Errors: `NotFound`, `LeaseLost`, `NotReplicatedYet` (not reported within 5 s: call again).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CompleteRequestV1 {
    /// The open file.
    pub inode: InodeId,
    /// The last block as its pipeline acknowledged it; `None` for an empty file.
    pub last: Option<BlockRefV1>,
    /// Who acknowledged it.
    pub acked: Vec<AckedReplicaV1>,
    /// Bytes behind that block, to be kept in the namenode: the rest of a small file, or all of it. Errors: `LimitExceeded`
    /// when they are not kept there; the file is then as before, and a block takes them.
    pub tail: Option<InlineTailV1>,
}

/// The end of a file that is kept in the namenode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct InlineTailV1 {
    /// Its bytes; not none.
    pub bytes: Vec<u8>,
    /// Whether they take the place of `last`, which is kept in the namenode: they begin with what is in it.
    pub replaces_last: bool,
}

/// A file, by path or by inode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum FileRefV1 {
    /// Absolute path.
    Path(String),
    /// An inode that is already known: the file may have been renamed since.
    Inode(InodeId),
}

/// Asks where the blocks of a range are. Errors: `NotFound`, `IsADirectory`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetBlockLocationsRequestV1 {
    /// The file.
    pub file: FileRefV1,
    /// First byte of the range.
    pub offset: u64,
    /// Bytes of the range; `u64::MAX` means to the end.
    pub length: u64,
}

/// The blocks that overlap the range, at most `LOCATED_BLOCKS_MAX`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct GetBlockLocationsReplyV1 {
    /// The file.
    pub status: FileStatusV1,
    /// In the order of the file.
    pub blocks: Vec<LocatedBlockV1>,
}

/// Renames, as HDFS's `rename2`: the target names the new path itself, also when it is a directory.
///
/// Errors: `NotFound` (source, or parent of the target), `NotADirectory`, `AlreadyExists` (target; or source equals
/// target), `NotEmpty`, `InvalidArgument` (target inside source; root).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RenameRequestV1 {
    /// Absolute path.
    pub source: String,
    /// Absolute path.
    pub target: String,
    /// Whether an existing file, or an empty directory, is replaced.
    pub overwrite: bool,
}

/// Deletes. Errors: `NotEmpty` (a directory with entries, and not `recursive`).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DeleteRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Whether a directory goes with all below it.
    pub recursive: bool,
}

/// Whether there was something to delete.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DeleteReplyV1 {
    /// False for a missing path and for the root.
    pub deleted: bool,
}

/// A pipeline has failed: its block needs a new stamp, which fences what is left of the old one.
///
/// The stamp is durable and never given out again, but the block keeps its old one until `UpdatePipeline`. A writer
/// whose lease was recovered meanwhile gets its file back, open, if the recovered length is what it names and nobody
/// has opened the file for writing since. HDFS: `ClientProtocol.updateBlockForPipeline`. Errors: `NotFound`,
/// `LeaseLost`, `Busy` (the lease is being recovered: ask again), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UpdateBlockForPipelineRequestV1 {
    /// The open file; 0 for that of the block.
    pub inode: InodeId,
    /// Its open last block: the stamp that the writer knows, and the length that was acknowledged to it.
    pub block: BlockRefV1,
}

/// What the datanodes that are left are opened with.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UpdateBlockForPipelineReplyV1 {
    /// The block as it is until `UpdatePipeline`, which gets it as `old`: with the stamp that its replicas have now. It
    /// is not the request's when the lease was recovered meanwhile: then replicas with older stamps do not count.
    pub block: BlockRefV1,
    /// The new stamp.
    pub stamp: Stamp,
    /// Opens the block for writing under the new stamp.
    pub capability: CapabilityBytes,
}

/// The pipeline stands again under a new stamp: from now on replicas with an older one do not count.
///
/// Called before a byte is sent over it. HDFS: `ClientProtocol.updatePipeline`. Errors: `NotFound`, `LeaseLost`, `Busy`,
/// `InvalidArgument` (`old` is not the open last block, or the stamp was not given out for it), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UpdatePipelineRequestV1 {
    /// The open file; 0 for that of the block.
    pub inode: InodeId,
    /// The block under its old stamp, with the length that was acknowledged to the writer.
    pub old: BlockRefV1,
    /// From `UpdateBlockForPipeline`.
    pub stamp: Stamp,
    /// The new pipeline, in order.
    pub nodes: Vec<AckedReplicaV1>,
}

/// Asks for more datanodes for a pipeline that has lost some. HDFS: `ClientProtocol.getAdditionalDatanode`.
///
/// Errors: `NotFound`, `LeaseLost`, `Busy`, `NoRoom` (there is none), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AddDatanodesRequestV1 {
    /// The open file; 0 for that of the block.
    pub inode: InodeId,
    /// Its open last block.
    pub block: BlockId,
    /// The pipeline as it is.
    pub existing: Vec<AckedReplicaV1>,
    /// Datanodes that failed this writer.
    pub excluded: Vec<DatanodeId>,
    /// How many more, at least 1.
    pub count: u16,
}

/// More datanodes for a pipeline.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AddDatanodesReplyV1 {
    /// At least one, at most as many as were asked for.
    pub nodes: Vec<NodeV1>,
    /// Opens the block under its present stamp, so that a datanode of the pipeline can copy what it has to them.
    pub capability: CapabilityBytes,
}

/// Takes the lease of a file from its writer and closes the file at the longest length that all its replicas have.
///
/// HDFS: `ClientProtocol.recoverLease`. Errors: `NotFound`, `IsADirectory`, `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RecoverLeaseRequestV1 {
    /// Absolute path.
    pub path: String,
}

/// How far the recovery is.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RecoverLeaseReplyV1 {
    /// Whether the file is closed. If not, recovery has begun: ask again.
    pub is_closed: bool,
}

/// The session lives and holds its leases by this connection.
///
/// Clients that keep no connection renew within the soft limit. HDFS: `ClientProtocol.renewLease`, `fsync`.
/// Errors: `LeaseLost` (the session does not have the file that it tells of).
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RenewLeaseRequestV1 {
    /// How many bytes the open last block of a file has by now, to be seen in its status. It is not kept over a restart.
    pub told: Option<(InodeId, u64)>,
}

/// Changes how many replicas a file shall have. HDFS: `ClientProtocol.setReplication`.
///
/// Errors: `NotFound`, `InvalidArgument` (0, or more than `REPLICATION_MAX`), `SafeMode`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetReplicationRequestV1 {
    /// Absolute path.
    pub path: String,
    /// Wanted replicas.
    pub replication: u16,
}

/// Whether the path has replicas.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetReplicationReplyV1 {
    /// False for a directory: nothing was changed.
    pub is_file: bool,
}

/// A replica whose bytes a reader found bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct BadReplicaV1 {
    /// The block as the reader knows it.
    pub block: BlockRefV1,
    /// Where the replica is.
    pub datanode: DatanodeId,
    /// On which volume.
    pub storage: StorageId,
}

/// Replicas that a reader found bad. Their datanodes verify them; a reader's word alone removes nothing.
/// HDFS: `ClientProtocol.reportBadBlocks`.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ReportBadBlocksRequestV1 {
    /// At most `COMMAND_BLOCKS_MAX`.
    pub replicas: Vec<BadReplicaV1>,
}

crate::impl_message!(
    UpdateBlockForPipelineRequestV1,
    UpdateBlockForPipelineReplyV1,
    UpdatePipelineRequestV1,
    AddDatanodesRequestV1,
    AddDatanodesReplyV1,
    RecoverLeaseRequestV1,
    RecoverLeaseReplyV1,
    RenewLeaseRequestV1,
    SetReplicationRequestV1,
    SetReplicationReplyV1,
    ReportBadBlocksRequestV1,
    FileStatusV1,
    StatRequestV1,
    ListRequestV1,
    ListReplyV1,
    MkdirsRequestV1,
    DoneV1,
    CreateRequestV1,
    CreateReplyV1,
    AddBlockRequestV1,
    AddBlockReplyV1,
    AbandonBlockRequestV1,
    CompleteRequestV1,
    GetBlockLocationsRequestV1,
    GetBlockLocationsReplyV1,
    RenameRequestV1,
    DeleteRequestV1,
    DeleteReplyV1,
);
