//! Records of the write-ahead log: a change of the namespace with time, ids and soft decisions resolved.
//!
//! Frozen like wire messages: a new form of a change is a new variant of the next version's enum. How records are
//! framed into batches and segments is the business of the log (see the parent module).

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, Term};
use ringfs_proto::meta::namespace::BlockRefV1;

/// A record: who changed what, when.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RecordV1 {
    /// Position in the log.
    pub index: LogIndex,
    /// Term of the namenode that wrote it.
    pub term: Term,
    /// Wall clock, ms since 1970; never lower than that of the record before.
    pub time_ms: u64,
    /// The session whose call this is; all zero for changes that the namenode makes by itself.
    pub session: SessionId,
    /// The call of that session.
    pub call: CallId,
    /// The session's lowest unanswered call: results below it are forgotten.
    pub lowest_unanswered: CallId,
    /// The user.
    pub user: String,
    /// What changes.
    pub change: ChangeV1,
}

/// What changes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ChangeV1 {
    /// See `MkdirsRequestV1`.
    Mkdirs(MkdirsV1),
    /// See `CreateRequestV1`.
    Create(CreateV1),
    /// Commits the previous block and adds one.
    AddBlock(AddBlockV1),
    /// Takes the last block back.
    AbandonBlock(AbandonBlockV1),
    /// Closes a file whose last block is reported by enough datanodes.
    Complete(CompleteV1),
    /// See `RenameRequestV1`.
    Rename(RenameV1),
    /// See `DeleteRequestV1`.
    Delete(DeleteV1),
    /// See `SetReplicationRequestV1`.
    SetReplication(SetReplicationV1),
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MkdirsV1 {
    /// Canonical path.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Whether missing parents are made.
    pub create_parents: bool,
}

/// Makes a file under construction, held by the record's session.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CreateV1 {
    /// Canonical path.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Whether an existing file is replaced.
    pub overwrite: bool,
    /// Whether missing parents are made.
    pub create_parents: bool,
    /// Wanted replicas, resolved.
    pub replication: u16,
    /// Bytes per block, resolved.
    pub block_size: u64,
    /// Type of the checksums.
    pub checksum: ChecksumType,
    /// Bytes per checksum; 0 = not known yet.
    pub chunk_bytes: u32,
}

/// Adds a block.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AddBlockV1 {
    /// The open file.
    pub inode: InodeId,
    /// The last block as acknowledged; committed with this length.
    pub previous: Option<BlockRefV1>,
    /// Id of the new block: higher than any before.
    pub block: BlockId,
    /// Stamp of the new block: higher than any before.
    pub stamp: Stamp,
}

/// Takes the last block back.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AbandonBlockV1 {
    /// The open file.
    pub inode: InodeId,
    /// The block.
    pub block: BlockId,
}

/// Closes a file.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CompleteV1 {
    /// The open file.
    pub inode: InodeId,
    /// The last block as acknowledged; `None` for a file without blocks.
    pub last: Option<BlockRefV1>,
}

/// Renames.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RenameV1 {
    /// Canonical path.
    pub source: String,
    /// Canonical path.
    pub target: String,
    /// Whether an existing file or empty directory is replaced.
    pub overwrite: bool,
}

/// Deletes.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct DeleteV1 {
    /// Canonical path.
    pub path: String,
    /// With all below.
    pub recursive: bool,
}

/// Changes how many replicas a file shall have.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetReplicationV1 {
    /// Canonical path.
    pub path: String,
    /// Wanted replicas.
    pub replication: u16,
}

ringfs_proto::impl_message!(RecordV1);
