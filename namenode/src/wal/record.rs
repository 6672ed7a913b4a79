//! Records of the write-ahead log: a change of the namespace with time, ids and soft decisions resolved.
//!
//! Frozen like wire messages: a new form of a change is a new variant of the next version's enum. How records are
//! framed into batches and segments is the business of the log (see the parent module).

use ringfs_proto::checksum::ChecksumType;
use ringfs_proto::ids::{BlockId, CallId, InodeId, LogIndex, SessionId, Stamp, StorageId, Term};
use ringfs_proto::meta::attributes::{AclChangeV1, XattrV1};
use ringfs_proto::meta::changes::CommitStepV1;
use ringfs_proto::meta::namespace::BlockRefV1;

use super::values::crc_of;

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
    /// The user's groups when he called; empty where they make no difference, because he is privileged.
    pub groups: Vec<String>,
    /// Whether permissions are no matter: the superuser, a member of the superuser group, anybody where permissions are
    /// switched off, or the namenode itself.
    pub is_privileged: bool,
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
    /// Gives a stamp to the writer of a pipeline that has failed.
    NewStamp(NewStampV1),
    /// A pipeline stands again.
    UpdatePipeline(UpdatePipelineV1),
    /// Takes an open block from its writer: its recovery begins.
    FenceWriter(FenceWriterV1),
    /// Closes a file without its writer.
    CloseFile(CloseFileV1),
    /// Accepts a state that is older than the datanodes'.
    RaiseIds(RaiseIdsV1),
    /// See `SetPermissionRequestV1`.
    SetPermission(SetPermissionV1),
    /// See `SetOwnerRequestV1`.
    SetOwner(SetOwnerV1),
    /// See `SetTimesRequestV1`.
    SetTimes(SetTimesV1),
    /// A file was opened by a reader.
    Touch(TouchV1),
    /// See `ChangeAclRequestV1`.
    ChangeAcl(ChangeAclV1),
    /// See `SetXattrRequestV1`.
    SetXattr(SetXattrV1),
    /// See `RemoveXattrRequestV1`.
    RemoveXattr(RemoveXattrV1),
    /// See `SetStoragePolicyRequestV1`.
    SetStoragePolicy(SetStoragePolicyV1),
    /// See `AppendRequestV1`.
    Append(AppendV1),
    /// See `ConcatRequestV1`.
    Concat(ConcatV1),
    /// See `TruncateRequestV1`: done at once, or begun.
    Truncate(TruncateV1),
    /// The end of a truncation that had to copy a part of a block.
    EndTruncate(EndTruncateV1),
    /// See `PutRequestV1`.
    Put(PutV1),
    /// Values of a segment that has few left were written again.
    MoveValues(MoveValuesV1),
    /// See `CommitRequestV1`.
    Commit(CommitV1),
    /// Frees more of what was deleted before.
    Free,
}

/// Makes a directory.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MkdirsV1 {
    /// Canonical path.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
    /// Permission bits before the umask, which a default ACL of the directory takes the place of.
    pub unmasked_mode: u16,
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
    /// Permission bits before the umask, which a default ACL of the directory takes the place of.
    pub unmasked_mode: u16,
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
    /// Checksum of that block's bytes, if its datanodes have said it.
    pub previous_crc: Option<u32>,
    /// Id of the new block: higher than any before.
    pub block: BlockId,
    /// Stamp of the new block: higher than any before.
    pub stamp: Stamp,
    /// Where it goes, in the order of the pipeline: whoever recovers the block must know whom to ask.
    pub pipeline: Vec<StorageId>,
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
    /// Checksum of that block's bytes, if its datanodes have said it.
    pub crc: Option<u32>,
    /// What follows that block, or takes its place, and is kept in the log.
    pub tail: Option<TailV1>,
}

/// The end of a file that is kept in the log.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TailV1 {
    /// Id of the block that stands for it: higher than any before.
    pub block: BlockId,
    /// Its bytes.
    pub value: ValueV1,
    /// Whether it takes the place of the last block, a value too.
    pub replaces_last: bool,
}

/// Bytes that lie behind the records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ValueV1 {
    /// Where among the values of the batch.
    pub at: u32,
    /// How many bytes.
    pub len: u32,
    /// CRC32C of them.
    pub crc: u32,
}

impl ValueV1 {
    /// A value that is not in a batch yet.
    pub fn of(bytes: &[u8]) -> Self {
        Self { at: 0, len: bytes.len() as u32, crc: crc_of(bytes) }
    }
}

/// Makes a file with its content.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct PutV1 {
    /// The file.
    pub file: CreateV1,
    /// Id of the block that stands for its content; nothing for an empty file.
    pub block: BlockId,
    /// Its content.
    pub value: Option<ValueV1>,
}

/// Values of a segment that has few left were written again.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MoveValuesV1 {
    /// First record of the segment.
    pub segment: LogIndex,
    /// The values: those that are where they were meanwhile stay as they are.
    pub moved: Vec<MovedV1>,
}

/// A value that was written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct MovedV1 {
    /// The block that stands for it.
    pub block: BlockId,
    /// Where it was in the segment, bytes.
    pub offset: u64,
    /// Where it is.
    pub value: ValueV1,
}

impl ChangeV1 {
    /// The values that its record brings, with the blocks that stand for them.
    pub fn named_values(&self) -> Vec<(BlockId, ValueV1)> {
        match self {
            Self::Put(change) => change.value.map(|value| (change.block, value)).into_iter().collect(),
            Self::Complete(change) => change.tail.iter().map(|tail| (tail.block, tail.value)).collect(),
            Self::MoveValues(change) => change.moved.iter().map(|moved| (moved.block, moved.value)).collect(),
            _ => Vec::new(),
        }
    }

    /// The values that its record brings, to say where they are.
    pub fn values_mut(&mut self) -> Vec<&mut ValueV1> {
        match self {
            Self::Put(change) => change.value.iter_mut().collect(),
            Self::Complete(change) => change.tail.iter_mut().map(|tail| &mut tail.value).collect(),
            Self::MoveValues(change) => change.moved.iter_mut().map(|moved| &mut moved.value).collect(),
            _ => Vec::new(),
        }
    }
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
    /// Whether the right to what is below was looked at before, in turns, so that it is not looked at again.
    pub is_subtree_permitted: bool,
}

/// Changes how many replicas a file shall have.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetReplicationV1 {
    /// Canonical path.
    pub path: String,
    /// Wanted replicas.
    pub replication: u16,
}

/// Gives out a stamp. The block keeps its own until the pipeline stands with the new one.
///
/// Opens the file again for the writer that it was taken from, if it is as that writer left it.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct NewStampV1 {
    /// The open file.
    pub inode: InodeId,
    /// Its open last block, as its writer knows it.
    pub block: BlockRefV1,
    /// Higher than any before.
    pub stamp: Stamp,
}

/// The open last block has a new stamp and a new pipeline.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UpdatePipelineV1 {
    /// The open file.
    pub inode: InodeId,
    /// The block under its stamp until now, with the length that was acknowledged.
    pub old: BlockRefV1,
    /// The stamp that was given out last for it.
    pub stamp: Stamp,
    /// Where it is written from now on, in the order of the pipeline.
    pub pipeline: Vec<StorageId>,
}

/// The recovery of an open last block begins, or begins again: its writer is refused from now on.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FenceWriterV1 {
    /// The open file.
    pub inode: InodeId,
    /// Its open last block.
    pub block: BlockId,
    /// The stamp that the block will have: higher than any before.
    pub stamp: Stamp,
}

/// Closes a file whose writer is gone.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CloseFileV1 {
    /// The open file.
    pub inode: InodeId,
    /// Who has it open: if that is another by now, nothing is done.
    pub holder: SessionId,
    /// The recovery that this ends; `None` when there was no open block to recover.
    pub recovery_stamp: Option<Stamp>,
    /// What becomes of its last block.
    pub end: FileEndV1,
    /// Checksum of that block's bytes, if its datanodes have said it.
    pub crc: Option<u32>,
}

/// What becomes of the last block of a file that is closed without its writer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum FileEndV1 {
    /// It has its length already, or there is none.
    AsIs,
    /// It gets this length and stamp: enough replicas have it so.
    Commit(BlockRefV1),
    /// No replica of it was ever written.
    Remove(BlockId),
}

/// Raises the last ids to what datanodes have, so that none is given out again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RaiseIdsV1 {
    /// The highest block that a datanode has.
    pub block: BlockId,
    /// The highest stamp that a datanode has.
    pub stamp: Stamp,
}

/// Changes permission bits.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetPermissionV1 {
    /// Canonical path.
    pub path: String,
    /// Permission bits.
    pub mode: u16,
}

/// Changes who owns an inode.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetOwnerV1 {
    /// Canonical path.
    pub path: String,
    /// The new owner; `None` keeps it.
    pub owner: Option<String>,
    /// The new group; `None` keeps it.
    pub group: Option<String>,
}

/// Changes times.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetTimesV1 {
    /// Canonical path.
    pub path: String,
    /// Time of the content, ms since 1970; `None` keeps it.
    pub mtime_ms: Option<u64>,
    /// Time of the last access, ms since 1970; `None` keeps it.
    pub atime_ms: Option<u64>,
}

/// Notes an access at the time of the record, if the file is still there.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TouchV1 {
    /// The file.
    pub inode: InodeId,
}

/// Changes ACLs.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ChangeAclV1 {
    /// Canonical path.
    pub path: String,
    /// What becomes of them.
    pub change: AclChangeV1,
}

/// Sets an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetXattrV1 {
    /// Canonical path.
    pub path: String,
    /// The attribute; its namespace in small letters.
    pub xattr: XattrV1,
    /// `XATTR_CREATE`, `XATTR_REPLACE`, or both.
    pub flags: u8,
}

/// Removes an extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct RemoveXattrV1 {
    /// Canonical path.
    pub path: String,
    /// The attribute; its namespace in small letters.
    pub name: String,
}

/// Sets or takes away a storage policy.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct SetStoragePolicyV1 {
    /// Canonical path.
    pub path: String,
    /// Its number; 0 takes the path's own away.
    pub policy: u8,
}

/// Opens a closed file again.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AppendV1 {
    /// Canonical path.
    pub path: String,
    /// The last block, if it is to be opened again: refused if it is another by now.
    pub reopened: Option<BlockRefV1>,
    /// Who has good replicas of it, in the order of the next pipeline.
    pub pipeline: Vec<StorageId>,
}

/// Moves blocks from files to another.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct ConcatV1 {
    /// Canonical path.
    pub target: String,
    /// Canonical paths, in order.
    pub sources: Vec<String>,
}

/// Cuts a file.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct TruncateV1 {
    /// Canonical path.
    pub path: String,
    /// Bytes that stay.
    pub length: u64,
    /// What is made of the block that is cut in two; `None` if none is.
    pub cut: Option<CutV1>,
}

/// The first bytes of a block become a block of their own.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CutV1 {
    /// The block: refused if it is another by now.
    pub old: BlockRefV1,
    /// Id of the new block: higher than any before.
    pub block: BlockId,
    /// Its stamp: higher than any before.
    pub stamp: Stamp,
}

/// The new last block has replicas: the file is cut.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct EndTruncateV1 {
    /// The file.
    pub inode: InodeId,
    /// The new block.
    pub block: BlockId,
    /// Checksum of its bytes, if its datanodes have said it.
    pub crc: Option<u32>,
}

/// Several changes, all or none.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CommitV1 {
    /// In order, with canonical paths and resolved numbers.
    pub steps: Vec<CommitStepV1>,
}

ringfs_proto::impl_message!(RecordV1);
